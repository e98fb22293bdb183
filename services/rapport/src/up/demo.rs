//! The demo: two tenants, one Chinese and one English, with four people and some customers each, made through the same calls
//! that everybody uses. It is made once; a second start finds it again.
mod names;

use std::{fs, net::SocketAddr, path::Path};

use prost_types::{Struct, Value, value::Kind};
use rapport_kernel::BoxError;
use rapport_proto::{
    customer::v1::{
        self as customer, BatchCustomersRequest, CreateCustomerRequest, Customer, CustomerChange,
        customer_change::Change, customer_result, customer_service_client::CustomerServiceClient,
        field_service_client::FieldServiceClient,
    },
    fields::v1::{CreateFieldRequest, Field, FieldKind},
    identity::v1::{
        AcceptInvitationRequest, ApiKey, CreateApiKeyRequest, CreateTenantRequest, InviteUserRequest,
        ListRolesRequest, SignInRequest, Tenant, User, api_key_service_client::ApiKeyServiceClient,
        exchange_credential_request::Credential, role_service_client::RoleServiceClient,
        session_service_client::SessionServiceClient, tenant_service_client::TenantServiceClient,
        user_service_client::UserServiceClient,
    },
    r#type::v1::{Address, EmailAddress, Phone},
};
use serde::{Deserialize, Serialize};

use super::{Demo, OPERATOR_KEY, secrets};
use crate::access::{Access, Bearer};

/// The password of everybody in the demo. It is printed at every start: the demo is nobody's secret.
const PASSWORD: &str = "rapport-demo-2026";

/// Somebody who can sign in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Person {
    /// The tenant's slug.
    pub tenant: String,
    /// What they are.
    pub role: String,
    /// What they sign in with.
    pub email: String,
}

/// Makes the demo where it is missing; says how to sign in.
pub(super) async fn ensure(
    data: &Path,
    access: &Access,
    address: SocketAddr,
    nats: &str,
) -> Result<Demo, BoxError> {
    let path = data.join("demo.json");
    let url = format!("http://{address}");
    let demo = match fs::read(&path) {
        Ok(json) => {
            let known: Demo = serde_json::from_slice(&json)?;
            Demo { url: url.clone(), grpc: url, nats: nats.to_owned(), ..known }
        }
        Err(_) => {
            let operator = fs::read_to_string(data.join(OPERATOR_KEY))?;
            let operator = access.exchange(Credential::ApiKey(operator.trim().to_owned())).await?;
            let mut people = Vec::new();
            let mut api_key = String::new();
            for tenant in names::TENANTS {
                let key = make(access, &operator, tenant, &mut people).await?;
                if api_key.is_empty() {
                    api_key = key;
                }
            }
            let first = people.first().cloned().ok_or("the demo has no people")?;
            Demo {
                url: url.clone(),
                grpc: url,
                nats: nats.to_owned(),
                tenant: first.tenant,
                email: first.email,
                password: PASSWORD.to_owned(),
                api_key,
                people,
            }
        }
    };
    secrets::write_private(&path, &serde_json::to_string_pretty(&demo)?)?;
    Ok(demo)
}

/// Makes one tenant with its people, fields and customers; says an API key of its administrator.
async fn make(
    access: &Access,
    operator: &Bearer,
    tenant: &names::Tenant,
    people: &mut Vec<Person>,
) -> Result<String, BoxError> {
    let created = TenantServiceClient::new(access.with("identity", operator)?)
        .create_tenant(CreateTenantRequest {
            tenant: Some(Tenant {
                slug: tenant.slug.into(),
                display_name: tenant.name.into(),
                locale: tenant.locale.into(),
                time_zone: tenant.time_zone.into(),
                phone_region: tenant.region.into(),
                base_currency: tenant.currency.into(),
                ..Tenant::default()
            }),
            administrator_email: email(tenant, "admin"),
            administrator_name: tenant.people.first().map(|(_, name)| (*name).to_owned()).unwrap_or_default(),
            request_id: String::new(),
        })
        .await?
        .into_inner();
    accept(access, created.invitation_token).await?;
    let administrator = sign_in(access, tenant, "admin").await?;
    let owners = invite(access, &administrator, tenant).await?;
    for (role, _) in tenant.people {
        people.push(Person { tenant: tenant.slug.into(), role: (*role).into(), email: email(tenant, role) });
    }
    define_fields(access, &administrator).await?;
    create_customers(access, &administrator, tenant, &owners).await?;
    let key = ApiKeyServiceClient::new(access.with("identity", &administrator)?)
        .create_api_key(CreateApiKeyRequest {
            api_key: Some(ApiKey { display_name: "Demo".into(), ..ApiKey::default() }),
            request_id: String::new(),
        })
        .await?
        .into_inner();
    Ok(key.key)
}

fn email(tenant: &names::Tenant, role: &str) -> String {
    format!("{}@{}.example.com", role.replace("administrator", "admin"), tenant.slug)
}

async fn accept(access: &Access, invitation_token: String) -> Result<User, BoxError> {
    let accepted = UserServiceClient::new(access.anonymous("identity")?)
        .accept_invitation(AcceptInvitationRequest { invitation_token, password: PASSWORD.into() })
        .await?;
    Ok(accepted.into_inner())
}

