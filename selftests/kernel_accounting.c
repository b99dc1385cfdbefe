// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the kernel counts, traces and undoes of frames that are taken out of use: for memory of the device by the driver's
 * files, for anonymous memory by the kernel's own.
 * With a number as its argument, that many drills; with another one, that many pages that are discarded while they fail.
 */
#include <linux/io_uring.h>
#include <sys/syscall.h>

#include "lib/fixture.h"
#include "lib/hwpoison.h"
#include "lib/patience.h"
#include "lib/pool.h"
#include "lib/random.h"

#define PAGES 16

static long drills = 100, rounds;

static long undo(void *unused, long pfn)
{
	(void)unused;
	return unpoison_pfn(pfn);
}

FIXTURE(kernel_accounting)
{
	char *memory;
};

FIXTURE_VARIANTS_ON_BOTH(kernel_accounting);

FIXTURE_SETUP(kernel_accounting)
{
	uint64_t first_pfn;

	if (pool(&first_pfn))
		SKIP(return, "the kernel counts what it asks the driver for, see device_memory.c");
	if (!can_undo())
		SKIP(return, "no hwpoison-inject, or real hardware has failed");
	ASSERT_MAPPED(PAGES);
	fill(self->memory, PAGES, 1);
}

FIXTURE_TEARDOWN_PARENT(kernel_accounting)
{
	print_to_file(HWPOISON_FILTER, "0");
	EXPECT_STREQ("", leak());
}

static int take_offline(bool device, char *page)
{
	if (device)
		return soft_offline_pfn(pfn_of(page));
	return madvise(page, PAGE, MADV_SOFT_OFFLINE) ? errno : 0;
}

TEST_F(kernel_accounting, soft_offline_is_counted_and_undone_by_the_kernel)
{
	long quarantined = counter("quarantined");
	struct counts before = counts();
	uint64_t pfns[4];

	for (size_t i = 0; i < 4; i++) {
		pfns[i] = pfn_of(self->memory + i * PAGE);
		ASSERT_EQ(0, take_offline(variant->device, self->memory + i * PAGE));
		EXPECT_TRUE(is_marked_bad(pfns[i]));
	}
	/* The kernel's own soft offline is no failure to its nodes. */
	EXPECT_COUNTED(before, 4, variant->device ? 4 : 0);
	if (variant->device) {
		EXPECT_EQ(quarantined + 4, counter("quarantined"));
	}
	for (size_t i = 0; i < 4; i++) {
		EXPECT_EQ(0, undo_by_kernel(pfns[i]));
		EXPECT_FALSE(is_marked_bad(pfns[i]));
		if (variant->device) {
			EXPECT_EQ(ENXIO, unpoison_pfn(pfns[i]));
		}
	}
	EXPECT_EQ(before.corrupted, corrupted());
	EXPECT_EQ(quarantined, counter("quarantined"));
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
}

TEST_F(kernel_accounting, hard_offline_is_a_failure_recovered_from)
{
	struct counts before = counts();
	uint64_t pfn = pfn_of(self->memory);
	bool traces = begin_trace();
	int events = traced(pfn, ""), recoveries = traced(pfn, "Recovered");
	long quarantined;

	if (variant->device) {
		ASSERT_EQ(0, hard_offline_pfn(pfn));
	} else if (print_to_file(HARD_OFFLINE_PAGE, "%#lx", pfn << PAGE_SHIFT)) {
		SKIP(return, "the kernel has no such file");
	}
	EXPECT_SIGBUS(self->memory, load(self->memory));
	EXPECT_TRUE(is_marked_bad(pfn));
	EXPECT_COUNTED(before, 1, 1);
	if (traces) {
		EXPECT_EQ(events + 1, traced(pfn, ""));
		EXPECT_EQ(recoveries + 1, traced(pfn, "Recovered"));
	}
	if (variant->device) {
		/* As long as the driver uses the frame as a name. */
		EXPECT_EQ(EBUSY, undo_by_kernel(pfn));
		EXPECT_EQ(EPERM, unpoison_pfn(pfn));
	}
	quarantined = counter("quarantined");
	ASSERT_EQ(0, munmap(self->memory, PAGES * PAGE));
	if (variant->device) {
		EXPECT_EQ(EPERM, unpoison_pfn(pfn));
		EXPECT_EQ(quarantined, counter("quarantined"));
	}
	EXPECT_EQ(0, undo_by_kernel(pfn));
	EXPECT_FALSE(is_marked_bad(pfn));
	EXPECT_EQ(before.corrupted, corrupted());
	if (variant->device) {
		EXPECT_EQ(quarantined - 1, counter("quarantined"));
	}
}

