// SPDX-License-Identifier: GPL-2.0-only
/* A poisoned page is refused to all who share it, and nothing else is. */
#include <linux/futex.h>
#include <pthread.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "lib/fixture.h"

#define PAGES 64
#define BAD 5

/* What holds for private and for shared memory. */
FIXTURE_WITH_BAD_PAGE(memory_failure, PAGES, BAD);

/* Whether all pages but the bad one are as they were. */
static bool neighbours_intact(const char *memory)
{
	return filled(memory, 0, BAD, 1) && filled(memory, BAD + 1, PAGES - BAD - 1, 1);
}

TEST_F(memory_failure, an_access_gets_sigbus_with_its_exact_address)
{
	ASSERT_EQ(0, poison_addr(getpid(), self->bad));
	for (size_t offset = 0; offset < PAGE; offset += 584) {
		EXPECT_SIGBUS(self->bad + offset, load(self->bad + offset));
		EXPECT_SIGBUS(self->bad + offset, store(self->bad + offset, 7));
	}
	EXPECT_SIGBUS(self->bad + PAGE - 8, load(self->bad + PAGE - 8));
}

TEST_F(memory_failure, any_address_in_the_page_names_it)
{
	ASSERT_EQ(0, poison_addr(getpid(), self->bad + PAGE - 1));
	EXPECT_SIGBUS(self->bad, load(self->bad));
	EXPECT_TRUE(neighbours_intact(self->memory));
}

TEST_F(memory_failure, a_frame_number_names_it)
{
	ASSERT_EQ(0, poison_pfn(self->pfn));
	EXPECT_SIGBUS(self->bad, load(self->bad));
	EXPECT_TRUE(neighbours_intact(self->memory));
}

TEST_F(memory_failure, the_hundredth_access_is_refused_like_the_first)
{
	long refused = counter("accesses_refused_total");

	ASSERT_EQ(0, poison_addr(getpid(), self->bad));
	for (int i = 0; i < 100; i++)
		EXPECT_SIGBUS(self->bad, load(self->bad));
	EXPECT_EQ(refused + 100, counter("accesses_refused_total"));
}

TEST_F(memory_failure, neighbours_are_intact_and_writable)
{
	ASSERT_EQ(0, poison_addr(getpid(), self->bad));
	EXPECT_TRUE(neighbours_intact(self->memory));
	fill(self->memory, BAD, 2);
	fill(self->bad + PAGE, PAGES - BAD - 1, 2);
	EXPECT_TRUE(filled(self->memory, 0, BAD, 2));
	EXPECT_TRUE(filled(self->bad + PAGE, 0, PAGES - BAD - 1, 2));
	EXPECT_SIGBUS(self->bad, load(self->bad));
}

TEST_F(memory_failure, system_calls_fail)
{
	char buffer[8];
	struct iovec remote = { self->bad, 8 }, local = { buffer, 8 };
	int pipes[2], mem = open("/proc/self/mem", O_RDWR);

	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(0, poison_addr(getpid(), self->bad));
	EXPECT_EQ(-1, write(pipes[1], self->bad, 8));
	EXPECT_EQ(EFAULT, errno);
	ASSERT_EQ(8, write(pipes[1], "content", 8));
	EXPECT_EQ(-1, read(pipes[0], self->bad, 8));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, pread(mem, buffer, 8, (off_t)self->bad));
	EXPECT_EQ(EIO, errno);
	EXPECT_EQ(-1, pwrite(mem, buffer, 8, (off_t)self->bad));
	EXPECT_EQ(EIO, errno);
	EXPECT_EQ(-1, process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, process_vm_writev(getpid(), &local, 1, &remote, 1, 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, madvise(self->memory, PAGES * PAGE, MADV_POPULATE_READ));
	EXPECT_EQ(EHWPOISON, errno);
}

TEST_F(memory_failure, the_default_action_kills)
{
	int status;
	pid_t pid;

	ASSERT_EQ(0, poison_addr(getpid(), self->bad));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		signal(SIGBUS, SIG_DFL);
		*(volatile char *)self->bad;
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(SIGBUS, WTERMSIG(status));
}

