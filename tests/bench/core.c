// SPDX-License-Identifier: GPL-2.0-only
/*
 * core [ROW...]: the core in user space, on pools that no virtual machine could hold:
 * how costs grow with size. Rows: opening, inserts, allocation, volumes, snapshots,
 * dying, emptied, check; with FULL=1 in the environment they go on to the sizes that take
 * minutes.
 *
 * Devices are in memory, as far as they are written: only metadata is. Times are those of the
 * processor, in the calls that hold the metadata lock: reading and writing of nodes lies
 * between them. Reads and writes are counted in blocks of 4 KiB.
 */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/grow.h"
#include "core/open.h"
#include "core/reap.h"
#include "sparse.h"
#include "tools/check.h"

#define CACHE_NODES	16384	/* 64 MiB */
#define CHECK_NODES	4096	/* as many as the tool takes */
#define GIB		(1ULL << 18)	/* blocks */

/**
 * struct bench - a pool that is measured
 * @disk: its device
 * @blocks: length of it
 * @pool: the pool
 * @total: time of the calls measured, in ns
 * @longest: the longest of them
 */
struct bench {
	struct sparse disk;
	u64 blocks;
	struct dynmap_pool pool;
	u64 total;
	u64 longest;
};

static struct bench bench;
static bool full;

__attribute__((noreturn))
static void die(const char *what, int error)
{
	fprintf(stderr, "core: %s: error %d\n", what, error);
	exit(1);
}

static u64 now(void)
{
	struct timespec at;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &at);
	return at.tv_sec * 1000000000ULL + at.tv_nsec;
}

static u64 below(u64 n)
{
	static u64 x = 88172645463325252ULL;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x % n;
}

/* Call @expression, which may use @op, with help until it needs no more; measure the calls. */
#define MEASURED(expression) ({							\
	struct dynmap_op op = {};						\
	u64 __begun, __took;							\
	int __ret;								\
										\
	for (;;) {								\
		__begun = now();						\
		__ret = (expression);						\
		__took = now() - __begun;					\
		bench.total += __took;						\
		bench.longest = max(bench.longest, __took);			\
		if (__ret != -EAGAIN && __ret != -ENOMEM && __ret != -EBUSY)	\
			break;							\
		__ret = dynmap_pool_help(&bench.pool, &op, __ret);		\
		if (__ret)							\
			break;							\
	}									\
	__ret;									\
})

static void begin_to_measure(void)
{
	bench.disk.reads = 0;
	bench.disk.writes = 0;
	bench.total = 0;
	bench.longest = 0;
}

static void open_pool(bool readonly, u32 nodes)
{
	static struct dynmap_disk_super sb;
	int ret = dynmap_super_read(&bench.disk.store, 0, bench.blocks, &sb);

	if (!ret)
		ret = dynmap_pool_open(&bench.pool, &bench.disk.store, &sb, nodes,
				       readonly ? DYNMAP_OPEN_READ_ONLY : 1 + below(1 << 30));
	if (ret)
		die("opening", ret);
}

static void make_pool(u64 blocks, u32 unit)
{
	struct dynmap_format_params params = {
		.uuid = { 1 },
		.dev_uuid[0] = { 1 },
		.nr_devs = 1,
		.dev_blocks[0] = blocks,
		.alloc_blocks = unit,
		.copies = 2,
	};
	int ret;

	sparse_init(&bench.disk);
	bench.blocks = blocks;
	ret = dynmap_pool_format(&bench.disk.store, &params);
	if (ret)
		die("formatting", ret);
	open_pool(false, CACHE_NODES);
}

static void remove_pool(void)
{
	dynmap_pool_close(&bench.pool);
	sparse_exit(&bench.disk);
}

static void checkpoint(void)
{
	int ret;

	do {
		ret = MEASURED(dynmap_pool_checkpoint_prepare(&bench.pool, &op));
	} while (ret == -EINPROGRESS);
	if (!ret)
		ret = MEASURED(dynmap_pool_checkpoint_begin(&bench.pool, &op));
	if (!ret)
		ret = dynmap_pool_checkpoint_io(&bench.pool);
	if (!ret)
		ret = dynmap_pool_checkpoint_publish(&bench.pool);
	if (!ret) {
		while (MEASURED(dynmap_pool_checkpoint_end(&bench.pool, 0)))
			;
		ret = dynmap_pool_checkpoint(&bench.pool);
	}
	if (ret)
		die("checkpoint", ret);
}

