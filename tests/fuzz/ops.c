// SPDX-License-Identifier: GPL-2.0-only
/*
 * The operations target, see fuzz.h: bytes are operations on a small pool, with
 * power cuts, against naive arrays of sector versions.
 *
 * Oracles: a read gives the version written last, zero where nothing is; after a
 * power cut a sector holds what the last commit made durable or something newer
 * of the same sector, or reads as zero if it was unmapped since; what a comparison
 * of two volumes does not tell of is alike; a deletion frees what was said; the
 * checker is clean after every opening and checkpoint; only a full pool and a power
 * cut make an operation fail.
 */
#include "fuzz.h"
#include "tests/core/store-mem.h"

#define VOLUMES		4
#define BLOCKS		1024
#define SECTORS		(BLOCKS * DYNMAP_BLOCK_SECTORS)
#define MAX_OPERATIONS	200
#define MAX_GROWTHS	3

/**
 * struct tag - what a sector of data holds
 * @uid: of the family: a snapshot has its origin's
 * @writer: of the volume that wrote it
 * @sector: number in the volume
 * @version: of the write
 */
struct tag {
	u32 uid;
	u32 writer;
	u32 sector;
	u32 version;
};

/**
 * struct twin - a volume as it must be
 * @exists: there is one
 * @uid: in its tags
 * @writer: in the tags of what it writes
 * @generation: of its record: tells it from what it was before it was rolled back
 * @now: versions of its sectors, 0: zeros
 * @durable: the same at the last commit
 * @unmapped: unmapped since
 */
struct twin {
	bool exists;
	u32 uid;
	u32 writer;
	u32 generation;
	u32 now[SECTORS];
	u32 durable[SECTORS];
	bool unmapped[SECTORS];
};

static struct store_mem mem;
static struct dynmap_pool pool;
/* The volume of that number, VOLUMES: none, is being rolled back; it was that. */
static struct twin twins[VOLUMES], unrolled;
static u32 unrolled_v;
static u32 version, commit_version, formatted_devs, growths, next_uid;
static u64 random_state;

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
		if (!twins[v].exists)
			continue;
		memcpy(twins[v].durable, twins[v].now, sizeof(twins[v].now));
		memset(twins[v].unmapped, 0, sizeof(twins[v].unmapped));
	}
}

static void check(void)
{
	struct dynmap_check check;

	if (dynmap_check_pool(&pool, NULL, &check) || check.damaged || check.repairable)
		fuzz_fail("the checker is not content");
}

/* Tags of the sectors of one block as a reader sees them, zeros where nothing is. */
static void read_block(struct dynmap_volume *volume, u32 v, u32 lbn, struct tag *tags)
{
	struct dynmap_mapping mapping = {};
	u32 dev, i;
	u64 at;

	if (FUZZ_HELPED(&pool, dynmap_table_lookup(volume, lbn, &mapping, &op)))
		fuzz_fail("a lookup failed");
	memset(tags, 0, DYNMAP_BLOCK_SECTORS * sizeof(*tags));
	if (mapping.kind != DYNMAP_DATA)
		return;
	at = dynmap_pbn_locate(&pool.geo, mapping.pbn, &dev);
	for (i = 0; i < DYNMAP_BLOCK_SECTORS; i++) {
		memcpy(&tags[i], (u8 *)store_mem_block(&mem, dev, at) + 512 * i, sizeof(*tags));
		if (tags[i].uid != twins[v].uid || tags[i].sector != lbn * DYNMAP_BLOCK_SECTORS + i)
			fuzz_fail("foreign data");
	}
}

/* May a sector hold this after a power cut? */
static bool is_possible(const struct twin *twin, u32 at, const struct tag *tag)
{
	if (tag->version == twin->durable[at])
		return true;
	return tag->version ? tag->version > commit_version && tag->writer == twin->writer :
	       twin->unmapped[at];
}

