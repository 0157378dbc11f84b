/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Superblocks: what is one, which of a device's and of a pool's is the newest, and the
 * devices that it tells of.
 *
 * Locking: none; nothing of a pool in memory is needed.
 */
#ifndef DM_DYNMAP_SUPER_H
#define DM_DYNMAP_SUPER_H

#include "core/dev.h"

/* The crc that a superblock is to have. */
u32 dynmap_super_crc(const struct dynmap_disk_super *sb);
/* What is wrong with the content of a superblock; NULL: nothing. */
const char *dynmap_super_check(const struct dynmap_disk_super *sb);

/**
 * dynmap_super_verify() - is this block a superblock of ours?
 * @sb: the block
 *
 * Return: 0; -ENODATA if it is all zero; -ENOMSG if it is something else (no
 * magic); -EBADMSG, -EUCLEAN, -EOPNOTSUPP (unknown incompat feature).
 */
int dynmap_super_verify(const struct dynmap_disk_super *sb);

/**
 * dynmap_super_read() - the newest superblock of one device
 * @store: the devices
 * @dev: index in the store
 * @dev_blocks: its length
 * @sb: set to it
 *
 * A home slot that holds something foreign makes the device foreign, unless all
 * other slots are intact: then it alone was damaged.
 *
 * Return: what dynmap_super_verify() says of the newest one that is ours, understood or
 * not, which is in @sb; of block 0 if there is none; -EIO, -ENOMEM.
 */
int dynmap_super_read(struct dynmap_store *store, u32 dev, u64 dev_blocks,
		      struct dynmap_disk_super *sb);

/**
 * dynmap_super_scan() - the newest superblocks of all devices of a pool
 * @store: the devices, in any order
 * @nr_devs: how many
 * @blocks: their lengths
 * @supers: set to the newest superblock of each
 * @errors: per device: 0, or as dynmap_super_read() says; where less than that is
 *	left of a device's superblocks, a good one of another device that names it
 *	will do; -ESTALE: the device missed an opening of the pool that the newest one
 *	tells of (an old copy, or it was left out by force)
 *
 * Return: which of the good ones is the newest; -ENODATA if there is none.
 */
int dynmap_super_scan(struct dynmap_store *store, u32 nr_devs, const u64 *blocks,
		      struct dynmap_disk_super *supers, int *errors);

/**
 * dynmap_geometry_init() - devices as a superblock tells them
 * @geo: to be filled in
 * @store: the devices
 * @sb: the superblock
 *
 * Return: NULL, or the name of what is wrong with the device table.
 */
const char *dynmap_geometry_init(struct dynmap_geometry *geo, struct dynmap_store *store,
				 const struct dynmap_disk_super *sb);

#endif /* DM_DYNMAP_SUPER_H */
