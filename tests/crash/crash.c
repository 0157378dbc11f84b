// SPDX-License-Identifier: GPL-2.0-only
/*
 * Power-failure simulator: the real core at work, the power fails anywhere.
 *
 * Owns: the workloads: all sequences of up to three operations on each of a few
 * tiny pools, then long seeded ones. What is done with them: explore.h.
 *
 * crash [-q] [-j JOBS] [-l LENGTH] [-r RUNS] [-s SEED]   all workloads
 * crash -w SHAPE:LETTERS                                 one sequence
 */
#include <getopt.h>
#include <sys/wait.h>
#include <unistd.h>

#include "explore.h"
#include "world.h"

#define RUN_OPS		60	/* operations of a long run */

static const struct world_shape shapes[] = {
	{ .name = "one", .capacity = { 1024 }, .nr_devs = 1, .alloc_blocks = 16, .copies = 2 },
	{ .name = "two", .capacity = { 1024, 1100, 1024 }, .nr_devs = 2, .alloc_blocks = 4,
	  .copies = 2 },
	{ .name = "full", .capacity = { 1200, 1024 }, .nr_devs = 1, .shrunk = 170,
	  .alloc_blocks = 8, .copies = 2, .ballast = 24 },
	{ .name = "journal", .capacity = { 1024, 1024 }, .nr_devs = 2, .alloc_blocks = 1,
	  .copies = 2, .commits = 21 },
	{ .name = "single", .capacity = { 1024, 1030 }, .nr_devs = 2, .alloc_blocks = 16,
	  .copies = 1 },
};

static struct world world;
static struct twin start_twin, twin;
static const struct world_shape *shape;
static char workload[RUN_OPS + 64];
static u64 rng_state;
static bool quick, single;

/* xorshift64* (Vigna, "An experimental exploration of Marsaglia's generators", 2016). */
static u64 rnd(void)
{
	rng_state ^= rng_state >> 12;
	rng_state ^= rng_state << 25;
	rng_state ^= rng_state >> 27;
	return rng_state * 0x2545f4914f6cdd1dULL;
}

/* The workload has been recorded: crash it at each point from event @first on. */
static void explore_world(u32 first)
{
	bool thorough = single || (!quick && workload[0] == '#');
	char name[sizeof(workload) + 32];
	const struct exploration exploration = {
		.disks = &world.disks,
		.trace = &world.trace,
		.twin = &twin,
		.name = name,
		.hash = twin_mix(0, shape - shapes),
		.first = first,
		.budget = {
			.all = single ? 10 : thorough ? 6 : 4,
			.seeded = thorough ? 16 : 4,
			.singles = thorough,
		},
		.deeper = single ? 1 : quick ? 400 : 150,
	};

	snprintf(name, sizeof(name), "%s:%s", shape->name, workload);
	world_end(&world);
	/* What was opened is durable: recoveries are crashed elsewhere. */
	disks_rollback(&world.disks, world.opened);
	twin = start_twin;
	explore(&exploration);
	disks_rollback(&world.disks, 0);
}

static void set_shape(const struct world_shape *wanted)
{
	u32 i;

	if (shape == wanted)
		return;
	if (shape)
		world_exit(&world);
	shape = wanted;
	world_init(&world, shape);
	memset(&start_twin, 0, sizeof(start_twin));
	for (i = 0; i < world.trace.count; i++)
		if (world.trace.event[i].type == TRACE_MARK)
			twin_apply(&start_twin, &world.trace.event[i].mark);
}

/* Operations by number; the points of the last one are new. */
static void sequence(const u32 *ops, u32 length)
{
	u32 i, first = 0;

	for (i = 0; i < length; i++)
		workload[i] = world_op_letter(ops[i]);
	workload[length] = 0;
	world_begin(&world);
	for (i = 0; i < length; i++) {
		first = world.trace.count;
		world_operate(&world, ops[i], NULL);
	}
	explore_world(single ? 0 : first);
}

