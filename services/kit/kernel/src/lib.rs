#![doc = include_str!("../README.md")]

mod clock;
mod ctx;
mod error;
mod id;
mod money;
mod record;
mod time;
mod wording;

pub use clock::Clock;
pub use ctx::{Ctx, FieldRights, Grants, Principal, Reads, RequestId, Scope, Tenant, TenantState, Via};
pub use error::{BoxError, Error, Violation};
pub use id::Id;
pub use money::{Decimal, Money, decimal};
pub use record::{Kind, NotARecordName, RecordName};
pub use time::{Date, Instant};
pub use wording::{code_name, cut, hex, shorten};
