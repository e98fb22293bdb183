//! What a resource declares so that records of it can be brought in from files.
use std::future::Future;

use rapport_kernel::{Ctx, Error};
use rapport_store::TenantTx;
use serde_json::Value;
use uuid::Uuid;

/// The target that holds a record's key in the system that the file comes from: by it, rows meet records that exist.
pub const EXTERNAL_ID: &str = "external_id";

/// A resource whose records can be brought in from files.
///
/// The engine reads files, finds out which column means what, cuts the rows into batches, runs each batch as one
/// transaction with its progress, and lists what was refused. The resource says what its targets are, reads the values of
/// a row, and collects records into the transaction.
pub trait Importable: Send + Sync + 'static {
    /// What `read` needs to know, prepared once for a batch: definitions of custom fields, rights, regions.
    type Plan: Send + Sync + 'static;
    /// A row that was read: values checked by themselves, not yet against the database.
    type Row: Send + 'static;

    /// The resource's name, e.g. `customer`.
    fn resource(&self) -> &'static str;

    /// What the caller can map columns to, in the order in which people should see it. What the caller may not write is
    /// left out.
    fn targets(&self, tx: &TenantTx) -> Vec<Target>;

    /// Prepares the reading of rows whose values are those of `targets`, in this order.
    ///
    /// # Errors
    /// Those that end the whole import: a target that is no more, a right that the caller does not have (any more).
    fn plan(&self, tx: &TenantTx, targets: &[&str]) -> Result<Self::Plan, Error>;

    /// Reads one row; `values` are in the order of the plan's targets, as they stand in the file, blanks and all.
    ///
    /// Called for many rows, on a thread that may be busy for long: pure, and fast.
    ///
    /// # Errors
    /// What is wrong with which target, and what would be right.
    fn read(&self, ctx: &Ctx, plan: &Self::Plan, values: &[&str]) -> Result<Self::Row, Vec<Problem>>;

    /// Collects these rows into the transaction, with their events; says what became of each, in their order.
    ///
    /// No two of the rows have the same external id, but another batch of the import may be under way. The transaction may be
    /// dropped afterwards instead of committed: so a dry run learns what would happen.
    ///
    /// # Errors
    /// `Conflict` for a record that came into being since it was looked up: the engine begins the batch again, and it is met.
    /// Those that the whole batch fails by; the engine then finds the row at fault by trying smaller batches. What is wrong
    /// with one row is better said as [`Outcome::Rejected`].
    fn write(
        &self,
        tx: &mut TenantTx,
        source: &str,
        existing: ExistingPolicy,
        rows: Vec<Self::Row>,
    ) -> impl Future<Output = Result<Vec<Outcome>, Error>> + Send;

    /// Collects the taking back of what an import wrote; says for each entry, in their order, what became of it. Records
    /// that are not at the version given have changed since, or are gone: they are kept as they are.
    fn undo(
        &self,
        tx: &mut TenantTx,
        entries: Vec<Written>,
    ) -> impl Future<Output = Result<Vec<Undo>, Error>> + Send;
}

/// What a column of a file can be mapped to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The field, e.g. `display_name`, `external_id`, `attributes.city`.
    pub name: String,
    /// What columns that mean this field are called: labels in every locale, and other usual names in English and Chinese.
    pub labels: Vec<String>,
    /// Whether every import must fill it.
    pub required: bool,
    /// A value as it may stand in a file, for people.
    pub example: String,
}

/// What is wrong with one target of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The target; empty when the whole row is meant.
    pub target: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl Problem {
    /// Something is wrong with a target.
    pub fn new(target: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { target: target.into(), problem: problem.into() }
    }

    /// What an error says about a row: for each violation of a request its field, for the rest the whole row.
    pub fn of(error: &Error) -> Vec<Self> {
        match error {
            Error::Invalid(violations) => {
                violations.iter().map(|v| Self::new(&v.field, &v.problem)).collect()
            }
            Error::Conflict => {
                vec![Self::new("", "conflicts with another record, or with a change under way")]
            }
            other => vec![Self::new("", other.to_string())],
        }
    }
}

/// What a row does to a record that exists already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExistingPolicy {
    /// The mapped fields are overwritten; a row that changes nothing writes nothing.
    Update,
    /// The record is left as it is.
    Skip,
}

/// What became of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It made a record.
    Created {
        /// The record.
        id: Uuid,
        /// Its version.
        version: i64,
    },
    /// It changed a record.
    Updated {
        /// The record.
        id: Uuid,
        /// Its version since.
        version: i64,
        /// What the change overwrote, as `undo` wants it back.
        before: Value,
    },
    /// The record is the same already, or was skipped by policy.
    Unchanged {
        /// The record.
        id: Uuid,
    },
    /// The row was refused.
    Rejected(Vec<Problem>),
}

/// What an import wrote to one record.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// The record.
    pub id: Uuid,
    /// The version that the import left it at.
    pub version: i64,
    /// What the import overwrote; `None` when it created the record.
    pub before: Option<Value>,
}

/// What became of an entry that was to be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undo {
    /// The record was deleted, or has its values back.
    Undone,
    /// It changed since, or is gone, and was left as it is.
    Kept,
}
