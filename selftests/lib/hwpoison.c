// SPDX-License-Identifier: GPL-2.0-only
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "access.h"
#include "device.h"
#include "file.h"
#include "hwpoison.h"
#include "pagemap.h"
#include "tracefs.h"

#define EVENT TRACEFS "events/memory_failure/memory_failure_event/enable"
#define OLD_EVENT TRACEFS "events/ras/memory_failure_event/enable"
#define NODE "/sys/devices/system/node/node0/memory_failure/"

bool has_hwpoison_inject(void)
{
	return !access(HWPOISON_UNPOISON_PFN, F_OK) || (!system("modprobe hwpoison-inject") && !access(HWPOISON_UNPOISON_PFN, F_OK));
}

int undo_by_kernel(uint64_t pfn)
{
	return print_to_file(HWPOISON_UNPOISON_PFN, "%#lx", pfn);
}

bool can_undo(void)
{
	char *memory = map_private(false, 1);
	bool undone = false;
	uint64_t pfn;

	if (memory == MAP_FAILED)
		return false;
	store(memory, 1);
	pfn = pfn_of(memory);
	if (has_hwpoison_inject() && !madvise(memory, PAGE, MADV_SOFT_OFFLINE))
		undone = !undo_by_kernel(pfn);
	munmap(memory, PAGE);
	return undone;
}

long corrupted(void)
{
	return number_in("/proc/meminfo", "HardwareCorrupted:");
}

uint64_t page_flags(uint64_t pfn)
{
	int fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	uint64_t flags = 0;

	if (pread(fd, &flags, sizeof(flags), pfn * sizeof(flags)) != sizeof(flags))
		flags = 0;
	close(fd);
	return flags;
}

bool is_marked_bad(uint64_t pfn)
{
	const uint64_t hwpoison = 1 << 19;

	return page_flags(pfn) & hwpoison;
}

struct counts counts(void)
{
	return (struct counts){
		.corrupted = corrupted(),
		.total = number_in(NODE "total", ""),
		.recovered = number_in(NODE "recovered", ""),
		.failed = number_in(NODE "failed", ""),
		.ignored = number_in(NODE "ignored", ""),
	};
}

bool begin_trace(void)
{
	return has_tracefs() && (!write_text(EVENT, "1") || !write_text(OLD_EVENT, "1"));
}

int traced(uint64_t pfn, const char *result)
{
	char *trace = read_file(TRACEFS "trace"), *rest = trace, *line, key[64];
	int events = 0;

	snprintf(key, sizeof(key), "pfn %#lx:", pfn);
	while ((line = strsep(&rest, "\n")))
		events += strstr(line, "memory_failure_event:") && strstr(line, key) && strstr(line, result);
	free(trace);
	return events;
}
