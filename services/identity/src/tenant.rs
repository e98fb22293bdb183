//! Tenants: the companies that this installation serves. The directory spans tenants, so it lies on a plane of its own, the
//! operators': there the tenants are the records (see the migration).
pub(crate) mod api;
mod retention;
mod state;
mod store;

use rapport_kernel::{Ctx, Error, Id, Instant, Principal, Scope, TenantState};
use rapport_proto::identity::v1 as pb;
use rapport_store::{Diff, Etag, Resource, TenantTx, contact_point, diff, resource::column, time};
use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

pub(crate) use store::{Profile, of_slug, profile};

use self::retention::Retention;
use crate::{
    Shared, regional, request, role,
    user::{self, User},
};

/// The operators' plane, as a tenant whose records are the tenants.
const PLANE: Uuid = Uuid::from_u128(0x8000_8000_6f70_6572_6174);

/// Slugs that mean something else in addresses and keys.
const RESERVED: [&str; 6] = ["operator", "api", "www", "admin", "rapport", "internal"];

/// A company that this installation serves.
#[derive(Clone, Debug, PartialEq, FromRow, Serialize)]
pub(crate) struct Tenant {
    id: Id<rapport_kernel::Tenant>,
    version: i64,
    slug: String,
    display_name: String,
    state: state::State,
    generation: i64,
    cell: String,
    region: String,
    locale: String,
    time_zone: String,
    phone_region: String,
    base_currency: String,
    create_time: Instant,
    update_time: Instant,
    delete_time: Option<Instant>,
    log_retention: Retention,
}

impl Resource for Tenant {
    const NAME: &'static str = "tenant";
    const KIND: &'static str = "identity.tenant";
    const TABLE: &'static str = "rapport.directory";
    const COLUMNS: &'static str = "id, version, slug, display_name, state, generation, cell, region, locale, time_zone, \
                                   phone_region, base_currency, create_time, update_time, delete_time, log_retention";
    const READ: &'static str = "";
    const SOFT_DELETE: bool = true;

    fn fields() -> Vec<rapport_filter::Field> {
        use rapport_filter::Kind::{self, Instant, Text};
        vec![
            column("slug", Text).sortable(),
            column("display_name", Text).sortable(),
            column("state", Kind::choice(["active", "read_only", "moving", "suspended", "deleted"])),
            column("create_time", Instant).sortable(),
        ]
    }
    fn id(&self) -> Uuid {
        self.id.uuid()
    }
    fn version(&self) -> i64 {
        self.version
    }
    fn delete_time(&self) -> Option<Instant> {
        self.delete_time
    }
}

impl Tenant {
    /// A new tenant as the contract describes it, in this installation's cell.
    fn read(
        tenant: &pb::Tenant,
        id: Id<rapport_kernel::Tenant>,
        shared: &Shared,
        now: Instant,
    ) -> Result<Self, Error> {
        if RESERVED.contains(&tenant.slug.as_str()) {
            return Err(Error::invalid(
                "tenant.slug",
                format!("`{}` is reserved; choose another", tenant.slug),
            ));
        }
        if !["", shared.region.as_str()].contains(&tenant.region.as_str()) {
            let problem = format!("this installation holds the tenants of `{}`", shared.region);
            return Err(Error::invalid("tenant.region", problem));
        }
        Ok(Self {
            id,
            version: 1,
            slug: slug(&tenant.slug)?,
            display_name: regional::name("tenant.display_name", &tenant.display_name, 200)?,
            state: state::State(TenantState::Active),
            generation: 1,
            cell: shared.cell.clone(),
            region: shared.region.clone(),
            locale: or(regional::locale("tenant.locale", &tenant.locale)?, "en"),
            time_zone: or(regional::time_zone("tenant.time_zone", &tenant.time_zone)?, "UTC"),
            phone_region: regional::phone_region("tenant.phone_region", &tenant.phone_region)?,
            base_currency: or(regional::currency("tenant.base_currency", &tenant.base_currency)?, "USD"),
            create_time: now,
            update_time: now,
            delete_time: None,
            log_retention: Retention::of(tenant.log_retention()),
        })
    }

    /// The tenant with the fields `paths` as the contract describes them.
    fn with(mut self, tenant: &pb::Tenant, paths: &[String]) -> Result<Self, Error> {
        let immutable = |field: &str| Error::invalid(format!("tenant.{field}"), "cannot be changed");
        for path in paths {
            match path.as_str() {
                "display_name" => {
                    self.display_name = regional::name("tenant.display_name", &tenant.display_name, 200)?
                }
                "locale" => self.locale = or(regional::locale("tenant.locale", &tenant.locale)?, "en"),
                "time_zone" => {
                    self.time_zone = or(regional::time_zone("tenant.time_zone", &tenant.time_zone)?, "UTC")
                }
                "phone_region" => {
                    self.phone_region = regional::phone_region("tenant.phone_region", &tenant.phone_region)?;
                }
                "base_currency" => {
                    self.base_currency =
                        or(regional::currency("tenant.base_currency", &tenant.base_currency)?, "USD");
                }
                "log_retention" => self.log_retention = Retention::of(tenant.log_retention()),
                "slug" if tenant.slug == self.slug => {}
                "region" if tenant.region == self.region => {}
                "slug" | "region" => return Err(immutable(path)),
                // Output only: what an operator sends there is not looked at.
                "id" | "etag" | "state" | "generation" | "cell" | "create_time" | "update_time"
                | "delete_time" => {}
                other => return Err(request::no_field(other)),
            }
        }
        Ok(self)
    }
}

