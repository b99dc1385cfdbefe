// SPDX-License-Identifier: GPL-2.0-only
/*
 * The files of debugfs that list something are read in pieces, each in a time and memory that do not grow with the list,
 * and what is there all the time is listed once, whatever comes and goes meanwhile. `listings [VMAS]`: of how many VMAs
 * of one process the longest list is.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "lib/fixture.h"
#include "lib/watchdog.h"

static long nr_vmas = 16000;

/* For each 65000 lines: a multiple of what they take. */
#define SECONDS_OF_A_LIST 2
/* What the kernel has free goes up and down by the lists that each processor keeps. */
#define KIB_OF_NOISE 1024L

/* What reads a list: the next @size bytes of it, from @position on. */
typedef ssize_t reader(int fd, char *text, size_t size, off_t position);

static ssize_t read_on(int fd, char *text, size_t size, off_t position)
{
	(void)position;
	return read(fd, text, size);
}

static ssize_t read_at(int fd, char *text, size_t size, off_t position)
{
	return pread(fd, text, size, position);
}

static ssize_t seek_and_read(int fd, char *text, size_t size, off_t position)
{
	return lseek(fd, position, SEEK_SET) == position ? read(fd, text, size) : -1;
}

/* The content of a list that is read @size bytes at a time, to be freed; NULL with errno. */
static char *read_in_pieces(const char *path, reader *read_piece, size_t size)
{
	size_t length = 0, room = 1 << 16;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *text = fd < 0 ? NULL : malloc(room + size + 1);
	ssize_t got = 0;

	while (text && (got = read_piece(fd, text + length, size, length)) > 0) {
		length += got;
		if (length > room)
			text = realloc(text, (room *= 2) + size + 1);
	}
	close(fd);
	if (!text || got < 0)
		return NULL;
	text[length] = '\0';
	return text;
}

FIXTURE(listings)
{
};

FIXTURE_SETUP(listings)
{
}

FIXTURE_LEAVES_NOTHING(listings);

/* What the kernel has in use, as far as a list could be the cause, in KiB. */
static long kib_in_use(void)
{
	return number_in("/proc/meminfo", "Slab:") + number_in("/proc/meminfo", "VmallocUsed:");
}

TEST_F_TIMEOUT(listings, a_long_list_takes_little_time_and_no_memory, 3600)
{
	static char piece[1 << 16];
	long most = 0, before, taken, lines = 0, wrong = 0, reads = 0;
	uintptr_t expected;
	struct stopwatch stopwatch;
	size_t kept = 0;
	char *memory;
	ssize_t got;
	int fd;

	if (print_to_file("/proc/sys/vm/max_map_count", "%ld", nr_vmas + 1000))
		SKIP(return, "vm.max_map_count can't be raised");
	memory = map_device(nr_vmas, MAP_PRIVATE);
	ASSERT_NE(MAP_FAILED, memory);
	for (long i = 1; i < nr_vmas; i += 2)
		ASSERT_EQ(0, mprotect(memory + i * PAGE, PAGE, PROT_READ));
	expected = (uintptr_t)memory;
	before = kib_in_use();

	stopwatch = start_stopwatch();
	fd = open(DEBUGFS "mappings", O_RDONLY);
	while ((got = read(fd, piece + kept, sizeof(piece) - 1 - kept)) > 0) {
		char *rest = piece, *end;

		piece[kept + got] = '\0';
		while ((end = strchr(rest, '\n'))) {
			uintptr_t start, last;

			lines++;
			wrong += sscanf(rest, "pid=%*d range=%lx-%lx ", &start, &last) != 2 || start != expected ||
				 last != start + PAGE;
			expected = last;
			rest = end + 1;
		}
		kept = strlen(rest);
		memmove(piece, rest, kept);
		if (!(reads++ % 500)) {
			long more = kib_in_use() - before;

			most = more > most ? more : most;
		}
	}
	EXPECT_EQ(0, got);
	EXPECT_EQ(0, kept);
	EXPECT_EQ(nr_vmas, lines);
	EXPECT_EQ(0, wrong);
	taken = stop_stopwatch(&stopwatch);
	TH_LOG("%ld lines in %ld ms; %ld KiB at most", lines, taken, most);
	EXPECT_GE(SECONDS_OF_A_LIST * nr_vmas / 65, taken);
	EXPECT_GE(KIB_OF_NOISE, most);
	close(fd);

	/* A check of them all. */
	stopwatch = start_stopwatch();
	EXPECT_TRUE(verified());
	TH_LOG("verify takes %ld ms", stop_stopwatch(&stopwatch));
}

