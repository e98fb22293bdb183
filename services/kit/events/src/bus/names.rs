//! Names on the bus: streams, subjects, headers. Here and nowhere else.

/// The stream of a service: `RAPPORT_CUSTOMER`.
pub fn stream_name(root: &str, service: &str) -> String {
    format!("{root}_{service}").to_ascii_uppercase()
}

/// The subject of an event: `rapport.customer.07.customer.created.v1`. No tenant in it: there are too many of them.
pub fn subject(root: &str, service: &str, part: i16, event: &str) -> String {
    format!("{root}.{service}.{part:02}.{event}")
}

/// Headers of a message: attributes of CloudEvents 1.0 in their binding to NATS (`ce-…`), extensions of our own among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// Always `1.0`.
    SpecVersion,
    /// The event's id.
    Id,
    /// The service, e.g. `/rapport/customer`.
    Source,
    /// The full name of the message.
    Type,
    /// The record, e.g. `customer.customer/0190…`.
    Subject,
    /// When it happened, RFC 3339.
    Time,
    /// Always `application/protobuf`.
    ContentType,
    /// The tenant.
    Tenant,
    /// The number among all events of the service.
    Number,
    /// The number among those of the partition.
    PartNumber,
    /// The number among those of the tenant.
    TenantNumber,
    /// The record's version after the change.
    RecordVersion,
    /// The fields that changed, with commas.
    ChangedPaths,
    /// Who did it.
    Principal,
    /// On whose behalf.
    OnBehalfOf,
    /// Through what.
    Via,
    /// The event that this one follows from.
    Cause,
    /// The trace, W3C.
    TraceParent,
    /// The time of the log's leader that published it.
    Epoch,
    /// Why the payload is not here; it is in the log.
    Tombstone,
}

impl Header {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SpecVersion => "ce-specversion",
            Self::Id => "ce-id",
            Self::Source => "ce-source",
            Self::Type => "ce-type",
            Self::Subject => "ce-subject",
            Self::Time => "ce-time",
            Self::ContentType => "ce-datacontenttype",
            Self::Tenant => "ce-tenant",
            Self::Number => "ce-number",
            Self::PartNumber => "ce-partnumber",
            Self::TenantNumber => "ce-tenantnumber",
            Self::RecordVersion => "ce-recordversion",
            Self::ChangedPaths => "ce-changedpaths",
            Self::Principal => "ce-principal",
            Self::OnBehalfOf => "ce-onbehalfof",
            Self::Via => "ce-via",
            Self::Cause => "ce-cause",
            Self::TraceParent => "traceparent",
            Self::Epoch => "ce-epoch",
            Self::Tombstone => "ce-tombstone",
        }
    }
}
