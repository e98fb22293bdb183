//! Trying again what is parked: the event and those behind it, in their order, each with what it changes, in one transaction.
use std::{collections::BTreeMap, slice, sync::Arc, time::Duration};

use prost::Message as _;
use rapport_kernel::{Clock, Ctx, Error};
use rapport_proto::events::v1::LogLine;
use rapport_store::{Db, Reaction, TenantTx, database, is_out_of_reach};
use serde_json::Value;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::ParkedItem;
use crate::{
    api::from_proto,
    log::Line,
    queue::{Job, Outcome, Patience, Work},
    reactions::{Handler, Reactions, Verdict, ctx},
};

/// The queue of events that are tried again by themselves.
pub(crate) const RETRY: &str = "parked-event";
/// What failed is tried again after a minute, and then ever later, for a day.
const PATIENCE: Patience = Patience {
    first: Duration::from_secs(60),
    longest: Duration::from_secs(3_600),
    most: Duration::from_hours(24),
};

/// Events that wait for each other, at most in one transaction.
const MOST: i64 = 1_000;

/// Tries again what is parked in a service.
#[derive(Clone, Debug)]
pub(crate) struct Replays {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    /// What it does with whose events.
    pub(crate) reactions: Arc<BTreeMap<String, Reactions>>,
}

impl Replays {
    /// How patient the queue of retries is.
    pub(crate) const fn patience() -> Patience {
        PATIENCE
    }

    /// Tries an event again by itself; it stays parked for people when that does not help for a day.
    pub(crate) async fn retry(&self, ctx: &Ctx, job: &Job) -> Result<Outcome, Error> {
        let item = match self.replay(ctx, job.read()?).await {
            // It was erased with its tenant, or waits behind another one by now.
            Err(Error::NotFound { .. } | Error::Rule { .. }) => return Ok(Outcome::Done),
            item => item?,
        };
        let over = self.clock.now() >= job.ready_time.plus(PATIENCE.most);
        Ok(if item.state == "parked" && !over { Outcome::Failed(item.problem) } else { Outcome::Done })
    }

    /// Tries an item again; says what came of it.
    ///
    /// # Errors
    /// A rule when an earlier event has to be dealt with first, or there is no such handler any more.
    pub(crate) async fn replay(&self, ctx: &Ctx, id: Uuid) -> Result<ParkedItem, Error> {
        let mut tx = self.db.begin(ctx).await?;
        let item = tx.get::<ParkedItem>(id).await?;
        if !item.waits() {
            tx.finish().await?;
            return Ok(item);
        }
        if item.kind == "work" {
            return queue_again(tx, &item).await;
        }
        tx.finish().await?;
        self.handler(&item)?;
        let mut reaction = self.db.begin_reaction().await?;
        let waiting = self.lock(&mut reaction, ctx, &item).await?;
        match waiting.first() {
            // Somebody else has just dealt with it.
            None => {}
            Some(first) if first.id != id => return Err(behind(first)),
            Some(_) => self.try_all(&mut reaction, ctx, &waiting).await?,
        }
        reaction.commit().await?;
        self.read(ctx, id).await
    }

    /// Drops an item; what waits behind it is tried.
    ///
    /// # Errors
    /// As `replay`.
    pub(crate) async fn discard(&self, ctx: &Ctx, id: Uuid) -> Result<ParkedItem, Error> {
        let item = self.read(ctx, id).await?;
        if !item.waits() {
            return Ok(item);
        }
        let mut reaction = self.db.begin_reaction().await?;
        let waiting = self.lock(&mut reaction, ctx, &item).await?;
        let Some(at) = waiting.iter().position(|other| other.id == id) else {
            return self.read(ctx, id).await;
        };
        let mut tx = reaction.enter(ctx.clone()).await?;
        let dropped = item_of(&waiting, at)?.change(&mut tx, |item| item.state = "discarded".into())?;
        reaction.leave(tx).await?;
        if at == 0 {
            self.try_all(&mut reaction, ctx, waiting.get(1..).unwrap_or_default()).await?;
        }
        reaction.commit().await?;
        Ok(dropped)
    }

    async fn read(&self, ctx: &Ctx, id: Uuid) -> Result<ParkedItem, Error> {
        let mut tx = self.db.begin(ctx).await?;
        let item = tx.get::<ParkedItem>(id).await?;
        tx.finish().await?;
        Ok(item)
    }

