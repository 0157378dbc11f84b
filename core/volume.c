// SPDX-License-Identifier: GPL-2.0-only
/*
 * Volumes, see core/volume.h. Callers: messages and targets of the kernel, the
 * mapping table (replay), reaping, checkpoints, tools and tests.
 */
#include "core/volume.h"

#define DYNMAP_GROUP_STEPS	64	/* volumes looked at in one hold of the lock */
#define DYNMAP_REAP_TRIES	64	/* ids of deleted volumes tried in one hold of the lock */

void dynmap_table_init(struct dynmap_table *table, struct dynmap_cache *cache,
		       struct dynmap_alloc *alloc, struct dynmap_journal *journal)
{
	memset(table, 0, sizeof(*table));
	table->cache = cache;
	table->alloc = alloc;
	table->journal = journal;
	table->next_reap_id = DYNMAP_FIRST_REAP_ID;
	/* What the devices hold may be reserved. */
	table->reserves = 1;
	INIT_LIST_HEAD(&table->loaded);
	INIT_LIST_HEAD(&table->changed);
	INIT_LIST_HEAD(&table->entered);
	dynmap_btree_init(&table->volumes, cache, DYNMAP_TREE_VOLUME, 0, NULL);
}

void dynmap_table_exit(struct dynmap_table *table)
{
	struct dynmap_volume *volume, *next;

	if (!table->cache)
		return;
	dynmap_family_exit(&table->family);
	list_for_each_entry_safe(volume, next, &table->loaded, list)
		dynmap_cache_free(table->cache, volume, volume->buf);
	INIT_LIST_HEAD(&table->loaded);
}

static struct hlist_head *dynmap_volume_bucket(struct dynmap_table *table, u64 id)
{
	return &table->hash[hash_64(id, DYNMAP_VOLUME_HASH_BITS)];
}

/* A volume that is in memory, or NULL. */
static struct dynmap_volume *dynmap_volume_find(struct dynmap_table *table, u64 id)
{
	struct dynmap_volume *volume;

	hlist_for_each_entry(volume, dynmap_volume_bucket(table, id), hash)
		if (volume->id == id)
			return volume;
	return NULL;
}

static void dynmap_volume_rename(struct dynmap_table *table, struct dynmap_volume *volume, u64 id)
{
	hlist_del_init(&volume->hash);
	volume->id = id;
	hlist_add_head(&volume->hash, dynmap_volume_bucket(table, id));
}

/* Bring a volume into memory; NULL if that is short. */
static struct dynmap_volume *dynmap_volume_enter(struct dynmap_table *table, u64 id,
						 const struct dynmap_disk_volume *disk)
{
	struct dynmap_buf *buf;
	struct dynmap_volume *volume = dynmap_cache_zalloc(table->cache, sizeof(*volume), &buf);

	if (!volume)
		return NULL;
	volume->buf = buf;
	volume->table = table;
	INIT_LIST_HEAD(&volume->state);
	volume->id = id;
	volume->disk = *disk;
	volume->limit = DYNMAP_MAX_LBN;
	volume->goal = DYNMAP_PBN_NONE;
	volume->mapped = le64_to_cpu(disk->mapped_blocks);
	volume->reserved = le64_to_cpu(disk->reserved_blocks);
	volume->exclusive = le64_to_cpu(disk->exclusive_blocks);
	volume->version = table->family.version;
	dynmap_btree_init(&volume->map, table->cache, DYNMAP_TREE_MAP, id, &disk->root);
	list_add_tail(&volume->list, &table->loaded);
	hlist_add_head(&volume->hash, dynmap_volume_bucket(table, id));
	return volume;
}

void dynmap_volume_forget(struct dynmap_table *table, struct dynmap_volume *volume)
{
	table->cache->tally[DYNMAP_TREE_VOLUME].records -= volume->dirty;
	list_del(&volume->list);
	list_del(&volume->state);
	hlist_del_init(&volume->hash);
	dynmap_cache_free(table->cache, volume, volume->buf);
}

