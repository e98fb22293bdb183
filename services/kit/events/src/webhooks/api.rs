//! The gRPC face of webhooks.
use rapport_egress::Door;
use rapport_kernel::{Ctx, Error, Id};
use rapport_proto::events::v1::{self as pb, webhook_service_server::WebhookService};
use rapport_store::{Etag, ListParams, RunAs, TenantTx, database, mask};
use sqlx::types::Json;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{LANES, Webhook, Webhooks, deliver, sign};
use crate::log;

/// Webhooks of a tenant at one service.
const MOST: i64 = 50;
/// Hours for which a secret still signs after the next one was made.
const OVERLAP: i32 = 24;

#[tonic::async_trait]
impl WebhookService for Webhooks {
    async fn list_webhooks(
        &self,
        request: Request<pb::ListWebhooksRequest>,
    ) -> Result<Response<pb::ListWebhooksResponse>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let mut tx = self.feed.db.begin(&ctx).await?;
        let page = tx
            .list::<Webhook>(&ListParams {
                filter: &r.filter,
                order_by: &r.order_by,
                page_size: r.page_size,
                page_token: &r.page_token,
                show_deleted: false,
            })
            .await?;
        let webhooks = page.items.into_iter().map(Into::into).collect();
        Ok(tx.commit(pb::ListWebhooksResponse { webhooks, next_page_token: page.next_page_token }).await?)
    }

    async fn get_webhook(
        &self,
        request: Request<pb::GetWebhookRequest>,
    ) -> Result<Response<pb::Webhook>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let mut tx = self.feed.db.begin(&ctx).await?;
        let webhook = tx.get::<Webhook>(id("id", &r.id)?).await?;
        Ok(tx.commit(webhook.into()).await?)
    }

    async fn create_webhook(
        &self,
        request: Request<pb::CreateWebhookRequest>,
    ) -> Result<Response<pb::CreateWebhookResponse>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let given = r.webhook.unwrap_or_default();
        self.check(&given.url).await?;
        self.check_wanted(&ctx, &given).await?;
        let last = self.last(&ctx).await?;
        let start_after = given.start_after.unwrap_or(last);
        if start_after > last {
            let problem = format!("is {start_after}, but the last number so far is {last}");
            return Err(Error::invalid("webhook.start_after", problem).into());
        }
        let mut tx = self.feed.db.begin(&ctx).await?;
        check_room(&mut tx).await?;
        let now = tx.now();
        let webhook = Webhook {
            id: match given.id.as_str() {
                "" => ctx.clock.new_uuid(),
                text => id("webhook.id", text)?,
            },
            version: 1,
            display_name: given.display_name.clone(),
            url: given.url.clone(),
            subjects: given.subjects.clone(),
            filter: given.filter.clone(),
            state: state(&given).to_owned(),
            off_reason: String::new(),
            start_after,
            create_time: now,
            update_time: now,
        };
        tx.insert(&webhook)?;
        tx.emit(&webhook, &pb::WebhookCreated { webhook: Some(webhook.clone().into()) })?;
        let secret = add_secret(&mut tx, webhook.id).await?;
        keep_rights(&mut tx, webhook.id).await?;
        let tenant = tx.tenant();
        sqlx::query(
            "INSERT INTO webhook_lanes (tenant_id, webhook_id, lane, number) SELECT $1, $2, generate_series(0, $3), $4",
        )
        .bind(tenant)
        .bind(webhook.id)
        .bind(i32::from(LANES) - 1)
        .bind(start_after)
        .execute(tx.conn().await?)
        .await
        .map_err(database)?;
        webhook.rouse(&mut tx).await?;
        Ok(tx.commit(pb::CreateWebhookResponse { webhook: Some(webhook.into()), secret }).await?)
    }

    async fn update_webhook(
        &self,
        request: Request<pb::UpdateWebhookRequest>,
    ) -> Result<Response<pb::Webhook>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let given = r.webhook.unwrap_or_default();
        let paths =
            mask::paths(&ctx, <Webhook as rapport_store::Resource>::KIND, &given, r.update_mask.as_ref())?;
        if paths.iter().any(|path| path == "url") {
            self.check(&given.url).await?;
        }
        self.check_wanted(&ctx, &given).await?;
        let mut tx = self.feed.db.begin(&ctx).await?;
        let before = tx.get_for_update::<Webhook>(id("webhook.id", &given.id)?).await?;
        Etag::parse("webhook.etag", &given.etag)?.matches(&before)?;
        let mut after = before.clone();
        for path in &paths {
            match path.as_str() {
                "display_name" => after.display_name.clone_from(&given.display_name),
                "url" => after.url.clone_from(&given.url),
                "subjects" => after.subjects.clone_from(&given.subjects),
                "filter" => after.filter.clone_from(&given.filter),
                "state" => after.state = state(&given).to_owned(),
                other => {
                    return Err(Error::invalid("update_mask", format!("`{other}` cannot be changed")).into());
                }
            }
        }
        if after.state == "on" {
            after.off_reason.clear();
        }
        if after == before {
            return Ok(tx.commit(before.into()).await?);
        }
        let after = before.save(&mut tx, after)?;
        keep_rights(&mut tx, after.id).await?;
        if after.state == "on" {
            after.rouse(&mut tx).await?;
        }
        Ok(tx.commit(after.into()).await?)
    }

    async fn delete_webhook(
        &self,
        request: Request<pb::DeleteWebhookRequest>,
    ) -> Result<Response<pb::Webhook>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let mut tx = self.feed.db.begin(&ctx).await?;
        let webhook = tx.get_for_update::<Webhook>(id("id", &r.id)?).await?;
        Etag::parse("etag", &r.etag)?.matches(&webhook)?;
        let tenant = tx.tenant();
        for sql in [
            "DELETE FROM webhook_secrets WHERE tenant_id = $1 AND webhook_id = $2",
            "DELETE FROM webhook_lanes WHERE tenant_id = $1 AND webhook_id = $2",
            "DELETE FROM webhooks WHERE tenant_id = $1 AND id = $2",
        ] {
            sqlx::query(sql)
                .bind(tenant)
                .bind(webhook.id)
                .execute(tx.conn().await?)
                .await
                .map_err(database)?;
        }
        let gone = Webhook { version: webhook.version + 1, ..webhook };
        tx.emit(&gone, &pb::WebhookDeleted { webhook: Some(gone.clone().into()) })?;
        Ok(tx.commit(gone.into()).await?)
    }

    async fn rotate_webhook_secret(
        &self,
        request: Request<pb::RotateWebhookSecretRequest>,
    ) -> Result<Response<pb::RotateWebhookSecretResponse>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let mut tx = self.feed.db.begin(&ctx).await?;
        let before = tx.get_for_update::<Webhook>(id("id", &r.id)?).await?;
        let (tenant, now) = (tx.tenant(), tx.now());
        let until = now.plus_seconds(i64::from(r.overlap_hours.unwrap_or(OVERLAP)) * 3_600);
        sqlx::query(
            "DELETE FROM webhook_secrets WHERE tenant_id = $1 AND webhook_id = $2 AND expire_time <= $3",
        )
        .bind(tenant)
        .bind(before.id)
        .bind(now)
        .execute(tx.conn().await?)
        .await
        .map_err(database)?;
        sqlx::query(
            "UPDATE webhook_secrets SET expire_time = $3 WHERE tenant_id = $1 AND webhook_id = $2
               AND (expire_time IS NULL OR expire_time > $3)",
        )
        .bind(tenant)
        .bind(before.id)
        .bind(until)
        .execute(tx.conn().await?)
        .await
        .map_err(database)?;
        let secret = add_secret(&mut tx, before.id).await?;
        let webhook = before.save(&mut tx, before.clone())?;
        Ok(tx.commit(pb::RotateWebhookSecretResponse { webhook: Some(webhook.into()), secret }).await?)
    }

    async fn replay_webhook(
        &self,
        request: Request<pb::ReplayWebhookRequest>,
    ) -> Result<Response<pb::Webhook>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let last = self.last(&ctx).await?;
        let to = if r.last_number == 0 { last } else { r.last_number };
        if to > last || r.first_after >= to {
            let problem = format!("must be above `first_after`, and the last number so far is {last}");
            return Err(Error::invalid("last_number", problem).into());
        }
        // What is not kept any more is said at once.
        self.feed.lines(&ctx, r.first_after, 1).await?;
        let mut tx = self.feed.db.begin(&ctx).await?;
        let before = tx.get_for_update::<Webhook>(id("id", &r.id)?).await?;
        if before.state != "on" {
            return Err(Error::rule(
                "WEBHOOK_OFF",
                "a webhook that is off sends nothing; switch it on first",
            )
            .into());
        }
        deliver::range_work(before.id, r.first_after, to, ctx.clock.new_uuid())?.enqueue(&mut tx).await?;
        let webhook = before.save(&mut tx, before.clone())?;
        Ok(tx.commit(webhook.into()).await?)
    }
}

