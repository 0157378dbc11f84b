/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Node cache: B-tree nodes in memory.
 *
 * Owns: all 4 KiB buffers of the core, the cache of nodes keyed by the pbn of
 * their copy A, verification on read, sealing before write, and shadowing
 * (copy-on-write to a new place). Does not own free space: new places are
 * taken from the stock that the allocator fills, and places given up are left
 * in a queue that the allocator drains.
 *
 * Invariants
 *  N1 a node whose epoch is the current one is DIRTY; one that is not shared
 *     (see struct dynmap_share) may then be changed in place; any other node is
 *     immutable;
 *  N2 every ancestor of a DIRTY node is DIRTY;
 *  N3 a DIRTY or SEALED node is never evicted;
 *  N4 a DIRTY node that is final has no DIRTY descendant that is not;
 *  N5 buffers and places are set aside before an operation changes anything
 *     (dynmap_cache_reserve), so that shadowing cannot fail.
 *
 *   SPARE -> DIRTY -> SEALED -> CLEAN -> SPARE     (SEALED: being written)
 *   SPARE -> CLEAN (read)   CLEAN -> DIRTY (shadowed, moved to a new place)
 *
 * Locking: lookups may run with the metadata lock held for reading; everything
 * else needs it for writing, but dynmap_node_fetch(), which needs none.
 */
#ifndef DM_DYNMAP_NODE_H
#define DM_DYNMAP_NODE_H

#include "core/dev.h"

enum dynmap_buf_state {
	DYNMAP_BUF_SPARE,
	DYNMAP_BUF_CLEAN,
	DYNMAP_BUF_DIRTY,
	DYNMAP_BUF_SEALED,
};

/**
 * struct dynmap_buf - a 4 KiB buffer
 * @hash: in the cache's hash, by @pbn[0] (nodes only)
 * @list: in the spare, LRU, dirty or another list, by state
 * @data: the 4 KiB
 * @pbn: addresses of the two copies (nodes only)
 * @epoch: epoch in which the node was allocated
 * @fetched: epoch in which it was looked up to be read
 * @state: enum dynmap_buf_state
 * @used: touched since the eviction hand last passed
 * @orphan: SEALED, but no longer part of a tree
 * @final: DIRTY, and sealed: @crc is that of its content, and all below it is final, too,
 *	or not DIRTY; until it is changed again
 * @crc: crc of a final node; in its header when the epoch ends
 * @misplaced: read from a place where no node can lie (set by the allocator)
 * @error: of a node of the space tree: it cannot be read, and that is why
 * @bad: of a copy made for healing: which copies on disk are bad, a bit each
 * @heal: of a node just read: such a copy, or NULL
 */
struct dynmap_buf {
	struct hlist_node hash;
	struct list_head list;
	void *data;
	u64 pbn[2];
	u64 epoch;
	u64 fetched;
	u8 state;
	u8 used;
	u8 orphan;
	u8 final;
	u32 crc;
	int error;
	u8 misplaced;
	u8 bad;
	struct dynmap_buf *heal;
};

/**
 * struct dynmap_ptr - pointer to a node
 * @pbn: its two copies; @pbn[0] is DYNMAP_PBN_NONE for "no node"
 * @generation: its birth
 * @crc: its crc, valid unless the node is dirty
 */
struct dynmap_ptr {
	u64 pbn[2];
	u32 generation;
	u32 crc;
};

/**
 * struct dynmap_miss - a node as its parent tells of it; if it is not in memory
 *	it must be read before an operation can go on
 * @ptr: where it is
 * @base: base key expected
 * @high: no key at or above it belongs there
 * @epoch: when its parent told that: in another one it may have moved
 * @kind: enum dynmap_tree_kind expected
 * @level: level expected
 */
struct dynmap_miss {
	struct dynmap_ptr ptr;
	u64 base;
	u64 high;
	u64 epoch;
	u8 kind;
	u8 level;
};

/**
 * struct dynmap_place - a leaf, as a lookup found it
 * @pbn: copy A of it
 * @epoch: when that was: it tells nothing in another one
 */
struct dynmap_place {
	u64 pbn;
	u64 epoch;
};

