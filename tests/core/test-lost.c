// SPDX-License-Identifier: GPL-2.0-only
/*
 * Space records that cannot be read, on both copies: what they tell of counts as full and
 * everything else goes on. What is freed there stays allocated until the pool is repaired.
 */
#include "fixture.h"
#include "../../tools/check.h"

#define EXTENT	64	/* blocks, each of which is followed by as many that are not mapped */

/* Both copies of the leaf of the space tree with the record of @key are overwritten. */
static void spoil(struct fixture *fixture, u64 key)
{
	struct dynmap_path path;
	u32 copy, dev;
	u64 block;

	assert_int_equal(HELPED(fixture, dynmap_btree_find(&fixture->pool.alloc.space.tree, key,
							   &path, &op)), 0);
	for (copy = 0; copy < 2; copy++) {
		block = dynmap_pbn_locate(&fixture->pool.geo, path.buf[0]->pbn[copy], &dev);
		store_mem_flip(&fixture->mem, dev, block, 1000, 1);
	}
}

/* Extents from @lbn on, until there is no space, or @most of them; how many. */
static u64 fill(struct fixture *fixture, struct dynmap_volume *volume, u64 lbn, u64 most)
{
	u64 count;
	int ret;

	for (count = 0; count < most; count++) {
		ret = fixture_write(fixture, volume, lbn + count * 2 * EXTENT, EXTENT, 7);
		if (ret == -ENOSPC)
			break;
		assert_int_equal(ret, 0);
	}
	return count;
}

static void reaped(struct fixture *fixture, u64 id)
{
	struct dynmap_table *table = &fixture->pool.table;
	int ret;

	assert_int_equal(HELPED(fixture, dynmap_volume_delete(table, id, &op)), 0);
	do
		ret = HELPED(fixture, dynmap_volume_reap(table, &op));
	while (!ret);
	assert_int_equal(ret, -ENOENT);
}

static const struct dynmap_part *part_of(const struct fixture *fixture, u32 segment)
{
	const struct dynmap_parts *parts;

	parts = fixture->pool.alloc.space.top[dynmap_segment_dev(segment)]->part[0].parts;
	return parts ? &parts->part[0].parts->part[dynmap_segment_slot(segment)] : NULL;
}

/* Blocks that can be given out, in segments that are not lost. */
static u64 all_but(const struct fixture *fixture, u32 segment)
{
	return fixture->pool.alloc.space.total_blocks -
	       dynmap_segment_blocks(&fixture->pool.geo, segment);
}

/* A pool, so much of it written, and a snapshot; then a record is lost while it is closed. */
static u64 make_lost(struct fixture *fixture, const u64 *blocks, u32 percent, u64 key)
{
	u8 uuid[DYNMAP_UUID_BYTES] = { 2 };
	struct dynmap_volume *volume;
	u64 extents;

	fixture_init(fixture, blocks, 1, 2);
	volume = fixture_create(fixture, 1);
	extents = fixture->pool.alloc.space.total_blocks * percent / 100 / EXTENT;
	assert_int_equal(fill(fixture, volume, 0, extents), extents);
	assert_int_equal(HELPED(fixture, dynmap_volume_snapshot(&fixture->pool.table, 2, 1, uuid, 5,
								&op)), 0);
	assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), 0);
	spoil(fixture, key);
	fixture_close(fixture);
	assert_int_equal(fixture_open(fixture, false), 0);
	return extents;
}

