/* SPDX-License-Identifier: MIT */
/*
 * dm-dynmap on-disk format.
 *
 * Owns: every structure that reaches a device, and the asserts that pin its
 * size and offsets. Knows nothing of how the structures are used.
 *
 * All fields are little-endian. The unit is the block of 4096 bytes. There are
 * three kinds of metadata block: superblock, journal block and B-tree node.
 * doc/format.md tells the same story in prose, with diagrams.
 *
 * A device, in blocks:
 *
 *   0          superblock (home slot, rewritten when the pool's shape changes)
 *   1..3       superblock slots, used in turn by checkpoints
 *   4..7       zero
 *   8..        its part of the journal ring (see struct dynmap_disk_journal)
 *   data_start segments of 65536 blocks, the last one may be short
 *   blocks-1   superblock (backup slot, written together with the home slot; of a lone
 *              device by each checkpoint)
 */
#ifndef DM_DYNMAP_FORMAT_H
#define DM_DYNMAP_FORMAT_H

#define DYNMAP_BLOCK_SHIFT		12
#define DYNMAP_BLOCK_BYTES		4096
#define DYNMAP_BLOCK_SECTORS		8

#define DYNMAP_SEGMENT_SHIFT		16
#define DYNMAP_SEGMENT_BLOCKS		65536
#define DYNMAP_ZONE_SHIFT		8
#define DYNMAP_ZONE_BLOCKS		256
#define DYNMAP_ZONE_WORDS		4
#define DYNMAP_SEGMENT_ZONES		256
#define DYNMAP_WINDOW_BLOCKS		16

#define DYNMAP_PBN_BITS			44
#define DYNMAP_LBN_BITS			42
#define DYNMAP_PBN_NONE			((1ULL << DYNMAP_PBN_BITS) - 1)
#define DYNMAP_DEVICE_SEGMENTS_SHIFT	22	/* 1 PiB per device */
#define DYNMAP_MAX_SLOTS		(1U << DYNMAP_DEVICE_SEGMENTS_SHIFT)
#define DYNMAP_MAX_LBN			(1ULL << DYNMAP_LBN_BITS)
#define DYNMAP_MAX_EXTENT_BLOCKS	DYNMAP_SEGMENT_BLOCKS
#define DYNMAP_MAX_ALLOC_BLOCKS		(1U << 18)	/* 1 GiB */

#define DYNMAP_MAX_DEVICES		48
#define DYNMAP_MAX_VOLUME_ID		((1U << 24) - 1)
/* Ids of deleted volumes; the journal has 32 bits for one. */
#define DYNMAP_FIRST_REAP_ID		((__u64)DYNMAP_MAX_VOLUME_ID + 1)
#define DYNMAP_MAX_REAP_ID		0xffffffffULL
/* A name has no control characters, and zeros behind it, at least one. */
#define DYNMAP_NAME_BYTES		64
#define DYNMAP_UUID_BYTES		16
#define DYNMAP_MAX_LEVELS		10

#define DYNMAP_SB_MAGIC			0x31424650414d5944ULL	/* "DYMAPFB1" read as bytes */
#define DYNMAP_NODE_MAGIC		0x444e5944U		/* "DYND" */
#define DYNMAP_JOURNAL_MAGIC		0x4c4a5944U		/* "DYJL" */
#define DYNMAP_FORMAT_VERSION		1

#define DYNMAP_SB_HOME			0
#define DYNMAP_SB_SLOT_FIRST		1
#define DYNMAP_SB_SLOTS			3
#define DYNMAP_JOURNAL_FIRST		8
#define DYNMAP_JOURNAL_MIN_BLOCKS	32
#define DYNMAP_JOURNAL_MAX_BLOCKS	32768
#define DYNMAP_JOURNAL_PIECE		32	/* consecutive blocks on the same two devices */
#define DYNMAP_MIN_DEVICE_BLOCKS	1024	/* 4 MiB */

/* A feature bit that a reader does not know: ignore it, open read-only, or refuse. */
#define DYNMAP_COMPAT_KNOWN		0ULL
#define DYNMAP_RO_COMPAT_KNOWN		0ULL
#define DYNMAP_INCOMPAT_KNOWN		0ULL

/**
 * enum dynmap_tree_kind - what a B-tree holds; stored in every node
 * @DYNMAP_TREE_MAP: map records of one volume
 * @DYNMAP_TREE_VOLUME: volume records
 * @DYNMAP_TREE_SPACE: zone records, the allocation bitmap, and summaries of them
 * @DYNMAP_TREE_SEGMENT: segment records
 * @DYNMAP_TREE_SNAPSHOT: snapshot nodes
 * @DYNMAP_TREE_DIVERGENCE: divergence records of one snapshot node
 * @DYNMAP_TREE_DEAD: dead extents that wait
 */
