// SPDX-License-Identifier: GPL-2.0-only
/* What a memory cgroup is charged for: pages as for anonymous memory, and all that the driver needs to keep track of them. */
#include <sys/stat.h>
#include <sys/uio.h>

#include "lib/fixture.h"
#include "lib/hwpoison.h"
#include "lib/memcg.h"
#include "lib/slab.h"

#define MEBIBYTE (1L << 20)
/* Each CPU may be charged for some pages beforehand. */
#define TOLERANCE (4 * MEBIBYTE)
/* Memory that nobody is charged for. */
#define UNCHARGED (8 * MEBIBYTE)

/* What the whole machine has left when it has dropped what it can, with what each CPU keeps for itself. */
static long left(void)
{
	static const char name[] = " count: ";
	char *zones, *found;
	long pages = 0;

	write_text("/proc/sys/vm/drop_caches", "3");
	shrink_slabs();
	zones = read_file("/proc/zoneinfo");
	for (found = zones; found && (found = strstr(found, name)); found++)
		pages += strtol(found + strlen(name), NULL, 10);
	free(zones);
	return number_in("/proc/meminfo", "MemFree:") * 1024 + pages * (long)PAGE;
}

FIXTURE(memory_cgroup)
{
	int dummy;
};

FIXTURE_VARIANTS_ON_BOTH(memory_cgroup);

FIXTURE_HAS_MEMCG(memory_cgroup);

static long join_group(void *unused, long limit)
{
	(void)unused;
	return print_to_file(MEMCG "/memory.max", "%ld", limit) ?: join_memcg(NULL, 0);
}

/* A process in the group; NULL if that can't be. */
static struct peer *fork_user(long limit)
{
	struct peer *user = fork_peer();

	return user && !peer_call(user, join_group, NULL, limit) ? user : NULL;
}

static long become_nobody_here(void *unused, long unused_too)
{
	(void)unused;
	(void)unused_too;
	return become_nobody();
}

static long fill_here(void *memory, long pages)
{
	for (long i = 0; i < pages; i++)
		if (store((char *)memory + i * PAGE, i).signal)
			return EFAULT;
	return 0;
}

static long discard_here(void *memory, long pages)
{
	return madvise(memory, pages * PAGE, MADV_DONTNEED) ? errno : 0;
}

#define PAGES 8192L
#define BYTES (PAGES * (long)PAGE)

#define EXPECT_CHARGED(expected_bytes) do {					\
	long bytes = (expected_bytes), before = self_before, more;		\
	struct patience patience = patience_for(5);				\
										\
	while (labs((more = memcg_charged() - before) - bytes) > TOLERANCE &&		\
	       !ran_out(&patience))						\
		usleep(10000);							\
	EXPECT_GE(TOLERANCE, labs(more - bytes)) {				\
		TH_LOG("%ld KiB are charged, not %ld", more >> 10, bytes >> 10);\
	}									\
} while (0)

TEST_F(memory_cgroup, pages)
{
	char *memory = map_private(variant->device, PAGES);
	struct peer *user, *child;
	long self_before;

	ASSERT_NE(MAP_FAILED, memory);
	ASSERT_EQ(0, madvise(memory, BYTES, MADV_NOHUGEPAGE));
	user = fork_user(4 * BYTES);
	ASSERT_NE(NULL, user);
	self_before = memcg_charged();
	ASSERT_EQ(0, peer_call(user, fill_here, memory, PAGES));
	EXPECT_CHARGED(BYTES);
	/* To core mm they are the driver's. */
	EXPECT_LE(BYTES - TOLERANCE, number_in(MEMCG "/memory.stat", variant->device ? "\nkernel " : "anon "));
	child = peer_fork(user);
	ASSERT_NE(NULL, child);
	EXPECT_CHARGED(BYTES);
	ASSERT_EQ(0, peer_call(child, fill_here, memory, PAGES / 2));
	EXPECT_CHARGED(BYTES + BYTES / 2);
	ASSERT_EQ(0, peer_call(user, discard_here, memory, PAGES));
	/* What the child still has of it. */
	EXPECT_CHARGED(BYTES);
	kill(child->pid, SIGKILL);
	EXPECT_CHARGED(0);
	end_peer(user);
}

static long write_there(void *memory, long pid)
{
	char byte = 1;

	for (long i = 0; i < PAGES; i++) {
		struct iovec source = { &byte, 1 }, target = { (char *)memory + i * PAGE, 1 };

		if (process_vm_writev(pid, &source, 1, &target, 1, 0) != 1)
			return errno;
	}
	return 0;
}

/* The owner of the memory is charged, not who writes there first. */
TEST_F(memory_cgroup, pages_that_another_process_writes)
{
	char *memory = map_private(variant->device, PAGES);
	struct peer *user, *writer;
	long self_before;

	ASSERT_NE(MAP_FAILED, memory);
	ASSERT_EQ(0, madvise(memory, BYTES, MADV_NOHUGEPAGE));
	user = fork_user(4 * BYTES);
	ASSERT_NE(NULL, user);
	writer = fork_peer();
	ASSERT_NE(NULL, writer);
	self_before = memcg_charged();
	ASSERT_EQ(0, peer_call(writer, write_there, memory, user->pid));
	EXPECT_CHARGED(BYTES);
	end_peer(user);
	end_peer(writer);
}

