use prost_types::{Struct, Value, value::Kind};
use rapport_proto::{customer::v1 as pb, r#type::v1::ExternalId};
use rapport_test_kit::World;
use serde_json::json;
use tonic::Code;

fn upsert(name: &str) -> pb::UpsertCustomerRequest {
    let customer =
        pb::Customer { display_name: name.into(), industry: "tea".into(), ..pb::Customer::default() };
    pb::UpsertCustomerRequest {
        source: "erp".into(),
        external_id: "4711".into(),
        customer: Some(customer),
        ..pb::UpsertCustomerRequest::default()
    }
}

#[tokio::test]
async fn the_key_in_another_system_decides_between_creating_and_changing() {
    let world = World::new().await;
    let tea = world.tenant("tea").await;
    let created = tea.customers().upsert_customer(upsert("one")).await.unwrap().into_inner();
    let changed = tea.customers().upsert_customer(upsert("two")).await.unwrap().into_inner();
    assert_eq!((changed.id, changed.etag.as_str(), changed.display_name.as_str()), (created.id, "2", "two"));
    // The same again changes nothing.
    let same = tea.customers().upsert_customer(upsert("two")).await.unwrap().into_inner();
    assert_eq!(same.etag, "2");
}

#[tokio::test]
async fn a_key_belongs_to_one_live_customer() {
    let world = World::new().await;
    let tea = world.tenant("tea").await;
    let first = tea.customers().upsert_customer(upsert("one")).await.unwrap().into_inner();
    let taken = pb::Customer {
        display_name: "other".into(),
        external_ids: vec![ExternalId { source: "erp".into(), external_id: "4711".into() }],
        ..pb::Customer::default()
    };
    let create = pb::CreateCustomerRequest { customer: Some(taken), request_id: String::new() };
    let refused = tea.customers().create_customer(create.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert_eq!(refused.message(), "customer already exists: `4711` of `erp` belongs to another customer");
    // A deleted customer lets go of it, and cannot come back while another has it.
    let delete = pb::DeleteCustomerRequest { id: first.id.clone(), ..pb::DeleteCustomerRequest::default() };
    tea.customers().delete_customer(delete).await.unwrap();
    tea.customers().create_customer(create).await.unwrap();
    let undelete = pb::UndeleteCustomerRequest { id: first.id, ..pb::UndeleteCustomerRequest::default() };
    assert_eq!(tea.customers().undelete_customer(undelete).await.unwrap_err().code(), Code::AlreadyExists);
}

#[tokio::test]
async fn a_key_of_a_customer_out_of_sight_tells_nothing_of_that_customer() {
    let world = World::new().await;
    let tea = world.tenant("tea").await;
    tea.customers().upsert_customer(upsert("one")).await.unwrap();
    let seller = tea.person("sales").await;
    let refused = seller.customers().upsert_customer(upsert("two")).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::NotFound, "customer `erp/4711` was not found"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_bring_the_same_key_at_once_one_creates_and_the_others_change() {
    let world = World::new().await;
    let tea = world.tenant("tea").await;
    let code = json!({"resource": "customer", "key": "code", "kind": "FIELD_KIND_TEXT", "unique": true, "labels": {"en": "Code"}});
    assert!(tea.post("/v1/customer/fields", &code).await.status().is_success());
    for round in 0..20 {
        let calls = (0..4).map(|n| {
            let (mut customers, mut request) = (tea.customers(), upsert(&format!("by {n}")));
            request.external_id = format!("key {round}");
            // A value of a unique field is taken by whoever creates, too.
            let code = Value { kind: Some(Kind::StringValue(request.external_id.clone())) };
            let attributes = Struct { fields: [("code".to_owned(), code)].into() };
            request.customer.as_mut().unwrap().attributes = Some(attributes);
            tokio::spawn(async move { customers.upsert_customer(request).await })
        });
        let mut etags = Vec::new();
        for call in calls.collect::<Vec<_>>() {
            etags.push(call.await.unwrap().unwrap().into_inner().etag);
        }
        etags.sort();
        assert_eq!(etags, ["1", "2", "3", "4"], "round {round}");
    }
}