/**
 * struct dynmap_op - context of a core operation
 * @miss: valid when the operation returned -EAGAIN
 * @place: of changes of a map: where a lookup in the same tree found the first block;
 *	zeros: not known
 * @urgent: how far the operation may use the metadata space held back: 0, or
 *	DYNMAP_URGENT if it frees space or ends one that began, or
 *	DYNMAP_URGENT_REAP if it goes on with what such ones began, or
 *	DYNMAP_URGENT_DEAD_LIST if it resolves dead extents, or DYNMAP_URGENT_CHECKPOINT
 * @bitmaps: of -ENOMEM: it is memory for bitmaps or summaries that is short; whoever
 *	brings some clears it
 *
 * Three errors of the core ask for help and a new call; nothing has changed
 * when they are returned:
 *   -EAGAIN: the node in @miss must be read: dynmap_node_fetch() without the
 *	lock, then dynmap_cache_insert() with it. If its place is DYNMAP_PBN_NONE there
 *	is none to read: the operation has done a part of its work, so that the lock can
 *	be released in between;
 *   -ENOMEM: memory is short: dynmap_cache_add_spare(), or, if @bitmaps says so,
 *	dynmap_space_add_memory();
 *   -EBUSY:  the journal, the dirty nodes, the metadata space or a deletion that must
 *	be durable call for a checkpoint first.
 */
struct dynmap_op {
	struct dynmap_miss miss;
	struct dynmap_place place;
	u8 urgent;
	bool bitmaps;
};

#define DYNMAP_URGENT			1
#define DYNMAP_URGENT_REAP		2
#define DYNMAP_URGENT_DEAD_LIST		3
#define DYNMAP_URGENT_CHECKPOINT	4

#define DYNMAP_STOCK		128	/* places in stock, per copy */
#define DYNMAP_MAX_DIRTY	2048	/* nodes: more would make a checkpoint long, not cheaper */
#define DYNMAP_MIN_CLEAN	256	/* nodes that stay in memory, however short it is */
/* Nodes that operations look at and change: with so many buffers work goes on. */
#define DYNMAP_MIN_BUFS		(DYNMAP_MIN_CLEAN + DYNMAP_STOCK)
#define DYNMAP_RUNS_PER_BUF	255

/**
 * struct dynmap_run - consecutive pool blocks
 * @pbn: the first
 * @len: how many
 * @flags: DYNMAP_RUN_*
 */
struct dynmap_run {
	u64 pbn;
	u32 len;
	u32 flags;
};

#define DYNMAP_RUN_TAKEN	1	/* the node cache took it from the stock */
#define DYNMAP_RUN_FREED	2	/* the node cache gave it up */

/**
 * struct dynmap_runlist - a queue of runs, kept in buffers
 * @bufs: the buffers; @last counts the runs of the last one
 * @last: runs in the last buffer
 * @blocks: sum of the lengths
 */
struct dynmap_runlist {
	struct list_head bufs;
	u32 last;
	u64 blocks;
};

/**
 * struct dynmap_share - what a tree shares with other trees
 * @generation: nodes and blocks born in it or before may be in use elsewhere, 0:
 *	none are
 * @node: the snapshot node below which the tree is
 * @side: on which of its sides
 */
struct dynmap_share {
	u32 generation;
	u32 side;
	u64 node;
};

/* Is something born in this generation possibly in use elsewhere? */
static inline bool dynmap_share_has(const struct dynmap_share *share, u32 birth)
{
	return share->generation && birth <= share->generation;
}

/**
 * struct dynmap_dead_extent - shared blocks that one side of a snapshot node gave up
 * @next: the next one of its bin, or place that is free
 * @pbn: the first
 * @node: the snapshot node
 * @len: how many
 * @birth: generation in which they were allocated
 * @side: the side
 * @is_node: they hold a node, not data
 */
struct dynmap_dead_extent {
	struct dynmap_dead_extent *next;
	u64 pbn;
	u64 node;
	u32 len;
	u32 birth;
	u8 side;
	u8 is_node;
};

#define DYNMAP_DEAD_LIST_PER_BUF	(DYNMAP_BLOCK_BYTES / sizeof(struct dynmap_dead_extent))

#define DYNMAP_DEAD_BINS	256
#define DYNMAP_DEAD_BIN_SHIFT	8	/* log2 of the consecutive blocks of a bin */