TEST_F(memory_failure, all_who_share_the_page_are_refused)
{
	struct peer *child = fork_peer(), *grandchild, *untouched = fork_peer();

	ASSERT_NE(NULL, child);
	ASSERT_NE(NULL, untouched);
	grandchild = peer_fork(child);
	ASSERT_NE(NULL, grandchild);
	EXPECT_WORD(word(1, BAD), peer_load(child, self->bad));
	EXPECT_WORD(word(1, BAD), peer_load(grandchild, self->bad));
	ASSERT_EQ(0, poison_addr(grandchild->pid, self->bad));
	EXPECT_SIGBUS(self->bad, load(self->bad));
	EXPECT_SIGBUS(self->bad, peer_load(child, self->bad));
	EXPECT_SIGBUS(self->bad, peer_load(grandchild, self->bad));
	EXPECT_SIGBUS(self->bad, peer_load(untouched, self->bad));
	EXPECT_SIGBUS(self->bad, store(self->bad, 7));
	EXPECT_SIGBUS(self->bad, peer_store(child, self->bad, 7));
	EXPECT_SIGBUS(self->bad, peer_store(untouched, self->bad, 7));
	EXPECT_TRUE(neighbours_intact(self->memory));
	EXPECT_WORD(word(1, BAD - 1), peer_load(child, self->bad - PAGE));
	EXPECT_WORD(word(1, BAD + 1), peer_load(grandchild, self->bad + PAGE));
}

TEST_F(memory_failure, the_processes_that_mapped_the_page_are_listed)
{
	struct peer *child = fork_peer(), *untouched = fork_peer();
	struct poisoned page;

	ASSERT_NE(NULL, child);
	ASSERT_NE(NULL, untouched);
	EXPECT_WORD(word(1, BAD), peer_load(child, self->bad));
	EXPECT_WORD(word(1, BAD), load(self->bad));
	ASSERT_EQ(0, poison_addr(getpid(), self->bad));
	ASSERT_TRUE(read_poisoned(self->pfn, &page));
	EXPECT_EQ(2, page.hit);
	ASSERT_EQ(2, page.nr_pids);
	EXPECT_TRUE((page.pids[0] == getpid() && page.pids[1] == child->pid) ||
		    (page.pids[1] == getpid() && page.pids[0] == child->pid));
	EXPECT_EQ(2, counter("last_walk_mappings"));
}

TEST_F(memory_failure, whoever_does_not_touch_the_page_is_not_told)
{
	struct peer *child = fork_peer();

	ASSERT_NE(NULL, child);
	EXPECT_WORD(word(1, BAD), peer_load(child, self->bad));
	ASSERT_EQ(0, poison_addr(getpid(), self->bad));
	for (size_t i = 0; i < PAGES; i++)
		if (i != BAD)
			EXPECT_WORD(word(1, i), peer_load(child, self->memory + i * PAGE));
}

TEST_F(memory_failure, poison_is_inherited_by_fork)
{
	struct peer *child, *grandchild;

	ASSERT_EQ(0, poison_addr(getpid(), self->bad));
	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_SIGBUS(self->bad, peer_load(child, self->bad));
	EXPECT_SIGBUS(self->bad, peer_store(child, self->bad, 7));
	grandchild = peer_fork(child);
	ASSERT_NE(NULL, grandchild);
	EXPECT_SIGBUS(self->bad, peer_store(grandchild, self->bad, 7));
	EXPECT_SIGBUS(self->bad, peer_load(grandchild, self->bad));
}

TEST_F(memory_failure, poison_outlives_the_process_that_mapped_the_page_first)
{
	struct peer *child = fork_peer();

	ASSERT_NE(NULL, child);
	ASSERT_EQ(0, poison_addr(getpid(), self->bad));
	ASSERT_EQ(0, munmap(self->memory, PAGES * PAGE));
	EXPECT_EQ(1, counter("poisoned"));
	EXPECT_SIGBUS(self->bad, peer_load(child, self->bad));
	EXPECT_WORD(word(1, 0), peer_load(child, self->memory));
}

