// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that has failed as firmware reports it: by ACPI's generic hardware error source (GHES), into which the test
 * writes what firmware would. The kernel looks there ten times a second. See qemu/run --ghes.
 */
#include <stdatomic.h>
#include "lib/fixture.h"
#include "lib/hwpoison.h"

#define TABLE "/sys/firmware/acpi/tables/HEST"
/* The first source behind the header of the table, its type, and where it has the address of its errors. */
#define SOURCE 40
#define GENERIC 9
#define ADDRESS_OF_ERRORS (SOURCE + 20 + 4)
#define NOTIFICATION (SOURCE + 32)

/* As in the UEFI specification, appendix N. */
#define RECOVERABLE 0
#define CORRECTED 2

/* Who says that it has failed: the memory, or a processor of its cache. */
enum part { MEMORY, CACHE };

static const uint32_t sections[][4] = {
	[MEMORY] = { 0xa5bc1114, 0x4ede6f64, 0x833e63b8, 0xb1837ced },
	[CACHE] = { 0xe19e3d16, 0x11e4bc11, 0x05c2aa9c, 0xb0465d1d },
};

/* What the source has first is the address of a block. All in words, as the kernel maps it as a device's memory. */
struct errors {
	uint64_t block_address;
	uint64_t unused[63];
	uint32_t status, raw_offset, raw_length, length, severity;
	/* Of the one section. */
	uint32_t type[4], section_severity, revision_and_flags, section_length, unit[9], section[20];
};

FIXTURE(firmware)
{
	char *memory;
	size_t pages;
	volatile struct errors *errors;
};

/* Where the errors of the first source are; 0 if it is none that the kernel polls. */
static uint64_t address_of_errors(void)
{
	unsigned char table[SOURCE + 64];
	int fd = open(TABLE, O_RDONLY);
	uint64_t address = 0;

	if (fd >= 0 && read(fd, table, sizeof(table)) == sizeof(table) && table[SOURCE] == GENERIC && !table[NOTIFICATION])
		memcpy(&address, table + ADDRESS_OF_ERRORS, sizeof(address));
	close(fd);
	return address;
}

FIXTURE_SETUP(firmware)
{
	uint64_t address = address_of_errors();
	/* Mapped as the kernel maps it. */
#ifdef __x86_64__
	int fd = open("/dev/mem", O_RDWR);
#else
	int fd = open("/dev/mem", O_RDWR | O_SYNC);
#endif

	if (!address)
		SKIP(return, "the firmware has no source of errors that is polled (qemu/run --ghes)");
	self->errors = mmap(NULL, sizeof(*self->errors), PROT_READ | PROT_WRITE, MAP_SHARED, fd, address);
	ASSERT_NE(MAP_FAILED, (void *)self->errors);
	self->errors->block_address = address + offsetof(struct errors, status);
	self->pages = 16;
	self->memory = map_device(self->pages, MAP_PRIVATE);
	ASSERT_NE(MAP_FAILED, self->memory);
	fill(self->memory, self->pages, 1);
}

FIXTURE_LEAVES_NOTHING(firmware);

static volatile struct errors *reported;

/* Whether the kernel has read what was reported. */
static bool is_read(uint64_t unused)
{
	(void)unused;
	return !reported->status;
}

/* Reports an error in frame @pfn, in a block of that severity; whether the kernel has read that. */
static bool report_in_block(volatile struct errors *errors, enum part part, uint64_t pfn, uint32_t severity, uint32_t block_severity)
{
	uint32_t address[] = { pfn << PAGE_SHIFT, pfn >> (32 - PAGE_SHIFT) }, section[20] = { 0 };

	if (part == MEMORY) {
		/* There is a physical address. */
		section[0] = 2;
		memcpy(section + 4, address, sizeof(address));
	} else {
		/* One error, of 32 bytes behind the first 40, with a physical address; of a cache. */
		section[1] = 1;
		section[2] = sizeof(section);
		section[10] = 32 << 8 | 0x10 << 16;
		section[11] = 2;
		memcpy(section + 16, address, sizeof(address));
	}
	for (int i = 0; i < 4; i++)
		errors->type[i] = sections[part][i];
	for (int i = 0; i < 20; i++)
		errors->section[i] = section[i];
	errors->severity = block_severity;
	errors->section_severity = severity;
	/* Of version 2.1. */
	errors->revision_and_flags = 0x201;
	errors->length = offsetof(struct errors, section) + sizeof(section) - offsetof(struct errors, type);
	errors->section_length = sizeof(section);
	atomic_thread_fence(memory_order_seq_cst);
	/* One that is uncorrected, or corrected. */
	errors->status = block_severity == CORRECTED ? 2 : 1;
	reported = errors;
	return await(is_read, 0);
}

