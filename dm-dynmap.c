// SPDX-License-Identifier: GPL-2.0-only
/*
 * The device-mapper targets "dynmap-pool" and "dynmap".
 *
 * Owns: constructors and destructors, status, the list of pools. What happens to a bio is in
 * kernel/io.c and kernel/fresh.c, a pool's life in kernel/pool.c, its modes in kernel/space.c,
 * messages and limits in files of that name, and everything that understands the format in the
 * core (core/files.mk).
 *
 * Tables:
 *   dynmap-pool <#devs> <dev>... <allocation size, sectors>
 *		 <low water mark, allocation units> [<#features> <feature>...]
 *   dynmap <pool dev> <volume id> [<external origin dev>]
 */
#include <linux/module.h>

#include "kernel/dynmap.h"

static LIST_HEAD(dynmap_pools);
static DEFINE_MUTEX(dynmap_pools_lock);

/**
 * struct dynmap_target - a pool target
 * @pool: its pool
 * @dev: its devices
 * @nr_devs: how many
 * @alloc_sectors: allocation size asked for
 * @low_water: low water mark asked for, allocation units
 * @read_only: feature
 * @error_if_no_space: feature
 * @no_passdown: feature
 * @accept_stale: feature
 */
struct dynmap_target {
	struct dynmap_kpool *pool;
	struct dm_dev *dev[DYNMAP_MAX_DEVICES];
	u32 nr_devs;
	u32 alloc_sectors;
	u64 low_water;
	bool read_only;
	bool error_if_no_space;
	bool no_passdown;
	bool accept_stale;
};

/* Devices of the table that are not the pool's: may they join it? */
static int dynmap_check_joining(struct dynmap_target *target, struct dynmap_kpool *pool,
				char **error)
{
	int ret = 0;
	u32 i;

	for (i = 0; i < target->nr_devs && !ret; i++) {
		if (dynmap_kpool_uses(pool, target->dev[i]->bdev))
			continue;
		ret = dynmap_limits_check_joining(pool, target->dev[i]->bdev, error);
		if (ret)
			return ret;
		*error = "out of memory";
		ret = dynmap_kpool_check_new(pool, target->dev[i]->bdev, error);
	}
	return ret;
}

/* The pool of this mapped device, which has these devices or has stopped; NULL: there is none. */
static struct dynmap_kpool *dynmap_pool_find(struct dynmap_target *target, struct mapped_device *md,
					     char **error)
{
	struct dynmap_kpool *pool, *found = NULL;
	u32 i, same, own = 0;
	int ret;

	list_for_each_entry(pool, &dynmap_pools, list) {
		for (same = 0, i = 0; i < target->nr_devs; i++)
			same += dynmap_kpool_uses(pool, target->dev[i]->bdev);
		if (pool->md == md) {
			found = pool;
			own = same;
		} else if (same) {
			*error = "a device is in use by another pool";
			return ERR_PTR(-EBUSY);
		}
	}
	if (!found)
		return NULL;
	if (found->read_only != target->read_only) {
		*error = "read_only cannot change while the pool is open";
		return ERR_PTR(-EINVAL);
	}
	if (found->targets && own != dynmap_kpool_devices(found)) {
		*error = "a device of the pool is missing";
		return ERR_PTR(-EINVAL);
	}
	ret = found->targets ? dynmap_check_joining(target, found, error) : 0;
	return ret ? ERR_PTR(ret) : found;
}

static void dynmap_pool_put(struct dynmap_kpool *pool)
{
	mutex_lock(&dynmap_pools_lock);
	if (!--pool->refs) {
		list_del(&pool->list);
		dynmap_kpool_destroy(pool);
	}
	mutex_unlock(&dynmap_pools_lock);
}

static char dynmap_features[] =
	"Expected read_only, error_if_no_space, no_discard_passdown or accept_stale";

