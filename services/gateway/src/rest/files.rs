//! Raw files: an upload goes to its service in pieces while it comes in, a download comes out in pieces as its service
//! makes them; neither is ever held whole.
use std::sync::{Arc, OnceLock};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use http::{HeaderMap, HeaderValue, Response, header, request::Parts};
use http_body_util::{BodyExt as _, Limited};
use prost_reflect::{DynamicMessage, FieldDescriptor, Value};
use tonic::Status;

use super::request::{announced, unread};
use crate::{edge::Edge, problem::Problem, route::Route, upstream::only};

/// Pieces are about this large: small enough to be flat in memory, large enough not to be many.
const PIECE: usize = 256 << 10;

/// Sends a request's body to the service, piece by piece.
pub(super) async fn upload(
    edge: &Edge,
    route: &Route,
    field: &FieldDescriptor,
    metadata: HeaderMap,
    parts: &Parts,
    first: DynamicMessage,
    body: Body,
) -> Result<DynamicMessage, Problem> {
    let limit = edge.upload_limit;
    let announced = announced(&parts.headers, limit)?;
    let content_type = content_type(&parts.headers)?;
    let failure = Arc::new(OnceLock::new());
    let pieces = Pieces {
        body: Limited::new(body, usize::try_from(limit).unwrap_or(usize::MAX)),
        limit,
        expected: announced,
        waiting: BytesMut::new(),
        ended: false,
        first: Some((first, content_type)),
        field: field.clone(),
        failure: failure.clone(),
    };
    let answer =
        match edge.upstreams.call(route.method.service(), route.method, metadata, pieces.stream()).await {
            Ok(answer) => only(answer).await,
            Err(status) => Err(status),
        };
    // What broke the upload off says more than how the service took it.
    answer.map_err(|status| {
        failure.get().cloned().unwrap_or_else(|| Problem::of(&status, Some(&route.method.input())))
    })
}

fn content_type(headers: &HeaderMap) -> Result<String, Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        "multipart/form-data" | "application/x-www-form-urlencoded" => Err(Problem::unsupported(
            "send the file itself as the body, not a form; for example `curl -T FILE`",
        )),
        "" => Ok("application/octet-stream".to_owned()),
        _ => Ok(given.to_owned()),
    }
}

struct Pieces {
    body: Limited<Body>,
    limit: u64,
    /// How much is still to come, where the request said how long it is.
    expected: Option<u64>,
    waiting: BytesMut,
    ended: bool,
    first: Option<(DynamicMessage, String)>,
    field: FieldDescriptor,
    failure: Arc<OnceLock<Problem>>,
}

impl Pieces {
    fn stream(self) -> impl Stream<Item = Result<DynamicMessage, Status>> + Send + 'static {
        futures::stream::unfold(self, |mut pieces| async move {
            let next = pieces.next().await?;
            Some((next, pieces))
        })
    }

    async fn next(&mut self) -> Option<Result<DynamicMessage, Status>> {
        while !self.ended && self.waiting.len() < PIECE {
            match self.body.frame().await {
                None if self.expected.is_some_and(|left| left > 0) => {
                    return Some(Err(self.break_off(Problem::partial())));
                }
                None => self.ended = true,
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.expected = self.expected.map(|left| left.saturating_sub(data.len() as u64));
                        self.waiting.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => {
                    let problem = unread(&error, self.limit);
                    return Some(Err(self.break_off(problem)));
                }
            }
        }
        if self.waiting.is_empty() && self.first.is_none() {
            return None;
        }
        let piece = self.waiting.split_to(self.waiting.len().min(PIECE)).freeze();
        Some(Ok(self.message(piece)))
    }

    /// Breaks the stream. Not by `CANCELLED`: servers take that for its end, and half a file for the whole.
    fn break_off(&mut self, problem: Problem) -> Status {
        self.ended = true;
        self.waiting.clear();
        self.first = None;
        let _ = self.failure.set(problem);
        Status::aborted("the upload broke off")
    }

    /// A piece as a message; the first one also says what the request said, and what the file is.
    fn message(&mut self, piece: Bytes) -> DynamicMessage {
        let (mut message, content_type) = match self.first.take() {
            Some((message, content_type)) => (message, Some(content_type)),
            None => (DynamicMessage::new(self.field.parent_message().clone()), None),
        };
        if let Some(file) = message.get_field_mut(&self.field).as_message_mut() {
            if let Some(content_type) = content_type {
                file.set_field_by_name("content_type", Value::String(content_type));
            }
            file.set_field_by_name("data", Value::Bytes(piece));
        }
        message
    }
}

/// Sends what a service answers as a file.
pub(super) async fn download(
    edge: &Edge,
    route: &Route,
    metadata: HeaderMap,
    message: DynamicMessage,
) -> Result<Response<Body>, Problem> {
    let told = |status| Problem::of(&status, Some(&route.method.input()));
    let messages = futures::stream::once(std::future::ready(Ok(message)));
    let begun = async {
        let mut answer =
            edge.upstreams.call(route.method.service(), route.method, metadata, messages).await?;
        let first = answer.message().await?;
        Ok((first, answer))
    };
    let begun = tokio::time::timeout(edge.deadline, begun).await;
    let late = || Err(Status::deadline_exceeded("the service did not answer in time"));
    let (first, rest) = begun.unwrap_or_else(|_| late()).map_err(told)?;

    let content_type =
        first.as_ref().and_then(|file| file.get_field_by_name("content_type")?.as_str()?.parse().ok());
    let pieces = futures::stream::iter(first.map(Ok)).chain(rest).map(|file| match file {
        Ok(file) => Ok(data(&file)),
        Err(status) => Err(status),
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    let unknown = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, content_type.unwrap_or(unknown));
    headers.insert(header::CONTENT_DISPOSITION, disposition(route));
    Ok(response)
}

fn data(file: &DynamicMessage) -> Bytes {
    file.get_field_by_name("data").and_then(|data| data.as_bytes().cloned()).unwrap_or_default()
}

/// Browsers save a file; they never show it as a page of ours.
fn disposition(route: &Route) -> HeaderValue {
    let plain = HeaderValue::from_static("attachment");
    route.template.file_name().map_or(plain.clone(), |name| {
        HeaderValue::try_from(format!("attachment; filename=\"{name}\"")).unwrap_or(plain)
    })
}
