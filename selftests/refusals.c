// SPDX-License-Identifier: GPL-2.0-only
/*
 * Random writes to the files of debugfs, and reads of them, by all kinds of processes, of all kinds of texts, in all kinds of
 * pieces, about all kinds of pages. What comes of each is what rust/debugfs.md says (refusals/table.h). What is
 * refused changes nothing. What is done has its effect, which is then undone.
 *
 * refusals [WRITES [SEED [FIRST]]]: so many, from step FIRST on. Without a number as many as there is time for.
 */
#include "lib/fixture.h"
#include "refusals/effect.h"
#include "refusals/state.h"
#include "refusals/text.h"

#define DEFAULT_WRITES 100000
/* As patience.h counts them. */
#define SECONDS 6
/* From then on each error has been seen. */
#define ENOUGH_WRITES 20000
#define STEPS_OF_A_WORLD 1000
/* The lists are looked at after so many steps that were refused, and `mappings`, which is long, after so many of any kind. */
#define STEPS_OF_A_LOOK 16
#define STEPS_OF_A_LONG_LOOK 64
/* So few steps are looked at one by one. */
#define FEW_WRITES 100

static long nr_writes, first_step;
static uint64_t seed = 1;

/* A page of the writer's, which can be written, or has failed; NULL if it has none. */
static char *own_page(enum kind kind)
{
	const struct actor *actor = actor_of(order->who);

	for (int i = 0; i < PRIVATE_PAGES; i++)
		if (world->kinds[i] == kind && actor->places[i].frame != NONE)
			return (char *)address_of(actor, i);
	return NULL;
}

/* Where one piece of the text is. */
static enum where draw_where(struct random *random, size_t size)
{
	enum where where = one_in(random, 10) ? (enum where)below(random, NR_WHERE) : AS_IT_IS;

	/* Most of these are errors. */
	if (where > IN_DEVICE_MEMORY && one_in(random, 2))
		where = IN_DEVICE_MEMORY;
	if (where == IN_DEVICE_MEMORY && (!order->page || size > PAGE || is_in(IN_DEVICE_MEMORY, true)))
		where = AS_IT_IS;
	return where == IN_A_FAILED_PAGE && !order->failed_page ? AS_IT_IS : where;
}

static void add_piece(struct random *random, size_t size)
{
	order->pieces[order->nr_pieces].where = draw_where(random, size);
	order->pieces[order->nr_pieces++].size = size;
}

/* One piece, or several, of which some can be empty. */
static void draw_pieces(struct random *random)
{
	size_t rest = order->size;
	int pieces = 1;

	order->nr_pieces = 0;
	order->page = own_page(SCRATCH);
	order->failed_page = own_page(OWN_BAD);
	if (order->method == WRITEV || order->method == PWRITEV)
		pieces = one_in(random, 4) ? below(random, MAX_PIECES + 1) : 1 + below(random, 3);
	/* Of no pieces, all is there. */
	if (!pieces)
		order->size = 0;
	while (pieces--) {
		size_t size = pieces ? below(random, one_in(random, 3) ? rest + 1 : rest / (pieces + 1) + 2) : rest;

		size = size < rest ? size : rest;
		add_piece(random, size);
		rest -= size;
	}
}

static enum method draw_method(struct random *random)
{
	static const enum method methods[] = {
		PWRITE, PWRITEV, SPLICE, SENDFILE,
	};

	return one_in(random, 20) ? ONE_OF(random, methods) : one_in(random, 2) ? WRITE : WRITEV;
}

static enum power draw_power(struct random *random)
{
	return one_in(random, 10) ? (enum power)below(random, NR_POWERS) : one_in(random, 2) ? ALL : ONLY_ADMIN;
}

static void draw_order(struct random *random)
{
	struct draft draft = { .random = random, .text = (char *)TEXT };

	*order = (struct order){
		.who = one_in(random, 3) ? TESTER : (enum who)below(random, NR_ACTORS),
		.file = one_in(random, 24) ? (enum file_number)below(random, NR_FILES) :
					     (enum file_number)below(random, NR_COMMANDS),
		.opens = one_in(random, 8),
		.power_to_open = draw_power(random),
		.power = draw_power(random),
		.position = one_in(random, 2) ? 0 : below(random, 1 << 14),
		.method = draw_method(random),
		.way = below(random, one_in(random, 12) ? NR_WAYS : NR_WAYS - 1),
	};
	if (files[order->file].is_read && one_in(random, 8)) {
		order->method = READ;
		order->way = below(random, NR_WAYS);
		return;
	}
	draft.namespace = actor_of(order->who)->is_inner ? INNER : OUTER;
	draft.target = actor_of(one_in(random, 6) ? (enum who)below(random, NR_ACTORS) :
						    FOUNDER + (enum who)below(random, NR_ACTORS - FOUNDER));
	/* Those of the namespace, most of the time. */
	if (draft.namespace == INNER && !one_in(random, 6))
		draft.target = actor_of(one_in(random, 2) ? INIT : INNER_CHILD);
	make_text(&draft, &files[order->file]);
	order->text = draft.text;
	order->size = draft.size;
	if (one_in(random, 2)) {
		order->text = (char *)TEXT_END - draft.size;
		memmove(order->text, draft.text, draft.size);
	}
	if (order->method == SPLICE || order->method == SENDFILE) {
		/* Of nothing, nothing is moved. */
		order->size = order->size ?: 1;
		order->text -= order->text == (char *)TEXT_END;
		return;
	}
	draw_pieces(random);
	if (order->method == WRITE && one_in(random, 200)) {
		order->size = order->pieces[0].size = 1UL << (21 + below(random, 9));
		order->pieces[0].where = BEYOND_THE_END;
	}
}

