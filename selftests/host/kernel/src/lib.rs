// SPDX-License-Identifier: GPL-2.0-only

//! A stand-in for the `kernel` crate, with just what the files under `rust/` that need no kernel use.
//!
//! Paths, names and signatures are those of Linux, so those files compile here unchanged.

pub mod alloc;
pub mod error;
pub mod prelude;
pub mod sync;

pub use error::{
    Error,
    Result, //
};
