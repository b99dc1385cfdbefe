/* SPDX-License-Identifier: GPL-2.0-only */
/* Texts: some that a file takes, about what there is and what there is not; some that are wrong, by a little or altogether. */
#ifndef REFUSALS_TEXT_H
#define REFUSALS_TEXT_H

#include "table.h"

/* A text that is made at TEXT, for an order. */
struct draft {
	struct random *random;
	char *text;
	size_t size;
	/* By whom, and about whose memory it is, mostly. */
	enum namespace namespace;
	const struct actor *target;
};

#define ONE_OF(random, array) ((array)[below(random, sizeof(array) / sizeof(*(array)))])

static void add(struct draft *draft, const void *text, size_t size)
{
	if (draft->size + size > TEXT_SIZE)
		return;
	memcpy(draft->text + draft->size, text, size);
	draft->size += size;
}

__attribute__((format(printf, 2, 3))) static void add_text(struct draft *draft, const char *format, ...)
{
	char text[256];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	add(draft, text, strlen(text));
}

static void add_strange_word(struct draft *draft)
{
	static const char *const words[] = {
		"", "x", "-1", "+1", "0x", "0X400001", "400001a", "0x400001g", "1.0", "1e3", "4194305-", "=", "\xff",
		"\v", "0x4000010x400001", "4_194_305", "range=1", "4194305,4194306", "--", "½", "１", "touched", "\xc0\x80",
		"0b1", "0o7", "%d", "keep", "keeper", "1\x80", "9223372036854775808",
	};

	add_text(draft, "%s", ONE_OF(draft->random, words));
}

/* A number, in one of the ways that it can be written; or what can be taken for it. */
static void add_number(struct draft *draft, uint64_t value)
{
	switch (below(draft->random, 160)) {
	case 0:
		return add_strange_word(draft);
	case 1 ... 2:
		/* More than 64 bits, the lower ones of which are the number. */
		return add_text(draft, "0x1%016lx", value);
	case 3:
		return add_text(draft, "99999999999999999999999%lu", value);
	case 4:
		return add_text(draft, "-%lu", value);
	case 5:
		return add(draft, "\0", 1);
	case 6 ... 14:
		return add_text(draft, "%030lu", value);
	case 15 ... 24:
		return add_text(draft, "0x%030lx", value);
	case 25 ... 34:
		return add_text(draft, "0x%lX", value);
	case 35 ... 90:
		return add_text(draft, "%lu", value);
	default:
		return add_text(draft, "%#lx", value);
	}
}

static void add_space(struct draft *draft)
{
	static const char *const spaces[] = { "\t", "\n", "\r", "\f", "  ", " \n\t", "\r\n" };
	/* None of them is white space. */
	static const char *const others[] = { "", "\v", "\u00a0", "\xc2\x85", "\u2003", "\u2028", "\u3000", "_", "," };

	if (one_in(draft->random, 250))
		add_text(draft, "%s", ONE_OF(draft->random, others));
	else
		add_text(draft, "%s", one_in(draft->random, 4) ? ONE_OF(draft->random, spaces) : " ");
}

static void add_space_or_nothing(struct draft *draft)
{
	if (one_in(draft->random, 4))
		add_space(draft);
}

/* An id of the target's, or of somebody else or nobody. */
static uint64_t draw_pid(struct draft *draft)
{
	struct random *random = draft->random;
	const struct actor *target = draft->target;
	uint64_t id = target->ids[draft->namespace][below(random, NR_IDS)] ?: target->ids[draft->namespace][0];
	const uint64_t others[] = {
		0, 1, 2, 4194305, INT32_MAX, 1UL << 31, 1UL << 32, ~0UL, UINT32_MAX, 1UL << 63, id | 1UL << 32, id | 1UL << 63,
		world->zombies[OUTER], world->zombies[INNER], world->reaped[OUTER], world->reaped[INNER],
		target->ids[!draft->namespace][0], target->ids[!draft->namespace][1],
		actor_of(below(random, NR_ACTORS))->ids[draft->namespace][0], below(random, 4096),
	};

	return one_in(random, 5) ? ONE_OF(random, others) : id;
}

static uint64_t draw_address(struct draft *draft)
{
	struct random *random = draft->random;
	const struct actor *other = actor_of(below(random, NR_ACTORS));
	uint64_t address = address_of(draft->target, below(random, PLACES));
	const uint64_t others[] = {
		0, 1, PAGE, TEXT, TEXT_END - 1, TEXT_END, PROTECTED, ANONYMOUS, (uintptr_t)order, (uintptr_t)files,
		(uintptr_t)&random, PRIVATE - 1, PRIVATE + PRIVATE_PAGES * PAGE, MOVED, SHARED, GROWN,
		GROWN + GROWN_PAGES * PAGE - 1, USER_END - 1, USER_END, 1UL << 47, 1UL << 63, 0xffff888000000000,
		0xffffffff81000000, 0xffffffffff600000, ~0UL, address | 1UL << 47, address | 1UL << 48, address | 1UL << 63,
		address_of(other, below(random, PLACES)),
	};

	if (one_in(random, 5))
		return ONE_OF(random, others);
	return address + (one_in(random, 2) ? 0 : below(random, PAGE));
}