TEST_F(memory_failure, poison_is_not_inherited_by_exec)
{
	int status;
	pid_t pid;

	ASSERT_EQ(0, poison_addr(getpid(), self->bad));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		execl("/bin/sh", "sh", "-c", "! grep -q '^vmas 2$' " DEBUGFS "stats", NULL);
		_exit(127);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

TEST_F(memory_failure, unpoison_gives_the_content_back_to_all)
{
	struct peer *child = fork_peer();

	ASSERT_NE(NULL, child);
	ASSERT_EQ(0, poison_addr(getpid(), self->bad));
	EXPECT_SIGBUS(self->bad, store(self->bad, 7));
	EXPECT_SIGBUS(self->bad, peer_store(child, self->bad, 7));
	ASSERT_EQ(0, unpoison_pfn(self->pfn));
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
	EXPECT_WORD(word(1, BAD), peer_load(child, self->bad));
	EXPECT_WORD(7, store(self->bad, 7));
	EXPECT_WORD(variant->flags == MAP_SHARED ? 7 : word(1, BAD), peer_load(child, self->bad));
	EXPECT_EQ(0, counter("poisoned"));
}

TEST_F(memory_failure, a_page_can_fail_again)
{
	for (int i = 0; i < 10; i++) {
		ASSERT_EQ(0, i & 1 ? poison_pfn(self->pfn) : poison_addr(getpid(), self->bad));
		EXPECT_SIGBUS(self->bad, load(self->bad));
		ASSERT_EQ(0, unpoison_pfn(self->pfn));
		EXPECT_WORD(word(1, BAD), load(self->bad));
	}
}

TEST_F(memory_failure, a_page_fails_only_once_at_a_time)
{
	ASSERT_EQ(0, poison_addr(getpid(), self->bad));
	EXPECT_EQ(EHWPOISON, poison_addr(getpid(), self->bad));
	EXPECT_EQ(EHWPOISON, poison_pfn(self->pfn));
	EXPECT_EQ(1, counter("poisoned"));
	ASSERT_EQ(0, unpoison_pfn(self->pfn));
	EXPECT_EQ(ENOENT, unpoison_pfn(self->pfn));
}

TEST_F(memory_failure, all_pages_can_fail)
{
	uint64_t pfns[PAGES];

	for (size_t i = 0; i < PAGES; i++) {
		pfns[i] = pfn_of(self->memory + i * PAGE);
		ASSERT_EQ(0, poison_addr(getpid(), self->memory + i * PAGE));
		for (size_t j = i + 1; j < PAGES; j++)
			EXPECT_WORD(word(1, j), load(self->memory + j * PAGE));
	}
	EXPECT_EQ(PAGES, counter("poisoned"));
	for (size_t i = 0; i < PAGES; i++)
		EXPECT_SIGBUS(self->memory + i * PAGE, load(self->memory + i * PAGE));
	for (size_t i = 0; i < PAGES; i++) {
		ASSERT_EQ(0, unpoison_pfn(pfns[i]));
	}
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
}

TEST_F(memory_failure, reading_around_does_not_map_the_page)
{
	/* Far from the borders of the mapping. */
	char *bad = self->memory + PAGES / 2 * PAGE;
	struct peer *child;

	ASSERT_EQ(0, poison_addr(getpid(), bad));
	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_WORD(word(1, PAGES / 2 - 1), peer_load(child, bad - PAGE));
	EXPECT_WORD(word(1, PAGES / 2 + 1), peer_load(child, bad + PAGE));
	EXPECT_SIGBUS(bad, peer_load(child, bad));
}

TEST_F(memory_failure, a_page_without_permissions_can_fail)
{
	ASSERT_EQ(0, mprotect(self->bad, PAGE, PROT_NONE));
	ASSERT_EQ(0, poison_addr(getpid(), self->bad));
	EXPECT_SIGSEGV(load(self->bad));
	ASSERT_EQ(0, mprotect(self->bad, PAGE, PROT_READ));
	EXPECT_SIGBUS(self->bad, load(self->bad));
	EXPECT_SIGSEGV(store(self->bad, 7));
	EXPECT_TRUE(neighbours_intact(self->memory));
}

TEST_F(memory_failure, a_locked_page_can_fail)
{
	ASSERT_EQ(0, mlock(self->memory, PAGES * PAGE));
	ASSERT_EQ(0, poison_addr(getpid(), self->bad));
	EXPECT_SIGBUS(self->bad, load(self->bad));
	EXPECT_TRUE(neighbours_intact(self->memory));
}

TEST_F(memory_failure, a_page_of_a_split_vma_fails_alone)
{
	for (size_t i = 0; i < PAGES; i += 2) {
		ASSERT_EQ(0, mprotect(self->memory + i * PAGE, PAGE, PROT_READ));
	}
	ASSERT_EQ(0, poison_addr(getpid(), self->bad));
	ASSERT_EQ(0, poison_addr(getpid(), self->memory + 8 * PAGE));
	EXPECT_SIGBUS(self->bad, load(self->bad));
	EXPECT_SIGBUS(self->memory + 8 * PAGE, load(self->memory + 8 * PAGE));
	EXPECT_TRUE(filled(self->memory, 0, BAD, 1));
	EXPECT_TRUE(filled(self->memory, BAD + 1, 8 - BAD - 1, 1));
	EXPECT_TRUE(filled(self->memory, 9, PAGES - 9, 1));
}

TEST_F(memory_failure, poison_stays_where_it_is_when_its_vma_is_split)
{
	ASSERT_EQ(0, poison_addr(getpid(), self->bad));
	for (size_t i = 0; i < PAGES; i += 2) {
		ASSERT_EQ(0, mprotect(self->memory + i * PAGE, PAGE, PROT_READ));
	}
	EXPECT_SIGBUS(self->bad, load(self->bad));
	ASSERT_EQ(0, mprotect(self->memory, PAGES * PAGE, PROT_READ | PROT_WRITE));
	EXPECT_SIGBUS(self->bad, store(self->bad, 7));
	EXPECT_TRUE(neighbours_intact(self->memory));
}

/* Moves 16 pages, the bad one among them, and returns where that is now. */
static char *move_around(char *bad)
{
	char *target = reserve(16);

	return (char *)mremap(bad - 2 * PAGE, 16 * PAGE, 16 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target) + 2 * PAGE;
}

TEST_F(memory_failure, a_page_that_was_moved_can_fail)
{
	struct peer *child = fork_peer();
	char *moved;

	ASSERT_NE(NULL, child);
	EXPECT_WORD(word(1, BAD), peer_load(child, self->bad));
	moved = move_around(self->bad);
	EXPECT_WORD(word(1, BAD), load(moved));
	EXPECT_EQ(EFAULT, poison_addr(getpid(), self->bad));
	ASSERT_EQ(0, poison_addr(getpid(), moved));
	EXPECT_SIGBUS(moved, load(moved));
	EXPECT_WORD(word(1, BAD + 1), load(moved + PAGE));
	EXPECT_WORD(word(1, BAD - 1), load(moved - PAGE));
	EXPECT_SIGBUS(self->bad, peer_load(child, self->bad));
}

TEST_F(memory_failure, poison_moves_with_the_page)
{
	struct peer *child = fork_peer();
	char *moved;

	ASSERT_NE(NULL, child);
	ASSERT_EQ(0, poison_addr(getpid(), self->bad));
	moved = move_around(self->bad);
	EXPECT_SIGBUS(moved, load(moved));
	EXPECT_SIGBUS(moved + 8, store(moved + 8, 7));
	EXPECT_WORD(word(1, BAD + 1), load(moved + PAGE));
	EXPECT_SIGBUS(self->bad, peer_load(child, self->bad));
	ASSERT_EQ(0, unpoison_pfn(self->pfn));
	EXPECT_WORD(word(1, BAD), load(moved));
}

TEST_F(memory_failure, poisoned_memory_can_be_unmapped)
{
	ASSERT_EQ(0, poison_addr(getpid(), self->bad));
	ASSERT_EQ(0, munmap(self->bad - PAGE, 3 * PAGE));
	EXPECT_SIGSEGV(load(self->bad));
	EXPECT_TRUE(filled(self->memory, 0, BAD - 1, 1));
	EXPECT_TRUE(filled(self->memory, BAD + 2, PAGES - BAD - 2, 1));
}

/* What differs from shared memory. */
FIXTURE_WITH_BAD_PRIVATE_PAGE(private_memory_failure, PAGES, BAD);

/* Adds what came of a system call to @text. */
#define SAY(name, call) do {						\
	long result = (errno = 0, (long)(call));			\
									\
	snprintf(text + strlen(text), room - strlen(text), "%s: %ld, %s\n", name, result, strerror(errno)); \
} while (0)

