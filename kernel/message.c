// SPDX-License-Identifier: GPL-2.0-only
/*
 * Messages to a pool. Owns: their words, and what is said when one cannot be done.
 *
 * What changes the pool is committed before the message returns.
 */
#include <linux/random.h>
#include <linux/uuid.h>

#include "kernel/dynmap.h"

static int dynmap_parse_id(const char *word, u64 *id)
{
	if (!kstrtou64(word, 10, id) && *id <= DYNMAP_MAX_VOLUME_ID)
		return 0;
	DMERR("message: invalid volume id %s: expected 0 to %u", word, DYNMAP_MAX_VOLUME_ID);
	return -EINVAL;
}

static int dynmap_message_create(struct dynmap_kpool *pool, unsigned int argc, char **argv)
{
	u8 uuid[DYNMAP_UUID_BYTES];
	struct dynmap_op op = {};
	u64 id, sectors = 0;
	int ret = dynmap_parse_id(argv[1], &id);

	if (ret)
		return ret;
	if (argc == 3 && (kstrtou64(argv[2], 10, &sectors) ||
			  sectors / DYNMAP_BLOCK_SECTORS > DYNMAP_MAX_LBN)) {
		DMERR("message create_thin: invalid size %s: expected sectors", argv[2]);
		return -EINVAL;
	}
	generate_random_uuid(uuid);
	dynmap_khelped(ret, pool, &op,
		       dynmap_volume_create(&pool->core.table, id,
					    DIV_ROUND_UP(sectors, DYNMAP_BLOCK_SECTORS), uuid,
					    ktime_get_real_seconds(), &op));
	return ret;
}

/* A word as a name, zeros behind it; "-" is none. */
static int dynmap_parse_name(const char *word, u8 *name)
{
	memset(name, 0, DYNMAP_NAME_BYTES);
	if (!strcmp(word, "-"))
		return 0;
	if (strlen(word) >= DYNMAP_NAME_BYTES) {
		DMERR("message set: the name %s is too long: at most %u bytes", word,
		      DYNMAP_NAME_BYTES - 1);
		return -EINVAL;
	}
	memcpy(name, word, strlen(word));
	return 0;
}

/* set pool name <name>, set <id> name <name> */
static int dynmap_message_name(struct dynmap_kpool *pool, char **argv)
{
	u8 name[DYNMAP_NAME_BYTES];
	struct dynmap_op op = {};
	u64 id;
	int ret = dynmap_parse_name(argv[3], name);

	if (ret)
		return ret;
	if (!strcasecmp(argv[1], "pool")) {
		dynmap_khelped(ret, pool, &op,
			       dynmap_table_set_name(&pool->core.table, name, &op));
		return ret;
	}
	ret = dynmap_parse_id(argv[1], &id);
	if (!ret)
		dynmap_khelped(ret, pool, &op,
			       dynmap_volume_set_name(&pool->core.table, id, name, &op));
	if (ret == -ENODATA)
		DMERR("message set: no volume %llu", id);
	return ret;
}

/*
 * set <id> fill <byte> | allocation_size <sectors> | read_only 0|1 | protected 0|1 |
 * created <seconds>
 */
static int dynmap_message_set(struct dynmap_kpool *pool, char **argv)
{
	struct dynmap_op op = {};
	u64 id, value;
	u8 attr;
	int ret;

	if (!strcasecmp(argv[2], "name"))
		return dynmap_message_name(pool, argv);
	ret = dynmap_parse_id(argv[1], &id);
	if (ret)
		return ret;
	ret = kstrtou64(argv[3], 0, &value);
	if (!ret && !strcasecmp(argv[2], "fill")) {
		attr = DYNMAP_ATTR_FILL;
	} else if (!ret && !strcasecmp(argv[2], "allocation_size") &&
		   !(value % DYNMAP_BLOCK_SECTORS)) {
		attr = DYNMAP_ATTR_ALLOC;
		value /= DYNMAP_BLOCK_SECTORS;
	} else if (!ret && !strcasecmp(argv[2], "read_only")) {
		attr = DYNMAP_ATTR_READ_ONLY;
	} else if (!ret && !strcasecmp(argv[2], "protected")) {
		attr = DYNMAP_ATTR_PROTECTED;
	} else if (!ret && !strcasecmp(argv[2], "created")) {
		attr = DYNMAP_ATTR_CREATED;
	} else {
		DMERR("message set: expected set <id> fill <byte>, allocation_size <sectors>, read_only 0|1, protected 0|1, created <seconds> or name <name>, or set pool name <name>");
		return -EINVAL;
	}
	dynmap_khelped(ret, pool, &op,
		       dynmap_volume_change(&pool->core.table, id, attr, value, &op));
	if (ret == -EINVAL)
		DMERR("message set: invalid value %s: expected a byte, a power of 2 of sectors from 8 to 2097152 (0: as the pool), or 0 or 1",
		      argv[3]);
	if (ret == -ENOTEMPTY || ret == -ETXTBSY)
		DMERR("message set: volume %llu is in use or not empty: its fill byte stays", id);
	return ret == -ETXTBSY || ret == -ENOTEMPTY ? -EBUSY : ret;
}

