/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests and the drill share: mapping the device, the files in debugfs, accesses that may
 * raise a signal, and processes that do as they are told.
 */
#ifndef ANON_RMAP_H
#define ANON_RMAP_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "patience.h"

#define DEVICE "/dev/anon_rmap"
/* The name of the file behind each mapping of the device, in /proc/PID/maps. */
#define MAPPING "anon_inode:[anon_rmap]"
#define DEBUGFS "/sys/kernel/debug/anon_rmap/"
#define PAGE_SHIFT 12
#define PAGE (1UL << PAGE_SHIFT)

/* Newer than the C library. */
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif
#ifndef MADV_HWPOISON
#define MADV_HWPOISON 100
#endif
#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif

/* Maps @pages pages of the device; @flags as for mmap(). */
static inline char *map_device(size_t pages, int flags)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	void *memory;

	if (fd < 0)
		return MAP_FAILED;
	memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, flags, fd, 0);
	close(fd);
	return memory;
}

/* The entry of an open /proc/PID/pagemap for the page at @address; 0 if there is none. */
static inline uint64_t pagemap_entry(int fd, const void *address)
{
	uint64_t entry;

	if (pread(fd, &entry, sizeof(entry), ((uintptr_t)address >> PAGE_SHIFT) * sizeof(entry)) != sizeof(entry))
		return 0;
	return entry;
}

#define PAGEMAP_PRESENT (1UL << 63)
#define PAGEMAP_GUARD (1UL << 58)
#define PAGEMAP_SOFT_DIRTY (1UL << 55)
#define PAGEMAP_FRAME ((1UL << 55) - 1)

/* The frame in an entry, 0 if there is none. */
static inline uint64_t frame_in(uint64_t entry)
{
	return entry & PAGEMAP_PRESENT ? entry & PAGEMAP_FRAME : 0;
}

static inline uint64_t own_pagemap_entry(const void *address)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = pagemap_entry(fd, address);

	close(fd);
	return entry;
}

/* The frame that is mapped at @address, 0 if there is none. */
static inline uint64_t pfn_of(const void *address)
{
	return frame_in(own_pagemap_entry(address));
}

/* The frame of zeroes that is mapped where private memory was read and never written. */
static inline uint64_t pfn_of_zeroes(void)
{
	volatile char *memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t pfn;

	(void)*memory;
	pfn = pfn_of((const void *)memory);
	munmap((void *)memory, PAGE);
	return pfn;
}

/* The content of a file of any size, to be freed; NULL with errno. */
static inline char *read_file(const char *path)
{
	size_t size = 0, room = 1 << 16;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *text = fd < 0 ? NULL : malloc(room + 1);
	ssize_t got = 0;

	while (text && (got = read(fd, text + size, room - size)) > 0) {
		size += got;
		if (size == room)
			text = realloc(text, (room *= 2) + 1);
	}
	if (fd >= 0)
		close(fd);
	if (!text || got < 0) {
		free(text);
		return NULL;
	}
	text[size] = '\0';
	return text;
}

/* Writes to a file in one go; returns 0 or the errno. */
static inline int write_file(const char *path, const void *text, size_t size)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int error = 0;

	if (fd < 0)
		return errno;
	if (write(fd, text, size) != (ssize_t)size)
		error = errno;
	close(fd);
	return error;
}

__attribute__((format(printf, 2, 3))) static inline int print_to_file(const char *path, const char *format, ...)
{
	char text[256];
	va_list arguments;
	int size;

	va_start(arguments, format);
	size = vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	return write_file(path, text, size);
}

static inline int poison_addr(pid_t pid, const void *address)
{
	return print_to_file(DEBUGFS "poison_addr", "%d %p", pid, address);
}

static inline int poison_pfn(uint64_t pfn)
{
	return print_to_file(DEBUGFS "poison_pfn", "%#lx", pfn);
}

static inline int unpoison_pfn(uint64_t pfn)
{
	return print_to_file(DEBUGFS "unpoison_pfn", "%#lx", pfn);
}

/* The value of @name in a text like `stats`; -1 if it is not there. */
static inline long counter_in(const char *stats, const char *name)
{
	size_t size = strlen(name);

	while (stats && (strncmp(stats, name, size) || stats[size] != ' ')) {
		stats = strchr(stats, '\n');
		stats = stats && stats[1] ? stats + 1 : NULL;
	}
	return stats ? strtol(stats + size, NULL, 10) : -1;
}

/* The value of @name in `stats`. */
static inline long counter(const char *name)
{
	char *stats = read_file(DEBUGFS "stats");
	long value = counter_in(stats, name);

	free(stats);
	return value;
}

