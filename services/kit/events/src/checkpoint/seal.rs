//! What whoever leads the log does about once a minute: it looks whether what was written since the last time is as it was
//! written, and the chains end as they must; keeps a checkpoint of that; and looks at a part of all that is older, again and again.
use std::time::Duration;

use rapport_kernel::Error;
use rapport_store::{Db, database};
use sqlx::{Executor as _, PgConnection};
use tokio::time::{Instant, sleep};

use super::{Checkpoint, Checkpoints};
use crate::{
    lead::cause,
    verify::{BEGIN, Heads, Verified, Walk},
};

/// What was done to the log is found within a minute.
const EVERY: Duration = Duration::from_secs(50);
/// Lines that are looked at in one transaction: it does not keep for long what others have deleted.
const AT_ONCE: i64 = 5_000;
/// Then it rests nine times as long as they took: it takes a tenth of a core at most.
const REST: u32 = 9;
/// Older lines that are looked at each time.
const OLDER: u64 = 100_000;

/// Does it, again and again.
pub(crate) async fn seal(db: &Db, service: &str, checkpoints: Option<&Checkpoints>) {
    let mut seal = Seal::new(db, service, checkpoints);
    loop {
        let mut verified = Verified::default();
        if let Err(error) = seal.round(&mut verified).await {
            metrics::counter!("rapport_log_look_failures_total", "service" => service.to_owned())
                .increment(1);
            tracing::warn!(service, error = cause(&error), "the log is looked at later");
        }
        metrics::counter!("rapport_log_faults_total", "service" => service.to_owned())
            .increment(verified.faults.len() as u64);
        for fault in verified.faults {
            tracing::error!(service, fault, "the log is not as it was written");
        }
        sleep(EVERY).await;
    }
}

/// Somebody who looks at a log once a minute.
#[derive(Debug)]
pub struct Seal<'s> {
    db: &'s Db,
    service: &'s str,
    checkpoints: Option<&'s Checkpoints>,
    /// At the end of what was looked at as soon as it was there.
    newer: Option<Walk>,
    /// The number of the last checkpoint.
    signed: i64,
    /// Somewhere before, with the walk as it began: that is another one when days were dropped.
    older: Option<(Walk, Walk)>,
}

impl<'s> Seal<'s> {
    /// Who looks at the log of `service`, and keeps checkpoints, if anywhere.
    pub const fn new(db: &'s Db, service: &'s str, checkpoints: Option<&'s Checkpoints>) -> Self {
        Self { db, service, checkpoints, newer: None, signed: 0, older: None }
    }

    /// Looks once. What was found until it failed counts.
    ///
    /// # Errors
    /// When the database fails, or the place of the checkpoints.
    pub async fn round(&mut self, verified: &mut Verified) -> Result<(), Error> {
        let mut session = self.db.session().await?;
        let newer = match self.newer.take() {
            Some(walk) => walk,
            None => self.begin(&mut session, verified).await?,
        };
        let heads = look_at_newer(&mut session, newer, verified).await?;
        let (number, day) = (heads.number, heads.day);
        // On from what is there, so that one change is told once.
        let newer = self.newer.insert(heads.walk());
        let checkpoint = Checkpoint { number, roots: newer.roots() };
        self.look_at_older(&mut session, verified).await?;
        drop(session);
        if let Some(checkpoints) = self.checkpoints.filter(|_| number > self.signed) {
            if !checkpoints.write(self.service, day, &checkpoint).await? {
                verified.fault(format!("another checkpoint was signed at number {number}"));
            }
            self.signed = number;
        }
        Ok(())
    }

    /// Where the last checkpoint was signed, if the chains there are still those. Where none was, there is only the end to go on from.
    async fn begin(&mut self, session: &mut PgConnection, verified: &mut Verified) -> Result<Walk, Error> {
        let heads = Heads::read(session).await?;
        let last = match self.checkpoints {
            Some(checkpoints) => checkpoints.last(self.service, heads.day).await?,
            None => None,
        };
        let Some(last) = last else { return Ok(heads.walk()) };
        self.signed = last.number;
        let walk = Walk::from_number(session, last.number).await?;
        if last.roots.iter().any(|(retention, root)| walk.root(retention) != *root) {
            verified.fault(format!(
                "the lines up to {} are not what they were when a checkpoint was signed there",
                last.number
            ));
        }
        Ok(walk)
    }

    async fn look_at_older(
        &mut self,
        session: &mut PgConnection,
        verified: &mut Verified,
    ) -> Result<(), Error> {
        let most = verified.lines + OLDER;
        loop {
            let (begun, lines) = (Instant::now(), verified.lines);
            session.execute(BEGIN).await.map_err(database)?;
            let beginning = Walk::from_the_beginning(session).await?;
            let mut walk = match self.older.take() {
                Some((walk, began)) if began == beginning => walk,
                _ => beginning.clone(),
            };
            walk.go_on(session, AT_ONCE, verified, |_, _, _| {}).await?;
            session.execute("COMMIT").await.map_err(database)?;
            if verified.lines < lines + AT_ONCE.cast_unsigned() {
                // That was all: the next time it begins again.
                return Ok(());
            }
            self.older = Some((walk, beginning));
            if verified.lines >= most {
                return Ok(());
            }
            sleep(begun.elapsed() * REST).await;
        }
    }
}

/// Looks at everything up to the end of the log, and says where that is.
async fn look_at_newer(
    session: &mut PgConnection,
    mut walk: Walk,
    verified: &mut Verified,
) -> Result<Heads, Error> {
    loop {
        let (begun, lines) = (Instant::now(), verified.lines);
        session.execute(BEGIN).await.map_err(database)?;
        walk.go_on(session, AT_ONCE, verified, |_, _, _| {}).await?;
        let heads = Heads::read(session).await?;
        session.execute("COMMIT").await.map_err(database)?;
        if verified.lines < lines + AT_ONCE.cast_unsigned() {
            heads.compare(&walk, verified);
            return Ok(heads);
        }
        sleep(begun.elapsed() * REST).await;
    }
}