/* What system calls say that are given @bad, the address of a failed page. */
static void try_system_calls(char *bad, char *text, size_t room)
{
	char buffer[PAGE] __attribute__((aligned(PAGE)));
	struct iovec here = { buffer, 8 }, there = { bad, 8 }, whole = { bad, PAGE };
	int pipes[2], mem = open("/proc/self/mem", O_RDWR), status;
	int file = open("/tmp/anon_rmap.direct", O_RDWR | O_CREAT | O_TRUNC | O_DIRECT, 0600);
	pid_t parent = getpid(), child;

	*text = '\0';
	unlink("/tmp/anon_rmap.direct");
	if (pipe(pipes))
		return;
	SAY("write", write(pipes[1], bad, 8));
	SAY("content", write(pipes[1], "content", 8));
	SAY("read", read(pipes[0], bad, 8));
	SAY("vmsplice", vmsplice(pipes[1], &whole, 1, 0));
	SAY("direct write", pwrite(file, bad, PAGE, 0));
	SAY("direct content", pwrite(file, buffer, PAGE, 0));
	SAY("direct read", pread(file, bad, PAGE, 0));
	SAY("read of mem", pread(mem, buffer, 8, (off_t)bad));
	SAY("write of mem", pwrite(mem, buffer, 8, (off_t)bad));
	SAY("process_vm_readv", process_vm_readv(getpid(), &here, 1, &there, 1, 0));
	SAY("process_vm_writev", process_vm_writev(getpid(), &here, 1, &there, 1, 0));
	SAY("futex", syscall(SYS_futex, bad, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0));
	SAY("populate for reading", madvise(bad, PAGE, MADV_POPULATE_READ));
	SAY("populate for writing", madvise(bad, PAGE, MADV_POPULATE_WRITE));
	SAY("mlock", mlock(bad, PAGE));
	child = fork();
	if (!child) {
		die_with(parent);
		for (;;)
			pause();
	}
	SAY("attach", ptrace(PTRACE_ATTACH, child, NULL, NULL));
	waitpid(child, &status, 0);
	SAY("peek", ptrace(PTRACE_PEEKDATA, child, bad, NULL));
	SAY("poke", ptrace(PTRACE_POKEDATA, child, bad, 7L));
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	close(file);
	close(mem);
	close(pipes[0]);
	close(pipes[1]);
}

