// SPDX-License-Identifier: GPL-2.0-only
/*
 * Random texts that name nothing are refused by each file of debugfs with the error that the list in rust/debugfs.md says,
 * in one piece or in several. `refusals [TEXTS [SEED]]`.
 */
#include <sys/uio.h>

#include "fixture.h"

static long nr_texts = 20000;
static unsigned long first_seed = 1;

#define MOST_BYTES 128
#define MOST_BYTES_OF_A_RANGE 256
#define MAX_WORDS 32

/* What a file takes. */
enum form { PFN, PID_ADDRESS, PID_OR_PFN, PFN_INDICES, PID_COUNT_SEED, RANGE, LIST };

static const struct door {
	const char *name;
	enum form form;
} doors[] = {
	{ "poison_addr", PID_ADDRESS },
	{ "poison_pfn", PFN },
	{ "poison_range", RANGE },
	{ "poison_random", PID_COUNT_SEED },
	{ "replay", LIST },
	{ "hard_offline", PFN },
	{ "soft_offline", PFN },
	{ "unpoison_pfn", PFN },
	{ "dry_run", PID_OR_PFN },
	{ "rmap", PFN_INDICES },
};

#define NR_DOORS (sizeof(doors) / sizeof(*doors))

/* A part of a text. */
struct part {
	const char *start;
	size_t size;
};

/* A number as it is written. */
struct number {
	bool is_one, is_too_large;
	uint64_t value;
};

static struct number number_in_part(struct part part)
{
	bool is_hex = part.size > 2 && part.start[0] == '0' && part.start[1] == 'x';
	struct number number = { .is_one = part.size > 0 };

	for (size_t i = is_hex ? 2 : 0; i < part.size; i++) {
		const char *digits = is_hex ? "00112233445566778899aAbBcCdDeEfF" : "00112233445566778899";
		const char *digit = part.start[i] ? strchr(digits, part.start[i]) : NULL;

		if (!digit)
			return (struct number){};
		number.is_too_large |= __builtin_mul_overflow(number.value, is_hex ? 16 : 10, &number.value);
		number.is_too_large |= __builtin_add_overflow(number.value, (digit - digits) / 2, &number.value);
	}
	return number;
}

static bool is_space(char c)
{
	return c && strchr(" \t\n\r\f", c);
}

/* The words of a part, up to MAX_WORDS; returns how many there are. */
static int split(struct part text, struct part *words)
{
	int count = 0;

	for (size_t at = 0; at < text.size && count < MAX_WORDS;) {
		size_t end = at;

		while (end < text.size && !is_space(text.start[end]))
			end++;
		if (end > at)
			words[count++] = (struct part){ text.start + at, end - at };
		at = end + 1;
	}
	return count;
}

static bool split_at_dash(struct part part, struct part halves[2])
{
	const char *dash = memchr(part.start, '-', part.size);

	if (!dash)
		return false;
	halves[0] = (struct part){ part.start, dash - part.start };
	halves[1] = (struct part){ dash + 1, part.size - halves[0].size - 1 };
	return true;
}

/* What follows @key in the first word of a line that begins with it. */
static bool find(struct part line, const char *key, struct part *value)
{
	struct part words[MAX_WORDS];
	int count = split(line, words);

	for (int i = 0; i < count; i++) {
		size_t size = strlen(key);

		if (words[i].size < size || memcmp(words[i].start, key, size))
			continue;
		*value = (struct part){ words[i].start + size, words[i].size - size };
		return true;
	}
	return false;
}

/* EINVAL or ERANGE if one of the numbers is none, or too large. */
static int check(const struct part *parts, int count, uint64_t *values)
{
	int error = 0;

	for (int i = 0; i < count; i++) {
		struct number number = number_in_part(parts[i]);

		if (!number.is_one)
			return EINVAL;
		if (number.is_too_large)
			error = ERANGE;
		values[i] = number.value;
	}
	return error;
}

static int check_pid(uint64_t pid)
{
	return pid > INT32_MAX ? ERANGE : ESRCH;
}

static int expected_of_list(struct part text)
{
	int error = ESRCH;

	if (!text.size || text.start[text.size - 1] != '\n')
		return EINVAL;
	for (const char *line = text.start, *end; line < text.start + text.size; line = end + 1) {
		struct part values[2], whole;
		uint64_t numbers[2];
		int its;

		end = memchr(line, '\n', text.start + text.size - line);
		whole = (struct part){ line, end - line };
		if (!find(whole, "pid=", &values[0]) || !find(whole, "address=", &values[1]))
			return EINVAL;
		its = check(values, 2, numbers) ?: check_pid(numbers[0]);
		if (its == EINVAL)
			return EINVAL;
		if (its == ERANGE)
			error = ERANGE;
	}
	return error;
}

