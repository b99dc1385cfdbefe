// SPDX-License-Identifier: GPL-2.0-only
/*
 * Soft offline: the content of a page moves to another frame, and nobody notices.
 * With a number as its argument, that many moves under writers; else as many as there is time for.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/uio.h>
#include "lib/fixture.h"
#include "lib/hwpoison.h"

#define SECONDS 10

static long moves;

FIXTURE_ON_DEVICE(soft_offline, 16, false);

TEST_F(soft_offline, content_moves_to_another_frame)
{
	long quarantined = counter("quarantined"), total = counter("soft_offlines_total");
	uint64_t pfn;

	fill(self->memory, self->pages, 1);
	pfn = pfn_of(self->memory + PAGE);
	ASSERT_NE(0, pfn);
	ASSERT_EQ(0, soft_offline_pfn(pfn));
	EXPECT_TRUE(filled(self->memory, 0, self->pages, 1));
	EXPECT_NE(pfn, pfn_of(self->memory + PAGE));
	EXPECT_NE(0, pfn_of(self->memory + PAGE));
	EXPECT_EQ(quarantined + 1, counter("quarantined"));
	EXPECT_EQ(total + 1, counter("soft_offlines_total"));
	EXPECT_EQ(0, unpoison_pfn(pfn));
	EXPECT_EQ(quarantined, counter("quarantined"));
}

TEST_F(soft_offline, frame_is_not_handed_out_until_unpoisoned)
{
	uint64_t pfn;

	fill(self->memory, self->pages, 1);
	pfn = pfn_of(self->memory);
	ASSERT_EQ(0, soft_offline_pfn(pfn));
	EXPECT_TRUE(is_marked_bad(pfn));
	EXPECT_EQ(ENXIO, poison_pfn(pfn));
	EXPECT_EQ(ENXIO, soft_offline_pfn(pfn));

	EXPECT_EQ(0, unpoison_pfn(pfn));
	EXPECT_FALSE(is_marked_bad(pfn));
	EXPECT_EQ(ENXIO, unpoison_pfn(pfn));
}

TEST_F(soft_offline, sharers_see_the_same_page)
{
	struct peer *child, *grandchild;
	uint64_t pfn;

	fill(self->memory, self->pages, 1);
	child = fork_peer();
	ASSERT_NE(NULL, child);
	grandchild = peer_fork(child);
	ASSERT_NE(NULL, grandchild);
	EXPECT_WORD(1UL << 32, peer_load(child, self->memory));
	EXPECT_WORD(1UL << 32, load(self->memory));
	pfn = pfn_of(self->memory);
	ASSERT_EQ(0, soft_offline_pfn(pfn));
	EXPECT_WORD(1UL << 32, load(self->memory));
	EXPECT_WORD(1UL << 32, peer_load(child, self->memory));
	EXPECT_WORD(1UL << 32, peer_load(grandchild, self->memory));
	EXPECT_NE(pfn, pfn_of(self->memory));

	/* Still copy-on-write. */
	EXPECT_WORD(7, peer_store(child, self->memory, 7));
	EXPECT_WORD(1UL << 32, load(self->memory));
	EXPECT_WORD(1UL << 32, peer_load(grandchild, self->memory));
	EXPECT_WORD(7, peer_load(child, self->memory));
	EXPECT_EQ(0, unpoison_pfn(pfn));
}

TEST_F(soft_offline, shared_mapping)
{
	char *memory = map_device(1, MAP_SHARED);
	struct peer *child;
	uint64_t pfn;

	ASSERT_NE(MAP_FAILED, memory);
	store(memory, 1);
	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_WORD(2, peer_store(child, memory, 2));
	pfn = pfn_of(memory);
	ASSERT_EQ(0, soft_offline_pfn(pfn));
	EXPECT_WORD(3, peer_store(child, memory, 3));
	EXPECT_WORD(3, load(memory));
	EXPECT_NE(pfn, pfn_of(memory));
	EXPECT_EQ(0, unpoison_pfn(pfn));
}

TEST_F(soft_offline, poison_of_the_new_frame_is_found)
{
	uint64_t old, new;

	fill(self->memory, self->pages, 1);
	old = pfn_of(self->memory);
	ASSERT_EQ(0, soft_offline_pfn(old));
	load(self->memory);
	new = pfn_of(self->memory);
	ASSERT_EQ(0, poison_pfn(new));
	EXPECT_SIGBUS(self->memory, load(self->memory));
	EXPECT_EQ(EHWPOISON, soft_offline_pfn(new));
	EXPECT_EQ(0, unpoison_pfn(new));
	EXPECT_TRUE(filled(self->memory, 0, self->pages, 1));
	EXPECT_EQ(0, unpoison_pfn(old));
}

