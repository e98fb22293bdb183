//! The suite with databases of its own.
use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use rapport::{
    access::{Access, Bearer},
    suite::{Plan, Role, Suite},
};
use rapport_identity::Passwords;
use rapport_kernel::Clock;
use rapport_proto::identity::v1::exchange_credential_request::Credential;
use rapport_runtime::{config::Config, stack::Upstream, witness::Gathering};
use rapport_store::Sabotage;
use secrecy::ExposeSecret as _;
use tokio::sync::OnceCell;
use tonic::{
    Request,
    metadata::MetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
};

use crate::{Databases, Tenant};

/// How services of a test know each other.
const INTERNAL: &str = "a-secret-of-32-characters-at-least";

/// What a world may have that differs.
#[derive(Clone, Debug)]
pub struct Options {
    /// The clock of all services.
    pub clock: Clock,
    /// What this process is: everything, unless a test is about less.
    pub roles: BTreeSet<Role>,
    /// The configuration; addresses, databases and secrets are set by the world.
    pub config: Config,
    /// How imports are worked on.
    pub imports: rapport_import::Options,
    /// For how long refusals and reads of private fields are gathered: longer than any test, unless one is about what is then
    /// told by itself.
    pub gathering: Gathering,
    /// A promise to break, to see that a proof notices.
    pub sabotage: Sabotage,
    /// Promises of the log and of those who hear it to break.
    pub sabotage_of_events: rapport_events::Sabotage,
}

impl Default for Options {
    fn default() -> Self {
        let mut config = Config::default();
        // Tests call faster than people.
        config.limits.tenant_requests_per_second = 1_000_000;
        config.limits.tenant_burst = 1_000_000;
        config.limits.key_requests_per_second = 1_000_000;
        Self {
            clock: Clock::system(),
            roles: BTreeSet::from(Role::ALL),
            config,
            imports: rapport_import::Options::default(),
            gathering: Gathering { refusals: Duration::from_hours(1), reads: Duration::from_hours(1) },
            sabotage: Sabotage::None,
            sabotage_of_events: rapport_events::Sabotage::default(),
        }
    }
}

/// The suite in this process.
pub struct World {
    /// The databases.
    pub databases: Databases,
    /// The configuration that it runs with.
    pub config: Config,
    /// What runs.
    pub suite: Suite,
    operator: OnceCell<String>,
    clock: Clock,
}

impl World {
    /// Starts the suite.
    pub async fn new() -> Self {
        Self::with(Options::default()).await
    }

    /// Starts the suite with other options.
    pub async fn with(options: Options) -> Self {
        let databases = Databases::new();
        Self::on(databases, options).await
    }

    /// Starts the suite on databases that are there already, or makes them.
    pub async fn on(databases: Databases, options: Options) -> Self {
        let Options { clock, roles, mut config, imports, gathering, sabotage, sabotage_of_events } = options;
        for role in &roles {
            if config.databases.contains_key(role.name()) {
                continue;
            }
            if let Some(database) = databases.database(*role).await {
                config.databases.insert(role.name().to_owned(), database);
            }
        }
        let files = std::env::temp_dir().join(format!("rapport-{}", databases.name()));
        config.blobs.url = Some(format!("file://{}", files.display()));
        config.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        config.grpc = config.listen;
        #[expect(clippy::disallowed_methods, reason = "where tests learn of their server")]
        let nats = std::env::var("RAPPORT_TEST_NATS").ok();
        if config.nats.url.is_none() {
            // Many worlds share this server's disk.
            (config.nats.url, config.nats.stream_bytes) = (nats, 16 << 20);
        }
        config.nats.root = databases.name().to_owned();
        config.egress.allow =
            config.egress.allow.into_iter().chain(["hooks.example.test:443".to_owned()]).collect();
        config.security.internal_secret = Some(INTERNAL.into());
        config.security.cookie_secure = false;
        let suite = Suite::start(Plan {
            config: config.clone(),
            roles,
            listener: None,
            listen_grpc: true,
            plain: axum::Router::new(),
            clock: clock.clone(),
            // Weak and quick: tests sign in more often than people do.
            passwords: Passwords::with(1_024, 1, 2).unwrap(),
            imports,
            gathering,
            sabotage,
            sabotage_of_events,
        })
        .await
        .unwrap();
        Self { databases, config, suite, operator: OnceCell::new(), clock }
    }

    /// Where the gateway listens, e.g. `http://127.0.0.1:40123`.
    pub fn url(&self) -> String {
        format!("http://{}", self.suite.gateway.unwrap())
    }

    /// Where the services listen for other processes, without the gateway.
    pub fn grpc_url(&self) -> String {
        format!("http://{}", self.suite.grpc.unwrap())
    }

    /// The services of this process, below their layers, for whoever calls them without a network.
    pub fn access(&self) -> Access {
        Access::new(&self.suite, INTERNAL)
    }

    /// An operator's API key.
    pub async fn operator_key(&self) -> &str {
        self.operator
            .get_or_init(async || {
                let database = self.config.databases.get("identity").unwrap();
                let options =
                    rapport_store::Options { url: database.url.expose_secret().to_owned(), pool_size: 1 };
                let db = rapport_store::Db::connect(&options).await.unwrap();
                let mut made = None;
                let keep = |key: &str| {
                    made = Some(key.to_owned());
                    Ok(())
                };
                rapport_identity::ensure_operator(&db, &self.clock, keep).await.unwrap();
                made.expect("no operator so far")
            })
            .await
    }

    /// An operator's token.
    pub async fn operator(&self) -> Bearer {
        let key = self.operator_key().await.to_owned();
        self.access().exchange(Credential::ApiKey(key)).await.unwrap()
    }

    /// A service of the suite, called by another one.
    pub fn internal(&self, service: &str) -> InterceptedService<Upstream, impl Interceptor + Clone + use<>> {
        let from_inside = |mut request: Request<()>| {
            request.metadata_mut().insert("rapport-internal", MetadataValue::from_static(INTERNAL));
            Ok(request)
        };
        InterceptedService::new(self.access().anonymous(service).unwrap(), from_inside)
    }

    /// Makes a tenant with an administrator who has an API key.
    pub async fn tenant(&self, slug: &str) -> Tenant {
        Tenant::make(self, slug).await
    }
}
