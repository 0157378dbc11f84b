// SPDX-License-Identifier: GPL-2.0-only
/*
 * Unit tests of the node cache, on a store in memory, without an allocator:
 * the test fills the stock itself.
 */
#include "fixture.h"

struct bench {
	struct store_mem mem;
	struct dynmap_geometry geo;
	struct dynmap_cache cache;
	u64 next_pbn;
};

static const struct dynmap_share unshared;

static const char *check_nothing(const struct dynmap_geometry *geo, const void *data, u64 high)
{
	return NULL;
}

static const char *check_refuse(const struct dynmap_geometry *geo, const void *data, u64 high)
{
	assert_int_equal(high, 99);
	return "taste";
}

static void store_device(struct dynmap_disk_device *disk, u64 blocks)
{
	struct dynmap_dev dev;

	assert_int_equal(dynmap_dev_layout(&dev, blocks), 0);
	dynmap_dev_store(&dev, disk);
}

static int setup(void **state)
{
	struct bench *bench = calloc(1, sizeof(*bench));
	struct dynmap_disk_super *sb = dynmap_block_alloc();
	const u64 blocks[] = { 4000, 4000 };
	u32 i;

	dynmap_verbose = getenv("VERBOSE");
	store_mem_init(&bench->mem, 2, blocks);
	sb->nr_devices = cpu_to_le32(2);
	for (i = 0; i < 2; i++)
		store_device(&sb->device[i], blocks[i]);
	assert_null(dynmap_geometry_init(&bench->geo, &bench->mem.store, sb));
	dynmap_block_free(sb);
	assert_int_equal(dynmap_cache_init(&bench->cache, &bench->geo, 0), 0);
	bench->cache.check = check_nothing;
	bench->cache.copies = 2;
	bench->cache.epoch = 5;
	bench->cache.generation = 3;
	memset(bench->cache.uuid, 0xab, DYNMAP_UUID_BYTES);
	*state = bench;
	return 0;
}

static int teardown(void **state)
{
	struct bench *bench = *state;

	dynmap_cache_exit(&bench->cache);
	store_mem_exit(&bench->mem);
	free(bench);
	return 0;
}

static void spares(struct bench *bench, u32 count)
{
	while (count--)
		dynmap_cache_add_spare(&bench->cache, dynmap_buf_alloc());
}

/* Places for @count nodes: copy A on the first device, copy B on the second. */
static void stock(struct bench *bench, u32 count)
{
	u64 second = dynmap_segment_pbn(dynmap_segment_number(1, 0));
	struct dynmap_cache *cache = &bench->cache;

	while (count--) {
		cache->stock[0][cache->nr_stock[0]++] = bench->next_pbn;
		cache->stock[1][cache->nr_stock[1]++] = second + bench->next_pbn++;
	}
}

static struct dynmap_buf *new_node(struct bench *bench, u8 fill)
{
	struct dynmap_buf *buf;

	spares(bench, 5);
	stock(bench, 1);
	assert_int_equal(dynmap_cache_reserve(&bench->cache, 1, 0), 0);
	buf = dynmap_node_new(&bench->cache, DYNMAP_TREE_VOLUME, 1, 9, 77);
	memset(dynmap_node_head(buf)->payload, fill, DYNMAP_NODE_PAYLOAD);
	return buf;
}

static void checkpoint(struct bench *bench)
{
	struct dynmap_buf *buf;

	list_for_each_entry(buf, &bench->cache.dirty, list)
		dynmap_node_seal(&bench->cache, buf);
	dynmap_cache_seal(&bench->cache);
	dynmap_cache_write(&bench->cache);
	assert_int_equal(bench->mem.store.ops->wait(&bench->mem.store, DYNMAP_BATCH_CHECKPOINT),
			 0);
	while (dynmap_cache_written(&bench->cache))
		;
}

static struct dynmap_miss miss_of(struct bench *bench, struct dynmap_buf *buf)
{
	struct dynmap_miss miss = {
		.ptr = dynmap_node_ptr(buf),
		.base = 77,
		.high = 99,
		.epoch = bench->cache.epoch,
		.kind = DYNMAP_TREE_VOLUME,
		.level = 1,
	};

