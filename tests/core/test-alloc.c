// SPDX-License-Identifier: GPL-2.0-only
/*
 * Unit tests of the allocator: data blocks against a naive map of who has
 * them, the floor, quarantine, metadata apart from data, placement.
 */
#include "fixture.h"

#define MAX_RUNS	4000

struct run {
	u64 pbn;
	u32 len;
};

struct bench {
	struct fixture fixture;
	u8 *taken[4];		/* per device, per block */
	struct run run[MAX_RUNS];
	u32 nr_runs;
	u64 together[4];	/* per device, places of nodes both of which may lie there */
};

static const u64 one_device[] = { 8000, 0 };
static const u64 three_devices[] = { 70000, 8000, 20000, 0 };
static const u64 two_devices[] = { 30000, 6000, 0 };
static const u64 four_devices[] = { 20000, 20000, 20000, 20000, 0 };

static int setup_on(void **state, const u64 *devices, u32 copies)
{
	struct bench *bench = calloc(1, sizeof(*bench));
	u32 i;

	fixture_init(&bench->fixture, devices, 16, copies);
	for (i = 0; i < ARRAY_SIZE(bench->taken); i++)
		bench->taken[i] = calloc(2 * DYNMAP_SEGMENT_BLOCKS, 1);
	*state = bench;
	return 0;
}

static int setup_one(void **state)
{
	return setup_on(state, one_device, 2);
}

static int setup_three(void **state)
{
	return setup_on(state, three_devices, 2);
}

static int setup_two(void **state)
{
	return setup_on(state, two_devices, 2);
}

static int setup_four(void **state)
{
	return setup_on(state, four_devices, 2);
}

static int teardown(void **state)
{
	struct bench *bench = *state;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(bench->taken); i++)
		free(bench->taken[i]);
	fixture_exit(&bench->fixture);
	free(bench);
	return 0;
}

static struct dynmap_alloc *alloc_of(struct bench *bench)
{
	return &bench->fixture.pool.alloc;
}

static u8 *entry(struct bench *bench, u64 pbn)
{
	return bench->taken[dynmap_pbn_dev(pbn)] +
	       dynmap_segment_slot(dynmap_pbn_segment(pbn)) * DYNMAP_SEGMENT_BLOCKS +
	       dynmap_pbn_index(pbn);
}

/* Allocate and enter into the naive map, which must have had the blocks free. */
static int take(struct bench *bench, u64 goal, u32 want, struct run *run)
{
	int ret = FETCHED(&bench->fixture, dynmap_alloc_data(alloc_of(bench), goal, want, &run->pbn,
							      &run->len, &op));
	u8 *taken;
	u32 i;

	if (ret)
		return ret;
	assert_in_range(run->len, 1, want);
	assert_true(dynmap_pbn_valid(&bench->fixture.pool.geo, run->pbn, run->len));
	taken = entry(bench, run->pbn);
	for (i = 0; i < run->len; i++) {
		assert_int_equal(taken[i], 0);
		taken[i] = 1;
	}
	return 0;
}

/* Allocate exactly these blocks. */
static int take_at(struct bench *bench, u64 pbn, u32 len)
{
	return FETCHED(&bench->fixture, dynmap_alloc_data_at(alloc_of(bench), pbn, len, &op));
}

static void give_back(struct bench *bench, const struct run *run)
{
	while (!bench->fixture.pool.cache.nr_spare)
		dynmap_cache_add_spare(&bench->fixture.pool.cache, dynmap_buf_alloc());
	dynmap_alloc_free(alloc_of(bench), run->pbn, run->len);
	memset(entry(bench, run->pbn), 0, run->len);
}

static void release(struct bench *bench)
{
	while (dynmap_alloc_release(alloc_of(bench), &alloc_of(bench)->freed))
		;
}

static void test_never_the_same_block_twice(void **state)
{
	struct bench *bench = *state;
	struct run run;
	u32 step, i;

	for (step = 0; step < 20000; step++) {
		if (bench->nr_runs < MAX_RUNS && fixture_below(3)) {
			if (take(bench, DYNMAP_PBN_NONE, 1 + fixture_below(40), &run))
				release(bench);
			else
				bench->run[bench->nr_runs++] = run;
		} else if (bench->nr_runs) {
			i = fixture_below(bench->nr_runs);
			give_back(bench, &bench->run[i]);
			bench->run[i] = bench->run[--bench->nr_runs];
		}
	}
	assert_true(bench->nr_runs > 100);
}

static void test_fills_up_to_the_floor(void **state)
{
	struct bench *bench = *state;
	struct dynmap_alloc *alloc = alloc_of(bench);
	u64 room = dynmap_alloc_data_free(alloc), sum = 0;
	struct run run;
	int ret;

	for (;;) {
		ret = take(bench, DYNMAP_PBN_NONE, 7, &run);
		if (ret == -EBUSY)
			ret = dynmap_pool_checkpoint(&bench->fixture.pool);
		else if (!ret)
			sum += run.len;
		if (ret)
			break;
	}
	assert_int_equal(ret, -ENOSPC);
	assert_in_range(sum, room - 16, room);
	assert_true(dynmap_alloc_places(alloc) >= alloc->floor);
	assert_int_equal(dynmap_alloc_data_free(alloc), 0);
}