static int dynmap_parse_features(struct dm_arg_set *as, struct dynmap_target *target, char **error)
{
	static const struct dm_arg count = { 0, 4, "Invalid number of features: expected 0 to 4" };
	unsigned int nr;
	const char *word;
	int ret;

	if (!as->argc)
		return 0;
	ret = dm_read_arg_group(&count, as, &nr, error);
	if (ret)
		return ret;
	while (nr--) {
		word = dm_shift_arg(as);
		if (!strcasecmp(word, "read_only")) {
			target->read_only = true;
		} else if (!strcasecmp(word, "error_if_no_space")) {
			target->error_if_no_space = true;
		} else if (!strcasecmp(word, "no_discard_passdown")) {
			target->no_passdown = true;
		} else if (!strcasecmp(word, "accept_stale")) {
			target->accept_stale = true;
		} else {
			*error = dynmap_features;
			return -EINVAL;
		}
	}
	if (!as->argc)
		return 0;
	*error = "Arguments left over: the number of features does not fit";
	return -EINVAL;
}

/* The devices' names to *@paths: they are opened when the features are known. */
static int dynmap_parse_devices(struct dm_arg_set *as, char ***paths, unsigned int *nr,
				char **error)
{
	static const struct dm_arg count = {
		1, DYNMAP_MAX_DEVICES, "Invalid number of devices: expected 1 to 48"
	};
	int ret = dm_read_arg(&count, as, nr, error);

	if (ret)
		return ret;
	if (as->argc < *nr + 2) {
		*error = "Expected: <#devs> <dev>... <allocation size> <low water> [<features>]";
		return -EINVAL;
	}
	*paths = as->argv;
	dm_consume_args(as, *nr);
	return 0;
}

static int dynmap_parse_sizes(struct dm_target *ti, struct dm_arg_set *as,
			      struct dynmap_target *target)
{
	if (kstrtouint(dm_shift_arg(as), 10, &target->alloc_sectors) ||
	    target->alloc_sectors < DYNMAP_BLOCK_SECTORS ||
	    target->alloc_sectors > DYNMAP_MAX_ALLOC_BLOCKS * DYNMAP_BLOCK_SECTORS ||
	    target->alloc_sectors & (target->alloc_sectors - 1)) {
		ti->error = "Invalid allocation size: expected a power of 2, 8 to 2097152 sectors";
		return -EINVAL;
	}
	if (kstrtou64(dm_shift_arg(as), 10, &target->low_water)) {
		ti->error = "Invalid low water mark: expected a number of allocation units";
		return -EINVAL;
	}
	return 0;
}

/* Open one more device; with read_only a device that cannot be written will do. */
static int dynmap_open_device(struct dm_target *ti, struct dynmap_target *target,
			      const char *path)
{
	struct dm_dev *dev;
	u32 i;
	int ret;

	ret = dm_get_device(ti, path, target->read_only ? BLK_OPEN_READ :
						    dm_table_get_mode(ti->table), &dev);
	if (ret && ret != -EROFS) {
		DMERR("cannot open %s: error %d", path, ret);
		ti->error = "Cannot open a device of the pool";
		return ret;
	}
	if (!ret)
		target->dev[target->nr_devs++] = dev;
	if (ret || (!target->read_only && bdev_read_only(dev->bdev))) {
		DMERR("%s is write-protected: make it writable, or open the pool with the feature read_only",
		      path);
		ti->error = "A device of the pool is write-protected";
		return -EROFS;
	}
	for (i = 0; i + 1 < target->nr_devs; i++) {
		if (target->dev[i]->bdev != dev->bdev)
			continue;
		ti->error = "A device is given twice";
		return -EINVAL;
	}
	return dynmap_limits_check_device(dev->bdev, &ti->error);
}

