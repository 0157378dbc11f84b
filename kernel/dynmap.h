/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel's side of a pool, shared by dm-dynmap.c and kernel/.
 *
 * Lock order:
 *
 *   message_mutex	   one message that changes the pool at a time
 *   dynmap_pools_lock	   list of pools and their reference counts
 *     reclaim_mutex	   one round of taking reserved space back, or waiting for
 *			   freed space, at a time
 *     release_mutex	   one end of quarantine at a time
 *     checkpoint_mutex	   one checkpoint at a time
 *     commit_mutex	   one commit at a time; no superblock is written meanwhile
 *       lock		   the metadata lock: CPU work only, never held over I/O
 *         list_lock	   the queue of flushes (irqs off)
 *         idle_lock	   fresh writes not in use
 *
 * A bio's way: dynmap_io_map() tries with the lock for reading; for holes, shared blocks and
 * what must be settled first, for writing. What lacks a node, space or a window, or needs
 * padding, is trimmed to one block and goes to io_wq, if it is a read to read_wq.
 * A first write, or one that was redirected because its blocks are shared, is
 * acknowledged when its data is complete and enters the tree soon after, see
 * kernel/fresh.c; FLUSH and FUA wait for commit_work.
 */
#ifndef DM_DYNMAP_KERNEL_H
#define DM_DYNMAP_KERNEL_H

#include <linux/atomic.h>
#include <linux/bio.h>
#include <linux/completion.h>
#include <linux/device-mapper.h>
#include <linux/llist.h>
#include <linux/mempool.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/rwsem.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "core/grow.h"
#include "core/open.h"
#include "core/reap.h"
#include "kernel/compat.h"

#define DM_MSG_PREFIX "dynmap"

/* In order of degradation; dynmap_set_mode() makes all transitions.
 *
 *   WRITE <--> OUT_OF_DATA_SPACE <--> OUT_OF_METADATA_SPACE <--> WRITE
 *     |              |                        |
 *     +--------> READ_ONLY <------------------+
 *
 * OUT_OF_METADATA_SPACE: not even reserved blocks can be written, and volumes
 * cannot be created; both out-of-space modes end when space comes. READ_ONLY:
 * a commit or checkpoint failed; it lasts until the pool is opened again.
 */
enum dynmap_mode {
	DYNMAP_MODE_WRITE,
	DYNMAP_MODE_OUT_OF_DATA_SPACE,
	DYNMAP_MODE_OUT_OF_METADATA_SPACE,
	DYNMAP_MODE_READ_ONLY,
};

/**
 * struct dynmap_batch - writes of the store that are waited for together
 * @pending: those under way, and one for the thread that will wait for them
 * @error: one of their errors, 0: none failed
 * @done: completed when @pending falls to zero before that thread waits no longer
 */
struct dynmap_batch {
	atomic_t pending;
	int error;
	struct completion done;
};

/**
 * struct dynmap_disks - the store over block devices
 * @store: for the core
 * @bdev: the devices, in the order of the superblock; NULL: it is missing, and
 *	nothing is written to any; all are NULL while the pool is stopped
 * @nr: how many
 * @bios: where bios come from
 * @written: device holds completed writes that no flush covered
 * @batch: see DYNMAP_BATCH_*
 */
struct dynmap_disks {
	struct dynmap_store store;
	struct block_device *bdev[DYNMAP_MAX_DEVICES];
	u32 nr;
	struct bio_set *bios;
	unsigned long written[BITS_TO_LONGS(DYNMAP_MAX_DEVICES)];
	struct dynmap_batch batch[DYNMAP_BATCHES];
};

void dynmap_disks_init(struct dynmap_disks *disks);

/*
 * Rule 6: discard blocks on their devices when their quarantine is over, while they are
 * still busy; waits. What a device makes of it is of no consequence.
 */
void dynmap_disks_discard(struct dynmap_disks *disks, const struct dynmap_geometry *geo,
			  struct dynmap_runlist *list);

/* A data write to device @dev has completed. */
static inline void dynmap_disks_set_written(struct dynmap_disks *disks, u32 dev)
{
	if (!test_bit(dev, disks->written))
		set_bit(dev, disks->written);
}

