// SPDX-License-Identifier: GPL-2.0-only
/*
 * The mapping table, see dm-dynmap-table.h. Callers: the kernel's bio path and
 * messages, reaping, opening (replay), checkpoints (reclaim), tools and tests.
 *
 * Every change replaces one record of one leaf by a few others and joins them
 * with their neighbours where they meet. Extents never leave their leaf: an
 * insertion is clipped at the leaf's limits.
 */
#include "dm-dynmap-table.h"

#define DYNMAP_RECLAIM_STEPS	64
#define DYNMAP_COMPARE_STEPS	64
#define DYNMAP_UNIT_SHARE	16	/* of the free space, at most, in one unit */
#define DYNMAP_MAX_STREAM	2048U	/* blocks allocated for a stream at once */
#define DYNMAP_MAX_PIECES	DYNMAP_WINDOW_BLOCKS	/* that replace one record */

/* A map record in host form; of a HOLE: the gap between records of one leaf. */
struct dynmap_extent {
	u64 lbn;
	u64 len;
	u64 pbn;
	u32 birth;
	u16 bitmap;
	u8 kind;
};

static u64 dynmap_extent_end(const struct dynmap_extent *extent)
{
	return extent->lbn + extent->len;
}

static __always_inline void dynmap_extent_read(struct dynmap_buf *leaf, int slot,
					       struct dynmap_extent *extent)
{
	const struct dynmap_disk_map *map = dynmap_node_entries(leaf);
	u32 high;

	map += slot;
	high = le32_to_cpu(map->kind_pbn_high);
	extent->lbn = dynmap_node_base(leaf) + le32_to_cpu(map->delta);
	extent->kind = high >> DYNMAP_MAP_KIND_SHIFT;
	extent->pbn = (u64)(high & ((1U << DYNMAP_MAP_KIND_SHIFT) - 1)) << 16 |
		      le16_to_cpu(map->pbn_low);
	extent->birth = le32_to_cpu(map->birth);
	extent->len = extent->kind == DYNMAP_WINDOW ? DYNMAP_WINDOW_BLOCKS :
						      le16_to_cpu(map->len) + 1;
	extent->bitmap = extent->kind == DYNMAP_WINDOW ? le16_to_cpu(map->len) : 0;
}

static void dynmap_extent_write(u64 base, const struct dynmap_extent *extent,
				struct dynmap_disk_map *map)
{
	map->delta = cpu_to_le32(extent->lbn - base);
	map->len = cpu_to_le16(extent->kind == DYNMAP_WINDOW ? extent->bitmap : extent->len - 1);
	map->pbn_low = cpu_to_le16(extent->pbn & 0xffff);
	map->kind_pbn_high = cpu_to_le32((u32)extent->kind << DYNMAP_MAP_KIND_SHIFT |
					 (u32)(extent->pbn >> 16));
	map->birth = cpu_to_le32(extent->birth);
}

/* The part [from, to) of a DATA or RESERVED extent. */
static struct dynmap_extent dynmap_extent_part(const struct dynmap_extent *extent, u64 from, u64 to)
{
	struct dynmap_extent part = *extent;

	part.lbn = from;
	part.len = to - from;
	part.pbn += from - extent->lbn;
	return part;
}

/* Join @next to @extent if they can be one record. */
static __always_inline bool dynmap_extent_join(struct dynmap_extent *extent,
					       const struct dynmap_extent *next)
{
	if (extent->kind != next->kind || extent->kind == DYNMAP_WINDOW ||
	    extent->birth != next->birth || dynmap_extent_end(extent) != next->lbn ||
	    extent->pbn + extent->len != next->pbn || !dynmap_pbn_index(next->pbn) ||
	    extent->len + next->len > DYNMAP_MAX_EXTENT_BLOCKS)
		return false;
	extent->len += next->len;
	return true;
}

/*
 * Find the record that covers @lbn, or the hole around it as far as this leaf
 * knows. path->slot[0] is the record, or the one before the hole, or -1.
 */
static __hot int dynmap_map_find(struct dynmap_volume *volume, u64 lbn, struct dynmap_path *path,
				 struct dynmap_extent *extent, struct dynmap_op *op)
{
	int ret = dynmap_btree_find(&volume->map, lbn, path, op);
	u64 start = 0, end = DYNMAP_MAX_LBN, reach;

	if (ret && ret != -ENOENT)
		return ret;
	if (!ret) {
		start = dynmap_node_base(path->buf[0]);
		reach = start + DYNMAP_LEAF_REACH;
		if (path->slot[0] >= 0) {
			dynmap_extent_read(path->buf[0], path->slot[0], extent);
			start = dynmap_extent_end(extent);
			if (lbn < start)
				return 0;
		}
		end = min(path->high, end);
		if (path->slot[0] + 1 < (int)dynmap_node_count(path->buf[0]))
			end = dynmap_leaf_key(path->buf[0], path->slot[0] + 1);
		/* An extent that crossed the reach could not be cut behind it. */
		if (lbn < reach)
			end = min(end, reach);
		else
			start = max(start, reach);
	}
	memset(extent, 0, sizeof(*extent));
	extent->kind = DYNMAP_HOLE;
	extent->lbn = start;
	extent->len = end - start;
	extent->pbn = DYNMAP_PBN_NONE;
	return 0;
}

