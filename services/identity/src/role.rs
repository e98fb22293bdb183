//! Roles: what people may do, on which records, with which fields.
pub(crate) mod api;
mod built_in;
mod field_right;
pub(crate) mod store;

use rapport_kernel::{Ctx, Error, FieldRights, Id, Instant, Kind};
use rapport_proto::identity::v1 as pb;
use rapport_store::{Diff, Etag, Resource, TenantTx, diff, resource::column, resource::column_as, time};
use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

pub(crate) use built_in::BuiltIn;
use field_right::FieldRight;

use crate::{
    permission,
    permission::Permission,
    regional, request,
    rights::{Fields, Rights},
};

/// A set of permissions, each with a scope, and of limits on fields.
#[derive(Clone, Debug, PartialEq, FromRow, Serialize)]
pub(crate) struct Role {
    pub(crate) id: Id<Role>,
    version: i64,
    display_name: String,
    description: String,
    /// Empty for a built-in role: what that allows stands in the program.
    #[sqlx(json)]
    permissions: Vec<Permission>,
    #[sqlx(json)]
    field_rights: Vec<FieldRight>,
    built_in: Option<BuiltIn>,
    create_time: Instant,
    update_time: Instant,
}

impl Kind for Role {
    const KIND: &'static str = "identity.role";
}

impl Resource for Role {
    const NAME: &'static str = "role";
    const KIND: &'static str = <Self as Kind>::KIND;
    const TABLE: &'static str = "roles";
    const COLUMNS: &'static str = "id, version, display_name, description, permissions, field_rights, built_in, create_time, update_time";
    const READ: &'static str = "identity.roles.read";

    fn fields() -> Vec<rapport_filter::Field> {
        use rapport_filter::Kind::{Boolean, Instant, Text};
        vec![
            column("display_name", Text).sortable(),
            column_as("built_in", Boolean, "is_built_in").sortable(),
            column("create_time", Instant).sortable(),
        ]
    }
    fn id(&self) -> Uuid {
        self.id.uuid()
    }
    fn version(&self) -> i64 {
        self.version
    }
}

impl Role {
    /// A new role as the contract describes it.
    fn read(role: &pb::Role, id: Id<Self>, now: Instant) -> Result<Self, Error> {
        Ok(Self {
            id,
            version: 1,
            display_name: regional::name("role.display_name", &role.display_name, 100)?,
            description: role.description.clone(),
            permissions: Permission::parse_all("role.permissions", &role.permissions)?,
            field_rights: FieldRight::parse_all("role.field_rights", &role.field_rights)?,
            built_in: None,
            create_time: now,
            update_time: now,
        })
    }

    /// A built-in role of a new tenant.
    fn built_in(role: BuiltIn, id: Id<Self>, now: Instant) -> Self {
        Self {
            id,
            version: 1,
            display_name: role.display_name().to_owned(),
            description: role.description().to_owned(),
            permissions: Vec::new(),
            field_rights: Vec::new(),
            built_in: Some(role),
            create_time: now,
            update_time: now,
        }
    }

    /// The role with the fields `paths` as the contract describes them.
    fn with(mut self, role: &pb::Role, paths: &[String]) -> Result<Self, Error> {
        for path in paths {
            match path.as_str() {
                "display_name" => {
                    self.display_name = regional::name("role.display_name", &role.display_name, 100)?
                }
                "description" => self.description.clone_from(&role.description),
                "permissions" => {
                    self.permissions = Permission::parse_all("role.permissions", &role.permissions)?
                }
                "field_rights" => {
                    self.field_rights = FieldRight::parse_all("role.field_rights", &role.field_rights)?
                }
                // Output only: what a client sends there is not looked at.
                "id" | "etag" | "built_in" | "create_time" | "update_time" => {}
                other => return Err(request::no_field(other)),
            }
        }
        Ok(self)
    }

    fn permissions(&self) -> Vec<Permission> {
        self.built_in.map_or_else(|| self.permissions.clone(), BuiltIn::permissions)
    }

    /// What it allows.
    pub(crate) fn rights(&self) -> Rights {
        Rights {
            grants: permission::grants(&self.permissions()),
            fields: field_right::of(&self.field_rights),
        }
    }

    /// # Errors
    /// `Rule` for a built-in role.
    fn may_change(&self) -> Result<(), Error> {
        match self.built_in {
            None => Ok(()),
            Some(_) => {
                let problem = format!(
                    "`{}` is a built-in role, which stays as it is; make one of your own",
                    self.display_name
                );
                Err(Error::rule("ROLE_BUILT_IN", problem))
            }
        }
    }
}

