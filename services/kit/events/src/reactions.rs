//! What a service does when another one speaks: one table, read top to bottom.
use std::{collections::BTreeMap, fmt, ops::Deref, panic::AssertUnwindSafe, sync::Arc};

use futures::{FutureExt as _, future::BoxFuture};
use rapport_kernel::{Clock, Ctx, Error, Id, Principal};
use rapport_store::TenantTx;

use crate::{copies::Copy, log::Line};

/// What a handler says of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its effects are written, or it has none.
    Done,
    /// It cannot be worked off now; a person will see this text and can have it tried again.
    Park(String),
}

/// An event with the facts of its line.
#[derive(Clone, Debug)]
pub struct Event<E> {
    /// What happened.
    pub message: E,
    line: Arc<Line>,
}

impl<E> Event<E> {
    /// Number, record, actor and the like.
    pub fn line(&self) -> &Line {
        &self.line
    }
}

impl<E> Deref for Event<E> {
    type Target = E;

    fn deref(&self) -> &E {
        &self.message
    }
}

/// A handler's answer.
pub type Answer<'a> = BoxFuture<'a, Result<Verdict, Error>>;

pub(crate) type Handle = dyn for<'a> Fn(&'a mut TenantTx, &'a [Arc<Line>]) -> Answer<'a> + Send + Sync;

/// A handler: it has a name, which stands where people see what it could not do.
#[derive(Clone)]
pub(crate) struct Handler {
    pub(crate) name: &'static str,
    /// Whether it takes several events of a tenant at once.
    pub(crate) many: bool,
    handle: Arc<Handle>,
}

impl Handler {
    /// One that takes several events of a tenant at once.
    pub(crate) fn of_many(name: &'static str, handle: Arc<Handle>) -> Self {
        Self { name, many: true, handle }
    }

    pub(crate) async fn handle(&self, tx: &mut TenantTx, lines: &[Arc<Line>]) -> Result<Verdict, Error> {
        // A panic is an answer, too: it must not stop the lane.
        let handled = AssertUnwindSafe((self.handle)(tx, lines)).catch_unwind().await;
        handled.unwrap_or_else(|_| Err(Error::internal(format!("the handler {} panicked", self.name))))
    }
}

/// What a service does when another one speaks.
#[derive(Clone)]
pub struct Reactions {
    pub(crate) producer: String,
    by_type: BTreeMap<String, Vec<Handler>>,
    pub(crate) copies: Vec<Copy>,
}

impl Reactions {
    /// To the events of `producer`.
    pub fn to(producer: &str) -> Self {
        Self { producer: producer.to_owned(), by_type: BTreeMap::new(), copies: Vec::new() }
    }

    /// Whose events.
    pub fn producer(&self) -> &str {
        &self.producer
    }

    /// Calls `handle` for every event of this type. It does its own database's work and nothing slow.
    #[must_use]
    pub fn on<E>(
        self,
        name: &'static str,
        handle: impl for<'a> Fn(&'a mut TenantTx, &'a Event<E>) -> Answer<'a> + Send + Sync + 'static,
    ) -> Self
    where
        E: rapport_proto::Event + Default + 'static,
    {
        let handle = Arc::new(handle);
        let one = move |line: &Arc<Line>| -> Result<Event<E>, Error> {
            let payload = line.payload.as_deref().unwrap_or_default();
            let message = E::decode(payload).map_err(Error::internal)?;
            Ok(Event { message, line: line.clone() })
        };
        let handle: Arc<Handle> = Arc::new(move |tx: &mut TenantTx, lines: &[Arc<Line>]| {
            let handle = handle.clone();
            Box::pin(async move {
                for line in lines {
                    match handle(tx, &one(line)?).await? {
                        Verdict::Done => {}
                        park @ Verdict::Park(_) => return Ok(park),
                    }
                }
                Ok(Verdict::Done)
            })
        });
        self.add::<E>(Handler { name, many: false, handle })
    }

    pub(crate) fn add<E: rapport_proto::Event>(mut self, handler: Handler) -> Self {
        self.by_type.entry(E::full_name()).or_default().push(handler);
        self
    }

    /// The handlers of an event. None of one that was erased: nothing is known of it any more but that it happened.
    pub(crate) fn to_line(&self, line: &Line) -> &[Handler] {
        if line.payload.is_some() { self.of(&line.r#type) } else { &[] }
    }

    /// The handlers of a type.
    pub(crate) fn of(&self, r#type: &str) -> &[Handler] {
        self.by_type.get(r#type).map(Vec::as_slice).unwrap_or_default()
    }
}

impl fmt::Debug for Reactions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let types =
            self.by_type.iter().map(|(name, of)| (name, of.iter().map(|h| h.name).collect::<Vec<_>>()));
        f.debug_map().entries(types).finish()
    }
}

/// The context of what follows from an event: for its tenant, by Rapport itself, on behalf of whoever caused it.
pub(crate) fn ctx(line: &Line, clock: &Clock) -> Ctx {
    Ctx {
        principal: Principal::Service,
        on_behalf_of: line.on_behalf_of,
        cause: Some(line.event_id),
        trace: line.trace.as_deref().map(Into::into),
        ..Ctx::system(Id::new(line.tenant_id), clock.clone())
    }
}
