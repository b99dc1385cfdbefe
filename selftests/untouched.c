// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages that fail before anybody has touched them. `untouched [ROUNDS]`: how often that is tried while threads do what
 * they can to be there first.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "lib/fixture.h"
#include "lib/memcg.h"
#include "lib/random.h"
#include "lib/watchdog.h"

#define PAGES 16

static long nr_rounds;

FIXTURE(untouched)
{
	char *memory;
};

FIXTURE_VARIANT(untouched)
{
	int flags;
	/* The memory is read before: zeroes that all share are mapped. */
	bool is_read;
	/* Or written, but for the page that fails: the rmap knows the mapping. */
	bool is_written;
};

FIXTURE_VARIANT_ADD(untouched, private) { .flags = MAP_PRIVATE };
FIXTURE_VARIANT_ADD(untouched, private_read) { .flags = MAP_PRIVATE, .is_read = true };
FIXTURE_VARIANT_ADD(untouched, private_written) { .flags = MAP_PRIVATE, .is_written = true };
FIXTURE_VARIANT_ADD(untouched, private_read_and_written) { .flags = MAP_PRIVATE, .is_read = true, .is_written = true };
FIXTURE_VARIANT_ADD(untouched, shared) { .flags = MAP_SHARED };

/* The page that fails. */
#define BAD 5

FIXTURE_SETUP(untouched)
{
	self->memory = map_device(PAGES, variant->flags);
	ASSERT_NE(MAP_FAILED, self->memory);
	for (size_t i = 0; i < PAGES; i++) {
		if (variant->is_read)
			EXPECT_WORD(0, load(self->memory + i * PAGE));
		if (variant->is_written && i != BAD)
			EXPECT_WORD(i, store(self->memory + i * PAGE, i));
	}
}

FIXTURE_LEAVES_NOTHING(untouched);

TEST_F(untouched, the_first_touch_gets_the_signal)
{
	char *bad = self->memory + BAD * PAGE;
	long anons = counter("anons");

	ASSERT_EQ(0, poison_addr(getpid(), bad));
	EXPECT_EQ(anons + 1, counter("anons"));
	EXPECT_SIGBUS(bad, load(bad));
	EXPECT_SIGBUS(bad + 8, store(bad + 8, 1));
	EXPECT_EQ(EHWPOISON, poison_addr(getpid(), bad));
	for (size_t i = 0; i < PAGES; i++)
		if (i != BAD)
			EXPECT_WORD(variant->is_written ? i : 0, load(self->memory + i * PAGE));
	EXPECT_TRUE(verified());
}

TEST_F(untouched, what_is_given_back_is_zeroes)
{
	char *bad = self->memory + BAD * PAGE;

	ASSERT_EQ(0, poison_addr(getpid(), bad));
	EXPECT_SIGBUS(bad, load(bad));
	ASSERT_EQ(0, unpoison_pfn(poisoned_pfn()));
	EXPECT_TRUE(zeroed(bad, 1));
	EXPECT_WORD(7, store(bad, 7));
	EXPECT_WORD(7, load(bad));
}

TEST_F(untouched, nobody_is_hit_and_the_page_has_its_name)
{
	char *bad = self->memory + BAD * PAGE, name[64], *text;
	struct poisoned page;

	ASSERT_EQ(0, poison_addr(getpid(), bad + 100));
	ASSERT_TRUE(read_poisoned(poisoned_pfn(), &page));
	EXPECT_STREQ("poison_addr", page.source);
	EXPECT_EQ(0, page.hit);
	snprintf(name, sizeof(name), " pids= pid=%d address=%p\n", getpid(), bad);
	text = read_file(DEBUGFS "poisoned");
	EXPECT_NE(NULL, strstr(text, name)) TH_LOG("%s", text);
	/* And by that name it fails again. */
	ASSERT_EQ(0, unpoison_pfn(poisoned_pfn()));
	EXPECT_WORD(0, load(bad));
	ASSERT_EQ(0, write_text(DEBUGFS "replay", text));
	EXPECT_SIGBUS(bad, load(bad));
	free(text);
}

