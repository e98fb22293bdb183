//! Signed notes: a text, an empty line, and a line with the signature (<https://c2sp.org/signed-note>), by Ed25519.
use std::{
    fmt, fs,
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ed25519_dalek::{Signature, Signer as _, SigningKey};
use rand::RngExt as _;
use rapport_kernel::{BoxError, hex};
use sha2::{Digest as _, Sha256};

/// What says that a key and its signatures are Ed25519.
const ED25519: u8 = 1;

/// A key with a name.
pub(super) struct Signer {
    name: String,
    key: SigningKey,
}

impl fmt::Debug for Signer {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.verifier())
    }
}

impl Signer {
    /// Reads the key, `PRIVATE+KEY+<name>+<id>+<key>`; makes it where there is no such file.
    pub(super) fn open(path: &Path, name: &str) -> Result<Self, BoxError> {
        let wrong = |problem: &str| format!("the key of checkpoints, {}, {problem}", path.display());
        if name.contains(|char: char| char == '+' || char.is_whitespace()) {
            return Err(
                format!("`{name}` cannot sign checkpoints: it must have neither spaces nor `+`").into()
            );
        }
        match fs::read_to_string(path) {
            Ok(text) => {
                let key = parse(&text, name);
                let key = key.ok_or_else(|| {
                    wrong(&format!(
                        "is not one for `{name}`; restore it, or remove it to begin with a new one"
                    ))
                })?;
                Ok(Self { name: name.to_owned(), key })
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let made = Self { name: name.to_owned(), key: SigningKey::from_bytes(&rand::rng().random()) };
                match made.keep(path) {
                    // Another process was quicker.
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => Self::open(path, name),
                    Err(error) => Err(wrong(&format!("cannot be written: {error}")).into()),
                    Ok(()) => Ok(made),
                }
            }
            Err(error) => Err(wrong(&format!("cannot be read: {error}")).into()),
        }
    }

    /// Writes it, whole or not at all, where there is none.
    fn keep(&self, path: &Path) -> std::io::Result<()> {
        let new = path.with_extension(format!("new-{}", std::process::id()));
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        let key = [&[ED25519], self.key.as_bytes().as_slice()].concat();
        let text = format!("PRIVATE+KEY+{}+{}+{}\n", self.name, hex(&self.id()), BASE64.encode(key));
        let kept = file
            .write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::hard_link(&new, path));
        fs::remove_file(&new)?;
        kept
    }

    /// Whose key it is.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The public key, `<name>+<id>+<key>`.
    pub(super) fn verifier(&self) -> String {
        format!("{}+{}+{}", self.name, hex(&self.id()), BASE64.encode(self.public()))
    }

    fn public(&self) -> Vec<u8> {
        [&[ED25519], self.key.verifying_key().as_bytes().as_slice()].concat()
    }

    /// The first four bytes of the SHA-256 of name, line feed and public key.
    fn id(&self) -> [u8; 4] {
        let hash = Sha256::new().chain_update(&self.name).chain_update("\n").chain_update(self.public());
        let [a, b, c, d, ..]: [u8; 32] = hash.finalize().into();
        [a, b, c, d]
    }

    /// A note with this text, which ends with a line feed.
    pub(super) fn sign(&self, text: &str) -> String {
        let signature = self.key.sign(text.as_bytes()).to_bytes();
        let signature = BASE64.encode([self.id().as_slice(), &signature].concat());
        format!("{text}\n— {} {signature}\n", self.name)
    }

    /// The text of a note that was signed with this key, and with no other.
    pub(super) fn read<'n>(&self, note: &'n str) -> Option<&'n str> {
        let (text, line) = note.rsplit_once("\n\n— ")?;
        let text = note.get(..=text.len())?;
        let signature = line.strip_suffix('\n')?.strip_prefix(self.name.as_str())?.strip_prefix(' ')?;
        let signature = BASE64.decode(signature).ok()?;
        let (id, signature) = signature.split_first_chunk::<4>()?;
        let signature = Signature::from_bytes(signature.try_into().ok()?);
        let key = self.key.verifying_key();
        (*id == self.id() && key.verify_strict(text.as_bytes(), &signature).is_ok()).then_some(text)
    }
}

fn parse(text: &str, name: &str) -> Option<SigningKey> {
    let named = text.trim_end().strip_prefix("PRIVATE+KEY+")?.strip_prefix(name)?.strip_prefix('+')?;
    let (_, key) = named.split_once('+')?;
    let key = BASE64.decode(key).ok()?;
    let key = key.strip_prefix(&[ED25519])?;
    Some(SigningKey::from_bytes(key.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_for_us_alone_and_one_of_somebody_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.key");
        let made = Signer::open(&path, "rapport/main").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Signer::open(&path, "rapport/main").unwrap().verifier(), made.verifier());
        let refused = Signer::open(&path, "rapport/other").unwrap_err().to_string();
        assert!(refused.contains("is not one for `rapport/other`"), "{refused}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn notes_and_keys_are_those_of_other_programs() {
        // The example of Go's `golang.org/x/mod/sumdb/note`.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let key = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz\n";
        fs::write(&path, key).unwrap();
        let signer = Signer::open(&path, "PeterNeumann").unwrap();
        let verifier = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        assert_eq!(signer.verifier(), verifier);
        let text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
        let note = signer.sign(text);
        let signature =
            "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=";
        assert_eq!(note, format!("{text}\n— PeterNeumann {signature}\n"));
        assert_eq!(signer.read(&note), Some(text));
    }
}
