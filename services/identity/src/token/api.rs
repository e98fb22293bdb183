//! Tokens by gRPC, for Rapport's own services.
use std::sync::Arc;

use rapport_kernel::{Ctx, Error};
use rapport_proto::identity::v1::{
    self as pb, exchange_credential_request::Credential, token_service_server::TokenService,
};
use rapport_runtime::token;
use rapport_store::time;
use tonic::{Request, Response, Status};

use super::{keys, of_key, of_session};
use crate::Shared;

/// The service.
pub(crate) struct Tokens(pub(crate) Arc<Shared>);

#[tonic::async_trait]
impl TokenService for Tokens {
    async fn exchange_credential(
        &self,
        request: Request<pb::ExchangeCredentialRequest>,
    ) -> Result<Response<pb::ExchangeCredentialResponse>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let claims = match &r.credential {
            Some(Credential::SessionToken(secret)) => {
                of_session(&self.0, &ctx.clock, secret, &r.ip_address).await?
            }
            Some(Credential::ApiKey(secret)) => of_key(&self.0, &ctx.clock, secret, &r.ip_address).await?,
            None => return Err(Error::invalid("credential", "is missing").into()),
        };
        let key = self.0.keys.current(&self.0.db, &ctx.clock).await?;
        let token = token::sign(&key, &claims)?;
        let expire_time = Some(time::to_proto(claims.expires_at));
        Ok(Response::new(pb::ExchangeCredentialResponse { token, expire_time }))
    }

    async fn list_signing_keys(
        &self,
        request: Request<pb::ListSigningKeysRequest>,
    ) -> Result<Response<pb::ListSigningKeysResponse>, Status> {
        let (ctx, _) = Ctx::open(request)?;
        let keys = keys::public(&self.0.db, ctx.now()).await?.into_iter().map(|key| pb::SigningKey {
            id: key.kid,
            public_key: key.key.to_vec(),
            expire_time: key.expires_at.map(time::to_proto),
        });
        Ok(Response::new(pb::ListSigningKeysResponse { keys: keys.collect() }))
    }
}