impl Webhooks {
    /// Whether events may be sent there. Nothing is sent for that.
    async fn check(&self, url: &str) -> Result<(), Error> {
        let off = || Error::rule("EGRESS_OFF", "webhooks are switched off in this installation");
        let door: &Door = self.door.as_ref().ok_or_else(off)?;
        match door.resolve_check(url).await {
            // It may get its address later.
            Err(refusal) if refusal.rule().name() != "EGRESS_UNRESOLVED" => Err(refusal.into()),
            _ => Ok(()),
        }
    }

    /// Whether what it is to send can be.
    async fn check_wanted(&self, ctx: &Ctx, given: &pb::Webhook) -> Result<(), Error> {
        let wanted = self.feed.wanted(ctx, &given.subjects, &given.filter).await;
        wanted.map(drop).map_err(|error| error.within("webhook"))
    }

    /// The tenant's last number so far.
    async fn last(&self, ctx: &Ctx) -> Result<i64, Error> {
        let mut platform = self.feed.db.platform().await?;
        let last = log::ends_of_tenant(platform.conn()?, ctx.tenant.uuid()).await?.last;
        platform.commit().await?;
        Ok(last)
    }
}

fn id(field: &str, text: &str) -> Result<Uuid, Error> {
    Ok(Id::<Webhook>::parse(field, text)?.uuid())
}

