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
 * Fresh writes need not: what is settled in the order of completion is right for them,
 * too, as long as all of them are redirected, or all go in place. A write in place that
 * finds windows held while there are redirected writes settles first: the redirect of an
 * older one must be in the map before the younger one is looked up. Writers settle in
 * batches, a work what they leave.
 */
#include "kernel/dynmap.h"

#define DYNMAP_FRESH_WRITES	4096		/* at a time: more of them wait */
#define DYNMAP_SETTLE_DELAY	(HZ / 50)	/* until a work does */

static u32 dynmap_bucket(const struct dynmap_volume *volume, u64 lbn)
{
	return hash_64((lbn / DYNMAP_WINDOW_BLOCKS) ^ (volume->id << 40), ilog2(DYNMAP_BUCKETS));
}

static bool dynmap_window_take(struct dynmap_kpool *pool, u32 bucket, bool exclusive)
{
	if (exclusive)
		return !atomic_cmpxchg(&pool->bucket[bucket], 0, -1);
	return !atomic_read(&pool->wanted[bucket]) &&
	       atomic_inc_unless_negative(&pool->bucket[bucket]);
}

/* Hold the windows of [lbn, end), or the first ones: where what is held ends. */
static u64 dynmap_windows_take(struct dynmap_kpool *pool, struct dynmap_fresh *fresh, u64 end)
{
	u64 at = fresh->first;

	while (at < end && fresh->windows < DYNMAP_MAX_WINDOWS) {
		if (!dynmap_window_take(pool, dynmap_bucket(fresh->volume, at), fresh->exclusive))
			break;
		fresh->windows++;
		at = (at | (DYNMAP_WINDOW_BLOCKS - 1)) + 1;
	}
	atomic_add(fresh->windows, &pool->first_writes);
	return min(at, end);
}

static void dynmap_windows_put(struct dynmap_kpool *pool, struct dynmap_fresh *fresh)
{
	u64 at = fresh->first;
	u32 i;

	for (i = 0; i < fresh->windows; i++, at += DYNMAP_WINDOW_BLOCKS)
		atomic_add(fresh->exclusive ? 1 : -1,
			   &pool->bucket[dynmap_bucket(fresh->volume, at)]);
	atomic_sub(fresh->windows, &pool->first_writes);
}

static void dynmap_settle_work(struct work_struct *work)
{
	dynmap_settle(container_of(to_delayed_work(work), struct dynmap_kpool, settle_work));
}

int dynmap_fresh_init(struct dynmap_kpool *pool)
{
	u32 i;

	spin_lock_init(&pool->idle_lock);
	init_llist_head(&pool->idle);
	init_llist_head(&pool->complete);
	init_waitqueue_head(&pool->bucket_wait);
	INIT_DELAYED_WORK(&pool->settle_work, dynmap_settle_work);
	pool->fresh = kvcalloc(DYNMAP_FRESH_WRITES, sizeof(*pool->fresh), GFP_KERNEL);
	if (!pool->fresh)
		return -ENOMEM;
	for (i = 0; i < DYNMAP_FRESH_WRITES; i++)
		llist_add(&pool->fresh[i].node, &pool->idle);
	return 0;
}

void dynmap_fresh_exit(struct dynmap_kpool *pool)
{
	kvfree(pool->fresh);
}

__hot struct dynmap_fresh *dynmap_fresh_begin(struct dynmap_kpool *pool,
					      struct dynmap_volume *volume, u64 lbn, u64 len,
					      bool exclusive)
{
	struct dynmap_fresh *fresh;
	struct llist_node *node;

	if (pool->reclaiming)
		return ERR_PTR(-EINPROGRESS);
	/* Those who take need the lock, those who give back do not. */
	spin_lock(&pool->idle_lock);
	node = llist_del_first(&pool->idle);
	spin_unlock(&pool->idle_lock);
	if (!node)
		return ERR_PTR(-EINPROGRESS);
	fresh = llist_entry(node, struct dynmap_fresh, node);
	fresh->volume = volume;
	fresh->first = lbn;
	fresh->lbn = lbn;
	fresh->windows = 0;
	fresh->exclusive = exclusive;
	fresh->redirect = false;
	fresh->failed = false;
	fresh->len = dynmap_windows_take(pool, fresh, lbn + len) - lbn;
	if (!fresh->len) {
		llist_add(&fresh->node, &pool->idle);
		return ERR_PTR(-EINPROGRESS);
	}
	fresh->phase = dynmap_phase_enter(pool);
	return fresh;
}

