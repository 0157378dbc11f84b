// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a pool does about free space. Owns: modes, the marks whose events tell that space
 * runs short, taking back what was reserved, and the writes that wait for space.
 *
 * Free space changes only under the metadata lock held for writing, and every such hold ends
 * in dynmap_kpool_unlock(), which therefore sees all changes. A write that found no space
 * waits in @no_space, unless some came back after it had looked; the next change that makes
 * blocks free tries it again.
 */
#include <linux/moduleparam.h>

#include "kernel/dynmap.h"

#define DYNMAP_RECLAIM_BLOCKS	1024	/* taken back at once, at least */
#define DYNMAP_FLUSH_WAIT	(60 * HZ)	/* of a suspend, when no_space_timeout is 0 */

static unsigned int no_space_timeout = 60;
module_param(no_space_timeout, uint, 0644);
MODULE_PARM_DESC(no_space_timeout,
		 "Seconds that writes wait for space in a full pool, 0: without end");

/* Wake those who wait for an event of the pool's device; lock held. */
static void dynmap_kpool_event(struct dynmap_kpool *pool)
{
	if (pool->ti)
		dm_table_event(pool->ti->table);
}

/* The time that writes wait for space begins with the next one that has to; lock held. */
static void dynmap_wait_anew(struct dynmap_kpool *pool)
{
	pool->waiting = false;
	pool->no_space_expired = false;
}

void dynmap_set_mode(struct dynmap_kpool *pool, enum dynmap_mode mode)
{
	static const char * const names[] = {
		"write", "out of data space", "out of metadata space", "read only"
	};

	if (pool->mode == mode || pool->mode == DYNMAP_MODE_READ_ONLY)
		return;
	DMINFO("pool switches to %s mode", names[mode]);
	pool->mode = mode;
	if (mode == DYNMAP_MODE_WRITE)
		dynmap_wait_anew(pool);
	else if (mode == DYNMAP_MODE_READ_ONLY)
		mod_delayed_work(pool->wq, &pool->no_space_work, 0);
	dynmap_kpool_event(pool);
}

void dynmap_set_no_space(struct dynmap_kpool *pool)
{
	dynmap_set_mode(pool, dynmap_table_is_full(&pool->core.table) ?
			DYNMAP_MODE_OUT_OF_METADATA_SPACE : DYNMAP_MODE_OUT_OF_DATA_SPACE);
}

/* Free space has fallen to a mark: raise the event, once; lock held. */
static void dynmap_mark_hit(struct dynmap_kpool *pool, bool *hit, const char *what)
{
	*hit = true;
	DMWARN_LIMIT("pool reached its %s", what);
	dynmap_kpool_event(pool);
}

void dynmap_rearm_low_water(struct dynmap_kpool *pool)
{
	if (dynmap_alloc_data_free(&pool->core.alloc) > pool->low_water)
		pool->low_water_hit = false;
}

void dynmap_rearm_node_mark(struct dynmap_kpool *pool)
{
	const struct dynmap_alloc *alloc = &pool->core.alloc;

	if (dynmap_alloc_node_free(alloc) > dynmap_alloc_node_mark(alloc))
		pool->node_mark_hit = false;
}

/* Blocks became free: change the mode if that is enough, and retry all that waits; lock held. */
static void dynmap_kpool_retry(struct dynmap_kpool *pool)
{
	struct bio *bio;

	if (dynmap_alloc_data_free(&pool->core.alloc))
		dynmap_set_mode(pool, DYNMAP_MODE_WRITE);
	else if (pool->mode == DYNMAP_MODE_OUT_OF_METADATA_SPACE)
		dynmap_set_no_space(pool);
	while ((bio = bio_list_pop(&pool->no_space)))
		dynmap_io_queue(bio);
}

void dynmap_kpool_unlock(struct dynmap_kpool *pool)
{
	const struct dynmap_alloc *alloc = &pool->core.alloc;
	bool back = alloc->space.vacated != pool->vacated;

	pool->vacated = alloc->space.vacated;
	if (back && (pool->mode == DYNMAP_MODE_OUT_OF_DATA_SPACE ||
		     pool->mode == DYNMAP_MODE_OUT_OF_METADATA_SPACE))
		dynmap_kpool_retry(pool);
	if (!pool->low_water_hit && dynmap_alloc_data_free(alloc) <= pool->low_water)
		dynmap_mark_hit(pool, &pool->low_water_hit, "low water mark");
	if (!pool->node_mark_hit && dynmap_alloc_node_free(alloc) <= dynmap_alloc_node_mark(alloc))
		dynmap_mark_hit(pool, &pool->node_mark_hit, "low water mark of metadata");
	up_write(&pool->lock);
}

