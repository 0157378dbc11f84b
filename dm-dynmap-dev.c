// SPDX-License-Identifier: GPL-2.0-only
/*
 * Devices and segments, see dm-dynmap-dev.h. Callers: alloc, node, pool, and
 * the kernel's bio path. Nothing here fails or allocates.
 */
#include "dm-dynmap-dev.h"

/* Small devices are not rounded to 1 MiB, they have no space to waste. */
#define DYNMAP_ALIGN_SMALL	16
#define DYNMAP_ALIGN_LARGE	256
#define DYNMAP_LARGE_BLOCKS	16384

int dynmap_dev_layout(struct dynmap_dev *dev, u64 blocks)
{
	u64 align = blocks < DYNMAP_LARGE_BLOCKS ? DYNMAP_ALIGN_SMALL : DYNMAP_ALIGN_LARGE;
	u64 journal = blocks / 128;
	u64 data;

	if (blocks < DYNMAP_MIN_DEVICE_BLOCKS)
		return -ENOSPC;
	if (journal < DYNMAP_JOURNAL_MIN_BLOCKS)
		journal = DYNMAP_JOURNAL_MIN_BLOCKS;
	if (journal > DYNMAP_JOURNAL_MAX_BLOCKS)
		journal = DYNMAP_JOURNAL_MAX_BLOCKS;
	dev->blocks = blocks;
	dev->journal_start = DYNMAP_JOURNAL_FIRST;
	dev->journal_blocks = journal;
	dev->data_start = (DYNMAP_JOURNAL_FIRST + journal + align - 1) & ~(align - 1);
	data = blocks - 1 - dev->data_start;
	dev->slots = (data + DYNMAP_SEGMENT_BLOCKS - 1) >> DYNMAP_SEGMENT_SHIFT;
	return 0;
}

u32 dynmap_dev_slot_blocks(const struct dynmap_dev *dev, u32 slot)
{
	u64 data = dev->blocks - 1 - dev->data_start;
	u64 left = data - ((u64)slot << DYNMAP_SEGMENT_SHIFT);

	return left < DYNMAP_SEGMENT_BLOCKS ? left : DYNMAP_SEGMENT_BLOCKS;
}

u32 dynmap_segment_blocks(const struct dynmap_geometry *geo, u32 segment)
{
	const struct dynmap_place *place = &geo->place[segment];

	return dynmap_dev_slot_blocks(&geo->dev[place->dev], place->slot);
}

bool dynmap_pbn_valid(const struct dynmap_geometry *geo, u64 pbn, u32 len)
{
	u64 segment = pbn >> DYNMAP_SEGMENT_SHIFT;

	if (!len || len > DYNMAP_SEGMENT_BLOCKS || segment >= geo->nr_segments)
		return false;
	return dynmap_pbn_index(pbn) + len <= dynmap_segment_blocks(geo, segment);
}

u64 dynmap_pbn_locate(const struct dynmap_geometry *geo, u64 pbn, u32 *dev)
{
	const struct dynmap_place *place = &geo->place[dynmap_pbn_segment(pbn)];

	*dev = place->dev;
	return geo->dev[place->dev].data_start +
	       ((u64)place->slot << DYNMAP_SEGMENT_SHIFT) + dynmap_pbn_index(pbn);
}

bool dynmap_block_is_zero(const void *data)
{
	const u64 *word = data;
	u32 i;

	for (i = 0; i < DYNMAP_BLOCK_BYTES / sizeof(*word); i++)
		if (word[i])
			return false;
	return true;
}
