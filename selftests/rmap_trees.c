// SPDX-License-Identifier: GPL-2.0-only
/* rmap walks visit little, and a VMA that maps nothing of a tree is not in it. */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "lib/fixture.h"

#define PAGES 512
#define BAD 123

FIXTURE_ON_DEVICE(rmap_trees, PAGES, false);

/* Gives each page a VMA of its own; returns whether that worked. */
static bool split(char *memory, size_t pages)
{
	for (size_t i = 0; i < pages; i += 2)
		if (mprotect(memory + i * PAGE, PAGE, PROT_READ))
			return false;
	return true;
}

TEST_F(rmap_trees, a_walk_visits_at_most_40_nodes_among_4096_vmas)
{
	enum { MANY = 4096 };
	char *memory = map_device(MANY, MAP_PRIVATE);

	ASSERT_NE(MAP_FAILED, memory);
	fill(memory, MANY, 1);
	ASSERT_TRUE(split(memory, MANY));
	/* At the borders of the tree, and inside. */
	for (size_t i = 0; i < MANY; i += MANY / 13) {
		long walks = counter("walks_total"), nodes = counter("walk_nodes_total");

		ASSERT_EQ(0, poison_addr(getpid(), memory + i * PAGE));
		EXPECT_LE(MANY, counter("last_walk_vmas"));
		EXPECT_LE(1, counter("last_walk_nodes"));
		EXPECT_GE(40, counter("last_walk_nodes"));
		EXPECT_EQ(1, counter("last_walk_mappings"));
		/* One to take the page away, and one to tell who had it. */
		EXPECT_EQ(walks + 2, counter("walks_total"));
		EXPECT_EQ(nodes + 2 * counter("last_walk_nodes"), counter("walk_nodes_total"));
	}
}

TEST_F(rmap_trees, a_walk_finds_the_sharers_among_hundreds_of_vmas)
{
	struct peer *child;
	long zapped;

	fill(self->memory, PAGES, 1);
	ASSERT_TRUE(split(self->memory, PAGES));
	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_WORD(word(1, BAD), peer_load(child, self->memory + BAD * PAGE));
	EXPECT_WORD(word(1, BAD), load(self->memory + BAD * PAGE));
	zapped = counter("mappings_zapped_total");
	ASSERT_EQ(0, poison_addr(getpid(), self->memory + BAD * PAGE));
	EXPECT_EQ(2, counter("last_walk_mappings"));
	EXPECT_EQ(zapped + 2, counter("mappings_zapped_total"));
	EXPECT_GE(40, counter("last_walk_nodes"));
}

TEST_F(rmap_trees, a_child_that_touches_nothing_is_in_no_tree)
{
	struct peer *child;
	long avcs;

	fill(self->memory, PAGES, 1);
	ASSERT_TRUE(split(self->memory, PAGES));
	avcs = counter("avcs");
	EXPECT_EQ(PAGES, avcs);
	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_EQ(2 * PAGES, counter("vmas"));
	EXPECT_EQ(avcs, counter("avcs"));
	/* One VMA of the child maps one page. */
	EXPECT_WORD(word(1, BAD), peer_load(child, self->memory + BAD * PAGE));
	EXPECT_EQ(avcs + 1, counter("avcs"));
	EXPECT_WORD(word(1, BAD), peer_load(child, self->memory + BAD * PAGE));
	EXPECT_EQ(avcs + 1, counter("avcs"));
	end_peer(child);
	EXPECT_EQ(avcs, counter("avcs"));
}

TEST_F(rmap_trees, memory_that_was_not_touched_is_in_no_tree)
{
	ASSERT_TRUE(split(self->memory, PAGES));
	EXPECT_EQ(PAGES, counter("vmas"));
	EXPECT_EQ(0, counter("avcs"));
	EXPECT_WORD(0, load(self->memory));
	EXPECT_EQ(0, counter("avcs"));
	EXPECT_WORD(7, store(self->memory + PAGE, 7));
	EXPECT_EQ(1, counter("avcs"));
}

