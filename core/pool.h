/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Pool: devices, segments, node cache, allocator, journal and table as a whole, and how its
 * superblock is written.
 *
 * Locking: superblocks are written by one at a time: who checkpoints, opens or grows the pool.
 */
#ifndef DM_DYNMAP_POOL_H
#define DM_DYNMAP_POOL_H

#include "core/super.h"
#include "dm-dynmap-table.h"

#define DYNMAP_SB_DEVICES	2	/* a checkpoint writes that many superblocks */

/**
 * struct dynmap_pool - the core's pool
 * @store: the devices
 * @geo: devices and segments
 * @cache: nodes
 * @alloc: free space
 * @journal: journal
 * @table: volumes
 * @segments: the segment tree
 * @super: superblock of the last checkpoint, or of the one under way
 * @io_block: copies of it being written
 * @prepared: calls of dynmap_pool_checkpoint_prepare() in this epoch
 * @gave_back: epoch in which zones of metadata went back to data last
 * @failed: a commit or a checkpoint failed; nothing may change any more
 * @replayed: records replayed when the pool was opened
 */
struct dynmap_pool {
	struct dynmap_store *store;
	struct dynmap_geometry geo;
	struct dynmap_cache cache;
	struct dynmap_alloc alloc;
	struct dynmap_journal journal;
	struct dynmap_table table;
	struct dynmap_tree segments;
	struct dynmap_disk_super *super;
	void *io_block[DYNMAP_SB_DEVICES];
	u32 prepared;
	u64 gave_back;
	bool failed;
	u64 replayed;
};

/**
 * dynmap_pool_init() - all parts of a pool as its superblock says
 * @pool: to be filled in; dynmap_pool_close() in any case
 * @store: the devices
 * @sb: the superblock
 * @bufs: memory for nodes, bitmaps and summaries, in units of 4 KiB
 *
 * No tree is read.
 *
 * Return: 0, -ENOMEM, -EUCLEAN.
 */
int __must_check dynmap_pool_init(struct dynmap_pool *pool, struct dynmap_store *store,
				  const struct dynmap_disk_super *sb, u32 bufs);

/* Free all memory; the caller made a checkpoint before if it wanted one. */
void dynmap_pool_close(struct dynmap_pool *pool);

/* Set the memory for nodes, bitmaps and summaries, in units of 4 KiB. */
void dynmap_pool_limit(struct dynmap_pool *pool, u32 bufs);

/*
 * Superblocks; all return 0 or the first I/O error. Start writing that of one device to block
 * @slot, and wait for it if asked for; write slot @slot, or the backup, of the first @nr_devs
 * devices; current slot, backup and home of all devices; zeros over all slots of a device.
 */
int __must_check dynmap_super_write_one(struct dynmap_pool *pool, u32 dev, u64 slot, bool wait);
int __must_check dynmap_super_write(struct dynmap_pool *pool, u32 nr_devs, bool backup, u64 slot);
int __must_check dynmap_super_write_all(struct dynmap_pool *pool);
int __must_check dynmap_super_wipe(struct dynmap_pool *pool, u32 dev);

#endif /* DM_DYNMAP_POOL_H */
