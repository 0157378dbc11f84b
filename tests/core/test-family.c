// SPDX-License-Identifier: GPL-2.0-only
/* Unit tests of families: what snapshots share, and what becomes of it. */
#include "fixture.h"

static void snapshot(struct fixture *fixture, u64 id, u64 origin)
{
	u8 uuid[DYNMAP_UUID_BYTES] = { id + 1 };

	assert_int_equal(HELPED(fixture, dynmap_volume_snapshot(&fixture->pool.table, id, origin,
								uuid, 5, &op)), 0);
}

static void delete(struct fixture *fixture, u64 id)
{
	assert_int_equal(HELPED(fixture, dynmap_volume_delete(&fixture->pool.table, id, &op)), 0);
}

/* All that was deleted is gone, and free. */
static void reap(struct fixture *fixture)
{
	int ret;

	do {
		ret = HELPED(fixture, dynmap_volume_reap(&fixture->pool.table, &op));
	} while (!ret);
	assert_int_equal(ret, -ENOENT);
	fixture_check(fixture);
}

static bool shared(struct fixture *fixture, struct dynmap_volume *volume, u64 lbn)
{
	struct dynmap_mapping mapping;

	assert_int_equal(HELPED(fixture, dynmap_volume_refresh(&fixture->pool.table, volume,
							       &op)), 0);
	assert_int_equal(HELPED(fixture, dynmap_table_lookup(volume, lbn, &mapping, &op)), 0);
	return mapping.shared;
}

static void test_both_sides(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_volume *origin = fixture_create(fixture, 1), *copy;
	u64 before, lbn;

	assert_int_equal(fixture_write(fixture, origin, 0, 100, 11), 0);
	before = fixture->pool.alloc.data_allocated;
	snapshot(fixture, 2, 1);
	copy = fixture_load(fixture, 2);
	assert_int_equal(fixture->pool.alloc.data_allocated, before);
	assert_int_equal(copy->mapped, 100);
	assert_int_equal(copy->exclusive, 0);
	assert_int_equal(fixture_write(fixture, origin, 10, 1, 12), 0);
	assert_int_equal(fixture->pool.alloc.data_allocated, before + 1);
	assert_int_equal(fixture_write(fixture, copy, 20, 5, 13), 0);
	assert_int_equal(fixture_unmap(fixture, copy, 40, 50), 0);
	assert_int_equal(origin->exclusive, 1);
	assert_int_equal(copy->exclusive, 5);
	for (lbn = 0; lbn < 100; lbn++) {
		assert_int_equal(fixture_read(fixture, origin, lbn), lbn == 10 ? 12 : 11);
		assert_int_equal(fixture_read(fixture, copy, lbn),
				 lbn >= 20 && lbn < 25 ? 13 : lbn >= 40 && lbn < 50 ? 0 : 11);
	}
	fixture_check(fixture);
	assert_int_equal(fixture_write(fixture, origin, 10, 1, 14), 0);
	assert_int_equal(fixture->pool.alloc.data_allocated, before + 6);
}

/*
 * A deleted snapshot is emptied before its deletion is durable: what it shared with its
 * origin stays shared, for a power failure brings it back with its content.
 */
static void test_emptied_before_it_is_durable(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_volume *origin = fixture_create(fixture, 1);
	struct dynmap_op op = {};
	int ret, steps = 0;

	assert_int_equal(fixture_write(fixture, origin, 0, 20, 11), 0);
	snapshot(fixture, 2, 1);
	assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), 0);
	assert_int_equal(dynmap_volume_delete(&fixture->pool.table, 2, &op), 0);
	do {
		ret = dynmap_volume_reap(&fixture->pool.table, &op);
	} while (!ret && steps++ < 100);
	assert_int_equal(ret, -EBUSY);
	assert_true(shared(fixture, origin, 5));
	assert_int_equal(fixture_write(fixture, origin, 5, 1, 12), 0);
	fixture_close(fixture);
	store_mem_power_cut(&fixture->mem, fixture_random);
	assert_int_equal(fixture_open(fixture, false), 0);
	assert_int_equal(fixture_read(fixture, fixture_load(fixture, 2), 5), 11);
	delete(fixture, 2);
	reap(fixture);
	assert_false(shared(fixture, fixture_load(fixture, 1), 5));
}

static bool exists(struct fixture *fixture, u64 id)
{
	struct dynmap_volume *volume;

	return !HELPED(fixture, dynmap_volume_load(&fixture->pool.table, id, &volume, &op));
}

/* A group of three, with a commit and a checkpoint in between; 0 or what ended it. */
static int make_group(struct fixture *fixture)
{
	struct dynmap_table *table = &fixture->pool.table;
	u8 uuid[DYNMAP_UUID_BYTES] = { 1 };
	u64 id;
	int ret;

	dynmap_group_begin(table);
	for (id = 5; id < 8; id++) {
		ret = HELPED(fixture, dynmap_volume_snapshot(table, id, id == 6 ? 2 : 1, uuid, 5,
							     &op));
		if (!ret)
			ret = id == 6 ? dynmap_pool_checkpoint(&fixture->pool) :
					dynmap_pool_commit(&fixture->pool);
		if (ret)
			return ret;
	}
	ret = HELPED(fixture, dynmap_group_end(table, &op));
	return ret ? ret : dynmap_pool_commit(&fixture->pool);
}

/* The power fails at each write of a group: all of it is there afterwards, or nothing. */
static void test_group_is_all_or_nothing(void **state)
{
	struct fixture *fixture = *state;
	const u64 blocks[] = { 2000, 2000, 0 };
	bool done = false;
	u32 none = 0;
	u64 lives;

	for (lives = 1; !done; lives++) {
		fixture_exit(fixture);
		fixture_init(fixture, blocks, 16, 2);
		assert_int_equal(fixture_write(fixture, fixture_create(fixture, 1), 0, 9, 11), 0);
		assert_int_equal(fixture_write(fixture, fixture_create(fixture, 2), 0, 9, 12), 0);
		snapshot(fixture, 3, 1);
		assert_int_equal(dynmap_pool_commit(&fixture->pool), 0);
		fixture->mem.lives = lives;
		done = !make_group(fixture);
		fixture_close(fixture);
		store_mem_power_cut(&fixture->mem, fixture_random);
		assert_int_equal(fixture_open(fixture, true), 0);
		assert_int_equal(exists(fixture, 5), exists(fixture, 6));
		fixture_close(fixture);
		assert_int_equal(fixture_open(fixture, false), 0);
		assert_true(exists(fixture, 3));
		assert_int_equal(exists(fixture, 5), exists(fixture, 6));
		assert_int_equal(exists(fixture, 5), exists(fixture, 7));
		assert_true(exists(fixture, 5) || !done);
		none += !exists(fixture, 5);
		reap(fixture);
		assert_int_equal(fixture_read(fixture, fixture_load(fixture, 1), 5), 11);
		assert_int_equal(fixture_read(fixture, fixture_load(fixture, 3), 5), 11);
		if (done)
			assert_int_equal(fixture_read(fixture, fixture_load(fixture, 6), 5), 12);
	}
	assert_true(none > 8);
}

