// SPDX-License-Identifier: GPL-2.0-only
/* Unit tests of the mapping table, on small pools in memory. */
#include "fixture.h"

static struct dynmap_mapping lookup(struct fixture *fixture, struct dynmap_volume *volume, u64 lbn)
{
	struct dynmap_mapping mapping = {};

	assert_int_equal(HELPED(fixture, dynmap_table_lookup(volume, lbn, &mapping, &op)), 0);
	return mapping;
}

static void expect(struct fixture *fixture, struct dynmap_volume *volume, u64 lbn, u8 kind,
		   u64 len)
{
	struct dynmap_mapping mapping = lookup(fixture, volume, lbn);

	assert_int_equal(mapping.kind, kind);
	assert_int_equal(mapping.len, len);
}

static void reserve(struct fixture *fixture, struct dynmap_volume *volume, u64 lbn, u32 len)
{
	assert_int_equal(HELPED(fixture, dynmap_table_reserve(&fixture->pool.table, volume, lbn,
							      len, &op)), 0);
}

static void set_written(struct fixture *fixture, struct dynmap_volume *volume, u64 lbn, u64 pbn,
			u32 len)
{
	assert_int_equal(HELPED(fixture, dynmap_table_set_written(&fixture->pool.table, volume,
								  lbn, pbn, len, &op)), 0);
}

static void test_empty_volume_is_a_hole(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_volume *volume = fixture_create(fixture, 1);
	u64 end = 1;

	expect(fixture, volume, 0, DYNMAP_HOLE, DYNMAP_MAX_LBN);
	expect(fixture, volume, DYNMAP_MAX_LBN - 1, DYNMAP_HOLE, 1);
	assert_int_equal(HELPED(fixture, dynmap_table_highest(volume, &end, &op)), 0);
	assert_int_equal(end, 0);
}

static void test_reserve_takes_the_allocation_unit(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_volume *volume = fixture_create(fixture, 1);
	u64 end;

	reserve(fixture, volume, 21, 1);
	expect(fixture, volume, 0, DYNMAP_HOLE, 16);
	expect(fixture, volume, 16, DYNMAP_RESERVED, 16);
	expect(fixture, volume, 20, DYNMAP_RESERVED, 12);
	assert_int_equal(volume->reserved, 16);
	assert_int_equal(volume->mapped, 0);
	/* A write over two units takes both, in one piece. */
	reserve(fixture, volume, 47, 2);
	expect(fixture, volume, 16, DYNMAP_RESERVED, 48);
	assert_int_equal(HELPED(fixture, dynmap_table_highest(volume, &end, &op)), 0);
	assert_int_equal(end, 64);
	fixture_check(fixture);
}

static void test_reserve_stops_at_neighbours(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_volume *volume = fixture_create(fixture, 1);

	volume->disk.alloc_blocks = cpu_to_le32(4);
	reserve(fixture, volume, 4, 1);
	volume->disk.alloc_blocks = cpu_to_le32(16);
	reserve(fixture, volume, 1, 1);
	expect(fixture, volume, 0, DYNMAP_RESERVED, 4 + (lookup(fixture, volume, 3).pbn + 1 ==
							 lookup(fixture, volume, 4).pbn ? 4 : 0));
	assert_int_equal(lookup(fixture, volume, 8).kind, DYNMAP_HOLE);
	fixture_check(fixture);
}

