//! What the bus does: a stream that loses what it likes, clients whose messages are under way, and one durable.
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use uuid::Uuid;

use crate::{bus::Message, relay::Extent};

pub(super) type ClientId = usize;

type Id = (Uuid, i64, i64);

/// A message with what tells apart publications of the same event.
#[derive(Clone, Debug)]
pub(super) struct Publication {
    pub(super) attempt: i64,
    pub(super) message: Message,
    /// What the stream has to end with: `Nats-Expected-Last-Sequence`.
    pub(super) after: Option<u64>,
}

impl Publication {
    /// `Nats-Msg-Id`.
    const fn id(&self) -> Id {
        (self.message.line.event_id, self.message.epoch, self.attempt)
    }
}

/// An event that did not happen.
pub(super) const fn forged(number: u128) -> Uuid {
    Uuid::from_u128(9_000_000 + number)
}

fn is_forged(event: Uuid) -> bool {
    event >= forged(0)
}

/// What the bus says to a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Pending,
    Held(u64),
    /// It does not come any more, or says no.
    Never,
}

/// What becomes of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Stored,
    Repeated,
    Lost,
    /// It is stored, and nobody is told.
    Silent,
}

/// How to acknowledge a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acker {
    sequence: u64,
    made: u64,
}

/// The consumer that the bus remembers.
#[derive(Clone, Debug, Default)]
struct Durable {
    /// Everything up to here was delivered once.
    delivered: u64,
    /// What was delivered, or left out, and not acknowledged.
    pending: BTreeSet<u64>,
}

/// The bus.
#[derive(Debug, Default)]
pub(super) struct Bus {
    /// How often the stream was made anew.
    made: u64,
    messages: BTreeMap<u64, Publication>,
    last: u64,
    /// Ids that are remembered, to drop repetitions.
    ids: BTreeMap<Id, u64>,
    /// Whether it looks for repetitions before it looks whether a message comes to its place.
    ids_first: bool,
    durable: Durable,
    under_way: BTreeMap<ClientId, VecDeque<(usize, Publication)>>,
    answers: Vec<Answer>,
    connections: u64,
    down: bool,
    overtaken: BTreeSet<i64>,
}

impl Bus {
    pub(super) fn new(ids_first: bool) -> Self {
        Self { ids_first, ..Self::default() }
    }

    /// Grows whenever connections were made anew.
    pub(super) const fn connections(&self) -> u64 {
        self.connections
    }

    pub(super) const fn is_down(&self) -> bool {
        self.down
    }

    /// It stops, or starts.
    pub(super) const fn set_down(&mut self, down: bool) {
        self.down = down;
        self.connections += 1;
    }

    /// Sends a message; it is under way then.
    pub(super) fn publish(&mut self, client: ClientId, publication: Publication) -> Option<usize> {
        if self.down {
            return None;
        }
        self.answers.push(Answer::Pending);
        let at = self.answers.len() - 1;
        self.under_way.entry(client).or_default().push_back((at, publication));
        Some(at)
    }

    pub(super) fn answer(&self, publication: usize) -> Answer {
        self.answers[publication]
    }

    /// Clients with messages under way.
    pub(super) fn clients(&self) -> Vec<ClientId> {
        if self.down {
            return Vec::new();
        }
        self.under_way
            .iter()
            .filter(|(_, messages)| !messages.is_empty())
            .map(|(client, _)| *client)
            .collect()
    }

    /// The next message of a client arrives, or not.
    pub(super) fn arrive(&mut self, client: ClientId, fate: Fate) {
        let Some((at, publication)) = self.under_way.get_mut(&client).and_then(VecDeque::pop_front) else {
            return;
        };
        if fate == Fate::Lost {
            self.answers[at] = Answer::Never;
            return;
        }
        let stored = self.store(publication.clone());
        if fate == Fate::Repeated {
            self.store(publication);
        }
        self.answers[at] = stored.filter(|_| fate != Fate::Silent).map_or(Answer::Never, Answer::Held);
    }

    /// Stores a message, unless it is remembered; refuses it if the stream does not end where it should.
    pub(super) fn store(&mut self, publication: Publication) -> Option<u64> {
        let known = self.ids.get(&publication.id()).copied();
        let misplaced = publication.after.is_some_and(|after| after != self.last);
        match known {
            Some(sequence) if self.ids_first || !misplaced => return Some(sequence),
            _ if misplaced => return None,
            _ => {}
        }
        self.note_overtaken(&publication.message);
        self.last += 1;
        self.ids.insert(publication.id(), self.last);
        self.messages.insert(self.last, publication);
        Some(self.last)
    }