	return miss;
}

/* The node's copy on its device, in memory. */
static struct dynmap_disk_node *disk_copy(struct bench *bench, const struct dynmap_miss *miss,
					  u32 copy)
{
	u32 dev;
	u64 at = dynmap_pbn_locate(&bench->geo, miss->ptr.pbn[copy], &dev);

	return store_mem_block(&bench->mem, dev, at);
}

static void test_reserve(void **state)
{
	struct bench *bench = *state;

	assert_int_equal(dynmap_cache_reserve(&bench->cache, 2, 1), -ENOMEM);
	spares(bench, 7);
	assert_int_equal(dynmap_cache_reserve(&bench->cache, 2, 1), -ENOSPC);
	stock(bench, 2);
	assert_int_equal(dynmap_cache_reserve(&bench->cache, 2, 1), 0);
	bench->cache.nr_stock[1]--;
	assert_int_equal(dynmap_cache_reserve(&bench->cache, 2, 1), -ENOSPC);
	bench->cache.copies = 1;
	assert_int_equal(dynmap_cache_reserve(&bench->cache, 2, 1), 0);
}

static void test_written_node_comes_back(void **state)
{
	struct bench *bench = *state;
	struct dynmap_buf *buf = new_node(bench, 0x5a), *fetched;
	struct dynmap_disk_node *node;
	struct dynmap_miss miss;

	checkpoint(bench);
	miss = miss_of(bench, buf);
	fetched = dynmap_node_fetch(&bench->cache, &miss, dynmap_buf_alloc());
	assert_false(IS_ERR(fetched));
	node = dynmap_node_head(fetched);
	assert_int_equal(le64_to_cpu(node->owner), 9);
	assert_int_equal(le64_to_cpu(node->base), 77);
	assert_int_equal(le64_to_cpu(node->epoch), 5);
	assert_int_equal(le32_to_cpu(node->generation), 3);
	assert_memory_equal(node, buf->data, DYNMAP_BLOCK_BYTES);
	assert_memory_equal(node, disk_copy(bench, &miss, 1), DYNMAP_BLOCK_BYTES);
	/* It is there already: inserting drops the newcomer. */
	dynmap_cache_insert(&bench->cache, fetched);
	assert_ptr_equal(dynmap_cache_find(&bench->cache, miss.ptr.pbn[0]), buf);
	assert_int_equal(bench->cache.healed, 0);
}

/* The next read of the node begins with this copy. */
static void read_first(struct bench *bench, struct dynmap_miss *miss, u32 copy)
{
	bench->cache.epoch += (miss->ptr.pbn[0] ^ bench->cache.epoch ^ copy) & 1;
	miss->epoch = bench->cache.epoch;
}

/* Each byte of a copy spoilt in turn: found out, and the other copy serves. */
static void test_each_byte_is_verified(void **state)
{
	struct bench *bench = *state;
	struct dynmap_buf *buf = new_node(bench, 0), *fetched;
	struct dynmap_miss miss;
	u32 byte;
	u8 *copy;

	checkpoint(bench);
	miss = miss_of(bench, buf);
	for (byte = 0; byte < DYNMAP_BLOCK_BYTES; byte++) {
		read_first(bench, &miss, byte & 1);
		copy = (u8 *)disk_copy(bench, &miss, byte & 1);
		copy[byte] ^= 1 << byte % 8;
		assert_int_not_equal(dynmap_node_verify(&bench->cache, copy, &miss), 0);
		fetched = dynmap_node_fetch(&bench->cache, &miss, dynmap_buf_alloc());
		assert_false(IS_ERR(fetched));
		assert_memory_equal(fetched->data, buf->data, DYNMAP_BLOCK_BYTES);
		assert_int_equal(fetched->heal->bad, 1 << (byte & 1));
		dynmap_buf_free(fetched->heal);
		dynmap_buf_free(fetched);
		copy[byte] ^= 1 << byte % 8;
	}
}

