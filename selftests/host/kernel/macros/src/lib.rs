// SPDX-License-Identifier: GPL-2.0-only

//! The host's stand-in for the kernel's `macros` crate.

use proc_macro::TokenStream;

/// Compiles a KUnit suite as ordinary host tests: the `#[test]` functions inside are run by cargo.
#[proc_macro_attribute]
pub fn kunit_tests(_suite: TokenStream, module: TokenStream) -> TokenStream {
    let mut gated: TokenStream = "#[cfg(test)]".parse().expect("a well-formed attribute");
    gated.extend(module);
    gated
}
