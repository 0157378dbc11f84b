/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Allocator: which pool blocks are given out.
 *
 * Owns: what is allocated where, the zones claimed for metadata, the reserve that
 * lets a full pool be emptied, and the quarantine of freed blocks. Bitmaps and the
 * search for what is free are in core/space.h.
 *
 * Invariants
 *  A1 a block is "allocated" exactly when a tree reaches it: that is what a
 *     checkpoint writes; it is "busy", unfit for allocation, when allocated,
 *     in quarantine, held for a write, or in the stock of the node cache;
 *  A2 a freed data block stays busy until the record that freed it is durable
 *     and all I/O that began before has ended (ordering rule 3);
 *  A3 a freed metadata block stays busy until the next checkpoint is durable
 *     (ordering rule 4);
 *  A4 nodes lie in zones claimed for metadata, data lies outside: a claimed
 *     zone may still hold data from before, never new data. An empty one goes back
 *     to data when a checkpoint that does not know it as a zone of metadata is durable
 *     (dynmap_zones_give_back());
 *  A5 an operation begins only if it leaves what the next checkpoint may need
 *     (dynmap_alloc_owed()) and the part of @floor that its class leaves
 *     (dynmap_alloc_kept(); data: all of it). doc/space.md tells what follows.
 *
 * Locking: metadata lock held for writing, but for the counters.
 */
#ifndef DM_DYNMAP_ALLOC_H
#define DM_DYNMAP_ALLOC_H

#include "core/segment.h"

/*
 * Of several devices, data takes aligned pieces of this length in turn: an allocation
 * ends at the end of its piece. See the head of dm-dynmap-alloc.c.
 */
#define DYNMAP_PIECE_BLOCKS	256

/**
 * struct dynmap_alloc - allocator of one pool
 * @cache: node cache
 * @geo: geometry
 * @space: what is free
 * @cursor: per device, slot where the last data allocation was
 * @data_turns: whose turn it is to give data blocks
 * @node_turns: whose turn it is to give places for nodes
 * @zone_from: per device, no zone is claimed while its free blocks are less: there was none
 * @data_allocated: blocks allocated to data
 * @meta_allocated: blocks allocated to nodes
 * @floor: blocks that data may not take
 * @promised: nodes of each copy that writes under way may take for good: data leaves room for
 *	them; set by who knows these writes before blocks are asked for
 * @quarantined: data blocks freed and not yet released
 * @freed: data blocks freed, the record not yet durable
 * @committing: the same, the record being committed
 * @quarantine: the record is durable, I/O that looked up before may be under way
 * @meta_freed: metadata blocks freed in this epoch
 * @meta_sealed: metadata blocks freed in the epoch being checkpointed
 * @late_freed: data blocks freed in this epoch by no record of the journal
 * @late_sealed: the same, freed in the epoch being checkpointed
 */
struct dynmap_alloc {
	struct dynmap_cache *cache;
	struct dynmap_geometry *geo;
	struct dynmap_space space;
	u32 cursor[DYNMAP_MAX_DEVICES];
	struct dynmap_turns data_turns;
	struct dynmap_turns node_turns;
	u64 zone_from[DYNMAP_MAX_DEVICES];
	u64 data_allocated;
	u64 meta_allocated;
	u64 floor;
	u32 promised;
	u64 quarantined;
	struct dynmap_runlist freed;
	struct dynmap_runlist committing;
	struct dynmap_runlist quarantine;
	struct dynmap_runlist meta_freed;
	struct dynmap_runlist meta_sealed;
	struct dynmap_runlist late_freed;
	struct dynmap_runlist late_sealed;
};

/**
 * dynmap_alloc_init() - an allocator for a geometry, everything free
 * @alloc: to be filled in
 * @cache: node cache, whose geometry is complete
 * @root: root of the space tree, NULL for a new pool
 *
 * Return: 0, -ENOMEM, -EUCLEAN (bad root).
 */
int __must_check dynmap_alloc_init(struct dynmap_alloc *alloc, struct dynmap_cache *cache,
				   const struct dynmap_disk_root *root);
void dynmap_alloc_exit(struct dynmap_alloc *alloc);

