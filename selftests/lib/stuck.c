// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "access.h"
#include "device.h"
#include "pagemap.h"
#include "patience.h"
#include "proc.h"
#include "process.h"
#include "stuck.h"

static void answer(int fuse, const struct fuse_in_header *request, int error, const void *data, size_t size)
{
	char text[sizeof(struct fuse_out_header) + 256];
	struct fuse_out_header header = {
		.len = sizeof(header) + size,
		.error = -error,
		.unique = request->unique,
	};

	memcpy(text, &header, sizeof(header));
	memcpy(text + sizeof(header), data, size);
	if (write(fuse, text, header.len) < 0)
		perror("FUSE");
}

/* Serves a file system that is but a file of one page, which is never read to the end. */
static void *serve_file(void *argument)
{
	static const struct fuse_init_out init = {
		.major = FUSE_KERNEL_VERSION,
		.minor = 31,
		.max_write = 4096,
	};
	static const struct fuse_attr_out attributes = {
		.attr_valid = 1000,
		.attr = { .ino = FUSE_ROOT_ID, .mode = S_IFREG | 0600, .nlink = 1, .size = PAGE },
	};
	static const struct fuse_open_out opened;
	struct stuck *stuck = argument;
	char buffer[4 * FUSE_MIN_READ_BUFFER];
	const struct fuse_in_header *request = (void *)buffer;

	while (read(stuck->fuse, buffer, sizeof(buffer)) > 0) {
		switch (request->opcode) {
		case FUSE_INIT:
			answer(stuck->fuse, request, 0, &init, sizeof(init));
			break;
		case FUSE_GETATTR:
			answer(stuck->fuse, request, 0, &attributes, sizeof(attributes));
			break;
		case FUSE_OPEN:
			answer(stuck->fuse, request, 0, &opened, sizeof(opened));
			break;
		case FUSE_READ:
			stuck->shared->is_read = true;
			break;
		case FUSE_FORGET:
		case FUSE_INTERRUPT:
			break;
		default:
			answer(stuck->fuse, request, ENOSYS, "", 0);
		}
	}
	return NULL;
}

static void *read_file_in_memory(void *file_in_memory)
{
	int self = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	char byte;

	/* It fails in the end. */
	return (void *)pread(self, &byte, 1, (uintptr_t)file_in_memory);
}

/* What the process does that gets stuck. @memory is not to be its. */
__attribute__((noreturn)) static void get_stuck(struct stuck *stuck, pid_t parent, char *memory, size_t pages)
{
	size_t own_pages = STUCK_PAGES;
	struct stat status;
	pthread_t reader;
	void *mapped;
	char *own;
	int file;

	die_with(parent);
	/* Else the file system would not end with the parent. */
	close(stuck->fuse);
	munmap(memory, pages * PAGE);
	own = map_device(own_pages, MAP_PRIVATE);
	file = open(stuck->path, O_RDONLY | O_CLOEXEC);
	mapped = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, file, 0);
	/* It asks for the size of the file only then. */
	if (own == MAP_FAILED || mapped == MAP_FAILED || fstat(file, &status))
		_exit(1);
	fill(own, own_pages, 3);
	for (size_t i = 0; i < own_pages; i++)
		stuck->shared->pfns[i] = pfn_of(own + i * PAGE);
	if (pthread_create(&reader, NULL, read_file_in_memory, mapped))
		_exit(1);
	while (!stuck->shared->is_read)
		usleep(1000);
	stuck->shared->mapped = own_pages;
	mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	while (!stuck->shared->ended)
		usleep(1000);
	for (size_t i = 0; i < own_pages; i++) {
		struct access access = load(own + i * PAGE);

		stuck->shared->refused += access.signal == SIGBUS && access.code == BUS_MCEERR_AR;
	}
	_exit(0);
}

bool sleeps_deeply(uint64_t pid)
{
	return state_of(pid) == 'D';
}

static bool is_set(uint64_t address)
{
	return *(volatile size_t *)address;
}

int start_stuck(struct stuck *stuck, char *memory, size_t pages)
{
	pid_t parent = getpid();
	char options[64];
	int file;

	*stuck = (struct stuck){ .path = "/tmp/stuck.XXXXXX", .fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC) };
	stuck->shared = mmap(NULL, sizeof(*stuck->shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	file = mkstemp(stuck->path);
	if (stuck->fuse < 0 || stuck->shared == MAP_FAILED || file < 0)
		return errno;
	close(file);
	snprintf(options, sizeof(options), "fd=%d,rootmode=100000,user_id=0,group_id=0", stuck->fuse);
	if (mount("stuck", stuck->path, "fuse", MS_NOSUID | MS_NODEV, options))
		return errno;
	errno = pthread_create(&stuck->server, NULL, serve_file, stuck);
	if (errno)
		return errno;
	stuck->pid = fork();
	if (!stuck->pid)
		get_stuck(stuck, parent, memory, pages);
	return await(is_set, (uint64_t)&stuck->shared->mapped) && await(sleeps_deeply, stuck->pid) ? 0 : ETIMEDOUT;
}

void free_stuck(struct stuck *stuck)
{
	umount2(stuck->path, MNT_FORCE | MNT_DETACH);
	pthread_join(stuck->server, NULL);
	close(stuck->fuse);
	unlink(stuck->path);
}

size_t end_stuck(struct stuck *stuck)
{
	stuck->shared->ended = true;
	waitpid(stuck->pid, NULL, 0);
	return stuck->shared->refused;
}
