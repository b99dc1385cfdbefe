/* SPDX-License-Identifier: GPL-2.0-only */
/* What is looked at between rounds, while nobody does anything else. */
#ifndef TORTURE_CHECK_H
#define TORTURE_CHECK_H

#include "steps.h"

/* How a page reads. */
struct look {
	/* ENOENT if nothing is mapped there. */
	int error;
	uint64_t digest;
};

static struct look looks[NR_ARENAS][ARENA_PAGES];

/* Not inlined: an access that fails leaves it by longjmp(). */
static uint64_t digest_of(const uint64_t *words)
{
	uint64_t digest = 0;

	for (unsigned int word = 0; word < NR_WORDS; word++)
		digest = (digest ^ words[word]) * 0x100000001b3;
	return digest;
}

/* What could not be read before the check. */
static bool hidden[NR_ARENAS][ARENA_PAGES];

/* Makes all that is mapped readable, without a change of VMAs. */
static void unhide(void)
{
	for (enum arena arena = 0; arena < NR_ARENAS; arena++) {
		struct vma vma;

		memset(hidden[arena], 0, sizeof(hidden[arena]));
		for (unsigned int page = 0; page < ARENA_PAGES; page = vma.end) {
			vma = next_vma(arena, page);
			if (vma.readable || vma.start == vma.end)
				continue;
			memset(&hidden[arena][vma.start], true, vma.end - vma.start);
			if (mprotect(at(arena, vma.start), (vma.end - vma.start) * PAGE, PROT_READ))
				fail("mprotect: %s", strerror(errno));
		}
	}
}

static void hide_again(void)
{
	for (enum arena arena = 0; arena < NR_ARENAS; arena++) {
		for (unsigned int page = 0, end; page < ARENA_PAGES; page = end + 1) {
			for (end = page; end < ARENA_PAGES && hidden[arena][end];)
				end++;
			if (end > page && mprotect(at(arena, page), (end - page) * PAGE, PROT_NONE))
				fail("mprotect: %s", strerror(errno));
		}
	}
}

/* Reads the words of a page that are in use; 0, or why they can't be read. */
static int read_words(char *address, uint64_t *words)
{
	struct access access = {};

	ATTEMPT(access, memcpy(words, address, NR_WORDS * sizeof(*words)));
	if (access.signal == SIGBUS && (char *)access.address - address < NR_WORDS * sizeof(*words))
		access.address = address;
	return judge_signal(&access, address);
}

static struct look look_at(enum arena arena, unsigned int page)
{
	uint64_t words[NR_WORDS];
	struct look look = { .error = read_words(at(arena, page), words) };

	if (look.error)
		return look;
	look.digest = digest_of(words);
	for (unsigned int word = 0; word < NR_WORDS; word++)
		if (!may_be_at(words[word], arena, page, word, false))
			fail_word("was never written there", arena, page, word, USER, words[word]);
	return look;
}

static void describe_place(enum arena arena, unsigned int page, char *text, size_t size)
{
	uint64_t entry = pagemap_entry(pagemap_fd, at(arena, page));
	char *listed = NULL;

	if (!world->anonymous && entry & PAGEMAP_PRESENT &&
	    !ask_rmap(entry & PAGEMAP_FRAME))
		listed = read_file(DEBUGFS "rmap");
	snprintf(text, size, "process %d, %s, page %u, pagemap %#lx, rmap: %.200s", getpid(),
		 arena == SHARED ? "shared" : "private", page, entry, listed ?: "(none)");
	free(listed);
}

static void compare_looks(const char *what, enum arena arena, unsigned int page, const struct look *look)
{
	const struct look *before = &looks[arena][page];
	char text[384];

	if (look->error == before->error && look->digest == before->digest)
		return;
	describe_place(arena, page, text, sizeof(text));
	fail("%s: errno %d digest %#lx, before: errno %d digest %#lx; %s", what, look->error, look->digest, before->error,
	     before->digest, text);
}

/* Looks at everything that is mapped; compares with what it was before if @what is given. */
static void look_at_all(const char *what)
{
	struct worker *worker = &world->conductor;

	for (enum arena arena = 0; arena < NR_ARENAS; arena++) {
		struct vma vma = {};

		for (unsigned int page = 0; page < ARENA_PAGES; page++) {
			struct look look = { .error = ENOENT };

			if (page >= vma.end)
				vma = next_vma(arena, page);
			if (page >= vma.start)
				look = look_at(arena, page);
			if (what)
				compare_looks(what, arena, page, &look);
			else
				looks[arena][page] = look;
		}
		atomic_fetch_add(&worker->progress, 1);
	}
}

