// SPDX-License-Identifier: GPL-2.0-only
/*
 * Free space, see core/space.h. Callers: the allocator (dm-dynmap-alloc.c and
 * core/zone.c), growth, checkpoints and the kernel (memory), the checker.
 *
 * Searches go down from a device's greatest parts, at each level to the first one that may
 * have what is wanted. What they find may have less, as bounds are not lowered when blocks
 * are taken. Each such find lowers a bound for good, until something becomes free there; so
 * searches in vain are paid for by allocations and frees before them.
 */
#include "core/space.h"

#define DYNMAP_SEG_BUFS		DIV_ROUND_UP(sizeof(struct dynmap_seg), DYNMAP_BLOCK_BYTES)
#define DYNMAP_PARTS_BUFS	DIV_ROUND_UP(sizeof(struct dynmap_part) << DYNMAP_PART_SHIFT_1, \
					     DYNMAP_BLOCK_BYTES)
#define DYNMAP_SPACE_BYTES	max(sizeof(struct dynmap_seg), sizeof(struct dynmap_parts) + \
				    (sizeof(struct dynmap_part) << DYNMAP_PART_SHIFT_1))
#define DYNMAP_MIN_SEGS		128	/* bitmaps that stay in memory, however short it is */
#define DYNMAP_MIN_LOADED	64	/* the same of parts of level 0 */
#define DYNMAP_SHRINK		64	/* bitmaps, and parts, looked at in one step */

/* Blocks of a part, where so many are on its device. */
static u64 dynmap_part_blocks_of(const struct dynmap_parts *parts, u32 at, u64 total)
{
	u64 first = ((u64)parts->first + ((u64)at << dynmap_part_shift(parts->level))) <<
		    DYNMAP_SEGMENT_SHIFT;
	u64 most = (u64)DYNMAP_SEGMENT_BLOCKS << dynmap_part_shift(parts->level);

	return first >= total ? 0 : min(total - first, most);
}

/* Blocks of a part, which may lie partly or wholly behind the end of its device. */
static u64 dynmap_part_blocks(const struct dynmap_space *space, const struct dynmap_parts *parts,
			      u32 at)
{
	return dynmap_part_blocks_of(parts, at, space->dev_total[parts->dev]);
}

/* Key of the summary of a part. */
static u64 dynmap_part_key(const struct dynmap_parts *parts, u32 at)
{
	u64 number = dynmap_segment_number(parts->dev, parts->first) >>
		     dynmap_part_shift(parts->level);

	return (u64)(parts->level + 1) << DYNMAP_SUMMARY_SHIFT | (number + at);
}

/* A part that nothing is known of, or that was shorter when it was written, is free. */
static void dynmap_part_is_free(struct dynmap_part *part, u64 blocks)
{
	part->disk.run = min_t(u64, blocks, DYNMAP_SEGMENT_BLOCKS);
	part->disk.zone = min_t(u64, blocks, DYNMAP_ZONE_BLOCKS);
	part->room.run = part->disk.run;
	part->room.zone = part->disk.zone;
}

void *dynmap_space_memory(bool wait)
{
	return wait ? dynmap_zalloc(DYNMAP_SPACE_BYTES) : dynmap_zalloc_try(DYNMAP_SPACE_BYTES);
}

void dynmap_space_add_memory(struct dynmap_space *space, void *memory)
{
	if (space->nr_stock < DYNMAP_SPACE_STOCK)
		space->stock[space->nr_stock++] = memory;
	else
		dynmap_free(memory);
}

bool dynmap_space_supply(struct dynmap_space *space)
{
	void *memory;

	while (space->nr_stock < DYNMAP_SPACE_STOCK) {
		memory = dynmap_space_memory(true);
		if (!memory)
			break;
		dynmap_space_add_memory(space, memory);
	}
	return space->nr_stock == DYNMAP_SPACE_STOCK;
}

/* From the stock, zeroed; or NULL, and the operation says that it is short. */
static void *dynmap_space_take_memory(struct dynmap_space *space, struct dynmap_op *op)
{
	op->bitmaps = !space->nr_stock;
	if (op->bitmaps)
		return NULL;
	return memset(space->stock[--space->nr_stock], 0, DYNMAP_SPACE_BYTES);
}

static struct dynmap_parts *dynmap_parts_init(struct dynmap_parts *parts, u32 level, u32 dev,
					      u32 first)
{
	INIT_LIST_HEAD(&parts->dirty);
	parts->level = level;
	parts->dev = dev;
	parts->first = first;
	return parts;
}

static void dynmap_parts_are_free(const struct dynmap_space *space, struct dynmap_parts *parts)
{
	u32 i;

	for (i = 0; i < dynmap_part_count(parts->level); i++)
		dynmap_part_is_free(&parts->part[i], dynmap_part_blocks(space, parts, i));
}

struct dynmap_parts *dynmap_space_new_top(u32 dev)
{
	struct dynmap_parts *parts = dynmap_space_memory(true);

	return parts ? dynmap_parts_init(parts, DYNMAP_PART_LEVELS - 1, dev, 0) : NULL;
}

