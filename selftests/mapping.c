// SPDX-License-Identifier: GPL-2.0-only
/* Memory of the device behaves like anonymous memory: mmap, fork, mprotect, munmap. */
#include <linux/mempolicy.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include "lib/fixture.h"

#define PAGES 64

FIXTURE_ON_DEVICE(mapping, PAGES, false);

TEST_F(mapping, new_memory_is_zero)
{
	EXPECT_TRUE(zeroed(self->memory, PAGES));
	fill(self->memory, PAGES, 1);
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
}

TEST_F(mapping, memory_is_not_shared_between_mappings)
{
	char *other = map_device(PAGES, MAP_PRIVATE);

	ASSERT_NE(MAP_FAILED, other);
	fill(self->memory, PAGES, 1);
	EXPECT_TRUE(zeroed(other, PAGES));
}

/* Each of the guest's nodes in turn; one, unless it has more ("numa=fake=2"). */
TEST_F(mapping, pages_are_of_the_nodes_that_the_task_wants)
{
	for (int node = 0; node < 8; node++) {
		char name[64], *page = self->memory + node * PAGE;
		unsigned long nodes = 1UL << node;
		int found = -1;

		snprintf(name, sizeof(name), "/sys/devices/system/node/node%d", node);
		if (access(name, F_OK))
			break;
		ASSERT_EQ(0, syscall(SYS_set_mempolicy, MPOL_BIND, &nodes, 64));
		EXPECT_EQ(0, store(page, 1).signal);
		ASSERT_EQ(0, syscall(SYS_set_mempolicy, MPOL_DEFAULT, NULL, 0));
		ASSERT_EQ(0, syscall(SYS_get_mempolicy, &found, NULL, 0, page, MPOL_F_NODE | MPOL_F_ADDR));
		EXPECT_EQ(node, found);
		/* And back again, without a policy. */
		ASSERT_EQ(0, madvise(page, PAGE, MADV_DONTNEED));
		EXPECT_WORD(0, load(page));
	}
}

TEST_F(mapping, private_memory_is_shown_as_private)
{
	char *shared = map_device(1, MAP_SHARED), *maps, line[64];

	ASSERT_NE(MAP_FAILED, shared);
	maps = read_file("/proc/self/maps");
	snprintf(line, sizeof(line), "%lx-%lx rw-p ", (long)self->memory, (long)self->memory + PAGES * PAGE);
	EXPECT_NE(NULL, strstr(maps, line));
	snprintf(line, sizeof(line), "%lx-%lx rw-s ", (long)shared, (long)shared + PAGE);
	EXPECT_NE(NULL, strstr(maps, line));
}

TEST_F(mapping, a_page_that_was_read_is_written_in_place)
{
	long copies = counter("copies_total");

	for (size_t i = 0; i < PAGES; i++)
		EXPECT_WORD(0, load(self->memory + i * PAGE));
	fill(self->memory, PAGES, 1);
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
	EXPECT_EQ(copies, counter("copies_total"));
}

TEST_F(mapping, a_childs_write_is_the_childs_alone)
{
	struct peer *child;

	fill(self->memory, PAGES, 1);
	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_WORD(word(1, 3), peer_load(child, self->memory + 3 * PAGE));
	EXPECT_WORD(7, peer_store(child, self->memory + 3 * PAGE, 7));
	EXPECT_WORD(7, peer_load(child, self->memory + 3 * PAGE));
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
}

TEST_F(mapping, a_parents_write_is_the_parents_alone)
{
	struct peer *child;

	fill(self->memory, PAGES, 1);
	child = fork_peer();
	ASSERT_NE(NULL, child);
	fill(self->memory, PAGES, 2);
	for (size_t i = 0; i < PAGES; i++)
		EXPECT_WORD(word(1, i), peer_load(child, self->memory + i * PAGE));
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 2));
}

TEST_F(mapping, a_page_first_touched_after_fork_is_not_shared)
{
	struct peer *child = fork_peer();

	ASSERT_NE(NULL, child);
	fill(self->memory, PAGES, 1);
	EXPECT_WORD(0, peer_load(child, self->memory));
	EXPECT_WORD(7, peer_store(child, self->memory + PAGE, 7));
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
}

