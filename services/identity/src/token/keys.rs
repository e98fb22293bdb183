//! The Ed25519 keys that sign tokens. A new one comes every day; it is published ten minutes before it signs, so that every
//! service knows it in time, and the old one verifies for ten minutes after it signed last, which is longer than any token
//! lives.
use rapport_kernel::{BoxError, Clock, Error, Instant};
use rapport_runtime::token::{KeySource, PublicKey, SigningKeyPair};
use rapport_store::{Db, database};
use sqlx::FromRow;
use std::sync::Arc;
use tokio::sync::RwLock;

/// Seconds after which a key is followed by a new one.
const AGE: i64 = 24 * 3600;
/// Seconds for which a key is known before it signs, and after it signed last.
const OVERLAP: i64 = 600;
/// Seconds for which the keys in hand are used without looking whether there are new ones.
const FRESH: i64 = 60;

/// The keys of this process.
#[derive(Default)]
pub(crate) struct SigningKeys(RwLock<Ring>);

/// The keys as they were read.
#[derive(Default)]
struct Ring {
    /// With the time from which each signs, the latest first.
    keys: Vec<(Instant, Arc<SigningKeyPair>)>,
    read_at: Option<Instant>,
}

impl Ring {
    /// The key that signs now, if the keys are fresh: the oldest, where a clock was set back to before any of them.
    fn current(&self, now: Instant) -> Option<Arc<SigningKeyPair>> {
        self.read_at.filter(|read| now < read.plus_seconds(FRESH))?;
        self.keys.iter().find(|(from, _)| *from <= now).or(self.keys.last()).map(|(_, key)| key.clone())
    }
}

impl SigningKeys {
    /// The key that signs now. Once a minute the keys are read again, and followed by a new one when it is time.
    pub(crate) async fn current(&self, db: &Db, clock: &Clock) -> Result<Arc<SigningKeyPair>, Error> {
        let now = clock.now();
        if let Some(key) = self.0.read().await.current(now) {
            return Ok(key);
        }
        let mut ring = self.0.write().await;
        if ring.current(now).is_none() {
            let keys = rotate(db, clock).await?;
            let pair = |key: &Key| Some((key.sign_from, Arc::new(key.pair()?)));
            *ring = Ring { keys: keys.iter().filter_map(pair).collect(), read_at: Some(now) };
        }
        // The first key was made just now, after `now`.
        ring.current(clock.now()).ok_or_else(|| Error::internal("no key signs tokens"))
    }
}

/// A key as the table keeps it.
#[derive(FromRow)]
struct Key {
    id: String,
    secret: Vec<u8>,
    sign_from: Instant,
}

impl Key {
    fn pair(&self) -> Option<SigningKeyPair> {
        Some(SigningKeyPair::from_secret(&self.id, self.secret.as_slice().try_into().ok()?))
    }
}

/// The keys, the latest first, after the latest was followed by a new one if it is time.
///
/// The table is locked, so that of two processes one makes the key and the other finds it.
async fn rotate(db: &Db, clock: &Clock) -> Result<Vec<Key>, Error> {
    let (keys, now) = (read(db).await?, clock.now());
    let newest = keys.first().map(|key| key.sign_from);
    if newest.is_some_and(|from| now < from.plus_seconds(AGE)) {
        return Ok(keys);
    }
    let mut tx = db.platform().await?;
    sqlx::query("LOCK TABLE platform.signing_keys IN SHARE ROW EXCLUSIVE MODE")
        .execute(tx.conn()?)
        .await
        .map_err(database)?;
    let newest: Option<Instant> = sqlx::query_scalar("SELECT max(sign_from) FROM platform.signing_keys")
        .fetch_one(tx.conn()?)
        .await
        .map_err(database)?;
    if newest.is_none_or(|from| now >= from.plus_seconds(AGE)) {
        // The first key has nobody to wait for.
        let sign_from = if newest.is_none() { now } else { now.plus_seconds(OVERLAP) };
        let key = SigningKeyPair::generate(clock.new_uuid().simple().to_string());
        sqlx::query("DELETE FROM platform.signing_keys WHERE expire_time <= $1")
            .bind(now)
            .execute(tx.conn()?)
            .await
            .map_err(database)?;
        sqlx::query("UPDATE platform.signing_keys SET expire_time = $1 WHERE expire_time IS NULL")
            .bind(sign_from.plus_seconds(OVERLAP))
            .execute(tx.conn()?)
            .await
            .map_err(database)?;
        sqlx::query(
            "INSERT INTO platform.signing_keys (id, secret, public_key, sign_from) VALUES ($1, $2, $3, $4)",
        )
        .bind(key.kid())
        .bind(key.secret().as_slice())
        .bind(key.public().as_slice())
        .bind(sign_from)
        .execute(tx.conn()?)
        .await
        .map_err(database)?;
        tracing::info!(key.id = key.kid(), key.sign_from = %sign_from, "a new key will sign tokens");
    }
    tx.commit().await?;
    read(db).await
}

async fn read(db: &Db) -> Result<Vec<Key>, Error> {
    let mut tx = db.platform().await?;
    let keys =
        sqlx::query_as("SELECT id, secret, sign_from FROM platform.signing_keys ORDER BY sign_from DESC")
            .fetch_all(tx.conn()?)
            .await
            .map_err(database)?;
    tx.commit().await?;
    Ok(keys)
}

/// The public keys that verify tokens at `now`.
pub(crate) async fn public(db: &Db, now: Instant) -> Result<Vec<PublicKey>, Error> {
    let mut tx = db.platform().await?;
    let keys: Vec<(String, Vec<u8>, Option<Instant>)> = sqlx::query_as(
        "SELECT id, public_key, expire_time FROM platform.signing_keys
         WHERE expire_time IS NULL OR expire_time > $1 ORDER BY sign_from DESC",
    )
    .bind(now)
    .fetch_all(tx.conn()?)
    .await
    .map_err(database)?;
    tx.commit().await?;
    let public = |(kid, key, expires_at): (String, Vec<u8>, _)| {
        Some(PublicKey { kid, key: key.try_into().ok()?, expires_at })
    };
    Ok(keys.into_iter().filter_map(public).collect())
}

/// Where a verifier in the process that runs identity gets the keys from: its database, without a call.
pub fn key_source(db: Db, clock: Clock) -> KeySource {
    Arc::new(move || {
        let (db, now) = (db.clone(), clock.now());
        Box::pin(async move { public(&db, now).await.map_err(BoxError::from) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_key_whose_time_has_come_signs_and_the_oldest_where_a_clock_was_set_back() {
        let now = Clock::system().now();
        let key = |id: &str, seconds| {
            (now.plus_seconds(seconds), Arc::new(SigningKeyPair::generate(id.to_owned())))
        };
        let ring = |keys| Ring { keys, read_at: Some(now) };
        let signs = |ring: Ring| ring.current(now).map(|key| key.kid().to_owned());
        assert_eq!(
            signs(ring(vec![key("next", 60), key("this", -60), key("last", -3600)])).as_deref(),
            Some("this")
        );
        assert_eq!(signs(ring(vec![key("next", 7200), key("first", 3600)])).as_deref(), Some("first"));
        assert_eq!(signs(ring(Vec::new())), None);
    }
}
