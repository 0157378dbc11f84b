// SPDX-License-Identifier: GPL-2.0-only
/*
 * A pool's life in the kernel. Owns: opening devices into a pool, commits,
 * checkpoints, the end of quarantine, and emptying deleted volumes.
 */
#include <linux/delay.h>
#include <linux/random.h>
#include <linux/uuid.h>

#include "kernel/dynmap.h"

#define DYNMAP_IDLE_CHECKPOINT	(5 * HZ)
static unsigned int cache_mib = 256;
module_param(cache_mib, uint, 0644);
MODULE_PARM_DESC(cache_mib,
		 "Memory for the metadata of each pool that is opened from now on, in MiB, at least 8");
#define DYNMAP_PAGES		16	/* blocks being padded, at least */
#define DYNMAP_BIOS		64	/* writes of metadata, flushes and discards, at least */
#define DYNMAP_MIN_WORK		1000	/* us of background work before a pause */
#define DYNMAP_MAX_WORK		10000	/* us that a pause is measured by, at most */
#define DYNMAP_THIN_MAGIC	27022010

/* For a checkpoint: call @expression under the lock until it needs no buffers or nodes. */
#define dynmap_supplied(ret, kpool, op, expression)				\
	do {									\
		down_write(&(kpool)->lock);					\
		(ret) = (expression);						\
		dynmap_kpool_unlock(kpool);					\
		if ((ret) != -EAGAIN && (ret) != -ENOMEM)			\
			break;							\
		(ret) = dynmap_memory_supply(kpool, op, ret, true);		\
	} while (!(ret))

/*
 * Metadata that a checkpoint needs is unreadable, unless the devices are only away: no other one
 * will succeed. What was acknowledged goes to the journal; more would not when that is full.
 */
static void dynmap_checkpoint_unreadable(struct dynmap_kpool *pool, int error)
{
	down_write(&pool->lock);
	if (dynmap_kpool_devices(pool)) {
		DMERR("no checkpoint can be made: error %d", error);
		dynmap_set_mode(pool, DYNMAP_MODE_READ_ONLY);
	}
	dynmap_kpool_unlock(pool);
}

/* Prepare a checkpoint and begin it; checkpoint_mutex held. */
static int dynmap_checkpoint_begin(struct dynmap_kpool *pool)
{
	struct dynmap_op op = {};
	int ret;

	lockdep_assert_held(&pool->checkpoint_mutex);
	if (!dynmap_kpool_devices(pool))
		return -EIO;
	do {
		dynmap_supplied(ret, pool, &op, dynmap_pool_checkpoint_prepare(&pool->core, &op));
		cond_resched();
	} while (ret == -EINPROGRESS);
	if (!ret)
		dynmap_supplied(ret, pool, &op, dynmap_pool_checkpoint_begin(&pool->core, &op));
	if (ret == -EIO || ret == -EBADMSG || ret == -EUCLEAN)
		dynmap_checkpoint_unreadable(pool, ret);
	/* What was dirty is sealed: writes may go on. */
	wake_up_all(&pool->bucket_wait);
	return ret;
}

/*
 * Make durable what has been written, or (@ret) has not; both mutexes held. What is left of
 * the checkpoint's end goes to *@more.
 */
static int dynmap_checkpoint_publish(struct dynmap_kpool *pool, int ret, bool *more)
{
	lockdep_assert_held(&pool->commit_mutex);
	if (!ret)
		ret = dynmap_pool_checkpoint_publish(&pool->core);
	down_write(&pool->lock);
	*more = dynmap_pool_checkpoint_end(&pool->core, ret);
	if (ret)
		dynmap_set_mode(pool, DYNMAP_MODE_READ_ONLY);
	dynmap_kpool_unlock(pool);
	return ret;
}

/* The rest of a checkpoint's end; checkpoint_mutex held. */
static void dynmap_checkpoint_end(struct dynmap_kpool *pool, bool more)
{
	down_write(&pool->lock);
	while (more && dynmap_pool_checkpoint_end(&pool->core, 0)) {
		dynmap_kpool_unlock(pool);
		cond_resched();
		down_write(&pool->lock);
	}
	dynmap_rearm_node_mark(pool);
	dynmap_table_unload(&pool->core.table);
	dynmap_kpool_unlock(pool);
	WRITE_ONCE(pool->checkpoints, pool->checkpoints + 1);
	queue_work(pool->wq, &pool->memory_work);
}

/* Checkpoint with both mutexes held: no commit goes on meanwhile. */
static int dynmap_checkpoint_alone(struct dynmap_kpool *pool)
{
	int ret = dynmap_checkpoint_begin(pool);
	bool more;

	if (ret)
		return ret;
	ret = dynmap_checkpoint_publish(pool, dynmap_pool_checkpoint_io(&pool->core), &more);
	dynmap_checkpoint_end(pool, more);
	return ret;
}

