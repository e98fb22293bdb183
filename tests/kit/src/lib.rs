#![doc = include_str!("../README.md")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot get its world fails"
)]

mod caller;
mod comment;
mod databases;
mod dynamic;
mod events;
mod sample;
pub mod telco;
mod tenant;
mod world;

pub use caller::{Caller, json};
pub use comment::{is_immutable, is_output_only};
pub use databases::Databases;
pub use dynamic::{call, host};
pub use events::{EVENTS, LOG_TABLES, park};
pub use sample::{Ids, lengthen_file, sample};
pub use tenant::{PASSWORD, Tenant};
pub use world::{Options, World};
