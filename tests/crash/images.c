// SPDX-License-Identifier: GPL-2.0-only
/* What devices may hold after a power cut, see images.h. */
#include "images.h"

#define MAX_GARBAGE	16

static u64 sector_hash(u32 dev, u64 sector, const u8 *data)
{
	u64 hash = twin_mix(dev, sector), word;
	u32 i;

	for (i = 0; i < SECTOR_BYTES; i += 8) {
		memcpy(&word, data + i, 8);
		hash = (hash ^ word) * 0x9fb21c651e98df25ULL;
		hash ^= hash >> 29;
	}
	return twin_mix(hash, 0);
}

void images_init(struct images *images, struct disks *disks, const struct trace *trace, u64 hash)
{
	memset(images, 0, sizeof(*images));
	images->disks = disks;
	images->trace = trace;
	images->hash = hash;
}

void images_exit(struct images *images)
{
	free(images->write);
	free(images->sector);
	free(images->chosen);
}

/* One sector becomes what it may be; the hash with it. */
static void put_sector(struct disks *disks, u64 *hash, u32 dev, u64 sector, const u8 *data)
{
	*hash ^= sector_hash(dev, sector, disks_sector(disks, dev, sector));
	disks_write(disks, dev, sector, 1, data);
	*hash ^= sector_hash(dev, sector, data);
}

static const u8 *sector_data(struct images *images, const struct volatile_write *write, u32 i)
{
	return images->trace->bytes + write->event->data + (u64)i * SECTOR_BYTES;
}

/* A sector of write @index is durable: what older writes put there counts no more. */
static void settle_sector(struct images *images, u32 index, u32 i)
{
	const struct trace_event *event = images->write[index].event, *older;
	u64 sector = event->sector + i;
	u32 w;

	put_sector(images->disks, &images->hash, event->dev, sector,
		   sector_data(images, &images->write[index], i));
	for (w = 0; w <= index; w++) {
		older = images->write[w].event;
		if (older->dev == event->dev && older->sector <= sector &&
		    sector < older->sector + older->sectors)
			images->write[w].live &= ~(1ULL << (sector - older->sector));
	}
}

static void settle(struct images *images, u32 index)
{
	u64 live;

	for (live = images->write[index].live; live; live &= live - 1)
		settle_sector(images, index, __ffs64(live));
}

/* A flush of @dev that was submitted at event @submitted has completed. */
static void settle_flushed(struct images *images, u32 dev, u32 submitted)
{
	u32 w;

	for (w = 0; w < images->nr_writes; w++)
		if (images->write[w].event->dev == dev && images->write[w].done_at &&
		    images->write[w].done_at < submitted)
			settle(images, w);
}

static void forget_settled(struct images *images)
{
	u32 w, kept = 0;

	for (w = 0; w < images->nr_writes; w++)
		if (images->write[w].live)
			images->write[kept++] = images->write[w];
	images->nr_writes = kept;
}

static void submitted(struct images *images, const struct trace_event *event)
{
	struct volatile_write *write;

	if (images->nr_writes == images->capacity) {
		images->capacity = 2 * images->capacity + 64;
		images->write = realloc(images->write, images->capacity * sizeof(*write));
		if (!images->write)
			abort();
	}
	write = &images->write[images->nr_writes++];
	write->event = event;
	write->live = event->sectors == 64 ? ~0ULL : (1ULL << event->sectors) - 1;
	write->done_at = 0;
}

static void completed(struct images *images, u32 id, u32 index)
{
	struct volatile_write *write;
	u32 i;

	for (i = 0; i < images->nr_flushes; i++) {
		if (images->flush[i].id != id)
			continue;
		settle_flushed(images, images->flush[i].dev, images->flush[i].submitted);
		images->flush[i] = images->flush[--images->nr_flushes];
		break;
	}
	for (i = 0; i < images->nr_writes; i++) {
		write = &images->write[i];
		if (write->event->id != id)
			continue;
		write->done_at = index;
		if (write->event->flags & TRACE_FUA)
			settle(images, i);
	}
	forget_settled(images);
}

void images_advance(struct images *images, u32 index)
{
	const struct trace_event *event = &images->trace->event[index];

	switch (event->type) {
	case TRACE_WRITE:
	case TRACE_DISCARD:
		submitted(images, event);
		break;
	case TRACE_FLUSH:
		if (images->nr_flushes == MAX_FLUSHES)
			abort();
		images->flush[images->nr_flushes].id = event->id;
		images->flush[images->nr_flushes].dev = event->dev;
		images->flush[images->nr_flushes++].submitted = index;
		break;
	case TRACE_DONE:
		completed(images, event->id, index);
		break;
	}
}