/**
 * dynmap_alloc_open() - learn what is allocated
 * @alloc: the allocator
 * @data: blocks allocated to data
 * @op: told what is missing
 *
 * Return: 0, -EAGAIN, -EUCLEAN.
 */
int __must_check dynmap_alloc_open(struct dynmap_alloc *alloc, u64 data, struct dynmap_op *op);

/* A growth is durable, see dynmap_space_grow_end(). */
void dynmap_alloc_grow_end(struct dynmap_alloc *alloc, u32 dev, struct dynmap_parts **top);

/* Make a fetched node part of the cache; one that is known not to lie there is of no use. */
void dynmap_alloc_insert(struct dynmap_alloc *alloc, struct dynmap_buf *buf);

/*
 * Before a checkpoint writes bad copies of nodes anew: those that lie where no node can are
 * left alone. 0, -EAGAIN, -ENOMEM.
 */
int __must_check dynmap_alloc_check_heal(struct dynmap_alloc *alloc, struct dynmap_op *op);

/**
 * dynmap_alloc_format() - claim the first metadata zones of a new pool
 * @alloc: the allocator
 * @op: told what is missing: nothing, the space tree is empty (bitmaps get
 *	their memory here)
 *
 * Return: 0, -ENOMEM, -ENOSPC.
 */
int __must_check dynmap_alloc_format(struct dynmap_alloc *alloc, struct dynmap_op *op);

/**
 * dynmap_alloc_reserve() - first phase: all that an operation needs of space
 * @alloc: the allocator
 * @nodes: nodes it may shadow or create
 * @bufs: buffers beyond those of the nodes
 * @op: op->urgent says how far into the floor it may go
 *
 * Fills the node cache's stock of places, claiming zones if need be.
 *
 * Return: 0; -ENOMEM; -EBUSY: a checkpoint will free metadata blocks; -ENOSPC.
 */
int __must_check dynmap_alloc_reserve(struct dynmap_alloc *alloc, u32 nodes, u32 bufs,
				      struct dynmap_op *op);

/* Learn what the node cache took and gave up. 0, -ENOMEM (buffers); as dynmap_space_load(). */
int __must_check dynmap_alloc_drain(struct dynmap_alloc *alloc, struct dynmap_op *op);

#define DYNMAP_DEAD_LIST_MANY	4096	/* some are seen to then */
#define DYNMAP_DEAD_NODES	2	/* that each may add for good: by a split, a root */
#define DYNMAP_DEAD_WORST	(3 * (DYNMAP_MAX_LEVELS + 2))	/* that a step with one may take */
#define DYNMAP_DEAD_LIST_PER_LEAF	64	/* of their tree, inner nodes included, at least */
#define DYNMAP_SPLIT_RECORDS	32	/* added to the space tree for each leaf that is split */

/*
 * Blocks that a checkpoint takes which makes @nodes nodes DIRTY, all of the space tree among
 * them, and puts @records records into it. Each place that is taken or given up may call for
 * the record of one more zone, and of the parts that it lies in. Records are added, and
 * leaves are split by them: each leaf twice at first, as one that a stream has filled keeps a
 * sixteenth free, then less often.
 */
static inline u64 dynmap_alloc_owed_by(const struct dynmap_alloc *alloc, u64 nodes, u64 records)
{
	u32 copies = alloc->cache->copies;
	u64 places = 2 * copies * nodes;

	records += places + min(DYNMAP_PART_LEVELS * places, alloc->space.nr_parts);
	nodes += min(records, 2 * alloc->cache->tally[DYNMAP_TREE_SPACE].nodes[0]) +
		 records / DYNMAP_SPLIT_RECORDS + 2;
	return nodes * copies;
}

/*
 * Nodes that take a place when the changed records of a tree are entered. No record is added
 * by that, so no node is split.
 */
static inline u64 dynmap_tally_owed(const struct dynmap_tally *tally)
{
	return min(tally->records, dynmap_tally_clean(tally, 0)) + dynmap_tally_clean(tally, 1);
}

/*
 * Nodes that take a place when the dead extents that wait are entered in their tree, and those that
 * waited at the last checkpoint leave it. They are entered in ascending order and leave at the
 * end: all leaves but the last two are full by fifteen sixteenths.
 */
