//! A private key in many spellings, read by us and by cosign: what we take over,
//! cosign signs with, and what cosign reads we take over, but for what is listed.

use signingkeyring_operator::keys::{KeyError, KeyPair};

use super::{Cosign, SIGN, assert_signed_by};

mod variants;

use variants::{Variant, corpus};

/// What cosign reads and we do not, and why that is as well.
const STRICTER: [(&str, &str); 5] = [
    ("base64: bits after the last byte", "nobody writes it; a careful decoder refuses it"),
    ("json: 200 objects deep", "what recurses has a bound"),
    ("json: a lone surrogate in an unknown field", "it is no text"),
    ("json: bytes as an array of numbers", "nobody writes it"),
    ("text: long, before the key", "what is read has a bound"),
];

/// Whether cosign signs with a private key as it stands in a file.
fn cosign_signs(cosign: &Cosign, pem: &[u8], password: &[u8]) -> bool {
    cosign.write("variant.key", pem);
    let output =
        cosign.output(&format!("{SIGN} --key variant.key blob"), &[("COSIGN_PASSWORD", password)]);
    output.status.success()
}

#[test]
fn what_we_take_over_cosign_signs_with_and_what_it_signs_with_we_take_over() {
    let (cosign, pair) = (Cosign::new("corpus"), KeyPair::generate().unwrap());
    let password = &pair.password()[..];
    let (mut read, mut wrong, mut stricter) = (0, Vec::new(), Vec::new());
    let corpus = corpus(&pair);
    for Variant { name, pem } in &corpus {
        let ours = KeyPair::imported(pem.clone(), password.to_vec());
        let theirs = cosign_signs(&cosign, pem, password);
        match (&ours, theirs) {
            (Ok(imported), true) => {
                assert_eq!(imported.fingerprint(), pair.fingerprint(), "{name}");
                // What is published is what cosign writes, whatever was read.
                let is_canonical = imported.encrypted_pem() == pair.encrypted_pem();
                let is_old = name.contains("ENCRYPTED COSIGN");
                if !is_canonical && !is_old {
                    wrong.push(format!("{name}: what is published is written in another way"));
                }
                read += 1;
            }
            (Ok(_), false) => wrong.push(format!("{name}: we read it, cosign does not")),
            (Err(_), true) if STRICTER.iter().any(|(listed, _)| listed == name) => {
                stricter.push(name.as_str());
            }
            (Err(why), true) => wrong.push(format!("{name}: cosign reads it, we do not: {why}")),
            (Err(_), false) => {}
        }
    }
    println!("{} variants, of which both read {read}", corpus.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(read > 60 && corpus.len() - read > 60, "{read} of {}", corpus.len());
    let listed: Vec<&str> = STRICTER.iter().map(|(name, _)| *name).collect();
    stricter.sort_unstable();
    assert_eq!(stricter, listed, "what is listed as read by cosign alone is");
}

#[test]
fn a_key_that_is_taken_over_is_published_as_cosign_writes_it() {
    let (cosign, pair) = (Cosign::new("published"), KeyPair::generate().unwrap());
    let old = str::from_utf8(pair.encrypted_pem()).unwrap().replace("SIGSTORE", "COSIGN");
    let around = format!("text\r\n{}more text", old.replace('\n', " \r\n"));
    let imported = KeyPair::imported(around.into_bytes(), pair.password().to_vec()).unwrap();
    assert_eq!(str::from_utf8(imported.encrypted_pem()).unwrap(), old);
    assert!(cosign_signs(&cosign, imported.encrypted_pem(), imported.password()));
    assert_signed_by(&cosign, &pair);
}

/// Passwords byte for byte, and as variables, which hold no NUL.
#[test]
fn passwords_are_read_as_cosign_reads_them() {
    let cosign = Cosign::new("passwords");
    for password in
        ["", "a", "a\n", "a\r\n", " a ", "\"a\"", "pässwörd", "$HOME", &"x".repeat(20_000)]
    {
        for file in ["cosign.key", "cosign.pub"] {
            let _ = std::fs::remove_file(cosign.folder.join(file));
        }
        let made_with = [("COSIGN_PASSWORD", password.as_bytes())];
        cosign.run("generate-key-pair", &made_with);
        let (sealed, public) = (cosign.read("cosign.key"), cosign.read("cosign.pub"));
        for given in [
            password.to_owned(),
            format!("{password}\n"),
            password.trim().to_owned(),
            format!("{password}x"),
        ] {
            let ours = KeyPair::imported(sealed.clone(), given.as_bytes().to_vec());
            assert_eq!(ours.is_ok(), given == password, "{password:?} {given:?}");
            assert_eq!(cosign_signs(&cosign, &sealed, given.as_bytes()), ours.is_ok(), "{given:?}");
            if let Ok(imported) = ours {
                assert_eq!(imported.public_pem().as_bytes(), public);
                assert_eq!(imported.encrypted_pem(), sealed, "it is as cosign wrote it");
                let key = cosign_signs(&cosign, imported.encrypted_pem(), imported.password());
                assert!(key, "{password:?}");
            }
        }
    }
}

/// Keys of other kinds, made for this and used nowhere.
const OTHER_KINDS: [(&str, &str); 2] = [
    (
        "P-384",
        "MIG2AgEAMBAGByqGSM49AgEGBSuBBAAiBIGeMIGbAgEBBDCAgRyjohcSpf0zDWP1\n\
         fuu8RPFFuGPj0fjAFUvwI65cq00Vhr+bxLt8Cp/67K2gx/KhZANiAAQlmGaP1do4\n\
         Su/3DJ/siDIIhDg/Ug+KME7KSvU5ny0jvleaRpnUX7HQQ5goONVRoDTYlVjq6PJw\n\
         E+Jf/hM+RiK0hqMxnR+fvVL/TXGzAs2MJ9Ms/QqfmkvXvzZnPSgvq4g=",
    ),
    ("Ed25519", "MC4CAQAwBQYDK2VwBCIEIPk3JghxV1dVqI8zg5peStMw0G1CrHK7rhZhY6YqV9J+"),
];

/// What `cosign import-key-pair` makes of them: cosign signs with it, Kyverno's
/// rule would not be what the ring's other rules are.
#[test]
fn keys_of_other_kinds_are_refused() {
    let cosign = Cosign::new("kinds");
    let password = [("COSIGN_PASSWORD", &b"word"[..])];
    for (kind, base64) in OTHER_KINDS {
        let plain = format!("-----BEGIN PRIVATE KEY-----\n{base64}\n-----END PRIVATE KEY-----\n");
        cosign.write("plain.key", plain.as_bytes());
        cosign
            .run(&format!("import-key-pair --key plain.key --output-key-prefix {kind}"), &password);
        let sealed = cosign.read(&format!("{kind}.key"));
        assert!(cosign_signs(&cosign, &sealed, b"word"), "{kind}");
        let ours = KeyPair::imported(sealed, b"word".to_vec()).unwrap_err().to_string();
        assert!(ours.contains("it holds no P-256 key"), "{kind}: {ours}");
    }
}

/// A variable cannot hold it, so nobody could give it to cosign.
#[test]
fn a_password_that_is_no_text_is_refused() {
    let pair = KeyPair::generate().unwrap();
    for password in [&b"a\0b"[..], b"\0", b"\xff"] {
        let ours = KeyPair::imported(pair.encrypted_pem().to_vec(), password.to_vec());
        assert_eq!(ours.unwrap_err(), KeyError::PasswordText);
    }
}