__hot int dynmap_table_lookup(struct dynmap_volume *volume, u64 lbn, struct dynmap_mapping *mapping,
			      struct dynmap_op *op)
{
	struct dynmap_extent extent __uninitialized;
	struct dynmap_path path __uninitialized;
	int ret = dynmap_map_find(volume, lbn, &path, &extent, op);
	u32 bit, last;
	bool written;

	if (ret)
		return ret;
	mapping->kind = extent.kind;
	mapping->lbn = lbn;
	mapping->len = dynmap_extent_end(&extent) - lbn;
	mapping->pbn = DYNMAP_PBN_NONE;
	mapping->shared = false;
	mapping->place.epoch = 0;
	if (extent.kind == DYNMAP_HOLE)
		return 0;
	mapping->birth = extent.birth;
	mapping->place.pbn = path.buf[0]->pbn[0];
	mapping->place.epoch = volume->map.cache->epoch;
	mapping->shared = dynmap_share_has(&volume->map.share, extent.birth);
	mapping->pbn = extent.pbn + (lbn - extent.lbn);
	if (extent.kind != DYNMAP_WINDOW)
		return 0;
	bit = lbn - extent.lbn;
	written = extent.bitmap >> bit & 1;
	for (last = bit + 1; last < DYNMAP_WINDOW_BLOCKS; last++)
		if ((extent.bitmap >> last & 1) != written)
			break;
	mapping->kind = written ? DYNMAP_DATA : DYNMAP_RESERVED;
	mapping->len = last - bit;
	return 0;
}

/* The same, for a change; where a lookup found it, if it is still there. */
static __hot int dynmap_map_find_again(struct dynmap_table *table, struct dynmap_volume *volume,
				       u64 lbn, struct dynmap_path *path,
				       struct dynmap_extent *extent, struct dynmap_op *op)
{
	int ret = dynmap_volume_refresh(table, volume, op);

	if (ret)
		return ret;
	if (dynmap_btree_revisit(&volume->map, &op->place, lbn, path) && path->slot[0] >= 0) {
		dynmap_extent_read(path->buf[0], path->slot[0], extent);
		if (lbn < dynmap_extent_end(extent))
			return 0;
	}
	return dynmap_map_find(volume, lbn, path, extent, op);
}

/* First phase of every change of a map: nodes, buffers and room in the journal. */
static __hot int dynmap_map_prepare(struct dynmap_table *table, struct dynmap_volume *volume,
				    struct dynmap_op *op)
{
	int ret = dynmap_volume_refresh(table, volume, op);

	/* In replay dead extents wait for its end: to resolve them takes what the run did not. */
	if (!ret && !table->journal->replaying)
		ret = dynmap_family_resolve_due(&table->family, op);
	if (!ret)
		ret = dynmap_alloc_reserve(table->alloc, dynmap_btree_worst(&volume->map), 3, op);
	return ret ? ret : dynmap_journal_reserve(table->journal, 1, op);
}

/*
 * Second phase: replace @remove records (0 or 1) at path->slot[0], where @key
 * is or belongs, by @count others, which are joined in place; dynmap_map_find() for a
 * block of it has set @path.
 */
static __hot void dynmap_map_replace(struct dynmap_volume *volume, u64 key, u32 remove,
				     struct dynmap_extent *pieces, u32 count,
				     struct dynmap_path *path)
{
	struct dynmap_extent next __uninitialized;
	struct dynmap_disk_map *map;
	struct dynmap_buf *leaf;
	u32 n = 0, i;
	int slot;
	u64 base;

	dynmap_btree_write_path(&volume->map, key, count > remove ? count - remove : 0, path);
	leaf = path->buf[0];
	slot = path->slot[0] + !remove;
	for (i = 0; i < count; i++)
		if (!n || !dynmap_extent_join(&pieces[n - 1], &pieces[i]))
			pieces[n++] = pieces[i];
	if (n && slot + remove < dynmap_node_count(leaf)) {
		dynmap_extent_read(leaf, slot + remove, &next);
		remove += dynmap_extent_join(&pieces[n - 1], &next);
	}
	if (n && slot) {
		dynmap_extent_read(leaf, slot - 1, &next);
		if (dynmap_extent_join(&next, &pieces[0])) {
			pieces[0] = next;
			slot--;
			remove++;
		}
	}
	base = dynmap_node_base(leaf);
	map = dynmap_leaf_splice(path, slot, remove, n);
	for (i = 0; i < n; i++)
		dynmap_extent_write(base, &pieces[i], &map[i]);
	if (n < remove)
		dynmap_btree_prune(&volume->map, path);
	dynmap_volume_changed(volume);
}

static __hot void dynmap_journal_map(struct dynmap_table *table, u8 kind,
				     struct dynmap_volume *volume, u64 lbn, u32 len, u64 pbn)
{
	struct dynmap_disk_record record = {
		.kind = kind,
		.len = cpu_to_le16(len ? len - 1 : 0),
		.volume = cpu_to_le32(volume->id),
		.map.lbn = cpu_to_le64(lbn),
		.map.pbn = cpu_to_le64(pbn),
	};

