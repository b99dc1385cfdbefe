// SPDX-License-Identifier: GPL-2.0-only

//! `rust/radix_tree.rs` on the host: its KUnit tests, and those that need a model beside it.

// What the tests leave unused is for the module.
#![allow(dead_code)]

// A directory, so that the file's own modules are found beside it.
#[path = "../../../../rust"]
mod driver {
    pub(crate) mod radix_tree;
}

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod threads;
