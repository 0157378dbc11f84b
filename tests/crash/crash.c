// SPDX-License-Identifier: GPL-2.0-only
/*
 * Power-failure simulator: the real core at work, the power fails anywhere.
 *
 * Owns: workloads, crash points, what is tried with each image, the figures.
 * Workloads are all sequences of up to three operations on each of a few tiny
 * pools, then long seeded ones. At each crash point each image that the devices
 * may hold is opened read-only (the journal replayed in memory), checked and
 * compared with the twin; opened for writing, which recovers it, checked and
 * compared again; it must hold the same both times and once more after that. Of
 * some images the recovery itself is recorded and crashed in the same way, and
 * the pool is used on.
 *
 * crash [-q] [-j JOBS] [-l LENGTH] [-r RUNS] [-s SEED]   all workloads
 * crash -w SHAPE:LETTERS                                 one sequence
 */
#include <getopt.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "images.h"
#include "tools/check.h"
#include "world.h"

#define TABLE_BITS	26
#define RUN_OPS		60	/* operations of a long run */
#define MAX_DEPTH	2

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

/**
 * struct figures - shared by all processes
 * @next: next workload to take
 * @workloads: done
 * @points: crash points
 * @images: distinct images
 * @nested: distinct ones of these in recovery
 * @trials: images tried: the same one counts again where more was acknowledged
 * @failed: a violation was found
 */
struct figures {
	u64 next;
	u64 workloads;
	u64 points;
	u64 images;
	u64 nested;
	u64 trials;
	u64 failed;
};

static struct figures *figures;
static u64 *table;	/* hashes seen, of images and of trials */

static struct world world;
static struct twin start_twin, twin;
static const struct world_shape *shape;
static char workload[RUN_OPS + 64];
static u64 rng_state;
static u32 point;
static bool quick, single;

/* One that is being explored: the trace, and how deep in recoveries. */
struct level {
	struct trace trace;
	struct images images;
	u64 twin_hash;
	u32 depth;
};

static struct level levels[MAX_DEPTH + 1];

/* xorshift64* (Vigna, "An experimental exploration of Marsaglia's generators", 2016). */
static u64 rnd(void)
{
	rng_state ^= rng_state >> 12;
	rng_state ^= rng_state << 25;
	rng_state ^= rng_state >> 27;
	return rng_state * 0x2545f4914f6cdd1dULL;
}

static void count(u64 *figure)
{
	__atomic_fetch_add(figure, 1, __ATOMIC_RELAXED);
}

