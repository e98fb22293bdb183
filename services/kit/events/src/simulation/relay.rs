//! The relay's driver: stands for `relay/drive.rs`.
use std::collections::VecDeque;

use uuid::Uuid;

use super::{
    bus::{Answer, ClientId, Publication},
    leader::Term,
    mutant::Mutant,
    postgres::{Change, Led, Lock},
    session::Session,
    world::{Shared, Stop, pause},
};
use crate::{
    bus::Message,
    fresh::Fresh,
    log::Line,
    relay::{Check, Extent, Note, Progress},
};

/// Stands for `relay`.
pub(super) async fn relay(world: &Shared, client: ClientId, term: &Term, fresh: &Fresh) -> Stop {
    let session = Session::connect(world).await;
    match session.read(|postgres| postgres.note.clone()).await {
        Ok(note) => {
            let mut relay = Relay {
                world,
                client,
                term,
                fresh,
                session,
                noted: note.clone(),
                progress: Progress::new(note),
                grown: true,
                lines: VecDeque::new(),
                answers: VecDeque::new(),
            };
            relay.run().await
        }
        Err(stop) => stop,
    }
}

/// What a stream is; and the last number of what it holds of the log, with the bus's own number for it.
type Held = (Extent, Option<(i64, u64)>);

struct Relay<'r> {
    world: &'r Shared,
    client: ClientId,
    term: &'r Term,
    fresh: &'r Fresh,
    session: Session,
    progress: Progress,
    noted: Note,
    grown: bool,
    lines: VecDeque<Line>,
    /// What was sent: the line's number, and the publication.
    answers: VecDeque<(i64, usize)>,
}

