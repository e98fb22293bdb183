//! What the gateway adds: reading a customer by REST, against the same by gRPC straight to the service.
use std::time::Duration;

use rapport_proto::customer::v1::{CreateCustomerRequest, Customer, GetCustomerRequest};
use rapport_test_kit::World;
use reqwest::Method;

use crate::{
    figure::{Aim, Figure, median},
    load::callers,
};

const CLIENTS: u64 = 16;
const TURN: Duration = Duration::from_secs(4);
const TURNS: usize = 5;

pub(crate) async fn measure() -> Vec<Figure> {
    let world = World::new().await;
    let tenant = world.tenant("bench").await;
    let mut customers = tenant.customers_at(&world.grpc_url());
    let customer = Customer {
        display_name: "Harbour Supplies".into(),
        industry: "logistics".into(),
        ..Customer::default()
    };
    let request = CreateCustomerRequest { customer: Some(customer), ..CreateCustomerRequest::default() };
    let id = customers.create_customer(request).await.unwrap().into_inner().id;

    let grpc = {
        let id = id.clone();
        move |_| {
            let (mut customers, id) = (customers.clone(), id.clone());
            async move { drop(customers.get_customer(GetCustomerRequest { id }).await.unwrap()) }
        }
    };
    let caller = (*tenant).clone();
    let rest = move |_| {
        let request = caller.request(Method::GET, &format!("/v1/customers/{id}"));
        async move {
            let answer = request.send().await.unwrap();
            assert!(answer.status().is_success(), "{answer:?}");
            drop(answer.bytes().await.unwrap());
        }
    };
    let (mut by_rest, mut by_grpc) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        by_grpc.push(callers(CLIENTS, TURN, grpc.clone()).await.per_second);
        by_rest.push(callers(CLIENTS, TURN, rest.clone()).await.per_second);
    }
    vec![Figure::ratio(
        "get by REST, 16 clients, against gRPC straight to the service",
        "/s",
        median(by_rest),
        median(by_grpc),
        Aim::AtLeast(0.6),
    )]
}
