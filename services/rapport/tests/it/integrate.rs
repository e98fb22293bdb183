//! The commands of the guide for those who integrate, run as they are written.
use std::{
    fs,
    net::TcpListener,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
};

use super::installation::{Installation, scratch};

const GUIDE: &str = include_str!("../../../../docs/integrate.md");
/// The port of the guide's receiver; a test takes one that is free.
const PORT: &str = "9000";

/// The guide's blocks of a kind, in order.
fn blocks(kind: &str, port: u16) -> String {
    let (guide, begin) = (GUIDE.replace(PORT, &port.to_string()), format!("```{kind}\n"));
    let blocks = guide.split(&begin).skip(1).map(|block| block.split_once("```").unwrap().0);
    blocks.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_commands_of_the_guide_run_as_written() {
    let scratch = scratch();
    let home = scratch.path().join("home");
    fs::create_dir(&home).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = home.join("rapport.toml");
    fs::write(&config, blocks("toml", port)).unwrap();
    let installation = Installation::start_with(&home.join(".rapport"), Some(&config));
    symlink(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs"), home.join("docs")).unwrap();

    // Whatever goes wrong, the receiver ends with the shell.
    let script = format!("trap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n{}", blocks("sh", port));
    let ran = Command::new("timeout")
        .args(["120", "bash", "-euo", "pipefail", "-c", &script])
        .current_dir(&home)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    let complained = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}\n{complained}");
    for wanted in [
        r#""lastNumber":""#,
        "event: customer.created.v1\n",
        "[(60,)]",
        r#""outcome":"LEDGER_OUTCOME_DONE""#,
        "碧螺春茶行",
    ] {
        assert!(said.contains(wanted), "{wanted} is not in:\n{said}\n{complained}");
    }
    installation.stop();
}
