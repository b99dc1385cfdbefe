/* SPDX-License-Identifier: GPL-2.0-only */
/* What the kernel counts of failures, and what its trace tells of them. */
#ifndef FAILURE_COUNTS_H
#define FAILURE_COUNTS_H

#include <sys/mount.h>
#include "proc.h"

#define TRACEFS "/sys/kernel/tracing/"
#define EVENT TRACEFS "events/memory_failure/memory_failure_event/enable"
#define OLD_EVENT TRACEFS "events/ras/memory_failure_event/enable"
#define NODE "/sys/devices/system/node/node0/memory_failure/"

/* What the kernel has counted of failures. */
struct counts {
	/* Kilobytes. */
	long corrupted;
	long total;
	long recovered;
	long failed;
	long ignored;
};

static inline long read_number(const char *path)
{
	char *text = read_file(path);
	long number = text ? strtol(text, NULL, 10) : -1;

	free(text);
	return number;
}

static inline struct counts counts(void)
{
	return (struct counts){
		.corrupted = corrupted(),
		.total = read_number(NODE "total"),
		.recovered = read_number(NODE "recovered"),
		.failed = read_number(NODE "failed"),
		.ignored = read_number(NODE "ignored"),
	};
}

#define EXPECT_COUNTED(before, frames, recoveries) do {				\
	struct counts now = counts();							\
											\
	EXPECT_EQ((before).corrupted + 4 * (frames), now.corrupted);			\
	EXPECT_EQ((before).total + (recoveries), now.total);				\
	EXPECT_EQ((before).recovered + (recoveries), now.recovered);			\
	EXPECT_EQ((before).failed, now.failed);						\
	EXPECT_EQ((before).ignored, now.ignored);					\
} while (0)

/* Has the trace tell of failures; false if it can't. */
static inline bool begin_trace(void)
{
	if (access(TRACEFS "trace", R_OK) && mount("tracefs", TRACEFS, "tracefs", 0, NULL))
		return false;
	return !print_to_file(EVENT, "1") || !print_to_file(OLD_EVENT, "1");
}

/* How many failures of frame @pfn are in the trace, and of these, those with @result. */
static inline int traced(uint64_t pfn, const char *result)
{
	char *trace = read_file(TRACEFS "trace"), *rest = trace, *line, key[64];
	int events = 0;

	snprintf(key, sizeof(key), "pfn %#lx:", pfn);
	while ((line = strsep(&rest, "\n")))
		events += strstr(line, "memory_failure_event:") && strstr(line, key) && strstr(line, result);
	free(trace);
	return events;
}

#endif
