// SPDX-License-Identifier: GPL-2.0-only
/* A pool at work, see world.h. */
#include "world.h"

#define MAX_TRIES	2000

void (*world_on_death)(const char *what, int error);

void world_die(const char *what, int error)
{
	if (world_on_death)
		world_on_death(what, error);
	fprintf(stderr, "%s: error %d\n", what, error);
	abort();
}

static void mark(struct world *world, u8 op, u32 volume, u32 sector, u32 sectors, u64 seq)
{
	struct twin_mark mark = {
		.op = op, .volume = volume, .sector = sector, .sectors = sectors, .seq = seq,
	};

	trace_mark(&world->trace, &mark);
}

/* Blocks leave quarantine: no I/O is under way. */
static void release(struct world *world)
{
	struct dynmap_alloc *alloc = &world->pool.alloc;
	const struct dynmap_run *runs;
	struct dynmap_buf *buf;
	u32 count, i, dev;
	u64 block;

	if (world->nr_writes)
		return;
	list_for_each_entry(buf, &alloc->quarantine.bufs, list) {
		count = dynmap_runlist_runs(buf, &runs);
		for (i = 0; i < count; i++) {
			block = dynmap_pbn_locate(&world->pool.geo, runs[i].pbn, &dev);
			trace_store_discard(&world->store, dev, block * DYNMAP_BLOCK_SECTORS,
					    (u64)runs[i].len * DYNMAP_BLOCK_SECTORS);
		}
	}
	while (dynmap_alloc_release(alloc, &alloc->quarantine))
		;
}

/* A step towards a checkpoint. */
static int prepare_checkpoint(struct world *world)
{
	struct dynmap_op op = {};
	int ret;

	do {
		ret = dynmap_pool_checkpoint_prepare(&world->pool, &op);
		if (!ret || ret == -EINPROGRESS)
			return 0;
		ret = dynmap_pool_help(&world->pool, &op, ret);
	} while (!ret);
	return ret;
}

/* The next step of a commit. */
static void step_commit(struct world *world)
{
	int ret = 0;

	switch (world->commit) {
	case WORLD_IDLE:
		mark(world, TWIN_FLUSH_BEGIN, 0, 0, 0, 0);
		dynmap_pool_commit_begin(&world->pool);
		world->commit = WORLD_BEGUN;
		break;
	case WORLD_BEGUN:
		ret = dynmap_pool_commit_io(&world->pool);
		world->commit = WORLD_WRITTEN;
		/* In some epochs the checkpoint is prepared long before it begins. */
		if (!ret && world->checkpoint == WORLD_IDLE && world->pool.cache.epoch % 4 == 1)
			ret = prepare_checkpoint(world);
		break;
	case WORLD_WRITTEN:
		dynmap_pool_commit_end(&world->pool, 0);
		mark(world, TWIN_FLUSH_DONE, 0, 0, 0, 0);
		release(world);
		world->commit = WORLD_IDLE;
		break;
	case WORLD_PUBLISHED:
		break;
	}
	if (ret)
		world_die("commit", ret);
}

static void end_commit(struct world *world)
{
	while (world->commit != WORLD_IDLE)
		step_commit(world);
}

/*
 * The nodes of a checkpoint are under way: in every third epoch a whole commit is made
 * meanwhile, in the next one a step of it, in the third none begins.
 */
static void commit_meanwhile(struct trace_store *store)
{
	struct world *world = container_of(store, struct world, store);
	u64 kind = world->pool.cache.epoch % 3;

	if (!kind && world->commit == WORLD_IDLE)
		return;
	step_commit(world);
	if (kind == 1)
		end_commit(world);
}

