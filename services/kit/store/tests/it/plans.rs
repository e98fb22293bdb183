//! How lists are planned on 200,000 records of 200 tenants: what one page reads does not grow with the tenant.
use rapport_kernel::Ctx;
use rapport_store::{Db, ListParams};
use sqlx::{AssertSqlSafe, Executor as _};

use crate::{
    fields::{define, field},
    widget::Widget,
    wire::Wire,
    world::{World, boss, seller, tenant},
};

/// A large tenant among many, in a database whose plans are told as notices.
struct Mall {
    _world: World,
    db: Db,
    wire: Wire,
    boss: Ctx,
    /// Owns 40 of 50,000 records and was given 1,000.
    small: Ctx,
    /// Owns 20,000.
    large: Ctx,
}

impl Mall {
    async fn open() -> Self {
        let world = World::new().await;
        let db = world.db().await;
        let boss = boss(tenant());
        let (small, large) = (seller(boss.tenant.uuid()), seller(boss.tenant.uuid()));
        let number = rapport_proto::fields::v1::Field {
            indexed: true,
            ..field("number", rapport_proto::fields::v1::FieldKind::Number)
        };
        let number = define(&db, &boss, number).await.unwrap().id;
        let mut admin = world.admin().await;
        sqlx::query(
            "INSERT INTO widgets (tenant_id, id, version, name, size, made_on, done, owner_id, tags, attributes, external_ids, create_time)
             SELECT CASE WHEN n <= 50000 THEN $1 ELSE md5('t' || n % 199)::uuid END, md5('w' || n)::uuid, 1,
               chr(19968 + n * 7919 % 20000) || n, n * 7919 % 1000, '2020-01-01'::date + n % 2000, n % 2 = 0,
               CASE WHEN n <= 40 THEN $2 WHEN n <= 20040 THEN $3 ELSE md5('u' || n % 997)::uuid END, '{}',
               jsonb_build_object('number', n % 1000, 'plain', 'p' || n % 100), '[]',
               '2026-01-01Z'::timestamptz + n * interval '1 s'
             FROM generate_series(1, 200000) n",
        )
        .bind(boss.tenant)
        .bind(small.user())
        .bind(large.user())
        .execute(&mut admin)
        .await
        .unwrap();
        sqlx::query(
            "INSERT INTO attribute_numbers SELECT tenant_id, CASE WHEN tenant_id = $1 THEN $2 ELSE tenant_id END, id, true,
               (attributes ->> 'number')::int * 100 FROM widgets",
        )
        .bind(boss.tenant)
        .bind(number)
        .execute(&mut admin)
        .await
        .unwrap();
        sqlx::query(
            "INSERT INTO record_shares SELECT tenant_id, 'widget', id, $1, 'read', now() FROM widgets
             WHERE tenant_id = $2 AND owner_id <> $1 ORDER BY id LIMIT 1000",
        )
        .bind(small.user())
        .bind(boss.tenant)
        .execute(&mut admin)
        .await
        .unwrap();
        // Shares of others, so that the planner has something to choose from.
        sqlx::query(
            "INSERT INTO record_shares SELECT tenant_id, 'widget', id, md5('u' || row_number() OVER () % 500)::uuid, 'read',
               now() FROM widgets WHERE size % 3 = 0",
        )
        .execute(&mut admin)
        .await
        .unwrap();
        let plain = rapport_proto::fields::v1::FieldKind::Text;
        define(&db, &boss, field("plain", plain)).await.unwrap();
        admin.execute("ANALYZE").await.unwrap();
        for setting in [
            "session_preload_libraries = 'auto_explain'",
            "auto_explain.log_min_duration = 0",
            "auto_explain.log_analyze = on",
            "auto_explain.log_timing = off",
            "auto_explain.log_buffers = on",
            "auto_explain.log_level = 'notice'",
        ] {
            let sql = AssertSqlSafe(format!("ALTER DATABASE {} SET {setting}", world.name));
            admin.execute(sql).await.unwrap();
        }
        let wire = Wire::before(&world.url("rapport_store")).await;
        let db = world.db_at(wire.url(&world.url("rapport_store")), 1).await;
        Self { _world: world, db, wire, boss, small, large }
    }

