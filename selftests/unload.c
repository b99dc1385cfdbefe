// SPDX-License-Identifier: GPL-2.0-only
/*
 * The module cannot be unloaded while it is in use, can be afterwards, and comes back new.
 * With a number as its argument, that often while there are bad frames.
 */
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "lib/fixture.h"
#include "lib/hwpoison.h"

#define MODULE "/usr/libexec/anon_rmap/anon_rmap.ko"
#define PAGES 64

/* Returns 0 or the errno. */
static int unload(void)
{
	return syscall(SYS_delete_module, "anon_rmap", O_NONBLOCK) ? errno : 0;
}

static int load_module(void)
{
	int fd = open(MODULE, O_RDONLY | O_CLOEXEC), error = 0;

	/* The module's own tests have run, in a kernel that runs them, and take longer than all that is done here. */
	write_text("/sys/module/kunit/parameters/filter_glob", "none");
	if (fd < 0 || syscall(SYS_finit_module, fd, "", 0))
		error = errno;
	close(fd);
	return error;
}

FIXTURE(unload)
{
	char *memory;
};

FIXTURE_SETUP(unload)
{
	if (access(MODULE, R_OK))
		SKIP(return, MODULE " is not there to load it again");
	self->memory = map_device(PAGES, MAP_PRIVATE);
	ASSERT_NE(MAP_FAILED, self->memory);
	fill(self->memory, PAGES, 1);
}

FIXTURE_TEARDOWN_PARENT(unload)
{
	if (access(DEVICE, F_OK)) {
		EXPECT_EQ(0, load_module());
	}
	EXPECT_STREQ("", leak());
}

TEST_F(unload, is_refused_while_memory_is_mapped)
{
	EXPECT_EQ(EWOULDBLOCK, unload());
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
	/* A part is enough. */
	ASSERT_EQ(0, munmap(self->memory, (PAGES - 1) * PAGE));
	EXPECT_EQ(EWOULDBLOCK, unload());
}

TEST_F(unload, is_refused_while_the_device_is_open)
{
	int fd = open(DEVICE, O_RDWR);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, munmap(self->memory, PAGES * PAGE));
	EXPECT_EQ(EWOULDBLOCK, unload());
	close(fd);
	EXPECT_EQ(0, unload());
}

/* Who gets the device open while the module goes keeps it, or finds no device; what is open works. */
TEST_F(unload, comes_while_the_device_is_being_opened)
{
	unsigned int refused = 0, gone = 0;
	pid_t children[2];

	ASSERT_EQ(0, munmap(self->memory, PAGES * PAGE));
	for (int i = 0; i < 2; i++) {
		children[i] = fork();
		ASSERT_LE(0, children[i]);
		if (!children[i])
			die_with(getppid());
		while (!children[i]) {
			int fd = open(DEVICE, O_RDWR | O_CLOEXEC);

			if (fd < 0)
				continue;
			/* There is no such command. */
			if (ioctl(fd, _IO('q', 0)) != -1 || errno != ENOTTY)
				_exit(1);
			usleep(500);
			close(fd);
			usleep(500);
		}
	}
	for (int round = 0; round < 100000 && (gone < 10 || !refused); round++) {
		int error = unload();

		if (error) {
			EXPECT_EQ(EWOULDBLOCK, error);
			refused++;
			continue;
		}
		gone++;
		ASSERT_EQ(0, load_module());
	}
	for (int i = 0; i < 2; i++) {
		int status;

		kill(children[i], SIGKILL);
		ASSERT_EQ(children[i], waitpid(children[i], &status, 0));
		EXPECT_TRUE(WIFSIGNALED(status));
	}
	TH_LOG("%u times gone, %u times refused", gone, refused);
	EXPECT_LT(0U, gone);
	EXPECT_LT(0U, refused);
}

