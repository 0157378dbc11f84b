// SPDX-License-Identifier: GPL-2.0-only
/*
 * Unit tests of the format, the device layout and the user-space vocabulary.
 * Sizes and offsets are asserted by the format header itself.
 */
#include "fixture.h"

static void test_magics(void **state)
{
	__le64 sb = cpu_to_le64(DYNMAP_SB_MAGIC);
	__le32 node = cpu_to_le32(DYNMAP_NODE_MAGIC), journal = cpu_to_le32(DYNMAP_JOURNAL_MAGIC);

	assert_memory_equal(&sb, "DYMAPFB1", 8);
	assert_memory_equal(&node, "DYND", 4);
	assert_memory_equal(&journal, "DYJL", 4);
}

static void test_crc32c(void **state)
{
	/* Check value of CRC-32C (RFC 3720, appendix B.4: 32 bytes of zeros, of ones). */
	u8 data[32] = {};

	assert_int_equal(~crc32c(~0U, "123456789", 9), 0xe3069283);
	assert_int_equal(~crc32c(~0U, data, 32), 0x8a9136aa);
	memset(data, 0xff, 32);
	assert_int_equal(~crc32c(~0U, data, 32), 0x62a8ab43);
	assert_int_equal(crc32c(crc32c(~0U, data, 7), data + 7, 25), crc32c(~0U, data, 32));
}

static void test_layout_limits(void **state)
{
	struct dynmap_dev dev;

	assert_int_equal(dynmap_dev_layout(&dev, 0), -ENOSPC);
	assert_int_equal(dynmap_dev_layout(&dev, DYNMAP_MIN_DEVICE_BLOCKS - 1), -ENOSPC);
	assert_int_equal(dynmap_dev_layout(&dev, DYNMAP_MIN_DEVICE_BLOCKS), 0);
	assert_int_equal(dev.journal_blocks, DYNMAP_JOURNAL_MIN_BLOCKS);
	assert_int_equal(dynmap_dev_layout(&dev, 1ULL << 30), 0);
	assert_int_equal(dev.journal_blocks, DYNMAP_JOURNAL_MAX_BLOCKS);
	assert_int_equal(dev.data_start % 256, 0);
}

/* Nothing overlaps, nothing is left out, the last block is the superblock's. */
static void check_layout(u64 blocks)
{
	struct dynmap_dev dev;
	u64 data = 0;
	u32 slot;

	assert_int_equal(dynmap_dev_layout(&dev, blocks), 0);
	assert_int_equal(dev.blocks, blocks);
	assert_true(dev.journal_start >= DYNMAP_SB_SLOT_FIRST + DYNMAP_SB_SLOTS);
	assert_true(dev.data_start >= dev.journal_start + dev.journal_blocks);
	assert_true(dev.data_start < blocks - 1);
	for (slot = 0; slot < dev.slots; slot++) {
		u32 len = dynmap_dev_slot_blocks(&dev, slot);

		assert_true(len > 0);
		assert_true(slot + 1 == dev.slots || len == DYNMAP_SEGMENT_BLOCKS);
		data += len;
	}
	assert_in_range(dev.data_start + data, blocks - 1 - 255, blocks - 1);
	assert_int_equal(data % 256, 0);
}

static void test_layout_covers_the_device(void **state)
{
	u64 blocks;
	u32 i;

	for (blocks = DYNMAP_MIN_DEVICE_BLOCKS; blocks < 3000; blocks++)
		check_layout(blocks);
	for (blocks = 16000; blocks < 17000; blocks++)
		check_layout(blocks);
	for (i = 0; i < 2000; i++)
		check_layout(DYNMAP_MIN_DEVICE_BLOCKS + fixture_below(1ULL << 28));
}

struct item {
	struct list_head list;
	struct hlist_node hash;
	u32 number;
};

static void test_lists(void **state)
{
	struct item items[5], *item, *next;
	struct hlist_head head = {};
	struct list_head a, b;
	u32 i, sum = 0;

	INIT_LIST_HEAD(&a);
	INIT_LIST_HEAD(&b);
	for (i = 0; i < 5; i++) {
		items[i].number = i;
		INIT_HLIST_NODE(&items[i].hash);
		hlist_add_head(&items[i].hash, &head);
		list_add_tail(&items[i].list, i < 3 ? &a : &b);
	}
	list_splice_tail_init(&b, &a);
	assert_true(list_empty(&b));
	list_splice_tail_init(&b, &a);
	list_move_tail(&items[0].list, &a);
	assert_ptr_equal(list_first_entry(&a, struct item, list), &items[1]);
	assert_ptr_equal(list_last_entry(&a, struct item, list), &items[0]);
	list_for_each_entry_safe(item, next, &a, list) {
		sum = sum * 10 + item->number;
		list_del_init(&item->list);
	}
	assert_int_equal(sum, 12340);
	assert_true(list_empty(&a));
	hlist_del_init(&items[4].hash);
	hlist_del_init(&items[2].hash);
	hlist_del_init(&items[2].hash);
	sum = 0;
	hlist_for_each_entry(item, &head, hash)
		sum = sum * 10 + item->number;
	assert_int_equal(sum, 310);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_magics),
		cmocka_unit_test(test_crc32c),
		cmocka_unit_test(test_layout_limits),
		cmocka_unit_test(test_layout_covers_the_device),
		cmocka_unit_test(test_lists),
	};

	return cmocka_run_group_tests_name("format", tests, NULL, NULL);
}
