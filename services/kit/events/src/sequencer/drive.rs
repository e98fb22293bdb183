//! The sequencer's driver: looks into the outbox, and moves what was planned into the log.
use std::{ops::RangeInclusive, time::Duration};

use rapport_kernel::{Clock, Date, Error};
use rapport_store::database;
use sqlx::{AssertSqlSafe, FromRow, PgConnection, Row as _, postgres::PgRow};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Batch, Heads, Look, PARTS, Sequencer, Snapshot, Taken, Waiting};
use crate::{
    Log,
    digest::Digest,
    fresh::Fresh,
    leader::{BEAT, Term, deposed},
    log,
    retention::drop_old,
};

/// How often it is looked whether days of the log are over, beside each new day.
const TIDY: Duration = Duration::from_hours(1);

/// How much is done at a time.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Lines of a batch: as many as keep everyone else waiting for a few milliseconds.
    pub batch: usize,
    /// Rows that a look takes in at most: whoever stands behind them has to be seen before their turn can come.
    pub look: usize,
    /// Rows that are remembered at most. What is beyond them waits its turn in the outbox.
    pub remembered: usize,
    /// The pause after a batch that left nothing waiting: while it lasts, the next events gather.
    pub gather: Duration,
    /// How long it rests after a batch that left others waiting, in times that the batch took; `longest_pause` at most, and
    /// not once somebody else has written events.
    pub rest: f64,
    /// The pause before the outbox is looked into again, unless a commit of this process comes before; it doubles with
    /// every look that sees nothing,
    pub first_pause: Duration,
    /// up to this.
    pub longest_pause: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            batch: 128,
            look: 16_384,
            remembered: 500_000,
            gather: Duration::from_millis(3),
            rest: 1.0,
            first_pause: Duration::from_millis(5),
            longest_pause: Duration::from_millis(50),
        }
    }
}

/// Moves events into the log, as long as this process leads it. `fresh` gets every line.
///
/// # Errors
/// When the database fails, or another process leads by now. Nothing is lost then: whoever leads next begins by reading where
/// the log stands.
pub(crate) async fn drive(
    log: &Log,
    term: &mut Term,
    fresh: &Fresh,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let Log { db, clock, pace, keep, .. } = log;
    let mut sequencer = Sequencer::new(heads(term).await?, log.sabotage);
    let mut day = file_under(term, clock.now().utc_date()).await?;
    let mut pause = pace.first_pause;
    let mut beat = Instant::now();
    let mut tidied: Option<Instant> = None;
    let mut emissions = db.emissions();
    while !stop.is_cancelled() {
        let mut seen_all = true;
        emissions.forget();
        if sequencer.waiting() < pace.remembered {
            let (rows, snapshot) = look(term.session(), &sequencer, pace.look).await?;
            seen_all = rows.len() < pace.look;
            sequencer.saw(rows, snapshot);
        }
        let today = clock.now().utc_date();
        let taken = sequencer.take(pace.batch);
        if !taken.is_empty() {
            if today > day {
                day = file_under(term, today).await?;
                tidied = None;
            }
            let begun = Instant::now();
            let digests = digests(term, &taken).await?;
            let batch = sequencer.plan(taken.into_iter().zip(digests));
            fresh.push(write(term, &batch, clock, day).await?);
            log.grown.send_replace(());
            (pause, beat) = (pace.first_pause, Instant::now());
            // What waits longer than a batch is somebody's bulk work: it leaves the machine to those who write, until one of
            // them has an event too.
            match sequencer.waiting() {
                0 => sleep(pace.gather).await,
                _ if !seen_all => {}
                _ => tokio::select! {
                    () = emissions.next(|tenant| !sequencer.waits(tenant)) => {}
                    () = sleep(begun.elapsed().mul_f64(pace.rest).min(pace.longest_pause)) => {}
                },
            }
            continue;
        }
        if beat.elapsed() >= BEAT {
            term.beat().await?;
            beat = Instant::now();
        }
        if tidied.is_none_or(|at| at.elapsed() >= TIDY) {
            match drop_old(term.session(), day, *keep).await {
                Err(Error::Unavailable(cause)) => tracing::info!(%cause, "days of the log are dropped later"),
                dropped => drop(dropped?),
            }
            tidied = Some(Instant::now());
        }
        tokio::select! {
            () = emissions.next(|_| true) => pause = pace.first_pause,
            () = sleep(pause) => pause = (pause * 2).min(pace.longest_pause),
            () = stop.cancelled() => {}
        }
    }
    Ok(())
}

