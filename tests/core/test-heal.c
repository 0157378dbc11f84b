// SPDX-License-Identifier: GPL-2.0-only
/*
 * Self-healing: metadata is destroyed block by block, bit by bit, region by
 * region, while the pool is closed with records in its journal. Nothing may be
 * lost where there are two copies; what has one is found out.
 */
#include "fixture.h"

#define BLOCKS		60
#define MAX_PLACES	2048

/* A metadata block of a device. */
struct place {
	u32 dev;
	u64 block;
	bool journal;
};

/**
 * struct images - the devices as they were left, to be damaged again and again
 * @fixture: the pool
 * @copy: of each device
 * @place: its metadata blocks
 * @count: how many
 */
struct images {
	struct fixture *fixture;
	u8 *copy[DYNMAP_MAX_DEVICES];
	struct place place[MAX_PLACES];
	u32 count;
};

static void add_place(struct images *images, u32 dev, u64 block, bool journal)
{
	assert_true(images->count < MAX_PLACES);
	images->place[images->count].dev = dev;
	images->place[images->count].block = block;
	images->place[images->count++].journal = journal;
}

/* Every node's places: what is allocated in zones of metadata. */
static void add_nodes(struct images *images, u32 segment)
{
	struct dynmap_pool *pool = &images->fixture->pool;
	const struct dynmap_seg *seg = fixture_seg(images->fixture, segment);
	u64 block;
	u32 i, dev;

	for (i = 0; i < DYNMAP_SEGMENT_BLOCKS; i++) {
		if (!seg->zone_flags[i >> DYNMAP_ZONE_SHIFT] || !(seg->allocated[i / 64] >>
								  (i % 64) & 1))
			continue;
		block = dynmap_pbn_locate(&pool->geo, dynmap_segment_pbn(segment) + i, &dev);
		add_place(images, dev, block, false);
	}
}

static void add_superblocks(struct images *images, u32 dev)
{
	u64 block;

	for (block = 0; block <= DYNMAP_SB_SLOTS; block++)
		add_place(images, dev, block, false);
	add_place(images, dev, images->fixture->mem.blocks[dev] - 1, false);
}

static void add_journal(struct images *images, u32 dev)
{
	struct dynmap_journal *journal = &images->fixture->pool.journal;
	u64 seq;

	for (seq = journal->tail; seq < journal->head; seq++)
		add_place(images, dev, images->fixture->pool.geo.dev[dev].journal_start +
			  seq % journal->blocks, true);
}

/* Fill so many blocks of the journal. */
static void commits(struct fixture *fixture, u32 count)
{
	struct dynmap_table *table = &fixture->pool.table;

	for (; count; count--) {
		assert_int_equal(HELPED(fixture, dynmap_table_set_transaction(table, count, &op)),
				 0);
		assert_int_equal(dynmap_pool_commit(&fixture->pool), 0);
	}
}

/* A pool with two volumes, part of it checkpointed, part of it in the journal. */
static struct images *images_make(struct fixture *fixture)
{
	struct images *images = calloc(1, sizeof(*images));
	struct store_mem *mem = &fixture->mem;
	struct dynmap_volume *volume;
	u32 dev, slot, i;

	images->fixture = fixture;
	volume = fixture_create(fixture, 1);
	for (i = 0; i < BLOCKS; i++)
		assert_int_equal(fixture_write(fixture, volume, i * 40, 1, i + 1), 0);
	/* So much that the superblock before the last one leads nowhere any more. */
	for (i = 0; i < 3; i++) {
		assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), 0);
		commits(fixture, fixture->pool.journal.blocks / 2);
	}
	volume = fixture_create(fixture, 2);
	for (i = 0; i < 5; i++) {
		assert_int_equal(fixture_write(fixture, volume, i, 1, i + 1), 0);
		assert_int_equal(dynmap_pool_commit(&fixture->pool), 0);
	}
	for (dev = 0; dev < mem->nr_devs; dev++) {
		add_superblocks(images, dev);
		add_journal(images, dev);
		for (slot = 0; slot < fixture->pool.geo.dev[dev].slots; slot++)
			add_nodes(images, dynmap_segment_number(dev, slot));
		images->copy[dev] = malloc(mem->blocks[dev] * DYNMAP_BLOCK_BYTES);
		memcpy(images->copy[dev], mem->cache[dev], mem->blocks[dev] * DYNMAP_BLOCK_BYTES);
	}
	fixture_close(fixture);
	return images;
}

