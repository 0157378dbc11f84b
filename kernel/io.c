// SPDX-License-Identifier: GPL-2.0-only
/*
 * The bio path. Owns: what happens to a bio from map to completion.
 *
 * A bio is trimmed to a piece of one kind, which device-mapper calls again for
 * the rest. Pieces that need I/O or padding before they can be mapped are
 * trimmed to one block and handled by io_wq or read_wq, so that nothing is ever split
 * there.
 *
 * First writes: the blocks are RESERVED, which read as the default page, until their
 * data is complete. A block that is first-written in part is written whole, padded
 * from the external origin, if there is one and as far as it goes, or the default
 * page. Shared blocks are never written: a write to them is redirected to blocks that
 * are held for it; a part of a block is completed with the old content, which is
 * read. Both are fresh writes, and are settled later: kernel/fresh.c.
 */
#include "kernel/dynmap.h"

static u64 dynmap_first_block(struct bio *bio)
{
	return bio->bi_iter.bi_sector / DYNMAP_BLOCK_SECTORS;
}

static bool dynmap_is_whole(struct bio *bio)
{
	return !((bio->bi_iter.bi_sector | bio_sectors(bio)) & (DYNMAP_BLOCK_SECTORS - 1));
}

/* Is it a write that changes the map? */
static bool dynmap_is_fresh(const struct dynmap_io *io, const struct dynmap_mapping *mapping)
{
	return io->write && (mapping->kind != DYNMAP_DATA || mapping->shared);
}

/*
 * The bio completes when a commit has. The work is queued before a commit under way can
 * find the bio: once that has completed it, the pool may go.
 */
static void dynmap_io_commit(struct dynmap_kpool *pool, struct bio *bio)
{
	unsigned long flags;

	spin_lock_irqsave(&pool->list_lock, flags);
	bio_list_add(&pool->flushes, bio);
	queue_work(pool->commit_wq, &pool->commit_work);
	spin_unlock_irqrestore(&pool->list_lock, flags);
}

/* Of what was sent to a device, and again when the commit it waited for is over. */
__hot int dynmap_io_end(struct dm_target *ti, struct bio *bio, blk_status_t *error)
{
	struct dynmap_io *io = dynmap_io(bio);
	struct dynmap_kpool *pool = io->kvolume->pool;

	if (io->phase < 0 && !io->fresh)
		return DM_ENDIO_DONE;
	if (io->write)
		dynmap_disks_set_written(&pool->disks, io->dev);
	if (io->fresh && dynmap_fresh_done(pool, io->fresh, blk_status_to_errno(*error)) &&
	    !*error)
		*error = BLK_STS_IOERR;
	else if (!io->fresh)
		dynmap_phase_leave(pool, io->phase);
	io->fresh = NULL;
	io->phase = -1;
	if (!io->commit || *error)
		return DM_ENDIO_DONE;
	dynmap_io_commit(pool, bio);
	return DM_ENDIO_INCOMPLETE;
}

/* Trim a bio to @sectors; only from map, where device-mapper allows it. */
static void dynmap_trim(struct bio *bio, u64 sectors)
{
	if (sectors < bio_sectors(bio))
		dm_accept_partial_bio(bio, sectors);
}

static void dynmap_remap(struct dynmap_kpool *pool, struct bio *bio, struct dynmap_io *io, u64 pbn)
{
	u64 block = dynmap_pbn_locate(&pool->core.geo, pbn, &io->dev);

	bio_set_dev(bio, pool->disks.bdev[io->dev]);
	bio->bi_iter.bi_sector = block * DYNMAP_BLOCK_SECTORS +
				 (bio->bi_iter.bi_sector & (DYNMAP_BLOCK_SECTORS - 1));
}

/* FUA: must the mapping be committed first, or does the device's own do? Lock held. */
static void dynmap_prepare_fua(struct dynmap_kpool *pool, struct bio *bio, struct dynmap_io *io)
{
	if (!(bio->bi_opf & REQ_FUA))
		return;
	if (!io->fresh && !dynmap_journal_pending(&pool->core.journal))
		return;
	bio->bi_opf &= ~REQ_FUA;
	io->commit = true;
}

/*
 * A write of whole blocks to a RESERVED extent, or, with the lock held for writing, of
 * shared ones to others that are held for it.
 */
