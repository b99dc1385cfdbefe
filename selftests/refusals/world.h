/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Processes with memory of the device, and what is known of them: the ids that each has in which pid namespace, and the frame
 * that it has at which address. The driver was asked for nothing of that, but for the frames that are out of use or have failed
 * in advance. Addresses are the same in all runs.
 */
#ifndef REFUSALS_WORLD_H
#define REFUSALS_WORLD_H

#include "../lib/debugfs.h"
#include "../lib/device.h"
#include "../lib/file.h"
#include "../lib/hwpoison.h"
#include "../lib/pagemap.h"
#include "../lib/patience.h"
#include "../lib/peer.h"
#include "../lib/proc.h"
#include "../lib/process_group.h"
#include "../lib/random.h"
#include "../lib/stats.h"
#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>

/* Where things are mapped, with nothing near them, as the kernel hands out the highest addresses first: holes stay holes. */
#define TEXT 0x100000000000UL
#define TEXT_SIZE (2UL << 20)
#define TEXT_END (TEXT + TEXT_SIZE)
#define PROTECTED 0x110000000000UL
#define ANONYMOUS 0x120000000000UL
#define PRIVATE 0x130000000000UL
#define MOVED 0x140000000000UL
#define SHARED 0x150000000000UL
#define GROWN 0x160000000000UL

/* The first address that no process has. */
#ifdef __aarch64__
#define USER_END (1UL << 48)
#else
#define USER_END 0x7ffffffff000UL
#endif

#define PRIVATE_PAGES 28
#define SHARED_PAGES 4
#define GROWN_PAGES 4
/* Before it has grown. */
#define GROWN_FROM 2

/* A page of a mapping of the device, by its number. */
#define FIRST_SHARED PRIVATE_PAGES
#define FIRST_GROWN (FIRST_SHARED + SHARED_PAGES)
#define PLACES (FIRST_GROWN + GROWN_PAGES)

/* What is drawn for a process, beside what is for each of its places. */
enum { LOSES_LEADER = PLACES, IS_MOVED, HAS_GROWN, READS_SHARED, LOSES_FRAME, NR_FATES };

/* What becomes of a page of the private mapping, in all processes. */
enum kind {
	HOLE,
	UNTOUCHED,
	/* Read, and never written. */
	ZEROES,
	/* Written, and discarded. */
	DROPPED,
	/* Failed before anybody has touched it. */
	ADVANCE,
	/* Written before all others were forked; who is forked reads it, copies it, or leaves it alone. */
	FAMILY,
	/* As FAMILY, but it has failed, and is left alone. */
	FAMILY_BAD,
	/* Has failed before all others were forked, and was kept. */
	FAMILY_KEPT,
	/* Each process has written it for itself. */
	OWN,
	OWN_READ_ONLY,
	OWN_BAD,
	OWN_KEPT,
	/* One process's has failed as if by the hardware. */
	OWN_HARD,
	/* One process's was moved by a soft offline: the frame that it had is out of use. */
	OWN_MOVED,
	/* A pipe has it, too. */
	OWN_PINNED,
	/* For texts to be written from; has failed and was kept in some processes. */
	SCRATCH,
	NR_KINDS
};

/* What is drawn for a page of the family's. */
enum { READ_IT, COPY_IT };

enum namespace { OUTER, INNER, NR_NAMESPACES };

/* The processes. */
enum who {
	/* This one. Has no memory of the device. */
	TESTER,
	FOUNDER,
	CHILD,
	/* Has a second thread. */
	THREADED,
	/* Its first thread has ended. */
	LEADERLESS,
	/* Has no memory of the device. */
	BARE,
	/* Not root. */
	NOBODY,
	/* Its children would be in another pid namespace. */
	UNSHARED,
	/* The root of another user namespace. */
	OTHER_ROOT,
	/* The first of a pid namespace. */
	INIT,
	INNER_CHILD,
	/* The first of a pid namespace that belongs to another user namespace. */
	CONTAINER,
	NR_ACTORS
};

