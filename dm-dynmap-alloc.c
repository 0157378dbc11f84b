// SPDX-License-Identifier: GPL-2.0-only
/*
 * Allocator, see dm-dynmap-alloc.h; zones of metadata are in dm-dynmap-zone.c.
 * Callers: table (data), pool (checkpoints, opening), every operation by
 * dynmap_alloc_reserve().
 *
 * The allocator keeps its bitmaps in the space tree, whose nodes it allocates
 * itself. The circle is cut in two places: the node cache takes places from a
 * stock filled beforehand and only notes what it took (events), and a
 * checkpoint puts zone records until no zone is dirty, which ends because a
 * node is moved once per epoch.
 *
 * Placement on one device: data goes where the goal is, else next-fit.
 *
 * Placement on several devices: data takes aligned pieces of DYNMAP_PIECE_BLOCKS. A
 * writer that has filled a piece continues in a piece of the device whose turn it is;
 * devices take turns by free space. Thus one stream uses the bandwidth of all devices.
 * The length of a piece is a compromise: a stream keeps as many devices busy as it has
 * pieces under way, and each piece is a map record of 16 bytes.
 * Allocations without a goal are packed: each continues behind the one before on its
 * device (the segment's hint). The hint stays out of pieces that were taken whole or
 * that a volume continues in, so that different writers do not mix in one piece.
 */
#include "dm-dynmap-alloc.h"

#define DYNMAP_MIN_FLOOR	512	/* but for tiny pools: several steps of a deletion */
#define DYNMAP_MAX_FLOOR	65536	/* more than the nodes that an epoch changes */
#define DYNMAP_ANY_RUN		DYNMAP_SEGMENT_BLOCKS
#define DYNMAP_TURN_BLOCKS	16	/* what has no goal stays on a device for so many */
#define DYNMAP_FAIR_PART	4	/* such a part of what is wanted is enough in one's turn */
#define DYNMAP_LOOK_SEGMENTS	4	/* that a hold looks at for a piece of its own */

/* A run of bits inside one word. */
static u64 dynmap_bits(u32 first, u32 len)
{
	return (len == 64 ? ~0ULL : (1ULL << len) - 1) << first;
}

/* For each word that [index, index + len), which is used up, touches: its bits in @mask. */
#define dynmap_for_each_word(mask, index, len)					\
	for (u32 __n; (len) && (__n = min(64 - ((index) & 63), (len)),		\
				(mask) = dynmap_bits((index) & 63, __n), true);	\
	     (index) += __n, (len) -= __n)

static __always_inline u32 dynmap_bits_count(const u64 *map, u32 index, u32 len)
{
	u32 count = 0;
	u64 mask;

	dynmap_for_each_word(mask, index, len)
		count += hweight64(map[index >> 6] & mask);
	return count;
}

static __always_inline void dynmap_bits_set(u64 *map, u32 index, u32 len)
{
	u64 mask;

	dynmap_for_each_word(mask, index, len)
		map[index >> 6] |= mask;
}

static __always_inline void dynmap_bits_clear(u64 *map, u32 index, u32 len)
{
	u64 mask;

	dynmap_for_each_word(mask, index, len)
		map[index >> 6] &= ~mask;
}

/*
 * Places after the next checkpoint, of which so many are kept, and what is owed then. Nodes
 * that are moved in between change nothing.
 */
static u64 dynmap_alloc_beyond(const struct dynmap_alloc *alloc, u64 kept)
{
	u64 places = dynmap_alloc_places(alloc) + dynmap_meta_quarantined(alloc) +
		     alloc->cache->given_up;

	kept += dynmap_alloc_owed_least(alloc);
	return places > kept ? places - kept : 0;
}

u64 dynmap_alloc_data_free(const struct dynmap_alloc *alloc)
{
	return min(dynmap_alloc_beyond(alloc, alloc->floor),
		   alloc->free_blocks - alloc->meta_free);
}

/* Of those, blocks that data may take before the next checkpoint: nodes have to be left, too. */
static u64 dynmap_alloc_data_now(const struct dynmap_alloc *alloc)
{
	u64 kept = dynmap_alloc_kept(alloc, 0) + dynmap_alloc_owed(alloc) +
		   dynmap_alloc_kills(alloc);
	u64 places = dynmap_alloc_places(alloc);

	return min(places > kept ? places - kept : 0, dynmap_alloc_data_free(alloc));
}

u64 dynmap_alloc_node_free(const struct dynmap_alloc *alloc)
{
	return dynmap_alloc_beyond(alloc, dynmap_alloc_kept(alloc, 0));
}

static void dynmap_alloc_set_floor(struct dynmap_alloc *alloc)
{
	u64 least = min_t(u64, alloc->total_blocks / 8, DYNMAP_MIN_FLOOR);

	alloc->floor = min_t(u64, least + alloc->total_blocks / 512, DYNMAP_MAX_FLOOR);
}