void dynmap_table_unload(struct dynmap_table *table)
{
	struct dynmap_volume *volume, *next;
	u32 most = DYNMAP_UNLOAD_MOST;

	/* Nodes tell of deletions that a checkpoint sealed and did not make durable. */
	if (table->journal->failed)
		return;
	list_for_each_entry_safe(volume, next, &table->loaded, list) {
		if (!most--)
			break;
		if (!volume->dirty && !volume->users)
			dynmap_volume_forget(table, volume);
		else
			list_move_tail(&volume->list, &table->loaded);
	}
	dynmap_family_unload(&table->family);
}

int dynmap_volume_load(struct dynmap_table *table, u64 id, struct dynmap_volume **result,
		       struct dynmap_op *op)
{
	struct dynmap_disk_volume disk;
	struct dynmap_volume *volume;
	struct dynmap_share share;
	u32 unit, flags, deleting;
	int ret;

	*result = dynmap_volume_find(table, id);
	if (*result)
		return 0;
	ret = dynmap_btree_get(&table->volumes, id, &disk, op);
	if (ret)
		return ret == -ENOENT ? -ENODATA : ret;
	unit = le32_to_cpu(disk.alloc_blocks);
	flags = le32_to_cpu(disk.flags);
	deleting = id > DYNMAP_MAX_VOLUME_ID ? DYNMAP_VOLUME_DELETING : 0;
	if (!dynmap_btree_root_valid(table->cache->geo, &disk.root) ||
	    flags & ~DYNMAP_VOLUME_FLAGS || (flags & DYNMAP_VOLUME_DELETING) != deleting ||
	    le64_to_cpu(disk.size_blocks) > DYNMAP_MAX_LBN ||
	    le32_to_cpu(disk.parent_slot) > 1 || !dynmap_name_is_valid(disk.name) ||
	    unit & (unit - 1) || unit > DYNMAP_MAX_ALLOC_BLOCKS) {
		dynmap_err("volume %llu: bad record", (unsigned long long)id);
		return -EUCLEAN;
	}
	ret = dynmap_family_share(&table->family, le64_to_cpu(disk.parent),
				  le32_to_cpu(disk.parent_slot), id <= DYNMAP_MAX_VOLUME_ID, &share,
				  op);
	if (ret)
		return ret;
	volume = dynmap_volume_enter(table, id, &disk);
	if (!volume)
		return -ENOMEM;
	volume->map.share = share;
	*result = volume;
	return 0;
}

int dynmap_volume_share(struct dynmap_table *table, struct dynmap_volume *volume,
			struct dynmap_op *op)
{
	int ret;

	ret = dynmap_family_share(&table->family, le64_to_cpu(volume->disk.parent),
				  le32_to_cpu(volume->disk.parent_slot),
				  volume->id <= DYNMAP_MAX_VOLUME_ID, &volume->map.share, op);
	if (!ret)
		volume->version = table->family.version;
	return ret;
}

static void dynmap_volume_record(struct dynmap_volume *volume)
{
	struct dynmap_disk_volume *disk = &volume->disk;

	disk->id = cpu_to_le64(volume->id);
	dynmap_btree_root(&volume->map, &disk->root);
	disk->mapped_blocks = cpu_to_le64(volume->mapped);
	disk->exclusive_blocks = cpu_to_le64(volume->exclusive);
	disk->reserved_blocks = cpu_to_le64(volume->reserved);
}

static void dynmap_journal_volume(struct dynmap_table *table, u8 kind, u64 id, u8 attr, u64 value)
{
	struct dynmap_disk_record record = {
		.kind = kind,
		.attr = attr,
		.volume = cpu_to_le32(id),
		.map.lbn = cpu_to_le64(value),
	};

	dynmap_journal_append(table->journal, &record);
}

