// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who gets which signal when a page fails. Each row of the table is done to memory of the device and to
 * ordinary anonymous memory, which the kernel's own memory_failure() handles: by MADV_HWPOISON, and by hard_offline_page
 * where nobody is about to use the data. The processes must see no difference. Rows that differ by design say how.
 *
 * Who calls MADV_HWPOISON is taken for one that is about to use the data (action required). So where nobody is, a process
 * that only shares the page does it, and what that one sees does not count.
 */
#include "lib/access.h"
#include "lib/debugfs.h"
#include "lib/device.h"
#include "lib/file.h"
#include "lib/hwpoison.h"
#include "lib/pagemap.h"
#include "lib/pool.h"
#include "lib/process.h"
#include "lib/stats.h"
#include "lib/usage.h"
#include "kselftest.h"
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define POLICY "/proc/sys/vm/memory_failure_early_kill"
#define WORD 0x1234567890abcdefUL

/* Who acts: the threads of a process, the process that it forked, and another one that only shares the page. */
enum role { MAIN, SECOND, THIRD, CHILD, SHARER, ROLES };

/* What a role does. */
enum act { NONE, LOAD, STORE, WRITE, INJECT, REST };

static const char *const names[] = { "main", "second thread", "third thread", "child", "sharer" };

/* How the page fails. */
enum way { MADVISE, SYSFS, POISON_ADDR, DEBUGFS_HARD, MADVISE_SOFT, DEBUGFS_SOFT };

static const char *const ways[] = {
	[MADVISE] = "MADV_HWPOISON", [SYSFS] = "hard_offline_page", [POISON_ADDR] = "poison_addr",
	[DEBUGFS_HARD] = "hard_offline", [MADVISE_SOFT] = "MADV_SOFT_OFFLINE", [DEBUGFS_SOFT] = "soft_offline",
};

struct row {
	const char *name;
	bool soft;
	/* Who is about to use the data when it fails; SHARER if nobody. */
	enum role user;
	/* The system's policy, then what each role asks for: PR_MCE_KILL_EARLY, …_LATE, or nothing. */
	bool early;
	bool asks[ROLES];
	int wish[ROLES];
	int threads;
	bool forks, child_touches;
	struct {
		enum role role;
		enum act act;
	} acts[8];
	/* What the device's memory does otherwise, and why. */
	const char *differs, *reason;
};

#define EARLY PR_MCE_KILL_EARLY
#define LATE PR_MCE_KILL_LATE

static const struct row special_rows[] = {
	{ "late, written", .user = SHARER, .threads = 1, .acts = { { MAIN, STORE } } },
	{ "late, each access again", .user = SHARER, .threads = 1,
	  .acts = { { MAIN, LOAD }, { MAIN, LOAD }, { MAIN, STORE }, { MAIN, LOAD } } },
	{ "late, system call", .user = SHARER, .threads = 1, .acts = { { MAIN, WRITE }, { MAIN, LOAD } } },
	{ "late, the child is first", .user = SHARER, .threads = 1, .forks = true, .child_touches = true,
	  .acts = { { CHILD, STORE }, { MAIN, STORE } } },
	{ "early by prctl, another thread asks for late", .user = SHARER, .threads = 3, .asks = { true, false, true },
	  .wish = { LATE, 0, EARLY }, .acts = { { MAIN, LOAD } } },
	{ "early by policy, main asks for late", .user = SHARER, .early = true, .threads = 3, .asks = { true },
	  .wish = { LATE }, .acts = { { MAIN, LOAD } } },
	{ "early by policy, the process asks for late", .user = SHARER, .early = true, .threads = 1, .asks = { true },
	  .wish = { LATE }, .acts = { { MAIN, LOAD } } },
	{ "early for the child only", .user = SHARER, .threads = 1, .forks = true, .child_touches = true,
	  .asks = { [CHILD] = true }, .wish = { [CHILD] = EARLY }, .acts = { { MAIN, LOAD }, { CHILD, LOAD } } },
	{ "early, a child that has never touched the memory", .user = SHARER, .early = true, .threads = 1,
	  .forks = true, .acts = { { MAIN, LOAD }, { CHILD, LOAD } },
	  .differs = "main AO +0x1000 12;main AR +0x1018 12;child AR +0x1018 12;",
	  .reason = "it is in no tree, so that fork costs the rmap nothing: it learns of the failure on its first touch" },
	{ "action required, main asks for late", .user = MAIN, .threads = 1, .asks = { true }, .wish = { LATE },
	  .acts = { { MAIN, LOAD } } },
	{ "action required for the child, the parent is early", .user = CHILD, .threads = 3, .forks = true,
	  .child_touches = true, .asks = { [SECOND] = true }, .wish = { [SECOND] = EARLY },
	  .acts = { { CHILD, LOAD }, { SECOND, LOAD }, { MAIN, STORE } } },
	{ "action required for a thread, another one is early", .user = THIRD, .threads = 3,
	  .asks = { [SECOND] = true }, .wish = { [SECOND] = EARLY }, .acts = { { SECOND, LOAD }, { THIRD, LOAD } } },
};