#define DYNMAP_BUCKETS		1024
#define DYNMAP_SETTLE_MANY	64	/* unsettled writes: the next writer settles them */
#define DYNMAP_MAX_WINDOWS	16	/* of one fresh write: 1 MiB */

/**
 * struct dynmap_kpool - a pool in the kernel
 * @list: in the list of pools
 * @refs: pool targets and volume targets that hold it; by dynmap_pools_lock
 * @targets: how many of them are pool targets, which hold the devices; by dynmap_pools_lock
 * @md: mapped device of the pool target
 * @ti: the pool target that is loaded, for events
 * @core: the core's pool
 * @disks: its devices
 * @lock: metadata lock, over @core
 * @message_mutex: see lock order
 * @checkpoint_mutex: see lock order
 * @commit_mutex: see lock order
 * @release_mutex: see lock order
 * @reclaim_mutex: see lock order
 * @checkpoints: how many have ended; by @checkpoint_mutex
 * @releases: how many times a write made others wait for the end of quarantine; by
 *	@reclaim_mutex
 * @reclaiming: no first write may begin; by @lock
 * @phase: which of @inflight new I/O counts in; by @lock
 * @inflight: per CPU, I/O under way that looked up before the phase changed
 * @closing: background work is to stop: it is resumed when the pool is opened again
 * @snapshotting: snapshots being made: no change of a volume may begin; by @lock
 * @stopped: there is no pool target: no I/O may begin; by @lock
 * @fresh: all there are for fresh writes
 * @idle_lock: over taking from @idle
 * @idle: those of @fresh that are not in use
 * @complete: fresh writes whose data is complete, the last one first
 * @settling: older ones, the first one first; by @lock
 * @lost: acknowledged writes that could not be mapped; by @lock
 * @unsettled: how many there are of @complete and @settling
 * @redirects: windows held by redirected writes
 * @list_lock: over @flushes
 * @flushes: bios that wait for a commit
 * @no_space: writes that wait for space, only in the out-of-space modes; by @lock
 * @vacated: alloc.space.vacated at the end of the last hold of @lock
 * @waiting: a write had to wait, and the mode has not been WRITE since; by @lock
 * @waiting_since: when it began to, in jiffies
 * @no_space_expired: the time to wait is over: writes that find no space fail; by @lock
 * @bucket: windows that fresh writes hold, by a hash: users, or -1: one exclusive user
 * @wanted: by the same hash: writes that wait to be the exclusive user
 * @first_writes: windows that fresh writes hold
 * @wait_for_nodes: fresh writes under way leave no room for the nodes of more: others wait until
 *	one of them is settled
 * @bucket_wait: woken when a fresh write is over, at the end of a reclaim, and when a
 *	checkpoint has begun
 * @mode: enum dynmap_mode; by @lock
 * @error_if_no_space: feature
 * @read_only: feature: nothing is ever written
 * @discard_passdown: freed blocks are discarded on their devices
 * @low_water: blocks; an event is raised when no more are free for data
 * @low_water_hit: it was raised, and space has not come back since
 * @node_mark_hit: the same of dynmap_alloc_node_mark(), blocks that are free for nodes
 * @pages: for blocks that are padded
 * @bios: for metadata, flushes and discards: those of file systems may all be waiting for
 *	a commit
 * @set_aside: buffers for a checkpoint when memory is short; by @lock
 * @nr_set_aside: how many
 * @reading: nodes being read; by @reading_lock
 * @reading_lock: see there
 * @reading_wait: woken when one has been read
 * @shrinker: of nodes and bitmaps
 * @io_wq: slow writes, discards and zeroes
 * @read_wq: slow reads
 * @wq: the works below, but for the first one of them
 * @commit_wq: that one, on the processor of who waits for it
 * @commit_work: commits for @flushes
 * @settle_work: settles what writers leave
 * @release_work: ends quarantine
 * @reap_work: empties deleted volumes
 * @memory_work: sets buffers aside, at the opening and when some were taken
 * @idle_work: checkpoints
 * @no_space_work: ends the writes of @no_space that may not wait any longer
 */
