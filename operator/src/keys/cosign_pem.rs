//! cosign's encrypted private key: a PEM block around the JSON of
//! go-securesystemslib's `encrypted` package (scrypt, then NaCl's secretbox)
//! around PKCS#8. See `pkg/cosign/keys.go` in sigstore/cosign.

use base64ct::{Base64, Encoding};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{KeyError, fill, secretbox};

const LABEL: &str = "ENCRYPTED SIGSTORE PRIVATE KEY";
/// What older cosigns wrote, and all of them read.
const OLD_LABEL: &str = "ENCRYPTED COSIGN PRIVATE KEY";

/// The least of the three costs that cosign reads (2^15, 2^16, 2^17): 32 MiB
/// and some 65 ms of one core. cosign itself writes 2^16, for passwords that
/// people choose; ours have 256 random bits, which nobody guesses at any cost.
const N: u32 = 1 << 15;
const R: u32 = 8;
const P: u32 = 1;

/// No sealed key is longer, in bytes: a P-256 key's PEM has about 650.
const LONGEST: usize = 16 * 1024;

#[derive(Serialize, Deserialize)]
struct Envelope {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Serialize, Deserialize)]
struct Kdf {
    name: String,
    params: Params,
    salt: String,
}

#[derive(Serialize, Deserialize, PartialEq, Clone, Copy)]
struct Params {
    #[serde(rename = "N")]
    n: u32,
    r: u32,
    p: u32,
}

#[derive(Serialize, Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
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
    let envelope = Envelope {
        kdf: Kdf { name: "scrypt".to_owned(), params, salt: Base64::encode_string(&salt) },
        cipher: Cipher { name: "nacl/secretbox".to_owned(), nonce: Base64::encode_string(&nonce) },
        ciphertext: Base64::encode_string(&secretbox::seal(&key, &nonce, der)),
    };
    // With room from the start: what grows leaves copies behind.
    let mut json = Zeroizing::new(Vec::with_capacity(LONGEST));
    serde_json::to_writer(&mut *json, &envelope).map_err(|_| KeyError::Encoding)?;
    let base64 = Zeroizing::new(Base64::encode_string(&json));
    Ok(Zeroizing::new(armour(&base64).into_bytes()))
}

/// What it costs to open a sealed key, in units of what [`seal`] costs.
///
/// # Errors
/// If it is not cosign's format.
pub(super) fn cost(pem: &[u8]) -> Result<u32, KeyError> {
    Ok(envelope(pem)?.kdf.params.n / N)
}

/// Opens a sealed key; returns PKCS#8 DER.
///
/// # Errors
/// If it is not cosign's format or the password is wrong.
pub(super) fn open(pem: &[u8], password: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let envelope = envelope(pem)?;
    let params = envelope.kdf.params;
    let salt = decode(&envelope.kdf.salt)?;
    let nonce: [u8; 24] = decode(&envelope.cipher.nonce)?
        .try_into()
        .map_err(|_| KeyError::Format("its nonce has the wrong length"))?;
    let sealed = decode(&envelope.ciphertext)?;
    if sealed.len() <= secretbox::TAG {
        return Err(KeyError::Format("its ciphertext is too short"));
    }
    let key = derive(password, &salt, params)?;
    secretbox::open(&key, &nonce, &sealed).ok_or(KeyError::Password)
}

/// The envelope of a sealed key whose costs are cosign's.
fn envelope(pem: &[u8]) -> Result<Envelope, KeyError> {
    let json = unarmour(pem)?;
    let envelope: Envelope =
        serde_json::from_slice(&json).map_err(|_| KeyError::Format("its JSON is damaged"))?;
    if envelope.kdf.name != "scrypt" || envelope.cipher.name != "nacl/secretbox" {
        return Err(KeyError::Format("it is sealed in a way cosign does not use"));
    }
    let params = envelope.kdf.params;
    // Anything else would let a key's author choose how much memory we spend.
    if !matches!(params, Params { n: 0x8000 | 0x1_0000 | 0x2_0000, r: R, p: P }) {
        return Err(KeyError::Format("its scrypt parameters are not cosign's"));
    }
    Ok(envelope)
}

fn derive(password: &[u8], salt: &[u8], params: Params) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let log_n = u8::try_from(params.n.trailing_zeros()).map_err(|_| KeyError::Encoding)?;
    let params = scrypt::Params::new(log_n, params.r, params.p).map_err(|_| KeyError::Encoding)?;
    let mut key = Zeroizing::new([0_u8; 32]);
    scrypt::scrypt(password, salt, &params, key.as_mut_slice()).map_err(|_| KeyError::Encoding)?;
    Ok(key)
}

fn decode(text: &str) -> Result<Vec<u8>, KeyError> {
    Base64::decode_vec(text).map_err(|_| KeyError::Format("its base64 is damaged"))
}

/// PEM as Go writes it: 64 characters a line, a newline at the end.
fn armour(base64: &str) -> String {
    let mut pem = String::with_capacity(LONGEST);
    pem.push_str(&format!("-----BEGIN {LABEL}-----\n"));
    let mut rest = base64;
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = tail;
    }
    pem.push_str(&format!("-----END {LABEL}-----\n"));
    pem
}

fn unarmour(pem: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    if pem.len() > LONGEST {
        return Err(KeyError::Format("it is too long"));
    }
    let text = std::str::from_utf8(pem).map_err(|_| KeyError::Format("it is not text"))?.trim();
    let body = [LABEL, OLD_LABEL]
        .iter()
        .find_map(|label| {
            text.strip_prefix(&format!("-----BEGIN {label}-----"))?
                .strip_suffix(&format!("-----END {label}-----"))
        })
        .ok_or(KeyError::Format("its PEM header is another"))?;
    let mut base64 = Zeroizing::new(String::with_capacity(body.len()));
    base64.extend(body.split_ascii_whitespace());
    decode(&base64).map(Zeroizing::new)
}

#[cfg(test)]
mod tests;
