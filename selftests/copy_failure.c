// SPDX-License-Identifier: GPL-2.0-only
/*
 * A page that can't be read any more when it is to be copied: that is a failure of the page. The kernel is told that the
 * frame is bad, and marks it; whoever is faster, the copy or who takes the page away for that, nobody gets a copy.
 */
#include "lib/fixture.h"
#include "lib/hwpoison.h"
#include "lib/pool.h"

FIXTURE(copy_failure)
{
	char *memory;
	size_t pages;
	struct peer *child;
	uint64_t pfn;
	/* Before the failure. */
	long quarantined;
};

FIXTURE_SETUP(copy_failure)
{
	uint64_t first_pfn;

	if (pool(&first_pfn))
		SKIP(return, "the driver is told at once");
	if (!has_hwpoison_inject())
		SKIP(return, "no hwpoison-inject");
	self->pages = 4;
	self->memory = map_device(self->pages, MAP_PRIVATE);
	ASSERT_NE(MAP_FAILED, self->memory);
	fill(self->memory, self->pages, 1);
	self->child = fork_peer();
	ASSERT_NE(NULL, self->child);
	EXPECT_WORD(1UL << 32, load(self->memory));
	self->pfn = pfn_of(self->memory);
	self->quarantined = counter("quarantined");
	ASSERT_EQ(EBUSY, print_to_file(HWPOISON_CORRUPT_PFN, "%#lx", self->pfn));
}

FIXTURE_LEAVES_NOTHING(copy_failure);

TEST_F(copy_failure, copy_on_write)
{
	struct poisoned page;

	EXPECT_SIGBUS(self->memory + 8, peer_store(self->child, self->memory + 8, 7));
	ASSERT_TRUE(await(is_taken_away, self->pfn));
	ASSERT_TRUE(read_poisoned(self->pfn, &page));
	EXPECT_STREQ("simulated", page.kind);
	EXPECT_STREQ("memory_failure", page.source);
	EXPECT_SIGBUS(self->memory + 8, load(self->memory + 8));
	EXPECT_SIGBUS(self->memory + 8, peer_load(self->child, self->memory + 8));
	EXPECT_TRUE(filled(self->memory, 1, self->pages - 1, 1));
	EXPECT_WORD(7, peer_store(self->child, self->memory + PAGE, 7));
}

TEST_F(copy_failure, soft_offline)
{
	struct poisoned page;

	EXPECT_EQ(EHWPOISON, soft_offline_pfn(self->pfn));
	ASSERT_TRUE(await(is_taken_away, self->pfn));
	ASSERT_TRUE(read_poisoned(self->pfn, &page));
	EXPECT_STREQ("memory_failure", page.source);
	EXPECT_SIGBUS(self->memory, load(self->memory));
}

TEST_F(copy_failure, frame_is_never_used_again)
{
	EXPECT_SIGBUS(self->memory, peer_store(self->child, self->memory, 7));
	ASSERT_TRUE(await(is_poisoned, self->pfn));
	end_peer(self->child);
	ASSERT_EQ(0, madvise(self->memory, PAGE, MADV_DONTNEED));
	EXPECT_TRUE(await(is_quarantined, self->quarantined + 1));
	EXPECT_FALSE(is_poisoned(self->pfn));
	EXPECT_EQ(ENXIO, poison_pfn(self->pfn));
	EXPECT_TRUE(zeroed(self->memory, 1));
	EXPECT_NE(self->pfn, pfn_of(self->memory));
}

TEST_HARNESS_MAIN
