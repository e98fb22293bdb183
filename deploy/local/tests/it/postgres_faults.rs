//! A private PostgreSQL and what befalls it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rapport_local::postgres::Options;
use rapport_local::{Error, Postgres};
use tokio::time::timeout;

use crate::place::{at_work_in, is_root, kill_by_force, scratch, wait_until};
use crate::postgres::{connect, text};

/// A command that runs as the user that PostgreSQL runs as.
fn as_owner_of(data: &Path, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    if is_root() {
        let owner = fs::metadata(data).unwrap();
        command.uid(owner.uid()).gid(owner.gid());
    }
    command
}

#[tokio::test]
async fn a_postgres_that_is_killed_is_started_again_with_its_data() {
    let scratch = scratch();
    let postgres = Postgres::start(Options::fast(scratch.path().join("postgres"))).await.unwrap();
    let mut connection = connect(&postgres).await;
    sqlx::query("CREATE TABLE kept AS SELECT 'yes' AS answer").execute(&mut connection).await.unwrap();
    let before = postgres.pid().unwrap();
    kill_by_force(before);

    wait_until("another process", Duration::from_secs(60), || {
        postgres.pid().is_some_and(|pid| pid != before)
    })
    .await;
    assert_eq!(text(&mut connect(&postgres).await, "SELECT answer FROM kept").await, "yes");
    postgres.stop().await;
    assert_eq!(at_work_in(scratch.path()), Vec::<String>::new());
}

#[tokio::test]
async fn a_postgres_that_cannot_live_is_given_up_with_a_reason() {
    let scratch = scratch();
    let postgres = Postgres::start(Options::fast(scratch.path().join("postgres"))).await.unwrap();
    let broken = scratch.path().join("postgres/cluster/postgresql.conf");
    fs::write(&broken, "no_such_setting = 1\n").unwrap();
    kill_by_force(postgres.pid().unwrap());
    let reason = timeout(Duration::from_secs(60), postgres.given_up()).await.unwrap().to_string();
    assert!(reason.contains("given up") && reason.contains("no_such_setting"), "{reason}");
    postgres.stop().await;

    Postgres::start(Options::fast(scratch.path().join("postgres"))).await.unwrap().stop().await;
}

#[tokio::test]
async fn a_lock_file_that_names_someone_elses_process_is_no_obstacle() {
    let scratch = scratch();
    let folder = scratch.path().join("postgres");
    Postgres::start(Options::fast(&folder)).await.unwrap().stop().await;
    // PostgreSQL takes only its own user's processes for one of its own.
    let mut bystander = as_owner_of(&folder.join("cluster/data"), "sleep").arg("600").spawn().unwrap();
    let stale = folder.join("cluster/data/postmaster.pid");
    fs::write(
        &stale,
        format!("{}\n{}\n1\n5432\n\n127.0.0.1\n 1 1\nready   \n", bystander.id(), folder.display()),
    )
    .unwrap();

    Postgres::start(Options::fast(&folder)).await.unwrap().stop().await;
    assert!(bystander.try_wait().unwrap().is_none());
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[tokio::test]
async fn an_orphan_on_our_data_is_stopped_before_the_start() {
    let scratch = scratch();
    let folder = scratch.path().join("postgres");
    let first = Postgres::start(Options::fast(&folder)).await.unwrap();
    let programs = first.programs().to_owned();
    first.stop().await;
    let cluster = folder.join("cluster");
    let mut orphan = as_owner_of(&cluster.join("data"), programs.join("postgres"));
    orphan.current_dir("/").arg("-D").arg(cluster.join("data")).args(["-p", "1", "-c", "listen_addresses="]);
    orphan.arg("-c").arg(format!("unix_socket_directories={}", cluster.join("run").display()));
    let mut orphan = orphan.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pid_file = cluster.join("data/postmaster.pid");
    wait_until("the orphan", Duration::from_secs(20), || {
        fs::read_to_string(&pid_file).is_ok_and(|text| text.contains("ready"))
    })
    .await;

    let second = Postgres::start(Options::fast(&folder)).await.unwrap();
    wait_until("the end of the orphan", Duration::from_secs(5), || orphan.try_wait().unwrap().is_some())
        .await;
    assert_eq!(text(&mut connect(&second).await, "SELECT 'well'").await, "well");
    second.stop().await;
}

#[tokio::test]
async fn two_run_side_by_side_and_one_folder_is_refused_to_a_second() {
    let scratch = scratch();
    let one = Postgres::start(Options::fast(scratch.path().join("one"))).await.unwrap();
    let two = Postgres::start(Options::fast(scratch.path().join("two"))).await.unwrap();
    assert_ne!(one.port(), two.port());

    let refused = Postgres::start(Options::fast(scratch.path().join("one"))).await.unwrap_err();
    assert!(matches!(refused, Error::InUse { .. }), "{refused}");
    assert!(refused.to_string().contains(&std::process::id().to_string()), "{refused}");

    one.stop().await;
    assert_eq!(text(&mut connect(&two).await, "SELECT 'well'").await, "well");
    two.stop().await;
}

#[tokio::test]
async fn a_failed_initdb_leaves_nothing_and_says_what_it_said() {
    let scratch = scratch();
    let real = Postgres::start(Options::fast(scratch.path().join("real"))).await.unwrap();
    let programs = scratch.path().join("programs");
    fs::create_dir(&programs).unwrap();
    fs::set_permissions(&programs, fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink(real.programs().join("postgres"), programs.join("postgres")).unwrap();
    fs::write(programs.join("initdb"), "#!/bin/sh\necho 'initdb: error: no such luck' >&2\nexit 1\n")
        .unwrap();
    fs::set_permissions(programs.join("initdb"), fs::Permissions::from_mode(0o755)).unwrap();
    real.stop().await;

    let options = Options { programs: Some(programs), ..Options::fast(scratch.path().join("postgres")) };
    let refused = Postgres::start(options).await.unwrap_err().to_string();
    assert!(refused.starts_with("initdb failed") && refused.contains("no such luck"), "{refused}");
    let left: Vec<_> = fs::read_dir(scratch.path().join("postgres/cluster"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["run"]);

    Postgres::start(Options::fast(scratch.path().join("postgres"))).await.unwrap().stop().await;
}

#[tokio::test]
async fn a_lost_password_is_said_and_the_data_are_left_alone() {
    let scratch = scratch();
    let folder = scratch.path().join("postgres");
    Postgres::start(Options::fast(&folder)).await.unwrap().stop().await;
    fs::remove_file(folder.join("password")).unwrap();
    let refused = Postgres::start(Options::fast(&folder)).await.unwrap_err();
    assert!(matches!(refused, Error::PasswordLost { .. }), "{refused}");
    assert!(folder.join("cluster/data/PG_VERSION").exists() && !folder.join("password").exists());
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named() {
    let scratch = scratch();
    fs::write(scratch.path().join("file"), "").unwrap();
    let refused =
        Postgres::start(Options::new(scratch.path().join("file/postgres"))).await.unwrap_err().to_string();
    assert!(refused.contains("file"), "{refused}");
}

#[tokio::test]
async fn a_value_that_is_dropped_takes_its_server_with_it() {
    let scratch = scratch();
    let postgres = Postgres::start(Options::fast(scratch.path().join("postgres"))).await.unwrap();
    drop(postgres);
    wait_until("the end", Duration::from_secs(10), || at_work_in(scratch.path()).is_empty()).await;
}
