// SPDX-License-Identifier: GPL-2.0-only
/*
 * Allocator, see dm-dynmap-alloc.h. Callers: table (data), pool (checkpoints,
 * opening), every operation by dynmap_alloc_reserve().
 *
 * The allocator keeps its bitmaps in the space tree, whose nodes it allocates
 * itself. The circle is cut in two places: the node cache takes places from a
 * stock filled beforehand and only notes what it took (events), and a
 * checkpoint puts zone records until no zone is dirty, which ends because a
 * node is moved once per epoch.
 *
 * Placement: copies A lie on even devices, copies B on odd ones; on a single
 * device far apart; in each other's zones only when nothing else is left. Data
 * goes where the goal is, else to the device with the greatest share of free
 * space, there next-fit.
 */
#include "dm-dynmap-alloc.h"

#define DYNMAP_GOOD_RUN		16	/* a goal with fewer free blocks is not taken */
#define DYNMAP_FIRST_ZONES	64	/* a new pool claims at most that many per copy */
#define DYNMAP_MAX_FLOOR	65536	/* more than the nodes that an epoch changes */
#define DYNMAP_ANY_RUN		DYNMAP_SEGMENT_BLOCKS

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

static int dynmap_zone_class(u8 flags)
{
	return flags & DYNMAP_ZONE_META_B ? 1 : 0;
}

static u32 dynmap_zone_of(u32 index)
{
	return index >> DYNMAP_ZONE_SHIFT;
}

static u64 dynmap_meta_free(const struct dynmap_alloc *alloc)
{
	return alloc->zones[0].free + alloc->zones[1].free;
}

/* Metadata blocks that checkpoints will make free. */
static u64 dynmap_meta_quarantined(const struct dynmap_alloc *alloc)
{
	return alloc->meta_freed.blocks + alloc->meta_sealed.blocks;
}

u64 dynmap_alloc_data_free(const struct dynmap_alloc *alloc)
{
	u64 kept = max(alloc->floor, dynmap_meta_free(alloc));

	return alloc->free_blocks > kept ? alloc->free_blocks - kept : 0;
}

u64 dynmap_alloc_node_free(const struct dynmap_alloc *alloc)
{
	const struct dynmap_cache *cache = alloc->cache;
	u64 room = alloc->free_blocks + cache->nr_stock[0] + cache->nr_stock[1];

	return room > alloc->floor / 2 ? room - alloc->floor / 2 : 0;
}

static void dynmap_alloc_set_floor(struct dynmap_alloc *alloc)
{
	alloc->floor = min_t(u64, 128 + alloc->total_blocks / 512, DYNMAP_MAX_FLOOR);
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
	}
	dynmap_free(alloc->zones[0].pbn);
	dynmap_free(alloc->zones[1].pbn);
	memset(alloc, 0, sizeof(*alloc));
}

/* The segment in memory, made on first touch; NULL if memory is short. */
static struct dynmap_seg *dynmap_seg_get(struct dynmap_alloc *alloc, u32 segment)
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

static __always_inline void dynmap_zone_set_dirty(struct dynmap_alloc *alloc,
						  struct dynmap_seg *seg, u32 zone)
{
	u64 bit = 1ULL << (zone & 63);

