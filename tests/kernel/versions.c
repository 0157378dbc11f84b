// SPDX-License-Identifier: GPL-2.0-only
/*
 * versions DEVICE OFFSET STRIDE DELAY POOL MESSAGE: what was acknowledged is what a read
 * returns, whatever a message to the pool changes meanwhile.
 *
 * While another process sends the message, from DELAY microseconds after it began, one
 * writes 4 KiB blocks with O_DIRECT, one after the other, each full of the next version
 * number: the block at OFFSET again and again if STRIDE is 0, else one block every
 * STRIDE bytes. Four more writes follow when the message has returned. Then all blocks
 * are read: each holds the last version that was acknowledged for it, or a later one
 * whose write failed. Once a write has failed, a read may fail, too.
 *
 * Exit status 0; 1 if a block holds something else, or after an error. Prints how many
 * writes were acknowledged and how many of these cannot be read.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <libdevmapper.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BLOCK		4096
#define MORE		4	/* writes after the message has returned */
#define MOST		4000	/* writes in all */

static unsigned int *buffer, acked[MOST + 1], last, failures;
static off_t offset, stride;
static int device;

static off_t place(unsigned int version)
{
	return offset + version * stride;
}

static void write_next(void)
{
	unsigned int i;

	if (last == MOST)
		return;
	last++;
	for (i = 0; i < BLOCK / sizeof(*buffer); i++)
		buffer[i] = last;
	acked[last] = pwrite(device, buffer, BLOCK, place(last)) == BLOCK;
	failures += !acked[last];
}

/* Read the block of a version that was acknowledged: 0, or 1 if it holds an older one. */
static int check(unsigned int version, unsigned int *unreadable)
{
	if (pread(device, buffer, BLOCK, place(version)) != BLOCK) {
		++*unreadable;
		if (failures)
			return 0;
		perror("read");
		return 1;
	}
	if (buffer[0] == version || (!stride && buffer[0] > version))
		return 0;
	printf("version %u was acknowledged, the block holds version %u\n", version, buffer[0]);
	return 1;
}

/* A sleep would take as long as the kernel's clock ticks: 10 ms. */
static void spin(long us)
{
	struct timespec from, now;

	clock_gettime(CLOCK_MONOTONIC, &from);
	do {
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while ((now.tv_sec - from.tv_sec) * 1000000 + (now.tv_nsec - from.tv_nsec) / 1000 < us);
}

/* Send the message; tell the other process when it goes. */
static int send_message(int ready, const char *pool, const char *message)
{
	struct dm_task *task = dm_task_create(DM_DEVICE_TARGET_MSG);

	if (!task || !dm_task_set_name(task, pool) || !dm_task_set_sector(task, 0) ||
	    !dm_task_set_message(task, message) || write(ready, "", 1) != 1)
		return 1;
	return !dm_task_run(task);
}

int main(int argc, char **argv)
{
	unsigned int version, wrong = 0, unreadable = 0, count = 0;
	int i, ready[2];
	pid_t child;
	char byte;

	if (argc != 7)
		return fprintf(stderr, "versions DEVICE OFFSET STRIDE DELAY POOL MESSAGE\n"), 2;
	device = open(argv[1], O_RDWR | O_DIRECT);
	offset = strtoull(argv[2], NULL, 10);
	stride = strtoull(argv[3], NULL, 10);
	if (device < 0 || posix_memalign((void **)&buffer, BLOCK, BLOCK) || pipe(ready))
		return perror(argv[1]), 1;
	child = fork();
	if (!child)
		_exit(send_message(ready[1], argv[5], argv[6]));
	if (read(ready[0], &byte, 1) != 1)
		return 1;
	spin(atol(argv[4]));
	while (!waitpid(child, NULL, WNOHANG))
		write_next();
	for (i = 0; i < MORE; i++)
		write_next();
	for (version = last; version; version--) {
		if (!acked[version])
			continue;
		count++;
		if (stride || count == 1)
			wrong += check(version, &unreadable);
	}
	printf("%u writes acknowledged, %u unreadable\n", count, unreadable);
	return wrong > 0;
}