/* Segments and greater parts of a device. */
static u64 dynmap_dev_parts(u32 slots)
{
	u64 sum = 0;
	u32 level;

	for (level = 0; level < DYNMAP_PART_LEVELS; level++)
		sum += DIV_ROUND_UP((u64)slots, 1ULL << dynmap_part_shift(level));
	return sum;
}

int dynmap_space_init(struct dynmap_space *space, struct dynmap_cache *cache,
		      const struct dynmap_disk_root *root)
{
	struct dynmap_geometry *geo = cache->geo;
	u32 i;

	space->cache = cache;
	space->geo = geo;
	INIT_LIST_HEAD(&space->segs);
	INIT_LIST_HEAD(&space->parts);
	INIT_LIST_HEAD(&space->dirty);
	for (i = 0; i < ARRAY_SIZE(space->dirty_parts); i++)
		INIT_LIST_HEAD(&space->dirty_parts[i]);
	if (root && !dynmap_btree_root_valid(geo, root)) {
		dynmap_err("superblock: bad root of the space tree");
		return -EUCLEAN;
	}
	dynmap_btree_init(&space->tree, cache, DYNMAP_TREE_SPACE, 0, root);
	for (i = 0; i < geo->nr_devs; i++) {
		space->slots[i] = geo->dev[i].slots;
		space->dev_total[i] = dynmap_dev_data_blocks(&geo->dev[i]);
		space->dev_free[i] = space->dev_total[i];
		space->total_blocks += space->dev_total[i];
		space->nr_parts += dynmap_dev_parts(space->slots[i]);
		space->top[i] = dynmap_space_new_top(i);
		if (!space->top[i])
			return -ENOMEM;
		dynmap_parts_are_free(space, space->top[i]);
	}
	if (!dynmap_space_supply(space))
		return -ENOMEM;
	space->free_blocks = space->total_blocks;
	dynmap_space_limit(space, cache->limit);
	return 0;
}

void dynmap_space_limit(struct dynmap_space *space, u32 bufs)
{
	space->most_segs = max_t(u32, DYNMAP_MIN_SEGS, bufs * 3 / 8 / DYNMAP_SEG_BUFS);
	space->most_loaded = max_t(u32, DYNMAP_MIN_LOADED, bufs / 8 / DYNMAP_PARTS_BUFS);
}

/* Free parts and what they consist of. */
static void dynmap_parts_free(struct dynmap_parts *parts)
{
	u32 i;

	if (!parts)
		return;
	for (i = 0; i < dynmap_part_count(parts->level); i++) {
		if (parts->level)
			dynmap_parts_free(parts->part[i].parts);
		else
			dynmap_free(parts->part[i].seg);
	}
	dynmap_free(parts);
}

void dynmap_space_exit(struct dynmap_space *space)
{
	u32 dev;

	for (dev = 0; dev < DYNMAP_MAX_DEVICES; dev++)
		dynmap_parts_free(space->top[dev]);
	while (space->nr_stock)
		dynmap_free(space->stock[--space->nr_stock]);
}

/* What is wrong with a summary of a part of so many blocks. */
static const char *dynmap_summary_check(const struct dynmap_disk_summary *disk, u64 blocks)
{
	u64 known = le32_to_cpu(disk->blocks), sum = le32_to_cpu(disk->used);
	u32 class, nodes;

	if (!known || known > blocks)
		return "length";
	for (class = 0; class < 2; class++) {
		nodes = le32_to_cpu(disk->node_blocks[class]);
		sum += nodes;
		if (le32_to_cpu(disk->node_used[class]) > nodes ||
		    le32_to_cpu(disk->empty[class]) > nodes)
			return "nodes";
	}
	if (sum > known)
		return "sum";
	/* Where nothing is said to be found nobody would look again. */
	if (sum < known && (!disk->run || !disk->zone))
		return "room";
	return le32_to_cpu(disk->run) > min_t(u64, known, DYNMAP_SEGMENT_BLOCKS) ||
	       le32_to_cpu(disk->zone) > DYNMAP_ZONE_BLOCKS ? "room" : NULL;
}

/* Take the summary of a part as read from disk. */
static void dynmap_part_take(struct dynmap_part *part, const struct dynmap_disk_summary *disk,
			     u64 blocks)
{
	struct dynmap_summary *sum = &part->disk;
	u32 class;

	sum->used = le32_to_cpu(disk->used);
	if (le32_to_cpu(disk->blocks) == blocks) {
		sum->run = le32_to_cpu(disk->run);
		sum->zone = le32_to_cpu(disk->zone);
	}
	part->room.run = sum->run;
	part->room.zone = sum->zone;
	for (class = 0; class < 2; class++) {
		sum->node_blocks[class] = le32_to_cpu(disk->node_blocks[class]);
		sum->node_used[class] = le32_to_cpu(disk->node_used[class]);
		sum->empty[class] = le32_to_cpu(disk->empty[class]);
		if (sum->node_blocks[class] > sum->node_used[class])
			part->room.flags |= DYNMAP_NEED_NODE_A << class;
		if (sum->empty[class])
			part->room.flags |= DYNMAP_NEED_EMPTY_A << class;
	}
}

