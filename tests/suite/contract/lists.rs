//! Lists: each order in both directions, page by page, meets every record once; what a list does not know it says, with
//! what may have been meant.
use std::cmp::Ordering;

use prost_reflect::{DynamicMessage, Kind, ReflectMessage as _, Value};
use rapport_proto::{Method, methods};
use tonic::{Code, Status};

use super::{
    none,
    prepare::Prepared,
    resource::{Resource, resources},
    stage::Stage,
    unless_refused,
};

/// Records made of each kind: enough for several pages, and so many that some say the same.
const RECORDS: usize = 5;
const PAGE: i32 = 2;

fn with(request: &DynamicMessage, name: &str, value: Value) -> DynamicMessage {
    let mut request = request.clone();
    request.set_field_by_name(name, value);
    request
}

fn ordered(request: &DynamicMessage, order: &str) -> DynamicMessage {
    with(request, "order_by", Value::String(order.to_owned()))
}

/// The items of a page, and how to go on.
fn items(answer: &DynamicMessage) -> (Vec<Value>, String) {
    let next = answer.get_field_by_name("next_page_token").unwrap().as_str().unwrap().to_owned();
    let list = answer.descriptor().fields().find(|field| field.is_list()).unwrap();
    (answer.get_field(&list).as_list().unwrap().to_vec(), next)
}

/// Everything that a list has, in pages of `size`; `None` where it does not end.
async fn walk(
    stage: &Stage,
    list: &Prepared,
    request: &DynamicMessage,
    size: i32,
) -> Result<Vec<Value>, Status> {
    let mut all = Vec::new();
    let mut request = with(request, "page_size", Value::I32(size));
    for _ in 0..200 {
        let prepared = Prepared { request: request.clone(), caller: list.caller.clone(), id: None, ..*list };
        let (mut page, next) = items(&stage.run(&prepared).await?);
        if page.len() > usize::try_from(size).unwrap() {
            return Err(Status::internal(format!("a page of {size} has {} items", page.len())));
        }
        all.append(&mut page);
        if next.is_empty() {
            return Ok(all);
        }
        request = with(&request, "page_token", Value::String(next));
    }
    Err(Status::internal("the list does not end"))
}

/// How two values that lists are sorted by compare; `None` where only the database knows.
fn compare(kind: &Kind, left: &Value, right: &Value) -> Option<Ordering> {
    match (kind, left, right) {
        (Kind::String, Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Kind::Bool, Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        (Kind::Message(_), Value::Message(left), Value::Message(right)) => {
            let part = |time: &DynamicMessage, name| match time.get_field_by_name(name)?.into_owned() {
                Value::I64(n) => Some(n),
                Value::I32(n) => Some(n.into()),
                _ => None,
            };
            let at = |time| Some((part(time, "seconds")?, part(time, "nanos")?));
            Some(at(left)?.cmp(&at(right)?))
        }
        _ => None,
    }
}

/// What is wrong with what a list has in an order: `all` is what it has at all.
fn disorder(order: &str, all: &[Value], got: &[Value], is_descending: bool) -> Option<String> {
    let id = |item: &Value| item.as_message().and_then(super::resource::id_of).unwrap_or_default();
    let sorted = |items: &[Value]| {
        let mut ids: Vec<_> = items.iter().map(id).collect();
        ids.sort();
        ids
    };
    if sorted(all) != sorted(got) {
        return Some(format!("by `{order}` has {:?}, not {:?}", sorted(got), sorted(all)));
    }
    let field = got.first()?.as_message()?.descriptor().get_field_by_name(order)?;
    let value = |item: &Value| item.as_message().unwrap().get_field(&field).into_owned();
    let wrong = if is_descending { Ordering::Less } else { Ordering::Greater };
    got.windows(2)
        .find(|pair| compare(&field.kind(), &value(&pair[0]), &value(&pair[1])) == Some(wrong))
        .map(|pair| format!("by `{order}` has {:?} before {:?}", value(&pair[0]), value(&pair[1])))
}

/// The fields that a list can be sorted by, as it says itself when it is asked for one that it cannot.
async fn sortable(stage: &Stage, list: &Prepared, resource: &Resource) -> Vec<String> {
    let mut found = Vec::new();
    for field in resource.message.fields() {
        let request = ordered(&list.request, field.name());
        let prepared = Prepared { request, caller: None, id: None, ..*list };
        if stage.run(&prepared).await.is_ok() {
            found.push(field.name().to_owned());
        }
    }
    found
}

/// The same list asked without anything said.
async fn plain(stage: &Stage, method: &'static Method) -> Prepared {
    let mut prepared = stage.prepare(method).await.unwrap();
    for field in ["filter", "order_by", "page_size", "page_token", "resource"] {
        prepared.request.clear_field_by_name(field);
    }
    prepared
}

/// The lists of resources that take this field. Events and histories are no lists of records; `kit/events/tests` reads them.
fn lists_with(field: &str) -> impl Iterator<Item = &'static Method> {
    let is_told = |method: &Method| method.is_everywhere() && Resource::of(method).is_none();
    methods().filter(move |method| method.input().get_field_by_name(field).is_some() && !is_told(method))
}

