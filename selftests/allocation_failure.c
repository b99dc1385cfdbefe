// SPDX-License-Identifier: GPL-2.0-only
/*
 * When an allocation fails in the kernel, the operation that needed it fails and changes nothing, or the
 * memory answers with SIGBUS. It never has another content, and nothing is leaked.
 *
 * Each operation is tried in a new process with its first allocation failing, with its second, and so on
 * until it needs no more. `allocation_failure [ROUNDS]`: how often each allocation of a move fails while one of the moved
 * pages does.
 */
#include <sys/syscall.h>

#include "lib/fixture.h"
#include "lib/random.h"
#include "lib/slow_write.h"
#include "lib/watchdog.h"

static long nr_rounds = 1;

#define PAGES 16
#define MIDDLE 5
#define SOME 4

/* What an operation works with. */
struct scene {
	char *memory;
	/* Where nothing is mapped. */
	char *target;
	/* Memory without access. */
	char *reserved;
	uint64_t pfn;
	/* Has the memory copy-on-write; NULL for operations without one. */
	struct peer *child;
	/* Is under way in the middle, if the operation is to be done with pinned pages. */
	struct slow_write write;
};

/* Whether the word at @address is @value, or the mapping has been lost for lack of memory. */
static bool is(const char *address, uint64_t value)
{
	struct access access = load(address);

	return access.signal ? access.signal == SIGBUS && access.code == BUS_ADRERR : access.value == value;
}

/* Whether pages are as they were filled, at @place instead of in the memory. */
static bool kept(const char *place, size_t first, size_t pages)
{
	for (size_t i = 0; i < pages; i++)
		if (!is(place + i * PAGE, word(1, first + i)))
			return false;
	return true;
}

static bool all_kept(struct scene *scene)
{
	return kept(scene->memory, 0, PAGES);
}

static bool kept_but_the_middle(struct scene *scene)
{
	return kept(scene->memory, 0, MIDDLE) &&
	       kept(scene->memory + (MIDDLE + SOME) * PAGE, MIDDLE + SOME, PAGES - MIDDLE - SOME);
}

/* Maps as much again. */
static int map(struct scene *scene)
{
	scene->target = map_device(PAGES, MAP_PRIVATE);
	return scene->target == MAP_FAILED ? errno : 0;
}

static bool is_mapped(struct scene *scene)
{
	for (size_t i = 0; i < PAGES; i++)
		if (!is(scene->target + i * PAGE, 0))
			return false;
	return all_kept(scene);
}

/* Makes a part of what is only reserved writable. */
static int use_reserved(struct scene *scene)
{
	if (mprotect(scene->reserved + MIDDLE * PAGE, SOME * PAGE, PROT_READ | PROT_WRITE))
		return errno;
	return store(scene->reserved + MIDDLE * PAGE, 7).signal ? EFAULT : 0;
}

static bool reserved_is_used(struct scene *scene)
{
	return is(scene->reserved + MIDDLE * PAGE, 7) && load(scene->reserved).signal == SIGSEGV && all_kept(scene);
}

/* Touches what was discarded. */
static int touch(struct scene *scene)
{
	for (size_t i = 0; i < SOME; i++)
		if (store(scene->memory + (MIDDLE + i) * PAGE, 7).signal)
			return EFAULT;
	return 0;
}

static bool is_touched(struct scene *scene)
{
	for (size_t i = 0; i < SOME; i++)
		if (!is(scene->memory + (MIDDLE + i) * PAGE, 7))
			return false;
	return kept_but_the_middle(scene);
}

/* Writes what a child has, too. */
static int copy(struct scene *scene)
{
	return touch(scene);
}

static bool is_copied(struct scene *scene)
{
	for (size_t i = 0; i < PAGES; i++)
		if (peer_load(scene->child, scene->memory + i * PAGE).value != word(1, i))
			return false;
	return is_touched(scene);
}

static int split(struct scene *scene)
{
	return mprotect(scene->memory + MIDDLE * PAGE, SOME * PAGE, PROT_READ) ? errno : 0;
}

static int unmap(struct scene *scene)
{
	return munmap(scene->memory + MIDDLE * PAGE, SOME * PAGE) ? errno : 0;
}