static int dynmap_message_remove(struct dynmap_kpool *pool, u64 id)
{
	struct dynmap_op op = {};
	int ret;

	dynmap_khelped(ret, pool, &op, dynmap_volume_delete(&pool->core.table, id, &op));
	if (!ret)
		queue_work(pool->wq, &pool->reap_work);
	return ret;
}

/* rollback <id> <snapshot id>: nobody uses the volume, writes to the other one wait. */
static int dynmap_message_rollback(struct dynmap_kpool *pool, char **argv)
{
	struct dynmap_op op = {};
	u64 id, snapshot;
	int ret = dynmap_parse_id(argv[1], &id);

	if (!ret)
		ret = dynmap_parse_id(argv[2], &snapshot);
	if (ret)
		return ret;
	dynmap_kpool_freeze(pool);
	dynmap_khelped(ret, pool, &op,
		       dynmap_volume_rollback(&pool->core.table, id, snapshot, &op));
	dynmap_kpool_thaw(pool);
	switch (ret) {
	case 0:
		queue_work(pool->wq, &pool->reap_work);
		return 0;
	case -ETXTBSY:
		DMERR("message rollback: volume %llu is in use", id);
		return -EBUSY;
	case -EPERM:
	case -EROFS:
		DMERR("message rollback: volume %llu is %s", id,
		      ret == -EROFS ? "read-only" : "protected");
		return ret;
	case -ENODATA:
		DMERR("message rollback: there is no volume %llu, or no volume %llu", id, snapshot);
		return ret;
	default:
		DMERR("message rollback: volume %llu stays as it is: error %d", id, ret);
		return ret;
	}
}

/* The next range in which two volumes differ; they may have left memory meanwhile. */
static int dynmap_compare_step(struct dynmap_kpool *pool, const u64 *id,
			       struct dynmap_comparison *comparison, struct dynmap_op *op)
{
	struct dynmap_volume *volume[2];
	int i, ret = 0;

	for (i = 0; i < 2 && !ret; i++)
		ret = dynmap_volume_load(&pool->core.table, id[i], &volume[i], op);
	return ret ? ret : dynmap_table_compare(volume[0], volume[1], comparison, op);
}

/* compare <id> <id> [<first sector>]: a line per range that differs: first sector, length. */
static int dynmap_message_compare(struct dynmap_kpool *pool, unsigned int argc, char **argv,
				  char *result, unsigned int maxlen)
{
	struct dynmap_comparison comparison = {};
	struct dynmap_op op = {};
	unsigned int sz = 0;
	u64 id[2], first = 0;
	int ret;

	ret = dynmap_parse_id(argv[1], &id[0]);
	if (!ret)
		ret = dynmap_parse_id(argv[2], &id[1]);
	if (!ret && argc == 4 && kstrtou64(argv[3], 10, &first)) {
		DMERR("message compare: invalid sector %s", argv[3]);
		ret = -EINVAL;
	}
	if (ret)
		return ret;
	*result = '\0';
	comparison.lbn = first / DYNMAP_BLOCK_SECTORS;
	while ((!ret || ret == -EINPROGRESS) && sz < maxlen) {
		dynmap_khelped(ret, pool, &op, dynmap_compare_step(pool, id, &comparison, &op));
		if (!ret)
			DMEMIT("%llu %llu\n", comparison.from * DYNMAP_BLOCK_SECTORS,
			       (comparison.to - comparison.from) * DYNMAP_BLOCK_SECTORS);
		cond_resched();
	}
	return !ret || ret == -EINPROGRESS || ret == -ENOENT ? 1 : ret;
}