#define FAILED 1024L

static uint64_t *failed_pfns;

/* Lets the kernel inject a failure into the page at @page. Returns 0, or the errno if it injects none. */
static int fail_page(char *page)
{
	struct access access = {};
	int error = 0;

	/* Of anonymous memory the process gets a signal at once. */
	ATTEMPT(access, error = madvise(page, PAGE, MADV_HWPOISON) ? errno : 0);
	return error == EINVAL || error == EPERM ? error : 0;
}

static long fail_here(void *memory, long pages)
{
	int error = 0;

	for (long i = 0; !error && i < pages; i++) {
		failed_pfns[i] = pfn_of((char *)memory + i * PAGE);
		error = fail_page((char *)memory + i * PAGE);
	}
	return error;
}

/* As fail_here(), when only pipes have the pages. */
static long fail_in_pipes(void *memory, long pages)
{
	const long most = MEBIBYTE / PAGE;
	int error = 0;

	for (long i = 0; i < pages; i++)
		failed_pfns[i] = pfn_of((char *)memory + i * PAGE);
	for (long i = 0; i < pages; i += most) {
		int ends[2];

		if (pipe(ends) || fcntl(ends[1], F_SETPIPE_SZ, MEBIBYTE) < 0)
			return errno;
		for (long j = i; j < i + most && j < pages; j++) {
			struct iovec page = { (char *)memory + j * PAGE, PAGE };

			if (vmsplice(ends[1], &page, 1, 0) != PAGE)
				return errno;
		}
	}
	if (munmap(memory, pages * PAGE))
		return errno;
	/* Of what it can do nothing about the kernel says that it is busy; it is marked all the same. */
	for (long i = 0; i < pages && (!error || error == EBUSY); i++)
		error = print_to_file(HWPOISON_CORRUPT_PFN, "%#lx", failed_pfns[i]);
	return error == EBUSY ? 0 : error;
}

/* Frames that @fail has made to fail are nobody's, when who had them has ended. */
static void expect_uncharged(struct __test_metadata *_metadata, bool device, long (*fail)(void *memory, long pages))
{
	const long bytes = FAILED * (long)PAGE;
	char *memory = map_private(device, FAILED);
	long before, quarantined = counter("quarantined"), kilobytes = corrupted(), marked = 0;
	struct patience patience;
	struct peer *user;

	if (!has_hwpoison_inject())
		SKIP(return, "no hwpoison-inject");
	ASSERT_NE(MAP_FAILED, memory);
	ASSERT_EQ(0, madvise(memory, bytes, MADV_NOHUGEPAGE));
	failed_pfns = map_shared(FAILED * sizeof(*failed_pfns));
	user = fork_user(4 * bytes);
	ASSERT_NE(NULL, user);
	before = memcg_charged();
	ASSERT_EQ(0, peer_call(user, fill_here, memory, FAILED));
	EXPECT_LE(before + bytes, memcg_charged());
	if (peer_call(user, fail, memory, FAILED))
		SKIP(return, "the kernel injects no failures");
	end_peer(user);
	patience = patience_for(5);
	/* Each CPU may be charged for some pages beforehand. */
	while (memcg_charged() - before > bytes / 2 && !ran_out(&patience))
		usleep(10000);
	EXPECT_GE(bytes / 2, memcg_charged() - before);
	EXPECT_EQ(kilobytes + bytes / 1024, corrupted());
	for (long i = 0; i < FAILED; i++)
		marked += is_marked_bad(failed_pfns[i]);
	EXPECT_EQ(FAILED, marked);
	if (device) {
		EXPECT_TRUE(await(is_quarantined, quarantined + FAILED));
	}
	for (long i = 0; i < FAILED; i++) {
		int error = device ? unpoison_pfn(failed_pfns[i]) :
					      print_to_file(HWPOISON_UNPOISON_PFN, "%#lx", failed_pfns[i]);

		/* After a failure of real hardware the kernel undoes nothing. */
		if (error == EOPNOTSUPP)
			SKIP(return, "real hardware has failed");
		EXPECT_EQ(0, error);
	}
	EXPECT_EQ(kilobytes, corrupted());
}

TEST_F(memory_cgroup, pages_that_have_failed)
{
	expect_uncharged(_metadata, variant->device, fail_here);
}

TEST_F(memory_cgroup, pages_that_have_failed_in_a_pipe)
{
	expect_uncharged(_metadata, variant->device, fail_in_pipes);
}

