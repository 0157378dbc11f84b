// SPDX-License-Identifier: GPL-2.0-only
/* Unit tests of the journal: append, commit, wrap, read back, and failure. */
#include "fixture.h"

static int append(struct fixture *fixture, u64 value, struct dynmap_op *op)
{
	struct dynmap_disk_record record = {
		.kind = DYNMAP_REC_TRANSACTION,
		.map.lbn = cpu_to_le64(value),
	};
	int ret = dynmap_journal_reserve(&fixture->pool.journal, 1, op);

	if (!ret)
		dynmap_journal_append(&fixture->pool.journal, &record);
	return ret;
}

/* Append without letting a checkpoint help; buffers are brought. */
static int put(struct fixture *fixture, u64 value, u8 urgent)
{
	struct dynmap_op op = { .urgent = urgent };
	int ret;

	while ((ret = append(fixture, value, &op)) == -ENOMEM)
		dynmap_cache_add_spare(&fixture->pool.cache, dynmap_buf_alloc());
	return ret;
}

static int commit(struct fixture *fixture)
{
	struct dynmap_journal *journal = &fixture->pool.journal;
	int ret;

	dynmap_journal_commit_begin(journal);
	ret = dynmap_journal_commit_io(journal);
	dynmap_journal_commit_end(journal, ret);
	return ret;
}

static void test_a_commit_is_one_block(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_journal *journal = &fixture->pool.journal;
	u64 writes, flushes, seq;
	u8 data[DYNMAP_BLOCK_BYTES] __attribute__((aligned(8)));
	struct dynmap_disk_journal *block = (void *)data;

	assert_int_equal(commit(fixture), 0);
	assert_false(dynmap_journal_pending(journal));
	writes = fixture->mem.writes;
	flushes = fixture->mem.flushes;
	seq = journal->head;
	assert_int_equal(commit(fixture), 0);
	assert_int_equal(fixture->mem.writes, writes);
	assert_int_equal(fixture->mem.flushes, flushes);
	assert_int_equal(put(fixture, 5, 0), 0);
	assert_int_equal(put(fixture, 6, 0), 0);
	assert_true(dynmap_journal_pending(journal));
	assert_int_equal(commit(fixture), 0);
	assert_false(dynmap_journal_pending(journal));
	assert_int_equal(fixture->mem.writes, writes + 1);
	assert_int_equal(fixture->mem.flushes, flushes);
	assert_int_equal(dynmap_journal_read(journal, seq, block), 0);
	assert_int_equal(le16_to_cpu(block->count), 2);
	assert_int_equal(le64_to_cpu(block->record[1].map.lbn), 6);
}

/* Rule 1: data written before is flushed before the block, on every device. */
static void test_data_is_flushed_first(void **state)
{
	struct fixture *fixture = *state;
	u8 *data = dynmap_block_alloc();
	u64 flushes;

	assert_int_equal(commit(fixture), 0);
	flushes = fixture->mem.flushes;
	store_mem_write(&fixture->mem, 0, 3000, data);
	store_mem_write(&fixture->mem, 1, 3000, data);
	assert_int_equal(put(fixture, 1, 0), 0);
	assert_int_equal(commit(fixture), 0);
	assert_int_equal(fixture->mem.flushes, flushes + 2);
	assert_int_equal(fixture->mem.dirty[0][3000] | fixture->mem.dirty[1][3000], 0);
	/* A flush without records is the device flush alone. */
	store_mem_write(&fixture->mem, 1, 3000, data);
	assert_int_equal(commit(fixture), 0);
	assert_int_equal(fixture->mem.flushes, flushes + 3);
	dynmap_block_free(data);
}

static void test_ring_is_never_overrun(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_journal *journal = &fixture->pool.journal;
	u64 value = 0;
	int ret;

	while (!(ret = put(fixture, ++value, 0)))
		assert_true(journal->head - journal->tail < journal->blocks);
	assert_int_equal(ret, -EBUSY);
	assert_true(dynmap_journal_wants_checkpoint(journal));
	/* What ends something may use the last quarter, and no more. */
	while (!(ret = put(fixture, ++value, DYNMAP_URGENT)))
		assert_true(journal->head - journal->tail < journal->blocks);
	assert_int_equal(ret, -EBUSY);
	assert_true(value > (journal->blocks - 3) * DYNMAP_JOURNAL_RECORDS);
	assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), 0);
	assert_false(dynmap_journal_wants_checkpoint(journal));
	assert_int_equal(put(fixture, value, 0), 0);
}

