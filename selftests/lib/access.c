// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "access.h"

__thread struct attempt this_attempt;

static void access_failed(int signal, siginfo_t *info, void *context)
{
	(void)context;
	if (!this_attempt.back)
		abort();
	*this_attempt.seen = (struct access){
		.value = this_attempt.seen->value,
		.signal = signal,
		.code = info->si_code,
		.address = info->si_addr,
		.lsb = info->si_addr_lsb,
	};
	siglongjmp(*this_attempt.back, 1);
}

__attribute__((constructor)) static void catch_failed_accesses(void)
{
	/* Not masked in the handler, so that leaving it by siglongjmp() needs no system call. */
	struct sigaction action = { .sa_sigaction = access_failed, .sa_flags = SA_SIGINFO | SA_NODEFER };

	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGSEGV, &action, NULL);
}

struct access load(const void *address)
{
	struct access access = {};

	ATTEMPT(access, access.value = *(const volatile uint64_t *)address);
	return access;
}

struct access store(void *address, uint64_t value)
{
	struct access access = { .value = value };

	ATTEMPT(access, *(volatile uint64_t *)address = value);
	return access;
}

int store_by_kernel(void *address, uint64_t value)
{
	int ends[2], error = 0;

	if (pipe(ends))
		return errno;
	if (write(ends[1], &value, sizeof(value)) != sizeof(value) ||
	    read(ends[0], address, sizeof(value)) != sizeof(value))
		error = errno;
	close(ends[0]);
	close(ends[1]);
	return error;
}