static void test_reserved_reads_as_nothing_until_written(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_volume *volume = fixture_create(fixture, 1);
	u64 pbn;

	reserve(fixture, volume, 0, 1);
	pbn = lookup(fixture, volume, 0).pbn;
	assert_int_equal(fixture_read(fixture, volume, 3), 0);
	set_written(fixture, volume, 3, pbn + 3, 1);
	expect(fixture, volume, 0, DYNMAP_RESERVED, 3);
	expect(fixture, volume, 3, DYNMAP_DATA, 1);
	expect(fixture, volume, 4, DYNMAP_RESERVED, 12);
	assert_int_equal(volume->mapped, 1);
	assert_int_equal(volume->reserved, 15);
	/* Again: nothing changes. */
	set_written(fixture, volume, 3, pbn + 3, 1);
	assert_int_equal(volume->mapped, 1);
	/* Elsewhere: left alone. */
	set_written(fixture, volume, 5, pbn + 6, 1);
	expect(fixture, volume, 4, DYNMAP_RESERVED, 12);
	set_written(fixture, volume, 0, pbn, 16);
	expect(fixture, volume, 0, DYNMAP_DATA, 16);
	assert_int_equal(volume->mapped, 16);
	assert_int_equal(volume->reserved, 0);
	fixture_check(fixture);
}

static void test_every_window_bitmap(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_volume *volume = fixture_create(fixture, 1);
	u32 bitmap, bit;
	u64 lbn, pbn;

	for (bitmap = 1; bitmap < 0x10000; bitmap = bitmap * 5 / 3 + 1) {
		lbn = 16 * fixture_below(100);
		assert_int_equal(fixture_unmap(fixture, volume, lbn, lbn + 16), 0);
		reserve(fixture, volume, lbn, 1);
		pbn = lookup(fixture, volume, lbn).pbn;
		for (bit = 0; bit < 16; bit++)
			if (bitmap >> bit & 1)
				set_written(fixture, volume, lbn + bit, pbn + bit, 1);
		for (bit = 0; bit < 16; bit++) {
			assert_int_equal(lookup(fixture, volume, lbn + bit).kind,
					 bitmap >> bit & 1 ? DYNMAP_DATA : DYNMAP_RESERVED);
			assert_int_equal(lookup(fixture, volume, lbn + bit).pbn, pbn + bit);
		}
		/* A hole in the middle leaves the rest as it was. */
		assert_int_equal(fixture_unmap(fixture, volume, lbn + 5, lbn + 9), 0);
		for (bit = 0; bit < 16; bit++) {
			u8 kind = bitmap >> bit & 1 ? DYNMAP_DATA : DYNMAP_RESERVED;

			if (bit >= 5 && bit < 9)
				kind = DYNMAP_HOLE;
			assert_int_equal(lookup(fixture, volume, lbn + bit).kind, kind);
		}
	}
	fixture_check(fixture);
}

static void test_sequential_writes_stay_one_extent(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_volume *volume = fixture_create(fixture, 1);
	u64 lbn;

	for (lbn = 0; lbn < 320; lbn++)
		assert_int_equal(fixture_write(fixture, volume, lbn, 1, lbn + 1), 0);
	expect(fixture, volume, 0, DYNMAP_DATA, 320);
	for (lbn = 0; lbn < 320; lbn++)
		assert_int_equal(fixture_read(fixture, volume, lbn), lbn + 1);
	fixture_check(fixture);
}

/* Extents that hold [0, blocks) of a volume. */
static u32 extents(struct fixture *fixture, struct dynmap_volume *volume, u64 blocks)
{
	struct dynmap_mapping mapping;
	u32 count = 0;
	u64 lbn;

	for (lbn = 0; lbn < blocks; lbn += mapping.len, count++)
		mapping = lookup(fixture, volume, lbn);
	return count;
}

/* Four streams at once: each one's allocations double until they are 8 MiB. */
static void test_streams_stay_apart(void **state)
{
	struct fixture *fixture = *state;
	const u64 blocks[] = { 200000, 0 };
	struct dynmap_volume *volume[4];
	u64 lbn;
	u32 i;

	fixture_exit(fixture);
	fixture_init(fixture, blocks, 16, 2);
	for (i = 0; i < 4; i++)
		volume[i] = fixture_create(fixture, i);
	for (lbn = 0; lbn < 32768; lbn += 8)
		for (i = 0; i < 4; i++)
			assert_int_equal(fixture_write(fixture, volume[i], lbn, 8, 9), 0);
	for (i = 0; i < 4; i++) {
		assert_in_range(extents(fixture, volume[i], 32768), 1, 32);
		assert_in_range(volume[i]->reserved, 0, 2048);
		assert_int_equal(fixture_read(fixture, volume[i], 32767), 9);
	}
	fixture_check(fixture);
}