static void test_freed_blocks_stay_in_quarantine(void **state)
{
	struct bench *bench = *state;
	struct dynmap_alloc *alloc = alloc_of(bench);
	struct run run, other;
	u64 room, vacated;

	assert_int_equal(take(bench, DYNMAP_PBN_NONE, 32, &run), 0);
	while (!take(bench, DYNMAP_PBN_NONE, 64, &other))
		;
	room = dynmap_alloc_data_free(alloc);
	vacated = alloc->space.vacated;
	give_back(bench, &run);
	assert_int_equal(alloc->space.vacated, vacated);
	assert_int_equal(alloc->quarantined, run.len);
	assert_int_equal(dynmap_alloc_data_free(alloc), room);
	assert_int_equal(take(bench, run.pbn, 1, &other), -EBUSY);
	release(bench);
	assert_int_equal(alloc->quarantined, 0);
	assert_int_not_equal(alloc->space.vacated, vacated);
	assert_int_equal(take(bench, DYNMAP_PBN_NONE, 32, &other), 0);
	assert_int_equal(other.pbn, run.pbn);
	assert_int_equal(other.len, run.len);
}

/* The end of quarantine may come at any time: it finds only what is durable. */
static void test_quarantine_waits_for_the_record(void **state)
{
	struct bench *bench = *state;
	struct dynmap_alloc *alloc = alloc_of(bench);
	struct run run;
	int error;

	for (error = -EIO; error <= 0; error -= -EIO) {
		assert_int_equal(take(bench, DYNMAP_PBN_NONE, 32, &run), 0);
		give_back(bench, &run);
		assert_false(dynmap_alloc_release(alloc, &alloc->quarantine));
		dynmap_alloc_commit_begin(alloc);
		assert_false(dynmap_alloc_release(alloc, &alloc->quarantine));
		dynmap_alloc_commit_end(alloc, error);
		assert_int_equal(dynmap_alloc_release(alloc, &alloc->quarantine), !error);
	}
	assert_int_equal(alloc->quarantined, 0);
}

/* A block that was freed by a record and allocated by a later one is not free when replay ends. */
static void test_replay_frees_what_stays_free(void **state)
{
	struct bench *bench = *state;
	struct dynmap_alloc *alloc = alloc_of(bench);
	struct run run;
	u64 vacated, places;

	assert_int_equal(take(bench, DYNMAP_PBN_NONE, 32, &run), 0);
	give_back(bench, &run);
	places = alloc->space.free_blocks;
	assert_int_equal(HELPED(&bench->fixture,
				dynmap_alloc_data_at(alloc, run.pbn, run.len / 2, &op)), 0);
	vacated = alloc->space.vacated;
	assert_true(dynmap_alloc_release_replayed(alloc));
	assert_int_equal(alloc->space.free_blocks - places, run.len - run.len / 2);
	assert_true(alloc->space.vacated != vacated);
	assert_int_equal(alloc->quarantined, 0);
	assert_false(dynmap_alloc_release_replayed(alloc));
}

static void test_goal_is_met(void **state)
{
	struct bench *bench = *state;
	struct run first, next, far;

	assert_int_equal(take(bench, DYNMAP_PBN_NONE, 16, &first), 0);
	assert_int_equal(take(bench, first.pbn + 2048, 16, &far), 0);
	assert_int_equal(far.pbn, first.pbn + 2048);
	assert_int_equal(take(bench, first.pbn + first.len, 16, &next), 0);
	assert_int_equal(next.pbn, first.pbn + first.len);
	/* A taken goal, and one that is no block at all, are no obstacle. */
	assert_int_equal(take(bench, first.pbn, 16, &next), 0);
	assert_int_equal(take(bench, DYNMAP_PBN_NONE - 1, 16, &next), 0);
}

static void test_devices_fill_evenly(void **state)
{
	struct bench *bench = *state;
	struct dynmap_alloc *alloc = alloc_of(bench);
	u64 taken[3] = {}, total = 0, share;
	struct run run;
	u32 dev;

	while (total < alloc->space.total_blocks / 2) {
		assert_int_equal(take(bench, DYNMAP_PBN_NONE, 256, &run), 0);
		taken[dynmap_pbn_dev(run.pbn)] += run.len;
		total += run.len;
	}
	for (dev = 0; dev < 3; dev++) {
		share = taken[dev] * 100 / alloc->space.dev_total[dev];
		assert_in_range(share, 40, 60);
	}
}

/* Go on where the last allocation ended, as a stream does. */
static void go_on(struct bench *bench, u32 want, struct run *run)
{
	assert_int_equal(take(bench, run->pbn + run->len, want, run), 0);
}