static void show_order(void)
{
	char text[1500];
	size_t size = 0;

	printf("# %s to %s by %s, with %s", method_names[order->method], files[order->file].name,
	       natures[order->who].name, power_names[order->power]);
	if (order->opens)
		printf(", which opens it with %s", power_names[order->power_to_open]);
	printf(", flags %#o, position %ld, %zu bytes", ways_to_open[order->way], (long)order->position, order->size);
	for (int i = 0; i < order->nr_pieces; i++)
		printf("%s%zu %s", i ? ", " : ": ", order->pieces[i].size, where_names[order->pieces[i].where]);
	/* What is beyond the end is not there. */
	for (size_t i = 0; order->text && i < order->size && i < 300 && order->text + i < (char *)TEXT_END; i++) {
		unsigned char byte = order->text[i];

		size += snprintf(text + size, sizeof(text) - size, byte < ' ' || byte > '~' || byte == '\\' ? "\\x%02x" : "%c",
				 byte);
	}
	printf("\n# '%.*s'%s\n", (int)size, text, order->size > 300 ? "…" : "");
	fflush(stdout);
}

#define SOFT_OFFLINE_ALLOWED "/proc/sys/vm/enable_soft_offline"
#define RECOVERY "/proc/sys/vm/memory_failure_recovery"

/* What forbids soft offlines during this step; NULL if nothing does. */
static const char *draw_prohibition(struct random *random)
{
	const char *file = one_in(random, 2) ? SOFT_OFFLINE_ALLOWED : RECOVERY;

	/* Without recovery anything else could panic. */
	return order->file == SOFT_OFFLINE && one_in(random, 6) && !access(file, W_OK) ? file : NULL;
}

static void perform_order(const char *prohibition)
{
	if (prohibition)
		write_text(prohibition, "0");
	call(order->who, perform, NULL, 0);
	if (prohibition)
		write_text(prohibition, "1");
}

/* Looks at the lists before @step. */
static bool look(long step, bool with_mappings)
{
	long since;
	bool is_same = check_lists(step, with_mappings, &since);

	if (!is_same)
		printf("# steps %ld to %ld of seed %lu: %s\n# again: refusals %ld %lu %ld\n", since, step - 1, seed,
		       world->complaint, step - since, seed, since);
	return is_same;
}

/* How often which errors came of what. */
static long seen[NR_FILES][256];
/* How often what was done with which word. */
static long done_with[NR_FILES][KEEP + 1];

enum outcome { RIGHT, WRONG, WORLD_IS_OVER };

static enum outcome do_step(long step)
{
	struct random random = random_of_step(seed, step);
	static struct verdict verdict;
	const char *prohibition;
	int expected, error;
	bool is_over, is_right;

	draw_order(&random);
	prohibition = draw_prohibition(&random);
	expected = first_cause(!prohibition, &verdict);
	/* Seldom, as all begins anew then. */
	if (!expected && ends_world(&verdict) && !one_in(&random, 100)) {
		order->file = UNPOISON_PFN;
		expected = first_cause(true, &verdict);
	}
	is_over = !expected && ends_world(&verdict);
	/* Before the state is another. */
	if (!expected && !look(step, false))
		return WRONG;
	perform_order(prohibition);
	error = order->error;
	seen[order->file][error & 255]++;
	done_with[order->file][error ? 0 : verdict.word]++;
	*world->complaint = '\0';
	if (error != expected)
		is_right = COMPLAIN("%s, not %s", error ? strerrorname_np(error) : "0",
				    expected ? strerrorname_np(expected) : "0");
	else if (!error && order->method != READ && order->result != (ssize_t)order->size)
		is_right = COMPLAIN("%zd bytes of %zu were written", order->result, order->size);
	else if (order->is_consumed)
		is_right = COMPLAIN("some of it is gone");
	else if (error || verdict.effect == NO_EFFECT)
		is_right = check_unchanged();
	else
		is_right = check_effect(&verdict, one_in(&random, 8));
	if (!is_right) {
		printf("# step %ld of seed %lu: %s\n", step, seed, world->complaint);
		show_order();
		printf("# again, alone: refusals 1 %lu %ld\n", seed, step);
		return WRONG;
	}
	if (is_over)
		return WORLD_IS_OVER;
	/* What was touched meanwhile is linked. */
	if (!error && verdict.effect != NO_EFFECT)
		note_state(step + 1, verdict.effect == FAILS_IN_ADVANCE);
	return RIGHT;
}

