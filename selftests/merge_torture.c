// SPDX-License-Identifier: GPL-2.0-only
/*
 * Processes whose pages are equal, nearly equal or different, and change under the scanner, while they fork, move, discard and lose pages.
 * Each knows what its pages contain. After each round an oracle counts the contents: there are as many frames, and who has the same content
 * has the same frame. What each process does depends on the seed alone.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "../rust/uapi/anon_rmap.h"
#include "lib/debugfs.h"
#include "lib/device.h"
#include "lib/file.h"
#include "lib/pagemap.h"
#include "lib/patience.h"
#include "lib/process.h"
#include "lib/random.h"
#include "lib/stats.h"
#include "lib/uapi.h"
#include "kselftest.h"

#define MERGE DEBUGFS "merge/"
#define PROCESSES 16
#define NR_PAGES 96
#define STEPS 300
/* Contents that many have. */
#define COMMON 12
/* How long a page that has failed may stay so. */
#define SECONDS 60

/* A content by its number: 0 are zeroes; of others, the low bits say which of the common ones it is, and the rest which byte differs. */
#define NEARLY(common, offset) ((uint64_t)(common) | (uint64_t)((offset) + 1) << 32)

/* What all know. */
static struct world {
	atomic_int arrived, failed;
	atomic_uint round;
	struct {
		uint64_t content[NR_PAGES], pfn[NR_PAGES];
	} seen[PROCESSES];
	atomic_ulong forks, failures, moves, refused;
} *world;

/* This process. */
static struct {
	unsigned int number;
	uint64_t seed;
	char *memory;
	uint64_t content[NR_PAGES];
	pid_t child;
} self;

static __attribute__((format(printf, 1, 2))) void fail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fprintf(stderr, "# process %u: ", self.number);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	va_end(arguments);
	atomic_store(&world->failed, 1);
}

static int device_fd;

static sigjmp_buf refused;

static void on_sigbus(int signal)
{
	(void)signal;
	siglongjmp(refused, 1);
}

static uint64_t word_of(uint64_t content, size_t word)
{
	uint32_t common = content;
	uint64_t value = common ? ((uint64_t)common << 32) + word : 0;

	if (content >> 32 && ((content >> 32) - 1) / sizeof(uint64_t) == word)
		value ^= 0x80UL << ((content >> 32) - 1) % sizeof(uint64_t) * 8;
	return value;
}

/* Writes the page, or compares it; returns how many words are right, up to the first that is not. Others can let it fail for a moment. */
static size_t touch(size_t page, uint64_t content, bool write)
{
	struct patience patience = patience_for(SECONDS);
	volatile uint64_t *volatile words = (volatile uint64_t *)(self.memory + page * PAGE);
	size_t word;

	while (sigsetjmp(refused, 1)) {
		atomic_fetch_add(&world->refused, 1);
		if (ran_out(&patience)) {
			fail("page %zu does not come back", page);
			return 0;
		}
		usleep(100);
	}
	for (word = 0; word < PAGE / sizeof(*words); word++)
		if (write)
			words[word] = word_of(content, word);
		else if (words[word] != word_of(content, word))
			break;
	return word;
}

static void check(size_t page)
{
	size_t word = touch(page, self.content[page], false);

	if (word < PAGE / sizeof(uint64_t) && !atomic_load(&world->failed))
		fail("round %u, page %zu, word %zu: content %#lx is %#lx in place of %#lx", atomic_load(&world->round), page, word,
		     self.content[page], ((uint64_t *)(self.memory + page * PAGE))[word], word_of(self.content[page], word));
}

static void write_some(struct random *random, size_t page)
{
	uint64_t common = below(random, COMMON + 1), content = common;

	if (one_in(random, 4))
		content = NEARLY(common, below(random, PAGE));
	/* Until it is written whole, it is something else. */
	touch(page, content, true);
	self.content[page] = content;
}

/* A child that sees what was there, changes it and ends. */
static void fork_some(struct random *random)
{
	int status;

	if (self.child) {
		waitpid(self.child, &status, 0);
		if (status && status != SIGKILL)
			fail("a child ended with %#x", status);
	}
	self.child = fork();
	if (self.child) {
		atomic_fetch_add(&world->forks, 1);
		if (one_in(random, 4))
			kill(self.child, SIGKILL);
		return;
	}
	die_with(getppid());
	for (size_t page = 0; page < NR_PAGES; page++) {
		check(page);
		if (one_in(random, 3)) {
			write_some(random, page);
			check(page);
		}
	}
	_exit(atomic_load(&world->failed));
}

