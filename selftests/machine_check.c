// SPDX-License-Identifier: GPL-2.0-only
/*
 * Machine checks, as the processor reports them: QEMU's monitor injects them into CPU 1. See
 * qemu/machine-check-test, which runs this.
 */
#include <sched.h>
#include <sys/prctl.h>
#include <sys/sysinfo.h>
#include "lib/fixture.h"
#include "lib/hwpoison.h"
#include "lib/pool.h"
#include "lib/stuck.h"

#define MCE_CPU 1

/* An uncorrected error in the memory at physical address @pfn << PAGE_SHIFT. */
enum error {
	/* Found by the scrubber: nobody has used the data. */
	ACTION_OPTIONAL,
	/* Loaded by what runs in user mode on the CPU. */
	ACTION_REQUIRED,
};

static void machine_check(enum error error, uint64_t pfn)
{
	const uint64_t status = error == ACTION_OPTIONAL ? 0xbd000000000000c0 : 0xbd80000000000134;

	/* CPU, bank, IA32_MC1_STATUS, IA32_MCG_STATUS, IA32_MC1_ADDR, IA32_MC1_MISC. */
	dprintf(STDOUT_FILENO, "monitor: mce %d 1 %#lx 0xf %#lx 0x8c\n", MCE_CPU, status, pfn << PAGE_SHIFT);
}

static bool is_bad_hardware(uint64_t pfn)
{
	struct poisoned page;

	return read_poisoned(pfn, &page) && !strcmp(page.kind, "hardware");
}

/* Open files of debugfs that have been read once: to read them again the driver needs no memory. */
static int open_stats = -1, open_poisoned = -1;

/* What is in one of them now. */
static const char *reread(int fd)
{
	static char text[1 << 16];
	size_t length = 0;
	ssize_t part;

	lseek(fd, 0, SEEK_SET);
	while ((part = read(fd, text + length, sizeof(text) - 1 - length)) > 0)
		length += part;
	text[length] = '\0';
	return text;
}

static long counter_now(const char *name)
{
	return open_stats < 0 ? counter(name) : counter_in(reread(open_stats), name);
}

static bool is_counted(uint64_t machine_checks)
{
	return counter_now("machine_checks_total") == (long)machine_checks;
}

/* Whether the kernel counts more than @kilobytes of bad memory. */
static bool corrupted_more_than(uint64_t kilobytes)
{
	return corrupted() > (long)kilobytes;
}

/* Whether pages are device memory: the kernel's own handler calls the driver then. */
static bool has_pool(void)
{
	uint64_t first_pfn;

	return pool(&first_pfn);
}

FIXTURE(machine_check)
{
	char *memory;
	size_t pages;
};

#ifdef __x86_64__
#define HAS_MACHINE_CHECKS true
#else
#define HAS_MACHINE_CHECKS false
#endif

FIXTURE_SETUP(machine_check)
{
	if (!HAS_MACHINE_CHECKS)
		SKIP(return, "machine checks are those of x86");
	if (!getenv("MONITOR") || get_nprocs() <= MCE_CPU)
		SKIP(return, "needs QEMU's monitor and a CPU %d", MCE_CPU);
	self->pages = 16;
	self->memory = map_device(self->pages, MAP_PRIVATE);
	ASSERT_NE(MAP_FAILED, self->memory);
	fill(self->memory, self->pages, 1);
}

FIXTURE_LEAVES_NOTHING(machine_check);

static bool is_never_undone(uint64_t pfn)
{
	return undo_by_kernel(pfn) == EOPNOTSUPP;
}

static bool is_marked_and_taken_away(uint64_t pfn)
{
	return is_marked_bad(pfn) && is_taken_away(pfn);
}

