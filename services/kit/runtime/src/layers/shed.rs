//! The calls that a service holds, worked on or waiting, are bounded: what comes on top is refused at once, since a queue
//! that grows answers everybody late. The waiting itself is the fair queue's.
use std::sync::Arc;

use rapport_kernel::Error;
use tokio::sync::Semaphore;

use super::{Next, Request, Response, Step, hold, refuse};

#[derive(Clone)]
pub(crate) struct Shed(Arc<Semaphore>);

impl Shed {
    /// At most `calls` at a time.
    pub(crate) fn new(calls: usize) -> Self {
        Self(Arc::new(Semaphore::new(calls)))
    }
}

impl Step for Shed {
    async fn run(&self, mut request: Request, next: impl Next) -> Response {
        match self.0.clone().try_acquire_owned() {
            Ok(place) => {
                hold(&mut request, place);
                next.run(request).await
            }
            Err(_) => refuse(Error::Exhausted { message: "the service is busy".into(), retry_after: 1 }),
        }
    }
}
