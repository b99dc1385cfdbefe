// SPDX-License-Identifier: GPL-2.0-only
/* Merging: pages with the same content share a frame, each writes to its own, and a failure of the frame hits all. */
#include "../rust/uapi/anon_rmap.h"
#include "lib/fixture.h"
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/uio.h>

#define NR_PAGES 64
#define MERGE DEBUGFS "merge/"

FIXTURE(merge)
{
	char *memory;
	int device;
};

static int set_run(int run)
{
	return print_to_file(MERGE "run", "%d", run);
}

/* Says whether pages may be merged; a negative errno if that is refused. */
static int ask(int device, const void *address, size_t length, uint32_t flags)
{
	struct anon_rmap_range range = { (uintptr_t)address, length, flags, 0 };

	return ioctl(device, ANON_RMAP_MERGE, &range) ? -errno : 0;
}

FIXTURE_SETUP(merge)
{
	self->device = open(DEVICE, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->device);
	self->memory = map_device(NR_PAGES, MAP_PRIVATE);
	ASSERT_NE(MAP_FAILED, self->memory);
	ASSERT_EQ(0, print_to_file(MERGE "pages_to_scan", "1000"));
	ASSERT_EQ(0, print_to_file(MERGE "sleep_millisecs", "1"));
	ASSERT_EQ(0, ask(self->device, self->memory, NR_PAGES * PAGE, ANON_RMAP_MERGEABLE));
}

FIXTURE_TEARDOWN_PARENT(merge)
{
	EXPECT_EQ(0, set_run(0));
	EXPECT_EQ(0, print_to_file(MERGE "merge_across_families", "1"));
	EXPECT_STREQ("", leak());
}

/* Page number @page of @memory gets content number @content, different in all its words from that of others. */
static void write_page(char *memory, size_t page, uint64_t content)
{
	uint64_t *words = (uint64_t *)(memory + page * PAGE);

	for (size_t i = 0; i < PAGE / sizeof(*words); i++)
		words[i] = (content << 32) + i;
}

/* Whether the page has it. */
static bool has_page(const char *memory, size_t page, uint64_t content)
{
	const uint64_t *words = (const uint64_t *)(memory + page * PAGE);

	for (size_t i = 0; i < PAGE / sizeof(*words); i++)
		if (words[i] != (content << 32) + i)
			return false;
	return true;
}

/* Each page gets the content of its number modulo @contents. */
static void write_pages(char *memory, size_t pages, uint64_t contents)
{
	for (size_t page = 0; page < pages; page++)
		write_page(memory, page, 1 + page % contents);
}

static bool have_pages(const char *memory, size_t pages, uint64_t contents)
{
	for (size_t page = 0; page < pages; page++)
		if (!has_page(memory, page, 1 + page % contents))
			return false;
	return true;
}

/* How many frames the pages are in. */
static size_t frames(const char *memory, size_t pages)
{
	size_t count = 0;

	/* One that is being merged is mapped nowhere for a moment. */
	for (size_t page = 0; page < pages; page++)
		(void)load(memory + page * PAGE);
	for (size_t page = 0; page < pages; page++) {
		uint64_t pfn = pfn_of(memory + page * PAGE);
		size_t earlier = 0;

		while (earlier < page && pfn_of(memory + earlier * PAGE) != pfn)
			earlier++;
		count += pfn && earlier == page;
	}
	return count;
}

static bool has_scanned(uint64_t scans)
{
	return counter("full_scans_total") >= (long)scans;
}

/* Waits until what does not change any more is merged: it is seen once, and once more, unless the scan had passed it. */
static bool scan(void)
{
	return !set_run(1) && await(has_scanned, counter("full_scans_total") + 4);
}

TEST_F(merge, equal_pages_share_a_frame)
{
	write_pages(self->memory, NR_PAGES, 4);
	ASSERT_TRUE(scan());
	EXPECT_EQ(4, frames(self->memory, NR_PAGES));
	EXPECT_TRUE(have_pages(self->memory, NR_PAGES, 4));
	EXPECT_EQ(4, counter("pages_shared"));
	EXPECT_EQ(NR_PAGES - 4, counter("pages_sharing"));
	EXPECT_TRUE(verified());
}

