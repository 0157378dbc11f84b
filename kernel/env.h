/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Kernel half of the core's vocabulary, see core/env.h.
 *
 * Owns: the headers that the core's words come from, memory and messages. The
 * core also allocates in threads that writeback waits for: hence GFP_NOIO, or
 * no wait at all, everywhere.
 */
#ifndef DM_DYNMAP_KERNEL_ENV_H
#define DM_DYNMAP_KERNEL_ENV_H

#include <linux/bitops.h>
#include <linux/crc32c.h>
#include <linux/err.h>
#include <linux/errno.h>
#include <linux/gfp.h>
#include <linux/hash.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/prefetch.h>
#include <linux/printk.h>
#include <linux/slab.h>
#include <linux/stddef.h>
#include <linux/string.h>
#include <linux/types.h>

#define DYNMAP_GFP	(GFP_NOIO | __GFP_NOWARN)
#define DYNMAP_GFP_TRY	(GFP_NOWAIT | __GFP_NOWARN)

/* Kernels that clear the stack would clear paths and pieces for each bio. */
#ifndef __uninitialized
#if __has_attribute(__uninitialized__)
#define __uninitialized	__attribute__((__uninitialized__))
#else
#define __uninitialized
#endif
#endif

/* What each bio runs through lies together, in few pages. */
#ifndef __hot
#define __hot		__attribute__((__hot__))
#endif

#define dynmap_err(fmt, ...) \
	pr_err_ratelimited("device-mapper: dynmap: " fmt "\n", ##__VA_ARGS__)

/* Zeroed memory, or NULL. */
static inline void *dynmap_zalloc(size_t bytes)
{
	return kvzalloc(bytes, DYNMAP_GFP);
}

/* The same at once, where nobody may wait: with the metadata lock held. */
static inline void *dynmap_zalloc_try(size_t bytes)
{
	return kzalloc(bytes, DYNMAP_GFP_TRY);
}

static inline void dynmap_free(const void *ptr)
{
	kvfree(ptr);
}

/* A 4 KiB block, aligned to its size, or NULL. */
static inline void *dynmap_block_alloc(void)
{
	return (void *)__get_free_page(DYNMAP_GFP | __GFP_ZERO);
}

/* The same at once. */
static inline void *dynmap_block_try(void)
{
	return (void *)__get_free_page(DYNMAP_GFP_TRY | __GFP_ZERO);
}

static inline void dynmap_block_free(void *block)
{
	free_page((unsigned long)block);
}

#endif /* DM_DYNMAP_KERNEL_ENV_H */
