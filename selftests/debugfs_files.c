// SPDX-License-Identifier: GPL-2.0-only
/* The files in debugfs: what they say, and that a write they reject changes nothing. */
#include <linux/capability.h>
#include <regex.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "lib/fixture.h"

#define PAGES 16
/* Pages that are poisoned, good, and not touched. */
#define BAD 3
#define GOOD 5
#define UNTOUCHED 9

static const char *const files[] = { "poison_addr", "poison_pfn", "unpoison_pfn" };

static const char *const written[] = {
	"poison_addr", "poison_pfn", "poison_range", "poison_random", "replay", "hard_offline", "soft_offline",
	"unpoison_pfn", "dry_run", "rmap",
};

static const char *const listed[] = {
	"poison_random", "dry_run", "rmap", "mappings", "poisoned", "stats", "verify",
};

#define NR_WRITTEN (sizeof(written) / sizeof(*written))
#define NR_LISTED (sizeof(listed) / sizeof(*listed))

static int open_file(const char *name, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), DEBUGFS "%s", name);
	return open(path, flags | O_CLOEXEC);
}

FIXTURE(debugfs_files)
{
	char *memory;
	uint64_t bad_pfn, good_pfn;
};

FIXTURE_SETUP(debugfs_files)
{
	self->memory = map_device(PAGES + 1, MAP_PRIVATE);
	ASSERT_NE(MAP_FAILED, self->memory);
	ASSERT_EQ(0, munmap(self->memory + PAGES * PAGE, PAGE));
	fill(self->memory, UNTOUCHED, 1);
	self->bad_pfn = pfn_of(self->memory + BAD * PAGE);
	self->good_pfn = pfn_of(self->memory + GOOD * PAGE);
	ASSERT_EQ(0, poison_addr(getpid(), self->memory + BAD * PAGE));
}

FIXTURE_LEAVES_NOTHING(debugfs_files);

/* All that the module tells of its state. */
static void read_state(char *state, size_t size)
{
	static const char *const sources[] = { "stats", "mappings", "poisoned" };

	*state = '\0';
	for (size_t i = 0; i < 3; i++) {
		char path[64], *text;

		snprintf(path, sizeof(path), DEBUGFS "%s", sources[i]);
		text = read_file(path);
		strncat(state, text, size - strlen(state) - 1);
		free(text);
	}
}

/* Writing @size bytes of @text to @file fails with @error and changes nothing. */
#define EXPECT_REFUSED_BYTES(error, file, text, size) do {			\
	char state_before[4096], state_after[4096], path[64];			\
	int seen_error;								\
										\
	snprintf(path, sizeof(path), DEBUGFS "%s", file);			\
	read_state(state_before, sizeof(state_before));				\
	seen_error = write_file(path, text, size);				\
	read_state(state_after, sizeof(state_after));				\
	EXPECT_EQ(error, seen_error) TH_LOG("%s: %s", file, (const char *)(text));	\
	EXPECT_STREQ(state_before, state_after) TH_LOG("%s: %s", file, (const char *)(text)); \
} while (0)

#define EXPECT_REFUSED(error, file, ...) do {					\
	char message[256];							\
	int message_size = snprintf(message, sizeof(message), __VA_ARGS__);	\
										\
	EXPECT_REFUSED_BYTES(error, file, message, message_size);		\
} while (0)

TEST_F(debugfs_files, what_is_not_a_number_is_invalid)
{
	static const char *const words[] = {
		"x", "-1", "+1", "0x", "0xg", "1f", "1.0", "0b1", "1,2", "--", "0x-1", "1x", "\\x31", "½", "%d",
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
		EXPECT_REFUSED(EINVAL, "poison_addr", "%s %p", words[i], self->memory);
		EXPECT_REFUSED(EINVAL, "poison_addr", "%d %s", getpid(), words[i]);
		EXPECT_REFUSED(EINVAL, "poison_pfn", "%s", words[i]);
		EXPECT_REFUSED(EINVAL, "unpoison_pfn", "%s", words[i]);
	}
}

TEST_F(debugfs_files, nothing_is_invalid)
{
	for (size_t i = 0; i < 3; i++) {
		EXPECT_REFUSED(EINVAL, files[i], "%s", "");
		EXPECT_REFUSED(EINVAL, files[i], "\n");
		EXPECT_REFUSED(EINVAL, files[i], " \t\n ");
	}
}