int dynmap_volume_create(struct dynmap_table *table, u64 id, u64 size_blocks, const u8 *uuid,
			 u64 created, struct dynmap_op *op)
{
	struct dynmap_disk_record record = {
		.kind = DYNMAP_REC_VOLUME_CREATE,
		.volume = cpu_to_le32(id),
	};
	struct dynmap_disk_volume disk;
	int ret;

	if (id > DYNMAP_MAX_VOLUME_ID || size_blocks > DYNMAP_MAX_LBN)
		return -EINVAL;
	ret = dynmap_btree_get(&table->volumes, id, &disk, op);
	if (!ret)
		return -EEXIST;
	if (ret != -ENOENT)
		return ret;
	ret = dynmap_alloc_reserve(table->alloc, dynmap_btree_worst(&table->volumes), 3, op);
	if (!ret)
		ret = dynmap_journal_reserve(table->journal, 3, op);
	if (ret)
		return ret;
	memset(&disk, 0, sizeof(disk));
	disk.id = cpu_to_le64(id);
	disk.root.pbn_a = cpu_to_le64(DYNMAP_PBN_NONE);
	disk.root.pbn_b = cpu_to_le64(DYNMAP_PBN_NONE);
	disk.generation = cpu_to_le32(table->cache->generation);
	disk.size_blocks = cpu_to_le64(size_blocks);
	disk.created = cpu_to_le64(created);
	memcpy(disk.uuid, uuid, sizeof(disk.uuid));
	ret = dynmap_btree_put(&table->volumes, id, &disk, op);
	if (ret)
		return ret;
	memcpy(record.data, uuid, sizeof(record.data));
	dynmap_journal_append(table->journal, &record);
	dynmap_journal_volume(table, DYNMAP_REC_VOLUME_SET, id, DYNMAP_ATTR_SIZE, size_blocks);
	dynmap_journal_volume(table, DYNMAP_REC_VOLUME_SET, id, DYNMAP_ATTR_CREATED, created);
	return 0;
}

/*
 * A volume @id in memory that begins as a copy of another one, below a new snapshot
 * node; what is its own of the record is set by the caller, then
 * dynmap_volume_put(). Nothing has changed on error.
 */
static int dynmap_volume_copy(struct dynmap_table *table, u64 id, struct dynmap_volume *origin,
			      struct dynmap_volume **result, struct dynmap_op *op)
{
	struct dynmap_volume *copy;
	int ret;

	dynmap_volume_record(origin);
	copy = dynmap_volume_enter(table, id, &origin->disk);
	if (!copy)
		return -ENOMEM;
	ret = dynmap_family_split(&table->family, &origin->disk, id, op);
	if (ret) {
		dynmap_volume_forget(table, copy);
		return ret;
	}
	copy->disk.parent = origin->disk.parent;
	copy->disk.parent_slot = cpu_to_le32(1);
	copy->disk.generation = cpu_to_le32(table->cache->generation);
	copy->disk.flags = 0;
	origin->exclusive = 0;
	copy->exclusive = 0;
	origin->map.share = (struct dynmap_share){
		.generation = table->cache->generation - 1,
		.node = le64_to_cpu(origin->disk.parent),
	};
	copy->map.share = origin->map.share;
	copy->map.share.side = 1;
	origin->version = table->family.version;
	/* Their root, DIRTY perhaps, gets its crc in both records. */
	dynmap_volume_changed(origin);
	dynmap_volume_changed(copy);
	*result = copy;
	return 0;
}

/* Enter a volume's record; the way there is in the cache: it cannot fail. */
static int dynmap_volume_put(struct dynmap_table *table, struct dynmap_volume *volume,
			     struct dynmap_op *op)
{
	dynmap_volume_record(volume);
	return WARN_ON_ONCE(dynmap_btree_put(&table->volumes, volume->id, &volume->disk, op)) ?
	       -EUCLEAN : 0;
}

