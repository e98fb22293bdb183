//! Users: the people of a tenant, from their invitation on.
mod access;
pub(crate) mod api;
pub(crate) mod credential;
pub(crate) mod invitation;
pub(crate) mod store;

use rapport_kernel::{Error, Id, Instant, Kind};
use rapport_proto::identity::v1 as pb;
use rapport_store::{
    Diff, Etag, Resource, TenantTx, contact_point, diff, resource::column, resource::column_as, time,
};
use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

use crate::{passwords::Owner, regional, request, rights::Rights, role, role::Role, unit, unit::Unit};

/// A person who works with the tenant's data.
#[derive(Clone, Debug, PartialEq, FromRow, Serialize)]
pub(crate) struct User {
    pub(crate) id: Id<User>,
    pub(crate) version: i64,
    pub(crate) email: String,
    /// The address without regard to case, by which it is unique.
    pub(crate) email_key: String,
    pub(crate) display_name: String,
    pub(crate) unit_id: Option<Id<Unit>>,
    pub(crate) roles: Vec<Uuid>,
    pub(crate) state: State,
    pub(crate) locale: String,
    pub(crate) time_zone: String,
    pub(crate) last_sign_in_time: Option<Instant>,
    pub(crate) create_time: Instant,
    pub(crate) update_time: Instant,
}

/// Whether a user has access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub(crate) enum State {
    /// Has not chosen a password yet.
    Invited,
    /// Has access.
    Active,
    /// Has no access any more.
    Deactivated,
}

impl Kind for User {
    const KIND: &'static str = "identity.user";
}

impl Resource for User {
    const NAME: &'static str = "user";
    const KIND: &'static str = <Self as Kind>::KIND;
    const TABLE: &'static str = "users";
    const COLUMNS: &'static str = "id, version, email, email_key, display_name, unit_id, roles, state, locale, time_zone, \
                                   last_sign_in_time, create_time, update_time";
    const READ: &'static str = "identity.users.read";

