//! What can be configured. The doc comments are also the text of the reference (`rapport.toml` beside the README).
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use secrecy::SecretString;

use super::setting::section;

section! {
    /// All settings of an installation.
    pub struct Config {
        /// Where the gateway listens for browsers, REST and gRPC.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8080)),
        /// Where the chosen services listen for each other (`rapport serve`); also health and metrics. Not for the public.
        grpc: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 9090)),
        /// The region whose tenants this installation holds, e.g. "cn-east".
        region: String = "local".into(),
        /// The name of this cell: one complete set of services and databases.
        cell: String = "main".into(),
        /// Where services are reached that do not run in this process: `name = "http://host:port"`.
        services: BTreeMap<String, String> = BTreeMap::new(),
        /// The database of a service; one such table for each service that runs in this process.
        databases: BTreeMap<String, Database> = BTreeMap::new(),
        /// The message bus.
        nats: Nats = Nats::default(),
        /// The services' logs of changes.
        log: Log = Log::default(),
        /// Calls to addresses that tenants choose.
        egress: Egress = Egress::default(),
        /// Where files are kept.
        blobs: Blobs = Blobs::default(),
        /// Logs, traces and metrics.
        telemetry: Telemetry = Telemetry::default(),
        /// Limits that protect the installation, and its tenants from one another.
        limits: Limits = Limits::default(),
        /// Secrets and what browsers may do.
        security: Security = Security::default(),
    }
}

section! {
    /// The database of a service.
    pub struct Database {
        /// As the service role, which must neither be a superuser nor bypass row-level security: "postgres://…".
        url: SecretString = SecretString::default(),
        /// As the owner of the tables, for migrations only.
        owner_url: SecretString = SecretString::default(),
        /// Connections held, 1 to 100.
        pool_size: u32 = 8,
    }
}

section! {
    /// The message bus.
    pub struct Nats {
        /// The server, "nats://user:password@host:port"; several with commas; none when empty. Without one services read each
        /// other's logs, which is slower.
        url: Option<String> = None,
        /// The first word of subjects and streams: another one for each installation that shares a server.
        root: String = "rapport".into(),
        /// In how many servers of a cluster each stream is kept, 1 to 5.
        replicas: usize = 1,
        /// Bytes that the stream of a service takes on disk at most, 1048576 to 1099511627776.
        stream_bytes: u64 = 4 << 30,
    }
}

section! {
    /// The services' logs of changes, which are the audit trail, too.
    pub struct Log {
        /// Days that a tenant's log is kept, 7 to 3650.
        standard_days: u32 = 30,
        /// Days of tenants whose plan keeps it longer, 7 to 36500; plans may also keep it for good.
        extended_days: u32 = 400,
        /// Where signed checkpoints of the logs go once a minute, without which nobody sees that all of a log was written anew: a
        /// folder or `s3://bucket/prefix` (with what `blobs` says of S3), where those who administer the databases can change
        /// nothing, as in a bucket with a retention lock; another one after a restore. Nowhere when empty.
        checkpoints: Option<String> = None,
        /// File that holds the key which signs them; it is made there when it is missing.
        checkpoint_key_file: Option<PathBuf> = None,
    }
}

section! {
    /// Calls to addresses that tenants choose: webhooks. They leave by one door, which opens to the outside alone.
    pub struct Egress {
        /// Hosts that may be inside and may use http: `["hooks.corp.example", "10.1.2.3:8080"]`; each is one host, with a port unless
        /// it is that of the scheme.
        allow: Vec<String> = Vec::new(),
        /// Whether public hosts may be called by plain http too; port 80 has to be among `ports` then.
        http: bool = false,
        /// Ports of public hosts that may be called, 1 to 65535.
        ports: Vec<u16> = vec![443],
        /// A file with certificates (PEM) of authorities to trust beside those of the system.
        roots_file: Option<PathBuf> = None,
        /// Milliseconds that a call may take in all, 100 to 120000.
        timeout_ms: u64 = 10_000,
        /// Milliseconds until the name is resolved and the connection is made, 100 to `timeout_ms`.
        connect_timeout_ms: u64 = 3_000,
        /// Calls of one tenant that are under way at a time, 1 to `in_flight`.
        tenant_in_flight: usize = 8,
        /// Calls of all tenants that are under way at a time, 1 to 10000.
        in_flight: usize = 256,
    }
}

