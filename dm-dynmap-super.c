// SPDX-License-Identifier: GPL-2.0-only
/*
 * Superblocks and the life of a pool, see dm-dynmap-pool.h. Callers: the
 * kernel's pool object, tools and tests.
 *
 * Superblocks: each checkpoint writes one slot on two devices, slots in turn, so
 * that a torn write leaves the two before; on a lone device slot and backup.
 * Home and backup slot of all devices are written when a pool is formatted,
 * opened or grows: they say what the device is, even if all else is gone.
 */
#include "dm-dynmap-pool.h"

#define DYNMAP_SB_DEVICES	2	/* a checkpoint writes that many superblocks */
#define DYNMAP_MAX_EPOCH	(1ULL << 62)	/* none gets there by counting */
#define DYNMAP_RECORDS_PER_NODE	16	/* records of the space tree that will make a node dirty */
#define DYNMAP_NODES_PER_SEG	2	/* that a segment with such records counts for */
#define DYNMAP_PREPARE_MOST	64	/* nodes sealed and records entered in one hold */
#define DYNMAP_PREPARE_STEPS	1024	/* such holds until it is twice as many */

static u32 dynmap_super_crc(const struct dynmap_disk_super *sb)
{
	const u8 *bytes = (const u8 *)sb;
	__le32 zero = 0;
	u32 crc;

	crc = crc32c(~0U, bytes, offsetof(struct dynmap_disk_super, crc));
	crc = crc32c(crc, &zero, sizeof(zero));
	return ~crc32c(crc, bytes + offsetof(struct dynmap_disk_super, version),
		       DYNMAP_BLOCK_BYTES - offsetof(struct dynmap_disk_super, version));
}

static const char *dynmap_super_check_devices(const struct dynmap_disk_super *sb)
{
	u32 nr = le32_to_cpu(sb->nr_devices), i;
	struct dynmap_dev dev;
	const char *failed;

	for (i = 0; i < nr; i++) {
		failed = dynmap_dev_load(&dev, &sb->device[i]);
		if (failed)
			return failed;
	}
	if (!sb->journal_devices || le32_to_cpu(sb->journal_devices) >
				    dynmap_journal_carriers(sb, le32_to_cpu(sb->journal_blocks)))
		return "journal devices";
	return NULL;
}

static const char *dynmap_super_check(const struct dynmap_disk_super *sb)
{
	u32 nr = le32_to_cpu(sb->nr_devices);
	u32 unit = le32_to_cpu(sb->alloc_blocks);

	if (!nr || nr > DYNMAP_MAX_DEVICES || le32_to_cpu(sb->this_device) >= nr)
		return "number of devices";
	if (!unit || unit & (unit - 1) || unit > DYNMAP_MAX_ALLOC_BLOCKS)
		return "allocation size";
	if (le32_to_cpu(sb->copies) < 1 || le32_to_cpu(sb->copies) > 2)
		return "copies";
	if (le32_to_cpu(sb->journal_blocks) < DYNMAP_JOURNAL_MIN_BLOCKS)
		return "journal length";
	if (le64_to_cpu(sb->next_reap_id) <= DYNMAP_MAX_VOLUME_ID ||
	    le64_to_cpu(sb->next_reap_id) > DYNMAP_MAX_REAP_ID + 1)
		return "next id";
	if (!sb->generation || !sb->next_snapshot_id ||
	    le64_to_cpu(sb->next_snapshot_id) > DYNMAP_MAX_SNAPSHOT_ID + 1)
		return "generation";
	if (le64_to_cpu(sb->epoch) > DYNMAP_MAX_EPOCH)
		return "epoch";
	if (!dynmap_name_is_valid(sb->label))
		return "name";
	return dynmap_super_check_devices(sb);
}

int dynmap_super_verify(const struct dynmap_disk_super *sb)
{
	const char *failed;

	if (dynmap_block_is_zero(sb))
		return -ENODATA;
	if (le64_to_cpu(sb->magic) != DYNMAP_SB_MAGIC)
		return -ENOMSG;
	if (le32_to_cpu(sb->crc) != dynmap_super_crc(sb))
		return -EBADMSG;
	if (le32_to_cpu(sb->version) != DYNMAP_FORMAT_VERSION ||
	    le64_to_cpu(sb->incompat) & ~DYNMAP_INCOMPAT_KNOWN)
		return -EOPNOTSUPP;
	failed = dynmap_super_check(sb);
	if (failed) {
		dynmap_err("superblock: bad %s", failed);
		return -EUCLEAN;
	}
	return 0;
}

