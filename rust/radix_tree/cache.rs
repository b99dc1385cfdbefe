// SPDX-License-Identifier: GPL-2.0-only

//! The slab cache of the nodes.

use super::node::Node;
use crate::{
    loading::Loading,
    slab_cache::{
        Created,
        SlabCache, //
    }, //
};
use core::{
    alloc::Layout,
    mem::MaybeUninit,
    ptr::NonNull, //
};
use kernel::{
    alloc::{
        AllocError,
        Flags, //
    },
    prelude::*, //
};

/// A node whose values are pointers.
type PointerNode = Node<NonNull<()>>;

static CACHE: SlabCache<PointerNode> = SlabCache::new();

/// As long as this lives, nodes come from a slab cache, charged to the memory cgroup.
pub(crate) struct NodeCache {
    _cache: Created<PointerNode>,
}

impl NodeCache {
    /// Creates the cache; [`ENOMEM`].
    pub(crate) fn new(loading: &mut Loading) -> Result<Self> {
        Ok(Self {
            _cache: CACHE.create(c"anon_rmap_radix_node", loading)?,
        })
    }
}

/// Allocates memory for a node.
pub(super) fn allocate<T>(flags: Flags) -> Result<KBox<MaybeUninit<Node<T>>>, AllocError> {
    if Layout::new::<Node<T>>() != Layout::new::<PointerNode>() {
        return KBox::new_uninit(flags);
    }
    let memory = KBox::into_raw(CACHE.allocate(flags)?);
    // SAFETY: The memory was the box's, and both kinds of nodes have one layout.
    Ok(unsafe { KBox::from_raw(memory.cast()) })
}
