// SPDX-License-Identifier: GPL-2.0-only
/* What happened to all devices, see trace.h. */
#include "trace.h"

#define MAX_EVENT_SECTORS	64

struct undo {
	u32 dev;
	u32 sectors;
	u64 sector;
};

static void *grown(void *ptr, u64 bytes)
{
	ptr = realloc(ptr, bytes);
	if (!ptr)
		abort();
	return ptr;
}

void disks_init(struct disks *disks, const u64 *capacity, const void *poison)
{
	u32 dev;
	u64 sector;

	memset(disks, 0, sizeof(*disks));
	for (dev = 0; dev < MAX_DISKS && capacity[dev]; dev++) {
		disks->data[dev] = grown(NULL, capacity[dev] * DYNMAP_BLOCK_BYTES);
		for (sector = 0; sector < capacity[dev] * DYNMAP_BLOCK_SECTORS; sector++)
			memcpy(disks->data[dev] + sector * SECTOR_BYTES, poison, SECTOR_BYTES);
		memset(disks->data[dev], 0, DYNMAP_BLOCK_BYTES);
		disks->blocks[dev] = capacity[dev];
		disks->nr = dev + 1;
	}
}

void disks_exit(struct disks *disks)
{
	u32 dev;

	for (dev = 0; dev < MAX_DISKS; dev++)
		free(disks->data[dev]);
	free(disks->undo);
	memset(disks, 0, sizeof(*disks));
}

u8 *disks_sector(struct disks *disks, u32 dev, u64 sector)
{
	return disks->data[dev] + sector * SECTOR_BYTES;
}

void disks_write(struct disks *disks, u32 dev, u64 sector, u32 sectors, const void *data)
{
	struct undo undo = { .dev = dev, .sectors = sectors, .sector = sector };
	u64 bytes = (u64)sectors * SECTOR_BYTES;
	u8 *at = disks_sector(disks, dev, sector), *top;

	if (disks->undo_bytes + bytes + sizeof(undo) > disks->undo_capacity) {
		disks->undo_capacity = 2 * disks->undo_capacity + bytes + (1 << 20);
		disks->undo = grown(disks->undo, disks->undo_capacity);
	}
	top = disks->undo + disks->undo_bytes;
	memcpy(top, at, bytes);
	memcpy(top + bytes, &undo, sizeof(undo));
	disks->undo_bytes += bytes + sizeof(undo);
	if (data)
		memcpy(at, data, bytes);
	else
		memset(at, 0, bytes);
}

u64 disks_mark(const struct disks *disks)
{
	return disks->undo_bytes;
}

void disks_rollback(struct disks *disks, u64 mark)
{
	struct undo undo;

	while (disks->undo_bytes > mark) {
		disks->undo_bytes -= sizeof(undo);
		memcpy(&undo, disks->undo + disks->undo_bytes, sizeof(undo));
		disks->undo_bytes -= (u64)undo.sectors * SECTOR_BYTES;
		memcpy(disks_sector(disks, undo.dev, undo.sector), disks->undo + disks->undo_bytes,
		       (u64)undo.sectors * SECTOR_BYTES);
	}
}

void disks_forget(struct disks *disks)
{
	disks->undo_bytes = 0;
}

void trace_reset(struct trace *trace)
{
	trace->count = 0;
	trace->nr_bytes = 0;
}

void trace_exit(struct trace *trace)
{
	free(trace->event);
	free(trace->bytes);
	memset(trace, 0, sizeof(*trace));
}

void trace_add(struct trace *trace, const struct trace_event *event, const void *data)
{
	u64 bytes = (u64)event->sectors * SECTOR_BYTES;
	struct trace_event *added;

	if (trace->count == trace->capacity) {
		trace->capacity = 2 * trace->capacity + 256;
		trace->event = grown(trace->event, trace->capacity * sizeof(*event));
	}
	added = &trace->event[trace->count++];
	*added = *event;
	if (event->type != TRACE_WRITE && event->type != TRACE_DISCARD)
		return;
	if (trace->nr_bytes + bytes > trace->bytes_capacity) {
		trace->bytes_capacity = 2 * trace->bytes_capacity + bytes + (1 << 20);
		trace->bytes = grown(trace->bytes, trace->bytes_capacity);
	}
	added->data = trace->nr_bytes;
	if (data)
		memcpy(trace->bytes + added->data, data, bytes);
	else
		memset(trace->bytes + added->data, 0, bytes);
	trace->nr_bytes += bytes;
}

void trace_mark(struct trace *trace, const struct twin_mark *mark)
{
	struct trace_event event = { .type = TRACE_MARK, .mark = *mark };

	trace_add(trace, &event, NULL);
}

static struct trace_store *to_trace(struct dynmap_store *store)
{
	return container_of(store, struct trace_store, store);
}

/* Change the disks and tell of it, in events of at most 64 sectors. */
static u32 submit(struct trace_store *store, u8 type, u32 dev, u64 sector, u64 sectors,
		  const u8 *data, u32 flags)
{
	struct trace_event event = {
		.type = type,
		.dev = dev,
		.flags = flags,
		.id = ++store->next_id,
	};
	u32 n;

	if (dev >= store->disks->nr ||
	    sector + sectors > store->disks->blocks[dev] * DYNMAP_BLOCK_SECTORS)
		abort();
	do {
		n = min_t(u64, sectors, MAX_EVENT_SECTORS);
		event.sector = sector;
		event.sectors = n;
		if (store->trace)
			trace_add(store->trace, &event, data);
		if (n)
			disks_write(store->disks, dev, sector, n, data);
		sector += n;
		sectors -= n;
		data += data ? n * SECTOR_BYTES : 0;
	} while (sectors);
	return event.id;
}

