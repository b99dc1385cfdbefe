// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages that fail and are kept: they stay mapped, and only what would read all of such a page is refused.
 * `keep [ROUNDS]`: how often a page is kept and unpoisoned again under threads that write to it.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/uio.h>

#include "lib/fixture.h"
#include "lib/hwpoison.h"
#include "lib/pool.h"
#include "lib/slow_write.h"
#include "lib/watchdog.h"

#define PAGES 64
#define BAD 5

static long nr_rounds;

static int keep_addr(pid_t pid, const void *address)
{
	return print_to_file(DEBUGFS "poison_addr", "%d %p keep\n", pid, address);
}

static int keep_pfn(uint64_t pfn)
{
	return print_to_file(DEBUGFS "poison_pfn", "%#lx keep", pfn);
}

/* What holds for private and for shared memory. */
FIXTURE_WITH_BAD_PAGE(keep, PAGES, BAD);

/* Whether a page is poisoned in that way. */
static bool has_kind(uint64_t pfn, const char *kind)
{
	struct poisoned page;

	return read_poisoned(pfn, &page) && !strcmp(kind, page.kind);
}

TEST_F(keep, stays_mapped_readable_and_writable)
{
	long refused = counter("accesses_refused_total"), zapped = counter("mappings_zapped_total");

	ASSERT_EQ(0, keep_addr(getpid(), self->bad + 100));
	EXPECT_EQ(self->pfn, pfn_of(self->bad));
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
	for (size_t offset = 0; offset < PAGE; offset += 584)
		EXPECT_WORD(offset, store(self->bad + offset, offset));
	for (size_t offset = 0; offset < PAGE; offset += 584)
		EXPECT_WORD(offset, load(self->bad + offset));
	EXPECT_EQ(self->pfn, pfn_of(self->bad));
	EXPECT_EQ(refused, counter("accesses_refused_total"));
	EXPECT_EQ(zapped, counter("mappings_zapped_total"));
	EXPECT_TRUE(verified());
}

TEST_F(keep, counts_as_poisoned)
{
	long poisonings = counter("poisonings_total");
	char name[64], *text;
	struct poisoned page;
	struct mapping *m;

	ASSERT_EQ(0, keep_pfn(self->pfn));
	EXPECT_EQ(1, counter("poisoned"));
	EXPECT_EQ(poisonings + 1, counter("poisonings_total"));
	ASSERT_TRUE(read_poisoned(self->pfn, &page));
	EXPECT_STREQ("kept", page.kind);
	EXPECT_STREQ("poison_pfn", page.source);
	EXPECT_EQ(1, page.hit);
	ASSERT_EQ(1, page.nr_pids);
	EXPECT_EQ(getpid(), page.pids[0]);
	text = read_file(DEBUGFS "poisoned");
	snprintf(name, sizeof(name), " pid=%d address=%p\n", getpid(), self->bad);
	EXPECT_NE(NULL, strstr(text, name)) TH_LOG("%s", text);
	free(text);
	ASSERT_EQ(1, read_mappings(getpid(), &m));
	EXPECT_EQ(PAGES, m->present);
	EXPECT_EQ(1, m->poisoned);
	free(m);
	ASSERT_EQ(0, ask_rmap(self->pfn));
	text = read_file(DEBUGFS "rmap");
	EXPECT_STREQ(name + 1, text);
	free(text);
}

TEST_F(keep, is_in_the_journal)
{
	char words[128], *text, *action, *hit;

	ASSERT_EQ(0, keep_addr(getpid(), self->bad));
	ASSERT_EQ(0, unpoison_pfn(self->pfn));
	text = read_file(DEBUGFS "events");
	snprintf(words, sizeof(words), "pfn=%#lx index=%d action=keep source=poison_addr\n", self->pfn, BAD);
	action = strstr(text, words);
	ASSERT_NE(NULL, action) TH_LOG("%s", text);
	snprintf(words, sizeof(words), "pfn=%#lx pid=%d address=%p tid=0 signal=none\n", self->pfn, getpid(), self->bad);
	hit = strstr(action, words);
	ASSERT_NE(NULL, hit) TH_LOG("%s", text);
	snprintf(words, sizeof(words), "pfn=%#lx index=%d action=unpoison source=unpoison_pfn\n", self->pfn, BAD);
	EXPECT_NE(NULL, strstr(hit, words)) TH_LOG("%s", text);
	free(text);
}

