// SPDX-License-Identifier: GPL-2.0-only
/* Unit tests of the checker: it finds what is wrong, and reads nothing twice. */
#include "fixture.h"
#include "tools/holders.h"

#define MOST_NODES	40
#define MOST_LEAVES	(3 * MOST_NODES)

static void snapshot(struct fixture *fixture, u64 id, u64 origin)
{
	u8 uuid[DYNMAP_UUID_BYTES] = { id + 1 };

	assert_int_equal(HELPED(fixture, dynmap_volume_snapshot(&fixture->pool.table, id, origin,
								uuid, 5, &op)), 0);
}

static struct dynmap_snap *snap_of(struct fixture *fixture, u64 id)
{
	struct dynmap_family *family = &fixture->pool.table.family;
	struct dynmap_snap *snap = NULL;

	assert_int_equal(HELPED(fixture, dynmap_snap_get(family, id, &snap, &op)), 0);
	return snap;
}

static struct dynmap_check check_with(struct fixture *fixture, u64 memory)
{
	struct dynmap_check_how how = { .memory = memory };
	struct dynmap_check check;

	assert_int_equal(dynmap_check_pool(&fixture->pool, &how, &check), 0);
	return check;
}

/* A family of five volumes that all have something of their own. */
static void make_family(struct fixture *fixture)
{
	struct dynmap_volume *origin = fixture_create(fixture, 1);

	assert_int_equal(fixture_write(fixture, origin, 0, 100, 1), 0);
	snapshot(fixture, 2, 1);
	assert_int_equal(fixture_write(fixture, origin, 10, 7, 2), 0);
	snapshot(fixture, 3, 1);
	assert_int_equal(fixture_write(fixture, fixture_load(fixture, 3), 12, 9, 3), 0);
	snapshot(fixture, 4, 3);
	assert_int_equal(fixture_unmap(fixture, fixture_load(fixture, 3), 40, 60), 0);
	snapshot(fixture, 5, 1);
	assert_int_equal(fixture_write(fixture, origin, 50, 20, 4), 0);
	assert_int_equal(fixture_write(fixture, fixture_load(fixture, 2), 90, 20, 5), 0);
	fixture_check(fixture);
}

/* What was spoilt is found, in one pass and in many. */
static void is_found(struct fixture *fixture)
{
	assert_true(check_with(fixture, 0).damaged);
	assert_true(check_with(fixture, 1).damaged);
}

/* Spoil an entry in one of four ways, see that it is found, and mend it; false: no such way. */
static bool spoil(struct fixture *fixture, struct dynmap_disk_divergence *entry, u32 way)
{
	struct dynmap_disk_divergence good = *entry;
	u32 len = le32_to_cpu(entry->len);

	if (way == 0)
		entry->len = cpu_to_le32(len - 1);
	else if (way == 1)
		entry->side = !entry->side;
	else if (way == 2)
		entry->birth = cpu_to_le32(le32_to_cpu(entry->birth) + 1);
	else if (way == 3)
		entry->pbn = cpu_to_le64(le64_to_cpu(entry->pbn) + 1);
	else
		return false;
	is_found(fixture);
	*entry = good;
	return true;
}

/* Each entry of each divergence tree counts, and so does each part of it. */
static void test_divergence(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_path path;
	struct dynmap_snap *snap;
	u32 entries = 0, way;
	u64 id;
	int i;

	make_family(fixture);
	for (id = 1; id <= 4; id++) {
		snap = snap_of(fixture, id);
		assert_int_equal(HELPED(fixture, dynmap_btree_find(&snap->divergence, 0, &path,
								   &op)), 0);
		assert_int_equal(path.levels, 1);
		for (i = 0; i < (int)dynmap_node_count(path.buf[0]); i++, entries++)
			for (way = 0; spoil(fixture, dynmap_leaf_record(path.buf[0], i), way); )
				way++;
	}
	assert_true(entries > 10);
	fixture_check(fixture);
}

/* Spoil a dead extent that waits, see that it is found, and mend it; false: no such way. */
static bool spoil_dead(struct fixture *fixture, struct dynmap_dead_extent *dead, u32 way)
{
	struct dynmap_dead_extent good = *dead;

	if (way == 0)
		dead->len++;
	else if (way == 1)
		dead->side = !dead->side;
	else if (way == 2)
		dead->birth++;
	else if (way == 3)
		dead->pbn++;
	else if (way == 4)
		dead->node = 77;
	else
		return false;
	is_found(fixture);
	*dead = good;
	return true;
}

