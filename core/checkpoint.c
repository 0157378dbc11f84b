// SPDX-License-Identifier: GPL-2.0-only
/*
 * Commits and checkpoints, see core/checkpoint.h. Callers: the kernel's workers, growth,
 * opening, tools and tests.
 */
#include "core/checkpoint.h"

#define DYNMAP_RECORDS_PER_NODE	16	/* records of the space tree that will make a node dirty */
#define DYNMAP_NODES_PER_SEG	2	/* that a segment with such records counts for */
#define DYNMAP_PREPARE_MOST	64	/* nodes sealed and records entered in one hold */
#define DYNMAP_PREPARE_STEPS	1024	/* such holds until it is twice as many */

static void dynmap_tally_store(const struct dynmap_tally *tally, struct dynmap_disk_tally *disk)
{
	disk->leaves = cpu_to_le32(tally->nodes[0]);
	disk->inner = cpu_to_le32(tally->nodes[1]);
}

/*
 * Nodes that a checkpoint would write. The records of a segment lie in leaves of their own, and
 * its bitmaps, which take as much memory as five nodes, cannot leave memory before.
 */
static u64 dynmap_pool_dirty(const struct dynmap_pool *pool)
{
	const struct dynmap_space *space = &pool->alloc.space;

	return pool->cache.nr_dirty + space->nr_dirty / DYNMAP_RECORDS_PER_NODE +
	       space->nr_dirty_segs * DYNMAP_NODES_PER_SEG;
}

bool dynmap_pool_wants_checkpoint(const struct dynmap_pool *pool)
{
	return dynmap_journal_wants_checkpoint(&pool->journal) || pool->cache.nr_heal ||
	       dynmap_pool_dirty(pool) > dynmap_cache_due(&pool->cache);
}

bool dynmap_pool_must_wait(const struct dynmap_pool *pool)
{
	u32 due = dynmap_cache_due(&pool->cache);

	return dynmap_pool_dirty(pool) > due + due / 2;
}

bool dynmap_pool_is_changed(const struct dynmap_pool *pool)
{
	return pool->cache.nr_dirty || pool->cache.nr_heal || pool->cache.given_up ||
	       pool->alloc.space.nr_dirty || dynmap_journal_pending(&pool->journal) ||
	       pool->alloc.quarantine.blocks ||
	       dynmap_alloc_dead_list_move(&pool->alloc) || dynmap_zones_may_go(&pool->alloc);
}

/* The trees that the superblock tells of. */
static int dynmap_pool_seal(struct dynmap_pool *pool, u32 *most)
{
	int ret = dynmap_btree_seal(&pool->table.volumes, most);

	if (!ret)
		ret = dynmap_btree_seal(&pool->table.family.snaps, most);
	if (!ret)
		ret = dynmap_btree_seal(&pool->table.family.waiting, most);
	if (!ret)
		ret = dynmap_btree_seal(&pool->alloc.space.tree, most);
	if (!ret)
		ret = dynmap_btree_seal(&pool->segments, most);
	return ret;
}

int dynmap_pool_checkpoint_prepare(struct dynmap_pool *pool, struct dynmap_op *op)
{
	/* If there is no end of it others change as much meanwhile. */
	u32 most = DYNMAP_PREPARE_MOST << min(pool->prepared / DYNMAP_PREPARE_STEPS, 16U);
	int ret;

	if (pool->failed)
		return -EROFS;
	pool->prepared++;
	op->urgent = DYNMAP_URGENT_CHECKPOINT;
	ret = dynmap_family_resolve_most(&pool->table.family, most, op);
	if (ret)
		return ret;
	if (!pool->cache.nr_spare)
		return -ENOMEM;
	if (pool->gave_back != pool->cache.epoch) {
		ret = dynmap_zones_give_back(&pool->alloc, op);
		if (ret)
			return ret;
		pool->gave_back = pool->cache.epoch;
	}
	ret = dynmap_family_enter(&pool->table.family, &most, op);
	if (!ret)
		ret = dynmap_table_checkpoint(&pool->table, &most, op);
	if (!ret)
		ret = dynmap_alloc_checkpoint(&pool->alloc, &most, op);
	return ret ? ret : dynmap_pool_seal(pool, &most);
}

