#![doc = include_str!("../README.md")]

mod catalogue;
mod check;
mod condition;
mod decimal;
mod describe;
mod error;
mod evaluate;
mod lex;
mod literal;
mod order;
mod parse;
#[cfg(test)]
mod sample;
mod sql;
mod tree;

pub use catalogue::{Catalogue, CurrencyPlaces, Field, Kind, Source, nearest};
pub use check::{MAX_LIST, MAX_TESTS};
pub use condition::Condition;
pub use describe::fingerprint;
pub use error::FilterError;
pub use evaluate::{Record, Value};
pub use order::Order;
pub use parse::{MAX_DEPTH, MAX_SOURCE_BYTES};
pub use sql::{Joined, Target};