static int dynmap_open_devices(struct dm_target *ti, struct dynmap_target *target, char **paths,
			       unsigned int nr)
{
	int ret = 0;

	if (!target->read_only && !(dm_table_get_mode(ti->table) & BLK_OPEN_WRITE)) {
		ti->error = "A pool in a read-only table needs the feature read_only";
		return -EINVAL;
	}
	while (nr-- && !ret)
		ret = dynmap_open_device(ti, target, *paths++);
	return ret;
}

/* Open a new pool on the devices of a target, or, if there is one, start it on them. */
static struct dynmap_kpool *dynmap_target_begin(struct dynmap_target *target,
						struct dynmap_kpool *pool, char **error)
{
	struct dynmap_disks *disks = kzalloc(sizeof(*disks), GFP_KERNEL);
	int ret = 0;
	u32 i;

	if (!disks)
		return ERR_PTR(-ENOMEM);
	for (i = 0; i < target->nr_devs; i++)
		disks->bdev[i] = target->dev[i]->bdev;
	disks->nr = target->nr_devs;
	if (pool)
		ret = dynmap_kpool_start(pool, disks, error);
	else
		pool = dynmap_kpool_create(disks, target->alloc_sectors / DYNMAP_BLOCK_SECTORS,
					   target->read_only, target->accept_stale, error);
	kfree(disks);
	return ret ? ERR_PTR(ret) : pool;
}

static int dynmap_target_open(struct dm_target *ti, struct dynmap_target *target)
{
	struct mapped_device *md = dm_table_get_md(ti->table);
	struct dynmap_kpool *found, *pool;

	found = dynmap_pool_find(target, md, &ti->error);
	if (IS_ERR(found))
		return PTR_ERR(found);
	pool = found && found->targets ? found : dynmap_target_begin(target, found, &ti->error);
	if (IS_ERR(pool))
		return PTR_ERR(pool);
	if (found) {
		pool->refs++;
	} else {
		pool->md = md;
		list_add(&pool->list, &dynmap_pools);
	}
	pool->targets++;
	target->pool = pool;
	return 0;
}

static void dynmap_target_free(struct dm_target *ti, struct dynmap_target *target)
{
	while (target->nr_devs)
		dm_put_device(ti, target->dev[--target->nr_devs]);
	kfree(target);
}

static int dynmap_pool_ctr(struct dm_target *ti, unsigned int argc, char **argv)
{
	struct dm_arg_set as = { .argc = argc, .argv = argv };
	struct dynmap_target *target;
	unsigned int nr;
	char **paths;
	int ret;

	target = kzalloc(sizeof(*target), GFP_KERNEL);
	if (!target)
		return -ENOMEM;
	ret = dynmap_parse_devices(&as, &paths, &nr, &ti->error);
	if (!ret)
		ret = dynmap_parse_sizes(ti, &as, target);
	if (!ret)
		ret = dynmap_parse_features(&as, target, &ti->error);
	if (!ret)
		ret = dynmap_open_devices(ti, target, paths, nr);
	if (!ret) {
		mutex_lock(&dynmap_pools_lock);
		ret = dynmap_target_open(ti, target);
		mutex_unlock(&dynmap_pools_lock);
	}
	if (ret) {
		dynmap_target_free(ti, target);
		return ret;
	}
	ti->num_flush_bios = 1;
	ti->flush_supported = true;
	ti->private = target;
	return 0;
}

static void dynmap_pool_dtr(struct dm_target *ti)
{
	struct dynmap_target *target = ti->private;
	struct dynmap_kpool *pool = target->pool;

	down_write(&pool->lock);
	if (pool->ti == ti)
		pool->ti = NULL;
	dynmap_kpool_unlock(pool);
	/* Volumes go on using the devices: those of another target, or not at all. */
	mutex_lock(&dynmap_pools_lock);
	if (!--pool->targets && pool->refs > 1)
		dynmap_kpool_stop(pool);
	mutex_unlock(&dynmap_pools_lock);
	dynmap_pool_put(pool);
	dynmap_target_free(ti, target);
}

