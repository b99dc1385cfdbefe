/* SPDX-License-Identifier: GPL-2.0-only */
/* Accesses to a word, by the process itself and by the kernel for it, and what may come of them. */
#ifndef TORTURE_ACCESS_H
#define TORTURE_ACCESS_H

#include "arena.h"
#include <sys/uio.h>

/* Who accesses: the process, or a system call. */
enum mode { USER, PIPE, PROCESS_VM, PROC_MEM, VMSPLICE, NR_MODES };

static const char *const mode_names[] = { "user", "pipe", "process_vm", "/proc/self/mem", "vmsplice" };

/* With those that are always the process's own, half of all accesses are the kernel's. */
static inline enum mode random_mode(struct random *random)
{
	return one_in(random, 3) ? USER : PIPE + below(random, NR_MODES - PIPE);
}

static inline uint64_t *word_at(enum arena arena, unsigned int page, unsigned int word)
{
	return (uint64_t *)at(arena, page) + word;
}

/*
 * What an access has come to: 0, EFAULT if there is nothing that could be accessed so, EHWPOISON. A refusal that is not
 * explained by that is a failure of the test.
 */
static inline int judge_signal(const struct access *access, const void *address)
{
	if (!access->signal)
		return 0;
	count(&world->refused);
	if (access->signal == SIGSEGV)
		return EFAULT;
	if (!atomic_load(&world->failing))
		fail("%p: SIGBUS code %d, but no page has failed", address, access->code);
	else if (access->code != BUS_MCEERR_AR || access->address != address || access->lsb != PAGE_SHIFT)
		fail("%p: SIGBUS code %d address %p lsb %d", address, access->code, access->address, access->lsb);
	return EHWPOISON;
}

static inline int judge_error(ssize_t size, enum mode mode, const void *address)
{
	int error = size < 0 ? errno : 0;

	if (size == sizeof(uint64_t))
		return 0;
	count(&world->refused);
	if (size >= 0)
		fail("%p: %s: %zd bytes of a word", address, mode_names[mode], size);
	else if (error != EFAULT && !(error == EIO && mode == PROC_MEM))
		fail("%p: %s: %s", address, mode_names[mode], strerror(error));
	return EFAULT;
}

static inline int get_word(struct actor *actor, const uint64_t *address, enum mode mode, uint64_t *value)
{
	struct iovec local = { value, sizeof(*value) }, remote = { (void *)address, sizeof(*value) };
	struct access access;
	ssize_t size;

	count(mode == USER ? &world->user : &world->kernel);
	switch (mode) {
	case USER:
		access = load(address);
		*value = access.value;
		return judge_signal(&access, address);
	case PROCESS_VM:
		return judge_error(process_vm_readv(getpid(), &local, 1, &remote, 1, 0), mode, address);
	case PROC_MEM:
		return judge_error(pread(mem_fd, value, sizeof(*value), (off_t)address), mode, address);
	case VMSPLICE:
		size = vmsplice(actor->pipe[1], &remote, 1, 0);
		break;
	default:
		size = write(actor->pipe[1], address, sizeof(*value));
	}
	if (size == sizeof(*value) && read(actor->pipe[0], value, sizeof(*value)) != sizeof(*value))
		fail("pipe: %s", strerror(errno));
	return judge_error(size, mode, address);
}

static inline int put_word(struct actor *actor, uint64_t *address, enum mode mode, uint64_t value)
{
	struct iovec local = { &value, sizeof(value) }, remote = { address, sizeof(value) };
	struct access access;
	ssize_t size;
	int error;

	count(mode == USER ? &world->user : &world->kernel);
	switch (mode) {
	case USER:
		access = store(address, value);
		return judge_signal(&access, address);
	case PROC_MEM:
		return judge_error(pwrite(mem_fd, &value, sizeof(value), (off_t)address), mode, address);
	case PIPE:
		if (write(actor->pipe[1], &value, sizeof(value)) != sizeof(value))
			fail("pipe: %s", strerror(errno));
		size = read(actor->pipe[0], address, sizeof(value));
		error = judge_error(size, mode, address);
		if (error && read(actor->pipe[0], &value, sizeof(value)) != sizeof(value))
			fail("pipe: %s", strerror(errno));
		return error;
	default:
		return judge_error(process_vm_writev(getpid(), &local, 1, &remote, 1, 0), PROCESS_VM, address);
	}
}

static inline void fail_word(const char *what, enum arena arena, unsigned int page, unsigned int word, enum mode mode,
			     uint64_t value)
{
	struct mark mark = mark_of(value);

	fail("process %d, %s, page %u word %u, by %s: %s: %#lx (tag %u word %u column %u process %u version %u of %u)",
	     getpid(), arena == SHARED ? "shared" : "private", page, word, mode_names[mode], what, value, mark.tag,
	     mark.word, mark.column, mark.number, mark.version, atomic_load(&world->version));
}

