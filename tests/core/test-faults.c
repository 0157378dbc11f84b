// SPDX-License-Identifier: GPL-2.0-only
/*
 * Fault sweep: the n-th allocation, read, write or flush of an operation fails,
 * for every n until the operation does not get that far any more.
 *
 * After each fault: an error that names it, or success; what was acknowledged
 * before is there, also after a power cut; the operation succeeds when it is
 * tried again, unless a commit or checkpoint failed: then no commit succeeds
 * until the pool is opened again, and no checkpoint maps what a flush that failed has
 * lost. The checker is content in the end. Memory that is lost is reported by the leak
 * check of ASan.
 *
 * Allocations are counted by the linker (--wrap): the core has no hook for it.
 *
 * And memory that is short for long: there is none for bitmaps but that of others, or none
 * for snapshot nodes but spare buffers.
 */
#include "fixture.h"

#define KEPT		40	/* blocks of volume 1, acknowledged */
#define REACH		8	/* the first ones, which operations may change */
#define BESIDE		900	/* of volume 2: what is written beside a checkpoint */

enum fault { FAULT_ALLOC, FAULT_READ, FAULT_WRITE, FAULT_FLUSH, FAULTS };

/**
 * struct operation - an operation under test
 * @name: of it
 * @copies: of nodes in its pool
 * @journal: the pool is opened with records in its journal
 * @prepare: what comes before it, may be NULL
 * @run: do it; 0 or an error
 * @verify: it was done and committed, may be NULL
 */
struct operation {
	const char *name;
	u32 copies;
	bool journal;
	void (*prepare)(struct fixture *fixture);
	int (*run)(struct fixture *fixture);
	void (*verify)(struct fixture *fixture);
};

/* Freed memory is used again soon: pools come and go by thousands. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "quarantine_size_mb=1";
}

static u64 fail_alloc, injected[FAULTS];
static size_t fail_bytes;	/* allocations of that size fail */
static struct dynmap_mapping reserved;
static u32 beside;		/* writes acknowledged beside a checkpoint */

void *__real_dynmap_zalloc(size_t bytes);
void *__real_dynmap_block_alloc(void);
void *__wrap_dynmap_zalloc(size_t bytes);
void *__wrap_dynmap_block_alloc(void);

static bool alloc_fails(void)
{
	return fail_alloc && !--fail_alloc;
}

void *__wrap_dynmap_zalloc(size_t bytes)
{
	return alloc_fails() || bytes == fail_bytes ? NULL : __real_dynmap_zalloc(bytes);
}

void *__wrap_dynmap_block_alloc(void)
{
	return alloc_fails() ? NULL : __real_dynmap_block_alloc();
}

static u64 *countdown(struct fixture *fixture, enum fault fault)
{
	u64 *counters[FAULTS] = {
		&fail_alloc, &fixture->mem.fail_read, &fixture->mem.fail_write,
		&fixture->mem.fail_flush,
	};

	return counters[fault];
}

static struct dynmap_table *table_of(struct fixture *fixture)
{
	return &fixture->pool.table;
}

/* Load a volume as a part of an operation. */
static int load(struct fixture *fixture, u64 id, struct dynmap_volume **volume)
{
	return HELPED(fixture, dynmap_volume_load(table_of(fixture), id, volume, &op));
}

static int run_open(struct fixture *fixture)
{
	return fixture->open ? 0 : fixture_open(fixture, false);
}

static void verify_open(struct fixture *fixture)
{
	assert_int_equal(fixture_read(fixture, fixture_load(fixture, 1), 500), 9);
}

static int run_create(struct fixture *fixture)
{
	u8 uuid[DYNMAP_UUID_BYTES] = { 9 };

	return HELPED(fixture, dynmap_volume_create(table_of(fixture), 9, 1000, uuid, 7, &op));
}

static void verify_create(struct fixture *fixture)
{
	assert_int_equal(le64_to_cpu(fixture_load(fixture, 9)->disk.size_blocks), 1000);
}

static int run_change(struct fixture *fixture)
{
	return HELPED(fixture, dynmap_volume_change(table_of(fixture), 2, DYNMAP_ATTR_ALLOC, 64,
						    &op));
}

static void verify_change(struct fixture *fixture)
{
	assert_int_equal(le32_to_cpu(fixture_load(fixture, 2)->disk.alloc_blocks), 64);
}

