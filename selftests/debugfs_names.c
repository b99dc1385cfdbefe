// SPDX-License-Identifier: GPL-2.0-only
/*
 * The names of processes and pages: what a file prints is taken by every other file, and means the same page of the
 * same process. In pid namespaces, for processes whose first thread has ended, and when a number is another's by now.
 * `debugfs_names [ROUNDS [SEED]]`: how many random names are tried.
 */
#include <linux/sched.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "lib/fixture.h"
#include "lib/proc.h"
#include "lib/random.h"

#define PAGES 16

static long nr_rounds = 300, first_seed = 1;

/* Whether the first thread of @pid has ended, and the process has not. */
static bool has_dead_leader(uint64_t pid)
{
	return state_of(pid) == 'Z';
}

static void *serve_as_thread(void *argument)
{
	serve(argument, getppid());
}

/* Lets the peer go on in a second thread, and its first one end. */
static void serve_without_leader(struct peer *peer)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, serve_as_thread, peer))
		_exit(1);
	/* The thread only. */
	syscall(SYS_exit, 0);
}

/* Whether the kernel has pid namespaces. */
static bool has_namespaces(void)
{
	return !access("/proc/self/ns/pid", F_OK);
}

/* How a process begins: in a pid namespace of its own, or without its first thread, or both. */
struct beginning {
	struct peer *peer;
	bool new_namespace, dead_leader;
};

static long begin_here(void *argument, long unused)
{
	struct beginning *beginning = argument;
	struct peer *peer = beginning->peer;
	long flags = SIGCHLD | (beginning->new_namespace ? CLONE_NEWPID : 0);
	pid_t parent = beginning->new_namespace ? 0 : getpid();
	pid_t pid = syscall(SYS_clone, flags, NULL, NULL, NULL, NULL);

	(void)unused;
	if (!pid) {
		if (beginning->dead_leader)
			serve_without_leader(peer);
		serve(peer, parent);
	}
	peer->pid = pid;
	return pid > 0 ? 0 : errno;
}

/* Shared by all, as the peers are. */
static struct beginning *beginning;

/*
 * Lets @by, or this process if that is NULL, begin a peer; NULL with errno. Its pid is the one that who begins it sees.
 */
static struct peer *begin(struct peer *peer, struct peer *by, bool new_namespace, bool dead_leader)
{
	*beginning = (struct beginning){ peer, new_namespace && has_namespaces(), dead_leader };
	errno = by ? peer_call(by, begin_here, beginning, 0) : begin_here(beginning, 0);
	return errno ? NULL : peer;
}

__attribute__((constructor)) static void map_beginning(void)
{
	beginning = map_shared(PAGE);
}

/* The number after @key in the line of @file that has @with, as this process reads it; -1 if there is none. */
static long number_in_line(const char *file, const char *with, const char *key)
{
	char *text = read_file(file), *rest = text, *line, *at;
	long number = -1;

	while (text && (line = strsep(&rest, "\n"))) {
		at = strstr(line, with) ? strstr(line, key) : NULL;
		if (at)
			number = strtol(at + strlen(key), NULL, 0);
	}
	free(text);
	return number;
}

/* Whether this process reads in @file what is to be printed. */
__attribute__((format(printf, 2, 3))) static bool says(const char *file, const char *format, ...)
{
	char *text = read_file(file), wanted[256];
	va_list arguments;
	bool found;

	va_start(arguments, format);
	vsnprintf(wanted, sizeof(wanted), format, arguments);
	va_end(arguments);
	found = text && strstr(text, wanted);
	free(text);
	return found;
}

FIXTURE_ON_DEVICE(debugfs_names, PAGES, false);

/*
 * A check that runs in a peer: expressions that have to be true. Returns the number of the first line where one is not.
 */
#define CHECK(expression) do {	\
	if (!(expression))	\
		return __LINE__;	\
} while (0)

