//! P-256 key pairs, sealed as cosign reads them.

use std::fmt;

use base64ct::{Base64, Encoding};
use p256::{
    SecretKey,
    elliptic_curve::Generate,
    pkcs8::{DecodePublicKey, EncodePrivateKey, EncodePublicKey, LineEnding},
};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

mod cosign_pem;
mod secretbox;

/// What can go wrong with a key. No text holds key material.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The operating system gave no randomness.
    #[error("the operating system gave no randomness; try again")]
    Randomness,
    /// A key could not be encoded.
    #[error("a key pair could not be encoded")]
    Encoding,
    /// Not the PEM that cosign writes.
    #[error("not an encrypted cosign private key: {0}; make one with cosign generate-key-pair")]
    Format(&'static str),
    /// A private key that the password does not open.
    #[error("the password does not open the private key, or the key was damaged")]
    Password,
    /// Not a P-256 public key.
    #[error("not a P-256 public key in PEM")]
    PublicKey,
}

/// A new key pair: the private key sealed with a random password. It cannot be
/// printed or copied, and is wiped when dropped.
pub struct KeyPair {
    sealed: Zeroizing<Vec<u8>>,
    password: Zeroizing<Vec<u8>>,
    public: String,
    fingerprint: String,
}

impl KeyPair {
    /// Generates a P-256 key pair with the operating system's randomness and
    /// seals it. Takes about a tenth of a second of computation, on purpose:
    /// that is what cosign's key box costs.
    ///
    /// # Errors
    /// If the operating system gives no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let key = SecretKey::try_generate().map_err(|_| KeyError::Randomness)?;
        let password = random_password()?;
        let der = key.to_pkcs8_der().map_err(|_| KeyError::Encoding)?;
        let sealed = cosign_pem::seal(der.as_bytes(), &password)?;
        let public = public_pem(&key)?;
        let fingerprint = fingerprint(&public)?;
        Ok(Self { sealed, password, public, fingerprint })
    }

    /// The private key in cosign's encrypted PEM.
    #[must_use]
    pub fn encrypted_pem(&self) -> &[u8] {
        &self.sealed
    }

    /// The password: printable, without a newline, exactly the bytes that
    /// cosign takes.
    #[must_use]
    pub fn password(&self) -> &[u8] {
        &self.password
    }

    /// SubjectPublicKeyInfo as PEM.
    #[must_use]
    pub fn public_pem(&self) -> &str {
        &self.public
    }

    /// The public key's [`fingerprint`].
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

/// The public key that belongs to a sealed private key.
///
/// # Errors
/// If it is not a P-256 key in cosign's encrypted PEM, or the password is wrong.
pub fn public_key_of(sealed: &[u8], password: &[u8]) -> Result<String, KeyError> {
    use p256::pkcs8::DecodePrivateKey;
    let der = cosign_pem::open(sealed, password)?;
    let key = SecretKey::from_pkcs8_der(&der)
        .map_err(|_| KeyError::Format("it holds no P-256 key in PKCS#8"))?;
    public_pem(&key)
}

/// `SHA256:` and the base64 of SHA-256 over the DER SubjectPublicKeyInfo: the
/// hint that cosign's bundles name a key by.
///
/// # Errors
/// If the PEM is not a P-256 public key.
pub fn fingerprint(public_pem: &str) -> Result<String, KeyError> {
    let key =
        p256::PublicKey::from_public_key_pem(public_pem).map_err(|_| KeyError::PublicKey)?;
    let der = key.to_public_key_der().map_err(|_| KeyError::PublicKey)?;
    Ok(format!("SHA256:{}", Base64::encode_string(&Sha256::digest(der.as_bytes()))))
}

fn public_pem(key: &SecretKey) -> Result<String, KeyError> {
    key.public_key().to_public_key_pem(LineEnding::LF).map_err(|_| KeyError::Encoding)
}

/// 256 bits in base64: printable, no newline.
fn random_password() -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    fill(bytes.as_mut_slice())?;
    Ok(Zeroizing::new(Base64::encode_string(bytes.as_slice()).into_bytes()))
}

/// Fills a buffer with the operating system's randomness.
fn fill(buffer: &mut [u8]) -> Result<(), KeyError> {
    getrandom::fill(buffer).map_err(|_| KeyError::Randomness)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_opens_with_its_password_and_nothing_else() {
        let pair = KeyPair::generate().unwrap();
        assert_eq!(public_key_of(pair.encrypted_pem(), pair.password()).unwrap(), pair.public_pem());
        assert_eq!(public_key_of(pair.encrypted_pem(), b"wrong"), Err(KeyError::Password));
        assert!(pair.password().iter().all(u8::is_ascii_graphic));
        assert_eq!(fingerprint(pair.public_pem()).unwrap(), pair.fingerprint());
    }

    #[test]
    fn nothing_printable_holds_key_material() {
        let pair = KeyPair::generate().unwrap();
        let published = crate::key_material::PublishedKey::new(
            pair.encrypted_pem().to_vec(),
            pair.password().to_vec(),
            pair.public_pem().to_owned(),
            pair.fingerprint().to_owned(),
        );
        let printed = format!("{pair:?} {pair:#?} {published:?} {published:#?}");
        let sealed = String::from_utf8(pair.encrypted_pem().to_vec()).unwrap();
        let password = String::from_utf8(pair.password().to_vec()).unwrap();
        let decimals = format!("{:?}", &pair.password()[..4]);
        for secret in [sealed.lines().nth(1).unwrap(), &password, decimals.trim_matches(['[', ']'])] {
            assert!(!printed.contains(secret));
        }
        assert!(printed.contains(pair.fingerprint()), "the fingerprint is what may be shown");
    }

    #[test]
    fn fingerprints_only_p256_keys() {
        assert_eq!(fingerprint("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"), Err(KeyError::PublicKey));
        assert_eq!(fingerprint(""), Err(KeyError::PublicKey));
    }
}
