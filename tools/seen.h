/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the checker knows of blocks: those that were reached, and of shared ones who uses them
 * and what the divergence trees tell of them.
 *
 * It is kept for a window of segments, at first all of them. When memory runs out the window is
 * cut at its end, and what is behind it comes in another pass over all nodes.
 *
 * Owns: the window, and what is known in it. Does not own the holders.
 */
#ifndef DM_DYNMAP_SEEN_H
#define DM_DYNMAP_SEEN_H

#include "tools/check.h"
#include "tools/holders.h"

#define SEEN_CHUNK_BLOCKS	4096
#define SEEN_CHUNKS		(DYNMAP_SEGMENT_BLOCKS / SEEN_CHUNK_BLOCKS)
#define SEEN_NODE		(1U << 31)	/* in seen_block.user: it holds a node */
#define SEEN_NO_USER		(SEEN_NODE - 1)	/* likewise: none was told of */

/**
 * struct seen_block - a shared block
 * @birth: when it was born; 0: none told of it yet
 * @user: the last one of those who use it, see holders.h, and what it holds
 * @weight: what its entries in divergence trees weigh more than its users so far call for
 */
struct seen_block {
	u32 birth;
	u32 user;
	u64 weight;
};

/**
 * struct seen_chunk - consecutive blocks
 * @all: what is known of all of them, as long as @block is NULL
 * @block: what is known of each
 */
struct seen_chunk {
	struct seen_block all;
	struct seen_block *block;
};

/**
 * struct seen_segment - a segment
 * @reached: blocks that were reached
 * @alone: those that one tree reached that shares none
 * @data: how many hold data
 * @chunk: those that are shared
 */
struct seen_segment {
	u64 reached[DYNMAP_SEGMENT_WORDS];
	u64 alone[DYNMAP_SEGMENT_WORDS];
	u64 data;
	struct seen_chunk chunk[SEEN_CHUNKS];
};

/**
 * struct seen - all that is known
 * @pool: the pool
 * @holders: who can use blocks
 * @check: counts what is damaged
 * @segment: per segment, device after device: what is known of it, or NULL
 * @base: the first segment of each device, and behind the last one
 * @from: where the window begins
 * @end: where it ends
 * @memory: bytes that may be used, the sets of the holders included
 * @used: bytes that are, without these
 * @no_memory: memory was short: results are void
 */
struct seen {
	struct dynmap_pool *pool;
	const struct holders *holders;
	struct dynmap_check *check;
	struct seen_segment **segment;
	u32 base[DYNMAP_MAX_DEVICES + 1];
	u32 from;
	u32 end;
	u64 memory;
	u64 used;
	bool no_memory;
};

/**
 * struct seen_news - what is told of a shared block
 * @birth: when it was born
 * @first: who uses it, from this one on; HOLDERS_NONE: this is of entries in divergence trees
 * @last: to this one
 * @kind: SEEN_NODE or 0
 * @given: weight of its entries
 */
struct seen_news {
	u32 birth;
	u32 first;
	u32 last;
	u32 kind;
	u64 given;
};

/* A window of all segments, nothing known; @seen is zeroed. False: memory is short. */
bool seen_init(struct seen *seen, struct dynmap_pool *pool, const struct holders *holders,
	       struct dynmap_check *check, u64 memory);
void seen_exit(struct seen *seen);

/* Does the window cover a block? */
bool seen_covers(struct seen *seen, u64 pbn);

/* Was a block born, and by @newest? If not, it is damaged. */
bool seen_birth(struct seen *seen, u64 pbn, u32 birth, u32 newest);

/* A run, which lies in one segment, is reached; what is shared may be met again. */
void seen_mark(struct seen *seen, u64 pbn, u64 len, u32 birth, bool is_node, bool shared);

/* Something is told of a run. */
void seen_tell(struct seen *seen, u64 pbn, u64 len, const struct seen_news *news);

/* Forget segment @at. */
void seen_drop(struct seen *seen, u32 at);

#endif /* DM_DYNMAP_SEEN_H */
