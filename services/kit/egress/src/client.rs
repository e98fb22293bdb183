//! The HTTP client. Whatever it could do on its own account is switched off: follow redirects, ask a proxy, try again, unpack.
use std::{fs, path::Path, time::Duration};

use rapport_kernel::Error;
use reqwest::{Certificate, Client, redirect, retry};

use crate::{Settings, lookup::Checking, settings::wrong};

/// How long a connection waits for the next call to the same host; it still leads to the address that was checked.
const IDLE: Duration = Duration::from_secs(15);

/// What an answer over HTTP/2 may send ahead of being read: for one call, and for all that share the connection.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// A client that goes where `checking` lets it.
pub(crate) fn client(
    settings: &Settings,
    roots: &[Certificate],
    checking: Checking,
) -> Result<Client, Error> {
    Client::builder()
        .user_agent(concat!("Rapport/", env!("CARGO_PKG_VERSION")))
        .dns_resolver(checking)
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .no_proxy()
        .referer(false)
        // Other crates may turn these features on for all.
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        .tls_backend_rustls()
        .tls_certs_merge(roots.iter().cloned())
        .connect_timeout(Duration::from_millis(settings.connect_timeout_ms))
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(2)
        // What is beyond `header_bytes` is told apart when it is there; this keeps it from being much.
        .http2_max_header_list_size(u32::try_from(settings.header_bytes * 4).unwrap_or(u32::MAX))
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .build()
        .map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "the client for outgoing calls cannot be made");
            wrong(
                "roots_file",
                "there are no certificates of authorities to trust; install the system's (on Debian `ca-certificates`), \
                 or name a file",
            )
        })
}

/// The certificates in a file.
pub(crate) fn roots(file: Option<&Path>) -> Result<Vec<Certificate>, Error> {
    let Some(file) = file else { return Ok(Vec::new()) };
    let shown = file.display();
    let pem =
        fs::read(file).map_err(|error| wrong("roots_file", format!("`{shown}` cannot be read: {error}")))?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(roots) if !roots.is_empty() => Ok(roots),
        _ => Err(wrong("roots_file", format!("`{shown}` has no certificates; they are written as PEM"))),
    }
}