static void images_restore(struct images *images)
{
	struct store_mem *mem = &images->fixture->mem;
	u32 dev;

	fixture_close(images->fixture);
	for (dev = 0; dev < mem->nr_devs; dev++)
		memcpy(mem->cache[dev], images->copy[dev], mem->blocks[dev] * DYNMAP_BLOCK_BYTES);
}

static void images_free(struct images *images)
{
	u32 dev;

	for (dev = 0; dev < DYNMAP_MAX_DEVICES; dev++)
		free(images->copy[dev]);
	free(images);
}

static void all_is_there(struct images *images)
{
	struct fixture *fixture = images->fixture;
	struct dynmap_volume *volume = fixture_load(fixture, 1);
	u32 i;

	for (i = 0; i < BLOCKS; i++)
		assert_int_equal(fixture_read(fixture, volume, i * 40), i + 1);
	volume = fixture_load(fixture, 2);
	for (i = 0; i < 5; i++)
		assert_int_equal(fixture_read(fixture, volume, i), i + 1);
}

/* The damaged image holds everything, and is whole once each copy was used. */
static void heals(struct images *images)
{
	struct fixture *fixture = images->fixture;
	struct dynmap_check check;
	u32 round;

	assert_int_equal(fixture_open(fixture, true), 0);
	all_is_there(images);
	fixture_close(fixture);
	for (round = 0; round < 2; round++) {
		assert_int_equal(fixture_open(fixture, false), 0);
		all_is_there(images);
		assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), 0);
		if (round)
			break;
		/* An odd number of epochs later, three, the other copies are read first. */
		fixture_close(fixture);
	}
	assert_int_equal(dynmap_check_pool(&fixture->pool, NULL, &check), 0);
	assert_int_equal(check.damaged, 0);
	assert_int_equal(check.repairable, 0);
	fixture_close(fixture);
}

static void noise(struct store_mem *mem, u32 dev, u64 block, u64 count)
{
	u64 *word = store_mem_block(mem, dev, block), i;

	for (i = 0; i < count * DYNMAP_BLOCK_BYTES / 8; i++)
		word[i] = fixture_random();
}

/* Each metadata block destroyed in turn, by zeros and by noise. */
static void destroy_blocks(struct fixture *fixture, bool journal)
{
	struct images *images = images_make(fixture);
	struct store_mem *mem = &fixture->mem;
	struct place *place;
	u32 i, kind;

	for (i = 0; i < images->count; i++) {
		place = &images->place[i];
		for (kind = 0; kind < 2 && place->journal <= journal; kind++) {
			images_restore(images);
			if (kind)
				noise(mem, place->dev, place->block, 1);
			else
				memset(store_mem_block(mem, place->dev, place->block), 0,
				       DYNMAP_BLOCK_BYTES);
			heals(images);
		}
	}
	assert_true(images->count > 12);
	images_free(images);
}

static void test_any_block_one_device(void **state)
{
	destroy_blocks(*state, false);
}

static void test_any_block_two_devices(void **state)
{
	destroy_blocks(*state, true);
}

/* Single bits, anywhere in the metadata. */
static void test_any_bit(void **state)
{
	struct fixture *fixture = *state;
	struct images *images = images_make(fixture);
	struct place *place;
	u32 i;

	for (i = 0; i < 400; i++) {
		images_restore(images);
		place = &images->place[fixture_below(images->count)];
		*((u8 *)store_mem_block(&fixture->mem, place->dev, place->block) +
		  fixture_below(DYNMAP_BLOCK_BYTES)) ^= 1 << fixture_below(8);
		heals(images);
	}
	images_free(images);
}

