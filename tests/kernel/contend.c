// SPDX-License-Identifier: GPL-2.0-only
/*
 * contend POOL ROUNDS: in each round two processes send the same step of the
 * transaction id at the same moment, from the round's number to the next one. Prints
 * how many steps were accepted: it should be one per round.
 */
#define _GNU_SOURCE
#include <libdevmapper.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROCESSES	2

struct shared {
	atomic_ulong arrived;
	atomic_ulong accepted;
};

static void quiet(int level, const char *file, int line, int error, const char *format, ...)
{
	(void)level, (void)file, (void)line, (void)error, (void)format;
}

static int step(const char *pool, unsigned long from)
{
	struct dm_task *task = dm_task_create(DM_DEVICE_TARGET_MSG);
	char text[96];
	int sent;

	snprintf(text, sizeof(text), "set_transaction_id %lu %lu", from, from + 1);
	sent = task && dm_task_set_name(task, pool) && dm_task_set_sector(task, 0) &&
	       dm_task_set_message(task, text) && dm_task_run(task);
	if (task)
		dm_task_destroy(task);
	return sent;
}

static void compete(struct shared *shared, const char *pool, unsigned long rounds)
{
	unsigned long round;

	for (round = 0; round < rounds; round++) {
		atomic_fetch_add(&shared->arrived, 1);
		while (atomic_load(&shared->arrived) < (round + 1) * PROCESSES)
			sched_yield();
		if (step(pool, round))
			atomic_fetch_add(&shared->accepted, 1);
	}
}

int main(int argc, char **argv)
{
	struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int i;

	if (argc != 3 || shared == MAP_FAILED) {
		fprintf(stderr, "usage: contend POOL ROUNDS\n");
		return 2;
	}
	dm_log_with_errno_init(quiet);
	for (i = 0; i < PROCESSES; i++) {
		if (fork())
			continue;
		compete(shared, argv[1], strtoul(argv[2], NULL, 10));
		_exit(0);
	}
	while (wait(NULL) > 0)
		;
	printf("%lu\n", atomic_load(&shared->accepted));
	return 0;
}
