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
	u8 *taken[3];		/* per device, per block */
	struct run run[MAX_RUNS];
	u32 nr_runs;
};

static const u64 one_device[] = { 8000, 0 };
static const u64 three_devices[] = { 70000, 8000, 20000, 0 };

static int setup_on(void **state, const u64 *devices, u32 copies)
{
	struct bench *bench = calloc(1, sizeof(*bench));
	u32 i;

	fixture_init(&bench->fixture, devices, 16, copies);
	for (i = 0; i < 3; i++)
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

static int teardown(void **state)
{
	struct bench *bench = *state;
	u32 i;

	for (i = 0; i < 3; i++)
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
	int ret = dynmap_alloc_data(alloc_of(bench), goal, want, &run->pbn, &run->len);
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
		if (ret)
			break;
		sum += run.len;
	}
	assert_int_equal(ret, -ENOSPC);
	assert_int_equal(sum, room);
	assert_true(alloc->free_blocks >= alloc->floor);
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
	vacated = alloc->vacated;
	give_back(bench, &run);
	assert_int_equal(alloc->vacated, vacated);
	assert_int_equal(alloc->quarantined, run.len);
	assert_int_equal(dynmap_alloc_data_free(alloc), room);
	assert_int_equal(take(bench, run.pbn, 1, &other), -EBUSY);
	release(bench);
	assert_int_equal(alloc->quarantined, 0);
	assert_int_not_equal(alloc->vacated, vacated);
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

	while (total < alloc->total_blocks / 2) {
		assert_int_equal(take(bench, DYNMAP_PBN_NONE, 256, &run), 0);
		taken[dynmap_pbn_dev(run.pbn)] += run.len;
		total += run.len;
	}
	for (dev = 0; dev < 3; dev++) {
		share = taken[dev] * 100 / alloc->dev_total[dev];
		assert_in_range(share, 40, 60);
	}
}

/* Copies A on even devices, copies B on odd ones; never where data is put. */
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

			assert_int_equal(dynmap_pbn_dev(pbn) & 1, copy);
			assert_int_equal(*entry(bench, pbn), 0);
		}
	}
}

static void test_urgency_reaches_into_the_floor(void **state)
{
	struct bench *bench = *state;
	struct dynmap_alloc *alloc = alloc_of(bench);
	u64 seen[3] = {};
	u8 urgent;
	int ret;

	/* Take all places that each urgency may have, one by one. */
	for (urgent = 0; urgent <= DYNMAP_URGENT_CHECKPOINT; urgent++) {
		struct dynmap_op op = { .urgent = urgent };

		for (;;) {
			ret = dynmap_alloc_reserve(alloc, 8, 0, &op);
			if (ret == -ENOMEM) {
				dynmap_cache_add_spare(alloc->cache, dynmap_buf_alloc());
				continue;
			}
			if (ret)
				break;
			alloc->cache->nr_stock[0] -= 8;
			alloc->cache->nr_stock[1] -= 8;
		}
		assert_true(ret == -ENOSPC || ret == -EBUSY);
		seen[urgent] = alloc->free_blocks + alloc->cache->nr_stock[0] +
			       alloc->cache->nr_stock[1];
	}
	assert_in_range(seen[0], alloc->floor / 2, alloc->floor / 2 + 15);
	assert_in_range(seen[1], alloc->floor / 4, alloc->floor / 4 + 15);
	assert_in_range(seen[2], 0, 15);
}

static void test_replay_takes_exactly_what_it_is_told(void **state)
{
	struct bench *bench = *state;
	struct dynmap_alloc *alloc = alloc_of(bench);
	struct run run;

	assert_int_equal(take(bench, DYNMAP_PBN_NONE, 16, &run), 0);
	assert_int_equal(dynmap_alloc_data_at(alloc, run.pbn + 8, 16), -EUCLEAN);
	assert_int_equal(dynmap_alloc_data_at(alloc, run.pbn + 16, 16), 0);
	assert_int_equal(dynmap_alloc_data_at(alloc, DYNMAP_PBN_NONE, 16), -EUCLEAN);
	assert_int_equal(dynmap_alloc_data_at(alloc, run.pbn + 32, 0), -EUCLEAN);
	assert_int_equal(dynmap_alloc_avoid(alloc, run.pbn + 32, 16), 0);
	assert_int_equal(take(bench, run.pbn + 32, 1, &run), 0);
	assert_int_equal(dynmap_alloc_avoid(alloc, DYNMAP_PBN_NONE, 1), -EUCLEAN);
}

static void test_bad_zone_records(void **state)
{
	struct bench *bench = *state;
	struct dynmap_alloc *alloc = alloc_of(bench);
	const struct dynmap_disk_zone good = {
		.zone = cpu_to_le64(20),
		.used = cpu_to_le16(1),
		.bitmap = { cpu_to_le64(1) },
	};
	struct dynmap_disk_zone bad = good;

	bad.used = cpu_to_le16(2);
	assert_int_equal(dynmap_alloc_load(alloc, &bad), -EUCLEAN);
	bad = good;
	bad.flags = cpu_to_le16(DYNMAP_ZONE_META);
	assert_int_equal(dynmap_alloc_load(alloc, &bad), -EUCLEAN);
	bad = good;
	bad.flags = cpu_to_le16(4);
	assert_int_equal(dynmap_alloc_load(alloc, &bad), -EUCLEAN);
	bad = good;
	bad.zone = cpu_to_le64(200);		/* behind the short segment's end */
	assert_int_equal(dynmap_alloc_load(alloc, &bad), -EUCLEAN);
	bad.zone = cpu_to_le64(1ULL << 40);
	assert_int_equal(dynmap_alloc_load(alloc, &bad), -EUCLEAN);
	assert_int_equal(dynmap_alloc_load(alloc, &good), 0);
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
		cmocka_unit_test_setup_teardown(test_goal_is_met, setup_one, teardown),
		cmocka_unit_test_setup_teardown(test_devices_fill_evenly, setup_three, teardown),
		cmocka_unit_test_setup_teardown(test_metadata_lies_apart, setup_three, teardown),
		cmocka_unit_test_setup_teardown(test_urgency_reaches_into_the_floor, setup_one,
						teardown),
		cmocka_unit_test_setup_teardown(test_replay_takes_exactly_what_it_is_told,
						setup_one, teardown),
		cmocka_unit_test_setup_teardown(test_bad_zone_records, setup_one, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
