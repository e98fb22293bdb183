//! What a service has of this crate: it joins the service's parts.
use rapport_proto::events::v1::log_service_server::LogServiceServer;
use rapport_runtime::parts::{Parts, Worker};

use crate::{Log, LogApi, consume::Consumer};

impl Log {
    /// Keeps the log, and lets peers read it.
    #[must_use]
    pub fn join(self, mut parts: Parts) -> Parts {
        parts.routes = parts.routes.add_service(LogServiceServer::new(LogApi::new(self.db.clone())));
        parts.workers.push(Worker::new(format!("{} log", parts.name), move |stop| {
            let log = self.clone();
            async move {
                log.keep(&stop).await;
                Ok(())
            }
        }));
        parts
    }
}

impl Consumer {
    /// Hears another service.
    #[must_use]
    pub fn join(self, mut parts: Parts) -> Parts {
        let name = format!("{} hears {}", parts.name, self.reactions.producer());
        parts.workers.push(Worker::new(name, move |stop| {
            let consumer = self.clone();
            async move {
                consumer.hear(&stop).await;
                Ok(())
            }
        }));
        parts
    }
}
