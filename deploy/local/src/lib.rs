#![doc = include_str!("../README.md")]

mod account;
mod command;
mod error;
mod folder;
mod keeper;
pub mod nats;
pub mod postgres;
mod process;
mod program;
mod scratch;
mod with_servers;

pub use error::Error;
pub use nats::Nats;
pub use postgres::Postgres;
pub use scratch::Scratch;
pub use with_servers::{Beside, with_servers};