/* Does dynmap_super_verify() say that it is a superblock of ours, understood or not? */
static bool dynmap_super_is_ours(int verdict)
{
	return !verdict || verdict == -EOPNOTSUPP || verdict == -EUCLEAN;
}

/**
 * struct dynmap_probe - the slots of a device, one after the other
 * @sb: the newest superblock so far
 * @found: there is one
 * @verdict: of dynmap_super_verify() on it
 * @intact: all slots but the home slot are good, or were never written
 * @dev_blocks: length of the device
 * @backup: where the newest superblock so far says that the backup slot is
 */
struct dynmap_probe {
	struct dynmap_disk_super *sb;
	bool found;
	int verdict;
	bool intact;
	u64 dev_blocks;
	u64 backup;
};

/* Take note of what a slot holds, @verdict. */
static void dynmap_probe_slot(struct dynmap_probe *probe, const struct dynmap_disk_super *block,
			      u32 slot, int verdict)
{
	struct dynmap_disk_super *sb = probe->sb;
	u64 blocks;

	if (slot && verdict && verdict != -ENODATA)
		probe->intact = false;
	if (!dynmap_super_is_ours(verdict))
		return;
	if (probe->found && memcmp(block->uuid, sb->uuid, sizeof(sb->uuid))) {
		probe->intact = false;
		return;
	}
	if (probe->found && le64_to_cpu(block->epoch) <= le64_to_cpu(sb->epoch))
		return;
	memcpy(sb, block, sizeof(*sb));
	probe->found = true;
	probe->verdict = verdict;
	/*
	 * The device may have become longer: the superblocks know where the backup is. Older
	 * ones, from before the pool grew, name another place.
	 */
	if (verdict)
		return;
	blocks = le64_to_cpu(sb->device[le32_to_cpu(sb->this_device)].blocks);
	probe->backup = min(blocks, probe->dev_blocks) - 1;
}

/*
 * Read all slots of one device: the newest superblock to @sb. *alone is
 * false if the home slot holds something foreign and the others do not prove
 * that it alone was overwritten: each is good or was never written, and the
 * backup is good. What makes a device into something else (file systems,
 * partition tables) writes to more than the home slot.
 */
static int dynmap_super_probe(struct dynmap_store *store, u32 dev, u64 dev_blocks,
			      struct dynmap_disk_super *sb, bool *alone)
{
	struct dynmap_probe probe = { .sb = sb, .intact = true, .dev_blocks = dev_blocks,
				      .backup = dev_blocks - 1 };
	struct dynmap_disk_super *block;
	int home = -ENODATA, ret = 0;
	u32 i;

	if (dev_blocks < DYNMAP_MIN_DEVICE_BLOCKS)
		return -ENOSPC;
	block = dynmap_block_alloc();
	if (!block)
		return -ENOMEM;
	for (i = 0; i <= DYNMAP_SB_SLOT_FIRST + DYNMAP_SB_SLOTS; i++) {
		ret = store->ops->read(store, dev, i < DYNMAP_SB_SLOT_FIRST + DYNMAP_SB_SLOTS ?
				       i : probe.backup, block);
		if (!ret)
			ret = dynmap_super_verify(block);
		if (!i)
			home = ret;
		dynmap_probe_slot(&probe, block, i, ret);
	}
	dynmap_block_free(block);
	/* The backup was the last one: @ret is what was found there. */
	*alone = home != -ENOMSG || (probe.intact && !ret);
	return probe.found ? probe.verdict : home;
}

int dynmap_super_read(struct dynmap_store *store, u32 dev, u64 dev_blocks,
		      struct dynmap_disk_super *sb)
{
	bool alone = false;
	int ret = dynmap_super_probe(store, dev, dev_blocks, sb, &alone);

	return ret || alone ? ret : -ENOMSG;
}

/* Does the good superblock @sb name the device of @other as part of its pool? */
static bool dynmap_super_vouches(const struct dynmap_disk_super *sb,
				 const struct dynmap_disk_super *other)
{
	u32 at = le32_to_cpu(other->this_device);

	return !memcmp(sb->uuid, other->uuid, sizeof(sb->uuid)) &&
	       at < le32_to_cpu(sb->nr_devices) &&
	       !memcmp(sb->device[at].uuid, other->device[at].uuid, DYNMAP_UUID_BYTES);
}

/*
 * Did the device of @member miss an opening that @newest tells of? While the devices are
 * told of an opening some still carry the one before: nothing else was written since.
 */
