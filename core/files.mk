# SPDX-License-Identifier: GPL-2.0-only
#
# What the core consists of, without suffix and from the top; each file includes only what
# stands before it, and what it is the implementation of.
CORE := core/dev core/node core/btree core/space core/segment dm-dynmap-alloc core/zone \
	core/journal core/family core/volume dm-dynmap-table core/reap core/super core/pool \
	core/checkpoint core/grow core/open