static void test_wraps_and_replays(void **state)
{
	struct fixture *fixture = *state;
	u64 value, last = 0;
	u32 round;

	for (round = 0; round < 40; round++) {
		for (value = 0; value < 700; value++)
			assert_int_equal(HELPED(fixture,
						dynmap_table_set_transaction(&fixture->pool.table,
									     ++last, &op)), 0);
		assert_int_equal(dynmap_pool_commit(&fixture->pool), 0);
		fixture_close(fixture);
		store_mem_power_cut(&fixture->mem, fixture_random);
		assert_int_equal(fixture_open(fixture, false), 0);
		assert_int_equal(fixture->pool.table.transaction_id, last);
	}
}

/* Rule 8: blocks behind a gap never come back to life. */
/* A commit of several blocks, of which the second was not written. */
static void test_nothing_behind_a_gap(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_journal *journal = &fixture->pool.journal;
	struct dynmap_table *table = &fixture->pool.table;
	u64 seq, at;
	u32 i;

	assert_int_equal(HELPED(fixture, dynmap_table_set_transaction(table, 1, &op)), 0);
	assert_int_equal(dynmap_pool_commit(&fixture->pool), 0);
	for (i = 0; i < 3 * DYNMAP_JOURNAL_RECORDS; i++)
		assert_int_equal(HELPED(fixture, dynmap_table_set_transaction(table, 2, &op)), 0);
	assert_int_equal(dynmap_pool_commit(&fixture->pool), 0);
	seq = journal->head - 3;
	at = fixture->pool.geo.dev[0].journal_start + seq % journal->blocks;
	fixture_close(fixture);
	store_mem_flip(&fixture->mem, 0, at, 2000, 1);
	assert_int_equal(fixture_open(fixture, false), 0);
	assert_int_equal(table->transaction_id, 1);
	/* The spoiled block becomes good again: it is of an old incarnation. */
	fixture_close(fixture);
	store_mem_flip(&fixture->mem, 0, at, 2000, 1);
	assert_int_equal(fixture_open(fixture, false), 0);
	assert_int_equal(table->transaction_id, 1);
}

static void test_either_device_serves(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_journal *journal = &fixture->pool.journal;
	struct dynmap_table *table = &fixture->pool.table;
	u32 i, dev;

	for (i = 1; i <= 40; i++) {
		assert_int_equal(HELPED(fixture, dynmap_table_set_transaction(table, i, &op)), 0);
		assert_int_equal(dynmap_pool_commit(&fixture->pool), 0);
		dev = i & 1;
		store_mem_flip(&fixture->mem, dev, fixture->pool.geo.dev[dev].journal_start +
			       (journal->head - 1) % journal->blocks, 100 * i, 0x10);
	}
	fixture_close(fixture);
	assert_int_equal(fixture_open(fixture, false), 0);
	assert_int_equal(table->transaction_id, 40);
}

/* Rule 7: a failed commit is for good. */
static void test_failure_is_sticky(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_journal *journal = &fixture->pool.journal;
	u64 durable;

	assert_int_equal(put(fixture, 1, 0), 0);
	durable = journal->durable;
	fixture->mem.fail_write = 1;
	assert_int_equal(commit(fixture), -EIO);
	assert_true(journal->failed);
	assert_int_equal(journal->durable, durable);
	assert_int_equal(commit(fixture), -EIO);
	assert_int_equal(put(fixture, 2, 0), -EROFS);
}

static void test_failed_flush_is_sticky_too(void **state)
{
	struct fixture *fixture = *state;
	u8 *data = dynmap_block_alloc();

	store_mem_write(&fixture->mem, 1, 3000, data);
	assert_int_equal(put(fixture, 1, 0), 0);
	fixture->mem.fail_flush = 1;
	assert_int_equal(commit(fixture), -EIO);
	assert_int_equal(commit(fixture), -EIO);
	dynmap_block_free(data);
}

