//! Key pairs, and that nothing printable holds key material.

use std::fmt::{Debug, Display};

use super::*;

#[test]
fn a_pair_opens_with_its_password_and_nothing_else() {
    let pair = KeyPair::generate().unwrap();
    let opened = open(pair.encrypted_pem(), pair.password()).unwrap();
    assert_eq!(opened.public_pem().unwrap(), pair.public_pem());
    assert_eq!(open(pair.encrypted_pem(), b"wrong").unwrap_err(), KeyError::Password);
    let other = KeyPair::generate().unwrap();
    assert_eq!(open(pair.encrypted_pem(), other.password()).unwrap_err(), KeyError::Password);
    assert_ne!(opened.public_pem().unwrap(), other.public_pem(), "that is how a misfit is told");
}

#[test]
fn the_password_is_printable_and_long_enough() {
    let password = Password::random().unwrap();
    assert!(password.iter().all(u8::is_ascii_graphic), "and so holds no newline");
    let bits = Base64::decode_vec(str::from_utf8(&password).unwrap()).unwrap().len() * 8;
    assert_eq!(bits, 256);
}

/// The private key is new each time, too: its public key is.
#[test]
fn two_pairs_share_nothing() {
    let (a, b) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    assert_ne!(a.encrypted_pem(), b.encrypted_pem());
    assert_ne!(a.password()[..], b.password()[..]);
    assert_ne!(a.public_pem(), b.public_pem());
    assert_ne!(a.fingerprint(), b.fingerprint());
}

/// A public key that cosign wrote, and what its bundle's hint was.
#[test]
fn a_fingerprint_is_cosigns_hint() {
    let public = "-----BEGIN PUBLIC KEY-----\n\
        MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEcVFEGisIrIYYaxRLFXNT/zHXUHOy\n\
        FJ01LP0qQD0XhcxZzx/17QPYrxBy32ix3l7v5XVuA1Q6xwQFE2j8FJLFNw==\n\
        -----END PUBLIC KEY-----\n";
    assert_eq!(
        fingerprint_of(public).unwrap().as_str(),
        "SHA256:BYh0eCgYMsaOkEtKpx85ujYSqEIiA/S6h59z/o2RZjs="
    );
}

#[test]
fn fingerprints_only_p256_keys() {
    // An Ed25519 key: RFC 8410 section 10.1.
    let ed25519 = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
        -----END PUBLIC KEY-----\n";
    let damaged = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
    for other in ["", damaged, ed25519] {
        assert_eq!(fingerprint_of(other), Err(KeyError::PublicKey));
    }
}

#[test]
fn a_sealed_key_of_another_kind_is_refused() {
    let sealed = cosign_pem::seal(b"no PKCS#8", b"password").unwrap();
    assert!(matches!(open(&sealed, b"password"), Err(KeyError::Format(_))));
}

/// Every way in which `bytes` might end up in a text without white space: as
/// they are, in base64, in hexadecimal, and as the numbers that `Debug` makes of
/// a slice. Of their beginning only: a text that holds all of it holds that.
fn spellings(bytes: &[u8]) -> [String; 4] {
    let head = &bytes[..12];
    let numbers = without_spaces(&format!("{head:?}"));
    [
        without_spaces(&String::from_utf8_lossy(head)),
        Base64::encode_string(head),
        hex(head),
        numbers.trim_matches(['[', ']']).to_owned(),
    ]
}

/// A text without white space: `{:#?}` breaks and indents what `{:?}` does not.
fn without_spaces(text: &str) -> String {
    text.split_whitespace().collect()
}

#[test]
fn nothing_printable_holds_key_material() {
    let pair = KeyPair::generate().unwrap();
    let opened = open(pair.encrypted_pem(), pair.password()).unwrap();
    let published = KeyPair::stored(
        pair.encrypted_pem().to_vec(),
        pair.password().to_vec(),
        pair.public_pem().to_owned(),
        pair.fingerprint().clone(),
    );
    let values: [&dyn Debug; 4] = [&pair, pair.password(), &opened, &published];
    let mut printed: String = values.map(|value| format!("{value:?} {value:#?}\n")).concat();
    for error in [
        open(pair.encrypted_pem(), b"wrong").unwrap_err(),
        open(&pair.encrypted_pem()[..200], pair.password()).unwrap_err(),
        open(pair.password(), pair.password()).unwrap_err(),
        fingerprint_of(str::from_utf8(pair.encrypted_pem()).unwrap()).unwrap_err(),
    ] {
        printed.push_str(&format!("{error} {error:?} {error:#?}\n"));
    }

    let printed = without_spaces(&printed);
    let scalar = opened.0.to_bytes();
    let pkcs8 = opened.0.to_pkcs8_der().unwrap();
    let body = pair.encrypted_pem().split(|&byte| byte == b'\n').nth(1).unwrap();
    // The key's own part of the PKCS#8: its head is the same for every key.
    let inner = pkcs8.as_bytes().windows(scalar.len()).position(|w| w == &scalar[..]).unwrap();
    for secret in [pair.encrypted_pem(), body, pair.password(), &scalar, &pkcs8.as_bytes()[inner..]]
    {
        for spelling in spellings(secret) {
            assert!(!printed.contains(&spelling), "{printed}");
        }
    }
    assert!(printed.contains(pair.fingerprint().as_str()), "the fingerprint is what may be shown");
}

/// Its x coordinate is a hash, so whoever chose it cannot know its scalar.
#[test]
fn nobody_knows_the_private_half_of_nobodys_key() {
    let mut hashes = (0..).map(|counter: u32| {
        Sha256::digest(format!("no key of this ring is accepted {counter}").as_bytes())
    });
    // A compressed point of SEC 1, section 2.3.4: 02 announces an even y.
    let point = hashes.find_map(|x| PublicKey::from_sec1_bytes(&[&[2][..], &x].concat()).ok());
    let pem = point.unwrap().to_public_key_pem(LineEnding::LF).unwrap();
    assert_eq!(pem, signingkeyring_core::policy::NOBODYS_KEY);
}

/// A type that can be shown or copied has two ways to be `Sealed`, so naming
/// neither is ambiguous and this file does not compile.
#[test]
fn key_material_cannot_be_displayed_or_copied() {
    trait Sealed<Way> {
        fn is() {}
    }
    struct Displayed;
    struct Copied;
    impl<T> Sealed<()> for T {}
    impl<T: Display> Sealed<Displayed> for T {}
    impl<T: Clone> Sealed<Copied> for T {}

    <KeyPair as Sealed<_>>::is();
    <Password as Sealed<_>>::is();
    <PrivateKey as Sealed<_>>::is();
}