/* usage <id>: sectors mapped, reserved, of both its alone (deleting it frees them), shared. */
static int dynmap_message_usage(struct dynmap_kpool *pool, char **argv, char *result,
				unsigned int maxlen)
{
	struct dynmap_usage usage;
	struct dynmap_op op = {};
	unsigned int sz = 0;
	u64 id;
	int ret = dynmap_parse_id(argv[1], &id);

	if (ret)
		return ret;
	dynmap_khelped(ret, pool, &op,
		       dynmap_volume_usage(&pool->core.table, id, &usage, &op));
	while (!ret) {
		dynmap_khelped(ret, pool, &op,
			       dynmap_usage_step(&pool->core.table, &usage, &op));
		cond_resched();
	}
	if (ret != -ENOENT)
		return ret;
	/* Writes that went on meanwhile may have moved blocks from one to the other. */
	usage.exclusive = min(usage.exclusive, usage.mapped + usage.reserved);
	DMEMIT("%llu %llu %llu %llu", usage.mapped * DYNMAP_BLOCK_SECTORS,
	       usage.reserved * DYNMAP_BLOCK_SECTORS, usage.exclusive * DYNMAP_BLOCK_SECTORS,
	       (usage.mapped + usage.reserved - usage.exclusive) * DYNMAP_BLOCK_SECTORS);
	return 1;
}

/* Say why there is no snapshot. */
static void dynmap_snapshot_failed(u64 id, u64 origin, int error)
{
	if (error == -EOVERFLOW)
		DMERR("message create_snap: no snapshot %llu of volume %llu: the pool has made as many snapshots as it can in its life; all else goes on",
		      id, origin);
	else
		DMERR("message create_snap: no snapshot %llu of volume %llu: error %d", id,
		      origin, error);
}

/* End the group of snapshots under way; after an error nothing of it is left. */
static int dynmap_message_group_end(struct dynmap_kpool *pool, int error)
{
	struct dynmap_table *table = &pool->core.table;
	struct dynmap_op op = {};
	int ret = 0;

	while (error && !ret)
		dynmap_khelped(ret, pool, &op, dynmap_group_abort(table, &op));
	if (!ret || ret == -ENOENT)
		dynmap_khelped(ret, pool, &op, dynmap_group_end(table, &op));
	if (ret)
		DMERR("message create_snap: a group of snapshots cannot be ended: error %d: the next opening of the pool takes it back",
		      ret);
	else if (error)
		queue_work(pool->wq, &pool->reap_work);
	return error ? error : ret;
}

/*
 * A group that could not be ended is in the way of all that makes or changes volumes: what has a
 * younger generation counts as a part of it. Ended now, or an error.
 */
static int dynmap_message_group_finish(struct dynmap_kpool *pool)
{
	int ret = pool->core.table.group ? dynmap_message_group_end(pool, -EBUSY) : 0;

	return pool->core.table.group ? ret : 0;
}

/*
 * create_snap <id> <origin id> [<id> <origin id>]...: all at one instant, for which
 * changes wait, and all or none, also after a power failure.
 */
static int dynmap_message_snapshot(struct dynmap_kpool *pool, unsigned int argc, char **argv)
{
	u8 uuid[DYNMAP_UUID_BYTES];
	struct dynmap_op op = {};
	u64 id, origin;
	unsigned int i;
	int ret = 0;

	for (i = 1; i < argc && !ret; i++)
		ret = dynmap_parse_id(argv[i], &id);
	if (ret)
		return ret;
	dynmap_kpool_freeze(pool);
	if (argc > 3) {
		down_write(&pool->lock);
		dynmap_group_begin(&pool->core.table);
		dynmap_kpool_unlock(pool);
	}
	for (i = 1; i < argc && !ret; i += 2) {
		dynmap_parse_id(argv[i], &id);
		dynmap_parse_id(argv[i + 1], &origin);
		generate_random_uuid(uuid);
		dynmap_khelped(ret, pool, &op,
			       dynmap_volume_snapshot(&pool->core.table, id, origin, uuid,
						      ktime_get_real_seconds(), &op));
		if (ret)
			dynmap_snapshot_failed(id, origin, ret);
	}
	if (argc > 3)
		ret = dynmap_message_group_end(pool, ret);
	dynmap_kpool_thaw(pool);
	return ret;
}