#[tokio::test]
async fn pages_meet_every_record_once_in_every_order() {
    let stage = Stage::new().await;
    let (mut findings, mut orders) = (Vec::new(), 0);
    for resource in resources() {
        for _ in 0..RECORDS {
            stage.make(&resource).await;
        }
    }
    for method in lists_with("page_token") {
        let path = &method.path;
        let list = plain(&stage, method).await;
        let all = walk(&stage, &list, &list.request, 200).await.unwrap();
        assert!(all.len() > usize::try_from(PAGE).unwrap(), "{path} has {} items only", all.len());
        match walk(&stage, &list, &list.request, PAGE).await {
            Ok(paged) if paged == all => {}
            paged => findings.push(format!("{path} in pages of {PAGE} has {paged:?}, not {all:?}")),
        }
        if method.input().get_field_by_name("order_by").is_none() {
            continue;
        }
        let resource = Resource::of(method).unwrap();
        let sortable = sortable(&stage, &list, &resource).await;
        assert!(!sortable.is_empty(), "{path} can be sorted by nothing");
        for order in sortable {
            let mut both = Vec::new();
            for is_descending in [false, true] {
                let words = if is_descending { format!("{order} desc") } else { order.clone() };
                let got = walk(&stage, &list, &ordered(&list.request, &words), PAGE).await.unwrap();
                findings
                    .extend(disorder(&order, &all, &got, is_descending).map(|what| format!("{path} {what}")));
                both.push(got);
                orders += 1;
            }
            both[1].reverse();
            if both[0] != both[1] {
                findings.push(format!("{path} by `{order}` is not the same backwards"));
            }
        }
    }
    none(&findings);
    assert!(orders > 20, "only {orders} orders");
}

#[tokio::test]
async fn what_a_list_does_not_know_is_said_with_near_names() {
    let stage = Stage::new().await;
    let mut findings = Vec::new();
    for method in lists_with("filter") {
        let list = plain(&stage, method).await;
        let known = sortable(&stage, &list, &Resource::of(method).unwrap()).await;
        let known = known.into_iter().max_by_key(String::len).unwrap();
        let slip = &known[..known.len() - 1];
        let token = {
            let request = with(&ordered(&list.request, &known), "page_size", Value::I32(1));
            let prepared = Prepared { request, caller: None, id: None, ..list };
            items(&stage.run(&prepared).await.unwrap()).1
        };
        for (field, value, code, words) in [
            ("filter", format!("{slip} == \"x\""), Code::InvalidArgument, vec!["filter", slip, &known]),
            ("order_by", slip.to_owned(), Code::InvalidArgument, vec!["order_by", slip, &known]),
            ("order_by", format!("{known} up"), Code::InvalidArgument, vec!["order_by", "asc or desc"]),
            // A token of another order.
            ("page_token", token, Code::InvalidArgument, vec!["page_token"]),
        ] {
            let request = with(&list.request, field, Value::String(value.clone()));
            let request =
                if field == "page_token" { ordered(&request, &format!("{known} desc")) } else { request };
            let prepared = Prepared { request, caller: None, id: None, ..list };
            let answer = stage.run(&prepared).await;
            findings.extend(unless_refused(method, &format!("{field} `{value}`"), &answer, code, &words));
        }
    }
    none(&findings);
}

#[test]
fn records_that_are_left_out_met_twice_or_out_of_order_are_found() {
    let resource = resources().into_iter().find(|resource| resource.kind == "identity.unit").unwrap();
    let unit = |id: &str, name: &str| {
        let mut unit = DynamicMessage::new(resource.message.clone());
        unit.set_field_by_name("id", Value::String(id.into()));
        unit.set_field_by_name("display_name", Value::String(name.into()));
        Value::Message(unit)
    };
    let (a, b) = (unit("1", "a"), unit("2", "b"));
    let all = [a.clone(), b.clone()];
    let find = |got: &[Value], down| disorder("display_name", &all, got, down).is_some();
    assert!(!find(&[a.clone(), b.clone()], false) && !find(&[b.clone(), a.clone()], true));
    assert!(find(&[b.clone(), a.clone()], false) && find(&[a.clone(), b.clone()], true));
    assert!(find(std::slice::from_ref(&a), false) && find(&[a.clone(), b, a], false));
}
