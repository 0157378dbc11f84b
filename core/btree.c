// SPDX-License-Identifier: GPL-2.0-only
/*
 * B-trees, see core/btree.h. Callers: space and alloc (space tree), family (snapshot,
 * divergence and dead extent trees), volume and table (volume and map trees), pool (segment
 * tree), checkpoints (sealing).
 *
 * Inner nodes are kept with two entries free below the path being written, so
 * that one leaf can be split twice: for room, and because a map record's key
 * must stay within 2^32 of its leaf's base.
 */
#include "core/btree.h"

#define DYNMAP_SEARCH_NEAR	8	/* so few entries lie in one or two cache lines */
#define DYNMAP_INNER_CAPACITY	(DYNMAP_NODE_PAYLOAD / sizeof(struct dynmap_disk_child))

/* Size of the records of each kind of tree. */
static const u16 dynmap_record_sizes[] = {
	[DYNMAP_TREE_MAP] = sizeof(struct dynmap_disk_map),
	[DYNMAP_TREE_VOLUME] = sizeof(struct dynmap_disk_volume),
	[DYNMAP_TREE_SPACE] = sizeof(struct dynmap_disk_zone),
	[DYNMAP_TREE_SEGMENT] = sizeof(struct dynmap_disk_segment),
	[DYNMAP_TREE_SNAPSHOT] = sizeof(struct dynmap_disk_snapshot),
	[DYNMAP_TREE_DIVERGENCE] = sizeof(struct dynmap_disk_divergence),
	[DYNMAP_TREE_DEAD] = sizeof(struct dynmap_disk_dead),
};

u32 dynmap_btree_record_bytes(u8 kind)
{
	return kind < ARRAY_SIZE(dynmap_record_sizes) ? dynmap_record_sizes[kind] : 0;
}

u32 dynmap_btree_capacity(u8 kind)
{
	return DYNMAP_NODE_PAYLOAD / dynmap_btree_record_bytes(kind);
}

static void dynmap_node_set_count(struct dynmap_buf *buf, u32 count)
{
	dynmap_node_head(buf)->count = cpu_to_le16(count);
}

static struct dynmap_disk_child *dynmap_node_child(struct dynmap_buf *buf, int slot)
{
	struct dynmap_disk_child *child = dynmap_node_entries(buf);

	return child + slot;
}

void *dynmap_leaf_record(struct dynmap_buf *leaf, int slot)
{
	struct dynmap_disk_node *node = leaf->data;

	return node->payload + slot * dynmap_btree_record_bytes(node->kind);
}

static u64 dynmap_record_key(const struct dynmap_disk_node *node, const void *record)
{
	const struct dynmap_disk_map *map = record;

	if (node->kind == DYNMAP_TREE_MAP)
		return le64_to_cpu(node->base) + le32_to_cpu(map->delta);
	return le64_to_cpu(*(const __le64 *)record);
}

u64 dynmap_leaf_key(struct dynmap_buf *leaf, int slot)
{
	return dynmap_record_key(leaf->data, dynmap_leaf_record(leaf, slot));
}

static u64 dynmap_node_key(struct dynmap_buf *buf, int slot)
{
	if (dynmap_node_head(buf)->level)
		return le64_to_cpu(dynmap_node_child(buf, slot)->key);
	return dynmap_leaf_key(buf, slot);
}

static const char *dynmap_check_map(const struct dynmap_geometry *geo,
				    const struct dynmap_disk_map *map, u64 key, u64 *end)
{
	u32 high = le32_to_cpu(map->kind_pbn_high);
	u64 pbn = le16_to_cpu(map->pbn_low) |
		  (u64)(high & ((1U << DYNMAP_MAP_KIND_SHIFT) - 1)) << 16;
	u32 kind = high >> DYNMAP_MAP_KIND_SHIFT;
	u32 len = le16_to_cpu(map->len) + 1;

	if (kind < DYNMAP_DATA || kind > DYNMAP_WINDOW)
		return "map kind";
	if (kind == DYNMAP_WINDOW) {
		if (key & (DYNMAP_WINDOW_BLOCKS - 1))
			return "window alignment";
		len = DYNMAP_WINDOW_BLOCKS;
	}
	if (key < *end)
		return "map overlap";
	if (!dynmap_pbn_valid(geo, pbn, len))
		return "map address";
	if (key >= DYNMAP_MAX_LBN || key + len > DYNMAP_MAX_LBN)
		return "map length";
	*end = key + len;
	return NULL;
}

static const char *dynmap_check_divergence(const struct dynmap_geometry *geo,
					   const struct dynmap_disk_divergence *entry, u64 *end)
{
	u64 pbn = le64_to_cpu(entry->pbn);
	u32 len = le32_to_cpu(entry->len);

	if (pbn < *end)
		return "divergence overlap";
	if (!len || len > DYNMAP_SEGMENT_BLOCKS || !dynmap_pbn_valid(geo, pbn, len))
		return "divergence address";
	if (entry->side > 1 || entry->is_node > 1)
		return "divergence side";
	*end = pbn + len;
	return NULL;
}

