//! The handler runs in a task of its own, and its caller merely waits for it: whoever hangs up cancels nothing half-way,
//! neither a transaction nor, since the database driver can hand a cancelled one on, somebody else's.
//!
//! Three more things follow from that place. A panic becomes INTERNAL with an id that the log explains. What would succeed
//! if tried again is tried again. And the answer that a request got before is given again.
use std::{any::Any, panic::AssertUnwindSafe, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::{FutureExt as _, future::join};
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use rapport_kernel::{Clock, Error};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt as _;
use tracing::Instrument as _;

use super::{Held, Next, Request, Response, Step, deadline::Until, method, read::Unary, refuse};

/// How often a call is tried at most.
const TRIES: u32 = 3;
/// The pause before the second try; before the third it is twice as long.
const PAUSE: Duration = Duration::from_millis(5);
/// How long a message of a stream is waited for that nobody wants any more.
const GRACE: Duration = Duration::from_secs(10);
/// In what `Error::Repeated` travels from the handler to here.
const REPEATED: &str = "rapport-repeated-bin";

#[derive(Clone)]
pub(crate) struct OwnTask {
    pub(crate) clock: Clock,
}

impl Step for OwnTask {
    async fn run(&self, mut request: Request, next: impl Next) -> Response {
        let held = request.extensions_mut().remove::<Held>().unwrap_or_default();
        let unary = request.extensions_mut().remove::<Unary>();
        let until = request.extensions().get::<Until>().map_or_else(Instant::now, |until| until.0);
        let streams = method(&request).is_some_and(|method| method.descriptor.is_server_streaming());
        let this = self.clone();
        let task = async move {
            let answer = match unary {
                Some(unary) => AssertUnwindSafe(tries(request, unary, next)).catch_unwind().await,
                None => {
                    AssertUnwindSafe(next.run(request.map(|body| in_time(body, until)))).catch_unwind().await
                }
            };
            match answer {
                Ok(response) if streams => response.map(|body| this.pump(body, held, until)),
                Ok(response) => response,
                Err(panic) => refuse(this.panicked(&*panic)),
            }
        };
        match tokio::spawn(task.in_current_span()).await {
            Ok(response) => response,
            // Panics were caught, so it was cancelled: the process is ending.
            Err(error) => refuse(Error::Unavailable(error.into())),
        }
    }
}

impl OwnTask {
    /// Moves a stream's messages on in a task of its own. A listener who goes away, or a deadline, ends the stream after
    /// the message in hand, which gets a little time to be finished.
    fn pump(self, mut body: Body, held: Held, until: Instant) -> Body {
        let (sender, receiver) = mpsc::channel::<Result<Frame<Bytes>, Status>>(1);
        let pump = async move {
            let _held = held;
            loop {
                let mut message = AssertUnwindSafe(body.frame()).catch_unwind();
                let frame = tokio::select! {
                    frame = &mut message => match frame {
                        Ok(None) => return,
                        Ok(Some(frame)) => frame,
                        Err(panic) => ended(&self.panicked(&*panic)),
                    },
                    () = sender.closed() => {
                        let _ = timeout(GRACE, message).await;
                        return;
                    }
                    () = sleep_until(until) => {
                        let (_, _) = join(send_late(&sender), timeout(GRACE, message)).await;
                        return;
                    }
                };
                let last = frame.as_ref().map_or(true, Frame::is_trailers);
                match timeout_at(until, sender.send(frame)).await {
                    Ok(Ok(())) if !last => {}
                    Ok(_) => return,
                    Err(_) => return send_late(&sender).await,
                }
            }
        };
        tokio::spawn(pump.in_current_span());
        Body::new(StreamBody::new(ReceiverStream::new(receiver)))
    }

    /// The caller gets an id, the log gets the id and the text: the text may be about anything.
    fn panicked(&self, panic: &(dyn Any + Send)) -> Status {
        let id = self.clock.new_uuid();
        let status = Status::from(Error::internal(format!("panic {id}: {}", crate::panic::text(panic))));
        Status::with_details(
            status.code(),
            format!("{} {id}", status.message()),
            Bytes::copy_from_slice(status.details()),
        )
    }
}

/// Tells the listener of a stream that its time is over, if there still is one.
async fn send_late(sender: &mpsc::Sender<Result<Frame<Bytes>, Status>>) {
    let _ = timeout(GRACE, sender.send(ended(&late()))).await;
}

fn late() -> Status {
    Status::deadline_exceeded("the stream took longer than it may")
}

/// The messages of the caller's stream, an error when they take longer than until then or are broken off.
fn in_time(body: Body, until: Instant) -> Body {
    let messages = futures::stream::unfold(body, move |mut body| async move {
        match timeout_at(until, body.frame()).await {
            Ok(frame) => frame.map(|frame| (frame.map_err(unbroken), body)),
            Err(_) => Some((Err(late()), Body::empty())),
        }
    });
    Body::new(StreamBody::new(messages))
}

/// A stream that its caller breaks off must not look as if it ended: tonic takes `CANCELLED` for the end, and so half a file
/// for the whole. Only the end that HTTP marks (END_STREAM, the last chunk) is one.
fn unbroken(status: Status) -> Status {
    if status.code() == Code::Cancelled { Status::aborted("the caller broke the stream off") } else { status }
}

/// Trailers that end a stream with an error.
fn ended(status: &Status) -> Result<Frame<Bytes>, Status> {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers)?;
    Ok(Frame::trailers(trailers))
}

/// Calls the handler; again when another transaction was faster.
async fn tries(request: Request, unary: Unary, next: impl Next) -> Response {
    let (parts, _) = request.into_parts();
    for try_number in 1.. {
        let response = next.clone().run(Request::from_parts(parts.clone(), unary.body())).await;
        // A handler's error is beside the response as what it was.
        let Some(status) = response.extensions().get::<Status>() else {
            return response;
        };
        if let Some(answer) = status.metadata().get_bin(REPEATED) {
            return repeated(answer.to_bytes().unwrap_or_default());
        }
        if try_number == TRIES || !conflicts(status) {
            return response;
        }
        sleep(PAUSE * try_number).await;
    }
    refuse(Error::Conflict)
}

fn conflicts(status: &Status) -> bool {
    status.code() == Code::Aborted
        && status.get_details_error_info().is_some_and(|info| info.reason == "CONFLICT")
}

/// The successful answer whose message is `message`.
fn repeated(message: Bytes) -> Response {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put(message);
    let mut trailers = HeaderMap::new();
    trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
    let body = Full::new(frame.freeze()).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}