int dynmap_alloc_init(struct dynmap_alloc *alloc, struct dynmap_cache *cache,
		      const struct dynmap_disk_root *root)
{
	struct dynmap_geometry *geo = cache->geo;
	u32 i;

	memset(alloc, 0, sizeof(*alloc));
	alloc->cache = cache;
	alloc->geo = geo;
	INIT_LIST_HEAD(&alloc->dirty);
	dynmap_runlist_init(&alloc->freed);
	dynmap_runlist_init(&alloc->committing);
	dynmap_runlist_init(&alloc->quarantine);
	dynmap_runlist_init(&alloc->meta_freed);
	dynmap_runlist_init(&alloc->meta_sealed);
	dynmap_runlist_init(&alloc->late_freed);
	dynmap_runlist_init(&alloc->late_sealed);
	if (root && !dynmap_btree_root_valid(geo, root)) {
		dynmap_err("superblock: bad root of the space tree");
		return -EUCLEAN;
	}
	dynmap_btree_init(&alloc->space, cache, DYNMAP_TREE_SPACE, 0, root);
	for (i = 0; i < geo->nr_devs; i++) {
		alloc->seg[i] = dynmap_zalloc((u64)geo->dev[i].slots * sizeof(*alloc->seg[i]));
		if (!alloc->seg[i])
			return -ENOMEM;
		alloc->slots[i] = geo->dev[i].slots;
		alloc->dev_total[i] = geo->dev[i].blocks - 1 - geo->dev[i].data_start;
		alloc->dev_free[i] = alloc->dev_total[i];
		alloc->total_blocks += alloc->dev_total[i];
	}
	alloc->free_blocks = alloc->total_blocks;
	dynmap_alloc_set_floor(alloc);
	return 0;
}

void dynmap_alloc_exit(struct dynmap_alloc *alloc)
{
	struct dynmap_runlist *lists[] = {
		&alloc->freed, &alloc->committing, &alloc->quarantine, &alloc->meta_freed,
		&alloc->meta_sealed, &alloc->late_freed, &alloc->late_sealed
	};
	struct dynmap_buf *buf;
	u32 i, count, dev, slot;

	if (!alloc->cache)
		return;
	for (i = 0; i < ARRAY_SIZE(lists); i++)
		while ((buf = dynmap_runlist_pop(lists[i], &count)))
			dynmap_buf_free(buf);
	for (dev = 0; dev < alloc->geo->nr_devs && alloc->seg[dev]; dev++) {
		for (slot = 0; slot < alloc->slots[dev]; slot++)
			dynmap_free(alloc->seg[dev][slot]);
		dynmap_free(alloc->seg[dev]);
		dynmap_free(alloc->zones[dev][0].pbn);
		dynmap_free(alloc->zones[dev][1].pbn);
	}
	memset(alloc, 0, sizeof(*alloc));
}

struct dynmap_seg *dynmap_seg_get(struct dynmap_alloc *alloc, u32 segment)
{
	u32 blocks = dynmap_segment_blocks(alloc->geo, segment);
	struct dynmap_seg *seg = dynmap_alloc_seg(alloc, segment);

	if (seg)
		return seg;
	seg = dynmap_zalloc(sizeof(*seg));
	if (!seg)
		return NULL;
	INIT_LIST_HEAD(&seg->list);
	seg->number = segment;
	seg->free = blocks;
	seg->max_run = DYNMAP_ANY_RUN;
	dynmap_bits_set(seg->busy, blocks, DYNMAP_SEGMENT_BLOCKS - blocks);
	alloc->seg[dynmap_segment_dev(segment)][dynmap_segment_slot(segment)] = seg;
	return seg;
}

/* The last, short segment must know its old length before it gets a new one. */
int dynmap_alloc_grow_begin(struct dynmap_alloc *alloc, u32 dev)
{
	u32 slots = alloc->slots[dev];

	return !slots || dynmap_seg_get(alloc, dynmap_segment_number(dev, slots - 1)) ? 0 : -ENOMEM;
}

/* Set or clear allocated bits; the records of their zones are out of date. */
static __hot void dynmap_seg_mark(struct dynmap_alloc *alloc, struct dynmap_seg *seg, u32 index,
				  u32 len, bool allocated)
{
	u32 zone;

	if (allocated)
		dynmap_bits_set(seg->allocated, index, len);
	else
		dynmap_bits_clear(seg->allocated, index, len);
	for (zone = dynmap_zone_of(index); zone <= dynmap_zone_of(index + len - 1); zone++)
		dynmap_zone_set_dirty(alloc, seg, zone);
}

/* Blocks of a zone of metadata are about to become free or, if negative, busy. */
static void dynmap_zone_count_meta(struct dynmap_alloc *alloc, const struct dynmap_seg *seg,
				   u32 zone, s64 count)
{
	u32 blocks = dynmap_zone_blocks(alloc, seg->number, zone);
	u32 free = dynmap_zone_free(alloc, seg->number, zone);
	struct dynmap_zones *zones;

	zones = &alloc->zones[dynmap_segment_dev(seg->number)]
			     [dynmap_zone_class(seg->zone_flags[zone])];
	zones->free += count;
	zones->empty += (free + count == blocks) - (free == blocks);
	alloc->meta_free += count;
}

/* The same of any zone. */
static __always_inline void dynmap_zone_count(struct dynmap_alloc *alloc,
					      const struct dynmap_seg *seg, u32 zone, s64 count)
{
	alloc->free_blocks += count;
	if (seg->zone_flags[zone])
		dynmap_zone_count_meta(alloc, seg, zone, count);
	else
		alloc->dev_free[dynmap_segment_dev(seg->number)] += count;
}

void dynmap_seg_occupy(struct dynmap_alloc *alloc, struct dynmap_seg *seg, u32 index, u32 len)
{
	u32 end = index + len, zone, n, count;

	for (; index < end; index += n) {
		zone = dynmap_zone_of(index);
		n = min(((zone + 1) << DYNMAP_ZONE_SHIFT), end) - index;
		count = n - dynmap_bits_count(seg->busy, index, n);
		seg->free -= count;
		dynmap_zone_count(alloc, seg, zone, -(s64)count);
		dynmap_bits_set(seg->busy, index, n);
	}
}

