/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What may hang runs in a process of its own, which has some time, and is then killed. A hang that SIGKILL ends is told
 * from one that it does not.
 */
#ifndef WATCHDOG_H
#define WATCHDOG_H

#include "anon_rmap.h"
#include <glob.h>
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

/* Tells how long something takes, as patience.h counts. */
struct stopwatch {
	uint64_t begin, sample;
};

static inline struct stopwatch start_stopwatch(void)
{
	uint64_t sample = sample_ns();

	return (struct stopwatch){ .begin = now_ns(), .sample = sample };
}

/* In milliseconds. */
static inline long stop_stopwatch(const struct stopwatch *stopwatch)
{
	uint64_t taken = now_ns() - stopwatch->begin, samples = stopwatch->sample + sample_ns();

	return taken * (2.0 * SAMPLE_NS / samples) / 1000000;
}

/* Shows where in the kernel a task is, if it is of that process group and does not wait for a signal to come. */
static inline bool show_task(const char *path, pid_t group)
{
	char file[64], *stat, *rest, *line, state = 'S';
	int pgrp = 0;

	snprintf(file, sizeof(file), "%s/stat", path);
	stat = read_file(file);
	rest = stat ? strrchr(stat, ')') : NULL;
	if (rest)
		sscanf(rest, ") %c %*d %d", &state, &pgrp);
	free(stat);
	if (pgrp != group || state == 'S')
		return false;
	snprintf(file, sizeof(file), "%s/stack", path);
	stat = rest = read_file(file);
	fprintf(stderr, "# %s, state %c:", path, state);
	/* There is nothing of a task that runs. */
	while (rest && (line = strsep(&rest, "\n")) && *line)
		fprintf(stderr, " %s", strchr(line, ']') ? strchr(line, ']') + 2 : line);
	fprintf(stderr, "\n");
	free(stat);
	return true;
}

/* Shows where tasks of a process group are: some of them, if they are many. */
static inline void show_group(pid_t group)
{
	enum { SOME = 8 };
	glob_t tasks = {};
	int shown = 0;

	glob("/proc/[0-9]*/task/[0-9]*", GLOB_NOSORT, NULL, &tasks);
	for (size_t i = 0; i < tasks.gl_pathc && shown < SOME; i++)
		shown += show_task(tasks.gl_pathv[i], group);
	globfree(&tasks);
}

/* Whether a child (or with -@pid, all children of that process group) can be reaped in time. */
static inline bool reap(pid_t pid, int *status, double seconds)
{
	struct patience patience = patience_for(seconds);

	for (;;) {
		pid_t reaped = waitpid(pid, status, WNOHANG);

		if (pid > 0 ? reaped == pid : reaped < 0 && errno == ECHILD)
			return true;
		if (reaped)
			continue;
		if (ran_out(&patience))
			return false;
		usleep(2000);
	}
}

/* A process that is watched. It is the first of a process group: what it forks is watched, too. */
struct watched {
	pid_t pid;
	bool has_run;
};

static inline struct watched start_watched(void)
{
	struct watched watched = {};
	pid_t parent = getpid();

	/* Orphans come here. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	fflush(NULL);
	watched.pid = fork();
	if (!watched.pid) {
		setpgid(0, 0);
		die_with(parent);
	} else if (watched.pid > 0) {
		setpgid(watched.pid, watched.pid);
	}
	return watched;
}

/* Whether this is the watched process, once; it ends the second time. */
static inline bool is_watched(struct watched *watched)
{
	if (watched->pid)
		return false;
	if (watched->has_run) {
		fflush(NULL);
		_exit(0);
	}
	watched->has_run = true;
	return true;
}

/* Gives a watched process so much time, and ends it; returns as watch() does. */
static inline int end_watched(struct watched *watched, int seconds)
{
	int status = 0, unused;
	bool ended;

	if (watched->pid < 0)
		return 255;
	ended = reap(watched->pid, &status, seconds);
	if (!ended)
		show_group(watched->pid);
	/* What it has left behind has to go, as well. */
	kill(-watched->pid, SIGKILL);
	if (!reap(-watched->pid, &unused, SECONDS_TO_DIE)) {
		show_group(watched->pid);
		return UNKILLABLE;
	}
	if (!ended)
		return HANGS;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/*
 * Runs function(argument) in a process of its own for at most @seconds. Returns its exit status, 128 and the number of
 * the signal that has ended it, HANGS or UNKILLABLE. The last is also for whatever it has forked.
 */
static inline int watch(int (*function)(void *argument), void *argument, int seconds)
{
	struct watched watched = start_watched();

	if (!watched.pid) {
		int status = function(argument);

		fflush(NULL);
		_exit(status);
	}
	return end_watched(&watched, seconds);
}

/* What watch() has returned, in words; "" for 0. */
static inline const char *in_words(int status)
{
	static char text[32];

	switch (status) {
	case 0:
		return "";
	case HANGS:
		return "hangs, until it is ended by SIGKILL";
	case UNKILLABLE:
		return "hangs, not ended by SIGKILL";
	}
	snprintf(text, sizeof(text), status > 128 ? "signal %d" : "exit status %d", status > 128 ? status - 128 : status);
	return text;
}

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
