// SPDX-License-Identifier: GPL-2.0-only
/*
 * Allocator, see core/alloc.h; zones of metadata are in core/zone.c.
 * Callers: families and table (data), checkpoints, growth, opening, every operation by
 * dynmap_alloc_reserve().
 *
 * The allocator keeps its bitmaps in the space tree, whose nodes it allocates
 * itself. The circle is cut in two places: the node cache takes places from a
 * stock filled beforehand and only notes what it took (events), and a
 * checkpoint puts records until none is out of date, which ends because a
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
#include "core/alloc.h"

#define DYNMAP_MIN_FLOOR	512	/* but for tiny pools: several steps of a deletion */
#define DYNMAP_MAX_FLOOR	65536	/* more than the nodes that an epoch changes */
#define DYNMAP_TURN_BLOCKS	16	/* what has no goal stays on a device for so many */
#define DYNMAP_FAIR_PART	4	/* such a part of what is wanted is enough in one's turn */
#define DYNMAP_LOOK_PIECE	4	/* segments that a hold looks at for a piece of its own */
#define DYNMAP_LOOK_RUN		16	/* segments looked at for a longer run than was found */

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
		   alloc->space.free_blocks - alloc->space.meta_free);
}

/*
 * Of those, blocks that data may take before the next checkpoint: nodes have to be left, too,
 * and @promised ones in addition.
 */
static u64 dynmap_alloc_data_now(const struct dynmap_alloc *alloc, u64 promised)
{
	u64 kept = dynmap_alloc_kept(alloc, 0) + dynmap_alloc_owed(alloc) +
		   dynmap_alloc_dead_list(alloc) + promised * alloc->cache->copies;
	u64 places = dynmap_alloc_places(alloc);

	return min(places > kept ? places - kept : 0, dynmap_alloc_data_free(alloc));
}

u64 dynmap_alloc_node_free(const struct dynmap_alloc *alloc)
{
	return dynmap_alloc_beyond(alloc, dynmap_alloc_kept(alloc, 0));
}

static void dynmap_alloc_set_floor(struct dynmap_alloc *alloc)
{
	u64 least = min_t(u64, alloc->space.total_blocks / 8, DYNMAP_MIN_FLOOR);

	alloc->floor = min_t(u64, least + alloc->space.total_blocks / 512, DYNMAP_MAX_FLOOR);
}

int dynmap_alloc_init(struct dynmap_alloc *alloc, struct dynmap_cache *cache,
		      const struct dynmap_disk_root *root)
{
	int ret;

	memset(alloc, 0, sizeof(*alloc));
	alloc->cache = cache;
	alloc->geo = cache->geo;
	dynmap_runlist_init(&alloc->freed);
	dynmap_runlist_init(&alloc->committing);
	dynmap_runlist_init(&alloc->quarantine);
	dynmap_runlist_init(&alloc->meta_freed);
	dynmap_runlist_init(&alloc->meta_sealed);
	dynmap_runlist_init(&alloc->late_freed);
	dynmap_runlist_init(&alloc->late_sealed);
	ret = dynmap_space_init(&alloc->space, cache, root);
	dynmap_alloc_set_floor(alloc);
	return ret;
}

void dynmap_alloc_exit(struct dynmap_alloc *alloc)
{
	struct dynmap_runlist *lists[] = {
		&alloc->freed, &alloc->committing, &alloc->quarantine, &alloc->meta_freed,
		&alloc->meta_sealed, &alloc->late_freed, &alloc->late_sealed
	};
	struct dynmap_buf *buf;
	u32 i, count;

	if (!alloc->cache)
		return;
	for (i = 0; i < ARRAY_SIZE(lists); i++)
		while ((buf = dynmap_runlist_pop(lists[i], &count)))
			dynmap_buf_free(buf);
	dynmap_space_exit(&alloc->space);
	memset(alloc, 0, sizeof(*alloc));
}

