/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Free space: which blocks are in use, and where free ones are.
 *
 * Owns: the space tree, the bitmaps of the segments in memory, the summaries of all parts
 * of the devices, the counters of free blocks. What is allocated where, and when what was
 * freed may be used again, is decided by the allocator (core/alloc.h).
 *
 * A device is divided into parts of 8 TiB, these into parts of 64 GiB, these into segments
 * (256 MiB). Each part that was ever touched has a summary in the space tree: what is in
 * use, and the longest run of free blocks. An opening reads the summaries of the greatest
 * parts only; those below, and bitmaps, are read when they are needed. So what an opening
 * and a search cost does not depend on the size of the pool.
 *
 * Invariants
 *  S1 summaries on disk tell of the bitmaps as the checkpoint wrote them; each is the sum of
 *     those below it. Maxima are the greatest ones, or more, where a device has grown;
 *  S2 struct dynmap_room of a part is an upper bound of what is free now, and of those of the
 *     parts below it: what becomes free raises it on all levels; a search that finds less
 *     than it promised lowers it;
 *  S3 a segment whose bitmaps are not in memory has no record that is out of date, and its
 *     busy blocks are the allocated ones;
 *  S4 a part whose records cannot be read, on no copy, or contradict each other, is lost until
 *     the pool is opened again: it counts as full, no search comes to it, its bitmaps and parts
 *     are never in memory, and its records stay as they are.
 *
 * Locking: metadata lock held for writing, but for the counters.
 */
#ifndef DM_DYNMAP_SPACE_H
#define DM_DYNMAP_SPACE_H

#include "core/btree.h"

#define DYNMAP_SEGMENT_WORDS	(DYNMAP_SEGMENT_BLOCKS / 64)

/* Kinds of nodes by place: of copies A, of copies B; what a search looks for. */
#define DYNMAP_NEED_NODE_A	(1U << 0)	/* a free place in a zone of metadata */
#define DYNMAP_NEED_NODE_B	(1U << 1)
#define DYNMAP_NEED_EMPTY_A	(1U << 2)	/* a zone of metadata that is entirely free */
#define DYNMAP_NEED_EMPTY_B	(1U << 3)
#define DYNMAP_NEED_RUN		(1U << 4)	/* a run of free data blocks */
#define DYNMAP_NEED_ZONE	(1U << 5)	/* a data zone with free blocks */

/**
 * struct dynmap_room - what is free in a part of a device, at most
 * @run: no run of free data blocks is longer
 * @zone: no zone of data has more free blocks
 * @flags: DYNMAP_NEED_NODE_A to DYNMAP_NEED_EMPTY_B that may be found
 */
struct dynmap_room {
	u32 run;
	u16 zone;
	u8 flags;
};

/**
 * struct dynmap_summary - of a part of a device, as the last checkpoint wrote it
 * @used: allocated blocks in zones of data
 * @node_blocks: blocks in zones of metadata for copies A and B
 * @node_used: of them, those that are allocated
 * @empty: such zones that are entirely free
 * @run: the longest run of free data blocks
 * @zone: free blocks of the data zone that has most of them
 */
struct dynmap_summary {
	u32 used;
	u32 node_blocks[2];
	u32 node_used[2];
	u32 empty[2];
	u32 run;
	u32 zone;
};

/**
 * struct dynmap_part - a part of a device
 * @disk: its summary
 * @room: what is free now
 * @lost: its records are of no use (S4)
 * @parts: those that it consists of, NULL if they are not in memory (levels 1 and 2)
 * @seg: its bitmaps, or NULL (level 0)
 */
struct dynmap_part {
	struct dynmap_summary disk;
	struct dynmap_room room;
	bool lost;
	union {
		struct dynmap_parts *parts;
		struct dynmap_seg *seg;
	};
};

/**
 * struct dynmap_parts - what a part, or a device, consists of
 * @list: of level 0: in the list of those in memory
 * @dirty: in the list of those with changed summaries below, or empty
 * @above: those that the whole is one of, NULL for a device
 * @at: which of them
 * @dev: the device
 * @first: segment slot where the first one begins
 * @level: 0: they are segments
 * @nr_segs: of level 0: how many of them are in memory
 * @nr_lost: of level 0: how many are lost: as long as any is they stay in memory
 * @used: of level 0: looked at since the eviction hand last passed
 * @part: the parts, dynmap_part_count() of them
 */
