/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Deleted volumes are emptied: leaf by leaf, the last one first; then the divergence set of
 * the snapshot node above goes to its other side, and the node goes.
 *
 * Locking: metadata lock held for writing.
 */
#ifndef DM_DYNMAP_REAP_H
#define DM_DYNMAP_REAP_H

#include "dm-dynmap-table.h"

/**
 * dynmap_volume_reap() - one bounded step of emptying deleted volumes
 *
 * Return: 0: call again; -ENOENT: nothing left to do; -EAGAIN and so on.
 */
int __must_check dynmap_volume_reap(struct dynmap_table *table, struct dynmap_op *op);

#endif /* DM_DYNMAP_REAP_H */