TEST_F(debugfs_files, another_number_of_words_is_invalid)
{
	EXPECT_REFUSED(EINVAL, "poison_addr", "%d", getpid());
	EXPECT_REFUSED(EINVAL, "poison_addr", "%d %p 1", getpid(), self->memory);
	EXPECT_REFUSED(EINVAL, "poison_addr", "%d %p x", getpid(), self->memory);
	EXPECT_REFUSED(EINVAL, "poison_pfn", "%#lx %#lx", self->good_pfn, self->good_pfn);
	EXPECT_REFUSED(EINVAL, "unpoison_pfn", "%#lx 1", self->bad_pfn);
}

TEST_F(debugfs_files, bytes_that_are_no_text_are_invalid)
{
	char text[64];
	int size = snprintf(text, sizeof(text), "%#lx", self->good_pfn);

	/* With its final zero. */
	EXPECT_REFUSED_BYTES(EINVAL, "poison_pfn", text, size + 1);
	for (size_t i = 0; i < 3; i++) {
		EXPECT_REFUSED_BYTES(EINVAL, files[i], "\xff\xfe", 2);
		EXPECT_REFUSED_BYTES(EINVAL, files[i], "\0", 1);
	}
}

TEST_F(debugfs_files, a_text_of_more_than_128_bytes_is_invalid)
{
	char text[4096];

	/* Correct but for the spaces. */
	memset(text, ' ', sizeof(text));
	snprintf(text, sizeof(text), "%#lx", self->good_pfn);
	text[strlen(text)] = ' ';
	EXPECT_REFUSED_BYTES(EINVAL, "poison_pfn", text, 129);
	EXPECT_REFUSED_BYTES(EINVAL, "poison_pfn", text, sizeof(text));
	EXPECT_EQ(0, write_file(DEBUGFS "poison_pfn", text, 128));
	memset(text, '1', sizeof(text));
	for (size_t i = 0; i < 3; i++)
		EXPECT_REFUSED_BYTES(EINVAL, files[i], text, sizeof(text));
}

TEST_F(debugfs_files, a_text_that_cannot_be_read_is_a_fault)
{
	char *unmapped = self->memory + PAGES * PAGE;

	for (size_t i = 0; i < 3; i++) {
		char path[64];

		snprintf(path, sizeof(path), DEBUGFS "%s", files[i]);
		EXPECT_EQ(EFAULT, write_file(path, unmapped, 8));
	}
	EXPECT_EQ(1, counter("poisoned"));
}

TEST_F(debugfs_files, a_number_that_is_too_large_is_out_of_range)
{
	static const char *const words[] = {
		"18446744073709551616", "0x10000000000000000", "99999999999999999999999999999999999999",
	};

	for (size_t i = 0; i < 3; i++) {
		EXPECT_REFUSED(ERANGE, "poison_addr", "%s %p", words[i], self->memory);
		EXPECT_REFUSED(ERANGE, "poison_addr", "%d %s", getpid(), words[i]);
		EXPECT_REFUSED(ERANGE, "poison_pfn", "%s", words[i]);
		EXPECT_REFUSED(ERANGE, "unpoison_pfn", "%s", words[i]);
	}
	/* Not a pid. */
	EXPECT_REFUSED(ERANGE, "poison_addr", "2147483648 %p", self->memory);
	EXPECT_REFUSED(ERANGE, "poison_addr", "%lu %p", (1UL << 32) + getpid(), self->memory);
}

TEST_F(debugfs_files, a_process_that_does_not_exist_is_not_found)
{
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_REFUSED(ESRCH, "poison_addr", "%d %p", pid, self->memory);
	EXPECT_REFUSED(ESRCH, "poison_addr", "0 %p", self->memory);
	EXPECT_REFUSED(ESRCH, "poison_addr", "2147483647 %p", self->memory);
}

TEST_F(debugfs_files, a_process_without_an_address_space_is_not_found)
{
	siginfo_t info;
	pid_t zombie = fork();

	if (!zombie)
		_exit(0);
	ASSERT_EQ(0, waitid(P_PID, zombie, &info, WEXITED | WNOWAIT));
	EXPECT_REFUSED(ESRCH, "poison_addr", "%d %p", zombie, self->memory);
	/* A thread of the kernel. */
	EXPECT_REFUSED(ESRCH, "poison_addr", "2 %p", self->memory);
}

TEST_F(debugfs_files, an_address_where_nothing_is_mapped_is_a_fault)
{
	ASSERT_EQ(0, munmap(self->memory + GOOD * PAGE, PAGE));
	EXPECT_REFUSED(EFAULT, "poison_addr", "%d %p", getpid(), self->memory + GOOD * PAGE);
	EXPECT_REFUSED(EFAULT, "poison_addr", "%d 0", getpid());
}

