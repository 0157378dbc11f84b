// SPDX-License-Identifier: GPL-2.0-only
/*
 * Node cache, see core/node.h. Callers: btree (get, shadow, new, drop),
 * alloc (stock and events), journal (buffers), checkpoints, the kernel (memory).
 *
 * Eviction is a CLOCK (Corbato 1969): lookups under a shared lock only set a
 * byte, the hand that moves under the exclusive lock gives marked nodes a
 * second chance.
 */
#include "core/node.h"

#define DYNMAP_MAX_HEAL		64	/* nodes remembered for healing */
#define DYNMAP_CHANCES		8	/* second chances, for each node that is evicted */
#define DYNMAP_WRITTEN_MOST	256	/* nodes that become CLEAN at a time */
#define DYNMAP_MOST_SPARE	512	/* buffers: no operation needs as many */
#define DYNMAP_TRIM		64	/* spare buffers beyond these that are freed at a time */

int dynmap_cache_init(struct dynmap_cache *cache, struct dynmap_geometry *geo, u32 bufs)
{
	memset(cache, 0, sizeof(*cache));
	cache->geo = geo;
	cache->copies = 1;
	cache->limit = max_t(u32, bufs, DYNMAP_MIN_CLEAN);
	cache->hash_bits = 8;
	while (cache->hash_bits < 20 && (1U << cache->hash_bits) < cache->limit)
		cache->hash_bits++;
	INIT_LIST_HEAD(&cache->lru);
	INIT_LIST_HEAD(&cache->dirty);
	INIT_LIST_HEAD(&cache->sealed);
	INIT_LIST_HEAD(&cache->spare);
	INIT_LIST_HEAD(&cache->heal);
	INIT_LIST_HEAD(&cache->healing);
	dynmap_runlist_init(&cache->events);
	INIT_LIST_HEAD(&cache->dead_list.bufs);
	cache->buckets = dynmap_zalloc(sizeof(*cache->buckets) << cache->hash_bits);
	return cache->buckets ? 0 : -ENOMEM;
}

static void dynmap_buf_free_list(struct list_head *list)
{
	struct dynmap_buf *buf, *next;

	list_for_each_entry_safe(buf, next, list, list)
		dynmap_buf_free(buf);
	INIT_LIST_HEAD(list);
}

void dynmap_cache_exit(struct dynmap_cache *cache)
{
	if (!cache->buckets)
		return;
	dynmap_buf_free_list(&cache->lru);
	dynmap_buf_free_list(&cache->dirty);
	dynmap_buf_free_list(&cache->sealed);
	dynmap_buf_free_list(&cache->spare);
	dynmap_buf_free_list(&cache->heal);
	dynmap_buf_free_list(&cache->healing);
	dynmap_buf_free_list(&cache->events.bufs);
	dynmap_buf_free_list(&cache->dead_list.bufs);
	dynmap_free(cache->buckets);
	cache->buckets = NULL;
}

/* A buffer of these two pieces of memory; NULL, and none is kept, if one of them is. */
static struct dynmap_buf *dynmap_buf_join(struct dynmap_buf *buf, void *data)
{
	if (!buf || !data) {
		if (data)
			dynmap_block_free(data);
		dynmap_free(buf);
		return NULL;
	}
	buf->data = data;
	INIT_HLIST_NODE(&buf->hash);
	INIT_LIST_HEAD(&buf->list);
	return buf;
}

struct dynmap_buf *dynmap_buf_alloc(void)
{
	struct dynmap_buf *buf = dynmap_zalloc(sizeof(*buf));

	return dynmap_buf_join(buf, buf ? dynmap_block_alloc() : NULL);
}

struct dynmap_buf *dynmap_buf_try(void)
{
	struct dynmap_buf *buf = dynmap_zalloc_try(sizeof(*buf));

	return dynmap_buf_join(buf, buf ? dynmap_block_try() : NULL);
}

