//! Standard methods: what is created is read back, an update changes what its mask names and nothing else, what was deleted
//! is gone, and comes back.
use prost_reflect::{DynamicMessage, ReflectMessage as _, Value};
use rapport_proto::Method;
use rapport_test_kit::sample;
use tonic::Code;

use super::{
    evidence::Evidence,
    none,
    resource::{Resource, record_in, resources},
    stage::Stage,
    unless_refused,
};

/// Fields that say which state of a record it is, not what it is.
const BOOKKEEPING: [&str; 3] = ["etag", "update_time", "generation"];

/// Where an answer does not say what was sent; what the service adds is its own.
fn differences(path: &str, sent: &Value, got: &Value) -> Vec<String> {
    match (sent, got) {
        (Value::Message(sent), Value::Message(got)) => {
            let inside = |(field, value): (prost_reflect::FieldDescriptor, &Value)| {
                differences(&format!("{path}.{}", field.name()), value, &got.get_field(&field))
            };
            sent.fields().flat_map(inside).collect()
        }
        (Value::List(sent), Value::List(got)) if sent.len() == got.len() => {
            sent.iter().zip(got).flat_map(|(sent, got)| differences(path, sent, got)).collect()
        }
        _ if sent == got => Vec::new(),
        _ => vec![format!("{path} was sent as {sent:?} and came back as {got:?}")],
    }
}

/// The fields of a record that differ between two states.
pub(super) fn changed(before: &DynamicMessage, after: &DynamicMessage) -> Vec<String> {
    before
        .descriptor()
        .fields()
        .filter(|field| !BOOKKEEPING.contains(&field.name()))
        .filter(|field| {
            before.has_field(field) != after.has_field(field)
                || before.get_field(field) != after.get_field(field)
        })
        .map(|field| field.name().to_owned())
        .collect()
}

/// A field of a record as text.
pub(super) fn text(record: &DynamicMessage, field: &str) -> String {
    record
        .get_field_by_name(field)
        .and_then(|value| value.as_str().map(ToOwned::to_owned))
        .unwrap_or_default()
}

/// A request of `method` with the record's id, and its etag.
pub(super) fn by_id(method: &Method, id: &str, etag: &str) -> DynamicMessage {
    let mut request = DynamicMessage::new(method.input());
    request.set_field_by_name("id", Value::String(id.to_owned()));
    request.set_field_by_name("etag", Value::String(etag.to_owned()));
    request
}

/// A request that changes the fields `paths` of a record to those of `values`.
pub(super) fn to_update(
    method: &Method,
    resource: &Resource,
    values: &DynamicMessage,
    paths: &[&str],
) -> DynamicMessage {
    let mut request = DynamicMessage::new(method.input());
    request.set_field(&resource.body(method), Value::Message(values.clone()));
    let mask = request.get_field_by_name_mut("update_mask").and_then(Value::as_message_mut).unwrap();
    mask.set_field_by_name(
        "paths",
        Value::List(paths.iter().map(|p| Value::String((*p).to_owned())).collect()),
    );
    request
}

#[tokio::test]
async fn what_is_created_is_read_back() {
    let stage = Stage::new().await;
    let mut findings = Vec::new();
    for resource in resources() {
        let (id, sent) = stage.make(&resource).await;
        let got = stage.read(&resource, &id).await.unwrap();
        let got = record_in(&got, &resource.message).unwrap();
        assert!(sent.fields().count() > 0, "{} has an empty sample", resource.kind);
        findings.extend(differences(&resource.kind, &Value::Message(sent), &Value::Message(got.clone())));
        if text(&got, "etag").is_empty() {
            findings.push(format!("{} has no etag", resource.kind));
        }
    }
    none(&findings);
}

