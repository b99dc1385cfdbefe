/* SPDX-License-Identifier: GPL-2.0-only */
/* What is done has the effect that the documentation of debugfs says, and is then undone. */
#ifndef REFUSALS_EFFECT_H
#define REFUSALS_EFFECT_H

#include "table.h"

/* How many processes have a page; of which only those that have touched it have to be told. */
static int holders_of(int page, bool touched)
{
	int holders = 0;

	for (int i = 0; i < NR_ACTORS; i++)
		for (int place = 0; place < PLACES; place++) {
			const struct place *there = &actor_of(i)->places[place];

			holders += there->frame == page && (there->is_held || !touched);
		}
	return holders;
}

/* `poisoned` lists what has failed, and nothing else; the pages that have failed by this step under the source of the step. */
static bool check_poisoned(const enum health *new)
{
	char *text = read_list(POISONED), *rest = text, *line;
	static const char *const kinds[] = { "", "simulated", "kept", "hardware" };
	int bad = 0;

	while ((line = strsep(&rest, "\n")) && *line) {
		char kind[16], source[32];
		uint64_t pfn;
		int hit, page;

		if (sscanf(line, "pfn=%lx index=%*u kind=%15s source=%31s since=%*f hit=%d", &pfn, kind, source, &hit) != 4)
			return COMPLAIN("poisoned: %s", line);
		page = frame_of_pfn(pfn);
		if (page == NONE || is_good(page))
			return COMPLAIN("this page has not failed: %s", line);
		if (strcmp(kind, kinds[world->frames[page].state]))
			return COMPLAIN("this page has another kind: %s", line);
		if (new && new[page] && (strcmp(source, files[order->file].name) || hit < holders_of(page, true) ||
					 hit > holders_of(page, false)))
			return COMPLAIN("this page failed by %s, and %d of %d processes have touched it: %s",
					files[order->file].name, holders_of(page, true), holders_of(page, false), line);
		bad++;
	}
	free(text);
	for (int i = 0; i < world->nr_frames; i++)
		bad -= !is_good(i);
	return !bad || COMPLAIN("poisoned has %d pages more than have failed", bad);
}

/* Whether a page can be read. */
static bool is_there(int page)
{
	return is_good(page) || world->frames[page].state == KEPT;
}

/* A page is as it is known to be for all who have touched it: it can't be read, or has its content. */
static bool check_page(int page)
{
	const struct frame *frame = &world->frames[page];
	uint64_t words[PAGE / sizeof(uint64_t)];

	for (int i = FOUNDER; i < NR_ACTORS; i++) {
		const struct actor *actor = actor_of(i);

		for (int place = 0; place < PLACES; place++) {
			int error;

			if (actor->places[place].frame != page || is_shy(actor, place))
				continue;
			error = read_memory(actor, address_of(actor, place), words, sizeof(words));
			if (error != (is_there(page) ? 0 : EFAULT))
				return COMPLAIN("reading page %d of %s: %s", place, natures[i].name, strerror(error));
			if (!error && frame->content != ANYTHING &&
			    !(frame->content ? filled(words, 0, 1, frame->content) : zeroed(words, 1)))
				return COMPLAIN("page %d of %s has another content: %#lx, not %#lx", place, natures[i].name,
						words[0], frame->content << 32);
		}
	}
	return true;
}

/* Who touches a page that has failed gets the signal. */
static bool check_signal(int page)
{
	for (int i = FOUNDER; i < NR_ACTORS; i++) {
		struct actor *actor = actor_of(i);

		for (int place = 0; place < PLACES; place++) {
			char *address = (char *)address_of(actor, place) + 8;
			struct access access;

			if (actor->places[place].frame != page || is_shy(actor, place))
				continue;
			access = peer_load(actor->peer, address);
			return (access.signal == SIGBUS && access.code == BUS_MCEERR_AR && access.address == address) ||
			       COMPLAIN("page %d of %s gives signal %d, code %d, address %p", place, natures[i].name,
					access.signal, access.code, access.address);
		}
	}
	return true;
}

/* A page is given back, and so mapped again by who has touched it, if it was taken away. */
static void note_settled(int page)
{
	if (world->frames[page].state == KEPT)
		return;
	for (int i = FOUNDER; i < NR_ACTORS; i++)
		for (int place = FIRST_GROWN; place < PLACES; place++) {
			const struct place *there = &actor_of(i)->places[place];

			actor_of(i)->has_settled |= there->is_held && there->frame == page;
		}
}

