// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that is written in order: what is mapped behind a write becomes writable in advance. Nobody is to notice
 * but by fewer faults.
 */
#include <sys/uio.h>
#include "lib/fixture.h"

#define PAGES 64
/* So many pages, aligned in addresses, are made writable at once. */
#define WINDOW 16

/* Memory that has pages, none of which was written since. */
FIXTURE(write_in_order)
{
	char *memory;
};

FIXTURE_VARIANT(write_in_order)
{
	bool device;
	int flags;
};

FIXTURE_VARIANT_ADD(write_in_order, private) { .device = true, .flags = MAP_PRIVATE };
FIXTURE_VARIANT_ADD(write_in_order, shared) { .device = true, .flags = MAP_SHARED };
FIXTURE_VARIANT_ADD(write_in_order, anonymous) { .device = false, .flags = MAP_PRIVATE };

FIXTURE_SETUP(write_in_order)
{
	const size_t size = (PAGES + WINDOW) * PAGE, alignment = WINDOW * PAGE;
	char *memory = map_memory(variant->device, size, PROT_READ | PROT_WRITE, variant->flags | MAP_POPULATE);

	ASSERT_NE(MAP_FAILED, memory);
	ASSERT_EQ(0, madvise(memory, size, MADV_NOHUGEPAGE));
	self->memory = (char *)(((uintptr_t)memory + alignment - 1) & ~(alignment - 1));
}

FIXTURE_LEAVES_NOTHING(write_in_order);

#define EXPECT_WRITTEN(memory, first, last, word) do {				\
	for (ssize_t page = first; page <= (ssize_t)(last); page++)		\
		EXPECT_WORD(word, store((memory) + page * PAGE, word));		\
} while (0)

#define EXPECT_PEER_SEES(peer, memory, first, last, word) do {			\
	for (size_t page = first; page <= (last); page++)			\
		EXPECT_WORD(word, peer_load(peer, (memory) + page * PAGE));	\
} while (0)

static long faults_of_writes(char *memory, size_t step)
{
	long before = counter("faults_total");

	for (size_t i = 0; i < PAGES; i++)
		store(memory + i * step % PAGES * PAGE, i);
	return counter("faults_total") - before;
}

/* One until it is seen that they are in order, and then one for each window; one more if somebody looks at a page just then. */
TEST_F(write_in_order, takes_few_faults)
{
	if (!variant->device)
		SKIP(return, "the driver counts its own");
	EXPECT_GE(2 + PAGES / WINDOW, faults_of_writes(self->memory, 1));
	EXPECT_EQ(0, faults_of_writes(self->memory, 1));
}

/* And each where it is not. */
TEST_F(write_in_order, out_of_order)
{
	if (!variant->device)
		SKIP(return, "the driver counts its own");
	EXPECT_EQ(PAGES, faults_of_writes(self->memory, 7));
}

TEST_F(write_in_order, what_is_not_written_is_not_soft_dirty)
{
	const uint64_t first = (1 << 8) - 1;

	if (!has_soft_dirty())
		SKIP(return, "the kernel has no soft-dirty bits");
	ASSERT_EQ(0, clear_soft_dirty());
	EXPECT_WRITTEN(self->memory, 0, 7, 1);
	EXPECT_EQ(first, pages_that_are(PAGEMAP_SOFT_DIRTY, self->memory, PAGES));
	EXPECT_WRITTEN(self->memory, 12, 12, 1);
	EXPECT_EQ(first | 1 << 12, pages_that_are(PAGEMAP_SOFT_DIRTY, self->memory, PAGES));
}

/* What was made writable is shared by a fork as what was written. */
TEST_F(write_in_order, a_fork_after_it)
{
	const bool is_shared = variant->flags & MAP_SHARED;
	struct peer *child;

	EXPECT_WRITTEN(self->memory, 0, 1, 1);
	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_WRITTEN(self->memory, 2, 15, 2);
	EXPECT_PEER_SEES(child, self->memory, 0, 1, 1);
	EXPECT_PEER_SEES(child, self->memory, 2, 15, is_shared ? 2 : 0);
	/* Nor does the parent see what the child writes. */
	for (size_t i = 16; i < 32; i++)
		EXPECT_WORD(3, peer_store(child, self->memory + i * PAGE, 3));
	for (size_t i = 16; i < 32; i++)
		EXPECT_WORD(is_shared ? 3 : 0, load(self->memory + i * PAGE));
}