enum dynmap_tree_kind {
	DYNMAP_TREE_MAP = 1,
	DYNMAP_TREE_VOLUME = 2,
	DYNMAP_TREE_SPACE = 3,
	DYNMAP_TREE_SEGMENT = 4,
	DYNMAP_TREE_SNAPSHOT = 5,
	DYNMAP_TREE_DIVERGENCE = 6,
	DYNMAP_TREE_DEAD = 7,
	DYNMAP_TREE_KINDS
};

/*
 * Root of a B-tree, as kept in a superblock or a record.
 *
 * OFFSET SIZE DESCRIPTION
 *      0    8 pbn of copy A, DYNMAP_PBN_NONE for an empty tree
 *      8    8 pbn of copy B, or DYNMAP_PBN_NONE
 *     16    4 generation in which the root node was written
 *     20    4 crc of the root node
 *     24    4 levels, 0 for an empty tree, 1 for a lone leaf
 *     28    4 zero
 */
struct dynmap_disk_root {
	__le64 pbn_a;
	__le64 pbn_b;
	__le32 generation;
	__le32 crc;
	__le32 levels;
	__le32 zero;
};

/*
 * How many nodes a tree of the pool has; what a checkpoint may have to write is computed
 * from it.
 *
 * OFFSET SIZE DESCRIPTION
 *      0    4 leaves
 *      4    4 inner nodes
 */
struct dynmap_disk_tally {
	__le32 leaves;
	__le32 inner;
};

/*
 * Device entry of the superblock.
 *
 * OFFSET SIZE DESCRIPTION
 *      0   16 device uuid
 *     16    8 length in blocks, the backup superblock included
 *     24    8 first block of segment slot 0
 *     32    8 first block of the journal ring
 *     40    4 blocks set aside for a journal ring
 *     44    4 number of segment slots
 *     48    4 flags, zero
 *     52   12 zero
 */
struct dynmap_disk_device {
	__u8 uuid[DYNMAP_UUID_BYTES];
	__le64 blocks;
	__le64 data_start;
	__le64 journal_start;
	__le32 journal_blocks;
	__le32 slots;
	__le32 flags;
	__u8 zero[12];
};

/*
 * Superblock. The newest one of all slots of all devices wins; two that carry the same
 * epoch differ only in this_device, but that of a device about to join, which has the epoch
 * before the newest. One with a good checksum that is newer and not understood wins, too:
 * the pool is then refused, never opened as an older one says. For that the fields up to
 * epoch keep their places in all versions.
 *
 * OFFSET SIZE DESCRIPTION
 *      0   64 zero
 *     64    8 magic
 *     72    4 crc32c of the block with this field zero
 *     76    4 format version
 *     80   16 pool uuid
 *     96    4 index of the device that carries this copy
 *    100    4 number of devices
 *    104   24 feature masks: compat, ro-compat, incompat
 *    128    8 epoch: number of the checkpoint that wrote this
 *    136    8 journal incarnation
 *    144    8 sequence number of the first journal block to replay
 *    152    4 generation
 *    156    4 blocks in the journal ring
 *    160    4 devices that carry the journal: the first so many, in the order of the
 *             table, that have set aside as many blocks as the ring has
 *    164    4 zero
 *    168    4 allocation size, blocks
 *    172    4 copies kept of each node, 1 or 2
 *    176    8 transaction id of user space
 *    184    8 flags, DYNMAP_SB_*
 *    192    8 blocks allocated to data (derived, checked)
 *    200    8 next id for a volume being deleted
 *    208    8 next snapshot node id
 *    216    8 zero
 *    224  128 roots: volume, space, segment, snapshot
 *    352   64 name of the pool, ends with a zero
 *    416    8 opening: a random number, drawn each time that the pool is opened for writing
 *    424    8 the opening before, which all devices carry
 *    432    4 generation in which a group of snapshots began that is not complete, 0: none
 *    436   32 tallies: volume, space, snapshot, tree of dead extents
 *    468    4 zero
 *    472   32 root of the tree of dead extents
 *    504  520 zero
 *   1024 3072 device table
 */
struct dynmap_disk_super {
	__u8 boot[64];
	__le64 magic;
	__le32 crc;
	__le32 version;
	__u8 uuid[DYNMAP_UUID_BYTES];
	__le32 this_device;
	__le32 nr_devices;
	__le64 compat;
	__le64 ro_compat;
	__le64 incompat;
	__le64 epoch;
	__le64 incarnation;
	__le64 journal_seq;
	__le32 generation;
	__le32 journal_blocks;
	__le32 journal_devices;
	__le32 zero2;
	__le32 alloc_blocks;
	__le32 copies;
	__le64 transaction_id;
	__le64 flags;
	__le64 data_blocks;
	__le64 next_reap_id;
	__le64 next_snapshot_id;
	__le64 zero0;
	struct dynmap_disk_root volume_root;
	struct dynmap_disk_root space_root;
	struct dynmap_disk_root segment_root;
	struct dynmap_disk_root snapshot_root;
	__u8 label[DYNMAP_NAME_BYTES];
	__le64 opening;
	__le64 last_opening;
	__le32 group;
	struct dynmap_disk_tally volume_tally;
	struct dynmap_disk_tally space_tally;
	struct dynmap_disk_tally snapshot_tally;
	struct dynmap_disk_tally dead_tally;
	__le32 zero3;
	struct dynmap_disk_root dead_root;
	__u8 zero1[520];
	struct dynmap_disk_device device[DYNMAP_MAX_DEVICES];
};