/* A stream fills a piece, then one of another device, whatever it asks for at once. */
static void test_streams_change_devices(void **state)
{
	const u32 want[] = { 32, 1024, DYNMAP_MAX_EXTENT_BLOCKS };
	struct bench *bench = *state;
	struct run run = { DYNMAP_PBN_NONE, 0 };
	u32 i, piece, dev, filled;

	for (i = 0; i < ARRAY_SIZE(want); i++) {
		u32 pieces[4] = {};

		/* Until it is where a piece begins. */
		do {
			go_on(bench, 32, &run);
		} while ((run.pbn + run.len) % DYNMAP_PIECE_BLOCKS);
		for (piece = 0; piece < 40; piece++) {
			dev = dynmap_pbn_dev(run.pbn);
			go_on(bench, want[i], &run);
			assert_int_equal(run.pbn % DYNMAP_PIECE_BLOCKS, 0);
			assert_int_not_equal(dynmap_pbn_dev(run.pbn), dev);
			dev = dynmap_pbn_dev(run.pbn);
			for (filled = run.len; filled < DYNMAP_PIECE_BLOCKS; filled += run.len) {
				go_on(bench, want[i], &run);
				assert_int_equal(dynmap_pbn_dev(run.pbn), dev);
			}
			assert_int_equal(filled, DYNMAP_PIECE_BLOCKS);
			pieces[dev]++;
		}
		for (dev = 0; dev < 4; dev++)
			assert_in_range(pieces[dev], 9, 11);
	}
}

static void test_a_full_device_is_passed_over(void **state)
{
	struct bench *bench = *state;
	struct dynmap_alloc *alloc = alloc_of(bench);
	struct run run = { DYNMAP_PBN_NONE, 0 };
	u64 pbn = dynmap_segment_pbn(dynmap_segment_number(2, 0)), taken[4] = {};
	const struct dynmap_seg *seg = fixture_seg(&bench->fixture, dynmap_segment_number(2, 0));
	u32 i, dev;

	/* Device 2 has nothing left but its metadata zone. */
	for (i = 0; i < alloc->space.dev_total[2]; i++)
		if (!seg->zone_flags[i >> DYNMAP_ZONE_SHIFT])
			assert_int_equal(take_at(bench, pbn + i, 1), 0);
	for (i = 0; i < 90; i++) {
		go_on(bench, DYNMAP_PIECE_BLOCKS, &run);
		assert_int_equal(run.len, DYNMAP_PIECE_BLOCKS);
		taken[dynmap_pbn_dev(run.pbn)]++;
	}
	assert_int_equal(taken[2], 0);
	for (dev = 0; dev < 4; dev++)
		if (dev != 2)
			assert_in_range(taken[dev], 29, 31);
}

/* Runs of a naive map: who has the blocks changes that often. */
static u32 runs_of(struct bench *bench, u8 who)
{
	u32 dev, i, count = 0;

	for (dev = 0; dev < 4; dev++)
		for (i = 1; i < DYNMAP_SEGMENT_BLOCKS; i++)
			count += bench->taken[dev][i] == who && bench->taken[dev][i - 1] != who;
	return count;
}

/*
 * Volumes whose writes are redirected block by block, two streams, and blocks here and
 * there, all at once: who goes on has pieces of its own.
 */
static void test_streams_do_not_mix(void **state)
{
	struct bench *bench = *state;
	struct dynmap_alloc *alloc = alloc_of(bench);
	struct run run[6];
	u32 step, i, want;
	int ret;

	for (i = 0; i < 6; i++)
		run[i] = (struct run){ DYNMAP_PBN_NONE, 0 };
	for (step = 0; step < 2048; step++)
		for (i = 0; i < 6; i++) {
			u64 goal = run[i].pbn + run[i].len;

			if (i < 3) {
				goal = run[i].len ? goal : DYNMAP_PBN_NONE;
				ret = FETCHED(&bench->fixture,
					      dynmap_alloc_hold(alloc, goal, 1, &run[i].pbn,
								&run[i].len, &op));
				dynmap_alloc_take_held(alloc, run[i].pbn, run[i].len);
			} else {
				/* Streams ask for whole pieces, the others for single blocks. */
				if (i < 5 && step % 32)
					continue;
				want = i < 5 ? DYNMAP_PIECE_BLOCKS : 1;
				goal = i < 5 ? goal : DYNMAP_PBN_NONE;
				ret = FETCHED(&bench->fixture,
					      dynmap_alloc_data(alloc, goal, want, &run[i].pbn,
								&run[i].len, &op));
			}
			assert_int_equal(ret, 0);
			memset(entry(bench, run[i].pbn), i + 1, run[i].len);
		}
	for (i = 0; i < 3; i++)
		assert_in_range(runs_of(bench, i + 1), 2048 / DYNMAP_PIECE_BLOCKS - 3,
				2048 / DYNMAP_PIECE_BLOCKS + 3);
	/* 64 pieces each; some lie behind each other. */
	for (i = 3; i < 5; i++)
		assert_in_range(runs_of(bench, i + 1), 1, 65);
	/* The single blocks are packed. */
	assert_in_range(runs_of(bench, 6), 1, 2048 / DYNMAP_PIECE_BLOCKS + 8);
}

