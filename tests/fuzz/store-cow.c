// SPDX-License-Identifier: GPL-2.0-only
/* Store over a frozen base, see store-cow.h. */
#include <stdio.h>
#include <stdlib.h>

#include "store-cow.h"

static const u8 zeros[DYNMAP_BLOCK_BYTES];

static void *allocate(size_t count, size_t bytes)
{
	void *memory = calloc(count, bytes);

	if (!memory)
		abort();
	return memory;
}

const u8 *store_cow_peek(struct store_cow *cow, u32 dev, u64 block)
{
	if (dev >= cow->nr_devs || block >= cow->blocks[dev])
		return NULL;
	if (cow->copy[dev][block])
		return cow->copy[dev][block];
	return cow->base[dev][block] ? cow->base[dev][block] : zeros;
}

u8 *store_cow_edit(struct store_cow *cow, u32 dev, u64 block)
{
	const u8 *before = store_cow_peek(cow, dev, block);

	if (!before)
		return NULL;
	if (cow->copy[dev][block])
		return cow->copy[dev][block];
	if (cow->nr_touched == cow->max_touched) {
		cow->max_touched = 2 * cow->max_touched + 64;
		cow->touched = realloc(cow->touched, cow->max_touched * sizeof(*cow->touched));
		if (!cow->touched)
			abort();
	}
	cow->touched[cow->nr_touched++] = (u64)dev << 32 | block;
	cow->copy[dev][block] = allocate(1, DYNMAP_BLOCK_BYTES);
	memcpy(cow->copy[dev][block], before, DYNMAP_BLOCK_BYTES);
	return cow->copy[dev][block];
}

static struct store_cow *to_cow(struct dynmap_store *store)
{
	return container_of(store, struct store_cow, store);
}

static int cow_read(struct dynmap_store *store, u32 dev, u64 block, void *data)
{
	const u8 *content = store_cow_peek(to_cow(store), dev, block);

	if (!content)
		return -EIO;
	memcpy(data, content, DYNMAP_BLOCK_BYTES);
	return 0;
}

static void cow_write(struct dynmap_store *store, u32 batch, u32 dev, u64 block,
		      const void *data, u32 flags)
{
	u8 *content = store_cow_edit(to_cow(store), dev, block);

	if (!content) {
		fprintf(stderr, "fuzz: a write outside of device %u: block %llu\n", dev,
			(unsigned long long)block);
		abort();
	}
	memcpy(content, data, DYNMAP_BLOCK_BYTES);
}

static void cow_flush(struct dynmap_store *store, u32 batch, u32 dev)
{
}

static int cow_wait(struct dynmap_store *store, u32 batch)
{
	return 0;
}

static bool cow_take_written(struct dynmap_store *store, u32 dev)
{
	return true;
}

static const struct dynmap_store_ops cow_ops = {
	.read = cow_read,
	.write = cow_write,
	.flush = cow_flush,
	.wait = cow_wait,
	.take_written = cow_take_written,
};

void store_cow_init(struct store_cow *cow, u32 nr_devs, const u64 *blocks, u64 slack)
{
	u32 dev;

	memset(cow, 0, sizeof(*cow));
	cow->store.ops = &cow_ops;
	cow->nr_devs = nr_devs;
	for (dev = 0; dev < nr_devs; dev++) {
		cow->blocks[dev] = blocks[dev];
		cow->base[dev] = allocate(blocks[dev] + slack, sizeof(u8 *));
		cow->copy[dev] = allocate(blocks[dev] + slack, sizeof(u8 *));
	}
}

/* Take the copy of touched block @i away from its device. */
static u8 *take_copy(struct store_cow *cow, u32 i, u32 *dev, u64 *block)
{
	u8 *content;

	*dev = cow->touched[i] >> 32;
	*block = (u32)cow->touched[i];
	content = cow->copy[*dev][*block];
	cow->copy[*dev][*block] = NULL;
	return content;
}

void store_cow_freeze(struct store_cow *cow)
{
	u64 block;
	u32 i, dev;
	u8 *content;

	for (i = 0; i < cow->nr_touched; i++) {
		content = take_copy(cow, i, &dev, &block);
		free(cow->base[dev][block]);
		cow->base[dev][block] = content;
	}
	cow->nr_touched = 0;
}

void store_cow_reset(struct store_cow *cow)
{
	u64 block;
	u32 i, dev;

	for (i = 0; i < cow->nr_touched; i++)
		free(take_copy(cow, i, &dev, &block));
	cow->nr_touched = 0;
}