static int run_transaction(struct fixture *fixture)
{
	return HELPED(fixture, dynmap_table_set_transaction(table_of(fixture), 77, &op));
}

static void verify_transaction(struct fixture *fixture)
{
	assert_int_equal(fixture->pool.table.transaction_id, 77);
}

static int run_delete(struct fixture *fixture)
{
	return HELPED(fixture, dynmap_volume_delete(table_of(fixture), 3, &op));
}

static void verify_delete(struct fixture *fixture)
{
	struct dynmap_volume *volume;

	assert_int_equal(load(fixture, 3, &volume), -ENODATA);
}

static void prepare_reap(struct fixture *fixture)
{
	assert_int_equal(run_delete(fixture), 0);
	assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), 0);
}

static int run_reap(struct fixture *fixture)
{
	int ret;

	do {
		ret = HELPED(fixture, dynmap_volume_reap(table_of(fixture), &op));
	} while (!ret);
	return ret == -ENOENT ? 0 : ret;
}

static int run_reserve(struct fixture *fixture)
{
	struct dynmap_volume *volume;
	int ret = load(fixture, 2, &volume);

	if (!ret)
		ret = HELPED(fixture, dynmap_table_reserve(table_of(fixture), volume, 1000, 50,
							   &op));
	return ret;
}

/* Reserved and found, but not in the cache any more. */
static void prepare_written(struct fixture *fixture)
{
	struct dynmap_volume *volume;

	assert_int_equal(run_reserve(fixture), 0);
	volume = fixture_load(fixture, 2);
	assert_int_equal(HELPED(fixture, dynmap_table_lookup(volume, 1005, &reserved, &op)), 0);
	assert_int_equal(reserved.kind, DYNMAP_RESERVED);
	assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), 0);
	fixture_close(fixture);
	assert_int_equal(fixture_open(fixture, false), 0);
}

static int run_written(struct fixture *fixture)
{
	struct dynmap_volume *volume;
	int ret = load(fixture, 2, &volume);

	if (!ret)
		ret = HELPED(fixture, dynmap_table_set_written(table_of(fixture), volume, 1005,
							       reserved.pbn, 7, &op));
	return ret;
}

static void verify_written(struct fixture *fixture)
{
	struct dynmap_volume *volume = fixture_load(fixture, 2);
	struct dynmap_mapping mapping;

	assert_int_equal(HELPED(fixture, dynmap_table_lookup(volume, 1011, &mapping, &op)), 0);
	assert_int_equal(mapping.kind, DYNMAP_DATA);
}

static int run_unmap(struct fixture *fixture)
{
	struct dynmap_volume *volume;
	int ret = load(fixture, 1, &volume);

	return ret ? ret : fixture_unmap(fixture, volume, 1, REACH);
}

static void verify_unmap(struct fixture *fixture)
{
	struct dynmap_volume *volume = fixture_load(fixture, 1);

	assert_int_equal(fixture_read(fixture, volume, 0), 7);
	assert_int_equal(fixture_read(fixture, volume, 1), 0);
	assert_int_equal(fixture_read(fixture, volume, REACH - 1), 0);
}

/* A first round may have taken all before its commit failed. */
static int run_reclaim(struct fixture *fixture)
{
	int ret = dynmap_pool_reclaim(&fixture->pool, 1000);

	return ret == -ENOSPC ? 0 : ret;
}

static void prepare_commit(struct fixture *fixture)
{
	struct dynmap_volume *volume = fixture_load(fixture, 2);

	assert_int_equal(fixture_write(fixture, volume, 700, 30, 70), 0);
	assert_int_equal(run_unmap(fixture), 0);
}

static int run_commit(struct fixture *fixture)
{
	return dynmap_pool_commit(&fixture->pool);
}

static void verify_commit(struct fixture *fixture)
{
	assert_int_equal(fixture_read(fixture, fixture_load(fixture, 2), 729), 70);
	verify_unmap(fixture);
}

static int run_checkpoint(struct fixture *fixture)
{
	return dynmap_pool_checkpoint(&fixture->pool);
}