static bool report(volatile struct errors *errors, enum part part, uint64_t pfn, uint32_t severity)
{
	return report_in_block(errors, part, pfn, severity, severity);
}

static bool is_bad_hardware(uint64_t pfn)
{
	struct poisoned page;

	return read_poisoned(pfn, &page) && !strcmp(page.kind, "hardware") && is_taken_away(pfn);
}

TEST_F(firmware, what_was_corrected_has_lost_nothing)
{
	long total = counter("machine_checks_total");

	ASSERT_TRUE(report(self->errors, MEMORY, pfn_of(self->memory), CORRECTED));
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

	ASSERT_TRUE(report_in_block(self->errors, MEMORY, pfn, CORRECTED, RECOVERABLE));
	sleep(1);
	EXPECT_EQ(total, counter("machine_checks_total"));
	EXPECT_TRUE(filled(self->memory, 0, self->pages, 1));
	ASSERT_EQ(EBUSY, print_to_file(HARD_OFFLINE_PAGE, "%#lx", pfn << PAGE_SHIFT));
	ASSERT_TRUE(await(is_taken_away, pfn));
	ASSERT_TRUE(read_poisoned(pfn, &page));
	EXPECT_STREQ("simulated", page.kind);
	EXPECT_EQ(total, counter("machine_checks_total"));
}

TEST_F(firmware, memory_that_has_failed_is_taken_away)
{
	long total = counter("machine_checks_total");
	uint64_t pfn = pfn_of(self->memory);
	struct poisoned page;
	struct peer *child;

	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_WORD(1UL << 32, peer_load(child, self->memory));
	EXPECT_WORD(1UL << 32, load(self->memory));
	ASSERT_EQ(pfn, pfn_of(self->memory));
	ASSERT_TRUE(report(self->errors, MEMORY, pfn, RECOVERABLE));
	ASSERT_TRUE(await(is_bad_hardware, pfn));
	ASSERT_TRUE(read_poisoned(pfn, &page));
	EXPECT_STREQ("machine_check", page.source);
	EXPECT_EQ(total + 1, counter("machine_checks_total"));
	EXPECT_SIGBUS(self->memory + 8, load(self->memory + 8));
	EXPECT_SIGBUS(self->memory + 16, store(self->memory + 16, 1));
	EXPECT_SIGBUS(self->memory + 8, peer_load(child, self->memory + 8));
	EXPECT_TRUE(filled(self->memory, 1, self->pages - 1, 1));
	EXPECT_TRUE(await(is_marked_bad, pfn));
}

TEST_F(firmware, failed_hardware_is_not_undone)
{
	uint64_t pfn = pfn_of(self->memory);

	ASSERT_TRUE(report(self->errors, MEMORY, pfn, RECOVERABLE));
	ASSERT_TRUE(await(is_bad_hardware, pfn));
	EXPECT_EQ(EPERM, unpoison_pfn(pfn));
	EXPECT_EQ(EHWPOISON, poison_pfn(pfn));
	if (has_hwpoison_inject()) {
		EXPECT_EQ(EOPNOTSUPP, undo_by_kernel(pfn));
	}
	EXPECT_SIGBUS(self->memory, load(self->memory));
}

/* The kernel does not say then that it was the firmware, see rust/limits.md. */
TEST_F(firmware, what_a_cache_has_lost_looks_like_a_drill)
{
	uint64_t pfn = pfn_of(self->memory);
	struct poisoned page;

	ASSERT_TRUE(report(self->errors, CACHE, pfn, RECOVERABLE));
	ASSERT_TRUE(await(is_taken_away, pfn));
	ASSERT_TRUE(read_poisoned(pfn, &page));
	EXPECT_STREQ("simulated", page.kind);
	EXPECT_EQ(EPERM, unpoison_pfn(pfn));
	EXPECT_SIGBUS(self->memory, load(self->memory));
}

