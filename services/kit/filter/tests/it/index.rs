//! The SQL is in a form that an index serves, also under row-level security, where only leakproof operators may.

use rapport_filter::{Catalogue, Condition, Field, Kind, Source, Target};
use sqlx::{Executor, PgConnection, Postgres, QueryBuilder, Row};
use uuid::Uuid;

use crate::database::Database;

const TENANT: Uuid = Uuid::from_u128(1);
const FIELD: Uuid = Uuid::from_u128(9);

const SCHEMA: &str = "
    CREATE TABLE records (tenant_id uuid, id uuid, name text COLLATE \"C\", size bigint, day date, owner_id uuid,
        active boolean, PRIMARY KEY (tenant_id, id));
    CREATE INDEX by_name ON records (tenant_id, name);
    CREATE INDEX by_size ON records (tenant_id, size);
    CREATE INDEX by_day ON records (tenant_id, day);
    CREATE INDEX by_owner ON records (tenant_id, owner_id);
    CREATE TABLE attribute_numbers (tenant_id uuid, field_id uuid, value bigint, record_id uuid, present boolean);
    CREATE TABLE attribute_texts (tenant_id uuid, field_id uuid, value text COLLATE \"zh-x-icu\", record_id uuid,
        present boolean);
    CREATE INDEX by_number ON attribute_numbers (tenant_id, field_id, present, value, record_id);
    CREATE INDEX by_text ON attribute_texts (tenant_id, field_id, present, value, record_id);
    INSERT INTO records SELECT '00000000-0000-0000-0000-000000000001', gen_random_uuid(), 'name ' || n, n,
        date '2000-01-01' + n, gen_random_uuid(), true FROM generate_series(1, 20000) n;
    INSERT INTO attribute_numbers SELECT tenant_id, '00000000-0000-0000-0000-000000000009', size, id, true FROM records;
    INSERT INTO attribute_texts SELECT tenant_id, '00000000-0000-0000-0000-000000000009', name, id, true FROM records;
    ANALYZE;
    ALTER TABLE records ENABLE ROW LEVEL SECURITY;
    ALTER TABLE records FORCE ROW LEVEL SECURITY;
    ALTER TABLE attribute_numbers ENABLE ROW LEVEL SECURITY;
    ALTER TABLE attribute_numbers FORCE ROW LEVEL SECURITY;
    ALTER TABLE attribute_texts ENABLE ROW LEVEL SECURITY;
    ALTER TABLE attribute_texts FORCE ROW LEVEL SECURITY;
    CREATE POLICY tenant ON records USING (tenant_id = current_setting('test.tenant')::uuid);
    CREATE POLICY tenant ON attribute_numbers USING (tenant_id = current_setting('test.tenant')::uuid);
    CREATE POLICY tenant ON attribute_texts USING (tenant_id = current_setting('test.tenant')::uuid);
    GRANT SELECT ON ALL TABLES IN SCHEMA public TO pg_monitor;
    SET test.tenant = '00000000-0000-0000-0000-000000000001';
    -- A role that every server has and that row-level security binds.
    SET ROLE pg_monitor;
";

fn catalogue() -> Catalogue {
    [
        Field::new("name", Kind::Text, Source::Column("name")),
        Field::new("size", Kind::Number { scale: 0 }, Source::Column("size")),
        Field::new("day", Kind::Date, Source::Column("day")),
        Field::new("owner", Kind::Id, Source::Column("owner_id")),
        Field::new("attributes.score", Kind::Number { scale: 0 }, Source::Indexed { field_id: FIELD }),
        Field::new("attributes.city", Kind::Text, Source::Indexed { field_id: FIELD }),
    ]
    .into_iter()
    .collect()
}

/// The index conditions of the plan for a filter.
async fn index_conditions(connection: &mut PgConnection, source: &str) -> String {
    let mut sql = QueryBuilder::<Postgres>::new("EXPLAIN SELECT t.id FROM records t WHERE t.tenant_id = ");
    sql.push_bind(TENANT).push(" AND ");
    Condition::parse(source, &catalogue())
        .unwrap()
        .write(&mut sql, Target { alias: "t", tenant: TENANT, joined: None });
    let plan = sql.build().fetch_all(connection).await.unwrap();
    let lines: Vec<String> = plan.iter().map(|row| row.get::<String, _>(0)).collect();
    lines.into_iter().filter(|line| line.contains("Index Cond")).collect()
}

#[test]
fn filters_are_served_by_indexes_under_row_level_security() {
    let mut database = Database::create(SCHEMA);
    database.runtime.block_on(async {
        let connection = &mut database.connection;
        for (source, condition) in [
            ("name == 'name 7'", "name = 'name 7'"),
            ("name in ['name 7', 'name 8']", "name = ANY ("),
            ("name.startsWith('name 77')", "name >= 'name 77'"),
            ("size > 19990 && size < 19995.5", "(size > '19990'::bigint) AND (size < '19996'::bigint)"),
            ("size in [1, 2]", "size = ANY ("),
            ("day == '2001-01-01'", "day = '2001-01-01'"),
            ("owner == '00000000-0000-0000-0000-000000000001'", "owner_id = '00000000"),
            ("attributes.score >= 19999", "value >= '19999'::bigint"),
            ("attributes.city == 'name 7'", "value = 'name 7'"),
        ] {
            let conditions = index_conditions(connection, source).await;
            assert!(conditions.contains(condition), "{source}: no {condition:?} among {conditions:?}");
        }
        // What cannot be served, so that the test above is known to be able to fail.
        let conditions = index_conditions(connection, "name.contains('77')").await;
        assert!(!conditions.contains("name"), "{conditions}");
        connection.execute("RESET ROLE").await.unwrap();
    });
}
