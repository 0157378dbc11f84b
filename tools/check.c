// SPDX-License-Identifier: GPL-2.0-only
/*
 * Checker, see check.h. Visits every node once, marks each block that it reaches, with the
 * volumes that use it, and compares with what the pool says of it.
 *
 * What is known of blocks is kept for a window of segments. When memory runs out the window
 * is cut at its end, and what is behind it comes in another pass over all nodes.
 */
#include <stdlib.h>

#include "tools/check.h"
#include "tools/holders.h"

#define CHUNK_BLOCKS		4096
#define CHUNKS			(DYNMAP_SEGMENT_BLOCKS / CHUNK_BLOCKS)
#define USER_IS_NODE		(1U << 31)	/* in walk_block.user */
#define MOST_EXPLAINED		16
#define DEFAULT_MEMORY		(128ULL << 20)

/*
 * A shared block. @birth: 0: none told of it yet; @user: the set of those who use it, see
 * holders.h, and what it holds; @given: weights of its entries in divergence trees.
 */
struct walk_block {
	u32 birth;
	u32 user;
	u64 given;
};

/* A part of a segment, for which memory is taken at once. */
struct walk_chunk {
	struct walk_block block[CHUNK_BLOCKS];
};

/*
 * A segment. @seen: blocks reached; @alone: those that one tree reached that shares none;
 * @data: how many hold data.
 */
struct walk_segment {
	u64 seen[DYNMAP_SEGMENT_WORDS];
	u64 alone[DYNMAP_SEGMENT_WORDS];
	u64 data;
	struct walk_chunk *chunk[CHUNKS];
};

/*
 * @segment: all of them, device after device; @base: the first one of each device;
 * @from, @end: the window; @memory: bytes that may be used, @used: for blocks;
 * @own: of each snapshot node: data blocks born between its parent and itself;
 * @counted: of each volume, as differences between one number and the next;
 * @tally: nodes of each kind; @unreadable: nodes; @unexplained: differences not told of.
 */
struct walk {
	struct dynmap_pool *pool;
	struct dynmap_check *check;
	const struct dynmap_check_how *how;
	struct holders holders;
	struct walk_segment **segment;
	u32 base[DYNMAP_MAX_DEVICES + 1];
	u32 from;
	u32 end;
	u64 memory;
	u64 used;
	u64 data;
	u64 *own;
	struct walk_count {
		s64 mapped;
		s64 reserved;
		s64 exclusive;
	} *counted;
	struct dynmap_tally tally[DYNMAP_TREE_KINDS];
	u64 unreadable;
	u64 unexplained;
	bool no_memory;
};

/*
 * A node to be visited: what its parent tells of it, the volume that is the only one to use
 * it, or NULL, all who use it, and the first of these.
 */
struct walk_item {
	struct dynmap_miss want;
	struct dynmap_volume *volume;
	u32 set;
	u32 first;
};

struct walk_items {
	struct walk_item *item;
	size_t count;
	size_t room;
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

static u32 segment_at(const struct walk *walk, u64 pbn)
{
	u32 segment = dynmap_pbn_segment(pbn);

	return walk->base[dynmap_segment_dev(segment)] + dynmap_segment_slot(segment);
}

static void drop_segment(struct walk *walk, u32 at)
{
	struct walk_segment *segment = walk->segment[at];
	u32 i;

	if (!segment)
		return;
	for (i = 0; i < CHUNKS; i++) {
		walk->used -= segment->chunk[i] ? sizeof(*segment->chunk[i]) : 0;
		dynmap_free(segment->chunk[i]);
	}
	walk->used -= sizeof(*segment);
	dynmap_free(segment);
	walk->segment[at] = NULL;
}

/* Memory for segment @at of the window; NULL if the window does not reach there any more. */
static void *walk_alloc(struct walk *walk, u32 at, size_t bytes)
{
	u64 sets = sizeof(u32) * walk->holders.set_room;
	void *memory;

	while (walk->end > walk->from + 1 && walk->used + bytes + sets > walk->memory)
		drop_segment(walk, --walk->end);
	if (at >= walk->end)
		return NULL;
	memory = dynmap_zalloc(bytes);
	walk->no_memory |= !memory;
	walk->used += memory ? bytes : 0;
	return memory;
}

/* What is known of the segment of a block; NULL: it is not in the window. */
static struct walk_segment *walk_segment(struct walk *walk, u64 pbn)
{
	u32 at = segment_at(walk, pbn);

