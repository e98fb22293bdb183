//! How many calls are under way: of each tenant, so that one tenant's slow endpoints cannot hold everyone's share, and of all.
//! Whoever comes beyond is told at once: waiting is the caller's, who has a queue that is fair.
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use uuid::Uuid;

use crate::Busy;

#[derive(Clone)]
pub(crate) struct Slots(Arc<Shared>);

struct Shared {
    tenant_most: usize,
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    /// Only tenants that have some.
    by_tenant: HashMap<Uuid, usize>,
}

/// A call that is under way. It ends when the last copy goes.
#[derive(Clone)]
pub(crate) struct Slot {
    _held: Arc<Held>,
}

struct Held {
    slots: Slots,
    tenant: Uuid,
}

impl Slots {
    pub(crate) fn new(tenant_most: usize, most: usize) -> Self {
        Self(Arc::new(Shared { tenant_most, most, taken: Mutex::default() }))
    }

    pub(crate) fn take(&self, tenant: Uuid) -> Result<Slot, Busy> {
        let mut taken = self.taken();
        let own = taken.by_tenant.get(&tenant).copied().unwrap_or_default();
        if own >= self.0.tenant_most {
            return Err(Busy::Tenant(self.0.tenant_most));
        }
        if taken.all >= self.0.most {
            return Err(Busy::All(self.0.most));
        }
        taken.all += 1;
        taken.by_tenant.insert(tenant, own + 1);
        Ok(Slot { _held: Arc::new(Held { slots: self.clone(), tenant }) })
    }

    /// Counts are whole whenever the lock is free, also after a panic elsewhere.
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut taken = self.slots.taken();
        taken.all -= 1;
        let own = taken.by_tenant.remove(&self.tenant).unwrap_or(1) - 1;
        if own > 0 {
            taken.by_tenant.insert(self.tenant, own);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_counted_and_given_back() {
        let (slots, a, b) = (Slots::new(2, 3), Uuid::from_u128(1), Uuid::from_u128(2));
        let first = slots.take(a).unwrap();
        let copy = first.clone();
        let second = slots.take(a).unwrap();
        assert_eq!(slots.take(a).err(), Some(Busy::Tenant(2)));
        let third = slots.take(b).unwrap();
        assert_eq!(slots.take(b).err(), Some(Busy::All(3)));
        drop(first);
        assert_eq!(slots.take(a).err(), Some(Busy::Tenant(2)), "a copy holds it");
        drop(copy);
        let fourth = slots.take(b).unwrap();
        drop((second, third, fourth));
        let taken = slots.taken();
        assert_eq!((taken.all, taken.by_tenant.len()), (0, 0));
    }
}