/* The next step of a checkpoint. */
static void step_checkpoint(struct world *world)
{
	struct dynmap_op op = {};
	bool more;
	int ret = 0;

	switch (world->checkpoint) {
	case WORLD_IDLE:
		do {
			/* Over every second one dead extents wait. */
			ret = world->pool.cache.epoch % 2 ?
			      dynmap_pool_checkpoint_prepare(&world->pool, &op) : 0;
			if (!ret)
				ret = dynmap_pool_checkpoint_begin(&world->pool, &op);
			if (!ret)
				break;
			ret = ret == -EINPROGRESS ? 0 : dynmap_pool_help(&world->pool, &op, ret);
		} while (!ret);
		world->checkpoint = WORLD_BEGUN;
		break;
	case WORLD_BEGUN:
		world->store.waiting = world->growing ? NULL : commit_meanwhile;
		ret = dynmap_pool_checkpoint_io(&world->pool);
		world->store.waiting = NULL;
		world->checkpoint = WORLD_WRITTEN;
		break;
	case WORLD_WRITTEN:
		end_commit(world);
		ret = dynmap_pool_checkpoint_publish(&world->pool);
		more = dynmap_pool_checkpoint_end(&world->pool, ret);
		world->checkpoint = more ? WORLD_PUBLISHED : WORLD_IDLE;
		break;
	case WORLD_PUBLISHED:
		while (dynmap_pool_checkpoint_end(&world->pool, 0))
			;
		world->checkpoint = WORLD_IDLE;
		break;
	}
	if (ret)
		world_die("checkpoint", ret);
}

static void end_checkpoint(struct world *world)
{
	while (world->checkpoint != WORLD_IDLE)
		step_checkpoint(world);
}

static void settle(struct world *world)
{
	end_commit(world);
	end_checkpoint(world);
}

/* A commit begins only before a superblock is written, or when that has been told. */
static void may_commit(struct world *world)
{
	if (world->checkpoint == WORLD_PUBLISHED)
		end_checkpoint(world);
}

static void commit(struct world *world)
{
	end_commit(world);
	may_commit(world);
	do {
		step_commit(world);
	} while (world->commit != WORLD_IDLE);
}

static void checkpoint(struct world *world)
{
	end_checkpoint(world);
	do {
		step_checkpoint(world);
	} while (world->checkpoint != WORLD_IDLE);
}

static void complete_writes(struct world *world);

/* Bring what an operation asked for. */
static int help(struct world *world, struct dynmap_op *op, int error)
{
	if (error != -EBUSY)
		return dynmap_pool_help(&world->pool, op, error);
	checkpoint(world);
	if (world->pool.alloc.quarantined)
		complete_writes(world);
	commit(world);
	return 0;
}

/* Call @expression, which may use @op, until it needs no more help. */
#define HELPED(world, expression) ({						\
	struct dynmap_op op = {};						\
	int __ret, __tries = 0;							\
										\
	for (;;) {								\
		__ret = (expression);						\
		if (__ret != -EAGAIN && __ret != -ENOMEM && __ret != -EBUSY)	\
			break;							\
		if (__tries++ == MAX_TRIES)					\
			world_die("no progress: " #expression, __ret);		\
		__ret = help(world, &op, __ret);				\
		if (__ret)							\
			break;							\
	}									\
	__ret;									\
})

static struct dynmap_volume *load(struct world *world, u32 id)
{
	struct dynmap_volume *volume;
	int ret = HELPED(world, dynmap_volume_load(&world->pool.table, id, &volume, &op));

	if (ret)
		world_die("a volume cannot be loaded", ret);
	return volume;
}

/* The data of held blocks is there. */
static void map_held(struct world *world, u32 id, u64 lbn, u64 pbn, u32 len,
		     const struct dynmap_place *place)
{
	struct dynmap_volume *volume = load(world, id);
	int ret = HELPED(world, (op.place = *place,
				 dynmap_table_redirect(&world->pool.table, volume, &lbn, &pbn,
						       &len, &op)));

	if (ret)
		world_die("a block cannot be redirected", ret);
}

/* The data of a write under way is there. */
static void complete_write(struct world *world, const struct world_write *write)
{
	u32 sector = write->lbn * DYNMAP_BLOCK_SECTORS;
	int ret = 0;

	trace_store_done(&world->store, write->id);
	world->store.written[write->dev] = true;
	if (write->redirect) {
		map_held(world, write->volume, write->lbn, write->pbn, write->blocks,
			 &write->place);
	} else if (write->first) {
		struct dynmap_volume *volume = load(world, write->volume);

		ret = HELPED(world, (op.place = write->place,
				     dynmap_table_set_written(&world->pool.table, volume,
							      write->lbn, write->pbn,
							      write->blocks, &op)));
	}
	if (ret)
		world_die("a block cannot be marked written", ret);
	mark(world, TWIN_DONE, write->volume, sector, write->blocks * DYNMAP_BLOCK_SECTORS,
	     write->seq);
}

static void complete_writes(struct world *world)
{
	struct world_write write[WORLD_WRITES];
	u32 i, count = world->nr_writes;

	memcpy(write, world->write, sizeof(write));
	world->nr_writes = 0;
	for (i = 0; i < count; i++)
		complete_write(world, &write[i]);
}