	if (at < walk->from || at >= walk->end)
		return NULL;
	if (!walk->segment[at])
		walk->segment[at] = walk_alloc(walk, at, sizeof(**walk->segment));
	return walk->segment[at];
}

/* What is known of a shared block, and those behind it in its chunk; likewise. */
static struct walk_chunk *walk_chunk(struct walk *walk, u64 pbn)
{
	struct walk_segment *segment = walk_segment(walk, pbn);
	u32 i = dynmap_pbn_index(pbn) / CHUNK_BLOCKS;
	struct walk_chunk *chunk;

	if (!segment || segment->chunk[i])
		return segment ? segment->chunk[i] : NULL;
	chunk = walk_alloc(walk, segment_at(walk, pbn), sizeof(*chunk));
	/* To make room this segment may have gone. */
	if (chunk)
		segment->chunk[i] = chunk;
	return chunk;
}

static bool set_has(const u64 *words, u32 index)
{
	return words[index / 64] >> (index % 64) & 1;
}

/*
 * A run of shared blocks: @set uses it, and @given are weights of entries for it. All who tell
 * of it must agree when it was born.
 */
static void walk_share(struct walk *walk, u64 pbn, u64 len, u32 birth, u32 set, bool is_node,
		       u64 given)
{
	u32 index, users = 0, before = HOLDERS_NONE;
	struct walk_chunk *chunk = NULL;
	struct walk_block *block;

	for (; len; pbn++, len--) {
		index = dynmap_pbn_index(pbn) % CHUNK_BLOCKS;
		if (!chunk || !index)
			chunk = walk_chunk(walk, pbn);
		if (!chunk)
			return;
		block = &chunk->block[index];
		if (block->birth && block->birth != birth) {
			damaged(walk, "block %llu: born in generation %u, and in %u",
				(unsigned long long)pbn, block->birth, birth);
			return;
		}
		block->birth = birth;
		block->given += given;
		if (!set)
			continue;
		/* Neighbours often have the same users. */
		if (block->user != before) {
			before = block->user;
			users = holders_union(&walk->holders, before & ~USER_IS_NODE, set) |
				(before & USER_IS_NODE) | (is_node ? USER_IS_NODE : 0);
		}
		block->user = users;
	}
}

/* Was it born by @newest? */
static bool walk_birth(struct walk *walk, u64 pbn, u32 birth, u32 newest)
{
	if (birth && birth <= newest)
		return true;
	damaged(walk, "block %llu: born in generation %u", (unsigned long long)pbn, birth);
	return false;
}

/* Enter a run, which lies in one segment; one that @set shares may be met again. */
static void walk_mark(struct walk *walk, u64 pbn, u64 len, u32 birth, bool is_node,
		      bool shared, u32 set)
{
	struct walk_segment *segment = walk_segment(walk, pbn);
	u32 index = dynmap_pbn_index(pbn);
	u64 at = pbn, left = len;

	if (!segment || !walk_birth(walk, pbn, birth, walk->pool->cache.generation))
		return;
	for (; left; index++, at++, left--) {
		if (set_has(shared ? segment->alone : segment->seen, index))
			damaged(walk, "block %llu is used twice", (unsigned long long)at);
		segment->data += !is_node && !set_has(segment->seen, index);
		segment->seen[index / 64] |= 1ULL << (index % 64);
		if (!shared)
			segment->alone[index / 64] |= 1ULL << (index % 64);
	}
	if (shared)
		walk_share(walk, pbn, len, birth, set, is_node, 0);
}

/* In the first pass what does not depend on blocks is counted and told. */
static bool first_pass(const struct walk *walk)
{
	return !walk->from;
}

static void compare_copies(struct walk *walk, struct dynmap_buf *buf)
{
	struct dynmap_store *store = walk->pool->store;
	void *block = dynmap_block_alloc();
	u32 copy, dev;
	u64 at;

	walk->no_memory |= !block;
	for (copy = 0; copy < 2 && block; copy++) {
		if (buf->pbn[copy] == DYNMAP_PBN_NONE)
			continue;
		at = dynmap_pbn_locate(&walk->pool->geo, buf->pbn[copy], &dev);
		if (store->ops->read(store, dev, at, block) ||
		    memcmp(block, buf->data, DYNMAP_BLOCK_BYTES))
			repairable(walk, "node %llu: copy %c on device %u is bad",
				   (unsigned long long)buf->pbn[0], 'A' + copy, dev);
	}
	dynmap_block_free(block);
}

static void walk_node(struct walk *walk, struct dynmap_buf *buf, bool shared, u32 set)
{
	const struct dynmap_disk_node *head = dynmap_node_head(buf);
	u32 copy;

	for (copy = 0; copy < 2; copy++)
		if (buf->pbn[copy] != DYNMAP_PBN_NONE)
			walk_mark(walk, buf->pbn[copy], 1, le32_to_cpu(head->generation), true,
				  shared, set);
	if (!first_pass(walk))
		return;
	walk->check->nodes++;
	walk->tally[head->kind].nodes[head->level > 0]++;
	if (buf->state == DYNMAP_BUF_CLEAN)
		compare_copies(walk, buf);
	if (walk->how->progress && !(walk->check->nodes % DYNMAP_CHECK_PROGRESS))
		walk->how->progress(walk->check);
}

static void cannot_read(struct walk *walk, u64 pbn, u64 volume, int ret)
{
	if (ret == -ENOMEM)
		walk->no_memory = true;
	else if (first_pass(walk))
		damaged(walk, "node %llu of volume %llu is unreadable: error %d",
			(unsigned long long)pbn, (unsigned long long)volume, ret);
	walk->unreadable++;
}

/* Visit the nodes of a tree that shares none; each is seen once. */
static void walk_tree(struct walk *walk, struct dynmap_tree *tree)
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
			if (first_pass(walk))
				damaged(walk, "tree %u of %llu is unreadable from key %llu: error %d",
					tree->kind, (unsigned long long)tree->owner,
					(unsigned long long)key, ret);
			walk->unreadable++;
			return;
		}
		for (level = 0; level < path.levels; level++) {
			if (path.buf[level] != before[level])
				walk_node(walk, path.buf[level], false, 0);
			before[level] = path.buf[level];
		}
		key = path.high;
	} while (key != ~0ULL);
}

