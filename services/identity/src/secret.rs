//! Secrets that callers hold: session tokens, API keys, invitation links. Each names where it belongs, so that it is looked
//! up under that tenant's policies, and ends in 32 random bytes. Only a SHA-256 of the whole is kept: with so much
//! randomness a slow hash would add nothing but time.
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use rand::RngExt as _;
use rapport_kernel::hex;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

/// What a secret is for; scanners know it by its first letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A browser's session; belongs to a tenant's id.
    Session,
    /// A machine's key; belongs to a tenant's slug, or to `operator`.
    ApiKey,
    /// An invitation; belongs to a tenant's id.
    Invitation,
}

impl Purpose {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Session => "ses",
            Self::ApiKey => "rap",
            Self::Invitation => "inv",
        }
    }
}

/// A new secret, in the only moment in which it is known.
pub(crate) struct Issued {
    /// `<prefix>_<place>_<id>_<secret>`.
    pub(crate) text: String,
    /// What is kept of it.
    pub(crate) digest: String,
}

/// Makes a secret for the record `id` of `place`, which has no `_` in it.
pub(crate) fn issue(purpose: Purpose, place: &str, id: Uuid) -> Issued {
    let random: [u8; 32] = rand::rng().random();
    let text = format!("{}_{place}_{}_{}", purpose.prefix(), id.simple(), BASE64.encode(random));
    Issued { digest: digest(&text), text }
}

/// A secret as somebody presented it, not yet compared.
pub(crate) struct Presented<'t> {
    /// Where it says that it belongs.
    pub(crate) place: &'t str,
    /// The record it says it belongs to.
    pub(crate) id: Uuid,
    digest: String,
}

impl<'t> Presented<'t> {
    /// Reads a secret; `None` when it does not have the form.
    pub(crate) fn read(purpose: Purpose, text: &'t str) -> Option<Self> {
        // The last part may have `_` in it.
        let mut parts = text.splitn(4, '_');
        let (prefix, place, id, secret) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if prefix != purpose.prefix() || place.is_empty() || id.len() != 32 || secret.len() != 43 {
            return None;
        }
        Some(Self { place, id: Uuid::try_parse(id).ok()?, digest: digest(text) })
    }

    /// The tenant that it says it belongs to, where that is named by id.
    pub(crate) fn tenant(&self) -> Option<Uuid> {
        Uuid::try_parse(self.place).ok()
    }

    /// Whether it is the one of which `kept` is the digest, in the same time wherever they differ.
    pub(crate) fn matches(&self, kept: &str) -> bool {
        self.digest.as_bytes().ct_eq(kept.as_bytes()).into()
    }
}

fn digest(text: &str) -> String {
    hex(&Sha256::digest(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_known_again_and_no_other_is() {
        let id = Uuid::from_u128(7);
        let (one, two) = (issue(Purpose::ApiKey, "acme-east", id), issue(Purpose::ApiKey, "acme-east", id));
        let read = Presented::read(Purpose::ApiKey, &one.text).unwrap();
        assert_eq!((read.place, read.id), ("acme-east", id));
        assert!(read.matches(&one.digest) && !read.matches(&two.digest) && !read.matches(""));
    }

    #[test]
    fn the_random_part_may_contain_the_separator() {
        let id = Uuid::from_u128(7);
        let text = format!("ses_{}_{}_{}", id.simple(), id.simple(), "a_b-".repeat(10) + "abc");
        let read = Presented::read(Purpose::Session, &text).unwrap();
        assert_eq!(read.tenant(), Some(id));
    }

    #[test]
    fn what_has_another_form_is_no_secret() {
        let id = Uuid::from_u128(7);
        let key = issue(Purpose::ApiKey, "acme", id).text;
        assert!(Presented::read(Purpose::Session, &key).is_none());
        for wrong in ["", "rap", "rap_acme", "rap__x_y", &key[..key.len() - 1], &format!("{key}x"), &key[4..]]
        {
            assert!(Presented::read(Purpose::ApiKey, wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn what_is_kept_does_not_contain_the_secret() {
        let issued = issue(Purpose::Invitation, &Uuid::from_u128(1).simple().to_string(), Uuid::from_u128(2));
        assert_eq!(issued.digest.len(), 64);
        assert!(!issued.digest.contains(issued.text.rsplit('_').next().unwrap()));
    }
}
