// SPDX-License-Identifier: GPL-2.0-only
/*
 * Families, see core/family.h. Callers: volumes (snapshots, deletion, usage), table
 * (what volumes give up), reaping, checkpoints, opening.
 */
#include "core/family.h"

#define DYNMAP_DEAD_RUN		32	/* dead extents that are entered in one leaf at once */
#define DYNMAP_DEAD_STEPS	64	/* leaves that are seen to at a time, when many wait */
#define DYNMAP_CLIMB_MOST	1024	/* nodes that a climb visits at once */

void dynmap_family_init(struct dynmap_family *family, struct dynmap_cache *cache,
			struct dynmap_alloc *alloc, const struct dynmap_disk_super *sb)
{
	memset(family, 0, sizeof(*family));
	family->cache = cache;
	family->alloc = alloc;
	family->next_id = le64_to_cpu(sb->next_snapshot_id);
	family->durable = ~0ULL;
	INIT_LIST_HEAD(&family->loaded);
	INIT_LIST_HEAD(&family->changed);
	INIT_LIST_HEAD(&family->entered);
	dynmap_btree_init(&family->snaps, cache, DYNMAP_TREE_SNAPSHOT, 0, &sb->snapshot_root);
	dynmap_btree_init(&family->waiting, cache, DYNMAP_TREE_DEAD, 0, &sb->dead_root);
}

static void dynmap_snap_free(struct dynmap_family *family, struct dynmap_snap *snap)
{
	family->cache->tally[DYNMAP_TREE_SNAPSHOT].records -= snap->dirty;
	list_del(&snap->list);
	list_del(&snap->state);
	hlist_del_init(&snap->hash);
	dynmap_cache_free(family->cache, snap, snap->buf);
}

void dynmap_family_exit(struct dynmap_family *family)
{
	struct dynmap_snap *snap, *next;

	if (!family->cache)
		return;
	list_for_each_entry_safe(snap, next, &family->loaded, list)
		dynmap_snap_free(family, snap);
}

void dynmap_family_unload(struct dynmap_family *family)
{
	struct dynmap_snap *snap, *next;
	u32 most = DYNMAP_UNLOAD_MOST;

	list_for_each_entry_safe(snap, next, &family->loaded, list) {
		if (!most--)
			break;
		if (!snap->dirty)
			dynmap_snap_free(family, snap);
		else
			list_move_tail(&snap->list, &family->loaded);
	}
}

/* The record of a snapshot node has changed: the next checkpoint enters it. */
static void dynmap_snap_changed(struct dynmap_snap *snap)
{
	if (snap->dirty && !snap->entered)
		return;
	snap->family->cache->tally[DYNMAP_TREE_SNAPSHOT].records += !snap->dirty;
	snap->dirty = true;
	snap->entered = false;
	list_move_tail(&snap->state, &snap->family->changed);
}

static struct hlist_head *dynmap_snap_bucket(struct dynmap_family *family, u64 id)
{
	return &family->hash[hash_64(id, DYNMAP_SNAP_HASH_BITS)];
}

static u32 dynmap_snap_generation(const struct dynmap_snap *snap)
{
	return le32_to_cpu(snap->disk.generation);
}

static u64 dynmap_snap_parent(const struct dynmap_snap *snap)
{
	return le64_to_cpu(snap->disk.parent);
}

static u32 dynmap_snap_side(const struct dynmap_snap *snap)
{
	return le32_to_cpu(snap->disk.parent_slot);
}

static const char *dynmap_snap_check(const struct dynmap_family *family, u64 id,
				     const struct dynmap_disk_snapshot *disk)
{
	u32 flags = le32_to_cpu(disk->flags);

	if (!dynmap_btree_root_valid(family->cache->geo, &disk->divergence_root))
		return "root";
	if (flags & ~DYNMAP_SNAPSHOT_FLAGS || flags == DYNMAP_SNAPSHOT_SIDE)
		return "flags";
	if (le32_to_cpu(disk->parent_slot) > 1 || le64_to_cpu(disk->parent) >= family->next_id ||
	    le64_to_cpu(disk->parent) == id)
		return "parent";
	if (!disk->generation || le32_to_cpu(disk->generation) >= family->cache->generation)
		return "generation";
	return NULL;
}

static struct dynmap_snap *dynmap_snap_new(struct dynmap_family *family, u64 id,
					   const struct dynmap_disk_snapshot *disk)
{
	struct dynmap_buf *buf;
	struct dynmap_snap *snap = dynmap_cache_zalloc(family->cache, sizeof(*snap), &buf);

	if (!snap)
		return NULL;
	snap->buf = buf;
	snap->family = family;
	INIT_LIST_HEAD(&snap->state);
	snap->id = id;
	snap->disk = *disk;
	snap->own = le64_to_cpu(disk->own_blocks);
	dynmap_btree_init(&snap->divergence, family->cache, DYNMAP_TREE_DIVERGENCE, id,
			  &disk->divergence_root);
	list_add_tail(&snap->list, &family->loaded);
	hlist_add_head(&snap->hash, dynmap_snap_bucket(family, id));
	return snap;
}

/* A snapshot node that is in memory, or NULL. */
static struct dynmap_snap *dynmap_snap_find(struct dynmap_family *family, u64 id)
{
	struct dynmap_snap *snap;

	hlist_for_each_entry(snap, dynmap_snap_bucket(family, id), hash)
		if (snap->id == id)
			return snap;
	return NULL;
}

