//! What has to be true, whatever happens. It knows what was committed, and asks nobody else.
use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::{
    bus::Bus,
    postgres::{Led, PARTS, Postgres, Row, digest_of, retention},
    turns::Turns,
};
use crate::{
    digest::{self, Digest},
    log::Line,
    sequencer::Batch,
};

/// What a commit did that has to be looked at.
pub(super) enum Committed {
    Event(Row),
    Move(u64),
    Note(u64),
    Effect(Box<Line>),
}

/// Whoever checks.
#[derive(Default)]
pub(super) struct Checker {
    /// The first thing that was not as it has to be.
    pub(super) violation: Option<String>,
    pub(super) turns: Turns,
    /// The terms that began last.
    terms: [u64; 2],
    last_term: u64,
    events: Vec<Row>,
    effects: Vec<Line>,
    doubted: BTreeSet<Uuid>,
}

impl Checker {
    pub(super) fn violated(&mut self, what: impl FnOnce() -> String) {
        self.violation.get_or_insert_with(what);
    }

    /// A term begins; says its number.
    pub(super) fn begins(&mut self, led: Led) -> u64 {
        self.last_term += 1;
        self.terms[led as usize] = self.last_term;
        self.last_term
    }

    /// Something was committed.
    pub(super) fn committed(&mut self, postgres: &Postgres, committed: Committed) {
        let leader = self.terms[Led::Log as usize];
        match committed {
            Committed::Event(row) => self.events.push(row),
            Committed::Move(term) if term != leader => {
                self.violated(|| format!("leader {term} was replaced by {leader} and moved lines"));
            }
            Committed::Note(term) if term != leader => {
                self.violated(|| {
                    format!("leader {term} was replaced by {leader} and noted how far the bus has come")
                });
            }
            Committed::Move(_) | Committed::Note(_) => {}
            Committed::Effect(line) => {
                if !postgres.log.contains(&*line) {
                    self.violated(|| format!("what the log does not say took effect: {line:?}"));
                }
                self.effects.push(*line);
            }
        }
    }

    /// A leader planned a batch, of at most so many lines.
    pub(super) fn planned(&mut self, term: u64, size: usize, batch: &Batch) {
        if let Some(unfair) = self.turns.planned(term, size, batch) {
            self.violated(|| unfair);
        }
    }

    /// A message was not believed.
    pub(super) fn doubted(&mut self, event: Uuid) {
        self.doubted.insert(event);
    }

    /// A message was acknowledged.
    pub(super) fn acknowledged(&mut self, part: usize, number: i64, event: Uuid, watermark: i64) {
        if number > watermark && !self.doubted.contains(&event) {
            self.violated(|| {
                format!("{number} of partition {part} was acknowledged while {watermark} was heard")
            });
        }
    }

    /// Whether everything has come to where it has to be.
    pub(super) fn is_drained(&self, postgres: &Postgres, bus: &Bus) -> bool {
        postgres.log.len() >= self.events.len()
            && (0..PARTS).all(|part| postgres.watermarks[part] == postgres.heads.parts[part])
            && (bus.is_down() || self.missing(postgres, bus).is_empty())
    }

    /// Numbers that the bus should hold.
    pub(super) fn missing(&self, postgres: &Postgres, bus: &Bus) -> Vec<i64> {
        let held = bus.events();
        let missing = postgres.log.iter().filter(|line| !held.contains(&line.event_id));
        missing.map(|line| line.number).filter(|number| !bus.overtaken().contains(number)).collect()
    }

    /// Why it is not drained.
    pub(super) fn stuck(&self, postgres: &Postgres, bus: &Bus) -> String {
        format!(
            "it does not come to rest: {} events are in the log of {}, partitions stand at {:?} of {:?}, the bus misses {:?}",
            postgres.log.len(),
            self.events.len(),
            postgres.watermarks,
            &postgres.heads.parts[..PARTS],
            self.missing(postgres, bus)
        )
    }

    /// Looks at everything, at the end.
    pub(super) fn look(&self, postgres: &Postgres) -> Result<(), String> {
        self.log(postgres).and_then(|()| self.effects(postgres))
    }

    /// Each committed event is in the log once, nothing else is, and numbers, versions and chains are as they have to be.
    fn log(&self, postgres: &Postgres) -> Result<(), String> {
        let mut committed: BTreeMap<_, _> = self.events.iter().map(|row| (row.event, row)).collect();
        let mut numbers = Numbers::default();
        let mut chains: BTreeMap<_, Digest> = BTreeMap::new();
        for (line, link) in postgres.log.iter().zip(&postgres.links) {
            let Some(row) = committed.remove(&line.event_id) else {
                return Err(format!("it is in the log and did not happen, or twice: {line:?}"));
            };
            let record = &postgres.records[row.record];
            let facts = (line.record_id, line.tenant_id, line.part, line.version);
            if facts != (record.id, record.tenant, record.part.into(), row.version) {
                return Err(format!("the log says something else than {row:?}: {line:?}"));
            }
            let follow = numbers.follow("of all", 0, line.number)
                && numbers.follow("of the partition", line.part as u128, line.part_number)
                && numbers.follow("of the tenant", line.tenant_id.as_u128(), line.tenant_number)
                && numbers.follow("of the record", line.record_id.as_u128(), line.version);
            if !follow {
                return Err(format!("it does not follow what is before it: {line:?}"));
            }
            let last = chains.entry((retention(line.tenant_id), line.part)).or_default();
            let digest = digest_of(line.event_id);
            *last = digest::link(*last, line.number, line.part_number, line.tenant_number, digest);
            if last != link {
                return Err(format!("its link is another: {line:?}"));
            }
        }
        match committed.into_values().next() {
            Some(row) => Err(format!("it is not in the log: {row:?}")),
            None => Ok(()),
        }
    }

    /// Each line of the log took effect once, in the order of its partition and so of its record.
    fn effects(&self, postgres: &Postgres) -> Result<(), String> {
        let of = |lines: &[Line], part| -> Vec<_> {
            lines.iter().filter(|line| line.part == part).map(|line| line.event_id).collect()
        };
        for part in 0..PARTS as i16 {
            let (said, done) = (of(&postgres.log, part), of(&self.effects, part));
            if said != done {
                return Err(format!(
                    "of partition {part} the log says {said:?}, and this took effect: {done:?}"
                ));
            }
        }
        Ok(())
    }
}

/// Numbers that follow one another.
#[derive(Default)]
struct Numbers(BTreeMap<(&'static str, u128), i64>);

impl Numbers {
    fn follow(&mut self, of: &'static str, whom: u128, number: i64) -> bool {
        let last = self.0.entry((of, whom)).or_default();
        *last += 1;
        *last == number
    }
}