/* Is there room for the nodes of a write? 0, or -ENOSPC. */
static int may_write(struct world *world, struct dynmap_volume *volume, u32 pending)
{
	int ret = HELPED(world, dynmap_table_may_write(&world->pool.table, volume, pending));

	return ret == -EINPROGRESS ? -ENOSPC : ret;
}

/* Reserve for a write at @lbn if need be, and look it up: 0, or -ENOSPC. */
static int prepare(struct world *world, struct dynmap_volume *volume, u64 lbn, u64 len,
		   struct dynmap_mapping *mapping)
{
	struct dynmap_table *table = &world->pool.table;
	int ret = HELPED(world, dynmap_volume_refresh(table, volume, &op));

	if (!ret)
		ret = HELPED(world, dynmap_table_lookup(volume, lbn, mapping, &op));
	if (!ret && (mapping->kind != DYNMAP_DATA || mapping->shared))
		ret = may_write(world, volume, DYNMAP_WRITE_NODES * world->nr_writes);
	if (!ret && mapping->kind == DYNMAP_HOLE) {
		ret = HELPED(world, dynmap_table_reserve(table, volume, lbn, len, &op));
		if (ret == -ENOSPC) {
			complete_writes(world);
			settle(world);
			if (!dynmap_pool_reclaim(&world->pool, 8))
				return prepare(world, volume, lbn, len, mapping);
		}
		if (!ret)
			ret = HELPED(world, dynmap_table_lookup(volume, lbn, mapping, &op));
	}
	if (ret && ret != -ENOSPC)
		world_die("no place for a write", ret);
	return ret;
}

/* Hold blocks for a write to shared ones: how many, 0 if there is no space. */
static u32 hold(struct world *world, struct dynmap_volume *volume, u32 want, u64 *pbn)
{
	u32 len;
	int ret = HELPED(world, dynmap_table_hold(&world->pool.table, volume, want, pbn, &len,
						  &op));

	if (ret == -ENOSPC)
		return 0;
	if (ret)
		world_die("no block is held", ret);
	return len;
}

static void tags(struct world *world, u32 volume, u64 sector, u32 sectors, u64 seq, u8 *data)
{
	u32 i;

	for (i = 0; i < sectors; i++)
		twin_fill(data + i * SECTOR_BYTES, world->now.uid[volume], sector + i, seq);
}

/* Submit a write of whole blocks; false if there is no space. */
static bool begin_write(struct world *world, u32 id, u64 lbn, u64 len)
{
	static u8 data[TWIN_SECTORS * SECTOR_BYTES];
	struct dynmap_volume *volume = load(world, id);
	struct dynmap_mapping mapping;
	struct world_write *write;
	u64 n, block;

	for (; len; lbn += n, len -= n) {
		if (world->nr_writes == WORLD_WRITES)
			complete_writes(world);
		if (prepare(world, volume, lbn, len, &mapping))
			return false;
		n = min(len, mapping.len);
		if (mapping.shared) {
			n = hold(world, volume, n, &mapping.pbn);
			if (!n)
				return false;
			if (world->nr_writes == WORLD_WRITES)
				complete_writes(world);
		}
		write = &world->write[world->nr_writes++];
		write->volume = id;
		write->lbn = lbn;
		write->pbn = mapping.pbn;
		write->blocks = n;
		write->place = mapping.place;
		write->seq = ++world->now.seq;
		write->first = mapping.kind != DYNMAP_DATA;
		write->redirect = mapping.shared;
		tags(world, id, lbn * DYNMAP_BLOCK_SECTORS, n * DYNMAP_BLOCK_SECTORS, write->seq,
		     data);
		block = dynmap_pbn_locate(&world->pool.geo, mapping.pbn, &write->dev);
		mark(world, TWIN_SUBMIT, id, lbn * DYNMAP_BLOCK_SECTORS, n * DYNMAP_BLOCK_SECTORS,
		     write->seq);
		write->id = trace_store_submit(&world->store, write->dev,
					       block * DYNMAP_BLOCK_SECTORS,
					       n * DYNMAP_BLOCK_SECTORS, data, 0);
	}
	return true;
}

/* Write and wait. */
static void write_blocks(struct world *world, u32 id, u64 lbn, u64 len)
{
	complete_writes(world);
	begin_write(world, id, lbn, len);
	complete_writes(world);
}