static __hot int dynmap_fresh_write(struct dynmap_kpool *pool, struct bio *bio,
				    struct dynmap_io *io, struct dynmap_mapping *mapping,
				    bool may_trim, struct dynmap_op *op)
{
	u64 blocks = min_t(u64, bio_sectors(bio) / DYNMAP_BLOCK_SECTORS, mapping->len);
	struct dynmap_fresh *fresh;
	int ret;

	if (bio->bi_iter.bi_sector & (DYNMAP_BLOCK_SECTORS - 1) || !blocks)
		return -EINPROGRESS;
	fresh = dynmap_fresh_begin(pool, io->kvolume->volume, mapping->lbn, blocks, false);
	if (IS_ERR(fresh))
		return PTR_ERR(fresh);
	fresh->place = mapping->place;
	if (mapping->shared) {
		ret = dynmap_fresh_hold(pool, fresh, op);
		if (ret)
			return ret;
		mapping->pbn = fresh->pbn;
	} else {
		fresh->pbn = mapping->pbn;
	}
	/* Not all that was wanted, and no way to do with less. */
	if (fresh->len < blocks && !may_trim) {
		dynmap_fresh_cancel(pool, fresh);
		return -EINPROGRESS;
	}
	if (may_trim)
		dynmap_trim(bio, (u64)fresh->len * DYNMAP_BLOCK_SECTORS);
	io->fresh = fresh;
	return 0;
}

/*
 * A read or write whose mapping is known; lock held. DM_MAPIO_REMAPPED;
 * -ENODATA: read of the default page; -EINPROGRESS: not here, but in io_wq.
 */
static __hot int dynmap_io_mapped(struct dynmap_kpool *pool, struct bio *bio,
				  struct dynmap_mapping *mapping, bool may_trim,
				  struct dynmap_op *op)
{
	struct dynmap_io *io = dynmap_io(bio);
	u32 offset = bio->bi_iter.bi_sector & (DYNMAP_BLOCK_SECTORS - 1);
	int ret;

	if (dynmap_is_fresh(io, mapping)) {
		ret = dynmap_fresh_write(pool, bio, io, mapping, may_trim, op);
		if (ret)
			return ret;
	} else if (may_trim) {
		dynmap_trim(bio, mapping->len * DYNMAP_BLOCK_SECTORS - offset);
	}
	if (!io->write && mapping->kind != DYNMAP_DATA)
		return -ENODATA;
	if (!io->write && !pool->disks.bdev[dynmap_pbn_dev(mapping->pbn)])
		return -EIO;
	if (io->write)
		dynmap_prepare_fua(pool, bio, io);
	if (!io->fresh)
		io->phase = dynmap_phase_enter(pool);
	dynmap_remap(pool, bio, io, mapping->pbn);
	return DM_MAPIO_REMAPPED;
}

/*
 * Nodes that fresh writes under way may add when they are settled, and a bio itself for all
 * windows but its first one. A bio of one block has none of these: it waits for others only.
 */
static u32 dynmap_pending_nodes(struct dynmap_kpool *pool, struct bio *bio, bool shared)
{
	u32 blocks = DIV_ROUND_UP(bio_sectors(bio), DYNMAP_BLOCK_SECTORS);
	u32 windows = (blocks + DYNMAP_WINDOW_BLOCKS - 2) / DYNMAP_WINDOW_BLOCKS;

	return dynmap_fresh_pending(pool) +
	       windows * (DYNMAP_WRITE_NODES + (shared ? DYNMAP_REDIRECT_NODES : 0));
}

/* Must a write that changes the map wait for a checkpoint first? */
static bool dynmap_io_must_wait(const struct dynmap_kpool *pool, const struct dynmap_io *io)
{
	return !io->waited && dynmap_pool_must_wait(&pool->core);
}

/* Look up and, for a write to a hole, reserve; lock held, for writing if @reserve. */
static __hot int dynmap_io_lookup(struct dynmap_kpool *pool, struct bio *bio, bool reserve,
				  struct dynmap_mapping *mapping, struct dynmap_op *op)
{
	struct dynmap_io *io = dynmap_io(bio);
	struct dynmap_volume *volume = io->kvolume->volume;
	u64 lbn = dynmap_first_block(bio);
	u64 end = DIV_ROUND_UP(bio_end_sector(bio), DYNMAP_BLOCK_SECTORS);
	u32 pending = 0;
	int ret = 0;
	bool changes;

