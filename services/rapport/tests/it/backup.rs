//! A backup is proven by restoring it.
use std::process::Command;

use super::installation::{Installation, RAPPORT, get, scratch};

#[test]
fn a_restored_backup_is_the_installation_again() {
    let scratch = scratch();
    let archive = scratch.path().join("backup.tar");
    let running = Installation::start(&scratch.path().join("one"));
    let (before, key) = (get(&running, "/v1/customers?pageSize=200"), running.text("apiKey"));

    // While it runs.
    let backup = |file: &std::path::Path, folder: &std::path::Path| {
        Command::new(RAPPORT).arg("backup").arg(file).arg("--data-dir").arg(folder).output().unwrap()
    };
    let said = backup(&archive, &running.folder);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let again = backup(&archive, &running.folder);
    assert!(String::from_utf8_lossy(&again.stderr).contains("is there already"));
    running.stop();

    let restored = scratch.path().join("restored");
    let restore = || {
        Command::new(RAPPORT).arg("restore").arg(&archive).arg("--data-dir").arg(&restored).output().unwrap()
    };
    let said = restore();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    assert!(String::from_utf8_lossy(&restore().stderr).contains("is not empty"));
    let running = Installation::start(&restored);
    assert_eq!(running.text("apiKey"), key);
    assert_eq!(get(&running, "/v1/customers?pageSize=200"), before);
    running.stop();
}

#[test]
fn what_is_no_backup_is_refused_and_leaves_nothing() {
    let scratch = scratch();
    let file = scratch.path().join("file");
    std::fs::write(&file, "not a tar").unwrap();
    let folder = scratch.path().join("restored");
    let said =
        Command::new(RAPPORT).arg("restore").arg(&file).arg("--data-dir").arg(&folder).output().unwrap();
    assert!(!said.status.success());
    assert!(String::from_utf8_lossy(&said.stderr).contains("is not a backup of Rapport"));
    assert!(!folder.join("secrets.json").exists());
}
