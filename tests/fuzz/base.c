// SPDX-License-Identifier: GPL-2.0-only
/*
 * Base images, see fuzz.h. Owns: a few pools that between them have all that
 * can be on a device: one and two copies of nodes, trees of several levels,
 * extents, windows and surplus, two segments, a volume half deleted, a family of
 * snapshots, and records in the journal.
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

int fuzz_write_begin(struct dynmap_pool *pool, struct dynmap_volume *volume, u64 lbn, u64 len,
		     struct dynmap_mapping *mapping)
{
	int ret = FUZZ_HELPED(pool, dynmap_volume_refresh(&pool->table, volume, &op));
	u32 held;

	if (!ret)
		ret = FUZZ_HELPED(pool, dynmap_table_lookup(volume, lbn, mapping, &op));
	if (!ret && mapping->kind == DYNMAP_HOLE) {
		ret = FUZZ_HELPED(pool, dynmap_table_reserve(&pool->table, volume, lbn, len, &op));
		if (!ret)
			ret = FUZZ_HELPED(pool, dynmap_table_lookup(volume, lbn, mapping, &op));
		if (!ret && mapping->kind == DYNMAP_HOLE)
			fuzz_fail("a block is a hole after it was reserved");
	}
	if (ret)
		return ret;
	mapping->len = min(len, mapping->len);
	if (!mapping->shared)
		return 0;
	ret = FUZZ_HELPED(pool, dynmap_table_hold(&pool->table, volume, mapping->len,
						  &mapping->pbn, &held, &op));
	if (!ret && (!held || held > mapping->len))
		fuzz_fail("no or too many blocks are held");
	mapping->len = ret ? 0 : held;
	return ret;
}

int fuzz_write_end(struct dynmap_pool *pool, struct dynmap_volume *volume,
		   struct dynmap_mapping *mapping)
{
	u64 lbn = mapping->lbn, pbn = mapping->pbn;
	u32 left = mapping->len;
	int ret;

	if (mapping->shared) {
		ret = FUZZ_HELPED(pool, dynmap_table_redirect(&pool->table, volume, &lbn, &pbn,
							      &left, &op));
		if (ret)
			dynmap_alloc_unhold(&pool->alloc, pbn, left);
		mapping->len = lbn - mapping->lbn;
		return ret;
	}
	ret = FUZZ_HELPED(pool, dynmap_table_set_written(&pool->table, volume, lbn, pbn, left,
							 &op));
	if (ret)
		mapping->len = 0;
	return ret;
}

void fuzz_write_fails(struct dynmap_pool *pool, const struct dynmap_mapping *mapping)
{
	if (mapping->shared)
		dynmap_alloc_unhold(&pool->alloc, mapping->pbn, mapping->len);
}

int fuzz_write(struct dynmap_pool *pool, struct dynmap_volume *volume, u64 lbn, u64 len)
{
	struct dynmap_mapping mapping;
	int ret = 0;

	for (; !ret && len; len -= mapping.len, lbn += mapping.len) {
		ret = fuzz_write_begin(pool, volume, lbn, len, &mapping);
		if (ret)
			break;
		ret = fuzz_write_end(pool, volume, &mapping);
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

int fuzz_compare(struct dynmap_pool *pool, struct dynmap_volume *a, struct dynmap_volume *b,
		 struct dynmap_comparison *comparison)
{
	u64 before;
	int ret;

	do {
		before = comparison->lbn;
		ret = FUZZ_HELPED(pool, dynmap_table_compare(a, b, comparison, &op));
		if (comparison->lbn < before ||
		    (ret == -EINPROGRESS && comparison->lbn == before) ||
		    (!ret && comparison->from >= comparison->to))
			fuzz_fail("a comparison does not advance");
	} while (ret == -EINPROGRESS);
	return ret;
}

int fuzz_usage(struct dynmap_pool *pool, u64 id, struct dynmap_usage *usage)
{
	int ret = FUZZ_HELPED(pool, dynmap_volume_usage(&pool->table, id, usage, &op));
	u32 steps = 0;

	while (!ret) {
		ret = FUZZ_HELPED(pool, dynmap_usage_step(&pool->table, usage, &op));
		if (++steps > FUZZ_TRIES)
			fuzz_fail("no end of counting");
	}
	return ret == -ENOENT ? 0 : ret;
}

static void delete_volume(u64 id)
{
	must(FUZZ_HELPED(&pool, dynmap_volume_delete(&pool.table, id, &op)), "base image: delete");
}

static void open_base(struct fuzz_base *base, bool readonly)
{
	must(fuzz_super(base, &base->super), "base image: superblock");
	must(dynmap_pool_open(&pool, &base->cow.store, &base->super, 256, readonly ?
			      DYNMAP_OPEN_READ_ONLY : le64_to_cpu(base->super.epoch) + 1),
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

static void copy_volume(u64 id, u64 origin)
{
	u8 uuid[DYNMAP_UUID_BYTES] = { id + 1 };

	must(FUZZ_HELPED(&pool, dynmap_volume_snapshot(&pool.table, id, origin, uuid, 8, &op)),
	     "base image: snapshot");
}

static void write_base(u64 id, u64 lbn, u64 len)
{
	must(fuzz_write(&pool, load_volume(id), lbn, len), "base image: write");
}

/* What families do, in the journal. */
static void family_records(void)
{
	write_base(0, 20, 6);
	copy_volume(42, 2);
	write_base(42, 0, 4);
	write_base(2, 9, 2);
	must(FUZZ_HELPED(&pool, dynmap_volume_rollback(&pool.table, 1, 0, &op)),
	     "base image: roll back");
	write_base(1, 50, 3);
	must(dynmap_pool_commit(&pool), "base image: commit");
}

/*
 * Snapshots of snapshots, a divergence tree of two levels, and two volumes below
 * dying nodes: one whose node is half drained, one that nobody has looked at.
 */
static void make_family(struct fuzz_base *base)
{
	const u64 blocks[] = { 2400 };
	u32 i;

	format_base(base, blocks, 1, 4, 2);
	must(fuzz_write(&pool, create_volume(0), 0, 500), "base image: write");
	copy_volume(1, 0);
	for (i = 0; i < 230; i++)
		write_base(0, 2 * i, 1);
	copy_volume(2, 1);
	copy_volume(3, 0);
	copy_volume(4, 0);
	write_base(2, 8, 6);
	write_base(3, 490, 30);
	for (i = 0; i < 180; i++)
		write_base(4, 2 * i + 1, 1);
	must(fuzz_unmap(&pool, load_volume(1), 100, 110), "base image: unmap");
	delete_volume(4);
	must(FUZZ_HELPED(&pool, dynmap_volume_reap(&pool.table, &op)), "base image: reap");
	delete_volume(3);
	records();
	family_records();
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
	must(dynmap_check_pool(&pool, NULL, &check), "base image: check");
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
		make_small, make_deep, make_long, make_family,
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