static uint64_t draw_pfn(struct draft *draft)
{
	struct random *random = draft->random;
	uint64_t pfn = world->frames[below(random, world->nr_frames)].pfn;
	const uint64_t others[] = {
		0, 1, 0xf0, 0x100, 0x7fffffff, 1UL << 32, 1UL << 40, 1UL << 52, 1UL << 63, ~0UL, pfn | 1UL << 52,
		pfn | 1UL << 63, pfn | 1UL << 32, pfn + 1, pfn - 1, draft->target->anonymous_pfn, draft->target->anonymous_pfn,
	};

	if (world->nr_asides && one_in(random, 10))
		return world->asides[one_in(random, 2) ? world->nr_asides - 1 : below(random, world->nr_asides)].pfn;
	return one_in(random, 5) ? ONE_OF(random, others) : pfn;
}

/* Two ends of a range; or not, once in a while. */
static void draw_range(struct draft *draft, uint64_t *start, uint64_t *end)
{
	struct random *random = draft->random;

	*start = draw_address(draft);
	switch (below(random, 8)) {
	case 0:
		*end = *start + below(random, 3);
		break;
	case 1:
		*end = draw_address(draft);
		break;
	case 2:
		*start = one_in(random, 2) ? 0 : *start;
		*end = one_in(random, 2) ? ~0UL : USER_END;
		break;
	default:
		*end = *start + below(random, 4 * PAGE);
	}
}

/* A line as `poisoned` or `mappings` has it, or one with some of the words in another order. */
static void add_line(struct draft *draft)
{
	struct random *random = draft->random;
	static const char *const kinds[] = { "simulated", "kept", "kept", "hardware", "keep", "kept kind=simulated" };
	uint64_t pid = draw_pid(draft), address = draw_address(draft), start, end;

	draw_range(draft, &start, &end);
	switch (below(random, 8)) {
	case 0 ... 2:
		add_text(draft, "pfn=%#lx index=3 kind=%s source=poison_addr since=1.000001 hit=1 pids=%lu pid=%lu address=%#lx",
			 draw_pfn(draft), ONE_OF(random, kinds), pid, pid, address);
		break;
	case 3 ... 4:
		add_text(draft, "pid=%lu range=%#lx-%#lx index=0-27 present=9 poisoned=1 avcs=2 comm=a pid=b", pid, start, end);
		break;
	case 5:
		add_text(draft, "pid=");
		add_number(draft, pid);
		add_space(draft);
		add_text(draft, "address=");
		add_number(draft, address);
		if (one_in(random, 4))
			add_text(draft, " kind=%s", ONE_OF(random, kinds));
		break;
	case 6:
		add_text(draft, "range=");
		add_number(draft, start);
		add_text(draft, "-");
		add_number(draft, end);
		add_space(draft);
		add_text(draft, "address=");
		add_number(draft, address);
		add_space(draft);
		add_text(draft, "pid=");
		add_number(draft, pid);
		break;
	default:
		for (int words = below(random, 6); words--;) {
			static const char *const keys[] = { "pid=", "pids=", "address=", "range=", "kind=", "" };

			add_text(draft, "%s", ONE_OF(random, keys));
			add_number(draft, one_in(random, 2) ? pid : address);
			if (one_in(random, 3)) {
				add_text(draft, "-");
				add_number(draft, end);
			}
			add_space(draft);
		}
	}
	if (!one_in(random, 24))
		add_text(draft, "\n");
}

/* What the form is that of, but for what add_number() and add_space() make of it. */
static void add_form(struct draft *draft, enum form form)
{
	struct random *random = draft->random;
	uint64_t start, end;

	draw_range(draft, &start, &end);
	switch (form) {
	case PID_OR_PFN:
		if (one_in(random, 2))
			return add_form(draft, PID_ADDRESS);
		return add_number(draft, draw_pfn(draft));
	case PID_ADDRESS:
		add_number(draft, draw_pid(draft));
		add_space(draft);
		return add_number(draft, draw_address(draft));
	case PFN_INDICES:
		add_number(draft, draw_pfn(draft));
		if (one_in(random, 2))
			return;
		add_space(draft);
		add_number(draft, one_in(random, 2) ? 0 : below(random, 100));
		add_space(draft);
		return add_number(draft, one_in(random, 2) ? ~0UL : below(random, 100));
	case PID_COUNT_SEED:
		add_number(draft, draw_pid(draft));
		add_space(draft);
		add_number(draft, one_in(random, 8) ? 65535 + below(random, 3) : below(random, one_in(random, 4) ? 40 : 6));
		add_space(draft);
		return add_number(draft, next(random));
	case RANGE:
		if (one_in(random, 3))
			return add_line(draft);
		add_number(draft, draw_pid(draft));
		add_space(draft);
		add_number(draft, start);
		if (one_in(random, 2))
			add_space(draft);
		else
			add_text(draft, "-");
		return add_number(draft, end);
	case LIST:
		/* Of one process, or of several. */
		for (int lines = 1 + below(random, one_in(random, 3) ? 8 : 2); lines--;) {
			if (one_in(random, 4))
				draft->target = actor_of(below(random, NR_ACTORS));
			add_line(draft);
		}
		return;
	default:
		return add_number(draft, draw_pfn(draft));
	}
}