static inline u64 dynmap_dead_list_owed(const struct dynmap_cache *cache)
{
	const struct dynmap_tally *tally = &cache->tally[DYNMAP_TREE_DEAD];

	if (!cache->dead_list.count && !tally->nodes[0])
		return 0;
	return cache->dead_list.count / DYNMAP_DEAD_LIST_PER_LEAF + tally->nodes[1] + 3;
}

/*
 * Blocks that the next checkpoint may take: for what has changed in memory only, and for what
 * that changes. Each node takes a place once in an epoch.
 */
static inline u64 dynmap_alloc_owed(const struct dynmap_alloc *alloc)
{
	const struct dynmap_tally *tally = alloc->cache->tally, *space = &tally[DYNMAP_TREE_SPACE];

	return dynmap_alloc_owed_by(alloc, dynmap_tally_owed(&tally[DYNMAP_TREE_VOLUME]) +
				    dynmap_tally_owed(&tally[DYNMAP_TREE_SNAPSHOT]) +
				    dynmap_dead_list_owed(alloc->cache) +
				    dynmap_tally_clean(space, 0) + dynmap_tally_clean(space, 1),
				    alloc->space.nr_dirty);
}

/* The same just after a checkpoint, when nothing has changed. */
static inline u64 dynmap_alloc_owed_least(const struct dynmap_alloc *alloc)
{
	const struct dynmap_tally *tally = alloc->cache->tally, *space = &tally[DYNMAP_TREE_SPACE];

	return dynmap_alloc_owed_by(alloc, tally[DYNMAP_TREE_VOLUME].nodes[1] +
				    tally[DYNMAP_TREE_SNAPSHOT].nodes[1] + space->nodes[0] +
				    space->nodes[1], 0);
}

/* Blocks that nodes could take. */
static inline u64 dynmap_alloc_places(const struct dynmap_alloc *alloc)
{
	return alloc->space.free_blocks + alloc->cache->nr_stock[0] + alloc->cache->nr_stock[1];
}

/* Blocks that operations of this urgency, below DYNMAP_URGENT_CHECKPOINT, leave to others. */
static inline u64 dynmap_alloc_kept(const struct dynmap_alloc *alloc, u8 urgent)
{
	return alloc->floor >> (urgent + 1);
}

/* Blocks that dead extents may take for good: operations that add others leave them. */
static inline u64 dynmap_alloc_dead_list(const struct dynmap_alloc *alloc)
{
	return (u64)alloc->cache->dead_list.count * DYNMAP_DEAD_NODES * alloc->cache->copies;
}

/*
 * May an operation of this urgency (see struct dynmap_op) take @nodes nodes? Places in
 * stock count as free: which operation filled the stock must not matter.
 */
static inline bool dynmap_alloc_room(const struct dynmap_alloc *alloc, u32 nodes, u8 urgent)
{
	u64 keep = 0;

	if (urgent < DYNMAP_URGENT_CHECKPOINT)
		keep = dynmap_alloc_owed(alloc) + dynmap_alloc_kept(alloc, urgent);
	if (urgent < DYNMAP_URGENT_DEAD_LIST)
		keep += dynmap_alloc_dead_list(alloc);
	return dynmap_alloc_places(alloc) >= keep + nodes * alloc->cache->copies;
}

/* Will a checkpoint, which begins with that, resolve some of the dead extents that wait? */
static inline bool dynmap_alloc_dead_list_move(const struct dynmap_alloc *alloc)
{
	return alloc->cache->dead_list.count &&
	       dynmap_alloc_room(alloc, DYNMAP_DEAD_WORST, DYNMAP_URGENT_DEAD_LIST);
}

/* Why there is none: -EBUSY: a checkpoint will make some; -ENOSPC: there is too little. */
int dynmap_alloc_no_room(const struct dynmap_alloc *alloc, u32 nodes, u8 urgent);

/* More do not wait: what a checkpoint takes for them is no more than a quarter of the floor. */
static inline bool dynmap_alloc_dead_list_is_full(const struct dynmap_alloc *alloc)
{
	return alloc->cache->dead_list.count > min_t(u64, DYNMAP_DEAD_LIST_MANY, 8 * alloc->floor);
}

