// SPDX-License-Identifier: GPL-2.0-only
/*
 * What an injection visits: few nodes, however many VMAs are in the tree, and the tree does not grow by processes that
 * inherit the mapping and never touch it.
 */
#include <sys/prctl.h>

#include "lib/fixture.h"

#define MAX_VISITS 40
#define MAX_MAP_COUNT "/proc/sys/vm/max_map_count"

FIXTURE(rmap_visits)
{
	char *memory, *max_map_count;
	long vmas, children;
};

FIXTURE_SETUP(rmap_visits)
{
	/* Under lockdep each split and each fork takes many times as long. */
	bool slow = !access("/proc/lockdep", F_OK);

	self->vmas = slow ? 5000 : 65000;
	self->children = slow ? 100 : 1000;
	self->max_map_count = read_file(MAX_MAP_COUNT);
	ASSERT_EQ(0, print_to_file(MAX_MAP_COUNT, "%ld", 2 * self->vmas));
	self->memory = map_device(self->vmas, MAP_PRIVATE);
	ASSERT_NE(MAP_FAILED, self->memory);
}

FIXTURE_TEARDOWN(rmap_visits)
{
	write_file(MAX_MAP_COUNT, self->max_map_count, strlen(self->max_map_count));
}

TEST_F_TIMEOUT(rmap_visits, an_injection_among_many_vmas_visits_at_most_40_nodes, 120)
{
	const long pages[] = { 0, 1, self->vmas / 3, self->vmas / 2, self->vmas - 2, self->vmas - 1 };
	char *verdict, expected[64];

	for (size_t i = 0; i < sizeof(pages) / sizeof(*pages); i++)
		store(self->memory + pages[i] * PAGE, 1);
	for (long page = 0; page < self->vmas; page += 2)
		ASSERT_EQ(0, mprotect(self->memory + page * PAGE, PAGE, PROT_READ));
	ASSERT_EQ(self->vmas, counter("avcs"));
	for (size_t i = 0; i < sizeof(pages) / sizeof(*pages); i++) {
		ASSERT_EQ(0, poison_addr(getpid(), self->memory + pages[i] * PAGE));
		EXPECT_EQ(self->vmas, counter("last_walk_vmas"));
		EXPECT_EQ(1, counter("last_walk_mappings"));
		EXPECT_LE(counter("last_walk_nodes"), MAX_VISITS);
		TH_LOG("page %ld of %ld: %ld nodes", pages[i], self->vmas, counter("last_walk_nodes"));
		EXPECT_SIGBUS(self->memory + pages[i] * PAGE, load(self->memory + pages[i] * PAGE));
	}
	verdict = read_file(DEBUGFS "verify");
	snprintf(expected, sizeof(expected), "ok vmas=%ld trees=1 avcs=%ld ", self->vmas, self->vmas);
	EXPECT_EQ(verdict, strstr(verdict, expected));
	free(verdict);
}

TEST_F_TIMEOUT(rmap_visits, a_thousand_children_that_touch_nothing_are_in_no_tree, 120)
{
	pid_t children[self->children];

	store(self->memory, 1);
	ASSERT_EQ(1, counter("avcs"));
	for (int i = 0; i < self->children; i++) {
		children[i] = fork();
		ASSERT_LE(0, children[i]);
		if (!children[i]) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			pause();
			_exit(0);
		}
	}
	EXPECT_EQ(self->children + 1, counter("vmas"));
	EXPECT_EQ(1, counter("avcs"));
	ASSERT_EQ(0, poison_addr(getpid(), self->memory));
	EXPECT_EQ(1, counter("last_walk_vmas"));
	EXPECT_EQ(1, counter("last_walk_mappings"));
	EXPECT_LE(counter("last_walk_nodes"), 1);
	for (int i = 0; i < self->children; i++) {
		kill(children[i], SIGKILL);
		waitpid(children[i], NULL, 0);
	}
}

TEST_HARNESS_MAIN
