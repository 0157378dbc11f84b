// SPDX-License-Identifier: GPL-2.0-only
/*
 * Growth, see core/grow.h. Callers: the kernel's pool object, tools and tests.
 */
#include "core/grow.h"

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
