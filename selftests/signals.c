// SPDX-License-Identifier: GPL-2.0
/*
 * Who gets which signal when a page fails: in each row of the table the same is done to memory of the device and to
 * ordinary anonymous memory, which the kernel's own memory_failure() handles, and what the processes see must
 * be the same. Rows that differ by design say how.
 */
#include "anon_rmap.h"
#include "kselftest.h"
#include <pthread.h>

#define POLICY_OF_KERNEL "/proc/sys/vm/memory_failure_early_kill"
#define POLICY_OF_MODULE "/sys/module/anon_rmap/parameters/memory_failure_early_kill"
#define HARD_OFFLINE "/sys/devices/system/memory/hard_offline_page"
#define SOFT_OFFLINE "/sys/devices/system/memory/soft_offline_page"
#define WORD 0x1234567890abcdefUL

enum door { DRILL, HARD, SOFT };

/* Who acts: the threads of a process, and the process that it forked. */
enum role { MAIN, SECOND, THIRD, CHILD, ROLES };

/* What a role does after the failure. */
enum act { NONE, LOAD, STORE, WRITE };

static const char *const names[] = { "main", "second thread", "third thread", "child" };

struct row {
	const char *name;
	enum door door;
	/* The system's policy, then what each role asks for: PR_MCE_KILL_EARLY, …_LATE, or nothing. */
	bool early;
	bool asks[ROLES];
	int wish[ROLES];
	int threads;
	bool forks, child_touches;
	struct {
		enum role role;
		enum act act;
	} acts[6];
	/* What the device's memory does otherwise, and why. */
	const char *differs, *reason;
};

#define EARLY PR_MCE_KILL_EARLY
#define LATE PR_MCE_KILL_LATE

static const struct row rows[] = {
	{ "late, one thread", DRILL, .threads = 1, .acts = { { MAIN, LOAD } } },
	{ "late, one thread, written", DRILL, .threads = 1, .acts = { { MAIN, STORE } } },
	{ "late, each access again", DRILL, .threads = 1,
	  .acts = { { MAIN, LOAD }, { MAIN, LOAD }, { MAIN, STORE }, { MAIN, LOAD } } },
	{ "late, system call", DRILL, .threads = 1, .acts = { { MAIN, WRITE }, { MAIN, LOAD } } },
	{ "late, second accessor is a thread", DRILL, .threads = 3,
	  .acts = { { MAIN, LOAD }, { SECOND, LOAD }, { THIRD, STORE } } },
	{ "late, second accessor is the child", DRILL, .threads = 1, .forks = true, .child_touches = true,
	  .acts = { { MAIN, LOAD }, { CHILD, LOAD }, { CHILD, STORE } } },
	{ "late, the child is first", DRILL, .threads = 1, .forks = true, .child_touches = true,
	  .acts = { { CHILD, STORE }, { MAIN, STORE } } },
	{ "early by prctl, one thread", DRILL, .threads = 1, .asks = { true }, .wish = { EARLY },
	  .acts = { { MAIN, LOAD } } },
	{ "early by prctl, many threads", DRILL, .threads = 3, .asks = { true }, .wish = { EARLY },
	  .acts = { { SECOND, LOAD }, { MAIN, LOAD } } },
	{ "early by prctl, chosen thread", DRILL, .threads = 3, .asks = { [SECOND] = true }, .wish = { [SECOND] = EARLY },
	  .acts = { { MAIN, LOAD }, { SECOND, STORE } } },
	{ "early by prctl, another thread asks for late", DRILL, .threads = 3, .asks = { true, false, true },
	  .wish = { LATE, 0, EARLY }, .acts = { { MAIN, LOAD } } },
	{ "early by policy, one thread", DRILL, .early = true, .threads = 1, .acts = { { MAIN, LOAD } } },
	{ "early by policy, many threads", DRILL, .early = true, .threads = 3, .acts = { { THIRD, LOAD } } },
	{ "early by policy, main asks for late", DRILL, .early = true, .threads = 3, .asks = { true },
	  .wish = { LATE }, .acts = { { MAIN, LOAD } } },
	{ "early by policy, the process asks for late", DRILL, .early = true, .threads = 1, .asks = { true },
	  .wish = { LATE }, .acts = { { MAIN, LOAD } } },
	{ "early for parent and child", DRILL, .threads = 1, .forks = true, .child_touches = true,
	  .asks = { [MAIN] = true, [CHILD] = true }, .wish = { [MAIN] = EARLY, [CHILD] = EARLY },
	  .acts = { { MAIN, LOAD }, { CHILD, LOAD } } },
	{ "early for the child only", DRILL, .threads = 1, .forks = true, .child_touches = true,
	  .asks = { [CHILD] = true }, .wish = { [CHILD] = EARLY }, .acts = { { MAIN, LOAD }, { CHILD, LOAD } } },
	{ "early by policy for parent and child", DRILL, .early = true, .threads = 1, .forks = true,
	  .child_touches = true, .acts = { { MAIN, LOAD }, { CHILD, LOAD } } },
	{ "early, a child that has never touched the memory", DRILL, .early = true, .threads = 1, .forks = true,
	  .acts = { { MAIN, LOAD }, { CHILD, LOAD } },
	  .differs = "main AO +0x1000 12;main AR +0x1018 12;child AR +0x1018 12;",
	  .reason = "it is in no tree, so that fork costs the rmap nothing: it learns of the failure on its first touch" },
	{ "hard offline, late", HARD, .threads = 1, .acts = { { MAIN, LOAD }, { MAIN, STORE } } },
	{ "hard offline, early, chosen thread, child", HARD, .threads = 3, .forks = true, .child_touches = true,
	  .asks = { [THIRD] = true }, .wish = { [THIRD] = EARLY }, .acts = { { THIRD, LOAD }, { CHILD, STORE } } },
	{ "soft offline, early", SOFT, .early = true, .threads = 3, .forks = true, .child_touches = true,
	  .acts = { { MAIN, LOAD }, { SECOND, STORE }, { CHILD, LOAD } } },
};