/* The kernel says of a file's page that has references left that it has failed, of anonymous memory that it has recovered. */
TEST_F(kernel_accounting, what_a_pipe_holds_has_failed)
{
	struct counts before = counts(), after;
	uint64_t pfn = pfn_of(self->memory);
	struct iovec page = { self->memory, PAGE };
	char content[PAGE];
	int ends[2];

	ASSERT_EQ(0, pipe(ends));
	ASSERT_EQ(PAGE, vmsplice(ends[1], &page, 1, 0));
	if (variant->device) {
		ASSERT_EQ(0, hard_offline_pfn(pfn));
	} else if (print_to_file(HARD_OFFLINE_PAGE, "%#lx", pfn << PAGE_SHIFT)) {
		SKIP(return, "the kernel has no such file");
	}
	after = counts();
	EXPECT_EQ(before.corrupted + 4, after.corrupted);
	EXPECT_EQ(before.total + 1, after.total);
	EXPECT_EQ(before.failed + variant->device, after.failed);
	EXPECT_EQ(before.recovered + !variant->device, after.recovered);
	EXPECT_SIGBUS(self->memory, load(self->memory));
	/* What was in the pipe before stays there. */
	EXPECT_EQ(PAGE, read(ends[0], content, PAGE));
	close(ends[0]);
	close(ends[1]);
	ASSERT_EQ(0, munmap(self->memory, PAGES * PAGE));
	EXPECT_EQ(0, undo_by_kernel(pfn));
	EXPECT_EQ(before.corrupted, corrupted());
}

/* Nobody has it mapped, so it looks free to the kernel: the mark has a reference all the same. */
TEST_F(kernel_accounting, what_only_a_pipe_has_is_not_freed_by_the_kernel)
{
	long quarantined = counter("quarantined");
	struct counts before = counts();
	uint64_t pfn = pfn_of(self->memory), word_in_it = 0;
	struct iovec page = { self->memory, PAGE };
	char content[PAGE];
	int ends[2];

	ASSERT_EQ(0, pipe(ends));
	ASSERT_EQ(PAGE, vmsplice(ends[1], &page, 1, 0));
	ASSERT_EQ(0, munmap(self->memory, PAGES * PAGE));
	print_to_file(HWPOISON_CORRUPT_PFN, "%#lx", pfn);
	EXPECT_EQ(EBUSY, undo_by_kernel(pfn));
	if (variant->device) {
		EXPECT_EQ(quarantined + 1, counter("quarantined"));
		EXPECT_EQ(EBUSY, unpoison_pfn(pfn));
	}
	EXPECT_EQ(PAGE, read(ends[0], content, PAGE));
	memcpy(&word_in_it, content, sizeof(word_in_it));
	EXPECT_EQ(word(1, 0), word_in_it);
	close(ends[0]);
	close(ends[1]);
	EXPECT_EQ(0, variant->device ? unpoison_pfn(pfn) : undo_by_kernel(pfn));
	EXPECT_FALSE(is_marked_bad(pfn));
	EXPECT_EQ(before.corrupted, corrupted());
	EXPECT_EQ(quarantined, counter("quarantined"));
}

