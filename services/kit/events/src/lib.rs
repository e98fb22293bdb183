#![doc = include_str!("../README.md")]

pub mod bus;
pub mod digest;
mod lead;
mod leader;
pub mod log;
pub mod relay;
pub mod sequencer;

pub use lead::Log;
pub use leader::Term;

/// The step that every service adds to its own.
pub const MIGRATION: rapport_store::Step = (400, "log", include_str!("../migrations/0400_log.sql"));