/*
 * Is more than a part of what is free kept for dead extents that wait? Each counts with the most
 * that it may need, which is many times what it needs: that must not pass for want of space.
 */
static inline bool dynmap_alloc_dead_list_is_heavy(const struct dynmap_alloc *alloc)
{
	return dynmap_alloc_dead_list(alloc) > dynmap_alloc_places(alloc) / 8;
}

/* Is there space on one device only? While a second one is added, the first one is alone. */
static inline bool dynmap_alloc_is_lone(const struct dynmap_alloc *alloc)
{
	return !alloc->space.slots[1];
}

/* No allocation of data is longer than that. */
static inline u32 dynmap_alloc_piece(const struct dynmap_alloc *alloc)
{
	return dynmap_alloc_is_lone(alloc) ? DYNMAP_SEGMENT_BLOCKS : DYNMAP_PIECE_BLOCKS;
}

/**
 * dynmap_alloc_data() - allocate consecutive data blocks
 * @alloc: the allocator
 * @goal: preferred place, DYNMAP_PBN_NONE for none; of several devices, one where a
 *	piece begins is not taken: the one that it continues is full
 * @want: blocks wanted, at most 65536
 * @pbn: set to the first block
 * @len: set to the number, between 1 and @want
 * @op: told what is missing
 *
 * Return: 0; -ENOSPC; -EBUSY if blocks are in quarantine that a commit and
 * checkpoint will free; -EINPROGRESS: there will be some when the writes have ended that
 * alloc->promised tells of; as dynmap_space_load().
 */
int __must_check dynmap_alloc_data(struct dynmap_alloc *alloc, u64 goal, u32 want,
				   u64 *pbn, u32 *len, struct dynmap_op *op);

/**
 * dynmap_alloc_hold() - as dynmap_alloc_data(), but no tree reaches the blocks yet
 *
 * They are busy, and in no checkpoint, until dynmap_alloc_take_held() or
 * dynmap_alloc_unhold(). Of several devices, a caller whose goal is taken gets the
 * beginning of a piece, if one is free, so that it can go on there.
 */
int __must_check dynmap_alloc_hold(struct dynmap_alloc *alloc, u64 goal, u32 want,
				   u64 *pbn, u32 *len, struct dynmap_op *op);
/* Second phase: held blocks become allocated. */
void dynmap_alloc_take_held(struct dynmap_alloc *alloc, u64 pbn, u32 len);
/* Held blocks become free; nothing points to them, and no I/O to them is under way. */
void dynmap_alloc_unhold(struct dynmap_alloc *alloc, u64 pbn, u32 len);

/*
 * Replay: allocate exactly these data blocks. -EUCLEAN if one is allocated; as
 * dynmap_space_load().
 */
int __must_check dynmap_alloc_data_at(struct dynmap_alloc *alloc, u64 pbn, u32 len,
				      struct dynmap_op *op);

/* Replay: metadata must not use these blocks. -EUCLEAN; as dynmap_space_load(). */
int __must_check dynmap_alloc_avoid(struct dynmap_alloc *alloc, u64 pbn, u32 len,
				    struct dynmap_op *op);

/*
 * First phase: can these be data blocks that are in use? -EUCLEAN if not; as
 * dynmap_space_load().
 */
int __must_check dynmap_alloc_may_free(struct dynmap_alloc *alloc, u64 pbn, u32 len,
				       struct dynmap_op *op);

/* Second phase: free data blocks, into quarantine. One spare buffer reserved. */
void dynmap_alloc_free(struct dynmap_alloc *alloc, u64 pbn, u32 len);

/*
 * Second phase: free blocks, of nodes or of data, that no record of the journal
 * frees: they stay busy until the next checkpoint, which does. One spare buffer
 * reserved.
 */
void dynmap_alloc_free_late(struct dynmap_alloc *alloc, u64 pbn, u32 len, bool is_node);

/*
 * Rule 3a: a commit is about to write all records so far; it has ended. After a
 * failure nothing ever leaves quarantine.
 */
void dynmap_alloc_commit_begin(struct dynmap_alloc *alloc);
void dynmap_alloc_commit_end(struct dynmap_alloc *alloc, int error);

