// SPDX-License-Identifier: GPL-2.0-only
/*
 * The pool as device memory: each way in which the kernel's own memory_failure() is called reaches
 * the driver. For a module with a pool, see qemu/machine-check-test.
 */
#include <sys/uio.h>
#include "lib/fixture.h"
#include "lib/hwpoison.h"
#include "lib/pool.h"


static int corrupt_pfn(uint64_t pfn)
{
	return print_to_file(HWPOISON_CORRUPT_PFN, "%#lx", pfn);
}

static int hard_offline(uint64_t pfn)
{
	return print_to_file(HARD_OFFLINE_PAGE, "%#lx", pfn << PAGE_SHIFT);
}

FIXTURE(device_memory)
{
	uint64_t first_pfn, pool_pages;
	char *memory;
	size_t pages;
};

FIXTURE_SETUP(device_memory)
{
	self->pool_pages = pool(&self->first_pfn);
	if (!self->pool_pages)
		SKIP(return, "the module has no pool of device memory");
	self->pages = 16;
	self->memory = map_device(self->pages, MAP_PRIVATE);
	ASSERT_NE(MAP_FAILED, self->memory);
	fill(self->memory, self->pages, 1);
}

FIXTURE_LEAVES_NOTHING(device_memory);

#define EXPECT_POISONED(pfn, expected_kind) do {			\
	struct poisoned poisoned_page = {};				\
									\
	EXPECT_TRUE(read_poisoned(pfn, &poisoned_page));		\
	EXPECT_STREQ(expected_kind, poisoned_page.kind);		\
	EXPECT_STREQ("device_memory", poisoned_page.source);		\
} while (0)

TEST_F(device_memory, pages_are_of_the_pool)
{
	struct peer *child = fork_peer();

	ASSERT_NE(NULL, child);
	EXPECT_WORD(7, peer_store(child, self->memory, 7));
	EXPECT_TRUE(filled(self->memory, 0, self->pages, 1));
	for (size_t i = 0; i < self->pages; i++) {
		EXPECT_LE(self->first_pfn, pfn_of(self->memory + i * PAGE));
		EXPECT_GT(self->first_pfn + self->pool_pages, pfn_of(self->memory + i * PAGE));
	}
	/* A page that was used before is zero again. */
	ASSERT_EQ(0, madvise(self->memory, self->pages * PAGE, MADV_DONTNEED));
	EXPECT_TRUE(zeroed(self->memory, self->pages));
}

TEST_F(device_memory, madv_hwpoison)
{
	uint64_t pfn = pfn_of(self->memory + PAGE);
	struct access access = {};

	/* The caller is taken for one that uses the page. */
	ATTEMPT(access, madvise(self->memory + PAGE, PAGE, MADV_HWPOISON));
	EXPECT_SIGBUS(self->memory + PAGE, access);
	EXPECT_POISONED(pfn, "simulated");
	EXPECT_SIGBUS(self->memory + PAGE + 8, load(self->memory + PAGE + 8));
	EXPECT_EQ(0, unpoison_pfn(pfn));
	EXPECT_TRUE(filled(self->memory, 0, self->pages, 1));
}

TEST_F(device_memory, hwpoison_inject)
{
	struct peer *child = fork_peer();
	uint64_t pfn;

	ASSERT_NE(NULL, child);
	EXPECT_WORD(1UL << 32, load(self->memory));
	EXPECT_WORD(1UL << 32, peer_load(child, self->memory));
	pfn = pfn_of(self->memory);
	ASSERT_EQ(0, corrupt_pfn(pfn));
	EXPECT_POISONED(pfn, "simulated");
	EXPECT_SIGBUS(self->memory + 8, load(self->memory + 8));
	EXPECT_SIGBUS(self->memory + 16, peer_store(child, self->memory + 16, 1));
	EXPECT_EQ(EHWPOISON, corrupt_pfn(pfn));
	EXPECT_EQ(0, unpoison_pfn(pfn));
	EXPECT_TRUE(filled(self->memory, 0, self->pages, 1));
}

TEST_F(device_memory, hard_offline_page)
{
	uint64_t pfn = pfn_of(self->memory);

	ASSERT_EQ(0, hard_offline(pfn));
	/* The kernel calls it so, too. */
	EXPECT_POISONED(pfn, "simulated");
	EXPECT_SIGBUS(self->memory + 8, load(self->memory + 8));
	EXPECT_EQ(0, unpoison_pfn(pfn));
	EXPECT_TRUE(filled(self->memory, 0, self->pages, 1));
}

TEST_F(device_memory, soft_offline)
{
	uint64_t pfn = pfn_of(self->memory);

	ASSERT_EQ(0, soft_offline_pfn(pfn));
	EXPECT_TRUE(filled(self->memory, 0, self->pages, 1));
	EXPECT_NE(pfn, pfn_of(self->memory));
	EXPECT_EQ(0, unpoison_pfn(pfn));
	EXPECT_EQ(ENXIO, unpoison_pfn(pfn));
}

TEST_F(device_memory, frame_that_nobody_uses)
{
	uint64_t pfn = pfn_of(self->memory);

	ASSERT_EQ(0, madvise(self->memory, PAGE, MADV_DONTNEED));
	EXPECT_EQ(ENXIO, corrupt_pfn(pfn));
	EXPECT_EQ(ENXIO, poison_pfn(pfn));
}

