//! Shares: rights on one record, given to one user beyond what roles give.
use rapport_kernel::Error;
use serde_json::json;
use sqlx::FromRow;
use uuid::Uuid;

use crate::{Resource, TenantTx, error::database, writes::Side};

/// How much a share gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum ShareLevel {
    /// The record may be read.
    Read,
    /// The record may be read and changed.
    Write,
}

/// A right on one record.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Share {
    /// Who has it.
    pub principal: Uuid,
    /// How much.
    pub level: ShareLevel,
}

/// The most shares that one record has.
const MAX_SHARES: i64 = 1_000;

const SHARES: Side = Side {
    table: "record_shares",
    columns: "resource, record_id, principal, level, create_time",
    key: "resource, record_id, principal",
    replaces: true,
};

impl TenantTx {
    /// The shares of a record that the caller sees.
    pub async fn shares<R: Resource>(&mut self, record: &R) -> Result<Vec<Share>, Error> {
        let tenant = self.tenant();
        sqlx::query_as(
            "SELECT principal, level FROM record_shares
             WHERE tenant_id = $1 AND resource = $2 AND record_id = $3 ORDER BY create_time, principal LIMIT $4",
        )
        .bind(tenant)
        .bind(R::NAME)
        .bind(record.id())
        .bind(MAX_SHARES)
        .fetch_all(self.conn().await?)
        .await
        .map_err(database)
    }

    /// Shares a record, or changes the level of a share.
    ///
    /// # Errors
    /// `Rule` when the record has as many shares as one may have.
    pub async fn share<R: Resource>(&mut self, record: &R, share: &Share) -> Result<(), Error> {
        let shares = self.shares(record).await?;
        let known = shares.iter().any(|s| s.principal == share.principal);
        if !known && i64::try_from(shares.len()).unwrap_or(MAX_SHARES) >= MAX_SHARES {
            return Err(Error::rule(
                "TOO_MANY_SHARES",
                format!("a {} has at most {MAX_SHARES} shares", R::NAME),
            ));
        }
        let level = match share.level {
            ShareLevel::Read => "read",
            ShareLevel::Write => "write",
        };
        let now = self.now();
        let row = json!({
            "resource": R::NAME, "record_id": record.id(), "principal": share.principal, "level": level, "create_time": now,
        });
        self.side_insert(SHARES, &row)
    }

    /// Takes a share back; says what it was.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub async fn unshare<R: Resource>(&mut self, record: &R, principal: Uuid) -> Result<Share, Error> {
        let share = self.shares(record).await?.into_iter().find(|share| share.principal == principal);
        let share = share.ok_or_else(|| Error::not_found("share", principal))?;
        let row = json!({"resource": R::NAME, "record_id": record.id(), "principal": principal});
        self.side_delete(SHARES, &row)?;
        Ok(share)
    }
}
