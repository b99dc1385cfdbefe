// SPDX-License-Identifier: GPL-2.0-only
/*
 * The files of debugfs by which pages fail, beside poison_addr and poison_pfn: ranges, chance, lists, hard
 * offline; the files that tell who would be hit and who maps a page; and the trace events.
 */
#include "lib/fixture.h"
#include "lib/tracefs.h"
#include <linux/perf_event.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>

#define NR_PAGES 32

FIXTURE_ON_DEVICE(failure_sources, NR_PAGES, false);

/* Which pages of @memory can't be read: a bit for each. */
static uint32_t failed(const char *memory)
{
	uint32_t pages = 0;

	for (int page = 0; page < NR_PAGES; page++)
		if (load(memory + page * PAGE).signal == SIGBUS)
			pages |= 1U << page;
	return pages;
}

static bool unpoison_all(void)
{
	char *text = read_file(DEBUGFS "poisoned"), *rest = text, *line;
	bool good = text;

	while (text && (line = strsep(&rest, "\n")) && *line)
		good &= !unpoison_pfn(strtoull(strstr(line, "pfn=") + 4, NULL, 16));
	free(text);
	return good;
}

TEST_F(failure_sources, a_range_fails_page_by_page)
{
	char *memory = self->memory;

	fill(memory, NR_PAGES, 1);
	ASSERT_EQ(0, print_to_file(DEBUGFS "poison_range", "%d %p %p", getpid(), memory + 4 * PAGE + 100,
				   memory + 6 * PAGE + 1));
	EXPECT_EQ(0x70, failed(memory));
	EXPECT_EQ(3, counter("poisoned"));
	EXPECT_TRUE(unpoison_all());
	EXPECT_TRUE(filled(memory, 0, NR_PAGES, 1));
}

TEST_F(failure_sources, a_range_leaves_alone_what_has_failed_and_what_is_not_there)
{
	char *memory = self->memory;

	store(memory + 2 * PAGE, 1);
	store(memory + 5 * PAGE, 1);
	ASSERT_EQ(0, poison_addr(getpid(), memory + 2 * PAGE));
	ASSERT_EQ(0, print_to_file(DEBUGFS "poison_range", "%d %p %p", getpid(), memory, memory + NR_PAGES * PAGE));
	EXPECT_EQ(1 << 2 | 1 << 5, failed(memory));
	EXPECT_TRUE(zeroed(memory, 2));
}

TEST_F(failure_sources, a_range_covers_what_mprotect_has_split)
{
	char *memory = self->memory;

	fill(memory, NR_PAGES, 1);
	for (int page = 0; page < NR_PAGES; page += 2)
		ASSERT_EQ(0, mprotect(memory + page * PAGE, PAGE, PROT_READ));
	ASSERT_EQ(0, print_to_file(DEBUGFS "poison_range", "%d %p %p", getpid(), memory + 8 * PAGE,
				   memory + 24 * PAGE));
	EXPECT_EQ(0xffff00, failed(memory));
}

TEST_F(failure_sources, a_range_without_pages_is_refused)
{
	char *memory = self->memory;

	EXPECT_EQ(ENODATA, print_to_file(DEBUGFS "poison_range", "%d %p %p", getpid(), memory, memory + PAGE));
	EXPECT_EQ(EINVAL, print_to_file(DEBUGFS "poison_range", "%d %p %p", getpid(), memory, memory));
	EXPECT_EQ(EINVAL, print_to_file(DEBUGFS "poison_range", "%d %p", getpid(), memory));
	EXPECT_EQ(ENXIO, print_to_file(DEBUGFS "poison_range", "%d 0x1000 0x2000", getpid()));
	EXPECT_EQ(ESRCH, print_to_file(DEBUGFS "poison_range", "4194303 %p %p", memory, memory + PAGE));
	store(memory, 1);
	ASSERT_EQ(0, poison_addr(getpid(), memory));
	EXPECT_EQ(EHWPOISON, print_to_file(DEBUGFS "poison_range", "%d %p %p", getpid(), memory, memory + PAGE));
}

/* The line of `mappings` about the VMA of this process that starts at @start, with its end. */
static bool mapping_line(const char *start, char *line, size_t size)
{
	char *text = read_file(DEBUGFS "mappings"), *found, key[64];

	snprintf(key, sizeof(key), "pid=%d range=%p-", getpid(), start);
	found = text ? strstr(text, key) : NULL;
	snprintf(line, size, "%.*s", found ? (int)strcspn(found, "\n") + 1 : 0, found ?: "");
	free(text);
	return found;
}