/*
 * Checkpoint with checkpoint_mutex held. Who flushes does not wait for the nodes to be
 * written, only for the flush and the superblock, which take as long as a commit.
 */
static int dynmap_checkpoint_locked(struct dynmap_kpool *pool)
{
	int ret = dynmap_checkpoint_begin(pool);
	bool more;

	if (ret)
		return ret;
	ret = dynmap_pool_checkpoint_io(&pool->core);
	mutex_lock(&pool->commit_mutex);
	ret = dynmap_checkpoint_publish(pool, ret, &more);
	mutex_unlock(&pool->commit_mutex);
	dynmap_checkpoint_end(pool, more);
	return ret;
}

int dynmap_kpool_checkpoint(struct dynmap_kpool *pool)
{
	int ret;

	mutex_lock(&pool->checkpoint_mutex);
	ret = dynmap_checkpoint_locked(pool);
	mutex_unlock(&pool->checkpoint_mutex);
	return ret;
}

/*
 * Hundreds may have to wait here, in turn for minutes on a slow machine: they do
 * not queue for the mutex, but look again whether a checkpoint is still due.
 */
int dynmap_kpool_throttle(struct dynmap_kpool *pool)
{
	int ret = 0;

	while (!ret && dynmap_pool_wants_checkpoint(&pool->core)) {
		if (!mutex_trylock(&pool->checkpoint_mutex)) {
			schedule_timeout_idle(DIV_ROUND_UP(HZ, 100));
			continue;
		}
		ret = dynmap_checkpoint_locked(pool);
		mutex_unlock(&pool->checkpoint_mutex);
	}
	return ret;
}

int dynmap_kpool_help(struct dynmap_kpool *pool, struct dynmap_op *op, int error)
{
	u64 ended = READ_ONCE(pool->checkpoints);

	if (error != -EBUSY)
		error = dynmap_memory_supply(pool, op, error, false);
	if (error != -EBUSY)
		return error;
	/* Of all that ask while one is made none makes another before it has tried again. */
	mutex_lock(&pool->checkpoint_mutex);
	error = pool->checkpoints == ended ? dynmap_checkpoint_locked(pool) : 0;
	mutex_unlock(&pool->checkpoint_mutex);
	return error;
}

int dynmap_kpool_commit(struct dynmap_kpool *pool)
{
	bool release;
	int ret;

	dynmap_settle(pool);
	mutex_lock(&pool->commit_mutex);
	if (!dynmap_kpool_devices(pool)) {
		mutex_unlock(&pool->commit_mutex);
		return -EIO;
	}
	down_write(&pool->lock);
	dynmap_pool_commit_begin(&pool->core);
	dynmap_kpool_unlock(pool);
	ret = dynmap_pool_commit_io(&pool->core);
	down_write(&pool->lock);
	dynmap_pool_commit_end(&pool->core, ret);
	if (ret)
		dynmap_set_mode(pool, DYNMAP_MODE_READ_ONLY);
	release = pool->core.alloc.quarantine.blocks;
	dynmap_kpool_unlock(pool);
	mutex_unlock(&pool->commit_mutex);
	if (release)
		queue_work(pool->wq, &pool->release_work);
	return ret;
}

/* I/O that counted in @phase; exact once new I/O counts in the other. */
static unsigned long dynmap_inflight(struct dynmap_kpool *pool, u32 phase)
{
	unsigned long sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(*per_cpu_ptr(pool->inflight[phase], cpu));
	return sum;
}

/* Wait for the I/O of the phase that ends; release_mutex held. */
static void dynmap_phase_end(struct dynmap_kpool *pool, u32 old)
{
	for (;;) {
		dynmap_settle(pool);
		if (!dynmap_inflight(pool, old))
			return;
		usleep_range(100, 1000);
	}
}

void dynmap_kpool_freeze(struct dynmap_kpool *pool)
{
	u32 old;

	mutex_lock(&pool->release_mutex);
	down_write(&pool->lock);
	pool->snapshotting++;
	old = pool->phase;
	pool->phase = !old;
	dynmap_kpool_unlock(pool);
	dynmap_phase_end(pool, old);
	mutex_unlock(&pool->release_mutex);
}

void dynmap_kpool_thaw(struct dynmap_kpool *pool)
{
	down_write(&pool->lock);
	pool->snapshotting--;
	dynmap_kpool_unlock(pool);
	wake_up_all(&pool->bucket_wait);
}

/*
 * Rule 3b: blocks leave quarantine when all I/O has ended that looked up
 * before the phase was changed. Two phases take turns; the mutex ensures that
 * the one being entered is empty.
 */
