// SPDX-License-Identifier: GPL-2.0-only
/*
 * Full pools: whatever filled them, and wherever the power fails, they open, deleting goes
 * on until they are empty, and the space comes back.
 */
#include <sys/wait.h>
#include <unistd.h>

#include "fixture.h"

/**
 * struct full - a pool full of single blocks
 * @fixture: the pool
 * @volume: its volume
 * @lbn: the blocks that are mapped, in random order
 * @count: how many
 */
struct full {
	struct fixture fixture;
	struct dynmap_volume *volume;
	u64 *lbn;
	u64 count;
};

/*
 * Every second block of a volume is written, each with a record of its own, from the last one
 * down: so each leaf stays half empty.
 */
static void fill(struct full *full, const u64 *blocks)
{
	u64 total = blocks[0] + blocks[1], i, at = 2 * total;

	memset(full, 0, sizeof(*full));
	fixture_init(&full->fixture, blocks, 1, 2);
	full->volume = fixture_create(&full->fixture, 0);
	full->lbn = calloc(total, sizeof(*full->lbn));
	while (!fixture_write(&full->fixture, full->volume, at -= 2, 1, 1)) {
		full->lbn[full->count] = at;
		if (!(++full->count % 1000))
			assert_int_equal(dynmap_pool_commit(&full->fixture.pool), 0);
	}
	assert_int_equal(dynmap_pool_commit(&full->fixture.pool), 0);
	assert_true(full->count > total * 9 / 10);
	for (i = full->count - 1; i; i--) {
		at = fixture_below(i + 1);
		swap(full->lbn[i], full->lbn[at]);
	}
}

static void empty(struct full *full)
{
	fixture_exit(&full->fixture);
	free(full->lbn);
}

/* Where blocks are written that were not mapped before. */
#define ANEW	(1ULL << 30)

/*
 * In a process of its own: the power fails, the pool opens, the @anew blocks written since it
 * was full are there, and what is left is discarded.
 */
static bool recovers(struct full *full, u64 from, u64 anew, bool all)
{
	struct fixture *fixture = &full->fixture;
	int status;
	u64 i;

	fflush(stdout);
	if (!fork()) {
		fixture->open = false;
		if (fixture_open(fixture, false))
			_exit(1);
		full->volume = fixture_load(fixture, 0);
		for (i = 0; i < anew; i++)
			if (fixture_read(fixture, full->volume, ANEW + 2 * i) != 2)
				_exit(4);
		if (all && fixture_unmap(fixture, full->volume, ANEW, ANEW + 2 * anew))
			_exit(2);
		for (i = from; all && i < full->count; i++)
			if (fixture_unmap(fixture, full->volume, full->lbn[i], full->lbn[i] + 1))
				_exit(2);
		if (all && full->volume->mapped)
			_exit(3);
		if (all)
			fixture_check(fixture);
		_exit(0);
	}
	wait(&status);
	return WIFEXITED(status) && !WEXITSTATUS(status);
}

/*
 * Blocks freed leave quarantine long before the next checkpoint and are used again, for nodes,
 * too; the repetition of that by recovery needs the space as well.
 */
static void discards_and_cuts(const u64 *blocks)
{
	struct full full;
	u64 at = 0, anew = 0, i;
	u32 round, bad = 0;

	fill(&full, blocks);
	for (round = 0; round < 200; round++) {
		for (i = 0; i < 32; i++, at++)
			assert_int_equal(fixture_unmap(&full.fixture, full.volume, full.lbn[at],
						       full.lbn[at] + 1), 0);
		assert_int_equal(dynmap_pool_commit(&full.fixture.pool), 0);
		for (i = 0; i < round % 20; i++, anew++)
			assert_int_equal(fixture_write(&full.fixture, full.volume, ANEW + 2 * anew,
						       1, 2), 0);
		assert_int_equal(dynmap_pool_commit(&full.fixture.pool), 0);
		if (!(round % 8))
			bad += !recovers(&full, at, anew, !(round % 64));
	}
	assert_int_equal(bad, 0);
	empty(&full);
}

