//! Sessions: browsers that are signed in.
pub(crate) mod api;
mod attempts;
mod sign_in;
pub(crate) mod store;
pub(crate) mod writing;

use rapport_kernel::{Id, Instant, Kind};
use rapport_proto::identity::v1 as pb;
use rapport_store::time;
use sqlx::FromRow;

pub(crate) use attempts::Attempts;

use crate::user::User;

/// Seconds after which a session ends, however much it is used
const AGE: i64 = 12 * 3600;
/// and seconds after its last use.
const IDLE: i64 = 30 * 60;
/// Seconds by which the time of the last use may be old: writing it with each use would be a write with each call.
const FRESH: i64 = 60;

/// A browser that is signed in.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct Session {
    pub(crate) id: Id<Session>,
    pub(crate) user_id: Id<User>,
    pub(crate) digest: String,
    user_agent: String,
    ip_address: String,
    create_time: Instant,
    last_use_time: Instant,
}

impl Kind for Session {
    const KIND: &'static str = "identity.session";
}

impl Session {
    /// When it ends by itself.
    pub(crate) fn expire_time(&self) -> Instant {
        self.create_time.plus_seconds(AGE).min(self.last_use_time.plus_seconds(IDLE))
    }

    /// Whether that it is used now, from that address, is to be noted.
    pub(crate) fn is_news(&self, now: Instant, ip_address: &str) -> bool {
        now >= self.last_use_time.plus_seconds(FRESH)
            || (!ip_address.is_empty() && ip_address != self.ip_address)
    }

    fn into_proto(self, current: Option<uuid::Uuid>) -> pb::Session {
        pb::Session {
            id: self.id.to_string(),
            current: current == Some(self.id.uuid()),
            create_time: Some(time::to_proto(self.create_time)),
            last_use_time: Some(time::to_proto(self.last_use_time)),
            expire_time: Some(time::to_proto(self.expire_time())),
            user_agent: self.user_agent,
            ip_address: self.ip_address,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(last_use: i64) -> Session {
        Session {
            id: Id::new(uuid::Uuid::from_u128(1)),
            user_id: Id::new(uuid::Uuid::from_u128(2)),
            digest: String::new(),
            user_agent: String::new(),
            ip_address: "192.0.2.1".into(),
            create_time: Instant::EPOCH,
            last_use_time: Instant::EPOCH.plus_seconds(last_use),
        }
    }

    #[test]
    fn a_session_ends_half_an_hour_after_its_last_use_and_after_twelve_hours_at_most() {
        let ends = |last_use| session(last_use).expire_time().as_seconds();
        assert_eq!((ends(0), ends(3600), ends(12 * 3600 - 60)), (1800, 5400, 12 * 3600));
    }

    #[test]
    fn a_use_is_noted_once_a_minute_or_when_it_comes_from_elsewhere() {
        let session = session(0);
        let at = |seconds| Instant::EPOCH.plus_seconds(seconds);
        assert!(!session.is_news(at(59), "192.0.2.1") && !session.is_news(at(59), ""));
        assert!(session.is_news(at(60), "192.0.2.1") && session.is_news(at(1), "192.0.2.2"));
    }
}