/* A journal block that cannot be read might hold records: no guess is made. */
static void test_unreadable_is_not_the_end(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_journal *journal = &fixture->pool.journal;
	u8 *data = dynmap_block_alloc();

	assert_int_equal(put(fixture, 1, 0), 0);
	assert_int_equal(commit(fixture), 0);
	fixture->mem.fail_read = 1;
	assert_int_equal(dynmap_journal_read(journal, journal->head - 1, data), -EIO);
	assert_int_equal(dynmap_journal_read(journal, journal->head - 1, data), 0);
	assert_int_equal(dynmap_journal_read(journal, journal->head, data), -ENODATA);
	fixture->mem.fail_read = 1;
	assert_int_equal(dynmap_journal_read(journal, journal->head, data), -EIO);
	dynmap_block_free(data);
}

/* Unless the other copy proves that the journal ends there; a torn one does not. */
static void test_other_copy_proves_the_end(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_journal *journal = &fixture->pool.journal;
	u8 *data = dynmap_block_alloc();

	fixture->mem.fail_read = 1;
	assert_int_equal(dynmap_journal_read(journal, journal->head, data), -ENODATA);
	store_mem_flip(&fixture->mem, 1, fixture->pool.geo.dev[1].journal_start +
		       journal->head % journal->blocks, 7, 1);
	fixture->mem.fail_read = 1;
	assert_int_equal(dynmap_journal_read(journal, journal->head, data), -EIO);
	dynmap_block_free(data);
}

static void flip_blocks(struct fixture *fixture, u64 seq, u64 count)
{
	struct dynmap_journal *journal = &fixture->pool.journal;

	for (; count; count--, seq++)
		store_mem_flip(&fixture->mem, 0, fixture->pool.geo.dev[0].journal_start +
			       seq % journal->blocks, 99, 4);
}

/*
 * One device, one copy: whichever blocks of a commit of 108 are destroyed, up to 63
 * adjacent ones, the commit after it tells; as long as there is none nothing does.
 */
static void test_long_commits_tell(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_journal *journal = &fixture->pool.journal;
	u8 data[DYNMAP_BLOCK_BYTES] __attribute__((aligned(8)));
	const u64 blocks[] = { 40000, 0 }, first = 2, last = 109;
	const int wanted[] = { 0, -EBADMSG };
	u64 seq, run, i;
	int later;

	fixture_exit(fixture);
	fixture_init(fixture, blocks, 16, 2);
	while (journal->head < first) {
		assert_int_equal(put(fixture, 1, 0), 0);
		assert_int_equal(commit(fixture), 0);
	}
	for (i = 0; i < (last - first + 1) * DYNMAP_JOURNAL_RECORDS; i++)
		assert_int_equal(put(fixture, i, 0), 0);
	for (later = 0; later < 2; later++) {
		assert_int_equal(commit(fixture), 0);
		assert_int_equal(journal->head, last + 1 + later);
		for (run = 1; run < 64; run += 31)
			for (seq = first; seq + run <= last + 1; seq++) {
				flip_blocks(fixture, seq, run);
				assert_int_equal(dynmap_journal_verify_end(journal, seq, data),
						 wanted[later]);
				flip_blocks(fixture, seq, run);
			}
		assert_int_equal(put(fixture, 7, 0), 0);
	}
	flip_blocks(fixture, first, 1);
	fixture_close(fixture);
	assert_int_equal(fixture_open(fixture, false), -EBADMSG);
	assert_int_equal(fixture_open(fixture, true), 0);
}

/* A pool on devices of these lengths instead of the one that there is. */
static void open_on(struct fixture *fixture, const u64 *blocks)
{
	fixture_exit(fixture);
	fixture_init(fixture, blocks, 16, 2);
}

/* Commit a number to each of the next blocks. */
static void commit_blocks(struct fixture *fixture, u32 count)
{
	struct dynmap_table *table = &fixture->pool.table;
	u64 next = table->transaction_id;

	for (; count; count--) {
		next++;
		assert_int_equal(HELPED(fixture, dynmap_table_set_transaction(table, next, &op)),
				 0);
		assert_int_equal(dynmap_pool_commit(&fixture->pool), 0);
	}
}

