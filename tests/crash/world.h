/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A pool at work, for the power-failure simulator.
 *
 * Owns: what the kernel adds to the core, step by step in one thread: data of a
 * first write is complete before it is marked written, a FLUSH is a commit, a
 * discarded block is given out again only when its record is durable and no I/O
 * is under way (rule 3), discards are passed down before that (rule 6), a
 * commit and a checkpoint may be under way while other operations go on. Leaves a
 * trace with marks for the twin.
 */
#ifndef DM_DYNMAP_TESTS_WORLD_H
#define DM_DYNMAP_TESTS_WORLD_H

#include "trace.h"

#define WORLD_BALLAST	9	/* a volume that fills the pool; its content is not watched */
#define WORLD_WRITES	4	/* that may be under way at once */

/**
 * struct world_shape - what a pool looks like at the beginning
 * @name: for messages
 * @capacity: blocks that its devices have
 * @nr_devs: devices it is formatted on
 * @shrunk: blocks by which the first device is shorter when formatted
 * @alloc_blocks: allocation size
 * @copies: copies of nodes
 * @ballast: blocks to leave free, 0: no ballast
 * @commits: commits before the operations, which fill the journal
 */
struct world_shape {
	const char *name;
	u64 capacity[MAX_DISKS];
	u32 nr_devs;
	u64 shrunk;
	u32 alloc_blocks;
	u32 copies;
	u32 ballast;
	u32 commits;
};

/* A write under way: submitted, not yet completed. */
struct world_write {
	u32 id;
	u32 dev;
	u32 volume;
	u64 lbn;
	u64 pbn;
	u32 blocks;
	struct dynmap_place place;
	u64 seq;
	bool first;
	bool redirect;
};

/* The last one: the superblock of a checkpoint is durable; until it has ended no commit begins. */
enum world_step { WORLD_IDLE, WORLD_BEGUN, WORLD_WRITTEN, WORLD_PUBLISHED };

/**
 * struct world_state - what changes beside disks and pool
 * @exists: volumes that there are
 * @uid: of each, as in its tags
 * @seq: of the last operation
 * @next_uid: for the next volume
 * @nr_disks: devices that there are
 * @blocks: their lengths
 */
struct world_state {
	bool exists[TWIN_VOLUMES];
	u64 uid[TWIN_VOLUMES];
	u64 seq;
	u64 next_uid;
	u32 nr_disks;
	u64 blocks[MAX_DISKS];
};

/**
 * struct world - a pool at work
 * @shape: how it began
 * @disks: its devices
 * @trace: what happens to them
 * @store: records it
 * @pool: the core
 * @now: the rest of its state
 * @start: the same at the beginning
 * @write: writes under way
 * @nr_writes: how many
 * @commit: the commit under way
 * @checkpoint: the checkpoint under way
 * @growing: it is that of a growth: no commit goes on beside it
 * @opened: the disks when the trace began
 */
struct world {
	const struct world_shape *shape;
	struct disks disks;
	struct trace trace;
	struct trace_store store;
	struct dynmap_pool pool;
	struct world_state now;
	struct world_state start;
	struct world_write write[WORLD_WRITES];
	u32 nr_writes;
	enum world_step commit;
	enum world_step checkpoint;
	bool growing;
	u64 opened;
};

/* One operation; what they are: world.c, world_ops[]. */
u32 world_nr_ops(void);
char world_op_letter(u32 op);
/* Do it; @random gives places and lengths, NULL: always the same ones. */
void world_operate(struct world *world, u32 op, u64 (*random)(void));

/* Format, fill, close: the disks hold the beginning of all workloads. */
void world_init(struct world *world, const struct world_shape *shape);
void world_exit(struct world *world);
/* Open the pool as it is at the beginning, and record from now on. */
void world_begin(struct world *world);
/* Back to the beginning. */
void world_end(struct world *world);

/* The simulator's own fault, or a fault of the core that is none of a power cut. */
void world_die(const char *what, int error) __attribute__((noreturn));
extern void (*world_on_death)(const char *what, int error);

#endif /* DM_DYNMAP_TESTS_WORLD_H */
