// SPDX-License-Identifier: GPL-2.0-only
/* What the system promises (Committed_AS) by memory of the device, and when it refuses to: as for anonymous memory. */
#include "lib/fixture.h"

#define MEBIBYTE (1UL << 20)
#define SIZE (256 * MEBIBYTE)
#define QUARTER (SIZE / 4)
/* Committed_AS is a sum of what each CPU has counted, and not exact. */
#define TOLERANCE (16 * MEBIBYTE)

#define OVERCOMMIT "/proc/sys/vm/overcommit_memory"

/* In bytes. */
static long committed(void)
{
	return number_in("/proc/meminfo", "Committed_AS:") * 1024;
}

FIXTURE(commit_charge)
{
	long before;
	/* What is set of the three modes. */
	char overcommit;
};

FIXTURE_VARIANTS_ON_BOTH(commit_charge);

FIXTURE_SETUP(commit_charge)
{
	char *overcommit = read_file(OVERCOMMIT);

	ASSERT_NE(NULL, overcommit);
	self->overcommit = *overcommit;
	self->before = committed();
	ASSERT_LT(0, self->before);
}

/* In the parent, since the memory goes with the process. */
FIXTURE_TEARDOWN_PARENT(commit_charge)
{
	write_file(OVERCOMMIT, &self->overcommit, 1);
	EXPECT_STREQ("", leak());
}

/* How much more is committed than @before; waits until that is about @expected, since files are closed a while later. */
static long committed_since(long before, long expected)
{
	struct patience patience = patience_for(5);
	long more;

	do {
		more = committed() - before;
		if (labs(more - expected) < (long)TOLERANCE)
			return expected;
		usleep(10000);
	} while (!ran_out(&patience));
	return more;
}

#define EXPECT_COMMITTED(expected_bytes)				\
	EXPECT_EQ((long)(expected_bytes), committed_since(self->before, expected_bytes))

TEST_F(commit_charge, private_memory_is_charged_when_it_becomes_writable)
{
	char *memory = map_memory(variant->device, SIZE, PROT_NONE, MAP_PRIVATE);
	struct peer *child;

	ASSERT_NE(MAP_FAILED, memory);
	EXPECT_COMMITTED(0);
	ASSERT_EQ(0, mprotect(memory, QUARTER, PROT_READ | PROT_WRITE));
	EXPECT_COMMITTED(QUARTER);
	EXPECT_WORD(1, store(memory, 1));
	/* It stays charged, and once is enough. */
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(0, mprotect(memory, QUARTER, PROT_NONE));
		ASSERT_EQ(0, mprotect(memory, QUARTER, PROT_READ | PROT_WRITE));
	}
	EXPECT_COMMITTED(QUARTER);
	ASSERT_EQ(0, mprotect(memory + 2 * QUARTER, QUARTER, PROT_READ | PROT_WRITE));
	EXPECT_COMMITTED(2 * QUARTER);
	ASSERT_EQ(0, mprotect(memory, SIZE, PROT_READ | PROT_WRITE));
	EXPECT_COMMITTED(SIZE);
	for (size_t i = 0; i < 4; i++)
		EXPECT_WORD(i, store(memory + i * QUARTER, i));
	/* A child has as much. */
	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_COMMITTED(2 * SIZE);
	end_peer(child);
	EXPECT_COMMITTED(SIZE);
	/* Out of the middle of one part, and the end of another. */
	ASSERT_EQ(0, munmap(memory + QUARTER / 4, QUARTER / 4));
	ASSERT_EQ(0, munmap(memory + 2 * QUARTER - QUARTER / 2, QUARTER / 2));
	EXPECT_COMMITTED(SIZE - 3 * QUARTER / 4);
	EXPECT_WORD(2, load(memory + 2 * QUARTER));
	ASSERT_EQ(0, munmap(memory, SIZE));
	EXPECT_COMMITTED(0);
}

