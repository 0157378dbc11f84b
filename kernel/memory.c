// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory on the way of writeback. Owns: the buffers and nodes that the core asks for, and
 * what is set aside for when memory is short.
 *
 * Memory may be short because it is full of pages that are being written to a volume. Then
 * what writing them needs comes from what the pool has: bios from its own set, pages for
 * padding from a mempool, fresh writes from those made with the pool, and buffers for nodes
 * and journal blocks, here: memory, if there is some at once; else the buffer of a clean node;
 * for a checkpoint, which turns dirty nodes into clean ones, also one of those set aside.
 * Likewise for bitmaps of segments: memory at once; else that of others that are not needed.
 * When there is none of these a checkpoint is made, or memory waited for: an operation never
 * fails for memory alone.
 */
#include <linux/sched.h>

#include "kernel/dynmap.h"

#define DYNMAP_SET_ASIDE	128	/* buffers for checkpoints */
#define DYNMAP_MEMORY_WAIT	DIV_ROUND_UP(HZ, 50)

/* Set buffers aside: spare ones, and those for checkpoints; as many as there is memory for. */
static void dynmap_memory_work(struct work_struct *work)
{
	struct dynmap_kpool *pool = container_of(work, struct dynmap_kpool, memory_work);
	struct dynmap_cache *cache = &pool->core.cache;
	struct dynmap_buf *buf;
	void *memory;

	down_write(&pool->lock);
	while (pool->core.alloc.space.nr_stock < DYNMAP_SPACE_STOCK) {
		memory = dynmap_space_memory(false);
		if (!memory)
			break;
		dynmap_space_add_memory(&pool->core.alloc.space, memory);
	}
	while (cache->nr_spare < DYNMAP_STOCK || pool->nr_set_aside < DYNMAP_SET_ASIDE ||
	       cache->nr_spare + cache->nr_clean < DYNMAP_MIN_BUFS) {
		buf = dynmap_buf_try();
		if (!buf)
			break;
		if (pool->nr_set_aside < DYNMAP_SET_ASIDE) {
			list_add(&buf->list, &pool->set_aside);
			pool->nr_set_aside++;
		} else {
			dynmap_cache_add_spare(cache, buf);
		}
	}
	dynmap_kpool_unlock(pool);
}

void dynmap_memory_init(struct dynmap_kpool *pool)
{
	INIT_LIST_HEAD(&pool->set_aside);
	INIT_LIST_HEAD(&pool->reading);
	spin_lock_init(&pool->reading_lock);
	init_waitqueue_head(&pool->reading_wait);
	INIT_WORK(&pool->memory_work, dynmap_memory_work);
}

void dynmap_memory_exit(struct dynmap_kpool *pool)
{
	struct dynmap_buf *buf, *next;

	list_for_each_entry_safe(buf, next, &pool->set_aside, list)
		dynmap_buf_free(buf);
}

/* More spare buffers of those that the pool has: are there any? Lock held for writing. */
static bool dynmap_memory_own(struct dynmap_kpool *pool, bool checkpoint)
{
	struct dynmap_buf *buf;

	if (dynmap_cache_recycle(&pool->core.cache, DYNMAP_POOL_SPARES))
		return true;
	queue_work(pool->wq, &pool->memory_work);
	if (!checkpoint || !pool->nr_set_aside)
		return false;
	buf = list_first_entry(&pool->set_aside, struct dynmap_buf, list);
	list_del_init(&buf->list);
	pool->nr_set_aside--;
	dynmap_cache_add_spare(&pool->core.cache, buf);
	return true;
}

/*
 * There is nothing: wait a while for memory. Return -EBUSY if a checkpoint would help, which
 * the caller makes itself: there may be no worker for it.
 */
static int dynmap_memory_wait(struct dynmap_kpool *pool, bool checkpoint)
{
	schedule_timeout_uninterruptible(DYNMAP_MEMORY_WAIT);
	if (checkpoint || !READ_ONCE(pool->core.cache.nr_dirty) ||
	    READ_ONCE(pool->mode) == DYNMAP_MODE_READ_ONLY)
		return 0;
	return -EBUSY;
}

/* One buffer, or NULL. */
static struct dynmap_buf *dynmap_memory_buf(struct dynmap_kpool *pool, bool checkpoint)
{
	struct dynmap_cache *cache = &pool->core.cache;
	struct dynmap_buf *buf = dynmap_buf_try();

	if (buf)
		return buf;
	down_write(&pool->lock);
	if (cache->nr_spare || dynmap_memory_own(pool, checkpoint))
		buf = dynmap_cache_take_spare(cache);
	dynmap_kpool_unlock(pool);
	return buf;
}

