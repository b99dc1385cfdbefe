// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that has failed, as the hardware says: by a machine check of x86, or by firmware. In guests of
 * qemu/machine-check-test.
 */
#include "lib/firmware.h"
#include "lib/fixture.h"
#include "lib/hwpoison.h"
#include "lib/machine_check.h"
#include "lib/pool.h"
#include "lib/stuck.h"

static bool by_machine_check(uint64_t pfn)
{
	machine_check(ACTION_OPTIONAL, pfn);
	return true;
}

static bool by_firmware(uint64_t pfn)
{
	return report(MEMORY, pfn, RECOVERABLE);
}

FIXTURE_DEVICE_MEMBERS(hardware_failure);

FIXTURE_VARIANT(hardware_failure)
{
	/* Why it can't be tried here. */
	const char *(*none)(void);
	/* Lets frame @pfn fail; false if nobody has heard of it. */
	bool (*fail)(uint64_t pfn);
};

FIXTURE_VARIANT_ADD(hardware_failure, machine_check) { .none = no_machine_checks, .fail = by_machine_check };
FIXTURE_VARIANT_ADD(hardware_failure, firmware) { .none = no_firmware_reports, .fail = by_firmware };

FIXTURE_DEVICE_SETUP(hardware_failure, variant->none(), 16, true);

/* Whether the kernel counts more than @kilobytes of bad memory. */
static bool corrupted_more_than(uint64_t kilobytes)
{
	return corrupted() > (long)kilobytes;
}

static bool is_counted(uint64_t failures)
{
	return counter("machine_checks_total") == (long)failures;
}

static bool is_never_undone(uint64_t pfn)
{
	return undo_by_kernel(pfn) == EOPNOTSUPP;
}

static bool is_marked_and_taken_away(uint64_t pfn)
{
	return is_marked_bad(pfn) && is_taken_away(pfn);
}

/* The frame is marked already, and the kernel has yet to hear of the hardware: which it can only once, so this test is the first. */
TEST_F(hardware_failure, takes_the_place_of_a_drill_of_the_kernel)
{
	uint64_t pfn = pfn_of(self->memory);
	struct poisoned page;
	long before;

	if (has_pool())
		SKIP(return, "the kernel asks the driver");
	if (!can_undo())
		SKIP(return, "no hwpoison-inject, or real hardware has failed");
	before = corrupted();
	print_to_file(HWPOISON_CORRUPT_PFN, "%#lx", pfn);
	ASSERT_TRUE(await(is_marked_and_taken_away, pfn));
	ASSERT_TRUE(read_poisoned(pfn, &page));
	EXPECT_STREQ("simulated", page.kind);
	EXPECT_STREQ("memory_failure", page.source);
	EXPECT_EQ(before + 4, corrupted());
	ASSERT_TRUE(variant->fail(pfn));
	ASSERT_TRUE(await(is_bad_hardware, pfn));
	ASSERT_TRUE(read_poisoned(pfn, &page));
	EXPECT_STREQ("machine_check", page.source);
	EXPECT_EQ(EPERM, unpoison_pfn(pfn));
	EXPECT_TRUE(await(is_never_undone, pfn));
	EXPECT_EQ(before + 4, corrupted());
	EXPECT_SIGBUS(self->memory, load(self->memory));
	/* Nor when nobody has it. */
	ASSERT_EQ(0, munmap(self->memory, self->pages * PAGE));
	EXPECT_EQ(EOPNOTSUPP, undo_by_kernel(pfn));
	EXPECT_EQ(EPERM, unpoison_pfn(pfn));
	EXPECT_TRUE(is_marked_bad(pfn));
	EXPECT_EQ(before + 4, corrupted());
}