/* A group that cannot be completed is taken back. */
static void test_group_is_taken_back(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_table *table = &fixture->pool.table;
	int ret;

	fixture_create(fixture, 1);
	snapshot(fixture, 2, 1);
	dynmap_group_begin(table);
	snapshot(fixture, 5, 1);
	snapshot(fixture, 6, 2);
	do {
		ret = HELPED(fixture, dynmap_group_abort(table, &op));
	} while (!ret);
	assert_int_equal(ret, -ENOENT);
	assert_int_equal(HELPED(fixture, dynmap_group_end(table, &op)), 0);
	assert_int_equal(dynmap_pool_commit(&fixture->pool), 0);
	fixture_close(fixture);
	store_mem_power_cut(&fixture->mem, fixture_random);
	assert_int_equal(fixture_open(fixture, false), 0);
	assert_true(exists(fixture, 1) && exists(fixture, 2));
	assert_false(exists(fixture, 5) || exists(fixture, 6));
	reap(fixture);
}

/* As many blocks are touched for a small volume as for a large one. */
static void test_constant(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_volume *volume = fixture_create(fixture, 1);
	u64 lbn, before;

	assert_int_equal(fixture_write(fixture, volume, 0, 1, 1), 0);
	for (lbn = 0; lbn < 500; lbn++)
		assert_int_equal(fixture_write(fixture, volume, lbn * 40, 1, 2), 0);
	fixture_check(fixture);
	before = fixture->pool.cache.nr_dirty;
	snapshot(fixture, 2, 1);
	assert_true(fixture->pool.cache.nr_dirty - before <= 2);
}

/* Overwritten in place again once the deletion is durable, not before. */
static void test_unshared_when_durable(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_volume *origin = fixture_create(fixture, 1);
	u64 before;

	assert_int_equal(fixture_write(fixture, origin, 0, 50, 1), 0);
	snapshot(fixture, 2, 1);
	assert_true(shared(fixture, origin, 7));
	delete(fixture, 2);
	assert_true(shared(fixture, origin, 7));
	assert_int_equal(dynmap_pool_commit(&fixture->pool), 0);
	assert_false(shared(fixture, origin, 7));
	before = fixture->pool.alloc.data_allocated;
	assert_int_equal(fixture_write(fixture, origin, 0, 50, 2), 0);
	assert_int_equal(fixture->pool.alloc.data_allocated, before);
	reap(fixture);
	assert_int_equal(origin->exclusive, before);
	assert_int_equal(origin->disk.parent, 0);
}

static void test_deleted_in_any_order(void **state)
{
	struct fixture *fixture = *state;
	u64 order[8] = {}, i, round, meta;

	reap(fixture);
	meta = fixture->pool.alloc.meta_allocated;
	for (round = 0; round < 12; round++) {
		fixture_create(fixture, 0);
		assert_int_equal(fixture_write(fixture, fixture_load(fixture, 0), 0, 300, 1), 0);
		for (i = 1; i < 8; i++) {
			snapshot(fixture, i, fixture_below(i));
			assert_int_equal(fixture_write(fixture,
						       fixture_load(fixture, fixture_below(i + 1)),
						       fixture_below(300), 1 + fixture_below(60),
						       2 + i), 0);
			assert_int_equal(fixture_unmap(fixture,
						       fixture_load(fixture, fixture_below(i + 1)),
						       fixture_below(200), 200), 0);
		}
		fixture_check(fixture);
		for (i = 0; i < 8; i++) {
			u64 at = fixture_below(i + 1);

			order[i] = order[at];
			order[at] = i;
		}
		for (i = 0; i < 8; i++) {
			delete(fixture, order[i]);
			if (fixture_below(3))
				reap(fixture);
		}
		reap(fixture);
		assert_int_equal(fixture->pool.alloc.data_allocated, 0);
		assert_true(fixture->pool.alloc.meta_allocated <= meta);
		assert_int_equal(fixture->pool.table.family.snaps.levels, 0);
	}
}

/*
 * A volume gave a block up, then it and all that shared it with it but one volume were
 * deleted: the block is that one's, and may be used anew while the entry is still there.
 */
static void test_entries_of_what_is_used_anew(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_volume *volume = fixture_create(fixture, 1), *other;
	struct dynmap_mapping mapping, block;
	bool anew = false;
	u64 lbn, end = 0;

	assert_int_equal(fixture_write(fixture, volume, 0, 1, 1), 0);
	assert_int_equal(HELPED(fixture, dynmap_table_lookup(volume, 0, &block, &op)), 0);
	snapshot(fixture, 2, 1);
	snapshot(fixture, 3, 1);
	assert_int_equal(fixture_write(fixture, volume, 0, 1, 2), 0);
	fixture_check(fixture);
	delete(fixture, 3);
	delete(fixture, 1);
	assert_int_equal(dynmap_pool_commit(&fixture->pool), 0);
	other = fixture_load(fixture, 2);
	assert_false(shared(fixture, other, 0));
	assert_int_equal(fixture_unmap(fixture, other, 0, 16), 0);
	assert_int_equal(dynmap_pool_commit(&fixture->pool), 0);
	volume = fixture_create(fixture, 4);
	/* The pool is not filled to the last block: what is free in front goes first. */
	fixture_seg(fixture, dynmap_pbn_segment(block.pbn))->hint = 0;
	while (!fixture_write(fixture, volume, end, 1, 4))
		end++;
	for (lbn = 0; lbn < end; lbn += mapping.len) {
		assert_int_equal(HELPED(fixture, dynmap_table_lookup(volume, lbn, &mapping, &op)),
				 0);
		anew |= mapping.pbn <= block.pbn && block.pbn < mapping.pbn + mapping.len;
	}
	assert_true(anew);
	snapshot(fixture, 5, 4);
	fixture_check(fixture);
	reap(fixture);
	assert_int_equal(fixture_read(fixture, volume, end - 1), 4);
}

