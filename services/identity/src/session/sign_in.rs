//! Signing in by tenant, e-mail address and password. Whatever is wrong, the answer has the same words, costs the same hash
//! and comes at the same time, so that nobody learns which tenants and people there are.
use std::time::Duration;

use rapport_kernel::{Clock, Ctx, Error, Id, Instant, Principal, TenantState, Via};
use rapport_proto::identity::v1 as pb;
use tokio::time;
use uuid::Uuid;

use super::{Attempts, Session, store, writing::Writing};
use crate::{
    Shared,
    secret::{self, Purpose},
    tenant,
    user::{self, State, User, credential, credential::Credential},
};

/// A refusal is told when a multiple of this has passed since the call: where an account exists, a few more statements run,
/// and the difference would show.
const BEAT: Duration = Duration::from_millis(100);

/// What somebody sent.
pub(super) struct Attempt {
    /// The tenant's slug.
    pub(super) tenant: String,
    pub(super) email: String,
    pub(super) password: String,
    /// From where it came, for the list of sessions.
    pub(super) origin: Origin,
}

/// From where a call came.
#[derive(Clone, Debug, Default)]
pub(super) struct Origin {
    pub(super) user_agent: String,
    pub(super) ip_address: String,
}

/// Signs somebody in; says the session and its secret.
pub(super) async fn sign_in(
    shared: &Shared,
    clock: &Clock,
    attempt: Attempt,
) -> Result<(Session, String), Error> {
    let begun = time::Instant::now();
    let result = attempt.run(shared, clock).await;
    if result.is_err() {
        let beats = begun.elapsed().as_millis() / BEAT.as_millis() + 1;
        time::sleep_until(begun + BEAT * u32::try_from(beats).unwrap_or(u32::MAX)).await;
    }
    result
}

/// The account that an attempt is about.
struct Account {
    tenant: Uuid,
    state: TenantState,
    user: User,
    credential: Option<Credential>,
}

/// Why a sign-in fails, as the event tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    WrongPassword,
    Locked,
    Deactivated,
    Invited,
}

impl Failure {
    const fn as_str(self) -> &'static str {
        match self {
            Self::WrongPassword => "wrong_password",
            Self::Locked => "locked",
            Self::Deactivated => "deactivated",
            Self::Invited => "invited",
        }
    }
}

impl Attempt {
    async fn run(self, shared: &Shared, clock: &Clock) -> Result<(Session, String), Error> {
        let email_key = user::email_key(&self.email);
        let key = Attempts::key(&self.tenant, &email_key);
        shared.attempts.check(&key)?;
        let account = self.find(shared, clock, &email_key).await?;
        let hash =
            account.as_ref().and_then(|account| account.credential.as_ref()).map(|known| known.hash.clone());
        let matches = shared.passwords.verify(self.password.clone(), hash).await?;
        let signed_in = match account {
            Some(account) => self.conclude(shared, clock, account, matches).await?,
            None => None,
        };
        match signed_in {
            Some(_) => shared.attempts.succeeded(&key),
            None => shared.attempts.failed(&key),
        }
        signed_in.ok_or_else(failed)
    }

