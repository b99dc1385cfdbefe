// SPDX-License-Identifier: GPL-2.0-only
/* Guard pages (MADV_GUARD_INSTALL): fork then copies page tables, which it does not do otherwise. */
#include "lib/fixture.h"

FIXTURE_ON_DEVICE(guard, 64, false);

TEST_F(guard, no_access_until_it_is_removed)
{
	fill(self->memory, self->pages, 1);
	ASSERT_EQ(0, madvise(self->memory + PAGE, PAGE, MADV_GUARD_INSTALL));
	EXPECT_SIGSEGV(load(self->memory + PAGE));
	EXPECT_SIGSEGV(store(self->memory + PAGE, 1));
	EXPECT_TRUE(filled(self->memory, 0, 1, 1));
	EXPECT_TRUE(filled(self->memory, 2, 62, 1));
	ASSERT_EQ(0, madvise(self->memory + PAGE, PAGE, MADV_GUARD_REMOVE));
	EXPECT_TRUE(zeroed(self->memory + PAGE, 1));
}

TEST_F(guard, a_child_inherits_it_and_copies_on_write_beside_it)
{
	struct peer *child;

	fill(self->memory, self->pages, 1);
	ASSERT_EQ(0, madvise(self->memory + PAGE, PAGE, MADV_GUARD_INSTALL));
	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_SIGSEGV(peer_load(child, self->memory + PAGE));
	EXPECT_WORD(7, store(self->memory, 7));
	EXPECT_WORD(1UL << 32, peer_load(child, self->memory));
	EXPECT_WORD(9, peer_store(child, self->memory, 9));
	EXPECT_WORD(7, load(self->memory));
	end_peer(child);
}

/* What a page table maps has to be in the rmap, also if it was not a fault that mapped it. */
TEST_F(guard, a_failure_reaches_a_child_that_inherited_page_tables)
{
	struct peer *first, *second;
	const uint64_t word = PAGE / sizeof(word);

	fill(self->memory, self->pages, 1);
	first = fork_peer();
	ASSERT_NE(NULL, first);
	/* Mapped again, read-only. */
	EXPECT_TRUE(filled(self->memory, 0, self->pages, 1));
	ASSERT_EQ(0, madvise(self->memory + 40 * PAGE, PAGE, MADV_GUARD_INSTALL));
	second = fork_peer();
	ASSERT_NE(NULL, second);
	EXPECT_WORD(1UL << 32 | 2 * word, peer_load(second, self->memory + 2 * PAGE));
	ASSERT_EQ(0, poison_addr(getpid(), self->memory + PAGE));
	EXPECT_SIGBUS(self->memory + PAGE, load(self->memory + PAGE));
	EXPECT_SIGBUS(self->memory + PAGE, peer_load(first, self->memory + PAGE));
	EXPECT_SIGBUS(self->memory + PAGE, peer_load(second, self->memory + PAGE));
	end_peer(second);
	end_peer(first);
}

TEST_HARNESS_MAIN