void dynmap_seg_put_back(struct dynmap_alloc *alloc, struct dynmap_seg *seg, u32 index, u32 len)
{
	u32 end = index + len, zone, n, count;

	for (; index < end; index += n) {
		zone = dynmap_zone_of(index);
		n = min(((zone + 1) << DYNMAP_ZONE_SHIFT), end) - index;
		count = dynmap_bits_count(seg->busy, index, n);
		seg->free += count;
		dynmap_zone_count(alloc, seg, zone, count);
		dynmap_bits_clear(seg->busy, index, n);
	}
}

/* Make busy blocks free that did not count as free. */
static void dynmap_seg_vacate(struct dynmap_alloc *alloc, struct dynmap_seg *seg, u32 index,
			      u32 len)
{
	dynmap_seg_put_back(alloc, seg, index, len);
	seg->max_run = DYNMAP_ANY_RUN;
	alloc->vacated++;
}

struct dynmap_seg **dynmap_alloc_grow_end(struct dynmap_alloc *alloc, u32 dev,
					  struct dynmap_seg **seg)
{
	u32 slots = alloc->slots[dev], segment, old, fresh, zone;
	const struct dynmap_dev *device = &alloc->geo->dev[dev];
	u64 total = device->blocks - 1 - device->data_start;
	u64 added = total - alloc->dev_total[dev];
	struct dynmap_seg **before = alloc->seg[dev];

	if (slots) {
		memcpy(seg, before, slots * sizeof(*seg));
		segment = dynmap_segment_number(dev, slots - 1);
		old = alloc->dev_total[dev] - (u64)(slots - 1) * DYNMAP_SEGMENT_BLOCKS;
		fresh = dynmap_segment_blocks(alloc->geo, segment) - old;
		zone = dynmap_zone_of(old);
		if (fresh)
			dynmap_seg_vacate(alloc, seg[slots - 1], old, fresh);
		if (fresh && seg[slots - 1]->zone_flags[zone])
			alloc->meta_total += min(fresh, ((zone + 1) << DYNMAP_ZONE_SHIFT) - old);
		added -= fresh;
	}
	/* What lies in new segments is free without being noted. */
	alloc->free_blocks += added;
	alloc->vacated += added > 0;
	alloc->dev_free[dev] += added;
	alloc->total_blocks += total - alloc->dev_total[dev];
	alloc->dev_total[dev] = total;
	alloc->seg[dev] = seg;
	alloc->slots[dev] = device->slots;
	dynmap_zones_recount(alloc, dev);
	dynmap_alloc_set_floor(alloc);
	return before;
}

/* While a device grows the geometry knows more of it than there is. */
u32 dynmap_zone_blocks(const struct dynmap_alloc *alloc, u32 segment, u32 zone)
{
	u64 first = ((u64)dynmap_segment_slot(segment) << DYNMAP_SEGMENT_SHIFT) +
		    (zone << DYNMAP_ZONE_SHIFT);
	u64 total = alloc->dev_total[dynmap_segment_dev(segment)];

	return first >= total ? 0 : min_t(u64, total - first, DYNMAP_ZONE_BLOCKS);
}

u32 dynmap_zone_free(const struct dynmap_alloc *alloc, u32 segment, u32 zone)
{
	u32 blocks = dynmap_zone_blocks(alloc, segment, zone);
	struct dynmap_seg *seg = dynmap_alloc_seg(alloc, segment);

	return seg ? blocks - dynmap_bits_count(seg->busy, zone << DYNMAP_ZONE_SHIFT, blocks) :
		     blocks;
}

static const char *dynmap_zone_check(struct dynmap_alloc *alloc,
				     const struct dynmap_disk_zone *record)
{
	u64 zone = le64_to_cpu(record->zone), bits;
	u32 flags = le16_to_cpu(record->flags), used = 0, blocks, i, first;

	if (zone >> (DYNMAP_PBN_BITS - DYNMAP_ZONE_SHIFT) ||
	    !dynmap_pbn_valid(alloc->geo, zone << DYNMAP_ZONE_SHIFT, 1))
		return "number";
	if (flags & ~DYNMAP_ZONE_META || flags == DYNMAP_ZONE_META)
		return "flags";
	blocks = dynmap_zone_blocks(alloc, zone / DYNMAP_SEGMENT_ZONES,
				    zone % DYNMAP_SEGMENT_ZONES);
	for (i = 0; i < DYNMAP_ZONE_WORDS; i++) {
		bits = le64_to_cpu(record->bitmap[i]);
		first = 64 * i;
		if (first >= blocks ? bits : blocks - first < 64 && bits >> (blocks - first))
			return "bitmap";
		used += hweight64(bits);
	}
	return used == le16_to_cpu(record->used) ? NULL : "count";
}

int dynmap_alloc_load(struct dynmap_alloc *alloc, const struct dynmap_disk_zone *record)
{
	const char *failed = dynmap_zone_check(alloc, record);
	u64 number = le64_to_cpu(record->zone);
	struct dynmap_seg *seg;
	u32 zone, i;

	if (failed) {
		dynmap_err("zone record %llu: bad %s", (unsigned long long)number, failed);
		return -EUCLEAN;
	}
	seg = dynmap_seg_get(alloc, number / DYNMAP_SEGMENT_ZONES);
	if (!seg)
		return -ENOMEM;
	zone = number % DYNMAP_SEGMENT_ZONES;
	for (i = 0; i < DYNMAP_ZONE_WORDS; i++)
		seg->allocated[zone * DYNMAP_ZONE_WORDS + i] = le64_to_cpu(record->bitmap[i]);
	alloc->meta_allocated += le16_to_cpu(record->used);
	return record->flags ? dynmap_zones_add(alloc, seg, zone, le16_to_cpu(record->flags)) : 0;
}

