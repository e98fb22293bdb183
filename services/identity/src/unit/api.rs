//! Units by gRPC.
use std::sync::Arc;

use rapport_kernel::{Ctx, Error, Id};
use rapport_proto::identity::v1::{self as pb, unit_service_server::UnitService};
use rapport_store::{Etag, ListParams, Resource as _, mask, redact};
use tonic::{Request, Response, Status};

use super::Unit;
use crate::{Shared, request};

/// The service.
pub(crate) struct Units(pub(crate) Arc<Shared>);

fn answer(ctx: &Ctx, unit: Unit) -> pb::Unit {
    redact(ctx, Unit::KIND, unit.into())
}

#[tonic::async_trait]
impl UnitService for Units {
    async fn list_units(
        &self,
        request: Request<pb::ListUnitsRequest>,
    ) -> Result<Response<pb::ListUnitsResponse>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let params = ListParams {
            filter: &r.filter,
            order_by: &r.order_by,
            page_size: r.page_size,
            page_token: &r.page_token,
            show_deleted: false,
        };
        let mut tx = self.0.db.begin(&ctx).await?;
        let page = tx.list::<Unit>(&params).await?;
        let units = page.items.into_iter().map(|unit| answer(&ctx, unit)).collect();
        Ok(tx.commit(pb::ListUnitsResponse { units, next_page_token: page.next_page_token }).await?)
    }

    async fn get_unit(&self, request: Request<pb::GetUnitRequest>) -> Result<Response<pb::Unit>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let id = Id::<Unit>::parse("id", &r.id)?;
        let mut tx = self.0.db.begin(&ctx).await?;
        let unit = tx.get::<Unit>(id.uuid()).await?;
        Ok(tx.commit(answer(&ctx, unit)).await?)
    }

    async fn create_unit(
        &self,
        request: Request<pb::CreateUnitRequest>,
    ) -> Result<Response<pb::Unit>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let unit = r.unit.ok_or_else(|| Error::invalid("unit", "is missing"))?;
        let id = request::chosen_id(&ctx, "unit.id", &unit.id)?;
        mask::paths(&ctx, Unit::KIND, &unit, None)?;
        let unit = Unit::read(&unit, id, ctx.now())?;
        let mut tx = self.0.db.begin(&ctx).await?;
        let unit = super::create(&mut tx, unit).await?;
        Ok(tx.commit(answer(&ctx, unit)).await?)
    }

    async fn update_unit(
        &self,
        request: Request<pb::UpdateUnitRequest>,
    ) -> Result<Response<pb::Unit>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let unit = r.unit.ok_or_else(|| Error::invalid("unit", "is missing"))?;
        let id = Id::parse("unit.id", &unit.id)?;
        let etag = Etag::parse("unit.etag", &unit.etag)?;
        let paths = mask::paths(&ctx, Unit::KIND, &unit, r.update_mask.as_ref())?;
        let mut tx = self.0.db.begin(&ctx).await?;
        let unit = super::update(&mut tx, id, etag, &unit, &paths).await?;
        Ok(tx.commit(answer(&ctx, unit)).await?)
    }

    async fn delete_unit(
        &self,
        request: Request<pb::DeleteUnitRequest>,
    ) -> Result<Response<pb::Unit>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let id = Id::parse("id", &r.id)?;
        let etag = Etag::parse("etag", &r.etag)?;
        let mut tx = self.0.db.begin(&ctx).await?;
        let unit = super::delete(&mut tx, id, etag).await?;
        Ok(tx.commit(answer(&ctx, unit)).await?)
    }
}