/* Compare a volume with its twin; after a power cut what is found becomes the truth. */
static void verify(u32 v, bool cut)
{
	struct dynmap_volume *volume = load(v);
	struct tag tags[DYNMAP_BLOCK_SECTORS];
	struct twin *twin = &twins[v];
	u32 lbn, i, at;

	for (lbn = 0; lbn < BLOCKS; lbn++) {
		read_block(volume, v, lbn, tags);
		for (i = 0; i < DYNMAP_BLOCK_SECTORS; i++) {
			at = lbn * DYNMAP_BLOCK_SECTORS + i;
			if (!cut && tags[i].version != twin->now[at])
				fuzz_fail("a read gives something else");
			if (cut && !is_possible(twin, at, &tags[i]))
				fuzz_fail("lost, stale or foreign after a power cut");
			twin->now[at] = tags[i].version;
		}
	}
}

static void write_data(u32 v, u64 lbn, u64 pbn, u64 len)
{
	struct tag tag = {
		.uid = twins[v].uid,
		.writer = twins[v].writer,
		.version = version,
	};
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

/* @fails: the write of data fails where it was the first one. */
static void do_write(u32 v, u64 lbn, u64 len, bool fails)
{
	struct dynmap_volume *volume = load(v);
	struct dynmap_mapping mapping;
	int ret;
	u64 i;

	version++;
	for (; len; lbn += mapping.len, len -= mapping.len) {
		if (failed(fuzz_write_begin(&pool, volume, lbn, len, &mapping), "write"))
			return;
		write_data(v, lbn, mapping.pbn, mapping.len);
		if (mem.dead)
			return;
		if (fails && (mapping.shared || mapping.kind == DYNMAP_RESERVED)) {
			fuzz_write_fails(&pool, &mapping);
			return;
		}
		ret = fuzz_write_end(&pool, volume, &mapping);
		for (i = lbn * DYNMAP_BLOCK_SECTORS;
		     !mem.dead && i < (lbn + mapping.len) * DYNMAP_BLOCK_SECTORS; i++)
			twins[v].now[i] = version;
		if (failed(ret, "end of a write"))
			return;
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

static bool do_checkpoint(void)
{
	if (failed(dynmap_pool_checkpoint(&pool), "checkpoint"))
		return false;
	committed();
	check();
	return true;
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
	twins[v].writer = twins[v].uid;
	twins[v].generation = le32_to_cpu(load(v)->disk.generation);
	do_commit();
}

/* Volume @copy begins as a copy of @v; what was written before is durable with it. */
static void copied(u32 copy, u32 v)
{
	twins[copy] = twins[v];
	twins[copy].writer = next_uid++;
	twins[copy].generation = le32_to_cpu(load(copy)->disk.generation);
	memcpy(twins[copy].durable, twins[v].now, sizeof(twins[v].now));
	memset(twins[copy].unmapped, 0, sizeof(twins[v].unmapped));
	do_commit();
}

/* Copy @v to the first volume from @copy on that does not exist. */
static void do_snapshot(u32 v, u32 copy)
{
	u8 uuid[DYNMAP_UUID_BYTES] = { v };
	u32 i;

	for (i = 0; i < VOLUMES && twins[copy].exists; i++)
		copy = (copy + 1) % VOLUMES;
	if (i < VOLUMES && !failed(FUZZ_HELPED(&pool, dynmap_volume_snapshot(&pool.table, copy, v,
									     uuid, 0, &op)),
				   "snapshot"))
		copied(copy, v);
}

static void do_rollback(u32 v, u32 other)
{
	unrolled = twins[v];
	unrolled_v = v;
	if (!failed(FUZZ_HELPED(&pool, dynmap_volume_rollback(&pool.table, v, other, &op)),
		    "rollback"))
		copied(v, other);
	if (!mem.dead)
		unrolled_v = VOLUMES;
}

/* What is not told to differ is alike; what is told is not all zeros. */
static void do_compare(u32 v, u32 other)
{
	struct dynmap_comparison comparison = {};
	u64 at = 0, end;
	int ret = 0;

	while (!ret) {
		ret = fuzz_compare(&pool, load(v), load(other), &comparison);
		if (ret && ret != -ENOENT)
			fuzz_fail("compare");
		end = ret ? SECTORS : comparison.from * DYNMAP_BLOCK_SECTORS;
		for (; at < SECTORS && at < end; at++)
			if (twins[v].now[at] != twins[other].now[at])
				fuzz_fail("a difference is not told");
		end = ret ? 0 : comparison.to * DYNMAP_BLOCK_SECTORS;
		for (; at < end; at++)
			if (at >= SECTORS || (!twins[v].now[at] && !twins[other].now[at]))
				fuzz_fail("what is not written differs");
	}
}

static void do_delete(u32 v)
{
	if (failed(FUZZ_HELPED(&pool, dynmap_volume_delete(&pool.table, v, &op)), "delete"))
		return;
	twins[v].exists = false;
	do_commit();
}

static int do_reap(void)
{
	int ret = FUZZ_HELPED(&pool, dynmap_volume_reap(&pool.table, &op));

	if (ret != -ENOENT)
		failed(ret, "reap");
	return ret;
}

/* Empty all that was deleted, for good; false if that failed. */
static bool reap_all(void)
{
	int ret;

	do
		ret = do_reap();
	while (!ret && !mem.dead);
	return ret == -ENOENT && !mem.dead && do_checkpoint();
}

/* Does deleting a volume free what was said? What others that go leave to it comes late. */
static void do_usage(u32 v)
{
	struct dynmap_usage early = {}, usage = {};
	u64 before;

	if (failed(fuzz_usage(&pool, v, &early), "usage") || !reap_all() ||
	    failed(fuzz_usage(&pool, v, &usage), "usage"))
		return;
	if (usage.exclusive < early.exclusive)
		fuzz_fail("less is exclusive than while others were being deleted");
	before = pool.alloc.data_allocated;
	do_delete(v);
	if (!mem.dead && !twins[v].exists && reap_all() &&
	    before - pool.alloc.data_allocated != usage.exclusive)
		fuzz_fail("a deletion does not free what was said");
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
	failed(dynmap_pool_open(&pool, &mem.store, &best, 256, readonly ? DYNMAP_OPEN_READ_ONLY :
				le64_to_cpu(best.epoch) + 1), "open");
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
		/* What changes volumes is committed at once: the cut may fall between. */
		if (v == unrolled_v && !ret &&
		    le32_to_cpu(volume->disk.generation) == unrolled.generation)
			twins[v] = unrolled;
		if (twins[v].exists && ret)
			twins[v].exists = false;
		else if (!twins[v].exists && !ret)
			do_delete(v);
		if (twins[v].exists)
			verify(v, true);
	}
	unrolled_v = VOLUMES;
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
	store_mem_grow(&mem, dev, dev < mem.nr_devs ? mem.blocks[dev] + 256 + how : 1024 + how);
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
		verify(v, false);
	else
		do_delete(v);
}

/* An operation of two volumes, of a family perhaps; or of one that may have one. */
static void on_family(struct fuzz_input *input, u32 what, u32 v)
{
	u32 other = fuzz_u8(input) % VOLUMES;

	if (!twins[v].exists)
		do_create(v);
	else if (what < 1)
		do_snapshot(v, other);
	else if (what < 2 && other != v && twins[other].exists)
		do_rollback(v, other);
	else if (what < 3 && twins[other].exists)
		do_compare(v, other);
	else if (what == 3)
		do_usage(v);
}

static void one_operation(struct fuzz_input *input)
{
	u32 code = fuzz_u8(input), what = code & 31, v = code >> 5 & 3;

	if (what <= 10)
		on_volume(input, what, v);
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
	else if (code & 128)
		on_family(input, what - 28, v);
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
	unrolled_v = VOLUMES;
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