static int fetch_error(struct bench *bench, const struct dynmap_miss *miss)
{
	struct dynmap_buf *buf = dynmap_node_fetch(&bench->cache, miss, dynmap_buf_alloc());

	assert_true(IS_ERR(buf));
	return PTR_ERR(buf);
}

static void test_expectations(void **state)
{
	struct bench *bench = *state;
	struct dynmap_buf *buf = new_node(bench, 1);
	struct dynmap_miss good, miss;

	checkpoint(bench);
	good = miss_of(bench, buf);
	assert_int_equal(dynmap_node_verify(&bench->cache, buf->data, &good), 0);
	miss = good;
	miss.kind = DYNMAP_TREE_MAP;
	assert_int_equal(fetch_error(bench, &miss), -EUCLEAN);
	miss = good;
	miss.level = 0;
	assert_int_equal(fetch_error(bench, &miss), -EUCLEAN);
	miss = good;
	miss.base++;
	assert_int_equal(fetch_error(bench, &miss), -EUCLEAN);
	miss = good;
	miss.ptr.crc ^= 1;	/* a lost write: an older, valid node is there */
	assert_int_equal(fetch_error(bench, &miss), -EUCLEAN);
	miss = good;
	miss.ptr.generation++;
	assert_int_equal(fetch_error(bench, &miss), -EUCLEAN);
	miss = good;
	miss.ptr.pbn[0]++;	/* a misdirected write */
	memcpy(disk_copy(bench, &miss, 0), buf->data, DYNMAP_BLOCK_BYTES);
	assert_int_equal(fetch_error(bench, &miss), -EUCLEAN);
	bench->cache.uuid[0]++;
	assert_int_equal(fetch_error(bench, &good), -EUCLEAN);
	bench->cache.uuid[0]--;
	bench->cache.epoch = 4;
	good.epoch = 4;
	assert_int_equal(fetch_error(bench, &good), -EUCLEAN);
	bench->cache.epoch = 6;
	assert_int_equal(dynmap_node_verify(&bench->cache, buf->data, &good), 0);
	memset(disk_copy(bench, &good, 0), 0, DYNMAP_BLOCK_BYTES);
	memset(disk_copy(bench, &good, 1), 0, DYNMAP_BLOCK_BYTES);
	assert_int_equal(fetch_error(bench, &good), -ESTALE);	/* it may have moved */
	good.epoch = 6;
	assert_int_equal(fetch_error(bench, &good), -EBADMSG);
	memcpy(disk_copy(bench, &good, 0), buf->data, DYNMAP_BLOCK_BYTES);
	memcpy(disk_copy(bench, &good, 1), buf->data, DYNMAP_BLOCK_BYTES);
	bench->cache.check = check_refuse;
	assert_int_equal(fetch_error(bench, &good), -EUCLEAN);
}

static void test_both_copies_bad(void **state)
{
	struct bench *bench = *state;
	struct dynmap_miss miss;

	new_node(bench, 1);
	checkpoint(bench);
	miss = miss_of(bench, list_first_entry(&bench->cache.lru, struct dynmap_buf, list));
	read_first(bench, &miss, 0);
	disk_copy(bench, &miss, 0)->payload[5] ^= 1;
	disk_copy(bench, &miss, 1)->payload[6] ^= 1;
	assert_int_equal(fetch_error(bench, &miss), -EBADMSG);
	bench->mem.fail_read = 2;
	assert_int_equal(fetch_error(bench, &miss), -EBADMSG);
	disk_copy(bench, &miss, 1)->payload[6] ^= 1;
	bench->mem.fail_read = 2;
	assert_int_equal(fetch_error(bench, &miss), -EBADMSG);
	disk_copy(bench, &miss, 0)->payload[5] ^= 1;
	miss.ptr.pbn[1] = DYNMAP_PBN_NONE;
	bench->mem.fail_read = 1;
	assert_int_equal(fetch_error(bench, &miss), -EIO);
}

