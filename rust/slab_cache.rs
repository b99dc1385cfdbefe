// SPDX-License-Identifier: GPL-2.0-only

//! Slab caches, for objects of which there are many: kmalloc would round them up to nearly twice their size.

use crate::{
    gfp::to_gfp,
    helpers,
    loading::Loading, //
};
use core::{
    alloc::Layout,
    marker::PhantomData,
    mem::MaybeUninit,
    ptr, //
};
use kernel::{
    alloc::{
        AllocError,
        Flags, //
    },
    bindings,
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Release, //
    },
};

/// Where objects of type `T` are allocated: in a slab cache while there is one, otherwise by kmalloc.
pub(crate) struct SlabCache<T> {
    /// The cache, or null.
    cache: Atomic<*mut bindings::kmem_cache>,
    objects: PhantomData<fn() -> T>,
}

impl<T> SlabCache<T> {
    /// For a static.
    pub(crate) const fn new() -> Self {
        Self {
            cache: Atomic::new(ptr::null_mut()),
            objects: PhantomData,
        }
    }

    /// Creates the cache, which lasts as long as what is returned. Its objects are charged to the memory cgroup.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if that was done before; [`ENOMEM`].
    pub(crate) fn create(
        &'static self,
        name: &'static CStr,
        loading: &mut Loading,
    ) -> Result<Created<T>> {
        loading.once(self)?;
        // SAFETY: The name is a constant.
        let cache = unsafe { helpers::anon_rmap_cache_create(name.as_char_ptr(), size_of::<T>()) };
        if cache.is_null() {
            return Err(ENOMEM);
        }
        self.cache.store(cache, Release);
        // INVARIANT: By that of `loading`.
        Ok(Created(self))
    }

    /// Allocates memory for an object. Sleeps if `flags` allow it.
    pub(crate) fn allocate(&self, flags: Flags) -> Result<KBox<MaybeUninit<T>>, AllocError> {
        const {
            // Slab objects are aligned for pointers at least.
            assert!(Layout::new::<T>().align() <= align_of::<*const ()>());
        }
        let cache = self.cache.load(Acquire);
        if cache.is_null() {
            return KBox::new_uninit(flags);
        }
        // SAFETY: By the invariant of `Created` the cache lives as long as objects can be allocated.
        let object = unsafe { helpers::anon_rmap_cache_alloc(cache, to_gfp(flags)) };
        if object.is_null() {
            return Err(AllocError);
        }
        // SAFETY: Nobody else has the object, which has the layout of a `T`. A box frees its memory by `kfree`, which takes
        // objects of any slab cache.
        Ok(unsafe { KBox::from_raw(object.cast()) })
    }
}

/// The slab cache is there as long as this is.
///
/// # Invariants
///
/// Was made when the module was [loaded](Loading), and is dropped when nobody allocates objects, or has one.
pub(crate) struct Created<T: 'static>(&'static SlabCache<T>);

impl<T> Drop for Created<T> {
    fn drop(&mut self) {
        let cache = self.0.cache.load(Acquire);
        self.0.cache.store(ptr::null_mut(), Release);
        // SAFETY: `create` created the cache and put it there; by the invariant nobody uses it, nor has an object of it.
        unsafe { helpers::anon_rmap_cache_destroy(cache) };
    }
}
