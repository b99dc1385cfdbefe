// SPDX-License-Identifier: GPL-2.0-only

//! What the [scanner](crate::merge) knows of an anon.

use kernel::sync::atomic::{
    Atomic,
    Relaxed, //
};

/// How often an anon has been merged, modulo 65,536. Who remembers it finds out whether it has been since: each time takes a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Merges(u16);

/// What the scanner has seen of an anon. Written by the scanner, but for [`Self::forget`].
pub(crate) struct Scanned {
    /// A part of a hash of the content, and above it how often the anon has been merged.
    seen: Atomic<u32>,
    /// The number of the scan in which it was looked at last, 0 for none.
    scan: Atomic<u32>,
}

impl Scanned {
    /// Nothing.
    pub(super) fn new() -> Self {
        Self {
            seen: Atomic::new(0),
            scan: Atomic::new(0),
        }
    }

    /// Notes that the anon is looked at in scan number `scan`; whether it has not been before.
    pub(crate) fn begin(&self, scan: u32) -> bool {
        self.scan.xchg(scan, Relaxed) != scan
    }

    /// Whether it was looked at in scan number `scan`.
    pub(crate) fn is_of(&self, scan: u32) -> bool {
        self.scan.load(Relaxed) == scan
    }

    /// Forgets that it was.
    pub(crate) fn forget(&self) {
        self.scan.store(0, Relaxed);
    }

    /// Notes a hash of the content; whether it differs from the one before, with a probability of 1 to 65,536 that it is not noticed.
    pub(crate) fn note_hash(&self, hash: u64) -> bool {
        let seen = self.seen.load(Relaxed);
        let now = seen & 0xffff_0000 | hash as u32 & 0xffff;
        self.seen.store(now, Relaxed);
        now != seen
    }

    /// Notes that the anon is merged, with its lock.
    pub(super) fn note_merge(&self) {
        let seen = self.seen.load(Relaxed);
        self.seen.store(seen.wrapping_add(1 << 16), Relaxed);
    }

    /// How often it has been; to be asked with the anon locked.
    pub(crate) fn merges(&self) -> Merges {
        Merges((self.seen.load(Relaxed) >> 16) as u16)
    }
}
