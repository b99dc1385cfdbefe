// SPDX-License-Identifier: GPL-2.0
/*
 * The page that a process has at an address fails, while the process writes there and gets a copy of its own. Whichever
 * comes first, the process that was named is hit: with the page that it shares, or with its copy.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "fixture.h"
#include "watchdog.h"

/* How often each door is tried. */
#define ROUNDS 600
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

/* A thread that lets pages fail when it is told to. */
struct poisoner {
	int (*fail)(pid_t pid, const void *address);
	char *address;
	int error;
	atomic_bool go;
};

static void *fail_when_told(void *argument)
{
	struct poisoner *poisoner = argument;

	for (;;) {
		while (!atomic_load(&poisoner->go))
			;
		poisoner->error = poisoner->fail(getpid(), poisoner->address);
		atomic_store(&poisoner->go, false);
	}
	return NULL;
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

FIXTURE_TEARDOWN_PARENT(named_page)
{
	EXPECT_STREQ("", leak());
}

TEST_F(named_page, is_hit_though_its_process_gets_a_copy_meanwhile)
{
	WATCHED(SECONDS_OF_A_RACE) {
		long errors = 0, missed = 0, sharer_hit_alone = 0, sharer_missed = 0, copies = 0;
		struct poisoner *poisoner = &self->poisoner;
		struct peer *child = new_peer();
		unsigned int seed = 1;
		pthread_t thread;

		ASSERT_EQ(0, pthread_create(&thread, NULL, fail_when_told, poisoner));
		for (int round = 0; round < ROUNDS; round++) {
			char *memory = map_device(1, MAP_PRIVATE);
			bool written;

			ASSERT_NE(MAP_FAILED, memory);
			EXPECT_WORD(1, store(memory, 1));
			ASSERT_EQ(0, start_peer(child, 0));
			EXPECT_WORD(1, peer_load(child, memory));
			EXPECT_WORD(1, load(memory));
			poisoner->address = memory;
			atomic_store(&poisoner->go, true);
			for (unsigned int delay = rand_r(&seed) % MOST_DELAY; delay; delay--)
				atomic_load(&poisoner->go);
			written = !store(memory, 2).signal;
			while (atomic_load(&poisoner->go))
				;
			errors += poisoner->error != 0;
			missed += load(memory).signal != SIGBUS;
			/* The child is hit if the failure has come first, and only then. */
			if (peer_load(child, memory).signal)
				sharer_hit_alone += written;
			else
				sharer_missed += !written;
			copies += written;
			end_peer(child);
			ASSERT_EQ(0, munmap(memory, PAGE));
		}
		TH_LOG("%ld of %d writes were first", copies, ROUNDS);
		EXPECT_EQ(0, errors);
		EXPECT_EQ(0, missed);
		EXPECT_EQ(0, sharer_hit_alone);
		EXPECT_EQ(0, sharer_missed);
	}
}

TEST_HARNESS_MAIN
