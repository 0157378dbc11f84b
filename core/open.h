/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Formatting and opening a pool, and recovery: the journal is replayed, and what was not
 * complete is taken back.
 *
 * Locking: nobody else uses the pool yet.
 */
#ifndef DM_DYNMAP_OPEN_H
#define DM_DYNMAP_OPEN_H

#include "core/checkpoint.h"

/**
 * struct dynmap_format_params - what a new pool looks like
 * @uuid: of the pool
 * @dev_uuid: of the devices
 * @nr_devs: how many
 * @dev_blocks: their lengths
 * @alloc_blocks: allocation size
 * @copies: copies of each node, 1 or 2
 * @label: name for people, may be NULL
 */
struct dynmap_format_params {
	u8 uuid[DYNMAP_UUID_BYTES];
	u8 dev_uuid[DYNMAP_MAX_DEVICES][DYNMAP_UUID_BYTES];
	u32 nr_devs;
	u64 dev_blocks[DYNMAP_MAX_DEVICES];
	u32 alloc_blocks;
	u32 copies;
	const char *label;
};

/**
 * dynmap_pool_format() - write an empty pool
 * @store: the devices, in the order of @params
 * @params: what it shall look like
 *
 * Return: 0; -ENOSPC (a device is too small), -EINVAL, -ENOMEM, -EIO.
 */
int __must_check dynmap_pool_format(struct dynmap_store *store,
				    const struct dynmap_format_params *params);

/**
 * dynmap_pool_open() - open a pool, replaying its journal
 * @pool: to be filled in
 * @store: the devices; store index n is entry n of the superblock's device table
 * @super: the newest superblock, from dynmap_super_read()
 * @bufs: memory for nodes, bitmaps and summaries, in units of 4 KiB
 * @opening: a random number; DYNMAP_OPEN_READ_ONLY: write nothing (the journal is replayed
 *	in memory only)
 *
 * Unless read-only, ends with a checkpoint that starts a new incarnation, and all devices
 * carry @opening: a device that does not is told by it, see dynmap_super_scan(). A
 * journal of which a block was destroyed can only be opened read-only, without
 * what it recorded from there on (see dynmap_journal_verify_end()).
 *
 * Context: may sleep; nobody else uses the pool yet.
 * Return: 0, -ENOMEM, -EIO, -EUCLEAN, -EBADMSG, -ENOSPC; -EROFS if features of the pool
 * that are not known here forbid to write.
 */
int __must_check dynmap_pool_open(struct dynmap_pool *pool, struct dynmap_store *store,
				  const struct dynmap_disk_super *super, u32 bufs,
				  u64 opening);
#define DYNMAP_OPEN_READ_ONLY	0ULL

#endif /* DM_DYNMAP_OPEN_H */
