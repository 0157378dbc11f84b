// SPDX-License-Identifier: GPL-2.0-only
/*
 * dynmap: the offline tool. Owns: the command line, and assembling devices
 * into a pool that nothing else uses. The checker is in check.c.
 */
#include <blkid/blkid.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include "core/grow.h"
#include "core/open.h"
#include "tools/check.h"
#include "tools/env/store-file.h"

/* Exit status, as fsck's. */
#define EXIT_CLEAN		0
#define EXIT_REPAIRABLE		1
#define EXIT_DAMAGED		4
#define EXIT_USAGE		16

/* MiB that a check may use. */
#define MIN_MEMORY		8
#define DEFAULT_MEMORY		256
#define MAX_MEMORY		1048576

/* Nodes that the other commands keep in memory. */
#define NODES			16384

static struct store_file file;
static struct dynmap_pool pool;

__printf(1, 2)
static int complain(const char *format, ...)
{
	va_list args;

	fputs("dynmap: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return EXIT_USAGE;
}

static int usage(void)
{
	fputs("Usage: dynmap format [--force] [--alloc-size KIB] [--copies 1|2] [--label TEXT] DEV...\n"
	      "       dynmap check [--quiet] [--memory MIB] DEV...\n"
	      "       dynmap dump [--maps] DEV...\n"
	      "       dynmap compare ID ID DEV...\n", stderr);
	return EXIT_USAGE;
}

static int add_devices(char **paths, enum store_file_mode mode)
{
	int ret;

	if (!*paths)
		return usage();
	store_file_init(&file, mode);
	for (; *paths; paths++) {
		ret = store_file_add(&file, *paths, mode);
		if (ret)
			return complain("%s: %s", *paths, ret == -EEXIST ? "given twice" :
					ret == -EBUSY ? "in use" : strerror(-ret));
		if (file.blocks[file.nr_devs - 1] < DYNMAP_MIN_DEVICE_BLOCKS)
			return complain("%s: too small, at least %u KiB are needed", *paths,
					DYNMAP_MIN_DEVICE_BLOCKS * 4);
	}
	return 0;
}

/* What libblkid knows the device as; NULL if as nothing. */
static const char *signature(const char *path)
{
	blkid_probe probe = blkid_new_probe_from_filename(path);
	const char *type = NULL;
	static char name[64];

	if (!probe)
		return NULL;
	blkid_probe_enable_superblocks(probe, 1);
	blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_TYPE);
	blkid_probe_enable_partitions(probe, 1);
	if (!blkid_do_safeprobe(probe) &&
	    (!blkid_probe_lookup_value(probe, "TYPE", &type, NULL) ||
	     !blkid_probe_lookup_value(probe, "PTTYPE", &type, NULL)))
		snprintf(name, sizeof(name), "%s", type);
	blkid_free_probe(probe);
	return type ? name : NULL;
}

static int refuse_used(void)
{
	struct dynmap_disk_super *sb = dynmap_block_alloc();
	const char *found;
	int status = 0, ret;
	u32 i;

	if (!sb)
		return complain("out of memory");
	for (i = 0; i < file.nr_devs; i++) {
		found = signature(file.path[i]);
		ret = dynmap_super_read(&file.store, i, file.blocks[i], sb);
		if (found)
			status = complain("%s: carries %s; --force overwrites it", file.path[i],
					  found);
		else if (ret != -ENODATA && ret != -ENOMSG)
			status = complain("%s: carries a dynmap pool; --force overwrites it",
					  file.path[i]);
		else if (ret == -ENOMSG)
			status = complain("%s: is not empty; --force overwrites it", file.path[i]);
	}
	dynmap_block_free(sb);
	return status;
}

