/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Pool: opening, formatting, checkpoints and recovery.
 *
 * Owns: superblocks, the assembly of devices, segments, allocator, journal and
 * table into a pool, and the order in which a checkpoint reaches the devices.
 *
 * A checkpoint goes in steps like a commit: begin (lock held; may ask for help and be
 * called again), io and publish (no lock), end (lock held). Changes and commits go on
 * during io, in the next epoch.
 *
 * Order of a checkpoint on the devices (rules 2, 4 and 5): nodes, flush of all
 * devices (which also covers the data that the nodes map), superblocks with
 * FUA on up to two devices.
 */
#ifndef DM_DYNMAP_POOL_H
#define DM_DYNMAP_POOL_H

#include "dm-dynmap-table.h"

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
 * @io_block: copies of it being written to two devices
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
	void *io_block[2];
	u32 prepared;
	u64 gave_back;
	bool failed;
	u64 replayed;
};

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
 * dynmap_super_verify() - is this block a superblock of ours?
 * @sb: the block
 *
 * Return: 0; -ENODATA if it is all zero; -ENOMSG if it is something else (no
 * magic); -EBADMSG, -EUCLEAN, -EOPNOTSUPP (unknown incompat feature).
 */
int dynmap_super_verify(const struct dynmap_disk_super *sb);

/**
 * dynmap_super_read() - the newest superblock of one device
 * @store: the devices
 * @dev: index in the store
 * @dev_blocks: its length
 * @sb: set to it
 *
 * A home slot that holds something foreign makes the device foreign, unless all
 * other slots are intact: then it alone was damaged.
 *
 * Return: what dynmap_super_verify() says of the newest one that is ours, understood or
 * not, which is in @sb; of block 0 if there is none; -EIO, -ENOMEM.
 */
int dynmap_super_read(struct dynmap_store *store, u32 dev, u64 dev_blocks,
		      struct dynmap_disk_super *sb);

/**
 * dynmap_super_scan() - the newest superblocks of all devices of a pool
 * @store: the devices, in any order
 * @nr_devs: how many
 * @blocks: their lengths
 * @supers: set to the newest superblock of each
 * @errors: per device: 0, or as dynmap_super_read() says; where less than that is
 *	left of a device's superblocks, a good one of another device that names it
 *	will do; -ESTALE: the device missed an opening of the pool that the newest one
 *	tells of (an old copy, or it was left out by force)
 *
 * Return: which of the good ones is the newest; -ENODATA if there is none.
 */
int dynmap_super_scan(struct dynmap_store *store, u32 nr_devs, const u64 *blocks,
		      struct dynmap_disk_super *supers, int *errors);

/**
 * dynmap_geometry_init() - devices as a superblock tells them
 * @geo: to be filled in
 * @store: the devices
 * @sb: the superblock
 *
 * Return: NULL, or the name of what is wrong with the device table.
 */
const char *dynmap_geometry_init(struct dynmap_geometry *geo, struct dynmap_store *store,
				 const struct dynmap_disk_super *sb);

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

/* Free all memory; the caller made a checkpoint before if it wanted one. */
void dynmap_pool_close(struct dynmap_pool *pool);

/* Set the memory for nodes, bitmaps and summaries, in units of 4 KiB. */
void dynmap_pool_limit(struct dynmap_pool *pool, u32 bufs);

/* Is a checkpoint due (journal or dirty nodes)? */
bool dynmap_pool_wants_checkpoint(const struct dynmap_pool *pool);
/* Is so much dirty that who changes more has to wait for a checkpoint? */
bool dynmap_pool_must_wait(const struct dynmap_pool *pool);

/* Is there anything that a checkpoint would write, or make free? */
bool dynmap_pool_is_changed(const struct dynmap_pool *pool);

/*
 * A commit, in three steps: lock held, no lock, lock held. One commit at a time, at any
 * step of a checkpoint but 3 and the first call of 4. Afterwards all that changed before
 * step 1 is durable, and what was freed before is in quarantine (rule 3a).
 */
void dynmap_pool_commit_begin(struct dynmap_pool *pool);
int __must_check dynmap_pool_commit_io(struct dynmap_pool *pool);
void dynmap_pool_commit_end(struct dynmap_pool *pool, int error);

/*
 * A checkpoint, likewise; one at a time. Commits go on while it is written: until it is
 * durable their records continue the journal of the epoch before.
 * Step 0, optional: settle kills as far as there is room, let empty zones of metadata go
 * back to data, and bring what is derived up to date, in bounded steps, so that step 1
 * holds the lock for a short time. 0: go on; -EINPROGRESS: call again; else as step 1.
 */
int __must_check dynmap_pool_checkpoint_prepare(struct dynmap_pool *pool, struct dynmap_op *op);
/* Step 1: all changes into nodes, seal them. 0 or -EAGAIN, -ENOMEM, -ENOSPC... */
int __must_check dynmap_pool_checkpoint_begin(struct dynmap_pool *pool, struct dynmap_op *op);
/* Step 2: write the nodes; no lock. 0 or the first I/O error. */
int __must_check dynmap_pool_checkpoint_io(struct dynmap_pool *pool);
/*
 * Step 3: flush, and write the superblock; no lock, and no commit from here to the end of the
 * first call of step 4. A flush that fails may have lost what the next one would cover: when one
 * of a commit has failed nothing is published, and the other way round. 0 or the first I/O error.
 */
int __must_check dynmap_pool_checkpoint_publish(struct dynmap_pool *pool);
/*
 * Step 4: free what the old epoch held, in bounded steps: true: call again; or (@error, of step
 * 2 or 3) fail the pool.
 */
bool __must_check dynmap_pool_checkpoint_end(struct dynmap_pool *pool, int error);
/* Nothing may become durable any more. */
void dynmap_pool_fail(struct dynmap_pool *pool);

/* Spare buffers that one operation may need: keep at least that many. */
#define DYNMAP_POOL_SPARES	64

/**
 * dynmap_pool_help() - give single-threaded callers what an operation asked for
 * @pool: the pool
 * @op: the operation
 * @error: what it returned
 *
 * Reads nodes, adds buffers, commits and checkpoints (and ends quarantine).
 * For opening, tools and tests; the kernel's targets have their own, which
 * takes the lock.
 *
 * Return: 0: call the operation again; else a final error.
 */
int __must_check dynmap_pool_help(struct dynmap_pool *pool, struct dynmap_op *op, int error);

/**
 * dynmap_pool_reclaim() - single-threaded: take reserved space back
 * @pool: the pool
 * @want: blocks, as far as there are so many
 *
 * Return: 0 if anything was freed; -ENOSPC if there is nothing; other errors.
 */
int __must_check dynmap_pool_reclaim(struct dynmap_pool *pool, u64 want);

/* Single-threaded commit and checkpoint, quarantine released: no I/O is under way. */
int __must_check dynmap_pool_commit(struct dynmap_pool *pool);
int __must_check dynmap_pool_checkpoint(struct dynmap_pool *pool);

#endif /* DM_DYNMAP_POOL_H */
