//! Secured connections: to whom the operator's authority vouches for, over HTTP/1.1 and HTTP/2.
use std::sync::Arc;

use http_body_util::Full;
use hyper::{Response, body::Bytes, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use rapport_egress::{Door, Failure, Sabotage, Settings};
use rcgen::{CertificateParams, KeyPair};
use tokio::io::AsyncWriteExt as _;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, pki_types::PrivatePkcs8KeyDer},
};

use crate::world::{AUTHORITY, Authority, Names, OK, Server, TENANT, door_to, post, settings};

const NAME: &str = "hooks.corp.example";

/// A server for `name`, vouched for by `authority`, which answers with the version of HTTP and speaks those in `alpn`.
async fn secured(name: &str, authority: &Authority, alpn: &[&[u8]]) -> Server {
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    serve(params, KeyPair::generate().unwrap(), authority, alpn).await
}

async fn serve(params: CertificateParams, key: KeyPair, authority: &Authority, alpn: &[&[u8]]) -> Server {
    let certificate = params.signed_by(&key, &authority.issuer).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Server::start(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| async move {
                let version = format!("{:?} {:?}", request.version(), request.uri().authority());
                Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from(version))))
            });
            let _gone =
                Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await
}

/// A door to `hooks.corp.example` and the URL of `server` by that name.
fn named(server: &Server) -> (Door, String) {
    let host = format!("{NAME}:{}", server.address.port());
    let settings = Settings { allow: vec![host.clone()], ..settings() };
    let door = Door::with(settings, Names::new([&["127.0.0.1"]]), Sabotage::None).unwrap();
    (door, format!("https://{host}/"))
}

#[tokio::test]
async fn whom_the_authority_vouches_for_is_called() {
    for (alpn, version) in
        [(&[b"http/1.1" as &[u8]] as &[&[u8]], "HTTP/1.1"), (&[b"h2", b"http/1.1"], "HTTP/2.0")]
    {
        let server = secured(NAME, &AUTHORITY, alpn).await;
        let (door, url) = named(&server);
        for _ in 0..2 {
            let answer = door.send(TENANT, post(url.as_str())).await.unwrap();
            assert!(answer.body.starts_with(version.as_bytes()), "{:?}", answer.body);
        }
        assert_eq!(server.accepted(), 1, "the connection serves again");
    }
}

#[tokio::test]
async fn an_authority_that_nobody_knows_is_not_believed() {
    let server = secured(NAME, &Authority::new("a stranger"), &[]).await;
    let (door, url) = named(&server);
    let failure = door.send(TENANT, post(url)).await.unwrap_err();
    let problem = "the certificate is from an authority that is not trusted, or one in between is missing";
    assert_eq!(failure, Failure::Tls(problem));
    assert!(!failure.may_have_arrived());
}

#[tokio::test]
async fn a_certificate_for_another_name_is_not_believed() {
    let server = secured("other.corp.example", &AUTHORITY, &[]).await;
    let (door, url) = named(&server);
    let failure = door.send(TENANT, post(url)).await.unwrap_err();
    assert_eq!(failure, Failure::Tls("the certificate is for another name"));
}

#[tokio::test]
async fn a_server_that_speaks_plainly_is_not_secured() {
    let serve =
        |mut stream: tokio::net::TcpStream| async move { stream.write_all(OK.as_bytes()).await.unwrap() };
    let server = Server::start(serve).await;
    let url = server.url().replace("http:", "https:");
    let failure = door_to(&[&server]).send(TENANT, post(url)).await.unwrap_err();
    assert_eq!(failure, Failure::Tls("the other side does not speak TLS on this port"));
}

#[tokio::test]
async fn a_certificate_has_its_time() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let server = serve(params, key, &AUTHORITY, &[]).await;
    let (door, url) = named(&server);
    let failure = door.send(TENANT, post(url)).await.unwrap_err();
    assert_eq!(failure, Failure::Tls("the certificate has expired"));
}