/* Read a shared block, to be written elsewhere, to mapping->pbn; false: no space. */
static bool copy_block(struct world *world, struct dynmap_volume *volume,
		       struct dynmap_mapping *mapping, u8 *data)
{
	struct dynmap_store *store = &world->store.store;
	u64 block;
	u32 dev;

	if (mapping->kind == DYNMAP_DATA) {
		block = dynmap_pbn_locate(&world->pool.geo, mapping->pbn, &dev);
		if (store->ops->read(store, dev, block, data))
			world_die("read", 0);
	}
	return hold(world, volume, 1, &mapping->pbn);
}

/* Write sectors inside of one block, @value 0: zeros; as the kernel pads and remaps. */
static void write_part(struct world *world, u32 id, u64 sector, u32 sectors, bool fua)
{
	u32 offset = sector & (DYNMAP_BLOCK_SECTORS - 1), dev, request;
	struct dynmap_volume *volume = load(world, id);
	u64 lbn = sector / DYNMAP_BLOCK_SECTORS, block;
	u8 data[DYNMAP_BLOCK_BYTES] = {};
	struct dynmap_mapping mapping;
	u32 flags = 0;
	bool first, must_commit;

	complete_writes(world);
	if (prepare(world, volume, lbn, 1, &mapping))
		return;
	first = mapping.kind != DYNMAP_DATA || mapping.shared;
	if (mapping.shared && !copy_block(world, volume, &mapping, data))
		return;
	must_commit = fua && (first || dynmap_journal_pending(&world->pool.journal));
	if (fua && !must_commit)
		flags = TRACE_FUA;
	world->now.seq++;
	tags(world, id, sector, sectors, world->now.seq, data + offset * SECTOR_BYTES);
	block = dynmap_pbn_locate(&world->pool.geo, mapping.pbn, &dev);
	mark(world, TWIN_SUBMIT, id, sector, sectors, world->now.seq);
	if (first)
		request = trace_store_submit(&world->store, dev, block * DYNMAP_BLOCK_SECTORS,
					     DYNMAP_BLOCK_SECTORS, data, flags);
	else
		request = trace_store_submit(&world->store, dev, block * DYNMAP_BLOCK_SECTORS +
					     offset, sectors, data + offset * SECTOR_BYTES, flags);
	trace_store_done(&world->store, request);
	world->store.written[dev] = true;
	if (mapping.shared)
		map_held(world, id, lbn, mapping.pbn, 1, &mapping.place);
	else if (first &&
		 HELPED(world, dynmap_table_set_written(&world->pool.table, volume, lbn,
							mapping.pbn, 1, &op)))
		world_die("a block cannot be marked written", 0);
	mark(world, TWIN_DONE, id, sector, sectors, world->now.seq);
	if (must_commit)
		commit(world);
	if (fua)
		mark(world, TWIN_FUA_DONE, id, sector, sectors, world->now.seq);
}

static void unmap_blocks(struct world *world, u32 id, u64 lbn, u64 end)
{
	struct dynmap_volume *volume = load(world, id);
	int ret = 0;

	while (!ret && lbn < end)
		ret = HELPED(world, dynmap_table_unmap(&world->pool.table, volume, &lbn, end, &op));
	if (ret)
		world_die("unmap", ret);
}

static void discard(struct world *world, u32 id, u64 sector, u32 sectors)
{
	u64 lbn = DIV_ROUND_UP(sector, DYNMAP_BLOCK_SECTORS);
	u64 end = (sector + sectors) / DYNMAP_BLOCK_SECTORS;
	u32 from = lbn * DYNMAP_BLOCK_SECTORS, count = (end - lbn) * DYNMAP_BLOCK_SECTORS;

	if (lbn >= end)
		return;
	/* What is under way to these blocks may come before or after: not both at once here. */
	complete_writes(world);
	world->now.seq++;
	mark(world, TWIN_UNMAP_SUBMIT, id, from, count, world->now.seq);
	unmap_blocks(world, id, lbn, end);
	mark(world, TWIN_UNMAP_DONE, id, from, count, world->now.seq);
}

