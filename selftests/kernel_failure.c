// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the kernel's own failures do to a page, of the device or of anonymous memory: nobody goes on to read what the kernel
 * has marked as bad. Many of them at once, and while they are undone.
 */
#include <pthread.h>
#include <sched.h>
#include <sys/sysinfo.h>

#include "lib/fixture.h"
#include "lib/hwpoison.h"
#include "lib/pool.h"
#include "lib/random.h"

#define PAGES 8

FIXTURE(kernel_failure)
{
	char *memory;
	/* Shares all. */
	struct peer *child;
};

FIXTURE_VARIANTS_ON_BOTH(kernel_failure);

FIXTURE_SETUP(kernel_failure)
{
	uint64_t first_pfn;

	if (pool(&first_pfn))
		SKIP(return, "the kernel asks the driver, see device_memory.c");
	ASSERT_MAPPED(PAGES);
	fill(self->memory, PAGES, 1);
	self->child = fork_peer();
	ASSERT_NE(NULL, self->child);
	for (size_t i = 0; i < PAGES; i++)
		EXPECT_WORD(word(1, i), peer_load(self->child, self->memory + i * PAGE));
}

FIXTURE_LEAVES_NOTHING(kernel_failure);

static bool is_refused(uint64_t address)
{
	return load((void *)address).signal == SIGBUS;
}

#define EXPECT_FAILED(page, pfn) do {							\
	char *failed = self->memory + (page) * PAGE;					\
	struct peer *newcomer;								\
											\
	EXPECT_TRUE(is_marked_bad(pfn));							\
	if (variant->device) {								\
		EXPECT_TRUE(await(is_taken_away, pfn));					\
	}										\
	EXPECT_TRUE(await(is_refused, (uint64_t)failed));				\
	EXPECT_SIGBUS(failed, load(failed));						\
	EXPECT_SIGBUS(failed, peer_load(self->child, failed));				\
	newcomer = fork_peer();								\
	ASSERT_NE(NULL, newcomer);							\
	EXPECT_EQ(SIGBUS, peer_load(newcomer, failed).signal);				\
	end_peer(newcomer);								\
	for (size_t i = 0; i < PAGES; i++)						\
		if (i != (page))							\
			EXPECT_WORD(word(1, i), load(self->memory + i * PAGE));		\
} while (0)

TEST_F(kernel_failure, madvise_hwpoison)
{
	uint64_t pfn = pfn_of(self->memory + 3 * PAGE);
	struct access access = {};
	struct poisoned page;
	int error = 0;

	/* Anonymous memory is gone before the call returns, with a signal. */
	ATTEMPT(access, error = madvise(self->memory + 3 * PAGE, PAGE, MADV_HWPOISON) ? errno : 0);
	if (error == EINVAL || error == EPERM)
		SKIP(return, "the kernel injects no failures");
	EXPECT_FAILED(3, pfn);
	if (variant->device) {
		ASSERT_TRUE(read_poisoned(pfn, &page));
		EXPECT_STREQ("simulated", page.kind);
		EXPECT_STREQ("memory_failure", page.source);
	}
}

TEST_F(kernel_failure, hard_offline_page)
{
	uint64_t pfn = pfn_of(self->memory + 5 * PAGE);
	int error = print_to_file(HARD_OFFLINE_PAGE, "%#lx", pfn << PAGE_SHIFT);

	if (error == ENOENT)
		SKIP(return, "the kernel has no such file");
	EXPECT_FAILED(5, pfn);
}

/* The kernel would free what is in use: it has to be refused. What a soft offline has left is nobody's. */
TEST_F(kernel_failure, undone_by_the_kernel)
{
	static const char *const sources[] = { "hard_offline", "soft_offline", NULL };
	long before;

	if (!variant->device)
		SKIP(return, "only of the device");
	if (!has_hwpoison_inject())
		SKIP(return, "no hwpoison-inject");
	for (size_t i = 0; i < sizeof(sources) / sizeof(*sources); i++) {
		uint64_t pfn = pfn_of(self->memory + i * PAGE);
		int error;

		if (!sources[i]) {
			madvise(self->memory + i * PAGE, PAGE, MADV_HWPOISON);
		} else if (strcmp(sources[i], "hard_offline")) {
			ASSERT_EQ(0, soft_offline_pfn(pfn));
		} else {
			ASSERT_EQ(0, poison_pfn(pfn));
			ASSERT_EQ(0, hard_offline_pfn(pfn));
		}
		ASSERT_TRUE(is_marked_bad(pfn));
		if (!sources[i]) {
			ASSERT_TRUE(await(is_taken_away, pfn));
		}
		before = corrupted();
		error = undo_by_kernel(pfn);
		if (error == EOPNOTSUPP)
			SKIP(return, "real hardware has failed: the kernel undoes nothing");
		if (sources[i] && !strcmp(sources[i], "soft_offline")) {
			EXPECT_EQ(0, error);
			EXPECT_FALSE(is_marked_bad(pfn));
			EXPECT_EQ(before - 4, corrupted());
			EXPECT_EQ(ENXIO, unpoison_pfn(pfn));
			EXPECT_WORD(word(1, i), load(self->memory + i * PAGE));
		} else {
			EXPECT_EQ(EBUSY, error);
			EXPECT_TRUE(is_marked_bad(pfn));
			EXPECT_EQ(before, corrupted());
			EXPECT_SIGBUS(self->memory + i * PAGE, load(self->memory + i * PAGE));
		}
	}
}

