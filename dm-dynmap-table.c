// SPDX-License-Identifier: GPL-2.0-only
/*
 * The mapping table, see dm-dynmap-table.h. Callers: the kernel's bio path and
 * messages, the pool (replay, checkpoints), tools and tests.
 *
 * Every change replaces one record of one leaf by a few others and joins them
 * with their neighbours where they meet. Extents never leave their leaf: an
 * insertion is clipped at the leaf's limits.
 */
#include "dm-dynmap-table.h"

#define DYNMAP_FIRST_REAP_ID	((u64)DYNMAP_MAX_VOLUME_ID + 1)
#define DYNMAP_REAP_STEPS	64
#define DYNMAP_RECLAIM_STEPS	64
#define DYNMAP_UNIT_SHARE	16	/* of the free space, at most, in one unit */
#define DYNMAP_MAX_STREAM	2048U	/* blocks allocated for a stream at once */
#define DYNMAP_KILLS_WAITING	64	/* more are seen to before the next change */
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

static void dynmap_extent_read(struct dynmap_buf *leaf, int slot, struct dynmap_extent *extent)
{
	const struct dynmap_disk_map *map = dynmap_leaf_record(leaf, slot);
	u32 high = le32_to_cpu(map->kind_pbn_high);

	extent->lbn = dynmap_leaf_key(leaf, slot);
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
static bool dynmap_extent_join(struct dynmap_extent *extent, const struct dynmap_extent *next)
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
static int dynmap_map_find(struct dynmap_volume *volume, u64 lbn, struct dynmap_path *path,
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

int dynmap_table_lookup(struct dynmap_volume *volume, u64 lbn, struct dynmap_mapping *mapping,
			struct dynmap_op *op)
{
	struct dynmap_extent extent;
	struct dynmap_path path;
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
	if (extent.kind == DYNMAP_HOLE)
		return 0;
	mapping->birth = extent.birth;
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

int dynmap_volume_refresh(struct dynmap_table *table, struct dynmap_volume *volume,
			  struct dynmap_op *op)
{
	int ret;

	if (volume->version == table->family.version)
		return 0;
	ret = dynmap_family_share(&table->family, le64_to_cpu(volume->disk.parent),
				  le32_to_cpu(volume->disk.parent_slot),
				  volume->id <= DYNMAP_MAX_VOLUME_ID, &volume->map.share, op);
	if (!ret)
		volume->version = table->family.version;
	return ret;
}

/* First phase of every change of a map: nodes, buffers and room in the journal. */
static int dynmap_map_prepare(struct dynmap_table *table, struct dynmap_volume *volume,
			      struct dynmap_op *op)
{
	int ret = dynmap_volume_refresh(table, volume, op);

	if (!ret && table->cache->kills.count > DYNMAP_KILLS_WAITING)
		ret = dynmap_family_settle(&table->family, ~0U, op);
	if (!ret)
		ret = dynmap_alloc_reserve(table->alloc, dynmap_btree_worst(&volume->map), 3, op);
	return ret ? ret : dynmap_journal_reserve(table->journal, 1, op);
}

/*
 * Second phase: replace @remove records (0 or 1) at path->slot[0], where @key
 * is or belongs, by @count others; dynmap_map_find() for @key came before.
 */
static void dynmap_map_replace(struct dynmap_volume *volume, u64 key, u32 remove,
			       const struct dynmap_extent *pieces, u32 count)
{
	struct dynmap_disk_map records[DYNMAP_MAX_PIECES + 2];
	struct dynmap_extent all[DYNMAP_MAX_PIECES + 2];
	struct dynmap_path path;
	u32 n = 0, i;
	int slot;
	u64 base;

	dynmap_btree_write_path(&volume->map, key, count, &path);
	slot = remove ? path.slot[0] : path.slot[0] + 1;
	if (slot > 0) {
		dynmap_extent_read(path.buf[0], slot - 1, &all[n++]);
		slot--;
		remove++;
	}
	for (i = 0; i < count; i++)
		if (!n || !dynmap_extent_join(&all[n - 1], &pieces[i]))
			all[n++] = pieces[i];
	if (slot + remove < dynmap_node_count(path.buf[0])) {
		dynmap_extent_read(path.buf[0], slot + remove, &all[n]);
		remove++;
		if (!n || !dynmap_extent_join(&all[n - 1], &all[n]))
			n++;
	}
	base = dynmap_node_base(path.buf[0]);
	for (i = 0; i < n; i++)
		dynmap_extent_write(base, &all[i], &records[i]);
	dynmap_leaf_splice(&path, slot, remove, records, n);
	if (!count || n < remove)
		dynmap_btree_prune(&volume->map, &path);
	volume->dirty = true;
}

static void dynmap_journal_map(struct dynmap_table *table, u8 kind, struct dynmap_volume *volume,
			       u64 lbn, u32 len, u64 pbn)
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
			       u32 len, u64 pbn)
{
	struct dynmap_extent extent = {
		.lbn = lbn,
		.len = len,
		.pbn = pbn,
		.birth = table->cache->generation,
		.kind = DYNMAP_RESERVED,
	};

	dynmap_map_replace(volume, lbn, 0, &extent, 1);
	volume->reserved += len;
	volume->exclusive += len;
	dynmap_journal_map(table, DYNMAP_REC_RESERVE, volume, lbn, len, pbn);
}

/*
 * Reserve one extent of [start, end) that covers @lbn, which lies in it; the
 * range is clipped to the hole around @lbn.
 */
static int dynmap_reserve_piece(struct dynmap_table *table, struct dynmap_volume *volume, u64 lbn,
				u64 start, u64 end, struct dynmap_op *op)
{
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
	if (end - start > DYNMAP_MAX_EXTENT_BLOCKS) {
		start = max(start, lbn & ~(u64)(DYNMAP_MAX_EXTENT_BLOCKS - 1));
		end = min(end, start + DYNMAP_MAX_EXTENT_BLOCKS);
	}
	if (volume->map.levels && path.slot[0] >= 0) {
		dynmap_extent_read(path.buf[0], path.slot[0], &left);
		if (dynmap_extent_end(&left) == start)
			goal = left.pbn + left.len;
	}
	ret = dynmap_alloc_data(table->alloc, goal, end - start, &pbn, &len);
	if (ret)
		return ret;
	at = max(start, min(lbn, end - len));
	dynmap_map_reserve(table, volume, at, len, pbn);
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

int dynmap_table_reserve(struct dynmap_table *table, struct dynmap_volume *volume, u64 lbn,
			 u32 len, struct dynmap_op *op)
{
	u32 unit = dynmap_unit(table, volume);
	u64 start, end, at;
	u32 stream;
	int ret;

	ret = dynmap_stream(table, volume, lbn, unit, &stream, op);
	if (ret)
		return ret;
	start = lbn & ~(u64)(unit - 1);
	end = lbn + max(len, stream);
	end = min(round_up(end, (u64)unit), max(volume->limit, lbn + len));
	ret = dynmap_reserve_piece(table, volume, lbn, start, end, op);
	if (ret || unit <= DYNMAP_MAX_EXTENT_BLOCKS)
		return ret;
	/* The rest of a unit longer than an extent: as far as it goes without help. */
	for (at = start; at < end && !ret; at += DYNMAP_MAX_EXTENT_BLOCKS)
		ret = dynmap_reserve_piece(table, volume, at, start, end, op);
	return 0;
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
			ret = dynmap_alloc_data_at(table->alloc, pbn, n);
		if (ret)
			return ret;
		dynmap_map_reserve(table, volume, lbn, n, pbn);
	}
	return 0;
}

bool dynmap_table_may_write(const struct dynmap_table *table, const struct dynmap_volume *volume,
			    u32 pending)
{
	return dynmap_alloc_room(table->alloc, dynmap_btree_worst(&volume->map) + 2 * pending, 0);
}

bool dynmap_table_is_full(const struct dynmap_table *table)
{
	return !dynmap_alloc_room(table->alloc, dynmap_btree_worst(&table->volumes), 0);
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
	struct dynmap_extent extent, pieces[DYNMAP_MAX_PIECES];
	u64 end = lbn + len, to, fresh;
	struct dynmap_path path;
	u32 count;
	int ret;

	op->urgent = max_t(u8, op->urgent, DYNMAP_URGENT);
	for (; lbn < end; pbn += to - lbn, lbn = to) {
		ret = dynmap_map_find(volume, lbn, &path, &extent, op);
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
		dynmap_map_replace(volume, extent.lbn, 1, pieces, count);
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
static u32 dynmap_unmap_pieces(struct dynmap_volume *volume, const struct dynmap_extent *extent,
			       u64 from, u64 to, struct dynmap_extent *pieces)
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
static void dynmap_give_up(struct dynmap_table *table, struct dynmap_volume *volume,
			   const struct dynmap_extent *extent, u64 from, u64 to)
{
	const struct dynmap_share *share = &volume->map.share;
	struct dynmap_kill kill = {
		.pbn = extent->pbn + (from - extent->lbn),
		.len = to - from,
		.birth = extent->birth,
		.node = share->node,
		.side = share->side,
	};

	if (dynmap_share_has(share, extent->birth)) {
		dynmap_kills_add(table->cache, &kill);
		return;
	}
	dynmap_alloc_free(table->alloc, kill.pbn, kill.len);
	volume->exclusive -= kill.len;
}

/* Map the first blocks of a redirected write, as far as one record or gap goes. */
static int dynmap_redirect_piece(struct dynmap_table *table, struct dynmap_volume *volume,
				 u64 lbn, u64 pbn, u32 *len, struct dynmap_op *op)
{
	struct dynmap_extent extent, pieces[DYNMAP_MAX_PIECES];
	struct dynmap_extent piece = {
		.lbn = lbn,
		.pbn = pbn,
		.birth = table->cache->generation,
		.kind = DYNMAP_DATA,
	};
	u32 count = 0, left = 0;
	struct dynmap_path path;
	int ret;

	ret = dynmap_map_find(volume, lbn, &path, &extent, op);
	if (ret)
		return ret;
	piece.len = min((u64)*len, dynmap_extent_end(&extent) - lbn);
	*len = piece.len;
	/* Replay: a first attempt did it. */
	if (extent.kind == DYNMAP_DATA && extent.pbn + (lbn - extent.lbn) == pbn)
		return 0;
	if (extent.kind != DYNMAP_HOLE)
		ret = dynmap_alloc_may_free(table->alloc, extent.pbn + (lbn - extent.lbn),
					    piece.len);
	if (!ret)
		ret = dynmap_map_prepare(table, volume, op);
	if (!ret && table->journal->replaying)
		ret = dynmap_alloc_data_at(table->alloc, pbn, piece.len);
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
			   extent.kind != DYNMAP_HOLE, pieces, count + 1);
	if (extent.kind != DYNMAP_HOLE)
		dynmap_give_up(table, volume, &extent, lbn, lbn + piece.len);
	volume->mapped += piece.len;
	volume->exclusive += piece.len;
	dynmap_journal_map(table, DYNMAP_REC_REDIRECT, volume, lbn, piece.len, pbn);
	return 0;
}

int dynmap_table_redirect(struct dynmap_table *table, struct dynmap_volume *volume, u64 *lbn,
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

int dynmap_table_hold(struct dynmap_table *table, struct dynmap_volume *volume, u32 want,
		      u64 *pbn, u32 *len, struct dynmap_op *op)
{
	int ret = dynmap_volume_refresh(table, volume, op);

	if (!ret)
		ret = dynmap_alloc_hold(table->alloc, volume->goal, want, pbn, len);
	if (!ret)
		volume->goal = *pbn + *len;
	return ret;
}

int dynmap_table_unmap(struct dynmap_table *table, struct dynmap_volume *volume, u64 *lbn,
		       u64 end, struct dynmap_op *op)
{
	struct dynmap_extent extent, pieces[DYNMAP_MAX_PIECES];
	struct dynmap_path path;
	u64 from = *lbn, to;
	u32 count;
	int ret;

	op->urgent = max_t(u8, op->urgent, DYNMAP_URGENT);
	ret = dynmap_map_find(volume, from, &path, &extent, op);
	if (ret)
		return ret;
	to = min(end, dynmap_extent_end(&extent));
	if (extent.kind != DYNMAP_HOLE) {
		ret = dynmap_alloc_may_free(table->alloc, extent.pbn + (from - extent.lbn),
					    to - from);
		if (!ret)
			ret = dynmap_map_prepare(table, volume, op);
		if (ret)
			return ret;
		count = dynmap_unmap_pieces(volume, &extent, from, to, pieces);
		dynmap_map_replace(volume, extent.lbn, 1, pieces, count);
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
	if (ret)
		return ret;
	id = le64_to_cpu(disk.id);
	if (reclaim->wrapped && id > reclaim->first)
		return -ENOENT;
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

void dynmap_table_init(struct dynmap_table *table, struct dynmap_cache *cache,
		       struct dynmap_alloc *alloc, struct dynmap_journal *journal)
{
	memset(table, 0, sizeof(*table));
	table->cache = cache;
	table->alloc = alloc;
	table->journal = journal;
	table->next_reap_id = DYNMAP_FIRST_REAP_ID;
	INIT_LIST_HEAD(&table->loaded);
	dynmap_btree_init(&table->volumes, cache, DYNMAP_TREE_VOLUME, 0, NULL);
}

void dynmap_table_exit(struct dynmap_table *table)
{
	struct dynmap_volume *volume, *next;

	if (!table->cache)
		return;
	dynmap_family_exit(&table->family);
	list_for_each_entry_safe(volume, next, &table->loaded, list)
		dynmap_free(volume);
	INIT_LIST_HEAD(&table->loaded);
}

static struct hlist_head *dynmap_volume_bucket(struct dynmap_table *table, u64 id)
{
	return &table->hash[hash_64(id, DYNMAP_VOLUME_HASH_BITS)];
}

/* A volume that is in memory, or NULL. */
static struct dynmap_volume *dynmap_volume_find(struct dynmap_table *table, u64 id)
{
	struct dynmap_volume *volume;

	hlist_for_each_entry(volume, dynmap_volume_bucket(table, id), hash)
		if (volume->id == id)
			return volume;
	return NULL;
}

static void dynmap_volume_rename(struct dynmap_table *table, struct dynmap_volume *volume, u64 id)
{
	hlist_del_init(&volume->hash);
	volume->id = id;
	hlist_add_head(&volume->hash, dynmap_volume_bucket(table, id));
}

/* Bring a volume into memory; NULL if that is short. */
static struct dynmap_volume *dynmap_volume_enter(struct dynmap_table *table, u64 id,
						 const struct dynmap_disk_volume *disk)
{
	struct dynmap_volume *volume = dynmap_zalloc(sizeof(*volume));

	if (!volume)
		return NULL;
	volume->id = id;
	volume->disk = *disk;
	volume->limit = DYNMAP_MAX_LBN;
	volume->goal = DYNMAP_PBN_NONE;
	volume->mapped = le64_to_cpu(disk->mapped_blocks);
	volume->reserved = le64_to_cpu(disk->reserved_blocks);
	volume->exclusive = le64_to_cpu(disk->exclusive_blocks);
	volume->version = table->family.version;
	dynmap_btree_init(&volume->map, table->cache, DYNMAP_TREE_MAP, id, &disk->root);
	list_add_tail(&volume->list, &table->loaded);
	hlist_add_head(&volume->hash, dynmap_volume_bucket(table, id));
	return volume;
}

static void dynmap_volume_forget(struct dynmap_volume *volume)
{
	list_del(&volume->list);
	hlist_del_init(&volume->hash);
	dynmap_free(volume);
}

void dynmap_table_unload(struct dynmap_table *table)
{
	struct dynmap_volume *volume, *next;

	list_for_each_entry_safe(volume, next, &table->loaded, list)
		if (!volume->dirty && !volume->users)
			dynmap_volume_forget(volume);
	dynmap_family_unload(&table->family);
}

int dynmap_volume_load(struct dynmap_table *table, u64 id, struct dynmap_volume **result,
		       struct dynmap_op *op)
{
	struct dynmap_disk_volume disk;
	struct dynmap_volume *volume;
	struct dynmap_share share;
	u32 unit, flags, deleting;
	int ret;

	*result = dynmap_volume_find(table, id);
	if (*result)
		return 0;
	ret = dynmap_btree_get(&table->volumes, id, &disk, op);
	if (ret)
		return ret == -ENOENT ? -ENODATA : ret;
	unit = le32_to_cpu(disk.alloc_blocks);
	flags = le32_to_cpu(disk.flags);
	deleting = id > DYNMAP_MAX_VOLUME_ID ? DYNMAP_VOLUME_DELETING : 0;
	if (!dynmap_btree_root_valid(table->cache->geo, &disk.root) ||
	    flags & ~DYNMAP_VOLUME_FLAGS || (flags & DYNMAP_VOLUME_DELETING) != deleting ||
	    le64_to_cpu(disk.size_blocks) > DYNMAP_MAX_LBN ||
	    le32_to_cpu(disk.parent_slot) > 1 ||
	    unit & (unit - 1) || unit > DYNMAP_MAX_ALLOC_BLOCKS) {
		dynmap_err("volume %llu: bad record", (unsigned long long)id);
		return -EUCLEAN;
	}
	ret = dynmap_family_share(&table->family, le64_to_cpu(disk.parent),
				  le32_to_cpu(disk.parent_slot), id <= DYNMAP_MAX_VOLUME_ID, &share,
				  op);
	if (ret)
		return ret;
	volume = dynmap_volume_enter(table, id, &disk);
	if (!volume)
		return -ENOMEM;
	volume->map.share = share;
	*result = volume;
	return 0;
}

static void dynmap_volume_record(struct dynmap_volume *volume)
{
	struct dynmap_disk_volume *disk = &volume->disk;

	disk->id = cpu_to_le64(volume->id);
	dynmap_btree_root(&volume->map, &disk->root);
	disk->mapped_blocks = cpu_to_le64(volume->mapped);
	disk->exclusive_blocks = cpu_to_le64(volume->exclusive);
	disk->reserved_blocks = cpu_to_le64(volume->reserved);
}

static void dynmap_journal_volume(struct dynmap_table *table, u8 kind, u64 id, u8 attr, u64 value)
{
	struct dynmap_disk_record record = {
		.kind = kind,
		.attr = attr,
		.volume = cpu_to_le32(id),
		.map.lbn = cpu_to_le64(value),
	};

	dynmap_journal_append(table->journal, &record);
}

int dynmap_volume_create(struct dynmap_table *table, u64 id, u64 size_blocks, const u8 *uuid,
			 u64 created, struct dynmap_op *op)
{
	struct dynmap_disk_record record = {
		.kind = DYNMAP_REC_VOLUME_CREATE,
		.volume = cpu_to_le32(id),
	};
	struct dynmap_disk_volume disk;
	int ret;

	if (id > DYNMAP_MAX_VOLUME_ID || size_blocks > DYNMAP_MAX_LBN)
		return -EINVAL;
	ret = dynmap_btree_get(&table->volumes, id, &disk, op);
	if (!ret)
		return -EEXIST;
	if (ret != -ENOENT)
		return ret;
	ret = dynmap_alloc_reserve(table->alloc, dynmap_btree_worst(&table->volumes), 3, op);
	if (!ret)
		ret = dynmap_journal_reserve(table->journal, 3, op);
	if (ret)
		return ret;
	memset(&disk, 0, sizeof(disk));
	disk.id = cpu_to_le64(id);
	disk.root.pbn_a = cpu_to_le64(DYNMAP_PBN_NONE);
	disk.root.pbn_b = cpu_to_le64(DYNMAP_PBN_NONE);
	disk.generation = cpu_to_le32(table->cache->generation);
	disk.size_blocks = cpu_to_le64(size_blocks);
	disk.created = cpu_to_le64(created);
	memcpy(disk.uuid, uuid, sizeof(disk.uuid));
	ret = dynmap_btree_put(&table->volumes, id, &disk, op);
	if (ret)
		return ret;
	memcpy(record.data, uuid, sizeof(record.data));
	dynmap_journal_append(table->journal, &record);
	dynmap_journal_volume(table, DYNMAP_REC_VOLUME_SET, id, DYNMAP_ATTR_SIZE, size_blocks);
	dynmap_journal_volume(table, DYNMAP_REC_VOLUME_SET, id, DYNMAP_ATTR_CREATED, created);
	return 0;
}

int dynmap_volume_snapshot(struct dynmap_table *table, u64 id, u64 origin_id, const u8 *uuid,
			   u64 created, struct dynmap_op *op)
{
	struct dynmap_disk_record record = {
		.kind = DYNMAP_REC_SNAPSHOT,
		.volume = cpu_to_le32(id),
		.map.lbn = cpu_to_le64(origin_id),
		.map.pbn = cpu_to_le64(created),
	};
	struct dynmap_volume *origin, *copy;
	struct dynmap_disk_volume disk;
	int ret;

	if (id > DYNMAP_MAX_VOLUME_ID || origin_id > DYNMAP_MAX_VOLUME_ID)
		return -EINVAL;
	ret = dynmap_btree_get(&table->volumes, id, &disk, op);
	if (!ret)
		return -EEXIST;
	if (ret == -ENOENT)
		ret = dynmap_volume_load(table, origin_id, &origin, op);
	if (!ret)
		ret = dynmap_alloc_reserve(table->alloc, dynmap_btree_worst(&table->volumes), 3,
					   op);
	if (!ret)
		ret = dynmap_journal_reserve(table->journal, 2, op);
	if (ret)
		return ret;
	dynmap_volume_record(origin);
	copy = dynmap_volume_enter(table, id, &origin->disk);
	if (!copy)
		return -ENOMEM;
	ret = dynmap_family_split(&table->family, &origin->disk, id, op);
	if (ret) {
		dynmap_volume_forget(copy);
		return ret;
	}
	copy->disk.id = cpu_to_le64(id);
	copy->disk.parent = origin->disk.parent;
	copy->disk.parent_slot = cpu_to_le32(1);
	copy->disk.generation = cpu_to_le32(table->cache->generation);
	copy->disk.created = cpu_to_le64(created);
	copy->disk.flags = 0;
	memset(copy->disk.name, 0, sizeof(copy->disk.name));
	memcpy(copy->disk.uuid, uuid, sizeof(copy->disk.uuid));
	origin->exclusive = 0;
	copy->exclusive = 0;
	origin->map.share = (struct dynmap_share){
		.generation = table->cache->generation - 1,
		.node = le64_to_cpu(origin->disk.parent),
	};
	copy->map.share = origin->map.share;
	copy->map.share.side = 1;
	origin->version = table->family.version;
	/* Their root, DIRTY perhaps, gets its crc in both records. */
	origin->dirty = true;
	copy->dirty = true;
	dynmap_volume_record(copy);
	/* The way there is in the cache: it cannot fail. */
	if (WARN_ON_ONCE(dynmap_btree_put(&table->volumes, id, &copy->disk, op)))
		return -EUCLEAN;
	dynmap_journal_append(table->journal, &record);
	record = (struct dynmap_disk_record){
		.kind = DYNMAP_REC_VOLUME_SET,
		.attr = DYNMAP_ATTR_UUID,
		.volume = cpu_to_le32(id),
	};
	memcpy(record.data, uuid, sizeof(record.data));
	dynmap_journal_append(table->journal, &record);
	return 0;
}

/* Is this a value for that attribute? */
static bool dynmap_attr_valid(u8 attr, u64 value)
{
	switch (attr) {
	case DYNMAP_ATTR_SIZE:
		return value <= DYNMAP_MAX_LBN;
	case DYNMAP_ATTR_CREATED:
		return true;
	case DYNMAP_ATTR_FILL:
		return value <= 0xff;
	case DYNMAP_ATTR_READ_ONLY:
	case DYNMAP_ATTR_PROTECTED:
		return value <= 1;
	case DYNMAP_ATTR_ALLOC:
		return !(value & (value - 1)) && value <= DYNMAP_MAX_ALLOC_BLOCKS;
	default:
		return false;
	}
}

static void dynmap_volume_flag(struct dynmap_volume *volume, u32 flag, bool set)
{
	u32 flags = le32_to_cpu(volume->disk.flags);

	volume->disk.flags = cpu_to_le32(set ? flags | flag : flags & ~flag);
}

/* Set an attribute; the value is valid. */
static void dynmap_volume_set(struct dynmap_volume *volume, u8 attr, u64 value)
{
	switch (attr) {
	case DYNMAP_ATTR_SIZE:
		volume->disk.size_blocks = cpu_to_le64(value);
		break;
	case DYNMAP_ATTR_CREATED:
		volume->disk.created = cpu_to_le64(value);
		break;
	case DYNMAP_ATTR_FILL:
		volume->disk.fill = value;
		break;
	case DYNMAP_ATTR_ALLOC:
		volume->disk.alloc_blocks = cpu_to_le32(value);
		break;
	case DYNMAP_ATTR_READ_ONLY:
		dynmap_volume_flag(volume, DYNMAP_VOLUME_READ_ONLY, value);
		break;
	case DYNMAP_ATTR_PROTECTED:
		dynmap_volume_flag(volume, DYNMAP_VOLUME_PROTECTED, value);
		break;
	}
	volume->dirty = true;
}

int dynmap_volume_change(struct dynmap_table *table, u64 id, u8 attr, u64 value,
			 struct dynmap_op *op)
{
	struct dynmap_volume *volume;
	int ret;

	if (!dynmap_attr_valid(attr, value) || id > DYNMAP_MAX_VOLUME_ID)
		return -EINVAL;
	ret = dynmap_volume_load(table, id, &volume, op);
	if (ret)
		return ret;
	if (attr == DYNMAP_ATTR_FILL && (volume->users || volume->mapped))
		return volume->users ? -ETXTBSY : -ENOTEMPTY;
	ret = dynmap_alloc_reserve(table->alloc, 0, 3, op);
	if (!ret)
		ret = dynmap_journal_reserve(table->journal, 1, op);
	if (ret)
		return ret;
	dynmap_volume_set(volume, attr, value);
	dynmap_journal_volume(table, DYNMAP_REC_VOLUME_SET, id, attr, value);
	return 0;
}

int dynmap_volume_delete(struct dynmap_table *table, u64 id, struct dynmap_op *op)
{
	struct dynmap_snap *parent = NULL, *dying = NULL;
	u64 reap_id = table->next_reap_id;
	struct dynmap_volume *volume;
	struct dynmap_path path;
	u32 slot, side;
	int ret;

	if (id > DYNMAP_MAX_VOLUME_ID)
		return -EINVAL;
	op->urgent = max_t(u8, op->urgent, DYNMAP_URGENT);
	ret = dynmap_volume_load(table, id, &volume, op);
	if (ret)
		return ret;
	if (volume->users)
		return -ETXTBSY;
	if (volume->disk.flags & cpu_to_le32(DYNMAP_VOLUME_PROTECTED))
		return -EPERM;
	slot = le32_to_cpu(volume->disk.parent_slot);
	side = slot;
	if (volume->disk.parent)
		ret = dynmap_snap_get(&table->family, le64_to_cpu(volume->disk.parent), &parent,
				      op);
	if (!ret && parent)
		ret = dynmap_family_next(&table->family, parent->id, &side, &dying, op);
	if (!ret && dying && dynmap_snap_is_dying(dying)) {
		dynmap_err("snapshot node %llu: a side that was deleted is in use",
			   (unsigned long long)dying->id);
		ret = -EUCLEAN;
	}
	if (ret)
		return ret;
	if (reap_id > DYNMAP_MAX_REAP_ID)
		return -EOVERFLOW;
	ret = dynmap_btree_find(&table->volumes, id, &path, op);
	if (!ret)
		ret = dynmap_btree_find(&table->volumes, reap_id, &path, op);
	if (!ret && path.slot[0] >= 0 && dynmap_leaf_key(path.buf[0], path.slot[0]) == reap_id) {
		dynmap_err("the next id of a deleted volume, %llu, is in use",
			   (unsigned long long)reap_id);
		ret = -EUCLEAN;
	}
	if (!ret)
		ret = dynmap_alloc_reserve(table->alloc,
					   2 * dynmap_btree_worst(&table->volumes) + 3, 3, op);
	if (!ret)
		ret = dynmap_journal_reserve(table->journal, 1, op);
	if (ret)
		return ret;
	/* Both ways are in the cache: neither change can fail. */
	ret = dynmap_btree_remove(&table->volumes, id, op);
	dynmap_volume_rename(table, volume, reap_id);
	volume->disk.flags |= cpu_to_le32(DYNMAP_VOLUME_DELETING);
	volume->version = table->family.version - 1;
	volume->dirty = true;
	dynmap_volume_record(volume);
	if (!ret)
		ret = dynmap_btree_put(&table->volumes, reap_id, &volume->disk, op);
	if (WARN_ON_ONCE(ret))
		return -EUCLEAN;
	if (parent)
		dynmap_snap_set_child(parent, slot, reap_id);
	if (dying)
		dynmap_snap_die(&table->family, dying, side);
	table->next_reap_id++;
	dynmap_journal_volume(table, DYNMAP_REC_VOLUME_DELETE, id, 0, reap_id);
	return 0;
}

/* Can the blocks of a leaf that are not shared be data in use? */
static int dynmap_reap_check(struct dynmap_table *table, struct dynmap_volume *volume,
			     struct dynmap_buf *leaf)
{
	struct dynmap_extent extent;
	int i, ret = 0;

	for (i = 0; i < (int)dynmap_node_count(leaf) && !ret; i++) {
		dynmap_extent_read(leaf, i, &extent);
		if (!dynmap_share_has(&volume->map.share, extent.birth))
			ret = dynmap_alloc_may_free(table->alloc, extent.pbn, extent.len);
	}
	return ret;
}

/*
 * Take the last leaf that is not shared off the map of a deleted volume; or what is
 * shared: the survivor keeps it. -ENOENT: the map is empty.
 */
static int dynmap_reap_leaf(struct dynmap_table *table, struct dynmap_volume *volume,
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
		ret = dynmap_reap_check(table, volume, path.buf[0]);
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
	volume->dirty = true;
	return 0;
}

/* The volume that takes the place of an emptied one's parent; NULL if it is none. */
static int dynmap_reap_survivor(struct dynmap_table *table, const struct dynmap_volume *volume,
				struct dynmap_volume **survivor, struct dynmap_op *op)
{
	u32 side = le32_to_cpu(volume->disk.parent_slot);
	struct dynmap_snap *snap;
	int ret;
	u64 id;

	*survivor = NULL;
	ret = dynmap_snap_get(&table->family, le64_to_cpu(volume->disk.parent), &snap, op);
	if (ret)
		return ret;
	id = le64_to_cpu(snap->disk.child[!side]);
	if (!dynmap_snap_is_dying(snap) || dynmap_snap_dead_side(snap) != side ||
	    le64_to_cpu(snap->disk.child[side]) != volume->id) {
		dynmap_err("snapshot node %llu: not the one of deleted volume %llu",
			   (unsigned long long)snap->id, (unsigned long long)volume->id);
		return -EUCLEAN;
	}
	return id & DYNMAP_CHILD_IS_NODE ? 0 : dynmap_volume_load(table, id, survivor, op);
}

/* An emptied volume goes, and its parent. */
static int dynmap_volume_reaped(struct dynmap_table *table, struct dynmap_volume *volume,
				struct dynmap_op *op)
{
	struct dynmap_volume *survivor = NULL;
	struct dynmap_disk_snapshot left;
	struct dynmap_path path;
	int ret;

	/* No kill may wait at the node that goes. */
	ret = dynmap_family_settle(&table->family, ~0U, op);
	if (!ret)
		ret = dynmap_btree_find(&table->volumes, volume->id, &path, op);
	if (!ret && volume->disk.parent)
		ret = dynmap_reap_survivor(table, volume, &survivor, op);
	if (!ret)
		ret = dynmap_alloc_reserve(table->alloc,
					   dynmap_btree_worst(&table->volumes) +
					   dynmap_btree_worst(&table->family.snaps), 4, op);
	if (!ret && volume->disk.parent)
		ret = dynmap_family_splice(&table->family, le64_to_cpu(volume->disk.parent), &left,
					   op);
	if (ret)
		return ret;
	if (survivor) {
		survivor->disk.parent = left.parent;
		survivor->disk.parent_slot = left.parent_slot;
		survivor->exclusive += le64_to_cpu(left.own_blocks);
		survivor->dirty = true;
	}
	/* The way there is in the cache: it cannot fail. */
	if (WARN_ON_ONCE(dynmap_btree_remove(&table->volumes, volume->id, op)))
		return -EUCLEAN;
	dynmap_volume_forget(volume);
	return 0;
}

int dynmap_volume_reap(struct dynmap_table *table, struct dynmap_op *op)
{
	struct dynmap_disk_volume disk;
	struct dynmap_volume *volume;
	int ret, i;
	u64 id;

	op->urgent = max_t(u8, op->urgent, DYNMAP_URGENT);
	ret = dynmap_btree_next(&table->volumes, DYNMAP_FIRST_REAP_ID, &disk, &id, op);
	if (!ret)
		ret = dynmap_volume_load(table, id, &volume, op);
	if (!ret)
		ret = dynmap_volume_refresh(table, volume, op);
	if (!ret && table->cache->kills.count > DYNMAP_KILLS_WAITING)
		ret = dynmap_family_settle(&table->family, ~0U, op);
	if (ret)
		return ret;
	for (i = 0; !ret && i < DYNMAP_REAP_STEPS; i++)
		ret = dynmap_reap_leaf(table, volume, op);
	if (ret != -ENOENT)
		return ret;
	if (volume->disk.parent) {
		ret = dynmap_family_drain(&table->family, le64_to_cpu(volume->disk.parent), op);
		if (ret != -ENOENT)
			return ret;
	}
	return dynmap_volume_reaped(table, volume, op);
}

int dynmap_volume_next(struct dynmap_table *table, u64 id, struct dynmap_disk_volume *disk,
		       struct dynmap_op *op)
{
	struct dynmap_volume *volume;
	int ret = dynmap_btree_next(&table->volumes, id, disk, &id, op);

	if (ret)
		return ret;
	if (id > DYNMAP_MAX_VOLUME_ID)
		return -ENOENT;
	volume = dynmap_volume_find(table, id);
	if (!volume)
		return 0;
	dynmap_volume_record(volume);
	*disk = volume->disk;
	return 0;
}

int dynmap_table_set_transaction(struct dynmap_table *table, u64 id, struct dynmap_op *op)
{
	int ret = dynmap_alloc_reserve(table->alloc, 0, 3, op);

	if (!ret)
		ret = dynmap_journal_reserve(table->journal, 1, op);
	if (ret)
		return ret;
	table->transaction_id = id;
	dynmap_journal_volume(table, DYNMAP_REC_TRANSACTION, 0, 0, id);
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

static int dynmap_replay_set(struct dynmap_table *table, u64 id,
			     const struct dynmap_disk_record *record, struct dynmap_op *op)
{
	u64 value = le64_to_cpu(record->map.lbn);
	struct dynmap_volume *volume;
	int ret;

	if (record->attr != DYNMAP_ATTR_UUID && !dynmap_attr_valid(record->attr, value))
		return -EUCLEAN;
	ret = dynmap_volume_load(table, id, &volume, op);
	if (ret)
		return ret;
	if (record->attr == DYNMAP_ATTR_UUID)
		memcpy(volume->disk.uuid, record->data, sizeof(volume->disk.uuid));
	dynmap_volume_set(volume, record->attr, value);
	return 0;
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
		ret = dynmap_replay_set(table, id, record, op);
		break;
	case DYNMAP_REC_VOLUME_DELETE:
		if (value < table->next_reap_id || value > DYNMAP_MAX_REAP_ID)
			return -EUCLEAN;
		table->next_reap_id = value;
		ret = dynmap_volume_delete(table, id, op);
		break;
	case DYNMAP_REC_SNAPSHOT:
		ret = dynmap_volume_snapshot(table, id, value, no_uuid,
					     le64_to_cpu(record->map.pbn), op);
		break;
	case DYNMAP_REC_TRANSACTION:
		table->transaction_id = value;
		return 0;
	default:
		return -EUCLEAN;
	}
	return ret == -ENODATA || ret == -EEXIST || ret == -EINVAL ? -EUCLEAN : ret;
}

int dynmap_table_checkpoint(struct dynmap_table *table, struct dynmap_op *op)
{
	struct dynmap_volume *volume;
	int ret;

	list_for_each_entry(volume, &table->loaded, list) {
		if (!volume->dirty)
			continue;
		ret = dynmap_alloc_reserve(table->alloc, dynmap_btree_worst(&table->volumes), 2,
					   op);
		if (ret)
			return ret;
		dynmap_volume_record(volume);
		ret = dynmap_btree_put(&table->volumes, volume->id, &volume->disk, op);
		if (ret)
			return ret;
	}
	return 0;
}

void dynmap_table_seal(struct dynmap_table *table)
{
	struct dynmap_disk_volume *disk;
	struct dynmap_volume *volume;
	struct dynmap_path path;
	struct dynmap_op op = {};

	list_for_each_entry(volume, &table->loaded, list) {
		if (!volume->dirty)
			continue;
		dynmap_btree_seal(&volume->map);
		volume->dirty = false;
		/* dynmap_table_checkpoint() put the record just before: it is dirty. */
		if (WARN_ON_ONCE(dynmap_btree_find(&table->volumes, volume->id, &path, &op)))
			continue;
		disk = dynmap_leaf_record(path.buf[0], path.slot[0]);
		dynmap_btree_root(&volume->map, &disk->root);
	}
	dynmap_btree_seal(&table->volumes);
}
