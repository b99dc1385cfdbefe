// SPDX-License-Identifier: GPL-2.0

//! The file `mappings`.

use crate::{
    address_space::AddressSpace,
    process,
    vma::VmaState, //
};
use core::fmt;
use kernel::{
    debugfs::Writer,
    fmt::Adapter,
    str::CStr,
    sync::Arc,
    task::Pid, //
};

/// One line a VMA of the device.
pub(super) struct Mappings;

impl Writer for Mappings {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for space in AddressSpace::all() {
            for state in space.states() {
                if let Some(line) = MappingLine::new(&space, &state) {
                    writeln!(f, "{line}")?;
                }
            }
        }
        Ok(())
    }
}

/// What `mappings` says of one VMA.
struct MappingLine {
    pid: Pid,
    comm: [u8; 16],
    start: usize,
    end: usize,
    first: u64,
    last: u64,
    present: u64,
    poisoned: u64,
    avcs: usize,
}

impl MappingLine {
    /// Looks at the VMA under its locks; `None` if it has gone.
    fn new(space: &AddressSpace, state: &Arc<VmaState>) -> Option<Self> {
        let (pid, comm) = process::pid_and_comm(space.mm())?;
        let (start, end) = state.range()?;
        let indices = state.base().interval(start, end).ok()?;
        let (first, last) = (indices.start(), indices.last());
        let slots = state.amap().lock();
        let poisoned = slots
            .anons
            .iter_range(first, last)
            .filter(|(_, slot)| slot.value.lock().poison().is_some());
        Some(Self {
            pid,
            comm,
            start,
            end,
            first,
            last,
            present: slots.anons.count_range(first, last),
            poisoned: poisoned.count() as u64,
            avcs: state.links(&slots)?.len(),
        })
    }
}

impl fmt::Display for MappingLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let comm = CStr::from_bytes_until_nul(&self.comm).unwrap_or(c"");
        write!(
            f,
            "pid={} range={:x}-{:x} index={}-{} present={} poisoned={} avcs={} comm={}",
            self.pid,
            self.start,
            self.end,
            self.first,
            self.last,
            self.present,
            self.poisoned,
            self.avcs,
            Adapter(comm),
        )
    }
}
