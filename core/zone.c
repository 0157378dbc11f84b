// SPDX-License-Identifier: GPL-2.0-only
/*
 * Allocator, the part for nodes: zones claimed for metadata, and the stock of places
 * that the node cache takes from. See core/alloc.h. Callers: dm-dynmap-alloc.c;
 * formatting; checkpoints (zones that go back).
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
#include "core/alloc.h"

#define DYNMAP_FIRST_ZONES	64	/* a new pool claims at most that many per copy */
#define DYNMAP_STOCK_CHUNK	8	/* places that a device gives in its turn */
#define DYNMAP_LOOK_CLAIM	16	/* segments looked at for a better zone to claim */
#define DYNMAP_CLAIM_MOST	32	/* zones claimed at once: their records fit into one leaf */
#define DYNMAP_LOOK_EMPTY	64	/* segments looked at in one step for empty zones */

/* Best zone of a segment to claim: 256 for none. *free is its free blocks. */
static u32 dynmap_seg_best_zone(struct dynmap_seg *seg, u32 first, u32 *free)
{
	u32 best = DYNMAP_SEGMENT_ZONES, i, zone, count;

	*free = 0;
	for (i = 0; i < DYNMAP_SEGMENT_ZONES && *free < DYNMAP_ZONE_BLOCKS; i++) {
		zone = (first + i) % DYNMAP_SEGMENT_ZONES;
		if (seg->zone_flags[zone])
			continue;
		count = dynmap_zone_free(seg, zone);
		if (count <= *free)
			continue;
		best = zone;
		*free = count;
	}
	dynmap_seg_room(seg)->zone = *free;
	return best;
}

/**
 * struct dynmap_zone_choice - the best zone to claim so far
 * @seg: its segment
 * @zone: its number there
 * @free: its free blocks, 0: none was found
 */
struct dynmap_zone_choice {
	struct dynmap_seg *seg;
	u32 zone;
	u32 free;
};

/*
 * Find a zone of a device with at least @least free blocks, the best one of a few; copies B of
 * a lone device begin in its middle. If there is none, best->free is less.
 */
static int dynmap_dev_best_zone(struct dynmap_alloc *alloc, u32 dev, int class, u32 least,
				struct dynmap_zone_choice *best, struct dynmap_op *op)
{
	u32 start = 0, first = 0, zone, free, tries;
	struct dynmap_space *space = &alloc->space;
	struct dynmap_seg *seg;
	int ret;

	if (class && dynmap_alloc_is_lone(alloc)) {
		start = space->slots[dev] / 2;
		first = dynmap_zone_of(dynmap_segment_blocks(alloc->geo, start)) / 2;
	}
	for (tries = 0; tries < DYNMAP_LOOK_CLAIM || best->free < least; tries++) {
		ret = dynmap_space_find(space, dev, DYNMAP_NEED_ZONE, DYNMAP_ZONE_BLOCKS,
					best->free, start, &seg, op);
		if (ret)
			return ret == -ENOENT ? 0 : ret;
		zone = dynmap_seg_best_zone(seg, first, &free);
		if (free > best->free)
			*best = (struct dynmap_zone_choice){ seg, zone, free };
	}
	return 0;
}

/* For which copies a zone is claimed; on several devices it serves both. */
static int dynmap_dev_class(const struct dynmap_alloc *alloc, u32 dev, u32 copy)
{
	return dynmap_alloc_is_lone(alloc) ? copy : dev & 1;
}

static u8 dynmap_class_flag(int class)
{
	return class ? DYNMAP_ZONE_META_B : DYNMAP_ZONE_META_A;
}

/* Claim one more zone of a device with at least @least free blocks. -ENOSPC; else as above. */
static int dynmap_dev_claim(struct dynmap_alloc *alloc, u32 dev, int class, u32 least,
			    struct dynmap_op *op)
{
	struct dynmap_zone_choice best = {};
	int ret = 0;

