// SPDX-License-Identifier: GPL-2.0-only
/* Unit tests of superblocks and the life of a pool: format, open, checkpoint, failure. */
#include "fixture.h"

static int super_read(struct fixture *fixture, u32 dev, struct dynmap_disk_super *sb)
{
	return dynmap_super_read(&fixture->mem.store, dev, fixture->mem.blocks[dev], sb);
}

static void spoil(struct fixture *fixture, u32 dev, u64 block)
{
	store_mem_flip(&fixture->mem, dev, block, 900, 0x04);
}

static void test_every_slot_may_be_lost_but_one(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_disk_super *sb = dynmap_block_alloc();
	u64 slots[] = { 0, 1, 2, 3, fixture->mem.blocks[0] - 1 }, first, mask, i;

	for (i = 0; i < 5; i++)
		assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), 0);
	fixture_close(fixture);
	assert_int_equal(fixture_open(fixture, false), 0);
	fixture_close(fixture);
	assert_int_equal(super_read(fixture, 0, sb), 0);
	first = le64_to_cpu(sb->epoch);
	for (mask = 0; mask < 31; mask++) {
		for (i = 0; i < 5; i++)
			if (mask >> i & 1)
				spoil(fixture, 0, slots[i]);
		assert_int_equal(super_read(fixture, 0, sb), 0);
		assert_in_range(le64_to_cpu(sb->epoch), first - 2, first);
		for (i = 0; i < 5; i++)
			if (mask >> i & 1)
				spoil(fixture, 0, slots[i]);
	}
	for (i = 0; i < 5; i++)
		spoil(fixture, 0, slots[i]);
	assert_int_equal(super_read(fixture, 0, sb), -EBADMSG);
	dynmap_block_free(sb);
}

static void test_empty_foreign_and_unknown(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_disk_super *sb = dynmap_block_alloc();
	u8 *home = store_mem_block(&fixture->mem, 0, 0);

	fixture_close(fixture);
	assert_int_equal(super_read(fixture, 0, sb), 0);
	/* Something else over the home slot alone. */
	memset(home, 0x5a, DYNMAP_BLOCK_BYTES);
	assert_int_equal(super_read(fixture, 0, sb), 0);
	/* The same on a device that has become longer. */
	store_mem_grow(&fixture->mem, 0, 6100);
	home = store_mem_block(&fixture->mem, 0, 0);
	memset(store_mem_block(&fixture->mem, 0, 6099), 0x5a, DYNMAP_BLOCK_BYTES);
	assert_int_equal(super_read(fixture, 0, sb), 0);
	/* A file system: what lies behind it does not count. */
	memset(home, 0x5a, 2 * DYNMAP_BLOCK_BYTES);
	assert_int_equal(super_read(fixture, 0, sb), -ENOMSG);
	memset(fixture->mem.cache[0], 0, fixture->mem.blocks[0] * DYNMAP_BLOCK_BYTES);
	assert_int_equal(super_read(fixture, 0, sb), -ENODATA);
	assert_int_equal(dynmap_super_read(&fixture->mem.store, 0, 500, sb), -ENOSPC);
	dynmap_block_free(sb);
}

/* Nothing is left of the front of a device: its backup and the other device tell. */
static void test_other_devices_vouch(void **state)
{
	static struct dynmap_disk_super supers[DYNMAP_MAX_DEVICES];
	struct fixture *fixture = *state;
	struct store_mem *mem = &fixture->mem;
	int errors[DYNMAP_MAX_DEVICES];

	fixture_close(fixture);
	memset(mem->cache[1], 0x5a, 100 * DYNMAP_BLOCK_BYTES);
	assert_true(dynmap_super_scan(&mem->store, 2, mem->blocks, supers, errors) == 0);
	assert_int_equal(errors[1], 0);
	assert_int_equal(le32_to_cpu(supers[1].this_device), 1);
	assert_int_equal(fixture_open(fixture, false), 0);
	fixture_close(fixture);
	/* Opening wrote it anew: now it speaks for itself. */
	assert_int_equal(super_read(fixture, 1, supers), 0);
	memset(mem->cache[1], 0x5a, 100 * DYNMAP_BLOCK_BYTES);
	mem->cache[0][100] ^= 1;
	assert_int_equal(dynmap_super_scan(&mem->store, 2, mem->blocks, supers, errors), 0);
	/* A device of another pool does not vouch. */
	memset(mem->cache[0], 0, mem->blocks[0] * DYNMAP_BLOCK_BYTES);
	assert_int_equal(dynmap_super_scan(&mem->store, 2, mem->blocks, supers, errors), -ENODATA);
	assert_int_equal(errors[0], -ENODATA);
	assert_int_equal(errors[1], -ENOMSG);
}

