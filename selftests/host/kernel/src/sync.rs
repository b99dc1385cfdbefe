// SPDX-License-Identifier: GPL-2.0

//! Synchronisation: shared pointers and atomics.

mod arc;
pub mod atomic;

pub use arc::{
    Arc,
    UniqueArc, //
};