static int rollback(struct fixture *fixture, u64 id, u64 snapshot_id)
{
	return HELPED(fixture, dynmap_volume_rollback(&fixture->pool.table, id, snapshot_id, &op));
}

static void test_rolled_back(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_volume *volume = fixture_create(fixture, 1);
	struct dynmap_table *table = &fixture->pool.table;
	u64 before, round;

	volume->disk.uuid[3] = 77;
	assert_int_equal(fixture_write(fixture, volume, 0, 100, 1), 0);
	snapshot(fixture, 2, 1);
	before = fixture->pool.alloc.data_allocated;
	for (round = 0; round < 4; round++) {
		volume = fixture_load(fixture, 1);
		assert_int_equal(fixture_write(fixture, volume, 10, 50, 2), 0);
		assert_int_equal(fixture_unmap(fixture, volume, 90, 100), 0);
		assert_int_equal(rollback(fixture, 1, 2), 0);
		assert_int_equal(fixture_read(fixture, fixture_load(fixture, 1), 20), 1);
		if (round % 2)
			reap(fixture);
		assert_int_equal(fixture_write(fixture, fixture_load(fixture, 1), 0, 2, 3), 0);
		assert_int_equal(fixture_read(fixture, fixture_load(fixture, 2), 0), 1);
		assert_int_equal(fixture_read(fixture, fixture_load(fixture, 1), 95), 1);
	}
	assert_int_equal(rollback(fixture, 1, 2), 0);
	reap(fixture);
	assert_int_equal(fixture->pool.alloc.data_allocated, before);
	assert_int_equal(fixture_load(fixture, 1)->disk.uuid[3], 77);
	/* A snapshot can be rolled back, too; to an unrelated volume as well. */
	assert_int_equal(fixture_write(fixture, fixture_load(fixture, 1), 0, 1, 4), 0);
	assert_int_equal(rollback(fixture, 2, 1), 0);
	assert_int_equal(fixture_read(fixture, fixture_load(fixture, 2), 0), 4);
	fixture_create(fixture, 3);
	assert_int_equal(rollback(fixture, 3, 1), 0);
	assert_int_equal(fixture_load(fixture, 3)->mapped, 100);

	assert_int_equal(rollback(fixture, 1, 1), -EINVAL);
	assert_int_equal(rollback(fixture, 1, DYNMAP_MAX_VOLUME_ID + 1), -EINVAL);
	assert_int_equal(rollback(fixture, 1, 9), -ENODATA);
	assert_int_equal(rollback(fixture, 9, 1), -ENODATA);
	fixture_load(fixture, 1)->users = 1;
	assert_int_equal(rollback(fixture, 1, 2), -ETXTBSY);
	assert_int_equal(rollback(fixture, 2, 1), 0);
	fixture_load(fixture, 1)->users = 0;
	assert_int_equal(HELPED(fixture, dynmap_volume_change(table, 1, DYNMAP_ATTR_READ_ONLY, 1,
							      &op)), 0);
	assert_int_equal(rollback(fixture, 1, 2), -EROFS);
	assert_int_equal(HELPED(fixture, dynmap_volume_change(table, 1, DYNMAP_ATTR_PROTECTED, 1,
							      &op)), 0);
	assert_int_equal(rollback(fixture, 1, 2), -EPERM);
	assert_int_equal(dynmap_pool_commit(&fixture->pool), 0);
	fixture_close(fixture);
	assert_int_equal(fixture_open(fixture, false), 0);
	assert_int_equal(fixture_load(fixture, 3)->mapped, 100);
	assert_int_equal(fixture_read(fixture, fixture_load(fixture, 2), 0), 4);
	reap(fixture);
}

/* The last volume of many is deleted when of all records only its own was read. */
static void test_delete_last(void **state)
{
	struct fixture *fixture = *state;
	u64 id;

	for (id = 0; id < 40; id++)
		fixture_create(fixture, id);
	for (; id; id--) {
		fixture_check(fixture);
		fixture_close(fixture);
		assert_int_equal(fixture_open(fixture, false), 0);
		delete(fixture, id - 1);
		reap(fixture);
	}
}

/* The ranges that differ, as "first+length" each. */
static const char *compared(struct fixture *fixture, u64 a, u64 b)
{
	struct dynmap_comparison comparison = {};
	static char text[200];
	int ret = 0;

	*text = '\0';
	while (ret != -ENOENT) {
		ret = HELPED(fixture, dynmap_table_compare(fixture_load(fixture, a),
							   fixture_load(fixture, b),
							   &comparison, &op));
		assert_true(!ret || ret == -EINPROGRESS || ret == -ENOENT);
		if (ret)
			continue;
		sprintf(text + strlen(text), " %llu+%llu", (unsigned long long)comparison.from,
			(unsigned long long)(comparison.to - comparison.from));
	}
	return text;
}

static void test_compared(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_volume *origin = fixture_create(fixture, 1);
	u64 lbn, nodes;

	fixture_create(fixture, 3);
	assert_string_equal(compared(fixture, 1, 3), "");
	assert_int_equal(HELPED(fixture, dynmap_volume_change(&fixture->pool.table, 1,
							      DYNMAP_ATTR_ALLOC, 1, &op)), 0);
	for (lbn = 0; lbn < 2000; lbn++)
		assert_int_equal(fixture_write(fixture, origin, lbn * 40, 1, 2), 0);
	snapshot(fixture, 2, 1);
	assert_string_equal(compared(fixture, 1, 2), "");
	assert_int_equal(fixture_write(fixture, origin, 40, 3, 3), 0);
	assert_int_equal(fixture_write(fixture, fixture_load(fixture, 2), 79990, 2, 3), 0);
	assert_int_equal(fixture_unmap(fixture, fixture_load(fixture, 2), 4000, 4001), 0);
	assert_string_equal(compared(fixture, 1, 2), " 40+3 4000+1 79990+2");
	assert_string_equal(compared(fixture, 2, 1), " 40+3 4000+1 79990+2");
	assert_string_equal(compared(fixture, 1, 1), "");
	/* What is shared is not read. */
	fixture_check(fixture);
	dynmap_cache_shrink(&fixture->pool.cache, ~0U);
	dynmap_cache_shrink(&fixture->pool.cache, ~0U);
	nodes = fixture->pool.cache.nr_clean;
	compared(fixture, 1, 2);
	assert_true(fixture->pool.cache.nr_clean <= nodes + 10);
}

