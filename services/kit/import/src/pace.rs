//! How fast to go: batches of a size that takes a set time, a rest after each, and patience with what does not answer.
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::engine::Options;

/// The least rows of a batch that is not the rest of one.
const LEAST: usize = 20;
/// The first and the longest wait for what does not answer.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// How long to look before it is judged how much others do.
const LOOK: Duration = Duration::from_millis(250);
/// Transactions a second of others from which on they are at work. Who only watches the progress, ten times a second,
/// has fewer.
const CROWD: f64 = 12.0;
/// For so long they count as being at work after they were: people do not come back to a machine that is taken.
const STAY: Duration = Duration::from_secs(1);

/// The pace of a run.
#[derive(Debug)]
pub(crate) struct Pace {
    rows: usize,
    most: usize,
    target: Duration,
    rest: f64,
    busy_target: Duration,
    busy_rest: f64,
    last: Duration,
    wait: Duration,
    patience: Duration,
    /// When it last went on.
    since: Instant,
    /// When it was last looked what others do, and how much they had done by then.
    looked: Option<(Instant, u64)>,
    /// When others were at work last.
    crowded: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(options: &Options) -> Self {
        let most = options.batch_rows.max(1);
        Self {
            // The first batch finds out how long rows take.
            rows: (most / 4).clamp(1, most),
            most,
            target: options.batch_time,
            rest: options.pause_ratio.clamp(0.0, 100.0),
            busy_target: options.busy_batch_time.min(options.batch_time),
            busy_rest: options.busy_pause_ratio.max(options.pause_ratio).clamp(0.0, 100.0),
            last: Duration::ZERO,
            wait: FIRST_WAIT,
            patience: options.patience,
            since: Instant::now(),
            looked: None,
            crowded: None,
        }
    }

    /// How many rows the next batch should have.
    pub(crate) const fn rows(&self) -> usize {
        self.rows
    }

    /// Learns how long a batch of `rows` took.
    pub(crate) fn measure(&mut self, rows: usize, took: Duration) {
        self.since = Instant::now();
        self.wait = FIRST_WAIT;
        self.last = took;
        // Parts of a batch say nothing about whole ones.
        if rows * 2 >= self.rows {
            let target = if self.is_crowded() { self.busy_target } else { self.target };
            let ideal = rows as f64 * target.as_secs_f64() / took.as_secs_f64().max(1e-6);
            let most = self.most.min(self.rows * 2);
            self.rows = (ideal as usize).clamp(LEAST.max(self.rows / 4).min(most), most);
        }
    }

    /// Learns how many transactions others have begun so far.
    pub(crate) fn look(&mut self, begun: u64) {
        let Some((at, before)) = self.looked else {
            self.looked = Some((Instant::now(), begun));
            return;
        };
        if at.elapsed() >= LOOK {
            if begun.saturating_sub(before) as f64 > CROWD * at.elapsed().as_secs_f64() {
                self.crowded = Some(Instant::now());
            }
            self.looked = Some((Instant::now(), begun));
        }
    }

    /// Whether others are at work on the same database, as far as this process knows.
    pub(crate) fn is_crowded(&self) -> bool {
        self.crowded.is_some_and(|at| at.elapsed() < STAY)
    }

    /// Rests, so that others have their turn: for long while they are at work.
    pub(crate) async fn rest(&self) {
        let rest = self.last.mul_f64(if self.is_crowded() { self.busy_rest } else { self.rest });
        if rest.is_zero() {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(rest).await;
        }
    }

    /// Whether it is worth waiting on.
    pub(crate) fn has_patience(&self) -> bool {
        self.since.elapsed() < self.patience
    }

    /// Waits for what does not answer, longer each time, and goes on with smaller batches: the last may have been too much.
    pub(crate) async fn wait(&mut self, stop: &CancellationToken) {
        tokio::select! {
            () = tokio::time::sleep(self.wait) => {}
            () = stop.cancelled() => {}
        }
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        self.rows = (self.rows / 2).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_come_to_take_the_set_time() {
        let mut pace = Pace::new(&Options::default());
        assert_eq!(pace.rows(), 250);
        // 1 ms a row, then a tenth, then ten: the batch should take 250 ms, and has at most 1,000 rows.
        for (per_row, expected) in [(1_000, 250), (100, 1_000), (10_000, 25)] {
            for _ in 0..5 {
                let rows = pace.rows();
                pace.measure(rows, Duration::from_micros(rows as u64 * per_row));
            }
            assert_eq!(pace.rows(), expected, "{per_row} µs a row");
        }
        pace.measure(1, Duration::from_secs(1));
        assert_eq!(pace.rows(), 25, "a single row says nothing");
    }

    #[test]
    fn while_others_are_at_work_batches_are_short() {
        let mut pace = Pace::new(&Options::default());
        let since = |begun: u64, pace: &mut Pace| {
            pace.looked = Instant::now().checked_sub(Duration::from_secs(1)).map(|then| (then, 1_000));
            pace.look(1_000 + begun);
            pace.is_crowded()
        };
        assert!(!since(3, &mut pace), "somebody watches");
        assert!(since(30, &mut pace), "people are at work");
        for _ in 0..5 {
            pace.measure(pace.rows(), Duration::from_micros(pace.rows() as u64 * 500));
        }
        assert_eq!(pace.rows(), 20, "0.5 ms a row");
        assert!(since(0, &mut pace), "they may come back");
        pace.crowded = pace.crowded.and_then(|at| at.checked_sub(STAY));
        assert!(!since(0, &mut pace), "they have gone home");
    }
}
