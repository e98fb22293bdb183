//! The session cookie: out of reach of scripts, sent to this host only, never along with a foreign page's posts.
use http::{HeaderMap, HeaderValue, header};

/// How long browsers keep it: as long as identity keeps a session.
const MAX_AGE: u32 = 12 * 60 * 60;

/// The session cookie.
#[derive(Clone, Debug)]
pub(crate) struct Cookie {
    name: &'static str,
    secure: &'static str,
}

impl Cookie {
    /// A cookie for HTTPS, bound to its host by the prefix of its name, or one for plain HTTP in development.
    pub(crate) const fn new(secure: bool) -> Self {
        match secure {
            true => Self { name: "__Host-rapport", secure: "; Secure" },
            false => Self { name: "rapport", secure: "" },
        }
    }

    /// Its name.
    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    /// The secret that a request brings.
    pub(crate) fn read<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(name, _)| *name == self.name).map(|(_, value)| value)
    }

    /// The header that begins a session; `None` when the secret cannot stand in a cookie.
    pub(crate) fn begin(&self, secret: &str) -> Option<HeaderValue> {
        let fits = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\');
        let fits = !secret.is_empty() && secret.bytes().all(fits);
        fits.then(|| self.header(secret, MAX_AGE)).flatten()
    }

    /// The header that ends it.
    pub(crate) fn end(&self) -> Option<HeaderValue> {
        self.header("", 0)
    }

    fn header(&self, secret: &str, max_age: u32) -> Option<HeaderValue> {
        let Self { name, secure } = self;
        let text = format!("{name}={secret}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Lax{secure}");
        let mut header = HeaderValue::try_from(text).ok()?;
        header.set_sensitive(true);
        Some(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_closed_to_scripts_and_foreign_pages() {
        let header = Cookie::new(true).begin("s3cr3t").unwrap();
        let expected = "__Host-rapport=s3cr3t; Path=/; Max-Age=43200; HttpOnly; SameSite=Lax; Secure";
        assert_eq!(header.to_str().unwrap(), expected);
        assert_eq!(Cookie::new(false).end().unwrap(), "rapport=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax");
        for wrong in ["", "a;b", "a b", "a\"b", "ü"] {
            assert!(Cookie::new(true).begin(wrong).is_none(), "{wrong}");
        }
    }
}