static void dynmap_summary_add(struct dynmap_summary *sum, const struct dynmap_summary *part)
{
	u32 class;

	sum->used += part->used;
	for (class = 0; class < 2; class++) {
		sum->node_blocks[class] += part->node_blocks[class];
		sum->node_used[class] += part->node_used[class];
		sum->empty[class] += part->empty[class];
	}
	sum->run = max(sum->run, part->run);
	sum->zone = max(sum->zone, part->zone);
}

static void dynmap_parts_sum(const struct dynmap_parts *parts, struct dynmap_summary *sum)
{
	u32 i;

	memset(sum, 0, sizeof(*sum));
	for (i = 0; i < dynmap_part_count(parts->level); i++)
		dynmap_summary_add(sum, &parts->part[i].disk);
}

/* Does a summary from disk count what there is, and promise no less than is free? */
static bool dynmap_summary_agrees(const struct dynmap_summary *disk,
				  const struct dynmap_summary *sum)
{
	return !memcmp(disk, sum, offsetof(struct dynmap_summary, run)) &&
	       disk->run >= sum->run && disk->zone >= sum->zone;
}

/* Visit the records with keys in [first, end) of the space tree: @take them. */
static int dynmap_space_scan(struct dynmap_space *space, u64 first, u64 end,
			     int (*take)(struct dynmap_space *space, void *into, u64 at,
					 const void *record),
			     void *into, struct dynmap_op *op)
{
	struct dynmap_path path;
	u64 key, at;
	int slot, ret;

	for (key = first; key < end; key = path.high) {
		ret = dynmap_btree_find(&space->tree, key, &path, op);
		if (ret)
			return ret == -ENOENT ? 0 : ret;
		for (slot = max(path.slot[0], 0); slot < (int)dynmap_node_count(path.buf[0]);
		     slot++) {
			at = dynmap_leaf_key(path.buf[0], slot);
			if (at < key)
				continue;
			if (at >= end)
				return 0;
			ret = take(space, into, at - first, dynmap_leaf_record(path.buf[0], slot));
			if (ret)
				return ret;
		}
	}
	return 0;
}

/* Take the summary of one of some parts. */
static int dynmap_parts_take(struct dynmap_space *space, void *into, u64 at, const void *record)
{
	struct dynmap_parts *parts = into;
	u64 blocks = dynmap_part_blocks(space, parts, at);
	const char *failed = dynmap_summary_check(record, blocks);

	if (failed) {
		dynmap_err("summary %llx: bad %s", (unsigned long long)dynmap_part_key(parts, at),
			   failed);
		return -EUCLEAN;
	}
	dynmap_part_take(&parts->part[at], record, blocks);
	return 0;
}

/* Read the summaries of parts, all of which have been taken for free. */
static int dynmap_parts_read(struct dynmap_space *space, struct dynmap_parts *parts,
			     struct dynmap_op *op)
{
	u64 first = dynmap_part_key(parts, 0);

	return dynmap_space_scan(space, first, first + dynmap_part_count(parts->level),
				 dynmap_parts_take, parts, op);
}

u64 dynmap_space_allocated(const struct dynmap_space *space)
{
	struct dynmap_summary sum;
	u64 allocated = 0;
	u32 dev, i;

	for (dev = 0; dev < space->geo->nr_devs; dev++)
		for (i = 0; i < dynmap_part_count(DYNMAP_PART_LEVELS - 1); i++) {
			sum = space->top[dev]->part[i].disk;
			allocated += (u64)sum.used + sum.node_used[0] + sum.node_used[1];
		}
	return allocated;
}

/* What a part of the highest level has in use is not free. */
static void dynmap_space_count(struct dynmap_space *space, u32 dev,
			       const struct dynmap_summary *sum)
{
	struct dynmap_zones *zones;
	u64 blocks, free;
	u32 class;

	space->dev_free[dev] -= sum->used;
	space->free_blocks -= sum->used;
	for (class = 0; class < 2; class++) {
		zones = &space->zones[dev][class];
		blocks = sum->node_blocks[class];
		free = blocks - sum->node_used[class];
		zones->blocks += blocks;
		zones->free += free;
		zones->empty += sum->empty[class];
		space->dev_free[dev] -= blocks;
		space->free_blocks -= sum->node_used[class];
		space->meta_total += blocks;
		space->meta_free += free;
	}
}

int dynmap_space_open(struct dynmap_space *space, struct dynmap_op *op)
{
	u32 dev, i;
	int ret;

	for (dev = 0; dev < space->geo->nr_devs; dev++) {
		ret = dynmap_parts_read(space, space->top[dev], op);
		if (ret)
			return ret;
	}
	for (dev = 0; dev < space->geo->nr_devs; dev++)
		for (i = 0; i < dynmap_part_count(DYNMAP_PART_LEVELS - 1); i++)
			dynmap_space_count(space, dev, &space->top[dev]->part[i].disk);
	return 0;
}

