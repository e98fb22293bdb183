//! A proxy before PostgreSQL that counts round trips and listens to notices, so that a test can say what a call costs and how
//! it was planned, whatever the client library claims.
use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
};

/// What went over the wire.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    /// Statements of the simple protocol.
    pub(crate) simple: Vec<String>,
    /// Statements that were prepared.
    pub(crate) prepared: Vec<String>,
    /// Executions of prepared statements.
    pub(crate) executed: usize,
    /// Times that the client asked and waited: simple statements and groups that end in a Sync, but for a bare Sync, with
    /// which the pool asks whether a connection lives.
    pub(crate) round_trips: usize,
    /// Texts of notices.
    pub(crate) notices: Vec<String>,
}

/// The proxy.
#[derive(Debug)]
pub(crate) struct Wire {
    port: u16,
    seen: Arc<Mutex<Seen>>,
}

impl Wire {
    /// Listens, before the server of `url`.
    pub(crate) async fn before(url: &str) -> Self {
        let url = url::Url::parse(url).unwrap();
        let server = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5432));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let all = seen.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(asked(from_client, to_server, all.clone()));
                tokio::spawn(answered(from_server, to_client, all.clone()));
            }
        });
        Self { port, seen }
    }

    /// The same URL, through the proxy.
    pub(crate) fn url(&self, url: &str) -> String {
        let mut url = url::Url::parse(url).unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(self.port)).unwrap();
        url.set_query(Some("sslmode=disable"));
        url.into()
    }

    /// What was seen since the last time.
    pub(crate) fn take(&self) -> Seen {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

/// Client to server: a start-up message without a type, then messages of a type, a length and a body.
async fn asked(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, seen: Arc<Mutex<Seen>>) -> Option<()> {
    let length = from.read_u32().await.ok()?;
    let mut body = vec![0; length as usize - 4];
    from.read_exact(&mut body).await.ok()?;
    to.write_all(&[&length.to_be_bytes()[..], &body].concat()).await.ok()?;
    let mut asked = false;
    while let Some((kind, body)) = message(&mut from).await {
        {
            let mut seen = seen.lock().unwrap();
            match kind {
                b'Q' => seen.simple.push(text(&body)),
                b'P' => {
                    let name = text(&body).len() + 1;
                    seen.prepared.push(text(&body[name..]));
                }
                b'E' => seen.executed += 1,
                _ => {}
            }
            if kind == b'Q' || kind == b'S' && asked {
                seen.round_trips += 1;
            }
        }
        asked = !matches!(kind, b'Q' | b'S');
        forward(&mut to, kind, &body).await?;
    }
    to.shutdown().await.ok()
}

async fn answered(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, seen: Arc<Mutex<Seen>>) -> Option<()> {
    while let Some((kind, body)) = message(&mut from).await {
        if kind == b'N' {
            let notice =
                body.split(|b| *b == 0).find_map(|field| field.strip_prefix(b"M")).unwrap_or_default();
            seen.lock().unwrap().notices.push(String::from_utf8_lossy(notice).into_owned());
        }
        forward(&mut to, kind, &body).await?;
    }
    to.shutdown().await.ok()
}

async fn message(from: &mut OwnedReadHalf) -> Option<(u8, Vec<u8>)> {
    let kind = from.read_u8().await.ok()?;
    let length = from.read_u32().await.ok()?;
    let mut body = vec![0; length as usize - 4];
    from.read_exact(&mut body).await.ok()?;
    Some((kind, body))
}

async fn forward(to: &mut OwnedWriteHalf, kind: u8, body: &[u8]) -> Option<()> {
    let length = u32::try_from(body.len() + 4).unwrap();
    to.write_all(&[&[kind], &length.to_be_bytes()[..], body].concat()).await.ok()
}

/// The text up to the first zero.
fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body.split(|b| *b == 0).next().unwrap_or_default()).into_owned()
}
