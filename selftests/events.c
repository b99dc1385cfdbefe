// SPDX-License-Identifier: GPL-2.0-only
/* The journal: what was done to pages and who was hit, as it happens, also if nobody was looking. */
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "lib/fixture.h"
#include "lib/watchdog.h"

#define PAGES 16
/* As many records are kept. */
#define RECORDS 1024

FIXTURE(events)
{
	char *memory;
	/* Has been read to the end. */
	int fd;
	char text[1 << 17];
};

/* Reads what there is; false if that is too much. */
static bool read_on(int fd, char *text, size_t size)
{
	size_t length = 0;
	ssize_t part;

	while ((part = read(fd, text + length, size - 1 - length)) > 0)
		length += part;
	text[length] = '\0';
	return !part && length < size - 1;
}

FIXTURE_SETUP(events)
{
	self->memory = map_device(PAGES, MAP_PRIVATE);
	ASSERT_NE(MAP_FAILED, self->memory);
	fill(self->memory, PAGES, 1);
	self->fd = open(DEBUGFS "events", O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
	while (!read_on(self->fd, self->text, sizeof(self->text)))
		;
}

FIXTURE_LEAVES_NOTHING(events);

static long fail(void *unused, long pfn)
{
	(void)unused;
	return poison_pfn(pfn);
}

static long undo(void *unused, long pfn)
{
	(void)unused;
	return unpoison_pfn(pfn);
}

#define READ_ON() ASSERT_TRUE(read_on(self->fd, self->text, sizeof(self->text)))

/* How many lines have @words. */
static int lines_with(const char *text, const char *words)
{
	int lines = 0;

	while ((text = strstr(text, words))) {
		lines++;
		text += strlen(words);
	}
	return lines;
}

static long fail_often(void *unused, long pfn)
{
	(void)unused;
	for (int i = 0; i < 60; i++)
		while (poison_pfn(pfn) == EHWPOISON)
			;
	return 0;
}

static long undo_often(void *unused, long pfn)
{
	(void)unused;
	for (int i = 0; i < 60; i++)
		while (unpoison_pfn(pfn) == ENOENT)
			;
	return 0;
}

/* What is done to a page by several at once is told in the order in which it was done. */
TEST_F(events, tells_in_order)
{
	uint64_t pfn = pfn_of(self->memory);
	bool is_bad = false;
	struct peer *one, *other;
	int told = 0;

	ASSERT_EQ(0, madvise(self->memory, PAGES * PAGE, MADV_DONTFORK));
	one = fork_peer();
	other = fork_peer();
	ASSERT_NE(NULL, one);
	ASSERT_NE(NULL, other);
	begin_peer_call(one, fail_often, NULL, pfn);
	begin_peer_call(other, undo_often, NULL, pfn);
	end_peer_call(one);
	end_peer_call(other);
	end_peer(one);
	end_peer(other);
	READ_ON();
	for (char *line = strtok(self->text, "\n"); line; line = strtok(NULL, "\n")) {
		bool fails = strstr(line, "action=poison ");

		if (!fails && !strstr(line, "action=unpoison "))
			continue;
		EXPECT_NE(is_bad, fails) {
			TH_LOG("after another of the kind: %s", line);
		}
		is_bad = fails;
		told++;
	}
	EXPECT_EQ(120, told);
	EXPECT_FALSE(is_bad);
}

TEST_F(events, tells_what_was_done_and_who_was_hit)
{
	uint64_t pfn = pfn_of(self->memory + PAGE);
	struct peer *child = fork_peer();
	char words[128];

	ASSERT_NE(NULL, child);
	EXPECT_WORD(word(1, 1), peer_load(child, self->memory + PAGE));
	EXPECT_WORD(word(1, 1), load(self->memory + PAGE));
	ASSERT_EQ(0, poison_addr(getpid(), self->memory + PAGE));
	READ_ON();
	snprintf(words, sizeof(words), "pfn=%#lx index=1 action=poison source=poison_addr\n", pfn);
	EXPECT_EQ(1, lines_with(self->text, words));
	snprintf(words, sizeof(words), "pfn=%#lx pid=%d address=%p tid=0 signal=none\n", pfn, getpid(),
		 self->memory + PAGE);
	EXPECT_EQ(1, lines_with(self->text, words));
	snprintf(words, sizeof(words), "pfn=%#lx pid=%d address=%p tid=0 signal=none\n", pfn, child->pid,
		 self->memory + PAGE);
	EXPECT_EQ(1, lines_with(self->text, words));
	EXPECT_EQ(3, lines_with(self->text, "number="));
	ASSERT_EQ(0, unpoison_pfn(pfn));
	READ_ON();
	snprintf(words, sizeof(words), "pfn=%#lx index=1 action=unpoison source=unpoison_pfn\n", pfn);
	EXPECT_EQ(1, lines_with(self->text, words));
	EXPECT_EQ(1, lines_with(self->text, "number="));
	READ_ON();
	EXPECT_STREQ("", self->text);
	end_peer(child);
}

TEST_F(events, tells_which_frame_is_used_again)
{
	uint64_t pfn = pfn_of(self->memory);
	char words[128];
	int error;

	ASSERT_EQ(0, soft_offline_pfn(pfn));
	READ_ON();
	snprintf(words, sizeof(words), "pfn=%#lx index=0 action=soft_offline source=soft_offline\n", pfn);
	EXPECT_EQ(1, lines_with(self->text, words));
	EXPECT_EQ(1, lines_with(self->text, "number="));
	error = unpoison_pfn(pfn);
	READ_ON();
	if (error == EPERM)
		SKIP(return, "real hardware has failed");
	ASSERT_EQ(0, error);
	snprintf(words, sizeof(words), "pfn=%#lx action=release source=unpoison_pfn\n", pfn);
	EXPECT_EQ(1, lines_with(self->text, words));
	EXPECT_EQ(1, lines_with(self->text, "number="));
}

TEST_F(events, outlives_who_was_hit)
{
	struct peer *child = fork_peer();
	char words[128];
	uint64_t pfn;
	pid_t pid;

	ASSERT_NE(NULL, child);
	EXPECT_WORD(7, peer_store(child, self->memory, 7));
	snprintf(words, sizeof(words), " pid=%d address=%p tid=0 signal=none\n", child->pid, self->memory);
	ASSERT_EQ(0, poison_addr(child->pid, self->memory));
	pfn = pfn_of(self->memory);
	EXPECT_NE(0, pfn);
	READ_ON();
	EXPECT_EQ(1, lines_with(self->text, words));
	pid = child->pid;
	end_peer(child);
	/* From the beginning again: nobody has that number any more. */
	ASSERT_EQ(0, lseek(self->fd, 0, SEEK_SET));
	READ_ON();
	EXPECT_EQ(0, lines_with(self->text, words));
	snprintf(words, sizeof(words), " pid=0 address=%p tid=0 signal=none was=%d\n", self->memory, pid);
	EXPECT_EQ(1, lines_with(self->text, words));
}

TEST_F(events, can_be_waited_for)
{
	struct pollfd wait = { .fd = self->fd, .events = POLLIN };
	struct peer *child = fork_peer();
	uint64_t pfn = pfn_of(self->memory);

	ASSERT_NE(NULL, child);
	for (int i = 0; i < 10; i++) {
		EXPECT_EQ(0, poll(&wait, 1, 0));
		begin_peer_call(child, i % 2 ? undo : fail, NULL, pfn);
		EXPECT_EQ(1, poll(&wait, 1, 10000));
		EXPECT_EQ(0, end_peer_call(child));
		EXPECT_TRUE(wait.revents & POLLIN);
		READ_ON();
		EXPECT_EQ(1, lines_with(self->text, i % 2 ? "action=unpoison" : "action=poison"));
	}
	end_peer(child);
}

static volatile sig_atomic_t notices;

static void take_notice(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)context;
	notices += info->si_code == BUS_MCEERR_AO;
}

