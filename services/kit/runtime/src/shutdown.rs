//! Ending in order: stop listening and let running calls finish, stop the workers, close pools and flush telemetry. A
//! second signal, or a minute, ends it at once: whoever sends one does not want to wait.
use std::{fmt, future::pending, task::Poll, time::Duration};

use futures::stream::{self, Stream, StreamExt as _};
use rapport_kernel::BoxError;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// How long ending may take in all.
const PATIENCE: Duration = Duration::from_secs(60);

/// The stages of the end, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Servers: they stop listening and finish the calls that run.
    Serving,
    /// Workers: they finish the piece of work in hand.
    Working,
    /// What the others needed: pools, telemetry.
    Closing,
}

/// How the end went.
#[derive(Debug)]
pub enum Ending {
    /// Everything ended in order.
    Orderly,
    /// It was cut short by a second signal or by time.
    Forced,
    /// Something ended that should not have, and everything was ended in order.
    Failed(BoxError),
}

/// What runs in this process, and how it ends.
#[derive(Default)]
pub struct Shutdown {
    serving: Group,
    working: Group,
    closing: Group,
}

#[derive(Default)]
struct Group {
    token: CancellationToken,
    tasks: JoinSet<Result<(), BoxError>>,
}

impl Shutdown {
    /// Nothing runs yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `task` until its stage comes: then its token is cancelled and the task is waited for. If a task fails before
    /// that, everything ends.
    pub fn run<F>(&mut self, stage: Stage, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let group = self.group(stage);
        let task = task(group.token.clone());
        group.tasks.spawn(task);
    }

    /// Calls `close` when its stage comes.
    pub fn on<F>(&mut self, stage: Stage, close: impl FnOnce() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.run(stage, |token| async move {
            token.cancelled().await;
            close().await;
            Ok(())
        });
    }

    /// Waits for a signal (SIGTERM or SIGINT) or for a failure, and ends everything.
    ///
    /// It listens as soon as it is called, not when it is awaited: whoever is told in between that the process is ready may
    /// send a signal at once.
    ///
    /// # Errors
    /// When the process cannot listen to signals.
    pub fn wait(self) -> impl Future<Output = Result<Ending, BoxError>> {
        let signals = signals();
        async move { Ok(self.wait_for(signals?).await) }
    }

    /// Ends everything when a signal comes, at once when a second one comes.
    async fn wait_for(mut self, mut signals: impl Stream<Item = ()> + Unpin) -> Ending {
        let failure = tokio::select! {
            _ = signals.next() => None,
            error = self.serving.failure() => Some(error),
            error = self.working.failure() => Some(error),
            error = self.closing.failure() => Some(error),
        };
        match &failure {
            None => tracing::info!("ending"),
            Some(error) => tracing::error!(%error, "ending, since something failed"),
        }
        let ended = tokio::select! {
            ended = timeout(PATIENCE, self.end()) => ended.is_ok(),
            _ = signals.next() => false,
        };
        match (ended, failure) {
            (_, Some(error)) => Ending::Failed(error),
            (true, None) => Ending::Orderly,
            (false, None) => Ending::Forced,
        }
    }

    async fn end(&mut self) {
        for stage in [Stage::Serving, Stage::Working, Stage::Closing] {
            self.group(stage).end(stage).await;
        }
    }

    fn group(&mut self, stage: Stage) -> &mut Group {
        match stage {
            Stage::Serving => &mut self.serving,
            Stage::Working => &mut self.working,
            Stage::Closing => &mut self.closing,
        }
    }
}

/// The signals that end the process, from now on.
fn signals() -> Result<impl Stream<Item = ()> + Unpin, BoxError> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(stream::poll_fn(move |cx| {
        let came = term.poll_recv(cx).is_ready() || int.poll_recv(cx).is_ready();
        if came { Poll::Ready(Some(())) } else { Poll::Pending }
    }))
}

impl Group {
    /// Waits for a task that fails; a task that ends well is done.
    async fn failure(&mut self) -> BoxError {
        while let Some(ended) = self.tasks.join_next().await {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return error,
                Err(error) => return error.into(),
            }
        }
        pending().await
    }

    async fn end(&mut self, stage: Stage) {
        self.token.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended.map_err(BoxError::from).flatten() {
                tracing::error!(?stage, %error, "something failed while it was ending");
            }
        }
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shutdown")
    }
}

#[cfg(test)]
mod tests;
