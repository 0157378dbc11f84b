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
