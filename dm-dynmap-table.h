/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The mapping table: from a volume's blocks to the pool's.
 *
 * Owns: volumes in memory and their records, the map trees, and every change
 * to them: reserve, mark written, redirect, unmap, create, snapshot, set, delete.
 * Each change is two-phase: what can fail comes first and leaves no trace.
 *
 * Life of a block:   HOLE --reserve--> RESERVED --set_written--> DATA
 *                      ^------------------ unmap -------------------'
 * RESERVED reads as the default page, so stale content of the pool is never
 * seen; a data write completes before set_written.
 *
 * Blocks that are shared (dm-dynmap-family.h) are never written: a write to them
 * goes to blocks that are held for it meanwhile, and takes their place by
 * dynmap_table_redirect() when it has ended.
 *
 * Locking: lookups with the metadata lock held for reading, all else for
 * writing. Errors -EAGAIN, -ENOMEM, -EBUSY: see struct dynmap_op.
 */
#ifndef DM_DYNMAP_TABLE_H
#define DM_DYNMAP_TABLE_H

#include "dm-dynmap-family.h"
#include "dm-dynmap-journal.h"

#define DYNMAP_VOLUME_HASH_BITS	12
/* Of volumes being deleted: the journal has 32 bits. */
#define DYNMAP_MAX_REAP_ID	0xffffffffULL

/**
 * struct dynmap_volume - a volume in memory
 * @list: in the table's list of loaded volumes
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
 * @dirty: the record in the volume tree is out of date
 * @users: targets that hold it (managed by the caller of dynmap_volume_get)
 */
struct dynmap_volume {
	struct list_head list;
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
	u32 users;
};

/**
 * struct dynmap_table - all volumes of a pool
 * @cache: node cache
 * @alloc: allocator
 * @journal: journal
 * @family: what volumes share
 * @volumes: the volume tree
 * @loaded: volumes in memory
 * @hash: the same, by id
 * @alloc_blocks: allocation size
 * @next_reap_id: internal id for the next volume deleted
 * @transaction_id: of user space
 * @reclaim_id: where the next round of reclaim begins
 * @reclaim_lbn: and the block there
 */
struct dynmap_table {
	struct dynmap_cache *cache;
	struct dynmap_alloc *alloc;
	struct dynmap_journal *journal;
	struct dynmap_family family;
	struct dynmap_tree volumes;
	struct list_head loaded;
	struct hlist_head hash[1 << DYNMAP_VOLUME_HASH_BITS];
	u32 alloc_blocks;
	u64 next_reap_id;
	u64 transaction_id;
	u64 reclaim_id;
	u64 reclaim_lbn;
};

/**
 * struct dynmap_mapping - answer of a lookup
 * @kind: DYNMAP_HOLE, DYNMAP_DATA or DYNMAP_RESERVED
 * @lbn: the block asked for
 * @len: blocks from there on that are alike and consecutive
 * @pbn: pool block of @lbn, unless a hole
 * @birth: generation in which they were allocated
 * @shared: others may use these blocks: they must not be written
 */
struct dynmap_mapping {
	u8 kind;
	bool shared;
	u32 birth;
	u64 lbn;
	u64 len;
	u64 pbn;
};

/**
 * struct dynmap_reclaim - a round of taking reserved space back
 * @id: volume being looked at
 * @lbn: from there on
 * @first: volume at which the round began, which is looked at again at its end
 * @wrapped: all volumes behind @first have been looked at
 * @freed: blocks freed so far
 */
struct dynmap_reclaim {
	u64 id;
	u64 lbn;
	u64 first;
	bool wrapped;
	u64 freed;
};

void dynmap_table_init(struct dynmap_table *table, struct dynmap_cache *cache,
		       struct dynmap_alloc *alloc, struct dynmap_journal *journal);
void dynmap_table_exit(struct dynmap_table *table);

/**
 * dynmap_table_lookup() - where a block is
 * @volume: the volume
 * @lbn: block, below DYNMAP_MAX_LBN
 * @mapping: the answer
 * @op: told what is missing
 *
 * Return: 0, -EAGAIN, -EUCLEAN.
 */
int __must_check dynmap_table_lookup(struct dynmap_volume *volume, u64 lbn,
				     struct dynmap_mapping *mapping, struct dynmap_op *op);

/**
 * dynmap_table_reserve() - allocate for a write to a hole
 * @table: the table
 * @volume: the volume
 * @lbn: first block to be written, which is a hole
 * @len: blocks to be written
 * @op: told what is missing
 *
 * Allocates the allocation units that the write touches, as far as they are
 * holes and free space goes; at least @lbn is RESERVED afterwards. A write that
 * continues an extent gets more: twice as much as there is, up to 8 MiB, so
 * that streams stay in long extents even if several write at once (the idea of
 * file systems' speculative preallocation). When space gets short the units do
 * too: nothing longer than 1/16 of what is free is allocated at once.
 *
 * Return: 0; -ENOSPC; -EAGAIN, -ENOMEM, -EBUSY, -EUCLEAN.
 */
int __must_check dynmap_table_reserve(struct dynmap_table *table, struct dynmap_volume *volume,
				      u64 lbn, u32 len, struct dynmap_op *op);

/**
 * dynmap_table_may_write() - can a first write be ended when its data is there?
 * @table: the table
 * @volume: the volume
 * @pending: windows whose first writes have begun and not ended
 *
 * Return: false when space for nodes is too short to begin another one.
 */
bool dynmap_table_may_write(const struct dynmap_table *table, const struct dynmap_volume *volume,
			    u32 pending);

