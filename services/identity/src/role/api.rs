//! Roles by gRPC.
use std::sync::Arc;

use rapport_kernel::{Ctx, Error, Id};
use rapport_proto::identity::v1::{self as pb, role_service_server::RoleService};
use rapport_store::{Etag, ListParams, Resource as _, mask, redact};
use tonic::{Request, Response, Status};

use super::Role;
use crate::{Shared, permission, request};

/// The service.
pub(crate) struct Roles(pub(crate) Arc<Shared>);

fn answer(ctx: &Ctx, role: Role) -> pb::Role {
    redact(ctx, Role::KIND, role.into())
}

#[tonic::async_trait]
impl RoleService for Roles {
    async fn list_roles(
        &self,
        request: Request<pb::ListRolesRequest>,
    ) -> Result<Response<pb::ListRolesResponse>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let params = ListParams {
            filter: &r.filter,
            order_by: &r.order_by,
            page_size: r.page_size,
            page_token: &r.page_token,
            show_deleted: false,
        };
        let mut tx = self.0.db.begin(&ctx).await?;
        let page = tx.list::<Role>(&params).await?;
        let roles = page.items.into_iter().map(|role| answer(&ctx, role)).collect();
        Ok(tx.commit(pb::ListRolesResponse { roles, next_page_token: page.next_page_token }).await?)
    }

    async fn get_role(&self, request: Request<pb::GetRoleRequest>) -> Result<Response<pb::Role>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let id = Id::<Role>::parse("id", &r.id)?;
        let mut tx = self.0.db.begin(&ctx).await?;
        let role = tx.get::<Role>(id.uuid()).await?;
        Ok(tx.commit(answer(&ctx, role)).await?)
    }

    async fn list_permissions(
        &self,
        request: Request<pb::ListPermissionsRequest>,
    ) -> Result<Response<pb::ListPermissionsResponse>, Status> {
        Ctx::open(request)?;
        Ok(Response::new(pb::ListPermissionsResponse { permissions: permission::list() }))
    }

    async fn create_role(
        &self,
        request: Request<pb::CreateRoleRequest>,
    ) -> Result<Response<pb::Role>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let role = r.role.ok_or_else(|| Error::invalid("role", "is missing"))?;
        let id = request::chosen_id(&ctx, "role.id", &role.id)?;
        mask::paths(&ctx, Role::KIND, &role, None)?;
        let role = Role::read(&role, id, ctx.now())?;
        let mut tx = self.0.db.begin(&ctx).await?;
        let role = super::create(&mut tx, role).await?;
        Ok(tx.commit(answer(&ctx, role)).await?)
    }

    async fn update_role(
        &self,
        request: Request<pb::UpdateRoleRequest>,
    ) -> Result<Response<pb::Role>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let role = r.role.ok_or_else(|| Error::invalid("role", "is missing"))?;
        let id = Id::parse("role.id", &role.id)?;
        let etag = Etag::parse("role.etag", &role.etag)?;
        let paths = mask::paths(&ctx, Role::KIND, &role, r.update_mask.as_ref())?;
        let mut tx = self.0.db.begin(&ctx).await?;
        let role = super::update(&mut tx, id, etag, &role, &paths).await?;
        Ok(tx.commit(answer(&ctx, role)).await?)
    }

    async fn delete_role(
        &self,
        request: Request<pb::DeleteRoleRequest>,
    ) -> Result<Response<pb::Role>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let id = Id::parse("id", &r.id)?;
        let etag = Etag::parse("etag", &r.etag)?;
        let mut tx = self.0.db.begin(&ctx).await?;
        let role = super::delete(&mut tx, id, etag).await?;
        Ok(tx.commit(answer(&ctx, role)).await?)
    }
}
