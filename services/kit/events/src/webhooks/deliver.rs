//! Sending: a lane's events one after the other, each noted in the ledger as it arrives or does not.
use std::time::Duration;

use rapport_kernel::{Ctx, Error, Instant, Via};
use rapport_proto::events::v1 as pb;
use rapport_store::{RunAs, TenantTx, database};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlx::{FromRow, types::Json};
use uuid::Uuid;

use super::{
    LANES, Webhook, Webhooks,
    send::{Sender, Sent, note},
};
use crate::{
    log::Line,
    queue::{Job, Outcome, Patience, Work},
};

/// The queue of lanes that have something to send.
pub(crate) const DELIVER: &str = "webhook";
/// The queue of ranges that are sent again.
pub(crate) const REPLAY: &str = "webhook-replay";
/// Lines that are read at a time.
const PIECE: usize = 100;
/// A lane that has sent for so long lets others go on.
const TURN: Duration = Duration::from_secs(10);
/// What does not arrive for so long is given up, or the webhook is switched off.
const GIVE_UP: Duration = Duration::from_hours(24);

/// A lane of a webhook.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Lane {
    webhook: Uuid,
    lane: i16,
}

/// A range that is sent again.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Range {
    webhook: Uuid,
    after: i64,
    to: i64,
}

/// What a lane has to do, once however often it is asked.
pub(super) fn lane_work(webhook: Uuid, lane: i16) -> Result<Work, Error> {
    Ok(Work::new(DELIVER, format!("{webhook}/{lane}")).with(&Lane { webhook, lane })?.again())
}

/// What it takes to send a range again.
pub(super) fn range_work(webhook: Uuid, after: i64, to: i64, once: Uuid) -> Result<Work, Error> {
    Work::new(REPLAY, format!("{webhook}/{once}")).with(&Range { webhook, after, to })
}

/// Where a lane is.
#[derive(Clone, Copy, Debug, FromRow)]
struct Place {
    number: i64,
    failing_since: Option<Instant>,
}

impl Webhooks {
    /// How patient the queue of lanes is. A lane is never parked: the webhook is switched off instead.
    pub(crate) const fn patience() -> Patience {
        Patience {
            first: Duration::from_secs(5),
            longest: Duration::from_secs(900),
            most: Duration::from_hours(24 * 365 * 100),
        }
    }

    /// Sends what a lane has to send.
    pub(crate) async fn deliver(&self, ctx: &Ctx, job: &Job) -> Result<Outcome, Error> {
        let Lane { webhook, lane } = job.read()?;
        let Some((sender, place)) = self.sender(ctx, webhook, Some(lane)).await? else {
            return Ok(Outcome::Done);
        };
        let Some(mut place) = place else { return Ok(Outcome::Done) };
        let begun = self.clock.now();
        loop {
            let lines = match self.feed.lines(&sender.ctx, place.number, PIECE).await {
                Err(Error::Rule { message, .. }) => {
                    self.switch_off(ctx, webhook, &format!("its place in the log is lost: {message}"))
                        .await?;
                    return Ok(Outcome::Done);
                }
                lines => lines?,
            };
            let Some(last) = lines.last().map(|line| line.tenant_number) else { return Ok(Outcome::Done) };
            let seen = self.feed.seen(&sender.ctx, &lines).await?;
            for line in lines.iter().filter(|line| line.part % LANES == lane) {
                let Some(event) = self.feed.event(&sender.ctx, line, &seen, &sender.wanted)? else {
                    continue;
                };
                match self.send(&sender, line, &event).await? {
                    Sent::Arrived(detail) => {
                        self.arrived(ctx, &sender, lane, line, &event, detail).await?;
                        place = Place { number: line.tenant_number, failing_since: None };
                    }
                    not => return self.failed(ctx, &sender, lane, place, (line, &event), not).await,
                }
                if self.clock.now() > begun.plus(TURN) {
                    return Ok(Outcome::Later(begun));
                }
            }
            place.number = last;
            self.pass(ctx, webhook, lane, last).await?;
        }
    }

