// SPDX-License-Identifier: GPL-2.0-only

//! Warnings. They fail the test that causes them, unless it expects them.

use std::cell::Cell;

thread_local! {
    static EXPECTED: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Runs `f`; returns how often this thread warned meanwhile.
pub fn count_warnings(f: impl FnOnce()) -> usize {
    let before = EXPECTED.replace(Some(0));
    f();
    EXPECTED.replace(before).unwrap_or(0)
}

/// Counts a warning if warnings are expected, or else panics.
#[doc(hidden)]
#[track_caller]
pub fn warn(condition: &str) {
    match EXPECTED.get() {
        Some(count) => EXPECTED.set(Some(count + 1)),
        None => panic!("warning: {condition}"),
    }
}

/// Warns if a condition holds; returns whether it does.
#[macro_export]
macro_rules! warn_on {
    ($condition:expr) => {{
        let condition = $condition;
        if condition {
            $crate::bug::warn(stringify!($condition));
        }
        condition
    }};
}
