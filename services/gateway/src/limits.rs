//! Rate limits by tenant and by key, so that one of them cannot take the room of the others, with the headers that tell
//! callers where they stand (`RateLimit-Limit`, `-Remaining`, `-Reset`, after the IETF draft).
use std::{
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
    middleware::{StateInformationMiddleware, StateSnapshot},
    state::keyed::DefaultKeyedStateStore,
};
use http::{HeaderMap, HeaderName};
use rapport_kernel::Error;

use crate::{
    caller::{Caller, Fingerprint},
    settings::Rate,
};

const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// After so many requests those who have been quiet are forgotten: their full allowance is what newcomers get.
const SWEEP: u64 = 8_192;

type Keyed<K> = RateLimiter<K, DefaultKeyedStateStore<K>, DefaultClock, StateInformationMiddleware>;

/// The limits.
pub(crate) struct Limits {
    tenants: Option<Limit<Arc<str>>>,
    keys: Option<Limit<Fingerprint>>,
    asked: AtomicU64,
}

struct Limit<K: Hash + Eq + Clone> {
    limiter: Keyed<K>,
    rate: Rate,
}

/// Where a caller stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    limit: u32,
    remaining: u32,
    reset: u64,
}

impl Limits {
    /// Limits with these rates.
    pub(crate) fn new(tenant: Option<Rate>, key: Option<Rate>) -> Self {
        Self { tenants: tenant.map(Limit::new), keys: key.map(Limit::new), asked: AtomicU64::new(0) }
    }

    /// Counts a request: where the caller stands, and the refusal when there is no room. Only those who were let in are
    /// counted, so that nobody fills the table with made-up keys.
    pub(crate) fn count(&self, caller: &Caller) -> (Option<Standing>, Result<(), Error>) {
        if self.asked.fetch_add(1, Ordering::Relaxed) % SWEEP == SWEEP - 1 {
            self.tenants.as_ref().inspect(|limit| limit.limiter.retain_recent());
            self.keys.as_ref().inspect(|limit| limit.limiter.retain_recent());
        }
        let mut tightest = None;
        let key = self.keys.as_ref().zip(caller.fingerprint);
        let tenant = caller.token.as_ref().and_then(|token| token.tenant.clone());
        let verdict = key
            .map_or(Ok(()), |(limit, key)| limit.count(&key, "this key", &mut tightest))
            .and_then(|()| match self.tenants.as_ref().zip(tenant) {
                Some((limit, tenant)) => limit.count(&tenant, "this tenant", &mut tightest),
                None => Ok(()),
            });
        (tightest, verdict)
    }
}

impl<K: Hash + Eq + Clone> Limit<K> {
    fn new(rate: Rate) -> Self {
        let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
        Self { limiter: RateLimiter::keyed(quota).with_middleware(), rate }
    }

    fn count(&self, key: &K, whose: &str, tightest: &mut Option<Standing>) -> Result<(), Error> {
        let (standing, verdict) = match self.limiter.check_key(key) {
            Ok(state) => (self.standing(&state), Ok(())),
            Err(until) => {
                let wait = seconds(until.wait_time_from(DefaultClock::default().now())).max(1);
                let message = format!("{whose} asks more than {} times a second", self.rate.per_second);
                let standing = Standing { limit: self.rate.burst.get(), remaining: 0, reset: wait };
                (standing, Err(Error::Exhausted { message, retry_after: wait }))
            }
        };
        if tightest.is_none_or(|other| standing.remaining <= other.remaining) {
            *tightest = Some(standing);
        }
        verdict
    }

    fn standing(&self, state: &StateSnapshot) -> Standing {
        let (limit, remaining) = (self.rate.burst.get(), state.remaining_burst_capacity());
        let used = u64::from(limit.saturating_sub(remaining));
        Standing { limit, remaining, reset: used.div_ceil(u64::from(self.rate.per_second.get())) }
    }
}

/// Whole seconds, rounded up.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

impl Standing {
    /// Tells the caller.
    pub(crate) fn tell(self, headers: &mut HeaderMap) {
        headers.insert(LIMIT, self.limit.into());
        headers.insert(REMAINING, self.remaining.into());
        headers.insert(RESET, self.reset.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::Token;

    fn caller(tenant: &str, key: u8) -> Caller {
        let token = Token { authorization: "Bearer x".parse().unwrap(), tenant: Some(tenant.into()) };
        Caller { token: Some(Arc::new(token)), fingerprint: Some([key; 32]), address: None }
    }

    #[test]
    fn a_key_is_refused_when_its_burst_is_used_up() {
        let limits = Limits::new(None, Some(Rate::new(1, 3)));
        for remaining in [2, 1, 0] {
            let (standing, verdict) = limits.count(&caller("a", 1));
            let standing = standing.unwrap();
            assert_eq!((standing.limit, standing.remaining), (3, remaining));
            assert!(verdict.is_ok() && (1..=3).contains(&standing.reset));
        }
        let (standing, verdict) = limits.count(&caller("a", 1));
        assert_eq!(standing.unwrap().remaining, 0);
        assert!(matches!(verdict, Err(Error::Exhausted { retry_after: 1, .. })));
        assert!(limits.count(&caller("a", 2)).1.is_ok(), "another key has its own allowance");
    }

    #[test]
    fn keys_of_a_tenant_share_its_allowance() {
        let limits = Limits::new(Some(Rate::new(1, 2)), Some(Rate::new(10, 10)));
        assert!(limits.count(&caller("a", 1)).1.is_ok());
        assert_eq!(limits.count(&caller("a", 2)).0.unwrap().remaining, 0);
        assert!(limits.count(&caller("a", 3)).1.is_err());
        assert!(limits.count(&caller("b", 4)).1.is_ok());
    }

    #[test]
    fn the_quiet_are_forgotten() {
        let limits = Limits::new(Some(Rate::new(1_000_000, 1)), None);
        for tenant in 0..2 * SWEEP {
            assert!(limits.count(&caller(&tenant.to_string(), 0)).1.is_ok());
        }
        assert!(limits.tenants.unwrap().limiter.len() < 200);
    }

    #[test]
    fn who_is_not_signed_in_is_not_counted() {
        let limits = Limits::new(Some(Rate::new(1, 1)), Some(Rate::new(1, 1)));
        for _ in 0..3 {
            assert_eq!(limits.count(&Caller::default()).0, None);
        }
    }
}
