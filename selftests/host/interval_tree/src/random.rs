// SPDX-License-Identifier: GPL-2.0-only

//! Random numbers that a printed seed repeats.

/// Splitmix64.
pub struct Random(u64);

impl Random {
    /// A generator with the seed in the environment variable `SEED`, or a new one. It prints the seed: cargo
    /// shows that when the test fails.
    pub fn seeded() -> Self {
        let seed = match std::env::var("SEED") {
            Ok(seed) => seed.parse().expect("SEED is a number"),
            Err(_) => std::time::UNIX_EPOCH
                .elapsed()
                .map_or(0, |now| now.as_nanos() as u64),
        };
        println!("to repeat: SEED={seed} selftests/host/run");
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