static bool is_unmapped(struct scene *scene)
{
	return load(scene->memory + MIDDLE * PAGE).signal == SIGSEGV && kept_but_the_middle(scene);
}

static int discard(struct scene *scene)
{
	return madvise(scene->memory + MIDDLE * PAGE, SOME * PAGE, MADV_DONTNEED) ? errno : 0;
}

/* Whether the middle is gone and the rest is not. What finds no memory is done later: nothing is lost. */
static bool reads_as_discarded(struct scene *scene)
{
	for (size_t i = 0; i < PAGES; i++) {
		bool discarded = i >= MIDDLE && i < MIDDLE + SOME;
		struct access access = load(scene->memory + i * PAGE);

		if (access.signal || access.value != (discarded ? 0 : word(1, i)))
			return false;
	}
	return true;
}

/* A child that is forked before anything is touched inherits what the parent has. */
static bool is_discarded(struct scene *scene)
{
	pid_t child = fork();
	int status;

	if (!child)
		_exit(!reads_as_discarded(scene));
	return waitpid(child, &status, 0) == child && !status && reads_as_discarded(scene);
}

static int remap(char *from, size_t pages, size_t new_pages, int flags, char *to)
{
	return mremap(from, pages * PAGE, new_pages * PAGE, flags, to) == MAP_FAILED ? errno : 0;
}

static int move(struct scene *scene)
{
	return remap(scene->memory, PAGES, PAGES, MREMAP_MAYMOVE | MREMAP_FIXED, scene->target);
}

static bool is_moved(struct scene *scene)
{
	return kept(scene->target, 0, PAGES) && load(scene->memory).signal == SIGSEGV;
}

static int move_the_middle(struct scene *scene)
{
	return remap(scene->memory + MIDDLE * PAGE, SOME, SOME, MREMAP_MAYMOVE | MREMAP_FIXED, scene->target);
}

static bool the_middle_is_moved(struct scene *scene)
{
	return kept(scene->target, MIDDLE, SOME) && kept_but_the_middle(scene);
}

static int move_and_leave(struct scene *scene)
{
	return remap(scene->memory + MIDDLE * PAGE, SOME, SOME, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
		     scene->target);
}

static bool is_moved_and_left(struct scene *scene)
{
	return kept(scene->target, MIDDLE, SOME) && is_discarded(scene);
}

static int move_and_grow(struct scene *scene)
{
	return remap(scene->memory + MIDDLE * PAGE, SOME, 2 * SOME, MREMAP_MAYMOVE | MREMAP_FIXED, scene->target);
}

static int grow(struct scene *scene)
{
	int error = remap(scene->memory, PAGES, PAGES + SOME, 0, NULL);

	return error ? error : store(scene->memory + PAGES * PAGE, 7).signal ? EFAULT : 0;
}

static bool is_grown(struct scene *scene)
{
	return all_kept(scene) && is(scene->memory + PAGES * PAGE, 7) && is(scene->memory + (PAGES + 1) * PAGE, 0);
}

static int shrink(struct scene *scene)
{
	return remap(scene->memory, PAGES, SOME, 0, NULL);
}

static bool is_shrunk(struct scene *scene)
{
	return kept(scene->memory, 0, SOME) && load(scene->memory + SOME * PAGE).signal == SIGSEGV;
}

static int fork_a_child(struct scene *scene)
{
	struct peer *child = new_peer();
	pid_t parent = getpid();
	/* fork() blocks signals meanwhile. That it lets them through again is what could be made to fail. */
	pid_t pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	if (!pid)
		serve(child, parent);
	child->pid = pid;
	scene->child = pid > 0 ? child : NULL;
	return pid > 0 ? 0 : errno;
}

static bool has_a_child(struct scene *scene)
{
	for (size_t i = 0; i < PAGES; i++) {
		struct access access = peer_load(scene->child, scene->memory + i * PAGE);

		if (access.signal ? access.signal != SIGBUS || access.code != BUS_ADRERR : access.value != word(1, i))
			return false;
	}
	return all_kept(scene);
}

