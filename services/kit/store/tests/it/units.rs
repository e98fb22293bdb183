//! Unit and below: what a manager sees and may change; through the store, and by the policies alone.
use std::{collections::BTreeSet, sync::Arc};

use rapport_kernel::{Ctx, Error, Scope};
use rapport_store::{Db, ListParams, Resource as _, Share, ShareLevel};
use sqlx::Executor as _;
use uuid::Uuid;

use crate::{
    widget::Widget,
    world::{World, boss, create, insert, new_id, seller, tenant},
};

/// A company: `top` over `middle` over `bottom`, and `aside` next to `top`. The manager works in `middle`.
struct Company {
    world: World,
    db: Db,
    boss: Ctx,
    manager: Ctx,
    units: [Uuid; 4],
}

const TOP: usize = 0;
const MIDDLE: usize = 1;
const BOTTOM: usize = 2;
const ASIDE: usize = 3;

impl Company {
    async fn open() -> Self {
        let world = World::new().await;
        let db = world.db().await;
        let boss = boss(tenant());
        let grants = [(Widget::READ, Scope::Unit)].into_iter().collect();
        let manager = Ctx { scope: Scope::Unit, grants: Arc::new(grants), ..seller(boss.tenant.uuid()) };
        let company = Self { world, db, boss, manager, units: [(); 4].map(|()| new_id()) };
        for (unit, parent) in [(BOTTOM, Some(MIDDLE)), (MIDDLE, Some(TOP)), (TOP, None), (ASIDE, None)] {
            company.place(unit, parent).await;
        }
        company.work(&company.manager, Some(MIDDLE)).await;
        company
    }

    /// Puts a unit below another one, as identity's events do.
    async fn place(&self, unit: usize, parent: Option<usize>) {
        let mut reaction = self.db.begin_reaction().await.unwrap();
        let mut tx = reaction.enter(self.boss.clone()).await.unwrap();
        sqlx::query(
            "INSERT INTO directory_units (tenant_id, id, version, deleted, display_name, parent_id) VALUES ($1, $2, 1, false, '', $3)
             ON CONFLICT (tenant_id, id) DO UPDATE SET parent_id = excluded.parent_id",
        )
        .bind(self.boss.tenant)
        .bind(self.units[unit])
        .bind(parent.map(|parent| self.units[parent]))
        .execute(tx.conn().await.unwrap())
        .await
        .unwrap();
        sqlx::query("SELECT rapport.place_units($1)")
            .bind([self.units[unit]])
            .execute(tx.conn().await.unwrap())
            .await
            .unwrap();
        reaction.leave(tx).await.unwrap();
        reaction.commit().await.unwrap();
    }

    async fn work(&self, who: &Ctx, unit: Option<usize>) {
        sqlx::query(
            "INSERT INTO directory_users (tenant_id, id, version, deleted, display_name, unit_id, state)
             VALUES ($1, $2, 1, false, '', $3, 'active') ON CONFLICT (tenant_id, id) DO UPDATE SET unit_id = excluded.unit_id",
        )
        .bind(who.tenant)
        .bind(who.user())
        .bind(unit.map(|unit| self.units[unit]))
        .execute(&mut self.world.admin().await)
        .await
        .unwrap();
    }

    /// A widget of the boss that belongs to a unit, or to none.
    fn widget(&self, name: &str, unit: Option<usize>) -> Widget {
        Widget { unit_id: unit.map(|unit| self.units[unit]), ..Widget::new(&self.boss, name) }
    }

    /// One of each unit, and one of none.
    async fn stock(&self) -> Vec<Widget> {
        let names = ["top", "middle", "bottom", "aside"];
        let mut widgets: Vec<_> = (0..4).map(|unit| self.widget(names[unit], Some(unit))).collect();
        widgets.push(self.widget("none", None));
        create(&self.db, &self.boss, &widgets).await;
        widgets
    }

    /// What somebody sees: in a list, one by one, and by the policies alone.
    async fn seen(&self, who: &Ctx) -> String {
        let mut tx = self.db.begin(who).await.unwrap();
        let listed =
            tx.list::<Widget>(&ListParams { order_by: "name", ..ListParams::default() }).await.unwrap();
        let listed: Vec<_> = listed.items.iter().map(|widget| widget.name.clone()).collect();
        let all: Vec<Widget> =
            self.db.begin(&self.boss).await.unwrap().list(&ListParams::default()).await.unwrap().items;
        let mut got = Vec::new();
        for widget in &all {
            got.extend(tx.get::<Widget>(widget.id).await.ok().map(|widget| widget.name));
        }
        got.sort();
        let policies: Vec<String> =
            sqlx::query_scalar("SELECT name FROM widgets ORDER BY name COLLATE \"C\"")
                .fetch_all(tx.conn().await.unwrap())
                .await
                .unwrap();
        assert_eq!((&got, &policies), (&listed, &listed));
        listed.join(" ")
    }
}

fn outcome<T>(result: Result<T, Error>) -> &'static str {
    result.map_or_else(|error| error.reason(), |_| "DONE")
}