/**
 * struct dynmap_dead_list - those that wait, kept in buffers
 * @bufs: the buffers
 * @used: places of the last one that have ever been taken
 * @free: places that are free again
 * @count: how many dead extents there are
 * @turn: the bin whose turn it is
 * @bin: dead extents by place, so that one leaf of a divergence tree is visited once for many
 */
struct dynmap_dead_list {
	struct list_head bufs;
	u32 used;
	struct dynmap_dead_extent *free;
	u32 count;
	u32 turn;
	struct dynmap_dead_extent *bin[DYNMAP_DEAD_BINS];
};

/**
 * struct dynmap_tally - nodes of the pool's tree of one kind; of maps and divergence, of which
 *	there are many, it says nothing
 * @nodes: how many there are, leaves and inner nodes
 * @dirty: of them, those that are DIRTY: a checkpoint needs no new place for them
 * @records: changed records, kept in memory, that the next checkpoint enters
 */
struct dynmap_tally {
	u64 nodes[2];
	u64 dirty[2];
	u64 records;
};

/* Nodes that would take a new place if they were changed; [0] leaves, [1] inner nodes. */
static inline u64 dynmap_tally_clean(const struct dynmap_tally *tally, int inner)
{
	/* What is read from disk may be wrong. */
	return tally->nodes[inner] > tally->dirty[inner] ?
	       tally->nodes[inner] - tally->dirty[inner] : 0;
}

/**
 * struct dynmap_cache - the node cache of one pool
 * @geo: where blocks lie
 * @uuid: pool uuid
 * @epoch: current epoch
 * @generation: current generation
 * @copies: copies kept of each node
 * @buckets: hash of nodes
 * @hash_bits: log2 of its size
 * @lru: CLEAN nodes, oldest first
 * @dirty: DIRTY nodes
 * @sealed: SEALED nodes
 * @spare: SPARE buffers
 * @nr_clean: length of @lru
 * @nr_dirty: length of @dirty
 * @nr_sealed: length of @sealed
 * @nr_spare: length of @spare
 * @limit: memory for clean, dirty and sealed nodes and for @elsewhere; those that are not
 *	clean keep to their share of it, see dynmap_cache_due()
 * @elsewhere: memory of bitmaps and summaries (core/space.h), in buffers
 * @stock: free places for new nodes, per copy
 * @nr_stock: how many
 * @events: places taken and given up since the allocator last looked
 * @given_up: how many were given up
 * @dead_list: shared nodes and blocks given up, for core/family.c
 * @tally: nodes of each kind of tree
 * @heal: copies of nodes whose other copy was found bad
 * @healing: the same, being written by the checkpoint under way
 * @nr_heal: length of @heal
 * @healed: bad copies found and written anew
 * @check: structure check of a node's entries, all below @high, by the layer
 *	above: NULL or the name of the failing check
 */
struct dynmap_cache {
	struct dynmap_geometry *geo;
	const char *(*check)(const struct dynmap_geometry *geo, const void *data, u64 high);
	u8 uuid[DYNMAP_UUID_BYTES];
	u64 epoch;
	u32 generation;
	u32 copies;
	struct hlist_head *buckets;
	u32 hash_bits;
	struct list_head lru;
	struct list_head dirty;
	struct list_head sealed;
	struct list_head spare;
	u32 nr_clean;
	u32 nr_dirty;
	u32 nr_sealed;
	u32 nr_spare;
	u32 limit;
	u32 elsewhere;
	u64 stock[2][DYNMAP_STOCK];
	u32 nr_stock[2];
	struct dynmap_runlist events;
	u64 given_up;
	struct dynmap_dead_list dead_list;
	struct dynmap_tally tally[DYNMAP_TREE_KINDS];
	struct list_head heal;
	struct list_head healing;
	u32 nr_heal;
	u64 healed;
};

/* Nodes that are dirty or being written. */
static inline u32 dynmap_cache_unwritten(const struct dynmap_cache *cache)
{
	return cache->nr_dirty + cache->nr_sealed;
}

/* Memory of nodes, spare buffers, bitmaps and summaries, in KiB. */
static inline u32 dynmap_cache_kib(const struct dynmap_cache *cache)
{
	u32 bufs = cache->nr_clean + cache->nr_spare + dynmap_cache_unwritten(cache) +
		   cache->elsewhere;

	return bufs * (DYNMAP_BLOCK_BYTES / 1024);
}

