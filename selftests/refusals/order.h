/* SPDX-License-Identifier: GPL-2.0-only */
/* What is written, by whom, and how. */
#ifndef REFUSALS_ORDER_H
#define REFUSALS_ORDER_H

#include "world.h"
#include <sys/ioctl.h>
#include <sys/sendfile.h>

/* What a file takes. */
enum form { NOTHING, PFN, PID_ADDRESS, PID_OR_PFN, PFN_INDICES, PID_COUNT_SEED, RANGE, LIST };

/* The last word of a text, if it is no number. */
enum { TOUCHED = 1, KEEP = 2 };

static const struct file {
	const char *name;
	enum form form;
	/* Those that it takes. */
	int words;
	bool is_read;
} files[] = {
	{ "poison_addr", PID_ADDRESS, TOUCHED | KEEP, false },
	{ "poison_pfn", PFN, KEEP, false },
	{ "poison_range", RANGE, KEEP, false },
	{ "poison_random", PID_COUNT_SEED, 0, true },
	{ "replay", LIST, 0, false },
	{ "hard_offline", PFN, 0, false },
	{ "soft_offline", PFN, 0, false },
	{ "unpoison_pfn", PFN, 0, false },
	{ "dry_run", PID_OR_PFN, 0, true },
	{ "rmap", PFN_INDICES, 0, true },
	{ "mappings", NOTHING, 0, true },
	{ "poisoned", NOTHING, 0, true },
	{ "events", NOTHING, 0, true },
	{ "quarantine", NOTHING, 0, true },
	{ "stats", NOTHING, 0, true },
	{ "verify", NOTHING, 0, true },
};

enum file_number {
	POISON_ADDR, POISON_PFN, POISON_RANGE, POISON_RANDOM, REPLAY, HARD_OFFLINE, SOFT_OFFLINE, UNPOISON_PFN, DRY_RUN, RMAP,
	NR_COMMANDS,
	MAPPINGS = NR_COMMANDS, POISONED, EVENTS, QUARANTINE, STATS, VERIFY,
	NR_FILES
};

static const int ways_to_open[] = { O_WRONLY, O_WRONLY | O_APPEND, O_RDWR, O_RDWR | O_APPEND, O_RDONLY };

#define NR_WAYS (sizeof(ways_to_open) / sizeof(*ways_to_open))

static int descriptors[NR_FILES][NR_WAYS];

/* The capabilities with which something is done. */
enum power { ALL, ONLY_ADMIN, ALL_BUT_ADMIN, POWERLESS, NR_POWERS };

static const char *const power_names[] = {
	"all capabilities", "CAP_SYS_ADMIN only", "all capabilities but CAP_SYS_ADMIN", "no capabilities",
};

enum method { WRITE, WRITEV, PWRITE, PWRITEV, SPLICE, SENDFILE, READ, NR_METHODS };

static const char *const method_names[] = { "write", "writev", "pwrite", "pwritev", "splice", "sendfile", "read" };

/* Where a piece of a text is. */
enum where {
	AS_IT_IS,
	/* At the end of a page of the device. */
	IN_DEVICE_MEMORY,
	/* The rest can't be read, not all of it. */
	UNMAPPED,
	FORBIDDEN,
	BEYOND_THE_END,
	IN_A_FAILED_PAGE,
	IN_THE_KERNEL,
	NR_WHERE
};

static const char *const where_names[] = {
	"as it is", "at the end of a page of the device", "not mapped", "PROT_NONE", "half of it beyond what is mapped",
	"in a page that has failed", "in the kernel's memory",
};

#define MAX_PIECES 20

struct piece {
	enum where where;
	size_t size;
};

/* Shared by all. */
static struct order {
	enum file_number file;
	enum method method;
	enum who who;
	/* It opens the file itself, or has inherited a descriptor of the tester's. */
	bool opens;
	int way;
	enum power power_to_open, power;
	/* Where the descriptor is before, and where pwrite() is told to write. */
	off_t position;
	/* In TEXT: its beginning, or so that what is behind it is not mapped. */
	char *text;
	size_t size;
	int nr_pieces;
	struct piece pieces[MAX_PIECES];
	/* A page of the writer's for IN_DEVICE_MEMORY, and IN_A_FAILED_PAGE. */
	char *page, *failed_page;

	/* What came of it. */
	ssize_t result;
	int error;
	/* What was to be spliced is not there any more. */
	bool is_consumed;
} *order;

static bool is_writable(int way)
{
	return (ways_to_open[way] & O_ACCMODE) != O_RDONLY;
}

static bool is_readable(int way)
{
	return (ways_to_open[way] & O_ACCMODE) != O_WRONLY;
}