	dynmap_journal_append(table->journal, &record);
}

static void dynmap_map_reserve(struct dynmap_table *table, struct dynmap_volume *volume, u64 lbn,
			       u32 len, u64 pbn, struct dynmap_path *path)
{
	struct dynmap_extent extent = {
		.lbn = lbn,
		.len = len,
		.pbn = pbn,
		.birth = table->cache->generation,
		.kind = DYNMAP_RESERVED,
	};

	dynmap_map_replace(volume, lbn, 0, &extent, 1, path);
	volume->reserved += len;
	volume->exclusive += len;
	table->reserves++;
	dynmap_journal_map(table, DYNMAP_REC_RESERVE, volume, lbn, len, pbn);
}

/*
 * Reserve one extent of [start, end) that covers @lbn, which lies in it; the
 * range is clipped to the hole around @lbn.
 */
static int dynmap_reserve_piece(struct dynmap_table *table, struct dynmap_volume *volume, u64 lbn,
				u64 start, u64 end, struct dynmap_op *op)
{
	u32 piece = dynmap_alloc_piece(table->alloc);
	u64 goal = DYNMAP_PBN_NONE, pbn, at;
	struct dynmap_extent hole, left;
	struct dynmap_path path;
	u32 len;
	int ret;

	ret = dynmap_map_find(volume, lbn, &path, &hole, op);
	if (ret || hole.kind != DYNMAP_HOLE)
		return ret;
	ret = dynmap_map_prepare(table, volume, op);
	if (ret)
		return ret;
	start = max(start, hole.lbn);
	end = min(end, dynmap_extent_end(&hole));
	if (lbn >= start + piece)
		start = max(start, lbn & ~(u64)(piece - 1));
	end = min(end, start + piece);
	if (volume->map.levels && path.slot[0] >= 0) {
		dynmap_extent_read(path.buf[0], path.slot[0], &left);
		if (dynmap_extent_end(&left) == start)
			goal = left.pbn + left.len;
	}
	ret = dynmap_alloc_data(table->alloc, goal, end - start, &pbn, &len, op);
	if (ret)
		return ret;
	at = max(start, min(lbn, end - len));
	dynmap_map_reserve(table, volume, at, len, pbn, &path);
	return 0;
}

/* The most that may be allocated at once. */
static u64 dynmap_unit_limit(const struct dynmap_table *table)
{
	return dynmap_alloc_data_free(table->alloc) / DYNMAP_UNIT_SHARE;
}

/* Allocation unit of a volume, smaller when space is short. */
static u32 dynmap_unit(const struct dynmap_table *table, const struct dynmap_volume *volume)
{
	u64 limit = dynmap_unit_limit(table);
	u32 unit = le32_to_cpu(volume->disk.alloc_blocks);

	if (!unit)
		unit = table->alloc_blocks;
	while (unit > 1 && unit > limit)
		unit /= 2;
	return unit;
}

/*
 * Blocks to allocate for a write that continues an extent of at least a window
 * and a unit, 0 for others. Windows with gaps are not the trace of a stream.
 */
static int dynmap_stream(const struct dynmap_table *table, struct dynmap_volume *volume, u64 lbn,
			 u32 unit, u32 *blocks, struct dynmap_op *op)
{
	struct dynmap_extent left;
	struct dynmap_path path;
	int ret;

	*blocks = 0;
	if (!lbn || unit >= DYNMAP_MAX_STREAM)
		return 0;
	ret = dynmap_map_find(volume, lbn - 1, &path, &left, op);
	if (ret || left.kind == DYNMAP_HOLE || left.kind == DYNMAP_WINDOW ||
	    left.len < max_t(u32, unit, DYNMAP_WINDOW_BLOCKS))
		return ret;
	*blocks = min_t(u64, min(2 * left.len, (u64)DYNMAP_MAX_STREAM), dynmap_unit_limit(table));
	return 0;
}

/*
 * Reserve what [start, end) has beside the piece that begins at @first, as far as it
 * goes. Help is asked for but for nodes: the caller's own write does not need them, and
 * they may be unreadable. -ENOMEM, -EBUSY.
 */
static int dynmap_reserve_others(struct dynmap_table *table, struct dynmap_volume *volume,
				 u64 first, u64 start, u64 end, struct dynmap_op *op)
{
	u32 piece = dynmap_alloc_piece(table->alloc);
	u64 at = first;
	int ret = 0;

	do {
		at += piece;
		if (at >= end)
			at = start;
		if (at == first)
			return 0;
		ret = dynmap_reserve_piece(table, volume, at, at, min(end, at + piece), op);
	} while (!ret);
	return ret == -ENOMEM || ret == -EBUSY ? ret : 0;
}

