//! The network between a process and a server: it can break, and it can fall silent, so that what was said arrives late.
use std::{net::Ipv4Addr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    time::{Instant, sleep_until},
};

/// Bytes that are under way at most.
const UNDER_WAY: usize = 64 << 10;

/// How the network is.
#[derive(Clone, Copy, Debug)]
struct Weather {
    /// Until then nothing arrives, in either direction.
    silent_until: Instant,
    /// How often all connections broke.
    breaks: u32,
}

/// A way to a server.
pub(super) struct Link {
    port: u16,
    weather: watch::Sender<Weather>,
}

impl Link {
    /// To the server at this port, whether it is there or not.
    pub(super) async fn to(server: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (weather, sees) = watch::channel(Weather { silent_until: Instant::now(), breaks: 0 });
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connect(client, server, sees.clone()));
            }
        });
        Self { port, weather }
    }

    /// A server's URL, by this way.
    pub(super) fn way(&self, url: &str, port: u16) -> String {
        url.replace(&format!(":{port}"), &format!(":{}", self.port))
    }

    /// Nothing arrives for so long; then all of it does.
    pub(super) fn fall_silent(&self, time: Duration) {
        self.weather.send_modify(|weather| weather.silent_until = Instant::now() + time);
    }

    /// All connections break.
    pub(super) fn break_off(&self) {
        self.weather.send_modify(|weather| weather.breaks += 1);
    }
}

async fn connect(client: TcpStream, server: u16, weather: watch::Receiver<Weather>) {
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await else { return };
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
    }
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    // When one direction is over, both are.
    tokio::select! {
        () = carry(from_client, to_server, weather.clone()) => {}
        () = carry(from_server, to_client, weather) => {}
    }
}

/// Carries what is said until either side leaves, or the connection breaks.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut weather: watch::Receiver<Weather>) {
    let breaks = weather.borrow_and_update().breaks;
    let mut said = vec![0; UNDER_WAY];
    loop {
        let length = tokio::select! {
            read = from.read(&mut said) => read.unwrap_or_default(),
            changed = weather.changed() => match changed {
                Ok(()) if weather.borrow_and_update().breaks == breaks => continue,
                _ => return,
            },
        };
        loop {
            let now = *weather.borrow_and_update();
            if now.breaks != breaks {
                return;
            }
            if now.silent_until <= Instant::now() {
                break;
            }
            tokio::select! {
                () = sleep_until(now.silent_until) => {}
                changed = weather.changed() => if changed.is_err() { return },
            }
        }
        if length == 0 || to.write_all(&said[..length]).await.is_err() {
            return;
        }
    }
}
