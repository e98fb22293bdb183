//! Where the tests put servers, and how they look at the machine's processes.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use rapport_local::Scratch;

pub(crate) fn scratch() -> Scratch {
    Scratch::new(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap()
}

pub(crate) fn is_root() -> bool {
    geteuid().is_root()
}

pub(crate) fn kill_by_force(pid: u32) {
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
}

/// The processes that work in a folder or below it.
pub(crate) fn at_work_in(folder: &Path) -> Vec<String> {
    let about = fs::read_dir("/proc").unwrap().filter_map(Result::ok).map(|entry| entry.path());
    about
        .filter(|process| fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder)))
        .filter_map(|process| fs::read_to_string(process.join("comm")).ok())
        .map(|name| name.trim().to_owned())
        .collect()
}

pub(crate) async fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < limit, "{what}: not after {limit:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "where programs lie is the system's affair, not a setting of Rapport"
)]
pub(crate) fn search_path() -> OsString {
    std::env::var_os("PATH").unwrap()
}

/// The first program of this name in the search path, links followed.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = search_path();
    let found =
        std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file());
    fs::canonicalize(found.unwrap_or_else(|| panic!("no {name} in PATH; run `make tools`"))).unwrap()
}
