//! Writing what signing in and calling leave behind, also in a tenant that is only read for now: its people sign in to read.
//! The store makes such a tenant's transactions read-only, so there the platform's role writes, which the same policies bind
//! to the tenant, and nothing is told.
use rapport_kernel::{Ctx, Error, Principal, TenantState, Via};
use rapport_proto::Event;
use rapport_store::{Db, OpenTx, Resource, TenantTx, database};
use sqlx::PgConnection;
use uuid::Uuid;

/// A transaction that writes in one tenant, whatever its state.
pub(crate) enum Writing {
    /// In a tenant that may be written: what happens is told.
    Told(Box<TenantTx>),
    /// In one that may only be read.
    Untold(OpenTx),
}

impl Writing {
    /// Begins in the tenant of `ctx`, which is in this state.
    pub(crate) async fn begin(db: &Db, ctx: &Ctx, state: TenantState) -> Result<Self, Error> {
        if state == TenantState::Active {
            return Ok(Self::Told(Box::new(db.begin(ctx).await?)));
        }
        let mut tx = db.platform().await?;
        sqlx::query("SELECT set_config('rapport.tenant', $1::text, true)")
            .bind(ctx.tenant)
            .execute(tx.conn()?)
            .await
            .map_err(database)?;
        Ok(Self::Untold(tx))
    }

    /// The connection.
    pub(crate) async fn conn(&mut self) -> Result<&mut PgConnection, Error> {
        match self {
            Self::Told(tx) => tx.conn().await,
            Self::Untold(tx) => tx.conn(),
        }
    }

    /// Whatever is told from here on was done by this caller.
    pub(crate) async fn act_as(
        &mut self,
        principal: Principal,
        on_behalf_of: Option<Uuid>,
        via: Via,
    ) -> Result<(), Error> {
        match self {
            Self::Told(tx) => {
                let ctx = Ctx { principal, on_behalf_of, via, ..tx.ctx().clone() };
                tx.follow(ctx).await
            }
            Self::Untold(_) => Ok(()),
        }
    }

    /// Tells what happened to a record, where that may be told.
    pub(crate) fn tell<R: Resource, E: Event>(&mut self, record: &R, event: &E) -> Result<(), Error> {
        match self {
            Self::Told(tx) => tx.emit(record, event),
            Self::Untold(_) => Ok(()),
        }
    }

    /// Commits.
    pub(crate) async fn finish(self) -> Result<(), Error> {
        match self {
            Self::Told(tx) => tx.finish().await,
            Self::Untold(tx) => tx.commit().await,
        }
    }
}