static int compare_places(const void *a, const void *b)
{
	u64 x = ((const struct walk_item *)a)->want.ptr.pbn[0];
	u64 y = ((const struct walk_item *)b)->want.ptr.pbn[0];

	return x < y ? -1 : x > y;
}

static int compare_users(const void *a, const void *b)
{
	u32 x = ((const struct walk_item *)a)->first;
	u32 y = ((const struct walk_item *)b)->first;

	return x != y ? (x < y ? -1 : 1) : compare_places(a, b);
}

/* Each node once, for all who use it. */
static void merge_items(struct walk *walk, struct walk_items *items)
{
	struct walk_item *item = items->item, *to = item, *next = item, *end = item + items->count;
	u32 ranges;

	if (items->count)
		qsort(item, items->count, sizeof(*item), compare_places);
	for (; next < end; to++) {
		item = to;
		*item = *next++;
		for (; next < end && !compare_places(item, next); next++) {
			if (item->volume || next->volume ||
			    memcmp(&item->want.ptr, &next->want.ptr, sizeof(item->want.ptr)) ||
			    item->want.base != next->want.base)
				damaged(walk, "node %llu is used twice",
					(unsigned long long)item->want.ptr.pbn[0]);
			item->set = holders_union(&walk->holders, item->set, next->set);
			/* Where it ends, its parents may see differently. */
			item->want.high = min(item->want.high, next->want.high);
		}
		item->first = *holders_ranges(&walk->holders, item->set, &ranges);
	}
	items->count = to - items->item;
}

/* One more; if there is no room, nodes that many share first become one item each. */
static void push(struct walk *walk, struct walk_items *items, const struct dynmap_miss *want,
		 struct dynmap_volume *volume, u32 set)
{
	struct walk_item *longer;

	if (items->count == items->room) {
		merge_items(walk, items);
		if (items->count >= items->room / 2) {
			longer = realloc(items->item, max_t(size_t, 2 * items->room, 1024) *
						      sizeof(*longer));
			walk->no_memory |= !longer;
			if (!longer)
				return;
			items->room = max_t(size_t, 2 * items->room, 1024);
			items->item = longer;
		}
	}
	if (volume && dynmap_share_has(&volume->map.share, want->ptr.generation))
		volume = NULL;
	items->item[items->count++] = (struct walk_item){
		.want = *want,
		.volume = volume,
		.set = set,
	};
}

/* The blocks of a record; it is decoded here again, not with what made it. */
static void walk_record(struct walk *walk, const struct walk_item *item,
			const struct dynmap_disk_map *map, struct walk_count *count)
{
	u32 high = le32_to_cpu(map->kind_pbn_high), birth = le32_to_cpu(map->birth);
	u64 pbn = (u64)(high & ((1U << DYNMAP_MAP_KIND_SHIFT) - 1)) << 16 |
		  le16_to_cpu(map->pbn_low);
	u32 kind = high >> DYNMAP_MAP_KIND_SHIFT, len = le16_to_cpu(map->len) + 1, written;
	bool shared = !item->volume || dynmap_share_has(&item->volume->map.share, birth);

	written = kind == DYNMAP_DATA ? len : 0;
	if (kind == DYNMAP_WINDOW) {
		written = hweight64((u64)le16_to_cpu(map->len));
		len = DYNMAP_WINDOW_BLOCKS;
	}
	walk_mark(walk, pbn, len, birth, false, shared, item->set);
	count->mapped += written;
	count->reserved += len - written;
	count->exclusive += shared ? 0 : len;
}

