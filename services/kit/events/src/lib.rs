#![doc = include_str!("../README.md")]

mod api;
pub mod bus;
mod checkpoint;
pub mod consume;
mod copies;
pub mod digest;
mod directory;
mod erase;
mod feed;
mod fresh;
mod lead;
mod leader;
pub mod ledger;
pub mod log;
mod parked;
pub mod queue;
mod reactions;
mod relay;
mod restore;
mod retention;
pub mod sequencer;
mod service;
#[cfg(test)]
mod simulation;
mod snapshot;
mod status;
mod tidy;
mod verify;
mod webhooks;

use rapport_store::audit::Audit;

pub use api::LogApi;
pub use checkpoint::{Checkpoints, Seal};
pub use copies::{Copies, Facts, Table};
pub use directory::directory;
pub use erase::{erase, settled};
pub use feed::{Audience, Feed};
pub use lead::{Log, Sabotage, Settings};
pub use parked::ParkedItem;
pub use reactions::{Answer, Event, Reactions, Verdict};
pub use restore::align_restored;
pub use retention::Keep;
pub use service::Events;
pub use snapshot::Snapshots;
pub use verify::{Verified, verify, verify_against};
pub use webhooks::Webhook;

/// What the database of every service may have for events, beside what it had.
pub fn audit(audit: Audit) -> Audit {
    let tables = [
        "leads",
        "log_head",
        "log_chains",
        "log_days",
        "log_dropped",
        "log_relay",
        "tenant_numbers",
        "event_log",
    ];
    let heard = ["watermarks", "set_aside", "copies", "work", "timers", "webhook_head"];
    let functions = [
        "hear",
        "heard",
        "parked",
        "enqueue",
        "set_timer",
        "cancel_timer",
        "finish_work",
        "webhooks_on",
        "webhooks_any",
        "parked_by_tenant",
        "webhooks_failing",
        "erase",
        "waits",
        "record_keys",
        "file_tenant",
    ];
    let audit = tables.into_iter().chain(heard).fold(audit, Audit::platform);
    functions
        .into_iter()
        .fold(audit, Audit::definer)
        .resource::<ParkedItem>()
        .resource::<Webhook>()
        .resource::<ledger::LedgerEntry>()
}

/// The steps that every service adds to its own.
pub const MIGRATIONS: &[rapport_store::Step] = &[
    (400, "log", include_str!("../migrations/0400_log.sql")),
    (410, "reactions", include_str!("../migrations/0410_reactions.sql")),
    (420, "work", include_str!("../migrations/0420_work.sql")),
    (430, "webhooks", include_str!("../migrations/0430_webhooks.sql")),
    (440, "erase", include_str!("../migrations/0440_erase.sql")),
    (450, "copies", include_str!("../migrations/0450_copies.sql")),
    (460, "hear", include_str!("../migrations/0460_hear.sql")),
    (470, "gone", include_str!("../migrations/0470_gone.sql")),
    (480, "restored", include_str!("../migrations/0480_restored.sql")),
];
