// SPDX-License-Identifier: GPL-2.0-only

//! The part of the kernel's prelude that host-compiled files use.

pub use core::{
    mem::{
        align_of,
        align_of_val,
        size_of,
        size_of_val, //
    },
    pin::Pin, //
};

pub use macros::kunit_tests;

pub use crate::{
    alloc::{
        flags::*,
        KBox,
        KVec, //
    },
    error::{
        code::*,
        Error,
        Result, //
    },
};
