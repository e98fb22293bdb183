//! Users by gRPC.
use std::sync::Arc;

use rapport_kernel::{Ctx, Error, Id, Principal};
use rapport_proto::identity::v1::{self as pb, user_service_server::UserService};
use rapport_store::{Etag, ListParams, Resource as _, mask, redact};
use tonic::{Request, Response, Status};

use super::{User, access, credential, invitation, store};
use crate::{Shared, permission, request, tenant::profile};

/// The service.
pub(crate) struct Users(pub(crate) Arc<Shared>);

fn answer(ctx: &Ctx, user: User) -> pb::User {
    redact(ctx, User::KIND, user.into())
}

#[tonic::async_trait]
impl UserService for Users {
    async fn list_users(
        &self,
        request: Request<pb::ListUsersRequest>,
    ) -> Result<Response<pb::ListUsersResponse>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let params = ListParams {
            filter: &r.filter,
            order_by: &r.order_by,
            page_size: r.page_size,
            page_token: &r.page_token,
            show_deleted: false,
        };
        let mut tx = self.0.db.begin(&ctx).await?;
        let page = tx.list::<User>(&params).await?;
        let users = page.items.into_iter().map(|user| answer(&ctx, user)).collect();
        Ok(tx.commit(pb::ListUsersResponse { users, next_page_token: page.next_page_token }).await?)
    }

    async fn get_user(&self, request: Request<pb::GetUserRequest>) -> Result<Response<pb::User>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let id = Id::<User>::parse("id", &r.id)?;
        let mut tx = self.0.db.begin(&ctx).await?;
        let user = tx.get::<User>(id.uuid()).await?;
        Ok(tx.commit(answer(&ctx, user)).await?)
    }

    async fn get_me(&self, request: Request<pb::GetMeRequest>) -> Result<Response<pb::Me>, Status> {
        let (ctx, _) = Ctx::open(request)?;
        let mut me = pb::Me {
            principal: ctx.principal.to_string(),
            permissions: permission::to_proto(&permission::of_grants(&ctx.grants)),
            ..pb::Me::default()
        };
        if let Principal::Operator(_) = ctx.principal {
            return Ok(Response::new(me));
        }
        let mut tx = self.0.db.begin(&ctx).await?;
        me.tenant = ctx.tenant.to_string();
        me.tenant_slug = profile(&mut tx).await?.slug;
        if let Principal::User(id) = ctx.principal {
            // One may read oneself, whatever else one may read.
            me.user = Some(answer(&ctx, store::get(tx.conn().await?, ctx.tenant.uuid(), Id::new(id)).await?));
        }
        Ok(tx.commit(me).await?)
    }

    async fn invite_user(
        &self,
        request: Request<pb::InviteUserRequest>,
    ) -> Result<Response<pb::InviteUserResponse>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let user = r.user.ok_or_else(|| Error::invalid("user", "is missing"))?;
        let id = request::chosen_id(&ctx, "user.id", &user.id)?;
        mask::paths(&ctx, User::KIND, &user, None)?;
        let user = User::read(&user, id, ctx.now())?;
        let mut tx = self.0.db.begin(&ctx).await?;
        let invitation_token = super::invite(&mut tx, &user).await?;
        let user = Some(answer(&ctx, user));
        Ok(tx.commit(pb::InviteUserResponse { user, invitation_token }).await?)
    }

    async fn reinvite_user(
        &self,
        request: Request<pb::ReinviteUserRequest>,
    ) -> Result<Response<pb::InviteUserResponse>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let id = Id::parse("id", &r.id)?;
        let mut tx = self.0.db.begin(&ctx).await?;
        let (user, invitation_token) = invitation::reissue(&mut tx, id).await?;
        let user = Some(answer(&ctx, user));
        Ok(tx.commit(pb::InviteUserResponse { user, invitation_token }).await?)
    }

    async fn accept_invitation(
        &self,
        request: Request<pb::AcceptInvitationRequest>,
    ) -> Result<Response<pb::User>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        Ok(Response::new(invitation::accept(&self.0, &ctx.clock, &r.invitation_token, r.password).await?))
    }

    async fn update_user(
        &self,
        request: Request<pb::UpdateUserRequest>,
    ) -> Result<Response<pb::User>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let user = r.user.ok_or_else(|| Error::invalid("user", "is missing"))?;
        let id = Id::parse("user.id", &user.id)?;
        let etag = Etag::parse("user.etag", &user.etag)?;
        let paths = mask::paths(&ctx, User::KIND, &user, r.update_mask.as_ref())?;
        let mut tx = self.0.db.begin(&ctx).await?;
        let user = super::update(&mut tx, id, etag, &user, &paths).await?;
        Ok(tx.commit(answer(&ctx, user)).await?)
    }

    async fn deactivate_user(
        &self,
        request: Request<pb::DeactivateUserRequest>,
    ) -> Result<Response<pb::User>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let id = Id::parse("id", &r.id)?;
        let etag = Etag::parse("etag", &r.etag)?;
        let mut tx = self.0.db.begin(&ctx).await?;
        let user = access::deactivate(&mut tx, id, etag).await?;
        Ok(tx.commit(answer(&ctx, user)).await?)
    }

    async fn reactivate_user(
        &self,
        request: Request<pb::ReactivateUserRequest>,
    ) -> Result<Response<pb::User>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let id = Id::parse("id", &r.id)?;
        let etag = Etag::parse("etag", &r.etag)?;
        let mut tx = self.0.db.begin(&ctx).await?;
        let user = access::reactivate(&mut tx, id, etag).await?;
        Ok(tx.commit(answer(&ctx, user)).await?)
    }

    async fn change_password(
        &self,
        request: Request<pb::ChangePasswordRequest>,
    ) -> Result<Response<()>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        credential::change(&self.0, &ctx, r.current_password, r.new_password).await?;
        Ok(Response::new(()))
    }
}