/* The frame is marked already, and the kernel has yet to hear of the hardware: which it can only once, so this test is the first. */
TEST_F(machine_check, takes_the_place_of_a_drill_of_the_kernel)
{
	uint64_t pfn = pfn_of(self->memory);
	struct poisoned page;
	long before;

	if (has_pool())
		SKIP(return, "the kernel asks the driver");
	if (!can_undo())
		SKIP(return, "no hwpoison-inject, or real hardware has failed");
	before = corrupted();
	print_to_file(HWPOISON_CORRUPT_PFN, "%#lx", pfn);
	ASSERT_TRUE(await(is_marked_and_taken_away, pfn));
	ASSERT_TRUE(read_poisoned(pfn, &page));
	EXPECT_STREQ("simulated", page.kind);
	EXPECT_STREQ("memory_failure", page.source);
	EXPECT_EQ(before + 4, corrupted());
	machine_check(ACTION_OPTIONAL, pfn);
	ASSERT_TRUE(await(is_bad_hardware, pfn));
	ASSERT_TRUE(read_poisoned(pfn, &page));
	EXPECT_STREQ("machine_check", page.source);
	EXPECT_EQ(EPERM, unpoison_pfn(pfn));
	EXPECT_TRUE(await(is_never_undone, pfn));
	EXPECT_EQ(before + 4, corrupted());
	EXPECT_SIGBUS(self->memory, load(self->memory));
	/* Nor when nobody has it. */
	ASSERT_EQ(0, munmap(self->memory, self->pages * PAGE));
	EXPECT_EQ(EOPNOTSUPP, undo_by_kernel(pfn));
	EXPECT_EQ(EPERM, unpoison_pfn(pfn));
	EXPECT_TRUE(is_marked_bad(pfn));
	EXPECT_EQ(before + 4, corrupted());
}

/* Nor does the kernel know that from a mark of the driver's. */
TEST_F(machine_check, takes_the_place_of_a_hard_offline)
{
	long before = corrupted(), total = counter("machine_checks_total");
	uint64_t pfn = pfn_of(self->memory);
	struct poisoned page;

	if (has_pool())
		SKIP(return, "the kernel asks the driver");
	ASSERT_EQ(0, hard_offline_pfn(pfn));
	EXPECT_TRUE(is_marked_bad(pfn));
	EXPECT_EQ(before + 4, corrupted());
	machine_check(ACTION_OPTIONAL, pfn);
	ASSERT_TRUE(await(is_counted, total + 1));
	if (has_hwpoison_inject()) {
		EXPECT_TRUE(await(is_never_undone, pfn));
	}
	ASSERT_TRUE(read_poisoned(pfn, &page));
	EXPECT_STREQ("hardware", page.kind);
	EXPECT_EQ(before + 4, corrupted());
	EXPECT_EQ(EPERM, unpoison_pfn(pfn));
	EXPECT_SIGBUS(self->memory, load(self->memory));
	ASSERT_EQ(0, munmap(self->memory, self->pages * PAGE));
	if (has_hwpoison_inject()) {
		EXPECT_EQ(EOPNOTSUPP, undo_by_kernel(pfn));
	}
	EXPECT_TRUE(is_marked_bad(pfn));
	EXPECT_EQ(before + 4, corrupted());
}

/* Who had the page is listed when it has been taken away. */
static bool has_hit_two(uint64_t pfn)
{
	struct poisoned page;

	return is_taken_away(pfn) && read_poisoned(pfn, &page) && page.hit == 2;
}

TEST_F(machine_check, action_optional)
{
	long total = counter("machine_checks_total");
	struct poisoned page;
	struct peer *child;
	uint64_t pfn;

	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_WORD(1UL << 32, peer_load(child, self->memory));
	EXPECT_WORD(1UL << 32, load(self->memory));
	pfn = pfn_of(self->memory);
	machine_check(ACTION_OPTIONAL, pfn);
	ASSERT_TRUE(await(has_hit_two, pfn));
	ASSERT_TRUE(read_poisoned(pfn, &page));
	EXPECT_STREQ("hardware", page.kind);
	EXPECT_STREQ(has_pool() ? "device_memory" : "machine_check", page.source);
	EXPECT_EQ(has_pool() ? total : total + 1, counter("machine_checks_total"));
	EXPECT_SIGBUS(self->memory + 8, load(self->memory + 8));
	EXPECT_SIGBUS(self->memory + 16, store(self->memory + 16, 1));
	EXPECT_SIGBUS(self->memory + 8, peer_load(child, self->memory + 8));
	EXPECT_TRUE(filled(self->memory, 1, self->pages - 1, 1));
	/* Device memory is not in kpageflags. */
	EXPECT_EQ(!has_pool(), has_pool() ? is_marked_bad(pfn) : await(is_marked_bad, pfn));
}

static bool is_recovered_from(uint64_t failures)
{
	return counts().recovered == (long)failures;
}