int dynmap_alloc_open(struct dynmap_alloc *alloc, u64 data, struct dynmap_op *op)
{
	int ret = dynmap_space_open(&alloc->space, op);

	if (ret)
		return ret;
	alloc->data_allocated = data;
	alloc->meta_allocated = dynmap_space_allocated(&alloc->space);
	if (data > alloc->meta_allocated) {
		dynmap_err("superblock: more data blocks than allocated ones");
		return -EUCLEAN;
	}
	alloc->meta_allocated -= data;
	return 0;
}

void dynmap_alloc_grow_end(struct dynmap_alloc *alloc, u32 dev, struct dynmap_parts **top)
{
	dynmap_space_grow_end(&alloc->space, dev, top);
	dynmap_alloc_set_floor(alloc);
}

/* Does a node lie in this block of a segment, as far as bitmaps tell? */
static bool dynmap_seg_has_node(const struct dynmap_seg *seg, u32 index)
{
	return seg->zone_flags[dynmap_zone_of(index)] &&
	       dynmap_bits_count(seg->allocated, index, 1);
}

/* Is it known that no node can lie there? */
static bool dynmap_place_is_no_node(const struct dynmap_alloc *alloc, u64 pbn)
{
	const struct dynmap_seg *seg = dynmap_space_seg_of(&alloc->space, pbn);

	return seg && !dynmap_seg_has_node(seg, dynmap_pbn_index(pbn));
}

void dynmap_alloc_insert(struct dynmap_alloc *alloc, struct dynmap_buf *buf)
{
	dynmap_space_shrink(&alloc->space);
	buf->misplaced = dynmap_place_is_no_node(alloc, buf->pbn[0]) ||
			 (buf->pbn[1] != DYNMAP_PBN_NONE &&
			  dynmap_place_is_no_node(alloc, buf->pbn[1]));
	/* Nothing is written to where it says that its other copy is. */
	if (buf->misplaced && buf->heal) {
		dynmap_buf_free(buf->heal);
		buf->heal = NULL;
	}
	dynmap_cache_insert(alloc->cache, buf);
}

/* Can both copies of a node be written anew where it says that they are? */
static int dynmap_heal_check(struct dynmap_alloc *alloc, const struct dynmap_buf *buf,
			     struct dynmap_op *op)
{
	struct dynmap_seg *seg;
	u32 copy;
	int ret;

	for (copy = 0; copy < 2 && buf->pbn[copy] != DYNMAP_PBN_NONE; copy++) {
		ret = dynmap_space_load(&alloc->space, dynmap_pbn_segment(buf->pbn[copy]), &seg,
					op);
		if (ret)
			return ret;
		if (!dynmap_seg_has_node(seg, dynmap_pbn_index(buf->pbn[copy])))
			return -EUCLEAN;
	}
	return 0;
}

int dynmap_alloc_check_heal(struct dynmap_alloc *alloc, struct dynmap_op *op)
{
	struct dynmap_cache *cache = alloc->cache;
	struct dynmap_buf *buf, *next;
	int ret;

	list_for_each_entry_safe(buf, next, &cache->heal, list) {
		ret = dynmap_heal_check(alloc, buf, op);
		if (ret == -EAGAIN || ret == -ENOMEM)
			return ret;
		if (!ret)
			continue;
		list_del(&buf->list);
		cache->nr_heal--;
		dynmap_buf_free(buf);
	}
	return 0;
}

void dynmap_alloc_reset_busy(struct dynmap_alloc *alloc)
{
	struct dynmap_cache *cache = alloc->cache;
	struct dynmap_buf *buf;
	struct dynmap_seg *seg;
	u32 i, count, copy;
	u64 pbn;

	while ((buf = dynmap_runlist_pop(&alloc->freed, &count)))
		dynmap_cache_add_spare(cache, buf);
	while ((buf = dynmap_runlist_pop(&alloc->quarantine, &count)))
		dynmap_cache_add_spare(cache, buf);
	alloc->quarantined = 0;
	list_for_each_entry(seg, &alloc->space.segs, list)
		dynmap_seg_reset_busy(&alloc->space, seg);
	for (copy = 0; copy < 2; copy++)
		for (i = 0; i < cache->nr_stock[copy]; i++) {
			pbn = cache->stock[copy][i];
			dynmap_seg_occupy(&alloc->space, dynmap_space_seg_of(&alloc->space, pbn),
					  dynmap_pbn_index(pbn), 1);
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
		if (!dynmap_place_is_no_node(alloc, pbn))
			continue;
		dynmap_err("block %llu is given up, and is no node",
			   (unsigned long long)pbn);
		return false;
	}
	return true;
}

