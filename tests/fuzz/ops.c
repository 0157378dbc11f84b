// SPDX-License-Identifier: GPL-2.0-only
/*
 * The operations target, see fuzz.h: bytes are operations on a small pool, with
 * power cuts, against naive arrays of sector versions.
 *
 * Oracles: a read gives the version written last, zero where nothing is; after a
 * power cut a sector holds what the last commit made durable or something newer
 * of the same sector, or reads as zero if it was unmapped since; the checker is
 * clean after every opening and checkpoint; only a full pool and a power cut
 * make an operation fail.
 */
#include "fuzz.h"
#include "tests/core/store-mem.h"

#define VOLUMES		2
#define BLOCKS		1024
#define SECTORS		(BLOCKS * DYNMAP_BLOCK_SECTORS)
#define MAX_OPERATIONS	200
#define MAX_GROWTHS	3

/**
 * struct tag - what a sector of data holds
 * @uid: of the volume
 * @sector: number in the volume
 * @version: of the write
 */
struct tag {
	u64 uid;
	u32 sector;
	u32 version;
};

struct twin {
	bool exists;
	u64 uid;
	u32 now[SECTORS];
	u32 durable[SECTORS];
	bool unmapped[SECTORS];
};

static struct store_mem mem;
static struct dynmap_pool pool;
static struct twin twins[VOLUMES];
static u32 version, commit_version, formatted_devs, growths;
static u64 next_uid, random_state;

/* xorshift64* (Vigna, "An experimental exploration of Marsaglia's generators", 2016). */
static u64 torn(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * 0x2545f4914f6cdd1dULL >> 32;
}

/* An error that is none of ours; true if there was one. */
static bool failed(int ret, const char *what)
{
	if (ret && !mem.dead && ret != -ENOSPC)
		fuzz_fail(what);
	return ret || mem.dead;
}

static struct dynmap_volume *load(u32 v)
{
	struct dynmap_volume *volume = NULL;

	if (FUZZ_HELPED(&pool, dynmap_volume_load(&pool.table, v, &volume, &op)))
		fuzz_fail("a volume cannot be loaded");
	return volume;
}

static void committed(void)
{
	u32 v;

	commit_version = version;
	for (v = 0; v < VOLUMES; v++) {
		memcpy(twins[v].durable, twins[v].now, sizeof(twins[v].now));
		memset(twins[v].unmapped, 0, sizeof(twins[v].unmapped));
	}
}

static void check(void)
{
	struct dynmap_check check;

	if (dynmap_check_pool(&pool, &check) || check.damaged || check.repairable)
		fuzz_fail("the checker is not content");
}

/* Versions of the sectors of one block as a reader sees them. */
static void read_block(struct dynmap_volume *volume, u32 v, u32 lbn, u32 *versions)
{
	struct dynmap_mapping mapping = {};
	struct tag tag;
	u32 dev, i;
	u64 at;

	if (FUZZ_HELPED(&pool, dynmap_table_lookup(volume, lbn, &mapping, &op)))
		fuzz_fail("a lookup failed");
	memset(versions, 0, DYNMAP_BLOCK_SECTORS * sizeof(*versions));
	if (mapping.kind != DYNMAP_DATA)
		return;
	at = dynmap_pbn_locate(&pool.geo, mapping.pbn, &dev);
	for (i = 0; i < DYNMAP_BLOCK_SECTORS; i++) {
		memcpy(&tag, (u8 *)store_mem_block(&mem, dev, at) + 512 * i, sizeof(tag));
		if (tag.uid != twins[v].uid || tag.sector != lbn * DYNMAP_BLOCK_SECTORS + i)
			fuzz_fail("foreign data");
		versions[i] = tag.version;
	}
}

/* Compare a volume; after a power cut what is found becomes the truth. */
static void compare(u32 v, bool cut)
{
	struct dynmap_volume *volume = load(v);
	u32 versions[DYNMAP_BLOCK_SECTORS], lbn, i, at;
	struct twin *twin = &twins[v];

	for (lbn = 0; lbn < BLOCKS; lbn++) {
		read_block(volume, v, lbn, versions);
		for (i = 0; i < DYNMAP_BLOCK_SECTORS; i++) {
			at = lbn * DYNMAP_BLOCK_SECTORS + i;
			if (!cut && versions[i] != twin->now[at])
				fuzz_fail("a read gives something else");
			if (cut && versions[i] != twin->durable[at] &&
			    versions[i] <= commit_version && (versions[i] || !twin->unmapped[at]))
				fuzz_fail("lost or stale after a power cut");
			twin->now[at] = versions[i];
		}
	}
}