/// Where the log stands.
async fn heads(term: &mut Term) -> Result<Heads, Error> {
    let (number, parts): (i64, Vec<i64>) =
        sqlx::query_as("SELECT number, part_numbers FROM platform.log_head")
            .fetch_one(term.session())
            .await
            .map_err(database)?;
    let chains: Vec<(String, Vec<Vec<u8>>)> =
        sqlx::query_as("SELECT retention, links FROM platform.log_chains")
            .fetch_all(term.session())
            .await
            .map_err(database)?;
    let chain = |links: Vec<Vec<u8>>| -> Option<_> {
        links.into_iter().map(|link| Digest::try_from(link).ok()).collect::<Option<Vec<_>>>()?.try_into().ok()
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
async fn file_under(term: &mut Term, today: Date) -> Result<Date, Error> {
    sqlx::query_scalar(
        // Nobody takes the lead while this is written: its lines might be filed under a day before this one.
        "WITH lead AS (SELECT FROM platform.leads WHERE name = 'log' AND epoch = $2 FOR SHARE),
           day AS (SELECT greatest(day, $1) AS day FROM platform.log_head),
           filed AS (SELECT rapport.file_log_under(day), rapport.file_log_under(day + 1) FROM day, lead)
         INSERT INTO platform.log_days AS d (day, number_before, part_numbers_before)
         SELECT day.day, h.number, h.part_numbers FROM platform.log_head h, day, filed
         ON CONFLICT (day) DO UPDATE SET day = excluded.day RETURNING d.day",
    )
    .bind(today)
    .bind(term.epoch())
    .fetch_optional(term.session())
    .await
    .map_err(database)?
    .ok_or_else(deposed)
}

/// A row of a look, with the snapshot that all of them share.
#[derive(FromRow)]
struct Seen {
    id: i64,
    tenant_id: Uuid,
    part: i16,
    retention: String,
    size: i64,
    tenant_number: i64,
}

/// Rows above the highest id that was seen, and in the gaps below, in one statement, hence in one snapshot.
const LOOK: &str = "
    SELECT pg_snapshot_xmin(s)::text::bigint AS xmin, CASE WHEN $5 THEN pg_current_xact_id()::text::bigint END AS now,
      r.id, r.tenant_id, r.part, coalesce(t.retention, 'standard') AS retention, r.bytes::bigint + 200 AS size,
      coalesce(n.number, h.tenants_begin_after) AS tenant_number
    FROM pg_current_snapshot() s CROSS JOIN platform.log_head h
    LEFT JOIN (
      (SELECT o.id, o.tenant_id, o.part, octet_length(o.payload)
       FROM platform.outbox o WHERE o.id > $1 ORDER BY o.id LIMIT $2)
      UNION ALL
      SELECT o.id, o.tenant_id, o.part, octet_length(o.payload)
      FROM unnest($3::bigint[], $4::bigint[]) AS g (low, high)
      JOIN platform.outbox o ON o.id BETWEEN g.low AND g.high
    ) AS r (id, tenant_id, part, bytes) ON true
    LEFT JOIN platform.tenants t ON t.id = r.tenant_id
    LEFT JOIN platform.tenant_numbers n ON n.tenant_id = r.tenant_id
    ORDER BY r.id";

async fn look(
    session: &mut PgConnection,
    sequencer: &Sequencer,
    most: usize,
) -> Result<(Vec<(Waiting, i64)>, Snapshot), Error> {
    let Look { above, gaps, begin } = sequencer.look();
    let (low_ends, high_ends): (Vec<i64>, Vec<i64>) =
        gaps.into_iter().map(RangeInclusive::into_inner).unzip();
    let rows = sqlx::query(LOOK)
        .bind(above)
        .bind(most as i64)
        .bind(low_ends)
        .bind(high_ends)
        .bind(begin)
        .fetch_all(session)
        .await
        .map_err(database)?;
    let first = rows.first().ok_or_else(|| Error::internal("a look without a snapshot"))?;
    let xid = |name| first.try_get::<Option<i64>, _>(name).map(|xid| xid.map(i64::cast_unsigned));
    let xmin = xid("xmin").map_err(database)?.unwrap_or_default();
    let snapshot = Snapshot { xmin, now: xid("now").map_err(database)? };
    if first.try_get::<Option<i64>, _>("id").map_err(database)?.is_none() {
        return Ok((Vec::new(), snapshot));
    }
    let waiting = rows.iter().map(|row| {
        let Seen { id, tenant_id, part, retention, size, tenant_number } = Seen::from_row(row)?;
        let part = u8::try_from(part).map_err(|error| sqlx::Error::Decode(error.into()))?;
        Ok((Waiting { id, tenant: tenant_id, part, retention, size }, tenant_number))
    });
    Ok((waiting.collect::<Result<_, _>>().map_err(database)?, snapshot))
}

/// Begins the transaction in which the rows are moved, with their digests.
async fn digests(term: &mut Term, taken: &[Taken]) -> Result<Vec<Digest>, Error> {
    let ids: Vec<_> = taken.iter().map(|taken| taken.row.id.to_string()).collect();
    let rows = term
        .open(&format!(
            "SELECT rapport.line_digest(o) FROM unnest('{{{}}}'::bigint[]) WITH ORDINALITY AS t (id, n)
             JOIN platform.outbox o ON o.id = t.id ORDER BY t.n",
            ids.join(",")
        ))
        .await?;
    if rows.len() != taken.len() {
        return Err(deposed());
    }
    let digest = |row: PgRow| {
        let bytes: Vec<u8> = row.try_get(0).map_err(database)?;
        Digest::try_from(bytes).map_err(|_| Error::internal("a digest does not have 32 bytes"))
    };
    rows.into_iter().map(digest).collect()
}

/// Moves the lines. What the statement did counts only if all of it met what was expected: the epoch is still this one, the
/// log still ends where this batch begins, and every row was still in the outbox.
const MOVE: &str = "
    WITH lead AS (
      UPDATE platform.leads SET beat = beat + 1 WHERE name = 'log' AND epoch = $1 RETURNING 1
    ), head AS (
      UPDATE platform.log_head SET number = $2, part_numbers = $3, day = $4 FROM lead
      WHERE number = $2 - cardinality($9) AND day <= $4 RETURNING 1
    ), chains AS (
      UPDATE platform.log_chains c SET links = ($6::bytea[])[$7 * (n - 1) + 1 : $7 * n]
      FROM unnest($5::text[]) WITH ORDINALITY AS x (retention, n) WHERE c.retention = x.retention
    ), tenants AS (
      INSERT INTO platform.tenant_numbers AS t (tenant_id, number)
      SELECT x.tenant_id, max(x.number) FROM unnest($8::uuid[], $13::bigint[]) AS x (tenant_id, number) GROUP BY 1
      ON CONFLICT (tenant_id) DO UPDATE SET number = excluded.number
    ), taken AS (
      DELETE FROM platform.outbox o
      USING unnest($9::bigint[], $10::text[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bytea[])
        AS x (id, retention, number, part_number, tenant_number, link)
      WHERE o.id = x.id
      RETURNING x.retention, x.number, x.part_number, x.tenant_number, x.link, o.*
    )
    INSERT INTO platform.event_log (retention, day, number, part, part_number, tenant_number, event_id, tenant_id, resource,
      record_id, version, subject, type, changed_paths, payload, principal, on_behalf_of, via, cause, trace, time, log_time,
      payload_digest, link)
    SELECT t.retention, $4, t.number, t.part, t.part_number, t.tenant_number, t.event_id, t.tenant_id, t.resource, t.record_id,
      t.version, t.subject, t.type, t.changed_paths, t.payload, t.principal, t.on_behalf_of, t.via, t.cause, t.trace, t.time,
      $15, sha256(t.payload), t.link
    FROM taken t, head ORDER BY t.number";

async fn write(term: &mut Term, batch: &Batch, clock: &Clock, day: Date) -> Result<Vec<log::Line>, Error> {
    let Batch { lines, heads } = batch;
    let column = |value: fn(&super::Line) -> i64| lines.iter().map(value).collect::<Vec<_>>();
    let (retentions, links): (Vec<&str>, Vec<&[u8]>) =
        lines.iter().map(|line| (line.retention.as_str(), line.link.as_slice())).unzip();
    let chains: Vec<&str> = heads.chains.keys().map(String::as_str).collect();
    let chain_links: Vec<&[u8]> = heads.chains.values().flatten().map(Digest::as_slice).collect();
    let sql = format!("{MOVE} RETURNING {}", log::COLUMNS);
    let query = sqlx::query_as(AssertSqlSafe(sql))
        .bind(term.epoch())
        .bind(heads.number)
        .bind(heads.parts.as_slice())
        .bind(day)
        .bind(chains)
        .bind(chain_links)
        .bind(PARTS as i32)
        .bind(lines.iter().map(|line| line.tenant).collect::<Vec<_>>())
        .bind(column(|line| line.id))
        .bind(retentions)
        .bind(column(|line| line.number))
        .bind(column(|line| line.part_number))
        .bind(column(|line| line.tenant_number))
        .bind(links)
        .bind(clock.now());
    let mut written: Vec<log::Line> = term.close(query, lines.len()).await?;
    written.sort_unstable_by_key(|line| line.number);
    Ok(written)
}