static struct dynmap_volume *create(u64 id)
{
	u8 uuid[DYNMAP_UUID_BYTES] = { id + 1 };
	struct dynmap_volume *volume = NULL;
	int ret = MEASURED(dynmap_volume_create(&bench.pool.table, id, DYNMAP_MAX_LBN, uuid, 7,
						&op));

	if (!ret)
		ret = MEASURED(dynmap_volume_load(&bench.pool.table, id, &volume, &op));
	if (ret)
		die("a volume", ret);
	return volume;
}

/* What a write of a block does to the mapping; 0, or -ENOSPC. */
static int write_block(struct dynmap_volume *volume, u64 lbn)
{
	struct dynmap_table *table = &bench.pool.table;
	struct dynmap_mapping mapping;
	u64 pbn;
	u32 len;
	int ret = MEASURED(dynmap_table_lookup(volume, lbn, &mapping, &op));

	if (!ret && (mapping.kind != DYNMAP_DATA || mapping.shared))
		ret = MEASURED(dynmap_table_may_write(table, volume, 0));
	if (!ret && mapping.kind == DYNMAP_HOLE) {
		ret = MEASURED(dynmap_table_reserve(table, volume, lbn, 1, &op));
		if (!ret)
			ret = MEASURED(dynmap_table_lookup(volume, lbn, &mapping, &op));
	}
	if (ret)
		return ret;
	pbn = mapping.pbn;
	if (!mapping.shared)
		return MEASURED((op.place = mapping.place,
				 dynmap_table_set_written(table, volume, lbn, pbn, 1, &op)));
	ret = MEASURED(dynmap_table_hold(table, volume, 1, &pbn, &len, &op));
	if (!ret)
		ret = MEASURED((op.place = mapping.place,
				dynmap_table_redirect(table, volume, &lbn, &pbn, &len, &op)));
	return ret;
}

static void must_write(struct dynmap_volume *volume, u64 lbn)
{
	int ret = write_block(volume, lbn);

	if (ret)
		die("a write", ret);
}

/* Sizes of pools, in GiB, from one to a petabyte. */
static const u64 sizes[] = { 1, 16, 256, 4096, 65536, 1 << 20 };
#define SMALL_SIZES	4

/* Open the pool, and write a block of volume 1: what both cost. */
static void open_and_write(const char *how, u64 gib, u64 lbn)
{
	struct dynmap_volume *volume;
	u64 begun = now();

	begin_to_measure();
	open_pool(false, CACHE_NODES);
	printf("opening %s, %llu GiB: %.1f ms of processor, %llu reads, %llu records replayed; ",
	       how, (unsigned long long)gib, (now() - begun) / 1e6,
	       (unsigned long long)bench.disk.reads, (unsigned long long)bench.pool.replayed);
	begin_to_measure();
	if (MEASURED(dynmap_volume_load(&bench.pool.table, 1, &volume, &op)))
		die("a volume", 0);
	must_write(volume, lbn);
	printf("a write: %llu reads, longest hold %.2f ms\n",
	       (unsigned long long)bench.disk.reads, bench.longest / 1e6);
}

/* Pools of which each segment is in use. */
static void row_opening(void)
{
	u32 i, most = full ? ARRAY_SIZE(sizes) : SMALL_SIZES;
	struct dynmap_volume *volume;
	u64 segments, j;

	for (i = 0; i < most; i++) {
		make_pool(sizes[i] * GIB, 128);
		volume = create(1);
		segments = bench.pool.alloc.space.slots[0];
		for (j = 0; j < segments; j++) {
			bench.pool.alloc.cursor[0] = j;
			must_write(volume, 128 * (j * 7919 % segments));
			if (dynmap_pool_wants_checkpoint(&bench.pool))
				checkpoint();
		}
		checkpoint();
		dynmap_pool_close(&bench.pool);
		open_and_write("clean", sizes[i], 128 * segments);
		volume = create(2);
		for (j = 0; j < 1000; j++)
			must_write(volume, below(1ULL << 40));
		if (dynmap_pool_commit(&bench.pool))
			die("a commit", 0);
		dynmap_pool_close(&bench.pool);
		open_and_write("after a power failure", sizes[i], 128 * segments + 128);
		remove_pool();
	}
}

#define RANDOM_MOST	1000000	/* blocks in random order, of larger maps the last ones */