TEST_F(rmap_trees, a_copy_is_in_a_tree_of_its_owner)
{
	struct peer *child;

	fill(self->memory, PAGES, 1);
	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_WORD(7, peer_store(child, self->memory + BAD * PAGE, 7));
	/* Among as many VMAs as can have the copy, not the family's. */
	ASSERT_EQ(0, poison_addr(child->pid, self->memory + BAD * PAGE));
	EXPECT_EQ(1, counter("last_walk_vmas"));
	EXPECT_EQ(1, counter("last_walk_mappings"));
}

TEST_F(rmap_trees, a_page_copied_by_all_children_is_found_in_the_parent_only)
{
	enum { CHILDREN = 20 };

	fill(self->memory, 1, 1);
	for (int i = 0; i < CHILDREN; i++) {
		struct peer *child = fork_peer();

		ASSERT_NE(NULL, child);
		EXPECT_WORD(i, peer_store(child, self->memory, i));
	}
	EXPECT_EQ(1 + CHILDREN, counter("anons"));
	ASSERT_EQ(0, poison_addr(getpid(), self->memory));
	EXPECT_EQ(1, counter("last_walk_mappings"));
}

TEST_F(rmap_trees, a_walk_finds_all_of_many_sharers)
{
	enum { CHILDREN = 100 };
	struct poisoned page;
	struct peer *children[CHILDREN];
	uint64_t pfn;

	fill(self->memory, 1, 1);
	pfn = pfn_of(self->memory);
	for (int i = 0; i < CHILDREN; i++) {
		children[i] = fork_peer();
		ASSERT_NE(NULL, children[i]);
		EXPECT_WORD(word(1, 0), peer_load(children[i], self->memory));
	}
	EXPECT_EQ(1 + CHILDREN, counter("avcs"));
	ASSERT_EQ(0, poison_addr(getpid(), self->memory));
	EXPECT_EQ(1 + CHILDREN, counter("last_walk_mappings"));
	ASSERT_TRUE(read_poisoned(pfn, &page));
	EXPECT_EQ(1 + CHILDREN, page.hit);
	for (int i = 0; i < CHILDREN; i++)
		EXPECT_SIGBUS(self->memory, peer_load(children[i], self->memory));
}

/*
 * What the last of many generations does with the pages that it has of each: cut into VMAs, moved and written, none of these
 * is in more trees than it has pages of.
 */
static int cut_what_ancestors_left(char *memory, size_t generations)
{
	char *target = reserve(PAGES);

	for (size_t i = 0; i < generations; i++)
		if (load(memory + i * PAGE).value != i + 1)
			return 1;
	if (counter("avcs") < (long)generations || !split(memory, PAGES))
		return 2;
	/* One for each VMA, and one for each page. */
	if (counter("avcs") > counter("vmas") + (long)generations)
		return 3;
	if (mremap(memory, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target) != target || !verified())
		return 4;
	memory[PAGE] = 0;
	for (size_t i = 0; i < generations; i += 5) {
		char *page = i ? memory + i * PAGE : target;

		if (poison_addr(getpid(), page) || load(page).signal != SIGBUS)
			return 5;
	}
	if (counter("avcs") > counter("vmas") + (long)generations || !verified())
		return 6;
	return 0;
}

TEST_F(rmap_trees, a_vma_is_in_the_trees_of_its_pages)
{
	enum { GENERATIONS = 40 };
	pid_t first = getpid(), child = 0;
	int status = 0;

	for (size_t i = 0; i < GENERATIONS && !child; i++) {
		store(self->memory + i * PAGE, i + 1);
		child = fork();
		ASSERT_LE(0, child);
	}
	if (!child)
		_exit(cut_what_ancestors_left(self->memory, GENERATIONS));
	waitpid(child, &status, 0);
	/* Each ancestor ends as its child has. */
	if (getpid() != first)
		_exit(WEXITSTATUS(status));
	EXPECT_EQ(0, status);
}

