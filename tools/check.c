// SPDX-License-Identifier: GPL-2.0-only
/* Checker, see check.h. Walks every tree and marks each block that it reaches. */
#include "tools/check.h"

/* With more snapshots their divergence is not compared: it takes their number squared. */
#define DYNMAP_CHECK_SNAPSHOTS	256

/* Some bits for each block: per device, per slot, made when needed. */
struct dynmap_set {
	u64 **words[DYNMAP_MAX_DEVICES];
	u32 bits;
};

/*
 * @seen: the blocks reached; @alone: those that one tree reached that shares none;
 * @births: of those that are shared, 32 bits each; @data: those that hold data;
 * @tally: nodes of each kind.
 */
struct dynmap_walk {
	struct dynmap_pool *pool;
	struct dynmap_check *check;
	struct dynmap_set seen;
	struct dynmap_set alone;
	struct dynmap_set births;
	u64 data;
	struct dynmap_tally tally[DYNMAP_TREE_KINDS];
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

static bool set_init(struct dynmap_walk *walk, struct dynmap_set *set, u32 bits)
{
	u32 dev;

	memset(set, 0, sizeof(*set));
	set->bits = bits;
	for (dev = 0; dev < walk->pool->geo.nr_devs; dev++) {
		set->words[dev] = dynmap_zalloc(walk->pool->geo.dev[dev].slots * sizeof(u64 *));
		walk->no_memory |= !set->words[dev];
	}
	return !walk->no_memory;
}

static void set_exit(struct dynmap_walk *walk, struct dynmap_set *set)
{
	u32 dev, slot;

	for (dev = 0; dev < walk->pool->geo.nr_devs; dev++) {
		for (slot = 0; set->words[dev] && slot < walk->pool->geo.dev[dev].slots; slot++)
			dynmap_free(set->words[dev][slot]);
		dynmap_free(set->words[dev]);
	}
}

/* The words of a segment; NULL if memory is short. */
static u64 *set_segment(struct dynmap_walk *walk, struct dynmap_set *set, u32 segment)
{
	u64 **at = &set->words[dynmap_segment_dev(segment)][dynmap_segment_slot(segment)];

	if (!*at)
		*at = dynmap_zalloc(DYNMAP_SEGMENT_WORDS * set->bits * sizeof(**at));
	walk->no_memory |= !*at;
	return *at;
}

static bool set_has(const u64 *words, u32 index)
{
	return words[index / 64] >> (index % 64) & 1;
}

static u64 set_count(struct dynmap_walk *walk, struct dynmap_set *set)
{
	u64 count = 0;
	u32 dev, slot, word;

	for (dev = 0; dev < walk->pool->geo.nr_devs; dev++)
		for (slot = 0; slot < walk->pool->geo.dev[dev].slots; slot++)
			for (word = 0; set->words[dev][slot] && word < DYNMAP_SEGMENT_WORDS; word++)
				count += hweight64(set->words[dev][slot][word]);
	return count;
}

/* Was a run born by @newest, and all trees that share it say when? */
static void walk_birth(struct dynmap_walk *walk, u64 pbn, u64 len, u32 birth, u32 newest,
		       bool shared)
{
	u32 index = dynmap_pbn_index(pbn), i, *births = NULL;

	if (!birth || birth > newest) {
		damaged(walk, "block %llu: born in generation %u", (unsigned long long)pbn, birth);
		return;
	}
	if (shared)
		births = (u32 *)set_segment(walk, &walk->births, dynmap_pbn_segment(pbn));
	for (i = 0; births && i < len; i++) {
		if (births[index + i] && births[index + i] != birth) {
			damaged(walk, "block %llu: born in generation %u, and in %u",
				(unsigned long long)pbn + i, births[index + i], birth);
			return;
		}
		births[index + i] = birth;
	}
}

/* Enter a run, which lies in one segment; a shared one may be met again. */
static void walk_mark(struct dynmap_walk *walk, u64 pbn, u64 len, u32 birth, bool is_node,
		      bool shared)
{
	u32 segment = dynmap_pbn_segment(pbn), index = dynmap_pbn_index(pbn);
	u64 *seen = set_segment(walk, &walk->seen, segment);
	u64 *alone = set_segment(walk, &walk->alone, segment);

	if (!seen || !alone)
		return;
	walk_birth(walk, pbn, len, birth, walk->pool->cache.generation, shared);
	for (; len; index++, pbn++, len--) {
		if (set_has(shared ? alone : seen, index))
			damaged(walk, "block %llu is used twice", (unsigned long long)pbn);
		walk->data += !is_node && !set_has(seen, index);
		seen[index / 64] |= 1ULL << (index % 64);
		if (!shared)
			alone[index / 64] |= 1ULL << (index % 64);
	}
}

static bool walk_has(struct dynmap_walk *walk, u64 pbn)
{
	const u64 *words = set_segment(walk, &walk->seen, dynmap_pbn_segment(pbn));

	return words && set_has(words, dynmap_pbn_index(pbn));
}

static void walk_node(struct dynmap_walk *walk, struct dynmap_tree *tree, struct dynmap_buf *buf)
{
	bool shared = dynmap_node_is_shared(buf, &tree->share);
	struct dynmap_store *store = walk->pool->store;
	void *block;
	u32 copy, dev;
	u64 at;

	walk->check->nodes++;
	walk->tally[dynmap_node_head(buf)->kind].nodes[dynmap_node_head(buf)->level > 0]++;
	/* The copies of what others share were read with the first of them. */
	if (shared && walk_has(walk, buf->pbn[0]))
		return;
	block = dynmap_block_alloc();
	for (copy = 0; copy < 2; copy++) {
		if (buf->pbn[copy] == DYNMAP_PBN_NONE)
			continue;
		walk_mark(walk, buf->pbn[copy], 1, le32_to_cpu(dynmap_node_head(buf)->generation),
			  true, shared);
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
				walk_node(walk, tree, path.buf[level]);
			before[level] = path.buf[level];
		}
		key = path.high;
	} while (key != ~0ULL);
}

