/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Fuzzing the core: what its files share.
 *
 * An input is bytes. Three targets give them a meaning: edits of an image,
 * records of a journal, operations on a pool. Whatever the bytes are, the core
 * may answer with errors; a crash, a complaint of ASan, UBSan or WARN_ON_ONCE,
 * an operation that does not end, or a wrong answer is a find.
 *
 * main.c gives inputs from files to a target (gcc, part of `make check-core`),
 * libfuzzer.c those that libFuzzer makes (clang, `make fuzz`).
 */
#ifndef DM_DYNMAP_FUZZ_H
#define DM_DYNMAP_FUZZ_H

#include <stdio.h>
#include <stdlib.h>

#include "core/grow.h"
#include "core/open.h"
#include "core/reap.h"
#include "tools/check.h"
#include "store-cow.h"

/**
 * struct fuzz_input - the bytes, taken from the front
 * @data: the next one
 * @left: how many there are; behind the end all are zero
 */
struct fuzz_input {
	const u8 *data;
	size_t left;
};

u8 fuzz_u8(struct fuzz_input *input);
u16 fuzz_u16(struct fuzz_input *input);
u32 fuzz_u32(struct fuzz_input *input);

/* A find: say it and end the program. */
__attribute__((noreturn)) void fuzz_fail(const char *what);

/* More calls than any operation needs to end. */
#define FUZZ_TRIES	20000

/* Call @expression, which may use @op, with help until it needs no more. */
#define FUZZ_HELPED(pool, expression) ({					\
	struct dynmap_op op = {};						\
	u32 __tries = 0;							\
	int __ret;								\
										\
	for (;;) {								\
		__ret = (expression);						\
		if (__ret != -EAGAIN && __ret != -ENOMEM && __ret != -EBUSY)	\
			break;							\
		if (++__tries > FUZZ_TRIES)					\
			fuzz_fail("no progress: " #expression);			\
		__ret = dynmap_pool_help(pool, &op, __ret);			\
		if (__ret)							\
			break;							\
	}									\
	__ret;									\
})

#define FUZZ_BASES	4
#define FUZZ_EXTENTS	64
#define FUZZ_NODES	128
#define FUZZ_SLACK	300	/* blocks that a device may grow by */

/**
 * struct fuzz_node - where a node of a base image lies
 * @dev: device of copy A
 * @block: block there
 * @pbn: both copies
 */
struct fuzz_node {
	u32 dev;
	u64 block;
	u64 pbn[2];
};

/**
 * struct fuzz_base - an image to begin with
 * @cow: its devices; frozen
 * @blocks: their lengths
 * @super: the superblock
 * @geo: the devices as @super tells
 * @node: all nodes, children first
 * @nr_nodes: how many
 * @extent: some of what is mapped
 * @nr_extents: how many
 * @journal_end: sequence number behind the last record
 */
struct fuzz_base {
	struct store_cow cow;
	u64 blocks[STORE_COW_DEVICES];
	struct dynmap_disk_super super;
	struct dynmap_geometry geo;
	struct fuzz_node node[FUZZ_NODES];
	u32 nr_nodes;
	struct dynmap_mapping extent[FUZZ_EXTENTS];
	u32 nr_extents;
	u64 journal_end;
};

/* Base image @number modulo FUZZ_BASES as it was; made when first asked for. */
struct fuzz_base *fuzz_base(u32 number);

/* The next range in which two volumes differ; -ENOENT: there is none. */
int fuzz_compare(struct dynmap_pool *pool, struct dynmap_volume *a, struct dynmap_volume *b,
		 struct dynmap_comparison *comparison);
/* What a volume uses, all steps. */
int fuzz_usage(struct dynmap_pool *pool, u64 id, struct dynmap_usage *usage);

/* The newest superblock of the devices if a pool may be opened on them, as the kernel sees it. */
int fuzz_super(struct fuzz_base *base, struct dynmap_disk_super *sb);

/*
 * A write: find or make a place for up to @len blocks, mapping->len of them; those
 * of what was shared are held. Then data goes there, and the end tells how many were
 * done by mapping->len; or the data did not get there.
 */
int fuzz_write_begin(struct dynmap_pool *pool, struct dynmap_volume *volume, u64 lbn, u64 len,
		     struct dynmap_mapping *mapping);
int fuzz_write_end(struct dynmap_pool *pool, struct dynmap_volume *volume,
		   struct dynmap_mapping *mapping);
void fuzz_write_fails(struct dynmap_pool *pool, const struct dynmap_mapping *mapping);

/* Write without data. 0 or the error that ended it. */
int fuzz_write(struct dynmap_pool *pool, struct dynmap_volume *volume, u64 lbn, u64 len);
int fuzz_unmap(struct dynmap_pool *pool, struct dynmap_volume *volume, u64 lbn, u64 end);

/* All crcs of an image right again: nodes from the leaves up, superblocks, journal. */
#define FUZZ_SEAL_POINTERS	1	/* pointers take generation and copy B of their node */
#define FUZZ_SEAL_NODES		2	/* nodes take the addresses of their pointer */
#define FUZZ_SEAL_ONE_COPY	4	/* copies B stay as they were */
void fuzz_seal(struct fuzz_base *base, struct dynmap_disk_super *sb, u32 flags);
u32 fuzz_crc(const void *block, size_t crc_at);

/* The edited image that an input of the image or the journal target stands for. */
struct fuzz_base *fuzz_edit_image(struct fuzz_input *input);
struct fuzz_base *fuzz_edit_journal(struct fuzz_input *input);

/* Open, check, use and check an image. */
void fuzz_exercise(struct fuzz_base *base);

/**
 * struct fuzz_target - a meaning of inputs
 * @name: of the target and of its directory of the corpus
 * @edit: the image that an input stands for; NULL: it stands for none
 * @run: try an input
 */
struct fuzz_target {
	const char *name;
	struct fuzz_base *(*edit)(struct fuzz_input *input);
	void (*run)(struct fuzz_input *input);
};

/* Ends with an entry without a name. */
extern const struct fuzz_target fuzz_targets[];

void fuzz_run_ops(struct fuzz_input *input);

#endif /* DM_DYNMAP_FUZZ_H */
