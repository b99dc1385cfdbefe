// SPDX-License-Identifier: GPL-2.0-only
/*
 * Linux's interval tree, made from the kernel's own template. It is compiled twice: with the interval
 * in the node, and, with THROUGH_POINTER, with the interval in another structure that the node points
 * to, as an anon_vma_chain points to its VMA.
 */
#include <stdlib.h>
#include "linux.h"
#include <linux/interval_tree_generic.h>

#ifdef THROUGH_POINTER

#define NAME(name) through_pointer_##name

/* As big as a vm_area_struct; only these members are read. */
struct vma {
	u64 start;
	u64 end;
	u64 unread[14];
	u64 pgoff;
	u64 payload;
	u64 unread_too[6];
};

struct node {
	struct vma *vma;
	u64 same_vma[2];
	struct rb_node rb;
	u64 subtree_last;
};

#define START(node) ((node)->vma->pgoff)
#define LAST(node) ((node)->vma->pgoff + (((node)->vma->end - (node)->vma->start) >> 12) - 1)
#define PAYLOAD(node) ((node)->vma->payload)

static void set(struct node *node, u64 start, u64 last)
{
	node->vma->start = start << 12;
	node->vma->end = (last + 1) << 12;
	node->vma->pgoff = start;
}

#else

#define NAME(name) in_node_##name

struct node {
	struct rb_node rb;
	u64 start;
	u64 last;
	u64 subtree_last;
	u64 payload;
};

#define START(node) ((node)->start)
#define LAST(node) ((node)->last)
#define PAYLOAD(node) ((node)->payload)

static void set(struct node *node, u64 start, u64 last)
{
	node->start = start;
	node->last = last;
}

#endif

INTERVAL_TREE_DEFINE(struct node, rb, u64, subtree_last, START, LAST, static inline, tree)

struct rb_root_cached *NAME(new)(void)
{
	return calloc(1, sizeof(struct rb_root_cached));
}

void NAME(free)(struct rb_root_cached *root)
{
	free(root);
}

struct node *NAME(new_node)(u64 start, u64 last, u64 payload)
{
	struct node *node = malloc(sizeof(*node));

#ifdef THROUGH_POINTER
	/* The allocator aligns VMAs to cache lines. */
	node->vma = aligned_alloc(64, sizeof(struct vma));
	node->vma->payload = payload;
#else
	node->payload = payload;
#endif
	set(node, start, last);
	return node;
}

void NAME(free_node)(struct node *node)
{
#ifdef THROUGH_POINTER
	free(node->vma);
#endif
	free(node);
}

void NAME(insert)(struct rb_root_cached *root, struct node **nodes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		tree_insert(nodes[i], root);
}

void NAME(remove)(struct rb_root_cached *root, struct node **nodes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		tree_remove(nodes[i], root);
}

/* As vma_adjust's pre_update and post_update do. */
void NAME(update)(struct rb_root_cached *root, struct node **nodes, const u64 *starts,
		  const u64 *lasts, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		tree_remove(nodes[i], root);
		set(nodes[i], starts[i], lasts[i]);
		tree_insert(nodes[i], root);
	}
}

u64 NAME(stab)(struct rb_root_cached *root, const u64 *points, size_t n)
{
	u64 sum = 0;

	for (size_t i = 0; i < n; i++) {
		struct node *node;

		for (node = tree_iter_first(root, points[i], points[i]); node;
		     node = tree_iter_next(node, points[i], points[i]))
			sum += START(node) ^ PAYLOAD(node);
	}
	return sum;
}

u64 NAME(walk)(struct rb_root_cached *root)
{
	struct node *node;
	u64 sum = 0;

	for (node = tree_iter_first(root, 0, ~(u64)0); node; node = tree_iter_next(node, 0, ~(u64)0))
		sum += START(node) ^ PAYLOAD(node);
	return sum;
}