/* Nor does the kernel know that from a mark of the driver's. */
TEST_F(hardware_failure, takes_the_place_of_a_hard_offline)
{
	long before = corrupted(), total = counter("machine_checks_total");
	uint64_t pfn = pfn_of(self->memory);
	struct poisoned page;

	if (has_pool())
		SKIP(return, "the kernel asks the driver");
	ASSERT_EQ(0, hard_offline_pfn(pfn));
	EXPECT_TRUE(is_marked_bad(pfn));
	EXPECT_EQ(before + 4, corrupted());
	ASSERT_TRUE(variant->fail(pfn));
	ASSERT_TRUE(await(is_counted, total + 1));
	if (has_hwpoison_inject()) {
		EXPECT_TRUE(await(is_never_undone, pfn));
	}
	ASSERT_TRUE(read_poisoned(pfn, &page));
	EXPECT_STREQ("hardware", page.kind);
	EXPECT_EQ(before + 4, corrupted());
	EXPECT_EQ(EPERM, unpoison_pfn(pfn));
	EXPECT_SIGBUS(self->memory, load(self->memory));
	ASSERT_EQ(0, munmap(self->memory, self->pages * PAGE));
	if (has_hwpoison_inject()) {
		EXPECT_EQ(EOPNOTSUPP, undo_by_kernel(pfn));
	}
	EXPECT_TRUE(is_marked_bad(pfn));
	EXPECT_EQ(before + 4, corrupted());
}

/* Who had the page is listed when it has been taken away. */
static bool has_hit_two(uint64_t pfn)
{
	struct poisoned page;

	return is_taken_away(pfn) && read_poisoned(pfn, &page) && page.hit == 2;
}

TEST_F(hardware_failure, is_taken_away_from_all)
{
	long total = counter("machine_checks_total");
	struct poisoned page;
	struct peer *child;
	uint64_t pfn;

	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_WORD(1UL << 32, peer_load(child, self->memory));
	EXPECT_WORD(1UL << 32, load(self->memory));
	pfn = pfn_of(self->memory);
	ASSERT_TRUE(variant->fail(pfn));
	ASSERT_TRUE(await(has_hit_two, pfn));
	ASSERT_TRUE(read_poisoned(pfn, &page));
	EXPECT_STREQ("hardware", page.kind);
	EXPECT_STREQ(has_pool() ? "device_memory" : "machine_check", page.source);
	EXPECT_EQ(has_pool() ? total : total + 1, counter("machine_checks_total"));
	EXPECT_SIGBUS(self->memory + 8, load(self->memory + 8));
	EXPECT_SIGBUS(self->memory + 16, store(self->memory + 16, 1));
	EXPECT_SIGBUS(self->memory + 8, peer_load(child, self->memory + 8));
	EXPECT_TRUE(filled(self->memory, 1, self->pages - 1, 1));
	/* Device memory is not in kpageflags. */
	EXPECT_EQ(!has_pool(), has_pool() ? is_marked_bad(pfn) : await(is_marked_bad, pfn));
}

TEST_F(hardware_failure, failed_hardware_is_not_unpoisoned)
{
	uint64_t pfn = pfn_of(self->memory);

	ASSERT_TRUE(variant->fail(pfn));
	ASSERT_TRUE(await(is_taken_away, pfn));
	EXPECT_EQ(EPERM, unpoison_pfn(pfn));
	EXPECT_EQ(EHWPOISON, poison_pfn(pfn));
	EXPECT_SIGBUS(self->memory, load(self->memory));
}

TEST_F(hardware_failure, frame_is_never_used_again)
{
	long quarantined = counter("quarantined");
	uint64_t pfn = pfn_of(self->memory);

	ASSERT_TRUE(variant->fail(pfn));
	ASSERT_TRUE(await(is_poisoned, pfn));
	ASSERT_EQ(0, madvise(self->memory, PAGE, MADV_DONTNEED));
	/* Who handles the machine check has the page until that has ended. */
	EXPECT_TRUE(await(is_not_poisoned, pfn));
	EXPECT_EQ(quarantined + 1, counter("quarantined"));
	EXPECT_EQ(!has_pool(), has_pool() ? is_marked_bad(pfn) : await(is_marked_bad, pfn));
	EXPECT_EQ(EPERM, unpoison_pfn(pfn));
	EXPECT_TRUE(zeroed(self->memory, 1));
	EXPECT_NE(pfn, pfn_of(self->memory));
}