int dynmap_snap_get(struct dynmap_family *family, u64 id, struct dynmap_snap **result,
		    struct dynmap_op *op)
{
	struct dynmap_disk_snapshot disk;
	const char *failed;
	int ret;

	*result = dynmap_snap_find(family, id);
	if (*result)
		return 0;
	ret = dynmap_btree_get(&family->snaps, id, &disk, op);
	if (ret && ret != -ENOENT)
		return ret;
	failed = ret ? "number" : dynmap_snap_check(family, id, &disk);
	if (failed) {
		dynmap_err("snapshot node %llu: bad %s", (unsigned long long)id, failed);
		return -EUCLEAN;
	}
	*result = dynmap_snap_new(family, id, &disk);
	return *result ? 0 : -ENOMEM;
}

/**
 * struct dynmap_climb - a way up from a volume or a snapshot node
 * @node: the node that comes next, 0: there is none
 * @side: the side on which it is entered
 * @birth: the climb ends below the first node that is older
 * @durable: a node is dying if its death is no later than this one
 * @generation: of the last node visited
 * @below: the last node that was passed, or NULL
 * @waiting: for each height a bit: a node that was passed waits for its jump
 * @snap: which one
 * @death: the latest death of those passed since
 *
 * A dying node lets pass what comes from its survivor's side. Of n such nodes in a row a
 * climb visits O(log^2 n). As in a skip list (Pugh, 1990) each node has a height, one in 2^h
 * of them at least h; its jump leads to the next node of the row that is at least as high.
 * A climb finds the jumps of the nodes that it passes. They stay right: a row gets new nodes
 * at its ends only. When the target of a jump has gone, or is not in memory, the climb goes
 * on to the parent, and finds another target. One that has visited many nodes gives up, and
 * begins again with the jumps that it has found.
 */
struct dynmap_climb {
	u64 node;
	u32 side;
	u32 birth;
	u64 durable;
	u32 generation;
	struct dynmap_snap *below;
	u32 waiting;
	struct dynmap_snap *snap[DYNMAP_SNAP_HEIGHTS];
	u64 death[DYNMAP_SNAP_HEIGHTS];
};

static void dynmap_climb_begin(struct dynmap_climb *climb, u64 node, u32 side)
{
	climb->node = node;
	climb->side = side;
	climb->birth = 0;
	climb->durable = ~0ULL;
	climb->generation = ~0U;
	climb->below = NULL;
	climb->waiting = 0;
}

/* Go on above a node that does not let pass. */
static void dynmap_climb_on(struct dynmap_climb *climb, const struct dynmap_snap *snap)
{
	climb->node = dynmap_snap_parent(snap);
	climb->side = dynmap_snap_side(snap);
	climb->below = NULL;
	climb->waiting = 0;
}

static u32 dynmap_snap_height(const struct dynmap_snap *snap)
{
	return __ffs64(hash_64(snap->id, 32) | 1ULL << (DYNMAP_SNAP_HEIGHTS - 1));
}

/* A node is passed; those that were jumped over since the last one died up to @death. */
static void dynmap_climb_pass(struct dynmap_climb *climb, struct dynmap_snap *snap, u64 death)
{
	u32 height = dynmap_snap_height(snap), i;

	for (i = 0; climb->waiting >> i; i++) {
		if (!(climb->waiting & 1U << i))
			continue;
		climb->death[i] = max(climb->death[i], death);
		if (i <= height) {
			climb->snap[i]->jump = snap->id;
			climb->snap[i]->jump_death = climb->death[i];
		}
		climb->death[i] = max(climb->death[i], snap->death);
	}
	climb->waiting = (climb->waiting >> height | 1) << height;
	climb->snap[height] = snap;
	climb->death[height] = 0;
	climb->below = snap;
	climb->node = dynmap_snap_parent(snap);
	climb->side = dynmap_snap_side(snap);
}

/* The target of the jump of the last node that was passed, if it can be taken; or NULL. */
static struct dynmap_snap *dynmap_climb_jump(struct dynmap_family *family,
					     const struct dynmap_climb *climb)
{
	const struct dynmap_snap *below = climb->below;
	struct dynmap_snap *snap;

	if (!below || !below->jump || below->jump_death > climb->durable)
		return NULL;
	snap = dynmap_snap_find(family, below->jump);
	return snap && dynmap_snap_generation(snap) >= climb->birth ? snap : NULL;
}

/*
 * Climb to the first node that does not let pass: *snap, entered at climb->side; NULL: there
 * is none, or none that is old enough. That F3 holds is seen to: the climb ends.
 */
static int dynmap_climb(struct dynmap_family *family, struct dynmap_climb *climb,
			struct dynmap_snap **snap, struct dynmap_op *op)
{
	u32 visits = 0;
	u64 death;
	int ret;

	for (;;) {
		if (visits++ == DYNMAP_CLIMB_MOST) {
			op->miss.ptr.pbn[0] = DYNMAP_PBN_NONE;
			return -EAGAIN;
		}
		*snap = dynmap_climb_jump(family, climb);
		death = *snap ? climb->below->jump_death : 0;
		if (*snap) {
			climb->side = !dynmap_snap_dead_side(*snap);
		} else {
			if (!climb->node)
				return 0;
			ret = dynmap_snap_get(family, climb->node, snap, op);
			if (ret)
				return ret;
		}
		if (dynmap_snap_generation(*snap) >= climb->generation) {
			dynmap_err("snapshot node %llu: bad generation",
				   (unsigned long long)(*snap)->id);
			return -EUCLEAN;
		}
		climb->generation = dynmap_snap_generation(*snap);
		if (climb->generation < climb->birth) {
			*snap = NULL;
			return 0;
		}
		if (!dynmap_snap_is_dying(*snap) || (*snap)->death > climb->durable ||
		    dynmap_snap_dead_side(*snap) == climb->side)
			return 0;
		dynmap_climb_pass(climb, *snap, death);
	}
}

