//! Reading ahead: while a batch is being written, the next one is cut out of the file and its values are read, so that the
//! database and this process work at the same time.
//!
//! Values are read by a plan, which speaks of custom fields as they were when it was made. Each batch's transaction knows as of
//! which version they are; what was read as of another version is read again.
use std::{ops::Range, sync::Arc};

use arc_swap::ArcSwapOption;
use rapport_kernel::{Ctx, Error};
use rapport_store::TenantTx;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    bind::{Binding, Ready},
    feed::Feed,
    importable::Importable,
    rows::Rows,
    run::Trouble,
};

/// Rows that were read ahead.
pub(crate) struct Ahead<R> {
    pub(crate) feed: Feed,
    pub(crate) rows: Arc<Rows>,
    /// Their values, as of a version of the custom fields; `None` while no plan is known.
    pub(crate) ready: Option<(i64, Ready<R>)>,
}

/// Reads the values of rows. Clones share the plan, so that what one batch's transaction knows serves to read the next ahead.
pub(crate) struct Reader<I: Importable> {
    importable: Arc<I>,
    binding: Arc<Binding>,
    ctx: Ctx,
    plan: Arc<ArcSwapOption<Planned<I>>>,
}

/// A plan, and the version of the custom fields that it knows.
struct Planned<I: Importable> {
    version: i64,
    plan: Arc<I::Plan>,
}

impl<I: Importable> Clone for Reader<I> {
    fn clone(&self) -> Self {
        Self {
            importable: self.importable.clone(),
            binding: self.binding.clone(),
            ctx: self.ctx.clone(),
            plan: self.plan.clone(),
        }
    }
}

impl<I: Importable> Reader<I> {
    pub(crate) fn new(importable: Arc<I>, binding: Arc<Binding>, ctx: Ctx) -> Self {
        Self { importable, binding, ctx, plan: Arc::default() }
    }

    /// The plan as of the custom fields that the transaction knows; made where there is none yet.
    ///
    /// # Errors
    /// Those that the whole import fails by.
    fn plan(&self, tx: &TenantTx) -> Result<Arc<I::Plan>, Error> {
        let version = tx.fields_version();
        if let Some(known) = self.plan.load().as_ref().filter(|known| known.version == version) {
            return Ok(known.plan.clone());
        }
        let plan = Arc::new(self.importable.plan(tx, &self.binding.names())?);
        self.plan.store(Some(Arc::new(Planned { version, plan: plan.clone() })));
        Ok(plan)
    }

    /// Reads some rows by a plan.
    async fn read(
        &self,
        plan: Arc<I::Plan>,
        rows: &Arc<Rows>,
        range: Range<usize>,
    ) -> Result<Ready<I::Row>, Error> {
        let (importable, binding) = (self.importable.clone(), self.binding.clone());
        let (rows, ctx) = (rows.clone(), self.ctx.clone());
        // Work for the processor only: off the threads that serve other calls.
        tokio::task::spawn_blocking(move || binding.read(importable.as_ref(), &ctx, &plan, &rows, range))
            .await
            .map_err(|error| Error::internal(error.to_string()))
    }

    /// The values of some rows, as of the custom fields that the transaction knows: those that were read ahead, or read now.
    pub(crate) async fn values(
        &self,
        tx: &TenantTx,
        rows: &Arc<Rows>,
        range: Range<usize>,
        ahead: Option<(i64, Ready<I::Row>)>,
    ) -> Result<Ready<I::Row>, Trouble> {
        let plan = self.plan(tx).map_err(Trouble::Whole)?;
        match ahead {
            Some((known, ready)) if known == tx.fields_version() => Ok(ready),
            _ => Ok(self.read(plan, rows, range).await?),
        }
    }

    /// Begins to read the next rows, at most `most`.
    pub(crate) fn ahead(
        &self,
        mut feed: Feed,
        most: usize,
    ) -> AbortOnDropHandle<Result<Ahead<I::Row>, Error>> {
        let reader = self.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            let rows = Arc::new(feed.next(most).await?);
            let ready = match reader.plan.load_full() {
                // What fails here fails again where it is dealt with.
                Some(known) => {
                    let ready = reader.read(known.plan.clone(), &rows, 0..rows.len()).await;
                    ready.ok().map(|ready| (known.version, ready))
                }
                None => None,
            };
            Ok(Ahead { feed, rows, ready })
        }))
    }
}