int dynmap_table_reserve(struct dynmap_table *table, struct dynmap_volume *volume, u64 lbn,
			 u32 len, struct dynmap_op *op)
{
	u32 unit = dynmap_unit(table, volume), piece = dynmap_alloc_piece(table->alloc);
	u64 start, end, first;
	u32 stream;
	int ret;

	ret = dynmap_stream(table, volume, lbn, unit, &stream, op);
	if (ret)
		return ret;
	start = lbn & ~(u64)(unit - 1);
	end = lbn + max(len, stream);
	end = min(round_up(end, (u64)unit), max(volume->limit, lbn + len));
	if (unit <= piece)
		return dynmap_reserve_piece(table, volume, lbn, start, end, op);
	/* The piece of @lbn is the last: until then the caller, once it has helped, comes again. */
	first = lbn & ~(u64)(piece - 1);
	ret = dynmap_reserve_others(table, volume, first, start, end, op);
	if (ret)
		return ret;
	return dynmap_reserve_piece(table, volume, lbn, first, min(end, first + piece), op);
}

/* Replay: reserve exactly this; what a first attempt did already is skipped. */
static int dynmap_table_reserve_at(struct dynmap_table *table, struct dynmap_volume *volume,
				   u64 lbn, u32 len, u64 pbn, struct dynmap_op *op)
{
	struct dynmap_extent extent;
	struct dynmap_path path;
	int ret;
	u32 n;

	for (; len; len -= n, lbn += n, pbn += n) {
		ret = dynmap_map_find(volume, lbn, &path, &extent, op);
		if (ret)
			return ret;
		n = min((u64)len, dynmap_extent_end(&extent) - lbn);
		if (extent.kind == DYNMAP_RESERVED && extent.pbn + (lbn - extent.lbn) == pbn)
			continue;
		if (extent.kind != DYNMAP_HOLE) {
			dynmap_err("journal: volume %llu block %llu is mapped already",
				   (unsigned long long)volume->id, (unsigned long long)lbn);
			return -EUCLEAN;
		}
		ret = dynmap_map_prepare(table, volume, op);
		if (!ret)
			ret = dynmap_alloc_data_at(table->alloc, pbn, n, op);
		if (ret)
			return ret;
		dynmap_map_reserve(table, volume, lbn, n, pbn, &path);
	}
	return 0;
}

bool dynmap_table_is_full(const struct dynmap_table *table)
{
	return dynmap_alloc_node_free(table->alloc) <
	       dynmap_btree_worst(&table->volumes) * table->cache->copies;
}

static u16 dynmap_window_bits(u64 from, u64 to)
{
	u32 first = from & (DYNMAP_WINDOW_BLOCKS - 1);

	return ((1U << (to - from)) - 1) << first;
}

/* Does a write at @lbn continue written blocks that lie before it in the leaf? */
static bool dynmap_map_continues(struct dynmap_path *path, const struct dynmap_extent *extent,
				 u64 lbn)
{
	struct dynmap_extent left;

	if (lbn != extent->lbn || path->slot[0] < 1)
		return false;
	dynmap_extent_read(path->buf[0], path->slot[0] - 1, &left);
	return left.kind == DYNMAP_DATA && dynmap_extent_end(&left) == lbn &&
	       left.pbn + left.len == extent->pbn;
}

/*
 * Make [lbn, end) of a RESERVED extent written, or a first part of it; the
 * pieces that replace it, and where the part ends. Whole windows become DATA;
 * a part of a window makes a WINDOW, unless it continues DATA.
 */
static u64 dynmap_write_reserved(struct dynmap_path *path, const struct dynmap_extent *extent,
				 u64 lbn, u64 end, struct dynmap_extent *pieces, u32 *count)
{
	u64 window = lbn & ~(u64)(DYNMAP_WINDOW_BLOCKS - 1);
	u64 window_end = window + DYNMAP_WINDOW_BLOCKS;
	u64 from = lbn;
	u8 kind = DYNMAP_DATA;
	u16 bits = 0;

	if (lbn == window && end >= window_end) {
		end &= ~(u64)(DYNMAP_WINDOW_BLOCKS - 1);
	} else {
		end = min(end, window_end);
		if (window >= extent->lbn && window_end <= dynmap_extent_end(extent) &&
		    !dynmap_map_continues(path, extent, lbn)) {
			kind = DYNMAP_WINDOW;
			bits = dynmap_window_bits(lbn, end);
			from = window;
		}
	}
	*count = 0;
	if (from > extent->lbn)
		pieces[(*count)++] = dynmap_extent_part(extent, extent->lbn, from);
	pieces[*count] = dynmap_extent_part(extent, from,
					    kind == DYNMAP_WINDOW ? window_end : end);
	pieces[*count].kind = kind;
	pieces[*count].bitmap = bits;
	from = dynmap_extent_end(&pieces[(*count)++]);
	if (from < dynmap_extent_end(extent))
		pieces[(*count)++] = dynmap_extent_part(extent, from, dynmap_extent_end(extent));
	return end;
}

/* The same for a WINDOW. */
static void dynmap_write_window(const struct dynmap_extent *extent, u64 lbn, u64 end,
				struct dynmap_extent *piece)
{
	*piece = *extent;
	piece->bitmap |= dynmap_window_bits(lbn, end);
	if (piece->bitmap == 0xffff) {
		piece->kind = DYNMAP_DATA;
		piece->bitmap = 0;
	}
}