	if (alloc->space.dev_free[dev] >= least)
		ret = dynmap_dev_best_zone(alloc, dev, class, least, &best, op);
	if (ret || best.free < least)
		return ret ? ret : -ENOSPC;
	dynmap_zone_claim(&alloc->space, best.seg, best.zone, dynmap_class_flag(class));
	alloc->space.zones[dev][class].cursor = dynmap_segment_slot(best.seg->number) *
						DYNMAP_SEGMENT_ZONES + best.zone;
	return 0;
}

/*
 * How many zones are claimed at once: an eighth of those that there are, so that the records of
 * many lie in one leaf of the space tree, and random changes, which give up places anywhere,
 * change few of its leaves. One where space is scarce.
 */
static u32 dynmap_claim_count(const struct dynmap_alloc *alloc, u32 dev, u32 class)
{
	u64 claimed = alloc->space.zones[dev][class].blocks / DYNMAP_ZONE_BLOCKS;
	u64 spare = alloc->space.dev_free[dev] / DYNMAP_ZONE_BLOCKS / 64;

	return clamp_t(u64, min(claimed / 8, spare), 1, DYNMAP_CLAIM_MOST);
}

/* Claim a zone as above, and empty ones that follow it in its segment. */
static int dynmap_dev_claim_run(struct dynmap_alloc *alloc, u32 dev, int class, u32 least,
				struct dynmap_op *op)
{
	struct dynmap_space *space = &alloc->space;
	u32 count = dynmap_claim_count(alloc, dev, class), zone;
	struct dynmap_seg *seg;
	int ret = dynmap_dev_claim(alloc, dev, class, least, op);

	if (ret)
		return ret;
	zone = space->zones[dev][class].cursor;
	seg = dynmap_space_seg(space, dynmap_segment_number(dev, zone / DYNMAP_SEGMENT_ZONES));
	for (zone %= DYNMAP_SEGMENT_ZONES; --count && ++zone < DYNMAP_SEGMENT_ZONES; ) {
		if (seg->zone_flags[zone] || dynmap_zone_free(seg, zone) < DYNMAP_ZONE_BLOCKS)
			break;
		dynmap_zone_claim(space, seg, zone, dynmap_class_flag(class));
	}
	return 0;
}

/* Zones that a new pool claims for each copy. */
static u32 dynmap_first_zones(const struct dynmap_alloc *alloc)
{
	u64 zones = alloc->space.total_blocks / 512 / DYNMAP_ZONE_BLOCKS;

	return clamp_t(u64, zones, 1, DYNMAP_FIRST_ZONES);
}

int dynmap_alloc_format(struct dynmap_alloc *alloc, struct dynmap_op *op)
{
	u32 zones = dynmap_first_zones(alloc), copy, i, dev;
	struct dynmap_turns turns = {};
	int ret;

	for (copy = 0; copy < alloc->cache->copies; copy++)
		for (i = 0; i < zones; i++) {
			dev = dynmap_turns_next(&turns, alloc->space.dev_free, alloc->geo->nr_devs,
						DYNMAP_ZONE_BLOCKS / 2);
			/* Nothing of a new pool is read, and nobody waits for a lock. */
			do {
				ret = dynmap_dev_claim(alloc, dev,
						       dynmap_dev_class(alloc, dev, copy), 1, op);
			} while (ret == -ENOMEM && dynmap_space_supply(&alloc->space));
			if (ret)
				return ret;
			dynmap_turns_charge(&turns, dev, DYNMAP_ZONE_BLOCKS);
		}
	return 0;
}

/* The share of some zones in those of a new pool: one zone at least, if they are in use. */
static u32 dynmap_zones_share(const struct dynmap_alloc *alloc, u32 dev, u32 class)
{
	u32 first = dynmap_first_zones(alloc);

	if (dynmap_alloc_is_lone(alloc))
		return first;
	/* Before a second device came the first one had zones for both copies. */
	if (class != (u32)dynmap_dev_class(alloc, dev, 0))
		return 0;
	return max(alloc->cache->copies * first / alloc->geo->nr_devs, 1U);
}