TEST_F(failure_sources, a_range_is_taken_as_mappings_tells_it)
{
	char *memory = self->memory, line[256], range[64];

	fill(memory, NR_PAGES, 1);
	ASSERT_EQ(0, mprotect(memory + 8 * PAGE, 8 * PAGE, PROT_READ));
	/* However the process calls itself. */
	ASSERT_EQ(0, prctl(PR_SET_NAME, "\n\n\n pid=1 =\n\n\n\n"));
	ASSERT_TRUE(mapping_line(memory + 8 * PAGE, line, sizeof(line)));
	EXPECT_EQ(0, write_text(DEBUGFS "poison_range", line));
	EXPECT_EQ(0xff00, failed(memory));
	ASSERT_TRUE(unpoison_all());
	ASSERT_EQ(1, sscanf(line, "%*s range=%63s", range));
	EXPECT_EQ(0, print_to_file(DEBUGFS "poison_range", "%d %s\n", getpid(), range));
	EXPECT_EQ(0xff00, failed(memory));
	EXPECT_EQ(EHWPOISON, write_text(DEBUGFS "poison_range", line));
	ASSERT_TRUE(unpoison_all());
	EXPECT_EQ(0, print_to_file(DEBUGFS "poison_range", "%d %lu-%p", getpid(), (long)memory, memory + PAGE));
	EXPECT_EQ(1, failed(memory));
}

TEST_F(failure_sources, a_line_of_mappings_that_is_cut_off_or_one_of_several_is_refused)
{
	char *memory = self->memory, line[256], two[512];

	fill(memory, NR_PAGES, 1);
	ASSERT_TRUE(mapping_line(memory, line, sizeof(line)));
	snprintf(two, sizeof(two), "%s%s", line, line);
	EXPECT_EQ(EINVAL, write_text(DEBUGFS "poison_range", two));
	for (size_t size = 0; size < strlen(line); size++) {
		EXPECT_EQ(EINVAL, write_file(DEBUGFS "poison_range", line, size));
	}
	/* In the numbers of /proc/PID/maps. */
	EXPECT_EQ(EINVAL, print_to_file(DEBUGFS "poison_range", "%d %lxa-%lxa", getpid(), (long)memory,
					(long)memory + PAGE));
	EXPECT_EQ(EINVAL, print_to_file(DEBUGFS "poison_range", "%d %p-%p-%p", getpid(), memory, memory, memory));
	EXPECT_EQ(EINVAL, print_to_file(DEBUGFS "poison_range", "%d %p -%p", getpid(), memory, memory + PAGE));
	EXPECT_EQ(EINVAL, print_to_file(DEBUGFS "poison_range", "range=%p-%p\n", memory, memory + PAGE));
	EXPECT_EQ(EINVAL, print_to_file(DEBUGFS "poison_range", "pid=%d range=%p-%p\n", getpid(), memory, memory));
	EXPECT_EQ(ERANGE, print_to_file(DEBUGFS "poison_range", "pid=4294967296 range=%p-%p\n", memory,
					memory + PAGE));
	EXPECT_EQ(0, failed(memory));
	EXPECT_EQ(0, counter("poisoned"));
}

TEST_F(failure_sources, a_seed_repeats_its_choice)
{
	uint32_t pages[3];
	char *chosen[3];

	fill(self->memory, NR_PAGES, 1);
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(0, print_to_file(DEBUGFS "poison_random", "%d 5 %d", getpid(), i == 1 ? 8 : 7));
		chosen[i] = read_file(DEBUGFS "poison_random");
		ASSERT_NE(NULL, chosen[i]);
		pages[i] = failed(self->memory);
		EXPECT_EQ(5, __builtin_popcount(pages[i]));
		EXPECT_TRUE(unpoison_all());
	}
	EXPECT_EQ(pages[0], pages[2]);
	EXPECT_STREQ(chosen[0], chosen[2]);
	EXPECT_NE(pages[0], pages[1]);
	EXPECT_TRUE(filled(self->memory, 0, NR_PAGES, 1));
}

TEST_F(failure_sources, chance_tells_what_it_chose)
{
	char *chosen, *rest, *line;
	uint32_t pages = 0;

	fill(self->memory, NR_PAGES, 1);
	ASSERT_EQ(0, print_to_file(DEBUGFS "poison_random", "%d 3 1", getpid()));
	chosen = rest = read_file(DEBUGFS "poison_random");
	while ((line = strsep(&rest, "\n")) && *line) {
		struct poisoned page;
		uint64_t pfn;
		char *address;
		pid_t pid;

		ASSERT_EQ(3, sscanf(line, "pid=%d address=%p pfn=%lx", &pid, (void **)&address, &pfn));
		EXPECT_EQ(getpid(), pid);
		EXPECT_TRUE(read_poisoned(pfn, &page));
		EXPECT_STREQ("poison_random", page.source);
		pages |= 1U << (address - self->memory) / PAGE;
	}
	EXPECT_EQ(pages, failed(self->memory));
	free(chosen);
}

