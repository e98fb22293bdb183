//! Building the index of a field that records have already.
//!
//! A tenant with few records gets it at once, in the transaction that asks for it. For more, a worker does it in pieces, each
//! a transaction of its own, and goes on after a crash where it stopped; until then lists are filtered without the index and
//! cannot be sorted by the field. Writers that know the field write its index rows themselves, and `rapport.emit` sends
//! those who do not back to begin again, so nothing is missed.
use rapport_kernel::{Clock, Ctx, Error, Id};
use sqlx::{AssertSqlSafe, FromRow};
use uuid::Uuid;

use super::{Definition, FieldKind, FieldState, value::MAX_KEY};
use crate::{Db, TenantTx, error::database};

/// Up to so many records are indexed at once.
const AT_ONCE: i64 = 5_000;
/// Records in one piece of the worker.
const PIECE: i64 = 2_000;

/// Indexes the field now, or leaves it to the worker; says in which state that leaves the field.
///
/// The caller has said that fields change, so that no writer of this tenant is under way.
///
/// # Errors
/// `Rule` when a record has a value that is too long for an index.
pub(super) async fn begin(
    tx: &mut TenantTx,
    field: &Definition,
    table: &'static str,
) -> Result<FieldState, Error> {
    refuse_long_values(tx, field, table).await?;
    let records = page(tx, table, Uuid::nil(), AT_ONCE, Hold::No).await?;
    if i64::try_from(records.len()).is_ok_and(|few| few < AT_ONCE) {
        index(tx, field, table, &records).await?;
        return Ok(FieldState::Active);
    }
    sqlx::query("SELECT rapport.index_field($1, $2)")
        .bind(field.id)
        .bind(&field.resource)
        .execute(tx.conn().await?)
        .await
        .map_err(database)?;
    Ok(FieldState::Indexing)
}

async fn refuse_long_values(tx: &mut TenantTx, field: &Definition, table: &'static str) -> Result<(), Error> {
    if !matches!(field.kind, FieldKind::Text | FieldKind::Url) {
        return Ok(());
    }
    let tenant = tx.tenant();
    let too_long: Option<Uuid> = sqlx::query_scalar(AssertSqlSafe(format!(
        "SELECT id FROM {table} WHERE tenant_id = $1 AND octet_length(attributes ->> $2) > $3 LIMIT 1"
    )))
    .bind(tenant)
    .bind(&field.key)
    .bind(i32::try_from(MAX_KEY).unwrap_or(i32::MAX))
    .fetch_optional(tx.conn().await?)
    .await
    .map_err(database)?;
    match too_long {
        None => Ok(()),
        Some(id) => {
            let message = format!(
                "{} `{id}` has a value of `{}` that is longer than the {MAX_KEY} bytes that an index takes",
                field.resource, field.key
            );
            Err(Error::rule("FIELD_TOO_LONG_TO_INDEX", message))
        }
    }
}

/// Whether records are kept from changing until the end of the transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hold {
    No,
    Yes,
}

/// The next records after `after`, in the order of their ids.
async fn page(
    tx: &mut TenantTx,
    table: &'static str,
    after: Uuid,
    limit: i64,
    hold: Hold,
) -> Result<Vec<Uuid>, Error> {
    let lock = if hold == Hold::Yes { " FOR SHARE" } else { "" };
    let tenant = tx.tenant();
    sqlx::query_scalar(AssertSqlSafe(format!(
        "SELECT id FROM {table} WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3{lock}"
    )))
    .bind(tenant)
    .bind(after)
    .bind(limit)
    .fetch_all(tx.conn().await?)
    .await
    .map_err(database)
}

/// Writes the index rows of these records anew: there may be old ones, from before the field was archived or its index was
/// given up.
async fn index(
    tx: &mut TenantTx,
    field: &Definition,
    table: &'static str,
    records: &[Uuid],
) -> Result<(), Error> {
    let (side, value) = match field.kind {
        FieldKind::Number => ("attribute_numbers", format!("(v #>> '{{}}')::numeric * {}, 0", factor(field))),
        FieldKind::Boolean => ("attribute_numbers", "(v = 'true')::int, 0".to_owned()),
        FieldKind::Date => ("attribute_dates", "(v #>> '{}')::date, '1970-01-01'".to_owned()),
        FieldKind::Instant => ("attribute_instants", "(v #>> '{}')::timestamptz, '1970-01-01Z'".to_owned()),
        _ => ("attribute_texts", "v #>> '{}', ''".to_owned()),
    };
    let tenant = tx.tenant();
    sqlx::query(AssertSqlSafe(format!(
        "DELETE FROM {side} WHERE tenant_id = $1 AND field_id = $2 AND record_id = ANY($3)"
    )))
    .bind(tenant)
    .bind(field.id)
    .bind(records)
    .execute(tx.conn().await?)
    .await
    .map_err(database)?;
    let from = format!(
        "FROM (SELECT id, attributes -> $4 AS v FROM {table} WHERE tenant_id = $1 AND id = ANY($3)) r"
    );
    let sql = if field.kind == FieldKind::MultiChoice {
        format!(
            "INSERT INTO {side} (tenant_id, field_id, record_id, present, value, position)
             SELECT $1, $2, id, e.value IS NOT NULL, coalesce(e.value, ''), coalesce(e.n - 1, 0)
             {from} LEFT JOIN LATERAL jsonb_array_elements_text(v) WITH ORDINALITY AS e (value, n) ON true"
        )
    } else {
        format!(
            "INSERT INTO {side} (tenant_id, field_id, record_id, present, value)
             SELECT $1, $2, id, v IS NOT NULL, coalesce({value}) {from}"
        )
    };
    sqlx::query(AssertSqlSafe(sql))
        .bind(tenant)
        .bind(field.id)
        .bind(records)
        .bind(&field.key)
        .execute(tx.conn().await?)
        .await
        .map(drop)
        .map_err(database)
}