u32 trace_store_submit(struct trace_store *store, u32 dev, u64 sector, u32 sectors,
		       const void *data, u32 flags)
{
	return submit(store, TRACE_WRITE, dev, sector, sectors, data, flags);
}

void trace_store_discard(struct trace_store *store, u32 dev, u64 sector, u64 sectors)
{
	static u8 junk[MAX_EVENT_SECTORS * SECTOR_BYTES];
	u32 n;

	for (n = 0; n < MAX_EVENT_SECTORS; n++)
		twin_fill(junk + n * SECTOR_BYTES, 0xdead, n, 1);
	for (; sectors; sector += n, sectors -= n) {
		n = min_t(u64, sectors, MAX_EVENT_SECTORS);
		trace_store_done(store, submit(store, TRACE_DISCARD, dev, sector, n, junk, 0));
	}
}

void trace_store_done(struct trace_store *store, u32 id)
{
	struct trace_event event = { .type = TRACE_DONE, .id = id };

	if (store->trace)
		trace_add(store->trace, &event, NULL);
}

static int trace_read(struct dynmap_store *store, u32 dev, u64 block, void *data)
{
	struct disks *disks = to_trace(store)->disks;

	if (dev >= disks->nr || block >= disks->blocks[dev])
		return -EIO;
	memcpy(data, disks_sector(disks, dev, block * DYNMAP_BLOCK_SECTORS), DYNMAP_BLOCK_BYTES);
	return 0;
}

static void pend(struct trace_store *store, u32 batch, u32 id)
{
	if (store->nr_pending[batch] == store->capacity[batch]) {
		store->capacity[batch] = 2 * store->capacity[batch] + 64;
		store->pending[batch] = grown(store->pending[batch],
					      store->capacity[batch] * sizeof(u32));
	}
	store->pending[batch][store->nr_pending[batch]++] = id;
}

/* A write with PREFLUSH goes to the device when the flush has completed. */
static void trace_write(struct dynmap_store *base, u32 batch, u32 dev, u64 block,
			const void *data, u32 flags)
{
	struct trace_store *store = to_trace(base);

	if (flags & DYNMAP_STORE_PREFLUSH)
		trace_store_done(store, submit(store, TRACE_FLUSH, dev, 0, 0, NULL, 0));
	pend(store, batch, submit(store, TRACE_WRITE, dev, block * DYNMAP_BLOCK_SECTORS,
				  DYNMAP_BLOCK_SECTORS, data,
				  (flags & TRACE_FUA) | TRACE_META));
}

static void trace_flush(struct dynmap_store *base, u32 batch, u32 dev)
{
	struct trace_store *store = to_trace(base);

	pend(store, batch, submit(store, TRACE_FLUSH, dev, 0, 0, NULL, 0));
}

static int trace_wait(struct dynmap_store *base, u32 batch)
{
	struct trace_store *store = to_trace(base);
	u32 i;

	if (store->waiting && batch == DYNMAP_BATCH_CHECKPOINT)
		store->waiting(store);
	for (i = 0; i < store->nr_pending[batch]; i++)
		trace_store_done(store, store->pending[batch][i]);
	store->nr_pending[batch] = 0;
	return 0;
}

static bool trace_take_written(struct dynmap_store *base, u32 dev)
{
	struct trace_store *store = to_trace(base);
	bool written = store->written[dev];

	store->written[dev] = false;
	return written;
}

static const struct dynmap_store_ops trace_ops = {
	.read = trace_read,
	.write = trace_write,
	.flush = trace_flush,
	.wait = trace_wait,
	.take_written = trace_take_written,
};

void trace_store_init(struct trace_store *store, struct disks *disks)
{
	memset(store, 0, sizeof(*store));
	store->store.ops = &trace_ops;
	store->disks = disks;
}

void trace_store_exit(struct trace_store *store)
{
	u32 i;

	for (i = 0; i < DYNMAP_BATCHES; i++)
		free(store->pending[i]);
	memset(store, 0, sizeof(*store));
}

int trace_store_open(struct trace_store *store, struct dynmap_pool *pool, bool readonly)
{
	static struct dynmap_disk_super supers[MAX_DISKS];
	int errors[MAX_DISKS], ret;
	u64 opening;

	ret = dynmap_super_scan(&store->store, store->disks->nr, store->disks->blocks, supers,
				errors);
	/* Others may have been about to join. */
	if (errors[0])
		return errors[0];
	opening = le64_to_cpu(supers[ret].epoch) + 1;
	ret = dynmap_pool_open(pool, &store->store, &supers[ret], 256,
			       readonly ? DYNMAP_OPEN_READ_ONLY : opening);
	/* After every second opening bitmaps come and go. */
	if (!ret && opening % 2) {
		pool->alloc.space.most_segs = 0;
		pool->alloc.space.most_loaded = 0;
	}
	return ret;
}
