//! Who calls. What comes from outside is an API key or a session cookie; what goes inside is a token that identity gave
//! for it. Tokens from outside are refused, and so is whatever else claims to come from within.
mod cookie;
mod origin;
mod tokens;

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, header};
use rapport_kernel::Error;
use sha2::{Digest as _, Sha256};

pub(crate) use cookie::Cookie;
pub(crate) use origin::Origin;
pub(crate) use tokens::{Token, Tokens};

/// No credential is longer.
const LONGEST: usize = 300;

/// The SHA-256 of a credential: what caches and limits know it by.
pub(crate) type Fingerprint = [u8; 32];

/// What a caller holds.
pub(crate) enum Credential {
    /// An API key, `rap_…`.
    Key(String),
    /// The secret of a browser session.
    Session(String),
}

/// A caller who may go on.
#[derive(Clone, Default)]
pub(crate) struct Caller {
    /// The token; none for who did not sign in.
    pub(crate) token: Option<Arc<Token>>,
    /// The credential that was shown.
    pub(crate) fingerprint: Option<Fingerprint>,
    /// Where the call came from.
    pub(crate) address: Option<IpAddr>,
}

impl Credential {
    /// What the request shows; a key counts more than a cookie.
    ///
    /// # Errors
    /// `Unauthenticated` when something else is shown, such as a token from inside.
    pub(crate) fn read(headers: &HeaderMap, cookie: &Cookie) -> Result<Option<Self>, Error> {
        let Some(shown) = headers.get(header::AUTHORIZATION) else {
            return Ok(cookie
                .read(headers)
                .filter(|secret| plain(secret))
                .map(|secret| Self::Session(secret.to_owned())));
        };
        let (scheme, key) =
            shown.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(Error::Unauthenticated)?;
        let key = key.trim();
        let is_key = scheme.eq_ignore_ascii_case("bearer") && key.starts_with("rap_") && plain(key);
        is_key.then(|| Some(Self::Key(key.to_owned()))).ok_or(Error::Unauthenticated)
    }

    /// Whether browsers send it by themselves.
    pub(crate) const fn is_cookie(&self) -> bool {
        matches!(self, Self::Session(_))
    }

    /// What caches and limits know it by.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        let (kind, secret) = match self {
            Self::Key(key) => ("key:", key),
            Self::Session(secret) => ("session:", secret),
        };
        Sha256::new().chain_update(kind).chain_update(secret).finalize().into()
    }
}

fn plain(secret: &str) -> bool {
    (1..=LONGEST).contains(&secret.len()) && secret.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&'static str, &str)]) -> Result<Option<Credential>, Error> {
        let headers =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        Credential::read(&headers, &Cookie::new(true))
    }

    #[test]
    fn keys_and_cookies_are_credentials() {
        assert!(
            matches!(read(&[("authorization", "bearer rap_a_b_c")]), Ok(Some(Credential::Key(k))) if k == "rap_a_b_c")
        );
        let both = read(&[("cookie", "a=1; __Host-rapport=secret"), ("authorization", "Bearer rap_k")]);
        assert!(matches!(both, Ok(Some(Credential::Key(_)))));
        let cookie = read(&[("cookie", "rapport=other; __Host-rapport=secret")]);
        assert!(matches!(cookie, Ok(Some(Credential::Session(s))) if s == "secret"));
        assert!(matches!(read(&[]), Ok(None)));
    }

    #[test]
    fn other_authorizations_are_refused() {
        let long = format!("Bearer rap_{}", "x".repeat(400));
        for wrong in [
            "Bearer eyJhbGciOiJFZERTQSJ9.e30.x",
            "Basic cmFwOng=",
            "rap_a_b_c",
            "Bearer",
            "Bearer rap_a b",
            &long,
        ] {
            assert!(matches!(read(&[("authorization", wrong)]), Err(Error::Unauthenticated)), "{wrong}");
        }
    }

    #[test]
    fn a_key_and_a_session_never_share_a_fingerprint() {
        let (key, session) = (Credential::Key("rap_x".into()), Credential::Session("rap_x".into()));
        assert_ne!(key.fingerprint(), session.fingerprint());
    }
}
