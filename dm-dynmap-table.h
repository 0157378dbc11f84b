/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The mapping table: from a volume's blocks to the pool's.
 *
 * Owns: the map trees, and every change to them: reserve, mark written, redirect,
 * unmap; and replay. Each change is two-phase: what can fail comes first and leaves
 * no trace.
 *
 * Life of a block:   HOLE --reserve--> RESERVED --set_written--> DATA
 *                      ^------------------ unmap -------------------'
 * RESERVED reads as the default page, so stale content of the pool is never
 * seen; a data write completes before set_written.
 *
 * Blocks that are shared (core/family.h) are never written: a write to them
 * goes to blocks that are held for it meanwhile, and takes their place by
 * dynmap_table_redirect() when it has ended.
 *
 * Locking: lookups with the metadata lock held for reading, all else for
 * writing. Errors -EAGAIN, -ENOMEM, -EBUSY: see struct dynmap_op.
 */
#ifndef DM_DYNMAP_TABLE_H
#define DM_DYNMAP_TABLE_H

#include "core/volume.h"

/**
 * struct dynmap_mapping - answer of a lookup
 * @kind: DYNMAP_HOLE, DYNMAP_DATA or DYNMAP_RESERVED
 * @lbn: the block asked for
 * @len: blocks from there on that are alike and consecutive
 * @pbn: pool block of @lbn, unless a hole
 * @birth: generation in which they were allocated
 * @shared: others may use these blocks: they must not be written
 * @place: for op->place, if it is changed later
 */
struct dynmap_mapping {
	u8 kind;
	bool shared;
	u32 birth;
	u64 lbn;
	u64 len;
	u64 pbn;
	struct dynmap_place place;
};

/**
 * struct dynmap_reclaim - a round of taking reserved space back
 * @id: volume being looked at
 * @lbn: from there on
 * @first: volume at which the round began, which is looked at again at its end
 * @wrapped: all volumes behind @first have been looked at
 * @reserves: table->reserves when it began
 * @freed: blocks freed so far
 */
struct dynmap_reclaim {
	u64 id;
	u64 lbn;
	u64 first;
	bool wrapped;
	u64 reserves;
	u64 freed;
};

/**
 * dynmap_table_lookup() - where a block is
 * @volume: the volume
 * @lbn: block, below DYNMAP_MAX_LBN
 * @mapping: the answer
 * @op: told what is missing
 *
 * Return: 0, -EAGAIN, -EUCLEAN.
 */
int __must_check dynmap_table_lookup(struct dynmap_volume *volume, u64 lbn,
				     struct dynmap_mapping *mapping, struct dynmap_op *op);

/**
 * dynmap_table_reserve() - allocate for a write to a hole
 * @table: the table
 * @volume: the volume
 * @lbn: first block to be written, which is a hole
 * @len: blocks to be written
 * @op: told what is missing
 *
 * Allocates the allocation units that the write touches, as far as they are
 * holes and free space goes; at least @lbn is RESERVED afterwards. A write that
 * continues an extent gets more: twice as much as there is, up to 8 MiB or, of
 * several devices, to the end of a piece, so that streams stay in long extents even
 * if several write at once (the idea of file systems' speculative preallocation).
 * A unit longer than a piece (dynmap_alloc_piece()) is allocated piece by piece, that
 * of @lbn last: if help is needed between them, the caller comes again for @lbn.
 * When space gets short the units do too: nothing longer than 1/16 of what is free is
 * allocated at once.
 *
 * Return: 0; -ENOSPC; -EAGAIN, -ENOMEM, -EBUSY, -EUCLEAN.
 */
int __must_check dynmap_table_reserve(struct dynmap_table *table, struct dynmap_volume *volume,
				      u64 lbn, u32 len, struct dynmap_op *op);

/*
 * Nodes that a write of one window adds, beyond those that it replaces: a leaf of its own
 * instead of a shared one, and one by a split; if the write is redirected, one by a split for
 * each block that is given up, and for the leaf. Shared inner nodes that are replaced, and
 * the second copies of nodes that are given up, are left to the floor.
 */
#define DYNMAP_WRITE_NODES	2
#define DYNMAP_REDIRECT_NODES	(DYNMAP_WINDOW_BLOCKS + 1)

/**
 * dynmap_table_may_write() - can a first write be ended when its data is there?
 * @table: the table
 * @volume: the volume
 * @pending: nodes that writes may add that have begun and not ended
 *
 * Return: 0; there is no room for the nodes of another one: -EINPROGRESS: there will be when
 * those have ended; -EBUSY: after a checkpoint; -ENOSPC.
 */
static inline int dynmap_table_may_write(const struct dynmap_table *table,
					 const struct dynmap_volume *volume, u32 pending)
{
	u32 nodes = dynmap_btree_worst(&volume->map);

	if (dynmap_alloc_room(table->alloc, nodes + pending, 0))
		return 0;
	if (dynmap_alloc_room(table->alloc, nodes, 0))
		return -EINPROGRESS;
	return dynmap_alloc_no_room(table->alloc, nodes, 0);
}

/* Is the space for nodes so short that volumes cannot be created? */
bool dynmap_table_is_full(const struct dynmap_table *table);

/**
 * dynmap_table_set_written() - data of a RESERVED range is complete
 * @table: the table
 * @volume: the volume
 * @lbn: first block
 * @pbn: where it was written
 * @len: blocks
 * @op: told what is missing; op->place may help to find the first block
 *
 * What maps elsewhere by now, or is DATA already, is left alone. Call again
 * with the same arguments after help; done pieces are skipped.
 *
 * Return: 0, -EAGAIN, -ENOMEM, -EBUSY, -ENOSPC (metadata), -EUCLEAN.
 */