/*
 * Dirty nodes with which a checkpoint is due. Half as many more may follow before who changes
 * more has to wait, and as many as all these may be being written: together at most three
 * eighths of the memory.
 */
static inline u32 dynmap_cache_due(const struct dynmap_cache *cache)
{
	return min(cache->limit / 8, (u32)DYNMAP_MAX_DIRTY);
}

static inline struct dynmap_disk_node *dynmap_node_head(struct dynmap_buf *buf)
{
	return buf->data;
}

/**
 * dynmap_cache_init() - make an empty cache
 * @cache: to be filled in
 * @geo: the pool's geometry
 * @bufs: memory for nodes, bitmaps and summaries, in buffers
 *
 * Return: 0 or -ENOMEM.
 */
int __must_check dynmap_cache_init(struct dynmap_cache *cache,
				   struct dynmap_geometry *geo, u32 bufs);
void dynmap_cache_exit(struct dynmap_cache *cache);

/**
 * dynmap_buf_alloc() - allocate a buffer
 *
 * Context: may sleep; no lock needed.
 * Return: the buffer or NULL.
 */
struct dynmap_buf *dynmap_buf_alloc(void);
/* The same at once, or NULL; any context. */
struct dynmap_buf *dynmap_buf_try(void);
void dynmap_buf_free(struct dynmap_buf *buf);

/* Give a buffer to the spares, take one from them (which must not be empty). */
void dynmap_cache_add_spare(struct dynmap_cache *cache, struct dynmap_buf *buf);
struct dynmap_buf *dynmap_cache_take_spare(struct dynmap_cache *cache);

/**
 * dynmap_cache_reserve() - first phase: buffers and places for new nodes
 * @cache: the cache
 * @nodes: nodes that the operation may shadow or create
 * @bufs: further buffers it may take
 *
 * Return: 0; -ENOMEM if buffers are short; -ENOSPC if the stock of places is.
 */
static inline int __must_check dynmap_cache_reserve(struct dynmap_cache *cache, u32 nodes,
						    u32 bufs)
{
	u32 copy;

	/* Each node taken is two events, each one given up two more, or two dead extents. */
	if (cache->nr_spare < nodes + bufs + 2 + DIV_ROUND_UP(4 * nodes, DYNMAP_RUNS_PER_BUF) +
			      DIV_ROUND_UP(2 * nodes, (u32)DYNMAP_DEAD_LIST_PER_BUF))
		return -ENOMEM;
	for (copy = 0; copy < cache->copies; copy++)
		if (cache->nr_stock[copy] < nodes)
			return -ENOSPC;
	return 0;
}

/**
 * dynmap_cache_get() - find a node
 * @cache: the cache
 * @want: what its parent says of it
 * @op: told what is missing
 * @buf: set to the node
 *
 * Return: 0; -EAGAIN if it must be read first; -EUCLEAN if it is not what its
 * parent says; of the space tree, what dynmap_node_fetch() said of an unreadable one.
 */
int __must_check dynmap_cache_get(struct dynmap_cache *cache, const struct dynmap_miss *want,
				  struct dynmap_op *op, struct dynmap_buf **buf);

static inline struct hlist_head *dynmap_cache_bucket(struct dynmap_cache *cache, u64 pbn)
{
	return &cache->buckets[hash_64(pbn, cache->hash_bits)];
}

/* The node at @pbn (copy A) if it is in the cache, else NULL. */
static inline struct dynmap_buf *dynmap_cache_find(struct dynmap_cache *cache, u64 pbn)
{
	struct dynmap_buf *buf;

	hlist_for_each_entry(buf, dynmap_cache_bucket(cache, pbn), hash)
		if (buf->pbn[0] == pbn)
			return buf;
	return NULL;
}

/*
 * The node at @pbn if it is in the cache and the one that its parent tells of, else
 * NULL. On damaged devices two pointers may lead to one place. The crc tells whose
 * node lies there now: a pointer holds that of its node as last sealed, and so does
 * the node, also while it is DIRTY; or that of a final node, if this tree was sealed since.
 */
static inline struct dynmap_buf *dynmap_cache_find_verified(struct dynmap_cache *cache, u64 pbn,
							    u8 kind, u8 level, u64 base, u32 crc)
{
	struct dynmap_buf *buf = dynmap_cache_find(cache, pbn);
	const struct dynmap_disk_node *node;

	if (!buf)
		return NULL;
	node = buf->data;
	if (node->kind != kind || node->level != level || le64_to_cpu(node->base) != base ||
	    buf->misplaced)
		return NULL;
	if (le32_to_cpu(node->crc) != crc && !(buf->final && buf->crc == crc))
		return NULL;
	if (!buf->used)
		buf->used = 1;
	return buf;
}

