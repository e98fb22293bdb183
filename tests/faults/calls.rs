//! Somebody who creates customers one by one by REST while faults strike, and calls again under the same key when there is
//! no answer: what was answered stays, and is there once.
use std::time::Duration;

use rapport_test_kit::Tenant;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{
    file::{Kept, Outcome, Row},
    imports::{Expected, define_fields},
};

/// Calls that go on until they are ended.
pub(crate) struct Calls {
    end: oneshot::Sender<()>,
    task: JoinHandle<Expected>,
}

impl Calls {
    /// Begins.
    pub(crate) async fn begin(tenant: Tenant) -> Self {
        define_fields(&tenant).await;
        let (end, mut ended) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut outcome = Outcome::default();
            for row in (0..).map(|number| Row::new(number, 1)) {
                create(&tenant, row).await;
                outcome.customers.insert(row.key(), Kept::created(row));
                if ended.try_recv().is_ok() {
                    break;
                }
            }
            Expected { tenant: tenant.id.parse().unwrap(), import: None, keyed: false, outcome }
        });
        Self { end, task }
    }

    /// Ends after the call in hand; says what must be there.
    pub(crate) async fn end(self) -> Expected {
        self.end.send(()).unwrap();
        let expected = self.task.await.unwrap();
        println!("{} calls were answered", expected.outcome.customers.len());
        expected
    }
}

/// Creates a customer, however often it takes to be answered.
async fn create(tenant: &Tenant, row: Row) {
    let customer = json!({
        "displayName": row.name(), "headcount": row.headcount().to_string(), "phones": [{"number": row.phone()}],
        "attributes": {"town": row.city(), "score": row.score().0},
    });
    loop {
        let call = tenant.request(Method::POST, "/v1/customers").header("idempotency-key", row.key());
        let answer = call.json(&customer).send().await.unwrap();
        match answer.status() {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {}
            status => {
                let body: Value = answer.json().await.unwrap();
                assert!(status.is_success(), "{status}: {body}");
                assert_eq!(body["displayName"], row.name());
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