/* Take places for @count nodes; how many of each device. The two of a node lie apart. */
static void take_places(struct bench *bench, u32 count, u64 *places)
{
	struct dynmap_cache *cache = alloc_of(bench)->cache;
	struct dynmap_op op = { .urgent = DYNMAP_URGENT_CHECKPOINT };
	u32 copy, dev[2];
	u64 pbn[2];
	int ret;

	for (; count; count--) {
		ret = dynmap_alloc_reserve(alloc_of(bench), 1, 0, &op);
		while (ret == -ENOMEM) {
			dynmap_cache_add_spare(cache, dynmap_buf_alloc());
			assert_true(dynmap_space_supply(&alloc_of(bench)->space));
			ret = dynmap_alloc_reserve(alloc_of(bench), 1, 0, &op);
		}
		assert_int_equal(ret, 0);
		assert_int_equal(cache->nr_stock[0], cache->nr_stock[1]);
		for (copy = 0; copy < 2; copy++) {
			pbn[copy] = cache->stock[copy][--cache->nr_stock[copy]];
			dev[copy] = dynmap_pbn_dev(pbn[copy]);
			assert_int_equal(*entry(bench, pbn[copy]), 0);
			*entry(bench, pbn[copy]) = 1;
			places[dev[copy]]++;
		}
		assert_int_not_equal(pbn[0] >> DYNMAP_ZONE_SHIFT, pbn[1] >> DYNMAP_ZONE_SHIFT);
		if (places != bench->together)
			assert_int_not_equal(dev[0], dev[1]);
	}
}

/* Nodes lie on all devices, by free space, but no node twice on one. */
static void test_nodes_on_all_devices(void **state)
{
	struct bench *bench = *state;
	struct dynmap_alloc *alloc = alloc_of(bench);
	u64 places[4] = {}, pbn = dynmap_segment_pbn(dynmap_segment_number(1, 0)), free;
	const struct dynmap_seg *seg = fixture_seg(&bench->fixture, dynmap_segment_number(1, 0));
	u32 i;

	take_places(bench, 1000, places);
	/* Of 70000, 8000 and 20000 blocks: half of them, and by size. */
	assert_in_range(places[0], 990, 1000);
	assert_in_range(places[1], 270, 300);
	assert_in_range(places[2], 700, 740);
	/* One of them is full of data: the others serve. */
	for (i = 0; i < alloc->space.dev_total[1]; i++)
		if (!seg->zone_flags[i >> DYNMAP_ZONE_SHIFT] && !*entry(bench, pbn + i))
			assert_int_equal(take_at(bench, pbn + i, 1), 0);
	free = alloc->space.zones[1][0].free + alloc->space.zones[1][1].free;
	memset(places, 0, sizeof(places));
	take_places(bench, 3000, places);
	assert_in_range(places[1], 1, free);
}

/* Of two devices one is full: copies lie on one, better than nowhere; and apart again later. */
static void test_nodes_on_one_of_two_devices(void **state)
{
	struct bench *bench = *state;
	struct dynmap_alloc *alloc = alloc_of(bench);
	u64 places[4] = {}, pbn = dynmap_segment_pbn(dynmap_segment_number(1, 0));
	const struct dynmap_seg *seg = fixture_seg(&bench->fixture, dynmap_segment_number(1, 0));
	struct run run;
	u32 i;

	for (i = 0; i < alloc->space.dev_total[1]; i++) {
		run = (struct run){ pbn + i, 1 };
		if (seg->zone_flags[i >> DYNMAP_ZONE_SHIFT])
			continue;
		assert_int_equal(take_at(bench, pbn + i, 1), 0);
		*entry(bench, pbn + i) = 1;
	}
	/* Its own zones are used up first. */
	take_places(bench, alloc->space.zones[1][0].free + alloc->space.zones[1][1].free, places);
	take_places(bench, 600, bench->together);
	assert_int_equal(bench->together[0], 1200);
	for (i = 0; i < 512; i++) {
		run = (struct run){ pbn + alloc->space.dev_total[1] - 1 - i, 1 };
		give_back(bench, &run);
	}
	release(bench);
	take_places(bench, 100, places);
}