static void move(struct random *random)
{
	size_t first = below(random, NR_PAGES), pages = 1 + below(random, NR_PAGES - first);
	char *from = self.memory + first * PAGE, *away = reserve(pages);
	void *moved = mremap(from, pages * PAGE, pages * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, away);

	if (moved != away || mremap(away, pages * PAGE, pages * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, from) != from)
		fail("mremap: %m");
	atomic_fetch_add(&world->moves, 1);
}

static void lose(size_t page)
{
	uint64_t pfn = pfn_of(self.memory + page * PAGE);
	int error = poison_addr(getpid(), self.memory + page * PAGE);

	if (error && error != EHWPOISON && error != ENODATA)
		fail("poison_addr: %s", strerror(error));
	if (error)
		return;
	atomic_fetch_add(&world->failures, 1);
	/* It stays in its frame as long as it has failed, but was perhaps in another one before. */
	for (struct patience patience = patience_for(SECONDS); ; ) {
		struct anon_rmap_range range = { (uintptr_t)(self.memory + page * PAGE), PAGE, 0, 0 };

		if (ioctl(device_fd, ANON_RMAP_UNPOISON, &range) == 1 || errno == ENOENT)
			break;
		if (ran_out(&patience)) {
			fail("unpoison of frame %#lx: %m", pfn);
			break;
		}
	}
}

static void offline(size_t page)
{
	uint64_t pfn = pfn_of(self.memory + page * PAGE);
	int error = pfn ? soft_offline_pfn(pfn) : 0;

	if (!pfn || pfn == pfn_of_zeroes())
		return;
	if (error && error != EBUSY && error != EHWPOISON && error != ENXIO)
		fail("soft_offline: %s", strerror(error));
	if (!error && unpoison_pfn(pfn))
		fail("frame %#lx stays out of use", pfn);
}

static void step(unsigned long number)
{
	struct random random = random_of_step(self.seed * PROCESSES + self.number, number);
	size_t page = below(&random, NR_PAGES);

	switch (below(&random, 32)) {
	case 0:
		fork_some(&random);
		break;
	case 1:
		move(&random);
		break;
	case 2:
		if (madvise(self.memory + page * PAGE, PAGE, MADV_DONTNEED))
			fail("madvise: %m");
		self.content[page] = 0;
		break;
	case 3:
		lose(page);
		break;
	case 4:
		offline(page);
		break;
	case 5 ... 12:
		check(page);
		break;
	case 13:
		usleep(1000);
		break;
	default:
		write_some(&random, page);
	}
}

/* Waits for all others, and for the one that looks at what all have seen. */
static void meet(unsigned int round)
{
	atomic_fetch_add(&world->arrived, 1);
	while (atomic_load(&world->round) == round && !atomic_load(&world->failed))
		usleep(1000);
}

static void run_process(unsigned int number, uint64_t seed)
{
	struct sigaction action = { .sa_handler = on_sigbus, .sa_flags = SA_NODEFER };
	unsigned long steps = 0;

	self.number = number;
	self.seed = seed;
	sigaction(SIGBUS, &action, NULL);
	self.memory = map_device(NR_PAGES, MAP_PRIVATE);
	for (unsigned int round = 0; !atomic_load(&world->failed); round += 2) {
		for (unsigned int i = 0; i < STEPS && !atomic_load(&world->failed); i++)
			step(steps++);
		if (self.child)
			waitpid(self.child, NULL, 0);
		self.child = 0;
		meet(round);
		/* What there is does not change any more, and has been scanned. */
		for (size_t page = 0; page < NR_PAGES; page++) {
			check(page);
			world->seen[number].content[page] = self.content[page];
			world->seen[number].pfn[page] = pfn_of(self.memory + page * PAGE);
		}
		meet(round + 1);
		if (atomic_load(&world->arrived) < 0)
			break;
	}
}

static bool has_scanned(uint64_t scans)
{
	return counter("full_scans_total") >= (long)scans;
}

struct place {
	uint64_t content, pfn;
	unsigned int process, page;
};

static int by_content(const void *a, const void *b)
{
	const struct place *one = a, *other = b;

	return (one->content > other->content) - (one->content < other->content);
}

static int by_pfn(const void *a, const void *b)
{
	const struct place *one = a, *other = b;

	return (one->pfn > other->pfn) - (one->pfn < other->pfn);
}

