// SPDX-License-Identifier: GPL-2.0-only

//! The kernel's tree and a list, from `references.c`.

use crate::Tree;
use core::{
    ffi::c_void,
    ptr::NonNull, //
};
use kernel::prelude::*;

/// A node of the C code.
type Node = NonNull<c_void>;

extern "C" {
    fn bench_cycles() -> u64;
    fn reference_new() -> *mut c_void;
    fn reference_free(reference: *mut c_void);
    fn reference_new_node(start: u64, last: u64, payload: u64) -> *mut c_void;
    fn reference_free_node(node: *mut c_void);
}

pub(crate) fn cycles() -> u64 {
    // SAFETY: It has no precondition.
    unsafe { bench_cycles() }
}

/// # Invariants
///
/// A live `struct reference`.
struct Reference(NonNull<c_void>);

impl Reference {
    fn new() -> Result<Self> {
        // SAFETY: It has no precondition.
        let new = NonNull::new(unsafe { reference_new() }).ok_or(ENOMEM)?;
        Ok(Self(new))
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { reference_free(self.0.as_ptr()) };
    }
}

macro_rules! declare {
    ($type:ident, $name:literal, $insert:ident, $remove:ident, $update:ident, $stab:ident,
     $walk:ident) => {
        extern "C" {
            fn $insert(reference: *mut c_void, nodes: *const Node, n: usize);
            fn $remove(reference: *mut c_void, nodes: *const Node, n: usize);
            fn $update(
                reference: *mut c_void,
                nodes: *const Node,
                intervals: *const [u64; 2],
                n: usize,
            );
            fn $stab(reference: *mut c_void, points: *const u64, n: usize) -> u64;
            fn $walk(reference: *mut c_void) -> u64;
        }

        pub(crate) struct $type(Reference);

        impl Tree for $type {
            type Interval = [u64; 2];
            type Unlinked = Node;
            type Inserted = Node;
            type Linked = Node;
            type Removed = Node;

            const NAME: &'static str = $name;

            fn new() -> Result<Self> {
                Ok(Self(Reference::new()?))
            }

            fn interval((start, last): (u64, u64)) -> Result<[u64; 2]> {
                Ok([start, last])
            }

            fn prepare((start, last): (u64, u64), payload: u64) -> Result<Node> {
                // SAFETY: It has no precondition.
                NonNull::new(unsafe { reference_new_node(start, last, payload) }).ok_or(ENOMEM)
            }

            fn insert(&mut self, unlinked: &mut KVec<Node>, inserted: &mut KVec<Node>) -> Result {
                // SAFETY: A live tree, and nodes that are in none.
                unsafe { $insert(self.0 .0.as_ptr(), unlinked.as_ptr(), unlinked.len()) };
                core::mem::swap(unlinked, inserted);
                Ok(())
            }

            fn linked(inserted: Node) -> Node {
                inserted
            }

            fn remove(&mut self, linked: &mut KVec<Node>, removed: &mut KVec<Node>) -> Result {
                // SAFETY: A live tree and nodes of it.
                unsafe { $remove(self.0 .0.as_ptr(), linked.as_ptr(), linked.len()) };
                core::mem::swap(linked, removed);
                Ok(())
            }

            fn free(removed: Node) {
                // SAFETY: A node that is in no tree.
                unsafe { reference_free_node(removed.as_ptr()) };
            }

            fn update(&mut self, linked: &[Node], intervals: &[[u64; 2]]) -> Result {
                if intervals.len() != linked.len() {
                    return Err(EINVAL);
                }
                // SAFETY: A live tree and nodes of it; the arrays are equally long.
                unsafe {
                    $update(
                        self.0 .0.as_ptr(),
                        linked.as_ptr(),
                        intervals.as_ptr(),
                        linked.len(),
                    )
                };
                Ok(())
            }

            fn stab(&self, points: &[u64]) -> u64 {
                // SAFETY: A live tree.
                unsafe { $stab(self.0 .0.as_ptr(), points.as_ptr(), points.len()) }
            }

            fn walk(&self) -> u64 {
                // SAFETY: A live tree.
                unsafe { $walk(self.0 .0.as_ptr()) }
            }
        }
    };
}

declare!(
    KernelC,
    "kernel_c",
    kernel_c_insert,
    kernel_c_remove,
    kernel_c_update,
    kernel_c_stab,
    kernel_c_walk
);
declare!(
    List,
    "list",
    list_insert,
    list_remove,
    list_update,
    list_stab,
    list_walk
);
