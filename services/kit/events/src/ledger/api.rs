//! The gRPC face of the ledger.
use rapport_kernel::{Ctx, Error, Id, NotARecordName, RecordName};
use rapport_proto::events::v1::{self as pb, ledger_service_server::LedgerService};
use rapport_store::{ListParams, Resource as _, TenantTx, database};
use sqlx::{AssertSqlSafe, FromRow, postgres::PgRow};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::LedgerEntry;
use crate::{Feed, ParkedItem, log};

/// Events of a record that are explained at a time.
const EVENTS: usize = 20;
/// How far causes are followed.
const CHAIN: usize = 20;

/// Serves the ledger.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    pub(crate) feed: Feed,
}

#[tonic::async_trait]
impl LedgerService for Ledger {
    async fn list_ledger_entries(
        &self,
        request: Request<pb::ListLedgerEntriesRequest>,
    ) -> Result<Response<pb::ListLedgerEntriesResponse>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let mut tx = self.feed.db.begin(&ctx).await?;
        let page = tx
            .list::<LedgerEntry>(&ListParams {
                filter: &r.filter,
                order_by: &r.order_by,
                page_size: r.page_size,
                page_token: &r.page_token,
                show_deleted: false,
            })
            .await?;
        tx.finish().await?;
        // Of records that the caller does not see nothing is said: a page may be shorter for that.
        let names: Vec<RecordName> =
            page.items.iter().filter_map(|entry| entry.record.parse().ok()).collect();
        let unseen = self.feed.unseen(&ctx, &names).await?;
        let seen = page
            .items
            .into_iter()
            .filter(|entry| entry.record.parse().map_or(true, |name| !unseen.contains(&name)));
        let ledger_entries = seen.map(Into::into).collect();
        Ok(Response::new(pb::ListLedgerEntriesResponse {
            ledger_entries,
            next_page_token: page.next_page_token,
        }))
    }

    async fn why(&self, request: Request<pb::WhyRequest>) -> Result<Response<pb::WhyResponse>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let events = match (r.event_id.as_str(), r.record.as_str()) {
            ("", "") => return Err(Error::invalid("event_id", "or `record` must be given").into()),
            (event, "") => vec![Id::<LedgerEntry>::parse("event_id", event)?.uuid()],
            (_, record) => self.events_of(&ctx, record).await?,
        };
        let mut explanations = Vec::new();
        for event in events {
            explanations.extend(self.explain(&ctx, event).await?);
        }
        if explanations.is_empty() {
            let (what, id) = if r.record.is_empty() { ("event", r.event_id) } else { ("record", r.record) };
            return Err(Error::not_found(what, id).into());
        }
        Ok(Response::new(pb::WhyResponse { explanations }))
    }
}

impl Ledger {
    /// The last events of a record: of this service, or those that something is known of here.
    async fn events_of(&self, ctx: &Ctx, record: &str) -> Result<Vec<Uuid>, Error> {
        let name: RecordName =
            record.parse().map_err(|error: NotARecordName| Error::invalid("record", error.to_string()))?;
        let resource = name.kind().split_once('.').map(|(_, resource)| resource).unwrap_or_default();
        let mut platform = self.feed.db.platform().await?;
        let which = (ctx.tenant.uuid(), resource, name.id());
        let lines = log::read_record(platform.conn()?, which, i64::MAX, EVENTS).await?;
        platform.commit().await?;
        if !lines.is_empty() {
            return Ok(lines.into_iter().map(|line| line.event_id).collect());
        }
        let mut tx = self.feed.db.begin(ctx).await?;
        let tenant = tx.tenant();
        let known = sqlx::query_scalar(
            "SELECT event_id FROM (SELECT DISTINCT event_id, event_time FROM ledger_entries WHERE tenant_id = $1 AND record = $2
             UNION SELECT event_id, event_time FROM parked_items WHERE tenant_id = $1 AND record_id = $3) AS e
             ORDER BY event_time DESC LIMIT $4",
        )
        .bind(tenant)
        .bind(record)
        .bind(name.id())
        .bind(EVENTS as i64)
        .fetch_all(tx.conn().await?)
        .await
        .map_err(database)?;
        tx.finish().await?;
        Ok(known)
    }

    /// Explains an event; nothing of one of this service that the caller may not hear of.
    async fn explain(&self, ctx: &Ctx, event: Uuid) -> Result<Option<pb::Explanation>, Error> {
        let tenant = ctx.tenant.uuid();
        let mut platform = self.feed.db.platform().await?;
        let line = log::find(platform.conn()?, tenant, event).await?;
        let mut causes = Vec::new();
        let mut next = line.as_ref().and_then(|line| line.cause);
        while let Some(cause) = next.filter(|_| causes.len() < CHAIN) {
            let Some(line) = log::find(platform.conn()?, tenant, cause).await? else { break };
            next = line.cause;
            causes.push(line);
        }
        let followed_by = log::followers(platform.conn()?, tenant, event, EVENTS).await?;
        platform.commit().await?;
        let is_ours = line.is_some();
        let seen = self.feed.events(ctx, line.into_iter().collect()).await?;
        if is_ours && seen.is_empty() {
            return Ok(None);
        }
        let mut tx = self.feed.db.begin(ctx).await?;
        let ledger_entries = of_event::<LedgerEntry>(&mut tx, event).await?;
        let parked_items = match ctx.grants.scope(ParkedItem::READ) {
            Some(_) => of_event::<ParkedItem>(&mut tx, event).await?,
            None => Vec::new(),
        };
        tx.finish().await?;
        if !is_ours && ledger_entries.is_empty() && parked_items.is_empty() && followed_by.is_empty() {
            return Ok(None);
        }
        Ok(Some(pb::Explanation {
            event_id: event.to_string(),
            event: seen.into_iter().next(),
            causes: self.feed.events(ctx, causes).await?,
            ledger_entries: ledger_entries.into_iter().map(Into::into).collect(),
            parked_items: parked_items.into_iter().map(Into::into).collect(),
            followed_by: self.feed.events(ctx, followed_by).await?,
        }))
    }
}

/// What is known of an event.
async fn of_event<R>(tx: &mut TenantTx, event: Uuid) -> Result<Vec<R>, Error>
where
    R: rapport_store::Resource + for<'r> FromRow<'r, PgRow>,
{
    let tenant = tx.tenant();
    sqlx::query_as(AssertSqlSafe(format!(
        "SELECT {} FROM {} WHERE tenant_id = $1 AND event_id = $2 ORDER BY create_time, id LIMIT 200",
        R::COLUMNS,
        R::TABLE
    )))
    .bind(tenant)
    .bind(event)
    .fetch_all(tx.conn().await?)
    .await
    .map_err(database)
}
