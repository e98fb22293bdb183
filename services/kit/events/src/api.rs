//! The log by gRPC, for peers who missed something on the bus.
use rapport_kernel::{Clock, Error, Instant};
use rapport_proto::events::v1::{
    GetLogHeadsRequest, GetLogHeadsResponse, LogLine, ReadLogRequest, ReadLogResponse, ReadSnapshotRequest,
    ReadSnapshotResponse, log_service_server::LogService,
};
use rapport_store::{Db, database, time};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{
    log::{self, Line, Which},
    snapshot::Snapshots,
};

/// Lines of a page when the caller does not say.
const PAGE: usize = 500;

/// Serves the log of a database.
#[derive(Clone, Debug)]
pub struct LogApi {
    /// The database.
    pub db: Db,
    /// The clock.
    pub clock: Clock,
    /// What peers may see of its records.
    pub snapshots: Snapshots,
}

impl LogApi {
    async fn lines(&self, request: ReadLogRequest) -> Result<ReadLogResponse, Error> {
        let part = i16::try_from(request.part).map_err(|_| Error::invalid("part", "is 0 to 31"))?;
        let most = usize::try_from(request.page_size).ok().filter(|most| *most > 0).unwrap_or(PAGE);
        let mut tx = self.db.platform().await?;
        let lines = log::read(tx.conn()?, Which::Part(part), request.after, most).await?;
        let (epoch, dropped_to) = sqlx::query_as(
            "SELECT epoch, coalesce((SELECT part_numbers_before[$1 + 1] FROM platform.log_days
               WHERE day > (SELECT max(day) FROM platform.log_dropped) ORDER BY day LIMIT 1), 0)
             FROM platform.leads WHERE name = 'log'",
        )
        .bind(request.part)
        .fetch_optional(tx.conn()?)
        .await
        .map_err(database)?
        .unwrap_or_default();
        tx.commit().await?;
        Ok(ReadLogResponse { lines: lines.iter().map(to_proto).collect(), epoch, dropped_to })
    }

    async fn heads(&self) -> Result<GetLogHeadsResponse, Error> {
        let mut tx = self.db.platform().await?;
        let (part_numbers, epoch, dropped_to, first_waiting, last_waiting) = sqlx::query_as(
            "SELECT part_numbers, epoch, coalesce((SELECT part_numbers_before FROM platform.log_days
               WHERE day > (SELECT max(day) FROM platform.log_dropped) ORDER BY day LIMIT 1), '{}'),
               coalesce((SELECT id FROM platform.outbox ORDER BY id LIMIT 1), 0),
               coalesce((SELECT id FROM platform.outbox ORDER BY id DESC LIMIT 1), 0)
             FROM platform.log_head, platform.leads WHERE leads.name = 'log'",
        )
        .fetch_one(tx.conn()?)
        .await
        .map_err(database)?;
        tx.commit().await?;
        Ok(GetLogHeadsResponse { part_numbers, epoch, dropped_to, first_waiting, last_waiting })
    }
}

#[tonic::async_trait]
impl LogService for LogApi {
    async fn read_log(&self, request: Request<ReadLogRequest>) -> Result<Response<ReadLogResponse>, Status> {
        Ok(Response::new(self.lines(request.into_inner()).await?))
    }

    async fn get_log_heads(
        &self,
        _: Request<GetLogHeadsRequest>,
    ) -> Result<Response<GetLogHeadsResponse>, Status> {
        Ok(Response::new(self.heads().await?))
    }

    async fn read_snapshot(
        &self,
        request: Request<ReadSnapshotRequest>,
    ) -> Result<Response<ReadSnapshotResponse>, Status> {
        Ok(Response::new(self.snapshots.read(&self.db, &self.clock, request.into_inner()).await?))
    }
}

/// A line as it is sent.
pub(crate) fn to_proto(line: &Line) -> LogLine {
    let text = |id: Option<Uuid>| id.map(|id| id.to_string()).unwrap_or_default();
    LogLine {
        number: line.number,
        part: line.part.into(),
        part_number: line.part_number,
        tenant_number: line.tenant_number,
        event_id: line.event_id.to_string(),
        tenant_id: line.tenant_id.to_string(),
        resource: line.resource.clone(),
        record_id: line.record_id.to_string(),
        version: line.version,
        subject: line.subject.clone(),
        r#type: line.r#type.clone(),
        changed_paths: line.changed_paths.clone(),
        payload: line.payload.clone(),
        principal: line.principal.clone(),
        on_behalf_of: text(line.on_behalf_of),
        via: line.via.clone(),
        cause: text(line.cause),
        trace: line.trace.clone().unwrap_or_default(),
        time: Some(time::to_proto(line.time)),
    }
}

/// A line as it was sent.
///
/// # Errors
/// When it was not sent by one of us.
pub(crate) fn from_proto(line: LogLine) -> Result<Line, Error> {
    let id = |text: &str| text.parse::<Uuid>().map_err(Error::internal);
    let optional = |text: &str| if text.is_empty() { Ok(None) } else { id(text).map(Some) };
    let time = line.time.and_then(|time| Instant::from_parts(time.seconds, time.nanos));
    Ok(Line {
        number: line.number,
        part: i16::try_from(line.part).map_err(Error::internal)?,
        part_number: line.part_number,
        tenant_number: line.tenant_number,
        event_id: id(&line.event_id)?,
        tenant_id: id(&line.tenant_id)?,
        record_id: id(&line.record_id)?,
        on_behalf_of: optional(&line.on_behalf_of)?,
        cause: optional(&line.cause)?,
        trace: Some(line.trace).filter(|trace| !trace.is_empty()),
        time: time.ok_or_else(|| Error::internal("a line without a time"))?,
        resource: line.resource,
        version: line.version,
        subject: line.subject,
        r#type: line.r#type,
        changed_paths: line.changed_paths,
        payload: line.payload,
        principal: line.principal,
        via: line.via,
    })
}
