//! The effects of events, in one transaction with the watermark.
use std::{collections::HashSet, sync::Arc, time::Duration};

use prost::Message as _;
use rapport_kernel::{Clock, Error, Instant};
use rapport_store::{Db, Reaction, hex_text, is_out_of_reach};

use super::{
    Sabotage, Watermark,
    turns::{Place, Turns},
};
use crate::{
    api::to_proto,
    log::Line,
    parked::{Blocked, ParkedItem, begin_with_blocked, try_later},
    reactions::{Handler, Reactions, Verdict, ctx},
};

/// How often an event that fails is tried before it is parked; in all less than anyone waits for.
const PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(100)];

/// Handlers are called so often in one transaction at most: whoever waits for a place waits until it is over.
const CALLS: usize = 32;

/// What it takes to apply events.
#[derive(Clone, Debug)]
pub(super) struct Effects {
    pub(super) db: Db,
    pub(super) clock: Clock,
    pub(super) reactions: Reactions,
    /// Shared by the lanes.
    pub(super) turns: Turns,
    pub(super) sabotage: Sabotage,
}

/// The next lines of a partition, numbered in this epoch, and the watermark before them.
#[derive(Clone, Copy)]
pub(super) struct Stretch<'l> {
    pub(super) from: Watermark,
    pub(super) epoch: i64,
    pub(super) lines: &'l [Arc<Line>],
}

/// What events wait behind.
type Parked = HashSet<Blocked>;

/// A transaction that has begun.
struct Begun {
    /// Its turn, until it is over.
    place: Place,
    reaction: Reaction,
    /// Lines that a handler is for, by tenant.
    concern: Vec<Arc<Line>>,
    parked: Parked,
}

/// Why a handler did not work an event off.
struct Failure {
    handler: &'static str,
    state: &'static str,
    reason: &'static str,
    problem: String,
    attempts: i64,
}

impl Effects {
    /// Applies lines; says where that leaves the watermark.
    ///
    /// All of them in one transaction. If that does not work, one after the other, and what cannot be worked off is parked.
    /// Whoever has no `place` yet lines up for one.
    ///
    /// # Errors
    /// `Unavailable` while the database cannot be reached, `Conflict` when somebody else has heard some of them.
    pub(super) async fn apply(&self, stretch: Stretch<'_>, place: Option<Place>) -> Result<Watermark, Error> {
        match self.all(stretch, place).await {
            Ok(to) => return Ok(to),
            Err(error) if is_out_of_reach(&error) => return Err(error),
            Err(error) if stretch.lines.len() == 1 => tracing::debug!(%error, "an event failed"),
            Err(error) => tracing::debug!(%error, "events failed together, and are worked off one by one"),
        }
        let mut from = stretch.from;
        for lines in stretch.lines.chunks(1) {
            from = self.one(Stretch { from, lines, ..stretch }).await?;
        }
        Ok(from)
    }

    async fn all(&self, stretch: Stretch<'_>, place: Option<Place>) -> Result<Watermark, Error> {
        let Begun { place, mut reaction, concern, parked } = self.begin(stretch.lines, place).await?;
        for of_tenant in concern.chunk_by(|a, b| a.tenant_id == b.tenant_id) {
            let Some(first) = of_tenant.first() else { continue };
            let mut tx = reaction.enter(ctx(first, &self.clock)).await?;
            for run in self.runs(of_tenant) {
                let Some(first) = run.first() else { continue };
                tx.follow(ctx(first, &self.clock)).await?;
                for handler in self.reactions.of(&first.r#type) {
                    if run.iter().any(|line| is_parked(&parked, handler, line)) {
                        return Err(Error::Conflict);
                    }
                    if let Verdict::Park(problem) = handler.handle(&mut tx, run).await? {
                        return Err(Error::rule("PARKED", problem));
                    }
                }
            }
            reaction.leave(tx).await?;
        }
        self.finish(reaction, stretch, place).await
    }

