// SPDX-License-Identifier: GPL-2.0-only
/*
 * A failure waits for no process: it ends in time, whatever those who have the page do or can't do just now. And nobody
 * whose access waits for a failure to end is out of reach of SIGKILL. `waiting [OFFLINES]`: how often a page that is in
 * use is moved.
 */
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "lib/fixture.h"
#include "lib/memcg.h"
#include "lib/watchdog.h"

/*
 * Soft offline of a page that is in use: by many readers and, in one process, by a writer, by the kernel for it, and by
 * a thread that maps and unmaps, so that it waits for the mmap lock for writing all the time.
 */
#define READERS 100

static long nr_offlines = 10;

/* Lets the kernel look at a page that was just unmapped; the two files are for its use. */
static void read_remotely(char *memory, int *files)
{
	char buffer[64];
	struct iovec local = { buffer, sizeof(buffer) }, remote = { memory, sizeof(buffer) };

	(void)files;
	process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
}

static void write_to_file(char *memory, int *files)
{
	if (pwrite(files[0], memory, PAGE, 0) < 0)
		usleep(1);
}

static void splice_to_pipe(char *memory, int *files)
{
	struct iovec whole = { memory, PAGE };
	char content[PAGE];

	if (vmsplice(files[1], &whole, 1, 0) > 0 && read(files[0], content, PAGE) < 0)
		usleep(1);
}

FIXTURE(used_page)
{
};

FIXTURE_VARIANT(used_page)
{
	void (*use)(char *memory, int *files);
};

FIXTURE_VARIANT_ADD(used_page, by_process_vm) { .use = read_remotely };
FIXTURE_VARIANT_ADD(used_page, by_direct_io) { .use = write_to_file };
FIXTURE_VARIANT_ADD(used_page, by_vmsplice) { .use = splice_to_pipe };

FIXTURE_SETUP(used_page)
{
}

FIXTURE_LEAVES_NOTHING(used_page);

struct user {
	char *memory;
	void (*use)(char *memory, int *files);
	int files[2];
};

static void *keep_using(void *argument)
{
	struct user *user = argument;

	for (;;) {
		/* It is shared, so this takes it out of page tables only. */
		madvise(user->memory, PAGE, MADV_DONTNEED);
		user->use(user->memory, user->files);
	}
	return NULL;
}

static void *keep_writing(void *argument)
{
	struct user *user = argument;

	for (uint64_t i = 0;; i++)
		store(user->memory + sizeof(i), i);
	return NULL;
}

static void *keep_mapping(void *unused)
{
	(void)unused;
	for (;;) {
		void *memory = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		munmap(memory, PAGE);
	}
	return NULL;
}

static bool open_files(struct user *user)
{
	if (user->use == splice_to_pipe)
		return !pipe(user->files);
	user->files[0] = open("/tmp/anon_rmap.direct", O_RDWR | O_CREAT | O_TRUNC | O_DIRECT, 0600);
	unlink("/tmp/anon_rmap.direct");
	return user->files[0] >= 0;
}

TEST_F_TIMEOUT(used_page, is_moved_or_busy_in_time, 3600)
{
	WATCHED(SECONDS_OF_A_RACE + nr_offlines / 2) {
		struct user user = { .memory = map_device(1, MAP_SHARED), .use = variant->use };
		pid_t parent = getpid(), pid;
		long moved = 0, busy = 0;

		ASSERT_NE(MAP_FAILED, user.memory);
		if (!open_files(&user))
			SKIP(return, "no file for direct I/O");
		EXPECT_WORD(1, store(user.memory, 1));
		for (int i = 0; i < READERS; i++) {
			pid = fork();
			ASSERT_LE(0, pid);
			if (!pid) {
				die_with(parent);
				for (;; usleep(200000))
					load(user.memory);
			}
		}
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			pthread_t thread;

			die_with(parent);
			pthread_create(&thread, NULL, keep_using, &user);
			pthread_create(&thread, NULL, keep_mapping, NULL);
			keep_writing(&user);
		}
		for (long i = 0; i < nr_offlines; i++) {
			uint64_t pfn = (load(user.memory), pfn_of(user.memory));
			struct stopwatch stopwatch = start_stopwatch();
			int error;

			if (!pfn)
				continue;
			error = soft_offline_pfn(pfn);
			EXPECT_GE(SECONDS_OF_A_COMMAND * 1000L, stop_stopwatch(&stopwatch));
			EXPECT_TRUE(!error || error == EBUSY);
			if (!error)
				EXPECT_EQ(0, unpoison_pfn(pfn));
			moved += !error;
			busy += error == EBUSY;
		}
		EXPECT_WORD(1, load(user.memory));
		TH_LOG("%ld moved, %ld busy", moved, busy);
		EXPECT_LT(0, moved + busy);
	}
}

