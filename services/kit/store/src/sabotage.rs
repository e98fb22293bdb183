//! Promises broken on purpose, so that the tests which prove them can be seen to fail.
//!
//! A proof of what happens in a crash is worth as much as the faults that it notices. So each promise has a switch that
//! breaks it here, where it is kept; a test runs the same body with the switch and demands that the check objects. The
//! switches are arguments of a service's `parts(env)`: only tests set them, no configuration can.
use std::time::Duration;

/// How long a sabotaged write leaves open the gap that should not be there: long enough for a random fault to fall into it.
pub const GAP: Duration = Duration::from_millis(200);

/// A promise to break. Only for tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sabotage {
    /// None: everything is as promised.
    #[default]
    None,
    /// The event of a change is written in another transaction, after that of the change.
    EventsApart,
    /// The answer to a request is kept in another transaction, after that of the request.
    AnswersApart,
    /// An import's progress is saved in another transaction, before that of the rows.
    ProgressBefore,
    /// An import's progress is saved in another transaction, after that of the rows.
    ProgressAfter,
    /// Whoever worked on an import once goes on writing, whether or not somebody else holds it by now.
    NoFence,
}
