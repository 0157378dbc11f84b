/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Journal: records of changes since the last checkpoint.
 *
 * Owns: the journal blocks in memory, their places in the ring, and the
 * commit, which is what makes a FLUSH true. A commit goes in three steps:
 * begin (lock held), io (no lock), end (lock held); only one is under way at a
 * time, and changes go on meanwhile.
 *
 * Invariants
 *  J1 a record is appended in the same hold of the lock as its change;
 *  J2 the data that a record maps was complete before the record was appended;
 *     commit io flushes the devices that hold such data before the journal
 *     block is written (ordering rule 1);
 *  J3 a block is overwritten in the ring only after a checkpoint that covers
 *     it is durable; what is covered and not yet being written never is;
 *  J4 the records that one operation reserved lie in one block: replay finds all of
 *     them or none;
 *  J5 after a failed commit nothing is ever reported durable again (@failed).
 */
#ifndef DM_DYNMAP_JOURNAL_H
#define DM_DYNMAP_JOURNAL_H

#include "core/node.h"

/**
 * struct dynmap_journal - the journal of one pool
 * @cache: buffers, geometry, uuid
 * @dev: the devices that carry the ring
 * @nr_devs: how many
 * @blocks: length of the ring
 * @incarnation: stamped on every block
 * @head: sequence number of the block that takes the next record
 * @tail: replay begins here; a durable checkpoint covers what lies before
 * @durable: all blocks before this one are durable
 * @current_block: block being filled, or NULL
 * @full: filled blocks not yet being written, oldest first
 * @writing: blocks of the commit under way
 * @writing_end: sequence number behind them
 * @replaying: do not append
 * @failed: a commit failed
 */
struct dynmap_journal {
	struct dynmap_cache *cache;
	u32 dev[DYNMAP_MAX_DEVICES];
	u32 nr_devs;
	u32 blocks;
	u64 incarnation;
	u64 head;
	u64 tail;
	u64 durable;
	struct dynmap_buf *current_block;
	struct list_head full;
	struct list_head writing;
	u64 writing_end;
	bool replaying;
	bool failed;
};

void dynmap_journal_init(struct dynmap_journal *journal, struct dynmap_cache *cache);
void dynmap_journal_exit(struct dynmap_journal *journal);

/**
 * dynmap_journal_spread() - set the devices that carry the ring
 * @journal: the journal
 * @super: superblock that says so, checked
 *
 * Blocks are written to and looked for on these devices from now on: between opening
 * and replay, or when a checkpoint with that superblock is durable, which covers all
 * blocks that may lie elsewhere.
 */
void dynmap_journal_spread(struct dynmap_journal *journal, const struct dynmap_disk_super *super);

/* Devices of a superblock that have room for a ring of so many blocks. */
u32 dynmap_journal_carriers(const struct dynmap_disk_super *super, u32 blocks);

/* Copies of each block. */
static inline u32 dynmap_journal_copies(const struct dynmap_journal *journal)
{
	return journal->nr_devs > 1 ? 2 : 1;
}

/* Where a copy of block @seq lies: sets the device, returns the block there. */
static inline u64 dynmap_journal_locate(const struct dynmap_journal *journal, u64 seq, u32 copy,
					u32 *dev)
{
	*dev = journal->dev[(seq / DYNMAP_JOURNAL_PIECE + copy) % journal->nr_devs];
	return journal->cache->geo->dev[*dev].journal_start + seq % journal->blocks;
}

/**
 * dynmap_journal_reserve() - first phase: room for records, in one block
 * @journal: the journal
 * @records: how many, at most DYNMAP_JOURNAL_RECORDS
 * @op: op->urgent may use the last quarter of the ring
 *
 * Return: 0; -ENOMEM; -EBUSY: a checkpoint must make room; -EROFS after a
 * failed commit.
 */
int __must_check dynmap_journal_reserve(struct dynmap_journal *journal, u32 records,
					struct dynmap_op *op);

/* Second phase: append a record. Nothing is done while replaying. */
void dynmap_journal_append(struct dynmap_journal *journal,
			   const struct dynmap_disk_record *record);

/* Is there a record that is not durable? */
bool dynmap_journal_pending(const struct dynmap_journal *journal);
/* Is the ring half full? */
bool dynmap_journal_wants_checkpoint(const struct dynmap_journal *journal);

/* Commit, step 1: close what is pending. */
void dynmap_journal_commit_begin(struct dynmap_journal *journal);
/**
 * dynmap_journal_commit_io() - commit, step 2: flush devices, write the blocks
 *
 * Devices that hold completed writes (store op take_written) are flushed, then
 * the blocks are written with FUA on the journal devices. With one block, one
 * journal device and nothing else to flush, it is one write with PREFLUSH|FUA.
 * With no blocks only the flushes are made.
 *
 * Context: may sleep; no lock.
 * Return: 0 or -EIO.
 */
int __must_check dynmap_journal_commit_io(struct dynmap_journal *journal);
/* Commit, step 3: the blocks are durable, or (@error) the journal has failed. */
void dynmap_journal_commit_end(struct dynmap_journal *journal, int error);

/* Checkpoint: replay would begin behind everything appended so far: that seq. */
u64 dynmap_journal_seal(struct dynmap_journal *journal);
/*
 * That checkpoint is durable: replay begins at @seq. Blocks before it that were not written are
 * not needed any more, and must not be written: the ring would be longer than it is, and two
 * blocks of one commit could have the same place. Lock held, no commit under way.
 */
void dynmap_journal_cover(struct dynmap_journal *journal, u64 seq);

/**
 * dynmap_journal_read() - replay: read one block
 * @journal: the journal, its ring and incarnation as the superblock says
 * @seq: sequence number
 * @data: 4 KiB to read into
 *
 * Return: 0; -ENODATA if no copy is the valid block of that number: the
 * journal ends here; -EIO if a copy that might be it could not be read and no
 * other copy proves that it is not.
 */
int __must_check dynmap_journal_read(struct dynmap_journal *journal, u64 seq, void *data);

/**
 * dynmap_journal_verify_end() - replay: is the end of the journal the true one?
 * @journal: the journal
 * @seq: block for which dynmap_journal_read() said -ENODATA
 * @data: 4 KiB to read into
 *
 * A later block of the same incarnation that was written when this one was
 * durable already proves that all copies of this one were destroyed. Blocks of the
 * same commit prove nothing, since a power failure may leave any of them; each tells
 * where the next commit begins, however long its own is. Up to 63 adjacent blocks may
 * be destroyed. (With a single copy, of the last commit nothing tells.)
 *
 * Return: 0; -EBADMSG if acknowledged records are lost.
 */
int __must_check dynmap_journal_verify_end(struct dynmap_journal *journal, u64 seq, void *data);

#endif /* DM_DYNMAP_JOURNAL_H */
