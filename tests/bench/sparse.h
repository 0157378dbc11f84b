/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A device of any length in memory: only blocks that were written take space. What is read
 * and written is counted, in blocks of 4 KiB; flushes do nothing.
 */
#ifndef DYNMAP_BENCH_SPARSE_H
#define DYNMAP_BENCH_SPARSE_H

#include "core/env.h"

/**
 * struct sparse - such a device
 * @store: the same for the core
 * @key: of each slot of a hash, the block plus one, 0: free
 * @data: of each slot, what was written
 * @bits: log2 of the slots
 * @count: slots in use
 * @reads: blocks read
 * @writes: blocks written
 */
struct sparse {
	struct dynmap_store store;
	u64 *key;
	void **data;
	u32 bits;
	u64 count;
	u64 reads;
	u64 writes;
};

void sparse_init(struct sparse *sparse);
void sparse_exit(struct sparse *sparse);

#endif /* DYNMAP_BENCH_SPARSE_H */