void dynmap_buf_free(struct dynmap_buf *buf)
{
	dynmap_block_free(buf->data);
	dynmap_free(buf);
}

void dynmap_cache_add_spare(struct dynmap_cache *cache, struct dynmap_buf *buf)
{
	buf->state = DYNMAP_BUF_SPARE;
	buf->orphan = 0;
	buf->final = 0;
	buf->misplaced = 0;
	buf->error = 0;
	list_add(&buf->list, &cache->spare);
	cache->nr_spare++;
}

struct dynmap_buf *dynmap_cache_take_spare(struct dynmap_cache *cache)
{
	struct dynmap_buf *buf = list_first_entry(&cache->spare, struct dynmap_buf, list);

	list_del_init(&buf->list);
	cache->nr_spare--;
	return buf;
}

int dynmap_cache_get(struct dynmap_cache *cache, const struct dynmap_miss *want,
		     struct dynmap_op *op, struct dynmap_buf **result)
{
	struct dynmap_buf *buf;

	*result = dynmap_cache_find_verified(cache, want->ptr.pbn[0], want->kind, want->level,
					     want->base, want->ptr.crc);
	if (*result)
		return 0;
	buf = dynmap_cache_find(cache, want->ptr.pbn[0]);
	if (!buf) {
		op->miss = *want;
		op->miss.epoch = cache->epoch;
		return -EAGAIN;
	}
	if (buf->error)
		return buf->error;
	dynmap_err("node %llu: %s", (unsigned long long)want->ptr.pbn[0],
		   buf->misplaced ? "where no node can lie" : "not the one expected there");
	return -EUCLEAN;
}

static u32 dynmap_node_crc(const void *data)
{
	const u8 *bytes = data;
	__le32 zero = 0;
	u32 crc;

	crc = crc32c(~0U, bytes, offsetof(struct dynmap_disk_node, crc));
	crc = crc32c(crc, &zero, sizeof(zero));
	return ~crc32c(crc, bytes + offsetof(struct dynmap_disk_node, uuid),
		       DYNMAP_BLOCK_BYTES - offsetof(struct dynmap_disk_node, uuid));
}

static const char *dynmap_node_check(struct dynmap_cache *cache,
				     const struct dynmap_disk_node *node,
				     const struct dynmap_miss *miss)
{
	if (memcmp(node->uuid, cache->uuid, sizeof(node->uuid)))
		return "uuid";
	if (le64_to_cpu(node->pbn_a) != miss->ptr.pbn[0] ||
	    le64_to_cpu(node->pbn_b) != miss->ptr.pbn[1])
		return "address";
	if (le32_to_cpu(node->crc) != miss->ptr.crc)
		return "crc held by parent";
	if (node->kind != miss->kind)
		return "kind";
	if (node->level != miss->level)
		return "level";
	if (le32_to_cpu(node->generation) != miss->ptr.generation)
		return "generation";
	if (le64_to_cpu(node->epoch) > cache->epoch)
		return "epoch";
	if (le64_to_cpu(node->base) != miss->base)
		return "base key";
	return cache->check(cache->geo, node, miss->high);
}

int dynmap_node_verify(struct dynmap_cache *cache, const void *data,
		       const struct dynmap_miss *miss)
{
	const struct dynmap_disk_node *node = data;
	unsigned long long pbn = miss->ptr.pbn[0];
	const char *failed;

	if (le32_to_cpu(node->magic) != DYNMAP_NODE_MAGIC) {
		dynmap_err("node %llu: bad magic", pbn);
		return -EBADMSG;
	}
	if (le32_to_cpu(node->crc) != dynmap_node_crc(data)) {
		dynmap_err("node %llu: bad checksum", pbn);
		return -EBADMSG;
	}
	failed = dynmap_node_check(cache, node, miss);
	if (!failed)
		return 0;
	dynmap_err("node %llu: bad %s", pbn, failed);
	return -EUCLEAN;
}

