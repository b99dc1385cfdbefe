// SPDX-License-Identifier: GPL-2.0-only
/*
 * A mapping that mremap() has grown in place is discarded, while a thread touches what it has grown by for the first
 * time. `growth [ROUNDS]`: how often, in each test.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "lib/fixture.h"
#include "lib/watchdog.h"

#define MARK 42UL

/* 0: as many as each test has by itself. */
static long nr_rounds;

/* A thread that touches when it is told to. */
struct toucher {
	void (*touch)(struct toucher *toucher);
	char *memory;
	/* Pages before and after growth. */
	size_t pages, grown;
	/* The touch is to be by the kernel; the file has MARK in it. */
	bool kernel;
	int file;
	/* It only reads. */
	bool reads;
	pthread_t thread;
	/* It is told to be ready, then to touch, then to stop; it says when it is ready, and when it is through. */
	sem_t get_ready;
	atomic_bool is_ready, go, stop, through;
	/* How long it waits, in rounds of nothing. */
	unsigned long delay;
};

static void *touch_when_told(void *argument)
{
	struct toucher *toucher = argument;

	for (;;) {
		while (sem_wait(&toucher->get_ready))
			;
		atomic_store(&toucher->is_ready, true);
		while (!atomic_load(&toucher->go))
			;
		toucher->touch(toucher);
		atomic_store(&toucher->through, true);
	}
	return NULL;
}

/* Writes MARK to a page, in user mode or by a system call. */
static bool mark(const struct toucher *toucher, char *address)
{
	if (toucher->kernel)
		return pread(toucher->file, address, sizeof(MARK), 0) == sizeof(MARK);
	*(volatile unsigned long *)address = MARK;
	return true;
}

static void touch_the_first(struct toucher *toucher)
{
	for (unsigned long wait = toucher->delay; wait; wait--)
		atomic_load(&toucher->go);
	mark(toucher, toucher->memory + toucher->pages * PAGE);
}

static int start(struct toucher *toucher)
{
	const unsigned long content = MARK;

	sem_init(&toucher->get_ready, 0, 0);
	toucher->file = memfd_create("mark", MFD_CLOEXEC);
	if (write(toucher->file, &content, sizeof(content)) != sizeof(content))
		return errno;
	return pthread_create(&toucher->thread, NULL, touch_when_told, toucher);
}

static void get_ready(struct toucher *toucher)
{
	atomic_store(&toucher->is_ready, false);
	atomic_store(&toucher->go, false);
	atomic_store(&toucher->stop, false);
	atomic_store(&toucher->through, false);
	sem_post(&toucher->get_ready);
	while (!atomic_load(&toucher->is_ready))
		sched_yield();
}

static void tell(struct toucher *toucher)
{
	atomic_store(&toucher->go, true);
}

static void await_touch(struct toucher *toucher)
{
	while (!atomic_load(&toucher->through))
		sched_yield();
}

/* Maps pages, written, at a reserved address, with free addresses behind them. */
static int map_with_room(char *area, size_t pages, size_t room, int flags)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	void *memory;

	if (munmap(area, room * PAGE))
		return errno;
	memory = mmap(area, pages * PAGE, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0);
	close(fd);
	if (memory != area || madvise(area, pages * PAGE, MADV_POPULATE_WRITE))
		return errno;
	return 0;
}

FIXTURE(growth)
{
	struct toucher toucher;
};

FIXTURE_VARIANT(growth)
{
	int flags;
	bool kernel;
};

FIXTURE_VARIANT_ADD(growth, private) { .flags = MAP_PRIVATE };
FIXTURE_VARIANT_ADD(growth, private_touched_by_the_kernel) { .flags = MAP_PRIVATE, .kernel = true };
FIXTURE_VARIANT_ADD(growth, shared) { .flags = MAP_SHARED };
FIXTURE_VARIANT_ADD(growth, shared_touched_by_the_kernel) { .flags = MAP_SHARED, .kernel = true };

FIXTURE_SETUP(growth)
{
	self->toucher = (struct toucher){ .touch = touch_the_first, .kernel = variant->kernel };
}

FIXTURE_LEAVES_NOTHING(growth);

