/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The fixtures that tests share: memory of the device, of which nothing may be left when the test has ended; on anonymous
 * memory too, which is the reference; and with a page that is going to fail. And how an access is expected to end.
 */
#ifndef FIXTURE_H
#define FIXTURE_H

/* What nearly all tests use. */
#include "access.h"
#include "debugfs.h"
#include "device.h"
#include "file.h"
#include "pagemap.h"
#include "patience.h"
#include "peer.h"
#include "stats.h"

/* It waits in poll() for a test to end: limits are in seconds as patience.h counts them. */
#define poll poll_patiently
#include "kselftest_harness.h"
#undef poll

/* Nothing of the device's memory is left after a test. Looked for in the parent, since the memory goes with the process. */
#define FIXTURE_LEAVES_NOTHING(fixture_name)				\
FIXTURE_TEARDOWN_PARENT(fixture_name)					\
{									\
	EXPECT_STREQ("", leak());					\
}									\
struct fixture_name##_needs_a_semicolon

/* The parts of fixtures with private memory of the device, size_in_pages pages, filled with seed 1 or untouched; skipped if there is a reason. */
#define FIXTURE_DEVICE_MEMBERS(fixture_name)				\
FIXTURE(fixture_name)							\
{									\
	char *memory;							\
	size_t pages;							\
}

#define FIXTURE_DEVICE_SETUP(fixture_name, reason_to_skip, size_in_pages, is_filled)	\
FIXTURE_SETUP(fixture_name)						\
{									\
	const char *reason = reason_to_skip;				\
									\
	if (reason)							\
		SKIP(return, "%s", reason);				\
	self->pages = size_in_pages;					\
	self->memory = map_device(self->pages, MAP_PRIVATE);		\
	ASSERT_NE(MAP_FAILED, self->memory);				\
	if (is_filled)							\
		fill(self->memory, self->pages, 1);			\
}									\
FIXTURE_LEAVES_NOTHING(fixture_name);					\
struct fixture_name##_needs_a_semicolon

/* A fixture with such memory, unless there is a reason. */
#define FIXTURE_ON_DEVICE_UNLESS(fixture_name, reason_to_skip, size_in_pages, is_filled)	\
FIXTURE_DEVICE_MEMBERS(fixture_name);					\
FIXTURE_DEVICE_SETUP(fixture_name, reason_to_skip, size_in_pages, is_filled);	\
struct fixture_name##_needs_a_semicolon

/* In any case. */
#define FIXTURE_ON_DEVICE(fixture_name, size_in_pages, is_filled)	\
	FIXTURE_ON_DEVICE_UNLESS(fixture_name, NULL, size_in_pages, is_filled)

/* Lets each test of a fixture be done on memory of the device, and on anonymous memory as the reference. */
#define FIXTURE_VARIANTS_ON_BOTH(fixture_name)				\
FIXTURE_VARIANT(fixture_name)						\
{									\
	bool device;							\
};									\
FIXTURE_VARIANT_ADD(fixture_name, device) { .device = true };		\
FIXTURE_VARIANT_ADD(fixture_name, anonymous) { .device = false };	\
struct fixture_name##_needs_a_semicolon

/* As map_private() in a fixture with these variants; without huge pages, which the device does not have. */
#define ASSERT_MAPPED(size_in_pages) do {						\
	self->memory = map_private(variant->device, size_in_pages);			\
	ASSERT_NE(MAP_FAILED, self->memory);						\
	ASSERT_EQ(0, madvise(self->memory, (size_in_pages) * PAGE, MADV_NOHUGEPAGE));	\
} while (0)

/* A fixture with private memory of each, size_in_pages pages, filled with seed 1 or untouched. */
#define FIXTURE_ON_BOTH(fixture_name, size_in_pages, is_filled)		\
FIXTURE(fixture_name)							\
{									\
	char *memory;							\
};									\
FIXTURE_VARIANTS_ON_BOTH(fixture_name);					\
FIXTURE_SETUP(fixture_name)						\
{									\
	ASSERT_MAPPED(size_in_pages);					\
	if (is_filled)							\
		fill(self->memory, size_in_pages, 1);			\
}									\
FIXTURE_LEAVES_NOTHING(fixture_name);					\
struct fixture_name##_needs_a_semicolon

/* The parts of fixtures with memory of the device, filled with seed 1, of which page number bad_page is going to fail. */
#define FIXTURE_BAD_PAGE_MEMBERS(fixture_name)				\
FIXTURE(fixture_name)							\
{									\
	char *memory;							\
	/* The page that is going to fail, and its frame. */		\
	char *bad;							\
	uint64_t pfn;							\
}

#define FIXTURE_BAD_PAGE_SETUP(fixture_name, size_in_pages, bad_page, mmap_flags)	\
FIXTURE_SETUP(fixture_name)						\
{									\
	self->memory = map_device(size_in_pages, mmap_flags);		\
	ASSERT_NE(MAP_FAILED, self->memory);				\
	fill(self->memory, size_in_pages, 1);				\
	self->bad = self->memory + (bad_page) * PAGE;			\
	self->pfn = pfn_of(self->bad);					\
	ASSERT_NE(0, self->pfn);					\
}									\
FIXTURE_LEAVES_NOTHING(fixture_name);					\
struct fixture_name##_needs_a_semicolon

/* A fixture with such memory, private and shared. */
#define FIXTURE_WITH_BAD_PAGE(fixture_name, size_in_pages, bad_page)	\
FIXTURE_BAD_PAGE_MEMBERS(fixture_name);					\
FIXTURE_VARIANT(fixture_name)						\
{									\
	int flags;							\
};									\
FIXTURE_VARIANT_ADD(fixture_name, private) { .flags = MAP_PRIVATE };	\
FIXTURE_VARIANT_ADD(fixture_name, shared) { .flags = MAP_SHARED };	\
FIXTURE_BAD_PAGE_SETUP(fixture_name, size_in_pages, bad_page, variant->flags);	\
struct fixture_name##_needs_a_semicolon

/* As FIXTURE_WITH_BAD_PAGE(), only private. */
#define FIXTURE_WITH_BAD_PRIVATE_PAGE(fixture_name, size_in_pages, bad_page)	\
FIXTURE_BAD_PAGE_MEMBERS(fixture_name);					\
FIXTURE_BAD_PAGE_SETUP(fixture_name, size_in_pages, bad_page, MAP_PRIVATE);	\
struct fixture_name##_needs_a_semicolon

/* The access succeeded, and gave that word. */
#define EXPECT_WORD(expected_value, seen) do {				\
	struct access seen_access = (seen);				\
									\
	EXPECT_EQ(0, seen_access.signal);				\
	EXPECT_EQ((uint64_t)(expected_value), seen_access.value);	\
} while (0)

/* The access got SIGSEGV. */
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
