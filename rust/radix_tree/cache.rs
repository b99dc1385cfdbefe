// SPDX-License-Identifier: GPL-2.0-only

//! The slab cache of the nodes: kmalloc would round them up to nearly twice their size.

use super::node::Node;
use core::{
    alloc::Layout,
    mem::MaybeUninit,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    alloc::{
        AllocError,
        Flags, //
    },
    bindings,
    ffi::c_void,
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Release, //
    },
};

extern "C" {
    // Not in `bindings`, whose header leaves them out.
    fn kmem_cache_alloc_noprof(cache: *mut bindings::kmem_cache, flags: u32) -> *mut c_void;
    fn kmem_cache_destroy(cache: *mut bindings::kmem_cache);
}

/// The cache, or null: nodes come from kmalloc then.
static CACHE: Atomic<*mut bindings::kmem_cache> = Atomic::new(ptr::null_mut());

/// What the cache has room for: nodes whose values are pointers.
const LAYOUT: Layout = Layout::new::<Node<NonNull<()>>>();

/// As long as this lives, nodes come from a slab cache, charged to the memory cgroup.
pub(crate) struct NodeCache(());

impl NodeCache {
    /// Creates the cache; [`ENOMEM`].
    ///
    /// # Safety
    ///
    /// There must be no other. It must be dropped after the last node that was allocated meanwhile,
    /// and when no other can be any more.
    pub(crate) unsafe fn new() -> Result<Self> {
        let mut args = bindings::kmem_cache_args::default();
        // SAFETY: The name is a constant, and `args` lives until the call returns.
        let cache = unsafe {
            bindings::__kmem_cache_create_args(
                c"anon_rmap_radix_node".as_char_ptr(),
                LAYOUT.size() as u32,
                &mut args,
                1 << bindings::_slab_flag_bits__SLAB_ACCOUNT,
            )
        };
        if cache.is_null() {
            return Err(ENOMEM);
        }
        CACHE.store(cache, Release);
        Ok(Self(()))
    }
}

impl Drop for NodeCache {
    fn drop(&mut self) {
        let cache = CACHE.load(Acquire);
        CACHE.store(ptr::null_mut(), Release);
        // SAFETY: `new` created the cache and put it there; nobody uses it nor has an object of it,
        // as its caller promised.
        unsafe { kmem_cache_destroy(cache) };
    }
}

/// The C value of `flags`, which do not give it away.
fn to_gfp(flags: Flags) -> u32 {
    [
        (GFP_KERNEL, bindings::GFP_KERNEL),
        (GFP_ATOMIC, bindings::GFP_ATOMIC),
        (GFP_NOWAIT, bindings::GFP_NOWAIT),
        (__GFP_NOWARN, bindings::__GFP_NOWARN),
    ]
    .into_iter()
    .filter(|(flag, _)| flags.contains(*flag))
    .fold(0, |gfp, (_, bits)| gfp | bits)
}

/// Allocates memory for a node.
pub(super) fn allocate<T>(flags: Flags) -> Result<KBox<MaybeUninit<Node<T>>>, AllocError> {
    let cache = CACHE.load(Acquire);
    if cache.is_null() || Layout::new::<Node<T>>() != LAYOUT {
        return KBox::new_uninit(flags);
    }
    // SAFETY: The cache lives as long as nodes can be allocated.
    let object = unsafe { kmem_cache_alloc_noprof(cache, to_gfp(flags)) };
    if object.is_null() {
        return Err(AllocError);
    }
    // SAFETY: Nobody else has the object, which has the layout of a node: slab objects are aligned
    // for pointers at least. A box frees its memory by `kfree`, which takes objects of any slab
    // cache.
    Ok(unsafe { KBox::from_raw(object.cast()) })
}