/* The process is the first of a pid namespace, and has pages of its own. */
static long read_and_write_in_namespace(void *argument, long unused)
{
	char *memory = argument, *list, *pfn;

	(void)unused;
	fill(memory, PAGES, 2);
	CHECK(getpid() == 1);
	CHECK(says(DEBUGFS "mappings", "pid=1 range=%#lx-", (uintptr_t)memory));
	/* That of the parent, which can't be seen from here. */
	CHECK(says(DEBUGFS "mappings", "pid=0 range=%#lx-", (uintptr_t)memory));

	CHECK(!poison_addr(1, memory));
	CHECK(load(memory).code == BUS_MCEERR_AR);
	CHECK(!print_to_file(DEBUGFS "dry_run", "1 %p", memory + PAGE));
	CHECK(says(DEBUGFS "dry_run", "pid=1 address=%p tid=0 signal=none\n", memory + PAGE));
	CHECK(!ask_rmap(pfn_of(memory + PAGE)));
	CHECK(says(DEBUGFS "rmap", "pid=1 address=%p\n", memory + PAGE));
	CHECK(!print_to_file(DEBUGFS "poison_random", "1 1 1"));
	CHECK(number_in_line(DEBUGFS "poison_random", "pid=", "pid=") == 1);
	CHECK(!print_to_file(DEBUGFS "poison_range", "1 %p %p", memory + 14 * PAGE, memory + 16 * PAGE));

	/* The list as it is read can be replayed. */
	list = read_file(DEBUGFS "poisoned");
	CHECK(strstr(list, " pids=1 pid=1 "));
	for (pfn = list; (pfn = strstr(pfn, "pfn=")); pfn++)
		CHECK(!unpoison_pfn(strtoul(pfn + 4, NULL, 0)));
	CHECK(filled(memory, 0, PAGES, 2));
	CHECK(!write_text(DEBUGFS "replay", list));
	free(list);
	CHECK(load(memory).code == BUS_MCEERR_AR);
	return 0;
}

TEST_F(debugfs_names, what_a_pid_namespace_reads_it_can_write)
{
	struct peer *inner;

	if (!has_namespaces())
		SKIP(return, "the kernel has no pid namespaces");
	fill(self->memory, PAGES, 1);
	inner = begin(new_peer(), NULL, true, false);
	ASSERT_NE(NULL, inner);
	EXPECT_EQ(0, peer_call(inner, read_and_write_in_namespace, self->memory, 0));
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
	/* The line has the numbers of this namespace. */
	EXPECT_FALSE(says(DEBUGFS "poisoned", "pid=1 "));
	EXPECT_EQ(inner->pid, number_in_line(DEBUGFS "poisoned", "pfn=", "pids="));
	EXPECT_EQ(inner->pid, number_in_line(DEBUGFS "poisoned", "pfn=", " pid="));
	end_peer(inner);
}

static long read_of_the_parent(void *argument, long unused)
{
	struct poisoned page;

	(void)unused;
	CHECK(read_poisoned(*(uint64_t *)argument, &page));
	CHECK(page.hit == 1 && page.nr_pids == 1 && page.pids[0] == 0);
	CHECK(number_in_line(DEBUGFS "poisoned", "pfn=", " pid=") == 0);
	CHECK(poison_addr(0, argument) == ESRCH);
	return 0;
}

TEST_F(debugfs_names, a_process_that_a_namespace_cannot_see_is_counted_and_is_pid_0)
{
	uint64_t *pfn = map_shared(PAGE);
	struct peer *inner;

	if (!has_namespaces())
		SKIP(return, "the kernel has no pid namespaces");
	inner = begin(new_peer(), NULL, true, false);
	ASSERT_NE(NULL, inner);
	fill(self->memory, PAGES, 1);
	*pfn = pfn_of(self->memory);
	ASSERT_EQ(0, poison_addr(getpid(), self->memory));
	EXPECT_EQ(0, peer_call(inner, read_of_the_parent, pfn, 0));
	EXPECT_EQ(getpid(), number_in_line(DEBUGFS "poisoned", "pfn=", " pid="));
	end_peer(inner);
}

static long tid_here(void *unused, long unused_too)
{
	(void)unused;
	(void)unused_too;
	return syscall(SYS_gettid);
}

static long fill_here(void *memory, long seed)
{
	fill(memory, PAGES, seed);
	return 0;
}