static void test_discards_and_cuts(void **state)
{
	static const u64 one[] = { 24576, 0 }, two[] = { 24576, 24576, 0 };

	discards_and_cuts(one);
	discards_and_cuts(two);
}

/* A full pool is full when it is opened again: what nodes have in stock is no room for data. */
static void test_full_stays_full(void **state)
{
	static const u64 blocks[] = { 24576, 0 };
	struct full full;

	fill(&full, blocks);
	assert_int_equal(dynmap_pool_checkpoint(&full.fixture.pool), 0);
	assert_int_equal(dynmap_alloc_data_free(&full.fixture.pool.alloc), 0);
	fixture_close(&full.fixture);
	assert_int_equal(fixture_open(&full.fixture, false), 0);
	assert_int_equal(dynmap_alloc_data_free(&full.fixture.pool.alloc), 0);
	empty(&full);
}

/* All that was deleted is emptied. */
static void reap(struct fixture *fixture)
{
	int ret;

	do
		ret = HELPED(fixture, dynmap_volume_reap(&fixture->pool.table, &op));
	while (!ret);
	assert_int_equal(ret, -ENOENT);
}

static void reaped(struct fixture *fixture, u64 id)
{
	struct dynmap_table *table = &fixture->pool.table;

	assert_int_equal(HELPED(fixture, dynmap_volume_delete(table, id, &op)), 0);
	reap(fixture);
	assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), 0);
}

/* Discards of shared blocks free nothing: they end before deletion has no nodes any more. */
static void test_shared_discards(void **state)
{
	static const u64 blocks[] = { 65536, 0 };
	u8 uuid[DYNMAP_UUID_BYTES] = { 1 };
	struct fixture *fixture;
	struct full full;
	u64 at = 0;

	fill(&full, blocks);
	fixture = &full.fixture;
	assert_int_equal(HELPED(fixture, dynmap_volume_snapshot(&fixture->pool.table, 1, 0, uuid,
								7, &op)), 0);
	while (!fixture_unmap(fixture, full.volume, full.lbn[at], full.lbn[at] + 1))
		assert_true(++at < full.count);
	assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), 0);
	reaped(fixture, 1);
	assert_int_equal(fixture_unmap(fixture, full.volume, full.lbn[at], full.lbn[at] + 1), 0);
	reaped(fixture, 0);
	assert_int_equal(fixture->pool.alloc.data_allocated, 0);
	fixture_check(fixture);
	empty(&full);
}

/*
 * Snapshots until none can be made any more: their records, and those of all that they share
 * with, are entered by the checkpoint after them, which has its places.
 */
static void test_snapshots_to_the_end(void **state)
{
	static const u64 blocks[] = { 8192, 0 };
	struct dynmap_volume *volume;
	struct dynmap_table *table;
	u8 uuid[DYNMAP_UUID_BYTES] = { 1 };
	struct fixture fixture;
	u64 lbn, last = 0, id, floor;
	int ret;

	fixture_init(&fixture, blocks, 1, 2);
	table = &fixture.pool.table;
	volume = fixture_create(&fixture, 0);
	for (lbn = 0; lbn < 8192; lbn += 2)
		assert_int_equal(fixture_write(&fixture, volume, lbn, 1, 1), 0);
	do
		ret = HELPED(&fixture, dynmap_volume_snapshot(table, last + 1, last / 2, uuid, 7,
							      &op));
	while (!ret && ++last);
	assert_int_equal(ret, -ENOSPC);
	assert_true(last > 10000);
	/* A group that gets no first snapshot is ended all the same, however little is left. */
	floor = fixture.pool.alloc.floor;
	fixture.pool.alloc.floor = 6 * dynmap_alloc_places(&fixture.pool.alloc);
	dynmap_group_begin(table);
	assert_int_equal(HELPED(&fixture, dynmap_group_end(table, &op)), 0);
	fixture.pool.alloc.floor = floor;
	assert_int_equal(dynmap_pool_checkpoint(&fixture.pool), 0);
	fixture_close(&fixture);
	assert_int_equal(fixture_open(&fixture, false), 0);
	for (id = 0; id <= last; id++)
		while (HELPED(&fixture, dynmap_volume_delete(table, id * 7919 % (last + 1), &op)))
			assert_int_equal(HELPED(&fixture, dynmap_volume_reap(table, &op)), 0);
	reap(&fixture);
	assert_int_equal(dynmap_pool_checkpoint(&fixture.pool), 0);
	assert_int_equal(fixture.pool.alloc.data_allocated, 0);
	/* All is counted once: there is nothing more to come. */
	assert_int_equal(fixture.pool.cache.given_up, 0);
	assert_int_equal(dynmap_alloc_node_free(&fixture.pool.alloc),
			 dynmap_alloc_places(&fixture.pool.alloc) -
			 dynmap_alloc_kept(&fixture.pool.alloc, 0) -
			 dynmap_alloc_owed_least(&fixture.pool.alloc));
	fixture_check(&fixture);
	fixture_exit(&fixture);
}

