//! Own, shared, all: what a caller sees and may change; through the store, and by the policies alone.
use std::{collections::BTreeSet, sync::Arc};

use rapport_kernel::{Ctx, Error, Principal, Scope};
use rapport_store::{Db, ListParams, Resource as _, Share, ShareLevel};
use sqlx::Executor as _;

use crate::{
    widget::Widget,
    world::{World, boss, create, insert, new_id, seller, tenant},
};

/// A tenant with widgets of a seller, of somebody else, and shared ones.
struct Shop {
    world: World,
    db: Db,
    boss: Ctx,
    seller: Ctx,
    own: Widget,
    read: Widget,
    write: Widget,
    other: Widget,
}

impl Shop {
    async fn open() -> Self {
        let world = World::new().await;
        let db = world.db().await;
        let boss = boss(tenant());
        let seller = seller(boss.tenant.uuid());
        let own = Widget::new(&seller, "own");
        let [read, write, other] = ["read", "write", "other"].map(|name| Widget::new(&boss, name));
        create(&db, &boss, &[own.clone(), read.clone(), write.clone(), other.clone()]).await;
        let shop = Self { world, db, boss, seller, own, read, write, other };
        shop.share(&shop.read, ShareLevel::Read).await;
        shop.share(&shop.write, ShareLevel::Write).await;
        shop
    }

    async fn share(&self, widget: &Widget, level: ShareLevel) {
        let mut tx = self.db.begin(&self.boss).await.unwrap();
        tx.share(widget, &Share { principal: self.seller.user().unwrap(), level }).await.unwrap();
        tx.emit(widget, &rapport_proto::customer::v1::CustomerShared::default()).unwrap();
        tx.finish().await.unwrap();
    }
}

fn outcome<T>(result: Result<T, Error>) -> &'static str {
    result.map_or_else(|error| error.reason(), |_| "DONE")
}

#[tokio::test]
async fn a_seller_sees_own_and_shared_and_changes_own_and_given_for_writing() {
    let shop = Shop::open().await;
    let missing = new_id();
    for (id, get, change) in [
        (shop.own.id, "DONE", "DONE"),
        (shop.read.id, "DONE", "DENIED"),
        (shop.write.id, "DONE", "DONE"),
        (shop.other.id, "NOT_FOUND", "NOT_FOUND"),
        (missing, "NOT_FOUND", "NOT_FOUND"),
    ] {
        let mut tx = shop.db.begin(&shop.seller).await.unwrap();
        assert_eq!(outcome(tx.get::<Widget>(id).await), get);
        assert_eq!(outcome(tx.get_for_update::<Widget>(id).await), change);
    }
}

#[tokio::test]
async fn what_is_out_of_sight_is_refused_in_the_words_of_what_does_not_exist() {
    let shop = Shop::open().await;
    let missing = new_id();
    let mut tx = shop.db.begin(&shop.seller).await.unwrap();
    let hidden = tx.get::<Widget>(shop.other.id).await.unwrap_err().to_string();
    let absent = tx.get::<Widget>(missing).await.unwrap_err().to_string();
    assert_eq!(hidden.replace(&shop.other.id.to_string(), "?"), absent.replace(&missing.to_string(), "?"));
}

#[tokio::test]
async fn many_are_read_under_the_same_scope() {
    let shop = Shop::open().await;
    let ids = [&shop.own, &shop.read, &shop.write, &shop.other].map(|widget| widget.id);
    let mut tx = shop.db.begin(&shop.seller).await.unwrap();
    let seen: BTreeSet<_> = tx.get_many::<Widget>(&ids).await.unwrap().into_iter().map(|w| w.name).collect();
    assert_eq!(seen, ["own", "read", "write"].map(String::from).into());
    let held = tx.lock_many::<Widget>(&ids).await.unwrap();
    let may: BTreeSet<_> =
        held.iter().map(|held| (held.record.name.as_str(), outcome(held.may_change(&shop.seller)))).collect();
    assert_eq!(may, [("own", "DONE"), ("read", "DENIED"), ("write", "DONE")].into());
    assert!(held.is_sorted_by_key(|held| held.record.id), "locked in one order");
    let mut tx = shop.db.begin(&shop.boss).await.unwrap();
    assert_eq!(tx.get_many::<Widget>(&ids).await.unwrap().len(), 4);
}

#[tokio::test]
async fn a_permission_that_is_missing_is_named() {
    let shop = Shop::open().await;
    let nobody = Ctx { grants: Arc::default(), ..shop.seller.clone() };
    let mut tx = shop.db.begin(&nobody).await.unwrap();
    let error = tx.list::<Widget>(&ListParams::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "permission `test.widgets.read` is required");
    let conn = tx.conn().await.unwrap();
    let seen: i64 = sqlx::query_scalar("SELECT count(*) FROM widgets").fetch_one(conn).await.unwrap();
    assert_eq!(seen, 3, "the policies know nothing of permissions, but of scope: own and shared");
}