/*
 * Are there more zones than twice what their nodes need, so that zones are not claimed again in
 * each epoch, and than their share? Those of each device and copy have their own, so that the
 * copies of nodes find places on different devices, or far apart, also when data has taken all
 * others.
 */
static bool dynmap_zones_are_many(const struct dynmap_alloc *alloc, u32 dev, u32 class)
{
	const struct dynmap_zones *zones = &alloc->space.zones[dev][class];
	u64 used = zones->blocks - zones->free;

	return zones->blocks > 2 * used &&
	       zones->blocks > (u64)dynmap_zones_share(alloc, dev, class) * DYNMAP_ZONE_BLOCKS;
}

/*
 * May one more zone be busy until the next checkpoint is durable? What all that is under way or
 * may begin needs stays free, and as much again as is in quarantine.
 */
static bool dynmap_zone_may_go(const struct dynmap_alloc *alloc)
{
	u64 kept = dynmap_alloc_owed(alloc) + dynmap_alloc_dead_list(alloc) + alloc->floor +
		   alloc->quarantined + DYNMAP_ZONE_BLOCKS;

	return dynmap_alloc_places(alloc) > kept;
}

bool dynmap_zones_may_go(const struct dynmap_alloc *alloc)
{
	u32 dev, class;

	for (dev = 0; dev < alloc->geo->nr_devs; dev++)
		for (class = 0; class < 2; class++)
			if (alloc->space.zones[dev][class].empty &&
			    dynmap_zones_are_many(alloc, dev, class))
				return dynmap_zone_may_go(alloc);
	return false;
}

/* An empty zone is one of data from the next checkpoint on. */
static void dynmap_zone_give_back(struct dynmap_alloc *alloc, struct dynmap_seg *seg, u32 zone)
{
	u32 index = zone << DYNMAP_ZONE_SHIFT, i;
	u64 pbn = dynmap_segment_pbn(seg->number) + index;

	dynmap_seg_occupy(&alloc->space, seg, index, DYNMAP_ZONE_BLOCKS);
	dynmap_zone_disclaim(&alloc->space, seg, zone);
	/* Nodes that dead extents gave up, or that were read late, after they had left. */
	for (i = 0; i < DYNMAP_ZONE_BLOCKS; i++)
		dynmap_cache_forget(alloc->cache, pbn + i);
	alloc->quarantined += DYNMAP_ZONE_BLOCKS;
	dynmap_runlist_add(alloc->cache, &alloc->late_freed, pbn, DYNMAP_ZONE_BLOCKS, 0);
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
			dynmap_seg_put_back(&alloc->space, dynmap_space_seg_of(&alloc->space, pbn),
					    dynmap_pbn_index(pbn), 1);
		}
}

/* May one more of these zones go back, if it is empty? */
static bool dynmap_zones_go_on(const struct dynmap_alloc *alloc, u32 dev, u32 class)
{
	return alloc->space.zones[dev][class].empty && dynmap_zones_are_many(alloc, dev, class) &&
	       alloc->cache->nr_spare && dynmap_zone_may_go(alloc);
}

/* Empty zones of a segment go back, the last ones first: new nodes go to the first ones. */
static void dynmap_seg_give_back(struct dynmap_alloc *alloc, struct dynmap_seg *seg, u32 dev,
				 u32 class)
{
	u32 zone = DYNMAP_SEGMENT_ZONES, left = 0;

	while (zone--) {
		if (!seg->zone_flags[zone] || dynmap_zone_class(seg->zone_flags[zone]) != class ||
		    dynmap_zone_free(seg, zone) < DYNMAP_ZONE_BLOCKS)
			continue;
		if (dynmap_zones_go_on(alloc, dev, class))
			dynmap_zone_give_back(alloc, seg, zone);
		else
			left++;
	}
	if (!left)
		dynmap_seg_room(seg)->flags &= ~(DYNMAP_NEED_EMPTY_A << class);
}

/* Empty zones of a device go back; *@most segments are looked at. */
static int dynmap_zones_shrink(struct dynmap_alloc *alloc, u32 dev, u32 class, u32 *most,
			       struct dynmap_op *op)
{
	struct dynmap_space *space = &alloc->space;
	struct dynmap_seg *seg;
	int ret;