TEST_F(untouched, one_may_ask_for_a_page_that_was_touched)
{
	char *bad = self->memory + BAD * PAGE;
	long anons = counter("anons");

	EXPECT_EQ(ENODATA, print_to_file(DEBUGFS "poison_addr", "%d %p touched", getpid(), bad));
	EXPECT_EQ(anons, counter("anons"));
	EXPECT_EQ(EINVAL, print_to_file(DEBUGFS "poison_addr", "%d %ptouched", getpid(), bad));
	EXPECT_EQ(EINVAL, print_to_file(DEBUGFS "poison_addr", "%d %p touch", getpid(), bad));
	EXPECT_EQ(EINVAL, print_to_file(DEBUGFS "poison_addr", "%d touched", getpid()));
	EXPECT_EQ(EINVAL, print_to_file(DEBUGFS "poison_addr", "touched"));
	EXPECT_WORD(1, store(bad, 1));
	EXPECT_EQ(0, print_to_file(DEBUGFS "poison_addr", "%d %p touched\n", getpid(), bad));
	EXPECT_SIGBUS(bad, load(bad));
}

TEST_F(untouched, a_child_inherits_the_failure)
{
	char *bad = self->memory + BAD * PAGE;
	struct peer *before = fork_peer(), *after;
	bool is_shared = variant->flags == MAP_SHARED;

	ASSERT_NE(NULL, before);
	ASSERT_EQ(0, poison_addr(getpid(), bad));
	after = fork_peer();
	ASSERT_NE(NULL, after);
	EXPECT_SIGBUS(bad, peer_load(after, bad));
	/* Who was forked before has memory of its own. */
	if (is_shared)
		EXPECT_SIGBUS(bad, peer_load(before, bad));
	else
		EXPECT_WORD(0, peer_load(before, bad));
	EXPECT_SIGBUS(bad, load(bad));
}

TEST_F(untouched, a_new_mapping_is_good)
{
	char *bad = self->memory + BAD * PAGE;

	ASSERT_EQ(0, poison_addr(getpid(), bad));
	ASSERT_EQ(0, munmap(bad, PAGE));
	EXPECT_EQ(EFAULT, poison_addr(getpid(), bad));
	/* Shared memory stays, as others could have it. */
	EXPECT_EQ(variant->flags == MAP_SHARED, counter("poisoned"));
}

/* Threads that are there first, or not. */
struct race {
	char *memory;
	atomic_bool stop;
	int way;
};

enum { TOUCHING, SPLITTING, DISCARDING, MOVING, WAYS };

static void *do_meanwhile(void *argument)
{
	struct race *race = argument;
	struct random random = { race->way };
	int file = memfd_create("untouched", MFD_CLOEXEC);

	if (ftruncate(file, PAGE))
		abort();
	while (!atomic_load(&race->stop)) {
		char *page = race->memory + below(&random, PAGES) * PAGE;

		switch (race->way) {
		case TOUCHING:
			/* By the kernel, which tells of a failure without a signal. */
			if (one_in(&random, 8))
				(void)!pread(file, page, 8, 0);
			else
				(void)!pwrite(file, page, 8, 0);
			break;
		case SPLITTING:
			mprotect(page, PAGE, one_in(&random, 2) ? PROT_READ : PROT_READ | PROT_WRITE);
			break;
		case DISCARDING:
			/* But not the page that fails. */
			if (page != race->memory + BAD * PAGE)
				madvise(page, PAGE, MADV_DONTNEED);
			break;
		default:
			/* To and fro; some of it fails: there is something already. */
			mremap(race->memory + 8 * PAGE, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			       race->memory + PAGES * PAGE);
			mremap(race->memory + PAGES * PAGE, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			       race->memory + 8 * PAGE);
		}
	}
	close(file);
	return NULL;
}

