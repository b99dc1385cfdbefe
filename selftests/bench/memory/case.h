/* SPDX-License-Identifier: GPL-2.0-only */
/* What there is to a case. A list of them ends with one that has no name. */
#ifndef CASE_H
#define CASE_H

#include "run.h"

/* How a ratio comes about: from two figures, or (bytes beside pages) as the difference that one makes. */
enum figure { RATIO, DIFFERENCE };

/*
 * A case is run again and again, on memory of the device and on anonymous memory, each time in a process of its own: it prepares,
 * counts what is between start() and stop(), and checks that this has happened.
 */
struct bench_case {
	const char *name, *unit;
	/* Ours by Linux's, at most. */
	double goal;
	/* What the sizes are numbers of. */
	const char *of;
	long sizes[4];
	/* The least of them that the goal is for. Smaller ones show how it grows. */
	long goal_from;
	void (*run)(struct run *run);
	enum figure figure;
	/* How often it is run, if not as often as the others. */
	int runs;
	/* The size that `--check` runs; 0: it leaves the case out. */
	long check;
};

#endif