#define DYNMAP_SB_OPENED	(1ULL << 0)	/* all devices carry this opening */

/*
 * B-tree node header.
 *
 * OFFSET SIZE DESCRIPTION
 *      0    4 magic
 *      4    4 crc32c of the block with this field zero
 *      8   16 pool uuid
 *     24    8 pbn of copy A
 *     32    8 pbn of copy B, or DYNMAP_PBN_NONE
 *     40    8 owner: volume id or snapshot node id, 0 for pool-wide trees
 *     48    8 epoch that wrote the node
 *     56    4 generation in which the node was allocated (its birth)
 *     60    1 enum dynmap_tree_kind
 *     61    1 level, 0 for a leaf
 *     62    2 number of entries
 *     64    8 base key: no key below it is found in this node
 *     72    8 zero
 */
struct dynmap_disk_node {
	__le32 magic;
	__le32 crc;
	__u8 uuid[DYNMAP_UUID_BYTES];
	__le64 pbn_a;
	__le64 pbn_b;
	__le64 owner;
	__le64 epoch;
	__le32 generation;
	__u8 kind;
	__u8 level;
	__le16 count;
	__le64 base;
	__le64 zero;
	__u8 payload[];
};

#define DYNMAP_NODE_PAYLOAD	(DYNMAP_BLOCK_BYTES - 80)

/*
 * Inner entry: the subtree of keys from this entry's to the next one's. The
 * crc held here catches lost and misdirected writes of the child.
 *
 * OFFSET SIZE DESCRIPTION
 *      0    8 key
 *      8    8 pbn of the child's copy A
 *     16    8 pbn of the child's copy B, or DYNMAP_PBN_NONE
 *     24    4 generation of the child
 *     28    4 crc of the child
 */
struct dynmap_disk_child {
	__le64 key;
	__le64 pbn_a;
	__le64 pbn_b;
	__le32 generation;
	__le32 crc;
};

/**
 * enum dynmap_map_kind - kinds of map record
 * @DYNMAP_HOLE: nothing is mapped; never on disk
 * @DYNMAP_DATA: allocated and written
 * @DYNMAP_RESERVED: allocated ahead; reads as the default page
 * @DYNMAP_WINDOW: an aligned window of 16 allocated blocks with a written bitmap
 */
enum dynmap_map_kind {
	DYNMAP_HOLE = 0,
	DYNMAP_DATA = 1,
	DYNMAP_RESERVED = 2,
	DYNMAP_WINDOW = 3,
};

/*
 * Map record: an extent of one volume. Records are sorted and do not overlap;
 * an extent lies inside one segment.
 *
 * OFFSET SIZE DESCRIPTION
 *      0    4 lbn minus the node's base key
 *      4    2 length in blocks minus one; for a WINDOW its written bitmap
 *      6    6 kind in the top 4 bits, pbn in the low 44
 *     12    4 birth: generation in which the blocks were allocated
 */
struct dynmap_disk_map {
	__le32 delta;
	__le16 len;
	__le16 pbn_low;
	__le32 kind_pbn_high;
	__le32 birth;
};

#define DYNMAP_MAP_KIND_SHIFT	28

/*
 * Volume record.
 *
 * OFFSET SIZE DESCRIPTION
 *      0    8 id; up to DYNMAP_MAX_VOLUME_ID, above: a volume being deleted
 *      8   32 root of the map tree
 *     40    8 snapshot node that is this volume's parent, 0: none
 *     48    4 slot below that parent, 0 or 1
 *     52    4 generation of creation
 *     56    8 virtual size in blocks, 0: given by the table line alone
 *     64   16 uuid
 *     80   64 name
 *    144    4 flags, DYNMAP_VOLUME_*
 *    148    1 fill byte of the default page
 *    149    3 zero
 *    152    4 allocation size in blocks, 0: the pool's
 *    156    4 zero
 *    160    8 blocks written and mapped
 *    168    8 blocks born since its parent: they are this volume's alone
 *    176    8 blocks reserved, not yet written
 *    184    8 creation time, seconds since 1970
 *    192   16 uuid of the external origin
 *    208   48 zero
 */
struct dynmap_disk_volume {
	__le64 id;
	struct dynmap_disk_root root;
	__le64 parent;
	__le32 parent_slot;
	__le32 generation;
	__le64 size_blocks;
	__u8 uuid[DYNMAP_UUID_BYTES];
	__u8 name[DYNMAP_NAME_BYTES];
	__le32 flags;
	__u8 fill;
	__u8 zero0[3];
	__le32 alloc_blocks;
	__le32 zero1;
	__le64 mapped_blocks;
	__le64 exclusive_blocks;
	__le64 reserved_blocks;
	__le64 created;
	__u8 origin[DYNMAP_UUID_BYTES];
	__u8 zero2[48];
};

