//! What becomes of an image, by what was found of it: the rules of docs/policy-kinds.md.

use base64ct::{Base64, Encoding as _};
use signingkeyring_core::images::Image;

use super::*;
use crate::{bundle, digest, inspection::Part};

const IMAGE: &str = "sha256:2a25906fb263aedf21ade1c783372d8f7f57de1628110c7c589b4b9030812dce";
const BUNDLE: &str = include_str!("../../tests/data/bundle.json");
const ATTESTATION: &str = include_str!("../../tests/data/attestation.json");
const PAYLOAD: &str = include_str!("../../tests/data/payload.json");

/// What is where one looks.
#[derive(Clone, Copy, PartialEq)]
enum Thing {
    Sig,
    SigOfOther,
    ForeignSig,
    Bundled,
    BundleOfOther,
    ForeignBundle,
    Attestation,
    /// A registry that fails while it is asked for the one or the other.
    NoSig,
    NoBundles,
    /// An index for other machines.
    Elsewhere,
}
use Thing::*;

fn signature(names_image: bool) -> Signature {
    let manifest: serde_json::Value =
        serde_json::from_str(include_str!("../../tests/data/sig.json")).unwrap();
    let text = &manifest["layers"][0]["annotations"]["dev.cosignproject.cosign/signature"];
    let signature = Base64::decode_vec(text.as_str().unwrap()).unwrap();
    Signature { names_image, payload: digest::of(PAYLOAD.as_bytes()), signature }
}

fn read_bundle(text: &str, of: &str) -> Bundle {
    bundle::parse(text.as_bytes(), of).unwrap()
}

fn inspection(things: &[Thing]) -> Inspection {
    let why = Unreadable::Unreachable { registry: "quay.io".to_owned(), why: String::new() };
    let mut found = Inspection {
        image: Image::parse(&format!("quay.io/a/b@{IMAGE}")).unwrap(),
        digest: Ok(IMAGE.to_owned()),
        has_platform: Ok(true),
        signatures: Part::default(),
        bundles: Part::default(),
    };
    for thing in things {
        match thing {
            Sig => found.signatures.found.push(signature(true)),
            SigOfOther => found.signatures.found.push(signature(false)),
            ForeignSig => {
                found.signatures.found.push(Signature { payload: [0; 32], ..signature(true) });
            }
            Bundled => found.bundles.found.push(read_bundle(BUNDLE, IMAGE)),
            BundleOfOther => {
                found.bundles.found.push(read_bundle(BUNDLE, &IMAGE.replace('2', "3")));
            }
            ForeignBundle => {
                let changed = BUNDLE.replacen("e319\",", "e30gfQ==\",", 1);
                found.bundles.found.push(read_bundle(&changed, IMAGE));
            }
            Attestation => found.bundles.found.push(read_bundle(ATTESTATION, IMAGE)),
            NoSig => found.signatures.unread = Some(why.clone()),
            NoBundles => found.bundles.unread = Some(why.clone()),
            Elsewhere => found.has_platform = Ok(false),
        }
    }
    found
}

fn key(ring: &str, state: State) -> Key {
    Key::new(ring, 7, state, include_str!("../../tests/data/key.pub")).unwrap()
}

/// The verdicts of both kinds, in a word.
fn verdicts(things: &[Thing], key: &Key) -> [String; 2] {
    PolicyKind::ALL.map(|kind| {
        let keys = [key.clone()];
        match inspection(things).judge(kind, "shop", &keys).outcome {
            Outcome::Admitted => "admitted".to_owned(),
            Outcome::Refused(why) => format!("{why:?}"),
            Outcome::Unknown(_) => "unknown".to_owned(),
        }
    })
}

#[test]
fn verdicts_of_an_accepted_key() {
    let current = key("shop", State::Current);
    let rows: [(&[Thing], &str, &str); 25] = [
        (&[], "Unsigned", "Unsigned"),
        (&[Sig], "admitted", "admitted"),
        (&[Bundled], "OtherFormat", "admitted"),
        (&[Sig, Bundled], "admitted", "admitted"),
        (&[ForeignSig], "UnknownKey", "UnknownKey"),
        (&[ForeignBundle], "Unsigned", "UnknownKey"),
        (&[ForeignSig, Sig], "admitted", "admitted"),
        (&[ForeignBundle, Bundled], "OtherFormat", "admitted"),
        (&[Sig, ForeignBundle], "admitted", "BundleBeside"),
        (&[Sig, Attestation], "admitted", "BundleBeside"),
        (&[Sig, BundleOfOther], "admitted", "BundleBeside"),
        (&[ForeignSig, Bundled], "OtherFormat", "admitted"),
        (&[Attestation], "OnlyAttested", "OnlyAttested"),
        (&[Attestation, Bundled], "OtherFormat", "admitted"),
        (&[SigOfOther], "OtherImage", "OtherImage"),
        (&[BundleOfOther], "OtherImage", "OtherImage"),
        (&[NoSig], "unknown", "unknown"),
        (&[NoSig, Bundled], "unknown", "admitted"),
        (&[NoSig, ForeignBundle], "unknown", "UnknownKey"),
        (&[NoSig, Sig], "admitted", "admitted"),
        (&[NoBundles], "Unsigned", "unknown"),
        (&[NoBundles, Sig], "admitted", "unknown"),
        (&[NoBundles, Bundled], "OtherFormat", "admitted"),
        (&[Elsewhere, Sig], "admitted", "NoPlatform"),
        (&[Elsewhere, Bundled], "OtherFormat", "NoPlatform"),
    ];
    for (things, of_one, of_other) in rows {
        let case = things.iter().map(|thing| *thing as u8).collect::<Vec<_>>();
        assert_eq!(verdicts(things, &current), [of_one, of_other], "{case:?}");
    }
}

#[test]
fn what_a_key_is_good_for_decides() {
    for state in [State::Pending, State::Standby, State::Current, State::Accepted] {
        assert_eq!(verdicts(&[Sig], &key("shop", state)), ["admitted"; 2]);
    }
    for state in [State::Retired, State::Revoked] {
        assert_eq!(verdicts(&[Sig], &key("shop", state)), ["NotAccepted"; 2]);
        assert_eq!(verdicts(&[Attestation], &key("shop", state)), ["Unsigned", "Unsigned"]);
    }
    let other = key("pay", State::Current);
    assert_eq!(verdicts(&[Bundled], &other), ["NotAccepted"; 2]);
    let seen = inspection(&[Sig, Bundled, Sig]).judge(PolicyKind::ClusterPolicy, "shop", &[other]);
    let signer =
        |format| Signer { ring: "pay".to_owned(), version: 7, state: State::Current, format };
    assert_eq!(seen.signers, [signer(Format::Tag), signer(Format::Bundle)]);
}

#[test]
fn an_image_of_which_nothing_is_known_is_neither_signed_nor_unsigned() {
    let why = Unreadable::Unreachable { registry: "quay.io".to_owned(), why: String::new() };
    for image in ["quay.io/a/b:v1", &format!("quay.io/a/b@{IMAGE}")] {
        let nothing = Inspection::unreadable(Image::parse(image).unwrap(), &why);
        for kind in PolicyKind::ALL {
            let verdict = nothing.judge(kind, "shop", &[key("shop", State::Current)]);
            assert_eq!(verdict.outcome, Outcome::Unknown(why.clone()), "{image}");
        }
    }
}