/* As one in anonymous memory: once, and with one line in the trace. */
TEST_F(machine_check, is_counted_and_traced_by_the_kernel)
{
	for (int device = 0; device < 2; device++) {
		char *memory = device ? self->memory : map_private(false, 1);
		struct counts before = counts();
		bool traces = begin_trace();
		int events, recoveries;
		uint64_t pfn;

		ASSERT_NE(MAP_FAILED, memory);
		fill(memory, 1, 1);
		pfn = pfn_of(memory);
		events = traced(pfn, "");
		recoveries = traced(pfn, "Recovered");
		machine_check(ACTION_OPTIONAL, pfn);
		EXPECT_TRUE(await(is_recovered_from, before.recovered + 1));
		EXPECT_COUNTED(before, 1, 1);
		EXPECT_SIGBUS(memory, load(memory));
		if (traces) {
			EXPECT_EQ(events + 1, traced(pfn, ""));
			EXPECT_EQ(recoveries + 1, traced(pfn, "Recovered"));
		}
		/* The kernel takes the counts of device memory back when that goes. */
		if (!has_pool()) {
			EXPECT_TRUE(await(is_marked_bad, pfn));
		}
	}
}

TEST_F(machine_check, failed_hardware_is_not_unpoisoned)
{
	uint64_t pfn = pfn_of(self->memory);

	machine_check(ACTION_OPTIONAL, pfn);
	ASSERT_TRUE(await(is_taken_away, pfn));
	EXPECT_EQ(EPERM, unpoison_pfn(pfn));
	EXPECT_EQ(EHWPOISON, poison_pfn(pfn));
	EXPECT_SIGBUS(self->memory, load(self->memory));
}

TEST_F(machine_check, frame_is_never_used_again)
{
	long quarantined = counter("quarantined");
	uint64_t pfn = pfn_of(self->memory);

	machine_check(ACTION_OPTIONAL, pfn);
	ASSERT_TRUE(await(is_poisoned, pfn));
	ASSERT_EQ(0, madvise(self->memory, PAGE, MADV_DONTNEED));
	/* Who handles the machine check has the page until that has ended. */
	EXPECT_TRUE(await(is_not_poisoned, pfn));
	EXPECT_EQ(quarantined + 1, counter("quarantined"));
	EXPECT_EQ(!has_pool(), has_pool() ? is_marked_bad(pfn) : await(is_marked_bad, pfn));
	EXPECT_EQ(EPERM, unpoison_pfn(pfn));
	EXPECT_TRUE(zeroed(self->memory, 1));
	EXPECT_NE(pfn, pfn_of(self->memory));
}

TEST_F(machine_check, frame_of_the_pool_that_nobody_uses)
{
	long quarantined = counter("quarantined");
	uint64_t pfn = pfn_of(self->memory);

	if (!has_pool())
		SKIP(return, "a frame that nobody uses is the kernel's");
	ASSERT_EQ(0, madvise(self->memory, PAGE, MADV_DONTNEED));
	machine_check(ACTION_OPTIONAL, pfn);
	ASSERT_TRUE(await(is_quarantined, quarantined + 1));
	EXPECT_EQ(EPERM, unpoison_pfn(pfn));
	EXPECT_TRUE(zeroed(self->memory, 1));
	EXPECT_NE(pfn, pfn_of(self->memory));
}

/* What was in the pipe before stays there, and who reads it must find it mapped. */
TEST_F(machine_check, frame_out_of_use_that_a_pipe_still_has)
{
	long total = counter("machine_checks_total");
	uint64_t pfn = pfn_of(self->memory);
	struct iovec page = { self->memory, PAGE };
	char content[PAGE];
	int ends[2];

	if (has_pool())
		SKIP(return, "device memory stays mapped");
	ASSERT_EQ(0, pipe(ends));
	ASSERT_EQ(PAGE, vmsplice(ends[1], &page, 1, 0));
	ASSERT_EQ(0, hard_offline_pfn(pfn));
	ASSERT_EQ(0, madvise(self->memory, PAGE, MADV_DONTNEED));
	machine_check(ACTION_OPTIONAL, pfn);
	ASSERT_TRUE(await(is_counted, total + 1));
	EXPECT_EQ(PAGE, read(ends[0], content, PAGE));
	close(ends[0]);
	close(ends[1]);
}

