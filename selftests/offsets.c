// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whatever offset a mapping is asked for or shown with, it is memory of its own. Core mm merges mappings of one file
 * whose offsets continue each other, and calls no hook for that.
 */
#include <sys/syscall.h>

#include "lib/fixture.h"
#include "lib/watchdog.h"

#define PAGES 4UL

/* What /proc/self/maps says of the mapping that begins at @address: its offset in the file, and its name there. */
static bool shown_at(const void *address, unsigned long *offset, char *name, size_t size)
{
	char *maps = read_file("/proc/self/maps"), *rest = maps, *line;
	bool found = false;

	while (!found && (line = strsep(&rest, "\n"))) {
		unsigned long start, end;

		found = sscanf(line, "%lx-%lx %*s %lx", &start, &end, offset) == 3 && start == (uintptr_t)address;
		snprintf(name, size, "%lx-%lx", start, end);
	}
	free(maps);
	return found;
}

/* Lets this process, or the kernel for it, write a word. */
static int write_word(bool kernel, char *address, uint64_t value)
{
	return kernel ? store_by_kernel(address, value) : store(address, value).signal;
}

FIXTURE(offsets)
{
	int fd;
	/* A mapping in the middle of a range of addresses. */
	char *memory;
	unsigned long offset;
	char name[64];
};

FIXTURE_VARIANT(offsets)
{
	int flags;
	bool kernel;
};

FIXTURE_VARIANT_ADD(offsets, shared) { .flags = MAP_SHARED };
FIXTURE_VARIANT_ADD(offsets, shared_touched_by_the_kernel) { .flags = MAP_SHARED, .kernel = true };
FIXTURE_VARIANT_ADD(offsets, private) { .flags = MAP_PRIVATE };
FIXTURE_VARIANT_ADD(offsets, private_touched_by_the_kernel) { .flags = MAP_PRIVATE, .kernel = true };

FIXTURE_SETUP(offsets)
{
	char *area = reserve(64);

	ASSERT_NE(MAP_FAILED, area);
	self->fd = open(DEVICE, O_RDWR);
	/* The first of an address space may have a place of its own. */
	ASSERT_NE(MAP_FAILED, mmap(NULL, PAGE, PROT_READ | PROT_WRITE, variant->flags, self->fd, 0));
	self->memory = mmap(area + 16 * PAGE, PAGES * PAGE, PROT_READ | PROT_WRITE, variant->flags | MAP_FIXED, self->fd,
			    0);
	ASSERT_NE(MAP_FAILED, self->memory);
	ASSERT_TRUE(shown_at(self->memory, &self->offset, self->name, sizeof(self->name)));
	fill(self->memory, PAGES, 1);
}

FIXTURE_LEAVES_NOTHING(offsets);

/* Maps what ends or begins where the memory does, with an offset that continues the memory's. */
static char *map_neighbour(int fd, char *memory, unsigned long offset, bool below, int flags)
{
	char *place = below ? memory - PAGES * PAGE : memory + PAGES * PAGE;

	return mmap(place, PAGES * PAGE, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd,
		    below ? offset - PAGES * PAGE : offset + PAGES * PAGE);
}

TEST_F(offsets, a_neighbour_whose_offset_continues_is_memory_of_its_own)
{
	WATCHED(SECONDS_OF_A_STEP) {
		for (int below = 0; below < 2; below++) {
			char *other = map_neighbour(self->fd, self->memory, self->offset, below, variant->flags);

			/* An offset of less than nothing. */
			if (other == MAP_FAILED && below && self->offset < PAGES * PAGE)
				continue;
			ASSERT_NE(MAP_FAILED, other);
			ASSERT_EQ(0, write_word(variant->kernel, other, 7));
			ASSERT_EQ(0, write_word(variant->kernel, other + PAGE, 0));
			EXPECT_WORD(7, load(other));
			EXPECT_TRUE(zeroed(other + PAGE, PAGES - 1));
			EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
			fill(other, PAGES, 2);
			EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
			fill(self->memory, PAGES, 3);
			EXPECT_TRUE(filled(other, 0, PAGES, 2));
			fill(self->memory, PAGES, 1);
		}
		EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
	}
}

TEST_F(offsets, neighbours_can_be_discarded_inherited_failed_and_unmapped_as_one)
{
	WATCHED(SECONDS_OF_A_STEP) {
		char *other = map_neighbour(self->fd, self->memory, self->offset, false, variant->flags);
		struct peer *child;

		ASSERT_NE(MAP_FAILED, other);
		ASSERT_EQ(0, write_word(variant->kernel, other, 7));
		child = fork_peer();
		ASSERT_NE(NULL, child);
		EXPECT_WORD(7, peer_load(child, other));
		EXPECT_WORD(word(1, 0), peer_load(child, self->memory));
		ASSERT_EQ(0, poison_addr(getpid(), other));
		EXPECT_SIGBUS(other, load(other));
		EXPECT_SIGBUS(other, peer_load(child, other));
		ASSERT_EQ(0, madvise(self->memory, 2 * PAGES * PAGE, MADV_DONTNEED));
		if (variant->flags == MAP_PRIVATE) {
			EXPECT_TRUE(zeroed(self->memory, 2 * PAGES));
		} else {
			EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
			EXPECT_SIGBUS(other, load(other));
		}
		ASSERT_EQ(0, munmap(self->memory, 2 * PAGES * PAGE));
		EXPECT_SIGSEGV(load(other));
	}
}

TEST_F(offsets, the_same_offset_elsewhere_is_memory_of_its_own)
{
	WATCHED(SECONDS_OF_A_STEP) {
		char *other = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, variant->flags, self->fd, self->offset);

		ASSERT_NE(MAP_FAILED, other);
		ASSERT_EQ(0, write_word(variant->kernel, other, 7));
		EXPECT_TRUE(zeroed(other + PAGE, PAGES - 1));
		EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
	}
}

/* By way of the file that /proc shows. It need not be possible to open or to map it. */
TEST_F(offsets, what_is_behind_a_mapping_is_not_mapped_a_second_time)
{
	WATCHED(SECONDS_OF_A_STEP) {
		char path[128], *other;
		int fd;

		snprintf(path, sizeof(path), "/proc/self/map_files/%s", self->name);
		fd = open(path, O_RDWR);
		other = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, variant->flags, fd, self->offset);
		if (other != MAP_FAILED) {
			ASSERT_EQ(0, write_word(variant->kernel, other, 7));
			EXPECT_TRUE(zeroed(other + PAGE, PAGES - 1));
		}
		EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
	}
}

/* To core mm the memory looks shared, so it would map the file of the mapping once more. */
TEST_F(offsets, remap_file_pages_is_refused_and_changes_nothing)
{
	WATCHED(SECONDS_OF_A_STEP) {
		struct peer *child = fork_peer();
		long vmas = counter("vmas");

		ASSERT_NE(NULL, child);
		for (unsigned long first = 0; first < 2; first++) {
			long result = syscall(SYS_remap_file_pages, self->memory + PAGE, 2 * PAGE, 0, first, 0);

			EXPECT_EQ(-1, result);
			EXPECT_TRUE(errno == ENODEV || errno == EINVAL);
		}
		EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
		EXPECT_WORD(word(1, 1), peer_load(child, self->memory + PAGE));
		ASSERT_EQ(0, write_word(variant->kernel, self->memory + PAGE, 7));
		EXPECT_WORD(variant->flags == MAP_SHARED ? 7 : word(1, 1), peer_load(child, self->memory + PAGE));
		EXPECT_EQ(vmas, counter("vmas"));
	}
}

TEST_HARNESS_MAIN
