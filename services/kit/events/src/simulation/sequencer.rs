//! The sequencer's driver: stands for `sequencer/drive.rs`.
use std::collections::BTreeMap;

use super::{
    leader::Term,
    mutant::Mutant,
    postgres::{Change, Led, Lock},
    world::{Shared, Stop, pause, rest},
};
use crate::{
    digest::Digest,
    fresh::Fresh,
    log,
    sequencer::{Batch, Look, Sabotage, Sequencer, Snapshot, Taken, Waiting},
};

/// Stands for `drive`.
pub(super) async fn drive(world: &Shared, term: &Term, fresh: &Fresh, kept: &mut Option<Sequencer>) -> Stop {
    let mut driver = Driver { world, term, fresh, turned: BTreeMap::new(), last_xmax: 0 };
    let mut sequencer = match kept.take() {
        Some(sequencer) if world.errs(Mutant::MemoryKept) || world.errs(Mutant::MemoryBelieved) => sequencer,
        _ => match driver.begin().await {
            Ok(sequencer) => sequencer,
            Err(stop) => return stop,
        },
    };
    let stop = driver.run(&mut sequencer).await;
    *kept = Some(sequencer);
    stop
}

struct Driver<'d> {
    world: &'d Shared,
    term: &'d Term,
    fresh: &'d Fresh,
    /// For a mutant: the ids that rows go by, and those that they have.
    turned: BTreeMap<i64, i64>,
    /// For a mutant: where the snapshot of the last look ended.
    last_xmax: u64,
}

