// SPDX-License-Identifier: GPL-2.0-only
/* Crash points of a trace, see explore.h. */
#include <sys/mman.h>
#include <unistd.h>

#include "explore.h"
#include "tools/check.h"

#define TABLE_BITS	26
#define MAX_DEPTH	2
#define LONG_TRACE	200	/* events; of longer ones only some are crash points */

/* A trace being explored: the workload's, or that of a recovery. */
struct level {
	struct trace trace;
	struct images images;
	u64 twin_hash;
	u32 depth;
};

struct figures *figures;

static u64 *table;	/* hashes seen, of images and of trials */
static struct level levels[MAX_DEPTH];
static const struct exploration *current;
static u32 point;

static void *shared(u64 bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		abort();
	return at;
}

void explore_init(void)
{
	figures = shared(sizeof(*figures));
	table = shared(sizeof(*table) << TABLE_BITS);
}

void explore_exit(void)
{
	u32 i;

	for (i = 0; i < MAX_DEPTH; i++)
		trace_exit(&levels[i].trace);
}

void explore_report(const char *name)
{
	printf("%s: %llu workloads, %llu crash points, %llu distinct images, %llu nested images, %llu trials, %llu violations\n",
	       name, (unsigned long long)figures->workloads, (unsigned long long)figures->points,
	       (unsigned long long)figures->images, (unsigned long long)figures->nested,
	       (unsigned long long)figures->trials, (unsigned long long)figures->failed);
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
	__attribute__((noreturn));
static void violation(const char *what, const char *where, const struct level *level)
{
	u32 i;

	/* Another process may have told already. */
	if (__atomic_fetch_add(&figures->failed, 1, __ATOMIC_RELAXED))
		_exit(1);
	printf("crash: FAILED: %s%s%s: -w %s, crash point %u, depth %u, sectors", what,
	       *where ? ": " : "", where, current ? current->name : "", point, level->depth);
	for (i = 0; i < level->images.nr_sectors; i++)
		if (level->images.chosen[i])
			printf(" %u/%llu%s", level->images.sector[i].dev,
			       (unsigned long long)level->images.sector[i].sector,
			       level->images.chosen[i] == 2 ? "!" : "");
	printf("\n");
	fflush(stdout);
	_exit(1);
}

void explore_died(const char *what, int error)
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

	ret = trace_store_open(store, pool, readonly);
	if (ret) {
		snprintf(where, sizeof(where), "error %d", ret);
		violation(readonly ? "the image cannot be opened" : "recovery fails", where,
			  level);
	}
	ret = dynmap_check_pool(pool, NULL, &check);
	if (ret || check.damaged || check.repairable)
		violation("the checker finds faults", readonly ? "before recovery" :
			  "after recovery", level);
	failed = twin_verify(current->twin, pool, content, where, sizeof(where));
	if (failed)
		violation(failed, where, level);
}

/* Write the first hole of a volume behind what the twin watches. */
static void use_volume(struct trace_store *store, struct dynmap_pool *pool,
		       struct dynmap_volume *volume, u64 lbn)
{
	static const u8 data[DYNMAP_BLOCK_BYTES];
	struct dynmap_mapping mapping;
	struct dynmap_op op = {};
	u32 dev;
	int ret;

	do {
		ret = dynmap_table_reserve(&pool->table, volume, lbn, 1, &op);
		if (ret)
			ret = dynmap_pool_help(pool, &op, ret) ? -EIO : -EAGAIN;
	} while (ret == -EAGAIN);
	if (ret || dynmap_table_lookup(volume, lbn, &mapping, &op) ||
	    mapping.kind == DYNMAP_HOLE)
		return;
	lbn = dynmap_pbn_locate(&pool->geo, mapping.pbn, &dev);
	disks_write(store->disks, dev, lbn * DYNMAP_BLOCK_SECTORS, DYNMAP_BLOCK_SECTORS, data);
}

