//! What holds for every method of the contract, by reflection: a method that is added tomorrow is tested tomorrow.
mod isolation;
mod permission;

use std::collections::HashMap;

use prost_reflect::{DynamicMessage, Value};
use rapport_proto::{Access, Method, POOL, Rule, methods};
use rapport_test_kit::{Caller, Ids, call, sample};

/// The methods that a tenant's people and machines can call.
fn callable() -> impl Iterator<Item = &'static Method> {
    methods().filter(|m| !matches!(m.rule, Some(Rule::Access(Access::Internal | Access::Operator)) | None))
}

/// Those of them that are about one kind of record, and which.
fn about(method: &Method) -> String {
    let resource = method.descriptor.parent_service().name().trim_end_matches("Service").to_owned();
    let snake: String = resource
        .chars()
        .enumerate()
        .flat_map(|(n, c)| {
            let gap = (c.is_uppercase() && n > 0).then_some('_');
            gap.into_iter().chain(c.to_lowercase())
        })
        .collect();
    format!("{}.{snake}", method.service())
}

/// A record of each kind that a caller can make by a method of its own, by kind; its free texts say `word`.
async fn records(caller: &Caller, word: &str) -> Ids {
    let other = rapport_kernel::Clock::system().new_uuid().to_string();
    let mut ids = Ids { of: HashMap::new(), other, word: word.to_owned() };
    ids.of.insert("identity.user".into(), caller.user.id.clone());
    // Units before customers, which belong to them.
    let mut creates: Vec<_> = callable()
        .filter(|m| m.descriptor.name().starts_with("Create") || m.descriptor.name() == "InviteUser")
        .collect();
    creates.sort_by_key(|m| about(m) != "identity.unit");
    for method in creates {
        let kind = about(method);
        let mut request = sample(&method.input(), &kind, &ids);
        choose_own_id(&mut request);
        let answer = call(caller.direct(method.service()), method, request).await;
        let answer = answer.unwrap_or_else(|status| panic!("{}: {status:?}", method.path));
        let id = id_of(&answer).unwrap_or_else(|| panic!("{} answers without an id", method.path));
        ids.of.insert(kind, id);
    }
    ids
}

/// Leaves the choice of ids to the service, and what a sample cannot know.
fn choose_own_id(request: &mut DynamicMessage) {
    let fields: Vec<_> = request.fields().map(|(field, _)| field).collect();
    for field in fields {
        if let Value::Message(inner) = request.get_field_mut(&field) {
            inner.clear_field_by_name("id");
            for unknown in ["parent", "roles"] {
                inner.clear_field_by_name(unknown);
            }
        }
    }
}

/// The id of the record in an answer, or in the message inside of it.
fn id_of(answer: &DynamicMessage) -> Option<String> {
    let direct = answer.get_field_by_name("id").and_then(|id| id.as_str().map(ToOwned::to_owned));
    direct.filter(|id| !id.is_empty()).or_else(|| {
        answer.fields().find_map(|(_, value)| match value {
            Value::Message(inner) => id_of(inner),
            _ => None,
        })
    })
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