	alloc->nr_dirty_zones += !(seg->zone_dirty[zone >> 6] & bit);
	seg->zone_dirty[zone >> 6] |= bit;
	if (list_empty(&seg->list))
		list_add_tail(&seg->list, &alloc->dirty);
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

/* Make blocks busy, those that are already stay so. */
static void dynmap_seg_occupy(struct dynmap_alloc *alloc, struct dynmap_seg *seg, u32 index,
			      u32 len)
{
	u32 end = index + len, zone, n, count;

	for (; index < end; index += n) {
		zone = dynmap_zone_of(index);
		n = min(((zone + 1) << DYNMAP_ZONE_SHIFT), end) - index;
		count = n - dynmap_bits_count(seg->busy, index, n);
		if (seg->zone_flags[zone])
			alloc->zones[dynmap_zone_class(seg->zone_flags[zone])].free -= count;
		seg->free -= count;
		alloc->free_blocks -= count;
		alloc->dev_free[dynmap_segment_dev(seg->number)] -= count;
		dynmap_bits_set(seg->busy, index, n);
	}
}

/* Make busy blocks free. */
static void dynmap_seg_vacate(struct dynmap_alloc *alloc, struct dynmap_seg *seg, u32 index,
			      u32 len)
{
	u32 end = index + len, zone, n, count;

	for (; index < end; index += n) {
		zone = dynmap_zone_of(index);
		n = min(((zone + 1) << DYNMAP_ZONE_SHIFT), end) - index;
		count = dynmap_bits_count(seg->busy, index, n);
		if (seg->zone_flags[zone])
			alloc->zones[dynmap_zone_class(seg->zone_flags[zone])].free += count;
		seg->free += count;
		alloc->free_blocks += count;
		alloc->dev_free[dynmap_segment_dev(seg->number)] += count;
		dynmap_bits_clear(seg->busy, index, n);
	}
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
	dynmap_alloc_set_floor(alloc);
	return before;
}

/* Enter a zone into the list of its class; its blocks are counted by the caller. */
static int dynmap_zones_add(struct dynmap_alloc *alloc, int class, u64 pbn)
{
	struct dynmap_zones *zones = &alloc->zones[class];
	u32 capacity = zones->capacity ? 2 * zones->capacity : 16;
	u64 *grown;

	if (zones->count == zones->capacity) {
		grown = dynmap_zalloc(capacity * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		if (zones->count)
			memcpy(grown, zones->pbn, zones->count * sizeof(*grown));
		dynmap_free(zones->pbn);
		zones->pbn = grown;
		zones->capacity = capacity;
	}
	zones->pbn[zones->count++] = pbn;
	return 0;
}

static u32 dynmap_zone_blocks(struct dynmap_alloc *alloc, u32 segment, u32 zone)
{
	u32 blocks = dynmap_segment_blocks(alloc->geo, segment), first = zone << DYNMAP_ZONE_SHIFT;

	return first >= blocks ? 0 : min(blocks - first, (u32)DYNMAP_ZONE_BLOCKS);
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
	seg->zone_flags[zone] = le16_to_cpu(record->flags);
	if (!seg->zone_flags[zone])
		return 0;
	alloc->meta_total += dynmap_zone_blocks(alloc, seg->number, zone);
	return dynmap_zones_add(alloc, dynmap_zone_class(seg->zone_flags[zone]),
				number << DYNMAP_ZONE_SHIFT);
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

/* Count the free blocks of the metadata zones; segments are settled. */
static void dynmap_zones_settle(struct dynmap_alloc *alloc, struct dynmap_zones *zones)
{
	struct dynmap_seg *seg;
	u32 i, index, blocks;

	zones->free = 0;
	for (i = 0; i < zones->count; i++) {
		seg = dynmap_alloc_seg_of(alloc, zones->pbn[i]);
		index = dynmap_pbn_index(zones->pbn[i]);
		blocks = dynmap_zone_blocks(alloc, seg->number, dynmap_zone_of(index));
		zones->free += blocks - dynmap_bits_count(seg->busy, index, blocks);
	}
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
	dynmap_zones_settle(alloc, &alloc->zones[0]);
	dynmap_zones_settle(alloc, &alloc->zones[1]);
	for (copy = 0; copy < 2; copy++)
		for (i = 0; i < cache->nr_stock[copy]; i++) {
			pbn = cache->stock[copy][i];
			seg = dynmap_alloc_seg_of(alloc, pbn);
			dynmap_seg_occupy(alloc, seg, dynmap_pbn_index(pbn), 1);
		}
}

/* Does a device suit copies of this class? */
static bool dynmap_class_fits(struct dynmap_alloc *alloc, int class, u32 dev)
{
	return alloc->geo->nr_devs == 1 || (dev & 1) == (u32)class;
}

/* Best zone of a segment to claim: 256 for none. *free is its free blocks. */
static u32 dynmap_seg_best_zone(struct dynmap_alloc *alloc, u32 segment, u32 first, u32 *free)
{
	struct dynmap_seg *seg = dynmap_alloc_seg(alloc, segment);
	u32 best = DYNMAP_SEGMENT_ZONES, i, zone, blocks, count;

	*free = 0;
	for (i = 0; i < DYNMAP_SEGMENT_ZONES; i++) {
		zone = (first + i) % DYNMAP_SEGMENT_ZONES;
		blocks = dynmap_zone_blocks(alloc, segment, zone);
		if (!blocks || (seg && seg->zone_flags[zone]))
			continue;
		count = blocks;
		if (seg)
			count -= dynmap_bits_count(seg->busy, zone << DYNMAP_ZONE_SHIFT, blocks);
		if (count <= *free)
			continue;
		best = zone;
		*free = count;
		if (count == DYNMAP_ZONE_BLOCKS)
			break;
	}
	return best;
}

/**
 * struct dynmap_zone_choice - the best zone to claim so far
 * @segment: its segment
 * @zone: its number there
 * @free: its free blocks, 0: none was found
 */
struct dynmap_zone_choice {
	u32 segment;
	u32 zone;
	u32 free;
};

/* Look for a better zone on a device; copies B of a lone device begin in its middle. */
static void dynmap_dev_best_zone(struct dynmap_alloc *alloc, u32 dev, int class,
				 struct dynmap_zone_choice *best)
{
	u32 slots = alloc->slots[dev], start = 0, first = 0, i, segment, zone, free;
	struct dynmap_seg *seg;

	if (class && alloc->geo->nr_devs == 1) {
		start = slots / 2;
		first = dynmap_zone_of(dynmap_segment_blocks(alloc->geo, start)) / 2;
	}
	for (i = 0; i < slots && best->free < DYNMAP_ZONE_BLOCKS; i++) {
		segment = dynmap_segment_number(dev, (start + i) % slots);
		seg = dynmap_alloc_seg(alloc, segment);
		if (seg && seg->free <= best->free)
			continue;
		zone = dynmap_seg_best_zone(alloc, segment, first, &free);
		if (free <= best->free)
			continue;
		best->segment = segment;
		best->zone = zone;
		best->free = free;
	}
}

/* Claim one more zone for copies of a class. */
static int dynmap_zone_claim(struct dynmap_alloc *alloc, int class)
{
	struct dynmap_zone_choice best = {};
	struct dynmap_seg *seg;
	u32 pass, dev;
	int ret;

	/* The class's own devices serve unless they are nearly full. */
	for (pass = 0; pass < 2 && best.free < DYNMAP_GOOD_RUN; pass++)
		for (dev = 0; dev < alloc->geo->nr_devs; dev++)
			if (dynmap_class_fits(alloc, class, dev) != !!pass)
				dynmap_dev_best_zone(alloc, dev, class, &best);
	if (!best.free)
		return -ENOSPC;
	seg = dynmap_seg_get(alloc, best.segment);
	if (!seg)
		return -ENOMEM;
	ret = dynmap_zones_add(alloc, class, dynmap_segment_pbn(best.segment) +
			       (best.zone << DYNMAP_ZONE_SHIFT));
	if (ret)
		return ret;
	seg->zone_flags[best.zone] = class ? DYNMAP_ZONE_META_B : DYNMAP_ZONE_META_A;
	dynmap_zone_set_dirty(alloc, seg, best.zone);
	alloc->zones[class].free += best.free;
	alloc->zones[class].cursor = alloc->zones[class].count - 1;
	alloc->meta_total += dynmap_zone_blocks(alloc, best.segment, best.zone);
	return 0;
}

int dynmap_alloc_format(struct dynmap_alloc *alloc)
{
	u64 zones = alloc->total_blocks / 512 / DYNMAP_ZONE_BLOCKS;
	u32 class, i;
	int ret;

	zones = clamp_t(u64, zones, 1, DYNMAP_FIRST_ZONES);
	for (class = 0; class < alloc->cache->copies; class++)
		for (i = 0; i < zones; i++) {
			ret = dynmap_zone_claim(alloc, class);
			if (ret)
				return ret;
		}
	return 0;
}

/* Take free places of one zone into the stock, lowest on top. */
static void dynmap_stock_from_zone(struct dynmap_alloc *alloc, int class, u64 pbn)
{
	struct dynmap_cache *cache = alloc->cache;
	struct dynmap_seg *seg = dynmap_alloc_seg_of(alloc, pbn);
	u32 index = dynmap_pbn_index(pbn), word, low = cache->nr_stock[class], high;
	u64 *stock = cache->stock[class];
	u64 bits;

	for (word = index / 64; word < index / 64 + DYNMAP_ZONE_WORDS; word++) {
		for (bits = ~seg->busy[word]; bits; bits &= bits - 1) {
			if (cache->nr_stock[class] == DYNMAP_STOCK)
				break;
			stock[cache->nr_stock[class]++] = dynmap_segment_pbn(seg->number) +
							  word * 64 + __ffs64(bits);
		}
	}
	for (u32 i = low; i < cache->nr_stock[class]; i++)
		dynmap_seg_occupy(alloc, seg, dynmap_pbn_index(stock[i]), 1);
	for (high = cache->nr_stock[class]; low + 1 < high; low++, high--)
		swap(stock[low], stock[high - 1]);
}

/* Take free places of the zones of one class into the stock of the same or the other one. */
static void dynmap_stock_from_zones(struct dynmap_alloc *alloc, int from, int class)
{
	struct dynmap_zones *zones = &alloc->zones[from];
	u32 i;

	for (i = 0; zones->free && i < zones->count; i++) {
		if (alloc->cache->nr_stock[class] == DYNMAP_STOCK)
			break;
		zones->cursor = (zones->cursor + (i > 0)) % zones->count;
		dynmap_stock_from_zone(alloc, class, zones->pbn[zones->cursor]);
	}
}

/*
 * Fill the stock of one class to at least @nodes places. The last resort is
 * the other class's zones: two copies that lie close are better than a
 * checkpoint that cannot be written.
 */
static int dynmap_stock_fill(struct dynmap_alloc *alloc, int class, u32 nodes, u8 urgent)
{
	u32 *stocked = &alloc->cache->nr_stock[class];
	int ret = 0;

	while (*stocked < nodes && !ret) {
		dynmap_stock_from_zones(alloc, class, class);
		if (*stocked >= nodes)
			break;
		if (!urgent && dynmap_meta_quarantined(alloc) > alloc->meta_total / 4)
			return -EBUSY;
		ret = dynmap_zone_claim(alloc, class);
		if (ret == -ENOSPC)
			dynmap_stock_from_zones(alloc, !class, class);
	}
	return ret == -ENOSPC && *stocked >= nodes ? 0 : ret;
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

__hot int dynmap_alloc_reserve(struct dynmap_alloc *alloc, u32 nodes, u32 bufs,
			       struct dynmap_op *op)
{
	struct dynmap_cache *cache = alloc->cache;
	int ret = 0;
	u32 class;

	if (cache->events.blocks > DYNMAP_STOCK)
		ret = dynmap_alloc_drain(alloc);
	if (ret)
		return ret;
	if (!dynmap_alloc_room(alloc, nodes, op->urgent))
		ret = -ENOSPC;
	for (class = 0; !ret && class < cache->copies; class++)
		if (cache->nr_stock[class] < nodes)
			ret = dynmap_stock_fill(alloc, class, nodes, op->urgent);
	if (ret == -ENOSPC && op->urgent < DYNMAP_URGENT_CHECKPOINT &&
	    dynmap_meta_quarantined(alloc))
		return -EBUSY;
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

/* The first run of @want free blocks, or else the longest one; its length. */
static u32 dynmap_seg_search(struct dynmap_seg *seg, u32 want, u32 *at)
{
	u32 from = seg->hint, index, len, best = 0;

	for (;;) {
		for (index = dynmap_seg_next_free(seg, from); index < DYNMAP_SEGMENT_BLOCKS;
		     index = dynmap_seg_next_free(seg, index + len)) {
			len = dynmap_seg_run(seg, index, want);
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
 * Search one device for @want consecutive blocks, beginning where its last
 * allocation was. Keeps the longest run found in *pbn and *len; true when that
 * is all that was wanted.
 */
static bool dynmap_dev_search(struct dynmap_alloc *alloc, u32 dev, u32 want, u64 *pbn, u32 *len)
{
	struct dynmap_seg *seg;
	u32 slots = alloc->slots[dev], i, segment, at = 0, found;

	for (i = 0; i < slots; i++) {
		segment = dynmap_segment_number(dev, (alloc->cursor[dev] + i) % slots);
		seg = dynmap_alloc_seg(alloc, segment);
		if (!seg) {
			found = min(want, dynmap_segment_blocks(alloc->geo, segment));
			at = 0;
		} else if (seg->free <= *len || seg->max_run <= *len) {
			continue;
		} else {
			found = dynmap_seg_search(seg, want, &at);
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

/* Share of a device that is free, in 1/1024. */
static u64 dynmap_dev_share(const struct dynmap_alloc *alloc, u32 dev)
{
	return alloc->dev_total[dev] ? (alloc->dev_free[dev] << 10) / alloc->dev_total[dev] : 0;
}

/* Search all devices, the emptiest one first. */
static void dynmap_alloc_search(struct dynmap_alloc *alloc, u32 want, u64 *pbn, u32 *len)
{
	u32 nr = alloc->geo->nr_devs, dev, best = 0;

	for (dev = 1; dev < nr; dev++)
		if (dynmap_dev_share(alloc, dev) > dynmap_dev_share(alloc, best))
			best = dev;
	*len = 0;
	for (dev = 0; dev < nr; dev++)
		if (dynmap_dev_search(alloc, (best + dev) % nr, want, pbn, len))
			return;
}

static u32 dynmap_goal_run(struct dynmap_alloc *alloc, u64 goal, u32 want)
{
	u32 segment = dynmap_pbn_segment(goal), index = dynmap_pbn_index(goal);
	struct dynmap_seg *seg;

	/* While a device grows, the geometry knows segments that are not yet used. */
	if (goal == DYNMAP_PBN_NONE || !dynmap_pbn_valid(alloc->geo, goal, 1) ||
	    dynmap_segment_slot(segment) >= alloc->slots[dynmap_segment_dev(segment)])
		return 0;
	seg = dynmap_alloc_seg(alloc, segment);
	if (seg)
		return dynmap_seg_run(seg, index, want);
	return min(want, dynmap_segment_blocks(alloc->geo, segment) - index);
}

/* What most redirected writes ask for: one block, behind one that is in use, in its segment. */
static bool dynmap_hold_next(struct dynmap_alloc *alloc, u64 goal)
{
	u32 index = dynmap_pbn_index(goal), segment = dynmap_pbn_segment(goal);
	u32 dev = dynmap_segment_dev(segment);
	u64 bit = dynmap_bits(index & 63, 1);
	struct dynmap_seg *seg;

	if (!index || dev >= alloc->geo->nr_devs ||
	    dynmap_segment_slot(segment) >= alloc->slots[dev])
		return false;
	seg = dynmap_alloc_seg(alloc, segment);
	if (!seg || !(dynmap_seg_free_bits(seg, index >> 6) & bit))
		return false;
	seg->busy[index >> 6] |= bit;
	seg->hint = (index + 1) % DYNMAP_SEGMENT_BLOCKS;
	seg->free--;
	alloc->free_blocks--;
	alloc->dev_free[dev]--;
	return true;
}

/* Blocks that the kills which wait may need. */
static u64 dynmap_kills_room(const struct dynmap_alloc *alloc)
{
	u32 count = alloc->cache->kills.count;

	return count > DYNMAP_KILLS_WAITING ?
	       (u64)count * DYNMAP_KILL_NODES * alloc->cache->copies : 0;
}

__hot int dynmap_alloc_hold(struct dynmap_alloc *alloc, u64 goal, u32 want, u64 *pbn, u32 *len)
{
	u64 room = dynmap_alloc_data_free(alloc), kept = dynmap_kills_room(alloc);
	struct dynmap_seg *seg;
	u32 index;

	want = min_t(u64, want, room > kept ? room - kept : 0);
	if (want == 1 && dynmap_hold_next(alloc, goal)) {
		*pbn = goal;
		*len = 1;
		return 0;
	}
	*pbn = goal;
	*len = dynmap_goal_run(alloc, goal, want);
	if (*len < min_t(u32, want, DYNMAP_GOOD_RUN))
		dynmap_alloc_search(alloc, want, pbn, len);
	if (!*len) {
		bool soon = alloc->quarantined || alloc->cache->kills.count ||
			    (dynmap_meta_quarantined(alloc) &&
			     alloc->free_blocks > dynmap_meta_free(alloc));

		return soon ? -EBUSY : -ENOSPC;
	}
	seg = dynmap_seg_get(alloc, dynmap_pbn_segment(*pbn));
	if (!seg)
		return -ENOMEM;
	index = dynmap_pbn_index(*pbn);
	dynmap_seg_occupy(alloc, seg, index, *len);
	seg->hint = (index + *len) % DYNMAP_SEGMENT_BLOCKS;
	return 0;
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
	int ret = dynmap_alloc_hold(alloc, goal, want, pbn, len);

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
	for (; len; pbn++, len--)
		if (seg->zone_flags[dynmap_zone_of(dynmap_pbn_index(pbn))] &&
		    dynmap_cache_peek(alloc->cache, pbn))
			return true;
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
		dynmap_runlist_add(alloc->cache, &alloc->cache->events, pbn, len,
				   DYNMAP_RUN_FREED);
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