    /// Notes what is missing before a line that comes to its place because somebody else's message stands where another one was
    /// lost: nobody can tell that by the bus's own numbers.
    fn note_overtaken(&mut self, message: &Message) {
        let Some((_, last)) = self.messages.last_key_value() else { return };
        if last.message.epoch == message.epoch || message.line.number == 1 {
            return;
        }
        let ours = self.messages.values().filter(|stored| !is_forged(stored.message.line.event_id));
        let held: BTreeSet<_> = ours.map(|stored| stored.message.line.number).collect();
        self.overtaken.extend((1..message.line.number).filter(|number| !held.contains(number)));
    }

    pub(super) const fn overtaken(&self) -> &BTreeSet<i64> {
        &self.overtaken
    }

    /// The time is over in which repetitions are dropped.
    pub(super) fn forget_ids(&mut self) {
        self.ids.clear();
    }

    /// The last so many messages are lost. What it remembers beside them may be as old as they are, or not.
    pub(super) fn lose_tail(&mut self, lost: u64, ids: bool, durable: bool) {
        self.last = self.last.saturating_sub(lost);
        self.messages.split_off(&(self.last + 1));
        if ids {
            let last = self.last;
            self.ids.retain(|_, sequence| *sequence <= last);
        }
        if durable {
            self.durable.delivered = self.durable.delivered.min(self.last);
            self.durable.pending.split_off(&(self.last + 1));
        }
        self.connections += 1;
    }

    /// The stream is lost, and made anew.
    pub(super) fn wipe(&mut self) {
        self.made += 1;
        self.last = 0;
        self.messages.clear();
        self.ids.clear();
        self.durable = Durable::default();
        self.connections += 1;
    }

    /// What it says of the stream.
    pub(super) fn extent(&self) -> Option<Extent> {
        let created = format!("made {} times", self.made + 1);
        (!self.down).then_some(Extent { created, first: 1, last: self.last })
    }

    /// The number and the event that it holds here.
    pub(super) fn line_at(&self, sequence: u64) -> Option<Option<(i64, Uuid)>> {
        let line = |stored: &Publication| (stored.message.line.number, stored.message.line.event_id);
        (!self.down).then(|| self.messages.get(&sequence).map(line))
    }

    /// The events that it holds.
    pub(super) fn events(&self) -> BTreeSet<Uuid> {
        self.messages.values().map(|stored| stored.message.line.event_id).collect()
    }

    /// Stands for `Consumer::durable`: made anew when it believes to have seen more than the stream has. False when the bus
    /// does not answer.
    pub(super) fn open_durable(&mut self) -> bool {
        if self.durable.delivered > self.last {
            self.durable = Durable::default();
        }
        !self.down
    }

    /// Whether there is something to deliver.
    pub(super) fn has_more(&self) -> bool {
        self.durable.delivered < self.last
    }

    /// Delivers the next message but so many, which come later.
    pub(super) fn next(&mut self, skipped: u64) -> Option<(Message, Acker)> {
        let sequence = self.durable.delivered + 1 + skipped;
        if self.down || sequence > self.last {
            return None;
        }
        self.durable.pending.extend(self.durable.delivered + 1..=sequence);
        self.durable.delivered = sequence;
        self.at(sequence)
    }

    /// Delivers again something that was not acknowledged.
    pub(super) fn again(&mut self, which: usize) -> Option<(Message, Acker)> {
        let count = self.durable.pending.len();
        if self.down || count == 0 {
            return None;
        }
        let sequence = *self.durable.pending.iter().nth(which % count)?;
        let found = self.at(sequence);
        if found.is_none() {
            self.durable.pending.remove(&sequence);
        }
        found
    }

    fn at(&self, sequence: u64) -> Option<(Message, Acker)> {
        let message = self.messages.get(&sequence)?.message.clone();
        Some((message, Acker { sequence, made: self.made }))
    }

    pub(super) fn acknowledge(&mut self, acker: Acker) {
        if acker.made == self.made && !self.down {
            self.durable.pending.remove(&acker.sequence);
        }
    }
}
