// SPDX-License-Identifier: GPL-2.0-only
/* How processes with memory of the device begin and end. */
#include <pthread.h>
#include <sys/syscall.h>

#include "lib/fixture.h"
#include "lib/random.h"

#define PAGES 64
#define NR_THREADS 3

FIXTURE_ON_DEVICE(processes, PAGES, false);

TEST_F(processes, the_child_of_vfork_uses_its_parents_memory)
{
	pid_t pid;
	int status;

	fill(self->memory, PAGES, 1);
	pid = vfork();
	if (!pid) {
		/* No more than that: it is on the parent's stack. */
		((volatile uint64_t *)self->memory)[0] = 7;
		execl("/bin/sh", "sh", "-c", "grep -q '^vmas 1$' " DEBUGFS "stats", NULL);
		_exit(127);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_WORD(7, load(self->memory));
	EXPECT_WORD(8, store(self->memory, 8));
	EXPECT_TRUE(filled(self->memory, 1, PAGES - 1, 1));
	EXPECT_EQ(PAGES, counter("anons"));
}

/* What threads do while their process ends: everything, to memory that others of them use. */
struct disturbance {
	char *memory, *target;
	uint64_t seed;
	int fd;
};

static void *disturb(void *argument)
{
	struct disturbance *disturbance = argument;
	struct random random = { disturbance->seed };

	for (;;) {
		size_t page = below(&random, PAGES - 8), size = (1 + below(&random, 8)) * PAGE;
		char *memory = disturbance->memory + page * PAGE, *target = disturbance->target + page * PAGE;

		switch (below(&random, 10)) {
		case 0:
			mprotect(memory, size, one_in(&random, 3) ? PROT_READ : PROT_READ | PROT_WRITE);
			break;
		case 1:
			madvise(memory, size, MADV_DONTNEED);
			break;
		case 2:
			mremap(memory, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, target);
			break;
		case 3:
			mremap(target, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, memory);
			break;
		case 4:
			mmap(memory, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, disturbance->fd, 0);
			break;
		case 5:
			if (one_in(&random, 4)) {
				/* Without the C library, whose locks other threads may hold. */
				if (!syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)) {
					store(memory, 1);
					syscall(SYS_exit_group, 0);
				}
			}
			break;
		default:
			for (size_t i = 0; i < 8; i++)
				if (one_in(&random, 2))
					store(memory + i * PAGE, below(&random, 100));
				else
					load(memory + i * PAGE);
		}
	}
	return NULL;
}

/* How a process with busy threads ends. */
enum end { KILLED, EXITS, EXECUTES };

static void end_while_threads_are_busy(char *memory, enum end end, uint64_t seed)
{
	struct disturbance disturbances[NR_THREADS];
	struct random random = { seed };
	pthread_t thread;

	signal(SIGCHLD, SIG_IGN);
	for (int i = 0; i < NR_THREADS; i++) {
		disturbances[i] = (struct disturbance){
			.memory = memory,
			.target = reserve(PAGES),
			.seed = next(&random),
			.fd = open(DEVICE, O_RDWR | O_CLOEXEC),
		};
		if (pthread_create(&thread, NULL, disturb, &disturbances[i]))
			_exit(2);
	}
	usleep(below(&random, 20000));
	switch (end) {
	case KILLED:
		pause();
		break;
	case EXITS:
		_exit(0);
	case EXECUTES:
		execl("/bin/sh", "sh", "-c", ":", NULL);
	}
	_exit(2);
}

FIXTURE(end)
{
	char *memory;
};

FIXTURE_VARIANT(end)
{
	enum end end;
};

FIXTURE_VARIANT_ADD(end, killed) { .end = KILLED };
FIXTURE_VARIANT_ADD(end, exits) { .end = EXITS };
FIXTURE_VARIANT_ADD(end, executes) { .end = EXECUTES };

FIXTURE_SETUP(end)
{
	self->memory = map_device(PAGES, MAP_PRIVATE);
	ASSERT_NE(MAP_FAILED, self->memory);
	fill(self->memory, PAGES, 1);
}

FIXTURE_LEAVES_NOTHING(end);

TEST_F(end, of_a_process_whose_threads_are_busy)
{
	for (uint64_t seed = 1; seed <= 25; seed++) {
		pid_t parent = getpid(), pid = fork();
		struct random random = { ~seed };
		int status;

		ASSERT_LE(0, pid);
		if (!pid) {
			die_with(parent);
			end_while_threads_are_busy(self->memory, variant->end, seed);
		}
		if (variant->end == KILLED) {
			usleep(10000 + below(&random, 30000));
			ASSERT_EQ(0, kill(pid, SIGKILL));
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(variant->end == KILLED ? SIGKILL : 0, status);
	}
	/* None of it was the parent's. */
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
}

TEST_HARNESS_MAIN
