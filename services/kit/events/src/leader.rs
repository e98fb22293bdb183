//! What one process of a service does at a time: whoever was replaced changes nothing any more.
use std::time::Duration;

use rapport_kernel::Error;
use rapport_store::{Db, database};
use sqlx::{
    AssertSqlSafe, Executor as _, FromRow, PgConnection, Postgres,
    postgres::{PgArguments, PgRow},
    query::QueryAs,
};
use tokio::time::{Instant, sleep};

/// How often a leader that has nothing to do says that it lives.
pub(crate) const BEAT: Duration = Duration::from_secs(1);
/// A leader that says nothing for so long is replaced.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often whoever stands by looks.
const WATCH: Duration = Duration::from_millis(500);
/// What the leader's session holds in `pg_advisory_lock`, with the name of what it leads: when that session is gone, nobody has
/// to be patient.
const LOCK: i32 = 7_261_002;

/// The name under which a service's log is led.
pub(crate) const LOG: &str = "log";

/// The time in which this process leads something: its epoch, and the session that it does so with.
#[derive(Debug)]
pub(crate) struct Term {
    name: String,
    session: PgConnection,
    epoch: i64,
}

/// What a leader that lives changes all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromRow)]
struct Pulse {
    epoch: i64,
    beat: i64,
}

impl Term {
    /// Waits until nobody else leads, and begins a new epoch.
    ///
    /// Nobody leads when nobody holds the leader's lock, or when the one who does (a process that was stopped, or a machine
    /// that was cut off) has said nothing for 5 seconds by the clock of this one.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn begin(db: &Db, name: &str) -> Result<Self, Error> {
        let mut session = db.session().await?;
        // The outbox is nearly always empty, and full of what was in it: to look through all of it is never the best.
        session.execute("SET enable_seqscan = off; SET enable_bitmapscan = off").await.map_err(database)?;
        sqlx::query("INSERT INTO platform.leads (name) VALUES ($1) ON CONFLICT DO NOTHING")
            .bind(name)
            .execute(&mut session)
            .await
            .map_err(database)?;
        let mut last = (pulse(&mut session, name).await?, Instant::now());
        loop {
            let free: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1, hashtext($2))")
                .bind(LOCK)
                .bind(name)
                .fetch_one(&mut session)
                .await
                .map_err(database)?;
            let pulse = pulse(&mut session, name).await?;
            if pulse != last.0 {
                last = (pulse, Instant::now());
            }
            if free || last.1.elapsed() >= PATIENCE {
                let epoch: Option<i64> = sqlx::query_scalar(
                    "UPDATE platform.leads SET epoch = epoch + 1 WHERE name = $3 AND epoch = $1 AND beat = $2 RETURNING epoch",
                )
                .bind(pulse.epoch)
                .bind(pulse.beat)
                .bind(name)
                .fetch_optional(&mut session)
                .await
                .map_err(database)?;
                if let Some(epoch) = epoch {
                    return Ok(Self { name: name.to_owned(), session, epoch });
                }
            }
            sleep(WATCH).await;
        }
    }

    /// The number of this time; every later leader has a higher one.
    pub(crate) const fn epoch(&self) -> i64 {
        self.epoch
    }

    /// The leader's session, for reading.
    pub(crate) const fn session(&mut self) -> &mut PgConnection {
        &mut self.session
    }

    /// Says that this leader lives.
    pub(crate) async fn beat(&mut self) -> Result<(), Error> {
        let beats = sqlx::query("UPDATE platform.leads SET beat = beat + 1 WHERE name = $1 AND epoch = $2")
            .bind(&self.name)
            .bind(self.epoch)
            .execute(&mut self.session)
            .await
            .map_err(database)?;
        if beats.rows_affected() == 1 { Ok(()) } else { Err(deposed()) }
    }

    /// Runs a statement in a transaction, which counts only if the statement gives `count` rows.
    pub(crate) async fn commit<R>(
        &mut self,
        statement: QueryAs<'_, Postgres, R, PgArguments>,
        count: usize,
    ) -> Result<Vec<R>, Error>
    where
        R: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        self.open("SELECT").await?;
        self.close(statement, count).await
    }

    /// Begins a transaction with a first statement, in one round trip, and gives its rows: `close` it. Values stand in the
    /// statement as literals.
    pub(crate) async fn open(&mut self, first: &str) -> Result<Vec<PgRow>, Error> {
        self.session.fetch_all(AssertSqlSafe(format!("BEGIN; {first}"))).await.map_err(database)
    }

    /// Runs a transaction's last statement, and commits if it gives `count` rows.
    pub(crate) async fn close<R>(
        &mut self,
        statement: QueryAs<'_, Postgres, R, PgArguments>,
        count: usize,
    ) -> Result<Vec<R>, Error>
    where
        R: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let rows = statement.fetch_all(&mut self.session).await.map_err(database)?;
        if rows.len() != count {
            self.session.execute("ROLLBACK").await.map_err(database)?;
            return Err(deposed());
        }
        self.session.execute("COMMIT").await.map_err(database)?;
        Ok(rows)
    }
}

async fn pulse(session: &mut PgConnection, name: &str) -> Result<Pulse, Error> {
    sqlx::query_as("SELECT epoch, beat FROM platform.leads WHERE name = $1")
        .bind(name)
        .fetch_one(session)
        .await
        .map_err(database)
}

pub(crate) fn deposed() -> Error {
    Error::Unavailable("another process leads by now".into())
}
