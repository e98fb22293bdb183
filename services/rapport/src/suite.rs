//! The suite: the chosen services and the gateway, put together in one process. `rapport up`, `rapport serve` and the tests
//! differ only in what they choose and in where the databases are.
use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::Arc,
};

use axum::Router;
use rapport_blobs::Blobs;
use rapport_egress::Door;
use rapport_events::{
    Checkpoints, Keep,
    bus::{self, Bus},
};
use rapport_gateway::{Gateway, Rate, Settings};
use rapport_identity::Passwords;
use rapport_kernel::{BoxError, Clock, Instant};
use rapport_proto::identity::v1::{ListSigningKeysRequest, token_service_client::TokenServiceClient};
use rapport_runtime::{
    config::{Config, Database},
    health::{Health, ReadyCheck},
    parts::Parts,
    server::{dispatch, remote, serve, serve_grpc, with_health},
    shutdown::{Shutdown, Stage},
    stack::{Stack, Upstream},
    token::{KeySource, PublicKey, Verifier},
    witness::{Gathering, Witness},
};
use rapport_store::{Db, Options, Sabotage, audit::Audit};
use secrecy::ExposeSecret as _;
use tokio::net::TcpListener;

use crate::{peers::Peers, up::write_private, witnesses};

/// What a process can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The edge: REST, gRPC and pages.
    Gateway,
    /// Tenants, people, roles, sessions, keys.
    Identity,
    /// Customers.
    Customer,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Gateway, Self::Identity, Self::Customer];

    /// The name in the configuration and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Identity => "identity",
            Self::Customer => "customer",
        }
    }

    /// The schema of its database; `None` for the gateway, which has none.
    pub const fn migrations(self) -> Option<&'static [&'static [rapport_store::Step]]> {
        match self {
            Self::Gateway => None,
            Self::Identity => Some(rapport_identity::MIGRATIONS),
            Self::Customer => Some(rapport_customer::MIGRATIONS),
        }
    }

    /// What its database may have; `None` for the gateway, which has none.
    pub fn audit(self) -> Option<Audit> {
        match self {
            Self::Gateway => None,
            Self::Identity => Some(rapport_identity::audit()),
            Self::Customer => Some(rapport_customer::audit()),
        }
    }

    async fn parts(
        self,
        plan: &Plan,
        events: &rapport_events::Settings,
        peers: &Arc<Peers>,
    ) -> Result<Option<Parts>, BoxError> {
        if self.migrations().is_none() {
            return Ok(None);
        }
        let config = &plan.config;
        let db = Db::connect(&options(self, config)?).await?;
        let clock = plan.clock.clone();
        if let (Self::Identity, Some(file)) = (self, &config.security.operator_key_file) {
            rapport_identity::ensure_operator(&db, &clock, |key| write_private(file, key)).await?;
        }
        Ok(match self {
            Self::Gateway => None,
            Self::Identity => Some(
                rapport_identity::parts(rapport_identity::Env {
                    db,
                    clock,
                    cell: config.cell.clone(),
                    region: config.region.clone(),
                    passwords: plan.passwords.clone(),
                    events: events.clone(),
                })
                .await?,
            ),
            Self::Customer => Some(rapport_customer::parts(rapport_customer::Env {
                db,
                blobs: Blobs::open(&blobs(config)?, &clock).await?,
                clock,
                imports: plan.imports.clone(),
                events: events.clone(),
                identity: peers.producer("identity"),
                sabotage: plan.sabotage,
            })),
        })
    }
}

/// How a role reaches its database.
pub(crate) fn options(role: Role, config: &Config) -> Result<Options, BoxError> {
    let database: &Database = config.databases.get(role.name()).ok_or_else(|| {
        format!("the configuration names no database for {0}: set databases.{0}.url", role.name())
    })?;
    Ok(Options { url: database.url.expose_secret().to_owned(), pool_size: database.pool_size })
}

/// Where files are kept.
fn blobs(config: &Config) -> Result<rapport_blobs::Settings, BoxError> {
    let url = config.blobs.url.clone();
    Ok(place(config, url.ok_or("the configuration names no place for files: set blobs.url")?))
}

/// A place for files.
fn place(config: &Config, url: String) -> rapport_blobs::Settings {
    let blobs = &config.blobs;
    rapport_blobs::Settings {
        url,
        endpoint: blobs.endpoint.clone(),
        region: blobs.region.clone(),
        access_key_id: blobs.access_key_id.clone(),
        secret_access_key: blobs.secret_access_key.as_ref().map(|secret| secret.expose_secret().to_owned()),
        allow_http: blobs.allow_http,
    }
}