static void test_metadata_lies_apart(void **state)
{
	struct bench *bench = *state;
	struct fixture *fixture = &bench->fixture;
	struct dynmap_cache *cache = &fixture->pool.cache;
	struct run run;
	u32 i, copy;

	while (!take(bench, DYNMAP_PBN_NONE, 100, &run))
		;
	assert_int_equal(HELPED(fixture, dynmap_alloc_reserve(alloc_of(bench), 60, 0, &op)), 0);
	for (copy = 0; copy < 2; copy++) {
		assert_true(cache->nr_stock[copy] >= 60);
		for (i = 0; i < cache->nr_stock[copy]; i++) {
			u64 pbn = cache->stock[copy][i];

			assert_int_not_equal(dynmap_pbn_dev(pbn),
					     dynmap_pbn_dev(cache->stock[!copy][i]));
			assert_int_equal(*entry(bench, pbn), 0);
		}
	}
}

static void test_urgency_reaches_into_the_floor(void **state)
{
	struct bench *bench = *state;
	struct dynmap_alloc *alloc = alloc_of(bench);
	u64 seen[DYNMAP_URGENT_CHECKPOINT + 1] = {}, owed = 0;
	u8 urgent;
	int ret;

	/* Take all places that each urgency may have, one by one. */
	for (urgent = 0; urgent <= DYNMAP_URGENT_CHECKPOINT; urgent++) {
		struct dynmap_op op = { .urgent = urgent };

		for (;;) {
			ret = dynmap_alloc_reserve(alloc, 8, 0, &op);
			if (ret == -ENOMEM) {
				dynmap_cache_add_spare(alloc->cache, dynmap_buf_alloc());
				assert_true(dynmap_space_supply(&alloc->space));
				continue;
			}
			if (ret)
				break;
			alloc->cache->nr_stock[0] -= 8;
			alloc->cache->nr_stock[1] -= 8;
		}
		assert_true(ret == -ENOSPC || ret == -EBUSY);
		if (urgent < DYNMAP_URGENT_CHECKPOINT)
			owed = dynmap_alloc_owed(alloc);
		seen[urgent] = alloc->space.free_blocks + alloc->cache->nr_stock[0] +
			       alloc->cache->nr_stock[1];
	}
	assert_in_range(seen[0], owed + alloc->floor / 2, owed + alloc->floor / 2 + 15);
	assert_in_range(seen[1], owed + alloc->floor / 4, owed + alloc->floor / 4 + 15);
	assert_in_range(seen[2], owed + alloc->floor / 8, owed + alloc->floor / 8 + 15);
	assert_in_range(seen[3], owed + alloc->floor / 16, owed + alloc->floor / 16 + 15);
	assert_in_range(seen[4], 0, 15);
}

/* The most nodes that there is room for. */
static u32 most_nodes(const struct dynmap_alloc *alloc, u8 urgent)
{
	u32 nodes = 0;

	while (dynmap_alloc_room(alloc, nodes + 1, urgent))
		nodes++;
	return nodes;
}

/* What dead extents that wait may add is left to them by all but them and checkpoints. */
static void test_dead_list_has_room(void **state)
{
	struct bench *bench = *state;
	struct dynmap_alloc *alloc = alloc_of(bench);
	u32 before[DYNMAP_URGENT_CHECKPOINT + 1], after, owed;
	u8 urgent;

	for (urgent = 0; urgent <= DYNMAP_URGENT_CHECKPOINT; urgent++)
		before[urgent] = most_nodes(alloc, urgent);
	owed = dynmap_alloc_owed(alloc);
	alloc->cache->dead_list.count = 100;
	owed = (dynmap_alloc_owed(alloc) - owed) / alloc->cache->copies;
	assert_in_range(owed, 2, 10);
	for (urgent = 0; urgent <= DYNMAP_URGENT_CHECKPOINT; urgent++) {
		after = most_nodes(alloc, urgent);
		assert_int_equal(before[urgent] - after,
				 urgent < DYNMAP_URGENT_DEAD_LIST ? owed + 100 * DYNMAP_DEAD_NODES :
				 urgent < DYNMAP_URGENT_CHECKPOINT ? owed : 0);
	}
	alloc->cache->dead_list.count = 0;
}

/* Data leaves room for the nodes of writes under way, and says so when there is nothing else. */
static void test_data_leaves_what_is_promised(void **state)
{
	struct bench *bench = *state;
	struct dynmap_alloc *alloc = alloc_of(bench);
	struct run run;
	u64 before = 0;

	alloc->promised = 500;
	while (!take(bench, DYNMAP_PBN_NONE, 16, &run))
		before = dynmap_alloc_places(alloc);
	assert_int_equal(take(bench, DYNMAP_PBN_NONE, 16, &run), -EINPROGRESS);
	assert_true(before >= dynmap_alloc_kept(alloc, 0) + 500 * alloc->cache->copies);
	/* One of them has ended: there is as much for others. */
	alloc->promised -= 8;
	assert_int_equal(take(bench, DYNMAP_PBN_NONE, 16, &run), 0);
	alloc->promised = 0;
	while (!take(bench, DYNMAP_PBN_NONE, 16, &run))
		before = dynmap_alloc_places(alloc);
	assert_true(before < dynmap_alloc_kept(alloc, 0) + dynmap_alloc_owed(alloc) + 500);
}

