//! Tenants by gRPC, for operators.
use std::sync::Arc;

use rapport_kernel::{Ctx, Error, Id, TenantState};
use rapport_proto::identity::v1::{self as pb, tenant_service_server::TenantService};
use rapport_store::{Etag, ListParams, Resource as _, mask};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{Administrator, PLANE, Tenant, on_the_plane, within};
use crate::{Shared, request};

/// The service.
pub(crate) struct Tenants(pub(crate) Arc<Shared>);

impl Tenants {
    async fn change_state(
        &self,
        ctx: &Ctx,
        id: &str,
        etag: &str,
        to: TenantState,
    ) -> Result<Response<pb::Tenant>, Error> {
        let id = Id::<rapport_kernel::Tenant>::parse("id", id)?;
        let etag = Etag::parse("etag", etag)?;
        let mut tx = self.0.db.begin(&on_the_plane(ctx)?).await?;
        let tenant = super::change_state(&mut tx, id.uuid(), etag, to).await?;
        tx.commit(tenant.into()).await
    }
}

/// The id of a new tenant: the one that the client chose, else one that follows from the request id, so that a repetition
/// comes to the same tenant and finds the first answer there.
fn new_id(ctx: &Ctx, chosen: &str) -> Result<Id<rapport_kernel::Tenant>, Error> {
    match &ctx.request_id {
        Some(request) if chosen.is_empty() => {
            let name = format!("{} {}", ctx.principal, request.key);
            Ok(Id::new(Uuid::new_v5(&PLANE, name.as_bytes())))
        }
        _ => {
            let id = request::chosen_id(ctx, "tenant.id", chosen)?;
            if id.uuid() == PLANE {
                return Err(request::id_is_taken(Tenant::NAME, id));
            }
            Ok(id)
        }
    }
}

#[tonic::async_trait]
impl TenantService for Tenants {
    async fn list_tenants(
        &self,
        request: Request<pb::ListTenantsRequest>,
    ) -> Result<Response<pb::ListTenantsResponse>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let params = ListParams {
            filter: &r.filter,
            order_by: &r.order_by,
            page_size: r.page_size,
            page_token: &r.page_token,
            show_deleted: r.show_deleted,
        };
        let mut tx = self.0.db.begin(&on_the_plane(&ctx)?).await?;
        let page = tx.list::<Tenant>(&params).await?;
        let tenants = page.items.into_iter().map(Into::into).collect();
        Ok(tx.commit(pb::ListTenantsResponse { tenants, next_page_token: page.next_page_token }).await?)
    }

    async fn get_tenant(
        &self,
        request: Request<pb::GetTenantRequest>,
    ) -> Result<Response<pb::Tenant>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let id = Id::<rapport_kernel::Tenant>::parse("id", &r.id)?;
        let mut tx = self.0.db.begin(&on_the_plane(&ctx)?).await?;
        let tenant = tx.get_even_deleted::<Tenant>(id.uuid()).await?;
        Ok(tx.commit(tenant.into()).await?)
    }

    async fn create_tenant(
        &self,
        request: Request<pb::CreateTenantRequest>,
    ) -> Result<Response<pb::CreateTenantResponse>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let described = r.tenant.as_ref().ok_or_else(|| Error::invalid("tenant", "is missing"))?;
        let tenant = Tenant::read(described, new_id(&ctx, &described.id)?, &self.0, ctx.now())?;
        let administrator = Administrator::read(&r)?;
        // Generation 1 lets the transaction enter a tenant that is not there yet.
        let new = Ctx { tenant_state: (TenantState::Active, 1), ..within(&ctx, tenant.id)? };
        // The store remembers a tenant that was entered once: what would fail inside is looked for before.
        super::unique_slug(&self.0, &tenant).await?;
        let mut tx = self.0.db.begin(&new).await?;
        let invitation_token = super::create(&mut tx, &tenant, administrator).await?;
        Ok(tx.commit(pb::CreateTenantResponse { tenant: Some(tenant.into()), invitation_token }).await?)
    }

    async fn update_tenant(
        &self,
        request: Request<pb::UpdateTenantRequest>,
    ) -> Result<Response<pb::Tenant>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let tenant = r.tenant.ok_or_else(|| Error::invalid("tenant", "is missing"))?;
        let id = Id::<rapport_kernel::Tenant>::parse("tenant.id", &tenant.id)?;
        let etag = Etag::parse("tenant.etag", &tenant.etag)?;
        let paths = mask::paths(&ctx, Tenant::KIND, &tenant, r.update_mask.as_ref())?;
        let mut tx = self.0.db.begin(&on_the_plane(&ctx)?).await?;
        let tenant = super::update(&mut tx, id.uuid(), etag, &tenant, &paths).await?;
        Ok(tx.commit(tenant.into()).await?)
    }

    async fn suspend_tenant(
        &self,
        request: Request<pb::SuspendTenantRequest>,
    ) -> Result<Response<pb::Tenant>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        Ok(self.change_state(&ctx, &r.id, &r.etag, TenantState::Suspended).await?)
    }

    async fn resume_tenant(
        &self,
        request: Request<pb::ResumeTenantRequest>,
    ) -> Result<Response<pb::Tenant>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        Ok(self.change_state(&ctx, &r.id, &r.etag, TenantState::Active).await?)
    }

    async fn delete_tenant(
        &self,
        request: Request<pb::DeleteTenantRequest>,
    ) -> Result<Response<pb::Tenant>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        Ok(self.change_state(&ctx, &r.id, &r.etag, TenantState::Deleted).await?)
    }
}