/* What several do to a frame so often, whether or not it is refused. */
static long mark_often(void *unused, long pfn)
{
	(void)unused;
	for (long i = repeats(4000); i > 0; i--)
		print_to_file(HWPOISON_CORRUPT_PFN, "%#lx", pfn);
	return 0;
}

static long undo_often(void *unused, long pfn)
{
	(void)unused;
	for (long i = repeats(8000); i > 0; i--)
		unpoison_pfn(pfn);
	return 0;
}

static long undo_often_by_kernel(void *unused, long pfn)
{
	(void)unused;
	for (long i = repeats(8000); i > 0; i--)
		undo_by_kernel(pfn);
	return 0;
}

/* Has the kernel's undo wait for a lock between its looks at the references (zone_pcp_disable()). */
static long delay_undo_by_kernel(void *unused, long pfn)
{
	(void)unused;
	(void)pfn;
	for (long i = repeats(8000); i > 0; i--)
		print_to_file("/proc/sys/vm/percpu_pagelist_high_fraction", "%d", i % 2 ? 8 : 0);
	return print_to_file("/proc/sys/vm/percpu_pagelist_high_fraction", "0");
}

/* Whoever of them comes first, it is undone. */
static bool is_undone_in_the_end(uint64_t pfn)
{
	unpoison_pfn(pfn);
	undo_by_kernel(pfn);
	return !is_marked_bad(pfn) && !is_poisoned(pfn);
}

TEST_F_TIMEOUT(kernel_accounting, marked_and_undone_by_all_at_once, 300)
{
	static long (*const calls[])(void *, long) = { mark_often, undo_often, undo_often_by_kernel, delay_undo_by_kernel,
						       delay_undo_by_kernel };
	long quarantined = counter("quarantined");
	struct counts before = counts();
	uint64_t pfn = pfn_of(self->memory);
	struct peer *peers[ARRAY_SIZE(calls)];

	if (!variant->device)
		SKIP(return, "only of the device");
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		peers[i] = fork_peer();
		ASSERT_NE(NULL, peers[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
		begin_peer_call(peers[i], calls[i], NULL, pfn);
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		end_peer_call(peers[i]);
		end_peer(peers[i]);
	}
	ASSERT_TRUE(await(is_undone_in_the_end, pfn));
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
	EXPECT_EQ(pfn, pfn_of(self->memory));
	EXPECT_EQ(before.corrupted, corrupted());
	EXPECT_EQ(quarantined, counter("quarantined"));
}

static long mark_and_undo_by_kernel(void *unused, long pfn)
{
	(void)unused;
	print_to_file(HWPOISON_CORRUPT_PFN, "%#lx", pfn);
	for (int i = 0; i < 3 && undo_by_kernel(pfn); i++)
		;
	return 0;
}

/* The frames of the machine, one bit each, of a guest of up to 4 GiB. */
#define FRAMES (1UL << 20)

struct churn {
	uint64_t pfn;
	bool has_ended;
};

/* Has the kernel mark the frame that the other process has right now, and undo that, which it may refuse: until that one has ended. */
static long mark_what_is_discarded(void *churn, long unused)
{
	struct churn *other = churn;

	(void)unused;
	while (!__atomic_load_n(&other->has_ended, __ATOMIC_ACQUIRE))
		mark_and_undo_by_kernel(NULL, __atomic_load_n(&other->pfn, __ATOMIC_RELAXED));
	return 0;
}

/* Or the kernel has frame @pfn for itself by now, where it undoes no mark. */
static bool is_undone_or_the_kernels(uint64_t pfn)
{
	const uint64_t slab = 1 << 7, page_table = 1 << 26;

	return is_undone_in_the_end(pfn) || page_flags(pfn) & (slab | page_table);
}

/*
 * Marked when it is in use, on its way, free, or allocated but nobody's: no undo frees what somebody has. The kernel's count is not
 * compared: free_pages_prepare() can lose a mark.
 */
TEST_F_TIMEOUT(kernel_accounting, marked_while_it_is_discarded, 300)
{
	struct churn *churn = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	static uint8_t had[FRAMES / 8];
	long quarantined = counter("quarantined");
	struct peer *kernel;

	if (!variant->device)
		SKIP(return, "frames of others are what the kernel frees then");
	if (!rounds)
		SKIP(return, "the kernel's undo can free what it has taken for itself: only if it is asked for");
	ASSERT_NE(MAP_FAILED, churn);
	ASSERT_EQ(0, madvise(self->memory, PAGES * PAGE, MADV_DONTFORK));
	churn->pfn = pfn_of(self->memory);
	kernel = fork_peer();
	ASSERT_NE(NULL, kernel);
	begin_peer_call(kernel, mark_what_is_discarded, churn, 0);
	for (long round = 0; round < rounds; round++) {
		uint64_t pfn;

		store(self->memory, 1);
		pfn = pfn_of(self->memory);
		ASSERT_EQ(0, madvise(self->memory, PAGE, MADV_DONTNEED));
		if (pfn && pfn < FRAMES) {
			__atomic_store_n(&churn->pfn, pfn, __ATOMIC_RELAXED);
			had[pfn / 8] |= 1 << pfn % 8;
		}
	}
	__atomic_store_n(&churn->has_ended, true, __ATOMIC_RELEASE);
	end_peer_call(kernel);
	end_peer(kernel);
	for (uint64_t pfn = 0; pfn < FRAMES; pfn++) {
		if (had[pfn / 8] & 1 << pfn % 8) {
			EXPECT_TRUE(await(is_undone_or_the_kernels, pfn));
		}
	}
	EXPECT_EQ(quarantined, counter("quarantined"));
	fill(self->memory, PAGES, 2);
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 2));
	ASSERT_EQ(0, munmap(churn, PAGE));
}