/*
 * A group of snapshots that grows until there is no space, and is not ended when the power fails:
 * the next opening takes it back, in as many steps and with as many checkpoints as that takes.
 */
static void test_group_to_the_end(void **state)
{
	static const u64 blocks[] = { 8192, 0 };
	u8 uuid[DYNMAP_UUID_BYTES] = { 1 };
	struct dynmap_disk_volume disk;
	struct dynmap_volume *volume;
	struct fixture fixture;
	struct dynmap_table *table = &fixture.pool.table;
	u64 lbn, last = 0;
	int ret;

	(void)state;
	fixture_init(&fixture, blocks, 1, 2);
	volume = fixture_create(&fixture, 0);
	for (lbn = 0; lbn < 8192; lbn += 2)
		assert_int_equal(fixture_write(&fixture, volume, lbn, 1, 1), 0);
	assert_int_equal(dynmap_pool_checkpoint(&fixture.pool), 0);
	dynmap_group_begin(table);
	do
		ret = HELPED(&fixture, dynmap_volume_snapshot(table, last + 1, 0, uuid, 7, &op));
	while (!ret && ++last);
	assert_int_equal(ret, -ENOSPC);
	assert_true(last > 5000);
	assert_int_equal(dynmap_pool_commit(&fixture.pool), 0);
	fixture_close(&fixture);
	store_mem_power_cut(&fixture.mem, fixture_random);
	assert_int_equal(fixture_open(&fixture, true), 0);
	fixture_close(&fixture);
	for (lbn = 30; lbn < 1000; lbn *= 2) {
		fixture.mem.lives = lbn;
		assert_int_not_equal(fixture_open(&fixture, false), 0);
		store_mem_power_cut(&fixture.mem, fixture_random);
	}
	assert_int_equal(fixture_open(&fixture, false), 0);
	assert_int_equal(HELPED(&fixture, dynmap_volume_next(table, 1, &disk, &op)), -ENOENT);
	fixture_find_nothing(&fixture);
	reaped(&fixture, 0);
	assert_int_equal(fixture.pool.alloc.data_allocated, 0);
	fixture_check(&fixture);
	fixture_exit(&fixture);
}

/*
 * Random writes to three volumes, with snapshots between them, until one finds no space: then
 * there is none for data, and it is not that of nodes which ran out.
 */
static void test_snapshots_and_writes(void **state)
{
	static const u64 blocks[] = { 16384, 0 };
	static struct fixture fixture;
	struct dynmap_table *table = &fixture.pool.table;
	const u32 *dead_list = &fixture.pool.cache.dead_list.count;
	struct dynmap_volume *volume[3];
	u8 uuid[DYNMAP_UUID_BYTES] = {};
	u32 i, round = 0;
	int ret = 0;

	(void)state;
	fixture_init(&fixture, blocks, 1, 2);
	for (i = 0; i < 3; i++)
		volume[i] = fixture_create(&fixture, i);
	for (; !ret; round++) {
		for (i = 0; i < 2400 && !ret; i++) {
			ret = fixture_write(&fixture, volume[i % 3], fixture_below(12288), 1, i);
			assert_true(*dead_list < 64 +
				    dynmap_alloc_places(&fixture.pool.alloc) / 32);
		}
		for (i = 0; i < 3 && !ret; i++)
			ret = HELPED(&fixture, dynmap_volume_snapshot(table, 3 + 3 * round + i, i,
								      uuid, 7, &op));
	}
	assert_int_equal(ret, -ENOSPC);
	assert_int_equal(dynmap_alloc_data_free(&fixture.pool.alloc), 0);
	assert_false(dynmap_table_is_full(table));
	assert_true(fixture.pool.alloc.data_allocated > 11000);
	fixture_check(&fixture);
	fixture_exit(&fixture);
}

