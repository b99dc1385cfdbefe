// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that was read and never written costs nothing: all share one page of zeroes, as with anonymous memory, and the
 * first write gives one's own.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/uio.h>

#include "lib/fixture.h"

#define PAGES 64

FIXTURE_ON_BOTH(zero_page, PAGES, false);

/* How many of the pages have a frame of their own. */
static size_t own_frames(const char *memory)
{
	const uint64_t zeroes = pfn_of_zeroes();
	size_t count = 0;

	for (size_t i = 0; i < PAGES; i++) {
		uint64_t pfn = pfn_of(memory + i * PAGE);

		count += pfn && pfn != zeroes;
	}
	return count;
}

#define EXPECT_OWN_FRAMES(expected_frames) do {				\
	EXPECT_EQ(expected_frames, own_frames(self->memory));		\
	if (variant->device) {						\
		EXPECT_EQ(expected_frames, counter("anons"));		\
		EXPECT_TRUE(verified());				\
	}								\
} while (0)

TEST_F(zero_page, who_reads_takes_none)
{
	static char read_into[PAGES * PAGE];
	struct iovec local = { read_into, sizeof(read_into) }, remote = { self->memory, sizeof(read_into) };
	int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC), pipes[2];

	EXPECT_TRUE(zeroed(self->memory, PAGES / 2));
	EXPECT_OWN_FRAMES(0);
	memset(read_into, 1, sizeof(read_into));
	ASSERT_EQ(PAGES * PAGE, pread(mem, read_into, PAGES * PAGE, (off_t)self->memory));
	EXPECT_TRUE(zeroed(read_into, PAGES));
	EXPECT_OWN_FRAMES(0);
	ASSERT_EQ(0, madvise(self->memory, PAGES * PAGE, MADV_DONTNEED));
	memset(read_into, 1, sizeof(read_into));
	ASSERT_EQ(PAGES * PAGE, process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
	EXPECT_TRUE(zeroed(read_into, PAGES));
	ASSERT_EQ(0, madvise(self->memory, PAGES * PAGE, MADV_DONTNEED));
	ASSERT_EQ(0, pipe(pipes));
	for (size_t i = 0; i < PAGES; i++) {
		ASSERT_EQ(PAGE, write(pipes[1], self->memory + i * PAGE, PAGE));
		ASSERT_EQ(PAGE, read(pipes[0], read_into, PAGE));
		EXPECT_TRUE(zeroed(read_into, 1));
	}
	EXPECT_OWN_FRAMES(0);
	close(mem);
}

TEST_F(zero_page, who_writes_gets_one)
{
	struct peer *child;

	EXPECT_TRUE(zeroed(self->memory, PAGES));
	fill(self->memory + 8 * PAGE, 8, 1);
	EXPECT_OWN_FRAMES(8);
	EXPECT_TRUE(zeroed(self->memory, 8));
	EXPECT_TRUE(zeroed(self->memory + 16 * PAGE, PAGES - 16));
	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_WORD(0, peer_load(child, self->memory));
	EXPECT_WORD(7, peer_store(child, self->memory, 7));
	EXPECT_WORD(0, load(self->memory));
	EXPECT_WORD(8, store(self->memory, 8));
	EXPECT_WORD(7, peer_load(child, self->memory));
	EXPECT_TRUE(filled(self->memory + 8 * PAGE, 0, 8, 1));
	EXPECT_EQ(9, own_frames(self->memory));
	ASSERT_EQ(0, madvise(self->memory, PAGES * PAGE, MADV_DONTNEED));
	EXPECT_TRUE(zeroed(self->memory, PAGES));
	EXPECT_EQ(0, own_frames(self->memory));
}

