// SPDX-License-Identifier: GPL-2.0-only
/*
 * What others read of the memory beside its content, as of anonymous memory: what is present and resident, and what
 * was written since a point in time (soft-dirty), by which checkpoints and garbage collectors go.
 */
#include <sys/uio.h>

#include "lib/fixture.h"
#include "lib/proc.h"
#include "lib/random.h"
#include "lib/slow_write.h"

#define PAGES 64

FIXTURE_ON_BOTH(page_state, PAGES, true);

static long present_here(void *memory, long unused)
{
	(void)unused;
	return pages_that_are(PAGEMAP_PRESENT, memory, PAGES);
}

static void fork_and_wait(void)
{
	pid_t child = fork();

	if (!child)
		_exit(0);
	waitpid(child, NULL, 0);
}

#define ALL UINT64_MAX

TEST_F(page_state, what_a_fork_leaves)
{
	struct peer *child;

	EXPECT_EQ(ALL, pages_that_are(PAGEMAP_PRESENT, self->memory, PAGES));
	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_EQ(ALL, pages_that_are(PAGEMAP_PRESENT, self->memory, PAGES));
	EXPECT_EQ(ALL, pages_in_core(self->memory, PAGES));
	EXPECT_EQ(PAGES * PAGE / 1024, smaps_kilobytes(self->memory, PAGES, "Rss"));
	EXPECT_EQ(PAGES * PAGE / 1024, smaps_kilobytes(self->memory, PAGES, "Referenced"));
	EXPECT_WORD(word(1, 5), peer_load(child, self->memory + 5 * PAGE));
	EXPECT_EQ(ALL, pages_that_are(PAGEMAP_PRESENT, self->memory, PAGES));
	ASSERT_EQ(0, madvise(self->memory, PAGES / 2 * PAGE, MADV_DONTNEED));
	EXPECT_EQ(PAGES / 2 * PAGE / 1024, smaps_kilobytes(self->memory, PAGES, "Rss"));
	EXPECT_WORD(0, load(self->memory));
	EXPECT_WORD(word(1, 0), peer_load(child, self->memory));
}

/* What looks as if it had been written already becomes writable without a fault. */
TEST_F(page_state, protection_that_changes_after_a_fork)
{
	struct peer *child = fork_peer();

	ASSERT_NE(NULL, child);
	ASSERT_EQ(0, mprotect(self->memory, PAGES * PAGE, PROT_READ));
	ASSERT_EQ(0, mprotect(self->memory, PAGES * PAGE, PROT_READ | PROT_WRITE));
	for (size_t i = 0; i < PAGES; i++)
		EXPECT_WORD(7, store(self->memory + i * PAGE, 7));
	for (size_t i = 0; i < PAGES; i++)
		EXPECT_WORD(word(1, i), peer_load(child, self->memory + i * PAGE));
}

/* Its siblings can have been forked at any time. */
TEST_F(page_state, generations)
{
	struct peer *children[24];
	const size_t nr = sizeof(children) / sizeof(*children);

	for (size_t i = 0; i < nr; i++) {
		EXPECT_WORD(i, store(self->memory + i * PAGE, i));
		children[i] = fork_peer();
		ASSERT_NE(NULL, children[i]);
		peer_load(children[i], self->memory + i * PAGE);
		EXPECT_WORD(100 + i, peer_store(children[i], self->memory + (i + 1) * PAGE, 100 + i));
		/* More of them than entries are made read-only for. */
		if (!variant->device || i < 16) {
			EXPECT_EQ(ALL, pages_that_are(PAGEMAP_PRESENT, self->memory, PAGES));
		}
	}
	for (size_t i = 0; i < nr; i++) {
		EXPECT_WORD(i, peer_load(children[i], self->memory + i * PAGE));
		EXPECT_WORD(100 + i, peer_load(children[i], self->memory + (i + 1) * PAGE));
		EXPECT_WORD(word(1, i + 2), peer_load(children[i], self->memory + (i + 2) * PAGE));
	}
	EXPECT_TRUE(filled(self->memory, nr, PAGES - nr, 1));
}