static void dynmap_kpool_end_quarantine(struct dynmap_kpool *pool)
{
	struct dynmap_runlist list;
	bool more;
	u32 old;

	dynmap_runlist_init(&list);
	mutex_lock(&pool->release_mutex);
	down_write(&pool->lock);
	dynmap_runlist_move(&list, &pool->core.alloc.quarantine);
	old = pool->phase;
	pool->phase = !old;
	dynmap_kpool_unlock(pool);
	dynmap_phase_end(pool, old);
	if (READ_ONCE(pool->discard_passdown))
		dynmap_disks_discard(&pool->disks, &pool->core.geo, &list);
	do {
		down_write(&pool->lock);
		more = dynmap_alloc_release(&pool->core.alloc, &list);
		dynmap_rearm_low_water(pool);
		dynmap_rearm_node_mark(pool);
		dynmap_kpool_unlock(pool);
		cond_resched();
	} while (more);
	mutex_unlock(&pool->release_mutex);
}

int dynmap_kpool_release(struct dynmap_kpool *pool)
{
	int ret;

	dynmap_settle(pool);
	ret = dynmap_kpool_checkpoint(pool);
	if (!ret)
		ret = dynmap_kpool_commit(pool);
	if (!ret)
		dynmap_kpool_end_quarantine(pool);
	return ret;
}

static void dynmap_release_work(struct work_struct *work)
{
	dynmap_kpool_end_quarantine(container_of(work, struct dynmap_kpool, release_work));
}

/* One commit for all that wait for one. */
static void dynmap_commit_work(struct work_struct *work)
{
	struct dynmap_kpool *pool = container_of(work, struct dynmap_kpool, commit_work);
	struct bio_list bios;
	struct bio *bio;
	int ret;

	spin_lock_irq(&pool->list_lock);
	bios = pool->flushes;
	bio_list_init(&pool->flushes);
	spin_unlock_irq(&pool->list_lock);
	if (bio_list_empty(&bios))
		return;
	ret = dynmap_kpool_commit(pool);
	while ((bio = bio_list_pop(&bios))) {
		if (ret)
			bio->bi_status = errno_to_blk_status(ret);
		bio_endio(bio);
	}
}

/*
 * Background work takes a quarter of the time, in pieces that began at *began; the
 * rest is for the pool's other I/O, unless that waits for space.
 */
static void dynmap_pause(struct dynmap_kpool *pool, ktime_t *began)
{
	u64 worked = ktime_us_delta(ktime_get(), *began);

	cond_resched();
	if (worked < DYNMAP_MIN_WORK)
		return;
	worked = min_t(u64, worked, DYNMAP_MAX_WORK);
	if (READ_ONCE(pool->mode) == DYNMAP_MODE_WRITE)
		usleep_range(3 * worked, 4 * worked);
	*began = ktime_get();
}

static void dynmap_reap_work(struct work_struct *work)
{
	struct dynmap_kpool *pool = container_of(work, struct dynmap_kpool, reap_work);
	struct dynmap_op op = {};
	ktime_t began = ktime_get();
	int ret;

	do {
		dynmap_khelped(ret, pool, &op, dynmap_volume_reap(&pool->core.table, &op));
		if (!ret)
			ret = dynmap_kpool_throttle(pool);
		dynmap_pause(pool, &began);
	} while (!ret && !READ_ONCE(pool->closing));
	if (ret && ret != -ENOENT)
		DMERR("emptying a deleted volume stopped: error %d", ret);
	/* What is freed here is free after a checkpoint. */
	ret = dynmap_kpool_checkpoint(pool);
	if (!ret)
		ret = dynmap_kpool_commit(pool);
}

/* A checkpoint when one is due, and when the pool has been idle with changes. */
static void dynmap_idle_work(struct work_struct *work)
{
	struct dynmap_kpool *pool = container_of(to_delayed_work(work), struct dynmap_kpool,
						 idle_work);
	bool due;

	down_read(&pool->lock);
	due = !pool->core.failed && dynmap_pool_is_changed(&pool->core);
	up_read(&pool->lock);
	if (due && !dynmap_kpool_checkpoint(pool) && dynmap_kpool_commit(pool))
		DMERR("commit failed");
	queue_delayed_work(pool->wq, &pool->idle_work, DYNMAP_IDLE_CHECKPOINT);
}

static unsigned long dynmap_shrink_count(struct shrinker *shrinker, struct shrink_control *sc)
{
	struct dynmap_kpool *pool = dynmap_shrinker_owner(shrinker);

	return READ_ONCE(pool->core.cache.nr_clean) + READ_ONCE(pool->core.cache.elsewhere);
}

