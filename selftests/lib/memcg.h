/* SPDX-License-Identifier: GPL-2.0-only */
/* A memory cgroup, for processes of a test to join. */
#ifndef MEMCG_H
#define MEMCG_H

#include <stdbool.h>

#define MEMCG_MOUNT "/tmp/anon_rmap.cgroups"
/* Its directory. */
#define MEMCG MEMCG_MOUNT "/test"

/* Makes it; false if there are no memory cgroups. */
bool make_memcg(void);

/* Removes it, when who was in it has ended. */
void remove_memcg(void);

/* Joins it; for peer_call(). Returns 0 or the errno. */
long join_memcg(void *unused, long unused_too);

/* The bytes that are charged to it; -1 if that can't be read. */
long memcg_charged(void);

/* How many processes were killed since its limit was reached. */
long memcg_killed(void);

/* What a fixture for that has in its setup and, in the parent, when who was in the group has ended, in its teardown. With lib/fixture.h. */
#define FIXTURE_HAS_MEMCG(fixture_name)					\
FIXTURE_SETUP(fixture_name)						\
{									\
	if (!make_memcg())						\
		SKIP(return, "no memory cgroups");			\
}									\
FIXTURE_TEARDOWN_PARENT(fixture_name)					\
{									\
	EXPECT_STREQ("", leak());					\
	remove_memcg();							\
}									\
struct fixture_name##_needs_a_semicolon

#endif
