/* SPDX-License-Identifier: GPL-2.0-only */
/* Runs a tree of processes, sees whether it gets on, kills all of it, and shows what does not end. */
#ifndef TORTURE_SUPERVISOR_H
#define TORTURE_SUPERVISOR_H

#include "family.h"
#include "kselftest.h"
#include "../lib/process_group.h"

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

/*
 * Runs @function in a process group of its own until it returns, kills what it has left; false if there is something that
 * does not end. It hangs when nothing is done in so many @seconds, as patience.h counts.
 */
static bool supervise(void (*function)(void), unsigned int seconds)
{
	struct patience patience = patience_for(seconds);
	unsigned long last = progress(), now;
	pid_t group, gone;
	int status = 0;

	/* All orphans end up here. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	fflush(stdout);
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
		if (now != last)
			patience = patience_for(seconds);
		last = now;
		if (ran_out(&patience)) {
			fail("nothing was done in %u s", seconds);
			show_tasks(group);
			break;
		}
		tick();
	}
	if (gone == group && status)
		fail("the conductor ended with status %#x", status);
	switch (end_group(group)) {
	case LATE:
		fail("SIGKILL has not ended all in %d s", KILL_SECONDS);
		return true;
	case NEVER:
		fail("SIGKILL does not end all");
		return false;
	default:
		return true;
	}
}

#endif
