// SPDX-License-Identifier: GPL-2.0-only
/* The naive twin, see twin.h. */
#include <stdio.h>

#include "twin.h"

/* splitmix64's finalizer (Steele, Lea, Flood, OOPSLA 2014). */
u64 twin_mix(u64 hash, u64 value)
{
	hash = (hash ^ value) + 0x9e3779b97f4a7c15ULL;
	hash = (hash ^ hash >> 30) * 0xbf58476d1ce4e5b9ULL;
	hash = (hash ^ hash >> 27) * 0x94d049bb133111ebULL;
	return hash ^ hash >> 31;
}

void twin_fill(void *sector, u64 uid, u64 number, u64 seq)
{
	struct twin_tag tag = { .magic = TWIN_MAGIC, .uid = uid, .sector = number, .seq = seq };
	u64 *word = sector;
	u32 i;

	for (i = 0; i < 64; i++)
		word[i] = seq;
	memcpy(sector, &tag, sizeof(tag));
}

static void twin_range(struct twin_volume *volume, const struct twin_mark *mark)
{
	bool zero = mark->op == TWIN_UNMAP_SUBMIT || mark->op == TWIN_UNMAP_DONE;
	struct twin_state state = { .seq = mark->seq, .value = zero ? 0 : mark->seq };
	struct twin_sector *sector;
	u32 i;

	for (i = mark->sector; i < mark->sector + mark->sectors; i++) {
		sector = &volume->sector[i];
		switch (mark->op) {
		case TWIN_UNMAP_SUBMIT:
			sector->unmapped = mark->seq;
			break;
		case TWIN_FUA_DONE:
			sector->durable = state;
			sector->done = state;
			break;
		case TWIN_DONE:
		case TWIN_UNMAP_DONE:
			sector->done = state;
			break;
		}
	}
}

/* What was there when the copy was made is durable with it. */
static void twin_snapshot(struct twin_volume *copy, const struct twin_volume *origin, u64 uid)
{
	u32 i;

	memset(copy, 0, sizeof(*copy));
	copy->uid = uid;
	copy->exists = TWIN_MAYBE;
	for (i = 0; i < TWIN_SECTORS; i++) {
		copy->sector[i].done = origin->sector[i].done;
		copy->sector[i].durable = origin->sector[i].done;
	}
}

static void twin_flush(struct twin *twin, u32 flush, bool begin)
{
	struct twin_sector *sector;
	u32 v, i;

	for (v = 0; v < TWIN_VOLUMES; v++)
		for (i = 0; i < TWIN_SECTORS; i++) {
			sector = &twin->volume[v].sector[i];
			if (begin)
				sector->begun[flush] = sector->done;
			else if (sector->begun[flush].seq > sector->durable.seq)
				sector->durable = sector->begun[flush];
		}
}

void twin_apply(struct twin *twin, const struct twin_mark *mark)
{
	struct twin_volume *volume = &twin->volume[mark->volume];

	switch (mark->op) {
	case TWIN_FLUSH_BEGIN:
	case TWIN_FLUSH_DONE:
		twin_flush(twin, mark->volume, mark->op == TWIN_FLUSH_BEGIN);
		break;
	case TWIN_CREATE_BEGIN:
		memset(volume, 0, sizeof(*volume));
		volume->uid = mark->seq;
		volume->exists = TWIN_MAYBE;
		break;
	case TWIN_CREATE_DONE:
		volume->exists = TWIN_YES;
		break;
	case TWIN_SNAPSHOT_BEGIN:
		twin_snapshot(volume, &twin->volume[mark->sector], mark->seq);
		break;
	case TWIN_ROLLBACK_BEGIN:
		twin->before = *volume;
		twin_snapshot(volume, &twin->volume[mark->sector], mark->seq);
		volume->exists = TWIN_EITHER;
		break;
	case TWIN_DELETE_BEGIN:
		volume->exists = TWIN_MAYBE;
		break;
	case TWIN_DELETE_DONE:
		volume->exists = TWIN_NO;
		break;
	default:
		twin_range(volume, mark);
	}
}

static u64 twin_hash_volume(const struct twin_volume *volume, u64 hash)
{
	const struct twin_sector *sector;
	u32 i;

	hash = twin_mix(hash, volume->exists | volume->uid << 8);
	for (i = 0; volume->exists && i < TWIN_SECTORS; i++) {
		sector = &volume->sector[i];
		hash = twin_mix(hash, (u64)sector->durable.seq << 32 | sector->unmapped);
	}
	return hash;
}

