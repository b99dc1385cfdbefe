// SPDX-License-Identifier: GPL-2.0-only

//! Frames of which we hear, before the kernel marks them, that it is the hardware which has failed: what firmware reports. What machine
//! checks tell is handled at once.

use kernel::sync::atomic::{
    Atomic,
    Relaxed, //
};

/// How many frames are remembered, the last ones. They take two pages.
const FRAMES: usize = 1024;

/// The frames, each with 1 added, or 0. The kernel marks a frame later, with locks between.
static REPORTED: [Atomic<u64>; FRAMES] = [const { Atomic::new(0) }; FRAMES];

/// How many there have been.
static ADDED: Atomic<usize> = Atomic::new(0);

/// Whether it is known of frame `pfn`. Takes O(n) for as many as have been reported: mostly none.
pub(crate) fn has(pfn: u64) -> bool {
    REPORTED
        .iter()
        .take(ADDED.load(Relaxed))
        .any(|frame| frame.load(Relaxed) == pfn + 1)
}

/// Remembers frame `pfn`. May be called in any context.
pub(crate) fn add(pfn: u64) {
    if !has(pfn) {
        REPORTED[ADDED.fetch_add(1, Relaxed) % FRAMES].store(pfn + 1, Relaxed);
    }
}