TEST_F(debugfs_files, an_address_of_the_kernel_is_a_fault)
{
	static const char *const addresses[] = {
		"0xffffffff81000000", "0xffff888000000000", "0xffffffffffffffff", "0x800000000000", "0x8000000000000000",
	};

	for (size_t i = 0; i < 5; i++)
		EXPECT_REFUSED(EFAULT, "poison_addr", "%d %s", getpid(), addresses[i]);
}

TEST_F(debugfs_files, memory_that_is_not_the_devices_is_refused)
{
	char *other = map_private(false, 1);

	*other = 1;
	EXPECT_REFUSED(ENXIO, "poison_addr", "%d %p", getpid(), other);
	EXPECT_REFUSED(ENXIO, "poison_addr", "%d %p", getpid(), &other);
	EXPECT_REFUSED(ENXIO, "poison_addr", "%d %p", getpid(), files);
	EXPECT_EQ(1, *other);
}

TEST_F(debugfs_files, a_frame_that_is_not_the_devices_is_refused)
{
	char *other = map_private(false, 1);
	uint64_t pfn;

	*other = 1;
	pfn = pfn_of(other);
	ASSERT_NE(0, pfn);
	for (size_t i = 1; i < 3; i++) {
		EXPECT_REFUSED(ENXIO, files[i], "%#lx", pfn);
		/* The first frame, one of the BIOS, frames that do not exist. */
		EXPECT_REFUSED(ENXIO, files[i], "0");
		EXPECT_REFUSED(ENXIO, files[i], "0xf0");
		EXPECT_REFUSED(ENXIO, files[i], "0x7fffffff");
		EXPECT_REFUSED(ENXIO, files[i], "0xfffffffffffff");
		EXPECT_REFUSED(ENXIO, files[i], "0xffffffffffffffff");
		EXPECT_REFUSED(ENXIO, files[i], "18446744073709551615");
	}
	EXPECT_EQ(1, *other);
}

TEST_F(debugfs_files, no_frame_of_anybody_else_is_the_devices)
{
	enum { FRAMES = 1 << 16 };
	int fd = open(DEBUGFS "unpoison_pfn", O_WRONLY), ours = 0, bad = 0, aside = counter("quarantined");

	for (uint64_t pfn = 0; pfn < FRAMES; pfn++) {
		char text[32];
		int size = snprintf(text, sizeof(text), "%lu", pfn);

		if (pfn == self->bad_pfn)
			continue;
		/* A frame that is out of use is given back, if only software has failed. */
		if (write(fd, text, size) == size) {
			aside--;
			continue;
		}
		ours += errno == ENOENT;
		bad += errno == EPERM;
		if (errno != ENOENT && errno != EPERM) {
			ASSERT_EQ(ENXIO, errno);
		}
	}
	EXPECT_EQ(aside, counter("quarantined"));
	EXPECT_GE(aside, bad);
	/* Those that were touched, but for the bad one; a frame may be above those that were tried. */
	EXPECT_GE(UNTOUCHED - 1, ours);
	EXPECT_EQ(1, counter("poisoned"));
}

TEST_F(debugfs_files, a_frame_that_was_given_back_is_not_the_devices)
{
	ASSERT_EQ(0, madvise(self->memory, PAGES * PAGE, MADV_DONTNEED));
	EXPECT_REFUSED(ENXIO, "poison_pfn", "%#lx", self->good_pfn);
	EXPECT_REFUSED(ENXIO, "unpoison_pfn", "%#lx", self->bad_pfn);
}

TEST_F(debugfs_files, a_page_that_was_not_touched_is_no_data)
{
	EXPECT_REFUSED(ENODATA, "poison_addr", "%d %p touched", getpid(), self->memory + UNTOUCHED * PAGE);
	/* Zeroes that all share are nobody's. */
	EXPECT_WORD(0, load(self->memory + UNTOUCHED * PAGE));
	EXPECT_REFUSED(ENODATA, "poison_addr", "%d %p touched", getpid(), self->memory + UNTOUCHED * PAGE);
	EXPECT_WORD(7, store(self->memory + UNTOUCHED * PAGE, 7));
	EXPECT_EQ(0, print_to_file(DEBUGFS "poison_addr", "%d %p touched", getpid(), self->memory + UNTOUCHED * PAGE));
}

TEST_F(debugfs_files, a_page_fails_once)
{
	EXPECT_REFUSED(EHWPOISON, "poison_addr", "%d %p", getpid(), self->memory + BAD * PAGE);
	EXPECT_REFUSED(EHWPOISON, "poison_pfn", "%#lx", self->bad_pfn);
}

