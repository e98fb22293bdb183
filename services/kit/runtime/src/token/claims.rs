//! What a token says, and the context that follows from it.
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rapport_kernel::{
    Clock, Ctx, Error, FieldRights, Grants, Id, Instant, Principal, Scope, Tenant, TenantState, Via,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{AUDIENCE, ISSUER};

/// What a token says.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims {
    /// Who calls: a user, an API key or an operator.
    pub principal: Principal,
    /// The tenant; nil for an operator who acts on none.
    pub tenant: Id<Tenant>,
    /// Whether the tenant is served, and the generation of that state.
    pub tenant_state: (TenantState, i64),
    /// The user on whose behalf a machine calls.
    pub on_behalf_of: Option<Uuid>,
    /// Through what.
    pub via: Via,
    /// What the caller may do.
    pub grants: Grants,
    /// What of it is limited to some fields.
    pub field_rights: FieldRights,
    /// Language (BCP 47).
    pub locale: String,
    /// IANA time zone.
    pub time_zone: String,
    /// Region of telephone numbers typed without a country code; empty when there is none.
    pub phone_region: String,
    /// The browser session, where there is one.
    pub session: Option<Uuid>,
    /// When the token was made; it is not valid before.
    pub issued_at: Instant,
    /// When it ends.
    pub expires_at: Instant,
    /// The token's own id.
    pub id: Uuid,
}

impl Claims {
    /// The context of a call with this token, as yet without permission, request id and trace.
    pub fn into_ctx(self, clock: Clock) -> Ctx {
        Ctx {
            tenant: self.tenant,
            tenant_state: self.tenant_state,
            principal: self.principal,
            on_behalf_of: self.on_behalf_of,
            via: self.via,
            scope: Scope::Own,
            grants: Arc::new(self.grants),
            field_rights: Arc::new(self.field_rights),
            locale: self.locale.into(),
            time_zone: self.time_zone.into(),
            phone_region: self.phone_region.into(),
            session: self.session,
            request_id: None,
            cause: None,
            trace: None,
            reads: None,
            clock,
        }
    }

    pub(super) fn to_json(&self) -> Result<Vec<u8>, Error> {
        let mut grants = BTreeMap::<_, Vec<_>>::new();
        for (name, scope) in self.grants.iter() {
            grants.entry(scope.as_str().to_owned()).or_default().push(name.to_owned());
        }
        let wire = Wire {
            iss: ISSUER.into(),
            aud: AUDIENCE.into(),
            sub: self.principal.to_string(),
            iat: self.issued_at.as_seconds(),
            nbf: self.issued_at.as_seconds(),
            exp: self.expires_at.as_seconds(),
            jti: self.id,
            tid: self.tenant.uuid(),
            tst: self.tenant_state.0.as_str().into(),
            tgn: self.tenant_state.1,
            obo: self.on_behalf_of,
            via: self.via.as_str().into(),
            gr: grants,
            hid: self.field_rights.hidden.clone(),
            lck: self.field_rights.locked.clone(),
            prv: self.field_rights.private.clone(),
            loc: self.locale.clone(),
            tz: self.time_zone.clone(),
            tel: self.phone_region.clone(),
            sid: self.session,
        };
        serde_json::to_vec(&wire).map_err(Error::internal)
    }

    /// Reads claims that were signed; `None` when they are not for Rapport or not understood.
    pub(super) fn from_json(json: &[u8]) -> Option<Self> {
        let wire: Wire = serde_json::from_slice(json).ok()?;
        if wire.iss != ISSUER || wire.aud != AUDIENCE || wire.nbf > wire.exp {
            return None;
        }
        let mut grants = Grants::default();
        for (scope, names) in wire.gr {
            let scope = Scope::parse(&scope)?;
            names.into_iter().for_each(|name| grants.add(name, scope));
        }
        Some(Self {
            principal: principal(&wire.sub)?,
            tenant: Id::new(wire.tid),
            tenant_state: (TenantState::parse(&wire.tst)?, wire.tgn),
            on_behalf_of: wire.obo,
            via: Via::parse(&wire.via)?,
            grants,
            field_rights: FieldRights { hidden: wire.hid, locked: wire.lck, private: wire.prv },
            locale: wire.loc,
            time_zone: wire.tz,
            phone_region: wire.tel,
            session: wire.sid,
            issued_at: instant(wire.iat.max(wire.nbf))?,
            expires_at: instant(wire.exp)?,
            id: wire.jti,
        })
    }
}

fn instant(seconds: i64) -> Option<Instant> {
    Instant::from_parts(seconds, 0)
}

/// A service never gets a token: it is known by the internal secret.
fn principal(sub: &str) -> Option<Principal> {
    let (kind, id) = sub.split_once('/')?;
    let id = id.parse().ok()?;
    match kind {
        "identity.user" => Some(Principal::User(id)),
        "identity.api_key" => Some(Principal::ApiKey(id)),
        "identity.operator" => Some(Principal::Operator(id)),
        _ => None,
    }
}

/// The names in the token: registered ones where there are such, short ones elsewhere, since it travels in a header.
#[derive(Serialize, Deserialize)]
struct Wire {
    iss: String,
    aud: String,
    sub: String,
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: Uuid,
    /// Tenant.
    tid: Uuid,
    /// State of the tenant.
    tst: String,
    /// Generation of that state.
    tgn: i64,
    /// On behalf of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    obo: Option<Uuid>,
    via: String,
    /// Permissions by scope.
    gr: BTreeMap<String, Vec<String>>,
    /// Hidden fields by kind.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    hid: BTreeMap<String, BTreeSet<String>>,
    /// Locked fields by kind.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    lck: BTreeMap<String, BTreeSet<String>>,
    /// Private fields by kind.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    prv: BTreeMap<String, BTreeSet<String>>,
    /// Locale.
    loc: String,
    /// Time zone.
    tz: String,
    /// Telephone region.
    tel: String,
    /// Session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sid: Option<Uuid>,
}
