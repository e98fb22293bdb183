//! `rapport serve`: the chosen roles of a cluster, as configured.
use std::collections::BTreeSet;

use rapport_identity::Passwords;
use rapport_kernel::{BoxError, Clock};
use rapport_runtime::{
    config::Config,
    shutdown::{Ending, Stage},
    telemetry,
    witness::Gathering,
};
use rapport_store::Sabotage;

use crate::suite::{Plan, Role, Suite};

/// Which roles.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The roles of this process
    #[arg(required = true, value_parser = role)]
    roles: Vec<Role>,
}

fn role(name: &str) -> Result<Role, String> {
    let names = Role::ALL.map(Role::name).join(", ");
    Role::ALL.into_iter().find(|role| role.name() == name).ok_or(format!("there are {names}"))
}

/// Serves until a signal comes.
///
/// # Errors
/// In words for the operator.
pub async fn serve(options: &Options, config: Config) -> Result<(), BoxError> {
    let roles: BTreeSet<Role> = options.roles.iter().copied().collect();
    let names: Vec<_> = roles.iter().map(|role| role.name()).collect();
    let telemetry = telemetry::init(&config.telemetry, &format!("rapport-{}", names.join("-")))?;
    let suite = Suite::start(Plan {
        config,
        listener: None,
        listen_grpc: roles.iter().any(|role| role.migrations().is_some()),
        roles,
        plain: telemetry.router(),
        clock: Clock::system(),
        passwords: Passwords::new()?,
        imports: rapport_import::Options::default(),
        gathering: Gathering::default(),
        sabotage: Sabotage::None,
        sabotage_of_events: rapport_events::Sabotage::default(),
    })
    .await?;
    let mut shutdown = suite.shutdown;
    shutdown.on(Stage::Closing, move || async move { telemetry.flush() });
    let ended = shutdown.wait();
    tracing::info!(gateway = ?suite.gateway, grpc = ?suite.grpc, roles = names.join(","), "serving");
    match ended.await? {
        Ending::Failed(error) => Err(error),
        Ending::Orderly | Ending::Forced => Ok(()),
    }
}