/*
 * What the node cache took or gave up is in segments that are in memory, or lost: then it is
 * not free before the pool is repaired.
 */
static void dynmap_alloc_learn(struct dynmap_alloc *alloc, const struct dynmap_run *run)
{
	struct dynmap_seg *seg = dynmap_space_seg_of(&alloc->space, run->pbn);
	bool taken = run->flags == DYNMAP_RUN_TAKEN;

	if (!taken) {
		alloc->cache->given_up -= run->len;
		if (!seg || !dynmap_run_is_given_up(alloc, run))
			return;
	}
	dynmap_seg_mark(&alloc->space, seg, dynmap_pbn_index(run->pbn), run->len, taken);
	if (taken) {
		alloc->meta_allocated += run->len;
		return;
	}
	alloc->meta_allocated -= run->len;
	dynmap_runlist_add(alloc->cache, &alloc->meta_freed, run->pbn, run->len, 0);
}

int dynmap_alloc_drain(struct dynmap_alloc *alloc, struct dynmap_op *op)
{
	struct dynmap_cache *cache = alloc->cache;
	const struct dynmap_run *run;
	struct dynmap_buf *buf;
	struct dynmap_seg *seg;
	u32 count, i;
	int ret;

	while (!list_empty(&cache->events.bufs)) {
		if (!cache->nr_spare)
			return -ENOMEM;
		buf = list_first_entry(&cache->events.bufs, struct dynmap_buf, list);
		count = dynmap_runlist_runs(buf, &run);
		for (i = 0; i < count; i++) {
			ret = dynmap_space_load(&alloc->space, dynmap_pbn_segment(run[i].pbn), &seg,
						op);
			if (ret && ret != -EUCLEAN)
				return ret;
		}
		buf = dynmap_runlist_pop(&cache->events, &count);
		for (i = 0; i < count; i++)
			dynmap_alloc_learn(alloc, &run[i]);
		dynmap_cache_add_spare(cache, buf);
	}
	return 0;
}

/* Will a checkpoint make room because what it enters is no longer owed then? */
static bool dynmap_alloc_is_owing(const struct dynmap_alloc *alloc, u32 nodes, u8 urgent)
{
	u64 least = dynmap_alloc_owed_least(alloc) +
		    dynmap_dead_list_owed(alloc->cache) * alloc->cache->copies;
	u64 kept = dynmap_alloc_kept(alloc, urgent);

	if (urgent < DYNMAP_URGENT_DEAD_LIST)
		kept += dynmap_alloc_dead_list(alloc);
	return dynmap_alloc_owed(alloc) > least &&
	       dynmap_alloc_places(alloc) >= least + kept + nodes * alloc->cache->copies;
}

int dynmap_alloc_no_room(const struct dynmap_alloc *alloc, u32 nodes, u8 urgent)
{
	if (urgent < DYNMAP_URGENT_CHECKPOINT &&
	    (dynmap_meta_quarantined(alloc) || alloc->cache->given_up ||
	     dynmap_alloc_dead_list_move(alloc) || dynmap_alloc_is_owing(alloc, nodes, urgent)))
		return -EBUSY;
	return -ENOSPC;
}

__hot int dynmap_alloc_reserve(struct dynmap_alloc *alloc, u32 nodes, u32 bufs,
			       struct dynmap_op *op)
{
	struct dynmap_cache *cache = alloc->cache;
	int ret = 0;

	if (cache->events.blocks > DYNMAP_STOCK)
		ret = dynmap_alloc_drain(alloc, op);
	if (ret)
		return ret;
	if (!dynmap_alloc_room(alloc, nodes, op->urgent))
		ret = -ENOSPC;
	if (!ret && cache->nr_stock[0] < nodes)
		ret = dynmap_stock_fill(alloc, nodes, op);
	if (ret == -ENOSPC)
		return dynmap_alloc_no_room(alloc, nodes, op->urgent);
	return ret ? ret : dynmap_cache_reserve(cache, nodes, bufs);
}