int dynmap_family_next(struct dynmap_family *family, u64 parent, u32 *side,
		       struct dynmap_snap **snap, struct dynmap_op *op)
{
	struct dynmap_climb climb;
	int ret;

	dynmap_climb_begin(&climb, parent, *side);
	ret = dynmap_climb(family, &climb, snap, op);
	*side = climb.side;
	return ret;
}

int dynmap_family_share(struct dynmap_family *family, u64 parent, u32 side, bool durable_only,
			struct dynmap_share *share, struct dynmap_op *op)
{
	struct dynmap_climb climb;
	struct dynmap_snap *snap;
	int ret;

	dynmap_climb_begin(&climb, parent, side);
	if (durable_only)
		climb.durable = family->durable;
	ret = dynmap_climb(family, &climb, &snap, op);
	if (ret)
		return ret;
	share->node = parent;
	share->side = side;
	share->generation = snap ? dynmap_snap_generation(snap) : 0;
	return 0;
}

void dynmap_snap_die(struct dynmap_family *family, struct dynmap_snap *snap, u32 side)
{
	snap->disk.flags |= cpu_to_le32(DYNMAP_SNAPSHOT_DYING | (side ? DYNMAP_SNAPSHOT_SIDE : 0));
	dynmap_snap_changed(snap);
	snap->death = ++family->deaths;
	family->version += snap->death <= family->durable;
}

void dynmap_family_durable(struct dynmap_family *family, u64 deaths)
{
	if (deaths <= family->durable)
		return;
	family->durable = deaths;
	family->version++;
}

void dynmap_snap_set_child(struct dynmap_snap *snap, u32 side, u64 child)
{
	snap->disk.child[side] = cpu_to_le64(child);
	dynmap_snap_changed(snap);
}

int dynmap_family_split(struct dynmap_family *family, struct dynmap_disk_volume *volume,
			u64 copy, struct dynmap_op *op)
{
	struct dynmap_cache *cache = family->cache;
	struct dynmap_snap *snap, *parent = NULL;
	struct dynmap_disk_snapshot disk = {
		.id = cpu_to_le64(family->next_id),
		.parent = volume->parent,
		.parent_slot = volume->parent_slot,
		.generation = cpu_to_le32(cache->generation),
		.child = { volume->id, cpu_to_le64(copy) },
		.divergence_root.pbn_a = cpu_to_le64(DYNMAP_PBN_NONE),
		.divergence_root.pbn_b = cpu_to_le64(DYNMAP_PBN_NONE),
		.own_blocks = volume->exclusive_blocks,
	};
	int ret;

	if (family->next_id > DYNMAP_MAX_SNAPSHOT_ID || cache->generation == ~0U)
		return -EOVERFLOW;
	if (volume->parent) {
		ret = dynmap_snap_get(family, le64_to_cpu(volume->parent), &parent, op);
		if (ret)
			return ret;
	}
	snap = dynmap_snap_new(family, family->next_id, &disk);
	if (!snap)
		return -ENOMEM;
	/* From now on the record is there: a checkpoint replaces it, and splits nothing. */
	ret = dynmap_btree_put(&family->snaps, snap->id, &disk, op);
	if (ret) {
		dynmap_snap_free(family, snap);
		return ret;
	}
	dynmap_snap_changed(snap);
	if (parent)
		dynmap_snap_set_child(parent, le32_to_cpu(volume->parent_slot),
				      DYNMAP_CHILD_IS_NODE | snap->id);
	volume->parent = disk.id;
	volume->parent_slot = 0;
	volume->exclusive_blocks = 0;
	family->next_id++;
	cache->generation++;
	return 0;
}

static struct dynmap_disk_divergence *dynmap_divergence(struct dynmap_buf *leaf, int slot)
{
	struct dynmap_disk_divergence *entry = dynmap_node_entries(leaf);

	return entry + slot;
}

static u64 dynmap_divergence_end(const struct dynmap_disk_divergence *entry)
{
	return le64_to_cpu(entry->pbn) + le32_to_cpu(entry->len);
}

/*
 * Find the entry that covers a block, NULL if there is none: *limit is where the entry
 * or the gap ends, as far as this leaf knows.
 */
static int dynmap_divergence_find(struct dynmap_snap *snap, u64 pbn, struct dynmap_path *path,
				  const struct dynmap_disk_divergence **entry, u64 *limit,
				  struct dynmap_op *op)
{
	int ret = dynmap_btree_find(&snap->divergence, pbn, path, op), slot;
	const struct dynmap_disk_divergence *at;

	*entry = NULL;
	*limit = ~0ULL;
	if (ret)
		return ret == -ENOENT ? 0 : ret;
	slot = path->slot[0];
	at = dynmap_divergence(path->buf[0], slot);
	*limit = path->high;
	if (slot >= 0 && pbn < dynmap_divergence_end(at)) {
		*entry = at;
		*limit = dynmap_divergence_end(at);
	} else if (slot + 1 < (int)dynmap_node_count(path->buf[0])) {
		*limit = le64_to_cpu(at[1].pbn);
	}
	return 0;
}