TEST_F(keep, is_poisoned_already)
{
	ASSERT_EQ(0, keep_addr(getpid(), self->bad));
	EXPECT_EQ(EHWPOISON, keep_addr(getpid(), self->bad));
	EXPECT_EQ(EHWPOISON, keep_pfn(self->pfn));
	EXPECT_EQ(EHWPOISON, poison_addr(getpid(), self->bad));
	EXPECT_EQ(EHWPOISON, poison_pfn(self->pfn));
	EXPECT_EQ(EHWPOISON, print_to_file(DEBUGFS "poison_addr", "%d %p touched", getpid(), self->bad));
	EXPECT_EQ(EHWPOISON, print_to_file(DEBUGFS "poison_range", "%d %p %p", getpid(), self->bad, self->bad + PAGE));
	EXPECT_EQ(EHWPOISON, print_to_file(DEBUGFS "dry_run", "%#lx", self->pfn));
	EXPECT_EQ(EHWPOISON, soft_offline_pfn(self->pfn));
	EXPECT_EQ(1, counter("poisoned"));
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
	EXPECT_EQ(self->pfn, pfn_of(self->bad));
	ASSERT_EQ(0, unpoison_pfn(self->pfn));
	/* Nor can one keep what has been taken away. */
	ASSERT_EQ(0, poison_pfn(self->pfn));
	EXPECT_EQ(EHWPOISON, keep_pfn(self->pfn));
	EXPECT_SIGBUS(self->bad, load(self->bad));
}

TEST_F(keep, unpoison_ends_it_with_what_was_written_last)
{
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(0, keep_addr(getpid(), self->bad));
		EXPECT_WORD(i, store(self->bad + 8, i));
		ASSERT_EQ(0, unpoison_pfn(self->pfn));
		EXPECT_WORD(i, load(self->bad + 8));
		EXPECT_EQ(self->pfn, pfn_of(self->bad));
		EXPECT_EQ(ENOENT, unpoison_pfn(self->pfn));
		EXPECT_EQ(0, counter("poisoned"));
	}
	ASSERT_EQ(0, poison_addr(getpid(), self->bad));
	EXPECT_SIGBUS(self->bad, load(self->bad));
}

TEST_F(keep, system_calls_succeed)
{
	char buffer[8];
	struct iovec remote = { self->bad, 8 }, local = { buffer, 8 };
	int pipes[2], mem = open("/proc/self/mem", O_RDWR);

	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(0, keep_addr(getpid(), self->bad));
	ASSERT_EQ(8, write(pipes[1], "content", 8));
	EXPECT_EQ(8, read(pipes[0], self->bad, 8));
	EXPECT_STREQ("content", self->bad);
	EXPECT_EQ(8, write(pipes[1], self->bad, 8));
	EXPECT_EQ(8, read(pipes[0], buffer, 8));
	EXPECT_STREQ("content", buffer);
	EXPECT_EQ(8, pwrite(mem, "another", 8, (off_t)self->bad));
	EXPECT_EQ(8, pread(mem, buffer, 8, (off_t)self->bad));
	EXPECT_STREQ("another", buffer);
	EXPECT_EQ(8, process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
	EXPECT_STREQ("another", buffer);
	memcpy(buffer, "written", 8);
	EXPECT_EQ(8, process_vm_writev(getpid(), &local, 1, &remote, 1, 0));
	EXPECT_STREQ("written", self->bad);
	EXPECT_EQ(0, madvise(self->memory, PAGES * PAGE, MADV_POPULATE_READ));
	EXPECT_EQ(0, madvise(self->memory, PAGES * PAGE, MADV_POPULATE_WRITE));
	EXPECT_EQ(0, mlock(self->memory, PAGES * PAGE));
	EXPECT_EQ(self->pfn, pfn_of(self->bad));
}

TEST_F(keep, a_child_has_it_too)
{
	struct peer *before = fork_peer(), *after, *grandchild;

	ASSERT_NE(NULL, before);
	ASSERT_EQ(0, keep_addr(getpid(), self->bad));
	after = fork_peer();
	ASSERT_NE(NULL, after);
	grandchild = peer_fork(after);
	ASSERT_NE(NULL, grandchild);
	EXPECT_WORD(word(1, BAD), peer_load(before, self->bad));
	EXPECT_WORD(word(1, BAD), peer_load(grandchild, self->bad));
	EXPECT_WORD(word(1, BAD), peer_load(after, self->bad));
	EXPECT_WORD(word(1, BAD), load(self->bad));
	EXPECT_TRUE(verified());
	ASSERT_EQ(0, unpoison_pfn(self->pfn));
	EXPECT_WORD(word(1, BAD), peer_load(before, self->bad));
	EXPECT_WORD(7, peer_store(after, self->bad, 7));
	EXPECT_WORD(variant->flags == MAP_SHARED ? 7 : word(1, BAD), load(self->bad));
}

/* Lets this process be told of failures at once, if @asks, and its signals wait. */
static long await_notices(void *unused, long asks)
{
	sigset_t sigbus;

	(void)unused;
	sigemptyset(&sigbus);
	sigaddset(&sigbus, SIGBUS);
	if (sigprocmask(SIG_BLOCK, &sigbus, NULL))
		return errno;
	return asks && prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0) ? errno : 0;
}