/* A copy of a node, to be written over its @bad ones; none if memory is short. */
static void dynmap_node_copy(struct dynmap_buf *buf, u8 bad)
{
	struct dynmap_buf *copy = bad ? dynmap_buf_try() : NULL;

	if (!copy)
		return;
	memcpy(copy->data, buf->data, DYNMAP_BLOCK_BYTES);
	copy->pbn[0] = buf->pbn[0];
	copy->pbn[1] = buf->pbn[1];
	copy->epoch = buf->epoch;
	copy->bad = bad;
	buf->heal = copy;
}

/* What stands in the cache for a node of the space tree that cannot be read. */
static struct dynmap_buf *dynmap_node_lost(struct dynmap_buf *buf, const struct dynmap_miss *miss,
					   int error)
{
	memset(buf->data, 0, DYNMAP_BLOCK_BYTES);
	buf->pbn[0] = miss->ptr.pbn[0];
	buf->pbn[1] = miss->ptr.pbn[1];
	buf->error = error;
	return buf;
}

struct dynmap_buf *dynmap_node_fetch(struct dynmap_cache *cache, const struct dynmap_miss *miss,
				     struct dynmap_buf *buf)
{
	struct dynmap_store *store = cache->geo->store;
	u32 first = (miss->ptr.pbn[0] ^ miss->epoch) & 1, i, copy, dev;
	int error = -EIO, ret;
	bool lost = true;
	u64 block;
	u8 bad = 0;

	if (!buf)
		return ERR_PTR(-ENOMEM);
	buf->fetched = miss->epoch;
	for (i = 0; i < 2; i++) {
		copy = i ^ first;
		if (miss->ptr.pbn[copy] == DYNMAP_PBN_NONE)
			continue;
		block = dynmap_pbn_locate(cache->geo, miss->ptr.pbn[copy], &dev);
		ret = store->ops->read(store, dev, block, buf->data);
		if (!ret)
			ret = dynmap_node_verify(cache, buf->data, miss);
		if (!ret) {
			buf->pbn[0] = miss->ptr.pbn[0];
			buf->pbn[1] = miss->ptr.pbn[1];
			buf->epoch = le64_to_cpu(dynmap_node_head(buf)->epoch);
			dynmap_node_copy(buf, bad);
			return buf;
		}
		bad |= 1 << copy;
		dynmap_err("device %u block %llu: copy %c of node %llu: error %d", dev,
			   (unsigned long long)block, 'A' + copy,
			   (unsigned long long)miss->ptr.pbn[0], ret);
		if (ret == -EBADMSG || ret == -EUCLEAN)
			error = ret;
		/* It may be read another time. */
		if (ret == -ENOMEM || ret == -EAGAIN || ret == -ENODEV)
			lost = false;
	}
	/* No lock is held: a checkpoint may begin another epoch at any time. */
	if (READ_ONCE(cache->epoch) != miss->epoch)
		error = -ESTALE;
	else if (lost && miss->kind == DYNMAP_TREE_SPACE)
		return dynmap_node_lost(buf, miss, error);
	dynmap_buf_free(buf);
	return ERR_PTR(error);
}

/*
 * Evict clean nodes until there are no more than @most. Those that were used get a second
 * chance, but not all of them: evicting takes time in proportion to what is evicted.
 */
static void dynmap_cache_evict(struct dynmap_cache *cache, u32 most)
{
	u32 chances = cache->nr_clean > most ? DYNMAP_CHANCES * (cache->nr_clean - most) : 0;
	struct dynmap_buf *buf;

	while (cache->nr_clean > most) {
		buf = list_first_entry(&cache->lru, struct dynmap_buf, list);
		if (buf->used && chances) {
			chances--;
			buf->used = 0;
			list_move_tail(&buf->list, &cache->lru);
			continue;
		}
		hlist_del_init(&buf->hash);
		list_del_init(&buf->list);
		cache->nr_clean--;
		if (cache->nr_spare < DYNMAP_STOCK)
			dynmap_cache_add_spare(cache, buf);
		else
			dynmap_buf_free(buf);
	}
}