/* Fills page @index again as fill() with seed 1 has. */
static void refill(char *memory, size_t index)
{
	uint64_t *words = (uint64_t *)memory;

	for (size_t i = index * PAGE / sizeof(*words); i < (index + 1) * PAGE / sizeof(*words); i++)
		words[i] = 1UL << 32 | i;
}

/* The frame changes hands, and the page is nobody's for a moment. */
TEST_F_TIMEOUT(kernel_accounting, marked_while_it_goes_out_of_use, 300)
{
	long quarantined = counter("quarantined");
	struct counts before = counts();
	struct peer *kernel;

	if (!variant->device)
		SKIP(return, "only of the device");
	/* Nobody else has the frames as names. */
	ASSERT_EQ(0, madvise(self->memory, PAGES * PAGE, MADV_DONTFORK));
	kernel = fork_peer();
	ASSERT_NE(NULL, kernel);
	for (int round = 0; round < 200; round++) {
		size_t index = round % PAGES;
		char *page = self->memory + index * PAGE;
		uint64_t pfn = pfn_of(page);

		begin_peer_call(kernel, mark_and_undo_by_kernel, NULL, pfn);
		if (round % 2)
			soft_offline_pfn(pfn);
		else
			hard_offline_pfn(pfn);
		end_peer_call(kernel);
		if (round % 2 == 0 || load(page).signal) {
			ASSERT_EQ(0, madvise(page, PAGE, MADV_DONTNEED));
			refill(self->memory, index);
		}
		ASSERT_TRUE(await(is_undone_in_the_end, pfn)) {
			TH_LOG("round %d", round);
		}
	}
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
	EXPECT_EQ(before.corrupted, corrupted());
	EXPECT_EQ(quarantined, counter("quarantined"));
	end_peer(kernel);
}

