// SPDX-License-Identifier: GPL-2.0-only
/* Who uses a block, see holders.h. Callers: the checker. */
#include <stdlib.h>

#include "tools/holders.h"

#define damaged(holders, ...)	((holders)->faults++, dynmap_err(__VA_ARGS__))

/* Room for one more element behind @count others; lengths double. */
static void *grow(struct holders *holders, void *array, u32 count, size_t bytes)
{
	void *longer = array;

	if (!(count & (count - 1)))
		longer = realloc(array, (count ? 2ULL * count : 1) * bytes);
	if (longer)
		return longer;
	holders->no_memory = true;
	return array;
}

/* Weight of an entry: the finisher of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014). */
static u64 weight_of(u64 id, u32 side)
{
	u64 x = (id << 1 | side) * 0x9e3779b97f4a7c15ULL + 0x9e3779b97f4a7c15ULL;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

void holders_add_node(struct holders *holders, struct dynmap_snap *snap)
{
	struct holders_node *node = grow(holders, holders->node, holders->nr_nodes, sizeof(*node));

	holders->node = node;
	if (holders->no_memory)
		return;
	node += holders->nr_nodes++;
	memset(node, 0, sizeof(*node));
	node->snap = snap;
	node->parent = HOLDERS_NONE;
	if (!dynmap_snap_is_dying(snap)) {
		node->weight[0] = weight_of(snap->id, 0);
		node->weight[1] = weight_of(snap->id, 1);
	}
}

void holders_add_volume(struct holders *holders, struct dynmap_volume *volume)
{
	holders->volume = grow(holders, holders->volume, holders->nr_volumes, sizeof(volume));
	if (!holders->no_memory)
		holders->volume[holders->nr_volumes++] = volume;
}

u32 holders_find(const struct holders *holders, u64 id)
{
	u32 low = 0, high = holders->nr_nodes, middle;

	while (low < high) {
		middle = (low + high) / 2;
		if (holders->node[middle].snap->id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low < holders->nr_nodes && holders->node[low].snap->id == id ? low : HOLDERS_NONE;
}

/* The same of a volume. */
static u32 find_volume(const struct holders *holders, u64 id)
{
	u32 low = 0, high = holders->nr_volumes, middle;

	while (low < high) {
		middle = (low + high) / 2;
		if (holders->volume[middle]->id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low < holders->nr_volumes && holders->volume[low]->id == id ? low : HOLDERS_NONE;
}

static void add_leaf(struct holders *holders, struct dynmap_volume *volume, u32 parent, u32 side)
{
	struct holders_leaf *leaf = grow(holders, holders->leaf, holders->nr_leaves, sizeof(*leaf));

	holders->leaf = leaf;
	if (holders->no_memory)
		return;
	leaf += holders->nr_leaves++;
	memset(leaf, 0, sizeof(*leaf));
	leaf->volume = volume;
	leaf->parent = parent;
	leaf->tree = HOLDERS_NONE;
	if (parent != HOLDERS_NONE) {
		leaf->tree = holders->node[parent].tree;
		leaf->above = holders->node[parent].above + holders->node[parent].weight[!side];
	}
}

/* Is every node of a family dying, from this one up? Then its last volume is deleted, too. */
static bool all_dying(const struct holders *holders, u32 at)
{
	while (at != HOLDERS_NONE && dynmap_snap_is_dying(holders->node[at].snap))
		at = holders->node[at].parent;
	return at == HOLDERS_NONE;
}

/* A volume as child of a node: its place in the list, or HOLDERS_NONE. */
static u32 volume_below(struct holders *holders, u32 parent, u32 side, bool dead)
{
	const struct holders_node *node = &holders->node[parent];
	u64 id = le64_to_cpu(node->snap->disk.child[side]);
	u32 at = find_volume(holders, id);
	const struct dynmap_disk_volume *disk;

	if (at == HOLDERS_NONE) {
		/* One that is deleted may be gone before the node is. */
		if (!dead)
			damaged(holders, "snapshot node %llu: its volume %llu is not there",
				(unsigned long long)node->snap->id, (unsigned long long)id);
		return HOLDERS_NONE;
	}
	disk = &holders->volume[at]->disk;
	if (holders->taken[at] || le64_to_cpu(disk->parent) != node->snap->id ||
	    le32_to_cpu(disk->parent_slot) != side) {
		damaged(holders, "snapshot node %llu: volume %llu is not its child",
			(unsigned long long)node->snap->id, (unsigned long long)id);
		return HOLDERS_NONE;
	}
	if (dead ? id <= DYNMAP_MAX_VOLUME_ID :
		   (id > DYNMAP_MAX_VOLUME_ID && !all_dying(holders, parent)))
		damaged(holders, "snapshot node %llu: volume %llu is on a side that was %sdeleted",
			(unsigned long long)node->snap->id, (unsigned long long)id,
			dead ? "" : "not ");
	return at;
}

/* A snapshot node as child of another one, or HOLDERS_NONE. */
static u32 node_below(struct holders *holders, u32 parent, u32 side)
{
	const struct dynmap_snap *above = holders->node[parent].snap;
	u64 id = le64_to_cpu(above->disk.child[side]) & ~DYNMAP_CHILD_IS_NODE;
	u32 at = holders_find(holders, id);
	const struct dynmap_disk_snapshot *disk;

	if (at != HOLDERS_NONE) {
		disk = &holders->node[at].snap->disk;
		if (!holders->node[at].stage && le64_to_cpu(disk->parent) == above->id &&
		    le32_to_cpu(disk->parent_slot) == side &&
		    le32_to_cpu(disk->generation) > le32_to_cpu(above->disk.generation))
			return at;
	}
	damaged(holders, "snapshot node %llu: node %llu is not its child",
		(unsigned long long)above->id, (unsigned long long)id);
	return HOLDERS_NONE;
}

static u32 generation_of(const struct holders_node *node)
{
	return le32_to_cpu(node->snap->disk.generation);
}

/* Enter a side of a node: the node that is its child, or HOLDERS_NONE after a leaf. */
static u32 enter_side(struct holders *holders, u32 at, u32 side)
{
	struct holders_node *node = &holders->node[at], *child;
	const struct dynmap_snap *snap = node->snap;
	bool dying = dynmap_snap_is_dying(snap);
	bool dead_side = dying && dynmap_snap_dead_side(snap) == side;
	bool dead = node->dead || dead_side;
	u32 below, far;

	if (le64_to_cpu(snap->disk.child[side]) & DYNMAP_CHILD_IS_NODE) {
		below = node_below(holders, at, side);
		if (below == HOLDERS_NONE) {
			add_leaf(holders, NULL, at, side);
			return HOLDERS_NONE;
		}
		child = &holders->node[below];
		child->parent = at;
		child->tree = node->tree;
		child->dead = dead;
		child->gone = dead_side ? generation_of(node) : dying ? node->gone : 0;
		child->depth = node->depth + 1;
		child->above = node->above + node->weight[!side];
		/* Jumps as in Myers, "An applicative random-access stack", IPL 1983. */
		far = holders->node[node->jump].jump;
		child->jump = node->depth - holders->node[node->jump].depth ==
			      holders->node[node->jump].depth - holders->node[far].depth ?
			      far : at;
		return below;
	}
	below = volume_below(holders, at, side, dead);
	if (below != HOLDERS_NONE)
		holders->taken[below] = true;
	add_leaf(holders, below == HOLDERS_NONE ? NULL : holders->volume[below], at, side);
	return HOLDERS_NONE;
}

/* Number what is below a root. */
static void number_tree(struct holders *holders, u32 root)
{
	u32 at = root, below;

	holders->node[root].jump = root;
	holders->node[root].tree = root;
	while (at != HOLDERS_NONE && !holders->no_memory) {
		struct holders_node *node = &holders->node[at];
		u32 side = node->stage++;

		if (side == 0)
			node->first = holders->nr_leaves;
		else if (side == 1)
			node->middle = holders->nr_leaves;
		else
			node->last = holders->nr_leaves - 1;
		if (side > 1) {
			at = node->parent;
			continue;
		}
		below = enter_side(holders, at, side);
		if (below != HOLDERS_NONE)
			at = below;
	}
}

/* Sums over neighbours: between two leaves lies exactly one node of their tree. */
static void sum_up(struct holders *holders)
{
	u64 sum = 0;
	u32 i;

	/* First what is taken off at the leaf behind each node. */
	for (i = 0; i < holders->nr_nodes; i++) {
		const struct holders_node *node = &holders->node[i];

		if (node->stage > 2)
			holders->leaf[node->middle].sum = node->above + node->weight[0] +
							  node->weight[1];
	}
	for (i = 0; i < holders->nr_leaves; i++) {
		sum += holders->leaf[i].above - holders->leaf[i].sum;
		holders->leaf[i].sum = sum;
	}
}

/* Place in the table of the set that was written last, or of the one equal to it. */
static u32 *slot_of(const struct holders *holders, u32 set)
{
	u32 len = 1 + 2 * holders->set[set], i, mask = (1U << holders->table_bits) - 1;
	u64 hash = 0;

	for (i = 0; i < len; i++)
		hash = (hash ^ holders->set[set + i]) * 0x9e3779b97f4a7c15ULL;
	for (i = hash >> (64 - holders->table_bits); ; i = (i + 1) & mask) {
		u32 other = holders->table[i];

		/* The first number, the length, tells how far both may be compared. */
		if (!other || (holders->set[other] == holders->set[set] &&
			       !memcmp(&holders->set[other + 1], &holders->set[set + 1],
				       (len - 1) * sizeof(u32))))
			return &holders->table[i];
	}
}

static bool longer_table(struct holders *holders)
{
	u32 bits = holders->table_bits ? holders->table_bits + 1 : 10, set, *old = holders->table;

	holders->table = calloc(1ULL << bits, sizeof(u32));
	if (!holders->table) {
		holders->table = old;
		holders->no_memory = true;
		return false;
	}
	free(old);
	holders->table_bits = bits;
	for (set = 1; set < holders->set_len; set += 1 + 2 * holders->set[set])
		*slot_of(holders, set) = set;
	return true;
}

/* Room for a set of so many ranges behind the others, and for its place in the table. */
static bool set_room(struct holders *holders, u64 ranges)
{
	u64 need = holders->set_len + 2 + 2 * ranges, room;
	u32 *longer;

	if (need > holders->set_room) {
		room = max(2 * need, 4096ULL);
		longer = room > HOLDERS_NONE ? NULL : realloc(holders->set, room * sizeof(u32));
		holders->no_memory |= !longer;
		if (!longer)
			return false;
		holders->set = longer;
		holders->set_room = room;
		/* 0 is the empty set. */
		if (!holders->set_len)
			holders->set[holders->set_len++] = 0;
	}
	return 2 * (holders->nr_sets + 1) <= 1ULL << holders->table_bits || longer_table(holders);
}

/* The set that was written behind the others, which may be there already. */
static u32 intern(struct holders *holders)
{
	u32 set = holders->set_len, *slot = slot_of(holders, set);

	if (!*slot) {
		*slot = set;
		holders->nr_sets++;
		holders->set_len += 1 + 2 * holders->set[set];
	}
	return *slot;
}

u32 holders_one(struct holders *holders, u32 leaf)
{
	u32 *set;

	if (!set_room(holders, 1))
		return 0;
	set = holders->set + holders->set_len;
	set[0] = 1;
	set[1] = leaf;
	set[2] = leaf;
	return intern(holders);
}

void holders_gather(struct holders *holders, u32 set)
{
	const u32 *range;
	u32 count, room;
	void *longer;

	range = holders_ranges(holders, set, &count);
	if (holders->nr_ranges + count > holders->range_room) {
		room = 2 * (holders->nr_ranges + count);
		longer = realloc(holders->range, room * sizeof(*holders->range));
		holders->no_memory |= !longer;
		if (!longer)
			return;
		holders->range = longer;
		holders->range_room = room;
	}
	if (count)
		memcpy(holders->range[holders->nr_ranges], range, count * sizeof(*holders->range));
	holders->nr_ranges += count;
}

static int compare_ranges(const void *a, const void *b)
{
	u32 x = *(const u32 *)a, y = *(const u32 *)b;

	return x < y ? -1 : x > y;
}

u32 holders_gathered(struct holders *holders)
{
	u32 (*range)[2] = holders->range, (*to)[2], i, count = 0;

	if (!set_room(holders, holders->nr_ranges))
		return 0;
	if (holders->nr_ranges)
		qsort(range, holders->nr_ranges, sizeof(*range), compare_ranges);
	to = (void *)(holders->set + holders->set_len + 1);
	for (i = 0; i < holders->nr_ranges; i++) {
		if (count && range[i][0] <= to[count - 1][1] + 1) {
			to[count - 1][1] = max(to[count - 1][1], range[i][1]);
		} else {
			to[count][0] = range[i][0];
			to[count][1] = range[i][1];
			count++;
		}
	}
	holders->set[holders->set_len] = count;
	holders->nr_ranges = 0;
	return count ? intern(holders) : 0;
}

void holders_number(struct holders *holders)
{
	u32 i;

	holders->taken = calloc(holders->nr_volumes + 1, sizeof(*holders->taken));
	holders->no_memory |= !holders->taken || !set_room(holders, 1);
	for (i = 0; i < holders->nr_nodes && !holders->no_memory; i++)
		if (!holders->node[i].snap->disk.parent)
			number_tree(holders, i);
	for (i = 0; i < holders->nr_nodes && !holders->no_memory; i++)
		if (!holders->node[i].stage)
			damaged(holders, "snapshot node %llu: no root is above it",
				(unsigned long long)holders->node[i].snap->id);
	for (i = 0; i < holders->nr_volumes && !holders->no_memory; i++) {
		if (holders->taken[i])
			continue;
		if (holders->volume[i]->disk.parent)
			damaged(holders, "volume %llu: snapshot node %llu is not its parent",
				(unsigned long long)holders->volume[i]->id,
				(unsigned long long)le64_to_cpu(holders->volume[i]->disk.parent));
		add_leaf(holders, holders->volume[i], HOLDERS_NONE, 0);
	}
	if (!holders->no_memory)
		sum_up(holders);
}

void holders_exit(struct holders *holders)
{
	free(holders->node);
	free(holders->volume);
	free(holders->taken);
	free(holders->leaf);
	free(holders->set);
	free(holders->table);
	free(holders->range);
	memset(holders, 0, sizeof(*holders));
}

u32 holders_top(const struct holders *holders, u32 leaf, u32 birth)
{
	const struct holders_node *node = holders->node;
	u32 at = holders->leaf[leaf].parent;

	if (at == HOLDERS_NONE || generation_of(&node[at]) < birth)
		return HOLDERS_NONE;
	for (;;) {
		if (node[at].jump != at && generation_of(&node[node[at].jump]) >= birth)
			at = node[at].jump;
		else if (node[at].parent != HOLDERS_NONE &&
			 generation_of(&node[node[at].parent]) >= birth)
			at = node[at].parent;
		else
			return at;
	}
}

/* The lowest node above both of two leaves of one tree, the second one behind the first. */
static const struct holders_node *common(const struct holders *holders, u32 a, u32 b)
{
	const struct holders_node *node = holders->node;
	u32 at = holders->leaf[a].parent;

	while (node[at].last < b)
		at = node[node[at].jump].last < b ? node[at].jump : node[at].parent;
	return &node[at];
}

bool holders_step(const struct holders *holders, u32 before, u32 first, u32 last, u32 birth,
		  u64 *weight)
{
	const struct holders_leaf *leaf = holders->leaf;
	const struct holders_node *node;
	u32 top = holders_top(holders, first, birth);

	if (top == HOLDERS_NONE)
		return false;
	node = &holders->node[top];
	if (last > node->last || (before != HOLDERS_NONE && before < node->first))
		return false;
	*weight = leaf[first].above + leaf[last].sum - leaf[first].sum;
	if (before == HOLDERS_NONE) {
		*weight -= node->above;
	} else {
		node = common(holders, before, first);
		*weight -= node->above + node->weight[0] + node->weight[1];
	}
	return true;
}