/* May the first blocks of a dead extent be freed, if it comes to that? -EUCLEAN if not. */
static int dynmap_dead_check(struct dynmap_family *family, const struct dynmap_dead_extent *dead,
			     u32 len, u32 floor, struct dynmap_op *op)
{
	/* Of a node dynmap_alloc_drain() finds out. */
	if (dead->is_node || dead->birth <= floor)
		return 0;
	return dynmap_alloc_may_free(family->alloc, dead->pbn, len, op);
}

/* The first blocks of a dead extent, which were checked, are free, or dead at the node's parent. */
static void dynmap_dead_rise(struct dynmap_family *family, struct dynmap_snap *snap,
			     struct dynmap_dead_extent *dead, u32 len, u32 floor)
{
	struct dynmap_dead_extent next = *dead;

	dead->pbn += len;
	dead->len -= len;
	next.len = len;
	if (next.birth > floor) {
		if (!next.is_node)
			snap->own -= len;
		dynmap_snap_changed(snap);
		dynmap_alloc_free_late(family->alloc, next.pbn, len, next.is_node);
		return;
	}
	next.node = dynmap_snap_parent(snap);
	next.side = dynmap_snap_side(snap);
	dynmap_dead_list_add(family->cache, &next);
}

/* The other side gave up the first blocks before: take them out of their entry. */
static int dynmap_dead_match(struct dynmap_family *family, struct dynmap_snap *snap,
			     struct dynmap_dead_extent *dead,
			     const struct dynmap_disk_divergence *entry, u32 floor,
			     struct dynmap_path *path, struct dynmap_op *op)
{
	u64 first = le64_to_cpu(entry->pbn), end = dynmap_divergence_end(entry), stop;
	struct dynmap_disk_divergence left[2];
	u32 count = 0;
	int ret;

	if (entry->side == dead->side || le32_to_cpu(entry->birth) != dead->birth ||
	    entry->is_node != dead->is_node) {
		dynmap_err("snapshot node %llu: block %llu was given up already",
			   (unsigned long long)snap->id, (unsigned long long)dead->pbn);
		return -EUCLEAN;
	}
	stop = min(end, dead->pbn + dead->len);
	ret = dynmap_dead_check(family, dead, stop - dead->pbn, floor, op);
	if (ret)
		return ret;
	if (first < dead->pbn) {
		left[count] = *entry;
		left[count++].len = cpu_to_le32(dead->pbn - first);
	}
	if (stop < end) {
		left[count] = *entry;
		left[count].pbn = cpu_to_le64(stop);
		left[count++].len = cpu_to_le32(end - stop);
	}
	dynmap_btree_write_path(&snap->divergence, dead->pbn, 1, path);
	memcpy(dynmap_leaf_splice(path, path->slot[0], 1, count), left, count * sizeof(*left));
	if (!count)
		dynmap_btree_prune(&snap->divergence, path);
	dynmap_snap_changed(snap);
	dynmap_dead_rise(family, snap, dead, stop - dead->pbn, floor);
	return 0;
}

static struct dynmap_disk_divergence
dynmap_dead_entry(const struct dynmap_dead_extent *dead, u32 len)
{
	return (struct dynmap_disk_divergence){
		.pbn = cpu_to_le64(dead->pbn),
		.len = cpu_to_le32(len),
		.birth = cpu_to_le32(dead->birth),
		.side = dead->side,
		.is_node = dead->is_node,
	};
}

/* Enter the first blocks of a dead extent, up to @limit, at @path; joined with the entry before. */
static void dynmap_dead_enter(struct dynmap_snap *snap, struct dynmap_dead_extent *dead, u64 limit,
			      struct dynmap_path *path)
{
	u32 len = min((u64)dead->len, limit - dead->pbn);
	struct dynmap_disk_divergence entry = dynmap_dead_entry(dead, len), *at;

	dynmap_btree_write_path(&snap->divergence, dead->pbn, 1, path);
	at = dynmap_divergence(path->buf[0], path->slot[0]);
	if (path->slot[0] >= 0 && dynmap_divergence_end(at) == dead->pbn &&
	    at->birth == entry.birth && at->side == entry.side && at->is_node == entry.is_node &&
	    dynmap_pbn_index(dead->pbn)) {
		at->len = cpu_to_le32(le32_to_cpu(at->len) + len);
	} else {
		at = dynmap_leaf_splice(path, path->slot[0] + 1, 0, 1);
		*at = entry;
	}
	dynmap_snap_changed(snap);
	dead->pbn += len;
	dead->len -= len;
}

/* Append an entry to the @count that a leaf begins with; joined with the last one. */
static __always_inline u32 dynmap_divergence_append(struct dynmap_disk_divergence *first, u32 count,
						    const struct dynmap_disk_divergence *entry)
{
	struct dynmap_disk_divergence *last = first + count - 1;
	u64 pbn = le64_to_cpu(entry->pbn);

	if (count && dynmap_divergence_end(last) == pbn && last->birth == entry->birth &&
	    last->side == entry->side && last->is_node == entry->is_node &&
	    dynmap_pbn_index(pbn)) {
		last->len = cpu_to_le32(le32_to_cpu(last->len) + le32_to_cpu(entry->len));
		return count;
	}
	first[count] = *entry;
	return count + 1;
}

/*
 * Take out dead extents that wait beside one that was entered at @path and belong in the same
 * leaf, in ascending order: how many, at most @most.
 */
static __hot u32 dynmap_dead_list_gather(struct dynmap_family *family,
					 const struct dynmap_snap *snap,
					 const struct dynmap_dead_extent *dead,
					 const struct dynmap_path *path,
					 struct dynmap_dead_extent **run, u32 most)
{
	u64 low = dynmap_node_base(path->buf[0]);
	struct dynmap_dead_extent *other, *rest = NULL;
	u32 count = 0, seen, i;

