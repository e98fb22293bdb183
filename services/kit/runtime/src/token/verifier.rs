//! Verifying tokens: against the public keys that identity publishes, once for each token.
use std::{collections::HashMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use ed25519_dalek::VerifyingKey;
use futures::future::BoxFuture;
use moka::sync::Cache;
use rapport_kernel::{BoxError, Clock, Ctx, Error, Instant};
use sha2::{Digest as _, Sha256};
use tokio::{sync::Mutex, time};

use super::{Claims, LEEWAY_SECONDS, MAX_LIFETIME_SECONDS, MAX_TOKEN_BYTES, jws::Unverified};

/// Fetches the public keys.
pub type KeySource = Arc<dyn Fn() -> BoxFuture<'static, Result<Vec<PublicKey>, BoxError>> + Send + Sync>;

/// How often an unknown key id makes us ask for the keys.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// How old the keys may be, so that a withdrawn one is not believed for long.
const STALE: Duration = Duration::from_secs(300);
/// How long we wait for the keys.
const PATIENCE: Duration = Duration::from_secs(5);
/// Verified tokens that are remembered; about 2 kB each.
const REMEMBERED: u64 = 10_000;

/// A public key.
#[derive(Clone, Debug)]
pub struct PublicKey {
    /// Its id.
    pub kid: String,
    /// The Ed25519 key.
    pub key: [u8; 32],
    /// When its tokens are not accepted any more; never when unset.
    pub expires_at: Option<Instant>,
}

/// Verifies tokens. A signature takes some 60 µs and a token comes many times, so verified ones are remembered by their
/// SHA-256 until they end or their key is withdrawn.
pub struct Verifier {
    keys: ArcSwap<Keys>,
    source: KeySource,
    /// Held while asking, so that many calls with a new key ask once.
    asking: Mutex<()>,
    verified: Cache<[u8; 32], Arc<Verified>>,
    clock: Clock,
}

#[derive(Default)]
struct Keys {
    by_kid: HashMap<String, (VerifyingKey, Option<Instant>)>,
    /// When we last asked; `None` before the first time.
    asked: Option<time::Instant>,
    /// Whether the last answer was a failure, so that these keys are older than `asked`.
    failed: Option<String>,
}

struct Verified {
    kid: String,
    expires_at: Instant,
    ctx: Ctx,
}

impl Verifier {
    /// Verifies with the keys of `source`, which is asked when the first token comes, when a token names an unknown key
    /// (at most once in five seconds), and when the keys are five minutes old.
    pub fn new(source: KeySource, clock: Clock) -> Self {
        Self {
            keys: ArcSwap::default(),
            source,
            asking: Mutex::default(),
            verified: Cache::builder()
                .max_capacity(REMEMBERED)
                .time_to_live(Duration::from_secs(MAX_LIFETIME_SECONDS.unsigned_abs()))
                .build(),
            clock,
        }
    }

    /// The context that a token gives.
    ///
    /// # Errors
    /// `Unauthenticated` when the token is not valid, whatever is wrong with it; `Unavailable` when that cannot be told
    /// because the keys cannot be fetched.
    pub async fn verify(&self, token: &str) -> Result<Ctx, Error> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Error::Unauthenticated);
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        if let Some(verified) = self.verified.get(&digest)
            && self.known(&self.keys.load(), &verified.kid).is_some()
        {
            self.in_time(verified.expires_at)?;
            return Ok(verified.ctx.clone());
        }
        let unverified = Unverified::read(token).ok_or(Error::Unauthenticated)?;
        let key = self.key(&unverified.kid).await?;
        let payload = unverified.verify(&key).ok_or(Error::Unauthenticated)?;
        let claims = Claims::from_json(&payload).ok_or(Error::Unauthenticated)?;
        let (from, to) = (claims.issued_at, claims.expires_at);
        if from > self.clock.now().plus_seconds(LEEWAY_SECONDS)
            || to > from.plus_seconds(MAX_LIFETIME_SECONDS)
        {
            return Err(Error::Unauthenticated);
        }
        self.in_time(to)?;
        let ctx = claims.into_ctx(self.clock.clone());
        let verified = Verified { kid: unverified.kid, expires_at: to, ctx: ctx.clone() };
        self.verified.insert(digest, Arc::new(verified));
        Ok(ctx)
    }

    fn in_time(&self, expires_at: Instant) -> Result<(), Error> {
        if self.clock.now() < expires_at.plus_seconds(LEEWAY_SECONDS) {
            Ok(())
        } else {
            Err(Error::Unauthenticated)
        }
    }

    /// The key, if the keys are fresh enough to be believed.
    fn known(&self, keys: &Keys, kid: &str) -> Option<VerifyingKey> {
        keys.asked.filter(|asked| asked.elapsed() < STALE)?;
        keys.usable(kid, self.clock.now())
    }

    async fn key(&self, kid: &str) -> Result<VerifyingKey, Error> {
        if let Some(key) = self.known(&self.keys.load(), kid) {
            return Ok(key);
        }
        let _asking = self.asking.lock().await;
        if let Some(key) = self.known(&self.keys.load(), kid) {
            return Ok(key);
        }
        if self.keys.load().asked.is_none_or(|asked| asked.elapsed() >= ASK_AGAIN) {
            self.ask().await;
        }
        let keys = self.keys.load();
        match (keys.usable(kid, self.clock.now()), &keys.failed) {
            (Some(key), _) => Ok(key),
            (None, Some(problem)) => Err(Error::Unavailable(problem.clone().into())),
            (None, None) => Err(Error::Unauthenticated),
        }
    }

    /// Fetches the keys. When that fails the old ones stay: who is signed in goes on working.
    async fn ask(&self) {
        let asked = Some(time::Instant::now());
        let answer = time::timeout(PATIENCE, (self.source)()).await.unwrap_or_else(|late| Err(late.into()));
        let keys = match answer {
            Ok(keys) => Keys { by_kid: keys.into_iter().filter_map(read).collect(), asked, failed: None },
            Err(error) => {
                tracing::warn!(%error, "the keys that verify tokens cannot be fetched");
                let by_kid = self.keys.load().by_kid.clone();
                Keys {
                    by_kid,
                    asked,
                    failed: Some(format!("the keys that verify tokens cannot be fetched: {error}")),
                }
            }
        };
        self.keys.store(Arc::new(keys));
    }
}

impl Keys {
    fn usable(&self, kid: &str, now: Instant) -> Option<VerifyingKey> {
        let (key, expires_at) = self.by_kid.get(kid)?;
        expires_at.is_none_or(|end| now < end).then_some(*key)
    }
}

/// Takes a key in; one that is none, or is weak (it would verify anything), is left out and logged.
fn read(public: PublicKey) -> Option<(String, (VerifyingKey, Option<Instant>))> {
    match VerifyingKey::from_bytes(&public.key) {
        Ok(key) if !key.is_weak() => Some((public.kid, (key, public.expires_at))),
        _ => {
            tracing::warn!(key.id = %public.kid, "a published key is not a usable Ed25519 key");
            None
        }
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier")
    }
}
