//! Who calls identity, and what comes back.
use rapport_proto::identity::v1::{
    self as pb, api_key_service_client::ApiKeyServiceClient, audit_service_client::AuditServiceClient,
    role_service_client::RoleServiceClient, session_service_client::SessionServiceClient,
    tenant_service_client::TenantServiceClient, token_service_client::TokenServiceClient,
    unit_service_client::UnitServiceClient, user_service_client::UserServiceClient,
};
use rapport_runtime::stack::Upstream;
use tonic::{
    Code, Request, Status,
    metadata::{MetadataKey, MetadataMap},
    service::{Interceptor, interceptor::InterceptedService},
};
use tonic_types::StatusExt as _;

/// Identity, below the layers, with a caller's headers.
type Called = InterceptedService<Upstream, Headers>;

/// Somebody who calls identity through its layers.
#[derive(Clone)]
pub(crate) struct Caller(Called);

#[derive(Clone)]
pub(crate) struct Headers(MetadataMap);

impl Interceptor for Headers {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for header in self.0.iter() {
            if let tonic::metadata::KeyAndValueRef::Ascii(key, value) = header {
                request.metadata_mut().insert(key.clone(), value.clone());
            }
        }
        Ok(request)
    }
}

impl Caller {
    pub(crate) fn new(upstream: Upstream, headers: &[(&'static str, &str)]) -> Self {
        let mut metadata = MetadataMap::new();
        for (name, value) in headers {
            metadata.insert(MetadataKey::from_static(name), value.parse().unwrap());
        }
        Self(InterceptedService::new(upstream, Headers(metadata)))
    }

    pub(crate) fn audit(&self) -> AuditServiceClient<Called> {
        AuditServiceClient::new(self.0.clone())
    }
    pub(crate) fn tenants(&self) -> TenantServiceClient<Called> {
        TenantServiceClient::new(self.0.clone())
    }
    pub(crate) fn units(&self) -> UnitServiceClient<Called> {
        UnitServiceClient::new(self.0.clone())
    }
    pub(crate) fn users(&self) -> UserServiceClient<Called> {
        UserServiceClient::new(self.0.clone())
    }
    pub(crate) fn roles(&self) -> RoleServiceClient<Called> {
        RoleServiceClient::new(self.0.clone())
    }
    pub(crate) fn sessions(&self) -> SessionServiceClient<Called> {
        SessionServiceClient::new(self.0.clone())
    }
    pub(crate) fn keys(&self) -> ApiKeyServiceClient<Called> {
        ApiKeyServiceClient::new(self.0.clone())
    }
    pub(crate) fn tokens(&self) -> TokenServiceClient<Called> {
        TokenServiceClient::new(self.0.clone())
    }

    /// The caller themselves.
    pub(crate) async fn me(&self) -> Result<pb::Me, Status> {
        Ok(self.users().get_me(pb::GetMeRequest {}).await?.into_inner())
    }

    /// Changes these fields of a user.
    pub(crate) async fn update_user(&self, user: pb::User, paths: &[&str]) -> Result<pb::User, Status> {
        let request =
            pb::UpdateUserRequest { user: Some(user), update_mask: Some(mask(paths)), ..Default::default() };
        Ok(self.users().update_user(request).await?.into_inner())
    }

    pub(crate) async fn deactivate(&self, id: &str) -> Result<pb::User, Status> {
        let request = pb::DeactivateUserRequest { id: id.into(), ..Default::default() };
        Ok(self.users().deactivate_user(request).await?.into_inner())
    }
}

pub(crate) fn mask(paths: &[&str]) -> prost_types::FieldMask {
    prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }
}

/// The code, the reason and the words of a refusal.
pub(crate) fn refusal<T: std::fmt::Debug>(result: Result<T, Status>) -> (Code, String, String) {
    let status = result.unwrap_err();
    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    (status.code(), reason, status.message().to_owned())
}

/// The reason of a refusal.
pub(crate) fn reason<T: std::fmt::Debug>(result: Result<T, Status>) -> String {
    refusal(result).1
}
