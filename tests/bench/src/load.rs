//! Load: callers who each call again as soon as they have their answer, and what they see.
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::task::JoinSet;

/// What callers saw.
pub(crate) struct Seen {
    /// Answers per second, of all callers together.
    pub(crate) per_second: f64,
    /// Microseconds that each answer took.
    pub(crate) micros: Histogram<u64>,
}

impl Seen {
    /// The time that 99 of 100 answers did not take longer than, in milliseconds.
    pub(crate) fn p99(&self) -> f64 {
        self.micros.value_at_quantile(0.99) as f64 / 1_000.0
    }
}

/// An empty record of times.
pub(crate) fn times() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are few")
}

/// Lets `callers` call for `time`, each in a task of its own. Each turn gets a number of its own.
pub(crate) async fn callers<F, Answer>(callers: u64, time: Duration, turn: F) -> Seen
where
    F: Fn(u64) -> Answer + Clone + Send + 'static,
    Answer: Future<Output = ()> + Send,
{
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let turn = turn.clone();
        tasks.spawn(async move {
            let (mut seen, mut n) = (times(), caller);
            while begun.elapsed() < time {
                let called = Instant::now();
                turn(n).await;
                seen.record(called.elapsed().as_micros() as u64).unwrap();
                n += callers;
            }
            seen
        });
    }
    let mut micros = times();
    while let Some(seen) = tasks.join_next().await {
        micros.add(seen.unwrap()).unwrap();
    }
    Seen { per_second: micros.len() as f64 / begun.elapsed().as_secs_f64(), micros }
}
