// SPDX-License-Identifier: GPL-2.0-only
/*
 * A pool in memory and its superblocks, see core/pool.h. Callers: checkpoints, growth,
 * opening; all who open a pool (close, limit).
 *
 * Superblocks: each checkpoint writes one slot on two devices, slots in turn, so
 * that a torn write leaves the two before; on a lone device slot and backup.
 * Home and backup slot of all devices are written when a pool is formatted,
 * opened or grows: they say what the device is, even if all else is gone.
 */
#include "core/pool.h"

static void dynmap_tally_load(struct dynmap_tally *tally, const struct dynmap_disk_tally *disk)
{
	tally->nodes[0] = le32_to_cpu(disk->leaves);
	tally->nodes[1] = le32_to_cpu(disk->inner);
}

/* All parts of a pool as its superblock says, trees not yet read. */
int dynmap_pool_init(struct dynmap_pool *pool, struct dynmap_store *store,
		     const struct dynmap_disk_super *sb, u32 bufs)
{
	int ret;

	memset(pool, 0, sizeof(*pool));
	pool->store = store;
	dynmap_table_init(&pool->table, &pool->cache, &pool->alloc, &pool->journal);
	dynmap_journal_init(&pool->journal, &pool->cache);
	if (dynmap_geometry_init(&pool->geo, store, sb))
		return -EUCLEAN;
	ret = dynmap_cache_init(&pool->cache, &pool->geo, bufs);
	if (ret)
		return ret;
	pool->super = dynmap_block_alloc();
	pool->io_block[0] = dynmap_block_alloc();
	pool->io_block[1] = dynmap_block_alloc();
	if (!pool->super || !pool->io_block[0] || !pool->io_block[1])
		return -ENOMEM;
	memcpy(pool->super, sb, sizeof(*sb));
	pool->cache.check = dynmap_btree_check;
	memcpy(pool->cache.uuid, sb->uuid, sizeof(sb->uuid));
	pool->cache.epoch = le64_to_cpu(sb->epoch) + 1;
	pool->cache.generation = le32_to_cpu(sb->generation);
	pool->cache.copies = le32_to_cpu(sb->copies);
	dynmap_tally_load(&pool->cache.tally[DYNMAP_TREE_VOLUME], &sb->volume_tally);
	dynmap_tally_load(&pool->cache.tally[DYNMAP_TREE_SPACE], &sb->space_tally);
	dynmap_tally_load(&pool->cache.tally[DYNMAP_TREE_SNAPSHOT], &sb->snapshot_tally);
	dynmap_tally_load(&pool->cache.tally[DYNMAP_TREE_DEAD], &sb->dead_tally);
	dynmap_journal_spread(&pool->journal, sb);
	pool->journal.incarnation = le64_to_cpu(sb->incarnation);
	pool->journal.head = le64_to_cpu(sb->journal_seq);
	pool->journal.tail = pool->journal.head;
	pool->journal.durable = pool->journal.head;
	pool->table.alloc_blocks = le32_to_cpu(sb->alloc_blocks);
	pool->table.next_reap_id = le64_to_cpu(sb->next_reap_id);
	pool->table.transaction_id = le64_to_cpu(sb->transaction_id);
	pool->table.group = le32_to_cpu(sb->group);
	memcpy(pool->table.name, sb->label, sizeof(pool->table.name));
	if (!dynmap_btree_root_valid(&pool->geo, &sb->volume_root) ||
	    !dynmap_btree_root_valid(&pool->geo, &sb->segment_root) ||
	    !dynmap_btree_root_valid(&pool->geo, &sb->snapshot_root) ||
	    !dynmap_btree_root_valid(&pool->geo, &sb->dead_root) ||
	    le32_to_cpu(sb->segment_root.levels)) {
		dynmap_err("superblock: bad root");
		return -EUCLEAN;
	}
	dynmap_btree_init(&pool->table.volumes, &pool->cache, DYNMAP_TREE_VOLUME, 0,
			  &sb->volume_root);
	dynmap_family_init(&pool->table.family, &pool->cache, &pool->alloc, sb);
	dynmap_btree_init(&pool->segments, &pool->cache, DYNMAP_TREE_SEGMENT, 0,
			  &sb->segment_root);
	return dynmap_alloc_init(&pool->alloc, &pool->cache, &sb->space_root);
}

