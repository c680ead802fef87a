//! P-256 key pairs, sealed as cosign reads them.

use std::{fmt, ops::Deref};

use base16ct::lower::encode_string as hex;
use base64ct::{Base64, Encoding};
use p256::{
    PublicKey, SecretKey,
    elliptic_curve::Generate,
    pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, LineEnding},
};
use sha2::{Digest, Sha256};
use signingkeyring_core::fingerprint::Fingerprint;
use zeroize::Zeroizing;

use cosign_pem::Sealed;

mod cosign_pem;
mod envelope;
mod pem;
mod secretbox;
#[cfg(test)]
mod tests;

/// The memory that sealing a key takes while it is computed, in MiB.
pub const SEALING_MIB: u32 = 32;

/// How many times that opening a foreign key takes at most.
pub const DEAREST_OPENING: u32 = 4;

/// What can go wrong with a key. No text holds key material.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The operating system gave no randomness.
    #[error(
        "no key was made: the operating system gave no randomness; check getrandom on the node"
    )]
    Randomness,
    /// A key could not be encoded.
    #[error(
        "no key was made: it could not be encoded; this is a defect of the operator, report it"
    )]
    Encoding,
    /// Not the PEM that cosign writes.
    #[error("not an encrypted cosign private key: {0}; make one with cosign generate-key-pair")]
    Format(&'static str),
    /// A private key that the password does not open.
    #[error(
        "the password does not open the private key, or the key was damaged; \
         give the password it was made with, without a newline"
    )]
    Password,
    /// A password that pipelines could not be given.
    #[error(
        "the password is no text (it has a NUL, or is not UTF-8), which an environment variable \
         could not hold; seal the key with another"
    )]
    PasswordText,
    /// Not a P-256 public key.
    #[error(
        "not a P-256 public key in PEM; cosign public-key --key prints the one of a private key"
    )]
    PublicKey,
}

/// The password of a sealed private key, exactly the bytes that cosign takes.
/// It cannot be printed or copied, and is wiped when dropped.
pub struct Password(Zeroizing<Vec<u8>>);

impl Password {
    /// 256 bits of the operating system's randomness in base64: printable,
    /// and without the newline that cosign would take for a part of it.
    fn random() -> Result<Self, KeyError> {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        fill(bytes.as_mut_slice())?;
        let text = Base64::encode_string(bytes.as_slice());
        Ok(Self(text.into_bytes().into()))
    }
}

/// The bytes, for what seals with them and for the Secrets.
impl Deref for Password {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Password").finish_non_exhaustive()
    }
}

/// An opened private key. It cannot be printed or copied, and is wiped when
/// dropped (`SecretKey` does that).
pub struct PrivateKey(SecretKey);

impl PrivateKey {
    fn generate() -> Result<Self, KeyError> {
        SecretKey::try_generate().map(Self).map_err(|_| KeyError::Randomness)
    }

    /// The public key that belongs to it, as [`KeyPair::public_pem`]. It is
    /// computed from the private key, so it tells whether the two fit.
    ///
    /// # Errors
    /// If it cannot be encoded, which does not happen.
    pub fn public_pem(&self) -> Result<String, KeyError> {
        let public = self.0.public_key();
        public.to_public_key_pem(LineEnding::LF).map_err(|_| KeyError::Encoding)
    }

    fn seal(&self, password: &Password) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let der = self.0.to_pkcs8_der().map_err(|_| KeyError::Encoding)?;
        cosign_pem::seal(der.as_bytes(), password)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").finish_non_exhaustive()
    }
}

/// A key pair: the private key sealed with a random password. It cannot be
/// printed or copied, and is wiped when dropped.
pub struct KeyPair {
    sealed: Zeroizing<Vec<u8>>,
    password: Password,
    public: String,
    fingerprint: Fingerprint,
}