/* The front of a device, up to its first segment; then all its metadata. */
static void test_whole_regions(void **state)
{
	struct fixture *fixture = *state;
	struct images *images = images_make(fixture);
	struct store_mem *mem = &fixture->mem;
	struct dynmap_dev layout;
	u32 dev, i, kind;

	assert_int_equal(dynmap_dev_layout(&layout, mem->blocks[0]), 0);
	for (kind = 0; kind < 4; kind++) {
		dev = kind & 1;
		images_restore(images);
		if (kind < 2)
			noise(mem, dev, 0, layout.data_start);
		else
			memset(store_mem_block(mem, dev, 0), 0,
			       layout.data_start * DYNMAP_BLOCK_BYTES);
		heals(images);
		images_restore(images);
		for (i = 0; i < images->count; i++)
			if (images->place[i].dev == dev)
				noise(mem, dev, images->place[i].block,
				      images->place[i].block + 1 < mem->blocks[dev]);
		heals(images);
	}
	images_free(images);
}

/* On one device the journal has one copy: that a block is lost is found out. */
static void test_lost_journal_block_is_found(void **state)
{
	struct fixture *fixture = *state;
	struct images *images = images_make(fixture);
	u32 i, journal = 0;

	for (i = 0; i < images->count; i++)
		journal += images->place[i].journal;
	assert_true(journal > 3);
	for (i = 0; i < images->count; i++) {
		/* Of the last one nothing tells. */
		if (!images->place[i].journal || !--journal)
			continue;
		images_restore(images);
		noise(&fixture->mem, images->place[i].dev, images->place[i].block, 1);
		assert_int_equal(fixture_open(fixture, false), -EBADMSG);
		assert_int_equal(fixture_open(fixture, true), 0);
		assert_int_equal(fixture_read(fixture, fixture_load(fixture, 1), 40), 2);
		fixture_close(fixture);
	}
	images_free(images);
}

/* One copy only: the fault is found, and what it does not cover is there. */
static void test_one_copy_is_confined(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_mapping mapping;
	struct dynmap_volume *volume;
	struct dynmap_path path;
	struct dynmap_op op = {};
	u32 i, lost = 0, dev;
	u64 block;

	fixture_close(fixture);
	memset(store_mem_block(&fixture->mem, 0, 0), 0, DYNMAP_BLOCK_BYTES);
	assert_int_equal(fixture_format(fixture, 1, 1), 0);
	assert_int_equal(fixture_open(fixture, false), 0);
	volume = fixture_create(fixture, 1);
	for (i = 0; i < 1000; i++)
		assert_int_equal(fixture_write(fixture, volume, i * 17, 1, i + 1), 0);
	assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), 0);
	assert_int_equal(volume->map.levels, 2);
	/* A leaf in the middle. */
	assert_int_equal(dynmap_btree_find(&volume->map, 500 * 17, &path, &op), 0);
	block = dynmap_pbn_locate(&fixture->pool.geo, path.buf[0]->pbn[0], &dev);
	fixture_close(fixture);
	store_mem_flip(&fixture->mem, dev, block, 2000, 4);
	assert_int_equal(fixture_open(fixture, false), 0);
	volume = fixture_load(fixture, 1);
	for (i = 0; i < 1000; i++) {
		int ret = HELPED(fixture, dynmap_table_lookup(volume, i * 17, &mapping, &op));

		if (ret) {
			assert_int_equal(ret, -EBADMSG);
			lost++;
		} else {
			assert_int_equal(fixture_read(fixture, volume, i * 17), i + 1);
		}
	}
	assert_true(lost > 50 && lost < 400);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FIXTURE_TEST(test_any_block_one_device, one),
		FIXTURE_TEST(test_any_block_two_devices, two),
		FIXTURE_TEST(test_any_bit, two),
		FIXTURE_TEST(test_whole_regions, two),
		FIXTURE_TEST(test_lost_journal_block_is_found, one),
		FIXTURE_TEST(test_one_copy_is_confined, one),
	};

	return cmocka_run_group_tests_name("heal", tests, NULL, NULL);
}
