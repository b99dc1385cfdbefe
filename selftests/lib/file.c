// SPDX-License-Identifier: GPL-2.0-only
#include "file.h"

char *read_file(const char *path)
{
	size_t size = 0, room = 1 << 16;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *text = fd < 0 ? NULL : malloc(room + 1);
	ssize_t got = 0;

	while (text && (got = read(fd, text + size, room - size)) > 0) {
		size += got;
		if (size == room)
			text = realloc(text, (room *= 2) + 1);
	}
	if (fd >= 0)
		close(fd);
	if (!text || got < 0) {
		free(text);
		return NULL;
	}
	text[size] = '\0';
	return text;
}

int write_file(const char *path, const void *text, size_t size)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int error = 0;

	if (fd < 0)
		return errno;
	if (write(fd, text, size) != (ssize_t)size)
		error = errno;
	close(fd);
	return error;
}

int write_text(const char *path, const char *text)
{
	return write_file(path, text, strlen(text));
}

int print_to_file(const char *path, const char *format, ...)
{
	char text[256];
	va_list arguments;
	int size;

	va_start(arguments, format);
	size = vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	return write_file(path, text, size);
}

long number_in(const char *path, const char *name)
{
	char *text = read_file(path), *found = text ? strstr(text, name) : NULL;
	long number = found ? strtol(found + strlen(name), NULL, 10) : -1;

	free(text);
	return number;
}