/*
 * Quarantine ends: blocks of @list, which were in @quarantine, may be given out
 * again. One bounded step: true until @list is empty.
 */
bool dynmap_alloc_release(struct dynmap_alloc *alloc, struct dynmap_runlist *list);

/*
 * Replay: what the records so far freed, and none allocated since, may be given out again.
 * Return whether there is any.
 */
bool dynmap_alloc_release_replayed(struct dynmap_alloc *alloc);

/*
 * With no I/O in flight and no epoch open (after recovery): only allocated and stocked blocks
 * are busy; quarantine ends.
 */
void dynmap_alloc_reset_busy(struct dynmap_alloc *alloc);

/**
 * dynmap_alloc_checkpoint() - bring the space tree up to date
 * @alloc: the allocator
 * @most: put that many records at most; less those that were
 * @op: told what is missing
 *
 * Return: 0 once no record is out of date; -EINPROGRESS: @most were put, call again;
 * -EAGAIN, -ENOMEM, -ENOSPC, -EUCLEAN.
 */
int __must_check dynmap_alloc_checkpoint(struct dynmap_alloc *alloc, u32 *most,
					 struct dynmap_op *op);

/* The epoch ended (cache sealed): its freed metadata blocks wait for the superblock. */
void dynmap_alloc_seal(struct dynmap_alloc *alloc);
/*
 * The superblock is durable: they are free, or data in quarantine; some at a time; true: call
 * again.
 */
bool dynmap_alloc_sealed_durable(struct dynmap_alloc *alloc);

/**
 * dynmap_zones_give_back() - before a checkpoint: empty zones of metadata go back to data
 * @alloc: the allocator, with a spare buffer in the cache
 * @op: told what is missing
 *
 * One bounded step. They do as long as the zones of a device and copy are more than twice
 * what their nodes need, and than their share of a new pool's zones. Their blocks are busy
 * until the checkpoint is durable and the I/O that began before has ended: what all classes
 * keep stays free meanwhile, and as much again as is in quarantine. Reads of nodes that were
 * looked up before then find another epoch (struct dynmap_miss).
 *
 * Return: 0; as dynmap_space_load(): call again.
 */
int __must_check dynmap_zones_give_back(struct dynmap_alloc *alloc, struct dynmap_op *op);

/*
 * Are there more zones than nodes need? Then all places in stock are free again, so that it is
 * known which zones are empty; the next operation that adds nodes fills the stock.
 */
bool dynmap_zones_count(struct dynmap_alloc *alloc);
/* Will the next checkpoint give some zones back? */
bool dynmap_zones_may_go(const struct dynmap_alloc *alloc);

/* Blocks data may still take. */
u64 dynmap_alloc_data_free(const struct dynmap_alloc *alloc);

/*
 * Blocks that nodes of ordinary operations may still take: any free ones, so data may take
 * most of them, too. Without any, such operations fail.
 */
u64 dynmap_alloc_node_free(const struct dynmap_alloc *alloc);

/*
 * With no more than that space for nodes runs short: data has taken all that it may, and
 * half of what it leaves to the nodes of ordinary operations is gone.
 */
static inline u64 dynmap_alloc_node_mark(const struct dynmap_alloc *alloc)
{
	return alloc->floor / 4;
}

/*
 * What dm-dynmap-alloc.c and core/zone.c have of each other.
 */
#define DYNMAP_GOOD_RUN		16	/* where fewer free blocks are is not a good place */

/* Metadata blocks that checkpoints will make free. */
static inline u64 dynmap_meta_quarantined(const struct dynmap_alloc *alloc)
{
	return alloc->meta_freed.blocks + alloc->meta_sealed.blocks;
}

/**
 * dynmap_stock_fill() - fill the stock, of all copies alike
 * @alloc: the allocator
 * @nodes: to at least so many places
 * @op: op->urgent says how far into the floor it may go
 *
 * Return: 0; -EBUSY: a checkpoint will free metadata blocks; -ENOSPC; as dynmap_space_load().
 */
int __must_check dynmap_stock_fill(struct dynmap_alloc *alloc, u32 nodes, struct dynmap_op *op);

#endif /* DM_DYNMAP_ALLOC_H */