TEST_F(debugfs_files, a_good_page_cannot_be_unpoisoned)
{
	EXPECT_REFUSED(ENOENT, "unpoison_pfn", "%#lx", self->good_pfn);
	EXPECT_TRUE(filled(self->memory, GOOD, 1, 1));
}

TEST_F(debugfs_files, numbers_are_decimal_or_hexadecimal)
{
	char *good = self->memory + GOOD * PAGE;

	ASSERT_EQ(0, print_to_file(DEBUGFS "poison_addr", "%d %lu", getpid(), (long)good));
	EXPECT_SIGBUS(good, load(good));
	ASSERT_EQ(0, print_to_file(DEBUGFS "unpoison_pfn", "%lu", self->good_pfn));
	EXPECT_WORD(word(1, GOOD), load(good));
	ASSERT_EQ(0, print_to_file(DEBUGFS "poison_addr", " \t%#x  %#lx\n", getpid(), (long)good));
	EXPECT_SIGBUS(good, load(good));
	ASSERT_EQ(0, print_to_file(DEBUGFS "unpoison_pfn", "\n%#lx\n\n", self->good_pfn));
	ASSERT_EQ(0, print_to_file(DEBUGFS "poison_pfn", "0x0000000000000000000%lx", self->good_pfn));
	EXPECT_SIGBUS(good, load(good));
}

TEST_F(debugfs_files, each_write_is_a_command)
{
	int fd = open(DEBUGFS "unpoison_pfn", O_WRONLY);
	char text[32];
	int size = snprintf(text, sizeof(text), "%#lx\n", self->bad_pfn);

	ASSERT_EQ(size, write(fd, text, size));
	ASSERT_EQ(-1, write(fd, text, size));
	EXPECT_EQ(ENOENT, errno);
	ASSERT_EQ(0, poison_pfn(self->bad_pfn));
	ASSERT_EQ(size, write(fd, text, size));
	close(fd);
}

/* Writes @text in pieces of @size bytes, of which there are up to 64, by one writev(); 0 or an errno. */
static int write_in_pieces(const char *name, const char *text, size_t size)
{
	size_t length = strlen(text), count = 0;
	struct iovec pieces[64];
	ssize_t written;
	int fd;

	for (size_t at = 0; at < length && count < 64; at += size)
		pieces[count++] = (struct iovec){ (char *)text + at, length - at < size ? length - at : size };
	fd = open_file(name, O_WRONLY);
	written = writev(fd, pieces, count);
	close(fd);
	if (written < 0)
		return errno;
	return written == (ssize_t)length ? 0 : EIO;
}

TEST_F(debugfs_files, one_writev_is_one_command)
{
	char text[64], *good = self->memory + GOOD * PAGE;

	for (size_t size = 1; size < 8; size++) {
		snprintf(text, sizeof(text), "%d %p\n", getpid(), good);
		ASSERT_EQ(0, write_in_pieces("poison_addr", text, size));
		EXPECT_SIGBUS(good, load(good));
		snprintf(text, sizeof(text), "%#lx", self->good_pfn);
		ASSERT_EQ(0, write_in_pieces("unpoison_pfn", text, size));
		EXPECT_WORD(word(1, GOOD), load(good));
	}
	/* Each piece would be a command by itself. */
	snprintf(text, sizeof(text), "%#lx\n%#lx\n", self->good_pfn, self->bad_pfn);
	EXPECT_EQ(EINVAL, write_in_pieces("poison_pfn", text, strlen(text) / 2));
	EXPECT_WORD(word(1, GOOD), load(good));
}

TEST_F(debugfs_files, a_list_in_pieces_is_done_or_not_as_a_whole)
{
	char list[256], *good = self->memory + GOOD * PAGE;
	int line = snprintf(list, sizeof(list), "pid=%d address=%p\n", getpid(), good);

	/* It is as long, and nothing is mapped there. */
	snprintf(list + line, sizeof(list) - line, "pid=%d address=%p\n", getpid(), self->memory + PAGES * PAGE);
	EXPECT_EQ(EFAULT, write_in_pieces("replay", list, line));
	EXPECT_WORD(word(1, GOOD), load(good));
	EXPECT_EQ(1, counter("poisoned"));
	snprintf(list + line, sizeof(list) - line, "pid=%d address=%p\n", getpid(), good + PAGE);
	EXPECT_EQ(0, write_in_pieces("replay", list, line - 3));
	EXPECT_SIGBUS(good, load(good));
	EXPECT_SIGBUS(good + PAGE, load(good + PAGE));
}