/*
 * Blocks of a volume of many times their number. The last ones are measured: a tenth, in
 * random order. In maps that would take hours the others are written in ascending order.
 */
static void row_inserts(void)
{
	static const u64 counts[] = { 10000, 100000, 1000000, 10000000, 100000000, 1 << 28 };
	u32 size, most = full ? ARRAY_SIZE(counts) : 3;
	struct dynmap_volume *volume;
	u64 count, i, last;

	for (size = 0; size < most; size++) {
		count = counts[size];
		make_pool(max(4 * GIB, count * 3), 1);
		volume = create(1);
		last = min_t(u64, count / 10, RANDOM_MOST);
		for (i = 0; i < count; i++) {
			if (i == count - last) {
				checkpoint();
				begin_to_measure();
			}
			must_write(volume, i < count - last && count > RANDOM_MOST ?
				   i * 16 : below(count * 16));
			if (dynmap_pool_wants_checkpoint(&bench.pool))
				checkpoint();
		}
		checkpoint();
		printf("inserts, the last %llu of %llu: %.2f blocks written each, %.2f read, %.2f us; longest hold %.1f ms\n",
		       (unsigned long long)last, (unsigned long long)count,
		       (double)bench.disk.writes / last, (double)bench.disk.reads / last,
		       bench.total / 1e3 / last, bench.longest / 1e6);
		remove_pool();
	}
}

static int take_at(u64 pbn, u32 len)
{
	return MEASURED(dynmap_alloc_data_at(&bench.pool.alloc, pbn, len, &op));
}

static int hold(struct dynmap_volume *volume, u32 want, u32 *len)
{
	u64 pbn;

	return MEASURED(dynmap_table_hold(&bench.pool.table, volume, want, &pbn, len, &op));
}

/* Take a pool's space, but for every @gap-th block, which is free alone. */
static void take_but(u32 gap)
{
	struct dynmap_alloc *alloc = &bench.pool.alloc;
	struct dynmap_seg *seg;
	u32 slot, at, len, blocks;
	int ret;

	for (slot = 0; slot < alloc->space.slots[0]; slot++) {
		ret = MEASURED(dynmap_space_load(&alloc->space, slot, &seg, &op));
		blocks = dynmap_segment_blocks(alloc->geo, slot);
		for (at = 0; !ret && at < blocks; at += gap) {
			len = min(gap - 1, blocks - at);
			if (!seg->zone_flags[dynmap_zone_of(at)] &&
			    !seg->zone_flags[dynmap_zone_of(at + len - 1)])
				ret = take_at(dynmap_segment_pbn(slot) + at, len);
		}
		if (ret)
			die("taking space", ret);
		if (dynmap_pool_wants_checkpoint(&bench.pool))
			checkpoint();
	}
	checkpoint();
}

/* Pools full of data, with single blocks free between: from 4 TiB on only far apart. */
static void row_allocation(void)
{
	static const u32 wanted[] = { 1, 16, 128 }, gap[] = { 200, 17, 2 };
	u32 i, j, k, len, tries, most = full ? 5 : 2;
	struct dynmap_volume *volume;
	int ret;

	for (i = 0; i < most; i++)
		for (j = 0; j < (sizes[i] < 4096 ? ARRAY_SIZE(gap) : 1); j++) {
			make_pool(sizes[i] * GIB, 128);
			volume = create(1);
			take_but(gap[j]);
			for (k = 0; k < ARRAY_SIZE(wanted); k++) {
				begin_to_measure();
				for (tries = ret = 0; tries < 10000 && !ret; tries++)
					ret = hold(volume, wanted[k], &len);
				printf("allocation, %llu GiB, one of %u blocks free, %u wanted: average %.2f us, longest %.1f us, %llu reads%s\n",
				       (unsigned long long)sizes[i], gap[j], wanted[k],
				       bench.total / 1e3 / tries, bench.longest / 1e3,
				       (unsigned long long)bench.disk.reads, ret ? ", no space" : "");
			}
			remove_pool();
		}
}