static bool dynmap_super_is_stale(const struct dynmap_disk_super *newest,
				  const struct dynmap_disk_super *member)
{
	if (memcmp(newest->uuid, member->uuid, sizeof(newest->uuid)) ||
	    member->opening == newest->opening)
		return false;
	return newest->flags & cpu_to_le64(DYNMAP_SB_OPENED) ||
	       member->opening != newest->last_opening;
}

int dynmap_super_scan(struct dynmap_store *store, u32 nr_devs, const u64 *blocks,
		      struct dynmap_disk_super *supers, int *errors)
{
	bool alone[DYNMAP_MAX_DEVICES] = {}, vouched;
	u32 i, j, newest = nr_devs;

	for (i = 0; i < nr_devs; i++)
		errors[i] = dynmap_super_probe(store, i, blocks[i], &supers[i], &alone[i]);
	for (i = 0; i < nr_devs; i++) {
		vouched = alone[i];
		for (j = 0; j < nr_devs && !errors[i] && !vouched; j++)
			vouched = !errors[j] && alone[j] &&
				  dynmap_super_vouches(&supers[j], &supers[i]);
		if (!errors[i] && !vouched)
			errors[i] = -ENOMSG;
		if (!errors[i] && (newest == nr_devs || le64_to_cpu(supers[i].epoch) >
							le64_to_cpu(supers[newest].epoch)))
			newest = i;
	}
	if (newest == nr_devs)
		return -ENODATA;
	for (i = 0; i < nr_devs; i++)
		if (!errors[i] && dynmap_super_is_stale(&supers[newest], &supers[i]))
			errors[i] = -ESTALE;
	return newest;
}

const char *dynmap_geometry_init(struct dynmap_geometry *geo, struct dynmap_store *store,
				 const struct dynmap_disk_super *sb)
{
	const char *failed = NULL;
	u32 i;

	memset(geo, 0, sizeof(*geo));
	geo->store = store;
	geo->nr_devs = le32_to_cpu(sb->nr_devices);
	for (i = 0; i < geo->nr_devs && !failed; i++)
		failed = dynmap_dev_load(&geo->dev[i], &sb->device[i]);
	return failed;
}

static void dynmap_tally_load(struct dynmap_tally *tally, const struct dynmap_disk_tally *disk)
{
	tally->nodes[0] = le32_to_cpu(disk->leaves);
	tally->nodes[1] = le32_to_cpu(disk->inner);
}

static void dynmap_tally_store(const struct dynmap_tally *tally, struct dynmap_disk_tally *disk)
{
	disk->leaves = cpu_to_le32(tally->nodes[0]);
	disk->inner = cpu_to_le32(tally->nodes[1]);
}

