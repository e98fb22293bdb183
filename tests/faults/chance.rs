//! Random points, from a seed that can be given again.
use std::{env, str::FromStr, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};

/// Random choices.
pub(crate) struct Chance(StdRng);

impl Chance {
    /// Choices by the seed that is asked for, else by any; the seed is printed. Those of other rounds differ.
    pub(crate) fn of_round(round: u64) -> Self {
        let seed = setting("RAPPORT_FAULTS_SEED").unwrap_or_else(rand::random::<u64>);
        println!("round {round} with RAPPORT_FAULTS_SEED={seed}");
        Self(StdRng::seed_from_u64(seed.wrapping_add(round)))
    }

    /// A time from none to `most`.
    pub(crate) fn time(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.0.random_range(0.0..1.0))
    }

    /// One of these.
    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.0.random_range(0..of.len())]
    }

    /// A number from `least` to `most`.
    pub(crate) fn among(&mut self, least: u64, most: u64) -> u64 {
        self.0.random_range(least..=most.max(least))
    }

    /// Choices of somebody else, who makes them at times of their own.
    pub(crate) fn fork(&mut self) -> Self {
        Self(StdRng::seed_from_u64(self.0.random()))
    }

    /// These in random order, so many times, each time in another: all of them come.
    pub(crate) fn deal<T: Copy>(&mut self, these: &[T], times: usize) -> Vec<T> {
        let mut dealt = Vec::new();
        for _ in 0..times {
            let mut hand = these.to_vec();
            hand.shuffle(&mut self.0);
            dealt.extend(hand);
        }
        dealt
    }

    /// Puts each of these somewhere among the others.
    pub(crate) fn strew<T: Copy>(&mut self, these: &[T], among: &mut Vec<T>) {
        for this in these {
            among.insert(self.0.random_range(0..=among.len()), *this);
        }
    }
}

/// How many rounds are asked for; one, if nothing is said.
pub(crate) fn rounds() -> std::ops::Range<u64> {
    0..setting("RAPPORT_FAULTS_ROUNDS").unwrap_or(1)
}

#[expect(clippy::disallowed_methods, reason = "tests have no configuration")]
fn setting<T: FromStr>(name: &str) -> Option<T> {
    env::var(name)
        .ok()
        .map(|text| text.parse().ok().unwrap_or_else(|| panic!("{name} is not a number: {text}")))
}
