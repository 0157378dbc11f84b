/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Blocks and zones of a segment whose bitmaps are in memory: what is free there, and each
 * change of it, which keeps the counters and bounds of the space (core/space.h, S2).
 *
 * Locking: metadata lock held for writing.
 */
#ifndef DM_DYNMAP_SEGMENT_H
#define DM_DYNMAP_SEGMENT_H

#include "core/space.h"

/* Length of the run of free data blocks at @index, at most @want. */
u32 dynmap_seg_run(const struct dynmap_seg *seg, u32 index, u32 want);

/* Blocks from @index to the end of its piece. */
static inline u32 dynmap_piece_left(u32 index, u32 piece)
{
	return piece - (index & (piece - 1));
}

/*
 * The first run of @want free data blocks in one piece, or else the longest one, where *@at
 * is set to; its length, 0 if there is none.
 */
u32 dynmap_seg_search(struct dynmap_seg *seg, u32 want, u32 piece, u32 *at);

/* Blocks of a zone that are not busy; none behind the end of a device. */
static inline u32 dynmap_zone_free(const struct dynmap_seg *seg, u32 zone)
{
	return DYNMAP_ZONE_BLOCKS -
	       dynmap_bits_count(seg->busy, zone << DYNMAP_ZONE_SHIFT, DYNMAP_ZONE_BLOCKS);
}

/* The record of a zone is out of date. */
void dynmap_zone_set_dirty(struct dynmap_space *space, struct dynmap_seg *seg, u32 zone);

/* Set or clear allocated bits; the records of their zones are out of date. */
void dynmap_seg_mark(struct dynmap_space *space, struct dynmap_seg *seg, u32 index, u32 len,
		     bool allocated);

/*
 * Make blocks busy, those that are already stay so; make places that were in stock free;
 * make busy blocks free that did not count as free.
 */
void dynmap_seg_occupy(struct dynmap_space *space, struct dynmap_seg *seg, u32 index, u32 len);
void dynmap_seg_put_back(struct dynmap_space *space, struct dynmap_seg *seg, u32 index, u32 len);
void dynmap_seg_vacate(struct dynmap_space *space, struct dynmap_seg *seg, u32 index, u32 len);

/* Only what is allocated in a segment is busy. */
void dynmap_seg_reset_busy(struct dynmap_space *space, struct dynmap_seg *seg);

/*
 * A zone of data becomes one of metadata, for copies as @flags says; one of metadata, all of
 * whose blocks are busy and none allocated, becomes one of data.
 */
void dynmap_zone_claim(struct dynmap_space *space, struct dynmap_seg *seg, u32 zone, u8 flags);
void dynmap_zone_disclaim(struct dynmap_space *space, struct dynmap_seg *seg, u32 zone);

#endif /* DM_DYNMAP_SEGMENT_H */