int dynmap_volume_snapshot(struct dynmap_table *table, u64 id, u64 origin_id, const u8 *uuid,
			   u64 created, struct dynmap_op *op)
{
	struct dynmap_disk_record record = {
		.kind = DYNMAP_REC_SNAPSHOT,
		.attr = table->group != 0,
		.volume = cpu_to_le32(id),
		.map.lbn = cpu_to_le64(origin_id),
		.map.pbn = cpu_to_le64(created),
	};
	struct dynmap_volume *origin, *copy;
	struct dynmap_disk_volume disk;
	int ret;

	if (id > DYNMAP_MAX_VOLUME_ID || origin_id > DYNMAP_MAX_VOLUME_ID)
		return -EINVAL;
	ret = dynmap_btree_get(&table->volumes, id, &disk, op);
	if (!ret)
		return -EEXIST;
	if (ret == -ENOENT)
		ret = dynmap_volume_load(table, origin_id, &origin, op);
	if (!ret)
		ret = dynmap_alloc_reserve(table->alloc,
					   dynmap_btree_worst(&table->volumes) +
					   dynmap_btree_worst(&table->family.snaps), 3, op);
	if (!ret)
		ret = dynmap_journal_reserve(table->journal, 2, op);
	if (!ret)
		ret = dynmap_volume_copy(table, id, origin, &copy, op);
	if (ret)
		return ret;
	copy->disk.created = cpu_to_le64(created);
	memset(copy->disk.name, 0, sizeof(copy->disk.name));
	memcpy(copy->disk.uuid, uuid, sizeof(copy->disk.uuid));
	ret = dynmap_volume_put(table, copy, op);
	dynmap_journal_append(table->journal, &record);
	record = (struct dynmap_disk_record){
		.kind = DYNMAP_REC_VOLUME_SET,
		.attr = DYNMAP_ATTR_UUID,
		.volume = cpu_to_le32(id),
	};
	memcpy(record.data, uuid, sizeof(record.data));
	dynmap_journal_append(table->journal, &record);
	return ret;
}

void dynmap_group_begin(struct dynmap_table *table)
{
	table->group = table->cache->generation;
	table->group_at = 0;
}

int dynmap_group_end(struct dynmap_table *table, struct dynmap_op *op)
{
	int ret;

	/* No node changes: it ends where nothing else does. */
	op->urgent = DYNMAP_URGENT_CHECKPOINT;
	ret = dynmap_alloc_reserve(table->alloc, 0, 3, op);
	if (!ret)
		ret = dynmap_journal_reserve(table->journal, 1, op);
	if (ret)
		return ret;
	table->group = 0;
	dynmap_journal_volume(table, DYNMAP_REC_GROUP_END, 0, 0, 0);
	return 0;
}

int dynmap_group_abort(struct dynmap_table *table, struct dynmap_op *op)
{
	struct dynmap_disk_volume disk;
	int ret, i;

	for (i = 0; i < DYNMAP_GROUP_STEPS; i++) {
		ret = dynmap_volume_next(table, table->group_at, &disk, op);
		if (ret)
			return ret;
		/* What was created since the group began is part of it. */
		if (le32_to_cpu(disk.generation) > table->group) {
			ret = dynmap_volume_delete(table, le64_to_cpu(disk.id), op);
			if (ret)
				return ret;
		}
		table->group_at = le64_to_cpu(disk.id) + 1;
	}
	return 0;
}

/* Is this a value for that attribute? */
static bool dynmap_attr_valid(u8 attr, u64 value)
{
	switch (attr) {
	case DYNMAP_ATTR_SIZE:
		return value <= DYNMAP_MAX_LBN;
	case DYNMAP_ATTR_CREATED:
		return true;
	case DYNMAP_ATTR_FILL:
		return value <= 0xff;
	case DYNMAP_ATTR_READ_ONLY:
	case DYNMAP_ATTR_PROTECTED:
		return value <= 1;
	case DYNMAP_ATTR_ALLOC:
		return !(value & (value - 1)) && value <= DYNMAP_MAX_ALLOC_BLOCKS;
	default:
		return false;
	}
}

static void dynmap_volume_flag(struct dynmap_volume *volume, u32 flag, bool set)
{
	u32 flags = le32_to_cpu(volume->disk.flags);

	volume->disk.flags = cpu_to_le32(set ? flags | flag : flags & ~flag);
}

