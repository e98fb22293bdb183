#![doc = include_str!("../README.md")]

mod address;
mod allow;
mod chain;
mod client;
mod door;
mod failure;
mod lookup;
mod message;
mod name;
mod policy;
mod refusal;
mod settings;
mod slots;

pub use door::{Door, Sabotage};
pub use failure::{Busy, Failure};
pub use lookup::{Lookup, System};
pub use message::{Answer, Request};
pub use refusal::{Refusal, Rule};
pub use settings::Settings;
