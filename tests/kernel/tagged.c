// SPDX-License-Identifier: GPL-2.0-only
/*
 * tagged write DEVICE LEDGER SECONDS [SEED]: processes that write, discard and
 *	flush a device at random until the time is over or a flush fails; the
 *	ledger is made if it is not there.
 * tagged verify DEVICE LEDGER [EARLIER]: is everything there that LEDGER says,
 *	or what EARLIER, a copy of it made before, says?
 * tagged failed DEVICE LEDGER: the same in a pool that a commit failed in: a block
 *	with a write that no flush acknowledged may be unreadable.
 *
 * Every sector of the first REGION bytes carries where it belongs and a version
 * that grows. The ledger, a file mapped by all processes, knows of each sector
 * the last version submitted, the last one that a flush acknowledged, and the
 * last discard. A sector is good if it is one that was written there, not older
 * than what was acknowledged and not newer than what was submitted; or zeros,
 * if there was a discard (or nothing) since.
 *
 * Each process owns stripes of sectors that are no multiple of a block, so that
 * neighbours in a block are written by two processes at a time.
 *
 * Exit status of write: 0, also if single writes failed; 3: a flush failed. Of
 * verify: 0, 1. Both print a line of figures.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SECTOR		512
#define BLOCK_SECTORS	8
#define STRIPE		20		/* sectors: two whole blocks at least lie in one */
#define PROCESSES	4
#define REGION		(16 << 20)	/* bytes */
#define SECTORS		(REGION / SECTOR)
#define MAGIC		0x646d2d64796e6d61ULL
#define UNREADABLE	0x756e7265ULL

struct tag {
	__u64 magic, sector, version, seal;
};

/**
 * struct entry - what is known of a sector
 * @submitted: the last version, of writes and discards
 * @acked: the last one that a flush acknowledged
 * @zeros: the last version that was a discard, 0 for never written
 * @flushing: submitted and complete without an error, not flushed
 */
struct entry {
	__u32 submitted, acked, zeros, flushing;
};

struct ledger {
	__u64 writes, failed, discards, flushes;
	struct entry entry[SECTORS];
};

static struct ledger *ledger;
static __u64 random_state;

static __u32 random_below(__u32 n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (random_state >> 20) % n;
}

static void die(const char *what)
{
	fprintf(stderr, "tagged: %s: %s\n", what, strerror(errno));
	exit(2);
}

static struct ledger *ledger_map(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT, 0600);
	void *map;

	if (fd < 0 || ftruncate(fd, sizeof(struct ledger)))
		die(path);
	map = mmap(NULL, sizeof(struct ledger), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		die("mmap");
	close(fd);
	return map;
}

static void tag_fill(void *at, __u64 sector, __u64 version)
{
	struct tag *tag = at;
	size_t i;

	for (i = 0; i < SECTOR / sizeof(*tag); i++)
		tag[i] = (struct tag){ MAGIC, sector, version, MAGIC ^ sector ^ version << 32 };
}

static void write_once(int fd, char *buffer, __u32 first, __u32 count)
{
	__u32 i;

	for (i = first; i < first + count; i++)
		tag_fill(buffer + (i - first) * SECTOR, i, ++ledger->entry[i].submitted);
	__atomic_fetch_add(&ledger->writes, 1, __ATOMIC_RELAXED);
	if (pwrite(fd, buffer, count * SECTOR, (off_t)first * SECTOR) == (ssize_t)count * SECTOR) {
		for (i = first; i < first + count; i++)
			ledger->entry[i].flushing = ledger->entry[i].submitted;
		return;
	}
	__atomic_fetch_add(&ledger->failed, 1, __ATOMIC_RELAXED);
}

/* Discard a stripe; its whole blocks become zeros. */
static void discard_once(int fd, __u32 stripe)
{
	__u64 range[2] = { (__u64)stripe * STRIPE * SECTOR, STRIPE * SECTOR };
	__u32 i = (stripe * STRIPE + BLOCK_SECTORS - 1) / BLOCK_SECTORS * BLOCK_SECTORS;
	__u32 end = (stripe + 1) * STRIPE / BLOCK_SECTORS * BLOCK_SECTORS, first = i;

	for (; i < end; i++)
		ledger->entry[i].zeros = ++ledger->entry[i].submitted;
	__atomic_fetch_add(&ledger->discards, 1, __ATOMIC_RELAXED);
	if (ioctl(fd, BLKDISCARD, range)) {
		__atomic_fetch_add(&ledger->failed, 1, __ATOMIC_RELAXED);
		return;
	}
	for (i = first; i < end; i++)
		ledger->entry[i].flushing = ledger->entry[i].submitted;
}

/* Flush, and enter what that acknowledged of the own stripes. */
static int flush_once(int fd, __u32 process)
{
	struct entry *entry;
	__u32 i;

	if (fdatasync(fd))
		return -1;
	__atomic_fetch_add(&ledger->flushes, 1, __ATOMIC_RELAXED);
	for (i = 0; i < SECTORS; i++) {
		entry = &ledger->entry[i];
		if (i / STRIPE % PROCESSES == process && entry->flushing > entry->acked)
			entry->acked = entry->flushing;
	}
	return 0;
}

