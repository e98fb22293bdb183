//! gRPC and gRPC-Web on the same port.
use bytes::{BufMut as _, BytesMut};
use prost::Message as _;
use rapport_gateway::Rate;
use rapport_proto::{
    customer::v1::{
        Customer, GetCustomerRequest, customer_service_client::CustomerServiceClient,
        import_service_client::ImportServiceClient,
    },
    google::api::HttpBody,
    identity::v1::{
        ExchangeCredentialRequest, SignInRequest, SignInResponse, SignOutRequest,
        session_service_client::SessionServiceClient, token_service_client::TokenServiceClient,
    },
    imports::v1::{DownloadImportIssuesRequest, Import, UploadImportFileRequest},
};
use tonic::{Code, Request, transport::Channel};

use crate::world::{ID, KEY, SESSION, World, token};

const GET: &str = "customer.v1.CustomerService/GetCustomer";

async fn channel(world: &World) -> Channel {
    Channel::from_shared(world.url.clone()).unwrap().connect().await.unwrap()
}

fn with_key<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {KEY}").parse().unwrap());
    request
}

fn get() -> GetCustomerRequest {
    GetCustomerRequest { id: ID.into() }
}

#[tokio::test]
async fn a_grpc_call_goes_through_as_it_is() {
    let world = World::with(|settings| settings.key_rate = Some(Rate::new(10, 10))).await;
    world.services.answer(GET, &Customer { id: ID.into(), ..Customer::default() });
    let mut client = CustomerServiceClient::new(channel(&world).await);
    let mut request = with_key(get());
    for (name, value) in [("rapport-internal", "guess"), ("custom", "kept"), ("cookie", "rapport=x")] {
        request.metadata_mut().insert(name, value.parse().unwrap());
    }
    let answer = client.get_customer(request).await.unwrap();
    assert_eq!(answer.metadata().get("ratelimit-remaining").unwrap(), "9");
    assert!(
        answer.metadata().get("rapport-repeated-bin").is_none(),
        "what services say to each other stays inside"
    );
    assert_eq!(answer.into_inner().id, ID);
    let call = world.services.last();
    assert_eq!(call.message::<GetCustomerRequest>().id, ID);
    assert_eq!(call.header("authorization"), Some(token(KEY).as_str()));
    assert_eq!(call.header("custom"), Some("kept"));
    assert_eq!(call.header("rapport-client-ip"), Some("127.0.0.1"));
    assert_eq!((call.header("rapport-internal"), call.header("cookie")), (None, None));
}

#[tokio::test]
async fn streams_go_both_ways() {
    let world = World::start().await;
    world
        .services
        .answer("customer.v1.ImportService/UploadImportFile", &Import { id: ID.into(), ..Import::default() });
    let piece = |text: &str| HttpBody {
        content_type: String::new(),
        data: text.to_owned().into(),
        extensions: vec![],
    };
    let body = |text| piece(text).encode_to_vec();
    world.services.answer_all("customer.v1.ImportService/DownloadImportIssues", [body("a"), body("b")]);
    let mut client = ImportServiceClient::new(channel(&world).await);

    let message = |text| UploadImportFileRequest { id: ID.into(), file: Some(piece(text)) };
    let pieces = tokio_stream::iter([message("1"), message("2"), message("3")]);
    assert_eq!(client.upload_import_file(with_key(pieces)).await.unwrap().into_inner().id, ID);
    assert_eq!(world.services.last().messages.len(), 3);

    let issues = DownloadImportIssuesRequest { id: ID.into() };
    let mut answer = client.download_import_issues(with_key(issues)).await.unwrap().into_inner();
    let mut got = String::new();
    while let Some(piece) = answer.message().await.unwrap() {
        got.push_str(std::str::from_utf8(&piece.data).unwrap());
    }
    assert_eq!(got, "ab");
}

#[tokio::test]
async fn refusals_are_grpc_statuses() {
    let world = World::with(|settings| settings.key_rate = Some(Rate::new(1, 1))).await;
    let channel = channel(&world).await;
    let mut client = CustomerServiceClient::new(channel.clone());
    assert_eq!(client.get_customer(get()).await.unwrap_err().code(), Code::Unauthenticated);
    let mut jwt = Request::new(get());
    jwt.metadata_mut().insert("authorization", token(KEY).parse().unwrap());
    assert_eq!(client.get_customer(jwt).await.unwrap_err().code(), Code::Unauthenticated);

    let mut internal = TokenServiceClient::new(channel.clone());
    let refused =
        internal.exchange_credential(with_key(ExchangeCredentialRequest::default())).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);

    world.services.fail(GET, rapport_kernel::Error::not_found("customer", ID).into());
    let refused = client.get_customer(with_key(get())).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::NotFound, format!("customer `{ID}` was not found").as_str())
    );
    let refused = client.get_customer(with_key(get())).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    use tonic_types::StatusExt as _;
    assert!(refused.get_details_retry_info().is_some());
}

#[tokio::test]
async fn a_session_begun_by_grpc_is_held_by_the_program() {
    let world = World::start().await;
    let answer = SignInResponse { session: None, session_token: SESSION.into() };
    world.services.answer("identity.v1.SessionService/SignIn", &answer);
    let mut client = SessionServiceClient::new(channel(&world).await);
    let answer = client.sign_in(SignInRequest::default()).await.unwrap();
    assert!(answer.metadata().get("set-cookie").is_none());
    let cookie = format!("rapport={}", answer.into_inner().session_token);
    let mut request = Request::new(SignOutRequest {});
    request.metadata_mut().insert("cookie", cookie.parse().unwrap());
    client.sign_out(request).await.unwrap();
    assert_eq!(world.services.last().header("authorization"), Some(token(SESSION).as_str()));
    let mut forged = Request::new(SignOutRequest {});
    forged.metadata_mut().insert("cookie", cookie.parse().unwrap());
    forged.metadata_mut().insert("origin", "https://evil.example".parse().unwrap());
    assert_eq!(client.sign_out(forged).await.unwrap_err().code(), Code::PermissionDenied);
}

