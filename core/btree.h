/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * B-trees of fixed-size records.
 *
 * Owns: the shape of trees: descent, splitting, merging, records in leaves.
 * Knows the kinds of records only by size, key and a check; what they mean is
 * for the layers above. Copy-on-write (Rodeh, "B-trees, shadowing, and
 * clones", ACM TOS 2008): an operation makes the nodes from the root to one
 * leaf writable, splitting full ones on the way down, then edits the leaf.
 *
 * Invariants
 *  B1 keys ascend strictly within a node, none is below the node's base, and
 *     an inner node's first key equals its base;
 *  B2 the leftmost node of each level has base 0;
 *  B3 a node is empty only if it is a leaf and its parent's first child;
 *  B4 a child's base is its key in the parent, its entries end at the next key.
 */
#ifndef DM_DYNMAP_BTREE_H
#define DM_DYNMAP_BTREE_H

#include "core/node.h"

/* Keys of map records lie in [base, base + reach) of their leaf; so do their extents. */
#define DYNMAP_LEAF_REACH	(1ULL << 32)

/**
 * struct dynmap_tree - a B-tree
 * @cache: where its nodes are
 * @kind: enum dynmap_tree_kind
 * @owner: stored in its nodes
 * @root: the root, if @levels is not 0
 * @levels: 0: empty, 1: a lone leaf
 * @share: what it shares with other trees
 */
struct dynmap_tree {
	struct dynmap_cache *cache;
	u8 kind;
	u64 owner;
	struct dynmap_ptr root;
	u32 levels;
	struct dynmap_share share;
};

/**
 * struct dynmap_path - the way from the root to a place in a leaf
 * @buf: node per level, @buf[0] is the leaf
 * @slot: index per level; @slot[0] is the last record whose key is at or below
 *	the key searched, -1 if there is none
 * @levels: levels of the tree; 1 if only the leaf is known
 * @top: see dynmap_btree_last()
 * @high: no key at or above it belongs in this leaf
 */
struct dynmap_path {
	struct dynmap_buf *buf[DYNMAP_MAX_LEVELS];
	int slot[DYNMAP_MAX_LEVELS];
	u32 levels;
	u32 top;
	u64 high;
};

/* Nodes that making a path writable and then merging may take, at most. */
static inline u32 dynmap_btree_worst(const struct dynmap_tree *tree)
{
	return 3 * (tree->levels + 2);
}

/* Size and greatest number of records of a kind of tree. */
u32 dynmap_btree_record_bytes(u8 kind);
u32 dynmap_btree_capacity(u8 kind);

/* Entries of a node, which has one kind of them; record @slot of a leaf of any kind. */
static inline void *dynmap_node_entries(struct dynmap_buf *buf)
{
	return dynmap_node_head(buf)->payload;
}

void *dynmap_leaf_record(struct dynmap_buf *leaf, int slot);

/* How many entries a node has. */
static inline u32 dynmap_node_count(struct dynmap_buf *buf)
{
	return le16_to_cpu(dynmap_node_head(buf)->count);
}

static inline u64 dynmap_node_base(struct dynmap_buf *buf)
{
	return le64_to_cpu(dynmap_node_head(buf)->base);
}

/* What an inner node tells of its child @slot, but for where the child ends. */
void dynmap_child_want(struct dynmap_buf *buf, int slot, struct dynmap_miss *want);

/* Key of record @slot of a leaf. */
u64 dynmap_leaf_key(struct dynmap_buf *leaf, int slot);

/* Structure check of a node's entries, all below @high; NULL or the name of the failing check. */
const char *dynmap_btree_check(const struct dynmap_geometry *geo, const void *data, u64 high);

void dynmap_btree_init(struct dynmap_tree *tree, struct dynmap_cache *cache, u8 kind,
		       u64 owner, const struct dynmap_disk_root *root);
/* The root as stored on disk; its crc is right once the root node is sealed. */
void dynmap_btree_root(const struct dynmap_tree *tree, struct dynmap_disk_root *root);
/* Does a root read from disk make sense? */
bool dynmap_btree_root_valid(const struct dynmap_geometry *geo,
			     const struct dynmap_disk_root *root);

/**
 * dynmap_btree_find() - find the leaf and record for a key
 * @tree: the tree
 * @key: key searched
 * @path: set to the way to it
 * @op: told what is missing
 *
 * Context: metadata lock held for reading or writing.
 * Return: 0; -ENOENT if the tree is empty; -EAGAIN; -EUCLEAN.
 */
int __must_check dynmap_btree_find(struct dynmap_tree *tree, u64 key,
				   struct dynmap_path *path, struct dynmap_op *op);

/**
 * dynmap_btree_write_path() - second phase: make the path to a key writable
 * @tree: the tree, may be empty
 * @key: the key
 * @room: records that must fit into the leaf in addition
 * @path: as dynmap_btree_find() has set it; all of it DIRTY then
 *
 * dynmap_btree_find() for the same key (or one with no record between) succeeded or
 * said -ENOENT, the tree has not changed since, and dynmap_btree_worst() nodes were
 * reserved, with the lock held since: cannot fail.
 */
void dynmap_btree_write_path(struct dynmap_tree *tree, u64 key, u32 room,
			     struct dynmap_path *path);

/*
 * A path that knows only the leaf, where a lookup in the same tree found @key, which may
 * lie in another one by now; false if that leaf is not DIRTY, or shared: the tree may
 * have a copy. Else it is the tree's: a leaf does not move while it is DIRTY, and what
 * it left in this epoch is not used again in it (rule 4).
 */
bool dynmap_btree_revisit(struct dynmap_tree *tree, const struct dynmap_place *place, u64 key,
			  struct dynmap_path *path);

/* Find another key that belongs in the leaf that a path leads to. */
void dynmap_btree_stay(struct dynmap_path *path, u64 key);

/* Replace @remove records of a writable leaf from @slot on by @insert others: their place. */
void *dynmap_leaf_splice(struct dynmap_path *path, int slot, u32 remove, u32 insert);

/* After removals: drop an emptied leaf, join a nearly empty one with its left. */
void dynmap_btree_prune(struct dynmap_tree *tree, struct dynmap_path *path);

/**
 * dynmap_btree_last() - find the last leaf that is the tree's alone
 * @tree: the tree
 * @path: set to the way to it
 * @op: told what is missing
 *
 * Return: 0; -ENOENT if the tree is empty or has no such leaf; -ESTALE if the last
 * child of path->buf[path->top] is shared; -EAGAIN; -EUCLEAN.
 */
int __must_check dynmap_btree_last(struct dynmap_tree *tree, struct dynmap_path *path,
				   struct dynmap_op *op);

/*
 * Second phase, after dynmap_btree_last() with dynmap_btree_worst() nodes reserved:
 * take the leaf, or the child that is shared, off the tree. Who shares it keeps
 * it; nothing is entered for it.
 */
void dynmap_btree_cut_last(struct dynmap_tree *tree, struct dynmap_path *path);

/**
 * dynmap_btree_put() - insert or replace the record of a key (not for maps)
 * dynmap_btree_remove() - remove it (not for maps)
 * dynmap_btree_get() - copy it
 *
 * Put and remove need dynmap_btree_worst() nodes reserved.
 *
 * Return: 0; -ENOENT (get, remove); -EAGAIN; -EUCLEAN.
 */
int __must_check dynmap_btree_put(struct dynmap_tree *tree, u64 key, const void *record,
				  struct dynmap_op *op);
int __must_check dynmap_btree_remove(struct dynmap_tree *tree, u64 key, struct dynmap_op *op);
int __must_check dynmap_btree_get(struct dynmap_tree *tree, u64 key, void *record,
				  struct dynmap_op *op);

/**
 * dynmap_btree_next() - the first record at or above a key
 * @tree: the tree
 * @key: where to begin
 * @record: set to a copy
 * @found: set to its key
 * @op: told what is missing
 *
 * Return: 0; -ENOENT if there is none; -EAGAIN; -EUCLEAN.
 */
int __must_check dynmap_btree_next(struct dynmap_tree *tree, u64 key, void *record,
				   u64 *found, struct dynmap_op *op);

/**
 * dynmap_btree_same() - how far two trees share nodes
 * @a: one tree
 * @b: another of its kind
 * @key: from there on
 * @end: set to where the node that both reach for @key ends in both, @key if there
 *	is none
 * @op: told what is missing
 *
 * What is shared is not read.
 *
 * Return: 0; -EAGAIN; -EUCLEAN.
 */
int __must_check dynmap_btree_same(struct dynmap_tree *a, struct dynmap_tree *b, u64 key,
				   u64 *end, struct dynmap_op *op);

/**
 * dynmap_btree_seal() - make the DIRTY nodes of a tree final
 * @tree: the tree; its root then tells the crc of what will be written
 * @most: seal that many nodes at most; less those that were
 *
 * Bottom up. The tree may be changed afterwards, and sealed again: what was changed, and the
 * way to it, is not final any more. That takes steps in which others hold the lock.
 *
 * Return: 0; -EINPROGRESS: @most were sealed, call again.
 */
int __must_check dynmap_btree_seal(struct dynmap_tree *tree, u32 *most);

#endif /* DM_DYNMAP_BTREE_H */
