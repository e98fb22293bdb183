//! Publishing the log on the bus, in order.
//!
//! PostgreSQL holds the truth and the bus is filled from it. The relay remembers up to which number the bus has said that it
//! holds everything, and with which of the bus's own numbers that ended. Whenever the connection was made anew, and each
//! minute, it looks whether that is still so. If the bus lost something (its disk, its last seconds, all of it) the relay
//! goes back to what it still has, or to the beginning of what it should have, and publishes again; whoever had it already
//! knows by the numbers.
mod drive;

pub(crate) use drive::relay;

/// How far the bus has come: no I/O.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Everything up to this number is on the bus.
    pub(crate) held: i64,
    /// Everything up to this number was sent.
    pub(crate) sent: i64,
}

impl Progress {
    /// One that has everything up to `held`.
    pub(crate) const fn new(held: i64) -> Self {
        Self { held, sent: held }
    }

    /// Another line was sent.
    pub(crate) const fn sent(&mut self, number: i64) {
        self.sent = number;
    }

    /// The bus says that it holds this line, hence all before it: answers come in the order of sending. Between two lines there
    /// may be numbers whose days were dropped.
    pub(crate) const fn holds(&mut self, number: i64) {
        if number > self.held {
            self.held = number;
        }
    }

    /// Something was not answered, so nobody knows whether the bus holds it: everything after what it holds for sure is sent
    /// again.
    pub(crate) const fn unsure(&mut self) {
        self.sent = self.held;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_answered_is_sent_again_and_dropped_days_hold_nothing_up() {
        let mut progress = Progress::new(4);
        for number in [5, 6, 7] {
            progress.sent(number);
        }
        progress.holds(5);
        progress.unsure();
        assert_eq!(progress, Progress { held: 5, sent: 5 });
        // 6 to 20 were dropped meanwhile.
        progress.sent(21);
        progress.holds(21);
        progress.holds(3);
        assert_eq!(progress, Progress::new(21));
    }
}
