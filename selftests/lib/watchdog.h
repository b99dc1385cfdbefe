/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What may hang runs in a process of its own, which has some time, and is then killed. A hang that SIGKILL ends is told
 * from one that it does not.
 */
#ifndef WATCHDOG_H
#define WATCHDOG_H

#include <stdbool.h>
#include <sys/types.h>

#include "patience.h"

/* All limits, in seconds as patience.h counts them. */

/* For SIGKILL to end a process. */
#define SECONDS_TO_DIE 5
/* For a command to a file of debugfs, while others do what they can to hold it up. */
#define SECONDS_OF_A_COMMAND 2
/* For a system call that has much memory to look at. */
#define SECONDS_OF_A_CALL 3
/* For a test that does little, so that nobody waits for one that hangs. */
#define SECONDS_OF_A_STEP 10
/* For a test of many rounds. */
#define SECONDS_OF_A_RACE 15

/* What watch() returns for a process that has not ended by itself: SIGKILL has ended it, or has not. */
enum { HANGS = -1, UNKILLABLE = -2 };

/* Whether a child (or with -@pid, all children of that process group) can be reaped in time. */
bool reap(pid_t pid, int *status, double seconds);

/* A process that is watched. It is the first of a process group: what it forks is watched, too. */
struct watched {
	pid_t pid;
	bool has_run;
};

/* Forks it. */
struct watched start_watched(void);

/* Whether this is the watched process, once; it ends the second time. */
bool is_watched(struct watched *watched);

/* Gives a watched process so much time, and ends it; returns as watch() does. */
int end_watched(struct watched *watched, int seconds);

/*
 * Runs function(argument) in a process of its own for at most @seconds. Returns its exit status, 128 and the number of
 * the signal that has ended it, HANGS or UNKILLABLE. The last is also for whatever it has forked.
 */
int watch(int (*function)(void *argument), void *argument, int seconds);

/* What watch() has returned, in words; "" for 0. */
const char *in_words(int status);

/*
 * In a test of the harness: the block that follows runs in a watched process. Its expectations are the test's; what it
 * changes in private memory is lost to the test.
 */
#define WATCHED(seconds)							\
	for (struct watched watched_block = start_watched();			\
	     is_watched(&watched_block) || ({					\
		EXPECT_STREQ("", in_words(end_watched(&watched_block, seconds)));	\
		false; });)

/* The call gives what is expected, and in time. It still has to be watched, if it may never return. */
#define EXPECT_IN_TIME(seconds, expected, call) do {				\
	struct stopwatch in_time = start_stopwatch();				\
										\
	EXPECT_EQ(expected, call);						\
	EXPECT_GE((seconds) * 1000L, stop_stopwatch(&in_time));			\
} while (0)

#endif
