// SPDX-License-Identifier: GPL-2.0-only
/*
 * The image and the journal target, see fuzz.h. Owns: what their bytes mean.
 *
 * Image:   base, flags of fuzz_seal(), then edits. An edit is what is put
 *          (bytes, a value, an address, a copy of something else) and where:
 *          superblock, node, journal block or any block. Positions are those
 *          of fields in use, so that few edits are lost.
 * Journal: base, flags, then records, which go to new journal blocks.
 */
#include "fuzz.h"

#define MAX_EDITS	48
#define MAX_BLOCKS	8

static struct dynmap_disk_super super;

u8 fuzz_u8(struct fuzz_input *input)
{
	if (!input->left)
		return 0;
	input->left--;
	return *input->data++;
}

u16 fuzz_u16(struct fuzz_input *input)
{
	u16 low = fuzz_u8(input);

	return low | fuzz_u8(input) << 8;
}

u32 fuzz_u32(struct fuzz_input *input)
{
	u32 low = fuzz_u16(input);

	return low | (u32)fuzz_u16(input) << 16;
}

/* A number near zero. */
static int fuzz_small(struct fuzz_input *input)
{
	return (signed char)fuzz_u8(input);
}

static u64 limit_value(u32 which)
{
	static const u64 values[] = {
		0, 1, 15, 16, 255, 256, 1024, 65535, 65536, 1ULL << 22, 1ULL << 24, 1ULL << 31,
		1ULL << 32, 1ULL << 38, 1ULL << 42, 1ULL << 44, 1ULL << 63, ~0ULL,
	};

	return values[which % ARRAY_SIZE(values)];
}

enum place { PLACE_SUPER, PLACE_NODE, PLACE_JOURNAL, PLACE_BLOCK };

static u32 node_offset(struct fuzz_input *input, const struct dynmap_disk_node *node)
{
	u32 bytes = node->level ? sizeof(struct dynmap_disk_child) :
				  dynmap_btree_record_bytes(node->kind);
	u32 where = fuzz_u8(input), entry;

	if (where < sizeof(*node))
		return where;
	entry = fuzz_u8(input) % (le16_to_cpu(node->count) + 1);
	return sizeof(*node) + entry * bytes + where % (bytes ? bytes : 1);
}

static u32 journal_offset(struct fuzz_input *input)
{
	u32 where = fuzz_u8(input);

	if (where < 64)
		return where;
	return 64 + fuzz_u8(input) % DYNMAP_JOURNAL_RECORDS * sizeof(struct dynmap_disk_record) +
	       where % sizeof(struct dynmap_disk_record);
}

/* The first byte of a place; *room: how many follow it in its block, itself included. */
static u8 *find_place(struct fuzz_base *base, struct fuzz_input *input, u32 kind, u32 *room)
{
	u32 index = fuzz_u8(input), at, dev = 0;
	u8 *block;
	u64 n;

	switch (kind) {
	case PLACE_SUPER:
		at = fuzz_u16(input) % 480;
		at = at < 352 ? 64 + at : 1024 + at - 352;
		block = (u8 *)&super;
		break;
	case PLACE_NODE:
		index %= base->nr_nodes;
		block = store_cow_edit(&base->cow, base->node[index].dev, base->node[index].block);
		at = node_offset(input, (void *)block) % DYNMAP_BLOCK_BYTES;
		break;
	case PLACE_JOURNAL:
		dev = (index >> 7) & (base->cow.nr_devs >> 1);
		n = le64_to_cpu(super.journal_seq) + index % MAX_BLOCKS;
		n %= le32_to_cpu(base->super.journal_blocks);
		block = store_cow_edit(&base->cow, dev, DYNMAP_JOURNAL_FIRST + n);
		at = journal_offset(input);
		break;
	default:
		dev = index & (base->cow.nr_devs >> 1);
		block = store_cow_edit(&base->cow, dev, fuzz_u16(input) % base->blocks[dev]);
		at = fuzz_u16(input) % DYNMAP_BLOCK_BYTES;
		break;
	}
	*room = DYNMAP_BLOCK_BYTES - at;
	return block + at;
}

/* What an edit puts; the number of bytes. */
static u32 edit_content(struct fuzz_base *base, struct fuzz_input *input, u32 source, u8 *bytes)
{
	u32 count, room, which, i;
	const u8 *from;
	__le64 value;

	switch (source) {
	case 0:
		count = 1 + fuzz_u8(input) % 16;
		for (i = 0; i < count; i++)
			bytes[i] = fuzz_u8(input);
		return count;
	case 1:
		which = fuzz_u8(input);
		value = cpu_to_le64(limit_value(which >> 2) + fuzz_small(input));
		memcpy(bytes, &value, sizeof(value));
		return 1 << (which & 3);
	case 2:
		which = fuzz_u8(input);
		value = cpu_to_le64(base->node[(which >> 1) % base->nr_nodes].pbn[which & 1]);
		memcpy(bytes, &value, sizeof(value));
		return sizeof(value);
	default:
		which = fuzz_u8(input);
		from = find_place(base, input, which & 3, &room);
		count = min(1 + (which >> 2), room);
		memcpy(bytes, from, count);
		return count;
	}
}

