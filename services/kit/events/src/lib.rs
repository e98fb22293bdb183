#![doc = include_str!("../README.md")]

mod api;
pub mod bus;
pub mod consume;
pub mod digest;
mod lead;
mod leader;
pub mod log;
mod reactions;
pub mod relay;
pub mod sequencer;

pub use api::LogApi;
pub use lead::Log;
pub use reactions::{Answer, Event, Reactions, Verdict};

/// The step that every service adds to its own: its log.
pub const LOG: rapport_store::Step = (400, "log", include_str!("../migrations/0400_log.sql"));

/// The step of a service that hears others.
pub const REACTIONS: rapport_store::Step =
    (410, "reactions", include_str!("../migrations/0410_reactions.sql"));
