// SPDX-License-Identifier: GPL-2.0-only
/*
 * The reverse map is exact: for random trees of processes, what debugfs `rmap` lists for every page is
 * what /proc/PID/pagemap of all processes says. `rmap_exact [SEED [SEEDS [PAGES]]]` repeats a run: SEEDS
 * seeds from SEED on, each until PAGES pages have been compared. With `merging rmap_exact`, processes share frames of equal pages, too.
 */
#include "lib/debugfs.h"
#include "lib/device.h"
#include "lib/file.h"
#include "lib/pagemap.h"
#include "lib/peer.h"
#include "lib/random.h"
#include "lib/stats.h"
#include "lib/usage.h"
#include "kselftest.h"

#define MAX_DEPTH 6
#define MAX_PROCESSES 16
#define MAX_RANGES 4096
#define PAGES_MAPPED 96
#define STEPS_PER_CHECK 40

struct range {
	char *start, *end;
};

/* The parts of the address space of @pid that map the device; 0 if it has gone. */
static size_t device_ranges(pid_t pid, struct range *ranges)
{
	char path[64], *text, *rest, *line;
	size_t count = 0;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	text = rest = read_file(path);
	while (text && (line = strsep(&rest, "\n")))
		if (strstr(line, MAPPING) && count < MAX_RANGES &&
		    sscanf(line, "%p-%p", (void **)&ranges[count].start, (void **)&ranges[count].end) == 2)
			count++;
	free(text);
	return count;
}

/* What a process does in one step; runs in the process. */
static long step(void *unused, long seed)
{
	static struct range ranges[MAX_RANGES];
	struct random random = { seed };
	size_t count = device_ranges(getpid(), ranges), pages, length;
	struct range *range = &ranges[below(&random, count ?: 1)];
	char *start;
	void *target;

	(void)unused;
	if (!count || (count < 64 && !below(&random, 30))) {
		map_device(PAGES_MAPPED, MAP_PRIVATE);
		return 0;
	}
	pages = (range->end - range->start) / PAGE;
	start = range->start + below(&random, pages) * PAGE;
	length = 1 + below(&random, (range->end - start) / PAGE);
	if (length > 24)
		length = 24;
	switch (below(&random, 14)) {
	case 0:
		mprotect(start, length * PAGE, PROT_READ);
		break;
	case 1:
		mprotect(start, length * PAGE, PROT_READ | PROT_WRITE);
		break;
	case 2:
		munmap(start, length * PAGE / 4 + 1);
		break;
	case 3:
		target = reserve(length);
		mremap(start, length * PAGE, length * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target);
		break;
	case 4:
		mremap(start, length * PAGE, length * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
		break;
	case 5:
		madvise(start, length * PAGE, MADV_DONTNEED);
		break;
	case 6:
		mremap(range->start, pages * PAGE, (pages + 8) * PAGE, MREMAP_MAYMOVE);
		break;
	case 7:
		if (pages > 1)
			mremap(range->start, pages * PAGE, (pages - 1) * PAGE, 0);
		break;
	case 8:
	case 9:
		/* What processes share is mapped where it is read. */
		for (char *address = range->start; address < range->end; address += PAGE)
			load(address);
		break;
	default:
		for (size_t i = 0; i < length; i++) {
			if (below(&random, 2))
				store(start + i * PAGE, seed);
			else
				load(start + i * PAGE);
		}
	}
	return 0;
}

struct process {
	struct peer *peer;
	int depth, children;
	struct process *parent;
};

/* A page table entry of one of the processes. */
struct entry {
	uint64_t pfn;
	pid_t pid;
	uintptr_t address;
};

static int by_frame(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->pfn != y->pfn)
		return x->pfn < y->pfn ? -1 : 1;
	if (x->pid != y->pid)
		return x->pid < y->pid ? -1 : 1;
	return x->address < y->address ? -1 : x->address > y->address;
}

/* Adds what /proc/PID/pagemap says of the device's memory. */
static size_t add_entries(pid_t pid, struct entry *entries, size_t room)
{
	static struct range ranges[MAX_RANGES];
	size_t nr_ranges = device_ranges(pid, ranges), count = 0;
	const uint64_t zeroes = pfn_of_zeroes();
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	for (struct range *range = ranges; range < ranges + nr_ranges; range++) {
		uintptr_t first = (uintptr_t)range->start / PAGE;
		static uint64_t words[1 << 12];
		ssize_t pages = (range->end - range->start) / PAGE;

		if (pages > (ssize_t)(sizeof(words) / sizeof(*words)))
			ksft_exit_fail_msg("a mapping of %zd pages\n", pages);
		pages = pread(fd, words, pages * sizeof(*words), first * sizeof(*words)) / (ssize_t)sizeof(*words);
		for (ssize_t i = 0; i < pages && count < room; i++) {
			uint64_t pfn = frame_in(words[i]);

			if (pfn && pfn != zeroes)
				entries[count++] = (struct entry){ pfn, pid, (first + i) * PAGE };
		}
	}
	close(fd);
	return count;
}

/* The text that `rmap` has to answer with for the entries of one frame. */
static char *expected(const struct entry *entries, size_t count)
{
	static char text[MAX_PROCESSES * 4096];
	size_t size = 0;

	text[0] = '\0';
	for (size_t i = 0; i < count && size < sizeof(text) - 64; i++)
		size += sprintf(text + size, "pid=%d address=%#lx\n", entries[i].pid, entries[i].address);
	return text;
}