static const char *dynmap_check_dead(const struct dynmap_geometry *geo,
				     const struct dynmap_disk_dead *dead)
{
	u32 len = le32_to_cpu(dead->len);

	if (!len || len > DYNMAP_SEGMENT_BLOCKS ||
	    !dynmap_pbn_valid(geo, le64_to_cpu(dead->pbn), len))
		return "dead extent address";
	return dead->side > 1 || dead->is_node > 1 ? "dead extent side" : NULL;
}

static const char *dynmap_check_leaf(const struct dynmap_geometry *geo,
				     const struct dynmap_disk_node *node, u32 count, u64 high)
{
	u32 bytes = dynmap_btree_record_bytes(node->kind);
	u64 base = le64_to_cpu(node->base), last = 0, end = base, key;
	const char *failed;
	u32 i;

	if (count > dynmap_btree_capacity(node->kind))
		return "count";
	for (i = 0; i < count; i++) {
		const void *record = node->payload + i * bytes;

		key = dynmap_record_key(node, record);
		if (key < base || (i && key <= last))
			return "key order";
		last = key;
		failed = NULL;
		if (node->kind == DYNMAP_TREE_MAP)
			failed = dynmap_check_map(geo, record, key, &end);
		else if (node->kind == DYNMAP_TREE_DIVERGENCE)
			failed = dynmap_check_divergence(geo, record, &end);
		else if (node->kind == DYNMAP_TREE_DEAD)
			failed = dynmap_check_dead(geo, record);
		if (failed)
			return failed;
	}
	if (count && (last >= high || end > high))
		return "end";
	return node->kind == DYNMAP_TREE_MAP && end - base > DYNMAP_LEAF_REACH ? "reach" : NULL;
}

static bool dynmap_ptr_valid(const struct dynmap_geometry *geo, u64 pbn_a, u64 pbn_b)
{
	return dynmap_pbn_valid(geo, pbn_a, 1) &&
	       (pbn_b == DYNMAP_PBN_NONE || dynmap_pbn_valid(geo, pbn_b, 1));
}

const char *dynmap_btree_check(const struct dynmap_geometry *geo, const void *data, u64 high)
{
	const struct dynmap_disk_node *node = data;
	const struct dynmap_disk_child *child = (const void *)node->payload;
	u32 count = le16_to_cpu(node->count), i;
	u64 key, last = 0;

	if (!dynmap_btree_record_bytes(node->kind))
		return "tree kind";
	if (node->level >= DYNMAP_MAX_LEVELS)
		return "level";
	if (!node->level)
		return dynmap_check_leaf(geo, node, count, high);
	if (!count || count > DYNMAP_INNER_CAPACITY)
		return "count";
	for (i = 0; i < count; i++) {
		key = le64_to_cpu(child[i].key);
		if (i ? key <= last : key != le64_to_cpu(node->base))
			return "key order";
		last = key;
		if (!dynmap_ptr_valid(geo, le64_to_cpu(child[i].pbn_a),
				      le64_to_cpu(child[i].pbn_b)))
			return "child address";
	}
	return last < high ? NULL : "end";
}

void dynmap_btree_init(struct dynmap_tree *tree, struct dynmap_cache *cache, u8 kind, u64 owner,
		       const struct dynmap_disk_root *root)
{
	memset(tree, 0, sizeof(*tree));
	tree->cache = cache;
	tree->kind = kind;
	tree->owner = owner;
	tree->root.pbn[0] = DYNMAP_PBN_NONE;
	tree->root.pbn[1] = DYNMAP_PBN_NONE;
	if (!root)
		return;
	tree->root.pbn[0] = le64_to_cpu(root->pbn_a);
	tree->root.pbn[1] = le64_to_cpu(root->pbn_b);
	tree->root.generation = le32_to_cpu(root->generation);
	tree->root.crc = le32_to_cpu(root->crc);
	tree->levels = le32_to_cpu(root->levels);
}

void dynmap_btree_root(const struct dynmap_tree *tree, struct dynmap_disk_root *root)
{
	memset(root, 0, sizeof(*root));
	root->pbn_a = cpu_to_le64(tree->levels ? tree->root.pbn[0] : DYNMAP_PBN_NONE);
	root->pbn_b = cpu_to_le64(tree->levels ? tree->root.pbn[1] : DYNMAP_PBN_NONE);
	root->levels = cpu_to_le32(tree->levels);
	if (!tree->levels)
		return;
	root->generation = cpu_to_le32(tree->root.generation);
	root->crc = cpu_to_le32(tree->root.crc);
}