/* Zeros over a part of a block, where it is written; false: no space. */
static bool zero_part(struct world *world, u32 id, u64 from, u64 to)
{
	struct dynmap_volume *volume = load(world, id);
	u8 data[DYNMAP_BLOCK_BYTES] = {};
	struct dynmap_mapping mapping;
	u64 block;
	u32 dev;

	if (from == to)
		return true;
	if (HELPED(world, dynmap_table_lookup(volume, from / DYNMAP_BLOCK_SECTORS, &mapping, &op)))
		world_die("lookup", 0);
	if (mapping.kind != DYNMAP_DATA)
		return true;
	if (mapping.shared) {
		if (may_write(world, volume, 0) ||
		    !copy_block(world, volume, &mapping, data))
			return false;
		memset(data + (from & (DYNMAP_BLOCK_SECTORS - 1)) * SECTOR_BYTES, 0,
		       (to - from) * SECTOR_BYTES);
		block = dynmap_pbn_locate(&world->pool.geo, mapping.pbn, &dev);
		trace_store_done(&world->store,
				 trace_store_submit(&world->store, dev,
						    block * DYNMAP_BLOCK_SECTORS,
						    DYNMAP_BLOCK_SECTORS, data, 0));
		world->store.written[dev] = true;
		map_held(world, id, from / DYNMAP_BLOCK_SECTORS, mapping.pbn, 1, &mapping.place);
		return true;
	}
	block = dynmap_pbn_locate(&world->pool.geo, mapping.pbn, &dev);
	trace_store_done(&world->store,
			 trace_store_submit(&world->store, dev, block * DYNMAP_BLOCK_SECTORS +
					    (from & (DYNMAP_BLOCK_SECTORS - 1)), to - from, NULL,
					    0));
	world->store.written[dev] = true;
	return true;
}

/* WRITE ZEROES that keeps the space. */
static void write_zeroes(struct world *world, u32 id, u64 from, u64 to)
{
	u64 lbn = DIV_ROUND_UP(from, DYNMAP_BLOCK_SECTORS), end = to / DYNMAP_BLOCK_SECTORS;
	struct dynmap_mapping mapping;

	complete_writes(world);
	world->now.seq++;
	mark(world, TWIN_UNMAP_SUBMIT, id, from, to - from, world->now.seq);
	if (!zero_part(world, id, from, min(to, lbn * DYNMAP_BLOCK_SECTORS)) ||
	    (lbn <= end && !zero_part(world, id, end * DYNMAP_BLOCK_SECTORS, to)))
		return;
	if (lbn < end)
		unmap_blocks(world, id, lbn, end);
	for (; lbn < end; lbn += mapping.len)
		if (prepare(world, load(world, id), lbn, end - lbn, &mapping))
			break;
	mark(world, TWIN_UNMAP_DONE, id, from, to - from, world->now.seq);
}

static void create(struct world *world, u32 id)
{
	u8 uuid[DYNMAP_UUID_BYTES] = { id + 1 };
	int ret;

	world->now.uid[id] = ++world->now.next_uid;
	mark(world, TWIN_CREATE_BEGIN, id, 0, 0, world->now.uid[id]);
	ret = HELPED(world, dynmap_volume_create(&world->pool.table, id, TWIN_BLOCKS, uuid, 1,
						 &op));
	if (ret == -ENOSPC) {
		mark(world, TWIN_DELETE_DONE, id, 0, 0, 0);
		return;
	}
	if (ret)
		world_die("create", ret);
	commit(world);
	mark(world, TWIN_CREATE_DONE, id, 0, 0, 0);
	world->now.exists[id] = true;
}

static void delete(struct world *world, u32 id)
{
	int ret;

	complete_writes(world);
	mark(world, TWIN_DELETE_BEGIN, id, 0, 0, 0);
	ret = HELPED(world, dynmap_volume_delete(&world->pool.table, id, &op));
	if (ret)
		world_die("delete", ret);
	/* The deletion may be lost: what its origin writes now must not be seen in it. */
	if (id > 1)
		write_blocks(world, 0, 1, 2);
	commit(world);
	mark(world, TWIN_DELETE_DONE, id, 0, 0, 0);
	world->now.exists[id] = false;
}

/* As the kernel: no write is under way. */
static void snapshot(struct world *world, u32 id, u32 origin)
{
	u8 uuid[DYNMAP_UUID_BYTES] = { id + 1 };
	int ret;

	complete_writes(world);
	world->now.uid[id] = ++world->now.next_uid;
	mark(world, TWIN_SNAPSHOT_BEGIN, id, origin, 0, world->now.uid[id]);
	ret = HELPED(world, dynmap_volume_snapshot(&world->pool.table, id, origin, uuid, 1, &op));
	if (ret == -ENOSPC) {
		mark(world, TWIN_DELETE_DONE, id, 0, 0, 0);
		return;
	}
	if (ret)
		world_die("snapshot", ret);
	commit(world);
	mark(world, TWIN_CREATE_DONE, id, 0, 0, 0);
	world->now.exists[id] = true;
}