/* Pages 3 and 9 are written. */
#define WRITTEN (1 << 3 | 1 << 9)

#define EXPECT_SOFT_DIRTY(expected_pages) \
	EXPECT_EQ((uint64_t)(expected_pages), pages_that_are(PAGEMAP_SOFT_DIRTY, self->memory, PAGES))

TEST_F(page_state, soft_dirty)
{
	struct peer *child;
	char *moved;

	if (!has_soft_dirty())
		SKIP(return, "the kernel has no soft-dirty bits");
	ASSERT_EQ(0, clear_soft_dirty());
	/* Reading writes nothing. */
	for (size_t i = 0; i < PAGES; i++)
		load(self->memory + i * PAGE);
	EXPECT_SOFT_DIRTY(0);
	store(self->memory + 3 * PAGE, 42);
	store(self->memory + 9 * PAGE, 43);
	EXPECT_SOFT_DIRTY(WRITTEN);
	fork_and_wait();
	EXPECT_SOFT_DIRTY(WRITTEN);
	ASSERT_EQ(0, mprotect(self->memory + 8 * PAGE, 4 * PAGE, PROT_READ));
	ASSERT_EQ(0, mprotect(self->memory + 8 * PAGE, 4 * PAGE, PROT_READ | PROT_WRITE));
	/* A split makes new VMAs, whose pages may all have been written. */
	EXPECT_EQ(WRITTEN, WRITTEN & pages_that_are(PAGEMAP_SOFT_DIRTY, self->memory, PAGES));
	ASSERT_EQ(0, clear_soft_dirty());
	EXPECT_SOFT_DIRTY(0);
	child = fork_peer();
	ASSERT_NE(NULL, child);
	/* Copied on the write. */
	store(self->memory + 9 * PAGE, 44);
	EXPECT_SOFT_DIRTY(1 << 9);
	/* The only user left. */
	kill(child->pid, SIGKILL);
	waitpid(child->pid, NULL, 0);
	store(self->memory + 3 * PAGE, 45);
	EXPECT_SOFT_DIRTY(WRITTEN);
	moved = reserve(PAGES);
	ASSERT_EQ(moved, mremap(self->memory, 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, moved));
	EXPECT_EQ(1 << 3, 1 << 3 & pages_that_are(PAGEMAP_SOFT_DIRTY, moved, PAGES));
}

/* Memory that is there before it is written can be writable from the start: only as long as nobody asks for the first write. */
TEST_F(page_state, soft_dirty_of_what_is_locked)
{
	if (!has_soft_dirty())
		SKIP(return, "the kernel has no soft-dirty bits");
	for (int cleared_before = 0; cleared_before < 2; cleared_before++) {
		if (cleared_before)
			ASSERT_EQ(0, clear_soft_dirty());
		ASSERT_EQ(0, madvise(self->memory, PAGES * PAGE, MADV_DONTNEED));
		ASSERT_EQ(0, mlock(self->memory, PAGES * PAGE));
		EXPECT_EQ(ALL, pages_that_are(PAGEMAP_PRESENT, self->memory, PAGES));
		ASSERT_EQ(0, clear_soft_dirty());
		EXPECT_SOFT_DIRTY(0);
		store(self->memory + 3 * PAGE, 42);
		store(self->memory + 9 * PAGE, 43);
		EXPECT_SOFT_DIRTY(WRITTEN);
		ASSERT_EQ(0, munlock(self->memory, PAGES * PAGE));
	}
}

/* Takes the frame of a page out of use, of the device for a while. Returns 0 or the errno. */
static int soft_offline(bool device, char *page)
{
	uint64_t pfn = pfn_of(page);

	if (!device)
		return madvise(page, PAGE, MADV_SOFT_OFFLINE) ? errno : 0;
	return soft_offline_pfn(pfn) ?: unpoison_pfn(pfn);
}