impl KeyPair {
    /// Generates a P-256 key pair with the operating system's randomness and
    /// seals it. Takes about a tenth of a second of computation, on purpose:
    /// that is what cosign's key box costs.
    ///
    /// # Errors
    /// If the operating system gives no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let key = PrivateKey::generate()?;
        let password = Password::random()?;
        let sealed = key.seal(&password)?;
        let public = key.public_pem()?;
        let fingerprint = fingerprint_of(&public)?;
        Ok(Self { sealed, password, public, fingerprint })
    }

    /// A key pair that was generated before, on its way from the ledger to a
    /// pipeline: the parts as the ledger holds them.
    #[must_use]
    pub fn stored(
        sealed: impl Into<Zeroizing<Vec<u8>>>,
        password: impl Into<Zeroizing<Vec<u8>>>,
        public: String,
        fingerprint: Fingerprint,
    ) -> Self {
        Self { sealed: sealed.into(), password: Password(password.into()), public, fingerprint }
    }

    /// A key pair that somebody else generated, read by cosign's own rules. The
    /// private key stays sealed as it is, in PEM as cosign writes it; what was
    /// around it goes. The public key is computed from the private one.
    ///
    /// # Errors
    /// If it is not a P-256 key in cosign's format, the password is wrong, or one
    /// that no variable can hold.
    pub fn imported(
        sealed: impl Into<Zeroizing<Vec<u8>>>,
        password: impl Into<Zeroizing<Vec<u8>>>,
    ) -> Result<Self, KeyError> {
        let (file, password) = (sealed.into(), Password(password.into()));
        if password.contains(&0) || str::from_utf8(&password).is_err() {
            return Err(KeyError::PasswordText);
        }
        let sealed = Sealed::read(&file)?;
        let public = opened(&sealed, &password)?.public_pem()?;
        let fingerprint = fingerprint_of(&public)?;
        Ok(Self { sealed: sealed.write()?, password, public, fingerprint })
    }

    /// What tells this private key from another without opening it, see
    /// [`digest_of`].
    #[must_use]
    pub fn digest(&self) -> String {
        digest_of(&self.sealed, &self.password)
    }

    /// The private key in cosign's encrypted PEM.
    #[must_use]
    pub fn encrypted_pem(&self) -> &[u8] {
        &self.sealed
    }

    /// The password that opens it.
    #[must_use]
    pub fn password(&self) -> &Password {
        &self.password
    }

    /// SubjectPublicKeyInfo as PEM, byte for byte what cosign writes to
    /// `cosign.pub`.
    #[must_use]
    pub fn public_pem(&self) -> &str {
        &self.public
    }

    /// The public key's fingerprint, see [`fingerprint_of`].
    #[must_use]
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

/// What opening a private key in cosign's encrypted PEM costs, in units of what
/// [`KeyPair::generate`] does: 1, 2 or [`DEAREST_OPENING`].
///
/// # Errors
/// If it is not such a key.
pub fn opening_cost(encrypted_pem: &[u8]) -> Result<u32, KeyError> {
    Ok(Sealed::read(encrypted_pem)?.cost())
}

/// Opens a P-256 private key in cosign's encrypted PEM. Costs what
/// [`KeyPair::generate`] costs, up to four times that for a foreign key.
///
/// # Errors
/// If it is not such a key, or the password is wrong.
pub fn open(encrypted_pem: &[u8], password: &[u8]) -> Result<PrivateKey, KeyError> {
    opened(&Sealed::read(encrypted_pem)?, password)
}

fn opened(sealed: &Sealed, password: &[u8]) -> Result<PrivateKey, KeyError> {
    let der = sealed.open(password)?;
    let key = SecretKey::from_pkcs8_der(&der);
    key.map(PrivateKey).map_err(|_| KeyError::Format("it holds no P-256 key in PKCS#8"))
}

/// SHA-256 over a sealed private key and its password, in hex. The length of
/// the first is hashed too: the same bytes divided differently differ.
#[must_use]
pub fn digest_of(sealed: &[u8], password: &[u8]) -> String {
    hex(&digest(sealed, password))
}

/// The same as bytes.
pub(crate) fn digest(sealed: &[u8], password: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update((sealed.len() as u64).to_be_bytes());
    hash.update(sealed);
    hash.update(password);
    hash.finalize().into()
}

/// `SHA256:` and the base64 of SHA-256 over the DER SubjectPublicKeyInfo: the
/// hint by which cosign's bundles name a key.
///
/// # Errors
/// If the PEM is not a P-256 public key.
pub fn fingerprint_of(public_pem: &str) -> Result<Fingerprint, KeyError> {
    let key = PublicKey::from_public_key_pem(public_pem).map_err(|_| KeyError::PublicKey)?;
    let der = key.to_public_key_der().map_err(|_| KeyError::PublicKey)?;
    let hash = Base64::encode_string(&Sha256::digest(der.as_bytes()));
    format!("SHA256:{hash}").parse().map_err(|_| KeyError::Encoding)
}

/// The fingerprint of a public key in a file, read by cosign's rules: what is
/// around the PEM is nothing.
///
/// # Errors
/// If the file holds no P-256 public key.
pub fn fingerprint_of_file(file: &[u8]) -> Result<Fingerprint, KeyError> {
    let block = pem::first(file).filter(|block| block.label == b"PUBLIC KEY");
    let block = block.ok_or(KeyError::PublicKey)?;
    let key = PublicKey::from_public_key_der(&block.bytes).map_err(|_| KeyError::PublicKey)?;
    fingerprint_of(&key.to_public_key_pem(LineEnding::LF).map_err(|_| KeyError::PublicKey)?)
}

/// Fills a buffer with the operating system's randomness.
fn fill(buffer: &mut [u8]) -> Result<(), KeyError> {
    getrandom::fill(buffer).map_err(|_| KeyError::Randomness)
}