/* Is the space for nodes so short that volumes cannot be created? */
bool dynmap_table_is_full(const struct dynmap_table *table);

/**
 * dynmap_table_set_written() - data of a RESERVED range is complete
 * @table: the table
 * @volume: the volume
 * @lbn: first block
 * @pbn: where it was written
 * @len: blocks
 * @op: told what is missing
 *
 * What maps elsewhere by now, or is DATA already, is left alone. Call again
 * with the same arguments after help; done pieces are skipped.
 *
 * Return: 0, -EAGAIN, -ENOMEM, -EBUSY, -ENOSPC (metadata), -EUCLEAN.
 */
int __must_check dynmap_table_set_written(struct dynmap_table *table,
					  struct dynmap_volume *volume, u64 lbn, u64 pbn,
					  u32 len, struct dynmap_op *op);

/* Families have changed: what does the volume share now? As dynmap_snap_get(). */
int __must_check dynmap_volume_refresh(struct dynmap_table *table, struct dynmap_volume *volume,
				       struct dynmap_op *op);

/**
 * dynmap_table_hold() - blocks for a write to what is shared
 * @table: the table
 * @volume: the volume
 * @want: blocks wanted
 * @pbn: set to the first
 * @len: set to how many
 * @op: told what is missing
 *
 * What is held goes to dynmap_table_redirect() or dynmap_alloc_unhold().
 *
 * Return: 0; as dynmap_alloc_data(), -EAGAIN.
 */
int __must_check dynmap_table_hold(struct dynmap_table *table, struct dynmap_volume *volume,
				   u32 want, u64 *pbn, u32 *len, struct dynmap_op *op);

/**
 * dynmap_table_redirect() - data of held blocks is complete: map them
 * @table: the table
 * @volume: the volume
 * @lbn: first block; advanced past what was done
 * @pbn: where it was written; likewise
 * @len: blocks; what is left
 * @op: told what is missing
 *
 * Whatever the range mapped before is given up. After an error that is final what
 * is left is still held.
 *
 * Return: 0, -EAGAIN, -ENOMEM, -EBUSY, -ENOSPC (metadata), -EUCLEAN.
 */
int __must_check dynmap_table_redirect(struct dynmap_table *table, struct dynmap_volume *volume,
				       u64 *lbn, u64 *pbn, u32 *len, struct dynmap_op *op);

/**
 * dynmap_table_unmap() - unmap a range, one bounded step
 * @table: the table
 * @volume: the volume
 * @lbn: advanced past what was done
 * @end: end of the range
 * @op: told what is missing
 *
 * Exactly the blocks of the range are freed, into quarantine.
 *
 * Return: 0 (done when *@lbn == @end), -EAGAIN, -ENOMEM, -EBUSY, -EUCLEAN.
 */
int __must_check dynmap_table_unmap(struct dynmap_table *table, struct dynmap_volume *volume,
				    u64 *lbn, u64 end, struct dynmap_op *op);

/* Begin a round where the last one ended. */
void dynmap_reclaim_begin(const struct dynmap_table *table, struct dynmap_reclaim *reclaim);

/**
 * dynmap_table_reclaim() - take reserved, unwritten space back, one bounded step
 * @table: the table
 * @reclaim: the round
 * @op: told what is missing
 *
 * Rounds go through the volumes in turn, so that what was reserved last is
 * taken last. No first write may be under way: it would lose its place.
 *
 * Return: 0: call again; -ENOENT: the round is complete; -EAGAIN, -ENOMEM,
 * -EBUSY, -EUCLEAN.
 */
int __must_check dynmap_table_reclaim(struct dynmap_table *table, struct dynmap_reclaim *reclaim,
				      struct dynmap_op *op);

/* End of the last mapped extent of a volume, 0 if there is none. */
int __must_check dynmap_table_highest(struct dynmap_volume *volume, u64 *end,
				      struct dynmap_op *op);

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
 * Return: 0; -EEXIST; -ENODATA: no such origin; -EINVAL (id); -EOVERFLOW; -EAGAIN,
 * -ENOMEM, -EBUSY, -ENOSPC, -EUCLEAN.
 */
int __must_check dynmap_volume_snapshot(struct dynmap_table *table, u64 id, u64 origin_id,
					const u8 *uuid, u64 created, struct dynmap_op *op);

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
 * dynmap_volume_reap() - one bounded step of emptying deleted volumes
 *
 * Return: 0: call again; -ENOENT: nothing left to do; -EAGAIN and so on.
 */
int __must_check dynmap_volume_reap(struct dynmap_table *table, struct dynmap_op *op);

/* The first volume with an id at or above @id; -ENOENT when there is none. */
int __must_check dynmap_volume_next(struct dynmap_table *table, u64 id,
				    struct dynmap_disk_volume *disk, struct dynmap_op *op);

/* Set user space's transaction id. */
int __must_check dynmap_table_set_transaction(struct dynmap_table *table, u64 id,
					      struct dynmap_op *op);

/* Replay: re-execute one record. -EUCLEAN if it does not fit the state. */
int __must_check dynmap_table_replay(struct dynmap_table *table,
				     const struct dynmap_disk_record *record,
				     struct dynmap_op *op);

/* Checkpoint: put the records of dirty volumes into the volume tree. */
int __must_check dynmap_table_checkpoint(struct dynmap_table *table, struct dynmap_op *op);
/* Checkpoint: seal the map trees, then the volume tree. Cannot fail. */
void dynmap_table_seal(struct dynmap_table *table);

#endif /* DM_DYNMAP_TABLE_H */
