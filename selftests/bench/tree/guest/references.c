// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the tree is compared with: the kernel's interval tree, as it exports it, and a linked list, which is
 * what Linux searched before. Each operation is a loop over a batch.
 */
#include <linux/interval_tree.h>
#include <linux/list.h>
#include <linux/slab.h>
#include <linux/timex.h>

/* In a tree or in a list. */
struct reference_node {
	struct interval_tree_node tree;
	struct list_head list;
	u64 payload;
};

struct reference {
	struct rb_root_cached root;
	struct list_head head;
};

struct reference *reference_new(void);
void reference_free(struct reference *reference);
struct reference_node *reference_new_node(u64 start, u64 last, u64 payload);
void reference_free_node(struct reference_node *node);
u64 bench_cycles(void);

#define DECLARE(name)                                                                              \
	void name##_insert(struct reference *reference, struct reference_node **nodes, size_t n);  \
	void name##_remove(struct reference *reference, struct reference_node **nodes, size_t n);  \
	void name##_update(struct reference *reference, struct reference_node **nodes,             \
			   const u64 intervals[][2], size_t n);                                    \
	u64 name##_stab(struct reference *reference, const u64 *points, size_t n);                 \
	u64 name##_walk(struct reference *reference)

DECLARE(kernel_c);
DECLARE(list);

/* With icount, one cycle is one instruction. */
u64 bench_cycles(void)
{
	return get_cycles();
}

struct reference *reference_new(void)
{
	struct reference *reference = kmalloc(sizeof(*reference), GFP_KERNEL);

	if (reference) {
		reference->root = RB_ROOT_CACHED;
		INIT_LIST_HEAD(&reference->head);
	}
	return reference;
}

void reference_free(struct reference *reference)
{
	kfree(reference);
}

struct reference_node *reference_new_node(u64 start, u64 last, u64 payload)
{
	struct reference_node *node = kmalloc(sizeof(*node), GFP_KERNEL);

	if (node) {
		node->tree.start = start;
		node->tree.last = last;
		node->payload = payload;
	}
	return node;
}

void reference_free_node(struct reference_node *node)
{
	kfree(node);
}

void kernel_c_insert(struct reference *reference, struct reference_node **nodes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		interval_tree_insert(&nodes[i]->tree, &reference->root);
}

void kernel_c_remove(struct reference *reference, struct reference_node **nodes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		interval_tree_remove(&nodes[i]->tree, &reference->root);
}

void kernel_c_update(struct reference *reference, struct reference_node **nodes,
		     const u64 intervals[][2], size_t n)
{
	for (size_t i = 0; i < n; i++) {
		interval_tree_remove(&nodes[i]->tree, &reference->root);
		nodes[i]->tree.start = intervals[i][0];
		nodes[i]->tree.last = intervals[i][1];
		interval_tree_insert(&nodes[i]->tree, &reference->root);
	}
}

static __always_inline u64 tree_sum(struct reference *reference, unsigned long start,
				    unsigned long last)
{
	struct interval_tree_node *node;
	u64 sum = 0;

	for (node = interval_tree_iter_first(&reference->root, start, last); node;
	     node = interval_tree_iter_next(node, start, last))
		sum += node->start ^ container_of(node, struct reference_node, tree)->payload;
	return sum;
}

u64 kernel_c_stab(struct reference *reference, const u64 *points, size_t n)
{
	u64 sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += tree_sum(reference, points[i], points[i]);
	return sum;
}

u64 kernel_c_walk(struct reference *reference)
{
	return tree_sum(reference, 0, ULONG_MAX);
}

void list_insert(struct reference *reference, struct reference_node **nodes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		list_add_tail(&nodes[i]->list, &reference->head);
}

void list_remove(struct reference *reference, struct reference_node **nodes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		list_del(&nodes[i]->list);
}

void list_update(struct reference *reference, struct reference_node **nodes,
		 const u64 intervals[][2], size_t n)
{
	for (size_t i = 0; i < n; i++) {
		nodes[i]->tree.start = intervals[i][0];
		nodes[i]->tree.last = intervals[i][1];
	}
}

static __always_inline u64 list_sum(struct reference *reference, unsigned long start,
				    unsigned long last)
{
	struct reference_node *node;
	u64 sum = 0;

	list_for_each_entry(node, &reference->head, list)
		if (node->tree.start <= last && start <= node->tree.last)
			sum += node->tree.start ^ node->payload;
	return sum;
}

u64 list_stab(struct reference *reference, const u64 *points, size_t n)
{
	u64 sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += list_sum(reference, points[i], points[i]);
	return sum;
}

u64 list_walk(struct reference *reference)
{
	return list_sum(reference, 0, ULONG_MAX);
}