int dynmap_table_set_written(struct dynmap_table *table, struct dynmap_volume *volume, u64 lbn,
			     u64 pbn, u32 len, struct dynmap_op *op)
{
	struct dynmap_extent pieces[DYNMAP_MAX_PIECES] __uninitialized;
	struct dynmap_path path __uninitialized;
	struct dynmap_extent extent;
	u64 end = lbn + len, to, fresh;
	u32 count;
	int ret;

	op->urgent = max_t(u8, op->urgent, DYNMAP_URGENT);
	for (; lbn < end; pbn += to - lbn, lbn = to) {
		ret = dynmap_map_find_again(table, volume, lbn, &path, &extent, op);
		if (ret)
			return ret;
		to = min(end, dynmap_extent_end(&extent));
		if (extent.kind == DYNMAP_HOLE || extent.kind == DYNMAP_DATA ||
		    extent.pbn + (lbn - extent.lbn) != pbn)
			continue;
		fresh = 0;
		if (extent.kind == DYNMAP_WINDOW) {
			fresh = hweight64(dynmap_window_bits(lbn, to) & ~extent.bitmap);
			if (!fresh)
				continue;
		}
		ret = dynmap_map_prepare(table, volume, op);
		if (ret)
			return ret;
		if (extent.kind == DYNMAP_WINDOW) {
			dynmap_write_window(&extent, lbn, to, pieces);
			count = 1;
		} else {
			to = dynmap_write_reserved(&path, &extent, lbn, to, pieces, &count);
			fresh = to - lbn;
		}
		dynmap_map_replace(volume, extent.lbn, 1, pieces, count, &path);
		volume->mapped += fresh;
		volume->reserved -= fresh;
		dynmap_journal_map(table, DYNMAP_REC_WRITTEN, volume, lbn, to - lbn, pbn);
	}
	return 0;
}

/* The runs of [from, to) of a WINDOW as DATA and RESERVED pieces. */
static u32 dynmap_window_pieces(const struct dynmap_extent *window, u64 from, u64 to,
				struct dynmap_extent *pieces)
{
	struct dynmap_extent block;
	u32 count = 0;

	for (; from < to; from++) {
		block = dynmap_extent_part(window, from, from + 1);
		block.kind = window->bitmap >> (from - window->lbn) & 1 ? DYNMAP_DATA :
									  DYNMAP_RESERVED;
		block.bitmap = 0;
		if (!count || !dynmap_extent_join(&pieces[count - 1], &block))
			pieces[count++] = block;
	}
	return count;
}

/*
 * What is left of an extent when [from, to) is unmapped. Exactly these blocks
 * are freed, however the extent is written down: replay may meet the same
 * blocks in other records, because leaves are joined as the cache allows.
 */
static __hot u32 dynmap_unmap_pieces(struct dynmap_volume *volume,
				     const struct dynmap_extent *extent, u64 from, u64 to,
				     struct dynmap_extent *pieces)
{
	u64 end = dynmap_extent_end(extent), written = 0;
	u32 count = 0;

	if (extent->kind == DYNMAP_WINDOW) {
		written = hweight64(dynmap_window_bits(from, to) & extent->bitmap);
		count = dynmap_window_pieces(extent, extent->lbn, from, pieces);
		count += dynmap_window_pieces(extent, to, end, pieces + count);
	} else {
		if (extent->kind == DYNMAP_DATA)
			written = to - from;
		if (from > extent->lbn)
			pieces[count++] = dynmap_extent_part(extent, extent->lbn, from);
		if (to < end)
			pieces[count++] = dynmap_extent_part(extent, to, end);
	}
	volume->mapped -= written;
	volume->reserved -= to - from - written;
	return count;
}

/* [from, to) of an extent is no longer mapped: it is free, or others go on using it. */
static __hot void dynmap_give_up(struct dynmap_table *table, struct dynmap_volume *volume,
				 const struct dynmap_extent *extent, u64 from, u64 to)
{
	const struct dynmap_share *share = &volume->map.share;
	struct dynmap_dead_extent dead = {
		.pbn = extent->pbn + (from - extent->lbn),
		.len = to - from,
		.birth = extent->birth,
		.node = share->node,
		.side = share->side,
	};

	if (dynmap_share_has(share, extent->birth)) {
		dynmap_dead_list_add(table->cache, &dead);
		return;
	}
	dynmap_alloc_free(table->alloc, dead.pbn, dead.len);
	volume->exclusive -= dead.len;
}

