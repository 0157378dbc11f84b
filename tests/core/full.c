// SPDX-License-Identifier: GPL-2.0-only
/*
 * Full pools: filled at random in every manner until nothing goes in, kept full while things
 * are freed, with the power failing anywhere; each of them can be emptied.
 *
 * Owns: pools of random shape, what fills and what frees them, and the oracles:
 *  - a write, a snapshot, a new volume has space or -ENOSPC, and no other error;
 *  - commits and checkpoints succeed, a device can be added;
 *  - what no snapshot shares can be discarded, and each volume deleted, after steps of emptying
 *    those that were deleted before, each of which makes progress;
 *  - wherever the power fails, in a recovery as well, the pool opens for writing, the checker is
 *    content, and no volume has the data of another family;
 *  - emptied, a pool has the space for data of a new one, but for a zone of metadata on each
 *    device and for each copy, which a pool that grew keeps.
 *
 * An image, a pool after a power failure, is tried in a process of its own: there the power
 * fails while the work goes on, and the pool that worked is not touched.
 *
 * Usage: full SEED POOLS
 */
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fixture.h"

#define VOLUMES		400	/* at most */
#define DEVICES		3	/* at most, grown */
#define MAX_IDS		20000	/* volumes that were ever made */
#define BURST		500	/* operations of a kind, at most */
#define ROUNDS		40	/* of freeing and filling again, with an image after each */

/**
 * struct figures - sums over all processes
 * @images: power failures
 * @recoveries: of them, those after which a recovery was interrupted, too
 * @emptied: pools that were emptied
 * @full: operations that found no space
 */
struct figures {
	u64 images;
	u64 recoveries;
	u64 emptied;
	u64 full;
};

static struct figures *figures;
static struct fixture fixture;
static u64 rng_state, seed, pool_number, span, next_id;
static u64 ids[VOLUMES];
static u64 family[MAX_IDS];	/* of each volume that ever was: the first origin */
static u32 nr_ids;
static const char *doing;

/* xorshift64* (Vigna, "An experimental exploration of Marsaglia's generators", 2016). */
static u64 below(u64 n)
{
	rng_state ^= rng_state >> 12;
	rng_state ^= rng_state << 25;
	rng_state ^= rng_state >> 27;
	return (rng_state * 0x2545f4914f6cdd1dULL >> 16) % n;
}

__attribute__((noreturn))
static void broken(const char *what, s64 is)
{
	printf("full: FAILED: %s, after %s: %lld (seed %llu, pool %llu)\n", what, doing,
	       (long long)is, (unsigned long long)seed, (unsigned long long)pool_number);
	fflush(stdout);
	_exit(1);
}

static bool dead(void)
{
	return fixture.mem.dead;
}

/* The result of what may find no space; true if it was done. */
static bool done(const char *what, int ret)
{
	if (ret && ret != -ENOSPC && !dead())
		broken(what, ret);
	figures->full += ret == -ENOSPC;
	return !ret;
}

/* The result of what needs none. */
static void must(const char *what, int ret)
{
	if (ret && !dead())
		broken(what, ret);
}

static struct dynmap_table *table(void)
{
	return &fixture.pool.table;
}

static struct dynmap_volume *load(u64 id)
{
	struct dynmap_volume *volume = NULL;

	must("a volume cannot be loaded",
	     HELPED(&fixture, dynmap_volume_load(table(), id, &volume, &op)));
	return volume;
}

static struct dynmap_volume *any(void)
{
	return load(ids[below(nr_ids)]);
}

/* A volume has been made, of the family of @origin. */
static void made(u64 origin)
{
	family[next_id] = family[origin];
	ids[nr_ids++] = next_id++;
	if (next_id == MAX_IDS)
		broken("more volumes than this test knows", MAX_IDS);
}

static bool create(void)
{
	u8 uuid[DYNMAP_UUID_BYTES] = { next_id % 255 + 1 };

	family[next_id] = next_id;
	if (nr_ids == VOLUMES ||
	    !done("a volume cannot be made",
		  HELPED(&fixture, dynmap_volume_create(table(), next_id, DYNMAP_MAX_LBN, uuid, 7,
							&op))))
		return false;
	made(next_id);
	return true;
}

static bool take_snapshot(void)
{
	u8 uuid[DYNMAP_UUID_BYTES] = { next_id % 255 + 1 };
	u64 origin = ids[below(nr_ids)];

	if (nr_ids == VOLUMES ||
	    !done("a snapshot cannot be made",
		  HELPED(&fixture, dynmap_volume_snapshot(table(), next_id, origin, uuid, 7, &op))))
		return false;
	made(origin);
	return true;
}

static bool write_at(struct dynmap_volume *volume, u64 lbn, u64 len)
{
	return done("a write fails", fixture_write(&fixture, volume, lbn, len, 1));
}

/* Write @count pieces of @len blocks, at random or one after the other; false: no space. */
static bool writes(u32 count, u32 len, bool random)
{
	struct dynmap_volume *volume = any();
	u64 lbn = below(span);
	u32 i;

	for (i = 0; i < count && !dead(); i++) {
		if (!write_at(volume, lbn, len))
			return false;
		lbn = random ? below(span) : lbn + len;
	}
	return true;
}

