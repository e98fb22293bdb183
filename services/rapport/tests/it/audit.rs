//! `rapport audit verify`: an intact log is said to be so, a rewritten one is not.
use std::{
    fs,
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::installation::{Installation, RAPPORT, scratch};

fn verify(folder: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(RAPPORT);
    command.args(["audit", "verify", "--data-dir"]).arg(folder).args(more).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Does something to the log of customers that the suite never does.
fn rewrite(folder: &Path, sql: &str) {
    let running: Value = serde_json::from_slice(&fs::read(folder.join("running.json")).unwrap()).unwrap();
    let (server, _) = running["postgres"].as_str().unwrap().rsplit_once('/').unwrap();
    let psql = Path::new(running["programs"].as_str().unwrap()).join("psql");
    let done = Command::new(psql)
        .args(["-v", "ON_ERROR_STOP=1", "-c", sql, &format!("{server}/rapport_customer")])
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn an_intact_log_is_said_to_be_so_and_a_rewritten_line_is_found() {
    let scratch = scratch();
    let installation = Installation::start(&scratch.path().join("one"));
    let folder = installation.folder.clone();

    // While it runs.
    let intact = verify(&folder, &[]);
    assert!(intact.status.success(), "{intact:?}");
    let said = out(&intact);
    for service in ["identity", "customer"] {
        let line = said.lines().find(|line| line.starts_with(service)).unwrap();
        assert!(
            line.ends_with(", 0 faults")
                && line.contains(", 0 payloads erased, ")
                && !line.contains(": 0 lines"),
            "{line}"
        );
    }

    rewrite(&folder, "UPDATE platform.event_log SET payload = NULL WHERE number = 2");
    let erased = verify(&folder, &["--service", "customer"]);
    assert!(erased.status.success() && out(&erased).contains("1 payloads erased, "), "{erased:?}");
    assert!(!out(&erased).contains("identity"));

    rewrite(&folder, "UPDATE platform.event_log SET principal = 'nobody' WHERE number = 3");
    let rewritten = verify(&folder, &[]);
    assert_eq!(rewritten.status.code(), Some(1));
    let (said, complained) = (out(&rewritten), String::from_utf8_lossy(&rewritten.stderr).into_owned());
    assert!(said.contains("  number 3 is not what it was"), "{said}");
    assert!(complained.contains("rapport: the log is not as it was written: 1 faults"), "{complained}");

    // And when it stands still.
    installation.stop();
    assert_eq!(verify(&folder, &["--service", "customer"]).status.code(), Some(1));
    assert!(verify(&folder, &["--service", "identity"]).status.success());
    assert!(!verify(&folder, &["--service", "gateway"]).status.success());
}

#[test]
fn a_log_that_lost_its_end_is_found_by_its_checkpoints() {
    let scratch = scratch();
    let folder = scratch.path().join("one");
    // What was written is signed within a minute, or when somebody leads again.
    Installation::start(&folder).stop();
    let installation = Installation::start(&folder);
    for service in ["identity", "customer"] {
        wait_until(|| folder.join("checkpoints").join(service).exists());
    }
    let intact = verify(&folder, &[]);
    assert!(intact.status.success(), "{intact:?}");
    let said = out(&intact);
    assert!(said.starts_with("checkpoints are signed by rapport/local/main+"), "{said}");
    for service in ["identity", "customer"] {
        let line = said.lines().find(|line| line.starts_with(&format!("{service}: "))).unwrap();
        assert!(line.ends_with(" checkpoints, 0 faults") && !line.contains(", 0 checkpoints"), "{line}");
    }

    rewrite(
        &folder,
        "DELETE FROM platform.event_log WHERE number = (SELECT number FROM platform.log_head);
         UPDATE platform.log_head SET number = number - 1",
    );
    let rewritten = verify(&folder, &["--service", "customer"]);
    assert_eq!(rewritten.status.code(), Some(1));
    assert!(out(&rewritten).contains("  a checkpoint was signed at number "), "{rewritten:?}");
    installation.stop();
}

fn wait_until(done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(30), "it does not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}