TEST_F(debugfs_names, a_process_is_found_when_its_first_thread_has_ended)
{
	struct peer *peer = begin(new_peer(), NULL, false, true);
	pid_t tid;

	ASSERT_NE(NULL, peer);
	ASSERT_TRUE(await(has_dead_leader, peer->pid));
	tid = peer_call(peer, tid_here, NULL, 0);
	ASSERT_NE(peer->pid, tid);
	peer_call(peer, fill_here, self->memory, 2);
	EXPECT_TRUE(says(DEBUGFS "mappings", "pid=%d range=%#lx-", peer->pid, (uintptr_t)self->memory));

	EXPECT_EQ(0, poison_addr(peer->pid, self->memory));
	EXPECT_SIGBUS(self->memory, peer_load(peer, self->memory));
	/* By whichever id, it is the same process. */
	EXPECT_EQ(0, poison_addr(tid, self->memory + PAGE));
	EXPECT_SIGBUS(self->memory + PAGE, peer_load(peer, self->memory + PAGE));
	EXPECT_TRUE(says(DEBUGFS "poisoned", " pids=%d pid=%d address=%p\n", peer->pid, peer->pid, self->memory));
	EXPECT_TRUE(says(DEBUGFS "poisoned", " pids=%d pid=%d address=%p\n", peer->pid, peer->pid,
			 self->memory + PAGE));

	EXPECT_EQ(0, print_to_file(DEBUGFS "poison_range", "%d %p %p", peer->pid, self->memory + 2 * PAGE,
				   self->memory + 4 * PAGE));
	EXPECT_SIGBUS(self->memory + 3 * PAGE, peer_load(peer, self->memory + 3 * PAGE));
	EXPECT_EQ(0, print_to_file(DEBUGFS "replay", "pid=%d address=%p\n", peer->pid, self->memory + 4 * PAGE));
	EXPECT_SIGBUS(self->memory + 4 * PAGE, peer_load(peer, self->memory + 4 * PAGE));
	EXPECT_EQ(0, print_to_file(DEBUGFS "dry_run", "%d %p", tid, self->memory + 5 * PAGE));
	EXPECT_TRUE(says(DEBUGFS "dry_run", "pid=%d address=%p", peer->pid, self->memory + 5 * PAGE));
	EXPECT_EQ(0, print_to_file(DEBUGFS "poison_random", "%d 1 1", peer->pid));
	EXPECT_TRUE(says(DEBUGFS "poison_random", "pid=%d address=", peer->pid));
	end_peer(peer);
	EXPECT_EQ(ESRCH, poison_addr(peer->pid, self->memory));
}

static volatile sig_atomic_t notice;

static void on_notice(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)context;
	notice = info->si_code;
}

static long ask_for_early_notice(void *unused, long unused_too)
{
	struct sigaction action = { .sa_sigaction = on_notice, .sa_flags = SA_SIGINFO };

	(void)unused;
	(void)unused_too;
	sigaction(SIGBUS, &action, NULL);
	return prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0);
}

static long notice_here(void *unused, long unused_too)
{
	(void)unused;
	(void)unused_too;
	return notice;
}

TEST_F(debugfs_names, a_thread_that_lives_gets_early_notice_when_the_first_has_ended)
{
	struct peer *peer = begin(new_peer(), NULL, false, true);
	pid_t tid;

	ASSERT_NE(NULL, peer);
	ASSERT_TRUE(await(has_dead_leader, peer->pid));
	peer_call(peer, fill_here, self->memory, 2);
	ASSERT_EQ(0, peer_call(peer, ask_for_early_notice, NULL, 0));
	ASSERT_EQ(0, print_to_file(DEBUGFS "dry_run", "%d %p", peer->pid, self->memory));
	tid = peer_call(peer, tid_here, NULL, 0);
	EXPECT_TRUE(says(DEBUGFS "dry_run", "pid=%d address=%p tid=%d signal=BUS_MCEERR_AO\n", peer->pid,
			 self->memory, tid));
	EXPECT_EQ(0, peer_call(peer, notice_here, NULL, 0));
	ASSERT_EQ(0, poison_addr(peer->pid, self->memory));
	EXPECT_EQ(BUS_MCEERR_AO, peer_call(peer, notice_here, NULL, 0));
	end_peer(peer);
}

static long reap_here(void *unused, long pid)
{
	(void)unused;
	kill(pid, SIGKILL);
	return waitpid(pid, NULL, 0) == pid ? 0 : errno;
}

/* Forks this process, which gives the child the number @pid. */
static struct peer *begin_as(pid_t pid)
{
	struct peer *peer = new_peer();
	struct clone_args arguments = { .exit_signal = SIGCHLD, .set_tid = (uintptr_t)&pid, .set_tid_size = 1 };
	pid_t parent = getpid(), child = syscall(SYS_clone3, &arguments, sizeof(arguments));

