// SPDX-License-Identifier: GPL-2.0-only
/*
 * Write protection by a userfaultfd of the kind that resolves itself (UFFD_FEATURE_WP_ASYNC), which core mm lets be
 * registered on any memory: accesses end, contents stay, and PAGEMAP_SCAN counts the pages that were written as it does
 * for anonymous memory.
 */
#include <linux/fs.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "lib/fixture.h"
#include "lib/watchdog.h"

#define PAGES 16

FIXTURE(userfaultfd)
{
	char *memory;
};

FIXTURE_VARIANTS_ON_BOTH(userfaultfd);

/* Untouched, so that nothing of it is shared with the watched process. */
FIXTURE_SETUP(userfaultfd)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED };
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		SKIP(return, "no userfaultfd with asynchronous write protection");
	close(uffd);
	ASSERT_MAPPED(PAGES);
}

FIXTURE_LEAVES_NOTHING(userfaultfd);

/* Registers memory for write protection; the userfaultfd, or -1. */
static int register_async(char *memory)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED };
	struct uffdio_register range = {
		.range = { (uintptr_t)memory, PAGES * PAGE },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &range))
		return -1;
	return uffd;
}

static int protect(int uffd, char *memory)
{
	struct uffdio_writeprotect protection = {
		.range = { (uintptr_t)memory, PAGES * PAGE },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};

	return ioctl(uffd, UFFDIO_WRITEPROTECT, &protection);
}

/* The number of pages that were written, or were not protected, since it was asked last. They are protected now. */
static long nr_written(char *memory)
{
	struct page_region regions[PAGES];
	struct pm_scan_arg scan = {
		.size = sizeof(scan),
		.flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
		.start = (uintptr_t)memory,
		.end = (uintptr_t)memory + PAGES * PAGE,
		.vec = (uintptr_t)regions,
		.vec_len = PAGES,
		.category_mask = PAGE_IS_WRITTEN,
		.return_mask = PAGE_IS_WRITTEN,
	};
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	long found = ioctl(fd, PAGEMAP_SCAN, &scan), pages = found < 0 ? found : 0;

	close(fd);
	for (long i = 0; i < found; i++)
		pages += (regions[i].end - regions[i].start) / PAGE;
	return pages;
}

/* Writes the start of each page. */
static void touch_all(char *memory, uint64_t seed)
{
	for (size_t i = 0; i < PAGES; i++)
		store(memory + i * PAGE, word(seed, i));
}

/* Whether pages, from @first on, are as touch_all() has left them. */
static bool touched(char *memory, size_t first, uint64_t seed)
{
	for (size_t i = first; i < PAGES; i++)
		if (load(memory + i * PAGE).value != word(seed, i))
			return false;
	return true;
}

TEST_F(userfaultfd, untouched_memory_that_is_protected_is_written)
{
	WATCHED(SECONDS_OF_A_STEP) {
		int uffd = register_async(self->memory);

		ASSERT_LE(0, uffd);
		ASSERT_EQ(0, protect(uffd, self->memory));
		EXPECT_EQ(0, nr_written(self->memory));
		touch_all(self->memory, 1);
		EXPECT_TRUE(touched(self->memory, 0, 1));
		EXPECT_EQ(PAGES, nr_written(self->memory));
	}
}

TEST_F(userfaultfd, untouched_memory_that_is_protected_is_read)
{
	WATCHED(SECONDS_OF_A_STEP) {
		int uffd = register_async(self->memory);

		ASSERT_LE(0, uffd);
		ASSERT_EQ(0, protect(uffd, self->memory));
		EXPECT_TRUE(zeroed(self->memory, PAGES));
		EXPECT_EQ(0, nr_written(self->memory));
		touch_all(self->memory, 1);
		EXPECT_EQ(PAGES, nr_written(self->memory));
	}
}

TEST_F(userfaultfd, untouched_memory_that_is_protected_is_written_by_the_kernel)
{
	WATCHED(SECONDS_OF_A_STEP) {
		int uffd = register_async(self->memory);

		ASSERT_LE(0, uffd);
		ASSERT_EQ(0, protect(uffd, self->memory));
		ASSERT_EQ(0, store_by_kernel(self->memory, 7));
		EXPECT_WORD(7, load(self->memory));
		EXPECT_EQ(1, nr_written(self->memory));
	}
}