/* Several devices: a unit is allocated whole, in pieces, also if help is needed for each. */
static void test_large_units_are_whole(void **state)
{
	const u64 blocks[] = { 560000, 560000, 0 };
	struct fixture *fixture = *state;
	struct dynmap_pool *pool = &fixture->pool;
	const u32 unit = DYNMAP_SEGMENT_BLOCKS;
	struct dynmap_mapping mapping = {};
	struct dynmap_volume *volume;
	u64 lbn = 5 * unit + 1000;
	struct dynmap_op op = {};
	u32 helped = 0;
	int ret;

	fixture_exit(fixture);
	fixture_init(fixture, blocks, unit, 2);
	volume = fixture_create(fixture, 1);
	while (pool->cache.nr_spare)
		dynmap_buf_free(dynmap_cache_take_spare(&pool->cache));
	for (;;) {
		ret = dynmap_table_reserve(&pool->table, volume, lbn, 1, &op);
		if (!ret)
			break;
		/* The caller's own block comes last: it will come again. */
		expect(fixture, volume, lbn, DYNMAP_HOLE, lookup(fixture, volume, lbn).len);
		helped += volume->reserved > 0;
		if (ret == -ENOMEM)
			dynmap_cache_add_spare(&pool->cache, dynmap_buf_alloc());
		else
			assert_int_equal(dynmap_pool_help(pool, &op, ret), 0);
	}
	assert_in_range(helped, 1, 100);
	assert_int_equal(volume->reserved, unit);
	for (lbn = 5 * unit; lbn < 6 * unit; lbn += mapping.len) {
		mapping = lookup(fixture, volume, lbn);
		assert_int_equal(mapping.kind, DYNMAP_RESERVED);
		assert_int_equal(mapping.len, DYNMAP_PIECE_BLOCKS);
	}
	fixture_check(fixture);
}

/* What does not continue an extent takes its unit and no more. */
static void test_only_streams_grow(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_volume *volume = fixture_create(fixture, 1);
	u32 i;

	/* The second half of each window is written: none continues the one before. */
	for (i = 0; i < 8; i++)
		assert_int_equal(fixture_write(fixture, volume, 16 * i + 8, 8, 1), 0);
	assert_int_equal(volume->mapped + volume->reserved, 8 * 16);
	/* Downwards. */
	for (i = 40; i > 30; i--)
		assert_int_equal(fixture_write(fixture, volume, 16 * i, 16, 1), 0);
	assert_int_equal(volume->mapped + volume->reserved, 18 * 16);
	/* Nothing lies beyond the length that the host sees. */
	volume->limit = 41 * 16 + 7;
	assert_int_equal(fixture_write(fixture, volume, 41 * 16, 7, 1), 0);
	assert_int_equal(volume->mapped + volume->reserved, 18 * 16 + 7);
	fixture_check(fixture);
}

static void test_unmap_frees_exactly_the_range(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_volume *volume = fixture_create(fixture, 1);

	assert_int_equal(fixture_write(fixture, volume, 0, 64, 5), 0);
	assert_int_equal(fixture_unmap(fixture, volume, 10, 30), 0);
	assert_int_equal(volume->mapped, 44);
	expect(fixture, volume, 0, DYNMAP_DATA, 10);
	expect(fixture, volume, 10, DYNMAP_HOLE, 20);
	expect(fixture, volume, 30, DYNMAP_DATA, 34);
	assert_int_equal(fixture->pool.alloc.quarantined, 20);
	assert_int_equal(fixture->pool.alloc.data_allocated, 44);
	assert_int_equal(dynmap_pool_commit(&fixture->pool), 0);
	assert_int_equal(fixture->pool.alloc.quarantined, 0);
	assert_int_equal(fixture_unmap(fixture, volume, 0, DYNMAP_MAX_LBN), 0);
	assert_int_equal(volume->mapped, 0);
	assert_int_equal(lookup(fixture, volume, 0).kind, DYNMAP_HOLE);
	fixture_check(fixture);
}