/* Data is reached through volumes; the pool's device only answers flushes. */
static int dynmap_pool_map(struct dm_target *ti, struct bio *bio)
{
	if (!(bio->bi_opf & REQ_PREFLUSH))
		return DM_MAPIO_KILL;
	bio_endio(bio);
	return DM_MAPIO_SUBMITTED;
}

/* Take the devices of the table: new ones, and those that got longer. */
static int dynmap_pool_grow_target(struct dynmap_target *target)
{
	struct block_device *bdev[DYNMAP_MAX_DEVICES];
	u32 i;
	int ret;

	if (target->pool->mode == DYNMAP_MODE_READ_ONLY)
		return 0;
	for (i = 0; i < target->nr_devs; i++)
		bdev[i] = target->dev[i]->bdev;
	ret = dynmap_kpool_grow(target->pool, bdev, target->nr_devs);
	if (ret)
		DMERR("the pool cannot take its devices as they are now: error %d", ret);
	return ret;
}

static int dynmap_pool_preresume(struct dm_target *ti)
{
	struct dynmap_target *target = ti->private;
	struct dynmap_kpool *pool = target->pool;
	int ret;

	down_write(&pool->lock);
	pool->ti = ti;
	pool->error_if_no_space = target->error_if_no_space;
	pool->discard_passdown = !target->no_passdown;
	/* The allocation size may change at any reload; it is kept by the next checkpoint. */
	pool->core.table.alloc_blocks = target->alloc_sectors / DYNMAP_BLOCK_SECTORS;
	pool->core.super->alloc_blocks = cpu_to_le32(pool->core.table.alloc_blocks);
	dynmap_kpool_unlock(pool);
	ret = dynmap_limits_resume_pool(pool->md);
	if (ret)
		return ret;
	ret = dynmap_pool_grow_target(target);
	dynmap_kpool_resume(pool, target->low_water);
	return ret;
}

static void dynmap_pool_postsuspend(struct dm_target *ti)
{
	struct dynmap_target *target = ti->private;

	if (target->pool->mode != DYNMAP_MODE_READ_ONLY && dynmap_kpool_release(target->pool))
		DMERR("checkpoint at suspend failed");
}

static int dynmap_pool_iterate(struct dm_target *ti, iterate_devices_callout_fn fn, void *data)
{
	struct dynmap_target *target = ti->private;
	int ret = 0;
	u32 i;

	/* A device that ends within a block is used up to there. */
	for (i = 0; i < target->nr_devs && !ret; i++)
		ret = fn(ti, target->dev[i], 0,
			 round_down(bdev_nr_sectors(target->dev[i]->bdev), DYNMAP_BLOCK_SECTORS),
			 data);
	return ret;
}

static void dynmap_status_info(struct dynmap_kpool *pool, char *result, unsigned int maxlen)
{
	static const char * const modes[] = {
		"rw", "out_of_data_space", "out_of_metadata_space", "ro"
	};
	struct dynmap_alloc *alloc = &pool->core.alloc;
	u32 unit = pool->core.table.alloc_blocks;
	unsigned int sz = 0;
	u64 used, room;

	down_read(&pool->lock);
	used = DIV_ROUND_UP(alloc->data_allocated, unit);
	room = dynmap_alloc_data_free(alloc) / unit;
	DMEMIT("%llu %llu/%llu %llu/%llu - %s %s %s %s %llu healed %llu cache %u/%u",
	       pool->core.table.transaction_id, alloc->meta_allocated,
	       alloc->meta_allocated + dynmap_alloc_node_free(alloc),
	       used, used + room, modes[pool->mode],
	       pool->discard_passdown ? "discard_passdown" : "no_discard_passdown",
	       pool->error_if_no_space || pool->no_space_expired ?
	       "error_if_no_space" : "queue_if_no_space",
	       pool->core.failed ? "needs_check" : "-",
	       dynmap_alloc_node_mark(alloc), pool->core.cache.healed,
	       dynmap_cache_kib(&pool->core.cache),
	       pool->core.cache.limit * (u32)(DYNMAP_BLOCK_BYTES / 1024));
	up_read(&pool->lock);
}