TEST_F(merge, who_has_not_asked_for_it_keeps_frames)
{
	ASSERT_EQ(0, ask(self->device, self->memory, NR_PAGES * PAGE, 0));
	write_pages(self->memory, NR_PAGES, 4);
	ASSERT_TRUE(scan());
	EXPECT_EQ(NR_PAGES, frames(self->memory, NR_PAGES));
	EXPECT_EQ(0, counter("pages_shared"));
}

TEST_F(merge, a_process_can_ask_for_all_its_memory)
{
	ASSERT_EQ(0, ask(self->device, self->memory, NR_PAGES * PAGE, 0));
	if (prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0))
		SKIP(return, "the kernel has no ksm");
	write_pages(self->memory, NR_PAGES, 4);
	ASSERT_TRUE(scan());
	EXPECT_EQ(4, frames(self->memory, NR_PAGES));
}

TEST_F(merge, who_writes_gets_a_frame)
{
	write_pages(self->memory, NR_PAGES, 1);
	ASSERT_TRUE(scan());
	ASSERT_EQ(0, set_run(0));
	ASSERT_EQ(1, frames(self->memory, NR_PAGES));
	write_page(self->memory, 7, 100);
	EXPECT_EQ(2, frames(self->memory, NR_PAGES));
	EXPECT_TRUE(has_page(self->memory, 7, 100));
	write_page(self->memory, 7, 1);
	EXPECT_TRUE(have_pages(self->memory, NR_PAGES, 1));
	EXPECT_EQ(NR_PAGES - 2, counter("pages_sharing"));
	ASSERT_TRUE(scan());
	ASSERT_EQ(0, set_run(0));
	EXPECT_EQ(1, frames(self->memory, NR_PAGES));
	for (size_t page = 0; page < NR_PAGES; page++)
		write_page(self->memory, page, page + 1);
	EXPECT_EQ(NR_PAGES, frames(self->memory, NR_PAGES));
	for (size_t page = 0; page < NR_PAGES; page++)
		EXPECT_TRUE(has_page(self->memory, page, page + 1));
	EXPECT_EQ(0, counter("pages_shared"));
}

TEST_F(merge, zeroes_take_no_frames)
{
	long zero_pages = counter("zero_pages_total"), anons;

	memset(self->memory, 1, NR_PAGES * PAGE);
	memset(self->memory, 0, NR_PAGES / 2 * PAGE);
	anons = counter("anons");
	ASSERT_TRUE(scan());
	EXPECT_EQ(anons - NR_PAGES / 2, counter("anons"));
	EXPECT_EQ(zero_pages + NR_PAGES / 2, counter("zero_pages_total"));
	EXPECT_TRUE(zeroed(self->memory, NR_PAGES / 2));
	EXPECT_EQ(pfn_of_zeroes(), pfn_of(self->memory));
	EXPECT_WORD(5, store(self->memory, 5));
	EXPECT_TRUE(zeroed(self->memory + PAGE, NR_PAGES / 2 - 1));
}

TEST_F(merge, pages_that_change_are_left_alone)
{
	uint64_t content = 1;
	bool has_seen = false;
	long scans;

	write_pages(self->memory, NR_PAGES, 1);
	scans = counter("full_scans_total");
	ASSERT_EQ(0, print_to_file(MERGE "sleep_millisecs", "20"));
	ASSERT_EQ(0, set_run(1));
	/* No page is the same in two scans. */
	while (!has_scanned(scans + 20)) {
		content++;
		for (size_t page = 0; page < NR_PAGES; page++)
			*(uint64_t *)(self->memory + page * PAGE) = content * NR_PAGES + page;
		has_seen |= counter("pages_volatile") > 0;
	}
	EXPECT_EQ(NR_PAGES, frames(self->memory, NR_PAGES));
	EXPECT_TRUE(has_seen);
}

TEST_F(merge, relatives_and_strangers_share_frames)
{
	char *other = map_device(NR_PAGES, MAP_PRIVATE);
	struct peer *child;

	ASSERT_NE(MAP_FAILED, other);
	ASSERT_EQ(0, ask(self->device, other, PAGE, ANON_RMAP_MERGEABLE));
	write_pages(self->memory, NR_PAGES, NR_PAGES);
	child = fork_peer();
	ASSERT_NE(NULL, child);
	write_pages(other, NR_PAGES, NR_PAGES);
	for (size_t page = 0; page < NR_PAGES; page++)
		EXPECT_WORD(2UL << 32, peer_store(child, self->memory + page * PAGE, 2UL << 32));
	ASSERT_TRUE(scan());
	for (size_t page = 0; page < NR_PAGES; page++)
		EXPECT_EQ(pfn_of(self->memory + page * PAGE), pfn_of(other + page * PAGE));
	EXPECT_EQ(NR_PAGES, frames(self->memory, NR_PAGES));
	/* Page 1 of the child is as that of the others. */
	EXPECT_EQ(NR_PAGES + 1, counter("pages_sharing"));
	EXPECT_TRUE(have_pages(other, NR_PAGES, NR_PAGES));
	EXPECT_TRUE(verified());
}

