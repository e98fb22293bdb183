//! Ending a user's access and giving it back. A tenant never loses its last administrator, who alone could give it back.
use rapport_kernel::{Error, Id};
use rapport_store::{Etag, TenantTx};

use super::{State, User, credential, invitation, save, store};
use crate::{role, session};

/// Ends the access of a user at once.
pub(super) async fn deactivate(tx: &mut TenantTx, id: Id<User>, etag: Etag) -> Result<User, Error> {
    let before = tx.get_for_update::<User>(id.uuid()).await?;
    etag.matches(&before)?;
    if before.state == State::Deactivated {
        return Ok(before);
    }
    let after = User { state: State::Deactivated, ..before.clone() };
    keep_an_administrator(tx, &before, &after).await?;
    session::store::end_all(tx, id, None).await?;
    invitation::withdraw(tx, id)?;
    save(tx, &before, after)
}

/// Gives a user access again: as far as they had chosen a password.
pub(super) async fn reactivate(tx: &mut TenantTx, id: Id<User>, etag: Etag) -> Result<User, Error> {
    let before = tx.get_for_update::<User>(id.uuid()).await?;
    etag.matches(&before)?;
    if before.state != State::Deactivated {
        return Ok(before);
    }
    let tenant = tx.tenant();
    let has_password = credential::find(tx.conn().await?, tenant, id).await?.is_some();
    let state = if has_password { State::Active } else { State::Invited };
    save(tx, &before, User { state, ..before.clone() })
}

/// # Errors
/// `Rule` when the change would take the tenant's last active administrator.
pub(super) async fn keep_an_administrator(
    tx: &mut TenantTx,
    before: &User,
    after: &User,
) -> Result<(), Error> {
    let role = role::store::administrator(tx).await?;
    let serves = |user: &User| user.state == State::Active && user.roles.contains(&role);
    if !serves(before) || serves(after) || store::hold_other_administrators(tx, role, before.id).await? > 0 {
        return Ok(());
    }
    let problem = "this is the last active administrator; make somebody else administrator first";
    Err(Error::rule("LAST_ADMINISTRATOR", problem))
}
