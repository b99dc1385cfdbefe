// SPDX-License-Identifier: GPL-2.0-only
/* mremap() of memory of the device gives what it gives for anonymous memory. */
#include "lib/fixture.h"

#define PAGES 64

FIXTURE(mremap)
{
	char *memory;
	/* A free range of addresses, twice as large as the memory. */
	char *target;
};

FIXTURE_SETUP(mremap)
{
	/* With a gap behind it to grow into. */
	char *area = reserve(5 * PAGES);
	int fd = open(DEVICE, O_RDWR);

	ASSERT_NE(MAP_FAILED, area);
	self->memory = mmap(area, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0);
	ASSERT_EQ(area, self->memory);
	close(fd);
	self->target = area + 3 * PAGES * PAGE;
	munmap(area + PAGES * PAGE, 4 * PAGES * PAGE);
	fill(self->memory, PAGES, 1);
}

FIXTURE_LEAVES_NOTHING(mremap);

/* Moves pages of @memory to @target. */
static char *move(char *memory, size_t pages, char *target)
{
	return mremap(memory, pages * PAGE, pages * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target);
}

/* Whether page after page, from @first on, has moved to @target. */
static bool moved(const char *target, size_t first, size_t pages)
{
	return filled(target - first * PAGE, first, pages, 1);
}

TEST_F(mremap, moves_all)
{
	ASSERT_EQ(self->target, move(self->memory, PAGES, self->target));
	EXPECT_TRUE(moved(self->target, 0, PAGES));
	EXPECT_SIGSEGV(load(self->memory));
	EXPECT_EQ(PAGES, counter("anons"));
	EXPECT_EQ(1, counter("vmas"));
	fill(self->target, PAGES, 2);
	EXPECT_TRUE(filled(self->target, 0, PAGES, 2));
}

TEST_F(mremap, moves_untouched_memory)
{
	ASSERT_EQ(0, madvise(self->memory, PAGES * PAGE, MADV_DONTNEED));
	ASSERT_EQ(self->target, move(self->memory, PAGES, self->target));
	EXPECT_TRUE(zeroed(self->target, PAGES));
}

FIXTURE(mremap_of_a_part)
{
	char *memory, *target;
};

FIXTURE_VARIANT(mremap_of_a_part)
{
	size_t first;
};

FIXTURE_VARIANT_ADD(mremap_of_a_part, start) { .first = 0 };
FIXTURE_VARIANT_ADD(mremap_of_a_part, middle) { .first = 24 };
FIXTURE_VARIANT_ADD(mremap_of_a_part, end) { .first = 48 };

FIXTURE_SETUP(mremap_of_a_part)
{
	self->target = reserve(PAGES);
	self->memory = map_device(PAGES, MAP_PRIVATE);
	ASSERT_NE(MAP_FAILED, self->memory);
	fill(self->memory, PAGES, 1);
}

FIXTURE_LEAVES_NOTHING(mremap_of_a_part);

TEST_F(mremap_of_a_part, moves_it)
{
	size_t first = variant->first, end = first + 16;

	ASSERT_EQ(self->target, move(self->memory + first * PAGE, 16, self->target));
	EXPECT_TRUE(moved(self->target, first, 16));
	for (size_t i = first; i < end; i++) {
		EXPECT_SIGSEGV(load(self->memory + i * PAGE));
	}
	EXPECT_TRUE(filled(self->memory, 0, first, 1));
	EXPECT_TRUE(filled(self->memory, end, PAGES - end, 1));
	EXPECT_EQ(PAGES, counter("anons"));
}

TEST_F(mremap_of_a_part, moves_and_grows_it)
{
	size_t first = variant->first, end = first + 16;

	ASSERT_EQ(self->target, mremap(self->memory + first * PAGE, 16 * PAGE, 32 * PAGE,
				       MREMAP_MAYMOVE | MREMAP_FIXED, self->target));
	EXPECT_TRUE(moved(self->target, first, 16));
	EXPECT_TRUE(zeroed(self->target + 16 * PAGE, 16));
	EXPECT_TRUE(filled(self->memory, 0, first, 1));
	EXPECT_TRUE(filled(self->memory, end, PAGES - end, 1));
}

TEST_F(mremap_of_a_part, moves_and_shrinks_it)
{
	size_t first = variant->first, end = first + 16;

	ASSERT_EQ(self->target, mremap(self->memory + first * PAGE, 16 * PAGE, 8 * PAGE,
				       MREMAP_MAYMOVE | MREMAP_FIXED, self->target));
	EXPECT_TRUE(moved(self->target, first, 8));
	for (size_t i = first; i < end; i++) {
		EXPECT_SIGSEGV(load(self->memory + i * PAGE));
	}
	EXPECT_TRUE(filled(self->memory, 0, first, 1));
	EXPECT_TRUE(filled(self->memory, end, PAGES - end, 1));
	EXPECT_EQ(PAGES - 8, counter("anons"));
}