fn state(given: &pb::Webhook) -> &'static str {
    if given.state() == pb::WebhookState::Off { "off" } else { "on" }
}

async fn check_room(tx: &mut TenantTx) -> Result<(), Error> {
    let tenant = tx.tenant();
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM webhooks WHERE tenant_id = $1")
        .bind(tenant)
        .fetch_one(tx.conn().await?)
        .await
        .map_err(database)?;
    if count >= MOST {
        return Err(Error::rule(
            "TOO_MANY_WEBHOOKS",
            format!("there are {MOST} webhooks, which is the most"),
        ));
    }
    Ok(())
}

/// Adds a secret; says it as it is shown once.
async fn add_secret(tx: &mut TenantTx, webhook: Uuid) -> Result<String, Error> {
    let (tenant, id, secret) = (tx.tenant(), tx.ctx().clock.new_uuid(), sign::new_secret());
    sqlx::query("INSERT INTO webhook_secrets (tenant_id, webhook_id, id, secret) VALUES ($1, $2, $3, $4)")
        .bind(tenant)
        .bind(webhook)
        .bind(id)
        .bind(secret.as_slice())
        .execute(tx.conn().await?)
        .await
        .map_err(database)?;
    Ok(sign::shown(&secret))
}

/// Keeps the rights of the transaction's caller with a webhook: it sends what they may see.
async fn keep_rights(tx: &mut TenantTx, webhook: Uuid) -> Result<(), Error> {
    let run_as = Json(RunAs::of(tx.ctx())?);
    let tenant = tx.tenant();
    sqlx::query("UPDATE webhooks SET run_as = $3 WHERE tenant_id = $1 AND id = $2")
        .bind(tenant)
        .bind(webhook)
        .bind(run_as)
        .execute(tx.conn().await?)
        .await
        .map(drop)
        .map_err(database)
}