static void test_get_reports_what_is_missing(void **state)
{
	struct bench *bench = *state;
	struct dynmap_buf *buf = new_node(bench, 1), *got = NULL;
	struct dynmap_miss good = miss_of(bench, buf), want = good;
	struct dynmap_op op = {};

	assert_int_equal(dynmap_cache_get(&bench->cache, &want, &op, &got), 0);
	assert_ptr_equal(got, buf);
	want.ptr.pbn[0] += 100;
	assert_int_equal(dynmap_cache_get(&bench->cache, &want, &op, &got), -EAGAIN);
	assert_memory_equal(&op.miss, &want, sizeof(want));
	want = good;
	want.kind = DYNMAP_TREE_MAP;
	assert_int_equal(dynmap_cache_get(&bench->cache, &want, &op, &got), -EUCLEAN);
	want = good;
	want.level = 2;
	assert_int_equal(dynmap_cache_get(&bench->cache, &want, &op, &got), -EUCLEAN);
	want = good;
	want.base = 76;
	assert_int_equal(dynmap_cache_get(&bench->cache, &want, &op, &got), -EUCLEAN);
	want = good;
	want.ptr.crc ^= 1;	/* a pointer to what lay there before */
	assert_int_equal(dynmap_cache_get(&bench->cache, &want, &op, &got), -EUCLEAN);
}

/* A node is read, moves, and is brought late: it must not be met at its old place. */
static void test_read_late(void **state)
{
	struct bench *bench = *state;
	struct dynmap_cache *cache = &bench->cache;
	struct dynmap_buf *buf = new_node(bench, 1), *late, *other;
	struct dynmap_miss miss;
	struct dynmap_ptr ptr;
	u32 clean;

	checkpoint(bench);
	miss = miss_of(bench, buf);
	ptr = miss.ptr;
	late = dynmap_node_fetch(cache, &miss, dynmap_buf_alloc());
	spares(bench, 4);
	stock(bench, 1);
	dynmap_node_shadow(cache, buf, &ptr, &unshared);
	dynmap_cache_insert(cache, late);
	assert_ptr_equal(dynmap_cache_find(cache, miss.ptr.pbn[0]), late);
	/* A new node takes the place. */
	clean = cache->nr_clean;
	cache->stock[0][cache->nr_stock[0]++] = miss.ptr.pbn[0];
	cache->stock[1][cache->nr_stock[1]++] = miss.ptr.pbn[1];
	other = dynmap_node_new(cache, DYNMAP_TREE_VOLUME, 1, 9, 78);
	assert_ptr_equal(dynmap_cache_find(cache, miss.ptr.pbn[0]), other);
	assert_int_equal(cache->nr_clean, clean - 1);
	dynmap_node_drop(cache, other);
	assert_null(dynmap_cache_find(cache, miss.ptr.pbn[0]));
	/* Two checkpoints later it is not even taken. */
	miss.epoch = cache->epoch;
	late = dynmap_node_fetch(cache, &miss, dynmap_buf_alloc());
	checkpoint(bench);
	checkpoint(bench);
	dynmap_cache_insert(cache, late);
	assert_null(dynmap_cache_find(cache, miss.ptr.pbn[0]));
}

/*
 * A node with a bad copy moves before it is healed, or may have moved while it was read, as
 * the epoch is another one: its old place is left alone.
 */