TEST_F(failure_sources, chance_needs_pages_to_choose_from)
{
	store(self->memory, 1);
	store(self->memory + PAGE, 1);
	EXPECT_EQ(EINVAL, print_to_file(DEBUGFS "poison_random", "%d 0 1", getpid()));
	EXPECT_EQ(ENODATA, print_to_file(DEBUGFS "poison_random", "%d 3 1", getpid()));
	EXPECT_EQ(ESRCH, write_text(DEBUGFS "poison_random", "4194303 1 1"));
	EXPECT_EQ(0, counter("poisoned"));
	ASSERT_EQ(0, print_to_file(DEBUGFS "poison_random", "%d 2 1", getpid()));
	EXPECT_EQ(EHWPOISON, print_to_file(DEBUGFS "poison_random", "%d 1 1", getpid()));
	EXPECT_EQ(3, failed(self->memory));
}

TEST_F(failure_sources, a_list_can_be_replayed)
{
	char *memory = self->memory, *list;

	fill(memory, NR_PAGES, 1);
	ASSERT_EQ(0, poison_addr(getpid(), memory + 3 * PAGE));
	ASSERT_EQ(0, poison_pfn(pfn_of(memory + 9 * PAGE)));
	ASSERT_EQ(0, print_to_file(DEBUGFS "poison_range", "%d %p %p", getpid(), memory + 20 * PAGE,
				   memory + 22 * PAGE));
	list = read_file(DEBUGFS "poisoned");
	ASSERT_TRUE(unpoison_all());
	EXPECT_EQ(0, failed(memory));
	ASSERT_EQ(0, write_text(DEBUGFS "replay", list));
	EXPECT_EQ(1 << 3 | 1 << 9 | 3 << 20, failed(memory));
	EXPECT_EQ(EHWPOISON, write_text(DEBUGFS "replay", list));
	ASSERT_TRUE(unpoison_all());
	ASSERT_EQ(0, print_to_file(DEBUGFS "replay", "pid=%d address=%p\n", getpid(), memory));
	EXPECT_EQ(1, failed(memory));
	free(list);
}

TEST_F(failure_sources, a_list_that_is_wrong_changes_nothing)
{
	char *memory = self->memory;

	fill(memory, NR_PAGES, 1);
	/* Cut off: the address could be another's. */
	EXPECT_EQ(EINVAL, print_to_file(DEBUGFS "replay", "pid=%d address=%p", getpid(), memory));
	EXPECT_EQ(EINVAL, print_to_file(DEBUGFS "replay", "pid=%d address=%p\npid=1\n", getpid(), memory));
	EXPECT_EQ(ENXIO, print_to_file(DEBUGFS "replay", "pid=%d address=%p\npid=%d address=%p\n", getpid(), memory,
				       getpid(), &memory));
	EXPECT_EQ(ESRCH, print_to_file(DEBUGFS "replay", "pid=%d address=%p\npid=4194303 address=%p\n", getpid(),
				       memory, memory));
	EXPECT_EQ(0, failed(memory));
	EXPECT_EQ(0, counter("poisoned"));
}

TEST_F(failure_sources, a_dry_run_lists_who_would_be_hit)
{
	char *memory = self->memory, *hits, line[128];
	struct peer *child, *stranger;

	fill(memory, NR_PAGES, 1);
	child = fork_peer();
	stranger = fork_peer();
	peer_load(child, memory + 4 * PAGE);
	prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0);
	ASSERT_EQ(0, print_to_file(DEBUGFS "dry_run", "%d %p", getpid(), memory + 4 * PAGE + 8));
	prctl(PR_MCE_KILL, PR_MCE_KILL_CLEAR, 0, 0, 0);
	hits = read_file(DEBUGFS "dry_run");
	snprintf(line, sizeof(line), "pid=%d address=%p tid=%d signal=BUS_MCEERR_AO\n", getpid(), memory + 4 * PAGE,
		 getpid());
	EXPECT_NE(NULL, strstr(hits, line));
	snprintf(line, sizeof(line), "pid=%d address=%p tid=0 signal=none\n", child->pid, memory + 4 * PAGE);
	EXPECT_NE(NULL, strstr(hits, line));
	snprintf(line, sizeof(line), "pid=%d ", stranger->pid);
	EXPECT_EQ(NULL, strstr(hits, line));
	EXPECT_EQ(0, counter("poisoned"));
	EXPECT_TRUE(filled(memory, 0, NR_PAGES, 1));
	free(hits);
}

