/* SPDX-License-Identifier: GPL-2.0-only */
/* Fork, and what it does to those that have forked. */
#ifndef FORK_H
#define FORK_H

#include "case.h"
#include <sched.h>

/* Lets no child run before this process sleeps. */
static void go_first(struct run *run, bool is_first)
{
	const struct sched_param parameters = { .sched_priority = is_first };

	CHECK(run, !sched_setscheduler(0, is_first ? SCHED_FIFO | SCHED_RESET_ON_FORK : SCHED_OTHER, &parameters));
}

/* Measures a fork; returns the child, which sleeps. */
static pid_t measure_fork(struct run *run, long operations)
{
	pid_t parent = getpid(), child;

	go_first(run, true);
	start(run);
	child = fork();
	if (!child)
		sleep_for_ever(run, parent);
	stop(run, operations);
	go_first(run, false);
	CHECK(run, child > 0);
	while (sem_wait(&run->ready))
		;
	return child;
}

static void check_in_child(struct run *run, char *memory)
{
	CHECK(run, written(memory, run->size));
}

static void parent_reads(struct run *run)
{
	char *memory = map(run, run->size);
	uint64_t sum;

	write_pages(memory, run->size);
	fork_sleeper(run, NULL, NULL);
	start(run);
	sum = read_pages(memory, run->size);
	stop(run, run->size);
	CHECK(run, sum == (uint64_t)run->size * (run->size + 1) / 2);
}

static void read_in_child(struct run *run, char *memory)
{
	uint64_t sum;

	start(run);
	sum = read_pages(memory, run->size);
	stop(run, run->size);
	CHECK(run, sum == (uint64_t)run->size * (run->size + 1) / 2);
}

static void child_reads(struct run *run)
{
	char *memory = map(run, run->size);

	write_pages(memory, run->size);
	fork_sleeper(run, read_in_child, memory);
}

/* Each of size ancestors writes a page, and forks the next. */
static void live(struct run *run, char *memory, long generation)
{
	pid_t parent = getpid(), child;

	if (generation == run->size) {
		read_in_child(run, memory);
		return;
	}
	*(volatile uint64_t *)(memory + generation * PAGE) = generation + 1;
	child = fork();
	CHECK(run, child >= 0);
	if (!child) {
		die_with(parent);
		live(run, memory, generation + 1);
		_exit(0);
	}
	CHECK(run, waitpid(child, NULL, 0) == child);
}

static void read_of_ancestors(struct run *run)
{
	live(run, map(run, run->size), 0);
}

static char *map_split(struct run *run)
{
	char *memory = map(run, run->size);

	write_pages(memory, run->size);
	split(run, memory, run->size);
	CHECK(run, vmas_in(memory, run->size) == run->size);
	return memory;
}

static void fork_of_vmas(struct run *run)
{
	map_split(run);
	measure_fork(run, run->size);
}

/* From the child's end to its parent's knowing. */
static void exit_of_vmas(struct run *run)
{
	pid_t parent = getpid(), child;

	map_split(run);
	child = fork();
	CHECK(run, child >= 0);
	if (!child) {
		die_with(parent);
		start(run);
		_exit(0);
	}
	CHECK(run, waitpid(child, NULL, 0) == child);
	stop(run, run->size);
}

static void fork_all_written(struct run *run)
{
	char *memory = map(run, run->size);

	write_pages(memory, run->size);
	measure_fork(run, run->size);
	fork_sleeper(run, check_in_child, memory);
}

static void fork_again(struct run *run)
{
	char *memory = map(run, run->size);

	write_pages(memory, run->size);
	fork_sleeper(run, NULL, NULL);
	measure_fork(run, run->size);
	fork_sleeper(run, check_in_child, memory);
}

static void fork_after_child(struct run *run)
{
	char *memory = map(run, run->size);

	write_pages(memory, run->size);
	end_sleeper(fork_sleeper(run, NULL, NULL));
	usleep(100000);
	measure_fork(run, run->size);
	fork_sleeper(run, check_in_child, memory);
}

/* A fork of a process with little memory takes some 200,000. */
#define OF_ALL .goal_from = 16384, PER_PAGE
#define PER_PAGE .unit = "instructions a page", .of = "pages", .sizes = { 256, 1024, 4096, 16384 }, .check = 1024
#define PER_VMA .unit = "instructions a VMA", .of = "VMAs", .sizes = { 64, 512, 4096, 16384 }, .check = 512

static const struct bench_case fork_cases[] = {
	{ "parent's first read after a fork", .goal = 1.0, .run = parent_reads, PER_PAGE },
	{ "child's first read after a fork", .goal = 30, .run = child_reads, PER_PAGE },
	{ "read of what each ancestor wrote", .goal = 30, .run = read_of_ancestors, .unit = "instructions a page",
	  .of = "ancestors", .sizes = { 10, 25, 50, 100 }, .check = 100 },
	{ "fork, all pages written", .goal = 0.5, .run = fork_all_written, OF_ALL },
	{ "fork, nothing written since one whose child lives", .goal = 0.04, .run = fork_again, OF_ALL },
	{ "fork, nothing written since one whose child has ended", .goal = 0.04, .run = fork_after_child, OF_ALL },
	{ "fork of VMAs", .goal = 1.0, .run = fork_of_vmas, PER_VMA },
	{ "exit of a child with VMAs", .goal = 1.0, .run = exit_of_vmas, PER_VMA },
	{}
};

#undef OF_ALL
#undef PER_PAGE
#undef PER_VMA
#endif
