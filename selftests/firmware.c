// SPDX-License-Identifier: GPL-2.0-only
/* What only the reports of firmware have, see hardware_failure.c: other severities, caches. In a guest of qemu/machine-check-test. */
#include "lib/firmware.h"
#include "lib/fixture.h"
#include "lib/hwpoison.h"

FIXTURE_ON_DEVICE_UNLESS(firmware, no_firmware_reports(), 16, true);

TEST_F(firmware, what_was_corrected_has_lost_nothing)
{
	long total = counter("machine_checks_total");

	ASSERT_TRUE(report(MEMORY, pfn_of(self->memory), CORRECTED));
	sleep(1);
	EXPECT_EQ(total, counter("machine_checks_total"));
	EXPECT_TRUE(filled(self->memory, 0, self->pages, 1));
}

/* One of several errors, of which another was not. What fails there later is a drill. */
TEST_F(firmware, what_was_corrected_among_others_has_lost_nothing)
{
	long total = counter("machine_checks_total");
	uint64_t pfn = pfn_of(self->memory);
	struct poisoned page;

	ASSERT_TRUE(report_in_block(MEMORY, pfn, CORRECTED, RECOVERABLE));
	sleep(1);
	EXPECT_EQ(total, counter("machine_checks_total"));
	EXPECT_TRUE(filled(self->memory, 0, self->pages, 1));
	ASSERT_EQ(EBUSY, print_to_file(HARD_OFFLINE_PAGE, "%#lx", pfn << PAGE_SHIFT));
	ASSERT_TRUE(await(is_taken_away, pfn));
	ASSERT_TRUE(read_poisoned(pfn, &page));
	EXPECT_STREQ("simulated", page.kind);
	EXPECT_EQ(total, counter("machine_checks_total"));
}

/* The kernel does not say then that it was the firmware, see rust/limits.md. */
TEST_F(firmware, what_a_cache_has_lost_looks_like_a_drill)
{
	uint64_t pfn = pfn_of(self->memory);
	struct poisoned page;

	ASSERT_TRUE(report(CACHE, pfn, RECOVERABLE));
	ASSERT_TRUE(await(is_taken_away, pfn));
	ASSERT_TRUE(read_poisoned(pfn, &page));
	EXPECT_STREQ("simulated", page.kind);
	EXPECT_EQ(EPERM, unpoison_pfn(pfn));
	EXPECT_SIGBUS(self->memory, load(self->memory));
}

TEST_HARNESS_MAIN