/* Reads any word and says whether it can be there. */
static inline void read_word(struct actor *actor, enum arena arena, unsigned int page, unsigned int word, enum mode mode)
{
	uint64_t value;

	if (!get_word(actor, word_at(arena, page, word), mode, &value) &&
	    !may_be_at(value, arena, page, word, false))
		fail_word("was never written there", arena, page, word, mode, value);
}

/*
 * Whether a word has been lost. A shared mapping that has grown can have a page that is also elsewhere, and that this thread
 * has written there since.
 */
static inline bool is_lost(uint64_t value, const struct memory *memory, enum arena arena, unsigned int page)
{
	if (value == memory->value)
		return false;
	return arena == PRIVATE || !may_be_at(value, arena, page, memory->word, false) ||
	       mark_of(value).version < mark_of(memory->value).version;
}

/* Reads a word that this thread knows. */
static inline void recall(struct actor *actor, enum arena arena, unsigned int page, enum mode mode)
{
	struct memory memory = *memory_of(actor, arena, page);
	atomic_uint *begun = &changes[arena][page].begun;
	uint64_t value;

	if (!memory.known || memory.begun != atomic_load(begun) ||
	    get_word(actor, word_at(arena, page, memory.word), mode, &value) || memory.begun != atomic_load(begun))
		return;
	count(&world->recalled);
	if (is_lost(value, &memory, arena, page)) {
		char what[128];

		snprintf(what, sizeof(what), "lost by slot %u thread %u depth %u process %u: since %s it was %#lx",
			 actor->slot, actor->thread, actor->depth, actor->number, memory.since ?: "a fork", memory.value);
		fail_word(what, arena, page, memory.word, mode, value);
	}
}

/* Writes this thread's word, and remembers it. */
static inline void write_word(struct actor *actor, enum arena arena, unsigned int page, enum mode mode)
{
	struct changes *place = &changes[arena][page];
	unsigned int ended = atomic_load(&place->ended), begun = atomic_load(&place->begun), word = own_word(actor);
	uint64_t value = mark_value((struct mark){
		.tag = arena == SHARED ? SHARED_TAG : PRIVATE_TAG,
		.word = word,
		.column = page % LANE,
		.number = actor->number,
		.version = atomic_fetch_add(&world->version, 1) + 1,
	});

	if (put_word(actor, word_at(arena, page, word), mode, value))
		return;
	if (ended == begun && begun == atomic_load(&place->begun))
		remember(actor, arena, page, word, value, begun);
}

/* Reads all of a page; whether it could be read. */
static inline bool read_page(enum arena arena, unsigned int page, uint64_t *words)
{
	struct access access = {};

	ATTEMPT(access, memcpy(words, at(arena, page), PAGE));
	/* It may have read any word of it first. */
	if (access.signal == SIGBUS && (uintptr_t)access.address >> PAGE_SHIFT == (uintptr_t)at(arena, page) >> PAGE_SHIFT)
		access.address = at(arena, page);
	return !judge_signal(&access, at(arena, page));
}

/* Nothing is in a page but words that may be there. */
static inline void scan_page(enum arena arena, unsigned int page)
{
	uint64_t words[PAGE / sizeof(uint64_t)];

	if (!read_page(arena, page, words))
		return;
	for (unsigned int word = 0; word < PAGE / sizeof(*words); word++)
		if (!may_be_at(words[word], arena, page, word, false))
			fail_word("was never written there", arena, page, word, USER, words[word]);
}

/*
 * Nothing is left in a private page that this thread has emptied: no word of its own, and none of another process, but
 * those that come by process_vm_writev().
 */
static inline void check_emptied(struct actor *actor, unsigned int which, const struct range *range, unsigned int i)
{
	unsigned int page = range->page + i;
	uint64_t words[PAGE / sizeof(uint64_t)];
	struct memory *memory = memory_of(actor, range->arena, page);

	if (!memory->known || memory->value || !is_alone(actor, which, range, i) ||
	    !read_page(range->arena, page, words) || !is_alone(actor, which, range, i))
		return;
	for (unsigned int word = 0; word < FOREIGN_WORD; word++)
		if (words[word] && (word == own_word(actor) || mark_of(words[word]).number != actor->number))
			fail_word("is back", range->arena, page, word, USER, words[word]);
}

/* Of a range that was emptied and may be touched, looks at some pages: most often at the borders. */
static inline void check_some_emptied(struct actor *actor, struct random *random, const struct range *range)
{
	if (range->arena == SHARED || !range->pages || one_in(random, 2))
		return;
	check_emptied(actor, 0, range, 0);
	check_emptied(actor, 0, range, range->pages - 1);
	check_emptied(actor, 0, range, below(random, range->pages));
}

#endif
