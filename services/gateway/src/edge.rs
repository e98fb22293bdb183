//! What every request needs, made once at start; and the one place that decides whether a call is let in.
use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use axum::extract::ConnectInfo;
use http::{Method as Verb, request::Parts};
use rapport_kernel::{Clock, Error};
use rapport_proto::{Method, SessionEffect};
use tonic::{Code, Status, metadata::MetadataValue};

use crate::{
    Settings, SetupError, Upstream,
    caller::{Caller, Cookie, Credential, Origin, Tokens},
    limits::Limits,
    route::{self, Route, Table},
    upstream::Upstreams,
};

/// What every request needs.
pub(crate) struct Edge {
    pub(crate) table: Table<Route>,
    pub(crate) upstreams: Upstreams,
    pub(crate) limits: Limits,
    pub(crate) cookie: Cookie,
    pub(crate) json_limit: u64,
    pub(crate) upload_limit: u64,
    pub(crate) deadline: Duration,
    pub(crate) clock: Clock,
    tokens: Tokens,
}

/// By which way a call comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    /// REST.
    Rest,
    /// gRPC-Web, from a page.
    Web,
    /// gRPC, which a page can only speak after CORS allowed it to.
    Grpc,
}

impl Face {
    /// What spans and metrics call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::Web => "grpc-web",
            Self::Grpc => "grpc",
        }
    }
}

impl Edge {
    /// Reads the contract for these services.
    pub(crate) fn new(
        settings: &Settings,
        upstreams: HashMap<String, Upstream>,
    ) -> Result<Arc<Self>, SetupError> {
        let identity = upstreams.get("identity").cloned().ok_or(SetupError::NoIdentity)?;
        let internal = MetadataValue::try_from(settings.internal_secret.as_str())
            .map_err(|_| SetupError::InternalSecret)?;
        let table = route::table(&upstreams.keys().cloned().collect())?;
        Ok(Arc::new(Self {
            table,
            upstreams: Upstreams::new(upstreams),
            limits: Limits::new(settings.tenant_rate, settings.key_rate),
            cookie: Cookie::new(settings.cookie_secure),
            json_limit: settings.json_limit,
            upload_limit: settings.upload_limit,
            deadline: settings.deadline,
            clock: settings.clock.clone(),
            tokens: Tokens::new(identity, internal, settings.clock.clone()),
        }))
    }

    /// Lets a call of `method` in, or not. Whoever is not let in learns nothing else about the request.
    ///
    /// # Errors
    /// `UNAUTHENTICATED`, or `PERMISSION_DENIED` for what another site's page sent.
    pub(crate) async fn admit(&self, method: &Method, parts: &Parts, face: Face) -> Result<Caller, Status> {
        let address = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
        let public = route::is_public(method);
        let credential = Credential::read(&parts.headers, &self.cookie)?;
        self.same_origin(method, parts, face, credential.as_ref())?;
        let Some(credential) = credential else {
            let nobody = Caller { address, ..Caller::default() };
            return if public { Ok(nobody) } else { Err(Error::Unauthenticated.into()) };
        };
        let (fingerprint, is_cookie) = (credential.fingerprint(), credential.is_cookie());
        match self.tokens.exchange(credential, address).await {
            Ok(token) => Ok(Caller { token: Some(token), fingerprint: Some(fingerprint), address }),
            // A browser sends its cookie also when the session is over: it must be able to sign in again.
            Err(status) if public && is_cookie && status.code() == Code::Unauthenticated => {
                Ok(Caller { address, ..Caller::default() })
            }
            Err(status) => Err(status),
        }
    }

    /// Forgets the session that a call ended.
    pub(crate) async fn ended(&self, method: &Method, caller: &Caller) {
        if let (SessionEffect::Ends, Some(fingerprint)) = (method.session, &caller.fingerprint) {
            self.tokens.forget(fingerprint).await;
        }
    }

    /// A call that changes something on behalf of a cookie, and one that begins a session, must not be another site's.
    fn same_origin(
        &self,
        method: &Method,
        parts: &Parts,
        face: Face,
        credential: Option<&Credential>,
    ) -> Result<(), Error> {
        let safe = matches!(parts.method, Verb::GET | Verb::HEAD | Verb::OPTIONS);
        let by_cookie = credential.is_some_and(Credential::is_cookie);
        let begins = method.session == SessionEffect::Begins && credential.is_none_or(Credential::is_cookie);
        if safe || !(by_cookie || begins) {
            return Ok(());
        }
        match (Origin::of(parts), face) {
            (Origin::Same, _) => Ok(()),
            (Origin::Unsaid, Face::Grpc) => Ok(()),
            (Origin::Unsaid, _) if !by_cookie => Ok(()),
            _ => Err(Error::Denied(
                "a session cookie counts only for requests of this site's own pages; use an API key elsewhere".into(),
            )),
        }
    }
}