	if (pool->stopped)
		return -EIO;
	if (io->write && pool->snapshotting)
		return -EINPROGRESS;
	if (reserve)
		ret = dynmap_volume_refresh(&pool->core.table, volume, op);
	if (!ret)
		ret = dynmap_table_lookup(volume, lbn, mapping, op);
	if (!ret && pool->lost)
		ret = dynmap_fresh_lost(pool, mapping, volume);
	if (ret || !io->write)
		return ret;
	changes = mapping->kind != DYNMAP_DATA || mapping->shared;
	if (pool->read_only || (changes && pool->mode == DYNMAP_MODE_READ_ONLY))
		return -EIO;
	if (changes && dynmap_io_must_wait(pool, io))
		return -EINPROGRESS;
	if (changes) {
		pending = dynmap_pending_nodes(pool, bio, mapping->shared);
		ret = dynmap_table_may_write(&pool->core.table, volume, pending);
		ret = dynmap_note_no_nodes(pool, ret);
	}
	if (ret)
		return ret;
	if (mapping->kind != DYNMAP_HOLE || !reserve)
		return 0;
	pool->core.alloc.promised = pending;
	ret = dynmap_table_reserve(&pool->core.table, volume, lbn,
				   min_t(u64, end - lbn, DYNMAP_MAX_EXTENT_BLOCKS), op);
	ret = dynmap_note_no_nodes(pool, ret);
	return ret ? ret : dynmap_table_lookup(volume, lbn, mapping, op);
}

static void dynmap_end(struct bio *bio, int error)
{
	if (error)
		bio->bi_status = errno_to_blk_status(error);
	bio_endio(bio);
}

/* Of a read of what is not written: does the external origin have it? It does not reach its end. */
static bool dynmap_to_origin(struct dynmap_kvolume *kvolume, struct bio *bio)
{
	if (bio->bi_iter.bi_sector >= kvolume->origin_sectors)
		return false;
	bio_set_dev(bio, kvolume->origin->bdev);
	return true;
}

/* A read of what nobody has. */
static void dynmap_end_default(struct bio *bio)
{
	u8 fill = dynmap_io(bio)->kvolume->volume->disk.fill;
	struct bvec_iter iter;
	struct bio_vec vec;
	void *at;

	if (!fill)
		zero_fill_bio(bio);
	else
		bio_for_each_segment(vec, bio, iter) {
			at = bvec_kmap_local(&vec);
			memset(at, fill, vec.bv_len);
			kunmap_local(at);
			flush_dcache_page(vec.bv_page);
		}
	bio_endio(bio);
}

/*
 * No space: wait for some, or fail, as configured. If blocks became free after the attempt,
 * before which alloc.space.vacated was @seen, nobody would wake this bio for them: it is
 * tried again.
 */
static void dynmap_io_no_space(struct dynmap_kpool *pool, struct bio *bio, u64 seen)
{
	blk_status_t status = BLK_STS_OK;
	bool again;

	down_write(&pool->lock);
	again = pool->core.alloc.space.vacated != seen;
	if (!again) {
		dynmap_set_no_space(pool);
		status = dynmap_kpool_wait(pool, bio);
	}
	dynmap_kpool_unlock(pool);
	if (again) {
		dynmap_io_queue(bio);
	} else if (status) {
		bio->bi_status = status;
		bio_endio(bio);
	}
}

/* May a change of a volume begin now? -EINPROGRESS: not while snapshots are made. Lock held. */
static int dynmap_change_begins(const struct dynmap_kpool *pool)
{
	if (!dynmap_may_change(pool))
		return -EIO;
	return pool->snapshotting ? -EINPROGRESS : 0;
}

/*
 * Wait until snapshots have been made, or one of the writes has ended that others leave room
 * for; 0, or @error if it was something else.
 */
static int dynmap_wait_thaw(struct dynmap_kpool *pool, int error)
{
	if (error != -EINPROGRESS)
		return error;
	wait_event_timeout(pool->bucket_wait, !READ_ONCE(pool->snapshotting) &&
			   !READ_ONCE(pool->wait_for_nodes), HZ / 10);
	return 0;
}

/* Unmap one step of [*lbn, end); lock held. */
static int dynmap_unmap_step(struct dynmap_kpool *pool, struct dynmap_volume *volume, u64 *lbn,
			     u64 end, struct dynmap_op *op)
{
	int ret = dynmap_change_begins(pool);

	return ret ? ret : dynmap_table_unmap(&pool->core.table, volume, lbn, end, op);
}

/* Unmap [lbn, end). */
static int dynmap_io_unmap(struct dynmap_kpool *pool, struct dynmap_volume *volume, u64 lbn,
			   u64 end)
{
	struct dynmap_op op = {};
	int ret = 0;

	while (lbn < end && !ret) {
		dynmap_khelped(ret, pool, &op, dynmap_unmap_step(pool, volume, &lbn, end, &op));
		ret = dynmap_wait_thaw(pool, ret);
		if (!ret)
			ret = dynmap_kpool_throttle(pool);
		cond_resched();
	}
	/* Others wait for what was freed. */
	if (!ret && READ_ONCE(pool->mode) != DYNMAP_MODE_WRITE)
		ret = dynmap_kpool_commit(pool);
	return ret;
}

