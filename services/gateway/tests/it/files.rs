//! Uploads and downloads as streams.
use std::time::Duration;

use futures::StreamExt as _;
use prost::Message as _;
use rapport_kernel::Error;
use rapport_proto::{google::api::HttpBody, imports::v1::Import};
use serde_json::{Value, json};
use tonic::Status;

use crate::world::{ID, KEY, World};

const UPLOAD: &str = "customer.v1.ImportService/UploadImportFile";
const DOWNLOAD: &str = "customer.v1.ImportService/DownloadImportIssues";

fn pieces(total: usize, piece: usize) -> reqwest::Body {
    let stream = futures::stream::iter(
        (0..total / piece)
            .map(move |at| Ok::<_, std::io::Error>(vec![u8::try_from(at % 251).unwrap(); piece])),
    );
    reqwest::Body::wrap_stream(stream)
}

fn upload(world: &World) -> reqwest::RequestBuilder {
    world.call("PUT", &format!("/v1/customer/imports/{ID}/file")).header("content-type", "text/csv")
}

#[tokio::test]
async fn an_upload_arrives_in_pieces_and_whole() {
    let world = World::start().await;
    world.services.answer(UPLOAD, &Import { id: ID.into(), ..Import::default() });
    let answer = upload(&world).body(pieces(3 << 20, 100 << 10)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.json::<Value>().await.unwrap(), json!({"id": ID}));

    let call = world.services.last();
    let text = |at: usize, name: &str| {
        let file = call.messages[at].get_field_by_name("file").unwrap().into_owned();
        file.as_message().unwrap().get_field_by_name(name).unwrap().into_owned()
    };
    assert_eq!(call.messages[0].get_field_by_name("id").unwrap().as_str(), Some(ID));
    assert_eq!(text(0, "content_type").as_str(), Some("text/csv"));
    assert_eq!(text(1, "content_type").as_str(), Some(""));
    assert_eq!(call.messages[1].get_field_by_name("id").unwrap().as_str(), Some(""));
    let data: Vec<_> =
        (0..call.messages.len()).map(|at| text(at, "data").as_bytes().unwrap().clone()).collect();
    assert!(data.iter().all(|piece| piece.len() <= 1 << 20));
    let whole = data.concat();
    assert_eq!(whole.len(), (3 << 20) / (100 << 10) * (100 << 10));
    assert!(whole.chunks(100 << 10).enumerate().all(|(at, c)| c.iter().all(|b| usize::from(*b) == at % 251)));
}

#[tokio::test]
async fn an_empty_upload_is_still_an_upload() {
    let world = World::start().await;
    assert_eq!(upload(&world).send().await.unwrap().status(), 200);
    assert_eq!(world.services.last().json(), json!({"id": ID, "file": {"content_type": "text/csv"}}));
}

#[tokio::test]
async fn a_large_upload_takes_no_more_memory_than_a_small_one() {
    let world = World::start().await;
    world.services.answer(UPLOAD, &Import::default());
    world.services.count_only(UPLOAD);
    assert_eq!(upload(&world).body(pieces(1 << 20, 64 << 10)).send().await.unwrap().status(), 200);
    let before = resident();
    assert_eq!(upload(&world).body(pieces(200 << 20, 64 << 10)).send().await.unwrap().status(), 200);
    let grown = resident().saturating_sub(before);
    assert!(grown < 32 << 20, "{} MiB more", grown >> 20);
}

/// The most memory this process ever held, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