#[tokio::test]
async fn the_policies_alone_hold_the_scope() {
    let shop = Shop::open().await;
    let names = |ctx: Ctx| {
        let db = shop.db.clone();
        async move {
            let mut tx = db.begin(&ctx).await.unwrap();
            let names: Vec<String> = sqlx::query_scalar("SELECT name FROM widgets ORDER BY name")
                .fetch_all(tx.conn().await.unwrap())
                .await
                .unwrap();
            names.join(" ")
        }
    };
    assert_eq!(names(shop.seller.clone()).await, "own read write");
    assert_eq!(names(shop.boss.clone()).await, "other own read write");
    // A machine on nobody's behalf owns nothing, and neither does a stranger.
    let machine = Ctx { principal: Principal::ApiKey(shop.seller.user().unwrap()), ..shop.seller.clone() };
    assert_eq!(names(machine).await, "");
    assert_eq!(names(seller(shop.boss.tenant.uuid())).await, "");
    // Without the store's predicates a seller's statements meet own and shared rows only.
    let mut tx = shop.db.begin(&shop.seller).await.unwrap();
    let all = tx.conn().await.unwrap().execute("DELETE FROM widgets").await.unwrap().rows_affected();
    assert_eq!(all, 3);
}

#[tokio::test]
async fn the_stores_predicates_alone_hold_the_scope() {
    let shop = Shop::open().await;
    shop.world.admin().await.execute("ALTER TABLE widgets DISABLE ROW LEVEL SECURITY").await.unwrap();
    let mut tx = shop.db.begin(&shop.seller).await.unwrap();
    let page = tx.list::<Widget>(&ListParams { order_by: "name", ..ListParams::default() }).await.unwrap();
    assert_eq!(page.items.iter().map(|w| w.name.as_str()).collect::<Vec<_>>(), ["own", "read", "write"]);
    assert_eq!(outcome(tx.get::<Widget>(shop.other.id).await), "NOT_FOUND");
    assert_eq!(tx.get_many::<Widget>(&[shop.own.id, shop.other.id]).await.unwrap().len(), 1);
    let stranger = boss(tenant());
    let mut tx = shop.db.begin(&stranger).await.unwrap();
    assert_eq!(tx.list::<Widget>(&ListParams::default()).await.unwrap().items, []);
    assert_eq!(outcome(tx.get::<Widget>(shop.own.id).await), "NOT_FOUND");
}

#[tokio::test]
async fn a_record_can_be_handed_over_out_of_ones_own_sight() {
    let shop = Shop::open().await;
    let mut tx = shop.db.begin(&shop.seller).await.unwrap();
    let before: Widget = tx.get_for_update(shop.own.id).await.unwrap();
    let after = before.changed(|w| w.owner_id = shop.boss.user());
    tx.update(&before, &after).unwrap();
    // What comes after in the same transaction is under the seller's scope again, for the policies too.
    assert_eq!(outcome(tx.get::<Widget>(shop.own.id).await), "NOT_FOUND");
    let seen: i64 =
        sqlx::query_scalar("SELECT count(*) FROM widgets").fetch_one(tx.conn().await.unwrap()).await.unwrap();
    assert_eq!(seen, 2);
    tx.finish().await.unwrap();
    let mut tx = shop.db.begin(&shop.boss).await.unwrap();
    assert_eq!(tx.get::<Widget>(shop.own.id).await.unwrap(), after);
}

#[tokio::test]
async fn a_record_can_be_created_for_somebody_else() {
    let shop = Shop::open().await;
    let theirs = Widget { owner_id: shop.boss.user(), ..Widget::new(&shop.seller, "theirs") };
    create(&shop.db, &shop.seller, std::slice::from_ref(&theirs)).await;
    assert_eq!(
        outcome(shop.db.begin(&shop.seller).await.unwrap().get::<Widget>(theirs.id).await),
        "NOT_FOUND"
    );
    assert_eq!(outcome(shop.db.begin(&shop.boss).await.unwrap().get::<Widget>(theirs.id).await), "DONE");
}