/* All parts of a pool as its superblock says, trees not yet read. */
static int dynmap_pool_init(struct dynmap_pool *pool, struct dynmap_store *store,
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
	dynmap_tally_load(&pool->cache.tally[DYNMAP_TREE_KILL], &sb->kill_tally);
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
	    !dynmap_btree_root_valid(&pool->geo, &sb->kill_root) ||
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
	       dynmap_alloc_kills_move(&pool->alloc) || dynmap_zones_may_go(&pool->alloc);
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
	ret = dynmap_family_settle_most(&pool->table.family, most, op);
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
	dynmap_btree_root(&pool->table.family.waiting, &sb->kill_root);
	dynmap_tally_store(&pool->cache.tally[DYNMAP_TREE_VOLUME], &sb->volume_tally);
	dynmap_tally_store(&pool->cache.tally[DYNMAP_TREE_SPACE], &sb->space_tally);
	dynmap_tally_store(&pool->cache.tally[DYNMAP_TREE_SNAPSHOT], &sb->snapshot_tally);
	dynmap_tally_store(&pool->cache.tally[DYNMAP_TREE_KILL], &sb->kill_tally);
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

/* Start writing the superblock of one device; wait for it, too, if asked for. */
static int dynmap_super_write_one(struct dynmap_pool *pool, u32 dev, u64 slot, bool wait)
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
static int dynmap_super_write(struct dynmap_pool *pool, u32 nr_devs, bool backup, u64 slot)
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

/* Call @expression until it needs no more help; its result in @ret. */
#define dynmap_helped(ret, pool, op, expression)				\
	do {									\
		(ret) = (expression);						\
		if (!(ret) || (ret) == -ENOENT)					\
			break;							\
		(ret) = dynmap_pool_help(pool, op, ret);			\
	} while (!(ret))

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

/*
 * Current slot, backup and home of every device; for pools that change shape. The
 * home slot is last: while it is torn, all others are intact, which tells that the
 * device is ours (see dynmap_super_probe()).
 */
static int dynmap_super_write_all(struct dynmap_pool *pool)
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

int dynmap_growth_prepare(struct dynmap_growth *growth, const struct dynmap_pool *pool,
			  u32 nr_devs, const u64 *blocks, const u8 *uuids)
{
	struct dynmap_dev *dev;
	int ret = 0;
	u32 i;

	memset(growth, 0, sizeof(*growth));
	if (nr_devs < pool->geo.nr_devs || nr_devs > DYNMAP_MAX_DEVICES)
		return -EINVAL;
	growth->nr_devs = nr_devs;
	for (i = 0; i < nr_devs && !ret; i++) {
		dev = &growth->dev[i];
		if (i < pool->geo.nr_devs) {
			*dev = pool->geo.dev[i];
			ret = dynmap_dev_grow(dev, blocks[i]);
			/* What is less than a zone is left alone. */
			if (!ret && dynmap_dev_data_blocks(dev) == pool->alloc.space.dev_total[i]) {
				*dev = pool->geo.dev[i];
				continue;
			}
		} else {
			ret = dynmap_dev_layout(dev, blocks[i]);
			memcpy(dev->uuid, uuids + i * DYNMAP_UUID_BYTES, sizeof(dev->uuid));
		}
		if (ret)
			break;
		growth->changes = true;
		growth->grows[i] = true;
		if (i < pool->geo.nr_devs)
			continue;
		growth->top[i] = dynmap_space_new_top(i);
		if (!growth->top[i])
			ret = -ENOMEM;
	}
	return ret;
}

int dynmap_growth_begin(struct dynmap_growth *growth, struct dynmap_pool *pool)
{
	struct dynmap_disk_super *sb = pool->super;
	u32 i;

	if (pool->failed)
		return -EROFS;
	growth->old_nr_devs = pool->geo.nr_devs;
	growth->old_journal_devices = sb->journal_devices;
	for (i = 0; i < growth->nr_devs; i++) {
		growth->old_dev[i] = pool->geo.dev[i];
		pool->geo.dev[i] = growth->dev[i];
		dynmap_dev_store(&growth->dev[i], &sb->device[i]);
	}
	pool->geo.nr_devs = growth->nr_devs;
	sb->nr_devices = cpu_to_le32(growth->nr_devs);
	/* The journal goes to all that have room for it, once this superblock is durable. */
	sb->journal_devices = cpu_to_le32(dynmap_journal_carriers(sb, pool->journal.blocks));
	return 0;
}

bool dynmap_growth_undo(struct dynmap_growth *growth, struct dynmap_pool *pool)
{
	struct dynmap_disk_super *sb = pool->super;
	u32 i;

	for (i = 0; i < growth->nr_devs; i++) {
		pool->geo.dev[i] = growth->old_dev[i];
		if (i < growth->old_nr_devs)
			dynmap_dev_store(&growth->old_dev[i], &sb->device[i]);
		else
			memset(&sb->device[i], 0, sizeof(sb->device[i]));
	}
	pool->geo.nr_devs = growth->old_nr_devs;
	sb->nr_devices = cpu_to_le32(growth->old_nr_devs);
	sb->journal_devices = growth->old_journal_devices;
	return growth->durable && !pool->failed;
}

/* Zeros over all superblock slots of a device: what was there before is no superblock of ours. */
static int dynmap_super_wipe(struct dynmap_pool *pool, u32 dev)
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

/*
 * A superblock that tells of a device must not be found before the device says
 * that it belongs to the pool: else the pool could not be opened any more. The old
 * devices are left alone: a flush that fails here would not be known to commits. What
 * is said on new devices is older than what the old ones say: nothing of it counts yet, not
 * even where the journal is looked for.
 */
int dynmap_growth_announce(struct dynmap_growth *growth, struct dynmap_pool *pool)
{
	__le64 epoch = pool->super->epoch;
	int ret = 0;
	u32 dev;

	pool->super->epoch = cpu_to_le64(le64_to_cpu(epoch) - 1);
	for (dev = growth->old_nr_devs; dev < growth->nr_devs && !ret; dev++) {
		ret = dynmap_super_wipe(pool, dev);
		if (!ret)
			ret = dynmap_super_write_one(pool, dev, DYNMAP_SB_HOME, true);
	}
	pool->super->epoch = epoch;
	return ret;
}

int dynmap_growth_write(struct dynmap_growth *growth, struct dynmap_pool *pool)
{
	growth->durable = true;
	return dynmap_super_write_all(pool);
}

void dynmap_growth_end(struct dynmap_growth *growth, struct dynmap_pool *pool)
{
	u32 i;

	for (i = 0; i < growth->nr_devs; i++)
		if (growth->grows[i])
			dynmap_alloc_grow_end(&pool->alloc, i, &growth->top[i]);
}

void dynmap_growth_exit(struct dynmap_growth *growth)
{
	u32 i;

	for (i = 0; i < DYNMAP_MAX_DEVICES; i++)
		dynmap_free(growth->top[i]);
}

static int dynmap_grow_steps(struct dynmap_pool *pool, struct dynmap_growth *growth)
{
	int ret = dynmap_growth_begin(growth, pool);

	if (ret)
		return ret;
	ret = dynmap_growth_announce(growth, pool);
	if (!ret)
		ret = dynmap_pool_checkpoint(pool);
	if (!ret)
		ret = dynmap_growth_write(growth, pool);
	if (!ret)
		dynmap_growth_end(growth, pool);
	else if (dynmap_growth_undo(growth, pool) &&
		 (dynmap_pool_checkpoint(pool) || dynmap_growth_write(growth, pool)))
		dynmap_err("superblocks may name devices that did not join the pool");
	return ret;
}

int dynmap_pool_grow(struct dynmap_pool *pool, u32 nr_devs, const u64 *blocks, const u8 *uuids)
{
	struct dynmap_growth *growth = dynmap_zalloc(sizeof(*growth));
	int ret;

	if (!growth)
		return -ENOMEM;
	ret = dynmap_growth_prepare(growth, pool, nr_devs, blocks, uuids);
	if (!ret && growth->changes)
		ret = dynmap_grow_steps(pool, growth);
	dynmap_growth_exit(growth);
	dynmap_free(growth);
	return ret;
}

/* The longest ring that two devices have room for, or the only one. */
static u32 dynmap_format_ring(const struct dynmap_disk_super *sb)
{
	u32 wanted = min_t(u32, le32_to_cpu(sb->nr_devices), 2), ring = 0, dev, blocks;

	for (dev = 0; dev < le32_to_cpu(sb->nr_devices); dev++) {
		blocks = le32_to_cpu(sb->device[dev].journal_blocks);
		if (blocks > ring && dynmap_journal_carriers(sb, blocks) >= wanted)
			ring = blocks;
	}
	return ring;
}

static void dynmap_format_super(struct dynmap_disk_super *sb,
				const struct dynmap_format_params *params)
{
	struct dynmap_disk_root none = {
		.pbn_a = cpu_to_le64(DYNMAP_PBN_NONE),
		.pbn_b = cpu_to_le64(DYNMAP_PBN_NONE),
	};
	struct dynmap_dev dev;
	u32 i;

	memset(sb, 0, sizeof(*sb));
	sb->magic = cpu_to_le64(DYNMAP_SB_MAGIC);
	sb->version = cpu_to_le32(DYNMAP_FORMAT_VERSION);
	memcpy(sb->uuid, params->uuid, sizeof(sb->uuid));
	sb->nr_devices = cpu_to_le32(params->nr_devs);
	for (i = 0; i < params->nr_devs; i++) {
		if (dynmap_dev_layout(&dev, params->dev_blocks[i]))
			return;		/* the caller's dynmap_super_check() refuses it */
		memcpy(dev.uuid, params->dev_uuid[i], DYNMAP_UUID_BYTES);
		dynmap_dev_store(&dev, &sb->device[i]);
	}
	sb->flags = cpu_to_le64(DYNMAP_SB_OPENED);
	sb->incarnation = cpu_to_le64(1);
	sb->journal_seq = cpu_to_le64(1);
	sb->generation = cpu_to_le32(1);
	sb->journal_blocks = cpu_to_le32(dynmap_format_ring(sb));
	sb->journal_devices = cpu_to_le32(dynmap_journal_carriers(sb, dynmap_format_ring(sb)));
	sb->alloc_blocks = cpu_to_le32(params->alloc_blocks);
	sb->copies = cpu_to_le32(params->copies);
	sb->next_reap_id = cpu_to_le64((u64)DYNMAP_MAX_VOLUME_ID + 1);
	sb->next_snapshot_id = cpu_to_le64(1);
	sb->volume_root = none;
	sb->space_root = none;
	sb->segment_root = none;
	sb->snapshot_root = none;
	sb->kill_root = none;
	if (params->label)
		memcpy(sb->label, params->label,
		       min(strlen(params->label), sizeof(sb->label) - 1));
}

/* No superblock of an earlier pool may outlive the formatting. */
static int dynmap_format_wipe(struct dynmap_pool *pool)
{
	int ret = 0;
	u32 dev;

	for (dev = 0; dev < pool->geo.nr_devs && !ret; dev++)
		ret = dynmap_super_wipe(pool, dev);
	return ret;
}

static int dynmap_format_fill(struct dynmap_pool *pool)
{
	struct dynmap_op op = {};
	int ret = dynmap_alloc_format(&pool->alloc, &op);

	if (!ret)
		ret = dynmap_format_wipe(pool);
	if (!ret)
		ret = dynmap_pool_checkpoint(pool);
	return ret ? ret : dynmap_super_write_all(pool);
}

int dynmap_pool_format(struct dynmap_store *store, const struct dynmap_format_params *params)
{
	struct dynmap_disk_super *sb;
	struct dynmap_pool *pool;
	u32 i;
	int ret = -EINVAL;

	if (!params->nr_devs || params->nr_devs > DYNMAP_MAX_DEVICES)
		return -EINVAL;
	for (i = 0; i < params->nr_devs; i++)
		if (params->dev_blocks[i] < DYNMAP_MIN_DEVICE_BLOCKS)
			return -ENOSPC;
	sb = dynmap_block_alloc();
	pool = dynmap_zalloc(sizeof(*pool));
	if (!sb || !pool) {
		ret = -ENOMEM;
		goto free;
	}
	dynmap_format_super(sb, params);
	if (dynmap_super_check(sb))
		goto free;
	ret = dynmap_pool_init(pool, store, sb, 0);
	if (!ret)
		ret = dynmap_format_fill(pool);
	dynmap_pool_close(pool);
free:
	dynmap_free(pool);
	dynmap_block_free(sb);
	return ret;
}

/* Metadata must not use what the records of a journal block, from @first on, reserve. */
static int dynmap_replay_avoid(struct dynmap_pool *pool, const struct dynmap_disk_journal *block,
			       u32 first)
{
	const struct dynmap_disk_record *record;
	struct dynmap_op op = {};
	int ret = 0;
	u32 i;

	for (i = first; !ret && i < le16_to_cpu(block->count); i++) {
		record = &block->record[i];
		if (record->kind == DYNMAP_REC_RESERVE || record->kind == DYNMAP_REC_REDIRECT)
			dynmap_helped(ret, pool, &op,
				      dynmap_alloc_avoid(&pool->alloc, le64_to_cpu(record->map.pbn),
							 le16_to_cpu(record->len) + 1, &op));
		if (ret)
			dynmap_err("journal block %llu, record %u: bad place",
				   (unsigned long long)le64_to_cpu(block->seq), i);
	}
	return ret;
}

/* The same for all blocks of the journal from @seq on; where it ends goes to *@end. */
static int dynmap_replay_learn(struct dynmap_pool *pool, u64 seq, u64 *end)
{
	struct dynmap_disk_journal *block = pool->io_block[1];
	int ret = 0;

	for (; !ret && seq - pool->journal.tail < pool->journal.blocks; seq++) {
		ret = dynmap_journal_read(&pool->journal, seq, block);
		if (ret)
			break;
		ret = dynmap_replay_avoid(pool, block, 0);
	}
	*end = seq;
	return ret == -ENODATA ? 0 : ret;
}

/*
 * There are no places for nodes. What the records so far freed can give some: they are
 * durable, and in the run that is repeated it was perhaps used again already. But what
 * later records reserve holds data that they map. The rest of the journal is read each
 * time, which is rare: only when the pool is full. -ENOSPC: nothing was freed.
 */
static int dynmap_replay_release(struct dynmap_pool *pool, u64 seq, u32 next)
{
	int ret;
	u64 end;

	if (!dynmap_alloc_release_replayed(&pool->alloc))
		return -ENOSPC;
	ret = dynmap_replay_avoid(pool, pool->io_block[0], next);
	return ret ? ret : dynmap_replay_learn(pool, seq + 1, &end);
}

/* Execute record @i of the journal block in io_block[0]. */
static int dynmap_replay_record(struct dynmap_pool *pool, u64 seq, u32 i)
{
	const struct dynmap_disk_journal *block = pool->io_block[0];
	const struct dynmap_disk_record *record = &block->record[i];
	struct dynmap_op op = {};
	int ret;

	do {
		dynmap_helped(ret, pool, &op, dynmap_table_replay(&pool->table, record, &op));
		if (ret == -ENOSPC)
			ret = dynmap_replay_release(pool, seq, i) ? ret : -EAGAIN;
	} while (ret == -EAGAIN);
	pool->replayed++;
	if (!ret)
		return 0;
	dynmap_err("journal block %llu, record %u, kind %u, volume %u, lbn %llu: error %d",
		   (unsigned long long)seq, i, record->kind, le32_to_cpu(record->volume),
		   (unsigned long long)le64_to_cpu(record->map.lbn), ret);
	return ret == -ENOENT ? -EUCLEAN : ret;
}

/* Execute all records of the journal, which ends at its head. */
static int dynmap_replay_execute(struct dynmap_pool *pool)
{
	const struct dynmap_disk_journal *block = pool->io_block[0];
	u64 seq;
	int ret;
	u32 i;

	for (seq = pool->journal.tail; seq != pool->journal.head; seq++) {
		ret = dynmap_journal_read(&pool->journal, seq, pool->io_block[0]);
		for (i = 0; !ret && i < le16_to_cpu(block->count); i++)
			ret = dynmap_replay_record(pool, seq, i);
		if (ret)
			return ret == -ENODATA ? -EIO : ret;
	}
	return 0;
}

/* Write a superblock slot of a device anew if it does not hold a good one of this pool. */
static int dynmap_open_slot(struct dynmap_pool *pool, u32 dev, u64 slot)
{
	const struct dynmap_disk_super *sb = pool->io_block[0];
	int ret = pool->store->ops->read(pool->store, dev, slot, pool->io_block[0]);

	if (!ret)
		ret = dynmap_super_verify(sb);
	if (!ret && memcmp(sb->uuid, pool->super->uuid, sizeof(sb->uuid)))
		ret = -ENOMSG;
	if (!ret || (ret == -ENODATA && slot != DYNMAP_SB_HOME))
		return 0;
	dynmap_err("device %u: bad superblock in block %llu, written anew", dev,
		   (unsigned long long)slot);
	pool->cache.healed++;
	return dynmap_super_write_one(pool, dev, slot, true);
}

/*
 * Bad superblocks, torn when the power failed, are written anew one after the other before
 * all home slots are, which might be torn, too: while a home slot is bad all others of the
 * device have to be good, or they do not tell whose it is.
 */
static int dynmap_open_supers(struct dynmap_pool *pool)
{
	u32 dev, i;
	int ret = 0;

	for (dev = 0; dev < pool->geo.nr_devs && !ret; dev++) {
		for (i = 0; i < DYNMAP_SB_SLOTS && !ret; i++)
			ret = dynmap_open_slot(pool, dev, DYNMAP_SB_SLOT_FIRST + i);
		if (!ret)
			ret = dynmap_open_slot(pool, dev, pool->geo.dev[dev].blocks - 1);
		if (!ret)
			ret = dynmap_open_slot(pool, dev, DYNMAP_SB_HOME);
	}
	return ret;
}

/* What a lost block recorded is lost, and what came after it: only for rescue. */
static int dynmap_replay_verify(struct dynmap_pool *pool, bool readonly)
{
	u64 end = pool->journal.head;
	int ret;

	if (end - pool->journal.tail == pool->journal.blocks)
		return 0;
	ret = dynmap_journal_verify_end(&pool->journal, end, pool->io_block[0]);
	if (ret)
		dynmap_err("journal block %llu is destroyed, acknowledged changes from there on are lost%s",
			   (unsigned long long)end, readonly ? "" : ": read_only opens the pool");
	return readonly ? 0 : ret;
}

/*
 * Begin an opening: all devices learn its number before anything else is written, and a
 * last superblock tells that they did. One that was interrupted goes on with its number,
 * as a part of the devices may carry it.
 */
static void dynmap_opening_begin(struct dynmap_pool *pool, u64 opening)
{
	struct dynmap_disk_super *sb = pool->super;

	if (!(sb->flags & cpu_to_le64(DYNMAP_SB_OPENED)))
		return;
	sb->last_opening = sb->opening;
	sb->opening = cpu_to_le64(opening);
	sb->flags &= ~cpu_to_le64(DYNMAP_SB_OPENED);
}

static int dynmap_opening_end(struct dynmap_pool *pool)
{
	int ret = dynmap_super_write_all(pool);

	if (ret)
		return ret;
	pool->super->flags |= cpu_to_le64(DYNMAP_SB_OPENED);
	return dynmap_pool_checkpoint(pool);
}

/* Delete the snapshots of a group that was not complete when the power failed. */
static int dynmap_recover_members(struct dynmap_pool *pool, u8 urgent)
{
	struct dynmap_op op = { .urgent = urgent };
	int ret = 0;

	while (!ret)
		dynmap_helped(ret, pool, &op, dynmap_group_abort(&pool->table, &op));
	return ret == -ENOENT ? 0 : ret;
}

/*
 * None of such a group stays. To delete its snapshots takes checkpoints where space is scarce,
 * as in the run, where deletions may have gone on to where theirs ends; if the power fails
 * meanwhile the superblock still tells of the group.
 */
static int dynmap_recover_group(struct dynmap_pool *pool)
{
	struct dynmap_op op = {};
	int ret;

	if (!pool->table.group)
		return 0;
	ret = dynmap_recover_members(pool, DYNMAP_URGENT_REAP);
	if (!ret)
		dynmap_helped(ret, pool, &op, dynmap_group_end(&pool->table, &op));
	return ret ? ret : dynmap_pool_checkpoint(pool);
}

/* The same in memory only, of a pool that is opened to be read: as far as there is space. */
static int dynmap_hide_group(struct dynmap_pool *pool)
{
	int ret = pool->table.group ? dynmap_recover_members(pool, DYNMAP_URGENT_CHECKPOINT) : 0;

	if (ret == -ENOSPC) {
		dynmap_err("snapshots of a group that is not complete are shown: no space to hide them");
		ret = 0;
	}
	return ret;
}

static int dynmap_pool_recover(struct dynmap_pool *pool, u64 opening)
{
	bool readonly = opening == DYNMAP_OPEN_READ_ONLY;
	struct dynmap_op op = {};
	int ret;

	pool->journal.replaying = true;
	dynmap_helped(ret, pool, &op, dynmap_family_load(&pool->table.family, &op));
	/* Without kills nothing is free too early: to be read the pool opens all the same. */
	if (ret && readonly && ret != -ENOMEM) {
		dynmap_err("kills that wait cannot be read: error %d", ret);
		ret = 0;
	}
	if (!ret)
		ret = dynmap_replay_learn(pool, pool->journal.tail, &pool->journal.head);
	if (!ret)
		ret = dynmap_replay_verify(pool, readonly);
	if (!ret)
		ret = dynmap_replay_execute(pool);
	dynmap_alloc_release_replayed(&pool->alloc);
	if (!ret && readonly)
		ret = dynmap_hide_group(pool);
	pool->journal.replaying = false;
	if (!ret)
		dynmap_helped(ret, pool, &op, dynmap_alloc_drain(&pool->alloc, &op));
	if (ret || readonly)
		return ret;
	pool->table.family.durable = pool->table.family.deaths;
	pool->journal.incarnation++;
	pool->journal.tail = pool->journal.head;
	pool->journal.durable = pool->journal.head;
	dynmap_opening_begin(pool, opening);
	ret = dynmap_pool_checkpoint(pool);
	if (!ret)
		ret = dynmap_opening_end(pool);
	if (!ret)
		ret = dynmap_recover_group(pool);
	if (!ret)
		dynmap_alloc_settle(&pool->alloc);
	return ret;
}

/* Features that a reader does not know and may ignore as long as nothing is written. */
static int dynmap_open_features(const struct dynmap_disk_super *sb, u64 opening)
{
	if (opening == DYNMAP_OPEN_READ_ONLY ||
	    !(le64_to_cpu(sb->ro_compat) & ~DYNMAP_RO_COMPAT_KNOWN))
		return 0;
	dynmap_err("the pool has features that allow only to read it (%llx): open it read-only",
		   (unsigned long long)le64_to_cpu(sb->ro_compat));
	return -EROFS;
}

int dynmap_pool_open(struct dynmap_pool *pool, struct dynmap_store *store,
		     const struct dynmap_disk_super *super, u32 bufs, u64 opening)
{
	int ret = dynmap_open_features(super, opening);
	struct dynmap_op op = {};

	if (ret)
		return ret;
	ret = dynmap_pool_init(pool, store, super, bufs);
	if (!ret && opening != DYNMAP_OPEN_READ_ONLY)
		ret = dynmap_open_supers(pool);
	if (!ret)
		dynmap_helped(ret, pool, &op,
			      dynmap_alloc_open(&pool->alloc, le64_to_cpu(super->data_blocks),
						&op));
	if (!ret)
		ret = dynmap_pool_recover(pool, opening);
	if (ret)
		dynmap_pool_close(pool);
	return ret;
}
