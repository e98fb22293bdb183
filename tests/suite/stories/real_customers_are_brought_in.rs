//! The 7,043 customers of a telephone company, from their file to lists: fields, upload, dry run, start, and what one does
//! with them afterwards.
use rapport_test_kit::{Tenant, World, json, telco};
use reqwest::Method;
use serde_json::json;

async fn count(tenant: &Tenant, filter: &str) -> usize {
    let (mut token, mut seen) = (String::new(), std::collections::BTreeSet::new());
    loop {
        let request = tenant.request(Method::GET, "/v1/customers").query(&[
            ("filter", filter),
            ("orderBy", "attributes.monthlyCharges desc"),
            ("pageSize", "200"),
            ("pageToken", token.as_str()),
        ]);
        let page = json(request.send().await.unwrap()).await;
        for customer in page["customers"].as_array().unwrap() {
            assert!(
                seen.insert(customer["id"].as_str().unwrap().to_owned()),
                "a customer stands on two pages"
            );
        }
        token = page["nextPageToken"].as_str().unwrap_or_default().to_owned();
        if token.is_empty() {
            return seen.len();
        }
    }
}

#[tokio::test]
async fn real_customers_are_brought_in() {
    let world = World::new().await;
    let company = world.tenant("telco").await;
    telco::define_fields(&company).await;

    let (import, uploaded) = telco::upload(&company, "telco", telco::FILE).await;
    assert_eq!(uploaded["state"], "IMPORT_STATE_READY");
    let mappings = uploaded["mappings"].as_array().unwrap();
    assert_eq!(
        mappings.iter().filter(|m| m["target"].as_str().unwrap().starts_with("attributes.")).count(),
        20
    );
    telco::map(&company, &import, &uploaded).await;

    let checked = telco::work(&company, &import, "dryRun").await;
    assert_eq!(checked["state"], "IMPORT_STATE_CHECKED", "{checked}");
    assert_eq!(checked["progress"]["created"], "7043", "{checked}");
    assert_eq!(
        company.read("/v1/customers").await["customers"].as_array().unwrap().len(),
        0,
        "a dry run wrote"
    );

    let done = telco::work(&company, &import, "start").await;
    assert_eq!(done["state"], "IMPORT_STATE_DONE", "{done}");
    assert_eq!(done["progress"]["created"], "7043");
    assert_eq!(done["progress"]["rejected"].as_str().unwrap_or("0"), "0");

    assert_eq!(count(&company, "").await, 7043);
    // Known of the data set: 1,869 left, 11 have no total yet, 3,875 pay by the month.
    assert_eq!(count(&company, "attributes.churn").await, 1869);
    assert_eq!(count(&company, "!has(attributes.totalCharges)").await, 11);
    assert_eq!(count(&company, "attributes.contract == \"Month-to-month\"").await, 3875);

    // The same file again changes nothing.
    let (again, uploaded) = telco::upload(&company, "telco", telco::FILE).await;
    telco::map(&company, &again, &uploaded).await;
    let done = telco::work(&company, &again, "start").await;
    let issues = company.read(&format!("/v1/customer/imports/{again}/issues?pageSize=3")).await;
    assert_eq!(done["progress"]["unchanged"], "7043", "{issues}");

    // Undone, they are gone.
    let undone = telco::work(&company, &import, "undo").await;
    assert_eq!(undone["progress"]["undone"], "7043", "{undone}");
    assert_eq!(count(&company, "").await, 0);
}

#[tokio::test]
async fn refused_rows_are_listed_and_can_be_mended() {
    let world = World::new().await;
    let company = world.tenant("telco").await;
    let file = "name,headcount,founding_date\n甲公司,12,2004-09-28\n乙公司,many,2004-02-30\n,5,\n丁公司,7,\n";
    let (import, _) = telco::upload(&company, "list", file).await;
    let done = telco::work(&company, &import, "start").await;
    assert_eq!(
        (done["progress"]["created"].as_str(), done["progress"]["rejected"].as_str()),
        (Some("2"), Some("2"))
    );

    let issues = company.read(&format!("/v1/customer/imports/{import}/issues")).await;
    let lines: Vec<_> = issues["issues"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| (i["line"].clone(), i["column"].clone()))
        .collect();
    assert!(lines.contains(&(json!("3"), json!("headcount"))), "{issues}");
    assert!(lines.contains(&(json!("4"), json!("name"))), "{issues}");

    let csv = company.get(&format!("/v1/customer/imports/{import}/issues.csv")).await.text().await.unwrap();
    assert!(csv.starts_with("rapport_problem,name,headcount,founding_date"), "{csv}");
    let mended = csv.replace("many", "40").replace("2004-02-30", "2004-02-29").replace(",,5,", ",丙公司,5,");
    let (second, _) = telco::upload(&company, "list", mended).await;
    let done = telco::work(&company, &second, "start").await;
    assert_eq!(done["progress"]["created"], "2", "{done}");
}