/* Whether `rmap`, asked for @question, answers with @answer. */
static bool rmap_says(const char *answer, const char *question)
{
	int error = write_text(DEBUGFS "rmap", question);
	char *text = read_file(DEBUGFS "rmap");
	bool same = !error && text && !strcmp(text, answer);

	if (!same)
		ksft_print_msg("rmap of %s: error %d, listed:\n%spage tables have:\n%s", question, error,
			       text ?: "", answer);
	free(text);
	return same;
}

/* Lets the scanner stop, if it is to be at work, or go on: what it looks at is mapped nowhere for a moment. */
static void let_scanner(bool is_merging, int run)
{
	if (is_merging && print_to_file(DEBUGFS "merge/run", "%d", run))
		ksft_exit_fail_msg("merge/run: %m\n");
}

/* Compares all pages of all processes; returns how many, -1 if one differs. */
static long compare_all(struct process *processes, int nr_processes)
{
	static struct entry entries[1 << 18];
	size_t count = 0;
	long pages = 0;
	char *verdict;
	int depth = 0;

	for (int i = 0; i < nr_processes; i++) {
		if (processes[i].depth > depth)
			depth = processes[i].depth;
		count += add_entries(processes[i].peer->pid, entries + count,
				     sizeof(entries) / sizeof(*entries) - count);
	}
	qsort(entries, count, sizeof(*entries), by_frame);
	for (size_t first = 0, next; first < count; first = next) {
		char question[64];
		char *answer;

		for (next = first; next < count && entries[next].pfn == entries[first].pfn; next++)
			;
		answer = expected(entries + first, next - first);
		snprintf(question, sizeof(question), "%#lx", entries[first].pfn);
		if (!rmap_says(answer, question))
			return -1;
		/* Now and then without relying on the page's index: that looks at everything. */
		snprintf(question, sizeof(question), "%#lx 0 0xffffffffffffffff", entries[first].pfn);
		if (pages++ % 16 == 0 && !rmap_says(answer, question))
			return -1;
	}
	verdict = read_file(DEBUGFS "verify");
	if (!verdict || strncmp(verdict, "ok ", 3)) {
		ksft_print_msg("verify: %s", verdict ?: "unreadable\n");
		pages = -1;
	}
	free(verdict);
	ksft_print_msg("%d processes, forked %d deep, %ld pages, mapped %zu times, %ld frames saved\n", nr_processes, depth, pages,
		       count, counter("pages_sharing"));
	return pages;
}

static long compare(struct process *processes, int nr_processes, bool is_merging)
{
	long pages;

	let_scanner(is_merging, 0);
	pages = compare_all(processes, nr_processes);
	let_scanner(is_merging, 1);
	return pages;
}

/* Waits for the end of a process that was killed, or its ancestor. It is reaped at once, when its memory has gone. */
static void await_end(struct process *process)
{
	while (!kill(process->peer->pid, 0))
		usleep(1000);
	give_up_peer(process->peer);
}

static bool end_process(struct process *processes, int *nr_processes, struct process *process)
{
	if (process->children || !process->parent)
		return false;
	kill(process->peer->pid, SIGKILL);
	await_end(process);
	process->parent->children--;
	*process = processes[--*nr_processes];
	for (int i = 0; i < *nr_processes; i++)
		if (processes[i].parent == &processes[*nr_processes])
			processes[i].parent = process;
	return true;
}

/* Compares at least @wanted pages; returns how many, -1 if one differs. */
static long run(uint64_t seed, long wanted, bool is_merging)
{
	static struct process processes[MAX_PROCESSES];
	struct random random = { seed };
	int nr_processes = 1;
	long pages = 0;

	processes[0] = (struct process){ .peer = fork_peer() };
	for (int i = 1; pages >= 0 && pages < wanted; i++) {
		struct process *process = &processes[below(&random, nr_processes)];
		unsigned int what = below(&random, 20);

		if (!what && process->depth < MAX_DEPTH && nr_processes < MAX_PROCESSES) {
			struct peer *child = peer_fork(process->peer);

			if (!child)
				return -1;
			process->children++;
			processes[nr_processes++] = (struct process){ child, process->depth + 1, 0, process };
		} else if (what == 1 && nr_processes > MAX_PROCESSES / 2) {
			end_process(processes, &nr_processes, process);
		} else {
			peer_call(process->peer, step, NULL, next(&random) >> 1);
		}
		if (i % STEPS_PER_CHECK == 0) {
			long compared = compare(processes, nr_processes, is_merging);

			pages = compared < 0 ? -1 : pages + compared;
		}
	}
	kill(processes[0].peer->pid, SIGKILL);
	for (int i = 0; i < nr_processes; i++)
		await_end(&processes[i]);
	return pages;
}

int main(int argc, char **argv)
{
	uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
	int seeds = argc > 2 ? atoi(argv[2]) : 3;
	long wanted = argc > 3 ? atol(argv[3]) : 1000, merged = counter("pages_merged_total");
	bool is_merging = number_in(DEBUGFS "merge/run", "") == 1;

	no_options(argc, argv, " [SEED [SEEDS [PAGES]]]: SEEDS seeds from SEED on, until PAGES pages were compared for each");
	/* Processes that have ended leave nothing behind. */
	signal(SIGCHLD, SIG_IGN);
	ksft_print_header();
	ksft_set_plan(seeds + 1 + is_merging);
	for (int i = 0; i < seeds; i++) {
		long pages = run(seed + i, wanted, is_merging);

		ksft_test_result(pages >= wanted, "rmap equals pagemap, seed %lu, %ld pages\n", seed + i, pages);
	}
	if (is_merging)
		ksft_test_result(counter("pages_merged_total") > merged, "pages were merged\n");
	ksft_test_result(!*leak(), "nothing is left: %s\n", leak());
	ksft_finished();
}