static unsigned long dynmap_shrink_scan(struct shrinker *shrinker, struct shrink_control *sc)
{
	struct dynmap_kpool *pool = dynmap_shrinker_owner(shrinker);
	u32 most = min(sc->nr_to_scan, 1024UL), freed;

	/* The lock may be held by who asks for memory. */
	if (!down_write_trylock(&pool->lock))
		return SHRINK_STOP;
	freed = dynmap_cache_shrink(&pool->core.cache, most);
	if (freed < most)
		freed += dynmap_space_evict(&pool->core.alloc.space, most - freed);
	/* No space on the devices has changed: there are no events, which could sleep, to raise. */
	up_write(&pool->lock);
	return freed ? freed : SHRINK_STOP;
}

static void dynmap_kpool_free(struct dynmap_kpool *pool)
{
	if (pool->io_wq)
		destroy_workqueue(pool->io_wq);
	if (pool->read_wq)
		destroy_workqueue(pool->read_wq);
	if (pool->wq)
		destroy_workqueue(pool->wq);
	if (pool->commit_wq)
		destroy_workqueue(pool->commit_wq);
	mempool_destroy(pool->pages);
	bioset_exit(&pool->bios);
	dynmap_memory_exit(pool);
	dynmap_fresh_exit(pool);
	free_percpu(pool->inflight[0]);
	free_percpu(pool->inflight[1]);
	kvfree(pool);
}

static struct dynmap_kpool *dynmap_kpool_alloc(void)
{
	struct dynmap_kpool *pool = kvzalloc(sizeof(*pool), GFP_KERNEL);

	if (!pool)
		return NULL;
	init_rwsem(&pool->lock);
	mutex_init(&pool->message_mutex);
	mutex_init(&pool->checkpoint_mutex);
	mutex_init(&pool->commit_mutex);
	mutex_init(&pool->release_mutex);
	mutex_init(&pool->reclaim_mutex);
	spin_lock_init(&pool->list_lock);
	bio_list_init(&pool->flushes);
	dynmap_memory_init(pool);
	pool->disks.bios = &pool->bios;
	INIT_WORK(&pool->commit_work, dynmap_commit_work);
	INIT_WORK(&pool->release_work, dynmap_release_work);
	INIT_WORK(&pool->reap_work, dynmap_reap_work);
	INIT_DELAYED_WORK(&pool->idle_work, dynmap_idle_work);
	dynmap_kspace_init(pool);
	pool->inflight[0] = alloc_percpu(unsigned long);
	pool->inflight[1] = alloc_percpu(unsigned long);
	pool->io_wq = alloc_workqueue("dynmap-io", WQ_MEM_RECLAIM | WQ_UNBOUND, 0);
	pool->read_wq = alloc_workqueue("dynmap-read", WQ_MEM_RECLAIM | WQ_UNBOUND, 0);
	pool->wq = alloc_workqueue("dynmap", WQ_MEM_RECLAIM | WQ_UNBOUND, 0);
	pool->commit_wq = alloc_workqueue("dynmap-commit", WQ_MEM_RECLAIM | WQ_HIGHPRI | WQ_PERCPU,
					  0);
	pool->pages = mempool_create_page_pool(DYNMAP_PAGES, 0);
	if (!bioset_init(&pool->bios, DYNMAP_BIOS, 0, BIOSET_NEED_BVECS) &&
	    !dynmap_fresh_init(pool) && pool->inflight[0] && pool->inflight[1] && pool->io_wq &&
	    pool->read_wq && pool->wq && pool->commit_wq && pool->pages)
		return pool;
	dynmap_kpool_free(pool);
	return NULL;
}

void dynmap_kpool_destroy(struct dynmap_kpool *pool)
{
	int ret = 0;

	WRITE_ONCE(pool->closing, true);
	cancel_delayed_work_sync(&pool->idle_work);
	cancel_delayed_work_sync(&pool->no_space_work);
	cancel_delayed_work_sync(&pool->settle_work);
	cancel_work_sync(&pool->reap_work);
	drain_workqueue(pool->io_wq);
	drain_workqueue(pool->read_wq);
	drain_workqueue(pool->commit_wq);
	drain_workqueue(pool->wq);
	if (dynmap_may_change(pool))
		ret = dynmap_kpool_release(pool);
	if (ret)
		DMERR("last checkpoint failed: error %d", ret);
	drain_workqueue(pool->wq);
	/* What was done since may have asked for a checkpoint, or failed. */
	cancel_delayed_work_sync(&pool->idle_work);
	cancel_delayed_work_sync(&pool->no_space_work);
	dynmap_shrinker_unregister(&pool->shrinker);
	dynmap_pool_close(&pool->core);
	dynmap_kpool_free(pool);
}

