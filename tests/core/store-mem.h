/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Store in memory, with volatile caches and power cuts.
 *
 * Owns: devices as arrays, in two states: what the device answers (cache) and
 * what survives a power cut for certain (stable). At a power cut each 512-byte
 * sector that no flush covered takes one of the two at random. Errors can be
 * asked for by the number of the call. A flush that fails loses what it was to cover: the
 * device goes on answering it, and no later flush makes it survive.
 */
#ifndef DM_DYNMAP_STORE_MEM_H
#define DM_DYNMAP_STORE_MEM_H

#include "core/env.h"

#define STORE_MEM_BLOCKS	(1ULL << 21)	/* no device becomes longer */

/**
 * struct store_mem - the devices
 * @store: for the core
 * @nr_devs: how many
 * @blocks: length of each
 * @cache: content of each
 * @stable: content that survives
 * @dirty: per block: cache and stable may differ; see store-mem.c
 * @written: data was written since take_written
 * @lives: writes until the power fails, 0: it does not
 * @dead: it failed: writes and flushes do nothing and fail
 * @error: of the writes of a batch
 * @dies: per device: writes and flushes until it fails for good, 1: at the next one, 0: never
 * @fail_read: calls until a read fails, 1: the next one, 0: none
 * @fail_write: the same for writes of the core
 * @fail_flush: the same for flushes
 * @reads: reads done
 * @writes: writes done
 * @flushes: flushes done
 */
struct store_mem {
	struct dynmap_store store;
	u32 nr_devs;
	u64 blocks[DYNMAP_MAX_DEVICES];
	u8 *cache[DYNMAP_MAX_DEVICES];
	u8 *stable[DYNMAP_MAX_DEVICES];
	u8 *dirty[DYNMAP_MAX_DEVICES];
	bool written[DYNMAP_MAX_DEVICES];
	u64 lives;
	bool dead;
	int error[DYNMAP_BATCHES];
	u64 dies[DYNMAP_MAX_DEVICES];
	u64 fail_read;
	u64 fail_write;
	u64 fail_flush;
	u64 reads;
	u64 writes;
	u64 flushes;
};

void store_mem_init(struct store_mem *mem, u32 nr_devs, const u64 *blocks);
void store_mem_exit(struct store_mem *mem);
/* Device @dev gets longer, or is added as an empty one if it is the next. */
void store_mem_grow(struct store_mem *mem, u32 dev, u64 blocks);
/* A data write, as a volume's user makes it; false if the power failed. */
bool store_mem_write(struct store_mem *mem, u32 dev, u64 block, const void *data);
/* A block as the device answers it. */
void *store_mem_block(struct store_mem *mem, u32 dev, u64 block);
/* Spoil a byte of a block, for good. */
void store_mem_flip(struct store_mem *mem, u32 dev, u64 block, u32 byte, u8 mask);
/* The power comes back: unflushed sectors are old or new at random. */
void store_mem_power_cut(struct store_mem *mem, u64 (*random)(void));

#endif /* DM_DYNMAP_STORE_MEM_H */