#[tokio::test]
async fn an_upload_that_is_too_large_is_broken_off_and_never_taken_for_whole() {
    let world = World::with(|settings| settings.upload_limit = 1 << 20).await;
    let answer = upload(&world).body(vec![0; 2 << 20]).send().await;
    if let Ok(answer) = answer {
        assert_eq!(answer.status(), 413);
    }
    assert!(world.services.calls().is_empty(), "it says itself that it is too large");
    let answer = upload(&world).body(pieces(2 << 20, 64 << 10)).send().await;
    if let Ok(answer) = answer {
        assert_eq!(answer.status(), 413);
        assert_eq!(answer.json::<Value>().await.unwrap()["reason"], "TOO_LARGE");
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(world.services.broken(), 1, "the service saw its stream break, not end");
}

#[tokio::test]
async fn a_packed_upload_is_unpacked_and_its_limit_is_for_what_comes_out() {
    use std::io::Write as _;

    let world = World::with(|settings| settings.upload_limit = 1 << 20).await;
    let pack = |size: usize| {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packer.write_all(&vec![b'x'; size]).unwrap();
        packer.finish().unwrap()
    };
    let send = |size| upload(&world).header("content-encoding", "gzip").body(pack(size)).send();
    assert_eq!(send(600_000).await.unwrap().status(), 200);
    let pieces = world.services.last().messages;
    let size = |message: &prost_reflect::DynamicMessage| {
        let file = message.get_field_by_name("file").unwrap().into_owned();
        let data = file.as_message().unwrap().get_field_by_name("data").unwrap().into_owned();
        data.as_bytes().unwrap().len()
    };
    assert_eq!(pieces.iter().map(size).sum::<usize>(), 600_000);
    let bomb = send(2 << 20).await.unwrap();
    assert_eq!(bomb.status(), 413);
    assert_eq!(world.services.broken(), 1);
}

#[tokio::test]
async fn an_upload_whose_sender_goes_away_is_not_taken_for_whole() {
    for world in [World::start().await, World::apart().await] {
        goes_away(&world).await;
    }
}

async fn goes_away(world: &World) {
    use tokio::io::AsyncWriteExt as _;

    for framing in ["content-length: 1000000", "transfer-encoding: chunked"] {
        let address = world.url.strip_prefix("http://").unwrap();
        let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let head = format!(
            "PUT /v1/customer/imports/{ID}/file HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n{framing}\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(b"5\r\na,b\n1\r\n").await.unwrap();
        socket.flush().await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(socket);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(world.services.calls().is_empty(), "no upload was whole");
    assert_eq!(world.services.broken(), 2);
}

#[tokio::test]
async fn a_refused_upload_says_why() {
    let world = World::start().await;
    world.services.answer_all(UPLOAD, []);
    world.services.fail(UPLOAD, Error::rule("IMPORT_RUNNING", "the import is running").into());
    let answer = upload(&world).body("a,b\n").send().await.unwrap();
    assert_eq!(answer.status(), 400);
    assert_eq!(answer.json::<Value>().await.unwrap()["reason"], "IMPORT_RUNNING");
    let form = world
        .call("PUT", &format!("/v1/customer/imports/{ID}/file"))
        .header("content-type", "multipart/form-data; boundary=x");
    assert_eq!(form.body("--x--").send().await.unwrap().status(), 415);
    let anonymous = world.anonymous("PUT", &format!("/v1/customer/imports/{ID}/file")).body("a");
    assert_eq!(anonymous.send().await.unwrap().status(), 401);
}

fn body(content_type: &str, data: &[u8]) -> Vec<u8> {
    let data = bytes::Bytes::copy_from_slice(data);
    HttpBody { content_type: content_type.into(), data, extensions: vec![] }.encode_to_vec()
}

#[tokio::test]
async fn a_download_is_a_file() {
    let world = World::start().await;
    let rows = vec![b'x'; 1 << 20];
    let messages = [body("text/csv; charset=utf-8", b"line,problem\n"), body("", &rows), body("", b"end")];
    world.services.answer_all(DOWNLOAD, messages);
    let path = format!("/v1/customer/imports/{ID}/issues.csv");
    let answer = world.call("GET", &path).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/csv; charset=utf-8");
    assert_eq!(answer.headers()["content-disposition"], "attachment; filename=\"issues.csv\"");
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    let bytes = answer.bytes().await.unwrap();
    assert_eq!(bytes.len(), 13 + (1 << 20) + 3);
    assert!(bytes.starts_with(b"line,problem\n") && bytes.ends_with(b"end"));

    world.services.answer_all(DOWNLOAD, []);
    assert_eq!(world.call("GET", &path).send().await.unwrap().bytes().await.unwrap().len(), 0);
    world.services.fail(DOWNLOAD, Status::not_found("import was not found"));
    assert_eq!(world.call("GET", &path).send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn a_download_that_fails_half_way_does_not_look_whole() {
    let world = World::start().await;
    world.services.answer_all(DOWNLOAD, [body("text/csv", b"half")]);
    world.services.fail(DOWNLOAD, Status::internal("broken"));
    let answer = world.call("GET", &format!("/v1/customer/imports/{ID}/issues.csv")).send().await;
    let Ok(answer) = answer else { return };
    assert_eq!(answer.status(), 200);
    let mut stream = answer.bytes_stream();
    let mut failed = false;
    while let Some(piece) = stream.next().await {
        failed |= piece.is_err();
    }
    assert!(failed);
}
