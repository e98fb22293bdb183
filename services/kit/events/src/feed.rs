//! A tenant's events for those outside: read by the tenant's own numbers, watched as they happen, and told of a record.
//!
//! Everybody hears of what they may see, and no more: which records is asked of the store at the time of reading, as for any
//! other read, and fields that the caller's roles hide are left out before anything is looked at, the caller's filter
//! included.
mod api;
mod audience;
mod encode;
mod history;
mod hub;
mod read;
mod record;
mod wanted;
mod watch;

use std::sync::Arc;

use rapport_proto::events::v1::event_service_server::EventServiceServer;
use rapport_runtime::parts::{Parts, Worker};
use rapport_store::Db;
use tokio_util::sync::CancellationToken;

use crate::Log;
pub use audience::Audience;
pub(crate) use history::to_struct;
use hub::Hub;
pub(crate) use wanted::Wanted;

/// The events of a service, for those outside.
#[derive(Clone, Debug)]
pub struct Feed {
    pub(crate) db: Db,
    audience: Arc<Audience>,
    hub: Arc<Hub>,
    ending: CancellationToken,
}

impl Feed {
    /// What `log` tells, to this audience.
    pub fn new(log: &Log, audience: Audience) -> Self {
        let hub = Arc::new(Hub::new(log.grown.clone()));
        Self { db: log.db.clone(), audience: Arc::new(audience), hub, ending: CancellationToken::new() }
    }

    /// Serves it, as a part of these.
    #[must_use]
    pub fn of(mut self, parts: &mut Parts) -> Self {
        self.ending = parts.ending.clone();
        let hub = self.hub.clone();
        let db = self.db.clone();
        parts.workers.push(Worker::new(format!("{} feed", parts.name), move |stop| {
            let (hub, db) = (hub.clone(), db.clone());
            async move {
                let told = stop.run_until_cancelled(hub.tell(&db)).await;
                Ok(told.unwrap_or(Ok(()))?)
            }
        }));
        parts.routes = std::mem::take(&mut parts.routes).add_service(EventServiceServer::new(self.clone()));
        self
    }
}
