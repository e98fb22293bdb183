//! The newest lines, told to all who watch: the log is read once for all of them.
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rapport_kernel::Error;
use rapport_store::{Db, database};
use sqlx::PgConnection;
use tokio::{
    sync::{Notify, broadcast, watch},
    time::timeout,
};
use uuid::Uuid;

use crate::log::{self, Line, Which};

/// Lines that a watcher may be behind; one that is further behind reads the log.
const BEHIND: usize = 64;
/// Lines that are read at a time.
const PAGE: usize = 500;
/// How often the log is looked at where its leader is another process.
const PAUSE: Duration = Duration::from_millis(50);

/// What watchers are told.
#[derive(Clone, Debug)]
pub(super) enum News {
    /// The next line of the tenant.
    Line(Arc<Line>),
    /// The log may have grown by lines that were not told.
    Look,
}

/// Who watches, by tenant.
#[derive(Debug)]
pub(super) struct Hub {
    watchers: Mutex<HashMap<Uuid, broadcast::Sender<News>>>,
    /// Somebody watches.
    watched: Notify,
    /// The log of this process grew.
    grown: Arc<watch::Sender<()>>,
}

impl Hub {
    pub(super) fn new(grown: Arc<watch::Sender<()>>) -> Self {
        Self { watchers: Mutex::default(), watched: Notify::new(), grown }
    }

    /// What happens in a tenant from now on. Look into the log after this: what is there by then may not be told.
    pub(super) fn watch(&self, tenant: Uuid) -> broadcast::Receiver<News> {
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = watchers.entry(tenant).or_insert_with(|| broadcast::channel(BEHIND).0).subscribe();
        self.watched.notify_one();
        receiver
    }

    /// Tells what is written, as long as somebody watches.
    ///
    /// # Errors
    /// When the database fails. Watchers wait until it is tried again.
    pub(super) async fn tell(&self, db: &Db) -> Result<(), Error> {
        loop {
            while !self.is_watched() {
                self.watched.notified().await;
            }
            let (mut session, mut grown) = (db.session().await?, self.grown.subscribe());
            let mut at = head(&mut session).await?;
            // Up to here they have to read for themselves.
            self.send_all();
            while self.is_watched() {
                let lines = log::read(&mut session, Which::All, at, PAGE).await?;
                let Some(last) = lines.last() else {
                    while self.is_watched() && head(&mut session).await? == at {
                        let _ = timeout(PAUSE, grown.changed()).await;
                    }
                    continue;
                };
                at = last.number;
                for line in lines {
                    self.send(line);
                }
            }
        }
    }

    fn send(&self, line: Line) {
        let watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watchers) = watchers.get(&line.tenant_id) {
            let _ = watchers.send(News::Line(Arc::new(line)));
        }
    }

    fn send_all(&self) {
        let watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        for watchers in watchers.values() {
            let _ = watchers.send(News::Look);
        }
    }

    /// Whether anybody watches; forgets tenants that nobody watches any more.
    fn is_watched(&self) -> bool {
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|_, watchers| watchers.receiver_count() > 0);
        !watchers.is_empty()
    }
}

async fn head(session: &mut PgConnection) -> Result<i64, Error> {
    let number = sqlx::query_scalar("SELECT number FROM platform.log_head");
    number.fetch_one(session).await.map_err(database)
}
