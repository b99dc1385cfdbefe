/* SPDX-License-Identifier: GPL-2.0-only */
/* Failures of pages, beside the kernel's own of anonymous memory (hwpoison-inject). */
#ifndef FAILURE_H
#define FAILURE_H

#include "case.h"

#define KERNEL "/sys/kernel/debug/hwpoison/"

/* A file that a frame's number is written to. */
struct command {
	int fd;
	char text[32];
	int size;
};

static struct command command(struct run *run, const char *of_device, const char *of_kernel)
{
	struct command it = { .fd = open(run->device ? of_device : of_kernel, O_WRONLY | O_CLOEXEC) };

	CHECK(run, it.fd >= 0);
	return it;
}

static struct command poison_command(struct run *run)
{
	return command(run, DEBUGFS "poison_pfn", KERNEL "corrupt-pfn");
}

static struct command unpoison_command(struct run *run)
{
	return command(run, DEBUGFS "unpoison_pfn", KERNEL "unpoison-pfn");
}

static void name(struct command *command, uint64_t pfn)
{
	command->size = snprintf(command->text, sizeof(command->text), "%lu", pfn);
}

static bool push(const struct command *command)
{
	return write(command->fd, command->text, command->size) == command->size;
}

static uint64_t *frames_of(struct run *run, const char *memory, long pages)
{
	uint64_t *frames = malloc(pages * sizeof(*frames));

	for (long page = 0; page < pages; page++) {
		frames[page] = pfn_of(memory + page * PAGE);
		CHECK(run, frames[page]);
	}
	return frames;
}

/*
 * Pages are on the lists where the kernel expects those that fail, and not on a processor's way there. And a page of no interest
 * fails first: with it the kernel gives back what free pages a processor has set aside, as many as there happen to be.
 */
static void prepare_kernel(struct run *run)
{
	char *scrap = map_anonymous(run, 1);
	uint64_t frame;

	write_pages(scrap, 1);
	frame = pfn_of(scrap);
	CHECK(run, !write_file("/proc/sys/vm/drop_caches", "1", 1));
	CHECK(run, !print_to_file(KERNEL "corrupt-pfn", "%lu", frame));
	CHECK(run, is_marked_bad(frame));
	CHECK(run, !print_to_file(KERNEL "unpoison-pfn", "%lu", frame));
	CHECK(run, !is_marked_bad(frame));
}

/* All frames fail, by one write each. */
static void poison_frames(struct run *run, const uint64_t *frames, long pages, bool is_measured)
{
	struct command it = poison_command(run);

	prepare_kernel(run);
	for (long page = 0; page < pages; page++) {
		name(&it, frames[page]);
		if (is_measured)
			start(run);
		CHECK(run, push(&it));
		if (is_measured)
			stop(run, 1);
	}
}

/* They are given back, as otherwise they'd be lost. */
static void unpoison_frames(struct run *run, const uint64_t *frames, long pages, bool is_measured)
{
	struct command it = unpoison_command(run);

	for (long page = 0; page < pages; page++) {
		name(&it, frames[page]);
		if (is_measured)
			start(run);
		CHECK(run, push(&it));
		if (is_measured)
			stop(run, 1);
		CHECK(run, !is_marked_bad(frames[page]));
	}
}

/* They are mapped no more, and whoever reads them gets a SIGBUS. */
static void check_failed(struct run *run, const char *memory, long pages)
{
	CHECK(run, !present(getpid(), memory, pages));
	for (long page = 0; page < pages; page++) {
		struct access access = load(memory + page * PAGE);

		CHECK(run, access.signal == SIGBUS && access.code == BUS_MCEERR_AR && access.address == memory + page * PAGE);
	}
}

static void read_first(struct run *run, char *memory)
{
	CHECK(run, *(volatile uint64_t *)memory == 1);
}

static void of_sharers(struct run *run)
{
	char *memory = map(run, 1);
	pid_t *sharers = malloc(run->size * sizeof(*sharers));
	uint64_t *frame;

	write_pages(memory, 1);
	frame = frames_of(run, memory, 1);
	for (long i = 1; i < run->size; i++)
		sharers[i] = fork_sleeper(run, read_first, memory);
	CHECK(run, present(getpid(), memory, 1) || *(volatile char *)memory);
	CHECK(run, pfn_of(memory) == *frame);
	poison_frames(run, frame, 1, true);
	for (long i = 1; i < run->size; i++)
		CHECK(run, !present(sharers[i], memory, 1));
	check_failed(run, memory, 1);
	unpoison_frames(run, frame, 1, false);
}

