//! Passwords: Argon2id on a bounded pool. A hash takes 19 MiB and some 20 ms of a core on purpose, so without a bound
//! whoever sends many sign-ins would take the whole machine.
mod rules;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use argon2::{
    Argon2, Params,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use rapport_kernel::Error;
use tokio::sync::Semaphore;

pub(crate) use rules::Owner;

/// Hashes that wait for a core; more are refused.
const QUEUE: usize = 32;

/// Hashes and verifies passwords. Cheap to clone.
#[derive(Clone)]
pub struct Passwords(Arc<Inner>);

struct Inner {
    params: Params,
    /// One place for each hash that is computed or waits.
    places: Arc<Semaphore>,
    /// One for each that is computed.
    cores: Arc<Semaphore>,
    /// Verified where there is no hash, so that it takes as long.
    dummy: String,
    verifications: AtomicU64,
}

impl Passwords {
    /// With the parameters that OWASP recommends (19 MiB, two passes, one lane), on every core of the machine.
    ///
    /// # Errors
    /// `Internal` when the machine gives no randomness.
    pub fn new() -> Result<Self, Error> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::with(Params::DEFAULT_M_COST, Params::DEFAULT_T_COST, cores)
    }

    /// With `memory` KiB and so many `passes`, on at most `cores` cores at a time.
    ///
    /// # Errors
    /// `Internal` when Argon2 has no such parameters.
    pub fn with(memory: u32, passes: u32, cores: usize) -> Result<Self, Error> {
        let (params, cores) = (Params::new(memory, passes, 1, None).map_err(Error::internal)?, cores.max(1));
        let dummy = hash(&params, "correct horse battery staple")?;
        Ok(Self(Arc::new(Inner {
            params,
            places: Arc::new(Semaphore::new(cores + QUEUE)),
            cores: Arc::new(Semaphore::new(cores)),
            dummy,
            verifications: AtomicU64::new(0),
        })))
    }

    /// How many passwords were verified, against a hash or against the dummy.
    pub fn verifications(&self) -> u64 {
        self.0.verifications.load(Ordering::Relaxed)
    }

    /// Hashes a password for keeping.
    ///
    /// # Errors
    /// `Exhausted` when too many wait.
    pub(crate) async fn hash(&self, password: String) -> Result<String, Error> {
        let params = self.0.params.clone();
        self.compute(move || hash(&params, &password)).await?
    }

    /// Whether `password` is the one that was hashed. Without a hash it is not, after the same time.
    ///
    /// # Errors
    /// `Exhausted` when too many wait.
    pub(crate) async fn verify(&self, password: String, hash: Option<String>) -> Result<bool, Error> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.0.dummy.clone());
        let inner = self.0.clone();
        let matches = self
            .compute(move || {
                inner.verifications.fetch_add(1, Ordering::Relaxed);
                Argon2::default().verify_password(password.as_bytes(), hash.as_str()).is_ok()
            })
            .await?;
        Ok(known && matches)
    }

    /// Whether a hash was made with less effort than would be spent today.
    pub(crate) fn is_outdated(&self, hash: &str) -> bool {
        let params = PasswordHash::new(hash).ok().and_then(|hash| Params::try_from(&hash).ok());
        let today = &self.0.params;
        params.is_none_or(|then| then.m_cost() < today.m_cost() || then.t_cost() < today.t_cost())
    }

    /// Whether `password` may be `owner`'s.
    ///
    /// # Errors
    /// `Invalid`, about `field`, with what would be right; `Exhausted` when too many wait.
    pub(crate) async fn check(
        &self,
        field: &'static str,
        password: String,
        owner: Owner,
    ) -> Result<(), Error> {
        self.compute(move || rules::check(&password, &owner))
            .await?
            .map_err(|problem| Error::invalid(field, problem))
    }

    /// Computes on a thread that may take its time, when it is this computation's turn.
    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let busy = |_| Error::Exhausted { message: "too many people sign in at once".into(), retry_after: 1 };
        let place = self.0.places.clone().try_acquire_owned().map_err(busy)?;
        let core = self.0.cores.clone().acquire_owned().await.map_err(Error::internal)?;
        let run = move || {
            let result = work();
            drop((core, place));
            result
        };
        tokio::task::spawn_blocking(run).await.map_err(Error::internal)
    }
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passwords")
    }
}

fn hash(params: &Params, password: &str) -> Result<String, Error> {
    let hash = Argon2::from(params).hash_password(password.as_bytes()).map_err(Error::internal)?;
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWORD: &str = "a quiet river at night";

    fn cheap(memory: u32) -> Passwords {
        Passwords::with(memory, 1, 1).unwrap()
    }

    #[tokio::test]
    async fn a_password_is_known_again_and_no_other_is() {
        let passwords = cheap(64);
        let hash = passwords.hash(PASSWORD.into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{hash}");
        assert!(passwords.verify(PASSWORD.into(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("another".into(), Some(hash)).await.unwrap());
        assert!(!passwords.verify("another".into(), Some("no hash".into())).await.unwrap());
    }

    #[tokio::test]
    async fn without_a_hash_as_much_is_computed_and_nothing_matches() {
        let passwords = cheap(64);
        assert!(!passwords.verify("correct horse battery staple".into(), None).await.unwrap());
        assert_eq!(passwords.verifications(), 1);
    }

    #[tokio::test]
    async fn a_hash_of_less_effort_is_outdated() {
        let old = cheap(64).hash(PASSWORD.into()).await.unwrap();
        assert!(cheap(128).is_outdated(&old) && cheap(64).is_outdated("no hash"));
        assert!(!cheap(64).is_outdated(&old) && !cheap(32).is_outdated(&old));
    }

    #[tokio::test]
    async fn what_exceeds_the_queue_is_refused_and_the_rest_is_served() {
        let passwords = Passwords::with(8 * 1024, 2, 1).unwrap();
        let tasks: Vec<_> = (0..QUEUE + 20)
            .map(|_| {
                let passwords = passwords.clone();
                tokio::spawn(async move { passwords.verify(PASSWORD.into(), None).await })
            })
            .collect();
        let (mut served, mut refused) = (0, 0);
        for task in tasks {
            match task.await.unwrap() {
                Ok(_) => served += 1,
                Err(Error::Exhausted { .. }) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(served > QUEUE, "{served} served");
        assert!(refused > 0, "{refused} refused");
    }
}