int dynmap_pool_checkpoint_begin(struct dynmap_pool *pool, struct dynmap_op *op)
{
	struct dynmap_disk_super *sb = pool->super;
	u64 places, owed;
	u32 all = ~0U;
	int ret;

	if (pool->failed)
		return -EROFS;
	op->urgent = DYNMAP_URGENT_CHECKPOINT;
	places = dynmap_alloc_places(&pool->alloc);
	owed = dynmap_alloc_owed(&pool->alloc);
	ret = dynmap_alloc_check_heal(&pool->alloc, op);
	if (!ret)
		ret = dynmap_family_checkpoint(&pool->table.family, &all, op);
	if (!ret)
		ret = dynmap_table_checkpoint(&pool->table, &all, op);
	if (!ret)
		ret = dynmap_alloc_checkpoint(&pool->alloc, &all, op);
	if (!ret)
		ret = dynmap_pool_seal(pool, &all);
	if (ret)
		return ret;
	/* The space contract: what operations left for it was enough. */
	WARN_ON_ONCE(places > dynmap_alloc_places(&pool->alloc) + owed);
	dynmap_table_sealed(&pool->table);
	dynmap_family_sealed(&pool->table.family);
	pool->prepared = 0;
	dynmap_btree_root(&pool->table.volumes, &sb->volume_root);
	dynmap_btree_root(&pool->alloc.space.tree, &sb->space_root);
	dynmap_btree_root(&pool->segments, &sb->segment_root);
	dynmap_btree_root(&pool->table.family.snaps, &sb->snapshot_root);
	dynmap_btree_root(&pool->table.family.waiting, &sb->dead_root);
	dynmap_tally_store(&pool->cache.tally[DYNMAP_TREE_VOLUME], &sb->volume_tally);
	dynmap_tally_store(&pool->cache.tally[DYNMAP_TREE_SPACE], &sb->space_tally);
	dynmap_tally_store(&pool->cache.tally[DYNMAP_TREE_SNAPSHOT], &sb->snapshot_tally);
	dynmap_tally_store(&pool->cache.tally[DYNMAP_TREE_DEAD], &sb->dead_tally);
	sb->epoch = cpu_to_le64(pool->cache.epoch);
	sb->generation = cpu_to_le32(pool->cache.generation);
	sb->incarnation = cpu_to_le64(pool->journal.incarnation);
	sb->journal_seq = cpu_to_le64(dynmap_journal_seal(&pool->journal));
	sb->transaction_id = cpu_to_le64(pool->table.transaction_id);
	sb->group = cpu_to_le32(pool->table.group);
	memcpy(sb->label, pool->table.name, sizeof(sb->label));
	sb->next_reap_id = cpu_to_le64(pool->table.next_reap_id);
	sb->next_snapshot_id = cpu_to_le64(pool->table.family.next_id);
	sb->data_blocks = cpu_to_le64(pool->alloc.data_allocated);
	dynmap_cache_heal_begin(&pool->cache);
	dynmap_cache_seal(&pool->cache);
	dynmap_alloc_seal(&pool->alloc);
	pool->table.family.sealed = pool->table.family.deaths;
	return 0;
}

/* Devices that are in use: while the pool grows those that are new are not yet. */
static u32 dynmap_pool_members(const struct dynmap_pool *pool)
{
	u32 nr = 0;

	while (nr < pool->geo.nr_devs && pool->alloc.space.slots[nr])
		nr++;
	return nr;
}

int dynmap_pool_checkpoint_io(struct dynmap_pool *pool)
{
	dynmap_cache_heal_write(&pool->cache);
	dynmap_cache_write(&pool->cache);
	return pool->store->ops->wait(pool->store, DYNMAP_BATCH_CHECKPOINT);
}

int dynmap_pool_checkpoint_publish(struct dynmap_pool *pool)
{
	struct dynmap_store *store = pool->store;
	u32 nr = dynmap_pool_members(pool), dev;
	int ret;

	/* A flush has failed since: what it was to cover may be lost, and the nodes map it. */
	if (READ_ONCE(pool->failed))
		return -EIO;
	for (dev = 0; dev < nr; dev++)
		store->ops->flush(store, DYNMAP_BATCH_CHECKPOINT, dev);
	ret = store->ops->wait(store, DYNMAP_BATCH_CHECKPOINT);
	if (ret)
		return ret;
	ret = dynmap_super_write(pool, min_t(u32, nr, DYNMAP_SB_DEVICES), false,
				 DYNMAP_SB_SLOT_FIRST +
				 le64_to_cpu(pool->super->epoch) % DYNMAP_SB_SLOTS);
	/* On a lone device the second copy goes to its other end. */
	return ret || nr > 1 ? ret : dynmap_super_write(pool, 1, true, 0);
}

void dynmap_pool_fail(struct dynmap_pool *pool)
{
	pool->failed = true;
	pool->journal.failed = true;
}

