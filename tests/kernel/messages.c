// SPDX-License-Identifier: GPL-2.0-only
/*
 * messages DEVICE: send each line of the standard input as a message to a
 * device-mapper device, without starting a process for each. Stops at the first
 * that fails; prints how many were sent, and in how many milliseconds.
 */
#include <libdevmapper.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static int send_message(const char *name, const char *text)
{
	struct dm_task *task = dm_task_create(DM_DEVICE_TARGET_MSG);
	int sent;

	if (!task)
		return 0;
	sent = dm_task_set_name(task, name) && dm_task_set_sector(task, 0) &&
	       dm_task_set_message(task, text) && dm_task_run(task);
	dm_task_destroy(task);
	return sent;
}

int main(int argc, char **argv)
{
	struct timespec begin, end;
	unsigned long count = 0;
	char line[256];

	if (argc != 2) {
		fprintf(stderr, "usage: messages DEVICE < MESSAGES\n");
		return 2;
	}
	dm_log_with_errno_init(NULL);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		if (!send_message(argv[1], line))
			break;
		count++;
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("%lu messages in %ld ms\n", count, (end.tv_sec - begin.tv_sec) * 1000 +
	       (end.tv_nsec - begin.tv_nsec) / 1000000);
	return !feof(stdin);
}
