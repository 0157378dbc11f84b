/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What devices may hold after a power cut.
 *
 * Owns: the state of a trace at one point of time: what is durable, what is
 * volatile; and the images that may come of it.
 *
 * Durable is, per device, what was completed before the submission of a flush
 * that has completed, and completed writes with FUA. Of all else that has been
 * submitted any subset of 512-byte sectors may be there, each old or new. A write
 * with PREFLUSH is a flush, and then a write. A discard is a write that may be lost
 * in part: of zeros, as the recorder's disks make it, or of junk, which is what the
 * simulator's devices hold after it.
 *
 * With few volatile sectors all subsets are made; with many: none, all, each
 * prefix in the order of submission (so each block is torn at each sector), each
 * one missing, each one alone, those of one device, and seeded ones.
 */
#ifndef DM_DYNMAP_TESTS_IMAGES_H
#define DM_DYNMAP_TESTS_IMAGES_H

#include "trace.h"

#define MAX_FLUSHES	64

/**
 * struct volatile_write - submitted and not durable
 * @event: the write
 * @live: its sectors that are not durable or overwritten
 * @done_at: index of its completion, 0: in flight
 */
struct volatile_write {
	const struct trace_event *event;
	u64 live;
	u32 done_at;
};

/**
 * struct volatile_sector - one sector that may be old or new
 * @dev: device
 * @sector: where
 * @data: the new content
 * @garbage: in flight and of metadata: it may be anything
 */
struct volatile_sector {
	u32 dev;
	u64 sector;
	const u8 *data;
	bool garbage;
};

/**
 * struct images - a trace at one point of time
 * @disks: hold what is durable
 * @trace: the trace
 * @hash: of what is durable, relative to the beginning
 * @write: volatile writes, in the order of submission
 * @nr_writes: how many
 * @capacity: room for them
 * @flush: flushes in flight: id, device, index of submission
 * @nr_flushes: how many
 * @sector: volatile sectors, made by images_each()
 * @chosen: per volatile sector: 0 old, 1 new, 2 garbage
 * @nr_sectors: how many
 * @max_sectors: room for them
 */
struct images {
	struct disks *disks;
	const struct trace *trace;
	u64 hash;
	struct volatile_write *write;
	u32 nr_writes;
	u32 capacity;
	struct {
		u32 id;
		u32 dev;
		u32 submitted;
	} flush[MAX_FLUSHES];
	u32 nr_flushes;
	struct volatile_sector *sector;
	u8 *chosen;
	u32 nr_sectors;
	u32 max_sectors;
};

/* At the beginning of a trace; @disks hold what they held then, all of it durable. */
void images_init(struct images *images, struct disks *disks, const struct trace *trace, u64 hash);
void images_exit(struct images *images);
/* Event @index of the trace happens. */
void images_advance(struct images *images, u32 index);

/**
 * struct images_budget - how many images of one point are made
 * @all: all subsets of up to that many volatile sectors
 * @seeded: seeded ones of more
 * @singles: each one missing, each one alone
 */
struct images_budget {
	u32 all;
	u32 seeded;
	bool singles;
};

/* Call @try for each image: the disks hold it, @hash tells it from others. */
void images_each(struct images *images, const struct images_budget *budget,
		 void (*try)(void *context, u64 hash), void *context);

#endif /* DM_DYNMAP_TESTS_IMAGES_H */
