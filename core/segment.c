// SPDX-License-Identifier: GPL-2.0-only
/*
 * Blocks and zones of segments in memory, see core/segment.h. Callers: the allocator
 * (dm-dynmap-alloc.c and core/zone.c).
 */
#include "core/segment.h"

#define DYNMAP_LONG_RUN		2048	/* of free blocks that are not counted to the end */

/* A part may have that much from now on. */
static void dynmap_room_raise(struct dynmap_parts *parts, u32 at, u32 run, u32 zone, u8 flags)
{
	struct dynmap_room *room;

	for (; parts; at = parts->at, parts = parts->above) {
		room = &parts->part[at].room;
		if (room->run >= run && room->zone >= zone && !(flags & ~room->flags))
			return;
		room->run = max(room->run, run);
		room->zone = max_t(u32, room->zone, zone);
		room->flags |= flags;
	}
}

u32 dynmap_seg_run(const struct dynmap_seg *seg, u32 index, u32 want)
{
	u32 len = 0, bit, n;
	u64 used;

	while (len < want && index + len < DYNMAP_SEGMENT_BLOCKS) {
		bit = (index + len) & 63;
		used = ~dynmap_seg_free_bits(seg, (index + len) >> 6) >> bit;
		n = used ? (u32)__ffs64(used) : 64;
		n = min(n, 64 - bit);
		len += n;
		if (bit + n < 64)
			break;
	}
	return min(len, want);
}

/* Length of the run of free data blocks that ends before @index; or @want or more. */
static u32 dynmap_seg_run_before(const struct dynmap_seg *seg, u32 index, u32 want)
{
	u32 at = index, bit, n;
	u64 used;

	while (at && index - at < want) {
		bit = (at - 1) & 63;
		used = ~dynmap_seg_free_bits(seg, (at - 1) >> 6) << (63 - bit);
		n = used ? 64 - (u32)fls64(used) : bit + 1;
		at -= n;
		if (n <= bit)
			break;
	}
	return index - at;
}

/*
 * First place at or behind @index where a run of at least @len free data blocks, 64 at most,
 * begins; DYNMAP_SEGMENT_BLOCKS if there is none. Each step of the inner loop doubles the
 * length of the runs whose first blocks are left in @bits.
 */
static u32 dynmap_seg_next_run(const struct dynmap_seg *seg, u32 index, u32 len)
{
	u64 skip = ~0ULL << (index & 63), bits, after, next;
	u32 word = index >> 6, have, n;

	if (word >= DYNMAP_SEGMENT_WORDS)
		return DYNMAP_SEGMENT_BLOCKS;
	for (next = dynmap_seg_free_bits(seg, word); word < DYNMAP_SEGMENT_WORDS; word++) {
		bits = next & skip;
		skip = ~0ULL;
		next = word + 1 < DYNMAP_SEGMENT_WORDS ? dynmap_seg_free_bits(seg, word + 1) : 0;
		for (have = 1, after = next; bits && have < len; have += n) {
			n = min(have, len - have);
			bits &= bits >> n | after << (64 - n);
			after &= after >> n;
		}
		if (bits)
			return word * 64 + __ffs64(bits);
	}
	return DYNMAP_SEGMENT_BLOCKS;
}

u32 dynmap_seg_search(struct dynmap_seg *seg, u32 want, u32 piece, u32 *at)
{
	bool whole = want == piece && piece < DYNMAP_SEGMENT_BLOCKS;
	u32 from = whole ? seg->piece_hint : seg->hint, index, len, left, best = 0;

	want = min(want, dynmap_seg_room(seg)->run);
	for (;;) {
		for (index = from; best < want; index += len) {
			index = dynmap_seg_next_run(seg, index, min(best + 1, 64U));
			if (index == DYNMAP_SEGMENT_BLOCKS)
				break;
			left = dynmap_piece_left(index, piece);
			len = dynmap_seg_run(seg, index, min(want, left));
			if (len > best) {
				best = len;
				*at = index;
			}
		}
		if (!from || best == want)
			break;
		from = 0;
	}
	if (best < want)
		dynmap_seg_room(seg)->run = best;
	return best;
}

void dynmap_zone_set_dirty(struct dynmap_space *space, struct dynmap_seg *seg, u32 zone)
{
	u64 bit = 1ULL << (zone & 63);
	struct dynmap_parts *parts;

	space->nr_dirty += !(seg->zone_dirty[zone >> 6] & bit);
	seg->zone_dirty[zone >> 6] |= bit;
	if (!list_empty(&seg->dirty))
		return;
	list_add_tail(&seg->dirty, &space->dirty);
	space->nr_dirty_segs++;
	space->nr_dirty++;
	for (parts = seg->parts; parts->above && list_empty(&parts->dirty); parts = parts->above) {
		list_add_tail(&parts->dirty, &space->dirty_parts[parts->level]);
		space->nr_dirty++;
	}
}

__hot void dynmap_seg_mark(struct dynmap_space *space, struct dynmap_seg *seg, u32 index, u32 len,
			   bool allocated)
{
	u32 zone;

	if (allocated)
		dynmap_bits_set(seg->allocated, index, len);
	else
		dynmap_bits_clear(seg->allocated, index, len);
	for (zone = dynmap_zone_of(index); zone <= dynmap_zone_of(index + len - 1); zone++)
		dynmap_zone_set_dirty(space, seg, zone);
}