static void test_moved_is_not_healed(void **state)
{
	struct bench *bench = *state;
	struct dynmap_cache *cache = &bench->cache;
	struct dynmap_buf *buf = new_node(bench, 1);
	struct dynmap_miss miss;
	struct dynmap_ptr ptr;
	u32 moves;

	for (moves = 0; moves < 3; moves++) {
		checkpoint(bench);
		miss = miss_of(bench, buf);
		dynmap_cache_exit(cache);
		assert_int_equal(dynmap_cache_init(cache, &bench->geo, 0), 0);
		cache->check = check_nothing;
		cache->copies = 2;
		cache->epoch = 20;
		memset(cache->uuid, 0xab, DYNMAP_UUID_BYTES);
		disk_copy(bench, &miss, 0)->payload[7] ^= 1;
		read_first(bench, &miss, 0);
		buf = dynmap_node_fetch(cache, &miss, dynmap_buf_alloc());
		cache->epoch += moves == 2;
		dynmap_cache_insert(cache, buf);
		assert_int_equal(cache->nr_heal, moves < 2);
		spares(bench, 4);
		stock(bench, 1);
		ptr = miss.ptr;
		if (moves == 1)
			dynmap_node_shadow(cache, buf, &ptr, &unshared);
		dynmap_cache_heal_begin(cache);
		dynmap_cache_heal_write(cache);
		dynmap_cache_heal_end(cache);
		assert_int_equal(cache->healed, !moves);
		assert_int_equal(cache->nr_heal, 0);
		assert_int_equal(disk_copy(bench, &miss, 0)->payload[7],
				 disk_copy(bench, &miss, 1)->payload[7] ^ !!moves);
	}
}

static void test_shadow(void **state)
{
	struct bench *bench = *state;
	struct dynmap_cache *cache = &bench->cache;
	struct dynmap_buf *buf = new_node(bench, 1), *copy;
	struct dynmap_ptr ptr = dynmap_node_ptr(buf), old = ptr;
	u32 spare;

	/* DIRTY: changed in place. */
	assert_ptr_equal(dynmap_node_shadow(cache, buf, &ptr, &unshared), buf);
	assert_int_equal(ptr.pbn[0], old.pbn[0]);
	/* SEALED, being written: a copy at a new place; the old one is left alone. */
	dynmap_node_seal(cache, buf);
	dynmap_cache_seal(cache);
	assert_int_equal(cache->epoch, 6);
	spares(bench, 4);
	stock(bench, 2);
	copy = dynmap_node_shadow(cache, buf, &ptr, &unshared);
	assert_ptr_not_equal(copy, buf);
	assert_int_not_equal(ptr.pbn[0], old.pbn[0]);
	assert_int_not_equal(ptr.pbn[1], old.pbn[1]);
	assert_true(buf->orphan);
	assert_int_equal(le64_to_cpu(dynmap_node_head(copy)->epoch), 6);
	assert_null(dynmap_cache_find(cache, old.pbn[0]));
	assert_ptr_equal(dynmap_cache_find(cache, ptr.pbn[0]), copy);
	assert_int_equal(cache->events.blocks, 6);
	memset(dynmap_node_head(copy)->payload, 2, DYNMAP_NODE_PAYLOAD);
	spare = cache->nr_spare;
	dynmap_cache_write(cache);
	assert_int_equal(bench->mem.store.ops->wait(&bench->mem.store, DYNMAP_BATCH_CHECKPOINT),
			 0);
	while (dynmap_cache_written(cache))
		;
	assert_int_equal(cache->nr_spare, spare + 1);
	assert_int_equal(cache->nr_clean, 0);
	/* CLEAN: moved. */
	checkpoint(bench);
	assert_int_equal(cache->nr_clean, 1);
	old = ptr;
	assert_ptr_equal(dynmap_node_shadow(cache, copy, &ptr, &unshared), copy);
	assert_int_not_equal(ptr.pbn[0], old.pbn[0]);
	assert_int_equal(cache->nr_clean, 0);
	assert_int_equal(cache->nr_dirty, 1);
	/* What the first checkpoint wrote is what was sealed. */
	assert_int_equal(dynmap_node_head(copy)->payload[0], 2);
}