TEST_F(private_memory_failure, system_calls_fail_as_for_anonymous_memory)
{
	char *anonymous = map_private(false, 1);
	char ours[2048], theirs[2048];
	struct access access;
	volatile int failed = 0;

	store(anonymous, 1);
	ATTEMPT(access, failed = madvise(anonymous, PAGE, MADV_HWPOISON));
	if (failed)
		SKIP(return, "no MADV_HWPOISON");
	ASSERT_EQ(0, poison_addr(getpid(), self->bad));
	try_system_calls(anonymous, theirs, sizeof(theirs));
	try_system_calls(self->bad, ours, sizeof(ours));
	EXPECT_STREQ(theirs, ours);
	EXPECT_NE(NULL, strstr(ours, "write: -1, Bad address\n"));
}

TEST_F(private_memory_failure, a_copy_made_before_is_intact)
{
	struct peer *child = fork_peer();

	ASSERT_NE(NULL, child);
	EXPECT_WORD(7, peer_store(child, self->bad, 7));
	ASSERT_EQ(0, poison_addr(getpid(), self->bad));
	EXPECT_SIGBUS(self->bad, load(self->bad));
	EXPECT_WORD(7, peer_load(child, self->bad));
	EXPECT_WORD(word(1, BAD) + 1, peer_load(child, self->bad + 8));
	EXPECT_WORD(8, peer_store(child, self->bad, 8));
}

