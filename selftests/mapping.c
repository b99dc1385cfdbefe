// SPDX-License-Identifier: GPL-2.0
#include "fixture.h"

FIXTURE_ON_DEVICE(mapping, 64);

TEST_F(mapping, new_memory_is_zero)
{
	EXPECT_TRUE(zeroed(self->memory, self->pages));
}

TEST_F(mapping, fork_copies_on_write)
{
	struct peer *child;

	fill(self->memory, self->pages, 1);
	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_WORD(1UL << 32, peer_load(child, self->memory));
	EXPECT_WORD(7, peer_store(child, self->memory, 7));
	EXPECT_WORD(7, peer_load(child, self->memory));
	EXPECT_TRUE(filled(self->memory, 0, self->pages, 1));
	EXPECT_WORD(9, store(self->memory, 9));
	EXPECT_WORD(7, peer_load(child, self->memory));
}

TEST_F(mapping, poison)
{
	struct peer *child;
	uint64_t pfn;

	fill(self->memory, self->pages, 1);
	pfn = pfn_of(self->memory + PAGE);
	child = fork_peer();
	ASSERT_NE(NULL, child);
	peer_load(child, self->memory + PAGE);
	ASSERT_EQ(0, poison_addr(getpid(), self->memory + PAGE + 8));
	EXPECT_SIGBUS(self->memory + PAGE + 16, load(self->memory + PAGE + 16));
	EXPECT_SIGBUS(self->memory + PAGE + 16, peer_load(child, self->memory + PAGE + 16));
	EXPECT_TRUE(filled(self->memory, 2, 62, 1));
	fprintf(stderr, "%s", read_file(DEBUGFS "stats"));
	fprintf(stderr, "%s", read_file(DEBUGFS "mappings"));
	fprintf(stderr, "%s", read_file(DEBUGFS "poisoned"));
	ASSERT_EQ(0, unpoison_pfn(pfn));
	EXPECT_TRUE(filled(self->memory, 0, 64, 1));
}

TEST_F(mapping, split)
{
	long now, before = 4096;
	char *p = map_device(4096, MAP_PRIVATE);

	fill(p, 4096, 1);
	for (int i = 0; i < 4096; i += 2) {
		ASSERT_EQ(0, mprotect(p + i * PAGE, PAGE, PROT_READ));
		if (i < 16 || i % 64 == 0) {
		now = counter("anons");
		if (now != before)
			fprintf(stderr, "%d: %ld\n", i, now);
		before = now;
		}
	}
	char *m = read_file(DEBUGFS "mappings");
	fprintf(stderr, "%.3000s", m);
	struct mapping *mm;
	int n = read_mappings(getpid(), &mm);
	int run = 0;
	for (int i = 0; i < n; i++) {
		if (mm[i].present != run)
			fprintf(stderr, "%d %lx-%lx %ld-%ld present %ld\n", i, mm[i].start, mm[i].end, mm[i].first, mm[i].last, mm[i].present);
		run = mm[i].present;
	}
}

TEST_HARNESS_MAIN
