//! Identity in this process, with a clock of one's own, and who calls it.
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use rapport_identity::{Env, Passwords, ensure_operator, key_source, parts};
use rapport_kernel::{Clock, Ctx, Instant};
use rapport_proto::identity::v1::{self as pb, exchange_credential_request::Credential};
use rapport_runtime::{
    config::Limits,
    layers::INTERNAL_HEADER,
    stack::{Stack, Upstream},
    token::Verifier,
};
use rapport_store::{Db, Options};
use sqlx::{Connection as _, FromRow};
use tokio::sync::OnceCell;
use tonic::Status;
use uuid::Uuid;

use crate::{caller::Caller, database::Database};

/// The password of everybody who does not choose another one.
pub(crate) const PASSWORD: &str = "a quiet river at night";
/// How services know each other.
const INTERNAL: &str = "a-secret-of-32-characters-at-least";
/// When tests begin.
const BEGIN: &str = "2026-03-01T08:00:00Z";

/// Identity in this process.
pub(crate) struct World {
    pub(crate) database: Database,
    pub(crate) db: Db,
    pub(crate) passwords: Passwords,
    upstream: Upstream,
    now: Arc<AtomicI64>,
    operator: OnceCell<String>,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::on(Database::new().await, Passwords::new().unwrap()).await
    }

    /// On a database that is there, as another process would run or after a restart.
    pub(crate) async fn on(database: Database, passwords: Passwords) -> Self {
        let db = Db::connect(&Options { url: database.url(), pool_size: 8 }).await.unwrap();
        let now = Arc::new(AtomicI64::new(BEGIN.parse::<Instant>().unwrap().as_micros()));
        let mut world = Self {
            upstream: rapport_runtime::server::dispatch([]),
            operator: OnceCell::new(),
            database,
            db,
            passwords,
            now,
        };
        world.upstream = world.another().await;
        world
    }

    /// Another process of identity on the same database.
    async fn another(&self) -> Upstream {
        let clock = self.clock();
        let env = Env {
            db: self.db.clone(),
            clock: clock.clone(),
            cell: "main".into(),
            region: "cn-east".into(),
            passwords: self.passwords.clone(),
            events: rapport_events::Settings::default(),
        };
        let parts = parts(env).await.unwrap();
        let verifier = Arc::new(Verifier::new(key_source(self.db.clone(), clock.clone()), clock.clone()));
        let limits =
            Limits { tenant_queue: 500, in_flight: 1000, queue_wait_ms: 60_000, ..Limits::default() };
        Stack::new(limits, verifier, Some(INTERNAL.into()), clock).unwrap().wrap(parts.routes, 8)
    }

    pub(crate) fn clock(&self) -> Clock {
        let now = self.now.clone();
        Clock::chosen(move || Instant::from_micros(now.load(Ordering::SeqCst)))
    }

    /// What time it is.
    pub(crate) fn now(&self) -> Instant {
        self.clock().now()
    }

    /// Lets time pass.
    pub(crate) fn wait(&self, time: Duration) {
        self.now.fetch_add(i64::try_from(time.as_micros()).unwrap(), Ordering::SeqCst);
    }

    /// A caller with these headers.
    pub(crate) fn with(&self, headers: &[(&'static str, &str)]) -> Caller {
        Caller::new(self.upstream.clone(), headers)
    }

    pub(crate) fn anonymous(&self) -> Caller {
        self.with(&[])
    }

    /// One of Rapport's own services.
    pub(crate) fn internal(&self) -> Caller {
        self.with(&[(INTERNAL_HEADER, INTERNAL)])
    }

    /// One of Rapport's own services, which calls another process of identity.
    pub(crate) async fn internal_elsewhere(&self) -> Caller {
        Caller::new(self.another().await, &[(INTERNAL_HEADER, INTERNAL)])
    }

    /// The caller who holds this token.
    pub(crate) fn bearer(&self, token: &str) -> Caller {
        self.with(&[("authorization", &format!("Bearer {token}"))])
    }

    /// What a credential is worth.
    pub(crate) async fn exchange(&self, credential: Credential) -> Result<String, Status> {
        let request =
            pb::ExchangeCredentialRequest { credential: Some(credential), ip_address: "192.0.2.9".into() };
        Ok(self.internal().tokens().exchange_credential(request).await?.into_inner().token)
    }

    /// The caller who holds this session's secret.
    pub(crate) async fn session(&self, secret: &str) -> Result<Caller, Status> {
        Ok(self.bearer(&self.exchange(Credential::SessionToken(secret.into())).await?))
    }

    /// The caller who holds this API key.
    pub(crate) async fn key(&self, key: &str) -> Result<Caller, Status> {
        Ok(self.bearer(&self.exchange(Credential::ApiKey(key.into())).await?))
    }

    /// What services would learn about the caller from this credential.
    pub(crate) async fn ctx(&self, credential: Credential) -> Ctx {
        let token = self.exchange(credential).await.unwrap();
        let verifier = Verifier::new(key_source(self.db.clone(), self.clock()), self.clock());
        verifier.verify(&token).await.unwrap()
    }

    pub(crate) async fn operator_key(&self) -> &str {
        let make = async || {
            let mut made = None;
            let keep = |key: &str| {
                made = Some(key.to_owned());
                Ok(())
            };
            ensure_operator(&self.db, &self.clock(), keep).await.unwrap();
            made.expect("no operator so far")
        };
        self.operator.get_or_init(make).await
    }

    pub(crate) async fn operator(&self) -> Caller {
        self.key(self.operator_key().await).await.unwrap()
    }

    /// A new tenant with an administrator who is signed in.
    pub(crate) async fn tenant(&self, slug: &str) -> Tenant<'_> {
        let request = pb::CreateTenantRequest {
            tenant: Some(tenant(slug)),
            administrator_email: format!("admin@{slug}.example.com"),
            ..pb::CreateTenantRequest::default()
        };
        let created = self.operator().await.tenants().create_tenant(request).await.unwrap().into_inner();
        let tenant = created.tenant.unwrap();
        let id = tenant.id.parse().unwrap();
        let administrator = self.accept(&created.invitation_token, PASSWORD).await.unwrap();
        Tenant { world: self, id, slug: slug.to_owned(), administrator }
    }

    pub(crate) async fn accept(&self, link: &str, password: &str) -> Result<pb::User, Status> {
        let request =
            pb::AcceptInvitationRequest { invitation_token: link.into(), password: password.into() };
        Ok(self.anonymous().users().accept_invitation(request).await?.into_inner())
    }

    /// Signs in; says the session's secret.
    pub(crate) async fn sign_in(&self, tenant: &str, email: &str, password: &str) -> Result<String, Status> {
        let request =
            pb::SignInRequest { tenant: tenant.into(), email: email.into(), password: password.into() };
        let caller = self.with(&[("rapport-user-agent", "Firefox"), ("rapport-client-ip", "192.0.2.1")]);
        Ok(caller.sessions().sign_in(request).await?.into_inner().session_token)
    }

    /// What the outbox holds about a tenant, the oldest first.
    pub(crate) async fn events(&self, tenant: Uuid) -> Vec<Event> {
        sqlx::query_as(
            "SELECT subject, resource, record_id, version, changed_paths, payload, principal FROM platform.outbox
             WHERE tenant_id = $1 ORDER BY id",
        )
        .bind(tenant)
        .fetch_all(&mut self.database.admin().await)
        .await
        .unwrap()
    }
}