/* Whole blocks inside the range are unmapped, its edges are left alone. */
static void dynmap_io_discard(struct dynmap_kpool *pool, struct bio *bio)
{
	dynmap_settle(pool);
	dynmap_end(bio, dynmap_io_unmap(pool, dynmap_io(bio)->kvolume->volume,
					DIV_ROUND_UP(bio->bi_iter.bi_sector, DYNMAP_BLOCK_SECTORS),
					bio_end_sector(bio) / DYNMAP_BLOCK_SECTORS));
}

/* Reserve the hole at *lbn, or go on behind what is mapped there; lock held. */
static int dynmap_reserve_step(struct dynmap_kpool *pool, struct dynmap_volume *volume, u64 *lbn,
			       u64 end, struct dynmap_op *op)
{
	struct dynmap_mapping mapping;
	int ret = dynmap_change_begins(pool);

	if (!ret)
		ret = dynmap_table_lookup(volume, *lbn, &mapping, op);
	if (ret)
		return ret;
	if (mapping.kind == DYNMAP_HOLE) {
		pool->core.alloc.promised = dynmap_fresh_pending(pool);
		ret = dynmap_table_reserve(&pool->core.table, volume, *lbn,
					   min_t(u64, end - *lbn, DYNMAP_MAX_EXTENT_BLOCKS), op);
		return dynmap_note_no_nodes(pool, ret);
	}
	*lbn += mapping.len;
	return 0;
}

/* Reserve the holes of [lbn, end), as far as there is space: zeros they are without it. */
static int dynmap_io_reserve(struct dynmap_kpool *pool, struct dynmap_volume *volume, u64 lbn,
			     u64 end)
{
	struct dynmap_op op = {};
	u64 seen;
	int ret = 0;

	while (lbn < end && !ret) {
		down_write(&pool->lock);
		seen = pool->core.alloc.space.vacated;
		ret = dynmap_reserve_step(pool, volume, &lbn, end, &op);
		dynmap_kpool_unlock(pool);
		ret = dynmap_wait_thaw(pool, ret);
		if (ret)
			ret = dynmap_kpool_make_room(pool, &op, ret, seen);
		if (!ret)
			ret = dynmap_kpool_throttle(pool);
		cond_resched();
	}
	return ret == -ENOSPC ? 0 : ret;
}

/* The write of a part of block @lbn waits for its window no longer. */
static void dynmap_io_unwant(struct dynmap_kpool *pool, struct dynmap_io *io, u64 lbn)
{
	if (!io->wanting)
		return;
	io->wanting = false;
	dynmap_fresh_unwant(pool, io->kvolume->volume, lbn);
}

/* Begin a write of a whole block of which the bio is a part: shared, or RESERVED; lock held. */
static int dynmap_begin_block(struct dynmap_kpool *pool, struct dynmap_io *io,
			      const struct dynmap_mapping *mapping, struct dynmap_op *op)
{
	struct dynmap_fresh *fresh = dynmap_fresh_begin(pool, io->kvolume->volume, mapping->lbn, 1,
							true);
	int ret;

	if (IS_ERR(fresh)) {
		if (!io->wanting)
			dynmap_fresh_want(pool, io->kvolume->volume, mapping->lbn);
		io->wanting = true;
		return PTR_ERR(fresh);
	}
	fresh->place = mapping->place;
	fresh->pbn = mapping->pbn;
	if (mapping->shared) {
		ret = dynmap_fresh_hold(pool, fresh, op);
		if (ret)
			return ret;
	}
	io->src = mapping->shared && mapping->kind == DYNMAP_DATA ? mapping->pbn : DYNMAP_PBN_NONE;
	io->fresh = fresh;
	return 0;
}

/* Read or write sectors from or to the beginning of a page, and wait. */
static int dynmap_page_io(struct block_device *bdev, u64 sector, struct page *page, u32 sectors,
			  enum req_op op)
{
	struct bio_vec vec;
	struct bio bio;
	int ret;

	bio_init(&bio, bdev, &vec, 1, op);
	bio.bi_iter.bi_sector = sector;
	__bio_add_page(&bio, page, sectors << SECTOR_SHIFT, 0);
	ret = submit_bio_wait(&bio);
	bio_uninit(&bio);
	return ret;
}

