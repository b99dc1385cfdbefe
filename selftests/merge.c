// SPDX-License-Identifier: GPL-2.0-only
/* Merging: pages with the same content share a frame, each writes to its own, and a failure of the frame hits all. */
#include "../rust/uapi/anon_rmap.h"
#include "lib/fixture.h"
#include "lib/memcg.h"
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
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
	EXPECT_EQ(0, print_to_file(MERGE "max_page_sharing", "256"));
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
	static const size_t dirty[] = { 0, 1, 5, 6, 7, NR_PAGES - 1 };

	if (!has_soft_dirty())
		SKIP(return, "the kernel has no soft-dirty bits");
	write_pages(self->memory, NR_PAGES, 1);
	ASSERT_EQ(0, clear_soft_dirty());
	write_page(self->memory, 0, 1);
	write_page(self->memory, 1, 1);
	write_page(self->memory, 5, 1);
	write_page(self->memory, NR_PAGES - 1, 1);
	memset(self->memory + 6 * PAGE, 0, PAGE);
	memset(self->memory + 7 * PAGE, 0, PAGE);
	ASSERT_TRUE(scan());
	ASSERT_EQ(0, set_run(0));
	/* Without a page of zeroes, nothing could say so. */
	EXPECT_EQ(2, frames(self->memory, NR_PAGES));
	for (size_t i = 0; i < sizeof(dirty) / sizeof(*dirty); i++)
		EXPECT_NE(0, own_pagemap_entry(self->memory + dirty[i] * PAGE) & PAGEMAP_SOFT_DIRTY);
}

TEST_F(merge, locked_memory_stays_where_it_is)
{
	write_pages(self->memory, NR_PAGES / 2, 1);
	memset(self->memory + NR_PAGES / 2 * PAGE, 1, NR_PAGES / 2 * PAGE);
	memset(self->memory + NR_PAGES / 2 * PAGE, 0, NR_PAGES / 2 * PAGE);
	ASSERT_EQ(0, mlock(self->memory, NR_PAGES * PAGE));
	ASSERT_TRUE(scan());
	EXPECT_EQ(UINT64_MAX, pages_that_are(PAGEMAP_PRESENT, self->memory, NR_PAGES));
	EXPECT_EQ(NR_PAGES, frames(self->memory, NR_PAGES));
	ASSERT_EQ(0, munlock(self->memory, NR_PAGES * PAGE));
	ASSERT_TRUE(scan());
	EXPECT_EQ(1, frames(self->memory, NR_PAGES / 2));
}

TEST_F(merge, no_more_than_that_share_a_frame)
{
	ASSERT_EQ(0, print_to_file(MERGE "max_page_sharing", "16"));
	write_pages(self->memory, NR_PAGES, 1);
	ASSERT_TRUE(scan());
	EXPECT_EQ(NR_PAGES / 16, frames(self->memory, NR_PAGES));
	EXPECT_EQ(NR_PAGES / 16, counter("pages_shared"));
	ASSERT_EQ(0, set_run(2));
	EXPECT_EQ(0, counter("pages_shared"));
}

#define MANY 4096

static long leave_there(void *memory, long pages)
{
	int device = open(DEVICE, O_RDWR | O_CLOEXEC);

	return -ask(device, memory, pages * PAGE, 0);
}

/* For peer_call(): joins cgroup number @cgroup, if it is not 0, and fills MANY pages that may be merged. */
static long fill_there(void *memory, long cgroup)
{
	int device = open(DEVICE, O_RDWR | O_CLOEXEC);

	if (cgroup == 1 && join_memcg(NULL, 0))
		return EPERM;
	if (cgroup == 2 && print_to_file(MEMCG_MOUNT "/other/cgroup.procs", "%d", getpid()))
		return EPERM;
	write_pages(memory, MANY, MANY);
	return -ask(device, memory, MANY * PAGE, ANON_RMAP_MERGEABLE);
}