static int do_format(int argc, char **argv)
{
	static const struct option options[] = {
		{ "force", no_argument, NULL, 'f' },
		{ "alloc-size", required_argument, NULL, 'a' },
		{ "copies", required_argument, NULL, 'c' },
		{ "label", required_argument, NULL, 'l' },
		{ }
	};
	static struct dynmap_format_params params = { .alloc_blocks = 16, .copies = 2 };
	bool force = false;
	const char *why;
	int option, ret;
	char *end = "";
	u32 i;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'f':
			force = true;
			break;
		case 'a':
			params.alloc_blocks = strtoul(optarg, &end, 10) / 4;
			break;
		case 'c':
			params.copies = strtoul(optarg, &end, 10);
			break;
		case 'l':
			params.label = optarg;
			break;
		default:
			return usage();
		}
		if (*end)
			return complain("%s: not a number", optarg);
	}
	if (!params.alloc_blocks || params.alloc_blocks & (params.alloc_blocks - 1) ||
	    params.alloc_blocks > DYNMAP_MAX_ALLOC_BLOCKS)
		return complain("--alloc-size: expected a power of two from 4 to 1048576 KiB");
	if (params.copies < 1 || params.copies > 2)
		return complain("--copies: expected 1 or 2");
	ret = add_devices(argv + optind, STORE_FILE_WRITE);
	for (i = 0; i < file.nr_devs && !ret; i++) {
		why = store_file_unfit(&file, i);
		if (why)
			ret = complain("%s: %s", file.path[i], why);
	}
	if (!ret && !force)
		ret = refuse_used();
	if (ret)
		return ret;
	uuid_generate(params.uuid);
	params.nr_devs = file.nr_devs;
	for (i = 0; i < file.nr_devs; i++) {
		uuid_generate(params.dev_uuid[i]);
		params.dev_blocks[i] = file.blocks[i];
	}
	ret = dynmap_pool_format(&file.store, &params);
	if (!ret)
		ret = store_file_exit(&file);
	return ret ? complain("formatting failed: %s", strerror(-ret)) : EXIT_CLEAN;
}

/* Devices that are all of one pool go to the places that it knows them at. */
static int reorder(struct dynmap_disk_super *supers)
{
	u32 i, at;

	for (i = 0; i < file.nr_devs; i++) {
		while ((at = le32_to_cpu(supers[i].this_device)) != i) {
			if (at < i || le32_to_cpu(supers[at].this_device) == at)
				return complain("%s: given twice", file.path[i]);
			store_file_swap(&file, i, at);
			swap(supers[i], supers[at]);
		}
	}
	return 0;
}

/* Bring the devices into the order of their pool; *sb is the newest superblock. */
static int arrange(struct dynmap_disk_super *sb)
{
	static struct dynmap_disk_super supers[DYNMAP_MAX_DEVICES];
	int errors[DYNMAP_MAX_DEVICES], newest;
	u32 i;

	newest = dynmap_super_scan(&file.store, file.nr_devs, file.blocks, supers, errors);
	for (i = 0; i < file.nr_devs; i++) {
		if (errors[i]) {
			complain(errors[i] == -ESTALE ?
				 "%s: missed an opening of the pool: an old copy of its device?" :
				 "%s: carries no valid dynmap superblock", file.path[i]);
			return errors[i] == -ENODATA || errors[i] == -ENOMSG ? EXIT_USAGE :
									       EXIT_DAMAGED;
		}
		if (memcmp(supers[i].uuid, supers[0].uuid, sizeof(sb->uuid)))
			return complain("%s: belongs to another pool", file.path[i]);
	}
	*sb = supers[newest];
	if (file.nr_devs != le32_to_cpu(sb->nr_devices))
		return complain("the pool has %u devices, %u were given",
				le32_to_cpu(sb->nr_devices), file.nr_devs);
	return reorder(supers);
}

/* Open the pool on the devices, changing nothing, with so many nodes in memory; an exit status. */
static int open_pool(char **paths, u32 nodes)
{
	struct dynmap_disk_super *sb;
	int ret = add_devices(paths, STORE_FILE_READ);

	if (ret)
		return ret;
	sb = dynmap_block_alloc();
	if (!sb)
		return complain("out of memory");
	ret = arrange(sb);
	if (!ret) {
		ret = dynmap_pool_open(&pool, &file.store, sb, nodes, DYNMAP_OPEN_READ_ONLY);
		if (ret) {
			complain("the pool cannot be opened: %s", strerror(-ret));
			ret = ret == -ENOMEM ? EXIT_USAGE : EXIT_DAMAGED;
		}
	}
	dynmap_block_free(sb);
	return ret;
}

/* A line on the terminal that the next one overwrites. */
static void show_progress(const struct dynmap_check *check)
{
	fprintf(stderr, "\r%" PRIu64 " nodes", check->nodes);
}

