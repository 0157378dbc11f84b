/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Volumes: their records, and those that are in memory.
 *
 * Owns: the volume tree and every change to it: create, snapshot, roll back, set,
 * delete; what was deleted is emptied by core/reap.h. What a volume maps is the mapping table's
 * (dm-dynmap-table.h), what volumes share the families' (core/family.h). Each
 * change is two-phase: what can fail comes first and leaves no trace.
 *
 * Locking: metadata lock held for writing. Errors -EAGAIN, -ENOMEM, -EBUSY: see
 * struct dynmap_op.
 */
#ifndef DM_DYNMAP_VOLUME_H
#define DM_DYNMAP_VOLUME_H

#include "core/family.h"
#include "core/journal.h"

#define DYNMAP_VOLUME_HASH_BITS	12

/**
 * struct dynmap_volume - a volume in memory
 * @table: the table that it is in
 * @list: in the table's list of loaded volumes
 * @state: in its list of those that have changed, or of those that were entered, or empty
 * @hash: in the table's hash of them, by @id
 * @id: volume id
 * @map: its map tree
 * @disk: its record, but for root and counters, which are current below
 * @mapped: blocks written and mapped
 * @reserved: blocks reserved and not written
 * @exclusive: of both, those that are not shared by birth; while a neighbour is
 *	being deleted, without what was shared with that one alone
 * @version: version of the families that map.share is of
 * @goal: the next redirected write goes there if it is free
 * @limit: what is reserved ahead ends there: the length that hosts see
 * @dirty: changed in this epoch
 * @entered: and the record in the volume tree tells of it
 * @users: targets that hold it (managed by the caller of dynmap_volume_load())
 * @buf: the buffer that it lies in, or NULL
 */
struct dynmap_volume {
	struct dynmap_table *table;
	struct list_head list;
	struct list_head state;
	struct hlist_node hash;
	u64 id;
	struct dynmap_tree map;
	struct dynmap_disk_volume disk;
	u64 mapped;
	u64 reserved;
	u64 exclusive;
	u32 version;
	u64 goal;
	u64 limit;
	bool dirty;
	bool entered;
	u32 users;
	struct dynmap_buf *buf;
};

/**
 * struct dynmap_table - all volumes of a pool
 * @cache: node cache
 * @alloc: allocator
 * @journal: journal
 * @family: what volumes share
 * @volumes: the volume tree
 * @loaded: volumes in memory
 * @changed: those whose record in the volume tree is out of date
 * @entered: those that have changed in this epoch, and their record as well
 * @hash: those in memory, by id
 * @alloc_blocks: allocation size
 * @next_reap_id: internal id for the next volume deleted
 * @reaping: the deleted volume being emptied, 0: none yet
 * @reap_from: the snapshot node from which on the next one is looked for, 0: none
 * @transaction_id: of user space
 * @name: the pool's name, zeros behind it
 * @group: generation in which the group of snapshots under way began, 0: none is
 * @group_at: where the search for its members goes on
 * @reclaim_id: where the next round of reclaim begins
 * @reclaim_lbn: and the block there
 * @reserves: counts the extents that were reserved
 * @reclaimed: @reserves when the last round began that went through all volumes: as long as
 *	they are the same nothing is reserved
 */
struct dynmap_table {
	struct dynmap_cache *cache;
	struct dynmap_alloc *alloc;
	struct dynmap_journal *journal;
	struct dynmap_family family;
	struct dynmap_tree volumes;
	struct list_head loaded;
	struct list_head changed;
	struct list_head entered;
	struct hlist_head hash[1 << DYNMAP_VOLUME_HASH_BITS];
	u32 alloc_blocks;
	u64 next_reap_id;
	u64 reaping;
	u64 reap_from;
	u64 transaction_id;
	u8 name[DYNMAP_NAME_BYTES];
	u32 group;
	u64 group_at;
	u64 reclaim_id;
	u64 reclaim_lbn;
	u64 reserves;
	u64 reclaimed;
};

/* The record of a volume has changed: the next checkpoint enters it. */
static inline void dynmap_volume_changed(struct dynmap_volume *volume)
{
	if (volume->dirty && !volume->entered)
		return;
	volume->table->cache->tally[DYNMAP_TREE_VOLUME].records += !volume->dirty;
	volume->dirty = true;
	volume->entered = false;
	list_move_tail(&volume->state, &volume->table->changed);
}

void dynmap_table_init(struct dynmap_table *table, struct dynmap_cache *cache,
		       struct dynmap_alloc *alloc, struct dynmap_journal *journal);
