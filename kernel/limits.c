// SPDX-License-Identifier: GPL-2.0-only
/*
 * Queue limits of the targets. Owns: what the mapped devices of pools and volumes
 * say to the block layer. Device-mapper stacks the limits of the pool's devices into
 * those of the pool's own device, and these into a volume's; this file sets what a
 * volume does not inherit, and refuses devices that no limit could make fit.
 * doc/limits.md goes through all fields.
 */
#include <linux/lcm.h>
#include <linux/log2.h>
#include <linux/math.h>

#include "kernel/dynmap.h"

/*
 * No bio is longer: its length is 32 bits of bytes. Older kernels cut zeroing at its
 * limit, which therefore is at the end of a block.
 */
#define DYNMAP_MAX_DISCARD_SECTORS	(UINT_MAX >> SECTOR_SHIFT)
#define DYNMAP_MAX_ZEROES_SECTORS	round_down(DYNMAP_MAX_DISCARD_SECTORS, DYNMAP_BLOCK_SECTORS)

/* Read-ahead is twice io_opt: no common multiple beyond this, in bytes. */
#define DYNMAP_MAX_IO_OPT		(32U << 20)

int dynmap_limits_check_device(struct block_device *bdev, char **error)
{
	if (bdev_is_zoned(bdev)) {
		DMERR("%pg is a zoned device: expected a device that is written in any order",
		      bdev);
		*error = "a device is zoned";
		return -EINVAL;
	}
	if (bdev_logical_block_size(bdev) > DYNMAP_BLOCK_BYTES) {
		DMERR("%pg has logical blocks of %u bytes: expected %u bytes at most", bdev,
		      bdev_logical_block_size(bdev), DYNMAP_BLOCK_BYTES);
		*error = "the logical blocks of a device are too large";
		return -EINVAL;
	}
	return 0;
}

/* The largest logical block of the pool's devices: that of its volumes, but for origins. */
static u32 dynmap_logical_block_bytes(struct dynmap_kpool *pool)
{
	u32 i, bytes = SECTOR_SIZE;

	down_read(&pool->lock);
	for (i = 0; i < pool->disks.nr; i++)
		if (pool->disks.bdev[i])
			bytes = max(bytes, bdev_logical_block_size(pool->disks.bdev[i]));
	up_read(&pool->lock);
	return bytes;
}

int dynmap_limits_check_joining(struct dynmap_kpool *pool, struct block_device *bdev, char **error)
{
	u32 bytes = dynmap_logical_block_bytes(pool);

	if (bdev_logical_block_size(bdev) <= bytes)
		return 0;
	DMERR("%pg has logical blocks of %u bytes, the pool's volumes have %u: add a device with at most %u, or make a new pool",
	      bdev, bdev_logical_block_size(bdev), bytes, bytes);
	*error = "the logical blocks of a device are larger than those of the pool";
	return -EINVAL;
}

int dynmap_limits_check_volume(struct mapped_device *md, const struct dynmap_kvolume *kvolume,
			       char **error)
{
	u32 bytes = dynmap_logical_block_bytes(kvolume->pool);
	struct gendisk *disk = dm_disk(md);

	if (kvolume->origin)
		bytes = max(bytes, bdev_logical_block_size(kvolume->origin->bdev));
	if (!get_capacity(disk) || queue_logical_block_size(disk->queue) >= bytes)
		return 0;
	DMERR("%s is in use with logical blocks of %u bytes, the new table needs %u: remove it and create it again",
	      disk->disk_name, queue_logical_block_size(disk->queue), bytes);
	*error = "the logical blocks of a volume in use cannot become larger";
	return -EINVAL;
}

int dynmap_limits_resume_pool(struct mapped_device *md)
{
	return dynmap_queue_set_zeroes(dm_disk(md)->queue, DYNMAP_MAX_ZEROES_SECTORS);
}

/*
 * What lies below and what a volume has itself, together: a part of a block is completed
 * with the rest, and an allocation unit lies in one piece.
 */
static void dynmap_limits_set_sizes(const struct dynmap_kvolume *kvolume,
				    struct queue_limits *limits)
{
	u32 physical = roundup_pow_of_two(max_t(u32, limits->physical_block_size,
						DYNMAP_BLOCK_BYTES));
	u32 least = roundup(max(limits->io_min, physical), physical);
	u32 unit = min(kvolume->pool->core.table.alloc_blocks, 256U) * DYNMAP_BLOCK_BYTES;
	unsigned long optimum;

	unit = roundup(unit, least);
	optimum = lcm_not_zero(unit, limits->io_opt);
	if (optimum > DYNMAP_MAX_IO_OPT)
		optimum = max_t(u32, unit, roundup(limits->io_opt, least));
	limits->physical_block_size = physical;
	limits->io_min = least;
	limits->io_opt = optimum;
}

void dynmap_limits_volume(const struct dynmap_kvolume *kvolume, struct queue_limits *limits)
{
	dynmap_limits_set_sizes(kvolume, limits);
	/* Where a device has a boundary says nothing about addresses of the volume. */
	limits->chunk_sectors = 0;
	dynmap_limits_set_discard(limits, DYNMAP_MAX_DISCARD_SECTORS, DYNMAP_BLOCK_BYTES);
	dynmap_limits_set_zeroes(limits, DYNMAP_MAX_ZEROES_SECTORS);
}
