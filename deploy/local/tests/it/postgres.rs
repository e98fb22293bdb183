//! A private PostgreSQL through its life.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use rapport_local::Postgres;
use rapport_local::postgres::Options;
use sqlx::{Connection, PgConnection};

use crate::place::{at_work_in, is_root, scratch};

pub(crate) async fn connect(postgres: &Postgres) -> PgConnection {
    PgConnection::connect(&postgres.url()).await.unwrap()
}

pub(crate) async fn text(connection: &mut PgConnection, query: &'static str) -> String {
    sqlx::query_scalar::<_, String>(query).fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn data_and_address_are_the_same_after_a_second_start() {
    let scratch = scratch();
    let folder = scratch.path().join("postgres");
    let first = Postgres::start(Options::new(&folder)).await.unwrap();
    let url = first.url();
    let mut connection = connect(&first).await;
    sqlx::query("CREATE TABLE kept (name text)").execute(&mut connection).await.unwrap();
    sqlx::query("INSERT INTO kept VALUES ('王芳')").execute(&mut connection).await.unwrap();
    drop(connection);
    first.stop().await;
    assert_eq!(at_work_in(scratch.path()), Vec::<String>::new());

    let second = Postgres::start(Options::new(&folder)).await.unwrap();
    assert_eq!(second.url(), url);
    assert_eq!(text(&mut connect(&second).await, "SELECT name FROM kept").await, "王芳");
    second.stop().await;
}

#[tokio::test]
async fn a_new_cluster_is_made_as_the_services_need_it() {
    let scratch = scratch();
    let postgres = Postgres::start(Options::new(scratch.path().join("postgres"))).await.unwrap();
    let mut connection = connect(&postgres).await;
    for (query, expected) in [
        ("SHOW server_encoding", "UTF8"),
        (
            "SELECT datcollate || ' ' || datctype FROM pg_database WHERE datname = 'template1'",
            "C.UTF-8 C.UTF-8",
        ),
        ("SHOW data_checksums", "on"),
        ("SHOW fsync", "on"),
        ("SHOW synchronous_commit", "on"),
        ("SHOW listen_addresses", "127.0.0.1"),
        ("SHOW max_connections", "200"),
        ("SHOW timezone", "UTC"),
        (
            "SELECT rolpassword FROM pg_authid WHERE rolname = 'postgres' AND rolpassword !~ '^SCRAM-SHA-256' UNION ALL SELECT 'hashed' LIMIT 1",
            "hashed",
        ),
        ("SELECT string_agg(DISTINCT auth_method, ',') FROM pg_hba_file_rules", "scram-sha-256"),
        ("SELECT count(*)::text FROM pg_available_extensions WHERE name IN ('pg_trgm', 'btree_gin')", "2"),
        ("SELECT count(*)::text FROM pg_collation WHERE collname = 'zh-x-icu'", "1"),
    ] {
        assert_eq!(text(&mut connection, query).await, expected, "{query}");
    }
    postgres.stop().await;
}

#[tokio::test]
async fn another_password_is_refused() {
    let scratch = scratch();
    let postgres = Postgres::start(Options::fast(scratch.path().join("postgres"))).await.unwrap();
    let wrong = format!("postgres://postgres:guess@127.0.0.1:{}/postgres", postgres.port());
    let password = fs::read_to_string(scratch.path().join("postgres/password")).unwrap();
    assert!(!format!("{postgres:?}").contains(password.trim()));
    let refused = PgConnection::connect(&wrong).await.unwrap_err().to_string();
    assert!(refused.contains("password authentication failed"), "{refused}");
    assert_eq!(
        fs::metadata(scratch.path().join("postgres/password")).unwrap().permissions().mode() & 0o777,
        0o600
    );
    postgres.stop().await;
}

#[tokio::test]
async fn the_socket_serves_too() {
    let scratch = scratch();
    let postgres = Postgres::start(Options::fast(scratch.path().join("a folder, 客户"))).await.unwrap();
    let options: sqlx::postgres::PgConnectOptions = postgres.url().parse().unwrap();
    let options = options.socket(postgres.socket_folder().unwrap());
    let mut connection = PgConnection::connect_with(&options).await.unwrap();
    assert_eq!(text(&mut connection, "SELECT coalesce(host(inet_client_addr()), 'socket')").await, "socket");
    postgres.stop().await;

    let long = scratch.path().join("a-folder-with-a-long-name".repeat(6));
    let postgres = Postgres::start(Options::fast(long)).await.unwrap();
    assert_eq!(postgres.socket_folder(), None);
    postgres.stop().await;
}

/// As below `/root`, which is closed to others on Debian.
#[tokio::test]
async fn a_database_whose_user_may_not_pass_lies_elsewhere_and_is_found_again() {
    if !is_root() {
        println!("skipped: only root runs PostgreSQL as another user");
        return;
    }
    let scratch = scratch();
    let closed = scratch.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let folder = closed.join("postgres");

    let first = Postgres::start(Options::fast(&folder)).await.unwrap();
    sqlx::query("CREATE TABLE kept AS SELECT 'yes' AS answer")
        .execute(&mut connect(&first).await)
        .await
        .unwrap();
    first.stop().await;
    let elsewhere = fs::canonicalize(folder.join("cluster")).unwrap();
    assert!(elsewhere.starts_with("/var/lib/rapport"), "{}", elsewhere.display());

    let second = Postgres::start(Options::fast(&folder)).await.unwrap();
    assert_eq!(text(&mut connect(&second).await, "SELECT answer FROM kept").await, "yes");
    second.stop().await;
    fs::remove_dir_all(elsewhere).unwrap();
    let _ = fs::remove_dir(Path::new("/var/lib/rapport"));
}

#[tokio::test]
async fn the_programs_of_the_same_version_are_at_hand() {
    let scratch = scratch();
    let postgres = Postgres::start(Options::fast(scratch.path().join("postgres"))).await.unwrap();
    let dump = Command::new(postgres.programs().join("pg_dump"))
        .arg("--dbname")
        .arg(postgres.url())
        .output()
        .unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    postgres.stop().await;
}
