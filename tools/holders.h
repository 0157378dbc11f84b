/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Holders: which volumes use a block, and what the divergence trees must tell of it.
 *
 * Volumes are the leaves of a binary forest, whose inner nodes are the snapshot nodes
 * (core/family.h). In the order in which a walk from left to right meets them each
 * has a number, so that those below a snapshot node are a range of numbers, and those that
 * use one node a few ranges: a set. Equal sets are one, known by its place in an array.
 *
 * The divergence tree of a snapshot node has an entry for a block that one of its sides
 * uses and the other does not. To compare that with what volumes use, without visiting each
 * pair of volume and block, every possible entry (snapshot node, side) gets a weight, a
 * number of 64 bits as good as random: the sum of the weights of the entries that there
 * are for a block, modulo 2^64, must be that of the entries that its users call for. That
 * one is added up as the users come in the order of their numbers, range by range; nothing
 * but the last one must be known. For along the paths from the users x1 < x2 < ... up to the
 * topmost node t that was there when the block was born, each branch that is not met by its
 * sibling counts once, thus
 *
 *	sum of U(xi) - sum of C(lca(xi, xi+1)) - U(t)
 *
 * with U: the weights from the root down to there, and C(n) = U(n) + both weights of n,
 * since each node where both sides have users is the lowest common ancestor of exactly
 * one pair of neighbours. A difference stays unseen with a probability of 2^-64.
 *
 * Owns: the numbering, the sets and the weights. Does not own volumes or snapshot nodes.
 */
#ifndef DM_DYNMAP_HOLDERS_H
#define DM_DYNMAP_HOLDERS_H

#include "core/checkpoint.h"

#define HOLDERS_NONE		0xffffffffU

/**
 * struct holders_node - a snapshot node
 * @snap: it
 * @parent: index of its parent, or HOLDERS_NONE
 * @jump: index of an ancestor further up, for long climbs; of a root: itself
 * @depth: ancestors that it has
 * @first: the first volume below it
 * @middle: the first one on side 1
 * @last: the last one
 * @above: the weights from the root down to it
 * @weight: of the entries for each side; of a dying node, whose entries tell nothing: 0
 * @stage: of the walk: sides that were begun
 * @dead: it is on a side that was deleted
 * @tree: index of its root
 * @gone: what its survivor gave up and was born by then may be gone: generation of the dying
 *	ancestor that counts for it, on whose dead side it is, or 0
 */
struct holders_node {
	struct dynmap_snap *snap;
	u32 parent;
	u32 jump;
	u32 depth;
	u32 first;
	u32 middle;
	u32 last;
	u64 above;
	u64 weight[2];
	u32 tree;
	u32 gone;
	u8 stage;
	bool dead;
};

/**
 * struct holders_leaf - a volume, or a place where there is none any more
 * @volume: it, or NULL
 * @parent: index of its parent, or HOLDERS_NONE
 * @tree: index of the root above it, or HOLDERS_NONE
 * @above: the weights from the root down to it
 * @sum: of U - C up to this one, see above
 */
struct holders_leaf {
	struct dynmap_volume *volume;
	u32 parent;
	u32 tree;
	u64 above;
	u64 sum;
};

/**
 * struct holders - all of a pool
 * @node: snapshot nodes, by id
 * @nr_nodes: how many
 * @volume: volumes, deleted ones included, by id
 * @taken: of each volume: it has a number
 * @nr_volumes: how many
 * @leaf: volumes by number
 * @nr_leaves: how many
 * @set: all sets, one after the other: number of ranges, then first and last of each
 * @set_len: numbers used of @set
 * @set_room: of how many
 * @table: places of sets, by hash; 0: vacant
 * @table_bits: log2 of its size
 * @nr_sets: how many there are
 * @range: ranges gathered for a set, first and last of each
 * @nr_ranges: how many
 * @range_room: of how many
 * @faults: of the forest, that were told of
 * @no_memory: memory was short: results are void
 */
struct holders {
	struct holders_node *node;
	u32 nr_nodes;
	struct dynmap_volume **volume;
	bool *taken;
	u32 nr_volumes;
	struct holders_leaf *leaf;
	u32 nr_leaves;
	u32 *set;
	u32 set_len;
	u32 set_room;
	u32 *table;
	u32 table_bits;
	u32 nr_sets;
	u32 (*range)[2];
	u32 nr_ranges;
	u32 range_room;
	u64 faults;
	bool no_memory;
};

/*
 * Take a snapshot node, or a volume, each in the order of their ids; then number them. Faults
 * of the forest, as a child that is not there, are messages and counted in @faults.
 */
void holders_add_node(struct holders *holders, struct dynmap_snap *snap);
void holders_add_volume(struct holders *holders, struct dynmap_volume *volume);
void holders_number(struct holders *holders);
void holders_exit(struct holders *holders);

/* Index of a snapshot node, or HOLDERS_NONE. */
u32 holders_find(const struct holders *holders, u64 id);

/* The set of one volume; 0 is the empty set. */
u32 holders_one(struct holders *holders, u32 leaf);
/* The set of all that are in one of several: gather these, then take it. */
void holders_gather(struct holders *holders, u32 set);
u32 holders_gathered(struct holders *holders);

/* The ranges of a set, and how many: range i is from [2 * i] to [2 * i + 1]. */
static inline const u32 *holders_ranges(const struct holders *holders, u32 set, u32 *count)
{
	*count = set ? holders->set[set] : 0;
	return holders->set + set + 1;
}

/*
 * The topmost snapshot node above a volume that is not older than a block born in
 * generation @birth; HOLDERS_NONE: there is none.
 */
u32 holders_top(const struct holders *holders, u32 leaf, u32 birth);

/**
 * holders_step() - what more the entries of a block must weigh with more users
 * @holders: all
 * @before: the last user so far, HOLDERS_NONE: there was none
 * @first: the next one, behind it
 * @last: the last of those that follow without a gap
 * @birth: when the block was born
 * @weight: what is to be added
 *
 * Return: false if these volumes cannot have inherited one block.
 */
bool holders_step(const struct holders *holders, u32 before, u32 first, u32 last, u32 birth,
		  u64 *weight);

#endif /* DM_DYNMAP_HOLDERS_H */
