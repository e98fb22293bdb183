//! `rapport up`: everything on one machine, with private servers that are started and stopped with it.
mod demo;
mod ports;
mod running;
mod secrets;

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Instant,
};

use rapport_identity::Passwords;
use rapport_kernel::{BoxError, Clock};
use rapport_local::{Nats, Postgres, nats, postgres};
use rapport_runtime::{
    config::{Config, Database},
    shutdown::{Ending, Stage},
    telemetry,
    witness::Gathering,
};
use rapport_store::{Sabotage, migrate, provision};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};

use crate::{
    access::Access,
    suite::{self, Plan, Role, Suite},
};
pub(crate) use running::Running;
pub(crate) use secrets::{Secrets, write_private};

/// The file, in the data folder, that holds the first operator's API key.
pub const OPERATOR_KEY: &str = "operator.key";
/// The file that holds the key of checkpoints.
pub(crate) const CHECKPOINT_KEY: &str = "checkpoint.key";

/// What to start.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Where everything is kept; made if need be
    #[arg(long, value_name = "FOLDER", default_value = ".rapport")]
    pub data_dir: PathBuf,

    /// Where to listen; a free port near 8080 unless said
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,

    /// Without the two demo tenants
    #[arg(long)]
    pub no_demo: bool,
}

/// What `demo.json` says: where it runs and how to sign in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Demo {
    /// REST and pages.
    pub url: String,
    /// gRPC, on the same port.
    pub grpc: String,
    /// The message bus.
    pub nats: String,
    /// The slug of the demo tenant.
    pub tenant: String,
    /// Its administrator's e-mail address.
    pub email: String,
    /// And password.
    pub password: String,
    /// An API key with all of the administrator's rights.
    pub api_key: String,
    /// Everybody in both demo tenants.
    pub people: Vec<demo::Person>,
}

/// Starts everything, says where it is, and runs until a signal comes.
///
/// # Errors
/// In words for whoever typed the command.
pub async fn up(options: &Options, mut config: Config) -> Result<(), BoxError> {
    let begun = Instant::now();
    // Before anything is made: a missing program is the most likely fault on a new machine.
    postgres::Options::new(options.data_dir.join("postgres")).check()?;
    nats::Options::new(options.data_dir.join("nats")).check()?;
    let data = prepare(&options.data_dir)?;
    let telemetry = telemetry::init(&config.telemetry, "rapport")?;
    let clock = Clock::system();
    let (postgres, nats) = servers(&data).await?;
    let started = serve(options, &mut config, &data, &postgres, &nats, &telemetry, &clock).await;
    let noted = started.and_then(|started| Ok((started, Running::note(&data, &postgres)?)));
    let ((suite, demo), running) = match noted {
        Ok(noted) => noted,
        Err(error) => {
            stop(nats, postgres).await;
            return Err(error);
        }
    };
    let mut shutdown = suite.shutdown;
    shutdown.on(Stage::Closing, move || async move { telemetry.flush() });
    // Before anyone is told that it is ready, and presses Ctrl-C.
    let ended = shutdown.wait();
    announce(&demo, suite.gateway, begun.elapsed());
    let ending = tokio::select! {
        ending = ended => ending?,
        error = postgres.given_up() => Ending::Failed(error.into()),
        error = nats.given_up() => Ending::Failed(error.into()),
    };
    drop(running);
    stop(nats, postgres).await;
    match ending {
        Ending::Failed(error) => Err(error),
        Ending::Orderly | Ending::Forced => Ok(()),
    }
}

/// Starts both servers. When one cannot be started, the other is stopped in good order, not broken off.
async fn servers(data: &Path) -> Result<(Postgres, Nats), BoxError> {
    let both = tokio::join!(
        Postgres::start(postgres::Options::new(data.join("postgres"))),
        Nats::start(nats::Options::new(data.join("nats"))),
    );
    let error = match both {
        (Ok(postgres), Ok(nats)) => return Ok((postgres, nats)),
        (Ok(postgres), Err(error)) => {
            postgres.stop().await;
            error
        }
        (Err(error), Ok(nats)) => {
            nats.stop().await;
            error
        }
        (Err(error), Err(_)) => error,
    };
    Err(error.into())
}

async fn stop(nats: Nats, postgres: Postgres) {
    tokio::join!(nats.stop(), postgres.stop());
}

