// SPDX-License-Identifier: GPL-2.0-only
/*
 * Model test: random operations on a pool against naive arrays.
 *
 * Owns: the naive twin (what each 512-byte sector of each volume holds, what
 * it held at the last commit) and the oracles:
 *  - a read gives what was written last, zeros where nothing was;
 *  - after a power cut a sector holds what the last commit made durable, or
 *    something newer of the same sector, never anything else;
 *  - the checker is clean after every opening and every checkpoint.
 *
 * Usage: model SEED OPERATIONS DEVICES
 */
#include <stdio.h>
#include <stdlib.h>

#include "core/grow.h"
#include "core/open.h"
#include "core/reap.h"
#include "store-mem.h"
#include "tools/check.h"

#define VOLUMES		7
#define MAX_GROWTHS	6
#define BLOCKS		1500
#define SECTORS		(BLOCKS * DYNMAP_BLOCK_SECTORS)

/* Snapshots have the uid of their origin: that of the family. */
struct tag {
	u64 uid;
	u64 writer;
	u64 sector;
	u64 seq;
};

/* The generation of its record tells a volume from what it was before it was rolled back. */
struct twin {
	bool exists;
	u64 uid;
	u64 writer;
	u32 generation;
	u64 now[SECTORS];
	u64 durable[SECTORS];
	bool unmapped[SECTORS];
};

static struct store_mem mem;
static struct dynmap_pool pool;
static struct twin twins[VOLUMES], unrolled;
static u32 unrolled_v = VOLUMES;
static u64 rng_state, seq, commit_seq, next_uid = 1, op_number, seed;
static u64 nr_writes, nr_redirects, nr_snapshots, nr_cuts, nr_checks, nr_full, nr_reclaimed;
static u64 nr_replayed, nr_grown, nr_rollbacks, nr_compares, nr_usages;
static u32 alloc_blocks, nr_devs;

/* xorshift64* (Vigna, "An experimental exploration of Marsaglia's generators", 2016). */
static u64 rnd(void)
{
	rng_state ^= rng_state >> 12;
	rng_state ^= rng_state << 25;
	rng_state ^= rng_state >> 27;
	return rng_state * 0x2545f4914f6cdd1dULL;
}

static u64 below(u64 n)
{
	return (rnd() >> 16) % n;
}

static void fail(const char *what, u64 volume, u64 where, u64 is, u64 expected)
{
	printf("model: FAILED: %s: volume %llu at %llu: %llu, expected %llu (seed %llu, operation %llu)\n",
	       what, (unsigned long long)volume, (unsigned long long)where,
	       (unsigned long long)is, (unsigned long long)expected, (unsigned long long)seed,
	       (unsigned long long)op_number);
	exit(1);
}