/* The notice that there is. */
static long take_notice(void *argument, long unused)
{
	struct access *access = argument;
	const struct timespec now = {};
	siginfo_t info;
	sigset_t sigbus;

	(void)unused;
	sigemptyset(&sigbus);
	sigaddset(&sigbus, SIGBUS);
	*access = (struct access){};
	if (sigtimedwait(&sigbus, &info, &now) != SIGBUS)
		return ENOENT;
	*access = (struct access){ 0, SIGBUS, info.si_code, info.si_addr, info.si_addr_lsb };
	return 0;
}

#define EXPECT_NOTICE(expected_address, peer) do {				\
	EXPECT_EQ(0, peer_call(peer, take_notice, &(peer)->access, 0));		\
	EXPECT_EQ(BUS_MCEERR_AO, (peer)->access.code);				\
	EXPECT_EQ((void *)(expected_address), (peer)->access.address);		\
	EXPECT_EQ(PAGE_SHIFT, (peer)->access.lsb);				\
	EXPECT_EQ(ENOENT, peer_call(peer, take_notice, &(peer)->access, 0));	\
} while (0)

TEST_F(keep, who_asks_is_told_and_nobody_else)
{
	struct peer *asks = fork_peer(), *does_not = fork_peer();
	char words[128], *text;

	ASSERT_NE(NULL, asks);
	ASSERT_NE(NULL, does_not);
	ASSERT_EQ(0, peer_call(asks, await_notices, NULL, true));
	ASSERT_EQ(0, peer_call(does_not, await_notices, NULL, false));
	EXPECT_WORD(word(1, BAD), peer_load(asks, self->bad));
	EXPECT_WORD(word(1, BAD), peer_load(does_not, self->bad));
	/* A signal to this process would end it. */
	ASSERT_EQ(0, keep_addr(getpid(), self->bad + 8));
	EXPECT_NOTICE(self->bad, asks);
	EXPECT_EQ(ENOENT, peer_call(does_not, take_notice, &does_not->access, 0));
	text = read_file(DEBUGFS "events");
	snprintf(words, sizeof(words), "pid=%d address=%p tid=%d signal=BUS_MCEERR_AO\n", asks->pid, self->bad, asks->pid);
	EXPECT_NE(NULL, strstr(text, words)) TH_LOG("%s", text);
	free(text);
	/* What was good is read, by who was told as well. */
	EXPECT_WORD(word(1, BAD) + 100, peer_load(asks, self->bad + 800));
	EXPECT_WORD(word(1, BAD) + 100, peer_load(does_not, self->bad + 800));
	EXPECT_WORD(word(1, BAD) + 100, load(self->bad + 800));
	/* To fail for good is another failure. */
	ASSERT_EQ(0, hard_offline_pfn(self->pfn));
	EXPECT_NOTICE(self->bad, asks);
	EXPECT_EQ(ENOENT, peer_call(does_not, take_notice, &does_not->access, 0));
}