/* The name of a counter that is not zero although nothing is mapped, "" if there is none. */
static inline const char *left_over(void)
{
	static const char *const gauges[] = { "vmas", "amaps", "anons", "anon_vmas", "avcs", "poisoned" };
	char *stats = read_file(DEBUGFS "stats");
	const char *left = "";

	for (size_t i = 0; i < sizeof(gauges) / sizeof(*gauges); i++)
		if (counter_in(stats, gauges[i]))
			left = gauges[i];
	free(stats);
	return left;
}

/* As left_over(), but gives processes that are dying some time to. */
static inline const char *leak(void)
{
	struct patience patience = patience_for(5);

	while (*left_over() && !ran_out(&patience))
		usleep(1000);
	return left_over();
}

/* A line of `mappings`. */
struct mapping {
	pid_t pid;
	uintptr_t start, end;
	unsigned long first, last, present, poisoned, avcs;
	char comm[16];
};

/* The lines of `mappings` about @pid, in an array to be freed; -1 if a line is not as documented. */
static inline ssize_t read_mappings(pid_t pid, struct mapping **mappings)
{
	char *text = read_file(DEBUGFS "mappings"), *rest = text, *line;
	ssize_t count = 0;

	*mappings = NULL;
	while (count >= 0 && (line = strsep(&rest, "\n")) && *line) {
		struct mapping m;

		if (sscanf(line, "pid=%d range=%lx-%lx index=%lu-%lu present=%lu poisoned=%lu avcs=%lu comm=%15[^\n]",
			   &m.pid, &m.start, &m.end, &m.first, &m.last, &m.present, &m.poisoned, &m.avcs,
			   m.comm) != 9)
			count = -1;
		else if (m.pid == pid) {
			*mappings = realloc(*mappings, (count + 1) * sizeof(m));
			(*mappings)[count++] = m;
		}
	}
	free(text);
	return text ? count : -1;
}

/* A line of `poisoned`. */
struct poisoned {
	uint64_t pfn;
	unsigned long index;
	char kind[32], source[32];
	double since;
	int hit;
	int nr_pids;
	pid_t pids[64];
};

/* The line of `poisoned` about @pfn; false if there is none. */
static inline bool read_poisoned(uint64_t pfn, struct poisoned *page)
{
	char *text = read_file(DEBUGFS "poisoned"), *rest = text, *line;
	bool found = false;
	int pids;

	while (!found && (line = strsep(&rest, "\n"))) {
		found = sscanf(line, "pfn=%lx index=%lu kind=%31s source=%31s since=%lf hit=%d pids=%n", &page->pfn,
			       &page->index, page->kind, page->source, &page->since, &page->hit, &pids) == 6 &&
			page->pfn == pfn;
	}
	if (found) {
		char *list = line + pids, *pid;

		page->nr_pids = 0;
		while ((pid = strsep(&list, ",")) && *pid && page->nr_pids < 64)
			page->pids[page->nr_pids++] = atoi(pid);
	}
	free(text);
	return found;
}

/* What came of an access: a value, or a signal. */
struct access {
	uint64_t value;
	int signal;
	int code;
	void *address;
	int lsb;
};

static __thread sigjmp_buf *access_return;
static __thread struct access *access_now;

static void access_failed(int signal, siginfo_t *info, void *context)
{
	(void)context;
	if (!access_return)
		abort();
	access_now->signal = signal;
	access_now->code = info->si_code;
	access_now->address = info->si_addr;
	access_now->lsb = info->si_addr_lsb;
	siglongjmp(*access_return, 1);
}

__attribute__((constructor)) static void catch_failed_accesses(void)
{
	/* Not masked in the handler, so that leaving it by siglongjmp() needs no system call. */
	struct sigaction action = { .sa_sigaction = access_failed, .sa_flags = SA_SIGINFO | SA_NODEFER };

	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGSEGV, &action, NULL);
}

#define ATTEMPT(access, statement) do {			\
	sigjmp_buf here;				\
							\
	access_now = &(access);				\
	access_return = &here;				\
	if (!sigsetjmp(here, 0))			\
		statement;				\
	access_return = NULL;				\
} while (0)

/* Reads the word at @address. */
static inline struct access load(const void *address)
{
	struct access access = {};

	ATTEMPT(access, access.value = *(const volatile uint64_t *)address);
	return access;
}

/* Writes the word at @address. */
static inline struct access store(void *address, uint64_t value)
{
	struct access access = { .value = value };

	ATTEMPT(access, *(volatile uint64_t *)address = value);
	return access;
}

/* The first word of page @page of memory that was filled with @seed. */
static inline uint64_t word(uint64_t seed, size_t page)
{
	return seed << 32 | page * PAGE / sizeof(uint64_t);
}

/* Fills @pages pages with words that differ, and that tell @seed. */
static inline void fill(void *memory, size_t pages, uint64_t seed)
{
	uint64_t *words = memory;

	for (size_t i = 0; i < pages * PAGE / sizeof(*words); i++)
		words[i] = seed << 32 | i;
}

