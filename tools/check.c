// SPDX-License-Identifier: GPL-2.0-only
/*
 * Checker, see check.h. Visits the nodes of all maps from the roots down, level by level, each
 * one once for all volumes that use it, and marks each block that it reaches. Who uses shared
 * blocks is told in the order of the volumes (holders.h): of a block the last user is then all
 * that must be known. So a leaf is visited once for each range of volumes that use it; there
 * are no more of these than entries of it in divergence trees. Then what was found is compared
 * with what the pool says.
 *
 * What is known of blocks may be kept for a part of them only (seen.h): then all nodes are
 * visited in several passes.
 */
#include <stdlib.h>

#include "tools/check.h"
#include "tools/seen.h"

#define MOST_EXPLAINED		16
#define DEFAULT_MEMORY		(128ULL << 20)

/*
 * A node to be visited: what its parent tells of it, the volume that is the only one to use
 * it, or NULL, all who use it, and whether it could not be read.
 */
struct walk_item {
	struct dynmap_miss want;
	struct dynmap_volume *volume;
	u32 set;
	bool lost;
};

struct walk_items {
	struct walk_item *item;
	size_t count;
	size_t room;
};

/*
 * Users come in the order of their numbers: from @first to @last they use node @index of
 * walk->node or, behind the last one, what waits for a snapshot node to be drained or, behind
 * these, dead extent @index, which waits.
 */
struct walk_event {
	u32 first;
	u32 last;
	u64 index;
};

/*
 * @seen: what is known of blocks; @data: how many hold data;
 * @node, @event: nodes that are shared, or hold what is, and when who uses them;
 * @dead: dead extents that wait, and of which a side of a snapshot node is still told;
 * @own: of each snapshot node: data blocks born between its parent and itself;
 * @counted: of each volume, as differences between one number and the next;
 * @tally: nodes of each kind; @unreadable: nodes of no volume; @missing: of each root of
 * a family: nodes that could not be read, @any_missing: of any; @explained: differences that
 * were told of, @unexplained: the others.
 */