/* A process that has the page and is stuck with something. Memory shared with it. */
struct stuck {
	pid_t pid;
	char *memory;
	sem_t ready;
};

/* Says that the page is mapped, and what follows is what it gets stuck with. */
static void is_ready(struct stuck *stuck)
{
	load(stuck->memory);
	sem_post(&stuck->ready);
}

static bool await_ready(struct stuck *stuck)
{
	struct patience patience = patience_for(SECONDS_OF_A_STEP);

	while (sem_trywait(&stuck->ready)) {
		if (ran_out(&patience))
			return false;
		usleep(1000);
	}
	return true;
}

/* Forks the process, which calls function(stuck); whether it got as far as that. */
static bool fork_stuck(struct stuck *stuck, void (*function)(struct stuck *stuck))
{
	pid_t parent = getpid(), pid;

	sem_init(&stuck->ready, 1, 0);
	pid = fork();
	if (!pid) {
		die_with(parent);
		function(stuck);
		_exit(1);
	}
	stuck->pid = pid;
	return pid > 0 && await_ready(stuck);
}

/* The value of a line of /proc/PID/status; 0 if there is none. */
static char state_of(pid_t pid, const char *name)
{
	char path[64], *status, *line;
	char value = 0;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	status = read_file(path);
	line = status ? strstr(status, name) : NULL;
	if (line)
		sscanf(line + strlen(name), " %c", &value);
	free(status);
	return value;
}

/* Whether a process comes to that state in time. */
static bool comes_to(pid_t pid, const char *name, char state)
{
	struct patience patience = patience_for(SECONDS_OF_A_STEP);

	while (state_of(pid, name) != state) {
		if (ran_out(&patience))
			return false;
		usleep(5000);
	}
	return true;
}

static void pause_for_ever(struct stuck *stuck)
{
	is_ready(stuck);
	for (;;)
		pause();
}

static const char *stop(struct stuck *stuck)
{
	int status;

	if (!fork_stuck(stuck, pause_for_ever) || kill(stuck->pid, SIGSTOP))
		return "not stopped";
	return waitpid(stuck->pid, &status, WUNTRACED) == stuck->pid && WIFSTOPPED(status) ? NULL : "not stopped";
}

static const char *trace(struct stuck *stuck)
{
	int status;

	if (!fork_stuck(stuck, pause_for_ever) || ptrace(PTRACE_ATTACH, stuck->pid, NULL, NULL))
		return "not traced";
	return waitpid(stuck->pid, &status, 0) == stuck->pid && WIFSTOPPED(status) ? NULL : "not traced";
}

