//! The gRPC face of customers' custom fields. What it does is the kit's; here is which resource it does it for.
use rapport_kernel::Ctx;
use rapport_proto::{customer::v1::field_service_server::FieldService, fields::v1 as pb};
use rapport_store::{Db, fields};
use tonic::{Request, Response, Status};

/// The resources of this service that have custom fields, and their tables.
pub(crate) const RESOURCES: &[(&str, &str)] = &[("customer", "customers")];

/// Serves `FieldService`.
#[derive(Clone)]
pub(crate) struct FieldApi {
    pub(crate) db: Db,
}

#[tonic::async_trait]
impl FieldService for FieldApi {
    async fn list_fields(
        &self,
        request: Request<pb::ListFieldsRequest>,
    ) -> Result<Response<pb::ListFieldsResponse>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let mut tx = self.db.begin(&ctx).await?;
        let page = fields::list(&mut tx, &r).await?;
        let fields = page.items.into_iter().map(Into::into).collect();
        Ok(tx.commit(pb::ListFieldsResponse { fields, next_page_token: page.next_page_token }).await?)
    }

    async fn get_field(&self, request: Request<pb::GetFieldRequest>) -> Result<Response<pb::Field>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let mut tx = self.db.begin(&ctx).await?;
        let field = fields::get(&mut tx, &r.id).await?;
        Ok(tx.commit(field.into()).await?)
    }

    async fn create_field(
        &self,
        request: Request<pb::CreateFieldRequest>,
    ) -> Result<Response<pb::Field>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let mut tx = self.db.begin(&ctx).await?;
        let field = fields::create(&mut tx, r.field.unwrap_or_default(), RESOURCES).await?;
        Ok(tx.commit(field.into()).await?)
    }

    async fn update_field(
        &self,
        request: Request<pb::UpdateFieldRequest>,
    ) -> Result<Response<pb::Field>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let mut tx = self.db.begin(&ctx).await?;
        let mask = r.update_mask.as_ref();
        let field = fields::update(&mut tx, r.field.unwrap_or_default(), mask, RESOURCES).await?;
        Ok(tx.commit(field.into()).await?)
    }

    async fn delete_field(
        &self,
        request: Request<pb::DeleteFieldRequest>,
    ) -> Result<Response<pb::Field>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let mut tx = self.db.begin(&ctx).await?;
        let field = fields::delete(&mut tx, &r).await?;
        Ok(tx.commit(field.into()).await?)
    }

    async fn undelete_field(
        &self,
        request: Request<pb::UndeleteFieldRequest>,
    ) -> Result<Response<pb::Field>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let mut tx = self.db.begin(&ctx).await?;
        let field = fields::undelete(&mut tx, &r, RESOURCES).await?;
        Ok(tx.commit(field.into()).await?)
    }
}
