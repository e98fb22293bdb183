//! Whether the log is as it was written: every line's digest and every link of the chains, computed anew, and compared with the
//! checkpoints that were signed on the way.
use std::collections::BTreeMap;

use rapport_kernel::{Date, Error};
use rapport_store::{Db, database};
use sqlx::{Executor as _, PgConnection};

use crate::checkpoint::{Checkpoint, Checkpoints};

mod heads;
mod walk;

pub(crate) use self::{heads::Heads, walk::Walk};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Lines that were read.
    pub lines: u64,
    /// Payloads that were erased.
    pub erased: u64,
    /// Checkpoints that say the same.
    pub checkpoints: u64,
    /// What is wrong, in words; empty when nothing is.
    pub faults: Vec<String>,
}

impl Verified {
    pub(crate) fn fault(&mut self, fault: String) {
        if self.faults.len() < TOLD {
            self.faults.push(fault);
        }
    }
}

/// The most faults that are told one by one.
const TOLD: usize = 100;

/// As of one moment, also while the log grows: it is locked first against days being dropped, which are then dropped later. It
/// takes as long as it takes.
pub(crate) const BEGIN: &str = "SET statement_timeout = 0; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
     LOCK TABLE platform.event_log IN ACCESS SHARE MODE";

/// Reads the whole log, as it is at this moment, and computes its chains anew.
///
/// # Errors
/// When the database fails.
pub async fn verify(db: &Db) -> Result<Verified, Error> {
    verify_against(db, "", None, |_| {}).await
}

/// The same for the log of `service`, compared with its checkpoints. Tells at each line how many were read.
///
/// # Errors
/// When the database fails, or the place of the checkpoints.
pub async fn verify_against(
    db: &Db,
    service: &str,
    checkpoints: Option<&Checkpoints>,
    mut tell: impl FnMut(u64),
) -> Result<Verified, Error> {
    let mut session = db.session().await?;
    let mut verified = Verified::default();
    // Before the log, which has all that they speak of.
    let mut signed = Vec::new();
    if let Some(checkpoints) = checkpoints {
        (signed, verified.faults) = checkpoints.read(service, first_day(&mut session).await?).await?;
    }
    session.execute(BEGIN).await.map_err(database)?;
    let mut walk = Walk::from_the_beginning(&mut session).await?;
    let ends = ends_of_dropped(&mut session).await?;
    let mut checkpoints = signed.iter().peekable();
    // What follows a line that is not what it was differs too, which need not be told again.
    let mut same = true;
    walk.go_on(&mut session, i64::MAX, &mut verified, |walk, next, verified| {
        // Numbers may have been dropped, so that a checkpoint's own line need not be there.
        while let Some(checkpoint) = checkpoints.next_if(|checkpoint| checkpoint.number < next) {
            same = same && compare(checkpoint, walk, &ends, verified);
        }
        tell(verified.lines);
    })
    .await?;
    let heads = Heads::read(&mut session).await?;
    for checkpoint in checkpoints {
        if checkpoint.number <= heads.number {
            same = same && compare(checkpoint, &walk, &ends, &mut verified);
        } else {
            let (signed, number) = (checkpoint.number, heads.number);
            verified
                .fault(format!("a checkpoint was signed at number {signed}, and the log ends at {number}"));
        }
    }
    heads.compare(&walk, &mut verified);
    Ok(verified)
}

/// The day that the log begins with.
async fn first_day(session: &mut PgConnection) -> Result<Date, Error> {
    sqlx::query_scalar("SELECT coalesce(min(day), 'epoch') FROM platform.log_days")
        .fetch_one(session)
        .await
        .map_err(database)
}

/// Whether the chains were the same when a checkpoint was signed. Of what was dropped only how it ended is known.
fn compare(
    checkpoint: &Checkpoint,
    walk: &Walk,
    ends: &BTreeMap<String, i64>,
    verified: &mut Verified,
) -> bool {
    for (retention, root) in &checkpoint.roots {
        let dropped = ends.get(retention).is_some_and(|end| checkpoint.number < *end);
        if !dropped && walk.root(retention) != *root {
            verified.fault(format!(
                "the lines up to {}, kept `{retention}`, are not what they were when a checkpoint was signed there",
                checkpoint.number
            ));
            return false;
        }
    }
    verified.checkpoints += 1;
    true
}

/// The numbers with which the days ended that were dropped last, by retention class.
async fn ends_of_dropped(session: &mut PgConnection) -> Result<BTreeMap<String, i64>, Error> {
    let ends: Vec<(String, i64)> = sqlx::query_as(
        "SELECT d.retention, coalesce(min(l.number_before), (SELECT number FROM platform.log_head))
         FROM platform.log_dropped d LEFT JOIN platform.log_days l ON l.day > d.day GROUP BY d.retention",
    )
    .fetch_all(session)
    .await
    .map_err(database)?;
    Ok(ends.into_iter().collect())
}
