// SPDX-License-Identifier: GPL-2.0-only

//! The file `mappings`.

use super::{
    lines::{
        self,
        MappingLine, //
    },
    seq_file::Listing, //
};
use crate::{
    process,
    stats,
    vma::{
        mm_state::MmState,
        VmaState, //
    }, //
};
use core::{
    fmt,
    ops::Range, //
};
use kernel::{
    page::PAGE_SHIFT,
    task::Pid, //
};

/// One line a VMA of the device, by address space and address.
pub(super) struct Mappings;

/// In front of what an address space has from a page on, and of all later ones.
#[derive(Default)]
pub(super) struct Cursor {
    /// The [key](MmState::key) of the address space.
    mm: usize,
    page: u64,
}

impl Listing for Mappings {
    type Cursor = Cursor;
    type Line = MappingLine;

    fn next(cursor: &Cursor) -> Option<(Cursor, MappingLine)> {
        let Cursor {
            mm: mut key,
            mut page,
        } = *cursor;
        loop {
            let mm_state = MmState::first_from(key)?;
            if mm_state.key() != key {
                (key, page) = (mm_state.key(), 0);
            }
            // Without an owner it is being forked, or taken down.
            if let Some(owner) = process::pid_and_comm(mm_state.mm()) {
                while let Some((covered, state)) = mm_state.first_vma_from(page) {
                    page = covered.last() + 1;
                    if let Some(line) = look(owner, &state) {
                        // It may have grown.
                        page = page.max((line.end >> PAGE_SHIFT) as u64);
                        return Some((Cursor { mm: key, page }, line));
                    }
                }
            }
            (key, page) = (key + 1, 0);
        }
    }

    fn show(line: &MappingLine, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        lines::mapping(line, f)
    }
}

/// Looks at a VMA under its locks; `None` if it has gone.
fn look((pid, comm): (Pid, [u8; 16]), state: &VmaState) -> Option<MappingLine> {
    let Range { start, end } = state.range()?;
    let indices = state.base().indices(start..end).ok()?;
    let (first, last) = (indices.first().0, indices.last().0);
    let slots = state.amap().lock();
    let mut poisoned = 0;
    if stats::POISONED.get() > 0 {
        for (_, slot) in slots.anons.iter_range(first, last) {
            poisoned += u64::from(slot.value.lock().poison().is_some());
        }
    }
    Some(MappingLine {
        pid,
        comm,
        start,
        end,
        first,
        last,
        present: slots.anons.count_range(first, last),
        poisoned,
        avcs: state.links(&slots)?.len(),
    })
}