/**
 * dynmap_node_fetch() - read and verify a node
 * @cache: the cache, of which only constant fields and the epoch are used
 * @miss: the node, from a struct dynmap_op
 * @buf: a buffer for it
 *
 * The other copy is read when the first one is unreadable or fails verification;
 * which one is the first differs from epoch to epoch, so that both are used. A
 * bad one is written anew by the next checkpoint.
 *
 * A node of the space tree without a good copy is no error here: whoever looks it up gets the
 * error, so that the space it tells of can be passed over.
 *
 * Context: may sleep; call without the metadata lock.
 * Return: @buf, for dynmap_cache_insert(); when no copy is good, and @buf is freed,
 * ERR_PTR(-EIO), -EBADMSG (checksum) or -EUCLEAN (content); -ESTALE: the epoch has changed
 * since the lookup, so that something else may lie there: the caller looks it up again.
 */
struct dynmap_buf *dynmap_node_fetch(struct dynmap_cache *cache,
				     const struct dynmap_miss *miss, struct dynmap_buf *buf);

/*
 * Make a fetched node part of the cache; evicts clean ones beyond the bound. Where
 * there is an allocator, dynmap_alloc_insert() does it.
 *
 * The node may have moved while it was read. Until the next checkpoint but one is
 * written nothing else lies at its old place (rule 4), and a new node there drops
 * it. What took longer to read is not taken: who needs it reads it again.
 */
void dynmap_cache_insert(struct dynmap_cache *cache, struct dynmap_buf *buf);

/*
 * Memory is short: make the buffers of up to @count clean nodes that nobody looked at lately
 * spare ones, but leave those that operations under way may need. Return how many became spare.
 */
u32 dynmap_cache_recycle(struct dynmap_cache *cache, u32 count);

/*
 * Zeroed memory for an object of at most 4 KiB, at once: if need be a spare buffer, which is
 * kept in *@buf until the object is freed; NULL: there is none either.
 */
void *dynmap_cache_zalloc(struct dynmap_cache *cache, size_t bytes, struct dynmap_buf **buf);
void dynmap_cache_free(struct dynmap_cache *cache, void *object, struct dynmap_buf *buf);

/* Let go of nodes beyond the bound, and, in bounded steps, of spare buffers that nobody needs. */
void dynmap_cache_trim(struct dynmap_cache *cache);

/* Memory is short: give back up to @count buffers; how many were freed. */
u32 dynmap_cache_shrink(struct dynmap_cache *cache, u32 count);

/**
 * dynmap_node_verify() - check a block that should be a node
 * @cache: for uuid and geometry
 * @data: the block
 * @miss: what is expected
 *
 * Return: 0, -EBADMSG or -EUCLEAN; the failing check is logged.
 */
int dynmap_node_verify(struct dynmap_cache *cache, const void *data,
		       const struct dynmap_miss *miss);

/* Second phase: a new DIRTY node. The places and the buffer were reserved. */
struct dynmap_buf *dynmap_node_new(struct dynmap_cache *cache, u8 kind, u8 level,
				   u64 owner, u64 base);

/* Is the node possibly part of other trees? */
static inline bool dynmap_node_is_shared(struct dynmap_buf *buf, const struct dynmap_share *share)
{
	return dynmap_share_has(share, le32_to_cpu(dynmap_node_head(buf)->generation));
}

/*
 * Second phase: make a node of a tree that shares @share DIRTY and its own, moving
 * it to a new place if it is not.
 */
struct dynmap_buf *dynmap_node_shadow(struct dynmap_cache *cache, struct dynmap_buf *buf,
				      struct dynmap_ptr *ptr, const struct dynmap_share *share);

/* Nobody uses the node any more that may lie there: it is no longer in the cache. */
void dynmap_cache_forget(struct dynmap_cache *cache, u64 pbn);

/* Second phase: a node, not shared, left its tree; its places are given up. */
void dynmap_node_drop(struct dynmap_cache *cache, struct dynmap_buf *buf);

