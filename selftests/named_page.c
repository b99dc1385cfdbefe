// SPDX-License-Identifier: GPL-2.0-only
/*
 * The page that a process has at an address fails, while the process writes there and gets a copy of its own. Whichever
 * comes first, the process that was named is hit: with the page that it shares, or with its copy. Or a thread splits and
 * restores its VMA: the page is found all the time. `named_page [ROUNDS]`: how often each source is tried.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "lib/fixture.h"
#include "lib/watchdog.h"

static long nr_rounds = 150;

/* The write begins that much after the failure, at most, in rounds of nothing. */
#define MOST_DELAY 20000

static int poison_range(pid_t pid, const void *address)
{
	return print_to_file(DEBUGFS "poison_range", "%d %p %p", pid, address, (char *)address + PAGE);
}

/* The process has no other page of the device. */
static int poison_random(pid_t pid, const void *address)
{
	(void)address;
	return print_to_file(DEBUGFS "poison_random", "%d 1 1", pid);
}

static int replay(pid_t pid, const void *address)
{
	return print_to_file(DEBUGFS "replay", "pid=%d address=%p\n", pid, address);
}

/* A thread that lets a page fail in each round, when both have come together. */
struct poisoner {
	int (*fail)(pid_t pid, const void *address);
	char *address;
	int error;
	sem_t round, over;
	/* How many have come. */
	atomic_int there;
};

static void come_together(struct poisoner *poisoner)
{
	atomic_fetch_add(&poisoner->there, 1);
	while (atomic_load(&poisoner->there) < 2)
		;
}

static void *fail_in_each_round(void *argument)
{
	struct poisoner *poisoner = argument;

	for (;;) {
		while (sem_wait(&poisoner->round))
			;
		come_together(poisoner);
		poisoner->error = poisoner->fail(getpid(), poisoner->address);
		sem_post(&poisoner->over);
	}
	return NULL;
}

/*
 * A file by which the kernel reads and writes memory for a process, which is told of a failure without a signal: the
 * kernel logs each of those, and that takes long.
 */
static int file;

static bool read_by_kernel(const void *address)
{
	return pwrite(file, address, sizeof(uint64_t), 0) == sizeof(uint64_t);
}

static bool write_by_kernel(void *address)
{
	return pread(file, address, sizeof(uint64_t), 0) == sizeof(uint64_t);
}

static long read_in_peer(void *address, long unused)
{
	(void)unused;
	return read_by_kernel(address);
}

FIXTURE(named_page)
{
	struct poisoner poisoner;
};

FIXTURE_VARIANT(named_page)
{
	int (*fail)(pid_t pid, const void *address);
};

FIXTURE_VARIANT_ADD(named_page, poison_addr) { .fail = poison_addr };
FIXTURE_VARIANT_ADD(named_page, poison_range) { .fail = poison_range };
FIXTURE_VARIANT_ADD(named_page, poison_random) { .fail = poison_random };
FIXTURE_VARIANT_ADD(named_page, replay) { .fail = replay };

FIXTURE_SETUP(named_page)
{
	self->poisoner.fail = variant->fail;
}

FIXTURE_LEAVES_NOTHING(named_page);

