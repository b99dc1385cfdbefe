// SPDX-License-Identifier: GPL-2.0-only

//! Processes: how they are named, and what they have.
//!
//! Who writes to a file of debugfs names a process by the number that it has in the writer's pid namespace, and who reads
//! one gets the numbers of the reader's. The driver itself keeps an [`Id`]: a number can be another's a moment later.

use crate::helpers;
use core::{
    cmp::Ordering,
    fmt,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    bindings,
    ffi::c_int,
    mm::Mm,
    prelude::*,
    sync::aref::ARef,
    task::{
        Pid,
        Task, //
    }, //
};

/// The kernel's own name of a process, or of a thread: `struct pid`. It is that of no other, also when it has ended.
///
/// Two are equal if they name one process, and are in the order of their numbers in the initial pid namespace.
///
/// # Invariants
///
/// Owns a reference.
pub(crate) struct Id(NonNull<bindings::pid>);

// SAFETY: A reference may be given back by any task.
unsafe impl Send for Id {}
// SAFETY: All that a shared reference allows is to ask the kernel, which has its own locks.
unsafe impl Sync for Id {}

impl Clone for Id {
    fn clone(&self) -> Self {
        // SAFETY: By the invariant the count is not zero.
        unsafe { helpers::anon_rmap_get_pid(self.as_ptr()) };
        // INVARIANT: The reference was taken for it.
        Self(self.0)
    }
}

impl Drop for Id {
    /// Does not sleep, and takes no lock of the driver.
    fn drop(&mut self) {
        // SAFETY: By the invariant there is a reference to give back.
        unsafe { bindings::put_pid(self.as_ptr()) };
    }
}

impl Id {
    /// Takes over a reference of `pid`; `None` if that is null.
    ///
    /// # Safety
    ///
    /// The caller must own it, if it is not null.
    unsafe fn from_raw(pid: *mut bindings::pid) -> Option<Self> {
        // INVARIANT: The caller gives the reference to us.
        NonNull::new(pid).map(Self)
    }

    /// The process that has `number` as its id (thread-group id), or as that of one of its threads, in the pid namespace
    /// of the current task.
    ///
    /// # Errors
    ///
    /// [`ESRCH`] if there is none.
    pub(crate) fn find(number: Pid) -> Result<Self> {
        // SAFETY: The helper takes a reference for us.
        unsafe { Self::from_raw(helpers::anon_rmap_find_process(number)) }.ok_or(ESRCH)
    }

    /// The process whose address space `mm` is; `None` if it has gone.
    pub(crate) fn owner(mm: &Mm) -> Option<Self> {
        // SAFETY: `mm` is live. The helper takes a reference for us.
        unsafe { Self::from_raw(helpers::anon_rmap_owner(mm.as_raw())) }
    }

    /// The process of the current task.
    pub(crate) fn current() -> Result<Self> {
        let kind = bindings::pid_type_PIDTYPE_TGID;
        // SAFETY: The task is live. The function takes a reference for us.
        unsafe { Self::from_raw(bindings::get_task_pid(kernel::current!().as_ptr(), kind)) }
            .ok_or(ESRCH)
    }

    /// The thread `task`; `None` if it has ended.
    pub(crate) fn thread(task: &Task) -> Option<Self> {
        let kind = bindings::pid_type_PIDTYPE_PID;
        // SAFETY: The task is live. The function takes a reference for us.
        unsafe { Self::from_raw(bindings::get_task_pid(task.as_ptr(), kind)) }
    }

    /// The number in the pid namespace of the current task; 0 if there is none: it has ended (and its end was noticed,
    /// by `wait()`), or can't be seen from there.
    pub(crate) fn number(&self) -> Pid {
        // SAFETY: By the invariant there is a reference.
        unsafe { helpers::anon_rmap_pid_vnr(self.as_ptr()) }
    }

    /// The number that it had in the pid namespace of the current task, also of what has ended: for what is only read. It can be another
    /// process's by now.
    pub(crate) fn former_number(&self) -> Pid {
        // SAFETY: By the invariant there is a reference.
        unsafe { bindings::pid_vnr(self.as_ptr()) }
    }

    /// The number in the initial pid namespace, also of what has ended: for trace events.
    pub(crate) fn global_number(&self) -> Pid {
        // SAFETY: By the invariant there is a reference. The initial namespace stays.
        unsafe { bindings::pid_nr_ns(self.as_ptr(), &raw mut bindings::init_pid_ns) }
    }

    /// The address space of a process. It may have no users any more.
    ///
    /// # Errors
    ///
    /// [`ESRCH`] if it has none (any more).
    pub(crate) fn mm(&self) -> Result<ARef<Mm>> {
        // SAFETY: By the invariant there is a reference.
        let mm = unsafe { helpers::anon_rmap_grab_mm(self.as_ptr()) };
        let mm = NonNull::new(mm).ok_or(ESRCH)?;
        // SAFETY: The helper has taken a reference for us.
        Ok(unsafe { ARef::from_raw(mm.cast()) })
    }

    /// Whether a process has `mm` as its address space. A moment later that can be another one. Does not sleep.
    pub(crate) fn has(&self, mm: &Mm) -> bool {
        // SAFETY: By the invariant there is a reference.
        unsafe { helpers::anon_rmap_has_mm(self.as_ptr(), mm.as_raw()) }
    }

