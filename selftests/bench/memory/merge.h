/* SPDX-License-Identifier: GPL-2.0-only */
/* Merging, beside ksm of anonymous memory. */
#ifndef MERGE_H
#define MERGE_H

#include <dirent.h>
#include <sys/ioctl.h>

#include "../../../rust/uapi/anon_rmap.h"
#include "case.h"

#define KSM "/sys/kernel/mm/ksm/"

/* VMAs of which some have equal pages. */
#define ALL_VMAS 65000

static void choose(struct run *run, const char *name, long number)
{
	char path[128];

	snprintf(path, sizeof(path), "%s%s", run->device ? DEBUGFS "merge/" : KSM, name);
	CHECK(run, !print_to_file(path, "%ld", number));
}

static long merging_counter(struct run *run, const char *of_device, const char *of_ksm)
{
	char path[128];

	snprintf(path, sizeof(path), KSM "%s", of_ksm);
	return run->device ? counter(of_device) : number_in(path, "");
}

static long sharing(struct run *run)
{
	return merging_counter(run, "pages_sharing", "pages_sharing");
}

static long scanned(struct run *run)
{
	return merging_counter(run, "pages_scanned_total", "pages_scanned");
}

static long full_scans(struct run *run)
{
	return merging_counter(run, "full_scans_total", "full_scans");
}

/* The process of that name. */
static long task_named(const char *name)
{
	DIR *proc = opendir("/proc");
	char path[300], comm[32];
	struct dirent *entry;
	long found = 0;

	while (proc && !found && (entry = readdir(proc))) {
		char *text;

		snprintf(path, sizeof(path), "/proc/%s/comm", entry->d_name);
		text = read_file(path);
		snprintf(comm, sizeof(comm), "%s\n", name);
		if (text && !strcmp(text, comm))
			found = atol(entry->d_name);
		free(text);
	}
	closedir(proc);
	return found;
}

/* The instructions that the scanner has executed up to now: it sleeps when it is asked for. */
static uint64_t of_scanner(struct run *run)
{
	char path[64];

	if (run->device)
		return counter("scan_ns_total");
	snprintf(path, sizeof(path), "/proc/%ld/schedstat", task_named("ksmd"));
	return number_in(path, "");
}

static void make_mergeable(struct run *run, char *memory, size_t pages)
{
	struct anon_rmap_range range = { (uintptr_t)memory, pages * PAGE, ANON_RMAP_MERGEABLE, 0 };
	int fd;

	if (!run->device) {
		CHECK(run, !madvise(memory, pages * PAGE, MADV_MERGEABLE));
		return;
	}
	fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	CHECK(run, !ioctl(fd, ANON_RMAP_MERGE, &range));
	close(fd);
}

/* Content that only pages of the same number have. */
static void write_content(char *memory, size_t page, uint64_t number)
{
	uint64_t *words = (uint64_t *)(memory + page * PAGE), word = number;

	for (size_t i = 0; i < PAGE / sizeof(*words); i++)
		words[i] = word = word * 6364136223846793005 + 1442695040888963407;
}

static void start_merging(struct run *run)
{
	choose(run, "pages_to_scan", 4096);
	choose(run, "sleep_millisecs", 1);
	choose(run, "run", 1);
}

static void await_sharing(struct run *run, long pages)
{
	for (int i = 0; sharing(run) < pages; i++) {
		CHECK(run, i < 10000);
		usleep(10000);
	}
}

/* ksm keeps what is merged as long as it is not told otherwise. */
static void end_merging(struct run *run)
{
	choose(run, "run", 2);
	choose(run, "run", 0);
	CHECK(run, !sharing(run));
}

static void half_in_common(struct run *run, char *memory)
{
	for (long page = 0; page < run->size; page++)
		write_content(memory, page, page % 2 ? page : page + (getpid() + 1L) * 1000000);
}

/* Two processes, of whose pages each second one is equal. Returns memory of the one that is the current one. */
static char *two_processes(struct run *run)
{
	char *memory = map(run, run->size);

	make_mergeable(run, memory, run->size);
	fork_sleeper(run, half_in_common, memory);
	half_in_common(run, memory);
	return memory;
}