struct dynmap_kpool {
	struct list_head list;
	u32 refs;
	u32 targets;
	struct mapped_device *md;
	struct dm_target *ti;
	struct dynmap_pool core;
	struct dynmap_disks disks;
	struct rw_semaphore lock;
	struct mutex message_mutex;	/* see lock order */
	struct mutex checkpoint_mutex;	/* see lock order */
	struct mutex commit_mutex;	/* see lock order */
	struct mutex release_mutex;	/* see lock order */
	struct mutex reclaim_mutex;	/* see lock order */
	u64 checkpoints;
	u64 releases;
	bool reclaiming;
	u32 phase;
	unsigned long __percpu *inflight[2];
	bool closing;
	u32 snapshotting;
	bool stopped;
	struct dynmap_fresh *fresh;
	spinlock_t idle_lock;		/* over taking from idle */
	struct llist_head idle;
	struct llist_head complete;
	struct llist_node *settling;
	struct dynmap_fresh *lost;
	atomic_t unsettled;
	atomic_t redirects;
	spinlock_t list_lock;		/* over flushes */
	struct bio_list flushes;
	struct bio_list no_space;
	u64 vacated;
	bool waiting;
	unsigned long waiting_since;
	bool no_space_expired;
	atomic_t bucket[DYNMAP_BUCKETS];
	atomic_t wanted[DYNMAP_BUCKETS];
	atomic_t first_writes;
	bool wait_for_nodes;
	wait_queue_head_t bucket_wait;
	enum dynmap_mode mode;
	bool error_if_no_space;
	bool read_only;
	bool discard_passdown;
	u64 low_water;
	bool low_water_hit;
	bool node_mark_hit;
	mempool_t *pages;
	struct bio_set bios;
	struct list_head set_aside;
	u32 nr_set_aside;
	struct list_head reading;
	spinlock_t reading_lock;	/* over reading */
	wait_queue_head_t reading_wait;
	struct dynmap_shrinker shrinker;
	struct workqueue_struct *io_wq;
	struct workqueue_struct *read_wq;
	struct workqueue_struct *wq;
	struct workqueue_struct *commit_wq;
	struct work_struct commit_work;
	struct delayed_work settle_work;
	struct work_struct release_work;
	struct work_struct reap_work;
	struct work_struct memory_work;
	struct delayed_work idle_work;
	struct delayed_work no_space_work;
};

/**
 * struct dynmap_kvolume - a volume target
 * @ti: the target
 * @pool: its pool
 * @volume: the core's volume
 * @pool_dev: keeps the pool's device open
 * @origin: the external origin: what unwritten blocks read as; NULL: none
 * @origin_sectors: its length
 * @fresh: the last write was a fresh one: the next one will be
 * @flushing: a suspend waits for all I/O; by the pool's lock
 * @flushing_since: when it began, in jiffies
 */
struct dynmap_kvolume {
	struct dm_target *ti;
	struct dynmap_kpool *pool;
	struct dynmap_volume *volume;
	struct dm_dev *pool_dev;
	struct dm_dev *origin;
	u64 origin_sectors;
	bool fresh;
	bool flushing;
	unsigned long flushing_since;
};

/**
 * struct dynmap_fresh - a fresh write, from its lookup until it is settled
 * @node: in the pool's @idle, @complete or @settling
 * @next_lost: in the pool's @lost
 * @volume: the volume
 * @first: first block of the windows held
 * @lbn: first block; when settled in part, of what is left
 * @pbn: where it goes
 * @len: blocks
 * @place: where the lookup found it
 * @windows: windows held, from that of @first on
 * @phase: counted in the pool's inflight
 * @exclusive: the window is held exclusively
 * @redirect: it goes to held blocks
 * @failed: its data did not arrive: what is held is to be free again
 */
struct dynmap_fresh {
	union {
		struct llist_node node;
		struct dynmap_fresh *next_lost;
	};
	struct dynmap_volume *volume;
	u64 first;
	u64 lbn;
	u64 pbn;
	struct dynmap_place place;
	u32 len;
	u32 windows;
	u32 phase;
	bool exclusive;
	bool redirect;
	bool failed;
};

/**
 * struct dynmap_io - per-bio data
 * @kvolume: the target
 * @work: in io_wq or read_wq
 * @fresh: a fresh write's, until its data is complete
 * @src: old place of a block that is copied, DYNMAP_PBN_NONE: what nobody has written
 * @dev: device it was sent to
 * @phase: counted in inflight, -1 for not: a fresh write is counted by @fresh
 * @write: it writes
 * @commit: it is FUA: commit before completion
 * @wanting: it waits for its window, see dynmap_fresh_want()
 * @waited: it has waited for a checkpoint, and does not have to again
 */
