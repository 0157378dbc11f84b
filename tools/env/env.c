// SPDX-License-Identifier: GPL-2.0-only
/* User-space half of the core's vocabulary, see env.h. */
#include <isa-l/crc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/env.h"

bool dynmap_verbose = true;

u32 crc32c(u32 crc, const void *data, size_t len)
{
	return crc32_iscsi((unsigned char *)data, len, crc);
}

void *dynmap_zalloc(size_t bytes)
{
	return calloc(1, bytes);
}

void dynmap_free(const void *ptr)
{
	free((void *)ptr);
}

void *dynmap_block_alloc(void)
{
	void *block = aligned_alloc(DYNMAP_BLOCK_BYTES, DYNMAP_BLOCK_BYTES);

	if (block)
		memset(block, 0, DYNMAP_BLOCK_BYTES);
	return block;
}

void dynmap_block_free(void *block)
{
	free(block);
}

void dynmap_message(const char *level, const char *format, ...)
{
	va_list args;

	if (!dynmap_verbose)
		return;
	fprintf(stderr, "dynmap: %s: ", level);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

bool dynmap_warn_on(bool condition, const char *file, int line)
{
	if (condition) {
		fprintf(stderr, "dynmap: bug at %s:%d\n", file, line);
		abort();
	}
	return condition;
}