#define DYNMAP_VOLUME_DELETING	(1U << 0)
#define DYNMAP_VOLUME_READ_ONLY	(1U << 1)
#define DYNMAP_VOLUME_PROTECTED	(1U << 2)	/* it cannot be deleted */
#define DYNMAP_VOLUME_FLAGS	(DYNMAP_VOLUME_DELETING | DYNMAP_VOLUME_READ_ONLY | \
				 DYNMAP_VOLUME_PROTECTED)

/*
 * Zone record: allocation state of 256 blocks. A zone without a record is
 * entirely free.
 *
 * OFFSET SIZE DESCRIPTION
 *      0    8 zone number: pbn >> 8
 *      8    2 flags, DYNMAP_ZONE_*
 *     10    2 blocks allocated
 *     12    4 zero
 *     16   32 bitmap, bit n of word w is block 64 w + n: 1 is allocated
 */
struct dynmap_disk_zone {
	__le64 zone;
	__le16 flags;
	__le16 used;
	__le32 zero;
	__le64 bitmap[DYNMAP_ZONE_WORDS];
};

/*
 * Claimed for metadata: for copies A or for copies B of nodes, if the pool has one device.
 * On several ones the zones of even devices have the first, those of odd ones the second
 * flag, zones from when the first device was alone either; any copies may lie in them.
 */
#define DYNMAP_ZONE_META_A	(1U << 0)
#define DYNMAP_ZONE_META_B	(1U << 1)
#define DYNMAP_ZONE_META	(DYNMAP_ZONE_META_A | DYNMAP_ZONE_META_B)

/*
 * Summary of a part of a device, behind the zone records in the same tree. A part without
 * one is entirely free. There are parts of level 1: segments; of level 2: 256 segments
 * (64 GiB); of level 3: 128 parts of level 2 (8 TiB). Each is aligned on its device.
 *
 * OFFSET SIZE DESCRIPTION
 *      0    8 key: level << 40 | number of its first segment / segments in such a part
 *      8    4 blocks of the part when this was written; those added since are free
 *     12    4 allocated blocks in zones of data
 *     16    8 blocks in metadata zones for copies A, and for copies B
 *     24    8 of them, those that are allocated
 *     32    8 such zones without an allocated block
 *     40    4 length of the longest run of free blocks in zones of data, inside one segment
 *     44    4 free blocks of the zone of data that has most of them
 */
struct dynmap_disk_summary {
	__le64 key;
	__le32 blocks;
	__le32 used;
	__le32 node_blocks[2];
	__le32 node_used[2];
	__le32 empty[2];
	__le32 run;
	__le32 zone;
};

#define DYNMAP_SUMMARY_SHIFT	40
#define DYNMAP_PART_LEVELS	3
#define DYNMAP_PART_SHIFT_1	8	/* log2 of the segments in a part of level 2 */
#define DYNMAP_PART_SHIFT_2	7	/* log2 of the parts of level 2 in one of level 3 */

/*
 * Segment record: a run of segments that were moved: they lie one after the
 * other on a device and in slots other than their numbers say. The tree's own
 * nodes never lie in moved segments.
 *
 * OFFSET SIZE DESCRIPTION
 *      0    8 first segment
 *      8    4 number of segments
 *     12    4 slot of the first one
 *     16    4 device
 *     20   12 zero
 */
struct dynmap_disk_segment {
	__le64 segment;
	__le32 count;
	__le32 slot;
	__le32 device;
	__u8 zero[12];
};

/*
 * Snapshot node: the inner node of a family of volumes, made by a snapshot. It is
 * dying when all volumes on one of its sides have been deleted: it goes once what
 * they left is seen to.
 *
 * OFFSET SIZE DESCRIPTION
 *      0    8 id
 *      8    8 parent snapshot node, 0: none
 *     16    4 slot below that parent, 0 or 1
 *     20    4 generation
 *     24   16 children: bit 63 set: snapshot node id, else volume id
 *     40   32 root of the divergence tree
 *     72    8 data blocks in use that were born after its parent, up to itself
 *     80    4 flags, DYNMAP_SNAPSHOT_*
 *     84   44 zero
 */
struct dynmap_disk_snapshot {
	__le64 id;
	__le64 parent;
	__le32 parent_slot;
	__le32 generation;
	__le64 child[2];
	struct dynmap_disk_root divergence_root;
	__le64 own_blocks;
	__le32 flags;
	__u8 zero[44];
};

#define DYNMAP_SNAPSHOT_DYING	(1U << 0)
#define DYNMAP_SNAPSHOT_SIDE	(1U << 1)	/* if dying: the side that was deleted is 1 */
#define DYNMAP_SNAPSHOT_FLAGS	(DYNMAP_SNAPSHOT_DYING | DYNMAP_SNAPSHOT_SIDE)
#define DYNMAP_MAX_SNAPSHOT_ID	0xffffffffffffULL

#define DYNMAP_CHILD_IS_NODE	(1ULL << 63)

