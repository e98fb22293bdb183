//! What goes wrong. Not everything in each run: what would be healed by the next fault shows where that does not come.
use uuid::Uuid;

use super::{
    bus::{Publication, forged},
    postgres::{Led, PARTS, Postgres, SessionId, blank},
    process::Process,
    session::commit,
    world::Shared,
};
use crate::{bus::Message, log::Line};

/// What may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// A process is killed.
    Kill,
    /// A process stands still, and comes back.
    Sleep,
    /// PostgreSQL is killed.
    Crash,
    /// PostgreSQL ends a session that holds locks for too long.
    IdleInTransaction,
    /// A transaction of another database of the server.
    Foreign,
    /// The bus stops, or starts again.
    Down,
    /// The bus loses its last messages.
    LoseTail,
    /// The bus loses everything.
    Wipe,
    /// The bus forgets which ids it has had.
    ForgetIds,
    /// Somebody else publishes.
    Forge,
}

const FAULTS: [Fault; 10] = [
    Fault::Kill,
    Fault::Sleep,
    Fault::Crash,
    Fault::IdleInTransaction,
    Fault::Foreign,
    Fault::Down,
    Fault::LoseTail,
    Fault::Wipe,
    Fault::ForgetIds,
    Fault::Forge,
];

/// Whoever makes it go wrong.
pub(super) struct Nemesis {
    world: Shared,
    /// What goes wrong in this run.
    faults: Vec<Fault>,
    /// Once in so many steps.
    rate: usize,
    /// What goes wrong once more, and in how many steps: troubles come in pairs.
    again: Option<(usize, Fault)>,
    foreign: Option<SessionId>,
    forged: u128,
}

impl Nemesis {
    pub(super) fn new(world: &Shared) -> Self {
        let faults = FAULTS.into_iter().filter(|_| world.one_in(2)).collect();
        let rate = world.from(15, 80);
        Self { world: world.clone(), faults, rate, again: None, foreign: None, forged: 0 }
    }

    /// Nothing goes wrong any more. The bus may be gone for good.
    pub(super) fn rest(&mut self, processes: &mut [Process]) {
        self.world.calm.set(true);
        for process in processes {
            process.sleep(0);
        }
        if let Some(foreign) = self.foreign.take() {
            self.world.postgres.borrow_mut().end(foreign);
        }
        let gone = self.faults.contains(&Fault::Down) && self.world.one_in(4);
        self.world.bus.borrow_mut().set_down(gone);
    }

    /// Does what it does beside a step.
    pub(super) fn act(&mut self, processes: &mut [Process]) {
        if self.world.one_in(20) {
            self.notice_orphan();
        }
        let Some(fault) = self.next() else { return };
        self.world.say(|| format!("{fault:?}"));
        let world = self.world.clone();
        match fault {
            Fault::Kill | Fault::Sleep => {
                let mortal: Vec<_> =
                    (0..processes.len()).filter(|at| processes[*at].may_be_killed()).collect();
                let at = mortal[world.below(mortal.len())];
                world.say(|| format!("… of {at}"));
                match fault {
                    Fault::Kill => processes[at].kill(&world),
                    _ => processes[at].sleep(world.from(3, 60)),
                }
            }
            Fault::Crash => {
                if world.one_in(3) {
                    self.crash();
                }
            }
            Fault::IdleInTransaction => {
                let idle = world.postgres.borrow().idle_in_transaction();
                if !idle.is_empty() {
                    let id = idle[world.below(idle.len())];
                    world.postgres.borrow_mut().end(id);
                }
            }
            Fault::Foreign => {
                let mut postgres = world.postgres.borrow_mut();
                match self.foreign.take() {
                    Some(id) => postgres.end(id),
                    None => {
                        let id = postgres.connect();
                        postgres.xid(id);
                        self.foreign = Some(id);
                    }
                }
            }
            Fault::Down => {
                let down = world.bus.borrow().is_down();
                world.bus.borrow_mut().set_down(!down);
            }
            Fault::LoseTail => {
                let (lost, ids, durable) = (world.from(1, 6), world.one_in(2), world.one_in(2));
                world.bus.borrow_mut().lose_tail(lost as u64, ids, durable);
            }
            Fault::Wipe => {
                if world.one_in(3) {
                    world.bus.borrow_mut().wipe();
                }
            }
            Fault::ForgetIds => world.bus.borrow_mut().forget_ids(),
            Fault::Forge => self.forge(),
        }
    }

    /// What goes wrong now.
    fn next(&mut self) -> Option<Fault> {
        if self.world.calm.get() {
            return None;
        }
        match self.again.take() {
            Some((0, fault)) => return Some(fault),
            Some((steps, fault)) => self.again = Some((steps - 1, fault)),
            None => {}
        }
        if self.faults.is_empty() || !self.world.one_in(self.rate) {
            return None;
        }
        let fault = self.faults[self.world.below(self.faults.len())];
        if self.world.one_in(4) {
            self.again = Some((self.world.from(5, 60), fault));
        }
        Some(fault)
    }

    /// PostgreSQL sees that a client is gone.
    fn notice_orphan(&self) {
        let orphans = self.world.postgres.borrow().orphans();
        if orphans.is_empty() {
            return;
        }
        let (id, committing) = orphans[self.world.below(orphans.len())];
        if committing && self.world.one_in(2) {
            self.world.say(|| format!("session {id} commits, and nobody hears it"));
            commit(&self.world, id);
        }
        self.world.postgres.borrow_mut().end(id);
    }

    fn crash(&self) {
        let orphans = self.world.postgres.borrow().orphans();
        for (id, committing) in orphans {
            if committing && self.world.one_in(2) {
                commit(&self.world, id);
            }
        }
        let skipped = self.world.below(4) as i64;
        self.world.postgres.borrow_mut().crash(skipped);
    }

    /// Publishes what did not happen, in an epoch that is over since before a restore, or none was yet.
    fn forge(&mut self) {
        let world = &self.world;
        self.forged += 1;
        let message = self.message(&world.postgres.borrow());
        world.say(|| format!("… as {message:?}"));
        world.bus.borrow_mut().store(Publication { attempt: 0, message, after: None });
    }

    fn message(&self, postgres: &Postgres) -> Message {
        let world = &self.world;
        let part = world.below(PARTS);
        let lost = [0, 1, 999, postgres.pulse(Led::Log).epoch + 1_000_000, i64::MAX];
        // Mostly the next one, where that is heard by then.
        let next = [postgres.watermarks[part], postgres.heads.parts[part]][world.below(2)];
        let line = Line {
            number: world.below(postgres.heads.number as usize + 3) as i64,
            part: part as i16,
            part_number: next + world.from(0, 2) as i64,
            event_id: forged(self.forged),
            tenant_id: Uuid::from_u128(1),
            record_id: postgres.records[0].id,
            version: 1,
            ..blank()
        };
        Message { epoch: lost[world.below(lost.len())], line, tombstone: None }
    }
}
