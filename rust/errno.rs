// SPDX-License-Identifier: GPL-2.0-only

//! Error codes that the `kernel` crate of Linux 7.2 has no names for.

use core::mem;
use kernel::{
    bindings,
    error::{
        code::EINVAL,
        Error, //
    }, //
};

/// The page has failed.
pub(crate) const EHWPOISON: Error = error(bindings::EHWPOISON);

/// There is nothing where something was asked for.
pub(crate) const ENODATA: Error = error(bindings::ENODATA);

/// It can't be done here, or not to that.
pub(crate) const EOPNOTSUPP: Error = error(bindings::EOPNOTSUPP);

const fn error(errno: u32) -> Error {
    const {
        // SAFETY: If an `Error` is not as large as that, it is not compiled.
        let einval = unsafe { mem::transmute::<Error, i32>(EINVAL) };
        assert!(einval == -(bindings::EINVAL as i32));
    }
    // SAFETY: An `Error` is the number alone, negated, as has been checked, and this is a valid one.
    unsafe { mem::transmute::<i32, Error>(-(errno as i32)) }
}
