//! What PostgreSQL's own catalogue says of the customers' database.
use rapport::suite::Role;
use rapport_customer::Customer;
use rapport_import::Import;
use rapport_store::{audit::Audit, fields::Definition};
use rapport_test_kit::World;
use secrecy::ExposeSecret as _;
use sqlx::{Connection as _, Executor as _, PgConnection};

/// What the schema of customers and imports adds to the kit's.
fn audit() -> Audit {
    let audit = rapport_events::audit(Audit::default());
    let audit = audit.resource::<Customer>().resource::<Definition>().resource::<Import>();
    ["search_customers", "enqueue_import", "dequeue_import", "hold_import"]
        .into_iter()
        .fold(audit.platform("import_work"), Audit::definer)
}

async fn owner(world: &World) -> PgConnection {
    let url = world.config.databases["customer"].owner_url.expose_secret();
    PgConnection::connect(url).await.unwrap()
}

#[tokio::test]
async fn the_database_keeps_what_the_store_promises_of_it() {
    let world = World::new().await;
    let faults = audit().faults(&mut owner(&world).await).await.unwrap();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[tokio::test]
async fn tables_that_stand_open_are_found() {
    let world = World::new().await;
    let mut admin = world.databases.superuser(Role::Customer).await;
    for (sabotage, expected) in [
        ("ALTER TABLE customers NO FORCE ROW LEVEL SECURITY", "customers has no row-level security"),
        ("ALTER TABLE imports DISABLE ROW LEVEL SECURITY", "imports has no row-level security"),
        ("CREATE POLICY open ON import_issues USING (true)", "import_issues has other policies"),
        ("GRANT SELECT ON platform.import_work TO rapport_service", "platform.import_work spans tenants"),
        ("DROP INDEX customers_owner", "customers.owner_id is sorted or scoped by"),
    ] {
        let mut tx = admin.begin().await.unwrap();
        tx.execute(sabotage).await.unwrap();
        let faults = audit().faults(&mut tx).await.unwrap();
        assert!(faults.iter().any(|fault| fault.starts_with(expected)), "{sabotage}: {faults:#?}");
        tx.rollback().await.unwrap();
    }
}