static void merging(struct run *run)
{
	uint64_t before;
	char *memory = two_processes(run);

	before = of_scanner(run);
	start_merging(run);
	await_sharing(run, run->size / 2);
	run->counted = of_scanner(run) - before;
	run->operations = 2 * run->size;
	/* All that is possible, and nothing else. */
	CHECK(run, sharing(run) == run->size / 2);
	CHECK(run, *(volatile char *)memory || true);
	end_merging(run);
}

static void scan_again(struct run *run)
{
	uint64_t before;
	long pages, scans;

	two_processes(run);
	start_merging(run);
	await_sharing(run, run->size / 2);
	before = of_scanner(run);
	pages = scanned(run);
	scans = full_scans(run);
	while (full_scans(run) < scans + 4)
		usleep(10000);
	run->counted = of_scanner(run) - before;
	run->operations = scanned(run) - pages;
	end_merging(run);
}

/* As many VMAs with equal pages as the size says, among others. Returns the frame of these pages. */
static uint64_t merged_among_vmas(struct run *run, char **memory)
{
	long step = ALL_VMAS / run->size;

	choose(run, "max_page_sharing", 2000);
	*memory = map(run, ALL_VMAS);
	for (long page = 0; page < ALL_VMAS; page++)
		*(uint64_t *)(*memory + page * PAGE) = page % step || page / step >= run->size ? page + 2 : 1;
	split(run, *memory, ALL_VMAS);
	make_mergeable(run, *memory, ALL_VMAS);
	start_merging(run);
	await_sharing(run, run->size - 1);
	choose(run, "run", 0);
	CHECK(run, sharing(run) == run->size - 1);
	CHECK(run, **(volatile char **)memory == 1);
	return pfn_of(*memory);
}

static void soft_offline_merged(struct run *run)
{
	struct command it = command(run, DEBUGFS "soft_offline", "/sys/devices/system/memory/soft_offline_page");
	uint64_t frame;
	char *memory;
	long nodes;

	frame = merged_among_vmas(run, &memory);
	it.size = snprintf(it.text, sizeof(it.text), "%#lx", run->device ? frame : frame * PAGE);
	prepare_kernel(run);
	nodes = counter("walk_nodes_total");
	start(run);
	CHECK(run, push(&it));
	stop(run, 1);
	CHECK(run, *(volatile char *)memory == 1);
	CHECK(run, pfn_of(memory) != frame);
	CHECK(run, is_marked_bad(frame));
	/* Of so many VMAs. */
	CHECK(run, !run->device || counter("walk_nodes_total") - nodes <= 8 * run->size);
	CHECK(run, !print_to_file(run->device ? DEBUGFS "unpoison_pfn" : KERNEL "unpoison-pfn", "%lu", frame));
	end_merging(run);
}

/* What it costs to look at all VMAs for one frame, as who does not know the index has to. */
static void whole_tree(struct run *run)
{
	uint64_t frame;
	char *memory;

	if (!run->device) {
		soft_offline_merged(run);
		return;
	}
	frame = merged_among_vmas(run, &memory);
	start(run);
	CHECK(run, !print_to_file(DEBUGFS "rmap", "%lu 0 %lu", frame, UINT64_MAX));
	stop(run, 1);
	end_merging(run);
}

#define OF_PLACES .unit = "instructions", .of = "places", .runs = 1

static const struct bench_case merge_cases[] = {
	{ "merging", .goal = 1, .run = merging, .unit = "instructions a page", .of = "pages",
	  .sizes = { 256, 4096, 16384, 65536 }, .runs = 2, .check = 4096 },
	{ "scan of what is merged", .goal = 1, .run = scan_again, .unit = "instructions a page", .of = "pages",
	  .sizes = { 256, 1024, 4096, 16384 }, .runs = 2 },
	{ "soft offline of a merged page", .goal = 1, .run = soft_offline_merged, OF_PLACES, .sizes = { 10, 50, 200, 1000 } },
	/* What the index saves: for each place all VMAs. */
	{ "look at all VMAs for a merged page", .goal = 100000, .run = whole_tree, OF_PLACES, .sizes = { 2, 4, 8, 16 } },
	{}
};

#undef OF_PLACES
#endif