static void walk_leaf(struct walk *walk, const struct walk_item *item, struct dynmap_buf *buf)
{
	const struct dynmap_disk_map *map = dynmap_node_entries(buf);
	struct walk_count count = {}, *at = walk->counted;
	const u32 *range;
	u32 i, ranges;

	for (i = 0; i < dynmap_node_count(buf); i++)
		walk_record(walk, item, map + i, &count);
	if (!first_pass(walk))
		return;
	range = holders_ranges(&walk->holders, item->set, &ranges);
	for (i = 0; i < 2 * ranges; i++) {
		s64 sign = i % 2 ? -1 : 1;
		u32 number = range[i] + i % 2;

		at[number].mapped += sign * count.mapped;
		at[number].reserved += sign * count.reserved;
		at[number].exclusive += sign * count.exclusive;
	}
}

static void visit_item(struct walk *walk, const struct walk_item *item, struct walk_items *below)
{
	struct dynmap_miss child, next;
	struct dynmap_op op = {};
	struct dynmap_buf *buf;
	u32 i, count;
	int ret;

	with_nodes(ret, walk, &op, dynmap_cache_get(&walk->pool->cache, &item->want, &op, &buf));
	if (ret) {
		cannot_read(walk, item->want.ptr.pbn[0],
			    walk->holders.leaf[item->first].volume->id, ret);
		return;
	}
	walk_node(walk, buf, !item->volume, item->set);
	if (!item->want.level) {
		walk_leaf(walk, item, buf);
		return;
	}
	count = dynmap_node_count(buf);
	for (i = 0; i < count; i++) {
		dynmap_child_want(buf, i, &child);
		child.high = item->want.high;
		if (i + 1 < count) {
			dynmap_child_want(buf, i + 1, &next);
			child.high = next.base;
		}
		push(walk, below, &child, item->volume, item->set);
	}
}

static bool is_alive(const struct dynmap_volume *volume)
{
	return volume && volume->id <= DYNMAP_MAX_VOLUME_ID;
}

/* The maps of all volumes that are not deleted, level by level: each node is read once. */
static void walk_maps(struct walk *walk)
{
	struct holders *holders = &walk->holders;
	struct walk_items items = {}, below = {};
	struct dynmap_volume *volume;
	struct dynmap_miss want;
	u32 level, i;
	size_t at;

	for (level = DYNMAP_MAX_LEVELS; level-- && !walk->no_memory; ) {
		for (i = 0; i < holders->nr_leaves; i++) {
			volume = holders->leaf[i].volume;
			if (!is_alive(volume) || volume->map.levels != level + 1)
				continue;
			want = (struct dynmap_miss){
				.ptr = volume->map.root,
				.high = ~0ULL,
				.kind = DYNMAP_TREE_MAP,
				.level = level,
			};
			push(walk, &items, &want, volume, holders_one(holders, i));
		}
		merge_items(walk, &items);
		/* In this order the users of a block grow as one range: few sets are made. */
		if (items.count)
			qsort(items.item, items.count, sizeof(*items.item), compare_users);
		for (at = 0; at < items.count && !walk->no_memory; at++)
			visit_item(walk, &items.item[at], &below);
		items.count = 0;
		swap(items, below);
	}
	free(items.item);
	free(below.item);
}

/* Nothing of a sibling that is being deleted is still to become the volume's. */
static bool walk_settled(struct walk *walk, struct dynmap_volume *volume)
{
	struct dynmap_snap *snap;
	struct dynmap_op op = {};
	int ret;

	if (!volume->disk.parent)
		return true;
	with_nodes(ret, walk, &op, dynmap_snap_get(&walk->pool->table.family,
						   le64_to_cpu(volume->disk.parent), &snap, &op));
	return !ret && (!dynmap_snap_is_dying(snap) ||
			dynmap_snap_dead_side(snap) == le32_to_cpu(volume->disk.parent_slot));
}