/* Single blocks in descending order: each leaf of the map stays half empty. */
static bool descend(u32 count)
{
	struct dynmap_volume *volume = any();
	u64 lbn = below(span) + 2 * count;

	for (; count && !dead(); count--, lbn -= 2)
		if (!write_at(volume, lbn - 2, 1))
			return false;
	return true;
}

static bool reserve(void)
{
	struct dynmap_volume *volume = any();
	int ret = HELPED(&fixture, dynmap_table_reserve(table(), volume, below(span),
							1 + below(200), &op));

	return done("space cannot be reserved", ret == -EEXIST ? 0 : ret);
}

/* Discard @count pieces of @len blocks at random, without a commit between them. */
static void unmap_some(u32 count, u64 len)
{
	struct dynmap_volume *volume = any();
	bool shares = volume->map.share.generation;
	int ret = 0;
	u64 lbn;

	while (count-- && !ret && !dead()) {
		lbn = below(span);
		ret = fixture_unmap(&fixture, volume, lbn, lbn + len);
	}
	if (shares)
		done("a discard fails", ret);
	else
		must("a discard of what is not shared fails", ret);
}

/* Empty a step of what was deleted; false: there is nothing left. */
static bool reap(void)
{
	int ret = HELPED(&fixture, dynmap_volume_reap(table(), &op));

	if (ret != -ENOENT)
		must("emptying does not go on", ret);
	return !ret;
}

static void delete(u32 at)
{
	int ret;

	while ((ret = HELPED(&fixture, dynmap_volume_delete(table(), ids[at], &op))) && !dead())
		if (!reap())
			broken("a volume cannot be deleted", ret);
	if (!ret)
		ids[at] = ids[--nr_ids];
}

static void make_checkpoint(void)
{
	must("a checkpoint fails", dynmap_pool_checkpoint(&fixture.pool));
}

static void make_commit(void)
{
	must("a commit fails", dynmap_pool_commit(&fixture.pool));
}

/* A device joins, or the last one becomes longer. */
static void grow(void)
{
	struct store_mem *mem = &fixture.mem;
	u32 dev = mem->nr_devs - 1;

	if (mem->nr_devs < DEVICES && below(2))
		store_mem_grow(mem, dev + 1, 2000 + below(4000));
	else
		store_mem_grow(mem, dev, mem->blocks[dev] + 1000);
	must("a device cannot be added", fixture_grow(&fixture));
}

/* One thing that takes space; false if there is none for it. */
static bool take(void)
{
	switch (below(8)) {
	case 0:
		doing = "writing at random";
		return writes(1 + below(BURST), 1, true);
	case 1:
		doing = "writing a stream";
		return writes(1 + below(30), 1 + below(100), false);
	case 2:
		doing = "writing downwards";
		return descend(1 + below(BURST));
	case 3:
		doing = "reserving";
		return reserve();
	case 4:
		doing = "making a volume";
		return create() && write_at(load(ids[nr_ids - 1]), below(span), 1);
	default:
		doing = "snapshots";
		return take_snapshot() && writes(below(BURST), 1, true);
	}
}

/* One thing that frees space, or will, or makes room for those that do. */
static void give(void)
{
	switch (below(10)) {
	case 0:
		doing = "a discard";
		return unmap_some(1, 1 + below(span));
	case 1:
	case 6:
		doing = "discards of single blocks";
		return unmap_some(1 + below(BURST), 1);
	case 2:
		doing = "emptying";
		while (reap() && below(8))
			;
		return;
	case 3:
		doing = "a checkpoint";
		return make_checkpoint();
	case 4:
		doing = "a commit";
		return make_commit();
	case 5:
		doing = "taking reserved space back";
		done("what is reserved does not come back", dynmap_pool_reclaim(&fixture.pool, 50));
		return;
	default:
		doing = "deleting";
		if (nr_ids > 1)
			delete(below(nr_ids));
	}
}

/* Take until nothing goes in any more: each manner has found no space. */
static void fill(void)
{
	u32 vain = 0;

	while (vain < 12 && !dead()) {
		vain = take() ? 0 : vain + 1;
		if (!below(8))
			make_commit();
		if (!below(32))
			unmap_some(1 + below(10), 1 + below(50));
	}
}

/* No volume has the data of another family. */
static void look(void)
{
	struct dynmap_volume *volume;
	struct fixture_tag tag;
	u64 lbn;
	u32 i;

	for (i = 0; i < 1000; i++) {
		volume = any();
		lbn = below(span);
		if (fixture_read_tag(&fixture, volume, lbn, &tag) &&
		    (tag.lbn != lbn || tag.volume >= MAX_IDS || !tag.volume ||
		     family[tag.volume] != family[volume->id]))
			broken("foreign data", tag.volume);
	}
}