static u64 exclusive(struct fixture *fixture, u64 id)
{
	struct dynmap_usage usage;
	int ret = HELPED(fixture, dynmap_volume_usage(&fixture->pool.table, id, &usage, &op));

	while (!ret)
		ret = HELPED(fixture, dynmap_usage_step(&fixture->pool.table, &usage, &op));
	assert_int_equal(ret, -ENOENT);
	return usage.exclusive;
}

/* What deleting a volume frees is known before, through chains of snapshots, too. */
static void test_usage(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_volume *volume = fixture_create(fixture, 0);
	struct dynmap_usage usage;
	u64 before, said, id, i;

	assert_int_equal(fixture_write(fixture, volume, 0, 300, 1), 0);
	assert_int_equal(exclusive(fixture, 0), volume->mapped + volume->reserved);
	for (id = 1; id < 9; id++) {
		snapshot(fixture, id, id % 3 ? id - 1 : 0);
		assert_int_equal(fixture_write(fixture, fixture_load(fixture, id), 20 * id, 50, 2),
				 0);
		assert_int_equal(fixture_unmap(fixture, fixture_load(fixture, id - 1), 25 * id,
					       25 * id + 30), 0);
	}
	assert_int_equal(HELPED(fixture, dynmap_volume_usage(&fixture->pool.table, 77, &usage,
							     &op)), -ENODATA);
	for (i = 0; i < 9; i++) {
		id = i * 4 % 9;
		said = exclusive(fixture, id);
		before = fixture->pool.alloc.data_allocated;
		delete(fixture, id);
		if (i < 8)
			exclusive(fixture, (i + 1) * 4 % 9);
		reap(fixture);
		assert_int_equal(before - fixture->pool.alloc.data_allocated, said);
	}
	assert_int_equal(fixture->pool.alloc.data_allocated, 0);
}

/* Reserved blocks that are shared are written by nobody. */
static void test_reserved(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_volume *origin = fixture_create(fixture, 1), *copy;

	assert_int_equal(fixture_write(fixture, origin, 0, 1, 1), 0);
	assert_int_equal(origin->reserved, 15);
	snapshot(fixture, 2, 1);
	copy = fixture_load(fixture, 2);
	assert_int_equal(fixture_write(fixture, origin, 5, 2, 2), 0);
	assert_int_equal(fixture_write(fixture, copy, 5, 2, 3), 0);
	assert_int_equal(fixture_read(fixture, origin, 6), 2);
	assert_int_equal(fixture_read(fixture, copy, 6), 3);
	assert_int_equal(fixture_read(fixture, copy, 7), 0);
	fixture_check(fixture);
}

static void test_reopened(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_volume *origin = fixture_create(fixture, 1);

	assert_int_equal(fixture_write(fixture, origin, 0, 64, 1), 0);
	fixture_check(fixture);
	snapshot(fixture, 2, 1);
	assert_int_equal(fixture_write(fixture, origin, 3, 9, 2), 0);
	snapshot(fixture, 3, 2);
	assert_int_equal(fixture_write(fixture, fixture_load(fixture, 3), 5, 1, 3), 0);
	assert_int_equal(dynmap_pool_commit(&fixture->pool), 0);
	fixture_close(fixture);
	assert_int_equal(fixture_open(fixture, false), 0);
	assert_int_equal(fixture_read(fixture, fixture_load(fixture, 1), 5), 2);
	assert_int_equal(fixture_read(fixture, fixture_load(fixture, 2), 5), 1);
	assert_int_equal(fixture_read(fixture, fixture_load(fixture, 3), 5), 3);
	assert_int_equal(fixture_load(fixture, 3)->disk.uuid[0], 4);
	fixture_check(fixture);
}

static void test_unloaded(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(fixture_write(fixture, fixture_create(fixture, 1), 0, 64, 1), 0);
	snapshot(fixture, 2, 1);
	dynmap_table_unload(&fixture->pool.table);
	assert_false(list_empty(&fixture->pool.table.loaded));
	assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), 0);
	dynmap_table_unload(&fixture->pool.table);
	assert_true(list_empty(&fixture->pool.table.loaded));
	assert_true(list_empty(&fixture->pool.table.family.loaded));
	assert_int_equal(fixture_read(fixture, fixture_load(fixture, 2), 5), 1);
	assert_true(shared(fixture, fixture_load(fixture, 1), 5));
	fixture_check(fixture);
}

static int try(struct fixture *fixture, u64 id, u64 origin)
{
	u8 uuid[DYNMAP_UUID_BYTES] = {};

	return HELPED(fixture, dynmap_volume_snapshot(&fixture->pool.table, id, origin, uuid, 5,
						      &op));
}

static void test_refused(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_table *table = &fixture->pool.table;
	u32 generation;

	fixture_create(fixture, 1);
	assert_int_equal(try(fixture, 1, 1), -EEXIST);
	assert_int_equal(try(fixture, 2, 3), -ENODATA);
	assert_int_equal(try(fixture, DYNMAP_MAX_VOLUME_ID + 1, 1), -EINVAL);
	assert_int_equal(try(fixture, 2, DYNMAP_MAX_VOLUME_ID + 1), -EINVAL);
	assert_int_equal(HELPED(fixture, dynmap_volume_change(table, 1, DYNMAP_ATTR_PROTECTED, 1,
							      &op)), 0);
	assert_int_equal(HELPED(fixture, dynmap_volume_delete(table, 1, &op)), -EPERM);
	assert_int_equal(HELPED(fixture, dynmap_volume_change(table, 1, DYNMAP_ATTR_PROTECTED, 2,
							      &op)), -EINVAL);
	assert_int_equal(HELPED(fixture, dynmap_volume_change(table, 1, DYNMAP_ATTR_PROTECTED, 0,
							      &op)), 0);
	generation = fixture->pool.cache.generation;
	fixture->pool.cache.generation = ~0U;
	assert_int_equal(try(fixture, 2, 1), -EOVERFLOW);
	fixture->pool.cache.generation = generation;
	assert_int_equal(HELPED(fixture, dynmap_volume_delete(table, 1, &op)), 0);
	reap(fixture);
}

