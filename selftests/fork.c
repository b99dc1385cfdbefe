// SPDX-License-Identifier: GPL-2.0-only
/*
 * A child has what its parent had at the fork, in whichever way the parent has written before and writes afterwards; also when an earlier
 * child has ended, and nothing of what the parent has is shared any more. On memory of the device, and on anonymous memory.
 */
#include <sys/uio.h>

#include "lib/fixture.h"
#include "lib/random.h"

/* Of several leaves of the amap's tree. */
#define PAGES 150

FIXTURE_ON_BOTH(fork, PAGES, true);

static bool by_itself(char *page, uint64_t value)
{
	return !store(page, value).signal;
}

static bool by_system_call(char *page, uint64_t value)
{
	return !store_by_kernel(page, value);
}

static bool by_another_process(char *page, uint64_t value)
{
	struct iovec from = { &value, sizeof(value) }, to = { page, sizeof(value) };

	return process_vm_writev(getpid(), &from, 1, &to, 1, 0) == sizeof(value);
}

/* As a debugger writes, also where the program may not. */
static bool by_force(char *page, uint64_t value)
{
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	bool written = pwrite(fd, &value, sizeof(value), (uintptr_t)page) == sizeof(value);

	close(fd);
	return written;
}

static bool after_mprotect(char *page, uint64_t value)
{
	return !mprotect(page, PAGE, PROT_READ) && !mprotect(page, PAGE, PROT_READ | PROT_WRITE) && by_itself(page, value);
}

static bool after_mremap(char *page, uint64_t value)
{
	char *away = reserve(1);

	return mremap(page, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, away) == away &&
	       mremap(away, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, page) == page && by_itself(page, value);
}

static bool after_discard(char *page, uint64_t value)
{
	return !madvise(page, PAGE, MADV_DONTNEED) && by_itself(page, value);
}

static bool after_reading(char *page, uint64_t value)
{
	return !load(page).signal && by_itself(page, value);
}

/* What the device alone can do. */

static bool after_an_undone_failure(char *page, uint64_t value)
{
	uint64_t pfn = pfn_of(page);

	return !poison_pfn(pfn) && !unpoison_pfn(pfn) && by_itself(page, value);
}

static bool after_soft_offline(char *page, uint64_t value)
{
	uint64_t pfn = pfn_of(page);

	return !soft_offline_pfn(pfn) && by_itself(page, value) && !unpoison_pfn(pfn);
}

static bool (*const ways[])(char *page, uint64_t value) = {
	by_itself, by_system_call, by_another_process, by_force, after_mprotect, after_mremap, after_discard, after_reading,
	after_an_undone_failure, after_soft_offline,
};

enum { ON_ANONYMOUS = 8, ON_DEVICE = 10 };

/* Whether @child reads @values in its pages. */
static bool child_has(struct peer *child, char *memory, const uint64_t *values)
{
	for (size_t i = 0; i < PAGES; i++) {
		struct access read = peer_load(child, memory + i * PAGE);

		if (read.signal || read.value != values[i])
			return false;
	}
	return true;
}

TEST_F(fork, a_child_has_what_its_parent_had)
{
	struct random random = { 1 };
	size_t count = variant->device ? ON_DEVICE : ON_ANONYMOUS;
	uint64_t values[PAGES], next = 1;

	for (size_t i = 0; i < PAGES; i++)
		values[i] = word(1, i);
	for (int round = 0; round < 40; round++) {
		struct peer *children[3];
		/* Of several children some end before the next is forked. */
		size_t living = 0, forks = 1 + below(&random, 3);
		uint64_t seen[3][PAGES];

		for (size_t child = 0; child < forks; child++) {
			for (int i = below(&random, 4); i > 0; i--) {
				size_t index = below(&random, PAGES), way = below(&random, count);

				values[index] = next++;
				ASSERT_TRUE(ways[way](self->memory + index * PAGE, values[index])) {
					TH_LOG("round %d: way %zu, page %zu", round, way, index);
				}
			}
			children[living] = fork_peer();
			ASSERT_NE(NULL, children[living]);
			memcpy(seen[living], values, sizeof(values));
			if (one_in(&random, 2)) {
				EXPECT_TRUE(child_has(children[living], self->memory, values));
				end_peer(children[living]);
			} else {
				living++;
			}
		}
		for (int i = 0; i < 8; i++) {
			size_t index = below(&random, PAGES), way = below(&random, count);

			values[index] = next++;
			ASSERT_TRUE(ways[way](self->memory + index * PAGE, values[index])) {
				TH_LOG("round %d: way %zu, page %zu", round, way, index);
			}
		}
		for (size_t child = 0; child < living; child++) {
			EXPECT_TRUE(child_has(children[child], self->memory, seen[child])) {
				TH_LOG("round %d", round);
			}
			end_peer(children[child]);
		}
		for (size_t i = 0; i < PAGES; i++)
			EXPECT_WORD(values[i], load(self->memory + i * PAGE));
	}
}

/* Each way alone, twice in the page that was written before: its entry may be writable then. */
TEST_F(fork, what_is_written_when_the_last_child_has_ended)
{
	size_t count = variant->device ? ON_DEVICE : ON_ANONYMOUS;

	for (size_t way = 0; way < count; way++) {
		char *page = self->memory + (way * 13 + 1) * PAGE;

		for (uint64_t round = 0; round < 3; round++) {
			struct peer *child = fork_peer();

			ASSERT_NE(NULL, child);
			end_peer(child);
			ASSERT_TRUE(ways[way](page, 10 * way + round)) {
				TH_LOG("way %zu", way);
			}
			child = fork_peer();
			ASSERT_NE(NULL, child);
			ASSERT_TRUE(ways[way](page, 1000 + 10 * way + round));
			EXPECT_WORD(10 * way + round, peer_load(child, page));
			EXPECT_WORD(1000 + 10 * way + round, load(page));
			end_peer(child);
		}
	}
}

TEST_HARNESS_MAIN