    /// Whether a process has the address space whose `mm_struct` is, or was, at this address in memory. Does not sleep.
    pub(crate) fn has_mm_at(&self, mm: usize) -> bool {
        // SAFETY: By the invariant there is a reference. The address is only compared.
        unsafe { helpers::anon_rmap_has_mm(self.as_ptr(), mm as *const _) }
    }

    /// A number that is another one after each `execve()` of a process; 0 if it has ended. Does not sleep.
    pub(crate) fn exec_id(&self) -> u64 {
        // SAFETY: By the invariant there is a reference.
        unsafe { helpers::anon_rmap_exec_id(self.as_ptr()) }
    }

    /// The command name of a process.
    pub(crate) fn comm(&self) -> [u8; COMM_LEN] {
        let mut comm = [0; COMM_LEN];
        // SAFETY: By the invariant there is a reference. There is room for a name.
        unsafe { helpers::anon_rmap_comm(self.as_ptr(), comm.as_mut_ptr().cast()) };
        comm
    }

    fn as_ptr(&self) -> *mut bindings::pid {
        self.0.as_ptr()
    }
}

impl PartialEq for Id {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Id {}

impl Ord for Id {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |id: &Self| (id.global_number(), id.0);
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Id {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.global_number())
    }
}

/// The [number](Id::number) and the command name of the process whose address space `mm` is; `None` if it has gone.
pub(crate) fn pid_and_comm(mm: &Mm) -> Option<(Pid, [u8; COMM_LEN])> {
    Id::owner(mm).map(|process| (process.number(), process.comm()))
}

/// The size of a command name, with its final zero.
const COMM_LEN: usize = bindings::TASK_COMM_LEN as usize;

/// From when it is made until it is dropped, what the current task allocates is charged to the memory cgroup of another
/// process.
///
/// # Invariants
///
/// `group` is that of the current task's charges, with a reference; `before` was before. Stays with the task.
pub(crate) struct ChargeTo {
    group: *mut bindings::mem_cgroup,
    before: *mut bindings::mem_cgroup,
}

impl ChargeTo {
    /// As [`Self::new`], unless `mm` is the current task's, which is charged anyway.
    pub(crate) fn unless_current(mm: &Mm) -> Option<Self> {
        // SAFETY: The current task is live, and nobody else changes its `mm`.
        let is_current = ptr::eq(unsafe { (*Task::current_raw()).mm }, mm.as_raw());
        (!is_current).then(|| Self::new(mm))
    }

    /// Begins to charge the owner of `mm`.
    pub(crate) fn new(mm: &Mm) -> Self {
        let mut before = ptr::null_mut();
        // SAFETY: `mm` is live.
        let group = unsafe { helpers::anon_rmap_charge_to(mm.as_raw(), &mut before) };
        // INVARIANT: By construction.
        Self { group, before }
    }
}

impl Drop for ChargeTo {
    fn drop(&mut self) {
        // SAFETY: By the invariant this undoes what `new` has done.
        unsafe { helpers::anon_rmap_end_charge_to(self.group, self.before) };
    }
}

/// Names the current task, as long as it runs. Never 0.
pub(crate) fn current_key() -> usize {
    Task::current_raw() as usize
}

/// Whether the current task is being killed.
pub(crate) fn is_current_killed() -> bool {
    // SAFETY: The current task may be asked.
    unsafe { helpers::anon_rmap_fatal_signal_pending() }
}

/// Whether the current task is writing a core dump.
pub(crate) fn is_dumping_core() -> bool {
    // SAFETY: The current task may be asked.
    unsafe { helpers::anon_rmap_is_dumping_core() }
}

/// [`EPERM`] unless the current task is privileged over the whole machine, as who sees and hits memory of all must be.
pub(crate) fn require_capability() -> Result {
    // SAFETY: May be asked at any time.
    if unsafe { bindings::capable(bindings::CAP_SYS_ADMIN as c_int) } {
        Ok(())
    } else {
        Err(EPERM)
    }
}

#[kunit_tests(anon_rmap_process)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_named_by_its_number_and_its_threads() -> Result {
        let current = kernel::current!();
        let number = current.tgid_nr_ns(None);
        let process = Id::find(number)?;
        assert_eq!(Id::find(current.pid())?, process);
        assert_eq!(process.number(), number);
        assert_eq!(process.global_number(), number);
        let thread = Id::thread(current).ok_or(ESRCH)?;
        assert_eq!(thread.number(), current.pid());
        assert_eq!(process.clone(), process);
        assert_ne!(Id::find(1)?, process);
        Ok(())
    }

    #[test]
    fn nobody_is_number_0() {
        assert_eq!(Id::find(0).err(), Some(ESRCH));
        assert_eq!(Id::find(Pid::MAX).err(), Some(ESRCH));
    }

    #[test]
    fn a_kernel_thread_has_no_memory() -> Result {
        // That of all kernel threads' parent.
        let process = Id::find(2)?;
        assert_eq!(process.mm().err(), Some(ESRCH));
        Ok(())
    }
}