/* Can a node lie there? */
static bool dynmap_place_is_node(const struct dynmap_alloc *alloc, u64 pbn)
{
	struct dynmap_seg *seg = dynmap_alloc_seg_of(alloc, pbn);
	u32 index = dynmap_pbn_index(pbn);

	return seg && seg->zone_flags[dynmap_zone_of(index)] &&
	       dynmap_bits_count(seg->allocated, index, 1);
}

static bool dynmap_node_is_alien(const struct dynmap_alloc *alloc, const struct dynmap_buf *buf)
{
	return !dynmap_place_is_node(alloc, buf->pbn[0]) ||
	       (buf->pbn[1] != DYNMAP_PBN_NONE && !dynmap_place_is_node(alloc, buf->pbn[1]));
}

int dynmap_alloc_loaded(struct dynmap_alloc *alloc)
{
	struct dynmap_buf *buf;

	alloc->loaded = true;
	list_for_each_entry(buf, &alloc->cache->lru, list) {
		if (!dynmap_node_is_alien(alloc, buf))
			continue;
		dynmap_err("node %llu of the space tree: where no node can lie",
			   (unsigned long long)buf->pbn[0]);
		return -EUCLEAN;
	}
	return 0;
}

void dynmap_alloc_insert(struct dynmap_alloc *alloc, struct dynmap_buf *buf)
{
	buf->alien = alloc->loaded && dynmap_node_is_alien(alloc, buf);
	/* Nothing is written to where it says that its other copy is. */
	if (buf->alien && buf->heal) {
		dynmap_buf_free(buf->heal);
		buf->heal = NULL;
	}
	dynmap_cache_insert(alloc->cache, buf);
}

/* Only what is allocated in a segment is busy. */
static void dynmap_seg_settle(struct dynmap_alloc *alloc, struct dynmap_seg *seg)
{
	u32 blocks = dynmap_segment_blocks(alloc->geo, seg->number), word;
	u64 bits;

	dynmap_seg_vacate(alloc, seg, 0, blocks);
	for (word = 0; word * 64 < blocks; word++)
		for (bits = seg->allocated[word]; bits; bits &= bits - 1)
			dynmap_seg_occupy(alloc, seg, word * 64 + __ffs64(bits), 1);
}

void dynmap_alloc_settle(struct dynmap_alloc *alloc)
{
	struct dynmap_cache *cache = alloc->cache;
	u32 i, count, copy, dev, slot;
	struct dynmap_buf *buf;
	struct dynmap_seg *seg;
	u64 pbn;

	while ((buf = dynmap_runlist_pop(&alloc->freed, &count)))
		dynmap_cache_add_spare(cache, buf);
	while ((buf = dynmap_runlist_pop(&alloc->quarantine, &count)))
		dynmap_cache_add_spare(cache, buf);
	alloc->quarantined = 0;
	for (dev = 0; dev < alloc->geo->nr_devs; dev++)
		for (slot = 0; slot < alloc->slots[dev]; slot++)
			if (alloc->seg[dev][slot])
				dynmap_seg_settle(alloc, alloc->seg[dev][slot]);
	for (copy = 0; copy < 2; copy++)
		for (i = 0; i < cache->nr_stock[copy]; i++) {
			pbn = cache->stock[copy][i];
			seg = dynmap_alloc_seg_of(alloc, pbn);
			dynmap_seg_occupy(alloc, seg, dynmap_pbn_index(pbn), 1);
		}
}

/*
 * Did all blocks that the node cache gave up hold nodes? On damaged devices two
 * nodes may share one. (The cache may still know the place: a reader that began
 * before brings the old node late. Nothing points to it.)
 */
static bool dynmap_run_is_given_up(struct dynmap_alloc *alloc, const struct dynmap_run *run)
{
	u64 pbn;

	for (pbn = run->pbn; pbn < run->pbn + run->len; pbn++) {
		if (dynmap_place_is_node(alloc, pbn))
			continue;
		dynmap_err("block %llu is given up, and is no node",
			   (unsigned long long)pbn);
		return false;
	}
	return true;
}

int dynmap_alloc_drain(struct dynmap_alloc *alloc)
{
	struct dynmap_cache *cache = alloc->cache;
	struct dynmap_run *run;
	struct dynmap_seg *seg;
	struct dynmap_buf *buf;
	u32 count, i;

	while (!list_empty(&cache->events.bufs)) {
		if (!cache->nr_spare)
			return -ENOMEM;
		buf = dynmap_runlist_pop(&cache->events, &count);
		run = buf->data;
		for (i = 0; i < count; i++) {
			if (run[i].flags == DYNMAP_RUN_FREED)
				cache->given_up -= run[i].len;
			if (run[i].flags == DYNMAP_RUN_FREED &&
			    !dynmap_run_is_given_up(alloc, &run[i]))
				continue;
			seg = dynmap_alloc_seg_of(alloc, run[i].pbn);
			dynmap_seg_mark(alloc, seg, dynmap_pbn_index(run[i].pbn), run[i].len,
					run[i].flags == DYNMAP_RUN_TAKEN);
			if (run[i].flags == DYNMAP_RUN_TAKEN) {
				alloc->meta_allocated += run[i].len;
				continue;
			}
			alloc->meta_allocated -= run[i].len;
			dynmap_runlist_add(cache, &alloc->meta_freed, run[i].pbn, run[i].len, 0);
		}
		dynmap_cache_add_spare(cache, buf);
	}
	return 0;
}