static int dynmap_message_delete(struct dynmap_kpool *pool, char **argv)
{
	u64 id;
	int ret = dynmap_parse_id(argv[1], &id);

	if (!ret)
		ret = dynmap_message_remove(pool, id);
	if (ret == -EPERM)
		DMERR("message delete: volume %llu is protected: set %llu protected 0 allows it",
		      id, id);
	return ret == -ETXTBSY ? -EBUSY : ret;
}

/*
 * Set the transaction id if it is still *@old, which is set to the id that was found; lock
 * held. -EINVAL if it is another one: of messages that compete for the same step one wins.
 */
static int dynmap_transaction_step(struct dynmap_kpool *pool, u64 *old, u64 new,
				   struct dynmap_op *op)
{
	u64 current_id = pool->core.table.transaction_id;

	if (current_id != *old) {
		*old = current_id;
		return -EINVAL;
	}
	return dynmap_table_set_transaction(&pool->core.table, new, op);
}

static int dynmap_message_transaction(struct dynmap_kpool *pool, char **argv)
{
	struct dynmap_op op = {};
	u64 old, new, found;
	int ret;

	if (kstrtou64(argv[1], 10, &old) || kstrtou64(argv[2], 10, &new)) {
		DMERR("message set_transaction_id: expected <current id> <new id>");
		return -EINVAL;
	}
	found = old;
	dynmap_khelped(ret, pool, &op, dynmap_transaction_step(pool, &found, new, &op));
	if (found != old)
		DMERR("message set_transaction_id: the current id is %llu, not %llu", found, old);
	return ret;
}

/*
 * One line per volume: id, mapped and reserved sectors, size in sectors, time of creation
 * in seconds since 1970, name.
 */
static int dynmap_message_list(struct dynmap_kpool *pool, char *result, unsigned int maxlen)
{
	struct dynmap_disk_volume disk;
	struct dynmap_op op = {};
	unsigned int sz = 0;
	u64 id = 0;
	int ret = 0;

	/* What does not fit into the answer is asked for again with more room. */
	while (!ret && sz < maxlen) {
		dynmap_khelped(ret, pool, &op,
			       dynmap_volume_next(&pool->core.table, id, &disk, &op));
		if (ret)
			break;
		id = le64_to_cpu(disk.id) + 1;
		DMEMIT("%llu %llu %llu %llu %llu %.*s\n", id - 1,
		       le64_to_cpu(disk.mapped_blocks) * DYNMAP_BLOCK_SECTORS,
		       le64_to_cpu(disk.reserved_blocks) * DYNMAP_BLOCK_SECTORS,
		       le64_to_cpu(disk.size_blocks) * DYNMAP_BLOCK_SECTORS,
		       le64_to_cpu(disk.created), DYNMAP_NAME_BYTES,
		       *disk.name ? (const char *)disk.name : "-");
	}
	return !ret || ret == -ENOENT ? 1 : ret;
}

/* info: the pool's uuid, how many devices it has, its name. */
static int dynmap_message_info(struct dynmap_kpool *pool, char *result, unsigned int maxlen)
{
	unsigned int sz = 0;

	down_read(&pool->lock);
	DMEMIT("%pUb %u %.*s", pool->core.super->uuid, pool->core.geo.nr_devs, DYNMAP_NAME_BYTES,
	       *pool->core.table.name ? (const char *)pool->core.table.name : "-");
	up_read(&pool->lock);
	return 1;
}

