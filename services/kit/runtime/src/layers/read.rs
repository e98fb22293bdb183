//! The request of a unary call is taken in whole: within its size, and within what the service may hold in all. What
//! comes after has the request at hand, can check it, and can give it to the handler a second time.
use std::{pin::pin, sync::Arc};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use rapport_kernel::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Status, body::Body};

use super::{Next, Request, Response, Step, hold, method, refuse};

/// The flag and the length in front of a gRPC message.
const PREFIX: usize = 5;
/// Memory is counted in these.
const UNIT: usize = 1024;

#[derive(Clone)]
pub(crate) struct Read {
    most: usize,
    memory: Arc<Semaphore>,
}

/// The request of a unary call. The body is gone.
#[derive(Clone)]
pub(crate) struct Unary {
    /// With its prefix, as it was sent.
    frame: Bytes,
}

impl Unary {
    /// The body that the handler reads.
    pub(crate) fn body(&self) -> Body {
        Body::new(http_body_util::Full::new(self.frame.clone()))
    }

    /// The encoded message.
    pub(crate) fn message(&self) -> Bytes {
        self.frame.slice(PREFIX.min(self.frame.len())..)
    }
}

impl Read {
    /// Requests of at most `most` bytes, and of `in_all` bytes together.
    pub(crate) fn new(most: usize, in_all: usize) -> Self {
        let units = (in_all / UNIT).min(Semaphore::MAX_PERMITS);
        Self { most, memory: Arc::new(Semaphore::new(units)) }
    }

    async fn frame(&self, body: Body) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Status> {
        let (mut body, mut held) = (pin!(body), None);
        let (mut frame, mut first) = (BytesMut::new(), Bytes::new());
        while let Some(part) = body.frame().await {
            let Ok(data) = part?.into_data() else { continue };
            let length = first.len() + frame.len() + data.len();
            if length > self.most + PREFIX {
                let problem = format!("has more than the {} bytes that are allowed", self.most);
                return Err(Error::invalid("request", problem).into());
            }
            self.take(length, &mut held)?;
            // Nearly every request comes in one part, which then need not be copied.
            match (first.is_empty(), frame.is_empty()) {
                (true, true) => first = data,
                _ => {
                    frame.extend_from_slice(&std::mem::take(&mut first));
                    frame.extend_from_slice(&data);
                }
            }
        }
        let frame = if first.is_empty() { frame.freeze() } else { first };
        whole(&frame)?;
        Ok((frame, held))
    }

    /// Holds memory for a request that has come to `length` bytes.
    fn take(&self, length: usize, held: &mut Option<OwnedSemaphorePermit>) -> Result<(), Error> {
        let units = length.div_ceil(UNIT) - held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let busy =
            || Error::Exhausted { message: "the service holds as much as it can".into(), retry_after: 1 };
        let more = self.memory.clone().try_acquire_many_owned(units).map_err(|_| busy())?;
        match held {
            Some(held) => held.merge(more),
            None => *held = Some(more),
        }
        Ok(())
    }
}

/// Whether this is one message, whole and not compressed.
fn whole(frame: &[u8]) -> Result<(), Status> {
    let Some((flag, length)) =
        frame.split_first_chunk::<PREFIX>().map(|([flag, length @ ..], _)| (*flag, *length))
    else {
        return Err(Error::invalid("request", "is not a gRPC message").into());
    };
    if flag != 0 {
        return Err(Status::unimplemented(
            "compressed requests are not taken; send them with encoding `identity`",
        ));
    }
    if u32::from_be_bytes(length) as usize != frame.len() - PREFIX {
        return Err(Error::invalid("request", "is not one whole gRPC message").into());
    }
    Ok(())
}

impl Step for Read {
    async fn run(&self, request: Request, next: impl Next) -> Response {
        if method(&request).is_none_or(|method| method.descriptor.is_client_streaming()) {
            return next.run(request).await;
        }
        let (parts, body) = request.into_parts();
        let (frame, held) = match self.frame(body).await {
            Ok(read) => read,
            Err(status) => return refuse(status),
        };
        let mut request = Request::from_parts(parts, Body::empty());
        request.extensions_mut().insert(Unary { frame });
        hold(&mut request, held);
        next.run(request).await
    }
}