/// Where checkpoints of the logs are kept, if anywhere.
pub(crate) async fn checkpoints(config: &Config) -> Result<Option<Checkpoints>, BoxError> {
    let (Some(url), Some(key_file)) = (&config.log.checkpoints, &config.log.checkpoint_key_file) else {
        return Ok(None);
    };
    let name = format!("rapport/{}/{}", config.region, config.cell);
    Checkpoints::open(&place(config, url.clone()), key_file, &name).await.map(Some)
}

/// A process that serves.
pub struct Suite {
    /// Where the gateway listens, when it is among the roles.
    pub gateway: Option<SocketAddr>,
    /// Where the services listen for other processes, when that was asked for.
    pub grpc: Option<SocketAddr>,
    /// Each service of this process, below its layers, for whoever calls it without a network.
    pub services: HashMap<String, Upstream>,
    /// How it ends.
    pub shutdown: Shutdown,
}

/// What to start.
pub struct Plan {
    /// The configuration.
    pub config: Config,
    /// Which roles.
    pub roles: BTreeSet<Role>,
    /// Where the gateway listens, when that was taken already; else it takes `config.listen`.
    pub listener: Option<TcpListener>,
    /// Whether other processes may call the services by gRPC, at `config.grpc`.
    pub listen_grpc: bool,
    /// Pages beside health: metrics.
    pub plain: Router,
    /// The clock.
    pub clock: Clock,
    /// Where passwords are hashed.
    pub passwords: Passwords,
    /// How imports are worked on.
    pub imports: rapport_import::Options,
    /// For how long refusals and reads of private fields are gathered before they are told.
    pub gathering: Gathering,
    /// For tests: a promise to break.
    pub sabotage: Sabotage,
    /// For tests: promises of the log and of those who hear it to break.
    pub sabotage_of_events: rapport_events::Sabotage,
}

impl Suite {
    /// Starts the roles and serves as soon as it returns.
    ///
    /// # Errors
    /// In words for the operator: what is missing or does not answer.
    pub async fn start(mut plan: Plan) -> Result<Self, BoxError> {
        let (listener, plain) = (plan.listener.take(), std::mem::take(&mut plan.plain));
        let Plan { config, roles, listen_grpc, clock, .. } = &plan;
        let mut shutdown = Shutdown::new();
        let internal = config.security.internal_secret.clone();
        let peers = Arc::new(Peers::new(internal.as_ref().map(|secret| secret.expose_secret().to_owned())));
        let events = rapport_events::Settings { sabotage: plan.sabotage_of_events, ..events(config).await? };
        let source = key_source(peers.clone());
        let verifier = Arc::new(Verifier::new(source, clock.clone()));
        let witness = Witness::new(plan.gathering);
        let stack = Stack::new(config.limits.clone(), verifier, internal.clone(), clock.clone())?
            .witnessed(witness.clone());

        let mut services = HashMap::new();
        let mut checks: Vec<ReadyCheck> = Vec::new();
        for role in roles {
            let Some(parts) = role.parts(&plan, &events, &peers).await? else { continue };
            let pool_size = options(*role, config)?.pool_size;
            services.insert(parts.name.to_owned(), stack.wrap(parts.routes, pool_size));
            checks.extend(parts.ready);
            let ending = parts.ending;
            shutdown.on(Stage::Serving, move || async move { ending.cancel() });
            for worker in parts.workers {
                shutdown.run(Stage::Working, |stop| async move {
                    worker.run(stop).await;
                    Ok(())
                });
            }
        }
        let mut reachable = services.clone();
        for (name, url) in &config.services {
            if !reachable.contains_key(name) {
                reachable.insert(name.clone(), remote(url)?);
            }
        }
        if !reachable.contains_key("identity") {
            return Err("identity runs nowhere: add the role, or set services.identity".into());
        }
        peers.found(reachable.clone());
        let (identity, time) = (peers.call("identity"), clock.clone());
        shutdown.run(Stage::Working, |stop| async move {
            witnesses::tell(witness, identity, time, stop).await;
            Ok(())
        });

        let health = Health::new(checks);
        for name in services.keys() {
            reachable
                .entry(name.clone())
                .and_modify(|service| *service = with_health(service.clone(), &health));
        }
        let gateway = if roles.contains(&Role::Gateway) {
            let listener = match listener {
                Some(listener) => listener,
                None => bind(config.listen).await?,
            };
            Some(
                listen(
                    config,
                    listener,
                    reachable,
                    plain.clone().merge(health.router()),
                    clock,
                    &mut shutdown,
                )
                .await?,
            )
        } else {
            None
        };
        let grpc = if *listen_grpc {
            let listener = bind(config.grpc).await?;
            let address = listener.local_addr()?;
            let (upstream, health) = (dispatch(services.clone()), health.clone());
            shutdown.run(Stage::Serving, |stop| async move {
                serve_grpc(listener, upstream, plain, &health, stop.cancelled_owned()).await;
                Ok(())
            });
            Some(address)
        } else {
            None
        };
        shutdown.on(Stage::Serving, move || async move { health.end() });
        Ok(Self { gateway, grpc, services, shutdown })
    }
}

