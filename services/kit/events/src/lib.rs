#![doc = include_str!("../README.md")]

mod api;
pub mod bus;
pub mod consume;
mod copies;
pub mod digest;
mod directory;
mod fresh;
mod lead;
mod leader;
pub mod log;
mod parts;
mod reactions;
mod relay;
mod restore;
mod retention;
pub mod sequencer;
#[cfg(test)]
mod simulation;
mod verify;

use rapport_store::audit::Audit;

pub use api::LogApi;
pub use copies::{Copies, Facts};
pub use directory::directory;
pub use lead::{Log, Settings};
pub use reactions::{Answer, Event, Reactions, Verdict};
pub use restore::align_restored;
pub use retention::Keep;
pub use verify::{Verified, verify};

/// What the database of every service may have for its log, beside what it had.
pub fn audit(audit: Audit) -> Audit {
    ["leads", "log_head", "log_chains", "log_days", "log_dropped", "log_relay", "tenant_numbers", "event_log"]
        .into_iter()
        .fold(audit, Audit::platform)
}

/// What the database of a service that hears others may have, beside that.
pub fn audit_reactions(audit: Audit) -> Audit {
    let audit = ["watermarks", "set_aside"].into_iter().fold(audit, Audit::platform);
    ["hear", "parked"].into_iter().fold(audit, Audit::definer)
}

/// The step that every service adds to its own: its log.
pub const LOG: rapport_store::Step = (400, "log", include_str!("../migrations/0400_log.sql"));

/// The step of a service that hears others.
pub const REACTIONS: rapport_store::Step =
    (410, "reactions", include_str!("../migrations/0410_reactions.sql"));
