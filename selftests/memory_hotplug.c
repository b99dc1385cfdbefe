// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages in memory that is unplugged: QEMU's monitor plugs a DIMM, which is one block of memory to the kernel, and pulls it
 * again. For a guest that has slots for these, see qemu/machine-check-test.
 */
#include <sys/time.h>

#include "lib/fixture.h"
#include "lib/hwpoison.h"
#include "lib/pool.h"
#include "lib/slab.h"

#define PAGES 64
#define BLOCK_SHIFT 27
#define BLOCKS "/sys/devices/system/memory/"

/* A file of a memory block. */
struct path {
	char text[128];
};

static struct path file_of(uint64_t block, const char *file)
{
	struct path path;

	snprintf(path.text, sizeof(path.text), BLOCKS "memory%lu/%s", block, file);
	return path;
}

static bool is_gone(uint64_t block)
{
	return access(file_of(block, "").text, F_OK);
}

/* Which of the first 64 blocks are there: a bit for each. */
static uint64_t blocks(void)
{
	uint64_t found = 0;

	for (uint64_t block = 0; block < 64; block++)
		if (!is_gone(block))
			found |= 1UL << block;
	return found;
}

static bool has_come(uint64_t before)
{
	return blocks() & ~before;
}

/* Has QEMU plug in DIMM number @dimm, which stays offline. The number of its block; 0 if none comes. */
static uint64_t plug(int dimm)
{
	char *policy = read_file(BLOCKS "auto_online_blocks");
	uint64_t before = blocks(), block = 0;

	if (!policy || write_text(BLOCKS "auto_online_blocks", "offline")) {
		free(policy);
		return 0;
	}
	dprintf(STDOUT_FILENO, "monitor: object_add memory-backend-ram,id=ram%d,size=%luM\n", dimm, (1UL << BLOCK_SHIFT) >> 20);
	dprintf(STDOUT_FILENO, "monitor: device_add pc-dimm,id=dimm%d,memdev=ram%d\n", dimm, dimm);
	if (await(has_come, before))
		block = __builtin_ctzl(blocks() & ~before);
	write_text(BLOCKS "auto_online_blocks", policy);
	free(policy);
	return block;
}

/* The file `state` of the block, open: to open it would allocate what can't move from the block when that is online. */
static int state = -1;

/* Opens it in this process; returns 0 or the errno. */
static long open_state(void *unused, long block)
{
	(void)unused;
	state = open(file_of(block, "state").text, O_RDWR | O_CLOEXEC);
	return state < 0 ? errno : 0;
}

/* Returns 0 or the errno. */
static int set_state(const char *text)
{
	return pwrite(state, text, strlen(text), 0) < 0 ? errno : 0;
}

static void interrupt(int signal)
{
	(void)signal;
}

/* Returns 0 or the errno. The kernel tries again by itself until there is a signal. */
static int take_offline(void)
{
	const struct itimerval time = { .it_value = { .tv_sec = 1 } }, no_time = {};
	const struct sigaction action = { .sa_handler = interrupt };
	int error;

	if (sigaction(SIGALRM, &action, NULL) || setitimer(ITIMER_REAL, &time, NULL))
		return errno;
	error = set_state("offline");
	setitimer(ITIMER_REAL, &no_time, NULL);
	return error;
}

static bool is_online(void)
{
	char text[16] = "";

	return pread(state, text, sizeof(text) - 1, 0) > 0 && strcmp(text, "offline\n");
}

/* Something else may be in the block, which goes by and by. */
static bool goes_offline(void)
{
	for (int attempt = 0; attempt < 5; attempt++) {
		if (!is_online() || !take_offline())
			return true;
		shrink_slabs();
		write_text("/proc/sys/vm/drop_caches", "3");
		usleep(100000);
	}
	return false;
}

