// SPDX-License-Identifier: GPL-2.0

//! Random operations against the oracle. `SEED=N cargo test` repeats a run.

use interval_tree::oracle::{
    Operation,
    Oracle, //
};

/// Splitmix64.
struct Random(u64);

impl Random {
    /// A generator whose seed, printed when the test fails, is given or new.
    fn seeded() -> Self {
        let seed = match std::env::var("SEED") {
            Ok(seed) => seed.parse().expect("SEED is a number"),
            Err(_) => std::time::UNIX_EPOCH
                .elapsed()
                .map_or(0, |now| now.as_nanos() as u64),
        };
        println!("SEED={seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[test]
fn random_operations_match_the_oracle() {
    let mut random = Random::seeded();
    for _ in 0..200 {
        let mut oracle = Oracle::default();
        let mut rounds = random.next() % 3000;
        // Grow at first, then shrink, so that all heights are passed both ways.
        let shrink = rounds / 2;
        while rounds > 0 {
            rounds -= 1;
            let [kind, which, start, length, lot, ..] = random.next().to_le_bytes();
            let kind = match (rounds < shrink, lot % 4) {
                (true, 0) => (kind & !15) | 7,
                (false, 0) => kind & !15,
                _ => kind,
            };
            oracle.run(Operation::decode([kind, which, start, length]));
            if rounds % 16 == 0 {
                oracle.verify();
            }
            if rounds % 64 == 0 {
                oracle.check();
            }
        }
        oracle.check();
    }
}
