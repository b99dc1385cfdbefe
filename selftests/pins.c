// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages that the kernel uses for somebody (pinned for a write to memory, or in a pipe) while they are shared by
 * fork, written, moved or dropped. Each test is done on anonymous memory too, which must pass it as well.
 */
#include "lib/fixture.h"
#include "lib/slow_write.h"

#define PAGES 16
/* What is pinned. */
#define FIRST 4UL
#define PINNED 4UL

FIXTURE(pins)
{
	char *memory;
	/* Of the first of the pinned pages. */
	char *pinned;
	int pipe[2];
};

FIXTURE_VARIANTS_ON_BOTH(pins);

FIXTURE_SETUP(pins)
{
	self->memory = map_private(variant->device, PAGES);
	ASSERT_NE(MAP_FAILED, self->memory);
	self->pinned = self->memory + FIRST * PAGE;
	ASSERT_EQ(0, pipe(self->pipe));
}

FIXTURE_LEAVES_NOTHING(pins);

static struct slow_write writing;

/* Begins to write @size bytes to @target; returns 0 or the errno. */
static long begin_writing(void *target, long size)
{
	return begin_slow_write(&writing, target, size);
}

/* Lets the write end, with data filled with @seed; returns how much was written. */
static long end_writing(void *unused, long seed)
{
	static char data[SLOW_WRITE_PAGES * PAGE];
	int error;

	(void)unused;
	fill(data, SLOW_WRITE_PAGES, seed);
	error = end_slow_write(&writing, data);
	return error ? -error : writing.written;
}

static long is_filled(void *memory, long seed)
{
	return filled(memory, 0, PINNED, seed);
}

static long fill_here(void *memory, long seed)
{
	fill(memory, PINNED, seed);
	return 0;
}

TEST_F(pins, pinned_pages_stay_with_the_parent)
{
	struct peer *child, *other;

	fill(self->pinned, PINNED, 1);
	ASSERT_EQ(0, begin_writing(self->pinned, PINNED * PAGE));
	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_TRUE(peer_call(child, is_filled, self->pinned, 1));
	other = fork_peer();
	ASSERT_NE(NULL, other);
	peer_call(child, fill_here, self->pinned, 3);
	ASSERT_EQ(PINNED * PAGE, end_writing(NULL, 2));
	EXPECT_TRUE(is_filled(self->pinned, 2));
	EXPECT_TRUE(peer_call(child, is_filled, self->pinned, 3));
	EXPECT_TRUE(peer_call(other, is_filled, self->pinned, 1));
	/* They are not pinned any more. */
	child = fork_peer();
	ASSERT_NE(NULL, child);
	fill(self->pinned, PINNED, 4);
	EXPECT_TRUE(peer_call(child, is_filled, self->pinned, 2));
}

TEST_F(pins, writes_beside_the_kernels_are_not_lost)
{
	char *half = self->pinned + PAGE / 2;
	struct peer *child;

	fill(self->pinned, PINNED, 1);
	ASSERT_EQ(0, begin_writing(self->pinned, PAGE / 2));
	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_WORD(7, store(half, 7));
	EXPECT_WORD(8, peer_store(child, half, 8));
	ASSERT_EQ(PAGE / 2, end_writing(NULL, 2));
	EXPECT_WORD(word(2, 0), load(self->pinned));
	EXPECT_WORD(7, load(half));
	EXPECT_WORD(word(1, 0), peer_load(child, self->pinned));
	EXPECT_WORD(8, peer_load(child, half));
}

TEST_F(pins, pages_that_nobody_has_touched)
{
	struct peer *child;

	ASSERT_EQ(0, begin_writing(self->pinned, PINNED * PAGE));
	child = fork_peer();
	ASSERT_NE(NULL, child);
	ASSERT_EQ(PINNED * PAGE, end_writing(NULL, 2));
	EXPECT_TRUE(is_filled(self->pinned, 2));
	EXPECT_WORD(0, peer_load(child, self->pinned));
	EXPECT_WORD(0, peer_load(child, self->pinned + (PINNED - 1) * PAGE));
}

TEST_F(pins, pages_pinned_by_a_child_stay_with_it)
{
	struct peer *child, *grandchild;

	fill(self->pinned, PINNED, 1);
	child = fork_peer();
	ASSERT_NE(NULL, child);
	ASSERT_EQ(0, peer_call(child, begin_writing, self->pinned, PINNED * PAGE));
	grandchild = peer_fork(child);
	ASSERT_NE(NULL, grandchild);
	EXPECT_TRUE(peer_call(grandchild, is_filled, self->pinned, 1));
	ASSERT_EQ(PINNED * PAGE, peer_call(child, end_writing, NULL, 2));
	EXPECT_TRUE(peer_call(child, is_filled, self->pinned, 2));
	EXPECT_TRUE(peer_call(grandchild, is_filled, self->pinned, 1));
	EXPECT_TRUE(is_filled(self->pinned, 1));
}

TEST_F(pins, the_write_follows_pages_that_move)
{
	char *target = reserve(PAGES);
	struct peer *child;

	fill(self->pinned, PINNED, 1);
	ASSERT_EQ(0, begin_writing(self->pinned, PINNED * PAGE));
	ASSERT_EQ(target, mremap(self->pinned, PINNED * PAGE, PINNED * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target));
	child = fork_peer();
	ASSERT_NE(NULL, child);
	ASSERT_EQ(PINNED * PAGE, end_writing(NULL, 2));
	EXPECT_TRUE(is_filled(target, 2));
	EXPECT_TRUE(peer_call(child, is_filled, target, 1));
}