/* A page of anonymous memory that a userfaultfd has to provide, which nobody does. */
static char *map_missing(int *uffd)
{
	char *memory = map_private(false, 1);
	struct uffdio_register range = {
		.range = { (uintptr_t)memory, PAGE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct uffdio_api api = { .api = UFFD_API };

	*uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (*uffd < 0 || ioctl(*uffd, UFFDIO_API, &api) || ioctl(*uffd, UFFDIO_REGISTER, &range))
		return NULL;
	return memory;
}

static struct {
	struct stuck *stuck;
	int uffd;
} missing;

/* Says that the process is ready when it has got stuck. */
static void *await_missing(void *unused)
{
	struct pollfd event = { .fd = missing.uffd, .events = POLLIN };

	(void)unused;
	if (poll(&event, 1, -1) == 1)
		is_ready(missing.stuck);
	return NULL;
}

static char *start_missing(struct stuck *stuck)
{
	char *memory = map_missing(&missing.uffd);
	pthread_t thread;

	missing.stuck = stuck;
	if (!memory || pthread_create(&thread, NULL, await_missing, NULL))
		_exit(1);
	load(stuck->memory);
	return memory;
}

static void read_missing(struct stuck *stuck)
{
	load(start_missing(stuck));
}

/* By a system call that reads memory of the device meanwhile. */
static void copy_to_missing(struct stuck *stuck)
{
	struct iovec source = { stuck->memory, PAGE }, target = { start_missing(stuck), PAGE };

	process_vm_readv(getpid(), &target, 1, &source, 1, 0);
}

static const char *wait_for_userfaultfd(struct stuck *stuck)
{
	return fork_stuck(stuck, read_missing) ? NULL : "no userfaultfd";
}

static const char *wait_for_userfaultfd_in_the_kernel(struct stuck *stuck)
{
	return fork_stuck(stuck, copy_to_missing) ? NULL : "no userfaultfd";
}

static void vfork_for_ever(struct stuck *stuck)
{
	pid_t parent = getpid();

	if (!vfork()) {
		die_with(parent);
		is_ready(stuck);
		for (;;)
			pause();
	}
}

static const char *vfork_and_wait(struct stuck *stuck)
{
	return fork_stuck(stuck, vfork_for_ever) ? NULL : "no vfork";
}

/*
 * The core dump goes to a pipe, to this very program, which does not read it: it is what "|PROGRAM" in core_pattern has
 * the kernel start, with this argument and the pid of who dumps.
 */
#define CORE_PATTERN "/proc/sys/kernel/core_pattern"
#define CORE_SINK "--read-no-core"

static void ignore_core(pid_t pid)
{
	while (!kill(pid, 0))
		usleep(100000);
}

static void dump_core(struct stuck *stuck)
{
	const struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };
	enum { MORE_THAN_A_PIPE_HOLDS = 64 };

	fill(map_private(false, MORE_THAN_A_PIPE_HOLDS), MORE_THAN_A_PIPE_HOLDS, 1);
	signal(SIGABRT, SIG_DFL);
	prctl(PR_SET_DUMPABLE, 1);
	if (setrlimit(RLIMIT_CORE, &all))
		_exit(1);
	is_ready(stuck);
	abort();
}

static const char *dump_core_to_a_pipe(struct stuck *stuck)
{
	/* To a pipe, this means no core dump: if an assertion fails here. */
	const struct rlimit none = { 1, RLIM_INFINITY };
	char program[200];
	ssize_t size = readlink("/proc/self/exe", program, sizeof(program) - 1);

	if (size < 0 || setrlimit(RLIMIT_CORE, &none))
		return "no limit of core dumps";
	program[size] = '\0';
	if (print_to_file(CORE_PATTERN, "|%s " CORE_SINK " %%P", program))
		return "no core dumps";
	if (!fork_stuck(stuck, dump_core) || !comes_to(stuck->pid, "CoreDumping:", '1'))
		return "no core dump has begun";
	/* Until the pipe is full. */
	usleep(300000);
	return state_of(stuck->pid, "CoreDumping:") == '1' ? NULL : "the core dump has ended";
}

/*
 * A process that holds its mmap lock: memory.high of its memory cgroup lets who goes far above it sleep, also within a
 * page fault. One thread populates memory, with the lock held for reading, and another waits for it for writing, so
 * that nobody else gets it for reading, either.
 */
#define POPULATED (1UL << 14)

static sem_t is_throttled;

static void *populate(void *memory)
{
	while (sem_wait(&is_throttled))
		;
	madvise(memory, POPULATED * PAGE, MADV_POPULATE_WRITE);
	return NULL;
}

static void hold_lock(struct stuck *stuck)
{
	char *memory = map_private(false, POPULATED);
	pthread_t thread;

	madvise(memory, POPULATED * PAGE, MADV_NOHUGEPAGE);
	sem_init(&is_throttled, 0, 0);
	/* From when it is in the cgroup, whatever needs memory takes long. */
	is_ready(stuck);
	if (pthread_create(&thread, NULL, populate, memory) || join_memcg(NULL, 0))
		_exit(1);
	sem_post(&is_throttled);
	usleep(100000);
	keep_mapping(NULL);
}

/* Whether nobody gets the mmap lock of a process: who asks for what needs it gets no answer for a while. */
static bool lock_is_held(pid_t pid)
{
	struct watched watched = start_watched();
	int status;

	if (!watched.pid) {
		char path[64];

		snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
		free(read_file(path));
		_exit(0);
	}
	if (reap(watched.pid, &status, 0.5))
		return false;
	kill(watched.pid, SIGKILL);
	reap(watched.pid, &status, SECONDS_TO_DIE);
	return true;
}

static const char *hold_the_mmap_lock(struct stuck *stuck)
{
	struct patience patience;

	if (!make_memcg() || print_to_file(MEMCG "/memory.high", "0"))
		return "no memory cgroups";
	if (!fork_stuck(stuck, hold_lock))
		return "no process";
	patience = patience_for(SECONDS_OF_A_STEP);
	while (!lock_is_held(stuck->pid)) {
		if (ran_out(&patience))
			return "memory.high does not hold it up";
		usleep(100000);
	}
	return NULL;
}

FIXTURE(relative)
{
	char core_pattern[128];
	char *memory;
	struct stuck *stuck;
};

FIXTURE_VARIANT(relative)
{
	/* Lets a process get stuck; why that is not possible, or NULL. */
	const char *(*get_stuck)(struct stuck *stuck);
	/* Nobody gets its mmap lock. */
	bool locked;
	/* The kernel has pinned the page for it. */
	bool pinned;
};

FIXTURE_VARIANT_ADD(relative, that_holds_its_mmap_lock) { .get_stuck = hold_the_mmap_lock, .locked = true };
FIXTURE_VARIANT_ADD(relative, that_is_stopped) { .get_stuck = stop };
FIXTURE_VARIANT_ADD(relative, that_is_traced) { .get_stuck = trace };
FIXTURE_VARIANT_ADD(relative, that_waits_for_userfaultfd) { .get_stuck = wait_for_userfaultfd };
FIXTURE_VARIANT_ADD(relative, that_waits_for_userfaultfd_in_the_kernel) {
	.get_stuck = wait_for_userfaultfd_in_the_kernel,
	.pinned = true,
};
FIXTURE_VARIANT_ADD(relative, that_dumps_core) { .get_stuck = dump_core_to_a_pipe };
FIXTURE_VARIANT_ADD(relative, that_is_in_vfork) { .get_stuck = vfork_and_wait };

FIXTURE_SETUP(relative)
{
	char *pattern = read_file(CORE_PATTERN);

	if (pattern)
		snprintf(self->core_pattern, sizeof(self->core_pattern), "%s", pattern);
	self->stuck = map_shared(sizeof(*self->stuck));
	ASSERT_NE(MAP_FAILED, self->stuck);
	self->memory = map_device(1, MAP_PRIVATE);
	ASSERT_NE(MAP_FAILED, self->memory);
	self->stuck->memory = self->memory;
}

FIXTURE_TEARDOWN_PARENT(relative)
{
	if (*self->core_pattern)
		print_to_file(CORE_PATTERN, "%s", self->core_pattern);
	remove_memcg();
	EXPECT_STREQ("", leak());
}

/* Forks the relative, which has the page of this process; skips the test if it can't get stuck. */
#define GET_STUCK() do {								\
	const char *not_stuck;								\
											\
	EXPECT_WORD(1, store(self->memory, 1));						\
	not_stuck = variant->get_stuck(self->stuck);					\
	if (not_stuck)									\
		SKIP(return, "%s", not_stuck);						\
	EXPECT_WORD(1, load(self->memory));						\
} while (0)

