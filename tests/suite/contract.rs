//! What holds for every method of the contract, by reflection: a method that is added tomorrow is tested tomorrow.
//!
//! Checks collect what they find in words, so that one run shows everything that is wrong, and so that a sabotage can show
//! that they find something.
mod catalogue;
mod events;
mod evidence;
mod isolation;
mod lists;
mod permission;
mod prepare;
mod refusals;
mod repeats;
mod resource;
mod scope;
mod stage;
mod standard;
mod time;

use prost_reflect::{DynamicMessage, ReflectMessage as _, Value, prost::Message as _};
use rapport_proto::{Access, Method, POOL, Rule, methods};
use tonic::{Code, Status};

/// The methods that a tenant's people and machines can call.
fn callable() -> impl Iterator<Item = &'static Method> {
    methods().filter(|m| !matches!(m.rule, Some(Rule::Access(Access::Internal | Access::Operator)) | None))
}

/// The name of a method, as findings and lists of exceptions have it.
fn name(method: &Method) -> &str {
    method.descriptor.name()
}

/// A finding where an answer is no refusal with this code and these words.
fn unless_refused(
    method: &Method,
    what: &str,
    answer: &Result<DynamicMessage, Status>,
    code: Code,
    words: &[&str],
) -> Option<String> {
    match answer {
        Err(status) if status.code() == code && words.iter().all(|word| status.message().contains(word)) => {
            None
        }
        Err(status) => Some(format!(
            "{} with {what} says {:?} `{}`, not {code:?} with {words:?}",
            method.path,
            status.code(),
            status.message()
        )),
        Ok(_) => Some(format!("{} takes {what}", method.path)),
    }
}

/// The answer, or the refusal that it holds for a part of the request.
fn refusal(answer: Result<DynamicMessage, Status>) -> Result<DynamicMessage, Status> {
    fn inside(message: &DynamicMessage) -> Option<Status> {
        if message.descriptor().full_name() == "google.rpc.Status" {
            let code = message.get_field_by_name("code")?.as_i32()?;
            let text = message.get_field_by_name("message")?.as_str()?.to_owned();
            let details = message.encode_to_vec().into();
            return Some(Status::with_details(Code::from_i32(code), text, details));
        }
        message.fields().find_map(|(_, value)| match value {
            Value::Message(inner) => inside(inner),
            Value::List(list) => list.iter().filter_map(Value::as_message).find_map(inside),
            _ => None,
        })
    }
    answer.and_then(|answer| inside(&answer).map_or(Ok(answer), Err))
}

/// Fails with all findings.
fn none(findings: &[String]) {
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

/// Fails where a list of exceptions is not what is found: one too few, or one that is needed no more.
fn exactly(what: &str, found: &[&str], exceptions: &[(&str, &str)]) {
    let mut found = found.to_vec();
    let mut excepted: Vec<_> = exceptions.iter().map(|(name, _)| *name).collect();
    found.sort_unstable();
    excepted.sort_unstable();
    assert_eq!(found, excepted, "{what}: found on the left, the list of exceptions on the right");
}

#[test]
fn every_personal_field_of_the_types_is_marked() {
    let personal = POOL.get_extension_by_name("rapport.options.v1.personal").unwrap();
    for (message, field) in [
        ("rapport.type.v1.Phone", "number"),
        ("rapport.type.v1.EmailAddress", "address"),
        ("rapport.identity.v1.User", "email"),
        ("rapport.customer.v1.Customer", "display_name"),
        ("rapport.customer.v1.Customer", "birth_date"),
    ] {
        let field = POOL.get_message_by_name(message).unwrap().get_field_by_name(field).unwrap();
        assert!(field.options().has_extension(&personal), "{}", field.full_name());
    }
}
