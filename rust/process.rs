// SPDX-License-Identifier: GPL-2.0

//! Names for the processes that the driver meets.

use crate::helpers;
use core::ptr::NonNull;
use kernel::{
    bindings,
    mm::{
        Mm,
        MmWithUser, //
    },
    prelude::*,
    sync::aref::ARef,
    task::{
        Pid,
        Task, //
    }, //
};

/// The process whose address space `mm` is; `None` if it has gone.
fn owner(mm: &Mm) -> Option<ARef<Task>> {
    // SAFETY: `mm` is live.
    let task = unsafe { helpers::anon_rmap_mm_owner_get(mm.as_raw()) };
    // SAFETY: The helper has taken a reference for us.
    NonNull::new(task).map(|task| unsafe { ARef::from_raw(task.cast()) })
}

/// The pid of the process whose address space `mm` is; 0 if it has gone.
pub(crate) fn pid(mm: &Mm) -> Pid {
    owner(mm).map_or(0, |task| task.tgid())
}

/// The pid and the command name of the process whose address space `mm` is.
pub(crate) fn pid_and_comm(mm: &Mm) -> (Pid, [u8; COMM_LEN]) {
    owner(mm).map_or((0, [0; COMM_LEN]), |task| {
        // SAFETY: The task is live. Its name may change meanwhile; it always ends with a zero.
        let comm = unsafe { (&raw const (*task.as_ptr()).comm).read_volatile() };
        (task.tgid(), comm)
    })
}

/// The size of a command name, with its final zero.
const COMM_LEN: usize = bindings::TASK_COMM_LEN as usize;

/// The address space of the process `pid`, in the pid namespace of the current process.
///
/// # Errors
///
/// [`ESRCH`] if there is no such process, or it has no address space (any more).
pub(crate) fn address_space(pid: Pid) -> Result<ARef<MmWithUser>> {
    // SAFETY: No requirements.
    let pid = unsafe { bindings::find_get_pid(pid) };
    // SAFETY: `pid` is null or ours; null is allowed.
    let task = unsafe { bindings::get_pid_task(pid, bindings::pid_type_PIDTYPE_PID) };
    // SAFETY: The reference is ours; null is allowed.
    unsafe { bindings::put_pid(pid) };
    let task = NonNull::new(task).ok_or(ESRCH)?;
    // SAFETY: `get_pid_task` has taken a reference for us.
    let task: ARef<Task> = unsafe { ARef::from_raw(task.cast()) };
    // SAFETY: The task is live.
    let mm = unsafe { bindings::get_task_mm(task.as_ptr()) };
    let mm = NonNull::new(mm).ok_or(ESRCH)?;
    // SAFETY: `get_task_mm` has taken a use of the address space for us.
    Ok(unsafe { ARef::from_raw(mm.cast()) })
}