/* Do the counters of the volumes tell what was counted? */
static void compare_volumes(struct walk *walk)
{
	struct walk_count sum = {};
	struct dynmap_volume *volume;
	u32 i;

	for (i = 0; i < walk->holders.nr_leaves; i++) {
		volume = walk->holders.leaf[i].volume;
		sum.mapped += walk->counted[i].mapped;
		sum.reserved += walk->counted[i].reserved;
		sum.exclusive += walk->counted[i].exclusive;
		if (!is_alive(volume))
			continue;
		walk->check->volumes++;
		walk->check->mapped += sum.mapped;
		walk->check->reserved += sum.reserved;
		/* What cannot be read was not counted. */
		if (walk->unreadable)
			continue;
		if (sum.mapped != volume->mapped || sum.reserved != volume->reserved)
			repairable(walk, "volume %llu: %llu mapped, %llu reserved; counted %lld, %lld",
				   (unsigned long long)volume->id,
				   (unsigned long long)volume->mapped,
				   (unsigned long long)volume->reserved, (long long)sum.mapped,
				   (long long)sum.reserved);
		if (walk_settled(walk, volume) && sum.exclusive != volume->exclusive)
			repairable(walk, "volume %llu: %llu exclusive, counted %lld",
				   (unsigned long long)volume->id,
				   (unsigned long long)volume->exclusive,
				   (long long)sum.exclusive);
	}
}

/* What a deleted volume has alone; what it shares is no longer its, and may be gone. */
static void walk_remains(struct walk *walk, struct dynmap_volume *volume,
			 struct dynmap_miss *want, u64 *exclusive)
{
	struct dynmap_mapping mapping;
	struct dynmap_miss below, next;
	struct dynmap_op op = {};
	struct dynmap_buf *buf;
	u64 lbn, end;
	int ret, i;

	if (dynmap_share_has(&volume->map.share, want->ptr.generation))
		return;
	with_nodes(ret, walk, &op, dynmap_cache_get(&walk->pool->cache, want, &op, &buf));
	if (ret) {
		cannot_read(walk, want->ptr.pbn[0], volume->id, ret);
		return;
	}
	walk_node(walk, buf, false, 0);
	for (i = 0; want->level && i < (int)dynmap_node_count(buf); i++) {
		dynmap_child_want(buf, i, &below);
		below.high = want->high;
		if (i + 1 < (int)dynmap_node_count(buf)) {
			dynmap_child_want(buf, i + 1, &next);
			below.high = next.base;
		}
		walk_remains(walk, volume, &below, exclusive);
	}
	if (want->level || !dynmap_node_count(buf))
		return;
	end = min(want->high, dynmap_leaf_key(buf, dynmap_node_count(buf) - 1) +
			      DYNMAP_MAX_EXTENT_BLOCKS);
	end = min_t(u64, end, DYNMAP_MAX_LBN);
	for (lbn = dynmap_leaf_key(buf, 0); lbn < end; lbn += mapping.len) {
		with_nodes(ret, walk, &op, dynmap_table_lookup(volume, lbn, &mapping, &op));
		if (ret)
			return;
		if (mapping.kind == DYNMAP_HOLE || mapping.shared)
			continue;
		walk_mark(walk, mapping.pbn, mapping.len, mapping.birth, false, false, 0);
		*exclusive += mapping.len;
	}
}

static void walk_deleted(struct walk *walk, struct dynmap_volume *volume)
{
	struct dynmap_miss want = {
		.ptr = volume->map.root,
		.high = ~0ULL,
		.kind = DYNMAP_TREE_MAP,
		.level = volume->map.levels - 1,
	};
	u64 exclusive = 0;

	if (volume->map.levels)
		walk_remains(walk, volume, &want, &exclusive);
	if (!first_pass(walk))
		return;
	if (walk_settled(walk, volume) && exclusive != volume->exclusive)
		repairable(walk, "deleted volume %llu: %llu exclusive, counted %llu",
			   (unsigned long long)volume->id, (unsigned long long)volume->exclusive,
			   (unsigned long long)exclusive);
	walk->check->volumes++;
}

