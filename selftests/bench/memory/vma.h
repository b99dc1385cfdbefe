/* SPDX-License-Identifier: GPL-2.0-only */
/* Mapping, unmapping and splitting, and what the device costs other memory of its process. */
#ifndef VMA_H
#define VMA_H

#include "case.h"

static void first_mmap(struct run *run)
{
	int fd = memory_file(run);
	char *memory;

	add_other_vmas(run, run->size);
	start(run);
	memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, memory_flags(run), fd, 0);
	stop(run, 1);
	CHECK(run, memory != MAP_FAILED);
	write_pages(memory, 1);
	CHECK(run, written(memory, 1));
}

static void mmap_touch_munmap(struct run *run)
{
	int fd = memory_file(run);

	add_other_vmas(run, run->size);
	start(run);
	for (int i = 0; i < TIMES; i++) {
		char *memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, memory_flags(run), fd, 0);

		CHECK(run, memory != MAP_FAILED);
		*(volatile uint64_t *)memory = 1;
		CHECK(run, !munmap(memory, PAGE));
	}
	stop(run, TIMES);
}

static void mmap_large(struct run *run)
{
	int fd = memory_file(run);
	char *memory[TIMES];

	/* The first one of a process is another case. */
	map(run, 1);
	start(run);
	for (int i = 0; i < TIMES; i++)
		memory[i] = mmap(NULL, run->size * PAGE, PROT_READ | PROT_WRITE, memory_flags(run), fd, 0);
	stop(run, TIMES);
	for (int i = 0; i < TIMES; i++) {
		CHECK(run, memory[i] != MAP_FAILED);
		CHECK(run, !present(getpid(), memory[i], run->size));
	}
}

static void munmap_every_second(struct run *run)
{
	char *memory = map(run, run->size);

	write_pages(memory, run->size);
	start(run);
	for (long page = 0; page < run->size; page += 2)
		CHECK(run, !munmap(memory + page * PAGE, PAGE));
	stop(run, run->size / 2);
	CHECK(run, present(getpid(), memory, run->size) == run->size / 2);
	CHECK(run, vmas_in(memory, run->size) == run->size / 2);
}

static void dontneed_one(struct run *run)
{
	char *memory = map(run, run->size);
	long step = run->size / TIMES;

	write_pages(memory, run->size);
	start(run);
	for (long page = 0; page < run->size; page += step)
		CHECK(run, !madvise(memory + page * PAGE, PAGE, MADV_DONTNEED));
	stop(run, TIMES);
	CHECK(run, present(getpid(), memory, run->size) == run->size - TIMES);
	for (long page = 0; page < run->size; page += step)
		CHECK(run, zeroed(memory + page * PAGE, 1));
}

static void mprotect_splits(struct run *run)
{
	char *memory = map(run, run->size);

	write_pages(memory, run->size);
	start(run);
	split(run, memory, run->size);
	stop(run, run->size / 2);
	CHECK(run, vmas_in(memory, run->size) == run->size);
	CHECK(run, written(memory, run->size));
	CHECK(run, store(memory, 1).signal == SIGSEGV);
}

static void munmap_restored(struct run *run)
{
	char *memory = map(run, run->size);

	write_pages(memory, run->size);
	split(run, memory, run->size);
	for (long page = 0; page < run->size; page += 2)
		CHECK(run, !mprotect(memory + page * PAGE, PAGE, PROT_READ | PROT_WRITE));
	start(run);
	CHECK(run, !munmap(memory, run->size * PAGE));
	stop(run, run->size);
	CHECK(run, !vmas_in(memory, run->size));
}

/* Both places begin with a page table, so that whole page tables move. */
static void mremap_aligned(struct run *run)
{
	char *memory = map_aligned(run, run->size), *target = map_aligned(run, run->size), *moved;

	write_pages(memory, run->size);
	CHECK(run, !munmap(target, run->size * PAGE));
	start(run);
	moved = mremap(memory, run->size * PAGE, run->size * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target);
	stop(run, 1);
	CHECK(run, moved == target);
	CHECK(run, written(moved, run->size));
	CHECK(run, !vmas_in(memory, run->size));
}

/* Has a mapping of that kind beside, and measures anonymous memory. */
static void bystander_dontneed(struct run *run)
{
	char *memory = map_anonymous(run, run->size);
	long step = run->size / TIMES;

	write_pages(map(run, 1), 1);
	write_pages(memory, run->size);
	start(run);
	for (long page = 0; page < run->size; page += step)
		CHECK(run, !madvise(memory + page * PAGE, PAGE, MADV_DONTNEED));
	stop(run, TIMES);
	CHECK(run, present(getpid(), memory, run->size) == run->size - TIMES);
}

static void bystander_fork(struct run *run)
{
	pid_t parent = getpid(), child;

	write_pages(map(run, 1), 1);
	add_other_vmas(run, run->size);
	start(run);
	child = fork();
	if (!child)
		sleep_for_ever(run, parent);
	stop(run, 1);
	CHECK(run, child > 0);
}

#define AMONG .of = "other VMAs", .sizes = { 64, 1024, 4096, 16384 }, .check = 1024
#define OF_PAGES .of = "pages", .sizes = { 64, 256, 1024, 4096 }, .check = 256

static const struct bench_case vma_cases[] = {
	{ "first mmap of a process", .goal = 1.5, .run = first_mmap, .unit = "instructions", AMONG },
	{ "mmap, touch, munmap", .goal = 1.5, .run = mmap_touch_munmap, .unit = "instructions", AMONG },
	{ "mmap of much", .goal = 1.5, .run = mmap_large, .unit = "instructions", .of = "pages",
	  .sizes = { 256, 1024, 4096, 16384 }, .check = 16384 },
	{ "munmap of every second page", .goal = 1.2, .run = munmap_every_second, .unit = "instructions a page", OF_PAGES },
	{ "MADV_DONTNEED of one page", .goal = 1.2, .run = dontneed_one, .unit = "instructions", OF_PAGES },
	{ "mprotect that splits", .goal = 1.1, .run = mprotect_splits, .unit = "instructions", OF_PAGES },
	{ "munmap of what was split and restored", .goal = 2.0, .run = munmap_restored, .unit = "instructions a page", OF_PAGES },
	{ "mremap of page tables", .goal = 1.0, .run = mremap_aligned, .unit = "instructions", .of = "pages",
	  .sizes = { 512, 1024, 2048, 4096 }, .check = 1024 },
	{ "bystander: MADV_DONTNEED of one page", .goal = 1.02, .run = bystander_dontneed, .unit = "instructions", OF_PAGES },
	{ "bystander: fork with other VMAs", .goal = 1.02, .run = bystander_fork, .unit = "instructions", AMONG },
	{}
};

#undef AMONG
#undef OF_PAGES
#endif