/* Nobody has it mapped, and the kernel marks it as it does a page that it does not know. */
TEST_F(machine_check, page_that_only_a_pipe_has)
{
	uint64_t pfn = pfn_of(self->memory), next_pfn = pfn_of(self->memory + PAGE);
	struct iovec page = { self->memory, PAGE };
	char content[PAGE];
	int ends[2];

	ASSERT_EQ(0, pipe(ends));
	ASSERT_EQ(PAGE, vmsplice(ends[1], &page, 1, 0));
	ASSERT_EQ(0, madvise(self->memory, PAGE, MADV_DONTNEED));
	machine_check(ACTION_OPTIONAL, pfn);
	EXPECT_TRUE(await(is_listed_as_hardware, pfn));
	/* The kernel is done with one machine check before it comes to the next. */
	machine_check(ACTION_OPTIONAL, next_pfn);
	EXPECT_TRUE(await(is_bad_hardware, next_pfn));
	/* The kernel has taken device memory from the direct map, and says so to who reads it. */
	EXPECT_EQ(has_pool() ? -1 : PAGE, read(ends[0], content, PAGE));
	close(ends[0]);
	close(ends[1]);
	/* For good. */
	EXPECT_EQ(EPERM, unpoison_pfn(pfn));
	EXPECT_TRUE(is_listed_as_hardware(pfn));
}

TEST_F(machine_check, frame_that_soft_offline_has_put_aside)
{
	long quarantined = counter("quarantined"), total = counter("machine_checks_total");
	long poisonings = counter("poisonings_total");
	uint64_t pfn = pfn_of(self->memory), before = corrupted();

	ASSERT_EQ(0, soft_offline_pfn(pfn));
	machine_check(ACTION_OPTIONAL, pfn);
	ASSERT_TRUE(has_pool() ? await(corrupted_more_than, before) : await(is_counted, total + 1));
	/* It is bad for good, and nobody had it. */
	EXPECT_EQ(EPERM, unpoison_pfn(pfn));
	EXPECT_EQ(quarantined + 1, counter("quarantined"));
	EXPECT_EQ(poisonings, counter("poisonings_total"));
	EXPECT_TRUE(filled(self->memory, 0, self->pages, 1));
	EXPECT_NE(pfn, pfn_of(self->memory));
}

TEST_F(machine_check, takes_the_place_of_a_drill)
{
	uint64_t pfn = pfn_of(self->memory);

	ASSERT_EQ(0, poison_pfn(pfn));
	machine_check(ACTION_OPTIONAL, pfn);
	ASSERT_TRUE(await(is_bad_hardware, pfn));
	EXPECT_EQ(EPERM, unpoison_pfn(pfn));
}

TEST_F(machine_check, takes_a_page_away_that_is_kept)
{
	uint64_t pfn = pfn_of(self->memory);

	ASSERT_EQ(0, print_to_file(DEBUGFS "poison_pfn", "%#lx keep", pfn));
	EXPECT_WORD(7, store(self->memory, 7));
	machine_check(ACTION_OPTIONAL, pfn);
	ASSERT_TRUE(await(is_bad_hardware, pfn));
	EXPECT_TRUE(await(is_taken_away, pfn));
	EXPECT_SIGBUS(self->memory, load(self->memory));
	EXPECT_EQ(EPERM, unpoison_pfn(pfn));
	EXPECT_EQ(1, counter("poisoned"));
	EXPECT_TRUE(verified());
}

TEST_F(machine_check, memory_of_others_is_the_kernels)
{
	char *anonymous = map_private(false, 2);
	long total = counter("machine_checks_total"), poisonings = counter("poisonings_total");
	uint64_t before = corrupted();

	ASSERT_NE(MAP_FAILED, anonymous);
	fill(anonymous, 2, 2);
	machine_check(ACTION_OPTIONAL, pfn_of(anonymous));
	ASSERT_TRUE(await(corrupted_more_than, before));
	EXPECT_SIGBUS(anonymous + 8, load(anonymous + 8));
	EXPECT_TRUE(filled(anonymous, 1, 1, 2));
	EXPECT_EQ(total, counter("machine_checks_total"));
	EXPECT_EQ(poisonings, counter("poisonings_total"));
	EXPECT_TRUE(filled(self->memory, 0, self->pages, 1));
}