TEST_F(userfaultfd, touched_memory_that_is_protected_is_written)
{
	WATCHED(SECONDS_OF_A_STEP) {
		touch_all(self->memory, 1);
		ASSERT_LE(0, register_async(self->memory));
		EXPECT_EQ(PAGES, nr_written(self->memory));
		EXPECT_EQ(0, nr_written(self->memory));
		touch_all(self->memory, 2);
		EXPECT_TRUE(touched(self->memory, 0, 2));
		EXPECT_EQ(PAGES, nr_written(self->memory));
		/* One of them. */
		store(self->memory + 3 * PAGE, 7);
		EXPECT_EQ(1, nr_written(self->memory));
		EXPECT_WORD(7, load(self->memory + 3 * PAGE));
	}
}

TEST_F(userfaultfd, touched_memory_that_is_protected_is_written_by_the_kernel)
{
	WATCHED(SECONDS_OF_A_STEP) {
		touch_all(self->memory, 1);
		ASSERT_LE(0, register_async(self->memory));
		EXPECT_EQ(PAGES, nr_written(self->memory));
		ASSERT_EQ(0, store_by_kernel(self->memory, 7));
		EXPECT_WORD(7, load(self->memory));
		EXPECT_TRUE(touched(self->memory, 1, 1));
		EXPECT_EQ(1, nr_written(self->memory));
	}
}

TEST_F(userfaultfd, untouched_memory_that_pagemap_scan_has_protected_is_written)
{
	WATCHED(SECONDS_OF_A_STEP) {
		ASSERT_LE(0, register_async(self->memory));
		EXPECT_EQ(PAGES, nr_written(self->memory));
		EXPECT_EQ(0, nr_written(self->memory));
		touch_all(self->memory, 1);
		EXPECT_TRUE(touched(self->memory, 0, 1));
		EXPECT_EQ(PAGES, nr_written(self->memory));
	}
}

TEST_F(userfaultfd, protected_memory_is_read_and_written_after_a_fork)
{
	WATCHED(SECONDS_OF_A_STEP) {
		struct peer *child;

		touch_all(self->memory, 1);
		ASSERT_LE(0, register_async(self->memory));
		EXPECT_EQ(PAGES, nr_written(self->memory));
		child = fork_peer();
		ASSERT_NE(NULL, child);
		EXPECT_WORD(word(1, 0), peer_load(child, self->memory));
		end_peer(child);
		EXPECT_TRUE(touched(self->memory, 0, 1));
		/* Neither the fork nor reading has written anything. */
		EXPECT_EQ(0, nr_written(self->memory));
		touch_all(self->memory, 2);
		EXPECT_TRUE(touched(self->memory, 0, 2));
		EXPECT_EQ(PAGES, nr_written(self->memory));
	}
}

TEST_F(userfaultfd, a_child_writes_what_is_protected_in_the_parent)
{
	WATCHED(SECONDS_OF_A_STEP) {
		struct peer *child;

		touch_all(self->memory, 1);
		ASSERT_LE(0, register_async(self->memory));
		EXPECT_EQ(PAGES, nr_written(self->memory));
		child = fork_peer();
		ASSERT_NE(NULL, child);
		EXPECT_WORD(7, peer_store(child, self->memory, 7));
		EXPECT_WORD(7, peer_load(child, self->memory));
		EXPECT_TRUE(touched(self->memory, 0, 1));
		EXPECT_EQ(0, nr_written(self->memory));
	}
}

TEST_F(userfaultfd, protected_memory_is_copied_on_write)
{
	WATCHED(SECONDS_OF_A_STEP) {
		struct peer *child;

		touch_all(self->memory, 1);
		child = fork_peer();
		ASSERT_NE(NULL, child);
		EXPECT_WORD(word(1, 0), peer_load(child, self->memory));
		ASSERT_LE(0, register_async(self->memory));
		EXPECT_WORD(word(1, 0), load(self->memory));
		EXPECT_EQ(PAGES, nr_written(self->memory));
		touch_all(self->memory, 2);
		EXPECT_TRUE(touched(self->memory, 0, 2));
		EXPECT_EQ(PAGES, nr_written(self->memory));
		for (size_t i = 0; i < PAGES; i++)
			EXPECT_WORD(word(1, i), peer_load(child, self->memory + i * PAGE));
	}
}

