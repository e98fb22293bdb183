//! API keys: how machines call. A key calls on behalf of a user, with what the key was given of what the user may do at that
//! moment: who loses a role, or access, takes it from their keys too.
pub(crate) mod api;
pub(crate) mod store;

use rapport_kernel::{Error, Grants, Id, Instant, Kind, Principal, Via};
use rapport_proto::identity::v1 as pb;
use rapport_store::{Etag, Resource, TenantTx, resource::column, resource::column_as, time};
use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

use crate::{
    permission,
    permission::Permission,
    regional, request,
    rights::Rights,
    secret::{self, Purpose},
    session::writing::Writing,
    tenant,
    user::{self, State, User},
};

/// How a machine calls.
#[derive(Clone, Debug, PartialEq, FromRow, Serialize)]
pub(crate) struct ApiKey {
    pub(crate) id: Id<ApiKey>,
    version: i64,
    display_name: String,
    /// As they were asked for; empty for all that the creator may do.
    #[sqlx(json)]
    permissions: Vec<Permission>,
    /// The most it may do: `permissions`, or what the creator might do when it was created.
    #[sqlx(json)]
    ceiling: Vec<Permission>,
    pub(crate) user_id: Id<User>,
    prefix: String,
    pub(crate) digest: String,
    pub(crate) expire_time: Option<Instant>,
    revoke_time: Option<Instant>,
    last_use_time: Option<Instant>,
    create_time: Instant,
}

impl Kind for ApiKey {
    const KIND: &'static str = "identity.api_key";
}

impl Resource for ApiKey {
    const NAME: &'static str = "api_key";
    const KIND: &'static str = <Self as Kind>::KIND;
    const TABLE: &'static str = "api_keys";
    const COLUMNS: &'static str = "id, version, display_name, permissions, ceiling, user_id, prefix, digest, expire_time, \
                                   revoke_time, last_use_time, create_time";
    const READ: &'static str = "identity.api_keys.manage";

