// SPDX-License-Identifier: GPL-2.0-only
/*
 * Journal, see core/journal.h. Callers: volumes and table (reserve,
 * append), checkpoints (commit, seal), opening (replay), growth (carriers), the kernel's bio path.
 *
 * Journal blocks live in buffers of the node cache. A block becomes final when
 * it is full or when a commit begins; it is sealed (crc) only by the commit
 * that writes it.
 */
#include "core/journal.h"

#define DYNMAP_JOURNAL_LOOK	64	/* adjacent blocks that may be destroyed, and be missed */

void dynmap_journal_init(struct dynmap_journal *journal, struct dynmap_cache *cache)
{
	memset(journal, 0, sizeof(*journal));
	journal->cache = cache;
	INIT_LIST_HEAD(&journal->full);
	INIT_LIST_HEAD(&journal->writing);
}

void dynmap_journal_exit(struct dynmap_journal *journal)
{
	struct dynmap_buf *buf, *next;

	if (!journal->cache)
		return;
	list_splice_tail_init(&journal->writing, &journal->full);
	list_for_each_entry_safe(buf, next, &journal->full, list)
		dynmap_buf_free(buf);
	INIT_LIST_HEAD(&journal->full);
	if (journal->current_block)
		dynmap_buf_free(journal->current_block);
	journal->current_block = NULL;
}

u32 dynmap_journal_carriers(const struct dynmap_disk_super *super, u32 blocks)
{
	u32 dev, count = 0;

	for (dev = 0; dev < le32_to_cpu(super->nr_devices); dev++)
		count += le32_to_cpu(super->device[dev].journal_blocks) >= blocks;
	return count;
}

void dynmap_journal_spread(struct dynmap_journal *journal, const struct dynmap_disk_super *super)
{
	u32 dev, count = le32_to_cpu(super->journal_devices);

	journal->blocks = le32_to_cpu(super->journal_blocks);
	journal->nr_devs = 0;
	for (dev = 0; journal->nr_devs < count; dev++)
		if (le32_to_cpu(super->device[dev].journal_blocks) >= journal->blocks)
			journal->dev[journal->nr_devs++] = dev;
}

static u32 dynmap_journal_crc(const struct dynmap_disk_journal *block)
{
	const u8 *bytes = (const u8 *)block;
	__le32 zero = 0;
	u32 crc;

	crc = crc32c(~0U, bytes, offsetof(struct dynmap_disk_journal, crc));
	crc = crc32c(crc, &zero, sizeof(zero));
	return ~crc32c(crc, bytes + offsetof(struct dynmap_disk_journal, uuid),
		       DYNMAP_BLOCK_BYTES - offsetof(struct dynmap_disk_journal, uuid));
}

static void dynmap_journal_close(struct dynmap_journal *journal)
{
	if (!journal->current_block)
		return;
	list_add_tail(&journal->current_block->list, &journal->full);
	journal->current_block = NULL;
	journal->head++;
}

__hot int dynmap_journal_reserve(struct dynmap_journal *journal, u32 records, struct dynmap_op *op)
{
	u64 used = journal->head - journal->tail;
	u32 limit = op->urgent ? journal->blocks - 2 : journal->blocks - journal->blocks / 4;
	u32 count = 0;

	if (journal->replaying)
		return 0;
	if (journal->failed)
		return -EROFS;
	if (journal->current_block) {
		struct dynmap_disk_journal *block = journal->current_block->data;

		count = le16_to_cpu(block->count);
	}
	if (journal->current_block && count + records <= DYNMAP_JOURNAL_RECORDS)
		return 0;
	if (used + 2 > limit)
		return -EBUSY;
	/* One buffer here, one for the operation's own: it asked the cache before. */
	if (journal->cache->nr_spare <= 1)
		return -ENOMEM;
	dynmap_journal_close(journal);
	return 0;
}