/* The same for sectors of a block of the pool, from @from on. */
static int dynmap_block_io(struct dynmap_kpool *pool, struct dynmap_io *io, u64 pbn,
			   struct page *page, u32 from, u32 sectors, enum req_op op)
{
	u64 block = dynmap_pbn_locate(&pool->core.geo, pbn, &io->dev);
	int ret = dynmap_page_io(pool->disks.bdev[io->dev], block * DYNMAP_BLOCK_SECTORS + from,
				 page, sectors, op);

	if (op == REQ_OP_WRITE)
		dynmap_disks_set_written(&pool->disks, io->dev);
	return ret;
}

/* What a block holds before it is written in part: old content, the origin's, the default page. */
static int dynmap_block_old(struct dynmap_kpool *pool, struct dynmap_io *io, struct page *page)
{
	struct dynmap_kvolume *kvolume = io->kvolume;
	u64 sector = io->fresh->lbn * DYNMAP_BLOCK_SECTORS;

	if (io->src != DYNMAP_PBN_NONE)
		return dynmap_block_io(pool, io, io->src, page, 0, DYNMAP_BLOCK_SECTORS,
				       REQ_OP_READ);
	memset(page_address(page), kvolume->volume->disk.fill, DYNMAP_BLOCK_BYTES);
	if (sector >= kvolume->origin_sectors)
		return 0;
	return dynmap_page_io(kvolume->origin->bdev, sector, page,
			      min_t(u64, DYNMAP_BLOCK_SECTORS, kvolume->origin_sectors - sector),
			      REQ_OP_READ);
}

/* Copy a shared block to the one that is held for it, with zeros in a part. */
static int dynmap_zero_copy(struct dynmap_kpool *pool, struct dynmap_io *io, u32 from, u32 sectors)
{
	struct page *page = mempool_alloc(pool->pages, GFP_NOIO);
	int ret = dynmap_block_old(pool, io, page);

	memset(page_address(page) + (from << SECTOR_SHIFT), 0, sectors << SECTOR_SHIFT);
	if (!ret)
		ret = dynmap_block_io(pool, io, io->fresh->pbn, page, 0, DYNMAP_BLOCK_SECTORS,
				      REQ_OP_WRITE);
	mempool_free(page, pool->pages);
	ret = dynmap_fresh_done(pool, io->fresh, ret);
	io->fresh = NULL;
	return ret;
}

/* Look up for writing zeros to a part of a block, and be counted: 1; 0: nothing is there. */
static int dynmap_zero_try(struct dynmap_kpool *pool, struct dynmap_io *io, u64 lbn, u64 *pbn,
			   struct dynmap_op *op)
{
	struct dynmap_volume *volume = io->kvolume->volume;
	struct dynmap_mapping mapping;
	int ret;

	ret = dynmap_change_begins(pool);
	if (!ret)
		ret = dynmap_volume_refresh(&pool->core.table, volume, op);
	if (!ret)
		ret = dynmap_table_lookup(volume, lbn, &mapping, op);
	if (ret || mapping.kind != DYNMAP_DATA)
		return ret;
	if (mapping.shared) {
		ret = dynmap_io_must_wait(pool, io) ? -EINPROGRESS :
		      dynmap_begin_block(pool, io, &mapping, op);
		return ret ? ret : 1;
	}
	*pbn = mapping.pbn;
	io->phase = dynmap_phase_enter(pool);
	return 1;
}

/* Wait for what a slow bio lacks: 0, or an error that is final. */
static int dynmap_slow_wait(struct dynmap_kpool *pool, struct dynmap_io *io, u64 lbn,
			    struct dynmap_op *op, int error, u64 seen)
{
	bool must_wait = dynmap_io_must_wait(pool, io);

	if (error != -EINPROGRESS)
		return dynmap_kpool_make_room(pool, op, error, seen);
	if (must_wait)
		mod_delayed_work(pool->wq, &pool->idle_work, 0);
	dynmap_fresh_wait(pool, io->kvolume->volume, lbn, io->wanting, must_wait);
	if (!must_wait)
		return 0;
	/* None has begun: perhaps none can, then that is how the write ends. */
	if (dynmap_pool_must_wait(&pool->core))
		return dynmap_kpool_help(pool, op, -EBUSY);
	/* Younger ones do not make it wait again and again. */
	io->waited = true;
	return 0;
}