/* VMAs that stay, each followed by some room in which others come and go. */
#define STAYING 500
#define ROOM 5

struct changer {
	char *memory;
	atomic_bool stop;
	atomic_long changes, errors;
};

/* Maps, splits and unmaps memory between the VMAs that stay. */
static void *change(void *argument)
{
	struct changer *changer = argument;
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	unsigned int seed = 1;

	while (!atomic_load(&changer->stop)) {
		char *room = changer->memory + (rand_r(&seed) % STAYING * ROOM + 1) * PAGE;
		long pages = 1 + rand_r(&seed) % (ROOM - 1);
		void *mapped = room;

		switch (rand_r(&seed) % 4) {
		case 0:
			mapped = mmap(room, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0);
			break;
		case 1:
			if (munmap(room, pages * PAGE))
				mapped = NULL;
			break;
		case 2:
			/* It may not be mapped. */
			mprotect(room + PAGE, PAGE, rand_r(&seed) % 2 ? PROT_READ : PROT_READ | PROT_WRITE);
			break;
		default:
			store(room, 1);
		}
		if (mapped != room)
			changer->errors++;
		changer->changes++;
	}
	close(fd);
	return NULL;
}

/* Lets address spaces come and go. */
static void *fork_and_end(void *argument)
{
	struct changer *changer = argument;

	while (!atomic_load(&changer->stop)) {
		pid_t child = fork();

		if (!child)
			_exit(0);
		if (child < 0 || waitpid(child, NULL, 0) != child)
			changer->errors++;
	}
	return NULL;
}

FIXTURE(changing_list)
{
};

FIXTURE_VARIANT(changing_list)
{
	reader *read_piece;
	size_t size;
	int rounds;
};

FIXTURE_VARIANT_ADD(changing_list, by_the_byte) { .read_piece = read_on, .size = 1, .rounds = 1 };
FIXTURE_VARIANT_ADD(changing_list, within_a_line) { .read_piece = read_on, .size = 50, .rounds = 5 };
FIXTURE_VARIANT_ADD(changing_list, by_the_page) { .read_piece = read_on, .size = PAGE, .rounds = 20 };
FIXTURE_VARIANT_ADD(changing_list, in_one_piece) { .read_piece = read_on, .size = 1 << 20, .rounds = 20 };
FIXTURE_VARIANT_ADD(changing_list, at_positions) { .read_piece = read_at, .size = 999, .rounds = 5 };
FIXTURE_VARIANT_ADD(changing_list, at_sought_positions) { .read_piece = seek_and_read, .size = 999, .rounds = 5 };

FIXTURE_SETUP(changing_list)
{
}

FIXTURE_LEAVES_NOTHING(changing_list);

