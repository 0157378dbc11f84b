// SPDX-License-Identifier: GPL-2.0-only
/*
 * Seal an edited image, see fuzz.h. Owns: the walk from the superblock to the
 * leaves that gives every node its crc, and every pointer the crc of what it
 * points to, so that what lies behind the checksums is reached.
 */
#include "fuzz.h"

/* A pointer to a node, in a superblock, a record or a node. */
struct pointer {
	__le64 *pbn_a;
	__le64 *pbn_b;
	__le32 *generation;
	__le32 *crc;
};

struct walk {
	struct fuzz_base *base;
	u32 flags;
	bool list;
	u32 nr_seen;
	u64 seen[FUZZ_NODES];
};

u32 fuzz_crc(const void *block, size_t crc_at)
{
	const u8 *bytes = block;
	__le32 zero = 0;
	u32 crc = crc32c(~0U, bytes, crc_at);

	crc = crc32c(crc, &zero, sizeof(zero));
	return ~crc32c(crc, bytes + crc_at + 4, DYNMAP_BLOCK_BYTES - crc_at - 4);
}

static struct pointer root_pointer(struct dynmap_disk_root *root)
{
	return (struct pointer){ &root->pbn_a, &root->pbn_b, &root->generation, &root->crc };
}

static struct pointer child_pointer(struct dynmap_disk_child *child)
{
	return (struct pointer){ &child->pbn_a, &child->pbn_b, &child->generation, &child->crc };
}

/* The block of a pool block, to be changed; NULL if there is none. */
static void *locate(struct fuzz_base *base, u64 pbn, u32 *dev, u64 *block)
{
	if (!dynmap_pbn_valid(&base->geo, pbn, 1))
		return NULL;
	*block = dynmap_pbn_locate(&base->geo, pbn, dev);
	return store_cow_edit(&base->cow, *dev, *block);
}

static bool first_time(struct walk *walk, u64 pbn)
{
	u32 i;

	for (i = 0; i < walk->nr_seen; i++)
		if (walk->seen[i] == pbn)
			return false;
	if (walk->nr_seen == FUZZ_NODES)
		return false;
	walk->seen[walk->nr_seen++] = pbn;
	return true;
}

static void seal_node(struct walk *walk, struct pointer ptr);

static void seal_children(struct walk *walk, struct dynmap_disk_node *node)
{
	struct dynmap_disk_child *child = (void *)node->payload;
	struct dynmap_disk_volume *volume = (void *)node->payload;
	struct dynmap_disk_snapshot *snap = (void *)node->payload;
	u32 count = le16_to_cpu(node->count), i;

	if (node->level) {
		for (i = 0; i < count && i < DYNMAP_NODE_PAYLOAD / sizeof(*child); i++)
			seal_node(walk, child_pointer(&child[i]));
	} else if (node->kind == DYNMAP_TREE_VOLUME) {
		for (i = 0; i < count && i < DYNMAP_NODE_PAYLOAD / sizeof(*volume); i++)
			seal_node(walk, root_pointer(&volume[i].root));
	} else if (node->kind == DYNMAP_TREE_SNAPSHOT) {
		for (i = 0; i < count && i < DYNMAP_NODE_PAYLOAD / sizeof(*snap); i++)
			seal_node(walk, root_pointer(&snap[i].divergence_root));
	}
}

static void seal_copy(struct walk *walk, const struct dynmap_disk_node *node, u64 pbn_a,
		      u64 pbn_b)
{
	void *copy;
	u64 block;
	u32 dev;

	if (walk->flags & FUZZ_SEAL_ONE_COPY || pbn_b == pbn_a)
		return;
	copy = locate(walk->base, pbn_b, &dev, &block);
	if (copy)
		memcpy(copy, node, DYNMAP_BLOCK_BYTES);
}

/* Depth first; that ends because each block is entered once. */
static void seal_node(struct walk *walk, struct pointer ptr)
{
	struct fuzz_base *base = walk->base;
	u64 pbn = le64_to_cpu(*ptr.pbn_a), block;
	struct dynmap_disk_node *node;
	struct fuzz_node *entry;
	u32 dev;

	node = locate(base, pbn, &dev, &block);
	if (!node)
		return;
	if (first_time(walk, pbn)) {
		if (walk->flags & FUZZ_SEAL_NODES) {
			node->pbn_a = *ptr.pbn_a;
			node->pbn_b = *ptr.pbn_b;
			node->generation = *ptr.generation;
		}
		seal_children(walk, node);
		node->crc = cpu_to_le32(fuzz_crc(node, offsetof(struct dynmap_disk_node, crc)));
		if (walk->list && base->nr_nodes < FUZZ_NODES) {
			entry = &base->node[base->nr_nodes++];
			*entry = (struct fuzz_node){ dev, block, { pbn, le64_to_cpu(*ptr.pbn_b) } };
		}
	}
	if (walk->flags & FUZZ_SEAL_POINTERS) {
		*ptr.pbn_b = node->pbn_b;
		*ptr.generation = node->generation;
	}
	*ptr.crc = node->crc;
	seal_copy(walk, node, pbn, le64_to_cpu(*ptr.pbn_b));
}

/* All slots of all devices get the superblock. */
static void seal_super(struct fuzz_base *base, struct dynmap_disk_super *sb)
{
	__le32 number = sb->this_device;
	u32 dev, i;

	for (dev = 0; dev < base->cow.nr_devs; dev++) {
		u64 slots[] = { 0, 1, 2, 3, base->blocks[dev] - 1 };

		/* An edit of the device's number is one of device 0. */
		if (dev)
			sb->this_device = cpu_to_le32(dev);
		sb->crc = cpu_to_le32(fuzz_crc(sb, offsetof(struct dynmap_disk_super, crc)));
		for (i = 0; i < ARRAY_SIZE(slots); i++)
			memcpy(store_cow_edit(&base->cow, dev, slots[i]), sb, DYNMAP_BLOCK_BYTES);
	}
	sb->this_device = number;
}

static void seal_journal(struct fuzz_base *base)
{
	u32 length = le32_to_cpu(base->super.journal_blocks), dev, i;
	struct dynmap_disk_journal *block;
	u64 start;

	for (dev = 0; dev < base->cow.nr_devs; dev++) {
		start = le64_to_cpu(base->super.device[dev].journal_start);
		for (i = 0; i < length; i++) {
			block = (void *)store_cow_peek(&base->cow, dev, start + i);
			if (!block->magic)
				continue;
			block = (void *)store_cow_edit(&base->cow, dev, start + i);
			block->crc = cpu_to_le32(fuzz_crc(block,
							  offsetof(struct dynmap_disk_journal,
								   crc)));
		}
	}
}

void fuzz_seal(struct fuzz_base *base, struct dynmap_disk_super *sb, u32 flags)
{
	struct walk walk = { .base = base, .flags = flags, .list = !base->nr_nodes };

	seal_node(&walk, root_pointer(&sb->volume_root));
	seal_node(&walk, root_pointer(&sb->space_root));
	seal_node(&walk, root_pointer(&sb->segment_root));
	seal_node(&walk, root_pointer(&sb->snapshot_root));
	seal_node(&walk, root_pointer(&sb->dead_root));
	seal_super(base, sb);
	seal_journal(base);
}
