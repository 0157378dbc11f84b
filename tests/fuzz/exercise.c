// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is done with an edited image, see fuzz.h. Owns: the oracles.
 *
 * Any call may fail. But what the checker calls clean is clean: then opening
 * succeeds, nothing but "no space" stops an operation, and the checker still
 * says so afterwards.
 */
#include "fuzz.h"

#define VOLUMES		4
#define MAX_RANGES	1000

static struct dynmap_pool pool;
static bool clean;

void fuzz_fail(const char *what)
{
	fprintf(stderr, "fuzz: %s\n", what);
	abort();
}

/* In a pool that is clean only space may be short. */
static int judge(int ret, const char *what)
{
	if (clean && ret && ret != -ENOSPC && ret != -ENOENT)
		fuzz_fail(what);
	return ret;
}

int fuzz_super(struct fuzz_base *base, struct dynmap_disk_super *best)
{
	static struct dynmap_disk_super sb;
	u32 dev, at;
	int ret;

	for (dev = 0; dev < base->cow.nr_devs; dev++) {
		ret = dynmap_super_read(&base->cow.store, dev, base->cow.blocks[dev], &sb);
		if (ret)
			return ret;
		if (!dev || le64_to_cpu(sb.epoch) > le64_to_cpu(best->epoch))
			*best = sb;
		at = le32_to_cpu(sb.this_device);
		if (at != dev || memcmp(sb.uuid, best->uuid, sizeof(sb.uuid)))
			return -EINVAL;
	}
	if (le32_to_cpu(best->nr_devices) != base->cow.nr_devs)
		return -EINVAL;
	for (dev = 0; dev < base->cow.nr_devs; dev++)
		if (le64_to_cpu(best->device[dev].blocks) > base->cow.blocks[dev])
			return -EINVAL;
	return 0;
}

/* Is the open pool clean, as far as the checker can see? */
static bool is_clean(void)
{
	struct dynmap_check check;

	if (dynmap_check_pool(&pool, NULL, &check))
		fuzz_fail("no memory");
	return !check.damaged && !check.repairable;
}

/* Does the journal end where the replay did? Else the pool opens for rescue only. */
static bool journal_is_whole(void)
{
	struct dynmap_journal *journal = &pool.journal;
	u8 block[DYNMAP_BLOCK_BYTES];

	return journal->head - journal->tail == journal->blocks ||
	       !dynmap_journal_verify_end(journal, journal->head, block);
}

static void read_volume(struct dynmap_volume *volume)
{
	static const u64 at[] = { 0, 1, 255, 3 << 10, 1ULL << 32, DYNMAP_MAX_LBN - 1 };
	struct dynmap_mapping mapping = {};
	u64 highest = 0, end;
	int ret;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(at); i++) {
		ret = judge(FUZZ_HELPED(&pool, dynmap_table_lookup(volume, at[i], &mapping, &op)),
			    "lookup");
		end = ret ? 0 : mapping.lbn + mapping.len;
		if (!ret && (end <= at[i] || end > DYNMAP_MAX_LBN))
			fuzz_fail("a mapping of no or too many blocks");
	}
	ret = judge(FUZZ_HELPED(&pool, dynmap_table_highest(volume, &highest, &op)), "highest");
	if (!ret && highest > DYNMAP_MAX_LBN)
		fuzz_fail("mapped beyond the end");
}

static void write_volume(struct dynmap_volume *volume, u32 number)
{
	static const u64 at[] = { 0, 37, 300, 70000, 1ULL << 33, DYNMAP_MAX_LBN - 2 };
	u32 i;

	for (i = number & 1; i < ARRAY_SIZE(at); i++)
		judge(fuzz_write(&pool, volume, at[i], 2), "write");
	judge(fuzz_unmap(&pool, volume, 30, 45), "unmap");
	if (number & 1)
		judge(fuzz_unmap(&pool, volume, 0, DYNMAP_MAX_LBN), "unmap all");
	if (volume->id <= DYNMAP_MAX_VOLUME_ID)
		judge(FUZZ_HELPED(&pool, dynmap_volume_change(&pool.table, volume->id,
							      DYNMAP_ATTR_ALLOC, 8, &op)),
		      "change");
}

/* What does a volume use, and where does it differ from another one, NULL: none? */
static void survey_volume(struct dynmap_volume *volume, struct dynmap_volume *other)
{
	struct dynmap_usage usage;
	struct dynmap_comparison comparison = {};
	int ret = 0;
	u32 i;

	if (volume->id <= DYNMAP_MAX_VOLUME_ID &&
	    !judge(fuzz_usage(&pool, volume->id, &usage), "usage") && clean &&
	    usage.exclusive > usage.mapped + usage.reserved)
		fuzz_fail("more is exclusive than there is");
	for (i = 0; other && !ret && i < MAX_RANGES; i++)
		ret = judge(fuzz_compare(&pool, volume, other, &comparison), "compare");
}