static void test_drop(void **state)
{
	struct bench *bench = *state;
	struct dynmap_cache *cache = &bench->cache;
	struct dynmap_buf *dirty = new_node(bench, 1), *clean, *sealed;
	u64 pbn = dirty->pbn[0];

	dynmap_node_drop(cache, dirty);
	assert_null(dynmap_cache_find(cache, pbn));
	assert_int_equal(cache->nr_dirty, 0);
	clean = new_node(bench, 1);
	checkpoint(bench);
	pbn = clean->pbn[0];
	dynmap_node_drop(cache, clean);
	assert_null(dynmap_cache_find(cache, pbn));
	assert_int_equal(cache->nr_clean, 0);
	sealed = new_node(bench, 1);
	dynmap_node_seal(cache, sealed);
	dynmap_cache_seal(cache);
	dynmap_node_drop(cache, sealed);
	assert_true(sealed->orphan);
	dynmap_cache_write(cache);
	assert_int_equal(bench->mem.store.ops->wait(&bench->mem.store, DYNMAP_BATCH_CHECKPOINT),
			 0);
	while (dynmap_cache_written(cache))
		;
	assert_int_equal(cache->nr_clean, 0);
	assert_int_equal(cache->events.blocks, 12);
}

static void test_clean_nodes_are_bounded(void **state)
{
	struct bench *bench = *state;
	struct dynmap_cache *cache = &bench->cache;
	struct dynmap_buf *buf;
	u64 pbn[600];
	u32 i, left = 0;

	for (i = 0; i < 600; i++) {
		buf = new_node(bench, i);
		pbn[i] = buf->pbn[0];
		if (i % 100 == 99) {
			assert_true(cache->nr_dirty == 100);
			checkpoint(bench);
		}
	}
	assert_int_equal(cache->nr_clean, cache->limit);
	for (i = 0; i < 600; i++)
		left += !!dynmap_cache_find(cache, pbn[i]);
	assert_int_equal(left, cache->limit);
}

static void test_runlists(void **state)
{
	struct bench *bench = *state;
	struct dynmap_cache *cache = &bench->cache;
	struct dynmap_runlist a, b;
	struct dynmap_run *run;
	struct dynmap_buf *buf;
	u32 count, i;

	spares(bench, 8);
	dynmap_runlist_init(&a);
	dynmap_runlist_init(&b);
	assert_null(dynmap_runlist_pop(&a, &count));
	dynmap_runlist_add(cache, &a, 10, 5, 0);
	dynmap_runlist_add(cache, &a, 15, 5, 0);		/* joins */
	dynmap_runlist_add(cache, &a, 20, 5, DYNMAP_RUN_TAKEN);	/* other flags */
	dynmap_runlist_add(cache, &a, DYNMAP_SEGMENT_BLOCKS - 1, 1, 0);
	dynmap_runlist_add(cache, &a, DYNMAP_SEGMENT_BLOCKS, 1, 0);	/* another segment */
	assert_int_equal(a.blocks, 17);
	for (i = 0; i < 600; i++)
		dynmap_runlist_add(cache, &b, 1000 + 2 * i, 1, 0);
	dynmap_runlist_move(&a, &b);
	dynmap_runlist_move(&a, &b);
	assert_int_equal(a.blocks, 617);
	assert_null(dynmap_runlist_pop(&b, &count));
	buf = dynmap_runlist_pop(&a, &count);
	assert_int_equal(count, 4);
	run = buf->data;
	assert_int_equal(run[0].len, 10);
	assert_int_equal(run[1].flags, DYNMAP_RUN_TAKEN);
	assert_int_equal(run[3].pbn, DYNMAP_SEGMENT_BLOCKS);
	dynmap_cache_add_spare(cache, buf);
	for (i = 0; (buf = dynmap_runlist_pop(&a, &count)); i += count) {
		run = buf->data;
		assert_int_equal(run[0].pbn, 1000 + 2 * i);
		dynmap_cache_add_spare(cache, buf);
	}
	assert_int_equal(i, 600);
	assert_int_equal(a.blocks, 0);
	assert_int_equal(cache->nr_spare, 8);
}