/* The pages of a stopped process are taken away from it, too. */
TEST_F(machine_check, process_that_is_stopped)
{
	uint64_t pfns[2] = { pfn_of(self->memory), pfn_of(self->memory + PAGE) };
	struct poisoned page;
	struct peer *child;

	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_WORD(1UL << 32, peer_load(child, self->memory));
	ASSERT_EQ(0, munmap(self->memory, PAGE));
	ASSERT_EQ(0, kill(child->pid, SIGSTOP));
	machine_check(ACTION_OPTIONAL, pfns[0]);
	ASSERT_TRUE(await(is_taken_away, pfns[0]));
	machine_check(ACTION_OPTIONAL, pfns[1]);
	ASSERT_TRUE(await(is_taken_away, pfns[1]));
	ASSERT_TRUE(read_poisoned(pfns[0], &page));
	EXPECT_EQ(1, page.hit);
	EXPECT_EQ(child->pid, page.pids[0]);
	EXPECT_SIGBUS(self->memory + PAGE, load(self->memory + PAGE));
	ASSERT_EQ(0, kill(child->pid, SIGCONT));
	EXPECT_SIGBUS(self->memory, peer_load(child, self->memory));
}

TEST_F(machine_check, process_that_is_stuck)
{
	struct stuck stuck;

	ASSERT_EQ(0, start_stuck(&stuck, self->memory, self->pages));
	machine_check(ACTION_OPTIONAL, stuck.shared->pfns[0]);
	EXPECT_TRUE(await(is_taken_away, stuck.shared->pfns[0]));
	EXPECT_TRUE(sleeps_deeply(stuck.pid));
	free_stuck(&stuck);
	EXPECT_EQ(1, end_stuck(&stuck));
}

#define INJECTION "/sys/kernel/debug/mce-inject/"

/* Reports a machine check as the processor's would be, without one; returns 0 or the errno. */
static int report_machine_check(uint64_t pfn)
{
	return write_file(INJECTION "flags", "sw\n", 3) ?:
	       print_to_file(INJECTION "status", "0xbd000000000000c0") ?:
	       print_to_file(INJECTION "misc", "0x8c") ?:
	       print_to_file(INJECTION "addr", "%#lx", pfn << PAGE_SHIFT) ?:
	       print_to_file(INJECTION "bank", "1");
}

FIXTURE(mce_inject)
{
	char *memory;
	size_t pages;
};

FIXTURE_SETUP(mce_inject)
{
	if (!HAS_MACHINE_CHECKS)
		SKIP(return, "machine checks are those of x86");
	if (has_pool())
		SKIP(return, "the kernel asks the driver");
	if (access(INJECTION "bank", W_OK))
		SKIP(return, "needs mce-inject");
	self->pages = 256;
	self->memory = map_device(self->pages, MAP_PRIVATE);
	ASSERT_NE(MAP_FAILED, self->memory);
	fill(self->memory, self->pages, 1);
}

FIXTURE_LEAVES_NOTHING(mce_inject);

/* Reports machine checks in all @pfns; false if not all were counted. */
static bool report_machine_checks(const uint64_t *pfns, size_t nr)
{
	/* The kernel has room for 80. */
	const size_t at_a_time = 32;
	long total = counter_now("machine_checks_total");

	for (size_t i = 0; i < nr; i++) {
		if (report_machine_check(pfns[i]))
			return false;
		if ((i % at_a_time == at_a_time - 1 || i == nr - 1) && !await(is_counted, total + i + 1))
			return false;
	}
	return true;
}

/* A process that has some of the pages is stuck with the lock that its own faults need. */
TEST_F(mce_inject, burst_beside_a_process_that_is_stuck)
{
	struct stuck stuck;

	ASSERT_EQ(0, start_stuck(&stuck, self->memory, self->pages));
	ASSERT_TRUE(report_machine_checks((uint64_t *)stuck.shared->pfns, STUCK_PAGES));
	for (size_t i = 0; i < STUCK_PAGES; i++) {
		EXPECT_TRUE(await(is_taken_away, stuck.shared->pfns[i]));
		EXPECT_TRUE(await(is_marked_bad, stuck.shared->pfns[i]));
	}
	EXPECT_TRUE(sleeps_deeply(stuck.pid));
	free_stuck(&stuck);
	EXPECT_EQ(STUCK_PAGES, end_stuck(&stuck));
}

static long report_after(void *pfn, long microseconds)
{
	const uint64_t end = now_ns() + microseconds * 1000;

	while (now_ns() < end)
		;
	return report_machine_check(*(uint64_t *)pfn);
}

static bool has_failed_hardware(uint64_t pfn)
{
	return is_bad_hardware(pfn) || is_listed_as_hardware(pfn);
}