TEST_F(merge, who_leaves_pays_for_it)
{
	const char *const other = MEMCG_MOUNT "/other";
	char *memory = map_device(MANY, MAP_PRIVATE);
	struct peer *one, *two;
	long ones, twos;

	if (!make_memcg())
		SKIP(return, "no memory cgroups");
	ASSERT_EQ(0, mkdir(other, 0700));
	one = fork_peer();
	two = fork_peer();
	ASSERT_EQ(0, peer_call(one, fill_there, memory, 1));
	ASSERT_EQ(0, peer_call(two, fill_there, memory, 2));
	ASSERT_TRUE(scan());
	ASSERT_EQ(0, set_run(0));
	ASSERT_EQ(MANY, counter("pages_sharing"));
	ones = memcg_charged();
	twos = number_in(MEMCG_MOUNT "/other/memory.current", "");
	/* Nobody else needs memory for it. */
	ASSERT_EQ(0, print_to_file(MEMCG_MOUNT "/other/memory.max", "%ld", twos + (1L << 20)));
	ASSERT_EQ(0, peer_call(one, leave_there, memory, MANY));
	EXPECT_LT(ones + MANY * PAGE * 9 / 10, memcg_charged());
	EXPECT_GT(twos + (1L << 20), number_in(MEMCG_MOUNT "/other/memory.current", ""));
	EXPECT_EQ(0, number_in(MEMCG_MOUNT "/other/memory.events", "oom_kill "));
	end_peer(one);
	end_peer(two);
	EXPECT_EQ(0, rmdir(other));
	remove_memcg();
}

TEST_F(merge, two_leave_at_a_time)
{
	char *memory = map_device(MANY, MAP_PRIVATE);
	struct peer *one = fork_peer(), *two = fork_peer();

	for (int round = 0; round < repeats(4); round++) {
		ASSERT_EQ(0, peer_call(one, fill_there, memory, 0));
		ASSERT_EQ(0, peer_call(two, fill_there, memory, 0));
		ASSERT_TRUE(scan());
		ASSERT_EQ(0, set_run(0));
		ASSERT_EQ(MANY, counter("pages_sharing"));
		begin_peer_call(one, leave_there, memory, MANY);
		begin_peer_call(two, leave_there, memory, MANY);
		EXPECT_EQ(0, end_peer_call(one));
		EXPECT_EQ(0, end_peer_call(two));
		EXPECT_EQ(0, counter("pages_shared"));
	}
}

static bool has_looked_at(uint64_t pages)
{
	return counter("pages_scanned_total") >= (long)pages;
}

/* Lets the scanner begin slowly, and waits until it has seen @pages. */
static bool scan_slowly(uint64_t pages)
{
	long before = counter("pages_scanned_total");

	return !print_to_file(MERGE "pages_to_scan", "100") && !print_to_file(MERGE "sleep_millisecs", "20") && !set_run(1) &&
	       await(has_looked_at, before + pages);
}

/* Lets it go on, and waits until it has seen all. */
static bool scan_quickly(void)
{
	return !print_to_file(MERGE "pages_to_scan", "1000") && !print_to_file(MERGE "sleep_millisecs", "1") && scan();
}

static char *map_at(int device, char *address, size_t pages)
{
	return mmap(address, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, device, 0);
}

TEST_F(merge, who_does_not_want_it_any_more_is_not_merged)
{
	char *first = reserve(MANY + 2), *rest = first + PAGE, *last = rest + MANY * PAGE;

	ASSERT_EQ(first, map_at(self->device, first, 1));
	ASSERT_EQ(rest, map_at(self->device, rest, MANY));
	ASSERT_EQ(last, map_at(self->device, last, 1));
	ASSERT_EQ(0, ask(self->device, first, (MANY + 2) * PAGE, ANON_RMAP_MERGEABLE));
	write_page(first, 0, MANY + 1);
	write_pages(rest, MANY, MANY);
	write_page(last, 0, MANY + 1);
	/* In its second scan the first page has not found another one yet. */
	ASSERT_TRUE(scan_slowly(MANY + 102));
	ASSERT_EQ(0, ask(self->device, first, PAGE, 0));
	ASSERT_TRUE(scan_quickly());
	EXPECT_NE(pfn_of(first), pfn_of(last));
	EXPECT_EQ(0, counter("pages_shared"));
}