/* So many data blocks of a device do not count as free any more. */
static void dynmap_space_lose(struct dynmap_space *space, u32 dev, u64 blocks)
{
	space->dev_free[dev] -= blocks;
	space->free_blocks -= blocks;
}

/*
 * The records of a part, or of those that it consists of, are of no use: what its summary says
 * is free, which nobody has changed since (S3), is not.
 */
static void dynmap_part_lose(struct dynmap_space *space, struct dynmap_parts *parts, u32 at)
{
	struct dynmap_part *part = &parts->part[at];
	u64 blocks = dynmap_part_blocks(space, parts, at) - part->disk.used;
	struct dynmap_zones *zones;
	u32 class, free;

	part->lost = true;
	parts->nr_lost++;
	memset(&part->room, 0, sizeof(part->room));
	for (class = 0; class < 2; class++) {
		zones = &space->zones[parts->dev][class];
		free = part->disk.node_blocks[class] - part->disk.node_used[class];
		blocks -= part->disk.node_blocks[class];
		zones->blocks -= free;
		zones->free -= free;
		zones->empty -= part->disk.empty[class];
		space->meta_total -= free;
		space->meta_free -= free;
		space->free_blocks -= free;
	}
	dynmap_space_lose(space, parts->dev, blocks);
	dynmap_err("%s %u of device %u: its space records are of no use, it counts as full",
		   parts->level ? "part that begins with segment" : "segment",
		   parts->first + (at << dynmap_part_shift(parts->level)), parts->dev);
}

/* A part has been loaded; or it was tried (@ret), and unless help is needed first it is lost. */
static int dynmap_part_loaded(struct dynmap_space *space, struct dynmap_parts *parts, u32 at,
			      int ret)
{
	if (!ret || ret == -EAGAIN || ret == -ENOMEM)
		return ret;
	dynmap_part_lose(space, parts, at);
	return -EUCLEAN;
}

/* None of some parts has more than is known of the whole: it may have been looked for. */
static void dynmap_parts_bound(struct dynmap_parts *parts, const struct dynmap_room *most)
{
	struct dynmap_part *part = parts->part;
	u32 i;

	for (i = 0; i < dynmap_part_count(parts->level); i++, part++) {
		part->room.run = min(part->room.run, most->run);
		part->room.zone = min(part->room.zone, most->zone);
		part->room.flags &= most->flags;
	}
}

static int dynmap_parts_try(struct dynmap_space *space, struct dynmap_parts *above, u32 at,
			    struct dynmap_op *op)
{
	u32 first = above->first + (at << dynmap_part_shift(above->level));
	struct dynmap_parts *parts = dynmap_space_take_memory(space, op);
	struct dynmap_summary sum;
	int ret;

	if (!parts)
		return -ENOMEM;
	dynmap_parts_init(parts, above->level - 1, above->dev, first);
	dynmap_parts_are_free(space, parts);
	parts->above = above;
	parts->at = at;
	ret = dynmap_parts_read(space, parts, op);
	if (!ret) {
		dynmap_parts_sum(parts, &sum);
		if (!dynmap_summary_agrees(&above->part[at].disk, &sum)) {
			dynmap_err("summary %llx is not the sum of those below it",
				   (unsigned long long)dynmap_part_key(above, at));
			ret = -EUCLEAN;
		}
	}
	if (ret) {
		dynmap_space_add_memory(space, parts);
		return ret;
	}
	dynmap_parts_bound(parts, &above->part[at].room);
	above->part[at].parts = parts;
	if (!parts->level) {
		list_add_tail(&parts->list, &space->parts);
		space->nr_loaded++;
		space->cache->elsewhere += DYNMAP_PARTS_BUFS;
	}
	return 0;
}

/* Bring what a part of level 1 or 2 consists of into memory, or lose it. */
static int dynmap_parts_load(struct dynmap_space *space, struct dynmap_parts *above, u32 at,
			     struct dynmap_op *op)
{
	if (above->part[at].lost)
		return -EUCLEAN;
	return dynmap_part_loaded(space, above, at, dynmap_parts_try(space, above, at, op));
}

/* Length of the longest run of ones in a word; *run: of the one that goes on at its end. */
static u32 dynmap_word_run(u64 bits, u32 *run)
{
	u32 best = 0, at = 0, n;

	for (;;) {
		n = ~bits >> at ? (u32)__ffs64(~bits >> at) : 64 - at;
		*run += n;
		best = max(best, *run);
		at += n;
		if (at == 64)
			return best;
		*run = 0;
		n = bits >> at ? (u32)__ffs64(bits >> at) : 64 - at;
		at += n;
		if (at == 64)
			return best;
	}
}