/* The kernel can't move a page that is in no list of its own. */
TEST_F(kernel_failure, madvise_soft_offline)
{
	char *moved = self->memory + 2 * PAGE;
	uint64_t pfn = pfn_of(moved);
	int error = madvise(moved, PAGE, MADV_SOFT_OFFLINE) ? errno : 0;

	if (error == EINVAL || error == EPERM)
		SKIP(return, "the kernel takes no pages offline");
	if (variant->device) {
		EXPECT_NE(0, error);
		EXPECT_FALSE(is_marked_bad(pfn));
		EXPECT_EQ(pfn, pfn_of(moved));
	} else {
		EXPECT_EQ(0, error);
		EXPECT_TRUE(is_marked_bad(pfn));
	}
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
	EXPECT_WORD(word(1, 2), peer_load(self->child, moved));
}

/* More pages than the driver has room for at a time. */
#define MANY 400

FIXTURE(many_failures)
{
	char *memory;
	uint64_t pfns[MANY];
	/* Before they fail. */
	long corrupted, quarantined;
};

FIXTURE_SETUP(many_failures)
{
	uint64_t first_pfn;

	if (pool(&first_pfn))
		SKIP(return, "the kernel asks the driver, see device_memory.c");
	if (!has_hwpoison_inject())
		SKIP(return, "no hwpoison-inject");
	self->memory = map_device(MANY, MAP_PRIVATE);
	ASSERT_NE(MAP_FAILED, self->memory);
	fill(self->memory, MANY, 1);
	for (size_t i = 0; i < MANY; i++)
		self->pfns[i] = pfn_of(self->memory + i * PAGE);
	self->corrupted = corrupted();
	self->quarantined = counter("quarantined");
}

FIXTURE_LEAVES_NOTHING(many_failures);

static int set_scheduler(int policy, int priority)
{
	struct sched_param parameters = { .sched_priority = priority };

	return sched_setscheduler(0, policy, &parameters);
}

static int run_on(int cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	return sched_setaffinity(0, sizeof(cpus), &cpus);
}

/* Processes that keep the kernel's workers from all CPUs but one, which this process keeps for itself. */
struct keepers {
	pid_t pids[64];
	int nr;
	cpu_set_t cpus;
};

static bool keep_cpus(struct keepers *keepers)
{
	volatile int *kept = map_shared(PAGE);
	pid_t parent = getpid();

	sched_getaffinity(0, sizeof(keepers->cpus), &keepers->cpus);
	if (run_on(0))
		return false;
	for (int cpu = 1; cpu < get_nprocs() && keepers->nr < 64; cpu++) {
		pid_t pid = fork();

		if (!pid) {
			die_with(parent);
			/* For a while: no test may take a CPU for good. */
			alarm(20);
			if (run_on(cpu) || set_scheduler(SCHED_FIFO, 1))
				_exit(1);
			for (*kept = cpu; ; )
				;
		}
		keepers->pids[keepers->nr++] = pid;
		while (*kept != cpu && !is_dead(pid))
			usleep(1000);
	}
	return *kept == keepers->nr && !set_scheduler(SCHED_FIFO, 2);
}

static void leave_cpus(struct keepers *keepers)
{
	for (int i = 0; i < keepers->nr; i++) {
		kill(keepers->pids[i], SIGKILL);
		waitpid(keepers->pids[i], NULL, 0);
	}
	set_scheduler(SCHED_OTHER, 0);
	sched_setaffinity(0, sizeof(keepers->cpus), &keepers->cpus);
}

