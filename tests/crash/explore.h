/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Crash points of a trace, and what is tried with each image.
 *
 * Owns: the walk over a trace, the trials, the figures, shared by all processes
 * of a run. Each image is opened read-only (the journal replayed in memory),
 * checked and compared with the twin; opened for writing, which recovers it,
 * checked and compared again; it must hold the same both times. Of some images
 * the recovery itself is recorded and crashed in the same way, others are opened
 * once more and used on. An image that was tried with the same twin is not tried
 * again.
 */
#ifndef DM_DYNMAP_TESTS_EXPLORE_H
#define DM_DYNMAP_TESTS_EXPLORE_H

#include "images.h"

/**
 * struct figures - shared by all processes
 * @next: next workload to take
 * @workloads: done
 * @points: crash points
 * @images: distinct images
 * @nested: distinct ones of these in recovery
 * @trials: images tried: the same one counts again where more was acknowledged
 * @failed: a violation was found
 */
struct figures {
	u64 next;
	u64 workloads;
	u64 points;
	u64 images;
	u64 nested;
	u64 trials;
	u64 failed;
};

extern struct figures *figures;

/**
 * struct exploration - a trace to be crashed
 * @disks: hold what they held when the trace began; they do so again afterwards
 * @trace: the trace
 * @twin: the twin as it was then; advanced
 * @name: of the workload, to repeat it
 * @hash: of the disks' content
 * @first: index of the first event to crash at
 * @all_points: crash at each event, else at a sample
 * @budget: images of each point
 * @deeper: of that many images one recovery is crashed, 0: none
 */
struct exploration {
	struct disks *disks;
	const struct trace *trace;
	struct twin *twin;
	const char *name;
	u64 hash;
	u32 first;
	bool all_points;
	struct images_budget budget;
	u32 deeper;
};

/* Before processes are forked. */
void explore_init(void);
/* Crash everywhere; ends the process at the first violation, having told of it. */
void explore(const struct exploration *exploration);
/* The same for a fault that is none of an image's. */
void explore_died(const char *what, int error) __attribute__((noreturn));
void explore_exit(void);
/* Print the figures; @name: the program. */
void explore_report(const char *name);

#endif /* DM_DYNMAP_TESTS_EXPLORE_H */