/* Each dead extent that waits counts, and so does each part of it. */
static void test_dead_list(void **state)
{
	struct fixture *fixture = *state;
	const struct dynmap_dead_list *dead_list = &fixture->pool.cache.dead_list;
	struct dynmap_dead_extent *dead;
	u32 i, way, seen = 0;

	make_family(fixture);
	assert_int_equal(dead_list->count, 0);
	assert_int_equal(fixture_write(fixture, fixture_load(fixture, 2), 5, 20, 6), 0);
	assert_int_equal(fixture_unmap(fixture, fixture_load(fixture, 3), 0, 11), 0);
	assert_int_equal(fixture_write(fixture, fixture_load(fixture, 4), 8, 70, 7), 0);
	fixture_check_waiting(fixture);
	for (i = 0; i < DYNMAP_DEAD_BINS; i++)
		for (dead = dead_list->bin[i]; dead; dead = dead->next, seen++)
			for (way = 0; spoil_dead(fixture, dead, way); )
				way++;
	assert_int_equal(seen, dead_list->count);
	assert_true(seen > 5);
	fixture_check_waiting(fixture);
	fixture_check(fixture);
}

/* Counters of volumes and of snapshot nodes. */
static void test_counters(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_volume *volume;
	u64 *counter[4];
	u64 id;
	u32 i;

	make_family(fixture);
	for (id = 1; id <= 5; id++) {
		volume = fixture_load(fixture, id);
		counter[0] = &volume->mapped;
		counter[1] = &volume->reserved;
		counter[2] = &volume->exclusive;
		for (i = 0; i < 4; i++) {
			if (i == 3 && id == 5)
				break;
			if (i == 3)
				counter[3] = &snap_of(fixture, id)->own;
			++*counter[i];
			assert_int_equal(check_with(fixture, 0).repairable, 1);
			--*counter[i];
		}
	}
	fixture_check(fixture);
}

/* Parents and children must tell the same of each other. */
static void test_relations(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_volume *volume;
	u64 id;

	make_family(fixture);
	for (id = 1; id <= 5; id++) {
		volume = fixture_load(fixture, id);
		volume->disk.parent_slot ^= cpu_to_le32(1);
		assert_true(check_with(fixture, 0).damaged);
		volume->disk.parent_slot ^= cpu_to_le32(1);
	}
	fixture_check(fixture);
}

/* A volume that cannot be read does not hide what is wrong with a family it is not of. */
static void test_unreadable(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_volume *lone;
	struct dynmap_check before, after;
	struct dynmap_path path;
	u32 copy, dev;
	u64 at;

	make_family(fixture);
	lone = fixture_create(fixture, 9);
	assert_int_equal(fixture_write(fixture, lone, 0, 5, 6), 0);
	fixture_check(fixture);
	for (copy = 0; copy < 2; copy++) {
		at = dynmap_pbn_locate(&fixture->pool.geo, lone->map.root.pbn[copy], &dev);
		memset(store_mem_block(&fixture->mem, dev, at), 0, DYNMAP_BLOCK_BYTES);
	}
	fixture_close(fixture);
	assert_int_equal(fixture_open(fixture, true), 0);
	before = check_with(fixture, 0);
	assert_int_equal(before.damaged, 1);
	fixture_load(fixture, 3)->mapped++;
	snap_of(fixture, 1)->own++;
	after = check_with(fixture, 0);
	assert_int_equal(after.damaged, before.damaged);
	assert_int_equal(after.repairable, before.repairable + 2);
	assert_int_equal(HELPED(fixture, dynmap_btree_find(&snap_of(fixture, 1)->divergence, 0,
							   &path, &op)), 0);
	((struct dynmap_disk_divergence *)dynmap_leaf_record(path.buf[0], 0))->side ^= 1;
	assert_true(check_with(fixture, 0).damaged > before.damaged);
}

/*
 * Volumes go one after the other, in every order; at each step of that what is used by those
 * who stay, or waits for a snapshot node to be drained, or as a dead extent, is told from what is
 * not.
 */