TEST_F(failure_sources, a_dry_run_is_refused_as_the_failure_would_be)
{
	uint64_t pfn;

	EXPECT_EQ(ENODATA, print_to_file(DEBUGFS "dry_run", "%d %p", getpid(), self->memory));
	EXPECT_EQ(ENXIO, print_to_file(DEBUGFS "dry_run", "%d %p", getpid(), &pfn));
	EXPECT_EQ(ENXIO, write_text(DEBUGFS "dry_run", "1"));
	EXPECT_EQ(EINVAL, write_text(DEBUGFS "dry_run", "1 2 3"));
	store(self->memory, 1);
	pfn = pfn_of(self->memory);
	EXPECT_EQ(0, print_to_file(DEBUGFS "dry_run", "%#lx", pfn));
	ASSERT_EQ(0, poison_pfn(pfn));
	EXPECT_EQ(EHWPOISON, print_to_file(DEBUGFS "dry_run", "%#lx", pfn));
}

TEST_F(failure_sources, hard_offline_cannot_be_undone)
{
	struct poisoned page;
	uint64_t pfn;

	fill(self->memory, NR_PAGES, 1);
	pfn = pfn_of(self->memory + PAGE);
	EXPECT_EQ(ENXIO, write_text(DEBUGFS "hard_offline", "1"));
	ASSERT_EQ(0, hard_offline_pfn(pfn));
	EXPECT_SIGBUS(self->memory + PAGE + 8, load(self->memory + PAGE + 8));
	ASSERT_TRUE(read_poisoned(pfn, &page));
	EXPECT_STREQ("hardware", page.kind);
	EXPECT_STREQ("hard_offline", page.source);
	EXPECT_EQ(EPERM, unpoison_pfn(pfn));
	EXPECT_EQ(EHWPOISON, hard_offline_pfn(pfn));
	EXPECT_EQ(2, failed(self->memory));
	ASSERT_EQ(0, madvise(self->memory + PAGE, PAGE, MADV_DONTNEED));
	EXPECT_TRUE(zeroed(self->memory + PAGE, 1));
	EXPECT_NE(pfn, pfn_of(self->memory + PAGE));
}

TEST_F(failure_sources, the_hardware_overrides_a_drill)
{
	struct poisoned page;
	uint64_t pfn;

	store(self->memory, 1);
	pfn = pfn_of(self->memory);
	ASSERT_EQ(0, poison_pfn(pfn));
	ASSERT_EQ(0, hard_offline_pfn(pfn));
	ASSERT_TRUE(read_poisoned(pfn, &page));
	EXPECT_STREQ("hardware", page.kind);
	EXPECT_EQ(1, counter("poisoned"));
	EXPECT_EQ(EPERM, unpoison_pfn(pfn));
}

TEST_F(failure_sources, rmap_lists_who_maps_a_page)
{
	char *memory = self->memory, *listed, expected[128];
	struct peer *child;
	uint64_t pfn;

	fill(memory, NR_PAGES, 1);
	pfn = pfn_of(memory);
	child = fork_peer();
	ASSERT_EQ(0, ask_rmap(pfn));
	listed = read_file(DEBUGFS "rmap");
	snprintf(expected, sizeof(expected), "pid=%d address=%p\n", getpid(), memory);
	EXPECT_STREQ(expected, listed);
	peer_load(child, memory);
	ASSERT_EQ(0, ask_rmap(pfn));
	listed = read_file(DEBUGFS "rmap");
	snprintf(expected, sizeof(expected), "pid=%d address=%p\npid=%d address=%p\n", getpid(), memory, child->pid,
		 memory);
	EXPECT_STREQ(expected, listed);
	ASSERT_EQ(0, print_to_file(DEBUGFS "rmap", "%#lx 0 %d", pfn, NR_PAGES));
	listed = read_file(DEBUGFS "rmap");
	EXPECT_STREQ(expected, listed);
	/* Not at the addresses of other indices. */
	ASSERT_EQ(0, print_to_file(DEBUGFS "rmap", "%#lx 1 %d", pfn, NR_PAGES));
	listed = read_file(DEBUGFS "rmap");
	EXPECT_STREQ("", listed);
	EXPECT_EQ(ENXIO, write_text(DEBUGFS "rmap", "1"));
	EXPECT_EQ(EINVAL, print_to_file(DEBUGFS "rmap", "%#lx 1", pfn));
	EXPECT_EQ(EINVAL, print_to_file(DEBUGFS "rmap", "%#lx 2 1", pfn));
}

