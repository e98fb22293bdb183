//! Migrations: once, one at a time, and never for long in anybody's way.
use std::time::{Duration, Instant};

use rapport_kernel::Error;
use rapport_store::{Step, migrate};

use crate::{
    widget::Widget,
    world::{STEPS, World, boss, create, tenant},
};

async fn versions(world: &World) -> Vec<i64> {
    sqlx::query_scalar("SELECT version FROM rapport.migrations ORDER BY version")
        .fetch_all(&mut world.admin().await)
        .await
        .unwrap()
}

#[tokio::test]
async fn running_them_twice_changes_nothing() {
    let world = World::empty().await;
    let owner = world.url("rapport_owner");
    migrate(&owner, STEPS).await.unwrap();
    let installed = async || -> Vec<String> {
        sqlx::query_scalar("SELECT installed_on::text FROM rapport.migrations ORDER BY 1")
            .fetch_all(&mut world.admin().await)
            .await
            .unwrap()
    };
    let before = installed().await;
    migrate(&owner, STEPS).await.unwrap();
    assert_eq!((installed().await, versions(&world).await), (before, vec![1, 2, 1000]));
}

#[tokio::test]
async fn several_at_once_are_safe() {
    let world = World::empty().await;
    let owner = world.url("rapport_owner");
    // Longer than the lock timeout: the others wait for it all the same.
    const SLOW: &[Step] = &[(1001, "slow", "SELECT pg_sleep(2.5)")];
    let runs: Vec<_> = (0..3)
        .map(|_| {
            let owner = owner.clone();
            tokio::spawn(async move { migrate(&owner, &[STEPS[0], SLOW]).await })
        })
        .collect();
    for run in runs {
        run.await.unwrap().unwrap();
    }
    assert_eq!(versions(&world).await, [1, 2, 1000, 1001]);
    let db = world.db().await;
    let ctx = boss(tenant());
    create(&db, &ctx, &[Widget::new(&ctx, "a")]).await;
}

#[tokio::test]
async fn a_step_that_waits_too_long_for_a_lock_fails_and_changes_nothing() {
    const NEXT: &[&[Step]] = &[
        STEPS[0],
        &[(1001, "colour", "CREATE TABLE colours (id uuid); ALTER TABLE widgets ADD COLUMN colour text")],
    ];
    let world = World::new().await;
    let db = world.db().await;
    let ctx = boss(tenant());
    let widget = Widget::new(&ctx, "a");
    create(&db, &ctx, std::slice::from_ref(&widget)).await;
    let mut reader = db.begin(&ctx).await.unwrap();
    reader.get::<Widget>(widget.id).await.unwrap();
    let begun = Instant::now();
    let error = migrate(&world.url("rapport_owner"), NEXT).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
    assert!(
        (Duration::from_millis(1_900)..Duration::from_secs(6)).contains(&begun.elapsed()),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(versions(&world).await, [1, 2, 1000]);
    let half: bool = sqlx::query_scalar("SELECT to_regclass('colours') IS NOT NULL")
        .fetch_one(&mut world.admin().await)
        .await
        .unwrap();
    assert!(!half);
    drop(reader);
    tokio::time::sleep(Duration::from_millis(100)).await;
    migrate(&world.url("rapport_owner"), NEXT).await.unwrap();
    // The version that runs survives the step: its statements were prepared before.
    let mut tx = db.begin(&ctx).await.unwrap();
    let before: Widget = tx.get_for_update(widget.id).await.unwrap();
    tx.update(&before, &before.changed(|w| w.size = 1)).unwrap();
    tx.finish().await.unwrap();
    create(&db, &ctx, &[Widget::new(&ctx, "b")]).await;
}

#[tokio::test]
async fn a_step_that_was_changed_after_it_ran_is_refused() {
    const CHANGED: &[Step] = &[(1000, "widgets", "SELECT 1")];
    let world = World::new().await;
    assert!(matches!(migrate(&world.url("rapport_owner"), &[CHANGED]).await, Err(Error::Internal(_))));
}

#[tokio::test]
async fn provisioning_twice_and_at_once_is_safe() {
    let world = World::empty().await;
    let runs: Vec<_> = (0..3)
        .map(|_| {
            let name = world.name.clone();
            tokio::spawn(async move {
                rapport_store::provision(&crate::world::superuser(), "store", &name, "for-tests", "for-tests")
                    .await
            })
        })
        .collect();
    for run in runs {
        run.await.unwrap().unwrap();
    }
    let open: bool =
        sqlx::query_scalar("SELECT has_database_privilege('public', current_database(), 'CONNECT')")
            .fetch_one(&mut world.admin().await)
            .await
            .unwrap();
    assert!(!open, "a stranger may connect");
}