TEST_F_TIMEOUT(named_page, is_hit_though_its_process_gets_a_copy_meanwhile, 3600)
{
	WATCHED(SECONDS_OF_A_RACE + nr_rounds / 10) {
		long errors = 0, missed = 0, hit_too = 0, copies = 0;
		struct poisoner *poisoner = &self->poisoner;
		struct peer *child = new_peer();
		unsigned int seed = 1;
		pthread_t thread;

		file = memfd_create("named_page", MFD_CLOEXEC);
		ASSERT_EQ(0, ftruncate(file, PAGE));
		sem_init(&poisoner->round, 0, 0);
		sem_init(&poisoner->over, 0, 0);
		ASSERT_EQ(0, pthread_create(&thread, NULL, fail_in_each_round, poisoner));
		for (long round = 0; round < nr_rounds; round++) {
			char *memory = map_device(1, MAP_PRIVATE);
			bool written;

			ASSERT_NE(MAP_FAILED, memory);
			EXPECT_WORD(1, store(memory, 1));
			ASSERT_EQ(0, start_peer(child, 0));
			EXPECT_WORD(1, peer_load(child, memory));
			EXPECT_WORD(1, load(memory));
			poisoner->address = memory;
			atomic_store(&poisoner->there, 0);
			sem_post(&poisoner->round);
			come_together(poisoner);
			for (unsigned int delay = rand_r(&seed) % MOST_DELAY; delay; delay--)
				atomic_load(&poisoner->there);
			written = round % 4 ? write_by_kernel(memory) : !store(memory, 2).signal;
			while (sem_wait(&poisoner->over))
				;
			errors += poisoner->error != 0;
			missed += read_by_kernel(memory);
			/* Who has written had a copy before, so the failure is not the child's. */
			hit_too += written && !peer_call(child, read_in_peer, memory, 0);
			copies += written;
			end_peer(child);
			ASSERT_EQ(0, munmap(memory, PAGE));
		}
		TH_LOG("%ld of %ld writes were first", copies, nr_rounds);
		EXPECT_EQ(0, errors);
		EXPECT_EQ(0, missed);
		EXPECT_EQ(0, hit_too);
	}
}

/* Pages of a mapping that is split at every other one, but for the last, which is the one that fails. */
#define SPLIT 256
struct splitter {
	char *memory;
	atomic_bool stop;
	atomic_long splits, errors;
};

static void *split_and_restore(void *argument)
{
	struct splitter *splitter = argument;

	while (!atomic_load(&splitter->stop)) {
		/* Each time, the VMA of the last page becomes another, or is cut. */
		for (size_t i = 1; i < SPLIT - 1; i += 2) {
			splitter->errors += mprotect(splitter->memory + i * PAGE, PAGE, PROT_READ) != 0;
			splitter->splits++;
		}
		splitter->errors += mprotect(splitter->memory, SPLIT * PAGE, PROT_READ | PROT_WRITE) != 0;
	}
	return NULL;
}

TEST_F_TIMEOUT(named_page, is_found_while_its_mapping_is_split_and_restored, 3600)
{
	WATCHED(SECONDS_OF_A_RACE + nr_rounds / 10) {
		struct splitter splitter = { .memory = map_device(SPLIT, MAP_PRIVATE) };
		char *page = splitter.memory + (SPLIT - 1) * PAGE;
		long errors = 0, missed = 0, lost = 0;
		pthread_t thread;
		uint64_t pfn;

		ASSERT_NE(MAP_FAILED, splitter.memory);
		file = memfd_create("named_page", MFD_CLOEXEC);
		ASSERT_EQ(0, ftruncate(file, PAGE));
		EXPECT_WORD(1, store(page, 1));
		pfn = pfn_of(page);
		ASSERT_NE(0, pfn);
		ASSERT_EQ(0, pthread_create(&thread, NULL, split_and_restore, &splitter));
		for (long round = 0; round < nr_rounds; round++) {
			int error = variant->fail(getpid(), page);

			if (error) {
				if (!errors++)
					TH_LOG("refused: %s", strerror(error));
				continue;
			}
			missed += read_by_kernel(page);
			ASSERT_EQ(0, unpoison_pfn(pfn));
			/* Now and then it is in no page table. */
			if (round % 4)
				lost += !read_by_kernel(page);
		}
		atomic_store(&splitter.stop, true);
		pthread_join(thread, NULL);
		EXPECT_WORD(1, load(page));
		EXPECT_EQ(0, errors);
		EXPECT_EQ(0, missed);
		EXPECT_EQ(0, lost);
		EXPECT_EQ(0, splitter.errors);
		EXPECT_LT(0, splitter.splits);
	}
}

int main(int argc, char **argv)
{
	if (argc == 2 && *argv[1] != '-') {
		nr_rounds = atol(argv[1]);
		argc = 1;
	}
	return test_harness_run(argc, argv);
}
