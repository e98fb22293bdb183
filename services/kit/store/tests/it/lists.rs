//! Lists: what is in them, in which order, and how one goes on.
use std::collections::BTreeSet;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use rapport_kernel::{Ctx, Error};
use rapport_store::{Db, ListParams, Page};
use uuid::Uuid;

use crate::{
    widget::Widget,
    world::{World, boss, change, create, insert, tenant, without},
};

/// All pages of a list, each read in a transaction of its own, one after the other.
pub(crate) async fn pages(db: &Db, ctx: &Ctx, params: ListParams<'_>) -> Vec<Widget> {
    let mut all = Vec::new();
    let mut token = String::new();
    loop {
        let page = list(db, ctx, ListParams { page_token: &token, ..params }).await.unwrap();
        assert!(page.items.len() <= usize::try_from(params.page_size).unwrap());
        all.extend(page.items);
        if page.next_page_token.is_empty() {
            return all;
        }
        token = page.next_page_token;
    }
}

pub(crate) async fn list(db: &Db, ctx: &Ctx, params: ListParams<'_>) -> Result<Page<Widget>, Error> {
    db.begin(ctx).await?.list::<Widget>(&params).await
}

/// The names in a list, on one page.
pub(crate) async fn names(db: &Db, ctx: &Ctx, filter: &str, order_by: &str) -> Vec<String> {
    let params = ListParams { filter, order_by, page_size: 200, ..ListParams::default() };
    let page = list(db, ctx, params).await.unwrap_or_else(|error| panic!("{filter} {order_by}: {error}"));
    page.items.into_iter().map(|widget| widget.name).collect()
}

async fn setup(count: usize) -> (World, Db, Ctx) {
    let world = World::new().await;
    let db = world.db().await;
    let ctx = boss(tenant());
    let widgets: Vec<_> = (0..count)
        .map(|n| Widget {
            size: (n % 5) as i64,
            ..Widget::new(&ctx, ["张伟", "an", "An", "王芳", "Zoë"][n % 5])
        })
        .collect();
    create(&db, &ctx, &widgets).await;
    (world, db, ctx)
}

fn problem<T>(result: Result<T, Error>) -> String {
    result.map_or_else(|error| error.to_string(), |_| "nothing".into())
}

#[tokio::test]
async fn names_are_in_the_order_that_people_expect() {
    let (_world, db, ctx) = setup(0).await;
    for name in [
        "赵敏", "Zoë", "张伟", "李娜", "an", "Bob", "王芳", "An", "alice", "陈静", "阿里", "杭州", "Émile",
        "2", "10",
    ] {
        create(&db, &ctx, &[Widget::new(&ctx, name)]).await;
    }
    let ascending = names(&db, &ctx, "", "name").await;
    // Han by pinyin (A li, Chen, Hang, Li, Wang, Zhang, Zhao), Latin as usual; `zh` puts Han before Latin.
    let han: Vec<_> =
        ascending.iter().filter(|name| !name.is_ascii() && name.chars().next() > Some('ÿ')).collect();
    assert_eq!(han, ["阿里", "陈静", "杭州", "李娜", "王芳", "张伟", "赵敏"]);
    let latin: Vec<_> = ascending.iter().filter(|name| name.chars().next() <= Some('ÿ')).collect();
    assert_eq!(latin, ["10", "2", "alice", "an", "An", "Bob", "Émile", "Zoë"]);
    let mut descending = names(&db, &ctx, "", "name desc").await;
    descending.reverse();
    assert_eq!(descending, ascending);
}