void dynmap_kpool_stop(struct dynmap_kpool *pool)
{
	int ret = 0;
	u32 old;

	WRITE_ONCE(pool->closing, true);
	mutex_lock(&pool->release_mutex);
	down_write(&pool->lock);
	pool->stopped = true;
	old = pool->phase;
	pool->phase = !old;
	dynmap_kpool_unlock(pool);
	dynmap_phase_end(pool, old);
	mutex_unlock(&pool->release_mutex);
	dynmap_kspace_stop(pool);
	cancel_delayed_work_sync(&pool->idle_work);
	cancel_work_sync(&pool->reap_work);
	if (pool->mode != DYNMAP_MODE_READ_ONLY)
		ret = dynmap_kpool_release(pool);
	if (ret)
		DMERR("%s: the checkpoint before the pool stops failed: error %d",
		      dm_device_name(pool->md), ret);
	/* Those who write metadata or discard hold a mutex, those who read it count as I/O. */
	mutex_lock(&pool->release_mutex);
	mutex_lock(&pool->checkpoint_mutex);
	mutex_lock(&pool->commit_mutex);
	down_write(&pool->lock);
	memset(pool->disks.bdev, 0, sizeof(pool->disks.bdev));
	old = pool->phase;
	pool->phase = !old;
	dynmap_kpool_unlock(pool);
	mutex_unlock(&pool->commit_mutex);
	mutex_unlock(&pool->checkpoint_mutex);
	dynmap_phase_end(pool, old);
	mutex_unlock(&pool->release_mutex);
	DMWARN("%s: the pool has stopped, for it has no table any more: I/O of its volumes fails until a table with the same devices is loaded",
	       dm_device_name(pool->md));
}

/* The work that goes on in the background while the pool is open. */
static void dynmap_kpool_begin(struct dynmap_kpool *pool)
{
	if (pool->read_only)
		return;
	queue_work(pool->wq, &pool->memory_work);
	queue_delayed_work(pool->wq, &pool->idle_work, DYNMAP_IDLE_CHECKPOINT);
	queue_work(pool->wq, &pool->reap_work);
}

static u64 dynmap_bdev_blocks(struct block_device *bdev)
{
	return bdev_nr_sectors(bdev) / DYNMAP_BLOCK_SECTORS;
}

/* Say in words why device @dev cannot be used; @sb is room for its first block. */
static void dynmap_refuse(struct dynmap_disks *disks, u32 dev, struct dynmap_disk_super *sb,
			  int error, char **message)
{
	struct block_device *bdev = disks->bdev[dev];
	const __le64 *word = (const __le64 *)sb;

	*message = "a device carries something else than a dynmap pool, see the kernel log";
	switch (error) {
	case -ENOMSG:
		if (!disks->store.ops->read(&disks->store, dev, 0, sb) &&
		    le64_to_cpu(word[4]) == DYNMAP_THIN_MAGIC)
			DMERR("%pg carries dm-thin metadata: expected zeros or a dynmap pool",
			      bdev);
		else
			DMERR("%pg is not empty and carries no dynmap superblock: expected zeros in its first 4 KiB, or a dynmap pool",
			      bdev);
		break;
	case -ENOSPC:
		DMERR("%pg is too small: expected at least %u KiB", bdev,
		      DYNMAP_MIN_DEVICE_BLOCKS * 4);
		*message = "a device is too small";
		break;
	case -ESTALE:
		DMERR("%pg missed an opening of its pool: use the device that was part of it, or accept_stale for an old copy, whose content is of another time",
		      bdev);
		*message = "a device missed an opening of the pool";
		break;
	case -EOPNOTSUPP:
		DMERR("%pg carries a pool of a newer format or with unknown features: use a newer module",
		      bdev);
		*message = "a device carries a pool that this module does not understand";
		break;
	default:
		DMERR("%pg has no valid superblock: error %d", bdev, error);
		break;
	}
}

/* Read each device's superblock; *fresh if all are empty, the newest to @sb. */
static int dynmap_scan(struct dynmap_disks *disks, struct dynmap_disk_super *supers,
		       struct dynmap_disk_super *sb, bool *fresh, bool accept_stale,
		       char **message)
{
	u64 blocks[DYNMAP_MAX_DEVICES];
	int errors[DYNMAP_MAX_DEVICES];
	u32 i, empty = 0;
	int newest;

	for (i = 0; i < disks->nr; i++)
		blocks[i] = dynmap_bdev_blocks(disks->bdev[i]);
	newest = dynmap_super_scan(&disks->store, disks->nr, blocks, supers, errors);
	for (i = 0; i < disks->nr; i++) {
		if (errors[i] == -ESTALE && accept_stale) {
			DMWARN("%pg missed an opening of its pool and is accepted all the same",
			       disks->bdev[i]);
			errors[i] = 0;
		}
		empty += errors[i] == -ENODATA;
		if (!errors[i] || errors[i] == -ENODATA)
			continue;
		dynmap_refuse(disks, i, &supers[i], errors[i], message);
		return errors[i];
	}
	*fresh = empty == disks->nr;
	if (*fresh)
		return 0;
	*sb = supers[newest];
	if (!empty)
		return 0;
	for (i = 0; i < disks->nr; i++)
		if (errors[i])
			DMERR("%pg is empty, other devices belong to a pool", disks->bdev[i]);
	*message = "some devices are empty, others belong to a pool";
	return -EINVAL;
}