struct dynmap_io {
	struct dynmap_kvolume *kvolume;
	struct work_struct work;
	struct dynmap_fresh *fresh;
	u64 src;
	u32 dev;
	int phase;
	bool write;
	bool commit;
	bool wanting;
	bool waited;
};

static inline struct dynmap_io *dynmap_io(struct bio *bio)
{
	return dm_per_bio_data(bio, sizeof(struct dynmap_io));
}

/* Count I/O as one that uses a mapping looked up now: the phase to leave; lock held. */
static inline u32 dynmap_phase_enter(struct dynmap_kpool *pool)
{
	this_cpu_inc(*pool->inflight[pool->phase]);
	return pool->phase;
}

static inline void dynmap_phase_leave(struct dynmap_kpool *pool, u32 phase)
{
	this_cpu_dec(*pool->inflight[phase]);
}

/* May anything change? Lock held. */
static inline bool dynmap_may_change(const struct dynmap_kpool *pool)
{
	return !pool->stopped && pool->mode != DYNMAP_MODE_READ_ONLY;
}

/* kernel/memory.c */

#define DYNMAP_MIN_CACHE_MIB	8
#define DYNMAP_MAX_CACHE_MIB	65536

/* Memory of a pool for nodes and bitmaps, in buffers of 4 KiB. */
static inline u32 dynmap_cache_bufs(u32 mib)
{
	mib = clamp_t(u32, mib, DYNMAP_MIN_CACHE_MIB, DYNMAP_MAX_CACHE_MIB);
	return mib << (20 - DYNMAP_BLOCK_SHIFT);
}

void dynmap_memory_init(struct dynmap_kpool *pool);
/* Free the buffers that are set aside. */
void dynmap_memory_exit(struct dynmap_kpool *pool);

/**
 * dynmap_memory_supply() - bring what a core operation lacks
 * @pool: the pool
 * @op: the operation
 * @error: what it returned
 * @checkpoint: it is part of a checkpoint, which may take what is set aside
 *
 * Context: process; called and returns without the metadata lock. Waits a while for memory.
 * Return: 0: try again; -EBUSY, if it is no part of a checkpoint: make one, memory is short;
 * an error of reading a node; @error if it is none that asks for help.
 */
int __must_check dynmap_memory_supply(struct dynmap_kpool *pool, struct dynmap_op *op, int error,
				      bool checkpoint);

/* kernel/pool.c */

/**
 * dynmap_kpool_create() - open or format a pool on devices
 * @disks: the devices, in any order
 * @alloc_blocks: allocation size for a new pool
 * @read_only: write nothing; devices may be missing
 * @accept_stale: devices may have missed an opening of the pool
 * @error: set to a message
 *
 * Return: the pool, with one reference, or an ERR_PTR.
 */
struct dynmap_kpool *dynmap_kpool_create(struct dynmap_disks *disks, u32 alloc_blocks,
					 bool read_only, bool accept_stale, char **error);
void dynmap_kpool_destroy(struct dynmap_kpool *pool);

/**
 * dynmap_kpool_stop() - end all I/O: the devices are about to be put
 * @pool: a pool of which volumes are still in use
 *
 * New I/O fails. What was under way is waited for, and the last changes reach the
 * devices in a checkpoint. No device is used after that, also if it failed.
 *
 * Context: process; dynmap_pools_lock held.
 */
void dynmap_kpool_stop(struct dynmap_kpool *pool);

/**
 * dynmap_kpool_start() - go on after dynmap_kpool_stop()
 * @pool: the pool, stopped
 * @disks: its devices, in any order
 * @error: set to a message
 *
 * The devices must be those that the pool had, as the pool left them: what it
 * knows of them is in memory, and is not read again.
 *
 * Context: process; dynmap_pools_lock held.
 * Return: 0; -EINVAL: they are not; -ESTALE: the pool on them was opened by others
 * meanwhile; -EIO, -ENOMEM and what dynmap_super_scan() says.
 */
int dynmap_kpool_start(struct dynmap_kpool *pool, struct dynmap_disks *disks, char **error);

