// SPDX-License-Identifier: GPL-2.0-only

//! Counters, shown in the debugfs file `stats`.
//!
//! Names ending in `_total` only grow; the others say how much there is now, so all of them are zero
//! when nothing is mapped: a leak shows.

use kernel::sync::atomic::{
    Atomic,
    Relaxed, //
};

/// One counter.
pub(crate) struct Counter(Atomic<i64>);

impl Counter {
    const fn new() -> Self {
        Self(Atomic::new(0))
    }

    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n as i64, Relaxed);
    }

    pub(crate) fn inc(&self) {
        self.add(1);
    }

    pub(crate) fn dec(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    pub(crate) fn set(&self, n: u64) {
        self.0.store(n as i64, Relaxed);
    }

    pub(crate) fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $counter:ident: $name:literal,)*) => {
        $($(#[$doc])* pub(crate) static $counter: Counter = Counter::new();)*

        /// All counters with their names, in the order in which they are shown.
        pub(crate) static ALL: &[(&str, &Counter)] = &[$(($name, &$counter)),*];
    };
}

counters! {
    /// VMAs of the device.
    VMAS: "vmas",
    /// Amaps.
    AMAPS: "amaps",
    /// Pages owned by the driver.
    ANONS: "anons",
    /// Interval trees.
    ANON_VMAS: "anon_vmas",
    /// Links of VMAs into interval trees.
    AVCS: "avcs",
    /// Poisoned pages.
    POISONED: "poisoned",
    /// Frames that several pages share, or have shared.
    PAGES_SHARED: "pages_shared",
    /// Pages that are in such a frame beside the first one: so many frames are saved.
    PAGES_SHARING: "pages_sharing",
    /// Pages that the scanner has found to be the only ones with their content, up to now.
    PAGES_UNSHARED: "pages_unshared",
    /// Pages that changed between the last two scans.
    PAGES_VOLATILE: "pages_volatile",
    /// Pages that the scanner has looked at.
    PAGES_SCANNED: "pages_scanned_total",
    /// Pages that have joined others in a frame.
    PAGES_MERGED: "pages_merged_total",
    /// Pages of zeroes for which there is none any more.
    ZERO_PAGES: "zero_pages_total",
    /// How often the scanner has been through all memory.
    FULL_SCANS: "full_scans_total",
    /// The time that the scanner has taken, in nanoseconds.
    SCAN_TIME: "scan_ns_total",
    /// Faults that reached the driver.
    FAULTS: "faults_total",
    /// Faults that had to wait for somebody else.
    WAITS: "waits_total",
    /// Pages copied on write.
    COPIES: "copies_total",
    /// Pages poisoned.
    POISONINGS: "poisonings_total",
    /// Pages unpoisoned.
    UNPOISONINGS: "unpoisonings_total",
    /// Machine checks in pages of the driver.
    MACHINE_CHECKS: "machine_checks_total",
    /// Machine checks in pages of the driver for which there was no place when they were to be noted.
    MACHINE_CHECKS_POSTPONED: "machine_checks_postponed_total",
    /// Pages moved to another frame by soft offline.
    SOFT_OFFLINES: "soft_offlines_total",
    /// rmap walks.
    WALKS: "walks_total",
    /// Tree nodes that walks have visited.
    WALK_NODES: "walk_nodes_total",
    /// Page table entries that walks have zapped.
    ZAPPED: "mappings_zapped_total",
    /// Accesses refused because of poison: SIGBUS, or an error from a system call.
    REFUSED: "accesses_refused_total",
    /// Nodes that the last walk visited.
    LAST_WALK_NODES: "last_walk_nodes",
    /// VMAs in the tree of the last walk.
    LAST_WALK_VMAS: "last_walk_vmas",
    /// Mappings that the last walk found.
    LAST_WALK_MAPPINGS: "last_walk_mappings",
}
