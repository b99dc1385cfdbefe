// SPDX-License-Identifier: GPL-2.0-only

//! Allocation flags, for functions of the kernel that are called as C.

use kernel::{
    alloc::Flags,
    bindings,
    prelude::*, //
};

/// The C value of `flags`, which do not give it away. Those that no caller uses are left out.
pub(crate) fn to_gfp(flags: Flags) -> u32 {
    [
        (GFP_KERNEL, bindings::GFP_KERNEL),
        (GFP_KERNEL_ACCOUNT, bindings::GFP_KERNEL_ACCOUNT),
        (GFP_ATOMIC, bindings::GFP_ATOMIC),
        (GFP_NOWAIT, bindings::GFP_NOWAIT),
        (__GFP_NOWARN, bindings::__GFP_NOWARN),
        (__GFP_ZERO, bindings::__GFP_ZERO),
        (__GFP_HIGHMEM, bindings::__GFP_HIGHMEM),
    ]
    .into_iter()
    .filter(|(flag, _)| flags.contains(*flag))
    .fold(0, |gfp, (_, bits)| gfp | bits)
}
