//! What a service hands to the binary: its routes, the work it does unasked, and how to tell that it is ready. The binary
//! and the tests mount the same parts.
use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use rapport_kernel::BoxError;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::health::ReadyCheck;

/// The pause before a worker that failed is started again; it doubles with each failure in a row,
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A worker that ran so long before it failed starts over with the first pause.
const HEALTHY: Duration = Duration::from_secs(300);

/// The parts of a service.
#[derive(Debug)]
pub struct Parts {
    /// The service, e.g. `customer`.
    pub name: &'static str,
    /// Its gRPC services, to be wrapped by the layers.
    pub routes: Routes,
    /// What it does unasked.
    pub workers: Vec<Worker>,
    /// What has to work before it can serve.
    pub ready: Vec<ReadyCheck>,
    /// Cancelled when the process begins to end: answers that go on as long as somebody listens end by it.
    pub ending: CancellationToken,
}

/// Work that goes on as long as the process: it is started again when it fails or panics, so one run has to leave the
/// state such that the next can go on.
#[derive(Clone)]
pub struct Worker {
    name: String,
    run: Arc<dyn Fn(CancellationToken) -> BoxFuture<'static, Result<(), BoxError>> + Send + Sync>,
}

impl Worker {
    /// A worker called `name`. `run` ends soon after its token is cancelled; when it ends well before that, its work is
    /// done and it is not started again.
    pub fn new<F>(
        name: impl Into<String>,
        run: impl Fn(CancellationToken) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        Self { name: name.into(), run: Arc::new(move |token| Box::pin(run(token))) }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs it until its work is done or `token` is cancelled.
    pub async fn run(&self, token: CancellationToken) {
        let mut pause = FIRST_PAUSE;
        loop {
            let started = Instant::now();
            let run = AssertUnwindSafe((self.run)(token.clone())).catch_unwind().await;
            let problem = match run {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error,
                Err(panic) => format!("panic: {}", crate::panic::text(&*panic)).into(),
            };
            if token.is_cancelled() {
                tracing::warn!(worker = self.name, error = %problem, "a worker failed while it was stopping");
                return;
            }
            if started.elapsed() >= HEALTHY {
                pause = FIRST_PAUSE;
            }
            tracing::error!(worker = self.name, error = %problem, pause = ?pause, "a worker failed and starts again");
            metrics::counter!("rapport_worker_failures_total", "worker" => self.name.clone()).increment(1);
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                () = token.cancelled() => return,
            }
        }
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Worker").field(&self.name).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    type Starts = Arc<Mutex<Vec<u64>>>;

    /// A worker that notes at which second it was started and then does what `run` says about that start.
    fn noting(
        run: impl Fn(usize) -> BoxFuture<'static, Result<(), BoxError>> + Send + Sync + 'static,
    ) -> (Worker, Starts) {
        let starts = Starts::default();
        let (noted, zero) = (starts.clone(), Instant::now());
        let worker = Worker::new("test", move |_| {
            noted.lock().unwrap().push(zero.elapsed().as_secs());
            run(noted.lock().unwrap().len())
        });
        (worker, starts)
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_fails_or_panics_starts_again_ever_later() {
        let (worker, starts) = noting(|start| {
            Box::pin(async move {
                assert!(start != 2, "the second start panics");
                if start == 9 { Ok(()) } else { Err("out of luck".into()) }
            })
        });
        worker.run(CancellationToken::new()).await;
        assert_eq!(*starts.lock().unwrap(), [0, 1, 3, 7, 15, 31, 63, 123, 183]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_good_run_forgives_earlier_failures() {
        let (worker, starts) = noting(|start| {
            Box::pin(async move {
                match start {
                    3 => sleep(HEALTHY).await,
                    5 => return Ok(()),
                    _ => {}
                }
                Err("out of luck".into())
            })
        });
        worker.run(CancellationToken::new()).await;
        assert_eq!(*starts.lock().unwrap(), [0, 1, 3, 304, 306]);
    }

    #[tokio::test(start_paused = true)]
    async fn cancelling_ends_a_worker_that_pauses() {
        let (worker, starts) = noting(|_| Box::pin(async { Err("out of luck".into()) }));
        let token = CancellationToken::new();
        let task = tokio::spawn({
            let token = token.clone();
            async move { worker.run(token).await }
        });
        sleep(Duration::from_millis(500)).await;
        token.cancel();
        task.await.unwrap();
        assert_eq!(*starts.lock().unwrap(), [0]);
    }
}
