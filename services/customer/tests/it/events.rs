use prost_types::FieldMask;
use rapport::suite::Role;
use rapport_proto::customer::v1 as pb;
use rapport_test_kit::{EVENTS, World};
use sqlx::{AssertSqlSafe, Row as _};

use super::named;

#[tokio::test]
async fn each_change_writes_one_event_with_who_and_what() {
    let world = World::new().await;
    let tea = world.tenant("tea").await;
    let customer = named(&tea, "one").await;
    let update = |industry: &str| pb::UpdateCustomerRequest {
        customer: Some(pb::Customer {
            id: customer.id.clone(),
            industry: industry.into(),
            ..pb::Customer::default()
        }),
        update_mask: Some(FieldMask { paths: vec!["industry".into()] }),
        request_id: String::new(),
    };
    tea.customers().update_customer(update("tea")).await.unwrap();
    tea.customers().update_customer(update("tea")).await.unwrap();
    let delete =
        pb::DeleteCustomerRequest { id: customer.id.clone(), ..pb::DeleteCustomerRequest::default() };
    tea.customers().delete_customer(delete).await.unwrap();

    let mut conn = world.databases.superuser(Role::Customer).await;
    let rows = sqlx::query(AssertSqlSafe(format!(
        "SELECT subject, version, changed_paths, principal, via, payload FROM {EVENTS}
         WHERE record_id = $1 ORDER BY event_id",
    )))
    .bind(customer.id.parse::<uuid::Uuid>().unwrap())
    .fetch_all(&mut conn)
    .await
    .unwrap();
    let told: Vec<(String, i64, Vec<String>)> =
        rows.iter().map(|row| (row.get("subject"), row.get("version"), row.get("changed_paths"))).collect();
    let paths = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        told,
        [
            ("customer.created.v1".to_owned(), 1, paths(&[])),
            ("customer.updated.v1".to_owned(), 2, paths(&["industry"])),
            ("customer.deleted.v1".to_owned(), 3, paths(&["delete_time"])),
        ]
    );
    assert_eq!(
        (rows[1].get::<String, _>("principal"), rows[1].get::<&str, _>("via")),
        (tea.name(), "console")
    );
    let payload: Vec<u8> = rows[1].get("payload");
    let event: pb::CustomerUpdated = prost::Message::decode(payload.as_slice()).unwrap();
    assert_eq!(
        (event.customer.unwrap().industry, event.before.unwrap().industry),
        ("tea".into(), String::new())
    );
}
