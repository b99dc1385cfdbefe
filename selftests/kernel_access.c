// SPDX-License-Identifier: GPL-2.0-only
/* The kernel and other processes get at memory of the device as they do at anonymous memory. */
#include <linux/futex.h>
#include <pthread.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "lib/fixture.h"

#define PAGES 16

FIXTURE_ON_DEVICE(kernel_access, PAGES, true);

TEST_F(kernel_access, read_and_write_fault_pages_in)
{
	char *fresh = map_device(PAGES, MAP_PRIVATE);
	int pipes[2];

	ASSERT_NE(MAP_FAILED, fresh);
	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(PAGE, write(pipes[1], self->memory + PAGE, PAGE));
	/* Over a border of two pages that were not touched. */
	ASSERT_EQ(PAGE, read(pipes[0], fresh + PAGE / 2, PAGE));
	EXPECT_EQ(0, memcmp(fresh + PAGE / 2, self->memory + PAGE, PAGE));
	ASSERT_EQ(8, write(pipes[1], fresh + 5 * PAGE, 8));
	ASSERT_EQ(8, read(pipes[0], self->memory, 8));
	EXPECT_WORD(0, load(self->memory));
}

TEST_F(kernel_access, read_into_shared_pages_copies_them)
{
	struct peer *child = fork_peer();
	uint64_t value = 7;
	int pipes[2];

	ASSERT_NE(NULL, child);
	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(8, write(pipes[1], &value, 8));
	ASSERT_EQ(8, read(pipes[0], self->memory, 8));
	EXPECT_WORD(7, load(self->memory));
	EXPECT_WORD(word(1, 0), peer_load(child, self->memory));
}

TEST_F(kernel_access, proc_mem)
{
	int mem = open("/proc/self/mem", O_RDWR);
	struct peer *child = fork_peer();
	uint64_t value;

	ASSERT_NE(NULL, child);
	ASSERT_EQ(8, pread(mem, &value, 8, (off_t)self->memory + 3 * PAGE));
	EXPECT_EQ(word(1, 3), value);
	value = 7;
	ASSERT_EQ(8, pwrite(mem, &value, 8, (off_t)self->memory + 3 * PAGE));
	EXPECT_WORD(7, load(self->memory + 3 * PAGE));
	EXPECT_WORD(word(1, 3), peer_load(child, self->memory + 3 * PAGE));
	close(mem);
}

TEST_F(kernel_access, process_vm_of_another_process)
{
	struct peer *child = fork_peer();
	uint64_t values[2 * 512];
	struct iovec local = { values, sizeof(values) }, remote = { self->memory + PAGE, sizeof(values) };

	ASSERT_NE(NULL, child);
	EXPECT_WORD(7, peer_store(child, self->memory + 2 * PAGE, 7));
	ASSERT_EQ((ssize_t)sizeof(values), process_vm_readv(child->pid, &local, 1, &remote, 1, 0));
	EXPECT_EQ(word(1, 1), values[0]);
	EXPECT_EQ(7, values[512]);
	values[0] = 8;
	ASSERT_EQ((ssize_t)sizeof(values), process_vm_writev(child->pid, &local, 1, &remote, 1, 0));
	EXPECT_WORD(8, peer_load(child, self->memory + PAGE));
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
}

TEST_F(kernel_access, ptrace)
{
	struct peer *child = fork_peer();
	int status;
	long value;

	ASSERT_NE(NULL, child);
	ASSERT_EQ(0, ptrace(PTRACE_ATTACH, child->pid, NULL, NULL));
	ASSERT_EQ(child->pid, waitpid(child->pid, &status, 0));
	errno = 0;
	value = ptrace(PTRACE_PEEKDATA, child->pid, self->memory + PAGE, NULL);
	EXPECT_EQ(0, errno);
	EXPECT_EQ(word(1, 1), (uint64_t)value);
	EXPECT_EQ(0, ptrace(PTRACE_POKEDATA, child->pid, self->memory + PAGE, 7L));
	ASSERT_EQ(0, ptrace(PTRACE_DETACH, child->pid, NULL, NULL));
	EXPECT_WORD(7, peer_load(child, self->memory + PAGE));
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
}

