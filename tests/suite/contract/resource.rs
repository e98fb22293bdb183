//! The resources of the contract and their standard methods, by reflection.
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage as _};
use rapport_proto::{Method, methods};
use rapport_test_kit::{Ids, is_immutable, is_output_only, sample};

/// Services that are about no resource with standard methods, and why.
const NOT_STANDARD: &[(&str, &str)] = &[
    ("events.event", "events are told by what happens to records"),
    ("events.ledger", "the ledger is written by what happens"),
    ("events.log", "a log is written by nobody and read by services"),
    ("events.parked_item", "what is parked is parked by Rapport"),
    ("events.status", "how events fare is no record"),
    ("identity.audit", "what is observed is told of those who were observed"),
    ("identity.session", "a session is made by signing in and is its owner's alone"),
    ("identity.token", "a token is no record"),
];

/// A resource with its standard methods.
#[derive(Clone, Debug)]
pub(super) struct Resource {
    /// As record names have it, e.g. `customer.customer`.
    pub(super) kind: String,
    pub(super) message: MessageDescriptor,
    pub(super) create: &'static Method,
    pub(super) get: &'static Method,
    pub(super) list: &'static Method,
    pub(super) update: Option<&'static Method>,
    pub(super) delete: Option<&'static Method>,
    pub(super) undelete: Option<&'static Method>,
}

/// The kind of record that a method is about: `customer.customer` of `CustomerService` in `rapport.customer.v1`.
pub(super) fn about(method: &Method) -> String {
    let resource = method.descriptor.parent_service().name().trim_end_matches("Service").to_owned();
    let snake: String = resource
        .chars()
        .enumerate()
        .flat_map(|(n, c)| (c.is_uppercase() && n > 0).then_some('_').into_iter().chain(c.to_lowercase()))
        .collect();
    format!("{}.{snake}", method.service())
}

/// The field of a request that holds the record itself.
pub(super) fn body(input: &MessageDescriptor, record: &MessageDescriptor) -> Option<FieldDescriptor> {
    input.fields().find(|field| !field.is_list() && matches!(field.kind(), Kind::Message(m) if m == *record))
}

impl Resource {
    /// The resource that `method` is about, if it is one.
    pub(super) fn of(method: &Method) -> Option<Self> {
        let kind = about(method);
        let its: Vec<&'static Method> = methods().filter(|other| about(other) == kind).collect();
        let named = |verb: &str| its.iter().copied().find(|m| m.descriptor.name().starts_with(verb));
        let get = its.iter().copied().find(|m| {
            let words = kind.split_once('.').map(|(_, name)| name.replace('_', "")).unwrap_or_default();
            m.descriptor.name().to_lowercase() == format!("get{words}")
        })?;
        let message = get.output();
        let takes = |m: &Method| body(&m.input(), &message).is_some();
        Some(Self {
            create: its.iter().copied().find(|m| takes(m) && !is_partial(m))?,
            list: its
                .iter()
                .copied()
                .find(|m| m.descriptor.name().starts_with("List") && holds(m, &message))?,
            update: named("Update"),
            delete: named("Delete"),
            undelete: named("Undelete"),
            kind,
            get,
            message,
        })
    }

    /// The field of a request for this resource that holds the record.
    pub(super) fn body(&self, method: &Method) -> FieldDescriptor {
        body(&method.input(), &self.message).unwrap_or_else(|| panic!("{} takes no record", method.path))
    }

    /// The fields that an update may name.
    pub(super) fn changeable(&self) -> Vec<FieldDescriptor> {
        let is_own = |field: &FieldDescriptor| !["id", "etag"].contains(&field.name());
        self.message
            .fields()
            .filter(|field| is_own(field) && !is_output_only(field) && !is_immutable(field))
            .collect()
    }

    /// The record as a sample has it, with the id that it has.
    pub(super) fn sample(&self, ids: &Ids) -> DynamicMessage {
        sample(&self.message, &self.kind, ids)
    }

    /// A read of the record by its id.
    pub(super) fn get(&self, id: &str) -> DynamicMessage {
        let mut request = DynamicMessage::new(self.get.input());
        request.set_field_by_name("id", prost_reflect::Value::String(id.to_owned()));
        request
    }
}

/// Whether a method changes only a part of a record.
fn is_partial(method: &Method) -> bool {
    method.input().get_field_by_name("update_mask").is_some()
}

/// Whether a method answers with a list of such records.
fn holds(method: &Method, record: &MessageDescriptor) -> bool {
    method.output().fields().any(|f| f.is_list() && matches!(f.kind(), Kind::Message(m) if m == *record))
}

/// Every resource of the contract, those first that others refer to.
pub(super) fn resources() -> Vec<Resource> {
    let mut found: Vec<Resource> = Vec::new();
    for method in methods() {
        if let Some(resource) = Resource::of(method)
            && found.iter().all(|known| known.kind != resource.kind)
        {
            found.push(resource);
        }
    }
    found.sort_by_key(|resource| !["identity.unit", "identity.role"].contains(&resource.kind.as_str()));
    found
}

/// The id of the record in an answer, or in the message inside of it.
pub(super) fn id_of(answer: &DynamicMessage) -> Option<String> {
    let direct = answer.get_field_by_name("id").and_then(|id| id.as_str().map(ToOwned::to_owned));
    direct
        .filter(|id| !id.is_empty())
        .or_else(|| answer.fields().find_map(|(_, value)| value.as_message().and_then(id_of)))
}

/// The record in an answer, which may be the answer.
pub(super) fn record_in(answer: &DynamicMessage, record: &MessageDescriptor) -> Option<DynamicMessage> {
    if answer.descriptor() == *record {
        return Some(answer.clone());
    }
    answer.fields().find_map(|(_, value)| value.as_message().and_then(|inner| record_in(inner, record)))
}

#[test]
fn every_service_is_about_a_resource_with_standard_methods() {
    let mut strange: Vec<_> = methods().filter(|method| Resource::of(method).is_none()).map(about).collect();
    strange.dedup();
    let excepted: Vec<_> = NOT_STANDARD.iter().map(|(kind, _)| (*kind).to_owned()).collect();
    assert_eq!(
        strange, excepted,
        "services without Get, List, or a way to make a record; or needless exceptions"
    );
}
