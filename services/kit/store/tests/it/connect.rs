//! Who may connect.
use rapport_kernel::Error;
use rapport_store::{Db, Options};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use crate::world::{World, boss, superuser, tenant, url};

async fn refused(world: &World, role: &str) -> String {
    match Db::connect(&Options { url: world.url(role), pool_size: 1 }).await {
        Err(Error::Rule { reason, message }) => format!("{reason}: {message}"),
        Err(other) => format!("{other:?}"),
        Ok(_) => "connected".into(),
    }
}

/// A role of one's own, with these properties; it is for dropping by the caller.
async fn role(world: &World, what: &str, sql: &str) -> String {
    let name = format!("{}_{what}", world.name);
    let mut admin = PgConnection::connect(&superuser()).await.unwrap();
    let sql = format!("CREATE ROLE {name} LOGIN PASSWORD 'for-tests'; {}", sql.replace("{role}", &name));
    admin.execute(AssertSqlSafe(sql)).await.unwrap();
    name
}

#[tokio::test]
async fn a_role_that_could_step_over_the_policies_is_refused() {
    let world = World::new().await;
    let plain = role(&world, "plain", "").await;
    let bypass = role(&world, "bypass", "ALTER ROLE {role} BYPASSRLS; GRANT rapport_service TO {role}").await;
    let heir = role(&world, "heir", "ALTER ROLE {role} NOINHERIT; GRANT rapport_owner TO {role}").await;
    let owner = role(&world, "owner", "GRANT rapport_service TO {role}").await;
    world
        .admin()
        .await
        .execute(AssertSqlSafe(format!(
            "CREATE TABLE public.own (); ALTER TABLE public.own OWNER TO {owner}"
        )))
        .await
        .unwrap();
    world
        .admin()
        .await
        .execute(AssertSqlSafe(format!(
            "GRANT CONNECT ON DATABASE {} TO {plain}, {bypass}, {heir}, {owner}",
            world.name
        )))
        .await
        .unwrap();

    assert!(
        refused(&world, "postgres")
            .await
            .starts_with("ROLE_TOO_POWERFUL: the database role `postgres` is or may become a superuser")
    );
    assert!(refused(&world, &bypass).await.contains("BYPASSRLS, so row-level security would not bind it"));
    for role in ["rapport_owner", &heir, &owner] {
        assert!(
            refused(&world, role).await.contains("is or may become the owner of tenants' tables"),
            "{role}"
        );
    }
    assert!(refused(&world, &plain).await.starts_with("ROLE_NOT_PROVISIONED"));
    assert_eq!(refused(&world, "rapport_store").await, "connected");

    world.admin().await.execute("DROP TABLE public.own").await.unwrap();
    let database = world.name.clone();
    drop(world);
    let mut admin = PgConnection::connect(&url("postgres", "postgres")).await.unwrap();
    for what in ["plain", "bypass", "heir", "owner"] {
        admin.execute(AssertSqlSafe(format!("DROP ROLE {database}_{what}"))).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_unavailable() {
    let options = Options { url: "postgres://nobody:nothing@127.0.0.1:9/none".into(), pool_size: 1 };
    assert!(matches!(Db::connect(&options).await, Err(Error::Unavailable(_))));
}

#[tokio::test]
async fn connections_that_died_in_the_pool_are_not_felt() {
    let world = World::new().await;
    let db = world.db().await;
    let ctx = boss(tenant());
    // Several transactions at once, so that the pool has several connections.
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(db.begin(&ctx).await.unwrap());
    }
    drop(open);
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(world.kill_sessions().await, 3);
    db.begin(&ctx).await.unwrap();
}