/* Set an attribute; the value is valid. */
static void dynmap_volume_set(struct dynmap_volume *volume, u8 attr, u64 value)
{
	switch (attr) {
	case DYNMAP_ATTR_SIZE:
		volume->disk.size_blocks = cpu_to_le64(value);
		break;
	case DYNMAP_ATTR_CREATED:
		volume->disk.created = cpu_to_le64(value);
		break;
	case DYNMAP_ATTR_FILL:
		volume->disk.fill = value;
		break;
	case DYNMAP_ATTR_ALLOC:
		volume->disk.alloc_blocks = cpu_to_le32(value);
		break;
	case DYNMAP_ATTR_READ_ONLY:
		dynmap_volume_flag(volume, DYNMAP_VOLUME_READ_ONLY, value);
		break;
	case DYNMAP_ATTR_PROTECTED:
		dynmap_volume_flag(volume, DYNMAP_VOLUME_PROTECTED, value);
		break;
	}
	dynmap_volume_changed(volume);
}

int dynmap_volume_change(struct dynmap_table *table, u64 id, u8 attr, u64 value,
			 struct dynmap_op *op)
{
	struct dynmap_volume *volume;
	int ret;

	if (!dynmap_attr_valid(attr, value) || id > DYNMAP_MAX_VOLUME_ID)
		return -EINVAL;
	ret = dynmap_volume_load(table, id, &volume, op);
	if (ret)
		return ret;
	if (attr == DYNMAP_ATTR_FILL && (volume->users || volume->mapped))
		return volume->users ? -ETXTBSY : -ENOTEMPTY;
	ret = dynmap_alloc_reserve(table->alloc, 0, 3, op);
	if (!ret)
		ret = dynmap_journal_reserve(table->journal, 1, op);
	if (ret)
		return ret;
	dynmap_volume_set(volume, attr, value);
	dynmap_journal_volume(table, DYNMAP_REC_VOLUME_SET, id, attr, value);
	return 0;
}

/* A name in parts: they are in one block of the journal. */
static void dynmap_journal_name(struct dynmap_table *table, u8 kind, u64 id, const u8 *name)
{
	struct dynmap_disk_record record = {
		.kind = kind,
		.attr = DYNMAP_ATTR_NAME,
		.volume = cpu_to_le32(id),
	};
	u32 part;

	for (part = 0; part < DYNMAP_NAME_PARTS; part++) {
		record.len = cpu_to_le16(part);
		memcpy(record.data, name + part * DYNMAP_NAME_PART_BYTES, sizeof(record.data));
		dynmap_journal_append(table->journal, &record);
	}
}

static int dynmap_name_prepare(struct dynmap_table *table, const u8 *name, struct dynmap_op *op)
{
	int ret = dynmap_name_is_valid(name) ? 0 : -EINVAL;

	if (!ret)
		ret = dynmap_alloc_reserve(table->alloc, 0, 3, op);
	return ret ? ret : dynmap_journal_reserve(table->journal, DYNMAP_NAME_PARTS, op);
}

int dynmap_volume_set_name(struct dynmap_table *table, u64 id, const u8 *name,
			   struct dynmap_op *op)
{
	struct dynmap_volume *volume;
	int ret = id > DYNMAP_MAX_VOLUME_ID ? -ENODATA :
		  dynmap_volume_load(table, id, &volume, op);

	if (!ret)
		ret = dynmap_name_prepare(table, name, op);
	if (ret)
		return ret;
	memcpy(volume->disk.name, name, sizeof(volume->disk.name));
	dynmap_volume_changed(volume);
	dynmap_journal_name(table, DYNMAP_REC_VOLUME_SET, id, name);
	return 0;
}

int dynmap_table_set_name(struct dynmap_table *table, const u8 *name, struct dynmap_op *op)
{
	int ret = dynmap_name_prepare(table, name, op);

	if (ret)
		return ret;
	memcpy(table->name, name, sizeof(table->name));
	dynmap_journal_name(table, DYNMAP_REC_POOL_SET, 0, name);
	return 0;
}