/* The pinned pages are still the parent's. */
static bool has_a_child_without_the_write(struct scene *scene)
{
	static char data[SLOW_WRITE_PAGES * PAGE];

	fill(data, SLOW_WRITE_PAGES, 2);
	if (!has_a_child(scene) || end_slow_write(&scene->write, data))
		return false;
	for (size_t i = 0; i < SOME; i++)
		if (!is(scene->memory + (MIDDLE + i) * PAGE, word(2, i)))
			return false;
	fill(scene->memory + MIDDLE * PAGE, SOME, 1);
	for (size_t i = 0; i < SOME; i++) {
		struct access access = peer_load(scene->child, scene->memory + (MIDDLE + i) * PAGE);

		if (!access.signal && access.value != word(1, MIDDLE + i))
			return false;
	}
	return true;
}

/*
 * The guard page makes core mm copy page tables, even where the child has no memory to know what is in them: it must
 * not get a page of the parent's then that the rmap does not find.
 */
static bool has_a_child_apart(struct scene *scene)
{
	char *written = scene->memory, *childs = scene->memory + PAGE, *failed = scene->memory + MIDDLE * PAGE;
	struct access access;

	if (!has_a_child(scene) || store(written, 7).signal)
		return false;
	access = peer_load(scene->child, written);
	if (!access.signal && access.value != word(1, 0))
		return false;
	peer_store(scene->child, childs, 8);
	if (!is(childs, word(1, 1)) || !is(written, 7) || !verified())
		return false;
	if (poison_addr(getpid(), failed) || load(failed).code != BUS_MCEERR_AR)
		return false;
	return peer_load(scene->child, failed).signal == SIGBUS && verified();
}

static int poison(struct scene *scene)
{
	return poison_addr(getpid(), scene->memory + MIDDLE * PAGE);
}

static bool it_is_poisoned(struct scene *scene)
{
	struct access access = load(scene->memory + MIDDLE * PAGE), childs = {};

	if (scene->child)
		childs = peer_load(scene->child, scene->memory + MIDDLE * PAGE);
	return access.signal == SIGBUS && access.code == BUS_MCEERR_AR && (!scene->child || childs.signal == SIGBUS) &&
	       kept(scene->memory, 0, MIDDLE) &&
	       kept(scene->memory + (MIDDLE + 1) * PAGE, MIDDLE + 1, PAGES - MIDDLE - 1);
}

/* What was discarded: there is no page yet. */
static int poison_in_advance(struct scene *scene)
{
	return poison(scene);
}

static bool is_poisoned_in_advance(struct scene *scene)
{
	return load(scene->memory + MIDDLE * PAGE).code == BUS_MCEERR_AR && kept_but_the_middle(scene);
}

static int poison_and_unpoison(struct scene *scene)
{
	int error = poison_pfn(scene->pfn);

	/* The second may be what fails; it can be tried again. */
	return error ? error : unpoison_pfn(scene->pfn) ? unpoison_pfn(scene->pfn) : 0;
}

static int read_debugfs(struct scene *scene)
{
	struct mapping *mappings;
	struct poisoned page;

	return read_mappings(getpid(), &mappings) < 0 || read_poisoned(scene->pfn, &page) || counter("vmas") < 0 ?
		       ENOMEM : 0;
}

/* Poisons some pages in one go: all of them or none. */
static int poison_some(struct scene *scene)
{
	return print_to_file(DEBUGFS "poison_range", "%d %p %p", getpid(), scene->memory + MIDDLE * PAGE,
			     scene->memory + (MIDDLE + SOME) * PAGE);
}

static bool some_are_poisoned(struct scene *scene)
{
	for (size_t i = MIDDLE; i < MIDDLE + SOME; i++)
		if (load(scene->memory + i * PAGE).code != BUS_MCEERR_AR)
			return false;
	return kept_but_the_middle(scene);
}

static int soft_offline(struct scene *scene)
{
	return soft_offline_pfn(scene->pfn);
}

static bool is_offline(struct scene *scene)
{
	return all_kept(scene) && pfn_of(scene->memory + MIDDLE * PAGE) != scene->pfn && !unpoison_pfn(scene->pfn);
}

static int ask_who_would_be_hit(struct scene *scene)
{
	return print_to_file(DEBUGFS "dry_run", "%#lx", scene->pfn);
}

static int ask_who_maps_it(struct scene *scene)
{
	return ask_rmap(scene->pfn);
}