    fn fields() -> Vec<rapport_filter::Field> {
        use rapport_filter::Kind::{Id, Instant, Text};
        vec![
            column("display_name", Text).sortable(),
            column_as("user", Id, "user_id").sortable(),
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

impl ApiKey {
    /// Whether it still opens anything.
    pub(crate) fn is_valid(&self, now: Instant) -> bool {
        self.revoke_time.is_none() && self.expire_time.is_none_or(|end| now < end)
    }

    /// Whether that it is used now is to be noted: once a minute.
    pub(crate) fn is_news(&self, now: Instant) -> bool {
        self.last_use_time.is_none_or(|last| now >= last.plus_seconds(60))
    }

    /// The most it may do.
    pub(crate) fn ceiling(&self) -> Grants {
        permission::grants(&self.ceiling)
    }
}

impl From<ApiKey> for pb::ApiKey {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id.to_string(),
            etag: key.version.to_string(),
            display_name: key.display_name,
            permissions: permission::to_proto(&key.permissions),
            user: key.user_id.name(),
            prefix: key.prefix,
            expire_time: key.expire_time.map(time::to_proto),
            revoke_time: key.revoke_time.map(time::to_proto),
            last_use_time: key.last_use_time.map(time::to_proto),
            create_time: Some(time::to_proto(key.create_time)),
        }
    }
}

/// Creates a key as the contract describes it; says the key itself.
async fn create(
    tx: &mut TenantTx,
    described: &pb::ApiKey,
    id: Id<ApiKey>,
) -> Result<(ApiKey, String), Error> {
    let now = tx.now();
    let display_name = regional::name("api_key.display_name", &described.display_name, 200)?;
    let permissions = Permission::parse_all("api_key.permissions", &described.permissions)?;
    let expire_time =
        described.expire_time.as_ref().map(|end| time::from_proto("api_key.expire_time", end)).transpose()?;
    if expire_time.is_some_and(|end| end <= now) {
        return Err(Error::invalid("api_key.expire_time", "is past"));
    }
    let caller = Rights::of_caller(tx.ctx());
    let asked = permission::grants(&permissions);
    caller.cover(&Rights { grants: asked, fields: caller.fields.clone() })?;
    let user_id = holder(tx, &caller, &described.user).await?;
    let slug = tenant::profile(tx).await?.slug;
    let issued = secret::issue(Purpose::ApiKey, &slug, id.uuid());
    let key = ApiKey {
        id,
        version: 1,
        display_name,
        ceiling: if permissions.is_empty() {
            permission::of_grants(&caller.grants)
        } else {
            permissions.clone()
        },
        permissions,
        user_id,
        prefix: prefix(&slug, id),
        digest: issued.digest,
        expire_time,
        revoke_time: None,
        last_use_time: None,
        create_time: now,
    };
    tx.insert(&key)?;
    tx.emit(&key, &pb::ApiKeyCreated { api_key: Some(key.clone().into()) })?;
    Ok((key, issued.text))
}

/// Notes that a key is used now, from this address, and tells so at the first use and once an hour.
pub(crate) async fn note_use(
    tx: &mut Writing,
    key: &ApiKey,
    (tenant, now): (Uuid, Instant),
    address: &str,
) -> Result<(), Error> {
    if matches!(tx, Writing::Untold(_)) {
        return store::touch(tx.conn().await?, tenant, key.id, now).await;
    }
    let used = store::use_now(tx.conn().await?, tenant, key.id, now, address).await?;
    if used.due {
        tx.act_as(Principal::ApiKey(key.id.uuid()), Some(key.user_id.uuid()), Via::Key).await?;
        let event = pb::ApiKeyUsed {
            api_key: key.id.name(),
            user: key.user_id.name(),
            addresses: used.addresses,
            told_time: used.told_time.map(time::to_proto),
        };
        tx.tell(key, &event)?;
    }
    Ok(())
}

/// The first characters of a key: with so many of the id, keys of different milliseconds differ.
fn prefix(slug: &str, id: Id<ApiKey>) -> String {
    let id: String = id.uuid().simple().to_string().chars().take(12).collect();
    format!("rap_{slug}_{id}")
}

/// On whose behalf a new key calls. It sees the records that this user owns, so a key for somebody else is made only by who
/// may see everything.
async fn holder(tx: &mut TenantTx, caller: &Rights, user: &str) -> Result<Id<User>, Error> {
    let own = tx.ctx().user().map(Id::new);
    let user = match request::reference::<User>("api_key.user", user)? {
        Some(user) => user,
        None => own.ok_or_else(|| Error::invalid("api_key.user", "is missing, and the caller is no user"))?,
    };
    if Some(user) != own && !caller.is_everything() {
        return Err(Error::Denied("only who may do everything makes keys for somebody else".into()));
    }
    let missing = |_| Error::invalid("api_key.user", format!("there is no user `{user}`"));
    let tenant = tx.tenant();
    if user::store::get(tx.conn().await?, tenant, user).await.map_err(missing)?.state == State::Deactivated {
        return Err(Error::invalid("api_key.user", "is deactivated"));
    }
    Ok(user)
}

async fn revoke(tx: &mut TenantTx, id: Id<ApiKey>, etag: Etag) -> Result<ApiKey, Error> {
    let before = tx.get_for_update::<ApiKey>(id.uuid()).await?;
    etag.matches(&before)?;
    if before.revoke_time.is_some() {
        return Ok(before);
    }
    let after = ApiKey { version: before.version + 1, revoke_time: Some(tx.now()), ..before.clone() };
    tx.update(&before, &after)?;
    let event = pb::ApiKeyRevoked { api_key: Some(after.clone().into()) };
    tx.emit_changed(&after, &event, &["revoke_time".to_owned()])?;
    Ok(after)
}
