//! An import as a record: what is brought in, how, and how far it is.
use rapport_filter::{Field, Kind};
use rapport_kernel::{Error, Instant, RecordName};
use rapport_proto::imports::v1 as pb;
use rapport_store::{Resource, TenantTx, diff, resource::column, time::to_proto};
use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use uuid::Uuid;

use crate::{
    dialect::Dialect,
    importable::ExistingPolicy,
    mapping::Mapping,
    rows::Place,
    state::{Phase, State},
};

/// One bringing-in of records from one file.
#[derive(Clone, Debug, Serialize, FromRow)]
pub struct Import {
    /// Its id.
    pub id: Uuid,
    /// Its version; grows with every batch.
    pub version: i64,
    /// What the rows become, e.g. `customer`.
    pub resource: String,
    /// The system that external ids belong to; may be empty.
    pub source: String,
    /// The file's name, for people.
    pub file_name: String,
    /// How each target is filled.
    #[sqlx(json)]
    pub mappings: Vec<Mapping>,
    /// What a row does to a record that exists: `update` or `skip`.
    pub existing: String,
    /// Where it stands.
    pub state: State,
    /// What was last worked on.
    pub phase: Phase,
    /// The file, once it was uploaded.
    #[sqlx(json(nullable))]
    pub file: Option<FileInfo>,
    /// Figures, and where the next batch begins.
    #[sqlx(json)]
    pub progress: Progress,
    /// Why it failed as a whole; empty when it did not.
    pub failure: String,
    /// Who created it.
    pub creator: Option<Uuid>,
    /// When it was created.
    pub create_time: Instant,
    /// When it last moved on.
    pub update_time: Instant,
}

/// A file that was uploaded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FileInfo {
    /// Its id in the store of files.
    pub id: Uuid,
    /// Its size in bytes.
    pub size: u64,
    /// How it is written.
    pub(crate) dialect: Dialect,
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// Where its first row begins.
    pub(crate) first: Place,
    /// How many rows it seems to have, from its size.
    pub estimate: i64,
    /// How many rows it has, once it was read through.
    pub rows: Option<i64>,
}

/// A column of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// The name in the header.
    pub name: String,
    /// Up to three values from the first rows, cut to 100 characters.
    pub samples: Vec<String>,
}

/// How far an import is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Rows worked on.
    pub rows_done: i64,
    /// Rows that made a record.
    pub created: i64,
    /// Rows that changed a record.
    pub updated: i64,
    /// Rows that changed nothing.
    pub unchanged: i64,
    /// Rows refused.
    pub rejected: i64,
    /// Records taken back.
    pub undone: i64,
    /// Records that the undo left.
    pub kept: i64,
    /// Where the next row begins; `None` before the first.
    pub(crate) next: Option<Place>,
    /// The last record that the undo dealt with.
    pub(crate) undone_to: Option<Uuid>,
}

impl Resource for Import {
    const NAME: &'static str = "import";
    const KIND: &'static str = "kit.import";
    const TABLE: &'static str = "imports";
    const COLUMNS: &'static str = "id, version, resource, source, file_name, mappings, existing, state, phase, file, progress, \
                                   failure, creator, create_time, update_time";
    // Whoever may call the methods sees all imports of the tenant.
    const READ: &'static str = "";

    fn fields() -> Vec<Field> {
        vec![
            column("id", Kind::Id).sortable(),
            column("resource", Kind::Text).sortable(),
            column("state", Kind::choice(State::ALL.map(State::as_str))).sortable(),
            column("creator", Kind::Id),
            column("create_time", Kind::Instant).sortable(),
        ]
    }
    fn id(&self) -> Uuid {
        self.id
    }
    fn version(&self) -> i64 {
        self.version
    }
}

impl Import {
    /// What a row does to a record that exists.
    pub(crate) fn policy(&self) -> ExistingPolicy {
        if self.existing == "skip" { ExistingPolicy::Skip } else { ExistingPolicy::Update }
    }

    /// The file.
    ///
    /// # Errors
    /// `Internal` when there is none: no state that asks for it is reached without.
    pub(crate) fn file(&self) -> Result<&FileInfo, Error> {
        self.file.as_ref().ok_or_else(|| Error::internal("an import is worked on without a file"))
    }

