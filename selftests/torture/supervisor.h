/* SPDX-License-Identifier: GPL-2.0 */
/* Runs a tree of processes, sees whether it gets on, kills all of it, and shows what does not end. */
#ifndef TORTURE_SUPERVISOR_H
#define TORTURE_SUPERVISOR_H

#include "family.h"
#include "kselftest.h"
#include <ctype.h>
#include <dirent.h>

/*
 * Time is counted in moments of sleep: when the machine stands still, or this process is not run, it does not go on.
 */
#define TICK_NS 20000000
#define TICKS_PER_SECOND (1000000000 / TICK_NS)
/* How long tasks may live on after SIGKILL, and how long is waited for them then. */
#define KILL_SECONDS 5
#define MOURNING_SECONDS 60

static void tick(void)
{
	static const struct timespec moment = { .tv_nsec = TICK_NS };

	nanosleep(&moment, NULL);
}

static void show_file(pid_t pid, const char *tid, const char *name)
{
	char path[512], *text, *rest, *line;

	snprintf(path, sizeof(path), "/proc/%d/task/%s/%s", pid, tid, name);
	text = rest = read_file(path);
	while (text && (line = strsep(&rest, "\n")))
		if (*line && (strcmp(name, "status") || !strncmp(line, "Sig", 3) || !strncmp(line, "Shd", 3) ||
			      !strncmp(line, "State", 5)))
			ksft_print_msg("    %s: %s\n", name, line);
	free(text);
}

static void show_tasks_of(pid_t pid)
{
	static const char *const files[] = { "stat", "wchan", "syscall", "status", "stack" };
	char path[64];
	struct dirent *entry;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	tasks = opendir(path);
	while (tasks && (entry = readdir(tasks))) {
		if (!isdigit(*entry->d_name))
			continue;
		ksft_print_msg("  task %s of %d:\n", entry->d_name, pid);
		for (unsigned int i = 0; i < sizeof(files) / sizeof(*files); i++)
			show_file(pid, entry->d_name, files[i]);
	}
	if (tasks)
		closedir(tasks);
}

/* All tasks of a process group. */
static void show_tasks(pid_t group)
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

static void show_worker(const char *name, unsigned int number, unsigned int thread, const struct worker *worker)
{
	unsigned int noted = atomic_load(&worker->noted);

	for (unsigned int i = noted < HISTORY ? 0 : noted - HISTORY; i < noted; i++) {
		const struct note *note = &worker->notes[i % HISTORY];

		ksft_print_msg("  %s %u thread %u: at %u: %s %s %u+%u argument %#x: %s\n", name, number, thread,
			       note->version, note->name, note->arena == SHARED ? "shared" : "private", note->page,
			       note->pages, note->argument,
			       note->error == RUNNING ? "under way" : note->error ? strerror(note->error) : "done");
	}
}

static void show_history(void)
{
	for (unsigned int i = 0; i < world->processes; i++)
		for (unsigned int thread = 0; thread < world->threads; thread++)
			show_worker("process", i, thread, &world->members[i].workers[thread]);
	show_worker("injector", 0, 0, &world->injector.workers[0]);
}

static unsigned long progress(void)
{
	unsigned long sum = atomic_load(&world->conductor.progress) + atomic_load(&world->injector.workers[0].progress);

	for (unsigned int i = 0; i < world->processes; i++)
		for (unsigned int thread = 0; thread < world->threads; thread++)
			sum += atomic_load(&world->members[i].workers[thread].progress);
	return sum;
}

/* Kills a group until nothing is left of it; false if it does not end. */
static bool end_group(pid_t group)
{
	for (unsigned int ticks = 0; ticks < MOURNING_SECONDS * TICKS_PER_SECOND; ticks++) {
		pid_t gone;

		kill(-group, SIGKILL);
		do
			gone = waitpid(-1, NULL, WNOHANG);
		while (gone > 0);
		if (gone < 0)
			return true;
		if (ticks == KILL_SECONDS * TICKS_PER_SECOND) {
			fail("SIGKILL has not ended all in %d s", KILL_SECONDS);
			ksft_print_msg("not ended by SIGKILL in %d s:\n", KILL_SECONDS);
			show_tasks(group);
		}
		tick();
	}
	return false;
}

/*
 * Runs @function in a process group of its own until it returns, kills what it has left; false if there is something that
 * does not end.
 */
static bool supervise(void (*function)(void), unsigned int patience)
{
	unsigned long last = progress(), now;
	unsigned int idle = 0;
	pid_t group, gone;
	int status = 0;

	/* All orphans end up here. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	group = fork();
	if (!group) {
		setpgid(0, 0);
		function();
		_exit(atomic_load(&world->failed));
	}
	setpgid(group, group);
	while ((gone = waitpid(-1, &status, WNOHANG)) != group) {
		if (gone > 0)
			continue;
		now = progress();
		idle = now == last ? idle + 1 : 0;
		last = now;
		if (idle > patience * TICKS_PER_SECOND) {
			fail("nothing was done in %u s", patience);
			ksft_print_msg("nothing was done in %u s:\n", patience);
			show_tasks(group);
			break;
		}
		tick();
	}
	if (gone == group && status)
		fail("the conductor ended with status %#x", status);
	return end_group(group);
}

#endif
