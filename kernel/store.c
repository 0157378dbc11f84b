// SPDX-License-Identifier: GPL-2.0-only
/*
 * The core's store over block devices. Owns: the I/O of metadata, and discards. Writes
 * are counted per batch and waited for together; bios come from the pool's own set, one
 * after the other when memory is short.
 */
#include "kernel/dynmap.h"

static struct dynmap_disks *to_disks(struct dynmap_store *store)
{
	return container_of(store, struct dynmap_disks, store);
}

static int dynmap_disk_read(struct dynmap_store *store, u32 dev, u64 block, void *data)
{
	struct block_device *bdev = to_disks(store)->bdev[dev];
	struct bio_vec vec;
	struct bio bio;
	int ret;

	if (!bdev)
		return -ENODEV;
	bio_init(&bio, bdev, &vec, 1, REQ_OP_READ | REQ_META);
	bio.bi_iter.bi_sector = block * DYNMAP_BLOCK_SECTORS;
	__bio_add_page(&bio, virt_to_page(data), DYNMAP_BLOCK_BYTES, 0);
	ret = submit_bio_wait(&bio);
	bio_uninit(&bio);
	return ret;
}

/* An empty batch counts the thread that will wait for it. */
static void dynmap_batch_begin(struct dynmap_batch *batch)
{
	atomic_set(&batch->pending, 1);
	batch->error = 0;
}

/*
 * The last write completes the batch and does not touch it afterwards: the pool may be
 * freed as soon as the waiter goes on. A wait queue would not do: the waiter could see
 * that the count has fallen to zero, and free the pool, before this function, which may
 * be preempted, wakes the queue.
 */
static void dynmap_disk_end_io(struct bio *bio)
{
	struct dynmap_batch *batch = bio->bi_private;

	if (bio->bi_status)
		WRITE_ONCE(batch->error, blk_status_to_errno(bio->bi_status));
	bio_put(bio);
	if (atomic_dec_and_test(&batch->pending))
		complete(&batch->done);
}

static void dynmap_disk_submit(struct dynmap_disks *disks, u32 batch, struct bio *bio)
{
	bio->bi_end_io = dynmap_disk_end_io;
	bio->bi_private = &disks->batch[batch];
	atomic_inc(&disks->batch[batch].pending);
	submit_bio(bio);
}

static void dynmap_disk_write(struct dynmap_store *store, u32 batch, u32 dev, u64 block,
			      const void *data, u32 flags)
{
	struct dynmap_disks *disks = to_disks(store);
	blk_opf_t opf = REQ_OP_WRITE | REQ_META | REQ_SYNC;
	struct bio *bio;

	if (flags & DYNMAP_STORE_PREFLUSH)
		opf |= REQ_PREFLUSH;
	if (flags & DYNMAP_STORE_FUA)
		opf |= REQ_FUA;
	bio = bio_alloc_bioset(disks->bdev[dev], 1, opf, GFP_NOIO, disks->bios);
	bio->bi_iter.bi_sector = block * DYNMAP_BLOCK_SECTORS;
	__bio_add_page(bio, virt_to_page(data), DYNMAP_BLOCK_BYTES, 0);
	dynmap_disk_submit(disks, batch, bio);
}

static void dynmap_disk_flush(struct dynmap_store *store, u32 batch, u32 dev)
{
	struct dynmap_disks *disks = to_disks(store);
	struct bio *bio = bio_alloc_bioset(disks->bdev[dev], 0,
					   REQ_OP_WRITE | REQ_SYNC | REQ_PREFLUSH, GFP_NOIO,
					   disks->bios);

	dynmap_disk_submit(disks, batch, bio);
}

static int dynmap_disk_wait(struct dynmap_store *store, u32 batch)
{
	struct dynmap_batch *waited = &to_disks(store)->batch[batch];
	int error;

	if (!atomic_dec_and_test(&waited->pending))
		wait_for_completion(&waited->done);
	error = waited->error;
	dynmap_batch_begin(waited);
	return error;
}

static bool dynmap_disk_take_written(struct dynmap_store *store, u32 dev)
{
	return test_and_clear_bit(dev, to_disks(store)->written);
}

static const struct dynmap_store_ops dynmap_disk_ops = {
	.read = dynmap_disk_read,
	.write = dynmap_disk_write,
	.flush = dynmap_disk_flush,
	.wait = dynmap_disk_wait,
	.take_written = dynmap_disk_take_written,
};

void dynmap_disks_discard(struct dynmap_disks *disks, const struct dynmap_geometry *geo,
			  struct dynmap_runlist *list)
{
	struct bio *bio = NULL, *next;
	struct block_device *bdev;
	const struct dynmap_run *runs;
	struct dynmap_buf *buf;
	u32 count, i, dev;
	u64 block;

	list_for_each_entry(buf, &list->bufs, list) {
		count = dynmap_runlist_runs(buf, &runs);
		for (i = 0; i < count; i++) {
			block = dynmap_pbn_locate(geo, runs[i].pbn, &dev);
			bdev = disks->bdev[dev];
			if (!bdev || !bdev_max_discard_sectors(bdev))
				continue;
			next = bio_alloc_bioset(bdev, 0, REQ_OP_DISCARD, GFP_NOIO, disks->bios);
			next->bi_iter.bi_sector = block * DYNMAP_BLOCK_SECTORS;
			next->bi_iter.bi_size = runs[i].len * DYNMAP_BLOCK_BYTES;
			/* The last one ends when all have. */
			if (bio) {
				bio_chain(bio, next);
				submit_bio(bio);
			}
			bio = next;
		}
	}
	if (!bio)
		return;
	submit_bio_wait(bio);
	bio_put(bio);
}

void dynmap_disks_init(struct dynmap_disks *disks)
{
	u32 i;

	disks->store.ops = &dynmap_disk_ops;
	for (i = 0; i < DYNMAP_BATCHES; i++) {
		init_completion(&disks->batch[i].done);
		dynmap_batch_begin(&disks->batch[i]);
	}
}
