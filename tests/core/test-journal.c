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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
