//! How events fare at a service: what waits where, and since when. Operators ask for it, and metrics tell it.
use std::{collections::BTreeSet, time::Duration};

use rapport_kernel::{Clock, Ctx, Error, Instant};
use rapport_proto::events::v1::{self as pb, status_service_server::StatusService};
use rapport_store::{Db, OpenTx, database, time::to_proto};
use tokio::time::sleep;
use tonic::{Request, Response, Status};
use uuid::Uuid;

/// How often metrics are told.
const EVERY: Duration = Duration::from_secs(10);
/// Tenants that are named.
const NAMED: i64 = 10;

/// Tells how events fare at a service.
#[derive(Clone, Debug)]
pub(crate) struct Observer {
    pub(crate) service: &'static str,
    pub(crate) db: Db,
    pub(crate) clock: Clock,
}

#[tonic::async_trait]
impl StatusService for Observer {
    async fn get_status(
        &self,
        request: Request<pb::GetStatusRequest>,
    ) -> Result<Response<pb::Status>, Status> {
        let (_, _) = Ctx::open(request)?;
        Ok(Response::new(self.look().await?))
    }
}

impl Observer {
    /// Looks.
    pub(crate) async fn look(&self) -> Result<pb::Status, Error> {
        let mut tx = self.db.platform().await?;
        let (outbox_events, outbox_since): (i64, Option<Instant>) = sqlx::query_as(
            "SELECT count(*), min(time) FROM (SELECT time FROM platform.outbox ORDER BY id LIMIT 100000) AS o",
        )
        .fetch_one(tx.conn()?)
        .await
        .map_err(database)?;
        let (log_number, published_number, set_aside, parked_items, webhooks_failing) = sqlx::query_as(
            "SELECT (SELECT number FROM platform.log_head), (SELECT number FROM platform.log_relay),
               (SELECT count(*) FROM platform.set_aside),
               (SELECT coalesce(sum(items), 0)::bigint FROM rapport.parked_by_tenant()), rapport.webhooks_failing()",
        )
        .fetch_one(tx.conn()?)
        .await
        .map_err(database)?;
        let leads: Vec<(String, i64)> =
            all(&mut tx, "SELECT name, epoch FROM platform.leads ORDER BY name").await?;
        let heard: Vec<(String, i64, i64)> = all(
            &mut tx,
            "SELECT producer, sum(number)::bigint, sum(left_out)::bigint FROM platform.watermarks GROUP BY 1 ORDER BY 1",
        )
        .await?;
        let copies: Vec<(String, String, i64, Instant, i64)> = all(
            &mut tx,
            "SELECT producer, name, records, compare_time, last_differences FROM platform.copies ORDER BY 1, 2",
        )
        .await?;
        let doubted: Vec<(Instant, String, String, String)> = all(
            &mut tx,
            "SELECT create_time, producer, subject, reason FROM platform.set_aside ORDER BY create_time DESC, id LIMIT 10",
        )
        .await?;
        let status = pb::Status {
            service: self.service.to_owned(),
            outbox_events,
            outbox_since: outbox_since.map(to_proto),
            log_number,
            published_number,
            leads: leads.into_iter().map(|(name, epoch)| pb::Lead { name, epoch }).collect(),
            heard: heard
                .into_iter()
                .map(|(producer, events, left_out)| pb::Heard { producer, events, left_out })
                .collect(),
            queues: queues(&mut tx).await?,
            parked_items,
            set_aside,
            webhooks_failing,
            tenants: tenants(&mut tx).await?,
            copies: copies
                .into_iter()
                .map(|(producer, name, records, compared, differences)| pb::CopyStatus {
                    producer,
                    name,
                    records,
                    compare_time: Some(to_proto(compared)),
                    differences,
                })
                .collect(),
            set_aside_messages: doubted
                .into_iter()
                .map(|(came, producer, subject, reason)| pb::SetAsideMessage {
                    create_time: Some(to_proto(came)),
                    producer,
                    subject,
                    reason,
                })
                .collect(),
        };
        tx.commit().await?;
        Ok(status)
    }

    /// Tells metrics, again and again.
    pub(crate) async fn tell(&self) -> Result<(), Error> {
        let mut named = BTreeSet::new();
        loop {
            self.gauge(&self.look().await?, &mut named);
            sleep(EVERY).await;
        }
    }