/// Ten to the power of the field's scale.
fn factor(field: &Definition) -> i64 {
    10_i64.pow(field.places().into())
}

/// Takes the keys of a unique field anew from the live records.
///
/// # Errors
/// `Rule` when two of them have the same value.
pub(super) async fn rebuild_keys(
    tx: &mut TenantTx,
    field: &Definition,
    table: &'static str,
) -> Result<(), Error> {
    let tenant = tx.tenant();
    sqlx::query("DELETE FROM attribute_keys WHERE tenant_id = $1 AND field_id = $2")
        .bind(tenant)
        .bind(field.id)
        .execute(tx.conn().await?)
        .await
        .map_err(database)?;
    // As `side::key_text` has it.
    let value = match field.kind {
        FieldKind::Phone => "attributes -> $3 ->> 'e164'",
        FieldKind::Email => "lower((attributes ->> $3) COLLATE \"C\")",
        _ => "attributes ->> $3",
    };
    let sql = format!(
        "INSERT INTO attribute_keys (tenant_id, field_id, value, record_id)
         SELECT $1, $2, {value}, id FROM {table}
         WHERE tenant_id = $1 AND attributes ? $3 AND delete_time IS NULL"
    );
    let written = sqlx::query(AssertSqlSafe(sql))
        .bind(tenant)
        .bind(field.id)
        .bind(&field.key)
        .execute(tx.conn().await?)
        .await;
    match written.map_err(database) {
        Err(Error::Conflict) => Err(Error::rule(
            "FIELD_NOT_UNIQUE",
            format!("two records have the same value of `{}`; change one of them first", field.key),
        )),
        other => other.map(drop),
    }
}

/// Goes on with every index that is being built, a piece each; says whether it got anywhere.
///
/// Idempotent: whoever calls it, and how often, each record is indexed once. `tables` says where each resource lies. A tenant
/// that cannot be indexed now, because it is suspended say, holds up no other.
///
/// # Errors
/// When the database fails.
pub async fn build_indexes(
    db: &Db,
    clock: &Clock,
    tables: &[(&'static str, &'static str)],
) -> Result<bool, Error> {
    let mut platform = db.platform().await?;
    let open: Vec<Job> = sqlx::query_as(
        "SELECT tenant_id, field_id, resource, done_to FROM platform.field_indexing
         JOIN platform.tenants ON id = tenant_id AND state = 'active' ORDER BY random() LIMIT 100",
    )
    .fetch_all(platform.conn()?)
    .await
    .map_err(database)?;
    platform.commit().await?;
    let mut moved = false;
    for job in &open {
        let Some((_, table)) = tables.iter().find(|(name, _)| *name == job.resource) else { continue };
        match go_on(db, clock, job, table).await {
            Ok(()) => moved = true,
            Err(error @ Error::Unavailable(_)) => return Err(error),
            Err(error) => tracing::warn!(
                tenant.id = %job.tenant_id, field.id = %job.field_id, %error, "an index could not be built on"
            ),
        }
    }
    Ok(moved)
}

/// An index that is being built.
#[derive(Debug, FromRow)]
struct Job {
    tenant_id: Uuid,
    field_id: Uuid,
    resource: String,
    done_to: Uuid,
}

/// Does the next piece, or finishes, in one transaction with the note of how far it is.
///
/// The records of a piece are held: who changes one of them meanwhile waits, and writes its new index rows over these.
async fn go_on(db: &Db, clock: &Clock, job: &Job, table: &'static str) -> Result<(), Error> {
    let mut tx = db.begin(&Ctx::system(Id::new(job.tenant_id), clock.clone())).await?;
    let field = tx.get::<Definition>(job.field_id).await?;
    let wanted = field.indexed && field.state == FieldState::Indexing;
    let records =
        if wanted { page(&mut tx, table, job.done_to, PIECE, Hold::Yes).await? } else { Vec::new() };
    if let Some(last) = records.last() {
        index(&mut tx, &field, table, &records).await?;
        if moved(&mut tx, job, Some(*last)).await? {
            tx.finish().await?;
        }
        return Ok(());
    }
    tx.change_fields().await?;
    let before = tx.get_for_update::<Definition>(job.field_id).await?;
    if moved(&mut tx, job, None).await? {
        if before.state == FieldState::Indexing {
            super::manage::save(
                &mut tx,
                &before,
                Definition { state: FieldState::Active, ..before.clone() },
            )?;
        }
        tx.finish().await?;
    }
    Ok(())
}

/// Notes how far the index is. False when it was begun anew in the meantime, or another process did this piece: then this
/// transaction is given up.
async fn moved(tx: &mut TenantTx, job: &Job, to: Option<Uuid>) -> Result<bool, Error> {
    sqlx::query_scalar("SELECT rapport.index_moved($1, $2, $3)")
        .bind(job.field_id)
        .bind(job.done_to)
        .bind(to)
        .fetch_one(tx.conn().await?)
        .await
        .map_err(database)
}
