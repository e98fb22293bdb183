#![doc = include_str!("../README.md")]

mod contract;

pub use contract::{
    Access, Event, Method, POOL, Rule, SessionEffect, hearing, hearings, method, methods, services,
};

/// The descriptor set of the whole contract, with all options and comments.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/rapport.binpb"));

macro_rules! package {
    ($path:literal) => {
        tonic::include_proto!($path);
    };
}

/// Google's messages that the contract uses.
#[expect(missing_docs, reason = "generated")]
pub mod google {
    /// `google.api`.
    pub mod api {
        package!("google.api");
    }
    /// `google.rpc`.
    pub mod rpc {
        package!("google.rpc");
    }
}

macro_rules! packages {
    ($($(#[$doc:meta])* $name:ident = $path:literal;)*) => {
        /// Rapport's packages, at the depth that generated code refers to them.
        #[expect(missing_docs, clippy::all, clippy::allow_attributes, clippy::allow_attributes_without_reason, unreachable_pub, reason = "generated")]
        mod rapport {$(
            pub mod $name {
                pub mod v1 {
                    package!($path);
                }
            }
        )*}
        $($(#[$doc])* pub mod $name { pub use crate::rapport::$name::*; })*
    };
}

packages! {
    /// Customers, their custom fields and imports.
    customer = "rapport.customer.v1";
    /// The log and the bus, as every service has them.
    events = "rapport.events.v1";
    /// Custom fields, as every service offers them.
    fields = "rapport.fields.v1";
    /// Tenants, units, users, roles, sessions, keys.
    identity = "rapport.identity.v1";
    /// Imports, as every service offers them.
    imports = "rapport.imports.v1";
    /// What methods, fields and messages say about themselves.
    options = "rapport.options.v1";
    /// Values that every service uses.
    r#type = "rapport.r#type.v1";
}

impl From<tonic::Status> for google::rpc::Status {
    /// The result of one part of a batch, as a call of its own would have had it.
    fn from(status: tonic::Status) -> Self {
        // The details of a status are a whole `google.rpc.Status` already.
        <Self as prost::Message>::decode(status.details()).unwrap_or_else(|_| Self {
            code: status.code().into(),
            message: status.message().to_owned(),
            details: Vec::new(),
        })
    }
}