TEST_F(private_memory_failure, the_original_is_intact_when_a_copy_fails)
{
	struct peer *child = fork_peer();

	ASSERT_NE(NULL, child);
	EXPECT_WORD(7, peer_store(child, self->bad, 7));
	ASSERT_EQ(0, poison_addr(child->pid, self->bad));
	EXPECT_SIGBUS(self->bad, peer_load(child, self->bad));
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
}

TEST_F(private_memory_failure, exactly_the_sharers_in_a_family_are_refused)
{
	enum { GENERATIONS = 8 };
	struct peer *generations[GENERATIONS];

	/* The fourth writes, and the later ones inherit from it. */
	for (int i = 0; i < GENERATIONS; i++) {
		generations[i] = i ? peer_fork(generations[i - 1]) : fork_peer();
		ASSERT_NE(NULL, generations[i]);
		if (i == 3)
			EXPECT_WORD(7, peer_store(generations[i], self->bad, 7));
		else
			EXPECT_WORD(i < 3 ? word(1, BAD) : 7, peer_load(generations[i], self->bad));
	}
	EXPECT_WORD(word(1, BAD), load(self->bad));
	ASSERT_EQ(0, poison_addr(generations[1]->pid, self->bad));
	/* Four, and as many later ones: their reads have mapped the pages around, which the first one has made, too. */
	EXPECT_EQ(8, counter("last_walk_mappings"));
	EXPECT_SIGBUS(self->bad, load(self->bad));
	for (int i = 0; i < GENERATIONS; i++) {
		if (i < 3)
			EXPECT_SIGBUS(self->bad, peer_load(generations[i], self->bad));
		else
			EXPECT_WORD(7, peer_load(generations[i], self->bad));
	}
	ASSERT_EQ(0, poison_addr(generations[GENERATIONS - 1]->pid, self->bad));
	for (int i = 0; i < GENERATIONS; i++)
		EXPECT_SIGBUS(self->bad, peer_load(generations[i], self->bad));
	EXPECT_EQ(2, counter("poisoned"));
}

TEST_F(private_memory_failure, a_page_made_by_a_child_fails_in_its_descendants)
{
	struct peer *child = fork_peer(), *grandchild;

	ASSERT_NE(NULL, child);
	EXPECT_WORD(7, peer_store(child, self->bad, 7));
	grandchild = peer_fork(child);
	ASSERT_NE(NULL, grandchild);
	EXPECT_WORD(7, peer_load(grandchild, self->bad));
	ASSERT_EQ(0, peer_munmap(child, self->memory, PAGES));
	ASSERT_EQ(0, poison_addr(grandchild->pid, self->bad));
	EXPECT_SIGBUS(self->bad, peer_load(grandchild, self->bad));
	EXPECT_WORD(word(1, BAD), load(self->bad));
}

TEST_F(private_memory_failure, discarding_the_page_gives_a_good_one)
{
	ASSERT_EQ(0, poison_addr(getpid(), self->bad));
	ASSERT_EQ(0, madvise(self->bad, PAGE, MADV_DONTNEED));
	EXPECT_EQ(0, counter("poisoned"));
	EXPECT_TRUE(zeroed(self->bad, 1));
	EXPECT_TRUE(neighbours_intact(self->memory));
	EXPECT_WORD(7, store(self->bad, 7));
}

TEST_F(private_memory_failure, discarding_the_page_helps_nobody_else)
{
	struct peer *child;

	ASSERT_EQ(0, poison_addr(getpid(), self->bad));
	child = fork_peer();
	ASSERT_NE(NULL, child);
	ASSERT_EQ(0, madvise(self->bad, PAGE, MADV_DONTNEED));
	EXPECT_WORD(0, load(self->bad));
	EXPECT_EQ(1, counter("poisoned"));
	EXPECT_SIGBUS(self->bad, peer_load(child, self->bad));
	ASSERT_EQ(0, unpoison_pfn(self->pfn));
	EXPECT_WORD(word(1, BAD), peer_load(child, self->bad));
	EXPECT_WORD(0, load(self->bad));
}