/* Moves 16 pages, the bad one among them, and returns where that is now. */
static char *move_around(char *bad)
{
	char *target = reserve(16);

	return (char *)mremap(bad - 2 * PAGE, 16 * PAGE, 16 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target) + 2 * PAGE;
}

TEST_F(keep, moves_with_the_page)
{
	char *moved;

	ASSERT_EQ(0, keep_addr(getpid(), self->bad));
	moved = move_around(self->bad);
	EXPECT_WORD(word(1, BAD), load(moved));
	EXPECT_WORD(7, store(moved, 7));
	EXPECT_EQ(self->pfn, pfn_of(moved));
	EXPECT_EQ(EFAULT, keep_addr(getpid(), self->bad));
	EXPECT_EQ(EHWPOISON, keep_addr(getpid(), moved));
	EXPECT_TRUE(verified());
	/* To be split is nothing, too. */
	ASSERT_EQ(0, mprotect(moved, PAGE, PROT_NONE));
	EXPECT_SIGSEGV(load(moved));
	ASSERT_EQ(0, mprotect(moved, PAGE, PROT_READ | PROT_WRITE));
	EXPECT_WORD(7, load(moved));
	ASSERT_EQ(0, unpoison_pfn(self->pfn));
	EXPECT_WORD(7, load(moved));
}

TEST_F(keep, discarding_gives_a_good_page_of_private_memory)
{
	bool is_shared = variant->flags == MAP_SHARED;

	ASSERT_EQ(0, keep_addr(getpid(), self->bad));
	ASSERT_EQ(0, madvise(self->bad, PAGE, MADV_DONTNEED));
	EXPECT_EQ(0, pfn_of(self->bad));
	EXPECT_EQ(is_shared, counter("poisoned"));
	/* Shared memory stays, and is faulted in again. */
	EXPECT_WORD(is_shared ? word(1, BAD) : 0, load(self->bad));
	EXPECT_WORD(7, store(self->bad, 7));
	if (is_shared)
		EXPECT_EQ(self->pfn, pfn_of(self->bad));
	EXPECT_EQ(is_shared ? EHWPOISON : 0, poison_addr(getpid(), self->bad));
}

TEST_F(keep, unmapping_by_all_ends_it)
{
	struct peer *child;

	ASSERT_EQ(0, keep_addr(getpid(), self->bad));
	child = fork_peer();
	ASSERT_NE(NULL, child);
	ASSERT_EQ(0, munmap(self->memory, PAGES * PAGE));
	EXPECT_EQ(1, counter("poisoned"));
	EXPECT_WORD(word(1, BAD), peer_load(child, self->bad));
	/* It is the only one. */
	EXPECT_WORD(7, peer_store(child, self->bad, 7));
	EXPECT_WORD(7, peer_load(child, self->bad));
	EXPECT_EQ(0, peer_munmap(child, self->memory, PAGES));
	EXPECT_EQ(0, counter("poisoned"));
	EXPECT_EQ(ENXIO, unpoison_pfn(self->pfn));
	EXPECT_STREQ("", leak());
}

TEST_F(keep, sigkill_ends_it)
{
	struct peer *child = fork_peer();

	ASSERT_NE(NULL, child);
	EXPECT_WORD(word(1, BAD), peer_load(child, self->bad));
	ASSERT_EQ(0, munmap(self->memory, PAGES * PAGE));
	ASSERT_EQ(0, keep_addr(child->pid, self->bad));
	EXPECT_EQ(1, counter("poisoned"));
	end_peer(child);
	EXPECT_STREQ("", leak());
	EXPECT_EQ(ENXIO, unpoison_pfn(self->pfn));
}