bool dynmap_btree_root_valid(const struct dynmap_geometry *geo,
			     const struct dynmap_disk_root *root)
{
	u32 levels = le32_to_cpu(root->levels);

	if (!levels)
		return le64_to_cpu(root->pbn_a) == DYNMAP_PBN_NONE;
	return levels < DYNMAP_MAX_LEVELS &&
	       dynmap_ptr_valid(geo, le64_to_cpu(root->pbn_a), le64_to_cpu(root->pbn_b));
}

/* Fetch what the second and the third next step of a search may look at. */
static __always_inline void dynmap_search_ahead(const u8 *at, u32 count, u32 bytes)
{
	u32 half = count / 2, quarter = (count - half) / 2, eighth = (count - half - quarter) / 2;

	prefetch(at + quarter * bytes);
	prefetch(at + eighth * bytes);
	prefetch(at + (quarter + eighth) * bytes);
	at += half * bytes;
	prefetch(at + quarter * bytes);
	prefetch(at + eighth * bytes);
	prefetch(at + (quarter + eighth) * bytes);
}

/*
 * Last of @count entries of @bytes whose key is at or below @key, -1 if there is none.
 * The compiler makes one of it for each size: every bio comes through here. Without
 * branches, and fetching ahead in leaves, which are seldom in the processor's cache:
 * see Khuong and Morin, "Array layouts for comparison-based searching", ACM JEA 2017.
 */
static __always_inline int dynmap_search(const u8 *entries, u32 count, u32 bytes, bool leaf,
					 bool map, u64 key)
{
	const u8 *at = entries, *middle;
	u32 half, step = 0;
	u64 low;

	if (!count)
		return -1;
	for (; count > 1; count -= half) {
		if (leaf && count > DYNMAP_SEARCH_NEAR && step++ % 3 == 0)
			dynmap_search_ahead(at, count, bytes);
		half = count / 2;
		middle = at + half * bytes;
		/* A map record begins with its distance from the base, all else with the key. */
		low = map ? le32_to_cpu(*(const __le32 *)middle) :
			    le64_to_cpu(*(const __le64 *)middle);
		at = low <= key ? middle : at;
	}
	low = map ? le32_to_cpu(*(const __le32 *)at) : le64_to_cpu(*(const __le64 *)at);
	return low <= key ? (at - entries) / bytes : -1;
}

static __always_inline int dynmap_node_search_inline(struct dynmap_buf *buf, u64 key)
{
	const struct dynmap_disk_node *node = buf->data;
	u32 count = dynmap_node_count(buf);
	u64 base = le64_to_cpu(node->base);

	if (node->level)
		return dynmap_search(node->payload, count, sizeof(struct dynmap_disk_child), false,
				     false, key);
	if (node->kind == DYNMAP_TREE_MAP)
		return key < base ? -1 : dynmap_search(node->payload, count,
						       sizeof(struct dynmap_disk_map), true,
						       true, key - base);
	if (node->kind == DYNMAP_TREE_DIVERGENCE)
		return dynmap_search(node->payload, count, sizeof(struct dynmap_disk_divergence),
				     true, false, key);
	return dynmap_search(node->payload, count, dynmap_btree_record_bytes(node->kind), false,
			     false, key);
}

static __hot int dynmap_node_search(struct dynmap_buf *buf, u64 key)
{
	return dynmap_node_search_inline(buf, key);
}

static void dynmap_child_get(struct dynmap_buf *buf, int slot, struct dynmap_ptr *ptr)
{
	const struct dynmap_disk_child *child = dynmap_node_child(buf, slot);

	ptr->pbn[0] = le64_to_cpu(child->pbn_a);
	ptr->pbn[1] = le64_to_cpu(child->pbn_b);
	ptr->generation = le32_to_cpu(child->generation);
	ptr->crc = le32_to_cpu(child->crc);
}

static void dynmap_child_set(struct dynmap_buf *buf, int slot, const struct dynmap_ptr *ptr)
{
	struct dynmap_disk_child *child = dynmap_node_child(buf, slot);

	child->pbn_a = cpu_to_le64(ptr->pbn[0]);
	child->pbn_b = cpu_to_le64(ptr->pbn[1]);
	child->generation = cpu_to_le32(ptr->generation);
	child->crc = cpu_to_le32(ptr->crc);
}

void dynmap_child_want(struct dynmap_buf *buf, int slot, struct dynmap_miss *want)
{
	const struct dynmap_disk_node *node = buf->data;

	want->base = dynmap_node_key(buf, slot);
	want->kind = node->kind;
	want->level = node->level - 1;
	dynmap_child_get(buf, slot, &want->ptr);
}

/* What is wrong with the next node of a path, of @level: it is not in memory, or another one. */
static int dynmap_path_miss(struct dynmap_tree *tree, const struct dynmap_path *path, int level,
			    struct dynmap_op *op)
{
	struct dynmap_miss want = { .ptr = tree->root, .kind = tree->kind, .level = level };
	struct dynmap_buf *buf;

