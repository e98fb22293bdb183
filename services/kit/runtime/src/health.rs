//! Whether the process lives and whether it is ready: the same checks for load balancers (`/healthz`, `/readyz`) and for
//! gRPC peers (`grpc.health.v1`). A process that is ending is not ready, so that no new calls are sent to it.
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use futures::{
    future::{BoxFuture, join_all},
    stream::{self, BoxStream, StreamExt as _},
};
use rapport_kernel::BoxError;
use serde::Serialize;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout},
};
use tonic::{Request, Response, Status, service::Routes};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{Health as GrpcHealth, HealthServer},
};

/// A check that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long an answer is given again, so that many who ask do not load what is checked.
const KEPT: Duration = Duration::from_secs(1);

/// Something that has to work before calls can be served, e.g. the database.
#[derive(Clone)]
pub struct ReadyCheck {
    name: String,
    check: Arc<dyn Fn() -> BoxFuture<'static, Result<(), BoxError>> + Send + Sync>,
}

impl ReadyCheck {
    /// A check called `name`. Its error is shown to whoever asks, so it names no address and no password.
    pub fn new<F>(name: impl Into<String>, check: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        Self { name: name.into(), check: Arc::new(move || Box::pin(check())) }
    }

    async fn result(&self) -> CheckResult {
        let problem = match timeout(PATIENCE, (self.check)()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {PATIENCE:?}")),
        };
        CheckResult { name: self.name.clone(), ok: problem.is_none(), message: problem.unwrap_or_default() }
    }
}

impl std::fmt::Debug for ReadyCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ReadyCheck").field(&self.name).finish()
    }
}

/// The answer of `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether everything works and the process is not ending.
    pub ready: bool,
    /// Each check.
    pub checks: Vec<CheckResult>,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckResult {
    /// What was checked.
    pub name: String,
    /// Whether it works.
    pub ok: bool,
    /// What is wrong; empty when nothing is.
    pub message: String,
}

/// The health of the process. Clones share it.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

struct Inner {
    checks: Vec<ReadyCheck>,
    /// Held while checking, so that many who ask check once.
    last: Mutex<Option<(Instant, Vec<CheckResult>)>>,
    ending: AtomicBool,
}

impl Health {
    /// Ready when all `checks` succeed.
    pub fn new(checks: Vec<ReadyCheck>) -> Self {
        Self(Arc::new(Inner { checks, last: Mutex::default(), ending: AtomicBool::new(false) }))
    }

    /// From now on the process is not ready: it is ending.
    pub fn end(&self) {
        self.0.ending.store(true, Ordering::Release);
    }

    fn ending(&self) -> bool {
        self.0.ending.load(Ordering::Acquire)
    }

    /// What the checks find, at most a second old.
    pub async fn report(&self) -> Report {
        let mut checks = self.checks().await;
        if self.ending() {
            checks.push(CheckResult { name: "process".into(), ok: false, message: "is ending".into() });
        }
        Report { ready: checks.iter().all(|check| check.ok), checks }
    }

    async fn checks(&self) -> Vec<CheckResult> {
        let mut last = self.0.last.lock().await;
        if let Some((at, checks)) = &*last
            && at.elapsed() < KEPT
        {
            return checks.clone();
        }
        let checks = join_all(self.0.checks.iter().map(ReadyCheck::result)).await;
        *last = Some((Instant::now(), checks.clone()));
        checks
    }

    /// `/healthz`, `/readyz`, and gRPC health, which all tell the same.
    pub fn router(&self) -> Router {
        Routes::new(self.grpc())
            .into_axum_router()
            .reset_fallback()
            .route("/healthz", get(async || Json(serde_json::json!({"status": "alive"}))))
            .merge(Router::new().route("/readyz", get(readyz)).with_state(self.clone()))
    }

    /// The service `grpc.health.v1.Health`.
    pub fn grpc(&self) -> HealthServer<Self> {
        HealthServer::new(self.clone())
    }

    async fn serving(&self) -> ServingStatus {
        if self.report().await.ready { ServingStatus::Serving } else { ServingStatus::NotServing }
    }
}

async fn readyz(State(health): State<Health>) -> (StatusCode, Json<Report>) {
    let report = health.report().await;
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report))
}

/// Peers ask about the whole (the empty name) or about a service of the contract; the answer is the process's.
fn known(request: &Request<HealthCheckRequest>) -> Result<(), Status> {
    let name = &request.get_ref().service;
    if name.is_empty() || rapport_proto::POOL.get_service_by_name(name).is_some() {
        return Ok(());
    }
    Err(Status::not_found("the contract has no such service"))
}

#[tonic::async_trait]
impl GrpcHealth for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        known(&request)?;
        Ok(Response::new(HealthCheckResponse { status: self.serving().await.into() }))
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    /// Tells the status, and each change of it, until the process ends.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        known(&request)?;
        let changes = stream::unfold((self.clone(), None), |(health, told)| async move {
            loop {
                if told.is_some() && health.ending() {
                    return (told != Some(ServingStatus::NotServing))
                        .then_some((ServingStatus::NotServing, (health, Some(ServingStatus::NotServing))));
                }
                let status = health.serving().await;
                if told != Some(status) {
                    return Some((status, (health, Some(status))));
                }
                sleep(KEPT).await;
            }
        });
        Ok(Response::new(changes.map(|status| Ok(HealthCheckResponse { status: status.into() })).boxed()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn counted(answer: Result<(), &'static str>) -> (ReadyCheck, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        let counter = count.clone();
        let check = ReadyCheck::new("database", move || {
            counter.fetch_add(1, Ordering::SeqCst);
            async move { answer.map_err(BoxError::from) }
        });
        (check, count)
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_ask_check_once_a_second() {
        let (check, count) = counted(Ok(()));
        let health = Health::new(vec![check]);
        let reports = join_all((0..100).map(|_| health.report())).await;
        assert!(reports.iter().all(|report| report.ready));
        assert_eq!(count.load(Ordering::SeqCst), 1);
        tokio::time::advance(KEPT).await;
        health.report().await;
        assert_eq!(count.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_or_hangs_is_named() {
        let hanging = ReadyCheck::new("bus", std::future::pending);
        let health = Health::new(vec![counted(Err("does not answer")).0, hanging, counted(Ok(())).0]);
        let report = serde_json::to_value(health.report().await).unwrap();
        assert_eq!(
            report,
            serde_json::json!({"ready": false, "checks": [
                {"name": "database", "ok": false, "message": "does not answer"},
                {"name": "bus", "ok": false, "message": "no answer within 2s"},
                {"name": "database", "ok": true, "message": ""},
            ]})
        );
    }

    #[tokio::test]
    async fn an_ending_process_is_not_ready() {
        let health = Health::new(vec![]);
        assert!(health.report().await.ready);
        health.end();
        assert!(!health.report().await.ready);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_tells_changes_and_ends_with_the_process() {
        let health = Health::new(vec![]);
        let request = Request::new(HealthCheckRequest { service: String::new() });
        let mut watch = health.watch(request).await.unwrap().into_inner();
        let told =
            |message: Option<Result<HealthCheckResponse, Status>>| message.map(|m| m.unwrap().status());
        assert_eq!(told(watch.next().await), Some(ServingStatus::Serving));
        health.end();
        assert_eq!(told(watch.next().await), Some(ServingStatus::NotServing));
        assert_eq!(told(watch.next().await), None);
        let request = Request::new(HealthCheckRequest { service: "nobody".into() });
        assert_eq!(health.check(request).await.unwrap_err().code(), tonic::Code::NotFound);
    }
}
