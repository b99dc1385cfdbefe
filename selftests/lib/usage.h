/* SPDX-License-Identifier: GPL-2.0-only */
/* What a program that takes no options does with one. Those of the kselftest harness have its own. */
#ifndef USAGE_H
#define USAGE_H

/*
 * If the first argument is an option, ends the program: --help prints its name with @arguments and what they are, any
 * other is refused.
 */
void no_options(int argc, char **argv, const char *arguments);

#endif
