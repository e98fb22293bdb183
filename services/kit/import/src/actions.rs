//! Dry run, start, cancel, undo: what sets the worker to work, and what stops it.
use rapport_kernel::{Ctx, Error, Id};
use rapport_proto::imports::v1 as pb;
use rapport_store::TenantTx;
use tonic::Response;
use uuid::Uuid;

use crate::{
    Import, Imports,
    import::Progress,
    issues::Issue,
    mapping, run_as,
    state::{Action, Phase, State},
    work,
};

impl Imports {
    /// Sets out to check every row without writing anything.
    ///
    /// # Errors
    /// `Rule` in a state that does not allow it, and when something required is not mapped.
    pub async fn dry_run(
        &self,
        ctx: &Ctx,
        request: &pb::DryRunImportRequest,
    ) -> Result<Response<pb::Import>, Error> {
        let (mut tx, before) = self.held(ctx, &request.id, Action::DryRun).await?;
        self.check_mappings(&tx, &before)?;
        Issue::forget(&mut tx, before.id).await?;
        let after = Import { progress: Progress::default(), ..before.moved_on(tx.now()) };
        self.set_out(tx, &before, after, State::Checking, Phase::Check).await
    }

    /// Sets out to write the rows, or to go on after a failure.
    ///
    /// # Errors
    /// As for `dry_run`.
    pub async fn start(
        &self,
        ctx: &Ctx,
        request: &pb::StartImportRequest,
    ) -> Result<Response<pb::Import>, Error> {
        let (mut tx, before) = self.held(ctx, &request.id, Action::Start).await?;
        self.check_mappings(&tx, &before)?;
        let mut after = before.moved_on(tx.now());
        if before.phase != Phase::Run {
            Issue::forget(&mut tx, before.id).await?;
            after.progress = Progress::default();
        }
        self.set_out(tx, &before, after, State::Running, Phase::Run).await
    }

    /// Stops a run after the batch in hand, or a dry run.
    ///
    /// # Errors
    /// `Rule` when it is not being worked on.
    pub async fn cancel(
        &self,
        ctx: &Ctx,
        request: &pb::CancelImportRequest,
    ) -> Result<Response<pb::Import>, Error> {
        // The batch in hand holds the import: this waits until it is over.
        let (mut tx, before) = self.held(ctx, &request.id, Action::Cancel).await?;
        let mut after = before.moved_on(tx.now());
        if before.state == State::Checking {
            // Nothing was written, so nothing is over.
            after.unchecked();
            Issue::forget(&mut tx, before.id).await?;
        } else {
            after.state = State::Cancelled;
        }
        Import::save(&mut tx, &before, &after)?;
        work::dequeue(&mut tx, before.id).await?;
        tx.commit(after.into()).await
    }

    /// Sets out to take back what the import wrote.
    ///
    /// # Errors
    /// `Rule` in a state that does not allow it.
    pub async fn undo(
        &self,
        ctx: &Ctx,
        request: &pb::UndoImportRequest,
    ) -> Result<Response<pb::Import>, Error> {
        let (tx, before) = self.held(ctx, &request.id, Action::Undo).await?;
        let after = before.moved_on(tx.now());
        self.set_out(tx, &before, after, State::Undoing, Phase::Undo).await
    }

    /// The import, held for an action that its state allows.
    async fn held(&self, ctx: &Ctx, id: &str, action: Action) -> Result<(TenantTx, Import), Error> {
        let id: Uuid = Id::<Import>::parse("id", id)?.uuid();
        let mut tx = self.db().begin(ctx).await?;
        let import = tx.get_for_update::<Import>(id).await?;
        action.allow(import.state, import.phase)?;
        Ok((tx, import))
    }

    /// Whether the mappings are enough to begin; custom fields may have changed since they were made.
    fn check_mappings(&self, tx: &TenantTx, import: &Import) -> Result<(), Error> {
        let targets = self.resource(&import.resource)?.targets(tx);
        mapping::check(&import.mappings, &targets, import.column_names().as_deref())?;
        mapping::complete(&import.mappings, &targets, &import.source)
    }

    /// Hands the import over to the worker, with the caller's rights.
    async fn set_out(
        &self,
        mut tx: TenantTx,
        before: &Import,
        after: Import,
        state: State,
        phase: Phase,
    ) -> Result<Response<pb::Import>, Error> {
        let after = Import { state, phase, failure: String::new(), ..after };
        Import::save(&mut tx, before, &after)?;
        run_as::keep(&mut tx, after.id).await?;
        work::enqueue(&mut tx, after.id).await?;
        let answer = tx.commit(after.into()).await?;
        self.woken().notify_one();
        Ok(answer)
    }
}