/* A drill of the kernel's own is undone by the driver, with the content that was there. */
TEST_F(kernel_accounting, drill_of_the_kernel_is_undone_by_the_driver)
{
	struct counts before = counts();
	uint64_t pfn = pfn_of(self->memory);
	struct poisoned page;

	if (!variant->device)
		SKIP(return, "only of the device");
	for (int i = 0; i < 3; i++) {
		madvise(self->memory, PAGE, MADV_HWPOISON);
		ASSERT_TRUE(await(is_taken_away, pfn));
		ASSERT_TRUE(read_poisoned(pfn, &page));
		EXPECT_STREQ("simulated", page.kind);
		EXPECT_STREQ("memory_failure", page.source);
		EXPECT_EQ(before.corrupted + 4, corrupted());
		EXPECT_SIGBUS(self->memory, load(self->memory));
		EXPECT_EQ(EBUSY, undo_by_kernel(pfn));
		EXPECT_EQ(0, unpoison_pfn(pfn));
		EXPECT_FALSE(is_marked_bad(pfn));
		EXPECT_EQ(before.corrupted, corrupted());
		EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
		EXPECT_EQ(pfn, pfn_of(self->memory));
	}
}

/* Nobody maps the page, so it looks free to the kernel: the mark has a reference from the start. */
TEST_F(kernel_accounting, page_that_is_poisoned_already_is_not_freed_by_the_kernel)
{
	struct counts before = counts();
	uint64_t pfn = pfn_of(self->memory);

	if (!variant->device)
		SKIP(return, "only of the device");
	for (int i = 0; i < 20; i++) {
		ASSERT_EQ(0, poison_pfn(pfn));
		print_to_file(HWPOISON_CORRUPT_PFN, "%#lx", pfn);
		ASSERT_EQ(EBUSY, undo_by_kernel(pfn));
		ASSERT_EQ(0, unpoison_pfn(pfn));
		EXPECT_WORD(word(1, 0), load(self->memory));
	}
	EXPECT_EQ(before.corrupted, corrupted());
}

static bool is_marked_and_poisoned(uint64_t pfn)
{
	return is_marked_bad(pfn) && is_poisoned(pfn);
}

/* A drill that comes while who handles the last one has not quite finished is not lost. */
TEST_F(kernel_accounting, drills_that_follow_each_other)
{
	struct peer *children[8];
	struct counts before = counts();
	uint64_t pfn = pfn_of(self->memory);

	if (!variant->device)
		SKIP(return, "only of the device");
	for (size_t i = 0; i < 8; i++) {
		children[i] = fork_peer();
		ASSERT_NE(NULL, children[i]);
		EXPECT_WORD(word(1, 0), peer_load(children[i], self->memory));
	}
	for (int i = 0; i < 100; i++) {
		print_to_file(HWPOISON_CORRUPT_PFN, "%#lx", pfn);
		ASSERT_TRUE(await(is_marked_and_poisoned, pfn));
		ASSERT_EQ(0, unpoison_pfn(pfn)) {
			TH_LOG("drill %d", i);
		}
		EXPECT_WORD(word(1, 0), load(self->memory));
	}
	EXPECT_EQ(before.corrupted, corrupted());
	for (size_t i = 0; i < 8; i++)
		end_peer(children[i]);
}

/* One of those who undo a drill does, the others are told that it is undone. */
TEST_F(kernel_accounting, undone_once)
{
	enum { UNDOERS = 4 };
	struct counts before = counts();
	uint64_t pfn = pfn_of(self->memory);
	struct peer *undoers[UNDOERS];

	if (!variant->device)
		SKIP(return, "only of the device");
	for (size_t i = 0; i < UNDOERS; i++) {
		undoers[i] = fork_peer();
		ASSERT_NE(NULL, undoers[i]);
	}
	for (int i = 0; i < 50; i++) {
		int undone = 0;

		madvise(self->memory, PAGE, MADV_HWPOISON);
		ASSERT_TRUE(await(is_marked_and_poisoned, pfn));
		for (size_t j = 0; j < UNDOERS; j++)
			begin_peer_call(undoers[j], undo, NULL, pfn);
		for (size_t j = 0; j < UNDOERS; j++) {
			long error = end_peer_call(undoers[j]);

			undone += !error;
			EXPECT_TRUE(!error || error == ENOENT);
		}
		EXPECT_EQ(1, undone);
		EXPECT_WORD(word(1, 0), load(self->memory));
	}
	EXPECT_EQ(before.corrupted, corrupted());
	for (size_t i = 0; i < UNDOERS; i++)
		end_peer(undoers[i]);
}