static bool unpoison(int page)
{
	int error = unpoison_pfn(world->frames[page].pfn);

	note_settled(page);
	world->frames[page].state = GOOD;
	return !error || COMPLAIN("frame %#lx is not given back: %s", world->frames[page].pfn, strerror(error));
}

/* Pages have failed, and are then given back. */
static bool check_failure(const enum health *failed, bool with_signal)
{
	for (int i = 0; i < world->nr_frames; i++)
		if (failed[i])
			world->frames[i].state = failed[i];
	if (!check_poisoned(failed))
		return false;
	for (int i = 0; i < world->nr_frames; i++) {
		if (!failed[i])
			continue;
		if ((with_signal && !is_there(i) && !check_signal(i)) || !check_page(i) || !unpoison(i) || !check_page(i))
			return false;
		with_signal = false;
	}
	return check_poisoned(NULL);
}

/* Sets @chosen to the pages that `poison_random` says it has chosen: as many as it was to, each one that it may choose. */
static bool read_chosen(const struct verdict *verdict, enum health *chosen)
{
	char *text = read_list(POISON_RANDOM), *rest = text, *line;
	uint64_t count = 0;

	while ((line = strsep(&rest, "\n")) && *line) {
		uintptr_t address;
		uint64_t pfn;
		int pid, place, page;

		if (sscanf(line, "pid=%d address=%lx pfn=%lx", &pid, &address, &pfn) != 3)
			return COMPLAIN("poison_random: %s", line);
		page = frame_of_pfn(pfn);
		place = place_at(verdict->actor, address);
		if (pid != pid_of(verdict->actor) || page == NONE || place == NONE ||
		    verdict->actor->places[place].frame != page || !is_good(page) || chosen[page])
			return COMPLAIN("poison_random has chosen %s", line);
		chosen[page] = BY_DRILL;
		count++;
	}
	free(text);
	return count == verdict->count || COMPLAIN("poison_random has chosen %lu pages, not %lu", count, verdict->count);
}

static long discard_here(void *page, long is_read)
{
	if (madvise(page, PAGE, MADV_DONTNEED))
		return errno;
	return is_read && load(page).signal ? EFAULT : 0;
}

static bool check_failure_in_advance(const struct verdict *verdict)
{
	bool is_shared = verdict->place >= FIRST_SHARED && verdict->place < FIRST_GROWN;
	enum health failed[MAX_FRAMES] = {};
	struct actor *actor = (struct actor *)verdict->actor;
	uintptr_t address = address_of(actor, verdict->place);
	struct place *there = &actor->places[verdict->place];
	uint64_t pfn = pfn_by_name(pid_of(actor), address);
	int page;

	if (!pfn || frame_of_pfn(pfn) != NONE)
		return COMPLAIN("frame %#lx has failed in advance", pfn);
	page = add_frame(pfn, 0);
	world->frames[page].state = BY_DRILL;
	failed[page] = BY_DRILL;
	/* Nobody has it yet. */
	if (!check_poisoned(failed))
		return false;
	for (int i = FOUNDER; is_shared && i < NR_ACTORS; i++)
		if (actor_of(i)->places[verdict->place].is_mapped)
			actor_of(i)->places[verdict->place].frame = page;
	*there = (struct place){ true, page, true };
	if (!check_page(page) || !unpoison(page) || !check_page(page))
		return false;
	if (is_shared)
		return true;
	/* Nobody again. */
	*there = (struct place){ true, NONE, false };
	world->nr_frames--;
	return !peer_call(actor->peer, discard_here, (void *)address,
			  verdict->place < FIRST_SHARED && world->kinds[verdict->place] == ZEROES) ||
	       COMPLAIN("the page can't be discarded");
}

/* Whether `quarantine` lists a frame that software has taken out of use. */
static bool is_listed_aside(uint64_t pfn)
{
	char *text = read_list(QUARANTINE), line[64];
	bool found;

	snprintf(line, sizeof(line), "pfn=%#lx kind=software\n", pfn);
	found = strstr(text, line);
	free(text);
	return found;
}

/* A place where a page can be touched; false if there is none. */
static bool find_holder(int page, struct actor **actor, int *place)
{
	for (int i = FOUNDER; i < NR_ACTORS; i++)
		for (int j = 0; j < PLACES; j++) {
			*actor = actor_of(i);
			*place = j;
			if ((*actor)->places[j].frame == page && !is_shy(*actor, j))
				return true;
		}
	return false;
}

