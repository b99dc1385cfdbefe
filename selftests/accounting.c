// SPDX-License-Identifier: GPL-2.0-only
/*
 * What /proc says of memory of the device is what it says of anonymous memory with which the same was done, after each of
 * many random steps. `accounting [SEED [SEEDS [STEPS]]]` repeats a run: SEEDS seeds from SEED on, STEPS steps each.
 */
#include "proc.h"
#include "random.h"
#include "kselftest.h"

#define PAGES 64
#define CHILDREN 4

/* What is seen of one kind of memory. A bit for each page, and kilobytes. */
struct view {
	uint64_t present, soft_dirty, in_core;
	long size, rss, referenced;
};

static void add_up(const char *line, void *argument)
{
	struct view *view = argument;
	long kilobytes;

	if (sscanf(line, "Size: %ld", &kilobytes) == 1)
		view->size += kilobytes;
	else if (sscanf(line, "Rss: %ld", &kilobytes) == 1)
		view->rss += kilobytes;
	else if (sscanf(line, "Referenced: %ld", &kilobytes) == 1)
		view->referenced += kilobytes;
}

static struct view look(char *memory)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	unsigned char in_core[PAGES] = {};
	uint64_t entries[PAGES] = {};
	struct view view = {};

	if (pread(pagemap, entries, sizeof(entries), (uintptr_t)memory / PAGE * sizeof(*entries)) != sizeof(entries) ||
	    mincore(memory, PAGES * PAGE, in_core))
		ksft_exit_fail_perror("pagemap or mincore");
	close(pagemap);
	for (size_t i = 0; i < PAGES; i++) {
		view.present |= (uint64_t)!!(entries[i] & PAGEMAP_PRESENT) << i;
		view.soft_dirty |= (uint64_t)!!(entries[i] & PAGEMAP_SOFT_DIRTY) << i;
		view.in_core |= (uint64_t)(in_core[i] & 1) << i;
	}
	read_smaps(memory, PAGES, add_up, &view);
	return view;
}

/* What a seed works with: the same is done to both. */
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

	if (!pfn || print_to_file(DEBUGFS "rmap", "%#lx", pfn))
		return;
	if (move ? print_to_file(DEBUGFS "soft_offline", "%#lx", pfn) : poison_pfn(pfn))
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

	if (operation == CLEAR_REFS && write_file("/proc/self/clear_refs", "4", 1))
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
		.memories = { map_device(PAGES, MAP_PRIVATE),
			      mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) },
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
		ksft_test_result(!status, "the same is seen, seed %lu, %lu steps\n", seed + i, steps);
	}
	ksft_test_result(!*leak(), "nothing is left: %s\n", leak());
	ksft_finished();
}
