/* SPDX-License-Identifier: GPL-2.0-only */
/* A process without memory of the device that uses all of debugfs on that of the members. */
#ifndef TORTURE_INJECTOR_H
#define TORTURE_INJECTOR_H

#include "arena.h"

/* More than that are not poisoned at a time, on the whole. */
#define MAX_POISONED 48

static void add_frame(uint64_t pfn)
{
	if (world->nr_offlined < MAX_OFFLINED)
		world->offlined[world->nr_offlined++] = pfn;
}

/* A page of a member, perhaps. */
struct target {
	pid_t pid;
	char *address;
	uint64_t pfn;
};

static struct target random_target(struct random *random, struct note *note)
{
	struct range place = { below(random, NR_ARENAS), below(random, ARENA_PAGES), 1 };
	struct target target = {
		/* Of the first two, which are most often alive; or of all. */
		.pid = world->members[below(random, one_in(random, 2) ? world->processes : 2)].pid,
	};
	char path[64];
	int fd;

	if (!one_in(random, 3))
		place = (struct range){ world->focus_arena, (world->focus + below(random, 48)) % ARENA_PAGES, 1 };
	set_range(note, &place);
	target.address = start_of(&place) + below(random, PAGE);
	snprintf(path, sizeof(path), "/proc/%d/pagemap", target.pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	target.pfn = frame_in(pagemap_entry(fd, target.address));
	close(fd);
	return target;
}

/* Fails unless the error is one of those that a command may have when all goes on. */
static int expect(const char *name, int error, const int *allowed)
{
	if (!error)
		count(&world->injections);
	while (*allowed && error != *allowed)
		allowed++;
	if (error && !*allowed)
		fail("%s: %s", name, strerror(error));
	return error;
}

#define EXPECT_ERRORS(name, error, ...) expect(name, error, (const int []){ __VA_ARGS__, 0 })

static void inject_addr(struct random *random, struct note *note)
{
	struct target target = random_target(random, note);

	int error = print_to_file(DEBUGFS "poison_addr", "%d %p %s", target.pid, target.address,
				  one_in(random, 3) ? "" : "touched");

	note->error = EXPECT_ERRORS("poison_addr", error, ESRCH, EFAULT, ENXIO, ENODATA, EBUSY, EHWPOISON);
}

static void inject_pfn(struct random *random, struct note *note)
{
	struct target target = random_target(random, note);

	if (target.pfn)
		note->error = EXPECT_ERRORS("poison_pfn", poison_pfn(target.pfn), ENXIO, EHWPOISON);
}

static void inject_range(struct random *random, struct note *note)
{
	struct target target = random_target(random, note);
	int error = print_to_file(DEBUGFS "poison_range", "%d %p %p", target.pid, target.address,
				  target.address + 1 + below(random, 6 * PAGE));

	note->error = EXPECT_ERRORS("poison_range", error, ESRCH, EFAULT, ENXIO, ENODATA, EHWPOISON);
}

static void inject_random(struct random *random, struct note *note)
{
	struct target target = random_target(random, note);
	int error = print_to_file(DEBUGFS "poison_random", "%d %lu %lu", target.pid, 1 + below(random, 5),
				  below(random, 1000));

	note->error = EXPECT_ERRORS("poison_random", error, ESRCH, ENXIO, ENODATA, EHWPOISON);
}

static void inject_soft_offline(struct random *random, struct note *note)
{
	struct target target = random_target(random, note);

	if (!target.pfn || world->nr_offlined == MAX_OFFLINED)
		return;
	note->error = EXPECT_ERRORS("soft_offline", soft_offline_pfn(target.pfn), EBUSY, ENXIO,
				    EHWPOISON);
	if (!note->error)
		add_frame(target.pfn);
}

/* Gives back frames that soft offline has taken, all but @kept. */
static void give_back(unsigned int kept)
{
	while (world->nr_offlined > kept) {
		uint64_t pfn = world->offlined[--world->nr_offlined];

		EXPECT_ERRORS("unpoison_pfn of an offlined frame", unpoison_pfn(pfn), 0);
	}
}

/* Unpoisons what is poisoned, all but @kept pages; returns how many are left. */
static unsigned int unpoison(unsigned int kept)
{
	char *text = read_file(DEBUGFS "poisoned"), *rest = text, *line;
	unsigned int lines = 0;
	uint64_t pfn;

	while (text && (line = strsep(&rest, "\n"))) {
		if (sscanf(line, "pfn=%lx", &pfn) != 1 || lines++ < kept)
			continue;
		/* It goes when nobody has it any more. */
		EXPECT_ERRORS("unpoison_pfn", unpoison_pfn(pfn), ENOENT, ENXIO);
	}
	if (!text)
		fail("poisoned: %s", strerror(errno));
	free(text);
	return at_most(lines, kept);
}

static void inject_unpoison(struct random *random, struct note *note)
{
	unpoison(below(random, MAX_POISONED));
	give_back(below(random, 8));
	note->error = 0;
}

static void inject_dry_run(struct random *random, struct note *note)
{
	struct target target = random_target(random, note);

	note->error = EXPECT_ERRORS("dry_run", print_to_file(DEBUGFS "dry_run", "%d %p", target.pid, target.address), ESRCH,
				    EFAULT, ENXIO, ENODATA, EHWPOISON);
	free(read_file(DEBUGFS "dry_run"));
}

static void inject_rmap(struct random *random, struct note *note)
{
	struct target target = random_target(random, note);

	if (!target.pfn)
		return;
	note->error = EXPECT_ERRORS("rmap", print_to_file(DEBUGFS "rmap", one_in(random, 2) ? "%#lx" :
							  "%#lx 0 0xffffffffffffffff", target.pfn), ENXIO);
	free(read_file(DEBUGFS "rmap"));
}

static void verify(void)
{
	char *text = read_file(DEBUGFS "verify");

	if (!text)
		fail("verify: %s", strerror(errno));
	else if (strncmp(text, "ok ", 3))
		fail("verify: %s", text);
	free(text);
}

static void inject_listings(struct random *random, struct note *note)
{
	static const char *const files[] = { DEBUGFS "mappings", DEBUGFS "poisoned", DEBUGFS "stats" };
	const char *path = files[below(random, sizeof(files) / sizeof(*files))];
	char *text = read_file(path);

	if (!text)
		fail("%s: %s", path, strerror(errno));
	free(text);
	note->error = 0;
}

static void inject_verify(struct random *random, struct note *note)
{
	(void)random;
	verify();
	note->error = 0;
}

static const struct injection {
	const char *name;
	unsigned int weight;
	void (*perform)(struct random *random, struct note *note);
} injections[] = {
	{ "poison_addr", 8, inject_addr }, { "poison_pfn", 6, inject_pfn }, { "poison_range", 2, inject_range },
	{ "poison_random", 1, inject_random }, { "soft_offline", 8, inject_soft_offline }, { "unpoison", 5, inject_unpoison },
	{ "dry_run", 2, inject_dry_run }, { "rmap", 3, inject_rmap }, { "listings", 2, inject_listings },
	{ "verify", 1, inject_verify },
};

#define NR_INJECTIONS (sizeof(injections) / sizeof(*injections))
/* Their bits in world->enabled. */
#define FIRST_INJECTION 32

static const struct injection *random_injection(struct random *random)
{
	const struct injection *injection = injections;
	unsigned int weight = 0, chosen;

	for (unsigned int i = 0; i < NR_INJECTIONS; i++)
		weight += injections[i].weight;
	for (chosen = below(random, weight); chosen >= injection->weight; injection++)
		chosen -= injection->weight;
	return injection;
}

/* One round of injections, while the members are at work. */
static void inject(void)
{
	struct random random = random_of_round(INJECT);
	struct worker *worker = &world->injector.workers[0];

	for (unsigned int step = 0; step < world->steps / 4 && !atomic_load(&world->stop); step++) {
		struct random own = { next(&random) };
		const struct injection *injection = random_injection(&own);
		struct timespec pause = { .tv_nsec = below(&own, 4000000) };
		struct note *note;

		nanosleep(&pause, NULL);
		if (!(world->enabled >> (FIRST_INJECTION + (injection - injections)) & 1))
			continue;
		note = new_note(worker, injection->name);
		injection->perform(&own, note);
		if (note->error == RUNNING)
			note->error = 0;
		atomic_fetch_add(&worker->progress, 1);
	}
}

#endif