	for (seen = 0; seen < 2 * DYNMAP_DEAD_RUN && count < most; seen++) {
		other = dynmap_dead_list_take_beside(family->cache, dead);
		if (!other)
			break;
		if (other->node != snap->id || other->birth > dynmap_snap_generation(snap) ||
		    other->pbn < low || other->pbn + other->len > path->high) {
			other->next = rest;
			rest = other;
			continue;
		}
		for (i = count++; i && run[i - 1]->pbn > other->pbn; i--)
			run[i] = run[i - 1];
		run[i] = other;
	}
	while (rest) {
		other = rest;
		rest = other->next;
		dynmap_dead_list_put(family->cache, other);
	}
	return count;
}

/*
 * Enter a run of dead extents in one leaf, which is writable: its entries are moved once for
 * all of them. What meets an entry that is there is left.
 */
static __hot void dynmap_dead_list_merge(struct dynmap_family *family,
					 struct dynmap_dead_extent **run, u32 count,
					 struct dynmap_path *path)
{
	struct dynmap_buf *scratch = list_first_entry(&family->cache->spare, struct dynmap_buf,
						      list);
	u32 entries = dynmap_node_count(path->buf[0]), from, n, i, k = 0;
	struct dynmap_disk_divergence *first = dynmap_divergence(path->buf[0], 0), entry;
	const struct dynmap_disk_divergence *old = scratch->data;
	u64 pbn;

	dynmap_btree_stay(path, run[0]->pbn);
	n = path->slot[0] + 1;
	from = n;
	memcpy(scratch->data, first + from, (entries - from) * sizeof(entry));
	for (i = 0; i < entries - from || k < count; ) {
		pbn = k < count ? run[k]->pbn : ~0ULL;
		if (i < entries - from && le64_to_cpu(old[i].pbn) <= pbn) {
			n = dynmap_divergence_append(first, n, &old[i++]);
			continue;
		}
		entry = dynmap_dead_entry(run[k], run[k]->len);
		if ((!n || dynmap_divergence_end(&first[n - 1]) <= pbn) &&
		    (i == entries - from || le64_to_cpu(old[i].pbn) >= pbn + run[k]->len)) {
			n = dynmap_divergence_append(first, n, &entry);
			run[k]->len = 0;
		}
		dynmap_dead_list_put(family->cache, run[k++]);
	}
	dynmap_leaf_splice(path, from, entries - from, n - from);
}

/* See to the first blocks of a dead extent at a node that is not dying. */
static __hot int dynmap_dead_at(struct dynmap_family *family, struct dynmap_snap *snap,
				struct dynmap_dead_extent *dead, struct dynmap_op *op)
{
	struct dynmap_dead_extent *run[DYNMAP_DEAD_RUN] __uninitialized;
	const struct dynmap_disk_divergence *entry;
	struct dynmap_path path __uninitialized;
	struct dynmap_share above;
	u32 count;
	u64 limit;
	int ret;

	/* Nodes that are brought into memory may take buffers: what is reserved comes after. */
	ret = dynmap_divergence_find(snap, dead->pbn, &path, &entry, &limit, op);
	if (!ret && entry)
		ret = dynmap_family_share(family, dynmap_snap_parent(snap), dynmap_snap_side(snap),
					  false, &above, op);
	if (!ret)
		ret = dynmap_alloc_reserve(family->alloc, dynmap_btree_worst(&snap->divergence), 4,
					   op);
	if (ret)
		return ret;
	if (entry)
		return dynmap_dead_match(family, snap, dead, entry, above.generation, &path, op);
	dynmap_dead_enter(snap, dead, limit, &path);
	count = dynmap_btree_capacity(DYNMAP_TREE_DIVERGENCE) - dynmap_node_count(path.buf[0]);
	count = dynmap_dead_list_gather(family, snap, dead, &path, run,
					min_t(u32, count, DYNMAP_DEAD_RUN));
	if (count)
		dynmap_dead_list_merge(family, run, count, &path);
	return 0;
}

/*
 * Where a dead extent comes to: dying nodes let pass what their survivor's side gives up. NULL
 * if nobody further up has the blocks; *owner is then the node that counts them.
 */
static int dynmap_dead_climb(struct dynmap_family *family, struct dynmap_dead_extent *dead,
			     struct dynmap_snap **snap, struct dynmap_snap **owner,
			     struct dynmap_op *op)
{
	struct dynmap_climb climb __uninitialized;
	int ret;

	dynmap_climb_begin(&climb, dead->node, dead->side);
	climb.birth = dead->birth;
	ret = dynmap_climb(family, &climb, snap, op);
	if (ret)
		return ret;
	*owner = climb.below;
	if (*snap) {
		dead->node = (*snap)->id;
		dead->side = climb.side;
	}
	return 0;
}

/* Nobody has the blocks any more; @owner counts them, if it is not NULL. */
static int dynmap_dead_free(struct dynmap_family *family, struct dynmap_dead_extent *dead,
			    struct dynmap_snap *owner, struct dynmap_op *op)
{
	int ret = dynmap_alloc_reserve(family->alloc, 0, 4, op);

	if (!ret)
		ret = dynmap_dead_check(family, dead, dead->len, 0, op);
	if (ret)
		return ret;
	dynmap_alloc_free_late(family->alloc, dead->pbn, dead->len, dead->is_node);
	if (owner) {
		owner->own -= dead->is_node ? 0 : dead->len;
		dynmap_snap_changed(owner);
	}
	dead->len = 0;
	return 0;
}