int dynmap_replay_name(u8 *name, const struct dynmap_disk_record *record)
{
	u32 part = le16_to_cpu(record->len);

	if (part >= DYNMAP_NAME_PARTS ||
	    (part == DYNMAP_NAME_PARTS - 1 && record->data[DYNMAP_NAME_PART_BYTES - 1]))
		return -EUCLEAN;
	memcpy(name + part * DYNMAP_NAME_PART_BYTES, record->data, DYNMAP_NAME_PART_BYTES);
	return 0;
}

/**
 * struct dynmap_deletion - a deletion that was seen to be possible
 * @volume: the volume
 * @parent: its parent, NULL: none
 * @slot: its slot there
 * @dying: the snapshot node that dies with it, NULL: none
 * @side: on this side
 */
struct dynmap_deletion {
	struct dynmap_volume *volume;
	struct dynmap_snap *parent;
	u32 slot;
	struct dynmap_snap *dying;
	u32 side;
};

/*
 * An internal id that is not in use, to be table->next_reap_id; the way to its place is in
 * the cache. After the last one they begin anew. Replay takes the one that its record says.
 */
static int dynmap_delete_choose_id(struct dynmap_table *table, struct dynmap_op *op)
{
	struct dynmap_path path;
	u32 tries;
	int ret;

	for (tries = 0; tries < DYNMAP_REAP_TRIES; tries++) {
		if (table->next_reap_id > DYNMAP_MAX_REAP_ID)
			table->next_reap_id = DYNMAP_FIRST_REAP_ID;
		ret = dynmap_btree_find(&table->volumes, table->next_reap_id, &path, op);
		if (ret || path.slot[0] < 0 ||
		    dynmap_leaf_key(path.buf[0], path.slot[0]) != table->next_reap_id)
			return ret;
		if (table->journal->replaying)
			break;
		table->next_reap_id++;
	}
	/* So many in a row that wait to be emptied: call again. */
	if (!table->journal->replaying)
		return -EBUSY;
	dynmap_err("the id of a deleted volume, %llu, is in use",
		   (unsigned long long)table->next_reap_id);
	return -EUCLEAN;
}

/* First phase of a deletion, but for reserving; the ways to both records are in the cache. */
static int dynmap_delete_prepare(struct dynmap_table *table, u64 id,
				 struct dynmap_deletion *deletion, struct dynmap_op *op)
{
	struct dynmap_volume *volume;
	struct dynmap_path path;
	int ret;

	memset(deletion, 0, sizeof(*deletion));
	op->urgent = max_t(u8, op->urgent, DYNMAP_URGENT);
	ret = dynmap_volume_load(table, id, &volume, op);
	if (ret)
		return ret;
	if (volume->users)
		return -ETXTBSY;
	if (volume->disk.flags & cpu_to_le32(DYNMAP_VOLUME_PROTECTED))
		return -EPERM;
	deletion->volume = volume;
	deletion->slot = le32_to_cpu(volume->disk.parent_slot);
	deletion->side = deletion->slot;
	if (volume->disk.parent)
		ret = dynmap_snap_get(&table->family, le64_to_cpu(volume->disk.parent),
				      &deletion->parent, op);
	if (!ret && deletion->parent)
		ret = dynmap_family_next(&table->family, deletion->parent->id, &deletion->side,
					 &deletion->dying, op);
	if (!ret && deletion->dying && dynmap_snap_is_dying(deletion->dying)) {
		dynmap_err("snapshot node %llu: a side that was deleted is in use",
			   (unsigned long long)deletion->dying->id);
		ret = -EUCLEAN;
	}
	if (!ret)
		ret = dynmap_btree_find(&table->volumes, id, &path, op);
	return ret ? ret : dynmap_delete_choose_id(table, op);
}

/* Second phase: the volume gets an internal id; its record at the old one is still there. */
static int dynmap_delete_apply(struct dynmap_table *table, const struct dynmap_deletion *deletion,
			       struct dynmap_op *op)
{
	struct dynmap_volume *volume = deletion->volume;
	u64 reap_id = table->next_reap_id++;