TEST_F(keep, hard_offline_takes_it_away)
{
	struct peer *child;

	ASSERT_EQ(0, keep_addr(getpid(), self->bad));
	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_WORD(word(1, BAD), peer_load(child, self->bad));
	EXPECT_WORD(word(1, BAD), load(self->bad));
	ASSERT_EQ(0, hard_offline_pfn(self->pfn));
	EXPECT_EQ(2, counter("last_walk_mappings"));
	EXPECT_SIGBUS(self->bad + 8, load(self->bad + 8));
	EXPECT_SIGBUS(self->bad, store(self->bad, 7));
	EXPECT_SIGBUS(self->bad, peer_load(child, self->bad));
	EXPECT_TRUE(has_kind(self->pfn, "hardware"));
	EXPECT_EQ(1, counter("poisoned"));
	EXPECT_EQ(EPERM, unpoison_pfn(self->pfn));
	EXPECT_EQ(EHWPOISON, keep_pfn(self->pfn));
	EXPECT_TRUE(verified());
	EXPECT_TRUE(filled(self->memory, 0, BAD, 1));
	EXPECT_TRUE(filled(self->memory, BAD + 1, PAGES - BAD - 1, 1));
}

TEST_F(keep, a_drill_of_the_kernels_own_takes_it_away)
{
	uint64_t first_pfn;

	if (!has_hwpoison_inject())
		SKIP(return, "no hwpoison-inject");
	ASSERT_EQ(0, keep_addr(getpid(), self->bad));
	EXPECT_WORD(7, store(self->bad, 7));
	/* It can handle only a page of the pool. */
	ASSERT_EQ(pool(&first_pfn) ? 0 : EBUSY, print_to_file(HWPOISON_CORRUPT_PFN, "%#lx", self->pfn));
	ASSERT_TRUE(await(is_taken_away, self->pfn));
	EXPECT_SIGBUS(self->bad, load(self->bad));
	EXPECT_TRUE(has_kind(self->pfn, "simulated"));
	EXPECT_EQ(1, counter("poisoned"));
	ASSERT_EQ(0, unpoison_pfn(self->pfn));
	EXPECT_WORD(7, load(self->bad));
	EXPECT_EQ(0, counter("poisoned"));
}

TEST_F(keep, is_replayed_as_it_was)
{
	char *other = self->memory + (BAD + 1) * PAGE, *text, *kind;
	uint64_t other_pfn = pfn_of(other);

	ASSERT_EQ(0, keep_addr(getpid(), self->bad));
	ASSERT_EQ(0, poison_addr(getpid(), other));
	text = read_file(DEBUGFS "poisoned");
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, unpoison_pfn(self->pfn));
		ASSERT_EQ(0, unpoison_pfn(other_pfn));
		EXPECT_WORD(word(1, BAD + 1), load(other));
		ASSERT_EQ(0, write_text(DEBUGFS "replay", text)) TH_LOG("%s", text);
		EXPECT_TRUE(has_kind(self->pfn, "kept"));
		EXPECT_TRUE(has_kind(other_pfn, "simulated"));
		EXPECT_WORD(word(1, BAD), load(self->bad));
		EXPECT_SIGBUS(other, load(other));
		free(text);
		/* Nor does it change by that. */
		text = read_file(DEBUGFS "poisoned");
	}
	ASSERT_EQ(0, unpoison_pfn(self->pfn));
	ASSERT_EQ(0, unpoison_pfn(other_pfn));
	kind = strstr(text, "kind=kept");
	ASSERT_NE(NULL, kind);
	memcpy(kind, "kind=once", 9);
	ASSERT_EQ(0, write_text(DEBUGFS "replay", text));
	EXPECT_TRUE(has_kind(self->pfn, "simulated"));
	EXPECT_SIGBUS(self->bad, load(self->bad));
	free(text);
}

TEST_F(keep, a_range_is_kept)
{
	static const char *const forms[] = { "%d %p %p keep", "%d %p-%p keep\n" };
	struct mapping *m;

	for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
		char text[128];

		snprintf(text, sizeof(text), forms[i], getpid(), self->bad - PAGE, self->bad + 2 * PAGE);
		ASSERT_EQ(0, write_text(DEBUGFS "poison_range", text));
		EXPECT_EQ(3, counter("poisoned"));
		ASSERT_EQ(1, read_mappings(getpid(), &m));
		EXPECT_EQ(3, m->poisoned);
		free(m);
		EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
		for (int page = BAD - 1; page <= BAD + 1; page++) {
			uint64_t pfn = pfn_of(self->memory + page * PAGE);

			EXPECT_TRUE(has_kind(pfn, "kept"));
			EXPECT_EQ(0, unpoison_pfn(pfn));
		}
	}
	/* In a line it is a part of the name. */
	ASSERT_EQ(0, print_to_file(DEBUGFS "poison_range", "pid=%d range=%p-%p comm=not to keep\n", getpid(), self->bad,
				   self->bad + PAGE));
	EXPECT_SIGBUS(self->bad, load(self->bad));
}