/* Whether @pages pages, from page @first on, are as fill() has left them. */
static inline bool filled(const void *memory, size_t first, size_t pages, uint64_t seed)
{
	const volatile uint64_t *words = memory;

	for (size_t i = first * PAGE / sizeof(*words); i < (first + pages) * PAGE / sizeof(*words); i++)
		if (words[i] != (seed << 32 | i))
			return false;
	return true;
}

/* Whether @pages pages contain nothing but zeroes. */
static inline bool zeroed(const void *memory, size_t pages)
{
	const volatile uint64_t *words = memory;

	for (size_t i = 0; i < pages * PAGE / sizeof(*words); i++)
		if (words[i])
			return false;
	return true;
}

/*
 * A process that was forked and now calls what it is told to, and tells what came of it. It dies with
 * the one that it was forked from.
 */
struct peer {
	pid_t pid;
	sem_t request, reply;
	long (*function)(void *argument, long value);
	void *argument;
	long value;
	struct access access;
};

#define MAX_PEERS 256

/* Shared by all processes, so that a process can direct those that its peers have forked. */
static struct peer *peers;

__attribute__((constructor)) static void map_peers(void)
{
	/* All of it now, and not when memory is made to fail. */
	peers = mmap(NULL, MAX_PEERS * sizeof(*peers), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
}

/* Lets this process, which was just forked, die with @parent. */
static inline void die_with(pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
}

__attribute__((noreturn)) static inline void serve(struct peer *peer, pid_t parent)
{
	die_with(parent);
	for (;;) {
		while (sem_wait(&peer->request))
			;
		peer->value = peer->function(peer->argument, peer->value);
		sem_post(&peer->reply);
	}
}

static inline long start_peer(void *argument, long unused)
{
	struct peer *peer = argument;
	pid_t parent = getpid(), pid = fork();

	(void)unused;
	if (!pid)
		serve(peer, parent);
	peer->pid = pid;
	return pid > 0 ? 0 : errno;
}

static inline struct peer *new_peer(void)
{
	static int used;
	struct peer *peer = &peers[used++];

	if (used > MAX_PEERS)
		abort();
	sem_init(&peer->request, 1, 0);
	sem_init(&peer->reply, 1, 0);
	return peer;
}

/* Forks this process; NULL with errno. */
static inline struct peer *fork_peer(void)
{
	struct peer *peer = new_peer();

	return start_peer(peer, 0) ? NULL : peer;
}

/* Lets the peer call function(argument, value), and does not wait for that. */
static inline void begin_peer_call(struct peer *peer, long (*function)(void *, long), void *argument, long value)
{
	peer->function = function;
	peer->argument = argument;
	peer->value = value;
	sem_post(&peer->request);
}

/* Whether a child of this process has died. */
static inline bool is_dead(pid_t pid)
{
	siginfo_t info = { 0 };

	return !waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT) && info.si_pid;
}

/* What that has returned; ESRCH if the peer, which this process has forked, died instead. */
static inline long end_peer_call(struct peer *peer)
{
	for (bool died = false;;) {
		struct timespec second;

		clock_gettime(CLOCK_REALTIME, &second);
		second.tv_sec++;
		if (!sem_timedwait(&peer->reply, &second))
			return peer->value;
		if (died)
			return ESRCH;
		died = is_dead(peer->pid);
	}
}

/* What function(argument, value) returns in the peer; as end_peer_call(). */
static inline long peer_call(struct peer *peer, long (*function)(void *, long), void *argument, long value)
{
	begin_peer_call(peer, function, argument, value);
	return end_peer_call(peer);
}

/* Lets the peer fork; NULL with errno. */
static inline struct peer *peer_fork(struct peer *peer)
{
	struct peer *child = new_peer();

	errno = peer_call(peer, start_peer, child, 0);
	return errno ? NULL : child;
}

static inline long load_in_peer(void *address, long access)
{
	*(struct access *)access = load(address);
	return 0;
}

static inline long store_in_peer(void *address, long access)
{
	*(struct access *)access = store(address, ((struct access *)access)->value);
	return 0;
}

static inline struct access peer_load(struct peer *peer, const void *address)
{
	peer_call(peer, load_in_peer, (void *)address, (long)&peer->access);
	return peer->access;
}

static inline struct access peer_store(struct peer *peer, void *address, uint64_t value)
{
	peer->access.value = value;
	peer_call(peer, store_in_peer, address, (long)&peer->access);
	return peer->access;
}

static inline long munmap_here(void *memory, long pages)
{
	return munmap(memory, pages * PAGE) ? errno : 0;
}

/* Unmaps pages in the peer; returns 0 or the errno. */
static inline int peer_munmap(struct peer *peer, void *memory, size_t pages)
{
	return peer_call(peer, munmap_here, memory, pages);
}

/* Ends a peer that this process has forked, and waits for it. */
static inline void end_peer(struct peer *peer)
{
	kill(peer->pid, SIGKILL);
	waitpid(peer->pid, NULL, 0);
}

#endif