/* Map the first blocks of a redirected write, as far as one record or gap goes. */
static __hot int dynmap_redirect_piece(struct dynmap_table *table, struct dynmap_volume *volume,
				       u64 lbn, u64 pbn, u32 *len, struct dynmap_op *op)
{
	struct dynmap_extent pieces[DYNMAP_MAX_PIECES] __uninitialized;
	struct dynmap_path path __uninitialized;
	struct dynmap_extent extent;
	struct dynmap_extent piece = {
		.lbn = lbn,
		.pbn = pbn,
		.birth = table->cache->generation,
		.kind = DYNMAP_DATA,
	};
	u32 count = 0, left = 0;
	int ret;

	ret = dynmap_map_find_again(table, volume, lbn, &path, &extent, op);
	if (ret)
		return ret;
	piece.len = min((u64)*len, dynmap_extent_end(&extent) - lbn);
	*len = piece.len;
	/* Replay: a first attempt did it. */
	if (extent.kind == DYNMAP_DATA && extent.pbn + (lbn - extent.lbn) == pbn)
		return 0;
	if (extent.kind != DYNMAP_HOLE)
		ret = dynmap_alloc_may_free(table->alloc, extent.pbn + (lbn - extent.lbn),
					    piece.len, op);
	if (!ret)
		ret = dynmap_map_prepare(table, volume, op);
	if (!ret && table->journal->replaying)
		ret = dynmap_alloc_data_at(table->alloc, pbn, piece.len, op);
	else if (!ret)
		dynmap_alloc_take_held(table->alloc, pbn, piece.len);
	if (ret)
		return ret;
	if (extent.kind != DYNMAP_HOLE)
		count = dynmap_unmap_pieces(volume, &extent, lbn, lbn + piece.len, pieces);
	while (left < count && pieces[left].lbn < lbn)
		left++;
	memmove(&pieces[left + 1], &pieces[left], (count - left) * sizeof(*pieces));
	pieces[left] = piece;
	dynmap_map_replace(volume, extent.kind == DYNMAP_HOLE ? lbn : extent.lbn,
			   extent.kind != DYNMAP_HOLE, pieces, count + 1, &path);
	if (extent.kind != DYNMAP_HOLE)
		dynmap_give_up(table, volume, &extent, lbn, lbn + piece.len);
	volume->mapped += piece.len;
	volume->exclusive += piece.len;
	dynmap_journal_map(table, DYNMAP_REC_REDIRECT, volume, lbn, piece.len, pbn);
	return 0;
}

__hot int dynmap_table_redirect(struct dynmap_table *table, struct dynmap_volume *volume, u64 *lbn,
				u64 *pbn, u32 *len, struct dynmap_op *op)
{
	u32 done;
	int ret;

	op->urgent = max_t(u8, op->urgent, DYNMAP_URGENT);
	for (; *len; *len -= done, *lbn += done, *pbn += done) {
		done = *len;
		ret = dynmap_redirect_piece(table, volume, *lbn, *pbn, &done, op);
		if (ret)
			return ret;
	}
	return 0;
}

int dynmap_table_unmap(struct dynmap_table *table, struct dynmap_volume *volume, u64 *lbn,
		       u64 end, struct dynmap_op *op)
{
	struct dynmap_extent pieces[DYNMAP_MAX_PIECES] __uninitialized;
	struct dynmap_path path __uninitialized;
	struct dynmap_extent extent;
	u64 from = *lbn, to;
	u32 count;
	int ret;

	ret = dynmap_map_find(volume, from, &path, &extent, op);
	if (ret)
		return ret;
	/* What others share stays: to give it up frees nothing, and takes nodes. */
	if (op->urgent < DYNMAP_URGENT_CHECKPOINT)
		op->urgent = dynmap_share_has(&volume->map.share, extent.birth) ? 0 :
									       DYNMAP_URGENT;
	to = min(end, dynmap_extent_end(&extent));
	if (extent.kind != DYNMAP_HOLE) {
		ret = dynmap_alloc_may_free(table->alloc, extent.pbn + (from - extent.lbn),
					    to - from, op);
		if (!ret)
			ret = dynmap_map_prepare(table, volume, op);
		if (ret)
			return ret;
		count = dynmap_unmap_pieces(volume, &extent, from, to, pieces);
		dynmap_map_replace(volume, extent.lbn, 1, pieces, count, &path);
		dynmap_give_up(table, volume, &extent, from, to);
		dynmap_journal_map(table, DYNMAP_REC_UNMAP, volume, from, 0, to - from);
	}
	*lbn = to;
	return 0;
}

void dynmap_reclaim_begin(const struct dynmap_table *table, struct dynmap_reclaim *reclaim)
{
	memset(reclaim, 0, sizeof(*reclaim));
	reclaim->id = table->reclaim_id;
	reclaim->lbn = table->reclaim_lbn;
	reclaim->first = table->reclaim_id;
	reclaim->reserves = table->reserves;
}

static void dynmap_reclaim_next(struct dynmap_reclaim *reclaim, u64 id)
{
	reclaim->id = id;
	reclaim->lbn = 0;
}

/* Go on in one volume. */
static int dynmap_reclaim_volume(struct dynmap_table *table, struct dynmap_volume *volume,
				 struct dynmap_reclaim *reclaim, struct dynmap_op *op)
{
	struct dynmap_mapping mapping;
	u64 end, from;
	int ret, i;