#[tokio::test]
async fn pages_in_both_directions_have_each_record_once() {
    let (_world, db, ctx) = setup(53).await;
    for order_by in
        ["name", "name desc", "size", "size desc", "id", "id desc", "create_time", "create_time desc", ""]
    {
        for page_size in [1, 10, 53, 200] {
            let params = ListParams { order_by, page_size, ..ListParams::default() };
            if page_size == 1 && !order_by.starts_with("size") {
                continue;
            }
            let all = pages(&db, &ctx, params).await;
            let ids: BTreeSet<_> = all.iter().map(|w| w.id).collect();
            assert_eq!((all.len(), ids.len()), (53, 53), "{order_by} by {page_size}");
            let whole = list(&db, &ctx, ListParams { page_size: 200, ..params }).await.unwrap();
            assert_eq!(all, whole.items);
            assert_eq!(whole.next_page_token, "", "the last page says that it is the last");
        }
    }
    let newest = list(&db, &ctx, ListParams::default()).await.unwrap();
    assert_eq!(newest.items.len(), 50, "so many when one does not say");
    assert!(newest.items.is_sorted_by(|a, b| a.create_time >= b.create_time), "newest first");
}

#[tokio::test]
async fn pages_stay_in_step_while_records_come_and_go() {
    let (_world, db, ctx) = setup(40).await;
    let params = ListParams { order_by: "name", page_size: 10, ..ListParams::default() };
    let before: BTreeSet<_> = pages(&db, &ctx, params).await.into_iter().map(|w| w.id).collect();
    let mut seen = Vec::new();
    let mut token = String::new();
    loop {
        let page = list(&db, &ctx, ListParams { page_token: &token, ..params }).await.unwrap();
        // Others write meanwhile, before and behind where this reader is; the last record read goes, too.
        create(&db, &ctx, &[Widget::new(&ctx, "阿"), Widget::new(&ctx, "zzz"), Widget::new(&ctx, "An")])
            .await;
        if let Some(last) = page.items.last() {
            change(&db, &ctx, last.id, |w| w.delete_time = Some(ctx.now())).await;
        }
        seen.extend(page.items.into_iter().map(|w| w.id));
        if page.next_page_token.is_empty() {
            break;
        }
        token = page.next_page_token;
    }
    let unique: BTreeSet<_> = seen.iter().copied().collect();
    assert_eq!(unique.len(), seen.len(), "nothing twice");
    assert!(before.is_subset(&unique), "nothing left out that was there all the time");
}

#[tokio::test]
async fn deleted_records_show_only_when_asked_for() {
    let (_world, db, ctx) = setup(3).await;
    let gone = list(&db, &ctx, ListParams::default()).await.unwrap().items.remove(0);
    let deleted =
        change(&db, &ctx, gone.id, |w| *w = Widget { version: w.version, ..gone.deleted(&ctx) }).await;
    assert_eq!(list(&db, &ctx, ListParams::default()).await.unwrap().items.len(), 2);
    let shown = list(&db, &ctx, ListParams { show_deleted: true, ..ListParams::default() }).await.unwrap();
    assert!(shown.items.len() == 3 && shown.items.contains(&deleted));
}