/* What was deleted is emptied where so little is left that nothing more can be deleted. */
static void test_emptied_with_little_left(void **state)
{
	static const u64 blocks[] = { 20000, 0 };
	static struct fixture fixture;
	struct dynmap_alloc *alloc = &fixture.pool.alloc;
	struct dynmap_table *table = &fixture.pool.table;
	u8 uuid[DYNMAP_UUID_BYTES] = { 1 };
	struct dynmap_volume *origin;
	u64 lbn, before;

	(void)state;
	fixture_init(&fixture, blocks, 1, 2);
	origin = fixture_create(&fixture, 1);
	for (lbn = 0; lbn < 500; lbn++)
		assert_int_equal(fixture_write(&fixture, origin, lbn * 7, 1, 1), 0);
	before = alloc->data_allocated;
	assert_int_equal(HELPED(&fixture, dynmap_volume_snapshot(table, 2, 1, uuid, 5, &op)), 0);
	for (lbn = 0; lbn < 500; lbn++)
		assert_int_equal(fixture_write(&fixture, origin, lbn * 7, 1, 2), 0);
	assert_int_equal(HELPED(&fixture, dynmap_volume_delete(table, 2, &op)), 0);
	fixture_check(&fixture);
	alloc->floor = 6 * (dynmap_alloc_places(alloc) - dynmap_alloc_owed(alloc));
	assert_false(dynmap_alloc_room(alloc, 1, DYNMAP_URGENT));
	reap(&fixture);
	fixture_check(&fixture);
	assert_int_equal(alloc->data_allocated, before);
	fixture_exit(&fixture);
}

/*
 * Snapshots that all gave up the same blocks: a discard of one by the origin, the last one to
 * have it, changes the divergence trees of all of them. In a full pool that takes many
 * checkpoints, none of which fails, and the power may fail between them.
 */
#define CHAIN		60
#define CHAIN_BLOCKS	1000

static void discard_in_chain(struct fixture *fixture)
{
	struct dynmap_volume *origin = fixture_load(fixture, 0);
	u64 lbn;
	u32 i;

	for (i = 0; i < CHAIN_BLOCKS; i++) {
		lbn = 16 * (i * 389 % CHAIN_BLOCKS);
		assert_int_equal(fixture_unmap(fixture, origin, lbn, lbn + 1), 0);
		if (i % 9 == 8)
			assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), 0);
		if (i % 200 != 199)
			continue;
		assert_int_equal(dynmap_pool_commit(&fixture->pool), 0);
		fixture->open = false;
		dynmap_pool_close(&fixture->pool);
		assert_int_equal(fixture_open(fixture, false), 0);
		origin = fixture_load(fixture, 0);
	}
}

