// SPDX-License-Identifier: GPL-2.0-only
/*
 * acked DEVICE BYTES SECONDS SEED: what a write, a discard or WRITE ZEROES has
 * acknowledged is there for whoever looks next, whether or not it was flushed.
 *
 * One process does all to the first BYTES of the device, which hold zeros, and to a
 * copy in memory; every read is compared with that. Three operations of four go to 64
 * blocks, so that most meet what was written a moment ago. Offsets are those of
 * sectors or of blocks.
 *
 * Exit status 0; 1 after a difference, and what it is. Prints how many operations.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/types.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define SECTOR		512
#define BLOCK		4096
#define HOT		(64 * BLOCK)
#define LONGEST		(20 * BLOCK)

static unsigned char *twin, *buffer;
static int device;

static int compare(__u64 at, __u64 len, unsigned long op)
{
	__u64 i;

	if (pread(device, buffer, len, at) != (ssize_t)len)
		return perror("read"), 1;
	if (!memcmp(buffer, twin + at, len))
		return 0;
	for (i = 0; buffer[i] == twin[at + i]; i++)
		;
	printf("operation %lu: read of %llu at %llu: byte %llu is %02x, not %02x\n", op, len, at,
	       at + i, buffer[i], twin[at + i]);
	return 1;
}

static int overwrite(__u64 at, __u64 len)
{
	__u64 i;

	for (i = 0; i < len; i += SECTOR)
		memset(buffer + i, 1 + rand() % 255, SECTOR);
	memcpy(twin + at, buffer, len);
	if (pwrite(device, buffer, len, at) != (ssize_t)len)
		return perror("write"), 1;
	return 0;
}

static int clear(unsigned long request, __u64 at, __u64 len)
{
	__u64 range[2] = { at, len };

	memset(twin + at, 0, len);
	if (ioctl(device, request, range))
		return perror("discard or zeroes"), 1;
	return 0;
}

static int one(unsigned long op, __u64 bytes)
{
	__u64 unit = rand() % 2 ? BLOCK : SECTOR;
	__u64 region = rand() % 4 ? HOT : bytes;
	__u64 at = rand() % (region / unit) * unit;
	__u64 len = unit * (1 + (rand() % 4 ? 0 : rand() % 20));

	if (len > bytes - at)
		len = bytes - at;
	switch (rand() % 16) {
	case 0:
		/* What is cleared was often written a moment ago, and is read at once. */
		if (rand() % 2 && overwrite(at, len))
			return 1;
		if (clear(unit == BLOCK && rand() % 2 ? BLKDISCARD : BLKZEROOUT, at, len))
			return 1;
		return compare(at, len, op);
	case 1 ... 9:
		return overwrite(at, len);
	default:
		return compare(at, len, op);
	}
}

int main(int argc, char **argv)
{
	unsigned long op = 0;
	time_t end;
	__u64 bytes, at;

	if (argc != 5)
		return fprintf(stderr, "usage: acked DEVICE BYTES SECONDS SEED\n"), 2;
	bytes = strtoull(argv[2], NULL, 10);
	end = time(NULL) + atoi(argv[3]);
	srand(atoi(argv[4]));
	device = open(argv[1], O_RDWR | O_DIRECT);
	twin = calloc(1, bytes);
	if (device < 0 || !twin || posix_memalign((void **)&buffer, BLOCK, LONGEST))
		return perror(argv[1]), 1;
	while (time(NULL) < end)
		if (one(op++, bytes))
			return 1;
	for (at = 0; at < bytes; at += BLOCK)
		if (compare(at, BLOCK, op))
			return 1;
	printf("%lu operations\n", op);
	return 0;
}
