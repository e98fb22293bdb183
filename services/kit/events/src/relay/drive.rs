//! The relay's driver.
use std::{collections::VecDeque, time::Duration};

use async_nats::{
    HeaderValue,
    jetstream::{
        context::PublishErrorKind,
        stream::{LastRawMessageErrorKind, Stream},
    },
};
use futures::{StreamExt as _, future::BoxFuture, stream::FuturesOrdered};
use rapport_kernel::{BoxError, Clock, Error};
use rapport_store::{Db, database};
use sqlx::PgConnection;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Check, Extent, Note, Progress};
use crate::{
    bus::{Bus, Header, Message},
    fresh::Fresh,
    log::{self, Line, Which},
};

/// Lines that are on their way at a time.
const WINDOW: usize = 128;
/// Lines that are read at a time.
const PIECE: usize = 256;
/// How often it is noted how far the bus has come: after a crash that much is published again.
const NOTE: Duration = Duration::from_millis(250);
/// How often the bus is asked whether it still holds what it said.
const CHECK: Duration = Duration::from_secs(60);
/// How often the log is looked into when nobody says that it grew.
const LOOK: Duration = Duration::from_secs(1);
/// The pause after the bus refused something or did not answer.
const PAUSE: Duration = Duration::from_millis(200);
/// What the bus should hold.
const KEEP_HOURS: i64 = 24;

/// An answer of the bus: the line's number, and the bus's own number for it.
type Answer = BoxFuture<'static, Result<(i64, u64), BoxError>>;

/// What a stream is; and the last number of what it holds of the log, with the bus's own number for it.
type Held = (Extent, Option<(i64, u64)>);

/// Publishes the log of `service`, as long as this process leads it in `epoch`. `fresh` has what was just written.
///
/// # Errors
/// When the database fails, or another process leads by now. What is wrong with the bus is waited for.
pub(crate) async fn relay(
    db: &Db,
    bus: &Bus,
    service: &str,
    clock: &Clock,
    epoch: i64,
    fresh: &Fresh,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let mut relay = Relay::begin(db, bus.clone(), service.to_owned(), clock.clone(), epoch).await?;
    let mut connections = bus.connections();
    let mut checked: Option<Instant> = None;
    while !stop.is_cancelled() {
        relay.note(NOTE).await?;
        if connections.has_changed().unwrap_or(false) {
            connections.mark_unchanged();
            checked = None;
        }
        if checked.is_none_or(|at| at.elapsed() >= CHECK) {
            if !relay.check().await? {
                tokio::select! {
                    () = sleep(PAUSE) => continue,
                    () = stop.cancelled() => break,
                }
            }
            checked = Some(Instant::now());
        }
        let look = if relay.is_noted() { LOOK } else { NOTE };
        let answered = match relay.fill(fresh).await? {
            false => Err("it could not be sent".into()),
            true => tokio::select! {
                Some(answer) = relay.answers.next() => answer,
                () = fresh.grown() => { relay.grown = true; continue }
                () = sleep(look) => { relay.grown = true; continue }
                () = stop.cancelled() => break,
            },
        };
        match answered {
            Ok((number, sequence)) => relay.progress.holds(number, sequence),
            Err(error) => {
                tracing::warn!(service, error, "the bus did not take an event, which is sent again");
                relay.unsure();
                checked = None;
                sleep(PAUSE).await;
            }
        }
    }
    relay.note(Duration::ZERO).await
}

/// A relay at work.
struct Relay {
    session: PgConnection,
    bus: Bus,
    service: String,
    clock: Clock,
    epoch: i64,
    progress: Progress,
    /// What was noted last, and when.
    noted: (Note, Instant),
    /// Whether the log may have more than was read.
    grown: bool,
    lines: VecDeque<Line>,
    answers: FuturesOrdered<Answer>,
}

impl Relay {
    async fn begin(db: &Db, bus: Bus, service: String, clock: Clock, epoch: i64) -> Result<Self, Error> {
        let mut session = db.session().await?;
        let note: Note =
            sqlx::query_as("SELECT number, stream_sequence, stream_created, attempt FROM platform.log_relay")
                .fetch_one(&mut session)
                .await
                .map_err(database)?;
        Ok(Self {
            session,
            bus,
            service,
            clock,
            epoch,
            noted: (note.clone(), Instant::now()),
            progress: Progress::new(note),
            grown: true,
            lines: VecDeque::new(),
            answers: FuturesOrdered::new(),
        })
    }

    /// Whether the bus still holds what it said; goes back if not. False when the bus does not answer.
    async fn check(&mut self) -> Result<bool, Error> {
        match self.look().await? {
            Ok(None) => Ok(true),
            Ok(Some((stream, held))) => {
                let (back_to, sequence) = match held {
                    Some(held) => held,
                    None => (self.window_begins().await?, 0),
                };
                if !self.progress.note.stream_created.is_empty() {
                    let lost = (self.progress.note.number - back_to).max(0);
                    tracing::warn!(
                        service = self.service,
                        lost,
                        "the bus lost events, which are published again"
                    );
                }
                self.progress.goes_back(back_to, sequence, stream);
                self.forget();
                Ok(true)
            }
            Err(error) => {
                tracing::debug!(service = self.service, %error, "the bus could not be asked what it holds");
                Ok(false)
            }
        }
    }

