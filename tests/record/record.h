/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the recorder tells of the devices below the real module.
 *
 * Owns: the events that /dev/dynmap-record gives, each followed by its bytes of
 * payload. tests/crash/replay.c makes a trace of them; marks are for its twin.
 */
#ifndef DM_DYNMAP_TESTS_RECORD_H
#define DM_DYNMAP_TESTS_RECORD_H

#include <linux/types.h>

#define RECORD_MARK_BYTES	24
#define RECORD_OVERFLOW		0xff	/* type: the log was too small, nothing of it counts */
#define RECORD_FUA		1
#define RECORD_META		2

enum record_type {
	RECORD_WRITE,	/* submitted; its data is the payload */
	RECORD_ZERO,	/* discard or write zeroes, submitted */
	RECORD_FLUSH,	/* submitted */
	RECORD_DONE,	/* completed: what was submitted under this id */
	RECORD_MARK,	/* written to /dev/dynmap-record */
	RECORD_FAILED,	/* completed with an error */
};

struct record_event {
	__u8 type;
	__u8 dev;
	__u16 flags;
	__u32 id;
	__u64 sector;
	__u32 sectors;
	__u32 payload_bytes;
	__u8 mark[RECORD_MARK_BYTES];
};

#endif /* DM_DYNMAP_TESTS_RECORD_H */