TEST_F(failure_sources, verify_counts_what_it_has_checked)
{
	char *verdict, expected[128];

	fill(self->memory, NR_PAGES, 1);
	for (int page = 1; page < NR_PAGES; page += 2)
		ASSERT_EQ(0, mprotect(self->memory + page * PAGE, PAGE, PROT_READ));
	verdict = read_file(DEBUGFS "verify");
	snprintf(expected, sizeof(expected), "ok vmas=%d trees=1 avcs=%d entries=%d\n", NR_PAGES, NR_PAGES,
		 NR_PAGES);
	EXPECT_STREQ(expected, verdict);
}

/* Whether there are trace events. */
static bool has_events(void)
{
	return has_tracefs() && !access(TRACEFS "events/anon_rmap/enable", W_OK);
}

TEST_F(failure_sources, trace_events_tell_which_page_which_source_and_who)
{
	char line[256], *trace;
	struct peer *child;
	uint64_t pfn;

	if (!has_events())
		SKIP(return, "no trace events: is CONFIG_EVENT_TRACING on?");
	fill(self->memory, NR_PAGES, 1);
	pfn = pfn_of(self->memory);
	child = fork_peer();
	peer_load(child, self->memory);
	prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0);
	signal(SIGBUS, SIG_IGN);
	write_text(TRACEFS "trace", "\n");
	ASSERT_EQ(0, write_text(TRACEFS "events/anon_rmap/enable", "1"));
	ASSERT_EQ(0, poison_addr(getpid(), self->memory));
	ASSERT_EQ(0, unpoison_pfn(pfn));
	ASSERT_EQ(0, write_text(TRACEFS "events/anon_rmap/enable", "0"));
	trace = read_file(TRACEFS "trace");
	ASSERT_NE(NULL, trace);
	snprintf(line, sizeof(line), "anon_rmap_action: pfn=%#lx index=0 action=poison source=poison_addr\n", pfn);
	EXPECT_NE(NULL, strstr(trace, line));
	snprintf(line, sizeof(line), "anon_rmap_hit: pfn=%#lx pid=%d address=%p tid=%d signal=BUS_MCEERR_AO\n", pfn,
		 getpid(), self->memory, getpid());
	EXPECT_NE(NULL, strstr(trace, line));
	snprintf(line, sizeof(line), "anon_rmap_hit: pfn=%#lx pid=%d address=%p tid=0 signal=none\n", pfn, child->pid,
		 self->memory);
	EXPECT_NE(NULL, strstr(trace, line));
	snprintf(line, sizeof(line), "anon_rmap_action: pfn=%#lx index=0 action=unpoison source=unpoison_pfn\n", pfn);
	EXPECT_NE(NULL, strstr(trace, line));
	free(trace);
}

TEST_F(failure_sources, perf_counts_trace_events)
{
	struct perf_event_attr attr = { .type = PERF_TYPE_TRACEPOINT, .size = sizeof(attr) };
	int fds[64], cpus = get_nprocs_conf();
	uint64_t sum = 0, count, pfn;
	char *id;

	id = has_events() ? read_file(TRACEFS "events/anon_rmap/anon_rmap_action/id") : NULL;
	if (!id || cpus > 64)
		SKIP(return, "no trace events");
	attr.config = atoi(id);
	for (int cpu = 0; cpu < cpus; cpu++) {
		fds[cpu] = syscall(SYS_perf_event_open, &attr, -1, cpu, -1, 0);
		if (fds[cpu] < 0)
			SKIP(return, "no perf: %s", strerror(errno));
	}
	fill(self->memory, NR_PAGES, 1);
	pfn = pfn_of(self->memory);
	for (int i = 0; i < 5; i++) {
		ASSERT_EQ(0, poison_addr(getpid(), self->memory));
		ASSERT_EQ(0, unpoison_pfn(pfn));
	}
	for (int cpu = 0; cpu < cpus; cpu++) {
		ASSERT_EQ(sizeof(count), read(fds[cpu], &count, sizeof(count)));
		sum += count;
		close(fds[cpu]);
	}
	EXPECT_EQ(10, sum);
}

TEST_HARNESS_MAIN