    /// Sends a range again.
    pub(crate) async fn replay(&self, ctx: &Ctx, job: &Job) -> Result<Outcome, Error> {
        let Range { webhook, after, to } = job.read()?;
        let Some((sender, _)) = self.sender(ctx, webhook, None).await? else { return Ok(Outcome::Done) };
        let mut at = after;
        let lines = match self.feed.lines(&sender.ctx, after, PIECE).await {
            Err(Error::Rule { message, .. }) => return Ok(Outcome::Park(message)),
            lines => lines?,
        };
        let seen = self.feed.seen(&sender.ctx, &lines).await?;
        let mut failed = None;
        for line in lines.iter().filter(|line| line.tenant_number <= to) {
            if let Some(event) = self.feed.event(&sender.ctx, line, &seen, &sender.wanted)? {
                let sent = self.send(&sender, line, &event).await?;
                let mut tx = self.feed.db.begin(ctx).await?;
                note(&sender, line, &event, "replay", &sent).write(&mut tx).await?;
                tx.finish().await?;
                if let Sent::Not { problem, .. } = sent {
                    failed = Some(problem);
                    break;
                }
            }
            at = line.tenant_number;
        }
        if let Some(problem) = failed.clone().filter(|_| at == after) {
            return Ok(Outcome::Failed(problem));
        }
        if lines.is_empty() || at >= to {
            return Ok(Outcome::Done);
        }
        // The rest is other work, so that what arrived is not sent again.
        let mut tx = self.feed.db.begin(ctx).await?;
        job.finish(&mut tx).await?;
        let rest = Work::new(REPLAY, job.key.clone()).with(&Range { webhook, after: at, to })?;
        let pause = if failed.is_some() { Self::patience().first } else { Duration::ZERO };
        rest.at(&mut tx, self.clock.now().plus(pause)).await?;
        tx.finish().await?;
        Ok(Outcome::Done)
    }

    /// What it takes to send, unless the webhook is gone or off.
    async fn sender(
        &self,
        ctx: &Ctx,
        webhook: Uuid,
        lane: Option<i16>,
    ) -> Result<Option<(Sender, Option<Place>)>, Error> {
        let mut tx = self.feed.db.begin(ctx).await?;
        let webhook = match tx.get::<Webhook>(webhook).await {
            Err(Error::NotFound { .. }) => return Ok(None),
            webhook => webhook?,
        };
        if webhook.state != "on" {
            return Ok(None);
        }
        let (tenant, id) = (tx.tenant(), webhook.id);
        let place = sqlx::query_as(
            "SELECT number, failing_since FROM webhook_lanes WHERE tenant_id = $1 AND webhook_id = $2 AND lane = $3",
        )
        .bind(tenant)
        .bind(id)
        .bind(lane)
        .fetch_optional(tx.conn().await?)
        .await
        .map_err(database)?;
        let run_as: Option<Json<RunAs>> =
            sqlx::query_scalar("SELECT run_as FROM webhooks WHERE tenant_id = $1 AND id = $2")
                .bind(tenant)
                .bind(id)
                .fetch_one(tx.conn().await?)
                .await
                .map_err(database)?;
        let secrets = webhook.secrets(&mut tx).await?;
        tx.finish().await?;
        let Some(Json(run_as)) = run_as else { return Ok(None) };
        // The tenant's state is that of now, not of when the webhook was made.
        let run_as = Ctx { tenant_state: ctx.tenant_state, ..run_as.ctx(self.clock.clone(), Via::System)? };
        let wanted = match self.feed.wanted(&run_as, &webhook.subjects, &webhook.filter).await {
            // A custom field that it names is gone: what it was to send cannot be known any more.
            Err(error @ Error::Invalid(_)) => {
                self.switch_off(ctx, id, &format!("what it sends cannot be chosen any more: {error}"))
                    .await?;
                return Ok(None);
            }
            wanted => wanted?,
        };
        Ok(Some((Sender { wanted, ctx: run_as, secrets, webhook }, place)))
    }