static void test_replay_takes_exactly_what_it_is_told(void **state)
{
	struct bench *bench = *state;
	struct dynmap_alloc *alloc = alloc_of(bench);
	struct dynmap_op op = {};
	struct run run;

	assert_int_equal(take(bench, DYNMAP_PBN_NONE, 16, &run), 0);
	assert_int_equal(take_at(bench, run.pbn + 8, 16), -EUCLEAN);
	assert_int_equal(take_at(bench, run.pbn + 16, 16), 0);
	assert_int_equal(take_at(bench, DYNMAP_PBN_NONE, 16), -EUCLEAN);
	assert_int_equal(take_at(bench, run.pbn + 32, 0), -EUCLEAN);
	assert_int_equal(dynmap_alloc_avoid(alloc, run.pbn + 32, 16, &op), 0);
	assert_int_equal(take(bench, run.pbn + 32, 1, &run), 0);
	assert_int_equal(dynmap_alloc_avoid(alloc, DYNMAP_PBN_NONE, 1, &op), -EUCLEAN);
}

/* Put a record into the space tree behind the allocator's back. */
static void put_record(struct bench *bench, const void *record)
{
	struct dynmap_tree *tree = &alloc_of(bench)->space.tree;

	assert_int_equal(HELPED(&bench->fixture, dynmap_alloc_reserve(alloc_of(bench), 20, 2, &op)),
			 0);
	assert_int_equal(HELPED(&bench->fixture,
				dynmap_btree_put(tree, le64_to_cpu(*(const __le64 *)record), record,
						 &op)), 0);
}

/* Load the second, short segment of the first device. */
static int load_second(struct bench *bench)
{
	struct dynmap_seg *seg;

	return FETCHED(&bench->fixture, dynmap_space_load(&alloc_of(bench)->space, 1, &seg, &op));
}

/* The second segment is lost, and counts as full; then it is known again, as after an opening. */
static void second_is_lost(struct bench *bench)
{
	struct dynmap_space *space = &alloc_of(bench)->space;
	struct dynmap_part *part = &space->top[0]->part[0].parts->part[0].parts->part[1];
	u64 before = space->dev_free[0], blocks = dynmap_segment_blocks(space->geo, 1);

	assert_int_equal(load_second(bench), -EUCLEAN);
	assert_int_equal(load_second(bench), -EUCLEAN);
	assert_int_equal(before - space->dev_free[0], blocks);
	assert_int_equal(part->room.run, 0);
	part->lost = false;
	part->room.run = blocks;
	space->dev_free[0] += blocks;
	space->free_blocks += blocks;
}

#define SECOND_ZONE	(DYNMAP_SEGMENT_ZONES + 7)
#define SECOND_SUMMARY	(1ULL << DYNMAP_SUMMARY_SHIFT | 1)

static void test_bad_zone_records(void **state)
{
	struct bench *bench = *state;
	const struct dynmap_disk_zone good = {
		.zone = cpu_to_le64(SECOND_ZONE),
		.used = cpu_to_le16(1),
		.bitmap = { cpu_to_le64(1) },
	};
	const struct dynmap_disk_zone none = { .zone = good.zone };
	struct dynmap_disk_zone bad = good;

	bad.used = cpu_to_le16(2);
	put_record(bench, &bad);
	second_is_lost(bench);
	bad = good;
	bad.flags = cpu_to_le16(DYNMAP_ZONE_META);
	put_record(bench, &bad);
	second_is_lost(bench);
	bad = good;
	bad.flags = cpu_to_le16(4);
	put_record(bench, &bad);
	second_is_lost(bench);
	/* Its summary does not tell of it. */
	put_record(bench, &good);
	second_is_lost(bench);
	put_record(bench, &none);
	/* Behind the end of the device. */
	bad = none;
	bad.zone = cpu_to_le64(DYNMAP_SEGMENT_ZONES +
			       dynmap_segment_blocks(&bench->fixture.pool.geo, 1) /
			       DYNMAP_ZONE_BLOCKS);
	put_record(bench, &bad);
	second_is_lost(bench);
	assert_int_equal(HELPED(&bench->fixture,
				dynmap_btree_remove(&alloc_of(bench)->space.tree,
						    le64_to_cpu(bad.zone), &op)), 0);
	/* Without it all is well. */
	assert_int_equal(load_second(bench), 0);
}

