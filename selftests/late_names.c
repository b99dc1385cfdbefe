// SPDX-License-Identifier: GPL-2.0-only
/*
 * A command that names many pages comes to the last one a while after it was given. What that name means then is what
 * fails: the process may have mapped, unmapped or moved memory meanwhile, executed a program, or ended.
 */
#include <pthread.h>
#include <sched.h>

#include "lib/fixture.h"

/* So many that the first one fails long before the last one. */
#define PAGES 8192
#define LAST (PAGES - 1)

/* A change has come too late if the page in the middle had failed by then; it is tried again. */
#define MOST_ATTEMPTS 20

/* A file by which the kernel reads memory for a process, which is told of a failure without a signal. */
static int file;

static bool is_good(const char *address)
{
	return pwrite(file, address, sizeof(uint64_t), 0) == sizeof(uint64_t);
}

static char *memory;

static char *page(size_t number)
{
	return memory + number * PAGE;
}

static void wait_until_it_has_begun(void)
{
	while (is_good(page(0)))
		sched_yield();
}

/* How the change is made, while the command is under way; by the process that is named, or what shares its memory. */

static void unmap(void)
{
	munmap(page(LAST), PAGE);
}

static void map_another(void)
{
	int device = open(DEVICE, O_RDWR | O_CLOEXEC);

	munmap(page(LAST), PAGE);
	mmap(page(LAST), PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, device, 0);
	store(page(LAST), 7);
	close(device);
}

/* The page after the last one, in its place. */
static void move_another(void)
{
	mremap(page(PAGES), PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, page(LAST));
}

static void execute(void)
{
	execl("/bin/sleep", "sleep", "1000", NULL);
}

static void end(void)
{
	_exit(0);
}

/* The commands. */

static int poison_range(pid_t pid)
{
	return print_to_file(DEBUGFS "poison_range", "%d %p %p", pid, page(0), page(PAGES));
}

static int replay(pid_t pid)
{
	char *list = malloc(PAGES * 64), *rest = list;
	int error;

	for (size_t i = 0; i < PAGES; i++)
		rest += sprintf(rest, "pid=%d address=%p\n", pid, page(i));
	error = write_file(DEBUGFS "replay", list, rest - list);
	free(list);
	return error;
}

FIXTURE(late_names)
{
	struct peer *sharer;
};

FIXTURE_VARIANT(late_names)
{
	int (*fail)(pid_t pid);
};

FIXTURE_VARIANT_ADD(late_names, poison_range) { .fail = poison_range };
FIXTURE_VARIANT_ADD(late_names, replay) { .fail = replay };

FIXTURE_SETUP(late_names)
{
	file = memfd_create("late_names", MFD_CLOEXEC);
	ASSERT_EQ(0, ftruncate(file, PAGE));
	self->sharer = new_peer();
}

FIXTURE_LEAVES_NOTHING(late_names);

/* Maps memory, with a page more than is named, which the sharer has, too. Returns 0 or an errno. */
static int begin_attempt(struct peer *sharer)
{
	memory = map_device(PAGES + 1, MAP_PRIVATE);
	if (memory == MAP_FAILED)
		return errno;
	for (size_t i = 0; i <= PAGES; i++)
		if (store(page(i), i).signal)
			return EFAULT;
	return start_peer(sharer, 0);
}

static void end_attempt(struct peer *sharer)
{
	end_peer(sharer);
	munmap(memory, (PAGES + 1) * PAGE);
}

static bool sharer_has(struct peer *sharer, size_t number)
{
	struct access access = peer_load(sharer, page(number));

	return !access.signal && access.value == number;
}

/* A thread that makes a change, or waits for the end of who does, and tells whether that was in time. */
struct changer {
	void (*change)(void);
	/* The other end is closed when a process has made the change. */
	int closed;
	bool in_time;
};

static void *change_in_time(void *argument)
{
	struct changer *changer = argument;
	char byte;

	if (changer->change) {
		wait_until_it_has_begun();
		changer->change();
	} else {
		while (read(changer->closed, &byte, 1))
			;
	}
	changer->in_time = is_good(page(PAGES / 2));
	return NULL;
}

/* Lets all pages fail; a thread changes what the last name means. Whether that was in time; *error is the command's. */
static bool fail_meanwhile(int (*fail)(pid_t pid), void (*change)(void), int *error)
{
	struct changer changer = { .change = change };
	pthread_t thread;

	if (pthread_create(&thread, NULL, change_in_time, &changer))
		abort();
	*error = fail(getpid());
	pthread_join(thread, NULL);
	return changer.in_time;
}

static int change_in_process(void *change)
{
	wait_until_it_has_begun();
	((void (*)(void))change)();
	return 1;
}

/* Whether that holds for a process that shares the memory and is the one that is named; it leaves the memory. */
static bool fail_by_another_name(int (*fail)(pid_t pid), void (*change)(void), int *error)
{
	static char stack[16 * PAGE] __attribute__((aligned(16)));
	struct changer changer = {};
	pthread_t thread;
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC))
		abort();
	pid = clone(change_in_process, stack + sizeof(stack), CLONE_VM | SIGCHLD, change);
	close(ends[1]);
	changer.closed = ends[0];
	if (pid < 0 || pthread_create(&thread, NULL, change_in_time, &changer))
		abort();
	*error = fail(pid);
	pthread_join(thread, NULL);
	close(ends[0]);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return changer.in_time;
}

/* As long as it takes for a change to be in time: what is to be true then. */
#define EXPECT_MEANWHILE(fail_by, change, ...) do {						\
	bool in_time = false;									\
	int error;										\
												\
	for (int attempt = 0; !in_time && attempt < MOST_ATTEMPTS; attempt++) {			\
		ASSERT_EQ(0, begin_attempt(self->sharer));					\
		in_time = fail_by(variant->fail, change, &error);				\
		if (in_time) {									\
			EXPECT_EQ(0, error);							\
			EXPECT_FALSE(sharer_has(self->sharer, 0));				\
			EXPECT_TRUE(sharer_has(self->sharer, LAST));				\
			__VA_ARGS__;								\
		}										\
		end_attempt(self->sharer);							\
	}											\
	EXPECT_TRUE(in_time);									\
} while (0)

TEST_F(late_names, what_has_been_unmapped_is_not_hit)
{
	EXPECT_MEANWHILE(fail_meanwhile, unmap, EXPECT_SIGSEGV(load(page(LAST))));
}

TEST_F(late_names, what_has_been_mapped_instead_is_hit)
{
	EXPECT_MEANWHILE(fail_meanwhile, map_another, EXPECT_SIGBUS(page(LAST), load(page(LAST))));
}

TEST_F(late_names, what_has_been_moved_there_is_hit)
{
	EXPECT_MEANWHILE(fail_meanwhile, move_another, EXPECT_SIGBUS(page(LAST), load(page(LAST)));
			 EXPECT_FALSE(sharer_has(self->sharer, PAGES)));
}

TEST_F(late_names, who_has_executed_a_program_has_other_memory)
{
	EXPECT_MEANWHILE(fail_by_another_name, execute, EXPECT_WORD(LAST, load(page(LAST))));
}

TEST_F(late_names, who_has_ended_has_no_memory)
{
	EXPECT_MEANWHILE(fail_by_another_name, end, EXPECT_WORD(LAST, load(page(LAST))));
}

TEST_HARNESS_MAIN