	for (i = 0; i < DYNMAP_RECLAIM_STEPS && reclaim->lbn < DYNMAP_MAX_LBN; i++) {
		ret = dynmap_table_lookup(volume, reclaim->lbn, &mapping, op);
		if (ret)
			return ret;
		end = mapping.lbn + mapping.len;
		while (mapping.kind == DYNMAP_RESERVED && reclaim->lbn < end) {
			from = reclaim->lbn;
			ret = dynmap_table_unmap(table, volume, &reclaim->lbn, end, op);
			/* What is shared may have no room for it, and others free more. */
			if (ret == -ENOSPC && mapping.shared)
				break;
			if (ret)
				return ret;
			reclaim->freed += reclaim->lbn - from;
		}
		reclaim->lbn = end;
	}
	return 0;
}

int dynmap_table_reclaim(struct dynmap_table *table, struct dynmap_reclaim *reclaim,
			 struct dynmap_op *op)
{
	struct dynmap_disk_volume disk;
	struct dynmap_volume *volume;
	int ret;
	u64 id;

	ret = dynmap_volume_next(table, reclaim->id, &disk, op);
	if (ret == -ENOENT && !reclaim->wrapped) {
		reclaim->wrapped = true;
		dynmap_reclaim_next(reclaim, 0);
		return 0;
	}
	if (!ret && reclaim->wrapped && le64_to_cpu(disk.id) > reclaim->first)
		ret = -ENOENT;
	if (ret == -ENOENT)
		table->reclaimed = reclaim->reserves;
	if (ret)
		return ret;
	id = le64_to_cpu(disk.id);
	if (id != reclaim->id)
		dynmap_reclaim_next(reclaim, id);
	ret = dynmap_volume_load(table, id, &volume, op);
	if (ret)
		return ret;
	if (volume->reserved)
		ret = dynmap_reclaim_volume(table, volume, reclaim, op);
	if (!ret && (!volume->reserved || reclaim->lbn >= DYNMAP_MAX_LBN))
		dynmap_reclaim_next(reclaim, id + 1);
	table->reclaim_id = reclaim->id;
	table->reclaim_lbn = reclaim->lbn;
	return ret;
}

/* Are both volumes alike at a block, and up to where is it like that? */
static int dynmap_compare_at(struct dynmap_volume *a, struct dynmap_volume *b, u64 lbn, bool *alike,
			     u64 *end, struct dynmap_op *op)
{
	struct dynmap_mapping of_a, of_b;
	int ret = dynmap_btree_same(&a->map, &b->map, lbn, end, op);

	*alike = true;
	if (ret || *end > lbn)
		return ret;
	ret = dynmap_table_lookup(a, lbn, &of_a, op);
	if (!ret)
		ret = dynmap_table_lookup(b, lbn, &of_b, op);
	if (ret)
		return ret;
	*end = lbn + min(of_a.len, of_b.len);
	if (of_a.kind == DYNMAP_DATA && of_b.kind == DYNMAP_DATA)
		*alike = of_a.pbn == of_b.pbn;
	else
		*alike = of_a.kind != DYNMAP_DATA && of_b.kind != DYNMAP_DATA;
	return 0;
}

int dynmap_table_compare(struct dynmap_volume *a, struct dynmap_volume *b,
			 struct dynmap_comparison *comparison, struct dynmap_op *op)
{
	bool alike;
	int ret, i;
	u64 end;

	if (comparison->found)
		comparison->to = 0;
	comparison->found = false;
	for (i = 0; i < DYNMAP_COMPARE_STEPS; i++) {
		alike = true;
		end = comparison->lbn;
		if (end < DYNMAP_MAX_LBN) {
			ret = dynmap_compare_at(a, b, comparison->lbn, &alike, &end, op);
			if (ret)
				return ret;
		} else if (!comparison->to) {
			return -ENOENT;
		}
		if (!alike && !comparison->to)
			comparison->from = comparison->lbn;
		if (!alike)
			comparison->to = end;
		comparison->lbn = end;
		comparison->found = alike && comparison->to;
		if (comparison->found)
			return 0;
	}
	return -EINPROGRESS;
}

int dynmap_table_highest(struct dynmap_volume *volume, u64 *end, struct dynmap_op *op)
{
	struct dynmap_extent extent;
	struct dynmap_path path;
	int ret = dynmap_btree_find(&volume->map, DYNMAP_MAX_LBN - 1, &path, op);

	*end = 0;
	if (ret)
		return ret == -ENOENT ? 0 : ret;
	if (path.slot[0] < 0)
		return 0;
	dynmap_extent_read(path.buf[0], path.slot[0], &extent);
	*end = dynmap_extent_end(&extent);
	return 0;
}

/* Can the blocks of a leaf that are not shared be data in use? */
static int dynmap_cut_check(struct dynmap_table *table, struct dynmap_volume *volume,
			    struct dynmap_buf *leaf, struct dynmap_op *op)
{
	struct dynmap_extent extent;
	int i, ret = 0;

	for (i = 0; i < (int)dynmap_node_count(leaf) && !ret; i++) {
		dynmap_extent_read(leaf, i, &extent);
		if (!dynmap_share_has(&volume->map.share, extent.birth))
			ret = dynmap_alloc_may_free(table->alloc, extent.pbn, extent.len, op);
	}
	return ret;
}

int dynmap_table_cut(struct dynmap_table *table, struct dynmap_volume *volume,
		     struct dynmap_op *op)
{
	struct dynmap_extent extent;
	struct dynmap_path path;
	int found, ret, i;