/**
 * dynmap_kpool_grow() - take devices as they are now
 * @pool: the pool
 * @bdev: devices; those that are not the pool's yet are added
 * @nr: how many
 *
 * Context: process; the devices stay open as long as the pool.
 * Return: 0, also if nothing changed; -EINVAL if a device has shrunk, -ENOMEM,
 * -ENOSPC, -EFBIG, -EIO; the pool is then as it was, unless it turned read-only.
 */
int dynmap_kpool_grow(struct dynmap_kpool *pool, struct block_device **bdev, u32 nr);

/* Can this device be added to the pool? 0, or an error and *@message. */
int dynmap_kpool_check_new(struct dynmap_kpool *pool, struct block_device *bdev, char **message);

/* Devices of the pool that are there. */
u32 dynmap_kpool_devices(const struct dynmap_kpool *pool);
/* Is this a device of the pool? */
bool dynmap_kpool_uses(const struct dynmap_kpool *pool, const struct block_device *bdev);

/* Bring what a core operation lacks; called and returns without the lock. */
int __must_check dynmap_kpool_help(struct dynmap_kpool *pool, struct dynmap_op *op, int error);
/* Commit and wait; process context. */
int dynmap_kpool_commit(struct dynmap_kpool *pool);
/* For those who change much: make the checkpoint that is due; 0 or an error. Process context. */
int dynmap_kpool_throttle(struct dynmap_kpool *pool);
/* Checkpoint and wait; process context. */
int dynmap_kpool_checkpoint(struct dynmap_kpool *pool);
/* Keep writes from beginning and wait for those under way; let them begin. Process context. */
void dynmap_kpool_freeze(struct dynmap_kpool *pool);
void dynmap_kpool_thaw(struct dynmap_kpool *pool);
/* End the quarantine of all that was freed; the caller has no I/O in flight. */
int dynmap_kpool_release(struct dynmap_kpool *pool);
/*
 * Release the metadata lock held for writing. Free space changes in such holds only, so this
 * function sees each change, whatever took the blocks or gave them back: it raises the events
 * of free space that has fallen to a mark, and tries writes again that wait for space.
 */
void dynmap_kpool_unlock(struct dynmap_kpool *pool);

/* Call @expression under the lock held for writing until it needs no help. */
#define dynmap_khelped(ret, kpool, op, expression)				\
	do {									\
		down_write(&(kpool)->lock);					\
		(ret) = (expression);						\
		dynmap_kpool_unlock(kpool);					\
		if ((ret) != -EAGAIN && (ret) != -ENOMEM && (ret) != -EBUSY)	\
			break;							\
		(ret) = dynmap_kpool_help(kpool, op, ret);			\
	} while (!(ret))

/* kernel/space.c */
void dynmap_kspace_init(struct dynmap_kpool *pool);
/*
 * Set the mode of a pool that was opened, so that its first status tells if it is full. If no
 * block is free, what is reserved and not written is made free first, as it would be for a write.
 */
void dynmap_kspace_open(struct dynmap_kpool *pool);
/* The pool has stopped: what waits for space looks again, and fails. */
void dynmap_kspace_stop(struct dynmap_kpool *pool);
/*
 * Blocks became free: if there are more than the mark, falling to it is an event again. Lock
 * held. A checkpoint arms the mark of nodes only: nodes are freed in each epoch, and each time
 * would be an event of the low water mark while free space is near it.
 */
void dynmap_rearm_low_water(struct dynmap_kpool *pool);
void dynmap_rearm_node_mark(struct dynmap_kpool *pool);

/**
 * dynmap_kpool_make_room() - bring what an operation that allocates lacks
 * @pool: the pool
 * @op: the operation
 * @error: what it returned
 * @seen: alloc.space.vacated before it was tried
 *
 * As dynmap_kpool_help(), and blocks that were freed or reserved are made free
 * first when there is no space.
 *
 * Context: process; without the lock, holding no window.
 * Return: 0: try again; else a final error, -ENOSPC among them.
 */
int __must_check dynmap_kpool_make_room(struct dynmap_kpool *pool, struct dynmap_op *op, int error,
					u64 seen);
