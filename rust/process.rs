// SPDX-License-Identifier: GPL-2.0

//! Names for the processes that the driver meets.

use crate::{
    helpers,
    vm_ops, //
};
use core::ptr::{
    self,
    NonNull, //
};
use kernel::{
    bindings,
    mm::{
        Mm,
        MmWithUser, //
    },
    prelude::*,
    sync::{
        aref::ARef,
        rcu, //
    },
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

/// The pid and the command name of the process whose address space `mm` is; `None` if it has gone.
pub(crate) fn pid_and_comm(mm: &Mm) -> Option<(Pid, [u8; COMM_LEN])> {
    let task = owner(mm)?;
    // SAFETY: The task is live. Its name may change meanwhile; it always ends with a zero.
    let comm = unsafe { (&raw const (*task.as_ptr()).comm).read_volatile() };
    Some((task.tgid(), comm))
}

/// The size of a command name, with its final zero.
const COMM_LEN: usize = bindings::TASK_COMM_LEN as usize;

/// The address space of the process `pid`, in the pid namespace of the current process. It may have no users any more.
///
/// # Errors
///
/// [`ESRCH`] if there is no such process, or it has no address space (any more).
pub(crate) fn mm(pid: Pid) -> Result<ARef<Mm>> {
    // SAFETY: No requirements.
    let mm = unsafe { helpers::anon_rmap_mm_of(pid) };
    let mm = NonNull::new(mm).ok_or(ESRCH)?;
    // SAFETY: The helper has taken a reference for us.
    Ok(unsafe { ARef::from_raw(mm.cast()) })
}

/// Whether what is mapped at `address` is the device's; `None` if nothing is. Takes no mmap lock: a moment later the answer
/// can be another one.
pub(crate) fn maps(mm: &MmWithUser, address: usize) -> Option<bool> {
    let _rcu = rcu::read_lock();
    // SAFETY: The tree has users, so it is one that readers under RCU may walk.
    let vma = unsafe {
        let tree = &raw mut (*mm.as_raw()).__bindgen_anon_1.mm_mt;
        bindings::mtree_load(tree, address)
    };
    let vma = NonNull::new(vma.cast::<bindings::vm_area_struct>())?;
    // SAFETY: The memory of a VMA stays that of one until a grace period has passed (SLAB_TYPESAFE_BY_RCU).
    let ops = unsafe { (&raw const (*vma.as_ptr()).vm_ops).read_volatile() };
    Some(ptr::eq(ops, vm_ops::OPS.as_ptr()))
}

/// Whether the current task is being killed.
pub(crate) fn is_current_killed() -> bool {
    // SAFETY: The current task may be asked.
    unsafe { helpers::anon_rmap_fatal_signal_pending() }
}
