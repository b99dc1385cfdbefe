// SPDX-License-Identifier: GPL-2.0-only

//! Allocation flags, for functions of the kernel that are called as C.

use kernel::{
    alloc::Flags,
    bindings,
    prelude::*, //
};

/// `__GFP_ACCOUNT`: what is allocated is charged to the memory cgroup of the current process.
pub(crate) fn account() -> Flags {
    GFP_KERNEL_ACCOUNT & !GFP_KERNEL
}

/// The C value of `flags`, which do not give it away.
pub(crate) fn to_gfp(flags: Flags) -> u32 {
    let mut unknown = flags;
    let gfp = [
        (GFP_KERNEL, bindings::GFP_KERNEL),
        (GFP_ATOMIC, bindings::GFP_ATOMIC),
        (GFP_NOWAIT, bindings::GFP_NOWAIT),
        (
            account(),
            bindings::GFP_KERNEL_ACCOUNT & !bindings::GFP_KERNEL,
        ),
        (__GFP_NOWARN, bindings::__GFP_NOWARN),
        (__GFP_ZERO, bindings::__GFP_ZERO),
        (__GFP_HIGHMEM, bindings::__GFP_HIGHMEM),
    ]
    .into_iter()
    .filter(|(flag, _)| flags.contains(*flag))
    .fold(0, |gfp, (flag, bits)| {
        unknown = unknown & !flag;
        gfp | bits
    });
    debug_assert!(unknown == flags & !flags, "a flag is lost");
    gfp
}
