//! A consumer: takes messages of the bus to their lanes.
use std::{
    convert::Infallible,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_nats::jetstream::{
    AckKind,
    consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull},
};
use futures::StreamExt as _;
use rapport_kernel::{BoxError, Clock, Error};
use rapport_store::{Db, PARTS, database};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Watermark,
    apply::Effects,
    doubt::Doubtful,
    lane::{Arrival, Lane},
    producer::Producer,
    turns::Turns,
};
use crate::{
    bus::{Bus, Message},
    copies::Keeper,
    lead::{Settings, cause},
    leader::{BEAT, Term},
    reactions::Reactions,
};

/// The pause before this process stands by again.
const PAUSE: Duration = Duration::from_millis(200);
/// How often the producer's log is asked where it stands.
const ASK: Duration = Duration::from_secs(2);
/// A stream that has messages for us and brings none for so long is opened anew.
const SILENCE: Duration = Duration::from_secs(5);
/// Messages that are with us and not acknowledged.
const PENDING: i64 = 8192;
/// Messages that wait for a lane.
const QUEUE: usize = 1024;
/// A message that is not acknowledged for so long comes again.
const ACK_WAIT: Duration = Duration::from_secs(30);

/// A promise of consumers to break. Only for tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sabotage {
    /// None.
    #[default]
    None,
    /// Whatever comes is taken for the next event.
    NoWatermark,
    /// Messages are acknowledged before their effects are committed.
    AckBeforeCommit,
    /// What cannot be worked off is left out, and not parked.
    NoParking,
    /// Copies are not looked at a second time after they were written.
    NoSecondLook,
}

/// A service's ear for another one.
#[derive(Clone)]
pub struct Consumer {
    /// The service that hears.
    pub service: String,
    /// What it does.
    pub reactions: Reactions,
    /// Its database.
    pub db: Db,
    /// The bus; without one the producer's log is asked five times a second.
    pub bus: Option<Bus>,
    /// The clock.
    pub clock: Clock,
    /// Whom it hears.
    pub producer: Producer,
    /// For tests: a promise to break.
    pub sabotage: Sabotage,
}

impl Consumer {
    /// That of `service`.
    pub fn new(
        service: &str,
        db: Db,
        settings: &Settings,
        clock: Clock,
        producer: Producer,
        reactions: Reactions,
    ) -> Self {
        let (service, bus, sabotage) = (service.to_owned(), settings.bus.clone(), settings.sabotage.consumer);
        Self { service, reactions, db, bus, clock, producer, sabotage }
    }

    /// Stands by and hears in turn, until `stop`. Any number of processes may do so at once.
    pub async fn hear(&self, stop: &CancellationToken) {
        let name = format!("hear:{}", self.reactions.producer());
        while !stop.is_cancelled() {
            let ended = match stop.run_until_cancelled(Term::begin(&self.db, &name)).await {
                None => return,
                Some(Ok(term)) => match stop.run_until_cancelled(self.lead(term)).await {
                    None => return,
                    Some(Err(error)) => error,
                    Some(Ok(never)) => match never {},
                },
                Some(Err(error)) => error,
            };
            tracing::warn!(
                service = self.service,
                producer = self.reactions.producer(),
                error = cause(&ended),
                "this process does not hear the log"
            );
            stop.run_until_cancelled(sleep(PAUSE)).await;
        }
    }

    async fn lead(&self, mut term: Term) -> Result<Infallible, Error> {
        let producer = self.reactions.producer();
        tracing::info!(service = self.service, producer, epoch = term.epoch(), "this process hears the log");
        let (doubts, doubted) = mpsc::unbounded_channel();
        let mut lanes = JoinSet::new();
        let mut entries = Vec::new();
        let mut heard = Vec::new();
        let watermarks = self.watermarks(&mut term).await?;
        let watermarks = self.leave_out_dropped(&mut term, watermarks).await?;
        // The other sessions are for those who call this service; and what waits is worked off together.
        let [fresh, missed] = [self.db.pool_size() / 4, self.db.pool_size() * 3 / 8].map(|places| {
            Arc::new(Effects {
                db: self.db.clone(),
                clock: self.clock.clone(),
                reactions: self.reactions.clone(),
                turns: Turns::new(places),
                sabotage: self.sabotage,
            })
        });
        for (part, at) in (0..).zip(watermarks) {
            let (entry, arrivals) = mpsc::channel(QUEUE);
            let number = Arc::new(AtomicI64::new(at.number));
            let lane = Lane {
                part,
                at,
                fresh: fresh.clone(),
                missed: missed.clone(),
                place: None,
                producer: self.producer.clone(),
                heard: number.clone(),
                doubts: doubts.clone(),
            };
            lanes.spawn(lane.run(arrivals));
            entries.push(entry);
            heard.push(number);
        }
        tokio::select! {
            error = lane_fails(&mut lanes) => Err(error),
            error = beat(&mut term) => Err(error),
            error = self.ask(&entries, &heard) => Err(error),
            error = self.listen(&entries) => Err(error),
            error = self.doubt(doubted) => Err(error),
            error = self.keeper().keep() => Err(error),
        }
    }

