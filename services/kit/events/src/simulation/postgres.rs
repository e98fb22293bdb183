//! What PostgreSQL does: transactions with ids, snapshots, locks, sessions that end.
//!
//! Tables have what is committed; a transaction's changes wait in it. So a read sees what its snapshot would show, as long as
//! it is one step. Both services' databases are on one server, as in a small installation.
use std::collections::{BTreeMap, BTreeSet};

use rapport_kernel::Instant;
use uuid::Uuid;

use super::checker::Committed;
use crate::{
    digest::Digest,
    log,
    relay::Note,
    sequencer::{Batch, Heads, Waiting},
};

/// Partitions that records are in. The others stay empty.
pub(super) const PARTS: usize = 3;

pub(super) type Xid = u64;
pub(super) type SessionId = u64;

/// What one process does at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Led {
    Log,
    Hear,
}

/// A row that only one transaction writes at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lock {
    Record(usize),
    Lead(Led),
    Relay,
    Watermark(usize),
}

/// A row of the outbox.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) id: i64,
    pub(super) xid: Xid,
    pub(super) event: Uuid,
    pub(super) record: usize,
    pub(super) version: i64,
    pub(super) size: i64,
}

/// A record, and the version that is committed.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) id: Uuid,
    pub(super) tenant: Uuid,
    pub(super) part: u8,
    pub(super) version: i64,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pulse {
    pub(super) epoch: i64,
    pub(super) beat: i64,
}

/// What a transaction changes when it is committed.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Event(Row),
    Beat(Led),
    Epoch(Led, i64),
    /// With the term of the leader that does it.
    Move(u64, Batch, Vec<log::Line>),
    /// With the term of the leader that does it.
    Note(u64, Note),
    Effect(log::Line),
    Heard(usize, i64),
}

#[derive(Debug, Default)]
struct Transaction {
    xid: Option<Xid>,
    changes: Vec<Change>,
    /// Somebody said COMMIT and is not there any more.
    committing: bool,
}

#[derive(Debug, Default)]
struct Session {
    transaction: Transaction,
    /// Whether its client is gone, which the server has not seen yet.
    orphan: bool,
}

/// The server.
#[derive(Debug)]
pub(super) struct Postgres {
    sessions: BTreeMap<SessionId, Session>,
    last_session: SessionId,
    last_xid: Xid,
    /// The highest transaction that ended.
    last_ended: Xid,
    running: BTreeSet<Xid>,
    locks: BTreeMap<Lock, SessionId>,
    advisory: BTreeMap<Led, BTreeSet<SessionId>>,
    last_id: i64,
    pub(super) records: Vec<Record>,
    pub(super) outbox: BTreeMap<i64, Row>,
    pub(super) heads: Heads,
    pub(super) tenants: BTreeMap<Uuid, i64>,
    pub(super) log: Vec<log::Line>,
    pub(super) links: Vec<Digest>,
    pub(super) note: Note,
    pulses: [Pulse; 2],
    /// Of the service that hears.
    pub(super) watermarks: [i64; PARTS],
}

impl Default for Postgres {
    fn default() -> Self {
        let chains = ["extended", "standard"].map(|class| (class.to_owned(), [Digest::default(); 32]));
        Self {
            sessions: BTreeMap::new(),
            last_session: 0,
            last_xid: 100,
            last_ended: 100,
            running: BTreeSet::new(),
            locks: BTreeMap::new(),
            advisory: BTreeMap::new(),
            last_id: 0,
            records: Vec::new(),
            outbox: BTreeMap::new(),
            heads: Heads { number: 0, parts: [0; 32], chains: chains.into() },
            tenants: BTreeMap::new(),
            log: Vec::new(),
            links: Vec::new(),
            note: Note::default(),
            // As after a restore: messages of lower epochs are of a time that did not come to pass.
            pulses: [Pulse { epoch: 1000, beat: 0 }; 2],
            watermarks: [0; PARTS],
        }
    }
}

/// The retention class of a tenant: two are enough.
pub(super) fn retention(tenant: Uuid) -> &'static str {
    if tenant.as_u128().is_multiple_of(2) { "extended" } else { "standard" }
}