/*
 * A leaf holds keys up to 2^32 behind its base; an extent that begins below
 * that limit and ends above it must not lose its upper half when it is cut.
 */
static void test_extents_at_the_reach_of_a_leaf(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_volume *volume = fixture_create(fixture, 1);
	u64 limit = 1ULL << 32, lbn;

	assert_int_equal(fixture_write(fixture, volume, 0, 1, 1), 0);
	reserve(fixture, volume, limit - 16, 96);
	for (lbn = limit - 8; lbn < limit + 70; lbn += 7)
		assert_int_equal(fixture_write(fixture, volume, lbn, 1, lbn), 0);
	assert_int_equal(fixture_unmap(fixture, volume, limit + 33, limit + 34), 0);
	for (lbn = limit - 8; lbn < limit + 70; lbn += 7)
		assert_int_equal(fixture_read(fixture, volume, lbn), lbn);
	assert_int_equal(fixture_read(fixture, volume, 0), 1);
	assert_int_equal(fixture_read(fixture, volume, 64), 0);
	fixture_check(fixture);
}

/* The same limit where two leaves are joined. */
static void test_joined_leaves_keep_their_reach(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_volume *volume = fixture_create(fixture, 1);
	u64 limit = 1ULL << 32, lbn;

	assert_int_equal(fixture_write(fixture, volume, 0, 1, 1), 0);
	/* Beyond the reach of the first leaf, then back into it: two leaves. */
	assert_int_equal(fixture_write(fixture, volume, limit + 4096, 1, 2), 0);
	for (lbn = limit - 160; lbn < limit + 400; lbn += 32)
		assert_int_equal(fixture_write(fixture, volume, lbn, 40, lbn), 0);
	assert_int_equal(fixture_unmap(fixture, volume, limit + 4096, limit + 4112), 0);
	for (lbn = limit + 3; lbn < limit + 400; lbn += 32)
		assert_int_equal(fixture_unmap(fixture, volume, lbn, lbn + 1), 0);
	for (lbn = limit - 160; lbn < limit + 400; lbn++)
		assert_int_equal(fixture_read(fixture, volume, lbn),
				 lbn >= limit && (lbn - limit) % 32 == 3 ? 0 :
				 (lbn & ~31ULL) > limit + 399 ? limit + 384 : lbn & ~31ULL);
	fixture_check(fixture);
}

static void test_far_apart(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_volume *volume = fixture_create(fixture, 1);
	u64 i, lbn;

	for (i = 0; i < 60; i++) {
		lbn = i * (DYNMAP_MAX_LBN / 60) + 5 * i;
		assert_int_equal(fixture_write(fixture, volume, lbn, 1, i + 1), 0);
	}
	assert_int_equal(fixture_write(fixture, volume, DYNMAP_MAX_LBN - 1, 1, 99), 0);
	for (i = 0; i < 60; i++)
		assert_int_equal(fixture_read(fixture, volume,
					      i * (DYNMAP_MAX_LBN / 60) + 5 * i), i + 1);
	assert_int_equal(fixture_read(fixture, volume, DYNMAP_MAX_LBN - 1), 99);
	fixture_check(fixture);
}

/* Leaves of the map of a volume of @windows windows, each of which has a record. */
static u32 leaves(struct fixture *fixture, struct dynmap_volume *volume, u32 windows)
{
	struct dynmap_buf *leaf = NULL;
	struct dynmap_path path;
	u32 i, count = 0;

	for (i = 0; i < windows; i++) {
		assert_int_equal(HELPED(fixture, dynmap_btree_find(&volume->map, i * 16, &path,
								   &op)), 0);
		count += path.buf[0] != leaf;
		leaf = path.buf[0];
	}
	return count;
}

