//! Tokens: what callers hold is exchanged for a signed statement of who they are and what they may do, which every service
//! verifies by itself.
pub(crate) mod api;
pub(crate) mod keys;

use rapport_kernel::{Clock, Ctx, Error, FieldRights, Grants, Id, Instant, Principal, TenantState, Via};
use rapport_runtime::token::Claims;
use rapport_store::TenantTx;
use uuid::Uuid;

use crate::{
    Shared, api_key, operator,
    rights::Rights,
    role,
    secret::{Presented, Purpose},
    session,
    session::writing::Writing,
    tenant,
    user::{self, State, User},
};

/// Seconds that a token is valid: so long does who lost access keep it at most. The contract allows 300.
const LIFETIME: i64 = 60;

/// What a caller's user brings into a token.
struct Person {
    user: User,
    rights: Rights,
    tenant: tenant::Profile,
}

/// What a session's secret is worth.
async fn of_session(shared: &Shared, clock: &Clock, secret: &str, ip_address: &str) -> Result<Claims, Error> {
    let presented = Presented::read(Purpose::Session, secret).ok_or(Error::Unauthenticated)?;
    let mut tx = enter(shared, clock, presented.tenant()).await?;
    let session = session::store::find(&mut tx, presented.id).await?.ok_or(Error::Unauthenticated)?;
    let now = tx.now();
    if !presented.matches(&session.digest) || session.expire_time() <= now {
        return Err(Error::Unauthenticated);
    }
    let person = Person::read(&mut tx, session.user_id).await?;
    let caller = (Principal::User(person.user.id.uuid()), Via::Console);
    let claims = Claims {
        session: Some(session.id.uuid()),
        ..person.claims(&tx, caller, Some(session.expire_time()))?
    };
    let ip_address = address(ip_address);
    if session.is_news(now, &ip_address) {
        let tenant = tx.tenant();
        let mut tx = person.writing(shared, tx).await?;
        session::store::touch(tx.conn().await?, tenant, session.id, &ip_address, now).await?;
        tx.finish().await?;
    } else {
        tx.finish().await?;
    }
    Ok(claims)
}

/// What an API key is worth: what it was given, of what its user may do now.
async fn of_key(shared: &Shared, clock: &Clock, secret: &str, ip_address: &str) -> Result<Claims, Error> {
    let presented = Presented::read(Purpose::ApiKey, secret).ok_or(Error::Unauthenticated)?;
    if presented.place == operator::PLACE {
        let operator = operator::of_key(&shared.db, &presented).await?.ok_or(Error::Unauthenticated)?;
        return of_operator(clock, operator);
    }
    let tenant = tenant::of_slug(shared, presented.place).await?;
    let mut tx = enter(shared, clock, tenant).await?;
    let key = api_key::store::find(&mut tx, presented.id).await?.ok_or(Error::Unauthenticated)?;
    let now = tx.now();
    if !presented.matches(&key.digest) || !key.is_valid(now) {
        return Err(Error::Unauthenticated);
    }
    let person = Person::read(&mut tx, key.user_id).await?;
    let claims = Claims {
        on_behalf_of: Some(person.user.id.uuid()),
        grants: key.ceiling().intersect(&person.rights.grants),
        ..person.claims(&tx, (Principal::ApiKey(key.id.uuid()), Via::Key), key.expire_time)?
    };
    if key.is_news(now) {
        let tenant = tx.tenant();
        let mut tx = person.writing(shared, tx).await?;
        api_key::note_use(&mut tx, &key, (tenant, now), &address(ip_address)).await?;
        tx.finish().await?;
    } else {
        tx.finish().await?;
    }
    Ok(claims)
}

/// An address, as long as one of either kind may be.
fn address(text: &str) -> String {
    text.chars().take(45).collect()
}

