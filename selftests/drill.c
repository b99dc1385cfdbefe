// SPDX-License-Identifier: GPL-2.0-only
/*
 * A drill: a mapping is split and forked, one of its pages fails, exactly those who share the page are
 * told, and the page is given back. Each statement that is printed has been verified.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/debugfs.h"
#include "lib/device.h"
#include "lib/pagemap.h"
#include "lib/peer.h"
#include "lib/stats.h"
#include "lib/usage.h"

#define PAGES 4096
#define BAD 1235

static const char *bold = "", *alarm_colour = "", *plain = "";
static int checks, failures;

/* Prints the heading of the next step. */
__attribute__((format(printf, 1, 2))) static void step(const char *format, ...)
{
	static const char *gap = "";
	va_list arguments;

	printf("%s%s", gap, bold);
	gap = "\n";
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("%s\n", plain);
}

/* Prints a line, with FAILED behind it if what it says is not as it should be. */
__attribute__((format(printf, 2, 3))) static void verify(bool good, const char *format, ...)
{
	va_list arguments;

	checks++;
	failures += !good;
	printf("  ");
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("%s\n", good ? "" : "  FAILED");
}

/* Ends the drill if something it is built on does not work. */
static void need(bool good, const char *what)
{
	if (good)
		return;
	printf("%sdrill: %s: %s%s\n", alarm_colour, what, strerror(errno), plain);
	exit(1);
}

/* One of the processes that take part. */
struct process {
	const char *name;
	pid_t pid;
	/* NULL for this process. */
	struct peer *peer;
	bool writes;
	/* Where it has the page, and what is in it. */
	uint64_t pfn, content;
};

static long pfn_here(void *address, long unused)
{
	(void)unused;
	return pfn_of(address);
}

static uint64_t pfn_in(const struct process *process, char *address)
{
	return process->peer ? (uint64_t)peer_call(process->peer, pfn_here, address, 0) : pfn_of(address);
}

static struct access load_in(const struct process *process, char *address)
{
	return process->peer ? peer_load(process->peer, address) : load(address);
}

static long neighbours_intact_here(void *memory, long unused)
{
	(void)unused;
	return filled(memory, 0, BAD, 1) && filled(memory, BAD + 1, PAGES - BAD - 1, 1);
}

static bool neighbours_intact(const struct process *process, char *memory)
{
	return process->peer ? peer_call(process->peer, neighbours_intact_here, memory, 0) :
			       neighbours_intact_here(memory, 0);
}

/* How many VMAs this process has, and in *present how many pages they hold. */
static long vmas(unsigned long *present)
{
	struct mapping *mappings;
	long count = read_mappings(getpid(), &mappings);

	*present = 0;
	for (long i = 0; i < count; i++)
		*present += mappings[i].present;
	free(mappings);
	return count;
}

static bool mapped_by(const struct poisoned *page, pid_t pid)
{
	for (int i = 0; i < page->nr_pids; i++)
		if (page->pids[i] == pid)
			return true;
	return false;
}