#[tokio::test]
async fn the_scope_of_the_call_decides_what_may_be_changed() {
    let shop = Shop::open().await;
    // Reads all, changes own.
    let grants = [(Widget::READ, Scope::All)].into_iter().collect();
    let reader = Ctx { grants: Arc::new(grants), ..shop.seller.clone() };
    let mut tx = shop.db.begin(&reader).await.unwrap();
    assert_eq!(outcome(tx.get_for_update::<Widget>(shop.own.id).await), "DONE");
    assert_eq!(outcome(tx.get_for_update::<Widget>(shop.other.id).await), "DENIED");
    assert_eq!(outcome(tx.get_for_update::<Widget>(shop.write.id).await), "DONE");
    // A record that is handed over while somebody waits for it is gone when the wait is over.
    let mut first = shop.db.begin(&shop.boss).await.unwrap();
    let before: Widget = first.get_for_update(shop.read.id).await.unwrap();
    drop(tx);
    let waits = {
        let (db, seller, id) = (shop.db.clone(), shop.seller.clone(), shop.own.id);
        let before: Widget = first.get_for_update(id).await.unwrap();
        first.update(&before, &before.changed(|w| w.owner_id = None)).unwrap();
        first.flush().await.unwrap();
        tokio::spawn(
            async move { outcome(db.begin(&seller).await.unwrap().get_for_update::<Widget>(id).await) },
        )
    };
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    first.update(&before, &before.changed(|w| w.size = 1)).unwrap();
    first.finish().await.unwrap();
    assert_eq!(waits.await.unwrap(), "NOT_FOUND");
}

#[tokio::test]
async fn shares_are_listed_changed_and_taken_back() {
    let shop = Shop::open().await;
    let seller = shop.seller.user().unwrap();
    let mut tx = shop.db.begin(&shop.boss).await.unwrap();
    assert_eq!(tx.shares(&shop.read).await.unwrap(), [Share { principal: seller, level: ShareLevel::Read }]);
    tx.share(&shop.read, &Share { principal: seller, level: ShareLevel::Write }).await.unwrap();
    assert_eq!(tx.shares(&shop.read).await.unwrap(), [Share { principal: seller, level: ShareLevel::Write }]);
    assert_eq!(tx.unshare(&shop.read, seller).await.unwrap().level, ShareLevel::Write);
    assert_eq!(outcome(tx.unshare(&shop.read, seller).await), "NOT_FOUND");
    tx.finish().await.unwrap();
    assert_eq!(
        outcome(shop.db.begin(&shop.seller).await.unwrap().get::<Widget>(shop.read.id).await),
        "NOT_FOUND"
    );
}

#[tokio::test]
async fn a_record_has_at_most_a_thousand_shares() {
    let shop = Shop::open().await;
    sqlx::query(
        "INSERT INTO record_shares SELECT $1, 'widget', $2, gen_random_uuid(), 'read', now() FROM generate_series(1, 1000)",
    )
    .bind(shop.boss.tenant)
    .bind(shop.other.id)
    .execute(&mut shop.world.admin().await)
    .await
    .unwrap();
    let mut tx = shop.db.begin(&shop.boss).await.unwrap();
    let share = Share { principal: new_id(), level: ShareLevel::Read };
    assert_eq!(outcome(tx.share(&shop.other, &share).await), "TOO_MANY_SHARES");
}

/// Every order pages through own and shared records, each once, in both directions and in the order of all.
#[tokio::test]
async fn pages_over_own_and_shared_have_each_record_once_in_every_order() {
    let shop = Shop::open().await;
    let user = shop.seller.user().unwrap();
    let mut tx = shop.db.begin(&shop.boss).await.unwrap();
    for n in 0..60 {
        let mut widget =
            Widget::new(if n % 3 == 0 { &shop.seller } else { &shop.boss }, ["茶", "安", "Tea", "b"][n % 4]);
        widget.size = [1, 1, 2, 5][n % 4];
        widget.done = n % 2 == 0;
        widget.made_on = ["2026-01-31", "2025-12-31"][n % 2].parse().unwrap();
        insert(&mut tx, &widget);
        if n % 5 == 0 {
            // Some of one's own are shared with oneself, which must not show them twice.
            tx.share(&widget, &Share { principal: user, level: ShareLevel::Read }).await.unwrap();
        }
    }
    tx.finish().await.unwrap();
    for order in ["id", "name", "size", "made_on", "done", "create_time"] {
        for order_by in [order.to_owned(), format!("{order} desc")] {
            let params = ListParams { order_by: &order_by, page_size: 7, ..ListParams::default() };
            let all = crate::lists::pages(&shop.db, &shop.boss, params).await;
            let seen = crate::lists::pages(&shop.db, &shop.seller, params).await;
            let ids: BTreeSet<_> = seen.iter().map(|w| w.id).collect();
            assert_eq!(ids.len(), seen.len(), "twice: {order_by}");
            let mut tx = shop.db.begin(&shop.seller).await.unwrap();
            let every: Vec<_> = all.iter().map(|w| w.id).collect();
            let visible: BTreeSet<_> =
                tx.get_many::<Widget>(&every).await.unwrap().into_iter().map(|w| w.id).collect();
            let expected: Vec<_> = all.iter().filter(|w| visible.contains(&w.id)).map(|w| w.id).collect();
            assert_eq!(seen.iter().map(|w| w.id).collect::<Vec<_>>(), expected, "{order_by}");
            assert!(seen.len() > 25, "{}", seen.len());
        }
    }
}
