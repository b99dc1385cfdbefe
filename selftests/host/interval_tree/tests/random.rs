// SPDX-License-Identifier: GPL-2.0-only

//! Random operations: does the tree find itself valid, and does it do what the oracle does?

use interval_tree::{
    oracle::{
        Operation,
        Oracle, //
    },
    random::Random,
};

/// Runs random operations that make trees grow and shrink; `each` comes after each of them.
fn run(random: &mut Random, mut each: impl FnMut(&mut Oracle, Operation, u64)) {
    for _ in 0..200 {
        let mut oracle = Oracle::default();
        let rounds = random.next() % 3000;
        for round in 0..rounds {
            let [mut kind, which, start, length, lot, ..] = random.next().to_le_bytes();
            if lot < 64 {
                // Insert more at first, remove more later.
                kind = kind & !15 | if round < rounds / 2 { 0 } else { 7 };
            }
            each(
                &mut oracle,
                Operation::decode([kind, which, start, length]),
                round,
            );
        }
    }
}

#[test]
fn tree_stays_valid() {
    run(&mut Random::seeded(), |oracle, operation, round| {
        if matches!(
            operation,
            Operation::Insert(_) | Operation::Remove { .. } | Operation::Update { .. }
        ) {
            oracle.run(operation);
        }
        if round % 8 == 0 {
            oracle.verify();
        }
    });
}

#[test]
fn tree_does_what_the_oracle_does() {
    run(&mut Random::seeded(), |oracle, operation, round| {
        oracle.run(operation);
        if round % 64 == 0 {
            oracle.compare();
        }
    });
}
