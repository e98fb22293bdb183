//! Customers through the whole suite: the gateway's REST face and gRPC, on a real database.
#[cfg(test)]
mod batch;
#[cfg(test)]
mod database;
#[cfg(test)]
mod erase;
#[cfg(test)]
mod events;
#[cfg(test)]
mod fields;
#[cfg(test)]
mod imports;
#[cfg(test)]
mod repeated;
#[cfg(test)]
mod scope;
#[cfg(test)]
mod search;
#[cfg(test)]
mod upsert;

#[cfg(test)]
use rapport_proto::customer::v1::{CreateCustomerRequest, Customer};
#[cfg(test)]
use rapport_test_kit::Caller;

/// Creates a customer with this name.
#[cfg(test)]
async fn named(caller: &Caller, name: &str) -> Customer {
    let customer = Customer { display_name: name.into(), ..Customer::default() };
    let request = CreateCustomerRequest { customer: Some(customer), request_id: String::new() };
    caller.customers().create_customer(request).await.unwrap().into_inner()
}