/* cache [<MiB>]: memory for metadata until the pool is closed; what it takes, and may take. */
static int dynmap_message_cache(struct dynmap_kpool *pool, unsigned int argc, char **argv,
				char *result, unsigned int maxlen)
{
	unsigned int sz = 0;
	u32 mib = 0;

	if (argc == 2 && (kstrtou32(argv[1], 10, &mib) || mib < DYNMAP_MIN_CACHE_MIB ||
			  mib > DYNMAP_MAX_CACHE_MIB)) {
		DMERR("message cache: %s is not a number of MiB from %u to %u", argv[1],
		      DYNMAP_MIN_CACHE_MIB, DYNMAP_MAX_CACHE_MIB);
		return -EINVAL;
	}
	down_write(&pool->lock);
	if (mib)
		dynmap_pool_limit(&pool->core, dynmap_cache_bufs(mib));
	DMEMIT("%u %u %u", dynmap_cache_kib(&pool->core.cache),
	       pool->core.cache.limit * (DYNMAP_BLOCK_BYTES / 1024),
	       dynmap_cache_unwritten(&pool->core.cache) * (DYNMAP_BLOCK_BYTES / 1024));
	dynmap_kpool_unlock(pool);
	return 1;
}

/* A message that does not change the pool: 1 and *result, or an error; 0: it is none. */
static int dynmap_message_ask(struct dynmap_kpool *pool, unsigned int argc, char **argv,
			      char *result, unsigned int maxlen)
{
	int ret = 0;

	if (argc == 1 && !strcasecmp(argv[0], "list"))
		ret = dynmap_message_list(pool, result, maxlen);
	else if (argc == 1 && !strcasecmp(argv[0], "info"))
		ret = dynmap_message_info(pool, result, maxlen);
	else if ((argc == 1 || argc == 2) && !strcasecmp(argv[0], "cache"))
		ret = dynmap_message_cache(pool, argc, argv, result, maxlen);
	else if (argc == 2 && !strcasecmp(argv[0], "usage"))
		ret = dynmap_message_usage(pool, argv, result, maxlen);
	else if ((argc == 3 || argc == 4) && !strcasecmp(argv[0], "compare"))
		ret = dynmap_message_compare(pool, argc, argv, result, maxlen);
	if (ret == -ENODATA)
		DMERR("message %s: no such volume", argv[0]);
	return ret;
}

static int dynmap_message_change(struct dynmap_kpool *pool, unsigned int argc, char **argv)
{
	/* A deletion may be what makes room for it. */
	int ret = strcasecmp(argv[0], "delete") ? dynmap_message_group_finish(pool) : 0;

	if (ret)
		return ret;
	if ((argc == 2 || argc == 3) && !strcasecmp(argv[0], "create_thin"))
		return dynmap_message_create(pool, argc, argv);
	if (argc >= 3 && argc % 2 && !strcasecmp(argv[0], "create_snap"))
		return dynmap_message_snapshot(pool, argc, argv);
	if (argc == 3 && !strcasecmp(argv[0], "rollback"))
		return dynmap_message_rollback(pool, argv);
	if (argc == 2 && !strcasecmp(argv[0], "delete"))
		return dynmap_message_delete(pool, argv);
	if (argc == 4 && !strcasecmp(argv[0], "set"))
		return dynmap_message_set(pool, argv);
	if (argc == 3 && !strcasecmp(argv[0], "set_transaction_id"))
		return dynmap_message_transaction(pool, argv);
	DMERR("unknown message %s: expected create_thin <id> [<sectors>], create_snap <id> <origin id> [<id> <origin id>]..., rollback <id> <snapshot id>, delete <id>, list, info, usage <id>, compare <id> <id> [<first sector>], set <id> <attribute> <value>, set_transaction_id <current> <new> or cache [<MiB>]",
	      argv[0]);
	return -EINVAL;
}

int dynmap_message(struct dynmap_kpool *pool, unsigned int argc, char **argv, char *result,
		   unsigned int maxlen)
{
	int ret;

	dynmap_settle(pool);
	ret = dynmap_message_ask(pool, argc, argv, result, maxlen);
	if (ret)
		return ret;
	if (pool->mode == DYNMAP_MODE_READ_ONLY) {
		DMERR("message %s: the pool is read-only", argv[0]);
		return -EOPNOTSUPP;
	}
	mutex_lock(&pool->message_mutex);
	ret = dynmap_message_change(pool, argc, argv);
	mutex_unlock(&pool->message_mutex);
	if (ret == -ENOSPC) {
		down_write(&pool->lock);
		dynmap_set_no_space(pool);
		dynmap_kpool_unlock(pool);
	}
	return ret ? ret : dynmap_kpool_commit(pool);
}