static void dynmap_pool_status(struct dm_target *ti, status_type_t type, unsigned int flags,
			       char *result, unsigned int maxlen)
{
	struct dynmap_target *target = ti->private;
	unsigned int sz = 0;
	u32 i;

	switch (type) {
	case STATUSTYPE_INFO:
		dynmap_status_info(target->pool, result, maxlen);
		break;
	case STATUSTYPE_TABLE:
		DMEMIT("%u", target->nr_devs);
		for (i = 0; i < target->nr_devs; i++)
			DMEMIT(" %s", target->dev[i]->name);
		DMEMIT(" %u %llu", target->alloc_sectors, target->low_water);
		DMEMIT(" %u", target->read_only + target->error_if_no_space +
			      target->no_passdown + target->accept_stale);
		if (target->read_only)
			DMEMIT(" read_only");
		if (target->error_if_no_space)
			DMEMIT(" error_if_no_space");
		if (target->no_passdown)
			DMEMIT(" no_discard_passdown");
		if (target->accept_stale)
			DMEMIT(" accept_stale");
		break;
	case STATUSTYPE_IMA:
		*result = '\0';
		break;
	}
}

static int dynmap_pool_message(struct dm_target *ti, unsigned int argc, char **argv, char *result,
			       unsigned int maxlen)
{
	return dynmap_message(((struct dynmap_target *)ti->private)->pool, argc, argv, result,
			      maxlen);
}

static struct target_type dynmap_pool_type = {
	.name = "dynmap-pool",
	.version = { 0, 1, 0 },
	.features = DM_TARGET_SINGLETON | DM_TARGET_IMMUTABLE,
	.module = THIS_MODULE,
	.ctr = dynmap_pool_ctr,
	.dtr = dynmap_pool_dtr,
	.map = dynmap_pool_map,
	.preresume = dynmap_pool_preresume,
	.postsuspend = dynmap_pool_postsuspend,
	.iterate_devices = dynmap_pool_iterate,
	.status = dynmap_pool_status,
	.message = dynmap_pool_message,
};

/* The pool whose device this is, with one more reference; NULL: none, or one that stopped. */
static struct dynmap_kpool *dynmap_pool_of(struct block_device *bdev)
{
	struct dynmap_kpool *pool;

	mutex_lock(&dynmap_pools_lock);
	list_for_each_entry(pool, &dynmap_pools, list) {
		if (dm_disk(pool->md) != bdev->bd_disk || !pool->targets)
			continue;
		pool->refs++;
		mutex_unlock(&dynmap_pools_lock);
		return pool;
	}
	mutex_unlock(&dynmap_pools_lock);
	return NULL;
}

/* Load the volume and take a use of it in the same hold of the lock. */
static int dynmap_volume_use(struct dynmap_kvolume *kvolume, u64 id, struct dynmap_op *op)
{
	int ret = dynmap_volume_load(&kvolume->pool->core.table, id, &kvolume->volume, op);

	if (!ret)
		kvolume->volume->users++;
	return ret;
}

/* The external origin is only read, and may be shorter than the volume, or longer. */
static int dynmap_open_origin(struct dm_target *ti, struct dynmap_kvolume *kvolume,
			      const char *path)
{
	int ret = dm_get_device(ti, path, BLK_OPEN_READ, &kvolume->origin);

	if (ret) {
		ti->error = "Cannot open the external origin";
		kvolume->origin = NULL;
		return ret;
	}
	if (kvolume->origin->bdev == kvolume->pool_dev->bdev) {
		ti->error = "The pool cannot be a volume's external origin";
		return -EINVAL;
	}
	kvolume->origin_sectors = bdev_nr_sectors(kvolume->origin->bdev);
	return dynmap_limits_check_device(kvolume->origin->bdev, &ti->error);
}

