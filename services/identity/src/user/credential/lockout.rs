//! The lock-out: ten failures within 15 minutes lock an account for 15 minutes.
use rapport_kernel::Instant;
use sqlx::FromRow;

/// So many failures
const FAILURES: usize = 10;
/// within so many seconds
const WITHIN: i64 = 15 * 60;
/// lock for so many seconds.
const LOCKED: i64 = 15 * 60;

/// The failed attempts that still count, and until when the account is locked.
#[derive(Clone, Debug, Default, PartialEq, Eq, FromRow)]
pub(crate) struct Lockout {
    /// The latest last.
    pub(crate) failures: Vec<Instant>,
    pub(crate) locked_until: Option<Instant>,
}

impl Lockout {
    /// Whether sign-ins fail now, whatever the password.
    pub(crate) fn is_locked(&self, now: Instant) -> bool {
        self.locked_until.is_some_and(|until| now < until)
    }

    /// After one more failure. One that comes while the account is locked does not make that longer: else whoever knows
    /// the address could lock it for ever.
    pub(crate) fn failed(mut self, now: Instant) -> Self {
        if self.is_locked(now) {
            return self;
        }
        self.failures.retain(|failure| *failure > now.plus_seconds(-WITHIN));
        self.failures.push(now);
        if self.failures.len() < FAILURES {
            return Self { locked_until: None, ..self };
        }
        Self { failures: Vec::new(), locked_until: Some(now.plus_seconds(LOCKED)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Instant {
        Instant::EPOCH.plus_seconds(seconds)
    }

    fn after(failures: impl IntoIterator<Item = i64>) -> Lockout {
        failures.into_iter().fold(Lockout::default(), |lockout, second| lockout.failed(at(second)))
    }

    #[test]
    fn the_tenth_failure_locks_for_a_quarter_of_an_hour() {
        assert!(!after(0..9).is_locked(at(9)));
        let locked = after(0..10);
        assert!(locked.is_locked(at(9)) && locked.is_locked(at(9 + LOCKED - 1)));
        assert!(!locked.is_locked(at(9 + LOCKED)));
    }

    #[test]
    fn failures_further_apart_do_not_lock() {
        let slow = after((0..100).map(|n| n * 91));
        assert!(!slow.is_locked(at(99 * 91)));
        assert!(slow.failures.len() < FAILURES);
        assert!(after((0..10).map(|n| n * 89)).locked_until.is_some());
    }

    #[test]
    fn failures_while_locked_do_not_prolong_it() {
        let locked = after(0..10);
        let later = (10..500).fold(locked.clone(), |lockout, second| lockout.failed(at(second)));
        assert_eq!(later, locked);
        let again = later.failed(at(2000));
        assert!(!again.is_locked(at(2000)) && again.failures.len() == 1);
    }
}