TEST_F(commit_charge, private_memory_is_charged_when_it_is_mapped_moved_and_grown)
{
	char *memory = map_memory(variant->device, QUARTER, PROT_READ | PROT_WRITE, MAP_PRIVATE), *target;

	ASSERT_NE(MAP_FAILED, memory);
	EXPECT_COMMITTED(QUARTER);
	ASSERT_EQ(0, munmap(memory, QUARTER));
	memory = map_memory(variant->device, QUARTER, PROT_READ, MAP_PRIVATE);
	EXPECT_COMMITTED(0);
	ASSERT_EQ(0, mprotect(memory, QUARTER, PROT_READ | PROT_WRITE));
	EXPECT_WORD(1, store(memory, 1));
	EXPECT_COMMITTED(QUARTER);
	target = mmap(NULL, SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_EQ(target, mremap(memory, QUARTER, QUARTER, MREMAP_MAYMOVE | MREMAP_FIXED, target));
	EXPECT_COMMITTED(QUARTER);
	ASSERT_EQ(0, munmap(target + QUARTER, SIZE - QUARTER));
	ASSERT_EQ(target, mremap(target, QUARTER, 2 * QUARTER, 0));
	/* For the device, at the first touch. */
	EXPECT_WORD(2, store(target + QUARTER, 2));
	EXPECT_COMMITTED(2 * QUARTER);
	ASSERT_EQ(target, mremap(target, 2 * QUARTER, QUARTER / 2, 0));
	EXPECT_COMMITTED(QUARTER / 2);
	EXPECT_WORD(1, load(target));
	ASSERT_EQ(0, munmap(target, QUARTER / 2));
	EXPECT_COMMITTED(0);
}

TEST_F(commit_charge, shared_memory_is_charged_as_long_as_somebody_has_it)
{
	char *memory = map_memory(variant->device, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED);
	struct peer *child;

	ASSERT_NE(MAP_FAILED, memory);
	EXPECT_COMMITTED(SIZE);
	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_COMMITTED(SIZE);
	ASSERT_EQ(0, munmap(memory, SIZE));
	EXPECT_COMMITTED(SIZE);
	end_peer(child);
	EXPECT_COMMITTED(0);
}

TEST_F(commit_charge, nothing_is_reserved_if_so_asked)
{
	char *memory = map_memory(variant->device, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE);
	char *shared = map_memory(variant->device, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE);
	char *none = map_memory(variant->device, SIZE, PROT_NONE, MAP_PRIVATE | MAP_NORESERVE);

	ASSERT_NE(MAP_FAILED, memory);
	ASSERT_NE(MAP_FAILED, shared);
	ASSERT_NE(MAP_FAILED, none);
	ASSERT_EQ(0, mprotect(none, SIZE, PROT_READ | PROT_WRITE));
	EXPECT_COMMITTED(0);
}

/* The commit limit is not above that. */
static size_t more_than_there_is(void)
{
	return 8UL * sysconf(_SC_PHYS_PAGES) * PAGE;
}

TEST_F(commit_charge, more_than_there_is_is_refused)
{
	const size_t size = more_than_there_is();
	char *memory;

	ASSERT_EQ(0, write_text(OVERCOMMIT, "2"));
	EXPECT_EQ(MAP_FAILED, map_memory(variant->device, size, PROT_READ | PROT_WRITE, MAP_PRIVATE));
	EXPECT_EQ(ENOMEM, errno);
	/* MAP_NORESERVE means nothing then. */
	EXPECT_EQ(MAP_FAILED, map_memory(variant->device, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE));
	EXPECT_EQ(ENOMEM, errno);
	memory = map_memory(variant->device, size, PROT_NONE, MAP_PRIVATE);
	ASSERT_NE(MAP_FAILED, memory);
	EXPECT_EQ(-1, mprotect(memory, size, PROT_READ | PROT_WRITE));
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_EQ(-1, mprotect(memory + PAGE, size - 2 * PAGE, PROT_READ | PROT_WRITE));
	EXPECT_EQ(ENOMEM, errno);
	/* Nothing has changed. */
	EXPECT_SIGSEGV(load(memory));
	EXPECT_EQ(0, mprotect(memory + PAGE, PAGE, PROT_READ | PROT_WRITE));
	EXPECT_WORD(1, store(memory + PAGE, 1));
	ASSERT_EQ(0, munmap(memory, size));
	EXPECT_COMMITTED(0);
}

/* What the system can't promise fails where it is used, not where the mapping is cut. */
TEST_F(commit_charge, what_grew_beyond_the_promise_can_be_cut)
{
	const size_t much = 1UL << 45;
	char *memory = map_memory(variant->device, much, PROT_NONE, MAP_PRIVATE);

	ASSERT_NE(MAP_FAILED, memory);
	ASSERT_EQ(0, munmap(memory + SIZE, much - SIZE));
	ASSERT_EQ(0, mprotect(memory, SIZE, PROT_READ | PROT_WRITE));
	EXPECT_WORD(1, store(memory, 1));
	ASSERT_EQ(0, write_text(OVERCOMMIT, "2"));
	if (mremap(memory, SIZE, much, 0) == MAP_FAILED) {
		EXPECT_FALSE(variant->device);
		EXPECT_EQ(ENOMEM, errno);
		return;
	}
	/* Core mm does not ask the driver when it grows a mapping. */
	EXPECT_TRUE(variant->device);
	EXPECT_EQ(SIGBUS, store(memory + 2 * SIZE, 1).signal);
	EXPECT_EQ(0, munmap(memory + QUARTER, PAGE));
	EXPECT_EQ(0, mprotect(memory + 2 * QUARTER, PAGE, PROT_READ));
	EXPECT_EQ(SIGBUS, store(memory + 2 * SIZE, 1).signal);
	EXPECT_EQ(SIGBUS, store(memory + much - PAGE, 1).signal);
	EXPECT_WORD(1, load(memory));
	EXPECT_WORD(2, store(memory + PAGE, 2));
	ASSERT_EQ(0, munmap(memory + SIZE, much - SIZE));
	EXPECT_WORD(3, store(memory + 2 * QUARTER + PAGE, 3));
	ASSERT_EQ(0, munmap(memory, SIZE));
	EXPECT_COMMITTED(0);
}

TEST_HARNESS_MAIN