static void dynmap_journal_start(struct dynmap_journal *journal)
{
	struct dynmap_cache *cache = journal->cache;
	struct dynmap_disk_journal *block;

	journal->current_block = dynmap_cache_take_spare(cache);
	block = journal->current_block->data;
	memset(block, 0, DYNMAP_BLOCK_BYTES);
	block->magic = cpu_to_le32(DYNMAP_JOURNAL_MAGIC);
	memcpy(block->uuid, cache->uuid, sizeof(block->uuid));
	block->seq = cpu_to_le64(journal->head);
	block->incarnation = cpu_to_le64(journal->incarnation);
	block->epoch = cpu_to_le64(cache->epoch);
}

__hot void dynmap_journal_append(struct dynmap_journal *journal,
				 const struct dynmap_disk_record *record)
{
	struct dynmap_disk_journal *block;
	u32 count;

	if (journal->replaying)
		return;
	if (!journal->current_block)
		dynmap_journal_start(journal);
	block = journal->current_block->data;
	count = le16_to_cpu(block->count);
	block->record[count] = *record;
	block->count = cpu_to_le16(count + 1);
	if (count + 1 == DYNMAP_JOURNAL_RECORDS)
		dynmap_journal_close(journal);
}

bool dynmap_journal_pending(const struct dynmap_journal *journal)
{
	return journal->current_block || journal->durable != journal->head;
}

bool dynmap_journal_wants_checkpoint(const struct dynmap_journal *journal)
{
	return (journal->head - journal->tail) * 2 > journal->blocks;
}

void dynmap_journal_commit_begin(struct dynmap_journal *journal)
{
	dynmap_journal_close(journal);
	list_splice_tail_init(&journal->full, &journal->writing);
	journal->writing_end = journal->head;
}

static void dynmap_journal_write(struct dynmap_journal *journal, struct dynmap_buf *buf, u32 flags)
{
	struct dynmap_disk_journal *block = buf->data;
	struct dynmap_store *store = journal->cache->geo->store;
	u32 copy, dev;
	u64 at;

	block->durable = cpu_to_le64(journal->durable);
	block->rest = cpu_to_le32(journal->writing_end - 1 - le64_to_cpu(block->seq));
	block->crc = cpu_to_le32(dynmap_journal_crc(block));
	for (copy = 0; copy < dynmap_journal_copies(journal); copy++) {
		at = dynmap_journal_locate(journal, le64_to_cpu(block->seq), copy, &dev);
		store->ops->write(store, DYNMAP_BATCH_JOURNAL, dev, at, block,
				  flags | DYNMAP_STORE_FUA);
	}
}

/*
 * Rule 1: the data that the records map is flushed before the records are
 * written. The blocks of one commit go out together: replay stops at the first
 * gap, and none of them counts before all are durable.
 */
int dynmap_journal_commit_io(struct dynmap_journal *journal)
{
	struct dynmap_store *store = journal->cache->geo->store;
	u32 dev, flushes = 0, last = 0, flags = 0;
	bool flush[DYNMAP_MAX_DEVICES];
	struct dynmap_buf *buf;
	int ret = 0;

	if (journal->failed)
		return -EIO;
	for (dev = 0; dev < journal->cache->geo->nr_devs; dev++) {
		flush[dev] = store->ops->take_written(store, dev);
		flushes += flush[dev];
		if (flush[dev])
			last = dev;
	}
	if (flushes == 1 && journal->nr_devs == 1 && journal->dev[0] == last &&
	    list_is_singular(&journal->writing)) {
		flags = DYNMAP_STORE_PREFLUSH;
		flushes = 0;
	}
	for (dev = 0; flushes && dev < journal->cache->geo->nr_devs; dev++)
		if (flush[dev])
			store->ops->flush(store, DYNMAP_BATCH_JOURNAL, dev);
	if (flushes)
		ret = store->ops->wait(store, DYNMAP_BATCH_JOURNAL);
	if (ret || list_empty(&journal->writing))
		return ret ? -EIO : 0;
	list_for_each_entry(buf, &journal->writing, list)
		dynmap_journal_write(journal, buf, flags);
	return store->ops->wait(store, DYNMAP_BATCH_JOURNAL) ? -EIO : 0;
}

