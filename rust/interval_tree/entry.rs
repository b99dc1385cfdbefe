// SPDX-License-Identifier: GPL-2.0-only

//! What a tree links.

use super::{
    node::Hook,
    ptr::Stored, //
};

/// What is linked: a value, and where the tree has it.
#[repr(C)]
pub(super) struct Entry<T> {
    // First, so that a pointer to it is one to the entry.
    pub(super) hook: Hook<Stored>,
    pub(super) value: T,
}
