//! A lane: one partition of a producer's log, one event after the other.
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_nats::jetstream::message::Acker;
use rapport_kernel::Error;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{
    Judgement, Producer, Sabotage, Watermark,
    apply::{Effects, Stretch},
    turns::Place,
};
use crate::{bus, lead::cause, log::Line};

/// Events that are taken at a time.
const BATCH: usize = 256;
/// Lines that are asked for at a time.
const PAGE: i32 = 500;
/// The pause after a database or a log could not be reached.
const PAUSE: Duration = Duration::from_millis(200);

/// What comes to a lane.
pub(super) enum Arrival {
    /// A message of the bus.
    Message(Box<(bus::Message, Acker)>),
    /// The log goes up to this number, and the bus has had its time to bring it.
    Behind(i64),
}

impl Arrival {
    fn tenant(&self) -> Option<Uuid> {
        match self {
            Self::Message(arrived) => Some(arrived.0.line.tenant_id),
            Self::Behind(_) => None,
        }
    }
}

/// A lane at work.
pub(super) struct Lane {
    pub(super) part: i16,
    pub(super) at: Watermark,
    /// For what the bus brings.
    pub(super) fresh: Arc<Effects>,
    /// For what it did not bring, which has turns of its own: what is new does not wait behind it.
    pub(super) missed: Arc<Effects>,
    /// Its turn to work, until the first transaction has taken it.
    pub(super) place: Option<Place>,
    pub(super) producer: Producer,
    /// Where it stands, for whoever watches.
    pub(super) heard: Arc<AtomicI64>,
    /// For messages that are not believed.
    pub(super) doubts: mpsc::UnboundedSender<(bus::Message, String)>,
}

impl Lane {
    /// Works off what comes, until nothing comes any more.
    ///
    /// # Errors
    /// When somebody else hears this log by now.
    pub(super) async fn run(mut self, mut arrivals: mpsc::Receiver<Arrival>) -> Result<(), Error> {
        let mut batch = Vec::new();
        while arrivals.recv_many(&mut batch, BATCH).await > 0 {
            self.place = Some(self.turn(&mut arrivals, &mut batch).await);
            let mut next = Vec::new();
            let mut ackers = Vec::new();
            for arrival in batch.drain(..) {
                match arrival {
                    Arrival::Behind(number) => {
                        self.take(&mut next).await?;
                        if self.at.number < number {
                            tracing::info!(
                                part = self.part,
                                missing = number - self.at.number,
                                "the bus did not bring events; they are read from the log"
                            );
                            self.catch_up(number).await?;
                        }
                    }
                    Arrival::Message(arrived) => {
                        let (message, acker) = *arrived;
                        self.message(message, &mut next).await?;
                        ackers.push(acker);
                    }
                }
            }
            if self.fresh.sabotage == Sabotage::AckBeforeCommit {
                acknowledge(&mut ackers).await;
                tokio::time::sleep(rapport_store::GAP).await;
            }
            self.take(&mut next).await?;
            self.place = None;
            acknowledge(&mut ackers).await;
        }
        Ok(())
    }

    /// Waits for its turn; what comes meanwhile is worked off with the rest.
    async fn turn(&self, arrivals: &mut mpsc::Receiver<Arrival>, batch: &mut Vec<Arrival>) -> Place {
        let mut claim = self.fresh.turns.line_up(batch.iter().filter_map(Arrival::tenant));
        loop {
            let (before, room) = (batch.len(), BATCH.saturating_sub(batch.len()));
            tokio::select! {
                biased;
                place = claim.granted() => return place,
                more = arrivals.recv_many(batch, room), if room > 0 => match more {
                    0 => return claim.granted().await,
                    _ => claim.add(batch.iter().skip(before).filter_map(Arrival::tenant)),
                },
            }
        }
    }

    /// Looks at a message; what is next is put to `next`.
    async fn message(&mut self, message: bus::Message, next: &mut Vec<Arc<Line>>) -> Result<(), Error> {
        let at = next.last().map_or(self.at, |line| self.at.moved(line.part_number, self.at.epoch));
        let number = message.line.part_number;
        let judgement = match self.fresh.sabotage {
            Sabotage::NoWatermark => Judgement::Next,
            _ => at.judge(number, message.epoch),
        };
        match judgement {
            Judgement::Known => Ok(()),
            // What has no payload here has it in the log.
            Judgement::Next if message.tombstone.is_none() => {
                next.push(Arc::new(message.line));
                Ok(())
            }
            Judgement::Next | Judgement::Ask => {
                self.take(next).await?;
                let found = self.catch_up(number).await?;
                if found != Some(message.line.event_id) && self.at.number < number {
                    let doubt = format!(
                        "the log has no such event; it ends with {} in partition {}, and its leader has epoch {}",
                        self.at.number, self.part, self.at.epoch
                    );
                    let _ = self.doubts.send((message, doubt));
                }
                Ok(())
            }
        }
    }

    /// Lets these lines take effect, the next ones.
    async fn take(&mut self, lines: &mut Vec<Arc<Line>>) -> Result<(), Error> {
        let lines = std::mem::take(lines);
        self.apply(&self.fresh.clone(), self.at.epoch, &lines).await
    }

    async fn apply(&mut self, effects: &Effects, epoch: i64, lines: &[Arc<Line>]) -> Result<(), Error> {
        for lines in effects.batches(lines) {
            let stretch = Stretch { from: self.at, epoch, lines };
            self.at = effects.apply(stretch, self.place.take()).await?;
            self.heard.store(self.at.number, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Reads the producer's log up to this number at least, and lets it take effect; says which event has this number.
    async fn catch_up(&mut self, to: i64) -> Result<Option<Uuid>, Error> {
        // Others work while this one waits for the log.
        self.place = None;
        while self.at.number < to {
            let page = match self.producer.read(self.part, self.at.number, PAGE).await {
                Ok(page) => page,
                Err(error @ Error::Rule { .. }) => return Err(error),
                Err(error) => {
                    tracing::warn!(
                        part = self.part,
                        error = cause(&error),
                        "the producer's log could not be read"
                    );
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            self.at.epoch = self.at.epoch.max(page.epoch);
            let lines: Vec<_> = page.lines.into_iter().map(Arc::new).collect();
            if lines.is_empty() {
                break;
            }
            self.apply(&self.missed.clone(), page.epoch, &lines).await?;
            if let Some(line) = lines.iter().find(|line| line.part_number == to) {
                return Ok(Some(line.event_id));
            }
        }
        Ok(None)
    }
}

async fn acknowledge(ackers: &mut Vec<Acker>) {
    for acker in ackers.drain(..) {
        // If it gets lost, the message comes again and is known.
        let _ = acker.ack().await;
    }
}
