/* SPDX-License-Identifier: GPL-2.0-only */
/* What the kernel itself knows of failed frames and does to them: its marks, counts and traces, and what lets a frame fail. */
#ifndef HWPOISON_H
#define HWPOISON_H

#include <stdbool.h>
#include <stdint.h>

/* Takes an address. */
#define HARD_OFFLINE_PAGE "/sys/devices/system/memory/hard_offline_page"
/* These two take a frame number. */
#define HWPOISON_CORRUPT_PFN "/sys/kernel/debug/hwpoison/corrupt-pfn"
#define HWPOISON_UNPOISON_PFN "/sys/kernel/debug/hwpoison/unpoison-pfn"
/* Whether only some frames can be made to fail, and the number of the memory cgroup of which they have to be. */
#define HWPOISON_FILTER "/sys/kernel/debug/hwpoison/corrupt-filter-enable"
#define HWPOISON_FILTER_MEMCG "/sys/kernel/debug/hwpoison/corrupt-filter-memcg"

/* Whether the first two are there; loads the module, if need be. */
bool has_hwpoison_inject(void);

/* Has the kernel undo the failure of frame @pfn. Returns 0 or the errno. */
int undo_by_kernel(uint64_t pfn);

/* Whether it undoes drills, tried on a frame that nobody uses: nothing once the hardware has failed. */
bool can_undo(void);

/* How much memory the kernel knows to be bad, in kilobytes. */
long corrupted(void);

/* What /proc/kpageflags has of frame @pfn: nothing if a driver has it. */
uint64_t page_flags(uint64_t pfn);

/* Whether the kernel has marked frame @pfn as bad. Device memory is not in there. */
bool is_marked_bad(uint64_t pfn);

/* What the kernel has counted of failures. */
struct counts {
	/* Kilobytes. */
	long corrupted;
	long total;
	long recovered;
	long failed;
	long ignored;
};

/* What it has counted by now. */
struct counts counts(void);

/* Since @before, that many frames have failed, and that many failures were recovered from: no others are counted. */
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
bool begin_trace(void);

/* How many failures of frame @pfn are in the trace, and of these, those with @result. */
int traced(uint64_t pfn, const char *result);

#endif
