// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "device.h"
#include "peer.h"

static struct peer *peers;

__attribute__((constructor)) static void map_peers(void)
{
	/* All of it now, and not when memory is made to fail. */
	peers = mmap(NULL, MAX_PEERS * sizeof(*peers), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
}

void serve(struct peer *peer, pid_t parent)
{
	die_with(parent);
	for (;;) {
		while (sem_wait(&peer->request))
			;
		peer->value = peer->function(peer->argument, peer->value);
		sem_post(&peer->reply);
	}
}

long start_peer(void *argument, long unused)
{
	struct peer *peer = argument;
	pid_t parent = getpid(), pid = fork();

	(void)unused;
	if (!pid)
		serve(peer, parent);
	peer->pid = pid;
	return pid > 0 ? 0 : errno;
}

struct peer *new_peer(void)
{
	static int used;
	struct peer *peer = peers;

	while (peer < peers + used && !peer->is_free)
		peer++;
	if (peer == peers + MAX_PEERS)
		abort();
	used += peer == peers + used;
	peer->is_free = false;
	sem_init(&peer->request, 1, 0);
	sem_init(&peer->reply, 1, 0);
	return peer;
}

struct peer *fork_peer(void)
{
	struct peer *peer = new_peer();

	return start_peer(peer, 0) ? NULL : peer;
}

void begin_peer_call(struct peer *peer, long (*function)(void *, long), void *argument, long value)
{
	peer->function = function;
	peer->argument = argument;
	peer->value = value;
	sem_post(&peer->request);
}

long end_peer_call(struct peer *peer)
{
	for (bool died = false;;) {
		struct timespec second;

		clock_gettime(CLOCK_REALTIME, &second);
		second.tv_sec++;
		if (!sem_timedwait(&peer->reply, &second))
			return peer->value;
		if (died)
			return ESRCH;
		died = is_dead(peer->pid);
	}
}

long peer_call(struct peer *peer, long (*function)(void *, long), void *argument, long value)
{
	begin_peer_call(peer, function, argument, value);
	return end_peer_call(peer);
}

struct peer *peer_fork(struct peer *peer)
{
	struct peer *child = new_peer();

	errno = peer_call(peer, start_peer, child, 0);
	return errno ? NULL : child;
}

static long load_in_peer(void *address, long access)
{
	*(struct access *)access = load(address);
	return 0;
}

static long store_in_peer(void *address, long access)
{
	*(struct access *)access = store(address, ((struct access *)access)->value);
	return 0;
}

struct access peer_load(struct peer *peer, const void *address)
{
	peer_call(peer, load_in_peer, (void *)address, (long)&peer->access);
	return peer->access;
}

struct access peer_store(struct peer *peer, void *address, uint64_t value)
{
	peer->access.value = value;
	peer_call(peer, store_in_peer, address, (long)&peer->access);
	return peer->access;
}

static long munmap_here(void *memory, long pages)
{
	return munmap(memory, pages * PAGE) ? errno : 0;
}

int peer_munmap(struct peer *peer, void *memory, size_t pages)
{
	return peer_call(peer, munmap_here, memory, pages);
}

void give_up_peer(struct peer *peer)
{
	peer->is_free = true;
}

void end_peer(struct peer *peer)
{
	kill(peer->pid, SIGKILL);
	waitpid(peer->pid, NULL, 0);
}
