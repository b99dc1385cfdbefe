// SPDX-License-Identifier: GPL-2.0-only

//! `rust/interval_tree.rs` on the host: its KUnit tests run as cargo tests, and what the random tests and the
//! fuzzer share.

#[path = "../../../../rust"]
mod module {
    pub mod interval_tree;
}

pub mod oracle;
pub mod random;

pub use module::interval_tree;
