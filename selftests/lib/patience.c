// SPDX-License-Identifier: GPL-2.0-only
#include <sys/mman.h>
#include <unistd.h>

#include "patience.h"

/* How long a sample takes in that guest. */
#define SAMPLE_NS 1000000UL

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * NS_PER_SECOND + now.tv_nsec;
}

uint64_t now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

struct patience patience_for(double seconds)
{
	uint64_t now = now_ns();

	return (struct patience){ .seconds = seconds, .begin = now, .last_sample = now };
}

/*
 * How long a sample takes now: page faults, in memory that nobody else has. That the guest waits for the host counts, as it
 * knows nothing of it; that the sample waits for other processes of the guest does not.
 */
static uint64_t sample_ns(void)
{
	const size_t size = 32 << 12;
	uint64_t begin = clock_ns(CLOCK_THREAD_CPUTIME_ID), taken;
	char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory != MAP_FAILED) {
		for (size_t i = 0; i < size; i += 1 << 12)
			((volatile char *)memory)[i] = 1;
		munmap(memory, size);
	}
	taken = clock_ns(CLOCK_THREAD_CPUTIME_ID) - begin;
	return taken > SAMPLE_NS ? taken : SAMPLE_NS;
}

bool ran_out(struct patience *patience)
{
	uint64_t now = now_ns();

	if (now - patience->last_sample < NS_PER_SECOND)
		return false;
	patience->last_sample = now;
	patience->taken += sample_ns();
	patience->expected += SAMPLE_NS;
	return (now - patience->begin) * ((double)patience->expected / patience->taken) >
	       patience->seconds * NS_PER_SECOND;
}

long repeats(long usual)
{
	/* With lockdep, as kernels for debugging have it. */
	return access("/proc/lockdep", F_OK) ? usual : (usual + 3) / 4;
}

int poll_patiently(struct pollfd *files, nfds_t nr_files, int milliseconds)
{
	struct patience patience = patience_for(milliseconds / 1000.0);
	int ready;

	do {
		ready = poll(files, nr_files, 1000);
	} while (!ready && !ran_out(&patience));
	return ready;
}

bool await(bool (*condition)(uint64_t), uint64_t argument)
{
	struct patience patience = patience_for(20);

	while (!condition(argument)) {
		if (ran_out(&patience))
			return false;
		usleep(10000);
	}
	return true;
}

struct stopwatch start_stopwatch(void)
{
	uint64_t sample = sample_ns();

	return (struct stopwatch){ .begin = now_ns(), .sample = sample };
}

long stop_stopwatch(const struct stopwatch *stopwatch)
{
	uint64_t taken = now_ns() - stopwatch->begin, samples = stopwatch->sample + sample_ns();

	return taken * (2.0 * SAMPLE_NS / samples) / 1000000;
}