/// The data folder, with its full path.
fn prepare(folder: &Path) -> Result<PathBuf, BoxError> {
    fs::create_dir_all(folder)
        .and_then(|()| fs::canonicalize(folder))
        .map_err(|error| format!("the data folder {} cannot be used: {error}", folder.display()).into())
}

/// Prepares the databases and starts the suite.
async fn serve(
    options: &Options,
    config: &mut Config,
    data: &Path,
    postgres: &Postgres,
    nats: &Nats,
    telemetry: &telemetry::Telemetry,
    clock: &Clock,
) -> Result<(Suite, Option<Demo>), BoxError> {
    let secrets = Secrets::open(data)?;
    for role in Role::ALL {
        if let Some(database) = database(role, postgres, &secrets).await? {
            config.databases.insert(role.name().to_owned(), database);
        }
    }
    config.nats.url = Some(nats.url());
    config.blobs.url.get_or_insert_with(|| format!("file://{}", data.join("blobs").display()));
    keep_checkpoints(config, data);
    config.security.internal_secret = Some(secrets.internal.clone().into());
    config.security.cookie_secure = false;
    config.security.operator_key_file = Some(data.join(OPERATOR_KEY));
    let listener = match options.listen {
        Some(address) => suite::bind(address).await?,
        None => ports::take(data).await?,
    };
    let address = listener.local_addr()?;

    let suite = Suite::start(Plan {
        config: config.clone(),
        roles: BTreeSet::from(Role::ALL),
        listener: Some(listener),
        listen_grpc: false,
        plain: telemetry.router(),
        clock: clock.clone(),
        passwords: Passwords::new()?,
        imports: rapport_import::Options::default(),
        gathering: Gathering::default(),
        sabotage: Sabotage::None,
        sabotage_of_events: rapport_events::Sabotage::default(),
    })
    .await?;
    if options.listen.is_none() {
        ports::remember(data, address.port())?;
    }
    if options.no_demo {
        return Ok((suite, None));
    }
    let access = Access::new(&suite, &secrets.internal);
    let demo = demo::ensure(data, &access, address, &nats.url()).await?;
    Ok((suite, Some(demo)))
}

/// Where checkpoints of the logs are kept, unless the configuration says another place.
pub(crate) fn keep_checkpoints(config: &mut Config, data: &Path) {
    let log = &mut config.log;
    log.checkpoints.get_or_insert_with(|| format!("file://{}", data.join("checkpoints").display()));
    log.checkpoint_key_file.get_or_insert_with(|| data.join(CHECKPOINT_KEY));
}

/// Makes a role's database where it is missing, and brings its schema up to date.
async fn database(role: Role, postgres: &Postgres, secrets: &Secrets) -> Result<Option<Database>, BoxError> {
    let Some(migrations) = role.migrations() else { return Ok(None) };
    let name = format!("rapport_{}", role.name());
    let password = secrets.database(role.name());
    provision(&postgres.url(), role.name(), &name, &password, &secrets.owner).await?;
    let database = place(role, &postgres.url(), secrets);
    migrate(database.owner_url.expose_secret(), migrations).await?;
    Ok(Some(database))
}

/// Where a role's database is, on the server that has this superuser's URL.
pub(crate) fn place(role: Role, superuser: &str, secrets: &Secrets) -> Database {
    let name = format!("rapport_{}", role.name());
    let server = superuser.split(['@', '/']).nth(3).unwrap_or_default();
    let url = |user: &str, password: &str| format!("postgres://{user}:{password}@{server}/{name}");
    Database {
        url: url(&name, &secrets.database(role.name())).into(),
        owner_url: url("rapport_owner", &secrets.owner).into(),
        ..Database::default()
    }
}

/// Says where it is and how to sign in. Whoever does not listen any more is not told.
fn announce(demo: &Option<Demo>, gateway: Option<SocketAddr>, took: std::time::Duration) {
    let mut out = std::io::stdout().lock();
    let address = gateway.map(|address| format!("http://{address}")).unwrap_or_default();
    let _ = writeln!(out, "Rapport is ready at {address} ({:.1} s). Ctrl-C stops it.", took.as_secs_f32());
    let Some(demo) = demo else { return };
    let _ = writeln!(out, "\n  {address}/docs      the API, to read and to try");
    for person in &demo.people {
        let names = format!("{:<16} {:<14} {:<32}", person.tenant, person.role, person.email);
        let _ = writeln!(out, "  {names} {}", demo.password);
    }
    let _ = writeln!(out, "  API key: {}", demo.api_key);
}