/* Who uses what, and all volumes and snapshot nodes in memory. */
static void load_holders(struct walk *walk)
{
	struct dynmap_table *table = &walk->pool->table;
	struct dynmap_disk_snapshot snapshot;
	struct dynmap_disk_volume disk;
	struct dynmap_volume *volume;
	struct dynmap_snap *snap;
	struct dynmap_op op = {};
	u64 id = 0;
	int ret;

	for (;; id++) {
		with_nodes(ret, walk, &op,
			   dynmap_btree_next(&table->family.snaps, id, &snapshot, &id, &op));
		if (!ret)
			with_nodes(ret, walk, &op, dynmap_snap_get(&table->family, id, &snap, &op));
		if (ret)
			break;
		holders_add_node(&walk->holders, snap);
	}
	if (ret != -ENOENT)
		damaged(walk, "snapshot nodes from %llu on are unreadable: error %d",
			(unsigned long long)id, ret);
	for (id = 0;; id++) {
		with_nodes(ret, walk, &op,
			   dynmap_btree_next(&table->volumes, id, &disk, &id, &op));
		if (!ret)
			with_nodes(ret, walk, &op, dynmap_volume_load(table, id, &volume, &op));
		if (!ret)
			with_nodes(ret, walk, &op, dynmap_volume_refresh(table, volume, &op));
		if (ret)
			break;
		holders_add_volume(&walk->holders, volume);
	}
	if (ret != -ENOENT)
		damaged(walk, "volumes from %llu on are unreadable: error %d",
			(unsigned long long)id, ret);
	holders_number(&walk->holders);
	walk->check->damaged += walk->holders.faults;
	walk->check->snapshots = walk->holders.nr_nodes;
}

/* Call @visit with each entry of the divergence tree of a node. */
static void each_divergence(struct walk *walk, const struct holders_node *node,
			    void (*visit)(struct walk *walk, const struct holders_node *node,
					  const struct dynmap_disk_divergence *entry))
{
	struct dynmap_disk_divergence entry;
	struct dynmap_op op = {};
	u64 key = 0;
	int ret;

	for (;; key++) {
		with_nodes(ret, walk, &op,
			   dynmap_btree_next(&node->snap->divergence, key, &entry, &key, &op));
		if (ret)
			return;		/* walk_tree() told */
		visit(walk, node, &entry);
	}
}

/*
 * May an entry of a dying node be for blocks that are gone, and used anew? It may if the
 * dead side gave them up. What the survivor gave up is in use until the node is drained;
 * unless that side of an ancestor was deleted meanwhile: then it is the other side's.
 */
static bool may_be_gone(struct walk *walk, struct dynmap_snap *snap,
			const struct dynmap_disk_divergence *entry)
{
	u32 side = le32_to_cpu(snap->disk.parent_slot);
	struct dynmap_snap *above;
	struct dynmap_op op = {};
	int ret;

	if (entry->side == dynmap_snap_dead_side(snap))
		return true;
	with_nodes(ret, walk, &op, dynmap_family_next(&walk->pool->table.family,
						      le64_to_cpu(snap->disk.parent), &side,
						      &above, &op));
	if (ret) {
		damaged(walk, "snapshot node %llu: no parent: error %d",
			(unsigned long long)snap->id, ret);
		return true;
	}
	return above && dynmap_snap_is_dying(above) &&
	       le32_to_cpu(entry->birth) <= le32_to_cpu(above->disk.generation);
}

/*
 * An entry of a dying node: until the node is drained what the survivor gave up is in use,
 * for those above it by the side that was deleted.
 */
static void visit_waiting(struct walk *walk, const struct holders_node *node,
			  const struct dynmap_disk_divergence *entry)
{
	struct dynmap_snap *snap = node->snap;
	u64 pbn = le64_to_cpu(entry->pbn);
	u32 birth = le32_to_cpu(entry->birth), set = 0;

	if (!walk_segment(walk, pbn) || may_be_gone(walk, snap, entry) ||
	    !walk_birth(walk, pbn, birth, le32_to_cpu(snap->disk.generation)))
		return;
	if (!node->dead)
		set = holders_one(&walk->holders,
				  dynmap_snap_dead_side(snap) ? node->middle : node->first);
	walk_mark(walk, pbn, le32_to_cpu(entry->len), birth, entry->is_node, true, set);
}

static void visit_entry(struct walk *walk, const struct holders_node *node,
			const struct dynmap_disk_divergence *entry)
{
	u64 pbn = le64_to_cpu(entry->pbn);
	u32 birth = le32_to_cpu(entry->birth);

	if (walk_segment(walk, pbn) &&
	    walk_birth(walk, pbn, birth, le32_to_cpu(node->snap->disk.generation)))
		walk_share(walk, pbn, le32_to_cpu(entry->len), birth, 0, false,
			   node->weight[entry->side]);
}

static void walk_divergence(struct walk *walk)
{
	struct holders_node *node = walk->holders.node;
	struct holders_node *end = node + walk->holders.nr_nodes;

	for (; node < end && !walk->no_memory; node++) {
		walk_tree(walk, &node->snap->divergence);
		/* Of one that is below no root nothing is known. */
		if (node->stage > 2)
			each_divergence(walk, node, dynmap_snap_is_dying(node->snap) ?
					visit_waiting : visit_entry);
	}
}