/* Nothing of a sibling that is being deleted is still to become the volume's. */
static bool walk_settled(struct dynmap_walk *walk, struct dynmap_volume *volume)
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

static void walk_volume(struct dynmap_walk *walk, struct dynmap_volume *volume)
{
	u64 lbn = 0, mapped = 0, reserved = 0, exclusive = 0;
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
		walk_mark(walk, mapping.pbn, mapping.len, mapping.birth, false, mapping.shared);
		if (!mapping.shared)
			exclusive += mapping.len;
		if (mapping.kind == DYNMAP_DATA)
			mapped += mapping.len;
		else
			reserved += mapping.len;
	}
	/* Of one that is being deleted what is shared is skipped. */
	if (volume->id <= DYNMAP_MAX_VOLUME_ID &&
	    (mapped != volume->mapped || reserved != volume->reserved))
		repairable(walk, "volume %llu: %llu mapped, %llu reserved; counted %llu, %llu",
			   (unsigned long long)volume->id, (unsigned long long)volume->mapped,
			   (unsigned long long)volume->reserved, (unsigned long long)mapped,
			   (unsigned long long)reserved);
	if (walk_settled(walk, volume) && exclusive != volume->exclusive)
		repairable(walk, "volume %llu: %llu exclusive, counted %llu",
			   (unsigned long long)volume->id, (unsigned long long)volume->exclusive,
			   (unsigned long long)exclusive);
	walk->check->volumes++;
	walk->check->mapped += mapped;
	walk->check->reserved += reserved;
}

/* What a deleted volume has alone; what it shares is no longer its, and may be gone. */
static void walk_remains(struct dynmap_walk *walk, struct dynmap_volume *volume,
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
		damaged(walk, "deleted volume %llu: unreadable: error %d",
			(unsigned long long)volume->id, ret);
		return;
	}
	walk_node(walk, &volume->map, buf);
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
		walk_mark(walk, mapping.pbn, mapping.len, mapping.birth, false, false);
		*exclusive += mapping.len;
	}
}

static void walk_deleted(struct dynmap_walk *walk, struct dynmap_volume *volume)
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
	if (walk_settled(walk, volume) && exclusive != volume->exclusive)
		repairable(walk, "deleted volume %llu: %llu exclusive, counted %llu",
			   (unsigned long long)volume->id, (unsigned long long)volume->exclusive,
			   (unsigned long long)exclusive);
	walk->check->volumes++;
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
		if (!ret)
			with_nodes(ret, walk, &op, dynmap_volume_refresh(table, volume, &op));
		if (ret == -ENOENT)
			return;
		if (ret) {
			damaged(walk, "volumes from %llu on are unreadable: error %d",
				(unsigned long long)id, ret);
			return;
		}
		if (id > DYNMAP_MAX_VOLUME_ID)
			walk_deleted(walk, volume);
		else
			walk_volume(walk, volume);
	}
}