/* At whatever moment of that: what the hardware has failed under is not given back. */
TEST_F_TIMEOUT(mce_inject, during_a_soft_offline, 300)
{
	/* Longer than it takes. */
	const long longest = 16000;
	uint64_t *pfn = map_shared(PAGE);
	long total = counter("machine_checks_total");
	struct peer *reporter;

	ASSERT_NE(MAP_FAILED, pfn);
	reporter = fork_peer();
	ASSERT_NE(NULL, reporter);
	for (size_t i = 0; i < self->pages; i++) {
		*pfn = pfn_of(self->memory + i * PAGE);
		begin_peer_call(reporter, report_after, pfn, i * longest / self->pages);
		soft_offline_pfn(*pfn);
		EXPECT_EQ(0, end_peer_call(reporter));
		EXPECT_TRUE(await(is_counted, total + i + 1));
		EXPECT_TRUE(await(has_failed_hardware, *pfn));
		EXPECT_TRUE(await(is_marked_bad, *pfn));
		EXPECT_EQ(EPERM, unpoison_pfn(*pfn));
	}
	end_peer(reporter);
}

#define FAILSLAB "/sys/kernel/debug/failslab/"

/* Lets all allocations by the module fail, or none. Returns 0 or the errno. */
static int fail_allocations(bool fail)
{
	char *symbols = read_file("/proc/kallsyms"), *rest = symbols, *line;
	unsigned long first = -1, last = 0, address;

	while ((line = strsep(&rest, "\n"))) {
		char type;

		if (strstr(line, "[anon_rmap]") && sscanf(line, "%lx %c", &address, &type) == 2 && strchr("tT", type)) {
			first = address < first ? address : first;
			last = address > last ? address : last;
		}
	}
	free(symbols);
	return print_to_file(FAILSLAB "require-start", "%#lx", first) ?:
	       print_to_file(FAILSLAB "require-end", "%#lx", last + PAGE) ?:
	       write_text(FAILSLAB "ignore-gfp-wait", "N") ?:
	       write_text(FAILSLAB "verbose", "0") ?:
	       write_file(FAILSLAB "times", "-1", 2) ?:
	       print_to_file(FAILSLAB "probability", "%d", fail ? 100 : 0);
}

static int kernel_log;

/* Whether the kernel's log has a new line about frame @pfn. */
static bool is_logged(uint64_t pfn)
{
	char frame[32], record[8192];
	ssize_t size;

	snprintf(frame, sizeof(frame), "frame %#lx;", pfn);
	while ((size = read(kernel_log, record, sizeof(record) - 1)) > 0) {
		record[size] = '\0';
		if (strstr(record, frame))
			return true;
	}
	return false;
}

