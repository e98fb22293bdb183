//! Webhooks: a tenant's events sent to an address of the tenant's, as [Standard Webhooks](https://www.standardwebhooks.com)
//! has it.
//!
//! A webhook is a reader of the tenant's log, as everyone else is: it has a place in it, and its place moves on when an event
//! has arrived. So nothing is left out, whatever dies, and what arrives twice after a crash has the same id. It has eight places,
//! in fact, one for each of its lanes: the events of a record are in one lane and arrive in order, and a receiver that is slow, or
//! refuses one event, holds up an eighth at most. What does not arrive is tried again for a day; when nothing at all arrives for
//! a day, the webhook is switched off and says so, and keeps its place.
mod api;
mod deliver;
mod rouse;
mod send;
mod sign;

use rapport_egress::Door;
use rapport_filter::{Field, Kind};
use rapport_kernel::{Clock, Error, Instant};
use rapport_proto::events::v1 as pb;
use rapport_store::{Resource, TenantTx, database, diff, resource::column, time::to_proto};
use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

pub(crate) use deliver::{DELIVER, REPLAY};
pub(crate) use rouse::Rouse;

use crate::Feed;

/// Lanes of a webhook.
pub(crate) const LANES: i16 = 8;

/// A webhook.
#[derive(Clone, Debug, PartialEq, Serialize, FromRow)]
pub struct Webhook {
    pub(crate) id: Uuid,
    pub(crate) version: i64,
    pub(crate) display_name: String,
    pub(crate) url: String,
    pub(crate) subjects: Vec<String>,
    pub(crate) filter: String,
    /// `on` or `off`.
    pub(crate) state: String,
    pub(crate) off_reason: String,
    pub(crate) start_after: i64,
    pub(crate) create_time: Instant,
    pub(crate) update_time: Instant,
}

impl Resource for Webhook {
    const NAME: &'static str = "webhook";
    const KIND: &'static str = "events.webhook";
    const TABLE: &'static str = "webhooks";
    const COLUMNS: &'static str = "id, version, display_name, url, subjects, filter, state, off_reason, start_after, create_time, \
                                   update_time";
    const READ: &'static str = "events.webhooks.manage";

    fn fields() -> Vec<Field> {
        vec![
            column("id", Kind::Id).sortable(),
            column("display_name", Kind::Text).sortable(),
            column("url", Kind::Text),
            column("state", Kind::choice(["on", "off"])),
            column("create_time", Kind::Instant).sortable(),
        ]
    }
    fn id(&self) -> Uuid {
        self.id
    }
    fn version(&self) -> i64 {
        self.version
    }
}

impl Webhook {
    /// What names it in the ledger.
    pub(crate) fn trigger(&self) -> String {
        format!("webhook/{}", self.id)
    }

    /// Collects a change of it, and tells so.
    pub(crate) fn save(&self, tx: &mut TenantTx, after: Self) -> Result<Self, Error> {
        let after = Self { version: self.version + 1, update_time: tx.now(), ..after };
        tx.update(self, &after)?;
        let (before, now) = (pb::Webhook::from(self.clone()), pb::Webhook::from(after.clone()));
        let changed = diff(&before, &now);
        let event = pb::WebhookUpdated {
            webhook: Some(now),
            before: Some(changed.before),
            changed_paths: changed.paths.clone(),
        };
        tx.emit_changed(&after, &event, &changed.paths)?;
        Ok(after)
    }

    /// Switches it off and says why.
    pub(crate) async fn switch_off(tx: &mut TenantTx, id: Uuid, reason: &str) -> Result<(), Error> {
        let before = tx.get_for_update::<Self>(id).await?;
        if before.state == "on" {
            tracing::warn!(webhook.id = %id, tenant.id = %tx.tenant(), reason, "a webhook is switched off");
            before.save(tx, Self { state: "off".into(), off_reason: reason.to_owned(), ..before.clone() })?;
        }
        Ok(())
    }

    /// Has all its lanes look for what they have to send.
    pub(crate) async fn rouse(&self, tx: &mut TenantTx) -> Result<(), Error> {
        for lane in 0..LANES {
            deliver::lane_work(self.id, lane)?.enqueue(tx).await?;
        }
        Ok(())
    }

    /// The secrets that its messages are signed with, the newest first.
    pub(crate) async fn secrets(&self, tx: &mut TenantTx) -> Result<Vec<Vec<u8>>, Error> {
        let (tenant, now) = (tx.tenant(), tx.now());
        sqlx::query_scalar(
            "SELECT secret FROM webhook_secrets WHERE tenant_id = $1 AND webhook_id = $2
               AND (expire_time IS NULL OR expire_time > $3) ORDER BY expire_time DESC NULLS FIRST, id DESC",
        )
        .bind(tenant)
        .bind(self.id)
        .bind(now)
        .fetch_all(tx.conn().await?)
        .await
        .map_err(database)
    }
}

impl From<Webhook> for pb::Webhook {
    fn from(webhook: Webhook) -> Self {
        let state = if webhook.state == "on" { pb::WebhookState::On } else { pb::WebhookState::Off };
        Self {
            id: webhook.id.to_string(),
            etag: webhook.version.to_string(),
            display_name: webhook.display_name,
            url: webhook.url,
            subjects: webhook.subjects,
            filter: webhook.filter,
            state: state.into(),
            off_reason: webhook.off_reason,
            start_after: Some(webhook.start_after),
            create_time: Some(to_proto(webhook.create_time)),
            update_time: Some(to_proto(webhook.update_time)),
        }
    }
}

/// The webhooks of a service.
#[derive(Clone)]
pub(crate) struct Webhooks {
    pub(crate) feed: Feed,
    pub(crate) clock: Clock,
    /// The way out; without one there are no webhooks here.
    pub(crate) door: Option<Door>,
}
