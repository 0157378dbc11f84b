// SPDX-License-Identifier: GPL-2.0-only
/* Unit tests of volumes: their records, attributes, creation and deletion. */
#include "fixture.h"

static void test_volumes(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_table *table = &fixture->pool.table;
	struct dynmap_volume *volume;
	struct dynmap_disk_volume disk;
	u8 uuid[DYNMAP_UUID_BYTES] = {};
	u64 id;

	for (id = 0; id < 40; id++)
		fixture_create(fixture, 3 * id);
	fixture_create(fixture, DYNMAP_MAX_VOLUME_ID);
	assert_int_equal(HELPED(fixture, dynmap_volume_create(table, 3, 1, uuid, 0, &op)),
			 -EEXIST);
	assert_int_equal(HELPED(fixture, dynmap_volume_create(table, DYNMAP_MAX_VOLUME_ID + 1, 1,
							      uuid, 0, &op)), -EINVAL);
	assert_int_equal(HELPED(fixture, dynmap_volume_create(table, 4, DYNMAP_MAX_LBN + 1, uuid,
							      0, &op)), -EINVAL);
	assert_int_equal(HELPED(fixture, dynmap_volume_load(table, 4, &volume, &op)), -ENODATA);
	assert_int_equal(HELPED(fixture, dynmap_volume_delete(table, 4, &op)), -ENODATA);
	assert_int_equal(HELPED(fixture, dynmap_volume_next(table, 4, &disk, &op)), 0);
	assert_int_equal(le64_to_cpu(disk.id), 6);
	assert_int_equal(le64_to_cpu(disk.created), 7);
	assert_int_equal(le64_to_cpu(disk.size_blocks), DYNMAP_MAX_LBN);
	assert_int_equal(HELPED(fixture, dynmap_volume_next(table, DYNMAP_MAX_VOLUME_ID + 1,
							    &disk, &op)), -ENOENT);
	volume = fixture_load(fixture, 6);
	volume->users = 1;
	assert_int_equal(HELPED(fixture, dynmap_volume_delete(table, 6, &op)), -ETXTBSY);
	volume->users = 0;
}

static void test_delete_gives_everything_back(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_table *table = &fixture->pool.table;
	struct dynmap_volume *volume = fixture_create(fixture, 1), *other;
	u64 lbn;
	int ret, steps = 0;

	other = fixture_create(fixture, 2);
	assert_int_equal(fixture_write(fixture, other, 3, 2, 8), 0);
	for (lbn = 0; lbn < 3000; lbn += 33)
		assert_int_equal(fixture_write(fixture, volume, lbn, 3, lbn + 1), 0);
	assert_int_equal(HELPED(fixture, dynmap_volume_delete(table, 1, &op)), 0);
	assert_int_equal(HELPED(fixture, dynmap_volume_load(table, 1, &volume, &op)), -ENODATA);
	/* The id is free at once. */
	volume = fixture_create(fixture, 1);
	assert_int_equal(fixture_read(fixture, volume, 33), 0);
	fixture_check(fixture);
	do {
		ret = HELPED(fixture, dynmap_volume_reap(table, &op));
		steps++;
	} while (!ret && steps < 1000);
	assert_int_equal(ret, -ENOENT);
	assert_true(steps > 1);
	assert_int_equal(fixture->pool.alloc.data_allocated, 16);
	fixture_check(fixture);
	assert_int_equal(fixture_read(fixture, other, 4), 8);
}

/* Volumes that nobody uses cost little memory, and go as they came. */
static void test_many_volumes(void **state)
{
	struct fixture *fixture = *state;
	const u64 blocks[] = { 20000, 0 };
	struct dynmap_table *table = &fixture->pool.table;
	struct dynmap_cache *cache = &fixture->pool.cache;
	u8 uuid[DYNMAP_UUID_BYTES] = { 1 };
	struct dynmap_disk_volume disk;
	const u64 many = 10000;
	u64 id, buffers;
	int ret;

	fixture_exit(fixture);
	fixture_init(fixture, blocks, 16, 2);
	for (id = 0; id < many; id++)
		assert_int_equal(HELPED(fixture, dynmap_volume_create(table, id, 100, uuid, 7,
								      &op)), 0);
	assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), 0);
	fixture_close(fixture);
	assert_int_equal(fixture_open(fixture, false), 0);
	for (id = 0; id < many; id++) {
		assert_int_equal(HELPED(fixture, dynmap_volume_next(table, id, &disk, &op)), 0);
		assert_int_equal(le64_to_cpu(disk.id), id);
	}
	buffers = cache->nr_clean + cache->nr_dirty + cache->nr_spare;
	assert_in_range(buffers * (DYNMAP_BLOCK_BYTES + sizeof(struct dynmap_buf)) +
			many * sizeof(struct dynmap_volume), 1, many * 1024);
	for (id = 0; id < many; id++) {
		assert_int_equal(HELPED(fixture, dynmap_volume_delete(table, id, &op)), 0);
		if (id % 3)
			continue;
		while (!(ret = HELPED(fixture, dynmap_volume_reap(table, &op))))
			;
		assert_int_equal(ret, -ENOENT);
	}
	assert_int_equal(HELPED(fixture, dynmap_volume_next(table, 0, &disk, &op)), -ENOENT);
	fixture_check(fixture);
}