/* The longest run of data blocks that are not allocated. */
static u32 dynmap_seg_longest(const struct dynmap_seg *seg, u32 blocks)
{
	u32 best = 0, run = 0, word;
	u64 bits;

	for (word = 0; word * 64 < blocks; word++) {
		bits = seg->zone_flags[word / DYNMAP_ZONE_WORDS] ? 0 : ~seg->allocated[word];
		if (blocks - word * 64 < 64)
			bits &= dynmap_bits(0, blocks - word * 64);
		best = max(best, dynmap_word_run(bits, &run));
	}
	return best;
}

/* The summary of a segment, by its allocated bits. */
static void dynmap_seg_sum(const struct dynmap_space *space, const struct dynmap_seg *seg,
			   struct dynmap_summary *sum)
{
	u32 blocks = dynmap_part_blocks(space, seg->parts, seg->at), zone, used, class;

	memset(sum, 0, sizeof(*sum));
	for (zone = 0; zone < blocks / DYNMAP_ZONE_BLOCKS; zone++) {
		used = dynmap_bits_count(seg->allocated, zone << DYNMAP_ZONE_SHIFT,
					 DYNMAP_ZONE_BLOCKS);
		if (!seg->zone_flags[zone]) {
			sum->used += used;
			sum->zone = max(sum->zone, DYNMAP_ZONE_BLOCKS - used);
			continue;
		}
		class = dynmap_zone_class(seg->zone_flags[zone]);
		sum->node_blocks[class] += DYNMAP_ZONE_BLOCKS;
		sum->node_used[class] += used;
		sum->empty[class] += !used;
	}
	sum->run = dynmap_seg_longest(seg, blocks);
}

/* What is wrong with a zone record. */
static const char *dynmap_zone_check(const struct dynmap_disk_zone *record)
{
	u32 flags = le16_to_cpu(record->flags), used = 0, i;

	if (flags & ~DYNMAP_ZONE_META || flags == DYNMAP_ZONE_META)
		return "flags";
	for (i = 0; i < DYNMAP_ZONE_WORDS; i++)
		used += hweight64(le64_to_cpu(record->bitmap[i]));
	return used == le16_to_cpu(record->used) ? NULL : "count";
}

/* Take the record of a zone of a segment. */
static int dynmap_seg_take(struct dynmap_space *space, void *into, u64 at, const void *record)
{
	const char *failed = dynmap_zone_check(record);
	const struct dynmap_disk_zone *zone = record;
	struct dynmap_seg *seg = into;
	u32 i;

	if (!failed && at << DYNMAP_ZONE_SHIFT >= dynmap_part_blocks(space, seg->parts, seg->at))
		failed = "number";
	if (failed) {
		dynmap_err("zone record %llu: bad %s", (unsigned long long)le64_to_cpu(zone->zone),
			   failed);
		return -EUCLEAN;
	}
	for (i = 0; i < DYNMAP_ZONE_WORDS; i++)
		seg->allocated[at * DYNMAP_ZONE_WORDS + i] = le64_to_cpu(zone->bitmap[i]);
	seg->zone_flags[at] = le16_to_cpu(zone->flags);
	return 0;
}

/* Read the zone records of a segment. */
static int dynmap_seg_read(struct dynmap_space *space, struct dynmap_seg *seg,
			   struct dynmap_op *op)
{
	u64 first = (u64)seg->number * DYNMAP_SEGMENT_ZONES;

	return dynmap_space_scan(space, first, first + DYNMAP_SEGMENT_ZONES, dynmap_seg_take, seg,
				 op);
}

static int dynmap_seg_load(struct dynmap_space *space, struct dynmap_parts *parts, u32 at,
			   struct dynmap_op *op)
{
	struct dynmap_seg *seg = dynmap_space_take_memory(space, op);
	u32 blocks = dynmap_part_blocks(space, parts, at);
	struct dynmap_summary sum;
	int ret;

	if (!seg)
		return -ENOMEM;
	INIT_LIST_HEAD(&seg->dirty);
	seg->number = dynmap_segment_number(parts->dev, parts->first + at);
	seg->parts = parts;
	seg->at = at;
	ret = dynmap_seg_read(space, seg, op);
	if (!ret) {
		dynmap_seg_sum(space, seg, &sum);
		if (!dynmap_summary_agrees(&parts->part[at].disk, &sum)) {
			dynmap_err("segment %u: its summary does not agree with its zones",
				   seg->number);
			ret = -EUCLEAN;
		}
	}
	if (ret) {
		dynmap_space_add_memory(space, seg);
		return ret;
	}
	memcpy(seg->busy, seg->allocated, sizeof(seg->busy));
	dynmap_bits_set(seg->busy, blocks, DYNMAP_SEGMENT_BLOCKS - blocks);
	seg->free = blocks - sum.used - sum.node_used[0] - sum.node_used[1];
	seg->used = true;
	list_add_tail(&seg->list, &space->segs);
	space->nr_segs++;
	space->cache->elsewhere += DYNMAP_SEG_BUFS;
	parts->part[at].seg = seg;
	parts->nr_segs++;
	return 0;
}

int dynmap_space_load_slowly(struct dynmap_space *space, u32 segment, struct dynmap_seg **seg,
			     struct dynmap_op *op)
{
	struct dynmap_parts *parts = space->top[dynmap_segment_dev(segment)];
	u32 slot = dynmap_segment_slot(segment), level, at;
	int ret;