TEST_F(soft_offline, pinned_page_is_busy)
{
	struct iovec whole = { self->memory, PAGE };
	char content[PAGE];
	uint64_t pfn;
	int pipe_fd[2];

	fill(self->memory, self->pages, 1);
	pfn = pfn_of(self->memory);
	/* A pipe holds the page until it is read. */
	ASSERT_EQ(0, pipe(pipe_fd));
	ASSERT_EQ(PAGE, vmsplice(pipe_fd[1], &whole, 1, 0));
	EXPECT_EQ(EBUSY, soft_offline_pfn(pfn));
	EXPECT_EQ(pfn, (load(self->memory), pfn_of(self->memory)));
	ASSERT_EQ(PAGE, read(pipe_fd[0], content, PAGE));
	EXPECT_TRUE(filled(content, 0, 1, 1));
	EXPECT_EQ(0, soft_offline_pfn(pfn));
	EXPECT_TRUE(filled(self->memory, 0, self->pages, 1));
	EXPECT_EQ(0, unpoison_pfn(pfn));
}

TEST_F(soft_offline, page_locked_in_memory)
{
	uint64_t pfn;

	ASSERT_EQ(0, mlock(self->memory, self->pages * PAGE));
	fill(self->memory, self->pages, 1);
	pfn = pfn_of(self->memory);
	EXPECT_EQ(0, soft_offline_pfn(pfn));
	EXPECT_TRUE(filled(self->memory, 0, self->pages, 1));
	EXPECT_NE(pfn, pfn_of(self->memory));
	EXPECT_EQ(0, unpoison_pfn(pfn));
}

TEST_F(soft_offline, other_memory_is_refused)
{
	char *anonymous = map_private(false, 1);

	store(anonymous, 1);
	EXPECT_EQ(ENXIO, soft_offline_pfn(pfn_of(anonymous)));
	EXPECT_EQ(ENXIO, unpoison_pfn(pfn_of(anonymous)));
	EXPECT_EQ(EINVAL, print_to_file(DEBUGFS "soft_offline", "x"));
}

/* Increments words of its own in all pages, until it is told to stop. */
struct writer {
	char *memory;
	size_t pages;
	int number;
	atomic_bool *stop;
	uint64_t rounds;
	bool lost;
};

static void *write_until_stopped(void *argument)
{
	struct writer *writer = argument;

	while (!atomic_load(writer->stop)) {
		for (size_t i = 0; i < writer->pages; i++) {
			volatile uint64_t *word = (uint64_t *)(writer->memory + i * PAGE) + writer->number;

			if (*word != writer->rounds)
				writer->lost = true;
			*word = writer->rounds + 1;
		}
		writer->rounds++;
	}
	return NULL;
}

TEST_F_TIMEOUT(soft_offline, no_update_is_lost, 1800)
{
	enum { WRITERS = 4 };
	struct writer writers[WRITERS];
	pthread_t threads[WRITERS];
	atomic_bool stop = false;
	long moved = 0, busy = 0;
	time_t end = time(NULL) + SECONDS;

	fill(self->memory, self->pages, 0);
	memset(self->memory, 0, self->pages * PAGE);
	for (int i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer){ self->memory, self->pages, i, &stop, 0, false };
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, write_until_stopped, &writers[i]));
	}
	while (moves ? moved < moves : !moved || time(NULL) < end) {
		uint64_t pfn = pfn_of(self->memory + random() % self->pages * PAGE);
		int error = pfn ? soft_offline_pfn(pfn) : EAGAIN;

		if (!error) {
			moved++;
			ASSERT_EQ(0, unpoison_pfn(pfn));
		} else if (error == EBUSY) {
			busy++;
		} else {
			ASSERT_EQ(EAGAIN, error);
		}
	}
	atomic_store(&stop, true);
	for (int i = 0; i < WRITERS; i++) {
		ASSERT_EQ(0, pthread_join(threads[i], NULL));
		EXPECT_FALSE(writers[i].lost);
		EXPECT_LT(0, writers[i].rounds);
		for (size_t page = 0; page < self->pages; page++)
			EXPECT_EQ(writers[i].rounds, ((uint64_t *)(self->memory + page * PAGE))[i]);
	}
	TH_LOG("%ld moves, %ld refused since the page was in use", moved, busy);
}

int main(int argc, char **argv)
{
	if (argc == 2 && *argv[1] != '-') {
		moves = atol(argv[1]);
		argc = 1;
	}
	return test_harness_run(argc, argv);
}