/* Each field that is bounded: one bad value, refused, the crc being right. */
static void test_bad_fields_are_refused(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_disk_super *sb = dynmap_block_alloc(), *bad = dynmap_block_alloc();
	struct {
		size_t at, bytes;
		u64 value;
		int error;
	} field[] = {
#define FIELD(name, to, error) \
	{ offsetof(struct dynmap_disk_super, name), sizeof(sb->name), to, error }
		FIELD(version, 2, -EOPNOTSUPP),
		FIELD(incompat, 1, -EOPNOTSUPP),
		FIELD(nr_devices, 0, -EUCLEAN),
		FIELD(nr_devices, 49, -EUCLEAN),
		FIELD(this_device, 2, -EUCLEAN),
		FIELD(alloc_blocks, 0, -EUCLEAN),
		FIELD(alloc_blocks, 3, -EUCLEAN),
		FIELD(alloc_blocks, 1 << 19, -EUCLEAN),
		FIELD(copies, 0, -EUCLEAN),
		FIELD(copies, 3, -EUCLEAN),
		FIELD(journal_blocks, 31, -EUCLEAN),
		FIELD(journal_blocks, 1 << 20, -EUCLEAN),
		FIELD(journal_devices, 0, -EUCLEAN),
		FIELD(journal_devices, 3, -EUCLEAN),
		FIELD(next_reap_id, 5, -EUCLEAN),
		FIELD(next_reap_id, (1ULL << 32) + 1, -EUCLEAN),
		FIELD(next_reap_id, 1ULL << 32, 0),
		FIELD(epoch, ~0ULL, -EUCLEAN),
		FIELD(device[1].blocks, 80000, -EUCLEAN),
		FIELD(device[1].blocks, ~0ULL, -EUCLEAN),
		FIELD(device[0].data_start, 5, -EUCLEAN),
		FIELD(device[0].slots, 2, -EUCLEAN),
		FIELD(device[1].flags, 1, -EUCLEAN),
		FIELD(label[1], '\n', -EUCLEAN),
		FIELD(compat, ~0ULL, 0),
#undef FIELD
	};
	u32 i;

	assert_int_equal(super_read(fixture, 0, sb), 0);
	for (i = 0; i < ARRAY_SIZE(field); i++) {
		u32 crc;
		__le32 sealed;

		memcpy(bad, sb, sizeof(*bad));
		memcpy((u8 *)bad + field[i].at, &field[i].value, field[i].bytes);
		assert_int_equal(dynmap_super_verify(bad), -EBADMSG);
		bad->crc = 0;
		crc = ~crc32c(~0U, (u8 *)bad, sizeof(*bad));
		sealed = cpu_to_le32(crc);
		bad->crc = sealed;
		assert_int_equal(dynmap_super_verify(bad), field[i].error);
	}
	dynmap_block_free(sb);
	dynmap_block_free(bad);
}

/* Write @sb as a superblock of device 0, with a good checksum, to a slot. */
static void put_super(struct fixture *fixture, struct dynmap_disk_super *sb, u64 slot)
{
	sb->crc = 0;
	sb->crc = cpu_to_le32(~crc32c(~0U, sb, sizeof(*sb)));
	memcpy(store_mem_block(&fixture->mem, 0, slot), sb, sizeof(*sb));
	memcpy(fixture->mem.stable[0] + slot * DYNMAP_BLOCK_BYTES, sb, sizeof(*sb));
}

/* One that is newer and not understood wins over all that are: no step back in time. */
static void test_newer_is_not_skipped(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_disk_super *sb = dynmap_block_alloc();
	u64 slot;

	fixture_close(fixture);
	assert_int_equal(super_read(fixture, 0, sb), 0);
	slot = DYNMAP_SB_SLOT_FIRST + (le64_to_cpu(sb->epoch) + 1) % DYNMAP_SB_SLOTS;
	sb->epoch = cpu_to_le64(le64_to_cpu(sb->epoch) + 1);
	sb->incompat = cpu_to_le64(1ULL << 40);
	put_super(fixture, sb, slot);
	assert_int_equal(super_read(fixture, 0, sb), -EOPNOTSUPP);
	assert_int_equal(fixture_open(fixture, false), -EOPNOTSUPP);
	assert_int_equal(fixture_open(fixture, true), -EOPNOTSUPP);
	sb->incompat = 0;
	sb->version = cpu_to_le32(DYNMAP_FORMAT_VERSION + 1);
	put_super(fixture, sb, slot);
	assert_int_equal(fixture_open(fixture, false), -EOPNOTSUPP);
	sb->version = cpu_to_le32(DYNMAP_FORMAT_VERSION);
	sb->copies = cpu_to_le32(9);
	put_super(fixture, sb, slot);
	assert_int_equal(fixture_open(fixture, false), -EUCLEAN);
	/* An older one does not matter. */
	sb->epoch = cpu_to_le64(1);
	put_super(fixture, sb, slot);
	assert_int_equal(fixture_open(fixture, false), 0);
	dynmap_block_free(sb);
}

static void test_features_for_reading(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_disk_super *sb = dynmap_block_alloc();
	u64 writes;

	fixture_close(fixture);
	assert_int_equal(super_read(fixture, 0, sb), 0);
	sb->ro_compat = cpu_to_le64(2);
	put_super(fixture, sb, DYNMAP_SB_SLOT_FIRST + le64_to_cpu(sb->epoch) % DYNMAP_SB_SLOTS);
	put_super(fixture, sb, 0);
	writes = fixture->mem.writes;
	assert_int_equal(fixture_open(fixture, false), -EROFS);
	assert_int_equal(fixture_open(fixture, true), 0);
	assert_int_equal(fixture->mem.writes, writes);
	dynmap_block_free(sb);
}

/* What scan says of a device. */
static int verdict(struct fixture *fixture, u32 dev)
{
	static struct dynmap_disk_super supers[DYNMAP_MAX_DEVICES];
	int errors[DYNMAP_MAX_DEVICES];

	dynmap_super_scan(&fixture->mem.store, fixture->mem.nr_devs, fixture->mem.blocks, supers,
			  errors);
	return errors[dev];
}

