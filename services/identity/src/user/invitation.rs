//! Invitations: a link with which a person chooses their password. It is valid for 7 days and once, and there is one at most
//! for each user. For a user who has forgotten the password, a new link serves the same purpose.
use rapport_kernel::{Clock, Ctx, Error, Id, Instant};
use rapport_proto::identity::v1 as pb;
use rapport_store::{Side, TenantTx, database};
use serde_json::json;
use sqlx::FromRow;

use super::{State, User, credential, save, store};
use crate::{
    Shared,
    rights::Rights,
    role,
    secret::{self, Presented, Purpose},
    session,
};

/// Seconds for which a link is valid.
const VALID: i64 = 7 * 24 * 3600;

const INVITATIONS: Side = Side {
    table: "invitations",
    columns: "user_id, id, digest, expire_time",
    key: "user_id",
    replaces: true,
};

/// An open invitation.
#[derive(FromRow)]
struct Invitation {
    user_id: Id<User>,
    digest: String,
    expire_time: Instant,
}

/// Makes a link for the user; an older one ends. Says its secret.
pub(super) fn issue(tx: &mut TenantTx, user: &User) -> Result<String, Error> {
    let id = tx.ctx().new_id::<()>().uuid();
    let link = secret::issue(Purpose::Invitation, &tx.tenant().simple().to_string(), id);
    let expire_time = tx.now().plus_seconds(VALID);
    let row = json!({"user_id": user.id, "id": id, "digest": link.digest, "expire_time": expire_time});
    tx.side_insert(INVITATIONS, &row)?;
    Ok(link.text)
}

/// Ends the user's link, if there is one.
pub(super) fn withdraw(tx: &mut TenantTx, user: Id<User>) -> Result<(), Error> {
    tx.side_delete(INVITATIONS, &json!({"user_id": user}))
}

/// Makes a new link. Whoever has it becomes this user, so the caller may do no less than the user; and only who may do
/// everything makes one for a user who has records of their own already.
pub(super) async fn reissue(tx: &mut TenantTx, id: Id<User>) -> Result<(User, String), Error> {
    let user = tx.get_for_update::<User>(id.uuid()).await?;
    let caller = Rights::of_caller(tx.ctx());
    match user.state {
        State::Deactivated => {
            return Err(Error::rule("USER_DEACTIVATED", "the user is deactivated; reactivate them first"));
        }
        State::Active if !caller.is_everything() => {
            return Err(Error::Denied(
                "only who may do everything resets the password of an active user".into(),
            ));
        }
        State::Active => {}
        State::Invited => {
            for role in role::store::of_user(tx, id).await? {
                caller.cover(&role.rights())?;
            }
        }
    }
    let link = issue(tx, &user)?;
    tx.emit(&user, &pb::UserInvited { user: Some(user.clone().into()) })?;
    Ok((user, link))
}

/// Accepts an invitation by choosing a password; says who it was.
pub(super) async fn accept(
    shared: &Shared,
    clock: &Clock,
    link: &str,
    password: String,
) -> Result<pb::User, Error> {
    let presented = Presented::read(Purpose::Invitation, link).ok_or_else(not_valid)?;
    let tenant = presented.tenant().ok_or_else(not_valid)?;
    let mut tx = shared.db.begin(&Ctx::system(Id::new(tenant), clock.clone())).await.map_err(hide)?;
    let user = find(&mut tx, &presented).await?;
    tx.finish().await?;

    // The hash takes its time: no transaction is held meanwhile, and what was found is found again afterwards.
    shared.passwords.check("password", password.clone(), user.owner()).await?;
    let hash = shared.passwords.hash(password).await?;

    let themselves = Ctx {
        principal: rapport_kernel::Principal::User(user.id.uuid()),
        via: rapport_kernel::Via::Console,
        ..Ctx::system(Id::new(tenant), clock.clone())
    };
    let mut tx = shared.db.begin(&themselves).await.map_err(hide)?;
    let before = find(&mut tx, &presented).await?;
    credential::set(&mut tx, before.id, &hash)?;
    withdraw(&mut tx, before.id)?;
    session::store::end_all(&mut tx, before.id, None).await?;
    let after = match before.state {
        State::Invited => save(&mut tx, &before, User { state: State::Active, ..before.clone() })?,
        _ => before,
    };
    Ok(tx.commit(pb::User::from(after)).await?.into_inner())
}

/// The user whose open invitation this is, held until the end of the transaction.
async fn find(tx: &mut TenantTx, presented: &Presented<'_>) -> Result<User, Error> {
    let tenant = tx.tenant();
    let invitation: Option<Invitation> = sqlx::query_as(
        "SELECT user_id, digest, expire_time FROM invitations WHERE tenant_id = $1 AND id = $2",
    )
    .bind(tenant)
    .bind(presented.id)
    .fetch_optional(tx.conn().await?)
    .await
    .map_err(database)?;
    let invitation = invitation.ok_or_else(not_valid)?;
    if !presented.matches(&invitation.digest) || invitation.expire_time <= tx.now() {
        return Err(not_valid());
    }
    let user = tx.get_for_update::<User>(invitation.user_id.uuid()).await.map_err(|_| not_valid())?;
    // Who was faster may have accepted it while we waited for the user.
    if user.state == State::Deactivated || !store::is_invited(tx, user.id, presented.id).await? {
        return Err(not_valid());
    }
    Ok(user)
}

/// One error for whatever is wrong with a link, so that guessing teaches nothing.
fn not_valid() -> Error {
    Error::rule("INVITATION_INVALID", "this invitation is not valid any more; ask for a new one")
}

/// A tenant that is not there or not served looks like a wrong link.
fn hide(error: Error) -> Error {
    if error.reason() == "TENANT_NOT_SERVED" { not_valid() } else { error }
}
