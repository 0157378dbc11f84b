/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The naive twin: what volumes may hold after a power cut.
 *
 * Owns: for each 512-byte sector what the last flush made durable and what has
 * been submitted since, fed by marks that a workload leaves in a trace; and the
 * oracles that compare a pool with it:
 *  - no acknowledged loss: a sector holds what the last acknowledged flush or
 *    FUA covered, or something submitted later to the same sector;
 *  - no leak: anything else is poison or another's data; a snapshot holds exactly
 *    what its origin held, or what was written to it;
 *  - a volume being rolled back is all as it was, or all a copy;
 *  - a volume exists if its creation was acknowledged and its deletion had not
 *    begun, and not once that was acknowledged.
 */
#ifndef DM_DYNMAP_TESTS_TWIN_H
#define DM_DYNMAP_TESTS_TWIN_H

#include "core/grow.h"
#include "core/open.h"
#include "core/reap.h"

#define TWIN_VOLUMES	4	/* ids 0 to 3 are watched, others are not */
#define TWIN_BLOCKS	64	/* of each */
#define TWIN_SECTORS	(TWIN_BLOCKS * DYNMAP_BLOCK_SECTORS)
#define TWIN_FLUSHES	4	/* that may be under way at once */
#define TWIN_MAGIC	0x6e69777470616d79ULL

/* What a sector of a volume holds; the rest of it repeats @seq. */
struct twin_tag {
	u64 magic;
	u64 uid;
	u64 sector;
	u64 seq;
};

enum twin_op {
	TWIN_SUBMIT,		/* a write of [sector, sector + sectors), @seq */
	TWIN_DONE,		/* it has completed */
	TWIN_UNMAP_SUBMIT,	/* the same for what makes it zero */
	TWIN_UNMAP_DONE,
	TWIN_FUA_DONE,		/* a write with FUA has completed */
	TWIN_FLUSH_BEGIN,	/* flush @volume: it covers what has completed */
	TWIN_FLUSH_DONE,
	TWIN_CREATE_BEGIN,	/* @seq: uid */
	TWIN_CREATE_DONE,
	TWIN_DELETE_BEGIN,
	TWIN_DELETE_DONE,
	TWIN_SNAPSHOT_BEGIN,	/* a copy of volume @sector, @seq: uid */
	TWIN_ROLLBACK_BEGIN,	/* the same for a volume that exists; then CREATE_DONE */
};

struct twin_mark {
	u8 op;
	u8 volume;
	u32 sector;
	u32 sectors;
	u64 seq;
};

struct twin_state {
	u32 seq;
	u32 value;
};

/**
 * struct twin_sector - one sector of a volume
 * @durable: covered by the last flush or FUA that was acknowledged
 * @done: what completed last
 * @begun: the same when each flush began
 * @unmapped: the last submission that makes it zero
 */
struct twin_sector {
	struct twin_state durable;
	struct twin_state done;
	struct twin_state begun[TWIN_FLUSHES];
	u32 unmapped;
};

/* TWIN_EITHER: as it is, or as it was before it was rolled back. */
enum twin_existence { TWIN_NO, TWIN_MAYBE, TWIN_YES, TWIN_EITHER };

struct twin_volume {
	u8 exists;
	u64 uid;
	struct twin_sector sector[TWIN_SECTORS];
};

struct twin {
	struct twin_volume volume[TWIN_VOLUMES];
	struct twin_volume before;	/* of the one that is TWIN_EITHER */
};

void twin_apply(struct twin *twin, const struct twin_mark *mark);
/* A number for its state: the same images with the same one are tried once. */
u64 twin_hash(const struct twin *twin);
/* Content of one sector. */
void twin_fill(void *sector, u64 uid, u64 number, u64 seq);

/**
 * twin_verify() - does a pool hold what it may?
 * @twin: the twin
 * @pool: the pool, open
 * @content: set to a number for what the volumes hold
 * @where: told where
 * @bytes: its length
 *
 * Return: NULL, or the oracle that was violated.
 */
const char *twin_verify(const struct twin *twin, struct dynmap_pool *pool, u64 *content,
			char *where, size_t bytes);

/* Mix a number into a hash. */
u64 twin_mix(u64 hash, u64 value);

#endif /* DM_DYNMAP_TESTS_TWIN_H */