/* The pool is filled, emptied, and filled again, around a segment that is lost. */
static void fill_around(struct fixture *fixture, u64 extents, u32 segment)
{
	struct dynmap_volume *volume = fixture_load(fixture, 1);
	struct dynmap_alloc *alloc = &fixture->pool.alloc;
	struct dynmap_check check;
	u64 i;

	assert_true(fill(fixture, fixture_create(fixture, 3), 0, ~0ULL) > 10);
	assert_true(part_of(fixture, segment)->lost);
	assert_int_equal(dynmap_alloc_data_free(alloc), 0);
	for (i = 0; i < extents; i++)
		assert_int_equal(fixture_read(fixture, volume, i * 2 * EXTENT + i % EXTENT), 7);
	/* What is redirected, discarded and deleted lies there, too. */
	reaped(fixture, 3);
	for (i = 0; i < extents; i += 64)
		assert_int_equal(fixture_write(fixture, volume, i * 2 * EXTENT, 1, 8), 0);
	reaped(fixture, 2);
	assert_int_equal(fixture_unmap(fixture, volume, 0, extents * 2 * EXTENT), 0);
	assert_int_equal(volume->mapped, 0);
	assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), 0);
	assert_int_equal(dynmap_pool_commit(&fixture->pool), 0);
	assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), 0);
	assert_null(part_of(fixture, segment)->seg);
	assert_in_range(dynmap_alloc_data_free(alloc), all_but(fixture, segment) * 95 / 100,
			all_but(fixture, segment));
	/* It is known again, or not, after the next opening. */
	fixture_close(fixture);
	assert_int_equal(fixture_open(fixture, false), 0);
	assert_true(fill(fixture, fixture_load(fixture, 1), 0, ~0ULL) >
		    all_but(fixture, segment) / EXTENT * 9 / 10);
	assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), 0);
	assert_int_equal(dynmap_check_pool(&fixture->pool, NULL, &check), 0);
	assert_true(check.damaged);
}

static void test_lone_device(void **state)
{
	static const u64 blocks[] = { 3 * DYNMAP_SEGMENT_BLOCKS, 0 };
	struct fixture fixture;
	u64 extents;

	(void)state;
	extents = make_lost(&fixture, blocks, 66, DYNMAP_SEGMENT_ZONES * 3 / 2);
	fill_around(&fixture, extents, 1);
	fixture_exit(&fixture);
}

/* The other copy of each node that is given up there lies elsewhere. */
static void test_one_of_three(void **state)
{
	static const u64 blocks[] = { 40000, 40000, 40000, 0 };
	u32 segment = dynmap_segment_number(1, 0);
	struct fixture fixture;
	u64 extents;

	(void)state;
	extents = make_lost(&fixture, blocks, 66, (u64)segment * DYNMAP_SEGMENT_ZONES + 70);
	fill_around(&fixture, extents, segment);
	fixture_exit(&fixture);
}

/*
 * What the lost segment gets when its device grows is lost, too; what lies behind it is not,
 * and all but that segment is known at the next opening.
 */
static void test_grown(void **state)
{
	static const u64 blocks[] = { DYNMAP_SEGMENT_BLOCKS * 11 / 4, 0 };
	struct fixture fixture;
	struct dynmap_seg *seg;
	u64 before;

	(void)state;
	make_lost(&fixture, blocks, 95, DYNMAP_SEGMENT_ZONES * 2 + 10);
	assert_int_equal(FETCHED(&fixture, dynmap_space_load(&fixture.pool.alloc.space, 2, &seg,
							     &op)), -EUCLEAN);
	before = fixture.pool.alloc.space.dev_free[0];
	store_mem_grow(&fixture.mem, 0, DYNMAP_SEGMENT_BLOCKS * 7 / 2);
	assert_int_equal(fixture_grow(&fixture), 0);
	assert_in_range(fixture.pool.alloc.space.dev_free[0] - before,
			DYNMAP_SEGMENT_BLOCKS / 2 - 3000, DYNMAP_SEGMENT_BLOCKS / 2);
	fill(&fixture, fixture_create(&fixture, 3), 0, ~0ULL);
	assert_true(part_of(&fixture, 2)->lost);
	assert_int_equal(dynmap_alloc_data_free(&fixture.pool.alloc), 0);
	assert_int_equal(dynmap_pool_checkpoint(&fixture.pool), 0);
	fixture_close(&fixture);
	assert_int_equal(fixture_open(&fixture, false), 0);
	reaped(&fixture, 3);
	assert_false(part_of(&fixture, 3)->lost);
	reaped(&fixture, 1);
	assert_int_equal(dynmap_pool_checkpoint(&fixture.pool), 0);
	fixture_exit(&fixture);
}