struct dynmap_parts {
	struct list_head list;
	struct list_head dirty;
	struct dynmap_parts *above;
	u32 at;
	u32 dev;
	u32 first;
	u32 level;
	u32 nr_segs;
	u32 nr_lost;
	bool used;
	struct dynmap_part part[];
};

/* Segments in a part of each level, as a power of two, and parts in one of the level above. */
static inline u32 dynmap_part_shift(u32 level)
{
	return level ? DYNMAP_PART_SHIFT_1 + (level - 1) * DYNMAP_PART_SHIFT_2 : 0;
}

static inline u32 dynmap_part_count(u32 level)
{
	return 1U << (level ? DYNMAP_PART_SHIFT_2 : DYNMAP_PART_SHIFT_1);
}

/**
 * struct dynmap_seg - bitmaps of a segment in memory
 * @list: in the list of those in memory
 * @dirty: in the list of those with records that are out of date, or empty
 * @parts: the parts that it is one of
 * @at: which of them
 * @number: which segment
 * @allocated: the bitmap as the next checkpoint will write it
 * @busy: blocks that must not be given out; beyond a short segment's end too
 * @zone_flags: DYNMAP_ZONE_* of each zone
 * @zone_dirty: zones whose record is out of date
 * @free: blocks not busy
 * @hint: the search for free data blocks begins at this index
 * @piece_hint: of several devices, the search for a free piece
 * @used: looked at since the eviction hand last passed
 */
struct dynmap_seg {
	struct list_head list;
	struct list_head dirty;
	struct dynmap_parts *parts;
	u32 at;
	u32 number;
	u64 allocated[DYNMAP_SEGMENT_WORDS];
	u64 busy[DYNMAP_SEGMENT_WORDS];
	u8 zone_flags[DYNMAP_SEGMENT_ZONES];
	u64 zone_dirty[DYNMAP_SEGMENT_ZONES / 64];
	u32 free;
	u32 hint;
	u32 piece_hint;
	bool used;
};

/**
 * struct dynmap_zones - the zones of one device claimed for one copy of nodes
 * @blocks: blocks in them
 * @free: of them, those that are not busy
 * @empty: zones that are entirely free
 * @cursor: number on the device of the zone where the search for free places goes on
 */
struct dynmap_zones {
	u64 blocks;
	u64 free;
	u32 empty;
	u32 cursor;
};

#define DYNMAP_SPACE_STOCK	3	/* bitmaps of a segment, and the parts that it is in */

/**
 * struct dynmap_space - free space of one pool
 * @cache: node cache
 * @geo: geometry
 * @tree: the space tree
 * @top: per device, its parts of the highest level
 * @slots: per device, segments that are in use
 * @dev_free: per device, blocks that are not busy, metadata zones left out
 * @dev_total: per device, all usable blocks
 * @zones: per device, zones claimed for copies A and B of nodes
 * @free_blocks: blocks not busy, metadata zones included
 * @meta_total: blocks in metadata zones
 * @meta_free: of them, those that are not busy
 * @total_blocks: all usable blocks
 * @nr_parts: segments and greater parts that there are
 * @segs: bitmaps in memory, in the order in which the eviction hand passes
 * @nr_segs: how many
 * @parts: parts of level 0 in memory, likewise
 * @nr_loaded: how many
 * @most_segs: so many bitmaps stay in memory if they are not needed
 * @most_loaded: the same of parts
 * @stock: memory for bitmaps or parts
 * @nr_stock: how many of them
 * @dirty: bitmaps in memory with records that are out of date
 * @dirty_parts: parts of levels 0 and 1 of which one has a changed summary
 * @nr_dirty: records of the space tree that are out of date
 * @nr_dirty_segs: length of @dirty
 * @vacated: counts each time that busy blocks became free, or new ones were added: what
 *	found no space finds none while it stays the same
 */
struct dynmap_space {
	struct dynmap_cache *cache;
	struct dynmap_geometry *geo;
	struct dynmap_tree tree;
	struct dynmap_parts *top[DYNMAP_MAX_DEVICES];
	u32 slots[DYNMAP_MAX_DEVICES];
	u64 dev_free[DYNMAP_MAX_DEVICES];
	u64 dev_total[DYNMAP_MAX_DEVICES];
	struct dynmap_zones zones[DYNMAP_MAX_DEVICES][2];
	u64 free_blocks;
	u64 meta_total;
	u64 meta_free;
	u64 total_blocks;
	u64 nr_parts;
	struct list_head segs;
	u32 nr_segs;
	struct list_head parts;
	u32 nr_loaded;
	u32 most_segs;
	u32 most_loaded;
	void *stock[DYNMAP_SPACE_STOCK];
	u32 nr_stock;
	struct list_head dirty;
	struct list_head dirty_parts[DYNMAP_PART_LEVELS - 1];
	u64 nr_dirty;
	u32 nr_dirty_segs;
	u64 vacated;
};