TEST_F(unload, is_refused_while_a_child_has_the_memory)
{
	struct peer *child = fork_peer();

	ASSERT_NE(NULL, child);
	ASSERT_EQ(0, munmap(self->memory, PAGES * PAGE));
	EXPECT_EQ(EWOULDBLOCK, unload());
	EXPECT_WORD(word(1, 5), peer_load(child, self->memory + 5 * PAGE));
	end_peer(child);
	EXPECT_EQ(0, unload());
}

TEST_F(unload, succeeds_when_all_is_unmapped)
{
	ASSERT_EQ(0, munmap(self->memory, PAGES * PAGE));
	EXPECT_STREQ("", leak());
	ASSERT_EQ(0, unload());
	EXPECT_EQ(-1, access(DEVICE, F_OK));
	EXPECT_EQ(-1, access(DEBUGFS, F_OK));
	EXPECT_EQ(MAP_FAILED, map_device(1, MAP_PRIVATE));
}

/* A process that has mapped the device once goes on to be watched until it ends. */
TEST_F(unload, succeeds_while_those_who_have_mapped_the_device_once_end)
{
	ASSERT_EQ(0, munmap(self->memory, PAGES * PAGE));
	for (int round = 0; round < 20; round++) {
		pid_t children[8];
		int go[2], ready[2];
		char byte = 0;

		ASSERT_EQ(0, pipe(go));
		ASSERT_EQ(0, pipe(ready));
		for (int i = 0; i < 8; i++) {
			children[i] = fork();
			ASSERT_LE(0, children[i]);
			if (!children[i]) {
				char *memory = map_device(1, MAP_PRIVATE);
				int bad = memory == MAP_FAILED || munmap(memory, PAGE);

				close(go[1]);
				bad |= write(ready[1], &byte, 1) != 1;
				/* Some end before the module goes, some meanwhile, some afterwards. */
				bad |= read(go[0], &byte, 1) != 0;
				usleep(i * 200);
				_exit(bad);
			}
		}
		for (int i = 0; i < 8; i++)
			ASSERT_EQ(1, read(ready[0], &byte, 1));
		close(go[1]);
		EXPECT_EQ(0, unload());
		ASSERT_EQ(0, load_module());
		for (int i = 0; i < 8; i++) {
			int status;

			ASSERT_EQ(children[i], waitpid(children[i], &status, 0));
			EXPECT_EQ(0, status);
		}
		close(go[0]);
		close(ready[0]);
		close(ready[1]);
	}
}

TEST_F(unload, succeeds_when_poisoned_memory_is_unmapped)
{
	ASSERT_EQ(0, poison_addr(getpid(), self->memory + PAGE));
	EXPECT_EQ(EWOULDBLOCK, unload());
	ASSERT_EQ(0, munmap(self->memory, PAGES * PAGE));
	EXPECT_EQ(0, unload());
}

TEST_F(unload, the_module_comes_back_new)
{
	ASSERT_EQ(0, poison_addr(getpid(), self->memory));
	ASSERT_EQ(0, munmap(self->memory, PAGES * PAGE));
	for (int i = 0; i < 5; i++) {
		struct peer *child;
		char *memory;

		ASSERT_EQ(0, unload());
		ASSERT_EQ(0, load_module());
		EXPECT_EQ(0, counter("faults_total"));
		EXPECT_EQ(0, counter("poisonings_total"));
		memory = map_device(PAGES, MAP_PRIVATE);
		ASSERT_NE(MAP_FAILED, memory);
		fill(memory, PAGES, 2);
		child = fork_peer();
		ASSERT_NE(NULL, child);
		ASSERT_EQ(0, poison_addr(getpid(), memory + PAGE));
		EXPECT_SIGBUS(memory + PAGE, peer_load(child, memory + PAGE));
		EXPECT_WORD(word(2, 2), peer_load(child, memory + 2 * PAGE));
		end_peer(child);
		ASSERT_EQ(0, munmap(memory, PAGES * PAGE));
	}
}

