//! What all actors share, and how they take turns.
//!
//! An actor is a future that pauses wherever the real one would wait for somebody else: one poll, one step. Whoever decides
//! which actor is polled next decides what happens in which order, and a future that is dropped is a process that was killed.
use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use super::{bus::Bus, chance::Chance, checker::Checker, mutant::Mutant, postgres::Postgres};

/// An actor, or a part of one.
pub(super) type Actor<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Why an actor has to begin anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The session ended; nobody knows whether what was asked last came to pass.
    Lost,
    /// Somebody else leads, or has heard these events.
    Deposed,
}

/// How much is done at a time: what `sequencer::Pace` and the constants of the drivers say, and small, so that their limits
/// matter. And how often a commit is not answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) batch: usize,
    pub(super) look: usize,
    pub(super) remembered: usize,
    pub(super) window: usize,
    pub(super) arrivals: usize,
    pub(super) page: usize,
    /// Once in so many times nobody learns of a commit.
    pub(super) unknown: usize,
}

/// What all actors share.
pub(super) struct World {
    pub(super) chance: RefCell<Chance>,
    pub(super) postgres: RefCell<Postgres>,
    pub(super) bus: RefCell<Bus>,
    pub(super) checker: RefCell<Checker>,
    pub(super) sizes: Sizes,
    /// Whether nothing goes wrong any more.
    pub(super) calm: Cell<bool>,
    mutant: Option<Mutant>,
    /// What happened; only when somebody will read it.
    history: Option<RefCell<Vec<String>>>,
}

pub(super) type Shared = Rc<World>;

impl World {
    pub(super) fn new(seed: u64, mutant: Option<Mutant>, recorded: bool) -> Shared {
        let mut chance = Chance::of(seed);
        let sizes = Sizes {
            batch: chance.from(1, 5),
            look: chance.from(2, 8),
            remembered: chance.from(6, 40),
            window: chance.from(1, 5),
            arrivals: chance.from(1, 4),
            page: chance.from(1, 4),
            unknown: chance.from(4, 40),
        };
        let bus = Bus::new(chance.one_in(2));
        Rc::new(Self {
            chance: RefCell::new(chance),
            postgres: RefCell::default(),
            bus: RefCell::new(bus),
            checker: RefCell::default(),
            sizes,
            calm: Cell::new(false),
            mutant,
            history: recorded.then(RefCell::default),
        })
    }

    pub(super) fn below(&self, end: usize) -> usize {
        self.chance.borrow_mut().below(end)
    }

    pub(super) fn from(&self, least: usize, most: usize) -> usize {
        self.chance.borrow_mut().from(least, most)
    }

    pub(super) fn one_in(&self, times: usize) -> bool {
        self.chance.borrow_mut().one_in(times)
    }

    /// Whether something goes wrong that does so once in so many times.
    pub(super) fn fails(&self, times: usize) -> bool {
        !self.calm.get() && self.one_in(times)
    }

    /// Whether this mistake is made.
    pub(super) fn errs(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// Notes what happens.
    pub(super) fn say(&self, what: impl FnOnce() -> String) {
        if let Some(history) = &self.history {
            history.borrow_mut().push(what());
        }
    }

    /// The last things that happened.
    pub(super) fn told(&self, most: usize) -> String {
        let Some(history) = &self.history else { return String::new() };
        let history = history.borrow();
        history[history.len().saturating_sub(most)..].join("\n")
    }
}

/// Lets others go on.
pub(super) async fn pause() {
    let mut paused = false;
    poll_fn(|_| if std::mem::replace(&mut paused, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// Lets others go on for some time.
pub(super) async fn rest(world: &World, most: usize) {
    for _ in 0..world.below(most) {
        pause().await;
    }
}

/// Runs the parts of an actor, one step of one of them at a time, until the first of them ends.
pub(super) async fn first<T>(world: &World, mut parts: Vec<Actor<'_, T>>) -> T {
    poll_fn(|context| {
        let at = world.below(parts.len());
        parts[at].as_mut().poll(context)
    })
    .await
}

/// One step; says whether it was the last one.
pub(super) fn step(actor: &mut Actor<'_, ()>) -> bool {
    actor.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
}
