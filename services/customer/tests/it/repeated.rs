use rapport_proto::customer::v1 as pb;
use rapport_test_kit::World;
use tonic::Code;

fn create(name: &str, request_id: &str) -> pb::CreateCustomerRequest {
    let customer = pb::Customer { display_name: name.into(), ..pb::Customer::default() };
    pb::CreateCustomerRequest { customer: Some(customer), request_id: request_id.into() }
}

#[tokio::test]
async fn a_repeated_create_gives_the_first_answer_and_makes_one_customer() {
    let world = World::new().await;
    let tea = world.tenant("tea").await;
    let first = tea.customers().create_customer(create("one", "call-1")).await.unwrap().into_inner();
    let twins = (0..8).map(|_| {
        let mut customers = tea.customers();
        tokio::spawn(
            async move { customers.create_customer(create("two", "call-2")).await.unwrap().into_inner() },
        )
    });
    let mut answers = Vec::new();
    for twin in twins.collect::<Vec<_>>() {
        answers.push(twin.await.unwrap());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(tea.customers().create_customer(create("one", "call-1")).await.unwrap().into_inner(), first);
    let listed =
        tea.customers().list_customers(pb::ListCustomersRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.customers.len(), 2);

    let other = tea.customers().create_customer(create("else", "call-1")).await.unwrap_err();
    assert_eq!(other.code(), Code::FailedPrecondition);
    assert!(other.message().contains("request id was used before"), "{other:?}");
}
