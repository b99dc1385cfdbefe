// SPDX-License-Identifier: GPL-2.0-only
/*
 * Runs a program, and merges its memory of the device meanwhile, and that of what it starts, as fast as that goes. Exit status: the
 * program's.
 */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "lib/debugfs.h"
#include "lib/file.h"
#include "lib/stats.h"
#include "lib/usage.h"

static void choose(const char *name, unsigned int number)
{
	char path[128];

	snprintf(path, sizeof(path), DEBUGFS "merge/%s", name);
	errno = print_to_file(path, "%u", number);
	if (!errno)
		return;
	perror(path);
	exit(1);
}

int main(int argc, char **argv)
{
	long merged;
	int status = -1;
	pid_t pid;

	no_options(argc, argv, " PROGRAM [ARGUMENT]…: runs PROGRAM, whose memory is merged meanwhile");
	if (argc < 2) {
		fputs("usage: merging PROGRAM [ARGUMENT]…\n", stderr);
		return 125;
	}
	choose("pages_to_scan", 256);
	choose("sleep_millisecs", 1);
	choose("run", 1);
	merged = counter("pages_merged_total");
	pid = fork();
	if (!pid) {
		if (prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0)) {
			perror("merging: PR_SET_MEMORY_MERGE");
			_exit(127);
		}
		execvp(argv[1], argv + 1);
		perror(argv[1]);
		_exit(127);
	}
	/* That is for the program. */
	signal(SIGTERM, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	choose("run", 0);
	printf("# %ld pages were merged\n", counter("pages_merged_total") - merged);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