    /// Notes that an event arrived, and moves the lane's place on.
    async fn arrived(
        &self,
        ctx: &Ctx,
        sender: &Sender,
        lane: i16,
        line: &Line,
        event: &pb::Event,
        detail: Map<String, Value>,
    ) -> Result<(), Error> {
        let mut tx = self.feed.db.begin(ctx).await?;
        note(sender, line, event, "", &Sent::Arrived(detail)).write(&mut tx).await?;
        let (tenant, now) = (tx.tenant(), tx.now());
        sqlx::query(
            "UPDATE webhook_lanes SET number = $4, failing_since = NULL, success_time = $5
             WHERE tenant_id = $1 AND webhook_id = $2 AND lane = $3 AND number < $4",
        )
        .bind(tenant)
        .bind(sender.webhook.id)
        .bind(lane)
        .bind(line.tenant_number)
        .bind(now)
        .execute(tx.conn().await?)
        .await
        .map_err(database)?;
        tx.finish().await
    }

    /// Moves the lane's place over what it has not to send.
    async fn pass(&self, ctx: &Ctx, webhook: Uuid, lane: i16, number: i64) -> Result<(), Error> {
        let mut tx = self.feed.db.begin(ctx).await?;
        place(&mut tx, webhook, lane, number).await?;
        tx.finish().await
    }

    /// Notes that an event did not arrive; decides how to go on.
    async fn failed(
        &self,
        ctx: &Ctx,
        sender: &Sender,
        lane: i16,
        at: Place,
        (line, event): (&Line, &pb::Event),
        sent: Sent,
    ) -> Result<Outcome, Error> {
        let Sent::Not { problem, gone, .. } = &sent else { return Ok(Outcome::Done) };
        let mut tx = self.feed.db.begin(ctx).await?;
        note(sender, line, event, "", &sent).write(&mut tx).await?;
        let now = self.clock.now();
        let since = at.failing_since.unwrap_or(now);
        let (tenant, id) = (tx.tenant(), sender.webhook.id);
        let last: Option<Instant> = sqlx::query_scalar(
            "UPDATE webhook_lanes SET failing_since = $4 WHERE tenant_id = $1 AND webhook_id = $2 AND lane = $3
             RETURNING (SELECT max(success_time) FROM webhook_lanes WHERE tenant_id = $1 AND webhook_id = $2)",
        )
        .bind(tenant)
        .bind(id)
        .bind(lane)
        .bind(since)
        .fetch_optional(tx.conn().await?)
        .await
        .map_err(database)?
        .flatten();
        let over = now >= since.plus(GIVE_UP);
        let outcome = if *gone {
            Webhook::switch_off(&mut tx, id, "the receiver answered 410 Gone").await?;
            Outcome::Done
        } else if over && last.is_none_or(|last| last < since) {
            let reason = format!("nothing arrived for 24 hours; at last {problem}");
            Webhook::switch_off(&mut tx, id, &reason).await?;
            Outcome::Done
        } else if over {
            // Others arrive: it is this event that does not.
            place(&mut tx, id, lane, line.tenant_number).await?;
            Outcome::Later(now)
        } else {
            Outcome::Failed(problem.clone())
        };
        tx.finish().await?;
        Ok(outcome)
    }

    async fn switch_off(&self, ctx: &Ctx, webhook: Uuid, reason: &str) -> Result<(), Error> {
        let mut tx = self.feed.db.begin(ctx).await?;
        Webhook::switch_off(&mut tx, webhook, reason).await?;
        tx.finish().await
    }
}

async fn place(tx: &mut TenantTx, webhook: Uuid, lane: i16, number: i64) -> Result<(), Error> {
    let tenant = tx.tenant();
    sqlx::query(
        "UPDATE webhook_lanes SET number = $4, failing_since = NULL
         WHERE tenant_id = $1 AND webhook_id = $2 AND lane = $3 AND number < $4",
    )
    .bind(tenant)
    .bind(webhook)
    .bind(lane)
    .bind(number)
    .execute(tx.conn().await?)
    .await
    .map(drop)
    .map_err(database)
}