static void test_discards_in_a_chain(void **state)
{
	static const u64 blocks[] = { 1 << 17, 0 };
	u8 uuid[DYNMAP_UUID_BYTES] = { 1 };
	static struct fixture fixture;
	struct dynmap_table *table = &fixture.pool.table;
	struct dynmap_volume *volume;
	u32 id, i;
	int ret;

	(void)state;
	/* A unit for each block, so that no two are neighbours on the device. */
	fixture_init(&fixture, blocks, 16, 2);
	volume = fixture_create(&fixture, 0);
	for (i = 0; i < CHAIN_BLOCKS; i++)
		assert_int_equal(fixture_write(&fixture, volume, 16 * i, 1, 1), 0);
	for (id = 1; id <= CHAIN; id++)
		assert_int_equal(HELPED(&fixture, dynmap_volume_snapshot(table, id, 0, uuid, 5,
									 &op)), 0);
	for (id = 1; id <= CHAIN; id++) {
		volume = fixture_load(&fixture, id);
		for (i = 0; i < CHAIN_BLOCKS; i++)
			assert_int_equal(fixture_write(&fixture, volume, 16 * i, 1, id), 0);
	}
	volume = fixture_create(&fixture, CHAIN + 1);
	for (i = 0; ; i++) {
		ret = HELPED(&fixture, dynmap_table_reserve(table, volume, 16 * i, 1, &op));
		if (ret)
			break;
	}
	assert_int_equal(ret, -ENOSPC);
	fixture_check(&fixture);
	discard_in_chain(&fixture);
	fixture_check(&fixture);
	for (id = 0; id <= CHAIN + 1; id++)
		reaped(&fixture, id);
	assert_int_equal(fixture.pool.alloc.data_allocated, 0);
	fixture_check(&fixture);
	fixture_exit(&fixture);
}

/* Delete everything; then as much is free for data as in a new pool. */
static void delete_all(struct fixture *fixture, u64 before)
{
	struct dynmap_table *table = &fixture->pool.table;
	struct dynmap_disk_volume disk;
	u64 id = 0, after;

	while (!HELPED(fixture, dynmap_volume_next(table, id, &disk, &op))) {
		id = le64_to_cpu(disk.id);
		while (HELPED(fixture, dynmap_volume_delete(table, id, &op)))
			assert_int_equal(HELPED(fixture, dynmap_volume_reap(table, &op)), 0);
	}
	reap(fixture);
	/* As often as the kernel does when nothing else happens. */
	for (id = 0; dynmap_pool_is_changed(&fixture->pool); id++) {
		assert_true(id < 20);
		assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), 0);
	}
	fixture_find_nothing(fixture);
	after = dynmap_alloc_data_free(&fixture->pool.alloc);
	print_message("%llu checkpoints, %llu of %llu blocks are free for data\n",
		      (unsigned long long)id, (unsigned long long)after,
		      (unsigned long long)before);
	assert_true(after * 1000 >= before * 998);
}

/* Fill a pool, free single blocks, then take snapshots, with writes between them; how many. */
static u64 fill_with_snapshots(struct full *full, const u64 *blocks)
{
	struct fixture *fixture = &full->fixture;
	u8 uuid[DYNMAP_UUID_BYTES] = {};
	u64 i;
	int ret;

	memset(full, 0, sizeof(*full));
	fixture_init(fixture, blocks, 1, 2);
	full->volume = fixture_create(fixture, 0);
	assert_int_equal(fixture_write(fixture, full->volume, 0, 1 << 16, 1), 0);
	for (i = 0; i < 1 << 16; i += 2)
		assert_int_equal(fixture_unmap(fixture, full->volume, i, i + 1), 0);
	for (i = 1, ret = 0; !ret; i++) {
		if (i % 64)
			ret = fixture_write(fixture, full->volume, fixture_below(1 << 16), 1, i);
		else
			ret = HELPED(fixture, dynmap_volume_snapshot(&fixture->pool.table, i / 64,
								     0, uuid, 7, &op));
	}
	assert_int_equal(ret, -ENOSPC);
	assert_true(fixture->pool.alloc.space.meta_total >
		    fixture->pool.alloc.space.total_blocks / 8);
	return (i - 2) / 64;
}

/* How many nodes in memory have both copies on one device. */
static u32 nodes_on_one_device(const struct fixture *fixture, u32 *nodes)
{
	struct dynmap_buf *buf;
	u32 bad = 0;

	*nodes = 0;
	list_for_each_entry(buf, &fixture->pool.cache.lru, list) {
		bad += dynmap_pbn_dev(buf->pbn[0]) == dynmap_pbn_dev(buf->pbn[1]);
		++*nodes;
	}
	return bad;
}

/*
 * Data takes what nodes had, until the pool is full; then nodes are made again, one leaf for each
 * two hundred discards. They still find two devices.
 */