/* Volumes that all have changed since the last checkpoint. */
static void row_volumes(void)
{
	u64 count, most = full ? 100000 : 10000, id;
	struct dynmap_volume *volume = NULL;

	for (count = 1000; count <= most; count *= 10) {
		make_pool(max(4 * GIB, count * 64), 1);
		for (id = 1; id <= count; id++) {
			must_write(create(id), 5);
			if (dynmap_pool_wants_checkpoint(&bench.pool))
				checkpoint();
		}
		checkpoint();
		begin_to_measure();
		for (id = 1; id <= count; id++) {
			if (MEASURED(dynmap_volume_load(&bench.pool.table, id, &volume, &op)))
				die("loading", -EIO);
			must_write(volume, 99);
			if (dynmap_pool_wants_checkpoint(&bench.pool))
				checkpoint();
		}
		checkpoint();
		printf("volumes, %llu active: %.2f us a write, longest hold %.1f ms\n",
		       (unsigned long long)count, bench.total / 1e3 / count, bench.longest / 1e6);
		remove_pool();
	}
}

static int snapshot(u64 id, u64 origin)
{
	u8 uuid[DYNMAP_UUID_BYTES] = { 1 };

	return MEASURED(dynmap_volume_snapshot(&bench.pool.table, id, origin, uuid, 5, &op));
}

static void delete(u64 id)
{
	int ret = MEASURED(dynmap_volume_delete(&bench.pool.table, id, &op));

	if (ret)
		die("deleting", ret);
}

static void reap(void)
{
	int ret;

	do {
		ret = MEASURED(dynmap_volume_reap(&bench.pool.table, &op));
	} while (!ret);
	if (ret != -ENOENT)
		die("emptying what was deleted", ret);
}

/* Few writes between snapshots: what each one costs in metadata. */
static void row_snapshots(void)
{
	static const u32 writes[] = { 16, 64, 256, 1024 };
	const u32 blocks = 125000, rounds = 200;
	struct dynmap_volume *volume;
	u32 i, j, round;
	int ret = 0;

	for (i = 0; i < ARRAY_SIZE(writes); i++) {
		make_pool(8 * GIB, 1);
		volume = create(1);
		for (j = 0; j < blocks; j++)
			must_write(volume, j * 7919ULL % blocks * 3);
		for (round = 0; round < rounds; round++) {
			if (round == rounds / 2) {
				checkpoint();
				begin_to_measure();
			}
			ret = snapshot(2 + round, 1);
			for (j = 0; j < writes[i] && !ret; j++)
				ret = write_block(volume, below(blocks) * 3);
			if (ret)
				die("snapshots", ret);
			checkpoint();
		}
		printf("snapshots, %u blocks, %u random writes after each: %.2f KiB of metadata a write, %.2f us\n",
		       blocks, writes[i], bench.disk.writes * 4.0 * 2 / rounds / writes[i],
		       bench.total / 1e3 * 2 / rounds / writes[i]);
		remove_pool();
	}
}

/* Overwrites where snapshots that are deleted, and not yet emptied, lie between two that live. */
static void row_dying(void)
{
	u64 count, most = full ? 100000 : 10000, id, lbn;
	struct dynmap_volume *volume;

	for (count = 100; count <= most; count *= 10) {
		make_pool(max(4 * GIB, count * 64), 1);
		volume = create(1);
		for (lbn = 0; lbn < 2000; lbn++)
			must_write(volume, lbn * 3);
		for (id = 2; id < count + 3; id++) {
			if (snapshot(id, 1))
				die("a snapshot", -EIO);
			if (dynmap_pool_wants_checkpoint(&bench.pool))
				checkpoint();
		}
		for (id = 3; id < count + 3; id++) {
			delete(id);
			if (dynmap_pool_wants_checkpoint(&bench.pool))
				checkpoint();
		}
		checkpoint();
		begin_to_measure();
		for (lbn = 0; lbn < 1000; lbn++)
			must_write(volume, lbn * 3);
		checkpoint();
		printf("dying, %llu snapshots: %.2f us an overwrite, longest hold %.1f ms\n",
		       (unsigned long long)count, bench.total / 1e6, bench.longest / 1e6);
		remove_pool();
	}
}

/* Write blocks until there is no space; how many. */
static u64 fill(struct dynmap_volume *volume)
{
	u64 lbn = 0;

	while (!write_block(volume, lbn))
		lbn++;
	return lbn;
}

