//! What happens is followed by a browser while it happens, goes on where it stopped, and is told again of each record; each
//! hears of what they may see.
use std::{collections::BTreeMap, time::Duration};

use rapport_proto::events::v1::{ReadEventsRequest, event_service_client::EventServiceClient};
use rapport_test_kit::{Caller, World, json};
use reqwest::Response;
use serde_json::{Value, json};
use tonic::{Code, metadata::MetadataValue};

/// A stream of server-sent events, as a browser reads it.
struct Stream {
    response: Response,
    text: String,
    last_id: String,
}

impl Stream {
    async fn open(caller: &Caller, path: &str, last_id: &str) -> Self {
        let mut request = caller.request(reqwest::Method::GET, path);
        if !last_id.is_empty() {
            request = request.header("Last-Event-ID", last_id);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut stream = Self { response, text: String::new(), last_id: last_id.to_owned() };
        assert_eq!(stream.block().await["retry"], "1000");
        stream.block().await;
        stream
    }

    /// The next block of lines.
    async fn block(&mut self) -> BTreeMap<String, String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let lines = block.lines().filter_map(|line| line.split_once(": "));
                let lines: BTreeMap<_, _> = lines.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
                self.text = rest.to_owned();
                if let Some(id) = lines.get("id") {
                    self.last_id = id.clone();
                }
                return lines;
            }
            let chunk = tokio::time::timeout(Duration::from_secs(10), self.response.chunk()).await;
            let chunk = chunk.expect("the next event").unwrap().expect("the stream goes on");
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The subjects and names of the next customers that something happened to.
    async fn hear(&mut self, count: usize) -> Vec<(String, String)> {
        let mut heard = Vec::new();
        while heard.len() < count {
            let block = self.block().await;
            let Some(data) = block.get("data") else { continue };
            let event: Value = serde_json::from_str(data).unwrap();
            assert_eq!(event["subject"], block["event"].as_str());
            heard.push((block["event"].clone(), name(&event)));
        }
        heard
    }
}

fn name(event: &Value) -> String {
    event["data"]["customer"]["displayName"].as_str().unwrap_or_default().to_owned()
}

async fn create(caller: &Caller, name: &str) -> String {
    let created = json(caller.post("/v1/customers", &json!({"displayName": name})).await).await;
    created["id"].as_str().unwrap().to_owned()
}

fn created(names: &[&str]) -> Vec<(String, String)> {
    names.iter().map(|name| ("customer.created.v1".to_owned(), (*name).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_followed_as_it_happens() {
    let world = World::new().await;
    let (tea, other) = (world.tenant("tea").await, world.tenant("other").await);
    let seller = tea.person("sales").await;
    let path = "/v1/services/-/events:watch?subjects=customer.>";
    let mut all = Stream::open(&tea, path, "").await;
    let mut own = Stream::open(&seller, path, "").await;

    // The administrator hears of all customers, the seller of the seller's; nobody of another tenant's.
    create(&other, "Elsewhere").await;
    create(&tea, "西湖茶业").await;
    let customer = create(&seller, "Tea House").await;
    create(&tea, "Third").await;
    assert_eq!(all.hear(3).await, created(&["西湖茶业", "Tea House", "Third"]));
    assert_eq!(own.hear(1).await, created(&["Tea House"]));

    // One goes away and comes again: nothing is missing, nothing comes twice.
    let last_id = all.last_id.clone();
    assert!(last_id.contains("customer:") && last_id.contains("identity:"), "{last_id}");
    drop(all);
    let change = json!({"displayName": "茶馆", "industry": "tea"});
    json(seller.patch(&format!("/v1/customers/{customer}"), &change).await).await;
    create(&tea, "Fourth").await;
    let mut all = Stream::open(&tea, path, &last_id).await;
    let updated = ("customer.updated.v1".to_owned(), "茶馆".to_owned());
    assert_eq!(all.hear(2).await, [vec![updated.clone()], created(&["Fourth"])].concat());
    assert_eq!(own.hear(1).await, [updated]);

    // What happened to the customer, before and after, by whom and through what.
    let history = seller.read(&format!("/v1/services/customer/history/customer/{customer}")).await;
    let entries = history["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    let changes = json!([
        {"path": "display_name", "before": "Tea House", "after": "茶馆"},
        {"path": "industry", "after": "tea"},
    ]);
    assert_eq!(entries[0]["changes"], changes, "{:#}", entries[0]);
    assert_eq!(entries[0]["event"]["principal"], seller.name());
    assert_eq!(entries[0]["event"]["via"], "console");
    assert!(entries[1]["changes"].as_array().unwrap().len() > 1);
    let colleague = tea.person("sales").await;
    let path = format!("/v1/services/customer/history/customer/{customer}");
    assert_eq!(colleague.get(&path).await.status(), 404);
    assert_eq!(other.get(&path).await.status(), 404);

    // The same by pages, and by gRPC with a key, where a header says whose events are meant.
    let page = tea.read("/v1/services/customer/events?pageSize=2&filter=via==\"console\"").await;
    assert_eq!(page["events"].as_array().unwrap().len(), 2);
    assert_eq!((&page["nextAfter"], &page["lastNumber"]), (&json!("2"), &json!("5")));
    let permissions = json!([{"name": "customer.customers.read", "scope": "SCOPE_ALL"}]);
    let key = json!({"displayName": "warehouse", "permissions": permissions});
    let key = json(tea.post("/v1/apiKeys", &key).await).await["key"].as_str().unwrap().to_owned();
    let channel = tonic::transport::Channel::from_shared(world.url()).unwrap().connect_lazy();
    let mut client = EventServiceClient::with_interceptor(channel, move |mut request: tonic::Request<()>| {
        request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        Ok(request)
    });
    let after_two = ReadEventsRequest { after: 2, ..Default::default() };
    let unsaid = client.read_events(after_two.clone()).await.unwrap_err();
    assert_eq!(unsaid.code(), Code::InvalidArgument);
    assert!(unsaid.message().contains("must name the service that is meant"), "{unsaid}");
    let mut request = tonic::Request::new(after_two);
    request.metadata_mut().insert("rapport-service", MetadataValue::from_static("customer"));
    let events = client.read_events(request).await.unwrap().into_inner().events;
    assert_eq!(events.iter().map(|event| event.number).collect::<Vec<_>>(), [3, 4, 5]);

    // What cannot be is refused before the stream begins.
    for (path, id, status, words) in [
        ("/v1/services/nothing/events", "", 400, "is none of the services: `customer`, `identity`"),
        ("/v1/services/customer/events:watch?filter=x", "", 400, "unknown field"),
        ("/v1/services/-/events:watch?after=3", "", 400, "Last-Event-ID"),
        ("/v1/services/-/events:watch", "12", 400, "is not an id of this stream"),
        ("/v1/services/customer/events:watch?after=99", "", 400, "was not given yet"),
    ] {
        let mut request = tea.request(reqwest::Method::GET, path);
        if !id.is_empty() {
            request = request.header("Last-Event-ID", id);
        }
        let answer = request.send().await.unwrap();
        let (code, text) = (answer.status(), answer.text().await.unwrap());
        assert!(code == status && text.contains(words), "{path}: {code} {text}");
    }
}