/* Sequence @number of those of @length on all shapes. */
static void numbered_sequence(u64 number, u32 length)
{
	u32 ops[8], i;

	set_shape(&shapes[number % ARRAY_SIZE(shapes)]);
	number /= ARRAY_SIZE(shapes);
	for (i = 0; i < length; i++, number /= world_nr_ops())
		ops[i] = number % world_nr_ops();
	sequence(ops, length);
}

static void long_run(u64 seed)
{
	u32 i;

	set_shape(&shapes[seed % ARRAY_SIZE(shapes)]);
	snprintf(workload, sizeof(workload), "#%llu", (unsigned long long)seed);
	rng_state = twin_mix(seed, 99) | 1;
	world_begin(&world);
	for (i = 0; i < RUN_OPS; i++)
		world_operate(&world, rnd() % world_nr_ops(), rnd);
	explore_world(0);
}

static u64 nr_sequences(u32 length)
{
	u64 nr = ARRAY_SIZE(shapes);

	while (length--)
		nr *= world_nr_ops();
	return nr;
}

/* Take workloads until there are none; the number of lengths 1 to @length, then @runs. */
static void work(u32 length, u64 runs, u32 every, u64 seed)
{
	u64 number, before;
	u32 n;

	for (;;) {
		number = __atomic_fetch_add(&figures->next, 1, __ATOMIC_RELAXED);
		if (figures->failed)
			_exit(1);
		before = number;
		for (n = 1; n <= length && before >= nr_sequences(n); n++)
			before -= nr_sequences(n);
		if (n <= length) {
			if (n < length || !(twin_mix(number, seed) % every))
				numbered_sequence(before, n);
		} else if (before < runs) {
			long_run(seed + before);
		} else {
			break;
		}
	}
	if (shape)
		world_exit(&world);
	explore_exit();
}

static int one_workload(const char *name, const char *letters)
{
	u32 ops[RUN_OPS], i, n, length = 0;

	single = true;
	for (i = 0; i < ARRAY_SIZE(shapes); i++)
		if (!strncmp(shapes[i].name, name, strcspn(name, ":")))
			set_shape(&shapes[i]);
	if (!shape) {
		fprintf(stderr, "crash: no such pool\n");
		return 2;
	}
	if (*letters == '#') {
		long_run(strtoull(letters + 1, NULL, 0));
		return 0;
	}
	for (; *letters && length < RUN_OPS; letters++)
		for (n = 0; n < world_nr_ops(); n++)
			if (world_op_letter(n) == *letters)
				ops[length++] = n;
	sequence(ops, length);
	return 0;
}

int main(int argc, char **argv)
{
	u32 jobs = 2, length = 3, every = 1, i;
	u64 runs = 40, seed = 1;
	int option;

	explore_init();
	dynmap_verbose = getenv("VERBOSE");
	world_on_death = explore_died;
	while ((option = getopt(argc, argv, "qj:l:r:s:w:")) != -1) {
		switch (option) {
		case 'q':
			quick = true;
			every = 40;
			runs = 20;
			break;
		case 'j':
			jobs = atoi(optarg);
			break;
		case 'l':
			length = atoi(optarg);
			break;
		case 'r':
			runs = strtoull(optarg, NULL, 0);
			break;
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 'w':
			i = strcspn(optarg, ":");
			option = one_workload(optarg, optarg + i + !!optarg[i]);
			explore_report("crash");
			return option;
		default:
			fprintf(stderr, "usage: crash [-q] [-j JOBS] [-l LENGTH] [-r RUNS] [-s SEED] | -w SHAPE:LETTERS\n");
			return 2;
		}
	}
	for (i = 0; i < jobs; i++) {
		if (fork())
			continue;
		work(length, runs, every, seed);
		_exit(0);
	}
	/* A process that was killed has told nothing. */
	while (wait(&option) > 0)
		if (option && !figures->failed)
			figures->failed = 1;
	explore_report("crash");
	return !!figures->failed;
}