	found = dynmap_btree_last(&volume->map, &path, op);
	if (found && found != -ESTALE)
		return found;
	ret = dynmap_alloc_reserve(table->alloc, dynmap_btree_worst(&volume->map), 4, op);
	if (!ret && !found)
		ret = dynmap_cut_check(table, volume, path.buf[0], op);
	if (ret)
		return ret;
	for (i = 0; !found && i < (int)dynmap_node_count(path.buf[0]); i++) {
		dynmap_extent_read(path.buf[0], i, &extent);
		if (dynmap_share_has(&volume->map.share, extent.birth))
			continue;
		dynmap_alloc_free_late(table->alloc, extent.pbn, extent.len, false);
		volume->exclusive -= extent.len;
	}
	dynmap_btree_cut_last(&volume->map, &path);
	dynmap_volume_changed(volume);
	return 0;
}

/* Replay a record that changes the map of a volume. */
static int dynmap_replay_map(struct dynmap_table *table, const struct dynmap_disk_record *record,
			     struct dynmap_op *op)
{
	u64 lbn = le64_to_cpu(record->map.lbn), pbn = le64_to_cpu(record->map.pbn);
	u32 len = le16_to_cpu(record->len) + 1;
	struct dynmap_volume *volume;
	u64 range;
	int ret;

	ret = dynmap_volume_load(table, le32_to_cpu(record->volume), &volume, op);
	if (ret)
		return ret == -ENODATA ? -EUCLEAN : ret;
	range = record->kind == DYNMAP_REC_UNMAP ? pbn : len;
	if (lbn >= DYNMAP_MAX_LBN || range > DYNMAP_MAX_LBN - lbn)
		return -EUCLEAN;
	if (record->kind == DYNMAP_REC_UNMAP) {
		while (!ret && lbn < le64_to_cpu(record->map.lbn) + range)
			ret = dynmap_table_unmap(table, volume, &lbn,
						 le64_to_cpu(record->map.lbn) + range, op);
		return ret;
	}
	if (!dynmap_pbn_valid(table->cache->geo, pbn, len))
		return -EUCLEAN;
	if (record->kind == DYNMAP_REC_RESERVE)
		return dynmap_table_reserve_at(table, volume, lbn, len, pbn, op);
	if (record->kind == DYNMAP_REC_REDIRECT)
		return dynmap_table_redirect(table, volume, &lbn, &pbn, &len, op);
	return dynmap_table_set_written(table, volume, lbn, pbn, len, op);
}

/* The internal id that a deletion took; false if it cannot be. */
static bool dynmap_replay_reap_id(struct dynmap_table *table, u64 id)
{
	if (id <= DYNMAP_MAX_VOLUME_ID || id > DYNMAP_MAX_REAP_ID)
		return false;
	table->next_reap_id = id;
	return true;
}

int dynmap_table_replay(struct dynmap_table *table, const struct dynmap_disk_record *record,
			struct dynmap_op *op)
{
	u64 id = le32_to_cpu(record->volume), value = le64_to_cpu(record->map.lbn);
	static const u8 no_uuid[DYNMAP_UUID_BYTES];
	int ret;

	op->urgent = DYNMAP_URGENT_CHECKPOINT;
	switch (record->kind) {
	case DYNMAP_REC_RESERVE:
	case DYNMAP_REC_WRITTEN:
	case DYNMAP_REC_UNMAP:
	case DYNMAP_REC_REDIRECT:
		return dynmap_replay_map(table, record, op);
	case DYNMAP_REC_VOLUME_CREATE:
		ret = dynmap_volume_create(table, id, 0, record->data, 0, op);
		break;
	case DYNMAP_REC_VOLUME_SET:
		ret = dynmap_volume_replay_set(table, id, record, op);
		break;
	case DYNMAP_REC_VOLUME_DELETE:
		if (!dynmap_replay_reap_id(table, value))
			return -EUCLEAN;
		ret = dynmap_volume_delete(table, id, op);
		break;
	case DYNMAP_REC_SNAPSHOT:
		if (record->attr && !table->group)
			dynmap_group_begin(table);
		ret = dynmap_volume_snapshot(table, id, value, no_uuid,
					     le64_to_cpu(record->map.pbn), op);
		break;
	case DYNMAP_REC_ROLLBACK:
		if (!dynmap_replay_reap_id(table, le64_to_cpu(record->map.pbn)))
			return -EUCLEAN;
		ret = dynmap_volume_rollback(table, id, value, op);
		break;
	case DYNMAP_REC_POOL_SET:
		return record->attr == DYNMAP_ATTR_NAME ?
		       dynmap_replay_name(table->name, record) : -EUCLEAN;
	case DYNMAP_REC_GROUP_END:
		table->group = 0;
		return 0;
	case DYNMAP_REC_TRANSACTION:
		table->transaction_id = value;
		return 0;
	default:
		return -EUCLEAN;
	}
	return ret == -ENODATA || ret == -EEXIST || ret == -EINVAL ? -EUCLEAN : ret;
}
