//! Tenants do not see each other, whatever a statement forgets; and no door stands open beside the policies.
use rapport_kernel::Error;
use rapport_store::audit::Audit;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use crate::{
    widget::Widget,
    world::{World, boss, create, tenant},
};

/// What raw SQL counts on a transaction's own connection.
async fn count(conn: &mut PgConnection, sql: &'static str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(sql).fetch_one(conn).await
}

#[tokio::test]
async fn raw_sql_sees_one_tenant_only() {
    let world = World::new().await;
    let db = world.db().await;
    let (a, b) = (boss(tenant()), boss(tenant()));
    create(&db, &a, &[Widget::new(&a, "a").with_key("erp", "1")]).await;
    create(&db, &b, &[Widget::new(&b, "b").with_key("erp", "1"), Widget::new(&b, "c")]).await;
    for (ctx, widgets) in [(&a, 1), (&b, 2)] {
        let mut tx = db.begin(ctx).await.unwrap();
        let conn = tx.conn().await.unwrap();
        assert_eq!(count(conn, "SELECT count(*) FROM widgets").await.unwrap(), widgets);
        assert_eq!(count(conn, "SELECT count(*) FROM external_ids").await.unwrap(), 1);
        let moved = sqlx::query("UPDATE widgets SET name = 'mine'").execute(&mut *conn).await.unwrap();
        assert_eq!(moved.rows_affected(), widgets as u64);
        let stolen =
            sqlx::query("UPDATE widgets SET tenant_id = $1").bind(b.tenant).execute(&mut *conn).await;
        assert_eq!(stolen.is_err(), ctx.tenant == a.tenant, "rows cannot be given to another tenant");
    }
}

#[tokio::test]
async fn an_unscoped_query_fails_loudly_on_fresh_and_on_used_connections() {
    let world = World::new().await;
    let db = world.db_at(world.url("rapport_store"), 1).await;
    let ctx = boss(tenant());
    create(&db, &ctx, &[Widget::new(&ctx, "a")]).await;
    // The same connection, whose setting is now the empty text, and one that never had any.
    let mut platform = db.platform().await.unwrap();
    let used = platform.conn().unwrap();
    used.execute("SET LOCAL ROLE rapport_service").await.unwrap();
    let error = count(used, "SELECT count(*) FROM widgets").await.unwrap_err().to_string();
    assert!(error.contains("invalid input syntax for type uuid"), "{error}");
    drop(platform);
    let mut fresh = crate::world::connect(&world.url("rapport_store")).await;
    fresh.execute("SET ROLE rapport_service").await.unwrap();
    for table in
        ["widgets", "external_ids", "record_shares", "custom_fields", "attribute_texts", "attribute_keys"]
    {
        let sql = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        let error = sqlx::query(sql).execute(&mut fresh).await.unwrap_err().to_string();
        assert!(error.contains("unrecognized configuration parameter \"rapport.tenant\""), "{error}");
    }
}

#[tokio::test]
async fn what_spans_tenants_is_out_of_the_services_reach() {
    let world = World::new().await;
    let db = world.db().await;
    let ctx = boss(tenant());
    for table in ["tenants", "outbox", "answers", "field_indexing"] {
        let mut tx = db.begin(&ctx).await.unwrap();
        let sql = AssertSqlSafe(format!("SELECT FROM platform.{table}"));
        let error = sqlx::query(sql).execute(tx.conn().await.unwrap()).await.unwrap_err().to_string();
        assert!(error.contains("permission denied for schema platform"), "{error}");
    }
    // The kit's own step into the platform's role leaves tenants' tables behind.
    let mut platform = db.platform().await.unwrap();
    let conn = platform.conn().unwrap();
    assert_eq!(count(conn, "SELECT count(*) FROM platform.tenants").await.unwrap(), 1);
    let error = count(conn, "SELECT count(*) FROM widgets").await.unwrap_err().to_string();
    assert!(error.contains("permission denied for table widgets"), "{error}");
    // And ends with the transaction.
    drop(platform);
    create(&db, &ctx, &[Widget::new(&ctx, "a")]).await;
}

