/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Families: what volumes share.
 *
 * A snapshot makes a snapshot node, the parent of the volume and of its copy;
 * volumes are the leaves of this binary forest. Blocks, of data and of nodes
 * alike, carry their birth, the generation in which they were allocated. Nothing
 * is counted:
 *
 *   - a block that a volume maps is its alone exactly if it was born after the
 *     volume's parent (struct dynmap_share): one compare;
 *   - when a volume gives up another one, the block is "dead" at its parent by
 *     the volume's side. It is entered in the parent's divergence tree; or, if the
 *     other side gave it up before, the entry is removed and the block dies there:
 *     it is free if it was born after the parent's parent, else it is given up in
 *     its turn at that one.
 *
 * When a volume is deleted its parent is dying from that moment on: its place is
 * already taken by the side that survives, whose volumes have the next parent as
 * theirs; but blocks that become the survivor's alone are not overwritten before
 * the deletion is durable: a power failure might bring the volume back. In the
 * background the dying node's divergence tree is drained: what the survivor's side
 * gave up dies, the rest is dropped; then the node goes.
 *
 * Dead extents wait, in no order that matters, for others that go to the same leaf, and for
 * space: one that rises through a chain of snapshot nodes changes a leaf at each of them.
 * Each checkpoint keeps those that wait in a tree of their own, so none has to be resolved for it.
 *
 * Owns: the tree of snapshot nodes, their divergence trees, the dead extents that wait, their tree.
 * What is freed here is free after the next checkpoint (dynmap_alloc_free_late()):
 * nothing of it is in the journal, replay may find other ways to the same end.
 *
 * Invariants
 *  F1 the divergence tree of a node holds the blocks born up to its generation
 *     that exactly one of its sides reaches, with the other one's number; while it
 *     is dying some of them may be gone;
 *  F2 a block is allocated exactly as long as a volume, its reserved space
 *     included, reaches it or a dead extent of it waits;
 *  F3 generations ascend from parents to children.
 *
 * Locking: metadata lock held for writing.
 */
#ifndef DM_DYNMAP_FAMILY_H
#define DM_DYNMAP_FAMILY_H

#include "core/alloc.h"

#define DYNMAP_SNAP_HASH_BITS	14
#define DYNMAP_SNAP_HEIGHTS	20

#define DYNMAP_UNLOAD_MOST	4096	/* volumes, or nodes, that an unload looks at */

/**
 * struct dynmap_snap - a snapshot node in memory
 * @list: in the family's list
 * @hash: in its hash, by @id
 * @id: its number
 * @divergence: its divergence tree
 * @disk: its record, but for root and counter
 * @own: data blocks in use, born after its parent up to itself; short of what a
 *	dying parent still counts
 * @death: which of the family's deaths made it dying, 0: a durable one
 * @dirty: changed in this epoch
 * @entered: and the record in the tree tells of it
 * @jump: a node further up from which a climb may go on, 0: not known; see
 *	struct dynmap_climb
 * @jump_death: the latest @death of those between the two
 * @family: what it is part of
 * @state: in the list of those that have changed, or of those that were entered, or empty
 * @buf: the buffer that it lies in, or NULL
 */
struct dynmap_snap {
	struct list_head list;
	struct hlist_node hash;
	u64 id;
	struct dynmap_tree divergence;
	struct dynmap_disk_snapshot disk;
	u64 own;
	u64 death;
	bool dirty;
	bool entered;
	u64 jump;
	u64 jump_death;
	struct dynmap_family *family;
	struct list_head state;
	struct dynmap_buf *buf;
};

/**
 * struct dynmap_family - all families of a pool
 * @cache: node cache
 * @alloc: allocator
 * @snaps: the tree of snapshot nodes
 * @waiting: the tree of the dead extents that waited at the last checkpoint
 * @waited: how many these are: they have the numbers below
 * @loaded: snapshot nodes in memory
 * @changed: those whose record in the tree is out of date
 * @entered: those that have changed in this epoch, and their record as well
 * @hash: those in memory, by id
 * @next_id: of the next one
 * @deaths: nodes that began to die since opening
 * @committing: how many of them the commit under way makes durable
 * @sealed: the same, the checkpoint
 * @durable: how many are durable; in replay all
 * @version: changes whenever a volume may have got another struct dynmap_share
 */
