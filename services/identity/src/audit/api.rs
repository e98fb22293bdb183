//! Observations by gRPC, for Rapport's own services.
use std::sync::Arc;

use rapport_kernel::{Ctx, Error, Id};
use rapport_proto::identity::v1::{self as pb, audit_service_server::AuditService};
use tonic::{Request, Response, Status};

use crate::Shared;

/// The service.
pub(crate) struct Audits(pub(crate) Arc<Shared>);

#[tonic::async_trait]
impl AuditService for Audits {
    async fn record_access(&self, request: Request<pb::RecordAccessRequest>) -> Result<Response<()>, Status> {
        let (ctx, r) = Ctx::open(request)?;
        let tenant = Id::<rapport_kernel::Tenant>::parse_reference("tenant", &r.tenant)?;
        let within = Ctx { trace: ctx.trace.clone(), ..Ctx::system(tenant, ctx.clock.clone()) };
        let mut tx = match self.0.db.begin(&within).await {
            Ok(tx) => tx,
            // In a tenant that is not there, or is not served any more, nothing is told.
            Err(Error::Unauthenticated | Error::Rule { .. }) => return Ok(Response::new(())),
            Err(error) => return Err(error.into()),
        };
        super::tell(&mut tx, r.observations).await?;
        Ok(tx.commit(()).await?)
    }
}