/* A snapshot, and then writes to its origin: what they give up waits. */
static void prepare_dead_list(struct fixture *fixture)
{
	struct dynmap_volume *volume = fixture_load(fixture, 2);
	u8 uuid[DYNMAP_UUID_BYTES] = { 4 };

	assert_int_equal(fixture_write(fixture, volume, 700, 30, 70), 0);
	assert_int_equal(HELPED(fixture, dynmap_volume_snapshot(table_of(fixture), 4, 2, uuid, 5,
								&op)), 0);
	assert_int_equal(fixture_write(fixture, volume, 710, 6, 71), 0);
	assert_true(fixture->pool.cache.dead_list.count > 1);
}

static void prepare_dead_list_on_disk(struct fixture *fixture)
{
	prepare_dead_list(fixture);
	assert_int_equal(fixture_checkpoint_at_once(fixture), 0);
	assert_true(fixture->pool.table.family.waited > 1);
	fixture_close(fixture);
}

static void verify_dead_list(struct fixture *fixture)
{
	assert_int_equal(fixture_read(fixture, fixture_load(fixture, 2), 712), 71);
	assert_int_equal(fixture_read(fixture, fixture_load(fixture, 2), 720), 70);
	assert_int_equal(fixture_read(fixture, fixture_load(fixture, 4), 712), 70);
}

/* A write that is committed while a checkpoint is under way; is it acknowledged? */
static void write_beside(struct fixture *fixture)
{
	struct dynmap_volume *volume;
	int ret = load(fixture, 2, &volume);

	if (!ret)
		ret = fixture_write(fixture, volume, BESIDE + beside, 1, 80);
	if (!ret)
		ret = dynmap_pool_commit(&fixture->pool);
	if (!ret)
		beside++;
}

/* Commits before and after the nodes of a checkpoint are written, and before its end. */
static int run_beside(struct fixture *fixture)
{
	struct dynmap_pool *pool = &fixture->pool;
	int ret = HELPED(fixture, dynmap_pool_checkpoint_begin(pool, &op));

	if (ret)
		return ret;
	write_beside(fixture);
	ret = dynmap_pool_checkpoint_io(pool);
	write_beside(fixture);
	if (!ret)
		ret = dynmap_pool_checkpoint_publish(pool);
	while (dynmap_pool_checkpoint_end(pool, ret))
		;
	return ret ? ret : dynmap_pool_commit(pool);
}

/* The first device is longer, and there is another one. */
static void prepare_grow(struct fixture *fixture)
{
	store_mem_grow(&fixture->mem, 0, fixture->mem.blocks[0] + 256);
	store_mem_grow(&fixture->mem, fixture->mem.nr_devs, 1024);
}

static void verify_grow(struct fixture *fixture)
{
	assert_int_equal(fixture->pool.geo.nr_devs, fixture->mem.nr_devs);
	assert_int_equal(fixture->pool.geo.dev[0].blocks, fixture->mem.blocks[0]);
}

static int run_lookup(struct fixture *fixture)
{
	struct dynmap_mapping mapping;
	struct dynmap_volume *volume;
	int ret = load(fixture, 1, &volume);

	if (!ret)
		ret = HELPED(fixture, dynmap_table_lookup(volume, REACH, &mapping, &op));
	if (!ret)
		assert_int_equal(mapping.kind, DYNMAP_DATA);
	return ret;
}

static int run_highest(struct fixture *fixture)
{
	struct dynmap_volume *volume;
	u64 end;
	int ret = load(fixture, 1, &volume);

	if (!ret)
		ret = HELPED(fixture, dynmap_table_highest(volume, &end, &op));
	if (!ret)
		assert_true(end >= KEPT);
	return ret;
}

static int run_next(struct fixture *fixture)
{
	struct dynmap_disk_volume disk;
	int ret = HELPED(fixture, dynmap_volume_next(table_of(fixture), 2, &disk, &op));

	if (!ret)
		assert_int_equal(le64_to_cpu(disk.id), 2);
	return ret;
}