static long take_offline(void *unused, long pfn)
{
	(void)unused;
	return hard_offline_pfn(pfn);
}

/* Whoever has it when it fails, it is not used again. */
TEST_F_TIMEOUT(device_memory, frame_that_changes_hands, 300)
{
	struct peer *other = fork_peer();

	ASSERT_NE(NULL, other);
	ASSERT_EQ(0, munmap(self->memory + PAGE, (self->pages - 1) * PAGE));
	for (int round = 0; round < 300; round++) {
		uint64_t pfn = pfn_of(self->memory);

		begin_peer_call(other, take_offline, NULL, pfn);
		for (int i = 0; i < 20; i++) {
			ASSERT_EQ(0, madvise(self->memory, PAGE, MADV_DONTNEED));
			store(self->memory, 1);
		}
		ASSERT_EQ(0, end_peer_call(other));
		ASSERT_EQ(0, madvise(self->memory, PAGE, MADV_DONTNEED));
		ASSERT_EQ(0, store(self->memory, 1).signal);
		EXPECT_NE(pfn, pfn_of(self->memory));
		ASSERT_TRUE(await(is_listed_as_hardware, pfn)) {
			TH_LOG("round %d", round);
		}
		EXPECT_EQ(EPERM, unpoison_pfn(pfn));
	}
	end_peer(other);
}

/* Whether one of @pages pages is in frame @pfn. */
static bool is_mapped(const char *memory, size_t pages, uint64_t pfn)
{
	uint64_t *entries = calloc(pages, sizeof(*entries));
	bool found = !read_pagemap(memory, pages, entries);

	for (size_t i = 0; i < pages; i++)
		found |= (entries[i] & PAGEMAP_FRAME) == pfn;
	free(entries);
	return found;
}

TEST_F_TIMEOUT(device_memory, used_up, 120)
{
	uint64_t quarantined = counter("quarantined"), aside = pfn_of(self->memory), pages = 0;
	size_t room = self->pool_pages + 1;
	char *memory = map_device(room, MAP_PRIVATE);
	struct access access = {};

	ASSERT_NE(MAP_FAILED, memory);
	ASSERT_EQ(0, soft_offline_pfn(aside));
	ASSERT_EQ(0, munmap(self->memory, self->pages * PAGE));
	for (; pages < room; pages++) {
		access = store(memory + pages * PAGE, pages);
		if (access.signal)
			break;
	}
	EXPECT_EQ(SIGBUS, access.signal);
	EXPECT_EQ(BUS_ADRERR, access.code);
	/* All frames but those that are aside, each once. */
	EXPECT_EQ(self->pool_pages - quarantined - 1, pages);
	EXPECT_FALSE(is_mapped(memory, pages, aside));
	EXPECT_WORD(pages - 1, load(memory + (pages - 1) * PAGE));
	EXPECT_EQ(ENOSPC, soft_offline_pfn(pfn_of(memory)));

	ASSERT_EQ(0, unpoison_pfn(aside));
	EXPECT_WORD(7, store(memory + pages * PAGE, 7));
	EXPECT_EQ(aside, pfn_of(memory + pages * PAGE));
}

/* A page that is in a pipe is out of the pool as long as the pipe likes. */
TEST_F(device_memory, keeps_the_module_while_pages_are_out)
{
	struct iovec page = { self->memory, PAGE };
	char content[PAGE];
	int ends[2];

	ASSERT_EQ(0, pipe(ends));
	ASSERT_EQ(PAGE, vmsplice(ends[1], &page, 1, 0));
	ASSERT_EQ(0, munmap(self->memory, self->pages * PAGE));
	EXPECT_EQ(-1, syscall(SYS_delete_module, "anon_rmap", O_NONBLOCK));
	EXPECT_EQ(EWOULDBLOCK, errno);
	EXPECT_EQ(PAGE, read(ends[0], content, PAGE));
	close(ends[0]);
	close(ends[1]);
	/* Not any more. */
	ASSERT_EQ(0, syscall(SYS_delete_module, "anon_rmap", O_NONBLOCK));
	ASSERT_EQ(0, load_pool(self->first_pfn, self->pool_pages));
}

/* What is known to be bad is told to the next module to be loaded, by the list that this one gives. */
TEST_F(device_memory, list_of_bad_frames_is_taken_again)
{
	uint64_t pfn = pfn_of(self->memory);
	char *list;

	ASSERT_EQ(0, hard_offline_pfn(pfn));
	ASSERT_EQ(0, munmap(self->memory, self->pages * PAGE));
	list = read_file(DEBUGFS "quarantine");
	ASSERT_NE(NULL, list);
	ASSERT_EQ(0, syscall(SYS_delete_module, "anon_rmap", O_NONBLOCK));
	ASSERT_EQ(0, load_pool(self->first_pfn, self->pool_pages));
	EXPECT_EQ(0, counter("quarantined"));
	for (char *rest = list, *line; (line = strsep(&rest, "\n")) && *line;) {
		uint64_t bad;

		ASSERT_EQ(1, sscanf(line, "pfn=%lx", &bad));
		EXPECT_EQ(0, hard_offline_pfn(bad));
		EXPECT_EQ(EHWPOISON, hard_offline_pfn(bad));
	}
	free(list);
	EXPECT_LE(1, counter("quarantined"));
	EXPECT_EQ(EPERM, unpoison_pfn(pfn));
}

TEST_HARNESS_MAIN