TEST_F(merge, a_frame_that_others_share_by_now_is_no_candidate)
{
	enum { SOME = 64 };
	char *candidates = reserve(MANY + 4 * SOME), *rest = candidates + SOME * PAGE, *pairs = rest + MANY * PAGE,
	     *partners = pairs + 2 * SOME * PAGE;
	cpu_set_t cpus;

	/* What is freed is allocated again. */
	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(cpus), &cpus));
	ASSERT_EQ(candidates, map_at(self->device, candidates, SOME));
	ASSERT_EQ(rest, map_at(self->device, rest, MANY));
	ASSERT_EQ(pairs, map_at(self->device, pairs, 2 * SOME));
	ASSERT_EQ(partners, map_at(self->device, partners, SOME));
	ASSERT_EQ(0, ask(self->device, candidates, (MANY + 4 * SOME) * PAGE, ANON_RMAP_MERGEABLE));
	write_pages(rest, MANY, MANY);
	for (size_t page = 0; page < SOME; page++) {
		write_page(pairs, page, MANY + 1 + page);
		write_page(pairs, SOME + page, MANY + 1 + page);
	}
	ASSERT_TRUE(scan());
	ASSERT_EQ(0, set_run(0));
	ASSERT_EQ(SOME, counter("pages_sharing"));
	for (size_t page = 0; page < SOME; page++) {
		write_page(candidates, page, 2 * MANY + page);
		write_page(partners, page, 2 * MANY + page);
	}
	ASSERT_TRUE(scan_slowly(MANY + 5 * SOME + 100));
	/* The pairs get the frames of the candidates, and share these. */
	ASSERT_EQ(0, madvise(candidates, SOME * PAGE, MADV_DONTNEED));
	ASSERT_EQ(0, ask(self->device, pairs, 2 * SOME * PAGE, 0));
	ASSERT_EQ(0, ask(self->device, pairs, 2 * SOME * PAGE, ANON_RMAP_MERGEABLE));
	ASSERT_TRUE(scan_quickly());
	for (size_t page = 0; page < SOME; page++) {
		EXPECT_TRUE(has_page(pairs, page, MANY + 1 + page));
		EXPECT_TRUE(has_page(pairs, SOME + page, MANY + 1 + page));
		EXPECT_TRUE(has_page(partners, page, 2 * MANY + page));
	}
	EXPECT_EQ(SOME, counter("pages_sharing"));
}

TEST_F(merge, a_walk_visits_what_it_finds)
{
	enum { PLACES = 256 };
	char *memory = map_device(MANY, MAP_PRIVATE);
	uint64_t pfn;

	ASSERT_EQ(0, ask(self->device, memory, PAGE, ANON_RMAP_MERGEABLE));
	for (size_t page = 0; page < MANY; page++) {
		write_page(memory, page, page % (MANY / PLACES) ? 2 + page : 1);
		if (page % 2)
			ASSERT_EQ(0, mprotect(memory + page * PAGE, PAGE, PROT_READ));
	}
	ASSERT_TRUE(scan());
	ASSERT_EQ(0, set_run(0));
	ASSERT_EQ(PLACES - 1, counter("pages_sharing"));
	load(memory);
	pfn = pfn_of(memory);
	ASSERT_EQ(0, poison_pfn(pfn));
	EXPECT_GE(8 * PLACES, counter("last_walk_nodes"));
	EXPECT_LE(PLACES, counter("last_walk_mappings"));
	EXPECT_EQ(0, unpoison_pfn(pfn));
}

TEST_F(merge, what_is_no_choice_is_refused)
{
	EXPECT_EQ(EINVAL, print_to_file(MERGE "run", "3"));
	EXPECT_EQ(EINVAL, print_to_file(MERGE "run", "x"));
	EXPECT_EQ(EINVAL, print_to_file(MERGE "pages_to_scan", "0"));
	EXPECT_EQ(EINVAL, print_to_file(MERGE "pages_to_scan", "4294967296"));
	EXPECT_EQ(EINVAL, print_to_file(MERGE "max_page_sharing", "1"));
	EXPECT_EQ(EINVAL, print_to_file(MERGE "merge_across_families", "2"));
	EXPECT_EQ(1000, number_in(MERGE "pages_to_scan", ""));
	EXPECT_EQ(1, number_in(MERGE "sleep_millisecs", ""));
	EXPECT_EQ(-EINVAL, ask(self->device, self->memory, PAGE, ANON_RMAP_KEEP));
	EXPECT_EQ(-EINVAL, ask(self->device, self->memory, 0, ANON_RMAP_MERGEABLE));
	EXPECT_EQ(-ENXIO, ask(self->device, &self->device, 1, ANON_RMAP_MERGEABLE));
}

TEST_HARNESS_MAIN
