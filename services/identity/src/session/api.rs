//! Sessions by gRPC.
use std::sync::Arc;

use rapport_kernel::{Ctx, Error, Id, Principal};
use rapport_proto::identity::v1::{self as pb, session_service_server::SessionService};
use tonic::{Request, Response, Status, metadata::MetadataMap};

use super::{
    Session,
    sign_in::{self, Attempt, Origin},
    store,
};
use crate::{Shared, user::User};

/// The service.
pub(crate) struct Sessions(pub(crate) Arc<Shared>);

/// The person who calls.
///
/// # Errors
/// `Denied` for machines, which have no sessions.
fn person(ctx: &Ctx) -> Result<Id<User>, Error> {
    match ctx.principal {
        Principal::User(id) => Ok(Id::new(id)),
        _ => Err(Error::Denied("only people have sessions".into())),
    }
}

/// What the gateway says about the browser, cut to a length that a list can show.
fn origin(metadata: &MetadataMap) -> Origin {
    let read = |name, most| {
        let value = metadata.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        value.chars().take(most).collect()
    };
    Origin { user_agent: read("rapport-user-agent", 400), ip_address: read("rapport-client-ip", 45) }
}

#[tonic::async_trait]
impl SessionService for Sessions {
    async fn sign_in(
        &self,
        request: Request<pb::SignInRequest>,
    ) -> Result<Response<pb::SignInResponse>, Status> {
        let origin = origin(request.metadata());
        let (ctx, r) = Ctx::open(request)?;
        // Slugs are lower-case, whatever the keyboard of a telephone makes of them.
        let tenant = r.tenant.trim().to_lowercase();
        let attempt = Attempt { tenant, email: r.email, password: r.password, origin };
        let (session, session_token) = sign_in::sign_in(&self.0, &ctx.clock, attempt).await?;
        let id = session.id.uuid();
        Ok(Response::new(pb::SignInResponse { session: Some(session.into_proto(Some(id))), session_token }))
    }

    async fn sign_out(&self, request: Request<pb::SignOutRequest>) -> Result<Response<()>, Status> {
        let (ctx, _) = Ctx::open(request)?;
        if let (Some(session), Principal::User(user)) = (ctx.session, ctx.principal) {
            let mut tx = self.0.db.begin(&ctx).await?;
            store::end(&mut tx, Id::new(user), session).await?;
            tx.finish().await?;
        }
        Ok(Response::new(()))
    }

    async fn list_sessions(
        &self,
        request: Request<pb::ListSessionsRequest>,
    ) -> Result<Response<pb::ListSessionsResponse>, Status> {
        let (ctx, _) = Ctx::open(request)?;
        let user = person(&ctx)?;
        let mut tx = self.0.db.begin(&ctx).await?;
        let sessions = store::list(&mut tx, user).await?;
        let sessions = sessions.into_iter().map(|session| session.into_proto(ctx.session)).collect();
        Ok(tx.commit(pb::ListSessionsResponse { sessions }).await?)
    }

    async fn revoke_session(
        &self,
        request: Request<pb::RevokeSessionRequest>,
    ) -> Result<Response<()>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let user = person(&ctx)?;
        let id = Id::<Session>::parse("id", &r.id)?;
        let mut tx = self.0.db.begin(&ctx).await?;
        if !store::end(&mut tx, user, id.uuid()).await? {
            return Err(Error::not_found("session", id).into());
        }
        Ok(tx.commit(()).await?)
    }
}