/* What a new pool on the same devices has for data. */
static u64 space_of_new(void)
{
	static struct fixture other;
	u64 blocks[DEVICES + 1] = {}, space;

	memcpy(blocks, fixture.mem.blocks, fixture.mem.nr_devs * sizeof(*blocks));
	fixture_init(&other, blocks, fixture.pool.table.alloc_blocks, fixture.pool.cache.copies);
	space = dynmap_alloc_data_free(&other.pool.alloc);
	fixture_exit(&other);
	return space;
}

static void empty(void)
{
	const struct store_mem *mem = &fixture.mem;
	u64 before, after, kept = mem->nr_devs * fixture.pool.cache.copies * DYNMAP_ZONE_BLOCKS;
	u32 i;

	doing = "deleting all";
	while (nr_ids)
		delete(below(nr_ids));
	while (reap())
		;
	/* As often as the module does when nothing else happens. */
	for (i = 0; dynmap_pool_is_changed(&fixture.pool); i++) {
		if (i == 20)
			broken("there is no end of checkpoints", i);
		make_checkpoint();
	}
	fixture_find_nothing(&fixture);
	before = space_of_new();
	after = dynmap_alloc_data_free(&fixture.pool.alloc);
	if (fixture.pool.alloc.data_allocated || after + kept < before)
		broken("space is lost", before - after);
	__atomic_fetch_add(&figures->emptied, 1, __ATOMIC_RELAXED);
}

/* Volumes as the pool has them. */
static void list_volumes(void)
{
	struct dynmap_disk_volume disk;
	u64 id = 0;

	for (nr_ids = 0; !HELPED(&fixture, dynmap_volume_next(table(), id, &disk, &op)); id++) {
		id = le64_to_cpu(disk.id);
		ids[nr_ids++] = id;
		next_id = max(next_id, id + 1);
	}
}

/* The power fails, in the recovery as well perhaps; the pool opens. */
static void cut(void)
{
	u32 failures = 1 + below(3);
	int ret;

	for (;;) {
		fixture_close(&fixture);
		store_mem_power_cut(&fixture.mem, fixture_random);
		__atomic_fetch_add(&figures->images, 1, __ATOMIC_RELAXED);
		fixture.mem.lives = --failures ? 1 + below(12) : 0;
		ret = fixture_open(&fixture, false);
		if (!dead())
			break;
		__atomic_fetch_add(&figures->recoveries, 1, __ATOMIC_RELAXED);
	}
	fixture.mem.lives = 0;
	if (ret)
		broken("a pool does not open", ret);
	fixture_find_nothing(&fixture);
	list_volumes();
	if (!nr_ids && !create())
		broken("no volume can be made in an empty pool", 0);
	look();
}

/* In a process of its own: the work goes on until the power fails. */
static void try_image(bool all)
{
	int status;

	fflush(stdout);
	rng_state += 0x9e3779b97f4a7c15ULL;
	if (!fork()) {
		fixture.mem.lives = 1 + below(200);
		while (!dead() && below(50)) {
			if (below(2))
				give();
			else
				take();
		}
		cut();
		if (all)
			empty();
		else
			delete(below(nr_ids));
		_exit(0);
	}
	wait(&status);
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		broken("an image is lost", status);
}

/* A pool of one or two devices, of 8 to 100 MiB each; half of them of single blocks. */
static void make(void)
{
	u64 most = below(2) ? 6000 : 24000;
	u64 blocks[3] = { 2000 + below(most), below(2) ? 2000 + below(most) : 0, 0 };

	fixture_init(&fixture, blocks, below(2) ? 1 : 1 << below(6), 1 + !!below(4));
	span = 2 * (blocks[0] + blocks[1]);
	nr_ids = 0;
	next_id = 1;
	doing = "formatting";
	if (!create())
		broken("no volume can be made in a new pool", 0);
}

/* One pool: filled, kept full, emptied. */
static void one_pool(void)
{
	bool may_grow = !below(4);
	u32 round, i;

	make();
	fill();
	for (round = 0; round < ROUNDS; round++) {
		try_image(!(round % 4));
		for (i = 0; i < 4; i++)
			if (below(2))
				give();
			else
				take();
		if (may_grow && !below(ROUNDS))
			grow();
		if (!below(ROUNDS / 2))
			cut();
		if (round % 8 == 7)
			fill();
	}
	empty();
	fixture_exit(&fixture);
}

int main(int argc, char **argv)
{
	u64 pools;

	if (argc != 3) {
		fprintf(stderr, "usage: full SEED POOLS\n");
		return 2;
	}
	seed = strtoull(argv[1], NULL, 0);
	pools = strtoull(argv[2], NULL, 0);
	figures = mmap(NULL, sizeof(*figures), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		       -1, 0);
	if (figures == MAP_FAILED)
		return 2;
	for (pool_number = 0; pool_number < pools; pool_number++) {
		rng_state = (seed << 20) + pool_number + 1;
		below(2);
		one_pool();
	}
	printf("full: seed %llu: %llu pools, %llu power failures, %llu of them in a recovery, %llu times emptied, %llu operations without space\n",
	       (unsigned long long)seed, (unsigned long long)pools,
	       (unsigned long long)figures->images, (unsigned long long)figures->recoveries,
	       (unsigned long long)figures->emptied, (unsigned long long)figures->full);
	return 0;
}