/* Write zeros to [from, to), a part of one block, if the block is written at all. */
static int dynmap_io_zero_part(struct dynmap_kpool *pool, struct dynmap_io *io, u64 from, u64 to)
{
	u64 lbn = from / DYNMAP_BLOCK_SECTORS, pbn, seen;
	u32 at = from & (DYNMAP_BLOCK_SECTORS - 1);
	struct dynmap_op op = {};
	int ret;

	if (from == to)
		return 0;
	for (;;) {
		dynmap_settle(pool);
		down_write(&pool->lock);
		seen = pool->core.alloc.space.vacated;
		ret = dynmap_zero_try(pool, io, lbn, &pbn, &op);
		dynmap_kpool_unlock(pool);
		if (ret >= 0)
			break;
		ret = dynmap_slow_wait(pool, io, lbn, &op, ret, seen);
		if (ret)
			break;
	}
	dynmap_io_unwant(pool, io, lbn);
	if (ret <= 0)
		return ret;
	if (io->fresh)
		return dynmap_zero_copy(pool, io, at, to - from);
	ret = dynmap_block_io(pool, io, pbn, ZERO_PAGE(0), at, to - from, REQ_OP_WRITE);
	dynmap_phase_leave(pool, io->phase);
	io->phase = -1;
	return ret;
}

/* Whole blocks are unmapped, and reserved anew if asked for; edges are overwritten. */
static void dynmap_io_zeroes(struct dynmap_kpool *pool, struct bio *bio)
{
	struct dynmap_io *io = dynmap_io(bio);
	u64 from = bio->bi_iter.bi_sector, to = bio_end_sector(bio);
	u64 lbn = DIV_ROUND_UP(from, DYNMAP_BLOCK_SECTORS), end = to / DYNMAP_BLOCK_SECTORS;
	u64 seen = READ_ONCE(pool->core.alloc.space.vacated);
	int ret;

	dynmap_settle(pool);
	ret = dynmap_io_zero_part(pool, io, from, min(to, lbn * DYNMAP_BLOCK_SECTORS));
	if (!ret && lbn <= end)
		ret = dynmap_io_zero_part(pool, io, end * DYNMAP_BLOCK_SECTORS, to);
	if (!ret)
		ret = dynmap_io_unmap(pool, io->kvolume->volume, lbn, end);
	if (!ret && bio->bi_opf & REQ_NOUNMAP)
		ret = dynmap_io_reserve(pool, io->kvolume->volume, lbn, end);
	if (!ret && bio->bi_opf & REQ_FUA)
		ret = dynmap_kpool_commit(pool);
	/* Part of a shared block, or of the map: all is done again when there is space. */
	if (ret == -ENOSPC)
		dynmap_io_no_space(pool, bio, seen);
	else
		dynmap_end(bio, ret);
}

/* Copy the bio into a block at its offset. */
static void dynmap_pad(struct bio *bio, void *block)
{
	u32 at = (bio->bi_iter.bi_sector & (DYNMAP_BLOCK_SECTORS - 1)) << SECTOR_SHIFT;
	struct bvec_iter iter;
	struct bio_vec vec;

	bio_for_each_segment(vec, bio, iter) {
		memcpy_from_page(block + at, vec.bv_page, vec.bv_offset, vec.bv_len);
		at += vec.bv_len;
	}
}

/* A write of a part of a block that is not yet written or is shared, its window held. */
static void dynmap_io_padded(struct dynmap_kpool *pool, struct bio *bio)
{
	struct dynmap_io *io = dynmap_io(bio);
	struct page *page = mempool_alloc(pool->pages, GFP_NOIO);
	int ret = dynmap_block_old(pool, io, page);

	dynmap_pad(bio, page_address(page));
	if (!ret)
		ret = dynmap_block_io(pool, io, io->fresh->pbn, page, 0, DYNMAP_BLOCK_SECTORS,
				      REQ_OP_WRITE);
	mempool_free(page, pool->pages);
	ret = dynmap_fresh_done(pool, io->fresh, ret);
	io->fresh = NULL;
	if (!ret && bio->bi_opf & REQ_FUA)
		dynmap_io_commit(pool, bio);
	else
		dynmap_end(bio, ret);
}

/* Try under the lock: what dynmap_io_mapped() says, or 0 and *padded. */
static int dynmap_slow_try(struct dynmap_kpool *pool, struct bio *bio, bool *padded,
			   struct dynmap_op *op)
{
	struct dynmap_io *io = dynmap_io(bio);
	struct dynmap_mapping mapping;
	int ret;

