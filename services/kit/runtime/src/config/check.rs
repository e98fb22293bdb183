//! What a setting's type does not say: ranges, and settings that need one another.
use std::ops::RangeInclusive;

use secrecy::ExposeSecret as _;

use super::sections::{Config, LogFormat};

/// The key and what is wrong with it.
type Wrong = (String, String);

impl Config {
    pub(super) fn check(&self) -> Result<(), Wrong> {
        self.check_limits()?;
        self.check_services()?;
        url("nats.url", self.nats.url.as_deref(), &["nats://", "tls://"])?;
        url("blobs.url", self.blobs.url.as_deref(), &["file:///", "s3://"])?;
        url("blobs.endpoint", self.blobs.endpoint.as_deref(), &["http://", "https://"])?;
        url("telemetry.otlp_endpoint", self.telemetry.otlp_endpoint.as_deref(), &["http://", "https://"])?;
        for origin in &self.security.allowed_origins {
            url("security.allowed_origins", Some(origin), &["http://", "https://"])?;
        }
        if let Some(secret) = &self.security.internal_secret
            && secret.expose_secret().chars().count() < 32
        {
            return Err(("security.internal_secret".into(), "must have at least 32 characters".into()));
        }
        Ok(())
    }

    fn check_limits(&self) -> Result<(), Wrong> {
        let limits = &self.limits;
        within("request_timeout_seconds", limits.request_timeout_seconds, 1..=3600)?;
        within("max_timeout_seconds", limits.max_timeout_seconds, 1..=3600)?;
        within("stream_timeout_seconds", limits.stream_timeout_seconds, 1..=86_400)?;
        within("body_bytes", limits.body_bytes, 1024..=4 << 20)?;
        within("buffered_bytes", limits.buffered_bytes, limits.body_bytes..=1 << 40)?;
        within("concurrency", limits.concurrency.unwrap_or(1), 1..=10_000)?;
        within("tenant_queue", limits.tenant_queue, 1..=10_000)?;
        within("queue_wait_ms", limits.queue_wait_ms, 1..=60_000)?;
        within("in_flight", limits.in_flight, 1..=100_000)?;
        within("tenant_streams", limits.tenant_streams, 1..=10_000)?;
        within("tenant_requests_per_second", limits.tenant_requests_per_second, 1..=1_000_000)?;
        within("tenant_burst", limits.tenant_burst, 1..=1_000_000)?;
        within("key_requests_per_second", limits.key_requests_per_second, 1..=1_000_000)
    }

    fn check_services(&self) -> Result<(), Wrong> {
        let known = |name: &String| rapport_proto::methods().any(|method| method.service() == name);
        for (name, address) in &self.services {
            service(&format!("services.{name}"), known(name))?;
            url(&format!("services.{name}"), Some(address), &["http://", "https://"])?;
        }
        for (name, database) in &self.databases {
            let key = format!("databases.{name}");
            service(&key, known(name))?;
            let schemes = ["postgres://", "postgresql://"];
            url(&format!("{key}.url"), Some(database.url.expose_secret()), &schemes)?;
            let owner = Some(database.owner_url.expose_secret()).filter(|url| !url.is_empty());
            url(&format!("{key}.owner_url"), owner, &schemes)?;
            if !(1..=100).contains(&database.pool_size) {
                return Err((format!("{key}.pool_size"), "must be from 1 to 100".into()));
            }
        }
        Ok(())
    }
}

fn within<N: PartialOrd + std::fmt::Display>(
    key: &str,
    number: N,
    range: RangeInclusive<N>,
) -> Result<(), Wrong> {
    if range.contains(&number) {
        return Ok(());
    }
    Err((
        format!("limits.{key}"),
        format!("is {number}; it must be from {} to {}", range.start(), range.end()),
    ))
}

/// The value is not repeated in the error: addresses may hold passwords.
fn url(key: &str, url: Option<&str>, schemes: &[&str]) -> Result<(), Wrong> {
    if url.is_none_or(|url| schemes.iter().any(|scheme| url.len() > scheme.len() && url.starts_with(scheme)))
    {
        return Ok(());
    }
    let schemes: Vec<_> = schemes.iter().map(|scheme| format!("`{scheme}…`")).collect();
    Err((key.to_owned(), format!("must be an address like {}", schemes.join(" or "))))
}

fn service(key: &str, known: bool) -> Result<(), Wrong> {
    if known {
        return Ok(());
    }
    let mut names: Vec<_> = rapport_proto::methods().map(|method| method.service()).collect();
    names.dedup();
    Err((key.to_owned(), format!("names no service; there are {}", names.join(", "))))
}

impl super::setting::Leaf for LogFormat {
    const WANTED: &'static str = "`text` or `json`";
    fn read(value: &toml::Value) -> Option<Self> {
        match value.as_str()? {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
    fn show(&self) -> String {
        match self {
            Self::Text => "\"text\"".into(),
            Self::Json => "\"json\"".into(),
        }
    }
}