    /// Where the next row to work on begins.
    pub(crate) fn next(&self) -> Result<Place, Error> {
        Ok(self.progress.next.unwrap_or(self.file()?.first))
    }

    /// The names of the file's columns; `None` while there is no file.
    pub(crate) fn column_names(&self) -> Option<Vec<&str>> {
        Some(self.file.as_ref()?.columns.iter().map(|column| column.name.as_str()).collect())
    }

    /// The next version of this record.
    pub(crate) fn moved_on(&self, now: Instant) -> Self {
        Self { version: self.version + 1, update_time: now, ..self.clone() }
    }

    /// Forgets what the last dry run found: it speaks of another file or of other mappings.
    pub(crate) fn unchecked(&mut self) {
        self.progress = Progress::default();
        self.failure.clear();
        self.phase = Phase::None;
        self.state = if self.file.is_some() { State::Ready } else { State::Waiting };
    }

    /// Rows in the file: exact once it was read through, else an estimate.
    fn rows_total(&self) -> i64 {
        let Some(file) = &self.file else { return 0 };
        let estimate = match self.progress.next {
            // From the rows so far: those to come are about as long.
            Some(next) if self.progress.rows_done > 0 && next.offset > file.first.offset => {
                let read = i128::from(next.offset - file.first.offset);
                let all = i128::from(file.size.saturating_sub(file.first.offset));
                i64::try_from(i128::from(self.progress.rows_done) * all / read).unwrap_or(i64::MAX)
            }
            _ => file.estimate,
        };
        file.rows.unwrap_or_else(|| estimate.max(self.progress.rows_done))
    }

    /// Writes the change of an import, and says so to the world.
    pub(crate) fn save(tx: &mut TenantTx, before: &Self, after: &Self) -> Result<(), Error> {
        tx.update(before, after)?;
        let changed = diff::<pb::Import>(&before.clone().into(), &after.clone().into());
        tx.emit_changed(after, &after.event(before.state.into()), &changed.paths)
    }

    /// The event that tells of this import. Samples are left out: they may speak of people, and nobody needs them there.
    pub(crate) fn event(&self, previous: pb::ImportState) -> pb::ImportStateChanged {
        let mut import = pb::Import::from(self.clone());
        import.columns.iter_mut().for_each(|column| column.samples.clear());
        pb::ImportStateChanged { import: Some(import), previous_state: previous.into() }
    }
}

impl From<Import> for pb::Import {
    fn from(import: Import) -> Self {
        let progress = import.progress;
        let existing = match import.policy() {
            ExistingPolicy::Update => pb::ExistingPolicy::Update,
            ExistingPolicy::Skip => pb::ExistingPolicy::Skip,
        };
        Self {
            progress: Some(pb::ImportProgress {
                rows_total: import.rows_total(),
                rows_done: progress.rows_done,
                created: progress.created,
                updated: progress.updated,
                unchanged: progress.unchanged,
                rejected: progress.rejected,
                undone: progress.undone,
                kept: progress.kept,
            }),
            id: import.id.to_string(),
            etag: import.version.to_string(),
            resource: import.resource,
            source: import.source,
            file_name: import.file_name,
            mappings: import.mappings.into_iter().map(Into::into).collect(),
            existing: existing.into(),
            state: pb::ImportState::from(import.state).into(),
            columns: import
                .file
                .into_iter()
                .flat_map(|file| file.columns)
                .map(|column| pb::Column { name: column.name, samples: column.samples })
                .collect(),
            failure: import.failure,
            creator: import
                .creator
                .map(|id| RecordName::new("identity.user", id).to_string())
                .unwrap_or_default(),
            create_time: Some(to_proto(import.create_time)),
            update_time: Some(to_proto(import.update_time)),
        }
    }
}

/// How the policy is kept.
pub(crate) fn existing(policy: i32) -> Result<&'static str, Error> {
    match pb::ExistingPolicy::try_from(policy) {
        Ok(pb::ExistingPolicy::Unspecified | pb::ExistingPolicy::Update) => Ok("update"),
        Ok(pb::ExistingPolicy::Skip) => Ok("skip"),
        Err(_) => {
            Err(Error::invalid("import.existing", "must be EXISTING_POLICY_UPDATE or EXISTING_POLICY_SKIP"))
        }
    }
}