static int write_process(const char *device, __u32 process, time_t end)
{
	__u32 stripes = SECTORS / STRIPE / PROCESSES, stripe, at;
	int fd = open(device, O_RDWR | O_DIRECT);
	char *buffer = aligned_alloc(4096, 32 * SECTOR);

	if (fd < 0 || !buffer)
		die(device);
	while (time(NULL) < end) {
		stripe = random_below(stripes) * PROCESSES + process;
		at = random_below(STRIPE);
		if (!random_below(16))
			discard_once(fd, stripe);
		else
			write_once(fd, buffer, stripe * STRIPE + at,
				   1 + random_below(STRIPE - at));
		if (!random_below(8) && flush_once(fd, process))
			return 3;
	}
	return flush_once(fd, process) ? 3 : 0;
}

static int write_all(const char *device, unsigned int seconds, __u64 seed)
{
	time_t end = time(NULL) + seconds;
	int status, result = 0;
	__u32 i;

	/* What an earlier run did not flush may have been lost since. */
	for (i = 0; i < SECTORS; i++)
		ledger->entry[i].flushing = ledger->entry[i].acked;
	for (i = 0; i < PROCESSES; i++) {
		if (fork())
			continue;
		random_state = (seed + 1) * 0x9e3779b97f4a7c15ULL + i * 0x2545f491ULL + 1;
		exit(write_process(device, i, end));
	}
	while (wait(&status) > 0) {
		if (!WIFEXITED(status))
			result = 2;
		else if (result != 2 && WEXITSTATUS(status))
			result = WEXITSTATUS(status);
	}
	printf("%llu writes, %llu discards, %llu flushes, %llu failed\n",
	       (unsigned long long)ledger->writes, (unsigned long long)ledger->discards,
	       (unsigned long long)ledger->flushes, (unsigned long long)ledger->failed);
	return result;
}

/* What is wrong with a sector, or NULL. */
static const char *sector_verify(const void *at, __u32 sector, __u32 acked)
{
	const struct entry *entry = &ledger->entry[sector];
	static const char zeros[SECTOR];
	const struct tag *tag = at;
	char wanted[SECTOR];

	if (!memcmp(at, zeros, SECTOR))
		return entry->zeros >= acked ? NULL : "is zero";
	if (tag->magic != MAGIC)
		return "was never written";
	if (tag->sector != sector)
		return "belongs elsewhere";
	tag_fill(wanted, sector, tag->version);
	if (memcmp(at, wanted, SECTOR))
		return "is torn";
	if (tag->version < acked)
		return "is old";
	return tag->version > entry->submitted ? "is from the future" : NULL;
}

/* Is there a sector in this block that was written since the last flush? */
static bool block_is_unflushed(size_t at)
{
	const struct entry *entry = &ledger->entry[at / SECTOR];
	int i;

	for (i = 0; i < BLOCK_SECTORS; i++)
		if (entry[i].submitted > entry[i].acked)
			return true;
	return false;
}

/* Read all, block by block; those of a failed pool that may be unreadable hold zero tags. */
static __u32 read_all(int fd, char *buffer, bool failed)
{
	__u32 unreadable = 0;
	size_t at;

	for (at = 0; at < REGION; at += BLOCK_SECTORS * SECTOR) {
		if (pread(fd, buffer + at, BLOCK_SECTORS * SECTOR, at) == BLOCK_SECTORS * SECTOR)
			continue;
		if (!failed || errno != EIO || !block_is_unflushed(at))
			die("read");
		unreadable++;
		*(struct tag *)(buffer + at) = (struct tag){ .magic = UNREADABLE };
	}
	return unreadable;
}

static int verify_all(const char *device, const struct ledger *earlier, bool failed)
{
	int fd = open(device, O_RDONLY | O_DIRECT);
	char *buffer = aligned_alloc(4096, REGION);
	const struct tag *tag;
	__u32 i, acked = 0, bad = 0;
	const char *what;
	__u32 unreadable;

	if (fd < 0 || !buffer)
		die(device);
	unreadable = read_all(fd, buffer, failed);
	for (i = 0; i < SECTORS; i++) {
		tag = (const struct tag *)(buffer + (size_t)i * SECTOR);
		if (tag->magic == UNREADABLE) {
			i += BLOCK_SECTORS - 1;
			continue;
		}
		acked += !!earlier->entry[i].acked;
		what = sector_verify(buffer + (size_t)i * SECTOR, i, earlier->entry[i].acked);
		if (!what)
			continue;
		if (bad++ < 10)
			printf("sector %u %s: version %llu, acknowledged %u, submitted %u, discarded %u\n",
			       i, what, (unsigned long long)tag->version, earlier->entry[i].acked,
			       ledger->entry[i].submitted, ledger->entry[i].zeros);
	}
	printf("%u sectors acknowledged, %u wrong", acked, bad);
	printf(failed ? ", %u blocks unreadable\n" : "\n", unreadable);
	return !!bad;
}

int main(int argc, char **argv)
{
	if (argc >= 5 && !strcmp(argv[1], "write")) {
		ledger = ledger_map(argv[3]);
		return write_all(argv[2], atoi(argv[4]), argc > 5 ? atoi(argv[5]) : getpid());
	}
	if (argc >= 4 && !strcmp(argv[1], "verify")) {
		ledger = ledger_map(argv[3]);
		return verify_all(argv[2], argc > 4 ? ledger_map(argv[4]) : ledger, false);
	}
	if (argc == 4 && !strcmp(argv[1], "failed")) {
		ledger = ledger_map(argv[3]);
		return verify_all(argv[2], ledger, true);
	}
	fprintf(stderr, "usage: tagged write DEVICE LEDGER SECONDS [SEED] | verify DEVICE LEDGER [EARLIER] | failed DEVICE LEDGER\n");
	return 2;
}