/* It was stuck all the time, and nothing but SIGKILL is needed to end it. */
#define END_STUCK() do {								\
	int stuck_status;								\
											\
	if (variant->locked)								\
		EXPECT_TRUE(lock_is_held(self->stuck->pid));				\
	EXPECT_EQ(0, waitpid(self->stuck->pid, &stuck_status, WNOHANG));		\
	kill(self->stuck->pid, SIGKILL);						\
	EXPECT_TRUE(reap(self->stuck->pid, &stuck_status, SECONDS_TO_DIE));		\
} while (0)

TEST_F(relative, does_not_hold_up_a_failure_by_address)
{
	WATCHED(SECONDS_OF_A_RACE) {
		GET_STUCK();
		EXPECT_IN_TIME(SECONDS_OF_A_COMMAND, 0, poison_addr(getpid(), self->memory));
		EXPECT_SIGBUS(self->memory, load(self->memory));
		END_STUCK();
	}
}

TEST_F(relative, does_not_hold_up_a_failure_by_frame)
{
	WATCHED(SECONDS_OF_A_RACE) {
		uint64_t pfn;

		GET_STUCK();
		pfn = pfn_of(self->memory);
		EXPECT_IN_TIME(SECONDS_OF_A_COMMAND, 0, poison_pfn(pfn));
		EXPECT_SIGBUS(self->memory, load(self->memory));
		EXPECT_IN_TIME(SECONDS_OF_A_COMMAND, 0, unpoison_pfn(pfn));
		EXPECT_WORD(1, load(self->memory));
		END_STUCK();
	}
}