    /// Where each lane begins.
    async fn watermarks(&self, term: &mut Term) -> Result<Vec<Watermark>, Error> {
        let producer = self.reactions.producer();
        sqlx::query(
            "INSERT INTO platform.watermarks (producer, part) SELECT $1, generate_series(0, $2) ON CONFLICT DO NOTHING",
        )
        .bind(producer)
        .bind(i32::from(PARTS) - 1)
        .execute(term.session())
        .await
        .map_err(database)?;
        let numbers: Vec<i64> =
            sqlx::query_scalar("SELECT number FROM platform.watermarks WHERE producer = $1 ORDER BY part")
                .bind(producer)
                .fetch_all(term.session())
                .await
                .map_err(database)?;
        Ok(numbers.into_iter().map(Watermark::new).collect())
    }

    /// Where the producer's log does not go back to what was heard last, goes on with what it still has. Copies are made
    /// complete again, and people are told of what nobody will hear any more.
    async fn leave_out_dropped(
        &self,
        term: &mut Term,
        mut at: Vec<Watermark>,
    ) -> Result<Vec<Watermark>, Error> {
        // Who cannot be asked now is asked by the lanes, which say so when it is necessary.
        let Ok(heads) = self.producer.heads().await else { return Ok(at) };
        let producer = self.reactions.producer();
        // Whoever was not there yet has missed nothing.
        let was_there = at.iter().any(|mark| mark.number > 0);
        let mut left_out = 0;
        for (mark, dropped) in at.iter_mut().zip(&heads.dropped_to) {
            left_out += (dropped - mark.number).max(0);
            mark.number = mark.number.max(*dropped);
        }
        if left_out == 0 {
            return Ok(at);
        }
        tracing::warn!(
            service = self.service,
            producer,
            left_out,
            "the log has dropped events that were not heard"
        );
        let moved = sqlx::query_as::<_, (i16,)>(
            "WITH incomplete AS (DELETE FROM platform.copies WHERE producer = $1)
             UPDATE platform.watermarks SET number = ($2::bigint[])[part + 1],
               left_out = left_out + CASE WHEN $3 THEN ($2::bigint[])[part + 1] - number ELSE 0 END
             WHERE producer = $1 AND number <= ($2::bigint[])[part + 1] RETURNING part",
        )
        .bind(producer)
        .bind(at.iter().map(|at| at.number).collect::<Vec<_>>())
        .bind(was_there);
        term.commit(moved, at.len()).await?;
        Ok(at)
    }

