/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * ioctl() of /dev/anon_rmap: pages of the process itself fail, are given back and are listed, or share frames. rust/failures.md documents it.
 */
#ifndef _UAPI_ANON_RMAP_H
#define _UAPI_ANON_RMAP_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* The pages fail, but stay mapped. */
#define ANON_RMAP_KEEP		(1 << 0)
/* Pages that nobody has touched fail, too. */
#define ANON_RMAP_UNTOUCHED	(1 << 1)
/* Pages may share frames with others of the same content. */
#define ANON_RMAP_MERGEABLE	(1 << 2)

/**
 * struct anon_rmap_range - pages of the calling process, for ANON_RMAP_POISON, ANON_RMAP_UNPOISON and ANON_RMAP_MERGE
 * @address: where the first of them is
 * @length: in bytes; each page of which bytes are in the range is one of them
 * @flags: ANON_RMAP_KEEP or ANON_RMAP_UNTOUCHED or 0; for ANON_RMAP_UNPOISON 0; for ANON_RMAP_MERGE ANON_RMAP_MERGEABLE or 0
 * @reserved: 0
 */
struct anon_rmap_range {
	__u64 address;
	__u64 length;
	__u32 flags;
	__u32 reserved;
};

/* How a page has failed. */
enum anon_rmap_kind {
	/* By a drill: it can be given back. */
	ANON_RMAP_KIND_SIMULATED = 1,
	/* By a drill in which it stays mapped. */
	ANON_RMAP_KIND_KEPT = 2,
	/* By the hardware, or as if it had: for good. */
	ANON_RMAP_KIND_HARDWARE = 3,
};

/**
 * struct anon_rmap_page - a page that has failed
 * @address: where the calling process has it
 * @kind: how, an enum anon_rmap_kind
 * @reserved: 0
 */
struct anon_rmap_page {
	__u64 address;
	__u32 kind;
	__u32 reserved;
};

/**
 * struct anon_rmap_list - the pages of the calling process that have failed, for ANON_RMAP_LIST
 * @address: where to look
 * @length: in bytes
 * @pages: pointer to an array of struct anon_rmap_page, which gets them in the order of their addresses
 * @count: in: how many the array has room for; out: how many there are
 */
struct anon_rmap_list {
	__u64 address;
	__u64 length;
	__u64 pages;
	__u64 count;
};

#define ANON_RMAP_IOC		0xB9

/* Lets pages fail. Returns how many have. Needs CAP_SYS_ADMIN. */
#define ANON_RMAP_POISON	_IOW(ANON_RMAP_IOC, 0, struct anon_rmap_range)
/* Gives pages back that have failed. Returns how many there were. Needs CAP_SYS_ADMIN. */
#define ANON_RMAP_UNPOISON	_IOW(ANON_RMAP_IOC, 1, struct anon_rmap_range)
/* Lists pages that have failed. Returns how many are in the array. */
#define ANON_RMAP_LIST		_IOWR(ANON_RMAP_IOC, 2, struct anon_rmap_list)
/*
 * Says of all mappings of which bytes are in the range whether their pages may share frames with others of the same content, as madvise()
 * with MADV_MERGEABLE or MADV_UNMERGEABLE does for other memory; with 0, those of the range that do get frames of their own again.
 */
#define ANON_RMAP_MERGE		_IOW(ANON_RMAP_IOC, 3, struct anon_rmap_range)

#endif
