// SPDX-License-Identifier: GPL-2.0-only
/*
 * Unit tests of what the devices of a pool get: each its part of the data, of the
 * nodes and of the journal, while a quarter of the pool is filled in several ways.
 * The figures are printed.
 */
#include "fixture.h"

#define STREAMS		8
#define WRITE_BLOCKS	8	/* of a stream: 32 KiB */

enum kind { DATA, NODE, JOURNAL, KINDS };

static const char * const kind_name[] = { "data", "nodes", "journal" };

static const u64 two[] = { 40000, 40000, 0 };
static const u64 three[] = { 40000, 40000, 40000, 0 };
static const u64 four[] = { 40000, 40000, 40000, 40000, 0 };
static const u64 eight[] = { 20000, 20000, 20000, 20000, 20000, 20000, 20000, 20000, 0 };
static const u64 unequal[] = { 20000, 40000, 80000, 0 };

/* Writes of the core to each device. */
static u64 written[KINDS][DYNMAP_MAX_DEVICES];
static const struct dynmap_store_ops *mem_ops;

static void counting_write(struct dynmap_store *store, u32 batch, u32 dev, u64 block,
			   const void *data, u32 flags)
{
	const struct dynmap_disk_node *node = data;

	if (batch == DYNMAP_BATCH_JOURNAL)
		written[JOURNAL][dev]++;
	else if (le32_to_cpu(node->magic) == DYNMAP_NODE_MAGIC)
		written[NODE][dev]++;
	mem_ops->write(store, batch, dev, block, data, flags);
}

/* A pool on devices of these lengths, whose store counts. */
static void open_counting(struct fixture *fixture, const u64 *blocks)
{
	static struct dynmap_store_ops ops;

	fixture_exit(fixture);
	fixture_init(fixture, blocks, 16, 2);
	mem_ops = fixture->mem.store.ops;
	ops = *mem_ops;
	ops.write = counting_write;
	fixture->mem.store.ops = &ops;
	memset(written, 0, sizeof(written));
}

/* Write, but for the data itself: what is there of the range is made DATA. */
static void write_range(struct fixture *fixture, struct dynmap_volume *volume, u64 lbn, u64 len)
{
	struct dynmap_table *table = &fixture->pool.table;
	struct dynmap_mapping mapping;
	u64 n;

	for (; len; len -= n, lbn += n) {
		assert_int_equal(HELPED(fixture, dynmap_table_lookup(volume, lbn, &mapping, &op)),
				 0);
		if (mapping.kind == DYNMAP_HOLE) {
			assert_int_equal(HELPED(fixture, dynmap_table_reserve(table, volume, lbn,
									      len, &op)), 0);
			assert_int_equal(HELPED(fixture, dynmap_table_lookup(volume, lbn, &mapping,
									     &op)), 0);
		}
		n = min(len, mapping.len);
		assert_int_equal(HELPED(fixture, dynmap_table_set_written(table, volume, lbn,
									  mapping.pbn, n, &op)), 0);
	}
}

static bool quarter_full(const struct fixture *fixture)
{
	const struct dynmap_alloc *alloc = &fixture->pool.alloc;

	return alloc->data_allocated * 4 >= alloc->space.total_blocks;
}

/* Two writes in each commit, 16 commits in each checkpoint. */
static void after_write(struct fixture *fixture, u32 i)
{
	if (i % 2)
		assert_int_equal(dynmap_pool_commit(&fixture->pool), 0);
	if (i % 32 == 31)
		assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), 0);
}

static void fill_by_streams(struct fixture *fixture, u32 streams)
{
	struct dynmap_volume *volume[STREAMS];
	u64 lbn = 0;
	u32 i;

	for (i = 0; i < streams; i++)
		volume[i] = fixture_create(fixture, i);
	for (i = 0; !quarter_full(fixture); i++) {
		write_range(fixture, volume[i % streams], lbn, WRITE_BLOCKS);
		if (i % streams == streams - 1)
			lbn += WRITE_BLOCKS;
		after_write(fixture, i);
	}
}

