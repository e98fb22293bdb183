//! How a user signs in: the hash of the password, and the failed attempts that count towards a lock-out.
mod lockout;

use rapport_kernel::{Ctx, Error, Id, Principal};
use rapport_store::{Side, TenantTx, database};
use serde_json::json;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

pub(crate) use lockout::Lockout;

use super::{User, store};
use crate::{Shared, session};

const CREDENTIALS: Side = Side {
    table: "credentials",
    columns: "user_id, hash, change_time, failures, locked_until",
    key: "user_id",
    replaces: true,
};

/// A user's password, hashed.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct Credential {
    pub(crate) hash: String,
    #[sqlx(flatten)]
    pub(crate) lockout: Lockout,
}

/// Sets the password, and forgets failed attempts.
pub(super) fn set(tx: &mut TenantTx, user: Id<User>, hash: &str) -> Result<(), Error> {
    let now = tx.now();
    let row =
        json!({"user_id": user, "hash": hash, "change_time": now, "failures": [], "locked_until": null});
    tx.side_insert(CREDENTIALS, &row)
}

/// The user's password; `None` when none was chosen yet.
pub(crate) async fn find(
    conn: &mut PgConnection,
    tenant: Uuid,
    user: Id<User>,
) -> Result<Option<Credential>, Error> {
    sqlx::query_as(
        "SELECT hash, failures, locked_until FROM credentials WHERE tenant_id = $1 AND user_id = $2",
    )
    .bind(tenant)
    .bind(user)
    .fetch_optional(conn)
    .await
    .map_err(database)
}

/// The same, held until the end of the transaction.
pub(crate) async fn hold(
    conn: &mut PgConnection,
    tenant: Uuid,
    user: Id<User>,
) -> Result<Option<Credential>, Error> {
    sqlx::query_as(
        "SELECT hash, failures, locked_until FROM credentials WHERE tenant_id = $1 AND user_id = $2 FOR UPDATE",
    )
    .bind(tenant)
    .bind(user)
    .fetch_optional(conn)
    .await
    .map_err(database)
}

/// Keeps what became of the attempts.
pub(crate) async fn count(
    conn: &mut PgConnection,
    tenant: Uuid,
    user: Id<User>,
    lockout: &Lockout,
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE credentials SET failures = $3, locked_until = $4 WHERE tenant_id = $1 AND user_id = $2",
    )
    .bind(tenant)
    .bind(user)
    .bind(&lockout.failures)
    .bind(lockout.locked_until)
    .execute(conn)
    .await
    .map_err(database)?;
    Ok(())
}

/// Replaces a hash by one of the same password that takes more effort.
pub(crate) async fn rehash(
    conn: &mut PgConnection,
    tenant: Uuid,
    user: Id<User>,
    old: &str,
    new: &str,
) -> Result<(), Error> {
    sqlx::query("UPDATE credentials SET hash = $4 WHERE tenant_id = $1 AND user_id = $2 AND hash = $3")
        .bind(tenant)
        .bind(user)
        .bind(old)
        .bind(new)
        .execute(conn)
        .await
        .map_err(database)?;
    Ok(())
}

/// Changes the caller's own password; the caller's other sessions end. Wrong attempts count like failed sign-ins, so that
/// a session that was left open does not serve for guessing.
pub(super) async fn change(shared: &Shared, ctx: &Ctx, current: String, new: String) -> Result<(), Error> {
    let Principal::User(id) = ctx.principal else {
        return Err(Error::Denied("only people have passwords".into()));
    };
    let id = Id::<User>::new(id);
    let mut tx = shared.db.begin(ctx).await?;
    let tenant = tx.tenant();
    let user = store::get(tx.conn().await?, tenant, id).await?;
    let found = find(tx.conn().await?, tenant, id).await?.ok_or_else(wrong)?;
    tx.finish().await?;

    // No transaction is held while hashes are computed.
    let matches = shared.passwords.verify(current.clone(), Some(found.hash.clone())).await?;
    if !matches || found.lockout.is_locked(ctx.now()) {
        return Err(count_wrong(shared, ctx, id, &found).await?);
    }
    if new == current {
        return Err(Error::invalid("new_password", "is the current password"));
    }
    shared.passwords.check("new_password", new.clone(), user.owner()).await?;
    let hash = shared.passwords.hash(new).await?;

    let mut tx = shared.db.begin(ctx).await?;
    let held = hold(tx.conn().await?, tenant, id).await?.ok_or_else(wrong)?;
    if held.hash != found.hash {
        return Err(wrong());
    }
    session::store::end_all(&mut tx, id, ctx.session).await?;
    set(&mut tx, id, &hash)?;
    tx.finish().await
}

/// Counts a wrong attempt; says what to answer.
async fn count_wrong(shared: &Shared, ctx: &Ctx, id: Id<User>, found: &Credential) -> Result<Error, Error> {
    let now = ctx.now();
    if !found.lockout.is_locked(now) {
        let mut tx = shared.db.begin(ctx).await?;
        let tenant = tx.tenant();
        if let Some(held) = hold(tx.conn().await?, tenant, id).await? {
            count(tx.conn().await?, tenant, id, &held.lockout.failed(now)).await?;
        }
        tx.finish().await?;
    }
    Ok(wrong())
}

fn wrong() -> Error {
    Error::rule(
        "CURRENT_PASSWORD_WRONG",
        "the current password is wrong, or was tried wrongly too often; try again later",
    )
}
