/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How long to wait for what may never come, on a machine of any speed: a guest on a busy host can be ten times as slow as on
 * an idle one, and from one moment to the next. A limit is in seconds of an emulated guest with the stock kernel on an idle
 * host. Who waits does a sample of work each second, whose time tells how many of these have gone by.
 */
#ifndef PATIENCE_H
#define PATIENCE_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define NS_PER_SECOND 1000000000UL

/* The time, of a clock that is never set. */
uint64_t now_ns(void);

/* How long somebody waits. */
struct patience {
	double seconds;
	uint64_t begin, last_sample;
	/* How long all samples took, and would have taken in that guest. */
	uint64_t taken, expected;
};

/* Begins to wait. */
struct patience patience_for(double seconds);

/* Whether it was waited for long enough. To be asked again and again, by who waits. */
bool ran_out(struct patience *patience);

/* How often to repeat what is left to chance: @usual, or a quarter of that in a kernel that takes long to check itself. */
long repeats(long usual);

/* As poll(), for so many milliseconds. */
int poll_patiently(struct pollfd *files, nfds_t nr_files, int milliseconds);

/* Whether @condition(@argument) becomes true in time: what comes a while after its cause, from a worker or an interrupt. */
bool await(bool (*condition)(uint64_t), uint64_t argument);

/* Tells how long something takes. */
struct stopwatch {
	uint64_t begin, sample;
};

/* Starts one. */
struct stopwatch start_stopwatch(void);

/* How long that is ago, in milliseconds. */
long stop_stopwatch(const struct stopwatch *stopwatch);

#endif