TEST_F(firmware, frame_is_never_used_again)
{
	long quarantined = counter("quarantined");
	uint64_t pfn = pfn_of(self->memory);

	ASSERT_TRUE(report(self->errors, MEMORY, pfn, RECOVERABLE));
	ASSERT_TRUE(await(is_bad_hardware, pfn));
	ASSERT_EQ(0, madvise(self->memory, PAGE, MADV_DONTNEED));
	EXPECT_TRUE(await(is_not_poisoned, pfn));
	EXPECT_EQ(quarantined + 1, counter("quarantined"));
	EXPECT_EQ(EPERM, unpoison_pfn(pfn));
	EXPECT_TRUE(zeroed(self->memory, 1));
	EXPECT_NE(pfn, pfn_of(self->memory));
}

TEST_F(firmware, takes_the_place_of_a_drill_of_the_kernel)
{
	long total = counter("machine_checks_total");
	uint64_t pfn = pfn_of(self->memory);

	if (!has_hwpoison_inject())
		SKIP(return, "needs hwpoison-inject");
	ASSERT_EQ(EBUSY, print_to_file(HARD_OFFLINE_PAGE, "%#lx", pfn << PAGE_SHIFT));
	ASSERT_TRUE(await(is_taken_away, pfn));
	ASSERT_TRUE(report(self->errors, MEMORY, pfn, RECOVERABLE));
	EXPECT_TRUE(await(is_bad_hardware, pfn));
	EXPECT_EQ(total + 1, counter("machine_checks_total"));
	EXPECT_EQ(EPERM, unpoison_pfn(pfn));
}

static bool is_counted(uint64_t failures)
{
	return counter("machine_checks_total") == (long)failures;
}

TEST_F(firmware, frame_that_soft_offline_has_put_aside)
{
	long total = counter("machine_checks_total"), poisonings = counter("poisonings_total");
	uint64_t pfn = pfn_of(self->memory);

	ASSERT_EQ(0, soft_offline_pfn(pfn));
	ASSERT_TRUE(report(self->errors, MEMORY, pfn, RECOVERABLE));
	EXPECT_TRUE(await(is_counted, total + 1));
	EXPECT_EQ(EPERM, unpoison_pfn(pfn));
	EXPECT_EQ(poisonings, counter("poisonings_total"));
	EXPECT_TRUE(filled(self->memory, 0, self->pages, 1));
}

TEST_F(firmware, takes_the_place_of_a_drill)
{
	uint64_t pfn = pfn_of(self->memory);

	ASSERT_EQ(0, poison_pfn(pfn));
	ASSERT_TRUE(report(self->errors, MEMORY, pfn, RECOVERABLE));
	EXPECT_TRUE(await(is_bad_hardware, pfn));
	EXPECT_EQ(EPERM, unpoison_pfn(pfn));
}

/* Whether the kernel counts more than @kilobytes of bad memory. */
static bool corrupted_more_than(uint64_t kilobytes)
{
	return corrupted() > (long)kilobytes;
}

TEST_F(firmware, memory_of_others_is_the_kernels)
{
	long total = counter("machine_checks_total"), poisonings = counter("poisonings_total");
	char *anonymous = map_private(false, 2);
	long before = corrupted();

	ASSERT_NE(MAP_FAILED, anonymous);
	fill(anonymous, 2, 2);
	ASSERT_TRUE(report(self->errors, MEMORY, pfn_of(anonymous), RECOVERABLE));
	ASSERT_TRUE(await(corrupted_more_than, before));
	EXPECT_SIGBUS(anonymous + 8, load(anonymous + 8));
	EXPECT_TRUE(filled(anonymous, 1, 1, 2));
	EXPECT_EQ(total, counter("machine_checks_total"));
	EXPECT_EQ(poisonings, counter("poisonings_total"));
	EXPECT_TRUE(filled(self->memory, 0, self->pages, 1));
}

TEST_HARNESS_MAIN
