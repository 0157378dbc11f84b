/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Differences between kernels 6.1 to 7.3.
 *
 * Owns: every difference that the sources would otherwise have to know of. What
 * needs an #ifdef is probed by Kbuild in the headers: distributions backport.
 */
#ifndef DM_DYNMAP_KERNEL_COMPAT_H
#define DM_DYNMAP_KERNEL_COMPAT_H

#include <linux/blkdev.h>
#include <linux/shrinker.h>
#include <linux/workqueue.h>

/* Work on the CPU that queues it has to be asked for on newer kernels. */
#ifndef DYNMAP_HAVE_WQ_PERCPU
#define WQ_PERCPU	0
#endif

/* Modes of opening have a type of their own on newer kernels. */
#ifndef BLK_OPEN_READ
#define BLK_OPEN_READ	FMODE_READ
#define BLK_OPEN_WRITE	FMODE_WRITE
#endif

/* Shrinkers were embedded once; now they are allocated and carry a pointer. */
#ifdef DYNMAP_HAVE_SHRINKER_ALLOC
struct dynmap_shrinker {
	struct shrinker *shrinker;
};

static inline void *dynmap_shrinker_owner(struct shrinker *shrinker)
{
	return shrinker->private_data;
}

static inline int dynmap_shrinker_register(struct dynmap_shrinker *shrinker, void *owner,
					   unsigned long (*count)(struct shrinker *shrinker,
								  struct shrink_control *sc),
					   unsigned long (*scan)(struct shrinker *shrinker,
								 struct shrink_control *sc))
{
	shrinker->shrinker = shrinker_alloc(0, "dm-dynmap");
	if (!shrinker->shrinker)
		return -ENOMEM;
	shrinker->shrinker->count_objects = count;
	shrinker->shrinker->scan_objects = scan;
	shrinker->shrinker->private_data = owner;
	shrinker_register(shrinker->shrinker);
	return 0;
}

static inline void dynmap_shrinker_unregister(struct dynmap_shrinker *shrinker)
{
	shrinker_free(shrinker->shrinker);
}
#else
struct dynmap_shrinker {
	struct shrinker shrinker;
	void *owner;
};

static inline void *dynmap_shrinker_owner(struct shrinker *shrinker)
{
	return container_of(shrinker, struct dynmap_shrinker, shrinker)->owner;
}

static inline int dynmap_shrinker_register(struct dynmap_shrinker *shrinker, void *owner,
					   unsigned long (*count)(struct shrinker *shrinker,
								  struct shrink_control *sc),
					   unsigned long (*scan)(struct shrinker *shrinker,
								 struct shrink_control *sc))
{
	shrinker->shrinker.count_objects = count;
	shrinker->shrinker.scan_objects = scan;
	shrinker->shrinker.seeks = DEFAULT_SEEKS;
	shrinker->owner = owner;
	return register_shrinker(&shrinker->shrinker, "dm-dynmap");
}

static inline void dynmap_shrinker_unregister(struct dynmap_shrinker *shrinker)
{
	if (shrinker->owner)
		unregister_shrinker(&shrinker->shrinker);
}
#endif

/* max_discard_sectors is derived on newer kernels, where writing it does nothing. */
static inline void dynmap_limits_set_discard(struct queue_limits *limits, unsigned int sectors,
					     unsigned int granularity)
{
	limits->max_hw_discard_sectors = sectors;
	limits->max_discard_sectors = sectors;
	limits->discard_granularity = granularity;
	limits->discard_alignment = 0;
}

/*
 * WRITE ZEROES that unmaps has a limit of its own on newer kernels, which is 0 or equals
 * the other one; a user's bound on it does not depend on the devices below.
 */
static inline void dynmap_limits_set_zeroes(struct queue_limits *limits, unsigned int sectors)
{
	limits->max_write_zeroes_sectors = sectors;
#ifdef DYNMAP_HAVE_WZEROES_UNMAP
	limits->max_hw_wzeroes_unmap_sectors = sectors;
	limits->max_user_wzeroes_unmap_sectors = UINT_MAX;
#endif
}

/* The same in a queue without I/O; limits were once assigned. */
static inline int dynmap_queue_set_zeroes(struct request_queue *queue, unsigned int sectors)
{
#ifdef DYNMAP_HAVE_LIMITS_UPDATE
	struct queue_limits limits = queue_limits_start_update(queue);

	dynmap_limits_set_zeroes(&limits, sectors);
	return queue_limits_commit_update(queue, &limits);
#else
	dynmap_limits_set_zeroes(&queue->limits, sectors);
	return 0;
#endif
}

#endif /* DM_DYNMAP_KERNEL_COMPAT_H */
