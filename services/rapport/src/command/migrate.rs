//! `rapport migrate`: schemas first, then the new version.
use rapport_kernel::BoxError;
use rapport_runtime::config::Config;
use secrecy::ExposeSecret as _;

use crate::suite::Role;

/// Brings the schema of every configured database up to date.
///
/// # Errors
/// When a database is not of a known service, its owner's URL is missing, or a step fails; steps before it stay.
#[expect(clippy::print_stdout, reason = "this is what the command answers")]
pub async fn migrate(config: &Config) -> Result<(), BoxError> {
    if config.databases.is_empty() {
        return Err("the configuration names no databases: set databases.<service>.owner_url".into());
    }
    for (name, database) in &config.databases {
        let role = Role::ALL.into_iter().find(|role| role.name() == name);
        let steps = role.and_then(Role::migrations).ok_or_else(|| format!("there is no service `{name}`"))?;
        let owner = database.owner_url.expose_secret();
        if owner.is_empty() {
            return Err(
                format!("set databases.{name}.owner_url: migrations run as the owner of the tables").into()
            );
        }
        rapport_store::migrate(owner, steps).await?;
        println!("{name}: up to date");
    }
    Ok(())
}
