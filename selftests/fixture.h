/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests share: a mapping of the device, of which nothing may be left when the test has ended,
 * and how an access is expected to end.
 */
#ifndef FIXTURE_H
#define FIXTURE_H

#include "anon_rmap.h"
/* It waits in poll() for a test to end: limits are in seconds as patience.h counts them. */
#define poll poll_patiently
#include "kselftest_harness.h"

/* Newer than the C library. */
#ifndef SYS_mseal
#define SYS_mseal 462
#endif
#undef poll

/* A fixture with private memory of the device, size_in_pages pages, untouched. */
#define FIXTURE_ON_DEVICE(fixture_name, size_in_pages)			\
FIXTURE(fixture_name)							\
{									\
	char *memory;							\
	size_t pages;							\
};									\
FIXTURE_SETUP(fixture_name)						\
{									\
	self->pages = size_in_pages;					\
	self->memory = map_device(self->pages, MAP_PRIVATE);		\
	ASSERT_NE(MAP_FAILED, self->memory);				\
}									\
/* In the parent, since the memory goes with the process. */		\
FIXTURE_TEARDOWN_PARENT(fixture_name)					\
{									\
	EXPECT_STREQ("", leak());					\
}									\
struct fixture_name##_needs_a_semicolon

/*
 * A fixture with private memory of the device, or as much anonymous memory, as the reference: size_in_pages pages, filled with
 * seed 1 or untouched.
 */
#define FIXTURE_ON_BOTH(fixture_name, size_in_pages, is_filled)		\
FIXTURE(fixture_name)							\
{									\
	char *memory;							\
};									\
FIXTURE_VARIANT(fixture_name)						\
{									\
	bool device;							\
};									\
FIXTURE_VARIANT_ADD(fixture_name, device) { .device = true };		\
FIXTURE_VARIANT_ADD(fixture_name, anonymous) { .device = false };	\
FIXTURE_SETUP(fixture_name)						\
{									\
	self->memory = map_private(variant->device, size_in_pages);	\
	ASSERT_NE(MAP_FAILED, self->memory);				\
	/* The device has no huge pages. */				\
	madvise(self->memory, (size_in_pages) * PAGE, MADV_NOHUGEPAGE);	\
	if (is_filled)							\
		fill(self->memory, size_in_pages, 1);			\
}									\
FIXTURE_TEARDOWN_PARENT(fixture_name)					\
{									\
	EXPECT_STREQ("", leak());					\
}									\
struct fixture_name##_needs_a_semicolon

/* Private memory of the device, or anonymous memory: for tests that both have to pass. */
static inline char *map_private(bool device, size_t pages)
{
	if (device)
		return map_device(pages, MAP_PRIVATE);
	return mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* Whether `verify` finds nothing. */
static inline bool verified(void)
{
	char *report = read_file(DEBUGFS "verify");
	bool ok = report && !strncmp(report, "ok ", 3);

	free(report);
	return ok;
}

#define EXPECT_WORD(expected_value, seen) do {				\
	struct access seen_access = (seen);				\
									\
	EXPECT_EQ(0, seen_access.signal);				\
	EXPECT_EQ((uint64_t)(expected_value), seen_access.value);	\
} while (0)

#define EXPECT_SIGSEGV(seen)						\
	EXPECT_EQ(SIGSEGV, (seen).signal)

/* The access got the SIGBUS of a poisoned page. */
#define EXPECT_SIGBUS(expected_address, seen) do {			\
	struct access seen_access = (seen);				\
									\
	EXPECT_EQ(SIGBUS, seen_access.signal);				\
	EXPECT_EQ(BUS_MCEERR_AR, seen_access.code);			\
	EXPECT_EQ((void *)(expected_address), seen_access.address);	\
	EXPECT_EQ(PAGE_SHIFT, seen_access.lsb);				\
} while (0)

#endif