	dynmap_volume_rename(table, volume, reap_id);
	volume->disk.flags |= cpu_to_le32(DYNMAP_VOLUME_DELETING);
	volume->version = table->family.version - 1;
	dynmap_volume_changed(volume);
	if (deletion->parent)
		dynmap_snap_set_child(deletion->parent, deletion->slot, reap_id);
	if (deletion->dying)
		dynmap_snap_die(&table->family, deletion->dying, deletion->side);
	return dynmap_volume_put(table, volume, op);
}

int dynmap_volume_delete(struct dynmap_table *table, u64 id, struct dynmap_op *op)
{
	struct dynmap_deletion deletion;
	int ret;

	if (id > DYNMAP_MAX_VOLUME_ID)
		return -EINVAL;
	ret = dynmap_delete_prepare(table, id, &deletion, op);
	if (!ret)
		ret = dynmap_alloc_reserve(table->alloc,
					   2 * dynmap_btree_worst(&table->volumes) + 3, 3, op);
	if (!ret)
		ret = dynmap_journal_reserve(table->journal, 1, op);
	if (ret)
		return ret;
	/* The new record first: to remove the old one may take its leaf away. */
	ret = dynmap_delete_apply(table, &deletion, op);
	if (!ret)
		ret = dynmap_btree_remove(&table->volumes, id, op);
	if (WARN_ON_ONCE(ret))
		return -EUCLEAN;
	dynmap_journal_volume(table, DYNMAP_REC_VOLUME_DELETE, id, 0, deletion.volume->id);
	return 0;
}

int dynmap_volume_rollback(struct dynmap_table *table, u64 id, u64 snapshot_id,
			   struct dynmap_op *op)
{
	struct dynmap_disk_record record = {
		.kind = DYNMAP_REC_ROLLBACK,
		.volume = cpu_to_le32(id),
		.map.lbn = cpu_to_le64(snapshot_id),
	};
	struct dynmap_volume *snapshot, *copy;
	struct dynmap_deletion deletion;
	struct dynmap_disk_volume old;
	int ret;

	if (id > DYNMAP_MAX_VOLUME_ID || snapshot_id > DYNMAP_MAX_VOLUME_ID || id == snapshot_id)
		return -EINVAL;
	ret = dynmap_delete_prepare(table, id, &deletion, op);
	if (!ret && deletion.volume->disk.flags & cpu_to_le32(DYNMAP_VOLUME_READ_ONLY))
		ret = -EROFS;
	if (!ret)
		ret = dynmap_volume_load(table, snapshot_id, &snapshot, op);
	if (!ret)
		ret = dynmap_alloc_reserve(table->alloc,
					   2 * dynmap_btree_worst(&table->volumes) + 3 +
					   dynmap_btree_worst(&table->family.snaps), 4, op);
	if (!ret)
		ret = dynmap_journal_reserve(table->journal, 1, op);
	if (!ret)
		ret = dynmap_volume_copy(table, id, snapshot, &copy, op);
	if (ret)
		return ret;
	old = deletion.volume->disk;
	ret = dynmap_delete_apply(table, &deletion, op);
	copy->disk.created = old.created;
	copy->disk.flags = old.flags;
	copy->disk.alloc_blocks = old.alloc_blocks;
	memcpy(copy->disk.name, old.name, sizeof(old.name));
	memcpy(copy->disk.uuid, old.uuid, sizeof(old.uuid));
	if (!ret)
		ret = dynmap_volume_put(table, copy, op);
	record.map.pbn = cpu_to_le64(deletion.volume->id);
	dynmap_journal_append(table->journal, &record);
	return ret;
}

int dynmap_volume_next(struct dynmap_table *table, u64 id, struct dynmap_disk_volume *disk,
		       struct dynmap_op *op)
{
	struct dynmap_volume *volume;
	int ret = dynmap_btree_next(&table->volumes, id, disk, &id, op);