/* Whether it is the driver that keeps the block from that, as the kernel's log says. */
static bool is_kept_by_the_driver(void)
{
	int log = open("/dev/kmsg", O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char record[8192];
	bool is_kept = false;
	ssize_t size;

	write_text("/sys/kernel/debug/dynamic_debug/control", "func offline_pages +p");
	lseek(log, 0, SEEK_END);
	if (is_online())
		take_offline();
	while ((size = read(log, record, sizeof(record) - 1)) > 0) {
		record[size] = '\0';
		is_kept |= strstr(record, "failed due to notifier failure") != NULL;
	}
	close(log);
	return is_kept;
}

/* Has QEMU pull the DIMM, whose block is offline. False if it stays. */
static bool unplug(int dimm, uint64_t block)
{
	dprintf(STDOUT_FILENO, "monitor: device_del dimm%d\n", dimm);
	if (!await(is_gone, block))
		return false;
	dprintf(STDOUT_FILENO, "monitor: object_del ram%d\n", dimm);
	return true;
}

static bool is_in(uint64_t block, uint64_t pfn)
{
	return pfn >> (BLOCK_SHIFT - PAGE_SHIFT) == block;
}

/* Touches every other page until one is in the block, which is returned; NULL if none is. */
static char *touch_in(uint64_t block, char *memory)
{
	for (char *page = memory; page < memory + PAGES * PAGE; page += 2 * PAGE) {
		store(page, 1);
		if (is_in(block, pfn_of(page)))
			return page;
	}
	return NULL;
}

/* Tries to take the block offline until it is, or @has_ended says so. How often that was refused. */
static long take_offline_until(void *has_ended, long unused)
{
	long refused = 0;

	(void)unused;
	while (!__atomic_load_n((bool *)has_ended, __ATOMIC_ACQUIRE) && take_offline())
		refused++;
	return refused;
}

FIXTURE(memory_hotplug)
{
	int dimm;
	uint64_t block;
	char *memory;
	/* One that is in the block, and its frame. */
	char *page;
	uint64_t pfn;
	/* Takes the block offline until that is set. */
	struct peer *other;
	bool *has_ended;
};

FIXTURE_VARIANT(memory_hotplug)
{
	/* Whether the kernel is kept from marking and counting what fails. */
	bool filter;
};

FIXTURE_VARIANT_ADD(memory_hotplug, counted) { .filter = false };
FIXTURE_VARIANT_ADD(memory_hotplug, filtered) { .filter = true };

FIXTURE_SETUP(memory_hotplug)
{
	uint64_t first_pfn;
	int filter = -1;

	if (!getenv("MONITOR"))
		SKIP(return, "needs QEMU's monitor");
	if (pool(&first_pfn))
		SKIP(return, "pages are of the pool");
	if (access("/sys/firmware/acpi/hotplug/memory", F_OK))
		SKIP(return, "the kernel has no memory hotplug");
	if (access("/sys/bus/acpi/devices/PNP0C80:00", F_OK))
		SKIP(return, "the guest has no slots for DIMMs");
	if (variant->filter) {
		if (!has_hwpoison_inject() || write_text(HWPOISON_FILTER_MEMCG, "999999"))
			SKIP(return, "the kernel has no filter by memory cgroup");
		filter = open(HWPOISON_FILTER, O_WRONLY | O_CLOEXEC);
		ASSERT_LE(0, filter);
	}
	/* What can't move is allocated before the block is there, and kept: processes, page tables, and slabs with what a test needs. */
	self->has_ended = map_shared(PAGE);
	ASSERT_NE(MAP_FAILED, self->has_ended);
	*self->has_ended = true;
	self->other = fork_peer();
	ASSERT_NE(NULL, self->other);
	ASSERT_EQ(0, peer_call(self->other, take_offline_until, self->has_ended, 0));
	*self->has_ended = false;
	self->memory = map_device(PAGES, MAP_PRIVATE);
	ASSERT_NE(MAP_FAILED, self->memory);
	fill(self->memory, PAGES, 1);
	self->pfn = pfn_of(self->memory);
	ASSERT_EQ(0, soft_offline_pfn(self->pfn));
	ASSERT_EQ(0, unpoison_pfn(self->pfn));
	self->pfn = pfn_of(self->memory);
	ASSERT_EQ(0, poison_pfn(self->pfn));
	ASSERT_EQ(0, unpoison_pfn(self->pfn));
	counter("quarantined");
	for (size_t i = 0; i < PAGES; i += 2)
		ASSERT_EQ(0, madvise(self->memory + i * PAGE, PAGE, MADV_DONTNEED));
	self->dimm = getpid();
	self->block = plug(self->dimm);
	if (!self->block)
		SKIP(return, "no DIMM came: no slot is free");
	ASSERT_EQ(0, open_state(NULL, self->block));
	ASSERT_EQ(0, peer_call(self->other, open_state, NULL, self->block));
	ASSERT_EQ(0, set_state("online_kernel"));
	self->page = touch_in(self->block, self->memory);
	if (!self->page) {
		munmap(self->memory, PAGES * PAGE);
		if (goes_offline())
			unplug(self->dimm, self->block);
		SKIP(return, "no page came to lie in the block");
	}
	self->pfn = pfn_of(self->page);
	/* The last: who is skipped before is not torn down. */
	if (variant->filter) {
		ASSERT_EQ(1, write(filter, "1", 1));
	}
}

/* In the parent, when the memory is unmapped. A DIMM that can't be pulled is left in its slot. */
FIXTURE_TEARDOWN_PARENT(memory_hotplug)
{
	write_text(HWPOISON_FILTER, "0");
	if (self->block && !is_gone(self->block) && !open_state(NULL, self->block) && goes_offline()) {
		EXPECT_TRUE(unplug(self->dimm, self->block));
	}
	EXPECT_STREQ("", leak());
}

/*
 * The block stays as long as a process has its page, which has failed: also while that fails. memory_failure() sets the mark, and then
 * waits for who takes the block offline, to whom what is marked is nobody's.
 */
TEST_F_TIMEOUT(memory_hotplug, block_goes_when_nobody_has_what_has_failed_there, 120)
{
	begin_peer_call(self->other, take_offline_until, self->has_ended, 0);
	usleep(20000);
	ASSERT_EQ(0, hard_offline_pfn(self->pfn));
	usleep(100000);
	__atomic_store_n(self->has_ended, true, __ATOMIC_RELEASE);
	EXPECT_LT(0, end_peer_call(self->other));
	ASSERT_TRUE(is_online());
	EXPECT_EQ(EBUSY, take_offline());
	EXPECT_SIGBUS(self->page, load(self->page));
	ASSERT_EQ(0, munmap(self->memory, PAGES * PAGE));
	EXPECT_TRUE(is_listed_as_hardware(self->pfn));
	/* References that core mm collects have to go first. */
	for (int attempt = 0; attempt < 3 && take_offline(); attempt++)
		usleep(10000);
	EXPECT_FALSE(is_kept_by_the_driver());
	if (!goes_offline()) {
		/* A test that is skipped has not failed. */
		ASSERT_TRUE(__test_passed(_metadata));
		SKIP(return, "something else stays in the block");
	}
	EXPECT_FALSE(is_out_of_use(self->pfn));
	ASSERT_TRUE(unplug(self->dimm, self->block));
	EXPECT_FALSE(is_out_of_use(self->pfn));
	EXPECT_EQ(ENXIO, unpoison_pfn(self->pfn));
}

TEST_HARNESS_MAIN
