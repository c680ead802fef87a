//! cosign's encrypted private key: a PEM block around the JSON of
//! go-securesystemslib's `encrypted` package (scrypt, then NaCl's secretbox)
//! around PKCS#8. See `pkg/cosign/keys.go` in sigstore/cosign.

use base64ct::{Base64, Encoding};
use zeroize::Zeroizing;

use super::{
    KeyError,
    envelope::{self, Bytes, Cipher, Damage, Envelope, Kdf, Params},
    fill, pem, secretbox,
};

const LABEL: &str = "ENCRYPTED SIGSTORE PRIVATE KEY";
/// What older cosigns wrote, and all of them read.
const OLD_LABEL: &str = "ENCRYPTED COSIGN PRIVATE KEY";

/// The least of the three costs that cosign reads (2^15, 2^16, 2^17): 32 MiB
/// and some 65 ms of one core. cosign itself writes 2^16, for passwords that
/// people choose; ours have 256 random bits, which nobody guesses at any cost.
const N: u32 = 1 << 15;
const R: u32 = 8;
const P: u32 = 1;

/// Why there is no block, in the commonest case.
const NO_BLOCK: &str = "it has no PEM block as cosign reads it, in which the BEGIN and the END \
                        line stand alone and begin at the left";

/// No sealed key is longer, in bytes: a P-256 key's PEM has about 650.
const LONGEST: usize = 16 * 1024;

/// A private key as it is sealed, read and not yet opened.
pub(super) struct Sealed {
    /// What its PEM is called.
    label: &'static str,
    envelope: Envelope,
}

impl Sealed {
    /// Reads a file by cosign's rules: [`pem`], then [`envelope`].
    ///
    /// # Errors
    /// If it is not cosign's format, or its costs are not cosign's.
    pub(super) fn read(file: &[u8]) -> Result<Self, KeyError> {
        if file.len() > LONGEST {
            return Err(KeyError::Format("it is too long"));
        }
        let block = pem::first(file).ok_or(KeyError::Format(NO_BLOCK))?;
        let label = [LABEL, OLD_LABEL].into_iter().find(|label| block.label == label.as_bytes());
        let label = label.ok_or(KeyError::Format("its PEM header is another"))?;
        let envelope = envelope::read(&block.bytes).map_err(|damage| match damage {
            Damage::Json => KeyError::Format("its JSON is damaged"),
            Damage::Base64 => KeyError::Format("its base64 is damaged"),
        })?;
        if envelope.kdf.name != "scrypt" || envelope.cipher.name != "nacl/secretbox" {
            return Err(KeyError::Format("it is sealed in a way cosign does not use"));
        }
        let params = envelope.kdf.params;
        // Anything else would let a key's author choose how much memory we spend.
        if !matches!(params, Params { n: 0x8000 | 0x1_0000 | 0x2_0000, r: R, p: P }) {
            return Err(KeyError::Format("its scrypt parameters are not cosign's"));
        }
        Ok(Self { label, envelope })
    }

    /// What it costs to open it, in units of what [`seal`] costs.
    pub(super) fn cost(&self) -> u32 {
        self.envelope.kdf.params.n / N
    }

    /// Opens it; returns PKCS#8 DER.
    ///
    /// # Errors
    /// If the password is wrong, or what is sealed was damaged.
    pub(super) fn open(&self, password: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let Envelope { kdf, cipher, ciphertext } = &self.envelope;
        let nonce: &[u8; 24] = cipher
            .nonce
            .0
            .as_slice()
            .try_into()
            .map_err(|_| KeyError::Format("its nonce has the wrong length"))?;
        if ciphertext.0.len() <= secretbox::TAG {
            return Err(KeyError::Format("its ciphertext is too short"));
        }
        let key = derive(password, &kdf.salt.0, kdf.params)?;
        secretbox::open(&key, nonce, &ciphertext.0).ok_or(KeyError::Password)
    }

    /// The file as cosign writes it, whatever it was read from.
    ///
    /// # Errors
    /// If it cannot be encoded, which does not happen.
    pub(super) fn write(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        // With room from the start: what grows leaves copies behind.
        let mut json = Zeroizing::new(Vec::with_capacity(LONGEST));
        serde_json::to_writer(&mut *json, &self.envelope).map_err(|_| KeyError::Encoding)?;
        let base64 = Zeroizing::new(Base64::encode_string(&json));
        Ok(Zeroizing::new(armour(self.label, &base64).into_bytes()))
    }
}

/// Seals PKCS#8 DER with a password.
///
/// # Errors
/// If the operating system gives no randomness.
pub(super) fn seal(der: &[u8], password: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let (mut salt, mut nonce) = ([0_u8; 32], [0_u8; 24]);
    fill(&mut salt)?;
    fill(&mut nonce)?;
    let params = Params { n: N, r: R, p: P };
    let key = derive(password, &salt, params)?;
    let kdf = Kdf { name: "scrypt".to_owned(), params, salt: Bytes(salt.to_vec()) };
    let cipher = Cipher { name: "nacl/secretbox".to_owned(), nonce: Bytes(nonce.to_vec()) };
    let ciphertext = Bytes(secretbox::seal(&key, &nonce, der));
    Sealed { label: LABEL, envelope: Envelope { kdf, cipher, ciphertext } }.write()
}

fn derive(password: &[u8], salt: &[u8], params: Params) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let log_n = u8::try_from(params.n.trailing_zeros()).map_err(|_| KeyError::Encoding)?;
    let params = scrypt::Params::new(log_n, params.r, params.p).map_err(|_| KeyError::Encoding)?;
    let mut key = Zeroizing::new([0_u8; 32]);
    scrypt::scrypt(password, salt, &params, key.as_mut_slice()).map_err(|_| KeyError::Encoding)?;
    Ok(key)
}

/// PEM as Go writes it: 64 characters a line, a newline at the end.
fn armour(label: &str, base64: &str) -> String {
    let mut pem = String::with_capacity(LONGEST);
    pem.push_str(&format!("-----BEGIN {label}-----\n"));
    let mut rest = base64;
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = tail;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

#[cfg(test)]
mod tests;