/// A gRPC-Web call by HTTP/1.1: the answer's message, and its trailers as text.
async fn web(
    world: &World,
    path: &str,
    message: &impl prost::Message,
    headers: &[(&str, &str)],
) -> (Vec<u8>, String) {
    let mut frame = BytesMut::new();
    let bytes = message.encode_to_vec();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(bytes.len()).unwrap());
    frame.put_slice(&bytes);
    let request = world
        .anonymous("POST", path)
        .header("content-type", "application/grpc-web+proto")
        .header("accept", "application/grpc-web+proto")
        .header("x-grpc-web", "1");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let answer = request.body(frame.freeze()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("application/grpc-web"));
    let in_headers =
        answer.headers().get("grpc-status").map(|s| format!("grpc-status:{}", s.to_str().unwrap()));
    let mut bytes = answer.bytes().await.unwrap().to_vec();
    let (mut message, mut trailers) = (Vec::new(), in_headers.unwrap_or_default());
    while !bytes.is_empty() {
        let length = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
        let rest = bytes.split_off(5 + length);
        match bytes[0] & 0x80 {
            0 => message = bytes[5..].to_vec(),
            _ => trailers.push_str(std::str::from_utf8(&bytes[5..]).unwrap()),
        }
        bytes = rest;
    }
    (message, trailers.replace(' ', ""))
}

#[tokio::test]
async fn pages_call_by_grpc_web() {
    let world = World::start().await;
    world.services.answer(GET, &Customer { display_name: "云图".into(), ..Customer::default() });
    let path = "/rapport.customer.v1.CustomerService/GetCustomer";
    let key = format!("Bearer {KEY}");
    let (message, trailers) = web(&world, path, &get(), &[("authorization", &key)]).await;
    assert_eq!(Customer::decode(message.as_slice()).unwrap().display_name, "云图");
    assert!(trailers.contains("grpc-status:0"), "{trailers}");

    let cookie = format!("rapport={SESSION}");
    let own = [("cookie", cookie.as_str()), ("sec-fetch-site", "same-origin")];
    assert!(web(&world, path, &get(), &own).await.1.contains("grpc-status:0"));
    for foreign in [
        vec![("cookie", cookie.as_str()), ("sec-fetch-site", "cross-site")],
        vec![("cookie", cookie.as_str())],
    ] {
        assert!(web(&world, path, &get(), &foreign).await.1.contains("grpc-status:7"), "{foreign:?}");
    }
    assert!(web(&world, path, &get(), &[]).await.1.contains("grpc-status:16"));
    let internal = "/rapport.identity.v1.TokenService/ExchangeCredential";
    let (_, trailers) = web(&world, internal, &ExchangeCredentialRequest::default(), &own).await;
    assert!(trailers.contains("grpc-status:12"), "{trailers}");
}

#[tokio::test]
async fn a_service_may_run_elsewhere() {
    let world = World::apart().await;
    world.services.answer(GET, &Customer { display_name: "云图".into(), ..Customer::default() });
    let rest = world.call("GET", &format!("/v1/customers/{ID}")).send().await.unwrap();
    assert_eq!(rest.text().await.unwrap(), r#"{"displayName":"云图"}"#);
    let mut client = CustomerServiceClient::new(channel(&world).await);
    assert_eq!(client.get_customer(with_key(get())).await.unwrap().into_inner().display_name, "云图");
    let (path, key) = ("/rapport.customer.v1.CustomerService/GetCustomer", format!("Bearer {KEY}"));
    let (message, trailers) = web(&world, path, &get(), &[("authorization", &key)]).await;
    assert_eq!(Customer::decode(message.as_slice()).unwrap().display_name, "云图");
    assert!(trailers.contains("grpc-status:0"), "{trailers}");
}

#[tokio::test]
async fn a_stream_that_its_caller_drops_does_not_look_whole() {
    for world in [World::start().await, World::apart().await] {
        let mut client = ImportServiceClient::new(channel(&world).await);
        let message = UploadImportFileRequest { id: ID.into(), file: None };
        let endless = tokio_stream::StreamExt::chain(tokio_stream::once(message), tokio_stream::pending());
        let call = client.upload_import_file(with_key(endless));
        assert!(tokio::time::timeout(std::time::Duration::from_millis(300), call).await.is_err());
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        assert_eq!(world.services.broken(), 1);
        assert!(world.services.calls().is_empty());
    }
}

#[tokio::test]
async fn rest_is_there_by_http_2_too() {
    let world = World::start().await;
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let answer =
        client.get(format!("{}/v1/customers/{ID}", world.url)).bearer_auth(KEY).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_2));
}

#[tokio::test]
async fn grpc_by_the_wrong_means_is_told_so() {
    let world = World::start().await;
    let path = "/rapport.customer.v1.CustomerService/GetCustomer";
    let answer = world.call("POST", path).header("content-type", "application/grpc").send().await.unwrap();
    assert_eq!(answer.status(), 400);
    let answer = world.call("POST", path).json(&serde_json::json!({})).send().await.unwrap();
    assert_eq!(answer.status(), 404, "REST has paths of its own");
}