static void test_deleted(void **state)
{
	static const u64 blocks[] = { 6000, 0 };
	static const u64 orders[][5] = {
		{ 1, 2, 3, 4, 5 }, { 5, 4, 3, 2, 1 }, { 3, 4, 1, 5, 2 }, { 4, 1, 3, 2, 5 },
		{ 2, 5, 1, 4, 3 }, { 3, 1, 5, 2, 4 },
	};
	static struct fixture fixture;
	struct dynmap_table *table = &fixture.pool.table;
	void (*checked)(struct fixture *fixture);
	u32 order, i, together;
	u64 id;
	int ret;

	(void)state;
	for (order = 0; order < 4 * ARRAY_SIZE(orders); order++) {
		together = 1 + order % 2;
		checked = order / 2 % 2 ? fixture_check_waiting : fixture_check;
		fixture_init(&fixture, blocks, 16, 2);
		make_family(&fixture);
		for (i = 0; i < 5; i++) {
			id = orders[order / 4][i];
			assert_int_equal(HELPED(&fixture, dynmap_volume_delete(table, id, &op)),
					 0);
			checked(&fixture);
			if (i % together)
				continue;
			do {
				ret = HELPED(&fixture, dynmap_volume_reap(table, &op));
				checked(&fixture);
			} while (!ret);
			assert_int_equal(ret, -ENOENT);
		}
		fixture_check(&fixture);
		assert_int_equal(fixture.pool.alloc.data_allocated, 0);
		fixture_exit(&fixture);
	}
}

/* A hundred snapshots share most nodes: each one is read once, and both of its copies. */
static void test_read_once(void **state)
{
	static const u64 blocks[] = { 50000, 50000, 0 };
	static struct fixture fixture;
	struct dynmap_volume *origin;
	struct dynmap_check check;
	u64 reads, id;

	(void)state;
	fixture_init(&fixture, blocks, 1, 2);
	origin = fixture_create(&fixture, 1);
	for (id = 0; id < 2000; id++)
		assert_int_equal(fixture_write(&fixture, origin, id * 37, 1, 1), 0);
	for (id = 2; id < 102; id++) {
		snapshot(&fixture, id, 1);
		assert_int_equal(fixture_write(&fixture, origin, fixture_below(2000) * 37, 1, id),
				 0);
	}
	fixture_check(&fixture);
	fixture_close(&fixture);
	assert_int_equal(fixture_open(&fixture, true), 0);
	reads = fixture.mem.reads;
	check = check_with(&fixture, 0);
	assert_int_equal(check.damaged + check.repairable, 0);
	assert_int_equal(check.passes, 1);
	assert_int_equal(check.volumes, 101);
	assert_int_equal(check.mapped, 101 * 2000);
	/* One read to bring the node, two to compare: of each, and not of each for each volume. */
	print_message("%llu nodes, %llu reads\n", (unsigned long long)check.nodes,
		      (unsigned long long)(fixture.mem.reads - reads));
	assert_true(check.nodes < 2 * 100 + 150 + 4 * 100);
	assert_true(fixture.mem.reads - reads <= 3 * check.nodes + 100);
	fixture_exit(&fixture);
}

/* With no memory at all it takes a pass for each segment, and finds the same. */
static void test_passes(void **state)
{
	static const u64 blocks[] = { 70000, 3000, 140000, 0 };
	static struct fixture fixture;
	struct dynmap_check one, many;

	(void)state;
	fixture_init(&fixture, blocks, 16, 2);
	make_family(&fixture);
	assert_int_equal(fixture_write(&fixture, fixture_load(&fixture, 1), 1000, 65000, 6), 0);
	snapshot(&fixture, 6, 1);
	assert_int_equal(fixture_write(&fixture, fixture_load(&fixture, 1), 30000, 30000, 6), 0);
	fixture_check(&fixture);
	one = check_with(&fixture, 0);
	many = check_with(&fixture, 1);
	assert_int_equal(one.damaged + one.repairable + many.damaged + many.repairable, 0);
	assert_int_equal(one.passes, 1);
	assert_true(many.passes > 3);
	many.passes = one.passes;
	assert_memory_equal(&one, &many, sizeof(one));
	fixture_exit(&fixture);
}

/* A forest made up: snapshot nodes, and volumes below them. */
struct forest {
	struct dynmap_snap snap[MOST_NODES];
	struct dynmap_volume volume[MOST_LEAVES];
	u32 snaps;
	u32 volumes;
};