section! {
    /// Where files are kept.
    pub struct Blobs {
        /// A folder, "file:///var/lib/rapport/blobs", or "s3://bucket/prefix"; none when empty.
        url: Option<String> = None,
        /// For S3: the server, where it is not Amazon's, e.g. `https://minio.example.com`.
        endpoint: Option<String> = None,
        /// For S3: the region.
        region: Option<String> = None,
        /// For S3: the key's id; from the machine's role when empty.
        access_key_id: Option<String> = None,
        /// For S3: the key's secret.
        secret_access_key: Option<SecretString> = None,
        /// For S3: whether the endpoint may be plain http.
        allow_http: bool = false,
    }
}

section! {
    /// Logs, traces and metrics.
    pub struct Telemetry {
        /// "text" for people, "json" for machines: one object on each line.
        log_format: LogFormat = LogFormat::Text,
        /// Which lines are logged, e.g. "info,rapport_store=debug".
        log_filter: String = "info,sqlx::postgres::notice=warn".into(),
        /// Where traces go (OTLP over gRPC), e.g. `http://127.0.0.1:4317`; nowhere when empty.
        otlp_endpoint: Option<String> = None,
        /// Whether `/metrics` answers.
        metrics: bool = true,
    }
}

section! {
    /// Limits that protect the installation, and its tenants from one another.
    pub struct Limits {
        /// Seconds a call may take when the caller does not say, 1 to 3600.
        request_timeout_seconds: u64 = 30,
        /// Seconds a call may take at most, whatever the caller says, 1 to 3600.
        max_timeout_seconds: u64 = 300,
        /// Seconds a stream (an upload, a download, a watch) may take at most, 1 to 86400.
        stream_timeout_seconds: u64 = 3600,
        /// Bytes of a request at most, 1024 to 4194304; larger things are streamed.
        body_bytes: usize = 4 << 20,
        /// Bytes of all requests that a service holds at a time, at least `body_bytes`.
        buffered_bytes: usize = 256 << 20,
        /// Calls that a service works on at a time, 1 to 10000; twice the connections of its database when empty.
        concurrency: Option<usize> = None,
        /// Calls of one tenant that wait for a service, 1 to 10000; more are refused.
        tenant_queue: usize = 64,
        /// Milliseconds that a call waits at most, 1 to 60000.
        queue_wait_ms: u64 = 2000,
        /// Calls that a service holds at a time, waiting or worked on, 1 to 100000; more are refused at once.
        in_flight: usize = 1024,
        /// Streams (uploads and downloads) of one tenant that a service serves at a time, 1 to 10000; more are refused.
        tenant_streams: usize = 32,
        /// Watches (streams of events) that a service serves at a time, 1 to 100000; more are refused.
        watches: usize = 20_000,
        /// Watches of one tenant that a service serves at a time, 1 to 100000; more are refused.
        tenant_watches: usize = 2_000,
        /// Requests of one tenant that the gateway takes in a second, 1 to 1000000.
        tenant_requests_per_second: u32 = 1000,
        /// Requests of one tenant that the gateway takes at once after a quiet time, 1 to 1000000.
        tenant_burst: u32 = 2000,
        /// Requests of one API key that the gateway takes in a second, 1 to 1000000.
        key_requests_per_second: u32 = 500,
    }
}

section! {
    /// Secrets and what browsers may do.
    pub struct Security {
        /// How services know each other, at least 32 characters; needed where services run in several processes.
        internal_secret: Option<SecretString> = None,
        /// Whether the session cookie is sent over https only. Turn off for a trial over plain http alone.
        cookie_secure: bool = true,
        /// Other sites whose pages may call the API, e.g. `["https://app.example.com"]`.
        allowed_origins: Vec<String> = Vec::new(),
        /// File that holds the API key of the first operator; it is made there when it is missing.
        operator_key_file: Option<PathBuf> = None,
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object on each line.
    Json,
}
