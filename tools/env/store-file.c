// SPDX-License-Identifier: GPL-2.0-only
/* Store over files and block devices, see store-file.h. Callers: the tools. */
#include <fcntl.h>
#include <linux/blkzoned.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/env/store-file.h"

static struct store_file *to_file(struct dynmap_store *store)
{
	return container_of(store, struct store_file, store);
}

static int file_read(struct dynmap_store *store, u32 dev, u64 block, void *data)
{
	struct store_file *file = to_file(store);
	ssize_t done;

	if (dev >= file->nr_devs || block >= file->blocks[dev])
		return -EIO;
	done = pread(file->fd[dev], data, DYNMAP_BLOCK_BYTES, block * DYNMAP_BLOCK_BYTES);
	return done == DYNMAP_BLOCK_BYTES ? 0 : -EIO;
}

static void file_fail(struct store_file *file, u32 batch, int error)
{
	if (!file->error[batch])
		file->error[batch] = error;
}

static void file_flush(struct dynmap_store *store, u32 batch, u32 dev)
{
	struct store_file *file = to_file(store);

	if (fdatasync(file->fd[dev]))
		file_fail(file, batch, -EIO);
}

static void file_write(struct dynmap_store *store, u32 batch, u32 dev, u64 block,
		       const void *data, u32 flags)
{
	struct store_file *file = to_file(store);
	ssize_t done;

	if (WARN_ON_ONCE(file->readonly || dev >= file->nr_devs || block >= file->blocks[dev])) {
		file_fail(file, batch, -EROFS);
		return;
	}
	if (flags & DYNMAP_STORE_PREFLUSH)
		file_flush(store, batch, dev);
	done = pwrite(file->fd[dev], data, DYNMAP_BLOCK_BYTES, block * DYNMAP_BLOCK_BYTES);
	if (done != DYNMAP_BLOCK_BYTES)
		file_fail(file, batch, -EIO);
	else if (flags & DYNMAP_STORE_FUA)
		file_flush(store, batch, dev);
}

static int file_wait(struct dynmap_store *store, u32 batch)
{
	struct store_file *file = to_file(store);
	int error = file->error[batch];

	file->error[batch] = 0;
	return error;
}

/* The tools write no data. */
static bool file_take_written(struct dynmap_store *store, u32 dev)
{
	return false;
}

static const struct dynmap_store_ops file_ops = {
	.read = file_read,
	.write = file_write,
	.flush = file_flush,
	.wait = file_wait,
	.take_written = file_take_written,
};

void store_file_init(struct store_file *file, enum store_file_mode mode)
{
	memset(file, 0, sizeof(*file));
	file->store.ops = &file_ops;
	file->readonly = mode != STORE_FILE_WRITE;
}

int store_file_exit(struct store_file *file)
{
	int ret = 0;
	u32 dev;

	for (dev = 0; dev < file->nr_devs; dev++)
		if (close(file->fd[dev]) && !ret)
			ret = -errno;
	file->nr_devs = 0;
	return ret;
}

static int file_length(int fd, const struct stat *st, u64 *blocks)
{
	u64 bytes = st->st_size;

	if (S_ISBLK(st->st_mode) && ioctl(fd, BLKGETSIZE64, &bytes))
		return -errno;
	*blocks = bytes / DYNMAP_BLOCK_BYTES;
	return 0;
}

static bool file_same(const struct stat *a, const struct stat *b)
{
	if (S_ISBLK(a->st_mode) && S_ISBLK(b->st_mode))
		return a->st_rdev == b->st_rdev;
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

int store_file_add(struct store_file *file, const char *path, enum store_file_mode mode)
{
	int flags = (mode == STORE_FILE_WRITE ? O_RDWR : O_RDONLY) | O_CLOEXEC;
	struct stat st, other;
	int fd, ret;
	u32 dev;

	if (file->nr_devs == DYNMAP_MAX_DEVICES)
		return -E2BIG;
	if (stat(path, &st))
		return -errno;
	if (!S_ISBLK(st.st_mode) && !S_ISREG(st.st_mode))
		return -ENOTBLK;
	for (dev = 0; dev < file->nr_devs; dev++)
		if (!fstat(file->fd[dev], &other) && file_same(&st, &other))
			return -EEXIST;
	/* Without O_CREAT, O_EXCL claims a block device: mounted or mapped ones are busy. */
	if (S_ISBLK(st.st_mode) && mode != STORE_FILE_LOOK)
		flags |= O_EXCL;
	fd = open(path, flags);
	if (fd < 0)
		return -errno;
	ret = file_length(fd, &st, &file->blocks[dev]);
	if (ret) {
		close(fd);
		return ret;
	}
	file->fd[dev] = fd;
	file->path[dev] = path;
	file->nr_devs++;
	return 0;
}

const char *store_file_unfit(const struct store_file *file, u32 dev)
{
	static char text[64];
	u32 zone_sectors = 0;
	int sector_bytes = 0;

	/* Regular files fail all ioctls, and some kernels do not know zones. */
	ioctl(file->fd[dev], BLKGETZONESZ, &zone_sectors);
	if (zone_sectors)
		return "is a zoned device";
	ioctl(file->fd[dev], BLKSSZGET, &sector_bytes);
	if (sector_bytes <= DYNMAP_BLOCK_BYTES)
		return NULL;
	snprintf(text, sizeof(text), "has logical blocks of %d bytes, more than %d", sector_bytes,
		 DYNMAP_BLOCK_BYTES);
	return text;
}

void store_file_swap(struct store_file *file, u32 a, u32 b)
{
	swap(file->fd[a], file->fd[b]);
	swap(file->path[a], file->path[b]);
	swap(file->blocks[a], file->blocks[b]);
}