/* Clean nodes that may stay in memory. */
static u32 dynmap_cache_most(const struct dynmap_cache *cache)
{
	u32 others = cache->elsewhere + dynmap_cache_unwritten(cache) + cache->nr_spare;
	u32 most = cache->limit > others ? cache->limit - others : 0;

	return max_t(u32, most, DYNMAP_MIN_CLEAN);
}

void dynmap_cache_trim(struct dynmap_cache *cache)
{
	u32 step;

	for (step = 0; step < DYNMAP_TRIM && cache->nr_spare > DYNMAP_MOST_SPARE; step++)
		dynmap_buf_free(dynmap_cache_take_spare(cache));
	dynmap_cache_evict(cache, dynmap_cache_most(cache));
}

u32 dynmap_cache_recycle(struct dynmap_cache *cache, u32 count)
{
	u32 spare = cache->nr_spare, floor = DYNMAP_MIN_CLEAN / 2;

	if (spare >= DYNMAP_STOCK || cache->nr_clean <= floor)
		return 0;
	count = min(min(count, DYNMAP_STOCK - spare), cache->nr_clean - floor);
	dynmap_cache_evict(cache, cache->nr_clean - count);
	return cache->nr_spare - spare;
}

void *dynmap_cache_zalloc(struct dynmap_cache *cache, size_t bytes, struct dynmap_buf **buf)
{
	void *object = dynmap_zalloc_try(bytes);

	*buf = NULL;
	if (object || !cache->nr_spare)
		return object;
	*buf = dynmap_cache_take_spare(cache);
	memset((*buf)->data, 0, bytes);
	return (*buf)->data;
}

void dynmap_cache_free(struct dynmap_cache *cache, void *object, struct dynmap_buf *buf)
{
	if (buf)
		dynmap_cache_add_spare(cache, buf);
	else
		dynmap_free(object);
}

u32 dynmap_cache_shrink(struct dynmap_cache *cache, u32 count)
{
	u32 clean = cache->nr_clean, spare = cache->nr_spare;

	while (count && cache->nr_spare > DYNMAP_STOCK &&
	       cache->nr_spare + cache->nr_clean > DYNMAP_MIN_BUFS) {
		dynmap_buf_free(dynmap_cache_take_spare(cache));
		count--;
	}
	dynmap_cache_evict(cache, max(clean - min(count, clean), (u32)DYNMAP_MIN_CLEAN));
	return clean + spare - cache->nr_clean - cache->nr_spare;
}

/* Remember a node that was read, to write its bad copy anew. */
static void dynmap_cache_heal(struct dynmap_cache *cache, struct dynmap_buf *copy)
{
	if (cache->nr_heal == DYNMAP_MAX_HEAL) {
		dynmap_buf_free(copy);
		return;
	}
	list_add_tail(&copy->list, &cache->heal);
	cache->nr_heal++;
}

void dynmap_cache_heal_begin(struct dynmap_cache *cache)
{
	struct dynmap_buf *copy, *next, *buf;

	list_for_each_entry_safe(copy, next, &cache->heal, list) {
		list_del_init(&copy->list);
		buf = dynmap_cache_find(cache, copy->pbn[0]);
		if (buf && buf->state == DYNMAP_BUF_CLEAN && buf->epoch == copy->epoch)
			list_add_tail(&copy->list, &cache->healing);
		else
			dynmap_cache_add_spare(cache, copy);
	}
	cache->nr_heal = 0;
}