TEST_F(mapping, each_of_many_generations_has_its_own_copy)
{
	enum { GENERATIONS = 8 };
	struct peer *generations[GENERATIONS];

	fill(self->memory, PAGES, 1);
	for (int i = 0; i < GENERATIONS; i++) {
		generations[i] = i ? peer_fork(generations[i - 1]) : fork_peer();
		ASSERT_NE(NULL, generations[i]);
		/* What the next generations inherit. */
		EXPECT_WORD(100 + i, peer_store(generations[i], self->memory + i * PAGE, 100 + i));
	}
	/* What they do not. */
	for (int i = 0; i < GENERATIONS; i++)
		EXPECT_WORD(200 + i, peer_store(generations[i], self->memory, 200 + i));
	for (int i = 0; i < GENERATIONS; i++) {
		EXPECT_WORD(200 + i, peer_load(generations[i], self->memory));
		for (int page = 1; page < GENERATIONS; page++)
			EXPECT_WORD(page <= i ? 100 + page : word(1, page),
				    peer_load(generations[i], self->memory + page * PAGE));
	}
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
}

TEST_F(mapping, each_of_many_children_has_its_own_copy)
{
	enum { CHILDREN = 16 };
	struct peer *children[CHILDREN];

	fill(self->memory, PAGES, 1);
	for (int i = 0; i < CHILDREN; i++) {
		children[i] = fork_peer();
		ASSERT_NE(NULL, children[i]);
		EXPECT_WORD(100 + i, peer_store(children[i], self->memory + PAGE, 100 + i));
	}
	for (int i = 0; i < CHILDREN; i++) {
		EXPECT_WORD(100 + i, peer_load(children[i], self->memory + PAGE));
		EXPECT_WORD(word(1, 0), peer_load(children[i], self->memory));
	}
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
}

TEST_F(mapping, a_childs_memory_outlives_the_parents)
{
	struct peer *child;

	fill(self->memory, PAGES, 1);
	child = fork_peer();
	ASSERT_NE(NULL, child);
	ASSERT_EQ(0, munmap(self->memory, PAGES * PAGE));
	for (size_t i = 0; i < PAGES; i++)
		EXPECT_WORD(word(1, i), peer_load(child, self->memory + i * PAGE));
	EXPECT_WORD(7, peer_store(child, self->memory, 7));
	EXPECT_EQ(1, counter("vmas"));
}

TEST_F(mapping, a_page_whose_sharers_have_gone_is_written_in_place)
{
	struct peer *child;
	uint64_t pfn;
	long copies;

	fill(self->memory, PAGES, 1);
	pfn = pfn_of(self->memory);
	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_WORD(word(1, 0), peer_load(child, self->memory));
	end_peer(child);
	copies = counter("copies_total");
	EXPECT_WORD(7, store(self->memory, 7));
	EXPECT_EQ(pfn, pfn_of(self->memory));
	/* Also if it is read before. */
	EXPECT_WORD(word(1, 1), load(self->memory + PAGE));
	EXPECT_WORD(7, store(self->memory + PAGE, 7));
	EXPECT_EQ(copies, counter("copies_total"));
}

TEST_F(mapping, a_child_can_unmap_what_the_parent_keeps)
{
	struct peer *child;

	fill(self->memory, PAGES, 1);
	child = fork_peer();
	ASSERT_NE(NULL, child);
	ASSERT_EQ(0, peer_munmap(child, self->memory + 8 * PAGE, 8));
	EXPECT_SIGSEGV(peer_load(child, self->memory + 8 * PAGE));
	EXPECT_WORD(word(1, 16), peer_load(child, self->memory + 16 * PAGE));
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
}

TEST_F(mapping, reading_maps_the_pages_around)
{
	enum { AROUND = 16 };
	struct peer *child;
	long faults;

	fill(self->memory, PAGES, 1);
	child = fork_peer();
	ASSERT_NE(NULL, child);
	faults = counter("faults_total");
	for (size_t i = 0; i < PAGES; i++)
		EXPECT_WORD(word(1, i), peer_load(child, self->memory + i * PAGE));
	EXPECT_GE(faults + PAGES / AROUND + 1, counter("faults_total"));
}