static int do_check(int argc, char **argv)
{
	static const struct option options[] = {
		{ "quiet", no_argument, NULL, 'q' },
		{ "memory", required_argument, NULL, 'm' },
		{ }
	};
	struct dynmap_check_how how = {};
	struct dynmap_check check;
	u64 memory = DEFAULT_MEMORY;
	bool quiet = false;
	int option, ret;
	char *end = "";

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'q')
			quiet = true;
		else if (option == 'm')
			memory = strtoull(optarg, &end, 10);
		else
			return usage();
		if (*end || memory < MIN_MEMORY || memory > MAX_MEMORY)
			return complain("--memory: expected %u to %u MiB", MIN_MEMORY, MAX_MEMORY);
	}
	/* Half for what is known of blocks; each node is read once, so that few are kept. */
	how.memory = (memory << 20) / 2;
	ret = open_pool(argv + optind, (memory << 20) / 16 / DYNMAP_BLOCK_BYTES);
	if (ret)
		return ret;
	if (!quiet && isatty(STDERR_FILENO))
		how.progress = show_progress;
	ret = dynmap_check_pool(&pool, &how, &check);
	if (how.progress && check.nodes >= DYNMAP_CHECK_PROGRESS)
		fputs("\r\033[K", stderr);
	if (ret)
		return complain("out of memory");
	if (!quiet)
		printf("%" PRIu64 " volumes, %" PRIu64 " nodes, %" PRIu64 " blocks mapped, %" PRIu64
		       " reserved, %" PRIu64 " journal records: %s\n", check.volumes, check.nodes,
		       check.mapped, check.reserved, pool.replayed, check.damaged ? "damaged" :
		       check.repairable ? "repairable" : "clean");
	dynmap_pool_close(&pool);
	store_file_exit(&file);
	return check.damaged ? EXIT_DAMAGED : check.repairable ? EXIT_REPAIRABLE : EXIT_CLEAN;
}

static void dump_super(const struct dynmap_disk_super *sb)
{
	char text[37];
	u32 i;

	uuid_unparse(sb->uuid, text);
	printf("pool %s label \"%.64s\"\n", text, sb->label);
	printf("  epoch %" PRIu64 " incarnation %" PRIu64 " journal from %" PRIu64
	       " of %u blocks on %u devices\n",
	       le64_to_cpu(sb->epoch), le64_to_cpu(sb->incarnation), le64_to_cpu(sb->journal_seq),
	       le32_to_cpu(sb->journal_blocks), le32_to_cpu(sb->journal_devices));
	printf("  allocation size %u KiB, %u copies, transaction %" PRIu64 ", %" PRIu64
	       " data blocks\n", le32_to_cpu(sb->alloc_blocks) * 4, le32_to_cpu(sb->copies),
	       le64_to_cpu(sb->transaction_id), le64_to_cpu(sb->data_blocks));
	for (i = 0; i < le32_to_cpu(sb->nr_devices); i++) {
		uuid_unparse(sb->device[i].uuid, text);
		printf("  device %u %s %s: %" PRIu64 " blocks, %u segments\n", i, text,
		       file.path[i], le64_to_cpu(sb->device[i].blocks),
		       le32_to_cpu(sb->device[i].slots));
	}
}

/* Nodes are brought until @expression needs none. */
#define with_nodes(ret, op, expression)						\
	do {									\
		(ret) = (expression);						\
		if ((ret) != -EAGAIN)						\
			break;							\
		(ret) = dynmap_pool_help(&pool, op, ret);			\
	} while (!(ret))

static void dump_map(struct dynmap_volume *volume)
{
	static const char * const names[] = { "hole", "data", "reserved" };
	struct dynmap_mapping mapping;
	struct dynmap_op op = {};
	u64 lbn = 0;
	int ret;

	while (lbn < DYNMAP_MAX_LBN) {
		with_nodes(ret, &op, dynmap_table_lookup(volume, lbn, &mapping, &op));
		if (ret) {
			printf("    %" PRIu64 " unreadable\n", lbn);
			return;
		}
		if (mapping.kind != DYNMAP_HOLE)
			printf("    %" PRIu64 "+%" PRIu64 " at %" PRIu64 " %s\n", lbn, mapping.len,
			       mapping.pbn, names[mapping.kind]);
		lbn += mapping.len;
	}
}