/* pwritev2(), which has no position if @position is -1. */
static ssize_t write_at(int fd, const char *text, size_t size, long position)
{
	struct iovec piece = { (char *)text, size };

	return syscall(SYS_pwritev2, fd, &piece, 1, position, position >> 32, 0);
}

TEST_F(debugfs_files, a_command_has_no_position)
{
	char text[32];
	int size = snprintf(text, sizeof(text), "%#lx", self->bad_pfn);

	for (size_t i = 0; i < NR_WRITTEN; i++) {
		for (int flags = O_WRONLY; flags <= O_RDWR; flags++) {
			int fd = open_file(written[i], flags);
			struct iovec piece = { text, size };

			ASSERT_LE(0, fd);
			for (long at = 0; at < 8192; at += 4096) {
				EXPECT_EQ(-1, pwrite(fd, text, size, at));
				EXPECT_EQ(ESPIPE, errno) TH_LOG("pwrite to %s", written[i]);
				EXPECT_EQ(-1, pwritev(fd, &piece, 1, at));
				EXPECT_EQ(ESPIPE, errno) TH_LOG("pwritev to %s", written[i]);
				EXPECT_EQ(-1, write_at(fd, text, size, at));
				EXPECT_EQ(ESPIPE, errno) TH_LOG("pwritev2 to %s", written[i]);
			}
			close(fd);
		}
	}
	EXPECT_EQ(1, counter("poisoned"));
	for (int flags = 0; flags <= O_APPEND; flags += O_APPEND) {
		int fd = open_file("unpoison_pfn", O_WRONLY | flags);

		EXPECT_EQ(size, write_at(fd, text, size, -1));
		EXPECT_EQ(0, counter("poisoned"));
		close(fd);
		fd = open_file("poison_pfn", O_WRONLY | flags);
		EXPECT_EQ(size, write(fd, text, size));
		EXPECT_EQ(1, counter("poisoned"));
		close(fd);
	}
}

TEST_F(debugfs_files, what_is_spliced_is_refused)
{
	int source = memfd_create("debugfs", MFD_CLOEXEC), ends[2];
	char text[32];
	int size = snprintf(text, sizeof(text), "%#lx", self->good_pfn);

	ASSERT_EQ(0, pipe(ends));
	ASSERT_EQ(size, write(ends[1], text, size));
	ASSERT_EQ(size, write(source, text, size));
	for (size_t i = 0; i < NR_WRITTEN; i++) {
		int fd = open_file(written[i], O_WRONLY);
		off_t start = 0;

		EXPECT_EQ(-1, splice(ends[0], NULL, fd, NULL, size, 0));
		EXPECT_EQ(EINVAL, errno) TH_LOG("splice to %s", written[i]);
		EXPECT_EQ(-1, sendfile(fd, source, &start, size));
		EXPECT_EQ(EINVAL, errno) TH_LOG("sendfile to %s", written[i]);
		close(fd);
	}
	EXPECT_EQ(1, counter("poisoned"));
}

TEST_F(debugfs_files, a_write_of_nothing_is_no_command)
{
	struct iovec nothing[2] = { { "", 0 }, { "", 0 } };

	for (size_t i = 0; i < NR_WRITTEN; i++) {
		int fd = open_file(written[i], O_WRONLY);

		EXPECT_EQ(-1, write(fd, "", 0));
		EXPECT_EQ(EINVAL, errno) TH_LOG("%s", written[i]);
		EXPECT_EQ(0, writev(fd, nothing, 2));
		close(fd);
	}
}

TEST_F(debugfs_files, a_fault_within_a_text_changes_nothing)
{
	/* What can be read would do. */
	char *end = self->memory + PAGES * PAGE, text[64];
	int size = snprintf(text, sizeof(text), "%#lx ", self->good_pfn);

	memcpy(end - size, text, size);
	EXPECT_EQ(EFAULT, write_file(DEBUGFS "poison_pfn", end - size, size + 8));
	size = snprintf(text, sizeof(text), "pid=%d address=%p\n", getpid(), self->memory + GOOD * PAGE);
	memcpy(end - size, text, size);
	EXPECT_EQ(EFAULT, write_file(DEBUGFS "replay", end - size, 2 * size));
	EXPECT_WORD(word(1, GOOD), load(self->memory + GOOD * PAGE));
	EXPECT_EQ(1, counter("poisoned"));
}

static bool set_capabilities(const struct __user_cap_data_struct *capabilities)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };

	return !syscall(SYS_capset, &header, capabilities);
}