u64 twin_hash(const struct twin *twin)
{
	u64 hash = 0;
	u32 v;

	for (v = 0; v < TWIN_VOLUMES; v++) {
		hash = twin_hash_volume(&twin->volume[v], hash);
		if (twin->volume[v].exists == TWIN_EITHER)
			hash = twin_hash_volume(&twin->before, hash);
	}
	return hash;
}

/* Call @expression until no node is missing. */
#define with_nodes(ret, pool, op, expression)					\
	do {									\
		(ret) = (expression);						\
		if ((ret) != -EAGAIN)						\
			break;							\
		(ret) = dynmap_pool_help(pool, op, ret);			\
	} while (!(ret))

/* May a sector hold this? NULL or the oracle. */
static const char *twin_judge(const struct twin_volume *volume, u32 at, const void *data,
			      u64 *value)
{
	const struct twin_sector *sector = &volume->sector[at];
	const struct twin_tag *tag = data;
	const u64 *word = data;
	u32 i;

	*value = tag->seq;
	if (tag->magic != TWIN_MAGIC) {
		for (i = 0; i < 64; i++)
			if (word[i])
				return "foreign data";
		if (sector->durable.value && sector->unmapped <= sector->durable.seq)
			return "acknowledged data is lost";
		return NULL;
	}
	/* A copy holds what its origin wrote. */
	if ((tag->uid != volume->uid && tag->seq != sector->durable.value) || tag->sector != at)
		return "another's data";
	for (i = sizeof(*tag) / 8; i < 64; i++)
		if (word[i] != tag->seq)
			return "a torn sector";
	if (tag->seq != sector->durable.value && tag->seq <= sector->durable.seq)
		return sector->durable.value ? "acknowledged data is lost" : "stale data";
	return NULL;
}

static const char *twin_verify_volume(const struct twin_volume *volume, struct dynmap_pool *pool,
				      struct dynmap_volume *real, u64 *content, u32 *at)
{
	struct dynmap_mapping mapping;
	struct dynmap_op op = {};
	u8 block[DYNMAP_BLOCK_BYTES] __attribute__((aligned(8)));
	const char *failed = NULL;
	u64 lbn, value;
	u32 dev, i;
	int ret;

	for (lbn = 0; lbn < TWIN_BLOCKS; lbn++) {
		*at = lbn * DYNMAP_BLOCK_SECTORS;
		with_nodes(ret, pool, &op, dynmap_table_lookup(real, lbn, &mapping, &op));
		if (ret)
			return "a lookup fails";
		memset(block, 0, sizeof(block));
		if (mapping.kind == DYNMAP_DATA) {
			value = dynmap_pbn_locate(&pool->geo, mapping.pbn, &dev);
			if (pool->store->ops->read(pool->store, dev, value, block))
				return "a read fails";
		}
		for (i = 0; i < DYNMAP_BLOCK_SECTORS && !failed; i++) {
			*at = lbn * DYNMAP_BLOCK_SECTORS + i;
			failed = twin_judge(volume, *at, block + 512 * i, &value);
			*content = twin_mix(*content, value);
		}
		if (failed)
			return failed;
	}
	return NULL;
}

const char *twin_verify(const struct twin *twin, struct dynmap_pool *pool, u64 *content,
			char *where, size_t bytes)
{
	const struct twin_volume *volume;
	struct dynmap_volume *real;
	struct dynmap_op op = {};
	const char *failed = NULL;
	u32 v, at = 0;
	int ret;

	*content = 0;
	for (v = 0; v < TWIN_VOLUMES && !failed; v++) {
		volume = &twin->volume[v];
		with_nodes(ret, pool, &op, dynmap_volume_load(&pool->table, v, &real, &op));
		*content = twin_mix(*content, -ret);
		if (ret && ret != -ENODATA)
			failed = "a volume cannot be loaded";
		else if (ret && (volume->exists == TWIN_YES || volume->exists == TWIN_EITHER))
			failed = "an acknowledged volume is lost";
		else if (!ret && volume->exists == TWIN_NO)
			failed = "a deleted volume is back";
		else if (!ret)
			failed = twin_verify_volume(volume, pool, real, content, &at);
		if (failed && !ret && volume->exists == TWIN_EITHER)
			failed = twin_verify_volume(&twin->before, pool, real, content, &at);
		if (failed)
			snprintf(where, bytes, "volume %u, sector %u", v, at);
	}
	return failed;
}
