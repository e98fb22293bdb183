//! An import in work: who holds it, how to find that it is still ours, and how it ends.
use rapport_kernel::{Ctx, Error};
use rapport_store::{Sabotage, TenantTx};
use tokio_util::sync::CancellationToken;

use crate::{
    Import, Imports,
    state::{Phase, State},
    work::{self, Held},
};

/// A batch that meets somebody else's change is tried so many times before it is taken apart.
pub(crate) const TRIES: u32 = 3;

/// An import that is held, and what it takes to work on it.
pub(crate) struct Job {
    pub(crate) imports: Imports,
    pub(crate) ctx: Ctx,
    pub(crate) held: Held,
    pub(crate) stop: CancellationToken,
}

/// How the work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// There is nothing more to do, or somebody else does it.
    Over,
    /// This process stops; others may go on at once.
    Stopped,
    /// It cannot go on for so many seconds.
    Later(i64),
}

/// How a batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// There are more.
    On,
    /// It was the last.
    Last,
    /// The import is not ours any more: cancelled, or taken over.
    Lost,
}

impl Job {
    pub(crate) async fn begin(&self) -> Result<TenantTx, Error> {
        self.imports.count_begun();
        self.imports.db().begin(&self.ctx).await
    }

    /// For tests: whether it goes on without asking if the import is still ours.
    pub(crate) fn is_unfenced(&self) -> bool {
        self.imports.db().sabotage() == Sabotage::NoFence
    }

    /// The import, locked, if it is still ours to do this with.
    pub(crate) async fn fence(&self, tx: &mut TenantTx, phase: Phase) -> Result<Option<Import>, Error> {
        if self.is_unfenced() {
            return Ok(Some(tx.get::<Import>(self.held.import).await?));
        }
        let import = match tx.get_for_update::<Import>(self.held.import).await {
            Ok(import) if import.state.work() == Some(phase) => import,
            Ok(_) | Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let until = tx.now().plus_seconds(self.imports.options().lease_seconds);
        Ok(work::hold(tx, self.held, until).await?.then_some(import))
    }
}

/// Whether a single row, or a single record, may be at fault.
pub(crate) fn may_be_one(error: &Error) -> bool {
    match error {
        Error::Unavailable(_) | Error::Denied(_) | Error::Unauthenticated | Error::Exhausted { .. } => false,
        Error::Rule { reason, .. } => !["TENANT_NOT_SERVED", "TENANT_READ_ONLY"].contains(reason),
        _ => true,
    }
}

/// Marks an import that cannot go on, with why.
///
/// # Errors
/// Those of the database; then the import stays as it is, until somebody takes it over.
pub(crate) async fn fail(imports: &Imports, held: Held, why: &Error) -> Result<(), Error> {
    let ctx = Ctx::system(held.tenant, imports.clock().clone());
    let job = Job { imports: imports.clone(), ctx, held, stop: CancellationToken::new() };
    let mut tx = job.begin().await?;
    let import = tx.get::<Import>(held.import).await?;
    let Some(phase) = import.state.work() else { return Ok(()) };
    let Some(before) = job.fence(&mut tx, phase).await? else { return Ok(()) };
    let after = Import { state: State::Failed, failure: told(why, phase), ..before.moved_on(tx.now()) };
    Import::save(&mut tx, &before, &after)?;
    work::dequeue(&mut tx, before.id).await?;
    tx.finish().await
}

/// Why an import failed, for whoever started it, and what they can do.
fn told(why: &Error, phase: Phase) -> String {
    let again = match phase {
        Phase::None | Phase::Check => "check it again",
        Phase::Run => "start it again to go on",
        Phase::Undo => "undo it again to go on",
    };
    match why {
        Error::Unavailable(_) => format!("what it needs did not answer for too long; {again}"),
        Error::Internal(_) => {
            format!("a fault of Rapport's own, which its log tells under the import's id; {again}")
        }
        other => other.to_string(),
    }
}

/// What an error says for the log: the cause of a fault, and of what is told to callers only the reason, since its text may
/// speak of people.
pub(crate) fn cause(error: &Error) -> String {
    match error {
        Error::Internal(cause) | Error::Unavailable(cause) => cause.to_string(),
        other => other.reason().to_owned(),
    }
}
