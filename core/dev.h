/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Devices and segments: where a pool block lies.
 *
 * Owns: the device table in memory, the translation of a pbn to a device and a
 * block there, and the turns in which devices give blocks. A segment's number is
 * device:6 | slot:22, so that devices are added and grow without any other number
 * changing. The table changes only while the metadata lock is held for writing;
 * reading it needs it for reading.
 */
#ifndef DM_DYNMAP_DEV_H
#define DM_DYNMAP_DEV_H

#include "core/env.h"

/**
 * struct dynmap_dev - one device of the pool
 * @uuid: its own uuid
 * @blocks: length
 * @data_start: first block of segment slot 0
 * @journal_start: first block of its journal ring
 * @journal_blocks: length of that ring
 * @slots: number of segment slots
 */
struct dynmap_dev {
	u8 uuid[DYNMAP_UUID_BYTES];
	u64 blocks;
	u64 data_start;
	u64 journal_start;
	u32 journal_blocks;
	u32 slots;
};

/**
 * struct dynmap_geometry - all devices of a pool
 * @store: how to reach the devices
 * @dev: the devices
 * @nr_devs: how many
 */
struct dynmap_geometry {
	struct dynmap_store *store;
	struct dynmap_dev dev[DYNMAP_MAX_DEVICES];
	u32 nr_devs;
};

static inline u32 dynmap_pbn_segment(u64 pbn)
{
	return pbn >> DYNMAP_SEGMENT_SHIFT;
}

static inline u32 dynmap_pbn_index(u64 pbn)
{
	return pbn & (DYNMAP_SEGMENT_BLOCKS - 1);
}

static inline u64 dynmap_segment_pbn(u32 segment)
{
	return (u64)segment << DYNMAP_SEGMENT_SHIFT;
}

static inline u32 dynmap_segment_number(u32 dev, u32 slot)
{
	return dev << DYNMAP_DEVICE_SEGMENTS_SHIFT | slot;
}

static inline u32 dynmap_segment_dev(u32 segment)
{
	return segment >> DYNMAP_DEVICE_SEGMENTS_SHIFT;
}

static inline u32 dynmap_segment_slot(u32 segment)
{
	return segment & (DYNMAP_MAX_SLOTS - 1);
}

/* Device of a pool block. */
static inline u32 dynmap_pbn_dev(u64 pbn)
{
	return dynmap_segment_dev(dynmap_pbn_segment(pbn));
}

/**
 * dynmap_dev_layout() - lay out a new device
 * @dev: filled in, all but the uuid
 * @blocks: length of the device
 *
 * Return: 0; -ENOSPC if the device is too small to serve a pool; -EFBIG if it
 * has more than DYNMAP_MAX_SLOTS segments.
 */
int __must_check dynmap_dev_layout(struct dynmap_dev *dev, u64 blocks);

/**
 * dynmap_dev_load() - take a device entry of a superblock
 * @dev: filled in
 * @disk: the entry
 *
 * Return: NULL, or the name of what is wrong with it.
 */
const char *dynmap_dev_load(struct dynmap_dev *dev, const struct dynmap_disk_device *disk);

/* The device entry for the superblock. */
void dynmap_dev_store(const struct dynmap_dev *dev, struct dynmap_disk_device *disk);

/**
 * dynmap_dev_grow() - the device has become longer
 * @dev: the device; nothing but its length and number of slots changes
 * @blocks: new length
 *
 * Return: 0, -EINVAL if that is shorter, -EFBIG.
 */
int __must_check dynmap_dev_grow(struct dynmap_dev *dev, u64 blocks);

/* Usable blocks of a device: whole zones. The last block is the backup superblock's. */
static inline u64 dynmap_dev_data_blocks(const struct dynmap_dev *dev)
{
	return (dev->blocks - 1 - dev->data_start) & ~(DYNMAP_ZONE_BLOCKS - 1ULL);
}

/**
 * dynmap_dev_slot_blocks() - usable blocks of a segment slot
 * @dev: the device
 * @slot: slot number, less than @dev->slots
 *
 * Return: 65536, or less for the last slot: whole zones.
 */