impl From<Role> for pb::Role {
    fn from(role: Role) -> Self {
        Self {
            id: role.id.to_string(),
            etag: role.version.to_string(),
            permissions: permission::to_proto(&role.permissions()),
            field_rights: role.field_rights.iter().map(FieldRight::to_proto).collect(),
            built_in: role.built_in.is_some(),
            display_name: role.display_name,
            description: role.description,
            create_time: Some(time::to_proto(role.create_time)),
            update_time: Some(time::to_proto(role.update_time)),
        }
    }
}

/// Makes the built-in roles of a new tenant; says which is the administrator's.
pub(crate) fn create_built_in(tx: &mut TenantTx, ctx: &Ctx) -> Result<Id<Role>, Error> {
    let mut administrator = ctx.new_id();
    for kind in BuiltIn::ALL {
        let role = Role::built_in(kind, ctx.new_id(), ctx.now());
        if kind == BuiltIn::Administrator {
            administrator = role.id;
        }
        tx.insert(&role)?;
        tx.emit(&role, &pb::RoleCreated { role: Some(role.clone().into()) })?;
    }
    Ok(administrator)
}

async fn create(tx: &mut TenantTx, role: Role) -> Result<Role, Error> {
    Rights::of_caller(tx.ctx()).cover(&role.rights())?;
    unique_name(tx, &role).await?;
    tx.insert(&role)?;
    tx.emit(&role, &pb::RoleCreated { role: Some(role.clone().into()) })?;
    Ok(role)
}

async fn update(
    tx: &mut TenantTx,
    id: Id<Role>,
    etag: Etag,
    role: &pb::Role,
    paths: &[String],
) -> Result<Role, Error> {
    let before = tx.get_for_update::<Role>(id.uuid()).await?;
    etag.matches(&before)?;
    before.may_change()?;
    let after = before.clone().with(role, paths)?;
    if after == before {
        return Ok(before);
    }
    if after.rights() != before.rights() {
        Rights::of_caller(tx.ctx()).cover(&after.rights())?;
    }
    unique_name(tx, &after).await?;
    let after = Role { version: before.version + 1, update_time: tx.now(), ..after };
    let Diff { paths, before: was } = diff(&pb::Role::from(before.clone()), &after.clone().into());
    let event =
        pb::RoleUpdated { role: Some(after.clone().into()), before: Some(was), changed_paths: paths.clone() };
    tx.update(&before, &after)?;
    tx.emit_changed(&after, &event, &paths)?;
    Ok(after)
}

async fn unique_name(tx: &mut TenantTx, role: &Role) -> Result<(), Error> {
    if store::name_is_taken(tx, role).await? {
        let problem = format!("there is another role `{}`", role.display_name);
        return Err(Error::AlreadyExists { resource: "role".into(), problem });
    }
    Ok(())
}

async fn delete(tx: &mut TenantTx, id: Id<Role>, etag: Etag) -> Result<Role, Error> {
    let role = tx.get_for_update::<Role>(id.uuid()).await?;
    etag.matches(&role)?;
    role.may_change()?;
    let people = store::holders(tx, id).await?;
    if people > 0 {
        let problem = format!("{people} people still have the role; take it from them first");
        return Err(Error::rule("ROLE_IN_USE", problem));
    }
    store::delete(tx, id)?;
    let gone = Role { version: role.version + 1, ..role.clone() };
    tx.emit(&gone, &pb::RoleDeleted { role: Some(role.clone().into()) })?;
    Ok(role)
}

/// These roles; nobody changes or deletes them before the end of the transaction.
///
/// # Errors
/// `Invalid`, about `field`, when one of them does not exist.
pub(crate) async fn hold(tx: &mut TenantTx, field: &str, ids: &[Uuid]) -> Result<Vec<Role>, Error> {
    let roles = store::hold(tx, ids).await?;
    if let Some(missing) = ids.iter().find(|id| !roles.iter().any(|role| role.id.uuid() == **id)) {
        return Err(Error::invalid(field, format!("there is no role `{missing}`")));
    }
    Ok(roles)
}

/// What these roles allow together.
pub(crate) fn sum(roles: &[Role]) -> Rights {
    Rights::sum(roles.iter().map(Role::rights))
}

/// The private fields that whoever has `rights` may read: those that one of these roles hides.
pub(crate) fn private<'r>(roles: impl Iterator<Item = &'r Role>, rights: &FieldRights) -> Fields {
    field_right::private(roles.map(|role| field_right::of(&role.field_rights)), rights)
}