    /// Nothing, if the bus holds what it said. If not: up to which number it holds the log, and where that ends.
    async fn look(&mut self) -> Result<Result<Option<Held>, BoxError>, Error> {
        let stream = match self.bus.stream(&self.service).await {
            Ok(stream) => stream,
            Err(error) => return Ok(Err(error.into())),
        };
        let info = stream.cached_info();
        let (first, last) = (info.state.first_sequence, info.state.last_sequence);
        let extent = Extent { created: info.created.to_string(), first, last };
        let check = self.progress.check(&extent);
        if check == Check::Nothing {
            return Ok(Ok(None));
        }
        if let Check::At(noted) = check {
            match line_at(&stream, noted).await {
                Ok(Some((number, event))) if number == self.progress.note.number => {
                    if self.log_has(number, event).await? {
                        return Ok(Ok(None));
                    }
                }
                Ok(_) => {}
                Err(error) => return Ok(Err(error)),
            }
        }
        if check != Check::Another {
            match line_at(&stream, last).await {
                Ok(Some((number, event))) if self.log_has(number, event).await? => {
                    return Ok(Ok(Some((extent, Some((number, last))))));
                }
                Ok(_) => {}
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(Some((extent, None))))
    }

    /// Whether the log has this event under this number: if not, what the bus holds is not ours.
    async fn log_has(&mut self, number: i64, event: Uuid) -> Result<bool, Error> {
        let lines = log::read(&mut self.session, Which::All, number.saturating_sub(1), 1).await?;
        Ok(lines.first().is_some_and(|line| line.number == number && line.event_id == event))
    }

    /// The last number before what the bus should hold.
    async fn window_begins(&mut self) -> Result<i64, Error> {
        let day = self.clock.now().plus_seconds(-KEEP_HOURS * 3600).utc_date();
        sqlx::query_scalar(
            "SELECT coalesce(max(number_before) FILTER (WHERE day <= $1), min(number_before), 0) FROM platform.log_days",
        )
        .bind(day)
        .fetch_one(&mut self.session)
        .await
        .map_err(database)
    }

    /// Sends lines until enough are on their way. False when the bus takes none.
    async fn fill(&mut self, fresh: &Fresh) -> Result<bool, Error> {
        while self.answers.len() < WINDOW {
            let Some(line) = self.lines.pop_front() else {
                if !std::mem::take(&mut self.grown) {
                    return Ok(true);
                }
                self.lines = fresh.after(self.progress.sent);
                if self.lines.is_empty() {
                    self.lines =
                        log::read(&mut self.session, Which::All, self.progress.sent, PIECE).await?.into();
                    self.grown = self.lines.len() == PIECE;
                }
                if self.lines.is_empty() {
                    return Ok(true);
                }
                continue;
            };
            let number = line.number;
            if !self.send(line).await {
                return Ok(false);
            }
            self.progress.sent(number);
        }
        Ok(true)
    }

    /// Sends a line; if the bus can never take it, its tombstone.
    async fn send(&mut self, line: Line) -> bool {
        let (number, erased) = (line.number, line.payload.is_none());
        let mut message =
            Message { epoch: self.epoch, line, tombstone: erased.then(|| "it was erased".to_owned()) };
        loop {
            let (subject, publication) =
                message.publication(self.bus.root(), &self.service, self.progress.note.attempt);
            let publication = publication.expected_last_sequence(self.progress.end);
            match self.bus.jetstream().send_publish(subject, publication).await {
                Ok(answer) => {
                    self.answers.push_back(Box::pin(async move {
                        let held = answer.await?;
                        Ok((number, held.sequence))
                    }));
                    return true;
                }
                Err(error)
                    if error.kind() == PublishErrorKind::MaxPayloadExceeded
                        && message.tombstone.is_none() =>
                {
                    tracing::warn!(service = self.service, event.id = %message.line.event_id, %error, "a tombstone is published");
                    message.tombstone = Some(error.to_string());
                }
                Err(error) => {
                    tracing::debug!(service = self.service, %error, "the bus takes nothing");
                    return false;
                }
            }
        }
    }

    fn unsure(&mut self) {
        self.progress.unsure();
        self.forget();
    }

    /// Forgets what was read and sent beyond what the bus holds.
    fn forget(&mut self) {
        self.lines.clear();
        self.answers = FuturesOrdered::new();
        self.grown = true;
    }

    fn is_noted(&self) -> bool {
        self.noted.0 == self.progress.note
    }

    /// Notes how far the bus has come, if that was not done for so long.
    async fn note(&mut self, every: Duration) -> Result<(), Error> {
        if self.is_noted() || self.noted.1.elapsed() < every {
            return Ok(());
        }
        let Note { number, stream_sequence, stream_created, attempt } = &self.progress.note;
        let written = sqlx::query(
            // Nobody takes the lead while this is written.
            "UPDATE platform.log_relay SET number = $2, stream_sequence = $3, stream_created = $4, attempt = $5
             FROM (SELECT FROM platform.leads WHERE name = 'log' AND epoch = $1 FOR SHARE) AS lead",
        )
        .bind(self.epoch)
        .bind(number)
        .bind(stream_sequence)
        .bind(stream_created)
        .bind(attempt)
        .execute(&mut self.session)
        .await
        .map_err(database)?;
        if written.rows_affected() == 0 {
            return Err(crate::leader::deposed());
        }
        self.noted = (self.progress.note.clone(), Instant::now());
        Ok(())
    }
}

/// The number and the event of the line that the stream holds here.
async fn line_at(stream: &Stream, sequence: u64) -> Result<Option<(i64, Uuid)>, BoxError> {
    match stream.get_raw_message(sequence).await {
        Ok(message) => {
            let text = |header: Header| message.headers.get(header.as_str()).map(HeaderValue::as_str);
            let number = text(Header::Number).and_then(|text| text.parse().ok());
            Ok(number.zip(text(Header::Id).and_then(|text| text.parse().ok())))
        }
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}