/* Call @visit with each entry of a divergence tree. */
static void each_divergence(struct dynmap_walk *walk, struct dynmap_snap *snap,
			    void (*visit)(struct dynmap_walk *walk, struct dynmap_snap *snap,
					  const struct dynmap_disk_divergence *entry, void *data),
			    void *data)
{
	struct dynmap_disk_divergence entry;
	struct dynmap_op op = {};
	u64 key = 0;
	int ret;

	for (;; key++) {
		with_nodes(ret, walk, &op,
			   dynmap_btree_next(&snap->divergence, key, &entry, &key, &op));
		if (ret)
			return;		/* walk_tree() told */
		visit(walk, snap, &entry, data);
	}
}

/*
 * May an entry of a dying node be for blocks that are gone, and used anew? It may if the
 * dead side gave them up. What the survivor gave up is in use until the node is drained;
 * unless that side of an ancestor was deleted meanwhile: then it is the other side's.
 */
static bool may_be_gone(struct dynmap_walk *walk, struct dynmap_snap *snap,
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

static void mark_waiting(struct dynmap_walk *walk, struct dynmap_snap *snap,
			 const struct dynmap_disk_divergence *entry, void *data)
{
	if (!may_be_gone(walk, snap, entry))
		walk_mark(walk, le64_to_cpu(entry->pbn), le32_to_cpu(entry->len),
			  le32_to_cpu(entry->birth), entry->is_node, true);
}

static void set_add(struct dynmap_walk *walk, struct dynmap_set *set, u64 pbn, u64 len)
{
	u64 *words = set_segment(walk, set, dynmap_pbn_segment(pbn));
	u32 index = dynmap_pbn_index(pbn);

	for (; words && len; index++, len--)
		words[index / 64] |= 1ULL << (index % 64);
}

/* @set: blocks born after @floor up to @generation that a side reaches; or of @data only. */
struct dynmap_reach {
	struct dynmap_set set;
	u32 floor;
	u32 generation;
	bool data;
};

static void reach_waiting(struct dynmap_walk *walk, struct dynmap_snap *snap,
			  const struct dynmap_disk_divergence *entry, void *data)
{
	struct dynmap_reach *reach = data;

	if (entry->side != dynmap_snap_dead_side(snap) &&
	    le32_to_cpu(entry->birth) <= reach->generation &&
	    le32_to_cpu(entry->birth) > reach->floor && !(reach->data && entry->is_node))
		set_add(walk, &reach->set, le64_to_cpu(entry->pbn), le32_to_cpu(entry->len));
}

static void reach_volume(struct dynmap_walk *walk, struct dynmap_volume *volume,
			 struct dynmap_reach *reach)
{
	struct dynmap_share known = { .generation = reach->generation };
	struct dynmap_mapping mapping;
	struct dynmap_path path;
	struct dynmap_op op = {};
	u64 lbn, key = 0;
	int ret, i, copy;

	do {
		with_nodes(ret, walk, &op, dynmap_btree_find(&volume->map, key, &path, &op));
		if (ret)
			return;
		for (i = 0; i < (int)path.levels && !reach->data; i++)
			for (copy = 0; copy < 2; copy++)
				if (path.buf[i]->pbn[copy] != DYNMAP_PBN_NONE &&
				    dynmap_node_is_shared(path.buf[i], &known))
					set_add(walk, &reach->set, path.buf[i]->pbn[copy], 1);
		key = path.high;
	} while (key != ~0ULL);
	for (lbn = 0; lbn < DYNMAP_MAX_LBN; lbn += mapping.len) {
		with_nodes(ret, walk, &op, dynmap_table_lookup(volume, lbn, &mapping, &op));
		if (ret)
			return;
		if (mapping.kind != DYNMAP_HOLE && mapping.birth <= reach->generation &&
		    mapping.birth > reach->floor)
			set_add(walk, &reach->set, mapping.pbn, mapping.len);
	}
}

/* @above: generation of the node whose child it is: they ascend, so this ends. */
static void reach_child(struct dynmap_walk *walk, u64 child, u32 above, struct dynmap_reach *reach)
{
	struct dynmap_table *table = &walk->pool->table;
	struct dynmap_volume *volume;
	struct dynmap_snap *snap;
	struct dynmap_op op = {};
	int ret, side;

	if (!(child & DYNMAP_CHILD_IS_NODE)) {
		with_nodes(ret, walk, &op, dynmap_volume_load(table, child, &volume, &op));
		if (ret)
			damaged(walk, "volume %llu of a snapshot node: error %d",
				(unsigned long long)child, ret);
		else if (child <= DYNMAP_MAX_VOLUME_ID)
			reach_volume(walk, volume, reach);
		return;
	}
	child &= ~DYNMAP_CHILD_IS_NODE;
	with_nodes(ret, walk, &op, dynmap_snap_get(&table->family, child, &snap, &op));
	if (ret) {
		damaged(walk, "snapshot node %llu: error %d", (unsigned long long)child, ret);
		return;
	}
	if (le32_to_cpu(snap->disk.generation) <= above) {
		damaged(walk, "snapshot node %llu: bad generation", (unsigned long long)child);
		return;
	}
	above = le32_to_cpu(snap->disk.generation);
	for (side = 0; side < 2; side++)
		if (!dynmap_snap_is_dying(snap) || side != dynmap_snap_dead_side(snap))
			reach_child(walk, le64_to_cpu(snap->disk.child[side]), above, reach);
	if (dynmap_snap_is_dying(snap))
		each_divergence(walk, snap, reach_waiting, reach);
}

static void take_divergence(struct dynmap_walk *walk, struct dynmap_snap *snap,
			    const struct dynmap_disk_divergence *entry, void *data)
{
	struct dynmap_reach *reach = data;

	set_add(walk, &reach[2 + entry->side].set, le64_to_cpu(entry->pbn),
		le32_to_cpu(entry->len));
}

/* The counter of a node whose parent is not dying. */
static void walk_own(struct dynmap_walk *walk, struct dynmap_snap *snap)
{
	struct dynmap_reach reach = {
		.generation = le32_to_cpu(snap->disk.generation),
		.data = true,
	};
	struct dynmap_snap *parent;
	struct dynmap_op op = {};
	u64 count;
	int ret;

	if (snap->disk.parent) {
		with_nodes(ret, walk, &op,
			   dynmap_snap_get(&walk->pool->table.family,
					   le64_to_cpu(snap->disk.parent), &parent, &op));
		if (ret || dynmap_snap_is_dying(parent))
			return;
		reach.floor = le32_to_cpu(parent->disk.generation);
	}
	if (!set_init(walk, &reach.set, 1))
		return;
	reach_child(walk, le64_to_cpu(snap->disk.child[0]), reach.generation, &reach);
	reach_child(walk, le64_to_cpu(snap->disk.child[1]), reach.generation, &reach);
	count = set_count(walk, &reach.set);
	if (!walk->no_memory && count != snap->own)
		repairable(walk, "snapshot node %llu: %llu own blocks, counted %llu",
			   (unsigned long long)snap->id, (unsigned long long)snap->own,
			   (unsigned long long)count);
	set_exit(walk, &reach.set);
}

/* In one segment. */
static void compare_divergence(struct dynmap_walk *walk, struct dynmap_snap *snap,
			       struct dynmap_reach *reach, u32 segment)
{
	u64 *words[4], wanted;
	u32 side, word;

	for (side = 0; side < 4; side++)
		words[side] = set_segment(walk, &reach[side].set, segment);
	for (word = 0; word < DYNMAP_SEGMENT_WORDS && !walk->no_memory; word++)
		for (side = 0; side < 2; side++) {
			wanted = words[!side][word] & ~words[side][word];
			if (words[2 + side][word] == wanted)
				continue;
			damaged(walk, "snapshot node %llu, side %u, from block %llu: %016llx entered, counted %016llx",
				(unsigned long long)snap->id, side,
				(unsigned long long)dynmap_segment_pbn(segment) + word * 64,
				(unsigned long long)words[2 + side][word],
				(unsigned long long)wanted);
		}
}

/* The divergence tree holds exactly what one side reaches and the other does not. */
static void walk_divergence(struct dynmap_walk *walk, struct dynmap_snap *snap)
{
	struct dynmap_reach reach[4] = {};
	u32 dev, slot, side;

	for (side = 0; side < 4; side++) {
		reach[side].generation = le32_to_cpu(snap->disk.generation);
		set_init(walk, &reach[side].set, 1);
	}
	for (side = 0; side < 2 && !walk->no_memory; side++)
		reach_child(walk, le64_to_cpu(snap->disk.child[side]), reach[side].generation,
			    &reach[side]);
	if (!walk->no_memory)
		each_divergence(walk, snap, take_divergence, reach);
	for (dev = 0; dev < walk->pool->geo.nr_devs; dev++)
		for (slot = 0; slot < walk->pool->geo.dev[dev].slots; slot++)
			compare_divergence(walk, snap, reach, dynmap_segment_number(dev, slot));
	for (side = 0; side < 4; side++)
		set_exit(walk, &reach[side].set);
}

static void check_birth(struct dynmap_walk *walk, struct dynmap_snap *snap,
			const struct dynmap_disk_divergence *entry, void *data)
{
	if (!dynmap_snap_is_dying(snap) || !may_be_gone(walk, snap, entry))
		walk_birth(walk, le64_to_cpu(entry->pbn), le32_to_cpu(entry->len),
			   le32_to_cpu(entry->birth), le32_to_cpu(snap->disk.generation), true);
}

static void walk_snapshots(struct dynmap_walk *walk)
{
	struct dynmap_family *family = &walk->pool->table.family;
	struct dynmap_disk_snapshot disk;
	struct dynmap_snap *snap;
	struct dynmap_op op = {};
	u64 id = 0;
	int ret;

	for (;; id++) {
		with_nodes(ret, walk, &op, dynmap_btree_next(&family->snaps, id, &disk, &id, &op));
		if (!ret)
			with_nodes(ret, walk, &op, dynmap_snap_get(family, id, &snap, &op));
		if (ret == -ENOENT)
			break;
		if (ret) {
			damaged(walk, "snapshot nodes from %llu on are unreadable: error %d",
				(unsigned long long)id, ret);
			return;
		}
	}
	list_for_each_entry(snap, &family->loaded, list) {
		walk->check->snapshots++;
		walk_tree(walk, &snap->divergence);
		each_divergence(walk, snap, check_birth, NULL);
		if (dynmap_snap_is_dying(snap))
			each_divergence(walk, snap, mark_waiting, NULL);
	}
	if (walk->check->snapshots > DYNMAP_CHECK_SNAPSHOTS)
		return;
	list_for_each_entry(snap, &family->loaded, list)
		if (!dynmap_snap_is_dying(snap)) {
			walk_divergence(walk, snap);
			walk_own(walk, snap);
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

/* Are the nodes of a tree of the pool counted right? */
static void walk_tally(struct dynmap_walk *walk, u8 kind)
{
	const struct dynmap_tally *kept = &walk->pool->cache.tally[kind];
	const struct dynmap_tally *seen = &walk->tally[kind];

	if (kept->nodes[0] != seen->nodes[0] || kept->nodes[1] != seen->nodes[1])
		repairable(walk, "tree %u: %llu leaves, %llu inner nodes; counted %llu, %llu", kind,
			   (unsigned long long)kept->nodes[0], (unsigned long long)kept->nodes[1],
			   (unsigned long long)seen->nodes[0], (unsigned long long)seen->nodes[1]);
}

int dynmap_check_pool(struct dynmap_pool *pool, struct dynmap_check *check)
{
	struct dynmap_walk walk = { .pool = pool, .check = check };
	struct dynmap_alloc *alloc = &pool->alloc;
	u32 dev, slot;

	memset(check, 0, sizeof(*check));
	set_init(&walk, &walk.seen, 1);
	set_init(&walk, &walk.alone, 1);
	set_init(&walk, &walk.births, 32);
	if (!walk.no_memory) {
		walk_tree(&walk, &pool->segments);
		walk_tree(&walk, &alloc->space);
		walk_tree(&walk, &pool->table.volumes);
		walk_tree(&walk, &pool->table.family.snaps);
		walk_tally(&walk, DYNMAP_TREE_VOLUME);
		walk_tally(&walk, DYNMAP_TREE_SPACE);
		walk_tally(&walk, DYNMAP_TREE_SNAPSHOT);
		walk_volumes(&walk);
		walk_snapshots(&walk);
	}
	for (dev = 0; dev < pool->geo.nr_devs && !walk.no_memory; dev++)
		for (slot = 0; slot < pool->geo.dev[dev].slots; slot++)
			walk_compare(&walk, dynmap_segment_number(dev, slot),
				     walk.seen.words[dev][slot]);
	if (!walk.no_memory && walk.data != alloc->data_allocated)
		repairable(&walk, "%llu data blocks allocated, %llu counted",
			   (unsigned long long)alloc->data_allocated,
			   (unsigned long long)walk.data);
	set_exit(&walk, &walk.seen);
	set_exit(&walk, &walk.alone);
	set_exit(&walk, &walk.births);
	return walk.no_memory ? -ENOMEM : 0;
}
