//! A transaction in which the effects of other services' events are written, tenant by tenant.
use std::{fmt::Write as _, sync::Arc};

use rapport_kernel::{Ctx, Error};
use sqlx::{Executor as _, PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use crate::{Db, OpenTx, TenantTx, error::database, fields::TenantFields};

/// The transaction, between tenants.
#[derive(Debug)]
pub struct Reaction {
    db: Db,
    tx: Option<OpenTx>,
    /// The tenant that it began in.
    begun_in: Option<BegunIn>,
    /// Whether it has entered a tenant.
    entered: bool,
    /// Tenants of whom events were written in it.
    emitted: Vec<Uuid>,
}

/// A tenant, what is seen there, and the version of its custom fields.
#[derive(Debug)]
struct BegunIn {
    tenant: Uuid,
    seen: String,
    fields_version: i64,
}

/// BEGIN; what takes longer than this is not worth that other events wait behind it.
const BEGIN: &str = "BEGIN; SET LOCAL statement_timeout = '10s'";

impl Db {
    /// Begins a transaction for the effects of events.
    pub async fn begin_reaction(&self) -> Result<Reaction, Error> {
        Ok(self.begin_reaction_with("SELECT", None).await?.0)
    }

    /// Begins one with a first statement, in one round trip; gives its rows too. Its values stand in it as literals.
    ///
    /// Whoever says where the first effects are written, `enters` there without another round trip.
    pub async fn begin_reaction_with(
        &self,
        first: &str,
        enters: Option<&Ctx>,
    ) -> Result<(Reaction, Vec<PgRow>), Error> {
        let mut begin = format!("{BEGIN}; {first}");
        let entry = enters.map(|ctx| (ctx.tenant.uuid(), self.all_seen(ctx)));
        if let Some((tenant, seen)) = &entry {
            let _ = write!(begin, "; SELECT rapport.react('{tenant}', '{seen}')");
        }
        let (tx, mut rows) = self.open_with(begin).await?;
        let begun_in = match entry {
            Some((tenant, seen)) => {
                let last = rows.pop().ok_or_else(|| Error::internal("a tenant was entered without a row"))?;
                Some(BegunIn { tenant, seen, fields_version: last.try_get(0).map_err(database)? })
            }
            None => None,
        };
        Ok((Reaction { db: self.clone(), tx: Some(tx), begun_in, entered: false, emitted: Vec::new() }, rows))
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
        let begun_in = self.begun_in.take().filter(|begun| begun.tenant == tenant && begun.seen == seen);
        let version = match begun_in {
            Some(begun) => begun.fields_version,
            None => sqlx::query_scalar("SELECT rapport.react($1, $2)")
                .bind(tenant)
                .bind(&seen)
                .fetch_one(self.conn()?)
                .await
                .map_err(database)?,
        };
        let fields = match self.db.known_fields(tenant).filter(|known| known.version == version) {
            Some(known) => known,
            None => {
                let fields = Arc::new(TenantFields::read(self.conn()?, tenant).await?);
                // What was read before an effect was written is there for everybody.
                if !self.entered {
                    self.db.know_fields(tenant, fields.clone());
                }
                fields
            }
        };
        self.entered = true;
        Ok(TenantTx::new(&self.db, self.tx.take(), ctx, fields, seen))
    }

    /// Leaves the tenant after everything that was collected for it is written.
    pub async fn leave(&mut self, mut tx: TenantTx) -> Result<(), Error> {
        let written = tx.flush().await;
        if tx.has_emitted() {
            self.emitted.push(tx.tenant());
        }
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
        self.announce();
        Ok(())
    }

    /// Commits after a last statement, in one round trip, and does not wait until it is on disk. That statement's values stand
    /// in it as literals.
    ///
    /// For what is done again when it is gone: effects of events, and how far they brought the hearer, are there together or
    /// not at all. What follows from them elsewhere, a number in the log or a job that is taken, waits for the disk when it is
    /// committed itself, and with it for everything before.
    pub async fn commit_asynchronously(mut self, last: &str) -> Result<(), Error> {
        self.tx.take().ok_or_else(over)?.commit_asynchronously(last).await?;
        self.announce();
        Ok(())
    }

    fn announce(&self) {
        self.emitted.iter().for_each(|tenant| self.db.announce(*tenant));
    }
}

fn over() -> Error {
    Error::internal("a tenant of this transaction was not left, so that nothing of it may stay")
}
