//! Doing the work: claimed, done, ended.
use std::{collections::HashMap, panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt as _;
use rapport_kernel::{Ctx, Error, Id};
use sqlx::PgConnection;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Job, Outcome, Patience, Queues, Sabotage,
    claim::{self, Claim},
};
use crate::{lead::cause, parked::ParkedItem};

/// The pause when there was nothing to do; it doubles as long as there is nothing,
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// up to this. A timer is as late as that at most.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// Timers that become ready at a time.
const FIRED: i64 = 1_000;
/// A job that takes so long is taken for one that hangs.
const LONGEST: Duration = Duration::from_secs(300);
/// How long jobs in hand may still take when the process ends.
const GRACE: Duration = Duration::from_secs(20);
/// After so long work of a tenant that is not served is looked at again, in seconds.
const NOT_SERVED: i64 = 60;

/// What a job came to, as the runner sees it.
struct Ended {
    job: Job,
    outcome: Outcome,
    /// A stable word for why it failed.
    reason: &'static str,
}

impl Queues {
    /// Works until `stop`. Any number of processes may do so at once.
    ///
    /// # Errors
    /// When the database fails; whatever was in hand is somebody else's when its lease is over.
    pub async fn work(&self, stop: &CancellationToken) -> Result<(), Error> {
        let mut session = self.db.session().await?;
        let holder = self.clock.new_uuid();
        let mut jobs = JoinSet::new();
        let mut in_hand = HashMap::<Uuid, usize>::new();
        let (mut after, mut pause, mut renewed) = (Uuid::nil(), FIRST_PAUSE, Instant::now());
        loop {
            let mut found = claim::fire(&mut session, self.clock.now(), FIRED).await?;
            let claimed = self.claim(&mut session, holder, &mut after, &in_hand, jobs.len()).await?;
            found += claimed.len() as u64;
            for job in claimed {
                *in_hand.entry(job.tenant_id).or_default() += 1;
                jobs.spawn(self.clone().job(job));
            }
            if renewed.elapsed() > self.lease / 3 {
                claim::renew(&mut session, holder, self.lease).await?;
                renewed = Instant::now();
            }
            pause = if found > 0 { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
            let wait = if found > 0 && jobs.len() < self.workers { Duration::ZERO } else { pause };
            tokio::select! {
                Some(ended) = jobs.join_next(), if !jobs.is_empty() => {
                    self.ended(&mut session, &mut in_hand, ended.map_err(Error::internal)?).await?;
                    while let Some(ended) = jobs.try_join_next() {
                        self.ended(&mut session, &mut in_hand, ended.map_err(Error::internal)?).await?;
                    }
                }
                () = sleep(wait) => {}
                () = self.ready.notified() => pause = FIRST_PAUSE,
                () = stop.cancelled() => break,
            }
        }
        let last = async {
            while let Some(ended) = jobs.join_next().await {
                self.ended(&mut session, &mut in_hand, ended.map_err(Error::internal)?).await?;
            }
            Ok(())
        };
        timeout(GRACE, last).await.unwrap_or(Ok(()))
    }

    /// Takes as much as this process has hands for, in turns of tenants.
    async fn claim(
        &self,
        session: &mut PgConnection,
        holder: Uuid,
        after: &mut Uuid,
        in_hand: &HashMap<Uuid, usize>,
        running: usize,
    ) -> Result<Vec<Job>, Error> {
        let most = self.workers.saturating_sub(running);
        if most == 0 {
            return Ok(Vec::new());
        }
        let busy: Vec<Uuid> = in_hand
            .iter()
            .filter(|(_, jobs)| **jobs >= self.workers_of_one)
            .map(|(tenant, _)| *tenant)
            .collect();
        let (lease, in_turns) = (self.lease, self.sabotage != Sabotage::FirstInFirstOut);
        let claimed =
            claim::claim(session, Claim { after: *after, most, busy: &busy, holder, lease, in_turns })
                .await?;
        // At the end of the circle it begins anew.
        *after = match claimed.iter().map(|job| job.tenant_id).max() {
            Some(last) if claimed.len() == most => last,
            _ => Uuid::nil(),
        };
        Ok(claimed)
    }

    async fn job(self, job: Job) -> Ended {
        let Some(handler) = self.handlers.get(job.queue.as_str()) else {
            let outcome = Outcome::Failed(format!("nobody here does the work of the queue `{}`", job.queue));
            return Ended { job, outcome, reason: "QUEUE_UNKNOWN" };
        };
        let ctx = Ctx { cause: job.event_id, ..Ctx::system(Id::new(job.tenant_id), self.clock.clone()) };
        let handled = timeout(LONGEST, AssertUnwindSafe((handler.handle)(&ctx, &job)).catch_unwind()).await;
        let (outcome, reason) = match handled {
            Ok(Ok(Ok(outcome))) => (outcome, "FAILED"),
            Ok(Ok(Err(Error::Rule { reason: "TENANT_NOT_SERVED" | "TENANT_READ_ONLY", .. }))) => {
                (Outcome::Later(self.clock.now().plus_seconds(NOT_SERVED)), "")
            }
            Ok(Ok(Err(error))) => {
                tracing::warn!(queue = job.queue, tenant.id = %job.tenant_id, error = cause(&error), "work failed");
                (Outcome::Failed(error.to_string()), error.reason())
            }
            Ok(Err(_)) => (Outcome::Failed("it panicked".into()), "PANICKED"),
            Err(_) => {
                (Outcome::Failed(format!("it was not done within {} s", LONGEST.as_secs())), "TOO_SLOW")
            }
        };
        Ended { job, outcome, reason }
    }

    /// Writes down what became of a job.
    async fn ended(
        &self,
        session: &mut PgConnection,
        in_hand: &mut HashMap<Uuid, usize>,
        ended: Ended,
    ) -> Result<(), Error> {
        let Ended { job, outcome, reason } = ended;
        if let Some(jobs) = in_hand.get_mut(&job.tenant_id) {
            *jobs -= 1;
            if *jobs == 0 {
                in_hand.remove(&job.tenant_id);
            }
        }
        metrics::counter!("rapport_work_total", "service" => self.service.clone(), "queue" => job.queue.clone(),
            "outcome" => outcome.word())
        .increment(1);
        let now = self.clock.now();
        let patience =
            self.handlers.get(job.queue.as_str()).map(|handler| handler.patience).unwrap_or_default();
        match outcome {
            Outcome::Done => claim::end(session, &job, self.sabotage != Sabotage::NoFence).await,
            Outcome::Later(due) => claim::put_off(session, &job, due, 0, "").await,
            Outcome::Failed(problem) if now < job.ready_time.plus(patience.most) => {
                let due = now.plus(patience.pause(job.failures));
                claim::put_off(session, &job, due, job.failures + 1, &problem).await
            }
            Outcome::Failed(problem) => self.park(session, &job, reason, &problem).await,
            Outcome::Park(problem) => self.park(session, &job, "PARKED", &problem).await,
        }
    }

    /// Parks a job where people see it.
    async fn park(
        &self,
        session: &mut PgConnection,
        job: &Job,
        reason: &str,
        problem: &str,
    ) -> Result<(), Error> {
        match self.try_park(job, reason, problem).await {
            // Its tenant is not served, or not written: it is parked when that is over.
            Err(Error::Rule { .. }) => {
                let later = self.clock.now().plus_seconds(NOT_SERVED);
                claim::put_off(session, job, later, job.failures, problem).await
            }
            parked => parked,
        }
    }

    async fn try_park(&self, job: &Job, reason: &str, problem: &str) -> Result<(), Error> {
        tracing::warn!(queue = job.queue, tenant.id = %job.tenant_id, reason, "work is parked");
        let ctx = Ctx { cause: job.event_id, ..Ctx::system(Id::new(job.tenant_id), self.clock.clone()) };
        let mut tx = self.db.begin(&ctx).await?;
        match job.finish(&mut tx).await {
            Err(Error::Conflict) => return Ok(()),
            finished => finished?,
        }
        let now = tx.now();
        ParkedItem {
            id: job.id,
            version: 1,
            kind: "work".into(),
            producer: String::new(),
            handler: job.queue.clone(),
            event_id: job.event_id.unwrap_or(job.id),
            r#type: job.key.clone(),
            resource: job.resource.clone(),
            record_id: job.record_id.unwrap_or_default(),
            record_version: 0,
            part: 0,
            part_number: 0,
            state: "parked".into(),
            reason: reason.to_owned(),
            problem: problem.to_owned(),
            attempts: job.failures + 1,
            line: serde_json::to_vec(&job.payload).map_err(Error::internal)?,
            event_time: job.ready_time,
            create_time: now,
            update_time: now,
        }
        .create(&mut tx)?;
        tx.finish().await
    }
}

impl Outcome {
    const fn word(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Later(_) => "later",
            Self::Failed(_) => "failed",
            Self::Park(_) => "parked",
        }
    }
}

impl Patience {
    /// The pause after so many failures before: exponential, with a fifth by chance, so that what failed together does not
    /// come again together.
    fn pause(&self, failures: i64) -> Duration {
        let doubled = self.first.saturating_mul(1 << failures.clamp(0, 20));
        doubled.min(self.longest).mul_f64(rand::random_range(0.8..1.2))
    }
}
