// SPDX-License-Identifier: GPL-2.0-only
#include "device.h"

char *map_memory(bool device, size_t size, int protection, int flags)
{
	int fd = device ? open(DEVICE, O_RDWR | O_CLOEXEC) : -1;
	void *memory;

	if (!device)
		return mmap(NULL, size, protection, flags | MAP_ANONYMOUS, -1, 0);
	if (fd < 0)
		return MAP_FAILED;
	memory = mmap(NULL, size, protection, flags, fd, 0);
	close(fd);
	return memory;
}

char *map_device(size_t pages, int flags)
{
	return map_memory(true, pages * PAGE, PROT_READ | PROT_WRITE, flags);
}

char *map_private(bool device, size_t pages)
{
	return map_memory(device, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
}

char *reserve(size_t pages)
{
	return map_memory(false, pages * PAGE, PROT_NONE, MAP_PRIVATE);
}

void *map_shared(size_t size)
{
	return map_memory(false, size, PROT_READ | PROT_WRITE, MAP_SHARED);
}

uint64_t word(uint64_t seed, size_t page)
{
	return seed << 32 | page * PAGE / sizeof(uint64_t);
}

void fill(void *memory, size_t pages, uint64_t seed)
{
	uint64_t *words = memory;

	for (size_t i = 0; i < pages * PAGE / sizeof(*words); i++)
		words[i] = seed << 32 | i;
}

bool filled(const void *memory, size_t first, size_t pages, uint64_t seed)
{
	const volatile uint64_t *words = memory;

	for (size_t i = first * PAGE / sizeof(*words); i < (first + pages) * PAGE / sizeof(*words); i++)
		if (words[i] != (seed << 32 | i))
			return false;
	return true;
}

bool zeroed(const void *memory, size_t pages)
{
	const volatile uint64_t *words = memory;

	for (size_t i = 0; i < pages * PAGE / sizeof(*words); i++)
		if (words[i])
			return false;
	return true;
}
