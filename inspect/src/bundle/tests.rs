//! Bundles as cosign 3.1.3 wrote them, and as nobody should.

use proptest::prelude::*;
use signingkeyring_core::ledger::State;

use super::*;
use crate::key::Key;

const IMAGE: &str = "sha256:2a25906fb263aedf21ade1c783372d8f7f57de1628110c7c589b4b9030812dce";
const BUNDLE: &str = include_str!("../../tests/data/bundle.json");
const ATTESTATION: &str = include_str!("../../tests/data/attestation.json");

fn read(text: &str) -> Option<Bundle> {
    parse(text.as_bytes(), IMAGE)
}

fn signed_by(bundle: &Bundle, key: &str) -> bool {
    let key = Key::new("shop", 1, State::Current, key).unwrap();
    match &bundle.content {
        Content::Statement { signed, signature, .. } => key.signed(signed, signature),
        Content::Other => false,
    }
}

#[test]
fn what_cosign_writes() {
    for (text, is_signature) in [(BUNDLE, true), (ATTESTATION, false)] {
        let bundle = read(text).unwrap();
        assert!(signed_by(&bundle, include_str!("../../tests/data/key.pub")));
        assert!(!signed_by(&bundle, include_str!("../../tests/data/other.pub")));
        assert_eq!(bundle.content.is_signature(), is_signature);
        assert!(matches!(bundle.content, Content::Statement { names_image: true, .. }));
        let hint = "hrHdiawggGk5kL5CiG8/Ajjb3OaoFzMc3En/nzUqnN0=";
        assert_eq!(bundle.hint.as_deref(), Some(hint));
        let elsewhere = parse(text.as_bytes(), &IMAGE.replace('2', "3")).unwrap();
        assert!(matches!(elsewhere.content, Content::Statement { names_image: false, .. }));
    }
}

#[test]
fn what_is_no_bundle() {
    for (from, to) in [
        ("v0.3+json", "v0.2+json"),
        ("v0.3+json", "v0.4+json"),
        ("v0.3+json", "v0.30+json"),
        ("v0.3+json", "v0.3"),
        ("application/vnd.dev.sigstore.bundle", "application/vnd.example"),
        ("\"mediaType\"", "\"mediaTypes\""),
        ("\"publicKey\"", "\"unknown\""),
        ("\"dsseEnvelope\"", "\"messageSignature\":{},\"dsseEnvelope\""),
        ("\"verificationMaterial\":{", "\"verificationMaterial\":{\"certificate\":{},"),
        ("\"verificationMaterial\":{", "\"verificationMaterial\":{\"tlogEntries\":[{}],"),
        ("{\"mediaType\"", "[{\"mediaType\""),
    ] {
        let changed = BUNDLE.replacen(from, to, 1);
        assert_ne!(changed, BUNDLE, "{from}");
        assert_eq!(read(&changed), None, "{to}");
    }
}

/// They are there, and so Kyverno looks at bundles alone.
#[test]
fn what_is_a_bundle_that_no_key_fits() {
    for (from, to) in [
        (
            "\"publicKey\":{\"hint\":\"hrHdiawggGk5kL5CiG8/Ajjb3OaoFzMc3En/nzUqnN0=\"}",
            "\"certificate\":{}",
        ),
        ("vnd.in-toto+json", "vnd.example+json"),
        ("\"payload\":\"", "\"payload\":\"!"),
        ("\"signatures\":[", "\"signatures\":[{\"sig\":\"\"},"),
        ("\"dsseEnvelope\"", "\"messageSignature\""),
    ] {
        let changed = BUNDLE.replacen(from, to, 1);
        assert_ne!(changed, BUNDLE, "{from}");
        assert_eq!(read(&changed).map(|bundle| bundle.content), Some(Content::Other), "{to}");
    }
    let patched = read(&BUNDLE.replacen("v0.3+json", "v0.3.1+json", 1)).unwrap();
    assert!(patched.content.is_signature());
}

/// A key signs all of a statement.
#[test]
fn a_statement_that_was_changed_is_nobodys() {
    let changed = BUNDLE.replacen("e319\",", "e30gfQ==\",", 1);
    assert_ne!(changed, BUNDLE);
    let bundle = read(&changed).unwrap();
    assert!(bundle.content.is_signature());
    assert!(!signed_by(&bundle, include_str!("../../tests/data/key.pub")));
}

proptest! {
    #[test]
    fn nothing_panics(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        length in any::<prop::sample::Index>(),
    ) {
        let mut text = BUNDLE.as_bytes().to_vec();
        let place = at.index(text.len());
        text[place] = byte;
        text.truncate(length.index(text.len()) + 1);
        let _ = parse(&text, IMAGE);
    }
}
