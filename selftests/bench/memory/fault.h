/* SPDX-License-Identifier: GPL-2.0-only */
/* Page faults. */
#ifndef FAULT_H
#define FAULT_H

#include "case.h"

static void first_touch_write(struct run *run)
{
	char *memory = map(run, run->size);

	start(run);
	write_pages(memory, run->size);
	stop(run, run->size);
	run->cleared = run->size;
	CHECK(run, present(getpid(), memory, run->size) == run->size);
	CHECK(run, written(memory, run->size));
}

static void first_touch_read(struct run *run)
{
	char *memory = map(run, run->size);
	uint64_t sum;

	start(run);
	sum = read_pages(memory, run->size);
	stop(run, run->size);
	CHECK(run, !sum);
	CHECK(run, present(getpid(), memory, run->size) == run->size);
}

static void write_after_read(struct run *run)
{
	char *memory = map(run, run->size);

	CHECK(run, !read_pages(memory, run->size));
	start(run);
	write_pages(memory, run->size);
	stop(run, run->size);
	run->cleared = run->size;
	CHECK(run, written(memory, run->size));
}

static void copy_on_write(struct run *run)
{
	char *memory = map(run, run->size);
	uint64_t frame;

	for (long page = 0; page < run->size; page++)
		*(uint64_t *)(memory + page * PAGE) = 42;
	fork_sleeper(run, NULL, NULL);
	frame = pfn_of(memory);
	start(run);
	write_pages(memory, run->size);
	stop(run, run->size);
	run->copied = run->size;
	CHECK(run, pfn_of(memory) != frame);
	CHECK(run, written(memory, run->size));
}

static void write_exclusive_again(struct run *run)
{
	char *memory = map(run, run->size);
	uint64_t frame;

	for (long page = 0; page < run->size; page++)
		*(uint64_t *)(memory + page * PAGE) = 42;
	frame = pfn_of(memory);
	end_sleeper(fork_sleeper(run, NULL, NULL));
	/* What is freed with a delay. */
	usleep(100000);
	start(run);
	write_pages(memory, run->size);
	stop(run, run->size);
	CHECK(run, pfn_of(memory) == frame);
	CHECK(run, written(memory, run->size));
}

static void write_after_mlock(struct run *run)
{
	char *memory = map(run, run->size);

	CHECK(run, !mlock(memory, run->size * PAGE));
	CHECK(run, present(getpid(), memory, run->size) == run->size);
	start(run);
	write_pages(memory, run->size);
	stop(run, run->size);
	CHECK(run, written(memory, run->size));
}

static char *populated(struct run *run, bool is_measured)
{
	int fd = memory_file(run);
	char *memory;

	if (is_measured)
		start(run);
	memory = mmap(NULL, run->size * PAGE, PROT_READ | PROT_WRITE, memory_flags(run) | MAP_POPULATE, fd, 0);
	if (is_measured)
		stop(run, run->size);
	CHECK(run, memory != MAP_FAILED);
	CHECK(run, present(getpid(), memory, run->size) == run->size);
	return memory;
}

static void populate(struct run *run)
{
	char *memory = populated(run, true);

	CHECK(run, zeroed(memory, run->size));
}

static void write_after_populate(struct run *run)
{
	char *memory = populated(run, false);

	start(run);
	write_pages(memory, run->size);
	stop(run, run->size);
	CHECK(run, written(memory, run->size));
}

#define PER_PAGE .unit = "instructions a page", .of = "pages", .sizes = { 64, 256, 1024, 4096 }, .check = 1024

static const struct bench_case fault_cases[] = {
	{ "first write (net)", .goal = 1.0, .run = first_touch_write, PER_PAGE },
	{ "first read", .goal = 1.2, .run = first_touch_read, PER_PAGE },
	{ "write to a page that was read (net)", .goal = 1.2, .run = write_after_read, PER_PAGE },
	{ "copy on write (net)", .goal = 1.1, .run = copy_on_write, PER_PAGE },
	{ "write to a page that is exclusive again", .goal = 0.8, .run = write_exclusive_again, PER_PAGE },
	{ "first write after mlock", .goal = 1.0, .run = write_after_mlock, PER_PAGE },
	{ "first write after MAP_POPULATE", .goal = 1.0, .run = write_after_populate, PER_PAGE },
	{ "MAP_POPULATE", .goal = 1.2, .run = populate, PER_PAGE },
	{}
};

#undef PER_PAGE
#endif