/* Put the devices into the order of the superblock @sb; if @read_only, some may be missing. */
static int dynmap_arrange(struct dynmap_disks *disks, struct dynmap_disk_super *supers,
			  const struct dynmap_disk_super *sb, bool read_only, char **message)
{
	struct block_device *order[DYNMAP_MAX_DEVICES] = {};
	u32 i, at;

	for (i = 0; i < disks->nr; i++) {
		at = le32_to_cpu(supers[i].this_device);
		if (memcmp(supers[i].uuid, sb->uuid, sizeof(sb->uuid))) {
			DMERR("%pg belongs to another pool", disks->bdev[i]);
			*message = "a device belongs to another pool";
			return -EINVAL;
		}
		if (at >= le32_to_cpu(sb->nr_devices) || order[at] ||
		    memcmp(supers[i].device[at].uuid, sb->device[at].uuid, DYNMAP_UUID_BYTES)) {
			DMERR("%pg is given twice or does not fit the pool", disks->bdev[i]);
			*message = "a device is given twice";
			return -EINVAL;
		}
		if (dynmap_bdev_blocks(disks->bdev[i]) <
		    le64_to_cpu(sb->device[at].blocks)) {
			DMERR("%pg is smaller than the pool knows it", disks->bdev[i]);
			*message = "a device has shrunk";
			return -EINVAL;
		}
		order[at] = disks->bdev[i];
	}
	if (disks->nr != le32_to_cpu(sb->nr_devices) && !read_only) {
		DMERR("the pool has %u devices, %u were given; read_only opens it without the others",
		      le32_to_cpu(sb->nr_devices), disks->nr);
		*message = "wrong number of devices for this pool";
		return -EINVAL;
	}
	disks->nr = le32_to_cpu(sb->nr_devices);
	for (i = 0; i < disks->nr; i++)
		if (!order[i])
			DMWARN("device %u, %pU, is missing: what lies there cannot be read", i,
			       sb->device[i].uuid);
	memcpy(disks->bdev, order, sizeof(order));
	return 0;
}

/* Are these the devices of a pool that has stopped, and as it left them? @sb: the newest. */
static int dynmap_start_check(struct dynmap_kpool *pool, struct dynmap_disks *disks,
			      struct dynmap_disk_super *supers, const struct dynmap_disk_super *sb,
			      char **error)
{
	const struct dynmap_disk_super *own = pool->core.super;
	int ret = dynmap_arrange(disks, supers, own, pool->read_only, error);

	if (ret)
		return ret;
	/* Whoever opens a pool begins an incarnation. The last checkpoint may have failed. */
	if (sb->incarnation == own->incarnation && (sb->epoch == own->epoch || pool->core.failed))
		return 0;
	DMERR("%s: the pool on the devices has changed since it stopped here: remove its volumes, then load the table again",
	      dm_device_name(pool->md));
	*error = "the pool has changed since it stopped, see the kernel log";
	return -ESTALE;
}

int dynmap_kpool_start(struct dynmap_kpool *pool, struct dynmap_disks *disks, char **error)
{
	struct dynmap_disk_super *supers = kvcalloc(disks->nr + 1, sizeof(*supers), GFP_KERNEL);
	bool fresh;
	int ret;

	*error = "out of memory";
	if (!supers)
		return -ENOMEM;
	dynmap_disks_init(disks);
	ret = dynmap_scan(disks, supers, &supers[disks->nr], &fresh, false, error);
	if (!ret && fresh) {
		*error = "the devices are empty, the pool that stopped had others";
		ret = -EINVAL;
	}
	if (!ret)
		ret = dynmap_start_check(pool, disks, supers, &supers[disks->nr], error);
	kvfree(supers);
	if (ret)
		return ret;
	down_write(&pool->lock);
	memcpy(pool->disks.bdev, disks->bdev, sizeof(disks->bdev));
	pool->stopped = false;
	dynmap_kpool_unlock(pool);
	WRITE_ONCE(pool->closing, false);
	dynmap_kpool_begin(pool);
	DMINFO("%s: the pool goes on", dm_device_name(pool->md));
	return 0;
}

