//! The context of a call: who calls, for which tenant, on whose behalf, via what, with which rights. It is made from the
//! verified token and from nowhere else.
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use uuid::Uuid;

use crate::{Clock, Error, Id, Instant, Kind};

/// A tenant, as far as calls know it.
#[derive(Clone, Copy, Debug)]
pub enum Tenant {}
impl Kind for Tenant {
    const KIND: &'static str = "identity.tenant";
}

/// Whether a tenant is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantState {
    /// Served.
    Active,
    /// Read, not written.
    ReadOnly,
    /// Being moved: read, not written for a moment.
    Moving,
    /// Refused; its data stays.
    Suspended,
    /// Refused; its data is erased after the grace time.
    Deleted,
}

impl TenantState {
    /// The name in tokens and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::ReadOnly => "read_only",
            Self::Moving => "moving",
            Self::Suspended => "suspended",
            Self::Deleted => "deleted",
        }
    }

    /// From the name in tokens and tables.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Active, Self::ReadOnly, Self::Moving, Self::Suspended, Self::Deleted]
            .into_iter()
            .find(|state| state.as_str() == name)
    }
}

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// A person of the tenant.
    User(Uuid),
    /// A machine of the tenant.
    ApiKey(Uuid),
    /// Someone who runs the installation.
    Operator(Uuid),
    /// Rapport itself.
    Service,
    /// Nobody has signed in.
    Anonymous,
}

impl Principal {
    /// The id, where there is one.
    pub const fn id(self) -> Option<Uuid> {
        match self {
            Self::User(id) | Self::ApiKey(id) | Self::Operator(id) => Some(id),
            Self::Service | Self::Anonymous => None,
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => write!(f, "identity.user/{id}"),
            Self::ApiKey(id) => write!(f, "identity.api_key/{id}"),
            Self::Operator(id) => write!(f, "identity.operator/{id}"),
            Self::Service => f.write_str("service"),
            Self::Anonymous => f.write_str("anonymous"),
        }
    }
}

/// Through what a call came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Via {
    /// The web console, by a browser session.
    Console,
    /// An API key.
    Key,
    /// A plugin.
    Plugin,
    /// An import.
    Import,
    /// An automatic agent.
    Agent,
    /// Rapport's own work.
    System,
}

impl Via {
    /// The name in tokens, events and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::Key => "key",
            Self::Plugin => "plugin",
            Self::Import => "import",
            Self::Agent => "agent",
            Self::System => "system",
        }
    }

    /// From the name in tokens.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Console, Self::Key, Self::Plugin, Self::Import, Self::Agent, Self::System]
            .into_iter()
            .find(|via| via.as_str() == name)
    }
}

/// On which records a permission is given; a wider one includes the narrower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Those that the caller owns, and those shared with the caller.
    Own,
    /// Those of the caller's unit and of the units below it, and those shared.
    Unit,
    /// All of the tenant.
    All,
}

impl Scope {
    /// The name in tokens, roles and settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Unit => "unit",
            Self::All => "all",
        }
    }

    /// From the name in tokens and roles.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Own, Self::Unit, Self::All].into_iter().find(|scope| scope.as_str() == name)
    }
}

/// Permissions by name, each with its scope. `*` stands for every permission.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants(BTreeMap<String, Scope>);

impl Grants {
    /// Adds a permission; the wider scope wins.
    pub fn add(&mut self, permission: impl Into<String>, scope: Scope) {
        let held = self.0.entry(permission.into()).or_insert(scope);
        *held = (*held).max(scope);
    }

    /// The scope in which `permission` is held; `None` when it is not.
    pub fn scope(&self, permission: &str) -> Option<Scope> {
        self.0.get("*").max(self.0.get(permission)).copied()
    }

    /// The permissions held, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Scope)> {
        self.0.iter().map(|(name, scope)| (name.as_str(), *scope))
    }

    /// What both hold, in the narrower scope.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let names: BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        let both = names.into_iter().filter_map(|name| {
            let (left, right) = (self.scope(name)?, other.scope(name)?);
            Some((name.clone(), left.min(right)))
        });
        Self(both.collect())
    }
}

impl<N: Into<String>> FromIterator<(N, Scope)> for Grants {
    fn from_iter<I: IntoIterator<Item = (N, Scope)>>(grants: I) -> Self {
        let mut all = Self::default();
        grants.into_iter().for_each(|(name, scope)| all.add(name, scope));
        all
    }
}

/// Fields that are hidden from the caller, or locked, by kind of record: `customer.customer` → `revenue`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldRights {
    /// Neither read nor written: they do not exist for the caller.
    pub hidden: BTreeMap<String, BTreeSet<String>>,
    /// Read, not written.
    pub locked: BTreeMap<String, BTreeSet<String>>,
    /// Hidden from others of the tenant, not from this caller: that they are read is told. `*` stands for each field of a kind
    /// where there are too many.
    pub private: BTreeMap<String, BTreeSet<String>>,
}

/// Is told which private fields a call reads.
pub trait Reads: fmt::Debug + Send + Sync {
    /// The caller gets a record of this kind, of which these fields are private.
    fn note(&self, kind: &str, fields: &BTreeSet<String>);
}

impl FieldRights {
    /// Whether the caller may read this field.
    pub fn may_read(&self, kind: &str, field: &str) -> bool {
        !self.hidden.get(kind).is_some_and(|fields| fields.contains(field))
    }

    /// Whether the caller may write this field.
    pub fn may_write(&self, kind: &str, field: &str) -> bool {
        self.may_read(kind, field) && !self.locked.get(kind).is_some_and(|fields| fields.contains(field))
    }