/*
 * Search one device for @want consecutive blocks, beginning where its last allocation was.
 * Keeps the longest run found in *pbn and *len, which *len tells of before. If it looks in
 * vain in @most segments it goes on only as long as nothing is found.
 */
static int dynmap_dev_search(struct dynmap_alloc *alloc, u32 dev, u32 want, u32 most, u64 *pbn,
			     u32 *len, struct dynmap_op *op)
{
	u32 piece = dynmap_alloc_piece(alloc), at = 0, found;
	struct dynmap_seg *seg;
	int ret;

	while (*len < want && (most || !*len)) {
		ret = dynmap_space_find(&alloc->space, dev, DYNMAP_NEED_RUN, want, *len,
					alloc->cursor[dev], &seg, op);
		if (ret)
			return ret == -ENOENT ? 0 : ret;
		most -= most > 0;
		found = dynmap_seg_search(seg, want, piece, &at);
		if (found <= *len)
			continue;
		*len = found;
		*pbn = dynmap_segment_pbn(seg->number) + at;
		if (found == want)
			alloc->cursor[dev] = dynmap_segment_slot(seg->number);
	}
	return 0;
}

/* The device whose turn it is to give data blocks. */
static u32 dynmap_data_turn(struct dynmap_alloc *alloc)
{
	struct dynmap_turns *turns = &alloc->data_turns;
	u32 nr = alloc->geo->nr_devs;

	if (!dynmap_alloc_is_lone(alloc) &&
	    (turns->given >= DYNMAP_TURN_BLOCKS || !alloc->space.dev_free[turns->last]))
		dynmap_turns_next(turns, alloc->space.dev_free, nr, DYNMAP_PIECE_BLOCKS / 2);
	return turns->last;
}

/*
 * Search all devices, the one whose turn it is first. If that has a shorter run than is
 * wanted, but not a short one, the run is taken: fairness is worth some map records.
 */
static int dynmap_alloc_search(struct dynmap_alloc *alloc, u32 want, u64 *pbn, u32 *len,
			       struct dynmap_op *op)
{
	u32 nr = alloc->geo->nr_devs, first = dynmap_data_turn(alloc), enough, dev, i;
	int ret;

	*len = 0;
	want = min(want, dynmap_alloc_piece(alloc));
	enough = max(want / DYNMAP_FAIR_PART, min_t(u32, want, DYNMAP_GOOD_RUN));
	for (i = 0; i < nr && *len < enough; i++) {
		dev = (first + i) % nr;
		if (!alloc->space.slots[dev])
			continue;
		ret = dynmap_dev_search(alloc, dev, want, DYNMAP_LOOK_RUN, pbn, len, op);
		if (ret)
			return ret;
	}
	if (*len && dynmap_pbn_dev(*pbn) != first)
		dynmap_turns_pass(&alloc->data_turns, first, *len);
	return 0;
}

/* The free run at a goal, up to the end of the piece that it lies in; its length to *len. */
static int dynmap_goal_run(struct dynmap_alloc *alloc, u64 goal, u32 want, u32 *len,
			   struct dynmap_op *op)
{
	u32 segment = dynmap_pbn_segment(goal), index = dynmap_pbn_index(goal);
	u32 left = dynmap_piece_left(index, dynmap_alloc_piece(alloc));
	struct dynmap_seg *seg;
	int ret;

