// SPDX-License-Identifier: GPL-2.0-only
/*
 * What core mm does not let a driver do like anonymous memory (rust/limits.md), as it is: so that it is noticed
 * when it changes, and that nothing worse comes of it.
 */
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "lib/fixture.h"
#include "lib/proc.h"

#define PAGES 16

FIXTURE_ON_BOTH(core_mm_limits, PAGES, true);

/* What the call does: an errno with the device, but success with anonymous memory. */
#define EXPECT_REFUSED(device_errno, call) do {				\
	long refused_result = (call), refused_errno = errno;		\
									\
	if (variant->device) {						\
		EXPECT_EQ(-1, refused_result);				\
		EXPECT_EQ(device_errno, refused_errno);			\
	} else {							\
		EXPECT_LE(0, refused_result);				\
	}								\
} while (0)

TEST_F(core_mm_limits, ptrace_does_not_write_where_the_process_itself_could_not)
{
	struct peer *child;
	int status;

	ASSERT_EQ(0, mprotect(self->memory, PAGE, PROT_READ));
	child = fork_peer();
	ASSERT_NE(NULL, child);
	ASSERT_EQ(0, ptrace(PTRACE_ATTACH, child->pid, NULL, NULL));
	ASSERT_EQ(child->pid, waitpid(child->pid, &status, 0));
	EXPECT_REFUSED(EIO, ptrace(PTRACE_POKEDATA, child->pid, self->memory, 7L));
	EXPECT_EQ(0, ptrace(PTRACE_POKEDATA, child->pid, self->memory + PAGE, 8L));
	ASSERT_EQ(0, ptrace(PTRACE_DETACH, child->pid, NULL, NULL));
	EXPECT_WORD(variant->device ? word(1, 0) : 7, peer_load(child, self->memory));
	EXPECT_WORD(8, peer_load(child, self->memory + PAGE));
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
}

TEST_F(core_mm_limits, long_term_pins_for_writing_are_refused)
{
	struct io_uring_params parameters = {};
	struct iovec buffer = { self->memory, PAGES * PAGE };
	int ring = syscall(SYS_io_uring_setup, 1, &parameters);

	if (ring < 0)
		SKIP(return, "no io_uring");
	EXPECT_REFUSED(EFAULT, syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &buffer, 1));
	close(ring);
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
}

TEST_F(core_mm_limits, shared_futexes_are_refused)
{
	EXPECT_REFUSED(EFAULT, syscall(SYS_futex, self->memory, FUTEX_WAKE, 1, NULL, NULL, 0));
	EXPECT_EQ(0, syscall(SYS_futex, self->memory, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0));
}

TEST_F(core_mm_limits, some_advice_is_refused)
{
	EXPECT_REFUSED(EINVAL, madvise(self->memory, PAGE, MADV_FREE));
	EXPECT_REFUSED(EINVAL, madvise(self->memory + PAGE, PAGE, MADV_WIPEONFORK));
	EXPECT_EQ(-1, madvise(self->memory + 2 * PAGE, PAGE, MADV_REMOVE));
	EXPECT_EQ(variant->device ? ENODEV : EINVAL, errno);
	EXPECT_TRUE(filled(self->memory, 1, PAGES - 1, 1));
}

TEST_F(core_mm_limits, msync_is_refused)
{
	EXPECT_REFUSED(EINVAL, msync(self->memory, PAGES * PAGE, MS_SYNC));
	EXPECT_EQ(0, msync(self->memory, PAGES * PAGE, MS_ASYNC));
}

TEST_F(core_mm_limits, userfaultfd_is_refused)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = {
		.range = { (uintptr_t)self->memory, PAGES * PAGE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC);

	if (uffd < 0)
		SKIP(return, "no userfaultfd");
	ASSERT_EQ(0, ioctl(uffd, UFFDIO_API, &api));
	EXPECT_REFUSED(EINVAL, ioctl(uffd, UFFDIO_REGISTER, &range));
	close(uffd);
}

static long madvise_page(void *page, long advice)
{
	return madvise(page, PAGE, advice) ? errno : 0;
}

