//! What signed-in callers are refused, and which private fields they read: observed as calls go by, gathered for some
//! seconds, and told to identity by whoever takes it from here. Nobody waits for that: what there is no room for is counted
//! and lost.
use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::HeaderValue;
use rapport_kernel::{Clock, Ctx, Instant, Principal, Reads, Via, cut};
use rapport_proto::{Method, Rule};
use uuid::Uuid;

/// So many different observations are kept: some 5 MB.
const MOST: usize = 10_000;

/// How long equal observations are gathered before they are told as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gathering {
    /// Refusals.
    pub refusals: Duration,
    /// Reads of private fields.
    pub reads: Duration,
}

impl Default for Gathering {
    fn default() -> Self {
        Self { refusals: Duration::from_secs(5), reads: Duration::from_secs(60) }
    }
}

/// Gathers what is observed. Cheap to clone.
#[derive(Clone)]
pub struct Witness(Arc<Inner>);

struct Inner {
    gathering: Gathering,
    seen: Mutex<HashMap<Key, Tally>>,
}

/// Who called what, and through what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    /// The tenant.
    pub tenant: Uuid,
    /// A person of it, or a machine.
    pub principal: Principal,
    /// On whose behalf.
    pub on_behalf_of: Option<Uuid>,
    /// Through what.
    pub via: Via,
    /// The method's path.
    pub method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    call: Call,
    /// The kind of record that was read; `None` for a refusal.
    kind: Option<String>,
}

#[derive(Debug)]
struct Tally {
    seen: Seen,
    address: String,
    count: u64,
    first: Instant,
    last: Instant,
}

/// What was observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The call was refused.
    Refused {
        /// The permission that the method needs; empty where none decides.
        permission: &'static str,
        /// Why, in the words that the caller got the first time.
        reason: String,
    },
    /// The caller got records.
    Read {
        /// Of this kind.
        kind: String,
        /// With these private fields.
        fields: BTreeSet<String>,
    },
}

/// Equal observations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Who called what.
    pub call: Call,
    /// What was seen.
    pub seen: Seen,
    /// The address that the last call came from, where it is known.
    pub address: String,
    /// How often it was seen: refused calls, or records that were read.
    pub count: u64,
    /// When it was seen first,
    pub first: Instant,
    /// and last.
    pub last: Instant,
}

impl Witness {
    /// Has seen nothing yet.
    pub fn new(gathering: Gathering) -> Self {
        Self(Arc::new(Inner { gathering, seen: Mutex::default() }))
    }

    /// What was gathered for long enough by now.
    pub fn take(&self, now: Instant) -> Vec<Observation> {
        let Gathering { refusals, reads } = self.0.gathering;
        let ripe = |key: &Key, tally: &Tally| {
            let time = if key.kind.is_some() { reads } else { refusals };
            tally.first.plus_seconds(i64::try_from(time.as_secs()).unwrap_or(i64::MAX)) <= now
        };
        self.seen().extract_if(|key, tally| ripe(key, tally)).map(observation).collect()
    }

    /// All that was gathered.
    pub fn take_all(&self) -> Vec<Observation> {
        self.seen().drain().map(observation).collect()
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<Key, Tally>> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(
        &self,
        key: Key,
        now: Instant,
        address: Option<&HeaderValue>,
        new: impl FnOnce() -> Seen,
        again: impl FnOnce(&mut Seen),
    ) {
        let text = || address.and_then(|address| address.to_str().ok()).map(cut).unwrap_or_default();
        let mut all = self.seen();
        if let Some(tally) = all.get_mut(&key) {
            tally.count += 1;
            tally.last = now;
            again(&mut tally.seen);
            if address.is_some_and(|address| address.as_bytes() != tally.address.as_bytes()) {
                tally.address = text();
            }
        } else if all.len() < MOST {
            all.insert(key, Tally { seen: new(), address: text(), count: 1, first: now, last: now });
        } else {
            drop(all);
            metrics::counter!("rapport_audit_lost_total").increment(1);
        }
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Witness").field("seen", &self.seen().len()).finish()
    }
}

fn observation((key, tally): (Key, Tally)) -> Observation {
    let Tally { seen, address, count, first, last } = tally;
    Observation { call: key.call, seen, address, count, first, last }
}

/// A call that somebody looks at.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    witness: Witness,
    call: Call,
    permission: &'static str,
    address: Option<HeaderValue>,
    clock: Clock,
}

