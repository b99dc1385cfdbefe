/* SPDX-License-Identifier: GPL-2.0-only */
/* What the threads do, at once and on the same memory. */
#ifndef TORTURE_OPERATIONS_H
#define TORTURE_OPERATIONS_H

#include "access.h"

/* Numbers of operations: the first two are done in each round. */
enum { ALWAYS = 3, FORK_OPERATION = 13, SEAL = 15, OFFSETS };

/* Mostly where all others are too. */
static struct range random_range(struct random *random, unsigned int most)
{
	struct range range = { world->focus_arena, (world->focus + below(random, 48)) % ARENA_PAGES, 1 };

	if (one_in(random, 4)) {
		range.arena = below(random, NR_ARENAS);
		range.page = below(random, ARENA_PAGES);
	}
	range.pages += below(random, one_in(random, 8) ? ARENA_PAGES : 8);
	range.pages = at_most(at_most(range.pages, ARENA_PAGES - range.page), most);
	return range;
}

static int set_result(struct note *note, long result)
{
	note->error = result == -1 ? errno : 0;
	return note->error;
}

#define MAX_TOUCHED 24U

static void op_write(struct actor *actor, struct random *random, struct note *note)
{
	struct range range = random_range(random, MAX_TOUCHED);
	enum mode mode = random_mode(random);

	/* A child leaves the memory that it shares to its parent, whose words it would write. */
	if (actor->depth)
		range.arena = PRIVATE;
	set_range(note, &range);
	note->argument = mode;
	for (unsigned int i = 0; i < range.pages; i++)
		write_word(actor, range.arena, range.page + i, mode);
}

static void op_read(struct actor *actor, struct random *random, struct note *note)
{
	struct range range = random_range(random, MAX_TOUCHED);
	unsigned int word = one_in(random, 8) ? FOREIGN_WORD : below(random, world->processes * MAX_THREADS);
	enum mode mode = random_mode(random);

	set_range(note, &range);
	note->argument = mode;
	for (unsigned int i = 0; i < range.pages; i++) {
		recall(actor, range.arena, range.page + i, mode);
		read_word(actor, range.arena, range.page + i, word, mode);
	}
	scan_page(range.arena, range.page);
}

/* Reads and writes memory of another member. */
static void op_foreign(struct actor *actor, struct random *random, struct note *note)
{
	struct range range = random_range(random, MAX_TOUCHED);
	pid_t pid = world->members[below(random, world->processes)].pid;
	unsigned int word = below(random, world->processes * MAX_THREADS);
	bool writes = one_in(random, 2);

	set_range(note, &range);
	note->argument = writes;
	for (unsigned int i = 0; pid && i < range.pages; i++) {
		unsigned int page = range.page + i;
		uint64_t value = mark_value((struct mark){
			.tag = FOREIGN_TAG,
			.word = FOREIGN_WORD,
			.column = page % LANE,
			.number = actor->number,
			.version = atomic_fetch_add(&world->version, 1) + 1,
		});
		struct iovec local = { &value, sizeof(value) };
		struct iovec remote = { word_at(range.arena, page, writes ? FOREIGN_WORD : word), sizeof(value) };
		ssize_t size = writes ? process_vm_writev(pid, &local, 1, &remote, 1, 0) :
					process_vm_readv(pid, &local, 1, &remote, 1, 0);

		count(&world->kernel);
		/* It may be dying. */
		if (set_result(note, size) && errno != EFAULT && errno != ESRCH && errno != EPERM)
			fail("process_vm of %d at %p: %s", pid, remote.iov_base, strerror(errno));
		if (size == sizeof(value) && !writes && !may_be_at(value, range.arena, page, word, true))
			fail_word("was never written there", range.arena, page, word, PROCESS_VM, value);
	}
}

/* Grows a mapping in place. */
static void op_grow(struct actor *actor, struct random *random, struct note *note)
{
	struct range range = random_range(random, ARENA_PAGES), grown;
	struct vma vma = next_vma(range.arena, range.page);
	unsigned int next = next_vma(range.arena, vma.end).start, hole = next > vma.end ? next - vma.end : 0;

	/* Shared anonymous memory ends where it did. */
	if (!hole || vma.start == vma.end || (world->anonymous && range.arena == SHARED))
		return;
	grown = (struct range){ range.arena, vma.end, 1 + below(random, hole) };
	range.page = vma.start + below(random, vma.end - vma.start);
	range.pages = vma.end - range.page;
	set_range(note, &grown);
	begin_change(actor, 0, &grown);
	if (!set_result(note, (long)mremap(start_of(&range), size_of(&range), size_of(&range) + size_of(&grown), 0)) &&
	    range.arena == PRIVATE)
		remember_emptied(actor, 0, &grown);
	end_change(&grown);
	check_some_emptied(actor, random, &grown);
}