FIXTURE(refusals)
{
};

FIXTURE_SETUP(refusals)
{
	world = map_shared(sizeof(*world));
	order = map_shared(sizeof(*order));
	ASSERT_NE(MAP_FAILED, world);
	ASSERT_NE(MAP_FAILED, order);
	ASSERT_EQ(0, map_anonymous(TEXT, TEXT_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED));
	ASSERT_EQ(0, map_anonymous(PROTECTED, PAGE, PROT_NONE, MAP_PRIVATE));
	ASSERT_EQ(0, prctl(PR_SET_CHILD_SUBREAPER, 1));
	for (int i = FOUNDER; i < NR_ACTORS; i++)
		actor_of(i)->peer = new_peer();
	for (int i = 0; i < NR_FILES; i++)
		for (size_t way = 0; way < NR_WAYS; way++) {
			descriptors[i][way] = open_file(i, way);
			ASSERT_LE(0, descriptors[i][way]) TH_LOG("%s, flags %#o: %s", files[i].name, ways_to_open[way],
								 strerror(errno));
		}
	has_pid_namespaces = !access("/proc/self/ns/pid", F_OK);
	has_user_namespaces = !access("/proc/self/ns/user", F_OK);
	if (!has_pid_namespaces)
		TH_LOG("NOT TRIED: the kernel has no pid namespaces");
	if (!has_user_namespaces)
		TH_LOG("NOT TRIED: the kernel has no user namespaces");
}

FIXTURE_LEAVES_NOTHING(refusals);

static long seen_by_all(int error)
{
	long sum = 0;

	for (int i = 0; i < NR_FILES; i++)
		sum += seen[i][error];
	return sum;
}

/* Looks at the lists before @step, if it is time to. */
static bool look_now_and_then(long step)
{
	bool is_due = step % STEPS_OF_A_WORLD == 0 || (nr_writes && nr_writes <= FEW_WRITES);
	bool is_long = is_due || step - state.mappings_step >= STEPS_OF_A_LONG_LOOK;

	return (!is_long && step - state.step < STEPS_OF_A_LOOK) || look(step, is_long);
}

TEST_F_TIMEOUT(refusals, are_those_of_the_table, 36000)
{
	static const int errors[] = {
		0, EINVAL, EPERM, EFAULT, ESPIPE, ERANGE, ESRCH, ENXIO, ENODATA, EHWPOISON, ENOENT, EBUSY, EOPNOTSUPP, E2BIG,
		EBADF, EACCES,
	};
	struct patience patience = patience_for(SECONDS);
	long wrong = 0, worlds = 0, step = first_step, end = first_step + (nr_writes ?: DEFAULT_WRITES);
	bool is_over = true;
	long done;

	for (; step < end && wrong < 10 && (nr_writes || !ran_out(&patience)); step++) {
		enum outcome outcome;

		if (is_over || step % STEPS_OF_A_WORLD == 0) {
			if (worlds++) {
				EXPECT_STREQ("", end_world());
			}
			ASSERT_TRUE(make_world(random_of_step(~seed, step / STEPS_OF_A_WORLD).state)) {
				TH_LOG("step %ld of seed %lu: %s", step, seed, world->complaint);
			}
			note_state(step, true);
		}
		outcome = do_step(step);
		if (outcome == RIGHT && !look_now_and_then(step + 1))
			outcome = WRONG;
		wrong += outcome == WRONG;
		is_over = outcome != RIGHT;
	}
	wrong += !is_over && !look(step, true);
	EXPECT_STREQ("", end_world());
	done = step - first_step;
	TH_LOG("%ld writes and reads by seed %lu in %ld worlds: %ld wrong", done, seed, worlds, wrong);
	for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++)
		printf("%s%s %ld", i ? ", " : "# ", errors[i] ? strerrorname_np(errors[i]) : "done", seen_by_all(errors[i]));
	printf("\n");
	EXPECT_EQ(0, wrong);
	for (size_t i = 0; done >= ENOUGH_WRITES && i < sizeof(errors) / sizeof(*errors); i++) {
		EXPECT_LT(0, seen_by_all(errors[i])) TH_LOG("%s", strerrorname_np(errors[i]));
	}
	for (int i = 0; done >= ENOUGH_WRITES && i < NR_COMMANDS; i++) {
		EXPECT_LT(0, seen[i][0]) TH_LOG("nothing was done by %s", files[i].name);
		for (int word = TOUCHED; word <= KEEP; word++) {
			if (files[i].words & word || (i == REPLAY && word == KEEP)) {
				EXPECT_LT(0, done_with[i][word])
				TH_LOG("nothing was done by %s with word %d", files[i].name, word);
			}
		}
	}
}

int main(int argc, char **argv)
{
	if (argc > 1 && *argv[1] != '-') {
		nr_writes = atol(argv[1]);
		seed = argc > 2 ? strtoul(argv[2], NULL, 0) : seed;
		first_step = argc > 3 ? atol(argv[3]) : 0;
		argc = 1;
	}
	return test_harness_run(argc, argv);
}