TEST_F(core_mm_limits, a_guard_keeps_what_is_in_no_page_table)
{
	struct peer *child = fork_peer();

	ASSERT_NE(NULL, child);
	/* As what a child has inherited and not touched. What is in there is dropped, see guard.c. */
	ASSERT_EQ(0, peer_call(child, madvise_page, self->memory, MADV_GUARD_INSTALL));
	EXPECT_SIGSEGV(peer_load(child, self->memory));
	ASSERT_EQ(0, peer_call(child, madvise_page, self->memory, MADV_GUARD_REMOVE));
	EXPECT_WORD(variant->device ? word(1, 0) : 0, peer_load(child, self->memory));
	EXPECT_WORD(word(1, 0), load(self->memory));
}

TEST_F(core_mm_limits, remap_file_pages_changes_nothing)
{
	EXPECT_EQ(-1, syscall(SYS_remap_file_pages, self->memory, 2 * PAGE, 0, 0, 0));
	EXPECT_EQ(variant->device ? ENODEV : EINVAL, errno);
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
}

TEST_F(core_mm_limits, what_was_split_stays_split)
{
	char *target = reserve(PAGES);

	ASSERT_EQ(0, mprotect(self->memory + 4 * PAGE, 4 * PAGE, PROT_READ));
	ASSERT_EQ(0, mprotect(self->memory + 4 * PAGE, 4 * PAGE, PROT_READ | PROT_WRITE));
	if (variant->device) {
		EXPECT_EQ(3, counter("vmas"));
	}
	/* More than one VMA is moved only if it is said where to, and nothing else. */
	EXPECT_REFUSED(EFAULT, (long)mremap(self->memory, PAGES * PAGE, (PAGES + 1) * PAGE, MREMAP_MAYMOVE));
	if (variant->device) {
		ASSERT_EQ(target, mremap(self->memory, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
					 target));
		EXPECT_TRUE(filled(target, 0, PAGES, 1));
	}
}

TEST_F(core_mm_limits, old_size_0_is_refused_when_the_target_has_gone)
{
	char *target = map_private(false, PAGES);

	ASSERT_NE(MAP_FAILED, target);
	fill(target, PAGES, 2);
	EXPECT_EQ(MAP_FAILED, mremap(self->memory, 0, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target));
	EXPECT_EQ(EINVAL, errno);
	if (variant->device) {
		EXPECT_SIGSEGV(load(target));
	} else {
		EXPECT_WORD(word(2, 0), load(target));
	}
	EXPECT_TRUE(filled(target, 1, PAGES - 1, 2));
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
}

TEST_F(core_mm_limits, shared_memory_has_no_end_and_no_second_mapping)
{
	char *shared = map_device(PAGES, MAP_SHARED), *second;
	struct peer *child;

	if (!variant->device)
		shared = map_shared(PAGES * PAGE);
	ASSERT_NE(MAP_FAILED, shared);
	fill(shared, PAGES, 2);
	shared = mremap(shared, PAGES * PAGE, 2 * PAGES * PAGE, MREMAP_MAYMOVE);
	ASSERT_NE(MAP_FAILED, shared);
	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_TRUE(filled(shared, 0, PAGES, 2));
	if (variant->device) {
		EXPECT_WORD(7, store(shared + PAGES * PAGE, 7));
		EXPECT_WORD(7, peer_load(child, shared + PAGES * PAGE));
	} else {
		EXPECT_EQ(SIGBUS, load(shared + PAGES * PAGE).signal);
	}
	second = mremap(shared, 0, PAGE, MREMAP_MAYMOVE);
	EXPECT_EQ(variant->device, second == MAP_FAILED);
	if (!variant->device) {
		EXPECT_WORD(8, store(second, 8));
		EXPECT_WORD(8, load(shared));
	}
}

/* The number of KiB that this process's status says after @name. */
static long kib(const char *name)
{
	return number_in("/proc/self/status", name);
}

TEST_F(core_mm_limits, it_is_no_data_that_could_be_limited)
{
	struct rlimit limit, former;

	ASSERT_EQ(0, getrlimit(RLIMIT_DATA, &former));
	limit = (struct rlimit){ kib("VmData:") * 1024 + 64 * PAGE, former.rlim_max };
	ASSERT_LT(64 * PAGE, limit.rlim_cur);
	ASSERT_EQ(0, setrlimit(RLIMIT_DATA, &limit));
	EXPECT_NE(MAP_FAILED, map_private(variant->device, 48));
	EXPECT_EQ(variant->device, map_private(variant->device, 48) != MAP_FAILED);
	ASSERT_EQ(0, setrlimit(RLIMIT_DATA, &former));
}