TEST_F(hardware_failure, frame_of_the_pool_that_nobody_uses)
{
	long quarantined = counter("quarantined");
	uint64_t pfn = pfn_of(self->memory);

	if (!has_pool())
		SKIP(return, "a frame that nobody uses is the kernel's");
	ASSERT_EQ(0, madvise(self->memory, PAGE, MADV_DONTNEED));
	ASSERT_TRUE(variant->fail(pfn));
	ASSERT_TRUE(await(is_quarantined, quarantined + 1));
	EXPECT_EQ(EPERM, unpoison_pfn(pfn));
	EXPECT_TRUE(zeroed(self->memory, 1));
	EXPECT_NE(pfn, pfn_of(self->memory));
}

/* What was in the pipe before stays there, and who reads it must find it mapped. */
TEST_F(hardware_failure, frame_out_of_use_that_a_pipe_still_has)
{
	long total = counter("machine_checks_total");
	uint64_t pfn = pfn_of(self->memory);
	struct iovec page = { self->memory, PAGE };
	char content[PAGE];
	int ends[2];

	if (has_pool())
		SKIP(return, "device memory stays mapped");
	ASSERT_EQ(0, pipe(ends));
	ASSERT_EQ(PAGE, vmsplice(ends[1], &page, 1, 0));
	ASSERT_EQ(0, hard_offline_pfn(pfn));
	ASSERT_EQ(0, madvise(self->memory, PAGE, MADV_DONTNEED));
	ASSERT_TRUE(variant->fail(pfn));
	ASSERT_TRUE(await(is_counted, total + 1));
	EXPECT_EQ(PAGE, read(ends[0], content, PAGE));
	close(ends[0]);
	close(ends[1]);
}

/* Nobody has it mapped, and the kernel marks it as it does a page that it does not know. */
TEST_F(hardware_failure, page_that_only_a_pipe_has)
{
	uint64_t pfn = pfn_of(self->memory), next_pfn = pfn_of(self->memory + PAGE);
	struct iovec page = { self->memory, PAGE };
	char content[PAGE];
	int ends[2];

	ASSERT_EQ(0, pipe(ends));
	ASSERT_EQ(PAGE, vmsplice(ends[1], &page, 1, 0));
	ASSERT_EQ(0, madvise(self->memory, PAGE, MADV_DONTNEED));
	ASSERT_TRUE(variant->fail(pfn));
	EXPECT_TRUE(await(is_listed_as_hardware, pfn));
	/* The kernel is done with one machine check before it comes to the next. */
	ASSERT_TRUE(variant->fail(next_pfn));
	EXPECT_TRUE(await(is_bad_hardware, next_pfn));
	/* The kernel has taken device memory from the direct map, and says so to who reads it. */
	EXPECT_EQ(has_pool() ? -1 : PAGE, read(ends[0], content, PAGE));
	close(ends[0]);
	close(ends[1]);
	/* For good. */
	EXPECT_EQ(EPERM, unpoison_pfn(pfn));
	EXPECT_TRUE(is_listed_as_hardware(pfn));
}

TEST_F(hardware_failure, frame_that_soft_offline_has_put_aside)
{
	long quarantined = counter("quarantined"), total = counter("machine_checks_total");
	long poisonings = counter("poisonings_total");
	uint64_t pfn = pfn_of(self->memory), before = corrupted();

	ASSERT_EQ(0, soft_offline_pfn(pfn));
	ASSERT_TRUE(variant->fail(pfn));
	ASSERT_TRUE(has_pool() ? await(corrupted_more_than, before) : await(is_counted, total + 1));
	/* It is bad for good, and nobody had it. */
	EXPECT_EQ(EPERM, unpoison_pfn(pfn));
	EXPECT_EQ(quarantined + 1, counter("quarantined"));
	EXPECT_EQ(poisonings, counter("poisonings_total"));
	EXPECT_TRUE(filled(self->memory, 0, self->pages, 1));
	EXPECT_NE(pfn, pfn_of(self->memory));
}