/* It holds its windows no longer, and is no I/O under way any more. */
static __hot void dynmap_fresh_leave(struct dynmap_kpool *pool, struct dynmap_fresh *fresh)
{
	if (fresh->redirect)
		atomic_sub(fresh->windows, &pool->redirects);
	dynmap_windows_put(pool, fresh);
	dynmap_phase_leave(pool, fresh->phase);
}

static __hot void dynmap_fresh_end(struct dynmap_kpool *pool, struct dynmap_fresh *fresh)
{
	dynmap_fresh_leave(pool, fresh);
	llist_add(&fresh->node, &pool->idle);
	if (wq_has_sleeper(&pool->bucket_wait))
		wake_up_all(&pool->bucket_wait);
}

u32 dynmap_fresh_pending(struct dynmap_kpool *pool)
{
	return DYNMAP_WRITE_NODES * atomic_read(&pool->first_writes) +
	       DYNMAP_REDIRECT_NODES * atomic_read(&pool->redirects);
}

__hot int dynmap_fresh_hold(struct dynmap_kpool *pool, struct dynmap_fresh *fresh,
			    struct dynmap_op *op)
{
	int ret;

	pool->core.alloc.promised = dynmap_fresh_pending(pool);
	ret = dynmap_table_hold(&pool->core.table, fresh->volume, fresh->len, &fresh->pbn,
				&fresh->len, op);
	if (ret) {
		dynmap_fresh_end(pool, fresh);
		return dynmap_note_no_nodes(pool, ret);
	}
	fresh->redirect = true;
	atomic_add(fresh->windows, &pool->redirects);
	return 0;
}

void dynmap_fresh_cancel(struct dynmap_kpool *pool, struct dynmap_fresh *fresh)
{
	if (fresh->redirect)
		dynmap_alloc_unhold(&pool->core.alloc, fresh->pbn, fresh->len);
	dynmap_fresh_end(pool, fresh);
}

__hot int dynmap_fresh_done(struct dynmap_kpool *pool, struct dynmap_fresh *fresh, int error)
{
	bool first;

	/* The map does not change any more: it would never lead to this data. */
	if (!error && READ_ONCE(pool->mode) == DYNMAP_MODE_READ_ONLY)
		error = -EIO;
	if (error && !fresh->redirect) {
		dynmap_fresh_end(pool, fresh);
		return error;
	}
	fresh->failed = error;
	atomic_inc(&pool->unsettled);
	first = llist_add(&fresh->node, &pool->complete);
	/* All are taken at once: the work that was asked for by the first one sees to this one. */
	if (first)
		queue_delayed_work(pool->wq, &pool->settle_work, DYNMAP_SETTLE_DELAY);
	if (wq_has_sleeper(&pool->bucket_wait))
		mod_delayed_work(pool->wq, &pool->settle_work, 0);
	return error;
}

int dynmap_fresh_lost(const struct dynmap_kpool *pool, struct dynmap_mapping *mapping,
		      const struct dynmap_volume *volume)
{
	const struct dynmap_fresh *fresh;

	for (fresh = pool->lost; fresh; fresh = fresh->next_lost) {
		if (fresh->volume != volume || fresh->lbn + fresh->len <= mapping->lbn)
			continue;
		if (fresh->lbn <= mapping->lbn)
			return -EIO;
		mapping->len = min(mapping->len, fresh->lbn - mapping->lbn);
	}
	return 0;
}

bool dynmap_fresh_hides(struct dynmap_kpool *pool, const struct dynmap_volume *volume, u64 lbn,
			u64 end)
{
	if (!atomic_read(&pool->unsettled))
		return false;
	for (; lbn < end; lbn = (lbn | (DYNMAP_WINDOW_BLOCKS - 1)) + 1)
		if (atomic_read(&pool->bucket[dynmap_bucket(volume, lbn)]))
			return true;
	return false;
}

void dynmap_fresh_want(struct dynmap_kpool *pool, const struct dynmap_volume *volume, u64 lbn)
{
	atomic_inc(&pool->wanted[dynmap_bucket(volume, lbn)]);
}

void dynmap_fresh_unwant(struct dynmap_kpool *pool, const struct dynmap_volume *volume, u64 lbn)
{
	if (atomic_dec_and_test(&pool->wanted[dynmap_bucket(volume, lbn)]))
		wake_up_all(&pool->bucket_wait);
}

