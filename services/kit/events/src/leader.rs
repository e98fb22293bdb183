//! Who leads a service's log: one process at a time, and whoever was replaced changes nothing any more.
use std::time::Duration;

use rapport_kernel::{Date, Error};
use rapport_store::{Db, database};
use sqlx::{Executor as _, FromRow, PgConnection, Postgres, postgres::PgArguments, query::Query};
use tokio::time::{Instant, sleep};

use crate::{digest::Digest, sequencer::Heads};

/// How often a leader that has nothing to do says that it lives.
pub(crate) const BEAT: Duration = Duration::from_secs(1);
/// A leader that says nothing for so long is replaced.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often whoever stands by looks.
const WATCH: Duration = Duration::from_millis(500);
/// What the leader's session holds, in `pg_advisory_lock`: when that session is gone, nobody has to be patient.
const LOCK: (i32, i32) = (7261, 2);

/// The time in which this process leads the log: its epoch, and the session that it does so with.
#[derive(Debug)]
pub struct Term {
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
    pub async fn begin(db: &Db) -> Result<Self, Error> {
        let mut session = db.session().await?;
        // The outbox is nearly always empty, and full of what was in it: to look through all of it is never the best.
        session.execute("SET enable_seqscan = off; SET enable_bitmapscan = off").await.map_err(database)?;
        let mut last = (pulse(&mut session).await?, Instant::now());
        loop {
            let free: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1, $2)")
                .bind(LOCK.0)
                .bind(LOCK.1)
                .fetch_one(&mut session)
                .await
                .map_err(database)?;
            let pulse = pulse(&mut session).await?;
            if pulse != last.0 {
                last = (pulse, Instant::now());
            }
            if free || last.1.elapsed() >= PATIENCE {
                let epoch: Option<i64> = sqlx::query_scalar(
                    "UPDATE platform.log_head SET epoch = epoch + 1 WHERE epoch = $1 AND beat = $2 RETURNING epoch",
                )
                .bind(pulse.epoch)
                .bind(pulse.beat)
                .fetch_optional(&mut session)
                .await
                .map_err(database)?;
                if let Some(epoch) = epoch {
                    return Ok(Self { session, epoch });
                }
            }
            sleep(WATCH).await;
        }
    }

    /// The number of this time; every later leader has a higher one.
    pub const fn epoch(&self) -> i64 {
        self.epoch
    }

    /// The leader's session, for reading.
    pub(crate) const fn session(&mut self) -> &mut PgConnection {
        &mut self.session
    }

    /// Where the log stands.
    pub(crate) async fn heads(&mut self) -> Result<Heads, Error> {
        let (number, parts): (i64, Vec<i64>) =
            sqlx::query_as("SELECT number, part_numbers FROM platform.log_head")
                .fetch_one(&mut self.session)
                .await
                .map_err(database)?;
        let chains: Vec<(String, Vec<Vec<u8>>)> =
            sqlx::query_as("SELECT retention, links FROM platform.log_chains")
                .fetch_all(&mut self.session)
                .await
                .map_err(database)?;
        let chain = |links: Vec<Vec<u8>>| -> Option<_> {
            links
                .into_iter()
                .map(|link| Digest::try_from(link).ok())
                .collect::<Option<Vec<_>>>()?
                .try_into()
                .ok()
        };
        let chains = chains.into_iter().map(|(retention, links)| Some((retention, chain(links)?))).collect();
        parts
            .try_into()
            .ok()
            .zip(chains)
            .map(|(parts, chains)| Heads { number, parts, chains })
            .ok_or_else(|| Error::internal("the heads of the log are not those of 32 partitions"))
    }

    /// Makes room in the log for `today` and the day after; says under which day lines are filed: today, or a later one if
    /// the clock was ahead before.
    pub(crate) async fn file_under(&mut self, today: Date) -> Result<Date, Error> {
        sqlx::query_scalar(
            "WITH day AS (SELECT greatest(day, $1) AS day FROM platform.log_head),
               filed AS (SELECT rapport.file_log_under(day), rapport.file_log_under(day + 1) FROM day)
             INSERT INTO platform.log_days AS d (day, number_before, part_numbers_before)
             SELECT day.day, h.number, h.part_numbers FROM platform.log_head h, day, filed WHERE h.epoch = $2
             ON CONFLICT (day) DO UPDATE SET day = excluded.day RETURNING d.day",
        )
        .bind(today)
        .bind(self.epoch)
        .fetch_optional(&mut self.session)
        .await
        .map_err(database)?
        .ok_or_else(deposed)
    }

    /// Says that this leader lives.
    pub(crate) async fn beat(&mut self) -> Result<(), Error> {
        let beats = sqlx::query("UPDATE platform.log_head SET beat = beat + 1 WHERE epoch = $1")
            .bind(self.epoch)
            .execute(&mut self.session)
            .await
            .map_err(database)?;
        if beats.rows_affected() == 1 { Ok(()) } else { Err(deposed()) }
    }

    /// Runs a statement in a transaction, which counts only if the statement wrote `rows` rows.
    pub(crate) async fn commit(
        &mut self,
        statement: Query<'_, Postgres, PgArguments>,
        rows: u64,
    ) -> Result<(), Error> {
        self.session.execute("BEGIN").await.map_err(database)?;
        let written = statement.execute(&mut self.session).await.map_err(database)?.rows_affected();
        if written != rows {
            self.session.execute("ROLLBACK").await.map_err(database)?;
            return Err(deposed());
        }
        self.session.execute("COMMIT").await.map(drop).map_err(database)
    }
}

async fn pulse(session: &mut PgConnection) -> Result<Pulse, Error> {
    sqlx::query_as("SELECT epoch, beat FROM platform.log_head").fetch_one(session).await.map_err(database)
}

pub(crate) fn deposed() -> Error {
    Error::Unavailable("another process leads this log by now".into())
}
