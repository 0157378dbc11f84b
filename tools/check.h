/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Checker: recomputes what a pool derives and compares.
 *
 * Owns: the recount of allocation from the trees, of the volumes' counters and
 * of both copies of every node. Changes nothing.
 */
#ifndef DM_DYNMAP_CHECK_H
#define DM_DYNMAP_CHECK_H

#include "dm-dynmap-pool.h"

/**
 * struct dynmap_check - what a check found
 * @damaged: faults that lose or endanger data
 * @repairable: faults of derived or redundant data
 * @volumes: volumes seen, those being deleted included
 * @snapshots: snapshot nodes seen
 * @nodes: B-tree nodes seen
 * @mapped: blocks written and mapped
 * @reserved: blocks reserved
 */
struct dynmap_check {
	u64 damaged;
	u64 repairable;
	u64 volumes;
	u64 snapshots;
	u64 nodes;
	u64 mapped;
	u64 reserved;
};

/**
 * dynmap_check_pool() - check an open pool
 * @pool: opened read-only, or just after a checkpoint
 * @check: set to the findings; each one is also a message
 *
 * Return: 0 if the check could be made, whatever it found; -ENOMEM.
 */
int dynmap_check_pool(struct dynmap_pool *pool, struct dynmap_check *check);

#endif /* DM_DYNMAP_CHECK_H */
