// SPDX-License-Identifier: GPL-2.0-only
/*
 * messages POOL [FILE SECTORS]: send each line of the standard input as a message to
 * a pool, without starting a process for each. A line "write ID BLOCK FROM" is no
 * message: block FROM of FILE goes to block BLOCK of a volume of SECTORS sectors,
 * which is active for that time only, or it is vol<ID>, active before. Stops at the
 * first line that fails; prints how many there were, and in how many milliseconds.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <libdevmapper.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#define BLOCK		4096
#define NODE		"/run/messages-node"

static const char *pool;
static unsigned long long sectors;
static int file = -1;

static int send_message(const char *text)
{
	struct dm_task *task = dm_task_create(DM_DEVICE_TARGET_MSG);
	int sent;

	if (!task)
		return 0;
	sent = dm_task_set_name(task, pool) && dm_task_set_sector(task, 0) &&
	       dm_task_set_message(task, text) && dm_task_run(task);
	dm_task_destroy(task);
	return sent;
}

static int write_block(const char *path, unsigned long block, unsigned long from)
{
	static char data[BLOCK] __attribute__((aligned(BLOCK)));
	int fd = open(path, O_WRONLY | O_DIRECT), done;

	if (fd < 0)
		return 0;
	done = pread(file, data, BLOCK, from * BLOCK) == BLOCK &&
	       pwrite(fd, data, BLOCK, block * BLOCK) == BLOCK;
	close(fd);
	return done;
}

/* A device of a volume, with a node of ours. */
static int activate(const char *name, unsigned long id)
{
	struct dm_task *task = dm_task_create(DM_DEVICE_CREATE);
	struct dm_info info;
	char table[512];
	int done;

	snprintf(table, sizeof(table), "/dev/mapper/%s %lu", pool, id);
	done = task && dm_task_set_name(task, name) &&
	       dm_task_set_add_node(task, DM_ADD_NODE_ON_CREATE) &&
	       dm_task_add_target(task, 0, sectors, "dynmap", table) && dm_task_run(task) &&
	       dm_task_get_info(task, &info) && info.exists &&
	       !mknod(NODE, S_IFBLK | 0600, makedev(info.major, info.minor));
	if (task)
		dm_task_destroy(task);
	return done;
}

static int deactivate(const char *name)
{
	struct dm_task *task = dm_task_create(DM_DEVICE_REMOVE);
	int done = task && dm_task_set_name(task, name) && dm_task_run(task);

	if (task)
		dm_task_destroy(task);
	unlink(NODE);
	return done;
}

static int write_volume(unsigned long id, unsigned long block, unsigned long from)
{
	char path[64], name[64];
	int done;

	snprintf(path, sizeof(path), "/dev/mapper/vol%lu", id);
	if (!access(path, F_OK))
		return write_block(path, block, from);
	snprintf(name, sizeof(name), "messages-vol%lu", id);
	done = activate(name, id) && write_block(NODE, block, from);
	return deactivate(name) && done;
}

static int perform(char *line)
{
	unsigned long id, block, from;

	line[strcspn(line, "\n")] = '\0';
	if (sscanf(line, "write %lu %lu %lu", &id, &block, &from) != 3)
		return send_message(line);
	if (write_volume(id, block, from))
		return 1;
	fprintf(stderr, "%s: %s\n", line, strerror(errno));
	return 0;
}

int main(int argc, char **argv)
{
	struct timespec begin, end;
	unsigned long count = 0;
	char line[256];

	if (argc != 2 && argc != 4) {
		fprintf(stderr, "usage: messages POOL [FILE SECTORS] < LINES\n");
		return 2;
	}
	pool = argv[1];
	if (argc == 4) {
		file = open(argv[2], O_RDONLY);
		sectors = strtoull(argv[3], NULL, 10);
	}
	dm_log_with_errno_init(NULL);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	while (fgets(line, sizeof(line), stdin)) {
		if (!perform(line))
			break;
		count++;
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("%lu messages in %ld ms\n", count, (end.tv_sec - begin.tv_sec) * 1000 +
	       (end.tv_nsec - begin.tv_nsec) / 1000000);
	return !feof(stdin);
}