TEST_F(userfaultfd, a_protected_page_is_soft_offlined)
{
	WATCHED(SECONDS_OF_A_STEP) {
		uint64_t pfn;

		touch_all(self->memory, 1);
		ASSERT_LE(0, register_async(self->memory));
		EXPECT_EQ(PAGES, nr_written(self->memory));
		pfn = pfn_of(self->memory);
		if (variant->device) {
			ASSERT_EQ(0, soft_offline_pfn(pfn));
		} else if (madvise(self->memory, PAGE, MADV_SOFT_OFFLINE)) {
			SKIP(return, "no soft offline of anonymous memory");
		}
		EXPECT_TRUE(touched(self->memory, 0, 1));
		EXPECT_NE(pfn, pfn_of(self->memory));
		/* It has moved, and is still protected. */
		EXPECT_EQ(0, nr_written(self->memory));
		touch_all(self->memory, 2);
		EXPECT_TRUE(touched(self->memory, 0, 2));
		EXPECT_EQ(PAGES, nr_written(self->memory));
		if (variant->device)
			EXPECT_EQ(0, unpoison_pfn(pfn));
	}
}

TEST_F(userfaultfd, a_protected_page_that_fails_is_refused)
{
	WATCHED(SECONDS_OF_A_STEP) {
		touch_all(self->memory, 1);
		ASSERT_LE(0, register_async(self->memory));
		EXPECT_EQ(PAGES, nr_written(self->memory));
		if (variant->device) {
			ASSERT_EQ(0, poison_addr(getpid(), self->memory));
		} else {
			struct access access = {};

			/* Who lets it fail is signalled. */
			ATTEMPT(access, access.value = madvise(self->memory, PAGE, MADV_HWPOISON));
			if (!access.signal && access.value)
				SKIP(return, "no failure of anonymous memory");
		}
		EXPECT_SIGBUS(self->memory, load(self->memory));
		EXPECT_SIGBUS(self->memory, store(self->memory, 7));
		EXPECT_TRUE(touched(self->memory, 1, 1));
	}
}

TEST_F(userfaultfd, a_protected_page_that_is_good_again_is_read_and_written)
{
	if (!variant->device)
		SKIP(return, "only of the device");
	WATCHED(SECONDS_OF_A_STEP) {
		uint64_t pfn;

		touch_all(self->memory, 1);
		ASSERT_LE(0, register_async(self->memory));
		EXPECT_EQ(PAGES, nr_written(self->memory));
		pfn = pfn_of(self->memory);
		ASSERT_EQ(0, poison_addr(getpid(), self->memory));
		ASSERT_EQ(0, unpoison_pfn(pfn));
		EXPECT_TRUE(touched(self->memory, 0, 1));
		touch_all(self->memory, 2);
		EXPECT_TRUE(touched(self->memory, 0, 2));
		EXPECT_EQ(PAGES, nr_written(self->memory));
	}
}

TEST_F(userfaultfd, memory_that_was_protected_is_written_when_the_userfaultfd_is_closed)
{
	WATCHED(SECONDS_OF_A_STEP) {
		int uffd;

		touch_all(self->memory, 1);
		uffd = register_async(self->memory);
		ASSERT_LE(0, uffd);
		EXPECT_EQ(PAGES, nr_written(self->memory));
		close(uffd);
		EXPECT_TRUE(touched(self->memory, 0, 1));
		touch_all(self->memory, 2);
		EXPECT_TRUE(touched(self->memory, 0, 2));
	}
}

TEST_F(userfaultfd, untouched_memory_that_was_protected_is_written_when_the_userfaultfd_is_closed)
{
	WATCHED(SECONDS_OF_A_STEP) {
		int uffd = register_async(self->memory);

		ASSERT_LE(0, uffd);
		ASSERT_EQ(0, protect(uffd, self->memory));
		close(uffd);
		EXPECT_TRUE(zeroed(self->memory, PAGES));
		touch_all(self->memory, 1);
		EXPECT_TRUE(touched(self->memory, 0, 1));
	}
}