static const struct nature {
	const char *name;
	enum who parent;
	int clone_flags, unshare_flags;
	bool has_thread, may_lose_leader, loses_leader, is_nobody;
} natures[NR_ACTORS] = {
	[TESTER] = { "the tester" },
	[FOUNDER] = { "the founder", TESTER },
	[CHILD] = { "a child", FOUNDER },
	[THREADED] = { "a process with threads", FOUNDER, .has_thread = true },
	[LEADERLESS] = { "a process without its first thread", FOUNDER, .loses_leader = true },
	[BARE] = { "a process without device memory", FOUNDER },
	[NOBODY] = { "nobody", FOUNDER, .is_nobody = true },
	[UNSHARED] = { "a process with another pid namespace for its children", FOUNDER, .unshare_flags = CLONE_NEWPID },
	[OTHER_ROOT] = { "the root of another user namespace", FOUNDER, .unshare_flags = CLONE_NEWUSER },
	[INIT] = { "the first of a pid namespace", FOUNDER, .clone_flags = CLONE_NEWPID, .may_lose_leader = true },
	[INNER_CHILD] = { "a child in a pid namespace", INIT, .may_lose_leader = true },
	[CONTAINER] = { "the first of a container", FOUNDER, .clone_flags = CLONE_NEWPID | CLONE_NEWUSER },
};

/* The ids of a process: its own, that of a thread that lives, and of another one. */
#define NR_IDS 3

struct frame {
	uint64_t pfn;
	/* What the page is filled with; 0: zeroes, ANYTHING: it is written again and again. */
	uint64_t content;
	enum health { GOOD, BY_DRILL, KEPT, BY_HARDWARE } state;
	bool is_pinned;
};

#define ANYTHING (~0UL)
#define MAX_FRAMES (NR_ACTORS * PLACES)
#define NONE (-1)

struct place {
	bool is_mapped;
	/* Which page is there; NONE if nobody has touched it. */
	int frame;
	/* It was touched by this process, or only inherited. */
	bool is_held;
};

struct actor {
	struct peer *peer;
	bool has_dead_leader, is_moved, has_grown;
	/* The driver knows how far the mapping has grown: it has mapped a page there again. */
	bool has_settled;
	/* In the namespace INNER. */
	bool is_inner;
	/* What capabilities it has are another user namespace's. */
	bool is_foreign;
	/* 0 where there is none, or the namespace can't see it. */
	pid_t ids[NR_NAMESPACES][NR_IDS];
	/* Of a page that is not the device's, and that it has touched. */
	uint64_t anonymous_pfn;
	struct place places[PLACES];
};

/* A frame that is out of use. */
struct aside {
	uint64_t pfn;
	bool is_hardware, is_ours;
};

#define MAX_ASIDES 4096

/* Shared by all. */
static struct world {
	uint64_t seed;
	enum kind kinds[PRIVATE_PAGES];
	struct actor actors[NR_ACTORS];
	/* Of processes that have ended, and were waited for or not. */
	pid_t zombies[NR_NAMESPACES], reaped[NR_NAMESPACES];
	struct frame frames[MAX_FRAMES];
	int nr_frames;
	struct aside asides[MAX_ASIDES];
	int nr_asides;
	char complaint[1024];
} *world;

static bool has_pid_namespaces, has_user_namespaces;

/* False, and says why. */
#define COMPLAIN(...) (snprintf(world->complaint, sizeof(world->complaint), __VA_ARGS__), false)

static struct actor *actor_of(enum who who)
{
	return &world->actors[who];
}

/* The id that this process, which is in the namespace OUTER, knows it by. */
static pid_t pid_of(const struct actor *actor)
{
	return actor->ids[OUTER][0];
}

/* The thread that lives. */
static pid_t task_of(const struct actor *actor)
{
	return actor->ids[OUTER][1];
}

