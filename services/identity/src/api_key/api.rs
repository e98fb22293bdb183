//! API keys by gRPC.
use std::sync::Arc;

use rapport_kernel::{Ctx, Error, Id};
use rapport_proto::identity::v1::{self as pb, api_key_service_server::ApiKeyService};
use rapport_store::{Etag, ListParams, Resource as _, mask, redact};
use tonic::{Request, Response, Status};

use super::ApiKey;
use crate::{Shared, request};

/// The service.
pub(crate) struct ApiKeys(pub(crate) Arc<Shared>);

fn answer(ctx: &Ctx, key: ApiKey) -> pb::ApiKey {
    redact(ctx, ApiKey::KIND, key.into())
}

#[tonic::async_trait]
impl ApiKeyService for ApiKeys {
    async fn list_api_keys(
        &self,
        request: Request<pb::ListApiKeysRequest>,
    ) -> Result<Response<pb::ListApiKeysResponse>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let params = ListParams {
            filter: &r.filter,
            order_by: &r.order_by,
            page_size: r.page_size,
            page_token: &r.page_token,
            show_deleted: false,
        };
        let mut tx = self.0.db.begin(&ctx).await?;
        let page = tx.list::<ApiKey>(&params).await?;
        let api_keys = page.items.into_iter().map(|key| answer(&ctx, key)).collect();
        Ok(tx.commit(pb::ListApiKeysResponse { api_keys, next_page_token: page.next_page_token }).await?)
    }

    async fn get_api_key(
        &self,
        request: Request<pb::GetApiKeyRequest>,
    ) -> Result<Response<pb::ApiKey>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let id = Id::<ApiKey>::parse("id", &r.id)?;
        let mut tx = self.0.db.begin(&ctx).await?;
        let key = tx.get::<ApiKey>(id.uuid()).await?;
        Ok(tx.commit(answer(&ctx, key)).await?)
    }

    async fn create_api_key(
        &self,
        request: Request<pb::CreateApiKeyRequest>,
    ) -> Result<Response<pb::CreateApiKeyResponse>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let described = r.api_key.ok_or_else(|| Error::invalid("api_key", "is missing"))?;
        let id = request::chosen_id(&ctx, "api_key.id", &described.id)?;
        mask::paths(&ctx, ApiKey::KIND, &described, None)?;
        let mut tx = self.0.db.begin(&ctx).await?;
        let (record, key) = super::create(&mut tx, &described, id).await?;
        let api_key = Some(answer(&ctx, record));
        Ok(tx.commit(pb::CreateApiKeyResponse { api_key, key }).await?)
    }

    async fn revoke_api_key(
        &self,
        request: Request<pb::RevokeApiKeyRequest>,
    ) -> Result<Response<pb::ApiKey>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let id = Id::parse("id", &r.id)?;
        let etag = Etag::parse("etag", &r.etag)?;
        let mut tx = self.0.db.begin(&ctx).await?;
        let key = super::revoke(&mut tx, id, etag).await?;
        Ok(tx.commit(answer(&ctx, key)).await?)
    }
}