static bool are_poisoned(uint64_t pages)
{
	return counter("poisoned") == (long)pages;
}

/* How many of the pages have a line of @file that begins with their frame and has @words. */
static size_t listed(const char *file, const uint64_t *pfns, const char *words)
{
	char *text = read_file(file);
	size_t pages = 0;

	for (size_t i = 0; text && i < MANY; i++) {
		char frame[32], *line, *end, *found;

		snprintf(frame, sizeof(frame), "pfn=%#lx ", pfns[i]);
		line = strstr(text, frame);
		end = line ? strchr(line, '\n') : NULL;
		found = line ? strstr(line, words) : NULL;
		pages += found && found < end;
	}
	free(text);
	return pages;
}

/* Whether the kernel lets the page at @page fail; who has it mapped may get a signal. */
static bool fail_page(char *page)
{
	struct access access = {};
	int error = 0;

	ATTEMPT(access, error = madvise(page, PAGE, MADV_HWPOISON) ? errno : 0);
	return error != EINVAL && error != EPERM;
}

static bool fail_all(char *memory)
{
	bool fails = true;

	for (size_t i = 0; fails && i < MANY; i++)
		fails = fail_page(memory + i * PAGE);
	return fails;
}

/* How often @undo does not return @expected. */
static size_t undone_otherwise(int (*undo)(uint64_t pfn), const uint64_t *pfns, int expected)
{
	size_t others = 0;

	for (size_t i = 0; i < MANY; i++)
		others += undo(pfns[i]) != expected;
	return others;
}

static size_t marked(const uint64_t *pfns)
{
	size_t frames = 0;

	for (size_t i = 0; i < MANY; i++)
		frames += is_marked_bad(pfns[i]);
	return frames;
}

TEST_F(many_failures, are_drills_that_can_be_undone)
{
	struct keepers keepers = {};
	bool kept = keep_cpus(&keepers), has_failed = fail_all(self->memory);
	size_t refused = 0;

	leave_cpus(&keepers);
	if (!has_failed)
		SKIP(return, "the kernel injects no failures");
	EXPECT_TRUE(kept);
	EXPECT_TRUE(await(are_poisoned, MANY));
	EXPECT_EQ(MANY, listed(DEBUGFS "poisoned", self->pfns, " kind=simulated source=memory_failure "));
	EXPECT_EQ(MANY, marked(self->pfns));
	EXPECT_EQ(self->corrupted + 4 * MANY, corrupted());
	for (size_t i = 0; i < MANY; i++)
		refused += await(is_refused, (uint64_t)self->memory + i * PAGE);
	EXPECT_EQ(MANY, refused);
	if (undo_by_kernel(self->pfns[0]) != EOPNOTSUPP) {
		EXPECT_EQ(0, undone_otherwise(undo_by_kernel, self->pfns, EBUSY));
	}
	EXPECT_EQ(0, undone_otherwise(unpoison_pfn, self->pfns, 0));
	EXPECT_EQ(0, marked(self->pfns));
	EXPECT_EQ(self->corrupted, corrupted());
	EXPECT_EQ(self->quarantined, counter("quarantined"));
	EXPECT_TRUE(filled(self->memory, 0, MANY, 1));
}

/* Before the driver comes to most of them. */
TEST_F(many_failures, are_listed_and_undone_when_nobody_has_the_pages)
{
	struct keepers keepers = {};
	bool kept = keep_cpus(&keepers), has_failed = fail_all(self->memory);
	int error = munmap(self->memory, MANY * PAGE);

	leave_cpus(&keepers);
	if (!has_failed)
		SKIP(return, "the kernel injects no failures");
	EXPECT_TRUE(kept);
	ASSERT_EQ(0, error);
	EXPECT_TRUE(await(is_quarantined, self->quarantined + MANY));
	EXPECT_EQ(MANY, listed(DEBUGFS "quarantine", self->pfns, " kind=software\n"));
	/* The driver still has those that it is handling. */
	EXPECT_TRUE(await(are_poisoned, 0));
	EXPECT_EQ(self->corrupted + 4 * MANY, corrupted());
	EXPECT_EQ(0, undone_otherwise(unpoison_pfn, self->pfns, 0));
	EXPECT_EQ(0, marked(self->pfns));
	EXPECT_EQ(self->corrupted, corrupted());
	EXPECT_EQ(self->quarantined, counter("quarantined"));
}

/* Two who write the number of a frame to their files at once, round by round; each page is of one round. */
#define ROUNDS 100