/*
 * Divergence record: blocks, nodes among them, born before a snapshot node that one
 * of its sides stopped using and the other did not.
 *
 * OFFSET SIZE DESCRIPTION
 *      0    8 first pbn
 *      8    4 length in blocks
 *     12    4 birth
 *     16    1 side that stopped using them, 0 or 1
 *     17    1 they are: 0 data, 1 a node
 *     18    6 zero
 */
struct dynmap_disk_divergence {
	__le64 pbn;
	__le32 len;
	__le32 birth;
	__u8 side;
	__u8 is_node;
	__u8 zero[6];
};

/*
 * Dead extent record: blocks that one side of a snapshot node stopped using, and that are not yet
 * entered in its divergence tree. Each checkpoint numbers those that wait from 0 on.
 *
 * OFFSET SIZE DESCRIPTION
 *      0    8 number
 *      8    8 first pbn
 *     16    8 snapshot node
 *     24    4 length in blocks
 *     28    4 birth
 *     32    1 side that stopped using them, 0 or 1
 *     33    1 they are: 0 data, 1 nodes
 *     34    6 zero
 */
struct dynmap_disk_dead {
	__le64 number;
	__le64 pbn;
	__le64 node;
	__le32 len;
	__le32 birth;
	__u8 side;
	__u8 is_node;
	__u8 zero[6];
};

/**
 * enum dynmap_record_kind - kinds of journal record
 * @DYNMAP_REC_RESERVE: [lbn, lbn + len) of a hole is mapped to pbn, RESERVED
 * @DYNMAP_REC_WRITTEN: of [lbn, lbn + len), what maps to [pbn, ...) became DATA
 * @DYNMAP_REC_UNMAP: [lbn, lbn + range) was unmapped, its blocks freed
 * @DYNMAP_REC_VOLUME_CREATE: volume created; data: uuid
 * @DYNMAP_REC_VOLUME_SET: attribute set, see enum dynmap_volume_attr
 * @DYNMAP_REC_VOLUME_DELETE: volume renamed to the internal id in lbn, to be emptied
 * @DYNMAP_REC_TRANSACTION: transaction id of user space is now lbn
 * @DYNMAP_REC_REDIRECT: [lbn, lbn + len) maps to pbn, DATA, whatever was there
 * @DYNMAP_REC_SNAPSHOT: volume created as a snapshot of volume lbn, at time pbn
 *	(attr 1: as part of a group, which GROUP_END completes)
 * @DYNMAP_REC_ROLLBACK: volume is a copy of volume lbn now; what it was has got the
 *	internal id in pbn, to be emptied
 * @DYNMAP_REC_POOL_SET: attribute of the pool set: its name
 * @DYNMAP_REC_GROUP_END: the group of snapshots is complete, or none of it is left
 */
enum dynmap_record_kind {
	DYNMAP_REC_RESERVE = 1,
	DYNMAP_REC_WRITTEN = 2,
	DYNMAP_REC_UNMAP = 3,
	DYNMAP_REC_VOLUME_CREATE = 4,
	DYNMAP_REC_VOLUME_SET = 5,
	DYNMAP_REC_VOLUME_DELETE = 6,
	DYNMAP_REC_TRANSACTION = 8,
	DYNMAP_REC_REDIRECT = 9,
	DYNMAP_REC_SNAPSHOT = 10,
	DYNMAP_REC_ROLLBACK = 11,
	DYNMAP_REC_GROUP_END = 12,
	DYNMAP_REC_POOL_SET = 13,
};

/**
 * enum dynmap_volume_attr - which attribute a DYNMAP_REC_VOLUME_SET sets
 * @DYNMAP_ATTR_SIZE: virtual size in blocks (map.lbn)
 * @DYNMAP_ATTR_CREATED: creation time (map.lbn)
 * @DYNMAP_ATTR_NAME: 16 bytes of the name; len tells which of its four parts
 * @DYNMAP_ATTR_FILL: fill byte of the default page (map.lbn)
 * @DYNMAP_ATTR_ALLOC: allocation size in blocks, 0: the pool's (map.lbn)
 * @DYNMAP_ATTR_UUID: data: uuid
 * @DYNMAP_ATTR_READ_ONLY: hosts cannot write to it: 0 or 1 (map.lbn)
 * @DYNMAP_ATTR_PROTECTED: it cannot be deleted: 0 or 1 (map.lbn)
 */
enum dynmap_volume_attr {
	DYNMAP_ATTR_SIZE = 1,
	DYNMAP_ATTR_CREATED = 2,
	DYNMAP_ATTR_NAME = 3,
	DYNMAP_ATTR_FILL = 4,
	DYNMAP_ATTR_ALLOC = 5,
	DYNMAP_ATTR_UUID = 6,
	DYNMAP_ATTR_READ_ONLY = 7,
	DYNMAP_ATTR_PROTECTED = 8,
};

