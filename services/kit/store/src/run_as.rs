//! Under whose rights work goes on that outlives the call that started it (an import, a webhook): those of who started it, kept
//! with it.
use std::collections::{BTreeMap, BTreeSet};

use rapport_kernel::{Clock, Ctx, Error, FieldRights, Grants, Id, Principal, Scope, TenantState, Via};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The parts of a context that outlive a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunAs {
    tenant: Uuid,
    tenant_state: String,
    tenant_generation: i64,
    principal: Who,
    on_behalf_of: Option<Uuid>,
    scope: String,
    grants: BTreeMap<String, String>,
    hidden: BTreeMap<String, BTreeSet<String>>,
    locked: BTreeMap<String, BTreeSet<String>>,
    locale: String,
    time_zone: String,
    phone_region: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "id")]
enum Who {
    User(Uuid),
    ApiKey(Uuid),
    Operator(Uuid),
    Service,
}

impl RunAs {
    /// What of `ctx` is kept.
    ///
    /// # Errors
    /// `Unauthenticated` when nobody is signed in.
    pub fn of(ctx: &Ctx) -> Result<Self, Error> {
        Ok(Self {
            tenant: ctx.tenant.uuid(),
            tenant_state: ctx.tenant_state.0.as_str().to_owned(),
            tenant_generation: ctx.tenant_state.1,
            principal: match ctx.principal {
                Principal::User(id) => Who::User(id),
                Principal::ApiKey(id) => Who::ApiKey(id),
                Principal::Operator(id) => Who::Operator(id),
                Principal::Service => Who::Service,
                Principal::Anonymous => return Err(Error::Unauthenticated),
            },
            on_behalf_of: ctx.on_behalf_of,
            scope: ctx.scope.as_str().to_owned(),
            grants: ctx
                .grants
                .iter()
                .map(|(name, scope)| (name.to_owned(), scope.as_str().to_owned()))
                .collect(),
            hidden: ctx.field_rights.hidden.clone(),
            locked: ctx.field_rights.locked.clone(),
            locale: ctx.locale.to_string(),
            time_zone: ctx.time_zone.to_string(),
            phone_region: ctx.phone_region.to_string(),
        })
    }

    /// A context for going on through this.
    ///
    /// # Errors
    /// `Internal` when what was kept names something that is not known (any more).
    pub fn ctx(self, clock: Clock, via: Via) -> Result<Ctx, Error> {
        let scope = |name: &str| {
            Scope::parse(name).ok_or_else(|| Error::internal(format!("no scope is called `{name}`")))
        };
        let grants = self
            .grants
            .iter()
            .map(|(name, held)| Ok((name.clone(), scope(held)?)))
            .collect::<Result<Grants, Error>>()?;
        let state = TenantState::parse(&self.tenant_state).unwrap_or(TenantState::Active);
        let principal = match self.principal {
            Who::User(id) => Principal::User(id),
            Who::ApiKey(id) => Principal::ApiKey(id),
            Who::Operator(id) => Principal::Operator(id),
            Who::Service => Principal::Service,
        };
        Ok(Ctx {
            tenant_state: (state, self.tenant_generation),
            principal,
            on_behalf_of: self.on_behalf_of,
            via,
            scope: scope(&self.scope)?,
            grants: grants.into(),
            field_rights: FieldRights { hidden: self.hidden, locked: self.locked, ..FieldRights::default() }
                .into(),
            locale: self.locale.into(),
            time_zone: self.time_zone.into(),
            phone_region: self.phone_region.into(),
            ..Ctx::system(Id::new(self.tenant), clock)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn rights_are_the_same_afterwards() {
        let mut rights = FieldRights::default();
        rights.hidden.entry("customer.customer".into()).or_default().insert("revenue".into());
        let ctx = Ctx {
            tenant_state: (TenantState::Active, 7),
            principal: Principal::ApiKey(Uuid::from_u128(2)),
            on_behalf_of: Some(Uuid::from_u128(3)),
            via: Via::Key,
            scope: Scope::Own,
            grants: Arc::new(
                [("customer.customers.import", Scope::Own), ("*", Scope::Unit)].into_iter().collect(),
            ),
            field_rights: Arc::new(rights),
            locale: "zh-CN".into(),
            time_zone: "Asia/Shanghai".into(),
            phone_region: "CN".into(),
            ..Ctx::system(Id::new(Uuid::from_u128(1)), Clock::system())
        };
        let kept = serde_json::to_string(&RunAs::of(&ctx).unwrap()).unwrap();
        let again = serde_json::from_str::<RunAs>(&kept).unwrap().ctx(Clock::system(), Via::Import).unwrap();
        assert_eq!(format!("{again:?}"), format!("{:?}", Ctx { via: Via::Import, ..ctx.clone() }));
        assert!(RunAs::of(&Ctx { principal: Principal::Anonymous, ..ctx }).is_err());
    }
}