TEST_F(keep, other_words_are_invalid)
{
	static const struct {
		const char *file, *text;
	} lines[] = {
		{ "poison_addr", "%d %p keep keep" }, { "poison_addr", "%d %p touched keep" },
		{ "poison_addr", "%d %p keep touched" }, { "poison_addr", "%d %p keep 1" },
		{ "poison_addr", "%d %pkeep" }, { "poison_addr", "%d %p keeps" }, { "poison_addr", "%d %p Keep" },
		{ "poison_addr", "%d keep" }, { "poison_addr", "keep" }, { "poison_range", "%d keep" },
		{ "poison_range", "%d %p keep" }, { "poison_random", "%d 1 1 keep" }, { "dry_run", "%d %p keep" },
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
		char path[64], text[128];

		snprintf(path, sizeof(path), DEBUGFS "%s", lines[i].file);
		snprintf(text, sizeof(text), lines[i].text, getpid(), self->bad);
		EXPECT_EQ(EINVAL, write_text(path, text)) TH_LOG("%s: %s", lines[i].file, text);
	}
	EXPECT_EQ(EINVAL, print_to_file(DEBUGFS "poison_pfn", "%#lxkeep", self->pfn));
	EXPECT_EQ(EINVAL, print_to_file(DEBUGFS "poison_pfn", "%#lx touched", self->pfn));
	EXPECT_EQ(EINVAL, print_to_file(DEBUGFS "hard_offline", "%#lx keep", self->pfn));
	EXPECT_EQ(EINVAL, print_to_file(DEBUGFS "soft_offline", "%#lx keep", self->pfn));
	EXPECT_EQ(EINVAL, print_to_file(DEBUGFS "unpoison_pfn", "%#lx keep", self->pfn));
	EXPECT_EQ(0, counter("poisoned"));
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
}

TEST_F(keep, there_is_nothing_to_keep_of_an_untouched_page)
{
	char *memory = map_device(PAGES, variant->flags);
	long anons = counter("anons");

	ASSERT_NE(MAP_FAILED, memory);
	EXPECT_EQ(ENODATA, keep_addr(getpid(), memory));
	EXPECT_EQ(ENODATA, print_to_file(DEBUGFS "poison_range", "%d %p %p keep", getpid(), memory, memory + PAGE));
	EXPECT_EQ(anons, counter("anons"));
	EXPECT_EQ(ENXIO, keep_pfn(pfn_of_zeroes()));
	EXPECT_EQ(EFAULT, keep_addr(getpid(), (void *)PAGE));
	EXPECT_EQ(ENXIO, keep_addr(getpid(), &nr_rounds));
	EXPECT_WORD(7, store(memory, 7));
	EXPECT_EQ(0, keep_addr(getpid(), memory));
	EXPECT_WORD(7, load(memory));
}

/* What threads do to the page that is kept and unpoisoned again and again. */
struct race {
	char *page;
	atomic_bool stop;
	atomic_long signals, lost, unexpected, moves;
};

struct writer {
	struct race *race;
	int number;
	uint64_t written;
};

static void *write_on(void *argument)
{
	struct writer *writer = argument;
	struct race *race = writer->race;
	char *word = race->page + writer->number * 512;

	while (!atomic_load(&race->stop)) {
		struct access access = load(word);

		atomic_fetch_add(&race->signals, access.signal != 0);
		atomic_fetch_add(&race->lost, access.value != writer->written);
		access = store(word, ++writer->written);
		atomic_fetch_add(&race->signals, access.signal != 0);
	}
	return NULL;
}