/* The rest of the table is the product of these. */
enum notice { WITHOUT, BY_PRCTL, BY_POLICY, NOTICES };
enum threads { ONE, MANY, CHOSEN, THREADS };
enum failure { OPTIONAL, REQUIRED, SOFT, FAILURES };

#define NR_SPECIAL (sizeof(special_rows) / sizeof(*special_rows))
#define NR_PRODUCT (NOTICES * THREADS * FAILURES * 2)

static void product_row(unsigned int number, struct row *row)
{
	static const char *const notices[] = { "late", "early by prctl", "early by policy" };
	static const char *const failures[] = { "action optional", "action required", "soft offline" };
	static const char *const threads[] = { "one thread", "many threads", "chosen thread" };
	static const char *const families[] = { "", ", parent and child" };
	static char name[128];
	bool forks = number % 2, reversed = number / 2 % 2;
	enum notice notice = number / 2 % NOTICES;
	enum threads thread = number / 2 / NOTICES % THREADS;
	enum failure failure = number / 2 / NOTICES / THREADS;
	enum role chosen = thread == CHOSEN ? SECOND : MAIN;
	int count = 0;

	snprintf(name, sizeof(name), "%s, %s, %s%s", notices[notice], failures[failure], threads[thread],
		 families[forks]);
	*row = (struct row){ name, .soft = failure == SOFT, .user = failure == REQUIRED ? chosen : SHARER,
			     .early = notice == BY_POLICY, .threads = thread == ONE ? 1 : 3, .forks = forks,
			     .child_touches = true };
	if (notice == BY_PRCTL) {
		row->asks[chosen] = row->asks[CHILD] = true;
		row->wish[chosen] = row->wish[CHILD] = EARLY;
	} else if (notice == BY_POLICY && thread == CHOSEN) {
		row->asks[MAIN] = true;
		row->wish[MAIN] = LATE;
	}
	/* All access it, now in this order, now in the other. */
	for (enum role i = MAIN; i <= CHILD; i++) {
		enum role role = reversed ? CHILD - i : i;

		if (role == CHILD ? forks : role < row->threads) {
			row->acts[count].role = role;
			row->acts[count++].act = role % 2 ? STORE : LOAD;
		}
	}
	row->acts[count].role = chosen;
	row->acts[count].act = LOAD;
}

/* What happened, in lines; shared by all roles. */
static struct stage {
	struct {
		sem_t go, done;
		enum act act;
	} roles[ROLES];
	enum way way;
	char *memory;
	size_t size;
	char lines[4096];
} *stage;

static __thread enum role self;

static void note(const char *format, ...)
{
	va_list arguments;
	char line[128];
	size_t size, at;

	if (self == SHARER && *format != '!')
		return;
	va_start(arguments, format);
	size = vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	/* Two roles can have something to say at the same time. */
	at = __atomic_fetch_add(&stage->size, size, __ATOMIC_RELAXED);
	if (size < sizeof(line) && at + size < sizeof(stage->lines))
		memcpy(stage->lines + at, line, size);
}

static void on_sigbus(int signal, siginfo_t *info, void *context)
{
	const char *code = info->si_code == BUS_MCEERR_AO ? "AO" : info->si_code == BUS_MCEERR_AR ? "AR" : "other";

	(void)signal;
	(void)context;
	note("%s %s +%#lx %d\n", names[self], code, (char *)info->si_addr - stage->memory, info->si_addr_lsb);
	if (info->si_code != BUS_MCEERR_AO && this_attempt.back)
		siglongjmp(*this_attempt.back, 1);
}