/*
 * A snapshot takes the nodes for its record at once, not from what is left for the checkpoint
 * that comes: that one only replaces records that are there.
 */
static void test_entered_at_once(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_family *family = &fixture->pool.table.family;
	struct dynmap_disk_snapshot record;
	u64 id;

	fixture_create(fixture, 1);
	for (id = 1; id < 100; id++) {
		snapshot(fixture, 1 + id, 1);
		assert_int_equal(HELPED(fixture, dynmap_btree_get(&family->snaps, id, &record,
								  &op)), 0);
		assert_int_equal(le64_to_cpu(record.id), id);
	}
	fixture_check(fixture);
}

/* Bad records of snapshot nodes are found when they are needed. */
static void test_bad_records(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_family *family = &fixture->pool.table.family;
	struct dynmap_disk_snapshot good, bad;
	struct dynmap_snap *snap;
	u32 i;

	fixture_create(fixture, 1);
	snapshot(fixture, 2, 1);
	fixture_check(fixture);
	assert_int_equal(HELPED(fixture, dynmap_btree_get(&family->snaps, 1, &good, &op)), 0);
	for (i = 0; i < 6; i++) {
		bad = good;
		switch (i) {
		case 0:
			bad.flags = cpu_to_le32(4);
			break;
		case 1:
			bad.flags = cpu_to_le32(DYNMAP_SNAPSHOT_SIDE);
			break;
		case 2:
			bad.parent = cpu_to_le64(1);
			break;
		case 3:
			bad.parent_slot = cpu_to_le32(2);
			break;
		case 4:
			bad.generation = cpu_to_le32(77);
			break;
		case 5:
			bad.divergence_root.levels = cpu_to_le32(99);
			break;
		}
		assert_int_equal(HELPED(fixture, dynmap_alloc_reserve(family->alloc, 9, 2, &op)),
				 0);
		assert_int_equal(HELPED(fixture, dynmap_btree_put(&family->snaps, 1, &bad, &op)),
				 0);
		dynmap_family_unload(family);
		assert_int_equal(HELPED(fixture, dynmap_snap_get(family, 1, &snap, &op)),
				 -EUCLEAN);
	}
	assert_int_equal(HELPED(fixture, dynmap_snap_get(family, 9, &snap, &op)), -EUCLEAN);
}

/* Blocks that nobody allocated are not freed, whatever a divergence tree says. */
static void test_bad_divergence(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_family *family = &fixture->pool.table.family;
	struct dynmap_disk_divergence entry = {
		.pbn = cpu_to_le64(5000),
		.len = cpu_to_le32(8),
		.birth = cpu_to_le32(1),
		.side = 0,
	};
	struct dynmap_snap *snap;
	u64 before;

	fixture_create(fixture, 1);
	snapshot(fixture, 2, 1);
	before = fixture->pool.alloc.data_allocated;
	assert_int_equal(HELPED(fixture, dynmap_snap_get(family, 1, &snap, &op)), 0);
	assert_int_equal(HELPED(fixture, dynmap_alloc_reserve(family->alloc, 9, 2, &op)), 0);
	assert_int_equal(HELPED(fixture, dynmap_btree_put(&snap->divergence, 5000, &entry, &op)),
			 0);
	delete(fixture, 2);
	assert_int_equal(HELPED(fixture, dynmap_family_drain(family, 1, &op)), -EUCLEAN);
	assert_int_equal(snap->own, 0);
	assert_int_equal(fixture->pool.alloc.data_allocated, before);
}

/* Two writes are looked up in a shared leaf; the first one makes the volume its own. */
static void test_looked_up_before(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_table *table = &fixture->pool.table;
	struct dynmap_volume *origin = fixture_create(fixture, 1);
	struct dynmap_mapping mapping[2], now;
	u64 lbn[2] = { 3, 9 }, pbn[2], at, to;
	u32 len, i;

	assert_int_equal(fixture_write(fixture, origin, 0, 20, 1), 0);
	snapshot(fixture, 2, 1);
	for (i = 0; i < 2; i++) {
		assert_int_equal(HELPED(fixture, dynmap_table_lookup(origin, lbn[i], &mapping[i],
								     &op)), 0);
		assert_int_equal(HELPED(fixture, dynmap_table_hold(table, origin, 1, &pbn[i], &len,
								   &op)), 0);
	}
	for (i = 0; i < 2; i++) {
		at = lbn[i];
		to = pbn[i];
		len = 1;
		assert_int_equal(HELPED(fixture, (op.place = mapping[i].place,
						  dynmap_table_redirect(table, origin, &at, &to,
									&len, &op))), 0);
	}
	for (i = 0; i < 2; i++) {
		assert_int_equal(HELPED(fixture, dynmap_table_lookup(origin, lbn[i], &now, &op)),
				 0);
		assert_int_equal(now.pbn, pbn[i]);
		assert_int_equal(HELPED(fixture, dynmap_table_lookup(fixture_load(fixture, 2),
								     lbn[i], &now, &op)), 0);
		assert_int_equal(now.pbn, mapping[i].pbn);
	}
	fixture_check(fixture);
}

/*
 * Dead extents wait, but not more than a few thousand; they enter and match in any order, many
 * in a leaf at once, and the space comes back exactly.
 */