/* Blocks written one after the other, or in random order, fill their leaves. */
static void test_leaves_become_full(void **state)
{
	static const u64 blocks[] = { 300000, 0 };
	static struct fixture fixture;
	static u32 order[8192];
	const u32 windows = ARRAY_SIZE(order);
	u32 least = windows * dynmap_btree_record_bytes(DYNMAP_TREE_MAP) / DYNMAP_NODE_PAYLOAD;
	struct dynmap_volume *ascending, *random;
	u32 i, at;

	(void)state;
	fixture_init(&fixture, blocks, DYNMAP_WINDOW_BLOCKS, 2);
	ascending = fixture_create(&fixture, 1);
	random = fixture_create(&fixture, 2);
	for (i = 0; i < windows; i++) {
		at = fixture_below(i + 1);
		order[i] = order[at];
		order[at] = i;
	}
	for (i = 0; i < windows; i++) {
		assert_int_equal(fixture_write(&fixture, ascending, i * 16 + 3, 2, 1), 0);
		assert_int_equal(fixture_write(&fixture, random, order[i] * 16, 2, 1), 0);
	}
	assert_in_range(leaves(&fixture, ascending, windows), least, least * 17 / 16 + 1);
	assert_in_range(leaves(&fixture, random, windows), least, least * 3 / 2);
	fixture_exit(&fixture);
}

static void test_full_pool_can_be_emptied(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_volume *volume = fixture_create(fixture, 1);
	u64 lbn = 0;
	int ret;

	do {
		ret = fixture_write(fixture, volume, lbn, 1, lbn + 1);
		lbn += 24;
	} while (!ret);
	assert_int_equal(ret, -ENOSPC);
	fixture_check(fixture);
	assert_int_equal(fixture_unmap(fixture, volume, 0, lbn), 0);
	assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), 0);
	assert_int_equal(fixture->pool.alloc.data_allocated, 0);
	assert_int_equal(fixture_write(fixture, volume, 0, 500, 1), 0);
	fixture_check(fixture);
}

static void replay_fails(struct fixture *fixture, const struct dynmap_disk_record *record)
{
	fixture->pool.journal.replaying = true;
	assert_int_equal(HELPED(fixture, dynmap_table_replay(&fixture->pool.table, record, &op)),
			 -EUCLEAN);
	fixture->pool.journal.replaying = false;
	fixture_check(fixture);
}

/* Run a round to its end: how much it freed. */
static u64 reclaim_all(struct fixture *fixture)
{
	struct dynmap_table *table = &fixture->pool.table;
	struct dynmap_reclaim reclaim;

	dynmap_reclaim_begin(table, &reclaim);
	while (!HELPED(fixture, dynmap_table_reclaim(table, &reclaim, &op)))
		;
	return reclaim.freed;
}

/* A round is of no use if one went through all volumes and nothing was reserved since. */
static void test_a_round_of_reclaim_is_not_repeated(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_table *table = &fixture->pool.table;
	struct dynmap_volume *volume = fixture_create(fixture, 1);
	struct dynmap_volume *other = fixture_create(fixture, 2);
	struct dynmap_reclaim reclaim;

	assert_true(dynmap_table_may_reclaim(table));
	assert_int_equal(reclaim_all(fixture), 0);
	assert_false(dynmap_table_may_reclaim(table));
	assert_int_equal(fixture_write(fixture, volume, 0, 3, 1), 0);
	assert_true(dynmap_table_may_reclaim(table));
	assert_int_equal(reclaim_all(fixture), 13);
	assert_false(dynmap_table_may_reclaim(table));
	/* What is reserved during a round may be missed by it; so may what it does not reach. */
	reserve(fixture, volume, 32, 1);
	dynmap_reclaim_begin(table, &reclaim);
	reserve(fixture, other, 0, 1);
	while (!HELPED(fixture, dynmap_table_reclaim(table, &reclaim, &op)))
		;
	assert_true(dynmap_table_may_reclaim(table));
	reserve(fixture, volume, 64, 1);
	dynmap_reclaim_begin(table, &reclaim);
	assert_int_equal(HELPED(fixture, dynmap_table_reclaim(table, &reclaim, &op)), 0);
	assert_true(dynmap_table_may_reclaim(table));
	/* Nor is it known what was reserved before the pool was opened. */
	fixture_close(fixture);
	assert_int_equal(fixture_open(fixture, false), 0);
	assert_true(dynmap_table_may_reclaim(&fixture->pool.table));
}