/// Operators belong to no tenant, and no permission of a tenant is theirs.
fn of_operator(clock: &Clock, operator: Uuid) -> Result<Claims, Error> {
    let (issued_at, expires_at) = lifetime(clock.now(), None)?;
    Ok(Claims {
        principal: Principal::Operator(operator),
        tenant: Id::new(Uuid::nil()),
        tenant_state: (TenantState::Active, 0),
        on_behalf_of: None,
        via: Via::Key,
        grants: Grants::default(),
        field_rights: FieldRights::default(),
        locale: "en".into(),
        time_zone: "UTC".into(),
        phone_region: String::new(),
        session: None,
        issued_at,
        expires_at,
        id: clock.new_uuid(),
    })
}

/// Begins a transaction in the tenant that a secret names. Who has not shown yet that the secret is right learns nothing
/// about the tenant.
async fn enter(shared: &Shared, clock: &Clock, tenant: Option<Uuid>) -> Result<TenantTx, Error> {
    let tenant = tenant.ok_or(Error::Unauthenticated)?;
    match shared.db.begin(&Ctx::system(Id::new(tenant), clock.clone())).await {
        Err(error) if error.reason() == "TENANT_NOT_SERVED" => Err(Error::Unauthenticated),
        other => other,
    }
}

impl Person {
    /// # Errors
    /// `Unauthenticated` when the user has no access.
    async fn read(tx: &mut TenantTx, id: Id<User>) -> Result<Self, Error> {
        let tenant = tx.tenant();
        let user = user::store::get(tx.conn().await?, tenant, id).await?;
        if user.state != State::Active {
            return Err(Error::Unauthenticated);
        }
        let (roles, limiting) = role::store::around_user(tx, id).await?;
        let mut rights = role::sum(&roles);
        rights.fields.private = role::private(roles.iter().chain(&limiting), &rights.fields);
        Ok(Self { user, rights, tenant: tenant::profile(tx).await? })
    }

    /// The transaction, if the tenant may be written; else another one, which may.
    async fn writing(&self, shared: &Shared, tx: TenantTx) -> Result<Writing, Error> {
        if self.tenant.state == TenantState::Active {
            return Ok(Writing::Told(Box::new(tx)));
        }
        let ctx = tx.ctx().clone();
        tx.finish().await?;
        Writing::begin(&shared.db, &ctx, self.tenant.state).await
    }

    /// What follows from the user and the tenant; the token ends with what it was exchanged for.
    fn claims(&self, tx: &TenantTx, caller: (Principal, Via), end: Option<Instant>) -> Result<Claims, Error> {
        let (principal, via) = caller;
        let (issued_at, expires_at) = lifetime(tx.now(), end)?;
        let or = |own: &str, tenants: &str| if own.is_empty() { tenants.to_owned() } else { own.to_owned() };
        Ok(Claims {
            principal,
            tenant: tx.ctx().tenant,
            tenant_state: (self.tenant.state, self.tenant.generation),
            on_behalf_of: None,
            via,
            grants: self.rights.grants.clone(),
            field_rights: self.rights.fields.clone(),
            locale: or(&self.user.locale, &self.tenant.locale),
            time_zone: or(&self.user.time_zone, &self.tenant.time_zone),
            phone_region: self.tenant.phone_region.clone(),
            session: None,
            issued_at,
            expires_at,
            id: tx.ctx().clock.new_uuid(),
        })
    }
}

/// From when to when a token is valid, in whole seconds as tokens have them.
///
/// # Errors
/// `Unauthenticated` when it would end before the next second.
fn lifetime(now: Instant, end: Option<Instant>) -> Result<(Instant, Instant), Error> {
    let seconds = now.as_seconds();
    let last = end.map_or(seconds + LIFETIME, |end| end.as_seconds().min(seconds + LIFETIME));
    if last <= seconds {
        return Err(Error::Unauthenticated);
    }
    let at = |seconds| Instant::EPOCH.plus_seconds(seconds);
    Ok((at(seconds), at(last)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_ends_with_what_it_was_exchanged_for() {
        let now = Instant::from_micros(100_500_000);
        let seconds = |end| lifetime(now, end).map(|(from, to)| (from.as_seconds(), to.as_seconds())).ok();
        assert_eq!(seconds(None), Some((100, 160)));
        assert_eq!(seconds(Some(Instant::from_micros(130_900_000))), Some((100, 130)));
        assert_eq!(seconds(Some(Instant::from_micros(100_900_000))), None);
    }
}
