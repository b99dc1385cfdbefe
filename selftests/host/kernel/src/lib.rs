// SPDX-License-Identifier: GPL-2.0-only

//! A stand-in for the `kernel` crate, with just what the files under `rust/` that need no kernel use.
//!
//! Paths, names and signatures are those of Linux, so those files compile here unchanged.

// Inside, too, the crate is called so.
extern crate self as kernel;

pub mod alloc;
pub mod bug;
pub mod error;
pub mod prelude;
pub mod sync;

// A directory, so that the file's own modules are found beside it.
#[path = "../../../../rust"]
mod proposed {
    pub mod interval_tree;
}

/// Proposed for the kernel crate, and so named in its examples as if it was there.
pub use proposed::interval_tree;

pub use error::{
    Error,
    Result, //
};
