#![doc = include_str!("../README.md")]

mod actions;
mod ahead;
mod bind;
mod collect;
mod dialect;
mod download;
mod engine;
mod feed;
mod forget;
mod header;
mod import;
mod importable;
mod issues;
mod job;
mod lanes;
mod manage;
mod mapping;
mod pace;
mod rows;
mod run;
mod run_as;
mod state;
mod suggest;
mod undo;
mod upload;
mod work;
mod worker;

use rapport_store::audit::Audit;

pub use download::Pieces;
pub use engine::{Imports, Options};
pub use forget::forget_record;
pub use import::{Column, FileInfo, Import, Progress};
pub use importable::{EXTERNAL_ID, ExistingPolicy, Importable, Outcome, Problem, Target, Undo, Written};
pub use mapping::{Mapping, Origin};
pub use state::{Phase, State};

/// The steps that a service whose resources can be imported adds to its own.
pub const MIGRATIONS: &[rapport_store::Step] =
    &[(500, "imports", include_str!("../migrations/0500_imports.sql"))];

/// What the database of such a service may have beside what every service's has.
pub fn audit() -> Audit {
    let functions = ["enqueue_import", "dequeue_import", "hold_import"];
    functions.into_iter().fold(Audit::default().platform("import_work"), Audit::definer).resource::<Import>()
}