/// A row of the outbox.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct Event {
    pub(crate) subject: String,
    pub(crate) resource: String,
    pub(crate) record_id: Uuid,
    pub(crate) version: i64,
    pub(crate) changed_paths: Vec<String>,
    pub(crate) payload: Vec<u8>,
    pub(crate) principal: String,
}

impl Event {
    pub(crate) fn message<M: prost::Message + Default>(&self) -> M {
        M::decode(self.payload.as_slice()).unwrap()
    }
}

/// An id that nothing has.
pub(crate) fn new_id() -> Uuid {
    Clock::system().new_uuid()
}

/// A tenant as an operator describes it.
pub(crate) fn tenant(slug: &str) -> pb::Tenant {
    pb::Tenant {
        slug: slug.into(),
        display_name: format!("The company {slug}"),
        time_zone: "Asia/Shanghai".into(),
        locale: "zh-CN".into(),
        phone_region: "CN".into(),
        base_currency: "CNY".into(),
        ..pb::Tenant::default()
    }
}

/// A tenant with an administrator.
pub(crate) struct Tenant<'w> {
    pub(crate) world: &'w World,
    pub(crate) id: Uuid,
    pub(crate) slug: String,
    pub(crate) administrator: pb::User,
}

impl Tenant<'_> {
    /// The administrator, signed in just now.
    pub(crate) async fn admin(&self) -> Caller {
        let secret = self.world.sign_in(&self.slug, &self.administrator.email, PASSWORD).await.unwrap();
        self.world.session(&secret).await.unwrap()
    }

    /// The name of a built-in role.
    pub(crate) async fn role(&self, name: &str) -> String {
        let request =
            pb::ListRolesRequest { filter: format!("display_name == \"{name}\""), ..Default::default() };
        let roles = self.admin().await.roles().list_roles(request).await.unwrap().into_inner().roles;
        format!("identity.role/{}", roles[0].id)
    }

    /// A role with these permissions; its name.
    pub(crate) async fn make_role(&self, name: &str, permissions: &[(&str, pb::Scope)]) -> String {
        let role = pb::Role {
            display_name: name.into(),
            permissions: permissions_of(permissions),
            ..Default::default()
        };
        let request = pb::CreateRoleRequest { role: Some(role), ..Default::default() };
        let role = self.admin().await.roles().create_role(request).await.unwrap().into_inner();
        format!("identity.role/{}", role.id)
    }

    /// Invites somebody; says who it is and the link's secret.
    pub(crate) async fn invite(&self, name: &str, roles: &[String]) -> pb::InviteUserResponse {
        let request = pb::InviteUserRequest { user: Some(self.user(name, roles)), ..Default::default() };
        self.admin().await.users().invite_user(request).await.unwrap().into_inner()
    }

    /// Somebody, as one invites them.
    pub(crate) fn user(&self, name: &str, roles: &[String]) -> pb::User {
        pb::User {
            email: format!("{name}@{}.example.com", self.slug),
            display_name: name.into(),
            roles: roles.to_vec(),
            ..Default::default()
        }
    }

    /// Somebody who has chosen a password.
    pub(crate) async fn person(&self, name: &str, roles: &[String]) -> pb::User {
        let link = self.invite(name, roles).await.invitation_token;
        self.world.accept(&link, PASSWORD).await.unwrap()
    }

    /// That person, signed in just now.
    pub(crate) async fn caller(&self, user: &pb::User) -> Caller {
        let secret = self.sign_in(user).await.unwrap();
        self.world.session(&secret).await.unwrap()
    }

    pub(crate) async fn sign_in(&self, user: &pb::User) -> Result<String, Status> {
        self.world.sign_in(&self.slug, &user.email, PASSWORD).await
    }

    /// Runs two writes such that neither commits before both have come as far as they can: the outbox is held meanwhile.
    pub(crate) async fn at_once<A, B>(
        &self,
        one: impl Future<Output = A>,
        two: impl Future<Output = B>,
    ) -> (A, B) {
        let mut admin = self.world.database.admin().await;
        let lock = "SELECT pg_advisory_lock(hashtextextended($1::text, 1))";
        sqlx::query(lock).bind(self.id).execute(&mut admin).await.unwrap();
        let release = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            admin.close().await.unwrap();
        };
        let (one, two, ()) = tokio::join!(one, two, release);
        (one, two)
    }

    /// The events about this tenant since there were `before` of them.
    pub(crate) async fn events_since(&self, before: usize) -> Vec<Event> {
        self.world.events(self.id).await.split_off(before)
    }

    /// The subjects of the events that `work` causes.
    pub(crate) async fn subjects<T>(&self, work: impl Future<Output = T>) -> (T, Vec<String>) {
        let before = self.world.events(self.id).await.len();
        let result = work.await;
        (result, self.events_since(before).await.into_iter().map(|event| event.subject).collect())
    }
}

pub(crate) fn permissions_of(permissions: &[(&str, pb::Scope)]) -> Vec<pb::Permission> {
    let one = |(name, scope): &(&str, pb::Scope)| pb::Permission {
        name: (*name).to_owned(),
        scope: (*scope).into(),
    };
    permissions.iter().map(one).collect()
}