static int expected_of_range(struct part text, const struct part *words, int count)
{
	struct part parts[3];
	uint64_t values[3];
	int error;

	if (memchr(text.start, '=', text.size)) {
		struct part range;

		/* One line, with its end. */
		if (memchr(text.start, '\n', text.size) != text.start + text.size - 1 ||
		    !find(text, "pid=", &parts[0]) || !find(text, "range=", &range) ||
		    !split_at_dash(range, parts + 1))
			return EINVAL;
	} else if (count == 2) {
		parts[0] = words[0];
		if (!split_at_dash(words[1], parts + 1))
			return EINVAL;
	} else if (count == 3) {
		memcpy(parts, words, sizeof(parts));
	} else {
		return EINVAL;
	}
	error = check(parts, 3, values);
	if (error)
		return error;
	return values[1] >= values[2] ? EINVAL : check_pid(values[0]);
}

/* The error that the table says, of a text that names no process and no frame of the device. */
static int expected(const struct door *door, struct part text)
{
	struct part words[MAX_WORDS];
	uint64_t values[MAX_WORDS];
	int count, error;

	if (door->form != LIST && text.size > (door->form == RANGE ? MOST_BYTES_OF_A_RANGE : MOST_BYTES))
		return EINVAL;
	/* The only bytes that are no text. */
	if (memchr(text.start, 0xff, text.size))
		return EINVAL;
	if (door->form == LIST)
		return expected_of_list(text);
	count = split(text, words);
	if (door->form == RANGE)
		return expected_of_range(text, words, count);
	error = check(words, count, values);
	if (error == EINVAL)
		return error;
	switch (door->form) {
	case PFN:
		return count != 1 ? EINVAL : error ?: ENXIO;
	case PID_ADDRESS:
		return count != 2 ? EINVAL : error ?: check_pid(values[0]);
	case PID_OR_PFN:
		return count != 1 && count != 2 ? EINVAL : error ?: count == 1 ? ENXIO : check_pid(values[0]);
	case PFN_INDICES:
		if (count != 1 && count != 3)
			return EINVAL;
		return error ?: count == 3 && values[1] > values[2] ? EINVAL : ENXIO;
	case PID_COUNT_SEED:
		if (count != 3)
			return EINVAL;
		return error ?: !values[1] ? EINVAL : check_pid(values[0]);
	default:
		return 0;
	}
}

struct writer {
	char text[1024];
	size_t size;
	unsigned int seed;
};

static unsigned int below(struct writer *writer, unsigned int limit)
{
	return rand_r(&writer->seed) % limit;
}

static void add(struct writer *writer, const void *text, size_t size)
{
	if (writer->size + size > sizeof(writer->text))
		return;
	memcpy(writer->text + writer->size, text, size);
	writer->size += size;
}

static void add_text(struct writer *writer, const char *text)
{
	add(writer, text, strlen(text));
}

/* Nobody's pid, and no frame of the guest. */
static void add_number(struct writer *writer)
{
	static const char *const numbers[] = {
		"0", "4194305", "2147483647", "2147483648", "4294967296", "9223372036854775808",
		"18446744073709551615", "18446744073709551616", "99999999999999999999999999", "0x0", "0x400001",
		"0x7fffffff", "0x80000000", "0xFFFFffffFFFFffff", "0x10000000000000000",
		"0x00000000000000000000400001", "0000000000000000000004194305",
	};
	static const char *const others[] = {
		"", "x", "-1", "+1", "0x", "0X400001", "400001a", "0x400001g", "1.0", "1e3", "4194305-", "=", "\xff",
		"\v", "0x4000010x400001", "4_194_305", "range=1", "4194305,4194306",
	};

	switch (below(writer, 20)) {
	case 0:
		return add_text(writer, others[below(writer, sizeof(others) / sizeof(*others))]);
	case 1:
		return add(writer, "\0", 1);
	default:
		return add_text(writer, numbers[below(writer, sizeof(numbers) / sizeof(*numbers))]);
	}
}

static void add_space(struct writer *writer)
{
	static const char *const spaces[] = { " ", "\t", "\n", "\r", "\f", "  ", " \n\t", "" };

	add_text(writer, below(writer, 4) ? " " : spaces[below(writer, sizeof(spaces) / sizeof(*spaces))]);
}