TEST_F(zero_page, by_the_kernel)
{
	int mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC), pipes[2];
	uint64_t value = 7;

	EXPECT_TRUE(zeroed(self->memory, PAGES));
	ASSERT_EQ(8, pwrite(mem, &value, 8, (off_t)self->memory));
	EXPECT_WORD(7, load(self->memory));
	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(8, write(pipes[1], &value, 8));
	ASSERT_EQ(8, read(pipes[0], self->memory + PAGE, 8));
	EXPECT_WORD(7, load(self->memory + PAGE));
	EXPECT_OWN_FRAMES(2);
	EXPECT_TRUE(zeroed(self->memory + 2 * PAGE, PAGES - 2));
	close(mem);
}

/* Zeroes stay what they are when protections change, and when they are moved. */
TEST_F(zero_page, protected_and_moved)
{
	char *moved = reserve(PAGES);

	EXPECT_TRUE(zeroed(self->memory, PAGES));
	ASSERT_EQ(0, mprotect(self->memory, PAGES * PAGE, PROT_READ));
	EXPECT_SIGSEGV(store(self->memory, 7));
	ASSERT_EQ(0, mprotect(self->memory, PAGES * PAGE, PROT_READ | PROT_WRITE));
	EXPECT_WORD(7, store(self->memory, 7));
	EXPECT_TRUE(zeroed(self->memory + PAGE, PAGES - 1));
	ASSERT_EQ(moved, mremap(self->memory, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, moved));
	self->memory = moved;
	EXPECT_WORD(7, load(moved));
	EXPECT_WORD(8, store(moved + PAGE, 8));
	EXPECT_TRUE(zeroed(moved + 2 * PAGE, PAGES - 2));
	EXPECT_OWN_FRAMES(2);
}

/* Who asks for memory beforehand gets it. */
TEST_F(zero_page, populated_or_locked)
{
	EXPECT_TRUE(zeroed(self->memory, PAGES / 2));
	ASSERT_EQ(0, munmap(self->memory, PAGES * PAGE));
	self->memory = map_memory(variant->device, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_POPULATE);
	ASSERT_NE(MAP_FAILED, self->memory);
	EXPECT_EQ(PAGES, own_frames(self->memory));
	ASSERT_EQ(0, madvise(self->memory, PAGES * PAGE, MADV_DONTNEED));
	ASSERT_EQ(0, mlock(self->memory, PAGES * PAGE));
	EXPECT_EQ(PAGES, own_frames(self->memory));
	ASSERT_EQ(0, munlock(self->memory, PAGES * PAGE));
}

struct race {
	char *memory;
	atomic_size_t written;
	atomic_bool over;
	size_t stale;
};

static void *look_at_what_was_written(void *argument)
{
	struct race *race = argument;

	while (!race->over) {
		size_t written = race->written;

		/* What comes next, so that zeroes are mapped there. */
		if (written < PAGES)
			load(race->memory + written * PAGE);
		for (size_t i = 0; i < written; i++)
			race->stale += load(race->memory + i * PAGE).value != i + 1;
	}
	return NULL;
}

/* Nobody goes on to see zeroes where another thread has written. */
TEST_F(zero_page, threads)
{
	struct race race = { .memory = self->memory };
	pthread_t reader;

	ASSERT_EQ(0, pthread_create(&reader, NULL, look_at_what_was_written, &race));
	for (int round = 0; round < 100; round++) {
		race.written = 0;
		ASSERT_EQ(0, madvise(self->memory, PAGES * PAGE, MADV_DONTNEED));
		for (size_t i = 0; i < PAGES; i++) {
			store(self->memory + i * PAGE, i + 1);
			race.written = i + 1;
		}
		/* Not while it still looks. */
		race.over = true;
		pthread_join(reader, NULL);
		race.over = false;
		race.written = 0;
		ASSERT_EQ(0, pthread_create(&reader, NULL, look_at_what_was_written, &race));
	}
	race.over = true;
	pthread_join(reader, NULL);
	EXPECT_EQ(0, race.stale);
}

TEST_HARNESS_MAIN
