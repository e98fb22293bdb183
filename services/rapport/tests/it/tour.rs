//! The README's tour with curl, run as it is written.
use std::{
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
};

use super::installation::{Installation, scratch};

/// The `sh` blocks below the tour's heading, in order.
fn tour() -> String {
    let readme = include_str!("../../../../README.md");
    let (_, tour) = readme.split_once("## Five minutes with curl").unwrap();
    let (tour, _) = tour.split_once("\n## ").unwrap();
    tour.split("```sh\n")
        .skip(1)
        .map(|block| block.split_once("```").unwrap().0)
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_tour_of_the_readme_runs_as_written() {
    let scratch = scratch();
    let home = scratch.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let installation = Installation::start(&home.join(".rapport"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    symlink(root.join("tests"), home.join("tests")).unwrap();

    let ran = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &tour()])
        .current_dir(&home)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    let complained = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}\n{complained}");
    assert!(said.contains("IMPORT_STATE_CHECKED") && said.contains("IMPORT_STATE_DONE"), "{said}");
    assert!(said.contains(r#""created":"7043""#), "{said}");
    // The second of two equal writes gives the first answer.
    assert!(said.contains("\"etag\":\"2\"\n\"etag\":\"2\"\n"), "{said}");
    assert!(said.contains(r#""before":"29.85","after":"31.20""#), "{said}");
    assert!(said.contains("retry: 1000\n\nid: customer:"), "{said}");
    installation.stop();
}