/* Whether the kernel has taken frame @pfn for memory of its own, which stays until the process ends. */
static bool becomes_the_kernels(uint64_t pfn)
{
	static const off_t parts[] = { IORING_OFF_SQ_RING, IORING_OFF_SQES };

	for (int i = 0; i < 32; i++) {
		struct io_uring_params params = {};
		int fd = syscall(SYS_io_uring_setup, 1, &params);

		if (fd < 0)
			break;
		for (size_t part = 0; part < 2; part++) {
			char *page = mmap(NULL, PAGE, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, parts[part]);

			if (page != MAP_FAILED && pfn_of(page) == pfn)
				return true;
		}
	}
	return false;
}

/* A frame that the kernel has taken back and given to somebody else may fail there. */
/* Only on this CPU: who frees a frame there is the next to get it. */
static int stay_on(int cpu)
{
	unsigned long cpus = 1UL << cpu;

	return syscall(SYS_sched_setaffinity, 0, sizeof(cpus), &cpus) < 0 ? errno : 0;
}

/* Out of use, and taken back by the kernel. */
static int take_offline_and_undo(char *page, uint64_t pfn)
{
	(void)page;
	return soft_offline_pfn(pfn) ?: undo_by_kernel(pfn);
}

/* A drill of the kernel's own that the driver undoes. */
static int let_it_fail_and_undo(char *page, uint64_t pfn)
{
	print_to_file(HWPOISON_CORRUPT_PFN, "%#lx", pfn);
	if (!await(is_marked_and_poisoned, pfn))
		return ETIMEDOUT;
	return unpoison_pfn(pfn) ?: madvise(page, PAGE, MADV_DONTNEED) ? errno : 0;
}

TEST_F(kernel_accounting, a_failure_of_who_has_the_frame_now_is_not_of_the_device)
{
	static int (*const ways[])(char *, uint64_t) = { take_offline_and_undo, let_it_fail_and_undo };
	long quarantined = counter("quarantined");
	int tried = 0;

	if (!variant->device)
		SKIP(return, "only of the device");
	ASSERT_EQ(0, madvise(self->memory, PAGES * PAGE, MADV_DONTFORK));
	ASSERT_EQ(0, stay_on(0));
	for (size_t way = 0; way < 2; way++) {
		long before = corrupted();
		bool found = false;
		uint64_t pfn;

		for (size_t i = way * PAGES / 2; !found && i < (way + 1) * PAGES / 2; i++) {
			pfn = pfn_of(self->memory + i * PAGE);
			ASSERT_EQ(0, ways[way](self->memory + i * PAGE, pfn)) {
				TH_LOG("way %zd", way);
			}
			found = becomes_the_kernels(pfn);
		}
		if (!found)
			continue;
		tried++;
		/* It is counted and marked. No more can be done about memory of the kernel's. */
		print_to_file(HWPOISON_CORRUPT_PFN, "%#lx", pfn);
		EXPECT_TRUE(is_marked_bad(pfn));
		EXPECT_EQ(before + 4, corrupted());
		EXPECT_EQ(ENXIO, unpoison_pfn(pfn));
		EXPECT_FALSE(is_out_of_use(pfn));
		EXPECT_EQ(quarantined, counter("quarantined"));
		EXPECT_TRUE(is_marked_bad(pfn));
	}
	if (!tried)
		SKIP(return, "no frame was to be had");
}