    /// Lines, cut into those that take effect in one transaction.
    pub(super) fn batches<'l>(&self, lines: &'l [Arc<Line>]) -> impl Iterator<Item = &'l [Arc<Line>]> {
        let mut calls = 0;
        lines.chunk_by(move |a, b| {
            let joins = a.tenant_id == b.tenant_id && self.together(a, b);
            calls += usize::from(!joins && !self.reactions.to_line(b).is_empty());
            let goes_on = calls < CALLS;
            calls %= CALLS;
            goes_on
        })
    }

    /// Lines of a tenant, cut into those that go to their handlers together.
    fn runs<'l>(&self, lines: &'l [Arc<Line>]) -> impl Iterator<Item = &'l [Arc<Line>]> {
        lines.chunk_by(|a, b| self.together(a, b))
    }

    /// Whether two lines of a tenant, one after the other, go to their handlers together.
    fn together(&self, a: &Line, b: &Line) -> bool {
        a.r#type == b.r#type && self.reactions.of(&a.r#type).iter().all(|handler| handler.many)
    }

    /// One line: every handler by itself.
    async fn one(&self, stretch: Stretch<'_>) -> Result<Watermark, Error> {
        let [line] = stretch.lines else { return Ok(stretch.from) };
        let mut pauses = PAUSES.iter();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let Begun { place, mut reaction, parked, .. } = self.begin(stretch.lines, None).await?;
            let mut failures = Vec::new();
            for handler in self.reactions.to_line(line) {
                if is_parked(&parked, handler, line) {
                    failures.push(Failure::behind(handler.name));
                    continue;
                }
                reaction.mark().await?;
                let mut tx = reaction.enter(ctx(line, &self.clock)).await?;
                let handled = match handler.handle(&mut tx, stretch.lines).await {
                    Ok(Verdict::Done) => reaction.leave(tx).await.map(|()| Verdict::Done),
                    other => {
                        reaction.give_up(tx);
                        other
                    }
                };
                match handled {
                    Ok(Verdict::Done) => continue,
                    Err(error) if is_out_of_reach(&error) => return Err(error),
                    Ok(Verdict::Park(problem)) => {
                        failures.push(Failure::parked(handler.name, "PARKED", problem, attempts));
                    }
                    Err(error) => failures.push(Failure::failed(handler.name, &error, attempts)),
                }
                reaction.go_back().await?;
            }
            let retry =
                failures.iter().any(|failure| failure.state == "parked" && failure.reason != "PARKED");
            match pauses.next().filter(|_| retry) {
                Some(pause) => {
                    drop((reaction, place));
                    tokio::time::sleep(*pause).await;
                }
                None => {
                    self.park(&mut reaction, line, &failures).await?;
                    return self.finish(reaction, stretch, place).await;
                }
            }
        }
    }

    /// Begins when it is these lines' turn; says what is parked of those records that a handler is for.
    async fn begin(&self, lines: &[Arc<Line>], place: Option<Place>) -> Result<Begun, Error> {
        let place = match place {
            Some(place) => place,
            None => self.turns.line_up(lines.iter().map(|line| line.tenant_id)).granted().await,
        };
        let mut concern: Vec<_> =
            lines.iter().filter(|line| !self.reactions.to_line(line).is_empty()).cloned().collect();
        // The order within a tenant stays.
        concern.sort_by_key(|line| line.tenant_id);
        let Some(first) = concern.first() else {
            let reaction = self.db.begin_reaction().await?;
            return Ok(Begun { place, reaction, concern, parked: Parked::new() });
        };
        let records: Vec<_> = concern.iter().map(|line| (line.tenant_id, line.record_id)).collect();
        let (producer, ctx) = (self.reactions.producer(), ctx(first, &self.clock));
        let (reaction, parked) = begin_with_blocked(&self.db, producer, &records, Some(&ctx)).await?;
        Ok(Begun { place, reaction, concern, parked })
    }

    /// Moves the watermark and commits; the place is given back then.
    async fn finish(
        &self,
        reaction: Reaction,
        Stretch { from, epoch, lines }: Stretch<'_>,
        _: Place,
    ) -> Result<Watermark, Error> {
        let Some(last) = lines.last() else { return Ok(from) };
        let to = from.moved(last.part_number, epoch);
        let (producer, part) = (hex_text(self.reactions.producer()), last.part);
        let hear =
            format!("SELECT rapport.hear({producer}, {part}::smallint, {}, {})", from.number, to.number);
        reaction.commit_asynchronously(&hear).await?;
        Ok(to)
    }

    /// Writes down what was not worked off, where people see it.
    async fn park(&self, reaction: &mut Reaction, line: &Line, failures: &[Failure]) -> Result<(), Error> {
        if failures.is_empty() || self.sabotage == Sabotage::NoParking {
            return Ok(());
        }
        let mut tx = reaction.enter(ctx(line, &self.clock)).await?;
        for failure in failures {
            let now: Instant = self.clock.now();
            tracing::warn!(
                tenant.id = %line.tenant_id, event.id = %line.event_id, handler = failure.handler,
                reason = failure.reason, state = failure.state, "an event is parked"
            );
            let item = ParkedItem {
                id: self.clock.new_uuid(),
                version: 1,
                kind: "event".into(),
                producer: self.reactions.producer().to_owned(),
                handler: failure.handler.to_owned(),
                event_id: line.event_id,
                r#type: line.r#type.clone(),
                resource: line.resource.clone(),
                record_id: line.record_id,
                record_version: line.version,
                part: line.part,
                part_number: line.part_number,
                state: failure.state.to_owned(),
                reason: failure.reason.to_owned(),
                problem: failure.problem.clone(),
                attempts: failure.attempts,
                line: to_proto(line).encode_to_vec(),
                event_time: line.time,
                create_time: now,
                update_time: now,
            };
            // What a handler parks itself waits for a person.
            if failure.state == "parked" && failure.reason != "PARKED" {
                try_later(&mut tx, item.id).await?;
            }
            item.create(&mut tx)?;
        }
        reaction.leave(tx).await
    }
}

impl Failure {
    fn behind(handler: &'static str) -> Self {
        let problem = "an earlier event of this record is parked".to_owned();
        Self { handler, state: "behind", reason: "BEHIND", problem, attempts: 0 }
    }

    const fn parked(handler: &'static str, reason: &'static str, problem: String, attempts: i64) -> Self {
        Self { handler, state: "parked", reason, problem, attempts }
    }

    fn failed(handler: &'static str, error: &Error, attempts: i64) -> Self {
        tracing::warn!(handler, error = crate::lead::cause(error), "a handler failed");
        Self::parked(handler, error.reason(), error.to_string(), attempts)
    }
}

fn is_parked(parked: &Parked, handler: &Handler, line: &Line) -> bool {
    !parked.is_empty() && parked.contains(&(handler.name.to_owned(), line.tenant_id, line.record_id))
}
