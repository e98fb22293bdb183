#![doc = include_str!("../README.md")]

pub mod config;
pub mod health;
pub mod layers;
mod panic;
pub mod parts;
pub mod server;
pub mod shutdown;
pub mod stack;
pub mod telemetry;
pub mod token;
pub mod validate;
pub mod witness;