/*
 * Journal record: one logical change.
 *
 * OFFSET SIZE DESCRIPTION
 *      0    1 enum dynmap_record_kind
 *      1    1 attribute (VOLUME_SET, POOL_SET), part of a group (SNAPSHOT), else zero
 *      2    2 length in blocks minus one (RESERVE, WRITTEN, REDIRECT), part of a name
 *      4    4 volume id
 *      8    8 lbn
 *     16    8 pbn, or the range in blocks (UNMAP)
 *      8   16 or, instead of the last two: data
 */
struct dynmap_disk_record {
	__u8 kind;
	__u8 attr;
	__le16 len;
	__le32 volume;
	union {
		struct {
			__le64 lbn;
			__le64 pbn;
		} map;
		__u8 data[16];
	};
};

#define DYNMAP_JOURNAL_RECORDS	168
#define DYNMAP_NAME_PART_BYTES	16
#define DYNMAP_NAME_PARTS	(DYNMAP_NAME_BYTES / DYNMAP_NAME_PART_BYTES)

/*
 * Journal block. Block seq lies at ring position seq modulo ring size, on two of the n
 * devices that carry the journal, numbered in the order of the table: with p = seq /
 * DYNMAP_JOURNAL_PIECE, on device p modulo n and on device p + 1 modulo n; on the only
 * one if n is 1.
 *
 * OFFSET SIZE DESCRIPTION
 *      0    4 magic
 *      4    4 crc32c of the block with this field zero
 *      8   16 pool uuid
 *     24    8 sequence number
 *     32    8 incarnation
 *     40    8 epoch of the trees that the records were applied to
 *     48    2 number of records
 *     50    2 zero
 *     52    4 blocks of the same commit that follow this one
 *     56    8 all blocks before this number were durable when it was written
 *     64 4032 records
 */
struct dynmap_disk_journal {
	__le32 magic;
	__le32 crc;
	__u8 uuid[DYNMAP_UUID_BYTES];
	__le64 seq;
	__le64 incarnation;
	__le64 epoch;
	__le16 count;
	__u8 zero[2];
	__le32 rest;
	__le64 durable;
	struct dynmap_disk_record record[DYNMAP_JOURNAL_RECORDS];
};