TEST_F(merge, families_can_be_kept_apart)
{
	char *other = map_device(NR_PAGES, MAP_PRIVATE);

	ASSERT_NE(MAP_FAILED, other);
	ASSERT_EQ(0, ask(self->device, other, NR_PAGES * PAGE, ANON_RMAP_MERGEABLE));
	write_pages(self->memory, NR_PAGES, 1);
	write_pages(other, NR_PAGES, 1);
	ASSERT_EQ(0, print_to_file(MERGE "merge_across_families", "0"));
	ASSERT_TRUE(scan());
	EXPECT_EQ(1, frames(self->memory, NR_PAGES));
	EXPECT_EQ(1, frames(other, NR_PAGES));
	EXPECT_NE(pfn_of(self->memory), pfn_of(other));
	EXPECT_EQ(2, counter("pages_shared"));
	ASSERT_EQ(0, set_run(0));
	EXPECT_EQ(EBUSY, print_to_file(MERGE "merge_across_families", "1"));
	ASSERT_EQ(0, set_run(2));
	EXPECT_EQ(0, print_to_file(MERGE "merge_across_families", "1"));
	ASSERT_TRUE(scan());
	EXPECT_EQ(pfn_of(self->memory), pfn_of(other));
}

TEST_F(merge, all_get_frames_of_their_own_again)
{
	struct peer *child;

	write_pages(self->memory, NR_PAGES, 4);
	child = fork_peer();
	ASSERT_NE(NULL, child);
	ASSERT_TRUE(scan());
	ASSERT_EQ(4, frames(self->memory, NR_PAGES));
	ASSERT_EQ(0, set_run(2));
	EXPECT_EQ(2, number_in(MERGE "run", ""));
	EXPECT_EQ(0, counter("pages_shared"));
	EXPECT_EQ(0, counter("pages_sharing"));
	EXPECT_EQ(NR_PAGES, frames(self->memory, NR_PAGES));
	EXPECT_TRUE(have_pages(self->memory, NR_PAGES, 4));
	EXPECT_WORD(2UL << 32, peer_load(child, self->memory + PAGE));
	/* What parent and child share they still do. */
	EXPECT_EQ(NR_PAGES, counter("anons"));
	EXPECT_TRUE(verified());
}

TEST_F(merge, a_mapping_gets_frames_of_its_own_again)
{
	char *other = map_device(NR_PAGES, MAP_PRIVATE);

	ASSERT_NE(MAP_FAILED, other);
	ASSERT_EQ(0, ask(self->device, other, NR_PAGES * PAGE, ANON_RMAP_MERGEABLE));
	write_pages(self->memory, NR_PAGES, 4);
	write_pages(other, NR_PAGES, 4);
	ASSERT_TRUE(scan());
	ASSERT_EQ(pfn_of(self->memory), pfn_of(other));
	ASSERT_EQ(0, ask(self->device, self->memory, NR_PAGES * PAGE, 0));
	EXPECT_EQ(NR_PAGES, frames(self->memory, NR_PAGES));
	EXPECT_EQ(4, frames(other, NR_PAGES));
	ASSERT_TRUE(scan());
	EXPECT_EQ(NR_PAGES, frames(self->memory, NR_PAGES));
	EXPECT_TRUE(have_pages(self->memory, NR_PAGES, 4));
}

TEST_F(merge, a_page_that_somebody_uses_keeps_its_frame)
{
	struct iovec page = { self->memory + 3 * PAGE, PAGE };
	int pipes[2];
	char seen[PAGE];

	write_pages(self->memory, NR_PAGES, 1);
	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(PAGE, vmsplice(pipes[1], &page, 1, 0));
	ASSERT_TRUE(scan());
	EXPECT_EQ(2, frames(self->memory, NR_PAGES));
	ASSERT_EQ(PAGE, read(pipes[0], seen, PAGE));
	EXPECT_EQ(0, memcmp(seen, page.iov_base, PAGE));
	ASSERT_TRUE(scan());
	EXPECT_EQ(1, frames(self->memory, NR_PAGES));
}

