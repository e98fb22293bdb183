use rapport_proto::customer::v1::{self as pb, customer_change::Change, customer_result::Result as Made};
use rapport_test_kit::{Caller, World};
use tonic::Code;

use super::named;

async fn batch(caller: &Caller, changes: Vec<Change>) -> Vec<Result<pb::Customer, (Code, String)>> {
    let changes = changes.into_iter().map(|change| pb::CustomerChange { change: Some(change) }).collect();
    let request = pb::BatchCustomersRequest { changes, request_id: String::new() };
    let results = caller.customers().batch_customers(request).await.unwrap().into_inner().results;
    results
        .into_iter()
        .map(|result| match result.result.unwrap() {
            Made::Customer(customer) => Ok(*customer),
            Made::Error(error) => Err((Code::from(error.code), error.message)),
        })
        .collect()
}

fn create(name: &str) -> Change {
    let customer = pb::Customer { display_name: name.into(), ..pb::Customer::default() };
    Change::Create(Box::new(pb::CreateCustomerRequest {
        customer: Some(customer),
        request_id: String::new(),
    }))
}

fn update(id: &str, name: &str) -> Change {
    let customer = pb::Customer { id: id.into(), display_name: name.into(), ..pb::Customer::default() };
    Change::Update(Box::new(pb::UpdateCustomerRequest { customer: Some(customer), ..Default::default() }))
}

fn delete(id: &str) -> Change {
    Change::Delete(pb::DeleteCustomerRequest { id: id.into(), ..Default::default() })
}

#[tokio::test]
async fn each_change_has_its_own_result() {
    let world = World::new().await;
    let tea = world.tenant("tea").await;
    let (one, two) = (named(&tea, "one").await, named(&tea, "two").await);
    let unknown = "0190a3c4-0000-7000-8000-000000000000";
    let results = batch(
        &tea,
        vec![
            create("three"),
            create(""),
            update(&one.id, "eins"),
            update(unknown, "x"),
            delete(&two.id),
            delete(&one.id),
        ],
    )
    .await;
    assert_eq!(results[0].as_ref().unwrap().display_name, "three");
    assert_eq!(results[1].as_ref().unwrap_err().1, "customer.display_name: must be given");
    assert_eq!(results[2].as_ref().unwrap().etag, "2");
    assert_eq!(results[3].as_ref().unwrap_err().0, Code::NotFound);
    assert!(results[4].as_ref().unwrap().delete_time.is_some());
    assert!(results[5].as_ref().unwrap_err().1.contains("stands twice"));
}

#[tokio::test]
async fn a_thousand_go_in_one_call() {
    let world = World::new().await;
    let tea = world.tenant("tea").await;
    let results = batch(&tea, (0..1000).map(|n| create(&format!("customer {n}"))).collect()).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1000);
}

#[tokio::test]
async fn each_change_needs_the_permission_of_its_own_method() {
    let world = World::new().await;
    let tea = world.tenant("tea").await;
    let (one, two) = (named(&tea, "one").await, named(&tea, "two").await);
    let reader = tea.person("read-only").await;
    for refused in batch(&reader, vec![create("three"), update(&one.id, "x"), delete(&two.id)]).await {
        assert_eq!(refused.unwrap_err().0, Code::PermissionDenied);
    }
}
