//! The sessions with a service's database, lent to one transaction at a time.
//!
//! Not sqlx's own pool: that one asks every connection that comes back whether it still lives, a round trip for each call,
//! because it cannot know how its borrower left it. Ours come back from [`crate::OpenTx`] only, after the end of a transaction.
use std::{io::ErrorKind, time::Duration};

use deadpool::{
    Runtime,
    managed::{self, Manager, Metrics, PoolError, QueueMode, RecycleError, RecycleResult},
};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection, postgres::PgConnectOptions};
use tokio::time::timeout;

/// The pool.
pub(crate) type Pool = managed::Pool<Sessions>;
/// A session that is lent; it goes back when it is dropped.
pub(crate) type Session = managed::Object<Sessions>;

/// Every session: rights of the services' group (the login role inherits nothing by itself), bounded statements and
/// transactions, UTC.
pub(crate) const SETTINGS: &str = "SET ROLE rapport_service; SET statement_timeout = '30s'; \
                        SET idle_in_transaction_session_timeout = '15s'; SET TimeZone = 'UTC'; SET jit = off";
/// Whoever gets no session for so long is refused.
const PATIENCE: Duration = Duration::from_secs(5);
/// A session that does not say for so long that it lives is given up.
const DOUBT: Duration = Duration::from_secs(1);
/// How old a session may become: what a server's process remembers of tables grows with its age.
const LIFETIME: Duration = Duration::from_mins(10);
/// A session that was lent so recently need not be asked whether it still lives.
const FRESH: Duration = Duration::from_secs(1);
/// The pause before a server that is not ready yet is asked again.
const PAUSE: Duration = Duration::from_millis(50);

/// Opens sessions.
#[derive(Debug)]
pub(crate) struct Sessions(PgConnectOptions);

/// A pool of at most `size` sessions.
pub(crate) fn pool(connect: PgConnectOptions, size: u32) -> Result<Pool, sqlx::Error> {
    Pool::builder(Sessions(connect.application_name("rapport")))
        .max_size(size as usize)
        // The one that was at work last: it is the least likely to have to be asked.
        .queue_mode(QueueMode::Lifo)
        .recycle_timeout(Some(DOUBT))
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| sqlx::Error::Configuration(error.into()))
}

/// Borrows a session.
#[expect(clippy::disallowed_methods, reason = "the one place that takes connections")]
pub(crate) async fn borrow(pool: &Pool) -> Result<Session, sqlx::Error> {
    let borrowed = timeout(PATIENCE, pool.get()).await.map_err(|_| sqlx::Error::PoolTimedOut)?;
    borrowed.map_err(|error| match error {
        PoolError::Backend(error) => error,
        PoolError::Timeout(_) => sqlx::Error::PoolTimedOut,
        _ => sqlx::Error::PoolClosed,
    })
}

/// Closes every session, after the transactions under way.
pub(crate) async fn close(pool: &Pool) {
    pool.close();
    while pool.status().size > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Manager for Sessions {
    type Type = PgConnection;
    type Error = sqlx::Error;

    /// Waits, as long as the pool lets it, for a server that is starting or full.
    async fn create(&self) -> Result<PgConnection, sqlx::Error> {
        let mut session = loop {
            match self.0.connect().await {
                Err(error) if is_not_ready(&error) => tokio::time::sleep(PAUSE).await,
                connected => break connected?,
            }
        };
        session.execute(SETTINGS).await?;
        Ok(session)
    }

    async fn recycle(&self, session: &mut PgConnection, metrics: &Metrics) -> RecycleResult<sqlx::Error> {
        if metrics.age() > LIFETIME {
            return Err(RecycleError::message("old"));
        }
        if metrics.last_used() > FRESH {
            session.ping().await?;
        }
        Ok(())
    }
}

/// Whether it will do to ask again: nobody listens yet, the server is starting, or it has no connection left.
fn is_not_ready(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() == ErrorKind::ConnectionRefused,
        sqlx::Error::Database(error) => matches!(error.code().as_deref(), Some("57P03" | "53300")),
        _ => false,
    }
}