TEST_F(userfaultfd, memory_is_written_when_the_userfaultfd_is_closed_after_a_fork)
{
	WATCHED(SECONDS_OF_A_STEP) {
		struct peer *child;
		int uffd;

		touch_all(self->memory, 1);
		uffd = register_async(self->memory);
		ASSERT_LE(0, uffd);
		EXPECT_EQ(PAGES, nr_written(self->memory));
		child = fork_peer();
		ASSERT_NE(NULL, child);
		end_peer(child);
		close(uffd);
		touch_all(self->memory, 2);
		EXPECT_TRUE(touched(self->memory, 0, 2));
	}
}

TEST_F(userfaultfd, protected_memory_is_written_after_it_was_discarded)
{
	WATCHED(SECONDS_OF_A_STEP) {
		touch_all(self->memory, 1);
		ASSERT_LE(0, register_async(self->memory));
		EXPECT_EQ(PAGES, nr_written(self->memory));
		ASSERT_EQ(0, madvise(self->memory, PAGES * PAGE, MADV_DONTNEED));
		EXPECT_TRUE(zeroed(self->memory, PAGES));
		touch_all(self->memory, 2);
		EXPECT_TRUE(touched(self->memory, 0, 2));
		EXPECT_EQ(PAGES, nr_written(self->memory));
	}
}

/* The userfaultfd does not follow. */
TEST_F(userfaultfd, protected_memory_is_written_after_it_was_moved)
{
	WATCHED(SECONDS_OF_A_STEP) {
		char *target = reserve(PAGES);

		ASSERT_NE(MAP_FAILED, target);
		touch_all(self->memory, 1);
		ASSERT_LE(0, register_async(self->memory));
		EXPECT_EQ(PAGES, nr_written(self->memory));
		ASSERT_EQ(target, mremap(self->memory, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target));
		EXPECT_TRUE(touched(target, 0, 1));
		touch_all(target, 2);
		EXPECT_TRUE(touched(target, 0, 2));
	}
}

TEST_F(userfaultfd, protected_memory_is_written_after_it_was_split)
{
	WATCHED(SECONDS_OF_A_STEP) {
		touch_all(self->memory, 1);
		ASSERT_LE(0, register_async(self->memory));
		EXPECT_EQ(PAGES, nr_written(self->memory));
		ASSERT_EQ(0, mprotect(self->memory + 4 * PAGE, 4 * PAGE, PROT_READ));
		EXPECT_TRUE(touched(self->memory, 0, 1));
		ASSERT_EQ(0, mprotect(self->memory + 4 * PAGE, 4 * PAGE, PROT_READ | PROT_WRITE));
		EXPECT_EQ(0, nr_written(self->memory));
		touch_all(self->memory, 2);
		EXPECT_TRUE(touched(self->memory, 0, 2));
		EXPECT_EQ(PAGES, nr_written(self->memory));
	}
}

/* Protects memory again and again, and so takes entries out of the page table for a moment. */
struct protector {
	char *memory;
	int uffd;
	atomic_bool stop;
};

static void *protect_on_and_on(void *argument)
{
	struct protector *protector = argument;

	while (!protector->stop)
		protect(protector->uffd, protector->memory);
	return NULL;
}

/* What is mapped where nobody has written is shared by all. */
TEST_F(userfaultfd, zeroes_are_written_while_they_are_protected)
{
	WATCHED(SECONDS_OF_A_RACE) {
		for (int round = 0; round < 100; round++) {
			struct protector protector = { .memory = self->memory };
			pthread_t thread;

			ASSERT_EQ(0, madvise(self->memory, PAGES * PAGE, MADV_DONTNEED));
			ASSERT_TRUE(zeroed(self->memory, PAGES));
			protector.uffd = register_async(self->memory);
			ASSERT_LE(0, protector.uffd);
			ASSERT_EQ(0, pthread_create(&thread, NULL, protect_on_and_on, &protector));
			for (int page = 0; page < PAGES; page++) {
				ASSERT_EQ(0, store(self->memory + page * PAGE, page + 1).signal);
				ASSERT_EQ(page + 1, self->memory[page * PAGE]);
			}
			protector.stop = true;
			pthread_join(thread, NULL);
			close(protector.uffd);
		}
	}
}

TEST_HARNESS_MAIN
