//! Who leads: stands for `leader.rs`.
use super::{
    mutant::Mutant,
    postgres::{Change, Led, Lock},
    session::Session,
    world::{Shared, Stop},
};

/// The time in which a process leads.
pub(super) struct Term {
    pub(super) session: Session,
    pub(super) epoch: i64,
    /// Which of all terms it is, for whoever checks.
    pub(super) number: u64,
    led: Led,
}

impl Term {
    /// Stands for `Term::begin`.
    pub(super) async fn begin(world: &Shared, led: Led) -> Result<Self, Stop> {
        let session = Session::connect(world).await;
        let mut last = session.read(|postgres| postgres.pulse(led)).await?;
        loop {
            let free = session.ask(|postgres, id| postgres.try_advisory_lock(id, led)).await?;
            let pulse = session.read(|postgres| postgres.pulse(led)).await?;
            // A leader that was silent between two looks was so for five seconds if chance will have it.
            let silent = pulse == last && world.fails(40);
            last = pulse;
            if free || silent {
                // UPDATE … SET epoch = epoch + 1 WHERE epoch = $1 AND beat = $2 waits for whoever is writing that row, and
                // looks at it then.
                session.lock(Lock::Lead(led)).await?;
                if session.read(|postgres| postgres.pulse(led)).await? != pulse {
                    session.rollback();
                    continue;
                }
                let raised = pulse.epoch + i64::from(!world.errs(Mutant::EpochNotRaised));
                session.stage(Change::Epoch(led, raised));
                session.commit().await?;
                let number = world.checker.borrow_mut().begins(led);
                return Ok(Self { session, epoch: raised, number, led });
            }
        }
    }

    /// Stands for `Term::beat`.
    pub(super) async fn beat(&self) -> Result<(), Stop> {
        self.session.lock(Lock::Lead(self.led)).await?;
        if self.session.read(|postgres| postgres.pulse(self.led)).await?.epoch != self.epoch {
            self.session.rollback();
            return Err(Stop::Deposed);
        }
        self.session.stage(Change::Beat(self.led));
        self.session.commit().await
    }
}
