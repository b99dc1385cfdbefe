// SPDX-License-Identifier: GPL-2.0-only
/* madvise() and mlock() of memory of the device do what they do for anonymous memory. */
#include <sys/syscall.h>

#include "lib/fixture.h"

#define PAGES 64

FIXTURE_ON_DEVICE(madvise, PAGES, true);

static long dontneed_here(void *memory, long pages)
{
	return madvise(memory, pages * PAGE, MADV_DONTNEED) ? errno : 0;
}

TEST_F(madvise, dontneed_gives_zeroes_and_frees_the_pages)
{
	ASSERT_EQ(0, madvise(self->memory + 8 * PAGE, 16 * PAGE, MADV_DONTNEED));
	EXPECT_EQ(PAGES - 16, counter("anons"));
	EXPECT_TRUE(filled(self->memory, 0, 8, 1));
	EXPECT_TRUE(zeroed(self->memory + 8 * PAGE, 16));
	EXPECT_TRUE(filled(self->memory, 24, PAGES - 24, 1));
	/* Reading needs none. */
	EXPECT_EQ(PAGES - 16, counter("anons"));
	fill(self->memory, PAGES, 2);
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 2));
	EXPECT_EQ(PAGES, counter("anons"));
}

TEST_F(madvise, dontneed_of_untouched_memory_does_nothing)
{
	char *untouched = map_device(PAGES, MAP_PRIVATE);

	ASSERT_NE(MAP_FAILED, untouched);
	ASSERT_EQ(0, madvise(untouched, PAGES * PAGE, MADV_DONTNEED));
	EXPECT_TRUE(zeroed(untouched, PAGES));
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
}

TEST_F(madvise, dontneed_can_be_repeated)
{
	for (uint64_t i = 0; i < 20; i++) {
		ASSERT_EQ(0, madvise(self->memory, PAGES * PAGE, MADV_DONTNEED));
		EXPECT_EQ(0, counter("anons"));
		EXPECT_WORD(0, load(self->memory + i * PAGE));
		fill(self->memory, PAGES, i);
		EXPECT_TRUE(filled(self->memory, 0, PAGES, i));
	}
}

TEST_F(madvise, dontneed_in_a_child_is_the_childs_alone)
{
	struct peer *child = fork_peer();

	ASSERT_NE(NULL, child);
	EXPECT_WORD(word(1, 5), peer_load(child, self->memory + 5 * PAGE));
	ASSERT_EQ(0, peer_call(child, dontneed_here, self->memory, PAGES));
	EXPECT_WORD(0, peer_load(child, self->memory + 5 * PAGE));
	EXPECT_WORD(7, peer_store(child, self->memory + 6 * PAGE, 7));
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
}

TEST_F(madvise, dontneed_in_a_parent_is_the_parents_alone)
{
	struct peer *child = fork_peer();

	ASSERT_NE(NULL, child);
	/* Before the child maps anything. */
	ASSERT_EQ(0, madvise(self->memory, PAGES * PAGE, MADV_DONTNEED));
	EXPECT_TRUE(zeroed(self->memory, PAGES));
	for (size_t i = 0; i < PAGES; i++)
		EXPECT_WORD(word(1, i), peer_load(child, self->memory + i * PAGE));
}

TEST_F(madvise, dontneed_of_what_is_shared_but_not_mapped)
{
	struct peer *child = fork_peer();

	ASSERT_NE(NULL, child);
	/* The child has no page table for it. */
	ASSERT_EQ(0, peer_call(child, dontneed_here, self->memory, PAGES));
	for (size_t i = 0; i < PAGES; i++)
		EXPECT_WORD(0, peer_load(child, self->memory + i * PAGE));
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
}