	if (!child)
		serve(peer, parent);
	peer->pid = child;
	return child == pid ? peer : NULL;
}

TEST_F(debugfs_names, a_number_that_is_another_process_by_now_is_not_printed)
{
	struct peer *parent = fork_peer(), *first, *second, *other;
	struct poisoned page;
	uint64_t pfn;
	char *list;

	/* Both have a page of their parent's. */
	ASSERT_NE(NULL, parent);
	peer_call(parent, fill_here, self->memory, 2);
	first = peer_fork(parent);
	second = peer_fork(parent);
	ASSERT_TRUE(first && second);
	EXPECT_WORD(word(2, 0), peer_load(first, self->memory));
	EXPECT_WORD(word(2, 0), peer_load(second, self->memory));
	ASSERT_EQ(0, poison_addr(first->pid, self->memory));
	pfn = number_in_line(DEBUGFS "poisoned", "source=", "pfn=");
	EXPECT_TRUE(says(DEBUGFS "poisoned", " pid=%d address=%p\n", first->pid, self->memory));

	ASSERT_EQ(0, peer_call(parent, reap_here, NULL, first->pid));
	fill(self->memory, PAGES, 1);
	other = begin_as(first->pid);
	ASSERT_NE(NULL, other);
	EXPECT_WORD(word(1, 0), peer_load(other, self->memory));
	ASSERT_TRUE(read_poisoned(pfn, &page));
	EXPECT_EQ(3, page.hit);
	ASSERT_EQ(3, page.nr_pids);
	for (int i = 0; i < 3; i++) {
		EXPECT_TRUE(!page.pids[i] || page.pids[i] == parent->pid || page.pids[i] == second->pid);
	}
	/* Named by one that still has it. */
	list = read_file(DEBUGFS "poisoned");
	EXPECT_NE(first->pid, number_in_line(DEBUGFS "poisoned", "pfn=", " pid="));
	EXPECT_NE(0, number_in_line(DEBUGFS "poisoned", "pfn=", " pid="));
	ASSERT_EQ(0, unpoison_pfn(pfn));
	EXPECT_WORD(word(2, 0), peer_load(second, self->memory));
	ASSERT_EQ(0, write_text(DEBUGFS "replay", list));
	free(list);
	EXPECT_SIGBUS(self->memory, peer_load(second, self->memory));
	EXPECT_WORD(word(1, 0), peer_load(other, self->memory));
	EXPECT_WORD(word(1, 0), load(self->memory));
	end_peer(other);
	end_peer(parent);
}

static long execute_here(void *unused, long unused_too)
{
	(void)unused;
	(void)unused_too;
	execl("/bin/sleep", "sleep", "1000", NULL);
	return errno;
}

static bool is_sleep(uint64_t pid)
{
	char path[64], *name;
	bool is;

	snprintf(path, sizeof(path), "/proc/%lu/comm", pid);
	name = read_file(path);
	is = name && !strcmp(name, "sleep\n");
	free(name);
	return is;
}

/* The name would mean memory of the other program, or none. */
TEST_F(debugfs_names, a_process_that_has_executed_another_program_is_not_printed)
{
	struct peer *parent = fork_peer(), *child, *grandchild;
	uint64_t pfn;

	/* Both have a page of the parent's. */
	ASSERT_NE(NULL, parent);
	peer_call(parent, fill_here, self->memory, 2);
	child = peer_fork(parent);
	ASSERT_NE(NULL, child);
	EXPECT_WORD(word(2, 0), peer_load(child, self->memory));
	ASSERT_EQ(0, poison_addr(parent->pid, self->memory));
	pfn = number_in_line(DEBUGFS "poisoned", "source=", "pfn=");
	EXPECT_TRUE(says(DEBUGFS "poisoned", " pid=%d address=%p\n", parent->pid, self->memory));

	begin_peer_call(parent, execute_here, NULL, 0);
	ASSERT_TRUE(await(is_sleep, parent->pid));
	EXPECT_TRUE(says(DEBUGFS "poisoned", " pid=%d address=%p\n", child->pid, self->memory));

	/* Who comes later has the page, and was not hit. */
	grandchild = peer_fork(child);
	ASSERT_NE(NULL, grandchild);
	EXPECT_SIGBUS(self->memory, peer_load(grandchild, self->memory));
	begin_peer_call(child, execute_here, NULL, 0);
	ASSERT_TRUE(await(is_sleep, child->pid));
	EXPECT_EQ(1, counter("poisoned"));
	EXPECT_EQ(0, number_in_line(DEBUGFS "poisoned", "pfn=", " pid="));

	ASSERT_EQ(0, unpoison_pfn(pfn));
	EXPECT_WORD(word(2, 0), peer_load(grandchild, self->memory));
	end_peer(parent);
}