    /// The plan of one page, and the blocks that it touched. Read several times, since PostgreSQL would settle on a plan for an
    /// average tenant after the fifth.
    async fn plan(&self, ctx: &Ctx, params: ListParams<'_>) -> (String, u64) {
        for _ in 0..8 {
            self.wire.take();
            let mut tx = self.db.begin(ctx).await.unwrap();
            let page = tx.list::<Widget>(&params).await.unwrap();
            assert!(!page.items.is_empty(), "{params:?}");
        }
        let notices = self.wire.take().notices;
        let plan = notices.into_iter().find(|notice| notice.contains("sort_value")).unwrap();
        let blocks =
            plan.lines().find_map(|line| line.trim().strip_prefix("Buffers: shared hit=")).unwrap_or("0");
        let blocks = blocks.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap();
        (plan, blocks)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_reads_little_however_large_the_tenant() {
    let mall = Mall::open().await;
    let next = {
        let mut tx = mall.db.begin(&mall.boss).await.unwrap();
        tx.list::<Widget>(&ListParams { order_by: "name", ..ListParams::default() })
            .await
            .unwrap()
            .next_page_token
    };
    let (half, plain) = ("size < 500", "attributes.plain == \"p7\"");
    let by_number = "attributes.number";
    for (ctx, filter, order_by, page_token, index, most) in [
        (&mall.boss, "", "", "", "widgets_create_time", 60),
        (&mall.boss, "", "name", "", "widgets_name", 150),
        (&mall.boss, "", "name", next.as_str(), "widgets_name", 150),
        (&mall.boss, "", "name desc", "", "widgets_name", 150),
        (&mall.boss, half, "name", "", "widgets_name", 300),
        // What has no index is looked for along the order: one in a hundred has it.
        (&mall.boss, plain, "name", "", "widgets_name", 10_000),
        (&mall.boss, "attributes.number > 500", "name", "", "widgets_name", 2_000),
        (&mall.boss, "", "attributes.number desc", "", "attribute_numbers_value", 700),
        (&mall.boss, half, by_number, "", "attribute_numbers_value", 4_000),
        // Fifty of 50,000 are found first and sorted then.
        (&mall.boss, "size == 7", "name", "", "widgets_size", 300),
        (&mall.boss, "size == 7", by_number, "", "widgets_size", 1_000),
        (&mall.boss, "attributes.number == 7", by_number, "", "attribute_numbers_value", 1_000),
        // 40 of one's own, and 1,000 shared ones that have to be sorted.
        (&mall.small, "", "", "", "widgets_owner", 6_000),
        (&mall.small, "", "name", "", "record_shares_principal", 6_000),
        (&mall.small, half, "name", "", "record_shares_principal", 6_000),
        (&mall.small, "", by_number, "", "attribute_numbers_key", 11_000),
        // 20,000 of one's own: along the order again.
        (&mall.large, "", "", "", "widgets_owner", 60),
        (&mall.large, "", "name", "", "widgets_name", 400),
        (&mall.large, half, "name desc", "", "widgets_name", 600),
    ] {
        let params = ListParams { filter, order_by, page_token, ..ListParams::default() };
        let (plan, blocks) = mall.plan(ctx, params).await;
        assert!(plan.contains(index), "{params:?} without {index}: {plan}");
        assert!(blocks <= most, "{params:?} touched {blocks} blocks: {plan}");
    }
    the_planner_expects_what_is_there(&mall).await;
}

/// The policies name the tenant as the statements do, which must not count twice.
async fn the_planner_expects_what_is_there(mall: &Mall) {
    let (plan, _) = mall.plan(&mall.boss, ListParams { order_by: "name", ..ListParams::default() }).await;
    // The policy's tenant and the statement's are compared once, before anything is read, ...
    assert!(plan.contains("One-Time Filter: ($0 = '"), "{plan}");
    // ... and the planner expects what is there: of 50,000 rows not a two-hundredth of a two-hundredth.
    let scan = plan.lines().find(|line| line.contains("Index Scan using widgets_name")).unwrap();
    let rows = scan.split("rows=").nth(1).unwrap().split(' ').next().unwrap().parse::<u32>().unwrap();
    assert!((10_000..100_000).contains(&rows), "{scan}");
}
