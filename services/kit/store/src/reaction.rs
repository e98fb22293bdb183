//! A transaction in which the effects of other services' events are written, tenant by tenant.
use std::sync::Arc;

use rapport_kernel::{Ctx, Error};
use sqlx::{Executor as _, PgConnection};

use crate::{Db, OpenTx, TenantTx, error::database, fields::TenantFields};

/// The transaction, between tenants.
#[derive(Debug)]
pub struct Reaction {
    db: Db,
    tx: Option<OpenTx>,
    /// Whether events were written in it.
    emitted: bool,
}

/// BEGIN; what takes longer than this is not worth that other events wait behind it.
const BEGIN: &str = "BEGIN; SET LOCAL statement_timeout = '10s'";

impl Db {
    /// Begins a transaction for the effects of events.
    pub async fn begin_reaction(&self) -> Result<Reaction, Error> {
        Ok(Reaction { db: self.clone(), tx: Some(self.open(BEGIN).await?), emitted: false })
    }
}

impl Reaction {
    /// The connection, for what the effects have in common. In no tenant.
    pub fn conn(&mut self) -> Result<&mut PgConnection, Error> {
        self.tx.as_mut().ok_or_else(over)?.conn()
    }

    /// Enters a tenant: `leave` or `give_up` comes next.
    pub async fn enter(&mut self, ctx: Ctx) -> Result<TenantTx, Error> {
        let seen = self.db.all_seen(&ctx);
        let tenant = ctx.tenant.uuid();
        let version: i64 = sqlx::query_scalar("SELECT rapport.react($1, $2)")
            .bind(tenant)
            .bind(&seen)
            .fetch_one(self.conn()?)
            .await
            .map_err(database)?;
        let fields = match self.db.known_fields(tenant).filter(|known| known.version == version) {
            Some(known) => known,
            None => Arc::new(TenantFields::read(self.conn()?, tenant).await?),
        };
        Ok(TenantTx::new(&self.db, self.tx.take(), ctx, fields, seen))
    }

    /// Leaves the tenant after everything that was collected for it is written.
    pub async fn leave(&mut self, mut tx: TenantTx) -> Result<(), Error> {
        let written = tx.flush().await;
        self.emitted |= tx.has_emitted();
        self.tx = tx.into_open();
        written
    }

    /// Leaves the tenant and forgets what was collected and is not written yet.
    pub fn give_up(&mut self, tx: TenantTx) {
        self.tx = tx.into_open();
    }

    /// Marks a place to go back to.
    pub async fn mark(&mut self) -> Result<(), Error> {
        self.conn()?.execute("SAVEPOINT mark").await.map(drop).map_err(database)
    }

    /// Goes back to the place that was marked last: what came after it has not happened.
    pub async fn go_back(&mut self) -> Result<(), Error> {
        self.conn()?.execute("ROLLBACK TO SAVEPOINT mark").await.map(drop).map_err(database)
    }

    /// Commits.
    pub async fn commit(mut self) -> Result<(), Error> {
        self.tx.take().ok_or_else(over)?.commit().await?;
        if self.emitted {
            self.db.announce();
        }
        Ok(())
    }
}

fn over() -> Error {
    Error::internal("a tenant of this transaction was not left, so that nothing of it may stay")
}
