//! Servers that count who comes, names that lead where a test wants, and doors with short limits.
use std::{
    collections::VecDeque,
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use http::{HeaderMap, Method};
use rapport_egress::{Door, Lookup, Request, Sabotage, Settings};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::NamedTempFile;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tracing_subscriber::fmt::{MakeWriter, format::FmtSpan};
use uuid::Uuid;

pub(crate) const TENANT: Uuid = Uuid::from_u128(1);
pub(crate) const OTHER: Uuid = Uuid::from_u128(2);

/// An authority, which doors trust here, so that no test needs those of the system.
pub(crate) struct Authority {
    pub(crate) issuer: CertifiedIssuer<'static, KeyPair>,
    pub(crate) file: NamedTempFile,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let file = NamedTempFile::new().unwrap();
        fs::write(file.path(), issuer.pem()).unwrap();
        Self { issuer, file }
    }

    pub(crate) fn path(&self) -> Option<PathBuf> {
        Some(self.file.path().to_owned())
    }
}

pub(crate) static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| Authority::new("the operator"));

pub(crate) fn settings() -> Settings {
    LazyLock::force(&LOG);
    Settings {
        roots_file: AUTHORITY.path(),
        connect_timeout_ms: 8_000,
        answer_bytes: 1000,
        tenant_in_flight: 2,
        in_flight: 3,
        ..Settings::default()
    }
}

/// For tests that wait for the time to be over; in the others a machine at work may take longer than that.
pub(crate) fn hurried() -> Settings {
    Settings { timeout_ms: 800, connect_timeout_ms: 500, ..settings() }
}

/// A door to `servers`, which the operator has allowed.
pub(crate) fn door_to(servers: &[&Server]) -> Door {
    door_with(settings(), servers)
}

pub(crate) fn door_with(settings: Settings, servers: &[&Server]) -> Door {
    let allow = servers.iter().map(|server| server.address.to_string()).collect();
    Door::with(Settings { allow, ..settings }, Names::new([]), Sabotage::None).unwrap()
}

/// A door to public hosts on the port of `server`, where names lead as `names` says.
pub(crate) fn door_outside(server: &Server, names: &Arc<Names>, sabotage: Sabotage) -> Door {
    let ports = vec![server.address.port()];
    Door::with(Settings { http: true, ports, ..settings() }, Arc::<Names>::clone(names), sabotage).unwrap()
}

pub(crate) fn post(url: impl Into<String>) -> Request {
    Request { method: Method::POST, url: url.into(), headers: HeaderMap::new(), body: "{}".into() }
}

/// Every name leads to the first of these, the next time to the second, and so on; to the last for good.
pub(crate) struct Names {
    answers: Mutex<VecDeque<Vec<IpAddr>>>,
    pub(crate) asked: Mutex<Vec<String>>,
}

impl Names {
    pub(crate) fn new<const N: usize>(answers: [&[&str]; N]) -> Arc<Self> {
        let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let answers = Mutex::new(answers.into_iter().map(addresses).collect());
        Arc::new(Self { answers, asked: Mutex::default() })
    }
}

impl Lookup for Names {
    fn addresses(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        self.asked.lock().unwrap().push(host);
        let mut answers = self.answers.lock().unwrap();
        let next = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        Box::pin(async move { next.ok_or_else(|| io::ErrorKind::NotFound.into()) })
    }
}

/// A server on this machine.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Server {
    /// Answers each request with the same bytes and hangs up.
    pub(crate) async fn answering(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes: Arc<[u8]> = bytes.into().into();
        Self::start(move |mut stream| {
            let bytes = Arc::clone(&bytes);
            async move {
                read_request(&mut stream).await;
                let _gone = stream.write_all(&bytes).await;
                let _gone = stream.shutdown().await;
                // Until the other side is done too: to close with bytes unread would cut off what was written.
                let _gone = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            }
        })
        .await
    }

    /// Does `serve` with each connection.
    pub(crate) async fn start<F: Future<Output = ()> + Send + 'static>(
        serve: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Self {
        Self::at(Ipv4Addr::LOCALHOST.into(), 0, serve).await
    }

    pub(crate) async fn at<F: Future<Output = ()> + Send + 'static>(
        ip: IpAddr,
        port: u16,
        serve: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind((ip, port)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream));
            }
        });
        Self { address, accepted }
    }

    /// Takes connections and says nothing.
    pub(crate) async fn silent() -> Self {
        Self::start(|stream| async move {
            tokio::time::sleep(Duration::from_secs(30)).await;
            drop(stream);
        })
        .await
    }

    /// One that is not there any more.
    pub(crate) fn gone() -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        Self { address: listener.local_addr().unwrap(), accepted: Arc::default() }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// Reads up to the end of the headers and returns them, with what came behind.
pub(crate) async fn read_request(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    let mut piece = [0; 4096];
    while !read.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => break,
            Ok(n) => read.extend_from_slice(&piece[..n]),
        }
    }
    String::from_utf8_lossy(&read).into_owned()
}

pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// What all tests of this process log, at every level.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn start() -> Self {
        let log = Self::default();
        tracing_subscriber::fmt()
            .with_writer(log.clone())
            .with_ansi(false)
            .with_max_level(tracing::Level::TRACE)
            .with_span_events(FmtSpan::CLOSE)
            .init();
        log
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// There from the first door on: a subscriber of one test alone may miss what others have met before.
pub(crate) static LOG: LazyLock<Log> = LazyLock::new(Log::start);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