TEST_F(merge, memory_that_is_moved_inherited_and_discarded_keeps_its_content)
{
	char *target = reserve(NR_PAGES), *moved;
	struct peer *child;

	ASSERT_NE(MAP_FAILED, target);
	write_pages(self->memory, NR_PAGES, 4);
	ASSERT_TRUE(scan());
	moved = mremap(self->memory, NR_PAGES * PAGE, NR_PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target);
	ASSERT_EQ(target, moved);
	EXPECT_TRUE(have_pages(moved, NR_PAGES, 4));
	child = fork_peer();
	ASSERT_NE(NULL, child);
	ASSERT_EQ(0, madvise(moved, 4 * PAGE, MADV_DONTNEED));
	EXPECT_TRUE(zeroed(moved, 4));
	EXPECT_WORD(1UL << 32, peer_load(child, moved));
	EXPECT_WORD(9, peer_store(child, moved + 8 * PAGE, 9));
	EXPECT_TRUE(have_pages(moved + 4 * PAGE, NR_PAGES - 4, 4));
	/* It may still be merged. */
	write_pages(moved, NR_PAGES, 2);
	ASSERT_TRUE(scan());
	EXPECT_EQ(2, frames(moved, NR_PAGES));
	EXPECT_TRUE(verified());
}

TEST_F(merge, a_failure_hits_all_and_is_undone_for_all)
{
	char *other = map_device(NR_PAGES, MAP_PRIVATE);
	struct peer *child;
	uint64_t pfn;

	ASSERT_NE(MAP_FAILED, other);
	ASSERT_EQ(0, ask(self->device, other, NR_PAGES * PAGE, ANON_RMAP_MERGEABLE));
	write_pages(self->memory, NR_PAGES, 4);
	write_pages(other, NR_PAGES, 4);
	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_WORD(1UL << 32, peer_load(child, self->memory));
	ASSERT_TRUE(scan());
	ASSERT_EQ(0, set_run(0));
	pfn = pfn_of(self->memory);
	ASSERT_EQ(pfn, pfn_of(other + 4 * PAGE));
	ASSERT_EQ(0, poison_pfn(pfn));
	for (size_t page = 0; page < NR_PAGES; page++) {
		char *here = self->memory + page * PAGE, *there = other + page * PAGE;

		if (page % 4) {
			EXPECT_TRUE(has_page(self->memory, page, 1 + page % 4));
			EXPECT_TRUE(has_page(other, page, 1 + page % 4));
			continue;
		}
		EXPECT_SIGBUS(here, load(here));
		EXPECT_SIGBUS(there, store(there, 1));
		EXPECT_SIGBUS(here, peer_load(child, here));
	}
	EXPECT_TRUE(verified());
	/* It is not scanned, and nobody leaves it. */
	ASSERT_EQ(0, set_run(2));
	EXPECT_EQ(1, counter("pages_shared"));
	EXPECT_EQ(EHWPOISON, poison_pfn(pfn));
	ASSERT_EQ(0, unpoison_pfn(pfn));
	EXPECT_TRUE(have_pages(self->memory, NR_PAGES, 4));
	EXPECT_TRUE(have_pages(other, NR_PAGES, 4));
	EXPECT_WORD(1UL << 32, peer_load(child, self->memory));
	EXPECT_EQ(pfn, pfn_of(self->memory));
}

/* How many lines of a file of debugfs have the word @word. */
static size_t lines_with(const char *path, const char *word)
{
	char *text = read_file(path);
	size_t count = 0;

	for (char *line = text; line && *line; ) {
		char *end = strchr(line, '\n');

		if (!end)
			break;
		*end = 0;
		count += !!strstr(line, word);
		line = end + 1;
	}
	free(text);
	return count;
}