void dynmap_cache_heal_write(struct dynmap_cache *cache)
{
	struct dynmap_store *store = cache->geo->store;
	struct dynmap_buf *copy;
	u32 i, dev, count = 0;
	u64 block;

	list_for_each_entry(copy, &cache->healing, list)
		for (i = 0; i < 2; i++) {
			if (!(copy->bad >> i & 1))
				continue;
			block = dynmap_pbn_locate(cache->geo, copy->pbn[i], &dev);
			store->ops->write(store, DYNMAP_BATCH_CHECKPOINT, dev, block, copy->data,
					  0);
			count++;
		}
	if (!count)
		return;
	if (store->ops->wait(store, DYNMAP_BATCH_CHECKPOINT)) {
		dynmap_err("bad copies of nodes cannot be written anew");
		return;
	}
	dynmap_err("%u bad copies of nodes were written anew from the other ones", count);
	cache->healed += count;
}

void dynmap_cache_heal_end(struct dynmap_cache *cache)
{
	struct dynmap_buf *copy, *next;

	list_for_each_entry_safe(copy, next, &cache->healing, list) {
		list_del(&copy->list);
		dynmap_cache_add_spare(cache, copy);
	}
}

void dynmap_cache_insert(struct dynmap_cache *cache, struct dynmap_buf *buf)
{
	if (cache->epoch - buf->fetched > 1 || dynmap_cache_find(cache, buf->pbn[0])) {
		if (buf->heal)
			dynmap_buf_free(buf->heal);
		dynmap_buf_free(buf);
		return;
	}
	/* In a later epoch something else may lie where its bad copy was. */
	if (buf->heal && cache->epoch == buf->fetched)
		dynmap_cache_heal(cache, buf->heal);
	else if (buf->heal)
		dynmap_buf_free(buf->heal);
	buf->heal = NULL;
	buf->state = DYNMAP_BUF_CLEAN;
	buf->used = 1;
	hlist_add_head(&buf->hash, dynmap_cache_bucket(cache, buf->pbn[0]));
	list_add_tail(&buf->list, &cache->lru);
	cache->nr_clean++;
	dynmap_cache_trim(cache);
}

/* A node that is not in the hash any more becomes a spare buffer; not before it is written. */
static void dynmap_buf_drop(struct dynmap_cache *cache, struct dynmap_buf *buf)
{
	switch (buf->state) {
	case DYNMAP_BUF_SEALED:
		buf->orphan = 1;
		return;
	case DYNMAP_BUF_DIRTY:
		cache->nr_dirty--;
		break;
	default:
		cache->nr_clean--;
		break;
	}
	list_del_init(&buf->list);
	dynmap_cache_add_spare(cache, buf);
}

void dynmap_cache_forget(struct dynmap_cache *cache, u64 pbn)
{
	struct dynmap_buf *buf = dynmap_cache_find(cache, pbn);

	if (!buf)
		return;
	hlist_del_init(&buf->hash);
	dynmap_buf_drop(cache, buf);
}

/* Give a buffer new places from the stock and make it DIRTY. */
static void dynmap_node_place_dirty(struct dynmap_cache *cache, struct dynmap_buf *buf)
{
	struct dynmap_disk_node *node = buf->data;
	u32 copy;

	buf->pbn[1] = DYNMAP_PBN_NONE;
	for (copy = 0; copy < cache->copies; copy++) {
		buf->pbn[copy] = cache->stock[copy][--cache->nr_stock[copy]];
		dynmap_runlist_add(cache, &cache->events, buf->pbn[copy], 1, DYNMAP_RUN_TAKEN);
	}
	node->pbn_a = cpu_to_le64(buf->pbn[0]);
	node->pbn_b = cpu_to_le64(buf->pbn[1]);
	node->epoch = cpu_to_le64(cache->epoch);
	node->generation = cpu_to_le32(cache->generation);
	buf->epoch = cache->epoch;
	buf->state = DYNMAP_BUF_DIRTY;
	buf->used = 1;
	/* One that was read late, after it had left this place, goes. */
	dynmap_cache_forget(cache, buf->pbn[0]);
	hlist_add_head(&buf->hash, dynmap_cache_bucket(cache, buf->pbn[0]));
	list_add_tail(&buf->list, &cache->dirty);
	cache->nr_dirty++;
}

