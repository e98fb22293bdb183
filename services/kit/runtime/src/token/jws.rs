//! The signed form: `header.payload.signature` in base64url (RFC 7515), by Ed25519 and by nothing else.
use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use rand::RngExt as _;
use serde::{Deserialize, Serialize};

/// Any other algorithm, "none" above all, is not a token.
const ALGORITHM: &str = "EdDSA";

/// A private key and the id under which its public key is known.
#[derive(Clone)]
pub struct SigningKeyPair {
    kid: String,
    key: SigningKey,
}

impl SigningKeyPair {
    /// A new key.
    pub fn generate(kid: impl Into<String>) -> Self {
        Self::from_secret(kid, &rand::rng().random())
    }

    /// A key that was kept.
    pub fn from_secret(kid: impl Into<String>, secret: &[u8; 32]) -> Self {
        Self { kid: kid.into(), key: SigningKey::from_bytes(secret) }
    }

    /// The id.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The private key, to be kept encrypted.
    pub fn secret(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    /// The public key.
    pub fn public(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    pub(super) fn sign(&self, payload: &[u8]) -> String {
        let header = Header { alg: ALGORITHM.into(), kid: self.kid.clone(), typ: Some("JWT".into()) };
        // Three strings become JSON whatever they hold.
        let header = serde_json::to_vec(&header).unwrap_or_default();
        sign_parts(&self.key, &header, payload)
    }
}

impl fmt::Debug for SigningKeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKeyPair").field("kid", &self.kid).finish_non_exhaustive()
    }
}

fn sign_parts(key: &SigningKey, header: &[u8], payload: &[u8]) -> String {
    let signed = format!("{}.{}", BASE64.encode(header), BASE64.encode(payload));
    let signature = BASE64.encode(key.sign(signed.as_bytes()).to_bytes());
    format!("{signed}.{signature}")
}

/// What stands in front. A field that is not here may change the meaning (`crit`, `b64`, `jku`), so it is refused.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    typ: Option<String>,
}

/// A token taken apart, not yet verified.
pub(super) struct Unverified<'t> {
    pub(super) kid: String,
    signed: &'t str,
    payload: &'t str,
    signature: Signature,
}

impl<'t> Unverified<'t> {
    /// `None` when it is not a token of this form.
    pub(super) fn read(token: &'t str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        let header: Header = serde_json::from_slice(&BASE64.decode(header).ok()?).ok()?;
        if header.alg != ALGORITHM || header.typ.is_some_and(|typ| typ != "JWT") {
            return None;
        }
        let signature = Signature::from_slice(&BASE64.decode(signature).ok()?).ok()?;
        Some(Self { kid: header.kid, signed, payload, signature })
    }

    /// The payload, if `key` signed it.
    pub(super) fn verify(&self, key: &VerifyingKey) -> Option<Vec<u8>> {
        key.verify_strict(self.signed.as_bytes(), &self.signature).ok()?;
        BASE64.decode(self.payload).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 8037, appendix A.4: what we write is what the standard says.
    #[test]
    fn the_standards_example_comes_out_byte_by_byte() {
        let secret = BASE64.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
        let key = SigningKey::from_bytes(secret.as_slice().try_into().unwrap());
        let token = sign_parts(&key, br#"{"alg":"EdDSA"}"#, b"Example of Ed25519 signing");
        assert_eq!(
            token,
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.\
             hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
        );
    }

    #[test]
    fn a_key_does_not_show_its_secret() {
        let key = SigningKeyPair::from_secret("k", &[7; 32]);
        assert_eq!(format!("{key:?}"), "SigningKeyPair { kid: \"k\", .. }");
    }
}
