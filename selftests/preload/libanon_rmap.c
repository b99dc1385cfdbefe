// SPDX-License-Identifier: GPL-2.0-only
/*
 * For LD_PRELOAD: serves the private anonymous mappings of a program from /dev/anon_rmap. An allocator
 * that is preloaded too, and calls mmap() by its name, makes malloc() a part of it; glibc's own does not.
 *
 * Nothing is kept open, since programs close descriptors that they don't know, and all system calls are
 * made directly, since this is called before other libraries are initialised. What the device can't
 * serve (see is_served()) is as without this library. anon_rmap-run sets the environment:
 *
 *   ANON_RMAP_SHARED=1     serves MAP_SHARED|MAP_ANONYMOUS too
 *   ANON_RMAP_REPORT=FILE  appends to FILE, when a process exits, what it was served
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DEVICE "/dev/anon_rmap"
/* The name of the file behind each mapping of the device, in /proc/PID/maps. */
#define MAPPING "anon_inode:[anon_rmap]"

static atomic_ulong served, served_bytes, refused;

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

__attribute__((destructor)) static void report(void)
{
	const char *path = getenv("ANON_RMAP_REPORT");
	FILE *report = path ? fopen(path, "ae") : NULL;

	if (!report)
		return;
	fprintf(report, "anon_rmap: %s[%d]: served %lu mappings, %lu bytes; could not serve %lu\n",
		program_invocation_short_name, getpid(), served, served_bytes, refused);
	report_mappings(report);
	fclose(report);
}