/* Enter a hash into the table: false if it was there. */
static bool is_new(u64 hash)
{
	u64 at = hash >> (64 - TABLE_BITS), seen;

	hash |= 1;
	for (;; at = (at + 1) & ((1ULL << TABLE_BITS) - 1)) {
		seen = __atomic_load_n(&table[at], __ATOMIC_RELAXED);
		if (!seen && __atomic_compare_exchange_n(&table[at], &seen, hash, false,
							 __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			return true;
		if (seen == hash)
			return false;
	}
}

static void violation(const char *what, const char *where, const struct level *level)
{
	u32 i;

	if (__atomic_fetch_add(&figures->failed, 1, __ATOMIC_RELAXED) && !single)
		_exit(1);
	printf("crash: FAILED: %s%s%s: -w %s:%s, crash point %u, depth %u, sectors", what,
	       *where ? ": " : "", where, shape->name, workload, point, level->depth);
	for (i = 0; i < level->images.nr_sectors; i++)
		if (level->images.chosen[i])
			printf(" %u/%llu%s", level->images.sector[i].dev,
			       (unsigned long long)level->images.sector[i].sector,
			       level->images.chosen[i] == 2 ? "!" : "");
	printf("\n");
	fflush(stdout);
	_exit(1);
}

static void died(const char *what, int error)
{
	char where[32];

	snprintf(where, sizeof(where), "error %d", error);
	violation(what, where, &levels[0]);
}

/* Open, check, compare; what the volumes hold to *content. */
static void examine(struct trace_store *store, struct dynmap_pool *pool, bool readonly,
		    const struct level *level, u64 *content)
{
	struct dynmap_check check;
	char where[64] = "";
	const char *failed;
	int ret;

	ret = world_open_pool(store, pool, readonly);
	if (ret) {
		snprintf(where, sizeof(where), "error %d", ret);
		violation(readonly ? "the image cannot be opened" : "recovery fails", where,
			  level);
	}
	ret = dynmap_check_pool(pool, &check);
	if (ret || check.damaged || check.repairable)
		violation("the checker finds faults", readonly ? "before recovery" :
			  "after recovery", level);
	failed = twin_verify(&twin, pool, content, where, sizeof(where));
	if (failed)
		violation(failed, where, level);
}

/* The pool goes on: a first write of each volume hurts nobody. */
static void use(struct trace_store *store, struct dynmap_pool *pool, const struct level *level)
{
	static u8 data[DYNMAP_BLOCK_BYTES];
	struct dynmap_mapping mapping;
	struct dynmap_volume *volume;
	struct dynmap_op op = {};
	u64 before, after, lbn;
	char where[64];
	u32 v, dev;

	for (v = 0; v < TWIN_VOLUMES; v++) {
		if (dynmap_volume_load(&pool->table, v, &volume, &op))
			continue;
		lbn = TWIN_BLOCKS + v;
		while (dynmap_table_reserve(&pool->table, volume, lbn, 1, &op) == -ENOMEM)
			if (dynmap_pool_help(pool, &op, -ENOMEM))
				return;
		if (dynmap_table_lookup(volume, lbn, &mapping, &op) ||
		    mapping.kind == DYNMAP_HOLE)
			continue;
		lbn = dynmap_pbn_locate(&pool->geo, mapping.pbn, &dev);
		disks_write(store->disks, dev, lbn * DYNMAP_BLOCK_SECTORS, DYNMAP_BLOCK_SECTORS,
			    data);
	}
	if (twin_verify(&twin, pool, &before, where, sizeof(where)))
		violation("a place in use is given out again", where, level);
	if (dynmap_pool_checkpoint(pool) ||
	    twin_verify(&twin, pool, &after, where, sizeof(where)) || before != after)
		violation("the pool cannot be used after recovery", "", level);
}

static void explore(struct level *level, u32 first);

/* Is the recovery of this image crashed, too? */
static bool goes_deeper(const struct level *level, u64 hash)
{
	if (level->depth + 1 > MAX_DEPTH - 1)
		return false;
	return single || !(twin_mix(hash, 5) % (quick ? 400 : 150));
}

static void try_image(void *context, u64 hash)
{
	struct level *level = context, *deeper = level + 1;
	struct trace_store store;
	struct dynmap_pool pool;
	u64 content, recovered, mark = disks_mark(&world.disks), image;

	image = twin_mix(hash, 1);
	if (!is_new(twin_mix(hash, level->twin_hash)))
		return;
	count(&figures->trials);
	if (is_new(image))
		count(level->depth ? &figures->nested : &figures->images);
	trace_store_init(&store, &world.disks);
	examine(&store, &pool, true, level, &content);
	dynmap_pool_close(&pool);
	if (goes_deeper(level, hash)) {
		trace_reset(&deeper->trace);
		store.trace = &deeper->trace;
	}
	examine(&store, &pool, false, level, &recovered);
	dynmap_pool_close(&pool);
	if (content != recovered)
		violation("recovery changes what is there", "", level);
	if (store.trace) {
		disks_rollback(&world.disks, mark);
		store.trace = NULL;
		images_init(&deeper->images, &world.disks, &deeper->trace, hash);
		deeper->twin_hash = level->twin_hash;
		deeper->depth = level->depth + 1;
		explore(deeper, 0);
		images_exit(&deeper->images);
		disks_rollback(&world.disks, mark);
	} else if (!(twin_mix(hash, 6) % 16)) {
		examine(&store, &pool, false, level, &content);
		if (content != recovered)
			violation("a second recovery changes what is there", "", level);
		use(&store, &pool, level);
		dynmap_pool_close(&pool);
	}
	trace_store_exit(&store);
}

/* Is the time before or after this event a crash point of a long trace? */
static bool is_point(const struct trace *trace, u32 index)
{
	const struct trace_event *event = &trace->event[index];

	if (event->type == TRACE_MARK)
		return false;
	if (trace->count < 200 || event->type == TRACE_FLUSH || event->flags & TRACE_FUA)
		return true;
	return !(twin_mix(index, trace->count) % 8);
}

/* Crash at the points of a trace from event @first on; the disks hold its beginning. */
static void explore(struct level *level, u32 first)
{
	bool thorough = single || (!quick && workload[0] == '#' && !level->depth);
	const struct images_budget budget = {
		.all = single ? 10 : thorough ? 6 : 4,
		.seeded = thorough ? 16 : 4,
		.singles = thorough,
	};
	const struct trace *trace = &level->trace;
	u32 i;

	for (i = 0; i <= trace->count; i++) {
		if (i >= first && (i == trace->count || is_point(trace, i))) {
			count(&figures->points);
			if (!level->depth) {
				point = i;
				level->twin_hash = twin_hash(&twin);
			}
			images_each(&level->images, &budget, try_image, level);
		}
		if (i == trace->count)
			break;
		if (trace->event[i].type == TRACE_MARK)
			twin_apply(&twin, &trace->event[i].mark);
		else
			images_advance(&level->images, i);
	}
}

/* The workload has been recorded: crash it at each point from event @first on. */
static void explore_world(u32 first)
{
	struct level *level = &levels[0];
	struct trace trace = level->trace;

	world_end(&world);
	disks_rollback(&world.disks, world.opened);
	level->trace = world.trace;
	world.trace = trace;
	twin = start_twin;
	images_init(&level->images, &world.disks, &level->trace, twin_mix(0, shape - shapes));
	explore(level, first);
	images_exit(&level->images);
	disks_rollback(&world.disks, 0);
	count(&figures->workloads);
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
	for (n = 0; n <= MAX_DEPTH; n++)
		trace_exit(&levels[n].trace);
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

static void *shared(u64 bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		abort();
	return at;
}

static void report(void)
{
	printf("crash: %llu workloads, %llu crash points, %llu distinct images, %llu nested images, %llu trials, %llu violations\n",
	       (unsigned long long)figures->workloads, (unsigned long long)figures->points,
	       (unsigned long long)figures->images, (unsigned long long)figures->nested,
	       (unsigned long long)figures->trials, (unsigned long long)figures->failed);
}

int main(int argc, char **argv)
{
	u32 jobs = 2, length = 3, every = 1, i;
	u64 runs = 400, seed = 1;
	int option;

	figures = shared(sizeof(*figures));
	table = shared(sizeof(*table) << TABLE_BITS);
	dynmap_verbose = getenv("VERBOSE");
	world_on_death = died;
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
			report();
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
	while (wait(&option) > 0)
		if (option)
			figures->failed |= 1;
	report();
	return !!figures->failed;
}
