//! Signatures of Standard Webhooks: HMAC-SHA256 over `id.timestamp.body`, one for each secret that counts.
use base64::{Engine as _, prelude::BASE64_STANDARD as B64};
use hmac::{Hmac, KeyInit as _, Mac as _};
use rand::RngExt as _;
use sha2::Sha256;

/// A new secret: 32 bytes by chance.
pub(super) fn new_secret() -> [u8; 32] {
    rand::rng().random()
}

/// A secret as receivers' libraries take it.
pub(super) fn shown(secret: &[u8]) -> String {
    format!("whsec_{}", B64.encode(secret))
}

/// The header `webhook-signature`: the newest secret's first, separated by blanks.
pub(super) fn signatures<S: AsRef<[u8]>>(secrets: &[S], id: &str, timestamp: i64, body: &[u8]) -> String {
    let one = |secret: &S| {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_ref()).ok()?;
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        Some(format!("v1,{}", B64.encode(mac.finalize().into_bytes())))
    };
    secrets.iter().filter_map(one).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_the_specification() {
        // The example of the specification's reference libraries.
        let secret = B64.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = br#"{"test": 2432232314}"#;
        let signed = signatures(&[&secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let both = signatures(&[secret.as_slice(), b"another secret of some length"], "a", 1, body);
        assert_eq!(both.split(' ').count(), 2);
    }
}