static void refill(struct fixture *fixture)
{
	struct dynmap_volume *volume = fixture_create(fixture, 7);
	u32 nodes, bad, i;
	u64 end;

	for (end = 0; !fixture_write(fixture, volume, end, 256, 3); end += 256)
		;
	for (i = 0; i < 20000; i++)
		assert_int_equal(fixture_unmap(fixture, volume, 2 * i, 2 * i + 1), 0);
	fixture_check(fixture);
	bad = nodes_on_one_device(fixture, &nodes);
	print_message("%u nodes, both copies of %u on one device\n", nodes, bad);
	assert_true(nodes > 100);
	assert_true(bad * 20 < nodes);
}

/* What nodes took goes back to data; on a lone device, on two, on what was a lone one. */
static void test_zones_go_back(void **state)
{
	static const u64 sizes[][3] = { { 1 << 17, 0 }, { 1 << 16, 1 << 16, 0 } };
	static struct full full;
	u64 before = 0;
	u32 i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		fixture_init(&full.fixture, sizes[i], 1, 2);
		before = dynmap_alloc_data_free(&full.fixture.pool.alloc);
		fixture_exit(&full.fixture);
		fill_with_snapshots(&full, sizes[i]);
		delete_all(&full.fixture, before);
		if (i)
			refill(&full.fixture);
		fixture_exit(&full.fixture);
	}
	/* Both lists of the first device were in use. */
	fill_with_snapshots(&full, sizes[0]);
	store_mem_grow(&full.fixture.mem, 1, 1 << 17);
	assert_int_equal(fixture_grow(&full.fixture), 0);
	delete_all(&full.fixture, 2 * before);
	refill(&full.fixture);
	fixture_exit(&full.fixture);
}

/* A node is brought late to the first place of each empty zone of metadata. */
static void bring_late(struct fixture *fixture)
{
	struct dynmap_alloc *alloc = &fixture->pool.alloc;
	struct dynmap_buf *buf;
	struct dynmap_seg *seg;
	u32 slot, zone;

	for (slot = 0; slot < alloc->space.slots[0]; slot++) {
		seg = fixture_seg(fixture, slot);
		for (zone = 0; zone < DYNMAP_SEGMENT_ZONES; zone++) {
			if (seg->zone_flags[zone] != DYNMAP_ZONE_META_A ||
			    dynmap_zone_free(seg, zone) < DYNMAP_ZONE_BLOCKS)
				continue;
			buf = dynmap_buf_alloc();
			buf->pbn[0] = dynmap_segment_pbn(slot) + (zone << DYNMAP_ZONE_SHIFT);
			buf->pbn[1] = DYNMAP_PBN_NONE;
			buf->fetched = alloc->cache->epoch;
			dynmap_alloc_insert(alloc, buf);
		}
	}
}

/* How many nodes in memory lie in zones of data. */
static u32 nodes_among_data(const struct fixture *fixture)
{
	const struct dynmap_seg *seg;
	struct dynmap_buf *buf;
	u32 count = 0;

	list_for_each_entry(buf, &fixture->pool.cache.lru, list) {
		seg = dynmap_space_seg_of(&fixture->pool.alloc.space, buf->pbn[0]);
		count += seg && !seg->zone_flags[dynmap_zone_of(dynmap_pbn_index(buf->pbn[0]))];
	}
	return count;
}

/*
 * Blocks of zones that go back are not free before a checkpoint is durable that tells it; no
 * node is in memory that was there; and what is kept for others is not taken for that.
 */