/* The tally that a node counts in. */
static struct dynmap_tally *dynmap_node_tally(struct dynmap_cache *cache, struct dynmap_buf *buf)
{
	return &cache->tally[dynmap_node_head(buf)->kind];
}

static int dynmap_node_is_inner(struct dynmap_buf *buf)
{
	return dynmap_node_head(buf)->level > 0;
}

static void dynmap_node_give_up(struct dynmap_cache *cache, struct dynmap_buf *buf)
{
	u32 copy;

	for (copy = 0; copy < 2; copy++)
		if (buf->pbn[copy] != DYNMAP_PBN_NONE)
			dynmap_places_give_up(cache, buf->pbn[copy], 1);
	hlist_del_init(&buf->hash);
}

/* The same for a node that others may go on using. */
static void dynmap_node_dead(struct dynmap_cache *cache, struct dynmap_buf *buf,
			     const struct dynmap_share *share)
{
	struct dynmap_dead_extent dead = {
		.node = share->node,
		.side = share->side,
		.birth = le32_to_cpu(dynmap_node_head(buf)->generation),
		.len = 1,
		.is_node = true,
	};
	u32 copy;

	for (copy = 0; copy < 2; copy++) {
		if (buf->pbn[copy] == DYNMAP_PBN_NONE)
			continue;
		dead.pbn = buf->pbn[copy];
		dynmap_dead_list_add(cache, &dead);
	}
}

struct dynmap_buf *dynmap_node_new(struct dynmap_cache *cache, u8 kind, u8 level, u64 owner,
				   u64 base)
{
	struct dynmap_buf *buf = dynmap_cache_take_spare(cache);
	struct dynmap_disk_node *node = buf->data;

	memset(node, 0, DYNMAP_BLOCK_BYTES);
	node->magic = cpu_to_le32(DYNMAP_NODE_MAGIC);
	memcpy(node->uuid, cache->uuid, sizeof(node->uuid));
	node->owner = cpu_to_le64(owner);
	node->kind = kind;
	node->level = level;
	node->base = cpu_to_le64(base);
	dynmap_node_place_dirty(cache, buf);
	cache->tally[kind].nodes[level > 0]++;
	cache->tally[kind].dirty[level > 0]++;
	return buf;
}

struct dynmap_ptr dynmap_node_ptr(struct dynmap_buf *buf)
{
	struct dynmap_disk_node *node = buf->data;
	struct dynmap_ptr ptr = {
		.pbn = { buf->pbn[0], buf->pbn[1] },
		.generation = le32_to_cpu(node->generation),
		.crc = buf->final ? buf->crc : le32_to_cpu(node->crc),
	};

	return ptr;
}

struct dynmap_buf *dynmap_node_shadow(struct dynmap_cache *cache, struct dynmap_buf *buf,
				      struct dynmap_ptr *ptr, const struct dynmap_share *share)
{
	bool shared = dynmap_node_is_shared(buf, share);
	struct dynmap_buf *copy = buf;

	if (buf->state == DYNMAP_BUF_DIRTY && !shared) {
		if (buf->final) {
			buf->final = 0;
			*ptr = dynmap_node_ptr(buf);
		}
		return buf;
	}
	if (shared)
		dynmap_node_dead(cache, buf, share);
	else
		dynmap_node_give_up(cache, buf);
	if (shared || buf->state == DYNMAP_BUF_SEALED) {
		copy = dynmap_cache_take_spare(cache);
		memcpy(copy->data, buf->data, DYNMAP_BLOCK_BYTES);
		buf->orphan = !shared;
	} else {
		list_del_init(&buf->list);
		cache->nr_clean--;
	}
	dynmap_node_place_dirty(cache, copy);
	dynmap_node_tally(cache, copy)->dirty[dynmap_node_is_inner(copy)]++;
	*ptr = dynmap_node_ptr(copy);
	return copy;
}

