// SPDX-License-Identifier: GPL-2.0-only
/*
 * Runs a command, and kills it with its process group if it does not end in time, which is counted as patience.h says.
 * Exit status: the command's, or 124 if it was killed.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/patience.h"
#include "lib/usage.h"

int main(int argc, char **argv)
{
	int seconds = argc > 2 ? atoi(argv[1]) : 0, status;
	struct pollfd command = { .events = POLLIN };
	pid_t pid;

	no_options(argc, argv, " SECONDS COMMAND [ARGUMENT]…: kills COMMAND with status 124 if it takes longer");
	if (seconds <= 0) {
		fputs("usage: within SECONDS COMMAND [ARGUMENT]…\n", stderr);
		return 125;
	}
	pid = fork();
	if (!pid) {
		setpgid(0, 0);
		execvp(argv[2], &argv[2]);
		perror(argv[2]);
		_exit(127);
	}
	command.fd = syscall(SYS_pidfd_open, pid, 0);
	if (command.fd < 0) {
		perror("within");
		return 125;
	}
	if (poll_patiently(&command, 1, seconds * 1000)) {
		waitpid(pid, &status, 0);
		return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	}
	fprintf(stderr, "within: %s did not end in %d s of an idle machine\n", argv[2], seconds);
	kill(-pid, SIGKILL);
	/* Unless the kernel keeps it. */
	poll_patiently(&command, 1, 10000);
	return 124;
}
