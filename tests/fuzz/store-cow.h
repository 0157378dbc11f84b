/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Store in memory that goes back to what it was.
 *
 * Owns: devices as arrays of blocks over a frozen base; a block written is a
 * copy of its own until store_cow_reset(), which costs only what was written.
 * A write outside of a device ends the program: no content of a device may
 * lead the core there.
 */
#ifndef DM_DYNMAP_FUZZ_STORE_COW_H
#define DM_DYNMAP_FUZZ_STORE_COW_H

#include "core/env.h"

#define STORE_COW_DEVICES	2

/**
 * struct store_cow - the devices
 * @store: for the core
 * @nr_devs: how many
 * @blocks: length of each
 * @base: per device, per block: content when frozen, NULL: zeros
 * @copy: the same: content since, NULL: as in the base
 * @touched: blocks that have a copy: device << 32 | block
 * @nr_touched: how many
 * @max_touched: length of @touched
 */
struct store_cow {
	struct dynmap_store store;
	u32 nr_devs;
	u64 blocks[STORE_COW_DEVICES];
	u8 **base[STORE_COW_DEVICES];
	u8 **copy[STORE_COW_DEVICES];
	u64 *touched;
	u32 nr_touched;
	u32 max_touched;
};

/* Empty devices; each may get longer by @slack blocks: just set @blocks. */
void store_cow_init(struct store_cow *cow, u32 nr_devs, const u64 *blocks, u64 slack);
/* What is there now is what a reset goes back to. */
void store_cow_freeze(struct store_cow *cow);
void store_cow_reset(struct store_cow *cow);
/* A block, to be read; or to be changed. NULL: outside of the device. */
const u8 *store_cow_peek(struct store_cow *cow, u32 dev, u64 block);
u8 *store_cow_edit(struct store_cow *cow, u32 dev, u64 block);

#endif /* DM_DYNMAP_FUZZ_STORE_COW_H */