/* Will a checkpoint make room because what it enters is no longer owed then? */
static bool dynmap_alloc_is_owing(const struct dynmap_alloc *alloc, u32 nodes, u8 urgent)
{
	u64 least = dynmap_alloc_owed_least(alloc) +
		    dynmap_kills_owed(alloc->cache) * alloc->cache->copies;
	u64 kept = dynmap_alloc_kept(alloc, urgent);

	if (urgent < DYNMAP_URGENT_KILLS)
		kept += dynmap_alloc_kills(alloc);
	return dynmap_alloc_owed(alloc) > least &&
	       dynmap_alloc_places(alloc) >= least + kept + nodes * alloc->cache->copies;
}

int dynmap_alloc_no_room(const struct dynmap_alloc *alloc, u32 nodes, u8 urgent)
{
	if (urgent < DYNMAP_URGENT_CHECKPOINT &&
	    (dynmap_meta_quarantined(alloc) || alloc->cache->given_up ||
	     dynmap_alloc_kills_move(alloc) || dynmap_alloc_is_owing(alloc, nodes, urgent)))
		return -EBUSY;
	return -ENOSPC;
}

__hot int dynmap_alloc_reserve(struct dynmap_alloc *alloc, u32 nodes, u32 bufs,
			       struct dynmap_op *op)
{
	struct dynmap_cache *cache = alloc->cache;
	int ret = 0;

	if (cache->events.blocks > DYNMAP_STOCK)
		ret = dynmap_alloc_drain(alloc);
	if (ret)
		return ret;
	if (!dynmap_alloc_room(alloc, nodes, op->urgent))
		ret = -ENOSPC;
	if (!ret && cache->nr_stock[0] < nodes)
		ret = dynmap_stock_fill(alloc, nodes, op->urgent);
	if (ret == -ENOSPC)
		return dynmap_alloc_no_room(alloc, nodes, op->urgent);
	return ret ? ret : dynmap_cache_reserve(cache, nodes, bufs);
}

/* Free blocks of a segment's word, metadata zones left out. */
static u64 dynmap_seg_free_bits(const struct dynmap_seg *seg, u32 word)
{
	return seg->zone_flags[word / DYNMAP_ZONE_WORDS] ? 0 : ~seg->busy[word];
}

/* Length of the run of free data blocks at @index, at most @want. */
static u32 dynmap_seg_run(const struct dynmap_seg *seg, u32 index, u32 want)
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

/* First free data block at or behind @index, DYNMAP_SEGMENT_BLOCKS if none. */
static u32 dynmap_seg_next_free(const struct dynmap_seg *seg, u32 index)
{
	u32 word = index >> 6;
	u64 bits;

	if (index >= DYNMAP_SEGMENT_BLOCKS)
		return DYNMAP_SEGMENT_BLOCKS;
	bits = dynmap_seg_free_bits(seg, word) & (~0ULL << (index & 63));
	while (!bits) {
		if (++word == DYNMAP_SEGMENT_WORDS)
			return DYNMAP_SEGMENT_BLOCKS;
		bits = dynmap_seg_free_bits(seg, word);
	}
	return word * 64 + __ffs64(bits);
}

/* Blocks from @index to the end of its piece. */
static u32 dynmap_piece_left(u32 index, u32 piece)
{
	return piece - (index & (piece - 1));
}

/* The first run of @want free blocks in one piece, or else the longest one; its length. */
static u32 dynmap_seg_search(struct dynmap_seg *seg, u32 want, u32 piece, u32 *at)
{
	bool whole = want == piece && piece < DYNMAP_SEGMENT_BLOCKS;
	u32 from = whole ? seg->piece_hint : seg->hint, index, len, left, best = 0;

	for (;;) {
		for (index = dynmap_seg_next_free(seg, from); index < DYNMAP_SEGMENT_BLOCKS;
		     index = dynmap_seg_next_free(seg, index + len)) {
			left = dynmap_piece_left(index, piece);
			len = dynmap_seg_run(seg, index, min(want, left));
			if (len > best) {
				best = len;
				*at = index;
			}
			if (len == want)
				return len;
		}
		if (!from)
			break;
		from = 0;
	}
	seg->max_run = best;
	return best;
}

/*
 * Search up to @most segments of one device for @want consecutive blocks, beginning
 * where its last allocation was. Keeps the longest run found in *pbn and *len; true
 * when that is all that was wanted.
 */
static bool dynmap_dev_search(struct dynmap_alloc *alloc, u32 dev, u32 want, u32 most, u64 *pbn,
			      u32 *len)
{
	struct dynmap_seg *seg;
	u32 slots = alloc->slots[dev], i, segment, at = 0, found;
	u32 piece = dynmap_alloc_piece(alloc);

	for (i = 0; i < slots && i < most; i++) {
		segment = dynmap_segment_number(dev, (alloc->cursor[dev] + i) % slots);
		seg = dynmap_alloc_seg(alloc, segment);
		if (!seg) {
			found = min(want, dynmap_segment_blocks(alloc->geo, segment));
			at = 0;
		} else if (seg->free <= *len || seg->max_run <= *len) {
			continue;
		} else {
			found = dynmap_seg_search(seg, want, piece, &at);
		}
		if (found <= *len)
			continue;
		*len = found;
		*pbn = dynmap_segment_pbn(segment) + at;
		if (found == want) {
			alloc->cursor[dev] = dynmap_segment_slot(segment);
			return true;
		}
	}
	return false;
}

/* The device whose turn it is to give data blocks. */
static u32 dynmap_data_turn(struct dynmap_alloc *alloc)
{
	struct dynmap_turns *turns = &alloc->data_turns;
	u32 nr = alloc->geo->nr_devs;

	if (!dynmap_alloc_is_lone(alloc) &&
	    (turns->given >= DYNMAP_TURN_BLOCKS || !alloc->dev_free[turns->last]))
		dynmap_turns_next(turns, alloc->dev_free, nr, DYNMAP_PIECE_BLOCKS / 2);
	return turns->last;
}

