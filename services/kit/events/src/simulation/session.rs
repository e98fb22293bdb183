//! A session with PostgreSQL, which may end at any time, and with it what is known of the last thing that was asked.
use super::{
    postgres::{Change, Lock, Postgres, SessionId, Xid},
    world::{Shared, Stop, pause, rest},
};

/// A session. When it is dropped, the server has yet to notice.
pub(super) struct Session {
    world: Shared,
    id: SessionId,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.world.postgres.borrow_mut().leave(self.id, false);
    }
}

impl Session {
    pub(super) async fn connect(world: &Shared) -> Self {
        pause().await;
        let id = world.postgres.borrow_mut().connect();
        Self { world: world.clone(), id }
    }

    /// Waits for an answer, which may not come.
    async fn answer(&self) -> Result<(), Stop> {
        pause().await;
        if self.world.fails(200) {
            self.world.postgres.borrow_mut().leave(self.id, false);
        }
        if self.world.postgres.borrow().lives(self.id) { Ok(()) } else { Err(Stop::Lost) }
    }

    /// Reads what is committed: one statement, in a snapshot of its own.
    pub(super) async fn read<T>(&self, read: impl FnOnce(&Postgres) -> T) -> Result<T, Stop> {
        self.answer().await?;
        let read = read(&self.world.postgres.borrow());
        Ok(read)
    }

    /// Does something that PostgreSQL does at once and outside of transactions.
    pub(super) async fn ask<T>(&self, ask: impl FnOnce(&mut Postgres, SessionId) -> T) -> Result<T, Stop> {
        self.answer().await?;
        let asked = ask(&mut self.world.postgres.borrow_mut(), self.id);
        Ok(asked)
    }

    pub(super) const fn id(&self) -> SessionId {
        self.id
    }

    /// Locks a row for the transaction; waits for whoever has it.
    pub(super) async fn lock(&self, lock: Lock) -> Result<(), Stop> {
        while !self.ask(|postgres, id| postgres.lock(id, lock)).await? {}
        Ok(())
    }

    /// Gives the transaction an id.
    pub(super) async fn xid(&self) -> Result<Xid, Stop> {
        self.ask(|postgres, id| postgres.xid(id).unwrap_or_default()).await
    }

    /// Changes something when the transaction is committed.
    pub(super) fn stage(&self, change: Change) {
        self.world.postgres.borrow_mut().stage(self.id, change);
    }

    /// Rolls back.
    pub(super) fn rollback(&self) {
        self.world.postgres.borrow_mut().rollback(self.id);
    }

    /// Commits. If there is no answer, the transaction was committed, or is rolled back, or one of both happens later.
    pub(super) async fn commit(&self) -> Result<(), Stop> {
        rest(&self.world, 4).await;
        self.answer().await?;
        let (unknown, done) = (self.world.fails(self.world.sizes.unknown), self.world.one_in(2));
        if unknown && !done {
            let committing = self.world.one_in(2);
            self.world.say(|| format!("session {} asks for a commit and ends", self.id));
            self.world.postgres.borrow_mut().leave(self.id, committing);
            return Err(Stop::Lost);
        }
        commit(&self.world, self.id);
        if unknown {
            self.world.say(|| format!("session {} does not learn of its commit", self.id));
            self.world.postgres.borrow_mut().leave(self.id, false);
            return Err(Stop::Lost);
        }
        Ok(())
    }
}

/// Commits what a session has changed.
pub(super) fn commit(world: &Shared, id: SessionId) {
    let committed = world.postgres.borrow_mut().commit(id);
    for committed in committed {
        world.checker.borrow_mut().committed(&world.postgres.borrow(), committed);
    }
}