    fn gauge(&self, status: &pb::Status, named: &mut BTreeSet<String>) {
        let service = || self.service.to_owned();
        let age = |since: &Option<prost_types::Timestamp>| {
            since.as_ref().map_or(0, |since| (self.clock.now().as_seconds() - since.seconds).max(0)) as f64
        };
        for (name, value) in [
            ("rapport_outbox_events", status.outbox_events as f64),
            ("rapport_outbox_age_seconds", age(&status.outbox_since)),
            ("rapport_log_events", status.log_number as f64),
            ("rapport_log_unpublished_events", (status.log_number - status.published_number).max(0) as f64),
            ("rapport_parked_items", status.parked_items as f64),
            ("rapport_set_aside_messages", status.set_aside as f64),
            ("rapport_webhooks_failing", status.webhooks_failing as f64),
        ] {
            metrics::gauge!(name, "service" => service()).set(value);
        }
        for queue in &status.queues {
            let labels = [("service", service()), ("queue", queue.queue.clone())];
            metrics::gauge!("rapport_work_ready", &labels).set(queue.ready as f64);
            metrics::gauge!("rapport_work_later", &labels).set(queue.later as f64);
            metrics::gauge!("rapport_work_age_seconds", &labels).set(age(&queue.since));
        }
        for copy in &status.copies {
            let labels =
                [("service", service()), ("producer", copy.producer.clone()), ("copy", copy.name.clone())];
            metrics::gauge!("rapport_copy_records", &labels).set(copy.records as f64);
            metrics::gauge!("rapport_copy_differences", &labels).set(copy.differences as f64);
        }
        for heard in &status.heard {
            let labels = [("service", service()), ("producer", heard.producer.clone())];
            metrics::gauge!("rapport_left_out_events", &labels).set(heard.left_out as f64);
        }
        // Who is not among the first any more is told once more, with nothing.
        let gone = std::mem::take(named);
        for tenant in &status.tenants {
            self.of_tenant(&tenant.tenant, tenant.outbox_events, tenant.parked_items);
            named.insert(tenant.tenant.clone());
        }
        for tenant in gone.difference(named) {
            self.of_tenant(tenant, 0, 0);
        }
    }

    fn of_tenant(&self, tenant: &str, outbox: i64, parked: i64) {
        let labels = [("service", self.service.to_owned()), ("tenant", tenant.to_owned())];
        metrics::gauge!("rapport_tenant_outbox_events", &labels).set(outbox as f64);
        metrics::gauge!("rapport_tenant_parked_items", &labels).set(parked as f64);
    }
}

async fn queues(tx: &mut OpenTx) -> Result<Vec<pb::QueueStatus>, Error> {
    let rows: Vec<(String, i64, Option<Instant>, i64)> = all(
        tx,
        "SELECT queue, sum(ready)::bigint, min(since), sum(later)::bigint FROM (
           SELECT queue, count(*) AS ready, min(ready_time) AS since, 0 AS later
           FROM (SELECT queue, ready_time FROM platform.work LIMIT 100000) AS w GROUP BY 1
           UNION ALL
           SELECT queue, 0, NULL, count(*) FROM (SELECT queue FROM platform.timers LIMIT 100000) AS t GROUP BY 1) AS q
         GROUP BY 1 ORDER BY 1",
    )
    .await?;
    let queue = |(queue, ready, since, later): (String, i64, Option<Instant>, i64)| pb::QueueStatus {
        queue,
        ready,
        since: since.map(to_proto),
        later,
    };
    Ok(rows.into_iter().map(queue).collect())
}

async fn tenants(tx: &mut OpenTx) -> Result<Vec<pb::TenantStatus>, Error> {
    let rows: Vec<(Uuid, i64, i64)> = sqlx::query_as(
        "WITH waiting AS (
           SELECT tenant_id, count(*) AS events FROM (SELECT tenant_id FROM platform.outbox LIMIT 100000) AS o
           GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT $1),
         parked AS (SELECT tenant_id, items FROM rapport.parked_by_tenant() LIMIT $1)
         SELECT tenant_id, coalesce(events, 0), coalesce(items, 0) FROM waiting FULL JOIN parked USING (tenant_id)
         ORDER BY 3 DESC, 2 DESC, 1",
    )
    .bind(NAMED)
    .fetch_all(tx.conn()?)
    .await
    .map_err(database)?;
    let tenant = |(tenant, outbox_events, parked_items): (Uuid, i64, i64)| pb::TenantStatus {
        tenant: tenant.to_string(),
        outbox_events,
        parked_items,
    };
    Ok(rows.into_iter().map(tenant).collect())
}

async fn all<R>(tx: &mut OpenTx, sql: &'static str) -> Result<Vec<R>, Error>
where
    R: for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin,
{
    sqlx::query_as(sql).fetch_all(tx.conn()?).await.map_err(database)
}
