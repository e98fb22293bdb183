//! Calls wait for their turn, tenant by tenant, so that a burst of one tenant waits behind itself.
use std::time::Duration;

use rapport_kernel::{Ctx, Error};
use tokio::time::timeout;

use super::{
    Next, Request, Response, Step,
    fair_queue::{FairQueue, Lane},
    hold, method,
    read::Unary,
    refuse,
    streams::{Streams, streams},
};

/// Bytes of a request for which a call costs one more: a batch of a thousand rows counts as what it is.
const BYTES_PER_COST: usize = 16 << 10;

#[derive(Clone)]
pub(crate) struct Fair {
    queue: FairQueue,
    streams: Streams,
    watches: Streams,
    patience: Duration,
}

impl Fair {
    /// At most `running` calls at a time, `waiting` more of each tenant, each of which waits for `patience` at most; and
    /// `streams` streams and `watches` watches of each tenant.
    pub(crate) fn new(
        running: usize,
        waiting: usize,
        patience: Duration,
        streams: usize,
        watches: usize,
    ) -> Self {
        let (streams, watches) = (Streams::new(streams), Streams::new(watches));
        Self { queue: FairQueue::new(running, waiting), streams, watches, patience }
    }

    async fn turn(&self, lane: Lane, cost: u64) -> Result<super::fair_queue::Place, Error> {
        let late = |_| Error::Exhausted { message: "the service is busy".into(), retry_after: 1 };
        timeout(self.patience, self.queue.enter(lane, cost)?).await.map_err(late)
    }
}

impl Step for Fair {
    async fn run(&self, mut request: Request, next: impl Next) -> Response {
        let Some(ctx) = request.extensions().get::<Ctx>() else {
            return refuse(Error::Unauthenticated);
        };
        let lane = Lane::of(ctx);
        let streaming = method(&request).filter(|method| streams(method));
        if let Some(method) = streaming {
            let open = if method.watches() { &self.watches } else { &self.streams };
            match open.open(lane) {
                Ok(open) => hold(&mut request, open),
                Err(error) => return refuse(error),
            }
        } else {
            let bytes = request.extensions().get::<Unary>().map_or(0, |unary| unary.message().len());
            match self.turn(lane, 1 + (bytes / BYTES_PER_COST) as u64).await {
                Ok(place) => hold(&mut request, place),
                Err(error) => return refuse(error),
            }
        }
        next.run(request).await
    }
}