/* Is a block entered in a divergence tree, and for which side? A side, or -1. */
static int entered(struct walk *walk, struct dynmap_snap *snap, u64 pbn)
{
	const struct dynmap_disk_divergence *entry;
	struct dynmap_path path;
	struct dynmap_op op = {};
	int ret;

	with_nodes(ret, walk, &op, dynmap_btree_find(&snap->divergence, pbn, &path, &op));
	if (ret || path.slot[0] < 0)
		return -1;
	entry = dynmap_leaf_record(path.buf[0], path.slot[0]);
	return pbn < le64_to_cpu(entry->pbn) + le32_to_cpu(entry->len) ? entry->side : -1;
}

/* Say which entries of a block are wrong. */
static void explain(struct walk *walk, u64 pbn, u32 birth, u32 set)
{
	const struct holders_node *node = walk->holders.node;
	const struct holders_node *end = node + walk->holders.nr_nodes;
	int want, found;
	bool has[2];

	for (; node < end; node++) {
		if (dynmap_snap_is_dying(node->snap) || node->stage < 3)
			continue;
		has[0] = holders_on_side(&walk->holders, set, node, 0);
		has[1] = holders_on_side(&walk->holders, set, node, 1);
		want = has[0] == has[1] || le32_to_cpu(node->snap->disk.generation) < birth ?
		       -1 : has[0];
		found = entered(walk, node->snap, pbn);
		if (found != want)
			dynmap_err("snapshot node %llu: block %llu given up by side %d, entered for %d",
				   (unsigned long long)node->snap->id, (unsigned long long)pbn,
				   want, found);
	}
}

/* The entries of a shared block, and the counters, call for what volumes use. */
static void compare_block(struct walk *walk, u64 pbn, const struct walk_block *block)
{
	u32 set = block->user & ~USER_IS_NODE, top = HOLDERS_NONE;
	u64 weight = 0;

	if (set && !holders_weight(&walk->holders, set, block->birth, &top, &weight)) {
		damaged(walk, "block %llu: used by volumes that cannot share it",
			(unsigned long long)pbn);
		return;
	}
	if (top != HOLDERS_NONE && !(block->user & USER_IS_NODE))
		walk->own[top]++;
	if (weight == block->given)
		return;
	walk->check->damaged++;
	if (walk->check->damaged > MOST_EXPLAINED) {
		walk->unexplained++;
		return;
	}
	dynmap_err("block %llu: who uses it and the divergence trees differ",
		   (unsigned long long)pbn);
	explain(walk, pbn, block->birth, set);
}

/* Allocated in a segment is exactly what was reached. */
static void compare_segment(struct walk *walk, u32 number, const struct walk_segment *reached)
{
	struct dynmap_seg *seg = dynmap_alloc_seg(&walk->pool->alloc, number);
	u64 seen, bits, pbn;
	u32 word, i, index;

	for (word = 0; word < DYNMAP_SEGMENT_WORDS && (seg || reached); word++) {
		seen = reached ? reached->seen[word] : 0;
		bits = seg ? seg->allocated[word] : 0;
		pbn = dynmap_segment_pbn(number) + word * 64;
		if (seen & ~bits)
			damaged(walk, "blocks from %llu, mask %016llx: used, not allocated",
				(unsigned long long)pbn, (unsigned long long)(seen & ~bits));
		if (bits & ~seen)
			repairable(walk, "blocks from %llu, mask %016llx: lost",
				   (unsigned long long)pbn, (unsigned long long)(bits & ~seen));
	}
	if (!reached)
		return;
	walk->data += reached->data;
	/* What users have that cannot be read is not known. */
	pbn = dynmap_segment_pbn(number);
	for (i = 0; i < CHUNKS && !walk->unreadable; i++, pbn += CHUNK_BLOCKS)
		for (index = 0; reached->chunk[i] && index < CHUNK_BLOCKS; index++)
			if (reached->chunk[i]->block[index].birth)
				compare_block(walk, pbn + index, &reached->chunk[i]->block[index]);
}

/* The window was filled: compare, and go on behind it. */
static void compare_window(struct walk *walk)
{
	u32 dev = 0, at;

	for (at = walk->from; at < walk->end; at++) {
		while (at >= walk->base[dev + 1])
			dev++;
		compare_segment(walk, dynmap_segment_number(dev, at - walk->base[dev]),
				walk->segment[at]);
		drop_segment(walk, at);
	}
	walk->from = walk->end;
	walk->end = walk->base[walk->pool->geo.nr_devs];
}

