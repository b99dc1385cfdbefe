// SPDX-License-Identifier: GPL-2.0-only

//! What a failure is, for all who have to do with one.

use crate::process;
use core::fmt;
use kernel::{
    mm::Mm,
    prelude::*,
    sync::SetOnce,
    task::Pid, //
};

/// How a failure was reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// debugfs `poison_addr`.
    PoisonAddr,
    /// debugfs `poison_pfn`.
    PoisonPfn,
    /// debugfs `poison_range`.
    PoisonRange,
    /// debugfs `poison_random`.
    PoisonRandom,
    /// debugfs `replay`.
    Replay,
    /// debugfs `hard_offline`.
    HardOffline,
    /// debugfs `soft_offline`.
    SoftOffline,
    /// debugfs `unpoison_pfn`.
    UnpoisonPfn,
    /// `ioctl()` of the device.
    Ioctl,
    /// The machine-check decode chain.
    MachineCheck,
    /// The kernel's own `memory_failure()`, for a page of device memory.
    DeviceMemory,
    /// The copy of a page on a write.
    Copy,
    /// The kernel's own `memory_failure()`, which has marked a page in system RAM as bad.
    MemoryFailure,
}

impl Source {
    /// The name of the source, which for one in debugfs is that of its file.
    pub(crate) fn name(self) -> &'static CStr {
        match self {
            Self::PoisonAddr => c"poison_addr",
            Self::PoisonPfn => c"poison_pfn",
            Self::PoisonRange => c"poison_range",
            Self::PoisonRandom => c"poison_random",
            Self::Replay => c"replay",
            Self::HardOffline => c"hard_offline",
            Self::SoftOffline => c"soft_offline",
            Self::UnpoisonPfn => c"unpoison_pfn",
            Self::Ioctl => c"ioctl",
            Self::MachineCheck => c"machine_check",
            Self::DeviceMemory => c"device_memory",
            Self::Copy => c"copy",
            Self::MemoryFailure => c"memory_failure",
        }
    }

    /// Whether a failure of that kind is a drill of the kernel's own.
    pub(crate) fn is_kernels_drill(self, kind: Poison) -> bool {
        matches!(self, Self::DeviceMemory | Self::MemoryFailure) && kind == Poison::Simulated
    }
}

/// Handles the failure of the page in a frame, of which the source says: soon, as the caller may be in a fault or in fork. Does not
/// sleep.
pub(crate) type Handler = fn(u64, Source);

static HANDLER: SetOnce<Handler> = SetOnce::new();

/// Leaves what is [reported](report) to `handler` from now on. To be called once, before there are pages.
pub(crate) fn set_handler(handler: Handler) {
    let _is_first = HANDLER.populate(handler);
}

/// Has it handled that the page of an anon in frame `pfn` has failed, as `source` says: found by who can't wait for that.
pub(crate) fn report(pfn: u64, source: Source) {
    if let Some(handler) = HANDLER.as_ref() {
        handler(pfn, source);
    }
}

/// Whether the current process can go on, in the terms of `memory_failure()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MfAction {
    /// Nobody has used the bad data yet.
    Optional,
    /// The current task was about to use it (`MF_ACTION_REQUIRED`).
    Required,
}

/// A failure as its source reports it.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Poison,
    pub(crate) source: Source,
    pub(crate) action: MfAction,
    /// The frame that has failed, if that is what the source names: the page may have left it.
    pub(crate) pfn: Option<u64>,
    /// Where the page was found, if that is what the source names.
    pub(crate) place: Option<Place>,
}

/// How a page has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Poison {
    /// A drill: the content is intact, and unpoisoning gives it back.
    Simulated,
    /// A drill in which who has the page keeps it: it may be mapped, but not be read as a whole.
    Kept,
    /// The hardware has failed: the frame is never used again.
    Hardware,
}

impl fmt::Display for Poison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Simulated => "simulated",
            Self::Kept => "kept",
            Self::Hardware => "hardware",
        })
    }
}

/// An address of a process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// `None` if it has gone.
    pub(crate) process: Option<process::Id>,
    pub(crate) address: usize,
    /// Both tell whether that is still the address space of the process: they are only compared.
    mm: usize,
    exec_id: u64,
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
        Self::of_process(process::Id::owner(mm), mm, address)
    }

    /// `address` of `process`, whose address space `mm` is.
    pub(crate) fn of_process(process: Option<process::Id>, mm: &Mm, address: usize) -> Self {
        Self {
            exec_id: process.as_ref().map_or(0, process::Id::exec_id),
            process,
            address,
            mm: mm.as_raw() as usize,
        }
    }

    /// The number of the process, see [`process::Id::number`].
    pub(crate) fn pid(&self) -> Pid {
        self.process.as_ref().map_or(0, |process| process.number())
    }

    /// Whether the current task can name the process, and it has the address space still.
    pub(crate) fn is_usable(&self) -> bool {
        let usable = |process: &process::Id| {
            process.number() != 0 && process.exec_id() == self.exec_id && process.has_mm_at(self.mm)
        };
        self.process.as_ref().is_some_and(usable)
    }
}