static long execute_several_here(void *unused, long unused_too)
{
	(void)unused;
	(void)unused_too;
	execl("/bin/sh", "sh", "-c", "exec sh -c 'exec sh -c \"exec sleep 1000\"'", NULL);
	return errno;
}

/* Their address spaces come to be in memory where that of the first one was. */
TEST_F(debugfs_names, a_process_that_has_executed_several_programs_is_not_printed)
{
	enum { PROCESSES = 12 };
	struct peer *peers[PROCESSES];
	uint64_t pfns[PROCESSES];

	for (size_t i = 0; i < PROCESSES; i++) {
		peers[i] = fork_peer();
		ASSERT_NE(NULL, peers[i]);
		peer_call(peers[i], fill_here, self->memory, 2);
		ASSERT_EQ(0, poison_addr(peers[i]->pid, self->memory));
		pfns[i] = poisoned_pfn();
		begin_peer_call(peers[i], execute_several_here, NULL, 0);
		ASSERT_TRUE(await(is_sleep, peers[i]->pid));
		EXPECT_FALSE(says(DEBUGFS "poisoned", " pid=%d address=", peers[i]->pid));
		unpoison_pfn(pfns[i]);
	}
	for (size_t i = 0; i < PROCESSES; i++)
		end_peer(peers[i]);
}

/* Only who has inherited it has the page, and has never touched it. */
TEST_F(debugfs_names, a_page_that_was_not_hit_is_named_by_nobody)
{
	struct peer *child;
	uint64_t pfn;

	fill(self->memory, PAGES, 1);
	pfn = pfn_of(self->memory);
	child = fork_peer();
	ASSERT_NE(NULL, child);
	ASSERT_EQ(0, madvise(self->memory, PAGE, MADV_DONTNEED));
	ASSERT_EQ(0, poison_pfn(pfn));
	EXPECT_TRUE(says(DEBUGFS "poisoned", "hit=0 pids= pid=0 address=0x0\n"));
	EXPECT_EQ(0, unpoison_pfn(pfn));
	EXPECT_WORD(word(1, 0), peer_load(child, self->memory));
	end_peer(child);
}

/* Processes that share memory, of which each has copied some pages: in two pid namespaces, some with a dead leader. */
enum { OUTER, OUTER_CHILD, INNER, INNER_CHILD, MEMBERS };
#define NR_NAMESPACES 2
#define ROUNDS_OF_A_WORLD 50

static struct world {
	struct random random;
	char *memory;
	struct member {
		/* NULL for this process. */
		struct peer *peer;
		/* Its id, and that of a thread that lives, in both namespaces; 0 in one that can't see it. */
		pid_t pid[NR_NAMESPACES], tid[NR_NAMESPACES];
		char *memory;
		uint64_t pfn[PAGES];
	} members[MEMBERS];
	char complaint[1024];
} *world;

/* Sets *pid to the ids that this process, or the current thread, has in both namespaces; to @id, if there are none. */
static void read_ids(const char *path, const char *key, pid_t id, pid_t *pid)
{
	char *text = read_file(path), *line = strstr(text, key);

	pid[0] = id;
	pid[1] = line ? 0 : id;
	if (line)
		sscanf(line + strlen(key), "%d %d", &pid[0], &pid[1]);
	free(text);
}

/* Copies some pages, and may be elsewhere with the memory. */
static long settle(void *argument, long seed)
{
	struct random random = random_of_step(world->random.state, seed);
	struct member *member = argument;

	member->memory = world->memory;
	if (one_in(&random, 2))
		member->memory = mremap(world->memory, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
					world->memory + (1 + seed) * 2 * PAGES * PAGE);
	if (member->memory == MAP_FAILED)
		return errno;
	for (size_t i = 0; i < PAGES; i++) {
		struct access access = one_in(&random, 3) ? store(member->memory + i * PAGE, seed) :
							    load(member->memory + i * PAGE);

		if (access.signal)
			return EFAULT;
	}
	if (one_in(&random, 2) && mprotect(member->memory + below(&random, PAGES) * PAGE, PAGE, PROT_READ))
		return errno;
	read_ids("/proc/self/status", "NStgid:", getpid(), member->pid);
	read_ids("/proc/thread-self/status", "NSpid:", syscall(SYS_gettid), member->tid);
	return 0;
}