	for (; *most && dynmap_zones_go_on(alloc, dev, class); --*most) {
		ret = dynmap_space_find(space, dev, DYNMAP_NEED_EMPTY_A << class, 1, 0, 0, &seg,
					op);
		if (ret)
			return ret == -ENOENT ? 0 : ret;
		dynmap_seg_give_back(alloc, seg, dev, class);
	}
	/* New nodes go to the first ones, so that the others become empty. */
	space->zones[dev][class].cursor = 0;
	return 0;
}

bool dynmap_zones_count(struct dynmap_alloc *alloc)
{
	bool many = false;
	u32 dev, class;

	for (dev = 0; dev < alloc->geo->nr_devs; dev++)
		for (class = 0; class < 2; class++)
			many |= dynmap_zones_are_many(alloc, dev, class);
	if (many)
		dynmap_stock_empty(alloc);
	return many;
}

int dynmap_zones_give_back(struct dynmap_alloc *alloc, struct dynmap_op *op)
{
	u32 most = DYNMAP_LOOK_EMPTY, dev, class;
	int ret = 0;

	if (!dynmap_zones_count(alloc))
		return 0;
	for (dev = 0; dev < alloc->geo->nr_devs && !ret; dev++)
		for (class = 0; class < 2 && !ret; class++)
			if (dynmap_zones_are_many(alloc, dev, class))
				ret = dynmap_zones_shrink(alloc, dev, class, &most, op);
	return ret;
}

/**
 * struct dynmap_spot - where a device has free places for nodes
 * @seg: in this segment
 * @zone: in this zone
 * @free: so many
 */
struct dynmap_spot {
	struct dynmap_seg *seg;
	u32 zone;
	u32 free;
};

/* The first zone of a segment, from @zone on, with free places. */
static void dynmap_seg_spot(struct dynmap_seg *seg, u32 zone, u32 class,
			    struct dynmap_spot *spot)
{
	*spot = (struct dynmap_spot){ .seg = seg };
	for (; zone < DYNMAP_SEGMENT_ZONES; zone++) {
		if (!seg->zone_flags[zone] || dynmap_zone_class(seg->zone_flags[zone]) != class)
			continue;
		spot->zone = zone;
		spot->free = dynmap_zone_free(seg, zone);
		if (spot->free)
			break;
	}
}

/* Find free places in zones of one kind, going on where the last ones were. -ENOENT: none. */
static int dynmap_zones_spot(struct dynmap_alloc *alloc, u32 dev, u32 class,
			     struct dynmap_spot *spot, struct dynmap_op *op)
{
	struct dynmap_space *space = &alloc->space;
	struct dynmap_zones *zones = &space->zones[dev][class];
	u8 need = DYNMAP_NEED_NODE_A << class;
	struct dynmap_seg *seg;
	u32 at, from, slot;
	int ret;

	while (zones->free) {
		at = zones->cursor / DYNMAP_SEGMENT_ZONES % space->slots[dev];
		from = zones->cursor % DYNMAP_SEGMENT_ZONES;
		ret = dynmap_space_find(space, dev, need, 1, 0, at, &seg, op);
		if (ret)
			return ret;
		slot = dynmap_segment_slot(seg->number);
		if (slot != at)
			from = 0;
		dynmap_seg_spot(seg, from, class, spot);
		if (spot->free) {
			zones->cursor = slot * DYNMAP_SEGMENT_ZONES + spot->zone;
			return 0;
		}
		zones->cursor = (slot + 1) % space->slots[dev] * DYNMAP_SEGMENT_ZONES;
		if (!from)
			dynmap_seg_room(seg)->flags &= ~need;
	}
	return -ENOENT;
}

