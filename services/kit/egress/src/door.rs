//! The door itself.
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use rapport_kernel::Error;
use reqwest::Client;
use tokio::time::timeout;
use tracing::{Instrument as _, Span, field::Empty};
use url::{Host, Url};
use uuid::Uuid;

use crate::{
    Answer, Failure, Lookup, Refusal, Request, Rule, Settings, System,
    client::{client, roots},
    lookup::{Checking, SLOT, Unresolved},
    message,
    policy::{Checked, Policy, Reach},
    slots::Slots,
};

/// A promise of the door to break. Only for tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sabotage {
    /// None.
    #[default]
    None,
    /// Wherever a name leads is where calls go.
    TrustName,
}

/// The one way out to addresses that tenants choose. Copies are the same door.
#[derive(Clone)]
pub struct Door(Arc<Inner>);

struct Inner {
    settings: Settings,
    policy: Policy,
    outside: Way,
    inside: Way,
    slots: Slots,
}

/// A client with connections of its own, so that what was opened to an allowed host serves no other URL.
struct Way {
    client: Client,
    checking: Checking,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").finish_non_exhaustive()
    }
}

impl Door {
    /// A door that asks the machine's resolver.
    ///
    /// # Errors
    /// `Rule` with the reason `EGRESS_SETTINGS` when a setting is wrong, or when there is no authority to trust.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        Self::with(settings, Arc::new(System::default()), Sabotage::None)
    }

    /// The same with another resolver, and perhaps a broken promise.
    ///
    /// # Errors
    /// As [`Door::new`].
    pub fn with(settings: Settings, lookup: Arc<dyn Lookup>, sabotage: Sabotage) -> Result<Self, Error> {
        settings.check()?;
        let policy = Policy::new(&settings)?;
        let roots = roots(settings.roots_file.as_deref())?;
        let way = |reach| {
            let checking = Checking { lookup: Arc::clone(&lookup), reach, sabotage };
            Ok::<_, Error>(Way { client: client(&settings, &roots, checking.clone())?, checking })
        };
        let (outside, inside) = (way(Reach::Outside)?, way(Reach::Inside)?);
        let slots = Slots::new(settings.tenant_in_flight, settings.in_flight);
        Ok(Self(Arc::new(Inner { settings, policy, outside, inside, slots })))
    }

    /// What can be told from a URL alone. It comes back as it will be called.
    ///
    /// # Errors
    /// When a rule refuses it.
    pub fn check(&self, url: &str) -> Result<Url, Refusal> {
        Ok(self.0.policy.check(url)?.url)
    }

    /// The same, and where its name leads now. That may change, so every call looks again; this is for telling people early.
    ///
    /// # Errors
    /// When a rule refuses it; `EGRESS_UNRESOLVED` when the name has no address.
    pub async fn resolve_check(&self, url: &str) -> Result<Url, Refusal> {
        let Checked { url, reach } = self.0.policy.check(url)?;
        let Some(Host::Domain(host)) = url.host() else { return Ok(url) };
        let limit = Duration::from_millis(self.0.settings.connect_timeout_ms);
        match timeout(limit, self.0.way(reach).checking.addresses(host)).await {
            Ok(Ok(_)) => Ok(url),
            Ok(Err(Unresolved::Refused(refusal))) => Err(refusal),
            Ok(Err(Unresolved::Unknown(_))) | Err(_) => {
                let message = format!("`{host}` has no address, or its name servers do not answer");
                Err(Refusal::new(Rule::Unresolved, message))
            }
        }
    }

    /// Makes the call for `tenant`, once.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(&self, tenant: Uuid, request: Request) -> Result<Answer, Failure> {
        let checked = self.0.policy.check(&request.url)?;
        request.check(&self.0.settings)?;
        let span = tracing::info_span!(
            "egress",
            otel.kind = "client",
            tenant.id = %tenant,
            host = checked.url.host_str().unwrap_or_default(),
            http.response.status_code = Empty,
            error.type = Empty,
        );
        let result = self.0.call(tenant, checked, request).instrument(span.clone()).await;
        record(&span, &result);
        result
    }
}

impl Inner {
    const fn way(&self, reach: Reach) -> &Way {
        match reach {
            Reach::Outside => &self.outside,
            Reach::Inside => &self.inside,
        }
    }

    /// With a slot for as long as it lasts, which is not longer than the time for it.
    async fn call(&self, tenant: Uuid, checked: Checked, request: Request) -> Result<Answer, Failure> {
        let slot = self.slots.take(tenant)?;
        let limit = Duration::from_millis(self.settings.timeout_ms);
        let call = SLOT.scope(slot, self.exchange(checked, request));
        timeout(limit, call).await.unwrap_or(Err(Failure::Timeout(limit)))
    }

    async fn exchange(&self, Checked { url, reach }: Checked, request: Request) -> Result<Answer, Failure> {
        let started = Instant::now();
        let failed = |error| Failure::of(&error, self.settings.header_bytes);
        let call =
            self.way(reach).client.request(request.method, url).headers(request.headers).body(request.body);
        let mut response = call.send().await.map_err(failed)?;
        if message::size(response.headers()) > self.settings.header_bytes {
            return Err(Failure::TooLarge(self.settings.header_bytes));
        }
        let status = response.status();
        let headers = message::kept(std::mem::take(response.headers_mut()));
        let (body, truncated) = self.body(&mut response).await.map_err(failed)?;
        Ok(Answer { status, headers, body, truncated, took: started.elapsed() })
    }

    /// The body up to the limit, and whether there was more. What is not read ends with the response: HTTP/1.1 loses the
    /// connection, HTTP/2 the stream.
    async fn body(&self, response: &mut reqwest::Response) -> Result<(Bytes, bool), reqwest::Error> {
        let mut body = BytesMut::new();
        while let Some(piece) = response.chunk().await? {
            let room = self.settings.answer_bytes - body.len();
            body.extend_from_slice(piece.get(..room).unwrap_or(&piece));
            if piece.len() > room {
                return Ok((body.freeze(), true));
            }
        }
        Ok((body.freeze(), false))
    }
}

fn record(span: &Span, result: &Result<Answer, Failure>) {
    match result {
        Ok(answer) => span.record("http.response.status_code", answer.status.as_u16()),
        Err(Failure::Refused(refusal)) => span.record("error.type", refusal.rule().name()),
        Err(failure) => span.record("error.type", failure.kind()),
    };
}