/* Blocks of a zone of metadata are about to become free or, if negative, busy. */
static void dynmap_zone_count_meta(struct dynmap_space *space, const struct dynmap_seg *seg,
				   u32 zone, s64 count)
{
	u32 free = dynmap_zone_free(seg, zone);
	struct dynmap_zones *zones;

	zones = &space->zones[dynmap_segment_dev(seg->number)]
			     [dynmap_zone_class(seg->zone_flags[zone])];
	zones->free += count;
	zones->empty += (free + count == DYNMAP_ZONE_BLOCKS) - (free == DYNMAP_ZONE_BLOCKS);
	space->meta_free += count;
}

/* The same of any zone. */
static __always_inline void dynmap_zone_count(struct dynmap_space *space,
					      const struct dynmap_seg *seg, u32 zone, s64 count)
{
	space->free_blocks += count;
	if (seg->zone_flags[zone])
		dynmap_zone_count_meta(space, seg, zone, count);
	else
		space->dev_free[dynmap_segment_dev(seg->number)] += count;
}

void dynmap_seg_occupy(struct dynmap_space *space, struct dynmap_seg *seg, u32 index, u32 len)
{
	u32 end = index + len, zone, n, count;

	for (; index < end; index += n) {
		zone = dynmap_zone_of(index);
		n = min(((zone + 1) << DYNMAP_ZONE_SHIFT), end) - index;
		count = n - dynmap_bits_count(seg->busy, index, n);
		seg->free -= count;
		dynmap_zone_count(space, seg, zone, -(s64)count);
		dynmap_bits_set(seg->busy, index, n);
	}
}

/* Free places of a zone of metadata can be found. */
static void dynmap_zone_raise(struct dynmap_seg *seg, u32 zone)
{
	u32 class = dynmap_zone_class(seg->zone_flags[zone]);
	u32 free = dynmap_zone_free(seg, zone);
	u8 flags = 0;

	if (free)
		flags |= DYNMAP_NEED_NODE_A << class;
	if (free == DYNMAP_ZONE_BLOCKS)
		flags |= DYNMAP_NEED_EMPTY_A << class;
	dynmap_room_raise(seg->parts, seg->at, 0, 0, flags);
}

/* Blocks of one zone have become free: they can be found. */
static void dynmap_seg_raise(struct dynmap_seg *seg, u32 zone, u32 index, u32 len)
{
	const struct dynmap_room *room = dynmap_seg_room(seg);
	u32 run = 0, free = 0, before, after;

	if (seg->zone_flags[zone]) {
		dynmap_zone_raise(seg, zone);
		return;
	}
	/* No run is longer than all that is free; a long one is not counted to its end. */
	if (room->run < seg->free) {
		before = dynmap_seg_run_before(seg, index, DYNMAP_LONG_RUN);
		after = dynmap_seg_run(seg, index, DYNMAP_LONG_RUN);
		run = before + after;
		if (before >= DYNMAP_LONG_RUN || after == DYNMAP_LONG_RUN)
			run = seg->free;
	}
	if (room->zone < DYNMAP_ZONE_BLOCKS)
		free = dynmap_zone_free(seg, zone);
	dynmap_room_raise(seg->parts, seg->at, run, free, 0);
}

void dynmap_seg_put_back(struct dynmap_space *space, struct dynmap_seg *seg, u32 index, u32 len)
{
	u32 end = index + len, zone, n, count;

	for (; index < end; index += n) {
		zone = dynmap_zone_of(index);
		n = min(((zone + 1) << DYNMAP_ZONE_SHIFT), end) - index;
		count = dynmap_bits_count(seg->busy, index, n);
		seg->free += count;
		dynmap_zone_count(space, seg, zone, count);
		dynmap_bits_clear(seg->busy, index, n);
		dynmap_seg_raise(seg, zone, index, n);
	}
}

void dynmap_seg_vacate(struct dynmap_space *space, struct dynmap_seg *seg, u32 index, u32 len)
{
	dynmap_seg_put_back(space, seg, index, len);
	space->vacated++;
}

void dynmap_seg_reset_busy(struct dynmap_space *space, struct dynmap_seg *seg)
{
	u32 blocks = dynmap_segment_blocks(space->geo, seg->number), word;
	u64 bits;

	dynmap_seg_vacate(space, seg, 0, blocks);
	for (word = 0; word * 64 < blocks; word++)
		for (bits = seg->allocated[word]; bits; bits &= bits - 1)
			dynmap_seg_occupy(space, seg, word * 64 + __ffs64(bits), 1);
}

void dynmap_zone_claim(struct dynmap_space *space, struct dynmap_seg *seg, u32 zone, u8 flags)
{
	u32 dev = dynmap_segment_dev(seg->number), free = dynmap_zone_free(seg, zone);
	struct dynmap_zones *zones = &space->zones[dev][dynmap_zone_class(flags)];

	seg->zone_flags[zone] = flags;
	space->dev_free[dev] -= free;
	zones->blocks += DYNMAP_ZONE_BLOCKS;
	zones->free += free;
	zones->empty += free == DYNMAP_ZONE_BLOCKS;
	space->meta_free += free;
	space->meta_total += DYNMAP_ZONE_BLOCKS;
	dynmap_zone_raise(seg, zone);
	dynmap_zone_set_dirty(space, seg, zone);
}

void dynmap_zone_disclaim(struct dynmap_space *space, struct dynmap_seg *seg, u32 zone)
{
	space->zones[dynmap_segment_dev(seg->number)]
		    [dynmap_zone_class(seg->zone_flags[zone])].blocks -= DYNMAP_ZONE_BLOCKS;
	space->meta_total -= DYNMAP_ZONE_BLOCKS;
	seg->zone_flags[zone] = 0;
	dynmap_zone_set_dirty(space, seg, zone);
}