/* A copy of a device that missed openings, whichever device, is found out. */
static void test_stale_members(void **state)
{
	struct fixture *fixture = *state;
	const u64 blocks[] = { 2000, 2000, 2000, 0 };
	u8 *old[3], *new[3];
	u32 dev, i;

	fixture_exit(fixture);
	fixture_init(fixture, blocks, 16, 2);
	assert_int_equal(fixture_write(fixture, fixture_create(fixture, 1), 0, 30, 1), 0);
	assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), 0);
	fixture_close(fixture);
	for (dev = 0; dev < 3; dev++) {
		old[dev] = malloc(2000 * DYNMAP_BLOCK_BYTES);
		new[dev] = malloc(2000 * DYNMAP_BLOCK_BYTES);
		memcpy(old[dev], fixture->mem.cache[dev], 2000 * DYNMAP_BLOCK_BYTES);
	}
	for (i = 0; i < 2; i++) {
		assert_int_equal(fixture_open(fixture, false), 0);
		assert_int_equal(dynmap_pool_commit(&fixture->pool), 0);
		fixture_close(fixture);
		for (dev = 0; dev < 3; dev++) {
			assert_int_equal(verdict(fixture, dev), 0);
			memcpy(new[dev], fixture->mem.cache[dev], 2000 * DYNMAP_BLOCK_BYTES);
			memcpy(fixture->mem.cache[dev], old[dev], 2000 * DYNMAP_BLOCK_BYTES);
			assert_int_equal(verdict(fixture, dev), -ESTALE);
			assert_int_equal(verdict(fixture, (dev + 1) % 3), 0);
			memcpy(fixture->mem.cache[dev], new[dev], 2000 * DYNMAP_BLOCK_BYTES);
		}
	}
	/* Two histories of one pool: the device of the other one, with a higher epoch even. */
	memcpy(new[2], fixture->mem.cache[2], 2000 * DYNMAP_BLOCK_BYTES);
	for (dev = 0; dev < 3; dev++)
		memcpy(fixture->mem.cache[dev], old[dev], 2000 * DYNMAP_BLOCK_BYTES);
	assert_int_equal(fixture_open(fixture, false), 0);
	for (i = 0; i < 20; i++)
		assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), 0);
	fixture_close(fixture);
	memcpy(fixture->mem.cache[2], new[2], 2000 * DYNMAP_BLOCK_BYTES);
	assert_int_equal(verdict(fixture, 2), -ESTALE);
	for (dev = 0; dev < 3; dev++) {
		free(old[dev]);
		free(new[dev]);
	}
}

/* Openings that a power cut ends leave no device that is taken for stale. */
static void test_cut_openings(void **state)
{
	struct fixture *fixture = *state;
	const u64 blocks[] = { 1100, 1100, 1100, 1100, 0 };
	u32 dev, round;
	u64 lives;

	for (lives = 1; lives < 60; lives++) {
		fixture_exit(fixture);
		fixture_init(fixture, blocks, 4, 2);
		fixture_close(fixture);
		for (round = 0; round < 3; round++) {
			fixture->mem.lives = lives + round;
			if (!fixture_open(fixture, false))
				fixture_close(fixture);
			store_mem_power_cut(&fixture->mem, fixture_random);
			for (dev = 0; dev < 4; dev++)
				assert_int_equal(verdict(fixture, dev), 0);
		}
		assert_int_equal(fixture_open(fixture, false), 0);
		fixture_close(fixture);
		for (dev = 0; dev < 4; dev++)
			assert_int_equal(verdict(fixture, dev), 0);
	}
}

static void test_format_refuses(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_format_params params = {
		.nr_devs = 2, .dev_blocks = { 6000, 9000 }, .alloc_blocks = 16, .copies = 2,
	};
	u64 writes = fixture->mem.writes;

	params.alloc_blocks = 12;
	assert_int_equal(dynmap_pool_format(&fixture->mem.store, &params), -EINVAL);
	params.alloc_blocks = 16;
	params.copies = 3;
	assert_int_equal(dynmap_pool_format(&fixture->mem.store, &params), -EINVAL);
	params.copies = 2;
	params.nr_devs = 0;
	assert_int_equal(dynmap_pool_format(&fixture->mem.store, &params), -EINVAL);
	params.nr_devs = 2;
	params.dev_blocks[1] = 1023;
	assert_int_equal(dynmap_pool_format(&fixture->mem.store, &params), -ENOSPC);
	assert_int_equal(fixture->mem.writes, writes);
}

static void test_reopen_counts_the_same(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_volume *volume = fixture_create(fixture, 1);
	struct dynmap_alloc *alloc = &fixture->pool.alloc;
	u64 data, meta, i;

	for (i = 0; i < 300; i++)
		assert_int_equal(fixture_write(fixture, volume, i * 17, 3, i + 1), 0);
	assert_int_equal(fixture_unmap(fixture, volume, 100, 900), 0);
	fixture_check(fixture);
	data = alloc->data_allocated;
	meta = alloc->meta_allocated;
	fixture_close(fixture);
	assert_int_equal(fixture_open(fixture, true), 0);
	assert_int_equal(alloc->data_allocated, data);
	assert_int_equal(alloc->meta_allocated, meta);
}

static void test_read_only_writes_nothing(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_volume *volume = fixture_create(fixture, 1);
	u64 writes;

	assert_int_equal(fixture_write(fixture, volume, 5, 1, 55), 0);
	assert_int_equal(dynmap_pool_commit(&fixture->pool), 0);
	fixture_close(fixture);
	writes = fixture->mem.writes;
	assert_int_equal(fixture_open(fixture, true), 0);
	assert_true(fixture->pool.replayed > 0);
	assert_int_equal(fixture_read(fixture, fixture_load(fixture, 1), 5), 55);
	fixture_close(fixture);
	assert_int_equal(fixture->mem.writes, writes);
}

/* Recovery is idempotent: cut it at every write, the content is the same. */
static void test_cuts_during_recovery(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_volume *volume = fixture_create(fixture, 1);
	u64 i, lives;

	for (i = 0; i < 40; i++)
		assert_int_equal(fixture_write(fixture, volume, i * 20, 2, i + 1), 0);
	assert_int_equal(dynmap_pool_commit(&fixture->pool), 0);
	fixture_close(fixture);
	for (lives = 1; ; lives++) {
		fixture->mem.lives = lives;
		if (!fixture_open(fixture, false))
			break;
		store_mem_power_cut(&fixture->mem, fixture_random);
	}
	assert_true(lives > 5);
	fixture->mem.lives = 0;
	volume = fixture_load(fixture, 1);
	for (i = 0; i < 40; i++)
		assert_int_equal(fixture_read(fixture, volume, i * 20 + 1), i + 1);
	fixture_check(fixture);
}

