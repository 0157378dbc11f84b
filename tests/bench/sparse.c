// SPDX-License-Identifier: GPL-2.0-only
/* See sparse.h. */
#include <stdio.h>
#include <stdlib.h>

#include "sparse.h"

#define FIRST_BITS	12

static void *sparse_alloc(u64 count, size_t bytes)
{
	void *array = calloc(count, bytes);

	if (!array) {
		fprintf(stderr, "core: no memory\n");
		exit(1);
	}
	return array;
}

/* The slot of a block, or a free one. */
static u64 sparse_slot(const struct sparse *sparse, u64 block)
{
	u64 mask = (1ULL << sparse->bits) - 1, at = hash_64(block, sparse->bits);

	while (sparse->key[at] && sparse->key[at] != block + 1)
		at = (at + 1) & mask;
	return at;
}

static void sparse_make(struct sparse *sparse, u32 bits)
{
	sparse->bits = bits;
	sparse->key = sparse_alloc(1ULL << bits, sizeof(*sparse->key));
	sparse->data = sparse_alloc(1ULL << bits, sizeof(*sparse->data));
}

static void sparse_grow(struct sparse *sparse)
{
	struct sparse old = *sparse;
	u64 i, at;

	sparse_make(sparse, old.bits + 1);
	for (i = 0; i < 1ULL << old.bits; i++) {
		if (!old.key[i])
			continue;
		at = sparse_slot(sparse, old.key[i] - 1);
		sparse->key[at] = old.key[i];
		sparse->data[at] = old.data[i];
	}
	free(old.key);
	free(old.data);
}

static struct sparse *sparse_of(struct dynmap_store *store)
{
	return container_of(store, struct sparse, store);
}

static int sparse_read(struct dynmap_store *store, u32 dev, u64 block, void *data)
{
	struct sparse *sparse = sparse_of(store);
	u64 at = sparse_slot(sparse, block);

	sparse->reads++;
	if (sparse->key[at])
		memcpy(data, sparse->data[at], DYNMAP_BLOCK_BYTES);
	else
		memset(data, 0, DYNMAP_BLOCK_BYTES);
	return 0;
}

static void sparse_write(struct dynmap_store *store, u32 batch, u32 dev, u64 block,
			 const void *data, u32 flags)
{
	struct sparse *sparse = sparse_of(store);
	u64 at = sparse_slot(sparse, block);

	sparse->writes++;
	if (!sparse->key[at]) {
		if (2 * ++sparse->count > 1ULL << sparse->bits)
			sparse_grow(sparse);
		at = sparse_slot(sparse, block);
		sparse->key[at] = block + 1;
		sparse->data[at] = sparse_alloc(1, DYNMAP_BLOCK_BYTES);
	}
	memcpy(sparse->data[at], data, DYNMAP_BLOCK_BYTES);
}

static void sparse_flush(struct dynmap_store *store, u32 batch, u32 dev)
{
}

static int sparse_wait(struct dynmap_store *store, u32 batch)
{
	return 0;
}

static bool sparse_take_written(struct dynmap_store *store, u32 dev)
{
	return false;
}

static const struct dynmap_store_ops sparse_ops = {
	.read = sparse_read,
	.write = sparse_write,
	.flush = sparse_flush,
	.wait = sparse_wait,
	.take_written = sparse_take_written,
};

void sparse_init(struct sparse *sparse)
{
	memset(sparse, 0, sizeof(*sparse));
	sparse->store.ops = &sparse_ops;
	sparse_make(sparse, FIRST_BITS);
}

void sparse_exit(struct sparse *sparse)
{
	u64 i;

	for (i = 0; i < 1ULL << sparse->bits; i++)
		free(sparse->data[i]);
	free(sparse->key);
	free(sparse->data);
}
