// SPDX-License-Identifier: GPL-2.0-only
/*
 * Unit tests of the B-trees: a real pool's tree of segment records (32 bytes,
 * keyed by their first word, used by nothing else yet), against an array of the
 * keys that are in it.
 */
#include "fixture.h"

#define KEYS	50000

struct bench {
	struct fixture fixture;
	struct dynmap_tree *tree;
	bool in[KEYS];
	u32 count;
};

static const u64 one_device[] = { 20000, 0 };

static int setup(void **state)
{
	struct bench *bench = calloc(1, sizeof(*bench));

	fixture_init(&bench->fixture, one_device, 16, 2);
	bench->tree = &bench->fixture.pool.segments;
	*state = bench;
	return 0;
}

static int teardown(void **state)
{
	struct bench *bench = *state;

	fixture_exit(&bench->fixture);
	free(bench);
	return 0;
}

static int reserve(struct bench *bench, struct dynmap_op *op)
{
	return dynmap_alloc_reserve(&bench->fixture.pool.alloc, dynmap_btree_worst(bench->tree),
				    2, op);
}

static int try_put(struct bench *bench, u64 key, struct dynmap_op *op)
{
	struct dynmap_disk_segment record = {
		.segment = cpu_to_le64(key),
		.count = cpu_to_le32(~key),
	};
	int ret = reserve(bench, op);

	return ret ? ret : dynmap_btree_put(bench->tree, key, &record, op);
}

static int try_remove(struct bench *bench, u64 key, struct dynmap_op *op)
{
	int ret = reserve(bench, op);

	return ret ? ret : dynmap_btree_remove(bench->tree, key, op);
}

static void put(struct bench *bench, u64 key)
{
	assert_int_equal(HELPED(&bench->fixture, try_put(bench, key, &op)), 0);
	bench->count += !bench->in[key];
	bench->in[key] = true;
}

static void take(struct bench *bench, u64 key)
{
	assert_int_equal(HELPED(&bench->fixture, try_remove(bench, key, &op)),
			 bench->in[key] ? 0 : -ENOENT);
	bench->count -= bench->in[key];
	bench->in[key] = false;
}

/* Walk the tree: exactly the keys of the array, in order, with their content. */
static void compare(struct bench *bench)
{
	struct dynmap_disk_segment record;
	u64 key = 0, found;
	u32 count = 0;
	int ret;

	for (;;) {
		ret = HELPED(&bench->fixture,
			     dynmap_btree_next(bench->tree, key, &record, &found, &op));
		if (ret)
			break;
		for (; key < found; key++)
			assert_false(bench->in[key]);
		assert_true(bench->in[found]);
		assert_int_equal(le32_to_cpu(record.count), (u32)~found);
		count++;
		key = found + 1;
	}
	assert_int_equal(ret, -ENOENT);
	assert_int_equal(count, bench->count);
}

/* Invariants B1 to B4 of all nodes below one; its number of records. */
static u32 check_node(struct bench *bench, const struct dynmap_miss *want, bool first)
{
	struct dynmap_disk_child *child;
	struct dynmap_buf *buf = NULL;
	u32 count, i, sum = 0;

	assert_int_equal(HELPED(&bench->fixture,
				dynmap_cache_get(&bench->fixture.pool.cache, want, &op, &buf)), 0);
	assert_null(dynmap_btree_check(&bench->fixture.pool.geo, buf->data, want->high));
	assert_int_equal(dynmap_node_base(buf), want->base);
	count = dynmap_node_count(buf);
	assert_true(count || (!want->level && first));
	if (!want->level)
		return count;
	/* Children are copied first: getting one may evict this node. */
	child = calloc(count, sizeof(*child));
	memcpy(child, dynmap_node_head(buf)->payload, count * sizeof(*child));
	for (i = 0; i < count; i++) {
		struct dynmap_miss below = {
			.ptr.pbn = { le64_to_cpu(child[i].pbn_a), le64_to_cpu(child[i].pbn_b) },
			.ptr.generation = le32_to_cpu(child[i].generation),
			.ptr.crc = le32_to_cpu(child[i].crc),
			.base = le64_to_cpu(child[i].key),
			.high = i + 1 < count ? le64_to_cpu(child[i + 1].key) : want->high,
			.kind = want->kind,
			.level = want->level - 1,
		};

		sum += check_node(bench, &below, !i);
	}
	free(child);
	return sum;
}

