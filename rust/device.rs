// SPDX-License-Identifier: GPL-2.0-only

//! The character device `/dev/anon_rmap`; `uapi/anon_rmap.h` has its `ioctl()`, and `failures.md` says what that does.

use crate::{
    failure::Poison,
    helpers,
    memory_failure::own_memory,
    merge,
    process,
    vma::VmaState, //
};
use core::ops::Range;
use kernel::{
    bindings,
    fs::File,
    miscdevice::{
        MiscDevice,
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    mm::virt,
    prelude::*,
    transmute::{
        AsBytes,
        FromBytes, //
    },
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

/// An open file of the device. All state is with the mappings.
pub(crate) struct Device;

/// How the device is registered.
pub(crate) const OPTIONS: MiscDeviceOptions = MiscDeviceOptions { name: c"anon_rmap" };

/// What can be done with an open file. While there is one, the module stays.
const OPERATIONS: bindings::file_operations = {
    // SAFETY: The table is a constant.
    let operations = unsafe { *OPTIONS.into_raw::<Device>().fops };
    bindings::file_operations {
        owner: helpers::THIS_MODULE,
        ..operations
    }
};

#[vtable]
impl MiscDevice for Device {
    type Ptr = ();

    fn open(file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<()> {
        own(file)
    }

    /// Maps anonymous memory. The offset means nothing.
    fn mmap(_device: (), _file: &File, vma: &virt::VmaNew) -> Result {
        VmaState::mmap(vma)
    }

    /// Drills of the current process on its own memory, and whether that is merged. Which file of the device it is means nothing.
    fn ioctl(_device: (), _file: &File, command: u32, argument: usize) -> Result<isize> {
        let argument = UserPtr::from_addr(argument);
        let count = match command {
            helpers::ANON_RMAP_COMMAND_POISON => poison(argument)?,
            helpers::ANON_RMAP_COMMAND_UNPOISON => unpoison(argument)?,
            helpers::ANON_RMAP_COMMAND_LIST => list(argument)?,
            helpers::ANON_RMAP_COMMAND_MERGE => set_mergeable(argument)?,
            _ => return Err(ENOTTY),
        };
        Ok(count as isize)
    }
}

/// Sees to it that the module stays as long as `file`, which is being opened, is open: the table with which Linux 7.2 registers a device has no
/// owner. [`ENODEV`] if the module is about to go.
fn own(file: &File) -> Result {
    let file = file.as_ptr();
    // SAFETY: Who opens the file has it alone.
    let operations = unsafe { &mut (*file).f_op };
    // SAFETY: It has the table of the device, which is registered as long as it is being opened.
    if unsafe { !(**operations).owner.is_null() } {
        return Ok(());
    }
    // SAFETY: It is this module.
    if !unsafe { bindings::try_module_get(helpers::THIS_MODULE) } {
        return Err(ENODEV);
    }
    // The reference is given back with the file.
    *operations = &OPERATIONS;
    Ok(())
}

/// What is at `pointer` in the memory of the current process; [`EFAULT`].
fn read<T: FromBytes>(pointer: UserPtr) -> Result<T> {
    UserSlice::new(pointer, size_of::<T>()).reader().read()
}

/// Writes `value` there; [`EFAULT`].
fn write<T: AsBytes>(pointer: UserPtr, value: &T) -> Result {
    UserSlice::new(pointer, size_of::<T>())
        .writer()
        .write(value)
}

/// A range of addresses that is not empty; [`EINVAL`].
fn range(address: u64, length: u64) -> Result<Range<usize>> {
    let (start, length) = (address as usize, length as usize);
    let end = start.checked_add(length).ok_or(EINVAL)?;
    if length == 0 {
        return Err(EINVAL);
    }
    Ok(start..end)
}

/// The range and the flags that `ANON_RMAP_POISON`, `ANON_RMAP_UNPOISON` or `ANON_RMAP_MERGE` were given; [`EFAULT`], [`EINVAL`].
fn asked(argument: UserPtr) -> Result<(Range<usize>, u32)> {
    let asked: helpers::anon_rmap_range = read(argument)?;
    if asked.reserved != 0 {
        return Err(EINVAL);
    }
    Ok((range(asked.address, asked.length)?, asked.flags))
}

/// `ANON_RMAP_POISON`.
fn poison(argument: UserPtr) -> Result<usize> {
    process::require_capability()?;
    let (range, flags) = asked(argument)?;
    match flags {
        0 => own_memory::poison(range, Poison::Simulated),
        helpers::ANON_RMAP_KEEP => own_memory::poison(range, Poison::Kept),
        helpers::ANON_RMAP_UNTOUCHED => own_memory::poison_untouched(range),
        _ => Err(EINVAL),
    }
}

/// `ANON_RMAP_UNPOISON`.
fn unpoison(argument: UserPtr) -> Result<usize> {
    process::require_capability()?;
    match asked(argument)? {
        (range, 0) => own_memory::unpoison(range),
        _ => Err(EINVAL),
    }
}

/// `ANON_RMAP_MERGE`.
fn set_mergeable(argument: UserPtr) -> Result<usize> {
    let (range, flags) = asked(argument)?;
    match flags {
        0 | helpers::ANON_RMAP_MERGEABLE => merge::set_mergeable(range, flags != 0)?,
        _ => return Err(EINVAL),
    }
    Ok(0)
}

/// `ANON_RMAP_LIST`.
fn list(argument: UserPtr) -> Result<usize> {
    let mut asked: helpers::anon_rmap_list = read(argument)?;
    let pages = own_memory::poisoned(range(asked.address, asked.length)?)?;
    let room = usize::try_from(asked.count).unwrap_or(usize::MAX);
    let listed = pages.len().min(room);
    let length = listed * size_of::<helpers::anon_rmap_page>();
    let mut array = UserSlice::new(UserPtr::from_addr(asked.pages as usize), length).writer();
    for (address, kind) in pages.iter().take(listed) {
        array.write(&helpers::anon_rmap_page {
            address: *address as u64,
            kind: match kind {
                Poison::Simulated => helpers::ANON_RMAP_KIND_SIMULATED,
                Poison::Kept => helpers::ANON_RMAP_KIND_KEPT,
                Poison::Hardware => helpers::ANON_RMAP_KIND_HARDWARE,
            },
            reserved: 0,
        })?;
    }
    asked.count = pages.len() as u64;
    write(argument, &asked)?;
    Ok(listed)
}

// SAFETY: It is integers, without padding.
unsafe impl FromBytes for helpers::anon_rmap_range {}
// SAFETY: It is integers, without padding.
unsafe impl FromBytes for helpers::anon_rmap_list {}
// SAFETY: It is integers, without padding.
unsafe impl AsBytes for helpers::anon_rmap_list {}
// SAFETY: It is integers, without padding.
unsafe impl AsBytes for helpers::anon_rmap_page {}
