//! `rapport up` on machines that lack a program or have an old one, and for a user who is not root.
use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Command, Stdio},
};

use super::machine::{Machine, NOBODY, Said, left_out};

/// Runs `rapport up` with this search path, on a machine whose packaged PostgreSQL is out of sight.
fn without_postgres(machine: &Machine, path: &Path) -> Option<Said> {
    let script = format!(
        "if [ -d /usr/lib/postgresql ]; then mount -t tmpfs tmpfs /usr/lib/postgresql; fi\n\
         PATH={} \"$RAPPORT\" up --data-dir data",
        path.display()
    );
    machine.mounting(&script)
}

#[test]
fn a_machine_without_postgresql_is_told_what_to_install() {
    let machine = Machine::new();
    let empty = machine.folder("empty");
    let Some(said) = without_postgres(&machine, &empty) else { return };
    if said.complained_of("nats-server") {
        return left_out("this machine keeps a PostgreSQL where no test can hide it");
    }
    said.refused(&["no PostgreSQL server was found", "install the package postgresql"]);
    assert!(!machine.path("data").exists(), "nothing was made");

    let old = [("postgres", "postgres (PostgreSQL) 14.2"), ("initdb", "initdb (PostgreSQL) 14.2")];
    let said = without_postgres(&machine, &machine.programs("old", &old)).unwrap();
    said.refused(&["found PostgreSQL server 14", "15 or later is needed", "install the package postgresql"]);
    assert!(!machine.path("data").exists(), "nothing was made");
}

#[test]
fn a_machine_without_nats_server_is_told_what_to_install() {
    let machine = Machine::new();
    let up = |path: &str| {
        let mut command = Command::new(machine.path("rapport"));
        command.args(["up", "--data-dir", "data"]).env("PATH", path);
        machine.run(command)
    };
    if Path::new("/usr/bin/nats-server").exists() {
        left_out("this machine has a nats-server among its own programs");
    } else {
        up("/usr/bin:/bin").refused(&["no nats-server was found", "run `make tools`"]);
        assert!(!machine.path("data").exists(), "nothing was made");
    }
    let old = machine.programs("old", &[("nats-server", "nats-server: v2.9.10")]);
    up(&format!("{}:/usr/bin:/bin", old.display())).refused(&[
        "found nats-server 2.9",
        "2.14 or later is needed",
        "run `make tools`",
    ]);
    assert!(!machine.path("data").exists(), "nothing was made");
}

#[test]
fn a_normal_user_starts_it_in_a_folder_of_their_own() {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return left_out("only root can become somebody else; as it is, a normal user runs all these tests");
    }
    let machine = Machine::new();
    let home = machine.folder("home");
    machine.for_nobody(&home);
    // Where the tools lie in the home of root, nobody else gets to them.
    fs::copy(nats_server(), machine.path("nats-server")).unwrap();
    let mut nobody = Command::new("setpriv");
    let user = NOBODY.to_string();
    nobody.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"]);
    nobody.arg(machine.path("rapport")).args(["up", "--data-dir"]).arg(home.join("data"));
    let mut nobody = nobody.current_dir(&home).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(nobody.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let stopped = Command::new("kill").args(["-INT", &nobody.id().to_string()]).status().unwrap();
    assert!(line.starts_with("Rapport is ready"), "it said: {line}");
    assert!(stopped.success() && nobody.wait().unwrap().success());
    let data = home.join("data/postgres/cluster/data");
    assert_eq!(fs::metadata(data).unwrap().uid(), NOBODY, "PostgreSQL ran as that user");
}

/// The nats-server that the tests run with.
fn nats_server() -> std::path::PathBuf {
    let found = Command::new("sh").args(["-c", "command -v nats-server"]).output().unwrap();
    String::from_utf8(found.stdout).unwrap().trim().into()
}