static void check_shape(struct bench *bench)
{
	struct dynmap_miss want = {
		.ptr = bench->tree->root,
		.high = ~0ULL,
		.kind = DYNMAP_TREE_SEGMENT,
		.level = bench->tree->levels - 1,
	};
	u32 sum = 0;

	if (bench->tree->levels)
		sum = check_node(bench, &want, true);
	assert_int_equal(sum, bench->count);
}

static void test_empty(void **state)
{
	struct bench *bench = *state;
	struct dynmap_disk_segment record;
	struct dynmap_disk_root root;
	struct dynmap_op op = {};
	u64 found;

	assert_int_equal(dynmap_btree_get(bench->tree, 0, &record, &op), -ENOENT);
	assert_int_equal(dynmap_btree_next(bench->tree, 0, &record, &found, &op), -ENOENT);
	assert_int_equal(dynmap_btree_remove(bench->tree, 0, &op), -ENOENT);
	dynmap_btree_root(bench->tree, &root);
	assert_true(dynmap_btree_root_valid(&bench->fixture.pool.geo, &root));
	root.levels = cpu_to_le32(1);
	assert_false(dynmap_btree_root_valid(&bench->fixture.pool.geo, &root));
	root.levels = cpu_to_le32(DYNMAP_MAX_LEVELS);
	root.pbn_a = cpu_to_le64(1);
	assert_false(dynmap_btree_root_valid(&bench->fixture.pool.geo, &root));
}

/* A change may make a tree one level higher: paths have room for that only below the limit. */
static void test_levels_end(void **state)
{
	struct bench *bench = *state;
	struct dynmap_path path;
	struct dynmap_op op = {};

	put(bench, 1);
	bench->tree->levels = DYNMAP_MAX_LEVELS;
	assert_int_equal(dynmap_btree_find(bench->tree, 1, &path, &op), -EUCLEAN);
	bench->tree->levels = 1;
	assert_int_equal(dynmap_btree_find(bench->tree, 1, &path, &op), 0);
}

/* What a leaf says of itself, its parent and its keys being right otherwise. */
static const char *check_map(struct bench *bench, u64 base, u32 delta, u32 len, u64 high)
{
	struct dynmap_disk_node *node = dynmap_block_alloc();
	struct dynmap_disk_map *map = (void *)node->payload;
	const char *failed;

	node->kind = DYNMAP_TREE_MAP;
	node->count = cpu_to_le16(1);
	node->base = cpu_to_le64(base);
	map->delta = cpu_to_le32(delta);
	map->len = cpu_to_le16(len - 1);
	map->kind_pbn_high = cpu_to_le32(DYNMAP_DATA << DYNMAP_MAP_KIND_SHIFT);
	failed = dynmap_btree_check(&bench->fixture.pool.geo, node, high);
	dynmap_block_free(node);
	return failed;
}

static void test_extents_end_within_their_leaf(void **state)
{
	struct bench *bench = *state;

	assert_null(check_map(bench, 100, 20, 30, 150));
	assert_string_equal(check_map(bench, 100, 20, 30, 149), "end");
	assert_null(check_map(bench, 100, ~0U - 29, 30, ~0ULL));
	assert_string_equal(check_map(bench, 100, ~0U - 28, 30, ~0ULL), "reach");
	assert_null(check_map(bench, DYNMAP_MAX_LBN - 50, 20, 30, ~0ULL));
	assert_string_equal(check_map(bench, DYNMAP_MAX_LBN - 50, 20, 31, ~0ULL), "map length");
	assert_string_equal(check_map(bench, ~0ULL - 50, 40, 30, ~0ULL), "map length");
}

static void test_ascending_fills_the_nodes(void **state)
{
	struct bench *bench = *state;
	u32 capacity = dynmap_btree_capacity(DYNMAP_TREE_SEGMENT), key;
	u64 before = bench->fixture.pool.cache.nr_dirty;

	for (key = 0; key < 100 * capacity / 16 * 16 && key < KEYS; key++)
		put(bench, key);
	compare(bench);
	check_shape(bench);
	/* Streams leave nodes nearly full: at most a sixth more than needed. */
	assert_in_range(bench->fixture.pool.cache.nr_dirty - before, key / capacity,
			key / capacity * 7 / 6 + 4);
}

