// SPDX-License-Identifier: GPL-2.0-only
/*
 * load VOLUME... OPERATIONS SEED: threads that use tiny volumes at once.
 *
 * Owns: writes of parts of blocks and across blocks, with and without FUA,
 * discards, zeroes, flushes and reads, each told to the recorder by marks before
 * and after. Each thread owns every fourth pair of blocks, so that all threads
 * meet in each window and allocation unit; it reads everybody's: a sector holds
 * zeros or what belongs there, whatever is freed and given out meanwhile.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "twin.h"

#define THREADS		TWIN_FLUSHES
#define RANGE		(2 * DYNMAP_BLOCK_SECTORS)	/* sectors owned in one piece */
#define RANGES		(TWIN_SECTORS / RANGE / THREADS)

static int volume_fd[TWIN_VOLUMES], mark_fd;
static u32 nr_volumes, operations;
static u32 last_seq, bad;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void mark(u8 op, u32 volume, u32 sector, u32 sectors, u64 seq)
{
	struct twin_mark mark;

	_Static_assert(sizeof(mark) == 24, "RECORD_MARK_BYTES");
	memset(&mark, 0, sizeof(mark));
	mark.op = op;
	mark.volume = volume;
	mark.sector = sector;
	mark.sectors = sectors;
	mark.seq = seq;
	if (write(mark_fd, &mark, sizeof(mark)) != sizeof(mark))
		fail("mark");
}

static void do_write(u32 volume, u32 sector, u32 sectors, bool fua, u8 *buffer)
{
	u64 seq = __atomic_add_fetch(&last_seq, 1, __ATOMIC_RELAXED);
	struct iovec vec = { .iov_base = buffer, .iov_len = sectors * 512 };
	u32 i;

	for (i = 0; i < sectors; i++)
		twin_fill(buffer + i * 512, volume + 1, sector + i, seq);
	mark(TWIN_SUBMIT, volume, sector, sectors, seq);
	if (pwritev2(volume_fd[volume], &vec, 1, sector * 512, fua ? RWF_DSYNC : 0) !=
	    (ssize_t)vec.iov_len)
		fail("write");
	mark(fua ? TWIN_FUA_DONE : TWIN_DONE, volume, sector, sectors, seq);
}

static void do_zero(u32 volume, u32 sector, u32 sectors, bool discard)
{
	u64 seq = __atomic_add_fetch(&last_seq, 1, __ATOMIC_RELAXED);
	u64 range[2] = { sector * 512, sectors * 512 };

	mark(TWIN_UNMAP_SUBMIT, volume, sector, sectors, seq);
	if (ioctl(volume_fd[volume], discard ? BLKDISCARD : BLKZEROOUT, range))
		fail("discard");
	mark(TWIN_UNMAP_DONE, volume, sector, sectors, seq);
}

static void do_flush(u32 volume, u32 thread)
{
	mark(TWIN_FLUSH_BEGIN, thread, 0, 0, 0);
	if (fdatasync(volume_fd[volume]))
		fail("flush");
	mark(TWIN_FLUSH_DONE, thread, 0, 0, 0);
}

/* Whatever is under way: another's data is never seen. */
static void do_read(u32 volume, u32 sector, u32 sectors, u8 *buffer)
{
	struct twin_tag tag;
	u32 i, j;

	if (pread(volume_fd[volume], buffer, sectors * 512, sector * 512) != (ssize_t)sectors * 512)
		fail("read");
	for (i = 0; i < sectors; i++) {
		memcpy(&tag, buffer + i * 512, sizeof(tag));
		if (tag.magic == TWIN_MAGIC && tag.uid == volume + 1 && tag.sector == sector + i)
			continue;
		for (j = 0; j < 512 && !buffer[i * 512 + j]; j++)
			;
		if (j < 512) {
			printf("volume %u, sector %u holds another's data\n", volume, sector + i);
			__atomic_store_n(&bad, 1, __ATOMIC_RELAXED);
		}
	}
}

static void *work(void *arg)
{
	u32 thread = (unsigned long)arg & 0xff, i, volume, sector, from, sectors;
	u64 random = twin_mix((unsigned long)arg, 1);
	u8 *buffer;

	if (posix_memalign((void **)&buffer, 4096, TWIN_SECTORS * 512))
		exit(1);
	for (i = 0; i < operations && !bad; i++) {
		random = twin_mix(random, i);
		volume = random % nr_volumes;
		sector = ((random >> 8) % RANGES * THREADS + thread) * RANGE;
		from = (random >> 16) % RANGE;
		sectors = 1 + (random >> 24) % (RANGE - from);
		switch ((random >> 32) % 16) {
		case 0 ... 4:
			do_write(volume, sector, RANGE, false, buffer);
			break;
		case 5 ... 6:
			do_write(volume, sector + from, sectors, false, buffer);
			break;
		case 7:
			do_write(volume, sector + from, sectors, true, buffer);
			break;
		case 8 ... 9:
			do_zero(volume, sector, RANGE, true);
			break;
		case 10:
			do_zero(volume, sector + from, sectors, false);
			break;
		case 11 ... 12:
			do_flush(volume, thread);
			break;
		default:
			do_read(volume, (random >> 40) % TWIN_BLOCKS / 16 * 128, 128, buffer);
		}
	}
	free(buffer);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS];
	unsigned long i, seed;

	if (argc < 4 || argc - 3 > TWIN_VOLUMES) {
		fprintf(stderr, "usage: load VOLUME... OPERATIONS SEED\n");
		return 2;
	}
	nr_volumes = argc - 3;
	operations = strtoul(argv[argc - 2], NULL, 0);
	seed = strtoul(argv[argc - 1], NULL, 0);
	mark_fd = open("/dev/dynmap-record", O_WRONLY);
	if (mark_fd < 0)
		fail("/dev/dynmap-record");
	for (i = 0; i < nr_volumes; i++) {
		volume_fd[i] = open(argv[1 + i], O_RDWR | O_DIRECT);
		if (volume_fd[i] < 0)
			fail(argv[1 + i]);
	}
	for (i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, work, (void *)(seed << 8 | i)))
			fail("thread");
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	return bad;
}