static bool it_is_listed(struct scene *scene, const char *file)
{
	char *text = read_file(file), line[64];
	bool listed;

	snprintf(line, sizeof(line), "pid=%d address=%p", getpid(), scene->memory + MIDDLE * PAGE);
	listed = text && strstr(text, line);
	free(text);
	return listed;
}

static bool hits_are_listed(struct scene *scene)
{
	return it_is_listed(scene, DEBUGFS "dry_run") && all_kept(scene);
}

static bool mappings_are_listed(struct scene *scene)
{
	return it_is_listed(scene, DEBUGFS "rmap") && all_kept(scene);
}

FIXTURE(allocation_failure)
{
	char unused;
};

FIXTURE_VARIANT(allocation_failure)
{
	int (*operation)(struct scene *scene);
	/* Whether it has done what it should if it has succeeded. */
	bool (*done)(struct scene *scene);
	bool with_child, discarded, pinned, guarded;
};

#define VARIANT(name, ...) FIXTURE_VARIANT_ADD(allocation_failure, name) { .operation = name, __VA_ARGS__ }

VARIANT(map, is_mapped);
VARIANT(touch, is_touched, .discarded = true);
VARIANT(copy, is_copied, .with_child = true);
VARIANT(split, all_kept);
VARIANT(unmap, is_unmapped);
VARIANT(discard, is_discarded);
VARIANT(move, is_moved);
VARIANT(move_the_middle, the_middle_is_moved);
VARIANT(move_and_leave, is_moved_and_left);
VARIANT(move_and_grow, the_middle_is_moved);
VARIANT(grow, is_grown);
VARIANT(shrink, is_shrunk);
VARIANT(fork_a_child, has_a_child);
FIXTURE_VARIANT_ADD(allocation_failure, fork_pinned) {
	.operation = fork_a_child, .done = has_a_child_without_the_write, .pinned = true
};
FIXTURE_VARIANT_ADD(allocation_failure, fork_guarded) {
	.operation = fork_a_child, .done = has_a_child_apart, .guarded = true
};
VARIANT(use_reserved, reserved_is_used);
VARIANT(poison, it_is_poisoned);
VARIANT(poison_in_advance, is_poisoned_in_advance, .discarded = true);
VARIANT(poison_and_unpoison, all_kept, .with_child = true);
VARIANT(poison_some, some_are_poisoned);
VARIANT(soft_offline, is_offline);
VARIANT(ask_who_would_be_hit, hits_are_listed);
VARIANT(ask_who_maps_it, mappings_are_listed);
VARIANT(read_debugfs, all_kept);

/* One of these operations, with memory that is shared copy-on-write. */
#define VARIANT_SHARED(name, does, ...)					\
	FIXTURE_VARIANT_ADD(allocation_failure, name) { .operation = does, __VA_ARGS__, .with_child = true }

VARIANT_SHARED(unmap_shared, unmap, is_unmapped);
VARIANT_SHARED(discard_shared, discard, is_discarded);
VARIANT_SHARED(move_shared, move, is_moved);
VARIANT_SHARED(move_the_middle_of_shared, move_the_middle, the_middle_is_moved);
VARIANT_SHARED(fork_shared, fork_a_child, has_a_child);
VARIANT_SHARED(poison_shared, poison, it_is_poisoned);
VARIANT_SHARED(soft_offline_shared, soft_offline, is_offline);

#define FAULTS "/sys/kernel/debug/"

/* Whether allocations of a task can be made to fail. */
static bool can_fail(void)
{
	return !access("/proc/self/fail-nth", W_OK) && !access(FAULTS "failslab", F_OK);
}

/* Sets up how they fail. Returns the setting that can't be made, "" if all can. */
static const char *prepare_failures(void)
{
	/* All allocations can fail, without a word; so can copying from and to the process. */
	static const char *const settings[][2] = {
		{ "failslab/ignore-gfp-wait", "N" },
		{ "failslab/verbose", "0" },
		{ "fail_page_alloc/ignore-gfp-wait", "N" },
		{ "fail_page_alloc/ignore-gfp-highmem", "N" },
		{ "fail_page_alloc/min-order", "0" },
		{ "fail_page_alloc/verbose", "0" },
		{ "fail_usercopy/verbose", "0" },
	};

	for (size_t i = 0; i < sizeof(settings) / sizeof(*settings); i++) {
		char path[64];

		snprintf(path, sizeof(path), FAULTS "%s", settings[i][0]);
		if (write_file(path, settings[i][1], 1))
			return settings[i][0];
	}
	return "";
}