TEST_F(madvise, dontneed_of_split_vmas)
{
	for (size_t i = 0; i < PAGES; i += 2) {
		ASSERT_EQ(0, mprotect(self->memory + i * PAGE, PAGE, PROT_READ));
	}
	ASSERT_EQ(0, madvise(self->memory + 7 * PAGE, 18 * PAGE, MADV_DONTNEED));
	EXPECT_TRUE(filled(self->memory, 0, 7, 1));
	EXPECT_TRUE(zeroed(self->memory + 7 * PAGE, 18));
	EXPECT_TRUE(filled(self->memory, 25, PAGES - 25, 1));
}

TEST_F(madvise, dontneed_of_moved_memory)
{
	char *target = reserve(PAGES);

	ASSERT_EQ(target, mremap(self->memory + 8 * PAGE, 16 * PAGE, 16 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target));
	ASSERT_EQ(0, madvise(target + PAGE, 2 * PAGE, MADV_DONTNEED));
	EXPECT_WORD(word(1, 8), load(target));
	EXPECT_TRUE(zeroed(target + PAGE, 2));
	EXPECT_WORD(word(1, 11), load(target + 3 * PAGE));
	EXPECT_EQ(PAGES - 2, counter("anons"));
}

TEST_F(madvise, dontneed_of_large_memory)
{
	enum { MANY = 2048 };
	char *large = map_device(MANY, MAP_PRIVATE);

	ASSERT_NE(MAP_FAILED, large);
	fill(large, MANY, 1);
	/* Over whole page tables and parts of them. */
	ASSERT_EQ(0, madvise(large + 100 * PAGE, 1500 * PAGE, MADV_DONTNEED));
	EXPECT_EQ(PAGES + MANY - 1500, counter("anons"));
	EXPECT_TRUE(filled(large, 0, 100, 1));
	EXPECT_TRUE(zeroed(large + 100 * PAGE, 1500));
	EXPECT_TRUE(filled(large, 1600, MANY - 1600, 1));
}

TEST_F(madvise, dontfork_keeps_memory_from_children)
{
	struct peer *child;

	ASSERT_EQ(0, madvise(self->memory + 8 * PAGE, 8 * PAGE, MADV_DONTFORK));
	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_WORD(word(1, 7), peer_load(child, self->memory + 7 * PAGE));
	EXPECT_SIGSEGV(peer_load(child, self->memory + 8 * PAGE));
	EXPECT_SIGSEGV(peer_load(child, self->memory + 15 * PAGE));
	EXPECT_WORD(word(1, 16), peer_load(child, self->memory + 16 * PAGE));
	EXPECT_EQ(3 + 2, counter("vmas"));
	ASSERT_EQ(0, madvise(self->memory, PAGES * PAGE, MADV_DOFORK));
	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_WORD(word(1, 8), peer_load(child, self->memory + 8 * PAGE));
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
}

TEST_F(madvise, populate_read_maps_all)
{
	char *memory = map_device(PAGES, MAP_PRIVATE);

	ASSERT_NE(MAP_FAILED, memory);
	ASSERT_EQ(0, madvise(memory, PAGES * PAGE, MADV_POPULATE_READ));
	for (size_t i = 0; i < PAGES; i++) {
		EXPECT_NE(0, pfn_of(memory + i * PAGE));
	}
	EXPECT_TRUE(zeroed(memory, PAGES));
}

TEST_F(madvise, populate_write_maps_all_for_writing)
{
	char *memory = map_device(PAGES, MAP_PRIVATE);
	long faults;

	ASSERT_NE(MAP_FAILED, memory);
	ASSERT_EQ(0, madvise(memory, PAGES * PAGE, MADV_POPULATE_WRITE));
	EXPECT_EQ(2 * PAGES, counter("anons"));
	faults = counter("faults_total");
	fill(memory, PAGES, 2);
	EXPECT_EQ(faults, counter("faults_total"));
	EXPECT_TRUE(filled(memory, 0, PAGES, 2));
}

TEST_F(madvise, populate_write_breaks_copy_on_write)
{
	struct peer *child = fork_peer();

	ASSERT_NE(NULL, child);
	ASSERT_EQ(0, madvise(self->memory, PAGES * PAGE, MADV_POPULATE_WRITE));
	EXPECT_EQ(2 * PAGES, counter("anons"));
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
	EXPECT_WORD(word(1, 5), peer_load(child, self->memory + 5 * PAGE));
}

