//! The exchange of credentials for tokens, remembered for a few seconds: long enough that a busy caller costs identity
//! one question in five seconds, short enough that a revocation is felt within that time.
use std::{net::IpAddr, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::HeaderValue;
use moka::{Expiry, future::Cache};
use rapport_kernel::{Clock, Error};
use rapport_proto::identity::v1::{
    ExchangeCredentialRequest, exchange_credential_request::Credential as Shown,
    token_service_client::TokenServiceClient,
};
use serde::Deserialize;
use tokio::time::Instant;
use tonic::{Code, Request, Status, metadata::MetadataValue};

use super::{Credential, Fingerprint};
use crate::{Upstream, upstream::Answering};

/// A revocation takes effect within this time.
const REMEMBERED: Duration = Duration::from_secs(5);
/// At most so many credentials are remembered at once.
const CAPACITY: u64 = 50_000;

/// A token for the services, and what the gateway needs to know of it.
#[derive(Debug)]
pub(crate) struct Token {
    /// `Bearer …`, as it goes to the services.
    pub(crate) authorization: HeaderValue,
    /// The tenant, where the caller belongs to one.
    pub(crate) tenant: Option<Arc<str>>,
}

/// What identity said of a credential, and until when it counts.
#[derive(Clone)]
struct Answer {
    token: Option<Arc<Token>>,
    until: Instant,
}

struct Until;

impl Expiry<Fingerprint, Answer> for Until {
    fn expire_after_create(
        &self,
        _: &Fingerprint,
        answer: &Answer,
        _: std::time::Instant,
    ) -> Option<Duration> {
        Some(answer.until.saturating_duration_since(Instant::now()))
    }
}

/// Exchanges credentials for tokens.
pub(crate) struct Tokens {
    identity: Upstream,
    internal: MetadataValue<tonic::metadata::Ascii>,
    cache: Cache<Fingerprint, Answer>,
    clock: Clock,
}

/// The claims that the gateway looks at. It does not verify them: identity gave them a moment ago.
#[derive(Default, Deserialize)]
struct Claims {
    tid: Option<Arc<str>>,
}

impl Tokens {
    /// Exchanges by `identity`, which knows the gateway by the secret.
    pub(crate) fn new(
        identity: Upstream,
        internal: MetadataValue<tonic::metadata::Ascii>,
        clock: Clock,
    ) -> Self {
        let cache = Cache::builder().max_capacity(CAPACITY).expire_after(Until).build();
        Self { identity, internal, cache, clock }
    }

    /// The token for a credential; callers with the same credential wait for one question.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` when identity does not know it; whatever else keeps identity from answering.
    pub(crate) async fn exchange(
        &self,
        credential: Credential,
        from: Option<IpAddr>,
    ) -> Result<Arc<Token>, Status> {
        let fingerprint = credential.fingerprint();
        let answer = self.cache.try_get_with(fingerprint, self.ask(credential, from)).await;
        let answer = answer.map_err(|status| Status::clone(&status))?;
        answer.token.ok_or_else(|| Error::Unauthenticated.into())
    }

    /// Forgets a credential that ended.
    pub(crate) async fn forget(&self, fingerprint: &Fingerprint) {
        self.cache.invalidate(fingerprint).await;
    }

    async fn ask(&self, credential: Credential, from: Option<IpAddr>) -> Result<Answer, Status> {
        let asked = Instant::now();
        let shown = match credential {
            Credential::Key(key) => Shown::ApiKey(key),
            Credential::Session(secret) => Shown::SessionToken(secret),
        };
        let ip_address = from.map(|address| address.to_string()).unwrap_or_default();
        let mut request = Request::new(ExchangeCredentialRequest { credential: Some(shown), ip_address });
        request.metadata_mut().insert("rapport-internal", self.internal.clone());
        request.set_timeout(REMEMBERED);

        let mut identity = TokenServiceClient::new(Answering(self.identity.clone()));
        let answered = tokio::time::timeout(REMEMBERED, identity.exchange_credential(request)).await;
        let answered =
            answered.unwrap_or_else(|_| Err(Status::unavailable("identity did not answer in time")));
        let answer = match answered {
            Ok(answer) => answer.into_inner(),
            Err(status)
                if matches!(
                    status.code(),
                    Code::Unauthenticated | Code::NotFound | Code::InvalidArgument
                ) =>
            {
                return Ok(Answer { token: None, until: asked + REMEMBERED });
            }
            Err(status) => return Err(status),
        };
        let left = answer.expire_time.map(|end| end.seconds - self.clock.now().as_seconds());
        let left = left.map_or(REMEMBERED, |left| Duration::from_secs(left.try_into().unwrap_or_default()));
        let token = Token::read(&answer.token)
            .ok_or_else(|| Status::from(Error::internal("a token without a form")))?;
        Ok(Answer { token: Some(Arc::new(token)), until: asked + left.min(REMEMBERED) })
    }
}

impl Token {
    fn read(token: &str) -> Option<Self> {
        let mut authorization = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
        authorization.set_sensitive(true);
        let claims: Claims = token
            .split('.')
            .nth(1)
            .and_then(|claims| URL_SAFE_NO_PAD.decode(claims).ok())
            .and_then(|claims| serde_json::from_slice(&claims).ok())
            .unwrap_or_default();
        Some(Self { authorization, tenant: claims.tid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tenant_is_read_from_the_token() {
        let claims = URL_SAFE_NO_PAD.encode(r#"{"tid":"0190a3c4","sub":"user:1"}"#);
        let token = Token::read(&format!("e30.{claims}.sig")).unwrap();
        assert_eq!(token.tenant.as_deref(), Some("0190a3c4"));
        assert!(token.authorization.is_sensitive());
        assert!(Token::read("e30.e30.sig").unwrap().tenant.is_none());
        assert!(Token::read("opaque").unwrap().tenant.is_none());
        assert!(Token::read("line\nbreak").is_none());
    }
}