static void op_shrink(struct actor *actor, struct random *random, struct note *note)
{
	struct range range = random_range(random, ARENA_PAGES), dropped;
	struct vma vma = next_vma(range.arena, range.page);
	unsigned int kept;

	if (vma.start == vma.end)
		return;
	range.page = vma.start;
	range.pages = vma.end - vma.start;
	kept = 1 + below(random, range.pages);
	dropped = (struct range){ range.arena, range.page + kept, range.pages - kept };
	set_range(note, &dropped);
	begin_change(actor, 0, &dropped);
	set_result(note, (long)mremap(start_of(&range), size_of(&range), kept * PAGE, 0));
	end_change(&dropped);
}

/* Moves memory to the same column of another lane, and what is known of it with it. */
static void op_move(struct actor *actor, struct random *random, struct note *note)
{
	struct range from = random_range(random, LANE), to = from;
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED;
	unsigned int size = from.pages;
	bool moved;

	to.page = from.page % LANE + below(random, ARENA_PAGES / LANE) * LANE;
	to.pages = from.pages = at_most(from.pages, ARENA_PAGES - to.page);
	/* Of shared memory two places would have the same page. */
	if (one_in(random, 3) && from.arena == PRIVATE)
		flags |= MREMAP_DONTUNMAP;
	else if (one_in(random, 4) && !(world->anonymous && from.arena == SHARED))
		to.pages = at_most(1 + below(random, 2 * size), ARENA_PAGES - to.page);
	if (from.page < to.page + to.pages && to.page < from.page + from.pages)
		return;
	set_range(note, &from);
	note->argument = to.page;
	begin_change(actor, 0, &from);
	begin_change(actor, 1, &to);
	moved = !set_result(note, (long)mremap(start_of(&from), size_of(&from), size_of(&to), flags, start_of(&to)));
	/* What is known is mapped. Holes are left out of a move, and what is at their place stays. */
	for (unsigned int i = 0; moved && i < at_most(from.pages, to.pages); i++) {
		struct memory memory = *memory_of(actor, from.arena, from.page + i);

		if (!memory.known || !is_alone(actor, 0, &from, i) || memory.begun != actor->alone[0][i] - 1)
			continue;
		if (is_alone(actor, 1, &to, i))
			remember(actor, to.arena, to.page + i, memory.word, memory.value, actor->alone[1][i]);
		if (flags & MREMAP_DONTUNMAP)
			remember(actor, from.arena, from.page + i, own_word(actor), 0, actor->alone[0][i]);
	}
	end_change(&from);
	end_change(&to);
}

static void op_discard(struct actor *actor, struct random *random, struct note *note)
{
	struct range range = random_range(random, ARENA_PAGES);

	set_range(note, &range);
	/* What is shared is kept. */
	if (range.arena == SHARED) {
		set_result(note, madvise(start_of(&range), size_of(&range), MADV_DONTNEED));
		return;
	}
	begin_change(actor, 0, &range);
	if (!set_result(note, madvise(start_of(&range), size_of(&range), MADV_DONTNEED)))
		remember_emptied(actor, 0, &range);
	end_change(&range);
	check_some_emptied(actor, random, &range);
}

static void op_advise(struct actor *actor, struct random *random, struct note *note)
{
	static const int advices[] = {
		MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED, MADV_DONTDUMP, MADV_DODUMP,
	};
	struct range range = random_range(random, ARENA_PAGES);

	(void)actor;
	set_range(note, &range);
	note->argument = advices[below(random, sizeof(advices) / sizeof(*advices))];
	set_result(note, madvise(start_of(&range), size_of(&range), note->argument));
}

static void op_mprotect(struct actor *actor, struct random *random, struct note *note)
{
	static const int protections[] = {
		PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ, PROT_READ, PROT_NONE,
	};
	struct range range = random_range(random, ARENA_PAGES);

	(void)actor;
	set_range(note, &range);
	note->argument = protections[below(random, sizeof(protections) / sizeof(*protections))];
	set_result(note, mprotect(start_of(&range), size_of(&range), note->argument));
}

