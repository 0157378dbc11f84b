// SPDX-License-Identifier: GPL-2.0-only
/*
 * failnth KIND ARGUMENT...: repeat an operation while the first, the second, the
 * third ... fault that can be injected into it is, until it meets none any more.
 *
 *	failnth create NAME TYPE PARAMETERS [DEVICE]	a device with that table; removed
 *							again; DEVICE is discarded before
 *	failnth reload NAME TYPE PARAMETERS		a new table, suspend, resume
 *	failnth message NAME TEXT			a message, "%u" in it is the try
 *	failnth write FILE				a block to a new place, and a flush
 *	failnth read FILE				a block
 *
 * Prints how many faults were injected and how many of these made the operation
 * fail. In the environment STEP=N: only each N-th fault. Exit status: 0; 1 if the
 * operation failed without a fault.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <libdevmapper.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define SECTORS		16384
#define MAX_FAULTS	5000
#define BLOCK		4096

static int fail_fd;
static char **arguments;

/* Arm or disarm; how many faults were still to be passed over. */
static unsigned int arm(unsigned int nth)
{
	char text[16] = "";
	unsigned int left;

	if (pread(fail_fd, text, sizeof(text) - 1, 0) < 0)
		exit(2);
	left = strtoul(text, NULL, 10);
	snprintf(text, sizeof(text), "%u", nth);
	if (pwrite(fail_fd, text, strlen(text), 0) < 0)
		exit(2);
	return left;
}

static int simple_task(int type, const char *name)
{
	struct dm_task *task = dm_task_create(type);
	int done = task && dm_task_set_name(task, name) && dm_task_run(task);

	if (task)
		dm_task_destroy(task);
	return done;
}

static int table_task(int type, const char *name, const char *target, const char *parameters)
{
	struct dm_task *task = dm_task_create(type);
	int done = task && dm_task_set_name(task, name) &&
		   dm_task_add_target(task, 0, SECTORS, target, parameters) && dm_task_run(task);

	if (task)
		dm_task_destroy(task);
	return done;
}

static int create_device(unsigned int try)
{
	unsigned long long range[2] = { 0, 0 };
	int fd, done;

	if (arguments[3]) {
		arm(0);
		fd = open(arguments[3], O_RDWR);
		if (fd < 0 || ioctl(fd, BLKGETSIZE64, &range[1]) || ioctl(fd, BLKDISCARD, range))
			exit(2);
		close(fd);
		arm(try);
	}
	done = table_task(DM_DEVICE_CREATE, arguments[0], arguments[1], arguments[2]);
	return done;
}

static int reload_device(unsigned int try)
{
	(void)try;
	return table_task(DM_DEVICE_RELOAD, arguments[0], arguments[1], arguments[2]) &&
	       simple_task(DM_DEVICE_SUSPEND, arguments[0]) &&
	       simple_task(DM_DEVICE_RESUME, arguments[0]);
}

static int send_message(unsigned int try)
{
	struct dm_task *task = dm_task_create(DM_DEVICE_TARGET_MSG);
	char text[256], *at = strstr(arguments[1], "%u");
	int done;

	if (at)
		snprintf(text, sizeof(text), "%.*s%u%s", (int)(at - arguments[1]), arguments[1],
			 try, at + 2);
	done = task && dm_task_set_name(task, arguments[0]) && dm_task_set_sector(task, 0) &&
	       dm_task_set_message(task, at ? text : arguments[1]) && dm_task_run(task);
	if (task)
		dm_task_destroy(task);
	return done;
}

static int transfer(unsigned int try, int writes)
{
	static char *block;
	static int fd = -1;
	off_t at = (off_t)try * 17 * BLOCK;

	if (!block) {
		arm(0);
		fd = open(arguments[0], O_RDWR | O_DIRECT);
		if (fd < 0 || posix_memalign((void **)&block, BLOCK, BLOCK))
			exit(2);
		memset(block, 0x77, BLOCK);
		arm(try);
	}
	if (!writes)
		return pread(fd, block, BLOCK, at) == BLOCK;
	return pwrite(fd, block, BLOCK, at) == BLOCK && !fdatasync(fd);
}

static int write_block(unsigned int try)
{
	return transfer(try, 1);
}

static int read_block(unsigned int try)
{
	return transfer(try, 0);
}

static void no_log(int level, const char *file, int line, int error, const char *format, ...)
{
	(void)level; (void)file; (void)line; (void)error; (void)format;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*operate)(unsigned int try);
		int least;
	} kinds[] = {
		{ "create", create_device, 3 },
		{ "reload", reload_device, 3 },
		{ "message", send_message, 2 },
		{ "write", write_block, 1 },
		{ "read", read_block, 1 },
	};
	unsigned int try, tries = 0, failed = 0, i, hit, step = 1;
	int done;

	if (getenv("STEP"))
		step = strtoul(getenv("STEP"), NULL, 10);
	for (i = 0; i < 5; i++)
		if (argc > 1 && !strcmp(argv[1], kinds[i].name))
			break;
	if (i == 5 || argc < 2 + kinds[i].least) {
		fprintf(stderr, "usage: failnth create|reload|message|write|read ARGUMENT...\n");
		return 2;
	}
	arguments = argv + 2;
	fail_fd = open("/proc/self/fail-nth", O_RDWR);
	if (fail_fd < 0) {
		perror("/proc/self/fail-nth");
		return 2;
	}
	dm_log_with_errno_init(no_log);
	dm_udev_set_sync_support(0);
	for (try = 1; try < MAX_FAULTS; try += step) {
		arm(try);
		done = kinds[i].operate(try);
		hit = !arm(0);
		if (!i)
			simple_task(DM_DEVICE_REMOVE, arguments[0]);
		failed += !done;
		if (!hit)
			break;
		tries++;
	}
	printf("%u faults, %u failed\n", tries, failed);
	return !done;
}
