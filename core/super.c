// SPDX-License-Identifier: GPL-2.0-only
/*
 * Superblocks as they are on the devices, see core/super.h. Callers: pool, opening, growth,
 * the kernel's constructor, tools.
 */
#include "core/super.h"
#include "core/journal.h"

#define DYNMAP_MAX_EPOCH	(1ULL << 62)	/* none gets there by counting */

u32 dynmap_super_crc(const struct dynmap_disk_super *sb)
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

const char *dynmap_super_check(const struct dynmap_disk_super *sb)
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