static int dynmap_format_new(struct dynmap_disks *disks, u32 alloc_blocks)
{
	struct dynmap_format_params *params = kzalloc(sizeof(*params), GFP_KERNEL);
	u32 i;
	int ret;

	if (!params)
		return -ENOMEM;
	generate_random_uuid(params->uuid);
	params->nr_devs = disks->nr;
	params->alloc_blocks = alloc_blocks;
	params->copies = 2;
	for (i = 0; i < disks->nr; i++) {
		generate_random_uuid(params->dev_uuid[i]);
		params->dev_blocks[i] = dynmap_bdev_blocks(disks->bdev[i]);
		DMINFO("formatting %pg for a new pool", disks->bdev[i]);
	}
	ret = dynmap_pool_format(&disks->store, params);
	kfree(params);
	return ret;
}

u32 dynmap_kpool_devices(const struct dynmap_kpool *pool)
{
	u32 i, count = 0;

	for (i = 0; i < pool->disks.nr; i++)
		count += !!pool->disks.bdev[i];
	return count;
}

bool dynmap_kpool_uses(const struct dynmap_kpool *pool, const struct block_device *bdev)
{
	u32 i;

	for (i = 0; i < pool->disks.nr; i++)
		if (pool->disks.bdev[i] == bdev)
			return true;
	return false;
}

int dynmap_kpool_check_new(struct dynmap_kpool *pool, struct block_device *bdev, char **message)
{
	struct dynmap_disk_super *sb = kmalloc(sizeof(*sb), GFP_KERNEL);
	struct dynmap_disks *disks = kzalloc(sizeof(*disks), GFP_KERNEL);
	int ret = -ENOMEM;

	if (!sb || !disks)
		goto free;
	dynmap_disks_init(disks);
	disks->bdev[0] = bdev;
	disks->nr = 1;
	ret = dynmap_super_read(&disks->store, 0, dynmap_bdev_blocks(bdev), sb);
	if (ret == -ENODATA) {
		ret = 0;
	} else if (ret) {
		dynmap_refuse(disks, 0, sb, ret, message);
	} else if (memcmp(sb->uuid, pool->core.super->uuid, sizeof(sb->uuid)) ||
		   le32_to_cpu(sb->this_device) < pool->core.geo.nr_devs) {
		/* One that was about to join this pool when the power failed is welcome. */
		DMERR("%pg belongs to another pool", bdev);
		*message = "a device belongs to another pool";
		ret = -EINVAL;
	}
free:
	kfree(sb);
	kfree(disks);
	return ret;
}

/* Enter the growth, new devices included; lock held. */
static int dynmap_grow_begin(struct dynmap_kpool *pool, struct dynmap_growth *growth,
			     struct block_device **bdev)
{
	int ret = dynmap_growth_begin(growth, &pool->core);

	if (ret)
		return ret;
	memcpy(pool->disks.bdev, bdev, growth->nr_devs * sizeof(*bdev));
	pool->disks.nr = growth->nr_devs;
	return 0;
}

/* A growth has failed: the pool is as it was before; both mutexes held. */
static void dynmap_grow_undo(struct dynmap_kpool *pool, struct dynmap_growth *growth)
{
	bool again;
	int ret;
	u32 i;

	down_write(&pool->lock);
	again = dynmap_growth_undo(growth, &pool->core);
	pool->disks.nr = growth->old_nr_devs;
	for (i = growth->old_nr_devs; i < growth->nr_devs; i++)
		pool->disks.bdev[i] = NULL;
	dynmap_kpool_unlock(pool);
	if (!again)
		return;
	ret = dynmap_checkpoint_alone(pool);
	if (ret) {
		/* The journal may still lie on a device that is gone. */
		down_write(&pool->lock);
		dynmap_pool_fail(&pool->core);
		dynmap_set_mode(pool, DYNMAP_MODE_READ_ONLY);
		dynmap_kpool_unlock(pool);
	}
	if (ret || dynmap_growth_write(growth, &pool->core))
		DMERR("superblocks may name devices that did not join the pool");
}

/* Go through all steps of a growth; both mutexes held. */
static int dynmap_grow_steps(struct dynmap_kpool *pool, struct dynmap_growth *growth,
			     struct block_device **bdev)
{
	int ret;

