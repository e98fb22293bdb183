//! A lane: stands for `consume/lane.rs` and what `consume/apply.rs` does with the watermark.
use std::cell::RefCell;

use uuid::Uuid;

use super::{
    bus::Acker,
    consumer::{Arrival, Hearing},
    mutant::Mutant,
    postgres::{Change, Led, Lock, PARTS},
    session::Session,
    world::{Shared, Stop, pause},
};
use crate::{
    bus::Message,
    consume::{Judgement, Watermark},
    log::Line,
};

/// A lane at work.
pub(super) struct Lane<'l> {
    pub(super) world: &'l Shared,
    pub(super) part: usize,
    pub(super) at: Watermark,
    pub(super) hearing: &'l Hearing,
    pub(super) term: u64,
    /// For a mutant: what a process remembers when it begins anew.
    pub(super) remembered: &'l RefCell<[Watermark; PARTS]>,
}

impl Lane<'_> {
    /// Stands for `Lane::run`.
    pub(super) async fn run(mut self) -> Stop {
        loop {
            pause().await;
            if let Err(stop) = self.work_off(self.arrivals()).await {
                return stop;
            }
        }
    }

    fn arrivals(&self) -> Vec<Arrival> {
        let mut waiting = self.hearing.entries[self.part].borrow_mut();
        let count = waiting.len().min(self.world.sizes.arrivals);
        waiting.drain(..count).collect()
    }

    async fn work_off(&mut self, arrivals: Vec<Arrival>) -> Result<(), Stop> {
        let mut next = Vec::new();
        let mut ackers = Vec::new();
        for arrival in arrivals {
            match arrival {
                Arrival::Behind(number) => {
                    self.take(&mut next).await?;
                    if self.at.number < number {
                        self.catch_up(number).await?;
                    }
                }
                Arrival::Message(arrived) => {
                    let (message, acker) = *arrived;
                    ackers.push((message.line.part_number, message.line.event_id, acker));
                    self.message(message, &mut next).await?;
                }
            }
        }
        if self.world.errs(Mutant::AckBeforeCommit) {
            self.acknowledge(&mut ackers).await;
        }
        self.take(&mut next).await?;
        self.acknowledge(&mut ackers).await;
        Ok(())
    }

    /// What `Watermark::judge` says, unless a mutant says otherwise.
    fn judge(&self, at: Watermark, number: i64, epoch: i64) -> Judgement {
        let world = self.world;
        let next = number == at.number + 1;
        let asked = at.epoch > 0;
        let believed = world.errs(Mutant::KnownOnlyBelow) && number == at.number && epoch == at.epoch
            || world.errs(Mutant::GapSkipped) && number > at.number && epoch == at.epoch
            || world.errs(Mutant::UnknownEpochBelieved) && next && !asked
            || world.errs(Mutant::HigherEpochBelieved) && next && asked && epoch >= at.epoch
            || world.errs(Mutant::LowerEpochBelieved) && next && asked && epoch <= at.epoch;
        if believed { Judgement::Next } else { at.judge(number, epoch) }
    }

    async fn message(&mut self, message: Message, next: &mut Vec<Line>) -> Result<(), Stop> {
        let at = next.last().map_or(self.at, |line| self.at.moved(line.part_number, self.at.epoch));
        let number = message.line.part_number;
        let judgement = self.judge(at, number, message.epoch);
        self.world.say(|| {
            format!(
                "lane {} of {}: {number} of {} is {judgement:?} at {at:?}",
                self.part, self.term, message.epoch
            )
        });
        match judgement {
            Judgement::Known => Ok(()),
            Judgement::Next => {
                next.push(message.line);
                Ok(())
            }
            Judgement::Ask => {
                self.take(next).await?;
                if self.world.errs(Mutant::LogNotAsked) {
                    return Ok(());
                }
                let found = self.catch_up(number).await?;
                if self.world.errs(Mutant::EpochOfMessages) {
                    self.at.epoch = self.at.epoch.max(message.epoch);
                }
                if found != Some(message.line.event_id) && self.at.number < number {
                    self.world.checker.borrow_mut().doubted(message.line.event_id);
                }
                Ok(())
            }
        }
    }

    async fn take(&mut self, lines: &mut Vec<Line>) -> Result<(), Stop> {
        let lines = std::mem::take(lines);
        self.apply(self.at.epoch, &lines).await
    }

    /// Stands for `Effects::apply` and `finish`: the effects and `rapport.hear` in one transaction.
    async fn apply(&mut self, epoch: i64, lines: &[Line]) -> Result<(), Stop> {
        let Some(last) = lines.last() else { return Ok(()) };
        let (world, from) = (self.world, self.at);
        let to = from.moved(last.part_number, epoch);
        let session = Session::connect(world).await;
        for line in lines {
            session.stage(Change::Effect(line.clone()));
        }
        session.lock(Lock::Watermark(self.part)).await?;
        let number = session.read(|postgres| postgres.watermarks[self.part]).await?;
        if number != from.number && !world.errs(Mutant::WatermarkNotCompared) {
            return Err(Stop::Deposed);
        }
        session.stage(Change::Heard(self.part, to.number));
        let committed = session.commit().await;
        if committed.is_ok() || world.errs(Mutant::WatermarkKept) {
            self.at = to;
            self.hearing.heard[self.part].set(to.number);
            self.remembered.borrow_mut()[self.part] = to;
        }
        committed
    }

    /// Stands for `Lane::catch_up`, and for `LogApi::lines`: first the lines, then who leads.
    async fn catch_up(&mut self, to: i64) -> Result<Option<Uuid>, Stop> {
        while self.at.number < to {
            pause().await;
            if self.world.fails(10) {
                continue;
            }
            let (part, after, page) = (self.part as i16, self.at.number, self.world.sizes.page);
            let lines = self.world.postgres.borrow().read_part(part, after, page);
            pause().await;
            let epoch = self.world.postgres.borrow().pulse(Led::Log).epoch;
            self.at.epoch = self.at.epoch.max(epoch);
            if lines.is_empty() {
                break;
            }
            self.apply(epoch, &lines).await?;
            if let Some(line) = lines.iter().find(|line| line.part_number == to) {
                return Ok(Some(line.event_id));
            }
        }
        Ok(None)
    }

    async fn acknowledge(&self, ackers: &mut Vec<(i64, Uuid, Acker)>) {
        for (number, event, acker) in ackers.drain(..) {
            pause().await;
            let watermark = self.world.postgres.borrow().watermarks[self.part];
            self.world.checker.borrow_mut().acknowledged(self.part, number, event, watermark);
            if !self.world.fails(15) {
                self.world.bus.borrow_mut().acknowledge(acker);
            }
        }
    }
}
