/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Store over files and block devices.
 *
 * Owns: the open devices of one tool. Writes go out at once, so that waiting
 * is only the report of errors; a flush is fdatasync.
 */
#ifndef DM_DYNMAP_TOOLS_STORE_FILE_H
#define DM_DYNMAP_TOOLS_STORE_FILE_H

#include "core/env.h"

/**
 * enum store_file_mode - how devices are opened
 * @STORE_FILE_LOOK: read, also what is in use
 * @STORE_FILE_READ: read, refuse a block device that is in use
 * @STORE_FILE_WRITE: read and write, refuse a block device that is in use
 */
enum store_file_mode {
	STORE_FILE_LOOK,
	STORE_FILE_READ,
	STORE_FILE_WRITE,
};

/**
 * struct store_file - the devices
 * @store: for the core
 * @nr_devs: how many
 * @fd: of each
 * @path: of each, the caller's string
 * @blocks: length of each
 * @readonly: writes are a bug
 * @error: of the writes and flushes of a batch
 */
struct store_file {
	struct dynmap_store store;
	u32 nr_devs;
	int fd[DYNMAP_MAX_DEVICES];
	const char *path[DYNMAP_MAX_DEVICES];
	u64 blocks[DYNMAP_MAX_DEVICES];
	bool readonly;
	int error[DYNMAP_BATCHES];
};

void store_file_init(struct store_file *file, enum store_file_mode mode);
/* Close all devices; 0 or the first error of a write that came to light late. */
int store_file_exit(struct store_file *file);

/**
 * store_file_add() - open one more device
 * @file: the store
 * @path: regular file or block device
 * @mode: as at store_file_init()
 *
 * Return: 0; -EEXIST: it is there already; -EBUSY: in use; -ENOTBLK: neither
 * file nor block device; -E2BIG: too many devices; or the error of opening it.
 */
int store_file_add(struct store_file *file, const char *path, enum store_file_mode mode);

/*
 * Why the kernel could not use device @dev for a pool, see dynmap_limits_check_device();
 * NULL if it could. The text is good until the next call.
 */
const char *store_file_unfit(const struct store_file *file, u32 dev);

/* Exchange two devices. */
void store_file_swap(struct store_file *file, u32 a, u32 b);

#endif /* DM_DYNMAP_TOOLS_STORE_FILE_H */