struct dynmap_family {
	struct dynmap_cache *cache;
	struct dynmap_alloc *alloc;
	struct dynmap_tree snaps;
	struct dynmap_tree waiting;
	u64 waited;
	struct list_head loaded;
	struct list_head changed;
	struct list_head entered;
	struct hlist_head hash[1 << DYNMAP_SNAP_HASH_BITS];
	u64 next_id;
	u64 deaths;
	u64 committing;
	u64 sealed;
	u64 durable;
	u32 version;
};

void dynmap_family_init(struct dynmap_family *family, struct dynmap_cache *cache,
			struct dynmap_alloc *alloc, const struct dynmap_disk_super *sb);
void dynmap_family_exit(struct dynmap_family *family);

/**
 * dynmap_family_load() - at opening: the dead extents that waited at the last checkpoint
 * @family: the families
 * @op: told what is missing
 *
 * Return: 0; -EUCLEAN; -EAGAIN, -ENOMEM: call again.
 */
int __must_check dynmap_family_load(struct dynmap_family *family, struct dynmap_op *op);

/**
 * dynmap_snap_get() - a snapshot node
 * @family: the families
 * @id: its number
 * @snap: set to it
 * @op: told what is missing
 *
 * Return: 0; -EUCLEAN if there is none or its record is bad; -EAGAIN, -ENOMEM.
 */
int __must_check dynmap_snap_get(struct dynmap_family *family, u64 id, struct dynmap_snap **snap,
				 struct dynmap_op *op);

/**
 * dynmap_family_share() - what a volume shares
 * @family: the families
 * @parent: its parent, 0: none
 * @side: on which side
 * @durable_only: deletions that are not yet durable do not count: it may be written to
 * @share: set
 * @op: told what is missing
 *
 * Return: as dynmap_snap_get().
 */
int __must_check dynmap_family_share(struct dynmap_family *family, u64 parent, u32 side,
				     bool durable_only, struct dynmap_share *share,
				     struct dynmap_op *op);

/**
 * dynmap_family_resolve() - see to the dead extents that wait, as far as there is room
 * @family: the families
 * @most: see to that many at most
 * @op: told what is missing; its urgency does not matter
 *
 * Return: 0 when none is left; -EINPROGRESS: @most were seen to, call again; -EBUSY,
 * -ENOSPC: for the others there is no room now; -EAGAIN, -ENOMEM; -EUCLEAN.
 */
int __must_check dynmap_family_resolve(struct dynmap_family *family, u32 most,
				       struct dynmap_op *op);

/* The same; 0 also when for those that are left there is no room: they go on waiting. */
int __must_check dynmap_family_resolve_most(struct dynmap_family *family, u32 most,
					    struct dynmap_op *op);

/*
 * See to some of the dead extents, if many wait or room for what they need becomes short; as
 * dynmap_family_resolve(), but 0 also if there are more.
 */
int __must_check dynmap_family_resolve_some(struct dynmap_family *family, struct dynmap_op *op);

/* Before each change: there are never too many. */
static inline int __must_check dynmap_family_resolve_due(struct dynmap_family *family,
							 struct dynmap_op *op)
{
	const struct dynmap_alloc *alloc = family->alloc;

	if (!alloc->cache->dead_list.count ||
	    (!dynmap_alloc_dead_list_is_full(alloc) && !dynmap_alloc_dead_list_is_heavy(alloc) &&
	     dynmap_alloc_room(alloc, 0, op->urgent)))
		return 0;
	return dynmap_family_resolve_some(family, op);
}

/**
 * dynmap_family_next() - the next ancestor that counts for what is on a side
 * @family: the families
 * @parent: a snapshot node, 0: none
 * @side: on which side of it; set to the side of @snap
 * @snap: set to it or the next ancestor that is not dying, or whose dying side this
 *	is; NULL if there is none
 * @op: told what is missing
 *
 * Return: as dynmap_snap_get().
 */
int __must_check dynmap_family_next(struct dynmap_family *family, u64 parent, u32 *side,
				    struct dynmap_snap **snap, struct dynmap_op *op);

/* Second phase: all volumes on one side of a node are deleted. */
void dynmap_snap_die(struct dynmap_family *family, struct dynmap_snap *snap, u32 side);

/**
 * dynmap_family_split() - a snapshot node above a volume
 * @family: the families
 * @volume: its record; its new parent is entered, and its counter moves
 * @copy: number of its copy, which becomes its sibling on side 1
 * @op: told what is missing
 *
 * A new generation begins: what both have now was born before. dynmap_btree_worst() nodes
 * for @family->snaps are reserved.
 *
 * Return: 0; nothing has changed: as dynmap_snap_get(); -EOVERFLOW: no more numbers.
 */
