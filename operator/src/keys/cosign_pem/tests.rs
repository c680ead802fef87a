//! The envelope: round trip, known answer, tampering, arbitrary input.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const PASSWORD: &[u8] = b"password";
const DER: &[u8] = b"stands for PKCS#8";

fn open(file: &[u8], password: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    Sealed::read(file)?.open(password)
}

fn cost(file: &[u8]) -> Result<u32, KeyError> {
    Ok(Sealed::read(file)?.cost())
}

fn json_of(sealed: &[u8]) -> Value {
    serde_json::from_slice(&pem::first(sealed).unwrap().bytes).unwrap()
}

/// A sealed key's JSON, after `change` was done to it, as PEM.
fn changed(sealed: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut json = json_of(sealed);
    change(&mut json);
    wrap(json.to_string().as_bytes())
}

fn wrap(json: &[u8]) -> Vec<u8> {
    armour(LABEL, &Base64::encode_string(json)).into_bytes()
}

#[test]
fn opens_with_its_password_under_both_headers() {
    let sealed = seal(DER, PASSWORD).unwrap();
    assert_eq!(*open(&sealed, PASSWORD).unwrap(), DER);
    let old = str::from_utf8(&sealed).unwrap().replace(LABEL, OLD_LABEL);
    assert_eq!(*open(old.as_bytes(), PASSWORD).unwrap(), DER);
    let windows = old.replace('\n', "\r\n");
    assert_eq!(*open(windows.as_bytes(), PASSWORD).unwrap(), DER);
    // Whatever it was read from, it is written as cosign writes it.
    let around = format!("Key:\n\n{}and more\n", windows.replacen('\n', "\nA: b\n\n", 1));
    assert_eq!(*Sealed::read(around.as_bytes()).unwrap().write().unwrap(), *old.as_bytes());
    assert_eq!(Sealed::read(&sealed).unwrap().write().unwrap(), sealed);
}

/// Before anything is computed, so that there is room for it.
#[test]
fn the_cost_of_opening_is_told_by_the_envelope() {
    let sealed = seal(DER, PASSWORD).unwrap();
    assert_eq!(cost(&sealed), Ok(1));
    for (n, costs) in [(1 << 16, Some(2)), (1 << 17, Some(4)), (1 << 18, None)] {
        let sealed = changed(&sealed, |json| json["kdf"]["params"]["N"] = n.into());
        assert_eq!(cost(&sealed).ok(), costs);
    }
    assert!(cost(b"no PEM").is_err());
}

#[test]
fn no_other_password_opens_it() {
    let sealed = seal(DER, PASSWORD).unwrap();
    for wrong in [&b""[..], b"Password", b"password\n"] {
        assert_eq!(open(&sealed, wrong).unwrap_err(), KeyError::Password);
    }
}

#[test]
fn two_seals_of_one_key_share_nothing() {
    let (a, b) = (json_of(&seal(DER, PASSWORD).unwrap()), json_of(&seal(DER, PASSWORD).unwrap()));
    for field in ["/kdf/salt", "/cipher/nonce", "/ciphertext"] {
        assert_ne!(a.pointer(field).unwrap(), b.pointer(field).unwrap(), "{field}");
    }
}

#[test]
fn the_pem_is_as_go_writes_it() {
    let sealed = seal(DER, PASSWORD).unwrap();
    let text = str::from_utf8(&sealed).unwrap();
    assert!(text.starts_with("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n"));
    assert!(text.ends_with("\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n"));
    let body: Vec<&str> = text.lines().filter(|line| !line.starts_with('-')).collect();
    let (last, full) = body.split_last().unwrap();
    assert!(full.iter().all(|line| line.len() == 64));
    assert!((1..=64).contains(&last.len()));
}

/// RFC 7914 section 12, second vector, whose first 32 bytes are what a
/// shorter key would be.
#[test]
fn scrypts_known_answer() {
    let mut key = [0; 32];
    let params = scrypt::Params::new(10, 8, 16).unwrap();
    scrypt::scrypt(b"password", b"NaCl", &params, &mut key).unwrap();
    assert_eq!(
        key,
        [
            0xfd, 0xba, 0xbe, 0x1c, 0x9d, 0x34, 0x72, 0x00, 0x78, 0x56, 0xe7, 0x19, 0x0d, 0x01,
            0xe9, 0xfe, 0x7c, 0x6a, 0xd7, 0xcb, 0xc8, 0x23, 0x78, 0x30, 0xe7, 0x73, 0x76, 0x63,
            0x4b, 0x37, 0x31, 0x62
        ]
    );
}