	if (level + 1 < (int)tree->levels)
		dynmap_child_want(path->buf[level + 1], path->slot[level + 1], &want);
	want.high = path->high;
	return dynmap_cache_get(tree->cache, &want, op, &buf);
}

__hot int dynmap_btree_find(struct dynmap_tree *tree, u64 key, struct dynmap_path *path,
			    struct dynmap_op *op)
{
	const struct dynmap_disk_child *child;
	u64 pbn = tree->root.pbn[0], base = 0;
	int level = tree->levels - 1, slot;
	u32 crc = tree->root.crc;
	struct dynmap_buf *buf;

	path->levels = tree->levels;
	path->high = ~0ULL;
	if (!tree->levels)
		return -ENOENT;
	/* A change may add a level. No tree gets that high but one that was made so. */
	if (tree->levels >= DYNMAP_MAX_LEVELS)
		return -EUCLEAN;
	for (; ; level--) {
		buf = dynmap_cache_find_verified(tree->cache, pbn, tree->kind, level, base, crc);
		if (!buf)
			return dynmap_path_miss(tree, path, level, op);
		slot = dynmap_node_search_inline(buf, key);
		path->buf[level] = buf;
		path->slot[level] = slot;
		if (!level)
			return 0;
		if (slot < 0) {
			dynmap_err("node %llu: no child for key %llu",
				   (unsigned long long)buf->pbn[0], (unsigned long long)key);
			return -EUCLEAN;
		}
		child = dynmap_node_child(buf, slot);
		if (slot + 1 < (int)dynmap_node_count(buf))
			path->high = le64_to_cpu(child[1].key);
		pbn = le64_to_cpu(child->pbn_a);
		base = le64_to_cpu(child->key);
		crc = le32_to_cpu(child->crc);
	}
}

__hot bool dynmap_btree_revisit(struct dynmap_tree *tree, const struct dynmap_place *place,
				u64 key, struct dynmap_path *path)
{
	struct dynmap_buf *buf;

	if (place->epoch != tree->cache->epoch)
		return false;
	buf = dynmap_cache_find(tree->cache, place->pbn);
	if (!buf || buf->state != DYNMAP_BUF_DIRTY || dynmap_node_is_shared(buf, &tree->share))
		return false;
	/* On damaged devices another node may have been placed there. */
	if (dynmap_node_head(buf)->kind != tree->kind || dynmap_node_head(buf)->level)
		return false;
	path->levels = 1;
	path->buf[0] = buf;
	path->slot[0] = dynmap_node_search_inline(buf, key);
	return true;
}

static void dynmap_inner_insert(struct dynmap_buf *buf, int slot, u64 key,
				struct dynmap_buf *child)
{
	u32 count = dynmap_node_count(buf);
	struct dynmap_ptr ptr = dynmap_node_ptr(child);

	memmove(dynmap_node_child(buf, slot + 1), dynmap_node_child(buf, slot),
		(count - slot) * sizeof(struct dynmap_disk_child));
	dynmap_node_child(buf, slot)->key = cpu_to_le64(key);
	dynmap_child_set(buf, slot, &ptr);
	dynmap_node_set_count(buf, count + 1);
}

static void dynmap_inner_remove(struct dynmap_buf *buf, int slot)
{
	u32 count = dynmap_node_count(buf);

	memmove(dynmap_node_child(buf, slot), dynmap_node_child(buf, slot + 1),
		(count - slot - 1) * sizeof(struct dynmap_disk_child));
	dynmap_node_set_count(buf, count - 1);
}

/* Append entries [from, to) of @src to @dst, which has another base. */
static void dynmap_node_append(struct dynmap_buf *dst, struct dynmap_buf *src, u32 from, u32 to)
{
	struct dynmap_disk_node *node = src->data;
	u32 count = dynmap_node_count(dst);
	u32 bytes = node->level ? sizeof(struct dynmap_disk_child) :
				  dynmap_btree_record_bytes(node->kind);
	u64 shift = dynmap_node_base(src) - dynmap_node_base(dst);
	u32 i;

	memcpy(dynmap_node_head(dst)->payload + count * bytes, node->payload + from * bytes,
	       (to - from) * bytes);
	dynmap_node_set_count(dst, count + to - from);
	if (node->level || node->kind != DYNMAP_TREE_MAP)
		return;
	for (i = count; i < count + to - from; i++) {
		struct dynmap_disk_map *map = dynmap_leaf_record(dst, i);

		map->delta = cpu_to_le32((u32)(le32_to_cpu(map->delta) + shift));
	}
}

/*
 * Split the child at path->slot[level + 1]; entries from @at on move to a new
 * right sibling with base @base. The path then goes to the side of @key.
 */
