//! `pgbench`, PostgreSQL's own load generator: what the database does with the same statements and nothing around them.
use std::{path::Path, time::Duration};

use tokio::process::Command;

/// A script and the values of its variables.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    pub(crate) text: String,
    pub(crate) variables: Vec<(String, String)>,
}

/// Transactions per second of `script` on the database at `url`, with `clients` connections that prepare their statements once.
#[expect(clippy::disallowed_methods, reason = "`with-servers` says where PostgreSQL's programs are")]
pub(crate) async fn run(url: &str, script: &Script, clients: usize, time: Duration) -> f64 {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &script.text).unwrap();
    let programs = std::env::var("RAPPORT_TEST_POSTGRES_PROGRAMS").unwrap();
    let mut command = Command::new(Path::new(&programs).join("pgbench"));
    command
        .args(["--no-vacuum", "--protocol=prepared", "--jobs=1", "--client"])
        .arg(clients.to_string())
        .arg(format!("--time={}", time.as_secs()))
        .arg("--file")
        .arg(file.path());
    for (name, value) in &script.variables {
        command.arg("--define").arg(format!("{name}={value}"));
    }
    let output = command.arg(url).output().await.expect("pgbench comes with PostgreSQL");
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let found = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    let failed = !said.contains("number of failed transactions: 0 ");
    match found {
        Some(tps) if output.status.success() && !failed => tps,
        _ => panic!("pgbench failed:\n{said}\n{complained}\n{}", script.text),
    }
}
