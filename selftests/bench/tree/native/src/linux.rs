// SPDX-License-Identifier: GPL-2.0-only

//! Linux's tree, from `linux.c`.

use crate::Tree;
use std::{
    convert::Infallible,
    ffi::c_void, //
};

/// A tree or a node of the C code.
type Opaque = *mut c_void;

macro_rules! declare {
    ($type:ident, $name:literal, $new:ident, $free:ident, $new_node:ident, $free_node:ident,
     $insert:ident, $remove:ident, $update:ident, $stab:ident, $walk:ident) => {
        extern "C" {
            fn $new() -> Opaque;
            fn $free(tree: Opaque);
            fn $new_node(start: u64, last: u64, payload: u64) -> Opaque;
            fn $free_node(node: Opaque);
            fn $insert(tree: Opaque, nodes: *const Opaque, n: usize);
            fn $remove(tree: Opaque, nodes: *const Opaque, n: usize);
            fn $update(
                tree: Opaque,
                nodes: *const Opaque,
                starts: *const u64,
                lasts: *const u64,
                n: usize,
            );
            fn $stab(tree: Opaque, points: *const u64, n: usize) -> u64;
            fn $walk(tree: Opaque) -> u64;
        }

        /// # Invariants
        ///
        /// A live tree of the C code.
        pub struct $type(Opaque);

        impl Tree for $type {
            type Unlinked = Opaque;
            type Linked = Opaque;
            type Removed = Opaque;
            type Surplus = Infallible;

            const NAME: &'static str = $name;

            fn new() -> Self {
                // SAFETY: It has no precondition.
                Self(unsafe { $new() })
            }

            fn prepare(
                (start, last): (u64, u64),
                payload: u64,
                _surplus: Option<Infallible>,
            ) -> Opaque {
                // SAFETY: It has no precondition.
                unsafe { $new_node(start, last, payload) }
            }

            fn insert(
                &mut self,
                unlinked: Vec<Opaque>,
                _intervals: &[(u64, u64)],
                linked: &mut Vec<Opaque>,
                _surplus: &mut Vec<Infallible>,
            ) {
                // SAFETY: A live tree, and nodes that are in none.
                unsafe { $insert(self.0, unlinked.as_ptr(), unlinked.len()) };
                linked.extend(unlinked);
            }

            fn remove(&mut self, linked: Vec<Opaque>) -> Vec<Opaque> {
                // SAFETY: A live tree and nodes of it.
                unsafe { $remove(self.0, linked.as_ptr(), linked.len()) };
                linked
            }

            fn free(removed: Opaque) -> Option<Infallible> {
                // SAFETY: A node that is in no tree.
                unsafe { $free_node(removed) };
                None
            }

            fn update(&mut self, linked: &mut [Opaque], starts: &[u64], lasts: &[u64]) {
                assert!(linked.len() == starts.len() && linked.len() == lasts.len());
                // SAFETY: A live tree and nodes of it; the arrays are equally long.
                unsafe {
                    $update(
                        self.0,
                        linked.as_ptr(),
                        starts.as_ptr(),
                        lasts.as_ptr(),
                        linked.len(),
                    )
                };
            }

            fn stab(&self, points: &[u64]) -> u64 {
                // SAFETY: A live tree.
                unsafe { $stab(self.0, points.as_ptr(), points.len()) }
            }

            fn walk(&self) -> u64 {
                // SAFETY: A live tree.
                unsafe { $walk(self.0) }
            }
        }

        impl Drop for $type {
            fn drop(&mut self) {
                // SAFETY: A live tree, without nodes at the end of a run.
                unsafe { $free(self.0) };
            }
        }
    };
}

declare!(
    InNode,
    "c_in_node",
    in_node_new,
    in_node_free,
    in_node_new_node,
    in_node_free_node,
    in_node_insert,
    in_node_remove,
    in_node_update,
    in_node_stab,
    in_node_walk
);
declare!(
    ThroughPointer,
    "c_through_pointer",
    through_pointer_new,
    through_pointer_free,
    through_pointer_new_node,
    through_pointer_free_node,
    through_pointer_insert,
    through_pointer_remove,
    through_pointer_update,
    through_pointer_stab,
    through_pointer_walk
);
