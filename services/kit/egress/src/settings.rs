//! What the operator decides: section `[egress]` of `rapport.toml`.
use std::path::PathBuf;

use rapport_kernel::Error;
use serde::Deserialize;

/// What may be called, and how much of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Hosts that may be inside and may use http: `["hooks.corp.example", "10.1.2.3:8080"]`. Each is one host, with a port
    /// unless it is that of the scheme; never a pattern. Metadata services of clouds are never opened.
    pub allow: Vec<String>,
    /// Whether public hosts may be called by plain http too; port 80 has to be among `ports` then.
    pub http: bool,
    /// Ports of public hosts that may be called.
    pub ports: Vec<u16>,
    /// File with certificates (PEM) of authorities to trust beside those of the system.
    pub roots_file: Option<PathBuf>,
    /// Milliseconds that a call may take in all, 100 to 120000.
    pub timeout_ms: u64,
    /// Milliseconds until the name is resolved, the connection made and secured, 100 to `timeout_ms`.
    pub connect_timeout_ms: u64,
    /// Bytes of an answer's body that are read; what follows is cut off. 1 to 16777216.
    pub answer_bytes: usize,
    /// Bytes of names and values that the headers of a request or an answer have at most, 1024 to 1048576.
    pub header_bytes: usize,
    /// Bytes of a request's body at most, 1 to 16777216.
    pub body_bytes: usize,
    /// Calls of one tenant that are under way at a time, 1 to `in_flight`; more are refused.
    pub tenant_in_flight: usize,
    /// Calls of all tenants that are under way at a time, 1 to 10000; more are refused.
    pub in_flight: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            http: false,
            ports: vec![443],
            roots_file: None,
            timeout_ms: 10_000,
            connect_timeout_ms: 3_000,
            answer_bytes: 64 << 10,
            header_bytes: 16 << 10,
            body_bytes: 256 << 10,
            tenant_in_flight: 8,
            in_flight: 256,
        }
    }
}

impl Settings {
    /// Says what is out of range.
    pub(crate) fn check(&self) -> Result<(), Error> {
        between("timeout_ms", self.timeout_ms, 100, 120_000)?;
        between("connect_timeout_ms", self.connect_timeout_ms, 100, self.timeout_ms)?;
        between("answer_bytes", self.answer_bytes, 1, 16 << 20)?;
        between("header_bytes", self.header_bytes, 1024, 1 << 20)?;
        between("body_bytes", self.body_bytes, 1, 16 << 20)?;
        between("in_flight", self.in_flight, 1, 10_000)?;
        between("tenant_in_flight", self.tenant_in_flight, 1, self.in_flight)?;
        if self.ports.contains(&0) {
            return Err(wrong("ports", "are from 1 to 65535"));
        }
        Ok(())
    }
}

fn between<N: PartialOrd + std::fmt::Display>(key: &str, value: N, least: N, most: N) -> Result<(), Error> {
    if value < least || value > most {
        return Err(wrong(key, format!("is {value}; it is from {least} to {most}")));
    }
    Ok(())
}

/// The error about a setting.
pub(crate) fn wrong(key: &str, problem: impl std::fmt::Display) -> Error {
    Error::rule("EGRESS_SETTINGS", format!("`egress.{key}`: {problem}"))
}
