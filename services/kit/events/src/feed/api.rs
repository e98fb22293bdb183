//! The gRPC face of a tenant's events.
use futures::stream::{Map, StreamExt as _};
use rapport_kernel::{Ctx, Error};
use rapport_proto::events::v1::{self as pb, event_service_server::EventService};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{
    Feed,
    watch::{QUEUE, Told, Watcher},
};

/// Events of a page when the caller does not say.
const PAGE: usize = 100;
/// Entries of a page of a history when the caller does not say.
const ENTRIES: usize = 50;

#[tonic::async_trait]
impl EventService for Feed {
    type WatchEventsStream = Map<ReceiverStream<Told>, fn(Told) -> Result<pb::WatchEventsResponse, Status>>;

    async fn get_event_position(
        &self,
        request: Request<pb::GetEventPositionRequest>,
    ) -> Result<Response<pb::EventPosition>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        self.is_meant(&ctx, &r.service)?;
        Ok(Response::new(self.position(&ctx).await?))
    }

    async fn read_events(
        &self,
        request: Request<pb::ReadEventsRequest>,
    ) -> Result<Response<pb::ReadEventsResponse>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        self.is_meant(&ctx, &r.service)?;
        Ok(Response::new(self.page(&ctx, &r, size(r.page_size, PAGE)).await?))
    }

    async fn watch_events(
        &self,
        request: Request<pb::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        self.is_meant(&ctx, &r.service)?;
        let wanted = self.wanted(&ctx, &r.subjects, &r.filter).await?;
        let at = match r.after {
            Some(after) => after,
            None => self.position(&ctx).await?.last_number,
        };
        // A number that cannot be gone on from is told before the stream begins.
        self.lines(&ctx, at, 1).await?;
        let (out, answer) = mpsc::channel(QUEUE);
        tokio::spawn(Watcher { feed: self.clone(), ctx, wanted, at, out }.run());
        Ok(Response::new(ReceiverStream::new(answer).map(|told| *told)))
    }

    async fn list_record_history(
        &self,
        request: Request<pb::ListRecordHistoryRequest>,
    ) -> Result<Response<pb::ListRecordHistoryResponse>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        self.is_meant(&ctx, &r.service)?;
        Ok(Response::new(self.history(&ctx, &r, size(r.page_size, ENTRIES)).await?))
    }
}

impl Feed {
    /// Whether the caller means this service, and calls for a tenant.
    fn is_meant(&self, ctx: &Ctx, service: &str) -> Result<(), Error> {
        let ours = self.audience.service();
        if ctx.tenant.uuid().is_nil() {
            return Err(Error::Denied("events are a tenant's, and the token names none".into()));
        }
        if service.is_empty() || service == ours {
            return Ok(());
        }
        Err(Error::invalid("service", format!("is `{ours}` here, not `{}`", rapport_kernel::cut(service))))
    }
}

fn size(asked: i32, usual: usize) -> usize {
    usize::try_from(asked).ok().filter(|size| *size > 0).unwrap_or(usual)
}