static uintptr_t address_of(const struct actor *actor, int place)
{
	if (place < FIRST_SHARED)
		return (actor->is_moved ? MOVED : PRIVATE) + place * PAGE;
	if (place < FIRST_GROWN)
		return SHARED + (place - FIRST_SHARED) * PAGE;
	return GROWN + (place - FIRST_GROWN) * PAGE;
}

/* The place of a process that an address is in; NONE if there is nothing of the device. */
static int place_at(const struct actor *actor, uintptr_t address)
{
	for (int i = 0; i < PLACES; i++)
		if (actor->places[i].is_mapped && address >> PAGE_SHIFT == address_of(actor, i) >> PAGE_SHIFT)
			return i;
	return NONE;
}

static bool is_grown_place(int place)
{
	return place >= FIRST_GROWN + GROWN_FROM;
}

/*
 * A place that must not be touched: the process has only inherited the page, or its mapping would not be one that has grown
 * since it was touched last.
 */
static bool is_shy(const struct actor *actor, int place)
{
	return place >= FIRST_GROWN || !actor->places[place].is_held;
}

static int frame_of_pfn(uint64_t pfn)
{
	for (int i = 0; i < world->nr_frames; i++)
		if (world->frames[i].pfn == pfn)
			return i;
	return NONE;
}

static int add_frame(uint64_t pfn, uint64_t content)
{
	int frame = frame_of_pfn(pfn);

	if (frame != NONE)
		return frame;
	world->frames[world->nr_frames] = (struct frame){ .pfn = pfn, .content = content };
	return world->nr_frames++;
}

static struct aside *find_aside(uint64_t pfn)
{
	for (int i = 0; i < world->nr_asides; i++)
		if (world->asides[i].pfn == pfn)
			return &world->asides[i];
	return NULL;
}

/* What is drawn for a place of a process, or for a process. Whoever asks gets one answer. */
static uint64_t fate(enum who who, int what, uint64_t limit)
{
	struct random random = random_of_step(world->seed, 1 + who * NR_FATES + what);

	return below(&random, limit);
}

/* The only process to which something rare happens. */
static enum who chosen(enum kind kind)
{
	return FOUNDER + fate(TESTER, kind, NR_ACTORS - FOUNDER);
}

/* Whether a page was there before all others were forked. */
static bool is_family(int place)
{
	return place < FIRST_SHARED && world->kinds[place] >= FAMILY && world->kinds[place] <= FAMILY_KEPT;
}

static uint64_t content_of(enum who who, int place)
{
	return 1 + who * PLACES + place;
}

/* Maps memory of the device where it has to be; returns 0 or the errno. */
static int map_at(uintptr_t address, size_t pages, int flags)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	void *memory = mmap((void *)address, pages * PAGE, PROT_READ | PROT_WRITE, flags | MAP_FIXED_NOREPLACE, fd, 0);
	int error = memory == (void *)address ? 0 : errno ?: EEXIST;

	if (fd >= 0)
		close(fd);
	return error;
}