static inline u32 dynmap_dev_slot_blocks(const struct dynmap_dev *dev, u32 slot)
{
	u64 left = dynmap_dev_data_blocks(dev) - ((u64)slot << DYNMAP_SEGMENT_SHIFT);

	return left < DYNMAP_SEGMENT_BLOCKS ? left : DYNMAP_SEGMENT_BLOCKS;
}

/**
 * dynmap_segment_blocks() - usable blocks of a segment
 * @geo: the geometry
 * @segment: an existing segment
 *
 * Return: 65536, or less for a device's last segment.
 */
static inline u32 dynmap_segment_blocks(const struct dynmap_geometry *geo, u32 segment)
{
	return dynmap_dev_slot_blocks(&geo->dev[dynmap_segment_dev(segment)],
				      dynmap_segment_slot(segment));
}

/**
 * dynmap_pbn_valid() - check a run of pool blocks read from disk
 * @geo: the geometry
 * @pbn: first block
 * @len: length in blocks
 *
 * Return: true if the run is not empty and lies inside one existing segment.
 */
static inline bool dynmap_pbn_valid(const struct dynmap_geometry *geo, u64 pbn, u32 len)
{
	u32 segment = dynmap_pbn_segment(pbn), dev = dynmap_segment_dev(segment);

	if (!len || len > DYNMAP_SEGMENT_BLOCKS || pbn >> DYNMAP_PBN_BITS ||
	    dev >= geo->nr_devs || dynmap_segment_slot(segment) >= geo->dev[dev].slots)
		return false;
	return dynmap_pbn_index(pbn) + len <= dynmap_segment_blocks(geo, segment);
}

/* Is it a name as the format has them, or none? */
bool dynmap_name_is_valid(const u8 *name);
/* Is a block all zero, as on a device never written? */
bool dynmap_block_is_zero(const void *data);

/**
 * dynmap_pbn_locate() - find a pool block on its device
 * @geo: the geometry
 * @pbn: a valid pool block
 * @dev: set to the device index
 *
 * Return: the block number on that device.
 */
static inline u64 dynmap_pbn_locate(const struct dynmap_geometry *geo, u64 pbn, u32 *dev)
{
	u32 segment = dynmap_pbn_segment(pbn);

	*dev = dynmap_segment_dev(segment);
	return geo->dev[*dev].data_start +
	       ((u64)dynmap_segment_slot(segment) << DYNMAP_SEGMENT_SHIFT) +
	       dynmap_pbn_index(pbn);
}

/**
 * struct dynmap_turns - the turns in which devices give blocks, by weight
 * @credit: per device, by how much it lags behind its share, in units of
 *	2^-DYNMAP_CREDIT_SHIFT blocks; negative: it is ahead
 * @given: blocks given since the last dynmap_turns_next()
 * @last: the device that it found
 */
struct dynmap_turns {
	s64 credit[DYNMAP_MAX_DEVICES];
	u64 given;
	u32 last;
};

#define DYNMAP_CREDIT_SHIFT	24

/* A device that passes its turn on is charged for what another one gives. */
static inline void dynmap_turns_pass(struct dynmap_turns *turns, u32 dev, u32 blocks)
{
	turns->credit[dev] -= (s64)blocks << DYNMAP_CREDIT_SHIFT;
}

/* A device gave blocks, whether or not it was its turn. */
static inline void dynmap_turns_charge(struct dynmap_turns *turns, u32 dev, u32 blocks)
{
	dynmap_turns_pass(turns, dev, blocks);
	turns->given += blocks;
}

/**
 * dynmap_turns_next() - find the device whose turn it is
 * @turns: the turns; all zero to begin with
 * @weight: per device, its weight; 0: it has nothing to give. Their sum is below 2^62
 * @nr: number of devices
 * @slack: blocks by which they may lag behind more or less than others without a
 *	change of their order
 *
 * What was given since the last call is credited to all devices by weight, and the one
 * that lags behind most is next; of those that lag behind about as much, the first one
 * behind the last one. So shares follow the weights, however they and the number of
 * devices change, and devices of about the same weight do not get two turns in a row.
 *
 * Return: the device, or @nr if none has anything to give.
 */
u32 dynmap_turns_next(struct dynmap_turns *turns, const u64 *weight, u32 nr, u32 slack);

#endif /* DM_DYNMAP_DEV_H */
