// SPDX-License-Identifier: GPL-2.0-only
/*
 * A recorder below the real module, for tests only.
 *
 * Owns: the target `dynmap-record <device> <index>`, which passes everything on
 * and notes submissions, with their data, and completions of all its devices in
 * one order; and /dev/dynmap-record, from which the log is read and to which the
 * workload writes its marks. The order is that of one lock: a submission is noted
 * before it goes down, a completion after it came up, so what the log calls
 * durable is durable.
 */
#include <linux/device-mapper.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "record.h"

#define DM_MSG_PREFIX "dynmap-record"

static unsigned int log_mb = 128;
module_param(log_mb, uint, 0444);
MODULE_PARM_DESC(log_mb, "Size of the log in MiB");

static u8 *record_log;
static size_t record_used;
static bool record_overflow;
static DEFINE_SPINLOCK(record_lock);	/* over the three above */
static atomic_t record_ids = ATOMIC_INIT(0);

/* Note an event; where its payload goes, or NULL. */
static u8 *record_add(const struct record_event *event)
{
	size_t bytes = sizeof(*event) + event->payload_bytes;
	unsigned long flags;
	u8 *at = NULL;

	spin_lock_irqsave(&record_lock, flags);
	if (record_used + bytes > (size_t)log_mb << 20) {
		record_overflow = true;
	} else {
		at = record_log + record_used;
		record_used += bytes;
		memcpy(at, event, sizeof(*event));
	}
	spin_unlock_irqrestore(&record_lock, flags);
	return at ? at + sizeof(*event) : NULL;
}

static ssize_t record_read(struct file *file, char __user *buffer, size_t count, loff_t *offset)
{
	static const struct record_event overflow = { .type = RECORD_OVERFLOW };

	if (record_overflow)
		return simple_read_from_buffer(buffer, count, offset, &overflow,
					       sizeof(overflow));
	return simple_read_from_buffer(buffer, count, offset, record_log, record_used);
}

static ssize_t record_write(struct file *file, const char __user *buffer, size_t count,
			    loff_t *offset)
{
	struct record_event event = { .type = RECORD_MARK };

	if (count != RECORD_MARK_BYTES)
		return -EINVAL;
	if (copy_from_user(event.mark, buffer, count))
		return -EFAULT;
	return record_add(&event) ? count : -ENOSPC;
}

/* Truncating it begins anew; nobody uses the devices meanwhile. */
static int record_open(struct inode *inode, struct file *file)
{
	if (file->f_flags & O_TRUNC) {
		spin_lock_irq(&record_lock);
		record_used = 0;
		record_overflow = false;
		spin_unlock_irq(&record_lock);
	}
	return 0;
}

static const struct file_operations record_file = {
	.owner = THIS_MODULE,
	.open = record_open,
	.read = record_read,
	.write = record_write,
	.llseek = noop_llseek,
};

static struct miscdevice record_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "dynmap-record",
	.fops = &record_file,
};

/**
 * struct record_device - one target
 * @dev: the device below
 * @index: its number in the log
 */
struct record_device {
	struct dm_dev *dev;
	u8 index;
};

static int record_ctr(struct dm_target *ti, unsigned int argc, char **argv)
{
	struct record_device *device;
	int ret;

	if (argc != 2) {
		ti->error = "expected a device and its number";
		return -EINVAL;
	}
	device = kzalloc(sizeof(*device), GFP_KERNEL);
	if (!device)
		return -ENOMEM;
	ret = kstrtou8(argv[1], 10, &device->index);
	if (!ret)
		ret = dm_get_device(ti, argv[0], dm_table_get_mode(ti->table), &device->dev);
	if (ret) {
		ti->error = "bad device or number";
		kfree(device);
		return ret;
	}
	ti->num_flush_bios = 1;
	ti->num_discard_bios = 1;
	ti->num_write_zeroes_bios = 1;
	ti->per_io_data_size = sizeof(u32);
	ti->private = device;
	return 0;
}

static void record_dtr(struct dm_target *ti)
{
	struct record_device *device = ti->private;

	dm_put_device(ti, device->dev);
	kfree(device);
}

static void record_copy(struct bio *bio, u8 *to)
{
	struct bvec_iter iter;
	struct bio_vec vec;

	bio_for_each_segment(vec, bio, iter) {
		memcpy_from_page(to, vec.bv_page, vec.bv_offset, vec.bv_len);
		to += vec.bv_len;
	}
}

static int record_map(struct dm_target *ti, struct bio *bio)
{
	struct record_device *device = ti->private;
	u32 *id = dm_per_bio_data(bio, sizeof(*id));
	struct record_event event = {
		.type = RECORD_WRITE,
		.dev = device->index,
		.sector = bio->bi_iter.bi_sector,
		.sectors = bio_sectors(bio),
	};
	u8 *payload;

	*id = 0;
	bio_set_dev(bio, device->dev->bdev);
	if (!op_is_write(bio_op(bio)) && !(bio->bi_opf & REQ_PREFLUSH))
		return DM_MAPIO_REMAPPED;
	*id = atomic_inc_return(&record_ids);
	event.id = *id;
	if (bio->bi_opf & REQ_FUA)
		event.flags |= RECORD_FUA;
	if (bio->bi_opf & REQ_META)
		event.flags |= RECORD_META;
	if (!event.sectors)
		event.type = RECORD_FLUSH;
	else if (bio_op(bio) != REQ_OP_WRITE)
		event.type = RECORD_ZERO;
	else
		event.payload_bytes = bio->bi_iter.bi_size;
	payload = record_add(&event);
	if (payload && event.payload_bytes)
		record_copy(bio, payload);
	return DM_MAPIO_REMAPPED;
}

static int record_end_io(struct dm_target *ti, struct bio *bio, blk_status_t *error)
{
	u32 *id = dm_per_bio_data(bio, sizeof(*id));
	struct record_event event = {
		.type = *error ? RECORD_FAILED : RECORD_DONE,
		.id = *id,
	};

	if (*id)
		record_add(&event);
	return DM_ENDIO_DONE;
}

static int record_iterate_devices(struct dm_target *ti, iterate_devices_callout_fn fn, void *data)
{
	struct record_device *device = ti->private;

	return fn(ti, device->dev, 0, ti->len, data);
}

static struct target_type record_target = {
	.name = "dynmap-record",
	.version = { 1, 0, 0 },
	.module = THIS_MODULE,
	.ctr = record_ctr,
	.dtr = record_dtr,
	.map = record_map,
	.end_io = record_end_io,
	.iterate_devices = record_iterate_devices,
};

static int __init record_init(void)
{
	int ret;

	record_log = vzalloc((size_t)log_mb << 20);
	if (!record_log)
		return -ENOMEM;
	ret = misc_register(&record_misc);
	if (ret)
		goto free;
	ret = dm_register_target(&record_target);
	if (!ret)
		return 0;
	misc_deregister(&record_misc);
free:
	vfree(record_log);
	return ret;
}

static void __exit record_exit(void)
{
	dm_unregister_target(&record_target);
	misc_deregister(&record_misc);
	vfree(record_log);
}

module_init(record_init);
module_exit(record_exit);
MODULE_DESCRIPTION("dm-dynmap: recorder of the devices below, for tests");
MODULE_LICENSE("GPL");