/* Clean nodes and surplus spares go, down to a floor; dirty ones stay. */
static void test_shrinks(void **state)
{
	struct bench *bench = *state;
	struct dynmap_cache *cache = &bench->cache;
	struct dynmap_buf *dirty;
	u32 i, spare;

	cache->limit = 4000;
	for (i = 0; i < 400; i++)
		new_node(bench, i);
	checkpoint(bench);
	dirty = new_node(bench, 3);
	assert_int_equal(cache->nr_clean, 400);
	for (i = 0; i < 200; i++)
		spares(bench, 1);
	spare = cache->nr_spare;
	assert_int_equal(dynmap_cache_shrink(cache, 10), 10);
	assert_int_equal(cache->nr_spare, spare - 10);
	assert_int_equal(dynmap_cache_shrink(cache, spare - 10 - DYNMAP_STOCK + 50),
			 spare - 10 - DYNMAP_STOCK + 50);
	assert_int_equal(cache->nr_clean, 350);
	dynmap_cache_shrink(cache, 100000);
	assert_int_equal(cache->nr_clean, 256);
	assert_int_equal(cache->nr_dirty, 1);
	assert_ptr_equal(dynmap_cache_find(cache, dirty->pbn[0]), dirty);
}

/* Spare buffers count, and those that nobody needs go, some at a time. */
static void test_spares_are_trimmed(void **state)
{
	struct bench *bench = *state;
	struct dynmap_cache *cache = &bench->cache;
	u32 i, kib = dynmap_cache_kib(cache);

	for (i = 0; i < 600; i++)
		spares(bench, 1);
	assert_int_equal(dynmap_cache_kib(cache) - kib, 600 * DYNMAP_BLOCK_BYTES / 1024);
	dynmap_cache_trim(cache);
	assert_true(cache->nr_spare > 512);
	for (i = 0; i < 5; i++)
		dynmap_cache_trim(cache);
	assert_int_equal(cache->nr_spare, 512);
}

/* When memory is short buffers are used again, down to a floor; a node just seen stays. */
static void test_recycles(void **state)
{
	struct bench *bench = *state;
	struct dynmap_cache *cache = &bench->cache;
	struct dynmap_buf *dirty, *seen, *buf;
	u32 i, count = 0, spare;

	cache->limit = 4000;
	for (i = 0; i < 400; i++)
		new_node(bench, i);
	seen = list_first_entry(&cache->dirty, struct dynmap_buf, list);
	checkpoint(bench);
	list_for_each_entry(buf, &cache->lru, list)
		buf->used = buf == seen;
	dirty = new_node(bench, 4);
	spare = cache->nr_spare;
	while (cache->nr_spare) {
		dynmap_buf_free(dynmap_cache_take_spare(cache));
		if (dynmap_cache_recycle(cache, 3) > 3)
			fail();
		count++;
	}
	assert_int_equal(count, spare + 400 - DYNMAP_MIN_CLEAN / 2);
	assert_int_equal(dynmap_cache_recycle(cache, 3), 0);
	assert_int_equal(cache->nr_clean, DYNMAP_MIN_CLEAN / 2);
	assert_ptr_equal(dynmap_cache_find(cache, seen->pbn[0]), seen);
	assert_ptr_equal(dynmap_cache_find(cache, dirty->pbn[0]), dirty);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_reserve, setup, teardown),
		cmocka_unit_test_setup_teardown(test_written_node_comes_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_each_byte_is_verified, setup, teardown),
		cmocka_unit_test_setup_teardown(test_expectations, setup, teardown),
		cmocka_unit_test_setup_teardown(test_both_copies_bad, setup, teardown),
		cmocka_unit_test_setup_teardown(test_get_reports_what_is_missing, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_read_late, setup, teardown),
		cmocka_unit_test_setup_teardown(test_moved_is_not_healed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_shadow, setup, teardown),
		cmocka_unit_test_setup_teardown(test_drop, setup, teardown),
		cmocka_unit_test_setup_teardown(test_clean_nodes_are_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_runlists, setup, teardown),
		cmocka_unit_test_setup_teardown(test_shrinks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_recycles, setup, teardown),
		cmocka_unit_test_setup_teardown(test_spares_are_trimmed, setup, teardown),
	};

	return cmocka_run_group_tests_name("node", tests, NULL, NULL);
}