static void test_descending(void **state)
{
	struct bench *bench = *state;
	u32 key;

	for (key = 5000; key--;)
		put(bench, key);
	compare(bench);
	check_shape(bench);
}

static void test_random_against_an_array(void **state)
{
	struct bench *bench = *state;
	u32 step;
	u64 key;

	for (step = 0; step < 120000; step++) {
		key = fixture_below(KEYS);
		/* Grow, then shrink, then grow again. */
		if (fixture_below(100) < (step / 40000 == 1 ? 20 : 75))
			put(bench, key);
		else
			take(bench, key);
		if (step % 15000 == 0) {
			compare(bench);
			check_shape(bench);
		}
	}
	compare(bench);
	check_shape(bench);
}

static void test_replacing_keeps_the_number(void **state)
{
	struct bench *bench = *state;
	struct dynmap_disk_segment record = { .slot = cpu_to_le32(77) }, got;
	struct dynmap_op op = {};
	u32 key;

	for (key = 0; key < 1000; key++)
		put(bench, key);
	record.segment = cpu_to_le64(500);
	assert_int_equal(HELPED(&bench->fixture, reserve(bench, &op)), 0);
	assert_int_equal(dynmap_btree_put(bench->tree, 500, &record, &op), 0);
	assert_int_equal(dynmap_btree_get(bench->tree, 500, &got, &op), 0);
	assert_memory_equal(&got, &record, sizeof(got));
	check_shape(bench);
}

static void test_emptied_in_any_order(void **state)
{
	struct bench *bench = *state;
	u32 order, key;

	for (order = 0; order < 3; order++) {
		for (key = 0; key < 8000; key++)
			put(bench, key);
		for (key = 0; key < 8000; key++)
			take(bench, order == 0 ? key : order == 1 ? 7999 - key :
						       (u64)key * 4999 % 8000);
		assert_int_equal(bench->count, 0);
		assert_true(bench->tree->levels <= 1);
		check_shape(bench);
	}
}

/* Low keys go while high ones come, in a tree of three levels: nothing is left below. */
/* What lies on the device: nodes are read anew. */
static void written(struct bench *bench)
{
	struct dynmap_pool *pool = &bench->fixture.pool;
	u32 limit = pool->cache.limit;

	assert_int_equal(dynmap_pool_checkpoint(pool), 0);
	pool->cache.limit = 0;
	dynmap_cache_trim(&pool->cache);
	pool->cache.limit = limit;
}

/* A tree is sealed in steps of any size, and changed in between. */
static void test_sealed_in_steps(void **state)
{
	struct bench *bench = *state;
	u32 most, i, steps = 0;
	u64 key;

	for (i = 0; i < 200000; i++) {
		key = fixture_below(fixture_below(8) ? KEYS : 300);
		if (fixture_below(3) || i < KEYS / 2)
			put(bench, key);
		else
			take(bench, key);
		if (fixture_below(10))
			continue;
		most = 1 + fixture_below(4);
		steps += dynmap_btree_seal(bench->tree, &most) == -EINPROGRESS;
		if (fixture_below(40))
			continue;
		written(bench);
	}
	print_message("%u steps\n", steps);
	assert_in_range(steps, 1000, 200000);
	written(bench);
	compare(bench);
	check_shape(bench);
}

static void test_moves_upwards(void **state)
{
	struct bench *bench = *state;
	u32 key;

	for (key = 0; key < 24000; key++)
		put(bench, key);
	assert_int_equal(bench->tree->levels, 3);
	for (key = 0; key < 24000; key++) {
		take(bench, key);
		put(bench, 24000 + key);
		if (key % 50 == 0)
			check_shape(bench);
	}
	/* What comes back low finds its place. */
	for (key = 0; key < 24000; key += 7)
		put(bench, key);
	check_shape(bench);
	compare(bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_empty, setup, teardown),
		cmocka_unit_test_setup_teardown(test_levels_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_extents_end_within_their_leaf, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_ascending_fills_the_nodes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_descending, setup, teardown),
		cmocka_unit_test_setup_teardown(test_random_against_an_array, setup, teardown),
		cmocka_unit_test_setup_teardown(test_replacing_keeps_the_number, setup, teardown),
		cmocka_unit_test_setup_teardown(test_emptied_in_any_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sealed_in_steps, setup, teardown),
		cmocka_unit_test_setup_teardown(test_moves_upwards, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
