// SPDX-License-Identifier: GPL-2.0-only
#include <ctype.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "file.h"
#include "patience.h"
#include "process_group.h"

/* How long is waited for tasks that live on after SIGKILL. */
#define MOURNING_SECONDS 60

void tick(void)
{
	static const struct timespec moment = { .tv_nsec = 20000000 };

	nanosleep(&moment, NULL);
}

/* What a file of a task says, on one line. */
static void show_file(const char *task, const char *name, const char *only)
{
	char path[600], *text, *rest, *line;

	snprintf(path, sizeof(path), "%s/%s", task, name);
	text = rest = read_file(path);
	while (text && (line = strsep(&rest, "\n")))
		if (*line && (!only || strstr(line, only)))
			printf(" %s", strncmp(line, "[<0>] ", 6) ? line : line + 6);
	free(text);
}

static void show_tasks_of(pid_t pid)
{
	char path[64], task[400];
	struct dirent *entry;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	tasks = opendir(path);
	while (tasks && (entry = readdir(tasks))) {
		if (!isdigit(*entry->d_name))
			continue;
		snprintf(task, sizeof(task), "%s/%s", path, entry->d_name);
		printf("# process %d task %s:", pid, entry->d_name);
		show_file(task, "status", "State");
		show_file(task, "status", "Pnd");
		printf("; wchan:");
		show_file(task, "wchan", NULL);
		printf("; syscall:");
		show_file(task, "syscall", NULL);
		printf("; schedstat:");
		show_file(task, "schedstat", NULL);
		printf("; stack:");
		show_file(task, "stack", NULL);
		printf("\n");
	}
	if (tasks)
		closedir(tasks);
	fflush(stdout);
}

void show_tasks(pid_t group)
{
	struct dirent *entry;
	DIR *processes = opendir("/proc");

	while (processes && (entry = readdir(processes))) {
		pid_t pid = atoi(entry->d_name);

		if (pid > 0 && getpgid(pid) == group)
			show_tasks_of(pid);
	}
	if (processes)
		closedir(processes);
}

enum end end_group(pid_t group)
{
	struct patience patience = patience_for(KILL_SECONDS);
	enum end end = IN_TIME;

	for (;;) {
		pid_t gone;

		kill(-group, SIGKILL);
		do
			gone = waitpid(-1, NULL, WNOHANG);
		while (gone > 0);
		if (gone < 0)
			return end;
		if (ran_out(&patience)) {
			if (end == LATE)
				return NEVER;
			printf("# what SIGKILL has not ended in %d s:\n", KILL_SECONDS);
			show_tasks(group);
			patience = patience_for(MOURNING_SECONDS);
			end = LATE;
		}
		tick();
	}
}