#[tokio::test]
async fn filters_are_held_against_compiled_fields() {
    let (_world, db, ctx) = setup(0).await;
    let tea = Widget {
        tags: vec!["茶".into(), "new".into()],
        size: 3,
        done: true,
        ..Widget::new(&ctx, "西湖龙井")
    };
    let pot = Widget {
        price_minor: Some(1250),
        price_currency: Some("CNY".into()),
        ..Widget::new(&ctx, "Pot 100%_\\'")
    };
    create(&db, &ctx, &[tea.clone(), pot.clone()]).await;
    let own = format!("owner == \"{}\" && name.startsWith(\"Pot\")", ctx.user().unwrap());
    for (filter, expected) in [
        ("\"茶\" in tags", vec!["西湖龙井"]),
        ("size > 2 && done", vec!["西湖龙井"]),
        ("!done", vec!["Pot 100%_\\'"]),
        ("price.amount >= 12.5 && price.currency == \"CNY\"", vec!["Pot 100%_\\'"]),
        ("price.amount < 12.5", vec![]),
        ("name.contains(\"%_\\\\'\")", vec!["Pot 100%_\\'"]),
        ("name.contains(\"龙\") || size in [1, 2]", vec!["西湖龙井"]),
        ("made_on == \"2026-01-31\" && !(size == 3)", vec!["Pot 100%_\\'"]),
        (own.as_str(), vec!["Pot 100%_\\'"]),
    ] {
        assert_eq!(names(&db, &ctx, filter, "").await, expected, "{filter}");
    }
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_with_what_would_be_right() {
    let (_world, db, ctx) = setup(1).await;
    let refused = |params: ListParams<'static>| {
        let (db, ctx) = (db.clone(), ctx.clone());
        async move { problem(list(&db, &ctx, params).await) }
    };
    let filter = |filter| ListParams { filter, ..ListParams::default() };
    let order = |order_by| ListParams { order_by, ..ListParams::default() };
    let text = refused(filter("nmae == \"a\"")).await;
    assert!(
        text.starts_with("filter: ") && text.contains("unknown field `nmae`; did you mean name"),
        "{text}"
    );
    assert!(refused(filter("size == \"a\"")).await.contains("`size` is a whole number"));
    assert!(
        refused(order("tags"))
            .await
            .contains("`tags` cannot be sorted by; sortable are create_time, done, id")
    );
    assert!(refused(order("nmae desc")).await.contains("unknown field `nmae`; did you mean name"));
    let below = refused(ListParams { page_size: -1, ..ListParams::default() }).await;
    assert_eq!(below, "page_size: must not be negative");
    let zero = list(&db, &ctx, filter("name == \"\\u0000\"")).await;
    assert!(!matches!(zero, Err(Error::Internal(_))), "{zero:?}");
}

#[tokio::test]
async fn a_page_has_at_most_two_hundred() {
    let (_world, db, ctx) = setup(201).await;
    let page = list(&db, &ctx, ListParams { page_size: 1_000, ..ListParams::default() }).await.unwrap();
    assert_eq!(page.items.len(), 200);
}

#[tokio::test]
async fn a_token_belongs_to_its_query() {
    let (_world, db, ctx) = setup(5).await;
    let params = ListParams { filter: "size >= 0", order_by: "name", page_size: 2, ..ListParams::default() };
    let token = list(&db, &ctx, params).await.unwrap().next_page_token;
    assert!(list(&db, &ctx, ListParams { page_token: &token, ..params }).await.is_ok());
    let same = ListParams {
        filter: " 0 <= size ",
        order_by: "name asc",
        page_size: 3,
        page_token: &token,
        ..params
    };
    assert!(list(&db, &ctx, same).await.is_ok(), "the same query in other words, with other pages");
    for other in [
        ListParams { filter: "size >= 1", ..params },
        ListParams { filter: "", ..params },
        ListParams { order_by: "name desc", ..params },
        ListParams { order_by: "size", ..params },
        ListParams { show_deleted: true, ..params },
    ] {
        let text = problem(list(&db, &ctx, ListParams { page_token: &token, ..other }).await);
        assert_eq!(text, "page_token: does not belong to this query; begin again without it");
    }
}