TEST_F(unload, is_refused_while_a_file_of_debugfs_is_open)
{
	int fd = open(DEBUGFS "stats", O_RDONLY), command = open(DEBUGFS "poison_pfn", O_WRONLY);

	ASSERT_LE(0, fd);
	ASSERT_LE(0, command);
	ASSERT_EQ(0, munmap(self->memory, PAGES * PAGE));
	EXPECT_EQ(EWOULDBLOCK, unload());
	close(fd);
	EXPECT_EQ(EWOULDBLOCK, unload());
	close(command);
	EXPECT_EQ(0, unload());
}

static int rounds = 5;

/* Drills in the first pages of @memory, undone or not, of which none may leave anything. False if one is refused. */
static bool drill(char *memory, struct peer *child)
{
	uint64_t pfn = pfn_of(memory + PAGE);

	return !poison_addr(getpid(), memory) && peer_load(child, memory).signal == SIGBUS &&
	       !poison_pfn(pfn) && !unpoison_pfn(pfn) && !load(memory + PAGE).signal &&
	       !poison_addr(child->pid, memory + 2 * PAGE) && load(memory + 2 * PAGE).signal == SIGBUS;
}

/* Frames that are out of use stay so, and are listed again; none is handed out. */
TEST_F_TIMEOUT(unload, bad_frames_stay_out_of_use, 3600)
{
	enum { FRAMES = 4 };
	long quarantined = counter("quarantined");
	uint64_t pfns[FRAMES];
	char line[64], *list;
	struct peer *child;

	for (size_t i = 0; i < FRAMES; i++) {
		pfns[i] = pfn_of(self->memory + i * PAGE);
		ASSERT_EQ(0, i % 2 ? soft_offline_pfn(pfns[i]) : hard_offline_pfn(pfns[i]));
	}
	ASSERT_EQ(0, munmap(self->memory, PAGES * PAGE));
	for (int round = 0; round < rounds; round++) {
		ASSERT_EQ(0, unload());
		for (size_t i = 0; i < FRAMES; i++)
			EXPECT_TRUE(is_marked_bad(pfns[i]));
		ASSERT_EQ(0, load_module());
		EXPECT_EQ(quarantined + FRAMES, counter("quarantined"));
		list = read_file(DEBUGFS "quarantine");
		ASSERT_NE(NULL, list);
		for (size_t i = 0; i < FRAMES; i++) {
			snprintf(line, sizeof(line), "pfn=%#lx kind=%s\n", pfns[i], i % 2 ? "software" : "hardware");
			EXPECT_NE(NULL, strstr(list, line));
		}
		free(list);
		self->memory = map_device(PAGES, MAP_PRIVATE);
		ASSERT_NE(MAP_FAILED, self->memory);
		fill(self->memory, PAGES, round);
		for (size_t i = 0; i < PAGES; i++)
			for (size_t bad = 0; bad < FRAMES; bad++)
				EXPECT_NE(pfns[bad], pfn_of(self->memory + i * PAGE));
		child = fork_peer();
		ASSERT_NE(NULL, child);
		EXPECT_TRUE(drill(self->memory, child));
		end_peer(child);
		ASSERT_EQ(0, munmap(self->memory, PAGES * PAGE));
	}
	/* Not so if real hardware has failed: the kernel undoes nothing then. */
	for (size_t i = 1; i < FRAMES; i += 2) {
		int error = unpoison_pfn(pfns[i]);

		EXPECT_TRUE(!error || error == EPERM);
		EXPECT_EQ(!!error, is_marked_bad(pfns[i]));
	}
	EXPECT_EQ(EPERM, unpoison_pfn(pfns[0]));
}

int main(int argc, char **argv)
{
	if (argc == 2 && *argv[1] != '-') {
		rounds = atoi(argv[1]);
		argc = 1;
	}
	return test_harness_run(argc, argv);
}