static int map_anonymous(uintptr_t address, size_t size, int protection, int flags)
{
	void *memory = mmap((void *)address, size, protection, flags | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	return memory == (void *)address ? 0 : errno ?: EEXIST;
}

/* Sets *ids to those that this process or thread has in both namespaces; @number, if the kernel has no namespaces. */
static void read_ids(const char *path, const char *key, pid_t number, pid_t *outer, pid_t *inner)
{
	char *text = read_file(path), *line = text ? strstr(text, key) : NULL;

	*outer = number;
	*inner = 0;
	if (line)
		sscanf(line + strlen(key), "%d %d", outer, inner);
	free(text);
}

static void note_ids(struct actor *actor)
{
	read_ids("/proc/self/status", "NStgid:", getpid(), &actor->ids[OUTER][0], &actor->ids[INNER][0]);
	read_ids("/proc/thread-self/status", "NSpid:", syscall(SYS_gettid), &actor->ids[OUTER][1],
		 &actor->ids[INNER][1]);
	if (!actor->is_inner)
		actor->ids[INNER][0] = actor->ids[INNER][1] = 0;
}

/* All capabilities that this thread can have. */
static void regain_capabilities(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	syscall(SYS_capget, &header, data);
	data[0].effective = data[0].permitted;
	data[1].effective = data[1].permitted;
	syscall(SYS_capset, &header, data);
}

static void *serve_as_thread(void *argument)
{
	serve(argument, getppid());
}

__attribute__((noreturn)) static void *idle(void *argument)
{
	struct actor *actor = argument;

	actor->ids[OUTER][2] = syscall(SYS_gettid);
	for (;;)
		pause();
}

__attribute__((noreturn)) static void live(struct actor *actor, const struct nature *nature, pid_t parent)
{
	pthread_t thread;

	if (nature->unshare_flags && unshare(nature->unshare_flags))
		_exit(1);
	if (nature->is_nobody) {
		prctl(PR_SET_KEEPCAPS, 1);
		if (become_nobody())
			_exit(1);
		regain_capabilities();
	}
	if (nature->has_thread && pthread_create(&thread, NULL, idle, actor))
		_exit(1);
	if (actor->has_dead_leader) {
		if (pthread_create(&thread, NULL, serve_as_thread, actor->peer))
			_exit(1);
		/* The thread only. */
		syscall(SYS_exit, 0);
	}
	serve(actor->peer, parent);
}

/* Begins a process, in its parent. Returns 0 or the errno. */
static long begin_here(void *argument, long who)
{
	struct actor *actor = argument;
	struct nature nature = natures[who];
	pid_t parent, pid;

	if (!has_pid_namespaces) {
		nature.clone_flags &= ~CLONE_NEWPID;
		nature.unshare_flags &= ~CLONE_NEWPID;
	}
	if (!has_user_namespaces) {
		nature.clone_flags &= ~CLONE_NEWUSER;
		nature.unshare_flags &= ~CLONE_NEWUSER;
	}
	/* A parent that can't be seen has number 0. */
	parent = nature.clone_flags & CLONE_NEWPID ? 0 : getpid();
	pid = syscall(SYS_clone, SIGCHLD | nature.clone_flags, NULL, NULL, NULL, NULL);
	if (!pid) {
		/* For all to be ended together. */
		if (who == FOUNDER)
			setpgid(0, 0);
		live(actor, &nature, parent);
	}
	actor->peer->pid = pid;
	return pid > 0 ? 0 : errno;
}

static long call(enum who who, long (*function)(void *, long), void *argument, long value)
{
	struct peer *peer = actor_of(who)->peer;

	return peer ? peer_call(peer, function, argument, value) : function(argument, value);
}

/* What the founder does before all others are forked. */
static long found(void *argument, long who)
{
	struct actor *actor = argument;
	int error = map_at(PRIVATE, PRIVATE_PAGES, MAP_PRIVATE) ?: map_at(SHARED, SHARED_PAGES, MAP_SHARED);

	if (error)
		return error;
	for (int i = 0; i < PRIVATE_PAGES; i++)
		if (is_family(i))
			fill((void *)address_of(actor, i), 1, content_of(who, i));
	/* One of these fails, and the others stay untouched. */
	for (int i = FIRST_SHARED; i < FIRST_SHARED + 2; i++)
		fill((void *)address_of(actor, i), 1, content_of(who, i));
	note_ids(actor);
	return 0;
}

/* Makes one page of the private mapping what it is to be. Returns 0 or the errno. */
static int settle_page(const struct actor *actor, enum who who, int place)
{
	char *page = (char *)address_of(actor, place);
	uint64_t content = content_of(who, place);
	int ends[2];

	switch (world->kinds[place]) {
	case HOLE:
		return munmap(page, PAGE) ? errno : 0;
	case ZEROES:
		return load(page).signal ? EFAULT : 0;
	case DROPPED:
		fill(page, 1, content);
		return madvise(page, PAGE, MADV_DONTNEED) ? errno : 0;
	case FAMILY:
	case FAMILY_KEPT:
		/* Else it is inherited. */
		if (who == FOUNDER || fate(who, place, 3) == READ_IT)
			return load(page).signal ? EFAULT : 0;
		/* What is kept is not copied. */
		if (world->kinds[place] == FAMILY && fate(who, place, 3) == COPY_IT)
			fill(page, 1, content);
		return 0;
	case OWN_READ_ONLY:
		fill(page, 1, content);
		return mprotect(page, PAGE, PROT_READ) ? errno : 0;
	case OWN_PINNED:
		fill(page, 1, content);
		if (pipe2(ends, O_CLOEXEC) || vmsplice(ends[1], &(struct iovec){ page, 8 }, 1, 0) != 8)
			return errno;
		return 0;
	case OWN:
	case OWN_BAD:
	case OWN_KEPT:
	case OWN_HARD:
	case OWN_MOVED:
	case SCRATCH:
		fill(page, 1, content);
		return 0;
	case UNTOUCHED:
	case ADVANCE:
	case FAMILY_BAD:
	case NR_KINDS:
		break;
	}
	return 0;
}

/* Makes the memory of this process what it is to be. Returns 0 or the errno. */
static long settle(void *argument, long who)
{
	struct actor *actor = argument;
	int error = 0;

	note_ids(actor);
	if (map_anonymous(ANONYMOUS, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE))
		return errno;
	*(volatile char *)ANONYMOUS = 1;
	if (who == BARE)
		return munmap((void *)PRIVATE, PRIVATE_PAGES * PAGE) || munmap((void *)SHARED, SHARED_PAGES * PAGE) ?
			       errno : 0;
	if (actor->is_moved && mremap((void *)PRIVATE, PRIVATE_PAGES * PAGE, PRIVATE_PAGES * PAGE,
				      MREMAP_MAYMOVE | MREMAP_FIXED, (void *)MOVED) == MAP_FAILED)
		return errno;
	for (int i = 0; i < PRIVATE_PAGES && !error; i++)
		error = settle_page(actor, who, i);
	if (!error && (who == FOUNDER || fate(who, READS_SHARED, 2)))
		error = load((void *)SHARED).signal ? EFAULT : 0;
	if (error || !actor->has_grown)
		return error;
	error = map_at(GROWN, GROWN_FROM, MAP_PRIVATE);
	if (error)
		return error;
	for (int i = FIRST_GROWN; i < FIRST_GROWN + GROWN_FROM; i++)
		fill((void *)address_of(actor, i), 1, content_of(who, i));
	return mremap((void *)GROWN, GROWN_FROM * PAGE, GROWN_PAGES * PAGE, 0) == (void *)GROWN ? 0 : errno;
}

/* Leaves a zombie, and a number of a process that has gone. Returns 0 or the errno. */
static long leave_behind(void *unused, long namespace)
{
	siginfo_t info;

	(void)unused;
	for (int i = 0; i < 2; i++) {
		pid_t pid = fork();

		if (pid < 0)
			return errno;
		if (!pid)
			_exit(0);
		if (waitid(P_PID, pid, &info, WEXITED | (i ? WNOWAIT : 0)))
			return errno;
		*(i ? &world->zombies[namespace] : &world->reaped[namespace]) = pid;
	}
	return 0;
}

/* Reads memory of a process as process_vm_readv() does; 0 or the errno. */
static int read_memory(const struct actor *actor, uintptr_t address, void *data, size_t size)
{
	struct iovec here = { data, size }, there = { (void *)address, size };
	ssize_t got = process_vm_readv(task_of(actor), &here, 1, &there, 1, 0);

	if (got < 0)
		return errno;
	return got == (ssize_t)size ? 0 : EFAULT;
}

/* The frame that a process has in its page tables at an address; 0 if none. */
static uint64_t mapped_frame(const struct actor *actor, uintptr_t address)
{
	char path[64];
	uint64_t entry;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", task_of(actor));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	entry = pagemap_entry(fd, (void *)address);
	close(fd);
	return frame_in(entry);
}

/* The frame of a page that a process has touched; 0 if there is none. */
static uint64_t held_frame(const struct actor *actor, int place)
{
	uint64_t word;

	/* What was mapped may have been taken out of page tables for a fork. What has grown is not touched again. */
	if (place < FIRST_GROWN && read_memory(actor, address_of(actor, place), &word, sizeof(word)))
		return 0;
	return mapped_frame(actor, address_of(actor, place));
}

/* Notes the page that a process has touched at a place. */
static bool note_held(enum who who, int place, uint64_t content)
{
	uint64_t pfn = held_frame(actor_of(who), place);

	if (!pfn)
		return COMPLAIN("%s has no frame at page %d", natures[who].name, place);
	actor_of(who)->places[place] = (struct place){ true, add_frame(pfn, content), true };
	return true;
}

/* Notes what the founder has before all others are forked. */
static bool note_family(void)
{
	struct actor *founder = actor_of(FOUNDER);

	for (int i = 0; i < FIRST_SHARED + 2; i++)
		if ((i >= FIRST_SHARED || is_family(i)) && !note_held(FOUNDER, i, content_of(FOUNDER, i)))
			return false;
	/* To be moved later. */
	founder->is_moved = fate(FOUNDER, IS_MOVED, 2);
	return true;
}

/* Notes a place that has what the founder has there, touched or not. */
static void inherit(struct actor *actor, int place, bool is_held)
{
	actor->places[place] = (struct place){ true, actor_of(FOUNDER)->places[place].frame, is_held };
}

static bool note_page(enum who who, int place)
{
	struct actor *actor = actor_of(who);
	uint64_t content = content_of(who, place);

	switch (world->kinds[place]) {
	case HOLE:
		actor->places[place] = (struct place){ false, NONE, false };
		return true;
	case UNTOUCHED:
	case ZEROES:
	case DROPPED:
	case ADVANCE:
		actor->places[place] = (struct place){ true, NONE, false };
		return true;
	case FAMILY:
	case FAMILY_KEPT:
		if (who == FOUNDER)
			return true;
		if (world->kinds[place] == FAMILY && fate(who, place, 3) == COPY_IT)
			return note_held(who, place, content);
		inherit(actor, place, fate(who, place, 3) == READ_IT);
		return true;
	case FAMILY_BAD:
		if (who != FOUNDER)
			inherit(actor, place, false);
		return true;
	case SCRATCH:
		return note_held(who, place, ANYTHING);
	case OWN_PINNED:
		if (!note_held(who, place, content))
			return false;
		world->frames[actor->places[place].frame].is_pinned = true;
		return true;
	default:
		return note_held(who, place, content);
	}
}

static bool note_actor(enum who who)
{
	struct actor *actor = actor_of(who);

	for (int i = 0; i < PRIVATE_PAGES; i++)
		if (!note_page(who, i))
			return false;
	for (int i = FIRST_SHARED; i < FIRST_GROWN; i++) {
		if (i >= FIRST_SHARED + 2)
			actor->places[i] = (struct place){ true, NONE, false };
		else if (who != FOUNDER)
			inherit(actor, i, i == FIRST_SHARED && fate(who, READS_SHARED, 2));
	}
	for (int i = FIRST_GROWN; actor->has_grown && i < PLACES; i++) {
		actor->places[i] = (struct place){ true, NONE, false };
		if (!is_grown_place(i) && !note_held(who, i, content_of(who, i)))
			return false;
	}
	return true;
}

/* The frame of the page that is listed in `poisoned` under a name; 0 if none is. */
static uint64_t pfn_by_name(pid_t pid, uintptr_t address)
{
	char *text = read_file(DEBUGFS "poisoned"), name[64], *found, *line;
	uint64_t pfn = 0;

	snprintf(name, sizeof(name), " pid=%d address=%#lx\n", pid, address);
	found = text ? strstr(text, name) : NULL;
	if (found) {
		for (line = found; line > text && line[-1] != '\n';)
			line--;
		if (sscanf(line, "pfn=%lx", &pfn) != 1)
			pfn = 0;
	}
	free(text);
	return pfn;
}

/* Lets the page in a frame fail by a drill. Returns 0 or the errno. */
static int drill(struct frame *frame, enum health state)
{
	frame->state = state;
	return print_to_file(DEBUGFS "poison_pfn", state == KEPT ? "%#lx keep" : "%#lx", frame->pfn);
}

/* Lets a page fail, or move, as it is to be; by the driver, from which all of this is then known. */
static bool damage(enum who who, int place)
{
	struct actor *actor = actor_of(who);
	struct place *there = &actor->places[place];
	struct frame *frame = there->frame == NONE ? NULL : &world->frames[there->frame];
	enum kind kind = world->kinds[place];
	bool is_chosen = who == chosen(kind);
	int error = 0;

	switch (kind) {
	case ADVANCE:
		if (fate(who, place, 3))
			return true;
		error = poison_addr(pid_of(actor), (void *)address_of(actor, place));
		there->frame = add_frame(pfn_by_name(pid_of(actor), address_of(actor, place)), 0);
		world->frames[there->frame].state = BY_DRILL;
		break;
	case FAMILY_BAD:
	case OWN_BAD:
		error = drill(frame, BY_DRILL);
		break;
	case FAMILY_KEPT:
	case OWN_KEPT:
		error = drill(frame, KEPT);
		break;
	case SCRATCH:
		if (!fate(who, place, 3))
			error = drill(frame, KEPT);
		break;
	case OWN_HARD:
		/* Costs a frame for good. */
		if (!is_chosen || fate(TESTER, LOSES_FRAME, 8))
			return true;
		error = hard_offline_pfn(frame->pfn);
		frame->state = BY_HARDWARE;
		break;
	case OWN_MOVED:
		if (!is_chosen)
			return true;
		error = soft_offline_pfn(frame->pfn);
		world->asides[world->nr_asides++] = (struct aside){ frame->pfn, .is_ours = true };
		frame->pfn = held_frame(actor, place);
		break;
	default:
		return true;
	}
	return !error || COMPLAIN("page %d of %s can't be prepared: %s", place, natures[who].name, strerror(error));
}

/* Reads which frames are out of use. */
static void read_asides(void)
{
	char *text = read_file(DEBUGFS "quarantine"), *rest = text, *line, kind[16];
	uint64_t pfn;

	world->nr_asides = 0;
	while (text && (line = strsep(&rest, "\n")) && world->nr_asides < MAX_ASIDES - NR_ACTORS)
		if (sscanf(line, "pfn=%lx kind=%15s", &pfn, kind) == 2)
			world->asides[world->nr_asides++] = (struct aside){ pfn, !strcmp(kind, "hardware"), false };
	free(text);
}

static bool begin(enum who who)
{
	struct actor *actor = actor_of(who);
	const struct nature *nature = &natures[who];
	struct peer *peer = actor->peer;
	long error;

	sem_init(&peer->request, 1, 0);
	sem_init(&peer->reply, 1, 0);
	actor->has_dead_leader = nature->loses_leader || (nature->may_lose_leader && fate(who, LOSES_LEADER, 2));
	actor->is_moved = who != FOUNDER && fate(who, IS_MOVED, 2);
	actor->has_grown = who != BARE && fate(who, HAS_GROWN, 2);
	actor->is_inner = has_pid_namespaces && (who == INIT || who == INNER_CHILD);
	actor->is_foreign = has_user_namespaces && ((nature->clone_flags | nature->unshare_flags) & CLONE_NEWUSER);
	error = call(nature->parent, begin_here, actor, who);
	return !error || COMPLAIN("%s can't begin: %s", nature->name, strerror(error));
}

/* All kinds of pages, in an order that is drawn. */
static void draw_kinds(void)
{
	struct random random = random_of_step(world->seed, 0);

	for (int i = 0; i < PRIVATE_PAGES; i++)
		world->kinds[i] = i < NR_KINDS ? (enum kind)i : (enum kind)below(&random, NR_KINDS);
	for (int i = PRIVATE_PAGES - 1; i > 0; i--) {
		int other = below(&random, i + 1);
		enum kind kind = world->kinds[i];

		world->kinds[i] = world->kinds[other];
		world->kinds[other] = kind;
	}
}

/* Whether the first thread of a process has. */
static bool has_ended(uint64_t pid)
{
	return state_of(pid) == 'Z';
}

static bool make_world(uint64_t seed)
{
	long error;

	for (int i = 0; i < NR_ACTORS; i++) {
		struct peer *peer = actor_of(i)->peer;

		*actor_of(i) = (struct actor){ .peer = peer };
		for (int place = 0; place < PLACES; place++)
			actor_of(i)->places[place].frame = NONE;
	}
	world->seed = seed;
	world->nr_frames = 0;
	memset(world->zombies, 0, sizeof(world->zombies));
	memset(world->reaped, 0, sizeof(world->reaped));
	draw_kinds();
	read_asides();
	note_ids(actor_of(TESTER));

	if (!begin(FOUNDER))
		return false;
	error = call(FOUNDER, found, actor_of(FOUNDER), FOUNDER);
	if (error)
		return COMPLAIN("%s has no memory: %s", natures[FOUNDER].name, strerror(error));
	if (!note_family())
		return false;
	for (int i = 0; i < PRIVATE_PAGES; i++)
		if (is_family(i) && !damage(FOUNDER, i))
			return false;
	if (drill(&world->frames[actor_of(FOUNDER)->places[FIRST_SHARED + 1].frame], BY_DRILL))
		return COMPLAIN("shared memory does not fail");
	for (int i = CHILD; i < NR_ACTORS; i++)
		if (!begin(i))
			return false;
	for (int i = FOUNDER; i < NR_ACTORS; i++) {
		error = call(i, settle, actor_of(i), i);
		if (error)
			return COMPLAIN("%s can't settle: %s", natures[i].name, strerror(error));
		if (actor_of(i)->has_dead_leader && !await(has_ended, pid_of(actor_of(i))))
			return COMPLAIN("%s has its first thread", natures[i].name);
	}
	for (int i = 0; i <= has_pid_namespaces; i++)
		if (call(i == INNER ? INIT : FOUNDER, leave_behind, NULL, i))
			return COMPLAIN("no zombies");
	for (int i = FOUNDER; i < NR_ACTORS; i++) {
		if (i != BARE && !note_actor(i))
			return false;
		actor_of(i)->anonymous_pfn = mapped_frame(actor_of(i), ANONYMOUS);
	}
	for (int i = FOUNDER; i < NR_ACTORS; i++)
		for (int place = 0; i != BARE && place < PRIVATE_PAGES; place++)
			if (!is_family(place) && !damage(i, place))
				return false;
	if (counter("anons") != world->nr_frames)
		return COMPLAIN("%d pages are known, of %ld", world->nr_frames, counter("anons"));
	return true;
}

/* Ends all processes, and gives back the frames that are out of use. Returns what is left, "" if nothing is. */
static const char *end_world(void)
{
	const char *left;

	if (actor_of(FOUNDER)->peer->pid > 0 && end_group(actor_of(FOUNDER)->peer->pid) == NEVER)
		return "a process";
	left = leak();
	for (int i = 0; i < world->nr_asides; i++)
		if (world->asides[i].is_ours)
			unpoison_pfn(world->asides[i].pfn);
	return left;
}

#endif
