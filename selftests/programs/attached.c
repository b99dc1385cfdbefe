// SPDX-License-Identifier: GPL-2.0-only
/*
 * A program of threads for attach.sh, which is linked statically. It has content in its heap (brk), in a mapping with
 * flags and on the stacks of its threads, and waits in system calls of all kinds, which must not be seen to have been
 * interrupted. Commands come as lines on standard input; each has one line as its answer.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096UL
#define BLOCK 1000
#define MAPPED (256 * PAGE)
#define THREADS 4

struct block {
	struct block *next;
	uint64_t words[BLOCK / 8];
};

static struct block *blocks;
static uint64_t number;
static volatile bool ending;
static _Atomic int wrong;
static _Atomic uint64_t counters[THREADS];
static unsigned char *mapped;
static pthread_t threads[THREADS];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

/* So much more of the heap, by small blocks. */
static void grow(size_t bytes)
{
	for (; bytes > BLOCK; bytes -= BLOCK) {
		struct block *block = malloc(sizeof(*block));

		for (size_t i = 0; i < BLOCK / 8; i++)
			block->words[i] = number++;
		block->next = blocks;
		blocks = block;
	}
}

static bool heap_is_right(void)
{
	uint64_t last = number;

	for (struct block *block = blocks; block; block = block->next)
		for (size_t i = BLOCK / 8; i-- > 0;)
			if (block->words[i] != --last)
				return false;
	return last == 0;
}

static bool mapping_is_right(void)
{
	/* Every fourth page was never written. */
	for (size_t i = 0; i < MAPPED / PAGE; i++)
		if (mapped[i * PAGE] != (i % 4 == 3 ? 0 : i % 251 + 1))
			return false;
	return true;
}

static void *work(void *argument)
{
	long self = (long)argument;
	uint64_t own[512];

	for (size_t i = 0; i < 512; i++)
		own[i] = i * (self + 1);
	while (!ending) {
		struct timespec pause = { .tv_nsec = 20000000 };

		errno = 0;
		if (self == 0 && clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL))
			wrong++;
		else if (self == 1 && poll(NULL, 0, 20) != 0)
			wrong++;
		else if (self == 2 && (pthread_mutex_lock(&mutex) || pthread_mutex_unlock(&mutex)))
			wrong++;
		for (size_t i = 0; i < 512; i++)
			if (((volatile uint64_t *)own)[i] != i * (self + 1))
				wrong++;
		counters[self]++;
	}
	return NULL;
}

static void give_up(int signal, siginfo_t *info, void *context)
{
	char line[64];

	(void)signal;
	(void)context;
	(void)!write(1, line, snprintf(line, sizeof(line), "SIGBUS %p\n", info->si_addr));
	_exit(3);
}

/* Whether each thread still gets on, nothing was wrong, and all content is there. */
static bool check(void)
{
	uint64_t before[THREADS];

	for (int i = 0; i < THREADS; i++)
		before[i] = counters[i];
	usleep(300000);
	for (int i = 0; i < THREADS; i++)
		if (counters[i] == before[i])
			return false;
	return !wrong && heap_is_right() && mapping_is_right();
}

int main(void)
{
	struct sigaction action = { .sa_sigaction = give_up, .sa_flags = SA_SIGINFO };
	char line[64];

	sigaction(SIGBUS, &action, NULL);
	setvbuf(stdout, NULL, _IOLBF, 0);
	grow(8 << 20);
	mapped = mmap(NULL, MAPPED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	madvise(mapped, MAPPED, MADV_DONTDUMP);
	madvise(mapped, MAPPED, MADV_DONTFORK);
	for (size_t i = 0; i < MAPPED / PAGE; i++)
		if (i % 4 != 3)
			mapped[i * PAGE] = i % 251 + 1;
	for (long i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, work, (void *)i);
	printf("%p\n", mapped);
	while (fgets(line, sizeof(line), stdin)) {
		if (!strcmp(line, "check\n")) {
			puts(check() ? "right" : "wrong");
		} else if (!strcmp(line, "grow\n")) {
			grow(4 << 20);
			puts("grown");
		} else if (!strcmp(line, "join\n")) {
			/* As they still run, this waits for their end by a futex. */
			ending = true;
			for (int i = 0; i < THREADS; i++)
				pthread_join(threads[i], NULL);
			puts("joined");
		} else if (!strcmp(line, "read\n")) {
			printf("%d\n", *(volatile unsigned char *)mapped);
		}
	}
	return 0;
}
