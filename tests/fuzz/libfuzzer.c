// SPDX-License-Identifier: GPL-2.0-only
/* Inputs from libFuzzer, for the target number FUZZ_TARGET. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct fuzz_input input = { .data = data, .left = size };

	dynmap_verbose = false;
	fuzz_targets[FUZZ_TARGET].run(&input);
	return 0;
}