/* Of signals that come while one waits the kernel keeps none; the journal has all. */
TEST_F(events, has_each_early_notice)
{
	struct sigaction action = { .sa_sigaction = take_notice, .sa_flags = SA_SIGINFO };

	ASSERT_EQ(0, sigaction(SIGBUS, &action, NULL));
	ASSERT_EQ(0, prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0));
	ASSERT_EQ(0, print_to_file(DEBUGFS "poison_range", "%d %p %p", getpid(), self->memory,
				   self->memory + PAGES * PAGE));
	ASSERT_EQ(0, prctl(PR_MCE_KILL, PR_MCE_KILL_CLEAR, 0, 0, 0));
	EXPECT_LE(1, notices);
	EXPECT_GE(PAGES, notices);
	READ_ON();
	EXPECT_EQ(PAGES, lines_with(self->text, "signal=BUS_MCEERR_AO\n"));
}

/* Each has a number; a reader who was too slow is told how many are gone. */
TEST_F(events, counts_what_is_overwritten)
{
	uint64_t pfn = pfn_of(self->memory), last = 0;
	bool has_last = false, was_lost = false;
	char *rest = self->text, *line;

	/* A drill and its undoing are three records. */
	for (int i = 0; i < RECORDS; i++) {
		ASSERT_EQ(0, poison_pfn(pfn));
		ASSERT_EQ(0, unpoison_pfn(pfn));
		EXPECT_WORD(word(1, 0), load(self->memory));
	}
	READ_ON();
	EXPECT_EQ(RECORDS, lines_with(self->text, "number="));
	while ((line = strsep(&rest, "\n")) && *line) {
		uint64_t number, lost;

		if (sscanf(line, "lost=%lu", &lost) == 1) {
			EXPECT_EQ(2 * RECORDS, lost);
			EXPECT_FALSE(was_lost);
			was_lost = true;
			continue;
		}
		ASSERT_EQ(1, sscanf(line, "number=%lu time=", &number));
		if (has_last) {
			EXPECT_EQ(last + 1, number);
		}
		last = number;
		has_last = true;
	}
	EXPECT_TRUE(was_lost);
}

