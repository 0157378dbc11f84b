/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Growth: devices of a pool get longer, or others join it, while it is in use.
 *
 * Locking: told at each step.
 */
#ifndef DM_DYNMAP_GROW_H
#define DM_DYNMAP_GROW_H

#include "core/checkpoint.h"

/**
 * struct dynmap_growth - a pool about to get longer or more devices
 * @nr_devs: number of devices afterwards
 * @dev: what they will look like
 * @grows: which of them get longer or are new
 * @top: parts of new ones, for their summaries
 * @changes: does anything change?
 * @old_nr_devs: number of devices before
 * @old_dev: what they looked like
 * @old_journal_devices: devices that carried the journal before, as in the superblock
 * @durable: a superblock on a device tells of the growth
 */
struct dynmap_growth {
	u32 nr_devs;
	struct dynmap_dev dev[DYNMAP_MAX_DEVICES];
	bool grows[DYNMAP_MAX_DEVICES];
	struct dynmap_parts *top[DYNMAP_MAX_DEVICES];
	bool changes;
	u32 old_nr_devs;
	struct dynmap_dev old_dev[DYNMAP_MAX_DEVICES];
	__le32 old_journal_devices;
	bool durable;
};

/**
 * dynmap_growth_prepare() - growth, step 1: what will change, and memory for it
 * @growth: to be filled in; dynmap_growth_exit() in any case
 * @pool: the pool
 * @nr_devs: devices that there are now, those of the pool first
 * @blocks: their lengths
 * @uuids: uuids for them, one after the other, used for new ones
 *
 * Context: may sleep; nothing else changes the geometry meanwhile.
 * Return: 0; -EINVAL (fewer or shorter devices than the pool knows, or too
 * many), -ENOSPC (a new one is too small), -EFBIG, -ENOMEM.
 */
int __must_check dynmap_growth_prepare(struct dynmap_growth *growth, const struct dynmap_pool *pool,
				       u32 nr_devs, const u64 *blocks, const u8 *uuids);

/*
 * Steps 2 to 5, no commit or checkpoint meanwhile but the one of step 4: enter
 * it into geometry and superblock (lock held; -EROFS: nothing changed); give
 * new devices their first superblock (no lock); a checkpoint, after which the
 * growth is durable; write all superblocks (no lock) and use the space (lock).
 */
int __must_check dynmap_growth_begin(struct dynmap_growth *growth, struct dynmap_pool *pool);
int __must_check dynmap_growth_announce(struct dynmap_growth *growth, struct dynmap_pool *pool);
int __must_check dynmap_growth_write(struct dynmap_growth *growth, struct dynmap_pool *pool);
void dynmap_growth_end(struct dynmap_growth *growth, struct dynmap_pool *pool);
/**
 * dynmap_growth_undo() - step 3, 4 or 5 has failed: the pool is as it was before step 2
 * @growth: the growth
 * @pool: the pool
 *
 * A new device that fails never fails the pool: up to the end of step 5 nothing but its
 * own superblocks is written to it.
 *
 * Context: lock held.
 * Return: true if superblocks may tell of the growth: the caller makes another checkpoint,
 * then calls dynmap_growth_write() again.
 */
bool dynmap_growth_undo(struct dynmap_growth *growth, struct dynmap_pool *pool);
void dynmap_growth_exit(struct dynmap_growth *growth);

/* All steps, single-threaded. */
int __must_check dynmap_pool_grow(struct dynmap_pool *pool, u32 nr_devs, const u64 *blocks,
				  const u8 *uuids);

#endif /* DM_DYNMAP_GROW_H */