/* Memory for bitmaps; or a while, if there is none. */
static int dynmap_memory_bitmaps(struct dynmap_kpool *pool, bool checkpoint)
{
	struct dynmap_space *space = &pool->core.alloc.space;
	bool more, wait = false;
	void *memory;

	do {
		memory = dynmap_space_memory(wait);
		down_write(&pool->lock);
		if (memory)
			dynmap_space_add_memory(space, memory);
		more = space->nr_stock || dynmap_space_recycle(space);
		dynmap_kpool_unlock(pool);
		wait = !wait;
	} while (!more && wait);
	return more ? 0 : dynmap_memory_wait(pool, checkpoint);
}

/* Spare buffers; or a while, if there is no memory. */
static int dynmap_memory_spares(struct dynmap_kpool *pool, bool checkpoint)
{
	struct dynmap_cache *cache = &pool->core.cache;
	struct dynmap_buf *buf, *next;
	LIST_HEAD(fresh);
	bool more;
	u32 i;

	for (i = 0; i < DYNMAP_POOL_SPARES; i++) {
		buf = dynmap_buf_try();
		if (!buf)
			break;
		list_add(&buf->list, &fresh);
	}
	down_write(&pool->lock);
	more = !list_empty(&fresh) || dynmap_memory_own(pool, checkpoint);
	list_for_each_entry_safe(buf, next, &fresh, list) {
		list_del(&buf->list);
		dynmap_cache_add_spare(cache, buf);
	}
	dynmap_kpool_unlock(pool);
	return more ? 0 : dynmap_memory_wait(pool, checkpoint);
}

/**
 * struct dynmap_reading - a node being read
 * @list: in the pool's list
 * @pbn: its place
 */
struct dynmap_reading {
	struct list_head list;
	u64 pbn;
};

/* Begin to read a node; false: somebody else is reading it. @reading may be NULL: only look. */
static bool dynmap_reading_begin(struct dynmap_kpool *pool, struct dynmap_reading *reading, u64 pbn)
{
	struct dynmap_reading *other;
	bool found = false;

	spin_lock(&pool->reading_lock);
	list_for_each_entry(other, &pool->reading, list)
		found |= other->pbn == pbn;
	if (!found && reading) {
		reading->pbn = pbn;
		list_add(&reading->list, &pool->reading);
	}
	spin_unlock(&pool->reading_lock);
	return !found;
}

static void dynmap_reading_end(struct dynmap_kpool *pool, struct dynmap_reading *reading)
{
	spin_lock(&pool->reading_lock);
	list_del(&reading->list);
	spin_unlock(&pool->reading_lock);
	wake_up_all(&pool->reading_wait);
}

/* Read the node that is missing. */
static int dynmap_memory_node(struct dynmap_kpool *pool, struct dynmap_op *op, bool checkpoint)
{
	struct dynmap_cache *cache = &pool->core.cache;
	struct dynmap_buf *buf = dynmap_memory_buf(pool, checkpoint);
	u32 phase;
	bool heal;

	if (!buf)
		return dynmap_memory_wait(pool, checkpoint);
	/* Counted as I/O under way: the devices stay as long. */
	down_read(&pool->lock);
	phase = dynmap_phase_enter(pool);
	up_read(&pool->lock);
	buf = dynmap_node_fetch(cache, &op->miss, buf);
	dynmap_phase_leave(pool, phase);
	if (IS_ERR(buf))
		return PTR_ERR(buf) == -ESTALE ? 0 : PTR_ERR(buf);
	down_write(&pool->lock);
	dynmap_alloc_insert(&pool->core.alloc, buf);
	heal = cache->nr_heal && !pool->read_only;
	dynmap_kpool_unlock(pool);
	if (heal)
		mod_delayed_work(pool->wq, &pool->idle_work, 0);
	return 0;
}

/* The same, once for all who miss it: the others wait, and look it up again. */
static int dynmap_memory_node_once(struct dynmap_kpool *pool, struct dynmap_op *op, bool checkpoint)
{
	u64 pbn = op->miss.ptr.pbn[0];
	struct dynmap_reading reading;
	int ret;

	if (!dynmap_reading_begin(pool, &reading, pbn)) {
		wait_event(pool->reading_wait, dynmap_reading_begin(pool, NULL, pbn));
		return 0;
	}
	ret = dynmap_memory_node(pool, op, checkpoint);
	dynmap_reading_end(pool, &reading);
	return ret;
}

int dynmap_memory_supply(struct dynmap_kpool *pool, struct dynmap_op *op, int error,
			 bool checkpoint)
{
	if (error == -EAGAIN && op->miss.ptr.pbn[0] == DYNMAP_PBN_NONE)
		return 0;
	if (error == -EAGAIN)
		return dynmap_memory_node_once(pool, op, checkpoint);
	if (error != -ENOMEM)
		return error;
	if (!op->bitmaps)
		return dynmap_memory_spares(pool, checkpoint);
	op->bitmaps = false;
	return dynmap_memory_bitmaps(pool, checkpoint);
}
