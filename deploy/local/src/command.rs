//! Commands for the programs we start: as which user, with which environment, and that they end when we do.
//!
//! A process that is killed by force cannot stop its children. The kernel can: `setpriv` (util-linux, on every Debian) asks
//! it to send the child a signal when the thread that started it ends, and drops root's rights in the same step. Without
//! `setpriv` everything works but this; the next start then finds the orphans and stops them.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;

use crate::account::Account;

/// A server: in a process group of its own, so that Ctrl-C in a terminal reaches us alone and we can stop things in order;
/// without our environment, which may hold settings and secrets; and stopped with `last_will` when we are killed.
pub(crate) fn server(program: &Path, account: &Account, last_will: Signal) -> Command {
    let mut command = launched(program.as_os_str(), account, Some(last_will));
    clean(&mut command);
    command.process_group(0);
    command
}

/// A program that does one thing and ends.
pub(crate) fn brief(program: impl AsRef<OsStr>, account: &Account) -> Command {
    let mut command = launched(program.as_ref(), account, Some(Signal::SIGKILL));
    clean(&mut command);
    command
}

/// A program that a person wants to run: as ourselves, with our environment and our terminal.
pub(crate) fn attached(program: &OsStr) -> Command {
    launched(program, &Account::Ours, Some(Signal::SIGTERM))
}

fn launched(program: &OsStr, account: &Account, last_will: Option<Signal>) -> Command {
    let Some(setpriv) = find_in_path("setpriv") else {
        let mut command = Command::new(program);
        if let Account::Other { uid, gid, .. } = account {
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
        return command;
    };
    let mut command = Command::new(setpriv);
    if let Account::Other { uid, gid, .. } = account {
        command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".to_owned()]);
    }
    if let Some(signal) = last_will {
        command.args(["--pdeathsig", signal.as_str().trim_start_matches("SIG")]);
    }
    command.arg("--").arg(program);
    command
}

/// Messages come in English, because we read some of them, and nothing of the caller's environment is left but the path.
fn clean(command: &mut Command) {
    command.env_clear().env("LC_ALL", "C.UTF-8");
    if let Some(path) = search_path() {
        command.env("PATH", path);
    }
}

/// The first program of this name in the search path.
pub(crate) fn find_in_path(name: &str) -> Option<PathBuf> {
    all_in_path(name).next()
}

/// All programs of this name in the search path, in its order.
pub(crate) fn all_in_path(name: &str) -> impl Iterator<Item = PathBuf> {
    let folders: Vec<PathBuf> =
        search_path().map(|path| env::split_paths(&path).collect()).unwrap_or_default();
    let name = name.to_owned();
    folders.into_iter().map(move |folder| folder.join(&name)).filter(|program| program.is_file())
}

#[expect(
    clippy::disallowed_methods,
    reason = "where programs lie is the system's affair, not a setting of Rapport"
)]
fn search_path() -> Option<OsString> {
    env::var_os("PATH")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_does_not_see_our_environment() {
        let said = brief("env", &Account::Ours).output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let names: Vec<_> = said.lines().filter_map(|line| line.split('=').next()).collect();
        assert!(names.iter().all(|name| ["PATH", "LC_ALL", "PWD", "_"].contains(name)), "{said}");
    }

    #[test]
    fn a_program_that_is_not_there_is_not_found() {
        assert!(find_in_path("no-such-program-anywhere").is_none());
        assert!(find_in_path("sh").is_some());
    }
}