	*len = 0;
	/* Where a piece begins, another one was filled. */
	if (left == DYNMAP_PIECE_BLOCKS && !dynmap_alloc_is_lone(alloc))
		return 0;
	/* While a device grows, the geometry knows segments that are not yet used. */
	if (goal == DYNMAP_PBN_NONE || !dynmap_pbn_valid(alloc->geo, goal, 1) ||
	    dynmap_segment_slot(segment) >= alloc->space.slots[dynmap_segment_dev(segment)])
		return 0;
	ret = dynmap_space_load(&alloc->space, segment, &seg, op);
	if (!ret)
		*len = dynmap_seg_run(seg, index, min(want, left));
	return ret == -EUCLEAN ? 0 : ret;
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
	    dynmap_segment_slot(segment) >= alloc->space.slots[dev])
		return false;
	seg = dynmap_space_seg(&alloc->space, segment);
	if (!seg || !(dynmap_seg_free_bits(seg, index >> 6) & bit))
		return false;
	seg->busy[index >> 6] |= bit;
	dynmap_seg_go_on(alloc, seg, index, 1, true);
	seg->free--;
	alloc->space.free_blocks--;
	alloc->space.dev_free[dev]--;
	dynmap_turns_charge(&alloc->data_turns, dev, 1);
	return true;
}

/* A free piece of the device whose turn it is, not far from where data went last. */
static int dynmap_piece_search(struct dynmap_alloc *alloc, u64 *pbn, u32 *len,
			       struct dynmap_op *op)
{
	*len = DYNMAP_PIECE_BLOCKS - 1;	/* nothing shorter will do */
	return dynmap_dev_search(alloc, dynmap_data_turn(alloc), DYNMAP_PIECE_BLOCKS,
				 DYNMAP_LOOK_PIECE, pbn, len, op);
}

/*
 * Find free data blocks: at the goal, else elsewhere; none: *@len is 0. Who comes @again for
 * what follows them then gets a piece of its own. *@own: how many blocks from *@pbn on are its
 * own, those behind *@len included.
 */
static int dynmap_alloc_find(struct dynmap_alloc *alloc, u64 goal, u32 want, bool again,
			     u64 *pbn, u32 *len, u32 *own, struct dynmap_op *op)
{
	int ret;

	*pbn = goal;
	ret = dynmap_goal_run(alloc, goal, want, len, op);
	*own = *len;
	if (ret || *len >= min_t(u32, want, DYNMAP_GOOD_RUN))
		return ret;
	if (again && goal != DYNMAP_PBN_NONE && !dynmap_alloc_is_lone(alloc)) {
		ret = dynmap_piece_search(alloc, pbn, own, op);
		if (ret)
			return ret;
		*len = min_t(u32, want, DYNMAP_PIECE_BLOCKS);
		if (*own == DYNMAP_PIECE_BLOCKS)
			return 0;
	}
	ret = dynmap_alloc_search(alloc, want, pbn, len, op);
	*own = *len;
	return ret;
}

/* Why there are no data blocks to be had. */
static int dynmap_alloc_no_data(const struct dynmap_alloc *alloc)
{
	bool soon;

	if (alloc->promised && dynmap_alloc_data_now(alloc, 0))
		return -EINPROGRESS;
	soon = alloc->quarantined || dynmap_alloc_dead_list_move(alloc) ||
	       dynmap_zones_may_go(alloc) || dynmap_alloc_data_free(alloc);
	return soon ? -EBUSY : -ENOSPC;
}

/* Make free data blocks busy, see dynmap_alloc_find(). */
static __always_inline int dynmap_alloc_give(struct dynmap_alloc *alloc, u64 goal, u32 want,
					     bool again, u64 *pbn, u32 *len, struct dynmap_op *op)
{
	struct dynmap_seg *seg;
	u32 index, own;
	int ret;

	want = min_t(u64, want, dynmap_alloc_data_now(alloc, alloc->promised));
	if (!want)
		return dynmap_alloc_no_data(alloc);
	if (want == 1 && dynmap_hold_next(alloc, goal)) {
		*pbn = goal;
		*len = 1;
		return 0;
	}
	ret = dynmap_alloc_find(alloc, goal, want, again, pbn, len, &own, op);
	if (ret)
		return ret;
	if (!*len)
		return dynmap_alloc_no_data(alloc);
	seg = dynmap_space_seg_of(&alloc->space, *pbn);
	index = dynmap_pbn_index(*pbn);
	dynmap_seg_occupy(&alloc->space, seg, index, *len);
	dynmap_turns_charge(&alloc->data_turns, dynmap_pbn_dev(*pbn), *len);
	dynmap_seg_go_on(alloc, seg, index, own, *pbn == goal || own == DYNMAP_PIECE_BLOCKS);
	return 0;
}