static void test_many_dead_extents(void **state)
{
	static const u64 blocks[] = { 700000, 0 };
	static struct fixture fixture;
	const u32 *waiting = &fixture.pool.cache.dead_list.count;
	struct dynmap_volume *origin, *copy;
	u32 i, most = 0;
	u64 before;

	(void)state;
	fixture_init(&fixture, blocks, 16, 2);
	origin = fixture_create(&fixture, 1);
	before = fixture.pool.alloc.data_allocated;
	assert_int_equal(fixture_write(&fixture, origin, 0, 12000, 1), 0);
	snapshot(&fixture, 2, 1);
	copy = fixture_load(&fixture, 2);
	for (i = 0; i < 9000; i++) {
		assert_int_equal(fixture_write(&fixture, origin, i * 7919 % 12000, 1, 2), 0);
		most = max(most, *waiting);
	}
	assert_true(most > DYNMAP_DEAD_LIST_MANY - 64);
	assert_true(most < DYNMAP_DEAD_LIST_MANY + 64);
	for (i = 0; i < 6000; i++)
		assert_int_equal(fixture_write(&fixture, copy, i * 5779 % 12000, 1, 3), 0);
	fixture_check(&fixture);
	assert_int_equal(origin->exclusive, 9000);
	assert_int_equal(copy->exclusive, 6000);
	for (i = 0; i < 12000; i++) {
		assert_int_equal(fixture_read(&fixture, origin, i * 7919 % 12000),
				 i < 9000 ? 2 : 1);
		assert_int_equal(fixture_read(&fixture, copy, i * 5779 % 12000),
				 i < 6000 ? 3 : 1);
	}
	delete(&fixture, 1);
	reap(&fixture);
	assert_int_equal(fixture.pool.alloc.data_allocated, before + 12000);
	delete(&fixture, 2);
	reap(&fixture);
	assert_int_equal(fixture.pool.alloc.data_allocated, before);
	fixture_exit(&fixture);
}

/* Leaves and inner nodes of the tree of dead extents. */
static u64 dead_nodes(const struct fixture *fixture)
{
	const struct dynmap_tally *tally = &fixture->pool.cache.tally[DYNMAP_TREE_DEAD];

	return tally->nodes[0] + tally->nodes[1];
}

/*
 * Dead extents wait over checkpoints, many, then few, then none, and over power failures; the pool
 * that is opened only to be read lets them wait, the other one resolves them.
 */
static void test_dead_list_waits_over_checkpoints(void **state)
{
	static const u64 blocks[] = { 30000, 30000, 0 };
	static const u32 writes[] = { 1500, 700, 20, 1400, 0 };
	static struct fixture fixture;
	const u32 *waiting = &fixture.pool.cache.dead_list.count;
	struct dynmap_family *family = &fixture.pool.table.family;
	struct dynmap_volume *origin, *copy;
	u32 i, round, last, lbn = 0, entered;

	(void)state;
	fixture_init(&fixture, blocks, 1, 2);
	origin = fixture_create(&fixture, 1);
	for (i = 0; i < 8000; i += 2)
		assert_int_equal(fixture_write(&fixture, origin, i, 1, 1), 0);
	snapshot(&fixture, 2, 1);
	for (round = 0; round < ARRAY_SIZE(writes); round++) {
		copy = fixture_load(&fixture, 2);
		for (i = 0; i < writes[round]; i++, lbn += 2)
			assert_int_equal(fixture_write(&fixture, copy, lbn, 1, 2), 0);
		assert_in_range(*waiting, writes[round], writes[round] + 200);
		last = *waiting;
		entered = family->waited;
		fixture_check_waiting(&fixture);
		assert_int_equal(*waiting, last);
		assert_int_equal(family->waited, last);
		assert_in_range(dead_nodes(&fixture), !!last, last / DYNMAP_DEAD_LIST_PER_LEAF + 4);
		print_message("%u dead extents, %u before: %llu nodes\n", last, entered,
			      (unsigned long long)dead_nodes(&fixture));
		if (round % 2) {
			/* At the next checkpoint the tree has those that were resolved since. */
			assert_int_equal(HELPED(&fixture, dynmap_family_resolve(family, ~0U, &op)),
					 0);
			continue;
		}
		fixture_close(&fixture);
		store_mem_power_cut(&fixture.mem, fixture_random);
		assert_int_equal(fixture_open(&fixture, true), 0);
		assert_int_equal(*waiting, last);
		assert_int_equal(dead_nodes(&fixture) > 0, last > 0);
		assert_int_equal(fixture_load(&fixture, 2)->mapped, 4000);
		fixture_close(&fixture);
		assert_int_equal(fixture_open(&fixture, false), 0);
		assert_int_equal(*waiting, 0);
		assert_int_equal(dead_nodes(&fixture), 0);
		fixture_check(&fixture);
	}
	for (i = 0; i < 8000; i += 2) {
		assert_int_equal(fixture_read(&fixture, fixture_load(&fixture, 1), i), 1);
		assert_int_equal(fixture_read(&fixture, fixture_load(&fixture, 2), i),
				 i < lbn ? 2 : 1);
	}
	delete(&fixture, 1);
	delete(&fixture, 2);
	reap(&fixture);
	assert_int_equal(fixture.pool.alloc.data_allocated, 0);
	fixture_exit(&fixture);
}

/* Of the dead extents that are read at opening each part is looked at. */
static void test_bad_dead_list(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_family *family = &fixture->pool.table.family;
	struct dynmap_disk_dead good, bad;
	u32 way;

	fixture_create(fixture, 1);
	assert_int_equal(fixture_write(fixture, fixture_load(fixture, 1), 0, 20, 1), 0);
	snapshot(fixture, 2, 1);
	assert_int_equal(fixture_write(fixture, fixture_load(fixture, 2), 3, 9, 2), 0);
	fixture_check_waiting(fixture);
	assert_true(family->waited > 2);
	assert_int_equal(HELPED(fixture, dynmap_btree_get(&family->waiting, 1, &good, &op)), 0);
	for (way = 0; way < 5; way++) {
		bad = good;
		if (way == 0)
			bad.node = cpu_to_le64(family->next_id);
		else if (way == 1)
			bad.birth = 0;
		else if (way == 2)
			bad.birth = cpu_to_le32(fixture->pool.cache.generation + 1);
		else if (way == 3)
			bad.node = 0;
		else
			bad.number = cpu_to_le64(family->waited + 9);
		assert_int_equal(HELPED(fixture, dynmap_alloc_reserve(family->alloc, 9, 2, &op)),
				 0);
		if (way == 4)
			assert_int_equal(HELPED(fixture, dynmap_btree_remove(&family->waiting, 1,
									     &op)), 0);
		else
			assert_int_equal(HELPED(fixture, dynmap_btree_put(&family->waiting, 1,
									  &bad, &op)), 0);
		family->waited = 0;
		assert_int_equal(HELPED(fixture, dynmap_family_load(family, &op)), -EUCLEAN);
		assert_int_equal(family->waited, 1);
	}
}

