//! The calls that a service holds, worked on or waiting, are bounded: what comes on top is refused at once, since a queue
//! that grows answers everybody late. The waiting itself is the fair queue's.
use std::sync::Arc;

use rapport_kernel::Error;
use tokio::sync::Semaphore;

use super::{Next, Request, Response, Step, hold, method, refuse};

#[derive(Clone)]
pub(crate) struct Shed {
    calls: Arc<Semaphore>,
    watches: Arc<Semaphore>,
}

impl Shed {
    /// At most `calls` at a time, and as many `watches`, which mostly wait.
    pub(crate) fn new(calls: usize, watches: usize) -> Self {
        Self { calls: Arc::new(Semaphore::new(calls)), watches: Arc::new(Semaphore::new(watches)) }
    }
}

impl Step for Shed {
    async fn run(&self, mut request: Request, next: impl Next) -> Response {
        let watches = method(&request).is_some_and(rapport_proto::Method::watches);
        let places = if watches { &self.watches } else { &self.calls };
        match places.clone().try_acquire_owned() {
            Ok(place) => {
                hold(&mut request, place);
                next.run(request).await
            }
            Err(_) => refuse(Error::Exhausted { message: "the service is busy".into(), retry_after: 1 }),
        }
    }
}