#[tokio::test]
async fn a_manager_sees_the_unit_and_those_below_and_follows_the_tree() {
    let company = Company::open().await;
    company.stock().await;
    let manager = &company.manager;
    assert_eq!(company.seen(manager).await, "bottom middle");
    company.place(BOTTOM, Some(ASIDE)).await;
    assert_eq!(company.seen(manager).await, "middle");
    company.place(ASIDE, Some(MIDDLE)).await;
    assert_eq!(company.seen(manager).await, "aside bottom middle");
    company.work(manager, Some(TOP)).await;
    assert_eq!(company.seen(manager).await, "aside bottom middle top");
    company.work(manager, None).await;
    assert_eq!(company.seen(manager).await, "");
    // Another tenant's tree has nothing to do with it, whatever its units are called.
    company.work(&Ctx { tenant: boss(tenant()).tenant, ..manager.clone() }, Some(TOP)).await;
    assert_eq!(company.seen(manager).await, "");
}

#[tokio::test]
async fn units_that_stand_below_each_other_for_a_moment_end_nowhere() {
    let company = Company::open().await;
    company.stock().await;
    company.place(TOP, Some(BOTTOM)).await;
    assert_eq!(company.seen(&company.manager).await, "bottom middle top");
    company.place(TOP, None).await;
    assert_eq!(company.seen(&company.manager).await, "bottom middle");
}

#[tokio::test]
async fn what_a_manager_may_change_is_what_the_calls_permission_reaches() {
    let company = Company::open().await;
    let stock = company.stock().await;
    let mut tx = company.db.begin(&company.manager).await.unwrap();
    assert_eq!(outcome(tx.get_for_update::<Widget>(stock[BOTTOM].id).await), "DONE");
    assert_eq!(outcome(tx.get_for_update::<Widget>(stock[TOP].id).await), "NOT_FOUND");
    // Sees the unit's, changes own; sees all, changes the unit's.
    let own = Ctx { scope: Scope::Own, ..company.manager.clone() };
    let mut tx = company.db.begin(&own).await.unwrap();
    assert_eq!(outcome(tx.get_for_update::<Widget>(stock[BOTTOM].id).await), "DENIED");
    let grants = [(Widget::READ, Scope::All), ("test.widgets.update", Scope::Unit)].into_iter().collect();
    let all = Ctx { grants: Arc::new(grants), ..company.manager.clone() };
    let mut tx = company.db.begin(&all).await.unwrap();
    assert_eq!(outcome(tx.get_for_update::<Widget>(stock[BOTTOM].id).await), "DONE");
    assert_eq!(outcome(tx.get_for_update::<Widget>(stock[TOP].id).await), "DENIED");
    // Out of one's own sight.
    let mut tx = company.db.begin(&company.manager).await.unwrap();
    let before: Widget = tx.get_for_update(stock[BOTTOM].id).await.unwrap();
    tx.update(&before, &before.changed(|widget| widget.unit_id = Some(company.units[ASIDE]))).unwrap();
    tx.emit(&before, &rapport_proto::customer::v1::CustomerUpdated::default()).unwrap();
    tx.finish().await.unwrap();
    assert_eq!(company.seen(&company.manager).await, "middle");
}

#[tokio::test]
async fn the_stores_predicates_alone_hold_the_units() {
    let company = Company::open().await;
    let stock = company.stock().await;
    company.world.admin().await.execute("ALTER TABLE widgets DISABLE ROW LEVEL SECURITY").await.unwrap();
    let mut tx = company.db.begin(&company.manager).await.unwrap();
    let page = tx.list::<Widget>(&ListParams { order_by: "name", ..ListParams::default() }).await.unwrap();
    assert_eq!(page.items.iter().map(|w| w.name.as_str()).collect::<Vec<_>>(), ["bottom", "middle"]);
    assert_eq!(outcome(tx.get::<Widget>(stock[TOP].id).await), "NOT_FOUND");
    assert_eq!(tx.get_many::<Widget>(&[stock[TOP].id, stock[MIDDLE].id]).await.unwrap().len(), 1);
}

/// Own, of units, shared, and several of these at once: pages have each record once.
#[tokio::test]
async fn pages_over_own_unit_and_shared_have_each_record_once() {
    let company = Company::open().await;
    let user = company.manager.user().unwrap();
    let mut tx = company.db.begin(&company.boss).await.unwrap();
    for n in 0..80 {
        let mut widget =
            company.widget(["茶", "安", "Tea", "b"][n % 4], Some(n % 5).filter(|unit| *unit < 4));
        if n % 3 == 0 {
            widget.owner_id = Some(user);
        }
        if n % 11 == 0 {
            widget.owner_id = None;
        }
        widget.size = [1, 1, 2, 5][n % 4];
        insert(&mut tx, &widget);
        if n % 7 == 0 {
            tx.share(&widget, &Share { principal: user, level: ShareLevel::Read }).await.unwrap();
        }
    }
    tx.finish().await.unwrap();
    for order_by in ["id", "name", "size desc", "create_time desc"] {
        let params = ListParams { order_by, page_size: 7, ..ListParams::default() };
        let all = crate::lists::pages(&company.db, &company.boss, params).await;
        let seen = crate::lists::pages(&company.db, &company.manager, params).await;
        let every: Vec<_> = all.iter().map(|widget| widget.id).collect();
        let mut tx = company.db.begin(&company.manager).await.unwrap();
        let visible: BTreeSet<_> =
            tx.get_many::<Widget>(&every).await.unwrap().into_iter().map(|widget| widget.id).collect();
        let expected: Vec<_> = every.into_iter().filter(|id| visible.contains(id)).collect();
        assert_eq!(seen.iter().map(|widget| widget.id).collect::<Vec<_>>(), expected, "{order_by}");
        assert!((45..75).contains(&seen.len()), "{}", seen.len());
    }
}