/* A node or a volume below a node, and what is below it; its number as a child. */
static u64 make_child(struct forest *forest, u64 parent, u32 side, u32 generation)
{
	struct dynmap_snap *snap;
	u32 i;

	if (forest->snaps == MOST_NODES || fixture_below(3) == 0) {
		forest->volume[forest->volumes].id = forest->volumes;
		forest->volume[forest->volumes].disk.parent = cpu_to_le64(parent);
		forest->volume[forest->volumes].disk.parent_slot = cpu_to_le32(side);
		return forest->volumes++;
	}
	snap = &forest->snap[forest->snaps++];
	snap->id = forest->snaps;
	snap->disk.parent = cpu_to_le64(parent);
	snap->disk.parent_slot = cpu_to_le32(side);
	generation += 1 + fixture_below(3);
	snap->disk.generation = cpu_to_le32(generation);
	for (i = 0; i < 2; i++)
		snap->disk.child[i] = cpu_to_le64(make_child(forest, snap->id, i, generation));
	return snap->id | DYNMAP_CHILD_IS_NODE;
}

/* The weight that holders_step() adds up, node by node. */
static u64 naive_weight(struct holders *holders, const bool *has, u32 top)
{
	u64 sum = 0;
	u32 i, leaf, at;

	for (i = 0; i < holders->nr_nodes; i++) {
		struct holders_node *node = &holders->node[i];
		bool side[2] = {};

		for (at = i; at != top && at != HOLDERS_NONE; )
			at = holders->node[at].parent;
		if (at != top)
			continue;
		for (leaf = node->first; leaf <= node->last; leaf++)
			side[leaf >= node->middle] |= has[leaf];
		if (side[0] != side[1])
			sum += node->weight[side[0]];
	}
	return sum;
}

/* Sets are the ranges of their members, however they were gathered; equal sets are one. */
static void test_sets(void **state)
{
	struct dynmap_volume volume[MOST_NODES] = {};
	struct holders holders = {};
	bool has[MOST_NODES];
	u32 round, i, j, count, ranges, set, odd, members;
	const u32 *range;

	(void)state;
	for (i = 0; i < MOST_NODES; i++) {
		volume[i].id = i;
		holders_add_volume(&holders, &volume[i]);
	}
	holders_number(&holders);
	for (i = 1; i < MOST_NODES; i += 2)
		holders_gather(&holders, holders_one(&holders, i));
	odd = holders_gathered(&holders);
	for (round = 0; round < 1000; round++) {
		memset(has, 0, sizeof(has));
		members = fixture_below(2 * MOST_NODES);
		for (i = 0; i < members; i++) {
			j = fixture_below(MOST_NODES);
			has[j] = true;
			holders_gather(&holders, holders_one(&holders, j));
		}
		if (round % 2)
			holders_gather(&holders, odd);
		for (i = 1; i < MOST_NODES; i += 2)
			has[i] |= round % 2;
		set = holders_gathered(&holders);
		range = holders_ranges(&holders, set, &ranges);
		for (i = 0, count = 0; i < MOST_NODES; i++) {
			if (!has[i] || (i && has[i - 1]))
				continue;
			for (j = i; j + 1 < MOST_NODES && has[j + 1]; )
				j++;
			assert_true(count < ranges);
			assert_int_equal(range[2 * count], i);
			assert_int_equal(range[2 * count + 1], j);
			count++;
		}
		assert_int_equal(count, ranges);
		holders_gather(&holders, set);
		assert_int_equal(holders_gathered(&holders), set);
	}
	holders_exit(&holders);
}

/* What the entries of a block must weigh that the volumes of a set use; false: they cannot. */
static bool weight_of_set(struct holders *holders, const bool *has, u32 birth, u64 *weight)
{
	u32 before = HOLDERS_NONE, i, last;
	u64 more;

	*weight = 0;
	for (i = 0; i < holders->nr_leaves; i = last + 1) {
		last = i;
		if (!has[i])
			continue;
		while (last + 1 < holders->nr_leaves && has[last + 1] && fixture_below(4))
			last++;
		if (!holders_step(holders, before, i, last, birth, &more))
			return false;
		*weight += more;
		before = last;
	}
	return true;
}

