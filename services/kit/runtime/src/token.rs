//! The inner token: who calls, signed by identity, verified by every service by itself. It is a JSON Web Token signed with
//! Ed25519 (RFC 7519, RFC 8037), valid for five minutes at most, so that what it says about roles is never older.
//!
//! It is signed and verified with ed25519-dalek directly: one algorithm, three base64url parts, no header fields but `alg`,
//! `kid` and `typ`. The usual JWT crate brings RSA, two more curves and a second copy of this one, and takes the time
//! from the machine, which tests could not choose.
mod claims;
mod jws;
mod verifier;

pub use claims::Claims;
pub use jws::SigningKeyPair;
pub use verifier::{KeySource, PublicKey, Verifier};

use rapport_kernel::Error;

/// Who signs tokens, `iss`.
pub const ISSUER: &str = "rapport-identity";
/// For whom, `aud`.
pub const AUDIENCE: &str = "rapport";
/// Seconds that a token is valid at most.
pub const MAX_LIFETIME_SECONDS: i64 = 300;
/// Seconds by which clocks may differ.
pub const LEEWAY_SECONDS: i64 = 10;
/// Bytes of a token at most: with the other headers it has to fit the 16 KiB that servers take.
pub const MAX_TOKEN_BYTES: usize = 12 << 10;

/// Signs `claims`.
///
/// # Errors
/// `Internal` when the lifetime is longer than [`MAX_LIFETIME_SECONDS`] or the token longer than [`MAX_TOKEN_BYTES`].
pub fn sign(key: &SigningKeyPair, claims: &Claims) -> Result<String, Error> {
    let lifetime = claims.expires_at.as_seconds() - claims.issued_at.as_seconds();
    if !(1..=MAX_LIFETIME_SECONDS).contains(&lifetime) {
        return Err(Error::internal(format!(
            "a token of {lifetime} s; at most {MAX_LIFETIME_SECONDS} s are allowed"
        )));
    }
    let token = key.sign(&claims.to_json()?);
    if token.len() > MAX_TOKEN_BYTES {
        let problem = format!("a token of {} bytes; at most {MAX_TOKEN_BYTES} fit the headers", token.len());
        return Err(Error::internal(problem));
    }
    Ok(token)
}

#[cfg(test)]
mod tests;