static void add_range(struct writer *writer)
{
	add_number(writer);
	add_text(writer, below(writer, 20) ? "-" : "--");
	add_number(writer);
}

/* A line with most of what it has to have, and more. */
static void add_line(struct writer *writer)
{
	for (int words = 1 + below(writer, 6); words--;) {
		switch (below(writer, 6)) {
		case 0:
		case 1:
			add_text(writer, "pid=");
			add_number(writer);
			break;
		case 2:
		case 3:
			add_text(writer, below(writer, 2) ? "address=" : "range=");
			below(writer, 2) ? add_number(writer) : add_range(writer);
			break;
		case 4:
			add_text(writer, "pids=");
			add_number(writer);
			break;
		default:
			add_text(writer, "comm=a b");
		}
		add_text(writer, below(writer, 20) ? " " : "");
	}
	add_text(writer, below(writer, 10) ? "\n" : "");
}

static void make_text(struct writer *writer)
{
	writer->size = 0;
	switch (below(writer, 4)) {
	case 0:
		for (int lines = 1 + below(writer, 4) * below(writer, 2); lines--;)
			add_line(writer);
		break;
	case 1:
		add_number(writer);
		add_space(writer);
		add_range(writer);
		add_space(writer);
		break;
	default:
		add_space(writer);
		for (int words = below(writer, 5); words--;) {
			add_number(writer);
			add_space(writer);
		}
		/* About as long as it may be. */
		if (!below(writer, 20))
			for (size_t most = MOST_BYTES * (1 + below(writer, 2)), size = most - 2 + below(writer, 5);
			     writer->size < size;)
				add_text(writer, " ");
	}
}

/* Writes a text, in pieces; returns 0 or the errno. */
static int write_text(int fd, struct writer *writer)
{
	size_t cut = writer->size ? below(writer, writer->size) : 0;
	struct iovec pieces[2] = { { writer->text, cut }, { writer->text + cut, writer->size - cut } };
	bool is_whole = !writer->size || below(writer, 2);
	ssize_t written = is_whole ? write(fd, writer->text, writer->size) : writev(fd, pieces, 2);

	return written < 0 ? errno : 0;
}

FIXTURE_ON_DEVICE(refusals, 4);

TEST_F_TIMEOUT(refusals, are_those_of_the_table, 3600)
{
	struct writer writer = { .seed = first_seed };
	long seen[256] = {}, wrong = 0, poisonings = counter("poisonings_total");
	int fds[NR_DOORS];

	fill(self->memory, self->pages, 1);
	for (size_t i = 0; i < NR_DOORS; i++) {
		char path[64];

		snprintf(path, sizeof(path), DEBUGFS "%s", doors[i].name);
		fds[i] = open(path, O_WRONLY | O_CLOEXEC);
		ASSERT_LE(0, fds[i]);
	}
	for (long i = 0; i < nr_texts; i++) {
		size_t door = below(&writer, NR_DOORS);
		int right, error;

		make_text(&writer);
		right = expected(&doors[door], (struct part){ writer.text, writer.size });
		error = write_text(fds[door], &writer);
		if (error >= 0 && error < 256)
			seen[error]++;
		if (error != right && wrong++ < 10) {
			TH_LOG("text %ld of seed %lu to %s: %s, not %s: '%.*s'", i, first_seed, doors[door].name,
			       strerror(error), strerror(right), (int)writer.size, writer.text);
		}
	}
	TH_LOG("EINVAL %ld, ERANGE %ld, ESRCH %ld, ENXIO %ld", seen[EINVAL], seen[ERANGE], seen[ESRCH],
	       seen[ENXIO]);
	EXPECT_EQ(0, wrong);
	EXPECT_EQ(poisonings, counter("poisonings_total"));
	EXPECT_TRUE(filled(self->memory, 0, self->pages, 1));
	/* It is not only the first cause that is tried. */
	EXPECT_LT(nr_texts / 100, seen[ERANGE]);
	EXPECT_LT(nr_texts / 100, seen[ESRCH]);
	EXPECT_LT(nr_texts / 100, seen[ENXIO]);
}

int main(int argc, char **argv)
{
	if (argc > 1 && *argv[1] != '-') {
		nr_texts = atol(argv[1]);
		first_seed = argc > 2 ? strtoul(argv[2], NULL, 0) : first_seed;
		argc = 1;
	}
	return test_harness_run(argc, argv);
}