/* A bad summary, as the next opening finds it. */
static void test_bad_summaries(void **state)
{
	struct bench *bench = *state;
	const u32 blocks = dynmap_segment_blocks(&bench->fixture.pool.geo, 1);
	const struct dynmap_disk_summary good = {
		.key = cpu_to_le64(SECOND_SUMMARY),
		.blocks = cpu_to_le32(blocks),
		.run = cpu_to_le32(blocks),
		.zone = cpu_to_le32(DYNMAP_ZONE_BLOCKS),
	};
	struct dynmap_disk_summary disk[] = {
		good, good, good, good, good, good, good, good, good, good
	};
	u32 i;

	disk[1].blocks = 0;
	disk[2].blocks = cpu_to_le32(blocks + 256);
	disk[3].used = cpu_to_le32(blocks + 1);
	disk[4].node_used[0] = cpu_to_le32(1);
	disk[5].empty[1] = cpu_to_le32(1);
	disk[6].run = cpu_to_le32(blocks + 1);
	/* The part above does not count this one. */
	disk[7].used = cpu_to_le32(1);
	/* Free blocks that nobody would look for. */
	disk[8].run = 0;
	disk[9].zone = 0;
	for (i = 0; i < ARRAY_SIZE(disk); i++) {
		put_record(bench, &disk[i]);
		assert_int_equal(dynmap_pool_checkpoint(&bench->fixture.pool), 0);
		fixture_close(&bench->fixture);
		/* Nothing but the greatest parts is read. */
		assert_int_equal(fixture_open(&bench->fixture, true), 0);
		assert_int_equal(alloc_of(bench)->space.nr_loaded, 0);
		assert_int_equal(load_second(bench), i ? -EUCLEAN : 0);
		fixture_exit(&bench->fixture);
		fixture_init(&bench->fixture, three_devices, 16, 2);
	}
}

/* Bitmaps leave memory when nobody looks at them and are as they were when they come back. */
static void test_bitmaps_come_and_go(void **state)
{
	struct bench *bench = *state;
	struct dynmap_space *space = &alloc_of(bench)->space;
	struct run run;
	u32 all = ~0U, i;

	space->most_segs = 0;
	space->most_loaded = 0;
	assert_int_equal(take(bench, dynmap_segment_pbn(1) + 1, 16, &run), 0);
	assert_int_equal(run.pbn, dynmap_segment_pbn(1) + 1);
	/* Its record is out of date. */
	for (i = 0; i < 10; i++)
		dynmap_space_shrink(space);
	assert_non_null(dynmap_space_seg(space, 1));
	assert_int_equal(dynmap_pool_checkpoint(&bench->fixture.pool), 0);
	for (i = 0; i < 10; i++)
		dynmap_space_shrink(space);
	assert_null(dynmap_space_seg(space, 1));
	assert_int_equal(dynmap_bits_count(fixture_seg(&bench->fixture, 1)->allocated,
					   dynmap_pbn_index(run.pbn), run.len), run.len);
	/* Freed blocks in quarantine are busy, and nothing on disk says so. */
	give_back(bench, &run);
	assert_int_equal(FETCHED(&bench->fixture,
				 dynmap_alloc_checkpoint(alloc_of(bench), &all, &op)), 0);
	for (i = 0; i < 10; i++)
		dynmap_space_shrink(space);
	assert_non_null(dynmap_space_seg(space, 1));
	release(bench);
	for (i = 0; i < 10; i++)
		dynmap_space_shrink(space);
	assert_null(dynmap_space_seg(space, 1));
	assert_int_equal(take(bench, run.pbn, run.len, &run), 0);
}

/* Without memory in stock nothing is loaded; it is taken from what is not needed. */
static void test_memory_for_bitmaps(void **state)
{
	struct bench *bench = *state;
	struct dynmap_space *space = &alloc_of(bench)->space;
	struct dynmap_seg *seg;
	struct dynmap_op op = {};
	u32 i, spare;

	fixture_seg(&bench->fixture, 1);
	assert_int_equal(dynmap_pool_checkpoint(&bench->fixture.pool), 0);
	while (space->nr_stock)
		dynmap_free(space->stock[--space->nr_stock]);
	assert_null(dynmap_space_seg(space, dynmap_segment_number(1, 0)));
	assert_int_equal(dynmap_space_load(space, dynmap_segment_number(1, 0), &seg, &op), -ENOMEM);
	/* What was used gets a second chance. */
	for (i = 0; i < 10 && !dynmap_space_recycle(space); i++)
		;
	assert_int_equal(space->nr_stock, 1);
	assert_null(dynmap_space_seg(space, 1));
	assert_false(dynmap_space_recycle(space));
	assert_int_equal(space->nr_stock, 1);
	/* Bitmaps that are not those on disk stay. */
	while (space->nr_stock)
		dynmap_free(space->stock[--space->nr_stock]);
	assert_int_equal(FETCHED(&bench->fixture, dynmap_space_load(space, 1, &seg, &op)), 0);
	dynmap_seg_occupy(space, seg, 70, 1);
	while (space->nr_stock)
		dynmap_free(space->stock[--space->nr_stock]);
	for (i = 0; i < 10; i++)
		dynmap_space_recycle(space);
	assert_non_null(dynmap_space_seg(space, 1));
	dynmap_seg_vacate(space, seg, 70, 1);
	/* So many stay however short it is; for others each of them is too many. */
	for (i = 0; i < 10; i++)
		assert_int_equal(dynmap_space_evict(space, 100), 0);
	space->most_segs = 0;
	space->most_loaded = 0;
	assert_int_equal(dynmap_pool_checkpoint(&bench->fixture.pool), 0);
	for (i = 0; i < 10; i++)
		dynmap_space_evict(space, 1);
	assert_null(dynmap_space_seg(space, 1));
	assert_int_equal(space->cache->elsewhere, 0);
	/* What is short is what is brought: else buffers pile up where bitmaps come and go. */
	while (space->nr_stock)
		dynmap_free(space->stock[--space->nr_stock]);
	spare = space->cache->nr_spare;
	assert_int_equal(dynmap_space_load(space, 1, &seg, &op), -ENOMEM);
	assert_int_equal(dynmap_pool_help(&bench->fixture.pool, &op, -ENOMEM), 0);
	assert_int_equal(space->nr_stock, DYNMAP_SPACE_STOCK);
	assert_int_equal(space->cache->nr_spare, spare);
	assert_int_equal(dynmap_pool_help(&bench->fixture.pool, &op, -ENOMEM), 0);
	assert_int_equal(space->cache->nr_spare, spare + DYNMAP_POOL_SPARES);
}