void dynmap_table_exit(struct dynmap_table *table);

/* Families have changed: what does the volume share now? As dynmap_snap_get(). */
int __must_check dynmap_volume_share(struct dynmap_table *table, struct dynmap_volume *volume,
				     struct dynmap_op *op);

/* The same, if they have. */
static inline int __must_check dynmap_volume_refresh(struct dynmap_table *table,
						     struct dynmap_volume *volume,
						     struct dynmap_op *op)
{
	return volume->version == table->family.version ? 0 :
							   dynmap_volume_share(table, volume, op);
}

/**
 * dynmap_volume_load() - get a volume into memory
 * @table: the table
 * @id: its id
 * @volume: set to it
 * @op: told what is missing
 *
 * Allocates with GFP_NOIO or the like: the caller may hold the lock.
 * Return: 0; -ENODATA if unknown; -ENOMEM is final here; -EAGAIN, -EUCLEAN.
 */
int __must_check dynmap_volume_load(struct dynmap_table *table, u64 id,
				    struct dynmap_volume **volume, struct dynmap_op *op);

/* Create an empty volume. -EEXIST, -EINVAL (id), -ENOMEM (final), -EAGAIN, -EBUSY. */
int __must_check dynmap_volume_create(struct dynmap_table *table, u64 id, u64 size_blocks,
				      const u8 *uuid, u64 created, struct dynmap_op *op);

/**
 * dynmap_volume_snapshot() - create a volume that begins as a copy of another
 * @table: the table
 * @id: its id
 * @origin_id: the other one, in use or not
 * @uuid: its uuid
 * @created: time, seconds since 1970
 * @op: told what is missing
 *
 * Takes the same time for any size: both share the map tree.
 *
 * Return: 0; -EEXIST; -ENODATA: no such origin; -EINVAL (id); -EOVERFLOW: the pool has made
 * as many snapshots as it can in its life; -EAGAIN,
 * -ENOMEM, -EBUSY, -ENOSPC, -EUCLEAN.
 */
int __must_check dynmap_volume_snapshot(struct dynmap_table *table, u64 id, u64 origin_id,
					const u8 *uuid, u64 created, struct dynmap_op *op);

/**
 * dynmap_volume_set_name() - name a volume, or the pool
 * @table: the table
 * @id: the volume
 * @name: its name, zeros behind it up to DYNMAP_NAME_BYTES; all zeros: none
 * @op: told what is missing
 *
 * Names are for people and tools: nothing is looked up by them, and two may be alike.
 *
 * Return: 0; -EINVAL: control characters, or no zero behind it; -ENODATA: no such volume;
 * -EAGAIN, -ENOMEM, -EBUSY, -EUCLEAN.
 */
int __must_check dynmap_volume_set_name(struct dynmap_table *table, u64 id, const u8 *name,
					struct dynmap_op *op);
/* Replay: a part of a name. -EUCLEAN. */
int __must_check dynmap_replay_name(u8 *name, const struct dynmap_disk_record *record);
int __must_check dynmap_table_set_name(struct dynmap_table *table, const u8 *name,
				       struct dynmap_op *op);

/**
 * dynmap_group_begin() - begin a group of snapshots
 * @table: the table
 *
 * The snapshots made up to dynmap_group_end() are all there after a power failure, or none
 * of them is, whatever was committed in between. A group that was not ended is taken back
 * by the next opening. The caller sees to it that no other volume is created meanwhile.
 */
void dynmap_group_begin(struct dynmap_table *table);
/* The group is complete, or nothing of it is left. -EROFS, -ENOMEM, -EBUSY. */
int __must_check dynmap_group_end(struct dynmap_table *table, struct dynmap_op *op);
/*
 * Take a group back, one bounded step: delete one of its snapshots. 0: call again; -ENOENT:
 * none is left, to be followed by dynmap_group_end(); else as dynmap_volume_delete().
 */
int __must_check dynmap_group_abort(struct dynmap_table *table, struct dynmap_op *op);

/**
 * dynmap_volume_rollback() - make a volume a copy of another one
 * @table: the table
 * @id: the volume; it stays what it is but for what it maps and its size
 * @snapshot_id: the other one, in use or not
 * @op: told what is missing
 *
 * What the volume mapped is deleted, as by dynmap_volume_delete(); both share the
 * other one's map tree, as by dynmap_volume_snapshot(). One record tells of it.
 *
 * Return: 0; -ENODATA: one is unknown; -EINVAL (ids); -ETXTBSY: the volume is in use;
 * -EPERM: it is protected; -EROFS: it is read-only; and as those two.
 */
