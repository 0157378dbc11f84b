/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The narrow world below the core.
 *
 * Owns: the vocabulary (types, lists, byte order, crc32c, allocation) that the
 * core is written in, taken from the kernel or from tools/env/, and the store,
 * the only way in which the core reaches a device. This is the only place of
 * the tree that asks which of the two worlds it is compiled for.
 *
 * The core is synchronous, takes no lock and knows no bio, thread or timer.
 */
#ifndef DM_DYNMAP_ENV_H
#define DM_DYNMAP_ENV_H

#ifdef __KERNEL__
#include "kernel/env.h"
#else
#include "tools/env/env.h"
#endif

#include "core/format.h"

/* Flags of a store write. */
#define DYNMAP_STORE_PREFLUSH	(1U << 0)
#define DYNMAP_STORE_FUA	(1U << 1)

/**
 * struct dynmap_store - the devices below the core
 * @ops: how to reach them
 */
struct dynmap_store {
	const struct dynmap_store_ops *ops;
};

/**
 * struct dynmap_store_ops - what the core asks of the devices
 * @read: read one block of device @dev at device block @block into @data;
 *	waits; 0 or a negative errno, -ENODEV if the device is away for a while
 * @write: start writing one block, with DYNMAP_STORE_* in @flags; @data stays
 *	untouched until @wait returns
 * @flush: start a flush of the device's volatile cache: it covers every write
 *	that completed before
 * @wait: wait for everything started since the last @wait; 0 or the first error
 * @take_written: true when device @dev may hold completed data writes that no
 *	flush has covered; clears that state, so that the caller must flush
 *
 * Context: may sleep. @write, @flush and @wait of one pool are called from one
 * thread of execution at a time per batch; @batch tells batches apart (0: the
 * journal, 1: checkpoints).
 */
struct dynmap_store_ops {
	int (*read)(struct dynmap_store *store, u32 dev, u64 block, void *data);
	void (*write)(struct dynmap_store *store, u32 batch, u32 dev, u64 block,
		      const void *data, u32 flags);
	void (*flush)(struct dynmap_store *store, u32 batch, u32 dev);
	int (*wait)(struct dynmap_store *store, u32 batch);
	bool (*take_written)(struct dynmap_store *store, u32 dev);
};

#define DYNMAP_BATCH_JOURNAL	0
#define DYNMAP_BATCH_CHECKPOINT	1
#define DYNMAP_BATCHES		2

#endif /* DM_DYNMAP_ENV_H */