    fn fields() -> Vec<rapport_filter::Field> {
        use rapport_filter::Kind::{self, Id, Instant, Text};
        vec![
            column("email", Text).sortable(),
            column("display_name", Text).sortable(),
            column_as("unit", Id, "unit_id"),
            column("state", Kind::choice(["invited", "active", "deactivated"])),
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

/// Addresses are the same without regard to case.
pub(crate) fn email_key(email: &str) -> String {
    email.trim().to_lowercase()
}

impl User {
    /// A person who is to be invited, as the contract describes them.
    fn read(user: &pb::User, id: Id<Self>, now: Instant) -> Result<Self, Error> {
        let email =
            contact_point::email(&user.email).map_err(|problem| Error::invalid("user.email", problem))?;
        Ok(Self {
            id,
            version: 1,
            email_key: email_key(&email),
            email,
            display_name: regional::name("user.display_name", &user.display_name, 200)?,
            unit_id: request::reference("user.unit", &user.unit)?,
            roles: roles(user)?,
            state: State::Invited,
            locale: regional::locale("user.locale", &user.locale)?,
            time_zone: regional::time_zone("user.time_zone", &user.time_zone)?,
            last_sign_in_time: None,
            create_time: now,
            update_time: now,
        })
    }

    /// The first administrator of a new tenant.
    pub(crate) fn administrator(
        id: Id<Self>,
        email: String,
        name: String,
        role: Id<Role>,
        now: Instant,
    ) -> Self {
        Self {
            id,
            version: 1,
            email_key: email_key(&email),
            email,
            display_name: name,
            unit_id: None,
            roles: vec![role.uuid()],
            state: State::Invited,
            locale: String::new(),
            time_zone: String::new(),
            last_sign_in_time: None,
            create_time: now,
            update_time: now,
        }
    }

    /// The user with the fields `paths` as the contract describes them.
    fn with(mut self, user: &pb::User, paths: &[String]) -> Result<Self, Error> {
        for path in paths {
            match path.as_str() {
                "display_name" => {
                    self.display_name = regional::name("user.display_name", &user.display_name, 200)?
                }
                "unit" => self.unit_id = request::reference("user.unit", &user.unit)?,
                "roles" => self.roles = roles(user)?,
                "locale" => self.locale = regional::locale("user.locale", &user.locale)?,
                "time_zone" => self.time_zone = regional::time_zone("user.time_zone", &user.time_zone)?,
                "email" if email_key(&user.email) == self.email_key => {}
                "email" => {
                    return Err(Error::invalid(
                        "user.email",
                        "cannot be changed; invite the new address instead",
                    ));
                }
                // Output only: what a client sends there is not looked at.
                "id" | "etag" | "state" | "last_sign_in_time" | "create_time" | "update_time" => {}
                other => return Err(request::no_field(other)),
            }
        }
        Ok(self)
    }

    /// What everybody may know of them, which therefore is no password.
    pub(crate) fn owner(&self) -> Owner {
        Owner { email: self.email.clone(), name: self.display_name.clone() }
    }
}

fn roles(user: &pb::User) -> Result<Vec<Uuid>, Error> {
    let mut roles = Vec::with_capacity(user.roles.len());
    for (at, role) in user.roles.iter().enumerate() {
        let field = format!("user.roles[{at}]");
        let id = Id::<Role>::parse_reference(&field, role)?.uuid();
        if roles.contains(&id) {
            return Err(Error::invalid(field, "names a role a second time"));
        }
        roles.push(id);
    }
    Ok(roles)
}

impl From<User> for pb::User {
    fn from(user: User) -> Self {
        let state = match user.state {
            State::Invited => pb::UserState::Invited,
            State::Active => pb::UserState::Active,
            State::Deactivated => pb::UserState::Deactivated,
        };
        Self {
            id: user.id.to_string(),
            etag: user.version.to_string(),
            email: user.email,
            display_name: user.display_name,
            unit: user.unit_id.map(Id::name).unwrap_or_default(),
            roles: user.roles.into_iter().map(|id| Id::<Role>::new(id).name()).collect(),
            state: state.into(),
            locale: user.locale,
            time_zone: user.time_zone,
            last_sign_in_time: user.last_sign_in_time.map(time::to_proto),
            create_time: Some(time::to_proto(user.create_time)),
            update_time: Some(time::to_proto(user.update_time)),
        }
    }
}

/// Invites a person; says the secret of the link.
pub(crate) async fn invite(tx: &mut TenantTx, user: &User) -> Result<String, Error> {
    if store::email_is_taken(tx, &user.email_key).await? {
        let problem = format!("`{}` belongs to another user", user.email);
        return Err(Error::AlreadyExists { resource: "user".into(), problem });
    }
    may_give(tx, &[], user).await?;
    tx.insert(user)?;
    let link = invitation::issue(tx, user)?;
    tx.emit(user, &pb::UserInvited { user: Some(user.clone().into()) })?;
    Ok(link)
}

async fn update(
    tx: &mut TenantTx,
    id: Id<User>,
    etag: Etag,
    user: &pb::User,
    paths: &[String],
) -> Result<User, Error> {
    let before = tx.get_for_update::<User>(id.uuid()).await?;
    etag.matches(&before)?;
    let after = before.clone().with(user, paths)?;
    if after == before {
        return Ok(before);
    }
    if after.roles != before.roles || after.unit_id != before.unit_id {
        may_give(tx, &before.roles, &after).await?;
        access::keep_an_administrator(tx, &before, &after).await?;
    }
    save(tx, &before, after)
}

/// Whether the caller may give the user these roles, of which they had `before`, and this unit.
async fn may_give(tx: &mut TenantTx, before: &[Uuid], user: &User) -> Result<(), Error> {
    let caller = Rights::of_caller(tx.ctx());
    let roles = role::hold(tx, "user.roles", &user.roles).await?;
    for role in roles.iter().filter(|role| !before.contains(&role.id.uuid())) {
        caller.cover(&role.rights())?;
    }
    if let Some(unit) = user.unit_id {
        caller.place(&role::sum(&roles))?;
        unit::must_exist(tx, "user.unit", unit).await?;
    }
    Ok(())
}

/// Writes a changed user, and tells it.
fn save(tx: &mut TenantTx, before: &User, after: User) -> Result<User, Error> {
    let after = User { version: before.version + 1, update_time: tx.now(), ..after };
    let Diff { paths, before: was } = diff(&pb::User::from(before.clone()), &after.clone().into());
    let event =
        pb::UserUpdated { user: Some(after.clone().into()), before: Some(was), changed_paths: paths.clone() };
    tx.update(before, &after)?;
    tx.emit_changed(&after, &event, &paths)?;
    Ok(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described() -> pb::User {
        pb::User { email: " Li.Wei@Example.com".into(), display_name: "Li Wei".into(), ..pb::User::default() }
    }

    fn user() -> User {
        User::read(&described(), Id::new(Uuid::from_u128(1)), Instant::EPOCH).unwrap()
    }

    #[test]
    fn addresses_are_kept_as_typed_and_known_without_case() {
        let user = user();
        assert_eq!(
            (user.email.as_str(), user.email_key.as_str()),
            ("Li.Wei@Example.com", "li.wei@example.com")
        );
    }

    #[test]
    fn the_address_cannot_be_changed_and_output_is_not_input() {
        let same = pb::User { email: "li.wei@example.com".into(), ..described() };
        assert_eq!(user().with(&same, &["email".into()]).unwrap(), user());
        let other = pb::User { email: "wei@example.com".into(), ..described() };
        let error = user().with(&other, &["email".into()]).unwrap_err();
        assert_eq!(error.to_string(), "user.email: cannot be changed; invite the new address instead");
        let active = pb::User { state: pb::UserState::Active.into(), ..described() };
        assert_eq!(user().with(&active, &["state".into()]).unwrap().state, State::Invited);
        assert!(user().with(&active, &["password".into()]).is_err());
    }

    #[test]
    fn a_role_is_given_once() {
        let role = Id::<Role>::new(Uuid::from_u128(9));
        let twice = pb::User { roles: vec![role.name(), role.to_string()], ..described() };
        let error = User::read(&twice, Id::new(Uuid::from_u128(1)), Instant::EPOCH).unwrap_err();
        assert_eq!(error.to_string(), "user.roles[1]: names a role a second time");
    }
}
