// SPDX-License-Identifier: GPL-2.0-only

//! The character device `/dev/anon_rmap`.

use super::VmaState;
use kernel::{
    fs::File,
    miscdevice::{
        MiscDevice,
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    mm::virt::VmaNew,
    prelude::*, //
};

/// An open file of the device. All state is with the mappings.
pub(crate) struct Device;

/// How the device is registered.
pub(crate) const OPTIONS: MiscDeviceOptions = MiscDeviceOptions { name: c"anon_rmap" };

#[vtable]
impl MiscDevice for Device {
    type Ptr = ();

    fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<()> {
        Ok(())
    }

    /// Maps anonymous memory. The offset means nothing.
    fn mmap(_device: (), _file: &File, vma: &VmaNew) -> Result {
        VmaState::mmap(vma)
    }
}
