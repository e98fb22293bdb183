//! Random choices, from a seed that can be given again.
use std::{env, str::FromStr};

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

/// Random choices.
pub(super) struct Chance(SmallRng);

impl Chance {
    pub(super) fn of(seed: u64) -> Self {
        Self(SmallRng::seed_from_u64(seed))
    }

    /// A number from 0 on, below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0.random_range(0..end)
    }

    /// A number of these.
    pub(super) fn from(&mut self, least: usize, most: usize) -> usize {
        self.0.random_range(least..=most)
    }

    /// Whether something happens that happens once in so many times.
    pub(super) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// What is asked for by a variable of the environment.
#[expect(clippy::disallowed_methods, reason = "tests have no configuration")]
pub(super) fn setting<T: FromStr>(name: &str) -> Option<T> {
    env::var(name)
        .ok()
        .map(|text| text.parse().ok().unwrap_or_else(|| panic!("{name} is not a number: {text}")))
}