static void test_bad_volume_record(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_table *table = &fixture->pool.table;
	struct dynmap_disk_volume good, bad;
	struct dynmap_volume *volume;
	u32 i;

	fixture_create(fixture, 1);
	assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), 0);
	assert_int_equal(HELPED(fixture, dynmap_btree_get(&table->volumes, 1, &good, &op)), 0);
	for (i = 0; i < 6; i++) {
		bad = good;
		bad.id = cpu_to_le64(50 + i);
		if (i == 0)
			bad.root.levels = cpu_to_le32(DYNMAP_MAX_LEVELS + 1);
		if (i == 1)
			bad.root.levels = cpu_to_le32(1);	/* without a root */
		if (i == 2)
			bad.flags = cpu_to_le32(~0U);
		if (i == 3)
			bad.alloc_blocks = cpu_to_le32(3);
		if (i == 4)
			bad.size_blocks = cpu_to_le64(DYNMAP_MAX_LBN + 1);
		if (i == 5)
			bad.flags = cpu_to_le32(DYNMAP_VOLUME_DELETING);	/* its id is not */
		assert_int_equal(HELPED(fixture, dynmap_btree_put(&table->volumes, 50 + i, &bad,
								  &op)), 0);
		assert_int_equal(HELPED(fixture, dynmap_volume_load(table, 50 + i, &volume, &op)),
				 -EUCLEAN);
	}
}

static void test_attributes(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_table *table = &fixture->pool.table;
	struct dynmap_volume *volume = fixture_create(fixture, 1);
#define CHANGE(id, attr, value) \
	HELPED(fixture, dynmap_volume_change(table, id, attr, value, &op))

	assert_int_equal(CHANGE(2, DYNMAP_ATTR_FILL, 1), -ENODATA);
	assert_int_equal(CHANGE(1, DYNMAP_ATTR_FILL, 256), -EINVAL);
	assert_int_equal(CHANGE(1, DYNMAP_ATTR_ALLOC, 3), -EINVAL);
	assert_int_equal(CHANGE(1, DYNMAP_ATTR_ALLOC, 1 << 19), -EINVAL);
	assert_int_equal(CHANGE(1, 99, 0), -EINVAL);
	assert_int_equal(CHANGE(1, DYNMAP_ATTR_FILL, 0xa5), 0);
	assert_int_equal(CHANGE(1, DYNMAP_ATTR_ALLOC, 4), 0);
	assert_int_equal(HELPED(fixture, dynmap_table_reserve(table, volume, 21, 1, &op)), 0);
	assert_int_equal(volume->reserved, 4);
	/* Both survive a power cut, by the journal and by the volume's record. */
	assert_int_equal(dynmap_pool_commit(&fixture->pool), 0);
	fixture_close(fixture);
	store_mem_power_cut(&fixture->mem, fixture_random);
	assert_int_equal(fixture_open(fixture, false), 0);
	fixture_close(fixture);
	assert_int_equal(fixture_open(fixture, true), 0);
	volume = fixture_load(fixture, 1);
	assert_int_equal(volume->disk.fill, 0xa5);
	assert_int_equal(le32_to_cpu(volume->disk.alloc_blocks), 4);
	fixture_close(fixture);
	assert_int_equal(fixture_open(fixture, false), 0);
	volume = fixture_load(fixture, 1);
	assert_int_equal(fixture_write(fixture, volume, 21, 1, 7), 0);
	assert_int_equal(CHANGE(1, DYNMAP_ATTR_FILL, 0), -ENOTEMPTY);
	volume->users++;
	assert_int_equal(CHANGE(1, DYNMAP_ATTR_FILL, 0), -ETXTBSY);
	volume->users--;
#undef CHANGE
}