/* Some bytes are changed, added or taken away. */
static void spoil(struct draft *draft)
{
	static const char likely[] = "0123456789abfx-= \n\t\r\f\v,.\xff";
	struct random *random = draft->random;

	for (int edits = 1 + below(random, 3); edits--;) {
		size_t at = below(random, draft->size + 1);
		char byte = one_in(random, 2) ? below(random, 256) : likely[below(random, sizeof(likely))];

		switch (below(random, 3)) {
		case 0:
			memmove(draft->text + at + 1, draft->text + at, draft->size - at);
			draft->text[at] = byte;
			draft->size++;
			break;
		case 1:
			if (at == draft->size)
				break;
			draft->size--;
			memmove(draft->text + at, draft->text + at + 1, draft->size - at);
			break;
		default:
			draft->text[at] = byte;
			draft->size += at == draft->size;
		}
	}
}

/* Makes the text about as long as one may be, and still what it was. */
static void lengthen(struct draft *draft, enum form form)
{
	size_t size = most_bytes(form) - 2 + below(draft->random, 5), added = size - draft->size;
	bool is_list = form == LIST;

	/* Lists are long to read: seldom. */
	if (draft->size >= size || (is_list && !one_in(draft->random, 4)))
		return;
	memmove(draft->text + (is_list ? added : 0), draft->text, draft->size);
	memset(draft->text + (is_list ? 0 : draft->size), is_list ? 'x' : ' ', added);
	if (is_list)
		draft->text[added - 1] = ' ';
	draft->size = size;
}

static void add_garbage(struct draft *draft)
{
	struct random *random = draft->random;

	if (one_in(random, 2)) {
		for (int size = below(random, 300); size--;)
			add(draft, &(char){ next(random) }, 1);
		return;
	}
	for (int words = below(random, 6); words--;) {
		add_number(draft, draw_pid(draft));
		add_space(draft);
	}
}

static void insert(struct draft *draft, size_t at, const char *text)
{
	size_t size = strlen(text);

	if (draft->size + size > TEXT_SIZE)
		return;
	memmove(draft->text + at + size, draft->text + at, draft->size - at);
	memcpy(draft->text + at, text, size);
	draft->size += size;
}

/* Puts a word behind all, or somewhere: by itself most of the time. */
static void put_word(struct draft *draft, const char *word)
{
	struct random *random = draft->random;
	bool is_apart = !one_in(random, 24);
	size_t at = below(random, draft->size + 1);

	/* Within a line a word is one of many. */
	if (!one_in(random, memchr(draft->text, '=', draft->size) ? 2 : 8)) {
		if (is_apart)
			add_space(draft);
		return add_text(draft, "%s", word);
	}
	while (is_apart && at && at < draft->size && !is_space(draft->text[at]))
		at++;
	insert(draft, at, word);
	if (is_apart)
		insert(draft, at ? at : strlen(word), " ");
}

/* The words that some files take, or what could be taken for one; seldom twice, or where they are none. */
static void add_words(struct draft *draft, const struct file *file)
{
	static const char *const words[] = {
		"touched", "touched", "touched", "keep", "keep", "keep", "touch", "Touched", "keeper", "KEEP", "kept", "kee",
		"keep=1", "kind=kept", "keep,touched", "touchedkeep", "keep-", "-keep", "0xkeep",
	};
	struct random *random = draft->random;
	int count = one_in(random, file->words ? 3 : 12) ? 1 + one_in(random, 8) : 0;

	while (count--) {
		bool is_known = file->words && !one_in(random, 6);
		bool is_keep = !(file->words & TOUCHED) || one_in(random, 2);

		put_word(draft, !is_known ? ONE_OF(random, words) : is_keep ? "keep" : "touched");
	}
}

/* A text for a file, which is about the target's memory if it is about any. */
static void make_text(struct draft *draft, const struct file *file)
{
	struct random *random = draft->random;
	enum form form = file->form;

	draft->size = 0;
	switch (below(random, 16)) {
	case 0:
		add_garbage(draft);
		break;
	case 1:
		add_form(draft, PFN + below(random, LIST));
		break;
	default:
		/* White space in front and behind is none of a list's. */
		if (form != LIST)
			add_space_or_nothing(draft);
		add_form(draft, form);
		/* One too many. */
		if (one_in(random, 40)) {
			add_space(draft);
			add_number(draft, draw_address(draft));
		}
		add_words(draft, file);
		if (form != LIST && form != RANGE)
			add_space_or_nothing(draft);
	}
	if (one_in(random, 12))
		spoil(draft);
	if (one_in(random, 20))
		lengthen(draft, form);
}

#endif