static inline int dynmap_zone_class(u8 flags)
{
	return flags & DYNMAP_ZONE_META_B ? 1 : 0;
}

static inline u32 dynmap_zone_of(u32 index)
{
	return index >> DYNMAP_ZONE_SHIFT;
}

/* A run of bits inside one word. */
static inline u64 dynmap_bits(u32 first, u32 len)
{
	return (len == 64 ? ~0ULL : (1ULL << len) - 1) << first;
}

/* For each word that [index, index + len), which is used up, touches: its bits in @mask. */
#define dynmap_for_each_word(mask, index, len)					\
	for (u32 __n; (len) && (__n = min(64 - ((index) & 63), (len)),		\
				(mask) = dynmap_bits((index) & 63, __n), true);	\
	     (index) += __n, (len) -= __n)

/* Bits that are set in a part of a bitmap. */
static __always_inline u32 dynmap_bits_count(const u64 *map, u32 index, u32 len)
{
	u32 count = 0;
	u64 mask;

	dynmap_for_each_word(mask, index, len)
		count += hweight64(map[index >> 6] & mask);
	return count;
}

static inline void dynmap_bits_set(u64 *map, u32 index, u32 len)
{
	u64 mask;

	dynmap_for_each_word(mask, index, len)
		map[index >> 6] |= mask;
}

static inline void dynmap_bits_clear(u64 *map, u32 index, u32 len)
{
	u64 mask;

	dynmap_for_each_word(mask, index, len)
		map[index >> 6] &= ~mask;
}

/* Free blocks of a segment's word, metadata zones left out. */
static inline u64 dynmap_seg_free_bits(const struct dynmap_seg *seg, u32 word)
{
	return seg->zone_flags[word / DYNMAP_ZONE_WORDS] ? 0 : ~seg->busy[word];
}

/* The bitmaps of an existing segment; NULL if they are not in memory. */
static inline struct dynmap_seg *dynmap_space_seg(const struct dynmap_space *space, u32 segment)
{
	const struct dynmap_parts *parts = space->top[dynmap_segment_dev(segment)];
	u32 slot = dynmap_segment_slot(segment), level;

	for (level = DYNMAP_PART_LEVELS - 1; level && parts; level--)
		parts = parts->part[(slot - parts->first) >> dynmap_part_shift(level)].parts;
	return parts ? parts->part[slot - parts->first].seg : NULL;
}

/* The same by a block, which may be on no device. */
static inline struct dynmap_seg *dynmap_space_seg_of(const struct dynmap_space *space, u64 pbn)
{
	return dynmap_space_seg(space, dynmap_pbn_segment(pbn));
}

/**
 * dynmap_space_init() - free space of a geometry, everything free
 * @space: to be filled in, zeroed
 * @cache: node cache, whose geometry is complete
 * @root: root of the space tree, NULL for a new pool
 *
 * Return: 0, -ENOMEM, -EUCLEAN (bad root).
 */
int __must_check dynmap_space_init(struct dynmap_space *space, struct dynmap_cache *cache,
				   const struct dynmap_disk_root *root);
void dynmap_space_exit(struct dynmap_space *space);

/* Set the share of bitmaps and summaries in so much memory, in units of 4 KiB. */
void dynmap_space_limit(struct dynmap_space *space, u32 bufs);

/**
 * dynmap_space_open() - read the summaries of the greatest parts, and count
 * @space: the space
 * @op: told what is missing
 *
 * Return: 0, -EAGAIN, -EUCLEAN.
 */
int __must_check dynmap_space_open(struct dynmap_space *space, struct dynmap_op *op);

/* Blocks allocated when the space was opened. */
u64 dynmap_space_allocated(const struct dynmap_space *space);

/* An empty array of parts for a device, to be used by dynmap_space_grow_end(), or NULL. */
struct dynmap_parts *dynmap_space_new_top(u32 dev);

/**
 * dynmap_space_grow_end() - a device has grown or was added: its blocks are free
 * @space: the space
 * @dev: the device, whose entry in the geometry is the new one
 * @top: of a new device: its parts, taken over
 */
void dynmap_space_grow_end(struct dynmap_space *space, u32 dev, struct dynmap_parts **top);