/* Whether what is done can't be undone, or it can't be known which frame a page has then. */
static bool ends_world(const struct verdict *verdict)
{
	struct actor *actor;
	int place;

	return verdict->effect == FAILS_FOR_GOOD ||
	       (verdict->effect == MOVES && !find_holder(verdict->page, &actor, &place));
}

static bool check_move(int page)
{
	struct frame *frame = &world->frames[page];
	uint64_t old = frame->pfn;
	struct actor *actor;
	int place;

	if (!is_listed_aside(old))
		return COMPLAIN("frame %#lx is not in quarantine", old);
	if (find_holder(page, &actor, &place)) {
		if (!check_page(page))
			return false;
		frame->pfn = mapped_frame(actor, address_of(actor, place));
		if (!frame->pfn || frame->pfn == old)
			return COMPLAIN("frame %#lx has moved to %#lx", old, frame->pfn);
	}
	if (unpoison_pfn(old) || is_listed_aside(old))
		return COMPLAIN("frame %#lx is still in quarantine", old);
	return true;
}

static bool check_good_again(int page)
{
	struct frame *frame = &world->frames[page];
	enum health state = frame->state;

	note_settled(page);
	frame->state = GOOD;
	if (!check_poisoned(NULL) || !check_page(page))
		return false;
	if (drill(frame, state))
		return COMPLAIN("frame %#lx does not fail again", frame->pfn);
	return check_poisoned(NULL) && check_page(page);
}

static bool check_given_back(struct aside *aside)
{
	if (is_listed_aside(aside->pfn))
		return COMPLAIN("frame %#lx is still in quarantine", aside->pfn);
	*aside = world->asides[--world->nr_asides];
	return true;
}

static bool check_for_good(int page)
{
	enum health failed[MAX_FRAMES] = {};

	failed[page] = BY_HARDWARE;
	world->frames[page].state = BY_HARDWARE;
	if (!check_poisoned(failed) || !check_page(page))
		return false;
	return unpoison_pfn(world->frames[page].pfn) == EPERM || COMPLAIN("what hardware has failed is given back");
}

/* Each line of the answer is a place where the page is; all who have touched it are there, if it was asked who would be hit. */
static bool check_answer(int page)
{
	char *text = read_list(order->file), *rest = text, *line;
	int lines = 0, most = is_there(page) ? holders_of(page, false) : 0;
	int least = order->file == DRY_RUN ? holders_of(page, true) : 0;

	while ((line = strsep(&rest, "\n")) && *line) {
		uintptr_t address;
		int pid, seen = 0;

		if (sscanf(line, "pid=%d address=%lx", &pid, &address) != 2 ||
		    (order->file == DRY_RUN && !strstr(line, " tid=0 signal=none")))
			return COMPLAIN("%s: %s", files[order->file].name, line);
		for (int i = FOUNDER; i < NR_ACTORS; i++) {
			int place = place_at(actor_of(i), address);

			seen += pid == pid_of(actor_of(i)) && place != NONE && actor_of(i)->places[place].frame == page;
		}
		if (!seen)
			return COMPLAIN("%s says of frame %#lx: %s", files[order->file].name, world->frames[page].pfn, line);
		lines++;
	}
	free(text);
	return (lines >= least && lines <= most) || COMPLAIN("%s has %d lines, not %d to %d", files[order->file].name, lines,
							     least, most);
}

/* What was done is there, and is then undone, if that can be. */
static bool check_effect(const struct verdict *verdict, bool with_signal)
{
	enum health failed[MAX_FRAMES] = {};

	switch (verdict->effect) {
	case NO_EFFECT:
		return true;
	case FAILS:
		for (int i = 0; i < world->nr_frames; i++)
			failed[i] = is_good(i) ? verdict->pages[i] : GOOD;
		return check_failure(failed, with_signal);
	case FAILS_BY_CHANCE:
		return read_chosen(verdict, failed) && check_failure(failed, with_signal);
	case FAILS_IN_ADVANCE:
		return check_failure_in_advance(verdict);
	case FAILS_FOR_GOOD:
		return check_for_good(verdict->page);
	case MOVES:
		return check_move(verdict->page);
	case IS_GOOD_AGAIN:
		return check_good_again(verdict->page);
	case IS_GIVEN_BACK:
		return check_given_back(verdict->aside);
	case IS_ANSWERED:
		return check_answer(verdict->page);
	}
	return false;
}

#endif