/* More of them than can be noted at a time. */
TEST_F(mce_inject, burst_without_memory)
{
	long postponed = counter("machine_checks_postponed_total");
	uint64_t pfns[192];
	const size_t nr = sizeof(pfns) / sizeof(*pfns);

	if (access(FAILSLAB "require-start", W_OK))
		SKIP(return, "needs fault injection");
	for (size_t i = 0; i < nr; i++)
		pfns[i] = pfn_of(self->memory + i * PAGE);
	kernel_log = open("/dev/kmsg", O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ASSERT_LE(0, lseek(kernel_log, 0, SEEK_END));
	open_stats = open(DEBUGFS "stats", O_RDONLY | O_CLOEXEC);
	ASSERT_STRNE("", reread(open_stats));
	open_poisoned = open(DEBUGFS "poisoned", O_RDONLY | O_CLOEXEC);
	ASSERT_STREQ("", reread(open_poisoned));
	ASSERT_EQ(0, fail_allocations(true));
	EXPECT_TRUE(report_machine_checks(pfns, nr));
	EXPECT_TRUE(await(is_logged, pfns[0]));
	EXPECT_STREQ("", reread(open_poisoned));
	EXPECT_EQ(postponed + nr - 128, counter_now("machine_checks_postponed_total"));
	ASSERT_EQ(0, fail_allocations(false));
	for (size_t i = 0; i < nr; i++) {
		EXPECT_TRUE(await(is_taken_away, pfns[i]));
		EXPECT_SIGBUS(self->memory + i * PAGE, load(self->memory + i * PAGE));
	}
	EXPECT_TRUE(filled(self->memory, nr, self->pages - nr, 1));
	close(kernel_log);
}

/* What a process sees that reads @address on the CPU of the machine checks until it gets a signal. */
struct victim {
	pid_t pid;
	volatile uint64_t loads;
	struct access access;
};

static struct victim *start_victim(const char *address)
{
	struct victim *victim = map_shared(PAGE);
	cpu_set_t cpus;
	pid_t pid;

	pid = fork();
	if (pid) {
		victim->pid = pid;
		return victim;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	CPU_ZERO(&cpus);
	CPU_SET(MCE_CPU, &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
	ATTEMPT(victim->access,
		for (;; victim->loads++)
			*(volatile const char *)address);
	_exit(0);
}

/* The interrupts that the CPU of the machine checks has had. */
static unsigned long interrupts(void)
{
	char *text = read_file("/proc/interrupts"), *rest = text, *line;
	unsigned long sum = 0;

	strsep(&rest, "\n");
	while ((line = strsep(&rest, "\n"))) {
		char *field = strchr(line, ':');
		unsigned long count = 0;

		if (!field++)
			continue;
		for (int cpu = 0; cpu <= MCE_CPU; cpu++)
			count = strtoul(field, &field, 10);
		sum += count;
	}
	free(text);
	return sum;
}

/*
 * Whether the victim runs in user mode and nowhere else, which is so when its CPU is not interrupted:
 * in the kernel the machine check would be fatal.
 */
static bool is_undisturbed(uint64_t victim)
{
	volatile uint64_t *loads = &((struct victim *)victim)->loads;
	uint64_t loads_before = *loads;
	unsigned long interrupts_before = interrupts();

	usleep(200000);
	return *loads != loads_before && interrupts() == interrupts_before;
}

/* Whether the tick interrupts what runs in user mode on the CPU of the machine checks. */
static bool has_tick(void)
{
	char *cpus = read_file("/sys/devices/system/cpu/nohz_full");
	bool tick = !cpus || atoi(cpus) != MCE_CPU;

	free(cpus);
	return tick;
}

static bool has_ended(uint64_t pid)
{
	return waitpid(pid, NULL, WNOHANG) == (pid_t)pid;
}

/* Lets another process use what is at @address when it fails; false if that did not get a signal. */
static bool fail_in_use(const char *address, struct access *access)
{
	struct victim *victim = start_victim(address);
	bool ended = false;

	/* The fork has unmapped what is shared now. */
	load(address);
	if (await(is_undisturbed, (uint64_t)victim)) {
		machine_check(ACTION_REQUIRED, pfn_of(address));
		ended = await(has_ended, victim->pid);
	}
	if (!ended) {
		kill(victim->pid, SIGKILL);
		waitpid(victim->pid, NULL, 0);
	}
	*access = victim->access;
	return ended && access->signal;
}

TEST_F(machine_check, action_required)
{
	uint64_t pfn = pfn_of(self->memory);
	struct access access;

	if (has_tick())
		SKIP(return, "needs a nohz_full CPU %d", MCE_CPU);
	ASSERT_TRUE(fail_in_use(self->memory, &access));
	/* The kernel signals the process by itself, before the driver hears of it. */
	if (has_pool())
		EXPECT_SIGBUS(self->memory, access);
	else
		EXPECT_EQ(SIGBUS, access.signal);
	ASSERT_TRUE(await(is_bad_hardware, pfn));
	ASSERT_TRUE(await(is_taken_away, pfn));
	EXPECT_SIGBUS(self->memory + 8, load(self->memory + 8));
	EXPECT_TRUE(filled(self->memory, 1, self->pages - 1, 1));
}

TEST_F(machine_check, action_required_in_memory_of_others_is_the_kernels)
{
	char *anonymous = map_private(false, 2);
	long total = counter("machine_checks_total");
	struct access access;

	if (has_tick())
		SKIP(return, "needs a nohz_full CPU %d", MCE_CPU);
	ASSERT_NE(MAP_FAILED, anonymous);
	fill(anonymous, 2, 2);
	ASSERT_TRUE(fail_in_use(anonymous, &access));
	EXPECT_SIGBUS(anonymous, access);
	EXPECT_SIGBUS(anonymous + 8, load(anonymous + 8));
	EXPECT_EQ(total, counter("machine_checks_total"));
	EXPECT_TRUE(filled(self->memory, 0, self->pages, 1));
}

TEST_HARNESS_MAIN
