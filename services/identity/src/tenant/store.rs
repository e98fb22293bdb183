//! Statements about the directory, through the functions that the migration offers.
use rapport_kernel::{Error, TenantState};
use rapport_store::{TenantTx, database};
use sqlx::{FromRow, types::Json};
use uuid::Uuid;

use super::{Tenant, state::State};
use crate::Shared;

/// What its own people may know of a tenant.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) slug: String,
    pub(crate) state: TenantState,
    pub(crate) generation: i64,
    pub(crate) locale: String,
    pub(crate) time_zone: String,
    pub(crate) phone_region: String,
}

#[derive(FromRow)]
struct Row {
    slug: String,
    state: State,
    generation: i64,
    locale: String,
    time_zone: String,
    phone_region: String,
}

/// The profile of the transaction's tenant.
pub(crate) async fn profile(tx: &mut TenantTx) -> Result<Profile, Error> {
    let row: Row = sqlx::query_as(
        "SELECT slug, state, generation, locale, time_zone, phone_region FROM rapport.tenant_profile()",
    )
    .fetch_one(tx.conn().await?)
    .await
    .map_err(database)?;
    let Row { slug, state, generation, locale, time_zone, phone_region } = row;
    Ok(Profile { slug, state: state.0, generation, locale, time_zone, phone_region })
}

/// Whether the transaction's tenant is in the directory.
pub(super) async fn exists(tx: &mut TenantTx) -> Result<bool, Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM rapport.tenant_profile())")
        .fetch_one(tx.conn().await?)
        .await
        .map_err(database)
}

/// Enters the transaction's tenant in the directory.
pub(super) async fn register(tx: &mut TenantTx, tenant: &Tenant) -> Result<(), Error> {
    sqlx::query("SELECT rapport.register_tenant($1::json)")
        .bind(Json(tenant))
        .execute(tx.conn().await?)
        .await
        .map_err(database)?;
    Ok(())
}

/// The tenant that has this slug. Slugs never change and are never given again, so one that was found is remembered.
pub(crate) async fn of_slug(shared: &Shared, slug: &str) -> Result<Option<Uuid>, Error> {
    if let Some(tenant) = shared.slugs.get(slug) {
        return Ok(Some(tenant));
    }
    let mut tx = shared.db.platform().await?;
    let tenant: Option<Uuid> = sqlx::query_scalar("SELECT id FROM platform.directory WHERE slug = $1")
        .bind(slug)
        .fetch_optional(tx.conn()?)
        .await
        .map_err(database)?;
    tx.commit().await?;
    if let Some(tenant) = tenant {
        shared.slugs.insert(slug.to_owned(), tenant);
    }
    Ok(tenant)
}