__hot int dynmap_alloc_hold(struct dynmap_alloc *alloc, u64 goal, u32 want, u64 *pbn, u32 *len,
			    struct dynmap_op *op)
{
	return dynmap_alloc_give(alloc, goal, want, true, pbn, len, op);
}

__hot void dynmap_alloc_take_held(struct dynmap_alloc *alloc, u64 pbn, u32 len)
{
	dynmap_seg_mark(&alloc->space, dynmap_space_seg_of(&alloc->space, pbn),
			dynmap_pbn_index(pbn), len, true);
	alloc->data_allocated += len;
}

void dynmap_alloc_unhold(struct dynmap_alloc *alloc, u64 pbn, u32 len)
{
	if (len)
		dynmap_seg_vacate(&alloc->space, dynmap_space_seg_of(&alloc->space, pbn),
				  dynmap_pbn_index(pbn), len);
}

int dynmap_alloc_data(struct dynmap_alloc *alloc, u64 goal, u32 want, u64 *pbn, u32 *len,
		      struct dynmap_op *op)
{
	int ret = dynmap_alloc_give(alloc, goal, want, false, pbn, len, op);

	if (!ret)
		dynmap_alloc_take_held(alloc, *pbn, *len);
	return ret;
}

int dynmap_alloc_data_at(struct dynmap_alloc *alloc, u64 pbn, u32 len, struct dynmap_op *op)
{
	struct dynmap_seg *seg;
	u32 index = dynmap_pbn_index(pbn);
	int ret;

	if (!dynmap_pbn_valid(alloc->geo, pbn, len))
		return -EUCLEAN;
	ret = dynmap_space_load(&alloc->space, dynmap_pbn_segment(pbn), &seg, op);
	if (ret)
		return ret;
	if (dynmap_bits_count(seg->allocated, index, len)) {
		dynmap_err("blocks %llu+%u are allocated twice", (unsigned long long)pbn, len);
		return -EUCLEAN;
	}
	dynmap_seg_occupy(&alloc->space, seg, index, len);
	dynmap_seg_mark(&alloc->space, seg, index, len, true);
	alloc->data_allocated += len;
	return 0;
}

int dynmap_alloc_avoid(struct dynmap_alloc *alloc, u64 pbn, u32 len, struct dynmap_op *op)
{
	struct dynmap_seg *seg;
	int ret;

	if (!dynmap_pbn_valid(alloc->geo, pbn, len))
		return -EUCLEAN;
	ret = dynmap_space_load(&alloc->space, dynmap_pbn_segment(pbn), &seg, op);
	if (!ret)
		dynmap_seg_occupy(&alloc->space, seg, dynmap_pbn_index(pbn), len);
	return ret == -EUCLEAN ? 0 : ret;
}

/* Does a node in memory lie in one of these blocks? */
static bool dynmap_nodes_lie(struct dynmap_alloc *alloc, const struct dynmap_seg *seg, u64 pbn,
			     u32 len)
{
	const struct dynmap_buf *buf;

	for (; len; pbn++, len--) {
		if (!seg->zone_flags[dynmap_zone_of(dynmap_pbn_index(pbn))])
			continue;
		buf = dynmap_cache_find(alloc->cache, pbn);
		if (buf && !buf->misplaced)
			return true;
	}
	return false;
}

__hot int dynmap_alloc_may_free(struct dynmap_alloc *alloc, u64 pbn, u32 len,
				struct dynmap_op *op)
{
	struct dynmap_seg *seg;
	int ret = dynmap_space_load(&alloc->space, dynmap_pbn_segment(pbn), &seg, op);

	if (ret)
		return ret == -EUCLEAN ? 0 : ret;
	if (alloc->data_allocated >= len &&
	    dynmap_bits_count(seg->allocated, dynmap_pbn_index(pbn), len) == len &&
	    !dynmap_nodes_lie(alloc, seg, pbn, len))
		return 0;
	dynmap_err("blocks %llu+%u are mapped, but are no data in use", (unsigned long long)pbn,
		   len);
	return -EUCLEAN;
}

