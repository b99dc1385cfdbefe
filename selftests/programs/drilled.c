// SPDX-License-Identifier: GPL-2.0-only
/*
 * usage: drilled BEHAVIOUR
 *
 * A program that knows nothing of the device, with 64 pages of its own, and does with them what is asked for:
 *
 *   dies      reads them
 *   handles   reads them, and maps others in place of those that have failed
 *   survives  gives them to the kernel to read, which only says that it can't
 *   hangs     reads them, and again what has failed
 *   writes    writes to the first half of them
 *   forks     has children that read them
 *   idle      does nothing
 *
 * It ends with status 0 after some seconds, or when it has come past a failure.
 */
#define _GNU_SOURCE
#include <err.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGES 64
#define PAGE 4096
#define SECONDS 8

static char *memory;
static sigjmp_buf past;

static void map(void *address, size_t size, int flags)
{
	memory = mmap(address, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
	if (memory == MAP_FAILED)
		err(1, "mmap");
	memset(memory, 1, size);
}

static void go_past(int signal)
{
	(void)signal;
	siglongjmp(past, 1);
}

static void again(int signal)
{
	(void)signal;
}

/* Reads one byte of each page. */
static void read_all(void)
{
	for (int i = 0; i < PAGES; i++)
		(void)((volatile char *)memory)[i * PAGE];
}

static int kernel_reads_all(void)
{
	int pipes[2], failed = 0;

	if (pipe(pipes))
		err(1, "pipe");
	for (int i = 0; i < PAGES; i++)
		failed |= write(pipes[1], memory + i * PAGE, 1) < 0;
	close(pipes[0]);
	close(pipes[1]);
	return failed;
}

static void child_reads_all(void)
{
	pid_t child = fork();

	if (child < 0)
		err(1, "fork");
	if (!child) {
		usleep(300000);
		read_all();
		_exit(0);
	}
	waitpid(child, NULL, 0);
}

int main(int argc, char *argv[])
{
	const char *behaviour = argc == 2 ? argv[1] : "";
	time_t end = time(NULL) + (strcmp(behaviour, "idle") ? SECONDS : 3);

	map(NULL, PAGES * PAGE, 0);
	if (!strcmp(behaviour, "hangs"))
		signal(SIGBUS, again);
	if (!strcmp(behaviour, "handles")) {
		signal(SIGBUS, go_past);
		if (sigsetjmp(past, 1)) {
			map(memory, PAGES * PAGE, MAP_FIXED);
			return 0;
		}
	}
	puts("<b>ready</b>");
	fflush(stdout);
	while (time(NULL) < end) {
		if (!strcmp(behaviour, "survives") && kernel_reads_all())
			return 0;
		if (!strcmp(behaviour, "writes"))
			memset(memory, 2, PAGES / 2 * PAGE);
		else if (!strcmp(behaviour, "forks"))
			child_reads_all();
		else if (strcmp(behaviour, "survives") && strcmp(behaviour, "idle"))
			read_all();
		usleep(10000);
	}
	return 0;
}
