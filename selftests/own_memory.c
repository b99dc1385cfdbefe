// SPDX-License-Identifier: GPL-2.0-only
/* ioctl() of the device: a process lets pages of its own fail, gives them back and lists them. */
#include "../rust/uapi/anon_rmap.h"
#include "lib/fixture.h"
#include "lib/process.h"
#include <sys/ioctl.h>
#include <sys/wait.h>

#define NR_PAGES 16

FIXTURE(own_memory)
{
	char *memory;
	int device;
};

FIXTURE_SETUP(own_memory)
{
	self->device = open(DEVICE, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->device);
	self->memory = map_device(NR_PAGES, MAP_PRIVATE);
	ASSERT_NE(MAP_FAILED, self->memory);
	fill(self->memory, NR_PAGES, 1);
}

FIXTURE_LEAVES_NOTHING(own_memory);

/* What @command says of the range; a negative errno if it is refused. */
static int ask(int device, unsigned long command, const void *address, size_t length, uint32_t flags)
{
	struct anon_rmap_range range = { (uintptr_t)address, length, flags, 0 };
	int answer = ioctl(device, command, &range);

	return answer < 0 ? -errno : answer;
}

static int poison(int device, const void *address, size_t length, uint32_t flags)
{
	return ask(device, ANON_RMAP_POISON, address, length, flags);
}

static int unpoison(int device, const void *address, size_t length)
{
	return ask(device, ANON_RMAP_UNPOISON, address, length, 0);
}

/* Whether the process @pid ends with status 0. */
static bool ends_well(pid_t pid)
{
	int status;

	return waitpid(pid, &status, 0) == pid && !status;
}

/* As many of the pages that have failed as @pages, which has room for *@count of them, can have; *@count is how many there are. */
static int list(int device, const void *address, size_t length, struct anon_rmap_page *pages, uint64_t *count)
{
	struct anon_rmap_list list = { (uintptr_t)address, length, (uintptr_t)pages, *count };
	int answer = ioctl(device, ANON_RMAP_LIST, &list);

	if (answer < 0)
		return -errno;
	*count = list.count;
	return answer;
}

TEST_F(own_memory, a_page_fails_and_comes_back)
{
	char *bad = self->memory + 3 * PAGE;

	ASSERT_EQ(1, poison(self->device, bad + 100, 1, 0));
	EXPECT_SIGBUS(bad, load(bad));
	EXPECT_TRUE(filled(self->memory, 0, 3, 1));
	EXPECT_TRUE(filled(self->memory, 4, NR_PAGES - 4, 1));
	ASSERT_EQ(1, unpoison(self->device, bad, PAGE));
	EXPECT_TRUE(filled(self->memory, 0, NR_PAGES, 1));
}

TEST_F(own_memory, each_page_of_a_range_fails_that_is_touched_and_good)
{
	char *memory = self->memory;

	ASSERT_EQ(0, madvise(memory + 5 * PAGE, PAGE, MADV_DONTNEED));
	ASSERT_EQ(1, poison(self->device, memory + 6 * PAGE, PAGE, 0));
	/* Pages 3 to 8, but for 5 and 6. */
	ASSERT_EQ(4, poison(self->device, memory + 4 * PAGE - 1, 4 * PAGE + 2, 0));
	for (int page = 0; page < NR_PAGES; page++) {
		struct access seen = load(memory + page * PAGE);

		EXPECT_EQ(page >= 3 && page <= 8 && page != 5 ? SIGBUS : 0, seen.signal);
	}
	EXPECT_EQ(5, unpoison(self->device, memory, NR_PAGES * PAGE));
}

