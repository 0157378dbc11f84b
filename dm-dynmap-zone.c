// SPDX-License-Identifier: GPL-2.0-only
/*
 * Allocator, the part for nodes: zones claimed for metadata, and the stock of places
 * that the node cache takes from. See dm-dynmap-alloc.h. Callers: dm-dynmap-alloc.c;
 * the pool when it is formatted.
 *
 * Placement on several devices: the copies of nodes lie on all devices in turn, by free
 * space, the two copies of a node on two devices. A device whose turn it is claims a
 * zone if it has none with a free place; so each has zones, in proportion to the nodes
 * that it takes.
 *
 * Placement on one device: copies A and copies B have zones of their own, far apart.
 *
 * Two copies lie closer only when nothing else is left: that is better than a
 * checkpoint that cannot be written.
 */
#include "dm-dynmap-alloc.h"

#define DYNMAP_FIRST_ZONES	64	/* a new pool claims at most that many per copy */
#define DYNMAP_STOCK_CHUNK	8	/* places that a device gives in its turn */
#define DYNMAP_LOOK_ZONES	1024	/* looked at in one step for empty ones */

int dynmap_zones_add(struct dynmap_alloc *alloc, struct dynmap_seg *seg, u32 zone, u8 flags)
{
	u32 dev = dynmap_segment_dev(seg->number), free;
	struct dynmap_zones *zones = &alloc->zones[dev][dynmap_zone_class(flags)];
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
	zones->pbn[zones->count++] = dynmap_segment_pbn(seg->number) + (zone << DYNMAP_ZONE_SHIFT);
	seg->zone_flags[zone] = flags;
	free = dynmap_zone_free(alloc, seg->number, zone);
	alloc->dev_free[dev] -= free;
	zones->free += free;
	zones->empty += free == dynmap_zone_blocks(alloc, seg->number, zone);
	alloc->meta_free += free;
	alloc->meta_total += dynmap_zone_blocks(alloc, seg->number, zone);
	return 0;
}