struct fuzz_base *fuzz_edit_image(struct fuzz_input *input)
{
	struct fuzz_base *base = fuzz_base(fuzz_u8(input));
	u32 flags = fuzz_u8(input), count, room, n, how;
	u8 bytes[64], *at;

	super = base->super;
	for (n = 0; input->left && n < MAX_EDITS; n++) {
		how = fuzz_u8(input);
		count = edit_content(base, input, how >> 2 & 3, bytes);
		at = find_place(base, input, how & 3, &room);
		memcpy(at, bytes, min(count, room));
	}
	fuzz_seal(base, &super, flags);
	return base;
}

/* A number that means something in this image, or any. */
static u64 some_number(struct fuzz_base *base, struct fuzz_input *input)
{
	u32 how = fuzz_u8(input), which = fuzz_u8(input);
	const struct dynmap_mapping *extent = &base->extent[which % base->nr_extents];

	switch (how % 8) {
	case 0:
		return which;
	case 1:
		return which << 8 | fuzz_u8(input);
	case 2:
		return which | (u64)fuzz_u32(input) << 8;
	case 3:
		return limit_value(which) + fuzz_small(input);
	case 4:
		return extent->lbn + fuzz_u8(input);
	case 5:
		return extent->pbn + fuzz_small(input);
	case 6:
		return (u64)(which & 1) << 38 | fuzz_u16(input);
	default:
		return (u64)fuzz_u32(input) << 32 | fuzz_u32(input);
	}
}

static void some_record(struct fuzz_base *base, struct fuzz_input *input, u32 code,
			struct dynmap_disk_record *record)
{
	record->kind = code & 15;
	record->attr = code >> 4;
	record->len = cpu_to_le16(some_number(base, input));
	record->volume = cpu_to_le32(some_number(base, input));
	record->map.lbn = cpu_to_le64(some_number(base, input));
	record->map.pbn = cpu_to_le64(some_number(base, input));
}

/* Write a block to the journal's devices as they are in the base. */
static void put_journal(struct fuzz_base *base, u64 seq, const struct dynmap_disk_journal *block)
{
	u64 at = DYNMAP_JOURNAL_FIRST + seq % le32_to_cpu(base->super.journal_blocks);
	u32 dev;

	for (dev = 0; dev < base->cow.nr_devs; dev++)
		memcpy(store_cow_edit(&base->cow, dev, at), block, DYNMAP_BLOCK_BYTES);
}

static void start_journal(struct fuzz_base *base, u64 seq, struct dynmap_disk_journal *block)
{
	memset(block, 0, sizeof(*block));
	block->magic = cpu_to_le32(DYNMAP_JOURNAL_MAGIC);
	memcpy(block->uuid, base->super.uuid, sizeof(block->uuid));
	block->seq = cpu_to_le64(seq);
	block->incarnation = base->super.incarnation;
	block->epoch = cpu_to_le64(le64_to_cpu(base->super.epoch) + 1);
}

/* Change one field of a block's head. */
static void spoil_head(struct fuzz_input *input, struct dynmap_disk_journal *block)
{
	u32 how = fuzz_u8(input);
	int by = fuzz_small(input);

	switch (how % 8) {
	case 0:
		block->count = cpu_to_le16(le16_to_cpu(block->count) + by);
		break;
	case 1:
		block->seq = cpu_to_le64(le64_to_cpu(block->seq) + by);
		break;
	case 2:
		block->incarnation = cpu_to_le64(le64_to_cpu(block->incarnation) + by);
		break;
	case 3:
		block->epoch = cpu_to_le64(le64_to_cpu(block->epoch) + by);
		break;
	default:
		break;
	}
}

struct fuzz_base *fuzz_edit_journal(struct fuzz_input *input)
{
	struct fuzz_base *base = fuzz_base(fuzz_u8(input));
	struct dynmap_disk_journal block;
	u32 count = 0, blocks = 0, code;
	u64 seq;

	super = base->super;
	seq = fuzz_u8(input) & 1 ? le64_to_cpu(super.journal_seq) : base->journal_end;
	start_journal(base, seq, &block);
	while (input->left && blocks < MAX_BLOCKS) {
		code = fuzz_u8(input);
		if ((code & 15) != 15 && count < DYNMAP_JOURNAL_RECORDS) {
			some_record(base, input, code, &block.record[count++]);
			block.count = cpu_to_le16(count);
			continue;
		}
		spoil_head(input, &block);
		put_journal(base, seq++, &block);
		start_journal(base, seq, &block);
		blocks++;
		count = 0;
	}
	put_journal(base, seq, &block);
	fuzz_seal(base, &super, 0);
	return base;
}