/* That a segment is lost is not forgotten when memory is short: it would be counted again. */
static void test_stays_lost(void **state)
{
	static const u64 blocks[] = { 40000, 40000, 40000, 0 };
	u32 segment = dynmap_segment_number(1, 0), i;
	struct dynmap_space *space;
	struct fixture fixture;
	struct dynmap_seg *seg;
	u64 before;

	(void)state;
	make_lost(&fixture, blocks, 66, (u64)segment * DYNMAP_SEGMENT_ZONES + 70);
	space = &fixture.pool.alloc.space;
	assert_int_equal(FETCHED(&fixture, dynmap_space_load(space, segment, &seg, &op)), -EUCLEAN);
	before = space->dev_free[1];
	space->most_segs = 0;
	space->most_loaded = 0;
	for (i = 0; i < 10; i++)
		dynmap_space_shrink(space);
	assert_int_equal(space->nr_segs, 0);
	assert_int_equal(FETCHED(&fixture, dynmap_space_load(space, segment, &seg, &op)), -EUCLEAN);
	assert_int_equal(space->dev_free[1], before);
	fixture_exit(&fixture);
}

/* The summaries of two devices of four cannot be read: all of these counts as full. */
static void test_summaries(void **state)
{
	static const u64 blocks[] = { 1 << 21, 1 << 21, 1 << 21, 1 << 21, 0 };
	struct dynmap_space *space;
	struct fixture fixture;
	u32 i, len;
	u64 pbn;

	(void)state;
	fixture_init(&fixture, blocks, 1, 2);
	space = &fixture.pool.alloc.space;
	for (i = 0; i < 4 * 32; i++) {
		pbn = dynmap_segment_pbn(dynmap_segment_number(i / 32, i % 32)) + 1;
		assert_int_equal(HELPED(&fixture, dynmap_alloc_data(&fixture.pool.alloc, pbn, 16,
								    &pbn, &len, &op)), 0);
	}
	assert_int_equal(dynmap_pool_checkpoint(&fixture.pool), 0);
	spoil(&fixture, 1ULL << DYNMAP_SUMMARY_SHIFT | dynmap_segment_number(1, 7));
	fixture_close(&fixture);
	assert_int_equal(fixture_open(&fixture, false), 0);
	for (i = 0; i < 4 * 32; i++) {
		pbn = dynmap_segment_pbn(dynmap_segment_number(i / 32, i % 32)) + 100;
		assert_int_equal(HELPED(&fixture, dynmap_alloc_data(&fixture.pool.alloc, pbn, 16,
								    &pbn, &len, &op)), 0);
		assert_true(dynmap_pbn_dev(pbn) != 1);
	}
	assert_true(space->top[1]->part[0].parts->part[0].lost);
	assert_int_equal(space->dev_free[1], 0);
	assert_int_equal(space->zones[1][0].free + space->zones[1][1].free, 0);
	assert_true(fill(&fixture, fixture_create(&fixture, 1), 0, 2000) == 2000);
	reaped(&fixture, 1);
	assert_int_equal(dynmap_pool_checkpoint(&fixture.pool), 0);
	assert_int_equal(dynmap_pool_checkpoint(&fixture.pool), 0);
	fixture_exit(&fixture);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lone_device),
		cmocka_unit_test(test_one_of_three),
		cmocka_unit_test(test_grown),
		cmocka_unit_test(test_stays_lost),
		cmocka_unit_test(test_summaries),
	};

	return cmocka_run_group_tests_name("lost", tests, NULL, NULL);
}
