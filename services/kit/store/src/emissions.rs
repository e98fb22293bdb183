//! Word of transactions that wrote events, within this process.
use std::future::pending;

use tokio::sync::broadcast;
use uuid::Uuid;

/// Transactions that are remembered for somebody who does not listen just now. Of more it is enough to know that they were.
const REMEMBERED: usize = 256;

/// Where it is said.
pub(crate) type Announcer = broadcast::Sender<Uuid>;

pub(crate) fn announcer() -> Announcer {
    broadcast::Sender::new(REMEMBERED)
}

/// Where it is heard.
#[derive(Debug)]
pub struct Emissions(broadcast::Receiver<Uuid>);

impl Emissions {
    pub(crate) fn of(announcer: &Announcer) -> Self {
        Self(announcer.subscribe())
    }

    /// Resolves soon after a transaction that wrote events of a tenant for which this holds, also after one since `forget`.
    /// When there were very many, it resolves for any.
    pub async fn next(&mut self, wanted: impl Fn(Uuid) -> bool) {
        loop {
            match self.0.recv().await {
                Ok(tenant) if !wanted(tenant) => {}
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return,
                Err(broadcast::error::RecvError::Closed) => pending().await,
            }
        }
    }

    /// Forgets what was said so far: whoever looks now sees it.
    pub fn forget(&mut self) {
        self.0 = self.0.resubscribe();
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, pin_mut};

    use super::*;

    const fn tenant(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    #[test]
    fn only_what_is_wanted_and_new_wakes() {
        let announcer = announcer();
        let mut emissions = Emissions::of(&announcer);
        announcer.send(tenant(1)).unwrap();
        emissions.forget();
        assert!(emissions.next(|_| true).now_or_never().is_none(), "it was said before");
        announcer.send(tenant(1)).unwrap();
        assert!(emissions.next(|of| of == tenant(2)).now_or_never().is_none(), "it is another tenant's");
        announcer.send(tenant(2)).unwrap();
        assert!(emissions.next(|of| of == tenant(2)).now_or_never().is_some());
    }

    #[test]
    fn too_many_to_remember_wake_whoever_it_is() {
        let announcer = announcer();
        let mut emissions = Emissions::of(&announcer);
        for _ in 0..=REMEMBERED {
            announcer.send(tenant(1)).unwrap();
        }
        let woken = emissions.next(|of| of == tenant(2));
        pin_mut!(woken);
        assert!(woken.now_or_never().is_some());
    }
}