bool dynmap_pool_checkpoint_end(struct dynmap_pool *pool, int error)
{
	if (error) {
		dynmap_cache_heal_end(&pool->cache);
		dynmap_err("checkpoint failed: error %d", error);
		dynmap_pool_fail(pool);
		return false;
	}
	/* The first call does this, the others find it done. */
	dynmap_family_durable(&pool->table.family, pool->table.family.sealed);
	dynmap_journal_cover(&pool->journal, le64_to_cpu(pool->super->journal_seq));
	/* After a growth the ring moves. No commit has been made since the checkpoint began. */
	if (le32_to_cpu(pool->super->journal_devices) != pool->journal.nr_devs)
		dynmap_journal_spread(&pool->journal, pool->super);
	if (dynmap_cache_written(&pool->cache) || dynmap_alloc_sealed_durable(&pool->alloc))
		return true;
	dynmap_cache_heal_end(&pool->cache);
	return false;
}

void dynmap_pool_commit_begin(struct dynmap_pool *pool)
{
	dynmap_alloc_commit_begin(&pool->alloc);
	pool->table.family.committing = pool->table.family.deaths;
	dynmap_journal_commit_begin(&pool->journal);
}

int dynmap_pool_commit_io(struct dynmap_pool *pool)
{
	return dynmap_journal_commit_io(&pool->journal);
}

void dynmap_pool_commit_end(struct dynmap_pool *pool, int error)
{
	dynmap_journal_commit_end(&pool->journal, error);
	dynmap_alloc_commit_end(&pool->alloc, error);
	if (error)
		dynmap_pool_fail(pool);
	else
		dynmap_family_durable(&pool->table.family, pool->table.family.committing);
}

int dynmap_pool_commit(struct dynmap_pool *pool)
{
	int ret;

	dynmap_pool_commit_begin(pool);
	ret = dynmap_pool_commit_io(pool);
	dynmap_pool_commit_end(pool, ret);
	if (!ret)
		while (dynmap_alloc_release(&pool->alloc, &pool->alloc.quarantine))
			;
	return ret;
}

/* Bring a missing node or more memory. */
static int dynmap_pool_supply(struct dynmap_pool *pool, struct dynmap_op *op, int error)
{
	struct dynmap_buf *buf;
	u32 i;

	if (error == -EAGAIN && op->miss.ptr.pbn[0] == DYNMAP_PBN_NONE)
		return 0;
	if (error == -EAGAIN) {
		buf = dynmap_buf_alloc();
		if (!buf)
			return -ENOMEM;
		buf = dynmap_node_fetch(&pool->cache, &op->miss, buf);
		if (IS_ERR(buf))
			return PTR_ERR(buf) == -ESTALE ? 0 : PTR_ERR(buf);
		dynmap_alloc_insert(&pool->alloc, buf);
		return 0;
	}
	if (error != -ENOMEM)
		return error;
	if (op->bitmaps) {
		op->bitmaps = false;
		return dynmap_space_supply(&pool->alloc.space) ? 0 : -ENOMEM;
	}
	for (i = 0; i < DYNMAP_POOL_SPARES; i++) {
		buf = dynmap_buf_alloc();
		if (!buf)
			return -ENOMEM;
		dynmap_cache_add_spare(&pool->cache, buf);
	}
	return 0;
}

int dynmap_pool_checkpoint(struct dynmap_pool *pool)
{
	struct dynmap_op op = {};
	int ret;

	do {
		ret = dynmap_pool_checkpoint_prepare(pool, &op);
		if (!ret)
			ret = dynmap_pool_checkpoint_begin(pool, &op);
		if (!ret)
			break;
		ret = ret == -EINPROGRESS ? 0 : dynmap_pool_supply(pool, &op, ret);
	} while (!ret);
	if (ret)
		return ret;
	ret = dynmap_pool_checkpoint_io(pool);
	if (!ret)
		ret = dynmap_pool_checkpoint_publish(pool);
	while (dynmap_pool_checkpoint_end(pool, ret))
		;
	return ret ? ret : dynmap_pool_commit(pool);
}

int dynmap_pool_help(struct dynmap_pool *pool, struct dynmap_op *op, int error)
{
	if (error != -EBUSY)
		return dynmap_pool_supply(pool, op, error);
	if (pool->journal.replaying)
		return -EUCLEAN;
	return dynmap_pool_checkpoint(pool);
}

int dynmap_pool_reclaim(struct dynmap_pool *pool, u64 want)
{
	struct dynmap_reclaim reclaim;
	struct dynmap_op op = {};
	int ret = 0;

	dynmap_reclaim_begin(&pool->table, &reclaim);
	while (!ret && reclaim.freed < want)
		dynmap_helped(ret, pool, &op, dynmap_table_reclaim(&pool->table, &reclaim, &op));
	if (ret && ret != -ENOENT)
		return ret;
	return reclaim.freed ? dynmap_pool_commit(pool) : -ENOSPC;
}
