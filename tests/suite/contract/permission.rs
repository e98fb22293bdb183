//! Who may call a method is enforced for every method.
use rapport_proto::{Access, Rule, methods};
use rapport_test_kit::{Ids, World, call, host, sample};
use reqwest::Method as Verb;
use tonic::Code;

use super::{callable, events::face, resource::about};

/// Ids of nothing.
fn no_ids() -> Ids {
    Ids::none("sample").of_nothing()
}

#[tokio::test]
async fn a_person_without_roles_is_refused_by_every_method_that_needs_a_permission() {
    let world = World::new().await;
    let tea = world.tenant("tea").await;
    let nobody = tea.person_with(&[]).await;
    for method in callable().filter(|m| matches!(m.rule, Some(Rule::Permission(_)))) {
        let request = sample(&method.input(), &about(method), &no_ids());
        let refused = call(nobody.direct(host(method)), method, request).await.unwrap_err();
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
        let refused = call(tea.direct(host(method)), method, request).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{}: {refused:?}", method.path);
    }
}

#[tokio::test]
async fn without_signing_in_every_rest_path_answers_the_same_401() {
    let world = World::new().await;
    let http = reqwest::Client::new();
    let open = [Some(Rule::Access(Access::Public)), Some(Rule::Access(Access::Internal))];
    for method in methods().filter(|method| !open.contains(&method.rule)) {
        let (verb, path) = face(method);
        let path: Vec<_> = path
            .split('/')
            .map(|part| match (part.find('{'), part.find('}')) {
                (Some(_), Some(end)) => format!("0190a3c4-0000-7000-8000-000000000000{}", &part[end + 1..]),
                _ => part.to_owned(),
            })
            .collect();
        let verb = Verb::from_bytes(verb.as_bytes()).unwrap();
        let asked = http.request(verb, format!("{}{}", world.url(), path.join("/")));
        let answer = asked.header("content-type", "application/json").body("{}").send().await.unwrap();
        assert_eq!(answer.status(), 401, "{}", method.path);
        let problem: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(problem["detail"], "not signed in", "{}", method.path);
    }
}
