//! A process of the service that hears: stands for `consume/drive.rs`.
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    convert::Infallible,
};

use super::{
    bus::Acker,
    lane::Lane,
    leader::Term,
    mutant::Mutant,
    postgres::{Led, PARTS},
    world::{Actor, Shared, Stop, first, pause, rest},
};
use crate::{bus::Message, consume::Watermark};

/// What comes to a lane.
pub(super) enum Arrival {
    Message(Box<(Message, Acker)>),
    Behind(i64),
}

/// What the parts of a process share: what waits for each lane, and where each stands.
#[derive(Default)]
pub(super) struct Hearing {
    pub(super) entries: [RefCell<VecDeque<Arrival>>; PARTS],
    pub(super) heard: [Cell<i64>; PARTS],
}

/// Stands for `Consumer::hear`.
pub(super) async fn hear(world: Shared) {
    let mut kept = None;
    loop {
        if let Ok(term) = Term::begin(&world, Led::Hear).await {
            let stop = match lead(&world, term, &mut kept).await {
                Ok(never) => match never {},
                Err(stop) => stop,
            };
            world.say(|| format!("a consumer ends: {stop:?}"));
        }
        pause().await;
    }
}

/// Stands for `Consumer::lead`.
async fn lead(world: &Shared, term: Term, kept: &mut Option<[Watermark; PARTS]>) -> Result<Infallible, Stop> {
    let read = term.session.read(|postgres| postgres.watermarks).await?.map(Watermark::new);
    let begin = kept.filter(|_| world.errs(Mutant::WatermarkKept)).unwrap_or(read);
    world.say(|| format!("consumer {} begins with {begin:?}", term.number));
    let hearing = Hearing::default();
    let remembered = RefCell::new(begin);
    let mut parts: Vec<Actor<'_, Stop>> = Vec::new();
    for (part, at) in begin.into_iter().enumerate() {
        hearing.heard[part].set(at.number);
        let lane = Lane { world, part, at, hearing: &hearing, term: term.number, remembered: &remembered };
        parts.push(Box::pin(lane.run()));
    }
    parts.push(Box::pin(beat(world, &term)));
    parts.push(Box::pin(listen(world, &hearing)));
    if !world.errs(Mutant::HeadsNotAsked) {
        parts.push(Box::pin(ask(world, &hearing)));
    }
    let stop = first(world, parts).await;
    *kept = Some(remembered.into_inner());
    Err(stop)
}

async fn beat(world: &Shared, term: &Term) -> Stop {
    loop {
        pause().await;
        if world.one_in(10)
            && let Err(stop) = term.beat().await
        {
            return stop;
        }
    }
}

/// Stands for `Consumer::ask`: what the bus did not bring between two looks, it does not bring.
async fn ask(world: &Shared, hearing: &Hearing) -> Stop {
    let mut before = [0; PARTS];
    loop {
        pause().await;
        rest(world, 20).await;
        if world.fails(10) {
            continue;
        }
        for (part, head) in before.into_iter().enumerate() {
            if hearing.heard[part].get() < head {
                hearing.entries[part].borrow_mut().push_back(Arrival::Behind(head));
            }
        }
        before = std::array::from_fn(|part| world.postgres.borrow().heads.parts[part]);
    }
}

/// Stands for `Consumer::listen` and `listen_once`.
async fn listen(world: &Shared, hearing: &Hearing) -> Stop {
    loop {
        pause().await;
        if world.bus.borrow_mut().open_durable() {
            listen_once(world, hearing).await;
        }
    }
}

async fn listen_once(world: &Shared, hearing: &Hearing) {
    let connections = world.bus.borrow().connections();
    loop {
        pause().await;
        let (anew, silent) = (world.bus.borrow().connections() != connections, world.one_in(60));
        if silent && (anew || world.bus.borrow().has_more()) || anew && world.one_in(3) {
            return;
        }
        let found = if world.one_in(6) {
            let which = world.below(1000);
            world.bus.borrow_mut().again(which)
        } else {
            let skipped = if world.fails(8) { 1 } else { 0 };
            world.bus.borrow_mut().next(skipped)
        };
        // What is lost on its way to us comes again.
        if let Some((message, acker)) = found
            && !world.fails(20)
        {
            let part = usize::try_from(message.line.part).unwrap();
            hearing.entries[part].borrow_mut().push_back(Arrival::Message(Box::new((message, acker))));
        }
    }
}
