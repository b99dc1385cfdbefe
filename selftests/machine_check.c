// SPDX-License-Identifier: GPL-2.0-only
/*
 * What only machine checks have, see hardware_failure.c: data that was about to be used, the kernel's counts and traces, bursts. In a guest
 * of qemu/machine-check-test.
 */
#include <sched.h>
#include <sys/prctl.h>
#include "lib/fixture.h"
#include "lib/hwpoison.h"
#include "lib/machine_check.h"
#include "lib/pool.h"
#include "lib/stuck.h"

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

FIXTURE_ON_DEVICE_UNLESS(machine_check, no_machine_checks(), 16, true);

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

/* Why it can't be used here; NULL if it can. */
static const char *no_mce_inject(void)
{
	if (has_pool())
		return "the kernel asks the driver";
	return access(INJECTION "bank", W_OK) ? "needs mce-inject" : NULL;
}

FIXTURE_ON_DEVICE_UNLESS(mce_inject, no_mce_inject(), 256, true);

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
