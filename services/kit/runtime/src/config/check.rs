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
        within("log.standard_days", self.log.standard_days, 7..=3650)?;
        within("log.extended_days", self.log.extended_days, 7..=36_500)?;
        url("log.checkpoints", self.log.checkpoints.as_deref(), &["file:///", "s3://"])?;
        if self.log.checkpoints.is_some() && self.log.checkpoint_key_file.is_none() {
            return Err((
                "log.checkpoint_key_file".into(),
                "must be set where `log.checkpoints` is: checkpoints are signed".into(),
            ));
        }
        within("nats.replicas", self.nats.replicas, 1..=5)?;
        within("nats.stream_bytes", self.nats.stream_bytes, 1 << 20..=1 << 40)?;
        let word = |char: char| char.is_ascii_alphanumeric() || "-_".contains(char);
        if self.nats.root.is_empty() || !self.nats.root.chars().all(word) {
            return Err(("nats.root".into(), "must be a word of letters, digits, `-` and `_`".into()));
        }
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
        within("limits.request_timeout_seconds", limits.request_timeout_seconds, 1..=3600)?;
        within("limits.max_timeout_seconds", limits.max_timeout_seconds, 1..=3600)?;
        within("limits.stream_timeout_seconds", limits.stream_timeout_seconds, 1..=86_400)?;
        within("limits.body_bytes", limits.body_bytes, 1024..=4 << 20)?;
        within("limits.buffered_bytes", limits.buffered_bytes, limits.body_bytes..=1 << 40)?;
        within("limits.concurrency", limits.concurrency.unwrap_or(1), 1..=10_000)?;
        within("limits.tenant_queue", limits.tenant_queue, 1..=10_000)?;
        within("limits.queue_wait_ms", limits.queue_wait_ms, 1..=60_000)?;
        within("limits.in_flight", limits.in_flight, 1..=100_000)?;
        within("limits.tenant_streams", limits.tenant_streams, 1..=10_000)?;
        within("limits.watches", limits.watches, 1..=100_000)?;
        within("limits.tenant_watches", limits.tenant_watches, 1..=100_000)?;
        within("limits.tenant_requests_per_second", limits.tenant_requests_per_second, 1..=1_000_000)?;
        within("limits.tenant_burst", limits.tenant_burst, 1..=1_000_000)?;
        within("limits.key_requests_per_second", limits.key_requests_per_second, 1..=1_000_000)
    }

    fn check_services(&self) -> Result<(), Wrong> {
        let known = |name: &String| rapport_proto::services().contains(&name.as_str());
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
    Err((key.to_owned(), format!("is {number}; it must be from {} to {}", range.start(), range.end())))
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
    let names = rapport_proto::services().join(", ");
    Err((key.to_owned(), format!("names no service; there are {names}")))
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