static void write_data(u32 v, u64 lbn, u64 pbn, u64 len)
{
	struct tag tag = { .uid = twins[v].uid, .version = version };
	u8 data[DYNMAP_BLOCK_BYTES] = {};
	u32 dev, i;
	u64 at;

	for (; len; len--, lbn++, pbn++) {
		for (i = 0; i < DYNMAP_BLOCK_SECTORS; i++) {
			tag.sector = lbn * DYNMAP_BLOCK_SECTORS + i;
			memcpy(data + 512 * i, &tag, sizeof(tag));
		}
		at = dynmap_pbn_locate(&pool.geo, pbn, &dev);
		store_mem_write(&mem, dev, at, data);
	}
}

/* Where the next piece of a write goes; false if it cannot go on. */
static bool map_for_write(struct dynmap_volume *volume, u64 lbn, u64 len,
			  struct dynmap_mapping *mapping)
{
	if (failed(FUZZ_HELPED(&pool, dynmap_table_lookup(volume, lbn, mapping, &op)), "lookup"))
		return false;
	if (mapping->kind != DYNMAP_HOLE)
		return true;
	if (failed(FUZZ_HELPED(&pool, dynmap_table_reserve(&pool.table, volume, lbn, len, &op)),
		   "reserve") ||
	    failed(FUZZ_HELPED(&pool, dynmap_table_lookup(volume, lbn, mapping, &op)), "lookup"))
		return false;
	if (mapping->kind == DYNMAP_HOLE)
		fuzz_fail("a block is a hole after it was reserved");
	return true;
}

/* @fails: the write of data fails where it was the first one. */
static void do_write(u32 v, u64 lbn, u64 len, bool fails)
{
	struct dynmap_volume *volume = load(v);
	struct dynmap_mapping mapping;
	u64 n, i;

	version++;
	for (; len; lbn += n, len -= n) {
		if (!map_for_write(volume, lbn, len, &mapping))
			return;
		n = min(len, mapping.len);
		write_data(v, lbn, mapping.pbn, n);
		if (mem.dead || (fails && mapping.kind == DYNMAP_RESERVED))
			return;
		if (failed(FUZZ_HELPED(&pool, dynmap_table_set_written(&pool.table, volume, lbn,
								       mapping.pbn, n, &op)),
			   "set written"))
			return;
		for (i = lbn * DYNMAP_BLOCK_SECTORS; i < (lbn + n) * DYNMAP_BLOCK_SECTORS; i++)
			twins[v].now[i] = version;
	}
}

static void do_unmap(u32 v, u64 lbn, u64 end)
{
	struct dynmap_volume *volume = load(v);
	u64 at = lbn, i;
	int ret = 0;

	while (!ret && at < end) {
		ret = FUZZ_HELPED(&pool, dynmap_table_unmap(&pool.table, volume, &at, end, &op));
		failed(ret, "unmap");
		for (i = lbn * DYNMAP_BLOCK_SECTORS; i < at * DYNMAP_BLOCK_SECTORS; i++) {
			twins[v].now[i] = 0;
			twins[v].unmapped[i] = true;
		}
	}
}

static void do_commit(void)
{
	if (!failed(dynmap_pool_commit(&pool), "commit"))
		committed();
}

static void do_checkpoint(void)
{
	if (failed(dynmap_pool_checkpoint(&pool), "checkpoint"))
		return;
	committed();
	check();
}

static void do_create(u32 v)
{
	u8 uuid[DYNMAP_UUID_BYTES] = { v };

	if (failed(FUZZ_HELPED(&pool, dynmap_volume_create(&pool.table, v, BLOCKS, uuid, 0, &op)),
		   "create"))
		return;
	memset(&twins[v], 0, sizeof(twins[v]));
	twins[v].exists = true;
	twins[v].uid = next_uid++;
	do_commit();
}

static void do_delete(u32 v)
{
	if (failed(FUZZ_HELPED(&pool, dynmap_volume_delete(&pool.table, v, &op)), "delete"))
		return;
	twins[v].exists = false;
	do_commit();
}

static void do_reap(void)
{
	int ret = FUZZ_HELPED(&pool, dynmap_volume_reap(&pool.table, &op));

	if (ret != -ENOENT)
		failed(ret, "reap");
}

static void do_reclaim(u32 want)
{
	if (!failed(dynmap_pool_reclaim(&pool, want), "reclaim"))
		committed();
}

static void open_pool(bool readonly)
{
	static struct dynmap_disk_super sb, best;
	bool found = false;
	u32 dev;
	int ret;

	for (dev = 0; dev < mem.nr_devs; dev++) {
		ret = dynmap_super_read(&mem.store, dev, mem.blocks[dev], &sb);
		/* A device was added, and the power failed before it belonged to the pool. */
		if (ret && dev >= formatted_devs)
			continue;
		if (ret)
			fuzz_fail("a superblock is lost");
		if (!found || le64_to_cpu(sb.epoch) > le64_to_cpu(best.epoch))
			best = sb;
		found = true;
	}
	failed(dynmap_pool_open(&pool, &mem.store, &best, 256, readonly), "open");
}