void dynmap_kpool_resume(struct dynmap_kpool *pool, u64 low_water_units)
{
	u32 unit = pool->core.table.alloc_blocks;

	down_write(&pool->lock);
	/* The mark is compared with the free units of the status, which are whole ones. */
	pool->low_water = low_water_units < U64_MAX / unit ?
			  (low_water_units + 1) * unit - 1 : U64_MAX;
	pool->low_water_hit = false;
	pool->node_mark_hit = false;
	dynmap_wait_anew(pool);
	dynmap_kpool_retry(pool);
	dynmap_kpool_unlock(pool);
}

/* Take a part of the reserved space back, more than one writer needs. */
static int dynmap_reclaim_round(struct dynmap_kpool *pool, u64 *freed)
{
	u64 want = max_t(u64, pool->core.alloc.space.total_blocks / 256, DYNMAP_RECLAIM_BLOCKS);
	struct dynmap_reclaim reclaim;
	struct dynmap_op op = {};
	int ret;

	down_read(&pool->lock);
	dynmap_reclaim_begin(&pool->core.table, &reclaim);
	up_read(&pool->lock);
	do {
		dynmap_khelped(ret, pool, &op,
			       dynmap_table_reclaim(&pool->core.table, &reclaim, &op));
		cond_resched();
	} while (!ret && reclaim.freed < want);
	*freed = reclaim.freed;
	return ret == -ENOENT ? 0 : ret;
}

/*
 * One round of reclaim, @reclaiming set. The places of first writes are reserved space, too: no
 * new ones begin until it is over, and it waits for those under way.
 */
static int dynmap_reclaim_alone(struct dynmap_kpool *pool)
{
	u64 freed = 0;
	int ret;

	dynmap_settle(pool);
	wait_event(pool->bucket_wait, !atomic_read(&pool->first_writes));
	ret = dynmap_reclaim_round(pool, &freed);
	down_write(&pool->lock);
	pool->reclaiming = false;
	dynmap_kpool_unlock(pool);
	wake_up_all(&pool->bucket_wait);
	if (ret)
		return ret;
	return freed ? dynmap_kpool_release(pool) : -ENOSPC;
}

/*
 * Make blocks free that are in quarantine, or reserved and not written. Return 0 if any became
 * free since alloc.space.vacated was @seen, -ENOSPC if there are none. A round that can find
 * nothing is left out: it stops all first writes and looks at all volumes, and in a full pool each
 * write would ask for it.
 */
static int dynmap_kpool_reclaim(struct dynmap_kpool *pool, u64 seen)
{
	const struct dynmap_alloc *alloc = &pool->core.alloc;
	bool back, freed, reserved;
	int ret = 0;

	mutex_lock(&pool->reclaim_mutex);
	down_write(&pool->lock);
	back = alloc->space.vacated != seen;
	freed = alloc->quarantined;
	reserved = dynmap_table_may_reclaim(&pool->core.table);
	pool->reclaiming = !back && !freed && reserved;
	dynmap_kpool_unlock(pool);
	if (back)
		ret = 0;
	else if (freed)
		ret = dynmap_kpool_release(pool);
	else
		ret = reserved ? dynmap_reclaim_alone(pool) : -ENOSPC;
	mutex_unlock(&pool->reclaim_mutex);
	return ret;
}

/* Release what is in quarantine, or wait until who does it is ready. */
static int dynmap_kpool_release_once(struct dynmap_kpool *pool)
{
	u64 ended = READ_ONCE(pool->releases);
	int ret = 0;

	mutex_lock(&pool->reclaim_mutex);
	if (pool->releases == ended) {
		ret = dynmap_kpool_release(pool);
		WRITE_ONCE(pool->releases, pool->releases + 1);
	}
	mutex_unlock(&pool->reclaim_mutex);
	return ret;
}

int dynmap_kpool_make_room(struct dynmap_kpool *pool, struct dynmap_op *op, int error, u64 seen)
{
	switch (error) {
	case -ENOSPC:
		return dynmap_kpool_reclaim(pool, seen);
	case -EBUSY:
		return dynmap_kpool_release_once(pool);
	default:
		return dynmap_kpool_help(pool, op, error);
	}
}

/* Must a write that finds no space fail? Lock held. */
static bool dynmap_no_space_fails(const struct dynmap_kpool *pool)
{
	return pool->error_if_no_space || pool->no_space_expired || !dynmap_may_change(pool);
}