/* Pointer to a node, with its crc as last sealed. */
struct dynmap_ptr dynmap_node_ptr(struct dynmap_buf *buf);

/* Checkpoint: a DIRTY node is final, all below it is; its crc is computed. */
void dynmap_node_seal(struct dynmap_cache *cache, struct dynmap_buf *buf);

/* Checkpoint: all DIRTY nodes become SEALED, with their crcs, and a new epoch begins. */
void dynmap_cache_seal(struct dynmap_cache *cache);

/*
 * Checkpoint: bad copies of nodes that are still where they were are about to be
 * written anew (lock held); write them and wait, whatever comes of it (no lock);
 * done (lock held). A place that a node leaves from now on is not used again
 * before the next checkpoint (rule 4): what is written there hurts nobody.
 */
void dynmap_cache_heal_begin(struct dynmap_cache *cache);
void dynmap_cache_heal_write(struct dynmap_cache *cache);
void dynmap_cache_heal_end(struct dynmap_cache *cache);

/* Checkpoint: start writing all SEALED nodes; no lock needed. */
void dynmap_cache_write(struct dynmap_cache *cache);

/* Checkpoint: SEALED nodes were written and become CLEAN, some at a time; true: call again. */
bool dynmap_cache_written(struct dynmap_cache *cache);

/* Places of nodes are free after the next checkpoint; needs a spare buffer in the cache. */
void dynmap_places_give_up(struct dynmap_cache *cache, u64 pbn, u32 len);

void dynmap_runlist_init(struct dynmap_runlist *list);
/* Needs a spare buffer in the cache. */
void dynmap_runlist_add(struct dynmap_cache *cache, struct dynmap_runlist *list,
			u64 pbn, u32 len, u32 flags);
/* Take the first buffer's runs; NULL when empty. Give the buffer back as a spare. */
struct dynmap_buf *dynmap_runlist_pop(struct dynmap_runlist *list, u32 *count);
/* The runs of one buffer of a list, to be read; their number. */
u32 dynmap_runlist_runs(struct dynmap_buf *buf, const struct dynmap_run **runs);
/* Append all of @from to @to, leaving @from empty. */
void dynmap_runlist_move(struct dynmap_runlist *to, struct dynmap_runlist *from);

static inline struct dynmap_dead_extent **
dynmap_dead_list_bin(struct dynmap_dead_list *dead_list, u64 pbn)
{
	return &dead_list->bin[(pbn >> DYNMAP_DEAD_BIN_SHIFT) % DYNMAP_DEAD_BINS];
}

static inline void dynmap_dead_list_push(struct dynmap_dead_extent **bin,
					 struct dynmap_dead_extent *dead)
{
	dead->next = *bin;
	*bin = dead;
}

static inline struct dynmap_dead_extent *dynmap_dead_list_pop(struct dynmap_dead_extent **bin)
{
	struct dynmap_dead_extent *dead = *bin;

	if (dead)
		*bin = dead->next;
	return dead;
}

/* A dead extent more; needs a spare buffer. */
void dynmap_dead_list_add(struct dynmap_cache *cache, const struct dynmap_dead_extent *dead);
/* Take out one, bin after bin; NULL if there is none. */
struct dynmap_dead_extent *dynmap_dead_list_take(struct dynmap_cache *cache);
/* All are done with: give back the buffers. */
void dynmap_dead_list_release(struct dynmap_cache *cache);

/* Take out the next one that waits in the bin of @dead; NULL if there is none. */
static inline struct dynmap_dead_extent *
dynmap_dead_list_take_beside(struct dynmap_cache *cache, const struct dynmap_dead_extent *dead)
{
	return dynmap_dead_list_pop(dynmap_dead_list_bin(&cache->dead_list, dead->pbn));
}

/* One that was taken out: done with, if it has no blocks any more, or it waits again. */
static inline void dynmap_dead_list_put(struct dynmap_cache *cache, struct dynmap_dead_extent *dead)
{
	struct dynmap_dead_list *dead_list = &cache->dead_list;

	if (dead->len) {
		dynmap_dead_list_push(dynmap_dead_list_bin(dead_list, dead->pbn), dead);
		return;
	}
	dynmap_dead_list_push(&dead_list->free, dead);
	if (!--dead_list->count)
		dynmap_dead_list_release(cache);
}

#endif /* DM_DYNMAP_NODE_H */
