/* SPDX-License-Identifier: GPL-2.0-only */
/* Processes that do as they are told. */
#ifndef PEER_H
#define PEER_H

#include <semaphore.h>
#include <stddef.h>
#include <sys/types.h>

#include "access.h"
#include "process.h"

/*
 * A process that was forked and now calls what it is told to, and tells what came of it. It dies with the one that it was
 * forked from. All processes share this, so that one can direct those that its peers have forked.
 */
struct peer {
	pid_t pid;
	sem_t request, reply;
	long (*function)(void *argument, long value);
	void *argument;
	long value;
	struct access access;
	bool is_free;
};

/* So many in the life of a program, but for those that are given up. */
#define MAX_PEERS 256

/* A peer whose process is yet to be forked. */
struct peer *new_peer(void);

/* Forks the process of @peer, a struct peer, from this one; returns 0 or the errno. */
long start_peer(void *peer, long unused);

/* Does what @peer is told, in the process that @parent has forked for it. */
__attribute__((noreturn)) void serve(struct peer *peer, pid_t parent);

/* Forks this process; NULL with errno. */
struct peer *fork_peer(void);

/* Lets the peer fork; NULL with errno. */
struct peer *peer_fork(struct peer *peer);

/* Lets the peer call function(argument, value), and does not wait for that. */
void begin_peer_call(struct peer *peer, long (*function)(void *, long), void *argument, long value);

/* What that has returned; ESRCH if the peer, which this process has forked, died instead. */
long end_peer_call(struct peer *peer);

/* What function(argument, value) returns in the peer; as end_peer_call(). */
long peer_call(struct peer *peer, long (*function)(void *, long), void *argument, long value);

/* As load() and store(), by the peer. */
struct access peer_load(struct peer *peer, const void *address);
struct access peer_store(struct peer *peer, void *address, uint64_t value);

/* Unmaps pages in the peer; returns 0 or the errno. */
int peer_munmap(struct peer *peer, void *memory, size_t pages);

/* Gives up a peer whose process has ended: another one takes its place. */
void give_up_peer(struct peer *peer);

/* Ends a peer that this process has forked, and waits for it. */
void end_peer(struct peer *peer);

#endif
