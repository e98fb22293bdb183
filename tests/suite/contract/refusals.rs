//! What every method refuses, in which words, and that a refused call leaves nothing behind.
use prost_reflect::{DynamicMessage, Value};
use rapport_proto::{Method, methods};
use tonic::{Code, Status};

use super::{
    evidence::Evidence,
    none,
    prepare::Prepared,
    resource::{Resource, about, body, record_in},
    stage::Stage,
    standard::text,
    unless_refused,
};

/// The part of a request that has the etag, where the method takes one: the request itself, or the record inside.
fn etag_holder<'m>(method: &Method, request: &'m mut DynamicMessage) -> Option<&'m mut DynamicMessage> {
    if method.input().get_field_by_name("etag").is_some() {
        return Some(request);
    }
    method.input().get_field_by_name("update_mask")?;
    let record = body(&method.input(), &Resource::of(method)?.message)?;
    request.get_field_mut(&record).as_message_mut()
}

fn with_etag(prepared: &mut Prepared, etag: &str) {
    let holder = etag_holder(prepared.method, &mut prepared.request).unwrap();
    holder.set_field_by_name("etag", Value::String(etag.to_owned()));
}

/// Makes a call that is to be refused, and looks for what it left behind since the last look.
async fn refused(
    stage: &Stage,
    evidence: &mut Evidence,
    prepared: &Prepared,
    findings: &mut Vec<String>,
) -> Result<DynamicMessage, Status> {
    let answer = stage.run(prepared).await;
    let left = evidence.look().await;
    if answer.is_err() && !left.is_empty() {
        findings.push(format!("{} leaves something in {left:?} with {answer:?}", prepared.method.path));
    }
    answer
}

#[tokio::test]
async fn stale_etags_are_refused_and_current_ones_taken() {
    let stage = Stage::new().await;
    let mut evidence = Evidence::of(&stage.world).await;
    let mut findings = Vec::new();
    let takes_etag =
        |method: &&Method| etag_holder(method, &mut DynamicMessage::new(method.input())).is_some();
    let methods: Vec<_> = methods().filter(takes_etag).collect();
    assert!(methods.len() > 15, "only these take etags: {methods:?}");
    for method in methods {
        let mut prepared = stage.prepare(method).await.unwrap();
        let (resource, id) = (Resource::of(method).unwrap(), prepared.id.clone().unwrap());
        let current = record_in(&stage.read(&resource, &id).await.unwrap(), &resource.message).unwrap();
        evidence.look().await;
        for (etag, what, code, words) in [
            ("999999", "a stale etag", Code::Aborted, ["changed by someone else"]),
            ("no etag", "an etag that is none", Code::InvalidArgument, ["etag"]),
        ] {
            with_etag(&mut prepared, etag);
            let answer = refused(&stage, &mut evidence, &prepared, &mut findings).await;
            findings.extend(unless_refused(method, what, &answer, code, &words));
        }
        with_etag(&mut prepared, &text(&current, "etag"));
        if let Err(status) = stage.run(&prepared).await {
            findings.push(format!("{} refuses the current etag: {status:?}", method.path));
        }
    }
    none(&findings);
}

#[tokio::test]
async fn an_unknown_path_of_a_mask_is_refused_and_named_with_near_ones() {
    let stage = Stage::new().await;
    let mut evidence = Evidence::of(&stage.world).await;
    let (mut findings, mut checked) = (Vec::new(), 0);
    for method in methods().filter(|method| method.input().get_field_by_name("update_mask").is_some()) {
        let resource = Resource::of(method).unwrap();
        let known = resource.changeable();
        let known = known.iter().map(|field| field.name()).max_by_key(|name| name.len()).unwrap();
        let slip = &known[..known.len() - 1];
        // An upsert is asked both for what is there and for what is not.
        let mut requests = vec![stage.prepare(method).await.unwrap()];
        if method.input().get_field_by_name("external_id").is_some() {
            let mut new = stage.prepare(method).await.unwrap();
            new.request.set_field_by_name("external_id", Value::String(stage.word()));
            requests.push(new);
        }
        for mut prepared in requests {
            let mask = prepared.request.get_field_by_name_mut("update_mask").and_then(Value::as_message_mut);
            mask.unwrap().set_field_by_name("paths", Value::List(vec![Value::String(slip.to_owned())]));
            evidence.look().await;
            let answer = refused(&stage, &mut evidence, &prepared, &mut findings).await;
            let (unknown, near) = (format!("`{slip}`"), format!("`{known}`"));
            findings.extend(unless_refused(
                method,
                &format!("the mask {unknown}"),
                &answer,
                Code::InvalidArgument,
                &["update_mask", &unknown, &near],
            ));
            checked += 1;
        }
    }
    none(&findings);
    assert!(checked > 6, "only {checked} methods take masks");
}

/// A request that breaks a rule of the contract: a text that is longer than any may be, where there is one.
fn too_long(method: &Method, request: &mut DynamicMessage) -> bool {
    let long = || Value::String("x".repeat(70_000));
    let texts: Vec<_> = method
        .input()
        .fields()
        .filter(|f| matches!(f.kind(), prost_reflect::Kind::String) && !f.is_list() && !f.is_map())
        .collect();
    match texts.first() {
        Some(field) => request.set_field(field, long()),
        None => return false,
    }
    true
}

#[tokio::test]
async fn refused_calls_leave_nothing() {
    let stage = Stage::new().await;
    let mut evidence = Evidence::of(&stage.world).await;
    let (mut findings, mut checked) = (Vec::new(), 0);
    let nobody = stage.tenant.person_with(&[]).await;
    for method in methods() {
        let mut prepared = stage.prepare(method).await.unwrap();
        if let (Some(resource), Some(id)) = (Resource::of(method), &prepared.id) {
            stage.settle(&resource, id).await;
        }
        evidence.look().await;
        let sound = prepared.request.clone();
        // Something that does not exist.
        let nothing = stage.others.saying(&stage.word()).of_nothing();
        prepared.request = rapport_test_kit::sample(&method.input(), &about(method), &nothing);
        if prepared.id.is_some() && format!("{:?}", prepared.request).contains(&nothing.of[&about(method)]) {
            let answer = refused(&stage, &mut evidence, &prepared, &mut findings).await;
            checked += usize::from(answer.is_err());
        }
        // Something that no rule allows.
        prepared.request = sound.clone();
        if too_long(method, &mut prepared.request) {
            let answer = refused(&stage, &mut evidence, &prepared, &mut findings).await;
            findings.extend(unless_refused(method, "too long a text", &answer, Code::InvalidArgument, &[]));
            checked += 1;
        }
        // Somebody who may not.
        if matches!(method.rule, Some(rapport_proto::Rule::Permission(_))) {
            (prepared.request, prepared.caller) = (sound, Some(nobody.clone()));
            let answer = refused(&stage, &mut evidence, &prepared, &mut findings).await;
            findings.extend(unless_refused(
                method,
                "no right",
                &answer,
                Code::PermissionDenied,
                &["permission"],
            ));
            checked += 1;
        }
    }
    none(&findings);
    assert!(checked > 80, "only {checked} calls were refused");
}