static long nr_resident(void *memory, long unused)
{
	unsigned char resident[PAGES];
	long count = 0;

	(void)unused;
	if (mincore(memory, PAGES * PAGE, resident))
		return -errno;
	for (int i = 0; i < PAGES; i++)
		count += resident[i] & 1;
	return count;
}

TEST_F(core_mm_limits, mincore_sees_what_is_in_page_tables)
{
	struct peer *child;

	EXPECT_EQ(PAGES, nr_resident(self->memory, 0));
	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_EQ(PAGES, nr_resident(self->memory, 0));
	/* What a child has not touched is counted for its parent alone. */
	EXPECT_EQ(variant->device ? 0 : PAGES, peer_call(child, nr_resident, self->memory, 0));
}

TEST_F(core_mm_limits, stacks_do_not_grow_in_it)
{
	int fd = variant->device ? open(DEVICE, O_RDWR | O_CLOEXEC) : -1;
	int flags = MAP_PRIVATE | MAP_GROWSDOWN | (variant->device ? 0 : MAP_ANONYMOUS);
	void *stack = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, flags, fd, 0);

	EXPECT_REFUSED(EINVAL, stack == MAP_FAILED ? -1 : 0);
}

static void see_mergeable(const char *line, void *argument)
{
	if (!strncmp(line, "VmFlags:", 8) && strstr(line, " mg"))
		*(bool *)argument = true;
}

TEST_F(core_mm_limits, its_pages_are_not_merged)
{
	bool mergeable = false;

	if (madvise(self->memory, PAGES * PAGE, MADV_MERGEABLE))
		SKIP(return, "no KSM");
	read_smaps(self->memory, PAGES, see_mergeable, &mergeable);
	EXPECT_EQ(!variant->device, mergeable);
}

static long touch_all(void *memory, long pages)
{
	for (long i = 0; i < pages; i++)
		store((char *)memory + i * PAGE, 1);
	return 0;
}

/* What a process has after process_mrelease(), which has been killed and can't end yet. */
TEST_F(core_mm_limits, memory_of_the_dying_is_free_when_they_have_ended)
{
	const size_t pages = 2048;
	char *more = map_private(variant->device, pages);
	struct peer *child;
	int pidfd, status;
	char path[32];

	ASSERT_NE(MAP_FAILED, more);
	ASSERT_EQ(0, madvise(more, pages * PAGE, MADV_NOHUGEPAGE));
	child = fork_peer();
	ASSERT_NE(NULL, child);
	ASSERT_EQ(0, munmap(more, pages * PAGE));
	peer_call(child, touch_all, more, pages);
	pidfd = syscall(SYS_pidfd_open, child->pid, 0);
	ASSERT_LE(0, pidfd);
	ASSERT_EQ(0, ptrace(PTRACE_SEIZE, child->pid, 0, PTRACE_O_TRACEEXIT));
	kill(child->pid, SIGKILL);
	ASSERT_EQ(child->pid, waitpid(child->pid, &status, __WALL));
	ASSERT_TRUE(WIFSTOPPED(status));
	snprintf(path, sizeof(path), "/proc/%d/status", child->pid);
	ASSERT_EQ(0, syscall(SYS_process_mrelease, pidfd, 0));
	if (variant->device) {
		EXPECT_LE((long)(pages * PAGE / 1024), number_in(path, "VmRSS:"));
	} else {
		EXPECT_GT((long)(pages * PAGE / 1024 / 4), number_in(path, "VmRSS:"));
	}
	ptrace(PTRACE_CONT, child->pid, 0, 0);
	waitpid(child->pid, &status, __WALL);
	close(pidfd);
}

TEST_F(core_mm_limits, it_is_counted_as_a_file)
{
	const long size = 1024 * PAGE / 1024;
	long anonymous = kib("RssAnon:"), file = kib("RssFile:"), shared = kib("RssShmem:");
	char *more = map_private(variant->device, 1024);

	ASSERT_LE(0, anonymous);
	ASSERT_NE(MAP_FAILED, more);
	fill(more, 1024, 1);
	/* The kernel counts in batches. */
	EXPECT_LE(size - size / 2, (variant->device ? kib("RssFile:") - file : kib("RssAnon:") - anonymous));
	EXPECT_GE(size / 4, (variant->device ? kib("RssAnon:") - anonymous : kib("RssFile:") - file));
	EXPECT_GE(size / 4, kib("RssShmem:") - shared);
}

TEST_HARNESS_MAIN