/* See to the first dead extent, or to a part of it. */
static __hot int dynmap_dead_step(struct dynmap_family *family, struct dynmap_dead_extent *dead,
				  struct dynmap_op *op)
{
	struct dynmap_snap *snap, *owner;
	int ret = dynmap_dead_climb(family, dead, &snap, &owner, op);

	if (ret)
		return ret;
	if (!snap)
		return dynmap_dead_free(family, dead, owner, op);
	if (!dynmap_snap_is_dying(snap))
		return dynmap_dead_at(family, snap, dead, op);
	dead->len = 0;		/* the survivor's */
	return 0;
}

__hot int dynmap_family_resolve(struct dynmap_family *family, u32 most, struct dynmap_op *op)
{
	struct dynmap_dead_extent *dead;
	u8 urgent = op->urgent;
	int ret = 0;

	op->urgent = DYNMAP_URGENT_DEAD_LIST;
	while (!ret) {
		dead = dynmap_dead_list_take(family->cache);
		if (!dead)
			break;
		ret = most-- ? dynmap_dead_step(family, dead, op) : -EINPROGRESS;
		dynmap_dead_list_put(family->cache, dead);
	}
	op->urgent = urgent;
	return ret;
}

int dynmap_family_resolve_most(struct dynmap_family *family, u32 most, struct dynmap_op *op)
{
	int ret = dynmap_family_resolve(family, most, op);

	return ret == -EBUSY || ret == -ENOSPC ? 0 : ret;
}

int dynmap_family_resolve_some(struct dynmap_family *family, struct dynmap_op *op)
{
	u32 most = dynmap_alloc_room(family->alloc, 0, op->urgent) ? DYNMAP_DEAD_STEPS : ~0U;
	int ret = dynmap_family_resolve(family, most, op);

	if (ret == -EINPROGRESS)
		return 0;
	if ((ret == -EBUSY || ret == -ENOSPC) && !dynmap_alloc_dead_list_is_full(family->alloc))
		return 0;
	return ret;
}

/* What is wrong with a dead extent record, number @number of those that waited. */
static const char *dynmap_dead_verify(const struct dynmap_family *family, u64 number,
				      const struct dynmap_disk_dead *disk)
{
	if (le64_to_cpu(disk->number) != number)
		return "number";
	if (!disk->node || le64_to_cpu(disk->node) >= family->next_id)
		return "snapshot node";
	if (!disk->birth || le32_to_cpu(disk->birth) > family->cache->generation)
		return "birth";
	return NULL;
}

int dynmap_family_load(struct dynmap_family *family, struct dynmap_op *op)
{
	struct dynmap_disk_dead disk;
	struct dynmap_dead_extent dead;
	const char *failed;
	u64 number;
	int ret;

	for (;; family->waited++) {
		if (!family->cache->nr_spare)
			return -ENOMEM;
		ret = dynmap_btree_next(&family->waiting, family->waited, &disk, &number, op);
		if (ret)
			return ret == -ENOENT ? 0 : ret;
		failed = dynmap_dead_verify(family, family->waited, &disk);
		if (failed) {
			dynmap_err("dead extent %llu: bad %s", (unsigned long long)number, failed);
			return -EUCLEAN;
		}
		dead = (struct dynmap_dead_extent){
			.pbn = le64_to_cpu(disk.pbn),
			.node = le64_to_cpu(disk.node),
			.len = le32_to_cpu(disk.len),
			.birth = le32_to_cpu(disk.birth),
			.side = disk.side,
			.is_node = disk.is_node,
		};
		dynmap_dead_list_add(family->cache, &dead);
	}
}

/* Enter a dead extent that waits in the tree of dead extents. */
static int dynmap_dead_put(struct dynmap_family *family, u64 number,
			   const struct dynmap_dead_extent *dead, struct dynmap_op *op)
{
	struct dynmap_disk_dead disk = {
		.number = cpu_to_le64(number),
		.pbn = cpu_to_le64(dead->pbn),
		.node = cpu_to_le64(dead->node),
		.len = cpu_to_le32(dead->len),
		.birth = cpu_to_le32(dead->birth),
		.side = dead->side,
		.is_node = dead->is_node,
	};
	int ret = dynmap_alloc_reserve(family->alloc, dynmap_btree_worst(&family->waiting), 2, op);

	if (!ret)
		ret = dynmap_btree_put(&family->waiting, number, &disk, op);
	if (!ret && number == family->waited)
		family->waited++;
	return ret;
}

/* Take the last dead extents out of the tree of dead extents: @count stay. */
static int dynmap_dead_list_cut(struct dynmap_family *family, u64 count, struct dynmap_op *op)
{
	struct dynmap_path path;
	u64 first;
	int ret = 0;

	while (!ret && family->waited > count) {
		ret = dynmap_alloc_reserve(family->alloc, dynmap_btree_worst(&family->waiting), 2,
					   op);
		if (!ret)
			ret = dynmap_btree_last(&family->waiting, &path, op);
		if (ret)
			break;
		first = dynmap_leaf_key(path.buf[0], 0);
		if (first >= count) {
			dynmap_btree_cut_last(&family->waiting, &path);
			family->waited = first;
			continue;
		}
		ret = dynmap_btree_remove(&family->waiting, family->waited - 1, op);
		family->waited -= !ret;
	}
	return ret == -ENOENT || ret == -ESTALE ? -EUCLEAN : ret;
}

