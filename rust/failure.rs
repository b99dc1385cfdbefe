// SPDX-License-Identifier: GPL-2.0

//! What a failure is, for all who have to do with one.

use crate::process;
use core::fmt;
use kernel::{
    mm::Mm,
    task::Pid, //
};

/// An address of a process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// `None` if it has gone.
    pub(crate) process: Option<process::Id>,
    pub(crate) address: usize,
}

impl fmt::Display for Place {
    /// As the current task would name it, with pid 0 if it can't.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid={} address={:#x}", self.pid(), self.address)
    }
}

impl Place {
    /// `address` of the process whose address space `mm` is.
    pub(crate) fn in_mm(mm: &Mm, address: usize) -> Self {
        Self {
            process: process::Id::owner(mm),
            address,
        }
    }

    /// The number of the process, see [`process::Id::number`].
    pub(crate) fn pid(&self) -> Pid {
        self.process.as_ref().map_or(0, |process| process.number())
    }

    /// Whether the current task can name the process, and it has memory.
    pub(crate) fn is_usable(&self) -> bool {
        let usable = |process: &process::Id| process.number() != 0 && process.has_memory();
        self.process.as_ref().is_some_and(usable)
    }
}
