// SPDX-License-Identifier: GPL-2.0-only
/*
 * Formatting and opening of pools, and recovery, see core/open.h. Callers: the kernel's pool
 * object, tools and tests.
 */
#include "core/open.h"

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
	sb->dead_root = none;
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
	/* Without them nothing is free too early: to be read the pool opens all the same. */
	if (ret && readonly && ret != -ENOMEM) {
		dynmap_err("dead extents that wait cannot be read: error %d", ret);
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
		dynmap_alloc_reset_busy(&pool->alloc);
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
