// SPDX-License-Identifier: GPL-2.0-only

//! `rust/interval_tree.rs` on the host: what its random tests and the fuzzer share. Its KUnit tests and its examples run as
//! those of the stand-in for the `kernel` crate, where it is compiled.

pub mod oracle;
pub mod random;

pub use kernel::interval_tree;