	for (level = DYNMAP_PART_LEVELS - 1; level; level--) {
		at = (slot - parts->first) >> dynmap_part_shift(level);
		ret = parts->part[at].parts ? 0 : dynmap_parts_load(space, parts, at, op);
		if (ret)
			return ret;
		parts = parts->part[at].parts;
	}
	at = slot - parts->first;
	parts->used = true;
	if (parts->part[at].lost)
		return -EUCLEAN;
	ret = dynmap_part_loaded(space, parts, at, dynmap_seg_load(space, parts, at, op));
	*seg = parts->part[at].seg;
	return ret;
}

/* Are the bitmaps of a segment those on disk? */
static bool dynmap_seg_may_go(const struct dynmap_space *space, const struct dynmap_seg *seg)
{
	u32 blocks = dynmap_part_blocks(space, seg->parts, seg->at);

	return list_empty(&seg->dirty) &&
	       seg->free + dynmap_bits_count(seg->allocated, 0, blocks) == blocks;
}

/*
 * Let go of bitmaps until there are @most. None is looked at twice: those that an operation
 * has just loaded stay until it was called again.
 */
static void dynmap_space_shrink_segs(struct dynmap_space *space, u32 most)
{
	u32 budget = min_t(u32, DYNMAP_SHRINK, space->nr_segs);
	struct dynmap_seg *seg;

	while (space->nr_segs > most && budget--) {
		seg = list_first_entry(&space->segs, struct dynmap_seg, list);
		if (seg->used || !dynmap_seg_may_go(space, seg)) {
			seg->used = false;
			list_move_tail(&seg->list, &space->segs);
			continue;
		}
		list_del(&seg->list);
		space->nr_segs--;
		space->cache->elsewhere -= DYNMAP_SEG_BUFS;
		seg->parts->part[seg->at].seg = NULL;
		seg->parts->nr_segs--;
		dynmap_space_add_memory(space, seg);
	}
}

static void dynmap_space_shrink_parts(struct dynmap_space *space, u32 most)
{
	u32 budget = min_t(u32, DYNMAP_SHRINK, space->nr_loaded);
	struct dynmap_parts *parts;

	while (space->nr_loaded > most && budget--) {
		parts = list_first_entry(&space->parts, struct dynmap_parts, list);
		if (parts->used || parts->nr_segs || parts->nr_lost || !list_empty(&parts->dirty)) {
			parts->used = false;
			list_move_tail(&parts->list, &space->parts);
			continue;
		}
		list_del(&parts->list);
		space->nr_loaded--;
		space->cache->elsewhere -= DYNMAP_PARTS_BUFS;
		parts->above->part[parts->at].parts = NULL;
		dynmap_space_add_memory(space, parts);
	}
}

void dynmap_space_shrink(struct dynmap_space *space)
{
	dynmap_space_shrink_segs(space, space->most_segs);
	dynmap_space_shrink_parts(space, space->most_loaded);
}

u32 dynmap_space_evict(struct dynmap_space *space, u32 bufs)
{
	u32 before = space->cache->elsewhere, segs = bufs / DYNMAP_SEG_BUFS + 1;
	u32 least = min_t(u32, space->most_segs, DYNMAP_MIN_SEGS);

	if (space->nr_segs > least)
		dynmap_space_shrink_segs(space, max(least, space->nr_segs -
							   min(segs, space->nr_segs)));
	least = min_t(u32, space->most_loaded, DYNMAP_MIN_LOADED);
	if (space->nr_loaded > least && before - space->cache->elsewhere < bufs)
		dynmap_space_shrink_parts(space, max(least, space->nr_loaded - 1));
	return before - space->cache->elsewhere;
}

bool dynmap_space_recycle(struct dynmap_space *space)
{
	if (space->nr_stock)
		return false;
	if (space->nr_segs)
		dynmap_space_shrink_segs(space, space->nr_segs - 1);
	if (!space->nr_stock && space->nr_loaded)
		dynmap_space_shrink_parts(space, space->nr_loaded - 1);
	return space->nr_stock;
}

int dynmap_space_touched(struct dynmap_space *space, u32 segment, struct dynmap_op *op)
{
	struct dynmap_parts *parts = space->top[dynmap_segment_dev(segment)];
	u32 slot = dynmap_segment_slot(segment), level, at;
	const struct dynmap_summary *sum;
	int ret;

	for (level = DYNMAP_PART_LEVELS - 1;; level--) {
		at = (slot - parts->first) >> dynmap_part_shift(level);
		sum = &parts->part[at].disk;
		if (!level && parts->part[at].seg)
			return 1;
		if (!level || (!parts->part[at].parts && !sum->used && !sum->node_blocks[0] &&
			       !sum->node_blocks[1]))
			return sum->used || sum->node_blocks[0] || sum->node_blocks[1];
		ret = parts->part[at].parts ? 0 : dynmap_parts_load(space, parts, at, op);
		if (ret)
			return ret;
		parts = parts->part[at].parts;
	}
}