/* Best zone of a segment to claim: 256 for none. *free is its free blocks. */
static u32 dynmap_seg_best_zone(struct dynmap_alloc *alloc, u32 segment, u32 first, u32 *free)
{
	struct dynmap_seg *seg = dynmap_alloc_seg(alloc, segment);
	u32 best = DYNMAP_SEGMENT_ZONES, i, zone, count;

	*free = 0;
	for (i = 0; i < DYNMAP_SEGMENT_ZONES; i++) {
		zone = (first + i) % DYNMAP_SEGMENT_ZONES;
		if (seg && seg->zone_flags[zone])
			continue;
		count = dynmap_zone_free(alloc, segment, zone);
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

	if (class && dynmap_alloc_is_lone(alloc)) {
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

/* For which copies a zone is claimed; on several devices it serves both. */
static int dynmap_dev_class(const struct dynmap_alloc *alloc, u32 dev, u32 copy)
{
	return dynmap_alloc_is_lone(alloc) ? copy : dev & 1;
}

/* Claim one more zone of a device with at least @least free blocks. -ENOSPC, -ENOMEM. */
static int dynmap_zone_claim(struct dynmap_alloc *alloc, u32 dev, int class, u32 least)
{
	struct dynmap_zone_choice best = {};
	struct dynmap_seg *seg;
	int ret;

	if (alloc->dev_free[dev] >= least)
		dynmap_dev_best_zone(alloc, dev, class, &best);
	if (best.free < least)
		return -ENOSPC;
	seg = dynmap_seg_get(alloc, best.segment);
	if (!seg)
		return -ENOMEM;
	ret = dynmap_zones_add(alloc, seg, best.zone,
			       class ? DYNMAP_ZONE_META_B : DYNMAP_ZONE_META_A);
	if (ret)
		return ret;
	dynmap_zone_set_dirty(alloc, seg, best.zone);
	alloc->zones[dev][class].cursor = alloc->zones[dev][class].count - 1;
	return 0;
}

/* Zones that a new pool claims for each copy. */
static u32 dynmap_first_zones(const struct dynmap_alloc *alloc)
{
	u64 zones = alloc->total_blocks / 512 / DYNMAP_ZONE_BLOCKS;

	return clamp_t(u64, zones, 1, DYNMAP_FIRST_ZONES);
}

int dynmap_alloc_format(struct dynmap_alloc *alloc)
{
	u32 zones = dynmap_first_zones(alloc), copy, i, dev;
	struct dynmap_turns turns = {};
	int ret;

	for (copy = 0; copy < alloc->cache->copies; copy++)
		for (i = 0; i < zones; i++) {
			dev = dynmap_turns_next(&turns, alloc->dev_free, alloc->geo->nr_devs,
						DYNMAP_ZONE_BLOCKS / 2);
			ret = dynmap_zone_claim(alloc, dev, dynmap_dev_class(alloc, dev, copy), 1);
			if (ret)
				return ret;
			dynmap_turns_charge(&turns, dev, DYNMAP_ZONE_BLOCKS);
		}
	return 0;
}

/* Is a zone of metadata entirely free? */
static bool dynmap_zone_is_empty(const struct dynmap_alloc *alloc, u64 pbn)
{
	u32 segment = dynmap_pbn_segment(pbn), zone = dynmap_zone_of(dynmap_pbn_index(pbn));

	return dynmap_zone_free(alloc, segment, zone) == dynmap_zone_blocks(alloc, segment, zone);
}

void dynmap_zones_recount(struct dynmap_alloc *alloc, u32 dev)
{
	struct dynmap_zones *zones;
	u32 class, i;

	for (class = 0; class < 2; class++) {
		zones = &alloc->zones[dev][class];
		zones->empty = 0;
		for (i = 0; i < zones->count; i++)
			zones->empty += dynmap_zone_is_empty(alloc, zones->pbn[i]);
	}
}

/* The share of a list of zones in those of a new pool: one zone at least, if it is in use. */
static u32 dynmap_zones_share(const struct dynmap_alloc *alloc, u32 dev, u32 class)
{
	u32 first = dynmap_first_zones(alloc);

	if (dynmap_alloc_is_lone(alloc))
		return first;
	/* Before a second device came both lists of the first one were in use. */
	if (class != (u32)dynmap_dev_class(alloc, dev, 0))
		return 0;
	return max(alloc->cache->copies * first / alloc->geo->nr_devs, 1U);
}

/*
 * Is a list longer than twice what its nodes need, so that zones are not claimed again in each
 * epoch, and than its share? Each list has its own, so that the copies of nodes find places on
 * different devices, or far apart, also when data has taken all others.
 */
static bool dynmap_zones_are_many(const struct dynmap_alloc *alloc, u32 dev, u32 class)
{
	const struct dynmap_zones *zones = &alloc->zones[dev][class];
	u64 used = (u64)zones->count * DYNMAP_ZONE_BLOCKS - zones->free;

	return zones->count * DYNMAP_ZONE_BLOCKS > 2 * used &&
	       zones->count > dynmap_zones_share(alloc, dev, class);
}

/*
 * May one more zone be busy until the next checkpoint is durable? What all that is under way or
 * may begin needs stays free, and as much again as is in quarantine.
 */
static bool dynmap_zone_may_go(const struct dynmap_alloc *alloc)
{
	u64 kept = dynmap_alloc_owed(alloc) + dynmap_alloc_kills(alloc) + alloc->floor +
		   alloc->quarantined + DYNMAP_ZONE_BLOCKS;

	return dynmap_alloc_places(alloc) > kept;
}

bool dynmap_zones_may_go(const struct dynmap_alloc *alloc)
{
	u32 dev, class;

	for (dev = 0; dev < alloc->geo->nr_devs; dev++)
		for (class = 0; class < 2; class++)
			if (alloc->zones[dev][class].empty &&
			    dynmap_zones_are_many(alloc, dev, class))
				return dynmap_zone_may_go(alloc);
	return false;
}

/* An empty zone leaves its list, and is one of data from the next checkpoint on. */
static void dynmap_zone_give_back(struct dynmap_alloc *alloc, struct dynmap_zones *zones, u32 at)
{
	u64 pbn = zones->pbn[at];
	struct dynmap_seg *seg = dynmap_alloc_seg_of(alloc, pbn);
	u32 index = dynmap_pbn_index(pbn), zone = dynmap_zone_of(index), i;
	u32 blocks = dynmap_zone_blocks(alloc, seg->number, zone);

	dynmap_seg_occupy(alloc, seg, index, blocks);
	zones->pbn[at] = zones->pbn[--zones->count];
	alloc->meta_total -= blocks;
	seg->zone_flags[zone] = 0;
	dynmap_zone_set_dirty(alloc, seg, zone);
	/* Nodes that kills gave up, or that were read late, after they had left. */
	for (i = 0; i < blocks; i++)
		dynmap_cache_forget(alloc->cache, pbn + i);
	alloc->quarantined += blocks;
	dynmap_runlist_add(alloc->cache, &alloc->late_freed, pbn, blocks, 0);
}

/*
 * All places in stock are free again: they keep zones from being empty. They counted as free
 * before, so who found no space finds no more than then.
 */
static void dynmap_stock_empty(struct dynmap_alloc *alloc)
{
	struct dynmap_cache *cache = alloc->cache;
	u32 copy;
	u64 pbn;

	for (copy = 0; copy < cache->copies; copy++)
		while (cache->nr_stock[copy]) {
			pbn = cache->stock[copy][--cache->nr_stock[copy]];
			dynmap_seg_put_back(alloc, dynmap_alloc_seg_of(alloc, pbn),
					    dynmap_pbn_index(pbn), 1);
		}
}

/* Empty zones of a list that is long go back; *@most are looked at. */
static void dynmap_zones_shrink(struct dynmap_alloc *alloc, u32 dev, u32 class, u32 *most)
{
	struct dynmap_zones *zones = &alloc->zones[dev][class];
	u32 looks = zones->count;

	for (; looks-- && *most && zones->empty && dynmap_zones_are_many(alloc, dev, class);
	     --*most) {
		if (!alloc->cache->nr_spare || !dynmap_zone_may_go(alloc))
			break;
		if (!zones->look || zones->look > zones->count)
			zones->look = zones->count;
		if (dynmap_zone_is_empty(alloc, zones->pbn[--zones->look]))
			dynmap_zone_give_back(alloc, zones, zones->look);
	}
	/* New nodes go to the first ones, so that the others become empty. */
	zones->cursor = 0;
}

void dynmap_zones_give_back(struct dynmap_alloc *alloc)
{
	u32 most = DYNMAP_LOOK_ZONES, dev, class;
	bool many = false;

	for (dev = 0; dev < alloc->geo->nr_devs; dev++)
		for (class = 0; class < 2; class++)
			many |= dynmap_zones_are_many(alloc, dev, class);
	if (!many)
		return;
	dynmap_stock_empty(alloc);
	for (dev = 0; dev < alloc->geo->nr_devs; dev++)
		for (class = 0; class < 2; class++)
			if (dynmap_zones_are_many(alloc, dev, class))
				dynmap_zones_shrink(alloc, dev, class, &most);
}

/* Take up to @most free places of one zone into the stock, lowest on top. */
static u32 dynmap_stock_from_zone(struct dynmap_alloc *alloc, u32 copy, u64 pbn, u32 most)
{
	struct dynmap_cache *cache = alloc->cache;
	struct dynmap_seg *seg = dynmap_alloc_seg_of(alloc, pbn);
	u32 index = dynmap_pbn_index(pbn), word, low = cache->nr_stock[copy], high, i;
	u64 *stock = cache->stock[copy];
	u64 bits;

	for (word = index / 64; word < index / 64 + DYNMAP_ZONE_WORDS; word++) {
		for (bits = ~seg->busy[word]; bits; bits &= bits - 1) {
			if (cache->nr_stock[copy] - low == most)
				break;
			stock[cache->nr_stock[copy]++] = dynmap_segment_pbn(seg->number) +
							 word * 64 + __ffs64(bits);
		}
	}
	high = cache->nr_stock[copy];
	for (i = low; i < high; i++)
		dynmap_seg_occupy(alloc, seg, dynmap_pbn_index(stock[i]), 1);
	most = high - low;
	for (; low + 1 < high; low++, high--)
		swap(stock[low], stock[high - 1]);
	return most;
}

/* Take up to @most free places of some zones into the stock of a copy; how many are missing. */
static u32 dynmap_stock_from_zones(struct dynmap_alloc *alloc, struct dynmap_zones *zones,
				   u32 copy, u32 most)
{
	u32 i;

	for (i = 0; zones->free && i < zones->count && most; i++) {
		zones->cursor = (zones->cursor + (i > 0)) % zones->count;
		most -= dynmap_stock_from_zone(alloc, copy, zones->pbn[zones->cursor], most);
	}
	return most;
}

/* Free places of a device for a copy. */
static u64 dynmap_dev_places(const struct dynmap_alloc *alloc, u32 dev, u32 copy)
{
	const struct dynmap_zones *zones = alloc->zones[dev];

	return dynmap_alloc_is_lone(alloc) ? zones[copy].free : zones[0].free + zones[1].free;
}

/* Take @count places of a device, which has them, into the stock of a copy. */
static void dynmap_stock_from_dev(struct dynmap_alloc *alloc, u32 dev, u32 copy, u32 count)
{
	int class = dynmap_dev_class(alloc, dev, copy);

	count = dynmap_stock_from_zones(alloc, &alloc->zones[dev][class], copy, count);
	dynmap_stock_from_zones(alloc, &alloc->zones[dev][!class], copy, count);
}

/* What each device weighs in the turns for nodes: what it has free, if it can give any. */
static void dynmap_node_weights(const struct dynmap_alloc *alloc, bool claim, u64 *weight)
{
	u32 nr = alloc->geo->nr_devs, dev;
	u64 sum = 0;

	for (dev = 0; dev < nr; dev++) {
		weight[dev] = dynmap_dev_places(alloc, dev, 0);
		if (weight[dev] || (claim && alloc->dev_free[dev] >=
					     max_t(u64, alloc->zone_from[dev], DYNMAP_GOOD_RUN)))
			weight[dev] += alloc->dev_free[dev];
		sum += weight[dev];
	}
	/* Of two copies none has more than one. */
	for (dev = 0; dev < nr && alloc->cache->copies > 1; dev++)
		weight[dev] = min(weight[dev], sum - weight[dev]);
}

/* The device whose turn it is to give places, claiming a zone if need be and it may. */
static int dynmap_stock_dev(struct dynmap_alloc *alloc, u32 copy, bool claim, u64 *weight, u32 *dev)
{
	bool lone = dynmap_alloc_is_lone(alloc);
	int ret;

	do {
		*dev = lone ? 0 : dynmap_turns_next(&alloc->node_turns, weight, alloc->geo->nr_devs,
						    0);
		if (*dev == alloc->geo->nr_devs)
			return -ENOSPC;
		weight[*dev] = 0;
		if (dynmap_dev_places(alloc, *dev, copy))
			return 0;
		ret = claim ? dynmap_zone_claim(alloc, *dev, dynmap_dev_class(alloc, *dev, copy),
						lone ? 1 : DYNMAP_GOOD_RUN) : -ENOSPC;
		if (ret == -ENOSPC)
			alloc->zone_from[*dev] = alloc->dev_free[*dev] + DYNMAP_ZONE_BLOCKS;
	} while (ret == -ENOSPC && !lone);
	return ret;
}

/*
 * Take places for a few nodes from the devices whose turn it is, those of each copy from
 * another one. -ENOSPC: too few devices have any; -ENOMEM.
 */
static int dynmap_stock_in_turn(struct dynmap_alloc *alloc, bool claim)
{
	u64 most = min(DYNMAP_STOCK - alloc->cache->nr_stock[0], (u32)DYNMAP_STOCK_CHUNK);
	u32 copies = alloc->cache->copies, copy, dev[2];
	u64 weight[DYNMAP_MAX_DEVICES];
	int ret;

	dynmap_node_weights(alloc, claim, weight);
	for (copy = 0; copy < copies; copy++) {
		ret = dynmap_stock_dev(alloc, copy, claim, weight, &dev[copy]);
		if (ret)
			return ret;
		most = min(most, dynmap_dev_places(alloc, dev[copy], copy));
	}
	for (copy = 0; copy < copies; copy++) {
		dynmap_stock_from_dev(alloc, dev[copy], copy, most);
		dynmap_turns_charge(&alloc->node_turns, dev[copy], most);
	}
	return 0;
}

/*
 * Find zones of a device that have a free place for a copy, beside one that is to be
 * @taken from zones of the same device if @same. -ENOSPC, -ENOMEM.
 */
static int dynmap_zones_find(struct dynmap_alloc *alloc, u32 dev, u32 copy, bool same,
			     const struct dynmap_zones *taken, struct dynmap_zones **zones)
{
	struct dynmap_zones *other = &alloc->zones[dev][!copy];
	int ret;

	*zones = &alloc->zones[dev][copy];
	if ((*zones)->free > (*zones == taken))
		return 0;
	ret = !same && other->free ? -ENOSPC : dynmap_zone_claim(alloc, dev, copy, 1);
	if (ret != -ENOSPC)
		return ret;
	*zones = other;
	return other->free > (other == taken) ? 0 : -ENOSPC;
}

/*
 * The last resort: take places for one node wherever they are, those of two copies on
 * one device from different zones if that can be. -ENOSPC, -ENOMEM.
 */
static int dynmap_stock_anywhere(struct dynmap_alloc *alloc)
{
	u32 nr = alloc->geo->nr_devs, copies = alloc->cache->copies, copy, i, dev, last = nr - 1;
	struct dynmap_zones *from[2] = {};
	int ret = -ENOSPC;

	for (copy = 0; copy < copies; copy++) {
		ret = -ENOSPC;
		/* The device of the other copy comes last. */
		for (i = 1; i <= nr && ret == -ENOSPC; i++) {
			dev = (last + i) % nr;
			ret = dynmap_zones_find(alloc, dev, copy, copy && i == nr, from[0],
						&from[copy]);
		}
		if (ret)
			return ret;
		last = dev;
	}
	for (copy = 0; copy < copies; copy++)
		dynmap_stock_from_zones(alloc, from[copy], copy, 1);
	return 0;
}

int dynmap_stock_fill(struct dynmap_alloc *alloc, u32 nodes, u8 urgent)
{
	bool claim = urgent || dynmap_meta_quarantined(alloc) <= alloc->meta_total / 4;
	int ret = 0;

	while (alloc->cache->nr_stock[0] < nodes && !ret) {
		ret = dynmap_stock_in_turn(alloc, claim);
		if (ret == -ENOSPC && !claim)
			return -EBUSY;
		if (ret == -ENOSPC)
			ret = dynmap_stock_anywhere(alloc);
	}
	return ret;
}
