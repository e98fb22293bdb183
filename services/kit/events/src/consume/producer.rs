//! The log of the service that is heard, as it is asked by gRPC.
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use rapport_kernel::{BoxError, Error};
use rapport_proto::events::v1::{
    GetLogHeadsRequest, GetLogHeadsResponse, ReadLogRequest, ReadSnapshotRequest, ReadSnapshotResponse,
    log_service_client::LogServiceClient,
};
use tonic::{body::Body, client::GrpcService};

use crate::{api::from_proto, log::Line};

/// A piece of the producer's log.
#[derive(Clone, Debug)]
pub struct Page {
    /// Lines of a partition, without gaps.
    pub lines: Vec<Line>,
    /// The leader that wrote the last of them, or a later one.
    pub epoch: i64,
}

type Asked<T> = BoxFuture<'static, Result<T, Error>>;
type Read = dyn Fn(i16, i64, i32) -> Asked<Page> + Send + Sync;
type Heads = dyn Fn() -> Asked<GetLogHeadsResponse> + Send + Sync;
type Snapshot = dyn Fn(ReadSnapshotRequest) -> Asked<ReadSnapshotResponse> + Send + Sync;

/// The log of the service that is heard.
#[derive(Clone)]
pub struct Producer {
    read: Arc<Read>,
    heads: Arc<Heads>,
    snapshot: Arc<Snapshot>,
}

impl Producer {
    /// The one that this client reaches.
    pub fn new<T>(client: LogServiceClient<T>) -> Self
    where
        T: GrpcService<Body> + Clone + Send + Sync + 'static,
        T::Error: Into<BoxError>,
        T::Future: Send,
        T::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
        <T::ResponseBody as http_body::Body>::Error: Into<BoxError> + Send,
    {
        let reader = client.clone();
        let read = move |part: i16, after, page_size| -> Asked<Page> {
            let mut client = reader.clone();
            Box::pin(async move {
                let request = ReadLogRequest { part: part.into(), after, page_size };
                let page = client.read_log(request).await.map_err(unreachable)?.into_inner();
                if page.dropped_to > after {
                    let message = format!(
                        "partition {part} is kept from {} on, and {after} was heard last: a snapshot is needed",
                        page.dropped_to + 1
                    );
                    return Err(Error::rule("LOG_DROPPED", message));
                }
                let lines = page.lines.into_iter().map(from_proto).collect::<Result<_, _>>()?;
                Ok(Page { lines, epoch: page.epoch })
            })
        };
        let asked = client.clone();
        let heads = move || -> Asked<GetLogHeadsResponse> {
            let mut client = asked.clone();
            Box::pin(async move {
                let heads = client.get_log_heads(GetLogHeadsRequest {}).await.map_err(unreachable)?;
                Ok(heads.into_inner())
            })
        };
        let snapshot = move |request| -> Asked<ReadSnapshotResponse> {
            let mut client = client.clone();
            Box::pin(async move {
                let page = client.read_snapshot(request).await.map_err(unreachable)?;
                Ok(page.into_inner())
            })
        };
        Self { read: Arc::new(read), heads: Arc::new(heads), snapshot: Arc::new(snapshot) }
    }

    /// Lines of a partition after a number, at most so many.
    pub(super) async fn read(&self, part: i16, after: i64, most: i32) -> Result<Page, Error> {
        (self.read)(part, after, most).await
    }

    /// Where the log stands.
    pub(crate) async fn heads(&self) -> Result<GetLogHeadsResponse, Error> {
        (self.heads)().await
    }

    /// Records as they are now.
    pub(crate) async fn snapshot(&self, request: ReadSnapshotRequest) -> Result<ReadSnapshotResponse, Error> {
        (self.snapshot)(request).await
    }
}

fn unreachable(status: tonic::Status) -> Error {
    Error::Unavailable(status.into())
}
