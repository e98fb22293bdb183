//! Telling identity what the services of this process observe of their calls.
use std::{collections::BTreeMap, time::Duration};

use rapport_kernel::{Clock, Principal};
use rapport_proto::identity::v1::{
    self as pb,
    access_observation::{Caller, Observed},
    audit_service_client::AuditServiceClient,
};
use rapport_runtime::{
    stack::Upstream,
    witness::{Observation, Seen, Witness},
};
use rapport_store::time::to_proto;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use uuid::Uuid;

/// How often is looked whether there is something to tell.
const EVERY: Duration = Duration::from_millis(500);
/// Observations in one call.
const PIECE: usize = 1_000;
/// Calls that wait until identity answers again, at most; what comes then is lost.
const WAITING: usize = 100;
/// How long the last words may take when the process ends.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Tells `identity` what `witness` has seen, until `stop`.
pub(crate) async fn tell(witness: Witness, identity: Upstream, clock: Clock, stop: CancellationToken) {
    let mut identity = AuditServiceClient::new(identity);
    let mut waiting = Vec::new();
    let mut every = interval(EVERY);
    while stop.run_until_cancelled(every.tick()).await.is_some() {
        waiting.extend(requests(witness.take(clock.now())));
        send(&mut identity, &mut waiting).await;
    }
    waiting.extend(requests(witness.take_all()));
    let _ = timeout(LAST_WORDS, send(&mut identity, &mut waiting)).await;
}

/// Sends what waits; what identity cannot take now is left for the next time. It may have been told all the same when the answer
/// was lost: then it is told twice, which is better than never.
async fn send(identity: &mut AuditServiceClient<Upstream>, waiting: &mut Vec<pb::RecordAccessRequest>) {
    let mut left = Vec::new();
    for request in std::mem::take(waiting) {
        let Err(status) = identity.record_access(request.clone()).await else { continue };
        if left.len() < WAITING && may_pass(&status) {
            left.push(request);
            continue;
        }
        metrics::counter!("rapport_audit_lost_total").increment(request.observations.len() as u64);
        tracing::error!(
            code = ?status.code(),
            message = status.message(),
            observations = request.observations.len(),
            "what was observed of calls could not be told"
        );
    }
    *waiting = left;
}

fn may_pass(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Aborted
    )
}

/// The calls that tell these observations: of each tenant its own.
fn requests(observations: Vec<Observation>) -> Vec<pb::RecordAccessRequest> {
    let mut of = BTreeMap::<Uuid, Vec<pb::AccessObservation>>::new();
    for observation in observations {
        of.entry(observation.call.tenant).or_default().push(encode(observation));
    }
    let mut requests = Vec::new();
    for (tenant, all) in of {
        requests.extend(all.chunks(PIECE).map(|piece| pb::RecordAccessRequest {
            tenant: format!("identity.tenant/{tenant}"),
            observations: piece.to_vec(),
        }));
    }
    requests
}

fn encode(observation: Observation) -> pb::AccessObservation {
    let Observation { call, seen, address, count, first, last } = observation;
    let caller = call.principal.to_string();
    pb::AccessObservation {
        caller: Some(match call.principal {
            Principal::ApiKey(_) => Caller::ApiKey(caller),
            _ => Caller::User(caller),
        }),
        via: call.via.as_str().to_owned(),
        method: call.method.to_owned(),
        observed: Some(match seen {
            Seen::Refused { permission, reason } => {
                Observed::Refusal(pb::Refusal { permission: permission.to_owned(), reason })
            }
            Seen::Read { kind, fields } => {
                Observed::PrivateRead(pb::PrivateRead { kind, fields: fields.into_iter().collect() })
            }
        }),
        count: i64::try_from(count).unwrap_or(i64::MAX),
        first_time: Some(to_proto(first)),
        last_time: Some(to_proto(last)),
        address,
    }
}
