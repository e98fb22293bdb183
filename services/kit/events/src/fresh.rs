//! Lines that were just written, for the relay of the same process: it need not read them again.
use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use tokio::sync::Notify;

use crate::log::Line;

/// Lines that are kept at most. A relay that is further behind reads the log.
const KEPT: usize = 4096;

/// The newest lines of the log, without gaps.
#[derive(Debug, Default)]
pub(crate) struct Fresh {
    lines: Mutex<VecDeque<Line>>,
    grown: Notify,
}

impl Fresh {
    /// These lines were written, in their order.
    pub(crate) fn push(&self, written: Vec<Line>) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let follows = lines.back().zip(written.first()).is_none_or(|(a, b)| a.number + 1 == b.number);
        if !follows || lines.len() + written.len() > KEPT {
            lines.clear();
        }
        lines.extend(written);
        drop(lines);
        self.grown.notify_one();
    }

    /// The lines after this number, unless the first of them is not here.
    pub(crate) fn after(&self, number: i64) -> VecDeque<Line> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        while lines.pop_front_if(|line| line.number <= number).is_some() {}
        if lines.front().is_some_and(|line| line.number == number + 1) {
            std::mem::take(&mut *lines)
        } else {
            VecDeque::new()
        }
    }

    /// Resolves when lines were written.
    pub(crate) async fn grown(&self) {
        self.grown.notified().await;
    }
}