#[tokio::test]
async fn an_update_changes_what_its_mask_names_and_nothing_else() {
    let stage = Stage::new().await;
    let mut evidence = Evidence::of(&stage.world).await;
    let mut findings = Vec::new();
    for resource in resources() {
        let Some(update) = resource.update else { continue };
        let (id, created) = stage.make(&resource).await;
        let mut values = resource.sample(&stage.others.saying(&stage.word()));
        values.set_field_by_name("id", Value::String(id.clone()));
        let fields: Vec<_> = resource
            .changeable()
            .into_iter()
            .filter(|f| values.has_field(f) || created.has_field(f))
            .collect();
        assert!(!fields.is_empty(), "{}: the sample sets no field that can be changed", resource.kind);
        for field in fields {
            let path = field.name();
            let before = record_in(&stage.read(&resource, &id).await.unwrap(), &resource.message).unwrap();
            let mark = evidence.mark().await;
            let answer = stage.call(update, to_update(update, &resource, &values, &[path])).await;
            let Ok(answer) = answer else {
                findings.push(format!("{} of `{path}`: {answer:?}", update.path));
                continue;
            };
            let after = record_in(&stage.read(&resource, &id).await.unwrap(), &resource.message).unwrap();
            if record_in(&answer, &resource.message).as_ref() != Some(&after) {
                findings
                    .push(format!("{} of `{path}` answers other than what is read afterwards", update.path));
            }
            if changed(&before, &after) != [path] {
                findings.push(format!("{} of `{path}` changed {:?}", update.path, changed(&before, &after)));
            }
            findings.extend(differences(path, &values.get_field(&field), &after.get_field(&field)));
            if text(&before, "etag") == text(&after, "etag") {
                findings.push(format!("{} of `{path}` leaves the etag", update.path));
            }
            let told: Vec<_> =
                evidence.since(&mark).await.into_iter().map(|event| event.changed_paths).collect();
            let silent = super::events::is_silent(update);
            if !silent && told != [vec![path.to_owned()]] {
                findings.push(format!("{} of `{path}` tells that {told:?} changed", update.path));
            }
        }
    }
    none(&findings);
}

#[tokio::test]
async fn what_was_deleted_is_gone_and_what_was_undeleted_is_as_before() {
    let stage = Stage::new().await;
    let mut findings = Vec::new();
    for resource in resources() {
        let Some(delete) = resource.delete else { continue };
        let (id, _) = stage.make(&resource).await;
        let read = async || {
            stage.read(&resource, &id).await.map(|answer| record_in(&answer, &resource.message).unwrap())
        };
        let listed = async || {
            let list = DynamicMessage::new(resource.list.input());
            format!("{:?}", stage.call(resource.list, list).await.unwrap()).contains(&id)
        };
        let before = read().await.unwrap();
        if !listed().await {
            findings.push(format!("{} does not list a new record", resource.list.path));
        }
        stage.call(delete, by_id(delete, &id, &text(&before, "etag"))).await.unwrap();
        if listed().await {
            findings.push(format!("{} lists what was deleted", resource.list.path));
        }
        let again = stage.call(delete, by_id(delete, &id, "")).await;
        match (&again, read().await) {
            (Err(again), Err(gone)) if (again.code(), gone.code()) == (Code::NotFound, Code::NotFound) => {}
            // What can be read after its deletion says that it was deleted.
            (_, Ok(left))
                if changed(&before, &left).iter().any(|f| ["delete_time", "state"].contains(&&**f)) => {}
            (again, left) => findings.push(format!("{} leaves {left:?}, and again: {again:?}", delete.path)),
        }
        let Some(undelete) = resource.undelete else { continue };
        stage.call(undelete, by_id(undelete, &id, "")).await.unwrap();
        let after = read().await.unwrap();
        if !changed(&before, &after).is_empty() || !listed().await {
            findings.push(format!("{} brings back {after:?}, not {before:?}", undelete.path));
        }
        let again = stage.call(undelete, by_id(undelete, &id, "")).await;
        findings.extend(unless_refused(
            undelete,
            "what is not deleted",
            &again,
            Code::FailedPrecondition,
            &[],
        ));
    }
    none(&findings);
}

#[test]
fn what_was_not_kept_is_found() {
    let resource = resources().into_iter().find(|resource| resource.kind == "customer.customer").unwrap();
    let ids = rapport_test_kit::Ids::none("one");
    let sent = sample(&resource.message, &resource.kind, &ids);
    let mut kept = sent.clone();
    kept.set_field_by_name("etag", Value::String("1".into()));
    let compare =
        |got: &DynamicMessage| differences("c", &Value::Message(sent.clone()), &Value::Message(got.clone()));
    assert_eq!(compare(&kept), Vec::<String>::new());
    kept.clear_field_by_name("headcount");
    assert_eq!(compare(&kept).len(), 1);
    assert_eq!(changed(&sent, &kept), ["headcount"]);
}
