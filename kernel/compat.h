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
static inline void dynmap_limits_discard(struct queue_limits *limits, unsigned int sectors,
					 unsigned int granularity)
{
	limits->max_hw_discard_sectors = sectors;
	limits->max_discard_sectors = sectors;
	limits->discard_granularity = granularity;
	limits->discard_alignment = 0;
}

#endif /* DM_DYNMAP_KERNEL_COMPAT_H */
