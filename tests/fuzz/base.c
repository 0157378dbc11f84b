// SPDX-License-Identifier: GPL-2.0-only
/*
 * Base images, see fuzz.h. Owns: a few pools that between them have all that
 * can be on a device: one and two copies of nodes, trees of several levels,
 * extents, windows and surplus, two segments, a volume half deleted, and
 * records in the journal.
 */
#include "fuzz.h"

static struct dynmap_pool pool;

static void must(int ret, const char *what)
{
	if (ret)
		fuzz_fail(what);
}

static struct dynmap_volume *load_volume(u64 id)
{
	struct dynmap_volume *volume = NULL;

	must(FUZZ_HELPED(&pool, dynmap_volume_load(&pool.table, id, &volume, &op)), "base image: load");
	return volume;
}

static struct dynmap_volume *create_volume(u64 id)
{
	u8 uuid[DYNMAP_UUID_BYTES] = { id + 1 };

	must(FUZZ_HELPED(&pool, dynmap_volume_create(&pool.table, id, 1 << 20, uuid, 7, &op)),
	     "base image: create");
	return load_volume(id);
}

int fuzz_write(struct dynmap_pool *pool, struct dynmap_volume *volume, u64 lbn, u64 len)
{
	struct dynmap_mapping mapping;
	int ret = 0;
	u64 n;

	for (; !ret && len; len -= n, lbn += n) {
		ret = FUZZ_HELPED(pool, dynmap_table_lookup(volume, lbn, &mapping, &op));
		if (!ret && mapping.kind == DYNMAP_HOLE) {
			ret = FUZZ_HELPED(pool, dynmap_table_reserve(&pool->table, volume, lbn, len,
								     &op));
			if (!ret)
				ret = FUZZ_HELPED(pool, dynmap_table_lookup(volume, lbn, &mapping,
									    &op));
			if (!ret && mapping.kind == DYNMAP_HOLE)
				fuzz_fail("a block is a hole after it was reserved");
		}
		if (ret)
			break;
		n = min(len, mapping.len);
		ret = FUZZ_HELPED(pool, dynmap_table_set_written(&pool->table, volume, lbn,
								 mapping.pbn, n, &op));
	}
	return ret;
}

int fuzz_unmap(struct dynmap_pool *pool, struct dynmap_volume *volume, u64 lbn, u64 end)
{
	u64 before;
	int ret = 0;

	while (!ret && lbn < end) {
		before = lbn;
		ret = FUZZ_HELPED(pool, dynmap_table_unmap(&pool->table, volume, &lbn, end, &op));
		if (!ret && lbn <= before)
			fuzz_fail("an unmap does not advance");
	}
	return ret;
}

static void delete_volume(u64 id)
{
	must(FUZZ_HELPED(&pool, dynmap_volume_delete(&pool.table, id, &op)), "base image: delete");
}

static void open_base(struct fuzz_base *base, bool readonly)
{
	must(fuzz_super(base, &base->super), "base image: superblock");
	must(dynmap_pool_open(&pool, &base->cow.store, &base->super, 256, readonly),
	     "base image: open");
}

static void format_base(struct fuzz_base *base, const u64 *blocks, u32 nr_devs, u32 unit,
			u32 copies)
{
	struct dynmap_format_params params = {
		.nr_devs = nr_devs,
		.alloc_blocks = unit,
		.copies = copies,
		.uuid = { 'f', 'u', 'z', 'z' },
		.label = "fuzz",
	};
	u32 i;

	store_cow_init(&base->cow, nr_devs, blocks, FUZZ_SLACK);
	for (i = 0; i < nr_devs; i++) {
		base->blocks[i] = blocks[i];
		params.dev_blocks[i] = blocks[i];
		params.dev_uuid[i][0] = i + 1;
	}
	must(dynmap_pool_format(&base->cow.store, &params), "base image: format");
	open_base(base, false);
}

/* The last checkpoint is made; what follows is in the journal only. */
static void records(void)
{
	must(dynmap_pool_checkpoint(&pool), "base image: checkpoint");
	create_volume(40);
	must(fuzz_write(&pool, load_volume(40), 3, 20), "base image: write");
	must(fuzz_write(&pool, load_volume(0), 1000, 5), "base image: write");
	must(dynmap_pool_commit(&pool), "base image: commit");
	must(fuzz_unmap(&pool, load_volume(0), 1, 7), "base image: unmap");
	must(FUZZ_HELPED(&pool, dynmap_volume_change(&pool.table, 40, DYNMAP_ATTR_ALLOC, 64, &op)),
	     "base image: change");
	must(FUZZ_HELPED(&pool, dynmap_table_set_transaction(&pool.table, 9, &op)),
	     "base image: transaction");
	create_volume(41);
	delete_volume(41);
	must(FUZZ_HELPED(&pool, dynmap_volume_reap(&pool.table, &op)), "base image: reap");
	must(dynmap_pool_commit(&pool), "base image: commit");
}

