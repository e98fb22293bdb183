//! Deficit round robin: lanes take turns; in its turn a lane may spend what it saved up, and each call has a cost. So
//! every lane gets an equal share of the work, whatever the number and size of the calls that it sends.
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rapport_kernel::{Ctx, Error, Principal};
use tokio::sync::oneshot;
use uuid::Uuid;

/// Who waits behind whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lane {
    /// A tenant.
    Tenant(Uuid),
    /// Operators who act on no tenant.
    Operators,
    /// Rapport's own services.
    Services,
    /// Everybody who has not signed in.
    Anonymous,
}

impl Lane {
    pub(super) fn of(ctx: &Ctx) -> Self {
        match ctx.principal {
            Principal::Service => Self::Services,
            Principal::Anonymous => Self::Anonymous,
            _ if ctx.tenant.uuid().is_nil() => Self::Operators,
            _ => Self::Tenant(ctx.tenant.uuid()),
        }
    }

    /// What a lane may spend more in each turn. Services call for all tenants together.
    const fn quantum(self) -> u64 {
        match self {
            Self::Services => 32,
            Self::Tenant(_) | Self::Operators | Self::Anonymous => 2,
        }
    }
}

/// The queue. Clones share it.
#[derive(Clone)]
pub(super) struct FairQueue {
    state: Arc<Mutex<State>>,
    /// Calls of a lane that may wait.
    waiting: usize,
}

struct State {
    /// Places that are free.
    free: usize,
    /// Lanes with calls that wait, and what they saved up.
    lanes: HashMap<Lane, Waiting>,
    /// Whose turn it is, and who follows.
    turns: VecDeque<Lane>,
}

#[derive(Default)]
struct Waiting {
    saved: u64,
    calls: VecDeque<(u64, oneshot::Sender<Place>)>,
}

impl FairQueue {
    /// `running` calls at a time; `waiting` more of each lane.
    pub(super) fn new(running: usize, waiting: usize) -> Self {
        let state = State { free: running, lanes: HashMap::new(), turns: VecDeque::new() };
        Self { state: Arc::new(Mutex::new(state)), waiting }
    }

    /// Lines up at once; the future gives the place when it is this call's turn. Dropping the future leaves the line.
    pub(super) fn enter(&self, lane: Lane, cost: u64) -> Result<impl Future<Output = Place> + use<>, Error> {
        let mut state = lock(&self.state);
        let waiting = state.lanes.entry(lane).or_default();
        waiting.calls.retain(|(_, call)| !call.is_closed());
        if waiting.calls.len() >= self.waiting {
            let message = format!("{} calls of this tenant are waiting already", self.waiting);
            return Err(Error::Exhausted { message, retry_after: 1 });
        }
        let (call, turn) = oneshot::channel();
        waiting.calls.push_back((cost, call));
        if !state.turns.contains(&lane) {
            state.turns.push_back(lane);
        }
        self.serve(&mut state);
        drop(state);
        // Every call is answered before it is forgotten; if one were not, it would run without taking a place.
        Ok(async move { turn.await.unwrap_or(Place { queue: None }) })
    }

    /// Gives the free places to those whose turn it is.
    fn serve(&self, state: &mut State) {
        while state.free > 0
            && let Some(call) = state.next()
        {
            match call.send(Place { queue: Some(self.clone()) }) {
                Ok(()) => state.free -= 1,
                // The call is gone. Its place was not taken, so it is not given back either.
                Err(mut place) => place.queue = None,
            }
        }
    }
}

impl State {
    fn next(&mut self) -> Option<oneshot::Sender<Place>> {
        loop {
            let lane = *self.turns.front()?;
            let waiting = self.lanes.entry(lane).or_default();
            while waiting.calls.pop_front_if(|(_, call)| call.is_closed()).is_some() {}
            match waiting.calls.front() {
                None => {
                    // What is saved up is not kept for later: an idle lane has no claim on the past.
                    self.lanes.remove(&lane);
                    self.turns.pop_front();
                }
                Some((cost, _)) if *cost <= waiting.saved => {
                    waiting.saved -= cost;
                    return waiting.calls.pop_front().map(|(_, call)| call);
                }
                Some(_) => {
                    waiting.saved += lane.quantum();
                    self.turns.rotate_left(1);
                }
            }
        }
    }
}

/// A place among the running calls, until it is dropped.
pub(super) struct Place {
    queue: Option<FairQueue>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            let mut state = lock(&queue.state);
            state.free += 1;
            queue.serve(&mut state);
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
