//! What Rapport's own services observe of the calls that they get, told as events of the callers: refusals, and reads of fields
//! that the tenant hides from others.
pub(crate) mod api;

use rapport_kernel::{Ctx, Error, Id, Principal, TenantState, Via};
use rapport_proto::identity::v1::{
    self as pb,
    access_observation::{Caller, Observed},
};
use rapport_store::{Resource, TenantTx};

use crate::{
    api_key::{self, ApiKey},
    tenant,
    user::{self, User},
};

/// Tells these observations in the transaction's tenant, unless it may only be read.
async fn tell(tx: &mut TenantTx, observations: Vec<pb::AccessObservation>) -> Result<(), Error> {
    if tenant::profile(tx).await?.state != TenantState::Active {
        return Ok(());
    }
    for observation in observations {
        let Some(caller) = observation.caller.clone() else { continue };
        match caller {
            Caller::User(name) => {
                let id = Id::<User>::parse_reference("user", &name)?;
                let tenant = tx.tenant();
                match user::store::get(tx.conn().await?, tenant, id).await {
                    Ok(user) => tell_of(tx, &user, (Principal::User(id.uuid()), None), observation).await?,
                    // There is no such person.
                    Err(Error::NotFound { .. } | Error::Unauthenticated) => {}
                    Err(error) => return Err(error),
                }
            }
            Caller::ApiKey(name) => {
                let id = Id::<ApiKey>::parse_reference("api_key", &name)?;
                if let Some(key) = api_key::store::find(tx, id.uuid()).await? {
                    let principal = (Principal::ApiKey(id.uuid()), Some(key.user_id.uuid()));
                    tell_of(tx, &key, principal, observation).await?;
                }
            }
        }
    }
    Ok(())
}

/// Tells one of them, as done by the caller.
async fn tell_of<R: Resource>(
    tx: &mut TenantTx,
    record: &R,
    (principal, on_behalf_of): (Principal, Option<uuid::Uuid>),
    observation: pb::AccessObservation,
) -> Result<(), Error> {
    let pb::AccessObservation { via, method, observed, count, first_time, last_time, address, .. } =
        observation;
    let via = Via::parse(&via).ok_or_else(|| Error::invalid("via", "is none that there is"))?;
    let ours = tx.ctx().clone();
    tx.follow(Ctx { principal, on_behalf_of, via, ..ours.clone() }).await?;
    let caller = principal.to_string();
    match observed {
        Some(Observed::Refusal(pb::Refusal { permission, reason })) => tx.emit(
            record,
            &pb::AccessRefused { caller, method, permission, reason, count, first_time, last_time, address },
        )?,
        Some(Observed::PrivateRead(pb::PrivateRead { kind, fields })) => tx.emit(
            record,
            &pb::PrivateFieldsRead { caller, method, kind, fields, count, first_time, last_time, address },
        )?,
        None => {}
    }
    tx.follow(ours).await
}