/* The same for a volume that exists. */
static void rollback(struct world *world, u32 id, u32 other)
{
	int ret;

	complete_writes(world);
	world->now.uid[id] = ++world->now.next_uid;
	mark(world, TWIN_ROLLBACK_BEGIN, id, other, 0, world->now.uid[id]);
	ret = HELPED(world, dynmap_volume_rollback(&world->pool.table, id, other, &op));
	if (ret)
		world_die("rollback", ret);
	commit(world);
	mark(world, TWIN_CREATE_DONE, id, 0, 0, 0);
}

static void reap(struct world *world)
{
	int ret = HELPED(world, dynmap_volume_reap(&world->pool.table, &op));

	if (ret && ret != -ENOENT)
		world_die("reap", ret);
}

/* The first device gets its full length, then the next one is added. */
static void grow(struct world *world)
{
	const u64 *capacity = world->shape->capacity;
	u8 uuids[MAX_DISKS][DYNMAP_UUID_BYTES];
	u64 room = capacity[0] - world->disks.blocks[0];
	struct dynmap_growth *growth;
	u32 i;
	int ret;

	if (room)
		world->disks.blocks[0] += DIV_ROUND_UP(room, 2);
	else if (world->disks.nr < MAX_DISKS && capacity[world->disks.nr])
		world->disks.nr++;
	else
		return;
	complete_writes(world);
	settle(world);
	for (i = 0; i < MAX_DISKS; i++)
		memset(uuids[i], i + 1, DYNMAP_UUID_BYTES);
	growth = dynmap_zalloc(sizeof(*growth));
	ret = dynmap_growth_prepare(growth, &world->pool, world->disks.nr, world->disks.blocks,
				    uuids[0]);
	if (!ret)
		ret = dynmap_growth_begin(growth, &world->pool);
	if (!ret)
		ret = dynmap_growth_announce(growth, &world->pool);
	if (!ret) {
		world->growing = true;
		checkpoint(world);
		world->growing = false;
		ret = dynmap_growth_write(growth, &world->pool);
	}
	if (ret)
		world_die("growth", ret);
	dynmap_growth_end(growth, &world->pool);
	dynmap_growth_exit(growth);
	dynmap_free(growth);
}

/* Take the pool's free blocks, but for @left. */
static void fill(struct world *world, u64 left)
{
	struct dynmap_volume *volume = load(world, WORLD_BALLAST);
	struct dynmap_mapping mapping;
	u64 lbn = volume->mapped + volume->reserved;

	for (; dynmap_alloc_data_free(&world->pool.alloc) > left; lbn++) {
		if (HELPED(world, dynmap_table_lookup(volume, lbn, &mapping, &op)))
			world_die("lookup", 0);
		if (mapping.kind == DYNMAP_HOLE &&
		    HELPED(world, dynmap_table_reserve(&world->pool.table, volume, lbn, 1, &op)))
			return;
		if (HELPED(world, dynmap_table_lookup(volume, lbn, &mapping, &op)) ||
		    HELPED(world, dynmap_table_set_written(&world->pool.table, volume, lbn,
							   mapping.pbn, 1, &op)))
			return;
	}
}

/* The operations of sequences; @a and @b: places, the same ones or random. */
static void op_write_block(struct world *world, u64 a, u64 b)
{
	write_blocks(world, 0, a % TWIN_BLOCKS, 1);
}

static void op_write_span(struct world *world, u64 a, u64 b)
{
	u64 lbn = (a + 10) % TWIN_BLOCKS;

	write_blocks(world, 0, lbn, min(12 + b % 8, TWIN_BLOCKS - lbn));
}

static void op_write_part(struct world *world, u64 a, u64 b)
{
	write_part(world, 0, (a + 5) % TWIN_BLOCKS * DYNMAP_BLOCK_SECTORS + 2 + b % 4, 2, false);
}

static void op_write_fua(struct world *world, u64 a, u64 b)
{
	write_part(world, 0, (a + 3) % TWIN_BLOCKS * DYNMAP_BLOCK_SECTORS, 8 - b % 8, true);
}

