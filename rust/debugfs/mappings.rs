// SPDX-License-Identifier: GPL-2.0-only

//! The file `mappings`.

use super::seq_file::Listing;
use crate::{
    address_space::AddressSpace,
    process,
    stats,
    vma::VmaState, //
};
use core::fmt;
use kernel::{
    fmt::Adapter,
    page::PAGE_SHIFT,
    str::CStr,
    task::Pid, //
};

/// One line a VMA of the device, by address space and address.
pub(super) struct Mappings;

/// In front of what an address space has from a page on, and of all later ones.
#[derive(Default)]
pub(super) struct Cursor {
    /// The [key](AddressSpace::key) of the address space.
    space: usize,
    page: u64,
}

impl Listing for Mappings {
    type Cursor = Cursor;
    type Line = MappingLine;

    fn next(cursor: &Cursor) -> Option<(Cursor, MappingLine)> {
        let Cursor {
            space: mut key,
            mut page,
        } = *cursor;
        loop {
            let space = AddressSpace::first_from(key)?;
            if space.key() != key {
                (key, page) = (space.key(), 0);
            }
            // Without an owner it is being forked, or taken down.
            if let Some(owner) = process::pid_and_comm(space.mm()) {
                while let Some((covered, state)) = space.first_vma_from(page) {
                    page = covered.last() + 1;
                    if let Some(line) = MappingLine::new(owner, &state) {
                        // It may have grown.
                        page = page.max((line.end >> PAGE_SHIFT) as u64);
                        return Some((Cursor { space: key, page }, line));
                    }
                }
            }
            (key, page) = (key + 1, 0);
        }
    }

    fn show(line: &MappingLine, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{line}")
    }
}

/// What `mappings` says of one VMA.
pub(super) struct MappingLine {
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
    fn new((pid, comm): (Pid, [u8; 16]), state: &VmaState) -> Option<Self> {
        let (start, end) = state.range()?;
        let indices = state.base().interval(start, end).ok()?;
        let (first, last) = (indices.start(), indices.last());
        let any_poisoned = stats::POISONED.get() > 0;
        let slots = state.amap().lock();
        let poisoned = slots
            .anons
            .iter_range(first, last)
            .take_while(|_| any_poisoned)
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
            "pid={} range={:#x}-{:#x} index={}-{} present={} poisoned={} avcs={} comm={}",
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