static void test_failed_checkpoint_is_sticky(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_volume *volume = fixture_create(fixture, 1);

	assert_int_equal(fixture_write(fixture, volume, 5, 1, 55), 0);
	assert_int_equal(dynmap_pool_commit(&fixture->pool), 0);
	fixture->mem.fail_write = 1;
	assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), -EIO);
	assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), -EROFS);
	assert_int_equal(fixture_write(fixture, volume, 100, 1, 1), -EROFS);
	fixture_close(fixture);
	assert_int_equal(fixture_open(fixture, false), 0);
	assert_int_equal(fixture_read(fixture, fixture_load(fixture, 1), 5), 55);
	fixture_check(fixture);
}

/*
 * A flush or a journal write that failed may have lost data that the map leads to by now:
 * no checkpoint makes the map durable afterwards, nor is one due again and again.
 */
static void failed_commit(struct fixture *fixture, u64 *countdown)
{
	struct dynmap_volume *volume = fixture_create(fixture, 1);
	u64 writes, flushes;

	assert_int_equal(fixture_write(fixture, volume, 5, 1, 55), 0);
	assert_int_equal(dynmap_pool_commit(&fixture->pool), 0);
	assert_int_equal(fixture_write(fixture, volume, 90, 1, 56), 0);
	*countdown = 1;
	assert_int_equal(dynmap_pool_commit(&fixture->pool), -EIO);
	assert_true(fixture->pool.failed);
	writes = fixture->mem.writes;
	flushes = fixture->mem.flushes;
	assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), -EROFS);
	assert_int_equal(dynmap_pool_commit(&fixture->pool), -EIO);
	assert_int_equal(fixture->mem.writes, writes);
	assert_int_equal(fixture->mem.flushes, flushes);
	fixture_close(fixture);
	store_mem_power_cut(&fixture->mem, fixture_random);
	assert_int_equal(fixture_open(fixture, false), 0);
	assert_int_equal(fixture_read(fixture, fixture_load(fixture, 1), 5), 55);
	fixture_check(fixture);
}

static void test_failed_journal_write_is_sticky(void **state)
{
	struct fixture *fixture = *state;

	failed_commit(fixture, &fixture->mem.fail_write);
}

static void test_failed_flush_is_sticky(void **state)
{
	struct fixture *fixture = *state;

	failed_commit(fixture, &fixture->mem.fail_flush);
}

/* Open with the n-th read failing, for every n: an error or the right content. */
static void test_read_errors_at_opening(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_volume *volume = fixture_create(fixture, 1);
	u32 opened = 0, n;
	u64 reads;

	assert_int_equal(fixture_write(fixture, volume, 5, 1, 55), 0);
	assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), 0);
	assert_int_equal(fixture_write(fixture, volume, 500, 1, 56), 0);
	assert_int_equal(dynmap_pool_commit(&fixture->pool), 0);
	fixture_close(fixture);
	reads = fixture->mem.reads;
	assert_int_equal(fixture_open(fixture, true), 0);
	reads = fixture->mem.reads - reads;
	fixture_close(fixture);
	for (n = 1; n <= reads; n++) {
		fixture->mem.fail_read = n;
		if (fixture_open(fixture, true))
			continue;
		volume = fixture_load(fixture, 1);
		assert_int_equal(fixture_read(fixture, volume, 5), 55);
		assert_int_equal(fixture_read(fixture, volume, 500), 56);
		fixture_close(fixture);
		opened++;
	}
	/* There are two copies of everything. */
	assert_int_equal(opened, reads);
}

/* Fill the pool, return the blocks that went in. */
static u64 fill(struct fixture *fixture, struct dynmap_volume *volume, u64 *lbn)
{
	u64 count = 0;

	while (!fixture_write(fixture, volume, *lbn, 1, *lbn + 1)) {
		++*lbn;
		count++;
	}
	return count;
}

static void test_growth_gives_its_blocks(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_volume *volume = fixture_create(fixture, 1);
	const u64 sizes[] = { 6001, 6256, 7000, 66000, 140000 };
	u64 lbn = 0, i, before;

	before = fill(fixture, volume, &lbn);
	assert_in_range(before, 4000, 6000);
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		u64 added = sizes[i] - fixture->mem.blocks[0];

		store_mem_grow(&fixture->mem, 0, sizes[i]);
		assert_int_equal(fixture_grow(fixture), 0);
		assert_int_equal(fixture_grow(fixture), 0);	/* nothing left to do */
		before = fill(fixture, volume, &lbn);
		/* In whole zones; a few blocks were owed. */
		if (added > 500)
			assert_in_range(before, added * 9 / 10 - 100 - 255, added + 255);
		else
			assert_true(before <= added + 255 + 10);
		fixture_check(fixture);
		fixture_close(fixture);
		assert_int_equal(fixture_open(fixture, false), 0);
		volume = fixture_load(fixture, 1);
		fixture_check(fixture);
	}
	for (i = 0; i < lbn; i += 7)
		assert_int_equal(fixture_read(fixture, volume, i), i + 1);
}

/* The home slot is torn at the next opening: slots from before a growth do not count. */
static void test_home_is_torn_after_growth(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_disk_super *sb = dynmap_block_alloc();
	u64 blocks, before = fixture->mem.blocks[0];

	fixture_create(fixture, 1);
	/* The newest superblock lies in each of the slots once. */
	for (blocks = 7000; blocks < 7000 + 256 * DYNMAP_SB_SLOTS; blocks += 256) {
		store_mem_grow(&fixture->mem, 0, blocks);
		assert_int_equal(fixture_grow(fixture), 0);
		fixture_close(fixture);
		/* Where the backup was there is data now. */
		memset(store_mem_block(&fixture->mem, 0, before - 1), 0x5a, DYNMAP_BLOCK_BYTES);
		before = blocks;
		memset(store_mem_block(&fixture->mem, 0, 0), 0x5a, DYNMAP_BLOCK_BYTES);
		assert_int_equal(super_read(fixture, 0, sb), 0);
		assert_int_equal(le64_to_cpu(sb->device[0].blocks), blocks);
		assert_int_equal(fixture_open(fixture, false), 0);
		assert_int_equal(fixture->pool.cache.healed, 1);
	}
	dynmap_block_free(sb);
}