/*
 * Search all devices, the one whose turn it is first. If that has a shorter run than is
 * wanted, but not a short one, the run is taken: fairness is worth some map records.
 */
static void dynmap_alloc_search(struct dynmap_alloc *alloc, u32 want, u64 *pbn, u32 *len)
{
	u32 nr = alloc->geo->nr_devs, first = dynmap_data_turn(alloc), enough, i;

	*len = 0;
	want = min(want, dynmap_alloc_piece(alloc));
	enough = max(want / DYNMAP_FAIR_PART, min_t(u32, want, DYNMAP_GOOD_RUN));
	for (i = 0; i < nr; i++)
		if (dynmap_dev_search(alloc, (first + i) % nr, want, ~0U, pbn, len) ||
		    *len >= enough)
			break;
	if (*len && dynmap_pbn_dev(*pbn) != first)
		dynmap_turns_pass(&alloc->data_turns, first, *len);
}

/* The free run at a goal, up to the end of the piece that it lies in. */
static u32 dynmap_goal_run(struct dynmap_alloc *alloc, u64 goal, u32 want)
{
	u32 segment = dynmap_pbn_segment(goal), index = dynmap_pbn_index(goal);
	u32 left = dynmap_piece_left(index, dynmap_alloc_piece(alloc));
	struct dynmap_seg *seg;

	/* Where a piece begins, another one was filled. */
	if (left == DYNMAP_PIECE_BLOCKS && !dynmap_alloc_is_lone(alloc))
		return 0;
	want = min(want, left);

	/* While a device grows, the geometry knows segments that are not yet used. */
	if (goal == DYNMAP_PBN_NONE || !dynmap_pbn_valid(alloc->geo, goal, 1) ||
	    dynmap_segment_slot(segment) >= alloc->slots[dynmap_segment_dev(segment)])
		return 0;
	seg = dynmap_alloc_seg(alloc, segment);
	if (seg)
		return dynmap_seg_run(seg, index, want);
	return min(want, dynmap_segment_blocks(alloc->geo, segment) - index);
}

/*
 * Blocks were given: where does the search go on? Of several devices, behind them only
 * if it was there: a piece that is @own is gone on in by who has it.
 */
static void dynmap_seg_go_on(struct dynmap_alloc *alloc, struct dynmap_seg *seg, u32 index,
			     u32 len, bool own)
{
	if (dynmap_alloc_is_lone(alloc) || !own || seg->hint - index < len)
		seg->hint = (index + len) % DYNMAP_SEGMENT_BLOCKS;
	if (len == DYNMAP_PIECE_BLOCKS)
		seg->piece_hint = (index + len) % DYNMAP_SEGMENT_BLOCKS;
}

/* What most redirected writes ask for: one block, behind one that is in use, in its segment. */
static bool dynmap_hold_next(struct dynmap_alloc *alloc, u64 goal)
{
	u32 index = dynmap_pbn_index(goal), segment = dynmap_pbn_segment(goal);
	u32 dev = dynmap_segment_dev(segment);
	u64 bit = dynmap_bits(index & 63, 1);
	u32 piece = dynmap_alloc_piece(alloc);
	struct dynmap_seg *seg;

	if (!(index & (piece - 1)) || dev >= alloc->geo->nr_devs ||
	    dynmap_segment_slot(segment) >= alloc->slots[dev])
		return false;
	seg = dynmap_alloc_seg(alloc, segment);
	if (!seg || !(dynmap_seg_free_bits(seg, index >> 6) & bit))
		return false;
	seg->busy[index >> 6] |= bit;
	dynmap_seg_go_on(alloc, seg, index, 1, true);
	seg->free--;
	alloc->free_blocks--;
	alloc->dev_free[dev]--;
	dynmap_turns_charge(&alloc->data_turns, dev, 1);
	return true;
}

/* A free piece of the device whose turn it is, not far from where data went last. */
static bool dynmap_piece_search(struct dynmap_alloc *alloc, u64 *pbn)
{
	u32 len = DYNMAP_PIECE_BLOCKS - 1;	/* nothing shorter will do */

	return dynmap_dev_search(alloc, dynmap_data_turn(alloc), DYNMAP_PIECE_BLOCKS,
				 DYNMAP_LOOK_SEGMENTS, pbn, &len);
}

/*
 * Find free data blocks: at the goal, else elsewhere. Who comes @again for what follows
 * them then gets a piece of its own. Return how many blocks from *@pbn on are its own,
 * those behind *@len included.
 */
static u32 dynmap_alloc_find(struct dynmap_alloc *alloc, u64 goal, u32 want, bool again,
			     u64 *pbn, u32 *len)
{
	*pbn = goal;
	*len = dynmap_goal_run(alloc, goal, want);
	if (*len >= min_t(u32, want, DYNMAP_GOOD_RUN))
		return *len;
	if (again && goal != DYNMAP_PBN_NONE && !dynmap_alloc_is_lone(alloc) &&
	    dynmap_piece_search(alloc, pbn)) {
		*len = min_t(u32, want, DYNMAP_PIECE_BLOCKS);
		return DYNMAP_PIECE_BLOCKS;
	}
	dynmap_alloc_search(alloc, want, pbn, len);
	return *len;
}