void dynmap_fresh_wait(struct dynmap_kpool *pool, const struct dynmap_volume *volume, u64 lbn,
		       bool wanting, bool must_wait)
{
	u32 bucket = dynmap_bucket(volume, lbn);

	wait_event_timeout(pool->bucket_wait,
			   !READ_ONCE(pool->reclaiming) && !READ_ONCE(pool->snapshotting) &&
			   !READ_ONCE(pool->wait_for_nodes) &&
			   !(must_wait && dynmap_pool_must_wait(&pool->core)) &&
			   !llist_empty(&pool->idle) &&
			   !atomic_read(&pool->bucket[bucket]) &&
			   (wanting || !atomic_read(&pool->wanted[bucket])), HZ / 10);
}

/* The first of those that are to be settled; NULL: there is none; lock held for writing. */
static struct dynmap_fresh *dynmap_settle_first(struct dynmap_kpool *pool)
{
	if (!pool->settling)
		pool->settling = llist_reverse_order(llist_del_all(&pool->complete));
	return pool->settling ? llist_entry(pool->settling, struct dynmap_fresh, node) : NULL;
}

/*
 * An acknowledged write cannot be mapped: no flush succeeds any more, and reads of its
 * blocks fail until the pool is opened again. Lock held for writing.
 */
static void dynmap_settle_lose(struct dynmap_kpool *pool, struct dynmap_fresh *fresh, int error)
{
	DMERR_LIMIT("an acknowledged write cannot be mapped: volume %llu, block %llu: error %d",
		    fresh->volume->id, fresh->lbn, error);
	dynmap_pool_fail(&pool->core);
	dynmap_set_mode(pool, DYNMAP_MODE_READ_ONLY);
	dynmap_fresh_leave(pool, fresh);
	fresh->next_lost = pool->lost;
	pool->lost = fresh;
	wake_up_all(&pool->bucket_wait);
}

/* It is done with, or lost; lock held for writing. */
static __hot void dynmap_settle_next(struct dynmap_kpool *pool, struct dynmap_fresh *fresh,
				     int error)
{
	if (fresh->redirect && (error || fresh->failed))
		dynmap_alloc_unhold(&pool->core.alloc, fresh->pbn, fresh->len);
	pool->settling = fresh->node.next;
	WRITE_ONCE(pool->wait_for_nodes, false);
	atomic_dec(&pool->unsettled);
	if (error)
		dynmap_settle_lose(pool, fresh, error);
	else
		dynmap_fresh_end(pool, fresh);
}

static __hot int dynmap_settle_one(struct dynmap_kpool *pool, struct dynmap_fresh *fresh,
				   struct dynmap_op *op)
{
	struct dynmap_table *table = &pool->core.table;

	/* The functions called below raise it. */
	op->urgent = 0;
	op->bitmaps = false;
	op->place = fresh->place;
	if (fresh->failed)
		return 0;
	if (fresh->redirect)
		return dynmap_table_redirect(table, fresh->volume, &fresh->lbn, &fresh->pbn,
					     &fresh->len, op);
	return dynmap_table_set_written(table, fresh->volume, fresh->lbn, fresh->pbn, fresh->len,
					op);
}

__hot int dynmap_settle_locked(struct dynmap_kpool *pool, struct dynmap_op *op)
{
	struct dynmap_fresh *fresh;
	int ret;

	if (!atomic_read(&pool->unsettled))
		return 0;
	while ((fresh = dynmap_settle_first(pool))) {
		ret = dynmap_settle_one(pool, fresh, op);
		if (ret == -EAGAIN || ret == -ENOMEM || ret == -EBUSY)
			return ret;
		dynmap_settle_next(pool, fresh, ret);
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
		dynmap_settle_next(pool, dynmap_settle_first(pool), error);
	dynmap_kpool_unlock(pool);
}

void dynmap_settle(struct dynmap_kpool *pool)
{
	struct dynmap_op op;
	int ret, error;

	while (atomic_read(&pool->unsettled)) {
		down_write(&pool->lock);
		ret = dynmap_settle_locked(pool, &op);
		dynmap_kpool_unlock(pool);
		if (!ret)
			return;
		error = dynmap_kpool_help(pool, &op, ret);
		if (error)
			dynmap_settle_lost(pool, ret, error);
	}
}