/* After a power cut all that was committed is there. */
static void expect_replayed(struct fixture *fixture, bool readonly)
{
	u64 last = fixture->pool.table.transaction_id;

	fixture_close(fixture);
	if (!readonly)
		store_mem_power_cut(&fixture->mem, fixture_random);
	assert_int_equal(fixture_open(fixture, readonly), 0);
	assert_int_equal(fixture->pool.table.transaction_id, last);
}

/* Each block lies on two devices, pieces of the ring on all that have room for it. */
static void test_ring_lies_on_all_devices(void **state)
{
	const u64 blocks[] = { 20000, 6000, 20000, 20000, 0 };
	struct fixture *fixture = *state;
	struct dynmap_journal *journal = &fixture->pool.journal;
	u32 i, copy, dev[2], count[4] = {};
	u64 writes, at;
	u8 *data;

	open_on(fixture, blocks);
	/* The second one is too small. */
	assert_int_equal(journal->nr_devs, 3);
	assert_int_equal(journal->blocks, 20000 / 128);
	for (i = 0; i < 3 * DYNMAP_JOURNAL_PIECE; i++) {
		writes = fixture->mem.writes;
		commit_blocks(fixture, 1);
		assert_int_equal(fixture->mem.writes, writes + 2);
		for (copy = 0; copy < 2; copy++) {
			at = dynmap_journal_locate(journal, journal->head - 1, copy, &dev[copy]);
			data = store_mem_block(&fixture->mem, dev[copy], at);
			assert_int_equal(le64_to_cpu(((struct dynmap_disk_journal *)data)->seq),
					 journal->head - 1);
			count[dev[copy]]++;
		}
		assert_int_not_equal(dev[0], dev[1]);
		/* The ring has not room for all at once. */
		if (journal->head - journal->tail > 60)
			assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), 0);
	}
	for (i = 0; i < 4; i++)
		assert_int_equal(count[i], i == 1 ? 0 : 2 * DYNMAP_JOURNAL_PIECE);
	expect_replayed(fixture, false);
	fixture_check(fixture);
}

/* Whichever device is missing, the other copy of each block is on another one. */
static void test_replay_without_a_device(void **state)
{
	const u64 blocks[] = { 20000, 20000, 20000, 20000, 0 };
	struct fixture *fixture = *state;
	struct dynmap_journal *journal = &fixture->pool.journal;
	u8 *data = dynmap_block_alloc();
	u64 seq, length;
	u32 dev;

	open_on(fixture, blocks);
	commit_blocks(fixture, 50);
	assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), 0);
	commit_blocks(fixture, 70);
	assert_true(journal->head - journal->tail >= 70);
	for (dev = 0; dev < 4; dev++) {
		length = fixture->mem.blocks[dev];
		fixture->mem.blocks[dev] = 0;
		for (seq = journal->tail; seq < journal->head; seq++)
			assert_int_equal(dynmap_journal_read(journal, seq, data), 0);
		assert_int_equal(dynmap_journal_read(journal, seq, data), -ENODATA);
		fixture->mem.blocks[dev] = length;
	}
	expect_replayed(fixture, true);
	dynmap_block_free(data);
}

/*
 * The ring goes to more devices: what was committed before, what is appended while the
 * growth's checkpoint is written, and what is committed before its last step is found.
 */