async fn sign_in(access: &Access, tenant: &names::Tenant, role: &str) -> Result<Bearer, BoxError> {
    let session = SessionServiceClient::new(access.anonymous("identity")?)
        .sign_in(SignInRequest {
            tenant: tenant.slug.into(),
            email: email(tenant, role),
            password: PASSWORD.into(),
        })
        .await?
        .into_inner();
    access.exchange(Credential::SessionToken(session.session_token)).await
}

/// Invites everybody but the administrator, who is there; says the names of those who look after customers.
async fn invite(
    access: &Access,
    administrator: &Bearer,
    tenant: &names::Tenant,
) -> Result<Vec<String>, BoxError> {
    let called = access.with("identity", administrator)?;
    let roles = RoleServiceClient::new(called.clone())
        .list_roles(ListRolesRequest { filter: "built_in".into(), ..ListRolesRequest::default() })
        .await?
        .into_inner()
        .roles;
    let mut owners = Vec::new();
    for (role, name) in tenant.people.iter().skip(1) {
        let found = roles.iter().find(|known| known.display_name.eq_ignore_ascii_case(role));
        let role_id = &found.ok_or_else(|| format!("there is no built-in role `{role}`"))?.id;
        let invited = UserServiceClient::new(called.clone())
            .invite_user(InviteUserRequest {
                user: Some(User {
                    email: email(tenant, role),
                    display_name: (*name).into(),
                    roles: vec![format!("identity.role/{role_id}")],
                    ..User::default()
                }),
                request_id: String::new(),
            })
            .await?
            .into_inner();
        let user = accept(access, invited.invitation_token).await?;
        if ["manager", "sales"].contains(role) {
            owners.push(format!("identity.user/{}", user.id));
        }
    }
    Ok(owners)
}

/// Fields that show the kinds: text, number, date, boolean.
async fn define_fields(access: &Access, administrator: &Bearer) -> Result<(), BoxError> {
    let mut fields = FieldServiceClient::new(access.with("customer", administrator)?);
    let defined = [
        ("city", FieldKind::Text, 0, "City", "城市"),
        ("creditLimit", FieldKind::Number, 2, "Credit limit", "信用额度"),
        ("lastVisit", FieldKind::Date, 0, "Last visit", "上次拜访"),
        ("keyAccount", FieldKind::Boolean, 0, "Key account", "重点客户"),
    ];
    for (key, kind, scale, english, chinese) in defined {
        let field = Field {
            resource: "customer".into(),
            key: key.into(),
            kind: kind.into(),
            scale,
            labels: [("en", english), ("zh-CN", chinese)].map(|(l, t)| (l.to_owned(), t.to_owned())).into(),
            indexed: true,
            ..Field::default()
        };
        fields.create_field(CreateFieldRequest { field: Some(field), request_id: String::new() }).await?;
    }
    Ok(())
}

async fn create_customers(
    access: &Access,
    administrator: &Bearer,
    tenant: &names::Tenant,
    owners: &[String],
) -> Result<(), BoxError> {
    let changes = (0..names::CUSTOMERS)
        .map(|n| {
            let customer = customer_of(tenant, n, owners.get(n % owners.len().max(1)));
            let create = CreateCustomerRequest { customer: Some(customer), request_id: String::new() };
            CustomerChange { change: Some(Change::Create(Box::new(create))) }
        })
        .collect();
    let answer = CustomerServiceClient::new(access.with("customer", administrator)?)
        .batch_customers(BatchCustomersRequest { changes, request_id: String::new() })
        .await?
        .into_inner();
    for result in answer.results {
        if let Some(customer_result::Result::Error(error)) = result.result {
            return Err(format!("a demo customer was refused: {}", error.message).into());
        }
    }
    Ok(())
}

/// The `n`th customer: every third is a person.
fn customer_of(tenant: &names::Tenant, n: usize, owner: Option<&String>) -> Customer {
    let made = (tenant.customer)(n);
    let person = made.person;
    let status = [
        customer::CustomerStatus::Existing,
        customer::CustomerStatus::Target,
        customer::CustomerStatus::Potential,
    ]
    .into_iter()
    .nth(n % 3)
    .unwrap_or(customer::CustomerStatus::Potential);
    let r#type = if person { customer::CustomerType::Person } else { customer::CustomerType::Company };
    let string = |text: String| Value { kind: Some(Kind::StringValue(text)) };
    let attributes = [
        ("city".to_owned(), string(made.city.to_owned())),
        ("creditLimit".to_owned(), string(format!("{}.{:02}", 5_000 + n * 1_250, n % 100))),
        ("lastVisit".to_owned(), string(format!("2026-{:02}-{:02}", 1 + n % 10, 1 + n * 7 % 28))),
        ("keyAccount".to_owned(), Value { kind: Some(Kind::BoolValue(n.is_multiple_of(7))) }),
    ];
    Customer {
        r#type: r#type.into(),
        display_name: made.name,
        status: status.into(),
        owner: owner.cloned().unwrap_or_default(),
        phones: vec![Phone { number: made.phone, ..Phone::default() }],
        emails: vec![EmailAddress { address: made.email, ..EmailAddress::default() }],
        addresses: vec![Address {
            region_code: tenant.region.into(),
            locality: made.city.into(),
            address_lines: vec![made.street],
            ..Address::default()
        }],
        industry: if person { String::new() } else { made.industry.into() },
        attributes: Some(Struct { fields: attributes.into() }),
        tags: if n.is_multiple_of(5) { vec!["newsletter".into()] } else { Vec::new() },
        ..Customer::default()
    }
}