/* In a process that has no capabilities, or those of a namespace of its own only. */
static bool is_refused_everything(struct __test_metadata *_metadata, const int *to_write, const int *to_read,
				  const char *text)
{
	long refused = 0;
	char byte;

	for (size_t i = 0; i < NR_WRITTEN; i++) {
		refused += write(to_write[i], text, strlen(text)) < 0 && errno == EPERM;
		/* Nor is it told what is wrong with the text. */
		refused += write(to_write[i], "x", 1) < 0 && errno == EPERM;
	}
	for (size_t i = 0; i < NR_LISTED; i++) {
		refused += read(to_read[i], &byte, 1) < 0 && errno == EPERM;
		refused += pread(to_read[i], &byte, 1, 1) < 0 && errno == EPERM;
		refused += open_file(listed[i], O_RDONLY) < 0 && (errno == EPERM || errno == EACCES);
	}
	if (refused != 2 * NR_WRITTEN + 3 * NR_LISTED)
		TH_LOG("%ld of %zu were refused", refused, 2 * NR_WRITTEN + 3 * NR_LISTED);
	return refused == 2 * NR_WRITTEN + 3 * NR_LISTED;
}

TEST_F(debugfs_files, a_descriptor_gives_nobody_a_capability)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct all[2], less[2];
	int to_write[NR_WRITTEN], to_read[NR_LISTED];
	char text[32], line;
	pid_t child;
	int status;

	snprintf(text, sizeof(text), "%#lx", self->good_pfn);
	for (size_t i = 0; i < NR_WRITTEN; i++)
		to_write[i] = open_file(written[i], O_WRONLY);
	for (size_t i = 0; i < NR_LISTED; i++) {
		to_read[i] = open_file(listed[i], O_RDONLY);
		ASSERT_LE(0, to_read[i]);
	}
	ASSERT_EQ(0, syscall(SYS_capget, &header, all));

	/* Root, with all capabilities but that one, and then with it again. */
	memcpy(less, all, sizeof(all));
	less[0].effective &= ~(1U << CAP_SYS_ADMIN);
	ASSERT_TRUE(set_capabilities(less));
	EXPECT_TRUE(is_refused_everything(_metadata, to_write, to_read, text));
	ASSERT_TRUE(set_capabilities(all));
	EXPECT_EQ(1, counter("poisoned"));
	EXPECT_EQ(1, read(to_read[3], &line, 1));

	/* Somebody else. */
	child = fork();
	if (!child)
		_exit(become_nobody() ||
		      !is_refused_everything(_metadata, to_write, to_read, text));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);

	/* The root of another user namespace. */
	child = fork();
	if (!child)
		_exit(unshare(CLONE_NEWUSER) ? 2 : !is_refused_everything(_metadata, to_write, to_read, text));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	if (WEXITSTATUS(status) == 2)
		TH_LOG("no user namespaces");
	else
		EXPECT_EQ(0, status);
	EXPECT_EQ(1, counter("poisoned"));
	EXPECT_WORD(word(1, GOOD), load(self->memory + GOOD * PAGE));
}

TEST_F(debugfs_files, of_several_causes_the_first_one_is_told)
{
	EXPECT_REFUSED(EINVAL, "poison_addr", "18446744073709551616 x");
	EXPECT_REFUSED(EINVAL, "poison_addr", "18446744073709551616");
	EXPECT_REFUSED(EINVAL, "poison_pfn", "18446744073709551616 1");
	EXPECT_REFUSED(EINVAL, "rmap", "18446744073709551616 1");
	EXPECT_REFUSED(EINVAL, "rmap", "1 2 1");
	EXPECT_REFUSED(EINVAL, "poison_range", "2147483648 %p %p", self->memory, self->memory);
	EXPECT_REFUSED(EINVAL, "poison_random", "2147483648 0 1");
	EXPECT_REFUSED(ERANGE, "poison_random", "2147483648 18446744073709551616 1");
	EXPECT_REFUSED(ERANGE, "poison_random", "1 0 18446744073709551616");
	EXPECT_REFUSED(EINVAL, "replay", "pid=2147483648 address=1\npid=1 address=x\n");
	EXPECT_REFUSED(ERANGE, "replay", "pid=0 address=1\npid=2147483648 address=1\n");
	EXPECT_REFUSED(ESRCH, "replay", "pid=0 address=1\npid=%d address=0\n", getpid());
	EXPECT_REFUSED(EFAULT, "replay", "pid=%d address=0\npid=0 address=1\n", getpid());
	/* Before that it would be too many for one write. */
	EXPECT_REFUSED(ENODATA, "poison_random", "%d %d 1", getpid(), UNTOUCHED);
	EXPECT_REFUSED(ENODATA, "poison_random", "%d 1000000 1", getpid());
	/* The end of all addresses is one. */
	EXPECT_REFUSED(ENXIO, "poison_range", "%d 0xfffffffffffff000 0xffffffffffffffff", getpid());
}

