// SPDX-License-Identifier: GPL-2.0-only
/*
 * Devices, segments and turns, see core/dev.h. Callers: superblocks,
 * growth and opening (lengths, entries), allocator (turns). Nothing here allocates.
 */
#include "core/dev.h"

/* Small devices are not rounded to 1 MiB, they have no space to waste. */
#define DYNMAP_ALIGN_SMALL	16
#define DYNMAP_ALIGN_LARGE	256
#define DYNMAP_LARGE_BLOCKS	16384

int dynmap_dev_layout(struct dynmap_dev *dev, u64 blocks)
{
	u64 align = blocks < DYNMAP_LARGE_BLOCKS ? DYNMAP_ALIGN_SMALL : DYNMAP_ALIGN_LARGE;
	u64 journal = blocks / 128;

	if (blocks < DYNMAP_MIN_DEVICE_BLOCKS)
		return -ENOSPC;
	if (journal < DYNMAP_JOURNAL_MIN_BLOCKS)
		journal = DYNMAP_JOURNAL_MIN_BLOCKS;
	if (journal > DYNMAP_JOURNAL_MAX_BLOCKS)
		journal = DYNMAP_JOURNAL_MAX_BLOCKS;
	memset(dev, 0, sizeof(*dev));
	dev->journal_start = DYNMAP_JOURNAL_FIRST;
	dev->journal_blocks = journal;
	dev->data_start = (DYNMAP_JOURNAL_FIRST + journal + align - 1) & ~(align - 1);
	return dynmap_dev_grow(dev, blocks);
}

int dynmap_dev_grow(struct dynmap_dev *dev, u64 blocks)
{
	struct dynmap_dev grown = *dev;
	u64 slots;

	if (blocks < dev->blocks)
		return -EINVAL;
	grown.blocks = blocks;
	slots = DIV_ROUND_UP(dynmap_dev_data_blocks(&grown), DYNMAP_SEGMENT_BLOCKS);
	if (slots > DYNMAP_MAX_SLOTS)
		return -EFBIG;
	dev->blocks = blocks;
	dev->slots = slots;
	return 0;
}

const char *dynmap_dev_load(struct dynmap_dev *dev, const struct dynmap_disk_device *disk)
{
	u64 blocks = le64_to_cpu(disk->blocks);

	memset(dev, 0, sizeof(*dev));
	memcpy(dev->uuid, disk->uuid, sizeof(dev->uuid));
	dev->data_start = le64_to_cpu(disk->data_start);
	dev->journal_start = le64_to_cpu(disk->journal_start);
	dev->journal_blocks = le32_to_cpu(disk->journal_blocks);
	if (disk->flags)
		return "device flags";
	if (blocks < DYNMAP_MIN_DEVICE_BLOCKS || blocks >> DYNMAP_PBN_BITS)
		return "device length";
	if (dev->journal_start != DYNMAP_JOURNAL_FIRST ||
	    dev->journal_blocks < DYNMAP_JOURNAL_MIN_BLOCKS ||
	    dev->journal_blocks > DYNMAP_JOURNAL_MAX_BLOCKS ||
	    dev->journal_start + dev->journal_blocks > dev->data_start)
		return "journal place";
	if (dev->data_start >= blocks - 1 || dynmap_dev_grow(dev, blocks) ||
	    !dev->slots || dev->slots != le32_to_cpu(disk->slots))
		return "device table";
	return NULL;
}

void dynmap_dev_store(const struct dynmap_dev *dev, struct dynmap_disk_device *disk)
{
	memset(disk, 0, sizeof(*disk));
	memcpy(disk->uuid, dev->uuid, sizeof(disk->uuid));
	disk->blocks = cpu_to_le64(dev->blocks);
	disk->data_start = cpu_to_le64(dev->data_start);
	disk->journal_start = cpu_to_le64(dev->journal_start);
	disk->journal_blocks = cpu_to_le32(dev->journal_blocks);
	disk->slots = cpu_to_le32(dev->slots);
}

bool dynmap_name_is_valid(const u8 *name)
{
	u32 i = 0;

	while (i < DYNMAP_NAME_BYTES && name[i] >= ' ' && name[i] != 0x7f)
		i++;
	if (i == DYNMAP_NAME_BYTES)
		return false;
	while (i < DYNMAP_NAME_BYTES && !name[i])
		i++;
	return i == DYNMAP_NAME_BYTES;
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

/* What was given is credited to all devices by weight. */
static void dynmap_turns_credit(struct dynmap_turns *turns, const u64 *weight, u32 nr)
{
	u64 sum = 0, scale;
	u32 dev, top = nr;
	s64 most;

	for (dev = 0; dev < nr; dev++)
		sum += weight[dev];
	if (!sum || !turns->given)
		return;
	scale = (1ULL << 62) / sum;
	for (dev = 0; dev < nr; dev++) {
		turns->credit[dev] += turns->given *
				      (weight[dev] * scale >> (62 - DYNMAP_CREDIT_SHIFT));
		if (weight[dev] && (top == nr || turns->credit[dev] > turns->credit[top]))
			top = dev;
	}
	/*
	 * Only differences matter: the highest credit becomes zero. A device that has nothing
	 * to give keeps no more: when it has space again it makes up for nothing.
	 */
	most = turns->credit[top];
	for (dev = 0; dev < nr; dev++)
		turns->credit[dev] = min_t(s64, turns->credit[dev] - most, 0);
	turns->given = 0;
}

u32 dynmap_turns_next(struct dynmap_turns *turns, const u64 *weight, u32 nr, u32 slack)
{
	s64 apart = (s64)slack << DYNMAP_CREDIT_SHIFT;
	u32 dev, next = nr, i;

	dynmap_turns_credit(turns, weight, nr);
	for (i = 1; i <= nr; i++) {
		dev = (turns->last + i) % nr;
		if (weight[dev] &&
		    (next == nr || turns->credit[dev] > turns->credit[next] + apart))
			next = dev;
	}
	if (next < nr)
		turns->last = next;
	return next;
}
