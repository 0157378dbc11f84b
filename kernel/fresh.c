// SPDX-License-Identifier: GPL-2.0-only
/*
 * Fresh writes: first writes, and those redirected because their blocks are shared,
 * between the lookup and the tree. Owns: windows, and the order in which the places
 * of such writes enter the tree.
 *
 * A fresh write holds its windows, and counts as I/O under way, from the lookup until
 * it is settled: until the tree says where its data is. The bio is acknowledged
 * before that, as soon as its data is complete: waking a worker for each block would
 * take longer than writing it. Who would see the difference settles first:
 *
 *   - reads and overwrites in a window that is held, while anything is unsettled
 *   - parts of blocks, discards, zeroes, messages, and commits of course
 *   - snapshots, ends of quarantine and reclaims, which wait for what is under way
 *
 * Only fresh writes need not: what is settled in the order of completion is right
 * for them, too. Writers settle in batches, a work what they leave.
 */
#include "kernel/dynmap.h"

#define DYNMAP_SETTLE_MANY	64		/* unsettled writes: the next writer settles them */
#define DYNMAP_SETTLE_DELAY	(HZ / 50)	/* until a work does */

static u32 dynmap_bucket(const struct dynmap_volume *volume, u64 lbn)
{
	return hash_64((lbn / DYNMAP_WINDOW_BLOCKS) ^ (volume->id << 40), ilog2(DYNMAP_BUCKETS));
}

/* Hold the windows of [lbn, end), or the first ones: where what is held ends. */
static u64 dynmap_windows_take(struct dynmap_kpool *pool, struct dynmap_fresh *fresh, u64 end)
{
	u64 at = fresh->first;
	unsigned long flags;
	int *users;

	spin_lock_irqsave(&pool->list_lock, flags);
	while (at < end && fresh->windows < DYNMAP_MAX_WINDOWS) {
		users = &pool->bucket[dynmap_bucket(fresh->volume, at)];
		if (fresh->exclusive ? *users : *users < 0)
			break;
		*users += fresh->exclusive ? -1 : 1;
		fresh->windows++;
		at = (at | (DYNMAP_WINDOW_BLOCKS - 1)) + 1;
	}
	pool->first_writes += fresh->windows;
	spin_unlock_irqrestore(&pool->list_lock, flags);
	return min(at, end);
}

static void dynmap_windows_put(struct dynmap_kpool *pool, struct dynmap_fresh *fresh)
{
	u64 at = fresh->first;
	unsigned long flags;

	spin_lock_irqsave(&pool->list_lock, flags);
	pool->first_writes -= fresh->windows;
	for (; fresh->windows; fresh->windows--, at += DYNMAP_WINDOW_BLOCKS)
		pool->bucket[dynmap_bucket(fresh->volume, at)] += fresh->exclusive ? 1 : -1;
	spin_unlock_irqrestore(&pool->list_lock, flags);
	if (wq_has_sleeper(&pool->bucket_wait))
		wake_up_all(&pool->bucket_wait);
}

struct dynmap_fresh *dynmap_fresh_begin(struct dynmap_kpool *pool, struct dynmap_volume *volume,
					u64 lbn, u64 len, bool exclusive)
{
	struct dynmap_fresh *fresh;

	if (pool->reclaiming)
		return ERR_PTR(-EINPROGRESS);
	fresh = mempool_alloc(pool->fresh_pool, GFP_NOWAIT | __GFP_NOWARN);
	if (!fresh)
		return ERR_PTR(-ENOBUFS);
	memset(fresh, 0, sizeof(*fresh));
	fresh->volume = volume;
	fresh->first = lbn;
	fresh->lbn = lbn;
	fresh->exclusive = exclusive;
	fresh->len = dynmap_windows_take(pool, fresh, lbn + len) - lbn;
	if (!fresh->len) {
		mempool_free(fresh, pool->fresh_pool);
		return ERR_PTR(-EINPROGRESS);
	}
	fresh->phase = dynmap_phase_enter(pool);
	return fresh;
}

static void dynmap_fresh_end(struct dynmap_kpool *pool, struct dynmap_fresh *fresh)
{
	dynmap_windows_put(pool, fresh);
	dynmap_phase_leave(pool, fresh->phase);
	mempool_free(fresh, pool->fresh_pool);
}

int dynmap_fresh_hold(struct dynmap_kpool *pool, struct dynmap_fresh *fresh, struct dynmap_op *op)
{
	int ret = dynmap_table_hold(&pool->core.table, fresh->volume, fresh->len, &fresh->pbn,
				    &fresh->len, op);

	if (ret)
		dynmap_fresh_end(pool, fresh);
	else
		fresh->redirect = true;
	return ret;
}

void dynmap_fresh_cancel(struct dynmap_kpool *pool, struct dynmap_fresh *fresh)
{
	if (fresh->redirect)
		dynmap_alloc_unhold(&pool->core.alloc, fresh->pbn, fresh->len);
	dynmap_fresh_end(pool, fresh);
}