/**
 * dynmap_space_load() - bring the bitmaps of a segment into memory
 * @space: the space
 * @segment: an existing segment
 * @seg: set to them
 * @op: told what is missing
 *
 * They stay there at least until dynmap_space_shrink(), dynmap_space_evict() or
 * dynmap_space_recycle() is called. Their memory comes from the stock.
 *
 * Return: 0, -EAGAIN, -ENOMEM; -EUCLEAN: it is lost.
 */
int __must_check dynmap_space_load_slowly(struct dynmap_space *space, u32 segment,
					  struct dynmap_seg **seg, struct dynmap_op *op);

static inline int __must_check dynmap_space_load(struct dynmap_space *space, u32 segment,
						 struct dynmap_seg **seg, struct dynmap_op *op)
{
	*seg = dynmap_space_seg(space, segment);
	if (!*seg)
		return dynmap_space_load_slowly(space, segment, seg, op);
	(*seg)->used = true;
	return 0;
}

/**
 * dynmap_space_shrink() - let go of bitmaps and summaries that nobody looked at lately
 * @space: the space
 *
 * As long as there are more than their share of the memory of the node cache, those that
 * are as on disk. One bounded step. Between two phases of an operation it must not be
 * called: what an operation looks at is kept when it looks again before the next but one
 * step.
 */
void dynmap_space_shrink(struct dynmap_space *space);

/*
 * Memory is short: let go of bitmaps and summaries, as much as @bufs buffers if that can be
 * found in a step; those stay that do so however short it is. How much it was, in buffers.
 */
u32 dynmap_space_evict(struct dynmap_space *space, u32 bufs);

/*
 * Memory for bitmaps or parts, which are loaded with the metadata lock held. When none is in
 * stock the core says -ENOMEM. It is made without the lock, by dynmap_space_memory(), and added
 * with it; what is too much is freed. dynmap_space_supply() does both, where nobody waits for
 * the lock. dynmap_space_recycle() takes it from bitmaps or parts that are not needed at the
 * moment; false: there is some in stock already, or none among those that it looked at; then
 * calling again may help, or a checkpoint.
 */
void *dynmap_space_memory(bool wait);
void dynmap_space_add_memory(struct dynmap_space *space, void *memory);
bool dynmap_space_supply(struct dynmap_space *space);
bool dynmap_space_recycle(struct dynmap_space *space);

/* Was anything of a segment ever in use? 1, 0; as dynmap_space_load(). */
int __must_check dynmap_space_touched(struct dynmap_space *space, u32 segment,
				      struct dynmap_op *op);

/**
 * dynmap_space_find() - find a segment where something is free
 * @space: the space
 * @dev: on this device
 * @need: what, DYNMAP_NEED_*
 * @want: so many blocks, of runs and zones; 1 of others
 * @least: nothing that has no more than that
 * @from: segment slot where to begin; the search goes around
 * @seg: set to the bitmaps of the first segment that may have as much as is wanted, or as
 *	much as any other may have
 * @op: told what is missing
 *
 * If it does not have it the caller says so (struct dynmap_room of the segment) and
 * searches again. What is lost is passed over.
 *
 * Return: 0; -ENOENT: there is none; -EAGAIN, -ENOMEM.
 */
int __must_check dynmap_space_find(struct dynmap_space *space, u32 dev, u8 need, u32 want,
				   u32 least, u32 from, struct dynmap_seg **seg,
				   struct dynmap_op *op);

/* What is free in a segment, at most. */
static inline struct dynmap_room *dynmap_seg_room(struct dynmap_seg *seg)
{
	return &seg->parts->part[seg->at].room;
}

/**
 * union dynmap_space_record - a record of the space tree
 * @zone: of a zone: one that is free and unclaimed has none (flags and used are zero)
 * @summary: of a part
 */
union dynmap_space_record {
	struct dynmap_disk_zone zone;
	struct dynmap_disk_summary summary;
};

/**
 * dynmap_space_next() - a record of the space tree that is out of date
 * @space: the space
 * @key: set to its key
 * @record: set to what it should be
 *
 * The summary of a part comes behind those that it is the sum of. The caller puts the
 * record, before anything else changes, and calls dynmap_space_done().
 *
 * Return: true if there is one.
 */
bool dynmap_space_next(struct dynmap_space *space, u64 *key, union dynmap_space_record *record);
void dynmap_space_done(struct dynmap_space *space);

#endif /* DM_DYNMAP_SPACE_H */