TEST_F_TIMEOUT(growth, a_page_touched_while_all_is_discarded_is_the_same_for_a_child, 3600)
{
	enum { ROUNDS = 20, PAGES = 1024 };
	struct toucher *toucher = &self->toucher;
	const unsigned long rounds = nr_rounds ?: repeats(ROUNDS);

	WATCHED(SECONDS_OF_A_RACE + rounds / 2) {
		unsigned long differ = 0;
		char *first;

		toucher->pages = PAGES;
		toucher->memory = reserve(2 * PAGES);
		ASSERT_NE(MAP_FAILED, toucher->memory);
		first = toucher->memory + PAGES * PAGE;
		ASSERT_EQ(0, start(toucher));
		for (unsigned long round = 0; round < rounds; round++) {
			unsigned long mine, childs;
			struct peer *child;

			ASSERT_EQ(0, map_with_room(toucher->memory, PAGES, 2 * PAGES, variant->flags));
			ASSERT_EQ(toucher->memory, mremap(toucher->memory, PAGES * PAGE, 2 * PAGES * PAGE, 0));
			toucher->delay = round * 7919 % 20000;
			get_ready(toucher);
			tell(toucher);
			ASSERT_EQ(0, madvise(toucher->memory, 2 * PAGES * PAGE, MADV_DONTNEED));
			await_touch(toucher);

			mine = load(first).value;
			/* Only what is private is discarded. */
			EXPECT_TRUE(mine == MARK || (!mine && variant->flags == MAP_PRIVATE));
			child = fork_peer();
			ASSERT_NE(NULL, child);
			childs = peer_load(child, first).value;
			differ += mine != childs;
			end_peer(child);
			/* What was discarded can be had again. */
			EXPECT_TRUE(mark(toucher, toucher->memory));
			EXPECT_WORD(MARK, load(toucher->memory));
		}
		EXPECT_EQ(0, differ);
	}
}

/* How often memory grows and shrinks again in the tests below. */
#define TIMES 40UL

/* Lets memory grow, be discarded from further and further down, and shrink, TIMES times; its first page stays. */
static int grow_and_discard(struct toucher *toucher, int flags)
{
	enum { PIECE = 256, ROOM = 1024 };
	const size_t pages = 1 + TIMES * PIECE;
	char *memory = reserve(pages + ROOM);
	int error;

	*toucher = (struct toucher){
		.touch = touch_the_first,
		.memory = memory,
		.pages = pages,
		.kernel = toucher->kernel,
	};
	if (memory == MAP_FAILED)
		return errno;
	error = map_with_room(memory, pages, pages + ROOM, flags);
	if (!error)
		error = start(toucher);
	for (size_t piece = TIMES; !error && piece--;) {
		char *from = memory + (1 + piece * PIECE) * PAGE;

		if (mremap(memory, pages * PAGE, (pages + ROOM) * PAGE, 0) != memory)
			return errno;
		toucher->delay = 2000 + 500 * piece;
		get_ready(toucher);
		tell(toucher);
		if (madvise(from, memory + (pages + ROOM) * PAGE - from, MADV_DONTNEED))
			return errno;
		await_touch(toucher);
		if (munmap(memory + pages * PAGE, ROOM * PAGE))
			return errno;
	}
	return error;
}

TEST_F(growth, a_fork_ends_after_many_discards)
{
	WATCHED(SECONDS_OF_A_RACE) {
		struct peer *child;

		ASSERT_EQ(0, grow_and_discard(&self->toucher, variant->flags));
		EXPECT_WORD(MARK, store(self->toucher.memory, MARK));
		child = fork_peer();
		ASSERT_NE(NULL, child);
		EXPECT_WORD(MARK, peer_load(child, self->toucher.memory));
	}
}

TEST_F(growth, a_failure_ends_after_many_discards)
{
	WATCHED(SECONDS_OF_A_RACE) {
		char *memory;

		ASSERT_EQ(0, grow_and_discard(&self->toucher, variant->flags));
		memory = self->toucher.memory;
		EXPECT_WORD(MARK, store(memory, MARK));
		EXPECT_IN_TIME(SECONDS_OF_A_COMMAND, 0, poison_addr(getpid(), memory));
		EXPECT_SIGBUS(memory, load(memory));
	}
}

/* Many pages are touched while all is discarded, from both ends of what the mapping has grown by. */
FIXTURE(touched_growth)
{
	struct toucher up, down;
};

FIXTURE_VARIANT(touched_growth)
{
	bool reads;
};

FIXTURE_VARIANT_ADD(touched_growth, written) { .reads = false };
FIXTURE_VARIANT_ADD(touched_growth, read) { .reads = true };

static void touch_page(struct toucher *toucher, size_t page)
{
	char *address = toucher->memory + page * PAGE;

	if (toucher->reads)
		load(address);
	else
		mark(toucher, address);
}

/* Until it is told to stop. */
static void touch_upwards(struct toucher *toucher)
{
	for (size_t i = 0; i < (toucher->grown - toucher->pages) / 2 && !atomic_load(&toucher->stop); i++)
		touch_page(toucher, toucher->pages + i);
}

static void touch_downwards(struct toucher *toucher)
{
	for (size_t i = 0; i < (toucher->grown - toucher->pages) / 5 && !atomic_load(&toucher->stop); i++)
		touch_page(toucher, toucher->grown - 1 - i);
}

