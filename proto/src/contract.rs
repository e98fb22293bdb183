//! The contract as a value: every method with its permission, found by its gRPC path. Layers, the gateway and the tests
//! read the contract here; nobody repeats it by hand.
use std::{collections::BTreeMap, sync::LazyLock};

use prost_reflect::{
    DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, ReflectMessage as _, Value,
};

/// A fact that other services may rely on: a message that the contract marks with `(rapport.options.v1.event)`.
pub trait Event: prost::Message + prost::Name {
    /// What follows `rapport.<service>.<part>.` in the bus subject, e.g. `customer.created.v1`.
    const SUBJECT: &'static str;
}

include!(concat!(env!("OUT_DIR"), "/events.rs"));

/// Every message and service of the contract.
pub static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the build wrote these bytes and read them back")]
    DescriptorPool::decode(crate::DESCRIPTORS).expect("the build wrote a descriptor set")
});

static METHODS: LazyLock<BTreeMap<String, Method>> = LazyLock::new(|| {
    POOL.services()
        .filter(|service| service.full_name().starts_with("rapport."))
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .map(|method| (Method::path_of(&method), Method::read(method)))
        .collect()
});

/// Every method of the contract, in the order of their paths.
pub fn methods() -> impl Iterator<Item = &'static Method> {
    METHODS.values()
}

/// The method with this gRPC path, e.g. `/rapport.customer.v1.CustomerService/GetCustomer`.
pub fn method(path: &str) -> Option<&'static Method> {
    METHODS.get(path)
}

/// The permissions that it takes to hear of events, by type, where seeing their record is not enough.
static HEARING: LazyLock<BTreeMap<String, (MessageDescriptor, String)>> = LazyLock::new(|| {
    let hearing = |message: MessageDescriptor| {
        let event = extension(&message.options(), "rapport.options.v1.event")?;
        let permission = event.as_message()?.get_field_by_name("permission")?.as_str()?.to_owned();
        (!permission.is_empty()).then(|| (message.full_name().to_owned(), (message, permission)))
    };
    POOL.all_messages().filter_map(hearing).collect()
});

/// The permission that it takes to hear of events of this type, where seeing their record is not enough.
pub fn hearing(r#type: &str) -> Option<&'static str> {
    HEARING.get(r#type).map(|(_, permission)| permission.as_str())
}

/// All of those, each with the event.
pub fn hearings() -> impl Iterator<Item = (&'static MessageDescriptor, &'static str)> {
    HEARING.values().map(|(message, permission)| (message, permission.as_str()))
}

/// The package whose methods every service has.
const EVERYWHERE: &str = "events";

/// The services of the contract by their words, sorted: `customer`, `identity`.
pub fn services() -> Vec<&'static str> {
    let mut names: Vec<_> =
        methods().filter(|method| !method.is_everywhere()).map(|method| method.service()).collect();
    names.dedup();
    names
}

/// One method and what the contract says about it.
#[derive(Debug)]
pub struct Method {
    /// The gRPC path.
    pub path: String,
    /// Its descriptor.
    pub descriptor: MethodDescriptor,
    /// Who may call it; `None` when the contract does not say, which means nobody.
    pub rule: Option<Rule>,
    /// What it does to the caller's browser session.
    pub session: SessionEffect,
}

/// Who may call a method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Those whose roles give this permission.
    Permission(String),
    /// A class of callers.
    Access(Access),
}

/// Classes of callers that no tenant's permission decides about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anyone, also without signing in.
    Public,
    /// Anyone who is signed in.
    SignedIn,
    /// Rapport's own services.
    Internal,
    /// Operators of the installation.
    Operator,
}

/// What a method does to the caller's browser session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEffect {
    /// Nothing.
    None,
    /// The answer's secret field becomes the session cookie.
    Begins,
    /// The session cookie is cleared.
    Ends,
}