	ret = dynmap_io_lookup(pool, bio, true, &mapping, op);
	if (ret)
		return ret;
	*padded = dynmap_is_fresh(io, &mapping) && !dynmap_is_whole(bio);
	if (!*padded)
		return dynmap_io_mapped(pool, bio, &mapping, false, op);
	return dynmap_begin_block(pool, io, &mapping, op);
}

/* A bio of at most one block that could not be mapped at once. */
static void dynmap_io_slow(struct dynmap_kpool *pool, struct bio *bio)
{
	u64 lbn = dynmap_first_block(bio), seen;
	struct dynmap_op op = {};
	bool padded = false;
	int ret;

	do {
		dynmap_settle(pool);
		down_write(&pool->lock);
		seen = pool->core.alloc.space.vacated;
		ret = dynmap_slow_try(pool, bio, &padded, &op);
		dynmap_kpool_unlock(pool);
		if (ret >= 0 || ret == -ENODATA)
			break;
		ret = dynmap_slow_wait(pool, dynmap_io(bio), lbn, &op, ret, seen);
	} while (!ret);
	dynmap_io_unwant(pool, dynmap_io(bio), lbn);
	if (ret == -ENODATA && dynmap_to_origin(dynmap_io(bio)->kvolume, bio))
		submit_bio_noacct(bio);
	else if (ret == -ENODATA)
		dynmap_end_default(bio);
	else if (ret == -ENOSPC)
		dynmap_io_no_space(pool, bio, seen);
	else if (ret < 0)
		dynmap_end(bio, ret);
	else if (padded)
		dynmap_io_padded(pool, bio);
	else
		submit_bio_noacct(bio);
}

static void dynmap_slow_work(struct work_struct *work)
{
	struct dynmap_io *io = container_of(work, struct dynmap_io, work);
	struct bio *bio = dm_bio_from_per_bio_data(io, sizeof(*io));

	switch (bio_op(bio)) {
	case REQ_OP_DISCARD:
		dynmap_io_discard(io->kvolume->pool, bio);
		break;
	case REQ_OP_WRITE_ZEROES:
		dynmap_io_zeroes(io->kvolume->pool, bio);
		break;
	default:
		dynmap_io_slow(io->kvolume->pool, bio);
	}
}

/*
 * Writes may wait here for other writes, for snapshots and for space, and hold all workers
 * of their queue. Reads wait for devices only, and have a queue of their own: a write of
 * a part of a block reads from the external origin, which may be a volume of this pool.
 */
void dynmap_io_queue(struct bio *bio)
{
	struct dynmap_io *io = dynmap_io(bio);
	struct dynmap_kpool *pool = io->kvolume->pool;

	INIT_WORK(&io->work, dynmap_slow_work);
	queue_work(io->write ? pool->io_wq : pool->read_wq, &io->work);
}

/* May the map of the blocks that @bio can have at once be out of date? Lock held. */
static bool dynmap_map_hidden(struct dynmap_kpool *pool, struct bio *bio,
			      const struct dynmap_mapping *mapping)
{
	u64 end = DIV_ROUND_UP(bio_end_sector(bio), DYNMAP_BLOCK_SECTORS);

	return dynmap_fresh_hides(pool, dynmap_io(bio)->kvolume->volume, mapping->lbn,
				  min(end, mapping->lbn + mapping->len));
}

/*
 * May a fresh write in place overtake one that was redirected? The blocks were shared, or
 * mapped, when the older write was looked up; a deletion or a discard has changed that
 * since. The older write was perhaps acknowledged, and its REDIRECT would replace what
 * the younger one writes. Pools that redirect nothing do not pay for the question.
 */
static bool dynmap_map_overtakes(struct dynmap_kpool *pool, struct bio *bio,
				 const struct dynmap_mapping *mapping)
{
	return !mapping->shared && atomic_read(&pool->redirects) &&
	       dynmap_map_hidden(pool, bio, mapping);
}

/* Must the map be changed, or brought up to date, before this bio is mapped? Lock held. */
static bool dynmap_map_exclusive(struct dynmap_kpool *pool, struct bio *bio,
				 const struct dynmap_mapping *mapping)
{
	if (dynmap_is_fresh(dynmap_io(bio), mapping))
		return mapping->kind == DYNMAP_HOLE || mapping->shared ||
		       dynmap_fresh_many(pool) || dynmap_map_overtakes(pool, bio, mapping);
	return dynmap_map_hidden(pool, bio, mapping);
}

/* Settle, and look up for reading or writing; lock held for writing. */
static int dynmap_map_settled(struct dynmap_kpool *pool, struct bio *bio,
			      struct dynmap_mapping *mapping, struct dynmap_op *op)
{
	int ret = dynmap_settle_locked(pool, op);