/* One small device. */
static void make_small(struct fuzz_base *base)
{
	const u64 blocks[] = { 1024 };
	u32 i;

	format_base(base, blocks, 1, 4, 2);
	for (i = 0; i < 3; i++)
		must(fuzz_write(&pool, create_volume(i), 10 * i, 12), "base image: write");
	for (i = 0; i < 12; i++)
		must(fuzz_write(&pool, load_volume(1), 64 + 24 * i, 2 + i % 3), "base image: write");
	records();
}

/* Two devices, trees of two levels, a volume half deleted. */
static void make_deep(struct fuzz_base *base)
{
	const u64 blocks[] = { 1024, 1100 };
	u32 i;

	format_base(base, blocks, 2, 1, 2);
	for (i = 0; i < 18; i++)
		must(fuzz_write(&pool, create_volume(i), i, 2), "base image: write");
	for (i = 0; i < 300; i++)
		must(fuzz_write(&pool, load_volume(0), 100 + 3 * i, 1), "base image: write");
	for (i = 0; i < 100; i++)
		must(fuzz_write(&pool, load_volume(5), (u64)i << 27, 1), "base image: write");
	delete_volume(5);
	delete_volume(6);
	must(FUZZ_HELPED(&pool, dynmap_volume_reap(&pool.table, &op)), "base image: reap");
	records();
}

/* Two segments, one copy of nodes, windows and surplus. */
static void make_long(struct fuzz_base *base)
{
	const u64 blocks[] = { 67000 };
	u32 i;

	format_base(base, blocks, 1, 32, 1);
	must(fuzz_write(&pool, create_volume(0), 0, 100), "base image: write");
	must(fuzz_write(&pool, create_volume(1), 5, 200), "base image: write");
	/* Goes on in the second segment without filling the first. */
	pool.alloc.cursor[0] = 1;
	for (i = 0; i < 20; i++)
		must(fuzz_write(&pool, load_volume(1), 30000 + 37 * i, 1 + i % 5), "base image: write");
	records();
}

/* Remember what of a volume is mapped. */
static void list_extents(struct fuzz_base *base, struct dynmap_volume *volume)
{
	struct dynmap_mapping mapping;
	u64 lbn;

	for (lbn = 0; lbn < DYNMAP_MAX_LBN; lbn = mapping.lbn + mapping.len) {
		must(FUZZ_HELPED(&pool, dynmap_table_lookup(volume, lbn, &mapping, &op)),
		     "base image: lookup");
		if (mapping.kind != DYNMAP_HOLE && base->nr_extents < FUZZ_EXTENTS)
			base->extent[base->nr_extents++] = mapping;
	}
}

static void finish(struct fuzz_base *base)
{
	struct dynmap_check check;

	dynmap_pool_close(&pool);
	open_base(base, true);
	must(dynmap_check_pool(&pool, &check), "base image: check");
	must(check.damaged || check.repairable || !pool.replayed, "base: not clean");
	base->journal_end = pool.journal.head;
	list_extents(base, load_volume(0));
	list_extents(base, load_volume(1));
	dynmap_pool_close(&pool);
	must(!!dynmap_geometry_init(&base->geo, &base->cow.store, &base->super), "base image: geometry");
	/* Lists the nodes; all slots get the newest superblock. */
	fuzz_seal(base, &base->super, 0);
	store_cow_freeze(&base->cow);
}

struct fuzz_base *fuzz_base(u32 number)
{
	static void (* const make[FUZZ_BASES])(struct fuzz_base *) = {
		make_small, make_deep, make_long,
	};
	static struct fuzz_base bases[FUZZ_BASES];
	struct fuzz_base *base = &bases[number % FUZZ_BASES];

	if (!base->cow.nr_devs) {
		make[number % FUZZ_BASES](base);
		finish(base);
	}
	memcpy(base->cow.blocks, base->blocks, sizeof(base->blocks));
	store_cow_reset(&base->cow);
	return base;
}
