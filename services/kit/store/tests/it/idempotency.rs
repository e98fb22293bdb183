//! A repeated write gives the first answer, and has its effect once.
use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use prost::Message as _;
use rapport_kernel::{Clock, Ctx, Error, Instant};
use rapport_store::{Db, Sabotage};
use sqlx::PgConnection;

use crate::{
    cancel::cut_after,
    widget::Widget,
    world::{World, answer, asked, boss, create_at_once, insert, tenant},
};

/// Creates a widget as a handler does; says what the caller gets: a new answer, the first one, or an error.
async fn create(db: &Db, ctx: &Ctx, name: &str) -> Result<Vec<u8>, Error> {
    match create_at_once(db, ctx, name).await {
        Err(Error::Repeated(answer)) => Ok(answer),
        answered => Ok(answered?.into_inner().encode_to_vec()),
    }
}

/// The same in a transaction that begins with a round trip of its own.
async fn create_properly(db: &Db, ctx: &Ctx, name: &str) -> Result<Vec<u8>, Error> {
    let mut tx = match db.begin(ctx).await {
        Err(Error::Repeated(answer)) => return Ok(answer),
        tx => tx?,
    };
    insert(&mut tx, &Widget::new(ctx, name));
    let answer = tx.commit(answer(name)).await?.into_inner();
    Ok(answer.encode_to_vec())
}

async fn widgets(world: &World) -> i64 {
    widgets_seen(&mut world.admin().await).await
}

async fn widgets_seen(admin: &mut PgConnection) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM widgets").fetch_one(admin).await.unwrap()
}

#[tokio::test]
async fn the_same_request_gets_the_first_answer_byte_for_byte() {
    let world = World::new().await;
    let db = world.db().await;
    let ctx = asked(&boss(tenant()), "r-1 '\\ 请求", 1);
    let first = create(&db, &ctx, "first 茶").await.unwrap();
    assert_eq!(first, answer("first 茶").encode_to_vec());
    // What the handler would do now does not matter.
    assert_eq!(create(&db, &ctx, "second").await.unwrap(), first);
    assert_eq!(create_properly(&db, &ctx, "third").await.unwrap(), first);
    assert_eq!(widgets(&world).await, 1);
}

#[tokio::test]
async fn the_same_id_for_something_else_is_refused() {
    let world = World::new().await;
    let db = world.db().await;
    let ctx = boss(tenant());
    create(&db, &asked(&ctx, "r", 1), "a").await.unwrap();
    let error = create(&db, &asked(&ctx, "r", 2), "b").await.unwrap_err();
    assert_eq!(
        (error.reason(), error.to_string().as_str()),
        ("REQUEST_ID_REUSED", "this request id was used before for something else")
    );
    assert_eq!(widgets(&world).await, 1);
}

#[tokio::test]
async fn ids_are_each_callers_own() {
    let world = World::new().await;
    let db = world.db().await;
    let ctx = boss(tenant());
    create(&db, &asked(&ctx, "r", 1), "a").await.unwrap();
    let colleague = Ctx { principal: boss(tenant()).principal, ..ctx.clone() };
    create(&db, &asked(&colleague, "r", 2), "b").await.unwrap();
    create(&db, &asked(&boss(tenant()), "r", 3), "c").await.unwrap();
    let mut other_method = asked(&ctx, "r", 4);
    other_method.request_id.as_mut().unwrap().method = "/test.WidgetService/UpdateWidget";
    create(&db, &other_method, "d").await.unwrap();
    assert_eq!(widgets(&world).await, 4);
}