TEST_F(mremap_of_a_part, moves_it_there_and_back)
{
	size_t first = variant->first;

	ASSERT_EQ(self->target, move(self->memory + first * PAGE, 16, self->target));
	EXPECT_WORD(7, store(self->target, 7));
	ASSERT_EQ(self->memory + first * PAGE, move(self->target, 16, self->memory + first * PAGE));
	EXPECT_WORD(7, load(self->memory + first * PAGE));
	EXPECT_WORD(word(1, first), store(self->memory + first * PAGE, word(1, first)));
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
}

TEST_F(mremap_of_a_part, leaves_the_rest_in_place_with_dontunmap)
{
	size_t first = variant->first, end = first + 16;
	char *target = mremap(self->memory + first * PAGE, 16 * PAGE, 16 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP,
			      NULL);

	ASSERT_NE(MAP_FAILED, target);
	EXPECT_TRUE(moved(target, first, 16));
	EXPECT_TRUE(zeroed(self->memory + first * PAGE, 16));
	EXPECT_TRUE(filled(self->memory, 0, first, 1));
	EXPECT_TRUE(filled(self->memory, end, PAGES - end, 1));
	/* Both are memory of their own. */
	EXPECT_WORD(7, store(self->memory + first * PAGE, 7));
	EXPECT_WORD(word(1, first), load(target));
}

TEST_F(mremap, grows_in_place)
{
	ASSERT_EQ(self->memory, mremap(self->memory, PAGES * PAGE, 2 * PAGES * PAGE, 0));
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
	EXPECT_TRUE(zeroed(self->memory + PAGES * PAGE, PAGES));
	fill(self->memory, 2 * PAGES, 2);
	EXPECT_TRUE(filled(self->memory, 0, 2 * PAGES, 2));
	EXPECT_EQ(2 * PAGES, counter("anons"));
	EXPECT_EQ(1, counter("vmas"));
}

TEST_F(mremap, memory_that_has_grown_can_be_discarded_split_forked_and_moved)
{
	struct peer *child;

	ASSERT_EQ(self->memory, mremap(self->memory, PAGES * PAGE, 2 * PAGES * PAGE, 0));
	fill(self->memory, 2 * PAGES, 1);
	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_WORD(word(1, PAGES + 5), peer_load(child, self->memory + (PAGES + 5) * PAGE));
	ASSERT_EQ(0, madvise(self->memory + (PAGES - 1) * PAGE, 2 * PAGE, MADV_DONTNEED));
	EXPECT_TRUE(zeroed(self->memory + (PAGES - 1) * PAGE, 2));
	ASSERT_EQ(0, mprotect(self->memory + (PAGES + 8) * PAGE, PAGE, PROT_READ));
	EXPECT_TRUE(filled(self->memory, PAGES + 1, PAGES - 1, 1));
	ASSERT_EQ(self->target, move(self->memory + (2 * PAGES - 16) * PAGE, 16, self->target));
	EXPECT_TRUE(moved(self->target, 2 * PAGES - 16, 16));
}

TEST_F(mremap, memory_that_has_grown_can_be_unmapped_before_it_is_touched)
{
	ASSERT_EQ(self->memory, mremap(self->memory, PAGES * PAGE, 2 * PAGES * PAGE, 0));
	ASSERT_EQ(0, munmap(self->memory + PAGES * PAGE, PAGES * PAGE));
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
	EXPECT_SIGSEGV(load(self->memory + PAGES * PAGE));
	ASSERT_EQ(self->memory, mremap(self->memory, PAGES * PAGE, 2 * PAGES * PAGE, 0));
	EXPECT_TRUE(zeroed(self->memory + PAGES * PAGE, PAGES));
}