/* Random sets of volumes in random forests. */
static void test_weights(void **state)
{
	static struct forest forest;
	struct holders holders;
	bool has[MOST_LEAVES];
	u32 round, i, top, birth, tries;
	const struct holders_node *node;
	u64 weight;

	(void)state;
	for (round = 0; round < 300; round++) {
		memset(&forest, 0, sizeof(forest));
		memset(&holders, 0, sizeof(holders));
		while (forest.snaps < MOST_NODES && forest.volumes < MOST_NODES / 2)
			make_child(&forest, 0, 0, 1);
		for (i = 0; i < forest.snaps; i++)
			holders_add_node(&holders, &forest.snap[i]);
		for (i = 0; i < forest.volumes; i++)
			holders_add_volume(&holders, &forest.volume[i]);
		holders_number(&holders);
		assert_int_equal(holders.faults, 0);
		assert_int_equal(holders.nr_leaves, forest.volumes);
		for (tries = 0; tries < 50 && holders.nr_nodes; tries++) {
			top = fixture_below(holders.nr_nodes);
			birth = le32_to_cpu(forest.snap[top].disk.generation);
			memset(has, 0, sizeof(has));
			node = &holders.node[top];
			for (i = node->first; i <= node->last; i++)
				has[i] = fixture_below(2);
			has[node->first + fixture_below(node->last - node->first + 1)] = true;
			assert_true(weight_of_set(&holders, has, birth, &weight));
			assert_int_equal(weight, naive_weight(&holders, has, top));
			/* No volume of another tree, or below another node, can have it. */
			for (i = 0; i < holders.nr_leaves; i++) {
				if (i >= node->first && i <= node->last)
					continue;
				has[i] = true;
				assert_false(weight_of_set(&holders, has, birth, &weight));
				has[i] = false;
			}
			for (i = node->first; i <= node->last; i++)
				assert_int_equal(holders_top(&holders, i, birth), top);
		}
		assert_false(holders.no_memory);
		holders_exit(&holders);
	}
}

/* Deep families take no stack, and few steps from the bottom to the top. */
static void test_deep(void **state)
{
	const u32 deep = 100000;
	struct dynmap_snap *snap = test_calloc(deep, sizeof(*snap));
	struct dynmap_volume *volume = test_calloc(deep + 1, sizeof(*volume));
	struct holders holders = {};
	u64 weight;
	u32 i;

	(void)state;
	for (i = 0; i < deep; i++) {
		snap[i].id = i + 1;
		snap[i].disk.parent = cpu_to_le64(i);
		snap[i].disk.parent_slot = cpu_to_le32(i ? 1 : 0);
		snap[i].disk.generation = cpu_to_le32(i + 1);
		snap[i].disk.child[0] = cpu_to_le64(i);
		snap[i].disk.child[1] = cpu_to_le64(i + 1 < deep ? (i + 2) | DYNMAP_CHILD_IS_NODE :
								   deep);
		holders_add_node(&holders, &snap[i]);
	}
	for (i = 0; i <= deep; i++) {
		volume[i].id = i;
		volume[i].disk.parent = cpu_to_le64(min(i + 1, deep));
		volume[i].disk.parent_slot = cpu_to_le32(i == deep);
		holders_add_volume(&holders, &volume[i]);
	}
	holders_number(&holders);
	assert_int_equal(holders.faults, 0);
	/* The deepest volume, then every other one. */
	for (i = 1; i <= deep; i++)
		assert_true(holders_step(&holders, 0, i, deep, 1, &weight));
	assert_int_equal(holders_top(&holders, deep, 1), 0);
	assert_int_equal(holders_top(&holders, deep, deep / 2), deep / 2 - 1);
	holders_exit(&holders);
	test_free(snap);
	test_free(volume);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FIXTURE_TEST(test_divergence, two),
		FIXTURE_TEST(test_dead_list, two),
		FIXTURE_TEST(test_counters, one),
		FIXTURE_TEST(test_relations, one),
		FIXTURE_TEST(test_unreadable, two),
		cmocka_unit_test(test_deleted),
		cmocka_unit_test(test_read_once),
		cmocka_unit_test(test_passes),
		cmocka_unit_test(test_sets),
		cmocka_unit_test(test_weights),
		cmocka_unit_test(test_deep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