/* Change the mode; lock held for writing. */
void dynmap_set_mode(struct dynmap_kpool *pool, enum dynmap_mode mode);
/* Something found no space: change to the mode that tells what is short; lock held. */
void dynmap_set_no_space(struct dynmap_kpool *pool);
/*
 * Let a write that found no space wait until some comes back; lock held for writing. Return
 * BLK_STS_OK, or how the caller has to end it: BLK_STS_NOSPC, as configured or because the time
 * to wait is over; BLK_STS_DM_REQUEUE: its volume is being suspended without a flush.
 */
blk_status_t dynmap_kpool_wait(struct dynmap_kpool *pool, struct bio *bio);
/*
 * A suspend of the volume begins. Without a flush its writes that wait for space are given
 * back to device-mapper; a flush waits for them, but no longer than DYNMAP_FLUSH_WAIT where they
 * may wait without end.
 */
void dynmap_kvolume_suspend(struct dynmap_kvolume *kvolume);
/* The suspend is complete, or was interrupted. */
void dynmap_kvolume_suspended(struct dynmap_kvolume *kvolume);
/*
 * The pool is resumed with this low water mark, in allocation units: raise the event if free
 * space is not above it. Writes that wait for space are tried again, and may wait for the full
 * time once more.
 */
void dynmap_kpool_resume(struct dynmap_kpool *pool, u64 low_water_units);

/* kernel/limits.c */

/**
 * dynmap_limits_check_device() - can a pool, or a volume's external origin, be on it?
 * @bdev: the device
 * @error: set to a message
 *
 * Blocks of 4 KiB are written in any order: a zoned device, or one with larger logical
 * blocks, is refused, and named in the log.
 *
 * Return: 0 or -EINVAL.
 */
int dynmap_limits_check_device(struct block_device *bdev, char **error);

/**
 * dynmap_limits_check_joining() - may a device with such logical blocks join the pool?
 * @pool: the pool
 * @bdev: the device
 * @error: set to a message
 *
 * The largest logical block of a pool's devices is that of its volumes. It stays as it
 * was when the pool was made: a file system or a partition table made for smaller
 * ones could not be read any more.
 *
 * Context: process; takes @pool->lock.
 * Return: 0 or -EINVAL.
 */
int dynmap_limits_check_joining(struct dynmap_kpool *pool, struct block_device *bdev, char **error);

/**
 * dynmap_limits_check_volume() - may a volume's target get into this mapped device?
 * @md: the mapped device
 * @kvolume: the volume, its pool and origin known
 * @error: set to a message
 *
 * The logical block of a mapped device that has a table, and may be in use, does not
 * become larger: it might by an external origin, or by a pool in place of something else.
 *
 * Context: process; takes the pool's lock.
 * Return: 0 or -EINVAL.
 */
int dynmap_limits_check_volume(struct mapped_device *md, const struct dynmap_kvolume *kvolume,
			       char **error);

/**
 * dynmap_limits_resume_pool() - let volumes offer WRITE ZEROES
 * @md: mapped device of the pool's target, suspended
 *
 * A volume serves WRITE ZEROES from its map, whatever the devices can. But
 * device-mapper takes it from a table of which one device lacks it, and a volume's
 * table has the pool's device. So that device says that it has it; device-mapper
 * has just set all its limits from the devices. It gets no data bios, see
 * dynmap_pool_map(), and no other target can be in its table, so this binds nobody.
 *
 * Context: process; no I/O is under way in @md.
 * Return: 0 or an error of the block layer.
 */
int dynmap_limits_resume_pool(struct mapped_device *md);
/* Set in @limits, stacked from the pool's device and the origin, what is a volume's own. */
void dynmap_limits_volume(const struct dynmap_kvolume *kvolume, struct queue_limits *limits);

/* kernel/message.c: 1: the answer is in @result; 0: done and committed; or an error. */
int dynmap_message(struct dynmap_kpool *pool, unsigned int argc, char **argv, char *result,
		   unsigned int maxlen);

/* kernel/fresh.c: 0 or -ENOMEM; exit also after that. */
int dynmap_fresh_init(struct dynmap_kpool *pool);
void dynmap_fresh_exit(struct dynmap_kpool *pool);

/**
 * dynmap_fresh_begin() - begin a fresh write
 * @pool: the pool
 * @volume: the volume
 * @lbn: first block
 * @len: blocks wanted
 * @exclusive: nobody else may hold the windows
 *
 * Context: @pool->lock held, since the lookup.
 * Return: the write, of as many blocks as windows could be had for; -EINPROGRESS:
 * wait by dynmap_fresh_wait().
 */