/* The power fails after @lives writes of an opening with a bad slot: did it get so far? */
static bool cut_while_opening(struct fixture *fixture, u64 slot, u64 lives)
{
	struct dynmap_disk_super *home = dynmap_block_alloc(), *now;
	bool cut;

	memcpy(home, store_mem_block(&fixture->mem, 0, DYNMAP_SB_HOME), sizeof(*home));
	spoil(fixture, 0, slot);
	fixture->mem.lives = lives;
	cut = fixture_open(fixture, false);
	fixture->mem.lives = 0;
	if (cut) {
		store_mem_power_cut(&fixture->mem, fixture_random);
		now = store_mem_block(&fixture->mem, 0, DYNMAP_SB_HOME);
		/* If it is another one it was not yet durable, and may have been torn. */
		if (memcmp(home, now, sizeof(*home)))
			memset(now, 0x5a, sizeof(*now));
		assert_int_equal(super_read(fixture, 0, home), 0);
		assert_int_equal(fixture_open(fixture, false), 0);
	}
	fixture_close(fixture);
	dynmap_block_free(home);
	return cut;
}

/* A slot was torn by one power cut, and the home slot by the next one, in the opening. */
static void test_torn_slots_are_mended_first(void **state)
{
	struct fixture *fixture = *state;
	u64 slots[] = { 1, 2, 3, fixture->mem.blocks[0] - 1 }, lives;
	u32 i;

	fixture_create(fixture, 1);
	fixture_close(fixture);
	for (i = 0; i < ARRAY_SIZE(slots); i++) {
		for (lives = 1; cut_while_opening(fixture, slots[i], lives); lives++)
			assert_true(lives < 100);
		assert_true(lives > 3);
	}
	assert_int_equal(fixture_open(fixture, false), 0);
}

static void test_devices_are_added(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_volume *volume = fixture_create(fixture, 1);
	u64 lbn = 0, i;

	fill(fixture, volume, &lbn);
	for (i = 1; i < 5; i++) {
		store_mem_grow(&fixture->mem, i, 6000 * i);
		assert_int_equal(fixture_grow(fixture), 0);
		assert_int_equal(fixture->pool.journal.nr_devs, i + 1);
		assert_in_range(fill(fixture, volume, &lbn), 5700 * i, 6000 * i);
		fixture_check(fixture);
	}
	fixture_close(fixture);
	assert_int_equal(fixture_open(fixture, false), 0);
	volume = fixture_load(fixture, 1);
	for (i = 0; i < lbn; i += 7)
		assert_int_equal(fixture_read(fixture, volume, i), i + 1);
}

static bool is_busy(struct fixture *fixture, u64 pbn)
{
	const struct dynmap_seg *seg = dynmap_space_seg_of(&fixture->pool.alloc.space, pbn);
	u32 index = dynmap_pbn_index(pbn);

	return seg->busy[index / 64] >> (index % 64) & 1;
}

/* A flush of a checkpoint that failed may have lost data: no commit beside it has another one. */
static void test_no_commit_after_a_failed_flush(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_pool *pool = &fixture->pool;
	u64 flushes;

	fixture_create(fixture, 1);
	assert_int_equal(fixture_write(fixture, fixture_load(fixture, 1), 0, 1, 1), 0);
	assert_int_equal(HELPED(fixture, dynmap_pool_checkpoint_begin(pool, &op)), 0);
	flushes = fixture->mem.flushes;
	assert_int_equal(dynmap_pool_checkpoint_io(pool), 0);
	assert_int_equal(fixture->mem.flushes, flushes);
	fixture->mem.fail_flush = 1;
	assert_int_equal(dynmap_pool_checkpoint_publish(pool), -EIO);
	assert_false(dynmap_pool_checkpoint_end(pool, -EIO));
	assert_int_equal(dynmap_pool_commit(pool), -EIO);
}

/* A deletion that a checkpoint sealed, and did not make durable, lets nobody overwrite. */
static void test_failed_checkpoint_unshares_nothing(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_pool *pool = &fixture->pool;
	u8 uuid[DYNMAP_UUID_BYTES] = { 9 };
	struct dynmap_mapping mapping;

	assert_int_equal(fixture_write(fixture, fixture_create(fixture, 1), 0, 1, 5), 0);
	assert_int_equal(HELPED(fixture, dynmap_volume_snapshot(&pool->table, 2, 1, uuid, 0, &op)),
			 0);
	assert_int_equal(dynmap_pool_checkpoint(pool), 0);
	assert_int_equal(HELPED(fixture, dynmap_volume_delete(&pool->table, 2, &op)), 0);
	assert_int_equal(HELPED(fixture, dynmap_pool_checkpoint_begin(pool, &op)), 0);
	fixture->mem.fail_write = 1;
	assert_int_equal(dynmap_pool_checkpoint_io(pool), -EIO);
	assert_false(dynmap_pool_checkpoint_end(pool, -EIO));
	dynmap_table_unload(&pool->table);
	assert_int_equal(HELPED(fixture, dynmap_table_lookup(fixture_load(fixture, 1), 0, &mapping,
							     &op)), 0);
	assert_true(mapping.shared);
	fixture_close(fixture);
	assert_int_equal(fixture_open(fixture, false), 0);
	assert_int_equal(fixture_read(fixture, fixture_load(fixture, 2), 0), 5);
}

/* Rule 4: the place of a node of the last checkpoint is kept until the next one is durable. */
/* After a power cut blocks 0 and 1 hold these values; the pool is opened again. */
static void expect_after_cut(struct fixture *fixture, u64 first, u64 second)
{
	struct dynmap_volume *volume;

	fixture_close(fixture);
	assert_int_equal(fixture_open(fixture, false), 0);
	volume = fixture_load(fixture, 1);
	assert_int_equal(fixture_read(fixture, volume, 0), first);
	assert_int_equal(fixture_read(fixture, volume, 1), second);
	fixture_check(fixture);
}

