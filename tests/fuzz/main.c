// SPDX-License-Identifier: GPL-2.0-only
/*
 * Inputs from files.
 *
 *   replay TARGET FILE...               try each; ends well if there is no find
 *   replay --write DIRECTORY TARGET FILE...
 *                                       write the image of each to
 *                                       DIRECTORY/NAME.DEVICE
 */
#include <fcntl.h>
#include <libgen.h>
#include <unistd.h>

#include "fuzz.h"

#define MAX_BYTES	65536
#define SECONDS		20	/* the most that one input may take */

static u8 bytes[MAX_BYTES];

static int complain(const char *what)
{
	fprintf(stderr, "replay: %s\n", what);
	return 1;
}

static int read_input(const char *path, struct fuzz_input *input)
{
	FILE *file = fopen(path, "rb");

	if (!file)
		return complain(path);
	input->data = bytes;
	input->left = fread(bytes, 1, sizeof(bytes), file);
	fclose(file);
	return 0;
}

static int write_device(struct fuzz_base *base, u32 dev, const char *directory, const char *name)
{
	char path[4096];
	const u8 *block;
	int fd, ret = 0;
	u64 i;

	snprintf(path, sizeof(path), "%s/%s.%u", directory, name, dev);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || ftruncate(fd, base->blocks[dev] * DYNMAP_BLOCK_BYTES))
		ret = complain(path);
	for (i = 0; !ret && i < base->blocks[dev]; i++) {
		block = store_cow_peek(&base->cow, dev, i);
		if (!dynmap_block_is_zero(block) &&
		    pwrite(fd, block, DYNMAP_BLOCK_BYTES, i * DYNMAP_BLOCK_BYTES) !=
		    DYNMAP_BLOCK_BYTES)
			ret = complain(path);
	}
	if (fd >= 0)
		close(fd);
	return ret;
}

static int write_image(const struct fuzz_target *target, struct fuzz_input *input,
		       const char *directory, char *path)
{
	struct fuzz_base *base;
	int ret = 0;
	u32 dev;

	if (!target->edit)
		return complain("this target has no images");
	base = target->edit(input);
	for (dev = 0; !ret && dev < base->cow.nr_devs; dev++)
		ret = write_device(base, dev, directory, basename(path));
	return ret;
}

int main(int argc, char **argv)
{
	const struct fuzz_target *target = fuzz_targets;
	const char *directory = NULL;
	struct fuzz_input input;
	int i = 1, ret = 0;

	if (argc > 3 && !strcmp(argv[1], "--write")) {
		directory = argv[2];
		i = 3;
	}
	while (i < argc && target->name && strcmp(target->name, argv[i]))
		target++;
	if (i >= argc || !target->name)
		return complain("usage: replay [--write DIRECTORY] image|journal|ops FILE...");
	dynmap_verbose = getenv("VERBOSE");
	for (i++; !ret && i < argc; i++) {
		ret = read_input(argv[i], &input);
		if (ret)
			break;
		if (getenv("VERBOSE"))
			fprintf(stderr, "replay: %s\n", argv[i]);
		alarm(SECONDS);
		if (directory)
			ret = write_image(target, &input, directory, argv[i]);
		else
			target->run(&input);
	}
	return ret;
}
