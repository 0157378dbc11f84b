// SPDX-License-Identifier: GPL-2.0-only
/* The targets, see fuzz.h. */
#include "fuzz.h"

static void run_image(struct fuzz_input *input)
{
	fuzz_exercise(fuzz_edit_image(input));
}

static void run_journal(struct fuzz_input *input)
{
	fuzz_exercise(fuzz_edit_journal(input));
}

const struct fuzz_target fuzz_targets[] = {
	{ "image", fuzz_edit_image, run_image },
	{ "journal", fuzz_edit_journal, run_journal },
	{ "ops", NULL, fuzz_run_ops },
	{ }
};
