//! Bringing customers in: rows per second with 20 custom fields, four of them indexed, against COPY into the same table; and
//! what a long file takes in memory.
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rapport::suite::Role;
use rapport_test_kit::{Tenant, World, telco};
use reqwest::Body;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::{
    figure::{Aim, Figure, median},
    process::resident_mb,
};

/// The telephone company's file, ten times.
const ROWS: usize = 70_430;
const TURNS: usize = 3;

pub(crate) async fn measure() -> Vec<Figure> {
    let world = World::new().await;
    let mut superuser = world.databases.superuser(Role::Customer).await;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for turn in 0..TURNS {
        let tenant = world.tenant(&format!("bench{turn}")).await;
        telco::define_fields(&tenant).await;
        let import = uploaded(&tenant, ROWS).await;
        let begun = Instant::now();
        let done = telco::work(&tenant, &import, "start").await;
        ours.push(ROWS as f64 / begun.elapsed().as_secs_f64());
        assert_eq!(done["progress"]["created"], ROWS.to_string(), "{done}");
        theirs.push(ROWS as f64 / copy(&mut superuser, &tenant.id).await);
    }
    let (ours, theirs) = (median(ours), median(theirs));
    let name = "import of the telco file, 20 custom fields";
    vec![
        Figure::plain(name, "rows/s", ours, Aim::AtLeast(10_000.0)),
        Figure::ratio(
            &format!("{name}, against COPY into the same table"),
            "rows/s",
            ours,
            theirs,
            Aim::AtLeast(0.15),
        ),
    ]
}

/// Uploads so many rows and maps them.
pub(crate) async fn uploaded(tenant: &Tenant, rows: usize) -> String {
    let mut pieces = telco::rows(rows).peekable();
    let pieces = std::iter::from_fn(move || {
        pieces.peek()?;
        let piece: String = pieces.by_ref().take(1_000).collect();
        Some(Ok::<_, std::io::Error>(piece))
    });
    let body = Body::wrap_stream(futures::stream::iter(pieces));
    let (import, uploaded) = telco::upload(tenant, "telco", body).await;
    telco::map(tenant, &import, &uploaded).await;
    import
}

/// Seconds in which the server reads the tenant's customers from a file, as another tenant's.
async fn copy(superuser: &mut PgConnection, tenant: &str) -> f64 {
    let data: String = sqlx::query_scalar("SHOW data_directory").fetch_one(&mut *superuser).await.unwrap();
    let columns: String = sqlx::query_scalar(
        "SELECT string_agg(attname, ', ' ORDER BY attnum) FROM pg_attribute
         WHERE attrelid = 'customers'::regclass AND attnum > 1 AND NOT attisdropped",
    )
    .fetch_one(&mut *superuser)
    .await
    .unwrap();
    let file = format!("{data}/copied.tmp");
    let out = format!(
        "COPY (SELECT gen.id, {columns} FROM customers, (SELECT gen_random_uuid() AS id) gen WHERE tenant_id = '{tenant}')
         TO '{file}'"
    )
    .replace("gen.id, id", "gen.id, customers.id");
    sqlx::query(AssertSqlSafe(out)).execute(&mut *superuser).await.unwrap();
    let begun = Instant::now();
    let into = format!("COPY customers (tenant_id, {columns}) FROM '{file}'");
    let copied = sqlx::query(AssertSqlSafe(into)).execute(superuser).await.unwrap();
    assert_eq!(copied.rows_affected(), ROWS as u64);
    begun.elapsed().as_secs_f64()
}

/// Imports so many rows and looks at this process's memory meanwhile: megabytes when the first tenth is done, and the most
/// after that.
pub(crate) async fn memory(tenant: &Tenant, rows: usize) -> (f64, f64) {
    let import = uploaded(tenant, rows).await;
    let over = Arc::new(AtomicBool::new(false));
    let watching = {
        let (caller, import, over) = ((**tenant).clone(), import.clone(), over.clone());
        tokio::spawn(async move {
            let (mut early, mut most) = (0.0_f64, 0.0_f64);
            while !over.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(500)).await;
                let progress = caller.read(&format!("/v1/customer/imports/{import}")).await;
                let now = resident_mb(std::process::id());
                if rows_done(&progress) <= rows / 10 {
                    early = now;
                } else {
                    most = most.max(now);
                }
            }
            (early, most)
        })
    };
    let done = telco::work(tenant, &import, "start").await;
    assert_eq!(done["progress"]["created"], rows.to_string(), "{done}");
    over.store(true, Ordering::Relaxed);
    watching.await.unwrap()
}

fn rows_done(import: &Value) -> usize {
    import["progress"]["rowsDone"].as_str().and_then(|rows| rows.parse().ok()).unwrap_or_default()
}