TEST_F(own_memory, what_nobody_has_touched_fails_in_advance_if_that_is_asked_for)
{
	char *memory = self->memory;

	ASSERT_EQ(0, madvise(memory, 3 * PAGE, MADV_DONTNEED));
	EXPECT_EQ(-ENODATA, poison(self->device, memory, 3 * PAGE, 0));
	EXPECT_EQ(-ENODATA, poison(self->device, memory, 3 * PAGE, ANON_RMAP_KEEP));
	EXPECT_EQ(4, poison(self->device, memory, 4 * PAGE, ANON_RMAP_UNTOUCHED));
	for (int page = 0; page < 4; page++)
		EXPECT_SIGBUS(memory + page * PAGE, load(memory + page * PAGE));
	EXPECT_EQ(4, unpoison(self->device, memory, 4 * PAGE));
	EXPECT_TRUE(zeroed(memory, 3));
	EXPECT_TRUE(filled(memory, 3, 1, 1));
}

TEST_F(own_memory, a_kept_page_is_read_and_written)
{
	ASSERT_EQ(1, poison(self->device, self->memory, PAGE, ANON_RMAP_KEEP));
	EXPECT_TRUE(filled(self->memory, 0, NR_PAGES, 1));
	EXPECT_WORD(5, store(self->memory, 5));
	ASSERT_EQ(1, unpoison(self->device, self->memory, PAGE));
	EXPECT_WORD(5, load(self->memory));
}

TEST_F(own_memory, what_has_failed_is_listed_with_its_kind)
{
	struct anon_rmap_page pages[4] = {};
	char *memory = self->memory;
	uint64_t count = 4;

	EXPECT_EQ(0, list(self->device, memory, NR_PAGES * PAGE, pages, &count));
	EXPECT_EQ(0, count);
	ASSERT_EQ(1, poison(self->device, memory + 9 * PAGE, PAGE, ANON_RMAP_KEEP));
	ASSERT_EQ(1, poison(self->device, memory + 2 * PAGE, PAGE, 0));
	ASSERT_EQ(0, print_to_file(DEBUGFS "hard_offline", "%#lx", pfn_of(memory + 4 * PAGE)));
	count = 4;
	ASSERT_EQ(3, list(self->device, memory, NR_PAGES * PAGE, pages, &count));
	EXPECT_EQ(3, count);
	EXPECT_EQ((uintptr_t)memory + 2 * PAGE, pages[0].address);
	EXPECT_EQ(ANON_RMAP_KIND_SIMULATED, pages[0].kind);
	EXPECT_EQ((uintptr_t)memory + 4 * PAGE, pages[1].address);
	EXPECT_EQ(ANON_RMAP_KIND_HARDWARE, pages[1].kind);
	EXPECT_EQ((uintptr_t)memory + 9 * PAGE, pages[2].address);
	EXPECT_EQ(ANON_RMAP_KIND_KEPT, pages[2].kind);

	/* With less room it tells how much there is, and with none. */
	memset(pages, 0, sizeof(pages));
	count = 1;
	ASSERT_EQ(1, list(self->device, memory + 4 * PAGE, 6 * PAGE, pages, &count));
	EXPECT_EQ(2, count);
	EXPECT_EQ((uintptr_t)memory + 4 * PAGE, pages[0].address);
	EXPECT_EQ(0, pages[1].address);
	count = 0;
	EXPECT_EQ(0, list(self->device, memory, NR_PAGES * PAGE, NULL, &count));
	EXPECT_EQ(3, count);

	/* What the hardware took stays away. */
	EXPECT_EQ(-EPERM, unpoison(self->device, memory + 4 * PAGE, PAGE));
	EXPECT_EQ(2, unpoison(self->device, memory, NR_PAGES * PAGE));
	EXPECT_SIGBUS(memory + 4 * PAGE, load(memory + 4 * PAGE));
}