TEST_F(page_state, soft_dirty_and_soft_offline)
{
	if (!has_soft_dirty())
		SKIP(return, "the kernel has no soft-dirty bits");
	ASSERT_EQ(0, clear_soft_dirty());
	store(self->memory + 3 * PAGE, 42);
	store(self->memory + 9 * PAGE, 43);
	ASSERT_EQ(0, soft_offline(variant->device, self->memory + 3 * PAGE));
	ASSERT_EQ(0, soft_offline(variant->device, self->memory + 4 * PAGE));
	EXPECT_EQ(ALL, pages_that_are(PAGEMAP_PRESENT, self->memory, PAGES));
	EXPECT_SOFT_DIRTY(WRITTEN);
	EXPECT_WORD(42, load(self->memory + 3 * PAGE));
	EXPECT_WORD(word(1, 4), load(self->memory + 4 * PAGE));
}

TEST_F(page_state, soft_dirty_and_poison)
{
	uint64_t pfn;

	if (!variant->device)
		SKIP(return, "only of the device");
	if (!has_soft_dirty())
		SKIP(return, "the kernel has no soft-dirty bits");
	ASSERT_EQ(0, clear_soft_dirty());
	store(self->memory + 3 * PAGE, 42);
	store(self->memory + 9 * PAGE, 43);
	pfn = pfn_of(self->memory + 3 * PAGE);
	ASSERT_EQ(0, poison_pfn(pfn));
	EXPECT_SIGBUS(self->memory + 3 * PAGE, load(self->memory + 3 * PAGE));
	ASSERT_EQ(0, unpoison_pfn(pfn));
	/* Who only looks at page tables must find it. */
	EXPECT_EQ(ALL, pages_that_are(PAGEMAP_PRESENT, self->memory, PAGES));
	EXPECT_SOFT_DIRTY(WRITTEN);
	EXPECT_WORD(42, load(self->memory + 3 * PAGE));
	EXPECT_SOFT_DIRTY(WRITTEN);
}

/* A page that is given back is where it was taken from, in all processes. */
TEST_F(page_state, present_after_poison)
{
	struct peer *child, *other;
	uint64_t pfn;

	if (!variant->device)
		SKIP(return, "only of the device");
	child = fork_peer();
	ASSERT_NE(NULL, child);
	/* It touches another page only. */
	other = fork_peer();
	ASSERT_NE(NULL, other);
	EXPECT_WORD(word(1, 3), peer_load(child, self->memory + 3 * PAGE));
	EXPECT_WORD(word(1, 4), peer_load(other, self->memory + 4 * PAGE));
	pfn = pfn_of(self->memory + 3 * PAGE);
	ASSERT_EQ(0, poison_pfn(pfn));
	EXPECT_EQ(ALL & ~(1ULL << 3), pages_that_are(PAGEMAP_PRESENT, self->memory, PAGES));
	ASSERT_EQ(0, unpoison_pfn(pfn));
	EXPECT_EQ(ALL, pages_that_are(PAGEMAP_PRESENT, self->memory, PAGES));
	EXPECT_EQ(1 << 3, 1 << 3 & peer_call(child, present_here, self->memory, 0));
	EXPECT_EQ(0, mprotect(self->memory, PAGE, PROT_NONE));
}

/* Through a page that is pinned is written without a fault. */
TEST_F(page_state, soft_dirty_of_what_is_pinned)
{
	static char data[SLOW_WRITE_PAGES * PAGE] __attribute__((aligned(4096)));
	struct slow_write writing;

	if (!has_soft_dirty())
		SKIP(return, "the kernel has no soft-dirty bits");
	memset(data, 0x5a, sizeof(data));
	ASSERT_EQ(0, begin_slow_write(&writing, self->memory + 3 * PAGE, PAGE));
	store(self->memory + 9 * PAGE, 43);
	ASSERT_EQ(0, clear_soft_dirty());
	EXPECT_SOFT_DIRTY(1 << 3);
	ASSERT_EQ(0, end_slow_write(&writing, data));
	EXPECT_WORD(0x5a5a5a5a5a5a5a5a, load(self->memory + 3 * PAGE));
	EXPECT_SOFT_DIRTY(1 << 3);
	ASSERT_EQ(0, clear_soft_dirty());
	EXPECT_SOFT_DIRTY(0);
}