	if (ret)
		return ret;
	if (id > DYNMAP_MAX_VOLUME_ID)
		return -ENOENT;
	volume = dynmap_volume_find(table, id);
	if (!volume)
		return 0;
	dynmap_volume_record(volume);
	*disk = volume->disk;
	return 0;
}

int dynmap_volume_usage(struct dynmap_table *table, u64 id, struct dynmap_usage *usage,
			struct dynmap_op *op)
{
	struct dynmap_volume *volume;
	int ret = id > DYNMAP_MAX_VOLUME_ID ? -ENODATA :
		  dynmap_volume_load(table, id, &volume, op);

	if (!ret)
		ret = dynmap_family_resolve(&table->family, ~0U, op);
	if (ret)
		return ret;
	*usage = (struct dynmap_usage){
		.mapped = volume->mapped,
		.reserved = volume->reserved,
		.survey.node = le64_to_cpu(volume->disk.parent),
		.survey.side = le32_to_cpu(volume->disk.parent_slot),
		.survey.blocks = volume->exclusive,
	};
	return 0;
}

int dynmap_usage_step(struct dynmap_table *table, struct dynmap_usage *usage,
		      struct dynmap_op *op)
{
	int ret = dynmap_family_survey(&table->family, &usage->survey, op);

	if (ret == -ENOENT)
		usage->exclusive = usage->survey.blocks;
	return ret;
}

int dynmap_table_set_transaction(struct dynmap_table *table, u64 id, struct dynmap_op *op)
{
	int ret = dynmap_alloc_reserve(table->alloc, 0, 3, op);

	if (!ret)
		ret = dynmap_journal_reserve(table->journal, 1, op);
	if (ret)
		return ret;
	table->transaction_id = id;
	dynmap_journal_volume(table, DYNMAP_REC_TRANSACTION, 0, 0, id);
	return 0;
}

int dynmap_volume_replay_set(struct dynmap_table *table, u64 id,
			     const struct dynmap_disk_record *record, struct dynmap_op *op)
{
	u64 value = le64_to_cpu(record->map.lbn);
	struct dynmap_volume *volume;
	int ret;

	if (record->attr != DYNMAP_ATTR_UUID && record->attr != DYNMAP_ATTR_NAME &&
	    !dynmap_attr_valid(record->attr, value))
		return -EUCLEAN;
	ret = dynmap_volume_load(table, id, &volume, op);
	if (!ret && record->attr == DYNMAP_ATTR_NAME)
		ret = dynmap_replay_name(volume->disk.name, record);
	if (ret)
		return ret;
	if (record->attr == DYNMAP_ATTR_UUID)
		memcpy(volume->disk.uuid, record->data, sizeof(volume->disk.uuid));
	dynmap_volume_set(volume, record->attr, value);
	return 0;
}

int dynmap_table_checkpoint(struct dynmap_table *table, u32 *most, struct dynmap_op *op)
{
	struct dynmap_volume *volume;
	int ret;

	while (!list_empty(&table->changed)) {
		if (!*most)
			return -EINPROGRESS;
		--*most;
		volume = list_first_entry(&table->changed, struct dynmap_volume, state);
		ret = dynmap_btree_seal(&volume->map, most);
		if (!ret)
			ret = dynmap_alloc_reserve(table->alloc,
						   dynmap_btree_worst(&table->volumes), 2, op);
		if (ret)
			return ret;
		dynmap_volume_record(volume);
		ret = dynmap_btree_put(&table->volumes, volume->id, &volume->disk, op);
		if (ret)
			return ret;
		volume->entered = true;
		list_move_tail(&volume->state, &table->entered);
	}
	return 0;
}

void dynmap_table_sealed(struct dynmap_table *table)
{
	struct dynmap_volume *volume, *next;

	list_for_each_entry_safe(volume, next, &table->entered, state) {
		volume->dirty = false;
		volume->entered = false;
		list_del_init(&volume->state);
	}
	table->cache->tally[DYNMAP_TREE_VOLUME].records = 0;
}