void dynmap_fresh_done(struct dynmap_kpool *pool, struct dynmap_fresh *fresh, bool failed)
{
	unsigned long flags;

	if (failed && !fresh->redirect) {
		dynmap_fresh_end(pool, fresh);
		return;
	}
	fresh->failed = failed;
	spin_lock_irqsave(&pool->list_lock, flags);
	list_add_tail(&fresh->list, &pool->complete);
	pool->completed++;
	spin_unlock_irqrestore(&pool->list_lock, flags);
	if (wq_has_sleeper(&pool->bucket_wait))
		mod_delayed_work(pool->wq, &pool->settle_work, 0);
	else
		queue_delayed_work(pool->wq, &pool->settle_work, DYNMAP_SETTLE_DELAY);
}

static u32 dynmap_unsettled(struct dynmap_kpool *pool)
{
	return READ_ONCE(pool->completed) - READ_ONCE(pool->settled);
}

bool dynmap_fresh_many(struct dynmap_kpool *pool)
{
	return dynmap_unsettled(pool) >= DYNMAP_SETTLE_MANY;
}

bool dynmap_fresh_hides(struct dynmap_kpool *pool, const struct dynmap_volume *volume, u64 lbn,
			u64 end)
{
	if (!dynmap_unsettled(pool))
		return false;
	for (; lbn < end; lbn = (lbn | (DYNMAP_WINDOW_BLOCKS - 1)) + 1)
		if (READ_ONCE(pool->bucket[dynmap_bucket(volume, lbn)]))
			return true;
	return false;
}

void dynmap_fresh_wait(struct dynmap_kpool *pool, const struct dynmap_volume *volume, u64 lbn)
{
	u32 bucket = dynmap_bucket(volume, lbn);

	wait_event_timeout(pool->bucket_wait, !READ_ONCE(pool->reclaiming) &&
			   !READ_ONCE(pool->snapshotting) &&
			   !READ_ONCE(pool->bucket[bucket]), HZ / 10);
}

/* The first of those being settled is done with, or lost; lock held for writing. */
static void dynmap_settle_next(struct dynmap_kpool *pool, int error)
{
	struct dynmap_fresh *fresh = list_first_entry(&pool->settling, struct dynmap_fresh, list);

	if (fresh->redirect && (error || fresh->failed))
		dynmap_alloc_unhold(&pool->core.alloc, fresh->pbn, fresh->len);
	if (error) {
		/* No flush may succeed any more. */
		DMERR_LIMIT("an acknowledged write cannot be mapped: volume %llu, block %llu: error %d",
			    fresh->volume->id, fresh->lbn, error);
		dynmap_pool_fail(&pool->core);
		dynmap_set_mode(pool, DYNMAP_MODE_READ_ONLY);
	}
	list_del(&fresh->list);
	WRITE_ONCE(pool->settled, pool->settled + 1);
	dynmap_fresh_end(pool, fresh);
}

static int dynmap_settle_one(struct dynmap_kpool *pool, struct dynmap_fresh *fresh,
			     struct dynmap_op *op)
{
	struct dynmap_table *table = &pool->core.table;

	memset(op, 0, sizeof(*op));
	if (fresh->failed)
		return 0;
	if (fresh->redirect)
		return dynmap_table_redirect(table, fresh->volume, &fresh->lbn, &fresh->pbn,
					     &fresh->len, op);
	return dynmap_table_set_written(table, fresh->volume, fresh->lbn, fresh->pbn, fresh->len,
					op);
}

int dynmap_settle_locked(struct dynmap_kpool *pool, struct dynmap_op *op)
{
	struct dynmap_fresh *fresh;
	int ret;

	if (!dynmap_unsettled(pool))
		return 0;
	spin_lock_irq(&pool->list_lock);
	list_splice_tail_init(&pool->complete, &pool->settling);
	spin_unlock_irq(&pool->list_lock);
	while ((fresh = list_first_entry_or_null(&pool->settling, struct dynmap_fresh, list))) {
		ret = dynmap_settle_one(pool, fresh, op);
		if (ret == -EAGAIN || ret == -ENOMEM || ret == -EBUSY)
			return ret;
		dynmap_settle_next(pool, ret);
	}
	if (dynmap_pool_wants_checkpoint(&pool->core))
		mod_delayed_work(pool->wq, &pool->idle_work, 0);
	return 0;
}

/* There was no help, but @error: what still @needs it is lost. */
static void dynmap_settle_lost(struct dynmap_kpool *pool, int needs, int error)
{
	struct dynmap_op op;

	down_write(&pool->lock);
	if (dynmap_settle_locked(pool, &op) == needs)
		dynmap_settle_next(pool, error);
	up_write(&pool->lock);
}

void dynmap_settle(struct dynmap_kpool *pool)
{
	struct dynmap_op op;
	int ret, error;

	while (dynmap_unsettled(pool)) {
		down_write(&pool->lock);
		ret = dynmap_settle_locked(pool, &op);
		up_write(&pool->lock);
		if (!ret)
			return;
		error = dynmap_kpool_help(pool, &op, ret);
		/* What was acknowledged is not given up for want of memory. */
		if (error == -ENOMEM)
			schedule_timeout_uninterruptible(1);
		else if (error)
			dynmap_settle_lost(pool, ret, error);
	}
}

void dynmap_settle_work(struct work_struct *work)
{
	dynmap_settle(container_of(to_delayed_work(work), struct dynmap_kpool, settle_work));
}