static const struct operation operations[] = {
	{ "open", 2, true, fixture_close, run_open, verify_open },
	{ "open, one copy", 1, true, fixture_close, run_open, verify_open },
	{ "create", 2, false, NULL, run_create, verify_create },
	{ "change", 2, false, NULL, run_change, verify_change },
	{ "transaction", 2, false, NULL, run_transaction, verify_transaction },
	{ "delete", 1, false, NULL, run_delete, verify_delete },
	{ "reap", 2, false, prepare_reap, run_reap, verify_delete },
	{ "reserve", 2, false, NULL, run_reserve, NULL },
	{ "set written", 2, false, prepare_written, run_written, verify_written },
	{ "set written, one copy", 1, false, prepare_written, run_written, verify_written },
	{ "unmap", 2, false, NULL, run_unmap, verify_unmap },
	{ "unmap, one copy", 1, false, NULL, run_unmap, verify_unmap },
	{ "reclaim", 2, false, NULL, run_reclaim, NULL },
	{ "commit", 2, false, prepare_commit, run_commit, verify_commit },
	{ "checkpoint", 2, false, prepare_commit, run_checkpoint, verify_commit },
	{ "checkpoint, one copy", 1, false, prepare_commit, run_checkpoint, verify_commit },
	{ "checkpoint with dead extents", 2, false, prepare_dead_list, run_checkpoint,
	  verify_dead_list },
	{ "checkpoint, dead extents wait", 2, false, prepare_dead_list, fixture_checkpoint_at_once,
	  verify_dead_list },
	{ "checkpoint, commits beside", 2, false, prepare_commit, run_beside, verify_commit },
	{ "checkpoint, commits beside, one copy", 1, false, prepare_commit, run_beside,
	  verify_commit },
	{ "open, dead extents wait", 2, false, prepare_dead_list_on_disk, run_open,
	  verify_dead_list },
	{ "open, dead extents wait, one copy", 1, false, prepare_dead_list_on_disk, run_open,
	  verify_dead_list },
	{ "grow", 2, false, prepare_grow, fixture_grow, verify_grow },
	{ "lookup", 1, false, NULL, run_lookup, NULL },
	{ "highest", 1, false, NULL, run_highest, NULL },
	{ "next volume", 1, false, NULL, run_next, NULL },
};

/* A pool with acknowledged content, nothing of it in the cache. */
static void begin(struct fixture *fixture, const struct operation *operation, u32 nr_devs)
{
	const u64 blocks[] = { 1100, nr_devs > 1 ? 1050 : 0, 0 };
	u64 id;

	fixture_init(fixture, blocks, 4, operation->copies);
	for (id = 1; id < 4; id++)
		assert_int_equal(fixture_write(fixture, fixture_create(fixture, id), 0, KEPT, 7),
				 0);
	assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), 0);
	if (operation->journal) {
		assert_int_equal(fixture_write(fixture, fixture_load(fixture, 1), 500, 3, 9), 0);
		assert_int_equal(dynmap_pool_commit(&fixture->pool), 0);
	} else {
		fixture_close(fixture);
		assert_int_equal(fixture_open(fixture, false), 0);
	}
	if (operation->prepare)
		operation->prepare(fixture);
}

static void verify_kept(struct fixture *fixture)
{
	u64 id, lbn;

	for (id = 1; id < 3; id++)
		for (lbn = REACH; lbn < KEPT; lbn += 3)
			assert_int_equal(fixture_read(fixture, fixture_load(fixture, id), lbn), 7);
	for (lbn = 0; lbn < beside; lbn++)
		assert_int_equal(fixture_read(fixture, fixture_load(fixture, 2), BESIDE + lbn), 80);
	/* What else was written is its own data, be it acknowledged or not. */
	for (lbn = 0; lbn < BESIDE + 50; lbn++)
		fixture_read(fixture, fixture_load(fixture, 2), lbn);
}

static bool is_sticky(const struct fixture *fixture)
{
	return fixture->open && fixture->pool.failed;
}

/* The power fails, the pool is opened again. */
static void cut(struct fixture *fixture, const struct operation *operation, bool done)
{
	fixture_close(fixture);
	store_mem_power_cut(&fixture->mem, fixture_random);
	assert_int_equal(fixture_open(fixture, false), 0);
	verify_kept(fixture);
	if (done && operation->verify)
		operation->verify(fixture);
	fixture_check(fixture);
}

static bool fits(enum fault fault, int ret)
{
	return !ret || ret == (fault == FAULT_ALLOC ? -ENOMEM : -EIO);
}