FIXTURE_SETUP(touched_growth)
{
	self->up = (struct toucher){ .touch = touch_upwards, .reads = variant->reads };
	self->down = (struct toucher){ .touch = touch_downwards, .reads = variant->reads };
}

FIXTURE_LEAVES_NOTHING(touched_growth);

/* How many of these pages the child sees otherwise than the parent, who has put what it sees there. */
struct view {
	const char *memory;
	const unsigned long *pages;
	const uint64_t *words;
};

static long count_differences(void *argument, long pages)
{
	const struct view *view = argument;
	long count = 0;

	for (long i = 0; i < pages; i++)
		count += load(view->memory + view->pages[i] * PAGE).value != view->words[i];
	return count;
}

/* The frames that are mapped at so many pages, 0 where there is none; false if that can't be told. */
static bool read_pfns(const char *memory, size_t pages, uint64_t *pfns)
{
	bool all = read_pagemap(memory, pages, pfns);

	for (size_t i = 0; i < pages; i++)
		pfns[i] = frame_in(pfns[i]);
	return all;
}

/* Whether `rmap` says that the frame is mapped here and nowhere else. */
static bool rmap_finds(uint64_t pfn, const char *address)
{
	char expected[64], *seen;
	bool same;

	snprintf(expected, sizeof(expected), "pid=%d address=%p\n", getpid(), address);
	if (ask_rmap(pfn))
		return false;
	seen = read_file(DEBUGFS "rmap");
	same = seen && !strcmp(seen, expected);
	free(seen);
	return same;
}

TEST_F_TIMEOUT(touched_growth, every_page_that_is_mapped_then_is_inherited_and_found, 3600)
{
	enum { ROUNDS = 4, PAGES = 4096, GROWN = PAGES + 20000, SAMPLES = 16 };
	const unsigned long rounds = nr_rounds ?: repeats(ROUNDS);
	char *memory = reserve(GROWN);

	ASSERT_NE(MAP_FAILED, memory);
	WATCHED(SECONDS_OF_A_RACE + rounds * 2) {
		unsigned long *pages = calloc(GROWN, sizeof(*pages)), not_found = 0, not_hit = 0;
		uint64_t *words = calloc(GROWN, sizeof(*words)), *pfns = calloc(GROWN, sizeof(*pfns));
		long not_inherited = 0, all_mapped = 0;
		const uint64_t zeroes = pfn_of_zeroes();

		self->up.memory = self->down.memory = memory;
		self->up.pages = self->down.pages = PAGES;
		self->up.grown = self->down.grown = GROWN;
		ASSERT_EQ(0, start(&self->up));
		ASSERT_EQ(0, start(&self->down));
		for (unsigned long round = 0; round < rounds; round++) {
			struct view view = { memory, pages, words };
			unsigned long mapped = 0;
			struct peer *child;

			ASSERT_EQ(0, map_with_room(memory, PAGES, GROWN, MAP_PRIVATE));
			ASSERT_EQ(memory, mremap(memory, PAGES * PAGE, GROWN * PAGE, 0));
			get_ready(&self->up);
			get_ready(&self->down);
			tell(&self->up);
			tell(&self->down);
			ASSERT_EQ(0, madvise(memory, GROWN * PAGE, MADV_DONTNEED));
			/* One of them may not have begun. */
			atomic_store(&self->up.stop, true);
			atomic_store(&self->down.stop, true);
			await_touch(&self->up);
			await_touch(&self->down);

			ASSERT_TRUE(read_pfns(memory, GROWN, pfns));
			for (unsigned long page = 0; page < GROWN; page++) {
				char *address = memory + page * PAGE;

				if (!pfns[page])
					continue;
				not_found += pfns[page] != zeroes && !rmap_finds(pfns[page], address);
				/* Where a page is mapped for reading it can be written. */
				if (variant->reads)
					store(address, MARK + page);
				words[mapped] = load(address).value;
				pages[mapped++] = page;
			}
			child = fork_peer();
			ASSERT_NE(NULL, child);
			not_inherited += peer_call(child, count_differences, &view, mapped);
			end_peer(child);
			for (unsigned long i = 0; i < mapped; i += 1 + mapped / SAMPLES) {
				char *address = memory + pages[i] * PAGE;

				not_hit += poison_addr(getpid(), address) || load(address).signal != SIGBUS;
			}
			all_mapped += mapped;
		}
		TH_LOG("%ld pages were mapped", all_mapped);
		EXPECT_LT(0, all_mapped);
		EXPECT_EQ(0, not_found);
		EXPECT_EQ(0, not_inherited);
		EXPECT_EQ(0, not_hit);
	}
}

int main(int argc, char **argv)
{
	if (argc == 2 && *argv[1] != '-') {
		nr_rounds = atol(argv[1]);
		argc = 1;
	}
	return test_harness_run(argc, argv);
}
