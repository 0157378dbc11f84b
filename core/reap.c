// SPDX-License-Identifier: GPL-2.0-only
/*
 * Emptying deleted volumes, see core/reap.h. Callers: the kernel's worker, tools and tests.
 */
#include "core/reap.h"

#define DYNMAP_REAP_STEPS	8	/* leaves freed in one hold of the lock */
#define DYNMAP_REAP_SEGS	64	/* nor more of them once so many segments have changed */

/* The volume that takes the place of an emptied one's parent; NULL if it is none. */
static int dynmap_reap_survivor(struct dynmap_table *table, const struct dynmap_volume *volume,
				struct dynmap_volume **survivor, struct dynmap_op *op)
{
	u32 side = le32_to_cpu(volume->disk.parent_slot);
	struct dynmap_snap *snap;
	int ret;
	u64 id;

	*survivor = NULL;
	ret = dynmap_snap_get(&table->family, le64_to_cpu(volume->disk.parent), &snap, op);
	if (ret)
		return ret;
	id = le64_to_cpu(snap->disk.child[!side]);
	if (!dynmap_snap_is_dying(snap) || dynmap_snap_dead_side(snap) != side ||
	    le64_to_cpu(snap->disk.child[side]) != volume->id) {
		dynmap_err("snapshot node %llu: not the one of deleted volume %llu",
			   (unsigned long long)snap->id, (unsigned long long)volume->id);
		return -EUCLEAN;
	}
	/*
	 * With the node what it shares is the survivor's alone, to be overwritten in place:
	 * not before the deletion is durable, which a power failure would undo.
	 */
	if (snap->death > table->family.durable)
		return -EBUSY;
	return id & DYNMAP_CHILD_IS_NODE ? 0 : dynmap_volume_load(table, id, survivor, op);
}

/* The snapshot node that took the place of the parent of a volume, or else is above it. */
static u64 dynmap_reap_place(const struct dynmap_volume *volume,
			     const struct dynmap_disk_snapshot *left)
{
	u64 child = le64_to_cpu(left->child[!le32_to_cpu(volume->disk.parent_slot)]);

	return child & DYNMAP_CHILD_IS_NODE ? child & ~DYNMAP_CHILD_IS_NODE :
					      le64_to_cpu(left->parent);
}

/* An emptied volume goes, and its parent. */
static int dynmap_volume_reaped(struct dynmap_table *table, struct dynmap_volume *volume,
				struct dynmap_op *op)
{
	struct dynmap_volume *survivor = NULL;
	struct dynmap_disk_snapshot left;
	struct dynmap_path path;
	int ret;

	/* No dead extent may wait at the node that goes. */
	ret = dynmap_family_resolve(&table->family, ~0U, op);
	if (!ret)
		ret = dynmap_btree_find(&table->volumes, volume->id, &path, op);
	if (!ret && volume->disk.parent)
		ret = dynmap_reap_survivor(table, volume, &survivor, op);
	if (!ret)
		ret = dynmap_alloc_reserve(table->alloc,
					   dynmap_btree_worst(&table->volumes) +
					   dynmap_btree_worst(&table->family.snaps), 4, op);
	if (!ret && volume->disk.parent)
		ret = dynmap_family_splice(&table->family, le64_to_cpu(volume->disk.parent), &left,
					   op);
	if (ret)
		return ret;
	if (survivor) {
		survivor->disk.parent = left.parent;
		survivor->disk.parent_slot = left.parent_slot;
		survivor->exclusive += le64_to_cpu(left.own_blocks);
		dynmap_volume_changed(survivor);
	}
	/* The way there is in the cache: it cannot fail. */
	if (WARN_ON_ONCE(dynmap_btree_remove(&table->volumes, volume->id, op)))
		return -EUCLEAN;
	table->reap_from = volume->disk.parent ? dynmap_reap_place(volume, &left) : 0;
	dynmap_volume_forget(table, volume);
	table->reaping = 0;
	return 0;
}

static int dynmap_reap_choose(struct dynmap_table *table, u64 id)
{
	if (id < DYNMAP_FIRST_REAP_ID) {
		dynmap_err("volume %llu lies on a side that was deleted", (unsigned long long)id);
		return -EUCLEAN;
	}
	table->reaping = id;
	return 0;
}

/* The deleted volume to empty: the one under way, else the next. */
static int dynmap_reap_next(struct dynmap_table *table, struct dynmap_op *op)
{
	struct dynmap_disk_volume disk;
	struct dynmap_volume *volume;
	int ret;
	u64 id = 0;

	if (table->reaping)
		return 0;
	/* All from one place on: to climb there from each of many would take long. */
	if (table->reap_from) {
		ret = dynmap_family_deleted(&table->family, table->reap_from, &id, op);
		if (ret)
			return ret;
		table->reap_from = 0;
		if (id)
			return dynmap_reap_choose(table, id);
	}
	ret = dynmap_btree_next(&table->volumes, DYNMAP_FIRST_REAP_ID, &disk, &id, op);
	/* Its record may be out of date. */
	if (!ret)
		ret = dynmap_volume_load(table, id, &volume, op);
	if (!ret)
		ret = dynmap_family_deleted(&table->family, le64_to_cpu(volume->disk.parent), &id,
					    op);
	return ret ? ret : dynmap_reap_choose(table, id);
}

int dynmap_volume_reap(struct dynmap_table *table, struct dynmap_op *op)
{
	struct dynmap_volume *volume;
	u32 segs, i;
	int ret;

	op->urgent = max_t(u8, op->urgent, DYNMAP_URGENT_REAP);
	ret = dynmap_reap_next(table, op);
	if (!ret) {
		ret = dynmap_volume_load(table, table->reaping, &volume, op);
		ret = ret == -ENODATA ? -EUCLEAN : ret;
	}
	if (!ret)
		ret = dynmap_volume_refresh(table, volume, op);
	if (!ret)
		ret = dynmap_family_resolve_due(&table->family, op);
	if (ret)
		return ret;
	segs = table->alloc->space.nr_dirty_segs + DYNMAP_REAP_SEGS;
	for (i = 0; i < DYNMAP_REAP_STEPS && table->alloc->space.nr_dirty_segs <= segs; i++) {
		ret = dynmap_table_cut(table, volume, op);
		if (ret)
			break;
	}
	/* Between steps the caller sees whether a checkpoint is due. */
	if (ret != -ENOENT)
		return i ? 0 : ret;
	if (volume->disk.parent) {
		ret = dynmap_family_drain(&table->family, le64_to_cpu(volume->disk.parent), op);
		if (ret != -ENOENT)
			return ret;
	}
	return dynmap_volume_reaped(table, volume, op);
}
