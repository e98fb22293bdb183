//! Reference copies: what a service keeps of another one's records, so that it need not ask. They are declared: which table,
//! of which records, which facts. Events keep them; the owner's records as they are now ([`crate::Snapshots`]) make them
//! complete, and are compared with them once a day. A record that was deleted leaves a row that says so, lest an older event
//! bring it back.
mod compare;
mod keep;
mod write;

use std::{fmt, sync::Arc};

use rapport_kernel::Error;
use rapport_proto::Event as EventMessage;
use serde_json::Value;

pub(crate) use keep::Keeper;

use crate::{
    log::Line,
    reactions::{Handler, Reactions},
};

/// The facts of a record, by column.
pub type Facts = Value;

/// A table of copies. It has `tenant_id`, `id`, `version` and `deleted`, and the columns that are declared.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// The handler's name, e.g. `copy-users`.
    pub name: &'static str,
    /// The owner's resource, e.g. `user`.
    pub resource: &'static str,
    /// The table.
    pub table: &'static str,
    /// Its columns beside those that every such table has, separated by a comma and a blank.
    pub columns: &'static str,
    /// What follows from changes, if anything: a function of these records' ids.
    pub afterwards: Option<&'static str>,
}

/// Copies of records, which the owner tells as `M`: what is kept of them, and which events speak of them.
pub struct Copies<M> {
    table: Table,
    facts: fn(&M) -> Facts,
    reactions: Vec<Box<dyn FnOnce(Reactions) -> Reactions>>,
}

/// Reads a record as its owner tells it.
type ReadFacts = dyn Fn(&[u8]) -> Result<Facts, Error> + Send + Sync;

/// Copies, whatever their owner tells them as.
#[derive(Clone)]
pub(crate) struct Copy {
    pub(crate) table: Table,
    facts: Arc<ReadFacts>,
}

impl<M: prost::Message + Default + 'static> Copies<M> {
    /// Keeps these facts of each record in this table.
    pub const fn new(table: Table, facts: fn(&M) -> Facts) -> Self {
        Self { table, facts, reactions: Vec::new() }
    }

    /// Learns from events of this type, which hold the record as it is since then.
    #[must_use]
    pub fn told_by<E: EventMessage + Default + 'static>(self, record: fn(&E) -> Option<&M>) -> Self {
        let facts = self.facts;
        self.on::<E>(move |event| {
            record(event).map(facts).ok_or_else(|| Error::internal("an event without its record")).map(Some)
        })
    }

    /// Events of this type say that their record is gone.
    #[must_use]
    pub fn gone_by<E: EventMessage + Default + 'static>(self) -> Self {
        self.on::<E>(|_| Ok(None))
    }

    fn on<E: EventMessage + Default + 'static>(
        mut self,
        facts: impl Fn(&E) -> Result<Option<Facts>, Error> + Send + Sync + 'static,
    ) -> Self {
        let table = self.table;
        let facts = Arc::new(move |line: &Line| {
            let event = E::decode(line.payload.as_deref().unwrap_or_default()).map_err(Error::internal)?;
            facts(&event)
        });
        let handler = Handler::of_many(
            table.name,
            Arc::new(move |tx, lines| {
                let facts = facts.clone();
                Box::pin(async move { table.hear(tx, lines, &*facts).await })
            }),
        );
        self.reactions.push(Box::new(|reactions| reactions.add::<E>(handler)));
        self
    }
}

impl Reactions {
    /// Keeps copies of the producer's records.
    #[must_use]
    pub fn keep<M: prost::Message + Default + 'static>(self, copies: Copies<M>) -> Self {
        let Copies { table, facts, reactions } = copies;
        let facts = move |state: &[u8]| Ok(facts(&M::decode(state).map_err(Error::internal)?));
        let mut kept = reactions.into_iter().fold(self, |kept, add| add(kept));
        kept.copies.push(Copy { table, facts: Arc::new(facts) });
        kept
    }
}

impl<M> fmt::Debug for Copies<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.table.fmt(f)
    }
}

impl fmt::Debug for Copy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.table.fmt(f)
    }
}