int __must_check dynmap_table_set_written(struct dynmap_table *table,
					  struct dynmap_volume *volume, u64 lbn, u64 pbn,
					  u32 len, struct dynmap_op *op);

/**
 * dynmap_table_hold() - blocks for a write to what is shared
 * @table: the table
 * @volume: the volume
 * @want: blocks wanted
 * @pbn: set to the first
 * @len: set to how many
 * @op: told what is missing
 *
 * What is held goes to dynmap_table_redirect() or dynmap_alloc_unhold().
 *
 * Return: 0; as dynmap_alloc_data(), -EAGAIN.
 */
static inline int __must_check dynmap_table_hold(struct dynmap_table *table,
						 struct dynmap_volume *volume, u32 want,
						 u64 *pbn, u32 *len, struct dynmap_op *op)
{
	int ret = dynmap_volume_refresh(table, volume, op);

	if (!ret)
		ret = dynmap_alloc_hold(table->alloc, volume->goal, want, pbn, len, op);
	if (!ret)
		volume->goal = *pbn + *len;
	return ret;
}

/**
 * dynmap_table_redirect() - data of held blocks is complete: map them
 * @table: the table
 * @volume: the volume
 * @lbn: first block; advanced past what was done
 * @pbn: where it was written; likewise
 * @len: blocks; what is left
 * @op: told what is missing
 *
 * Whatever the range mapped before is given up. After an error that is final what
 * is left is still held.
 *
 * Return: 0, -EAGAIN, -ENOMEM, -EBUSY, -ENOSPC (metadata), -EUCLEAN.
 */
int __must_check dynmap_table_redirect(struct dynmap_table *table, struct dynmap_volume *volume,
				       u64 *lbn, u64 *pbn, u32 *len, struct dynmap_op *op);

/**
 * dynmap_table_unmap() - unmap a range, one bounded step
 * @table: the table
 * @volume: the volume
 * @lbn: advanced past what was done
 * @end: end of the range
 * @op: told what is missing
 *
 * Exactly the blocks of the range are freed, into quarantine.
 *
 * Return: 0 (done when *@lbn == @end), -EAGAIN, -ENOMEM, -EBUSY, -EUCLEAN.
 */
int __must_check dynmap_table_unmap(struct dynmap_table *table, struct dynmap_volume *volume,
				    u64 *lbn, u64 end, struct dynmap_op *op);

/*
 * Can a round find anything? Not if one went through all volumes and nothing was reserved
 * since: what has been reserved then is written, or it is free.
 */
static inline bool dynmap_table_may_reclaim(const struct dynmap_table *table)
{
	return table->reserves != table->reclaimed;
}

/* Begin a round where the last one ended. */
void dynmap_reclaim_begin(const struct dynmap_table *table, struct dynmap_reclaim *reclaim);

/**
 * dynmap_table_reclaim() - take reserved, unwritten space back, one bounded step
 * @table: the table
 * @reclaim: the round
 * @op: told what is missing
 *
 * Rounds go through the volumes in turn, so that what was reserved last is
 * taken last. No first write may be under way: it would lose its place.
 *
 * Return: 0: call again; -ENOENT: the round is complete; -EAGAIN, -ENOMEM,
 * -EBUSY, -EUCLEAN.
 */
int __must_check dynmap_table_reclaim(struct dynmap_table *table, struct dynmap_reclaim *reclaim,
				      struct dynmap_op *op);

/**
 * struct dynmap_comparison - two volumes being compared
 * @lbn: compared up to there; where to begin
 * @from: first block of the range found
 * @to: its end
 * @found: that range is complete
 */
struct dynmap_comparison {
	u64 lbn;
	u64 from;
	u64 to;
	bool found;
};

/**
 * dynmap_table_compare() - find the next range in which two volumes differ
 * @a: one volume
 * @b: the other
 * @comparison: how far they are compared
 * @op: told what is missing
 *
 * Blocks differ if they lie in different places, whatever these hold; what was never
 * written is alike. Subtrees that both share are skipped.
 *
 * Context: metadata lock held for reading.
 * Return: 0: @comparison->from to @comparison->to; -EINPROGRESS: call again; -ENOENT:
 * no more; -EAGAIN, -EUCLEAN.
 */
int __must_check dynmap_table_compare(struct dynmap_volume *a, struct dynmap_volume *b,
				      struct dynmap_comparison *comparison,
				      struct dynmap_op *op);

/**
 * dynmap_table_cut() - take the last leaf off the map of a deleted volume
 * @table: the table
 * @volume: the volume
 * @op: told what is missing
 *
 * What is shared, leaf or subtree, is left to those who share it.
 *
 * Return: 0; -ENOENT: the map is empty; -EAGAIN, -ENOMEM, -EBUSY, -EUCLEAN.
 */
int __must_check dynmap_table_cut(struct dynmap_table *table, struct dynmap_volume *volume,
				  struct dynmap_op *op);

/* End of the last mapped extent of a volume, 0 if there is none. */
int __must_check dynmap_table_highest(struct dynmap_volume *volume, u64 *end,
				      struct dynmap_op *op);

/* Replay: re-execute one record. -EUCLEAN if it does not fit the state. */
int __must_check dynmap_table_replay(struct dynmap_table *table,
				     const struct dynmap_disk_record *record,
				     struct dynmap_op *op);

#endif /* DM_DYNMAP_TABLE_H */