static void test_replay_refuses_what_does_not_fit(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_volume *volume = fixture_create(fixture, 1);
	struct dynmap_disk_record record = { .volume = cpu_to_le32(1) };
	u8 kind;

	assert_int_equal(fixture_write(fixture, volume, 0, 16, 1), 0);
	replay_fails(fixture, &record);
	record.kind = DYNMAP_REC_POOL_SET + 1;
	replay_fails(fixture, &record);
	for (kind = DYNMAP_REC_RESERVE; kind <= DYNMAP_REC_UNMAP; kind++) {
		record.kind = kind;
		record.volume = cpu_to_le32(9);		/* no such volume */
		record.map.lbn = cpu_to_le64(100);
		record.map.pbn = cpu_to_le64(1000);
		replay_fails(fixture, &record);
		record.volume = cpu_to_le32(1);
		record.map.lbn = cpu_to_le64(DYNMAP_MAX_LBN);
		replay_fails(fixture, &record);
		record.map.lbn = cpu_to_le64(~0ULL);
		replay_fails(fixture, &record);
		record.map.lbn = cpu_to_le64(DYNMAP_MAX_LBN - 1);
		record.len = cpu_to_le16(1);
		replay_fails(fixture, &record);
		record.len = 0;
	}
	record.kind = DYNMAP_REC_RESERVE;
	record.map.lbn = cpu_to_le64(100);
	record.map.pbn = cpu_to_le64(1ULL << 40);	/* no such segment */
	replay_fails(fixture, &record);
	record.map.lbn = 0;				/* mapped already */
	record.map.pbn = cpu_to_le64(4000);
	replay_fails(fixture, &record);
	record.map.lbn = cpu_to_le64(100);		/* allocated already */
	record.map.pbn = cpu_to_le64(lookup(fixture, volume, 7).pbn);
	replay_fails(fixture, &record);
	record.kind = DYNMAP_REC_VOLUME_CREATE;
	replay_fails(fixture, &record);
	record.volume = cpu_to_le32(DYNMAP_MAX_VOLUME_ID + 1);
	replay_fails(fixture, &record);
	record.kind = DYNMAP_REC_SNAPSHOT;
	record.volume = cpu_to_le32(7);
	record.map.lbn = cpu_to_le64(55);		/* of no volume */
	replay_fails(fixture, &record);
	record.volume = cpu_to_le32(1);
	record.kind = DYNMAP_REC_VOLUME_DELETE;
	record.map.lbn = 0;				/* an id of a user's volume */
	replay_fails(fixture, &record);
	record.kind = DYNMAP_REC_VOLUME_SET;
	record.attr = 77;
	replay_fails(fixture, &record);
}

/* Flip "allocated" of a block behind the allocator's back, as damage does. */
static void flip_allocated(struct fixture *fixture, u64 pbn)
{
	struct dynmap_seg *seg = fixture_seg(fixture, dynmap_pbn_segment(pbn));
	u32 index = dynmap_pbn_index(pbn);

	seg->allocated[index / 64] ^= 1ULL << (index % 64);
}

