// SPDX-License-Identifier: GPL-2.0-only
/* Reference counts. */

#include <linux/refcount.h>

#include "helpers.h"

bool anon_rmap_refcount_inc_not_zero(refcount_t *refs)
{
	return refcount_inc_not_zero(refs);
}
