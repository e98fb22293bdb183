//! Processes: what each of them does from its start on, and what it takes to kill one.
use super::{
    bus::{ClientId, Fate},
    consumer::hear,
    leader::Term,
    postgres::Led,
    relay::relay,
    sequencer::drive,
    world::{Actor, Shared, first, pause, step},
};
use crate::fresh::Fresh;

/// A process, or somebody who writes.
pub(super) struct Process {
    /// What it does from its start on; nothing, if it cannot be killed.
    start: Option<fn(Shared) -> Actor<'static, ()>>,
    actor: Option<Actor<'static, ()>>,
    /// Steps in which it stands still.
    asleep: usize,
}

impl Process {
    /// One that is started again whenever it was killed.
    pub(super) fn start(world: &Shared, start: fn(Shared) -> Actor<'static, ()>) -> Self {
        Self { start: Some(start), actor: Some(start(world.clone())), asleep: 0 }
    }

    /// One that comes to an end by itself.
    pub(super) fn once(actor: Actor<'static, ()>) -> Self {
        Self { start: None, actor: Some(actor), asleep: 0 }
    }

    pub(super) const fn may_be_killed(&self) -> bool {
        self.start.is_some()
    }

    /// Kills it; another one is started.
    pub(super) fn kill(&mut self, world: &Shared) {
        if let Some(start) = self.start {
            self.actor = None;
            self.actor = Some(start(world.clone()));
        }
    }

    pub(super) const fn sleep(&mut self, steps: usize) {
        self.asleep = steps;
    }

    pub(super) const fn is_over(&self) -> bool {
        self.actor.is_none()
    }

    /// One step of it.
    pub(super) fn step(&mut self) {
        if self.asleep > 0 {
            self.asleep -= 1;
        } else if self.actor.as_mut().is_some_and(step) {
            self.actor = None;
        }
    }
}

/// Those who are there from the beginning to the end.
pub(super) fn all(world: &Shared) -> Vec<Process> {
    let starts: [fn(Shared) -> Actor<'static, ()>; 5] = [
        |world| Box::pin(keep(world, 0)),
        |world| Box::pin(keep(world, 1)),
        |world| Box::pin(hear(world)),
        |world| Box::pin(hear(world)),
        |world| Box::pin(carry(world)),
    ];
    starts.into_iter().map(|start| Process::start(world, start)).collect()
}

/// Stands for `Log::keep` and `lead`.
async fn keep(world: Shared, client: ClientId) {
    let mut kept = None;
    loop {
        if let Ok(term) = Term::begin(&world, Led::Log).await {
            world.say(|| format!("leader {} begins in epoch {}", term.number, term.epoch));
            let fresh = Fresh::default();
            let sequencing = Box::pin(drive(&world, &term, &fresh, &mut kept));
            let relaying = Box::pin(relay(&world, client, &term, &fresh));
            let stop = first(&world, vec![sequencing, relaying]).await;
            world.say(|| format!("leader {} ends: {stop:?}", term.number));
        }
        pause().await;
    }
}

/// The bus takes what comes, one message after the other of each client.
async fn carry(world: Shared) {
    loop {
        pause().await;
        let clients = world.bus.borrow().clients();
        if clients.is_empty() {
            continue;
        }
        let client = clients[world.below(clients.len())];
        let fate = match () {
            () if world.fails(25) => Fate::Lost,
            () if world.fails(25) => Fate::Silent,
            () if world.fails(25) => Fate::Repeated,
            () => Fate::Stored,
        };
        world.say(|| format!("the bus takes the next message of {client}: {fate:?}"));
        world.bus.borrow_mut().arrive(client, fate);
    }
}