#[tokio::test]
async fn tokens_that_somebody_made_up_do_no_harm() {
    let (_world, db, ctx) = setup(5).await;
    for order_by in ["name", "size", "id", "create_time", "made_on", "done"] {
        let params = ListParams { order_by, page_size: 2, ..ListParams::default() };
        let token = list(&db, &ctx, params).await.unwrap().next_page_token;
        let known = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(&token).unwrap()).unwrap();
        let fingerprint = known.split(' ').next().unwrap();
        let id = Uuid::nil();
        for made_up in [
            String::new(),
            "x".into(),
            fingerprint.to_owned(),
            format!("{fingerprint} "),
            format!("{fingerprint} {id}"),
            format!("{fingerprint} {id} 1"),
            format!("{fingerprint} {id} 1 "),
            format!("{fingerprint} {id} 1 '); DROP TABLE widgets; --"),
            format!("{fingerprint} {id} 1 {}", i64::MAX),
            format!("{fingerprint} {id} 1 99999999999999999999"),
            format!("{fingerprint} {id} 1 -009999-01-01T00:00:00Z"),
            format!("{fingerprint} {id} 1 9999-12-31T23:59:59.999999Z"),
            format!("{fingerprint} {id} 1 0000-01-01"),
            format!("{fingerprint} {id} 1 a\0b"),
            format!("{fingerprint} {id} 0 true"),
            format!("{fingerprint}{id} 1 x"),
        ] {
            let token = BASE64_URL_SAFE_NO_PAD.encode(&made_up);
            let result = list(&db, &ctx, ListParams { page_token: &token, ..params }).await;
            assert!(matches!(result, Ok(_) | Err(Error::Invalid(_))), "{order_by} {made_up:?}: {result:?}");
        }
        for token in ["%", "äöü", "AAAA", &"A".repeat(3_000)] {
            let text = problem(list(&db, &ctx, ListParams { page_token: token, ..params }).await);
            assert_eq!(text, "page_token: does not belong to this query; begin again without it");
        }
    }
    assert_eq!(names(&db, &ctx, "", "").await.len(), 5);
}

#[tokio::test]
async fn what_is_typed_into_a_filter_stays_a_value() {
    let (_world, db, ctx) = setup(5).await;
    for text in [
        "'; DROP TABLE widgets; --",
        "' OR 1 = 1 --",
        "$1",
        "\\'",
        "%",
        "_",
        "{}",
        "NULL",
        "\u{202e}",
        "a'||pg_sleep(9)||'",
    ] {
        let quoted = serde_json::to_string(text).unwrap();
        for filter in [
            format!("name == {quoted}"),
            format!("name.contains({quoted}) && size == 99"),
            format!("name.startsWith({quoted})"),
            format!("{quoted} in tags"),
            format!("name in [{quoted}]"),
        ] {
            assert_eq!(names(&db, &ctx, &filter, "").await, Vec::<String>::new(), "{filter}");
        }
        for order_by in [text, &format!("name {text}"), &format!("name; {text}")] {
            assert!(matches!(
                list(&db, &ctx, ListParams { order_by, ..ListParams::default() }).await,
                Err(Error::Invalid(_))
            ));
        }
    }
    assert_eq!(names(&db, &ctx, "", "").await.len(), 5);
}

#[tokio::test]
async fn a_hidden_field_does_not_exist_in_lists() {
    let (_world, db, ctx) = setup(3).await;
    let blind = without(&ctx, &["size", "price"], &[]);
    let text = problem(list(&db, &blind, ListParams { filter: "size == 1", ..ListParams::default() }).await);
    assert!(text.contains("unknown field `size`") && !text.contains("size,"), "{text}");
    let text = problem(list(&db, &blind, ListParams { order_by: "size", ..ListParams::default() }).await);
    assert!(text.contains("unknown field `size`"), "{text}");
    let text =
        problem(list(&db, &blind, ListParams { filter: "price.amount > 1", ..ListParams::default() }).await);
    assert!(text.contains("unknown field `price.amount`"), "{text}");
    // The usual order may be by what is hidden: then by id, newest first, and pages go on.
    let blind = without(&ctx, &["create_time", "id"], &[]);
    let ids: Vec<_> = pages(&db, &blind, ListParams { page_size: 2, ..ListParams::default() })
        .await
        .iter()
        .map(|w| w.id)
        .collect();
    assert!(ids.len() == 3 && ids.is_sorted_by(|a, b| a > b), "{ids:?}");
}

#[tokio::test]
async fn a_list_sees_what_the_transaction_wrote() {
    let (_world, db, ctx) = setup(0).await;
    let mut tx = db.begin(&ctx).await.unwrap();
    insert(&mut tx, &Widget::new(&ctx, "a"));
    assert_eq!(tx.list::<Widget>(&ListParams::default()).await.unwrap().items.len(), 1);
}