int main(int argc, char **argv)
{
	struct process processes[] = {
		{ .name = "parent", .pid = getpid() },
		{ .name = "child 1" },
		{ .name = "child 2", .writes = true },
		{ .name = "child 3" },
	};
	const size_t nr_processes = sizeof(processes) / sizeof(*processes);
	struct process *parent = &processes[0];
	struct poisoned page = {};
	unsigned long present;
	char *memory, *bad;
	long count, nodes, tree;

	no_options(argc, argv, ": shows what becomes of a page that fails");
	if (isatty(STDOUT_FILENO)) {
		bold = "\033[1m";
		alarm_colour = "\033[31m";
		plain = "\033[m";
	}
	/* A reader sees each step when it is done. */
	setvbuf(stdout, NULL, _IOLBF, 0);

	memory = map_device(PAGES, MAP_PRIVATE);
	need(memory != MAP_FAILED, "cannot map " DEVICE " (is the module loaded?)");
	fill(memory, PAGES, 1);
	bad = memory + BAD * PAGE;
	count = vmas(&present);
	step("A process maps %d pages of %s and fills them.", PAGES, DEVICE);
	verify(count == 1 && present == PAGES, "pid %d at %p: %ld VMA, %lu pages present", getpid(), memory, count,
	       present);

	for (size_t i = 0; i < PAGES; i += 2)
		need(!mprotect(memory + i * PAGE, PAGE, PROT_READ), "mprotect");
	count = vmas(&present);
	step("It makes every other page read-only: mprotect() splits the mapping.");
	verify(count == PAGES && present == PAGES, "pid %d: %ld VMAs, %lu pages present", getpid(), count, present);

	for (size_t i = 1; i < nr_processes; i++) {
		processes[i].peer = fork_peer();
		need(processes[i].peer, "fork");
		processes[i].pid = processes[i].peer->pid;
	}
	step("It forks three processes. All read page %d; one writes it, so it gets a copy.", BAD);
	for (struct process *p = processes; p < processes + nr_processes; p++) {
		p->content = p->writes ? peer_store(p->peer, bad, 4711).value : load_in(p, bad).value;
		p->pfn = pfn_in(p, bad);
		verify(p->pfn && (p->pfn == parent->pfn) != p->writes, "%-8s pid %-6d has it in frame %#lx%s", p->name,
		       p->pid, p->pfn, p->writes ? ", a copy of its own" : "");
	}

	step("A memory error at %p of pid %d, by debugfs poison_addr:", bad, getpid());
	errno = poison_addr(getpid(), bad);
	need(!errno, "poison_addr");
	nodes = counter("last_walk_nodes");
	tree = counter("last_walk_vmas");
	verify(nodes >= 1 && nodes <= 40 && tree >= PAGES, "the rmap walk visited %ld nodes of a tree with %ld VMAs", nodes,
	       tree);
	need(read_poisoned(parent->pfn, &page), "the page is not in debugfs poisoned");
	verify(counter("last_walk_mappings") == 3, "it found and removed %ld mappings of the page",
	       counter("last_walk_mappings"));
	for (struct process *p = processes; p < processes + nr_processes; p++) {
		bool mapped = mapped_by(&page, p->pid);

		verify(mapped != p->writes, "%-8s pid %-6d %s the page", p->name, p->pid,
		       mapped ? "mapped" : "did not map");
	}

	step("Each reads page %d again, at %p:", BAD, bad);
	for (struct process *p = processes; p < processes + nr_processes; p++) {
		struct access access = load_in(p, bad);

		if (p->writes)
			verify(!access.signal && access.value == p->content, "%-8s pid %-6d its copy is intact", p->name,
			       p->pid);
		else
			verify(access.signal == SIGBUS && access.code == BUS_MCEERR_AR && access.address == bad &&
				       access.lsb == PAGE_SHIFT,
			       "%-8s pid %-6d %s %s, si_addr %p, lsb %d", p->name, p->pid,
			       access.signal == SIGBUS ? "SIGBUS" : "no SIGBUS",
			       access.code == BUS_MCEERR_AR ? "BUS_MCEERR_AR" : "of another kind", access.address,
			       access.lsb);
	}
	step("Each reads the other %d pages:", PAGES - 1);
	for (struct process *p = processes; p < processes + nr_processes; p++) {
		bool intact = neighbours_intact(p, memory);

		verify(intact, "%-8s pid %-6d %s intact", p->name, p->pid, intact ? "all" : "not all");
	}

	step("The page is given back, by debugfs unpoison_pfn %#lx:", parent->pfn);
	errno = unpoison_pfn(parent->pfn);
	need(!errno, "unpoison_pfn");
	for (struct process *p = processes; p < processes + nr_processes; p++) {
		struct access access = load_in(p, bad);
		bool same = !access.signal && access.value == p->content;

		verify(same, "%-8s pid %-6d reads %s", p->name, p->pid, same ? "what it had there before" : "something else");
	}
	verify(filled(memory, 0, PAGES, 1) && !counter("poisoned"), "all %d pages are as they were filled", PAGES);

	for (size_t i = 1; i < nr_processes; i++)
		end_peer(processes[i].peer);
	need(!munmap(memory, PAGES * PAGE), "munmap");
	step("All have unmapped the memory.");
	verify(!*leak(), "nothing is left: %ld VMAs, %ld pages, %ld AVCs", counter("vmas"), counter("anons"),
	       counter("avcs"));

	if (failures)
		step("%d of %d checks FAILED.", failures, checks);
	else
		step("All %d checks passed.", checks);
	return failures ? 1 : 0;
}