/* Fail the @n-th; false if the operation does not get that far. */
static bool inject(const struct operation *operation, enum fault fault, u32 nr_devs, u64 n)
{
	struct fixture fixture;
	bool fired, done;
	int ret;

	beside = 0;
	begin(&fixture, operation, nr_devs);
	*countdown(&fixture, fault) = n;
	ret = operation->run(&fixture);
	fired = !*countdown(&fixture, fault);
	*countdown(&fixture, fault) = 0;
	if (!fits(fault, ret) || (!fired && ret))
		fail_msg("%s, fault %u number %llu: error %d", operation->name, fault,
			 (unsigned long long)n, ret);
	injected[fault] += fired;
	if (is_sticky(&fixture)) {
		assert_int_not_equal(ret, 0);
		assert_int_not_equal(dynmap_pool_commit(&fixture.pool), 0);
		assert_int_equal(run_transaction(&fixture), -EROFS);
		assert_int_not_equal(dynmap_pool_commit(&fixture.pool), 0);
		done = false;
	} else {
		if (ret)
			assert_int_equal(operation->run(&fixture), 0);
		verify_kept(&fixture);
		assert_int_equal(dynmap_pool_commit(&fixture.pool), 0);
		done = true;
	}
	cut(&fixture, operation, done);
	fixture_exit(&fixture);
	return fired;
}

static void sweep(const struct operation *operation, u32 nr_devs)
{
	u32 fault;
	u64 n;

	for (fault = 0; fault < FAULTS; fault++)
		for (n = 1; inject(operation, fault, nr_devs, n); n++)
			;
}

static void test_one_device(void **state)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(operations); i++)
		sweep(&operations[i], 1);
}

static void test_two_devices(void **state)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(operations); i++)
		if (operations[i].copies == 2)
			sweep(&operations[i], 2);
}

/* Fail the @n-th while formatting two devices. */
static bool inject_format(enum fault fault, u64 n)
{
	const u64 blocks[] = { 1100, 1050 };
	struct fixture fixture = {};
	bool fired;
	int ret;

	store_mem_init(&fixture.mem, 2, blocks);
	*countdown(&fixture, fault) = n;
	ret = fixture_format(&fixture, 4, 2);
	fired = !*countdown(&fixture, fault);
	*countdown(&fixture, fault) = 0;
	assert_true(fits(fault, ret) && (fired ? ret : !ret));
	injected[fault] += fired;
	if (ret)
		assert_int_equal(fixture_format(&fixture, 4, 2), 0);
	assert_int_equal(fixture_open(&fixture, false), 0);
	fixture_check(&fixture);
	fixture_exit(&fixture);
	return fired;
}

static void test_format(void **state)
{
	u32 fault;
	u64 n;

	for (fault = 0; fault < FAULTS; fault++)
		for (n = 1; inject_format(fault, n); n++)
			;
}

/*
 * Call @expression with help until it needs no more; for bitmaps memory comes from others first,
 * as where reclaim waits for the pool.
 */
#define RECYCLED(fixture, expression) ({						\
	struct dynmap_space *space = &(fixture)->pool.alloc.space;		\
	struct dynmap_op op = {};						\
	int __ret, __tries = 0;							\
										\
	do {									\
		__ret = (expression);						\
		if (!__ret || __ret == -ENOENT)					\
			break;							\
		if (!op.bitmaps || !dynmap_space_recycle(space)) {		\
			__ret = dynmap_pool_help(&(fixture)->pool, &op, __ret);	\
			continue;						\
		}								\
		op.bitmaps = false;						\
		__ret = 0;							\
	} while (!__ret && __tries++ < 1000);					\
	assert_in_range(__tries, 0, 999);					\
	__ret;									\
})

/* What an operation has loaded is not taken from it for the next thing that it loads. */
static void test_bitmaps_of_many_devices(void **state)
{
	const u64 lengths[] = { 1, 2, 3, 16, 32 };
	struct fixture *fixture = *state;
	u64 blocks[33], lbn;
	u32 i, dev;
	int ret;

	for (i = 0; i < ARRAY_SIZE(lengths); i++) {
		for (dev = 0; dev < lengths[i]; dev++)
			blocks[dev] = 3000;
		blocks[dev] = 0;
		fixture_exit(fixture);
		fixture_init(fixture, blocks, 1, 2);
		fixture_create(fixture, 1);
		fixture_create(fixture, 2);
		/* The other one moves the turn on to the next device. */
		for (lbn = 0; lbn < 60; lbn++) {
			assert_int_equal(fixture_write(fixture, fixture_load(fixture, 1), lbn * 2,
						       1, 7), 0);
			assert_int_equal(fixture_write(fixture, fixture_load(fixture, 2),
						       lbn * 1000, 20, 7), 0);
		}
		assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), 0);
		fixture_close(fixture);
		assert_int_equal(fixture_open(fixture, false), 0);
		ret = RECYCLED(fixture, dynmap_volume_delete(&fixture->pool.table, 1, &op));
		assert_int_equal(ret, 0);
		assert_int_equal(dynmap_pool_commit(&fixture->pool), 0);
		do {
			ret = RECYCLED(fixture, dynmap_volume_reap(&fixture->pool.table, &op));
		} while (!ret);
		assert_int_equal(ret, -ENOENT);
		fixture_check(fixture);
	}
}

