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

/* What was wrong, and how to do it again. */
static void show_failure(void)
{
	char without[512] = "";

	for (unsigned int i = 0; i < 64; i++)
		if (world->without >> i & 1)
			snprintf(without + strlen(without), sizeof(without) - strlen(without), "%s%s",
				 *without ? "," : " --without ",
				 i < FIRST_INJECTION ? operations[i].name : injections[i - FIRST_INJECTION].name);
	ksft_print_msg("%s\n", world->failure);
	ksft_print_msg("in round %u; repeat with: torture --seed %lu --rounds %u --processes %u --threads %u --steps %u%s%s\n",
		       world->round, world->seed, world->round + 1, world->processes, world->threads, world->steps, without,
		       world->anonymous ? " --anonymous" : "");
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
			ksft_print_msg("what SIGKILL has not ended in %d s:\n", KILL_SECONDS);
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
