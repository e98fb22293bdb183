//! Reading one record, under the caller's scope.
use std::collections::HashSet;

use rapport_kernel::{Ctx, Error, Scope};
use sqlx::{Postgres, QueryBuilder, Row as _, postgres::PgRow};
use uuid::Uuid;

use crate::{Resource, TenantTx, error::database};

/// On which of a resource's records the caller has a right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// All of them.
    All,
    /// Those of this user's unit and of the units below it, and what `Own` has.
    Unit(Uuid),
    /// Those that this user owns, and those shared with them.
    Own(Uuid),
}

/// The share that the caller has on a record.
const SHARE: &str = "(SELECT s.level FROM record_shares s WHERE s.tenant_id = $1 AND s.resource = $2 \
                     AND s.record_id = t.id AND s.principal = $3)";

/// The units that the caller sees: their own and those below it.
const UNITS: &str = "SELECT b.unit_id FROM directory_users u JOIN directory_units_below b \
                     ON b.tenant_id = u.tenant_id AND b.above_id = u.unit_id WHERE u.tenant_id = $1 AND u.id = $3";

impl TenantTx {
    /// Which records of `R` the caller sees.
    pub(crate) fn sight<R: Resource>(&self) -> Result<Sight, Error> {
        if R::READ.is_empty() {
            return Ok(Sight::All);
        }
        let scope = self.ctx().grants.scope(R::READ).ok_or_else(|| Error::denied(R::READ))?;
        if R::OWNER.is_none() || scope == Scope::All {
            return Ok(Sight::All);
        }
        // Whoever is nobody's user owns nothing, and is in no unit.
        let user = self.ctx().user().unwrap_or(Uuid::nil());
        Ok(if scope == Scope::Unit && R::UNIT.is_some() { Sight::Unit(user) } else { Sight::Own(user) })
    }

    /// Reads a record.
    ///
    /// # Errors
    /// `NotFound` when there is none, or the caller may not see it, or it was deleted.
    pub async fn get<R: Resource>(&mut self, id: Uuid) -> Result<R, Error> {
        let record = self.find::<R>(id, false).await?.record;
        if record.delete_time().is_some() {
            return Err(Error::not_found(R::NAME, id));
        }
        Ok(record)
    }

    /// Reads a record, deleted or not.
    ///
    /// # Errors
    /// `NotFound` when there is none, or the caller may not see it.
    pub async fn get_even_deleted<R: Resource>(&mut self, id: Uuid) -> Result<R, Error> {
        Ok(self.find::<R>(id, false).await?.record)
    }

    /// Reads a record that this call is going to change, and holds it until the end of the transaction.
    ///
    /// # Errors
    /// `NotFound` as for `get`; `Denied` when the caller sees it but may not change it.
    pub async fn get_for_update<R: Resource>(&mut self, id: Uuid) -> Result<R, Error> {
        let record = self.get_for_update_even_deleted::<R>(id).await?;
        if record.delete_time().is_some() {
            return Err(Error::not_found(R::NAME, id));
        }
        Ok(record)
    }

    /// The same, deleted or not.
    ///
    /// # Errors
    /// As for `get_for_update`.
    pub async fn get_for_update_even_deleted<R: Resource>(&mut self, id: Uuid) -> Result<R, Error> {
        let held = self.find::<R>(id, true).await?;
        held.may_change(self.ctx())?;
        Ok(held.record)
    }