/* Call @expression with help; a power cut or a full pool ends it. */
#define helped(ret, expression)							\
	do {									\
		struct dynmap_op op = {};					\
		u32 tries = 0;							\
		for (;;) {							\
			(ret) = (expression);					\
			if ((ret) != -EAGAIN && (ret) != -ENOMEM &&		\
			    (ret) != -EBUSY)					\
				break;						\
			if (++tries > 2000)					\
				fail("no progress: " #expression, 0, 0, -(ret), 0);	\
			(ret) = dynmap_pool_help(&pool, &op, ret);		\
			if (ret)						\
				break;						\
		}								\
	} while (0)

static struct dynmap_volume *load(u32 v)
{
	struct dynmap_volume *volume;
	int ret;

	helped(ret, dynmap_volume_load(&pool.table, v, &volume, &op));
	if (ret)
		fail("volume cannot be loaded", v, 0, -ret, 0);
	return volume;
}

static bool expected_error(int ret)
{
	return !ret || mem.dead || ret == -ENOSPC;
}

static void committed(void)
{
	u32 v;

	commit_seq = seq;
	for (v = 0; v < VOLUMES; v++) {
		memcpy(twins[v].durable, twins[v].now, sizeof(twins[v].now));
		memset(twins[v].unmapped, 0, sizeof(twins[v].unmapped));
	}
}

/* The pool is full: take surplus back. False if there is none in any volume. */
static bool reclaim(void)
{
	u32 v;
	int ret;

	nr_full++;
	ret = dynmap_pool_reclaim(&pool, 1 + below(200));
	if (!ret) {
		nr_reclaimed++;
		committed();
		commit_seq = seq - 1;	/* the rest of this write is not yet durable */
		return true;
	}
	if (!expected_error(ret))
		fail("reclaim", 0, 0, -ret, 0);
	for (v = 0; v < VOLUMES && !mem.dead; v++)
		if (twins[v].exists && load(v)->reserved)
			fail("surplus is left in a full pool", v, 0, 0, load(v)->reserved);
	return false;
}

/* Sector values of one block as a reader would see them, and who wrote them. */
static void read_block(struct dynmap_volume *volume, u32 v, u64 lbn, u64 *values, u64 *writers)
{
	static u8 data[DYNMAP_BLOCK_BYTES];
	struct dynmap_mapping mapping;
	struct tag tag;
	u32 dev, i;
	int ret;
	u64 at;

	helped(ret, dynmap_table_lookup(volume, lbn, &mapping, &op));
	if (ret)
		fail("lookup", v, lbn, -ret, 0);
	memset(values, 0, DYNMAP_BLOCK_SECTORS * sizeof(*values));
	memset(writers, 0, DYNMAP_BLOCK_SECTORS * sizeof(*writers));
	if (mapping.kind != DYNMAP_DATA)
		return;
	at = dynmap_pbn_locate(&pool.geo, mapping.pbn, &dev);
	mem.store.ops->read(&mem.store, dev, at, data);
	for (i = 0; i < DYNMAP_BLOCK_SECTORS; i++) {
		memcpy(&tag, data + 512 * i, sizeof(tag));
		if (tag.uid != twins[v].uid || tag.sector != lbn * DYNMAP_BLOCK_SECTORS + i)
			fail("foreign data", v, lbn, tag.uid, twins[v].uid);
		values[i] = tag.seq;
		writers[i] = tag.writer;
	}
}

static void do_read(u32 v, u64 lbn, u64 len)
{
	struct dynmap_volume *volume = load(v);
	u64 values[DYNMAP_BLOCK_SECTORS], writers[DYNMAP_BLOCK_SECTORS];
	u32 i;

	for (; len; len--, lbn++) {
		read_block(volume, v, lbn, values, writers);
		for (i = 0; i < DYNMAP_BLOCK_SECTORS; i++)
			if (values[i] != twins[v].now[lbn * DYNMAP_BLOCK_SECTORS + i])
				fail("read", v, lbn, values[i],
				     twins[v].now[lbn * DYNMAP_BLOCK_SECTORS + i]);
	}
}

/* Write @len mapped blocks; false if the power failed. */
static bool write_data(u32 v, u64 lbn, u64 pbn, u64 len)
{
	static u8 data[DYNMAP_BLOCK_BYTES];
	struct tag tag = { .uid = twins[v].uid, .writer = twins[v].writer, .seq = seq };
	u32 dev, i;
	u64 at;

	for (; len; len--, lbn++, pbn++) {
		for (i = 0; i < DYNMAP_BLOCK_SECTORS; i++) {
			tag.sector = lbn * DYNMAP_BLOCK_SECTORS + i;
			memcpy(data + 512 * i, &tag, sizeof(tag));
		}
		at = dynmap_pbn_locate(&pool.geo, pbn, &dev);
		if (!store_mem_write(&mem, dev, at, data))
			return false;
	}
	return true;
}

/* A step towards a checkpoint, between other operations. */
static void do_prepare(void)
{
	int ret;

	helped(ret, dynmap_pool_checkpoint_prepare(&pool, &op));
	if (ret != -EINPROGRESS && (!expected_error(ret) || (ret == -ENOSPC && !mem.dead)))
		fail("prepare", 0, 0, -ret, 0);
}

/*
 * Write up to *n blocks to a place of their own; 0, -ENOSPC; or -EIO: the power
 * failed, or the write.
 */
static int redirect(struct dynmap_volume *volume, u32 v, u64 lbn, u64 *n,
		    const struct dynmap_mapping *mapping)
{
	u64 pbn, at = lbn;
	u32 len;
	int ret;

	helped(ret, dynmap_table_hold(&pool.table, volume, *n, &pbn, &len, &op));
	if (ret)
		return ret;
	*n = len;
	if (!write_data(v, lbn, pbn, len))
		return -EIO;
	if (!below(10))
		do_prepare();
	nr_redirects++;
	ret = below(20) ? 0 : -EIO;
	if (!ret)
		helped(ret, (op.place = mapping->place,
			     dynmap_table_redirect(&pool.table, volume, &at, &pbn, &len, &op)));
	if (ret)
		dynmap_alloc_unhold(&pool.alloc, pbn, len);
	if (ret == -ENOSPC && at > lbn) {
		*n = at - lbn;
		ret = 0;
	}
	return ret;
}

static void do_write(u32 v, u64 lbn, u64 len)
{
	struct dynmap_volume *volume = load(v);
	struct dynmap_mapping mapping;
	u64 n, i;
	int ret;

	seq++;
	nr_writes++;
	while (len) {
		helped(ret, dynmap_table_lookup(volume, lbn, &mapping, &op));
		if (!ret && mapping.kind == DYNMAP_HOLE) {
			helped(ret, dynmap_table_reserve(&pool.table, volume, lbn, len, &op));
			if (ret == -ENOSPC && !mem.dead && reclaim())
				continue;
			if (ret && expected_error(ret))
				return;
			if (!ret)
				helped(ret, dynmap_table_lookup(volume, lbn, &mapping, &op));
		}
		if (ret || mapping.kind == DYNMAP_HOLE)
			fail("mapping for a write", v, lbn, -ret, 0);
		n = min(len, mapping.len);
		if (mapping.shared) {
			ret = redirect(volume, v, lbn, &n, &mapping);
			if (ret == -ENOSPC && !mem.dead && reclaim())
				continue;
			if (ret == -EIO || mem.dead || ret == -ENOSPC)
				return;
			if (ret)
				fail("redirect", v, lbn, -ret, 0);
		} else if (!write_data(v, lbn, mapping.pbn, n)) {
			return;
		}
		if (!mapping.shared && mapping.kind == DYNMAP_RESERVED) {
			/* Now and then a write fails: nothing may be seen of it. */
			if (!below(20))
				return;
			if (!below(10))
				do_prepare();
			helped(ret, (op.place = mapping.place,
				     dynmap_table_set_written(&pool.table, volume, lbn,
							      mapping.pbn, n, &op)));
			if (mem.dead)
				return;
			if (ret)
				fail("set_written", v, lbn, -ret, 0);
		}
		for (i = lbn * DYNMAP_BLOCK_SECTORS; i < (lbn + n) * DYNMAP_BLOCK_SECTORS; i++)
			twins[v].now[i] = seq;
		lbn += n;
		len -= n;
	}
}

static void do_unmap(u32 v, u64 lbn, u64 len)
{
	struct dynmap_volume *volume = load(v);
	u64 end = lbn + len, at = lbn, i;
	int ret = 0;

	while (!ret && at < end) {
		helped(ret, dynmap_table_unmap(&pool.table, volume, &at, end, &op));
		if (!expected_error(ret) || (ret == -ENOSPC && !mem.dead))
			fail("unmap", v, at, -ret, 0);
		for (i = lbn * DYNMAP_BLOCK_SECTORS; i < at * DYNMAP_BLOCK_SECTORS; i++) {
			twins[v].now[i] = 0;
			twins[v].unmapped[i] = true;
		}
	}
}

static void do_commit(void)
{
	int ret = dynmap_pool_commit(&pool);

	if (!ret)
		committed();
	else if (!mem.dead)
		fail("commit", 0, 0, -ret, 0);
}

static void run_check(void)
{
	/* Every second time in as many passes as there are segments. */
	struct dynmap_check_how how = { .memory = nr_checks % 2 };
	struct dynmap_check check;
	int ret = dynmap_check_pool(&pool, &how, &check);

	nr_checks++;
	if (ret || check.damaged || check.repairable)
		fail("checker", 0, 0, check.damaged, check.repairable);
}

/* A checkpoint over which the dead extents wait. */
static int checkpoint_at_once(void)
{
	int ret;

	helped(ret, dynmap_pool_checkpoint_begin(&pool, &op));
	if (ret)
		return ret;
	if (nr_checks % 2)
		ret = dynmap_pool_commit(&pool);
	if (!ret)
		ret = dynmap_pool_checkpoint_io(&pool);
	if (!ret)
		ret = dynmap_pool_checkpoint_publish(&pool);
	while (dynmap_pool_checkpoint_end(&pool, ret))
		;
	return ret ? ret : dynmap_pool_commit(&pool);
}

static void do_checkpoint(void)
{
	int ret = below(2) ? dynmap_pool_checkpoint(&pool) : checkpoint_at_once();

	if (!expected_error(ret) || (ret == -ENOSPC && !mem.dead))
		fail("checkpoint", 0, 0, -ret, 0);
	if (ret || mem.dead)
		return;
	committed();
	run_check();
}

static void do_create(u32 v)
{
	u8 uuid[DYNMAP_UUID_BYTES] = { v };
	int ret;

	helped(ret, dynmap_volume_create(&pool.table, v, BLOCKS, uuid, 0, &op));
	if (ret && expected_error(ret))
		return;
	if (ret)
		fail("create", v, 0, -ret, 0);
	memset(&twins[v], 0, sizeof(twins[v]));
	twins[v].exists = true;
	twins[v].uid = next_uid++;
	twins[v].writer = twins[v].uid;
	twins[v].generation = le32_to_cpu(load(v)->disk.generation);
}

/* Volume @copy begins as a copy of @v. */
static void copied(u32 copy, u32 v)
{
	twins[copy] = twins[v];
	twins[copy].writer = next_uid++;
	twins[copy].generation = le32_to_cpu(load(copy)->disk.generation);
	/* What was written before is durable with it. */
	memcpy(twins[copy].durable, twins[v].now, sizeof(twins[v].now));
	memset(twins[copy].unmapped, 0, sizeof(twins[v].unmapped));
}

/* Copy @v to the first volume that does not exist. */
static void do_snapshot(u32 v)
{
	u8 uuid[DYNMAP_UUID_BYTES] = { v };
	u32 copy = 0;
	int ret;

	while (copy < VOLUMES && twins[copy].exists)
		copy++;
	if (copy == VOLUMES)
		return;
	helped(ret, dynmap_volume_snapshot(&pool.table, copy, v, uuid, 0, &op));
	if (ret && expected_error(ret))
		return;
	if (ret)
		fail("snapshot", v, copy, -ret, 0);
	nr_snapshots++;
	copied(copy, v);
}

/* Another volume than @v; @v if there is none. */
static u32 another(u32 v)
{
	u32 other = below(VOLUMES), i;

	for (i = 0; i < VOLUMES; i++, other = (other + 1) % VOLUMES)
		if (other != v && twins[other].exists)
			return other;
	return v;
}

static void do_rollback(u32 v)
{
	u32 other = another(v);
	int ret;

	if (other == v)
		return;
	unrolled = twins[v];
	unrolled_v = v;
	helped(ret, dynmap_volume_rollback(&pool.table, v, other, &op));
	if (ret && expected_error(ret))
		return;
	if (ret)
		fail("rollback", v, other, -ret, 0);
	nr_rollbacks++;
	copied(v, other);
}

/* Has neither of two volumes data in a block? */
static bool never_written(u32 v, u32 other, u64 lbn)
{
	return !twins[v].now[lbn * DYNMAP_BLOCK_SECTORS] &&
	       !twins[other].now[lbn * DYNMAP_BLOCK_SECTORS];
}

/* What is not told to differ is alike, and nothing else is told. */
static void do_compare(u32 v)
{
	struct dynmap_comparison comparison = {};
	u32 other = another(v);
	u64 at = 0, end;
	int ret = 0;

	nr_compares++;
	while (ret != -ENOENT) {
		helped(ret, dynmap_table_compare(load(v), load(other), &comparison, &op));
		if (ret == -EINPROGRESS)
			continue;
		if (ret && ret != -ENOENT)
			fail("compare", v, comparison.lbn, -ret, 0);
		end = ret ? BLOCKS : min_t(u64, comparison.from, BLOCKS);
		for (; at < end; at++)
			if (memcmp(&twins[v].now[at * DYNMAP_BLOCK_SECTORS],
				   &twins[other].now[at * DYNMAP_BLOCK_SECTORS],
				   DYNMAP_BLOCK_SECTORS * sizeof(u64)))
				fail("a difference is not told", v, at, other, 0);
		for (; !ret && at < comparison.to; at++)
			if (at >= BLOCKS || never_written(v, other, at) || v == other)
				fail("what is alike differs", v, at, other, 0);
	}
}

static u64 exclusive(u32 v)
{
	struct dynmap_usage usage;
	int ret;

	helped(ret, dynmap_volume_usage(&pool.table, v, &usage, &op));
	while (!ret)
		helped(ret, dynmap_usage_step(&pool.table, &usage, &op));
	if (ret != -ENOENT && !mem.dead)
		fail("usage", v, 0, -ret, 0);
	return usage.exclusive;
}

static void do_delete(u32 v)
{
	int ret;

	helped(ret, dynmap_volume_delete(&pool.table, v, &op));
	if (!expected_error(ret) || (ret == -ENOSPC && !mem.dead))
		fail("delete", v, 0, -ret, 0);
	if (!ret)
		twins[v].exists = false;
}

/* Is there more to do? */
static bool do_reap(void)
{
	int ret;

	helped(ret, dynmap_volume_reap(&pool.table, &op));
	if (ret && ret != -ENOENT && (!expected_error(ret) || ret == -ENOSPC) && !mem.dead)
		fail("reap", 0, 0, -ret, 0);
	return !ret && !mem.dead;
}

static void reap_all(void)
{
	while (do_reap())
		;
	if (!mem.dead)
		do_checkpoint();
}

/* Does deleting a volume free what was said? What others that go leave to it comes late. */
static void do_usage(u32 v)
{
	u64 said = exclusive(v), before;

	nr_usages++;
	if (!mem.dead)
		reap_all();
	if (!mem.dead && exclusive(v) < said && !mem.dead)
		fail("exclusive while others are being deleted", v, 0, said, exclusive(v));
	said = exclusive(v);
	before = pool.alloc.data_allocated;
	if (!mem.dead)
		do_delete(v);
	if (!mem.dead)
		do_commit();
	if (!mem.dead)
		reap_all();
	if (!mem.dead && before - pool.alloc.data_allocated != said)
		fail("freed by a deletion", v, 0, before - pool.alloc.data_allocated, said);
}

static void open_pool(void)
{
	static struct dynmap_disk_super supers[DYNMAP_MAX_DEVICES], best;
	int errors[DYNMAP_MAX_DEVICES], ret;
	u32 dev;

	ret = dynmap_super_scan(&mem.store, mem.nr_devs, mem.blocks, supers, errors);
	/* One that was added may not have been ours when the power failed. */
	for (dev = 0; dev < nr_devs; dev++)
		if (ret < 0 || errors[dev])
			fail("superblock", 0, dev, -errors[dev], 0);
	best = supers[ret];
	/* As it lies there, the journal replayed in memory only. */
	ret = dynmap_pool_open(&pool, &mem.store, &best, 256, DYNMAP_OPEN_READ_ONLY);
	if (ret)
		fail("open read-only", 0, 0, -ret, 0);
	run_check();
	dynmap_pool_close(&pool);
	ret = dynmap_pool_open(&pool, &mem.store, &best, 256, le64_to_cpu(best.epoch) + 1);
	if (ret && !mem.dead)
		fail("open", 0, 0, -ret, 0);
	if (ret) {
		store_mem_power_cut(&mem, rnd);
		open_pool();
		return;
	}
	/* Bitmaps come and go. */
	if (seed % 2) {
		pool.alloc.space.most_segs = 0;
		pool.alloc.space.most_loaded = 0;
	}
	nr_replayed += pool.replayed;
}

/* After a power cut: is each sector what it may be? It is the truth from now on. */
static void accept(u32 v)
{
	struct dynmap_volume *volume = load(v);
	u64 values[DYNMAP_BLOCK_SECTORS], writers[DYNMAP_BLOCK_SECTORS], lbn, at;
	struct twin *twin = &twins[v];
	u32 i;

	for (lbn = 0; lbn < BLOCKS; lbn++) {
		read_block(volume, v, lbn, values, writers);
		for (i = 0; i < DYNMAP_BLOCK_SECTORS; i++) {
			at = lbn * DYNMAP_BLOCK_SECTORS + i;
			if (values[i] != twin->durable[at] && values[i] <= commit_seq &&
			    (values[i] || !twin->unmapped[at]))
				fail("lost or stale after power cut", v, lbn, values[i],
				     twin->durable[at]);
			if (values[i] != twin->durable[at] && values[i] &&
			    writers[i] != twin->writer)
				fail("foreign after power cut", v, lbn, writers[i], twin->writer);
			twin->now[at] = values[i];
		}
	}
}

static void do_power_cut(void)
{
	struct dynmap_volume *volume;
	u32 v;
	int ret;

	nr_cuts++;
	dynmap_pool_close(&pool);
	store_mem_power_cut(&mem, rnd);
	/* Sometimes the power fails during recovery, too. */
	mem.lives = below(3) ? 0 : 1 + below(40);
	open_pool();
	mem.lives = 0;
	run_check();
	for (v = 0; v < VOLUMES; v++) {
		helped(ret, dynmap_volume_load(&pool.table, v, &volume, &op));
		if (ret && ret != -ENODATA)
			fail("load after power cut", v, 0, -ret, 0);
		/* Creations and deletions are committed at once: the cut may fall between. */
		if (v == unrolled_v && !ret &&
		    le32_to_cpu(volume->disk.generation) == unrolled.generation)
			twins[v] = unrolled;
		if (twins[v].exists && ret)
			twins[v].exists = false;
		else if (!twins[v].exists && !ret)
			do_delete(v);
		if (twins[v].exists)
			accept(v);
	}
	unrolled_v = VOLUMES;
	committed();
}

static void do_reopen(void)
{
	u32 v;

	do_checkpoint();
	if (mem.dead)
		return;
	dynmap_pool_close(&pool);
	open_pool();
	run_check();
	for (v = 0; v < VOLUMES; v++)
		if (twins[v].exists)
			do_read(v, 0, BLOCKS);
}

/* A device grows, or one is added. */
static void do_grow(void)
{
	u8 uuid[DYNMAP_MAX_DEVICES][DYNMAP_UUID_BYTES] = {};
	u32 dev = below(mem.nr_devs + 1);
	int ret;

	if (nr_grown == MAX_GROWTHS)
		return;
	nr_grown++;
	for (ret = 0; ret < MAX_GROWTHS + 3; ret++)
		uuid[ret][0] = ret;
	store_mem_grow(&mem, dev, dev < mem.nr_devs ? mem.blocks[dev] + 256 + below(500) :
						      1024 + below(400));
	ret = dynmap_pool_grow(&pool, mem.nr_devs, mem.blocks, uuid[0]);
	if (!expected_error(ret))
		fail("grow", 0, dev, -ret, 0);
	if (ret || mem.dead)
		return;
	committed();
	run_check();
}

static void one_operation(void)
{
	u32 v = below(VOLUMES), dice = below(1000);
	u64 lbn = below(BLOCKS), len = 1 + below(below(4) ? 8 : 200);

	len = min(len, BLOCKS - lbn);
	if (!twins[v].exists && below(100)) {
		return;
	} else if (!twins[v].exists) {
		do_create(v);
		if (!mem.dead)
			do_commit();
	} else if (dice < 600) {
		do_write(v, lbn, len);
	} else if (dice < 730) {
		do_unmap(v, lbn, len);
	} else if (dice < 835) {
		do_read(v, lbn, len);
	} else if (dice < 850) {
		do_prepare();
	} else if (dice < 940) {
		do_commit();
	} else if (dice < 950) {
		do_checkpoint();
	} else if (dice < 975) {
		do_reap();
	} else if (dice < 985) {
		do_snapshot(v);
		if (!mem.dead && below(2))
			do_commit();
	} else if (dice < 987) {
		do_rollback(v);
		if (!mem.dead)
			do_commit();
		if (!mem.dead)
			unrolled_v = VOLUMES;
	} else if (dice < 989) {
		do_compare(v);
	} else if (dice < 991) {
		do_delete(v);
		if (!mem.dead)
			do_commit();
	} else if (dice < 992) {
		do_usage(v);
	} else if (dice < 994) {
		do_reopen();
	} else if (dice < 995 && seed % 2) {
		do_grow();
	} else if (!mem.lives) {
		mem.lives = 1 + below(200);
	}
	if (mem.dead)
		do_power_cut();
}

static void format_pool(void)
{
	struct dynmap_format_params params = {
		.nr_devs = nr_devs,
		.alloc_blocks = alloc_blocks,
		.copies = 2 - (seed % 4 == 3),
		.label = "model",
	};
	u32 i;
	int ret;

	for (i = 0; i < DYNMAP_UUID_BYTES; i++)
		params.uuid[i] = rnd();
	for (i = 0; i < nr_devs; i++) {
		params.dev_uuid[i][0] = i;
		params.dev_blocks[i] = mem.blocks[i];
	}
	ret = dynmap_pool_format(&mem.store, &params);
	if (ret)
		fail("format", 0, 0, -ret, 0);
}

int main(int argc, char **argv)
{
	u64 blocks[3] = { 3000, 2000, 1100 };
	u64 operations;

	if (argc != 4) {
		fprintf(stderr, "usage: model SEED OPERATIONS DEVICES\n");
		return 16;
	}
	seed = strtoull(argv[1], NULL, 0);
	operations = strtoull(argv[2], NULL, 0);
	nr_devs = strtoul(argv[3], NULL, 0);
	if (!nr_devs || nr_devs > 3) {
		fprintf(stderr, "model: 1 to 3 devices\n");
		return 16;
	}
	dynmap_verbose = getenv("VERBOSE");
	rng_state = seed * 0x9e3779b97f4a7c15ULL + 1;
	alloc_blocks = 1U << below(7);
	store_mem_init(&mem, nr_devs, blocks);
	format_pool();
	open_pool();
	for (op_number = 0; op_number < operations; op_number++)
		one_operation();
	mem.lives = 0;
	do_reopen();
	dynmap_pool_close(&pool);
	store_mem_exit(&mem);
	printf("model: seed %llu, %u devices, unit %u: %llu operations, %llu writes, %llu redirected, %llu snapshots, %llu rolled back, %llu compared, %llu deletions measured, %llu power cuts, %llu records replayed, %llu checks, pool full %llu times, reclaimed %llu, grown %llu: clean\n",
	       (unsigned long long)seed, nr_devs, alloc_blocks, (unsigned long long)operations,
	       (unsigned long long)nr_writes, (unsigned long long)nr_redirects,
	       (unsigned long long)nr_snapshots,
	       (unsigned long long)nr_rollbacks, (unsigned long long)nr_compares,
	       (unsigned long long)nr_usages, (unsigned long long)nr_cuts,
	       (unsigned long long)nr_replayed, (unsigned long long)nr_checks,
	       (unsigned long long)nr_full, (unsigned long long)nr_reclaimed,
	       (unsigned long long)nr_grown);
	return 0;
}