/* Does this sector differ from what is there, or may be there? */
static bool differs(struct images *images, u32 dev, u64 sector, const u8 *data)
{
	u32 i;

	if (memcmp(disks_sector(images->disks, dev, sector), data, SECTOR_BYTES))
		return true;
	for (i = 0; i < images->nr_sectors; i++)
		if (images->sector[i].dev == dev && images->sector[i].sector == sector)
			return true;
	return false;
}

static void collect_sectors(struct images *images)
{
	struct volatile_sector *sector;
	struct volatile_write *write;
	const u8 *data;
	u64 live;
	u32 w, i;

	images->nr_sectors = 0;
	for (w = 0; w < images->nr_writes; w++) {
		write = &images->write[w];
		for (live = write->live; live; live &= live - 1) {
			i = __ffs64(live);
			data = sector_data(images, write, i);
			if (!differs(images, write->event->dev, write->event->sector + i, data))
				continue;
			if (images->nr_sectors == images->max_sectors) {
				images->max_sectors = 2 * images->max_sectors + 64;
				images->sector = realloc(images->sector, images->max_sectors *
							 sizeof(*sector));
				images->chosen = realloc(images->chosen, images->max_sectors);
				if (!images->sector || !images->chosen)
					abort();
			}
			sector = &images->sector[images->nr_sectors++];
			sector->dev = write->event->dev;
			sector->sector = write->event->sector + i;
			sector->data = data;
			sector->garbage = write->event->flags & TRACE_META && !write->done_at;
		}
	}
}

struct attempt {
	struct images *images;
	void (*try)(void *context, u64 hash);
	void *context;
};

static void attempt(struct attempt *attempt)
{
	static const u8 garbage[SECTOR_BYTES] = { 0x5a, 0xa5, 0x3c, 0xc3, 0x99, 0x66 };
	struct images *images = attempt->images;
	u64 mark = disks_mark(images->disks), hash = images->hash;
	const struct volatile_sector *sector;
	u32 i;

	for (i = 0; i < images->nr_sectors; i++) {
		sector = &images->sector[i];
		if (images->chosen[i])
			put_sector(images->disks, &hash, sector->dev, sector->sector,
				   images->chosen[i] == 2 ? garbage : sector->data);
	}
	attempt->try(attempt->context, hash);
	disks_rollback(images->disks, mark);
}

static void attempt_all_subsets(struct attempt *args)
{
	struct images *images = args->images;
	u32 set, i;

	for (set = 0; set < 1U << images->nr_sectors; set++) {
		for (i = 0; i < images->nr_sectors; i++)
			images->chosen[i] = set >> i & 1;
		attempt(args);
	}
}

/* Sectors in flight may be anything: with all others old, and all others new. */
static void attempt_garbage(struct attempt *args)
{
	struct images *images = args->images;
	u32 i, done = 0, others;

	for (i = 0; i < images->nr_sectors && done < MAX_GARBAGE; i++) {
		if (!images->sector[i].garbage)
			continue;
		done++;
		for (others = 0; others < 2; others++) {
			memset(images->chosen, others, images->nr_sectors);
			images->chosen[i] = 2;
			attempt(args);
		}
	}
}

static void attempt_devices(struct attempt *args)
{
	struct images *images = args->images;
	u32 dev, i;

	for (dev = 0; dev < images->disks->nr; dev++) {
		for (i = 0; i < images->nr_sectors; i++)
			images->chosen[i] = images->sector[i].dev == dev;
		attempt(args);
	}
}

void images_each(struct images *images, const struct images_budget *budget,
		 void (*try)(void *context, u64 hash), void *context)
{
	struct attempt args = { .images = images, .try = try, .context = context };
	u32 n, i, seeded;
	u64 bits;

	collect_sectors(images);
	n = images->nr_sectors;
	attempt_garbage(&args);
	if (n <= budget->all) {
		attempt_all_subsets(&args);
		return;
	}
	for (i = 0; i <= n; i++) {
		memset(images->chosen, 0, n);
		memset(images->chosen, 1, i);
		attempt(&args);
	}
	for (i = 0; budget->singles && i < 2 * n; i++) {
		memset(images->chosen, i & 1, n);
		images->chosen[i / 2] = !(i & 1);
		attempt(&args);
	}
	attempt_devices(&args);
	bits = images->hash;
	for (seeded = 0; seeded < budget->seeded; seeded++) {
		for (i = 0; i < n; i++) {
			bits = twin_mix(bits, i);
			/* Denser and thinner ones in turn. */
			images->chosen[i] = (bits & 7) <= (seeded & 7);
		}
		attempt(&args);
	}
}
