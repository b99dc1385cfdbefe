/* SPDX-License-Identifier: GPL-2.0-only */
/* What /proc says of memory and of frames. */
#ifndef PROC_H
#define PROC_H

#include "anon_rmap.h"

/* The number behind @name in a file; -1 if there is none. */
static inline long number_in(const char *path, const char *name)
{
	char *text = read_file(path), *found = text ? strstr(text, name) : NULL;
	long number = found ? strtol(found + strlen(name), NULL, 10) : -1;

	free(text);
	return number;
}

/* The state of the first thread of process @pid, by its letter in /proc/PID/stat; 0 if there is none. */
static inline char state_of(uint64_t pid)
{
	char path[32], *text, *end_of_name, state;

	snprintf(path, sizeof(path), "/proc/%lu/stat", pid);
	text = read_file(path);
	end_of_name = text ? strrchr(text, ')') : NULL;
	state = end_of_name && end_of_name[1] ? end_of_name[2] : 0;
	free(text);
	return state;
}

/* How much memory the kernel knows to be bad, in kilobytes. */
static inline long corrupted(void)
{
	return number_in("/proc/meminfo", "HardwareCorrupted:");
}

/* Whether the kernel has marked frame @pfn as bad. Device memory is not in there. */
static inline bool is_marked_bad(uint64_t pfn)
{
	const uint64_t hwpoison = 1 << 19;
	int fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	uint64_t flags = 0;

	if (pread(fd, &flags, sizeof(flags), pfn * sizeof(flags)) != sizeof(flags))
		flags = 0;
	close(fd);
	return flags & hwpoison;
}

/* Calls @see for each line of `smaps` about a VMA that has some of the memory. */
static inline void read_smaps(const char *memory, size_t pages, void (*see)(const char *line, void *argument),
			      void *argument)
{
	uintptr_t first = (uintptr_t)memory, last = first + pages * PAGE - 1;
	char *text = read_file("/proc/self/smaps"), *rest = text, *line;
	bool is_there = false;

	while ((line = strsep(&rest, "\n"))) {
		uintptr_t start, end;

		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			is_there = start <= last && end > first;
		else if (is_there)
			see(line, argument);
	}
	free(text);
}

#endif