/*
 * One copy of the root of the dead extents is destroyed: the other one serves. Both are: the
 * pool opens only to be read, with all that its volumes hold, and the checker says what is wrong.
 */
static void test_unreadable_dead_list(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_tree *waiting = &fixture->pool.table.family.waiting;
	struct dynmap_check check;
	u64 at[2], waited, i;
	u32 dev[2];

	fixture_create(fixture, 1);
	assert_int_equal(fixture_write(fixture, fixture_load(fixture, 1), 0, 20, 1), 0);
	snapshot(fixture, 2, 1);
	assert_int_equal(fixture_write(fixture, fixture_load(fixture, 2), 3, 9, 2), 0);
	fixture_check_waiting(fixture);
	waited = fixture->pool.table.family.waited;
	assert_true(waited > 2);
	for (i = 0; i < 2; i++)
		at[i] = dynmap_pbn_locate(&fixture->pool.geo, waiting->root.pbn[i], &dev[i]);
	for (i = 0; i < 2; i++) {
		memset(store_mem_block(&fixture->mem, dev[i], at[i]), 0, DYNMAP_BLOCK_BYTES);
		fixture_close(fixture);
		assert_int_equal(fixture_open(fixture, true), 0);
		assert_int_equal(fixture->pool.table.family.waited, i ? 0 : waited);
		assert_int_equal(fixture->pool.cache.dead_list.count, i ? 0 : waited);
	}
	assert_int_equal(fixture_read(fixture, fixture_load(fixture, 1), 5), 1);
	assert_int_equal(fixture_read(fixture, fixture_load(fixture, 2), 5), 2);
	assert_int_equal(dynmap_check_pool(&fixture->pool, NULL, &check), 0);
	assert_true(check.damaged > 0);
	fixture_close(fixture);
	assert_int_equal(fixture_open(fixture, false), -EBADMSG);
}

/* The checker comes to an end on nodes that are each other's children. */
static void test_ring_of_nodes(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_check check;
	struct dynmap_snap *snap;

	assert_int_equal(fixture_write(fixture, fixture_create(fixture, 1), 0, 20, 1), 0);
	snapshot(fixture, 2, 1);
	snapshot(fixture, 3, 1);
	fixture_check(fixture);
	assert_int_equal(HELPED(fixture, dynmap_snap_get(&fixture->pool.table.family, 2, &snap,
							 &op)), 0);
	dynmap_snap_set_child(snap, 0, DYNMAP_CHILD_IS_NODE | 1);
	assert_int_equal(dynmap_check_pool(&fixture->pool, NULL, &check), 0);
	assert_true(check.damaged);
	dynmap_snap_set_child(snap, 0, 1);
	fixture_check(fixture);
}

/* What is born later than now is no sound pool. */
static void test_born_too_late(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_check check;

	assert_int_equal(fixture_write(fixture, fixture_create(fixture, 1), 0, 20, 1), 0);
	snapshot(fixture, 2, 1);
	assert_int_equal(fixture_write(fixture, fixture_load(fixture, 1), 5, 1, 1), 0);
	fixture_check(fixture);
	fixture->pool.cache.generation--;
	assert_int_equal(dynmap_check_pool(&fixture->pool, NULL, &check), 0);
	assert_true(check.damaged);
	fixture->pool.cache.generation++;
	fixture_check(fixture);
}

static struct dynmap_snap *snap_of(struct fixture *fixture, u64 id)
{
	struct dynmap_snap *snap;

	assert_int_equal(HELPED(fixture, dynmap_snap_get(&fixture->pool.table.family, id, &snap,
							 &op)), 0);
	return snap;
}

/* The way up from a volume, node by node: what it shares with whom; how many were passed. */
static u32 walk(struct fixture *fixture, u64 node, u32 side, u64 durable, u32 *generation)
{
	struct dynmap_snap *snap;
	u32 passed = 0;

	for (*generation = 0; node; passed++) {
		snap = snap_of(fixture, node);
		/* A block that goes is counted where it was. */
		assert_in_range(snap->own, 0, 600);
		if (!dynmap_snap_is_dying(snap) || dynmap_snap_dead_side(snap) == side ||
		    snap->death > durable) {
			*generation = le32_to_cpu(snap->disk.generation);
			break;
		}
		node = le64_to_cpu(snap->disk.parent);
		side = le32_to_cpu(snap->disk.parent_slot);
	}
	return passed;
}

/* Climbs from a volume find what a walk finds; how many nodes lay between. */
static u32 compare_climbs(struct fixture *fixture, const struct dynmap_volume *volume)
{
	u64 parent = le64_to_cpu(volume->disk.parent);
	u32 side = le32_to_cpu(volume->disk.parent_slot), generation, passed;
	struct dynmap_family *family = &fixture->pool.table.family;
	struct dynmap_share share;
	struct dynmap_snap *snap;
	u32 at = side;

	walk(fixture, parent, side, family->durable, &generation);
	assert_int_equal(HELPED(fixture, dynmap_family_share(family, parent, side, true, &share,
							     &op)), 0);
	assert_int_equal(share.generation, generation);
	passed = walk(fixture, parent, side, ~0ULL, &generation);
	assert_int_equal(HELPED(fixture, dynmap_family_next(family, parent, &at, &snap, &op)), 0);
	assert_int_equal(snap ? le32_to_cpu(snap->disk.generation) : 0, generation);
	return passed;
}

/* How many nodes a climb from @node visits that takes each jump it finds. */
static u32 visited(struct fixture *fixture, u64 node, u32 passed)
{
	struct dynmap_family *family = &fixture->pool.table.family;
	struct dynmap_snap *snap, *other;
	u32 generation, visits = 0;

	walk(fixture, node, 0, ~0ULL, &generation);
	for (; node; visits++) {
		snap = snap_of(fixture, node);
		if (le32_to_cpu(snap->disk.generation) <= generation)
			break;
		/* The target may have been emptied since. */
		node = le64_to_cpu(snap->disk.parent);
		if (snap->jump &&
		    !HELPED(fixture, dynmap_snap_get(family, snap->jump, &other, &op)))
			node = snap->jump;
	}
	assert_in_range(visits, 0, passed + 1);
	return visits;
}