    /// The account, if there is one and its tenant is served.
    async fn find(&self, shared: &Shared, clock: &Clock, email_key: &str) -> Result<Option<Account>, Error> {
        let Some(tenant) = tenant::of_slug(shared, &self.tenant).await? else { return Ok(None) };
        let mut tx = match shared.db.begin(&Ctx::system(Id::new(tenant), clock.clone())).await {
            Ok(tx) => tx,
            Err(error) if error.reason() == "TENANT_NOT_SERVED" => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(user) = user::store::by_email(&mut tx, email_key).await? else { return Ok(None) };
        let credential = credential::find(tx.conn().await?, tenant, user.id).await?;
        let state = tenant::profile(&mut tx).await?.state;
        tx.finish().await?;
        Ok(Some(Account { tenant, state, user, credential }))
    }

    /// Begins a session, or counts a failure, under what is known of the account now that the hash was verified.
    async fn conclude(
        self,
        shared: &Shared,
        clock: &Clock,
        account: Account,
        matches: bool,
    ) -> Result<Option<(Session, String)>, Error> {
        let themselves = Ctx {
            principal: Principal::User(account.user.id.uuid()),
            via: Via::Console,
            ..Ctx::system(Id::new(account.tenant), clock.clone())
        };
        let outdated =
            account.credential.as_ref().filter(|known| matches && shared.passwords.is_outdated(&known.hash));
        let rehashed = match outdated {
            Some(_) => Some(shared.passwords.hash(self.password.clone()).await?),
            None => None,
        };
        let (tenant, now) = (account.tenant, clock.now());
        let mut tx = Writing::begin(&shared.db, &themselves, account.state).await?;
        let user = user::store::get(tx.conn().await?, tenant, account.user.id).await?;
        let held = credential::hold(tx.conn().await?, tenant, user.id).await?;
        // A password that was changed meanwhile was not the one that was verified.
        let matches = matches
            && held.as_ref().map(|held| &held.hash) == account.credential.as_ref().map(|known| &known.hash);
        let signed_in = match judge(user.state, held.as_ref(), matches, now) {
            Ok(held) => {
                credential::count(tx.conn().await?, tenant, user.id, &credential::Lockout::default()).await?;
                if let Some(new) = rehashed {
                    credential::rehash(tx.conn().await?, tenant, user.id, &held.hash, &new).await?;
                }
                Some(begin(&mut tx, &themselves, &user, self.origin).await?)
            }
            Err(failure) => {
                if let (Failure::WrongPassword, Some(held)) = (failure, &held) {
                    let lockout = held.lockout.clone().failed(now);
                    credential::count(tx.conn().await?, tenant, user.id, &lockout).await?;
                }
                let event = pb::SignInFailed { user: user.id.name(), reason: failure.as_str().to_owned() };
                tx.tell(&user, &event)?;
                None
            }
        };
        tx.finish().await?;
        Ok(signed_in)
    }
}

/// Whether this is the moment to let somebody in. The lock comes before the password: the right one does not open it.
fn judge(
    state: State,
    held: Option<&Credential>,
    matches: bool,
    now: Instant,
) -> Result<&Credential, Failure> {
    match (state, held) {
        (State::Deactivated, _) => Err(Failure::Deactivated),
        (State::Invited, _) | (State::Active, None) => Err(Failure::Invited),
        (State::Active, Some(held)) if held.lockout.is_locked(now) => Err(Failure::Locked),
        (State::Active, Some(held)) if matches => Ok(held),
        (State::Active, Some(_)) => Err(Failure::WrongPassword),
    }
}

async fn begin(tx: &mut Writing, ctx: &Ctx, user: &User, origin: Origin) -> Result<(Session, String), Error> {
    let (tenant, id, now) = (ctx.tenant.uuid(), ctx.new_id(), ctx.now());
    let issued = secret::issue(Purpose::Session, &tenant.simple().to_string(), id.uuid());
    let session = Session {
        id,
        user_id: user.id,
        digest: issued.digest,
        user_agent: origin.user_agent,
        ip_address: origin.ip_address,
        create_time: now,
        last_use_time: now,
    };
    store::begin(tx.conn().await?, tenant, &session).await?;
    let event = pb::SignInSucceeded { user: user.id.name(), session: session.id.to_string() };
    tx.tell(user, &event)?;
    Ok((session, issued.text))
}

/// One error for whatever is wrong.
fn failed() -> Error {
    Error::rule("SIGN_IN_FAILED", "tenant, e-mail address or password is wrong")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_password_opens_neither_a_lock_nor_an_account_without_access() {
        let now = Instant::EPOCH;
        let open = Credential { hash: "h".into(), lockout: credential::Lockout::default() };
        let mut locked = open.clone();
        locked.lockout.locked_until = Some(now.plus_seconds(1));
        let judge = |state, held, matches| judge(state, held, matches, now).map(|_| ());
        assert_eq!(judge(State::Active, Some(&open), true), Ok(()));
        assert_eq!(judge(State::Active, Some(&open), false), Err(Failure::WrongPassword));
        assert_eq!(judge(State::Active, Some(&locked), true), Err(Failure::Locked));
        assert_eq!(judge(State::Deactivated, Some(&open), true), Err(Failure::Deactivated));
        assert_eq!(judge(State::Invited, None, true), Err(Failure::Invited));
    }
}
