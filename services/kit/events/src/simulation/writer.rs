//! Those who write: transactions that lock records, change them and emit, hold their numbers open for any time, go back to
//! savepoints, give up, and die.
use uuid::Uuid;

use super::{
    mutant::Mutant,
    postgres::{Change, Lock, Record, Row},
    session::Session,
    world::{Shared, Stop, rest},
};

/// How a tenant writes.
#[derive(Clone, Copy)]
pub(super) struct Habit {
    pub(super) transactions: usize,
    /// Changes of a transaction at most.
    pub(super) changes: usize,
    pub(super) records: usize,
    /// Bytes of an event.
    pub(super) size: i64,
}

/// Makes the records of a tenant; says the first of them.
pub(super) fn settle(world: &Shared, tenant: Uuid, habit: Habit) -> usize {
    let mut postgres = world.postgres.borrow_mut();
    let first = postgres.records.len();
    for n in 0..habit.records {
        let id = Uuid::from_u128(1000 + (first + n) as u128);
        let part = world.below(super::postgres::PARTS) as u8;
        postgres.records.push(Record { id, tenant, part, version: 0 });
    }
    first
}

/// Writes.
pub(super) async fn write(world: Shared, first: usize, habit: Habit) {
    for _ in 0..habit.transactions {
        let _ = transaction(&world, first, habit).await;
        rest(&world, 6).await;
    }
}

async fn transaction(world: &Shared, first: usize, habit: Habit) -> Result<(), Stop> {
    let session = Session::connect(world).await;
    // What one transaction locks, it locks in the order of the records, as everyone does: nobody waits in a circle.
    let mut record = first + world.below(habit.records);
    let (late, most) = (world.errs(Mutant::NumbersBeforeTransaction), world.from(1, habit.changes));
    for _ in 0..most {
        let savepoint = world.postgres.borrow().staged(session.id()).len();
        session.lock(Lock::Record(record)).await?;
        // `rapport.emit`: first an id of the transaction, then numbers of the outbox.
        let before = if late { 0 } else { session.xid().await? };
        let id = session.ask(|postgres, _| postgres.next_id()).await?;
        if late {
            rest(world, 40).await;
        }
        let xid = if late { session.xid().await? } else { before };
        emit(world, &session, Row { id, xid, event: Uuid::nil(), record, version: 0, size: habit.size });
        if world.fails(8) {
            world.postgres.borrow_mut().back_to(session.id(), savepoint);
        }
        if world.one_in(3) && record + 1 < first + habit.records {
            record += 1;
        }
    }
    rest(world, if world.fails(4) { 60 } else { 4 }).await;
    if world.fails(8) {
        session.rollback();
        return Ok(());
    }
    session.commit().await
}

/// Writes a row of the outbox for the next version of its record.
fn emit(world: &Shared, session: &Session, row: Row) {
    let mut postgres = world.postgres.borrow_mut();
    let staged = postgres.staged(session.id());
    let last = staged.iter().rev().find_map(|change| match change {
        Change::Event(staged) if staged.record == row.record => Some(staged.version),
        _ => None,
    });
    let version = last.unwrap_or(postgres.records[row.record].version) + 1;
    // An event is told by the number that it took, which nobody takes again.
    let event = Uuid::from_u128(1_000_000 + row.id as u128);
    world.say(|| {
        format!("session {} writes {} of record {} version {version}", session.id(), row.id, row.record)
    });
    postgres.stage(session.id(), Change::Event(Row { event, version, ..row }));
}