/* The tree of dead extents gets those that wait now. What fails can be called again. */
static int dynmap_dead_list_checkpoint(struct dynmap_family *family, struct dynmap_op *op)
{
	const struct dynmap_dead_list *dead_list = &family->cache->dead_list;
	const struct dynmap_dead_extent *dead;
	u64 number = 0;
	int ret;
	u32 i;

	for (i = 0; dead_list->count && i < DYNMAP_DEAD_BINS; i++) {
		for (dead = dead_list->bin[i]; dead; dead = dead->next) {
			ret = dynmap_dead_put(family, number++, dead, op);
			if (ret)
				return ret;
		}
	}
	return dynmap_dead_list_cut(family, number, op);
}

int dynmap_family_deleted(struct dynmap_family *family, u64 parent, u64 *id, struct dynmap_op *op)
{
	struct dynmap_snap *snap, *top = NULL;
	struct dynmap_climb climb;
	u32 generation;
	int ret;

	/* To where the way leads from a side that was deleted into a dying node, and on. */
	dynmap_climb_begin(&climb, parent, 0);
	for (;;) {
		ret = dynmap_climb(family, &climb, &snap, op);
		if (ret)
			return ret;
		top = climb.below ? climb.below : top;
		if (!snap || !dynmap_snap_is_dying(snap))
			break;
		top = snap;
		dynmap_climb_on(&climb, snap);
	}
	for (snap = top; snap; ) {
		*id = le64_to_cpu(snap->disk.child[dynmap_snap_dead_side(snap)]);
		if (!(*id & DYNMAP_CHILD_IS_NODE))
			return 0;
		generation = dynmap_snap_generation(snap);
		ret = dynmap_snap_get(family, *id & ~DYNMAP_CHILD_IS_NODE, &snap, op);
		if (ret)
			return ret;
		if (dynmap_snap_generation(snap) <= generation || !dynmap_snap_is_dying(snap)) {
			dynmap_err("snapshot node %llu: it cannot be on a side that was deleted",
				   (unsigned long long)snap->id);
			return -EUCLEAN;
		}
	}
	return 0;
}

/* What the survivor's side of a dying node gave up, as entry @slot of a leaf tells; else false. */
static bool dynmap_drain_dead(const struct dynmap_snap *snap, struct dynmap_buf *leaf, int slot,
			      struct dynmap_dead_extent *dead)
{
	const struct dynmap_disk_divergence *entry = dynmap_divergence(leaf, slot);

	if (entry->side == dynmap_snap_dead_side(snap))
		return false;
	*dead = (struct dynmap_dead_extent){
		.pbn = le64_to_cpu(entry->pbn),
		.len = le32_to_cpu(entry->len),
		.birth = le32_to_cpu(entry->birth),
		.is_node = entry->is_node,
	};
	return true;
}

int dynmap_family_drain(struct dynmap_family *family, u64 id, struct dynmap_op *op)
{
	struct dynmap_share above;
	struct dynmap_dead_extent dead;
	struct dynmap_snap *snap;
	struct dynmap_path path;
	int ret, i, count;

	ret = dynmap_snap_get(family, id, &snap, op);
	if (!ret)
		ret = dynmap_family_share(family, dynmap_snap_parent(snap),
					  dynmap_snap_side(snap), false, &above, op);
	if (!ret)
		ret = dynmap_btree_last(&snap->divergence, &path, op);
	if (!ret)
		ret = dynmap_alloc_reserve(family->alloc, dynmap_btree_worst(&snap->divergence),
					   8, op);
	if (ret)
		return ret;
	count = dynmap_node_count(path.buf[0]);
	for (i = 0; i < count && !ret; i++)
		if (dynmap_drain_dead(snap, path.buf[0], i, &dead))
			ret = dynmap_dead_check(family, &dead, dead.len, above.generation, op);
	if (ret)
		return ret;
	for (i = 0; i < count; i++)
		if (dynmap_drain_dead(snap, path.buf[0], i, &dead))
			dynmap_dead_rise(family, snap, &dead, dead.len, above.generation);
	dynmap_btree_cut_last(&snap->divergence, &path);
	dynmap_snap_changed(snap);
	return 0;
}

int dynmap_family_splice(struct dynmap_family *family, u64 id, struct dynmap_disk_snapshot *left,
			 struct dynmap_op *op)
{
	struct dynmap_snap *snap, *parent = NULL, *child = NULL;
	u64 survivor;
	int ret;

	ret = dynmap_snap_get(family, id, &snap, op);
	if (!ret)
		ret = dynmap_alloc_reserve(family->alloc, dynmap_btree_worst(&family->snaps), 4,
					   op);
	if (ret)
		return ret;
	survivor = le64_to_cpu(snap->disk.child[!dynmap_snap_dead_side(snap)]);
	if (dynmap_snap_parent(snap))
		ret = dynmap_snap_get(family, dynmap_snap_parent(snap), &parent, op);
	if (!ret && survivor & DYNMAP_CHILD_IS_NODE)
		ret = dynmap_snap_get(family, survivor & ~DYNMAP_CHILD_IS_NODE, &child, op);
	if (!ret)
		ret = dynmap_btree_remove(&family->snaps, id, op);
	if (ret && ret != -ENOENT)
		return ret;
	if (parent)
		dynmap_snap_set_child(parent, dynmap_snap_side(snap), survivor);
	if (child) {
		child->disk.parent = snap->disk.parent;
		child->disk.parent_slot = snap->disk.parent_slot;
		child->own += snap->own;
		dynmap_snap_changed(child);
	}
	*left = snap->disk;
	left->own_blocks = cpu_to_le64(snap->own);
	dynmap_snap_free(family, snap);
	family->version++;
	return 0;
}

