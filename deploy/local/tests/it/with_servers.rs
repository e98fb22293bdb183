//! The program `with-servers`, and through it what happens to servers when their owner is killed.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};
use rapport_local::Scratch;

use crate::place::{at_work_in, is_root, kill_by_force, program, scratch, search_path, wait_until};

const WITH_SERVERS: &str = env!("CARGO_BIN_EXE_with-servers");

fn with_servers(within: &Path, command: &[&str]) -> Command {
    let mut with_servers = Command::new(WITH_SERVERS);
    with_servers.arg("--within").arg(within).arg("--").args(command).stdin(Stdio::null());
    with_servers
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

#[test]
fn the_command_gets_the_addresses_and_its_exit_code_comes_back() {
    let scratch = scratch();
    let script =
        "echo $RAPPORT_TEST_POSTGRES; echo $RAPPORT_TEST_NATS; ls $RAPPORT_TEST_POSTGRES_PROGRAMS; exit 7";
    let output = with_servers(scratch.path(), &["sh", "-c", script]).output().unwrap();
    let said = said(&output);
    assert_eq!(output.status.code(), Some(7), "{said}");
    assert!(said.contains("postgres://postgres:") && said.contains("nats://rapport:"), "{said}");
    assert!(said.contains("pg_dump"), "{said}");
    assert_eq!(at_work_in(scratch.path()), Vec::<String>::new());
    assert!(fs::read_dir(scratch.path()).unwrap().all(|entry| entry.unwrap().file_name() == "lock"));
}

#[test]
fn a_command_that_is_not_there_is_an_error() {
    let scratch = scratch();
    let output = with_servers(scratch.path(), &["no-such-command"]).output().unwrap();
    assert!(!output.status.success());
    assert!(said(&output).contains("no-such-command"), "{}", said(&output));
}

#[tokio::test]
async fn a_signal_goes_on_to_the_command_and_everything_is_cleared_away() {
    let scratch = scratch();
    let mut running = with_servers(scratch.path(), &["sleep", "600"]).spawn().unwrap();
    let folder = scratch.path().to_owned();
    wait_until("the servers", Duration::from_secs(60), || serving(&folder)).await;
    kill(Pid::from_raw(running.id().cast_signed()), Signal::SIGTERM).unwrap();
    let status = running.wait().unwrap();
    assert_eq!(status.code(), Some(128 + 15));
    assert_eq!(at_work_in(scratch.path()), Vec::<String>::new());
}

/// Both servers have remembered their ports, which they do when they are ready, and the command runs.
fn serving(within: &Path) -> bool {
    let Some(made) =
        fs::read_dir(within).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_dir())
    else {
        return false;
    };
    made.join("postgres/ports.json").exists() && made.join("nats/ports.json").exists()
}

#[tokio::test]
async fn servers_and_command_end_when_their_owner_is_killed() {
    let scratch = scratch();
    let mut running =
        with_servers(scratch.path(), &["sleep", "601"]).current_dir(scratch.path()).spawn().unwrap();
    let folder = scratch.path().to_owned();
    wait_until("the servers and the command", Duration::from_secs(60), || {
        serving(&folder) && at_work_in(&folder).iter().any(|name| name == "sleep")
    })
    .await;
    kill_by_force(running.id());
    running.wait().unwrap();
    wait_until("the end of all", Duration::from_secs(15), || at_work_in(&folder).is_empty()).await;
}

/// What a person on a laptop is, and what `make test` runs as there.
#[test]
fn a_normal_user_can_do_it_too() {
    if !is_root() {
        println!("skipped: all the other tests have shown it");
        return;
    }
    let scratch = scratch();
    let nobody = User::from_name("nobody").unwrap().unwrap();
    let programs = scratch.path().join("bin");
    let place = scratch.path().join("place");
    for folder in [&programs, &place] {
        fs::create_dir(folder).unwrap();
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
    chown(&place, Some(nobody.uid.as_raw()), Some(nobody.gid.as_raw())).unwrap();
    let with_servers = copy(Path::new(WITH_SERVERS), &programs);
    copy(&program("nats-server"), &programs);
    let path = format!("{}:{}", programs.display(), search_path().display());
    let as_nobody = |within: &Path, script: &str| {
        let mut command = Command::new("setpriv");
        command
            .args([format!("--reuid={}", nobody.uid), format!("--regid={}", nobody.gid)])
            .args(["--clear-groups", "--"])
            .arg(&with_servers)
            .arg("--within")
            .arg(within)
            .args(["--", "sh", "-c", script])
            .env("PATH", &path)
            .current_dir(&place)
            .stdin(Stdio::null());
        command.output().unwrap()
    };
    let output = as_nobody(&place, "stat -c %U */postgres/cluster/data; exit 5");
    assert_eq!(said(&output).trim_end(), "nobody");
    assert_eq!(output.status.code(), Some(5));
    assert!(is_empty(&place));

    let output = as_nobody(scratch.path(), "true");
    let said = said(&output);
    assert!(
        !output.status.success() && said.contains("permission denied for this user; it belongs to root"),
        "{said}"
    );
}

fn copy(program: &Path, folder: &Path) -> PathBuf {
    let copy = folder.join(program.file_name().unwrap());
    fs::copy(program, &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    copy
}

/// Runs `with-servers` on a memory file system of its own, which only it can see.
fn on_file_system(mount_options: &str) -> Option<Output> {
    if !is_root()
        || !Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success())
    {
        println!("skipped: only root can mount a file system, and not in every container");
        return None;
    }
    // Not in memory: an initdb that fails in the middle leaves shared memory behind, which must be of its own world too.
    let scratch = Scratch::within(&std::env::temp_dir()).unwrap();
    let place = scratch.path().join("place");
    fs::create_dir(&place).unwrap();
    let script = format!(
        "mount -t tmpfs tmpfs /dev/shm && mount -t tmpfs -o mode=755,{mount_options} tmpfs \"$1\" && \
         exec \"$2\" --within \"$1\" -- true"
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh"]).arg(&place).arg(WITH_SERVERS).stdin(Stdio::null());
    Some(command.output().unwrap())
}

#[test]
fn a_full_disk_is_said() {
    for (size, expected) in
        [("size=20m", "MB are needed"), ("size=200m,nr_inodes=300", "the disk that holds")]
    {
        let Some(output) = on_file_system(size) else {
            return;
        };
        let said = said(&output);
        assert!(!output.status.success() && said.contains(expected), "{size}: {said}");
    }
}

#[test]
fn a_read_only_disk_is_said() {
    let Some(output) = on_file_system("ro") else {
        return;
    };
    let said = said(&output);
    assert!(
        !output.status.success() && said.contains("cannot be written: its file system is read-only"),
        "{said}"
    );
}