#[test]
fn every_cost_that_cosign_reads_is_read() {
    for n in [1_u32 << 15, 1 << 16, 1 << 17] {
        let params = Params { n, r: R, p: P };
        let key = derive(PASSWORD, b"salt", params).unwrap();
        let json = json!({
            "kdf": {"name": "scrypt", "params": params, "salt": Base64::encode_string(b"salt")},
            "cipher": {"name": "nacl/secretbox", "nonce": Base64::encode_string(&[7; 24])},
            "ciphertext": Base64::encode_string(&secretbox::seal(&key, &[7; 24], DER)),
        });
        assert_eq!(*open(&wrap(json.to_string().as_bytes()), PASSWORD).unwrap(), DER, "{n}");
    }
}

#[test]
fn a_changed_salt_nonce_or_ciphertext_is_refused() {
    let sealed = seal(DER, PASSWORD).unwrap();
    for field in ["/kdf/salt", "/cipher/nonce", "/ciphertext"] {
        let tampered = changed(&sealed, |json| {
            let value = json.pointer_mut(field).unwrap();
            let mut bytes = Base64::decode_vec(value.as_str().unwrap()).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            *value = Base64::encode_string(&bytes).into();
        });
        assert_eq!(open(&tampered, PASSWORD).unwrap_err(), KeyError::Password, "{field}");
    }
}

#[test]
fn what_cosign_does_not_write_is_refused() {
    let sealed = seal(DER, PASSWORD).unwrap();
    let tag_alone = Base64::encode_string(&[0; secretbox::TAG]);
    for (field, value) in [
        ("/kdf/name", json!("pbkdf2")),
        ("/kdf/params/N", json!(1 << 14)),
        ("/kdf/params/N", json!((1 << 15) + 1)),
        ("/kdf/params/N", json!(1 << 20)),
        ("/kdf/params/N", json!(-32768)),
        ("/kdf/params/N", json!(1_u64 << 40)),
        ("/kdf/params/r", json!(9)),
        ("/kdf/params/p", json!(2)),
        ("/kdf/salt", json!("no base64")),
        ("/cipher/name", json!("aes")),
        ("/cipher/nonce", json!(Base64::encode_string(&[0; 23]))),
        ("/cipher/nonce", json!("")),
        ("/ciphertext", json!("")),
        ("/ciphertext", json!(tag_alone)),
        ("/ciphertext", json!(null)),
    ] {
        let other = changed(&sealed, |json| {
            *json.pointer_mut(field).unwrap() = value.clone();
        });
        let error = open(&other, PASSWORD).unwrap_err();
        assert!(matches!(error, KeyError::Format(_)), "{field} = {value}: {error}");
    }
}

#[test]
fn other_pems_and_long_ones_are_refused() {
    let sealed = seal(DER, PASSWORD).unwrap();
    let text = str::from_utf8(&sealed).unwrap();
    let long = text.replacen('\n', &"\n".repeat(LONGEST), 1);
    for other in [
        "",
        "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----",
        &text.replace(LABEL, "PRIVATE KEY"),
        &text.replace(&format!("END {LABEL}"), &format!("END {OLD_LABEL}")),
        &long,
    ] {
        assert!(matches!(open(other.as_bytes(), PASSWORD), Err(KeyError::Format(_))));
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(open(&bytes, PASSWORD).is_err());
        prop_assert!(open(&wrap(&bytes), PASSWORD).is_err());
        let body = String::from_utf8_lossy(&bytes);
        let pem = format!("-----BEGIN {LABEL}-----\n{body}\n-----END {LABEL}-----\n");
        prop_assert!(open(pem.as_bytes(), PASSWORD).is_err());
    }

    /// Right in shape, arbitrary in every value. A nonce of 24 bytes would
    /// cost a key derivation each; the next property has those.
    #[test]
    fn arbitrary_values_never_panic(
        (n, r, p) in (any::<i64>(), any::<i64>(), any::<i64>()),
        usual in any::<bool>(),
        salt in ".{0,40}",
        nonce in prop::collection::vec(any::<u8>(), 0..24),
        ciphertext in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let params = if usual { json!({"N": N, "r": R, "p": P}) } else { json!({"N": n, "r": r, "p": p}) };
        let json = json!({
            "kdf": {"name": "scrypt", "params": params, "salt": Base64::encode_string(salt.as_bytes())},
            "cipher": {"name": "nacl/secretbox", "nonce": Base64::encode_string(&nonce)},
            "ciphertext": Base64::encode_string(&ciphertext),
        });
        let error = open(&wrap(json.to_string().as_bytes()), PASSWORD).unwrap_err();
        prop_assert!(matches!(error, KeyError::Format(_)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// One byte changed anywhere: refused, or the same key (a space for a
    /// line's end changes nothing), never a panic and never another key.
    #[test]
    fn a_changed_byte_never_gives_another_key(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut sealed = seal(DER, PASSWORD).unwrap();
        let at = at.index(sealed.len());
        sealed[at] = byte;
        if let Ok(opened) = open(&sealed, PASSWORD) {
            prop_assert_eq!(&*opened, DER);
        }
    }
}