/* Takes the page out of page tables, moves it, and gives the frame back. */
static void *move_on(void *argument)
{
	struct race *race = argument;

	while (!atomic_load(&race->stop)) {
		uint64_t pfn = pfn_of(race->page);
		int error = pfn ? soft_offline_pfn(pfn) : EBUSY;

		if (!error) {
			struct patience patience = patience_for(5);

			do
				error = unpoison_pfn(pfn);
			while (error == EBUSY && !ran_out(&patience));
			atomic_fetch_add(&race->moves, 1);
			atomic_fetch_add(&race->unexpected, error != 0);
		} else if (error != EHWPOISON && error != EBUSY && error != ENXIO) {
			atomic_fetch_add(&race->unexpected, 1);
		}
		usleep(100);
	}
	return NULL;
}

TEST_F_TIMEOUT(keep, no_update_is_lost_and_nobody_signalled, 3600)
{
	enum { WRITERS = 3 };

	WATCHED(SECONDS_OF_A_RACE + nr_rounds / 10) {
		struct race race = { .page = self->bad };
		struct writer writers[WRITERS];
		pthread_t threads[WRITERS + 1];

		memset(self->bad, 0, PAGE);
		for (int i = 0; i < WRITERS; i++) {
			writers[i] = (struct writer){ &race, i, 0 };
			ASSERT_EQ(0, pthread_create(&threads[i], NULL, write_on, &writers[i]));
		}
		ASSERT_EQ(0, pthread_create(&threads[WRITERS], NULL, move_on, &race));
		for (long round = 0; round < nr_rounds; round++) {
			uint64_t pfn;

			ASSERT_EQ(0, keep_addr(getpid(), self->bad));
			pfn = poisoned_pfn();
			ASSERT_TRUE(has_kind(pfn, "kept"));
			if (round % 64 == 0) {
				ASSERT_TRUE(verified());
			}
			ASSERT_EQ(0, unpoison_pfn(pfn));
			/* Now and then there is time for a move, or half of one. */
			if (round % 2)
				usleep(100 * (round % 16));
		}
		atomic_store(&race.stop, true);
		for (int i = 0; i <= WRITERS; i++)
			pthread_join(threads[i], NULL);
		for (int i = 0; i < WRITERS; i++) {
			EXPECT_LT(0, writers[i].written);
			EXPECT_WORD(writers[i].written, load(self->bad + i * 512));
		}
		EXPECT_EQ(0, atomic_load(&race.signals));
		EXPECT_EQ(0, atomic_load(&race.lost));
		EXPECT_EQ(0, atomic_load(&race.unexpected));
		TH_LOG("%ld rounds, %ld moves, %lu writes of the first thread", nr_rounds, atomic_load(&race.moves),
		       writers[0].written);
	}
}

/* What differs from shared memory: copies. */
FIXTURE_WITH_BAD_PRIVATE_PAGE(private_keep, PAGES, BAD);

TEST_F(private_keep, is_not_copied_on_write)
{
	long copies = counter("copies_total"), anons;
	struct peer *child, *other;

	ASSERT_EQ(0, keep_addr(getpid(), self->bad));
	child = fork_peer();
	other = fork_peer();
	ASSERT_NE(NULL, child);
	ASSERT_NE(NULL, other);
	anons = counter("anons");
	/* Before anything is mapped there, and afterwards. */
	EXPECT_SIGBUS(self->bad + 16, peer_store(child, self->bad + 16, 7));
	EXPECT_WORD(word(1, BAD) + 2, peer_load(child, self->bad + 16));
	EXPECT_SIGBUS(self->bad + 16, peer_store(child, self->bad + 16, 7));
	EXPECT_SIGBUS(self->bad + 24, store(self->bad + 24, 7));
	EXPECT_EQ(copies, counter("copies_total"));
	EXPECT_EQ(anons, counter("anons"));
	EXPECT_TRUE(has_kind(self->pfn, "kept"));
	/* The content is there for all, and all else is writable. */
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
	EXPECT_WORD(word(1, BAD) + 2, peer_load(child, self->bad + 16));
	EXPECT_WORD(word(1, BAD) + 2, peer_load(other, self->bad + 16));
	EXPECT_WORD(7, peer_store(child, self->bad + PAGE, 7));
	EXPECT_TRUE(verified());
	/* Who is left with it writes in place. */
	end_peer(child);
	EXPECT_SIGBUS(self->bad, store(self->bad, 7));
	end_peer(other);
	EXPECT_WORD(7, store(self->bad, 7));
	EXPECT_WORD(7, load(self->bad));
	EXPECT_EQ(self->pfn, pfn_of(self->bad));
	EXPECT_TRUE(has_kind(self->pfn, "kept"));
}

