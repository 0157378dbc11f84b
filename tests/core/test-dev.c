// SPDX-License-Identifier: GPL-2.0-only
/* Unit tests of devices and segments: layout, bounds, translation. */
#include "fixture.h"

static void test_layout_of_every_small_size(void **state)
{
	struct dynmap_dev dev;
	u64 blocks, sum;
	u32 slot;

	assert_int_equal(dynmap_dev_layout(&dev, DYNMAP_MIN_DEVICE_BLOCKS - 1), -ENOSPC);
	for (blocks = DYNMAP_MIN_DEVICE_BLOCKS; blocks < 300000; blocks += 61) {
		assert_int_equal(dynmap_dev_layout(&dev, blocks), 0);
		assert_int_equal(dev.journal_start, DYNMAP_JOURNAL_FIRST);
		assert_in_range(dev.journal_blocks, DYNMAP_JOURNAL_MIN_BLOCKS,
				DYNMAP_JOURNAL_MAX_BLOCKS);
		assert_true(dev.journal_start + dev.journal_blocks <= dev.data_start);
		assert_int_equal(dev.data_start % 16, 0);
		/* The slots cover all but the metadata in front and the backup behind. */
		for (sum = 0, slot = 0; slot < dev.slots; slot++) {
			assert_in_range(dynmap_dev_slot_blocks(&dev, slot), 1,
					DYNMAP_SEGMENT_BLOCKS);
			sum += dynmap_dev_slot_blocks(&dev, slot);
		}
		assert_int_equal(sum, blocks - 1 - dev.data_start);
	}
}

static void test_layout_of_large_devices(void **state)
{
	struct dynmap_dev dev;
	u32 shift;

	for (shift = 14; shift < DYNMAP_PBN_BITS; shift++) {
		assert_int_equal(dynmap_dev_layout(&dev, 1ULL << shift), 0);
		assert_int_equal(dev.data_start % 256, 0);
		assert_true(dev.slots <= DYNMAP_MAX_SEGMENTS);
	}
	assert_int_equal(dev.journal_blocks, DYNMAP_JOURNAL_MAX_BLOCKS);
}

static void init(struct dynmap_geometry *geo)
{
	const u64 blocks[] = { 70000, 1024, 200000 };
	struct dynmap_disk_super *sb = dynmap_block_alloc();
	u32 i;

	sb->nr_devices = cpu_to_le32(3);
	for (i = 0; i < 3; i++)
		sb->device[i].blocks = cpu_to_le64(blocks[i]);
	assert_int_equal(dynmap_geometry_init(geo, NULL, sb), 0);
	dynmap_block_free(sb);
}

static void test_every_segment_end_is_a_bound(void **state)
{
	struct dynmap_geometry geo;
	u32 segment, blocks;
	u64 pbn;

	init(&geo);
	for (segment = 0; segment < geo.nr_segments; segment++) {
		blocks = dynmap_segment_blocks(&geo, segment);
		pbn = dynmap_segment_pbn(segment);
		assert_true(dynmap_pbn_valid(&geo, pbn, blocks));
		assert_false(dynmap_pbn_valid(&geo, pbn, blocks + 1));
		assert_false(dynmap_pbn_valid(&geo, pbn + 1, blocks));
		assert_true(dynmap_pbn_valid(&geo, pbn + blocks - 1, 1));
		if (blocks < DYNMAP_SEGMENT_BLOCKS)
			assert_false(dynmap_pbn_valid(&geo, pbn + blocks, 1));
		assert_false(dynmap_pbn_valid(&geo, pbn, 0));
	}
	assert_false(dynmap_pbn_valid(&geo, dynmap_segment_pbn(geo.nr_segments), 1));
	assert_false(dynmap_pbn_valid(&geo, DYNMAP_PBN_NONE, 1));
	dynmap_geometry_exit(&geo);
}

/* Every block of a device's data area belongs to exactly one pbn. */
static void test_locate_covers_each_device_once(void **state)
{
	u64 next[3] = {}, at, index;
	struct dynmap_geometry geo;
	u32 segment, dev;

	init(&geo);
	for (dev = 0; dev < 3; dev++)
		next[dev] = geo.dev[dev].data_start;
	for (segment = 0; segment < geo.nr_segments; segment++)
		for (index = 0; index < dynmap_segment_blocks(&geo, segment); index++) {
			at = dynmap_pbn_locate(&geo, dynmap_segment_pbn(segment) + index, &dev);
			assert_int_equal(at, next[dev]++);
		}
	for (dev = 0; dev < 3; dev++)
		assert_int_equal(next[dev], geo.dev[dev].blocks - 1);
	dynmap_geometry_exit(&geo);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layout_of_every_small_size),
		cmocka_unit_test(test_layout_of_large_devices),
		cmocka_unit_test(test_every_segment_end_is_a_bound),
		cmocka_unit_test(test_locate_covers_each_device_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
