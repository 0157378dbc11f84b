/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What happened to all devices, in one order.
 *
 * Owns: devices in memory whose every change can be taken back (struct disks),
 * the record of submissions, completions, flushes, discards and marks (struct
 * trace), and the store that writes one while the core runs (struct
 * trace_store). What a device may hold after a power cut is for images.h.
 */
#ifndef DM_DYNMAP_TESTS_TRACE_H
#define DM_DYNMAP_TESTS_TRACE_H

#include <stdio.h>
#include <stdlib.h>

#include "core/env.h"
#include "twin.h"

#define SECTOR_BYTES	512
#define MAX_DISKS	4

/**
 * struct disks - devices in memory
 * @nr: how many the pool is given
 * @blocks: their lengths as the pool is told
 * @data: their contents
 * @undo: old contents, the newest on top
 * @undo_bytes: how much of it is used
 * @undo_capacity: its size
 */
struct disks {
	u32 nr;
	u64 blocks[MAX_DISKS];
	u8 *data[MAX_DISKS];
	u8 *undo;
	u64 undo_bytes;
	u64 undo_capacity;
};

/* Devices of @capacity blocks each, filled with @poison per sector. */
void disks_init(struct disks *disks, const u64 *capacity, const void *poison);
void disks_exit(struct disks *disks);
u8 *disks_sector(struct disks *disks, u32 dev, u64 sector);
/* Change sectors; NULL: to zeros. */
void disks_write(struct disks *disks, u32 dev, u64 sector, u32 sectors, const void *data);
/* A point to which disks_rollback() returns; disks_forget() makes it the first one. */
u64 disks_mark(const struct disks *disks);
void disks_rollback(struct disks *disks, u64 mark);
void disks_forget(struct disks *disks);

enum trace_type {
	TRACE_WRITE,	/* submitted */
	TRACE_DISCARD,	/* submitted */
	TRACE_FLUSH,	/* submitted */
	TRACE_DONE,	/* completed: all that was submitted under this id */
	TRACE_MARK,	/* of the workload, for the twin */
};

#define TRACE_FUA	DYNMAP_STORE_FUA
#define TRACE_META	(1U << 8)	/* not data of a volume */

/**
 * struct trace_event - one of them
 * @type: enum trace_type
 * @dev: device
 * @flags: TRACE_*
 * @id: ties a completion to its submissions
 * @sector: first sector
 * @sectors: how many, at most 64; longer ones are several events of one id
 * @data: where the content begins in the trace's bytes
 * @mark: for the twin
 */
struct trace_event {
	u8 type;
	u8 dev;
	u16 flags;
	u32 id;
	u64 sector;
	u32 sectors;
	u64 data;
	struct twin_mark mark;
};

/**
 * struct trace - a record
 * @event: the events
 * @count: how many
 * @capacity: room for them
 * @bytes: contents
 * @nr_bytes: how much of it is used
 * @bytes_capacity: its size
 */
struct trace {
	struct trace_event *event;
	u32 count;
	u32 capacity;
	u8 *bytes;
	u64 nr_bytes;
	u64 bytes_capacity;
};

void trace_reset(struct trace *trace);
void trace_exit(struct trace *trace);
void trace_add(struct trace *trace, const struct trace_event *event, const void *data);
void trace_mark(struct trace *trace, const struct twin_mark *mark);

/**
 * struct trace_store - the core's store
 * @store: for the core
 * @disks: where it writes
 * @trace: told of everything, unless NULL
 * @next_id: of the next submission
 * @pending: per batch: ids submitted and not completed
 * @nr_pending: how many
 * @written: a data write to the device has completed since take_written
 * @waiting: called when the core waits for writes of a checkpoint, before any completes
 */
struct trace_store {
	struct dynmap_store store;
	struct disks *disks;
	struct trace *trace;
	u32 next_id;
	u32 *pending[DYNMAP_BATCHES];
	u32 nr_pending[DYNMAP_BATCHES];
	u32 capacity[DYNMAP_BATCHES];
	bool written[MAX_DISKS];
	void (*waiting)(struct trace_store *store);
};

void trace_store_init(struct trace_store *store, struct disks *disks);
void trace_store_exit(struct trace_store *store);
/* Open the pool on its disks, as they are: 0 or an error. */
int trace_store_open(struct trace_store *store, struct dynmap_pool *pool, bool readonly);
/* A data write of the workload: submit, its id; complete. */
u32 trace_store_submit(struct trace_store *store, u32 dev, u64 sector, u32 sectors,
		       const void *data, u32 flags);
void trace_store_discard(struct trace_store *store, u32 dev, u64 sector, u64 sectors);
void trace_store_done(struct trace_store *store, u32 id);

#endif /* DM_DYNMAP_TESTS_TRACE_H */