TEST_F(hardware_failure, takes_the_place_of_a_drill)
{
	uint64_t pfn = pfn_of(self->memory);

	ASSERT_EQ(0, poison_pfn(pfn));
	ASSERT_TRUE(variant->fail(pfn));
	ASSERT_TRUE(await(is_bad_hardware, pfn));
	EXPECT_EQ(EPERM, unpoison_pfn(pfn));
}

TEST_F(hardware_failure, takes_a_page_away_that_is_kept)
{
	uint64_t pfn = pfn_of(self->memory);

	ASSERT_EQ(0, print_to_file(DEBUGFS "poison_pfn", "%#lx keep", pfn));
	EXPECT_WORD(7, store(self->memory, 7));
	ASSERT_TRUE(variant->fail(pfn));
	ASSERT_TRUE(await(is_bad_hardware, pfn));
	EXPECT_TRUE(await(is_taken_away, pfn));
	EXPECT_SIGBUS(self->memory, load(self->memory));
	EXPECT_EQ(EPERM, unpoison_pfn(pfn));
	EXPECT_EQ(1, counter("poisoned"));
	EXPECT_TRUE(verified());
}

TEST_F(hardware_failure, memory_of_others_is_the_kernels)
{
	char *anonymous = map_private(false, 2);
	long total = counter("machine_checks_total"), poisonings = counter("poisonings_total");
	uint64_t before = corrupted();

	ASSERT_NE(MAP_FAILED, anonymous);
	fill(anonymous, 2, 2);
	ASSERT_TRUE(variant->fail(pfn_of(anonymous)));
	ASSERT_TRUE(await(corrupted_more_than, before));
	EXPECT_SIGBUS(anonymous + 8, load(anonymous + 8));
	EXPECT_TRUE(filled(anonymous, 1, 1, 2));
	EXPECT_EQ(total, counter("machine_checks_total"));
	EXPECT_EQ(poisonings, counter("poisonings_total"));
	EXPECT_TRUE(filled(self->memory, 0, self->pages, 1));
}

/* The pages of a stopped process are taken away from it, too. */
TEST_F(hardware_failure, process_that_is_stopped)
{
	uint64_t pfns[2] = { pfn_of(self->memory), pfn_of(self->memory + PAGE) };
	struct poisoned page;
	struct peer *child;

	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_WORD(1UL << 32, peer_load(child, self->memory));
	ASSERT_EQ(0, munmap(self->memory, PAGE));
	ASSERT_EQ(0, kill(child->pid, SIGSTOP));
	ASSERT_TRUE(variant->fail(pfns[0]));
	ASSERT_TRUE(await(is_taken_away, pfns[0]));
	ASSERT_TRUE(variant->fail(pfns[1]));
	ASSERT_TRUE(await(is_taken_away, pfns[1]));
	ASSERT_TRUE(read_poisoned(pfns[0], &page));
	EXPECT_EQ(1, page.hit);
	EXPECT_EQ(child->pid, page.pids[0]);
	EXPECT_SIGBUS(self->memory + PAGE, load(self->memory + PAGE));
	ASSERT_EQ(0, kill(child->pid, SIGCONT));
	EXPECT_SIGBUS(self->memory, peer_load(child, self->memory));
}

TEST_F(hardware_failure, process_that_is_stuck)
{
	struct stuck stuck;

	ASSERT_EQ(0, start_stuck(&stuck, self->memory, self->pages));
	ASSERT_TRUE(variant->fail(stuck.shared->pfns[0]));
	EXPECT_TRUE(await(is_taken_away, stuck.shared->pfns[0]));
	EXPECT_TRUE(sleeps_deeply(stuck.pid));
	free_stuck(&stuck);
	EXPECT_EQ(1, end_stuck(&stuck));
}

TEST_HARNESS_MAIN