/* Bitmaps that have changed stay in memory: a checkpoint is due before they are too many. */
static void test_changed_bitmaps_are_few(void **state)
{
	static const u64 blocks[] = { 1 << 21, 1 << 21, 1 << 21, 1 << 21, 0 };
	struct dynmap_space *space;
	struct fixture fixture;
	u32 most, i, len;
	u64 pbn;

	(void)state;
	fixture_init(&fixture, blocks, 1, 2);
	dynmap_pool_limit(&fixture.pool, 1024);
	space = &fixture.pool.alloc.space;
	most = 1024 * 3 / 8 * DYNMAP_BLOCK_BYTES / sizeof(struct dynmap_seg);
	for (i = 0; i < 4 * 32; i++) {
		pbn = dynmap_segment_pbn(dynmap_segment_number(i / 32, i % 32)) + 1;
		assert_int_equal(HELPED(&fixture, dynmap_alloc_data(&fixture.pool.alloc, pbn, 1,
								    &pbn, &len, &op)), 0);
		if (dynmap_pool_wants_checkpoint(&fixture.pool))
			assert_int_equal(dynmap_pool_checkpoint(&fixture.pool), 0);
		assert_true(space->nr_dirty_segs <= most);
	}
	assert_int_equal(dynmap_pool_checkpoint(&fixture.pool), 0);
	assert_int_equal(space->nr_dirty_segs, 0);
	fixture_exit(&fixture);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_never_the_same_block_twice, setup_one,
						teardown),
		cmocka_unit_test_setup_teardown(test_fills_up_to_the_floor, setup_one, teardown),
		cmocka_unit_test_setup_teardown(test_freed_blocks_stay_in_quarantine, setup_one,
						teardown),
		cmocka_unit_test_setup_teardown(test_quarantine_waits_for_the_record, setup_one,
						teardown),
		cmocka_unit_test_setup_teardown(test_replay_frees_what_stays_free, setup_one,
						teardown),
		cmocka_unit_test_setup_teardown(test_goal_is_met, setup_one, teardown),
		cmocka_unit_test_setup_teardown(test_devices_fill_evenly, setup_three, teardown),
		cmocka_unit_test_setup_teardown(test_streams_change_devices, setup_four, teardown),
		cmocka_unit_test_setup_teardown(test_a_full_device_is_passed_over, setup_four,
						teardown),
		cmocka_unit_test_setup_teardown(test_streams_do_not_mix, setup_four, teardown),
		cmocka_unit_test_setup_teardown(test_metadata_lies_apart, setup_three, teardown),
		cmocka_unit_test_setup_teardown(test_nodes_on_all_devices, setup_three, teardown),
		cmocka_unit_test_setup_teardown(test_nodes_on_one_of_two_devices, setup_two,
						teardown),
		cmocka_unit_test_setup_teardown(test_urgency_reaches_into_the_floor, setup_one,
						teardown),
		cmocka_unit_test_setup_teardown(test_dead_list_has_room, setup_one, teardown),
		cmocka_unit_test_setup_teardown(test_replay_takes_exactly_what_it_is_told,
						setup_one, teardown),
		cmocka_unit_test_setup_teardown(test_data_leaves_what_is_promised, setup_one,
						teardown),
		cmocka_unit_test_setup_teardown(test_bad_zone_records, setup_three, teardown),
		cmocka_unit_test_setup_teardown(test_bad_summaries, setup_three, teardown),
		cmocka_unit_test_setup_teardown(test_memory_for_bitmaps, setup_three, teardown),
		cmocka_unit_test_setup_teardown(test_bitmaps_come_and_go, setup_three, teardown),
		cmocka_unit_test(test_changed_bitmaps_are_few),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