TEST_F(kernel_access, a_page_in_a_pipe_outlives_the_mapping)
{
	struct iovec page = { self->memory + PAGE, PAGE };
	char content[PAGE];
	int pipes[2];

	fill(self->memory + PAGE, 1, 2);
	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(PAGE, vmsplice(pipes[1], &page, 1, 0));
	ASSERT_EQ(0, munmap(self->memory, PAGES * PAGE));
	EXPECT_EQ(0, counter("anons"));
	ASSERT_EQ(PAGE, read(pipes[0], content, PAGE));
	EXPECT_TRUE(filled(content, 0, 1, 2));
}

TEST_F(kernel_access, a_page_in_a_pipe_is_not_written_by_a_child)
{
	struct iovec page = { self->memory, PAGE };
	char content[PAGE];
	struct peer *child;
	int pipes[2];

	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(PAGE, vmsplice(pipes[1], &page, 1, 0));
	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_WORD(7, peer_store(child, self->memory, 7));
	ASSERT_EQ(0, munmap(self->memory, PAGES * PAGE));
	EXPECT_WORD(8, peer_store(child, self->memory, 8));
	ASSERT_EQ(PAGE, read(pipes[0], content, PAGE));
	EXPECT_TRUE(filled(content, 0, 1, 1));
}

TEST_F(kernel_access, direct_io)
{
	/* tmpfs and ext4 have it. */
	int file = open("/tmp/anon_rmap.direct", O_RDWR | O_CREAT | O_TRUNC | O_DIRECT, 0600);
	struct peer *child;

	if (file < 0)
		SKIP(return, "/tmp has no direct I/O");
	unlink("/tmp/anon_rmap.direct");
	ASSERT_EQ(8 * PAGE, write(file, self->memory, 8 * PAGE));
	child = fork_peer();
	ASSERT_NE(NULL, child);
	/* Into pages that are shared, and into fresh ones. */
	ASSERT_EQ(8 * PAGE, pread(file, self->memory + 4 * PAGE, 8 * PAGE, 0));
	EXPECT_TRUE(filled(self->memory, 0, 4, 1));
	EXPECT_TRUE(filled(self->memory + 4 * PAGE, 0, 8, 1));
	EXPECT_WORD(word(1, 5), peer_load(child, self->memory + 5 * PAGE));
	ASSERT_EQ(0, madvise(self->memory, PAGES * PAGE, MADV_DONTNEED));
	ASSERT_EQ(8 * PAGE, pread(file, self->memory, 8 * PAGE, 0));
	EXPECT_TRUE(filled(self->memory, 0, 8, 1));
	close(file);
}

struct counted {
	pthread_mutex_t mutex;
	long count;
};

static void *count_up(void *argument)
{
	struct counted *counted = argument;

	for (int i = 0; i < 1000; i++) {
		pthread_mutex_lock(&counted->mutex);
		counted->count++;
		if (!(i % 100))
			sched_yield();
		pthread_mutex_unlock(&counted->mutex);
	}
	return NULL;
}

TEST_F(kernel_access, private_futexes)
{
	struct counted *counted = (struct counted *)self->memory;
	pthread_t threads[4];

	pthread_mutex_init(&counted->mutex, NULL);
	counted->count = 0;
	for (int i = 0; i < 4; i++) {
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, count_up, counted));
	}
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	EXPECT_EQ(4000, counted->count);
	EXPECT_EQ(-1, syscall(SYS_futex, &counted->mutex, FUTEX_WAIT_PRIVATE, -1, NULL, NULL, 0));
	EXPECT_EQ(EAGAIN, errno);
}

TEST_HARNESS_MAIN