/* How much of what is needed a part may have. */
static u32 dynmap_room_of(const struct dynmap_room *room, u8 need)
{
	if (need == DYNMAP_NEED_RUN)
		return room->run;
	return need == DYNMAP_NEED_ZONE ? room->zone : !!(room->flags & need);
}

/* The most that any of some parts may have. */
static struct dynmap_room dynmap_parts_room(const struct dynmap_parts *parts)
{
	const struct dynmap_part *part = parts->part;
	struct dynmap_room most = {};
	u32 i;

	for (i = 0; i < dynmap_part_count(parts->level); i++, part++) {
		most.run = max(most.run, part->room.run);
		most.zone = max(most.zone, part->room.zone);
		most.flags |= part->room.flags;
	}
	return most;
}

/*
 * Find the first segment at or behind slot @from. -ENOENT: no bound is too high any more;
 * -EUCLEAN: a part on the way was lost.
 */
static int dynmap_parts_find(struct dynmap_space *space, struct dynmap_parts *parts, u8 need,
			     u32 want, u32 from, u32 *slot, struct dynmap_op *op)
{
	u32 shift = dynmap_part_shift(parts->level), i;
	struct dynmap_part *part;
	int ret;

	for (i = from > parts->first ? (from - parts->first) >> shift : 0;
	     i < dynmap_part_count(parts->level); i++) {
		part = &parts->part[i];
		if (dynmap_room_of(&part->room, need) < want)
			continue;
		*slot = parts->first + (i << shift);
		if (!parts->level)
			return 0;
		ret = part->parts ? 0 : dynmap_parts_load(space, parts, i, op);
		if (ret)
			return ret;
		part->parts->used = true;
		ret = dynmap_parts_find(space, part->parts, need, want, from, slot, op);
		if (ret != -ENOENT)
			return ret;
		part->room = dynmap_parts_room(part->parts);
	}
	return -ENOENT;
}

int dynmap_space_find(struct dynmap_space *space, u32 dev, u8 need, u32 want, u32 least, u32 from,
		      struct dynmap_seg **seg, struct dynmap_op *op)
{
	struct dynmap_parts *top = space->top[dev];
	struct dynmap_room most;
	u32 slot;
	int ret;

	do {
		most = dynmap_parts_room(top);
		want = min(want, dynmap_room_of(&most, need));
		if (want <= least)
			return -ENOENT;
		ret = dynmap_parts_find(space, top, need, want, from, &slot, op);
		if (ret == -ENOENT && from)
			ret = dynmap_parts_find(space, top, need, want, 0, &slot, op);
		if (!ret)
			ret = dynmap_space_load(space, dynmap_segment_number(dev, slot), seg, op);
	} while (ret == -ENOENT || ret == -EUCLEAN);
	return ret;
}

/* Not more than what is not allocated, by the summary just made of a segment, may be free. */
static void dynmap_room_lower(struct dynmap_part *part)
{
	part->room.run = min(part->room.run, part->disk.run);
	part->room.zone = min_t(u32, part->room.zone, part->disk.zone);
}

/* Parts from segment slot @slot on have more blocks than before, when there were @before. */
static void dynmap_parts_grow(struct dynmap_space *space, struct dynmap_parts *parts, u32 slot,
			      u64 before)
{
	u32 shift = dynmap_part_shift(parts->level), i;
	u64 blocks;

	for (i = slot > parts->first ? (slot - parts->first) >> shift : 0;
	     i < dynmap_part_count(parts->level); i++) {
		blocks = dynmap_part_blocks(space, parts, i);
		if (!blocks)
			break;
		/* What the next opening finds there may have been gained. */
		dynmap_part_is_free(&parts->part[i], blocks);
		if (parts->part[i].lost) {
			memset(&parts->part[i].room, 0, sizeof(parts->part[i].room));
			blocks -= dynmap_part_blocks_of(parts, i, before);
			dynmap_space_lose(space, parts->dev, blocks);
			continue;
		}
		if (parts->level && parts->part[i].parts)
			dynmap_parts_grow(space, parts->part[i].parts, slot, before);
	}
}

void dynmap_space_grow_end(struct dynmap_space *space, u32 dev, struct dynmap_parts **top)
{
	const struct dynmap_dev *device = &space->geo->dev[dev];
	u64 total = dynmap_dev_data_blocks(device), before = space->dev_total[dev];
	u32 slot = before >> DYNMAP_SEGMENT_SHIFT, index = before & (DYNMAP_SEGMENT_BLOCKS - 1);
	struct dynmap_seg *seg = NULL;
	u32 fresh;

	if (!space->slots[dev]) {
		space->top[dev] = *top;
		*top = NULL;
	}
	space->nr_parts += dynmap_dev_parts(device->slots) - dynmap_dev_parts(space->slots[dev]);
	space->dev_total[dev] = total;
	space->slots[dev] = device->slots;
	space->total_blocks += total - before;
	/* What is not in memory is free without being noted. */
	space->free_blocks += total - before;
	space->dev_free[dev] += total - before;
	dynmap_parts_grow(space, space->top[dev], slot, before);
	space->vacated += total > before;
	if (index)
		seg = dynmap_space_seg(space, dynmap_segment_number(dev, slot));
	if (!seg)
		return;
	fresh = min_t(u64, total - before, DYNMAP_SEGMENT_BLOCKS - index);
	dynmap_bits_clear(seg->busy, index, fresh);
	seg->free += fresh;
}

