//! Which lane works next, where more have work than may work at once.
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;
use uuid::Uuid;

/// Tenants that are remembered at least.
const REMEMBERED: usize = 1024;

/// Places for lanes at work, by start-time fair queueing (Goyal, Vin and Cheng, 1996): each event takes up one unit of its
/// tenant's time, and what may begin earliest begins first. So an event of a tenant with few waits for the lanes that are at
/// work, and not for those that wait with another tenant's thousands.
#[derive(Clone, Debug)]
pub(super) struct Turns(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Places that are free.
    free: usize,
    /// When that began which began last, in units of events.
    now: u64,
    /// When each tenant has used up what its events took; not after `now` for those that are left out.
    used: HashMap<Uuid, u64>,
    /// So many tenants are remembered before it is looked who need not be.
    remembered: usize,
    /// Who waits, by when they may begin, and by when they came.
    waiting: BTreeMap<(u64, u64), oneshot::Sender<Place>>,
    came: u64,
}

impl Turns {
    /// So many places.
    pub(super) fn new(places: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            free: places.max(1),
            now: 0,
            used: HashMap::new(),
            remembered: REMEMBERED,
            waiting: BTreeMap::new(),
            came: 0,
        })))
    }

    /// Lines up for a place to work on events of these tenants, one for each event.
    pub(super) fn line_up(&self, tenants: impl Iterator<Item = Uuid>) -> Claim {
        let (waiter, place) = oneshot::channel();
        let mut state = lock(&self.0);
        let key = (state.start(tenants).unwrap_or(state.now), state.came);
        state.came += 1;
        state.waiting.insert(key, waiter);
        self.serve(&mut state);
        drop(state);
        Claim { turns: self.clone(), key, place }
    }

    fn serve(&self, state: &mut State) {
        while state.free > 0
            && let Some(((start, _), waiter)) = state.waiting.pop_first()
        {
            match waiter.send(Place(Some(self.clone()))) {
                Ok(()) => (state.free, state.now) = (state.free - 1, state.now.max(start)),
                // It does not wait any more. Its place was not taken, so it is not given back either.
                Err(mut place) => place.0 = None,
            }
        }
        if state.used.len() > state.remembered {
            let now = state.now;
            state.used.retain(|_, used| *used > now);
            state.remembered = REMEMBERED.max(2 * state.used.len());
        }
    }
}

impl State {
    /// When events of these tenants may begin: as early as the first of the tenants may. `None` without any.
    fn start(&mut self, tenants: impl Iterator<Item = Uuid>) -> Option<u64> {
        tenants
            .map(|tenant| {
                let used = self.used.entry(tenant).or_default();
                let start = (*used).max(self.now);
                *used = start + 1;
                start
            })
            .min()
    }
}

/// A lane in the line.
pub(super) struct Claim {
    turns: Turns,
    key: (u64, u64),
    place: oneshot::Receiver<Place>,
}

impl Claim {
    /// More events have come to the lane: it moves forward with the first of them that may begin earlier.
    pub(super) fn add(&mut self, tenants: impl Iterator<Item = Uuid>) {
        let mut state = lock(&self.turns.0);
        let Some(start) = state.start(tenants).filter(|start| *start < self.key.0) else { return };
        if let Some(waiter) = state.waiting.remove(&self.key) {
            self.key.0 = start;
            state.waiting.insert(self.key, waiter);
        }
    }

    /// Resolves when it is the lane's turn.
    pub(super) async fn granted(&mut self) -> Place {
        // Each is answered before it is forgotten; if one were not, it would work without taking a place.
        (&mut self.place).await.unwrap_or(Place(None))
    }
}

/// A place among the lanes at work, until it is dropped.
#[derive(Debug)]
pub(super) struct Place(Option<Turns>);

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(turns) = self.0.take() {
            let mut state = lock(&turns.0);
            state.free += 1;
            turns.serve(&mut state);
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{iter, pin::Pin, task::Poll};

    use futures::poll;

    use super::*;

    type Entering = Pin<Box<dyn Future<Output = Place>>>;

    fn claim(turns: &Turns, tenant: u128, events: usize) -> Claim {
        turns.line_up(iter::repeat_n(Uuid::from_u128(tenant), events))
    }

    fn enter(turns: &Turns, tenant: u128, events: usize) -> Entering {
        let mut claim = claim(turns, tenant, events);
        Box::pin(async move { claim.granted().await })
    }

    /// Lines them up, and says in which order they begin when one works at a time.
    async fn order(mut place: Place, mut waiting: Vec<(u128, Entering)>) -> Vec<u128> {
        let mut order = Vec::new();
        while !waiting.is_empty() {
            drop(place);
            let mut begun = None;
            for (at, (_, entering)) in waiting.iter_mut().enumerate() {
                if let Poll::Ready(place) = poll!(entering) {
                    begun = Some((at, place));
                    break;
                }
            }
            let (at, next) = begun.unwrap();
            order.push(waiting.remove(at).0);
            place = next;
        }
        order
    }

    #[tokio::test]
    async fn a_tenant_with_one_event_goes_before_lanes_full_of_another_s() {
        let turns = Turns::new(1);
        let place = enter(&turns, 9, 1).await;
        let mut waiting: Vec<_> = (0..5).map(|_| (1, enter(&turns, 1, 100))).collect();
        waiting.push((2, enter(&turns, 2, 1)));
        assert_eq!(order(place, waiting).await, [1, 2, 1, 1, 1, 1]);
    }

    #[tokio::test]
    async fn a_lane_that_waits_with_a_tenant_s_thousands_moves_forward_with_another_s_one() {
        let turns = Turns::new(1);
        let place = enter(&turns, 9, 1).await;
        let mut waiting: Vec<_> = (0..5).map(|_| (1, enter(&turns, 1, 100))).collect();
        let mut last = claim(&turns, 1, 100);
        last.add(iter::once(Uuid::from_u128(2)));
        waiting.push((2, Box::pin(async move { last.granted().await })));
        assert_eq!(order(place, waiting).await, [1, 2, 1, 1, 1, 1]);
    }

    #[tokio::test]
    async fn tenants_with_as_much_take_turns_and_who_was_idle_has_no_claim() {
        let turns = Turns::new(1);
        let line_up = |tenants: &[u128]| tenants.iter().map(|t| (*t, enter(&turns, *t, 10))).collect();
        let place = enter(&turns, 9, 1).await;
        let waiting = line_up(&[1, 1, 1, 1, 2, 2, 2, 2]);
        assert_eq!(order(place, waiting).await, [1, 2, 1, 2, 1, 2, 1, 2]);
        // The third was not there before, and has as much as the others from now on.
        let place = enter(&turns, 9, 1).await;
        let waiting = line_up(&[1, 1, 3, 3]);
        assert_eq!(order(place, waiting).await, [3, 1, 3, 1]);
    }

    #[tokio::test]
    async fn places_are_given_back_and_not_kept_for_those_who_left() {
        let turns = Turns::new(2);
        let (first, second) = (enter(&turns, 1, 1).await, enter(&turns, 1, 1).await);
        let (gone, mut third) = (enter(&turns, 1, 1), enter(&turns, 1, 1));
        assert!(poll!(&mut third).is_pending());
        drop((gone, first, second));
        assert!(poll!(&mut third).is_ready());
        assert_eq!(lock(&turns.0).free, 2, "the third's place was given back at once");
        assert!(lock(&turns.0).waiting.is_empty());
    }
}
