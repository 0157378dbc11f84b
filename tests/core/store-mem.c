// SPDX-License-Identifier: GPL-2.0-only
/* Store in memory, see store-mem.h. */
#include <stdlib.h>
#include <sys/mman.h>

#include "store-mem.h"

static struct store_mem *to_mem(struct dynmap_store *store)
{
	return container_of(store, struct store_mem, store);
}

/* Is this the call that was asked to fail? */
static bool mem_fails(u64 *countdown)
{
	return *countdown && !--*countdown;
}

static int mem_read(struct dynmap_store *store, u32 dev, u64 block, void *data)
{
	struct store_mem *mem = to_mem(store);

	if (dev >= mem->nr_devs || block >= mem->blocks[dev])
		return -EIO;
	mem->reads++;
	if (mem_fails(&mem->fail_read))
		return -EIO;
	memcpy(data, mem->cache[dev] + block * DYNMAP_BLOCK_BYTES, DYNMAP_BLOCK_BYTES);
	return 0;
}

/* States of a block. */
#define MEM_DIRTY	1	/* no flush has covered it */
#define MEM_LOST	2	/* a flush that failed has: no other one will */

static void mem_flush_dev(struct store_mem *mem, u32 dev)
{
	u64 block;

	for (block = 0; block < mem->blocks[dev]; block++) {
		if (mem->dirty[dev][block] != MEM_DIRTY)
			continue;
		memcpy(mem->stable[dev] + block * DYNMAP_BLOCK_BYTES,
		       mem->cache[dev] + block * DYNMAP_BLOCK_BYTES, DYNMAP_BLOCK_BYTES);
		mem->dirty[dev][block] = 0;
	}
}

/* A flush fails: what it was to cover is gone with the power, whatever is flushed later. */
static void mem_lose_dev(struct store_mem *mem, u32 dev)
{
	u64 block;

	for (block = 0; block < mem->blocks[dev]; block++)
		if (mem->dirty[dev][block] == MEM_DIRTY)
			mem->dirty[dev][block] = MEM_LOST;
}

/* One write less to live; true if the power has failed before or with it. */
static bool mem_dies(struct store_mem *mem)
{
	if (mem->lives && !--mem->lives)
		mem->dead = true;
	return mem->dead;
}

/* One request less until the device fails; true if it has failed. */
static bool mem_dev_fails(struct store_mem *mem, u32 dev)
{
	if (mem->dies[dev] > 1)
		mem->dies[dev]--;
	else if (mem->dies[dev] == 1)
		return true;
	return false;
}

static void mem_write(struct dynmap_store *store, u32 batch, u32 dev, u64 block,
		      const void *data, u32 flags)
{
	struct store_mem *mem = to_mem(store);
	bool was_dead = mem->dead;

	if (dev >= mem->nr_devs || block >= mem->blocks[dev])
		abort();
	if (mem_dies(mem))
		mem->error[batch] = -EIO;
	if (was_dead)
		return;
	mem->writes++;
	if (mem_fails(&mem->fail_write) || mem_dev_fails(mem, dev)) {
		mem->error[batch] = -EIO;
		return;
	}
	/* The write that the power cut hits may still arrive, but not before its flush. */
	if (flags & DYNMAP_STORE_PREFLUSH)
		mem_flush_dev(mem, dev);
	memcpy(mem->cache[dev] + block * DYNMAP_BLOCK_BYTES, data, DYNMAP_BLOCK_BYTES);
	mem->dirty[dev][block] = MEM_DIRTY;
	if (!(flags & DYNMAP_STORE_FUA) || mem->dead)
		return;
	memcpy(mem->stable[dev] + block * DYNMAP_BLOCK_BYTES, data, DYNMAP_BLOCK_BYTES);
	mem->dirty[dev][block] = 0;
}

static void mem_flush(struct dynmap_store *store, u32 batch, u32 dev)
{
	struct store_mem *mem = to_mem(store);

	if (mem->dead) {
		mem->error[batch] = -EIO;
		return;
	}
	mem->flushes++;
	if (mem_fails(&mem->fail_flush) || mem_dev_fails(mem, dev)) {
		mem->error[batch] = -EIO;
		mem_lose_dev(mem, dev);
		return;
	}
	mem_flush_dev(mem, dev);
}

static int mem_wait(struct dynmap_store *store, u32 batch)
{
	struct store_mem *mem = to_mem(store);
	int error = mem->error[batch];

	mem->error[batch] = 0;
	return error;
}