/// A slug: the layers have held it against the contract's pattern; keys rely on its having no `_`.
fn slug(text: &str) -> Result<String, Error> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if (3..=63).contains(&text.len()) && text.bytes().all(allowed) {
        return Ok(text.to_owned());
    }
    Err(Error::invalid("tenant.slug", "is not a name of 3 to 63 letters a to z, digits and `-`"))
}

fn or(value: String, default: &str) -> String {
    if value.is_empty() { default.to_owned() } else { value }
}

impl From<Tenant> for pb::Tenant {
    fn from(tenant: Tenant) -> Self {
        Self {
            id: tenant.id.to_string(),
            etag: tenant.version.to_string(),
            slug: tenant.slug,
            display_name: tenant.display_name,
            state: tenant.state.to_proto().into(),
            generation: tenant.generation,
            cell: tenant.cell,
            region: tenant.region,
            locale: tenant.locale,
            time_zone: tenant.time_zone,
            phone_region: tenant.phone_region,
            base_currency: tenant.base_currency,
            create_time: Some(time::to_proto(tenant.create_time)),
            update_time: Some(time::to_proto(tenant.update_time)),
            delete_time: tenant.delete_time.map(time::to_proto),
            log_retention: tenant.log_retention.to_proto().into(),
        }
    }
}

/// The operator's context on their own plane.
///
/// # Errors
/// `Denied` for anybody else: the layers refuse them too, but this is the door to all tenants.
fn on_the_plane(ctx: &Ctx) -> Result<Ctx, Error> {
    within(ctx, Id::new(PLANE))
}

/// The operator's context in a tenant.
fn within(ctx: &Ctx, tenant: Id<rapport_kernel::Tenant>) -> Result<Ctx, Error> {
    let Principal::Operator(_) = ctx.principal else {
        return Err(Error::Denied("only operators may call this".into()));
    };
    let everything = [("*", Scope::All)].into_iter().collect::<rapport_kernel::Grants>();
    Ok(Ctx {
        tenant,
        tenant_state: (TenantState::Active, 0),
        scope: Scope::All,
        grants: everything.into(),
        ..ctx.clone()
    })
}

/// The first administrator of a new tenant.
struct Administrator {
    email: String,
    name: String,
}

impl Administrator {
    fn read(r: &pb::CreateTenantRequest) -> Result<Self, Error> {
        let refuse = |problem| Error::invalid("administrator_email", problem);
        let email = contact_point::email(&r.administrator_email).map_err(refuse)?;
        let name = if r.administrator_name.is_empty() { &email } else { &r.administrator_name };
        Ok(Self { name: regional::name("administrator_name", name, 200)?, email })
    }
}

/// # Errors
/// `AlreadyExists` when another tenant has this slug.
async fn unique_slug(shared: &Shared, tenant: &Tenant) -> Result<(), Error> {
    match of_slug(shared, &tenant.slug).await? {
        Some(other) if other != tenant.id.uuid() => {
            let problem = format!("the slug `{}` belongs to another tenant", tenant.slug);
            Err(Error::AlreadyExists { resource: "tenant".into(), problem })
        }
        _ => Ok(()),
    }
}

/// Creates a tenant with the built-in roles and its first administrator, in a transaction of that tenant; says the secret of
/// the administrator's link.
async fn create(tx: &mut TenantTx, tenant: &Tenant, administrator: Administrator) -> Result<String, Error> {
    if store::exists(tx).await? {
        return Err(request::id_is_taken(Tenant::NAME, tenant.id));
    }
    store::register(tx, tenant).await?;
    tx.emit(tenant, &pb::TenantCreated { tenant: Some(tenant.clone().into()) })?;
    let ctx = tx.ctx().clone();
    let role = role::create_built_in(tx, &ctx)?;
    let Administrator { email, name } = administrator;
    user::invite(tx, &User::administrator(ctx.new_id(), email, name, role, ctx.now())).await
}

async fn update(
    tx: &mut TenantTx,
    id: Uuid,
    etag: Etag,
    tenant: &pb::Tenant,
    paths: &[String],
) -> Result<Tenant, Error> {
    let before = tx.get_for_update_even_deleted::<Tenant>(id).await?;
    etag.matches(&before)?;
    before.state.must_not_be_deleted()?;
    let after = before.clone().with(tenant, paths)?;
    save(tx, &before, after)
}

/// Suspends, resumes or deletes a tenant; one that is in that state already stays as it is.
async fn change_state(tx: &mut TenantTx, id: Uuid, etag: Etag, to: TenantState) -> Result<Tenant, Error> {
    let before = tx.get_for_update_even_deleted::<Tenant>(id).await?;
    etag.matches(&before)?;
    if before.state.0 == to {
        return Ok(before);
    }
    let state = before.state.change(to)?;
    let delete_time = (to == TenantState::Deleted).then(|| tx.now());
    let after = Tenant { state, generation: before.generation + 1, delete_time, ..before.clone() };
    save(tx, &before, after)
}

/// Writes a changed tenant, and tells of it on the operators' plane.
fn save(tx: &mut TenantTx, before: &Tenant, after: Tenant) -> Result<Tenant, Error> {
    if after == *before {
        return Ok(after);
    }
    let after = Tenant { version: before.version + 1, update_time: tx.now(), ..after };
    let Diff { paths, before: was } = diff(&pb::Tenant::from(before.clone()), &after.clone().into());
    let event = pb::TenantUpdated {
        tenant: Some(after.clone().into()),
        before: Some(was),
        changed_paths: paths.clone(),
    };
    tx.update(before, &after)?;
    tx.emit_changed(&after, &event, &paths)?;
    Ok(after)
}