/* What can be read is what is mapped, but for guard pages and pages that have failed. */
static void check_refusals(void)
{
	for (enum arena arena = 0; arena < NR_ARENAS; arena++) {
		for (unsigned int page = 0; page < ARENA_PAGES; page++) {
			bool guarded = pagemap_entry(pagemap_fd, at(arena, page)) & PAGEMAP_GUARD;
			int error = looks[arena][page].error;
			char text[384];

			if (!error || error == ENOENT || guarded || atomic_load(&world->failing))
				continue;
			describe_place(arena, page, text, sizeof(text));
			fail("a good page can't be read: %s; %s", strerror(error), text);
		}
	}
}

static void check_memories(struct actor *actor)
{
	for (actor->thread = 0; actor->thread < MAX_THREADS; actor->thread++)
		for (enum arena arena = 0; arena < NR_ARENAS; arena++)
			for (unsigned int page = 0; page < ARENA_PAGES; page++)
				recall(actor, arena, page, page & 1 ? USER : PROC_MEM);
}

/* A child has what the driver's map has, not what page tables happen to have. */
static void check_child(void)
{
	pid_t parent = getpid(), pid = fork();
	int status;

	if (pid < 0)
		fail("fork: %s", strerror(errno));
	if (!pid) {
		die_with(parent);
		open_own_files();
		look_at_all("a child reads something else");
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || status)
		fail("a child that looks ended with status %#x", status);
}

static bool is_listed(const char *lines, const void *address)
{
	pid_t pid;
	void *place;

	for (; lines; lines = strchr(lines, '\n') ? strchr(lines, '\n') + 1 : NULL)
		if (sscanf(lines, "pid=%d address=%p", &pid, &place) == 2 && pid == getpid() && place == address)
			return true;
	return false;
}

/* The reverse map has what page tables have; of each so many pages one is asked for. */
static void check_rmap(struct random *random)
{
	static const uint64_t zeroes[NR_WORDS];

	for (enum arena arena = 0; arena < NR_ARENAS; arena++) {
		for (unsigned int page = below(random, world->stride); page < ARENA_PAGES; page += world->stride) {
			uint64_t entry = pagemap_entry(pagemap_fd, at(arena, page));
			char *listed, text[384];
			int error;

			if (!(entry & PAGEMAP_PRESENT))
				continue;
			error = ask_rmap(entry & PAGEMAP_FRAME);
			/* The kernel's page of zeroes is not the device's. */
			if (error == ENXIO && looks[arena][page].digest == digest_of(zeroes))
				continue;
			listed = error ? NULL : read_file(DEBUGFS "rmap");
			if (!is_listed(listed, at(arena, page))) {
				describe_place(arena, page, text, sizeof(text));
				fail("a mapping is not in the rmap: %s; %s", strerror(error), text);
			}
			free(listed);
			count(&world->listed);
			atomic_fetch_add(&world->conductor.progress, 1);
		}
	}
}

/* The driver knows of each VMA, and of no other. */
static void check_mappings(void)
{
	struct mapping *mappings;
	ssize_t listed = read_mappings(getpid(), &mappings), found = 0, vmas = 0;

	for (enum arena arena = 0; arena < NR_ARENAS; arena++) {
		struct vma vma = next_vma(arena, 0);

		for (; vma.start < vma.end; vma = next_vma(arena, vma.end)) {
			vmas++;
			for (ssize_t i = 0; i < listed; i++)
				found += mappings[i].start == (uintptr_t)at(arena, vma.start) &&
					 mappings[i].end == (uintptr_t)at(arena, vma.end);
		}
	}
	if (listed != vmas || found != vmas)
		fail("mappings has %zd lines of process %d, %zd of them right, which has %zd VMAs", listed, getpid(), found,
		     vmas);
	free(mappings);
}

/* All checks of a member. */
static void check(struct actor *actor)
{
	struct random random = random_of_round(CHECKS + actor->slot);

	unhide();
	look_at_all(NULL);
	check_refusals();
	check_child();
	look_at_all("after a fork the parent reads something else");
	if (!world->anonymous) {
		check_rmap(&random);
		check_mappings();
	}
	check_memories(actor);
	hide_again();
}

#endif