/* Return how a write that found no space has to end, or BLK_STS_OK if it may wait; lock held. */
static blk_status_t dynmap_wait_status(const struct dynmap_kpool *pool,
				       const struct dynmap_kvolume *kvolume)
{
	if (dynmap_no_space_fails(pool))
		return BLK_STS_NOSPC;
	if (dm_noflush_suspending(kvolume->ti))
		return BLK_STS_DM_REQUEUE;
	if (kvolume->flushing && !READ_ONCE(no_space_timeout) &&
	    time_after_eq(jiffies, kvolume->flushing_since + DYNMAP_FLUSH_WAIT))
		return BLK_STS_NOSPC;
	return BLK_STS_OK;
}

blk_status_t dynmap_kpool_wait(struct dynmap_kpool *pool, struct bio *bio)
{
	blk_status_t status = dynmap_wait_status(pool, dynmap_io(bio)->kvolume);

	if (status)
		return status;
	if (!pool->waiting)
		pool->waiting_since = jiffies;
	pool->waiting = true;
	bio_list_add(&pool->no_space, bio);
	queue_delayed_work(pool->wq, &pool->no_space_work, HZ);
	return BLK_STS_OK;
}

/* Set @no_space_expired when writes have waited for space as long as they may; lock held. */
static void dynmap_wait_check(struct dynmap_kpool *pool)
{
	unsigned int timeout = READ_ONCE(no_space_timeout);

	if (!timeout || !pool->waiting || dynmap_no_space_fails(pool) ||
	    time_before(jiffies, pool->waiting_since + timeout * (unsigned long)HZ))
		return;
	pool->no_space_expired = true;
	DMWARN("writes have waited %u s for space: they fail until space comes back", timeout);
	dynmap_kpool_event(pool);
}

/* End those of the waiting writes that may not wait any longer. */
static void dynmap_end_waiting(struct dynmap_kpool *pool)
{
	struct bio_list waiting, ended = BIO_EMPTY_LIST;
	struct bio *bio;

	down_write(&pool->lock);
	dynmap_wait_check(pool);
	waiting = pool->no_space;
	bio_list_init(&pool->no_space);
	while ((bio = bio_list_pop(&waiting))) {
		bio->bi_status = dynmap_wait_status(pool, dynmap_io(bio)->kvolume);
		bio_list_add(bio->bi_status ? &ended : &pool->no_space, bio);
	}
	if (!bio_list_empty(&pool->no_space))
		queue_delayed_work(pool->wq, &pool->no_space_work, HZ);
	dynmap_kpool_unlock(pool);
	while ((bio = bio_list_pop(&ended)))
		bio_endio(bio);
}

/*
 * This work looks every second while writes wait: how long they may is a parameter, which can
 * change at any moment.
 */
static void dynmap_no_space_work(struct work_struct *work)
{
	dynmap_end_waiting(container_of(to_delayed_work(work), struct dynmap_kpool,
					no_space_work));
}

void dynmap_kspace_init(struct dynmap_kpool *pool)
{
	bio_list_init(&pool->no_space);
	INIT_DELAYED_WORK(&pool->no_space_work, dynmap_no_space_work);
	/* There are no marks before the table is resumed. */
	pool->low_water_hit = true;
	pool->node_mark_hit = true;
}

void dynmap_kspace_stop(struct dynmap_kpool *pool)
{
	struct bio *bio;

	down_write(&pool->lock);
	while ((bio = bio_list_pop(&pool->no_space)))
		dynmap_io_queue(bio);
	dynmap_kpool_unlock(pool);
}

void dynmap_kvolume_suspend(struct dynmap_kvolume *kvolume)
{
	down_write(&kvolume->pool->lock);
	kvolume->flushing = !dm_noflush_suspending(kvolume->ti);
	kvolume->flushing_since = jiffies;
	dynmap_kpool_unlock(kvolume->pool);
	dynmap_end_waiting(kvolume->pool);
}

void dynmap_kvolume_suspended(struct dynmap_kvolume *kvolume)
{
	down_write(&kvolume->pool->lock);
	kvolume->flushing = false;
	dynmap_kpool_unlock(kvolume->pool);
}

void dynmap_kspace_open(struct dynmap_kpool *pool)
{
	if (dynmap_alloc_data_free(&pool->core.alloc) ||
	    dynmap_kpool_reclaim(pool, pool->core.alloc.space.vacated) != -ENOSPC)
		return;
	down_write(&pool->lock);
	dynmap_set_no_space(pool);
	dynmap_kpool_unlock(pool);
}