/* What happened, in lines; shared by all roles. */
static struct stage {
	struct {
		sem_t go, done;
		enum act act;
	} roles[ROLES];
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
	if (info->si_code != BUS_MCEERR_AO && access_return)
		siglongjmp(*access_return, 1);
}

static void act(enum act act)
{
	volatile uint64_t *word = (uint64_t *)(stage->memory + PAGE) + 3;
	struct access access;
	int ends[2];

	if (act == LOAD) {
		ATTEMPT(access, note("%s reads %#lx\n", names[self], *word));
	} else if (act == STORE) {
		ATTEMPT(access, (*word = WORD, note("%s has written\n", names[self])));
	} else if (act == WRITE && !pipe(ends)) {
		ssize_t written = write(ends[1], (void *)word, sizeof(*word));

		note("%s write: %s\n", names[self], written < 0 ? strerror(errno) : "done");
	}
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

static void wait_for(enum role role)
{
	while (sem_wait(&stage->roles[role].done))
		;
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

static int fail(enum door door, bool device, uint64_t pfn)
{
	static const char *const doors[][2] = {
		[DRILL] = { HARD_OFFLINE, DEBUGFS "poison_pfn" },
		[HARD] = { HARD_OFFLINE, DEBUGFS "hard_offline" },
		[SOFT] = { SOFT_OFFLINE, DEBUGFS "soft_offline" },
	};

	return print_to_file(doors[door][device], "%#lx", device ? pfn : pfn << PAGE_SHIFT);
}

/* Plays @row with memory of the device or anonymous memory; runs in a process of its own. */
static void perform(const struct row *row, bool device)
{
	struct sigaction action = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER };
	static struct part parts[ROLES];
	pid_t child = 0;
	int error;

	sigaction(SIGBUS, &action, NULL);
	stage->memory = device ? map_device(4, MAP_PRIVATE) :
				 mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < 4 * PAGE / 8; i++)
		((uint64_t *)stage->memory)[i] = WORD;

	for (enum role role = SECOND; role < row->threads; role++) {
		pthread_t thread;

		parts[role] = (struct part){ role, row };
		pthread_create(&thread, NULL, play_in_thread, &parts[role]);
		wait_for(role);
	}
	if (row->forks) {
		child = fork();
		if (!child) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (row->child_touches)
				load(stage->memory + PAGE);
			play(CHILD, row);
		}
		wait_for(CHILD);
	}
	if (row->asks[MAIN])
		prctl(PR_MCE_KILL, PR_MCE_KILL_SET, row->wish[MAIN], 0, 0);
	load(stage->memory + PAGE);

	error = fail(row->door, device, pfn_of(stage->memory + PAGE));
	if (error)
		note("refused: %s\n", strerror(error));
	/* Those who are told at once are told now. */
	usleep(100000);
	for (size_t i = 0; i < sizeof(row->acts) / sizeof(*row->acts) && row->acts[i].act; i++) {
		enum role role = row->acts[i].role;

		if (role == MAIN) {
			act(row->acts[i].act);
			continue;
		}
		stage->roles[role].act = row->acts[i].act;
		sem_post(&stage->roles[role].go);
		wait_for(role);
	}
	if (child > 0) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
	_exit(0);
}

