//! A write with a request id that comes again gets the first answer and does nothing; with another body it is refused.
use prost_reflect::{DynamicMessage, ReflectMessage as _, Value};
use rapport_proto::{Method, methods};
use tonic::Code;

use super::{
    evidence::{Evidence, differing},
    exactly, name, none,
    resource::{Resource, about},
    stage::Stage,
    unless_refused,
};

/// Writes without a request id, and why a repetition does no harm.
const WITHOUT: &[(&str, &str)] = &[
    ("AcceptInvitation", "the invitation is gone after the first"),
    ("CancelImport", "an import that was stopped is not stopped again"),
    ("ChangePassword", "the password so far is another one after the first"),
    ("DryRunImport", "an import that is being checked is not checked again"),
    ("ExchangeCredential", "makes a token and changes nothing"),
    ("RecordAccess", "an observation that is told twice is better than one that is lost"),
    ("RevokeSession", "a session that has ended is not found"),
    ("SignIn", "each sign-in is a session of its own"),
    ("SignOut", "a session that has ended stays so"),
    ("StartImport", "an import that runs is not started again"),
    ("UndoImport", "an import that is being undone is not undone again"),
    ("UploadImportFile", "the file takes the place of the one that is there"),
];

fn takes_request_id(method: &Method) -> bool {
    method.input().get_field_by_name("request_id").is_some()
}

fn with_request_id(mut request: DynamicMessage, id: &str) -> DynamicMessage {
    request.set_field_by_name("request_id", Value::String(id.to_owned()));
    request
}

/// The same request saying something else: of other records, in other words.
fn otherwise(stage: &Stage, method: &'static Method, request: &DynamicMessage) -> DynamicMessage {
    let mut other = match Resource::of(method) {
        Some(resource) if resource.create.path == method.path => stage.to_create(&resource, &stage.word()),
        _ => {
            let ids = stage.others.of_nothing().saying(&stage.word());
            rapport_test_kit::sample(&request.descriptor(), &about(method), &ids)
        }
    };
    other.clear_field_by_name("request_id");
    other
}

#[test]
fn every_write_takes_a_request_id_or_says_why_not() {
    let without: Vec<_> =
        methods().filter(|method| method.writes() && !takes_request_id(method)).map(name).collect();
    exactly("writes without a request id", &without, WITHOUT);
}

#[tokio::test]
async fn a_repeated_write_gets_the_first_answer_and_another_body_is_refused() {
    let stage = Stage::new().await;
    let mut evidence = Evidence::of(&stage.world).await;
    let mut findings = Vec::new();
    for method in methods().filter(|method| takes_request_id(method)) {
        let path = &method.path;
        let mut prepared = stage.prepare(method).await.unwrap();
        let first = prepared.request.clone();
        prepared.request = with_request_id(first.clone(), "once");
        let answer = match stage.run(&prepared).await {
            Ok(answer) => answer,
            Err(status) => {
                findings.push(format!("{path} refuses a request id: {status:?}"));
                continue;
            }
        };
        let before = evidence.digests().await;
        match stage.run(&prepared).await {
            Ok(again) if again == answer => {}
            again => findings.push(format!("{path} answers {again:?} when repeated, not {answer:?}")),
        }
        let other = otherwise(&stage, method, &first);
        assert_ne!(first, other, "{path} has no other body");
        prepared.request = with_request_id(other, "once");
        let refused = stage.run(&prepared).await;
        findings.extend(unless_refused(
            method,
            "another body under the same request id",
            &refused,
            Code::FailedPrecondition,
            &["request id"],
        ));
        let left = differing(&before, &evidence.digests().await);
        if !left.is_empty() {
            findings.push(format!("{path} when repeated changes {left:?}"));
        }
        // The same again without that id is a write of its own.
        prepared.request = with_request_id(first, "");
        if stage.run(&prepared).await.is_ok_and(|again| again == answer)
            && differing(&before, &evidence.digests().await).is_empty()
            && super::resource::Resource::of(method).is_some_and(|r| r.create.path == *path)
        {
            findings.push(format!("{path} repeats an answer that nobody asked for"));
        }
    }
    none(&findings);
}
