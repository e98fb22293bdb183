//! The gateway's port: the one of last time, else 8080, else the next free one.
use std::{fs, net::Ipv4Addr, path::Path};

use rapport_kernel::BoxError;
use tokio::net::TcpListener;

const FIRST: u16 = 8080;
const LAST: u16 = 8179;

/// Takes a port: taken, not only looked at, since another installation may start at the same moment.
pub(super) async fn take(data: &Path) -> Result<TcpListener, BoxError> {
    let known = fs::read_to_string(data.join("port")).ok().and_then(|port| port.trim().parse().ok());
    for port in known.into_iter().chain(FIRST..=LAST) {
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            return Ok(listener);
        }
    }
    Err(format!("no port from {FIRST} to {LAST} is free; choose one with --listen").into())
}

/// Keeps the port for next time.
pub(super) fn remember(data: &Path, port: u16) -> Result<(), BoxError> {
    fs::write(data.join("port"), port.to_string())
        .map_err(|error| format!("the port cannot be kept: {error}").into())
}
