// SPDX-License-Identifier: GPL-2.0-only

//! Fuzzes the interval tree: the input is a sequence of operations, run against the oracle.

#![no_main]

use interval_tree::oracle::{
    Operation,
    Oracle, //
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut oracle = Oracle::default();
    for bytes in input.chunks_exact(Operation::BYTES) {
        let bytes = bytes
            .try_into()
            .expect("a chunk is as long as an operation");
        oracle.run(Operation::decode(bytes));
        oracle.verify();
    }
    oracle.compare();
});