static volatile bool has_ended;

static void *drill_on_and_on(void *page)
{
	uint64_t pfn = pfn_of(page);

	while (!has_ended) {
		poison_pfn(pfn);
		unpoison_pfn(pfn);
	}
	return NULL;
}

/* Two at once record what they do. */
#define ORDERED 5000

TEST_F(events, are_in_the_order_of_time)
{
	struct patience patience = patience_for(60);
	FILE *journal = fdopen(self->fd, "r");
	long lines = 0, earlier = 0;
	pthread_t threads[2];
	char *line = NULL;
	size_t room = 0;
	double last = 0;

	ASSERT_NE(NULL, journal);
	for (int i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, drill_on_and_on, self->memory + i * PAGE));
	do {
		double time;

		if (getline(&line, &room, journal) < 0) {
			clearerr(journal);
			usleep(1000);
		} else if (sscanf(line, "number=%*u time=%lf", &time) == 1) {
			lines++;
			earlier += time < last;
			last = time;
		}
	} while (lines < ORDERED && !ran_out(&patience));
	has_ended = true;
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	free(line);
	EXPECT_EQ(ORDERED, lines);
	EXPECT_EQ(0, earlier) {
		TH_LOG("of %ld lines", lines);
	}
}

struct reader {
	int fd;
	/* Where whoever writes waits for a userfaultfd. */
	char *absent;
};

static void *read_there(void *argument)
{
	struct reader *reader = argument;
	ssize_t unused = read(reader->fd, reader->absent, PAGE);

	(void)unused;
	return NULL;
}

/* The userfaultfd that resolves page faults of the kernel in that memory, too; -1 if that can't be. */
static int register_missing(char *memory)
{
	struct uffdio_register range = {
		.range = { (uintptr_t)memory, PAGE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct uffdio_api api = { .api = UFFD_API };
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC);

	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &range))
		return -1;
	return uffd;
}

static bool has_userfaultfd(void)
{
	char *memory = map_private(false, 1);
	int uffd = register_missing(memory);

	close(uffd);
	munmap(memory, PAGE);
	return uffd >= 0;
}

/* Who reads waits for a page fault that never ends; who polls does not wait, and both can be killed. */
TEST_F(events, a_poll_does_not_wait_for_who_reads)
{
	uint64_t pfn = pfn_of(self->memory);

	if (!has_userfaultfd())
		SKIP(return, "no userfaultfd");
	ASSERT_EQ(0, poison_pfn(pfn));
	ASSERT_EQ(0, unpoison_pfn(pfn));
	WATCHED(SECONDS_OF_A_COMMAND) {
		struct reader reader = { .fd = self->fd, .absent = map_private(false, 1) };
		struct pollfd fault = { .fd = register_missing(reader.absent), .events = POLLIN };
		struct pollfd wait = { .fd = self->fd, .events = POLLIN };
		pthread_t thread;

		EXPECT_LE(0, fault.fd);
		EXPECT_EQ(0, pthread_create(&thread, NULL, read_there, &reader));
		EXPECT_EQ(1, poll(&fault, 1, -1));
		/* Nothing of it is read yet. */
		EXPECT_EQ(1, poll(&wait, 1, 0));
		EXPECT_TRUE(wait.revents & POLLIN);
	}
	READ_ON();
}

TEST_HARNESS_MAIN