TEST_F(private_memory_failure, mapping_anew_gives_a_good_page)
{
	int fd = open(DEVICE, O_RDWR);

	ASSERT_EQ(0, poison_addr(getpid(), self->bad));
	ASSERT_EQ(self->bad, mmap(self->bad, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0));
	EXPECT_TRUE(zeroed(self->bad, 1));
	EXPECT_TRUE(neighbours_intact(self->memory));
	EXPECT_EQ(0, counter("poisoned"));
}

TEST_F(private_memory_failure, a_page_made_after_growth_can_fail)
{
	char *memory = mremap(self->memory, PAGES * PAGE, 2 * PAGES * PAGE, MREMAP_MAYMOVE);
	char *bad = memory + (2 * PAGES - 3) * PAGE;

	ASSERT_NE(MAP_FAILED, memory);
	fill(memory, 2 * PAGES, 2);
	ASSERT_EQ(0, poison_addr(getpid(), bad));
	EXPECT_SIGBUS(bad, load(bad));
	EXPECT_EQ(1, counter("last_walk_mappings"));
	EXPECT_TRUE(filled(memory, 0, 2 * PAGES - 3, 2));
	EXPECT_TRUE(filled(memory, 2 * PAGES - 2, 2, 2));
}

TEST_F(private_memory_failure, the_old_place_is_good_after_mremap_dontunmap)
{
	char *moved;

	ASSERT_EQ(0, poison_addr(getpid(), self->bad));
	moved = mremap(self->memory, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
	ASSERT_NE(MAP_FAILED, moved);
	EXPECT_TRUE(zeroed(self->memory, PAGES));
	EXPECT_SIGBUS(moved + BAD * PAGE, load(moved + BAD * PAGE));
	EXPECT_TRUE(neighbours_intact(moved));
}

/* Each of these has the page, and is found when it fails. */
#define HOLDERS 100

static volatile bool has_ended;

static void *fail_on_and_on(void *pfn)
{
	while (!has_ended)
		poison_pfn((uintptr_t)pfn);
	return NULL;
}

static void *undo_on_and_on(void *pfn)
{
	while (!has_ended)
		unpoison_pfn((uintptr_t)pfn);
	return NULL;
}

/* The page is good again, and fails again, while the holders of the failure before are being listed. */
TEST_F(private_memory_failure, only_the_holders_of_the_last_failure_are_listed)
{
	void *(*const functions[])(void *) = { fail_on_and_on, fail_on_and_on, undo_on_and_on };
	enum { THREADS = sizeof(functions) / sizeof(*functions) };
	struct peer *holders[HOLDERS];
	struct poisoned page;

	for (int i = 0; i < HOLDERS; i++) {
		holders[i] = fork_peer();
		ASSERT_NE(NULL, holders[i]);
		EXPECT_WORD(word(1, BAD), peer_load(holders[i], self->bad));
	}
	for (int round = 0; round < 20; round++) {
		pthread_t threads[THREADS];

		has_ended = false;
		for (int i = 0; i < THREADS; i++)
			ASSERT_EQ(0, pthread_create(&threads[i], NULL, functions[i], (void *)self->pfn));
		usleep(50000);
		has_ended = true;
		for (int i = 0; i < THREADS; i++)
			pthread_join(threads[i], NULL);
		if (!is_poisoned(self->pfn)) {
			ASSERT_EQ(0, poison_pfn(self->pfn));
		}
		ASSERT_TRUE(read_poisoned(self->pfn, &page));
		EXPECT_EQ(HOLDERS + 1, page.hit);
		ASSERT_EQ(0, unpoison_pfn(self->pfn));
		EXPECT_WORD(word(1, BAD), load(self->bad));
	}
	for (int i = 0; i < HOLDERS; i++)
		end_peer(holders[i]);
}

TEST_HARNESS_MAIN
