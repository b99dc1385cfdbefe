// SPDX-License-Identifier: GPL-2.0-only

//! What an amap has of an anon: whether others have it, too, decides on copy-on-write.

use super::Anon;
use crate::radix_tree::Item;
use core::{
    ops::Deref,
    ptr, //
};
use kernel::sync::{
    aref::ARef,
    atomic::{
        Acquire,
        Relaxed,
        Release, //
    }, //
};

/// A reference to an anon held by a slot of an amap.
///
/// The number of shares says whether the page is copy-on-write; other references (a walk, an
/// injection) do not make it so.
pub(crate) struct Share(ARef<Anon>);

impl Share {
    /// Makes `anon` shared by one amap more.
    pub(crate) fn new(anon: ARef<Anon>) -> Self {
        anon.shares.fetch_add(1, Relaxed);
        Self(anon)
    }

    /// Whether no other slot holds the anon.
    fn is_only(&self) -> bool {
        self.0.shares.load(Acquire) == 1
    }

    /// Whether this is a share of `anon`.
    pub(crate) fn is(&self, anon: &Anon) -> bool {
        ptr::eq::<Anon>(&*self.0, anon)
    }

    /// A reference for use without the amap's lock.
    pub(crate) fn anon(&self) -> ARef<Anon> {
        self.0.clone()
    }
}

impl Item<'_, Share> {
    /// Whether nobody else can reach the page through an amap. To be asked under the amap's lock.
    pub(crate) fn is_exclusive(&self) -> bool {
        self.unshared && self.value.is_only()
    }
}

impl Deref for Share {
    type Target = Anon;

    fn deref(&self) -> &Anon {
        &self.0
    }
}

impl Clone for Share {
    fn clone(&self) -> Self {
        Self::new(self.0.clone())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // A process that finds itself alone may write: what the others have read comes before.
        self.0.shares.fetch_sub(1, Release);
    }
}