TEST_F(madvise, map_populate_maps_all)
{
	char *memory = map_device(PAGES, MAP_PRIVATE | MAP_POPULATE);

	ASSERT_NE(MAP_FAILED, memory);
	for (size_t i = 0; i < PAGES; i++) {
		EXPECT_NE(0, pfn_of(memory + i * PAGE));
	}
}

/* Who has asked for memory beforehand does not wait for it later. */
TEST_F(madvise, locked_memory_is_mapped_for_writing)
{
	char *memory = map_device(PAGES, MAP_PRIVATE);
	long faults;

	ASSERT_NE(MAP_FAILED, memory);
	ASSERT_EQ(0, mlock(memory, PAGES * PAGE));
	faults = counter("faults_total");
	fill(memory, PAGES, 3);
	EXPECT_EQ(faults, counter("faults_total"));
	EXPECT_TRUE(filled(memory, 0, PAGES, 3));
	ASSERT_EQ(0, munlock(memory, PAGES * PAGE));
}

TEST_F(madvise, locked_memory_is_mapped)
{
	char *memory = map_device(PAGES, MAP_PRIVATE);
	struct peer *child;

	ASSERT_NE(MAP_FAILED, memory);
	ASSERT_EQ(0, mlock(memory, PAGES * PAGE));
	for (size_t i = 0; i < PAGES; i++) {
		EXPECT_NE(0, pfn_of(memory + i * PAGE));
	}
	fill(memory, PAGES, 2);
	/* A child does not inherit the lock, but the memory. */
	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_WORD(7, peer_store(child, memory, 7));
	EXPECT_TRUE(filled(memory, 0, PAGES, 2));
	ASSERT_EQ(0, munlock(memory + 8 * PAGE, 8 * PAGE));
	EXPECT_TRUE(filled(memory, 0, PAGES, 2));
	ASSERT_EQ(0, munmap(memory + 4 * PAGE, 8 * PAGE));
	EXPECT_TRUE(filled(memory, 12, PAGES - 12, 2));
}

TEST_F(madvise, all_memory_can_be_locked)
{
	char *later;

	ASSERT_EQ(0, madvise(self->memory, PAGES * PAGE, MADV_DONTNEED));
	ASSERT_EQ(0, mlockall(MCL_CURRENT | MCL_FUTURE));
	later = map_device(PAGES, MAP_PRIVATE);
	ASSERT_NE(MAP_FAILED, later);
	for (size_t i = 0; i < PAGES; i++) {
		EXPECT_NE(0, pfn_of(self->memory + i * PAGE));
		EXPECT_NE(0, pfn_of(later + i * PAGE));
	}
	EXPECT_EQ(-1, madvise(later, PAGES * PAGE, MADV_DONTNEED));
	EXPECT_EQ(EINVAL, errno);
	ASSERT_EQ(0, munlockall());
	fill(later, PAGES, 2);
	ASSERT_EQ(0, madvise(later, PAGES * PAGE, MADV_DONTNEED));
	EXPECT_TRUE(zeroed(later, PAGES));
	EXPECT_TRUE(zeroed(self->memory, PAGES));
	/* What is locked is in page tables once it is touched. */
	ASSERT_EQ(0, mlockall(MCL_FUTURE | MCL_ONFAULT));
	later = map_device(PAGES, MAP_PRIVATE);
	ASSERT_NE(MAP_FAILED, later);
	EXPECT_EQ(0, pfn_of(later));
	EXPECT_WORD(0, load(later));
	EXPECT_NE(0, pfn_of(later));
	ASSERT_EQ(0, munlockall());
}

