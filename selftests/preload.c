// SPDX-License-Identifier: GPL-2.0-only
/*
 * A program that knows nothing of the device runs on its memory, by preload/. The program is this one, with the name
 * of what it is to do. Programs of others are in programs/.
 */
#include "lib/fixture.h"

#define PAGES 64
#define REPORT "/tmp/anon_rmap.preload"

/* Whether @address is in a mapping of the device. */
static bool on_device(const void *address)
{
	char *maps = read_file("/proc/self/maps"), *rest = maps, *line;
	uintptr_t start, end;
	bool ours = false;

	while ((line = strsep(&rest, "\n")))
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2 && start <= (uintptr_t)address &&
		    (uintptr_t)address < end)
			ours = strstr(line, MAPPING);
	free(maps);
	return ours;
}

static char *map(int flags)
{
	return mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
}

/* What programs do with their memory; 0 if it is right, or the number of what is not. */
static int use_memory(void)
{
	char *memory = map(MAP_PRIVATE);
	int status;
	pid_t pid;

	if (memory == MAP_FAILED || !on_device(memory))
		return 1;
	if (!zeroed(memory, PAGES))
		return 2;
	fill(memory, PAGES, 1);
	pid = fork();
	if (!pid) {
		if (!filled(memory, 0, PAGES, 1))
			_exit(1);
		fill(memory, PAGES, 2);
		_exit(!filled(memory, 0, PAGES, 2));
	}
	if (waitpid(pid, &status, 0) != pid || status)
		return 3;
	if (!filled(memory, 0, PAGES, 1))
		return 4;
	memory = mremap(memory, PAGES * PAGE, 2 * PAGES * PAGE, MREMAP_MAYMOVE);
	if (memory == MAP_FAILED || !filled(memory, 0, PAGES, 1) || !zeroed(memory + PAGES * PAGE, PAGES))
		return 5;
	if (msync(memory, PAGE, MS_SYNC))
		return 6;
	return 0;
}

static int use_failed_page(void)
{
	char *memory = map(MAP_PRIVATE);

	signal(SIGBUS, SIG_DFL);
	fill(memory, PAGES, 1);
	if (poison_addr(getpid(), memory + PAGE))
		return 1;
	fill(memory, PAGES, 2);
	return 2;
}

static int maps_stack(void)
{
	return on_device(map(MAP_PRIVATE | MAP_STACK));
}

static int maps_shared(void)
{
	return on_device(map(MAP_SHARED));
}

/* Whether this process is the one that the test has forked: 0 if so. */
static int is_child(void)
{
	char parent[64], path[2][256] = {};

	snprintf(parent, sizeof(parent), "/proc/%d/exe", getppid());
	if (readlink(parent, path[0], sizeof(path[0]) - 1) < 0 ||
	    readlink("/proc/self/exe", path[1], sizeof(path[1]) - 1) < 0)
		return 2;
	return !!strcmp(path[0], path[1]);
}

static const struct {
	const char *name;
	int (*function)(void);
} uses[] = {
	{ "memory", use_memory },
	{ "failed-page", use_failed_page },
	{ "stack", maps_stack },
	{ "shared", maps_shared },
	{ "child", is_child },
};

/* The wait status of @program with @argument under anon_rmap-run with @option, or that of a failure to run. */
static int run_program(const char *option, const char *program, const char *argument)
{
	int status = -1;
	pid_t pid;

	unlink(REPORT);
	pid = fork();
	if (!pid) {
		execlp("anon_rmap-run", "anon_rmap-run", "--require", "--malloc=none", option, "--", program, argument,
		       NULL);
		_exit(127);
	}
	waitpid(pid, &status, 0);
	return status;
}

/* That of this program doing @use. */
static int run(const char *option, const char *use)
{
	char self[256] = "";

	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
		return -1;
	return run_program(option, self, use);
}

/* Whether that is a failure of anon_rmap-run. */
static bool is_refused(int status)
{
	return WIFEXITED(status) && WEXITSTATUS(status) == 125;
}

FIXTURE(preload)
{
};

FIXTURE_SETUP(preload)
{
}

FIXTURE_TEARDOWN_PARENT(preload)
{
	unlink(REPORT);
	EXPECT_STREQ("", leak());
}

TEST_F(preload, memory_is_served_and_reported)
{
	unsigned long mappings = 0, bytes = 0;
	char *report, *served;

	ASSERT_EQ(0, run("--report=" REPORT, "memory"));
	report = read_file(REPORT);
	ASSERT_NE(NULL, report);
	served = strstr(report, ": served ");
	ASSERT_NE(NULL, served);
	ASSERT_EQ(2, sscanf(served, ": served %lu mappings, %lu bytes", &mappings, &bytes));
	EXPECT_LE(1, mappings);
	EXPECT_LE(PAGES * PAGE, bytes);
	EXPECT_NE(NULL, strstr(report, "mapped now: "));
	free(report);
}

TEST_F(preload, a_failed_page_kills_the_program)
{
	int status = run("--report=" REPORT, "failed-page");

	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(SIGBUS, WTERMSIG(status));
}

TEST_F(preload, stacks_and_shared_memory_are_not_served)
{
	EXPECT_EQ(0, run("--report=" REPORT, "stack"));
	EXPECT_EQ(0, run("--report=" REPORT, "shared"));
}

TEST_F(preload, shared_memory_is_served_if_asked_for)
{
	int status = run("--shared", "shared");

	ASSERT_TRUE(WIFEXITED(status));
	EXPECT_EQ(1, WEXITSTATUS(status));
}

TEST_F(preload, the_program_has_the_process_of_anon_rmap_run)
{
	EXPECT_EQ(0, run("--shared", "child"));
}

TEST_F(preload, what_is_linked_statically_is_refused)
{
	EXPECT_TRUE(is_refused(run_program("--report=" REPORT, "/bin/busybox", "true")));
}

TEST_F(preload, an_allocator_that_is_not_there_is_missed)
{
	EXPECT_TRUE(is_refused(run("--malloc=libnosuch.so", "child")));
}

TEST_F(preload, what_was_served_nothing_has_failed)
{
	EXPECT_TRUE(is_refused(run("--report=" REPORT, "nothing")));
}

int main(int argc, char **argv)
{
	for (size_t i = 0; argc == 2 && i < sizeof(uses) / sizeof(*uses); i++)
		if (!strcmp(argv[1], uses[i].name)) {
			/* Whatever it is that is not to be served. */
			map(MAP_PRIVATE);
			return uses[i].function();
		}
	if (argc == 2 && !strcmp(argv[1], "nothing"))
		return 0;
	return test_harness_run(argc, argv);
}
