// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "device.h"
#include "patience.h"
#include "slow_write.h"

static void *write_slowly(void *argument)
{
	struct slow_write *write = argument;
	struct iovec source = { write->source, write->size }, target = { write->target, write->size };

	write->written = process_vm_writev(getpid(), &source, 1, &target, 1, 0);
	write->error = write->written < 0 ? errno : 0;
	eventfd_write(write->ended, 1);
	return NULL;
}

void forget_slow_write(struct slow_write *write)
{
	close(write->uffd);
	close(write->ended);
	munmap(write->source, SLOW_WRITE_PAGES * PAGE);
}

int begin_slow_write(struct slow_write *write, void *target, size_t size)
{
	struct uffdio_register range = { .range.len = SLOW_WRITE_PAGES * PAGE, .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_api api = { .api = UFFD_API };
	struct pollfd events[2];

	*write = (struct slow_write){
		.target = target,
		.size = size,
		.source = mmap(NULL, SLOW_WRITE_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
		.uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK),
		.ended = eventfd(0, EFD_CLOEXEC),
	};
	range.range.start = (uintptr_t)write->source;
	if (write->source == MAP_FAILED || write->uffd < 0 || write->ended < 0 ||
	    ioctl(write->uffd, UFFDIO_API, &api) || ioctl(write->uffd, UFFDIO_REGISTER, &range))
		return errno;
	errno = pthread_create(&write->thread, NULL, write_slowly, write);
	if (errno)
		return errno;
	events[0] = (struct pollfd){ .fd = write->uffd, .events = POLLIN };
	events[1] = (struct pollfd){ .fd = write->ended, .events = POLLIN };
	return poll_patiently(events, 2, 60000) > 0 ? 0 : ETIMEDOUT;
}

int end_slow_write(struct slow_write *write, const void *data)
{
	struct pollfd ended = { .fd = write->ended, .events = POLLIN };
	struct uffdio_copy copy = {
		.dst = (uintptr_t)write->source,
		.src = (uintptr_t)data,
		.len = SLOW_WRITE_PAGES * PAGE,
	};

	if (!poll(&ended, 1, 0) && ioctl(write->uffd, UFFDIO_COPY, &copy))
		return errno;
	pthread_join(write->thread, NULL);
	forget_slow_write(write);
	return 0;
}