	op->urgent = 0;
	return ret ? ret : dynmap_io_lookup(pool, bio, true, mapping, op);
}

/* Look up for writing what is probably fresh; lock held for writing. */
static int dynmap_map_fresh(struct dynmap_kpool *pool, struct bio *bio,
			    struct dynmap_mapping *mapping, struct dynmap_op *op)
{
	int ret = dynmap_io_lookup(pool, bio, true, mapping, op);
	bool fresh;

	if (ret)
		return ret;
	fresh = dynmap_is_fresh(dynmap_io(bio), mapping);
	if (fresh && !dynmap_map_overtakes(pool, bio, mapping))
		return 0;
	if (!fresh)
		WRITE_ONCE(dynmap_io(bio)->kvolume->fresh, false);
	return dynmap_map_settled(pool, bio, mapping, op);
}

/*
 * Map what can be mapped at once: DM_MAPIO_REMAPPED or an error. In a volume that is
 * being filled a write is looked up once, not twice.
 */
static __hot int dynmap_map_fast(struct dynmap_kpool *pool, struct bio *bio)
{
	struct dynmap_io *io = dynmap_io(bio);
	bool fresh = io->write && READ_ONCE(io->kvolume->fresh);
	struct dynmap_mapping mapping __uninitialized;
	struct dynmap_op op __uninitialized;
	bool exclusive = fresh;
	int ret = 0;

	op.urgent = 0;
	if (!fresh) {
		down_read(&pool->lock);
		ret = dynmap_io_lookup(pool, bio, false, &mapping, &op);
		exclusive = !ret && dynmap_map_exclusive(pool, bio, &mapping);
		if (!ret && !exclusive)
			ret = dynmap_io_mapped(pool, bio, &mapping, true, &op);
		up_read(&pool->lock);
	}
	if (!exclusive)
		return ret;
	if (!fresh && dynmap_is_fresh(io, &mapping))
		WRITE_ONCE(io->kvolume->fresh, true);
	down_write(&pool->lock);
	if (fresh && !dynmap_fresh_many(pool))
		ret = dynmap_map_fresh(pool, bio, &mapping, &op);
	else
		ret = dynmap_map_settled(pool, bio, &mapping, &op);
	if (!ret)
		ret = dynmap_io_mapped(pool, bio, &mapping, true, &op);
	dynmap_kpool_unlock(pool);
	return ret;
}

__hot int dynmap_io_map(struct dm_target *ti, struct bio *bio)
{
	struct dynmap_kvolume *kvolume = ti->private;
	struct dynmap_kpool *pool = kvolume->pool;
	struct dynmap_io *io = dynmap_io(bio);
	int ret;

	bio->bi_iter.bi_sector = dm_target_offset(ti, bio->bi_iter.bi_sector);
	io->kvolume = kvolume;
	io->fresh = NULL;
	io->phase = -1;
	io->write = bio_data_dir(bio) == WRITE;
	io->commit = false;
	io->wanting = false;
	io->waited = false;
	if (io->write && bio->bi_iter.bi_size &&
	    kvolume->volume->disk.flags & cpu_to_le32(DYNMAP_VOLUME_READ_ONLY))
		return DM_MAPIO_KILL;
	if (bio->bi_opf & REQ_PREFLUSH) {
		dynmap_io_commit(pool, bio);
		return DM_MAPIO_SUBMITTED;
	}
	if (bio_op(bio) == REQ_OP_DISCARD || bio_op(bio) == REQ_OP_WRITE_ZEROES) {
		dynmap_io_queue(bio);
		return DM_MAPIO_SUBMITTED;
	}
	if (!io->write && bio->bi_iter.bi_sector < kvolume->origin_sectors)
		dynmap_trim(bio, kvolume->origin_sectors - bio->bi_iter.bi_sector);
	ret = dynmap_map_fast(pool, bio);
	switch (ret) {
	case DM_MAPIO_REMAPPED:
		return ret;
	case -ENODATA:
		if (dynmap_to_origin(kvolume, bio))
			return DM_MAPIO_REMAPPED;
		dynmap_end_default(bio);
		return DM_MAPIO_SUBMITTED;
	case -EIO:
		return DM_MAPIO_KILL;
	default:
		dynmap_trim(bio, DYNMAP_BLOCK_SECTORS -
				 (bio->bi_iter.bi_sector & (DYNMAP_BLOCK_SECTORS - 1)));
		dynmap_io_queue(bio);
		return DM_MAPIO_SUBMITTED;
	}
}
