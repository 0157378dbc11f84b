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
		assert_int_equal(sum, (blocks - 1 - dev.data_start) / 256 * 256);
	}
}

static void test_layout_of_large_devices(void **state)
{
	struct dynmap_dev dev;
	u32 shift;

	for (shift = 14; shift <= 38; shift++) {
		assert_int_equal(dynmap_dev_layout(&dev, 1ULL << shift), 0);
		assert_int_equal(dev.data_start % 256, 0);
		assert_true(dev.slots <= DYNMAP_MAX_SLOTS);
	}
	assert_int_equal(dev.journal_blocks, DYNMAP_JOURNAL_MAX_BLOCKS);
	assert_int_equal(dynmap_dev_layout(&dev, 1ULL << 39), -EFBIG);
}

static void init(struct dynmap_geometry *geo)
{
	const u64 blocks[] = { 70000, 1024, 200000 };
	struct dynmap_disk_super *sb = dynmap_block_alloc();
	struct dynmap_dev dev;
	u32 i;

	sb->nr_devices = cpu_to_le32(3);
	for (i = 0; i < 3; i++) {
		assert_int_equal(dynmap_dev_layout(&dev, blocks[i]), 0);
		dynmap_dev_store(&dev, &sb->device[i]);
	}
	assert_null(dynmap_geometry_init(geo, NULL, sb));
	dynmap_block_free(sb);
}

static void test_every_segment_end_is_a_bound(void **state)
{
	struct dynmap_geometry geo;
	u32 dev, slot, blocks;
	u64 pbn;

	init(&geo);
	for (dev = 0; dev < geo.nr_devs; dev++) {
		for (slot = 0; slot < geo.dev[dev].slots; slot++) {
			blocks = dynmap_dev_slot_blocks(&geo.dev[dev], slot);
			pbn = dynmap_segment_pbn(dynmap_segment_number(dev, slot));
			assert_int_equal(dynmap_pbn_dev(pbn), dev);
			assert_true(dynmap_pbn_valid(&geo, pbn, blocks));
			assert_false(dynmap_pbn_valid(&geo, pbn, blocks + 1));
			assert_false(dynmap_pbn_valid(&geo, pbn + 1, blocks));
			assert_true(dynmap_pbn_valid(&geo, pbn + blocks - 1, 1));
			if (slot + 1 == geo.dev[dev].slots)
				assert_false(dynmap_pbn_valid(&geo, pbn + blocks, 1));
			assert_false(dynmap_pbn_valid(&geo, pbn, 0));
		}
		pbn = dynmap_segment_pbn(dynmap_segment_number(dev, geo.dev[dev].slots));
		assert_false(dynmap_pbn_valid(&geo, pbn, 1));
	}
	pbn = dynmap_segment_pbn(dynmap_segment_number(geo.nr_devs, 0));
	assert_false(dynmap_pbn_valid(&geo, pbn, 1));
	assert_false(dynmap_pbn_valid(&geo, DYNMAP_PBN_NONE, 1));
	assert_false(dynmap_pbn_valid(&geo, 1ULL << DYNMAP_PBN_BITS, 1));
}

/* Every block of a device's data area belongs to exactly one pbn. */
static void test_locate_covers_each_device_once(void **state)
{
	struct dynmap_geometry geo;
	u32 dev, slot, index, at, blocks;
	u64 next, pbn;

	init(&geo);
	for (dev = 0; dev < geo.nr_devs; dev++) {
		next = geo.dev[dev].data_start;
		for (slot = 0; slot < geo.dev[dev].slots; slot++) {
			pbn = dynmap_segment_pbn(dynmap_segment_number(dev, slot));
			blocks = dynmap_dev_slot_blocks(&geo.dev[dev], slot);
			for (index = 0; index < blocks; index++) {
				assert_int_equal(dynmap_pbn_locate(&geo, pbn + index, &at), next++);
				assert_int_equal(at, dev);
			}
		}
		assert_int_equal(next, geo.dev[dev].data_start +
				       dynmap_dev_data_blocks(&geo.dev[dev]));
	}
}

/* Growing moves nothing; what was a block stays that block. */
static void test_growth_moves_nothing(void **state)
{
	struct dynmap_dev dev, loaded;
	struct dynmap_disk_device disk;
	u64 start;
	u32 ring;

	assert_int_equal(dynmap_dev_layout(&dev, 20000), 0);
	start = dev.data_start;
	ring = dev.journal_blocks;
	assert_int_equal(dynmap_dev_grow(&dev, 19999), -EINVAL);
	assert_int_equal(dynmap_dev_grow(&dev, 20000), 0);
	assert_int_equal(dynmap_dev_grow(&dev, 3000000), 0);
	assert_int_equal(dev.data_start, start);
	assert_int_equal(dev.journal_blocks, ring);
	assert_int_equal(dev.slots, 46);
	assert_int_equal(dynmap_dev_grow(&dev, 1ULL << 40), -EFBIG);
	assert_int_equal(dev.slots, 46);
	dynmap_dev_store(&dev, &disk);
	assert_null(dynmap_dev_load(&loaded, &disk));
	assert_memory_equal(&dev, &loaded, sizeof(dev));
}

