//! Watching: first what was missed, then what happens.
use std::{slice, time::Duration};

use rapport_kernel::{Ctx, Error};
use rapport_proto::events::v1::WatchEventsResponse;
use tokio::{
    sync::{broadcast::error::RecvError, mpsc},
    time::{Instant, sleep_until},
};
use tonic::Status;

use super::{Feed, hub::News, wanted::Wanted};
use crate::log::Line;

/// How often a watcher is told how far the stream has come, when nothing else is told.
const BEAT: Duration = Duration::from_secs(15);
/// How long a stream goes on: as long as a token. Who may see what is looked at anew when the caller comes again.
const LONGEST: Duration = Duration::from_secs(300);
/// Lines that are read at a time.
const PIECE: usize = 200;
/// Events on their way to a watcher who reads slowly.
pub(super) const QUEUE: usize = 8;

/// What a watcher is told. On its way it is in a box, since a queue has room for many of them even where it is empty.
pub(super) type Told = Box<Result<WatchEventsResponse, Status>>;

/// Somebody who watches.
pub(super) struct Watcher {
    pub(super) feed: Feed,
    pub(super) ctx: Ctx,
    pub(super) wanted: Wanted,
    /// Everything up to this number was told.
    pub(super) at: i64,
    pub(super) out: mpsc::Sender<Told>,
}

/// Why a watcher is told nothing more.
enum End {
    /// They left, or their time is over.
    Over,
    /// They have to know why.
    Failed(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Watcher {
    /// Tells until the watcher leaves or the time is over.
    pub(super) async fn run(mut self) {
        if let Err(End::Failed(error)) = self.tell().await {
            let _ = self.out.send(Box::new(Err(error.into()))).await;
        }
    }

    async fn tell(&mut self) -> Result<(), End> {
        let end = Instant::now() + LONGEST;
        let mut news = self.feed.hub.watch(self.ctx.tenant.uuid());
        self.send(None).await?;
        loop {
            // In a box of its own, which is gone while nothing happens.
            Box::pin(self.catch_up()).await?;
            let mut beat = Instant::now() + BEAT;
            loop {
                tokio::select! {
                    heard = news.recv() => match heard {
                        Ok(News::Line(line)) if line.tenant_number <= self.at => {}
                        Ok(News::Line(line)) if line.tenant_number == self.at + 1 => {
                            if Box::pin(self.lines(slice::from_ref(&line))).await? {
                                beat = Instant::now() + BEAT;
                            }
                        }
                        Ok(_) | Err(RecvError::Lagged(_)) => break,
                        Err(RecvError::Closed) => return Err(End::Over),
                    },
                    () = sleep_until(beat) => {
                        self.send(None).await?;
                        beat = Instant::now() + BEAT;
                    }
                    () = sleep_until(end) => return Err(End::Over),
                    () = self.feed.ending.cancelled() => return Err(End::Over),
                    () = self.out.closed() => return Err(End::Over),
                }
            }
        }
    }

    /// Tells what the log has and was not told.
    async fn catch_up(&mut self) -> Result<(), End> {
        loop {
            let lines = self.feed.lines(&self.ctx, self.at, PIECE).await?;
            if lines.is_empty() {
                return Ok(());
            }
            self.lines(&lines).await?;
        }
    }

    /// Tells of these lines what is wanted and may be known; says whether there was anything.
    async fn lines<L: AsRef<Line>>(&mut self, lines: &[L]) -> Result<bool, End> {
        let mut told = false;
        let seen = self.feed.seen(&self.ctx, lines).await?;
        for line in lines {
            let line = line.as_ref();
            let event = self.feed.event(&self.ctx, line, &seen, &self.wanted)?;
            self.at = line.tenant_number;
            if event.is_some() {
                self.send(event).await?;
                told = true;
            }
        }
        Ok(told)
    }

    async fn send(&self, event: Option<rapport_proto::events::v1::Event>) -> Result<(), End> {
        let sent = self.out.send(Box::new(Ok(WatchEventsResponse { number: self.at, event }))).await;
        sent.map_err(|_| End::Over)
    }
}
