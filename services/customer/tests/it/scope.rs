use rapport_proto::{
    customer::v1 as pb,
    r#type::v1::{Share, ShareLevel},
};
use rapport_test_kit::{Caller, World};
use tonic::{Code, Status};

use super::named;

async fn get(caller: &Caller, id: &str) -> Result<pb::Customer, Status> {
    Ok(caller.customers().get_customer(pb::GetCustomerRequest { id: id.into() }).await?.into_inner())
}

async fn rename(caller: &Caller, id: &str) -> Result<pb::Customer, Status> {
    let customer = pb::Customer { id: id.into(), display_name: "renamed".into(), ..pb::Customer::default() };
    let request =
        pb::UpdateCustomerRequest { customer: Some(customer), ..pb::UpdateCustomerRequest::default() };
    Ok(caller.customers().update_customer(request).await?.into_inner())
}

async fn share(caller: &Caller, id: &str, with: &Caller, level: ShareLevel) {
    let share = Share { principal: with.name(), level: level.into() };
    let request = pb::ShareCustomerRequest { id: id.into(), share: Some(share), request_id: String::new() };
    caller.customers().share_customer(request).await.unwrap();
}

async fn seen(caller: &Caller) -> Vec<String> {
    let page =
        caller.customers().list_customers(pb::ListCustomersRequest::default()).await.unwrap().into_inner();
    page.customers.into_iter().map(|customer| customer.display_name).collect()
}

#[tokio::test]
async fn a_seller_sees_own_and_shared_customers_only() {
    let world = World::new().await;
    let tea = world.tenant("tea").await;
    let (seller, other) = (tea.person("sales").await, tea.person("sales").await);
    let (mine, theirs) = (named(&seller, "mine").await, named(&other, "theirs").await);
    assert_eq!(seen(&seller).await, ["mine"]);
    assert_eq!(get(&seller, &theirs.id).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(rename(&seller, &theirs.id).await.unwrap_err().code(), Code::NotFound);

    share(&tea, &theirs.id, &seller, ShareLevel::Read).await;
    assert_eq!(seen(&seller).await, ["theirs", "mine"]);
    assert_eq!(get(&seller, &theirs.id).await.unwrap().display_name, "theirs");
    assert_eq!(rename(&seller, &theirs.id).await.unwrap_err().code(), Code::PermissionDenied);

    share(&tea, &theirs.id, &seller, ShareLevel::Write).await;
    assert_eq!(rename(&seller, &theirs.id).await.unwrap().display_name, "renamed");
    let take_back = pb::UnshareCustomerRequest {
        id: theirs.id.clone(),
        principal: seller.name(),
        request_id: String::new(),
    };
    tea.customers().unshare_customer(take_back).await.unwrap();
    assert_eq!(get(&seller, &theirs.id).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(get(&seller, &mine.id).await.unwrap().owner, seller.name());
}

#[tokio::test]
async fn assigning_moves_all_or_none() {
    let world = World::new().await;
    let tea = world.tenant("tea").await;
    let seller = tea.person("sales").await;
    let (one, two) = (named(&tea, "one").await, named(&tea, "two").await);
    let assign = |ids: Vec<String>| pb::AssignCustomersRequest {
        ids,
        owner: seller.name(),
        ..pb::AssignCustomersRequest::default()
    };
    let unknown = "0190a3c4-0000-7000-8000-000000000000".to_owned();
    let refused = tea.customers().assign_customers(assign(vec![one.id.clone(), unknown])).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert!(seen(&seller).await.is_empty());
    let moved = tea.customers().assign_customers(assign(vec![one.id, two.id])).await.unwrap().into_inner();
    assert!(moved.customers.iter().all(|customer| customer.owner == seller.name()));
    assert_eq!(seen(&seller).await.len(), 2);
    // Giving away is a right of its own, which sellers do not have.
    let id = moved.customers[0].id.clone();
    let away = pb::AssignCustomersRequest { ids: vec![id], owner: tea.name(), ..Default::default() };
    assert_eq!(seller.customers().assign_customers(away).await.unwrap_err().code(), Code::PermissionDenied);
}