/* As pfn_of(), which asks the first thread. */
static uint64_t frame_of(const void *address)
{
	int fd = open("/proc/thread-self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = pagemap_entry(fd, address);

	close(fd);
	return frame_in(entry);
}

static long note_frames(void *argument, long unused)
{
	struct member *member = argument;

	(void)unused;
	for (size_t i = 0; i < PAGES; i++) {
		if (load(member->memory + i * PAGE).signal)
			return EFAULT;
		member->pfn[i] = frame_of(member->memory + i * PAGE);
		if (!member->pfn[i])
			return ENODATA;
	}
	return 0;
}

/* Reads all pages again: they are in the same frames. */
static long touch(void *argument, long unused)
{
	struct member *member = argument;

	(void)unused;
	for (size_t i = 0; i < PAGES; i++)
		if (load(member->memory + i * PAGE).signal || frame_of(member->memory + i * PAGE) != member->pfn[i])
			return 1;
	return 0;
}

static long call_member(int i, long (*function)(void *, long), void *argument, long value)
{
	struct peer *peer = world->members[i].peer;

	return peer ? peer_call(peer, function, argument, value) : function(argument, value);
}

static long forget(void *argument, long unused)
{
	struct member *member = argument;

	(void)unused;
	return munmap(member->memory, PAGES * PAGE);
}

/* Returns what has gone wrong, 0 if nothing. */
static long make_world(uint64_t seed)
{
	world->random.state = seed;
	world->memory = reserve((MEMBERS + 1) * 2 * PAGES);
	CHECK(world->memory != MAP_FAILED);
	int device = open(DEVICE, O_RDWR | O_CLOEXEC);

	CHECK(mmap(world->memory, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, device, 0) ==
	      world->memory);
	close(device);
	fill(world->memory, PAGES, 9);

	struct peer *inner = world->members[INNER].peer;

	CHECK(begin(world->members[OUTER_CHILD].peer, NULL, false, one_in(&world->random, 2)));
	CHECK(begin(inner, NULL, true, one_in(&world->random, 2)));
	CHECK(begin(world->members[INNER_CHILD].peer, inner, false, one_in(&world->random, 2)));
	for (int i = 0; i < MEMBERS; i++)
		CHECK(!call_member(i, settle, &world->members[i], i));
	/* When nobody copies any more. */
	for (int i = 0; i < MEMBERS; i++)
		CHECK(!call_member(i, note_frames, &world->members[i], 0));
	return 0;
}

static void end_world(void)
{
	end_peer(world->members[OUTER_CHILD].peer);
	/* And with it its namespace. */
	end_peer(world->members[INNER].peer);
	forget(&world->members[OUTER], 0);
	munmap(world->memory, (MEMBERS + 1) * 2 * PAGES * PAGE);
}

/* A place as a file names it. */
struct name {
	long pid;
	uintptr_t address;
};

/* The frame that a name means in a namespace; 0 if none. */
static uint64_t meaning(struct name name, int namespace)
{
	for (int i = 0; i < MEMBERS; i++) {
		const struct member *member = &world->members[i];
		size_t page = (name.address - (uintptr_t)member->memory) >> PAGE_SHIFT;

		if (name.pid && (name.pid == member->pid[namespace] || name.pid == member->tid[namespace]) &&
		    page < PAGES)
			return member->pfn[page];
	}
	return 0;
}

/* How many have a frame; how many of them a namespace can see. */
static int holders_of(uint64_t pfn, int namespace, int *seen)
{
	int all = 0;

	*seen = 0;
	for (int i = 0; i < MEMBERS; i++)
		for (size_t page = 0; page < PAGES; page++)
			if (world->members[i].pfn[page] == pfn) {
				all++;
				*seen += world->members[i].pid[namespace] != 0;
			}
	return all;
}

#define COMPLAIN(...) ({								\
	snprintf(world->complaint, sizeof(world->complaint), __VA_ARGS__);		\
	__LINE__;									\
})