/* Some of the pages behind are those of a child, too. */
TEST_F(write_in_order, beside_what_is_shared)
{
	const bool is_shared = variant->flags & MAP_SHARED;
	struct peer *child = fork_peer(), *gone;

	ASSERT_NE(NULL, child);
	EXPECT_PEER_SEES(child, self->memory, 0, PAGES - 1, 0);
	/* Copies, of these. */
	EXPECT_WRITTEN(self->memory, 0, 1, 1);
	for (size_t i = 2; i < PAGES; i += 2)
		EXPECT_WRITTEN(self->memory, i, i, 1);
	/* They become read-only once more. */
	gone = fork_peer();
	ASSERT_NE(NULL, gone);
	end_peer(gone);
	EXPECT_WRITTEN(self->memory, 0, PAGES - 1, 2);
	EXPECT_PEER_SEES(child, self->memory, 0, PAGES - 1, is_shared ? 2 : 0);
}

/* What a pipe has of page 5 when a part of the memory has been written in order, since it got that after @before pages were. */
#define EXPECT_IN_PIPE(expected, memory, before) do {				\
	struct iovec spliced = { (memory) + 5 * PAGE, PAGE };			\
	uint64_t content[PAGE / sizeof(uint64_t)];				\
	int ends[2];								\
										\
	ASSERT_EQ(0, pipe(ends));						\
	EXPECT_WRITTEN(memory, 0, (before) - 1, 1);				\
	ASSERT_EQ(PAGE, vmsplice(ends[1], &spliced, 1, 0));			\
	EXPECT_WRITTEN(memory, before, 15, 1);					\
	ASSERT_EQ(PAGE, read(ends[0], content, PAGE));				\
	EXPECT_EQ(expected, content[0]);					\
	close(ends[0]);								\
	close(ends[1]);								\
} while (0)

/* Who has taken a page before it was written, by vmsplice(), does not see what is. */
TEST_F(write_in_order, what_a_pipe_has)
{
	if (!variant->device || variant->flags & MAP_SHARED)
		SKIP(return, "it does, where the page is not that of private memory of the device");
	EXPECT_IN_PIPE(0, self->memory, 0);
}

/* But who has taken it after the pages before it were does, as if it had been written with these; see rust/limits.md. */
TEST_F(write_in_order, what_a_pipe_gets_later)
{
	EXPECT_IN_PIPE(1, self->memory, 2);
}

TEST_F(write_in_order, what_has_failed)
{
	if (!variant->device)
		SKIP(return, "it is the driver's");
	ASSERT_EQ(0, poison_pfn(pfn_of(self->memory + 5 * PAGE)));
	EXPECT_WRITTEN(self->memory, 0, 4, 1);
	EXPECT_SIGBUS(self->memory + 5 * PAGE, store(self->memory + 5 * PAGE, 1));
	EXPECT_WRITTEN(self->memory, 6, 15, 1);
}

TEST_F(write_in_order, what_must_not_be_written)
{
	ASSERT_EQ(0, mprotect(self->memory + 4 * PAGE, 4 * PAGE, PROT_READ));
	EXPECT_WRITTEN(self->memory, 0, 3, 1);
	EXPECT_SIGSEGV(store(self->memory + 4 * PAGE, 1));
	EXPECT_SIGSEGV(store(self->memory + 7 * PAGE, 1));
	EXPECT_WRITTEN(self->memory, 8, PAGES - 1, 1);
	ASSERT_EQ(0, mprotect(self->memory, PAGES * PAGE, PROT_READ));
	EXPECT_SIGSEGV(store(self->memory, 1));
	EXPECT_SIGSEGV(store(self->memory + 63 * PAGE, 1));
}

TEST_HARNESS_MAIN