/* Lets the page fail; 0 or the errno. */
static int inject(enum way way, char *page)
{
	switch (way) {
	case MADVISE:
	case MADVISE_SOFT:
		return madvise(page, PAGE, way == MADVISE ? MADV_HWPOISON : MADV_SOFT_OFFLINE) ? errno : 0;
	case SYSFS:
		return print_to_file(HARD_OFFLINE_PAGE, "%#lx", pfn_of(page) << PAGE_SHIFT);
	case POISON_ADDR:
		return poison_addr(getpid(), page);
	case DEBUGFS_HARD:
		return hard_offline_pfn(pfn_of(page));
	case DEBUGFS_SOFT:
		return soft_offline_pfn(pfn_of(page));
	}
	return EINVAL;
}

static void act(enum act act)
{
	volatile uint64_t *word = (uint64_t *)(stage->memory + PAGE) + 3;
	struct access access;
	volatile int error = 0;
	int ends[2];

	if (act == LOAD) {
		ATTEMPT(access, note("%s reads %#lx\n", names[self], *word));
	} else if (act == STORE) {
		ATTEMPT(access, (*word = WORD, note("%s has written\n", names[self])));
	} else if (act == WRITE && !pipe(ends)) {
		ssize_t written = write(ends[1], (void *)word, sizeof(*word));

		note("%s write: %s\n", names[self], written < 0 ? strerror(errno) : "done");
	} else if (act == INJECT) {
		ATTEMPT(access, error = inject(stage->way, stage->memory + PAGE));
		if (error)
			note("!refused: %s\n", strerror(error));
	} else if (act == REST) {
		/* Whoever has been sent a signal has got it when this returns. */
		sched_yield();
	}
}

static void wait_for(enum role role)
{
	while (sem_wait(&stage->roles[role].done))
		;
}

/* Lets @role act, and waits until it has. */
static void direct(enum role role, enum act what)
{
	if (role == MAIN) {
		act(what);
		return;
	}
	stage->roles[role].act = what;
	sem_post(&stage->roles[role].go);
	wait_for(role);
}

static void play(enum role role, const struct row *row)
{
	self = role;
	if (row->asks[role])
		prctl(PR_MCE_KILL, PR_MCE_KILL_SET, row->wish[role], 0, 0);
	sem_post(&stage->roles[role].done);
	for (;;) {
		while (sem_wait(&stage->roles[role].go))
			;
		act(stage->roles[role].act);
		sem_post(&stage->roles[role].done);
	}
}

struct part {
	enum role role;
	const struct row *row;
};

static void *play_in_thread(void *argument)
{
	const struct part *part = argument;

	play(part->role, part->row);
	return NULL;
}

static pid_t start_process(enum role role, const struct row *row, bool touches)
{
	pid_t parent = getpid(), pid = fork();

	if (!pid) {
		die_with(parent);
		if (touches)
			load(stage->memory + PAGE);
		play(role, row);
	}
	wait_for(role);
	return pid;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Lines that say who was told at once can come in any order. */
static void sort_lines(void)
{
	char *lines = strdup(stage->lines), *rest = lines, *sorted[16], *line;
	size_t count = 0;

	while ((line = strsep(&rest, "\n")) && *line && count < 16)
		sorted[count++] = line;
	qsort(sorted, count, sizeof(*sorted), by_text);
	stage->size = 0;
	for (size_t i = 0; i < count; i++)
		stage->size += sprintf(stage->lines + stage->size, "%s\n", sorted[i]);
	free(lines);
}

/* Plays @row with memory of the device or anonymous memory; runs in a process of its own. */
static void perform(const struct row *row, bool device)
{
	struct sigaction action = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER };
	static struct part parts[ROLES];
	pid_t child = 0, sharer = 0;

	sigaction(SIGBUS, &action, NULL);
	stage->memory = map_private(device, 4);
	for (int i = 0; i < 4 * PAGE / 8; i++)
		((uint64_t *)stage->memory)[i] = WORD;

	for (enum role role = SECOND; role < row->threads; role++) {
		pthread_t thread;

		parts[role] = (struct part){ role, row };
		pthread_create(&thread, NULL, play_in_thread, &parts[role]);
		wait_for(role);
	}
	if (row->forks)
		child = start_process(CHILD, row, row->child_touches);
	if (row->user == SHARER)
		sharer = start_process(SHARER, row, true);
	if (row->asks[MAIN])
		prctl(PR_MCE_KILL, PR_MCE_KILL_SET, row->wish[MAIN], 0, 0);
	load(stage->memory + PAGE);

	direct(row->user, INJECT);
	for (enum role role = MAIN; role < row->threads; role++)
		direct(role, REST);
	if (child)
		direct(CHILD, REST);
	sort_lines();
	for (size_t i = 0; i < sizeof(row->acts) / sizeof(*row->acts) && row->acts[i].act; i++)
		direct(row->acts[i].role, row->acts[i].act);
	if (child > 0) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
	if (sharer > 0) {
		kill(sharer, SIGKILL);
		waitpid(sharer, NULL, 0);
	}
	_exit(0);
}