static void op_write_other(struct world *world, u64 a, u64 b)
{
	u64 lbn = a % TWIN_BLOCKS;

	if (world->now.exists[1])
		write_blocks(world, 1, lbn, min(4 + b % 4, TWIN_BLOCKS - lbn));
}

static void op_begin_write(struct world *world, u64 a, u64 b)
{
	u64 lbn = (a + 8) % TWIN_BLOCKS;
	u32 i;

	/* Writes of the same blocks at once have no order: not here. */
	for (i = 0; i < world->nr_writes; i++)
		if (world->write[i].volume == 0)
			return;
	begin_write(world, 0, lbn, min(2 + b % 20, TWIN_BLOCKS - lbn));
}

static void op_complete(struct world *world, u64 a, u64 b)
{
	complete_writes(world);
}

static void op_flush(struct world *world, u64 a, u64 b)
{
	commit(world);
}

static void op_step_commit(struct world *world, u64 a, u64 b)
{
	may_commit(world);
	step_commit(world);
}

static void op_checkpoint(struct world *world, u64 a, u64 b)
{
	checkpoint(world);
}

static void op_step_checkpoint(struct world *world, u64 a, u64 b)
{
	step_checkpoint(world);
}

static void op_discard(struct world *world, u64 a, u64 b)
{
	u64 sector = (a * DYNMAP_BLOCK_SECTORS + 4) % TWIN_SECTORS;

	discard(world, 0, sector, min(150 + b % 100, TWIN_SECTORS - sector));
}

static void op_discard_all(struct world *world, u64 a, u64 b)
{
	discard(world, a & 1 && world->now.exists[1], 0, TWIN_SECTORS);
}

static void op_zeroes(struct world *world, u64 a, u64 b)
{
	u64 from = (a * DYNMAP_BLOCK_SECTORS + 3) % TWIN_SECTORS;

	write_zeroes(world, 0, from, from + min(50 + b % 90, TWIN_SECTORS - from));
}

static void op_create_delete(struct world *world, u64 a, u64 b)
{
	u32 id = 1;

	if (world->now.exists[id])
		delete(world, id);
	else
		create(world, id);
}

/* Copies 2 and 3 of volume 0 come and go. */
static void op_snapshot(struct world *world, u64 a, u64 b)
{
	u32 id = 3 - b % 2;

	if (world->now.exists[id])
		delete(world, id);
	else
		snapshot(world, id, a & 4 && world->now.exists[5 - id] ? 5 - id : 0);
}

/* Write to a copy. */
static void op_write_copy(struct world *world, u64 a, u64 b)
{
	u32 id = 3 - b % 2;

	if (!world->now.exists[id])
		return;
	if (b & 2)
		write_part(world, id, (a + 1) % TWIN_BLOCKS * DYNMAP_BLOCK_SECTORS + 3, 3, false);
	else
		write_blocks(world, id, (a + 1) % (TWIN_BLOCKS - 8), 1 + b % 7);
}

/* Volume 0 becomes what a copy is, or the other way round. */
static void op_rollback(struct world *world, u64 a, u64 b)
{
	u32 id = 3 - b % 2;

	if (world->now.exists[id])
		rollback(world, a & 2 ? id : 0, a & 2 ? 0 : id);
}

static void op_reap(struct world *world, u64 a, u64 b)
{
	reap(world);
}

/* The kernel's work that ends quarantine runs when it likes. */
static void op_release(struct world *world, u64 a, u64 b)
{
	release(world);
}

static void op_reclaim(struct world *world, u64 a, u64 b)
{
	complete_writes(world);
	settle(world);
	if (dynmap_pool_reclaim(&world->pool, 1 + b % 16) == -EIO)
		world_die("reclaim", -EIO);
}

static void op_grow(struct world *world, u64 a, u64 b)
{
	grow(world);
}

static void op_fill(struct world *world, u64 a, u64 b)
{
	complete_writes(world);
	fill(world, b % 8);
}