/* Ids of volumes being deleted have 32 bits: after the last one those not in use serve again. */
static void test_ids_of_deleted_volumes(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_table *table = &fixture->pool.table;
	u64 next = table->next_reap_id;
	int ret;

	fixture_create(fixture, 1);
	fixture_create(fixture, 2);
	assert_int_equal(HELPED(fixture, dynmap_volume_delete(table, 1, &op)), 0);
	assert_int_equal(table->next_reap_id, next + 1);
	table->next_reap_id = DYNMAP_MAX_REAP_ID;
	assert_int_equal(HELPED(fixture, dynmap_volume_delete(table, 2, &op)), 0);
	fixture_create(fixture, 3);
	assert_int_equal(HELPED(fixture, dynmap_volume_delete(table, 3, &op)), 0);
	assert_int_equal(table->next_reap_id, next + 2);
	/* Replay comes to the same ids. */
	assert_int_equal(dynmap_pool_commit(&fixture->pool), 0);
	fixture_close(fixture);
	store_mem_power_cut(&fixture->mem, fixture_random);
	assert_int_equal(fixture_open(fixture, false), 0);
	assert_int_equal(table->next_reap_id, next + 2);
	fixture_check(fixture);
	do {
		ret = HELPED(fixture, dynmap_volume_reap(table, &op));
	} while (!ret);
	assert_int_equal(ret, -ENOENT);
	fixture_check(fixture);
}

static int volume_name(struct fixture *fixture, u64 id, const u8 *name)
{
	return HELPED(fixture, dynmap_volume_set_name(&fixture->pool.table, id, name, &op));
}

static int pool_name(struct fixture *fixture, const u8 *name)
{
	return HELPED(fixture, dynmap_table_set_name(&fixture->pool.table, name, &op));
}

/* So many records in the journal. */
static void records(struct fixture *fixture, u32 count)
{
	struct dynmap_table *table = &fixture->pool.table;
	u8 attr = DYNMAP_ATTR_CREATED;

	for (; count; count--)
		assert_int_equal(HELPED(fixture, dynmap_volume_change(table, 1, attr, 1, &op)), 0);
}

/* Names of volumes and of the pool: whole or not at all after a power failure. */
static void test_names(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_table *table = &fixture->pool.table;
	u8 names[2][DYNMAP_NAME_BYTES] = {}, *name;
	bool done = false;
	u32 old = 0;
	u64 lives;

	memset(names[0], 'a', DYNMAP_NAME_BYTES - 1);
	memset(names[1], 'b', DYNMAP_NAME_BYTES - 1);
	assert_int_equal(volume_name(fixture, 9, names[0]), -ENODATA);
	for (lives = 1; !done; lives++) {
		fixture_exit(fixture);
		fixture_init(fixture, (u64[]){ 2000, 0 }, 16, 2);
		fixture_create(fixture, 1);
		/* So that the parts would lie in two blocks. */
		records(fixture, 150);
		assert_int_equal(volume_name(fixture, 1, names[0]), 0);
		assert_int_equal(pool_name(fixture, names[0]), 0);
		assert_int_equal(dynmap_pool_commit(&fixture->pool), 0);
		records(fixture, 165);
		assert_int_equal(volume_name(fixture, 1, names[1]), 0);
		records(fixture, 162);
		assert_int_equal(pool_name(fixture, names[1]), 0);
		fixture->mem.lives = lives;
		done = !dynmap_pool_commit(&fixture->pool);
		fixture_close(fixture);
		store_mem_power_cut(&fixture->mem, fixture_random);
		assert_int_equal(fixture_open(fixture, false), 0);
		name = fixture_load(fixture, 1)->disk.name;
		assert_true(!memcmp(name, names[0], sizeof(names[0])) ||
			    !memcmp(name, names[1], sizeof(names[1])));
		assert_true(!memcmp(table->name, names[0], sizeof(names[0])) ||
			    !memcmp(table->name, names[1], sizeof(names[1])));
		old += !!memcmp(table->name, names[1], sizeof(names[1]));
		fixture_close(fixture);
		assert_int_equal(fixture_open(fixture, false), 0);
	}
	assert_true(old > 1);
	assert_memory_equal(table->name, names[1], sizeof(names[1]));
	assert_memory_equal(fixture_load(fixture, 1)->disk.name, names[1], sizeof(names[1]));
	names[0][DYNMAP_NAME_BYTES - 1] = 'a';
	assert_int_equal(volume_name(fixture, 1, names[0]), -EINVAL);
}