static void among_vmas(struct run *run)
{
	char *memory = map(run, run->size), *middle = memory + (run->size - TIMES) / 2 * PAGE;
	uint64_t *frames;

	write_pages(memory, run->size);
	split(run, memory, run->size);
	frames = frames_of(run, middle, TIMES);
	poison_frames(run, frames, TIMES, true);
	check_failed(run, middle, TIMES);
	CHECK(run, present(getpid(), memory, run->size) == run->size - TIMES);
	unpoison_frames(run, frames, TIMES, false);
}

static void among_processes(struct run *run)
{
	uint64_t *frames;
	char *memory;

	for (long i = 0; i < run->size; i++)
		fork_sleeper(run, NULL, NULL);
	memory = map(run, TIMES);
	write_pages(memory, TIMES);
	frames = frames_of(run, memory, TIMES);
	poison_frames(run, frames, TIMES, true);
	check_failed(run, memory, TIMES);
	unpoison_frames(run, frames, TIMES, false);
}

/* Many pages by one command; the kernel has none for that. */
static void by_command(struct run *run, const char *file, const char *command)
{
	char *memory = map(run, run->size);
	uint64_t *frames;

	write_pages(memory, run->size);
	frames = frames_of(run, memory, run->size);
	if (run->device) {
		struct command it = { .fd = open(file, O_WRONLY | O_CLOEXEC) };
		char text[128];
		ssize_t size;

		if (!command)
			size = snprintf(text, sizeof(text), "%d %p %p", getpid(), memory, memory + run->size * PAGE);
		else
			size = snprintf(text, sizeof(text), command, getpid(), run->size);
		CHECK(run, it.fd >= 0);
		prepare_kernel(run);
		start(run);
		CHECK(run, write(it.fd, text, size) == size);
		stop(run, run->size);
	} else {
		poison_frames(run, frames, run->size, true);
	}
	check_failed(run, memory, run->size);
	unpoison_frames(run, frames, run->size, false);
}

static void poison_range(struct run *run)
{
	by_command(run, DEBUGFS "poison_range", NULL);
}

static void poison_random(struct run *run)
{
	by_command(run, DEBUGFS "poison_random", "%d %ld 1");
}

static void unpoison(struct run *run)
{
	char *memory = map(run, run->size);
	uint64_t *frames;

	write_pages(memory, run->size);
	frames = frames_of(run, memory, run->size);
	poison_frames(run, frames, run->size, false);
	check_failed(run, memory, run->size);
	unpoison_frames(run, frames, run->size, true);
	/* Of the driver, not of the kernel, the content is there again. */
	CHECK(run, !run->device || written(memory, run->size));
}

/* Not in the check: what the kernel gives back of free pages, for each one again, differs by a tenth from boot to boot. */
#define PER_PAGE .unit = "instructions a page", .of = "pages", .sizes = { 16, 64, 256, 1024 }

static const struct bench_case failure_cases[] = {
	{ "poison of a page with sharers", .goal = 0.5, .run = of_sharers, .unit = "instructions", .of = "sharers",
	  .sizes = { 1, 10, 100, 1000 }, .check = 100 },
	{ "poison among VMAs", .goal = 0.2, .run = among_vmas, .unit = "instructions", .of = "VMAs",
	  .sizes = { 64, 512, 4096, 60000 }, .runs = 2, .check = 512 },
	{ "poison among unrelated processes", .goal = 0.04, .run = among_processes, .unit = "instructions",
	  .of = "processes", .sizes = { 10, 50, 200, 1000 }, .runs = 3, .check = 50 },
	{ "poison_range", .goal = 0.4, .run = poison_range, PER_PAGE },
	{ "poison_random", .goal = 0.4, .run = poison_random, PER_PAGE },
	{ "unpoison", .goal = 0.67, .run = unpoison, PER_PAGE },
	{}
};

#undef PER_PAGE
#endif
