//! Watching by server-sent events: what a service tells message by message becomes a stream that a browser follows, and goes
//! on with after the last id that it got. One stream can follow all services at once, since a browser has few connections.
use std::{collections::BTreeMap, fmt::Write as _, str::FromStr};

use axum::body::Body;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Response, header};
use prost_reflect::{DynamicMessage, Value};
use rapport_kernel::Error;
use tonic::{Code, Status, Streaming};

use crate::{edge::Edge, json::Json, problem::Problem, route::Route};

/// Stands for all services.
const ALL: &str = "-";
/// How long a browser waits before it comes again, in milliseconds.
const RETRY: &str = "retry: 1000\n\n";
/// The header in which a browser says which id it got last.
const LAST_EVENT_ID: &str = "last-event-id";

/// Follows a service, or all of them.
pub(super) async fn watch(
    edge: &Edge,
    route: &Route,
    metadata: HeaderMap,
    message: DynamicMessage,
    headers: &HeaderMap,
) -> Result<Response<Body>, Problem> {
    let named = message.get_field_by_name("service").and_then(|name| name.as_str().map(str::to_owned));
    let all = named.as_deref() == Some(ALL);
    if all && message.has_field_by_name("after") {
        let problem =
            "is of one service; to go on with all of them send the last id as the header `Last-Event-ID`";
        return Err(Problem::of(&Error::invalid("after", problem).into(), None));
    }
    let services = match all {
        true => edge.upstreams.names().into_iter().map(str::to_owned).collect(),
        false => vec![super::whose(edge, route, &message)?],
    };
    let mut at = match headers.get(LAST_EVENT_ID) {
        Some(id) => id.to_str().ok().and_then(|id| id.parse().ok()).ok_or_else(|| {
            let problem = "is not an id of this stream, like `customer:12,identity:7`";
            Problem::of(&Error::invalid("Last-Event-ID", problem).into(), None)
        })?,
        None => Position::default(),
    };
    let mut streams = Vec::new();
    for service in services {
        let mut message = message.clone();
        message.set_field_by_name("service", Value::String(service.clone()));
        if let Some(number) = at.0.get(&service) {
            message.set_field_by_name("after", Value::I64(*number));
        }
        match begin(edge, route, &service, metadata.clone(), message).await {
            Ok((first, rest)) => {
                at.0.insert(service.clone(), number(&first));
                let rest = rest.map(move |message| (service.clone(), message));
                streams.push(rest.boxed());
            }
            // A service that tells nothing.
            Err(status) if all && status.code() == Code::Unimplemented => {}
            Err(status) => return Err(Problem::of(&status, Some(&route.method.input()))),
        }
    }
    let begun = Bytes::from(format!("{RETRY}id: {at}\n\n"));
    let told = stream::unfold((stream::select_all(streams), at), |(mut messages, mut at)| async move {
        let (service, message) = messages.next().await?;
        // The first that ends ends all: the browser comes again, and goes on.
        let message = message.ok()?;
        at.0.insert(service, number(&message));
        Some((Ok::<_, Status>(event(&at, &message)), (messages, at)))
    });
    let body = stream::once(std::future::ready(Ok(begun))).chain(told);
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // Some proxies hold back what they do not know to be a stream.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Begins to follow a service: with the first message it says that it can.
async fn begin(
    edge: &Edge,
    route: &Route,
    service: &str,
    metadata: HeaderMap,
    message: DynamicMessage,
) -> Result<(DynamicMessage, Streaming<DynamicMessage>), Status> {
    let messages = stream::once(std::future::ready(Ok(message)));
    let begun = async {
        let mut answer = edge.upstreams.call(service, route.method, metadata, messages).await?;
        let first = answer.message().await?;
        first.map(|first| (first, answer)).ok_or_else(|| Status::unavailable("the stream ended at once"))
    };
    let begun = tokio::time::timeout(edge.deadline, begun).await;
    begun.unwrap_or_else(|_| Err(Status::deadline_exceeded("the service did not answer in time")))
}

/// How far each service was followed. As text, it is the id of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Position(BTreeMap<String, i64>);

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, (service, number)) in self.0.iter().enumerate() {
            write!(f, "{}{service}:{number}", if at == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl FromStr for Position {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let part = |part: &str| {
            let (service, number) = part.split_once(':').ok_or(())?;
            Ok((service.to_owned(), number.parse().map_err(|_| ())?))
        };
        text.split(',').map(part).collect::<Result<_, _>>().map(Self)
    }
}

fn number(message: &DynamicMessage) -> i64 {
    message.get_field_by_name("number").and_then(|number| number.as_i64()).unwrap_or_default()
}

/// A message as it is sent: its id alone where it tells nothing.
fn event(at: &Position, message: &DynamicMessage) -> Bytes {
    let mut text = format!("id: {at}\n");
    let event = message.get_field_by_name("event").filter(|_| message.has_field_by_name("event"));
    if let Some(event) = event.as_deref().and_then(Value::as_message) {
        let subject = event.get_field_by_name("subject");
        let subject = subject.as_deref().and_then(Value::as_str).unwrap_or_default();
        // JSON has no line breaks of its own, and strings escape theirs.
        let json = serde_json::to_string(&Json(event)).unwrap_or_default();
        let _ = write!(text, "event: {subject}\ndata: {json}\n");
    }
    text.push('\n');
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back() {
        let at: Position = "customer:12,identity:7".parse().unwrap();
        assert_eq!(at.0["identity"], 7);
        assert_eq!(at.to_string(), "customer:12,identity:7");
        for wrong in ["", "12", "customer", "customer:x", "customer:1,"] {
            assert!(wrong.parse::<Position>().is_err(), "{wrong}");
        }
    }
}