/* Take up to @most free places into the stock of a copy, lowest on top. */
static void dynmap_stock_from(struct dynmap_alloc *alloc, u32 copy, const struct dynmap_spot *spot,
			      u32 most)
{
	struct dynmap_cache *cache = alloc->cache;
	u32 word = spot->zone * DYNMAP_ZONE_WORDS, end = word + DYNMAP_ZONE_WORDS;
	u32 low = cache->nr_stock[copy], high, i;
	struct dynmap_seg *seg = spot->seg;
	u64 *stock = cache->stock[copy];
	u64 bits;

	for (; word < end; word++) {
		for (bits = ~seg->busy[word]; bits; bits &= bits - 1) {
			if (cache->nr_stock[copy] - low == most)
				break;
			stock[cache->nr_stock[copy]++] = dynmap_segment_pbn(seg->number) +
							 word * 64 + __ffs64(bits);
		}
	}
	high = cache->nr_stock[copy];
	for (i = low; i < high; i++)
		dynmap_seg_occupy(&alloc->space, seg, dynmap_pbn_index(stock[i]), 1);
	for (; low + 1 < high; low++, high--)
		swap(stock[low], stock[high - 1]);
}

/* Free places of a device for a copy. */
static u64 dynmap_dev_places(const struct dynmap_alloc *alloc, u32 dev, u32 copy)
{
	const struct dynmap_zones *zones = alloc->space.zones[dev];

	return dynmap_alloc_is_lone(alloc) ? zones[copy].free : zones[0].free + zones[1].free;
}

/* Find free places of a device, which has some, for a copy. */
static int dynmap_dev_spot(struct dynmap_alloc *alloc, u32 dev, u32 copy, struct dynmap_spot *spot,
			   struct dynmap_op *op)
{
	int class = dynmap_dev_class(alloc, dev, copy);
	int ret = dynmap_zones_spot(alloc, dev, class, spot, op);

	return ret == -ENOENT ? dynmap_zones_spot(alloc, dev, !class, spot, op) : ret;
}

/* What each device weighs in the turns for nodes: what it has free, if it can give any. */
static void dynmap_node_weights(const struct dynmap_alloc *alloc, bool claim, u64 *weight)
{
	u32 nr = alloc->geo->nr_devs, dev;
	u64 sum = 0;

	for (dev = 0; dev < nr; dev++) {
		weight[dev] = dynmap_dev_places(alloc, dev, 0);
		if (weight[dev] || (claim && alloc->space.dev_free[dev] >=
					     max_t(u64, alloc->zone_from[dev], DYNMAP_GOOD_RUN)))
			weight[dev] += alloc->space.dev_free[dev];
		sum += weight[dev];
	}
	/* Of two copies none has more than one. */
	for (dev = 0; dev < nr && alloc->cache->copies > 1; dev++)
		weight[dev] = min(weight[dev], sum - weight[dev]);
}

/* The device whose turn it is to give places, claiming a zone if need be and it may. */
static int dynmap_stock_dev(struct dynmap_alloc *alloc, u32 copy, bool claim, u64 *weight, u32 *dev,
			    struct dynmap_op *op)
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
		ret = claim ? dynmap_dev_claim_run(alloc, *dev, dynmap_dev_class(alloc, *dev, copy),
						   lone ? 1 : DYNMAP_GOOD_RUN, op) : -ENOSPC;
		if (ret == -ENOSPC)
			alloc->zone_from[*dev] = alloc->space.dev_free[*dev] + DYNMAP_ZONE_BLOCKS;
	} while (ret == -ENOSPC && !lone);
	return ret;
}

/*
 * Take places for a few nodes from the devices whose turn it is, those of each copy from
 * another one. -ENOSPC: too few devices have any; as dynmap_space_load().
 */