/* As it lies there, the journal replayed in memory only; then for writing. */
static void reopen(u32 lives)
{
	open_pool(true);
	check();
	dynmap_pool_close(&pool);
	mem.lives = lives;
	open_pool(false);
	if (mem.dead) {
		/* A failed opening closes the pool; one whose last write was hit has not. */
		if (pool.store)
			dynmap_pool_close(&pool);
		store_mem_power_cut(&mem, torn);
		open_pool(false);
	}
	mem.lives = 0;
	check();
}

static void do_power_cut(u32 lives)
{
	struct dynmap_volume *volume;
	u32 v;
	int ret;

	dynmap_pool_close(&pool);
	store_mem_power_cut(&mem, torn);
	reopen(lives);
	for (v = 0; v < VOLUMES; v++) {
		ret = FUZZ_HELPED(&pool, dynmap_volume_load(&pool.table, v, &volume, &op));
		if (ret && ret != -ENODATA)
			fuzz_fail("a volume is unreadable after a power cut");
		/* Creations and deletions are committed at once: the cut may fall between. */
		if (twins[v].exists && ret)
			twins[v].exists = false;
		else if (!twins[v].exists && !ret)
			do_delete(v);
		if (twins[v].exists)
			compare(v, true);
	}
	committed();
}

static void do_reopen(void)
{
	do_checkpoint();
	if (mem.dead)
		return;
	dynmap_pool_close(&pool);
	reopen(0);
}

static void do_grow(u32 how)
{
	u8 uuid[DYNMAP_MAX_DEVICES][DYNMAP_UUID_BYTES] = { { 1 }, { 2 }, { 3 }, { 4 }, { 5 } };
	u32 dev = how % (mem.nr_devs + 1);

	if (growths++ >= MAX_GROWTHS)
		return;
	store_mem_grow(&mem, dev, dev < mem.nr_devs ? mem.blocks[dev] + 1 + how : 1024 + how);
	if (failed(dynmap_pool_grow(&pool, mem.nr_devs, mem.blocks, uuid[0]), "grow"))
		return;
	committed();
	check();
}

/* An operation of a volume; @what up to 10. */
static void on_volume(struct fuzz_input *input, u32 what, u32 v)
{
	u64 lbn = fuzz_u8(input) * 4 + (what & 3), len = 1 + fuzz_u8(input) % 96;

	len = min(len, BLOCKS - lbn);
	if (!twins[v].exists)
		do_create(v);
	else if (what < 6)
		do_write(v, lbn, len, what == 5);
	else if (what < 9)
		do_unmap(v, lbn, lbn + len);
	else if (what < 10)
		compare(v, false);
	else
		do_delete(v);
}

static void one_operation(struct fuzz_input *input)
{
	u32 code = fuzz_u8(input), what = code & 31;

	if (what <= 10)
		on_volume(input, what, code >> 5 & 1);
	else if (what < 14)
		do_commit();
	else if (what < 16)
		do_checkpoint();
	else if (what < 22)
		do_reap();
	else if (what < 24)
		do_reopen();
	else if (what < 25)
		do_grow(fuzz_u8(input));
	else if (what < 28)
		do_reclaim(fuzz_u8(input));
	else if (!mem.lives)
		mem.lives = 1 + fuzz_u8(input);
	if (mem.dead)
		do_power_cut(code >> 5 ? 0 : 1 + (torn() & 31));
}

static void format(struct fuzz_input *input)
{
	u32 how = fuzz_u8(input), i;
	struct dynmap_format_params params = {
		.nr_devs = 1 + (how & 1),
		.alloc_blocks = 1 << (how >> 2 & 7),
		.copies = 2 - (how >> 1 & 1),
		.uuid = { 'o', 'p', 's' },
	};
	const u64 blocks[] = { 1024 + (how >> 5) * 100, 1100 };

	formatted_devs = params.nr_devs;
	store_mem_init(&mem, params.nr_devs, blocks);
	for (i = 0; i < params.nr_devs; i++) {
		params.dev_blocks[i] = blocks[i];
		params.dev_uuid[i][0] = i + 1;
	}
	random_state = fuzz_u8(input) + 1;
	next_uid = 1;
	version = 0;
	commit_version = 0;
	growths = 0;
	memset(twins, 0, sizeof(twins));
	failed(dynmap_pool_format(&mem.store, &params), "format");
	open_pool(false);
}

void fuzz_run_ops(struct fuzz_input *input)
{
	u32 count;

	format(input);
	for (count = 0; input->left && count < MAX_OPERATIONS; count++)
		one_operation(input);
	mem.lives = 0;
	do_power_cut(0);
	do_reopen();
	dynmap_pool_close(&pool);
	store_mem_exit(&mem);
}