/* The counters of the snapshot nodes that no dying parent still counts for. */
static void compare_own(struct walk *walk)
{
	const struct holders_node *node;
	u32 i;

	for (i = 0; i < walk->holders.nr_nodes && !walk->unreadable; i++) {
		node = &walk->holders.node[i];
		if (dynmap_snap_is_dying(node->snap) || node->stage < 3 ||
		    (node->parent != HOLDERS_NONE &&
		     dynmap_snap_is_dying(walk->holders.node[node->parent].snap)))
			continue;
		if (walk->own[i] != node->snap->own)
			repairable(walk, "snapshot node %llu: %llu own blocks, counted %llu",
				   (unsigned long long)node->snap->id,
				   (unsigned long long)node->snap->own,
				   (unsigned long long)walk->own[i]);
	}
}

/* Are the nodes of a tree of the pool counted right? */
static void walk_tally(struct walk *walk, u8 kind)
{
	const struct dynmap_tally *kept = &walk->pool->cache.tally[kind];
	const struct dynmap_tally *seen = &walk->tally[kind];

	if (kept->nodes[0] != seen->nodes[0] || kept->nodes[1] != seen->nodes[1])
		repairable(walk, "tree %u: %llu leaves, %llu inner nodes; counted %llu, %llu", kind,
			   (unsigned long long)kept->nodes[0], (unsigned long long)kept->nodes[1],
			   (unsigned long long)seen->nodes[0], (unsigned long long)seen->nodes[1]);
}

/* Visit all nodes, and compare what of the blocks fits into memory. */
static void walk_pass(struct walk *walk)
{
	struct dynmap_pool *pool = walk->pool;
	u32 i;

	walk->check->passes++;
	walk_tree(walk, &pool->segments);
	walk_tree(walk, &pool->alloc.space);
	walk_tree(walk, &pool->table.volumes);
	walk_tree(walk, &pool->table.family.snaps);
	walk_maps(walk);
	for (i = 0; i < walk->holders.nr_volumes && !walk->no_memory; i++)
		if (!is_alive(walk->holders.volume[i]))
			walk_deleted(walk, walk->holders.volume[i]);
	walk_divergence(walk);
	walk->no_memory |= walk->holders.no_memory;
	if (walk->no_memory)
		return;
	if (first_pass(walk)) {
		walk_tally(walk, DYNMAP_TREE_VOLUME);
		walk_tally(walk, DYNMAP_TREE_SPACE);
		walk_tally(walk, DYNMAP_TREE_SNAPSHOT);
		compare_volumes(walk);
	}
	compare_window(walk);
}

static bool walk_init(struct walk *walk)
{
	const struct dynmap_geometry *geo = &walk->pool->geo;
	u32 dev;

	walk->memory = walk->how->memory ? walk->how->memory : DEFAULT_MEMORY;
	for (dev = 0; dev < geo->nr_devs; dev++)
		walk->base[dev + 1] = walk->base[dev] + geo->dev[dev].slots;
	walk->end = walk->base[geo->nr_devs];
	load_holders(walk);
	walk->segment = dynmap_zalloc(walk->end * sizeof(*walk->segment));
	walk->own = dynmap_zalloc((walk->holders.nr_nodes + 1) * sizeof(*walk->own));
	walk->counted = dynmap_zalloc((walk->holders.nr_leaves + 1) * sizeof(*walk->counted));
	return walk->segment && walk->own && walk->counted && !walk->holders.no_memory;
}

int dynmap_check_pool(struct dynmap_pool *pool, const struct dynmap_check_how *how,
		      struct dynmap_check *check)
{
	static const struct dynmap_check_how as_usual;
	struct walk walk = { .pool = pool, .check = check, .how = how ? how : &as_usual };
	u32 at;

	memset(check, 0, sizeof(*check));
	walk.no_memory = !walk_init(&walk);
	while (walk.from < walk.end && !walk.no_memory)
		walk_pass(&walk);
	if (!walk.no_memory) {
		compare_own(&walk);
		if (walk.data != pool->alloc.data_allocated)
			repairable(&walk, "%llu data blocks allocated, %llu counted",
				   (unsigned long long)pool->alloc.data_allocated,
				   (unsigned long long)walk.data);
		if (walk.unexplained)
			dynmap_err("of %llu more blocks who uses them and the divergence trees differ",
				   (unsigned long long)walk.unexplained);
	}
	for (at = 0; walk.segment && at < walk.base[pool->geo.nr_devs]; at++)
		drop_segment(&walk, at);
	holders_exit(&walk.holders);
	dynmap_free(walk.segment);
	dynmap_free(walk.own);
	dynmap_free(walk.counted);
	return walk.no_memory ? -ENOMEM : 0;
}
