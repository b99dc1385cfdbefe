// SPDX-License-Identifier: GPL-2.0-only
/*
 * For LD_PRELOAD: serves the private anonymous mappings of a program from /dev/anon_rmap. An allocator
 * that is preloaded too, and calls mmap() by its name, makes malloc() a part of it; glibc's own does not.
 *
 * The device is not kept open, since programs close descriptors that they don't know, and all system calls
 * are made directly, since this is called before other libraries are initialised. What the device can't
 * serve (see is_served()) is as without this library. anon_rmap-run sets the environment:
 *
 *   ANON_RMAP_SHARED=1         serves MAP_SHARED|MAP_ANONYMOUS too
 *   ANON_RMAP_REPORT=FILE      appends to FILE, when a process exits, what it was served
 *   ANON_RMAP_STDERR=DEV:INODE if there is no FILE, reports on standard error instead if it is this
 *   ANON_RMAP_REQUIRE=PID      if this process, and those that it has forked, were served nothing, it fails
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DEVICE "/dev/anon_rmap"
/* The name of the file behind each mapping of the device, in /proc/PID/maps. */
#define MAPPING "anon_inode:[anon_rmap]"
/* Above what programs expect to get, or have room for in an fd_set of their own. */
#define KEPT_STDERR 200
#define STATUS_FAILED 125

static atomic_ulong served, served_bytes, refused;
/* In a page that is shared with forked processes, from when there is one. */
static atomic_bool *any_served;
static int kept_stderr = -1;

static void *kernel_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
	return (void *)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
}

/*
 * Not served: memory that grows by itself (MAP_GROWSDOWN) and huge pages, which the device has not; and
 * stacks (MAP_STACK), where no signal handler could run once they have failed.
 */
static bool is_served(int flags)
{
	static int shared = -1;

	if (!(flags & MAP_ANONYMOUS) || flags & (MAP_GROWSDOWN | MAP_HUGETLB | MAP_STACK))
		return false;
	if ((flags & MAP_TYPE) == MAP_PRIVATE)
		return true;
	/* The environment may not be there yet. */
	if (shared < 0 && environ)
		shared = getenv("ANON_RMAP_SHARED") != NULL;
	return (flags & MAP_TYPE) == MAP_SHARED && shared > 0;
}

static void *device_mmap(void *address, size_t length, int protection, int flags)
{
	int fd = syscall(SYS_openat, AT_FDCWD, DEVICE, O_RDWR | O_CLOEXEC);
	void *memory;

	if (fd < 0)
		return MAP_FAILED;
	memory = kernel_mmap(address, length, protection, flags & ~MAP_ANONYMOUS, fd, 0);
	syscall(SYS_close, fd);
	return memory;
}

void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
	bool serve = is_served(flags);
	int saved_errno = errno;
	void *memory;

	if (serve) {
		memory = device_mmap(address, length, protection, flags);
		if (memory != MAP_FAILED) {
			atomic_fetch_add(&served, 1);
			atomic_fetch_add(&served_bytes, length);
			if (any_served)
				*any_served = true;
			return memory;
		}
		errno = saved_errno;
	}
	memory = kernel_mmap(address, length, protection, flags, fd, offset);
	if (serve && memory != MAP_FAILED)
		atomic_fetch_add(&refused, 1);
	return memory;
}

__attribute__((alias("mmap"))) void *mmap64(void *address, size_t length, int protection, int flags, int fd,
					    off_t offset);

/*
 * The device has nothing that could be synchronised, for which the kernel has no other answer than an
 * error; for anonymous memory it is no error.
 */
int msync(void *address, size_t length, int flags)
{
	int result = syscall(SYS_msync, address, length, flags);

	if (result && errno == EINVAL && flags & MS_SYNC)
		result = syscall(SYS_msync, address, length, flags ^ MS_SYNC ^ MS_ASYNC);
	return result;
}

/* What of the device is mapped now: a line for each mapping, and the sum. */
static void report_mappings(FILE *report)
{
	FILE *smaps = fopen("/proc/self/smaps", "re");
	unsigned long start, end, mapped = 0, touched = 0, kib;
	bool ours = false;
	char line[512];

	while (smaps && fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2) {
			ours = strstr(line, MAPPING);
			if (ours)
				mapped += end - start;
		} else if (ours && sscanf(line, "Rss: %lu", &kib) == 1) {
			touched += kib * 1024;
			fprintf(report, "  %lx-%lx %lu bytes, %lu in page tables\n", start, end, end - start,
				kib * 1024);
		}
	}
	fprintf(report, "  mapped now: %lu bytes, %lu in page tables\n", mapped, touched);
	if (smaps)
		fclose(smaps);
}

/* Whether @fd is the standard error that anon_rmap-run had. */
static bool is_stderr(int fd)
{
	const char *wanted = getenv("ANON_RMAP_STDERR");
	char is[64];
	struct stat stat;

	if (!wanted || fstat(fd, &stat))
		return false;
	snprintf(is, sizeof(is), "%lu:%lu", stat.st_dev, stat.st_ino);
	return !strcmp(is, wanted);
}

/* A daemon does not keep a pipe open that it does not know. */
static void forget_stderr(void)
{
	if (is_stderr(kept_stderr))
		close(kept_stderr);
	kept_stderr = -1;
}

static bool is_required(void)
{
	const char *pid = getenv("ANON_RMAP_REQUIRE");

	return pid && atoi(pid) == getpid();
}

/* Many programs close their standard error before they exit. */
__attribute__((constructor)) static void start(void)
{
	if (is_stderr(STDERR_FILENO)) {
		kept_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, KEPT_STDERR);
		pthread_atfork(NULL, NULL, forget_stderr);
	}
	if (is_required()) {
		atomic_bool *page = kernel_mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE,
						MAP_SHARED | MAP_ANONYMOUS, -1, 0);

		if (page != MAP_FAILED) {
			*page = served;
			any_served = page;
		}
	}
}

static FILE *open_report(void)
{
	const char *path = getenv("ANON_RMAP_REPORT");

	if (path)
		return fopen(path, "ae");
	if (is_stderr(kept_stderr))
		return fdopen(kept_stderr, "w");
	return is_stderr(STDERR_FILENO) ? fdopen(dup(STDERR_FILENO), "w") : NULL;
}

__attribute__((destructor)) static void report(void)
{
	bool failed = any_served && is_required() && !*any_served;
	int complaint = is_stderr(kept_stderr) ? kept_stderr : STDERR_FILENO;
	FILE *report;

	if (failed)
		dprintf(complaint, "anon_rmap-run: %s was served nothing\n", program_invocation_short_name);
	report = open_report();
	if (report) {
		fprintf(report, "anon_rmap: %s[%d]: served %lu mappings, %lu bytes; could not serve %lu\n",
			program_invocation_short_name, getpid(), served, served_bytes, refused);
		report_mappings(report);
		fclose(report);
	}
	if (failed) {
		fflush(NULL);
		_exit(STATUS_FAILED);
	}
}