TEST_F_TIMEOUT(untouched, nobody_reads_it_whatever_threads_do, 3600)
{
	WATCHED(SECONDS_OF_A_RACE + nr_rounds / 10) {
		int file = memfd_create("untouched", MFD_CLOEXEC);
		long read = 0, in_advance = 0, busy = 0;

		ASSERT_EQ(0, ftruncate(file, PAGE));
		for (long round = 0; round < nr_rounds; round++) {
			pthread_t threads[WAYS];
			struct race races[WAYS];
			struct poisoned page;
			int error;

			ASSERT_EQ(0, munmap(self->memory, PAGES * PAGE));
			self->memory = reserve(2 * PAGES);
			ASSERT_NE(MAP_FAILED, self->memory);
			int device = open(DEVICE, O_RDWR | O_CLOEXEC);

			ASSERT_EQ(self->memory, mmap(self->memory, PAGES * PAGE, PROT_READ | PROT_WRITE,
						     variant->flags | MAP_FIXED, device, 0));
			close(device);
			for (int i = 0; i < WAYS; i++) {
				races[i] = (struct race){ .memory = self->memory, .way = i };
				ASSERT_EQ(0, pthread_create(&threads[i], NULL, do_meanwhile, &races[i]));
			}
			do {
				error = poison_addr(getpid(), self->memory + BAD * PAGE);
				busy += error == EBUSY;
			} while (error == EBUSY);
			ASSERT_EQ(0, error);
			read += pwrite(file, self->memory + BAD * PAGE, 8, 0) == 8;
			for (int i = 0; i < WAYS; i++)
				atomic_store(&races[i].stop, true);
			for (int i = 0; i < WAYS; i++)
				pthread_join(threads[i], NULL);
			read += pwrite(file, self->memory + BAD * PAGE, 8, 0) == 8;
			in_advance += read_poisoned(poisoned_pfn(), &page) && !page.hit;
			ASSERT_EQ(0, munmap(self->memory, 2 * PAGES * PAGE));
			self->memory = map_device(PAGES, variant->flags);
		}
		EXPECT_EQ(0, read);
		TH_LOG("%ld of %ld failed in advance; %ld times mremap was in the way", in_advance, nr_rounds, busy);
	}
}


static long map_here(void *address, long pages)
{
	*(char **)address = map_device(pages, MAP_PRIVATE);
	return 0;
}

TEST(the_memory_cgroup_of_the_victim_is_charged)
{
	const long pages = 2048;
	char **memory = map_shared(PAGE);
	struct peer *victim = fork_peer();
	long before, after, refused = 0;

	if (!make_memcg())
		SKIP(return, "no memory cgroups");
	ASSERT_EQ(0, peer_call(victim, join_memcg, NULL, 0));
	peer_call(victim, map_here, memory, pages);
	before = memcg_charged();
	for (long i = 0; i < pages / 2; i++)
		ASSERT_EQ(0, poison_addr(victim->pid, *memory + i * PAGE));
	after = memcg_charged();
	EXPECT_LE(pages / 2 * (long)PAGE, after - before);
	/* With what keeps track of them. */
	EXPECT_GE(pages * (long)PAGE, after - before);

	/* At its limit, it is refused; nobody is killed for it. */
	ASSERT_EQ(0, print_to_file(MEMCG "/memory.max", "%ld", after + 64 * (long)PAGE));
	for (long i = pages / 2; i < pages; i++) {
		int error = poison_addr(victim->pid, *memory + i * PAGE);

		refused += error == ENOMEM;
		if (error != ENOMEM)
			EXPECT_EQ(0, error);
	}
	EXPECT_LT(0, refused);
	EXPECT_EQ(0, memcg_killed());
	end_peer(victim);
	EXPECT_STREQ("", leak());
	remove_memcg();
}

int main(int argc, char **argv)
{
	nr_rounds = repeats(50);
	if (argc == 2 && *argv[1] != '-') {
		nr_rounds = atol(argv[1]);
		argc = 1;
	}
	return test_harness_run(argc, argv);
}