TEST_F(merge, all_places_are_known)
{
	struct poisoned poisoned;
	char word[32];
	uint64_t pfn;

	write_pages(self->memory, NR_PAGES, 4);
	ASSERT_TRUE(scan());
	ASSERT_EQ(0, set_run(0));
	pfn = pfn_of(self->memory);
	snprintf(word, sizeof(word), "pid=%d ", getpid());
	ASSERT_EQ(0, ask_rmap(pfn));
	EXPECT_EQ(NR_PAGES / 4, lines_with(DEBUGFS "rmap", word));
	ASSERT_EQ(0, print_to_file(DEBUGFS "dry_run", "%#lx", pfn));
	EXPECT_EQ(NR_PAGES / 4, lines_with(DEBUGFS "dry_run", word));
	ASSERT_EQ(0, poison_addr(getpid(), self->memory + 8 * PAGE));
	ASSERT_TRUE(read_poisoned(pfn, &poisoned));
	EXPECT_EQ(NR_PAGES / 4, poisoned.hit);
	ASSERT_EQ(0, unpoison_pfn(pfn));
}

TEST_F(merge, a_frame_fails_for_good)
{
	uint64_t pfn;

	write_pages(self->memory, NR_PAGES, 1);
	ASSERT_TRUE(scan());
	ASSERT_EQ(0, set_run(0));
	pfn = pfn_of(self->memory);
	ASSERT_EQ(0, hard_offline_pfn(pfn));
	for (size_t page = 0; page < NR_PAGES; page++)
		EXPECT_SIGBUS(self->memory + page * PAGE, load(self->memory + page * PAGE));
	EXPECT_EQ(EPERM, unpoison_pfn(pfn));
	/* Out of use, with all that has been there. */
	ASSERT_EQ(0, munmap(self->memory, NR_PAGES * PAGE));
	EXPECT_TRUE(is_out_of_use(pfn));
	EXPECT_EQ(0, counter("pages_shared"));
}

TEST_F(merge, soft_offline_moves_all)
{
	uint64_t pfn;

	write_pages(self->memory, NR_PAGES, 4);
	ASSERT_TRUE(scan());
	ASSERT_EQ(0, set_run(0));
	pfn = pfn_of(self->memory);
	ASSERT_EQ(0, soft_offline_pfn(pfn));
	EXPECT_NE(pfn, pfn_of(self->memory));
	EXPECT_EQ(4, frames(self->memory, NR_PAGES));
	EXPECT_TRUE(have_pages(self->memory, NR_PAGES, 4));
	EXPECT_EQ(4, counter("pages_shared"));
	EXPECT_TRUE(is_out_of_use(pfn));
	EXPECT_EQ(0, unpoison_pfn(pfn));
	/* Others join where it is now. */
	write_page(self->memory, 1, 1);
	ASSERT_TRUE(scan());
	EXPECT_EQ(pfn_of(self->memory), pfn_of(self->memory + PAGE));
}

TEST_F(merge, what_was_written_says_so)
{
	uint64_t soft_dirty = 1UL << 55;

	write_pages(self->memory, NR_PAGES, 1);
	if (clear_soft_dirty())
		SKIP(return, "the kernel has no soft-dirty bits");
	write_page(self->memory, 5, 1);
	memset(self->memory + 6 * PAGE, 0, PAGE);
	memset(self->memory + 7 * PAGE, 0, PAGE);
	ASSERT_TRUE(scan());
	ASSERT_EQ(0, set_run(0));
	/* Without a page of zeroes, nothing could say so. */
	EXPECT_EQ(2, frames(self->memory, NR_PAGES));
	for (size_t page = 5; page < 8; page++)
		EXPECT_NE(0, own_pagemap_entry(self->memory + page * PAGE) & soft_dirty);
}

TEST_F(merge, what_is_no_choice_is_refused)
{
	EXPECT_EQ(EINVAL, print_to_file(MERGE "run", "3"));
	EXPECT_EQ(EINVAL, print_to_file(MERGE "run", "x"));
	EXPECT_EQ(EINVAL, print_to_file(MERGE "pages_to_scan", "0"));
	EXPECT_EQ(EINVAL, print_to_file(MERGE "pages_to_scan", "4294967296"));
	EXPECT_EQ(EINVAL, print_to_file(MERGE "merge_across_families", "2"));
	EXPECT_EQ(1000, number_in(MERGE "pages_to_scan", ""));
	EXPECT_EQ(1, number_in(MERGE "sleep_millisecs", ""));
	EXPECT_EQ(-EINVAL, ask(self->device, self->memory, PAGE, ANON_RMAP_KEEP));
	EXPECT_EQ(-EINVAL, ask(self->device, self->memory, 0, ANON_RMAP_MERGEABLE));
	EXPECT_EQ(-ENXIO, ask(self->device, &self->device, 1, ANON_RMAP_MERGEABLE));
}

TEST_HARNESS_MAIN