/* Make free data blocks busy, see dynmap_alloc_find(). */
static __always_inline int dynmap_alloc_give(struct dynmap_alloc *alloc, u64 goal, u32 want,
					     bool again, u64 *pbn, u32 *len)
{
	struct dynmap_seg *seg;
	u32 index, own;

	want = min_t(u64, want, dynmap_alloc_data_now(alloc));
	if (want == 1 && dynmap_hold_next(alloc, goal)) {
		*pbn = goal;
		*len = 1;
		return 0;
	}
	own = dynmap_alloc_find(alloc, goal, want, again, pbn, len);
	if (!*len) {
		bool soon = alloc->quarantined || dynmap_alloc_kills_move(alloc) ||
			    dynmap_zones_may_go(alloc) || dynmap_alloc_data_free(alloc);

		return soon ? -EBUSY : -ENOSPC;
	}
	seg = dynmap_seg_get(alloc, dynmap_pbn_segment(*pbn));
	if (!seg)
		return -ENOMEM;
	index = dynmap_pbn_index(*pbn);
	dynmap_seg_occupy(alloc, seg, index, *len);
	dynmap_turns_charge(&alloc->data_turns, dynmap_pbn_dev(*pbn), *len);
	dynmap_seg_go_on(alloc, seg, index, own, *pbn == goal || own == DYNMAP_PIECE_BLOCKS);
	return 0;
}

__hot int dynmap_alloc_hold(struct dynmap_alloc *alloc, u64 goal, u32 want, u64 *pbn, u32 *len)
{
	return dynmap_alloc_give(alloc, goal, want, true, pbn, len);
}

__hot void dynmap_alloc_take_held(struct dynmap_alloc *alloc, u64 pbn, u32 len)
{
	dynmap_seg_mark(alloc, dynmap_alloc_seg_of(alloc, pbn), dynmap_pbn_index(pbn), len, true);
	alloc->data_allocated += len;
}

void dynmap_alloc_unhold(struct dynmap_alloc *alloc, u64 pbn, u32 len)
{
	if (len)
		dynmap_seg_vacate(alloc, dynmap_alloc_seg_of(alloc, pbn), dynmap_pbn_index(pbn),
				  len);
}

int dynmap_alloc_data(struct dynmap_alloc *alloc, u64 goal, u32 want, u64 *pbn, u32 *len)
{
	int ret = dynmap_alloc_give(alloc, goal, want, false, pbn, len);

	if (!ret)
		dynmap_alloc_take_held(alloc, *pbn, *len);
	return ret;
}

int dynmap_alloc_data_at(struct dynmap_alloc *alloc, u64 pbn, u32 len)
{
	struct dynmap_seg *seg;
	u32 index = dynmap_pbn_index(pbn);

	if (!dynmap_pbn_valid(alloc->geo, pbn, len))
		return -EUCLEAN;
	seg = dynmap_seg_get(alloc, dynmap_pbn_segment(pbn));
	if (!seg)
		return -ENOMEM;
	if (dynmap_bits_count(seg->allocated, index, len)) {
		dynmap_err("blocks %llu+%u are allocated twice", (unsigned long long)pbn, len);
		return -EUCLEAN;
	}
	dynmap_seg_occupy(alloc, seg, index, len);
	dynmap_seg_mark(alloc, seg, index, len, true);
	alloc->data_allocated += len;
	return 0;
}

int dynmap_alloc_avoid(struct dynmap_alloc *alloc, u64 pbn, u32 len)
{
	struct dynmap_seg *seg;

	if (!dynmap_pbn_valid(alloc->geo, pbn, len))
		return -EUCLEAN;
	seg = dynmap_seg_get(alloc, dynmap_pbn_segment(pbn));
	if (!seg)
		return -ENOMEM;
	dynmap_seg_occupy(alloc, seg, dynmap_pbn_index(pbn), len);
	return 0;
}

/* Does a node in memory lie in one of these blocks? */
static bool dynmap_nodes_lie(struct dynmap_alloc *alloc, const struct dynmap_seg *seg, u64 pbn,
			     u32 len)
{
	const struct dynmap_buf *buf;

	for (; len; pbn++, len--) {
		if (!seg->zone_flags[dynmap_zone_of(dynmap_pbn_index(pbn))])
			continue;
		buf = dynmap_cache_peek(alloc->cache, pbn);
		if (buf && !buf->alien)
			return true;
	}
	return false;
}

__hot int dynmap_alloc_may_free(struct dynmap_alloc *alloc, u64 pbn, u32 len)
{
	struct dynmap_seg *seg = dynmap_alloc_seg_of(alloc, pbn);

	if (seg && alloc->data_allocated >= len &&
	    dynmap_bits_count(seg->allocated, dynmap_pbn_index(pbn), len) == len &&
	    !dynmap_nodes_lie(alloc, seg, pbn, len))
		return 0;
	dynmap_err("blocks %llu+%u are mapped, but are no data in use", (unsigned long long)pbn,
		   len);
	return -EUCLEAN;
}

void dynmap_alloc_free(struct dynmap_alloc *alloc, u64 pbn, u32 len)
{
	struct dynmap_seg *seg = dynmap_alloc_seg_of(alloc, pbn);

	dynmap_seg_mark(alloc, seg, dynmap_pbn_index(pbn), len, false);
	alloc->data_allocated -= len;
	alloc->quarantined += len;
	dynmap_runlist_add(alloc->cache, &alloc->freed, pbn, len, 0);
}

void dynmap_alloc_free_late(struct dynmap_alloc *alloc, u64 pbn, u32 len, bool is_node)
{
	/* That the node was placed there may still be in the queue. */
	if (is_node) {
		dynmap_places_give_up(alloc->cache, pbn, len);
		return;
	}
	dynmap_seg_mark(alloc, dynmap_alloc_seg_of(alloc, pbn), dynmap_pbn_index(pbn), len, false);
	alloc->data_allocated -= len;
	alloc->quarantined += len;
	dynmap_runlist_add(alloc->cache, &alloc->late_freed, pbn, len, 0);
}