TEST_F(pins, a_write_to_pages_that_are_dropped_is_lost)
{
	fill(self->memory, PAGES, 1);
	ASSERT_EQ(0, begin_writing(self->pinned, PINNED * PAGE));
	ASSERT_EQ(0, madvise(self->pinned, 2 * PAGE, MADV_DONTNEED));
	ASSERT_EQ(0, munmap(self->pinned + 2 * PAGE, 2 * PAGE));
	EXPECT_WORD(0, load(self->pinned));
	ASSERT_EQ(PINNED * PAGE, end_writing(NULL, 2));
	EXPECT_TRUE(zeroed(self->pinned, 2));
	EXPECT_SIGSEGV(load(self->pinned + 2 * PAGE));
	EXPECT_TRUE(filled(self->memory, 0, FIRST, 1));
	EXPECT_TRUE(filled(self->memory, FIRST + PINNED, PAGES - FIRST - PINNED, 1));
}

/* Puts the pages at @memory, not copies of them, into a pipe; returns 0 or the errno. */
static long to_pipe(void *memory, long pipe)
{
	struct iovec pages = { memory, PINNED * PAGE };

	return vmsplice(pipe, &pages, 1, 0) == (ssize_t)pages.iov_len ? 0 : errno;
}

/* Whether the pipe has PINNED pages filled with @seed. */
static bool pipe_has(int pipe, uint64_t seed)
{
	static char content[PINNED * PAGE];

	return read(pipe, content, sizeof(content)) == sizeof(content) && filled(content, 0, PINNED, seed);
}

static bool pipe_has_zeroes(int pipe)
{
	static char content[PINNED * PAGE];

	memset(content, 1, sizeof(content));
	return read(pipe, content, sizeof(content)) == sizeof(content) && zeroed(content, PINNED);
}

TEST_F(pins, a_pipe_shows_what_its_only_owner_writes)
{
	fill(self->pinned, PINNED, 1);
	ASSERT_EQ(0, to_pipe(self->pinned, self->pipe[1]));
	fill(self->pinned, PINNED, 2);
	EXPECT_TRUE(pipe_has(self->pipe[0], 2));
	ASSERT_EQ(0, to_pipe(self->pinned, self->pipe[1]));
	/* With other permissions in between, it is the same page. */
	ASSERT_EQ(0, mprotect(self->pinned, PINNED * PAGE, PROT_READ));
	EXPECT_TRUE(is_filled(self->pinned, 2));
	ASSERT_EQ(0, mprotect(self->pinned, PINNED * PAGE, PROT_READ | PROT_WRITE));
	fill(self->pinned, PINNED, 3);
	EXPECT_TRUE(pipe_has(self->pipe[0], 3));
}

TEST_F(pins, an_empty_page_in_a_pipe_stays_empty)
{
	ASSERT_EQ(0, to_pipe(self->pinned, self->pipe[1]));
	fill(self->pinned, PINNED, 1);
	EXPECT_TRUE(pipe_has_zeroes(self->pipe[0]));
	EXPECT_TRUE(is_filled(self->pinned, 1));
	/* As does one that was read before. */
	ASSERT_EQ(0, madvise(self->pinned, PINNED * PAGE, MADV_DONTNEED));
	EXPECT_TRUE(zeroed(self->pinned, PINNED));
	ASSERT_EQ(0, to_pipe(self->pinned, self->pipe[1]));
	fill(self->pinned, PINNED, 1);
	EXPECT_TRUE(pipe_has_zeroes(self->pipe[0]));
}

TEST_F(pins, a_childs_pipe_does_not_show_what_the_parent_writes)
{
	struct peer *child;

	fill(self->pinned, PINNED, 1);
	child = fork_peer();
	ASSERT_NE(NULL, child);
	ASSERT_EQ(0, peer_call(child, to_pipe, self->pinned, self->pipe[1]));
	/* The parent is the only one that maps the pages. */
	ASSERT_EQ(0, peer_munmap(child, self->pinned, PINNED));
	fill(self->pinned, PINNED, 2);
	EXPECT_TRUE(pipe_has(self->pipe[0], 1));
	EXPECT_TRUE(is_filled(self->pinned, 2));
}

TEST_F(pins, a_parents_pipe_does_not_show_what_a_child_writes)
{
	struct peer *child;

	fill(self->pinned, PINNED, 1);
	ASSERT_EQ(0, to_pipe(self->pinned, self->pipe[1]));
	child = fork_peer();
	ASSERT_NE(NULL, child);
	ASSERT_EQ(0, munmap(self->pinned, PINNED * PAGE));
	peer_call(child, fill_here, self->pinned, 2);
	EXPECT_TRUE(pipe_has(self->pipe[0], 1));
	EXPECT_TRUE(peer_call(child, is_filled, self->pinned, 2));
}

TEST_F(pins, a_pipe_keeps_what_was_shared_when_nobody_shares_it_any_more)
{
	struct peer *child;

	fill(self->pinned, PINNED, 1);
	ASSERT_EQ(0, to_pipe(self->pinned, self->pipe[1]));
	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_TRUE(peer_call(child, is_filled, self->pinned, 1));
	end_peer(child);
	EXPECT_TRUE(is_filled(self->pinned, 1));
	fill(self->pinned, PINNED, 2);
	EXPECT_TRUE(pipe_has(self->pipe[0], 1));
	EXPECT_TRUE(is_filled(self->pinned, 2));
	/* From now on it is the owner's alone. */
	ASSERT_EQ(0, to_pipe(self->pinned, self->pipe[1]));
	fill(self->pinned, PINNED, 3);
	EXPECT_TRUE(pipe_has(self->pipe[0], 3));
}

TEST_HARNESS_MAIN