struct dynmap_fresh *dynmap_fresh_begin(struct dynmap_kpool *pool, struct dynmap_volume *volume,
					u64 lbn, u64 len, bool exclusive);

/* Nodes that fresh writes under way may add when they are settled. */
u32 dynmap_fresh_pending(struct dynmap_kpool *pool);
/* -EINPROGRESS: what is asked for is promised to fresh writes; those who wait are told. */
static inline int dynmap_note_no_nodes(struct dynmap_kpool *pool, int error)
{
	if (error == -EINPROGRESS)
		WRITE_ONCE(pool->wait_for_nodes, true);
	return error;
}

/* Hold blocks for it, perhaps fewer; if not: it is over. Lock held for writing. */
int __must_check dynmap_fresh_hold(struct dynmap_kpool *pool, struct dynmap_fresh *fresh,
				   struct dynmap_op *op);
/* It does not take place; lock held, for writing if it holds blocks. */
void dynmap_fresh_cancel(struct dynmap_kpool *pool, struct dynmap_fresh *fresh);
/**
 * dynmap_fresh_done() - the data of a fresh write is complete, or has failed
 * @pool: the pool
 * @fresh: the write, which is not the caller's any more
 * @error: 0 or what the device said
 *
 * Context: any, before the write is acknowledged.
 * Return: what to acknowledge: @error; -EIO if the pool has turned read-only.
 */
int dynmap_fresh_done(struct dynmap_kpool *pool, struct dynmap_fresh *fresh, int error);
/*
 * Was a write lost that was acknowledged and covers the first block of @mapping? -EIO; else
 * 0, and @mapping ends where the next one begins. Lock held.
 */
int dynmap_fresh_lost(const struct dynmap_kpool *pool, struct dynmap_mapping *mapping,
		      const struct dynmap_volume *volume);
/* Are there so many to be settled that a writer has to? */
static inline bool dynmap_fresh_many(struct dynmap_kpool *pool)
{
	return atomic_read(&pool->unsettled) >= DYNMAP_SETTLE_MANY;
}

/* May the map of [lbn, end) be older than what was acknowledged there? Lock held. */
bool dynmap_fresh_hides(struct dynmap_kpool *pool, const struct dynmap_volume *volume, u64 lbn,
			u64 end);
/*
 * A write waits to hold the window of @lbn exclusively. No other write begins to share it until
 * dynmap_fresh_unwant(): shared holds that overlap without a gap, which the hash of windows
 * makes likely under load, would keep the exclusive one waiting for ever. The reverse does not
 * last: a block needs an exclusive hold only for its first write.
 */
void dynmap_fresh_want(struct dynmap_kpool *pool, const struct dynmap_volume *volume, u64 lbn);
void dynmap_fresh_unwant(struct dynmap_kpool *pool, const struct dynmap_volume *volume, u64 lbn);
/*
 * Wait until a write can begin there, as far as other fresh ones are concerned, or a while.
 * @wanting: dynmap_fresh_want() has announced this write; @must_wait: it waits for a checkpoint,
 * too.
 */
void dynmap_fresh_wait(struct dynmap_kpool *pool, const struct dynmap_volume *volume, u64 lbn,
		       bool wanting, bool must_wait);
/**
 * dynmap_settle_locked() - enter what has completed into the tree
 * @pool: the pool
 * @op: told what is missing; to be cleared for another use
 *
 * What fails for good was acknowledged: it fails the pool.
 *
 * Context: @pool->lock held for writing.
 * Return: 0, -EAGAIN, -ENOMEM, -EBUSY: call again after help.
 */
int __must_check dynmap_settle_locked(struct dynmap_kpool *pool, struct dynmap_op *op);
/* The same with help. Process context, without the lock and the mutexes of checkpoints. */
void dynmap_settle(struct dynmap_kpool *pool);

/* kernel/io.c */
int dynmap_io_map(struct dm_target *ti, struct bio *bio);
int dynmap_io_end(struct dm_target *ti, struct bio *bio, blk_status_t *error);
void dynmap_io_queue(struct bio *bio);

#endif /* DM_DYNMAP_KERNEL_H */