static void dynmap_btree_split(struct dynmap_tree *tree, struct dynmap_path *path, int level,
			       u32 at, u64 base, u64 key)
{
	struct dynmap_buf *parent = path->buf[level + 1], *left = path->buf[level];
	struct dynmap_buf *right = dynmap_node_new(tree->cache, tree->kind, level, tree->owner,
						   base);
	int slot = path->slot[level + 1];

	dynmap_node_append(right, left, at, dynmap_node_count(left));
	dynmap_node_set_count(left, at);
	dynmap_inner_insert(parent, slot + 1, base, right);
	if (key >= base) {
		path->slot[level + 1] = slot + 1;
		path->buf[level] = right;
	}
}

static void dynmap_btree_grow(struct dynmap_tree *tree, struct dynmap_path *path)
{
	struct dynmap_buf *child = path->buf[tree->levels - 1];
	struct dynmap_buf *root = dynmap_node_new(tree->cache, tree->kind, tree->levels,
						  tree->owner, 0);

	dynmap_inner_insert(root, 0, 0, child);
	tree->root = dynmap_node_ptr(root);
	path->buf[tree->levels] = root;
	path->slot[tree->levels] = 0;
	tree->levels++;
	path->levels = tree->levels;
}

/*
 * Split near the end if the key, or the record of it that is replaced by several, is the last
 * one: streams fill their nodes; else in the middle.
 */
static u32 dynmap_btree_split_at(struct dynmap_buf *buf, u64 key)
{
	u32 count = dynmap_node_count(buf);

	if (dynmap_node_key(buf, count - 1) <= key)
		return count - max(count / 16, 1U);
	return count / 2;
}

/* Entries that a node of a level holds at most. */
static u32 dynmap_node_capacity(const struct dynmap_tree *tree, int level)
{
	return level ? DYNMAP_INNER_CAPACITY : dynmap_btree_capacity(tree->kind);
}

/* Make room in path->buf[level]; its parent, if any, has two entries free. */
static void dynmap_btree_make_room(struct dynmap_tree *tree, struct dynmap_path *path, int level,
				   u64 key, u32 room)
{
	struct dynmap_buf *buf = path->buf[level];
	u32 at;

	if (dynmap_node_count(buf) + room > dynmap_node_capacity(tree, level)) {
		if (level == (int)tree->levels - 1)
			dynmap_btree_grow(tree, path);
		at = dynmap_btree_split_at(buf, key);
		dynmap_btree_split(tree, path, level, at, dynmap_node_key(buf, at), key);
		buf = path->buf[level];
	}
	if (!level && tree->kind == DYNMAP_TREE_MAP &&
	    key - dynmap_node_base(buf) >= DYNMAP_LEAF_REACH) {
		if (level == (int)tree->levels - 1)
			dynmap_btree_grow(tree, path);
		dynmap_btree_split(tree, path, level, dynmap_node_count(buf), key, key);
	}
}

/*
 * Is the leaf of a path that was found DIRTY, not final, its tree's own, and with room? Then
 * so is all above it, but for the room, which is not needed: who wrote the leaf last made
 * the way to it writable, and no snapshot has been made since.
 */
static bool dynmap_path_is_writable(struct dynmap_tree *tree, const struct dynmap_path *path,
				    u64 key, u32 room)
{
	struct dynmap_buf *leaf;

	if (!tree->levels)
		return false;
	leaf = path->buf[0];
	if (leaf->state != DYNMAP_BUF_DIRTY || leaf->final ||
	    dynmap_node_is_shared(leaf, &tree->share) ||
	    (dynmap_node_count(leaf) + room) * dynmap_btree_record_bytes(tree->kind) >
	    DYNMAP_NODE_PAYLOAD)
		return false;
	return tree->kind != DYNMAP_TREE_MAP || key - dynmap_node_base(leaf) < DYNMAP_LEAF_REACH;
}

/* Go down again, with copies of what may not be changed, and splitting what is full. */
static void dynmap_path_make_writable(struct dynmap_tree *tree, u64 key, u32 room,
				      struct dynmap_path *path)
{
	struct dynmap_cache *cache = tree->cache;
	struct dynmap_ptr ptr;
	/* Where no record is added nothing is split, but for maps, whose leaves reach so far. */
	u32 above = room || tree->kind == DYNMAP_TREE_MAP ? 2 : 0;
	struct dynmap_buf *buf;
	int level;