/* A dead extent meets another one below a row of dying nodes, which take all spare buffers. */
static void short_row(struct fixture *fixture, u32 snapshots)
{
	struct dynmap_pool *pool = &fixture->pool;
	u8 uuid[DYNMAP_UUID_BYTES] = {};
	struct dynmap_disk_snapshot disk;
	const u64 blocks[] = { 60000, 0 };
	u32 i;

	fixture_exit(fixture);
	fixture_init(fixture, blocks, 1, 2);
	assert_int_equal(fixture_write(fixture, fixture_create(fixture, 1), 0, 64, 1), 0);
	for (i = 1; i <= snapshots; i++) {
		uuid[0] = i;
		assert_int_equal(HELPED(fixture, dynmap_volume_snapshot(&pool->table, 1000 + i, 1,
									uuid, 0, &op)), 0);
	}
	for (i = 2; i < snapshots; i++)
		assert_int_equal(HELPED(fixture, dynmap_volume_delete(&pool->table, 1000 + i,
								      &op)), 0);
	assert_int_equal(dynmap_pool_checkpoint(pool), 0);
	fixture_close(fixture);
	assert_int_equal(fixture_open(fixture, false), 0);
	assert_int_equal(fixture_write(fixture, fixture_load(fixture, 1), 0, 1, 2), 0);
	assert_int_equal(HELPED(fixture, dynmap_family_resolve(&pool->table.family, ~0U, &op)), 0);
	/* Nodes are being written: to change one takes a buffer. */
	assert_int_equal(HELPED(fixture, dynmap_pool_checkpoint_begin(pool, &op)), 0);
	assert_int_equal(fixture_write(fixture, fixture_load(fixture, 1000 + snapshots), 0, 1, 3),
			 0);
	for (i = 1; i <= snapshots; i++)
		HELPED(fixture, dynmap_btree_get(&pool->table.family.snaps, i, &disk, &op));
	while (pool->cache.nr_spare > 64)
		dynmap_buf_free(dynmap_cache_take_spare(&pool->cache));
	fail_bytes = sizeof(struct dynmap_snap);
	assert_int_equal(HELPED(fixture, dynmap_family_resolve(&pool->table.family, ~0U, &op)), 0);
	fail_bytes = 0;
	assert_int_equal(dynmap_pool_checkpoint_io(pool), 0);
	assert_int_equal(dynmap_pool_checkpoint_publish(pool), 0);
	while (dynmap_pool_checkpoint_end(pool, 0))
		;
	fixture_check(fixture);
}

static void test_row_takes_the_buffers(void **state)
{
	u32 snapshots;

	for (snapshots = 60; snapshots < 70; snapshots++)
		short_row(*state, snapshots);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_format),
		cmocka_unit_test(test_one_device),
		cmocka_unit_test(test_two_devices),
		FIXTURE_TEST(test_bitmaps_of_many_devices, one),
		FIXTURE_TEST(test_row_takes_the_buffers, one),
	};
	int ret = cmocka_run_group_tests_name("faults", tests, NULL, NULL);

	printf("faults: %llu injected: %llu allocations, %llu reads, %llu writes, %llu flushes\n",
	       (unsigned long long)(injected[0] + injected[1] + injected[2] + injected[3]),
	       (unsigned long long)injected[FAULT_ALLOC], (unsigned long long)injected[FAULT_READ],
	       (unsigned long long)injected[FAULT_WRITE],
	       (unsigned long long)injected[FAULT_FLUSH]);
	return ret;
}