static int open_file(enum file_number file, int way)
{
	char path[64];

	snprintf(path, sizeof(path), DEBUGFS "%s", files[file].name);
	return open(path, ways_to_open[way] | O_CLOEXEC);
}

/* What a file says to this process, to be freed. */
static char *read_list(enum file_number file)
{
	static int fds[NR_FILES];
	size_t size = 0, room = 1 << 12;
	char *text = malloc(room + 1);
	ssize_t got;

	if (!fds[file])
		fds[file] = open_file(file, NR_WAYS - 1);
	lseek(fds[file], 0, SEEK_SET);
	while ((got = read(fds[file], text + size, room - size)) > 0) {
		size += got;
		if (size == room)
			text = realloc(text, (room *= 2) + 1);
	}
	text[size] = '\0';
	return text;
}

static void set_power(enum power power)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	syscall(SYS_capget, &header, data);
	data[0].effective = power == ALL || power == ALL_BUT_ADMIN ? data[0].permitted : 0;
	data[1].effective = power == ALL || power == ALL_BUT_ADMIN ? data[1].permitted : 0;
	if (power == ONLY_ADMIN)
		data[0].effective = data[0].permitted & 1U << CAP_SYS_ADMIN;
	if (power == ALL_BUT_ADMIN)
		data[0].effective &= ~(1U << CAP_SYS_ADMIN);
	syscall(SYS_capset, &header, data);
}

/* Puts a piece where it is to be; returns that. */
static char *lay(const struct piece *piece, char *text)
{
	switch (piece->where) {
	case AS_IT_IS:
		return text;
	case IN_DEVICE_MEMORY:
		return memcpy(order->page + PAGE - piece->size, text, piece->size);
	case UNMAPPED:
		return (char *)TEXT_END;
	case FORBIDDEN:
		return (char *)PROTECTED;
	case BEYOND_THE_END:
		return (char *)TEXT_END - piece->size / 2;
	case IN_A_FAILED_PAGE:
		return order->failed_page;
	default:
		return (char *)0xffff888000000000;
	}
}

/* What is not written, but moved by the kernel: from a pipe, or from a file. */
static ssize_t transfer(int fd)
{
	int ends[2], left = -1;
	size_t size = order->size < 1024 ? order->size : 1024;
	off_t start = 0;
	ssize_t result;

	if (order->method == SPLICE) {
		if (pipe2(ends, O_CLOEXEC) || write(ends[1], order->text, size) != (ssize_t)size)
			abort();
		result = splice(ends[0], NULL, fd, NULL, size, 0);
	} else {
		ends[0] = memfd_create("refusals", MFD_CLOEXEC);
		ends[1] = -1;
		if (write(ends[0], order->text, size) != (ssize_t)size)
			abort();
		result = sendfile(fd, ends[0], &start, size);
	}
	order->error = errno;
	order->is_consumed = start || (order->method == SPLICE && (ioctl(ends[0], FIONREAD, &left) || left != (int)size));
	close(ends[0]);
	close(ends[1]);
	return result;
}

static ssize_t act(int fd)
{
	struct iovec pieces[MAX_PIECES];
	char *text = order->text, byte[256];

	for (int i = 0; i < order->nr_pieces; i++) {
		pieces[i] = (struct iovec){ lay(&order->pieces[i], text), order->pieces[i].size };
		text += order->pieces[i].size;
	}
	switch (order->method) {
	case WRITE:
		return syscall(SYS_write, fd, pieces->iov_base, pieces->iov_len);
	case PWRITE:
		return syscall(SYS_pwrite64, fd, pieces->iov_base, pieces->iov_len, order->position);
	case WRITEV:
		return syscall(SYS_writev, fd, pieces, order->nr_pieces);
	case PWRITEV:
		return syscall(SYS_pwritev, fd, pieces, order->nr_pieces, order->position, order->position >> 32);
	case READ:
		return read(fd, byte, sizeof(byte));
	default:
		return 0;
	}
}

/* Does what the order says. To be called by who is ordered. */
static long perform(void *unused, long unused_too)
{
	int fd;

	(void)unused;
	(void)unused_too;
	set_power(order->power_to_open);
	fd = order->opens ? open_file(order->file, order->way) : descriptors[order->file][order->way];
	order->error = errno;
	order->is_consumed = false;
	order->result = -1;
	if (fd >= 0) {
		lseek(fd, order->method == READ ? 0 : order->position, SEEK_SET);
		set_power(order->power);
		if (order->method == SPLICE || order->method == SENDFILE) {
			order->result = transfer(fd);
		} else {
			order->result = act(fd);
			order->error = errno;
		}
		if (order->result >= 0)
			order->error = 0;
	}
	set_power(ALL);
	if (fd >= 0 && order->opens)
		close(fd);
	return 0;
}

#endif