static const struct {
	char letter;
	void (*operate)(struct world *world, u64 a, u64 b);
} world_ops[] = {
	{ 'w', op_write_block },
	{ 's', op_write_span },
	{ 'p', op_write_part },
	{ 'u', op_write_fua },
	{ 'o', op_write_other },
	{ 'b', op_begin_write },
	{ 'c', op_complete },
	{ 'f', op_flush },
	{ 'm', op_step_commit },
	{ 'k', op_checkpoint },
	{ 'h', op_step_checkpoint },
	{ 'd', op_discard },
	{ 'a', op_discard_all },
	{ 'z', op_zeroes },
	{ 'v', op_create_delete },
	{ 'r', op_reap },
	{ 'q', op_release },
	{ 'l', op_reclaim },
	{ 'g', op_grow },
	{ 'x', op_fill },
	{ 't', op_snapshot },
	{ 'y', op_write_copy },
	{ 'n', op_rollback },
};

u32 world_nr_ops(void)
{
	return ARRAY_SIZE(world_ops);
}

char world_op_letter(u32 op)
{
	return world_ops[op].letter;
}

void world_operate(struct world *world, u32 op, u64 (*random)(void))
{
	world_ops[op].operate(world, random ? random() >> 20 : 0, random ? random() >> 20 : 0);
}

static void format(struct world *world)
{
	const struct world_shape *shape = world->shape;
	struct dynmap_format_params params = {
		.nr_devs = shape->nr_devs,
		.alloc_blocks = shape->alloc_blocks,
		.copies = shape->copies,
		.label = "crash",
	};
	u32 i;
	int ret;

	memset(params.uuid, 7, sizeof(params.uuid));
	for (i = 0; i < shape->nr_devs; i++) {
		memset(params.dev_uuid[i], i + 1, DYNMAP_UUID_BYTES);
		params.dev_blocks[i] = world->disks.blocks[i];
	}
	ret = dynmap_pool_format(&world->store.store, &params);
	if (ret)
		world_die("format", ret);
}

void world_init(struct world *world, const struct world_shape *shape)
{
	const u8 uuid[DYNMAP_UUID_BYTES] = { 99 };
	u8 poison[SECTOR_BYTES];
	int ret;

	memset(world, 0, sizeof(*world));
	world->shape = shape;
	/* As another pool would have left it: valid tags, of nobody here. */
	twin_fill(poison, 0xdead, 0, 1);
	disks_init(&world->disks, shape->capacity, poison);
	world->disks.nr = shape->nr_devs;
	world->disks.blocks[0] -= shape->shrunk;
	trace_store_init(&world->store, &world->disks);
	world->store.trace = &world->trace;
	format(world);
	ret = trace_store_open(&world->store, &world->pool, false);
	if (ret)
		world_die("open", ret);
	create(world, 0);
	create(world, 1);
	ret = HELPED(world, dynmap_volume_create(&world->pool.table, WORLD_BALLAST, 0, uuid, 1,
						 &op));
	if (ret)
		world_die("create", ret);
	write_blocks(world, 0, 0, 7);
	write_blocks(world, 1, 2, 20);
	discard(world, 1, 5 * DYNMAP_BLOCK_SECTORS, 3 * DYNMAP_BLOCK_SECTORS);
	if (shape->ballast)
		fill(world, shape->ballast);
	/* A few blocks on, the journal goes on in another piece, on other devices. */
	while ((world->pool.journal.head + 4) % DYNMAP_JOURNAL_PIECE) {
		if (HELPED(world, dynmap_table_set_transaction(&world->pool.table, 0, &op)))
			world_die("transaction", 0);
		commit(world);
	}
	commit(world);
	checkpoint(world);
	dynmap_pool_close(&world->pool);
	world->now.nr_disks = world->disks.nr;
	memcpy(world->now.blocks, world->disks.blocks, sizeof(world->now.blocks));
	world->start = world->now;
	disks_forget(&world->disks);
}

void world_exit(struct world *world)
{
	trace_store_exit(&world->store);
	trace_exit(&world->trace);
	disks_exit(&world->disks);
}

void world_begin(struct world *world)
{
	int ret;
	u32 i;

	world->now = world->start;
	world->disks.nr = world->now.nr_disks;
	memcpy(world->disks.blocks, world->now.blocks, sizeof(world->now.blocks));
	world->store.trace = NULL;
	ret = trace_store_open(&world->store, &world->pool, false);
	if (ret)
		world_die("open", ret);
	world->store.trace = &world->trace;
	trace_reset(&world->trace);
	world->opened = disks_mark(&world->disks);
	for (i = 0; i < world->shape->commits; i++) {
		write_blocks(world, 1, 40 + i % 20, 1);
		commit(world);
	}
}

void world_end(struct world *world)
{
	complete_writes(world);
	settle(world);
	dynmap_pool_close(&world->pool);
}