TEST_F(own_memory, who_shares_the_page_is_hit_and_others_are_not)
{
	struct peer *child = fork_peer();
	char *bad = self->memory + PAGE;

	ASSERT_NE(NULL, child);
	EXPECT_WORD(1UL << 32, peer_load(child, self->memory));
	EXPECT_WORD(2, peer_store(child, self->memory + 2 * PAGE, 2));
	ASSERT_EQ(3, poison(self->device, self->memory, 3 * PAGE, 0));
	EXPECT_SIGBUS(self->memory, peer_load(child, self->memory));
	EXPECT_SIGBUS(bad, peer_load(child, bad));
	EXPECT_WORD(2, peer_load(child, self->memory + 2 * PAGE));
	ASSERT_EQ(3, unpoison(self->device, self->memory, 3 * PAGE));
	EXPECT_WORD(1UL << 32, peer_load(child, self->memory));
	end_peer(child);
	EXPECT_TRUE(filled(self->memory, 0, NR_PAGES, 1));
}

TEST_F(own_memory, a_file_that_another_process_has_opened_is_as_good)
{
	pid_t pid = fork();

	if (!pid) {
		char *own = map_device(1, MAP_PRIVATE);

		/* The memory of the caller, not of who has opened the file. */
		_exit(own == MAP_FAILED || store(own, 1).signal || poison(self->device, own, PAGE, 0) != 1 ||
		      load(own).signal != SIGBUS);
	}
	EXPECT_TRUE(ends_well(pid));
	EXPECT_TRUE(filled(self->memory, 0, NR_PAGES, 1));
}

TEST_F(own_memory, it_is_written_down_as_other_drills_are)
{
	uint64_t pfn = pfn_of(self->memory);
	char *text;

	ASSERT_EQ(1, poison(self->device, self->memory, PAGE, 0));
	text = read_file(DEBUGFS "poisoned");
	ASSERT_NE(NULL, text);
	EXPECT_NE(NULL, strstr(text, " source=ioctl "));
	free(text);
	EXPECT_EQ(0, unpoison_pfn(pfn));
	EXPECT_TRUE(filled(self->memory, 0, NR_PAGES, 1));
}

TEST_F(own_memory, what_is_refused_changes_nothing)
{
	char *memory = self->memory, *other = map_private(false, 2);
	struct anon_rmap_range reserved = { (uintptr_t)memory, PAGE, 0, 1 };
	const size_t all = NR_PAGES * PAGE;
	uint64_t count = 1;
	int device = self->device;

	ASSERT_NE(MAP_FAILED, other);
	fill(other, 2, 1);
	EXPECT_EQ(-EINVAL, poison(device, memory, 0, 0));
	EXPECT_EQ(-EINVAL, poison(device, memory, -1UL, 0));
	EXPECT_EQ(-EINVAL, poison(device, memory, PAGE, 4));
	EXPECT_EQ(-EINVAL, poison(device, memory, PAGE, ANON_RMAP_KEEP | ANON_RMAP_UNTOUCHED));
	EXPECT_EQ(-EINVAL, ask(device, ANON_RMAP_UNPOISON, memory, PAGE, ANON_RMAP_KEEP));
	EXPECT_EQ(-1, ioctl(device, ANON_RMAP_POISON, &reserved));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, ioctl(device, ANON_RMAP_UNPOISON, &reserved));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, ioctl(device, ANON_RMAP_POISON, NULL));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, ioctl(device, ANON_RMAP_LIST, NULL));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, ioctl(device, _IO(ANON_RMAP_IOC, 3), NULL));
	EXPECT_EQ(ENOTTY, errno);
	EXPECT_EQ(-ENXIO, poison(device, other, PAGE, 0));
	EXPECT_EQ(-ENXIO, poison(device, other, PAGE, ANON_RMAP_UNTOUCHED));
	EXPECT_EQ(-ENXIO, unpoison(device, other, PAGE));
	EXPECT_EQ(-ENXIO, list(device, other, PAGE, NULL, &count));
	EXPECT_EQ(-ENOENT, unpoison(device, memory, all));
	/* The page behind the mapping is not the device's. */
	ASSERT_EQ(0, munmap(memory + all - PAGE, PAGE));
	EXPECT_EQ(-EFAULT, poison(device, memory, all, ANON_RMAP_UNTOUCHED));
	EXPECT_EQ(-EFAULT, poison(device, (char *)-PAGE, PAGE - 1, ANON_RMAP_UNTOUCHED));
	EXPECT_EQ(-ENXIO, poison(device, (char *)-PAGE, PAGE - 1, 0));
	EXPECT_EQ(-E2BIG, poison(device, memory, 65537 * PAGE, ANON_RMAP_UNTOUCHED));
	EXPECT_TRUE(filled(memory, 0, NR_PAGES - 1, 1));
	EXPECT_TRUE(filled(other, 0, 2, 1));
	EXPECT_EQ(0, counter("poisoned"));

	ASSERT_EQ(1, poison(device, memory, PAGE, 0));
	EXPECT_EQ(-EHWPOISON, poison(device, memory, PAGE, 0));
	EXPECT_EQ(-EHWPOISON, poison(device, memory, PAGE, ANON_RMAP_KEEP));
	EXPECT_EQ(-EHWPOISON, poison(device, memory, PAGE, ANON_RMAP_UNTOUCHED));
	/* An array, and an argument, on the page that has failed, or nowhere. */
	EXPECT_EQ(-EFAULT, list(device, memory, PAGE, (void *)memory, &count));
	EXPECT_EQ(-EFAULT, list(device, memory, PAGE, NULL, &count));
	EXPECT_EQ(-1, ioctl(device, ANON_RMAP_UNPOISON, memory));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(1, counter("poisoned"));
	EXPECT_EQ(1, unpoison(device, memory, all));
}

