//! What a call that may be made sends, gets and leaves in the log.
use std::{
    process::Command,
    sync::{Arc, Mutex},
};

use http::Method;
use rapport_egress::{Failure, Request};
use tokio::io::AsyncWriteExt as _;

use crate::world::{LOG, OK, OTHER, Server, TENANT, door_to, post, read_request};

#[tokio::test]
async fn an_allowed_host_is_called() {
    let seen: Arc<Mutex<String>> = Arc::default();
    let see = Arc::clone(&seen);
    let server = Server::start(move |mut stream| {
        let see = Arc::clone(&see);
        async move {
            let request = read_request(&mut stream).await;
            *see.lock().unwrap() = request;
            let answer = "HTTP/1.1 429 Too Many\r\ncontent-type: text/plain\r\nretry-after: 7\r\nset-cookie: a=b\r\n\
                          x-powered-by: y\r\ncontent-length: 4\r\n\r\nlate";
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let door = door_to(&[&server]);
    let headers = [("webhook-id", "msg_1"), ("content-type", "application/json")];
    let headers =
        headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    let request = Request {
        method: Method::PUT,
        url: format!("{}?a=b", server.url()),
        headers,
        body: r#"{"a":1}"#.into(),
    };
    let answer = door.send(TENANT, request).await.unwrap();

    assert_eq!((answer.status.as_u16(), &answer.body[..], answer.truncated), (429, &b"late"[..], false));
    let kept: Vec<_> =
        answer.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(kept, [("content-type", "text/plain"), ("retry-after", "7")]);
    let seen = seen.lock().unwrap().to_ascii_lowercase();
    assert!(seen.starts_with("put /hook?a=b http/1.1\r\n"), "{seen}");
    for line in [
        "webhook-id: msg_1",
        "content-length: 7",
        "user-agent: rapport/",
        &format!("host: {}", server.address),
    ] {
        assert!(seen.contains(line), "{line} in {seen}");
    }
    for header in ["cookie", "accept-encoding", "referer", "traceparent"] {
        assert!(!seen.contains(header), "{header} in {seen}");
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_followed() {
    let inside = Server::answering(OK).await;
    for status in [301, 302, 303, 307, 308] {
        let to = inside.url();
        let answer = format!("HTTP/1.1 {status} Over There\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
        let server = Server::answering(answer).await;
        // Even though the place it names is allowed.
        let answer = door_to(&[&server, &inside]).send(TENANT, post(server.url())).await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), answer.headers["location"].to_str().unwrap()),
            (status, to.as_str())
        );
    }
    assert_eq!(inside.accepted(), 0);
}

#[tokio::test]
async fn nothing_is_sent_again_by_the_door() {
    let server = Server::answering("").await;
    let failure = door_to(&[&server]).send(TENANT, post(server.url())).await.unwrap_err();
    assert_eq!(failure.to_string(), "the answer is broken: the connection ended before it did");
    assert!(failure.may_have_arrived());
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn what_is_not_http_is_broken() {
    let server = Server::answering("SSH-2.0-OpenSSH_9.2\r\n").await;
    let failure = door_to(&[&server]).send(TENANT, post(server.url())).await.unwrap_err();
    assert_eq!(failure, Failure::Broken("it is not HTTP"));
}

#[tokio::test]
async fn a_closed_port_is_no_connection() {
    let gone = Server::gone();
    let failure = door_to(&[&gone]).send(TENANT, post(gone.url())).await.unwrap_err();
    assert_eq!(failure, Failure::Connect("it was refused"));
    assert!(!failure.may_have_arrived());
}

/// Another process runs a test of this file with a proxy in its environment, which a client would use unless told not to.
#[tokio::test(flavor = "multi_thread")]
async fn no_proxy_of_the_environment_is_asked() {
    let proxy = Server::answering(OK).await;
    let address = format!("http://{}", proxy.address);
    let mut test = Command::new(std::env::current_exe().unwrap());
    test.args(["--exact", "calls::an_allowed_host_is_called"]);
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        test.env(name, &address);
    }
    for name in ["no_proxy", "NO_PROXY"] {
        test.env_remove(name);
    }
    let output = tokio::task::spawn_blocking(move || test.output()).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    assert_eq!(proxy.accepted(), 0);
}

#[tokio::test]
async fn the_log_names_tenant_and_host_and_no_more_of_the_url() {
    let server = Server::answering(OK).await;
    let broken = Server::answering("").await;
    let door = door_to(&[&server, &broken]);
    for url in [server.url(), broken.url(), "https://10.0.0.1/hook".into()] {
        let mut request = post(format!("{url}/SECRET?key=SECRET"));
        request.headers.insert("authorization", "SECRET".parse().unwrap());
        request.body = "SECRET".into();
        assert!(!format!("{request:?}").contains("SECRET"));
        if let Err(failure) = door.send(OTHER, request).await {
            assert!(!format!("{failure} {failure:?}").contains("SECRET"));
        }
    }
    let log = LOG.text();
    assert!(!log.contains("SECRET"), "{log}");
    assert!(log.contains(&format!("tenant.id={OTHER} host=\"127.0.0.1\"")), "{log}");
    assert!(log.contains("http.response.status_code=200") && log.contains("error.type=\"broken\""), "{log}");
}