static void dynmap_put_devices(struct dm_target *ti, struct dynmap_kvolume *kvolume)
{
	if (kvolume->origin)
		dm_put_device(ti, kvolume->origin);
	dm_put_device(ti, kvolume->pool_dev);
}

static int dynmap_ctr(struct dm_target *ti, unsigned int argc, char **argv)
{
	struct dynmap_kvolume *kvolume;
	struct dynmap_op op = {};
	u64 id;
	int ret;

	ti->error =
		"Expected: <pool dev> <volume id from 0 to 16777215> [<external origin dev>]";
	if (argc < 2 || argc > 3 || kstrtou64(argv[1], 10, &id) || id > DYNMAP_MAX_VOLUME_ID)
		return -EINVAL;
	if (ti->len > DYNMAP_MAX_LBN * DYNMAP_BLOCK_SECTORS) {
		ti->error = "A volume is too long: at most 16 PiB";
		return -EFBIG;
	}
	kvolume = kzalloc(sizeof(*kvolume), GFP_KERNEL);
	if (!kvolume)
		return -ENOMEM;
	/* It is not written to, and may be in a read-only table. */
	ret = dm_get_device(ti, argv[0], BLK_OPEN_READ, &kvolume->pool_dev);
	if (ret) {
		ti->error = "Cannot open the pool device";
		goto free;
	}
	ret = argc == 3 ? dynmap_open_origin(ti, kvolume, argv[2]) : 0;
	if (ret)
		goto put_device;
	ret = -EINVAL;
	ti->error = "The first argument is not the device of a dynmap pool";
	kvolume->pool = dynmap_pool_of(kvolume->pool_dev->bdev);
	if (!kvolume->pool)
		goto put_device;
	/* Its limits, on which ours are stacked, come with its first resume. */
	ti->error = "The pool is not active: resume it first";
	if (!READ_ONCE(kvolume->pool->ti))
		goto put_pool;
	ret = dynmap_limits_check_volume(dm_table_get_md(ti->table), kvolume, &ti->error);
	if (ret)
		goto put_pool;
	/* No volume of a group of snapshots that is not complete. */
	mutex_lock(&kvolume->pool->message_mutex);
	dynmap_khelped(ret, kvolume->pool, &op, dynmap_volume_use(kvolume, id, &op));
	mutex_unlock(&kvolume->pool->message_mutex);
	if (ret) {
		ti->error = ret == -ENODATA ? "No such volume: create it by message create_thin" :
					      "Cannot read the volume's record";
		goto put_pool;
	}
	ti->num_flush_bios = 1;
	ti->num_discard_bios = 1;
	/* What is unmapped holds the fill byte, or what the origin has there. */
	ti->num_write_zeroes_bios = !kvolume->volume->disk.fill && !kvolume->origin;
	ti->flush_supported = true;
	ti->discards_supported = true;
	ti->per_io_data_size = sizeof(struct dynmap_io);
	ti->private = kvolume;
	kvolume->ti = ti;
	return 0;
put_pool:
	dynmap_pool_put(kvolume->pool);
put_device:
	dynmap_put_devices(ti, kvolume);
free:
	kfree(kvolume);
	return ret;
}

/* Nothing is reserved beyond what the host sees. */
static int dynmap_preresume(struct dm_target *ti)
{
	struct dynmap_kvolume *kvolume = ti->private;

	down_write(&kvolume->pool->lock);
	kvolume->volume->limit = DIV_ROUND_UP(ti->len, DYNMAP_BLOCK_SECTORS);
	dynmap_kpool_unlock(kvolume->pool);
	return 0;
}

static void dynmap_presuspend(struct dm_target *ti)
{
	dynmap_kvolume_suspend(ti->private);
}

