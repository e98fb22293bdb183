//! How long the log keeps a tenant's events.
use rapport_proto::identity::v1 as pb;
use serde::Serialize;

/// The retention class, as logs file by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub(super) enum Retention {
    /// As usual.
    Standard,
    /// Longer.
    Extended,
    /// For ever.
    Permanent,
}

impl Retention {
    /// What the contract says; the usual when it says nothing.
    pub(super) const fn of(retention: pb::LogRetention) -> Self {
        match retention {
            pb::LogRetention::Unspecified | pb::LogRetention::Standard => Self::Standard,
            pb::LogRetention::Extended => Self::Extended,
            pb::LogRetention::Permanent => Self::Permanent,
        }
    }

    pub(super) const fn to_proto(self) -> pb::LogRetention {
        match self {
            Self::Standard => pb::LogRetention::Standard,
            Self::Extended => pb::LogRetention::Extended,
            Self::Permanent => pb::LogRetention::Permanent,
        }
    }
}