int __must_check dynmap_family_split(struct dynmap_family *family,
				     struct dynmap_disk_volume *volume, u64 copy,
				     struct dynmap_op *op);

/* Second phase: the child of a node on one side has got another number. */
void dynmap_snap_set_child(struct dynmap_snap *snap, u32 side, u64 child);

/**
 * dynmap_family_deleted() - which one of the deleted volumes of a family is to go next
 * @family: the families
 * @parent: parent of a deleted volume
 * @id: set to the one below the topmost dying node on its way up; left alone if there
 *	is no dying node
 * @op: told what is missing
 *
 * From the top on: what is given up further down then has no dying nodes to pass.
 *
 * Return: as dynmap_snap_get().
 */
int __must_check dynmap_family_deleted(struct dynmap_family *family, u64 parent, u64 *id,
				       struct dynmap_op *op);

/**
 * dynmap_family_drain() - a step of emptying the divergence tree of a dying node
 * @family: the families
 * @id: the node
 * @op: told what is missing
 *
 * Return: 0: go on; -ENOENT: it is empty; else as dynmap_family_resolve().
 */
int __must_check dynmap_family_drain(struct dynmap_family *family, u64 id, struct dynmap_op *op);

/**
 * dynmap_family_splice() - a drained node goes
 * @family: the families
 * @id: the node
 * @left: set to its record: its surviving child takes its place, and its counter
 * @op: told what is missing
 *
 * Where the surviving child is a volume the caller sees to it.
 *
 * Return: 0; nothing has changed: as dynmap_family_resolve().
 */
int __must_check dynmap_family_splice(struct dynmap_family *family, u64 id,
				      struct dynmap_disk_snapshot *left, struct dynmap_op *op);

/**
 * struct dynmap_survey - how much one side of a snapshot node has alone: a count
 * @node: node being looked at
 * @side: the side
 * @key: from there on in its divergence tree
 * @blocks: data blocks so far; meanwhile it may be below zero
 */
struct dynmap_survey {
	u64 node;
	u32 side;
	u64 key;
	u64 blocks;
};

/**
 * dynmap_family_survey() - one bounded step of the count
 * @family: the families, with no dead extent waiting
 * @survey: the count; begins with the parent of a volume, its slot and what it has
 *	of its own
 * @op: told what is missing
 *
 * Of blocks that were born before a volume's parent those are its alone that the
 * other side has given up and that nobody reaches from further up: the divergence
 * trees tell that. Parents that are dying are seen through: their own blocks are
 * the survivor's, but for those that it has given up. Right if nothing changes from
 * the first step to the last, and no volume further away is being deleted: what it
 * shared with this one alone counts when it is gone.
 *
 * Return: 0: call again; -ENOENT: the count is complete; as dynmap_snap_get().
 */
int __must_check dynmap_family_survey(struct dynmap_family *family, struct dynmap_survey *survey,
				      struct dynmap_op *op);

/*
 * Checkpoint: seal the divergence trees of nodes that changed, and enter their records, as
 * dynmap_table_checkpoint(); enter the dead extents, and all such records; the epoch ends.
 */
int __must_check dynmap_family_enter(struct dynmap_family *family, u32 *most,
				     struct dynmap_op *op);
int __must_check dynmap_family_checkpoint(struct dynmap_family *family, u32 *most,
					  struct dynmap_op *op);
void dynmap_family_sealed(struct dynmap_family *family);

/* So many deaths are durable. */
void dynmap_family_durable(struct dynmap_family *family, u64 deaths);

/*
 * Forget nodes that are not dirty; nobody holds one. Not while a checkpoint is being written: it
 * makes deaths durable that only those in memory tell of.
 */
void dynmap_family_unload(struct dynmap_family *family);

/* The side that was deleted of a dying node. */
static inline u32 dynmap_snap_dead_side(const struct dynmap_snap *snap)
{
	return !!(le32_to_cpu(snap->disk.flags) & DYNMAP_SNAPSHOT_SIDE);
}

static inline bool dynmap_snap_is_dying(const struct dynmap_snap *snap)
{
	return le32_to_cpu(snap->disk.flags) & DYNMAP_SNAPSHOT_DYING;
}

#endif /* DM_DYNMAP_FAMILY_H */