/* Filled, aged by discards, snapshots and overwrites until full, emptied: what is left. */
static void row_emptied(void)
{
	u64 gib, most = full ? 16 : 1, fresh, left, id, lbn;
	struct dynmap_volume *volume;
	int ret;

	for (gib = 1; gib <= most; gib *= 4) {
		make_pool(gib * GIB, 16);
		volume = create(1);
		fresh = fill(volume);
		for (left = 0; left < fresh / 2; left++) {
			lbn = below(fresh);
			ret = MEASURED(dynmap_table_unmap(&bench.pool.table, volume, &lbn, lbn + 1,
							  &op));
			if (ret)
				die("unmapping", ret);
		}
		for (id = 2, ret = 0; !ret; id++) {
			ret = snapshot(id, 1);
			for (left = 0; left < 1000 && !ret; left++)
				ret = write_block(volume, below(fresh));
		}
		for (lbn = 1; lbn < id; lbn++)
			if (!MEASURED(dynmap_volume_load(&bench.pool.table, lbn, &volume, &op)))
				delete(lbn);
		reap();
		checkpoint();
		left = fill(create(1));
		printf("emptied, %llu GiB: %llu blocks of data before, %llu after: %.1f %%\n",
		       (unsigned long long)gib, (unsigned long long)fresh,
		       (unsigned long long)left, left * 100.0 / fresh);
		remove_pool();
	}
}

/* Memory that the process has, or had at most since forget_peak(), in MiB. */
static u64 memory_mib(const char *which)
{
	FILE *status = fopen("/proc/self/status", "r");
	char line[128];
	u64 kib = 0;

	while (status && fgets(line, sizeof(line), status))
		if (!strncmp(line, which, strlen(which)))
			kib = strtoull(line + strlen(which), NULL, 10);
	if (status)
		fclose(status);
	return kib >> 10;
}

static void forget_peak(void)
{
	FILE *refs = fopen("/proc/self/clear_refs", "w");

	if (refs) {
		fputs("5", refs);
		fclose(refs);
	}
}

/* @blocks in random order, then @snapshots with @writes random writes after each. */
static void check_row(u64 blocks, u32 snapshots, u32 writes)
{
	struct dynmap_volume *volume;
	struct dynmap_check check;
	u64 begun, before;
	u32 i, j;
	int ret = 0;

	make_pool(max(4 * GIB, (blocks + (u64)snapshots * writes) * 4), 1);
	volume = create(1);
	for (i = 0; i < blocks; i++)
		must_write(volume, i * 7919ULL % blocks * 3);
	for (i = 0; i < snapshots; i++) {
		ret = snapshot(2 + i, 1);
		for (j = 0; j < writes && !ret; j++)
			ret = write_block(volume, below(blocks) * 3);
		if (ret)
			die("snapshots", ret);
		if (dynmap_pool_wants_checkpoint(&bench.pool))
			checkpoint();
	}
	checkpoint();
	dynmap_pool_close(&bench.pool);
	malloc_trim(0);
	before = memory_mib("VmRSS:");
	open_pool(true, CHECK_NODES);
	begin_to_measure();
	begun = now();
	forget_peak();
	ret = dynmap_check_pool(&bench.pool, NULL, &check);
	if (ret || check.damaged || check.repairable)
		die("the checker", ret);
	printf("check, %llu blocks, %u snapshots, %u writes after each: %.2f s of processor, %llu nodes, %llu reads, %llu passes, %llu MiB of memory\n",
	       (unsigned long long)blocks, snapshots, writes, (now() - begun) / 1e9,
	       (unsigned long long)check.nodes, (unsigned long long)bench.disk.reads,
	       (unsigned long long)check.passes,
	       (unsigned long long)(memory_mib("VmHWM:") - before));
	remove_pool();
}

static void row_check(void)
{
	check_row(100000, 0, 0);
	check_row(1000000, 0, 0);
	check_row(100000, 20, 2000);
	check_row(100000, 80, 2000);
	check_row(100000, 160, 2000);
	check_row(1000000, 1000, 100);
	if (full)
		check_row(10000000, 0, 0);
}

static const struct {
	const char *name;
	void (*run)(void);
} rows[] = {
	{ "opening", row_opening },
	{ "inserts", row_inserts },
	{ "allocation", row_allocation },
	{ "volumes", row_volumes },
	{ "snapshots", row_snapshots },
	{ "dying", row_dying },
	{ "emptied", row_emptied },
	{ "check", row_check },
};

int main(int argc, char **argv)
{
	bool wanted;
	u32 i;
	int j;

	full = getenv("FULL") && *getenv("FULL");
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		wanted = argc == 1;
		for (j = 1; j < argc; j++)
			wanted |= !strcmp(argv[j], rows[i].name);
		if (wanted)
			rows[i].run();
	}
	return 0;
}