void dynmap_node_drop(struct dynmap_cache *cache, struct dynmap_buf *buf)
{
	int inner = dynmap_node_is_inner(buf);

	dynmap_node_give_up(cache, buf);
	dynmap_node_tally(cache, buf)->nodes[inner]--;
	if (buf->state == DYNMAP_BUF_DIRTY)
		dynmap_node_tally(cache, buf)->dirty[inner]--;
	dynmap_buf_drop(cache, buf);
}

void dynmap_node_seal(struct dynmap_cache *cache, struct dynmap_buf *buf)
{
	const char *failed = cache->check(cache->geo, buf->data, ~0ULL);

	if (failed) {
		dynmap_err("node %llu: bad %s about to be written",
			   (unsigned long long)buf->pbn[0], failed);
		WARN_ON_ONCE(1);
	}
	buf->crc = dynmap_node_crc(buf->data);
	buf->final = 1;
}

void dynmap_cache_seal(struct dynmap_cache *cache)
{
	struct dynmap_buf *buf;
	u32 kind;

	for (kind = 0; kind < DYNMAP_TREE_KINDS; kind++)
		memset(cache->tally[kind].dirty, 0, sizeof(cache->tally[kind].dirty));
	list_for_each_entry(buf, &cache->dirty, list) {
		buf->state = DYNMAP_BUF_SEALED;
		if (buf->final)
			dynmap_node_head(buf)->crc = cpu_to_le32(buf->crc);
		buf->final = 0;
	}
	list_splice_tail_init(&cache->dirty, &cache->sealed);
	cache->nr_sealed += cache->nr_dirty;
	cache->nr_dirty = 0;
	WRITE_ONCE(cache->epoch, cache->epoch + 1);
}

void dynmap_cache_write(struct dynmap_cache *cache)
{
	struct dynmap_store *store = cache->geo->store;
	struct dynmap_buf *buf;
	u32 copy, dev;
	u64 block;

	list_for_each_entry(buf, &cache->sealed, list) {
		for (copy = 0; copy < 2; copy++) {
			if (buf->pbn[copy] == DYNMAP_PBN_NONE)
				continue;
			block = dynmap_pbn_locate(cache->geo, buf->pbn[copy], &dev);
			store->ops->write(store, DYNMAP_BATCH_CHECKPOINT, dev, block, buf->data, 0);
		}
	}
}

bool dynmap_cache_written(struct dynmap_cache *cache)
{
	struct dynmap_buf *buf, *next;
	u32 most = DYNMAP_WRITTEN_MOST;

	list_for_each_entry_safe(buf, next, &cache->sealed, list) {
		if (!most--)
			break;
		list_del_init(&buf->list);
		cache->nr_sealed--;
		if (buf->orphan) {
			dynmap_cache_add_spare(cache, buf);
			continue;
		}
		buf->state = DYNMAP_BUF_CLEAN;
		list_add_tail(&buf->list, &cache->lru);
		cache->nr_clean++;
	}
	dynmap_cache_trim(cache);
	return !list_empty(&cache->sealed);
}

void dynmap_runlist_init(struct dynmap_runlist *list)
{
	INIT_LIST_HEAD(&list->bufs);
	list->last = 0;
	list->blocks = 0;
}

/* Runs of a buffer that is not the last of its list: the count is kept in it. */
static u64 *dynmap_runs_count(struct dynmap_buf *buf)
{
	struct dynmap_run *run = buf->data;

	return &run[DYNMAP_RUNS_PER_BUF].pbn;
}

