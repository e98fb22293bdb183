//! From names to addresses. What is checked here is what the client connects to: it asks nobody else, and asks once for each
//! connection, so a name that changes its mind gains nothing.
use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::{net::lookup_host, sync::Semaphore};

use crate::{Refusal, Rule, Sabotage, policy::Reach, slots::Slot};

tokio::task_local! {
    /// The call for which a name is looked up.
    pub(crate) static SLOT: Slot;
}

/// Who knows the addresses of names.
pub trait Lookup: Send + Sync + 'static {
    /// All addresses of `host`, which ends with a dot where it is to be taken as it is, without a search list.
    ///
    /// # Errors
    /// When there is none, or nobody can be asked.
    fn addresses(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The machine's own resolver, as `/etc/resolv.conf` and `/etc/nsswitch.conf` have it.
pub struct System(Arc<Semaphore>);

impl Default for System {
    /// It has a thread for each name that is being looked up, from a pool that files share; names of slow name servers must
    /// not fill that.
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(128)))
    }
}

impl Lookup for System {
    fn addresses(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let threads = Arc::clone(&self.0);
        Box::pin(async move {
            let _thread = threads.acquire_owned().await.map_err(io::Error::other)?;
            Ok(lookup_host((host, 0)).await?.map(|address| address.ip()).collect())
        })
    }
}

/// Why a name leads nowhere.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unresolved {
    /// It leads to where nothing may go.
    #[error("{0}")]
    Refused(Refusal),
    /// It has no address, or nobody can be asked.
    #[error("the name was not resolved")]
    Unknown(#[source] io::Error),
}

/// Hands out addresses that were checked, and no others.
#[derive(Clone)]
pub(crate) struct Checking {
    pub(crate) lookup: Arc<dyn Lookup>,
    pub(crate) reach: Reach,
    pub(crate) sabotage: Sabotage,
}

impl Checking {
    /// The addresses of `host`, when a call may go to all of them.
    pub(crate) async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Unresolved> {
        let asked = match self.reach {
            // The machine's search list and its file of hosts are for names of the inside.
            Reach::Outside => format!("{host}."),
            Reach::Inside => host.to_owned(),
        };
        let addresses = self.lookup.addresses(asked).await.map_err(Unresolved::Unknown)?;
        if addresses.is_empty() {
            return Err(Unresolved::Unknown(io::ErrorKind::NotFound.into()));
        }
        if self.sabotage == Sabotage::TrustName {
            return Ok(addresses);
        }
        // One address of the inside among others is how a name is made to lead there by chance: none is used then.
        match addresses.iter().find_map(|address| self.reach.refused(*address)) {
            Some(rule) => Err(Unresolved::Refused(leads_inside(host, rule))),
            None => Ok(addresses),
        }
    }
}

/// Does not name the address: tenants need not know how the inside is laid out.
fn leads_inside(host: &str, rule: Rule) -> Refusal {
    Refusal::new(rule, format!("`{host}` leads to {}; a name with public addresses is needed", rule.about()))
}

impl Resolve for Checking {
    fn resolve(&self, name: Name) -> Resolving {
        let (checking, host) = (self.clone(), name.as_str().to_owned());
        let slot = SLOT.try_with(Clone::clone).ok();
        Box::pin(async move {
            // The system's look-ups go on when nobody waits any more. So does the call, for the count of those under way: a
            // tenant whose names take long has no more of them at a time than it may have calls.
            let looking = tokio::spawn(async move {
                let _slot = slot;
                checking.addresses(&host).await
            });
            let addresses = looking.await??;
            Ok(Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}