/* The oracle; returns how many contents there are. */
static size_t look_at_all(void)
{
	static struct place places[PROCESSES * NR_PAGES];
	size_t count = 0, contents = 0;

	for (unsigned int process = 0; process < PROCESSES; process++)
		for (unsigned int page = 0; page < NR_PAGES; page++) {
			uint64_t content = world->seen[process].content[page], pfn = world->seen[process].pfn[page];

			if (content)
				places[count++] = (struct place){ content, pfn, process, page };
			else if (pfn && pfn != pfn_of_zeroes())
				fail("zeroes of process %u, page %u, have frame %#lx", process, page, pfn);
		}
	qsort(places, count, sizeof(*places), by_content);
	for (size_t i = 0; i < count; i++) {
		bool is_new = !i || places[i].content != places[i - 1].content;

		contents += is_new;
		if (!is_new && places[i].pfn != places[i - 1].pfn)
			fail("content %#lx is in frames %#lx (process %u, page %u) and %#lx (process %u, page %u)",
			     places[i].content, places[i - 1].pfn, places[i - 1].process, places[i - 1].page, places[i].pfn,
			     places[i].process, places[i].page);
	}
	qsort(places, count, sizeof(*places), by_pfn);
	for (size_t i = 1; i < count; i++)
		if (places[i].pfn == places[i - 1].pfn && places[i].content != places[i - 1].content)
			fail("frame %#lx has contents %#lx and %#lx", places[i].pfn, places[i - 1].content, places[i].content);
	return contents;
}

/* Waits until all processes are there; false if one has failed. */
static bool await_all(void)
{
	while (atomic_load(&world->arrived) < PROCESSES) {
		if (atomic_load(&world->failed))
			return false;
		if (waitpid(-1, NULL, WNOHANG) > 0) {
			fail("a process has ended");
			return false;
		}
		usleep(1000);
	}
	return true;
}

static void go_on(bool is_last)
{
	atomic_store(&world->arrived, is_last ? -PROCESSES : 0);
	atomic_fetch_add(&world->round, 1);
}

static bool set(const char *name, unsigned int number)
{
	char path[128];

	snprintf(path, sizeof(path), MERGE "%s", name);
	return !print_to_file(path, "%u", number);
}

static void run(uint64_t seed, unsigned int rounds, double seconds)
{
	const uint64_t begin = now_ns();
	size_t contents = 0;
	unsigned int done = 0;

	memset(world, 0, sizeof(*world));
	for (unsigned int process = 0; process < PROCESSES; process++)
		if (!fork()) {
			die_with(getppid());
			run_process(process, seed);
			_exit(0);
		}
	for (bool is_last = false; !is_last; ) {
		if (!await_all())
			break;
		/* Seen, seen again, and a scan that had begun before. */
		await(has_scanned, counter("full_scans_total") + 4);
		go_on(false);
		if (!await_all())
			break;
		contents = look_at_all();
		if (!verified())
			fail("verify has found something");
		done++;
		is_last = atomic_load(&world->failed) || (seconds ? now_ns() - begin >= seconds * NS_PER_SECOND : done >= rounds);
		go_on(is_last);
	}
	while (wait(NULL) > 0)
		;
	if (*leak())
		fail("%s are left", leak());
	ksft_print_msg("%u rounds: %zu contents of %d pages in the last; %lu forks, %lu moves, %lu failures, %lu accesses refused\n", done,
		       contents, PROCESSES * NR_PAGES, world->forks, world->moves, world->failures, world->refused);
	ksft_test_result(!atomic_load(&world->failed), "seed %lu\n", seed);
}

int main(int argc, char **argv)
{
	uint64_t seed = argc > 1 ? strtoul(argv[1], NULL, 0) : 1, seeds = argc > 2 ? strtoul(argv[2], NULL, 0) : 1;
	double seconds = argc > 3 ? strtod(argv[3], NULL) : 0;

	if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		puts("usage: merge_torture [SEED [SEEDS [SECONDS]]]: from seed SEED (1) on so many SEEDS (1), SECONDS each (else some rounds)");
		return 0;
	}
	ksft_print_header();
	device_fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	if (device_fd < 0)
		ksft_exit_skip("%s: %s\n", DEVICE, strerror(errno));
	world = map_shared(sizeof(*world));
	if (world == MAP_FAILED)
		ksft_exit_fail_perror("mmap");
	ksft_set_plan(seeds);
	if (!set("pages_to_scan", 256) || !set("sleep_millisecs", 1) || !set("run", 1))
		ksft_exit_fail_msg("no merging\n");
	if (prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0))
		ksft_exit_skip("PR_SET_MEMORY_MERGE: %s\n", strerror(errno));
	for (uint64_t i = 0; i < seeds; i++)
		run(seed + i, repeats(4), seconds);
	set("run", 0);
	ksft_finished();
}