static bool mem_take_written(struct dynmap_store *store, u32 dev)
{
	struct store_mem *mem = to_mem(store);
	bool written = mem->written[dev];

	mem->written[dev] = false;
	return written;
}

static const struct dynmap_store_ops mem_ops = {
	.read = mem_read,
	.write = mem_write,
	.flush = mem_flush,
	.wait = mem_wait,
	.take_written = mem_take_written,
};

/* Zeros, which take no memory until they are touched. */
static u8 *mem_zeros(u64 bytes)
{
	u8 *array = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (array == MAP_FAILED)
		abort();
	return array;
}

/* A device as long as it may become. */
static void mem_map(struct store_mem *mem, u32 dev)
{
	mem->cache[dev] = mem_zeros(STORE_MEM_BLOCKS * DYNMAP_BLOCK_BYTES);
	mem->stable[dev] = mem_zeros(STORE_MEM_BLOCKS * DYNMAP_BLOCK_BYTES);
	mem->dirty[dev] = mem_zeros(STORE_MEM_BLOCKS);
}

void store_mem_init(struct store_mem *mem, u32 nr_devs, const u64 *blocks)
{
	u32 dev;

	memset(mem, 0, sizeof(*mem));
	mem->store.ops = &mem_ops;
	mem->nr_devs = nr_devs;
	for (dev = 0; dev < nr_devs; dev++) {
		if (blocks[dev] > STORE_MEM_BLOCKS)
			abort();
		mem->blocks[dev] = blocks[dev];
		mem_map(mem, dev);
	}
}

void store_mem_exit(struct store_mem *mem)
{
	u32 dev;

	for (dev = 0; dev < mem->nr_devs; dev++) {
		munmap(mem->cache[dev], STORE_MEM_BLOCKS * DYNMAP_BLOCK_BYTES);
		munmap(mem->stable[dev], STORE_MEM_BLOCKS * DYNMAP_BLOCK_BYTES);
		munmap(mem->dirty[dev], STORE_MEM_BLOCKS);
	}
}

void store_mem_grow(struct store_mem *mem, u32 dev, u64 blocks)
{
	if (blocks > STORE_MEM_BLOCKS)
		abort();
	if (dev == mem->nr_devs) {
		mem_map(mem, dev);
		mem->nr_devs++;
	}
	mem->blocks[dev] = blocks;
}

bool store_mem_write(struct store_mem *mem, u32 dev, u64 block, const void *data)
{
	u64 fail_write = mem->fail_write;

	mem->fail_write = 0;
	mem_write(&mem->store, DYNMAP_BATCH_JOURNAL, dev, block, data, 0);
	mem->fail_write = fail_write;
	mem->error[DYNMAP_BATCH_JOURNAL] = 0;
	mem->written[dev] = true;
	return !mem->dead;
}

void *store_mem_block(struct store_mem *mem, u32 dev, u64 block)
{
	return mem->cache[dev] + block * DYNMAP_BLOCK_BYTES;
}

void store_mem_flip(struct store_mem *mem, u32 dev, u64 block, u32 byte, u8 mask)
{
	mem->cache[dev][block * DYNMAP_BLOCK_BYTES + byte] ^= mask;
	mem->stable[dev][block * DYNMAP_BLOCK_BYTES + byte] ^= mask;
}

void store_mem_power_cut(struct store_mem *mem, u64 (*random)(void))
{
	u64 block, at;
	u32 dev, sector;

	for (dev = 0; dev < mem->nr_devs; dev++) {
		for (block = 0; block < mem->blocks[dev]; block++) {
			if (!mem->dirty[dev][block])
				continue;
			for (sector = 0; sector < DYNMAP_BLOCK_BYTES / 512; sector++) {
				at = block * DYNMAP_BLOCK_BYTES + sector * 512;
				if (mem->dirty[dev][block] == MEM_DIRTY && random() & 1)
					memcpy(mem->stable[dev] + at, mem->cache[dev] + at, 512);
			}
			memcpy(mem->cache[dev] + block * DYNMAP_BLOCK_BYTES,
			       mem->stable[dev] + block * DYNMAP_BLOCK_BYTES, DYNMAP_BLOCK_BYTES);
			mem->dirty[dev][block] = 0;
		}
		mem->written[dev] = false;
	}
	memset(mem->error, 0, sizeof(mem->error));
	mem->dead = false;
	mem->lives = 0;
}