	if (!tree->levels) {
		buf = dynmap_node_new(cache, tree->kind, 0, tree->owner, 0);
		tree->root = dynmap_node_ptr(buf);
		tree->levels = 1;
	}
	buf = dynmap_cache_find(cache, tree->root.pbn[0]);
	buf = dynmap_node_shadow(cache, buf, &tree->root, &tree->share);
	path->levels = tree->levels;
	path->high = ~0ULL;
	for (level = tree->levels - 1; ; level--) {
		path->buf[level] = buf;
		dynmap_btree_make_room(tree, path, level, key, level ? above : room);
		buf = path->buf[level];
		if (level + 1 < (int)path->levels) {
			struct dynmap_buf *parent = path->buf[level + 1];
			int next = path->slot[level + 1] + 1;

			if (next < (int)dynmap_node_count(parent))
				path->high = dynmap_node_key(parent, next);
		}
		path->slot[level] = dynmap_node_search(buf, key);
		if (!level)
			return;
		dynmap_child_get(buf, path->slot[level], &ptr);
		buf = dynmap_cache_find(cache, ptr.pbn[0]);
		buf = dynmap_node_shadow(cache, buf, &ptr, &tree->share);
		dynmap_child_set(path->buf[level], path->slot[level], &ptr);
	}
}

__hot void dynmap_btree_write_path(struct dynmap_tree *tree, u64 key, u32 room,
				   struct dynmap_path *path)
{
	if (!dynmap_path_is_writable(tree, path, key, room))
		dynmap_path_make_writable(tree, key, room, path);
}

__hot void dynmap_btree_stay(struct dynmap_path *path, u64 key)
{
	path->slot[0] = dynmap_node_search(path->buf[0], key);
}

__hot void *dynmap_leaf_splice(struct dynmap_path *path, int slot, u32 remove, u32 insert)
{
	struct dynmap_buf *leaf = path->buf[0];
	u32 bytes = dynmap_btree_record_bytes(dynmap_node_head(leaf)->kind);
	u8 *at = dynmap_leaf_record(leaf, slot);
	u32 count = dynmap_node_count(leaf);

	if (insert != remove)
		memmove(at + insert * bytes, at + remove * bytes, (count - slot - remove) * bytes);
	dynmap_node_set_count(leaf, count + insert - remove);
	return at;
}

static void dynmap_btree_make_empty(struct dynmap_tree *tree)
{
	tree->root.pbn[0] = DYNMAP_PBN_NONE;
	tree->root.pbn[1] = DYNMAP_PBN_NONE;
	tree->levels = 0;
}

/*
 * Remove an emptied leaf and the nodes above it that have no other child; true
 * if it is gone. A first child with siblings has to stay, because the keys
 * below theirs belong there: then the leaf stays, too.
 */
static bool dynmap_btree_drop_empty(struct dynmap_tree *tree, struct dynmap_path *path)
{
	u32 top = 0, level;

	if (dynmap_node_count(path->buf[0]))
		return false;
	while (top + 1 < tree->levels && dynmap_node_count(path->buf[top + 1]) == 1)
		top++;
	if (top + 1 < tree->levels && !path->slot[top + 1])
		return false;
	for (level = 0; level <= top; level++)
		dynmap_node_drop(tree->cache, path->buf[level]);
	if (top + 1 < tree->levels)
		dynmap_inner_remove(path->buf[top + 1], path->slot[top + 1]);
	else
		dynmap_btree_make_empty(tree);
	return true;
}

/* The child @slot of a node if it is in memory, else NULL. */
static struct dynmap_buf *dynmap_child_peek(struct dynmap_tree *tree, struct dynmap_buf *buf,
					    int slot)
{
	const struct dynmap_disk_child *child = dynmap_node_child(buf, slot);

	return dynmap_cache_find_verified(tree->cache, le64_to_cpu(child->pbn_a), tree->kind,
				 dynmap_node_head(buf)->level - 1, le64_to_cpu(child->key),
				 le32_to_cpu(child->crc));
}

/* Join path->buf[level] with its left sibling when both are cached and fit well. */
static bool dynmap_btree_join(struct dynmap_tree *tree, struct dynmap_path *path, int level)
{
	struct dynmap_buf *right = path->buf[level], *parent = path->buf[level + 1], *left;
	u32 capacity = dynmap_node_capacity(tree, level);
	u32 count = dynmap_node_count(right);
	int slot = path->slot[level + 1];
	struct dynmap_ptr ptr;

	if (!slot || count * 4 > capacity)
		return false;
	left = dynmap_child_peek(tree, parent, slot - 1);
	if (!left || dynmap_node_is_shared(left, &tree->share) ||
	    (count + dynmap_node_count(left)) * 4 > capacity * 3)
		return false;
	if (!level && tree->kind == DYNMAP_TREE_MAP &&
	    dynmap_leaf_key(right, count - 1) + DYNMAP_MAX_EXTENT_BLOCKS >
	    dynmap_node_base(left) + DYNMAP_LEAF_REACH)
		return false;
	dynmap_child_get(parent, slot - 1, &ptr);
	left = dynmap_node_shadow(tree->cache, left, &ptr, &tree->share);
	dynmap_child_set(parent, slot - 1, &ptr);
	dynmap_node_append(left, right, 0, count);
	dynmap_node_drop(tree->cache, right);
	dynmap_inner_remove(parent, slot);
	path->slot[level + 1] = slot - 1;
	path->buf[level] = left;
	return true;
}

