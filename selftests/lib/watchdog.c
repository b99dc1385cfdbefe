// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "file.h"
#include "patience.h"
#include "process.h"
#include "watchdog.h"

/* Shows where in the kernel a task is, if it is of that process group and does not wait for a signal to come. */
static bool show_task(const char *path, pid_t group)
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
static void show_group(pid_t group)
{
	enum { SOME = 8 };
	glob_t tasks = {};
	int shown = 0;

	glob("/proc/[0-9]*/task/[0-9]*", GLOB_NOSORT, NULL, &tasks);
	for (size_t i = 0; i < tasks.gl_pathc && shown < SOME; i++)
		shown += show_task(tasks.gl_pathv[i], group);
	globfree(&tasks);
}

bool reap(pid_t pid, int *status, double seconds)
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

struct watched start_watched(void)
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

bool is_watched(struct watched *watched)
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

int end_watched(struct watched *watched, int seconds)
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

int watch(int (*function)(void *argument), void *argument, int seconds)
{
	struct watched watched = start_watched();

	if (!watched.pid) {
		int status = function(argument);

		fflush(NULL);
		_exit(status);
	}
	return end_watched(&watched, seconds);
}

const char *in_words(int status)
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
