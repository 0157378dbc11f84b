/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Commits and checkpoints.
 *
 * Owns: the order in which what has changed reaches the devices.
 *
 * A checkpoint goes in steps like a commit: begin (lock held; may ask for help and be
 * called again), io and publish (no lock), end (lock held). Changes and commits go on
 * during io, in the next epoch.
 *
 * Order of a checkpoint on the devices (rules 2, 4 and 5): nodes, flush of all
 * devices (which also covers the data that the nodes map), superblocks with
 * FUA on up to two devices.
 */
#ifndef DM_DYNMAP_CHECKPOINT_H
#define DM_DYNMAP_CHECKPOINT_H

#include "core/pool.h"

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
 * Step 0, optional: resolve dead extents as far as there is room, let empty zones of metadata go
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

/* Call @expression until it needs no more help; its result in @ret. */
#define dynmap_helped(ret, pool, op, expression)				\
	do {									\
		(ret) = (expression);						\
		if (!(ret) || (ret) == -ENOENT)					\
			break;							\
		(ret) = dynmap_pool_help(pool, op, ret);			\
	} while (!(ret))

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

#endif /* DM_DYNMAP_CHECKPOINT_H */