impl Watched {
    /// `None` where nobody looks: callers who belong to no tenant are nobody's business but the operators'.
    pub(crate) fn new(
        witness: &Witness,
        ctx: &Ctx,
        method: &'static Method,
        address: Option<HeaderValue>,
    ) -> Option<Self> {
        let known = matches!(ctx.principal, Principal::User(_) | Principal::ApiKey(_));
        if !known || ctx.tenant.uuid().is_nil() {
            return None;
        }
        let call = Call {
            tenant: ctx.tenant.uuid(),
            principal: ctx.principal,
            on_behalf_of: ctx.on_behalf_of,
            via: ctx.via,
            method: &method.path,
        };
        let permission = match &method.rule {
            Some(Rule::Permission(permission)) => permission,
            _ => "",
        };
        Some(Self { witness: witness.clone(), call, permission, address, clock: ctx.clock.clone() })
    }

    /// The call was refused.
    pub(crate) fn refused(&self, reason: &str) {
        let key = Key { call: self.call, kind: None };
        let new = || Seen::Refused { permission: self.permission, reason: cut(reason) };
        self.witness.note(key, self.clock.now(), self.address.as_ref(), new, |_| {});
    }
}

impl Reads for Watched {
    fn note(&self, kind: &str, fields: &BTreeSet<String>) {
        let key = Key { call: self.call, kind: Some(kind.to_owned()) };
        let new = || Seen::Read { kind: kind.to_owned(), fields: fields.clone() };
        self.witness.note(key, self.clock.now(), self.address.as_ref(), new, |seen| {
            // Mostly the same: then nothing is copied.
            if let Seen::Read { fields: known, .. } = seen
                && !known.is_superset(fields)
            {
                known.extend(fields.iter().cloned());
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use rapport_kernel::Id;

    use super::*;

    fn watched(witness: &Witness, user: u128) -> Watched {
        let ctx = Ctx {
            principal: Principal::User(Uuid::from_u128(user)),
            ..Ctx::system(Id::new(Uuid::from_u128(1)), Clock::chosen(|| Instant::EPOCH))
        };
        let method = rapport_proto::method("/rapport.customer.v1.CustomerService/GetCustomer").unwrap();
        Watched::new(witness, &ctx, method, Some(HeaderValue::from_static("192.0.2.1"))).unwrap()
    }

    fn fields(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn equal_observations_are_one_and_are_told_when_they_were_gathered_for_long_enough() {
        let witness = Witness::new(Gathering::default());
        let li = watched(&witness, 1);
        li.refused("permission `customer.customers.read` is required");
        li.refused("other words");
        watched(&witness, 2).refused("no");
        for private in [fields(&["revenue"]), fields(&["revenue", "industry"])] {
            li.note("customer.customer", &private);
        }
        assert!(witness.take(Instant::EPOCH.plus_seconds(4)).is_empty());
        let mut refusals = witness.take(Instant::EPOCH.plus_seconds(5));
        refusals.sort_by_key(|seen| seen.count);
        assert_eq!(refusals.iter().map(|seen| seen.count).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(
            refusals[1].seen,
            Seen::Refused {
                permission: "customer.customers.read",
                reason: "permission `customer.customers.read` is required".into()
            }
        );
        assert_eq!(refusals[1].address, "192.0.2.1");
        let reads = witness.take(Instant::EPOCH.plus_seconds(60));
        let read = Seen::Read { kind: "customer.customer".into(), fields: fields(&["industry", "revenue"]) };
        assert_eq!((reads.len(), reads[0].count, &reads[0].seen), (1, 2, &read));
        assert!(witness.take_all().is_empty());
    }

    #[test]
    fn there_is_room_for_so_many_and_the_rest_is_lost() {
        let witness = Witness::new(Gathering::default());
        for user in 0..=u128::try_from(MOST).unwrap() {
            watched(&witness, user).refused("no");
        }
        assert_eq!(witness.take_all().len(), MOST);
    }

    #[test]
    fn only_callers_of_a_tenant_are_looked_at() {
        let witness = Witness::new(Gathering::default());
        let method = rapport_proto::method("/rapport.customer.v1.CustomerService/GetCustomer").unwrap();
        let system = Ctx::system(Id::new(Uuid::from_u128(1)), Clock::system());
        assert!(Watched::new(&witness, &system, method, None).is_none());
        let operator = Ctx { principal: Principal::Operator(Uuid::nil()), ..system };
        assert!(Watched::new(&witness, &operator, method, None).is_none());
    }
}