TEST_F(madvise, cold_and_pageout_lose_nothing)
{
	EXPECT_EQ(0, madvise(self->memory, PAGES * PAGE, MADV_COLD));
	EXPECT_EQ(0, madvise(self->memory, PAGES * PAGE, MADV_PAGEOUT));
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
	EXPECT_EQ(PAGES, counter("anons"));
}

TEST_F(madvise, advice_about_access_changes_nothing)
{
	static const int advice[] = {
		MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTDUMP, MADV_DODUMP,
		MADV_HUGEPAGE, MADV_NOHUGEPAGE,
	};

	/* Some of it splits, some may be refused. */
	for (size_t i = 0; i < sizeof(advice) / sizeof(*advice); i++) {
		madvise(self->memory + 8 * PAGE, 8 * PAGE, advice[i]);
		EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
	}
	EXPECT_EQ(PAGES, counter("anons"));
}

/* Memory that is sealed keeps what the process could not overwrite. */
FIXTURE(sealed)
{
	char *memory;
};

FIXTURE_VARIANT(sealed)
{
	bool device;
	int advice;
};

FIXTURE_VARIANT_ADD(sealed, device) { .device = true, .advice = MADV_DONTNEED };
FIXTURE_VARIANT_ADD(sealed, device_locked) { .device = true, .advice = MADV_DONTNEED_LOCKED };
FIXTURE_VARIANT_ADD(sealed, anonymous) { .device = false, .advice = MADV_DONTNEED };
FIXTURE_VARIANT_ADD(sealed, anonymous_locked) { .device = false, .advice = MADV_DONTNEED_LOCKED };

FIXTURE_SETUP(sealed)
{
	self->memory = map_private(variant->device, PAGES);
	ASSERT_NE(MAP_FAILED, self->memory);
	fill(self->memory, PAGES, 1);
}

FIXTURE_LEAVES_NOTHING(sealed);

/* To core mm the device's memory is a file's, so the call may succeed; but it changes nothing. */
TEST_F(sealed, read_only_memory_is_not_discarded)
{
	struct peer *child;
	int result;

	ASSERT_EQ(0, mprotect(self->memory, PAGES * PAGE, PROT_READ));
	ASSERT_EQ(0, syscall(SYS_mseal, self->memory, PAGES * PAGE, 0));
	result = madvise(self->memory, PAGES * PAGE, variant->advice);
	if (result || !variant->device) {
		EXPECT_EQ(-1, result);
		EXPECT_EQ(EPERM, errno);
	}
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
	/* A child inherits the seal. */
	child = fork_peer();
	ASSERT_NE(NULL, child);
	peer_call(child, dontneed_here, self->memory, PAGES);
	EXPECT_WORD(word(1, 5), peer_load(child, self->memory + 5 * PAGE));
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
}

TEST_F(sealed, writable_memory_is_discarded)
{
	ASSERT_EQ(0, syscall(SYS_mseal, self->memory, PAGES * PAGE, 0));
	ASSERT_EQ(0, madvise(self->memory, PAGES * PAGE, variant->advice));
	EXPECT_TRUE(zeroed(self->memory, PAGES));
}

TEST_F(sealed, the_writable_part_is_discarded)
{
	int result;

	ASSERT_EQ(0, mprotect(self->memory + 8 * PAGE, 8 * PAGE, PROT_READ));
	ASSERT_EQ(0, syscall(SYS_mseal, self->memory, PAGES * PAGE, 0));
	/* Anonymous memory is discarded up to where it may not be. */
	result = madvise(self->memory, PAGES * PAGE, variant->advice);
	EXPECT_TRUE(zeroed(self->memory, 8));
	EXPECT_TRUE(filled(self->memory, 8, 8, 1));
	EXPECT_EQ(!result, zeroed(self->memory + 16 * PAGE, PAGES - 16));
	ASSERT_EQ(0, madvise(self->memory + 16 * PAGE, (PAGES - 16) * PAGE, variant->advice));
	EXPECT_TRUE(zeroed(self->memory + 16 * PAGE, PAGES - 16));
}

TEST_HARNESS_MAIN