TEST_F(mapping, protection_is_obeyed)
{
	fill(self->memory, PAGES, 1);
	ASSERT_EQ(0, mprotect(self->memory + 8 * PAGE, 8 * PAGE, PROT_READ));
	ASSERT_EQ(0, mprotect(self->memory + 16 * PAGE, 8 * PAGE, PROT_NONE));
	EXPECT_WORD(word(1, 8), load(self->memory + 8 * PAGE));
	EXPECT_SIGSEGV(store(self->memory + 8 * PAGE, 7));
	EXPECT_SIGSEGV(load(self->memory + 16 * PAGE));
	EXPECT_WORD(word(1, 24), load(self->memory + 24 * PAGE));
	ASSERT_EQ(0, mprotect(self->memory, PAGES * PAGE, PROT_READ | PROT_WRITE));
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
	fill(self->memory, PAGES, 2);
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 2));
}

static void ignore(int signal)
{
	(void)signal;
}

TEST_F(mapping, a_signal_does_not_interrupt_mmap)
{
	const struct itimerval often = { { 0, 50 }, { 0, 50 } }, never = {};
	struct sigaction action = { .sa_handler = ignore };

	ASSERT_EQ(0, munmap(self->memory, PAGES * PAGE));
	ASSERT_EQ(0, sigaction(SIGALRM, &action, NULL));
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &often, NULL));
	/* Each is the first of the address space. */
	for (int i = 0; i < 300; i++) {
		char *memory = map_device(PAGES, MAP_PRIVATE);

		if (memory == MAP_FAILED && errno == EINTR)
			setitimer(ITIMER_REAL, &never, NULL);
		ASSERT_NE(MAP_FAILED, memory);
		ASSERT_EQ(0, munmap(memory, PAGES * PAGE));
	}
	setitimer(ITIMER_REAL, &never, NULL);
}

TEST_F(mapping, what_is_in_memory_can_be_executed)
{
#ifdef __aarch64__
	/* mov w0, #42; ret */
	static const unsigned int code[] = { 0x52800540, 0xd65f03c0 };
#else
	/* mov $42, %eax; ret */
	static const unsigned char code[] = { 0xb8, 42, 0, 0, 0, 0xc3 };
#endif

	for (int noexec = 0; noexec < 2; noexec++) {
		char *memory;

		/* Wherever the device is. */
		if (noexec && (unshare(CLONE_NEWNS) || mount("none", "/dev", NULL, MS_REMOUNT | MS_BIND | MS_NOEXEC, NULL)))
			SKIP(return, "/dev can't be remounted");
		memory = map_device(1, MAP_PRIVATE);
		ASSERT_NE(MAP_FAILED, memory);
		memcpy(memory, code, sizeof(code));
		__builtin___clear_cache(memory, memory + sizeof(code));
		ASSERT_EQ(0, mprotect(memory, PAGE, PROT_READ | PROT_EXEC));
		EXPECT_EQ(42, ((int (*)(void))memory)());
	}
}

TEST_F(mapping, write_permission_does_not_break_copy_on_write)
{
	struct peer *child;

	fill(self->memory, PAGES, 1);
	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_WORD(word(1, 0), load(self->memory));
	ASSERT_EQ(0, mprotect(self->memory, PAGES * PAGE, PROT_READ));
	ASSERT_EQ(0, mprotect(self->memory, PAGES * PAGE, PROT_READ | PROT_WRITE));
	fill(self->memory, PAGES, 2);
	EXPECT_WORD(word(1, 0), peer_load(child, self->memory));
	EXPECT_WORD(word(1, 5), peer_load(child, self->memory + 5 * PAGE));
}

TEST_F(mapping, thousands_of_splits_keep_the_content)
{
	enum { MANY = 4096 };
	char *p = map_device(MANY, MAP_PRIVATE);
	struct peer *child;

	ASSERT_NE(MAP_FAILED, p);
	fill(p, MANY, 1);
	/* In an order that splits at the lower, the upper and both borders. */
	for (size_t step = MANY / 2; step >= 2; step /= 2)
		for (size_t i = 0; i < MANY; i += step) {
			ASSERT_EQ(0, mprotect(p + i * PAGE, PAGE, PROT_READ));
		}
	EXPECT_EQ(1 + MANY, counter("vmas"));
	EXPECT_EQ(MANY, counter("anons"));
	/* Makes the page tables of what is writable anew. */
	child = fork_peer();
	ASSERT_NE(NULL, child);
	EXPECT_TRUE(filled(p, 0, MANY, 1));
	for (size_t i = 0; i < MANY; i += 97)
		EXPECT_WORD(word(1, i), peer_load(child, p + i * PAGE));
	end_peer(child);

	ASSERT_EQ(0, mprotect(p, MANY * PAGE, PROT_READ | PROT_WRITE));
	fill(p, MANY, 2);
	EXPECT_TRUE(filled(p, 0, MANY, 2));
	EXPECT_EQ(MANY, counter("anons"));
}

