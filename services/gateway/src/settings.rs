//! What the operator chooses. Plain values: whoever starts the gateway reads them from wherever it likes.
use std::{fmt, num::NonZeroU32, time::Duration};

use axum::Router;
use rapport_kernel::Clock;

/// The gateway's settings.
#[derive(Clone)]
pub struct Settings {
    /// What proves to identity that the gateway asks; never leaves the installation.
    pub internal_secret: String,
    /// Whether browsers come by HTTPS: cookies are `Secure` and named `__Host-rapport`, and HTTPS is demanded from then
    /// on (HSTS). Off only for development on one machine.
    pub cookie_secure: bool,
    /// Origins whose pages may call with API keys (CORS), e.g. `https://console.example.com`; none by default. Session
    /// cookies are never taken from another origin.
    pub allowed_origins: Vec<String>,
    /// The largest JSON body, in bytes, unpacked.
    pub json_limit: u64,
    /// The largest raw upload, in bytes, unpacked.
    pub upload_limit: u64,
    /// How much all callers of one tenant may ask together; `None` for no limit.
    pub tenant_rate: Option<Rate>,
    /// How much one API key or browser session may ask; `None` for no limit.
    pub key_rate: Option<Rate>,
    /// How long a call by REST may take; uploads and downloads may take longer.
    pub deadline: Duration,
    /// What the pages call this installation.
    pub title: String,
    /// What version runs.
    pub version: String,
    /// Further pages on the same port: health, metrics. Must have no fallback.
    pub extra: Router,
    /// The clock that the end of tokens is compared with, and ids of requests are made by.
    pub clock: Clock,
}

/// A rate of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests a second, on average.
    pub per_second: NonZeroU32,
    /// How many may come at once.
    pub burst: NonZeroU32,
}

impl Rate {
    /// So many requests a second on average, and so many at once; a zero counts as one.
    pub fn new(per_second: u32, burst: u32) -> Self {
        let positive = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        Self { per_second: positive(per_second), burst: positive(burst) }
    }
}

impl Settings {
    /// Safe settings: secure cookies, no foreign origins, JSON up to 1 MiB, uploads up to 1 GiB, 500 requests a second
    /// for a tenant and 100 for a key, 30 s for a call.
    pub fn new(internal_secret: impl Into<String>) -> Self {
        Self {
            internal_secret: internal_secret.into(),
            cookie_secure: true,
            allowed_origins: Vec::new(),
            json_limit: 1 << 20,
            upload_limit: 1 << 30,
            tenant_rate: Some(Rate::new(500, 1_000)),
            key_rate: Some(Rate::new(100, 200)),
            deadline: Duration::from_secs(30),
            title: "Rapport".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            extra: Router::new(),
            clock: Clock::system(),
        }
    }
}

impl fmt::Debug for Settings {
    /// Everything but the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("cookie_secure", &self.cookie_secure)
            .field("allowed_origins", &self.allowed_origins)
            .field("json_limit", &self.json_limit)
            .field("upload_limit", &self.upload_limit)
            .field("tenant_rate", &self.tenant_rate)
            .field("key_rate", &self.key_rate)
            .field("deadline", &self.deadline)
            .field("title", &self.title)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}