/*
 * Looks at what a file says of frame @pfn, a place a line: each that this namespace can see means that frame. Sets
 * *name to one of these, by chance.
 */
static long check_places(const char *file, uint64_t pfn, int namespace, struct random *random, struct name *name)
{
	char *text = read_file(file), *rest = text, *line;
	int lines = 0, named = 0, seen;
	int holders = holders_of(pfn, namespace, &seen);

	while ((line = strsep(&rest, "\n")) && *line) {
		struct name here;

		lines++;
		if (sscanf(line, "pid=%ld address=%lx", &here.pid, &here.address) != 2)
			return COMPLAIN("%s: %s", file, line);
		if (!here.pid)
			continue;
		if (meaning(here, namespace) != pfn)
			return COMPLAIN("%s says %s of frame %#lx, which is %#lx", file, line, pfn,
					meaning(here, namespace));
		if (one_in(random, ++named))
			*name = here;
	}
	free(text);
	/* `rmap` is of page tables: who has not touched the page since it failed is not there. */
	if (strcmp(file, DEBUGFS "rmap") ? lines != holders || named != seen : lines > holders || named > seen)
		return COMPLAIN("%s: %d lines, %d named, of %d and %d", file, lines, named, holders, seen);
	return 0;
}

/* A page in a line of `mappings`, by chance. */
static long name_by_mappings(int namespace, struct random *random, struct name *name)
{
	char *text = read_file(DEBUGFS "mappings"), *rest = text, *line;
	int named = 0, lines = 0;

	while ((line = strsep(&rest, "\n")) && *line) {
		uintptr_t start, end;
		long pid;

		lines++;
		if (sscanf(line, "pid=%ld range=%lx-%lx ", &pid, &start, &end) != 3)
			return COMPLAIN("mappings: %s", line);
		if (pid && one_in(random, ++named))
			*name = (struct name){ pid, start + below(random, (end - start) >> PAGE_SHIFT) * PAGE };
	}
	free(text);
	if (lines < MEMBERS || !named || !meaning(*name, namespace))
		return COMPLAIN("mappings: %d lines, %d named; pid=%ld address=%#lx means nothing", lines, named,
				name->pid, name->address);
	return 0;
}

/* What `poisoned` says is that frame @pfn has failed, and no other, by names that mean it. */
static long check_poisoned(uint64_t pfn, int namespace, struct name *name)
{
	char *text = read_file(DEBUGFS "poisoned"), *place = strstr(text, " pid="), *end = strchr(text, '\n');
	int seen, holders = holders_of(pfn, namespace, &seen), named = 0;
	struct poisoned page;

	if (!place || !end || end[1] || !read_poisoned(pfn, &page))
		return COMPLAIN("poisoned, for frame %#lx: %s", pfn, text);
	for (int i = 0; i < page.nr_pids; i++)
		named += page.pids[i] != 0;
	if (page.hit != holders || page.nr_pids != holders || named != seen)
		return COMPLAIN("poisoned: %d holders, %d can be seen: %s", holders, seen, text);
	if (sscanf(place, " pid=%ld address=%lx", &name->pid, &name->address) != 2)
		return COMPLAIN("poisoned: %s", text);
	if (seen ? meaning(*name, namespace) != pfn : name->pid)
		return COMPLAIN("poisoned names frame %#lx so: %s", pfn, text);
	free(text);
	return 0;
}

static const char *const sources[] = { "poison_addr", "poison_range", "replay", "poison_random" };

/* Lets the page of a name fail, by a source; the last one chooses another page of the process, and says which. */
static long fail(int source, struct name *name, int namespace, uint64_t *pfn, struct random *random)
{
	unsigned long said;
	char *text;
	int error;

	switch (source) {
	case 0:
		error = print_to_file(DEBUGFS "poison_addr", "%ld %#lx", name->pid, name->address);
		break;
	case 1:
		error = print_to_file(DEBUGFS "poison_range", "%ld %#lx %#lx", name->pid, name->address,
				      name->address + 1);
		break;
	case 2:
		error = print_to_file(DEBUGFS "replay", "pid=%ld address=%#lx\n", name->pid, name->address);
		break;
	default:
		error = print_to_file(DEBUGFS "poison_random", "%ld 1 %lu", name->pid, next(random));
		text = read_file(DEBUGFS "poison_random");
		if (!error && sscanf(text, "pid=%ld address=%lx pfn=%lx", &name->pid, &name->address, &said) != 3)
			return COMPLAIN("poison_random: %s", text);
		free(text);
		*pfn = meaning(*name, namespace);
		if (!error && *pfn != said)
			return COMPLAIN("poison_random says pid=%ld address=%#lx of frame %#lx, which is %#lx",
					name->pid, name->address, said, *pfn);
	}
	if (error)
		return COMPLAIN("%s pid=%ld address=%#lx: %s", sources[source], name->pid, name->address, strerror(error));
	return 0;
}

