//! Hearing another service's log: each event has its effect once, in the order of its partition.
//!
//! A partition of the producer's log is heard by one lane, one event after the other. The watermark, the last number that
//! took effect, moves in the transaction of the effects. What comes again is told by its number and dropped; what is missing is
//! told by the next number and read from the producer's log; and what the bus never brings is found by asking that log, every
//! few seconds, where it stands. So the bus makes it fast, and the two databases make it true.
mod apply;
mod doubt;
mod drive;
mod lane;
mod producer;
mod turns;

pub use drive::{Consumer, Sabotage};
pub use producer::{Page, Producer};

/// What a lane does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It took effect before.
    Known,
    /// It is the next one.
    Next,
    /// The log is asked: something is missing before it, or it was published by another leader than the last one that was
    /// heard. That may be a new one, one that was replaced and does not know it yet, or nobody of ours.
    Ask,
}

/// Where a lane stands: no I/O.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watermark {
    /// The last number that took effect.
    pub number: i64,
    /// The leader of the log when it was asked last; 0 when it was not asked yet, as leaders begin with 1.
    pub epoch: i64,
}

impl Watermark {
    /// One that has not asked yet who leads.
    pub const fn new(number: i64) -> Self {
        Self { number, epoch: 0 }
    }

    /// What to do with a message that says so.
    pub const fn judge(self, number: i64, epoch: i64) -> Judgement {
        if number <= self.number {
            Judgement::Known
        } else if number == self.number + 1 && epoch == self.epoch && self.epoch > 0 {
            Judgement::Next
        } else {
            Judgement::Ask
        }
    }

    /// Everything up to `number` has taken effect, and the log was led by `epoch`.
    #[must_use]
    pub fn moved(self, number: i64, epoch: i64) -> Self {
        Self { number, epoch: self.epoch.max(epoch) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_next_number_of_the_leader_that_is_known_is_believed() {
        let at = Watermark { number: 7, epoch: 3 };
        assert_eq!(at.judge(7, 3), Judgement::Known);
        assert_eq!(at.judge(1, 9), Judgement::Known);
        assert_eq!(at.judge(8, 3), Judgement::Next);
        assert_eq!(at.moved(8, 3).judge(9, 3), Judgement::Next);
        for (number, epoch) in [(8, 2), (8, 4), (9, 3), (i64::MAX, 3)] {
            assert_eq!(at.judge(number, epoch), Judgement::Ask, "{number} by {epoch}");
        }
        // Who has not asked yet believes nobody, whatever epoch they claim.
        for epoch in [-1, 0, 1] {
            assert_eq!(Watermark::new(7).judge(8, epoch), Judgement::Ask);
        }
        assert_eq!(at.moved(8, 2).epoch, 3);
    }
}