static int dynmap_stock_in_turn(struct dynmap_alloc *alloc, bool claim, struct dynmap_op *op)
{
	u32 most = min(DYNMAP_STOCK - alloc->cache->nr_stock[0], (u32)DYNMAP_STOCK_CHUNK);
	u32 copies = alloc->cache->copies, copy, dev[2];
	struct dynmap_turns before = alloc->node_turns;
	u64 weight[DYNMAP_MAX_DEVICES];
	struct dynmap_spot spot[2];
	int ret = 0;

	dynmap_node_weights(alloc, claim, weight);
	for (copy = 0; copy < copies && !ret; copy++) {
		ret = dynmap_stock_dev(alloc, copy, claim, weight, &dev[copy], op);
		if (!ret)
			ret = dynmap_dev_spot(alloc, dev[copy], copy, &spot[copy], op);
		if (!ret)
			most = min(most, spot[copy].free);
	}
	/* Called again it needs the same bitmaps: what one call has loaded the next one finds. */
	if (ret == -EAGAIN || ret == -ENOMEM)
		alloc->node_turns = before;
	/* Places that a device seemed to have are lost. */
	if (ret)
		return ret == -ENOENT ? -ENOSPC : ret;
	for (copy = 0; copy < copies; copy++) {
		dynmap_stock_from(alloc, copy, &spot[copy], most);
		dynmap_turns_charge(&alloc->node_turns, dev[copy], most);
	}
	return 0;
}

/*
 * Find a free place of a device for a copy, in its own zones if that can be; if the other
 * copy is on the @same device a zone is claimed before one of that copy is used. -ENOSPC;
 * as dynmap_space_load().
 */
static int dynmap_dev_any_spot(struct dynmap_alloc *alloc, u32 dev, u32 copy, bool same,
			       struct dynmap_spot *spot, struct dynmap_op *op)
{
	int ret;

	if (!alloc->space.slots[dev])
		return -ENOSPC;
	ret = dynmap_zones_spot(alloc, dev, copy, spot, op);
	if (ret != -ENOENT)
		return ret;
	if (same || !alloc->space.zones[dev][!copy].free) {
		ret = dynmap_dev_claim(alloc, dev, copy, 1, op);
		if (!ret)
			ret = dynmap_zones_spot(alloc, dev, copy, spot, op);
		if (ret != -ENOSPC)
			return ret;
	}
	ret = dynmap_zones_spot(alloc, dev, !copy, spot, op);
	return ret == -ENOENT ? -ENOSPC : ret;
}

/*
 * The last resort: take places for one node wherever they are, those of two copies on
 * one device from different zones if that can be. -ENOSPC; as dynmap_space_load().
 */
static int dynmap_stock_anywhere(struct dynmap_alloc *alloc, struct dynmap_op *op)
{
	u32 nr = alloc->geo->nr_devs, copies = alloc->cache->copies;
	u32 copy, i, dev = 0, last = nr - 1;
	struct dynmap_cache *cache = alloc->cache;
	struct dynmap_spot spot;
	int ret = 0;
	u64 pbn;

	for (copy = 0; copy < copies && !ret; copy++) {
		ret = -ENOSPC;
		/* The device of the other copy comes last. */
		for (i = 1; i <= nr && ret == -ENOSPC; i++) {
			dev = (last + i) % nr;
			ret = dynmap_dev_any_spot(alloc, dev, copy, copy && i == nr, &spot, op);
		}
		last = dev;
		if (!ret)
			dynmap_stock_from(alloc, copy, &spot, 1);
	}
	/* The stocks of both copies stay alike. */
	if (ret && cache->nr_stock[0] > cache->nr_stock[copies - 1]) {
		pbn = cache->stock[0][--cache->nr_stock[0]];
		dynmap_seg_put_back(&alloc->space, dynmap_space_seg_of(&alloc->space, pbn),
				    dynmap_pbn_index(pbn), 1);
	}
	return ret;
}

int dynmap_stock_fill(struct dynmap_alloc *alloc, u32 nodes, struct dynmap_op *op)
{
	bool claim = op->urgent || dynmap_meta_quarantined(alloc) <= alloc->space.meta_total / 4;
	int ret = 0;

	while (alloc->cache->nr_stock[0] < nodes && !ret) {
		ret = dynmap_stock_in_turn(alloc, claim, op);
		if (ret == -ENOSPC && !claim)
			return -EBUSY;
		if (ret == -ENOSPC)
			ret = dynmap_stock_anywhere(alloc, op);
	}
	return ret;
}