static void test_bad_entries_are_refused(void **state)
{
	struct dynmap_disk_device good, bad;
	struct dynmap_dev dev;

	assert_int_equal(dynmap_dev_layout(&dev, 20000), 0);
	dynmap_dev_store(&dev, &good);
	bad = good;
	bad.blocks = cpu_to_le64(1023);
	assert_non_null(dynmap_dev_load(&dev, &bad));
	bad.blocks = cpu_to_le64(~0ULL);
	assert_non_null(dynmap_dev_load(&dev, &bad));
	bad = good;
	bad.journal_start = cpu_to_le64(9);
	assert_non_null(dynmap_dev_load(&dev, &bad));
	bad = good;
	bad.journal_blocks = cpu_to_le32(31);
	assert_non_null(dynmap_dev_load(&dev, &bad));
	bad.journal_blocks = cpu_to_le32(30000);
	assert_non_null(dynmap_dev_load(&dev, &bad));
	bad = good;
	bad.data_start = cpu_to_le64(19999);
	assert_non_null(dynmap_dev_load(&dev, &bad));
	bad.data_start = cpu_to_le64(~0ULL);
	assert_non_null(dynmap_dev_load(&dev, &bad));
	bad = good;
	bad.slots = cpu_to_le32(2);
	assert_non_null(dynmap_dev_load(&dev, &bad));
	assert_null(dynmap_dev_load(&dev, &good));
}

/* Let devices take @count turns of @blocks; who got how many. */
static void take_turns(struct dynmap_turns *turns, const u64 *weight, u32 nr, u32 count,
		       u32 blocks, u32 *got)
{
	u32 dev;

	memset(got, 0, DYNMAP_MAX_DEVICES * sizeof(*got));
	for (; count; count--) {
		dev = dynmap_turns_next(turns, weight, nr, blocks / 2);
		assert_in_range(dev, 0, nr - 1);
		dynmap_turns_charge(turns, dev, blocks);
		got[dev]++;
	}
}

static void test_turns_follow_the_weights(void **state)
{
	u64 weight[DYNMAP_MAX_DEVICES] = { 1, 2, 0, 4 };
	struct dynmap_turns turns = {};
	u32 got[DYNMAP_MAX_DEVICES], dev;

	take_turns(&turns, weight, 4, 7000, 256, got);
	assert_in_range(got[0], 999, 1001);
	assert_in_range(got[1], 1999, 2001);
	assert_int_equal(got[2], 0);
	assert_in_range(got[3], 3999, 4001);
	/* One that has space again, and one that joins, have nothing to make up for. */
	weight[2] = 4;
	weight[4] = 3;
	take_turns(&turns, weight, 5, 140, 256, got);
	assert_in_range(got[2], 38, 42);
	assert_in_range(got[4], 28, 32);
	/* As many devices as there can be, of the longest and the shortest. */
	for (dev = 0; dev < DYNMAP_MAX_DEVICES; dev++)
		weight[dev] = dev % 2 ? 1ULL << 38 : 1000;
	take_turns(&turns, weight, DYNMAP_MAX_DEVICES, 24000, 65536, got);
	for (dev = 0; dev < DYNMAP_MAX_DEVICES; dev++)
		assert_in_range(got[dev], dev % 2 ? 999 : 0, dev % 2 ? 1001 : 1);
	memset(weight, 0, sizeof(weight));
	assert_int_equal(dynmap_turns_next(&turns, weight, 4, 0), 4);
}

/* Devices of about the same weight do not get two turns in a row. */
static void test_turns_change_devices(void **state)
{
	u64 weight[DYNMAP_MAX_DEVICES] = { 1000, 1020, 1010, 1000 };
	struct dynmap_turns turns = {};
	u32 got[DYNMAP_MAX_DEVICES], last[DYNMAP_MAX_DEVICES] = {}, i, dev;

	for (i = 0; i < 1000; i++) {
		take_turns(&turns, weight, 4, 1, 256, got);
		for (dev = 0; dev < 4; dev++)
			assert_false(got[dev] && last[dev]);
		memcpy(last, got, sizeof(last));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layout_of_every_small_size),
		cmocka_unit_test(test_layout_of_large_devices),
		cmocka_unit_test(test_every_segment_end_is_a_bound),
		cmocka_unit_test(test_locate_covers_each_device_once),
		cmocka_unit_test(test_growth_moves_nothing),
		cmocka_unit_test(test_bad_entries_are_refused),
		cmocka_unit_test(test_turns_follow_the_weights),
		cmocka_unit_test(test_turns_change_devices),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