/* Make the blocks of the first buffer of a list free; true until it is empty. */
static bool dynmap_alloc_vacate(struct dynmap_alloc *alloc, struct dynmap_runlist *list)
{
	struct dynmap_buf *buf;
	struct dynmap_run *run;
	u32 count, i;

	buf = dynmap_runlist_pop(list, &count);
	if (!buf)
		return false;
	run = buf->data;
	for (i = 0; i < count; i++)
		dynmap_seg_vacate(alloc, dynmap_alloc_seg_of(alloc, run[i].pbn),
				  dynmap_pbn_index(run[i].pbn), run[i].len);
	dynmap_cache_add_spare(alloc->cache, buf);
	return true;
}

void dynmap_alloc_commit_begin(struct dynmap_alloc *alloc)
{
	dynmap_runlist_move(&alloc->committing, &alloc->freed);
}

void dynmap_alloc_commit_end(struct dynmap_alloc *alloc, int error)
{
	dynmap_runlist_move(error ? &alloc->freed : &alloc->quarantine, &alloc->committing);
}

bool dynmap_alloc_release(struct dynmap_alloc *alloc, struct dynmap_runlist *list)
{
	u64 blocks = list->blocks;
	bool more = dynmap_alloc_vacate(alloc, list);

	alloc->quarantined -= blocks - list->blocks;
	return more;
}

bool dynmap_alloc_release_replayed(struct dynmap_alloc *alloc)
{
	const struct dynmap_run *runs;
	struct dynmap_seg *seg;
	struct dynmap_buf *buf;
	u32 count, i, index;
	bool any = false;

	alloc->quarantined -= alloc->freed.blocks;
	while ((buf = dynmap_runlist_pop(&alloc->freed, &count))) {
		for (i = 0, runs = buf->data; i < count; i++) {
			seg = dynmap_alloc_seg_of(alloc, runs[i].pbn);
			for (index = dynmap_pbn_index(runs[i].pbn);
			     index < dynmap_pbn_index(runs[i].pbn) + runs[i].len; index++) {
				if (dynmap_bits_count(seg->allocated, index, 1))
					continue;
				dynmap_seg_vacate(alloc, seg, index, 1);
				any = true;
			}
		}
		dynmap_cache_add_spare(alloc->cache, buf);
	}
	return any;
}

/* Put the record of one zone, or remove it when the zone is free and unclaimed. */
static int dynmap_zone_put(struct dynmap_alloc *alloc, struct dynmap_seg *seg, u32 zone,
			   struct dynmap_op *op)
{
	u64 number = (u64)seg->number * DYNMAP_SEGMENT_ZONES + zone;
	struct dynmap_disk_zone record = {
		.zone = cpu_to_le64(number),
		.flags = cpu_to_le16(seg->zone_flags[zone]),
	};
	u32 used = 0, i;
	int ret;

	ret = dynmap_alloc_reserve(alloc, dynmap_btree_worst(&alloc->space), 2, op);
	if (ret)
		return ret;
	for (i = 0; i < DYNMAP_ZONE_WORDS; i++) {
		u64 bits = seg->allocated[zone * DYNMAP_ZONE_WORDS + i];

		record.bitmap[i] = cpu_to_le64(bits);
		used += hweight64(bits);
	}
	record.used = cpu_to_le16(used);
	if (used || seg->zone_flags[zone])
		return dynmap_btree_put(&alloc->space, number, &record, op);
	ret = dynmap_btree_remove(&alloc->space, number, op);
	return ret == -ENOENT ? 0 : ret;
}

/* Put records of a segment's dirty zones; *most is what may still be put. */
static int dynmap_seg_checkpoint(struct dynmap_alloc *alloc, struct dynmap_seg *seg, u32 *most,
				 struct dynmap_op *op)
{
	u32 word, bit;
	int ret;

	for (word = 0; word < DYNMAP_SEGMENT_ZONES / 64; word++) {
		while (seg->zone_dirty[word]) {
			if (!*most)
				return -EINPROGRESS;
			bit = __ffs64(seg->zone_dirty[word]);
			ret = dynmap_zone_put(alloc, seg, word * 64 + bit, op);
			if (ret)
				return ret;
			seg->zone_dirty[word] &= ~(1ULL << bit);
			alloc->nr_dirty_zones--;
			--*most;
		}
	}
	list_del_init(&seg->list);
	return 0;
}

int dynmap_alloc_checkpoint(struct dynmap_alloc *alloc, u32 most, struct dynmap_op *op)
{
	int ret;

	do {
		ret = dynmap_alloc_drain(alloc);
		if (ret || list_empty(&alloc->dirty))
			return ret;
		ret = dynmap_seg_checkpoint(alloc, list_first_entry(&alloc->dirty,
								    struct dynmap_seg, list),
					    &most, op);
	} while (!ret);
	return ret;
}

void dynmap_alloc_seal(struct dynmap_alloc *alloc)
{
	dynmap_runlist_move(&alloc->meta_sealed, &alloc->meta_freed);
	dynmap_runlist_move(&alloc->late_sealed, &alloc->late_freed);
}

void dynmap_alloc_sealed_durable(struct dynmap_alloc *alloc)
{
	while (dynmap_alloc_vacate(alloc, &alloc->meta_sealed))
		;
	dynmap_runlist_move(&alloc->quarantine, &alloc->late_sealed);
}
