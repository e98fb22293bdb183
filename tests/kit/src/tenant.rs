//! A tenant with an administrator, made as an operator makes one.
use rapport::access::{Access, Bearer};
use rapport_proto::identity::v1::{
    self as pb, exchange_credential_request::Credential, role_service_client::RoleServiceClient,
    session_service_client::SessionServiceClient, tenant_service_client::TenantServiceClient,
    user_service_client::UserServiceClient,
};
use std::ops::Deref;

use crate::{Caller, World};

/// The password of everybody in tests.
pub const PASSWORD: &str = "correct horse battery staple";

/// A tenant; calls on it are its administrator's.
pub struct Tenant {
    /// Its id.
    pub id: String,
    /// Its slug.
    pub slug: String,
    administrator: Caller,
    access: Access,
    url: String,
}

impl Deref for Tenant {
    type Target = Caller;
    fn deref(&self) -> &Caller {
        &self.administrator
    }
}

impl Tenant {
    pub(crate) async fn make(world: &World, slug: &str) -> Self {
        let access = world.access();
        let operator = world.operator().await;
        let created = TenantServiceClient::new(access.with("identity", &operator).unwrap())
            .create_tenant(pb::CreateTenantRequest {
                tenant: Some(pb::Tenant {
                    slug: slug.into(),
                    display_name: slug.into(),
                    time_zone: "Asia/Shanghai".into(),
                    phone_region: "CN".into(),
                    base_currency: "CNY".into(),
                    ..pb::Tenant::default()
                }),
                administrator_email: format!("admin@{slug}.example.com"),
                ..pb::CreateTenantRequest::default()
            })
            .await
            .unwrap()
            .into_inner();
        let id = created.tenant.unwrap().id;
        let administrator = join(&access, &world.url(), slug, "admin", created.invitation_token).await;
        Self { id, slug: slug.to_owned(), administrator, access, url: world.url() }
    }

    /// A new person with the built-in role `role`, e.g. `sales`.
    pub async fn person(&self, role: &str) -> Caller {
        let roles = RoleServiceClient::new(self.direct("identity"))
            .list_roles(pb::ListRolesRequest { filter: "built_in".into(), ..pb::ListRolesRequest::default() })
            .await
            .unwrap()
            .into_inner()
            .roles;
        let found = roles.iter().find(|known| known.display_name.eq_ignore_ascii_case(role));
        let role_id = &found.expect("a built-in role of this name").id;
        self.person_with(&[format!("identity.role/{role_id}")]).await
    }

    /// A new person with these roles.
    pub async fn person_with(&self, roles: &[String]) -> Caller {
        let name = format!("p{}", rapport_kernel::Clock::system().new_uuid().simple());
        let invited = UserServiceClient::new(self.direct("identity"))
            .invite_user(pb::InviteUserRequest {
                user: Some(pb::User {
                    email: format!("{name}@{}.example.com", self.slug),
                    display_name: name.clone(),
                    roles: roles.to_vec(),
                    ..pb::User::default()
                }),
                ..pb::InviteUserRequest::default()
            })
            .await
            .unwrap()
            .into_inner();
        join(&self.access, &self.url, &self.slug, &name, invited.invitation_token).await
    }

    /// A token for the credential, e.g. an API key.
    pub async fn exchange(&self, credential: Credential) -> Bearer {
        self.access.exchange(credential).await.unwrap()
    }
}

/// Accepts an invitation and signs in.
async fn join(access: &Access, url: &str, slug: &str, name: &str, invitation_token: String) -> Caller {
    let user = UserServiceClient::new(access.anonymous("identity").unwrap())
        .accept_invitation(pb::AcceptInvitationRequest { invitation_token, password: PASSWORD.into() })
        .await
        .unwrap()
        .into_inner();
    let session = SessionServiceClient::new(access.anonymous("identity").unwrap())
        .sign_in(pb::SignInRequest {
            tenant: slug.into(),
            email: format!("{name}@{slug}.example.com"),
            password: PASSWORD.into(),
        })
        .await
        .unwrap()
        .into_inner();
    Caller::new(access.clone(), url.to_owned(), user, session.session_token).await
}