/* Memory that is sealed stays although its entries go: what they said stays, too. */
TEST_F(page_state, soft_dirty_and_sealed)
{
	int discarded;

	if (!has_soft_dirty())
		SKIP(return, "the kernel has no soft-dirty bits");
	ASSERT_EQ(0, clear_soft_dirty());
	store(self->memory + 3 * PAGE, 42);
	store(self->memory + 9 * PAGE, 43);
	ASSERT_EQ(0, mprotect(self->memory, PAGES * PAGE, PROT_READ));
	if (syscall(SYS_mseal, self->memory, PAGES * PAGE, 0))
		SKIP(return, "the kernel has no mseal()");
	discarded = madvise(self->memory, PAGES * PAGE, MADV_DONTNEED);
	EXPECT_EQ(variant->device ? 0 : -1, discarded);
	EXPECT_WORD(42, load(self->memory + 3 * PAGE));
	EXPECT_WORD(43, load(self->memory + 9 * PAGE));
	EXPECT_EQ(WRITTEN, WRITTEN & pages_that_are(PAGEMAP_SOFT_DIRTY, self->memory, PAGES));
}

static long nobody_finds_in_core(void *memory, long unused)
{
	(void)unused;
	if (become_nobody())
		abort();
	return pages_in_core(memory, PAGES);
}

/* What is in memory is told also to who is not the one who has mapped it any more. */
TEST_F(page_state, mincore_without_rights)
{
	char *memory = map_private(variant->device, PAGES);
	struct peer *child = fork_peer();

	ASSERT_NE(MAP_FAILED, memory);
	ASSERT_NE(NULL, child);
	store(memory + 3 * PAGE, 1);
	EXPECT_EQ(0, peer_call(child, nobody_finds_in_core, memory, 0));
	EXPECT_EQ(1 << 3, pages_in_core(memory, PAGES));
	end_peer(child);
}

/* Dumps as those of a checkpoint: each has what was written since the one before, as far as soft-dirty bits tell. */
TEST_F(page_state, dumps_of_what_was_written)
{
	enum { FORKS = 10 };
	struct random random = { 1 };
	uint64_t image[PAGES];

	if (!has_soft_dirty())
		SKIP(return, "the kernel has no soft-dirty bits");
	for (size_t i = 0; i < PAGES; i++)
		image[i] = word(1, i);
	ASSERT_EQ(0, clear_soft_dirty());
	for (size_t round = 0; round < FORKS; round++) {
		struct peer *child;
		uint64_t dirty;

		for (size_t i = 0; i < PAGES / 8; i++) {
			size_t page = below(&random, PAGES);

			/* Before the fork and after. */
			if (i == PAGES / 16) {
				child = fork_peer();
				ASSERT_NE(NULL, child);
			}
			EXPECT_EQ(0, store(self->memory + page * PAGE, next(&random)).signal);
		}
		peer_load(child, self->memory + below(&random, PAGES) * PAGE);
		if (variant->device && round % 3 == 2) {
			ASSERT_EQ(0, soft_offline(true, self->memory + below(&random, PAGES) * PAGE));
		}
		dirty = pages_that_are(PAGEMAP_SOFT_DIRTY, self->memory, PAGES);
		for (size_t i = 0; i < PAGES; i++)
			if (dirty >> i & 1)
				image[i] = load(self->memory + i * PAGE).value;
		EXPECT_NE(ALL, dirty);
		ASSERT_EQ(0, clear_soft_dirty());
	}
	for (size_t i = 0; i < PAGES; i++)
		EXPECT_WORD(image[i], load(self->memory + i * PAGE));
}