/* What the processes of @row have seen when the page failed in this way, to be freed; as one line. */
static char *seen(const struct row *row, bool device, enum way way)
{
	char *lines;
	int status;
	pid_t pid;

	memset(stage, 0, sizeof(*stage));
	stage->way = way;
	for (enum role role = 0; role < ROLES; role++) {
		sem_init(&stage->roles[role].go, 1, 0);
		sem_init(&stage->roles[role].done, 1, 0);
	}
	pid = fork();
	if (!pid)
		perform(row, device);
	waitpid(pid, &status, 0);
	if (status)
		note("!died: %#x\n", status);
	lines = strdup(stage->lines);
	for (char *end = lines; (end = strchr(end, '\n')); end++)
		*end = ';';
	ksft_print_msg("%s, %s: %s\n", device ? "the device" : "anonymous memory", ways[way], lines);
	return lines;
}

/* Whether it is what they should see: something, and in a row that does not differ what is seen with all memory. */
static bool is_right(const struct row *row, bool device, enum way way, char **expected)
{
	char *lines = seen(row, device, way);
	bool right = *lines && !strchr(lines, '!');

	if (device && row->differs) {
		right &= !strcmp(lines, row->differs);
	} else if (*expected) {
		right &= !strcmp(lines, *expected);
	} else {
		*expected = lines;
		return right;
	}
	free(lines);
	return right;
}

static bool plays_the_same(const struct row *row, bool with_pool)
{
	char *expected = NULL;
	bool right;

	if (row->soft) {
		right = is_right(row, false, MADVISE_SOFT, &expected);
		right &= is_right(row, true, DEBUGFS_SOFT, &expected);
	} else {
		right = is_right(row, false, MADVISE, &expected);
		if (with_pool)
			right &= is_right(row, true, MADVISE, &expected);
		if (row->user == SHARER) {
			right &= is_right(row, false, SYSFS, &expected);
			right &= is_right(row, true, POISON_ADDR, &expected);
			right &= is_right(row, true, DEBUGFS_HARD, &expected);
		}
	}
	/* What is no longer different has to be documented otherwise. */
	if (row->differs)
		right &= strcmp(expected, row->differs) != 0;
	free(expected);
	return right;
}

static void set_policy(bool early)
{
	print_to_file(POLICY, "%d", early);
}

int main(int argc, char **argv)
{
	uint64_t first_pfn;
	bool with_pool = pool(&first_pfn);

	no_options(argc, argv, ": who gets which signal when a page fails");
	ksft_print_header();
	if (access(HARD_OFFLINE_PAGE, W_OK))
		ksft_exit_skip("no " HARD_OFFLINE_PAGE ": is CONFIG_MEMORY_FAILURE on?\n");
	stage = map_shared(sizeof(*stage));
	ksft_set_plan(NR_SPECIAL + NR_PRODUCT + 1);
	for (size_t i = 0; i < NR_SPECIAL + NR_PRODUCT; i++) {
		struct row row;

		if (i < NR_SPECIAL)
			row = special_rows[i];
		else
			product_row(i - NR_SPECIAL, &row);
		if (row.user != SHARER && !with_pool) {
			ksft_test_result_skip("%s: the kernel's memory_failure() knows the device's pages only in a pool\n",
					      row.name);
			continue;
		}
		set_policy(row.early);
		ksft_test_result(plays_the_same(&row, with_pool), "%s%s%s\n", row.name,
				 row.reason ? "; differs: " : "", row.reason ?: "");
		set_policy(false);
	}
	ksft_test_result(!*leak(), "nothing is left: %s\n", leak());
	ksft_finished();
}