TEST_F(debugfs_files, only_root_may_inject)
{
	struct stat status;

	for (size_t i = 0; i < 3; i++) {
		char path[64];

		snprintf(path, sizeof(path), DEBUGFS "%s", files[i]);
		ASSERT_EQ(0, stat(path, &status));
		EXPECT_EQ(S_IFREG | 0200, status.st_mode);
	}
}

/* Whether each line of @path matches @pattern; *lines is how many there are. */
static bool lines_match(const char *path, const char *pattern, int *lines)
{
	char *text = read_file(path), *rest = text, *line;
	bool match = true;
	regex_t regex;

	if (regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB))
		abort();
	for (*lines = 0; (line = strsep(&rest, "\n")) && *line; ++*lines)
		match &= !regexec(&regex, line, 0, NULL, 0);
	/* The last line has its end, too. */
	match &= !*lines || (line && !rest);
	regfree(&regex);
	free(text);
	return match;
}

TEST_F(debugfs_files, stats_is_a_name_and_a_value_a_line)
{
	static const char *const names[] = {
		"vmas", "amaps", "anons", "anon_vmas", "avcs", "poisoned", "faults_total", "copies_total",
		"poisonings_total", "unpoisonings_total", "walks_total", "walk_nodes_total", "mappings_zapped_total",
		"accesses_refused_total", "last_walk_nodes", "last_walk_vmas", "last_walk_mappings",
	};
	const size_t count = sizeof(names) / sizeof(*names);
	int lines;

	EXPECT_TRUE(lines_match(DEBUGFS "stats", "^[a-z_]+ [0-9]+$", &lines));
	EXPECT_LE((int)count, lines);
	for (size_t i = 0; i < count; i++) {
		EXPECT_LE(0, counter(names[i])) TH_LOG("%s", names[i]);
	}
}

TEST_F(debugfs_files, stats_counts)
{
	long faults = counter("faults_total"), copies = counter("copies_total"), refused;
	long poisonings = counter("poisonings_total"), unpoisonings = counter("unpoisonings_total");
	struct peer *child;

	EXPECT_EQ(1, counter("vmas"));
	EXPECT_EQ(1, counter("amaps"));
	EXPECT_EQ(UNTOUCHED, counter("anons"));
	EXPECT_EQ(1, counter("anon_vmas"));
	EXPECT_EQ(1, counter("avcs"));
	EXPECT_EQ(1, counter("poisoned"));
	EXPECT_WORD(0, load(self->memory + UNTOUCHED * PAGE));
	EXPECT_EQ(faults + 1, counter("faults_total"));
	EXPECT_EQ(UNTOUCHED, counter("anons"));
	EXPECT_WORD(7, store(self->memory + UNTOUCHED * PAGE, 7));
	EXPECT_EQ(faults + 2, counter("faults_total"));
	EXPECT_EQ(UNTOUCHED + 1, counter("anons"));

	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_EQ(2, counter("vmas"));
	EXPECT_EQ(2, counter("amaps"));
	EXPECT_EQ(UNTOUCHED + 1, counter("anons"));
	EXPECT_WORD(7, peer_store(child, self->memory, 7));
	EXPECT_EQ(copies + 1, counter("copies_total"));
	EXPECT_EQ(UNTOUCHED + 2, counter("anons"));
	EXPECT_EQ(2, counter("avcs"));

	refused = counter("accesses_refused_total");
	EXPECT_SIGBUS(self->memory + BAD * PAGE, load(self->memory + BAD * PAGE));
	EXPECT_EQ(refused + 1, counter("accesses_refused_total"));
	ASSERT_EQ(0, unpoison_pfn(self->bad_pfn));
	ASSERT_EQ(0, poison_pfn(self->bad_pfn));
	EXPECT_EQ(poisonings + 1, counter("poisonings_total"));
	EXPECT_EQ(unpoisonings + 1, counter("unpoisonings_total"));
}

