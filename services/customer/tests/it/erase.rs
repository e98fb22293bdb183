//! Erasing a customer: nothing of it is left in the database, and the log is whole.
use rapport::suite::Role;
use rapport_proto::{customer::v1 as pb, fields::v1 as fields};
use rapport_test_kit::{Caller, Tenant, World, json};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection};
use tonic::Code;

/// What must not be found afterwards.
const CANARY: &str = "canary1234567";

/// The tables of the customers' database in which a text is found, in whatever form it is kept.
async fn found(conn: &mut PgConnection, text: &str) -> Vec<String> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'm') AND n.nspname IN ('public', 'platform', 'rapport') ORDER BY 1",
    )
    .fetch_all(&mut *conn)
    .await
    .unwrap();
    assert!(tables.len() > 30, "{tables:?}");
    let mut found = Vec::new();
    for table in tables {
        let sql = format!(
            "SELECT EXISTS (SELECT FROM {table} t WHERE strpos(lower(t::text), $1) > 0
               OR strpos(t::text, encode(convert_to($1, 'UTF8'), 'hex')) > 0)"
        );
        let is_there: bool =
            sqlx::query_scalar(AssertSqlSafe(sql)).bind(text).fetch_one(&mut *conn).await.unwrap();
        if is_there {
            found.push(table);
        }
    }
    found
}

async fn field(tea: &Tenant, key: &str, personal: bool) {
    let labels = [("en".to_owned(), key.to_owned())].into();
    let field = fields::Field {
        resource: "customer".into(),
        key: key.into(),
        labels,
        kind: fields::FieldKind::Text.into(),
        indexed: true,
        unique: personal,
        personal,
        ..Default::default()
    };
    let request = fields::CreateFieldRequest { field: Some(field), ..Default::default() };
    tea.fields().create_field(request).await.unwrap();
}

/// A person with the canary wherever one can put it.
fn described() -> Value {
    json!({
        "type": "CUSTOMER_TYPE_PERSON",
        "displayName": CANARY,
        "phones": [{"number": format!("+86 571 {CANARY}"), "label": CANARY}],
        "emails": [{"address": format!("{CANARY}@example.com")}],
        "addresses": [{"regionCode": "CN", "addressLines": [CANARY]}],
        "birthDate": "1990-01-31",
        "industry": "tea",
        "tags": [CANARY],
        "attributes": {"nickname": CANARY, "passport": CANARY, "plan": "gold"},
        "externalIds": [{"source": "erp", "externalId": CANARY}],
    })
}

/// Asks for that person to be created, under a request id.
async fn create(tea: &Tenant) -> Value {
    let asked = tea.request(reqwest::Method::POST, "/v1/customers").header("idempotency-key", "once");
    json(asked.json(&described()).send().await.unwrap()).await
}

async fn person(tea: &Tenant) -> String {
    for (key, personal) in [("nickname", true), ("passport", true), ("plan", false)] {
        field(tea, key, personal).await;
    }
    let id = create(tea).await["id"].as_str().unwrap().to_owned();
    let change = json!({"displayName": format!("{CANARY} again"), "attributes": {"nickname": format!("{CANARY} too")}});
    json(tea.patch(&format!("/v1/customers/{id}"), &change).await).await;
    let seller = tea.person("sales").await;
    let share = json!({"share": {"principal": seller.name(), "level": "SHARE_LEVEL_READ"}});
    json(tea.post(&format!("/v1/customers/{id}:share"), &share).await).await;
    id
}

async fn erase(caller: &Caller, id: &str) -> Result<pb::Customer, tonic::Status> {
    let request = pb::EraseCustomerRequest { id: id.into(), ..Default::default() };
    Ok(caller.customers().erase_customer(request).await?.into_inner())
}