void dynmap_pool_close(struct dynmap_pool *pool)
{
	dynmap_table_exit(&pool->table);
	dynmap_journal_exit(&pool->journal);
	dynmap_alloc_exit(&pool->alloc);
	dynmap_cache_exit(&pool->cache);
	dynmap_block_free(pool->super);
	dynmap_block_free(pool->io_block[0]);
	dynmap_block_free(pool->io_block[1]);
	memset(pool, 0, sizeof(*pool));
}

void dynmap_pool_limit(struct dynmap_pool *pool, u32 bufs)
{
	pool->cache.limit = max_t(u32, bufs, DYNMAP_MIN_CLEAN);
	dynmap_space_limit(&pool->alloc.space, bufs);
	dynmap_space_shrink(&pool->alloc.space);
	dynmap_cache_trim(&pool->cache);
}

/* Start writing the superblock of one device; wait for it, too, if asked for. */
int dynmap_super_write_one(struct dynmap_pool *pool, u32 dev, u64 slot, bool wait)
{
	struct dynmap_disk_super *sb = pool->io_block[dev % DYNMAP_SB_DEVICES];
	struct dynmap_store *store = pool->store;

	memcpy(sb, pool->super, sizeof(*sb));
	sb->this_device = cpu_to_le32(dev);
	sb->crc = cpu_to_le32(dynmap_super_crc(sb));
	store->ops->write(store, DYNMAP_BATCH_CHECKPOINT, dev, slot, sb, DYNMAP_STORE_FUA);
	return wait ? store->ops->wait(store, DYNMAP_BATCH_CHECKPOINT) : 0;
}

/* Write superblock slot @slot of all or of the first devices, and wait. */
int dynmap_super_write(struct dynmap_pool *pool, u32 nr_devs, bool backup, u64 slot)
{
	int ret = 0, error;
	u32 dev;

	for (dev = 0; dev < nr_devs; dev++) {
		if (backup)
			slot = pool->geo.dev[dev].blocks - 1;
		/* There are as many blocks for them as are written at once. */
		error = dynmap_super_write_one(pool, dev, slot, dev + 1 == nr_devs ||
					       !((dev + 1) % DYNMAP_SB_DEVICES));
		ret = ret ? ret : error;
	}
	return ret;
}

/*
 * Current slot, backup and home of every device; for pools that change shape. The
 * home slot is last: while it is torn, all others are intact, which tells that the
 * device is ours (see dynmap_super_probe()).
 */
int dynmap_super_write_all(struct dynmap_pool *pool)
{
	u32 nr = pool->geo.nr_devs;
	int ret;

	ret = dynmap_super_write(pool, nr, false, DYNMAP_SB_SLOT_FIRST +
				 le64_to_cpu(pool->super->epoch) % DYNMAP_SB_SLOTS);
	if (!ret)
		ret = dynmap_super_write(pool, nr, true, 0);
	if (!ret)
		ret = dynmap_super_write(pool, nr, false, DYNMAP_SB_HOME);
	return ret;
}

/* Zeros over all superblock slots of a device: what was there before is no superblock of ours. */
int dynmap_super_wipe(struct dynmap_pool *pool, u32 dev)
{
	struct dynmap_store *store = pool->store;
	u32 block;
	int ret;

	memset(pool->io_block[0], 0, DYNMAP_BLOCK_BYTES);
	for (block = 0; block < DYNMAP_JOURNAL_FIRST; block++)
		store->ops->write(store, DYNMAP_BATCH_CHECKPOINT, dev, block, pool->io_block[0],
				  0);
	store->ops->write(store, DYNMAP_BATCH_CHECKPOINT, dev, pool->geo.dev[dev].blocks - 1,
			  pool->io_block[0], 0);
	ret = store->ops->wait(store, DYNMAP_BATCH_CHECKPOINT);
	if (ret)
		return ret;
	store->ops->flush(store, DYNMAP_BATCH_CHECKPOINT, dev);
	return store->ops->wait(store, DYNMAP_BATCH_CHECKPOINT);
}