/* The pool goes on: a first write of each volume hurts nobody. */
static void use(struct trace_store *store, struct dynmap_pool *pool, const struct level *level)
{
	struct dynmap_volume *volume;
	struct dynmap_op op = {};
	u64 before, after;
	char where[64];
	u32 v;

	for (v = 0; v < TWIN_VOLUMES; v++)
		if (!dynmap_volume_load(&pool->table, v, &volume, &op))
			use_volume(store, pool, volume, TWIN_BLOCKS + v);
	if (twin_verify(current->twin, pool, &before, where, sizeof(where)))
		violation("a place that is taken is given out again", where, level);
	if (dynmap_pool_checkpoint(pool) ||
	    twin_verify(current->twin, pool, &after, where, sizeof(where)) || before != after)
		violation("the pool cannot be used after recovery", "", level);
}

/* Is the recovery of this image crashed, too? */
static bool goes_deeper(const struct level *level, u64 hash)
{
	return level->depth + 1 < MAX_DEPTH && current->deeper &&
	       !(twin_mix(hash, 5) % current->deeper);
}

static void walk(struct level *level, const struct trace *trace, u32 first);

/* Crash the recovery that @deeper->trace holds; the disks are as before it. */
static void go_deeper(struct level *deeper, u64 twin_hash, u64 hash)
{
	images_init(&deeper->images, current->disks, &deeper->trace, hash);
	deeper->twin_hash = twin_hash;
	deeper->depth = deeper - levels;
	walk(deeper, &deeper->trace, 0);
	images_exit(&deeper->images);
}

static void try_image(void *context, u64 hash)
{
	struct level *level = context, *deeper = level + 1;
	u64 content, recovered, mark = disks_mark(current->disks);
	struct trace_store store;
	struct dynmap_pool pool;

	if (!is_new(twin_mix(hash, level->twin_hash)))
		return;
	count(&figures->trials);
	if (is_new(twin_mix(hash, 1)))
		count(level->depth ? &figures->nested : &figures->images);
	trace_store_init(&store, current->disks);
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
		disks_rollback(current->disks, mark);
		go_deeper(deeper, level->twin_hash, hash);
		disks_rollback(current->disks, mark);
	} else if (!(twin_mix(hash, 6) % 16)) {
		examine(&store, &pool, false, level, &content);
		if (content != recovered)
			violation("a second recovery changes what is there", "", level);
		use(&store, &pool, level);
		dynmap_pool_close(&pool);
	}
	trace_store_exit(&store);
}

/* Is the time before this event a crash point? */
static bool is_point(const struct trace *trace, u32 index)
{
	const struct trace_event *event = &trace->event[index];

	if (event->type == TRACE_MARK)
		return false;
	if (current->all_points || trace->count < LONG_TRACE || event->type == TRACE_FLUSH ||
	    event->flags & TRACE_FUA)
		return true;
	return !(twin_mix(index, trace->count) % 8);
}

/* Crash at the points of a trace from event @first on; the disks hold its beginning. */
static void walk(struct level *level, const struct trace *trace, u32 first)
{
	u32 i;

	for (i = 0; i <= trace->count; i++) {
		if (i >= first && (i == trace->count || is_point(trace, i))) {
			count(&figures->points);
			if (!level->depth) {
				point = i;
				level->twin_hash = twin_hash(current->twin);
			}
			images_each(&level->images, &current->budget, try_image, level);
		}
		if (i == trace->count)
			break;
		if (trace->event[i].type == TRACE_MARK)
			twin_apply(current->twin, &trace->event[i].mark);
		else
			images_advance(&level->images, i);
	}
}

void explore(const struct exploration *exploration)
{
	struct level *level = &levels[0];
	u64 mark = disks_mark(exploration->disks);

	current = exploration;
	images_init(&level->images, exploration->disks, exploration->trace, exploration->hash);
	walk(level, exploration->trace, exploration->first);
	images_exit(&level->images);
	disks_rollback(exploration->disks, mark);
	count(&figures->workloads);
}