    /// Reads those of these records that the caller sees, for update, in the order of their ids (so that two batches that
    /// meet do not wait for each other). Deleted ones are among them.
    pub async fn lock_many<R: Resource>(&mut self, ids: &[Uuid]) -> Result<Vec<Held<R>>, Error> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let sight = self.sight::<R>()?;
        let mut sql = self.select::<R>(sight);
        sql.push(" AND t.id = ANY(").push_bind(ids.to_vec()).push(") ORDER BY t.id FOR UPDATE OF t");
        let rows = sql.build().fetch_all(self.conn().await?).await.map_err(database)?;
        rows.iter().map(Held::from_row).collect()
    }

    /// Reads those of these records that the caller sees and that were not deleted, in no order.
    pub async fn get_many<R: Resource>(&mut self, ids: &[Uuid]) -> Result<Vec<R>, Error> {
        let sight = self.sight::<R>()?;
        let mut sql = self.select::<R>(sight);
        sql.push(" AND t.id = ANY(").push_bind(ids.to_vec()).push(")");
        if R::SOFT_DELETE {
            sql.push(" AND t.delete_time IS NULL");
        }
        let rows = sql.build().fetch_all(self.conn().await?).await.map_err(database)?;
        rows.iter().map(|row| R::from_row(row).map_err(database)).collect()
    }

    /// Which of these records the caller sees, deleted ones too; `None` when it is all there are.
    ///
    /// # Errors
    /// `Denied` when the caller's roles read no records of this kind.
    pub async fn visible<R: Resource>(&mut self, ids: &[Uuid]) -> Result<Option<HashSet<Uuid>>, Error> {
        let sight = self.sight::<R>()?;
        if sight == Sight::All {
            return Ok(None);
        }
        let mut sql = self.select::<R>(sight);
        sql.push(" AND t.id = ANY(").push_bind(ids.to_vec()).push(")");
        let rows = sql.build().fetch_all(self.conn().await?).await.map_err(database)?;
        rows.iter().map(|row| row.try_get("id").map_err(database)).collect::<Result<_, _>>().map(Some)
    }

    async fn find<R: Resource>(&mut self, id: Uuid, lock: bool) -> Result<Held<R>, Error> {
        let sight = self.sight::<R>()?;
        let mut sql = self.select::<R>(sight);
        sql.push(" AND t.id = ").push_bind(id);
        if lock {
            sql.push(" FOR UPDATE OF t");
        }
        let row = sql.build().fetch_optional(self.conn().await?).await.map_err(database)?;
        let row = row.ok_or_else(|| Error::not_found(R::NAME, id))?;
        Held::from_row(&row)
    }

    /// `SELECT … WHERE` the tenant's and in sight; `$1` to `$3` are tenant, resource and user.
    fn select<R: Resource>(&self, sight: Sight) -> QueryBuilder<Postgres> {
        let mut sql = QueryBuilder::new("SELECT ");
        sql.push(qualified(R::COLUMNS));
        let user = self.ctx().user().unwrap_or(Uuid::nil());
        let scoped = R::OWNER.is_some();
        sql.push(if scoped { format!(", {SHARE} AS share") } else { ", NULL::text AS share".to_owned() });
        // Each change of a batch has a permission of its own, with its own scope.
        let by_unit = self.ctx().grants.iter().any(|(_, scope)| scope == Scope::Unit);
        let in_unit = R::UNIT.map(|unit| format!("t.{unit} IN ({UNITS})"));
        let of_unit = in_unit.as_deref().filter(|_| by_unit).unwrap_or("false");
        sql.push(format_args!(", coalesce({of_unit}, false) AS in_unit"));
        sql.push(" FROM ").push(R::TABLE).push(" t WHERE t.tenant_id = ").push_bind(self.tenant());
        if scoped {
            // Bound even where only the share needs them, so that the places of SHARE hold.
            sql.push(" AND ")
                .push_bind(R::NAME)
                .push("::text IS NOT NULL AND ")
                .push_bind(user)
                .push("::uuid IS NOT NULL");
        }
        if let (Sight::Own(_) | Sight::Unit(_), Some(owner)) = (sight, R::OWNER) {
            let in_unit = in_unit.filter(|_| matches!(sight, Sight::Unit(_)));
            let or_in_unit = in_unit.map_or_else(String::new, |in_unit| format!(" OR {in_unit}"));
            sql.push(format_args!(" AND (t.{owner} = $3 OR {SHARE} IS NOT NULL{or_in_unit})"));
        }
        sql
    }
}

/// A record that was read, and what the caller may do with it.
#[derive(Clone, Debug)]
pub struct Held<R> {
    /// The record.
    pub record: R,
    share: Option<String>,
    /// Whether its unit is the caller's or stands below it, where that matters.
    in_unit: bool,
}

impl<R: Resource> Held<R> {
    fn from_row(row: &PgRow) -> Result<Self, Error> {
        Ok(Self {
            record: R::from_row(row).map_err(database)?,
            share: row.try_get("share").map_err(database)?,
            in_unit: row.try_get("in_unit").map_err(database)?,
        })
    }

    /// # Errors
    /// `Denied` when the scope of this call's permission does not reach the record.
    pub fn may_change(&self, ctx: &Ctx) -> Result<(), Error> {
        let user = ctx.user();
        let may = R::OWNER.is_none()
            || ctx.scope == Scope::All
            || (ctx.scope == Scope::Unit && self.in_unit)
            || (user.is_some() && self.record.owner() == user)
            || self.share.as_deref() == Some("write");
        if may {
            Ok(())
        } else {
            Err(Error::Denied(format!("{} `{}` may be seen but not changed", R::NAME, self.record.id())))
        }
    }
}

/// The columns, each of the table `t`.
pub(crate) fn qualified(columns: &str) -> String {
    columns.split(", ").map(|column| format!("t.{column}")).collect::<Vec<_>>().join(", ")
}
