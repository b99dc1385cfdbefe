// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the kernel's own failures do to a page, of the device or of anonymous memory: nobody goes on to read what the kernel
 * has marked as bad.
 */
#include "lib/fixture.h"
#include "lib/hwpoison.h"
#include "lib/pool.h"

#define PAGES 8

FIXTURE(kernel_failure)
{
	char *memory;
	/* Shares all. */
	struct peer *child;
};

FIXTURE_VARIANTS_ON_BOTH(kernel_failure);

FIXTURE_SETUP(kernel_failure)
{
	uint64_t first_pfn;

	if (pool(&first_pfn))
		SKIP(return, "the kernel asks the driver, see device_memory.c");
	ASSERT_MAPPED(PAGES);
	fill(self->memory, PAGES, 1);
	self->child = fork_peer();
	ASSERT_NE(NULL, self->child);
	for (size_t i = 0; i < PAGES; i++)
		EXPECT_WORD(word(1, i), peer_load(self->child, self->memory + i * PAGE));
}

FIXTURE_LEAVES_NOTHING(kernel_failure);

static bool is_refused(uint64_t address)
{
	return load((void *)address).signal == SIGBUS;
}

#define EXPECT_FAILED(page, pfn) do {							\
	char *failed = self->memory + (page) * PAGE;					\
	struct peer *newcomer;								\
											\
	EXPECT_TRUE(is_marked_bad(pfn));							\
	if (variant->device) {								\
		EXPECT_TRUE(await(is_taken_away, pfn));					\
	}										\
	EXPECT_TRUE(await(is_refused, (uint64_t)failed));				\
	EXPECT_SIGBUS(failed, load(failed));						\
	EXPECT_SIGBUS(failed, peer_load(self->child, failed));				\
	newcomer = fork_peer();								\
	ASSERT_NE(NULL, newcomer);							\
	EXPECT_EQ(SIGBUS, peer_load(newcomer, failed).signal);				\
	end_peer(newcomer);								\
	for (size_t i = 0; i < PAGES; i++)						\
		if (i != (page))							\
			EXPECT_WORD(word(1, i), load(self->memory + i * PAGE));		\
} while (0)

TEST_F(kernel_failure, madvise_hwpoison)
{
	uint64_t pfn = pfn_of(self->memory + 3 * PAGE);
	struct access access = {};
	struct poisoned page;
	int error = 0;

	/* Anonymous memory is gone before the call returns, with a signal. */
	ATTEMPT(access, error = madvise(self->memory + 3 * PAGE, PAGE, MADV_HWPOISON) ? errno : 0);
	if (error == EINVAL || error == EPERM)
		SKIP(return, "the kernel injects no failures");
	EXPECT_FAILED(3, pfn);
	if (variant->device) {
		ASSERT_TRUE(read_poisoned(pfn, &page));
		EXPECT_STREQ("simulated", page.kind);
		EXPECT_STREQ("memory_failure", page.source);
	}
}

TEST_F(kernel_failure, hard_offline_page)
{
	uint64_t pfn = pfn_of(self->memory + 5 * PAGE);
	int error = print_to_file(HARD_OFFLINE_PAGE, "%#lx", pfn << PAGE_SHIFT);

	if (error == ENOENT)
		SKIP(return, "the kernel has no such file");
	EXPECT_FAILED(5, pfn);
}


/* The kernel would free what is in use: it has to be refused. What a soft offline has left is nobody's. */
TEST_F(kernel_failure, undone_by_the_kernel)
{
	static const char *const sources[] = { "hard_offline", "soft_offline", NULL };
	long before;

	if (!variant->device)
		SKIP(return, "only of the device");
	if (!has_hwpoison_inject())
		SKIP(return, "no hwpoison-inject");
	for (size_t i = 0; i < sizeof(sources) / sizeof(*sources); i++) {
		uint64_t pfn = pfn_of(self->memory + i * PAGE);
		int error;

		if (!sources[i]) {
			madvise(self->memory + i * PAGE, PAGE, MADV_HWPOISON);
		} else if (strcmp(sources[i], "hard_offline")) {
			ASSERT_EQ(0, soft_offline_pfn(pfn));
		} else {
			ASSERT_EQ(0, poison_pfn(pfn));
			ASSERT_EQ(0, hard_offline_pfn(pfn));
		}
		ASSERT_TRUE(is_marked_bad(pfn));
		if (!sources[i]) {
			ASSERT_TRUE(await(is_taken_away, pfn));
		}
		before = corrupted();
		error = print_to_file(HWPOISON_UNPOISON_PFN, "%#lx", pfn);
		if (error == EOPNOTSUPP)
			SKIP(return, "real hardware has failed: the kernel undoes nothing");
		if (sources[i] && !strcmp(sources[i], "soft_offline")) {
			EXPECT_EQ(0, error);
			EXPECT_FALSE(is_marked_bad(pfn));
			EXPECT_EQ(before - 4, corrupted());
			EXPECT_EQ(ENXIO, unpoison_pfn(pfn));
			EXPECT_WORD(word(1, i), load(self->memory + i * PAGE));
		} else {
			EXPECT_EQ(EBUSY, error);
			EXPECT_TRUE(is_marked_bad(pfn));
			EXPECT_EQ(before, corrupted());
			EXPECT_SIGBUS(self->memory + i * PAGE, load(self->memory + i * PAGE));
		}
	}
}

/* The kernel can't move a page that is in no list of its own. */
TEST_F(kernel_failure, madvise_soft_offline)
{
	char *moved = self->memory + 2 * PAGE;
	uint64_t pfn = pfn_of(moved);
	int error = madvise(moved, PAGE, MADV_SOFT_OFFLINE) ? errno : 0;

	if (error == EINVAL || error == EPERM)
		SKIP(return, "the kernel takes no pages offline");
	if (variant->device) {
		EXPECT_NE(0, error);
		EXPECT_FALSE(is_marked_bad(pfn));
		EXPECT_EQ(pfn, pfn_of(moved));
	} else {
		EXPECT_EQ(0, error);
		EXPECT_TRUE(is_marked_bad(pfn));
	}
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
	EXPECT_WORD(word(1, 2), peer_load(self->child, moved));
}

TEST_HARNESS_MAIN
