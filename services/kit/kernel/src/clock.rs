//! The clock and the source of ids: one for everybody in production, a chosen one in tests.
use std::sync::Arc;

use uuid::Uuid;

use crate::Instant;

/// Tells the time and makes ids.
#[derive(Clone, Default)]
pub struct Clock(Option<Arc<dyn Fn() -> Instant + Send + Sync>>);

impl Clock {
    /// The machine's clock.
    pub const fn system() -> Self {
        Self(None)
    }

    /// A clock that tells what `now` tells, for tests.
    pub fn chosen(now: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(now)))
    }

    /// What time it is.
    pub fn now(&self) -> Instant {
        match &self.0 {
            None =>
            {
                #[expect(clippy::disallowed_methods, reason = "the one place that asks the machine")]
                jiff::Timestamp::now().into()
            }
            Some(now) => now(),
        }
    }

    /// A new id: UUIDv7.
    pub fn new_uuid(&self) -> Uuid {
        #[expect(clippy::disallowed_methods, reason = "the one place that makes ids")]
        Uuid::now_v7()
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Clock(chosen)" } else { "Clock(system)" })
    }
}