    const fn keeper(&self) -> Keeper<'_> {
        Keeper {
            service: self.service.as_str(),
            db: &self.db,
            clock: &self.clock,
            producer: &self.producer,
            producer_name: self.reactions.producer.as_str(),
            copies: self.reactions.copies.as_slice(),
            sabotage: self.sabotage,
        }
    }

    /// Asks the log now and then where it stands: what the bus did not bring in that time, it does not bring.
    async fn ask(&self, entries: &[mpsc::Sender<Arrival>], heard: &[Arc<AtomicI64>]) -> Error {
        let mut before: Vec<i64> = Vec::new();
        let every = if self.bus.is_some() { ASK } else { PAUSE };
        loop {
            let heads = match self.producer.heads().await {
                Ok(heads) => heads.part_numbers,
                Err(error) => {
                    tracing::debug!(error = cause(&error), "the producer's log could not be asked");
                    before.clone()
                }
            };
            let lag: i64 = heard
                .iter()
                .zip(&heads)
                .map(|(heard, head)| (head - heard.load(Ordering::Relaxed)).max(0))
                .sum();
            metrics::gauge!("rapport_consumer_lag_events", "service" => self.service.clone(),
                "producer" => self.reactions.producer().to_owned())
            .set(lag as f64);
            for ((entry, heard), head) in entries.iter().zip(heard).zip(&before) {
                if heard.load(Ordering::Relaxed) < *head {
                    let _ = entry.try_send(Arrival::Behind(*head));
                }
            }
            before = heads;
            sleep(every).await;
        }
    }

    /// Takes messages of the bus to their lanes.
    async fn listen(&self, entries: &[mpsc::Sender<Arrival>]) -> Error {
        let Some(bus) = &self.bus else { return pending().await };
        loop {
            match self.listen_once(bus, entries).await {
                Ok(()) => tracing::debug!("the bus was silent, and is listened to anew"),
                Err(error) => tracing::debug!(%error, "the bus could not be listened to"),
            }
            sleep(PAUSE).await;
        }
    }

    async fn listen_once(&self, bus: &Bus, entries: &[mpsc::Sender<Arrival>]) -> Result<(), BoxError> {
        let producer = self.reactions.producer();
        let mut consumer = self.durable(bus).await?;
        let mut messages = consumer
            .stream()
            .max_messages_per_batch(1000)
            .expires(Duration::from_secs(20))
            .heartbeat(Duration::from_secs(2))
            .messages()
            .await?;
        loop {
            let Ok(message) = timeout(SILENCE, messages.next()).await else {
                if consumer.info().await?.num_pending > 0 {
                    return Ok(());
                }
                continue;
            };
            let (message, acker) = message.ok_or("the stream of messages ended")??.split();
            match Message::read(producer, &message.subject, message.headers.as_ref(), &message.payload) {
                Ok(read) => {
                    let entry = usize::try_from(read.line.part).ok().and_then(|part| entries.get(part));
                    let entry = entry.ok_or("a message of no partition")?;
                    entry.send(Arrival::Message(Box::new((read, acker)))).await?;
                }
                Err(reason) => {
                    self.set_aside(&Doubtful::of(&message, reason)).await?;
                    acker.ack_with(AckKind::Term).await?;
                }
            }
        }
    }

    /// Our durable at the producer's stream. It is made anew when it believes to have seen more than the stream has, since
    /// it would skip what comes next.
    async fn durable(&self, bus: &Bus) -> Result<PullConsumer, BoxError> {
        let stream = bus.stream(self.reactions.producer()).await?;
        let config = pull::Config {
            durable_name: Some(self.service.clone()),
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            max_ack_pending: PENDING,
            ..pull::Config::default()
        };
        let consumer: PullConsumer = stream.get_or_create_consumer(&self.service, config.clone()).await?;
        let last = stream.cached_info().state.last_sequence;
        if consumer.cached_info().ack_floor.stream_sequence <= last
            && consumer.cached_info().delivered.stream_sequence <= last
        {
            return Ok(consumer);
        }
        tracing::warn!(
            service = self.service,
            "the bus lost what it said it delivered; it is listened to from its beginning"
        );
        stream.delete_consumer(&self.service).await?;
        Ok(stream.create_consumer(config).await?)
    }

    /// Keeps messages that were not believed.
    async fn doubt(&self, mut doubted: mpsc::UnboundedReceiver<(Message, String)>) -> Error {
        let producer = self.reactions.producer();
        while let Some((message, reason)) = doubted.recv().await {
            if let Err(error) = self.set_aside(&Doubtful::read(producer, &message, reason)).await {
                return error;
            }
        }
        pending().await
    }
}

/// Resolves when a lane ends.
async fn lane_fails(lanes: &mut JoinSet<Result<(), Error>>) -> Error {
    match lanes.join_next().await {
        Some(Ok(Err(error))) => error,
        Some(Err(error)) => Error::internal(error),
        Some(Ok(Ok(()))) | None => Error::internal("a lane ended"),
    }
}

/// Says that this process lives, until it is replaced.
async fn beat(term: &mut Term) -> Error {
    loop {
        sleep(BEAT).await;
        if let Err(error) = term.beat().await {
            return error;
        }
    }
}