static void fill_at_random(struct fixture *fixture)
{
	struct dynmap_volume *volume = fixture_create(fixture, 0);
	u32 i;

	for (i = 0; !quarter_full(fixture); i++) {
		write_range(fixture, volume,
			    fixture_below(fixture->pool.alloc.space.total_blocks), 1);
		after_write(fixture, i);
	}
}

/* Data blocks of each device. */
static void count_data(struct fixture *fixture)
{
	struct dynmap_mapping mapping;
	struct dynmap_volume *volume;
	u64 lbn;

	list_for_each_entry(volume, &fixture->pool.table.loaded, list)
		for (lbn = 0; lbn < DYNMAP_MAX_LBN; lbn += mapping.len) {
			assert_int_equal(HELPED(fixture, dynmap_table_lookup(volume, lbn, &mapping,
									     &op)), 0);
			if (mapping.kind != DYNMAP_HOLE)
				written[DATA][dynmap_pbn_dev(mapping.pbn)] += mapping.len;
		}
}

/* Within a tenth of its part? @weight: what the parts are by. */
static void expect_parts(struct fixture *fixture, const char *how, enum kind kind,
			 const u64 *weight)
{
	u32 nr = fixture->pool.geo.nr_devs, dev;
	u64 sum = 0, weights = 0, wanted;
	char line[200] = "", *end = line;
	bool good = true;

	for (dev = 0; dev < nr; dev++) {
		sum += written[kind][dev];
		weights += weight[dev];
	}
	for (dev = 0; dev < nr; dev++) {
		wanted = sum * weight[dev] / weights;
		good &= written[kind][dev] * 10 >= wanted * 9 &&
			written[kind][dev] * 10 <= wanted * 11;
		end += sprintf(end, " %llu.%llu",
			       (unsigned long long)(written[kind][dev] * 100 / sum),
			       (unsigned long long)(written[kind][dev] * 1000 / sum % 10));
	}
	print_message("spread: %u devices, %s, %llu %s: percent%s\n", nr, how,
		      (unsigned long long)sum, kind_name[kind], line);
	assert_true(good);
}

static void expect_spread(struct fixture *fixture, const u64 *blocks, const char *how)
{
	const u64 *total = fixture->pool.alloc.space.dev_total;
	u64 nodes[DYNMAP_MAX_DEVICES], carried[DYNMAP_MAX_DEVICES], sum = 0;
	u32 dev;

	count_data(fixture);
	expect_parts(fixture, how, DATA, total);
	/* Of the two copies of a node no device can have more than one. */
	for (dev = 0; dev < fixture->pool.geo.nr_devs; dev++)
		sum += total[dev];
	for (dev = 0; dev < fixture->pool.geo.nr_devs; dev++)
		nodes[dev] = min(total[dev], sum - total[dev]);
	expect_parts(fixture, how, NODE, nodes);
	/* The ring has no weights: all devices that have room for it carry the same. */
	for (dev = 0; dev < fixture->pool.geo.nr_devs; dev++)
		carried[dev] = fixture->pool.geo.dev[dev].journal_blocks >=
			       fixture->pool.journal.blocks;
	expect_parts(fixture, how, JOURNAL, carried);
	fixture_check(fixture);
}

static void test_spread(struct fixture *fixture, const u64 *blocks)
{
	open_counting(fixture, blocks);
	fill_by_streams(fixture, 1);
	expect_spread(fixture, blocks, "a stream");
	open_counting(fixture, blocks);
	fill_by_streams(fixture, STREAMS);
	expect_spread(fixture, blocks, "8 streams");
	open_counting(fixture, blocks);
	fill_at_random(fixture);
	expect_spread(fixture, blocks, "random 4 KiB");
}

static void test_two_devices(void **state)
{
	test_spread(*state, two);
}

static void test_three_devices(void **state)
{
	test_spread(*state, three);
}

static void test_four_devices(void **state)
{
	test_spread(*state, four);
}

static void test_eight_devices(void **state)
{
	test_spread(*state, eight);
}

static void test_unequal_devices(void **state)
{
	test_spread(*state, unequal);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FIXTURE_TEST(test_two_devices, one),
		FIXTURE_TEST(test_three_devices, one),
		FIXTURE_TEST(test_four_devices, one),
		FIXTURE_TEST(test_eight_devices, one),
		FIXTURE_TEST(test_unequal_devices, one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
