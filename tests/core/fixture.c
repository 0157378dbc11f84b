// SPDX-License-Identifier: GPL-2.0-only
/* Fixture of the unit tests, see fixture.h. */
#include "fixture.h"

/* xorshift64* (Vigna, "An experimental exploration of Marsaglia's generators", 2016). */
u64 fixture_random(void)
{
	static u64 state = 0x9e3779b97f4a7c15ULL;

	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return state * 0x2545f4914f6cdd1dULL;
}

u64 fixture_below(u64 n)
{
	return (fixture_random() >> 16) % n;
}

int fixture_format(struct fixture *fixture, u32 alloc_blocks, u32 copies)
{
	struct dynmap_format_params params = {
		.nr_devs = fixture->mem.nr_devs,
		.alloc_blocks = alloc_blocks,
		.copies = copies,
		.label = "fixture",
	};
	u32 i;

	for (i = 0; i < DYNMAP_UUID_BYTES; i++)
		params.uuid[i] = i + 1;
	for (i = 0; i < fixture->mem.nr_devs; i++) {
		params.dev_uuid[i][0] = i + 1;
		params.dev_blocks[i] = fixture->mem.blocks[i];
	}
	return dynmap_pool_format(&fixture->mem.store, &params);
}

int fixture_open(struct fixture *fixture, bool readonly)
{
	static struct dynmap_disk_super supers[DYNMAP_MAX_DEVICES];
	struct store_mem *mem = &fixture->mem;
	int errors[DYNMAP_MAX_DEVICES], ret;

	ret = dynmap_super_scan(&mem->store, mem->nr_devs, mem->blocks, supers, errors);
	if (ret >= 0)
		ret = dynmap_pool_open(&fixture->pool, &mem->store, &supers[ret], 256, readonly ?
				       DYNMAP_OPEN_READ_ONLY :
				       le64_to_cpu(supers[ret].epoch) + 1);
	else
		ret = errors[0];
	fixture->open = !ret;
	return ret;
}

int fixture_grow(struct fixture *fixture)
{
	u8 uuid[DYNMAP_MAX_DEVICES][DYNMAP_UUID_BYTES] = {};
	u32 i;

	for (i = 0; i < fixture->mem.nr_devs; i++)
		uuid[i][0] = i + 1;
	return dynmap_pool_grow(&fixture->pool, fixture->mem.nr_devs, fixture->mem.blocks, uuid[0]);
}

void fixture_close(struct fixture *fixture)
{
	if (fixture->open)
		dynmap_pool_close(&fixture->pool);
	fixture->open = false;
}

void fixture_init(struct fixture *fixture, const u64 *blocks, u32 alloc_blocks, u32 copies)
{
	u32 nr_devs = 0;

	dynmap_verbose = getenv("VERBOSE");
	memset(fixture, 0, sizeof(*fixture));
	while (blocks[nr_devs])
		nr_devs++;
	store_mem_init(&fixture->mem, nr_devs, blocks);
	assert_int_equal(fixture_format(fixture, alloc_blocks, copies), 0);
	assert_int_equal(fixture_open(fixture, false), 0);
}

void fixture_exit(struct fixture *fixture)
{
	fixture_close(fixture);
	store_mem_exit(&fixture->mem);
}

static int fixture_setup(void **state, const u64 *blocks)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	fixture_init(fixture, blocks, 16, 2);
	*state = fixture;
	return 0;
}

int fixture_setup_one(void **state)
{
	static const u64 blocks[] = { 6000, 0 };

	return fixture_setup(state, blocks);
}

int fixture_setup_two(void **state)
{
	static const u64 blocks[] = { 6000, 6000, 0 };

	return fixture_setup(state, blocks);
}

int fixture_teardown(void **state)
{
	fixture_exit(*state);
	free(*state);
	return 0;
}

struct dynmap_volume *fixture_create(struct fixture *fixture, u64 id)
{
	u8 uuid[DYNMAP_UUID_BYTES] = { id + 1 };
	struct dynmap_table *table = &fixture->pool.table;

	assert_int_equal(HELPED(fixture, dynmap_volume_create(table, id, DYNMAP_MAX_LBN, uuid, 7,
							      &op)), 0);
	return fixture_load(fixture, id);
}

struct dynmap_volume *fixture_load(struct fixture *fixture, u64 id)
{
	struct dynmap_volume *volume = NULL;

	assert_int_equal(HELPED(fixture, dynmap_volume_load(&fixture->pool.table, id, &volume,
							    &op)), 0);
	return volume;
}

static void fixture_data(struct fixture *fixture, struct dynmap_volume *volume, u64 lbn, u64 pbn,
			 u64 len, u64 value)
{
	u8 data[DYNMAP_BLOCK_BYTES] = {};
	struct fixture_tag tag = { .volume = volume->id, .value = value };
	u32 dev;
	u64 at;

	for (; len; len--, lbn++, pbn++) {
		tag.lbn = lbn;
		memcpy(data, &tag, sizeof(tag));
		at = dynmap_pbn_locate(&fixture->pool.geo, pbn, &dev);
		store_mem_write(&fixture->mem, dev, at, data);
	}
}

