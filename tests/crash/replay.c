// SPDX-License-Identifier: GPL-2.0-only
/*
 * replay [-s] LOG VOLUMES IMAGE...: crash points of the real module.
 *
 * Owns: making a trace of what the recorder noted (tests/record/record.h) below
 * the real module, while tests/record/load.c used volumes 0 to VOLUMES - 1, and
 * having it explored as the simulator's own (explore.h). The images are the
 * devices as they were when the recording began; -s takes a sample of the crash
 * points.
 */
#include <getopt.h>

#include "explore.h"
#include "tests/record/record.h"

#define PIECE	64	/* sectors of one event */

static struct trace trace;
static struct twin twin;

static void *load_file(const char *path, u64 *bytes)
{
	FILE *file = fopen(path, "rb");
	u64 capacity = 1 << 20;
	u8 *data = malloc(capacity);

	*bytes = 0;
	while (file && data) {
		*bytes += fread(data + *bytes, 1, capacity - *bytes, file);
		if (*bytes < capacity)
			break;
		capacity *= 2;
		data = realloc(data, capacity);
	}
	if (!file || !data || ferror(file)) {
		perror(path);
		exit(2);
	}
	fclose(file);
	return data;
}

/* A submission, in pieces that the trace can hold. */
static void add_submission(const struct record_event *record, const u8 *payload)
{
	struct trace_event event = {
		.type = record->type == RECORD_ZERO ? TRACE_DISCARD : TRACE_WRITE,
		.dev = record->dev,
		.id = record->id,
	};
	u32 done;

	if (record->flags & RECORD_FUA)
		event.flags |= TRACE_FUA;
	if (record->flags & RECORD_META)
		event.flags |= TRACE_META;
	for (done = 0; done < record->sectors; done += event.sectors) {
		event.sector = record->sector + done;
		event.sectors = min(record->sectors - done, (u32)PIECE);
		trace_add(&trace, &event, record->type == RECORD_ZERO ? NULL :
			  payload + (u64)done * SECTOR_BYTES);
	}
}

static void add_record(const struct record_event *record, const u8 *payload)
{
	struct trace_event event = { .type = TRACE_DONE, .dev = record->dev, .id = record->id };
	struct twin_mark mark;

	switch (record->type) {
	case RECORD_WRITE:
	case RECORD_ZERO:
		add_submission(record, payload);
		break;
	case RECORD_FLUSH:
		event.type = TRACE_FLUSH;
		trace_add(&trace, &event, NULL);
		break;
	case RECORD_DONE:
		trace_add(&trace, &event, NULL);
		break;
	case RECORD_MARK:
		memcpy(&mark, record->mark, sizeof(mark));
		trace_mark(&trace, &mark);
		break;
	default:
		fprintf(stderr, "replay: the log is too small, or a device failed\n");
		exit(2);
	}
}

static void load_log(const char *path)
{
	struct record_event record;
	u64 bytes, at = 0;
	u8 *log = load_file(path, &bytes);

	while (at + sizeof(record) <= bytes) {
		memcpy(&record, log + at, sizeof(record));
		at += sizeof(record);
		add_record(&record, log + at);
		at += record.payload_bytes;
	}
	if (at != bytes || !trace.count) {
		fprintf(stderr, "replay: the log is cut off\n");
		exit(2);
	}
	free(log);
}

static void load_disks(struct disks *disks, char **paths, u32 nr)
{
	u64 capacity[MAX_DISKS] = {}, bytes;
	u8 zero[SECTOR_BYTES] = {};
	void *data[MAX_DISKS];
	u32 i;

	for (i = 0; i < nr; i++) {
		data[i] = load_file(paths[i], &bytes);
		capacity[i] = bytes / DYNMAP_BLOCK_BYTES;
	}
	disks_init(disks, capacity, zero);
	for (i = 0; i < nr; i++) {
		memcpy(disks->data[i], data[i], capacity[i] * DYNMAP_BLOCK_BYTES);
		free(data[i]);
	}
}

int main(int argc, char **argv)
{
	struct disks disks;
	struct exploration exploration = {
		.disks = &disks,
		.trace = &trace,
		.twin = &twin,
		.name = "the recorded one",
		.all_points = true,
		.budget = { .all = 4, .seeded = 4 },
		.deeper = 200,
	};
	u32 v, volumes;

	dynmap_verbose = getenv("VERBOSE");
	if (argc > 1 && !strcmp(argv[1], "-s")) {
		exploration.all_points = false;
		argv++;
		argc--;
	}
	if (argc < 4 || argc - 3 > MAX_DISKS) {
		fprintf(stderr, "usage: replay [-s] LOG VOLUMES IMAGE...\n");
		return 2;
	}
	volumes = strtoul(argv[2], NULL, 0);
	for (v = 0; v < volumes && v < TWIN_VOLUMES; v++) {
		twin.volume[v].exists = TWIN_YES;
		twin.volume[v].uid = v + 1;
	}
	load_log(argv[1]);
	load_disks(&disks, argv + 3, argc - 3);
	explore_init();
	explore(&exploration);
	explore_report("replay");
	return !!figures->failed;
}
