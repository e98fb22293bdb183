//! What a service does for its log: one process of it leads, and the others stand by.
use std::{sync::Arc, time::Duration};

use rapport_egress::Door;
use rapport_kernel::{Clock, Error};
use rapport_store::Db;
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    bus::Bus,
    checkpoint::{Checkpoints, seal},
    consume,
    fresh::Fresh,
    leader::{LOG, Term},
    relay::relay,
    retention::Keep,
    sequencer::{self, Pace, drive},
    tidy::tidy,
};

/// The pause before this process stands by again, after it lost the lead or the database.
const PAUSE: Duration = Duration::from_millis(200);

/// What all services of an installation have in common.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The bus, if there is one.
    pub bus: Option<Bus>,
    /// How long logs are kept.
    pub keep: Keep,
    /// Where checkpoints of the logs are kept, if anywhere.
    pub checkpoints: Option<Checkpoints>,
    /// The way out, for webhooks; without one there are none.
    pub door: Option<Door>,
    /// For tests: promises to break.
    pub sabotage: Sabotage,
}

/// Promises to break. Only for tests: no configuration reaches them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sabotage {
    /// One of the sequencer.
    pub sequencer: sequencer::Sabotage,
    /// One of consumers.
    pub consumer: consume::Sabotage,
}

/// The log of a service.
#[derive(Clone, Debug)]
pub struct Log {
    /// The service, e.g. `customer`.
    pub service: String,
    /// Its database.
    pub db: Db,
    /// The bus; without one the log is kept and read, and nothing is published.
    pub bus: Option<Bus>,
    /// The clock.
    pub clock: Clock,
    /// How much is done at a time.
    pub pace: Pace,
    /// How long it is kept.
    pub keep: Keep,
    /// Where its checkpoints are kept, if anywhere.
    pub checkpoints: Option<Checkpoints>,
    /// Changes when this process has written lines.
    pub grown: Arc<watch::Sender<()>>,
    /// For tests: a promise to break.
    pub sabotage: sequencer::Sabotage,
}

impl Log {
    /// That of `service`.
    pub fn new(service: &str, db: Db, settings: &Settings, clock: Clock) -> Self {
        let Settings { bus, keep, checkpoints, sabotage, .. } = settings.clone();
        let (service, pace, sabotage) = (service.to_owned(), Pace::default(), sabotage.sequencer);
        Self { service, db, bus, clock, pace, keep, checkpoints, grown: Arc::default(), sabotage }
    }

    /// Stands by and leads in turn, until `stop`: moves what is in the outbox into the log, and publishes the log.
    ///
    /// Any number of processes may do so at once; whichever ends, and however, another one goes on where it stopped.
    pub async fn keep(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let led = stop.run_until_cancelled(Term::begin(&self.db, LOG)).await;
            let ended = match led {
                None => return,
                Some(Ok(term)) => self.lead(term, stop).await,
                Some(Err(error)) => Err(error),
            };
            if let Err(error) = ended {
                tracing::warn!(
                    service = self.service,
                    error = cause(&error),
                    "this process does not lead the log"
                );
                stop.run_until_cancelled(sleep(PAUSE)).await;
            }
        }
    }

    async fn lead(&self, mut term: Term, stop: &CancellationToken) -> Result<(), Error> {
        let (epoch, fresh) = (term.epoch(), Fresh::default());
        tracing::info!(service = self.service, epoch, "this process leads the log");
        let sequencing = drive(self, &mut term, &fresh, stop);
        let relaying = async {
            match &self.bus {
                Some(bus) => relay(&self.db, bus, &self.service, &self.clock, epoch, &fresh, stop).await,
                None => Ok(()),
            }
        };
        let tidying = async {
            // For as long as this process leads, and no longer.
            let tidied = stop.run_until_cancelled(tidy(&self.db, &self.clock)).await;
            tidied.unwrap_or(Ok(()))
        };
        let sealing = async {
            let sealed = seal(&self.db, &self.service, self.checkpoints.as_ref());
            stop.run_until_cancelled(sealed).await;
            Ok(())
        };
        tokio::try_join!(sequencing, relaying, tidying, sealing).map(drop)
    }
}

/// The private cause of an error, which is for our own log alone.
pub(crate) fn cause(error: &Error) -> String {
    match error {
        Error::Internal(cause) | Error::Unavailable(cause) => cause.to_string(),
        other => other.to_string(),
    }
}
