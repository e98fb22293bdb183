#![doc = include_str!("../README.md")]

mod api_key;
mod audit;
mod operator;
mod passwords;
mod permission;
mod regional;
mod request;
mod rights;
mod role;
mod secret;
mod session;
mod tenant;
mod token;
mod unit;
mod user;

use std::sync::Arc;

use moka::sync::Cache;
use rapport_events::{Audience, Events, Snapshots};
use rapport_kernel::{Clock, Error};
use rapport_proto::identity::v1::{
    self as pb, api_key_service_server::ApiKeyServiceServer, audit_service_server::AuditServiceServer,
    role_service_server::RoleServiceServer, session_service_server::SessionServiceServer,
    tenant_service_server::TenantServiceServer, token_service_server::TokenServiceServer,
    unit_service_server::UnitServiceServer, user_service_server::UserServiceServer,
};
use rapport_runtime::{
    health::ReadyCheck,
    parts::{Parts, Worker},
};
use rapport_store::{Db, Step, audit::Audit, keep_house};
use tonic::service::Routes;
use uuid::Uuid;

pub use operator::ensure_operator;
pub use passwords::Passwords;
pub use token::keys::key_source;

/// The steps of identity's schema, after those of the kit.
pub const MIGRATIONS: &[&[Step]] = &[
    rapport_events::MIGRATIONS,
    &[
        (1000, "identity", include_str!("../migrations/1000_identity.sql")),
        (1001, "identity audit", include_str!("../migrations/1001_audit.sql")),
        (1002, "log retention", include_str!("../migrations/1002_log_retention.sql")),
    ],
];

/// What identity needs to run.
#[derive(Clone)]
pub struct Env {
    /// Its database.
    pub db: Db,
    /// The clock, for what happens before the first call.
    pub clock: Clock,
    /// The cell that this installation is, for new tenants.
    pub cell: String,
    /// The region whose tenants it holds.
    pub region: String,
    /// Where passwords are hashed.
    pub passwords: Passwords,
    /// The bus, and how long the log is kept.
    pub events: rapport_events::Settings,
}

/// What all of identity's services share.
pub(crate) struct Shared {
    pub(crate) db: Db,
    pub(crate) cell: String,
    pub(crate) region: String,
    pub(crate) passwords: Passwords,
    pub(crate) attempts: session::Attempts,
    pub(crate) slugs: Cache<String, Uuid>,
    pub(crate) keys: token::keys::SigningKeys,
}

/// What its database may have beside what every service's has.
pub fn audit() -> Audit {
    let tables = ["directory", "operators", "operator_keys", "signing_keys"];
    let functions = ["follow_directory", "register_tenant", "tenant_profile"];
    let audit = tables.into_iter().fold(rapport_events::audit(Audit::default()), Audit::platform);
    let audit = functions.into_iter().fold(audit, Audit::definer);
    audit
        .resource::<unit::Unit>()
        .resource::<user::User>()
        .resource::<role::Role>()
        .resource::<api_key::ApiKey>()
}

/// The parts of identity. Nothing of its own needs a worker: keys follow one another when a token is signed, and sessions
/// that are over go when their user signs in again.
///
/// # Errors
/// `Unavailable` when the database does not answer.
pub async fn parts(env: Env) -> Result<Parts, Error> {
    let shared = Arc::new(Shared {
        db: env.db.clone(),
        cell: env.cell,
        region: env.region,
        passwords: env.passwords,
        attempts: session::Attempts::new(),
        slugs: Cache::new(10_000),
        keys: token::keys::SigningKeys::default(),
    });
    // The first key, so that whoever asks for the keys before the first sign-in finds it.
    shared.keys.current(&shared.db, &env.clock).await?;
    let routes = Routes::new(TenantServiceServer::new(tenant::api::Tenants(shared.clone())))
        .add_service(UnitServiceServer::new(unit::api::Units(shared.clone())))
        .add_service(UserServiceServer::new(user::api::Users(shared.clone())))
        .add_service(RoleServiceServer::new(role::api::Roles(shared.clone())))
        .add_service(SessionServiceServer::new(session::api::Sessions(shared.clone())))
        .add_service(ApiKeyServiceServer::new(api_key::api::ApiKeys(shared.clone())))
        .add_service(AuditServiceServer::new(audit::api::Audits(shared.clone())))
        .add_service(TokenServiceServer::new(token::api::Tokens(shared)));
    let (db, clock) = (env.db.clone(), env.clock.clone());
    let housekeeping = Worker::new("identity housekeeping", move |stop| {
        let (db, clock) = (db.clone(), clock.clone());
        async move {
            let kept = stop.run_until_cancelled(keep_house(&db, &clock, &[])).await;
            Ok(kept.unwrap_or(Ok(()))?)
        }
    });
    let events =
        Events::of("identity", &env.db, &env.events, &env.clock).told_to(audience()).shows(snapshots());
    let db = env.db;
    let ready = ReadyCheck::new("identity database", move || {
        let db = db.clone();
        async move { Ok(db.ping().await?) }
    });
    let (workers, ready) = (vec![housekeeping], vec![ready]);
    let parts = Parts { name: "identity", routes, workers, ready, ending: Default::default() };
    Ok(events.join(parts))
}

/// What peers copy.
fn snapshots() -> Snapshots {
    Snapshots::default()
        .of::<unit::Unit, pb::Unit>(|_, unit| unit.into())
        .of::<user::User, pb::User>(|_, user| user.into())
}

/// Who hears of what happens here.
fn audience() -> Audience {
    Audience::of("identity")
        .holders_of::<tenant::Tenant>("identity.audit.read")
        .seers_of::<unit::Unit>()
        .seers_of::<user::User>()
        .seers_of::<role::Role>()
        .seers_of::<api_key::ApiKey>()
}