/* Also after a suspend that was interrupted. */
static void dynmap_postsuspend(struct dm_target *ti)
{
	dynmap_kvolume_suspended(ti->private);
}

static void dynmap_dtr(struct dm_target *ti)
{
	struct dynmap_kvolume *kvolume = ti->private;

	dynmap_settle(kvolume->pool);
	down_write(&kvolume->pool->lock);
	kvolume->volume->users--;
	dynmap_kpool_unlock(kvolume->pool);
	dynmap_pool_put(kvolume->pool);
	dynmap_put_devices(ti, kvolume);
	kfree(kvolume);
}

static void dynmap_status(struct dm_target *ti, status_type_t type, unsigned int flags,
			  char *result, unsigned int maxlen)
{
	struct dynmap_kvolume *kvolume = ti->private;
	struct dynmap_op op = {};
	unsigned int sz = 0;
	u64 mapped, highest;
	int ret;

	switch (type) {
	case STATUSTYPE_INFO:
		dynmap_khelped(ret, kvolume->pool, &op,
			       dynmap_table_highest(kvolume->volume, &highest, &op));
		mapped = kvolume->volume->mapped + kvolume->volume->reserved;
		if (ret)
			DMEMIT("Error");
		else if (highest)
			DMEMIT("%llu %llu", mapped * DYNMAP_BLOCK_SECTORS,
			       highest * DYNMAP_BLOCK_SECTORS - 1);
		else
			DMEMIT("%llu -", mapped * DYNMAP_BLOCK_SECTORS);
		break;
	case STATUSTYPE_TABLE:
		DMEMIT("%s %llu", kvolume->pool_dev->name, kvolume->volume->id);
		if (kvolume->origin)
			DMEMIT(" %s", kvolume->origin->name);
		break;
	case STATUSTYPE_IMA:
		*result = '\0';
		break;
	}
}

/* Limits come from the pool's device, which has those of all its devices, and the origin. */
static int dynmap_iterate(struct dm_target *ti, iterate_devices_callout_fn fn, void *data)
{
	struct dynmap_kvolume *kvolume = ti->private;
	int ret = fn(ti, kvolume->pool_dev, 0, bdev_nr_sectors(kvolume->pool_dev->bdev), data);

	if (!ret && kvolume->origin)
		ret = fn(ti, kvolume->origin, 0, kvolume->origin_sectors, data);
	return ret;
}

static void dynmap_io_hints(struct dm_target *ti, struct queue_limits *limits)
{
	dynmap_limits_volume(ti->private, limits);
}

static struct target_type dynmap_type = {
	.name = "dynmap",
	.version = { 0, 1, 0 },
	.module = THIS_MODULE,
	.ctr = dynmap_ctr,
	.dtr = dynmap_dtr,
	.map = dynmap_io_map,
	.presuspend = dynmap_presuspend,
	.presuspend_undo = dynmap_postsuspend,
	.postsuspend = dynmap_postsuspend,
	.preresume = dynmap_preresume,
	.end_io = dynmap_io_end,
	.status = dynmap_status,
	.iterate_devices = dynmap_iterate,
	.io_hints = dynmap_io_hints,
};

static int __init dynmap_init(void)
{
	int ret = dm_register_target(&dynmap_pool_type);

	if (ret)
		return ret;
	ret = dm_register_target(&dynmap_type);
	if (ret)
		dm_unregister_target(&dynmap_pool_type);
	return ret;
}

static void __exit dynmap_exit(void)
{
	dm_unregister_target(&dynmap_type);
	dm_unregister_target(&dynmap_pool_type);
}

module_init(dynmap_init);
module_exit(dynmap_exit);

MODULE_DESCRIPTION("Device-mapper thin provisioning on extents");
MODULE_AUTHOR("dm-dynmap maintainers");
MODULE_ALIAS("dm-dynmap");
MODULE_LICENSE("GPL");