/* Data blocks are in @list from now on; in a segment that is lost they stay allocated. */
static __always_inline void dynmap_alloc_free_into(struct dynmap_alloc *alloc,
						   struct dynmap_runlist *list, u64 pbn, u32 len)
{
	struct dynmap_seg *seg = dynmap_space_seg_of(&alloc->space, pbn);

	if (!seg)
		return;
	dynmap_seg_mark(&alloc->space, seg, dynmap_pbn_index(pbn), len, false);
	alloc->data_allocated -= len;
	alloc->quarantined += len;
	dynmap_runlist_add(alloc->cache, list, pbn, len, 0);
}

void dynmap_alloc_free(struct dynmap_alloc *alloc, u64 pbn, u32 len)
{
	dynmap_alloc_free_into(alloc, &alloc->freed, pbn, len);
}

void dynmap_alloc_free_late(struct dynmap_alloc *alloc, u64 pbn, u32 len, bool is_node)
{
	/* That the node was placed there may still be in the queue. */
	if (is_node) {
		dynmap_places_give_up(alloc->cache, pbn, len);
		return;
	}
	dynmap_alloc_free_into(alloc, &alloc->late_freed, pbn, len);
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
		dynmap_seg_vacate(&alloc->space, dynmap_space_seg_of(&alloc->space, run[i].pbn),
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
			seg = dynmap_space_seg_of(&alloc->space, runs[i].pbn);
			for (index = dynmap_pbn_index(runs[i].pbn);
			     index < dynmap_pbn_index(runs[i].pbn) + runs[i].len; index++) {
				if (dynmap_bits_count(seg->allocated, index, 1))
					continue;
				dynmap_seg_vacate(&alloc->space, seg, index, 1);
				any = true;
			}
		}
		dynmap_cache_add_spare(alloc->cache, buf);
	}
	return any;
}

/* Put the first record that is out of date, or remove it. */
static int dynmap_alloc_put(struct dynmap_alloc *alloc, struct dynmap_op *op)
{
	struct dynmap_space *space = &alloc->space;
	union dynmap_space_record record;
	int ret;
	u64 key;

	ret = dynmap_alloc_reserve(alloc, dynmap_btree_worst(&space->tree), 2, op);
	if (ret || !dynmap_space_next(space, &key, &record))
		return ret;
	if (key >> DYNMAP_SUMMARY_SHIFT || record.zone.used || record.zone.flags)
		ret = dynmap_btree_put(&space->tree, key, &record, op);
	else
		ret = dynmap_btree_remove(&space->tree, key, op);
	if (ret && ret != -ENOENT)
		return ret;
	dynmap_space_done(space);
	return 0;
}

int dynmap_alloc_checkpoint(struct dynmap_alloc *alloc, u32 *most, struct dynmap_op *op)
{
	int ret = dynmap_alloc_drain(alloc, op);

	while (!ret && alloc->space.nr_dirty) {
		if (!*most)
			return -EINPROGRESS;
		--*most;
		ret = dynmap_alloc_put(alloc, op);
		/* What the records took and gave up may call for others. */
		if (!ret && !alloc->space.nr_dirty)
			ret = dynmap_alloc_drain(alloc, op);
	}
	return ret;
}

void dynmap_alloc_seal(struct dynmap_alloc *alloc)
{
	dynmap_runlist_move(&alloc->meta_sealed, &alloc->meta_freed);
	dynmap_runlist_move(&alloc->late_sealed, &alloc->late_freed);
}

bool dynmap_alloc_sealed_durable(struct dynmap_alloc *alloc)
{
	if (dynmap_alloc_vacate(alloc, &alloc->meta_sealed))
		return true;
	dynmap_runlist_move(&alloc->quarantine, &alloc->late_sealed);
	/* Places in stock must not hide that there is more to go back. */
	dynmap_zones_count(alloc);
	dynmap_space_shrink(&alloc->space);
	return false;
}
