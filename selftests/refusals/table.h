/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What has to come of an order: the list of errors in rust/debugfs.md, from its first to its last, and what
 * is said there of each file. Nothing here knows how the driver does it.
 */
#ifndef REFUSALS_TABLE_H
#define REFUSALS_TABLE_H

#include "order.h"

#define MOST_BYTES 128
#define MOST_BYTES_OF_A_RANGE 256
#define MOST_BYTES_OF_A_LIST (1UL << 20)
#define MAX_WORDS 32
/* No shorter line names a page. */
#define MAX_NAMES (MOST_BYTES_OF_A_LIST / sizeof("pid=1 address=1"))

/* A part of a text. */
struct part {
	const char *start;
	size_t size;
};

/* The page of a process at an address, and how it is to fail. */
struct name {
	uint64_t pid, address;
	enum health state;
};

/* A text that is what the file takes. */
struct command {
	/* A page frame, or a process; and what is behind it. */
	uint64_t numbers[3];
	int nr_numbers;
	/* The word behind them; KEEP, too, if a line of a list says so. */
	int word;
	/* Of a list. */
	struct name *names;
	size_t nr_names;
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

/* Whether bytes are UTF-8: nothing in more bytes than it needs, no surrogate, nothing above 0x10ffff. */
static bool is_utf8(struct part text)
{
	const unsigned char *bytes = (const unsigned char *)text.start;

	for (size_t i = 0, more; i < text.size; i += 1 + more) {
		uint32_t byte = bytes[i], code;

		more = byte < 0x80 ? 0 : byte < 0xc0 ? 4 : byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : byte < 0xf8 ? 3 : 4;
		if (more == 4 || i + more >= text.size)
			return false;
		code = more ? byte & (0x3f >> more) : byte;
		for (size_t j = 1; j <= more; j++) {
			if ((bytes[i + j] & 0xc0) != 0x80)
				return false;
			code = code << 6 | (bytes[i + j] & 0x3f);
		}
		if ((more == 1 && code < 0x80) || (more == 2 && code < 0x800) || (more == 3 && code < 0x10000) ||
		    code > 0x10ffff || code >> 11 == 0xd800 >> 11)
			return false;
	}
	return true;
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

/* EINVAL or ERANGE if one of the numbers is none, or has more than 64 bits. */
static int read_numbers(const struct part *parts, int count, uint64_t *values)
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

static bool is_word(struct part part, const char *word)
{
	return part.size == strlen(word) && !memcmp(part.start, word, part.size);
}

/* Takes the last word away if it is one of @words; returns it, 0 if it is not. */
static int take_word(const struct part *parts, int *count, int words)
{
	int word = *count < 2 ? 0 : is_word(parts[*count - 1], "touched") ? TOUCHED :
				    is_word(parts[*count - 1], "keep")	  ? KEEP :
									    0;

	word &= words;
	*count -= !!word;
	return word;
}

static int check_pid(uint64_t pid)
{
	return pid > INT32_MAX ? ERANGE : 0;
}

static int read_lines(struct part text, struct command *command)
{
	static struct name names[MAX_NAMES];
	int error = 0;

	command->names = names;
	if (!text.size || text.start[text.size - 1] != '\n')
		return EINVAL;
	for (const char *line = text.start, *end; line < text.start + text.size; line = end + 1) {
		struct part values[2], whole, kind;
		enum health state = BY_DRILL;
		uint64_t numbers[2];
		int its;

		end = memchr(line, '\n', text.start + text.size - line);
		whole = (struct part){ line, end - line };
		if (!find(whole, "pid=", &values[0]) || !find(whole, "address=", &values[1]))
			return EINVAL;
		its = read_numbers(values, 2, numbers) ?: check_pid(numbers[0]);
		if (its == EINVAL)
			return EINVAL;
		error = error ?: its;
		if (find(whole, "kind=", &kind) && is_word(kind, "kept")) {
			state = KEPT;
			command->word = KEEP;
		}
		if (!its)
			names[command->nr_names++] = (struct name){ numbers[0], numbers[1], state };
	}
	return error;
}

static int read_range(struct part text, const struct part *words, int count, int taken, struct command *command)
{
	uint64_t *values = command->numbers;
	struct part parts[3];
	int error;

	if (memchr(text.start, '=', text.size)) {
		struct part range;

		/* One line, with its end. */
		if (memchr(text.start, '\n', text.size) != text.start + text.size - 1 ||
		    !find(text, "pid=", &parts[0]) || !find(text, "range=", &range) ||
		    !split_at_dash(range, parts + 1))
			return EINVAL;
	} else {
		command->word = take_word(words, &count, taken);
		parts[0] = words[0];
		if (count == 3)
			memcpy(parts, words, sizeof(parts));
		else if (count != 2 || !split_at_dash(words[1], parts + 1))
			return EINVAL;
	}
	error = read_numbers(parts, 3, values);
	if (error)
		return error;
	return values[1] >= values[2] ? EINVAL : check_pid(values[0]);
}

/* The errors of a text by itself. */
static int read_text(const struct file *file, struct part text, struct command *command)
{
	enum form form = file->form;
	struct part words[MAX_WORDS] = {};
	uint64_t *values = command->numbers;
	int count, error;

	*command = (struct command){};
	if (!is_utf8(text))
		return EINVAL;
	if (form == LIST)
		return read_lines(text, command);
	count = split(text, words);
	if (form == RANGE)
		return read_range(text, words, count, file->words, command);
	command->word = take_word(words, &count, file->words);
	if (form == PFN ? count != 1 : form == PID_ADDRESS ? count != 2 : form == PID_OR_PFN ? count != 1 && count != 2 :
	    form == PFN_INDICES ? count != 1 && count != 3 : count != 3)
		return EINVAL;
	command->nr_numbers = count;
	error = read_numbers(words, count, values);
	if (error)
		return error;
	if (form == PFN_INDICES && count == 3 && values[2] < values[1])
		return EINVAL;
	if (form == PID_COUNT_SEED && !values[1])
		return EINVAL;
	return form == PID_ADDRESS || form == PID_COUNT_SEED || (form == PID_OR_PFN && count == 2) ? check_pid(values[0]) : 0;
}

/* What an order does that is not refused. */
enum effect {
	/* Nothing was read, or nothing was said. */
	NO_EFFECT,
	FAILS,
	FAILS_IN_ADVANCE,
	/* As many of the pages as are asked for. */
	FAILS_BY_CHANCE,
	FAILS_FOR_GOOD,
	MOVES,
	IS_GOOD_AGAIN,
	/* A frame that was out of use. */
	IS_GIVEN_BACK,
	/* Who has the page is listed. */
	IS_ANSWERED,
};

struct verdict {
	enum effect effect;
	/* As that of the command. */
	int word;
	/* The pages that it is about, and how they are to fail; how many of them there are, and the last one. */
	enum health pages[MAX_FRAMES];
	int nr_pages, page;
	/* How many of them fail by chance. */
	uint64_t count;
	/* Where a page fails in advance. */
	const struct actor *actor;
	int place;
	/* The frame that is given back. */
	struct aside *aside;
};

static void add_page(struct verdict *verdict, int page, enum health state)
{
	verdict->page = page;
	/* Of what is named twice, the second finds that it has failed. */
	if (verdict->pages[page])
		return;
	verdict->pages[page] = state;
	verdict->nr_pages++;
}

/* How what a command names is to fail. */
static enum health state_by(const struct command *command)
{
	return command->word == KEEP ? KEPT : BY_DRILL;
}

/* The process that a number means in a namespace, if it has memory; else 0. *@actor is NULL if it is none of the world's. */
static pid_t find_process(enum namespace namespace, uint64_t number, const struct actor **actor)
{
	char path[40];

	*actor = NULL;
	if (!number)
		return 0;
	for (int i = 0; i < NR_ACTORS; i++)
		for (int id = 0; id < NR_IDS; id++)
			if (number == (uint64_t)actor_of(i)->ids[namespace][id]) {
				*actor = actor_of(i);
				return task_of(*actor);
			}
	/* The namespace has nobody else. */
	if (namespace == INNER)
		return 0;
	snprintf(path, sizeof(path), "/proc/%lu/status", number);
	return number_in(path, "VmSize:") >= 0 ? (pid_t)number : 0;
}

/* Whether anything is mapped at an address of a process. */
static bool is_mapped(pid_t task, uintptr_t address)
{
	char path[40], *text, *rest, *line;
	bool found = false;

	snprintf(path, sizeof(path), "/proc/%d/maps", task);
	text = rest = read_file(path);
	while (text && !found && (line = strsep(&rest, "\n")) && *line) {
		uintptr_t start, end;

		found = sscanf(line, "%lx-%lx", &start, &end) == 2 && address >= start && address < end;
	}
	free(text);
	return found;
}

/*
 * Finds the page of a process at an address; the errors of a page that can't be found. *@place is where it would be.
 */
static int find_page(enum namespace namespace, struct name name, const struct actor **actor, int *place)
{
	pid_t task = find_process(namespace, name.pid, actor);

	if (!task)
		return ESRCH;
	if (name.address >= USER_END)
		return EFAULT;
	*place = *actor ? place_at(*actor, name.address) : NONE;
	if (*place == NONE)
		return is_mapped(task, name.address) ? ENXIO : EFAULT;
	return (*actor)->places[*place].frame == NONE ? ENODATA : 0;
}

static bool is_good(int page)
{
	return world->frames[page].state == GOOD;
}

/* The errors of pages that are to fail: they have failed. */
static int fail(struct verdict *verdict, enum effect effect)
{
	bool is_any_good = false;

	verdict->effect = effect;
	for (int i = 0; i < world->nr_frames; i++)
		is_any_good |= verdict->pages[i] && is_good(i);
	return is_any_good ? 0 : EHWPOISON;
}

static int cause_of_addr(enum namespace namespace, const struct command *command, struct verdict *verdict)
{
	struct name name = { command->numbers[0], command->numbers[1], state_by(command) };
	int error = find_page(namespace, name, &verdict->actor, &verdict->place);

	if (error == ENODATA && !command->word && (!is_grown_place(verdict->place) || verdict->actor->has_settled)) {
		verdict->effect = FAILS_IN_ADVANCE;
		return 0;
	}
	if (error)
		return error;
	add_page(verdict, verdict->actor->places[verdict->place].frame, name.state);
	return fail(verdict, FAILS);
}

/* Adds the pages of a process at addresses from @start up to @end. Returns whether anything of the device is mapped there. */
static bool add_pages(const struct actor *actor, uint64_t start, uint64_t end, enum health state, struct verdict *verdict)
{
	bool is_mapped = false;

	for (int i = 0; actor && i < PLACES; i++) {
		uint64_t address = address_of(actor, i);

		if (!actor->places[i].is_mapped || address >= end || address + PAGE <= start)
			continue;
		is_mapped = true;
		if (actor->places[i].frame != NONE)
			add_page(verdict, actor->places[i].frame, state);
	}
	return is_mapped;
}

static int cause_of_range(enum namespace namespace, const struct command *command, struct verdict *verdict)
{
	if (!find_process(namespace, command->numbers[0], &verdict->actor))
		return ESRCH;
	if (!add_pages(verdict->actor, command->numbers[1], command->numbers[2], state_by(command), verdict))
		return ENXIO;
	return verdict->nr_pages ? fail(verdict, FAILS) : ENODATA;
}

static int cause_of_random(enum namespace namespace, const struct command *command, struct verdict *verdict)
{
	uint64_t good = 0;
	int error;

	if (!find_process(namespace, command->numbers[0], &verdict->actor))
		return ESRCH;
	/* All that it has. */
	if (!add_pages(verdict->actor, 0, ~0UL, BY_DRILL, verdict))
		return ENXIO;
	if (!verdict->nr_pages)
		return ENODATA;
	error = fail(verdict, FAILS_BY_CHANCE);
	if (error)
		return error;
	for (int i = 0; i < world->nr_frames; i++)
		good += verdict->pages[i] && is_good(i);
	verdict->count = command->numbers[1];
	return good < verdict->count ? ENODATA : 0;
}

static int cause_of_list(enum namespace namespace, const struct command *command, struct verdict *verdict)
{
	for (size_t i = 0; i < command->nr_names; i++) {
		int error = i && !memcmp(&command->names[i], &command->names[i - 1], sizeof(*command->names)) ? 0 :
			    find_page(namespace, command->names[i], &verdict->actor, &verdict->place);

		if (error)
			return error;
		add_page(verdict, verdict->actor->places[verdict->place].frame, command->names[i].state);
	}
	return fail(verdict, FAILS);
}

/* Of an order that names a frame. */
static int cause_of_frame(enum file_number file, uint64_t pfn, enum health state, bool can_soft_offline,
			  struct verdict *verdict)
{
	int page = frame_of_pfn(pfn);
	struct frame *frame = page == NONE ? NULL : &world->frames[page];
	struct aside *aside = find_aside(pfn);

	/* A frame that is out of use has nothing in it. */
	if (!frame && !(aside && file == UNPOISON_PFN))
		return ENXIO;
	if (frame)
		add_page(verdict, page, state);
	switch (file) {
	case HARD_OFFLINE:
		verdict->effect = FAILS_FOR_GOOD;
		return frame->state == BY_HARDWARE ? EHWPOISON : 0;
	case SOFT_OFFLINE:
		verdict->effect = MOVES;
		return !can_soft_offline ? EOPNOTSUPP : frame->state != GOOD ? EHWPOISON : frame->is_pinned ? EBUSY : 0;
	case UNPOISON_PFN:
		verdict->effect = frame ? IS_GOOD_AGAIN : IS_GIVEN_BACK;
		verdict->aside = aside;
		if (frame && frame->state == GOOD)
			return ENOENT;
		return frame ? (frame->state == BY_HARDWARE ? EPERM : 0) : aside->is_hardware ? EPERM : 0;
	case RMAP:
		verdict->effect = IS_ANSWERED;
		return 0;
	default:
		return fail(verdict, file == DRY_RUN ? IS_ANSWERED : FAILS);
	}
}

/* Whether who is ordered has CAP_SYS_ADMIN in the initial user namespace. */
static bool is_admin(enum power power)
{
	return (power == ALL || power == ONLY_ADMIN) && !actor_of(order->who)->is_foreign;
}

/* The permissions of the file are those of a file of root's. */
static int cause_at_open(void)
{
	bool overrides = (order->power_to_open == ALL || order->power_to_open == ALL_BUT_ADMIN) &&
			 !actor_of(order->who)->is_foreign;
	const struct file *file = &files[order->file];

	if (!order->opens)
		return 0;
	if (!overrides && (order->who == NOBODY || (is_writable(order->way) && file->form == NOTHING) ||
			   (is_readable(order->way) && !file->is_read)))
		return EACCES;
	return is_readable(order->way) && file->is_read && !is_admin(order->power_to_open) ? EPERM : 0;
}

static bool is_in(enum where where, bool even_if_empty)
{
	for (int i = 0; i < order->nr_pieces; i++)
		if (order->pieces[i].where == where && (order->pieces[i].size || even_if_empty))
			return true;
	return false;
}

static bool is_unreadable(void)
{
	return is_in(UNMAPPED, false) || is_in(FORBIDDEN, false) || is_in(BEYOND_THE_END, false) ||
	       is_in(IN_A_FAILED_PAGE, false);
}

static size_t most_bytes(enum form form)
{
	return form == LIST ? MOST_BYTES_OF_A_LIST : form == RANGE ? MOST_BYTES_OF_A_RANGE : MOST_BYTES;
}

/* The cause that the order is refused for, 0 if it is not; then *@verdict says what it does. */
static int first_cause(bool can_soft_offline, struct verdict *verdict)
{
	enum form form = files[order->file].form;
	enum namespace namespace = actor_of(order->who)->is_inner ? INNER : OUTER;
	struct command command;
	int error = cause_at_open();

	*verdict = (struct verdict){};
	if (error)
		return error;
	if (order->method == READ)
		return !is_readable(order->way) ? EBADF : !files[order->file].is_read ? EINVAL :
		       !is_admin(order->power) ? EPERM : 0;
	if (order->method == PWRITE || order->method == PWRITEV)
		return ESPIPE;
	if (!is_writable(order->way))
		return EBADF;
	if (form == NOTHING || order->method == SPLICE || order->method == SENDFILE)
		return EINVAL;
	if (is_in(IN_THE_KERNEL, true))
		return EFAULT;
	if (order->method == WRITEV && !order->size)
		return 0;
	if (!is_admin(order->power))
		return EPERM;
	if (order->size > most_bytes(form))
		return form == LIST ? E2BIG : EINVAL;
	if (is_unreadable())
		return EFAULT;
	error = read_text(&files[order->file], (struct part){ order->text, order->size }, &command);
	if (error)
		return error;
	verdict->word = command.word;
	switch (form) {
	case PID_ADDRESS:
		return cause_of_addr(namespace, &command, verdict);
	case RANGE:
		return cause_of_range(namespace, &command, verdict);
	case PID_COUNT_SEED:
		return cause_of_random(namespace, &command, verdict);
	case LIST:
		return cause_of_list(namespace, &command, verdict);
	case PID_OR_PFN:
		if (command.nr_numbers == 2) {
			error = find_page(namespace, (struct name){ command.numbers[0], command.numbers[1], GOOD },
					  &verdict->actor, &verdict->place);
			if (error)
				return error;
			add_page(verdict, verdict->actor->places[verdict->place].frame, BY_DRILL);
			return fail(verdict, IS_ANSWERED);
		}
		/* fallthrough */
	default:
		return cause_of_frame(order->file, command.numbers[0], state_by(&command), can_soft_offline, verdict);
	}
}

#endif