#define DYNMAP_ASSERT_SIZE(type, size) \
	_Static_assert(sizeof(struct type) == (size), #type " size")
#define DYNMAP_ASSERT_AT(type, field, at) \
	_Static_assert(offsetof(struct type, field) == (at), #type "." #field)

DYNMAP_ASSERT_SIZE(dynmap_disk_root, 32);
DYNMAP_ASSERT_SIZE(dynmap_disk_tally, 8);
DYNMAP_ASSERT_AT(dynmap_disk_root, pbn_b, 8);
DYNMAP_ASSERT_AT(dynmap_disk_root, generation, 16);
DYNMAP_ASSERT_AT(dynmap_disk_root, crc, 20);
DYNMAP_ASSERT_AT(dynmap_disk_root, levels, 24);
DYNMAP_ASSERT_AT(dynmap_disk_root, zero, 28);

DYNMAP_ASSERT_SIZE(dynmap_disk_device, 64);
DYNMAP_ASSERT_AT(dynmap_disk_device, blocks, 16);
DYNMAP_ASSERT_AT(dynmap_disk_device, data_start, 24);
DYNMAP_ASSERT_AT(dynmap_disk_device, journal_start, 32);
DYNMAP_ASSERT_AT(dynmap_disk_device, journal_blocks, 40);
DYNMAP_ASSERT_AT(dynmap_disk_device, slots, 44);
DYNMAP_ASSERT_AT(dynmap_disk_device, flags, 48);
DYNMAP_ASSERT_AT(dynmap_disk_device, zero, 52);

DYNMAP_ASSERT_SIZE(dynmap_disk_super, DYNMAP_BLOCK_BYTES);
DYNMAP_ASSERT_AT(dynmap_disk_super, magic, 64);
DYNMAP_ASSERT_AT(dynmap_disk_super, crc, 72);
DYNMAP_ASSERT_AT(dynmap_disk_super, version, 76);
DYNMAP_ASSERT_AT(dynmap_disk_super, uuid, 80);
DYNMAP_ASSERT_AT(dynmap_disk_super, this_device, 96);
DYNMAP_ASSERT_AT(dynmap_disk_super, nr_devices, 100);
DYNMAP_ASSERT_AT(dynmap_disk_super, compat, 104);
DYNMAP_ASSERT_AT(dynmap_disk_super, ro_compat, 112);
DYNMAP_ASSERT_AT(dynmap_disk_super, incompat, 120);
DYNMAP_ASSERT_AT(dynmap_disk_super, epoch, 128);
DYNMAP_ASSERT_AT(dynmap_disk_super, incarnation, 136);
DYNMAP_ASSERT_AT(dynmap_disk_super, journal_seq, 144);
DYNMAP_ASSERT_AT(dynmap_disk_super, generation, 152);
DYNMAP_ASSERT_AT(dynmap_disk_super, journal_blocks, 156);
DYNMAP_ASSERT_AT(dynmap_disk_super, journal_devices, 160);
DYNMAP_ASSERT_AT(dynmap_disk_super, zero2, 164);
DYNMAP_ASSERT_AT(dynmap_disk_super, alloc_blocks, 168);
DYNMAP_ASSERT_AT(dynmap_disk_super, copies, 172);
DYNMAP_ASSERT_AT(dynmap_disk_super, transaction_id, 176);
DYNMAP_ASSERT_AT(dynmap_disk_super, flags, 184);
DYNMAP_ASSERT_AT(dynmap_disk_super, data_blocks, 192);
DYNMAP_ASSERT_AT(dynmap_disk_super, next_reap_id, 200);
DYNMAP_ASSERT_AT(dynmap_disk_super, next_snapshot_id, 208);
DYNMAP_ASSERT_AT(dynmap_disk_super, volume_root, 224);
DYNMAP_ASSERT_AT(dynmap_disk_super, space_root, 256);
DYNMAP_ASSERT_AT(dynmap_disk_super, segment_root, 288);
DYNMAP_ASSERT_AT(dynmap_disk_super, snapshot_root, 320);
DYNMAP_ASSERT_AT(dynmap_disk_super, label, 352);
DYNMAP_ASSERT_AT(dynmap_disk_super, opening, 416);
DYNMAP_ASSERT_AT(dynmap_disk_super, last_opening, 424);
DYNMAP_ASSERT_AT(dynmap_disk_super, group, 432);
DYNMAP_ASSERT_AT(dynmap_disk_super, volume_tally, 436);
DYNMAP_ASSERT_AT(dynmap_disk_super, space_tally, 444);
DYNMAP_ASSERT_AT(dynmap_disk_super, snapshot_tally, 452);
DYNMAP_ASSERT_AT(dynmap_disk_super, dead_tally, 460);
DYNMAP_ASSERT_AT(dynmap_disk_super, zero3, 468);
DYNMAP_ASSERT_AT(dynmap_disk_super, dead_root, 472);
DYNMAP_ASSERT_AT(dynmap_disk_super, zero1, 504);
DYNMAP_ASSERT_AT(dynmap_disk_super, device, 1024);

DYNMAP_ASSERT_SIZE(dynmap_disk_node, 80);
DYNMAP_ASSERT_AT(dynmap_disk_node, uuid, 8);
DYNMAP_ASSERT_AT(dynmap_disk_node, pbn_a, 24);
DYNMAP_ASSERT_AT(dynmap_disk_node, pbn_b, 32);
DYNMAP_ASSERT_AT(dynmap_disk_node, owner, 40);
DYNMAP_ASSERT_AT(dynmap_disk_node, epoch, 48);
DYNMAP_ASSERT_AT(dynmap_disk_node, generation, 56);
DYNMAP_ASSERT_AT(dynmap_disk_node, kind, 60);
DYNMAP_ASSERT_AT(dynmap_disk_node, level, 61);
DYNMAP_ASSERT_AT(dynmap_disk_node, count, 62);
DYNMAP_ASSERT_AT(dynmap_disk_node, base, 64);
DYNMAP_ASSERT_AT(dynmap_disk_node, zero, 72);
DYNMAP_ASSERT_AT(dynmap_disk_node, payload, 80);

DYNMAP_ASSERT_SIZE(dynmap_disk_child, 32);
DYNMAP_ASSERT_AT(dynmap_disk_child, pbn_a, 8);
DYNMAP_ASSERT_AT(dynmap_disk_child, pbn_b, 16);
DYNMAP_ASSERT_AT(dynmap_disk_child, generation, 24);
DYNMAP_ASSERT_AT(dynmap_disk_child, crc, 28);

DYNMAP_ASSERT_SIZE(dynmap_disk_map, 16);
DYNMAP_ASSERT_AT(dynmap_disk_map, len, 4);
DYNMAP_ASSERT_AT(dynmap_disk_map, pbn_low, 6);
DYNMAP_ASSERT_AT(dynmap_disk_map, kind_pbn_high, 8);
DYNMAP_ASSERT_AT(dynmap_disk_map, birth, 12);

DYNMAP_ASSERT_SIZE(dynmap_disk_volume, 256);
DYNMAP_ASSERT_AT(dynmap_disk_volume, root, 8);
DYNMAP_ASSERT_AT(dynmap_disk_volume, parent, 40);
DYNMAP_ASSERT_AT(dynmap_disk_volume, parent_slot, 48);
DYNMAP_ASSERT_AT(dynmap_disk_volume, generation, 52);
DYNMAP_ASSERT_AT(dynmap_disk_volume, size_blocks, 56);
DYNMAP_ASSERT_AT(dynmap_disk_volume, uuid, 64);
DYNMAP_ASSERT_AT(dynmap_disk_volume, name, 80);
DYNMAP_ASSERT_AT(dynmap_disk_volume, flags, 144);
DYNMAP_ASSERT_AT(dynmap_disk_volume, fill, 148);
DYNMAP_ASSERT_AT(dynmap_disk_volume, alloc_blocks, 152);
DYNMAP_ASSERT_AT(dynmap_disk_volume, mapped_blocks, 160);
DYNMAP_ASSERT_AT(dynmap_disk_volume, exclusive_blocks, 168);
DYNMAP_ASSERT_AT(dynmap_disk_volume, reserved_blocks, 176);
DYNMAP_ASSERT_AT(dynmap_disk_volume, created, 184);
DYNMAP_ASSERT_AT(dynmap_disk_volume, origin, 192);
DYNMAP_ASSERT_AT(dynmap_disk_volume, zero2, 208);

DYNMAP_ASSERT_SIZE(dynmap_disk_zone, 48);
DYNMAP_ASSERT_AT(dynmap_disk_zone, flags, 8);
DYNMAP_ASSERT_AT(dynmap_disk_zone, used, 10);
DYNMAP_ASSERT_AT(dynmap_disk_zone, zero, 12);
DYNMAP_ASSERT_AT(dynmap_disk_zone, bitmap, 16);
DYNMAP_ASSERT_SIZE(dynmap_disk_summary, 48);
DYNMAP_ASSERT_AT(dynmap_disk_summary, blocks, 8);
DYNMAP_ASSERT_AT(dynmap_disk_summary, node_blocks, 16);
DYNMAP_ASSERT_AT(dynmap_disk_summary, empty, 32);
DYNMAP_ASSERT_AT(dynmap_disk_summary, zone, 44);

DYNMAP_ASSERT_SIZE(dynmap_disk_segment, 32);
DYNMAP_ASSERT_AT(dynmap_disk_segment, count, 8);
DYNMAP_ASSERT_AT(dynmap_disk_segment, slot, 12);
DYNMAP_ASSERT_AT(dynmap_disk_segment, device, 16);
DYNMAP_ASSERT_AT(dynmap_disk_segment, zero, 20);

DYNMAP_ASSERT_SIZE(dynmap_disk_snapshot, 128);
DYNMAP_ASSERT_AT(dynmap_disk_snapshot, parent, 8);
DYNMAP_ASSERT_AT(dynmap_disk_snapshot, parent_slot, 16);
DYNMAP_ASSERT_AT(dynmap_disk_snapshot, generation, 20);
DYNMAP_ASSERT_AT(dynmap_disk_snapshot, child, 24);
DYNMAP_ASSERT_AT(dynmap_disk_snapshot, divergence_root, 40);
DYNMAP_ASSERT_AT(dynmap_disk_snapshot, own_blocks, 72);
DYNMAP_ASSERT_AT(dynmap_disk_snapshot, flags, 80);
DYNMAP_ASSERT_AT(dynmap_disk_snapshot, zero, 84);

DYNMAP_ASSERT_SIZE(dynmap_disk_divergence, 24);
DYNMAP_ASSERT_AT(dynmap_disk_divergence, len, 8);
DYNMAP_ASSERT_AT(dynmap_disk_divergence, birth, 12);
DYNMAP_ASSERT_AT(dynmap_disk_divergence, side, 16);

DYNMAP_ASSERT_SIZE(dynmap_disk_dead, 40);
DYNMAP_ASSERT_AT(dynmap_disk_dead, pbn, 8);
DYNMAP_ASSERT_AT(dynmap_disk_dead, node, 16);
DYNMAP_ASSERT_AT(dynmap_disk_dead, len, 24);
DYNMAP_ASSERT_AT(dynmap_disk_dead, birth, 28);
DYNMAP_ASSERT_AT(dynmap_disk_dead, side, 32);
DYNMAP_ASSERT_AT(dynmap_disk_dead, is_node, 33);
DYNMAP_ASSERT_AT(dynmap_disk_dead, zero, 34);

DYNMAP_ASSERT_SIZE(dynmap_disk_record, 24);
DYNMAP_ASSERT_AT(dynmap_disk_record, attr, 1);
DYNMAP_ASSERT_AT(dynmap_disk_record, len, 2);
DYNMAP_ASSERT_AT(dynmap_disk_record, volume, 4);
DYNMAP_ASSERT_AT(dynmap_disk_record, map.lbn, 8);
DYNMAP_ASSERT_AT(dynmap_disk_record, map.pbn, 16);
DYNMAP_ASSERT_AT(dynmap_disk_record, data, 8);

DYNMAP_ASSERT_SIZE(dynmap_disk_journal, DYNMAP_BLOCK_BYTES);
DYNMAP_ASSERT_AT(dynmap_disk_journal, seq, 24);
DYNMAP_ASSERT_AT(dynmap_disk_journal, incarnation, 32);
DYNMAP_ASSERT_AT(dynmap_disk_journal, epoch, 40);
DYNMAP_ASSERT_AT(dynmap_disk_journal, count, 48);
DYNMAP_ASSERT_AT(dynmap_disk_journal, rest, 52);
DYNMAP_ASSERT_AT(dynmap_disk_journal, durable, 56);
DYNMAP_ASSERT_AT(dynmap_disk_journal, record, 64);

#endif /* DM_DYNMAP_FORMAT_H */