TEST_F(mapping, memory_of_split_vmas_is_copied_on_write)
{
	struct peer *child;

	fill(self->memory, PAGES, 1);
	for (size_t i = 0; i < PAGES; i += 2) {
		ASSERT_EQ(0, mprotect(self->memory + i * PAGE, PAGE, PROT_READ));
	}
	child = fork_peer();
	ASSERT_NE(NULL, child);
	ASSERT_EQ(0, mprotect(self->memory, PAGES * PAGE, PROT_READ | PROT_WRITE));
	fill(self->memory, PAGES, 2);
	for (size_t i = 0; i < PAGES; i++)
		EXPECT_WORD(word(1, i), peer_load(child, self->memory + i * PAGE));
	EXPECT_SIGSEGV(peer_store(child, self->memory, 7));
	EXPECT_WORD(7, peer_store(child, self->memory + PAGE, 7));
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 2));
}

TEST_F(mapping, untouched_memory_can_be_split)
{
	for (size_t i = 0; i < PAGES; i += 2) {
		ASSERT_EQ(0, mprotect(self->memory + i * PAGE, PAGE, PROT_READ));
	}
	EXPECT_TRUE(zeroed(self->memory, PAGES));
	ASSERT_EQ(0, mprotect(self->memory, PAGES * PAGE, PROT_READ | PROT_WRITE));
	fill(self->memory, PAGES, 1);
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
}

FIXTURE(partial_munmap)
{
	char *memory;
	size_t pages;
};

FIXTURE_VARIANT(partial_munmap)
{
	size_t first, pages;
};

FIXTURE_VARIANT_ADD(partial_munmap, start) { .first = 0, .pages = 16 };
FIXTURE_VARIANT_ADD(partial_munmap, middle) { .first = 16, .pages = 16 };
FIXTURE_VARIANT_ADD(partial_munmap, end) { .first = PAGES - 16, .pages = 16 };
FIXTURE_VARIANT_ADD(partial_munmap, all) { .first = 0, .pages = PAGES };

FIXTURE_SETUP(partial_munmap)
{
	self->memory = map_device(PAGES, MAP_PRIVATE);
	ASSERT_NE(MAP_FAILED, self->memory);
	fill(self->memory, PAGES, 1);
}

FIXTURE_LEAVES_NOTHING(partial_munmap);

TEST_F(partial_munmap, frees_exactly_the_range)
{
	size_t end = variant->first + variant->pages;

	ASSERT_EQ(0, munmap(self->memory + variant->first * PAGE, variant->pages * PAGE));
	for (size_t i = variant->first; i < end; i++) {
		EXPECT_SIGSEGV(load(self->memory + i * PAGE));
	}
	EXPECT_TRUE(filled(self->memory, 0, variant->first, 1));
	EXPECT_TRUE(filled(self->memory, end, PAGES - end, 1));
	EXPECT_EQ((long)(PAGES - variant->pages), counter("anons"));
}

TEST_F(partial_munmap, leaves_a_childs_memory_alone)
{
	struct peer *child = fork_peer();

	ASSERT_NE(NULL, child);
	ASSERT_EQ(0, munmap(self->memory + variant->first * PAGE, variant->pages * PAGE));
	for (size_t i = 0; i < PAGES; i++)
		EXPECT_WORD(word(1, i), peer_load(child, self->memory + i * PAGE));
}

TEST_F(partial_munmap, of_split_vmas)
{
	size_t end = variant->first + variant->pages;

	for (size_t i = 0; i < PAGES; i += 3) {
		ASSERT_EQ(0, mprotect(self->memory + i * PAGE, PAGE, PROT_READ));
	}
	ASSERT_EQ(0, munmap(self->memory + variant->first * PAGE, variant->pages * PAGE));
	EXPECT_TRUE(filled(self->memory, 0, variant->first, 1));
	EXPECT_TRUE(filled(self->memory, end, PAGES - end, 1));
	EXPECT_EQ((long)(PAGES - variant->pages), counter("anons"));
}