void dynmap_journal_commit_end(struct dynmap_journal *journal, int error)
{
	struct dynmap_buf *buf, *next;

	list_for_each_entry_safe(buf, next, &journal->writing, list) {
		list_del_init(&buf->list);
		dynmap_cache_add_spare(journal->cache, buf);
	}
	if (error && !journal->failed) {
		journal->failed = true;
		dynmap_err("journal: commit failed, nothing more will be made durable");
	}
	if (!journal->failed)
		journal->durable = journal->writing_end;
}

void dynmap_journal_cover(struct dynmap_journal *journal, u64 seq)
{
	struct dynmap_buf *buf, *next;

	list_for_each_entry_safe(buf, next, &journal->full, list) {
		const struct dynmap_disk_journal *block = buf->data;

		if (le64_to_cpu(block->seq) >= seq)
			break;
		list_del_init(&buf->list);
		dynmap_cache_add_spare(journal->cache, buf);
	}
	journal->tail = seq;
	journal->durable = max(journal->durable, seq);
}

u64 dynmap_journal_seal(struct dynmap_journal *journal)
{
	dynmap_journal_close(journal);
	return journal->head;
}

/* Is this a journal block of ours, whichever? */
static bool dynmap_journal_is_whole(const struct dynmap_journal *journal,
				    const struct dynmap_disk_journal *block)
{
	return le32_to_cpu(block->magic) == DYNMAP_JOURNAL_MAGIC &&
	       le32_to_cpu(block->crc) == dynmap_journal_crc(block) &&
	       !memcmp(block->uuid, journal->cache->uuid, sizeof(block->uuid));
}

/* Is a whole block the one with this number? */
static bool dynmap_journal_is(const struct dynmap_journal *journal, u64 seq,
			      const struct dynmap_disk_journal *block)
{
	return le64_to_cpu(block->incarnation) == journal->incarnation &&
	       le64_to_cpu(block->seq) == seq && block->count &&
	       le16_to_cpu(block->count) <= DYNMAP_JOURNAL_RECORDS;
}

/*
 * A commit counts only when all copies are written: where one copy cannot be
 * read, another that holds a different block, or nothing yet, proves the end.
 */
int dynmap_journal_read(struct dynmap_journal *journal, u64 seq, void *data)
{
	struct dynmap_store *store = journal->cache->geo->store;
	bool unreadable = false, absent = false;
	u32 copy, dev;
	u64 at;

	for (copy = 0; copy < dynmap_journal_copies(journal); copy++) {
		at = dynmap_journal_locate(journal, seq, copy, &dev);
		if (store->ops->read(store, dev, at, data)) {
			unreadable = true;
		} else if (dynmap_block_is_zero(data)) {
			absent = true;
		} else if (dynmap_journal_is_whole(journal, data)) {
			if (dynmap_journal_is(journal, seq, data))
				return 0;
			absent = true;
		}
	}
	return unreadable && !absent ? -EIO : -ENODATA;
}

int dynmap_journal_verify_end(struct dynmap_journal *journal, u64 seq, void *data)
{
	const struct dynmap_disk_journal *block = data;
	u64 at = seq + 1;
	u32 missing = 0;

	while (at - seq < journal->blocks && missing < DYNMAP_JOURNAL_LOOK) {
		if (dynmap_journal_read(journal, at, data)) {
			missing++;
			at++;
			continue;
		}
		if (le64_to_cpu(block->durable) > seq)
			return -EBADMSG;
		/* The rest of its commit says the same. */
		missing = 0;
		at += (u64)le32_to_cpu(block->rest) + 1;
	}
	return 0;
}
