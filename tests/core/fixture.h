/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Fixture of the unit tests: a pool on devices in memory.
 *
 * Owns: formatting, opening, and the part of the kernel in a write: data goes
 * to the device before dynmap_table_set_written(). Each block written holds
 * the volume's id, its lbn and a value of the test's choice.
 */
#ifndef DM_DYNMAP_TESTS_FIXTURE_H
#define DM_DYNMAP_TESTS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/grow.h"
#include "core/open.h"
#include "core/reap.h"
#include "store-mem.h"
#include "tools/check.h"

/* cmocka.h needs the headers above first. */
#include <cmocka.h>

/**
 * struct fixture - a pool under test
 * @mem: its devices
 * @pool: the pool
 * @open: @pool is open
 */
struct fixture {
	struct store_mem mem;
	struct dynmap_pool pool;
	bool open;
};

/**
 * struct fixture_tag - what a block begins with
 * @volume: id of the volume that it was written to
 * @lbn: where
 * @value: of the test's choice
 */
struct fixture_tag {
	u64 volume;
	u64 lbn;
	u64 value;
};

/* Call @expression, which may use "op", until no node or bitmap is missing; its result. */
#define FETCHED(fixture, expression) ({						\
	struct dynmap_op op = {};						\
	int fetched;								\
										\
	do {									\
		fetched = (expression);						\
	} while ((fetched == -EAGAIN ||						\
		  (fetched == -ENOMEM && op.bitmaps)) &&					\
		 !(fetched = dynmap_pool_help(&(fixture)->pool, &op, fetched)));	\
	fetched;								\
})

/* Call @expression, which may use @op, with help until it needs no more. */
#define HELPED(fixture, expression) ({						\
	struct dynmap_op op = {};						\
	int __ret, __tries = 0;							\
										\
	for (;;) {								\
		__ret = (expression);						\
		if ((__ret != -EAGAIN && __ret != -ENOMEM && __ret != -EBUSY) ||	\
		    __tries++ == 5000)						\
			break;							\
		__ret = dynmap_pool_help(&(fixture)->pool, &op, __ret);		\
		if (__ret)							\
			break;							\
	}									\
	__ret;									\
})

/* A pseudo-random number, the same sequence in each run. */
u64 fixture_random(void);
u64 fixture_below(u64 n);

/* cmocka's setup and teardown: a pool on one or two devices of 6000 blocks. */
int fixture_setup_one(void **state);
int fixture_setup_two(void **state);
int fixture_teardown(void **state);
#define FIXTURE_TEST(test, devices) \
	cmocka_unit_test_setup_teardown(test, fixture_setup_##devices, fixture_teardown)

/* A formatted, open pool; @blocks ends with 0. */
void fixture_init(struct fixture *fixture, const u64 *blocks, u32 alloc_blocks, u32 copies);
void fixture_exit(struct fixture *fixture);
int fixture_format(struct fixture *fixture, u32 alloc_blocks, u32 copies);
/* Open again: after fixture_close() or a power cut. */
int fixture_open(struct fixture *fixture, bool readonly);
void fixture_close(struct fixture *fixture);

/* Let the pool take the devices as they are now. */
int fixture_grow(struct fixture *fixture);

struct dynmap_volume *fixture_create(struct fixture *fixture, u64 id);
struct dynmap_volume *fixture_load(struct fixture *fixture, u64 id);
/* Write blocks; 0 or the error that ended it. */
int fixture_write(struct fixture *fixture, struct dynmap_volume *volume, u64 lbn, u64 len,
		  u64 value);
/* What a block begins with; false if it reads as the default page. */
bool fixture_read_tag(struct fixture *fixture, struct dynmap_volume *volume, u64 lbn,
		      struct fixture_tag *tag);
/* The value of a block; 0 if it reads as the default page. Fails on foreign data. */
u64 fixture_read(struct fixture *fixture, struct dynmap_volume *volume, u64 lbn);
int fixture_unmap(struct fixture *fixture, struct dynmap_volume *volume, u64 lbn, u64 end);

/* The checker finds nothing. */
void fixture_find_nothing(struct fixture *fixture);
/* The same after a checkpoint. */
void fixture_check(struct fixture *fixture);
/* A checkpoint that resolves no dead extents first: they wait over it. */
int fixture_checkpoint_at_once(struct fixture *fixture);
/* The checker finds nothing after it. */
void fixture_check_waiting(struct fixture *fixture);

/* The bitmaps of a segment. */
struct dynmap_seg *fixture_seg(struct fixture *fixture, u32 segment);

#endif /* DM_DYNMAP_TESTS_FIXTURE_H */