static long soft_offline_there(void *unused, long pfn)
{
	(void)unused;
	return stay_on(0) ?: soft_offline_pfn(pfn);
}

/* A page in a pipe can't be moved, which is tried for some milliseconds, with a new page at hand. */
TEST_F(kernel_accounting, marked_when_a_page_is_to_move_there)
{
	long quarantined = counter("quarantined");
	struct peer *other;
	int hit = 0;

	if (!variant->device)
		SKIP(return, "only of the device");
	ASSERT_EQ(0, madvise(self->memory, PAGES * PAGE, MADV_DONTFORK));
	other = fork_peer();
	ASSERT_NE(NULL, other);
	for (size_t i = 0; !hit && i + 1 < PAGES; i += 2) {
		char *page = self->memory + i * PAGE, content[PAGE];
		uint64_t pfn = pfn_of(page), to = pfn_of(page + PAGE);
		struct iovec in_use = { page, PAGE };
		long before = corrupted();
		int ends[2], error;

		ASSERT_EQ(0, pipe(ends));
		ASSERT_EQ(PAGE, vmsplice(ends[1], &in_use, 1, 0));
		ASSERT_EQ(0, stay_on(0));
		ASSERT_EQ(0, madvise(page + PAGE, PAGE, MADV_DONTNEED));
		begin_peer_call(other, soft_offline_there, NULL, pfn);
		ASSERT_EQ(0, stay_on(1));
		usleep(3000);
		if (!page_flags(to))
			print_to_file(HWPOISON_CORRUPT_PFN, "%#lx", to);
		ASSERT_EQ(PAGE, read(ends[0], content, PAGE));
		close(ends[0]);
		close(ends[1]);
		error = end_peer_call(other);
		if (error == ENOMEM) {
			hit++;
			EXPECT_TRUE(is_out_of_use(to));
			EXPECT_EQ(quarantined + 1, counter("quarantined"));
			EXPECT_EQ(0, unpoison_pfn(to));
			EXPECT_EQ(before, corrupted());
		} else {
			/* If the kernel has taken the frame, it stays marked. */
			undo_by_kernel(to);
			if (!error) {
				ASSERT_EQ(0, unpoison_pfn(pfn));
			}
		}
	}
	end_peer(other);
	if (!hit)
		SKIP(return, "the new page was another each time");
	EXPECT_EQ(quarantined, counter("quarantined"));
}

/* The kernel marks and counts nothing that its filter keeps from it, so it must not take back what the driver has marked. */
TEST_F(kernel_accounting, a_filter_leaves_the_counts_right)
{
	long quarantined = counter("quarantined");
	struct counts before = counts();
	uint64_t soft = pfn_of(self->memory), hard = pfn_of(self->memory + PAGE);

	if (print_to_file(HWPOISON_FILTER_MEMCG, "999999") || print_to_file(HWPOISON_FILTER, "1"))
		SKIP(return, "the kernel has no filter by memory cgroup");
	if (!variant->device) {
		EXPECT_EQ(EOPNOTSUPP, take_offline(false, self->memory));
		EXPECT_EQ(soft, pfn_of(self->memory));
		EXPECT_COUNTED(before, 0, 0);
		return;
	}
	ASSERT_EQ(0, soft_offline_pfn(soft));
	ASSERT_EQ(0, hard_offline_pfn(hard));
	EXPECT_TRUE(filled(self->memory, 0, 1, 1));
	EXPECT_SIGBUS(self->memory + PAGE, load(self->memory + PAGE));
	EXPECT_EQ(EBUSY, undo_by_kernel(hard));
	ASSERT_EQ(0, munmap(self->memory, PAGES * PAGE));
	ASSERT_EQ(0, print_to_file(HWPOISON_FILTER, "0"));
	EXPECT_EQ(quarantined + 2, counter("quarantined"));
	EXPECT_EQ(EBUSY, undo_by_kernel(soft));
	EXPECT_EQ(EBUSY, undo_by_kernel(hard));
	EXPECT_EQ(EPERM, unpoison_pfn(hard));
	EXPECT_COUNTED(before, 0, 0);
	EXPECT_EQ(0, unpoison_pfn(soft));
	EXPECT_FALSE(is_marked_bad(soft));
	EXPECT_TRUE(is_marked_bad(hard));
	EXPECT_EQ(quarantined + 1, counter("quarantined"));
	EXPECT_EQ(ENXIO, unpoison_pfn(soft));
	EXPECT_COUNTED(before, 0, 0);
}

