/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Checker: recomputes what a pool derives and compares.
 *
 * Owns: the recount of allocation from the trees, of the volumes' counters, of the
 * divergence trees and of both copies of every node. Changes nothing. The time grows with the
 * distinct nodes, the entries of divergence trees and the blocks in the leaves, not with the
 * volumes that share them, times the passes that memory calls for.
 */
#ifndef DM_DYNMAP_CHECK_H
#define DM_DYNMAP_CHECK_H

#include "core/checkpoint.h"

/**
 * struct dynmap_check - what a check found
 * @damaged: faults that lose or endanger data
 * @repairable: faults of derived or redundant data
 * @volumes: volumes seen, those being deleted included
 * @snapshots: snapshot nodes seen
 * @nodes: B-tree nodes seen
 * @passes: how often all nodes were visited
 * @mapped: blocks written and mapped
 * @reserved: blocks reserved
 */
struct dynmap_check {
	u64 damaged;
	u64 repairable;
	u64 volumes;
	u64 snapshots;
	u64 nodes;
	u64 passes;
	u64 mapped;
	u64 reserved;
};

/* Nodes between two reports of progress. */
#define DYNMAP_CHECK_PROGRESS	4096

/**
 * struct dynmap_check_how - how to check
 * @memory: bytes for what is known of blocks, 0: 128 MiB; that of a segment is taken all
 *	the same
 * @progress: called after each so many nodes of the first pass, or NULL
 */
struct dynmap_check_how {
	u64 memory;
	void (*progress)(const struct dynmap_check *check);
};

/**
 * dynmap_check_pool() - check an open pool
 * @pool: opened read-only, or just after a checkpoint
 * @how: NULL: as usual
 * @check: set to the findings; each one is also a message
 *
 * Return: 0 if the check could be made, whatever it found; -ENOMEM.
 */
int dynmap_check_pool(struct dynmap_pool *pool, const struct dynmap_check_how *how,
		      struct dynmap_check *check);

#endif /* DM_DYNMAP_CHECK_H */