#[tokio::test]
async fn twins_have_one_effect_and_one_answer() {
    let world = World::new().await;
    let db = world.db().await;
    let ctx = asked(&boss(tenant()), "twin", 1);
    // Now the tenant is known, and who can begins late.
    drop(db.begin(&boss(ctx.tenant.uuid())).await.unwrap());
    let twins: Vec<_> = (0..6)
        .map(|n| {
            let (db, ctx, name) = (db.clone(), ctx.clone(), format!("twin {n}"));
            tokio::spawn(async move {
                if n % 3 == 0 {
                    create_properly(&db, &ctx, &name).await
                } else {
                    create(&db, &ctx, &name).await
                }
            })
        })
        .collect();
    let mut answers = Vec::new();
    for twin in twins {
        answers.push(twin.await.unwrap().unwrap());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(widgets(&world).await, 1);
}

#[tokio::test]
async fn twins_of_a_first_that_fails_do_it_instead() {
    let world = World::new().await;
    let db = world.db().await;
    let ctx = asked(&boss(tenant()), "twin", 1);
    let first = db.begin(&ctx).await.unwrap();
    let second = {
        let (db, ctx) = (db.clone(), ctx.clone());
        tokio::spawn(async move { create(&db, &ctx, "second").await })
    };
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert!(!second.is_finished(), "it waits to see what becomes of the first");
    drop(first);
    assert_eq!(second.await.unwrap().unwrap(), answer("second").encode_to_vec());
}

#[tokio::test]
async fn what_is_rolled_back_keeps_no_answer() {
    let world = World::new().await;
    let db = world.db().await;
    let ctx = asked(&boss(tenant()), "r", 1);
    let taken = Widget::new(&ctx, "taken");
    crate::world::create(&db, &boss(ctx.tenant.uuid()), std::slice::from_ref(&taken)).await;
    let mut tx = db.begin(&ctx).await.unwrap();
    tx.insert(&taken).unwrap();
    assert_eq!(tx.commit(answer("never")).await.unwrap_err().reason(), "ALREADY_EXISTS");
    assert_eq!(create(&db, &ctx, "now").await.unwrap(), answer("now").encode_to_vec());
}

#[tokio::test]
async fn after_72_hours_it_is_a_new_request_and_the_old_answer_goes() {
    let world = World::new().await;
    let db = world.db().await;
    let seconds = Arc::new(AtomicI64::new(0));
    let now = seconds.clone();
    let start: Instant = "2026-01-31T08:00:00Z".parse().unwrap();
    let clock = Clock::chosen(move || start.plus_seconds(now.load(Ordering::SeqCst)));
    let ctx = asked(&Ctx { clock: clock.clone(), ..boss(tenant()) }, "r", 1);
    let other = asked(&ctx, "other", 1);
    let first = create(&db, &ctx, "first").await.unwrap();
    create(&db, &other, "other").await.unwrap();
    seconds.store(72 * 3600 - 1, Ordering::SeqCst);
    assert_eq!(create(&db, &ctx, "second").await.unwrap(), first);
    seconds.store(72 * 3600, Ordering::SeqCst);
    let second = create(&db, &ctx, "second").await.unwrap();
    assert_eq!(second, answer("second").encode_to_vec());
    assert_eq!(create(&db, &ctx, "third").await.unwrap(), second);
    seconds.store(72 * 3600 + 1, Ordering::SeqCst);
    assert_eq!(db.forget_answers(clock.now()).await.unwrap(), 1, "that of the other request");
    assert_eq!(create(&db, &ctx, "third").await.unwrap(), second);
}

#[tokio::test]
async fn an_answer_is_kept_also_where_nothing_else_was_written() {
    let world = World::new().await;
    let db = world.db().await;
    let ctx = asked(&boss(tenant()), "noop", 1);
    let tx = db.begin(&ctx).await.unwrap();
    tx.commit(answer("nothing changed")).await.unwrap();
    assert!(
        matches!(db.begin(&ctx).await, Err(Error::Repeated(kept)) if kept == answer("nothing changed").encode_to_vec())
    );
    // An empty answer is an answer, too.
    let empty = asked(&ctx, "empty", 1);
    db.begin(&empty).await.unwrap().commit(()).await.unwrap();
    assert!(matches!(db.begin(&empty).await, Err(Error::Repeated(kept)) if kept.is_empty()));
}

/// Makes requests that are cut off anywhere and then repeated; says how many there were when one was first found to have had
/// its effect twice, if that comes to pass within `most`.
async fn repeated_twice(sabotage: Sabotage, most: usize) -> Option<usize> {
    let world = World::new().await;
    let db = world.db().await.sabotaged(sabotage);
    let ctx = boss(tenant());
    // The first one connects; the second shows how often one waits.
    create(&db, &asked(&ctx, "first", 0), "first").await.unwrap();
    let whole = async { drop(create_properly(&db, &asked(&ctx, "whole", 0), "whole").await) };
    let whole = cut_after(usize::MAX, whole).await.unwrap();
    let mut admin = world.admin().await;
    for turn in 1..=most {
        let ctx = asked(&ctx, &format!("r-{turn}"), 1);
        let name = format!("widget {turn}");
        // In one statement, and in a transaction that began properly.
        let create = async || {
            if turn % 2 == 0 {
                create_properly(&db, &ctx, &name).await
            } else {
                create(&db, &ctx, &name).await
            }
        };
        cut_after(rand::random_range(0..=whole), async { drop(create().await) }).await;
        let again = loop {
            match create().await {
                // An answer apart may still be on its way from the call that was cut off.
                Err(Error::Conflict) if sabotage != Sabotage::None => {}
                again => break again.unwrap(),
            }
        };
        assert_eq!(again, answer(&name).encode_to_vec());
        match widgets_seen(&mut admin).await - 2 - i64::try_from(turn).unwrap() {
            0 => {}
            more => {
                assert!(more > 0, "a request was answered and had no effect");
                return Some(turn);
            }
        }
    }
    None
}

#[tokio::test]
async fn a_request_that_was_cut_off_anywhere_has_one_effect_when_it_is_repeated() {
    assert_eq!(repeated_twice(Sabotage::None, 200).await, None);
}

#[tokio::test]
async fn an_answer_that_is_kept_apart_from_its_effect_is_noticed() {
    let found = repeated_twice(Sabotage::AnswersApart, 100).await;
    println!("noticed at request {found:?}");
    assert!(found.is_some());
}
