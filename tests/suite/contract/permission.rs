//! Who may call a method is enforced for every method.
use rapport_proto::{Access, Rule, methods};
use rapport_test_kit::{Ids, World, call, sample};
use std::collections::HashMap;
use tonic::Code;

use super::{about, callable};

fn no_ids() -> Ids {
    Ids {
        of: HashMap::new(),
        other: rapport_kernel::Clock::system().new_uuid().to_string(),
        word: "sample".into(),
    }
}

#[tokio::test]
async fn a_person_without_roles_is_refused_by_every_method_that_needs_a_permission() {
    let world = World::new().await;
    let tea = world.tenant("tea").await;
    let nobody = tea.person_with(&[]).await;
    for method in callable().filter(|m| matches!(m.rule, Some(Rule::Permission(_)))) {
        let request = sample(&method.input(), &about(method), &no_ids());
        let refused = call(nobody.direct(method.service()), method, request).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{}: {refused:?}", method.path);
    }
}

#[tokio::test]
async fn what_is_not_for_tenants_is_refused_to_their_administrators() {
    let world = World::new().await;
    let tea = world.tenant("tea").await;
    let closed =
        methods().filter(|m| matches!(m.rule, Some(Rule::Access(Access::Internal | Access::Operator))));
    for method in closed {
        let request = sample(&method.input(), &about(method), &no_ids());
        let refused = call(tea.direct(method.service()), method, request).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{}: {refused:?}", method.path);
    }
}

#[tokio::test]
async fn without_signing_in_every_rest_path_answers_the_same_401() {
    let world = World::new().await;
    let http = reqwest::Client::new();
    for path in ["/v1/customers", "/v1/customers/0190a3c4-0000-7000-8000-000000000000", "/v1/users", "/v1/me"]
    {
        let answer = http.get(format!("{}{path}", world.url())).send().await.unwrap();
        assert_eq!(answer.status(), 401, "{path}");
        let problem: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(problem["detail"], "not signed in", "{path}");
    }
}
