/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the kernel's rbtree.h, rbtree_augmented.h and interval_tree_generic.h need from other headers,
 * as far as a single-threaded user space needs it. Included before everything else.
 */
#ifndef BENCH_LINUX_H
#define BENCH_LINUX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint64_t u64;

#undef __always_inline
#define __always_inline inline __attribute__((__always_inline__))
#define unlikely(x) __builtin_expect(!!(x), 0)
#define READ_ONCE(x) (*(const volatile __typeof__(x) *)&(x))
#define WRITE_ONCE(x, value) ((void)(*(volatile __typeof__(x) *)&(x) = (value)))
#define container_of(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

/* On x86 these are plain accesses that the compiler keeps in order. */
#define rcu_assign_pointer(p, value) \
	({ __asm__ __volatile__("" ::: "memory"); WRITE_ONCE(p, value); })
#define rcu_dereference_raw(p) READ_ONCE(p)

#define EXPORT_SYMBOL(symbol)
#define EXPORT_SYMBOL_GPL(symbol)

#endif
