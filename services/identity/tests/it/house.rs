//! What identity's database needs done unasked.
use std::time::Duration;

use rapport_identity::{Env, parts};
use rapport_proto::identity::v1 as pb;
use rapport_runtime::parts::Worker;
use tokio_util::sync::CancellationToken;

use crate::world::{Tenant, World};

/// Creates a unit under a request id.
async fn create(tenant: &Tenant<'_>, request_id: &str) -> pb::Unit {
    let unit = pb::Unit { display_name: request_id.into(), ..pb::Unit::default() };
    let request = pb::CreateUnitRequest { unit: Some(unit), request_id: request_id.into() };
    tenant.admin().await.units().create_unit(request).await.unwrap().into_inner()
}

/// The request ids whose answers are kept.
async fn kept(world: &World) -> Vec<String> {
    sqlx::query_scalar("SELECT key FROM platform.answers ORDER BY key")
        .fetch_all(&mut world.database.admin().await)
        .await
        .unwrap()
}

#[tokio::test]
async fn answers_older_than_72_hours_are_forgotten() {
    let world = World::new().await;
    let tenant = world.tenant("acme").await;
    let old = create(&tenant, "old").await;
    world.wait(Duration::from_secs(72 * 3600 - 60));
    assert_eq!(create(&tenant, "old").await, old, "for 72 hours a repetition gets the first answer");
    create(&tenant, "new").await;
    world.wait(Duration::from_secs(120));
    assert_eq!(kept(&world).await, ["new", "old"]);

    let env = Env {
        db: world.db.clone(),
        clock: world.clock(),
        cell: "main".into(),
        region: "cn-east".into(),
        passwords: world.passwords.clone(),
        events: rapport_events::Settings::default(),
    };
    let stop = CancellationToken::new();
    let workers = parts(env).await.unwrap().workers;
    let run = |worker: Worker| {
        let stop = stop.clone();
        tokio::spawn(async move { worker.run(stop).await })
    };
    let working: Vec<_> = workers.into_iter().map(run).collect();
    let begun = std::time::Instant::now();
    while kept(&world).await.len() > 1 {
        assert!(begun.elapsed() < Duration::from_secs(30), "nothing was forgotten");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(kept(&world).await, ["new"]);
    stop.cancel();
    for worker in working {
        worker.await.unwrap();
    }
}