#[tokio::test]
async fn a_token_without_a_tenant_enters_nothing() {
    let world = World::new().await;
    let db = world.db().await;
    let nobody = boss(uuid::Uuid::nil());
    assert!(matches!(db.begin(&nobody).await, Err(Error::Unauthenticated)));
}

#[tokio::test]
async fn the_catalogue_is_in_order() {
    let world = World::new().await;
    let faults = Audit::default().resource::<Widget>().faults(&mut world.owner().await).await.unwrap();
    assert_eq!(faults, Vec::<String>::new());
}

#[tokio::test]
async fn the_audit_finds_what_is_wrong() {
    let world = World::new().await;
    for (sabotage, finding) in [
        (
            "ALTER TABLE widgets NO FORCE ROW LEVEL SECURITY",
            "widgets has no row-level security, or its owner escapes",
        ),
        ("CREATE TABLE loose (id uuid PRIMARY KEY)", "loose_pkey is unique over more than one tenant"),
        ("CREATE TABLE loose (tenant_id uuid)", "loose has no primary key"),
        ("CREATE TABLE loose (tenant_id uuid)", "loose can be without a tenant"),
        ("CREATE TABLE loose (tenant_id uuid)", "loose has other policies than rapport.protect makes: none"),
        ("CREATE UNIQUE INDEX loose ON widgets (name)", "loose is unique over more than one tenant"),
        (
            "ALTER TABLE external_ids ADD CONSTRAINT loose FOREIGN KEY (record_id, tenant_id) REFERENCES widgets (id, tenant_id)",
            "loose refers to other tenants' rows",
        ),
        (
            "DROP POLICY tenant ON widgets; CREATE POLICY tenant ON widgets USING (true)",
            "widgets has other policies",
        ),
        ("ALTER POLICY search ON widgets TO PUBLIC", "widgets has other policies"),
        ("CREATE VIEW loose AS SELECT * FROM widgets", "loose is a view"),
        ("CREATE TABLE rapport.loose (id uuid)", "rapport.loose is a table outside the schemas"),
        ("CREATE TABLE platform.loose (id uuid)", "platform.loose spans tenants, but is not on the list"),
        (
            "CREATE TABLE platform.loose (id uuid)",
            "platform.loose spans tenants, but does not belong to rapport_platform",
        ),
        ("DROP TABLE platform.answers", "answers is on the list of what spans tenants, but does not exist"),
        ("GRANT USAGE ON SCHEMA platform TO rapport_service", "can be reached by rapport_service"),
        ("GRANT TRUNCATE ON widgets TO rapport_service", "rapport_service may do more to tenants' tables"),
        (
            "GRANT CREATE ON SCHEMA public TO rapport_service",
            "rapport_service may do more to tenants' tables",
        ),
        (
            "CREATE FUNCTION loose() RETURNS void LANGUAGE sql SECURITY DEFINER AS ''",
            "loose() runs with more rights than its caller (SECURITY DEFINER), but is not on the list",
        ),
        ("ALTER TABLE widgets ALTER size DROP NOT NULL", "widgets.size is sorted by, but may be null"),
        ("DROP INDEX widgets_size", "widgets.size is sorted or scoped by, but has no index"),
        ("DROP INDEX widgets_owner", "widgets.owner_id is sorted or scoped by, but has no index"),
        ("ALTER FUNCTION rapport.learn RESET search_path", "without a search path of its own"),
        ("GRANT EXECUTE ON FUNCTION rapport.learn TO PUBLIC", "can be executed by everybody"),
        (
            "ALTER FUNCTION rapport.learn OWNER TO rapport_owner",
            "runs as a superuser, as the owner of the schema",
        ),
    ] {
        let mut admin = world.admin().await;
        admin.execute("BEGIN").await.unwrap();
        if sabotage.contains("FOREIGN KEY") {
            admin.execute("CREATE UNIQUE INDEX ON widgets (id, tenant_id)").await.unwrap();
        }
        admin.execute(sabotage).await.unwrap();
        let faults = Audit::default().resource::<Widget>().faults(&mut admin).await.unwrap();
        assert!(faults.iter().any(|fault| fault.contains(finding)), "{sabotage}: {finding}: {faults:?}");
    }
}