/* A round, in a process of the namespace: one file names a page, that lets it fail, and so on. */
static long try_a_name(void *argument, long round)
{
	struct random random = random_of_step(world->random.state, 1000 + round);
	int namespace = (intptr_t)argument;
	struct name name = {};
	uint64_t pfn;
	long wrong;
	int error;

	wrong = name_by_mappings(namespace, &random, &name);
	if (wrong)
		return wrong;
	/* By the id of a thread, which is as good. */
	for (int i = 0; i < MEMBERS; i++)
		if (name.pid == world->members[i].pid[namespace] && one_in(&random, 3)) {
			name.pid = world->members[i].tid[namespace];
			break;
		}
	for (int step = 0; step < 3; step++) {
		const char *file = DEBUGFS "dry_run";

		pfn = meaning(name, namespace);
		switch (below(&random, 3)) {
		case 0:
			error = print_to_file(DEBUGFS "dry_run", "%ld %#lx", name.pid, name.address);
			break;
		case 1:
			error = print_to_file(DEBUGFS "dry_run", "%#lx", pfn);
			break;
		default:
			error = print_to_file(file = DEBUGFS "rmap", "%#lx", pfn);
		}
		if (error)
			return COMPLAIN("%s, frame %#lx, pid=%ld address=%#lx: %s", file, pfn, name.pid, name.address,
					strerror(error));
		wrong = check_places(file, pfn, namespace, &random, &name);
		if (wrong)
			return wrong;
	}
	for (int step = 0; step < 2; step++) {
		wrong = fail(below(&random, 4), &name, namespace, &pfn, &random);
		if (!wrong)
			wrong = check_poisoned(pfn, namespace, &name);
		if (wrong)
			return wrong;
		error = unpoison_pfn(pfn);
		if (error)
			return COMPLAIN("unpoison_pfn %#lx: %s", pfn, strerror(error));
	}
	return 0;
}

FIXTURE(round_trip)
{
};

FIXTURE_SETUP(round_trip)
{
	world = map_shared(sizeof(*world));
	ASSERT_NE(MAP_FAILED, world);
	for (int i = OUTER_CHILD; i < MEMBERS; i++)
		world->members[i].peer = new_peer();
}

FIXTURE_LEAVES_NOTHING(round_trip);

TEST_F_TIMEOUT(round_trip, what_any_file_prints_means_the_same_to_every_other, 36000)
{
	for (long round = 0; round < nr_rounds; round++) {
		long step = round % ROUNDS_OF_A_WORLD, seed = first_seed + round / ROUNDS_OF_A_WORLD;
		long namespace = round % NR_NAMESPACES;
		int by = namespace ? INNER : OUTER;

		if (step == 0) {
			ASSERT_EQ(0, make_world(seed));
		}
		for (int i = 0; i < MEMBERS; i++)
			if (one_in(&world->random, 2)) {
				ASSERT_EQ(0, call_member(i, touch, &world->members[i], 0));
			}
		ASSERT_EQ(0, call_member(by, try_a_name, (void *)namespace, step)) {
			TH_LOG("%s; again: debugfs_names %ld %ld", world->complaint, step + 1, seed);
		}
		if (step == ROUNDS_OF_A_WORLD - 1 || round == nr_rounds - 1) {
			end_world();
			ASSERT_STREQ("", leak());
		}
	}
	TH_LOG("%ld names, from seed %ld on", nr_rounds, first_seed);
}

int main(int argc, char **argv)
{
	if (argc > 1 && *argv[1] != '-') {
		nr_rounds = atol(argv[1]);
		if (argc > 2)
			first_seed = atol(argv[2]);
		argc = 1;
	}
	return test_harness_run(argc, argv);
}