struct walk {
	struct dynmap_pool *pool;
	struct dynmap_check *check;
	const struct dynmap_check_how *how;
	struct holders holders;
	struct seen seen;
	u64 data;
	struct walk_items node;
	struct walk_event *event;
	size_t nr_events;
	size_t event_room;
	struct walk_dead {
		const struct dynmap_dead_extent *dead;
		u32 node;
		u32 side;
	} *dead;
	size_t nr_dead;
	size_t dead_room;
	u64 *own;
	struct walk_count {
		s64 mapped;
		s64 reserved;
		s64 exclusive;
		s64 missing;
	} *counted;
	struct dynmap_tally tally[DYNMAP_TREE_KINDS];
	u64 unreadable;
	u64 *missing;
	bool any_missing;
	u32 explained;
	u64 unexplained;
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

/* In the first pass what does not depend on blocks is counted and told. */
static bool first_pass(const struct walk *walk)
{
	return !walk->seen.from;
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

static void walk_node(struct walk *walk, struct dynmap_buf *buf, bool shared)
{
	const struct dynmap_disk_node *head = dynmap_node_head(buf);
	u32 copy;

	for (copy = 0; copy < 2; copy++)
		if (buf->pbn[copy] != DYNMAP_PBN_NONE)
			seen_mark(&walk->seen, buf->pbn[copy], 1,
				  le32_to_cpu(head->generation), true, shared);
	if (!first_pass(walk))
		return;
	walk->check->nodes++;
	walk->tally[head->kind].nodes[head->level > 0]++;
	if (buf->state == DYNMAP_BUF_CLEAN)
		compare_copies(walk, buf);
	if (walk->how->progress && !(walk->check->nodes % DYNMAP_CHECK_PROGRESS))
		walk->how->progress(walk->check);
}

/* A node could not be read: the family of root @tree, or HOLDERS_NONE: all, is not compared. */
static void is_missing(struct walk *walk, u32 tree)
{
	if (tree == HOLDERS_NONE)
		walk->unreadable++;
	else
		walk->missing[tree]++;
	walk->any_missing = true;
}

static void cannot_read(struct walk *walk, u64 pbn, u64 volume, int ret)
{
	if (ret == -ENOMEM)
		walk->no_memory = true;
	else if (first_pass(walk))
		damaged(walk, "node %llu of volume %llu is unreadable: error %d",
			(unsigned long long)pbn, (unsigned long long)volume, ret);
}

/* Visit the nodes of a tree that shares none, of the family below root @family or of none. */
static void walk_tree(struct walk *walk, struct dynmap_tree *tree, u32 family)
{
	u64 before[DYNMAP_MAX_LEVELS], key = 0;
	struct dynmap_path path;
	struct dynmap_op op = {};
	u32 level;
	int ret;

	/* By place: a node may leave memory and come back in another buffer. */
	for (level = 0; level < DYNMAP_MAX_LEVELS; level++)
		before[level] = DYNMAP_PBN_NONE;
	do {
		with_nodes(ret, walk, &op, dynmap_btree_find(tree, key, &path, &op));
		if (ret == -ENOENT)
			return;
		if (ret) {
			if (first_pass(walk))
				damaged(walk, "tree %u of %llu is unreadable from key %llu: error %d",
					tree->kind, (unsigned long long)tree->owner,
					(unsigned long long)key, ret);
			is_missing(walk, family);
			return;
		}
		for (level = 0; level < path.levels; level++) {
			if (path.buf[level]->pbn[0] != before[level])
				walk_node(walk, path.buf[level], false);
			before[level] = path.buf[level]->pbn[0];
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

/* Each node once, for all who use it. */
static void merge_items(struct walk *walk, struct walk_items *items)
{
	struct walk_item *item, *next;
	size_t count = 0, at = 0;

	if (items->count)
		qsort(items->item, items->count, sizeof(*item), compare_places);
	for (; at < items->count; count++) {
		item = &items->item[count];
		*item = items->item[at++];
		if (at == items->count || compare_places(item, &items->item[at]))
			continue;
		holders_gather(&walk->holders, item->set);
		for (; at < items->count; at++) {
			next = &items->item[at];
			if (compare_places(item, next))
				break;
			if (first_pass(walk) &&
			    (item->volume || next->volume || item->want.base != next->want.base ||
			     memcmp(&item->want.ptr, &next->want.ptr, sizeof(item->want.ptr))))
				damaged(walk, "node %llu is used twice",
					(unsigned long long)item->want.ptr.pbn[0]);
			holders_gather(&walk->holders, next->set);
			/* Where it ends, its parents may see differently. */
			item->want.high = min(item->want.high, next->want.high);
		}
		item->set = holders_gathered(&walk->holders);
	}
	items->count = count;
	walk->no_memory |= walk->holders.no_memory;
}

static void *longer(struct walk *walk, void *array, size_t *room, size_t bytes)
{
	size_t more = max_t(size_t, 2 * *room, 1024);
	void *moved = realloc(array, more * bytes);

	walk->no_memory |= !moved;
	if (!moved)
		return array;
	*room = more;
	return moved;
}

static void add_item(struct walk *walk, struct walk_items *items, const struct walk_item *item)
{
	if (items->count == items->room)
		items->item = longer(walk, items->item, &items->room, sizeof(*item));
	if (!walk->no_memory)
		items->item[items->count++] = *item;
}

/* One to be visited; if there is no room, nodes that many share first become one item each. */
static void push(struct walk *walk, struct walk_items *items, const struct dynmap_miss *want,
		 struct dynmap_volume *volume, u32 set)
{
	struct walk_item item = {
		.want = *want,
		.volume = volume,
		.set = set,
	};

	if (volume && dynmap_share_has(&volume->map.share, want->ptr.generation))
		item.volume = NULL;
	if (items->count && items->count == items->room) {
		merge_items(walk, items);
		if (items->count >= items->room / 2)
			items->item = longer(walk, items->item, &items->room, sizeof(item));
	}
	add_item(walk, items, &item);
}

static void add_event(struct walk *walk, u32 first, u32 last, u64 index)
{
	if (walk->nr_events == walk->event_room)
		walk->event = longer(walk, walk->event, &walk->event_room, sizeof(*walk->event));
	if (!walk->no_memory)
		walk->event[walk->nr_events++] = (struct walk_event){
			.first = first,
			.last = last,
			.index = index,
		};
}

/* Who uses a node is told later, in the order of the users. */
static void keep_item(struct walk *walk, const struct walk_item *item)
{
	const u32 *range;
	u32 count;

	range = holders_ranges(&walk->holders, item->set, &count);
	for (; count; count--, range += 2)
		add_event(walk, range[0], range[1], walk->node.count);
	add_item(walk, &walk->node, item);
}

/* Bring a node into memory; if it cannot be read, say so, and note for whom it is missing. */
static int bring_node(struct walk *walk, struct walk_item *item, struct dynmap_buf **buf)
{
	const struct holders_leaf *leaf = walk->holders.leaf;
	struct dynmap_op op = {};
	const u32 *range;
	u32 count, i;
	int ret;

	with_nodes(ret, walk, &op, dynmap_cache_get(&walk->pool->cache, &item->want, &op, buf));
	if (!ret)
		return 0;
	item->lost = true;
	range = holders_ranges(&walk->holders, item->set, &count);
	cannot_read(walk, item->want.ptr.pbn[0], leaf[range[0]].volume->id, ret);
	for (i = 0; i < 2 * count; i++)
		walk->counted[range[i] + i % 2].missing += i % 2 ? -1 : 1;
	for (; count; count--, range += 2) {
		for (i = range[0]; i <= range[1]; i++) {
			if (leaf[i].tree == HOLDERS_NONE)
				continue;
			is_missing(walk, leaf[i].tree);
			i = walk->holders.node[leaf[i].tree].last;
		}
	}
	return ret;
}

/* The nodes of a level, each one once: what is below them is pushed. */
static void visit_inner(struct walk *walk, struct walk_item *item, struct walk_items *below)
{
	struct dynmap_miss child, next;
	struct dynmap_buf *buf;
	u32 i, count;

	if (bring_node(walk, item, &buf))
		return;
	walk_node(walk, buf, !item->volume);
	if (!item->volume)
		keep_item(walk, item);
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

/* The blocks of a record; it is decoded here again, not with what made it. */
static void walk_record(struct walk *walk, const struct walk_item *item,
			const struct dynmap_disk_map *map, const struct walk_event *event,
			struct walk_count *count)
{
	u32 high = le32_to_cpu(map->kind_pbn_high);
	u64 pbn = (u64)(high & ((1U << DYNMAP_MAP_KIND_SHIFT) - 1)) << 16 |
		  le16_to_cpu(map->pbn_low);
	u32 kind = high >> DYNMAP_MAP_KIND_SHIFT, len = le16_to_cpu(map->len) + 1, written;
	struct seen_news news = {
		.birth = le32_to_cpu(map->birth),
		.first = event->first,
		.last = event->last,
	};
	bool shared = !item->volume || dynmap_share_has(&item->volume->map.share, news.birth);

	written = kind == DYNMAP_DATA ? len : 0;
	if (kind == DYNMAP_WINDOW) {
		written = hweight64((u64)le16_to_cpu(map->len));
		len = DYNMAP_WINDOW_BLOCKS;
	}
	seen_mark(&walk->seen, pbn, len, news.birth, false, shared);
	if (shared)
		seen_tell(&walk->seen, pbn, len, &news);
	count->mapped += written;
	count->reserved += len - written;
	count->exclusive += shared ? 0 : len;
}

/* What is counted of a leaf goes to all who use it. */
static void count_leaf(struct walk *walk, u32 set, const struct walk_count *count)
{
	struct walk_count *at;
	const u32 *range;
	u32 i, ranges;
	s64 sign;

	range = holders_ranges(&walk->holders, set, &ranges);
	for (i = 0; i < 2 * ranges; i++) {
		sign = i % 2 ? -1 : 1;
		at = &walk->counted[range[i] + i % 2];
		at->mapped += sign * count->mapped;
		at->reserved += sign * count->reserved;
		at->exclusive += sign * count->exclusive;
	}
}

static void visit_leaf(struct walk *walk, struct walk_item *item, const struct walk_event *event)
{
	const struct dynmap_disk_map *map;
	struct walk_count count = {};
	struct dynmap_buf *buf;
	u32 i, ranges;
	bool first;

	if (item->lost || bring_node(walk, item, &buf))
		return;
	first = *holders_ranges(&walk->holders, item->set, &ranges) == event->first;
	if (first)
		walk_node(walk, buf, !item->volume);
	map = dynmap_node_entries(buf);
	for (i = 0; i < dynmap_node_count(buf); i++)
		walk_record(walk, item, map + i, event, &count);
	if (first && first_pass(walk))
		count_leaf(walk, item->set, &count);
}

static bool is_alive(const struct dynmap_volume *volume)
{
	return volume && volume->id <= DYNMAP_MAX_VOLUME_ID;
}

/* The maps of all volumes that are not deleted, down to the leaves, level by level. */
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
		for (at = 0; at < items.count && !walk->no_memory; at++)
			if (level)
				visit_inner(walk, &items.item[at], &below);
			else
				keep_item(walk, &items.item[at]);
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
		sum.missing += walk->counted[i].missing;
		if (!is_alive(volume))
			continue;
		walk->check->volumes++;
		walk->check->mapped += sum.mapped;
		walk->check->reserved += sum.reserved;
		/* What cannot be read was not counted. */
		if (sum.missing)
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
	walk_node(walk, buf, false);
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
		seen_mark(&walk->seen, mapping.pbn, mapping.len, mapping.birth, false, false);
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
	walk->no_memory |= ret == -ENOMEM;
	if (ret != -ENOENT && ret != -ENOMEM)
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
	walk->no_memory |= ret == -ENOMEM;
	if (ret != -ENOENT && ret != -ENOMEM)
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
static bool may_be_gone(const struct holders_node *node, const struct dynmap_disk_divergence *entry)
{
	return entry->side == dynmap_snap_dead_side(node->snap) ||
	       le32_to_cpu(entry->birth) <= node->gone;
}

/*
 * An entry of a dying node: until the node is drained what the survivor gave up is in use,
 * for those above it by the side that was deleted.
 */
static void visit_waiting(struct walk *walk, const struct holders_node *node,
			  const struct dynmap_disk_divergence *entry)
{
	u32 user = dynmap_snap_dead_side(node->snap) ? node->middle : node->first;
	u64 pbn = le64_to_cpu(entry->pbn), len = le32_to_cpu(entry->len);
	struct seen_news news = {
		.birth = le32_to_cpu(entry->birth),
		.first = node->dead ? HOLDERS_NONE : user,
		.last = user,
		.kind = entry->is_node ? SEEN_NODE : 0,
	};

	if (!seen_covers(&walk->seen, pbn) || may_be_gone(node, entry) ||
	    !seen_birth(&walk->seen, pbn, news.birth, le32_to_cpu(node->snap->disk.generation)))
		return;
	seen_mark(&walk->seen, pbn, len, news.birth, entry->is_node, true);
	seen_tell(&walk->seen, pbn, len, &news);
}

/*
 * Where a dead extent that waits comes to, see dynmap_dead_climb(): @dead->node, or HOLDERS_NONE if
 * nobody uses the blocks any more. False if they are none of its business any more: its side
 * was deleted meanwhile.
 */
static bool place_dead(struct walk *walk, struct walk_dead *dead)
{
	const struct holders_node *node;
	u64 id = dead->dead->node;

	dead->side = dead->dead->side;
	dead->node = HOLDERS_NONE;
	while (id) {
		dead->node = holders_find(&walk->holders, id);
		if (dead->node == HOLDERS_NONE || walk->holders.node[dead->node].stage < 3) {
			damaged(walk, "dead extent of block %llu: snapshot node %llu is not there",
				(unsigned long long)dead->dead->pbn, (unsigned long long)id);
			return false;
		}
		node = &walk->holders.node[dead->node];
		if (dead->dead->birth > le32_to_cpu(node->snap->disk.generation))
			break;
		if (!dynmap_snap_is_dying(node->snap))
			return true;
		if (dynmap_snap_dead_side(node->snap) == dead->side)
			return false;
		dead->side = le32_to_cpu(node->snap->disk.parent_slot);
		id = le64_to_cpu(node->snap->disk.parent);
	}
	dead->node = HOLDERS_NONE;
	return true;
}

/*
 * The blocks of dead extents that wait are allocated. At their snapshot node it is as if a volume
 * on their side, one that is nobody's, still used them.
 */
static void walk_dead_list(struct walk *walk)
{
	const struct dynmap_dead_list *dead_list = &walk->pool->cache.dead_list;
	const struct holders_node *node;
	struct walk_dead dead;
	u32 i, user;

	walk->nr_dead = 0;
	for (i = 0; dead_list->count && i < DYNMAP_DEAD_BINS; i++) {
		for (dead.dead = dead_list->bin[i]; dead.dead; dead.dead = dead.dead->next) {
			if (!place_dead(walk, &dead))
				continue;
			seen_mark(&walk->seen, dead.dead->pbn, dead.dead->len, dead.dead->birth,
				  dead.dead->is_node, true);
			if (dead.node == HOLDERS_NONE)
				continue;
			if (walk->nr_dead == walk->dead_room)
				walk->dead = longer(walk, walk->dead, &walk->dead_room,
						    sizeof(dead));
			if (walk->no_memory)
				return;
			node = &walk->holders.node[dead.node];
			user = dead.side ? node->middle : node->first;
			add_event(walk, user, user, walk->node.count + walk->holders.nr_nodes +
						    walk->nr_dead);
			walk->dead[walk->nr_dead++] = dead;
		}
	}
}

static void tell_dead(struct walk *walk, const struct walk_dead *dead, u32 user)
{
	const struct holders_node *node = &walk->holders.node[dead->node];
	struct seen_news news = {
		.birth = dead->dead->birth,
		.first = user,
		.last = user,
		.kind = dead->dead->is_node ? SEEN_NODE : 0,
		/* Told is a volume of that side; meant is one that is a child of the node. */
		.given = walk->holders.leaf[user].above - node->above - node->weight[!dead->side],
	};

	seen_tell(&walk->seen, dead->dead->pbn, dead->dead->len, &news);
}

static void visit_entry(struct walk *walk, const struct holders_node *node,
			const struct dynmap_disk_divergence *entry)
{
	u64 pbn = le64_to_cpu(entry->pbn);
	struct seen_news news = {
		.birth = le32_to_cpu(entry->birth),
		.first = HOLDERS_NONE,
		.given = node->weight[entry->side],
	};

	if (seen_covers(&walk->seen, pbn) &&
	    seen_birth(&walk->seen, pbn, news.birth, le32_to_cpu(node->snap->disk.generation)))
		seen_tell(&walk->seen, pbn, le32_to_cpu(entry->len), &news);
}

static int compare_events(const void *a, const void *b)
{
	const struct walk_event *x = a, *y = b;

	return x->first != y->first ? (x->first < y->first ? -1 : 1) :
	       x->index != y->index ? (x->index < y->index ? -1 : 1) : 0;
}

/* The blocks of an inner node are used from one volume to another. */
static void tell_inner(struct walk *walk, const struct walk_item *item,
		       const struct walk_event *event)
{
	struct seen_news news = {
		.birth = item->want.ptr.generation,
		.first = event->first,
		.last = event->last,
		.kind = SEEN_NODE,
	};
	u32 copy;

	for (copy = 0; copy < 2; copy++)
		if (item->want.ptr.pbn[copy] != DYNMAP_PBN_NONE)
			seen_tell(&walk->seen, item->want.ptr.pbn[copy], 1, &news);
}

/* Who uses what, in the order of the users. */
static void walk_events(struct walk *walk)
{
	const struct holders_node *node;
	const struct walk_event *event;
	struct walk_item *item;
	u32 i, user;
	size_t at, behind;

	walk_dead_list(walk);
	for (i = 0; i < walk->holders.nr_nodes; i++) {
		node = &walk->holders.node[i];
		user = dynmap_snap_dead_side(node->snap) ? node->middle : node->first;
		if (node->stage > 2 && dynmap_snap_is_dying(node->snap))
			add_event(walk, user, user, walk->node.count + i);
	}
	if (walk->nr_events)
		qsort(walk->event, walk->nr_events, sizeof(*event), compare_events);
	for (at = 0; at < walk->nr_events && !walk->no_memory; at++) {
		event = &walk->event[at];
		if (event->index >= walk->node.count) {
			behind = event->index - walk->node.count;
			if (behind < walk->holders.nr_nodes)
				each_divergence(walk, &walk->holders.node[behind], visit_waiting);
			else
				tell_dead(walk, &walk->dead[behind - walk->holders.nr_nodes],
					  event->first);
			continue;
		}
		item = &walk->node.item[event->index];
		if (!item->volume)
			tell_inner(walk, item, event);
		if (!item->want.level)
			visit_leaf(walk, item, event);
	}
	walk->nr_events = 0;
	walk->node.count = 0;
}

static void walk_divergence(struct walk *walk)
{
	struct holders_node *node;
	u32 i;

	for (i = 0; i < walk->holders.nr_nodes && !walk->no_memory; i++) {
		node = &walk->holders.node[i];
		walk_tree(walk, &node->snap->divergence, node->tree);
		/* Of one that is below no root nothing is known. */
		if (node->stage > 2 && !dynmap_snap_is_dying(node->snap))
			each_divergence(walk, node, visit_entry);
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

/* Say what is entered for a block. */
static void explain(struct walk *walk, u64 pbn)
{
	const struct holders_node *node;
	int side;
	u32 i;

	dynmap_err("block %llu: the divergence trees do not tell who uses it",
		   (unsigned long long)pbn);
	for (i = 0; i < walk->holders.nr_nodes; i++) {
		node = &walk->holders.node[i];
		side = entered(walk, node->snap, pbn);
		if (side >= 0)
			dynmap_err("block %llu: snapshot node %llu: given up by side %d",
				   (unsigned long long)pbn, (unsigned long long)node->snap->id,
				   side);
	}
}

/* The entries of shared blocks that are alike, and the counters, call for what volumes use. */
static void compare_blocks(struct walk *walk, u64 pbn, const struct seen_block *block, u32 count)
{
	u32 user = block->user & ~SEEN_NODE, top, tree;

	if (!block->birth)
		return;
	if (user != SEEN_NO_USER) {
		top = holders_top(&walk->holders, user, block->birth);
		tree = walk->holders.leaf[user].tree;
		if (top != HOLDERS_NONE && !(block->user & SEEN_NODE))
			walk->own[top] += count;
		/* What users have that cannot be read is not known. */
		if (tree != HOLDERS_NONE && walk->missing[tree])
			return;
	} else if (walk->any_missing) {
		return;
	}
	if (!block->weight)
		return;
	walk->check->damaged += count;
	if (walk->explained++ < MOST_EXPLAINED)
		explain(walk, pbn);
	else
		walk->unexplained += count;
}

/* The bitmaps of a segment, NULL if nothing of it was ever in use; false: they cannot be read. */
static bool read_segment(struct walk *walk, u32 number, struct dynmap_seg **seg)
{
	struct dynmap_space *space = &walk->pool->alloc.space;
	struct dynmap_op op = {};
	int ret;

	*seg = NULL;
	do {
		ret = dynmap_space_touched(space, number, &op);
		if (ret > 0)
			ret = dynmap_space_load(space, number, seg, &op);
	} while (ret < 0 && !(ret = dynmap_pool_help(walk->pool, &op, ret)));
	if (ret == -ENOMEM)
		walk->no_memory = true;
	else if (ret < 0)
		damaged(walk, "segment %u: its bitmaps cannot be read", number);
	return ret >= 0;
}

/* Allocated in a segment is exactly what was reached. */
static void compare_segment(struct walk *walk, u32 number, const struct seen_segment *reached)
{
	u64 seen, bits, pbn = dynmap_segment_pbn(number);
	struct dynmap_seg *seg;
	bool known = read_segment(walk, number, &seg);
	u32 word, i, index;

	known &= seg || reached;
	for (word = 0; known && word < DYNMAP_SEGMENT_WORDS; word++, pbn += 64) {
		seen = reached ? reached->reached[word] : 0;
		bits = seg ? seg->allocated[word] : 0;
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
	pbn = dynmap_segment_pbn(number);
	for (i = 0; i < SEEN_CHUNKS && !walk->unreadable; i++, pbn += SEEN_CHUNK_BLOCKS) {
		if (!reached->chunk[i].block)
			compare_blocks(walk, pbn, &reached->chunk[i].all, SEEN_CHUNK_BLOCKS);
		for (index = 0; reached->chunk[i].block && index < SEEN_CHUNK_BLOCKS; index++)
			compare_blocks(walk, pbn + index, &reached->chunk[i].block[index], 1);
	}
}

/* The window was filled: compare, and go on behind it. */
static void compare_window(struct walk *walk)
{
	u32 dev = 0, at;

	for (at = walk->seen.from; at < walk->seen.end; at++) {
		while (at >= walk->seen.base[dev + 1])
			dev++;
		compare_segment(walk, dynmap_segment_number(dev, at - walk->seen.base[dev]),
				walk->seen.segment[at]);
		seen_drop(&walk->seen, at);
	}
	walk->seen.from = walk->seen.end;
	walk->seen.end = walk->seen.base[walk->pool->geo.nr_devs];
}

/* The counters of the snapshot nodes that no dying parent still counts for. */
static void compare_own(struct walk *walk)
{
	const struct holders_node *node;
	u32 i;

	for (i = 0; i < walk->holders.nr_nodes && !walk->unreadable; i++) {
		node = &walk->holders.node[i];
		if (dynmap_snap_is_dying(node->snap) || node->stage < 3 ||
		    walk->missing[node->tree] ||
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
	walk_tree(walk, &pool->segments, HOLDERS_NONE);
	walk_tree(walk, &pool->alloc.space.tree, HOLDERS_NONE);
	walk_tree(walk, &pool->table.volumes, HOLDERS_NONE);
	walk_tree(walk, &pool->table.family.snaps, HOLDERS_NONE);
	walk_tree(walk, &pool->table.family.waiting, HOLDERS_NONE);
	walk_maps(walk);
	if (!walk->no_memory)
		walk_events(walk);
	for (i = 0; i < walk->holders.nr_volumes && !walk->no_memory; i++)
		if (!is_alive(walk->holders.volume[i]))
			walk_deleted(walk, walk->holders.volume[i]);
	walk_divergence(walk);
	walk->no_memory |= walk->holders.no_memory || walk->seen.no_memory;
	if (walk->no_memory)
		return;
	if (first_pass(walk)) {
		walk_tally(walk, DYNMAP_TREE_VOLUME);
		walk_tally(walk, DYNMAP_TREE_SPACE);
		walk_tally(walk, DYNMAP_TREE_SNAPSHOT);
		walk_tally(walk, DYNMAP_TREE_DEAD);
		compare_volumes(walk);
	}
	compare_window(walk);
}

static bool walk_init(struct walk *walk)
{
	load_holders(walk);
	walk->own = dynmap_zalloc((walk->holders.nr_nodes + 1) * sizeof(*walk->own));
	walk->missing = dynmap_zalloc((walk->holders.nr_nodes + 1) * sizeof(*walk->missing));
	walk->counted = dynmap_zalloc((walk->holders.nr_leaves + 1) * sizeof(*walk->counted));
	return seen_init(&walk->seen, walk->pool, &walk->holders, walk->check,
			 walk->how->memory ? walk->how->memory : DEFAULT_MEMORY) &&
	       walk->own && walk->missing && walk->counted &&
	       !walk->holders.no_memory && !walk->no_memory;
}

int dynmap_check_pool(struct dynmap_pool *pool, const struct dynmap_check_how *how,
		      struct dynmap_check *check)
{
	static const struct dynmap_check_how as_usual;
	struct walk walk = { .pool = pool, .check = check, .how = how ? how : &as_usual };

	memset(check, 0, sizeof(*check));
	if (!walk_init(&walk))
		walk.no_memory = true;
	while (walk.seen.from < walk.seen.end && !walk.no_memory)
		walk_pass(&walk);
	if (!walk.no_memory) {
		compare_own(&walk);
		if (walk.data != pool->alloc.data_allocated)
			repairable(&walk, "%llu data blocks allocated, %llu counted",
				   (unsigned long long)pool->alloc.data_allocated,
				   (unsigned long long)walk.data);
		if (walk.any_missing)
			dynmap_err("what shares something with nodes that are unreadable is not compared");
		if (walk.unexplained)
			dynmap_err("of %llu more blocks the divergence trees do not tell who uses them",
				   (unsigned long long)walk.unexplained);
	}
	seen_exit(&walk.seen);
	holders_exit(&walk.holders);
	dynmap_free(walk.own);
	dynmap_free(walk.missing);
	free(walk.node.item);
	free(walk.event);
	free(walk.dead);
	dynmap_free(walk.counted);
	return walk.no_memory ? -ENOMEM : 0;
}