/// Starts the gateway before `services`.
async fn listen(
    config: &Config,
    listener: TcpListener,
    services: HashMap<String, Upstream>,
    extra: Router,
    clock: &Clock,
    shutdown: &mut Shutdown,
) -> Result<SocketAddr, BoxError> {
    let limits = &config.limits;
    let secret = config.security.internal_secret.as_ref().map(|secret| secret.expose_secret().to_owned());
    let settings = Settings {
        cookie_secure: config.security.cookie_secure,
        allowed_origins: config.security.allowed_origins.clone(),
        tenant_rate: Some(Rate::new(limits.tenant_requests_per_second, limits.tenant_burst)),
        key_rate: Some(Rate::new(
            limits.key_requests_per_second,
            limits.key_requests_per_second.saturating_mul(2),
        )),
        deadline: std::time::Duration::from_secs(limits.request_timeout_seconds),
        extra,
        clock: clock.clone(),
        ..Settings::new(secret.unwrap_or_default())
    };
    let upstreams =
        services.into_iter().map(|(name, service)| (name, rapport_gateway::upstream(service))).collect();
    let router = Gateway::new(settings, upstreams)?.into_router();
    let address = listener.local_addr()?;
    shutdown.run(Stage::Serving, |stop| async move {
        serve(listener, router, stop.cancelled_owned()).await;
        Ok(())
    });
    Ok(address)
}

/// Takes an address.
///
/// # Errors
/// When it cannot be had; the text names it.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, BoxError> {
    TcpListener::bind(address).await.map_err(|error| format!("cannot listen at {address}: {error}").into())
}

/// The bus and the logs, as configured.
async fn events(config: &Config) -> Result<rapport_events::Settings, BoxError> {
    let Config { nats, log, .. } = config;
    let keep = Keep { standard_days: log.standard_days, extended_days: log.extended_days };
    let (checkpoints, door) = (checkpoints(config).await?, Some(Door::new(egress(config))?));
    let settings = rapport_events::Settings { keep, checkpoints, door, ..Default::default() };
    let Some(url) = nats.url.clone() else { return Ok(settings) };
    let options = bus::Options {
        url,
        root: nats.root.clone(),
        replicas: nats.replicas,
        stream_bytes: i64::try_from(nats.stream_bytes)?,
    };
    Ok(rapport_events::Settings { bus: Some(Bus::connect(options).await?), ..settings })
}

/// The way out, as configured.
fn egress(config: &Config) -> rapport_egress::Settings {
    let egress = &config.egress;
    rapport_egress::Settings {
        allow: egress.allow.clone(),
        http: egress.http,
        ports: egress.ports.clone(),
        roots_file: egress.roots_file.clone(),
        timeout_ms: egress.timeout_ms,
        connect_timeout_ms: egress.connect_timeout_ms,
        tenant_in_flight: egress.tenant_in_flight,
        in_flight: egress.in_flight,
        ..rapport_egress::Settings::default()
    }
}

/// Asks identity, here or elsewhere, for the keys that verify tokens.
fn key_source(peers: Arc<Peers>) -> KeySource {
    Arc::new(move || {
        let identity = TokenServiceClient::new(peers.call("identity"));
        Box::pin(async move {
            let mut identity = identity;
            let keys = identity.list_signing_keys(ListSigningKeysRequest {}).await?.into_inner().keys;
            keys.into_iter()
                .map(|key| {
                    Ok(PublicKey {
                        kid: key.id,
                        key: key.public_key.try_into().map_err(|_| "a public key does not have 32 bytes")?,
                        expires_at: key
                            .expire_time
                            .and_then(|time| Instant::from_parts(time.seconds, time.nanos)),
                    })
                })
                .collect()
        })
    })
}
