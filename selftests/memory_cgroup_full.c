// SPDX-License-Identifier: GPL-2.0-only
/* A memory cgroup that has nothing left: who writes to a page that has failed gets SIGBUS, and one that is there needs no memory. */
#include <sched.h>

#include "lib/fixture.h"
#include "lib/memcg.h"

#define MEBIBYTE (1L << 20)
#define NR_PAGES 16
#define BALLAST (64 * MEBIBYTE / PAGE)

FIXTURE(memory_cgroup_full)
{
	char *memory, *ballast;
	struct peer *user;
};

/* Maps it there: nobody has inherited it. For peer_call(). */
static long map_and_fill(void *memory, long unused)
{
	int device = open(DEVICE, O_RDWR | O_CLOEXEC);
	const int flags = MAP_PRIVATE | MAP_FIXED;

	(void)unused;
	if (mmap(memory, NR_PAGES * PAGE, PROT_READ | PROT_WRITE, flags, device, 0) != memory)
		return errno;
	fill(memory, NR_PAGES, 1);
	return 0;
}

/* In the test, not in its parent: a process with pages 1, 3 and 4 failed, in a group that has room for nothing. */
#define ASSERT_FULL() do {								\
	long full_limit;								\
	cpu_set_t one_cpu;								\
											\
	/* What a processor is charged for beforehand it has. */			\
	CPU_ZERO(&one_cpu);								\
	CPU_SET(0, &one_cpu);								\
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(one_cpu), &one_cpu));			\
	self->memory = reserve(NR_PAGES);						\
	self->ballast = map_private(false, BALLAST);					\
	ASSERT_EQ(0, madvise(self->ballast, BALLAST * PAGE, MADV_NOHUGEPAGE));		\
	self->user = fork_peer();							\
	ASSERT_NE(NULL, self->user);							\
	ASSERT_EQ(0, print_to_file(MEMCG "/memory.max", "%ld", 24 * MEBIBYTE));		\
	ASSERT_EQ(0, peer_call(self->user, join_memcg, NULL, 0));			\
	ASSERT_EQ(0, peer_call(self->user, map_and_fill, self->memory, 0));		\
	/* One beforehand, so that all that this takes is there. */			\
	ASSERT_EQ(0, poison_addr(self->user->pid, self->memory + PAGE));		\
	ASSERT_EQ(SIGBUS, peer_load(self->user, self->memory + PAGE).signal);		\
	ASSERT_EQ(0, poison_addr(self->user->pid, self->memory + 3 * PAGE));		\
	ASSERT_EQ(0, poison_addr(self->user->pid, self->memory + 4 * PAGE));		\
	for (long page = 0; page < 1000; page++)					\
		peer_store(self->user, self->ballast + page * PAGE, 1);			\
	print_to_file(MEMCG "/memory.reclaim", "%ld", 100 * MEBIBYTE);			\
	full_limit = memcg_charged() + 40 * PAGE;					\
	ASSERT_EQ(0, print_to_file(MEMCG "/memory.max", "%ld", full_limit));		\
	for (long page = 1000; page < BALLAST && memcg_charged() < full_limit; page++)	\
		peer_store(self->user, self->ballast + page * PAGE, 1);			\
	ASSERT_EQ(full_limit, memcg_charged());						\
} while (0)

FIXTURE_HAS_MEMCG(memory_cgroup_full);

TEST_F(memory_cgroup_full, a_read_of_a_failed_page_is_refused)
{
	ASSERT_FULL();
	EXPECT_SIGBUS(self->memory + 3 * PAGE, peer_load(self->user, self->memory + 3 * PAGE));
	EXPECT_EQ(0, memcg_killed());
}

TEST_F(memory_cgroup_full, a_write_to_a_failed_page_is_refused)
{
	struct access seen;
	long killed;

	/* The kernel needs some for itself, now and then. */
	for (int attempt = 0; attempt < 4; attempt++) {
		killed = memcg_killed();
		ASSERT_FULL();
		seen = peer_store(self->user, self->memory + 3 * PAGE, 1);
		killed = memcg_killed() - killed;
		if (!killed)
			break;
	}
	EXPECT_EQ(0, killed);
	EXPECT_SIGBUS(self->memory + 3 * PAGE, seen);
}

TEST_F(memory_cgroup_full, a_page_that_comes_back_is_written)
{
	uint64_t pfn;

	ASSERT_FULL();
	while ((pfn = poisoned_pfn()))
		ASSERT_EQ(0, unpoison_pfn(pfn));
	EXPECT_WORD(1, peer_store(self->user, self->memory + 4 * PAGE, 1));
	EXPECT_EQ(0, memcg_killed());
}

TEST_HARNESS_MAIN