#[tokio::test]
async fn nothing_is_left_of_an_erased_customer_and_the_log_is_whole() {
    let world = World::new().await;
    let tea = world.tenant("tea").await;
    let other = json(tea.post("/v1/customers", &json!({"displayName": "西湖茶业"})).await).await;
    let id = person(&tea).await;
    // A field that is not in use any more keeps its values.
    let page = tea.read("/v1/customer/fields").await;
    let passport =
        page["fields"].as_array().unwrap().iter().find(|field| field["key"] == "passport").unwrap();
    let archive =
        fields::DeleteFieldRequest { id: passport["id"].as_str().unwrap().into(), ..Default::default() };
    tea.fields().delete_field(archive).await.unwrap();

    let refused = erase(&tea, &id).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("delete it first"), "{refused:?}");
    let delete = pb::DeleteCustomerRequest { id: id.clone(), ..Default::default() };
    tea.customers().delete_customer(delete).await.unwrap();
    let mut conn = world.databases.superuser(Role::Customer).await;
    let before = found(&mut conn, CANARY).await;
    for table in ["customers", "customer_search", "platform.answers", "attribute_texts"] {
        assert!(before.iter().any(|name| name.ends_with(table)), "{table} is not among {before:?}");
    }

    let erased = json(tea.post(&format!("/v1/customers/{id}:erase"), &json!({})).await).await;
    assert_eq!((&erased["industry"], &erased["attributes"]), (&json!("tea"), &json!({"plan": "gold"})));
    assert!(erased["eraseTime"].is_string() && erased.get("displayName").is_none(), "{erased}");
    assert_eq!(found(&mut conn, CANARY).await, Vec::<String>::new());
    let again = erase(&tea, &id).await.unwrap();
    assert_eq!(json!(again.etag), erased["etag"], "what was erased stays as it is");
    let undelete = pb::UndeleteCustomerRequest { id: id.clone(), ..Default::default() };
    let refused = tea.customers().undelete_customer(undelete).await.unwrap_err();
    assert!(refused.message().contains("was erased, and stays so"), "{refused:?}");

    // The history still says who did what when, without values.
    let mut told = Vec::new();
    for _ in 0..100 {
        let history = tea.read(&format!("/v1/services/customer/history/customer/{id}")).await;
        told = history["entries"].as_array().unwrap().clone();
        if told.first().is_some_and(|entry| entry["event"]["subject"] == "customer.erased.v1") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let subjects: Vec<_> = told.iter().map(|entry| entry["event"]["subject"].as_str().unwrap()).collect();
    assert_eq!(
        subjects,
        [
            "customer.erased.v1",
            "customer.deleted.v1",
            "customer.shared.v1",
            "customer.updated.v1",
            "customer.created.v1"
        ]
    );
    let (erasure, rest) = told.split_first().unwrap();
    assert_eq!(erasure["event"]["data"]["id"], json!(id));
    assert!(rest.iter().all(|entry| entry["event"].get("data").is_none()));
    assert!(told.iter().all(|entry| entry["event"]["principal"] == json!(tea.name())));

    let url = secrecy::ExposeSecret::expose_secret(&world.config.databases["customer"].url).to_owned();
    let db = rapport_store::Db::connect(&rapport_store::Options { url, pool_size: 1 }).await.unwrap();
    let verified = rapport_events::verify(&db).await.unwrap();
    assert_eq!((verified.faults, verified.erased), (Vec::new(), 4));

    // A request that was answered before is not answered with what was erased, nor done again.
    assert_eq!(create(&tea).await, json!({}));
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM customers").fetch_one(&mut conn).await.unwrap();
    let other = tea.read(&format!("/v1/customers/{}", other["id"].as_str().unwrap())).await;
    assert_eq!((rows, &other["displayName"]), (2, &json!("西湖茶业")));
}

#[tokio::test]
async fn who_may_not_erase_is_refused() {
    let world = World::new().await;
    let tea = world.tenant("tea").await;
    let seller = tea.person("sales").await;
    let id = super::named(&seller, "mine").await.id;
    let refused = erase(&seller, &id).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}