int __must_check dynmap_volume_rollback(struct dynmap_table *table, u64 id, u64 snapshot_id,
					struct dynmap_op *op);

/* Forget a volume whose record has left the volume tree. */
void dynmap_volume_forget(struct dynmap_table *table, struct dynmap_volume *volume);

/* Forget volumes that nobody uses and that are as on disk. */
void dynmap_table_unload(struct dynmap_table *table);

/**
 * dynmap_volume_change() - set an attribute of a volume
 * @table: the table
 * @id: its id
 * @attr: DYNMAP_ATTR_FILL, _ALLOC, _READ_ONLY or _PROTECTED
 * @value: the fill byte; a power of 2 of blocks, 0: as the pool; 0 or 1
 * @op: told what is missing
 *
 * The fill byte is what unwritten blocks hold: it can be chosen only while
 * nobody uses the volume and nothing is written.
 *
 * Return: 0; -ENODATA if unknown; -EINVAL (value); -ETXTBSY, -ENOTEMPTY (fill
 * byte); -EAGAIN, -ENOMEM, -EBUSY, -EUCLEAN.
 */
int __must_check dynmap_volume_change(struct dynmap_table *table, u64 id, u8 attr, u64 value,
				      struct dynmap_op *op);

/**
 * dynmap_volume_delete() - delete a volume
 *
 * Its id is free at once; its space comes back by dynmap_volume_reap().
 * Return: 0; -ENODATA; -EBUSY is never returned for an open volume: the caller
 * checks volume->users first (-ETXTBSY here when users are left); -EPERM: it is
 * protected; -EOVERFLOW
 * after 4,278,190,080 deletions; -EUCLEAN; -EAGAIN...
 */
int __must_check dynmap_volume_delete(struct dynmap_table *table, u64 id, struct dynmap_op *op);

/**
 * struct dynmap_usage - what a volume uses, in blocks
 * @mapped: written and mapped
 * @reserved: reserved, not written
 * @exclusive: of both, what no other volume reaches: deleting it frees that much
 * @survey: where the count is
 */
struct dynmap_usage {
	u64 mapped;
	u64 reserved;
	u64 exclusive;
	struct dynmap_survey survey;
};

/**
 * dynmap_volume_usage() - what a volume uses: begin
 * @table: the table
 * @id: its id
 * @usage: set
 * @op: told what is missing
 *
 * dynmap_usage_step() goes on, a leaf of a divergence tree at a time. Right if
 * nothing changes from here to its end.
 *
 * Return: 0; -ENODATA if unknown; -EAGAIN, -ENOMEM, -EBUSY, -EUCLEAN. Of the step: 0:
 * call again; -ENOENT: the usage is complete; the same.
 */
int __must_check dynmap_volume_usage(struct dynmap_table *table, u64 id,
				     struct dynmap_usage *usage, struct dynmap_op *op);
int __must_check dynmap_usage_step(struct dynmap_table *table, struct dynmap_usage *usage,
				   struct dynmap_op *op);

/* The first volume with an id at or above @id; -ENOENT when there is none. */
int __must_check dynmap_volume_next(struct dynmap_table *table, u64 id,
				    struct dynmap_disk_volume *disk, struct dynmap_op *op);

/* Replay: set an attribute; -EUCLEAN if it has no such value. As dynmap_volume_load(). */
int __must_check dynmap_volume_replay_set(struct dynmap_table *table, u64 id,
					  const struct dynmap_disk_record *record,
					  struct dynmap_op *op);

/* Set user space's transaction id. */
int __must_check dynmap_table_set_transaction(struct dynmap_table *table, u64 id,
					      struct dynmap_op *op);

/**
 * dynmap_table_checkpoint() - seal the maps of changed volumes, and enter their records
 * @table: the volumes
 * @most: seal and enter that many nodes and records at most; less those that were
 * @op: told what is missing
 *
 * Return: 0 once all are in the volume tree; -EINPROGRESS: @most were seen to, call again;
 * -EAGAIN, -ENOMEM, -ENOSPC, -EUCLEAN.
 */
int __must_check dynmap_table_checkpoint(struct dynmap_table *table, u32 *most,
					 struct dynmap_op *op);
/* The epoch ends: no volume has changed. */
void dynmap_table_sealed(struct dynmap_table *table);

#endif /* DM_DYNMAP_VOLUME_H */