TEST_F(mremap, grows_by_moving)
{
	char *wall = mmap(self->memory + PAGES * PAGE, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *target;

	ASSERT_EQ(self->memory + PAGES * PAGE, wall);
	ASSERT_EQ(MAP_FAILED, mremap(self->memory, PAGES * PAGE, 2 * PAGES * PAGE, 0));
	EXPECT_EQ(ENOMEM, errno);
	target = mremap(self->memory, PAGES * PAGE, 2 * PAGES * PAGE, MREMAP_MAYMOVE);
	ASSERT_NE(MAP_FAILED, target);
	ASSERT_NE(self->memory, target);
	EXPECT_TRUE(filled(target, 0, PAGES, 1));
	EXPECT_TRUE(zeroed(target + PAGES * PAGE, PAGES));
	EXPECT_SIGSEGV(load(self->memory));
	EXPECT_EQ(1, counter("vmas"));
}

TEST_F(mremap, shrinks)
{
	ASSERT_EQ(self->memory, mremap(self->memory, PAGES * PAGE, 16 * PAGE, 0));
	EXPECT_TRUE(filled(self->memory, 0, 16, 1));
	EXPECT_SIGSEGV(load(self->memory + 16 * PAGE));
	EXPECT_EQ(16, counter("anons"));
	ASSERT_EQ(self->memory, mremap(self->memory, 16 * PAGE, PAGES * PAGE, 0));
	EXPECT_TRUE(zeroed(self->memory + 16 * PAGE, PAGES - 16));
}

TEST_F(mremap, replaces_what_is_mapped_at_the_target)
{
	char *target = map_device(PAGES, MAP_PRIVATE);

	ASSERT_NE(MAP_FAILED, target);
	fill(target, PAGES, 2);
	ASSERT_EQ(target + 16 * PAGE, move(self->memory, 16, target + 16 * PAGE));
	EXPECT_TRUE(filled(target, 0, 16, 2));
	EXPECT_TRUE(moved(target + 16 * PAGE, 0, 16));
	EXPECT_TRUE(filled(target, 32, PAGES - 32, 2));
	EXPECT_EQ(PAGES + PAGES - 16, counter("anons"));
}

TEST_F(mremap, old_size_0_is_refused)
{
	ASSERT_EQ(MAP_FAILED, mremap(self->memory, 0, PAGES * PAGE, MREMAP_MAYMOVE));
	EXPECT_EQ(EINVAL, errno);
	ASSERT_EQ(MAP_FAILED, mremap(self->memory + PAGE, 0, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, self->target));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(1, counter("vmas"));
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
}

TEST_F(mremap, old_size_0_of_other_memory_replaces_a_part)
{
	char *other = map_shared(PAGE);
	char *place = self->memory + 8 * PAGE;

	ASSERT_NE(MAP_FAILED, other);
	fill(other, 1, 2);
	ASSERT_EQ(place, mremap(other, 0, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place));
	EXPECT_TRUE(filled(place, 0, 1, 2));
	EXPECT_WORD(7, store(other, 7));
	EXPECT_WORD(7, load(place));
	EXPECT_TRUE(filled(self->memory, 0, 8, 1));
	EXPECT_TRUE(filled(self->memory, 9, PAGES - 9, 1));
	EXPECT_EQ(PAGES - 1, counter("anons"));
}

TEST_F(mremap, moves_memory_that_is_shared_copy_on_write)
{
	struct peer *child = fork_peer();

	ASSERT_NE(NULL, child);
	EXPECT_WORD(word(1, 5), peer_load(child, self->memory + 5 * PAGE));
	ASSERT_EQ(self->target, move(self->memory, PAGES, self->target));
	EXPECT_TRUE(moved(self->target, 0, PAGES));
	fill(self->target, PAGES, 2);
	for (size_t i = 0; i < PAGES; i++)
		EXPECT_WORD(word(1, i), peer_load(child, self->memory + i * PAGE));
	EXPECT_EQ(2 * PAGES, counter("anons"));
}

TEST_F(mremap, memory_that_was_moved_is_copied_on_write)
{
	struct peer *child;

	ASSERT_EQ(self->target, move(self->memory + 8 * PAGE, 16, self->target));
	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_WORD(7, peer_store(child, self->target, 7));
	EXPECT_WORD(word(1, 8), load(self->target));
	EXPECT_WORD(8, store(self->target + PAGE, 8));
	EXPECT_WORD(word(1, 9), peer_load(child, self->target + PAGE));
	EXPECT_WORD(word(1, 0), peer_load(child, self->memory));
}

TEST_F(mremap, moves_several_vmas_one_by_one)
{
	for (size_t i = 0; i < PAGES; i += 2) {
		ASSERT_EQ(0, mprotect(self->memory + i * PAGE, PAGE, PROT_READ));
	}
	/* In reverse order. */
	for (size_t i = 0; i < PAGES; i++) {
		char *target = self->target + (PAGES - 1 - i) * PAGE;

		ASSERT_EQ(target, move(self->memory + i * PAGE, 1, target));
	}
	for (size_t i = 0; i < PAGES; i++) {
		EXPECT_TRUE(moved(self->target + (PAGES - 1 - i) * PAGE, i, 1));
	}
	EXPECT_EQ(PAGES, counter("vmas"));
	EXPECT_EQ(PAGES, counter("anons"));
}

TEST_F(mremap, moves_several_vmas_at_once)
{
	for (size_t i = 0; i < PAGES; i += 2) {
		ASSERT_EQ(0, mprotect(self->memory + i * PAGE, PAGE, PROT_READ));
	}
	if (move(self->memory, PAGES, self->target) == MAP_FAILED && errno == EFAULT)
		SKIP(return, "this kernel moves one VMA at a time");
	EXPECT_TRUE(moved(self->target, 0, PAGES));
	EXPECT_SIGSEGV(load(self->memory));
	EXPECT_EQ(PAGES, counter("anons"));
}

TEST_F(mremap, moves_across_page_tables)
{
	enum { MANY = 1200 };
	char *p = map_device(MANY, MAP_PRIVATE), *target;

	ASSERT_NE(MAP_FAILED, p);
	fill(p, MANY, 1);
	target = reserve(MANY + 1);
	ASSERT_NE(MAP_FAILED, target);
	ASSERT_EQ(target + PAGE, move(p, MANY, target + PAGE));
	EXPECT_TRUE(moved(target + PAGE, 0, MANY));
	EXPECT_EQ(PAGES + MANY, counter("anons"));
}

TEST_HARNESS_MAIN
