//! The queue of imports to be worked on, of all tenants, and the leases on them.
//!
//! An import is put there in the transaction that starts it, and taken out in the one that ends it. Whoever takes an import
//! holds it by a lease, which every batch renews in its own transaction; when a process dies, its leases run out and others
//! go on. At most one import of a tenant is worked on at a time.
use rapport_kernel::{Error, Id, Instant, Tenant};
use rapport_store::{Db, TenantTx, database};
use uuid::Uuid;

/// An import that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) tenant: Id<Tenant>,
    pub(crate) import: Uuid,
    /// Who holds it: an id for each time that one is taken.
    pub(crate) holder: Uuid,
}

/// Asks for an import to be worked on.
pub(crate) async fn enqueue(tx: &mut TenantTx, import: Uuid) -> Result<(), Error> {
    let now = tx.now();
    sqlx::query("SELECT rapport.enqueue_import($1, $2)")
        .bind(import)
        .bind(now)
        .execute(tx.conn().await?)
        .await
        .map(drop)
        .map_err(database)
}

/// Says that there is nothing more to do for an import.
pub(crate) async fn dequeue(tx: &mut TenantTx, import: Uuid) -> Result<(), Error> {
    sqlx::query("SELECT rapport.dequeue_import($1)")
        .bind(import)
        .execute(tx.conn().await?)
        .await
        .map(drop)
        .map_err(database)
}

/// Renews the lease for this transaction's batch; false when it was lost.
pub(crate) async fn hold(tx: &mut TenantTx, held: Held, until: Instant) -> Result<bool, Error> {
    sqlx::query_scalar("SELECT rapport.hold_import($1, $2, $3)")
        .bind(held.import)
        .bind(held.holder)
        .bind(until)
        .fetch_one(tx.conn().await?)
        .await
        .map_err(database)
}

/// Takes the import that has waited longest, of a tenant of whom none is worked on.
pub(crate) async fn take(db: &Db, holder: Uuid, now: Instant, until: Instant) -> Result<Option<Held>, Error> {
    let mut platform = db.platform().await?;
    // One at a time, or two could each take an import of the same tenant.
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('rapport.import_work', 0))")
        .execute(platform.conn()?)
        .await
        .map_err(database)?;
    let taken: Option<(Uuid, Uuid)> = sqlx::query_as(
        "UPDATE platform.import_work SET holder = $1, lease_until = $3
         WHERE (tenant_id, import_id) = (
           SELECT w.tenant_id, w.import_id FROM platform.import_work w
           WHERE w.lease_until <= $2
             AND NOT EXISTS (SELECT FROM platform.import_work o
               WHERE o.tenant_id = w.tenant_id AND o.import_id <> w.import_id AND o.lease_until > $2)
           ORDER BY w.enqueue_time, w.import_id LIMIT 1 FOR UPDATE SKIP LOCKED)
         RETURNING tenant_id, import_id",
    )
    .bind(holder)
    .bind(now)
    .bind(until)
    .fetch_optional(platform.conn()?)
    .await
    .map_err(database)?;
    platform.commit().await?;
    Ok(taken.map(|(tenant, import)| Held { tenant: Id::new(tenant), import, holder }))
}

/// Lets an import go until `until`, so that whoever comes then can take it.
pub(crate) async fn release(db: &Db, held: Held, until: Instant) -> Result<(), Error> {
    let mut platform = db.platform().await?;
    sqlx::query(
        "UPDATE platform.import_work SET holder = NULL, lease_until = $4
         WHERE tenant_id = $1 AND import_id = $2 AND holder = $3",
    )
    .bind(held.tenant)
    .bind(held.import)
    .bind(held.holder)
    .bind(until)
    .execute(platform.conn()?)
    .await
    .map_err(database)?;
    platform.commit().await
}

/// Takes an import that is no more out of the queue.
pub(crate) async fn forget(db: &Db, held: Held) -> Result<(), Error> {
    let mut platform = db.platform().await?;
    sqlx::query("DELETE FROM platform.import_work WHERE tenant_id = $1 AND import_id = $2 AND holder = $3")
        .bind(held.tenant)
        .bind(held.import)
        .bind(held.holder)
        .execute(platform.conn()?)
        .await
        .map_err(database)?;
    platform.commit().await
}
