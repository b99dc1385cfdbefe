/* SPDX-License-Identifier: GPL-2.0-only */
/* The kernel's slabs. */
#ifndef SLAB_H
#define SLAB_H

/* Frees what they hold that is empty, and what KASAN keeps of each for a while. */
void shrink_slabs(void);

#endif