TEST_F_TIMEOUT(changing_list, lists_what_stays_once, 3600)
{
	struct changer changer = { .memory = map_device(STAYING * ROOM, MAP_PRIVATE) };
	long missed = 0, twice = 0, disordered = 0, others = 0, unreadable = 0;
	pthread_t threads[2];

	ASSERT_NE(MAP_FAILED, changer.memory);
	for (int i = 0; i < STAYING; i++)
		ASSERT_EQ(0, munmap(changer.memory + (i * ROOM + 1) * PAGE, (ROOM - 1) * PAGE));
	ASSERT_EQ(0, pthread_create(&threads[0], NULL, change, &changer));
	ASSERT_EQ(0, pthread_create(&threads[1], NULL, fork_and_end, &changer));
	for (int round = 0; round < variant->rounds; round++) {
		char *text = read_in_pieces(DEBUGFS "mappings", variant->read_piece, variant->size);
		char *rest = text, *line;
		uintptr_t behind = 0;
		int seen[STAYING] = {};

		while (rest && (line = strsep(&rest, "\n")) && *line) {
			uintptr_t start, end;
			size_t page;
			pid_t pid;

			if (sscanf(line, "pid=%d range=%lx-%lx index=", &pid, &start, &end) != 3) {
				unreadable++;
				continue;
			}
			if (pid != getpid())
				continue;
			disordered += start < behind || end <= start;
			behind = end;
			page = (start - (uintptr_t)changer.memory) / PAGE;
			if (page % ROOM || end - start != PAGE)
				others++;
			else
				seen[page / ROOM]++;
		}
		unreadable += !text;
		free(text);
		for (int i = 0; i < STAYING; i++) {
			missed += !seen[i];
			twice += seen[i] > 1;
		}
	}
	atomic_store(&changer.stop, true);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	EXPECT_EQ(0, unreadable);
	EXPECT_EQ(0, missed);
	EXPECT_EQ(0, twice);
	EXPECT_EQ(0, disordered);
	EXPECT_EQ(0, changer.errors);
	EXPECT_LT(0, others);
	TH_LOG("%ld changes, %ld lines of others", changer.changes, others);
}

TEST_F(listings, each_part_of_a_list_can_be_read)
{
	enum { VMAS = 200 };
	char *memory = map_device(VMAS, MAP_PRIVATE), *whole, part[300];
	unsigned int seed = 1;
	long length;
	int fd;

	ASSERT_NE(MAP_FAILED, memory);
	for (int i = 1; i < VMAS; i += 2)
		ASSERT_EQ(0, mprotect(memory + i * PAGE, PAGE, PROT_READ));
	whole = read_file(DEBUGFS "mappings");
	length = strlen(whole);
	ASSERT_LT(2 * PAGE, length);
	fd = open(DEBUGFS "mappings", O_RDONLY);
	for (int i = 0; i < 300; i++) {
		long at = rand_r(&seed) % (length + 100), size = 1 + rand_r(&seed) % sizeof(part);
		long there = at < length ? length - at : 0;
		ssize_t got;

		if (i % 3) {
			got = pread(fd, part, size, at);
		} else {
			ASSERT_EQ(at, lseek(fd, at, SEEK_SET));
			got = read(fd, part, size);
		}
		/* There may be less, for seq_file returns what it has in its buffer; but something. */
		ASSERT_GE(there < size ? there : size, got);
		ASSERT_EQ(there > 0, got > 0) TH_LOG("at %ld of %ld: %zd", at, length, got);
		ASSERT_EQ(0, memcmp(part, whole + at, got > 0 ? got : 0));
	}
	/* In the middle of one, which goes on where it was. */
	ASSERT_EQ(0, lseek(fd, 0, SEEK_SET));
	for (long at = 0, got; at < length; at += got) {
		got = read(fd, part, 100);
		ASSERT_LT(0, got);
		ASSERT_EQ(0, memcmp(part, whole + at, got));
		ASSERT_LT(0, pread(fd, part, 1, length - 1));
	}
	close(fd);
	free(whole);
}

/* How many lines @text has, in which each is different. */
static int count_lines(const char *text)
{
	int lines = 0;

	for (const char *line = text; *line; line = strchr(line, '\n') + 1) {
		int size = strcspn(line, "\n") + 1;

		for (const char *other = text; other < line; other = strchr(other, '\n') + 1)
			if (!strncmp(other, line, size))
				return -1;
		lines++;
	}
	return lines;
}