/* Pages are looked at so many at a time. */
TEST_F(own_memory, what_is_far_apart_is_one_range)
{
	const size_t pages = 3 << 16;
	struct anon_rmap_page listed[3];
	uint64_t count = 3;
	char *memory = map_device(pages, MAP_PRIVATE);
	char *const places[] = { memory, memory + ((1 << 16) - 1) * PAGE, memory + (pages - 1) * PAGE };

	ASSERT_NE(MAP_FAILED, memory);
	for (int i = 0; i < 3; i++)
		store(places[i], 7);
	/* In three VMAs. */
	ASSERT_EQ(0, mprotect(memory + PAGE, PAGE, PROT_READ));
	EXPECT_EQ(-ENODATA, poison(self->device, memory + PAGE, PAGE, 0));
	ASSERT_EQ(3, poison(self->device, memory, pages * PAGE, 0));
	EXPECT_EQ(-EHWPOISON, poison(self->device, memory, pages * PAGE, 0));
	ASSERT_EQ(3, list(self->device, memory, pages * PAGE, listed, &count));
	for (int i = 0; i < 3; i++)
		EXPECT_EQ((uintptr_t)places[i], listed[i].address);
	EXPECT_EQ(3, unpoison(self->device, memory, pages * PAGE));
	EXPECT_EQ(-ENOENT, unpoison(self->device, memory, pages * PAGE));
	for (int i = 0; i < 3; i++)
		EXPECT_WORD(7, load(places[i]));
	munmap(memory, pages * PAGE);
}

TEST_F(own_memory, who_has_no_right_to_drills_may_only_list)
{
	struct anon_rmap_page page;
	uint64_t count = 1;
	pid_t pid;

	ASSERT_EQ(1, poison(self->device, self->memory, PAGE, 0));
	pid = fork();
	if (!pid)
		_exit(become_nobody() || poison(self->device, self->memory + PAGE, PAGE, 0) != -EPERM ||
		      poison(self->device, self->memory + PAGE, PAGE, ANON_RMAP_UNTOUCHED) != -EPERM ||
		      unpoison(self->device, self->memory, PAGE) != -EPERM ||
		      list(self->device, self->memory, NR_PAGES * PAGE, &page, &count) != 1 ||
		      page.address != (uintptr_t)self->memory);
	EXPECT_TRUE(ends_well(pid));
	EXPECT_EQ(1, unpoison(self->device, self->memory, PAGE));
	EXPECT_TRUE(filled(self->memory, 0, NR_PAGES, 1));
}

TEST_HARNESS_MAIN
