/* SPDX-License-Identifier: GPL-2.0-only */
/* Bytes, of kernel memory and of pages: how much less is free. */
#ifndef MEMORY_H
#define MEMORY_H

#include "case.h"

/* What processors have set aside for themselves is free, too. */
static long free_now(struct run *run)
{
	char *text, *rest, *line;
	long pages = 0, some;

	/* Counters of processors are added up now. */
	CHECK(run, !write_file("/proc/sys/vm/stat_refresh", "1", 1));
	text = rest = read_file("/proc/zoneinfo");
	CHECK(run, text);
	while ((line = strsep(&rest, "\n")))
		if (sscanf(line, " nr_free_pages %ld", &some) == 1 || sscanf(line, " count: %ld", &some) == 1)
			pages += some;
	free(text);
	return pages * PAGE;
}

/* Once what is freed with a delay has been. */
static long free_bytes(struct run *run)
{
	long last = -1, now;

	for (;;) {
		CHECK(run, !write_file("/proc/sys/vm/drop_caches", "3", 1));
		usleep(500000);
		now = free_now(run);
		if (labs(now - last) <= 4 * (long)PAGE)
			return now;
		last = now;
	}
}

static void count_bytes(struct run *run, long before)
{
	run->counted = before - free_bytes(run);
	run->operations = run->size;
}

static void of_written_page(struct run *run)
{
	char *memory = map(run, run->size);
	long before = free_bytes(run);

	write_pages(memory, run->size);
	count_bytes(run, before);
	CHECK(run, written(memory, run->size));
}

static void of_read_page(struct run *run)
{
	char *memory = map(run, run->size);
	long before = free_bytes(run);

	CHECK(run, !read_pages(memory, run->size));
	count_bytes(run, before);
	CHECK(run, present(getpid(), memory, run->size) == run->size);
}

static void of_split_vma(struct run *run)
{
	char *memory = map(run, run->size);
	long before;

	write_pages(memory, run->size);
	before = free_bytes(run);
	split(run, memory, run->size);
	count_bytes(run, before);
	CHECK(run, vmas_in(memory, run->size) == run->size);
}

#define OF_PAGES .of = "pages", .sizes = { 4096, 8192, 16384, 32768 }, .runs = 3

static const struct bench_case memory_cases[] = {
	{ "memory of a written page, beside Linux's", .goal = 64, .run = of_written_page, .unit = "bytes a page",
	  .figure = DIFFERENCE, .check = 16384, OF_PAGES },
	{ "memory of a page that was read", .goal = 2.0, .run = of_read_page, .unit = "bytes a page", .check = 65536,
	  OF_PAGES },
	{ "memory of a split VMA", .goal = 1.2, .run = of_split_vma, .unit = "bytes a VMA", .of = "VMAs",
	  .sizes = { 2048, 4096, 8192, 16384 }, .check = 8192, .runs = 3 },
	{}
};

#undef OF_PAGES
#endif
