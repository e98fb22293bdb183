//! What a service has of this crate, in one place: its log, those it hears, who hears it, its queues.
use std::{collections::BTreeMap, sync::Arc};

use rapport_kernel::Clock;
use rapport_proto::events::v1::{
    ledger_service_server::LedgerServiceServer, log_service_server::LogServiceServer,
    parked_item_service_server::ParkedItemServiceServer, status_service_server::StatusServiceServer,
    webhook_service_server::WebhookServiceServer,
};
use rapport_runtime::parts::{Parts, Worker};
use rapport_store::Db;
use tokio_util::sync::CancellationToken;

use crate::{
    Audience, Feed, Log, LogApi, ParkedItem, Settings,
    consume::{Consumer, Producer},
    ledger::{Ledger, LedgerEntry},
    parked::{RETRY, Replays},
    queue::{Patience, Queues},
    reactions::Reactions,
    snapshot::Snapshots,
    status::Observer,
    webhooks::{DELIVER, REPLAY, Rouse, Webhook, Webhooks},
};

/// The events of a service.
#[derive(Clone)]
pub struct Events {
    service: &'static str,
    db: Db,
    clock: Clock,
    settings: Settings,
    audience: Audience,
    hears: Vec<(Producer, Reactions)>,
    snapshots: Snapshots,
    queues: Queues,
}

impl Events {
    /// Those of `service`, which hears nobody yet.
    pub fn of(service: &'static str, db: &Db, settings: &Settings, clock: &Clock) -> Self {
        Self {
            service,
            db: db.clone(),
            clock: clock.clone(),
            settings: settings.clone(),
            audience: Audience::of(service),
            hears: Vec::new(),
            snapshots: Snapshots::default(),
            queues: Queues::new(service, db.clone(), clock.clone()),
        }
    }

    /// Tells them to this audience.
    #[must_use]
    pub fn told_to(mut self, audience: Audience) -> Self {
        self.audience = audience;
        self
    }

    /// Shows its records to peers who keep copies of them.
    #[must_use]
    pub fn shows(mut self, snapshots: Snapshots) -> Self {
        self.snapshots = snapshots;
        self
    }

    /// Hears another service.
    #[must_use]
    pub fn hears(mut self, producer: Producer, reactions: Reactions) -> Self {
        self.hears.push((producer, reactions));
        self
    }

    /// Does what is queued.
    #[must_use]
    pub fn works(mut self, queues: impl FnOnce(Queues) -> Queues) -> Self {
        self.queues = queues(self.queues);
        self
    }

    /// Adds all of it to the service's parts.
    #[must_use]
    pub fn join(self, mut parts: Parts) -> Parts {
        let Self { service, db, clock, settings, audience, hears, snapshots, queues } = self;
        let log = Log::new(service, db.clone(), &settings, clock.clone());
        let audience = audience.seers_of::<ParkedItem>().seers_of::<LedgerEntry>().seers_of::<Webhook>();
        let feed = Feed::new(&log, audience).of(&mut parts);
        let webhooks = Webhooks { feed: feed.clone(), clock: clock.clone(), door: settings.door.clone() };
        let reactions = hears.iter().map(|(_, heard)| (heard.producer().to_owned(), heard.clone()));
        let replays = Replays {
            db: db.clone(),
            clock: clock.clone(),
            reactions: Arc::new(reactions.collect::<BTreeMap<_, _>>()),
        };
        let retries = replays.clone();
        let queues = queues.on(RETRY, Replays::patience(), move |ctx, job| {
            let retries = retries.clone();
            Box::pin(async move { retries.retry(ctx, job).await })
        });
        let (lanes, ranges) = (webhooks.clone(), webhooks.clone());
        let queues = queues
            .on(DELIVER, Webhooks::patience(), move |ctx, job| {
                let lanes = lanes.clone();
                Box::pin(async move { lanes.deliver(ctx, job).await })
            })
            .on(REPLAY, Patience::default(), move |ctx, job| {
                let ranges = ranges.clone();
                Box::pin(async move { ranges.replay(ctx, job).await })
            });
        let rouse = Rouse {
            db: db.clone(),
            clock: clock.clone(),
            grown: log.grown.clone(),
            ready: queues.ready.clone(),
        };
        let observer = Observer { service, db: db.clone(), clock: clock.clone() };
        parts.routes = parts
            .routes
            .add_service(StatusServiceServer::new(observer.clone()))
            .add_service(LedgerServiceServer::new(Ledger { feed: feed.clone() }))
            .add_service(WebhookServiceServer::new(webhooks))
            .add_service(LogServiceServer::new(LogApi { db: db.clone(), clock: clock.clone(), snapshots }))
            .add_service(ParkedItemServiceServer::new(replays));
        parts.workers.push(worker(format!("{service} log"), log, |log, stop| async move {
            log.keep(&stop).await;
            Ok(())
        }));
        parts.workers.push(worker(format!("{service} queues"), queues, |queues, stop| async move {
            queues.work(&stop).await
        }));
        parts.workers.push(worker(format!("{service} webhooks"), rouse, |rouse, stop| async move {
            rouse.run(&stop).await;
            Ok(())
        }));
        parts.workers.push(worker(format!("{service} metrics"), observer, |observer, stop| async move {
            stop.run_until_cancelled(observer.tell()).await.unwrap_or(Ok(()))
        }));
        for (producer, reactions) in hears {
            let name = format!("{service} hears {}", reactions.producer());
            let consumer = Consumer::new(service, db.clone(), &settings, clock.clone(), producer, reactions);
            parts.workers.push(worker(name, consumer, |consumer, stop| async move {
                consumer.hear(&stop).await;
                Ok(())
            }));
        }
        parts
    }
}

/// Work that goes on as long as the process.
fn worker<T, F>(
    name: String,
    of: T,
    run: impl Fn(T, CancellationToken) -> F + Clone + Send + Sync + 'static,
) -> Worker
where
    T: Clone + Send + Sync + 'static,
    F: Future<Output = Result<(), rapport_kernel::Error>> + Send + 'static,
{
    Worker::new(name, move |stop| {
        let ended = run(of.clone(), stop);
        async move { Ok(ended.await?) }
    })
}
