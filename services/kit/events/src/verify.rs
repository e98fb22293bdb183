//! Whether the log is as it was written: every line's digest and every link of the chains, computed anew.
use std::collections::BTreeMap;

use futures::TryStreamExt as _;
use rapport_kernel::{Date, Error};
use rapport_store::{Db, database};
use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, Executor as _, FromRow, PgConnection};

use crate::{
    digest::{self, Digest},
    log::{self, Line},
};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Lines that were read.
    pub lines: u64,
    /// Payloads that were erased.
    pub erased: u64,
    /// What is wrong, in words; empty when nothing is.
    pub faults: Vec<String>,
}

/// A line with what proves it.
#[derive(FromRow)]
struct Proven {
    #[sqlx(flatten)]
    line: Line,
    retention: String,
    payload_digest: Vec<u8>,
    link: Vec<u8>,
}

/// The most faults that are told one by one.
const TOLD: usize = 100;

/// As of one moment, also while the log grows: it is locked first against days being dropped, which are then dropped later. It
/// takes as long as it takes.
const BEGIN: &str = "SET statement_timeout = 0; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
                     LOCK TABLE platform.event_log IN ACCESS SHARE MODE";

/// Reads the whole log, as it is at this moment, and computes its chains anew.
///
/// # Errors
/// When the database fails.
pub async fn verify(db: &Db) -> Result<Verified, Error> {
    verify_telling(db, |_| {}).await
}

/// The same, telling at each line how many were read.
///
/// # Errors
/// When the database fails.
pub async fn verify_telling(db: &Db, mut tell: impl FnMut(u64)) -> Result<Verified, Error> {
    let mut session = db.session().await?;
    session.execute(BEGIN).await.map_err(database)?;
    let mut verified = Verified::default();
    let (mut chains, complete_after) = dropped(&mut session).await?;
    let (mut number, mut parts) = (None, BTreeMap::<i16, i64>::new());
    let days: Vec<Date> = sqlx::query_scalar("SELECT day FROM platform.log_days ORDER BY day")
        .fetch_all(&mut session)
        .await
        .map_err(database)?;
    for day in days {
        let sql = AssertSqlSafe(format!(
            "SELECT {}, retention, payload_digest, link FROM platform.event_log WHERE day = $1 ORDER BY number",
            log::COLUMNS
        ));
        let mut lines = sqlx::query_as::<_, Proven>(sql).persistent(false).bind(day).fetch(&mut session);
        while let Some(proven) = lines.try_next().await.map_err(database)? {
            let Proven { line, retention, payload_digest, link } = proven;
            verified.lines += 1;
            tell(verified.lines);
            // Of days of which some class was dropped, only the chains are whole.
            if complete_after.is_some_and(|dropped| day <= dropped) {
                (number, _) = (None, parts.clear());
            }
            let expected = number.map_or(line.number, |number: i64| number + 1);
            if line.number != expected {
                verified.fault(format!("number {expected} is missing before {}", line.number));
            }
            number = Some(line.number);
            let last = parts.insert(line.part, line.part_number).unwrap_or(line.part_number - 1);
            if line.part_number != last + 1 {
                verified.fault(format!(
                    "in partition {} number {} is missing before {}",
                    line.part,
                    last + 1,
                    line.number
                ));
            }
            match &line.payload {
                None => verified.erased += 1,
                Some(payload) if Sha256::digest(payload).as_slice() != payload_digest => {
                    verified.fault(format!("the payload of number {} is not what it was", line.number));
                }
                Some(_) => {}
            }
            let before = chains.get(&(retention.clone(), line.part)).copied().unwrap_or_default();
            let expected = digest::link(
                before,
                line.number,
                line.part_number,
                line.tenant_number,
                digest::line(&line, &payload_digest),
            );
            if expected.as_slice() != link {
                verified.fault(format!(
                    "number {} is not what it was, or what was before it in its chain",
                    line.number
                ));
            }
            // On from what is there, so that one change is told once.
            chains.insert((retention, line.part), link.try_into().unwrap_or(expected));
        }
    }
    heads(&mut session, &chains, &mut verified).await?;
    Ok(verified)
}

/// The links that the chains begin with, and the last day of which something was dropped.
async fn dropped(
    session: &mut PgConnection,
) -> Result<(BTreeMap<(String, i16), Digest>, Option<Date>), Error> {
    let dropped: Vec<(String, Date, Vec<Vec<u8>>)> =
        sqlx::query_as("SELECT retention, day, links FROM platform.log_dropped")
            .fetch_all(session)
            .await
            .map_err(database)?;
    let last = dropped.iter().map(|(_, day, _)| *day).max();
    let mut chains = BTreeMap::new();
    for (retention, _, links) in dropped {
        for (part, link) in (0..).zip(links) {
            chains.insert((retention.clone(), part), link.try_into().unwrap_or_default());
        }
    }
    Ok((chains, last))
}

/// Whether the chains end where they should: else their last lines are gone.
async fn heads(
    session: &mut PgConnection,
    chains: &BTreeMap<(String, i16), Digest>,
    verified: &mut Verified,
) -> Result<(), Error> {
    let heads: Vec<(String, Vec<Vec<u8>>)> =
        sqlx::query_as("SELECT retention, links FROM platform.log_chains")
            .fetch_all(session)
            .await
            .map_err(database)?;
    for (retention, links) in heads {
        for (part, link) in (0..).zip(links) {
            let found = chains.get(&(retention.clone(), part)).copied().unwrap_or_default();
            if link != found {
                verified
                    .fault(format!("the last lines of partition {part}, kept `{retention}`, are missing"));
            }
        }
    }
    Ok(())
}

impl Verified {
    fn fault(&mut self, fault: String) {
        if self.faults.len() < TOLD {
            self.faults.push(fault);
        }
    }
}