/*
 * Many snapshots in a row die in random order, while the row is climbed, emptied from its
 * top, and forgotten in part: climbs come to where a walk ends, and find their jumps.
 */
static void test_long_rows(void **state)
{
	u32 round, passed, longest = 0, nr, i, visits = 0;
	const u64 blocks[] = { 8000, 8000, 0 };
	struct fixture *fixture = *state;
	struct dynmap_volume *origin;
	u64 ids[600], lbn;

	fixture_exit(fixture);
	fixture_init(fixture, blocks, 1, 2);
	fixture_create(fixture, 1);
	/* One block of each generation. */
	for (nr = 0; nr < ARRAY_SIZE(ids); nr++) {
		ids[nr] = nr + 2;
		/* Some of a copy that is there: a row of its own. */
		snapshot(fixture, ids[nr], nr > 20 && fixture_random() % 8 == 0 ? 2 : 1);
		origin = fixture_load(fixture, 1);
		assert_int_equal(fixture_write(fixture, origin, nr * 3, 1, nr + 12), 0);
	}
	while (nr > 1) {
		/* The two that have rows stay. */
		i = 1 + fixture_random() % (nr - 1);
		delete(fixture, ids[i]);
		ids[i] = ids[--nr];
		round = fixture_random() % 64;
		if (round < 8)
			assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), 0);
		else if (round < 12)
			HELPED(fixture, dynmap_volume_reap(&fixture->pool.table, &op));
		else if (round < 14)
			dynmap_table_unload(&fixture->pool.table);
		passed = compare_climbs(fixture, fixture_load(fixture, 1));
		compare_climbs(fixture, fixture_load(fixture, 2));
		compare_climbs(fixture, fixture_load(fixture, ids[fixture_random() % nr]));
		if (passed > longest) {
			longest = passed;
			origin = fixture_load(fixture, 1);
			visits = visited(fixture, le64_to_cpu(origin->disk.parent), passed);
		}
		lbn = fixture_random() % ARRAY_SIZE(ids) * 3;
		assert_int_equal(fixture_write(fixture, fixture_load(fixture, 1), lbn, 1, 5), 0);
	}
	print_message("%u nodes in a row, %u of them visited\n", longest, visits);
	assert_in_range(longest, 200, ARRAY_SIZE(ids));
	assert_in_range(visits, 1, 40);
	for (lbn = 0; lbn < ARRAY_SIZE(ids) * 3; lbn += 3)
		assert_int_equal(fixture_write(fixture, fixture_load(fixture, 1), lbn, 1, 6), 0);
	assert_int_equal(HELPED(fixture, dynmap_family_resolve(&fixture->pool.table.family, ~0U,
							       &op)), 0);
	compare_climbs(fixture, fixture_load(fixture, 1));
	fixture_check(fixture);
	reap(fixture);
}

/* The first climb over a row that nobody has climbed goes in steps, the next one jumps. */
static void test_first_climb(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_family *family = &fixture->pool.table.family;
	u32 side, generation, nr, steps[2] = {}, i;
	struct dynmap_share share;
	struct dynmap_op op = {};
	u64 parent;
	int ret;

	fixture_create(fixture, 1);
	for (nr = 2; nr < 3000; nr++)
		snapshot(fixture, nr, 1);
	while (--nr > 1)
		delete(fixture, nr);
	assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), 0);
	fixture_close(fixture);
	assert_int_equal(fixture_open(fixture, false), 0);
	parent = le64_to_cpu(fixture_load(fixture, 1)->disk.parent);
	side = le32_to_cpu(fixture_load(fixture, 1)->disk.parent_slot);
	dynmap_family_unload(family);
	for (i = 0; i < 2; i++) {
		while ((ret = dynmap_family_share(family, parent, side, false, &share, &op))) {
			steps[i] += ret == -EAGAIN && op.miss.ptr.pbn[0] == DYNMAP_PBN_NONE;
			assert_int_equal(dynmap_pool_help(&fixture->pool, &op, ret), 0);
		}
	}
	print_message("%u steps\n", steps[0]);
	assert_in_range(walk(fixture, parent, side, ~0ULL, &generation), 2900, 3000);
	assert_int_equal(share.generation, generation);
	assert_in_range(steps[0], 2, 4);
	assert_int_equal(steps[1], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FIXTURE_TEST(test_emptied_before_it_is_durable, two),
		FIXTURE_TEST(test_group_is_all_or_nothing, two),
		FIXTURE_TEST(test_group_is_taken_back, two),
		FIXTURE_TEST(test_both_sides, one),
		FIXTURE_TEST(test_constant, two),
		FIXTURE_TEST(test_unshared_when_durable, one),
		FIXTURE_TEST(test_entries_of_what_is_used_anew, one),
		FIXTURE_TEST(test_deleted_in_any_order, two),
		FIXTURE_TEST(test_rolled_back, two),
		FIXTURE_TEST(test_delete_last, one),
		FIXTURE_TEST(test_compared, one),
		FIXTURE_TEST(test_usage, one),
		FIXTURE_TEST(test_reserved, one),
		FIXTURE_TEST(test_reopened, two),
		FIXTURE_TEST(test_unloaded, one),
		FIXTURE_TEST(test_refused, one),
		FIXTURE_TEST(test_entered_at_once, one),
		FIXTURE_TEST(test_bad_records, one),
		FIXTURE_TEST(test_bad_divergence, one),
		FIXTURE_TEST(test_looked_up_before, one),
		cmocka_unit_test(test_many_dead_extents),
		cmocka_unit_test(test_dead_list_waits_over_checkpoints),
		FIXTURE_TEST(test_bad_dead_list, two),
		FIXTURE_TEST(test_unreadable_dead_list, two),
		FIXTURE_TEST(test_ring_of_nodes, one),
		FIXTURE_TEST(test_born_too_late, one),
		FIXTURE_TEST(test_long_rows, two),
		FIXTURE_TEST(test_first_climb, two),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