impl Method {
    /// The package's service word: `customer` of `rapport.customer.v1`.
    pub fn service(&self) -> &str {
        self.path.split('.').nth(1).unwrap_or_default()
    }

    /// Whether every service has it: those of `rapport.events.v1`. Callers say in a header whose they mean.
    pub fn is_everywhere(&self) -> bool {
        self.service() == EVERYWHERE
    }

    /// Whether its answer goes on as long as the caller listens: a stream of messages, not of a file.
    pub fn watches(&self) -> bool {
        self.descriptor.is_server_streaming() && self.output().full_name() != "google.api.HttpBody"
    }

    /// What it takes.
    pub fn input(&self) -> MessageDescriptor {
        self.descriptor.input()
    }

    /// What it answers.
    pub fn output(&self) -> MessageDescriptor {
        self.descriptor.output()
    }

    /// Whether a request changes something: everything but `GET`.
    pub fn writes(&self) -> bool {
        let http = self.descriptor.options();
        POOL.get_extension_by_name("google.api.http").is_none_or(|extension| {
            http.get_extension(&extension).as_message().is_none_or(|rule| !rule.has_field_by_name("get"))
        })
    }

    fn path_of(method: &MethodDescriptor) -> String {
        format!("/{}/{}", method.parent_service().full_name(), method.name())
    }

    fn read(descriptor: MethodDescriptor) -> Self {
        let options = descriptor.options();
        Self {
            path: Self::path_of(&descriptor),
            rule: rule(&options),
            session: session(&options),
            descriptor,
        }
    }
}

fn extension(options: &DynamicMessage, name: &str) -> Option<Value> {
    let extension = options.descriptor().parent_pool().get_extension_by_name(name)?;
    options.has_extension(&extension).then(|| options.get_extension(&extension).into_owned())
}

fn rule(options: &DynamicMessage) -> Option<Rule> {
    let permission = extension(options, "rapport.options.v1.permission")?;
    let permission = permission.as_message()?;
    if permission.has_field_by_name("required") {
        let name = permission.get_field_by_name("required")?.as_str()?.to_owned();
        return (!name.is_empty()).then_some(Rule::Permission(name));
    }
    Some(Rule::Access(match permission.get_field_by_name("access")?.as_enum_number()? {
        1 => Access::Public,
        2 => Access::SignedIn,
        3 => Access::Internal,
        4 => Access::Operator,
        _ => return None,
    }))
}

fn session(options: &DynamicMessage) -> SessionEffect {
    match extension(options, "rapport.options.v1.session").and_then(|value| value.as_enum_number()) {
        Some(1) => SessionEffect::Begins,
        Some(2) => SessionEffect::Ends,
        _ => SessionEffect::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_says_who_may_call_it() {
        let silent: Vec<_> = methods().filter(|m| m.rule.is_none()).map(|m| &m.path).collect();
        assert!(silent.is_empty(), "without (rapport.options.v1.permission): {silent:?}");
    }

    #[test]
    fn every_method_has_a_rest_face() {
        let http = POOL.get_extension_by_name("google.api.http").unwrap();
        let silent: Vec<_> =
            methods().filter(|m| !m.descriptor.options().has_extension(&http)).map(|m| &m.path).collect();
        assert!(silent.is_empty(), "without (google.api.http): {silent:?}");
    }

    #[test]
    fn methods_are_found_by_path() {
        let get = method("/rapport.customer.v1.CustomerService/GetCustomer").unwrap();
        assert_eq!(get.rule, Some(Rule::Permission("customer.customers.read".into())));
        assert_eq!(get.service(), "customer");
        assert!(!get.writes());
        assert!(method("/rapport.customer.v1.CustomerService/CreateCustomer").unwrap().writes());
        assert!(method("/rapport.customer.v1.CustomerService/Nothing").is_none());
    }

    #[test]
    fn events_carry_their_subject() {
        assert_eq!(crate::customer::v1::CustomerCreated::SUBJECT, "customer.created.v1");
    }
}
