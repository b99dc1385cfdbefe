// SPDX-License-Identifier: GPL-2.0-only

//! Who is signalled when a page fails: the rules of the kernel's `memory_failure()`.
//!
//! A process that holds the page is told at once ("early kill") if it has asked for that by
//! `prctl(PR_MCE_KILL)`, or has not asked for anything and `vm.memory_failure_early_kill` says so: one thread, `BUS_MCEERR_AO`. If the current task was about to
//! use the data it gets `BUS_MCEERR_AR` instead. All others learn of it when they touch the page
//! ("late kill"): the fault raises `BUS_MCEERR_AR`.

use super::policy::EarlyKill;
use crate::{
    failure::MfAction,
    helpers,
    process, //
};
use core::ptr::{
    self,
    NonNull, //
};
use kernel::{
    bindings,
    current,
    ffi::{
        c_int,
        c_short,
        c_void, //
    },
    mm::Mm,
    page::{
        PAGE_MASK,
        PAGE_SHIFT, //
    },
    prelude::*,
    sync::aref::ARef,
    task::{
        Pid,
        Task, //
    }, //
};

/// The `si_code` of a SIGBUS for a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// Action optional: the data is bad, nobody has used it yet.
    Ao,
    /// Action required: the task can't go on without it.
    Ar,
}

impl Code {
    /// The C name of the code.
    pub(crate) fn name(self) -> &'static CStr {
        match self {
            Self::Ao => c"BUS_MCEERR_AO",
            Self::Ar => c"BUS_MCEERR_AR",
        }
    }
}

/// A thread that is to be signalled because of a failure, before it touches the page.
pub(crate) struct Victim {
    task: ARef<Task>,
    address: usize,
    code: Code,
}

impl Victim {
    /// The thread to be signalled of the process whose address space `mm` is and which holds the failed
    /// page at `address`, if `policy` is the system's; `None` if none is, until it touches the page.
    ///
    /// Takes the time of looking at each thread of that process.
    pub(crate) fn of(mm: &Mm, address: usize, action: MfAction, policy: EarlyKill) -> Option<Self> {
        let address = address & PAGE_MASK;
        let current = current!();
        let own = current
            .mm()
            .is_some_and(|own| ptr::eq(own.as_raw(), mm.as_raw()));
        if action == MfAction::Required && own {
            return Some(Self {
                task: (&**current).into(),
                address,
                code: Code::Ar,
            });
        }
        let is_early = policy == EarlyKill::On;
        // SAFETY: `mm` is live.
        let task = unsafe { helpers::anon_rmap_early_kill_thread(mm.as_raw(), is_early) };
        NonNull::new(task).map(|task| Self {
            // SAFETY: The helper has taken a reference for us.
            task: unsafe { ARef::from_raw(task.cast()) },
            address,
            code: Code::Ao,
        })
    }

    /// The number of the thread in the initial pid namespace.
    pub(crate) fn tid(&self) -> Pid {
        self.task.pid()
    }

    /// The thread; `None` if it has ended.
    pub(crate) fn thread(&self) -> Option<process::Id> {
        process::Id::thread(&self.task)
    }

    /// What it is told.
    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// Sends the signal.
    ///
    /// It is not forced: who blocks it gets it when it no longer does, and cannot touch the page
    /// meanwhile.
    pub(crate) fn signal(self) {
        let code = match self.code {
            Code::Ao => bindings::BUS_MCEERR_AO,
            Code::Ar => bindings::BUS_MCEERR_AR,
        };
        let (code, address) = (code as c_int, self.address as *mut c_void);
        let (size, task) = (PAGE_SHIFT as c_short, self.task.as_ptr());
        // SAFETY: The task is live. The address is a number for the signal's receiver.
        // A thread that has died meanwhile gets nothing, which is no error.
        let _ = unsafe { bindings::send_sig_mceerr(code, address, size, task) };
    }
}