FIXTURE_SETUP(allocation_failure)
{
	if (!can_fail())
		SKIP(return, "this kernel has no fault injection");
	ASSERT_STREQ("", prepare_failures());
}

FIXTURE_LEAVES_NOTHING(allocation_failure);

/* Lets the @nth allocation of this task fail from now on; @fail is its file. */
static bool fail_allocation(int fail, int nth)
{
	char text[16];
	int size = snprintf(text, sizeof(text), "%d", nth);

	return pwrite(fail, text, size, 0) == size;
}

/* Ends that. Whether there were fewer allocations; the look itself can be what fails, which was it then. */
static bool was_spared(int fail)
{
	char text[16] = "";
	bool spared = pread(fail, text, sizeof(text) - 1, 0) < 0 || atoi(text);

	pwrite(fail, "0", 1, 0);
	return spared;
}

/* How an attempt went; the exit status of its process. */
enum outcome { ALL_SUCCEEDED, HARMLESS, NO_SCENE, CHANGED_BY_FAILURE, WRONG_ERROR, NOT_DONE };

static enum outcome attempt(FIXTURE_VARIANT(allocation_failure) const *variant, int nth)
{
	/* Up to where there is room to grow. */
	size_t pages = PAGES + variant->guarded;
	struct scene scene = {};
	int fail, device, error;
	bool spared;

	scene.target = reserve(4 * PAGES);
	fail = open("/proc/thread-self/fail-nth", O_RDWR);
	scene.memory = map_device(2 * PAGES, MAP_PRIVATE);
	device = open(DEVICE, O_RDWR | O_CLOEXEC);
	scene.reserved = mmap(NULL, PAGES * PAGE, PROT_NONE, MAP_PRIVATE, device, 0);
	if (scene.target == MAP_FAILED || fail < 0 || scene.memory == MAP_FAILED || scene.reserved == MAP_FAILED)
		return NO_SCENE;
	/* Room to grow. */
	munmap(scene.memory + pages * PAGE, (2 * PAGES - pages) * PAGE);
	munmap(scene.target, 4 * PAGES * PAGE);
	if (variant->guarded && madvise(scene.memory + PAGES * PAGE, PAGE, MADV_GUARD_INSTALL))
		return NO_SCENE;
	fill(scene.memory, PAGES, 1);
	scene.pfn = pfn_of(scene.memory + MIDDLE * PAGE);
	if (variant->discarded)
		discard(&scene);
	if (variant->with_child) {
		scene.child = fork_peer();
		if (!scene.child || peer_load(scene.child, scene.memory + MIDDLE * PAGE).signal)
			return NO_SCENE;
	}
	if (variant->pinned && begin_slow_write(&scene.write, scene.memory + MIDDLE * PAGE, SOME * PAGE))
		return NO_SCENE;

	if (!fail_allocation(fail, nth))
		return NO_SCENE;
	error = variant->operation(&scene);
	spared = was_spared(fail);

	/* EFAULT: copying from and to the process fails, too. */
	if (error && error != ENOMEM && error != EAGAIN && error != EFAULT)
		return WRONG_ERROR;
	if (error && !variant->discarded && !filled(scene.memory, 0, PAGES, 1))
		return CHANGED_BY_FAILURE;
	if (!error && !variant->done(&scene))
		return NOT_DONE;
	return spared && !error ? ALL_SUCCEEDED : HARMLESS;
}

TEST_F(allocation_failure, harms_nothing)
{
	enum { MANY = 500 };
	int nth, status = 0;

	for (nth = 1; nth < MANY; nth++) {
		pid_t pid = fork();

		ASSERT_LE(0, pid);
		if (!pid)
			_exit(attempt(variant, nth));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_TRUE(WIFEXITED(status)) {
			TH_LOG("allocation %d: signal %d", nth, WTERMSIG(status));
		}
		status = WEXITSTATUS(status);
		EXPECT_TRUE(status == ALL_SUCCEEDED || status == HARMLESS) {
			TH_LOG("allocation %d: outcome %d", nth, status);
		}
		EXPECT_STREQ("", leak()) {
			TH_LOG("allocation %d", nth);
		}
		if (status == ALL_SUCCEEDED)
			break;
	}
	/* All was tried, and something did fail. */
	EXPECT_EQ(ALL_SUCCEEDED, status);
	EXPECT_LT(1, nth);
}

