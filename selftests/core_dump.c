// SPDX-License-Identifier: GPL-2.0-only
/* The memory in core dumps, as anonymous memory is: what was touched, if `coredump_filter` and MADV_DONTDUMP let it. */
#include <elf.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "lib/fixture.h"

#define PAGES 4096
/* One page in so many is touched. */
#define STRIDE 256

FIXTURE(core_dump)
{
	char *memory;
};

FIXTURE_VARIANT(core_dump)
{
	bool device;
	int flags;
};

FIXTURE_VARIANT_ADD(core_dump, device) { .device = true, .flags = MAP_PRIVATE };
FIXTURE_VARIANT_ADD(core_dump, anonymous) { .device = false, .flags = MAP_PRIVATE };
FIXTURE_VARIANT_ADD(core_dump, device_shared) { .device = true, .flags = MAP_SHARED };
FIXTURE_VARIANT_ADD(core_dump, anonymous_shared) { .device = false, .flags = MAP_SHARED };

FIXTURE_SETUP(core_dump)
{
	self->memory = map_memory(variant->device, PAGES * PAGE, PROT_READ | PROT_WRITE, variant->flags);
	ASSERT_NE(MAP_FAILED, self->memory);
	ASSERT_EQ(0, madvise(self->memory, PAGES * PAGE, MADV_NOHUGEPAGE));
	for (size_t i = 0; i < PAGES; i += STRIDE)
		fill(self->memory + i * PAGE, 1, i);
}

FIXTURE_LEAVES_NOTHING(core_dump);

/* The part of a core file that was at @address; NULL if it is not in there. */
static const char *in_core(const char *core, const void *address)
{
	const Elf64_Ehdr *header = (const Elf64_Ehdr *)core;
	const Elf64_Phdr *segments = (const Elf64_Phdr *)(core + header->e_phoff);

	for (int i = 0; i < header->e_phnum; i++) {
		uint64_t offset = (uint64_t)address - segments[i].p_vaddr;

		if (segments[i].p_type == PT_LOAD && offset < segments[i].p_filesz)
			return core + segments[i].p_offset + offset;
	}
	return NULL;
}

/* The core file of a child that was killed when it had read at @address, and its attributes; NULL if there is none. */
static char *core_of_a_child(const char *address, struct stat *status)
{
	static const char pattern[] = "/tmp/anon_rmap.core";
	const struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	char *former = read_file("/proc/sys/kernel/core_pattern"), *core;
	pid_t pid;

	if (write_text("/proc/sys/kernel/core_pattern", pattern))
		return NULL;
	pid = fork();
	if (!pid) {
		setrlimit(RLIMIT_CORE, &unlimited);
		signal(SIGQUIT, SIG_DFL);
		load(address);
		kill(getpid(), SIGQUIT);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	stat(pattern, status);
	core = read_file(pattern);
	unlink(pattern);
	write_text("/proc/sys/kernel/core_pattern", former);
	free(former);
	return core;
}

TEST_F(core_dump, has_what_was_touched)
{
	long faults = counter("faults_total");
	struct stat status;
	char *core;

	ASSERT_EQ(0, madvise(self->memory + STRIDE * PAGE, PAGE, MADV_DONTDUMP));
	if (variant->device) {
		ASSERT_EQ(0, poison_addr(getpid(), self->memory + 2 * STRIDE * PAGE));
		for (size_t i = 3; i <= 4; i++)
			EXPECT_EQ(0, print_to_file(DEBUGFS "poison_addr", "%d %p keep", getpid(),
						   self->memory + i * STRIDE * PAGE));
	}
	/* One of those that are kept is in its page table. */
	core = core_of_a_child(self->memory + 3 * STRIDE * PAGE, &status);
	if (!core)
		SKIP(return, "no core dumps");
	for (size_t i = 0; i < PAGES; i += STRIDE / 2) {
		const char *dumped = in_core(core, self->memory + i * PAGE);
		bool is_hole = i % STRIDE || (variant->device && i >= 2 * STRIDE && i <= 4 * STRIDE);

		if (i == STRIDE) {
			EXPECT_EQ(NULL, dumped);
			continue;
		}
		ASSERT_NE(NULL, dumped);
		EXPECT_TRUE(is_hole ? zeroed(dumped, 1) : filled(dumped, 0, 1, i)) {
			TH_LOG("page %zu", i);
		}
	}
	/* The rest takes no room, nor was it made. That of shared anonymous memory is. */
	if (variant->device || variant->flags == MAP_PRIVATE) {
		EXPECT_GT(PAGES * PAGE / 4, (size_t)status.st_blocks * 512);
	}
	if (variant->device) {
		/* Only the dump lacks what is kept. */
		for (size_t i = 3; i <= 4; i++)
			EXPECT_TRUE(filled(self->memory + i * STRIDE * PAGE, 0, 1, i * STRIDE));
		EXPECT_GT(2 * PAGES, counter("faults_total") - faults);
		EXPECT_GT(PAGES / 4, counter("anons"));
	}
	free(core);
}

TEST_F(core_dump, has_what_the_filter_says)
{
	static const char *const filters[] = { "0x33", "0x0", "0x1", "0x2", "0x4" };

	for (size_t i = 0; i < sizeof(filters) / sizeof(*filters); i++) {
		unsigned long filter = strtoul(filters[i], NULL, 16);
		bool is_wanted = filter & (variant->flags == MAP_PRIVATE ? 1 : 2);
		struct stat status;
		char *core;

		ASSERT_EQ(0, write_file("/proc/self/coredump_filter", filters[i], strlen(filters[i])));
		core = core_of_a_child(self->memory, &status);
		if (!core)
			SKIP(return, "no core dumps");
		EXPECT_EQ(is_wanted, in_core(core, self->memory) != NULL) {
			TH_LOG("filter %s", filters[i]);
		}
		free(core);
	}
}

TEST_HARNESS_MAIN