/*
 * A commit is made while a checkpoint is written, and the power fails before the superblock
 * (@cut is 0), after it (1), or after the checkpoint's end (2): what changed before the
 * checkpoint and after it is there.
 */
static void commit_beside(struct fixture *fixture, u32 cut)
{
	struct dynmap_pool *pool = &fixture->pool;
	u64 tail, value = 10 * cut;

	assert_int_equal(fixture_write(fixture, fixture_load(fixture, 1), 0, 1, value + 1), 0);
	tail = pool->journal.tail;
	assert_int_equal(HELPED(fixture, dynmap_pool_checkpoint_begin(pool, &op)), 0);
	assert_int_equal(fixture_unmap(fixture, fixture_load(fixture, 1), 1, 2), 0);
	assert_int_equal(fixture_write(fixture, fixture_load(fixture, 1), 1, 1, value + 2), 0);
	assert_int_equal(dynmap_pool_commit(pool), 0);
	assert_int_equal(dynmap_pool_checkpoint_io(pool), 0);
	assert_int_equal(pool->journal.tail, tail);
	if (cut)
		assert_int_equal(dynmap_pool_checkpoint_publish(pool), 0);
	if (cut == 2)
		while (dynmap_pool_checkpoint_end(pool, 0))
			;
	expect_after_cut(fixture, value + 1, value + 2);
}

static void test_commits_beside_a_checkpoint(void **state)
{
	struct fixture *fixture = *state;
	u32 cut;

	fixture_create(fixture, 1);
	for (cut = 0; cut < 3; cut++)
		commit_beside(fixture, cut);
}

/* What a flush that failed was to cover may be lost: the nodes that map it are not published. */
static void test_no_checkpoint_after_a_failed_commit(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_pool *pool = &fixture->pool;

	fixture_create(fixture, 1);
	assert_int_equal(dynmap_pool_checkpoint(pool), 0);
	assert_int_equal(fixture_write(fixture, fixture_load(fixture, 1), 0, 1, 1), 0);
	assert_int_equal(HELPED(fixture, dynmap_pool_checkpoint_begin(pool, &op)), 0);
	fixture->mem.fail_flush = 1;
	assert_int_equal(dynmap_pool_commit(pool), -EIO);
	fixture->mem.fail_flush = 0;
	assert_int_equal(dynmap_pool_checkpoint_io(pool), 0);
	assert_int_equal(dynmap_pool_checkpoint_publish(pool), -EIO);
	assert_false(dynmap_pool_checkpoint_end(pool, -EIO));
	fixture_close(fixture);
	assert_int_equal(fixture_open(fixture, false), 0);
	assert_int_equal(fixture_read(fixture, fixture_load(fixture, 1), 0), 0);
	fixture_check(fixture);
}

static void test_old_nodes_keep_their_places(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_pool *pool = &fixture->pool;
	struct dynmap_ptr old;

	fixture_create(fixture, 1);
	assert_int_equal(dynmap_pool_checkpoint(pool), 0);
	old = pool->table.volumes.root;
	fixture_create(fixture, 2);
	assert_int_not_equal(pool->table.volumes.root.pbn[0], old.pbn[0]);
	assert_int_equal(HELPED(fixture, dynmap_alloc_drain(&pool->alloc, &op)), 0);
	assert_true(is_busy(fixture, old.pbn[0]) && is_busy(fixture, old.pbn[1]));
	assert_int_equal(HELPED(fixture, dynmap_pool_checkpoint_begin(pool, &op)), 0);
	assert_true(is_busy(fixture, old.pbn[0]) && is_busy(fixture, old.pbn[1]));
	assert_int_equal(dynmap_pool_checkpoint_io(pool), 0);
	assert_true(is_busy(fixture, old.pbn[0]) && is_busy(fixture, old.pbn[1]));
	assert_int_equal(dynmap_pool_checkpoint_publish(pool), 0);
	assert_true(is_busy(fixture, old.pbn[0]) && is_busy(fixture, old.pbn[1]));
	while (dynmap_pool_checkpoint_end(pool, 0))
		;
	assert_false(is_busy(fixture, old.pbn[0]) || is_busy(fixture, old.pbn[1]));
}

/* In the middle of a growth nothing goes to what is not yet there, whatever the goal. */
static void test_allocating_while_growing(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_pool *pool = &fixture->pool;
	u8 uuid[DYNMAP_UUID_BYTES] = { 1 };
	struct dynmap_growth growth;
	const u64 full[] = { 66305, 0 };	/* one whole segment */
	u64 grown = 200000, pbn;
	u32 len;

	fixture_exit(fixture);
	fixture_init(fixture, full, 16, 2);
	assert_int_equal(dynmap_segment_blocks(&pool->geo, 0), DYNMAP_SEGMENT_BLOCKS);
	store_mem_grow(&fixture->mem, 0, grown);
	assert_int_equal(dynmap_growth_prepare(&growth, pool, 1, &grown, uuid), 0);
	assert_int_equal(dynmap_growth_begin(&growth, pool), 0);
	assert_int_equal(HELPED(fixture, dynmap_alloc_data(&pool->alloc, dynmap_segment_pbn(1), 16,
							   &pbn, &len, &op)), 0);
	assert_int_equal(dynmap_pbn_segment(pbn), 0);
	dynmap_growth_exit(&growth);
}

