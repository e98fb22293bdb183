use rapport_proto::{customer::v1 as pb, r#type::v1 as types};
use rapport_test_kit::{Caller, World};

use super::named;

async fn find(caller: &Caller, query: &str) -> Vec<String> {
    let request = pb::SearchCustomersRequest { query: query.into(), page_size: 0 };
    let found = caller.customers().search_customers(request).await.unwrap().into_inner().customers;
    found.into_iter().map(|customer| customer.display_name).collect()
}

#[tokio::test]
async fn customers_are_found_by_parts_of_what_is_known_of_them() {
    let world = World::new().await;
    let tea = world.tenant("tea").await;
    named(&tea, "杭州西湖茶业有限公司").await;
    named(&tea, "West Lake Hotels").await;
    let customer = pb::Customer {
        display_name: "欧阳建国".into(),
        phones: vec![types::Phone { number: "138 1000 0137".into(), ..types::Phone::default() }],
        emails: vec![types::EmailAddress {
            address: "Ouyang@Example.com".into(),
            ..types::EmailAddress::default()
        }],
        ..pb::Customer::default()
    };
    let request = pb::CreateCustomerRequest { customer: Some(customer), request_id: String::new() };
    tea.customers().create_customer(request).await.unwrap();

    assert_eq!(find(&tea, "西湖").await, ["杭州西湖茶业有限公司"]);
    assert_eq!(find(&tea, "lak").await, ["West Lake Hotels"]);
    assert_eq!(find(&tea, "ＬＡＫＥ").await, ["West Lake Hotels"]);
    assert_eq!(find(&tea, "欧阳").await, ["欧阳建国"]);
    assert_eq!(find(&tea, "10000137").await, ["欧阳建国"]);
    assert_eq!(find(&tea, "ouyang@ex").await, ["欧阳建国"]);
    assert!(find(&tea, "100%").await.is_empty());

    let short = pb::SearchCustomersRequest { query: "ab".into(), page_size: 0 };
    assert!(
        tea.customers()
            .search_customers(short)
            .await
            .unwrap_err()
            .message()
            .contains("at least three letters")
    );
    // A seller finds only what is in sight.
    assert!(find(&tea.person("sales").await, "西湖").await.is_empty());
}
