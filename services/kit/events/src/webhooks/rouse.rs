//! Rousing webhooks: whoever leads looks at what is new in the log, and has the lanes look that may have something to send.
use std::{sync::Arc, time::Duration};

use rapport_kernel::{Clock, Error};
use rapport_store::{Db, database};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{LANES, deliver::DELIVER};
use crate::{
    lead::cause,
    leader::{BEAT, Term, deposed},
};

/// What is led.
const LEAD: &str = "webhooks";
/// Lines that are looked at at a time.
const PIECE: i64 = 2_000;
/// How often the log is looked at where its leader is another process.
const PAUSE: Duration = Duration::from_millis(100);
/// The pause before this process stands by again.
const AGAIN: Duration = Duration::from_secs(1);

/// In one statement: what is new, the webhooks of its tenants that are on, work for each of their lanes that has something new, and
/// how far that is. A lane that waits to try again is left to wait.
const ROUSE: &str = "
WITH head AS (SELECT number FROM platform.webhook_head),
new AS (
  SELECT number, tenant_id, part % $2 AS lane FROM platform.event_log
  WHERE number > (SELECT number FROM head)
    AND day >= coalesce((SELECT max(day) FROM platform.log_days WHERE number_before <= (SELECT number FROM head)), '-infinity')
  ORDER BY number LIMIT $3
),
lanes AS (SELECT DISTINCT tenant_id, lane FROM new),
roused AS (
  INSERT INTO platform.work (queue, tenant_id, key, id, resource, payload, failures, problem, ready_time)
  SELECT $4, l.tenant_id, w.webhook_id || '/' || l.lane, gen_random_uuid(), '',
    jsonb_build_object('webhook', w.webhook_id, 'lane', l.lane), 0, '', $5
  FROM lanes l JOIN rapport.webhooks_on((SELECT array_agg(DISTINCT tenant_id) FROM lanes)) w ON w.tenant_id = l.tenant_id
  WHERE NOT EXISTS (SELECT FROM platform.timers t
    WHERE t.tenant_id = l.tenant_id AND t.queue = $4 AND t.key = w.webhook_id || '/' || l.lane)
  ON CONFLICT (tenant_id, queue, key) DO UPDATE SET again = true
  RETURNING 1
)
UPDATE platform.webhook_head h SET number = coalesce((SELECT max(number) FROM new), (SELECT number FROM platform.log_head))
FROM platform.leads lead
WHERE lead.name = 'webhooks' AND lead.epoch = $1
RETURNING (SELECT count(*) FROM roused)";

/// Whoever rouses webhooks.
#[derive(Clone)]
pub(crate) struct Rouse {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    /// The log of this process grew.
    pub(crate) grown: Arc<watch::Sender<()>>,
    /// Wakes the queues of this process.
    pub(crate) ready: Arc<Notify>,
}

impl Rouse {
    /// Rouses webhooks until `stop`, in turns with other processes.
    pub(crate) async fn run(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let led = async {
                let mut term = Term::begin(&self.db, LEAD).await?;
                self.lead(&mut term).await
            };
            if let Some(Err(error)) = stop.run_until_cancelled(led).await {
                tracing::warn!(error = cause(&error), "this process does not rouse webhooks");
                stop.run_until_cancelled(sleep(AGAIN)).await;
            }
        }
    }

    async fn lead(&self, term: &mut Term) -> Result<(), Error> {
        let mut beat = Instant::now();
        let (mut grown, epoch) = (self.grown.subscribe(), term.epoch());
        loop {
            if beat.elapsed() >= BEAT {
                term.beat().await?;
                beat = Instant::now();
            }
            let heads = "SELECT w.number < l.number FROM platform.webhook_head w, platform.log_head l";
            let has_new: bool =
                sqlx::query_scalar(heads).fetch_one(term.session()).await.map_err(database)?;
            if !has_new {
                let _ = timeout(PAUSE, grown.changed()).await;
                continue;
            }
            let roused: Option<i64> = sqlx::query_scalar(ROUSE)
                .bind(epoch)
                .bind(LANES)
                .bind(PIECE)
                .bind(DELIVER)
                .bind(self.clock.now())
                .fetch_optional(term.session())
                .await
                .map_err(database)?;
            if roused.ok_or_else(deposed)? > 0 {
                self.ready.notify_one();
            }
        }
    }
}