	down_write(&pool->lock);
	ret = dynmap_grow_begin(pool, growth, bdev);
	dynmap_kpool_unlock(pool);
	if (ret)
		return ret;
	ret = dynmap_growth_announce(growth, &pool->core);
	if (!ret)
		ret = dynmap_checkpoint_alone(pool);
	if (!ret)
		ret = dynmap_growth_write(growth, &pool->core);
	if (ret) {
		dynmap_grow_undo(pool, growth);
		return ret;
	}
	down_write(&pool->lock);
	dynmap_growth_end(growth, &pool->core);
	dynmap_kpool_unlock(pool);
	DMINFO("pool has grown to %u devices, %llu blocks", growth->nr_devs,
	       pool->core.alloc.space.total_blocks);
	return 0;
}

/**
 * struct dynmap_grow_args - what a growth needs beside the pool
 * @growth: the core's part
 * @bdev: devices, the pool's own first, in its order
 * @blocks: their lengths
 * @uuid: uuids for new ones
 */
struct dynmap_grow_args {
	struct dynmap_growth growth;
	struct block_device *bdev[DYNMAP_MAX_DEVICES];
	u64 blocks[DYNMAP_MAX_DEVICES];
	u8 uuid[DYNMAP_MAX_DEVICES][DYNMAP_UUID_BYTES];
};

int dynmap_kpool_grow(struct dynmap_kpool *pool, struct block_device **bdev, u32 nr)
{
	struct dynmap_grow_args *args = kvzalloc(sizeof(*args), GFP_KERNEL);
	u32 i, count;
	int ret;

	if (!args)
		return -ENOMEM;
	/* The ring of the journal moves: no commit may lie between. */
	mutex_lock(&pool->checkpoint_mutex);
	mutex_lock(&pool->commit_mutex);
	count = pool->disks.nr;
	memcpy(args->bdev, pool->disks.bdev, count * sizeof(*bdev));
	for (i = 0; i < nr; i++)
		if (!dynmap_kpool_uses(pool, bdev[i]))
			args->bdev[count++] = bdev[i];
	for (i = 0; i < count; i++) {
		args->blocks[i] = dynmap_bdev_blocks(args->bdev[i]);
		generate_random_uuid(args->uuid[i]);
	}
	ret = dynmap_growth_prepare(&args->growth, &pool->core, count, args->blocks, args->uuid[0]);
	if (!ret && args->growth.changes)
		ret = dynmap_grow_steps(pool, &args->growth, args->bdev);
	mutex_unlock(&pool->commit_mutex);
	mutex_unlock(&pool->checkpoint_mutex);
	dynmap_growth_exit(&args->growth);
	kvfree(args);
	return ret;
}

struct dynmap_kpool *dynmap_kpool_create(struct dynmap_disks *disks, u32 alloc_blocks,
					 bool read_only, bool accept_stale, char **error)
{
	struct dynmap_disk_super *supers, *sb;
	struct dynmap_kpool *pool;
	bool fresh;
	int ret = -ENOMEM;

	*error = "out of memory";
	pool = dynmap_kpool_alloc();
	supers = kvcalloc(disks->nr + 1, sizeof(*supers), GFP_KERNEL);
	if (!pool || !supers)
		goto free;
	sb = &supers[disks->nr];
	memcpy(pool->disks.bdev, disks->bdev, sizeof(disks->bdev));
	pool->disks.nr = disks->nr;
	dynmap_disks_init(&pool->disks);
	ret = dynmap_scan(&pool->disks, supers, sb, &fresh, accept_stale, error);
	if (!ret && fresh) {
		*error = "cannot format the devices";
		ret = read_only ? -EROFS : dynmap_format_new(&pool->disks, alloc_blocks);
		if (!ret)
			ret = dynmap_scan(&pool->disks, supers, sb, &fresh, false, error);
	}
	if (!ret)
		ret = dynmap_arrange(&pool->disks, supers, sb, read_only, error);
	if (ret)
		goto free;
	*error = "cannot open the pool, see the kernel log";
	ret = dynmap_pool_open(&pool->core, &pool->disks.store, sb,
			       dynmap_cache_bufs(READ_ONCE(cache_mib)),
			       read_only ? DYNMAP_OPEN_READ_ONLY : get_random_u64() | 1);
	if (ret)
		goto free;
	ret = dynmap_shrinker_register(&pool->shrinker, pool, dynmap_shrink_count,
				       dynmap_shrink_scan);
	if (ret) {
		dynmap_pool_close(&pool->core);
		goto free;
	}
	kvfree(supers);
	pool->refs = 1;
	pool->read_only = read_only;
	if (read_only)
		pool->mode = DYNMAP_MODE_READ_ONLY;
	else
		dynmap_kspace_open(pool);
	if (pool->core.replayed)
		DMINFO("replayed %llu journal records", pool->core.replayed);
	dynmap_kpool_begin(pool);
	return pool;
free:
	kvfree(supers);
	if (pool)
		dynmap_kpool_free(pool);
	return ERR_PTR(ret);
}
