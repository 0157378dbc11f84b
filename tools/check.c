// SPDX-License-Identifier: GPL-2.0-only
/* Checker, see check.h. Walks every tree and marks each block that it reaches. */
#include "tools/check.h"

/* @seen: per device, per slot: a bitmap of the blocks reached, made when needed. */
struct dynmap_walk {
	struct dynmap_pool *pool;
	struct dynmap_check *check;
	u64 **seen[DYNMAP_MAX_DEVICES];
	bool no_memory;
};

#define damaged(walk, ...)	((walk)->check->damaged++, dynmap_err(__VA_ARGS__))
#define repairable(walk, ...)	((walk)->check->repairable++, dynmap_err(__VA_ARGS__))

/* Nodes are brought until @expression needs none. */
#define with_nodes(ret, walk, op, expression)					\
	do {									\
		(ret) = (expression);						\
		if ((ret) != -EAGAIN)						\
			break;							\
		(ret) = dynmap_pool_help((walk)->pool, op, ret);		\
	} while (!(ret))

/* Enter a run, which lies in one segment, into that segment's bitmap. */
static void walk_mark(struct dynmap_walk *walk, u64 pbn, u64 len)
{
	u32 segment = dynmap_pbn_segment(pbn), index = dynmap_pbn_index(pbn);
	u64 **at = &walk->seen[dynmap_segment_dev(segment)][dynmap_segment_slot(segment)];

	if (!*at)
		*at = dynmap_zalloc(DYNMAP_SEGMENT_WORDS * sizeof(**at));
	if (!*at) {
		walk->no_memory = true;
		return;
	}
	for (; len; index++, pbn++, len--) {
		if ((*at)[index / 64] >> (index % 64) & 1)
			damaged(walk, "block %llu is used twice", (unsigned long long)pbn);
		(*at)[index / 64] |= 1ULL << (index % 64);
	}
}

static void walk_node(struct dynmap_walk *walk, struct dynmap_buf *buf)
{
	struct dynmap_store *store = walk->pool->store;
	void *block;
	u32 copy, dev;
	u64 at;

	walk->check->nodes++;
	block = dynmap_block_alloc();
	for (copy = 0; copy < 2; copy++) {
		if (buf->pbn[copy] == DYNMAP_PBN_NONE)
			continue;
		walk_mark(walk, buf->pbn[copy], 1);
		if (!block || buf->state != DYNMAP_BUF_CLEAN)
			continue;
		at = dynmap_pbn_locate(&walk->pool->geo, buf->pbn[copy], &dev);
		if (store->ops->read(store, dev, at, block) ||
		    memcmp(block, buf->data, DYNMAP_BLOCK_BYTES))
			repairable(walk, "node %llu: copy %c on device %u is bad",
				   (unsigned long long)buf->pbn[0], 'A' + copy, dev);
	}
	dynmap_block_free(block);
}

/* Visit the nodes of a tree; each is seen once. */
static void walk_tree(struct dynmap_walk *walk, struct dynmap_tree *tree)
{
	struct dynmap_buf *before[DYNMAP_MAX_LEVELS] = {};
	struct dynmap_path path;
	struct dynmap_op op = {};
	u64 key = 0;
	u32 level;
	int ret;

	do {
		with_nodes(ret, walk, &op, dynmap_btree_find(tree, key, &path, &op));
		if (ret == -ENOENT)
			return;
		if (ret) {
			damaged(walk, "tree %u of %llu is unreadable from key %llu: error %d",
				tree->kind, (unsigned long long)tree->owner,
				(unsigned long long)key, ret);
			return;
		}
		for (level = 0; level < path.levels; level++) {
			if (path.buf[level] != before[level])
				walk_node(walk, path.buf[level]);
			before[level] = path.buf[level];
		}
		key = path.high;
	} while (key != ~0ULL);
}

