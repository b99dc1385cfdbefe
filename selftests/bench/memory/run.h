/* SPDX-License-Identifier: GPL-2.0-only */
/* One run of a case: what is measured in it, and what the cases share. */
#ifndef RUN_H
#define RUN_H

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../lib/access.h"
#include "../../lib/debugfs.h"
#include "../../lib/device.h"
#include "../../lib/file.h"
#include "../../lib/hwpoison.h"
#include "../../lib/pagemap.h"
#include "../../lib/peer.h"
#include "../../lib/proc.h"
#include "../../lib/process.h"
#include "../../lib/stats.h"

/* How often a short operation is done in a run. */
#define TIMES 16

/* All processes that the run forks share it. */
struct run {
	bool device;
	/* What is measured has that many pages, VMAs, processes, … */
	long size;

	/* What was counted, in so many pairs of start() and stop(), for that many operations. */
	uint64_t counted;
	long parts, operations;
	/*
	 * That many fresh pages were cleared, and filled with a copy. The string instructions of that are one to a processor and
	 * thousands to the emulator: they are left out.
	 */
	long cleared, copied;

	uint64_t begin;
	/* How many sleepers sleep. */
	sem_t ready;
	char failure[256];
};

__attribute__((noreturn)) static void failed(struct run *run, const char *file, int line, const char *what)
{
	if (!*run->failure)
		snprintf(run->failure, sizeof(run->failure), "%s:%d: not so: %s (errno: %s)", file, line, what,
			 strerror(errno));
	_exit(1);
}

/* Ends the run as failed if something is not so. */
#define CHECK(run, condition) do {					\
	if (!(condition))						\
		failed(run, __FILE__, __LINE__, #condition);		\
} while (0)

/* One cycle is one instruction, in user space too; clock_gettime() would take some of its own. */
static uint64_t instructions(void)
{
	return __builtin_ia32_rdtsc();
}

/* From here on is counted, until stop(). The profiler knows both by their addresses. */
__attribute__((noinline)) void start(struct run *run)
{
	run->begin = instructions();
}

__attribute__((noinline)) void stop(struct run *run, long operations)
{
	run->counted += instructions() - run->begin;
	run->parts++;
	run->operations += operations;
}

/* What mmap() wants for private memory of that kind: a descriptor, which is -1 for anonymous memory, and flags. */
static int memory_file(struct run *run)
{
	int fd;

	if (!run->device)
		return -1;
	fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	CHECK(run, fd >= 0);
	return fd;
}

static int memory_flags(struct run *run)
{
	return MAP_PRIVATE | (run->device ? 0 : MAP_ANONYMOUS);
}

static char *map_at(struct run *run, void *address, size_t pages, int flags)
{
	int fd = memory_file(run);
	char *memory = mmap(address, pages * PAGE, PROT_READ | PROT_WRITE, memory_flags(run) | flags, fd, 0);

	CHECK(run, memory != MAP_FAILED);
	if (fd >= 0)
		close(fd);
	return memory;
}

/* Private memory, untouched. */
static char *map(struct run *run, size_t pages)
{
	return map_at(run, NULL, pages, 0);
}

static char *map_anonymous(struct run *run, size_t pages)
{
	char *memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(run, memory != MAP_FAILED);
	return memory;
}

/* As map(), at an address that a page table begins with. */
static char *map_aligned(struct run *run, size_t pages)
{
	const uintptr_t alignment = PAGE * PAGE / sizeof(uint64_t);
	char *room = mmap(NULL, pages * PAGE + alignment, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(run, room != MAP_FAILED);
	return map_at(run, (void *)(((uintptr_t)room + alignment - 1) & -alignment), pages, MAP_FIXED);
}

/* Writes a word to each page, which differs from page to page. */
__attribute__((noinline)) static void write_pages(char *memory, size_t pages)
{
	for (size_t page = 0; page < pages; page++)
		*(volatile uint64_t *)(memory + page * PAGE) = page + 1;
}

__attribute__((noinline)) static uint64_t read_pages(const char *memory, size_t pages)
{
	uint64_t sum = 0;

	for (size_t page = 0; page < pages; page++)
		sum += *(const volatile uint64_t *)(memory + page * PAGE);
	return sum;
}

/* Whether the pages are as write_pages() has left them. */
static bool written(const char *memory, size_t pages)
{
	for (size_t page = 0; page < pages; page++) {
		const volatile uint64_t *words = (const volatile uint64_t *)(memory + page * PAGE);

		if (words[0] != page + 1 || words[1] || words[PAGE / sizeof(*words) - 1])
			return false;
	}
	return true;
}

/* How many of the pages are mapped in process @pid. */
static long present(pid_t pid, const char *memory, size_t pages)
{
	char path[32];
	uint64_t entries[512];
	long count = 0;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	for (size_t page = 0; page < pages; page += 512) {
		size_t size = (pages - page < 512 ? pages - page : 512) * sizeof(*entries);

		if (pread(fd, entries, size, (((uintptr_t)memory >> PAGE_SHIFT) + page) * sizeof(*entries)) !=
		    (ssize_t)size)
			count = -(long)pages;
		for (size_t i = 0; i < size / sizeof(*entries); i++)
			count += !!(entries[i] & PAGEMAP_PRESENT);
	}
	close(fd);
	return count;
}

/* How many VMAs of this process begin in there. */
static long vmas_in(const char *memory, size_t pages)
{
	char *text = read_file("/proc/self/maps"), *rest = text, *line;
	uintptr_t first = (uintptr_t)memory, start;
	long count = 0;

	while ((line = strsep(&rest, "\n")))
		count += sscanf(line, "%lx-", &start) == 1 && start >= first && start < first + pages * PAGE;
	free(text);
	return count;
}

/* Makes every second page read-only, from the first one on. */
static void split(struct run *run, char *memory, size_t pages)
{
	for (size_t page = 0; page < pages; page += 2)
		CHECK(run, !mprotect(memory + page * PAGE, PAGE, PROT_READ));
}

/* That many VMAs of anonymous memory that nobody touches. */
static void add_other_vmas(struct run *run, long vmas)
{
	char *memory = mmap(NULL, vmas * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(run, memory != MAP_FAILED);
	for (long page = 0; page < vmas; page += 2)
		CHECK(run, !mprotect(memory + page * PAGE, PAGE, PROT_NONE));
	CHECK(run, vmas_in(memory, vmas) == vmas);
}

/* What a forked process does that only has to be there. */
__attribute__((noreturn)) static void sleep_for_ever(struct run *run, pid_t parent)
{
	die_with(parent);
	sem_post(&run->ready);
	for (;;)
		pause();
}

/* Forks a process that calls @prepare, if that is not NULL, and sleeps. Returns when it does. */
static pid_t fork_sleeper(struct run *run, void (*prepare)(struct run *run, char *memory), char *memory)
{
	pid_t parent = getpid(), sleeper = fork();

	CHECK(run, sleeper >= 0);
	if (!sleeper) {
		if (prepare)
			prepare(run, memory);
		sleep_for_ever(run, parent);
	}
	while (sem_trywait(&run->ready)) {
		CHECK(run, !is_dead(sleeper));
		usleep(1000);
	}
	return sleeper;
}

static void end_sleeper(pid_t sleeper)
{
	kill(sleeper, SIGKILL);
	waitpid(sleeper, NULL, 0);
}

#endif
