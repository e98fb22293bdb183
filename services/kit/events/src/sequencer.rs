//! Which events come next, and which numbers they get. No I/O: the driver looks into the database for it.
//!
//! ```text
//! look: rows of the outbox above the highest id seen, and in the gaps below it, in one snapshot   → saw
//! take: the next rows, fairly between tenants; the driver asks for their digests                  ← take
//! plan: each with its numbers and its link of the chain                                           ← plan
//! move: out of the outbox, into the log, and the heads with them, in one transaction of this epoch
//! ```
//!
//! **No event is lost.** An id that is missing below the highest one is a gap; it is looked into again until the transactions
//! that may fill it are over (`gaps`). No clock and no time limit has a part in that.
//!
//! **The order of each record is kept.** A record's events are written while its row is locked. Whoever sees one of them sees
//! all earlier ones of that record, in the same look if not before; and their ids ascend. So taking a tenant's rows by id, out
//! of what was seen so far, cannot put a later event of a record before an earlier one.
//!
//! **Numbers have no gaps**, since they are given in the transaction that moves the rows. When nobody knows whether that one
//! came through, the sequencer is made anew from what the database says.
mod drive;
mod fair;
mod gaps;

use std::{collections::BTreeMap, ops::RangeInclusive};

use uuid::Uuid;

pub use drive::Pace;
pub(crate) use drive::drive;
pub use gaps::Snapshot;

use self::{fair::Fair, gaps::Gaps};
use crate::digest::{self, Digest};

/// How many partitions the log has.
const PARTS: usize = rapport_store::PARTS as usize;

/// What a look into the outbox is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Rows above this id.
    pub above: i64,
    /// Rows in these ranges.
    pub gaps: Vec<RangeInclusive<i64>>,
    /// Whether it has to begin a transaction, and say which.
    pub begin: bool,
}

/// A row of the outbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Its number in the outbox: ascending, with gaps, and not in the order of commits.
    pub id: i64,
    /// The tenant.
    pub tenant: Uuid,
    /// The partition, 0 to 31.
    pub part: u8,
    /// The retention class of the tenant's plan.
    pub retention: String,
    /// Bytes, for fairness.
    pub size: i64,
}

/// Where the log stands: what the database knows, and the sequencer with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heads {
    /// The last number of all.
    pub number: i64,
    /// The last number of each partition.
    pub parts: [i64; PARTS],
    /// The last link of each chain, by retention class and partition.
    pub chains: BTreeMap<String, [Digest; PARTS]>,
}

/// A row whose turn has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The row.
    pub row: Waiting,
    /// Its number among those of its tenant.
    pub tenant_number: i64,
}

/// A row with its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The row of the outbox.
    pub id: i64,
    /// The tenant.
    pub tenant: Uuid,
    /// The retention class.
    pub retention: String,
    /// The number among all.
    pub number: i64,
    /// The number among those of its partition.
    pub part_number: i64,
    /// The number among those of its tenant.
    pub tenant_number: i64,
    /// What chains it to the line before it.
    pub link: Digest,
}

/// The next lines of the log, and where it stands with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The lines, in the order of their numbers.
    pub lines: Vec<Line>,
    /// The heads after the last of them.
    pub heads: Heads,
}

/// What has been seen of the outbox, and where the log stands.
#[derive(Debug)]
pub struct Sequencer {
    heads: Heads,
    /// The highest id that was seen.
    high: i64,
    gaps: Gaps,
    waiting: Fair,
    sabotage: Sabotage,
}

/// A promise of the sequencer to break. Only for tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sabotage {
    /// None.
    #[default]
    None,
    /// Gaps are never looked into: what commits late is lost.
    NoGaps,
    /// Tenants have no turns: whoever comes first is served first.
    FirstInFirstOut,
}

impl Sequencer {
    /// One that has seen nothing yet of the outbox.
    pub fn new(heads: Heads, sabotage: Sabotage) -> Self {
        let waiting = Fair::new(sabotage == Sabotage::FirstInFirstOut);
        Self { heads, high: 0, gaps: Gaps::default(), waiting, sabotage }
    }

    /// What the next look is for.
    pub fn look(&self) -> Look {
        Look { above: self.high, gaps: self.gaps.ranges().collect(), begin: self.gaps.want_date() }
    }

    /// Takes what a look saw: rows in the order of their ids, each with the last number of its tenant, and the snapshot in
    /// which they were seen. Of the rows above the highest id, a look may leave out the last ones.
    pub fn saw(&mut self, rows: impl IntoIterator<Item = (Waiting, i64)>, snapshot: Snapshot) {
        self.gaps.date(snapshot);
        for (row, tenant_number) in rows {
            if row.id > self.high {
                self.gaps.open(self.high + 1, row.id - 1);
                self.high = row.id;
            } else if !self.gaps.fill(row.id) {
                continue;
            }
            self.waiting.push(row, tenant_number);
        }
        self.gaps.close(snapshot);
        if self.sabotage == Sabotage::NoGaps {
            self.gaps = Gaps::default();
        }
    }

    /// How many rows were seen and wait.
    pub const fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Where the log stands.
    pub const fn heads(&self) -> &Heads {
        &self.heads
    }

    /// Whether rows of this tenant wait.
    pub fn waits(&self, tenant: Uuid) -> bool {
        self.waiting.has(tenant)
    }

    /// The next rows, at most so many.
    ///
    /// From here on they count as moved. If the driver cannot be sure that they were, this sequencer is of no use any more.
    pub fn take(&mut self, most: usize) -> Vec<Taken> {
        self.waiting.take(most)
    }

    /// What was taken as the next lines, each with its digest.
    pub fn plan(&mut self, taken: impl IntoIterator<Item = (Taken, Digest)>) -> Batch {
        let heads = &mut self.heads;
        let mut lines = Vec::new();
        for (Taken { row, tenant_number }, digest) in taken {
            let part = usize::from(row.part) % PARTS;
            heads.number += 1;
            let part_number = bump(&mut heads.parts, part);
            let chain = heads.chains.entry(row.retention.clone()).or_insert([Digest::default(); PARTS]);
            let link = match chain.get_mut(part) {
                Some(last) => {
                    *last = digest::link(*last, heads.number, part_number, tenant_number, digest);
                    *last
                }
                None => Digest::default(),
            };
            let Waiting { id, tenant, retention, .. } = row;
            lines.push(Line {
                id,
                tenant,
                retention,
                number: heads.number,
                part_number,
                tenant_number,
                link,
            });
        }
        Batch { lines, heads: heads.clone() }
    }
}

fn bump(numbers: &mut [i64; PARTS], part: usize) -> i64 {
    numbers.get_mut(part).map_or(0, |number| {
        *number += 1;
        *number
    })
}