TEST_F(private_keep, is_copied_again_when_it_is_good)
{
	struct peer *child;

	ASSERT_EQ(0, keep_addr(getpid(), self->bad));
	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_SIGBUS(self->bad, peer_store(child, self->bad, 7));
	EXPECT_SIGBUS(self->bad, store(self->bad, 8));
	ASSERT_EQ(0, unpoison_pfn(self->pfn));
	EXPECT_WORD(7, peer_store(child, self->bad, 7));
	EXPECT_WORD(8, store(self->bad, 8));
	EXPECT_WORD(7, peer_load(child, self->bad));
	EXPECT_WORD(word(1, BAD) + 1, peer_load(child, self->bad + 8));
	EXPECT_WORD(8, load(self->bad));
}

TEST_F(private_keep, system_calls_do_not_copy_it)
{
	struct peer *child;
	int pipes[2];

	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(0, keep_addr(getpid(), self->bad));
	child = fork_peer();
	ASSERT_NE(NULL, child);
	ASSERT_EQ(8, write(pipes[1], "content", 8));
	EXPECT_EQ(-1, read(pipes[0], self->bad, 8));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(8, write(pipes[1], self->bad, 8));
	EXPECT_EQ(-1, madvise(self->bad, PAGE, MADV_POPULATE_WRITE));
	EXPECT_EQ(EHWPOISON, errno);
	EXPECT_EQ(0, madvise(self->bad, PAGE, MADV_POPULATE_READ));
	EXPECT_WORD(word(1, BAD), peer_load(child, self->bad));
}

TEST_F(private_keep, discarding_it_leaves_it_to_the_others)
{
	struct peer *child;

	ASSERT_EQ(0, keep_addr(getpid(), self->bad));
	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_SIGBUS(self->bad, peer_store(child, self->bad, 7));
	ASSERT_EQ(0, madvise(self->bad, PAGE, MADV_DONTNEED));
	EXPECT_WORD(0, load(self->bad));
	EXPECT_EQ(1, counter("poisoned"));
	EXPECT_WORD(word(1, BAD), peer_load(child, self->bad));
	EXPECT_WORD(7, peer_store(child, self->bad, 7));
	EXPECT_WORD(0, load(self->bad));
	ASSERT_EQ(0, unpoison_pfn(self->pfn));
	EXPECT_WORD(7, peer_load(child, self->bad));
}

TEST_F(private_keep, is_shared_by_a_fork_although_it_is_pinned)
{
	static char data[SLOW_WRITE_PAGES * PAGE];
	struct slow_write writing;
	struct peer *child;

	fill(data, SLOW_WRITE_PAGES, 2);
	ASSERT_EQ(0, keep_addr(getpid(), self->bad));
	ASSERT_EQ(0, begin_slow_write(&writing, self->bad, PAGE));
	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_WORD(word(1, BAD), peer_load(child, self->bad));
	ASSERT_EQ(0, end_slow_write(&writing, data));
	EXPECT_EQ(PAGE, writing.written);
	EXPECT_TRUE(filled(self->bad, 0, 1, 2));
	EXPECT_SIGBUS(self->bad, peer_store(child, self->bad, 7));
	EXPECT_SIGBUS(self->bad, store(self->bad, 7));
	EXPECT_WORD(word(2, 0), peer_load(child, self->bad));
	end_peer(child);
	EXPECT_WORD(7, store(self->bad, 7));
	EXPECT_TRUE(verified());
}

int main(int argc, char **argv)
{
	nr_rounds = repeats(500);
	if (argc == 2 && *argv[1] != '-') {
		nr_rounds = atol(argv[1]);
		argc = 1;
	}
	return test_harness_run(argc, argv);
}