static void test_zones_go_back_late(void **state)
{
	static const u64 blocks[] = { 1 << 17, 0 };
	static struct full full;
	struct dynmap_alloc *alloc = &full.fixture.pool.alloc;
	struct dynmap_table *table = &full.fixture.pool.table;
	u64 id, last, most, given, floor;

	(void)state;
	last = fill_with_snapshots(&full, blocks);
	full.fixture.pool.cache.limit = 16384;
	for (id = 1; id <= last; id++)
		assert_int_equal(HELPED(&full.fixture, dynmap_volume_delete(table, id, &op)), 0);
	reap(&full.fixture);
	/* Nothing goes back before this checkpoint. */
	fixture_check_waiting(&full.fixture);
	assert_int_equal(alloc->quarantined, 0);
	/* There is room for two zones, which are quarantined and no longer free. */
	floor = alloc->floor;
	alloc->floor = dynmap_alloc_places(alloc) - dynmap_alloc_owed(alloc) -
		       dynmap_alloc_dead_list(alloc) - 5 * DYNMAP_ZONE_BLOCKS;
	assert_true(dynmap_zones_may_go(alloc));
	bring_late(&full.fixture);
	most = alloc->space.meta_total;
	assert_int_equal(HELPED(&full.fixture, dynmap_zones_give_back(alloc, &op)), 0);
	given = most - alloc->space.meta_total;
	assert_in_range(given, DYNMAP_ZONE_BLOCKS, 3 * DYNMAP_ZONE_BLOCKS);
	alloc->floor = floor;
	assert_int_equal(HELPED(&full.fixture, dynmap_zones_give_back(alloc, &op)), 0);
	given = most - alloc->space.meta_total;
	assert_true(given > 10 * DYNMAP_ZONE_BLOCKS);
	assert_int_equal(nodes_among_data(&full.fixture), 0);
	assert_int_equal(dynmap_pool_commit(&full.fixture.pool), 0);
	assert_int_equal(alloc->quarantined, given);
	assert_int_equal(dynmap_pool_checkpoint(&full.fixture.pool), 0);
	assert_int_equal(alloc->quarantined, 0);
	fixture_check(&full.fixture);
	fixture_exit(&full.fixture);
}

/* Claim zones of a list of a lone device, in the first of which a block is held by a write. */
static void claim(struct fixture *fixture, u32 slot, u32 count, u8 flags, bool held)
{
	struct dynmap_space *space = &fixture->pool.alloc.space;
	struct dynmap_seg *seg;
	u32 zone, i;

	for (i = 0; i < count; i++) {
		seg = fixture_seg(fixture, slot + i / DYNMAP_SEGMENT_ZONES);
		zone = i % DYNMAP_SEGMENT_ZONES;
		assert_int_equal(seg->zone_flags[zone], 0);
		if (held)
			dynmap_seg_occupy(space, seg, zone << DYNMAP_ZONE_SHIFT, 1);
		dynmap_zone_claim(space, seg, zone, flags);
	}
}

/* A long list none of whose zones is empty does not keep those of another one from going back. */
static void test_long_list(void **state)
{
	static const u64 blocks[] = { 1 << 20, 0 };
	static struct fixture fixture;
	struct dynmap_alloc *alloc = &fixture.pool.alloc;
	u32 i;

	(void)state;
	fixture_init(&fixture, blocks, 16, 2);
	claim(&fixture, 1, 1200, DYNMAP_ZONE_META_A, true);
	claim(&fixture, 12, 12, DYNMAP_ZONE_META_B, false);
	assert_true(dynmap_zones_may_go(alloc));
	for (i = 0; dynmap_pool_is_changed(&fixture.pool); i++) {
		assert_true(i < 10);
		assert_int_equal(dynmap_pool_checkpoint(&fixture.pool), 0);
	}
	assert_int_equal(alloc->space.zones[0][1].blocks / DYNMAP_ZONE_BLOCKS,
			 alloc->space.total_blocks / 512 / DYNMAP_ZONE_BLOCKS);
	fixture_exit(&fixture);
}

/* A new pool keeps the zones that it was made with. */
static void test_first_zones_stay(void **state)
{
	static const u64 blocks[] = { 1 << 19, 0 };
	static struct fixture fixture;
	struct dynmap_zones *zones = fixture.pool.alloc.space.zones[0];
	u32 i;

	(void)state;
	fixture_init(&fixture, blocks, 1, 2);
	for (i = 0; i < 3; i++) {
		fixture_create(&fixture, i);
		fixture_check(&fixture);
		assert_int_equal(zones[0].blocks, 3 * DYNMAP_ZONE_BLOCKS);
		assert_int_equal(zones[1].blocks, 3 * DYNMAP_ZONE_BLOCKS);
	}
	fixture_exit(&fixture);
}