/* Pages that are moved: so many that one of them can fail meanwhile. */
#define MOVED 1024
/* To another place in a page table, so that core mm does not move whole ones. */
#define OFF 7
#define ROOM (MOVED + 512)

FIXTURE(moved_page)
{
	char *place, *other;
	/* Has nothing of the memory. */
	struct peer *poisoner;
	int fail;
};

FIXTURE_SETUP(moved_page)
{
	if (!can_fail())
		SKIP(return, "this kernel has no fault injection");
	ASSERT_STREQ("", prepare_failures());
	self->other = reserve(ROOM);
	ASSERT_NE(MAP_FAILED, self->other);
}

FIXTURE_LEAVES_NOTHING(moved_page);

static long poison_after(void *pfn, long ns)
{
	struct timespec delay = { .tv_nsec = ns };

	nanosleep(&delay, NULL);
	return poison_pfn((uintptr_t)pfn);
}

static bool is_readable(const char *address)
{
	return !load(address).signal;
}

/* When a move fails core mm moves entries back, perhaps past who looks for them. */
TEST_F_TIMEOUT(moved_page, is_unreadable_once_it_has_failed_if_its_move_finds_no_memory, 3600)
{
	const long size = MOVED * PAGE;

	WATCHED(SECONDS_OF_A_RACE + nr_rounds * 10) {
		long moved = 0, failed = 0, refused = 0, readable = 0, lost = 0;
		/* How long a move takes, about. */
		uint64_t duration = NS_PER_SECOND / 1000;
		struct random random = { 1 };
		bool spared = false;
		int nth;

		self->poisoner = fork_peer();
		ASSERT_NE(NULL, self->poisoner);
		self->place = map_device(MOVED, MAP_PRIVATE);
		ASSERT_NE(MAP_FAILED, self->place);
		self->fail = open("/proc/thread-self/fail-nth", O_RDWR);
		ASSERT_LE(0, self->fail);
		ASSERT_EQ(0, munmap(self->other, ROOM * PAGE));
		self->other += (((self->place - self->other) / PAGE + OFF) & 511) * PAGE;
		for (nth = 1; !spared; nth++) {
			for (long round = 0; round < nr_rounds; round++) {
				size_t page = below(&random, MOVED);
				uint64_t pfn, begin;
				char *to;

				for (size_t i = 0; i < MOVED; i++)
					EXPECT_WORD(word(1, i), store(self->place + i * PAGE, word(1, i)));
				pfn = pfn_of(self->place + page * PAGE);
				ASSERT_NE(0, pfn);
				begin_peer_call(self->poisoner, poison_after, (void *)pfn, below(&random, duration));
				ASSERT_TRUE(fail_allocation(self->fail, nth));
				begin = now_ns();
				to = mremap(self->place, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, self->other);
				duration = now_ns() - begin;
				spared = was_spared(self->fail) && to != MAP_FAILED;
				refused += end_peer_call(self->poisoner) != 0;
				readable += is_readable(self->place + page * PAGE) ||
					    is_readable(self->other + page * PAGE);
				ASSERT_EQ(0, unpoison_pfn(pfn));
				if (to == MAP_FAILED) {
					failed++;
				} else {
					moved++;
					self->other = self->place;
					self->place = to;
				}
				lost += !is(self->place + page * PAGE, word(1, page));
			}
		}
		TH_LOG("%ld moves, %ld that failed", moved, failed);
		EXPECT_EQ(0, refused);
		EXPECT_EQ(0, readable);
		EXPECT_EQ(0, lost);
		EXPECT_LT(0, failed);
	}
}

int main(int argc, char **argv)
{
	if (argc == 2 && *argv[1] != '-') {
		nr_rounds = atol(argv[1]);
		argc = 1;
	}
	return test_harness_run(argc, argv);
}