impl Driver<'_> {
    async fn begin(&self) -> Result<Sequencer, Stop> {
        let sabotage = match self.world {
            world if world.errs(Mutant::GapsForgotten) => Sabotage::NoGaps,
            world if world.errs(Mutant::FirstInFirstOut) => Sabotage::FirstInFirstOut,
            _ => Sabotage::None,
        };
        let heads = self.term.session.read(|postgres| postgres.heads.clone()).await?;
        self.world.checker.borrow_mut().turns.begin(self.term.number);
        Ok(Sequencer::new(heads, sabotage))
    }

    async fn run(&mut self, sequencer: &mut Sequencer) -> Stop {
        loop {
            match self.turn(sequencer).await {
                Ok(()) => {}
                Err(stop) => return stop,
            }
            pause().await;
        }
    }

    /// One turn of the loop in `drive`.
    async fn turn(&mut self, sequencer: &mut Sequencer) -> Result<(), Stop> {
        let sizes = self.world.sizes;
        if sequencer.waiting() < sizes.remembered {
            let (rows, snapshot) = self.look(sequencer.look(), sizes.look).await?;
            self.world.checker.borrow_mut().turns.saw(self.term.number, &rows);
            sequencer.saw(rows, snapshot);
        }
        let taken = sequencer.take(sizes.batch);
        if !taken.is_empty() {
            let digests = self.digests(&taken).await?;
            let batch = sequencer.plan(taken.into_iter().zip(digests));
            self.world.checker.borrow_mut().planned(self.term.number, sizes.batch, &batch);
            let written = self.write(batch).await?;
            if !self.world.errs(Mutant::PublishedBeforeCommit) {
                self.fresh.push(written);
            }
            rest(self.world, 12).await;
        } else if self.world.one_in(8) {
            self.term.beat().await?;
        }
        Ok(())
    }

    /// Stands for `look`: rows above the highest id, at most so many, and rows in the gaps, in one snapshot; then, if need be,
    /// a transaction that begins.
    async fn look(&mut self, look: Look, most: usize) -> Result<(Vec<(Waiting, i64)>, Snapshot), Stop> {
        let Look { above, gaps, begin } = look;
        let session = &self.term.session;
        let (mut rows, xmin, xmax) = session
            .read(|postgres| {
                let mut rows = Vec::new();
                for range in gaps {
                    rows.extend(postgres.outbox.range(range).map(|(_, row)| row.clone()));
                }
                rows.extend(postgres.outbox.range(above + 1..).take(most).map(|(_, row)| row.clone()));
                rows.sort_by_key(|row| row.id);
                let (xmin, xmax) = postgres.snapshot();
                let seen: Vec<_> = rows.iter().map(|row| (postgres.waiting(row), row.xid)).collect();
                (seen, xmin, xmax)
            })
            .await?;
        let now = if begin {
            let xid = session.xid().await?;
            pause().await;
            session.rollback();
            Some(xid)
        } else {
            None
        };
        let noticed = std::mem::replace(&mut self.last_xmax, xmax);
        let snapshot = match self.world {
            world if world.errs(Mutant::GapsDatedBySnapshot) => Snapshot { xmin, now: now.map(|_| noticed) },
            world if world.errs(Mutant::GapsGivenUpAtOnce) => Snapshot { xmin, now: now.map(|_| 0) },
            _ => Snapshot { xmin, now },
        };
        if !rows.is_empty() || begin {
            self.world.say(|| {
                let ids: Vec<_> = rows.iter().map(|((row, _), _)| row.id).collect();
                format!("leader {} looks above {above}: {ids:?} in {snapshot:?}", self.term.number)
            });
        }
        if self.world.errs(Mutant::OrderOfTransactions) {
            self.turn_round(&mut rows);
        }
        Ok((rows.into_iter().map(|(row, _)| row).collect(), snapshot))
    }

    /// For a mutant: the rows of a look go by one another's ids, so that these ascend with those of the transactions.
    fn turn_round(&mut self, rows: &mut [((Waiting, i64), u64)]) {
        let ids: Vec<_> = rows.iter().map(|((row, _), _)| row.id).collect();
        rows.sort_by_key(|((row, _), xid)| (*xid, row.id));
        for (((row, _), _), id) in rows.iter_mut().zip(ids) {
            self.turned.insert(id, row.id);
            row.id = id;
        }
    }

    /// Stands for `digests`.
    async fn digests(&self, taken: &[Taken]) -> Result<Vec<Digest>, Stop> {
        let id = |taken: &Taken| self.turned.get(&taken.row.id).copied().unwrap_or(taken.row.id);
        let ids: Vec<_> = taken.iter().map(id).collect();
        let found = self.term.session.read(|postgres| postgres.digests(&ids)).await?;
        found.ok_or(Stop::Deposed)
    }

    /// Stands for `write`, `MOVE` and `Term::commit`.
    async fn write(&self, mut batch: Batch) -> Result<Vec<log::Line>, Stop> {
        for line in &mut batch.lines {
            line.id = self.turned.get(&line.id).copied().unwrap_or(line.id);
        }
        let session = &self.term.session;
        session.lock(Lock::Lead(Led::Log)).await?;
        session.xid().await?;
        let epoch = self.term.epoch;
        let (led, follows, lines) = session
            .read(|postgres| {
                let follows = postgres.heads.number == batch.heads.number - batch.lines.len() as i64;
                (postgres.pulse(Led::Log).epoch == epoch, follows, postgres.lines(&batch))
            })
            .await?;
        let counts = (led || self.world.errs(Mutant::EpochNotCompared))
            && (follows || self.world.errs(Mutant::MemoryBelieved))
            && lines.len() == batch.lines.len();
        if !counts {
            session.rollback();
            return Err(Stop::Deposed);
        }
        self.world.say(|| {
            let moved: Vec<_> = batch.lines.iter().map(|line| (line.id, line.number)).collect();
            format!("leader {} moves {moved:?}", self.term.number)
        });
        session.stage(Change::Beat(Led::Log));
        session.stage(Change::Move(self.term.number, batch, lines.clone()));
        if self.world.errs(Mutant::PublishedBeforeCommit) {
            self.fresh.push(lines.clone());
        }
        match session.commit().await {
            Err(Stop::Lost) if self.world.errs(Mutant::UnknownIsDone) => Ok(lines),
            committed => committed.map(|()| lines),
        }
    }
}