TEST_F(relative, does_not_hold_up_soft_offline)
{
	WATCHED(SECONDS_OF_A_RACE) {
		uint64_t pfn;

		GET_STUCK();
		pfn = pfn_of(self->memory);
		EXPECT_IN_TIME(SECONDS_OF_A_COMMAND, variant->pinned ? EBUSY : 0, soft_offline_pfn(pfn));
		EXPECT_WORD(1, load(self->memory));
		EXPECT_EQ(variant->pinned, pfn == pfn_of(self->memory));
		if (!variant->pinned)
			EXPECT_EQ(0, unpoison_pfn(pfn));
		END_STUCK();
	}
}

TEST_F(relative, does_not_hold_up_what_is_asked_about_the_page)
{
	WATCHED(SECONDS_OF_A_RACE) {
		uint64_t pfn;

		GET_STUCK();
		pfn = pfn_of(self->memory);
		EXPECT_IN_TIME(SECONDS_OF_A_COMMAND, 0, ask_rmap(pfn));
		EXPECT_IN_TIME(SECONDS_OF_A_COMMAND, 0, print_to_file(DEBUGFS "dry_run", "%#lx", pfn));
		END_STUCK();
	}
}

TEST_F(relative, does_not_hold_up_a_failure_that_names_it)
{
	WATCHED(SECONDS_OF_A_RACE) {
		GET_STUCK();
		EXPECT_IN_TIME(SECONDS_OF_A_COMMAND, 0, poison_addr(self->stuck->pid, self->memory));
		EXPECT_SIGBUS(self->memory, load(self->memory));
		END_STUCK();
	}
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], CORE_SINK)) {
		ignore_core(atoi(argv[2]));
		return 0;
	}
	if (argc == 2 && *argv[1] != '-') {
		nr_offlines = atol(argv[1]);
		argc = 1;
	}
	return test_harness_run(argc, argv);
}