void dynmap_btree_prune(struct dynmap_tree *tree, struct dynmap_path *path)
{
	struct dynmap_op op = {};
	struct dynmap_buf *root;
	struct dynmap_ptr ptr;
	u32 level;

	/* Of one that was revisited only the leaf is known; the way to it is DIRTY. */
	if (path->levels < tree->levels &&
	    WARN_ON_ONCE(dynmap_btree_find(tree, dynmap_leaf_key(path->buf[0], 0), path, &op)))
		return;
	if (!dynmap_btree_drop_empty(tree, path))
		for (level = 0; level + 1 < tree->levels; level++)
			if (!dynmap_btree_join(tree, path, level))
				break;
	while (tree->levels > 1) {
		root = dynmap_cache_find(tree->cache, tree->root.pbn[0]);
		if (dynmap_node_count(root) > 1)
			break;
		dynmap_child_get(root, 0, &ptr);
		dynmap_node_drop(tree->cache, root);
		tree->root = ptr;
		tree->levels--;
	}
}

int dynmap_btree_last(struct dynmap_tree *tree, struct dynmap_path *path, struct dynmap_op *op)
{
	struct dynmap_miss want = { .ptr = tree->root, .high = ~0ULL, .kind = tree->kind };
	int level, slot, ret;

	path->levels = tree->levels;
	path->high = ~0ULL;
	if (!tree->levels || dynmap_share_has(&tree->share, tree->root.generation))
		return -ENOENT;
	if (tree->levels >= DYNMAP_MAX_LEVELS)
		return -EUCLEAN;
	for (level = tree->levels - 1; ; level--) {
		want.level = level;
		ret = dynmap_cache_get(tree->cache, &want, op, &path->buf[level]);
		if (ret)
			return ret;
		slot = dynmap_node_count(path->buf[level]) - 1;
		path->slot[level] = slot;
		path->top = level;
		if (!level)
			return 0;
		dynmap_child_want(path->buf[level], slot, &want);
		if (dynmap_share_has(&tree->share, want.ptr.generation))
			return -ESTALE;
	}
}

void dynmap_btree_cut_last(struct dynmap_tree *tree, struct dynmap_path *path)
{
	struct dynmap_cache *cache = tree->cache;
	u32 level, top = path->top;
	struct dynmap_buf *buf;
	struct dynmap_ptr ptr;

	/* Nodes that lose their only child go, too. */
	if (!top)
		dynmap_node_drop(cache, path->buf[top++]);
	while (top < tree->levels && dynmap_node_count(path->buf[top]) == 1)
		dynmap_node_drop(cache, path->buf[top++]);
	if (top == tree->levels) {
		dynmap_btree_make_empty(tree);
		return;
	}
	buf = dynmap_node_shadow(cache, path->buf[tree->levels - 1], &tree->root, &tree->share);
	for (level = tree->levels - 1; level > top; level--) {
		dynmap_child_get(buf, path->slot[level], &ptr);
		path->buf[level] = buf;
		buf = dynmap_node_shadow(cache, path->buf[level - 1], &ptr, &tree->share);
		dynmap_child_set(path->buf[level], path->slot[level], &ptr);
	}
	dynmap_inner_remove(buf, path->slot[top]);
}

int dynmap_btree_get(struct dynmap_tree *tree, u64 key, void *record, struct dynmap_op *op)
{
	struct dynmap_path path;
	int ret = dynmap_btree_find(tree, key, &path, op);

	if (ret)
		return ret;
	if (path.slot[0] < 0 || dynmap_leaf_key(path.buf[0], path.slot[0]) != key)
		return -ENOENT;
	memcpy(record, dynmap_leaf_record(path.buf[0], path.slot[0]),
	       dynmap_btree_record_bytes(tree->kind));
	return 0;
}

int dynmap_btree_put(struct dynmap_tree *tree, u64 key, const void *record, struct dynmap_op *op)
{
	struct dynmap_path path;
	int ret = dynmap_btree_find(tree, key, &path, op);
	bool replace;

	if (ret && ret != -ENOENT)
		return ret;
	replace = !ret && path.slot[0] >= 0 &&
		  dynmap_leaf_key(path.buf[0], path.slot[0]) == key;
	dynmap_btree_write_path(tree, key, !replace, &path);
	memcpy(dynmap_leaf_splice(&path, path.slot[0] + !replace, replace, 1), record,
	       dynmap_btree_record_bytes(tree->kind));
	return 0;
}