/* Blocks in quarantine are a reason to make a commit, which ends it, though nothing is dirty. */
static void test_quarantine_is_a_change(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_pool *pool = &fixture->pool;
	struct dynmap_volume *volume = fixture_create(fixture, 1);
	int ret;

	assert_int_equal(fixture_write(fixture, volume, 0, 16, 1), 0);
	assert_int_equal(fixture_unmap(fixture, volume, 0, 16), 0);
	dynmap_pool_commit_begin(pool);
	ret = dynmap_pool_commit_io(pool);
	dynmap_pool_commit_end(pool, ret);
	assert_int_equal(ret, 0);
	assert_int_equal(HELPED(fixture, dynmap_pool_checkpoint_begin(pool, &op)), 0);
	assert_int_equal(dynmap_pool_checkpoint_io(pool), 0);
	assert_int_equal(dynmap_pool_checkpoint_publish(pool), 0);
	while (dynmap_pool_checkpoint_end(pool, 0))
		;
	assert_int_equal(pool->cache.nr_dirty, 0);
	assert_int_equal(pool->alloc.quarantine.blocks, 16);
	assert_true(dynmap_pool_is_changed(pool));
	assert_int_equal(dynmap_pool_commit(pool), 0);
	assert_false(dynmap_pool_is_changed(pool));
}

/* A device that is about to join is older than the others, wherever it stands. */
static void test_announced_is_not_the_newest(void **state)
{
	static struct dynmap_disk_super sb[2];
	struct fixture *fixture = *state;
	struct dynmap_pool *pool = &fixture->pool;
	u8 uuid[2][DYNMAP_UUID_BYTES] = { { 1 }, { 2 } };
	const u64 blocks[] = { 6000, 5000 };
	struct dynmap_growth growth;
	u32 dev;

	store_mem_grow(&fixture->mem, 1, blocks[1]);
	assert_int_equal(dynmap_growth_prepare(&growth, pool, 2, blocks, uuid[0]), 0);
	assert_int_equal(dynmap_growth_begin(&growth, pool), 0);
	assert_int_equal(dynmap_growth_announce(&growth, pool), 0);
	for (dev = 0; dev < 2; dev++)
		assert_int_equal(dynmap_super_read(&fixture->mem.store, dev, blocks[dev], &sb[dev]),
				 0);
	assert_true(le64_to_cpu(sb[1].epoch) < le64_to_cpu(sb[0].epoch));
	assert_int_equal(le64_to_cpu(pool->super->epoch), le64_to_cpu(sb[0].epoch));
	assert_false(dynmap_growth_undo(&growth, pool));
	dynmap_growth_exit(&growth);
	fixture_check(fixture);
}

static void test_growth_refuses(void **state)
{
	struct fixture *fixture = *state;
	u8 uuid[3][DYNMAP_UUID_BYTES] = {};
	u64 blocks[3] = { 6000, 6000, 500 }, writes = fixture->mem.writes;

	assert_int_equal(dynmap_pool_grow(&fixture->pool, 1, blocks, uuid[0]), -EINVAL);
	assert_int_equal(dynmap_pool_grow(&fixture->pool, 3, blocks, uuid[0]), -ENOSPC);
	blocks[2] = 1ULL << 40;
	assert_int_equal(dynmap_pool_grow(&fixture->pool, 3, blocks, uuid[0]), -EFBIG);
	blocks[1] = 5999;
	assert_int_equal(dynmap_pool_grow(&fixture->pool, 2, blocks, uuid[0]), -EINVAL);
	assert_int_equal(fixture->mem.writes, writes);
}

/* Cut the power at every write of a growth: the pool opens, old or grown. */
static void test_cuts_during_growth(void **state)
{
	struct fixture *fixture = *state;
	struct dynmap_volume *volume;
	bool grown = false;
	const u64 blocks[] = { 6000, 0 };
	u32 seen = 0, nr;
	u64 lives;

	for (lives = 1; !grown; lives++) {
		fixture_exit(fixture);
		fixture_init(fixture, blocks, 16, 2);
		volume = fixture_create(fixture, 1);
		assert_int_equal(fixture_write(fixture, volume, 7, 3, 70), 0);
		assert_int_equal(dynmap_pool_commit(&fixture->pool), 0);
		store_mem_grow(&fixture->mem, 0, 80000);
		store_mem_grow(&fixture->mem, 1, 9000);
		fixture->mem.lives = lives;
		grown = !fixture_grow(fixture);
		fixture_close(fixture);
		store_mem_power_cut(&fixture->mem, fixture_random);
		/* Open with the devices that the newest superblock asks for. */
		assert_int_equal(fixture_open(fixture, false), 0);
		nr = fixture->pool.geo.nr_devs;
		assert_in_range(nr, grown ? 2 : 1, 2);
		seen |= 1 << nr;
		volume = fixture_load(fixture, 1);
		assert_int_equal(fixture_read(fixture, volume, 9), 70);
		fixture_check(fixture);
	}
	assert_int_equal(seen, 1 << 1 | 1 << 2);
}

/* The pool works, and opens with those devices that it had before. */
static void verify_not_grown(struct fixture *fixture, u32 nr_devs)
{
	struct dynmap_volume *volume = fixture_load(fixture, 1);
	u32 all = fixture->mem.nr_devs;

	assert_false(fixture->pool.failed);
	assert_int_equal(fixture->pool.geo.nr_devs, nr_devs);
	assert_int_equal(fixture_write(fixture, volume, 300, 3, 80), 0);
	assert_int_equal(dynmap_pool_commit(&fixture->pool), 0);
	assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), 0);
	assert_int_equal(fixture_write(fixture, volume, 400, 3, 81), 0);
	assert_int_equal(dynmap_pool_commit(&fixture->pool), 0);
	fixture_close(fixture);
	store_mem_power_cut(&fixture->mem, fixture_random);
	fixture->mem.nr_devs = nr_devs;
	assert_int_equal(fixture_open(fixture, false), 0);
	assert_int_equal(fixture->pool.geo.nr_devs, nr_devs);
	volume = fixture_load(fixture, 1);
	assert_int_equal(fixture_read(fixture, volume, 9), 70);
	assert_int_equal(fixture_read(fixture, volume, 302), 80);
	assert_int_equal(fixture_read(fixture, volume, 402), 81);
	fixture_check(fixture);
	fixture->mem.nr_devs = all;
}