FIXTURE(shared_mapping)
{
	char *memory;
};

FIXTURE_SETUP(shared_mapping)
{
	self->memory = map_device(PAGES, MAP_SHARED);
	ASSERT_NE(MAP_FAILED, self->memory);
}

FIXTURE_LEAVES_NOTHING(shared_mapping);

TEST_F(shared_mapping, new_memory_is_zero)
{
	EXPECT_TRUE(zeroed(self->memory, PAGES));
}

TEST_F(shared_mapping, writes_are_seen_by_all_generations)
{
	struct peer *child, *grandchild;

	fill(self->memory, PAGES, 1);
	child = fork_peer();
	ASSERT_NE(NULL, child);
	grandchild = peer_fork(child);
	ASSERT_NE(NULL, grandchild);
	EXPECT_WORD(word(1, 1), peer_load(grandchild, self->memory + PAGE));
	EXPECT_WORD(7, peer_store(grandchild, self->memory + PAGE, 7));
	EXPECT_WORD(7, peer_load(child, self->memory + PAGE));
	EXPECT_WORD(7, load(self->memory + PAGE));
	EXPECT_WORD(8, store(self->memory + PAGE, 8));
	EXPECT_WORD(8, peer_load(grandchild, self->memory + PAGE));
	EXPECT_EQ(PAGES, counter("anons"));
}

TEST_F(shared_mapping, a_page_first_touched_after_fork_is_shared)
{
	struct peer *child = fork_peer();

	ASSERT_NE(NULL, child);
	EXPECT_WORD(7, peer_store(child, self->memory, 7));
	EXPECT_WORD(7, load(self->memory));
	EXPECT_WORD(8, store(self->memory + PAGE, 8));
	EXPECT_WORD(8, peer_load(child, self->memory + PAGE));
}

TEST_F(shared_mapping, another_mapping_is_not_shared)
{
	char *other = map_device(PAGES, MAP_SHARED);

	ASSERT_NE(MAP_FAILED, other);
	fill(self->memory, PAGES, 1);
	EXPECT_TRUE(zeroed(other, PAGES));
}

TEST_F(shared_mapping, the_content_outlives_a_partial_munmap)
{
	struct peer *child;

	fill(self->memory, PAGES, 1);
	child = fork_peer();
	ASSERT_NE(NULL, child);
	ASSERT_EQ(0, munmap(self->memory + 8 * PAGE, 8 * PAGE));
	EXPECT_SIGSEGV(load(self->memory + 8 * PAGE));
	for (size_t i = 0; i < PAGES; i++)
		EXPECT_WORD(word(1, i), peer_load(child, self->memory + i * PAGE));
}

TEST_F(shared_mapping, dontneed_loses_nothing)
{
	fill(self->memory, PAGES, 1);
	ASSERT_EQ(0, madvise(self->memory, PAGES * PAGE, MADV_DONTNEED));
	EXPECT_TRUE(filled(self->memory, 0, PAGES, 1));
}

TEST_F(shared_mapping, split_and_moved_memory_stays_shared)
{
	char *target = reserve(PAGES);
	struct peer *child;

	fill(self->memory, PAGES, 1);
	child = fork_peer();
	ASSERT_NE(NULL, child);
	ASSERT_EQ(0, mprotect(self->memory + 8 * PAGE, 8 * PAGE, PROT_READ));
	ASSERT_EQ(target, mremap(self->memory + 16 * PAGE, 16 * PAGE, 16 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target));
	for (size_t i = 0; i < 16; i++)
		EXPECT_WORD(word(1, 16 + i), load(target + i * PAGE));
	EXPECT_WORD(7, store(target, 7));
	EXPECT_WORD(7, peer_load(child, self->memory + 16 * PAGE));
	EXPECT_WORD(8, peer_store(child, self->memory + 8 * PAGE, 8));
	EXPECT_WORD(8, load(self->memory + 8 * PAGE));
	EXPECT_SIGSEGV(load(self->memory + 16 * PAGE));
}

TEST_HARNESS_MAIN
