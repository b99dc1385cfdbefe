// SPDX-License-Identifier: GPL-2.0-only
/*
 * What /proc says of memory of the device is what it says of anonymous memory to which the same things were done, after each of
 * many random steps. `accounting [SEED [SEEDS [STEPS]]]` repeats a run: SEEDS seeds from SEED on, STEPS steps each.
 */
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/debugfs.h"
#include "lib/device.h"
#include "lib/pagemap.h"
#include "lib/peer.h"
#include "lib/proc.h"
#include "lib/random.h"
#include "lib/stats.h"
#include "lib/usage.h"
#include "kselftest.h"

#define PAGES 64
#define CHILDREN 4

/* What is seen of one kind of memory. A bit for each page, and kilobytes. */
struct view {
	uint64_t present, soft_dirty, in_core;
	long size, rss, referenced;
};

static struct view look(char *memory)
{
	return (struct view){
		.present = pages_that_are(PAGEMAP_PRESENT, memory, PAGES),
		.soft_dirty = pages_that_are(PAGEMAP_SOFT_DIRTY, memory, PAGES),
		.in_core = pages_in_core(memory, PAGES),
		.size = smaps_kilobytes(memory, PAGES, "Size"),
		.rss = smaps_kilobytes(memory, PAGES, "Rss"),
		.referenced = smaps_kilobytes(memory, PAGES, "Referenced"),
	};
}

/* What a seed works with: each step is done to both. */
struct scene {
	char *memories[2];
	struct peer *children[CHILDREN];
	size_t next_child;
};

static long write_in_child(void *pages, long count)
{
	for (long i = 0; i < count; i++)
		store((char *)pages + i * PAGE, i);
	return 0;
}

/* Moves the page to another frame, or fails it and takes that back; if it is there. */
static void disturb(char *page, bool move)
{
	uint64_t pfn = pfn_of(page);

	if (!pfn || ask_rmap(pfn))
		return;
	if (move ? soft_offline_pfn(pfn) : poison_pfn(pfn))
		ksft_exit_fail_msg("frame %#lx is not moved or poisoned\n", pfn);
	if (unpoison_pfn(pfn))
		ksft_exit_fail_msg("frame %#lx is not unpoisoned\n", pfn);
}

static const char *const names[] = {
	"write", "read", "protect", "unprotect", "discard", "clear_refs", "child", "child_writes", "offline", "poison",
};

enum operation { WRITE, READ, PROTECT, UNPROTECT, DISCARD, CLEAR_REFS, CHILD, CHILD_WRITES, OFFLINE, POISON, OPERATIONS };

static void step(struct scene *scene, enum operation operation, size_t first, size_t count)
{
	struct peer **child = &scene->children[scene->next_child % CHILDREN];

	if (operation == CLEAR_REFS && clear_soft_dirty())
		ksft_exit_fail_perror("clear_refs");
	if (operation == CHILD) {
		if (*child)
			end_peer(*child);
		*child = fork_peer();
		scene->next_child++;
	}
	for (size_t kind = 0; kind < 2; kind++) {
		char *pages = scene->memories[kind] + first * PAGE;

		switch (operation) {
		case WRITE:
			write_in_child(pages, count);
			break;
		case READ:
			for (size_t i = 0; i < count; i++)
				load(pages + i * PAGE);
			break;
		case PROTECT:
		case UNPROTECT:
			mprotect(pages, count * PAGE, PROT_READ | (operation == PROTECT ? 0 : PROT_WRITE));
			break;
		case DISCARD:
			madvise(pages, count * PAGE, MADV_DONTNEED);
			break;
		case CHILD_WRITES:
			if (*child)
				peer_call(*child, write_in_child, pages, count);
			break;
		case OFFLINE:
		case POISON:
			/* What it does to anonymous memory is done when the page is touched again. */
			if (!kind)
				disturb(pages, operation == OFFLINE);
			if (pfn_of(scene->memories[1] + first * PAGE))
				load(pages);
			break;
		default:
			break;
		}
	}
}

/* Says what differs; false if nothing does. */
static bool differ(uint64_t seed, unsigned long number, const char *name, struct view *device, struct view *anonymous)
{
	bool same = device->present == anonymous->present && device->in_core == anonymous->in_core &&
		    device->size == anonymous->size && device->rss == anonymous->rss &&
		    device->referenced == anonymous->referenced;
	/* Never too little. */
	bool missed = anonymous->soft_dirty & ~device->soft_dirty;

	if (same && !missed)
		return false;
	ksft_print_msg("seed %lu, step %lu, %s: device and anonymous memory differ\n", seed, number, name);
	ksft_print_msg("present %#lx %#lx, soft-dirty %#lx %#lx, mincore %#lx %#lx\n", device->present,
		       anonymous->present, device->soft_dirty, anonymous->soft_dirty, device->in_core,
		       anonymous->in_core);
	ksft_print_msg("Size %ld %ld, Rss %ld %ld, Referenced %ld %ld\n", device->size, anonymous->size, device->rss,
		       anonymous->rss, device->referenced, anonymous->referenced);
	return true;
}

/* Returns how often soft-dirty bits told more than of anonymous memory; -1 if something differs. */
static long run(uint64_t seed, unsigned long steps)
{
	struct scene scene = {
		.memories = { map_private(true, PAGES), map_private(false, PAGES) },
	};
	long surplus = 0;
	bool wrong = false;

	if (scene.memories[0] == MAP_FAILED || madvise(scene.memories[1], PAGES * PAGE, MADV_NOHUGEPAGE))
		ksft_exit_fail_perror("mmap");
	for (unsigned long number = 0; number < steps && !wrong; number++) {
		struct random random = random_of_step(seed, number);
		enum operation operation = below(&random, OPERATIONS);
		size_t first = below(&random, PAGES), count = 1 + below(&random, PAGES - first);
		struct view device, anonymous;

		step(&scene, operation, first, count);
		device = look(scene.memories[0]);
		anonymous = look(scene.memories[1]);
		surplus += device.soft_dirty != anonymous.soft_dirty;
		wrong = differ(seed, number, names[operation], &device, &anonymous);
	}
	for (size_t i = 0; i < CHILDREN; i++)
		if (scene.children[i])
			end_peer(scene.children[i]);
	munmap(scene.memories[0], PAGES * PAGE);
	munmap(scene.memories[1], PAGES * PAGE);
	return wrong ? -1 : surplus;
}

int main(int argc, char **argv)
{
	uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
	unsigned long steps = argc > 3 ? strtoul(argv[3], NULL, 0) : 150;
	int seeds = argc > 2 ? atoi(argv[2]) : 3;

	no_options(argc, argv, " [SEED [SEEDS [STEPS]]]: SEEDS seeds from SEED on, with STEPS steps each");
	ksft_print_header();
	ksft_set_plan(seeds + 1);
	for (int i = 0; i < seeds; i++) {
		/* A process for each, as there is an end of peers. */
		pid_t pid = fork();
		long surplus;
		int status;

		if (!pid) {
			surplus = run(seed + i, steps);
			if (surplus >= 0)
				ksft_print_msg("soft-dirty bits told too much after %ld of %lu steps\n", surplus, steps);
			exit(surplus < 0);
		}
		waitpid(pid, &status, 0);
		ksft_test_result(!status, "both are seen alike, seed %lu, %lu steps\n", seed + i, steps);
	}
	ksft_test_result(!*leak(), "nothing is left: %s\n", leak());
	ksft_finished();
}