/* The first step of a checkpoint, as often as it takes. */
static void prepare(struct fixture *fixture)
{
	int ret;

	do {
		ret = HELPED(fixture, dynmap_pool_checkpoint_prepare(&fixture->pool, &op));
	} while (ret == -EINPROGRESS);
	assert_int_equal(ret, 0);
}

/* What changes again between the steps of a checkpoint is in it as it is at the last one. */
static void test_changes_between_steps(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_pool *pool = &fixture->pool;
	struct dynmap_volume *volume = fixture_create(fixture, 1), *copy;
	u8 uuid[DYNMAP_UUID_BYTES] = { 7 };
	u64 lbn, freed;

	for (lbn = 0; lbn < 64; lbn++)
		assert_int_equal(fixture_write(fixture, volume, 3 * lbn, 1, 5), 0);
	assert_int_equal(HELPED(fixture, dynmap_volume_snapshot(&pool->table, 2, 1, uuid, 0, &op)),
			 0);
	assert_int_equal(dynmap_pool_checkpoint(pool), 0);
	copy = fixture_load(fixture, 2);
	for (lbn = 0; lbn < 64; lbn++) {
		assert_int_equal(fixture_write(fixture, volume, 3 * lbn, 1, 6), 0);
		prepare(fixture);
		/* The node has this block no longer. */
		if (lbn % 2)
			assert_int_equal(fixture_write(fixture, copy, 3 * lbn, 1, 7), 0);
		prepare(fixture);
	}
	assert_int_equal(HELPED(fixture, dynmap_pool_checkpoint_begin(pool, &op)), 0);
	assert_int_equal(dynmap_pool_checkpoint_io(pool), 0);
	assert_int_equal(dynmap_pool_checkpoint_publish(pool), 0);
	while (dynmap_pool_checkpoint_end(pool, 0))
		;
	fixture_close(fixture);
	assert_int_equal(fixture_open(fixture, false), 0);
	assert_int_equal(pool->replayed, 0);
	fixture_check(fixture);
	for (lbn = 0; lbn < 64; lbn++) {
		assert_int_equal(fixture_read(fixture, fixture_load(fixture, 1), 3 * lbn), 6);
		assert_int_equal(fixture_read(fixture, fixture_load(fixture, 2), 3 * lbn),
				 lbn % 2 ? 7 : 5);
	}
	/* The divergence of the node is known to the last entry. */
	freed = pool->alloc.data_allocated;
	assert_int_equal(HELPED(fixture, dynmap_volume_delete(&pool->table, 2, &op)), 0);
	while (!HELPED(fixture, dynmap_volume_reap(&pool->table, &op)))
		;
	assert_true(freed - pool->alloc.data_allocated >= 64);
}

/* What a checkpoint owes for the records of volumes is known from how many have changed. */
static void test_changed_records_are_counted(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_pool *pool = &fixture->pool;
	const u64 *records = &pool->cache.tally[DYNMAP_TREE_VOLUME].records;
	struct dynmap_volume *volume;
	u64 id;

	for (id = 1; id <= 100; id++)
		fixture_create(fixture, id);
	assert_int_equal(dynmap_pool_checkpoint(pool), 0);
	assert_int_equal(*records, 0);
	for (id = 1; id <= 200; id++) {
		volume = fixture_load(fixture, (id + 1) / 2);
		assert_int_equal(fixture_write(fixture, volume, id % 2, 1, 1), 0);
		assert_int_equal(*records, (id + 1) / 2);
	}
	assert_int_equal(dynmap_pool_checkpoint(pool), 0);
	assert_int_equal(*records, 0);
	fixture_check(fixture);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FIXTURE_TEST(test_attributes, one),
		FIXTURE_TEST(test_volumes, one),
		FIXTURE_TEST(test_delete_gives_everything_back, one),
		FIXTURE_TEST(test_many_volumes, one),
		FIXTURE_TEST(test_bad_volume_record, one),
		FIXTURE_TEST(test_ids_of_deleted_volumes, one),
		FIXTURE_TEST(test_names, one),
		FIXTURE_TEST(test_changes_between_steps, one),
		FIXTURE_TEST(test_changed_records_are_counted, one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