static void test_ring_moves_with_a_growth(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_pool *pool = &fixture->pool;
	u8 uuid[DYNMAP_MAX_DEVICES][DYNMAP_UUID_BYTES] = {};
	struct dynmap_growth growth;
	u32 nr, early, carriers;

	for (nr = 0; nr < DYNMAP_MAX_DEVICES; nr++)
		uuid[nr][0] = nr + 1;
	for (nr = 2; nr < 7; nr++) {
		/* One that is too small does not count. */
		early = nr % 2;
		carriers = nr > 4 ? nr - 1 : nr;
		store_mem_grow(&fixture->mem, nr - 1, nr == 5 ? 2000 : 6000);
		commit_blocks(fixture, 10);
		assert_int_equal(dynmap_growth_prepare(&growth, pool, nr, fixture->mem.blocks,
						       uuid[0]), 0);
		assert_int_equal(dynmap_growth_begin(&growth, pool), 0);
		assert_int_equal(dynmap_growth_announce(&growth, pool), 0);
		assert_int_equal(HELPED(fixture, dynmap_pool_checkpoint_begin(pool, &op)), 0);
		assert_int_equal(put(fixture, ++pool->table.transaction_id, 0), 0);
		assert_int_equal(dynmap_pool_checkpoint_io(pool), 0);
		assert_int_equal(dynmap_pool_checkpoint_publish(pool), 0);
		while (dynmap_pool_checkpoint_end(pool, 0))
			;
		assert_int_equal(pool->journal.nr_devs, carriers);
		if (early)
			commit_blocks(fixture, 1);
		assert_int_equal(dynmap_growth_write(&growth, pool), 0);
		dynmap_growth_end(&growth, pool);
		dynmap_growth_exit(&growth);
		commit_blocks(fixture, nr % 3);
		assert_int_equal(dynmap_pool_commit(pool), 0);
		expect_replayed(fixture, false);
		commit_blocks(fixture, 5);
		expect_replayed(fixture, false);
		assert_int_equal(pool->journal.nr_devs, carriers);
	}
	fixture_check(fixture);
}

/* Records until so many blocks are full. */
static void fill_blocks(struct fixture *fixture, u64 blocks)
{
	struct dynmap_pool *pool = &fixture->pool;
	u64 begun = pool->journal.head;

	while (pool->journal.head - begun < blocks)
		assert_int_equal(put(fixture, ++pool->table.transaction_id, 0), 0);
}

/*
 * Nobody flushes while records fill half of the ring again and again: what a checkpoint covers
 * is not written any more, so that a commit writes no two blocks to one place. What came after
 * it began is written, and found.
 */
static void test_covered_blocks_are_not_written(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_pool *pool = &fixture->pool;
	struct dynmap_journal *journal = &pool->journal;
	u64 begun, writes;
	u32 i;

	for (i = 0; i < 4; i++) {
		fill_blocks(fixture, journal->blocks / 2);
		assert_int_equal(HELPED(fixture, dynmap_pool_checkpoint_begin(pool, &op)), 0);
		begun = journal->head;
		if (i == 1)
			assert_int_equal(dynmap_pool_commit(pool), 0);
		if (i == 3)
			fill_blocks(fixture, 3);
		assert_int_equal(dynmap_pool_checkpoint_io(pool), 0);
		assert_int_equal(dynmap_pool_checkpoint_publish(pool), 0);
		while (dynmap_pool_checkpoint_end(pool, 0))
			;
		assert_int_equal(journal->tail, begun);
		assert_int_equal(dynmap_journal_pending(journal), i == 3);
	}
	writes = fixture->mem.writes;
	assert_int_equal(dynmap_pool_commit(pool), 0);
	assert_int_equal(fixture->mem.writes - writes, 3);
	expect_replayed(fixture, false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FIXTURE_TEST(test_a_commit_is_one_block, one),
		FIXTURE_TEST(test_data_is_flushed_first, two),
		FIXTURE_TEST(test_ring_is_never_overrun, one),
		FIXTURE_TEST(test_wraps_and_replays, one),
		FIXTURE_TEST(test_nothing_behind_a_gap, one),
		FIXTURE_TEST(test_either_device_serves, two),
		FIXTURE_TEST(test_failure_is_sticky, one),
		FIXTURE_TEST(test_failed_flush_is_sticky_too, two),
		FIXTURE_TEST(test_unreadable_is_not_the_end, one),
		FIXTURE_TEST(test_other_copy_proves_the_end, two),
		FIXTURE_TEST(test_long_commits_tell, one),
		FIXTURE_TEST(test_ring_lies_on_all_devices, one),
		FIXTURE_TEST(test_replay_without_a_device, one),
		FIXTURE_TEST(test_ring_moves_with_a_growth, one),
		FIXTURE_TEST(test_covered_blocks_are_not_written, one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