TEST_F(listings, an_answer_is_read_to_its_end_though_another_one_comes)
{
	enum { PAGES = 300, FIRST = 200, SECOND = 50 };
	char *memory = map_device(PAGES, MAP_PRIVATE), text[1 << 15];
	size_t length = 0;
	ssize_t got;
	int fd;

	ASSERT_NE(MAP_FAILED, memory);
	fill(memory, PAGES, 1);
	ASSERT_EQ(0, print_to_file(DEBUGFS "poison_random", "%d %d 1", getpid(), FIRST));
	fd = open(DEBUGFS "poison_random", O_RDWR);
	length = read(fd, text, 10);
	ASSERT_EQ(10, length);
	ASSERT_EQ(0, print_to_file(DEBUGFS "poison_random", "%d %d 2", getpid(), SECOND));
	while ((got = read(fd, text + length, sizeof(text) - 1 - length)) > 0)
		length += got;
	EXPECT_EQ(0, got);
	text[length] = '\0';
	EXPECT_EQ(FIRST, count_lines(text));
	ASSERT_EQ(0, lseek(fd, 0, SEEK_SET));
	for (length = 0; (got = read(fd, text + length, sizeof(text) - 1 - length)) > 0; length += got)
		;
	text[length] = '\0';
	EXPECT_EQ(SECOND, count_lines(text));
	close(fd);
}

/* Lets every other page fail, and be good again, all the time. */
static void *poison_and_unpoison(void *argument)
{
	struct changer *changer = argument;

	for (int page = 0; !atomic_load(&changer->stop); page = (page + 2) % STAYING) {
		uint64_t pfn = pfn_of(changer->memory + page * PAGE);

		if (poison_addr(getpid(), changer->memory + page * PAGE) || unpoison_pfn(pfn))
			changer->errors++;
		/* It is in no page table now. */
		load(changer->memory + page * PAGE);
		changer->changes++;
	}
	return NULL;
}

TEST_F_TIMEOUT(listings, a_page_that_stays_poisoned_is_listed_once, 3600)
{
	enum { ROUNDS = 100 };
	struct changer changer = { .memory = map_device(STAYING, MAP_PRIVATE) };
	uint64_t pfns[STAYING];
	long missed = 0, twice = 0, others = 0;
	pthread_t thread;

	ASSERT_NE(MAP_FAILED, changer.memory);
	fill(changer.memory, STAYING, 1);
	for (int page = 1; page < STAYING; page += 2) {
		pfns[page] = pfn_of(changer.memory + page * PAGE);
		ASSERT_EQ(0, poison_addr(getpid(), changer.memory + page * PAGE));
	}
	ASSERT_EQ(0, pthread_create(&thread, NULL, poison_and_unpoison, &changer));
	for (int round = 0; round < ROUNDS; round++) {
		char *text = read_in_pieces(DEBUGFS "poisoned", read_on, round % 2 ? 100 : PAGE);
		char *rest = text, *line;
		int seen[STAYING] = {};

		ASSERT_NE(NULL, text);
		while ((line = strsep(&rest, "\n")) && *line) {
			uint64_t pfn;
			int page;

			ASSERT_EQ(1, sscanf(line, "pfn=%lx index=", &pfn));
			for (page = 1; page < STAYING && pfns[page] != pfn;)
				page += 2;
			if (page < STAYING)
				seen[page]++;
			else
				others++;
		}
		free(text);
		for (int page = 1; page < STAYING; page += 2) {
			missed += !seen[page];
			twice += seen[page] > 1;
		}
	}
	atomic_store(&changer.stop, true);
	pthread_join(thread, NULL);
	EXPECT_EQ(0, missed);
	EXPECT_EQ(0, twice);
	EXPECT_EQ(0, changer.errors);
	TH_LOG("%ld changes, %ld lines of others", changer.changes, others);
}

int main(int argc, char **argv)
{
	if (argc == 2 && *argv[1] != '-') {
		nr_vmas = atol(argv[1]);
		argc = 1;
	}
	return test_harness_run(argc, argv);
}