    /// Whether nothing is limited for this caller.
    pub fn is_empty(&self) -> bool {
        self.hidden.is_empty() && self.locked.is_empty()
    }
}

/// What makes a repeated write give the first answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId {
    /// What the caller chose, 1 to 100 characters.
    pub key: String,
    /// Which method was called, as a gRPC path.
    pub method: &'static str,
    /// SHA-256 of the request without the key: a repetition must say the same.
    pub fingerprint: [u8; 32],
}

/// The context of a call. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ctx {
    /// The tenant whose data is meant.
    pub tenant: Id<Tenant>,
    /// The tenant's state when the token was made, and the generation of that state.
    pub tenant_state: (TenantState, i64),
    /// Who calls.
    pub principal: Principal,
    /// The user on whose behalf a machine calls; for a user, that user.
    pub on_behalf_of: Option<Uuid>,
    /// Through what.
    pub via: Via,
    /// In which scope this call's permission is held.
    pub scope: Scope,
    /// Everything the caller may do.
    pub grants: Arc<Grants>,
    /// What of it is limited to some fields.
    pub field_rights: Arc<FieldRights>,
    /// The caller's language (BCP 47), e.g. `zh-CN`.
    pub locale: Arc<str>,
    /// The caller's IANA time zone, e.g. `Asia/Shanghai`.
    pub time_zone: Arc<str>,
    /// Region of telephone numbers typed without a country code, e.g. `CN`; empty when the tenant has none.
    pub phone_region: Arc<str>,
    /// The browser session that calls, where there is one.
    pub session: Option<Uuid>,
    /// What makes a repetition give the first answer.
    pub request_id: Option<RequestId>,
    /// The event that this follows from, where it is no caller's wish.
    pub cause: Option<Uuid>,
    /// The trace that this call is part of, as a W3C `traceparent`.
    pub trace: Option<Arc<str>>,
    /// Who is told that private fields are read, where this caller may read any.
    pub reads: Option<Arc<dyn Reads>>,
    /// The clock.
    pub clock: Clock,
}

impl Ctx {
    /// The context of Rapport's own work for a tenant.
    pub fn system(tenant: Id<Tenant>, clock: Clock) -> Self {
        Self {
            tenant,
            tenant_state: (TenantState::Active, 0),
            principal: Principal::Service,
            on_behalf_of: None,
            via: Via::System,
            scope: Scope::All,
            grants: Arc::new([("*", Scope::All)].into_iter().collect()),
            field_rights: Arc::default(),
            locale: "en".into(),
            time_zone: "UTC".into(),
            phone_region: "".into(),
            session: None,
            request_id: None,
            cause: None,
            trace: None,
            reads: None,
            clock,
        }
    }

    /// Takes the context that the layers made out of a request.
    pub fn open<T>(request: tonic::Request<T>) -> Result<(Self, T), Error> {
        let (_, mut extensions, message) = request.into_parts();
        let ctx = extensions.remove::<Self>().ok_or(Error::Unauthenticated)?;
        Ok((ctx, message))
    }

    /// What time it is.
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// A new id.
    pub fn new_id<T>(&self) -> Id<T> {
        Id::new(self.clock.new_uuid())
    }

    /// The user who counts as the owner of what this call creates, and whose own records `Scope::Own` means.
    pub fn user(&self) -> Option<Uuid> {
        self.on_behalf_of.or(match self.principal {
            Principal::User(id) => Some(id),
            _ => None,
        })
    }

    /// Notes that the caller gets a record of this kind, with whatever of it is private.
    pub fn note_read(&self, kind: &str) {
        if let Some(reads) = &self.reads
            && let Some(fields) = self.field_rights.private.get(kind)
        {
            reads.note(kind, fields);
        }
    }

    /// The same call for another of the caller's permissions.
    ///
    /// # Errors
    /// `Denied` when the caller does not hold it.
    pub fn permit(&self, permission: &str) -> Result<Self, Error> {
        let scope = self.grants.scope(permission).ok_or_else(|| Error::denied(permission))?;
        Ok(Self { scope, ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_scope_counts() {
        let grants: Grants =
            [("a.read", Scope::Own), ("a.read", Scope::Unit), ("*", Scope::Own)].into_iter().collect();
        assert_eq!(grants.scope("a.read"), Some(Scope::Unit));
        assert_eq!(grants.scope("a.write"), Some(Scope::Own));
        assert_eq!(Grants::default().scope("a.read"), None);
    }

    #[test]
    fn a_key_may_do_no_more_than_its_creator() {
        let creator: Grants = [("a.read", Scope::Own), ("a.write", Scope::All)].into_iter().collect();
        let key: Grants = [("*", Scope::All)].into_iter().collect();
        assert_eq!(key.intersect(&creator), creator);
        let narrow: Grants = [("a.read", Scope::All), ("b.read", Scope::All)].into_iter().collect();
        let both = narrow.intersect(&creator);
        assert_eq!(both.scope("a.read"), Some(Scope::Own));
        assert_eq!((both.scope("a.write"), both.scope("b.read")), (None, None));
    }

    #[test]
    fn hidden_fields_are_not_written_either() {
        let mut rights = FieldRights::default();
        rights.hidden.entry("customer.customer".into()).or_default().insert("revenue".into());
        rights.locked.entry("customer.customer".into()).or_default().insert("status".into());
        assert!(
            !rights.may_read("customer.customer", "revenue")
                && !rights.may_write("customer.customer", "revenue")
        );
        assert!(
            rights.may_read("customer.customer", "status")
                && !rights.may_write("customer.customer", "status")
        );
        assert!(rights.may_write("customer.customer", "tags") && rights.may_read("sales.quote", "revenue"));
    }
}