static int dump_volume(struct dynmap_volume *volume, bool maps)
{
	u32 flags = le32_to_cpu(volume->disk.flags);
	struct dynmap_usage usage = { };
	struct dynmap_op op = {};
	int ret;

	printf("  volume %" PRIu64 "%s%s%s: %" PRIu64 " blocks mapped, %" PRIu64 " reserved",
	       volume->id, flags & DYNMAP_VOLUME_DELETING ? " (being deleted)" : "",
	       flags & DYNMAP_VOLUME_READ_ONLY ? " (read-only)" : "",
	       flags & DYNMAP_VOLUME_PROTECTED ? " (protected)" : "", volume->mapped,
	       volume->reserved);
	if (!(flags & DYNMAP_VOLUME_DELETING)) {
		with_nodes(ret, &op, dynmap_volume_usage(&pool.table, volume->id, &usage, &op));
		while (!ret)
			with_nodes(ret, &op, dynmap_usage_step(&pool.table, &usage, &op));
		if (ret != -ENOENT)
			return ret;
		printf(", %" PRIu64 " exclusive", usage.exclusive);
	}
	putchar('\n');
	/* Of one being deleted what it shared may be gone. */
	if (maps && !(flags & DYNMAP_VOLUME_DELETING))
		dump_map(volume);
	return 0;
}

static int close_pool(int ret)
{
	dynmap_pool_close(&pool);
	store_file_exit(&file);
	if (ret == -ENOENT)
		return EXIT_CLEAN;
	complain("the volumes cannot be read: %s", strerror(-ret));
	return EXIT_DAMAGED;
}

static int do_dump(int argc, char **argv)
{
	static const struct option options[] = {
		{ "maps", no_argument, NULL, 'm' },
		{ }
	};
	struct dynmap_disk_volume disk;
	struct dynmap_volume *volume;
	struct dynmap_op op = {};
	bool maps = false;
	u64 id = 0;
	int option, ret;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option != 'm')
			return usage();
		maps = true;
	}
	ret = open_pool(argv + optind, NODES);
	if (ret)
		return ret;
	dump_super(pool.super);
	for (; !ret; id++) {
		with_nodes(ret, &op, dynmap_btree_next(&pool.table.volumes, id, &disk, &id, &op));
		if (!ret)
			with_nodes(ret, &op, dynmap_volume_load(&pool.table, id, &volume, &op));
		if (!ret)
			ret = dump_volume(volume, maps);
	}
	return close_pool(ret);
}

/* A line per range that differs: first sector, length. */
static int compare(struct dynmap_volume *a, struct dynmap_volume *b)
{
	struct dynmap_comparison comparison = { };
	struct dynmap_op op = {};
	int ret;

	do {
		with_nodes(ret, &op, dynmap_table_compare(a, b, &comparison, &op));
		if (!ret)
			printf("%" PRIu64 " %" PRIu64 "\n",
			       comparison.from * DYNMAP_BLOCK_SECTORS,
			       (comparison.to - comparison.from) * DYNMAP_BLOCK_SECTORS);
	} while (!ret || ret == -EINPROGRESS);
	return ret;
}

static int do_compare(int argc, char **argv)
{
	struct dynmap_volume *volume[2];
	struct dynmap_op op = {};
	u64 id[2];
	char *end;
	int i, ret;

	if (argc < 4)
		return usage();
	for (i = 0; i < 2; i++) {
		id[i] = strtoull(argv[i + 1], &end, 10);
		if (*end || !*argv[i + 1] || id[i] > DYNMAP_MAX_VOLUME_ID)
			return complain("%s: not a volume id", argv[i + 1]);
	}
	ret = open_pool(argv + 3, NODES);
	for (i = 0; i < 2 && !ret; i++) {
		with_nodes(ret, &op, dynmap_volume_load(&pool.table, id[i], &volume[i], &op));
		if (ret != -ENODATA)
			continue;
		dynmap_pool_close(&pool);
		return complain("%" PRIu64 ": no such volume", id[i]);
	}
	return ret ? ret : close_pool(compare(volume[0], volume[1]));
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return usage();
	if (!strcmp(argv[1], "format"))
		return do_format(argc - 1, argv + 1);
	if (!strcmp(argv[1], "check"))
		return do_check(argc - 1, argv + 1);
	if (!strcmp(argv[1], "dump"))
		return do_dump(argc - 1, argv + 1);
	if (!strcmp(argv[1], "compare"))
		return do_compare(argc - 1, argv + 1);
	return usage();
}