#define BLOCKS 1000
#define BLOCK (512 * PAGE)

/* Discards a page, and then so much that some time goes by until core mm flushes TLBs, once and for all. */
struct discard {
	char *page, *blocks;
	atomic_bool done;
};

static void *discard_all(void *argument)
{
	static struct iovec ranges[BLOCKS + 1];
	struct discard *discard = argument;
	int self = syscall(SYS_pidfd_open, getpid(), 0);

	ranges[0] = (struct iovec){ discard->page, PAGE };
	for (size_t i = 0; i < BLOCKS; i++)
		ranges[1 + i] = (struct iovec){ discard->blocks + i * BLOCK, BLOCK };
	if (syscall(SYS_process_madvise, self, ranges, BLOCKS + 1, MADV_DONTNEED, 0) < 0)
		perror("process_madvise");
	discard->done = true;
	close(self);
	return NULL;
}

/* The links of the VMA at @address. */
static long links_at(const char *address)
{
	struct mapping *mappings;
	ssize_t count = read_mappings(getpid(), &mappings);
	long links = -1;

	for (ssize_t i = 0; i < count; i++)
		if (mappings[i].start == (uintptr_t)address)
			links = mappings[i].avcs;
	free(mappings);
	return links;
}

/*
 * A child that discards what it shares with its parent, and splits the VMA meanwhile; returns the links that the part has then of
 * which the page was, 0 if it could not be seen in time.
 */