/* A pool of @nr_devs devices that is about to get a longer first one and one more. */
static void about_to_grow(struct fixture *fixture, u32 nr_devs)
{
	const u64 blocks[] = { 6000, nr_devs > 1 ? 6000 : 0, 0 };

	fixture_exit(fixture);
	fixture_init(fixture, blocks, 16, 2);
	assert_int_equal(fixture_write(fixture, fixture_create(fixture, 1), 7, 3, 70), 0);
	assert_int_equal(dynmap_pool_commit(&fixture->pool), 0);
	store_mem_grow(&fixture->mem, 0, 7000);
	store_mem_grow(&fixture->mem, nr_devs, 9000);
}

/* A new device dies at its n-th request, for every n: the pool stays what it was. */
static void new_device_dies(struct fixture *fixture, u32 nr_devs)
{
	int ret = -EIO;
	u64 n;

	for (n = 1; ret; n++) {
		about_to_grow(fixture, nr_devs);
		fixture->mem.dies[nr_devs] = n;
		ret = fixture_grow(fixture);
		if (!ret)
			break;
		assert_int_equal(ret, -EIO);
		verify_not_grown(fixture, nr_devs);
	}
	/* Zeros over its slots, a flush, and the superblocks. */
	assert_true(n > 12);
}

static void test_new_device_dies(void **state)
{
	new_device_dies(*state, 1);
	new_device_dies(*state, 2);
}

/* Nor does a failure of the pool's own devices leave it half grown. */
static void own_device_fails(struct fixture *fixture, u64 *(*countdown)(struct fixture *fixture))
{
	u32 kept = 0;
	u64 n;
	int ret;

	for (n = 1; n < 200; n++) {
		about_to_grow(fixture, 2);
		*countdown(fixture) = n;
		ret = fixture_grow(fixture);
		if (*countdown(fixture)) {
			assert_int_equal(ret, 0);
			break;
		}
		assert_int_equal(ret, -EIO);
		kept += !fixture->pool.failed;
		if (!fixture->pool.failed)
			verify_not_grown(fixture, 2);
	}
	assert_true(kept > 0 && n < 200);
}

static u64 *fail_write(struct fixture *fixture)
{
	return &fixture->mem.fail_write;
}

static u64 *fail_flush(struct fixture *fixture)
{
	return &fixture->mem.fail_flush;
}

static void test_growth_fails(void **state)
{
	own_device_fails(*state, fail_write);
	own_device_fails(*state, fail_flush);
}

/* Superblocks that another pool left on a device do not outlive its joining. */
static void test_growth_wipes(void **state)
{
	struct fixture *fixture = *state, other = {};
	struct dynmap_disk_super *sb = dynmap_block_alloc();
	const u64 blocks[] = { 9000, 0 };
	u32 slot;

	about_to_grow(fixture, 1);
	fixture_init(&other, blocks, 16, 2);
	for (slot = 0; slot < 3; slot++)
		assert_int_equal(dynmap_pool_checkpoint(&other.pool), 0);
	for (slot = 1; slot < 9000; slot++) {
		memcpy(store_mem_block(&fixture->mem, 1, slot),
		       store_mem_block(&other.mem, 0, slot), DYNMAP_BLOCK_BYTES);
		if (slot < DYNMAP_JOURNAL_FIRST || slot == 8999)
			((u8 *)store_mem_block(&fixture->mem, 1, slot))[81] ^= 0xff;
	}
	assert_int_equal(fixture_grow(fixture), 0);
	for (slot = 1; slot < DYNMAP_JOURNAL_FIRST; slot++) {
		memcpy(sb, store_mem_block(&fixture->mem, 1, slot), sizeof(*sb));
		assert_true(dynmap_block_is_zero(sb) || !dynmap_super_verify(sb));
	}
	dynmap_block_free(sb);
	fixture_exit(&other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FIXTURE_TEST(test_every_slot_may_be_lost_but_one, one),
		FIXTURE_TEST(test_empty_foreign_and_unknown, one),
		FIXTURE_TEST(test_other_devices_vouch, two),
		FIXTURE_TEST(test_bad_fields_are_refused, two),
		FIXTURE_TEST(test_newer_is_not_skipped, one),
		FIXTURE_TEST(test_features_for_reading, one),
		FIXTURE_TEST(test_stale_members, one),
		FIXTURE_TEST(test_cut_openings, one),
		FIXTURE_TEST(test_format_refuses, two),
		FIXTURE_TEST(test_reopen_counts_the_same, two),
		FIXTURE_TEST(test_read_only_writes_nothing, two),
		FIXTURE_TEST(test_cuts_during_recovery, one),
		FIXTURE_TEST(test_failed_checkpoint_is_sticky, one),
		FIXTURE_TEST(test_failed_journal_write_is_sticky, two),
		FIXTURE_TEST(test_failed_flush_is_sticky, two),
		FIXTURE_TEST(test_growth_gives_its_blocks, one),
		FIXTURE_TEST(test_home_is_torn_after_growth, one),
		FIXTURE_TEST(test_torn_slots_are_mended_first, one),
		FIXTURE_TEST(test_devices_are_added, one),
		FIXTURE_TEST(test_commits_beside_a_checkpoint, one),
		FIXTURE_TEST(test_no_checkpoint_after_a_failed_commit, two),
		FIXTURE_TEST(test_no_commit_after_a_failed_flush, two),
		FIXTURE_TEST(test_failed_checkpoint_unshares_nothing, one),
		FIXTURE_TEST(test_old_nodes_keep_their_places, two),
		FIXTURE_TEST(test_allocating_while_growing, one),
		FIXTURE_TEST(test_quarantine_is_a_change, one),
		FIXTURE_TEST(test_announced_is_not_the_newest, one),
		FIXTURE_TEST(test_growth_refuses, two),
		FIXTURE_TEST(test_cuts_during_growth, one),
		FIXTURE_TEST(test_new_device_dies, one),
		FIXTURE_TEST(test_growth_fails, one),
		FIXTURE_TEST(test_growth_wipes, one),
		FIXTURE_TEST(test_read_errors_at_opening, two),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