/*
 * Of the first blocks of a run, given up at a node by one of its sides: how many they
 * are, *len, and would it free them?
 */
static int dynmap_survey_run(struct dynmap_family *family, struct dynmap_dead_extent dead, u32 *len,
			     bool *freed, struct dynmap_op *op)
{
	const struct dynmap_disk_divergence *entry;
	struct dynmap_climb climb;
	struct dynmap_path path;
	struct dynmap_snap *snap;
	u64 limit;
	int ret;

	*freed = true;
	*len = dead.len;
	dynmap_climb_begin(&climb, dead.node, dead.side);
	climb.birth = dead.birth;
	for (;;) {
		ret = dynmap_climb(family, &climb, &snap, op);
		if (ret || !snap)
			return ret;
		*freed = false;
		if (dynmap_snap_is_dying(snap))
			return 0;
		ret = dynmap_divergence_find(snap, dead.pbn, &path, &entry, &limit, op);
		if (ret)
			return ret;
		*len = min((u64)*len, limit - dead.pbn);
		if (!entry || entry->side == climb.side)
			return 0;
		*freed = true;
		dynmap_climb_on(&climb, snap);
	}
}

/* Count the entries of a side in one leaf; what the other one gave up is this one's alone. */
static int dynmap_survey_leaf(struct dynmap_family *family, struct dynmap_snap *snap,
			      struct dynmap_survey *survey, struct dynmap_path *path,
			      struct dynmap_op *op)
{
	bool dying = dynmap_snap_is_dying(snap), ours, freed;
	const struct dynmap_disk_divergence *entry;
	struct dynmap_dead_extent dead = {
		.node = dynmap_snap_parent(snap),
		.side = dynmap_snap_side(snap),
	};
	struct dynmap_share above;
	u64 blocks = 0, end;
	int ret, i;
	u32 len;

	ret = dynmap_family_share(family, dead.node, dead.side, false, &above, op);
	for (i = 0; !ret && i < (int)dynmap_node_count(path->buf[0]); i++) {
		entry = dynmap_divergence(path->buf[0], i);
		end = dynmap_divergence_end(entry);
		dead.pbn = le64_to_cpu(entry->pbn);
		dead.birth = le32_to_cpu(entry->birth);
		/* Dying: less what the side gave up; else what the other one did. */
		ours = entry->side == survey->side;
		if (entry->is_node || dead.pbn < survey->key || dying != ours)
			continue;
		for (; !ret && dead.pbn < end; dead.pbn += len) {
			dead.len = end - dead.pbn;
			len = dead.len;
			freed = dead.birth > above.generation;
			if (!freed)
				ret = dynmap_survey_run(family, dead, &len, &freed, op);
			blocks += freed ? len : 0;
		}
	}
	if (!ret)
		survey->blocks += dying ? -blocks : blocks;
	return ret;
}

int dynmap_family_survey(struct dynmap_family *family, struct dynmap_survey *survey,
			 struct dynmap_op *op)
{
	struct dynmap_snap *snap;
	struct dynmap_path path;
	int ret;

	if (!survey->node)
		return -ENOENT;
	ret = dynmap_snap_get(family, survey->node, &snap, op);
	if (ret)
		return ret;
	ret = dynmap_btree_find(&snap->divergence, survey->key, &path, op);
	if (ret && ret != -ENOENT)
		return ret;
	if (!ret) {
		ret = dynmap_survey_leaf(family, snap, survey, &path, op);
		survey->key = path.high;
	}
	if (ret == -ENOENT)
		survey->key = ~0ULL;
	else if (ret)
		return ret;
	if (survey->key != ~0ULL)
		return 0;
	survey->key = 0;
	survey->node = 0;
	if (dynmap_snap_is_dying(snap)) {
		survey->blocks += snap->own;
		survey->node = dynmap_snap_parent(snap);
		survey->side = dynmap_snap_side(snap);
	}
	return 0;
}

int dynmap_family_enter(struct dynmap_family *family, u32 *most, struct dynmap_op *op)
{
	struct dynmap_snap *snap;
	int ret;

	while (!list_empty(&family->changed)) {
		if (!*most)
			return -EINPROGRESS;
		--*most;
		snap = list_first_entry(&family->changed, struct dynmap_snap, state);
		ret = dynmap_btree_seal(&snap->divergence, most);
		if (!ret)
			ret = dynmap_alloc_reserve(family->alloc,
						   dynmap_btree_worst(&family->snaps), 2, op);
		if (ret)
			return ret;
		dynmap_btree_root(&snap->divergence, &snap->disk.divergence_root);
		snap->disk.own_blocks = cpu_to_le64(snap->own);
		ret = dynmap_btree_put(&family->snaps, snap->id, &snap->disk, op);
		if (ret)
			return ret;
		snap->entered = true;
		list_move_tail(&snap->state, &family->entered);
	}
	return 0;
}

int dynmap_family_checkpoint(struct dynmap_family *family, u32 *most, struct dynmap_op *op)
{
	int ret = dynmap_dead_list_checkpoint(family, op);

	return ret ? ret : dynmap_family_enter(family, most, op);
}

void dynmap_family_sealed(struct dynmap_family *family)
{
	struct dynmap_snap *snap, *next;

	list_for_each_entry_safe(snap, next, &family->entered, state) {
		snap->dirty = false;
		snap->entered = false;
		list_del_init(&snap->state);
	}
	family->cache->tally[DYNMAP_TREE_SNAPSHOT].records = 0;
}