static void walk_volume(struct dynmap_walk *walk, struct dynmap_volume *volume)
{
	u64 lbn = 0, mapped = 0, reserved = 0;
	struct dynmap_mapping mapping;
	struct dynmap_op op = {};
	int ret;

	walk_tree(walk, &volume->map);
	for (; lbn < DYNMAP_MAX_LBN; lbn += mapping.len) {
		with_nodes(ret, walk, &op, dynmap_table_lookup(volume, lbn, &mapping, &op));
		if (ret)
			return;	/* walk_tree() told */
		if (mapping.kind == DYNMAP_HOLE)
			continue;
		walk_mark(walk, mapping.pbn, mapping.len);
		if (mapping.kind == DYNMAP_DATA)
			mapped += mapping.len;
		else
			reserved += mapping.len;
	}
	if (mapped != volume->mapped || reserved != volume->reserved)
		repairable(walk, "volume %llu: %llu mapped, %llu reserved; counted %llu, %llu",
			   (unsigned long long)volume->id, (unsigned long long)volume->mapped,
			   (unsigned long long)volume->reserved, (unsigned long long)mapped,
			   (unsigned long long)reserved);
	walk->check->volumes++;
	walk->check->mapped += mapped;
	walk->check->reserved += reserved;
}

static void walk_volumes(struct dynmap_walk *walk)
{
	struct dynmap_table *table = &walk->pool->table;
	struct dynmap_disk_volume disk;
	struct dynmap_volume *volume;
	struct dynmap_op op = {};
	u64 id = 0;
	int ret;

	for (;; id++) {
		with_nodes(ret, walk, &op,
			   dynmap_btree_next(&table->volumes, id, &disk, &id, &op));
		if (!ret)
			with_nodes(ret, walk, &op, dynmap_volume_load(table, id, &volume, &op));
		if (ret == -ENOENT)
			return;
		if (ret) {
			damaged(walk, "volumes from %llu on are unreadable: error %d",
				(unsigned long long)id, ret);
			return;
		}
		walk_volume(walk, volume);
	}
}

/* Allocated in a segment is exactly what was reached. */
static void walk_compare(struct dynmap_walk *walk, u32 segment, const u64 *seen_map)
{
	struct dynmap_seg *seg = dynmap_alloc_seg(&walk->pool->alloc, segment);
	u64 seen, bits, pbn;
	u32 word;

	for (word = 0; word < DYNMAP_SEGMENT_WORDS && (seg || seen_map); word++) {
		seen = seen_map ? seen_map[word] : 0;
		bits = seg ? seg->allocated[word] : 0;
		pbn = dynmap_segment_pbn(segment) + word * 64;
		if (seen & ~bits)
			damaged(walk, "blocks from %llu, mask %016llx: used, not allocated",
				(unsigned long long)pbn, (unsigned long long)(seen & ~bits));
		if (bits & ~seen)
			repairable(walk, "blocks from %llu, mask %016llx: lost",
				   (unsigned long long)pbn, (unsigned long long)(bits & ~seen));
	}
}

int dynmap_check_pool(struct dynmap_pool *pool, struct dynmap_check *check)
{
	struct dynmap_walk walk = { .pool = pool, .check = check };
	u32 dev, slot;

	memset(check, 0, sizeof(*check));
	for (dev = 0; dev < pool->geo.nr_devs; dev++) {
		walk.seen[dev] = dynmap_zalloc(pool->geo.dev[dev].slots * sizeof(u64 *));
		walk.no_memory |= !walk.seen[dev];
	}
	if (!walk.no_memory) {
		walk_tree(&walk, &pool->segments);
		walk_tree(&walk, &pool->alloc.space);
		walk_tree(&walk, &pool->table.volumes);
		walk_volumes(&walk);
	}
	for (dev = 0; dev < pool->geo.nr_devs; dev++) {
		for (slot = 0; walk.seen[dev] && slot < pool->geo.dev[dev].slots; slot++) {
			if (!walk.no_memory)
				walk_compare(&walk, dynmap_segment_number(dev, slot),
					     walk.seen[dev][slot]);
			dynmap_free(walk.seen[dev][slot]);
		}
		dynmap_free(walk.seen[dev]);
	}
	if (check->mapped + check->reserved != pool->alloc.data_allocated)
		repairable(&walk, "%llu data blocks allocated, %llu counted",
			   (unsigned long long)pool->alloc.data_allocated,
			   (unsigned long long)(check->mapped + check->reserved));
	return walk.no_memory ? -ENOMEM : 0;
}
