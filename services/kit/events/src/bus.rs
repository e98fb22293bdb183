//! The bus: NATS JetStream, wrapped here alone. It is a transport: whatever it loses, PostgreSQL has.
mod message;
mod names;

use std::{sync::Arc, time::Duration};

use async_nats::{
    ConnectOptions, Event, ServerAddr,
    jetstream::{
        self, Context,
        stream::{Config, DiscardPolicy, RetentionPolicy, StorageType, Stream},
    },
};
use rapport_kernel::Error;
use tokio::sync::watch;

pub use message::Message;
pub use names::{Header, stream_name, subject};

/// How often a connection that is silent is asked whether it lives.
const PING: Duration = Duration::from_secs(5);
/// A server that does not answer for so long does not.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How long a stream keeps what everyone has had.
const KEEP: Duration = Duration::from_hours(24);
/// For so long a repeated publish is recognised by the bus. It saves others work, no more.
const DUPLICATES: Duration = Duration::from_secs(60);

/// How to reach it.
#[derive(Clone, Debug)]
pub struct Options {
    /// The servers, `nats://user:password@host:port`, several with commas.
    pub url: String,
    /// The first word of subjects and streams: letters, digits, `-` and `_`.
    pub root: String,
    /// In how many servers each stream is kept, 1 to 5.
    pub replicas: usize,
    /// Bytes that a stream may take on disk.
    pub stream_bytes: i64,
}

/// A connection to the bus, which comes back by itself. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bus {
    options: Arc<Options>,
    context: Context,
    connections: watch::Receiver<u64>,
}

impl Bus {
    /// Connects, now or as soon as a server is there; nobody has to wait for that.
    ///
    /// # Errors
    /// When the address is none.
    pub async fn connect(options: Options) -> Result<Self, Error> {
        let (connected, connections) = watch::channel(0);
        let connected = Arc::new(connected);
        let servers = servers(&options.url).map_err(Error::internal)?;
        let mut connect = ConnectOptions::new();
        // This client does not look for them in the address.
        if let Some((user, password)) =
            servers.iter().find_map(|server| server.username().zip(server.password()))
        {
            connect = connect.user_and_password(user.to_owned(), password.to_owned());
        }
        let client = connect
            .name("rapport")
            .retry_on_initial_connect()
            .ping_interval(PING)
            .connection_timeout(TIMEOUT)
            .request_timeout(Some(TIMEOUT))
            .reconnect_delay_callback(pause)
            .event_callback(move |event| {
                let connected = connected.clone();
                async move {
                    match event {
                        Event::Connected => {
                            connected.send_modify(|times| *times += 1);
                            tracing::info!("the bus is connected");
                        }
                        Event::Disconnected => tracing::warn!("the bus is disconnected"),
                        other => tracing::debug!(event = %other, "the bus"),
                    }
                }
            })
            .connect(servers)
            .await
            .map_err(Error::internal)?;
        let context = jetstream::context::ContextBuilder::new().timeout(TIMEOUT).build(client);
        Ok(Self { options: Arc::new(options), context, connections })
    }

    /// Changes whenever the connection was made anew.
    pub(crate) fn connections(&self) -> watch::Receiver<u64> {
        self.connections.clone()
    }

    /// The first word of subjects and streams.
    pub(crate) fn root(&self) -> &str {
        &self.options.root
    }

    /// JetStream.
    pub(crate) const fn jetstream(&self) -> &Context {
        &self.context
    }

    /// The stream of a service, made if need be.
    pub(crate) async fn stream(&self, service: &str) -> Result<Stream, Error> {
        let config = Config {
            name: stream_name(self.root(), service),
            subjects: vec![format!("{}.{service}.>", self.root())],
            retention: RetentionPolicy::Limits,
            discard: DiscardPolicy::Old,
            storage: StorageType::File,
            max_age: KEEP,
            max_bytes: self.options.stream_bytes,
            duplicate_window: DUPLICATES,
            num_replicas: self.options.replicas,
            ..Config::default()
        };
        self.context.get_or_create_stream(config).await.map_err(|error| Error::Unavailable(error.into()))
    }
}

/// The servers of an address.
fn servers(url: &str) -> std::io::Result<Vec<ServerAddr>> {
    url.split(',').map(str::parse).collect()
}

/// The pause before another attempt to connect: 50 ms, doubling up to 500 ms, and a bit by chance, so that not everyone comes
/// at once.
fn pause(attempt: usize) -> Duration {
    let base = 50_u64.saturating_mul(1 << attempt.min(4)).min(500);
    Duration::from_millis(base + rand::random_range(0..=base / 4))
}