/* The first volumes, those being deleted included. */
static void for_volumes(bool change)
{
	struct dynmap_volume *volume, *last = NULL;
	struct dynmap_disk_volume disk;
	u64 id = 0;
	int ret;
	u32 i;

	for (i = 0; i < VOLUMES; i++, id++) {
		ret = judge(FUZZ_HELPED(&pool, dynmap_btree_next(&pool.table.volumes, id, &disk,
								 &id, &op)), "next volume");
		if (!ret)
			ret = judge(FUZZ_HELPED(&pool, dynmap_volume_load(&pool.table, id, &volume,
									  &op)), "load");
		if (ret)
			return;
		read_volume(volume);
		survey_volume(volume, last);
		last = volume;
		if (change)
			write_volume(volume, i);
	}
}

static void reap(void)
{
	u32 steps = 0;
	int ret;

	do {
		ret = judge(FUZZ_HELPED(&pool, dynmap_volume_reap(&pool.table, &op)), "reap");
		if (++steps > FUZZ_TRIES)
			fuzz_fail("no end of reaping");
	} while (!ret);
}

/* A change of volumes may be refused: such ids, flags or numbers are in the image. */
static int judge_change(int ret, const char *what)
{
	if (ret == -ENODATA || ret == -EEXIST || ret == -EPERM || ret == -EROFS ||
	    ret == -EOVERFLOW)
		return ret;
	return judge(ret, what);
}

static void delete(u64 id)
{
	judge_change(FUZZ_HELPED(&pool, dynmap_volume_delete(&pool.table, id, &op)), "delete");
}

/* NULL: it cannot be loaded. */
static struct dynmap_volume *load(u64 id)
{
	struct dynmap_volume *volume = NULL;
	int ret = FUZZ_HELPED(&pool, dynmap_volume_load(&pool.table, id, &volume, &op));

	return judge(ret, "load") ? NULL : volume;
}

static void write_to(u64 id, u64 lbn, u64 len)
{
	struct dynmap_volume *volume = load(id);

	if (volume)
		judge(fuzz_write(&pool, volume, lbn, len), "write to a copy or its origin");
}

/* A copy of a volume, both written to, the volume rolled back. */
static void use_copy(u64 origin, u64 id)
{
	u8 uuid[DYNMAP_UUID_BYTES] = {};
	struct dynmap_volume *copy;

	if (judge_change(FUZZ_HELPED(&pool, dynmap_volume_snapshot(&pool.table, id, origin, uuid,
								   0, &op)), "snapshot"))
		return;
	write_to(origin, 2, 3);
	write_to(id, 0, 4);
	write_to(id, 290, 30);
	judge(dynmap_pool_commit(&pool), "commit of a snapshot");
	copy = load(id);
	if (copy)
		survey_volume(copy, load(origin));
	if (!judge_change(FUZZ_HELPED(&pool, dynmap_volume_rollback(&pool.table, origin, id, &op)),
			  "roll back"))
		write_to(origin, 1, 3);
}

static void use_pool(struct fuzz_base *base)
{
	u8 uuid[STORE_COW_DEVICES][DYNMAP_UUID_BYTES] = {};
	struct dynmap_volume *volume;
	int ret;

	for_volumes(true);
	ret = FUZZ_HELPED(&pool, dynmap_volume_create(&pool.table, 77, 1000, uuid[0], 0, &op));
	if (!ret)
		ret = FUZZ_HELPED(&pool, dynmap_volume_load(&pool.table, 77, &volume, &op));
	if (!ret)
		judge(fuzz_write(&pool, volume, 100, 50), "write to a new volume");
	use_copy(0, 78);
	use_copy(77, 79);
	judge(dynmap_pool_commit(&pool), "commit");
	delete(0);
	delete(78);
	reap();
	judge(dynmap_pool_checkpoint(&pool), "checkpoint");
	judge(dynmap_pool_reclaim(&pool, 100), "reclaim");
	base->cow.blocks[0] = base->blocks[0] + FUZZ_SLACK;
	ret = dynmap_pool_grow(&pool, base->cow.nr_devs, base->cow.blocks, uuid[0]);
	/* A device may say that it is longer than this. */
	if (ret != -EINVAL)
		judge(ret, "grow");
	for_volumes(true);
	ret = judge(dynmap_pool_checkpoint(&pool), "last checkpoint");
	if (clean && !ret && !is_clean())
		fuzz_fail("a clean pool is damaged by use");
}

void fuzz_exercise(struct fuzz_base *base)
{
	static struct dynmap_disk_super sb;
	int ret;

	clean = false;
	if (fuzz_super(base, &sb))
		return;
	ret = dynmap_pool_open(&pool, &base->cow.store, &sb, 256, DYNMAP_OPEN_READ_ONLY);
	if (!ret) {
		clean = is_clean() && journal_is_whole();
		for_volumes(false);
		dynmap_pool_close(&pool);
	}
	ret = dynmap_pool_open(&pool, &base->cow.store, &sb, 256, le64_to_cpu(sb.epoch) + 1);
	if (judge(ret, "open"))
		return;
	use_pool(base);
	dynmap_pool_close(&pool);
	ret = fuzz_super(base, &sb);
	if (clean && ret)
		fuzz_fail("a used pool has no superblock");
	if (!ret)
		ret = judge(dynmap_pool_open(&pool, &base->cow.store, &sb, 256,
					     DYNMAP_OPEN_READ_ONLY), "open again");
	if (ret)
		return;
	if (!is_clean() && clean)
		fuzz_fail("a used pool is damaged when opened again");
	dynmap_pool_close(&pool);
}