/* Where there are 64 zones without a free place, eight are claimed side by side. */
static void test_zones_in_runs(void **state)
{
	static const u64 blocks[] = { 1 << 19, 0 };
	static struct fixture fixture;
	struct dynmap_zones *zones = fixture.pool.alloc.space.zones[0];
	u32 zone, next = 0, slot, count = 0;
	struct dynmap_seg *seg;

	(void)state;
	fixture_init(&fixture, blocks, 1, 2);
	claim(&fixture, 6, 61, DYNMAP_ZONE_META_A, false);
	zones[0].free = 0;
	fixture.pool.cache.nr_stock[0] = 0;
	fixture.pool.cache.nr_stock[1] = 0;
	fixture_create(&fixture, 1);
	assert_int_equal(zones[0].blocks, (64 + 8) * DYNMAP_ZONE_BLOCKS);
	for (slot = 0; slot < 6; slot++) {
		seg = fixture_seg(&fixture, slot);
		for (zone = 0; zone < DYNMAP_SEGMENT_ZONES; zone++) {
			if (seg->zone_flags[zone] != DYNMAP_ZONE_META_A)
				continue;
			assert_true(!count || next == slot * DYNMAP_SEGMENT_ZONES + zone);
			next = slot * DYNMAP_SEGMENT_ZONES + zone + 1;
			count++;
		}
	}
	assert_int_equal(count, 3 + 8);
	fixture_exit(&fixture);
}

/*
 * Data goes where nodes were, with as many nodes in the cache as the module has, and the power
 * fails before another checkpoint.
 */
static void test_zones_and_cuts(void **state)
{
	static const u64 blocks[] = { 1 << 17, 0 };
	static struct full full;
	struct fixture *fixture = &full.fixture;
	struct dynmap_table *table = &fixture->pool.table;
	u64 last, id, most, anew;

	(void)state;
	last = fill_with_snapshots(&full, blocks);
	fixture->pool.cache.limit = 16384;
	for (id = 1; id <= last; id++)
		assert_int_equal(HELPED(fixture, dynmap_volume_delete(table, id, &op)), 0);
	reap(fixture);
	assert_int_equal(fixture_unmap(fixture, full.volume, 0, 1 << 16), 0);
	most = fixture->pool.alloc.space.meta_total;
	for (id = 0; dynmap_pool_is_changed(&fixture->pool); id++)
		assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), 0);
	assert_true(fixture->pool.alloc.space.meta_total < most / 8);
	most = dynmap_alloc_data_free(&fixture->pool.alloc);
	id = fixture->pool.cache.epoch;
	for (anew = 0; !fixture_write(fixture, full.volume, ANEW + anew, 256, 2); anew += 256)
		;
	assert_in_range(anew, most - 512, most);
	assert_int_equal(fixture->pool.cache.epoch, id);
	assert_int_equal(dynmap_pool_commit(&fixture->pool), 0);
	assert_true(recovers(&full, 0, anew / 2, false));
	/* Zones are claimed anew where data lies by now: it can be discarded all the same. */
	for (id = 0; id < anew / 2; id++)
		assert_int_equal(fixture_unmap(fixture, full.volume, ANEW + 2 * id,
					       ANEW + 2 * id + 1), 0);
	fixture_check(fixture);
	fixture_exit(fixture);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_discards_and_cuts),
		cmocka_unit_test(test_full_stays_full),
		cmocka_unit_test(test_shared_discards),
		cmocka_unit_test(test_snapshots_and_writes),
		cmocka_unit_test(test_snapshots_to_the_end),
		cmocka_unit_test(test_group_to_the_end),
		cmocka_unit_test(test_emptied_with_little_left),
		cmocka_unit_test(test_discards_in_a_chain),
		cmocka_unit_test(test_zones_go_back),
		cmocka_unit_test(test_zones_go_back_late),
		cmocka_unit_test(test_first_zones_stay),
		cmocka_unit_test(test_long_list),
		cmocka_unit_test(test_zones_in_runs),
		cmocka_unit_test(test_zones_and_cuts),
	};

	return cmocka_run_group_tests_name("space", tests, NULL, NULL);
}