TEST_F(debugfs_files, mappings_is_a_vma_a_line)
{
	static const char pattern[] = "^pid=[0-9]+ range=0x[0-9a-f]+-0x[0-9a-f]+ index=[0-9]+-[0-9]+ present=[0-9]+ "
				      "poisoned=[0-9]+ avcs=[0-9]+ comm=debugfs_files$";
	struct mapping *m;
	struct peer *child;
	int lines;

	ASSERT_EQ(1, read_mappings(getpid(), &m));
	EXPECT_EQ((uintptr_t)self->memory, m->start);
	EXPECT_EQ((uintptr_t)self->memory + PAGES * PAGE, m->end);
	EXPECT_EQ(PAGES - 1, m->last - m->first);
	EXPECT_EQ(UNTOUCHED, m->present);
	EXPECT_EQ(1, m->poisoned);
	EXPECT_EQ(1, m->avcs);

	/* Read-only, in the middle. */
	ASSERT_EQ(0, mprotect(self->memory + 4 * PAGE, 4 * PAGE, PROT_READ));
	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_TRUE(lines_match(DEBUGFS "mappings", pattern, &lines));
	EXPECT_EQ(6, lines);
	ASSERT_EQ(3, read_mappings(getpid(), &m));
	EXPECT_EQ((uintptr_t)self->memory + 4 * PAGE, m[0].end);
	EXPECT_EQ(4, m[0].present);
	EXPECT_EQ(1, m[0].poisoned);
	EXPECT_EQ((uintptr_t)self->memory + 8 * PAGE, m[1].end);
	EXPECT_EQ(m[0].last + 1, m[1].first);
	EXPECT_EQ(4, m[1].present);
	EXPECT_EQ(0, m[1].poisoned);
	EXPECT_EQ(1, m[1].avcs);
	EXPECT_EQ(1, m[2].present);
	ASSERT_EQ(3, read_mappings(child->pid, &m));
	EXPECT_EQ(4, m[0].present);
	EXPECT_EQ(1, m[0].poisoned);
	EXPECT_EQ(0, m[0].avcs);
}

TEST_F(debugfs_files, a_command_name_cannot_break_a_line)
{
	struct mapping *m;

	ASSERT_EQ(0, prctl(PR_SET_NAME, "a b\npid=1 ra"));
	EXPECT_EQ(1, read_mappings(getpid(), &m));
	EXPECT_EQ(0, read_mappings(1, &m));
	ASSERT_EQ(0, prctl(PR_SET_NAME, ""));
	EXPECT_EQ((uintptr_t)self->memory, (read_mappings(getpid(), &m), m ? m->start : (uintptr_t)self->memory));
}

/* As `poisoned` tells it, in seconds. */
static double now(void)
{
	return now_ns() / 1e9;
}

TEST_F(debugfs_files, poisoned_is_a_page_a_line)
{
	static const char pattern[] = "^pfn=0x[0-9a-f]+ index=[0-9]+ kind=simulated source=(poison_addr|poison_pfn) "
				      "since=[0-9]+\\.[0-9]{6} hit=[0-9]+ pids=([0-9]+(,[0-9]+)*)?"
				      "( pid=[0-9]+ address=0x[0-9a-f]+)?$";
	struct poisoned bad, good;
	struct mapping *m;
	double before = now();
	int lines;

	ASSERT_EQ(0, poison_pfn(self->good_pfn));
	EXPECT_TRUE(lines_match(DEBUGFS "poisoned", pattern, &lines));
	EXPECT_EQ(2, lines);
	ASSERT_EQ(1, read_mappings(getpid(), &m));
	ASSERT_TRUE(read_poisoned(self->bad_pfn, &bad));
	ASSERT_TRUE(read_poisoned(self->good_pfn, &good));
	EXPECT_STREQ("poison_addr", bad.source);
	EXPECT_STREQ("poison_pfn", good.source);
	EXPECT_EQ(m->first + BAD, bad.index);
	EXPECT_EQ(m->first + GOOD, good.index);
	EXPECT_EQ(1, good.hit);
	EXPECT_EQ(1, good.nr_pids);
	EXPECT_EQ(getpid(), good.pids[0]);
	EXPECT_LT(0, bad.since);
	EXPECT_GE(before, bad.since);
	EXPECT_LE(before, good.since + 1e-6);
	EXPECT_GE(now(), good.since);
	ASSERT_EQ(0, unpoison_pfn(self->good_pfn));
	EXPECT_FALSE(read_poisoned(self->good_pfn, &good));
	EXPECT_TRUE(read_poisoned(self->bad_pfn, &bad));
}

TEST_F(debugfs_files, a_file_can_be_read_byte_by_byte)
{
	char *whole = read_file(DEBUGFS "mappings"), byte;
	int fd = open(DEBUGFS "mappings", O_RDONLY);
	size_t i = 0;

	for (; read(fd, &byte, 1) == 1; i++) {
		ASSERT_EQ(whole[i], byte);
	}
	EXPECT_EQ(strlen(whole), i);
	close(fd);
}

TEST_HARNESS_MAIN