/* Lines that say who was told at once can come in any order: the parent's first. */
static void sort_notices(char *lines)
{
	char *second = strchr(lines, '\n');
	const char *first = "child AO";

	if (second && !strncmp(lines, first, strlen(first)) && !strncmp(second + 1, "main AO", 7)) {
		char *third = strchr(second + 1, '\n');
		char copy[256];
		size_t child = second + 1 - lines, parent = third + 1 - (second + 1);

		memcpy(copy, lines, child);
		memmove(lines, second + 1, parent);
		memcpy(lines + parent, copy, child);
	}
}

/* What the processes of @row have seen, to be freed. */
static char *seen(const struct row *row, bool device)
{
	pid_t pid;
	int status;

	memset(stage, 0, sizeof(*stage));
	for (enum role role = 0; role < ROLES; role++) {
		sem_init(&stage->roles[role].go, 1, 0);
		sem_init(&stage->roles[role].done, 1, 0);
	}
	pid = fork();
	if (!pid)
		perform(row, device);
	waitpid(pid, &status, 0);
	if (status)
		note("died: %#x\n", status);
	sort_notices(stage->lines);
	return strdup(stage->lines);
}

static void set_policy(bool early)
{
	print_to_file(POLICY_OF_KERNEL, "%d", early);
	print_to_file(POLICY_OF_MODULE, "%d", early);
}

int main(void)
{
	const size_t nr_rows = sizeof(rows) / sizeof(*rows);

	ksft_print_header();
	if (access(HARD_OFFLINE, W_OK))
		ksft_exit_skip("no " HARD_OFFLINE ": is CONFIG_MEMORY_FAILURE on?\n");
	stage = mmap(NULL, sizeof(*stage), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ksft_set_plan(nr_rows + 1);
	for (const struct row *row = rows; row < rows + nr_rows; row++) {
		char *ours, *theirs;
		bool good;

		set_policy(row->early);
		ours = seen(row, true);
		theirs = seen(row, false);
		set_policy(false);
		for (char *end = ours; (end = strchr(end, '\n')); end++)
			*end = ';';
		for (char *end = theirs; (end = strchr(end, '\n')); end++)
			*end = ';';
		good = *ours && !strstr(ours, "refused") && !strstr(ours, "died");
		good &= row->differs ? !strcmp(ours, row->differs) && strcmp(ours, theirs) : !strcmp(ours, theirs);
		ksft_print_msg("the device: %s\n", ours);
		ksft_print_msg("anonymous:  %s\n", theirs);
		ksft_test_result(good, "%s%s%s\n", row->name, row->reason ? "; differs: " : "", row->reason ?: "");
		free(ours);
		free(theirs);
	}
	ksft_test_result(!*leak(), "nothing is left: %s\n", leak());
	ksft_finished();
}