    /// Under one name a handler does another thing for each type of events.
    fn handler(&self, item: &ParkedItem) -> Result<&Handler, Error> {
        let of_type = self.reactions.get(&item.producer).map_or(&[][..], |of| of.of(&item.r#type));
        of_type.iter().find(|handler| handler.name == item.handler).ok_or_else(|| {
            let message = format!(
                "there is no handler `{}` any more; what it was to do can only be discarded",
                item.handler
            );
            Error::rule("HANDLER_GONE", message)
        })
    }

    /// What waits with this item, in order, while nobody adds to it.
    async fn lock(
        &self,
        reaction: &mut Reaction,
        ctx: &Ctx,
        item: &ParkedItem,
    ) -> Result<Vec<ParkedItem>, Error> {
        sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1::text, 4))")
            .bind(item.record_id)
            .execute(reaction.conn()?)
            .await
            .map_err(database)?;
        let mut tx = reaction.enter(ctx.clone()).await?;
        let waiting = sqlx::query_as(AssertSqlSafe(format!(
            "SELECT {} FROM parked_items WHERE tenant_id = $1 AND kind = $2 AND record_id = $3 AND producer = $4 AND handler = $5
               AND state IN ('parked', 'behind') AND ($2 = 'event' OR id = $6) ORDER BY part_number LIMIT $7",
            <ParkedItem as rapport_store::Resource>::COLUMNS
        )))
        .bind(tx.tenant())
        .bind(&item.kind)
        .bind(item.record_id)
        .bind(&item.producer)
        .bind(&item.handler)
        .bind(item.id)
        .bind(MOST)
        .fetch_all(tx.conn().await?)
        .await
        .map_err(database)?;
        reaction.leave(tx).await?;
        Ok(waiting)
    }

    /// Works off what waits, until something fails again.
    async fn try_all(
        &self,
        reaction: &mut Reaction,
        caller: &Ctx,
        waiting: &[ParkedItem],
    ) -> Result<(), Error> {
        for item in waiting {
            let line = Arc::new(from_proto(LogLine::decode(item.line.as_slice()).map_err(Error::internal)?)?);
            let failed = match self.handler(item) {
                Ok(handler) => self.try_one(reaction, handler, &line).await?,
                Err(gone) => Some((gone.reason(), gone.to_string())),
            };
            let mut tx = reaction.enter(caller.clone()).await?;
            item.change(&mut tx, |item| {
                item.attempts += 1;
                match &failed {
                    None => {
                        item.state = "done".into();
                        (item.reason, item.problem) = (String::new(), String::new());
                    }
                    Some((reason, problem)) => {
                        item.state = "parked".into();
                        (item.reason, item.problem) = ((*reason).to_owned(), problem.clone());
                    }
                }
            })?;
            reaction.leave(tx).await?;
            if failed.is_some() {
                break;
            }
        }
        Ok(())
    }

    /// Works an event off; says why that did not go.
    async fn try_one(
        &self,
        reaction: &mut Reaction,
        handler: &Handler,
        line: &Arc<Line>,
    ) -> Result<Option<(&'static str, String)>, Error> {
        reaction.mark().await?;
        let mut tx = reaction.enter(ctx(line, &self.clock)).await?;
        let handled = match handler.handle(&mut tx, slice::from_ref(line)).await {
            Ok(Verdict::Done) => reaction.leave(tx).await.map(|()| Verdict::Done),
            other => {
                reaction.give_up(tx);
                other
            }
        };
        let failed = match handled {
            Ok(Verdict::Done) => return Ok(None),
            Err(error) if is_out_of_reach(&error) => return Err(error),
            Ok(Verdict::Park(problem)) => ("PARKED", problem),
            Err(error) => (error.reason(), error.to_string()),
        };
        reaction.go_back().await?;
        Ok(Some(failed))
    }
}

/// Queues work again, under the id that it had.
async fn queue_again(mut tx: TenantTx, item: &ParkedItem) -> Result<ParkedItem, Error> {
    let item = tx.get_for_update::<ParkedItem>(item.id).await?;
    if !item.waits() {
        tx.finish().await?;
        return Ok(item);
    }
    let payload: Value = serde_json::from_slice(&item.line).map_err(Error::internal)?;
    let now = tx.now();
    sqlx::query("SELECT rapport.enqueue($1, $2, $3, $4, $5, $6, $7, $8, false)")
        .bind(&item.handler)
        .bind(&item.r#type)
        .bind(item.id)
        .bind(Some(item.event_id).filter(|event| *event != item.id))
        .bind(&item.resource)
        .bind(Some(item.record_id).filter(|record| !record.is_nil()))
        .bind(&payload)
        .bind(now)
        .execute(tx.conn().await?)
        .await
        .map_err(database)?;
    let after = item.change(&mut tx, |item| item.state = "replayed".into())?;
    tx.finish().await?;
    Ok(after)
}

/// Has an event that failed tried again later.
pub(crate) async fn try_later(tx: &mut TenantTx, item: Uuid) -> Result<(), Error> {
    let due = tx.now().plus(PATIENCE.first);
    Work::new(RETRY, item.to_string()).with(&item)?.at(tx, due).await
}

fn item_of(items: &[ParkedItem], at: usize) -> Result<&ParkedItem, Error> {
    items.get(at).ok_or_else(|| Error::internal("an item that was found is gone"))
}

fn behind(first: &ParkedItem) -> Error {
    Error::rule(
        "PARKED_BEHIND",
        format!("an earlier event of this record is parked: deal with `{}` first", first.id),
    )
}
