// SPDX-License-Identifier: GPL-2.0-only

//! Functions of `helpers/*.c`, which are not in `bindings`; and `THIS_MODULE`.
//!
//! The declarations are made of `helpers/helpers.h` by bindgen, when the module is built.

use kernel::bindings;

/// `THIS_MODULE`, for what core mm keeps of ours.
pub(crate) const THIS_MODULE: *mut bindings::module = &raw mut bindings::__this_module;

pub(crate) use generated::*;

#[allow(
    clippy::all,
    dead_code,
    improper_ctypes,
    non_camel_case_types,
    non_upper_case_globals,
    unreachable_pub,
    reason = "written by bindgen; some types have no fields in a kernel without lockdep"
)]
mod generated {
    use kernel::{
        bindings::*,
        ffi, //
    };

    include!(env!("ANON_RMAP_HELPERS"));
}