#define VM "/proc/sys/vm/"

/* The administrator's word goes for the driver's soft offline, too. */
TEST_F(kernel_accounting, soft_offline_is_the_administrators_to_allow)
{
	uint64_t pfn = pfn_of(self->memory);

	if (access(VM "enable_soft_offline", W_OK))
		SKIP(return, "no such setting");
	ASSERT_EQ(0, print_to_file(VM "enable_soft_offline", "0"));
	EXPECT_EQ(EOPNOTSUPP, take_offline(variant->device, self->memory));
	ASSERT_EQ(0, print_to_file(VM "enable_soft_offline", "1"));
	EXPECT_EQ(pfn, pfn_of(self->memory));
	if (variant->device) {
		/* memory_failure() would panic. */
		ASSERT_EQ(0, print_to_file(VM "memory_failure_recovery", "0"));
		EXPECT_EQ(EOPNOTSUPP, take_offline(true, self->memory));
		ASSERT_EQ(0, print_to_file(VM "memory_failure_recovery", "1"));
	}
	EXPECT_EQ(0, take_offline(variant->device, self->memory));
	EXPECT_EQ(0, undo_by_kernel(pfn));
}

/* Each done and undone in its own way: the counts are what they were. */
TEST_F(kernel_accounting, counts_return_after_drills_of_all_kinds)
{
	long quarantined = counter("quarantined");
	struct counts before = counts();
	struct random random = { 1 };

	if (!variant->device)
		SKIP(return, "only of the device");
	for (long i = 0; i < drills; i++) {
		size_t index = below(&random, PAGES);
		char *page = self->memory + index * PAGE;
		uint64_t pfn = pfn_of(page);
		bool by_kernel = false;

		switch (below(&random, 5)) {
		case 0:
			ASSERT_EQ(0, print_to_file(DEBUGFS "poison_addr", "%d %p", getpid(), page));
			break;
		case 1:
			ASSERT_EQ(0, poison_pfn(pfn)) {
				TH_LOG("drill %ld: frame %#lx, %#lx now", i, pfn, pfn_of(page));
			}
			break;
		case 2:
			madvise(page, PAGE, MADV_HWPOISON);
			ASSERT_TRUE(await(is_marked_and_poisoned, pfn));
			break;
		case 3:
			ASSERT_EQ(0, take_offline(true, page));
			by_kernel = one_in(&random, 2);
			break;
		case 4:
			/* For good: only what comes in its place is the kernel's to undo. */
			ASSERT_EQ(0, hard_offline_pfn(pfn));
			ASSERT_EQ(0, madvise(page, PAGE, MADV_DONTNEED));
			EXPECT_EQ(0, store(page, word(1, index)).signal);
			by_kernel = true;
			break;
		}
		ASSERT_EQ(0, by_kernel ? undo_by_kernel(pfn) : unpoison_pfn(pfn)) {
			TH_LOG("drill %ld", i);
		}
		EXPECT_WORD(word(1, index), load(page));
	}
	EXPECT_EQ(before.corrupted, corrupted());
	EXPECT_EQ(quarantined, counter("quarantined"));
}

int main(int argc, char **argv)
{
	if (argc > 1 && *argv[1] != '-') {
		drills = atol(argv[1]);
		rounds = argc > 2 ? atol(argv[2]) : 0;
		argc = 1;
	}
	return test_harness_run(argc, argv);
}