/* The record of a zone; all zero but for its number if there is to be none. */
static void dynmap_zone_record(const struct dynmap_seg *seg, u32 zone, u64 *key,
			       struct dynmap_disk_zone *record)
{
	u32 used = 0, i;
	u64 bits;

	*key = (u64)seg->number * DYNMAP_SEGMENT_ZONES + zone;
	memset(record, 0, sizeof(*record));
	record->zone = cpu_to_le64(*key);
	record->flags = cpu_to_le16(seg->zone_flags[zone]);
	for (i = 0; i < DYNMAP_ZONE_WORDS; i++) {
		bits = seg->allocated[zone * DYNMAP_ZONE_WORDS + i];
		record->bitmap[i] = cpu_to_le64(bits);
		used += hweight64(bits);
	}
	record->used = cpu_to_le16(used);
}

/* The record of a part, whose summary is up to date. */
static void dynmap_part_record(const struct dynmap_space *space, const struct dynmap_parts *parts,
			       u32 at, u64 *key, struct dynmap_disk_summary *record)
{
	const struct dynmap_summary *sum = &parts->part[at].disk;
	u32 class;

	*key = dynmap_part_key(parts, at);
	record->key = cpu_to_le64(*key);
	record->blocks = cpu_to_le32(dynmap_part_blocks(space, parts, at));
	record->used = cpu_to_le32(sum->used);
	for (class = 0; class < 2; class++) {
		record->node_blocks[class] = cpu_to_le32(sum->node_blocks[class]);
		record->node_used[class] = cpu_to_le32(sum->node_used[class]);
		record->empty[class] = cpu_to_le32(sum->empty[class]);
	}
	record->run = cpu_to_le32(sum->run);
	record->zone = cpu_to_le32(sum->zone);
}

/* The first zone of a segment whose record is out of date, DYNMAP_SEGMENT_ZONES if none. */
static u32 dynmap_seg_dirty_zone(const struct dynmap_seg *seg)
{
	u32 word;

	for (word = 0; word < ARRAY_SIZE(seg->zone_dirty); word++)
		if (seg->zone_dirty[word])
			return word * 64 + __ffs64(seg->zone_dirty[word]);
	return DYNMAP_SEGMENT_ZONES;
}

/* Parts of which one has a changed summary, those of level 0 first; NULL if there are none. */
static struct dynmap_parts *dynmap_space_dirty_parts(const struct dynmap_space *space)
{
	u32 level;

	for (level = 0; level < ARRAY_SIZE(space->dirty_parts); level++)
		if (!list_empty(&space->dirty_parts[level]))
			return list_first_entry(&space->dirty_parts[level], struct dynmap_parts,
						dirty);
	return NULL;
}

bool dynmap_space_next(struct dynmap_space *space, u64 *key, union dynmap_space_record *record)
{
	struct dynmap_parts *parts;
	struct dynmap_seg *seg;
	u32 zone;

	if (!list_empty(&space->dirty)) {
		seg = list_first_entry(&space->dirty, struct dynmap_seg, dirty);
		zone = dynmap_seg_dirty_zone(seg);
		if (zone < DYNMAP_SEGMENT_ZONES) {
			dynmap_zone_record(seg, zone, key, &record->zone);
			return true;
		}
		dynmap_seg_sum(space, seg, &seg->parts->part[seg->at].disk);
		dynmap_room_lower(&seg->parts->part[seg->at]);
		dynmap_part_record(space, seg->parts, seg->at, key, &record->summary);
		return true;
	}
	parts = dynmap_space_dirty_parts(space);
	if (!parts)
		return false;
	dynmap_parts_sum(parts, &parts->above->part[parts->at].disk);
	parts->above->part[parts->at].room = dynmap_parts_room(parts);
	dynmap_part_record(space, parts->above, parts->at, key, &record->summary);
	return true;
}

void dynmap_space_done(struct dynmap_space *space)
{
	struct dynmap_seg *seg;
	u32 zone;

	space->nr_dirty--;
	if (list_empty(&space->dirty)) {
		list_del_init(&dynmap_space_dirty_parts(space)->dirty);
		return;
	}
	seg = list_first_entry(&space->dirty, struct dynmap_seg, dirty);
	zone = dynmap_seg_dirty_zone(seg);
	if (zone < DYNMAP_SEGMENT_ZONES) {
		seg->zone_dirty[zone >> 6] &= ~(1ULL << (zone & 63));
		return;
	}
	list_del_init(&seg->dirty);
	space->nr_dirty_segs--;
}
