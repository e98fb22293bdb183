//! Every service's database is in order, by PostgreSQL's own catalogue: keys begin with the tenant, every table is under
//! policies that bind its owner too, and what spans tenants stands on a list.
use rapport::suite::Role;
use rapport_test_kit::World;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use super::none;

/// The tables of tenants.
async fn tables(conn: &mut PgConnection) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')",
    )
    .fetch_all(conn)
    .await
    .unwrap()
}

#[tokio::test]
async fn every_database_is_in_order() {
    let world = World::new().await;
    let mut findings = Vec::new();
    for role in Role::ALL {
        let Some(audit) = role.audit() else { continue };
        let faults = audit.faults(&mut world.databases.superuser(role).await).await.unwrap();
        findings.extend(faults.into_iter().map(|fault| format!("{}: {fault}", role.name())));
    }
    none(&findings);
}

/// Sabotages of each table of each service; `kit/store` tries each rule by itself.
#[tokio::test]
async fn what_is_out_of_order_in_any_table_is_found() {
    let world = World::new().await;
    for role in Role::ALL {
        let Some(audit) = role.audit() else { continue };
        let mut conn = world.databases.superuser(role).await;
        for table in tables(&mut conn).await {
            for (sabotage, finding) in [
                (
                    format!("ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY"),
                    format!("{table} has no row-level security"),
                ),
                (
                    format!("CREATE POLICY loose ON {table} USING (true)"),
                    format!("{table} has other policies"),
                ),
                (
                    format!("ALTER TABLE {table} ADD loose uuid UNIQUE"),
                    "is unique over more than one tenant".to_owned(),
                ),
            ] {
                let mut tx = conn.begin().await.unwrap();
                tx.execute(AssertSqlSafe(sabotage.clone())).await.unwrap();
                let faults = audit.faults(&mut tx).await.unwrap();
                assert!(faults.iter().any(|fault| fault.contains(&finding)), "{sabotage}: {faults:?}");
                tx.rollback().await.unwrap();
            }
        }
    }
}