/* A child knows no better than that all may have been written; what is moved was, as far as core mm says. */
TEST_F(page_state, soft_dirty_of_children_and_of_what_is_moved)
{
	struct peer *children[20];
	char *moved;

	if (!has_soft_dirty())
		SKIP(return, "the kernel has no soft-dirty bits");
	ASSERT_EQ(0, clear_soft_dirty());
	store(self->memory, 7);
	if (!fork()) {
		for (size_t i = 0; i < PAGES; i++)
			load(self->memory + i * PAGE);
		_exit(!(pages_that_are(PAGEMAP_SOFT_DIRTY, self->memory, PAGES) & 1));
	} else {
		int status;

		wait(&status);
		EXPECT_EQ(0, status);
	}
	/* So many that the next fork takes all out of page tables. */
	for (size_t i = 0; i < sizeof(children) / sizeof(*children); i++) {
		store(self->memory, i);
		children[i] = fork_peer();
		ASSERT_NE(NULL, children[i]);
	}
	ASSERT_EQ(0, clear_soft_dirty());
	moved = reserve(PAGES);
	ASSERT_EQ(moved, mremap(self->memory, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, moved));
	for (size_t i = 0; i < PAGES; i++)
		load(moved + i * PAGE);
	EXPECT_EQ(ALL, pages_that_are(PAGEMAP_SOFT_DIRTY, moved, PAGES));
}

/* The entry of a guard page is nobody's to change. */
TEST_F(page_state, guard_page_over_fork)
{
	char *guard = self->memory + 5 * PAGE;
	struct peer *child;
	uint64_t before;

	child = fork_peer();
	ASSERT_NE(NULL, child);
	ASSERT_EQ(0, madvise(guard, PAGE, MADV_GUARD_INSTALL));
	before = own_pagemap_entry(guard);
	store(self->memory, 7);
	fork_and_wait();
	EXPECT_EQ(before, own_pagemap_entry(guard));
	EXPECT_SIGSEGV(load(guard));
	ASSERT_EQ(0, madvise(guard, PAGE, MADV_GUARD_REMOVE));
	EXPECT_WORD(0, load(guard));
	EXPECT_WORD(word(1, 5), peer_load(child, guard));
	/* Nor by others who share the memory. */
	ASSERT_EQ(0, madvise(guard, PAGE, MADV_GUARD_INSTALL));
	before = own_pagemap_entry(guard);
	peer_store(child, self->memory + PAGE, 7);
	ASSERT_NE(NULL, peer_fork(child));
	EXPECT_EQ(before, own_pagemap_entry(guard));
}

static long oom_score(void)
{
	return number_in("/proc/self/oom_score", "");
}

/* Whom the OOM killer takes for the largest. */
TEST_F(page_state, oom_score)
{
	const size_t pages = (size_t)sysconf(_SC_PHYS_PAGES) / 32;
	char *large = map_private(variant->device, pages);
	long small = oom_score(), score;

	ASSERT_NE(MAP_FAILED, large);
	for (size_t i = 0; i < pages; i++)
		store(large + i * PAGE, 1);
	score = oom_score();
	EXPECT_LE(small + 15, score);
	fork_and_wait();
	EXPECT_LE(score - 1, oom_score());
	ASSERT_EQ(0, munmap(large, pages * PAGE));
	EXPECT_GE(small + 1, oom_score());
}

/* What a child has inherited it has in no page table yet. Returns whether all that it has written says so. */
static bool writes_are_seen(char *memory)
{
	if (clear_soft_dirty())
		return false;
	for (size_t i = 0; i < PAGES; i++)
		store(memory + i * PAGE, i);
	return pages_that_are(PAGEMAP_SOFT_DIRTY, memory, PAGES) == ALL;
}

/* Somebody else's read can map a page while the process is about to. */
TEST_F(page_state, written_while_others_read)
{
	const int rounds = variant->device ? 300 : 10;
	struct random random = { 1 };
	char *memory;

	if (!has_soft_dirty())
		SKIP(return, "the kernel has no soft-dirty bits");
	memory = map_memory(variant->device, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
	ASSERT_NE(MAP_FAILED, memory);
	fill(memory, PAGES, 1);
	for (int round = 0; round < rounds; round++) {
		pid_t child = fork();
		int status = 0;

		if (!child)
			_exit(!writes_are_seen(memory));
		while (!waitpid(child, &status, WNOHANG)) {
			char byte;
			struct iovec here = { &byte, 1 }, there = { memory + below(&random, PAGES) * PAGE, 1 };

			process_vm_readv(child, &here, 1, &there, 1, 0);
		}
		ASSERT_EQ(0, status);
	}
	munmap(memory, PAGES * PAGE);
}

TEST_HARNESS_MAIN