/* Write up to *n shared blocks elsewhere. */
static int fixture_redirect(struct fixture *fixture, struct dynmap_volume *volume, u64 lbn,
			    u64 *n, u64 value, const struct dynmap_mapping *mapping)
{
	struct dynmap_table *table = &fixture->pool.table;
	u64 pbn;
	u32 len;
	int ret = HELPED(fixture, dynmap_table_hold(table, volume, *n, &pbn, &len, &op));

	if (ret)
		return ret;
	*n = len;
	fixture_data(fixture, volume, lbn, pbn, len, value);
	return HELPED(fixture, (op.place = mapping->place,
				dynmap_table_redirect(table, volume, &lbn, &pbn, &len, &op)));
}

int fixture_write(struct fixture *fixture, struct dynmap_volume *volume, u64 lbn, u64 len,
		  u64 value)
{
	struct dynmap_table *table = &fixture->pool.table;
	struct dynmap_mapping mapping;
	int ret;
	u64 n;

	for (; len; len -= n, lbn += n) {
		ret = HELPED(fixture, dynmap_table_lookup(volume, lbn, &mapping, &op));
		if (!ret && (mapping.kind != DYNMAP_DATA || mapping.shared))
			ret = HELPED(fixture, dynmap_table_may_write(table, volume, 0));
		if (!ret && mapping.kind == DYNMAP_HOLE) {
			ret = HELPED(fixture, dynmap_table_reserve(table, volume, lbn, len, &op));
			if (!ret)
				ret = HELPED(fixture, dynmap_table_lookup(volume, lbn, &mapping,
									  &op));
		}
		if (ret)
			return ret;
		assert_int_not_equal(mapping.kind, DYNMAP_HOLE);
		n = min(len, mapping.len);
		if (mapping.shared) {
			ret = fixture_redirect(fixture, volume, lbn, &n, value, &mapping);
			if (ret)
				return ret;
			continue;
		}
		fixture_data(fixture, volume, lbn, mapping.pbn, n, value);
		ret = HELPED(fixture, (op.place = mapping.place,
				       dynmap_table_set_written(table, volume, lbn, mapping.pbn, n,
								&op)));
		if (ret)
			return ret;
	}
	return 0;
}

bool fixture_read_tag(struct fixture *fixture, struct dynmap_volume *volume, u64 lbn,
		      struct fixture_tag *tag)
{
	struct dynmap_mapping mapping;
	u32 dev;
	u64 at;

	assert_int_equal(HELPED(fixture, dynmap_table_lookup(volume, lbn, &mapping, &op)), 0);
	assert_int_equal(mapping.lbn, lbn);
	assert_true(mapping.len > 0);
	if (mapping.kind != DYNMAP_DATA)
		return false;
	at = dynmap_pbn_locate(&fixture->pool.geo, mapping.pbn, &dev);
	memcpy(tag, store_mem_block(&fixture->mem, dev, at), sizeof(*tag));
	return true;
}

u64 fixture_read(struct fixture *fixture, struct dynmap_volume *volume, u64 lbn)
{
	struct fixture_tag tag;

	if (!fixture_read_tag(fixture, volume, lbn, &tag))
		return 0;
	/* A snapshot holds what its origin wrote. */
	assert_true(tag.volume == volume->id || volume->disk.parent);
	assert_int_equal(tag.lbn, lbn);
	return tag.value;
}

int fixture_unmap(struct fixture *fixture, struct dynmap_volume *volume, u64 lbn, u64 end)
{
	int ret = 0;

	while (!ret && lbn < end)
		ret = HELPED(fixture, dynmap_table_unmap(&fixture->pool.table, volume, &lbn, end,
							 &op));
	return ret;
}

void fixture_find_nothing(struct fixture *fixture)
{
	struct dynmap_check check;

	assert_int_equal(dynmap_check_pool(&fixture->pool, NULL, &check), 0);
	assert_int_equal(check.damaged, 0);
	assert_int_equal(check.repairable, 0);
}

void fixture_check(struct fixture *fixture)
{
	assert_int_equal(dynmap_pool_checkpoint(&fixture->pool), 0);
	fixture_find_nothing(fixture);
}

int fixture_checkpoint_at_once(struct fixture *fixture)
{
	struct dynmap_pool *pool = &fixture->pool;
	int ret = HELPED(fixture, dynmap_pool_checkpoint_begin(pool, &op));

	if (ret)
		return ret;
	ret = dynmap_pool_checkpoint_io(pool);
	if (!ret)
		ret = dynmap_pool_checkpoint_publish(pool);
	while (dynmap_pool_checkpoint_end(pool, ret))
		;
	return ret ? ret : dynmap_pool_commit(pool);
}

void fixture_check_waiting(struct fixture *fixture)
{
	struct dynmap_pool *pool = &fixture->pool;

	assert_int_equal(fixture_checkpoint_at_once(fixture), 0);
	assert_int_equal(pool->table.family.waited, pool->cache.dead_list.count);
	fixture_find_nothing(fixture);
}

struct dynmap_seg *fixture_seg(struct fixture *fixture, u32 segment)
{
	struct dynmap_seg *seg = NULL;

	assert_int_equal(FETCHED(fixture, dynmap_space_load(&fixture->pool.alloc.space, segment,
							    &seg, &op)), 0);
	return seg;
}