impl Relay<'_> {
    async fn run(&mut self) -> Stop {
        let mut connections = self.world.bus.borrow().connections();
        let (mut checked, mut asked) = (false, false);
        loop {
            match self.turn(&mut connections, &mut checked, &mut asked).await {
                Ok(()) => pause().await,
                Err(stop) => return stop,
            }
        }
    }

    /// One turn of the loop in `relay`.
    async fn turn(
        &mut self,
        connections: &mut u64,
        checked: &mut bool,
        asked: &mut bool,
    ) -> Result<(), Stop> {
        let world = self.world;
        if self.noted != self.progress.note && world.one_in(4) {
            self.note().await?;
        }
        let now = world.bus.borrow().connections();
        if std::mem::replace(connections, now) != now {
            *checked = false;
        }
        // A minute is over if chance will have it.
        *checked &= !world.one_in(60);
        let trusted = *asked && world.errs(Mutant::BusAskedOnce);
        if !*checked && !trusted {
            if !self.check().await? {
                return Ok(());
            }
            (*checked, *asked) = (true, true);
        }
        let answered = if self.fill().await? {
            let Some((number, publication)) = self.answers.front().copied() else {
                self.grown = true;
                return Ok(());
            };
            match world.bus.borrow().answer(publication) {
                Answer::Pending => {
                    self.grown = true;
                    return Ok(());
                }
                Answer::Held(sequence) => {
                    self.answers.pop_front();
                    Some((number, sequence))
                }
                Answer::Never => None,
            }
        } else {
            None
        };
        match answered {
            Some((number, sequence)) => self.progress.holds(number, sequence),
            None => {
                let attempt = self.progress.note.attempt;
                if !world.errs(Mutant::UnansweredNotSentAgain) {
                    self.progress.unsure();
                }
                if world.errs(Mutant::AttemptNotCounted) {
                    self.progress.note.attempt = attempt;
                }
                self.forget();
                *checked = false;
            }
        }
        Ok(())
    }

    /// Whether the bus still holds what it said; goes back if not. False when the bus does not answer.
    async fn check(&mut self) -> Result<bool, Stop> {
        let world = self.world;
        let Some(found) = self.look().await? else { return Ok(false) };
        let Some((stream, held)) = found else { return Ok(true) };
        let (back_to, sequence) = held.unwrap_or_default();
        let sequence = if world.errs(Mutant::PlaceNotNoted) { 0 } else { sequence };
        let Note { number, attempt, stream_created, .. } = self.progress.note.clone();
        let another = stream_created != stream.created;
        self.progress.goes_back(back_to, sequence, stream);
        if world.errs(Mutant::AttemptNotCounted) {
            self.progress.note.attempt = attempt;
        }
        if another && world.errs(Mutant::GoesOnAfterWipe) {
            (self.progress.note.number, self.progress.sent) = (number, number);
        }
        world.say(|| format!("relay {} goes back to {:?}", self.term.number, self.progress));
        self.forget();
        Ok(true)
    }

    /// Nothing, if the bus holds what it said. If not: what it holds. `None` when the bus does
    /// not answer.
    async fn look(&mut self) -> Result<Option<Option<Held>>, Stop> {
        pause().await;
        let Some(extent) = self.world.bus.borrow().extent() else { return Ok(None) };
        let check = self.progress.check(&extent);
        if check == Check::Nothing {
            return Ok(Some(None));
        }
        if let Check::At(noted) = check {
            let Some(found) = self.line_at(noted).await else { return Ok(None) };
            if let Some((number, event)) = found
                && number == self.progress.note.number
                && self.log_has(number, event).await?
            {
                return Ok(Some(None));
            }
        }
        if check != Check::Another {
            let Some(found) = self.line_at(extent.last).await else { return Ok(None) };
            if let Some((number, event)) = found
                && self.log_has(number, event).await?
            {
                let last = extent.last;
                return Ok(Some(Some((extent, Some((number, last))))));
            }
        }
        Ok(Some(Some((extent, None))))
    }

    async fn line_at(&self, sequence: u64) -> Option<Option<(i64, Uuid)>> {
        pause().await;
        self.world.bus.borrow().line_at(sequence)
    }

    async fn log_has(&self, number: i64, event: Uuid) -> Result<bool, Stop> {
        let any = self.world.errs(Mutant::NumbersBelieved);
        let ours = |line: &Line| line.number == number && (line.event_id == event || any);
        self.session.read(|postgres| postgres.log.iter().any(ours)).await
    }

    /// Sends lines until enough are on their way. False when the bus takes none.
    async fn fill(&mut self) -> Result<bool, Stop> {
        while self.answers.len() < self.world.sizes.window {
            let Some(line) = self.lines.pop_front() else {
                if !std::mem::take(&mut self.grown) {
                    return Ok(true);
                }
                self.lines = self.fresh.after(self.progress.sent);
                if self.lines.is_empty() {
                    let (sent, piece) = (self.progress.sent, self.world.sizes.page);
                    let read = |log: &[Line]| {
                        log.iter().filter(|line| line.number > sent).take(piece).cloned().collect()
                    };
                    self.lines = self.session.read(|postgres| read(&postgres.log)).await?;
                    self.grown = self.lines.len() == piece;
                }
                if self.lines.is_empty() {
                    return Ok(true);
                }
                continue;
            };
            let number = line.number;
            pause().await;
            let message = Message { epoch: self.term.epoch, line, tombstone: None };
            let after = (!self.world.errs(Mutant::PlaceNotSaid)).then_some(self.progress.end);
            let publication = Publication { attempt: self.progress.note.attempt, message, after };
            let Some(sent) = self.world.bus.borrow_mut().publish(self.client, publication) else {
                return Ok(false);
            };
            self.world.say(|| format!("relay {} sends {number}", self.term.number));
            self.answers.push_back((number, sent));
            self.progress.sent(number);
            if self.world.errs(Mutant::HeldWhenSent) {
                self.progress.note.number = number;
            }
        }
        Ok(true)
    }

    fn forget(&mut self) {
        self.lines.clear();
        self.answers.clear();
        self.grown = true;
    }

    /// Notes how far the bus has come: one statement, which locks the lead.
    async fn note(&mut self) -> Result<(), Stop> {
        let note = self.progress.note.clone();
        if !self.world.errs(Mutant::LeadNotLocked) {
            self.session.lock(Lock::Lead(Led::Log)).await?;
        }
        let epoch = self.session.read(|postgres| postgres.pulse(Led::Log).epoch).await?;
        if epoch != self.term.epoch && !self.world.errs(Mutant::NoteNotFenced) {
            return Err(Stop::Deposed);
        }
        self.session.lock(Lock::Relay).await?;
        self.session.stage(Change::Note(self.term.number, note.clone()));
        self.session.commit().await?;
        self.noted = note;
        Ok(())
    }
}
