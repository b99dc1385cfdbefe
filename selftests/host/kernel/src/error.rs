// SPDX-License-Identifier: GPL-2.0-only

//! Kernel errors.

use crate::alloc::AllocError;
use std::num::NonZeroI32;

/// A kernel error: a negative errno.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Error(NonZeroI32);

impl Error {
    /// The kernel error code, negative.
    pub fn to_errno(self) -> i32 {
        self.0.get()
    }
}

impl From<AllocError> for Error {
    fn from(_: AllocError) -> Self {
        code::ENOMEM
    }
}

/// A [`core::result::Result`] with a kernel error.
pub type Result<T = (), E = Error> = core::result::Result<T, E>;

/// The error codes.
pub mod code {
    use super::*;

    macro_rules! declare {
        ($($name:ident = $errno:literal),* $(,)?) => {$(
            #[allow(missing_docs)]
            pub const $name: Error = Error(match NonZeroI32::new(-$errno) {
                Some(errno) => errno,
                None => panic!("an errno is not zero"),
            });
        )*};
    }

    declare! {
        EPERM = 1, ENOENT = 2, EIO = 5, EAGAIN = 11, ENOMEM = 12, EFAULT = 14, EBUSY = 16,
        EEXIST = 17, EINVAL = 22, ENOSPC = 28, ERANGE = 34, EOVERFLOW = 75, EOPNOTSUPP = 95,
    }
}
