//! Failed sign-ins by tenant and address, whether there is such an account or not. The lock-out in the database protects
//! accounts; this protects the machine from being made to hash for one address for ever, and shows nothing, since it
//! counts before anybody looks whether the account exists.
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use moka::sync::Cache;
use rapport_kernel::Error;
use sha2::{Digest as _, Sha256};

/// So many failures, three times what locks an account,
const MOST: u32 = 30;
/// since the first of them, in this time.
const WITHIN: Duration = Duration::from_secs(15 * 60);
/// So many addresses are remembered: some 10 MB.
const REMEMBERED: u64 = 100_000;

/// Counts failed sign-ins, in this process.
pub(crate) struct Attempts(Cache<[u8; 32], Arc<AtomicU32>>);

/// Whose attempts are counted together; personal data is not kept.
pub(super) struct Key([u8; 32]);

impl Attempts {
    pub(crate) fn new() -> Self {
        Self(Cache::builder().max_capacity(REMEMBERED).time_to_live(WITHIN).build())
    }

    pub(super) fn key(tenant: &str, email_key: &str) -> Key {
        Key(Sha256::digest(format!("{tenant}\n{email_key}")).into())
    }

    /// # Errors
    /// `Exhausted` after too many failures.
    pub(super) fn check(&self, key: &Key) -> Result<(), Error> {
        if self.0.get(&key.0).is_some_and(|count| count.load(Ordering::Relaxed) >= MOST) {
            let message = "too many failed sign-ins with this address".into();
            return Err(Error::Exhausted { message, retry_after: WITHIN.as_secs() });
        }
        Ok(())
    }

    /// Counts a failure.
    pub(super) fn failed(&self, key: &Key) {
        self.0.get_with(key.0, Arc::default).fetch_add(1, Ordering::Relaxed);
    }

    /// Forgets the failures of who has shown the right password.
    pub(super) fn succeeded(&self, key: &Key) {
        self.0.invalidate(&key.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fails_too_often_is_put_off_and_nobody_else() {
        let attempts = Attempts::new();
        let (li, wang) = (Attempts::key("acme", "li@example.com"), Attempts::key("acme", "wang@example.com"));
        for _ in 0..MOST {
            attempts.check(&li).unwrap();
            attempts.failed(&li);
        }
        assert!(matches!(attempts.check(&li), Err(Error::Exhausted { .. })));
        attempts.check(&wang).unwrap();
        attempts.succeeded(&li);
        attempts.check(&li).unwrap();
    }
}