/// The digest of a row: here any that differs from those of others.
pub(super) fn digest_of(event: Uuid) -> Digest {
    let mut digest = Digest::default();
    digest[..16].copy_from_slice(event.as_bytes());
    digest
}

impl Postgres {
    pub(super) fn connect(&mut self) -> SessionId {
        self.last_session += 1;
        self.sessions.insert(self.last_session, Session::default());
        self.last_session
    }

    pub(super) fn lives(&self, id: SessionId) -> bool {
        self.sessions.get(&id).is_some_and(|session| !session.orphan)
    }

    /// The client of a session is gone. The server notices that later; a COMMIT that was sent it may still hear.
    pub(super) fn leave(&mut self, id: SessionId, committing: bool) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.orphan = true;
            session.transaction.committing |= committing;
        }
    }

    /// Sessions whose client is gone, and whether somebody said COMMIT there.
    pub(super) fn orphans(&self) -> Vec<(SessionId, bool)> {
        let orphans = self.sessions.iter().filter(|(_, session)| session.orphan);
        orphans.map(|(id, session)| (*id, session.transaction.committing)).collect()
    }

    /// Sessions that hold locks: some of them for longer than is allowed.
    pub(super) fn idle_in_transaction(&self) -> Vec<SessionId> {
        self.locks.values().copied().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Ends a session; what was not committed is rolled back.
    pub(super) fn end(&mut self, id: SessionId) {
        self.rollback(id);
        self.sessions.remove(&id);
        for holders in self.advisory.values_mut() {
            holders.remove(&id);
        }
    }

    /// All sessions end. Numbers that were reserved ahead are not given again.
    pub(super) fn crash(&mut self, skipped: i64) {
        for id in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.end(id);
        }
        self.last_id += skipped;
    }

    /// Gives the session's transaction an id, if it has none.
    pub(super) fn xid(&mut self, id: SessionId) -> Option<Xid> {
        let transaction = &mut self.sessions.get_mut(&id)?.transaction;
        let xid = *transaction.xid.get_or_insert_with(|| {
            self.last_xid += 1;
            self.running.insert(self.last_xid);
            self.last_xid
        });
        Some(xid)
    }

    /// The next number of the outbox, which nobody gives back.
    pub(super) const fn next_id(&mut self) -> i64 {
        self.last_id += 1;
        self.last_id
    }

    /// Takes a lock until the end of the transaction; false while somebody else has it.
    pub(super) fn lock(&mut self, id: SessionId, lock: Lock) -> bool {
        *self.locks.entry(lock).or_insert(id) == id
    }

    /// Takes the lock that a session holds as long as it lives.
    pub(super) fn try_advisory_lock(&mut self, id: SessionId, led: Led) -> bool {
        let holders = self.advisory.entry(led).or_default();
        let free = holders.iter().all(|holder| *holder == id);
        if free {
            holders.insert(id);
        }
        free
    }

    pub(super) fn stage(&mut self, id: SessionId, change: Change) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.transaction.changes.push(change);
        }
    }

    /// Forgets the changes after the first so many, and the locks of the records that they were to, as ROLLBACK TO SAVEPOINT
    /// does.
    pub(super) fn back_to(&mut self, id: SessionId, changes: usize) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.transaction.changes.truncate(changes);
        let kept = &session.transaction.changes;
        self.locks.retain(|lock, holder| {
            *holder != id
                || kept.iter().any(|change| match change {
                    Change::Event(row) => *lock == Lock::Record(row.record),
                    _ => true,
                })
        });
    }

    pub(super) fn staged(&self, id: SessionId) -> &[Change] {
        self.sessions.get(&id).map_or(&[], |session| &session.transaction.changes)
    }

    pub(super) fn rollback(&mut self, id: SessionId) {
        self.close(id);
    }

    /// Commits; says what that changed, for whoever checks.
    pub(super) fn commit(&mut self, id: SessionId) -> Vec<Committed> {
        let mut committed = Vec::new();
        for change in self.close(id) {
            self.apply(change, &mut committed);
        }
        committed
    }

    fn close(&mut self, id: SessionId) -> Vec<Change> {
        let Some(session) = self.sessions.get_mut(&id) else { return Vec::new() };
        let transaction = std::mem::take(&mut session.transaction);
        if let Some(xid) = transaction.xid {
            self.running.remove(&xid);
            self.last_ended = self.last_ended.max(xid);
        }
        self.locks.retain(|_, holder| *holder != id);
        transaction.changes
    }

    fn apply(&mut self, change: Change, committed: &mut Vec<Committed>) {
        match change {
            Change::Event(row) => {
                self.records[row.record].version = row.version;
                committed.push(Committed::Event(row.clone()));
                self.outbox.insert(row.id, row);
            }
            Change::Beat(led) => self.pulses[led as usize].beat += 1,
            Change::Epoch(led, epoch) => self.pulses[led as usize].epoch = epoch,
            Change::Move(term, batch, lines) => {
                for (line, written) in batch.lines.iter().zip(&lines) {
                    self.outbox.remove(&line.id);
                    self.tenants.insert(written.tenant_id, written.tenant_number);
                    self.links.push(line.link);
                }
                self.heads = batch.heads;
                self.log.extend(lines);
                committed.push(Committed::Move(term));
            }
            Change::Note(term, note) => {
                self.note = note;
                committed.push(Committed::Note(term));
            }
            Change::Effect(line) => committed.push(Committed::Effect(Box::new(line))),
            Change::Heard(part, number) => self.watermarks[part] = number,
        }
    }

    /// Everything below is over, and nothing from there on had ended: `pg_current_snapshot()`.
    pub(super) fn snapshot(&self) -> (Xid, Xid) {
        let xmax = self.last_ended + 1;
        (self.running.first().map_or(xmax, |first| xmax.min(*first)), xmax)
    }

    pub(super) const fn pulse(&self, led: Led) -> Pulse {
        self.pulses[led as usize]
    }

    /// A row as a look sees it.
    pub(super) fn waiting(&self, row: &Row) -> (Waiting, i64) {
        let record = &self.records[row.record];
        let waiting = Waiting {
            id: row.id,
            tenant: record.tenant,
            part: record.part,
            retention: retention(record.tenant).to_owned(),
            size: row.size,
        };
        (waiting, self.tenants.get(&record.tenant).copied().unwrap_or_default())
    }

    /// The digests of rows of the outbox, if all of them are there.
    pub(super) fn digests(&self, ids: &[i64]) -> Option<Vec<Digest>> {
        ids.iter().map(|id| Some(digest_of(self.outbox.get(id)?.event))).collect()
    }

    /// What a batch makes of the rows of the outbox; of those that are there.
    pub(super) fn lines(&self, batch: &Batch) -> Vec<log::Line> {
        let found = batch.lines.iter().filter_map(|line| Some((line, self.outbox.get(&line.id)?)));
        found
            .map(|(line, row)| {
                let record = &self.records[row.record];
                log::Line {
                    number: line.number,
                    part: record.part.into(),
                    part_number: line.part_number,
                    tenant_number: line.tenant_number,
                    event_id: row.event,
                    tenant_id: record.tenant,
                    record_id: record.id,
                    version: row.version,
                    ..blank()
                }
            })
            .collect()
    }

    /// Lines of a partition after a number, and who leads: what `LogApi` answers.
    pub(super) fn read_part(&self, part: i16, after: i64, most: usize) -> Vec<log::Line> {
        let lines = self.log.iter().filter(|line| line.part == part && line.part_number > after);
        lines.take(most).cloned().collect()
    }
}

/// A line that says nothing.
pub(super) fn blank() -> log::Line {
    log::Line {
        number: 0,
        part: 0,
        part_number: 0,
        tenant_number: 0,
        event_id: Uuid::nil(),
        tenant_id: Uuid::nil(),
        resource: String::new(),
        record_id: Uuid::nil(),
        version: 0,
        subject: String::new(),
        r#type: String::new(),
        changed_paths: Vec::new(),
        payload: Some(Vec::new()),
        principal: String::new(),
        on_behalf_of: None,
        via: String::new(),
        cause: None,
        trace: None,
        time: Instant::from_parts(0, 0).unwrap(),
    }
}