void dynmap_runlist_add(struct dynmap_cache *cache, struct dynmap_runlist *list, u64 pbn,
			u32 len, u32 flags)
{
	struct dynmap_buf *buf;
	struct dynmap_run *run;

	list->blocks += len;
	if (!list_empty(&list->bufs) && list->last) {
		buf = list_last_entry(&list->bufs, struct dynmap_buf, list);
		run = (struct dynmap_run *)buf->data + list->last - 1;
		if (run->pbn + run->len == pbn && run->flags == flags &&
		    dynmap_pbn_index(pbn)) {
			run->len += len;
			return;
		}
	}
	if (list_empty(&list->bufs) || list->last == DYNMAP_RUNS_PER_BUF) {
		buf = dynmap_cache_take_spare(cache);
		list_add_tail(&buf->list, &list->bufs);
		list->last = 0;
	}
	buf = list_last_entry(&list->bufs, struct dynmap_buf, list);
	run = (struct dynmap_run *)buf->data + list->last++;
	run->pbn = pbn;
	run->len = len;
	run->flags = flags;
	*dynmap_runs_count(buf) = list->last;
}

void dynmap_places_give_up(struct dynmap_cache *cache, u64 pbn, u32 len)
{
	dynmap_runlist_add(cache, &cache->events, pbn, len, DYNMAP_RUN_FREED);
	cache->given_up += len;
}

struct dynmap_buf *dynmap_runlist_pop(struct dynmap_runlist *list, u32 *count)
{
	struct dynmap_buf *buf;
	struct dynmap_run *run;
	u32 i;

	if (list_empty(&list->bufs))
		return NULL;
	buf = list_first_entry(&list->bufs, struct dynmap_buf, list);
	list_del_init(&buf->list);
	*count = *dynmap_runs_count(buf);
	run = buf->data;
	for (i = 0; i < *count; i++)
		list->blocks -= run[i].len;
	return buf;
}

u32 dynmap_runlist_runs(struct dynmap_buf *buf, const struct dynmap_run **runs)
{
	*runs = buf->data;
	return *dynmap_runs_count(buf);
}

void dynmap_runlist_move(struct dynmap_runlist *to, struct dynmap_runlist *from)
{
	if (list_empty(&from->bufs))
		return;
	list_splice_tail_init(&from->bufs, &to->bufs);
	to->last = from->last;
	to->blocks += from->blocks;
	from->last = 0;
	from->blocks = 0;
}

__hot void dynmap_dead_list_add(struct dynmap_cache *cache, const struct dynmap_dead_extent *dead)
{
	struct dynmap_dead_list *dead_list = &cache->dead_list;
	struct dynmap_dead_extent *place = dynmap_dead_list_pop(&dead_list->free);
	struct dynmap_buf *buf;

	if (!place) {
		if (list_empty(&dead_list->bufs) || dead_list->used == DYNMAP_DEAD_LIST_PER_BUF) {
			buf = dynmap_cache_take_spare(cache);
			list_add_tail(&buf->list, &dead_list->bufs);
			dead_list->used = 0;
		}
		buf = list_last_entry(&dead_list->bufs, struct dynmap_buf, list);
		place = (struct dynmap_dead_extent *)buf->data + dead_list->used++;
	}
	*place = *dead;
	dynmap_dead_list_push(dynmap_dead_list_bin(dead_list, place->pbn), place);
	dead_list->count++;
}

__hot struct dynmap_dead_extent *dynmap_dead_list_take(struct dynmap_cache *cache)
{
	struct dynmap_dead_list *dead_list = &cache->dead_list;

	if (!dead_list->count)
		return NULL;
	while (!dead_list->bin[dead_list->turn])
		dead_list->turn = (dead_list->turn + 1) % DYNMAP_DEAD_BINS;
	return dynmap_dead_list_pop(&dead_list->bin[dead_list->turn]);
}

void dynmap_dead_list_release(struct dynmap_cache *cache)
{
	struct dynmap_dead_list *dead_list = &cache->dead_list;
	struct dynmap_buf *buf;

	dead_list->free = NULL;
	while (!list_empty(&dead_list->bufs)) {
		buf = list_first_entry(&dead_list->bufs, struct dynmap_buf, list);
		list_del_init(&buf->list);
		dynmap_cache_add_spare(cache, buf);
	}
}
