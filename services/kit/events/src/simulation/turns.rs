//! Whether tenants take turns: how many rows of others go before one that waits.
use std::collections::BTreeMap;

use uuid::Uuid;

use crate::sequencer::{Batch, Waiting};

/// Bytes of a turn, as `sequencer/fair.rs` has them.
const QUANTUM: i64 = 8 << 10;

/// What waits in the sequencer of the last term.
#[derive(Default)]
pub(super) struct Turns {
    term: u64,
    waiting: BTreeMap<i64, Seen>,
    /// Bytes of a row of each tenant, which all of its rows have.
    sizes: BTreeMap<Uuid, i64>,
    batches: usize,
    moved: BTreeMap<Uuid, i64>,
    moved_rows: i64,
}

/// When a row was seen: after how many batches, and what had been moved by then.
struct Seen {
    tenant: Uuid,
    batches: usize,
    own: i64,
    all: i64,
}

impl Turns {
    /// A sequencer begins.
    pub(super) fn begin(&mut self, term: u64) {
        *self = Self { term, sizes: std::mem::take(&mut self.sizes), ..Self::default() };
    }

    /// Rows were seen.
    pub(super) fn saw(&mut self, term: u64, rows: &[(Waiting, i64)]) {
        if term != self.term {
            return;
        }
        for (row, _) in rows {
            self.sizes.insert(row.tenant, row.size);
            let own = self.moved.get(&row.tenant).copied().unwrap_or_default();
            let seen = Seen { tenant: row.tenant, batches: self.batches, own, all: self.moved_rows };
            self.waiting.entry(row.id).or_insert(seen);
        }
    }

    /// A batch was planned, of at most so many lines; says which of them waited for too long.
    pub(super) fn planned(&mut self, term: u64, size: usize, batch: &Batch) -> Option<String> {
        if term != self.term {
            return None;
        }
        let mut unfair = None;
        for line in &batch.lines {
            *self.moved.entry(line.tenant).or_default() += 1;
            self.moved_rows += 1;
            let Some(seen) = self.waiting.remove(&line.id) else { continue };
            let own = self.moved[&seen.tenant] - seen.own;
            let others = self.moved_rows - seen.all - own;
            // So many turns of its tenant's it takes to come to it, and no other tenant has more turns in that time. In each,
            // that one sends what a turn allows and what it had left of the turn before, which is less than a row.
            let rows_of = |turns: i64, tenant: &Uuid| (turns * QUANTUM) / self.sizes[tenant] + 1;
            let turns = (own * self.sizes[&seen.tenant] + QUANTUM - 1) / QUANTUM;
            let most: i64 = self
                .sizes
                .keys()
                .filter(|tenant| **tenant != seen.tenant)
                .map(|tenant| rows_of(turns, tenant))
                .sum();
            let batches = (self.batches - seen.batches) as i64;
            if others > most || batches > (own + most) / size as i64 {
                let (id, before) = (line.id, own - 1);
                unfair.get_or_insert_with(|| {
                    format!("{id} waited for {batches} batches and {others} rows of others behind {before} of its own; {most} may")
                });
            }
        }
        self.batches += 1;
        unfair
    }
}