/* What keeps track of pages that are written one after the other: bytes for each. */
TEST_F(memory_cgroup, metadata)
{
	const long limit = 72;
	char *memory = map_private(variant->device, PAGES);
	struct peer *user;
	long before, taken = 0;

	if (!variant->device)
		SKIP(return, "only of the device");
	if (!access("/sys/kernel/debug/kmemleak", F_OK))
		SKIP(return, "the kernel's own checks make each object larger");
	ASSERT_NE(MAP_FAILED, memory);
	user = fork_user(4 * BYTES);
	ASSERT_NE(NULL, user);
	before = number_in(MEMCG "/memory.stat", "\nslab ");
	ASSERT_EQ(0, peer_call(user, fill_here, memory, PAGES));
	/* The statistics are brought up to date now and then, and in parts: all of the time has to pass. */
	for (struct patience patience = patience_for(5); !ran_out(&patience); usleep(10000))
		taken = number_in(MEMCG "/memory.stat", "\nslab ") - before;
	TH_LOG("%ld.%ld bytes a page", taken / PAGES, taken * 10 / PAGES % 10);
	EXPECT_GE(limit * PAGES, taken);
	/* The anon alone. */
	EXPECT_LE(40 * PAGES, taken);
	end_peer(user);
}

/* As many VMAs as there may be, of a page each, and each third one written. */
static long map_many(void *unused, long count)
{
	int device = open(DEVICE, O_RDWR | O_CLOEXEC);

	(void)unused;
	for (long i = 0; i < count; i++) {
		char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, device, 0);

		if (page == MAP_FAILED)
			break;
		if (i % 3 == 0)
			store(page, i);
	}
	close(device);
	return 0;
}

/* Pages of many generations, and then a VMA for each. The last of them stays. */
static long map_generations(void *unused, long count)
{
	enum { GENERATIONS = 60 };
	char *memory = map_device(count, MAP_PRIVATE);

	(void)unused;
	if (memory == MAP_FAILED)
		return errno;
	for (int i = 0; i < GENERATIONS; i++) {
		pid_t pid;

		store(memory + 2 * i * PAGE, i);
		pid = fork();
		if (pid < 0)
			return errno;
		if (pid) {
			/* The last one is who was asked. */
			if (i)
				_exit(0);
			waitpid(pid, NULL, 0);
			return 0;
		}
	}
	for (long i = 0; i < count; i += 2)
		if (load(memory + i * PAGE).signal || mprotect(memory + i * PAGE, PAGE, PROT_READ))
			break;
	pause();
	return 0;
}

/* A page in each part of a large mapping, and other parts discarded. */
static long map_sparsely(void *unused, long count)
{
	const size_t stride = 64 * PAGE;
	char *memory = map_device(count * 64, MAP_PRIVATE | MAP_NORESERVE);

	(void)unused;
	if (memory == MAP_FAILED)
		return errno;
	for (long i = 0; i < count; i++) {
		if (store(memory + i * stride, i).signal)
			return EFAULT;
		if (i % 8)
			madvise(memory + i * stride, PAGE, MADV_DONTNEED);
	}
	return 0;
}

/* Users without rights in a group of 64 MiB. */
TEST_F_TIMEOUT(memory_cgroup, what_keeps_track_of_them, 900)
{
	static const struct {
		long (*function)(void *unused, long count);
		long count;
	} uses[] = { { map_many, 12000 }, { map_generations, 6000 }, { map_sparsely, 40000 } };
	/*
	 * The kernel's own checks make each object larger, for which the group needs room, and KASAN keeps what is freed from
	 * being used again for a while, for which others take memory.
	 */
	const long parts = access("/sys/kernel/debug/kmemleak", F_OK) ? 1 : 8;

	if (!variant->device)
		SKIP(return, "only of the device");
	ASSERT_EQ(0, chmod(DEVICE, 0666));
	for (size_t i = 0; i < sizeof(uses) / sizeof(*uses); i++) {
		struct peer *user = fork_user(64 * MEBIBYTE);
		long before, taken, uncharged;

		ASSERT_NE(NULL, user);
		ASSERT_EQ(0, peer_call(user, become_nobody_here, NULL, 0));
		before = left() + memcg_charged();
		if (uses[i].function == map_generations) {
			begin_peer_call(user, uses[i].function, NULL, uses[i].count / parts);
			/* Until it pauses. */
			sleep(5);
		} else {
			peer_call(user, uses[i].function, NULL, uses[i].count / parts);
		}
		uncharged = left();
		taken = memcg_charged();
		uncharged = before - (uncharged + taken);
		TH_LOG("%ld KiB are charged, %ld KiB are not; %ld VMAs, %ld links", taken >> 10, uncharged >> 10,
		       counter("vmas"), counter("avcs"));
		EXPECT_GE(UNCHARGED, uncharged);
		EXPECT_LT(0, taken);
		write_text(MEMCG "/cgroup.kill", "1");
		waitpid(user->pid, NULL, 0);
		EXPECT_STREQ("", leak());
		/* What is freed by RCU. */
		sleep(1);
	}
}

TEST_HARNESS_MAIN
