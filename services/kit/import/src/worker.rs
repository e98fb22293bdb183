//! The worker: takes imports that are to be worked on, a few at a time, each of another tenant.
use std::{panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt as _;
use rapport_kernel::{Ctx, Error, Via};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    Import, Imports,
    engine::Joined,
    job::{self, End, Job},
    run_as,
    work::{self, Held},
};

impl Imports {
    /// Works on imports until `stop`, then ends after the batches in hand, and lets others go on.
    ///
    /// Several processes may work at once. Dropping the future ends the work in the middle of a batch, which is then as if
    /// it had never begun.
    pub async fn work(&self, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        while !stop.is_cancelled() {
            while tasks.len() < self.options().parallel.max(1) {
                let Some(held) = self.take().await else { break };
                let (imports, stop) = (self.clone(), stop.clone());
                tasks.spawn(async move { imports.process(held, stop).await });
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.woken().notified() => {}
                () = tokio::time::sleep(self.options().poll) => {}
                Some(_) = tasks.join_next() => {}
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    async fn take(&self) -> Option<Held> {
        let now = self.clock().now();
        let until = now.plus_seconds(self.options().lease_seconds);
        match work::take(self.db(), self.clock().new_uuid(), now, until).await {
            Ok(held) => held,
            Err(error) => {
                // It is asked again soon; while the database is away others say so louder.
                tracing::warn!(
                    error = job::cause(&error),
                    "imports that are to be worked on could not be looked up"
                );
                None
            }
        }
    }

    /// Works on an import, and leaves it in a state in which somebody can go on.
    async fn process(&self, held: Held, stop: CancellationToken) {
        let attempt = AssertUnwindSafe(self.attempt(held, stop)).catch_unwind().await;
        let end = attempt.unwrap_or_else(|_| Err(Error::internal("the worker panicked")));
        let left = match end {
            Ok(End::Over) => Ok(()),
            Ok(End::Stopped) => work::release(self.db(), held, self.clock().now()).await,
            Ok(End::Later(seconds)) => {
                work::release(self.db(), held, self.clock().now().plus_seconds(seconds)).await
            }
            Err(error) => {
                let cause = job::cause(&error);
                tracing::error!(tenant.id = %held.tenant, import.id = %held.import, error = cause, "an import failed");
                job::fail(self, held, &error).await
            }
        };
        if let Err(error) = left {
            // The lease runs out, and somebody tries again.
            let cause = job::cause(&error);
            tracing::warn!(tenant.id = %held.tenant, import.id = %held.import, error = cause, "an import was left");
        }
    }

    async fn attempt(&self, held: Held, stop: CancellationToken) -> Result<End, Error> {
        let (joined, ctx, phase) = match self.prepare(held).await {
            // Nothing has begun, so nothing has failed.
            Err(Error::Unavailable(_)) => return Ok(End::Later(5)),
            Err(Error::Rule { reason: "TENANT_NOT_SERVED", .. }) => return Ok(End::Later(60)),
            Err(error) => return Err(error),
            Ok(None) => return Ok(End::Over),
            Ok(Some(prepared)) => prepared,
        };
        tracing::info!(tenant.id = %held.tenant, import.id = %held.import, phase, "an import is worked on");
        let end = joined.run(Arc::new(Job { imports: self.clone(), ctx, held, stop })).await?;
        tracing::info!(tenant.id = %held.tenant, import.id = %held.import, phase, ?end, "an import is not worked on any more");
        Ok(end)
    }

    /// What it takes to work on an import; `None` when there is nothing to do for it any more.
    async fn prepare(&self, held: Held) -> Result<Option<(Arc<dyn Joined>, Ctx, &'static str)>, Error> {
        let mut tx = self.db().begin(&Ctx::system(held.tenant, self.clock().clone())).await?;
        let import = match tx.get::<Import>(held.import).await {
            Err(Error::NotFound { .. }) => None,
            other => Some(other?).filter(|import| import.state.work().is_some()),
        };
        let Some(import) = import else {
            work::forget(self.db(), held).await?;
            return Ok(None);
        };
        let run_as = run_as::read(&mut tx, held.import).await?;
        tx.finish().await?;
        let run_as = run_as.ok_or_else(|| Error::internal("an import is worked on that nobody started"))?;
        let joined = self.resource(&import.resource)?.clone();
        Ok(Some((joined, run_as.ctx(self.clock().clone(), Via::Import)?, import.state.as_str())))
    }
}
