// SPDX-License-Identifier: GPL-2.0-only
/* Limits hold for memory of the device as they do for anonymous memory, which these tests are done on too. */
#include <sys/resource.h>

#include "lib/fixture.h"
#include "lib/memcg.h"

FIXTURE(resource_limits)
{
};

FIXTURE_VARIANTS_ON_BOTH(resource_limits);

FIXTURE_SETUP(resource_limits)
{
}

FIXTURE_LEAVES_NOTHING(resource_limits);

/* The size of this process's address space, in bytes; 0 if it can't be read. */
static size_t address_space(void)
{
	char *statm = read_file("/proc/self/statm");
	size_t pages = statm ? strtoul(statm, NULL, 10) : 0;

	free(statm);
	return pages * PAGE;
}

TEST_F(resource_limits, address_space)
{
	struct rlimit limit, former;
	char *memory, *more;

	ASSERT_EQ(0, getrlimit(RLIMIT_AS, &former));
	limit = (struct rlimit){ address_space() + 64 * PAGE, former.rlim_max };
	ASSERT_LT(64 * PAGE, limit.rlim_cur);
	ASSERT_EQ(0, setrlimit(RLIMIT_AS, &limit));
	memory = map_private(variant->device, 32);
	ASSERT_NE(MAP_FAILED, memory);
	fill(memory, 32, 1);
	EXPECT_EQ(MAP_FAILED, map_private(variant->device, 33));
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_EQ(MAP_FAILED, mremap(memory, 32 * PAGE, 65 * PAGE, MREMAP_MAYMOVE));
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_TRUE(filled(memory, 0, 32, 1));
	memory = mremap(memory, 32 * PAGE, 64 * PAGE, MREMAP_MAYMOVE);
	ASSERT_NE(MAP_FAILED, memory);
	EXPECT_TRUE(filled(memory, 0, 32, 1));
	ASSERT_EQ(0, setrlimit(RLIMIT_AS, &former));
	more = map_private(variant->device, 33);
	ASSERT_NE(MAP_FAILED, more);
	EXPECT_TRUE(zeroed(more, 33));
}

/* What the cgroup may have. */
#define LIMIT_PAGES 4096UL

/* Makes a cgroup with that limit; false if there are no cgroups. */
static bool make_limited_memcg(void)
{
	return make_memcg() && !print_to_file(MEMCG "/memory.max", "%lu", LIMIT_PAGES * PAGE);
}

/* The pages that are charged to the cgroup. */
static long charged(void)
{
	long bytes = memcg_charged();

	return bytes < 0 ? -1 : bytes / (long)PAGE;
}

static bool is_charged_at_most(uint64_t pages)
{
	long now = charged();

	return now >= 0 && now <= (long)pages;
}

static long fill_here(void *memory, long pages)
{
	fill(memory, pages, 1);
	return 0;
}

static long drop_here(void *memory, long pages)
{
	return madvise(memory, pages * PAGE, MADV_DONTNEED) ? errno : 0;
}

TEST_F(resource_limits, memory_is_charged_to_the_cgroup)
{
	/* The kernel charges in batches, and page tables and nodes of the amap too. */
	const long some = LIMIT_PAGES / 2, slack = some / 4;
	char *memory = map_private(variant->device, some);
	struct peer *child;
	long before;

	ASSERT_NE(MAP_FAILED, memory);
	if (!make_limited_memcg())
		SKIP(return, "no memory cgroups");
	child = fork_peer();
	ASSERT_NE(NULL, child);
	ASSERT_EQ(0, peer_call(child, join_memcg, NULL, 0));
	before = charged();
	peer_call(child, fill_here, memory, some);
	EXPECT_LE(before + some - slack, charged());
	EXPECT_GE(before + some + slack, charged());
	ASSERT_EQ(0, peer_call(child, drop_here, memory, some));
	EXPECT_GE(before + slack, charged());
	peer_call(child, fill_here, memory, some);
	EXPECT_LE(before + some - slack, charged());
	end_peer(child);
	/* Some is freed with a delay. */
	EXPECT_TRUE(await(is_charged_at_most, slack));
	EXPECT_EQ(0, memcg_killed());
	remove_memcg();
}

TEST_F(resource_limits, who_wants_more_than_the_cgroup_may_have_is_killed)
{
	const long many = 2 * LIMIT_PAGES;
	char *memory = map_private(variant->device, many);
	struct peer *bystander;
	int status;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, memory);
	fill(memory, 8, 1);
	if (!make_limited_memcg())
		SKIP(return, "no memory cgroups");
	bystander = fork_peer();
	ASSERT_NE(NULL, bystander);
	pid = fork();
	if (!pid) {
		join_memcg(NULL, 0);
		fill(memory, many, 2);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(SIGKILL, WTERMSIG(status));
	EXPECT_EQ(1, memcg_killed());
	/* It was not theirs. */
	EXPECT_TRUE(filled(memory, 0, 8, 1));
	EXPECT_WORD(word(1, 7), peer_load(bystander, memory + 7 * PAGE));
	EXPECT_TRUE(await(is_charged_at_most, LIMIT_PAGES / 16));
	remove_memcg();
}

TEST_HARNESS_MAIN