static int links_while_unflushed(char *memory)
{
	struct discard discard = { .page = memory };
	pthread_t thread;
	long links;

	discard.blocks = mmap(NULL, BLOCKS * BLOCK, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (discard.blocks == MAP_FAILED || load(memory).value != 7 || store(memory + PAGE, 8).signal ||
	    links_at(memory) != 2)
		return 3;
	madvise(discard.blocks, BLOCKS * BLOCK, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < BLOCKS; i++)
		discard.blocks[i * BLOCK] = 1;
	if (pthread_create(&thread, NULL, discard_all, &discard))
		return 3;
	while (pfn_of(memory) && !discard.done)
		;
	madvise(memory, PAGES / 2 * PAGE, MADV_DONTDUMP);
	links = links_at(memory);
	if (discard.done)
		links = 0;
	pthread_join(thread, NULL);
	return links;
}

/* What is in no page table any more can still be in a TLB: a failure must go on to look there. */
TEST_F(rmap_trees, a_vma_stays_in_trees_until_tlbs_are_flushed)
{
	int seen = 0;

	store(self->memory, 7);
	for (int round = 0; round < 20; round++) {
		pid_t child = fork();
		int status;

		if (!child)
			_exit(links_while_unflushed(self->memory));
		waitpid(child, &status, 0);
		ASSERT_TRUE(WIFEXITED(status));
		if (WEXITSTATUS(status)) {
			EXPECT_EQ(2, WEXITSTATUS(status));
			seen++;
		}
	}
	if (!seen)
		SKIP(return, "nothing was seen in time");
}

TEST_F(rmap_trees, moved_vmas_are_found)
{
	char *target = reserve(PAGES);

	fill(self->memory, PAGES, 1);
	ASSERT_TRUE(split(self->memory, PAGES));
	/* Every other page, to the opposite end. */
	for (size_t i = 0; i < PAGES; i += 2) {
		char *place = target + (PAGES - 1 - i) * PAGE;

		ASSERT_EQ(place, mremap(self->memory + i * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place));
	}
	for (size_t i = 0; i < PAGES; i += 64) {
		char *place = target + (PAGES - 1 - i) * PAGE;

		ASSERT_EQ(0, poison_addr(getpid(), place));
		EXPECT_EQ(1, counter("last_walk_mappings"));
		EXPECT_GE(40, counter("last_walk_nodes"));
		EXPECT_SIGBUS(place, load(place));
	}
}

/* A process that moves a page, which it shares with its parent, all the time, and sometimes reads it. */
struct mover {
	pid_t pid;
	volatile bool stop;
	sem_t go, done;
	char *place;
	struct access access;
};

static void keep_moving(struct mover *mover, char *memory)
{
	char *places = reserve(2);

	mover->place = memory;
	load(memory);
	for (size_t i = 0;; i++) {
		/* What is left at the old place looks as before, but does not have the page. */
		int flags = MREMAP_MAYMOVE | MREMAP_FIXED | (i & 2 ? MREMAP_DONTUNMAP : 0);
		char *to = places + (i & 1) * PAGE;

		if (mremap(mover->place, PAGE, PAGE, flags, to) != MAP_FAILED)
			mover->place = to;
		if (mover->stop) {
			mover->access = load(mover->place);
			sem_post(&mover->done);
			while (sem_wait(&mover->go))
				;
			load(mover->place);
			sem_post(&mover->done);
		}
	}
}

/* Stops a mover and lets it read its page. */
static struct access stop_and_load(struct mover *mover)
{
	mover->stop = true;
	while (sem_wait(&mover->done))
		;
	mover->stop = false;
	return mover->access;
}

/* Lets a mover map its page again, and move on. */
static void move_on(struct mover *mover)
{
	sem_post(&mover->go);
	while (sem_wait(&mover->done))
		;
}

TEST_F(rmap_trees, an_injection_ends_and_misses_nothing_though_sharers_move_all_the_time)
{
	enum { SHARERS = 24, MOVERS = 4, INJECTIONS = 8 };
	struct peer *sharers[SHARERS];
	struct mover *movers = map_shared(MOVERS * sizeof(*movers));
	char *moved = self->memory + PAGES / 2 * PAGE;

	fill(self->memory, PAGES, 1);
	for (int i = 0; i < SHARERS; i++) {
		sharers[i] = fork_peer();
		ASSERT_NE(NULL, sharers[i]);
	}
	for (int i = 0; i < MOVERS; i++) {
		pid_t parent = getpid(), pid;

		sem_init(&movers[i].go, 1, 0);
		sem_init(&movers[i].done, 1, 0);
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			die_with(parent);
			keep_moving(&movers[i], moved);
		}
		movers[i].pid = pid;
	}
	for (int i = 0; i < INJECTIONS; i++) {
		char *bad = i & 1 ? self->memory + i * PAGE : moved;
		uint64_t pfn;
		long walks;

		for (int j = 0; j < SHARERS; j++)
			EXPECT_WORD(word(1, (bad - self->memory) / PAGE), peer_load(sharers[j], bad));
		EXPECT_WORD(word(1, (bad - self->memory) / PAGE), load(bad));
		pfn = pfn_of(bad);
		walks = counter("walks_total");
		ASSERT_EQ(0, poison_addr(getpid(), bad));
		walks = counter("walks_total") - walks;
		/* Each sharer once more, or twice if it is on the move. */
		EXPECT_GE(1 + 3 * (1 + SHARERS + MOVERS), walks);
		for (int j = 0; j < MOVERS; j++) {
			struct access access = stop_and_load(&movers[j]);

			if (bad == moved)
				EXPECT_SIGBUS(movers[j].place, access);
			else
				EXPECT_WORD(word(1, PAGES / 2), access);
		}
		EXPECT_SIGBUS(bad, load(bad));
		for (int j = 0; j < SHARERS; j++)
			EXPECT_SIGBUS(bad, peer_load(sharers[j], bad));
		ASSERT_EQ(0, unpoison_pfn(pfn));
		for (int j = 0; j < MOVERS; j++)
			move_on(&movers[j]);
	}
	for (int i = 0; i < MOVERS; i++) {
		kill(movers[i].pid, SIGKILL);
		waitpid(movers[i].pid, NULL, 0);
	}
}

TEST_HARNESS_MAIN