static void op_munmap(struct actor *actor, struct random *random, struct note *note)
{
	struct range range = random_range(random, ARENA_PAGES);

	set_range(note, &range);
	begin_change(actor, 0, &range);
	if (set_result(note, munmap(start_of(&range), size_of(&range))))
		fail("munmap: %s", strerror(errno));
	end_change(&range);
}

/* An offset of the user's: any, or one that continues what is mapped before or behind. */
static off_t random_offset(const struct range *range, struct random *random)
{
	struct vma before = next_vma(range->arena, range->page ? range->page - 1 : 0);
	struct vma behind = next_vma(range->arena, range->page + range->pages);

	switch (below(random, 4)) {
	case 0:
		return 0;
	case 1:
		if (before.start < range->page)
			return before.offset + (range->page - before.start) * PAGE;
		break;
	case 2:
		if (behind.start == range->page + range->pages && behind.offset > size_of(range))
			return behind.offset - size_of(range);
		break;
	}
	return below(random, 1UL << 40) * PAGE;
}

static void op_mmap(struct actor *actor, struct random *random, struct note *note)
{
	struct range range = random_range(random, ARENA_PAGES);
	int flags = MAP_FIXED | (one_in(random, 6) ? MAP_POPULATE : 0) | (one_in(random, 8) ? MAP_NORESERVE : 0);
	off_t offset = world->enabled >> OFFSETS & 1 ? random_offset(&range, random) : 0;

	set_range(note, &range);
	begin_change(actor, 0, &range);
	if (set_result(note, (long)map_range(&range, PROT_READ | PROT_WRITE, flags, offset)))
		fail("mmap at offset %#lx: %s", offset, strerror(errno));
	else
		remember_emptied(actor, 0, &range);
	end_change(&range);
	check_some_emptied(actor, random, &range);
}

/*
 * A process has either guard pages or write protection: MADV_GUARD_INSTALL does not end, for any memory that is not private
 * and anonymous to core mm, where there is a marker of write protection, which it can't remove.
 */
static bool has_guards(const struct actor *actor)
{
	return (actor->slot + world->seed) & 1;
}

/*
 * Guard pages. On a page that is in no page table at the time the device keeps its content: so what is there then is
 * what was there, or nothing.
 */
static void op_guard(struct actor *actor, struct random *random, struct note *note)
{
	struct range range = random_range(random, 64);

	if (!has_guards(actor))
		return;
	set_range(note, &range);
	note->argument = one_in(random, 2) ? MADV_GUARD_INSTALL : MADV_GUARD_REMOVE;
	begin_change(actor, 0, &range);
	set_result(note, madvise(start_of(&range), size_of(&range), note->argument));
	end_change(&range);
}

/* Asynchronous write protection, and scans that renew it. */
static void op_uffd(struct actor *actor, struct random *random, struct note *note)
{
	struct range range = random_range(random, ARENA_PAGES);
	struct uffdio_range place = { (uintptr_t)start_of(&range), size_of(&range) };
	struct uffdio_register registration = { .range = place, .mode = UFFDIO_REGISTER_MODE_WP };
	struct uffdio_writeprotect protection = { .range = place, .mode = UFFDIO_WRITEPROTECT_MODE_WP };
	struct page_region regions[64];
	struct pm_scan_arg scan = {
		.size = sizeof(scan),
		.flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
		.start = place.start,
		.end = place.start + place.len,
		.vec = (uintptr_t)regions,
		.vec_len = 64,
		.category_mask = PAGE_IS_WRITTEN,
		.return_mask = PAGE_IS_WRITTEN,
	};

	if (has_guards(actor))
		return;
	set_range(note, &range);
	note->argument = below(random, 8);
	switch (note->argument) {
	case 0:
		set_result(note, ioctl(uffd, UFFDIO_UNREGISTER, &place));
		break;
	case 1:
		protection.mode = 0;
		set_result(note, ioctl(uffd, UFFDIO_WRITEPROTECT, &protection));
		break;
	case 2:
	case 3:
		set_result(note, ioctl(uffd, UFFDIO_WRITEPROTECT, &protection));
		break;
	case 4:
	case 5:
		set_result(note, ioctl(uffd, UFFDIO_REGISTER, &registration));
		break;
	default:
		set_result(note, ioctl(pagemap_fd, PAGEMAP_SCAN, &scan));
	}
}

#endif
