/* SPDX-License-Identifier: GPL-2.0-only */
/* Files of /proc, /sys and debugfs: read as a whole, written in one go. */
#ifndef FILE_H
#define FILE_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The content of a file of any size, to be freed; NULL with errno. */
char *read_file(const char *path);

/* Writes to a file in one go; returns 0 or the errno. */
int write_file(const char *path, const void *text, size_t size);

/* As write_file(), of a text. */
int write_text(const char *path, const char *text);

/* As write_file(), of up to 255 bytes as printf() makes them. */
__attribute__((format(printf, 2, 3))) int print_to_file(const char *path, const char *format, ...);

/* The number behind @name in a file, with "" the one that the file begins with; -1 if there is none. */
long number_in(const char *path, const char *name);

#endif
