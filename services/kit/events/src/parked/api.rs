//! The gRPC face of what is parked.
use rapport_kernel::{Ctx, Error, Id};
use rapport_proto::events::v1::{self as pb, parked_item_service_server::ParkedItemService};
use rapport_store::ListParams;
use tonic::{Request, Response, Status};

use super::{ParkedItem, Replays};

#[tonic::async_trait]
impl ParkedItemService for Replays {
    async fn list_parked_items(
        &self,
        request: Request<pb::ListParkedItemsRequest>,
    ) -> Result<Response<pb::ListParkedItemsResponse>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let mut tx = self.db.begin(&ctx).await?;
        let page = tx
            .list::<ParkedItem>(&ListParams {
                filter: &r.filter,
                order_by: &r.order_by,
                page_size: r.page_size,
                page_token: &r.page_token,
                show_deleted: false,
            })
            .await?;
        let parked_items = page.items.into_iter().map(Into::into).collect();
        Ok(tx
            .commit(pb::ListParkedItemsResponse { parked_items, next_page_token: page.next_page_token })
            .await?)
    }

    async fn get_parked_item(
        &self,
        request: Request<pb::GetParkedItemRequest>,
    ) -> Result<Response<pb::ParkedItem>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let id = Id::<ParkedItem>::parse("id", &r.id)?.uuid();
        let mut tx = self.db.begin(&ctx).await?;
        let item = tx.get::<ParkedItem>(id).await?;
        Ok(tx.commit(item.into()).await?)
    }

    async fn replay_parked_item(
        &self,
        request: Request<pb::ReplayParkedItemRequest>,
    ) -> Result<Response<pb::ParkedItem>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let id = Id::<ParkedItem>::parse("id", &r.id)?.uuid();
        let item = self.once(&ctx, self.replay(&unnamed(&ctx), id)).await?;
        Ok(self.db.begin(&ctx).await?.commit(item.into()).await?)
    }

    async fn discard_parked_item(
        &self,
        request: Request<pb::DiscardParkedItemRequest>,
    ) -> Result<Response<pb::ParkedItem>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let id = Id::<ParkedItem>::parse("id", &r.id)?.uuid();
        let item = self.once(&ctx, self.discard(&unnamed(&ctx), id)).await?;
        Ok(self.db.begin(&ctx).await?.commit(item.into()).await?)
    }
}

impl Replays {
    /// Does what was asked, unless it was answered before. It is done in transactions of its own, as the events' tenant sees it.
    async fn once(
        &self,
        ctx: &Ctx,
        work: impl Future<Output = Result<ParkedItem, Error>>,
    ) -> Result<ParkedItem, Error> {
        self.db.begin(ctx).await?.finish().await?;
        work.await
    }
}

/// The caller, for those transactions: the request's id belongs to the one that keeps the answer.
fn unnamed(ctx: &Ctx) -> Ctx {
    Ctx { request_id: None, ..ctx.clone() }
}
