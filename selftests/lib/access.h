/* SPDX-License-Identifier: GPL-2.0-only */
/* Accesses that may raise a signal. */
#ifndef ACCESS_H
#define ACCESS_H

#include <setjmp.h>
#include <signal.h>
#include <stdint.h>

/* What came of an access: a value, or a signal. */
struct access {
	uint64_t value;
	int signal;
	int code;
	void *address;
	int lsb;
};

/* For the handler of SIGBUS and SIGSEGV: where it returns to, NULL while nothing is attempted, and what it fills. */
struct attempt {
	sigjmp_buf *back;
	struct access *seen;
};

/* Of this thread. */
extern __thread struct attempt this_attempt;

/* Does @statement; @access tells the signal if there is one. A macro, as it can be returned to only from what it has called. */
#define ATTEMPT(access, statement) do {			\
	sigjmp_buf here;				\
							\
	this_attempt.seen = &(access);			\
	this_attempt.back = &here;			\
	if (!sigsetjmp(here, 0))			\
		statement;				\
	this_attempt.back = NULL;			\
} while (0)

/* Reads the word at @address. */
struct access load(const void *address);

/* Writes the word at @address. */
struct access store(void *address, uint64_t value);

/* Lets the kernel write the word at @address, by read(); returns 0 or the errno. */
int store_by_kernel(void *address, uint64_t value);

#endif