FIXTURE(at_once)
{
	char *memory;
	uint64_t pfns[ROUNDS];
	long corrupted, quarantined;
};

FIXTURE_SETUP(at_once)
{
	uint64_t first_pfn;

	if (pool(&first_pfn))
		SKIP(return, "the kernel asks the driver, see device_memory.c");
	if (!has_hwpoison_inject())
		SKIP(return, "no hwpoison-inject");
	self->memory = map_device(ROUNDS, MAP_PRIVATE);
	ASSERT_NE(MAP_FAILED, self->memory);
	fill(self->memory, ROUNDS, 1);
	for (size_t i = 0; i < ROUNDS; i++)
		self->pfns[i] = pfn_of(self->memory + i * PAGE);
	self->corrupted = corrupted();
	self->quarantined = counter("quarantined");
}

FIXTURE_LEAVES_NOTHING(at_once);

static pthread_barrier_t together;

struct writer {
	int fd;
	/* Turns of a loop by which it comes later. */
	uint64_t delay;
	char text[32];
};

static void *write_together(void *argument)
{
	struct writer *writer = argument;
	ssize_t unused;

	pthread_barrier_wait(&together);
	for (volatile uint64_t turn = 0; turn < writer->delay; turn++)
		;
	unused = write(writer->fd, writer->text, strlen(writer->text));
	(void)unused;
	return NULL;
}

/* Each comes up to @most turns late, by chance. */
static void write_both(const int *fds, uint64_t pfn, struct random *random, uint64_t most)
{
	struct writer writers[2];
	pthread_t threads[2];

	pthread_barrier_init(&together, NULL, 2);
	for (int i = 0; i < 2; i++) {
		writers[i] = (struct writer){ .fd = fds[i], .delay = below(random, most) };
		snprintf(writers[i].text, sizeof(writers[i].text), "%#lx", pfn);
		if (pthread_create(&threads[i], NULL, write_together, &writers[i]))
			abort();
	}
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&together);
}

/* A drill that the driver has yet to come to is undone later. */
static bool is_undone(uint64_t pfn)
{
	int error = unpoison_pfn(pfn);

	return (!error || error == ENOENT) && !is_poisoned(pfn) && !is_marked_bad(pfn);
}

#define EXPECT_NOTHING_LEFT() do {						\
	size_t undone = 0;							\
										\
	for (size_t i = 0; i < ROUNDS; i++)					\
		undone += await(is_undone, self->pfns[i]);			\
	EXPECT_EQ(ROUNDS, undone);						\
	EXPECT_TRUE(filled(self->memory, 0, ROUNDS, 1));			\
	for (size_t i = 0; i < ROUNDS; i++)					\
		EXPECT_EQ(self->pfns[i], pfn_of(self->memory + i * PAGE));	\
	EXPECT_EQ(self->corrupted, corrupted());				\
	EXPECT_EQ(self->quarantined, counter("quarantined"));			\
	EXPECT_TRUE(verified());						\
} while (0)

TEST_F(at_once, a_drill_is_undone_and_the_kernel_lets_the_page_fail)
{
	const int fds[] = { open(DEBUGFS "unpoison_pfn", O_WRONLY | O_CLOEXEC),
			    open(HWPOISON_CORRUPT_PFN, O_WRONLY | O_CLOEXEC) };
	struct random random = { 1 };

	for (size_t i = 0; i < ROUNDS; i++) {
		ASSERT_EQ(0, poison_pfn(self->pfns[i]));
		write_both(fds, self->pfns[i], &random, 30000);
	}
	EXPECT_NOTHING_LEFT();
}

static bool is_marked_and_poisoned(uint64_t pfn)
{
	return is_marked_bad(pfn) && is_taken_away(pfn);
}

TEST_F(at_once, a_drill_of_the_kernel_is_undone_by_the_driver_and_by_the_kernel)
{
	const int fds[] = { open(DEBUGFS "unpoison_pfn", O_WRONLY | O_CLOEXEC),
			    open(HWPOISON_UNPOISON_PFN, O_WRONLY | O_CLOEXEC) };
	struct random random = { 1 };

	for (size_t i = 0; i < ROUNDS; i++) {
		print_to_file(HWPOISON_CORRUPT_PFN, "%#lx", self->pfns[i]);
		ASSERT_TRUE(await(is_marked_and_poisoned, self->pfns[i]));
		write_both(fds, self->pfns[i], &random, 2000);
	}
	EXPECT_NOTHING_LEFT();
}

TEST_HARNESS_MAIN