int dynmap_btree_remove(struct dynmap_tree *tree, u64 key, struct dynmap_op *op)
{
	struct dynmap_path path;
	int ret = dynmap_btree_find(tree, key, &path, op);

	if (ret)
		return ret;
	if (path.slot[0] < 0 || dynmap_leaf_key(path.buf[0], path.slot[0]) != key)
		return -ENOENT;
	dynmap_btree_write_path(tree, key, 0, &path);
	dynmap_leaf_splice(&path, path.slot[0], 1, 0);
	dynmap_btree_prune(tree, &path);
	return 0;
}

int dynmap_btree_next(struct dynmap_tree *tree, u64 key, void *record, u64 *found,
		      struct dynmap_op *op)
{
	struct dynmap_path path;
	int ret, slot;

	for (;;) {
		ret = dynmap_btree_find(tree, key, &path, op);
		if (ret)
			return ret;
		slot = path.slot[0];
		if (slot < 0 || dynmap_leaf_key(path.buf[0], slot) < key)
			slot++;
		if (slot < (int)dynmap_node_count(path.buf[0]))
			break;
		if (path.high == ~0ULL)
			return -ENOENT;
		key = path.high;
	}
	*found = dynmap_leaf_key(path.buf[0], slot);
	memcpy(record, dynmap_leaf_record(path.buf[0], slot),
	       dynmap_btree_record_bytes(tree->kind));
	return 0;
}

/*
 * Walk the DIRTY part of the tree depth first with an explicit stack; by N2 a
 * clean node has no dirty descendant. What is final was reached before, maybe by a tree
 * that shares it.
 */
int dynmap_btree_seal(struct dynmap_tree *tree, u32 *most)
{
	struct dynmap_buf *stack[DYNMAP_MAX_LEVELS], *child;
	u32 next[DYNMAP_MAX_LEVELS];
	struct dynmap_ptr ptr;
	int level;

	if (!tree->levels)
		return 0;
	level = tree->levels - 1;
	stack[level] = dynmap_cache_find_verified(tree->cache, tree->root.pbn[0], tree->kind,
						  level, 0, tree->root.crc);
	if (!stack[level] || stack[level]->state != DYNMAP_BUF_DIRTY)
		return 0;
	if (stack[level]->final)
		level = tree->levels;
	else
		next[level] = 0;
	while (level < (int)tree->levels) {
		if (!level || next[level] == dynmap_node_count(stack[level])) {
			if (!*most)
				return -EINPROGRESS;
			--*most;
			dynmap_node_seal(tree->cache, stack[level]);
			if (++level < (int)tree->levels) {
				ptr = dynmap_node_ptr(stack[level - 1]);
				dynmap_child_set(stack[level], next[level]++, &ptr);
			}
			continue;
		}
		child = dynmap_child_peek(tree, stack[level], next[level]);
		if (!child || child->state != DYNMAP_BUF_DIRTY) {
			next[level]++;
			continue;
		}
		if (child->final) {
			ptr = dynmap_node_ptr(child);
			dynmap_child_set(stack[level], next[level]++, &ptr);
			continue;
		}
		stack[--level] = child;
		next[level] = 0;
	}
	tree->root = dynmap_node_ptr(stack[tree->levels - 1]);
	return 0;
}

/* One level further down towards @key; the node's children end at want->high. */
static int dynmap_descend(struct dynmap_tree *tree, struct dynmap_miss *want, u64 key,
			  struct dynmap_op *op)
{
	struct dynmap_buf *buf;
	int slot, ret = dynmap_cache_get(tree->cache, want, op, &buf);

	if (ret)
		return ret;
	slot = dynmap_node_search(buf, key);
	if (slot < 0)
		return -EUCLEAN;
	if (slot + 1 < (int)dynmap_node_count(buf))
		want->high = dynmap_node_key(buf, slot + 1);
	dynmap_child_want(buf, slot, want);
	return 0;
}

int dynmap_btree_same(struct dynmap_tree *a, struct dynmap_tree *b, u64 key, u64 *end,
		      struct dynmap_op *op)
{
	struct dynmap_miss at[2] = {
		{ .ptr = a->root, .high = ~0ULL, .kind = a->kind, .level = a->levels - 1 },
		{ .ptr = b->root, .high = ~0ULL, .kind = b->kind, .level = b->levels - 1 },
	};
	int ret = 0;

	*end = key;
	if (!a->levels || !b->levels)
		return 0;
	if (a->levels >= DYNMAP_MAX_LEVELS || b->levels >= DYNMAP_MAX_LEVELS)
		return -EUCLEAN;
	while (!ret) {
		if (at[0].level == at[1].level) {
			if (at[0].ptr.pbn[0] == at[1].ptr.pbn[0]) {
				*end = min(at[0].high, at[1].high);
				return 0;
			}
			if (!at[0].level)
				return 0;
		}
		ret = at[0].level < at[1].level ? dynmap_descend(b, &at[1], key, op) :
						  dynmap_descend(a, &at[0], key, op);
	}
	return ret;
}