static void test_only_data_in_use_is_freed(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_volume *volume = fixture_create(fixture, 1);
	struct dynmap_mapping mapping;
	u64 data;

	assert_int_equal(fixture_write(fixture, volume, 0, 16, 5), 0);
	assert_int_equal(HELPED(fixture, dynmap_table_lookup(volume, 3, &mapping, &op)), 0);
	data = fixture->pool.alloc.data_allocated;
	flip_allocated(fixture, mapping.pbn);
	assert_int_equal(fixture_unmap(fixture, volume, 0, 16), -EUCLEAN);
	assert_int_equal(volume->mapped, 16);
	assert_int_equal(fixture->pool.alloc.data_allocated, data);
	flip_allocated(fixture, mapping.pbn);
	assert_int_equal(fixture_unmap(fixture, volume, 0, 16), 0);
	/* A segment that was never touched. */
	store_mem_grow(&fixture->mem, 0, 70000);
	assert_int_equal(fixture_grow(fixture), 0);
	assert_int_equal(HELPED(fixture, dynmap_alloc_may_free(&fixture->pool.alloc,
							       dynmap_segment_pbn(1), 1, &op)),
			 -EUCLEAN);
}

static void test_blocks_of_nodes_are_not_freed(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_alloc *alloc = &fixture->pool.alloc;
	struct dynmap_volume *volume = fixture_create(fixture, 1);

	assert_int_equal(fixture_write(fixture, volume, 0, 1, 5), 0);
	assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), 0);
	assert_int_equal(HELPED(fixture, dynmap_alloc_may_free(alloc, volume->map.root.pbn[0], 1,
							       &op)), -EUCLEAN);
}

static void test_nodes_lie_in_allocated_blocks(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_table *table = &fixture->pool.table;
	struct dynmap_volume *volume;
	u32 copy;

	fixture_create(fixture, 1);
	for (copy = 0; copy < 2; copy++) {
		assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), 0);
		fixture_close(fixture);
		assert_int_equal(fixture_open(fixture, false), 0);
		flip_allocated(fixture, fixture->pool.table.volumes.root.pbn[copy]);
		assert_int_equal(HELPED(fixture, dynmap_volume_load(table, 1, &volume, &op)),
				 -EUCLEAN);
		fixture_close(fixture);
		assert_int_equal(fixture_open(fixture, false), 0);
	}
	fixture_load(fixture, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FIXTURE_TEST(test_empty_volume_is_a_hole, one),
		FIXTURE_TEST(test_reserve_takes_the_allocation_unit, one),
		FIXTURE_TEST(test_reserve_stops_at_neighbours, one),
		FIXTURE_TEST(test_reserved_reads_as_nothing_until_written, one),
		FIXTURE_TEST(test_every_window_bitmap, one),
		FIXTURE_TEST(test_sequential_writes_stay_one_extent, one),
		FIXTURE_TEST(test_streams_stay_apart, one),
		FIXTURE_TEST(test_large_units_are_whole, one),
		FIXTURE_TEST(test_only_streams_grow, one),
		FIXTURE_TEST(test_unmap_frees_exactly_the_range, one),
		FIXTURE_TEST(test_extents_at_the_reach_of_a_leaf, one),
		FIXTURE_TEST(test_joined_leaves_keep_their_reach, one),
		FIXTURE_TEST(test_far_apart, one),
		cmocka_unit_test(test_leaves_become_full),
		FIXTURE_TEST(test_full_pool_can_be_emptied, one),
		FIXTURE_TEST(test_a_round_of_reclaim_is_not_repeated, one),
		FIXTURE_TEST(test_replay_refuses_what_does_not_fit, one),
		FIXTURE_TEST(test_only_data_in_use_is_freed, one),
		FIXTURE_TEST(test_blocks_of_nodes_are_not_freed, one),
		FIXTURE_TEST(test_nodes_lie_in_allocated_blocks, two),
	};

	return cmocka_run_group_tests_name("table", tests, NULL, NULL);
}
